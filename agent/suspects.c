/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/suspects.h"

#include <arpa/inet.h>
#include <errno.h>

#include "agent/maps.h"
#include "agent/names.h"
#include "agent/rules.h"
#include "common/addr.h"
#include "common/log.h"
#include "policy/policy.h"

/* Rationale: each is looked at when an address comes; far more than providers have. */
#define SUSPECTS_MAX 16384
#define SWEEP_NS     (30 * NSEC_PER_SEC)
/* Rationale: a clumsy zone says 0; clients keep an address for longer. */
#define TTL_MIN_S 60
#define TTL_MAX_S 86400

struct suspect {
	struct gate_suspect_key key;
	uint32_t name_id;
	uint64_t until_ns; /* monotonic; counts unless is_network */
	bool is_network;   /* of the policy in force: stays, also when a name has the same address for a while */
};

struct suspects {
	struct suspect *list;
	unsigned n;
	struct timer timer;
};

static struct suspect *suspect_find(struct suspects *s, const struct gate_suspect_key *key)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!memcmp(&s->list[i].key, key, sizeof(*key)))
			return &s->list[i];
	return NULL;
}

static struct suspect *suspect_add(struct agent *a, const struct gate_suspect_key *key, uint32_t name_id)
{
	struct suspects *s = a->suspects;

	if (s->n == SUSPECTS_MAX || maps_suspect_set(&a->bpf, key, name_id)) {
		log_limited(LOG_ERR, "an address of a provider cannot be watched: there are too many");
		return NULL;
	}
	s->list[s->n] = (struct suspect){ .key = *key, .name_id = name_id };
	return &s->list[s->n++];
}

static void suspect_remove(struct agent *a, struct suspect *x)
{
	struct suspects *s = a->suspects;

	maps_suspect_remove(&a->bpf, &x->key);
	*x = s->list[--s->n];
}

/* v4 as ::ffff:a.b.c.d, as the kernel looks it up. */
static struct gate_suspect_key key_of(int family, const uint8_t *addr, unsigned bits)
{
	struct gate_suspect_key key = { .bits = bits };

	if (family == AF_INET) {
		key.bits = bits + 96;
		key.addr[2] = htonl(0xffff);
		memcpy(&key.addr[3], addr, 4);
	} else {
		memcpy(key.addr, addr, sizeof(key.addr));
	}
	return key;
}

/* ---------------------------------------------------------------- names' addresses */

static bool in_pool(struct str pool, int family, const uint8_t *addr)
{
	struct addr_prefix p;

	if (!addr_prefix_parse(pool, &p) || p.family != family)
		return false;
	for (unsigned bit = 0; bit < p.bits; bit++)
		if ((p.addr[bit / 8] ^ addr[bit / 8]) & (0x80 >> bit % 8))
			return false;
	return true;
}

/* A name server that lies must not make us lead what never leaves the host. */
static bool possible(const struct agent *a, int family, const uint8_t *addr)
{
	struct in6_addr v6;

	if (family == AF_INET)
		return addr[0] && addr[0] != 127 && addr[0] < 224 && !(addr[0] == 169 && addr[1] == 254) &&
		       !in_pool(a->config->force.vip4, family, addr);
	if (family != AF_INET6)
		return false;
	memcpy(&v6, addr, sizeof(v6));
	return !IN6_IS_ADDR_UNSPECIFIED(&v6) && !IN6_IS_ADDR_LOOPBACK(&v6) && !IN6_IS_ADDR_MULTICAST(&v6) &&
	       !IN6_IS_ADDR_LINKLOCAL(&v6) && !IN6_IS_ADDR_V4MAPPED(&v6) && !in_pool(a->config->force.vip6, family, addr);
}

void suspects_learn(struct agent *a, const struct msg_address *found)
{
	struct suspects *s = a->suspects;
	const char *name = names_get(a, found->name_id);
	uint64_t ttl_s = MIN(MAX(found->ttl_s, (uint32_t)TTL_MIN_S), (uint32_t)TTL_MAX_S);
	struct gate_suspect_key key;
	char text[ADDR_TEXT_BYTES];
	struct suspect *x;

	if (!s || !name)
		return;
	if (!possible(a, (int)found->family, found->addr)) {
		log_limited(LOG_WARN, "an address of a provider's name is none that it can have, and is not watched name=%s address=%s",
			    name, addr_text((int)found->family, found->addr, text));
		return;
	}
	key = key_of((int)found->family, found->addr, found->family == AF_INET ? 32 : 128);
	x = suspect_find(s, &key);
	if (!x) {
		x = suspect_add(a, &key, found->name_id);
		log_debug("a provider's address name=%s address=%s ttl=%u", name,
			  addr_text((int)found->family, found->addr, text), found->ttl_s);
	}
	if (x)
		x->until_ns = MAX(x->until_ns, a->loop.now_ns + ttl_s * NSEC_PER_SEC + a->config->force.address_grace_ns);
}

/* ---------------------------------------------------------------- networks of the policy */

static void network_add(struct agent *a, struct str cidr)
{
	struct addr_prefix p;
	struct gate_suspect_key key;
	struct suspect *x;

	if (!addr_prefix_parse(cidr, &p))
		return;
	key = key_of(p.family, p.addr, p.bits);
	x = suspect_find(a->suspects, &key);
	if (!x)
		x = suspect_add(a, &key, 0);
	if (x)
		x->is_network = true;
}

void suspects_apply_policy(struct agent *a)
{
	const struct policy *p = rules_policy(a);
	struct suspects *s = a->suspects;

	if (!s || !p)
		return;
	for (unsigned i = 0; i < s->n; i++)
		s->list[i].is_network = false;
	for (unsigned i = 0; i < policy_n_providers(p); i++) {
		const struct policy_provider *pp = policy_provider(p, i);

		for (unsigned c = 0; !pp->disabled && c < pp->n_cidrs; c++)
			network_add(a, pp->cidrs[c]);
	}
	for (unsigned i = s->n; i-- > 0;)
		if (!s->list[i].is_network && s->list[i].until_ns < a->loop.now_ns)
			suspect_remove(a, &s->list[i]);
}

/* ---------------------------------------------------------------- life */

static void on_sweep(void *arg)
{
	struct agent *a = arg;
	struct suspects *s = a->suspects;

	loop_timer(&a->loop, &s->timer, a->loop.now_ns + SWEEP_NS, on_sweep, a);
	for (unsigned i = s->n; i-- > 0;)
		if (!s->list[i].is_network && s->list[i].until_ns < a->loop.now_ns)
			suspect_remove(a, &s->list[i]);
}

/* Nothing opens at a restart: what was suspect stays so until it was asked for again. */
static void suspect_adopt(void *arg, const struct gate_suspect_key *key, uint32_t name_id)
{
	struct agent *a = arg;
	struct suspects *s = a->suspects;

	if (s->n == SUSPECTS_MAX)
		return;
	s->list[s->n++] = (struct suspect){ .key = *key,
					    .name_id = name_id,
					    .until_ns = a->loop.now_ns + TTL_MIN_S * NSEC_PER_SEC +
							a->config->force.address_grace_ns };
}

int suspects_init(struct agent *a)
{
	a->suspects = calloc(1, sizeof(*a->suspects));
	if (a->suspects)
		a->suspects->list = calloc(SUSPECTS_MAX, sizeof(*a->suspects->list));
	if (!a->suspects || !a->suspects->list)
		return -ENOMEM;
	maps_suspect_each(&a->bpf, suspect_adopt, a);
	return loop_timer(&a->loop, &a->suspects->timer, a->loop.now_ns + SWEEP_NS, on_sweep, a);
}

void suspects_fini(struct agent *a)
{
	if (!a->suspects)
		return;
	loop_untimer(&a->loop, &a->suspects->timer);
	free(a->suspects->list);
	free(a->suspects);
	a->suspects = NULL;
}

unsigned suspects_count(const struct agent *a)
{
	return a->suspects ? a->suspects->n : 0;
}
