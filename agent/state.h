/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's state file: which cgroups are labelled how, and which label ids were given out.
 * Written whole and renamed, so a reader sees the old or the new one.
 */
#pragma once

#include "agent/agent.h"

/* A label id that was never given out; the file promises so before the id is used. 0: the disk
 * refused. */
uint32_t state_next_label_id(struct agent *a);
/* Now, or soon and together with what else changes. */
int state_save(struct agent *a);
void state_save_soon(struct agent *a);

typedef void (*state_sandbox_fn)(struct agent *a, const struct msg_sandbox *info);
/*
 * Calls fn for each sandbox of the file, if it was written since this boot (cgroup ids begin anew
 * with each). A missing or damaged file is an empty one.
 */
void state_load(struct agent *a, state_sandbox_fn fn);
