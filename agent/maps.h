/* SPDX-License-Identifier: Apache-2.0 */
/* Typed access to the maps of the kernel side: one function for each thing the agent does with
 * them. */
#pragma once

#include "agent/load.h"

/* Replaces the label of an attached sandbox at once, whole. */
int maps_label_write(struct load *l, const struct gate_label *label);
int maps_label_read(struct load *l, uint64_t cgroup_id, struct gate_label *ret);

int maps_door_add(struct load *l, uint64_t netns_cookie, uint16_t port, uint64_t door_id);
void maps_door_remove(struct load *l, uint64_t netns_cookie, uint16_t port);
/* At start: the listeners of the old process are gone. */
void maps_doors_clear(struct load *l);

/* Sums over the CPUs. */
void maps_reasons(struct load *l, uint64_t ret[GATE_REASON_MAX]);
const char *gate_reason_name(enum gate_reason reason);
/* Entries of the hand-off, or negative errno. */
int maps_handoff_count(struct load *l);
/* Removes entries older than that; what is left behind by a sandbox whose programs were taken off.
 */
unsigned maps_handoff_sweep(struct load *l, uint64_t now_ns, uint64_t max_age_ns);
/* Connects of a sandbox that are under way, or negative errno. */
int64_t maps_inflight(struct load *l, uint64_t cgroup_id);
