/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash of names, a list of patterns, and the decision: provider's names are answered here and never leave;
 * HTTPS and SVCB records above all, for they carry real addresses and keys that hide the name from the gateway.
 *
 * Another name that is an alias (CNAME) of a provider's is passed on as it comes, real addresses included:
 * whoever owns a domain can write such addresses into it anyway, with or without an alias. The kernel's suspect
 * set knows the real addresses and leads connects to them to the door.
 */
#include "agent/dns_names.h"

#include <errno.h>
#include <netinet/in.h>

#include "policy/policy.h"

#define BUCKETS 4096 /* a power of two */

/* sallyport.internal is the door: 127.0.0.1 and [::1] of every namespace that has one. */
static const struct msg_name door_name = {
	.vip4 = { 127, 0, 0, 1 }, .vip6 = { [15] = 1 }, .name = "sallyport.internal",
};
/* Firefox asks for it, and keeps to the system's resolver when there is no such name. */
#define DOH_CANARY STR("use-application-dns.net")

static struct dns_name **bucket_of(const struct dns_names *names, struct str name)
{
	uint64_t h = names->seed;

	for (size_t i = 0; i < name.n; i++) {
		h = (h ^ (unsigned char)name.s[i]) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	return &names->buckets[h & (BUCKETS - 1)];
}

int dns_names_init(struct dns_names *names, uint64_t seed)
{
	*names = (struct dns_names){ .seed = seed };
	names->buckets = calloc(BUCKETS, sizeof(struct dns_name *));
	names->patterns = calloc(DNS_PATTERNS_MAX, sizeof(*names->patterns));
	if (names->buckets && names->patterns)
		return 0;
	dns_names_fini(names);
	return -ENOMEM;
}

void dns_names_fini(struct dns_names *names)
{
	for (unsigned i = 0; names->buckets && i < BUCKETS; i++)
		while (names->buckets[i])
			dns_names_remove(names, names->buckets[i]);
	free(names->buckets);
	free(names->patterns);
	*names = (struct dns_names){ 0 };
}

struct dns_name *dns_names_find(const struct dns_names *names, struct str name)
{
	struct dns_name *n = *bucket_of(names, name);

	while (n && !str_eq(str_of(n->info.name), name))
		n = n->next;
	return n;
}

/* From the agent, but a name without its NUL would be read beyond its end. */
static bool name_valid(const struct msg_name *info)
{
	size_t n = strnlen(info->name, sizeof(info->name));

	return n > 0 && n < sizeof(info->name);
}

int dns_names_set(struct dns_names *names, const struct msg_name *info, struct dns_name **ret)
{
	struct dns_name *n, **bucket;

	if (!name_valid(info))
		return -EINVAL;
	n = dns_names_find(names, str_of(info->name));
	if (!n) {
		if (names->n >= DNS_NAMES_MAX)
			return -ENOBUFS;
		n = calloc(1, sizeof(*n));
		if (!n)
			return -ENOMEM;
		bucket = bucket_of(names, str_of(info->name));
		n->next = *bucket;
		*bucket = n;
		names->n++;
	}
	n->info = *info;
	*ret = n;
	return 0;
}

void dns_names_remove(struct dns_names *names, struct dns_name *name)
{
	struct dns_name **at = bucket_of(names, str_of(name->info.name));

	while (*at != name)
		at = &(*at)->next;
	*at = name->next;
	names->n--;
	free(name->lookups);
	free(name);
}

int dns_names_set_pattern(struct dns_names *names, const struct msg_name *pattern)
{
	unsigned i = 0;

	if (!name_valid(pattern))
		return -EINVAL;
	while (i < names->n_patterns && strcmp(names->patterns[i].name, pattern->name) != 0)
		i++;
	if (!pattern->active) {
		if (i < names->n_patterns)
			names->patterns[i] = names->patterns[--names->n_patterns];
		return 0;
	}
	if (i == DNS_PATTERNS_MAX)
		return -ENOBUFS;
	names->patterns[i] = *pattern;
	names->n_patterns = MAX(names->n_patterns, i + 1);
	return 0;
}

static bool covered(const struct dns_names *names, struct str name)
{
	for (unsigned i = 0; i < names->n_patterns; i++)
		if (policy_domain_match(str_of(names->patterns[i].name), name))
			return true;
	return false;
}

void dns_fail(const struct dns_question *q, enum dns_rcode rcode, struct dns_answer *ret)
{
	dns_answer_begin(ret, q, rcode);
	if (rcode == DNS_NXDOMAIN)
		dns_answer_soa(ret, DNS_TTL_S);
	dns_answer_end(ret, q);
}

void dns_name_answer(const struct msg_name *name, bool has_v6, const struct dns_question *q, struct dns_answer *ret)
{
	bool any = q->type == DNS_ANY, v4 = any || q->type == DNS_A, v6 = has_v6 && (any || q->type == DNS_AAAA);

	/* Other classes have no addresses of ours, and no answer of them may be anybody else's. */
	if (q->class != DNS_IN && q->class != DNS_CLASS_ANY) {
		dns_fail(q, DNS_REFUSED, ret);
		return;
	}
	dns_answer_begin(ret, q, DNS_NOERROR);
	if (v4)
		dns_answer_addr(ret, AF_INET, name->vip4, DNS_TTL_S);
	if (v6)
		dns_answer_addr(ret, AF_INET6, name->vip6, DNS_TTL_S);
	if (!v4 && !v6)
		dns_answer_soa(ret, DNS_TTL_S);
	dns_answer_end(ret, q);
}

enum dns_fate dns_names_decide(const struct dns_names *names, bool has_v6, struct str msg, struct dns_question *ret_q,
			       struct dns_answer *ret)
{
	struct dns_name *name;
	struct str text;
	bool wildcard;

	if (msg.n < DNS_HEADER_BYTES || msg.s[2] & 0x80)
		return DNS_FATE_DROP;
	/* Updates and notifications would be read differently, and no resolver of a client sends them. */
	if (msg.s[2] & 0x78) {
		dns_answer_header(ret, msg, DNS_NOTIMP);
		return DNS_FATE_ANSWER;
	}
	if (dns_parse(msg, ret_q)) {
		dns_answer_header(ret, msg, DNS_FORMERR);
		return DNS_FATE_ANSWER;
	}
	text = str_of(ret_q->name);
	name = dns_names_find(names, text);
	if (name || str_eq(text, str_of(door_name.name))) {
		dns_name_answer(name ? &name->info : &door_name, has_v6, ret_q, ret);
		return DNS_FATE_ANSWER;
	}
	/* A name that no host has, below a provider's wildcard, gets no addresses and does not go out either. */
	wildcard = covered(names, text);
	if (wildcard && ret_q->plain)
		return DNS_FATE_WAIT;
	if (wildcard || str_eq(text, DOH_CANARY)) {
		dns_fail(ret_q, DNS_NXDOMAIN, ret);
		return DNS_FATE_ANSWER;
	}
	return DNS_FATE_FORWARD;
}
