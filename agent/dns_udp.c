/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that ask by datagram. Most queries are answered or passed on at once; one that waits, for a server or for
 * the agent, is a struct dns_query, and ends with an answer to the client or, when the server is silent, without a
 * word: as if we were not there. The server's answer goes back as it came, truncated ones included; only the id is
 * the client's again.
 */
#include <errno.h>

#include "agent/dns.h"
#include "common/log.h"

/* Rationale: a query of a name has some 60 bytes, cookies and padding included 500; EDNS sizes are about answers. */
#define QUERY_BYTES 4096
/* Queries of one event before others get their turn. */
#define QUERY_BATCH 32

struct dns_query {
	LIST_ENTRY(dns_query) entry; /* of its door */
	struct dns_side *side;
	struct sockaddr_storage client;
	socklen_t client_len;
	struct dns_question question;
	struct dns_ask *ask;	  /* or */
	struct dns_waiter waiter; /* one of both */
};

static void reply(const struct dns_query *query, const void *data, size_t n)
{
	/* A client that is gone, or a full socket of one that does not read: it asks again or does not care. */
	if (sendto(query->side->udp, data, n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&query->client,
		   query->client_len) < 0)
		log_debug("an answer could not be handed over error=%s", errno_text(errno));
}

static void reply_failure(const struct dns_query *query, enum dns_rcode rcode)
{
	struct dns_answer answer;

	dns_fail(&query->question, rcode, &answer);
	reply(query, answer.bytes, answer.n);
}

void dns_query_free(struct dns_query *query)
{
	struct dns_door *door = query->side->door;

	if (query->ask)
		dns_ask_cancel(door->dns, query->ask);
	dns_unwant(&query->waiter);
	LIST_REMOVE(query, entry);
	door->n_queries--;
	door->dns->n_queries--;
	free(query);
}

static void query_on_reply(void *arg, int err, uint8_t *msg, size_t n)
{
	struct dns_query *query = arg;

	query->ask = NULL;
	if (!err) {
		msg[0] = (uint8_t)(query->question.id >> 8);
		msg[1] = (uint8_t)query->question.id;
		reply(query, msg, n);
	} else if (err != -ETIMEDOUT) {
		reply_failure(query, DNS_SERVFAIL);
	}
	dns_query_free(query);
}

static void query_on_name(void *arg, const struct dns_name *name)
{
	struct dns_query *query = arg;
	struct dns_answer answer;

	if (name)
		dns_name_answer(&name->info, query->side->door->has_v6, &query->question, &answer);
	else
		dns_fail(&query->question, DNS_SERVFAIL, &answer);
	reply(query, answer.bytes, answer.n);
	dns_query_free(query);
}

/* A copy that can wait, counted; NULL: too many. */
static struct dns_query *query_keep(const struct dns_query *now)
{
	struct dns_door *door = now->side->door;
	struct dns *d = door->dns;
	struct dns_query *query = NULL;

	if (door->n_queries < DNS_DOOR_QUERIES_MAX && d->n_queries < DNS_QUERIES_MAX)
		query = malloc(sizeof(*query));
	if (!query) {
		log_limited(LOG_WARN, "too many names are asked for at once; one is refused in_namespace=%u in_all=%u",
			    door->n_queries, d->n_queries);
		return NULL;
	}
	*query = *now;
	query->waiter = (struct dns_waiter){ .fn = query_on_name, .arg = query };
	LIST_INSERT_HEAD(&door->queries, query, entry);
	door->n_queries++;
	d->n_queries++;
	return query;
}

static void query_forward(const struct dns_query *now, const struct dns_server *server, struct str msg)
{
	struct dns_side *from = dns_door_side(now->side->door, server->family);
	struct dns *d = now->side->door->dns;
	struct dns_query *query = from ? query_keep(now) : NULL;
	int err = query ? dns_ask_start(d, from, server, msg, &query->question, d->query_timeout_ns, query_on_reply,
					query, &query->ask) :
			  -EBUSY;

	if (!err)
		return;
	/* No network, or nobody there: said at once, so the client need not wait for its own timeout. */
	reply_failure(now, DNS_SERVFAIL);
	if (query)
		dns_query_free(query);
}

static void query_wait(const struct dns_query *now, uint64_t asker)
{
	struct dns_query *query = query_keep(now);

	if (query && !dns_want(query->side->door->dns, asker, str_of(query->question.name), &query->waiter))
		return;
	reply_failure(now, DNS_SERVFAIL);
	if (query)
		dns_query_free(query);
}

static void on_query(struct dns_query *now, struct str msg)
{
	const struct sockaddr_in *v4 = (const void *)&now->client;
	const struct sockaddr_in6 *v6 = (const void *)&now->client;
	uint16_t port = ntohs(now->client.ss_family == AF_INET ? v4->sin_port : v6->sin6_port);
	struct dns_door *door = now->side->door;
	struct dns_answer answer;
	struct dns_server server;
	uint16_t id = msg.n < 2 ? 0 : (uint16_t)((unsigned char)msg.s[0] << 8 | (unsigned char)msg.s[1]);

	if (!dns_server_asked(door->dns, now->side->udp, STAMP_DATAGRAM(port, id), &server))
		return;
	switch (dns_names_decide(&door->dns->names, door->has_v6, msg, &now->question, &answer)) {
	case DNS_FATE_ANSWER:
		reply(now, answer.bytes, answer.n);
		break;
	case DNS_FATE_FORWARD:
		query_forward(now, &server, msg);
		break;
	case DNS_FATE_WAIT:
		query_wait(now, server.asker);
		break;
	case DNS_FATE_DROP:
	case DNS_FATE_MAX:
		break;
	}
}

void dns_udp_on_event(void *arg, uint32_t events)
{
	struct dns_query now = { .side = arg };
	char msg[QUERY_BYTES];

	(void)events;
	for (unsigned i = 0; i < QUERY_BATCH; i++) {
		ssize_t n;

		now.client_len = sizeof(now.client);
		n = recvfrom(now.side->udp, msg, sizeof(msg), MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&now.client,
			     &now.client_len);
		if (n < 0)
			return;
		if ((size_t)n <= sizeof(msg))
			on_query(&now, (struct str){ msg, (size_t)n });
	}
}
