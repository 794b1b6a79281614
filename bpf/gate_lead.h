/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connections of a sandbox: facts, decision, stamp, the changed destination, and the address that the client sees.
 * Only gate.bpf.c includes this.
 */
#pragma once

#include <bpf/bpf_endian.h>

#include "bpf/gate_ask.h"

/* ---------------------------------------------------------------- sandbox: connect */

static __always_inline void stamp_fill(struct bpf_sock_addr *ctx, const struct gate_dest *dest,
				       const struct gate_label *label, __u32 why, struct stamp *s)
{
	s->version = STAMP_VERSION;
	s->label_id = label->label_id;
	s->label_gen = label->label_gen;
	s->why = why;
	s->cgroup_id = label->cgroup_id;
	s->label_level = label->level;
	s->netns_cookie = bpf_get_netns_cookie(ctx);
	s->sock_cookie = bpf_get_socket_cookie(ctx);
	s->time_ns = bpf_ktime_get_ns();
	s->pid = bpf_get_current_pid_tgid() >> 32;
	s->uid = (__u32)bpf_get_current_uid_gid();
	bpf_get_current_comm(s->comm, sizeof(s->comm));
	s->family = dest->family;
	s->orig_port = dest->port;
	__builtin_memcpy(s->orig_addr, dest->addr, sizeof(s->orig_addr));
	s->peer = STAMP_PEER_UNKNOWN;
}

static __always_inline void facts_of_client(const struct gate_client *client, const struct gate_dest *dest,
					    struct gate_facts *f)
{
	f->pending = client->pending;
	f->pending_level = client->stamp.label_level;
	f->led = client->led_port && client->led_port == dest->port && gate_is_loopback(dest);
}

/* What listens in this namespace, if the destination may have to be led there. True v6 needs a listener on ::1 for DNS. */
static __always_inline void facts_of_netns(struct bpf_sock_addr *ctx, const struct gate_dest *dest,
					   struct gate_facts *f, __u32 *ret_flags)
{
	__u64 cookie;
	struct gate_netns *ns;

	if (f->port != 53 && f->class != GATE_CLASS_VIP && f->class != GATE_CLASS_SUSPECT && f->mode != FORCE_STRICT)
		return;
	cookie = bpf_get_netns_cookie(ctx);
	ns = bpf_map_lookup_elem(&sp_netns, &cookie);
	if (!ns)
		return;
	*ret_flags = ns->flags;
	f->door_port = ns->door_port;
	if (dest->family == GATE_AF_INET || ns->flags & GATE_NETNS_DNS6)
		f->dns_port = ns->dns_port;
}

static __always_inline void client_stamp(struct bpf_sock_addr *ctx, const struct gate_dest *dest,
					 const struct gate_label *label, const struct gate_facts *f,
					 struct gate_verdict *v, __u32 name_id, struct gate_client *client)
{
	if (!client)
		client = bpf_sk_storage_get(&sp_client, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!client) {
		v->action = GATE_REFUSE;
		v->reason = GATE_DENY_STORAGE;
		return;
	}
	stamp_fill(ctx, dest, label, v->why, &client->stamp);
	client->stamp.name_id = name_id;
	client->stamp.mode = f->mode;
	client->pending = f->is_stream ? GATE_PENDING_STAMPED : GATE_PENDING_NONE;
	client->led_port = v->action == GATE_LEAD ? v->port : 0;
	client->seen = 1;
}

/* It goes where it wanted to: what an earlier connect() left does not count, and a guard above need not look. */
static __always_inline void client_let_go(struct bpf_sock_addr *ctx, int mark, struct gate_client *client)
{
	if (!client && mark)
		client = bpf_sk_storage_get(&sp_client, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!client)
		return;
	if (client->pending == GATE_PENDING_STAMPED)
		client->pending = GATE_PENDING_NONE;
	client->led_port = 0;
	client->seen |= mark;
}

static __always_inline int is_led_kind(__u32 type, __u32 protocol)
{
	return (type == GATE_SOCK_STREAM && (protocol == GATE_IPPROTO_TCP || protocol == GATE_IPPROTO_MPTCP)) ||
	       (type == GATE_SOCK_DGRAM && protocol == GATE_IPPROTO_UDP);
}

/* The whole of a connect() or sendto(); the caller changes the destination when the verdict is GATE_LEAD. */
static __always_inline struct gate_verdict sandbox_decide(struct bpf_sock_addr *ctx, const struct gate_dest *dest,
							  __u32 *ret_flags)
{
	struct gate_verdict v = { GATE_LET_GO, GATE_PASS, 0, 0, 0 };
	struct gate_label *label = bpf_get_local_storage(&sp_label, 0);
	const struct gate_config *cfg = config_get();
	struct gate_dest reduced = *dest;
	struct gate_client *client;
	struct gate_budget *budget;
	struct gate_facts f = { 0 };
	__u32 name_id = 0;

	if (!ctx->sk || !cfg || !is_led_kind(ctx->type, ctx->protocol))
		return v;
	f.is_stream = ctx->type == GATE_SOCK_STREAM;
	f.port = dest->port;
	f.mode = mode_of(label, cfg);
	f.label_id = label->label_id;
	f.level = label->level;
	f.inflight_max = label->inflight_max;
	if (gate_may_be_door(dest, ctx->type, ctx->protocol)) {
		struct gate_door_key key = { bpf_get_netns_cookie(ctx), dest->port, 0 };

		f.is_door = bpf_map_lookup_elem(&sp_doors, &key) != NULL;
	}
	gate_dest_reduce(&reduced, cfg);
	f.class = class_of(&reduced, cfg, f.is_stream && gate_may_be_suspect(f.port), &name_id);
	facts_of_netns(ctx, dest, &f, ret_flags);
	client = bpf_sk_storage_get(&sp_client, ctx->sk, NULL, 0);
	if (client)
		facts_of_client(client, dest, &f);
	budget = bpf_map_lookup_elem(&sp_budget, &label->cgroup_id);
	if (budget) {
		f.has_budget = 1;
		f.inflight = budget->inflight;
	}

	v = gate_decide_connect(&f);
	if (v.action == GATE_STAMP || v.action == GATE_LEAD)
		client_stamp(ctx, dest, label, &f, &v, name_id, client);
	else if (v.action == GATE_LET_GO)
		client_let_go(ctx,
			      f.class == GATE_CLASS_SUSPECT ||
				      (cfg->guard_strict && f.is_stream && gate_is_web(f.port)),
			      client);
	count(v.reason);
	if (v.tell)
		event_connect(ctx, label, dest, v.reason, f.mode, name_id);
	return v;
}

static __always_inline void lead4(struct bpf_sock_addr *ctx, __u32 port)
{
	ctx->user_ip4 = GATE_BE32(0x7f000001u);
	ctx->user_port = bpf_htons((__u16)port);
}

/* To ::1, or for who asked for v4 (or where nothing listens on ::1) to ::ffff:127.0.0.1. */
static __always_inline void lead6(struct bpf_sock_addr *ctx, __u32 port, int as_v4)
{
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = as_v4 ? GATE_BE32(0xffffu) : 0;
	ctx->user_ip6[3] = as_v4 ? GATE_BE32(0x7f000001u) : GATE_BE32(1u);
	ctx->user_port = bpf_htons((__u16)port);
}

static __always_inline int sandbox_send4(struct bpf_sock_addr *ctx)
{
	struct gate_dest dest = { { ctx->user_ip4, 0, 0, 0 },
				  bpf_ntohs((__u16)ctx->user_port),
				  GATE_AF_INET };
	__u32 flags = 0;
	struct gate_verdict v = sandbox_decide(ctx, &dest, &flags);

	if (v.action == GATE_LEAD)
		lead4(ctx, v.port);
	return v.action != GATE_REFUSE;
}

static __always_inline int sandbox_send6(struct bpf_sock_addr *ctx)
{
	struct gate_dest dest = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
				    ctx->user_ip6[3] },
				  bpf_ntohs((__u16)ctx->user_port),
				  GATE_AF_INET6 };
	__u32 flags = 0;
	struct gate_verdict v;

	gate_dest_unmap(&dest);
	v = sandbox_decide(ctx, &dest, &flags);
	if (v.action == GATE_LEAD)
		lead6(ctx, v.port,
		      dest.family == GATE_AF_INET || (v.why != STAMP_DNS && !(flags & GATE_NETNS_DOOR6)));
	return v.action != GATE_REFUSE;
}

/* ---------------------------------------------------------------- sandbox: addresses as they were asked for */

/* The socket was led to where this address says; the client is to see what it asked for. */
static __always_inline const struct stamp *led_stamp(struct bpf_sock_addr *ctx, const struct gate_dest *seen)
{
	struct gate_client *client;

	if (!ctx->sk || !gate_is_loopback(seen))
		return NULL;
	client = bpf_sk_storage_get(&sp_client, ctx->sk, NULL, 0);
	if (!client || !client->led_port || client->led_port != seen->port)
		return NULL;
	return &client->stamp;
}

static __always_inline void restore4(struct bpf_sock_addr *ctx)
{
	struct gate_dest seen = { { ctx->user_ip4, 0, 0, 0 }, bpf_ntohs((__u16)ctx->user_port), GATE_AF_INET };
	const struct stamp *s = led_stamp(ctx, &seen);
	__u32 v4;

	if (!s || s->family != GATE_AF_INET)
		return;
	__builtin_memcpy(&v4, s->orig_addr, sizeof(v4));
	ctx->user_ip4 = v4;
	ctx->user_port = bpf_htons((__u16)s->orig_port);
}

static __always_inline void restore6(struct bpf_sock_addr *ctx)
{
	struct gate_dest seen = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] },
				  bpf_ntohs((__u16)ctx->user_port),
				  GATE_AF_INET6 };
	const struct stamp *s;
	struct gate_dest orig = { 0 };
	__u32 key[4];

	gate_dest_unmap(&seen);
	s = led_stamp(ctx, &seen);
	if (!s)
		return;
	__builtin_memcpy(orig.addr, s->orig_addr, sizeof(orig.addr));
	orig.family = s->family;
	gate_key_addr(&orig, key);
	ctx->user_ip6[0] = key[0];
	ctx->user_ip6[1] = key[1];
	ctx->user_ip6[2] = key[2];
	ctx->user_ip6[3] = key[3];
	ctx->user_port = bpf_htons((__u16)s->orig_port);
}
