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

/* ---------------------------------------------------------------- the forced path */

int maps_config_write(struct load *l, const struct gate_config *config);
int maps_config_read(struct load *l, struct gate_config *ret);

/* Where connections of a network namespace are led to; written before the first can arrive. */
int maps_netns_set(struct load *l, uint64_t cookie, const struct gate_netns *ns);
void maps_netns_remove(struct load *l, uint64_t cookie);
void maps_netns_clear(struct load *l);

int maps_vip_set(struct load *l, const struct gate_vip_key *key, uint32_t name_id);
void maps_vip_remove(struct load *l, const struct gate_vip_key *key);
void maps_vips_clear(struct load *l);

int maps_suspect_set(struct load *l, const struct gate_suspect_key *key, uint32_t name_id);
void maps_suspect_remove(struct load *l, const struct gate_suspect_key *key);
/* Those of the former daemon too. fn may not change the map. */
typedef void (*maps_suspect_fn)(void *arg, const struct gate_suspect_key *key, uint32_t name_id);
void maps_suspect_each(struct load *l, maps_suspect_fn fn, void *arg);

/* What the programs tell. maps_events_fd() is readable when there is something; maps_events_read() calls fn for each. */
struct maps_events;
typedef void (*maps_event_fn)(void *arg, const struct gate_event *event);
int maps_events_open(struct load *l, maps_event_fn fn, void *arg, struct maps_events **ret);
int maps_events_fd(const struct maps_events *e);
void maps_events_read(struct maps_events *e);
/* Accepts NULL. */
void maps_events_close(struct maps_events *e);
