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
#define GATE_ABI 2

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

/* In cgroup storage at the attach point: whose programs these are. Written whole, by the agent
 * only. */
struct gate_label {
	__u32 label_id; /* 0: nothing was written yet; the door is refused */
	__u32 label_gen;
	__u32 level;	    /* depth of the cgroup below the root that the agent sees, which is 0 */
	__u32 inflight_max; /* 0: GATE_INFLIGHT_MAX */
	__u64 cgroup_id;
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
	__u32 pending; /* enum gate_pending */
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
	GATE_EGRESS_SEEN, /* packets sent by sandboxes */
	GATE_REASON_MAX,
};

_Static_assert(sizeof(struct gate_label) == 24, "the label is an ABI");
_Static_assert(sizeof(struct gate_tuple) == 48, "the tuple is a key: no padding");
_Static_assert(sizeof(struct gate_door_key) == 16, "the door is a key: no padding");
_Static_assert(sizeof(struct gate_client) == 168, "the client record is an ABI");
