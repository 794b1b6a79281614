/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parents whose children are sandboxes by themselves (cgroup.watch), the rules that label them, and
 * what the container engine knows of them.
 */
#pragma once

#include "agent/agent.h"

struct sandbox;

/* Begins to watch the configured parents; children that are there already become sandboxes. */
int watch_init(struct agent *a);
void watch_fini(struct agent *a);
/* After a change of the policy: guards have the mode of identities without a tag. */
void watch_guard_modes(struct agent *a);
/* Looks at every watched parent again: for what inotify did not tell. */
void watch_scan(struct agent *a);
/* Asks the policy's rules again, unless an operator gave the label. */
void watch_apply_rules(struct sandbox *sb);
/* An operator took the label off: true if the cgroup stays a sandbox, by a rule or without a tag.
 */
bool watch_fall_back(struct sandbox *sb);
