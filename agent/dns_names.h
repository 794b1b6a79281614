/* SPDX-License-Identifier: Apache-2.0 */
/* The providers' names as the DNS role knows them, and what is answered without asking anybody. Pure. */
#pragma once

#include "agent/dns_msg.h"
#include "common/msg.h"

/* Rationale: a few for each provider; the others are those of wildcards that sandboxes asked for. */
#define DNS_NAMES_MAX	 8192
#define DNS_PATTERNS_MAX 256
/* Rationale: soon enough when a provider goes from the policy; clients ask again without noticing. */
#define DNS_TTL_S 30

struct dns_lookup;

struct dns_name {
	struct dns_name *next; /* of its bucket */
	struct msg_name info;
	struct dns_lookup *lookups; /* of dns_resolve.c; freed with the name, which must not be asked for any more */
};

struct dns_names {
	uint64_t seed; /* unknown to sandboxes: they choose names that wildcards cover */
	struct dns_name **buckets;
	unsigned n;
	struct msg_name *patterns;
	unsigned n_patterns;
};

/* 0 or -ENOMEM. */
int dns_names_init(struct dns_names *names, uint64_t seed);
void dns_names_fini(struct dns_names *names);

/* NULL: not a provider's name (so far). */
struct dns_name *dns_names_find(const struct dns_names *names, struct str name);
/* Adds it, or changes its addresses. 0, -EINVAL (no name), -ENOBUFS or -ENOMEM. */
int dns_names_set(struct dns_names *names, const struct msg_name *info, struct dns_name **ret);
void dns_names_remove(struct dns_names *names, struct dns_name *name);
/* Adds or, when it is not active, takes away. 0, -ENOBUFS or -ENOMEM. */
int dns_names_set_pattern(struct dns_names *names, const struct msg_name *pattern);

/* What is done with a query. */
enum dns_fate {
	DNS_FATE_DROP,	  /* not a query at all */
	DNS_FATE_ANSWER,  /* `ret` is the answer */
	DNS_FATE_FORWARD, /* it is for the server that was asked */
	DNS_FATE_WAIT,	  /* a pattern covers the name, but it has no addresses yet */
	DNS_FATE_MAX
};
/* `has_v6`: the sandbox can use IPv6. `ret_q` is filled unless the fate is DROP or the answer FORMERR or NOTIMP. */
enum dns_fate dns_names_decide(const struct dns_names *names, bool has_v6, struct str msg, struct dns_question *ret_q,
			       struct dns_answer *ret);
/* The answer for a name: its virtual addresses, or "there is nothing" of other types. */
void dns_name_answer(const struct msg_name *name, bool has_v6, const struct dns_question *q, struct dns_answer *ret);
/* An answer that only tells a failure. */
void dns_fail(const struct dns_question *q, enum dns_rcode rcode, struct dns_answer *ret);
