/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the programs in the kernel and the agent: what lies in the maps. Fixed-width
 * types, padding by hand. A change of meaning raises GATE_ABI, which is part of the pin path, so
 * programs of two versions never share a map.
 *
 * A connection's way:
 *   connect hook      (sandbox)  gate_label -> gate_client in the client socket's storage, pending
 *   TCP_CONNECT_CB    (sandbox)  gate_client.stamp -> hand-off hash under gate_tuple, before the
 * SYN PASSIVE_ESTABLISHED (gateway) hand-off hash -> storage of the accepted socket; the entry is
 * gone getsockopt        (gateway)  storage of the accepted socket -> the reader
 */
#pragma once

#include <linux/types.h>

#include "common/stamp.h"

/* Rationale: containers in containers put the root of a cgroup namespace this deep at most. */
#define GATE_NAMESPACE_LEVELS 12
#define GATE_ABI 3

/*
 * Rationale: an entry lives for a handshake, microseconds on loopback, or for as long as SYNs are
 * lost when a backlog is full. 512 is far above the first and keeps the second within bounds for
 * one sandbox.
 */
#define GATE_INFLIGHT_MAX 512
/* Rationale: 128 sandboxes at their bound at once; allocated on demand, about 12 MiB when full. */
#define GATE_HANDOFF_MAX 65536
/* Rationale: a host with more sandboxes than this has other limits first (processes, namespaces).
 */
#define GATE_SANDBOX_MAX 16384
#define GATE_DOOR_MAX	 16384
#define GATE_NETNS_MAX	 16384
/* Rationale: as many names as the agent gives addresses to, v4 and v6. */
#define GATE_VIP_MAX 16384
/* Rationale: some hundred names with some dozen addresses each, kept for an hour after their TTL. */
#define GATE_SUSPECT_MAX 65536
/* Rationale: an entry is read microseconds after it was written; an LRU, since one that is lost costs a repeated question. */
#define GATE_DGRAM_MAX	 16384
/* Rationale: musl asks all of its three servers (MAXNS) at once, with one id, and takes the first answer. */
#define GATE_DGRAM_SLOTS 4
#define GATE_EVENT_BYTES (256 * 1024)
/* Rationale: more events of one sandbox in a second tell nothing new; the others are counted. */
#define GATE_EVENTS_A_SECOND 64
#define GATE_NAT64_MAX	     5

/* In cgroup storage at the attach point: whose programs these are. Written whole, by the agent
 * only. */
struct gate_label {
	__u32 label_id; /* 0: nothing was written yet; the door is refused */
	__u32 label_gen;
	__u32 level;	    /* depth of the cgroup below the root that the agent sees, which is 0 */
	__u32 inflight_max; /* 0: GATE_INFLIGHT_MAX */
	__u64 cgroup_id;
	__u32 mode; /* enum force_mode */
	__u32 pad;
};

/* The one entry of sp_config. Addresses in network byte order. */
struct gate_config {
	__u32 vip4_net, vip4_mask;
	__u32 vip6_net[4], vip6_mask[4];
	__u32 nat64[GATE_NAT64_MAX][3]; /* the first 96 bits */
	__u32 n_nat64;
	__u32 force_off; /* the operator's break-glass: every mode is off */
	__u32 guard_strict; /* a guard refuses web ports to who has no label: labelled sockets carry a mark */
	__u32 pad;
};

/* What listens for sandboxes in a network namespace, by its cookie. */
struct gate_netns {
	__u32 door_port; /* host byte order; 0: none */
	__u32 dns_port;
	__u32 flags; /* GATE_NETNS_* */
	__u32 pad;
};
#define GATE_NETNS_DOOR6 1 /* on ::1 too */
#define GATE_NETNS_DNS6	 2

/* Key of virtual addresses; v4 as ::ffff:a.b.c.d. */
struct gate_vip_key {
	__u32 addr[4];
};
/* Key of addresses and networks that a provider's name may have: a prefix, longest match. */
struct gate_suspect_key {
	__u32 bits; /* of 128 */
	__u32 addr[4];
};
struct gate_name {
	__u32 name_id; /* 0: a network of a provider, without a name */
	__u32 pad;
};

/*
 * A question to the DNS role is on its way from this port. Several with one id have slots from 0 on; the last one is
 * read first.
 */
struct gate_dgram_key {
	__u64 netns_cookie;
	__u16 port; /* host byte order */
	__u16 id;   /* of DNS, the first two bytes */
	__u16 family;
	__u16 slot;
};

/* Something that the agent tells: a connection that was led, refused, or only seen. */
struct gate_event {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 cgroup_id;
	__u64 netns_cookie; /* 0: not known in this hook */
	__u32 label_id;
	__u32 reason; /* enum gate_reason */
	__u32 pid, uid; /* 0: not known in this hook */
	char comm[16];
	__u32 addr[4]; /* v4 as ::ffff:a.b.c.d; of a socket that was refused: family, type, protocol */
	__u32 port;
	__u32 protocol;
	__u32 name_id;
	__u32 mode;
};

/* Both ends of a connection as the client sees it; a v4-mapped address stands as v4. */
struct gate_tuple {
	__u64 netns_cookie;
	__u32 saddr[4], daddr[4]; /* network byte order; v4 in the first word */
	__u16 sport, dport;	  /* host byte order */
	__u32 family;		  /* GATE_AF_INET or GATE_AF_INET6 */
};

enum gate_pending {
	GATE_PENDING_NONE,
	GATE_PENDING_STAMPED, /* the connect hook wrote the stamp, the SYN is not built yet */
	GATE_PENDING_HANDED,  /* an entry was put into the hand-off under `tuple` */
};

/* In the storage of a client's socket. */
struct gate_client {
	struct stamp stamp;
	struct gate_tuple tuple;
	__u32 pending;	/* enum gate_pending */
	__u32 led_port; /* where the socket was led instead of stamp.orig_*, host byte order; 0: nowhere */
	__u32 seen;	/* a label's program has let this socket go; a guard need not look at it */
	__u32 pad;
};

/* Key of the doors that are open: a listener of the gateway in one network namespace. */
struct gate_door_key {
	__u64 netns_cookie;
	__u32 port; /* host byte order */
	__u32 pad;
};
struct gate_door {
	__u64 door_id;
};

/* By cgroup id: entries of the hand-off that this sandbox has in it. Signed: a sweep may be off by
 * one. */
struct gate_budget {
	__s64 inflight;
	__u64 event_second; /* the one in which event_n were told */
	__u32 event_n, pad;
};

/* One of these is counted for each event; docs/PROTOCOL.md explains them. */
enum gate_reason {
	GATE_PASS,	     /* a connect to somewhere else */
	GATE_STAMPED,	     /* a connect to the door, stamped */
	GATE_STAMP_KEPT,     /* stamped by a label further down already */
	GATE_DENY_NO_LABEL,  /* the door, but no label was written yet */
	GATE_DENY_NO_BUDGET, /* the door, but the sandbox has no counter: it is being removed */
	GATE_DENY_INFLIGHT,  /* the door, but too many connects under way */
	GATE_DENY_STORAGE,   /* the door, but the socket can hold no stamp (optmem_max) */
	GATE_HANDED,	     /* entry put into the hand-off */
	GATE_HANDOFF_FULL, /* the bound or the hash was full: the connection arrives without a stamp
			    */
	GATE_HANDOFF_REPLACED, /* an entry of the same tuple was there and was replaced */
	GATE_TAKEN_BACK,       /* the client closed before the hand-off was used */
	GATE_ARRIVED,	       /* the gateway's socket has the stamp */
	GATE_ARRIVED_BARE,     /* the gateway's socket has no stamp */
	GATE_ARRIVED_STORAGE,  /* there was an entry, but the socket can hold no stamp */
	GATE_PEER_AGREES,
	GATE_PEER_DIFFERS,
	GATE_SOCKET_SEEN, /* sockets created in sandboxes */
	GATE_LED_VIP,	  /* a connect to a virtual address, led to the door */
	GATE_LED_SUSPECT, /* to an address that a provider has */
	GATE_LED_STRICT,  /* to any web port, in strict mode */
	GATE_LED_DNS,	  /* to a name server, led to the DNS role */
	GATE_LED_KEPT,	  /* led by a label further down already */
	GATE_OBSERVED,	  /* mode observe: would have been led or refused */
	GATE_DENY_NO_DOOR, /* to be led, but nothing listens in this namespace */
	GATE_DENY_VIP,	  /* a virtual address that no name has, or a port of one that is not served */
	GATE_DENY_DOT,	  /* DNS over TLS, in strict mode */
	GATE_DENY_SOCKET, /* a socket of a kind that strict mode does not let be made */
	GATE_DROP_VIP,	  /* a packet to a virtual address */
	GATE_DROP_PROVIDER, /* a packet to a provider past the door: an old or foreign socket, QUIC, raw */
	GATE_DROP_STRICT,   /* a packet that strict mode does not let out */
	GATE_GUARD_DENIED,  /* a child of a watched parent without a label, to a provider */
	GATE_GUARD_DROPPED, /* the same, a packet */
	GATE_EVENT_LOST,    /* the ring was full */
	GATE_EVENT_LIMITED, /* more than GATE_EVENTS_A_SECOND */
	GATE_REASON_MAX,
};

_Static_assert(sizeof(struct gate_config) == 116, "the configuration is an ABI");
_Static_assert(sizeof(struct gate_suspect_key) == 20, "the prefix is a key: no padding");
_Static_assert(sizeof(struct gate_dgram_key) == 16, "the datagram is a key: no padding");
_Static_assert(sizeof(struct gate_event) == 88, "the event is an ABI");
_Static_assert(sizeof(struct gate_label) == 32, "the label is an ABI");
_Static_assert(sizeof(struct gate_tuple) == 48, "the tuple is a key: no padding");
_Static_assert(sizeof(struct gate_door_key) == 16, "the door is a key: no padding");
_Static_assert(sizeof(struct gate_client) == 176, "the client record is an ABI");
