/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses: v4, v6 and v4 in v6, as four words in network byte order. Pure; also compiles
 * natively.
 */
#pragma once

#include <linux/types.h>

#include "bpf/gate_abi.h"

/* The numbers of sys/socket.h, which BPF cannot include. */
#define GATE_AF_INET  2
#define GATE_AF_INET6 10

#define GATE_SOCK_STREAM   1
#define GATE_SOCK_DGRAM	   2
#define GATE_SOCK_RAW	   3
#define GATE_IPPROTO_ICMP  1
#define GATE_IPPROTO_TCP   6
#define GATE_IPPROTO_UDP   17
#define GATE_IPPROTO_ICMP6 58
#define GATE_IPPROTO_MPTCP 262

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define GATE_BE32(x)                                                                               \
	((__u32)((((x)&0xffu) << 24) | (((x)&0xff00u) << 8) | (((x) >> 8) & 0xff00u) | ((x) >> 24)))
#define GATE_BE16(x) ((__u16)((((x)&0xffu) << 8) | (((x) >> 8) & 0xffu)))
#else
#define GATE_BE32(x) ((__u32)(x))
#define GATE_BE16(x) ((__u16)(x))
#endif

/* Where a socket wants to go. A v4-mapped v6 address stands as v4. */
struct gate_dest {
	__u32 addr[4]; /* network byte order; v4 in the first word, the others 0 */
	__u32 port;    /* host byte order */
	__u32 family;
};

static inline __attribute__((always_inline)) int gate_is_v4_mapped(const __u32 a[4])
{
	return a[0] == 0 && a[1] == 0 && a[2] == GATE_BE32(0xffffu);
}

/* ::ffff:a.b.c.d becomes a.b.c.d; everything else stays. */
static inline __attribute__((always_inline)) void gate_dest_unmap(struct gate_dest *d)
{
	if (d->family != GATE_AF_INET6 || !gate_is_v4_mapped(d->addr))
		return;
	d->family = GATE_AF_INET;
	d->addr[0] = d->addr[3];
	d->addr[2] = 0;
	d->addr[3] = 0;
}

/* An address as a key: v4 as ::ffff:a.b.c.d. */
static inline __attribute__((always_inline)) void gate_key_addr(const struct gate_dest *d, __u32 ret[4])
{
	if (d->family == GATE_AF_INET) {
		ret[0] = 0;
		ret[1] = 0;
		ret[2] = GATE_BE32(0xffffu);
		ret[3] = d->addr[0];
		return;
	}
	ret[0] = d->addr[0];
	ret[1] = d->addr[1];
	ret[2] = d->addr[2];
	ret[3] = d->addr[3];
}

/* 6to4 (2002:AABB:CCDD::/16, RFC 3056) and NAT64 (64:ff9b::/96, RFC 6052, and the operator's own) hold a v4 address. */
static inline __attribute__((always_inline)) int gate_embedded_v4(const __u32 a[4], const struct gate_config *cfg,
								  __u32 *ret_v4)
{
	__u32 first = GATE_BE32(a[0]), second = GATE_BE32(a[1]);

	if (first >> 16 == 0x2002u) {
		*ret_v4 = GATE_BE32(first << 16 | second >> 16);
		return 1;
	}
	for (int i = 0; i < GATE_NAT64_MAX; i++) {
		if (i < (int)cfg->n_nat64 && a[0] == cfg->nat64[i][0] && a[1] == cfg->nat64[i][1] &&
		    a[2] == cfg->nat64[i][2]) {
			*ret_v4 = a[3];
			return 1;
		}
	}
	return 0;
}

/* What reaches the same host: the v4 address inside a v6 one, or the address itself. */
static inline __attribute__((always_inline)) void gate_dest_reduce(struct gate_dest *d, const struct gate_config *cfg)
{
	__u32 v4;

	if (d->family != GATE_AF_INET6 || !gate_embedded_v4(d->addr, cfg, &v4))
		return;
	d->family = GATE_AF_INET;
	d->addr[0] = v4;
	d->addr[1] = 0;
	d->addr[2] = 0;
	d->addr[3] = 0;
}

static inline __attribute__((always_inline)) int gate_in_pool(const struct gate_dest *d, const struct gate_config *cfg)
{
	if (d->family == GATE_AF_INET)
		return (d->addr[0] & cfg->vip4_mask) == cfg->vip4_net;
	return (d->addr[0] & cfg->vip6_mask[0]) == cfg->vip6_net[0] && (d->addr[1] & cfg->vip6_mask[1]) == cfg->vip6_net[1] &&
	       (d->addr[2] & cfg->vip6_mask[2]) == cfg->vip6_net[2] && (d->addr[3] & cfg->vip6_mask[3]) == cfg->vip6_net[3];
}

/* All of 127.0.0.0/8 and ::1: it stays in the namespace. */
static inline __attribute__((always_inline)) int gate_is_local(const struct gate_dest *d)
{
	if (d->family == GATE_AF_INET)
		return (d->addr[0] & GATE_BE32(0xff000000u)) == GATE_BE32(0x7f000000u) || d->addr[0] == 0;
	return d->addr[0] == 0 && d->addr[1] == 0 && d->addr[2] == 0 && (d->addr[3] == GATE_BE32(1u) || d->addr[3] == 0);
}

/*
 * The addresses at which the door listens. The unspecified address counts too: connect() takes it
 * for loopback, and the stamp has to be there when the connection arrives.
 */
static inline __attribute__((always_inline)) int gate_is_loopback(const struct gate_dest *d)
{
	if (d->family == GATE_AF_INET)
		return d->addr[0] == GATE_BE32(0x7f000001u) || d->addr[0] == 0;
	return d->addr[0] == 0 && d->addr[1] == 0 && d->addr[2] == 0 &&
	       (d->addr[3] == GATE_BE32(1u) || d->addr[3] == 0);
}
