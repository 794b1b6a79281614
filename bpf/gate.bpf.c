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

#include "bpf/gate_handoff.h"
#include "bpf/gate_lead.h"
#include "bpf/gate_packet.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("cgroup/connect4")
int sp_connect4(struct bpf_sock_addr *ctx)
{
	return sandbox_send4(ctx);
}

SEC("cgroup/connect6")
int sp_connect6(struct bpf_sock_addr *ctx)
{
	return sandbox_send6(ctx);
}

/* A datagram with an address of its own. What is sent on a connected socket was seen by connect. */
SEC("cgroup/sendmsg4")
int sp_sendmsg4(struct bpf_sock_addr *ctx)
{
	return sandbox_send4(ctx);
}

SEC("cgroup/sendmsg6")
int sp_sendmsg6(struct bpf_sock_addr *ctx)
{
	return sandbox_send6(ctx);
}

SEC("cgroup/recvmsg4")
int sp_recvmsg4(struct bpf_sock_addr *ctx)
{
	restore4(ctx);
	return 1;
}

/* Also for v4 answers to a v6 socket, whose question went by sendmsg4. */
SEC("cgroup/recvmsg6")
int sp_recvmsg6(struct bpf_sock_addr *ctx)
{
	restore6(ctx);
	return 1;
}

SEC("cgroup/getpeername4")
int sp_getpeer4(struct bpf_sock_addr *ctx)
{
	restore4(ctx);
	return 1;
}

SEC("cgroup/getpeername6")
int sp_getpeer6(struct bpf_sock_addr *ctx)
{
	restore6(ctx);
	return 1;
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

/* ---------------------------------------------------------------- sandbox: sockets and packets */

SEC("cgroup/sock_create")
int sp_create(struct bpf_sock *ctx)
{
	struct gate_label *label = bpf_get_local_storage(&sp_label, 0);
	const struct gate_config *cfg = config_get();
	__u32 mode, reason;
	struct gate_event *e;

	if (!cfg)
		return 1;
	mode = mode_of(label, cfg);
	reason = gate_decide_socket(mode, ctx->family, ctx->type, ctx->protocol);
	count(reason);
	if (reason == GATE_SOCKET_SEEN)
		return 1;
	e = event_begin(label, reason, mode);
	if (e) {
		event_caller(e);
		e->addr[0] = ctx->family;
		e->addr[1] = ctx->type;
		e->addr[2] = ctx->protocol;
		e->protocol = ctx->protocol;
		bpf_ringbuf_submit(e, 0);
	}
	return 0;
}

/*
 * Attached first of all, because attaching a program that uses the storage is what makes it: the
 * agent can then write the label before the programs that stamp are attached.
 */
SEC("cgroup_skb/egress")
int sp_egress(struct __sk_buff *ctx)
{
	struct gate_label *label = bpf_get_local_storage(&sp_label, 0);
	const struct gate_config *cfg = config_get();
	struct gate_packet facts = { 0 };
	struct packet p = { 0 };
	__u32 name_id = 0, reason;
	struct gate_client *client;

	if (!cfg || !packet_judge(ctx, cfg, &p, &facts, &name_id))
		return 1;
	if (facts.class == GATE_CLASS_LOCAL) {
		if (p.protocol == GATE_IPPROTO_UDP)
			packet_question(ctx, &p);
		return 1;
	}
	facts.mode = mode_of(label, cfg);
	reason = gate_decide_packet(&facts);
	if (reason == GATE_PASS) {
		facts.mode = cfg->guard_strict ? FORCE_STRICT : FORCE_ASSIST;
		if (gate_decide_packet(&facts) != GATE_PASS) { /* a guard above would drop it */
			client = packet_client(ctx, BPF_SK_STORAGE_GET_F_CREATE);
			if (client)
				client->seen = 1;
		}
		return 1;
	}
	count(reason);
	if (reason != GATE_OBSERVED || facts.protocol != GATE_IPPROTO_TCP) /* connect has told it */
		event_packet(ctx, label, &p, reason, facts.mode, name_id);
	return reason == GATE_OBSERVED;
}

/* ---------------------------------------------------------------- guard: a watched parent */

/* A label's program further down runs first: it leads, or marks the socket as seen. */
static __always_inline int guard_connect(struct bpf_sock_addr *ctx, const struct gate_dest *dest)
{
	struct gate_label *label = bpf_get_local_storage(&sp_label, 0);
	const struct gate_config *cfg = config_get();
	struct gate_dest reduced = *dest;
	struct gate_client *client;
	__u32 class, mode, name_id = 0;

	if (!ctx->sk || !cfg || ctx->type != GATE_SOCK_STREAM)
		return 1;
	gate_dest_reduce(&reduced, cfg);
	class = class_of(&reduced, cfg, gate_may_be_suspect(dest->port), &name_id);
	mode = mode_of(label, cfg);
	if (!gate_guard_denies(mode, class, dest->port))
		return 1;
	client = bpf_sk_storage_get(&sp_client, ctx->sk, NULL, 0);
	if (client && client->seen)
		return 1;
	count(GATE_GUARD_DENIED);
	event_connect(ctx, label, dest, GATE_GUARD_DENIED, mode, name_id);
	return 0;
}

SEC("cgroup/connect4")
int sp_guard4(struct bpf_sock_addr *ctx)
{
	struct gate_dest dest = { { ctx->user_ip4, 0, 0, 0 }, bpf_ntohs((__u16)ctx->user_port), GATE_AF_INET };

	return guard_connect(ctx, &dest);
}

SEC("cgroup/connect6")
int sp_guard6(struct bpf_sock_addr *ctx)
{
	struct gate_dest dest = { { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] },
				  bpf_ntohs((__u16)ctx->user_port),
				  GATE_AF_INET6 };

	gate_dest_unmap(&dest);
	return guard_connect(ctx, &dest);
}

SEC("cgroup_skb/egress")
int sp_guard_out(struct __sk_buff *ctx)
{
	struct gate_label *label = bpf_get_local_storage(&sp_label, 0);
	const struct gate_config *cfg = config_get();
	struct gate_packet facts = { 0 };
	struct packet p = { 0 };
	__u32 name_id = 0;
	struct gate_client *client;

	if (!cfg || !packet_judge(ctx, cfg, &p, &facts, &name_id) || facts.class == GATE_CLASS_LOCAL)
		return 1;
	facts.mode = mode_of(label, cfg);
	/* Names are not the guard's business: they lead nowhere that is not refused here. */
	if (facts.port == 53 || gate_decide_packet(&facts) == GATE_PASS || facts.mode < FORCE_ASSIST)
		return 1;
	client = packet_client(ctx, 0);
	if (client && client->seen)
		return 1;
	count(GATE_GUARD_DROPPED);
	event_packet(ctx, label, &p, GATE_GUARD_DROPPED, facts.mode, name_id);
	return 0;
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

/* The last one that was not read. */
static __always_inline int question_take(struct bpf_sockopt *ctx, struct bpf_sock *sk, struct stamp *out)
{
	__u32 option = ctx->optname;
	struct gate_dgram_key key = { bpf_get_netns_cookie(ctx), option & 0xffff, option >> 16, sk->family, 0 };
	struct stamp *asked;

	for (int i = GATE_DGRAM_SLOTS; i-- > 0;) {
		key.slot = i;
		asked = bpf_map_lookup_elem(&sp_dgram, &key);
		if (!asked)
			continue;
		*out = *asked;
		bpf_map_delete_elem(&sp_dgram, &key);
		return 1;
	}
	return 0;
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
	int is_datagram = sk && sk->type == GATE_SOCK_DGRAM;

	if (ctx->level != STAMP_SOL || (ctx->optname != STAMP_GET && !is_datagram)) {
		/* The kernel copies a page at most for us; 0 says to take its own answer as it is.
		 */
		if (ctx->optlen > 4096)
			ctx->optlen = 0;
		return 1;
	}
	if (!sk || (void *)(out + 1) > end)
		return 1;
	if (is_datagram) {
		if (!question_take(ctx, sk, out))
			return 1;
	} else {
		conn = bpf_sk_storage_get(&sp_conn, sk, NULL, 0);
		if (!conn)
			return 1;
		*out = *conn;
	}
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
