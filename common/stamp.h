/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause OR Apache-2.0 */
/*
 * The stamp: what the kernel side knows of the process behind an accepted connection. Written by the BPF
 * programs, read by the gateway with one getsockopt(fd, STAMP_SOL, STAMP_GET, …). Fixed-width and padded
 * by hand: this is an ABI between programs that are upgraded apart.
 */
#pragma once

#include <linux/types.h>

#include "common/force.h"

/* A private level: the kernel has no protocol of this number, the BPF hook answers for it. */
#define STAMP_SOL     0x53504c59 /* "SPLY" */
#define STAMP_GET     1
/*
 * Instead of STAMP_GET at a datagram socket: the stamp behind a datagram from this source port with this DNS id, with the
 * server that was asked. Each is told once: a client may ask several servers by one socket before the first answers.
 */
#define STAMP_DATAGRAM(port, id) ((int)((unsigned)(id) << 16 | (port)))
#define STAMP_VERSION  2

/* Why a connection came to us: the client asked for the door itself, or was led to it. */
enum stamp_why {
	STAMP_EXPLICIT = 1,
	STAMP_VIP,     /* it asked for a virtual address of a provider's name */
	STAMP_SUSPECT, /* for an address that a provider's name has, or may share with others */
	STAMP_STRICT,  /* for anything else on port 443 or 80, in strict mode */
	STAMP_DNS,     /* for a name server: the DNS role's own sockets */
	STAMP_WHY_MAX
};

/* Verdict of the live-peer cross-check. */
enum stamp_peer { STAMP_PEER_UNKNOWN, STAMP_PEER_AGREES, STAMP_PEER_DIFFERS, STAMP_PEER_MAX };

struct stamp {
	__u32 version;
	__u32 label_id; /* 0: the programs are attached, but no label was written yet */
	__u32 label_gen;
	__u32 why;
	__u64 cgroup_id; /* of the labelled cgroup (attach point), not of the task */
	__u64 netns_cookie;
	__u64 sock_cookie;
	__u64 time_ns; /* CLOCK_MONOTONIC of the connect */
	__u32 pid, uid;
	char comm[16];
	__u32 family;    /* AF_INET or AF_INET6: what the client asked for */
	__u32 orig_port; /* host byte order */
	__u8 orig_addr[16]; /* network byte order; v4 in the first four bytes */
	__u32 peer;         /* enum stamp_peer */
	__u32 label_level;  /* depth of the labelled cgroup, for the ancestor comparison */
	__u32 name_id;      /* of the provider's name behind orig_addr (struct msg_name); 0: none */
	__u32 mode;         /* enum force_mode of the label at the time of the connect */
};
_Static_assert(sizeof(struct stamp) == 112, "the stamp is an ABI");
