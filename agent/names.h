/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Providers' host names and their virtual addresses. A name keeps its number, and with it its addresses, for as long
 * as the state directory lives, and no number is given out twice: what a client remembers never leads elsewhere.
 */
#pragma once

#include "agent/agent.h"

/* Reads STATE_DIR/names. 0 or negative errno; without it names have no virtual addresses. */
int names_init(struct agent *a);
void names_fini(struct agent *a);
/* The domains of the policy in force: new ones get a number, others come to rest. Tells kernel and roles. */
void names_apply_policy(struct agent *a);
/*
 * The DNS role met a name that only a pattern may cover; the sandbox of this cgroup asks. Answers with MSG_NAME: to
 * everyone if the name has addresses now, to the role that it has none otherwise.
 */
void names_wanted(struct agent *a, uint64_t cgroup_id, const char *name);
/* Everything, to a role that has just started. `to_dns`: the patterns too. */
int names_send(struct agent *a, int channel, bool to_dns);
/* NULL: there is no such number. */
const char *names_get(const struct agent *a, uint32_t name_id);
unsigned names_active(const struct agent *a);
