/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every hook asks of the maps, and what it tells: counts and events. Only gate.bpf.c includes this. */
#pragma once

#include "bpf/gate_decide.h"
#include "bpf/gate_maps.h"

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&sp_reasons, &reason);

	if (n)
		(*n)++;
}

static __always_inline void budget_add(__u64 cgroup_id, __s64 n)
{
	struct gate_budget *b = bpf_map_lookup_elem(&sp_budget, &cgroup_id);

	if (b)
		__sync_fetch_and_add(&b->inflight, n);
}

/* ---------------------------------------------------------------- what all hooks ask */

static __always_inline const struct gate_config *config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&sp_config, &zero);
}

static __always_inline __u32 mode_of(const struct gate_label *label, const struct gate_config *cfg)
{
	return cfg->force_off ? FORCE_OFF : label->mode;
}

static __always_inline __u32 class_of_pool(const struct gate_dest *dest, __u32 *ret_name)
{
	struct gate_vip_key key;
	struct gate_name *name;

	gate_key_addr(dest, key.addr);
	name = bpf_map_lookup_elem(&sp_vip, &key);
	if (!name)
		return GATE_CLASS_VIP_UNUSED;
	*ret_name = name->name_id;
	return GATE_CLASS_VIP;
}

static __always_inline __u32 class_of_suspect(const struct gate_dest *dest, __u32 *ret_name)
{
	struct gate_suspect_key key = { .bits = 128 };
	struct gate_name *name;

	gate_key_addr(dest, key.addr);
	name = bpf_map_lookup_elem(&sp_suspect, &key);
	if (!name)
		return GATE_CLASS_OTHER;
	*ret_name = name->name_id;
	return GATE_CLASS_SUSPECT;
}

/* `dest` is reduced. Addresses are looked up only where something may follow from it. */
static __always_inline __u32 class_of(const struct gate_dest *dest, const struct gate_config *cfg, int look,
				      __u32 *ret_name)
{
	if (gate_is_local(dest))
		return GATE_CLASS_LOCAL;
	if (gate_in_pool(dest, cfg))
		return class_of_pool(dest, ret_name);
	return look ? class_of_suspect(dest, ret_name) : GATE_CLASS_OTHER;
}

/* ---------------------------------------------------------------- events */

/* A sandbox that makes many tells only the first ones of each second. */
static __always_inline int event_allowed(__u64 cgroup_id, __u64 now)
{
	struct gate_budget *b = bpf_map_lookup_elem(&sp_budget, &cgroup_id);
	__u64 second = now / 1000000000;

	if (!b)
		return 1;
	if (b->event_second != second) {
		b->event_second = second;
		b->event_n = 0;
	}
	return ++b->event_n <= GATE_EVENTS_A_SECOND;
}

static __always_inline struct gate_event *event_begin(const struct gate_label *label, __u32 reason, __u32 mode)
{
	__u64 now = bpf_ktime_get_ns();
	struct gate_event *e;

	if (!event_allowed(label->cgroup_id, now)) {
		count(GATE_EVENT_LIMITED);
		return NULL;
	}
	e = bpf_ringbuf_reserve(&sp_events, sizeof(*e), 0);
	if (!e) {
		count(GATE_EVENT_LOST);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = now;
	e->cgroup_id = label->cgroup_id;
	e->label_id = label->label_id;
	e->reason = reason;
	e->mode = mode;
	return e;
}

static __always_inline void event_caller(struct gate_event *e)
{
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->uid = (__u32)bpf_get_current_uid_gid();
	bpf_get_current_comm(e->comm, sizeof(e->comm));
}

static __always_inline void event_connect(struct bpf_sock_addr *ctx, const struct gate_label *label,
					  const struct gate_dest *dest, __u32 reason, __u32 mode, __u32 name_id)
{
	struct gate_event *e = event_begin(label, reason, mode);

	if (!e)
		return;
	e->netns_cookie = bpf_get_netns_cookie(ctx);
	event_caller(e);
	gate_key_addr(dest, e->addr);
	e->port = dest->port;
	e->protocol = ctx->protocol;
	e->name_id = name_id;
	bpf_ringbuf_submit(e, 0);
}
