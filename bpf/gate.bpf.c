// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Entry points. sp_* run on each sandbox's cgroup, sp_gw_* on the gateway's own, which has none of
 * the others: its traffic is exempt because nothing is attached there that could touch it.
 *
 * Only UAPI contexts are read, so no kernel type information is needed. Nothing here may need a
 * helper that Linux 6.1 lacks: cgroup_skb has no netns cookie there, which is why the cross-check
 * looks up the peer in the packet's own namespace instead.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/gate_abi.h"
#include "bpf/gate_addr.h"
#include "bpf/gate_decide.h"
#include "bpf/gate_maps.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

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

/* 1: go on, 0: the caller of connect() gets EPERM. */
static __always_inline int sandbox_connect(struct bpf_sock_addr *ctx, const struct gate_dest *dest)
{
	struct gate_label *label = bpf_get_local_storage(&sp_label, 0);
	struct gate_facts facts = { 0 };
	struct gate_client *client;
	struct gate_budget *budget;
	struct gate_verdict v;

	if (!ctx->sk)
		return 1;
	if (gate_may_be_door(dest, ctx->type, ctx->protocol)) {
		struct gate_door_key key = { bpf_get_netns_cookie(ctx), dest->port, 0 };

		facts.is_door = bpf_map_lookup_elem(&sp_doors, &key) != NULL;
	}
	client = bpf_sk_storage_get(&sp_client, ctx->sk, NULL, 0);
	if (client) {
		facts.pending = client->pending;
		facts.pending_level = client->stamp.label_level;
	}
	budget = bpf_map_lookup_elem(&sp_budget, &label->cgroup_id);
	if (budget) {
		facts.has_budget = 1;
		facts.inflight = budget->inflight;
	}
	facts.label_id = label->label_id;
	facts.level = label->level;
	facts.inflight_max = label->inflight_max;

	v = gate_decide_connect(&facts);
	if (v.action == GATE_STAMP) {
		if (!client)
			client = bpf_sk_storage_get(&sp_client, ctx->sk, NULL,
						    BPF_SK_STORAGE_GET_F_CREATE);
		if (client) {
			stamp_fill(ctx, dest, label, v.why, &client->stamp);
			client->pending = GATE_PENDING_STAMPED;
		} else {
			v.action = GATE_REFUSE;
			v.reason = GATE_DENY_STORAGE;
		}
	} else if (client && v.action != GATE_KEEP && client->pending == GATE_PENDING_STAMPED) {
		/* An earlier connect() of this socket went to the door and failed before its SYN.
		 */
		client->pending = GATE_PENDING_NONE;
	}
	count(v.reason);
	return v.action != GATE_REFUSE;
}

SEC("cgroup/connect4")
int sp_connect4(struct bpf_sock_addr *ctx)
{
	struct gate_dest dest = { { ctx->user_ip4, 0, 0, 0 },
				  bpf_ntohs((__u16)ctx->user_port),
				  GATE_AF_INET };

	return sandbox_connect(ctx, &dest);
}

SEC("cgroup/connect6")
int sp_connect6(struct bpf_sock_addr *ctx)
{
	struct gate_dest dest = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2],
				    ctx->user_ip6[3] },
				  bpf_ntohs((__u16)ctx->user_port),
				  GATE_AF_INET6 };

	gate_dest_unmap(&dest);
	return sandbox_connect(ctx, &dest);
}

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

SEC("sockops")
int sp_sockops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		sandbox_hand_over(ctx);
	else if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == BPF_TCP_CLOSE)
		sandbox_take_back(ctx);
	return 1;
}

/* ---------------------------------------------------------------- sandbox: in place, refusing
 * nothing */

SEC("cgroup/sock_create")
int sp_create(struct bpf_sock *ctx)
{
	(void)ctx;
	count(GATE_SOCKET_SEEN);
	return 1;
}

/*
 * Attached first of all, because attaching a program that uses the storage is what makes it: the
 * agent can then write the label before the programs that stamp are attached.
 */
SEC("cgroup_skb/egress")
int sp_egress(struct __sk_buff *ctx)
{
	struct gate_label *label = bpf_get_local_storage(&sp_label, 0);

	(void)ctx;
	if (label->label_id)
		count(GATE_EGRESS_SEEN);
	return 1;
}

/* ---------------------------------------------------------------- gateway */

static __always_inline __u32 gateway_take(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	struct gate_tuple tuple = { 0 };
	struct stamp *entry, *conn;
	__u64 cgroup_id;

	tuple_read(ctx, 1, &tuple);
	entry = bpf_map_lookup_elem(&sp_handoff, &tuple);
	if (!entry)
		return GATE_ARRIVED_BARE;
	conn = bpf_sk_storage_get(&sp_conn, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (conn)
		*conn = *entry;
	cgroup_id = entry->cgroup_id;
	/*
	 * The deletion decides: when the client took the entry back in the meantime, its memory may
	 * belong to another connection already, and what was copied counts for nothing.
	 */
	if (bpf_map_delete_elem(&sp_handoff, &tuple)) {
		if (conn)
			bpf_sk_storage_delete(&sp_conn, sk);
		return GATE_ARRIVED_BARE;
	}
	budget_add(cgroup_id, -1);
	return conn ? GATE_ARRIVED : GATE_ARRIVED_STORAGE;
}

SEC("sockops")
int sp_gw_sockops(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk;

	if (ctx->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	sk = ctx->sk;
	if (sk)
		count(gateway_take(ctx, sk));
	return 1;
}

/*
 * Without a stamp the kernel's own answer to an unknown level stays: ENOPROTOOPT. (Programs of this
 * type may only leave the error or turn it into success before Linux 5.18.)
 */
SEC("cgroup/getsockopt")
int sp_gw_getopt(struct bpf_sockopt *ctx)
{
	struct stamp *out = ctx->optval, *conn;
	void *end = ctx->optval_end;
	struct bpf_sock *sk = ctx->sk;

	if (ctx->level != STAMP_SOL || ctx->optname != STAMP_GET) {
		/* The kernel copies a page at most for us; 0 says to take its own answer as it is.
		 */
		if (ctx->optlen > 4096)
			ctx->optlen = 0;
		return 1;
	}
	if (!sk || (void *)(out + 1) > end)
		return 1;
	conn = bpf_sk_storage_get(&sp_conn, sk, NULL, 0);
	if (!conn)
		return 1;
	*out = *conn;
	/* volatile: the compiler would make one store of eight bytes of the two, which the verifier
	 * refuses. */
	*(volatile __s32 *)&ctx->optlen = sizeof(*out);
	*(volatile __s32 *)&ctx->retval = 0;
	return 1;
}

static __always_inline void tuple_of_peer(const struct bpf_sock *sk, struct bpf_sock_tuple *t)
{
	/* As a packet to the peer would carry it. */
	if (sk->family == GATE_AF_INET) {
		t->ipv4.saddr = sk->src_ip4;
		t->ipv4.daddr = sk->dst_ip4;
		t->ipv4.sport = bpf_htons((__u16)sk->src_port);
		t->ipv4.dport = sk->dst_port;
		return;
	}
	t->ipv6.saddr[0] = sk->src_ip6[0];
	t->ipv6.saddr[1] = sk->src_ip6[1];
	t->ipv6.saddr[2] = sk->src_ip6[2];
	t->ipv6.saddr[3] = sk->src_ip6[3];
	t->ipv6.daddr[0] = sk->dst_ip6[0];
	t->ipv6.daddr[1] = sk->dst_ip6[1];
	t->ipv6.daddr[2] = sk->dst_ip6[2];
	t->ipv6.daddr[3] = sk->dst_ip6[3];
	t->ipv6.sport = bpf_htons((__u16)sk->src_port);
	t->ipv6.dport = sk->dst_port;
}

/*
 * The labelled cgroup, if it is an ancestor of the peer's, else another or 0. Its level is counted from the
 * root that the agent sees; in a cgroup namespace that one lies some levels below the real root.
 */
static __always_inline __u64 peer_ancestor(struct bpf_sock *peer, const struct stamp *conn)
{
	__u64 id = 0;

	for (int i = 0; i <= GATE_NAMESPACE_LEVELS; i++) {
		id = bpf_sk_ancestor_cgroup_id(peer, (int)conn->label_level + i);
		if (!id || id == conn->cgroup_id)
			break;
	}
	return id;
}

/* A packet of an accepted socket: who is at the other end really? Cheap once it is known. */
static __always_inline void gateway_check_peer(struct __sk_buff *ctx)
{
	struct bpf_sock *sk = ctx->sk, *peer;
	struct bpf_sock_tuple tuple = { 0 };
	struct gate_client *client;
	struct stamp *conn;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	conn = bpf_sk_storage_get(&sp_conn, sk, NULL, 0);
	if (!conn || conn->peer != STAMP_PEER_UNKNOWN)
		return;
	tuple_of_peer(sk, &tuple);
	peer = bpf_sk_lookup_tcp(
		ctx, &tuple, sk->family == GATE_AF_INET ? sizeof(tuple.ipv4) : sizeof(tuple.ipv6),
		BPF_F_CURRENT_NETNS, 0);
	if (!peer)
		return;
	/* Not found among the connections, but somebody listens there: the peer is gone. */
	if (peer->state != BPF_TCP_LISTEN) {
		client = bpf_sk_storage_get(&sp_client, peer, NULL, 0);
		conn->peer = gate_decide_peer(
			conn, peer_ancestor(peer, conn),
			client != NULL, client ? client->stamp.sock_cookie : 0);
		count(conn->peer == STAMP_PEER_AGREES ? GATE_PEER_AGREES : GATE_PEER_DIFFERS);
	}
	bpf_sk_release(peer);
}

SEC("cgroup_skb/ingress")
int sp_gw_in(struct __sk_buff *ctx)
{
	gateway_check_peer(ctx);
	return 1;
}

SEC("cgroup_skb/egress")
int sp_gw_out(struct __sk_buff *ctx)
{
	gateway_check_peer(ctx);
	return 1;
}
