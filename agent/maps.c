/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/maps.h"

#include <assert.h>
#include <errno.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

static const char *const reason_names[] = {
	[GATE_PASS] = "pass",
	[GATE_STAMPED] = "stamped",
	[GATE_STAMP_KEPT] = "stamp_kept",
	[GATE_DENY_NO_LABEL] = "deny_no_label",
	[GATE_DENY_NO_BUDGET] = "deny_no_budget",
	[GATE_DENY_INFLIGHT] = "deny_inflight",
	[GATE_DENY_STORAGE] = "deny_storage",
	[GATE_HANDED] = "handed",
	[GATE_HANDOFF_FULL] = "handoff_full",
	[GATE_HANDOFF_REPLACED] = "handoff_replaced",
	[GATE_TAKEN_BACK] = "taken_back",
	[GATE_ARRIVED] = "arrived",
	[GATE_ARRIVED_BARE] = "arrived_bare",
	[GATE_ARRIVED_STORAGE] = "arrived_storage",
	[GATE_PEER_AGREES] = "peer_agrees",
	[GATE_PEER_DIFFERS] = "peer_differs",
	[GATE_SOCKET_SEEN] = "socket_seen",
	[GATE_LED_VIP] = "led_vip",
	[GATE_LED_SUSPECT] = "led_suspect",
	[GATE_LED_STRICT] = "led_strict",
	[GATE_LED_DNS] = "led_dns",
	[GATE_LED_KEPT] = "led_kept",
	[GATE_OBSERVED] = "observed",
	[GATE_DENY_NO_DOOR] = "deny_no_door",
	[GATE_DENY_VIP] = "deny_vip",
	[GATE_DENY_DOT] = "deny_dot",
	[GATE_DENY_SOCKET] = "deny_socket",
	[GATE_DROP_VIP] = "drop_vip",
	[GATE_DROP_PROVIDER] = "drop_provider",
	[GATE_DROP_STRICT] = "drop_strict",
	[GATE_GUARD_DENIED] = "guard_denied",
	[GATE_GUARD_DROPPED] = "guard_dropped",
	[GATE_EVENT_LOST] = "event_lost",
	[GATE_EVENT_LIMITED] = "event_limited",
};
static_assert(ARRAY_SIZE(reason_names) == GATE_REASON_MAX, "a reason lacks its name");

const char *gate_reason_name(enum gate_reason reason)
{
	return (unsigned)reason < GATE_REASON_MAX ? reason_names[reason] : "?";
}

int maps_label_write(struct load *l, const struct gate_label *label)
{
	return bpf_map_update_elem(l->label_fd, &label->cgroup_id, label, BPF_EXIST) < 0 ? -errno
											 : 0;
}

int maps_label_read(struct load *l, uint64_t cgroup_id, struct gate_label *ret)
{
	return bpf_map_lookup_elem(l->label_fd, &cgroup_id, ret) < 0 ? -errno : 0;
}

int maps_door_add(struct load *l, uint64_t netns_cookie, uint16_t port, uint64_t door_id)
{
	struct gate_door_key key = { netns_cookie, port, 0 };
	struct gate_door door = { door_id };

	return bpf_map_update_elem(l->doors_fd, &key, &door, BPF_ANY) < 0 ? -errno : 0;
}

void maps_door_remove(struct load *l, uint64_t netns_cookie, uint16_t port)
{
	struct gate_door_key key = { netns_cookie, port, 0 };

	bpf_map_delete_elem(l->doors_fd, &key);
}

void maps_doors_clear(struct load *l)
{
	struct gate_door_key key;

	while (bpf_map_get_next_key(l->doors_fd, NULL, &key) == 0)
		if (bpf_map_delete_elem(l->doors_fd, &key) < 0)
			break;
}

void maps_reasons(struct load *l, uint64_t ret[GATE_REASON_MAX])
{
	int cpus = libbpf_num_possible_cpus();
	auto_free uint64_t *values = cpus > 0 ? calloc((size_t)cpus, sizeof(*values)) : NULL;

	for (uint32_t i = 0; i < GATE_REASON_MAX; i++) {
		ret[i] = 0;
		if (!values || bpf_map_lookup_elem(l->reasons_fd, &i, values) < 0)
			continue;
		for (int cpu = 0; cpu < cpus; cpu++)
			ret[i] += values[cpu];
	}
}

int maps_handoff_count(struct load *l)
{
	struct gate_tuple key, *prev = NULL;
	int n = 0;

	for (; bpf_map_get_next_key(l->handoff_fd, prev, &key) == 0 && n < 2 * GATE_HANDOFF_MAX;
	     n++)
		prev = &key;
	return n;
}

/* Off by one when a connect of the same sandbox is under way: the number is signed and only a
 * bound. */
static void budget_less(struct load *l, uint64_t cgroup_id)
{
	struct gate_budget budget;

	if (bpf_map_lookup_elem(l->budget_fd, &cgroup_id, &budget) < 0)
		return;
	budget.inflight--;
	bpf_map_update_elem(l->budget_fd, &cgroup_id, &budget, BPF_EXIST);
}

unsigned maps_handoff_sweep(struct load *l, uint64_t now_ns, uint64_t max_age_ns)
{
	struct gate_tuple key, next, *prev = NULL;
	unsigned removed = 0;
	int more;

	for (unsigned i = 0; i < 2 * GATE_HANDOFF_MAX; i++) {
		struct stamp stamp;

		more = bpf_map_get_next_key(l->handoff_fd, prev, &next) == 0;
		if (prev && bpf_map_lookup_elem(l->handoff_fd, &key, &stamp) == 0 &&
		    stamp.time_ns + max_age_ns < now_ns &&
		    bpf_map_delete_elem(l->handoff_fd, &key) == 0) {
			budget_less(l, stamp.cgroup_id);
			removed++;
		}
		if (!more)
			break;
		key = next;
		prev = &key;
	}
	return removed;
}

int64_t maps_inflight(struct load *l, uint64_t cgroup_id)
{
	struct gate_budget budget;

	return bpf_map_lookup_elem(l->budget_fd, &cgroup_id, &budget) < 0 ? -errno
									  : budget.inflight;
}

/* ---------------------------------------------------------------- the forced path */

int maps_config_write(struct load *l, const struct gate_config *config)
{
	uint32_t zero = 0;

	return bpf_map_update_elem(l->config_fd, &zero, config, BPF_ANY) < 0 ? -errno : 0;
}

int maps_config_read(struct load *l, struct gate_config *ret)
{
	uint32_t zero = 0;

	return bpf_map_lookup_elem(l->config_fd, &zero, ret) < 0 ? -errno : 0;
}

int maps_netns_set(struct load *l, uint64_t cookie, const struct gate_netns *ns)
{
	return bpf_map_update_elem(l->netns_fd, &cookie, ns, BPF_ANY) < 0 ? -errno : 0;
}

void maps_netns_remove(struct load *l, uint64_t cookie)
{
	bpf_map_delete_elem(l->netns_fd, &cookie);
}

void maps_netns_clear(struct load *l)
{
	uint64_t cookie;

	while (bpf_map_get_next_key(l->netns_fd, NULL, &cookie) == 0)
		if (bpf_map_delete_elem(l->netns_fd, &cookie) < 0)
			break;
}

int maps_vip_set(struct load *l, const struct gate_vip_key *key, uint32_t name_id)
{
	struct gate_name name = { .name_id = name_id };

	return bpf_map_update_elem(l->vip_fd, key, &name, BPF_ANY) < 0 ? -errno : 0;
}

void maps_vip_remove(struct load *l, const struct gate_vip_key *key)
{
	bpf_map_delete_elem(l->vip_fd, key);
}

void maps_vips_clear(struct load *l)
{
	struct gate_vip_key key;

	while (bpf_map_get_next_key(l->vip_fd, NULL, &key) == 0)
		if (bpf_map_delete_elem(l->vip_fd, &key) < 0)
			break;
}

int maps_suspect_set(struct load *l, const struct gate_suspect_key *key, uint32_t name_id)
{
	struct gate_name name = { .name_id = name_id };

	return bpf_map_update_elem(l->suspect_fd, key, &name, BPF_ANY) < 0 ? -errno : 0;
}

void maps_suspect_remove(struct load *l, const struct gate_suspect_key *key)
{
	bpf_map_delete_elem(l->suspect_fd, key);
}

void maps_suspect_each(struct load *l, maps_suspect_fn fn, void *arg)
{
	struct gate_suspect_key key, next, *prev = NULL;

	for (unsigned i = 0; i < GATE_SUSPECT_MAX && bpf_map_get_next_key(l->suspect_fd, prev, &next) == 0; i++) {
		struct gate_name name;

		key = next;
		prev = &key;
		if (bpf_map_lookup_elem(l->suspect_fd, &key, &name) == 0)
			fn(arg, &key, name.name_id);
	}
}

/* ---------------------------------------------------------------- events */

struct maps_events {
	struct ring_buffer *ring;
	maps_event_fn fn;
	void *arg;
};

static int on_event(void *arg, void *data, size_t size)
{
	struct maps_events *e = arg;

	if (size >= sizeof(struct gate_event))
		e->fn(e->arg, data);
	return 0;
}

int maps_events_open(struct load *l, maps_event_fn fn, void *arg, struct maps_events **ret)
{
	struct maps_events *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->fn = fn;
	e->arg = arg;
	e->ring = ring_buffer__new(l->events_fd, on_event, e, NULL);
	if (!e->ring) {
		free(e);
		return -errno;
	}
	*ret = e;
	return 0;
}

int maps_events_fd(const struct maps_events *e)
{
	return ring_buffer__epoll_fd(e->ring);
}

void maps_events_read(struct maps_events *e)
{
	ring_buffer__consume(e->ring);
}

void maps_events_close(struct maps_events *e)
{
	if (e)
		ring_buffer__free(e->ring);
	free(e);
}
