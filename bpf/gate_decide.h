/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decisions, as pure functions over small structs: no context, no map, no helper. The hooks
 * gather facts, call one of these and do what it says; tests/unit/test_decide.c calls the same
 * functions.
 */
#pragma once

#include "bpf/gate_abi.h"
#include "bpf/gate_addr.h"

enum gate_action {
	GATE_LET_GO,
	GATE_STAMP, /* to the door, by its own address */
	GATE_LEAD,  /* stamp, and change the destination to verdict.port on loopback */
	GATE_KEEP,  /* a program further down has decided */
	GATE_REFUSE
};

/* What is known of a destination beside its bytes. */
enum gate_class {
	GATE_CLASS_OTHER,
	GATE_CLASS_LOCAL,
	GATE_CLASS_VIP,	      /* a name has this virtual address */
	GATE_CLASS_VIP_UNUSED, /* of the pool, but no name has it */
	GATE_CLASS_SUSPECT,    /* a provider has it, perhaps among others */
};

struct gate_verdict {
	__u32 action; /* enum gate_action */
	__u32 reason; /* enum gate_reason */
	__u32 why;    /* enum stamp_why, for GATE_STAMP and GATE_LEAD */
	__u32 port;   /* for GATE_LEAD */
	__u32 tell;   /* this is an event */
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
	__u32 led; /* it changed the destination to the one that is seen here */

	__u32 is_stream; /* TCP or MPTCP; else UDP */
	__u32 class;	 /* enum gate_class */
	__u32 port;
	__u32 mode;	 /* enum force_mode, already off when force is */
	__u32 door_port, dns_port; /* of this netns; 0: none */
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

static inline __attribute__((always_inline)) int gate_is_web(__u32 port)
{
	return port == 443 || port == 80;
}

/*
 * Ports on which a front end that providers share with others answers HTTP and TLS too: the list of Cloudflare's
 * documentation ("Network ports"). A provider's name can be asked for on each of them.
 */
static inline __attribute__((always_inline)) int gate_is_front_end(__u32 port)
{
	switch (port) {
	case 80:
	case 443:
	case 2052:
	case 2053:
	case 2082:
	case 2083:
	case 2086:
	case 2087:
	case 2095:
	case 2096:
	case 8080:
	case 8443:
	case 8880:
		return 1;
	}
	return 0;
}

/* Worth looking the address up: what decide would do something about. */
static inline __attribute__((always_inline)) int gate_may_be_suspect(__u32 port)
{
	return gate_is_front_end(port);
}

/* The bounds of everything that is stamped. */
static inline __attribute__((always_inline)) void gate_admit(const struct gate_facts *f, struct gate_verdict *v)
{
	__u32 refused = !f->label_id ? GATE_DENY_NO_LABEL :
		!f->has_budget	     ? GATE_DENY_NO_BUDGET :
		f->inflight >= (__s64)gate_inflight_max(f->inflight_max) ? GATE_DENY_INFLIGHT : GATE_PASS;

	if (refused == GATE_PASS)
		return;
	v->action = GATE_REFUSE;
	v->reason = refused;
	v->why = 0;
}

static inline __attribute__((always_inline)) void gate_lead(const struct gate_facts *f, __u32 reason, __u32 why,
							    struct gate_verdict *v)
{
	v->action = GATE_LEAD;
	v->reason = reason;
	v->why = why;
	v->port = f->door_port;
	v->tell = 1;
	if (!v->port) {
		v->action = GATE_REFUSE;
		v->reason = GATE_DENY_NO_DOOR;
		return;
	}
	gate_admit(f, v);
}

/* Names: what goes to a name server goes to the role that knows providers' names. */
static inline __attribute__((always_inline)) int gate_decide_dns(const struct gate_facts *f, struct gate_verdict *v)
{
	if (f->port != 53 || f->mode < FORCE_ASSIST || !f->dns_port)
		return 0;
	v->action = GATE_LEAD;
	v->reason = GATE_LED_DNS;
	v->why = STAMP_DNS;
	v->port = f->dns_port;
	if (f->is_stream)
		gate_admit(f, v);
	return 1;
}

/* TCP to somewhere else than the door. A virtual address means nothing anywhere else, so it is led in every mode. */
static inline __attribute__((always_inline)) void gate_decide_stream(const struct gate_facts *f, struct gate_verdict *v)
{
	if (f->class == GATE_CLASS_VIP && gate_is_front_end(f->port)) {
		gate_lead(f, GATE_LED_VIP, STAMP_VIP, v);
	} else if (f->class == GATE_CLASS_VIP || f->class == GATE_CLASS_VIP_UNUSED) {
		v->action = GATE_REFUSE;
		v->reason = GATE_DENY_VIP;
		v->tell = 1;
	} else if (f->class == GATE_CLASS_SUSPECT && gate_is_front_end(f->port)) {
		if (f->mode >= FORCE_ASSIST) {
			gate_lead(f, GATE_LED_SUSPECT, STAMP_SUSPECT, v);
		} else if (f->mode == FORCE_OBSERVE) {
			v->reason = GATE_OBSERVED;
			v->tell = 1;
		}
	} else if (f->mode == FORCE_STRICT && f->class != GATE_CLASS_LOCAL) {
		if (gate_is_web(f->port)) {
			gate_lead(f, GATE_LED_STRICT, STAMP_STRICT, v);
		} else if (f->port == 853) {
			v->action = GATE_REFUSE;
			v->reason = GATE_DENY_DOT;
			v->tell = 1;
		}
	}
}

static inline __attribute__((always_inline)) struct gate_verdict gate_decide_connect(const struct gate_facts *f)
{
	struct gate_verdict v = { GATE_LET_GO, GATE_PASS, 0, 0, 0 };

	/*
	 * Programs run from the socket's cgroup upwards: the innermost label names the socket. And what is sent on a
	 * v6 socket that is connected to a v4-mapped address comes by here once more, with the address it was led to
	 * (udpv6_sendmsg() hands it to udp_sendmsg() with a name).
	 */
	if (f->led && (!f->is_stream || f->pending_level > f->level)) {
		v.action = GATE_KEEP;
		v.reason = GATE_LED_KEPT;
	} else if (f->is_door && f->pending == GATE_PENDING_STAMPED && f->pending_level > f->level) {
		v.action = GATE_KEEP;
		v.reason = GATE_STAMP_KEPT;
	} else if (f->is_door) {
		v.action = GATE_STAMP;
		v.reason = GATE_STAMPED;
		v.why = STAMP_EXPLICIT;
		gate_admit(f, &v);
	} else if (!gate_decide_dns(f, &v) && f->is_stream) {
		gate_decide_stream(f, &v);
	}
	return v;
}

/* What is known of a packet that leaves. */
struct gate_packet {
	__u32 class; /* enum gate_class */
	__u32 protocol;
	__u32 port;	  /* of the destination; 0 where the protocol has none */
	__u32 no_port; /* a later fragment, or cut off before it: not known */
	__u32 mode;
};

static inline __attribute__((always_inline)) int gate_has_ports(__u32 protocol)
{
	return protocol == GATE_IPPROTO_TCP || protocol == GATE_IPPROTO_UDP;
}

static inline __attribute__((always_inline)) int gate_is_icmp(__u32 protocol)
{
	return protocol == GATE_IPPROTO_ICMP || protocol == GATE_IPPROTO_ICMP6;
}

/*
 * The backstop behind connect: sockets that are older than the label, datagrams (QUIC), raw sockets. In connect UDP
 * is not refused, since resolvers connect a datagram socket to each address only to compare routes.
 * GATE_PASS, GATE_OBSERVED, or why the packet is dropped.
 */
static inline __attribute__((always_inline)) __u32 gate_decide_packet(const struct gate_packet *p)
{
	int past_door = p->class == GATE_CLASS_SUSPECT &&
			(gate_has_ports(p->protocol) ? p->no_port || gate_is_front_end(p->port) :
						       !gate_is_icmp(p->protocol));

	if (p->class == GATE_CLASS_LOCAL)
		return GATE_PASS;
	if (p->class == GATE_CLASS_VIP || p->class == GATE_CLASS_VIP_UNUSED)
		return GATE_DROP_VIP;
	if (past_door)
		return p->mode >= FORCE_ASSIST ? GATE_DROP_PROVIDER : p->mode == FORCE_OBSERVE ? GATE_OBSERVED : GATE_PASS;
	if (p->mode != FORCE_STRICT)
		return GATE_PASS;
	if (!gate_has_ports(p->protocol))
		return gate_is_icmp(p->protocol) ? GATE_PASS : GATE_DROP_STRICT;
	return gate_is_web(p->port) || p->port == 853 || p->port == 53 ? GATE_DROP_STRICT : GATE_PASS;
}

/* strict: TCP, UDP and ping sockets of the Internet families; the others pass by what leads and looks. */
static inline __attribute__((always_inline)) __u32 gate_decide_socket(__u32 mode, __u32 family, __u32 type,
								      __u32 protocol)
{
	int is_known = (type == GATE_SOCK_STREAM && (protocol == 0 || protocol == GATE_IPPROTO_TCP)) ||
		       (type == GATE_SOCK_DGRAM &&
			(protocol == 0 || protocol == GATE_IPPROTO_UDP || gate_is_icmp(protocol)));

	if (mode != FORCE_STRICT || (family != GATE_AF_INET && family != GATE_AF_INET6))
		return GATE_SOCKET_SEEN;
	return is_known ? GATE_SOCKET_SEEN : GATE_DENY_SOCKET;
}

/*
 * On a watched parent: a child without a label has no program that leads it. True: refuse. `mode` is the one of
 * identities without a tag.
 */
static inline __attribute__((always_inline)) int gate_guard_denies(__u32 mode, __u32 class, __u32 port)
{
	if (class == GATE_CLASS_VIP || class == GATE_CLASS_VIP_UNUSED)
		return 1;
	if (class == GATE_CLASS_SUSPECT)
		return mode >= FORCE_ASSIST && gate_is_front_end(port);
	return mode == FORCE_STRICT && class != GATE_CLASS_LOCAL && gate_is_web(port);
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
