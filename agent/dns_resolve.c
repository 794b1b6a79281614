/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Each active name has two lookups, of A and AAAA. A lookup sleeps until its timer, stands in the
 * queue of those that are due, is asked (DNS_LOOKUPS_MAX at once), and sleeps again: for the TTL of what came, within
 * bounds, or after a failure until the next server's turn. The questions leave from the host's own door to the host's
 * name servers; the agent is told each address and decides what it is good for.
 *
 * Not handled: answers that do not fit into 1232 bytes are used as far as they came.
 */
#include <errno.h>
#include <fcntl.h>

#include "agent/dns.h"
#include "common/addr.h"
#include "common/ipc.h"
#include "common/log.h"

#define TTL_MIN_S 5U
/* Rationale: how long an address that a provider has added may stay unknown. */
#define TTL_MAX_S 300U
#define NOTHING_S 60U /* no such addresses: names get them now and then */
/* Rationale: sandboxes can make up names below a wildcard; thousands that do not exist must not keep resolvers busy. */
#define ABSENT_MAX_S 3600U
#define BACKOFF_MAX_S 60U
#define TTL_TOLD_MAX_S 86400U
#define RESOLVERS_NS (10 * NSEC_PER_SEC)
#define RESOLV_CONF_BYTES 16384
/* Rationale: the agent opens the host's door before others, within a second. */
#define NO_HOST_NS (5 * NSEC_PER_SEC)

struct dns_lookup {
	TAILQ_ENTRY(dns_lookup) entry; /* of those that are due */
	struct dns *dns;
	struct dns_name *name;
	enum dns_type type;
	enum { SLEEPS, DUE, ASKED } state;
	struct dns_ask *ask;
	struct dns_question question;
	struct timer timer;
	unsigned failures, absent; /* in a row: no answer, no such name */
};

/* ------------------------------------------------------------------ the host's name servers */

static void resolver_add(struct dns *d, struct str text)
{
	struct dns_server s = { .port = d->resolver_port };

	if (d->n_resolvers < DNS_RESOLVERS_MAX && addr_parse(text, &s.family, s.addr))
		d->resolvers[d->n_resolvers++] = s;
}

static struct str word_next(struct str *line)
{
	struct str word;
	size_t n = 0;

	while (line->n && (*line->s == ' ' || *line->s == '\t'))
		*line = str_skip(*line, 1);
	while (n < line->n && line->s[n] != ' ' && line->s[n] != '\t' && line->s[n] != '\r')
		n++;
	word = (struct str){ line->s, n };
	*line = str_skip(*line, n);
	return word;
}

static void resolv_conf_read(struct dns *d)
{
	auto_close int fd = open(d->resolv_conf, O_RDONLY | O_CLOEXEC);
	char text[RESOLV_CONF_BYTES];
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text));
	struct str rest = { text, n < 0 ? 0 : (size_t)n };

	while (rest.n) {
		const char *end = memchr(rest.s, '\n', rest.n);
		struct str line = { rest.s, end ? (size_t)(end - rest.s) : rest.n };

		rest = str_skip(rest, line.n + 1);
		if (str_eq(word_next(&line), STR("nameserver")))
			resolver_add(d, word_next(&line));
	}
	/* resolv.conf(5): without one the server is on this machine. */
	if (!d->n_resolvers)
		resolver_add(d, STR("127.0.0.1"));
}

static void resolvers_update(struct dns *d)
{
	if (d->n_resolvers && d->loop.now_ns < d->resolvers_at_ns)
		return;
	d->resolvers_at_ns = d->loop.now_ns + RESOLVERS_NS;
	d->n_resolvers = 0;
	for (unsigned i = 0; i < d->config->force.n_resolvers; i++)
		resolver_add(d, d->config->force.resolvers[i]);
	if (!d->n_resolvers)
		resolv_conf_read(d);
}

/* ------------------------------------------------------------------ one lookup */

static void lookup_on_timer(void *arg);

static void lookup_sleep(struct dns_lookup *l, uint64_t seconds)
{
	struct dns *d = l->dns;

	l->state = SLEEPS;
	if (loop_timer(&d->loop, &l->timer, d->loop.now_ns + seconds * NSEC_PER_SEC, lookup_on_timer, l))
		log_err("out of memory: addresses of a provider are not followed any more name=%s", l->name->info.name);
}

/* The next server at once; when all had their turn, later and later. */
static void lookup_fail(struct dns_lookup *l, int err)
{
	unsigned n = MAX(l->dns->n_resolvers, 1U), rounds;

	if (++l->failures % n) {
		lookup_sleep(l, 0);
		return;
	}
	log_limited(LOG_WARN, "a provider's addresses cannot be found out, its last ones count until their time is over; is a name server of the host reachable? name=%s error=%s",
		    l->name->info.name, errno_text(err));
	rounds = MIN(l->failures / n, 6U);
	lookup_sleep(l, MIN(1U << rounds, BACKOFF_MAX_S));
}

/* After an answer. */
static void lookup_done(struct dns_lookup *l, const struct dns_addresses *found, uint32_t ttl_s, bool absent)
{
	uint32_t nothing_s = NOTHING_S << l->absent;

	l->failures = 0;
	l->absent = absent ? MIN(l->absent + 1, 6U) : 0;
	if (found->n)
		lookup_sleep(l, MIN(MAX(ttl_s, TTL_MIN_S), TTL_MAX_S));
	else
		lookup_sleep(l, absent ? MIN(nothing_s, ABSENT_MAX_S) : NOTHING_S);
}

/* 0 or the errno of the channel. */
static int tell_agent(const struct dns_lookup *l, const struct dns_addresses *found, uint32_t ttl_s)
{
	struct msg_address msg = { .name_id = l->name->info.name_id, .ttl_s = ttl_s };
	int err = 0;

	msg.family = l->type == DNS_A ? AF_INET : AF_INET6;
	for (unsigned i = 0; i < found->n && !err; i++) {
		memcpy(msg.addr, found->addr[i], sizeof(msg.addr));
		err = ipc_send(l->dns->channel, MSG_ADDRESS, 0, &msg, sizeof(msg), NULL, 0);
	}
	return err;
}

static void lookup_on_reply(void *arg, int err, uint8_t *reply, size_t n)
{
	struct dns_lookup *l = arg;
	struct str msg = { (char *)reply, n };
	struct dns_addresses found;
	unsigned rcode = n ? reply[3] & DNS_RCODE : 0;
	uint32_t ttl_s = 0;

	l->dns->n_lookups--;
	l->ask = NULL;
	if (!err && rcode != DNS_NOERROR && rcode != DNS_NXDOMAIN)
		err = -EREMOTEIO;
	if (!err)
		err = dns_addresses(msg, &l->question, &found);
	if (!err && !found.n && reply[2] << 8 & DNS_FLAG_TC)
		err = -EMSGSIZE;
	if (!err) {
		/* RFC 2181, 8: a TTL with the highest bit is none. */
		ttl_s = found.ttl_s & 0x80000000 ? 0 : found.ttl_s;
		err = tell_agent(l, &found, MIN(MAX(ttl_s, TTL_MIN_S), TTL_TOLD_MAX_S));
	}
	if (err)
		lookup_fail(l, err);
	else
		lookup_done(l, &found, ttl_s, rcode == DNS_NXDOMAIN);
	dns_resolve_pump(l->dns);
}

static void lookup_start(struct dns_lookup *l)
{
	struct dns *d = l->dns;
	uint8_t msg[DNS_ANSWER_BYTES];
	const struct dns_server *server;
	struct dns_side *side;
	size_t n;
	int err = -EAFNOSUPPORT;

	resolvers_update(d);
	server = &d->resolvers[l->failures % d->n_resolvers];
	side = dns_door_side(d->host, server->family);
	n = dns_query_build(str_of(l->name->info.name), l->type, 0, msg, &l->question);
	if (side && n)
		err = dns_ask_start(d, side, server, (struct str){ (char *)msg, n }, &l->question, d->lookup_timeout_ns,
				    lookup_on_reply, l, &l->ask);
	if (err) {
		lookup_fail(l, err);
		return;
	}
	l->state = ASKED;
	d->n_lookups++;
}

static void lookup_queue(struct dns_lookup *l)
{
	l->state = DUE;
	TAILQ_INSERT_TAIL(&l->dns->due, l, entry);
}

static void lookup_on_timer(void *arg)
{
	struct dns_lookup *l = arg;

	lookup_queue(l);
	dns_resolve_pump(l->dns);
}

static void lookup_stop(struct dns_lookup *l)
{
	struct dns *d = l->dns;

	loop_untimer(&d->loop, &l->timer);
	if (l->state == DUE)
		TAILQ_REMOVE(&d->due, l, entry);
	if (l->state == ASKED) {
		dns_ask_cancel(d, l->ask);
		d->n_lookups--;
	}
}

/* ------------------------------------------------------------------ names */

static void no_host_on_timer(void *arg)
{
	struct dns *d = arg;

	if (d->host || d->no_host_told)
		return;
	d->no_host_told = true;
	log_warn("providers' addresses are not followed: the host's own door is closed; set door.host to true, or connects to a provider's bare address pass by");
}

void dns_resolve_pump(struct dns *d)
{
	while (d->host && d->n_lookups < DNS_LOOKUPS_MAX && !TAILQ_EMPTY(&d->due)) {
		struct dns_lookup *l = TAILQ_FIRST(&d->due);

		TAILQ_REMOVE(&d->due, l, entry);
		lookup_start(l);
	}
}

void dns_resolve_name(struct dns *d, struct dns_name *name)
{
	static const enum dns_type types[] = { DNS_A, DNS_AAAA };

	if (name->lookups)
		return;
	name->lookups = calloc(ARRAY_SIZE(types), sizeof(*name->lookups));
	if (!name->lookups) {
		log_err("out of memory: addresses of a provider are not followed name=%s", name->info.name);
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		struct dns_lookup *l = &name->lookups[i];

		l->dns = d;
		l->name = name;
		l->type = types[i];
		lookup_queue(l);
	}
	if (!d->host && !d->no_host_told && !d->no_host_timer.index)
		loop_timer(&d->loop, &d->no_host_timer, d->loop.now_ns + NO_HOST_NS, no_host_on_timer, d);
	dns_resolve_pump(d);
}

void dns_resolve_forget(struct dns *d, struct dns_name *name)
{
	for (unsigned i = 0; name->lookups && i < 2; i++)
		lookup_stop(&name->lookups[i]);
	free(TAKE_PTR(name->lookups));
	dns_resolve_pump(d);
}
