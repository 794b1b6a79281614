/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets that leave: what they are, bounded reads of their heads. Only gate.bpf.c includes this. */
#pragma once

#include <bpf/bpf_endian.h>

#include "bpf/gate_ask.h"

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
