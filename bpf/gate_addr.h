/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses: v4, v6 and v4 in v6, as four words in network byte order. Pure; also compiles
 * natively.
 */
#pragma once

#include <linux/types.h>

/* The numbers of sys/socket.h, which BPF cannot include. */
#define GATE_AF_INET  2
#define GATE_AF_INET6 10

#define GATE_SOCK_STREAM   1
#define GATE_IPPROTO_TCP   6
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
