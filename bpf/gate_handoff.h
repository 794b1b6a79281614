/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The stamp on its way: from the socket that connects to the one that is accepted. Only gate.bpf.c includes this. */
#pragma once

#include <bpf/bpf_endian.h>

#include "bpf/gate_ask.h"

/* ---------------------------------------------------------------- sandbox: hand-off */

/* The connection as its client sees it; `passive`: this is the other end. */
static __always_inline void tuple_read(struct bpf_sock_ops *ctx, int passive, struct gate_tuple *t)
{
	struct gate_dest local = { .family = ctx->family }, remote = { .family = ctx->family };

	if (ctx->family == GATE_AF_INET6) {
		local.addr[0] = ctx->local_ip6[0];
		local.addr[1] = ctx->local_ip6[1];
		local.addr[2] = ctx->local_ip6[2];
		local.addr[3] = ctx->local_ip6[3];
		remote.addr[0] = ctx->remote_ip6[0];
		remote.addr[1] = ctx->remote_ip6[1];
		remote.addr[2] = ctx->remote_ip6[2];
		remote.addr[3] = ctx->remote_ip6[3];
		gate_dest_unmap(&local);
		gate_dest_unmap(&remote);
	} else {
		local.addr[0] = ctx->local_ip4;
		remote.addr[0] = ctx->remote_ip4;
	}
	local.port = ctx->local_port;
	remote.port = bpf_ntohl(ctx->remote_port);

	t->netns_cookie = bpf_get_netns_cookie(ctx);
	t->family = remote.family;
	__builtin_memcpy(t->saddr, passive ? remote.addr : local.addr, sizeof(t->saddr));
	__builtin_memcpy(t->daddr, passive ? local.addr : remote.addr, sizeof(t->daddr));
	t->sport = (__u16)(passive ? remote.port : local.port);
	t->dport = (__u16)(passive ? local.port : remote.port);
}

static __always_inline __u32 handoff_insert(struct bpf_sock_ops *ctx, struct gate_client *client)
{
	__u64 cgroup_id = client->stamp.cgroup_id;
	struct gate_budget *budget = bpf_map_lookup_elem(&sp_budget, &cgroup_id);
	struct gate_label *label = bpf_get_local_storage(&sp_label, 0);
	struct stamp *old;
	struct gate_tuple tuple = { 0 };

	if (!budget)
		return GATE_HANDOFF_FULL;
	tuple_read(ctx, 0, &tuple);
	old = bpf_map_lookup_elem(&sp_handoff, &tuple);
	if (old) {
		/* A tuple has one owner: whoever left this one is gone without saying so. */
		__u64 owner = old->cgroup_id;

		if (!bpf_map_delete_elem(&sp_handoff, &tuple))
			budget_add(owner, -1);
		count(GATE_HANDOFF_REPLACED);
	}
	if (__sync_fetch_and_add(&budget->inflight, 1) >=
		    (__s64)gate_inflight_max(label->inflight_max) ||
	    bpf_map_update_elem(&sp_handoff, &tuple, &client->stamp, BPF_NOEXIST)) {
		__sync_fetch_and_add(&budget->inflight, -1);
		return GATE_HANDOFF_FULL;
	}
	client->tuple = tuple;
	client->pending = GATE_PENDING_HANDED;
	return GATE_HANDED;
}

/* Nothing can be refused here; a connection without an entry arrives bare, and the gateway refuses
 * it. */
static __always_inline void sandbox_hand_over(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct gate_client *client;

	if (!sk)
		return;
	client = bpf_sk_storage_get(&sp_client, sk, NULL, 0);
	if (!client || client->pending != GATE_PENDING_STAMPED)
		return;
	client->pending = GATE_PENDING_NONE;
	count(handoff_insert(ctx, client));
	/* So that the entry goes when the handshake fails. */
	bpf_sock_ops_cb_flags_set(ctx,
				  (int)ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline void sandbox_take_back(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct gate_client *client;
	struct gate_tuple tuple;
	struct stamp *entry;

	if (!sk)
		return;
	client = bpf_sk_storage_get(&sp_client, sk, NULL, 0);
	if (!client || client->pending != GATE_PENDING_HANDED)
		return;
	client->pending = GATE_PENDING_NONE;
	tuple = client->tuple;
	entry = bpf_map_lookup_elem(&sp_handoff, &tuple);
	if (!entry || entry->sock_cookie != client->stamp.sock_cookie)
		return;
	if (!bpf_map_delete_elem(&sp_handoff, &tuple)) {
		budget_add(client->stamp.cgroup_id, -1);
		count(GATE_TAKEN_BACK);
	}
}
