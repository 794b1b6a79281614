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

struct packet {
	struct gate_dest dest;
	__u32 protocol;
	__u32 offset; /* of the transport header */
	__u32 no_port; /* a later fragment, or cut off before its ports */
};

static __always_inline int packet_read4(struct __sk_buff *ctx, struct packet *p)
{
	__u8 head[20];

	if (bpf_skb_load_bytes(ctx, 0, head, sizeof(head)) < 0)
		return 0;
	p->dest.family = GATE_AF_INET;
	__builtin_memcpy(&p->dest.addr[0], head + 16, 4);
	p->protocol = head[9];
	p->offset = (head[0] & 15) * 4;
	p->no_port = ((head[6] & 0x1f) << 8 | head[7]) != 0;
	return 1;
}

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING	43
#define NEXT_FRAGMENT	44
#define NEXT_AUTH	51
#define NEXT_OPTIONS	60
/* Rationale: RFC 8200, 4.1 lists this many; a longer chain is no ordinary packet and counts as a protocol of its own. */
#define NEXT_MAX 6

static __always_inline int packet_read6(struct __sk_buff *ctx, struct packet *p)
{
	__u8 head[40], next[8];

	if (bpf_skb_load_bytes(ctx, 0, head, sizeof(head)) < 0)
		return 0;
	p->dest.family = GATE_AF_INET6;
	__builtin_memcpy(p->dest.addr, head + 24, 16);
	p->protocol = head[6];
	p->offset = 40;
	for (int i = 0; i < NEXT_MAX; i++) {
		if (p->protocol != NEXT_HOP_BY_HOP && p->protocol != NEXT_ROUTING && p->protocol != NEXT_FRAGMENT &&
		    p->protocol != NEXT_AUTH && p->protocol != NEXT_OPTIONS)
			break;
		if (bpf_skb_load_bytes(ctx, p->offset, next, sizeof(next)) < 0)
			break;
		if (p->protocol == NEXT_FRAGMENT) {
			p->no_port |= (next[2] << 8 | (next[3] & 0xf8)) != 0;
			p->offset += 8;
		} else if (p->protocol == NEXT_AUTH) {
			p->offset += (next[1] + 2) * 4;
		} else {
			p->offset += (next[1] + 1) * 8;
		}
		p->protocol = next[0];
	}
	return 1;
}

static __always_inline int packet_read(struct __sk_buff *ctx, struct packet *p)
{
	__u8 ports[4];

	if (ctx->protocol == bpf_htons(0x0800) ? !packet_read4(ctx, p) :
	    ctx->protocol != bpf_htons(0x86dd) || !packet_read6(ctx, p))
		return 0;
	if (!gate_has_ports(p->protocol) || p->no_port)
		return 1;
	if (bpf_skb_load_bytes(ctx, p->offset, ports, 4) < 0)
		p->no_port = 1; /* its head goes on in a later fragment */
	else
		p->dest.port = ports[2] << 8 | ports[3];
	return 1;
}

static __always_inline struct gate_client *packet_client(struct __sk_buff *ctx, __u64 flags)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	return sk ? bpf_sk_storage_get(&sp_client, sk, NULL, flags) : NULL;
}

/* A question on its way to the DNS role: it asks by the source port and the id whom the client meant. */
static __always_inline void packet_question(struct __sk_buff *ctx, const struct packet *p)
{
	struct gate_client *client = packet_client(ctx, 0);
	struct gate_dgram_key key = { 0 };
	__u8 head[10]; /* of UDP, and the id */

	if (!client || client->led_port != p->dest.port || client->stamp.why != STAMP_DNS ||
	    bpf_skb_load_bytes(ctx, p->offset, head, sizeof(head)) < 0)
		return;
	key.netns_cookie = client->stamp.netns_cookie;
	key.port = head[0] << 8 | head[1];
	key.id = head[8] << 8 | head[9];
	key.family = p->dest.family;
	for (int i = 0; i < GATE_DGRAM_SLOTS; i++) {
		key.slot = i;
		if (!bpf_map_update_elem(&sp_dgram, &key, &client->stamp,
					 i + 1 < GATE_DGRAM_SLOTS ? BPF_NOEXIST : BPF_ANY))
			return;
	}
}

static __always_inline void event_packet(struct __sk_buff *ctx, const struct gate_label *label,
					 const struct packet *p, __u32 reason, __u32 mode, __u32 name_id)
{
	struct gate_event *e = event_begin(label, reason, mode);

	if (!e)
		return;
	gate_key_addr(&p->dest, e->addr);
	e->port = p->dest.port;
	e->protocol = p->protocol;
	e->name_id = name_id;
	bpf_ringbuf_submit(e, 0);
}

/* What the packet is, for gate_decide_packet(); false: nothing to decide. */
static __always_inline int packet_judge(struct __sk_buff *ctx, const struct gate_config *cfg, struct packet *p,
					struct gate_packet *ret, __u32 *ret_name)
{
	struct gate_dest reduced;

	if (!packet_read(ctx, p))
		return 0;
	reduced = p->dest;
	gate_dest_reduce(&reduced, cfg);
	ret->protocol = p->protocol;
	ret->port = p->dest.port;
	ret->no_port = p->no_port;
	ret->class = class_of(&reduced, cfg,
			      !gate_has_ports(p->protocol) || p->no_port || gate_may_be_suspect(p->dest.port),
			      ret_name);
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
