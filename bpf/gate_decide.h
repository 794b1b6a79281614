/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decisions, as pure functions over small structs: no context, no map, no helper. The hooks
 * gather facts, call one of these and do what it says; tests/unit/test_decide.c calls the same
 * functions.
 */
#pragma once

#include "bpf/gate_abi.h"
#include "bpf/gate_addr.h"

enum gate_action { GATE_LET_GO, GATE_STAMP, GATE_KEEP, GATE_REFUSE };

struct gate_verdict {
	__u32 action; /* enum gate_action */
	__u32 reason; /* enum gate_reason */
	__u32 why;    /* enum stamp_why, for GATE_STAMP */
};

/* What is known when a sandbox's socket connects. */
struct gate_facts {
	__u32 is_door; /* TCP to an address and port where the gateway listens in this netns */
	__u32 label_id, level;
	__u32 inflight_max;
	__u32 has_budget;
	__s64 inflight;
	/* What a program of a cgroup further down left for this very connect, if anything. */
	__u32 pending, pending_level;
};

static inline __attribute__((always_inline)) __u32 gate_inflight_max(__u32 configured)
{
	return configured ? configured : GATE_INFLIGHT_MAX;
}

/* Is it worth looking for a door there? */
static inline __attribute__((always_inline)) int gate_may_be_door(const struct gate_dest *d,
								  __u32 type, __u32 protocol)
{
	return type == GATE_SOCK_STREAM &&
	       (protocol == GATE_IPPROTO_TCP || protocol == GATE_IPPROTO_MPTCP) && d->port &&
	       gate_is_loopback(d);
}

static inline __attribute__((always_inline)) struct gate_verdict
gate_decide_connect(const struct gate_facts *f)
{
	struct gate_verdict v = { GATE_LET_GO, GATE_PASS, 0 };

	if (!f->is_door)
		return v;
	v.action = GATE_REFUSE;
	if (f->pending == GATE_PENDING_STAMPED && f->pending_level > f->level) {
		/* Programs run from the socket's cgroup upwards: the innermost label names the
		 * socket. */
		v.action = GATE_KEEP;
		v.reason = GATE_STAMP_KEPT;
	} else if (!f->label_id) {
		v.reason = GATE_DENY_NO_LABEL;
	} else if (!f->has_budget) {
		v.reason = GATE_DENY_NO_BUDGET;
	} else if (f->inflight >= (__s64)gate_inflight_max(f->inflight_max)) {
		v.reason = GATE_DENY_INFLIGHT;
	} else {
		v.action = GATE_STAMP;
		v.reason = GATE_STAMPED;
		v.why = STAMP_EXPLICIT;
	}
	return v;
}

/*
 * The live peer against the stamp: the socket at the other end lies below the cgroup of the label,
 * and it is the socket that was stamped. `has_client` is false when that socket carries no stamp at
 * all.
 */
static inline __attribute__((always_inline)) __u32 gate_decide_peer(const struct stamp *stamp,
								    __u64 ancestor_id,
								    __u32 has_client,
								    __u64 client_cookie)
{
	if (ancestor_id != stamp->cgroup_id || !has_client || client_cookie != stamp->sock_cookie)
		return STAMP_PEER_DIFFERS;
	return STAMP_PEER_AGREES;
}
