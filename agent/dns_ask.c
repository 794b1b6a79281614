/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. An ask is one datagram to one server and the wait for its answer. It has an id that no other
 * open ask has, from the kernel's random numbers, and ends in one of three ways: an answer from the very address and
 * port that was asked, with this id and this question; an error of the network; the timeout. Anything else that
 * arrives is dropped.
 *
 * The sockets of a side live as long as its namespace, but a port that is known halves what a forger has to guess. So
 * whenever nothing is open on one, its port is given up (connect to AF_UNSPEC, which undoes the implicit bind), and the
 * next send takes a new one. A forged answer reaches one client once: nothing is kept here.
 *
 * IP_RECVERR makes the kernel report ICMP errors with the datagram that caused them, so "nobody listens there" is an
 * answer at once, as it is for a client that asks without us.
 */
#include <errno.h>
#include <sys/random.h>

#include "agent/dns.h"
#include "common/log.h"

#define IDS 65536
/* Replies of one event before others get their turn. */
#define REPLY_BATCH 64
/* Rationale: with all queries and lookups open seven ids of eight are free. */
#define ID_TRIES 64

struct dns_ask {
	LIST_ENTRY(dns_ask) entry; /* of its side */
	struct dns_side *side;
	struct dns_server server;
	const struct dns_question *question;
	uint16_t id;
	int err; /* the network's, told by the timer: never from inside dns_ask_start() */
	struct timer timer;
	dns_ask_fn fn;
	void *arg;
};

int dns_asks_init(struct dns *d)
{
	d->asks = calloc(IDS, sizeof(struct dns_ask *));
	return d->asks ? 0 : -ENOMEM;
}

void dns_asks_fini(struct dns *d)
{
	free(d->asks);
	d->asks = NULL;
}

/* 0..65535, or -EBUSY. */
static int id_take(struct dns *d)
{
	for (unsigned i = 0; i < ID_TRIES; i++) {
		if (!d->n_ids) {
			if (getrandom(d->ids, sizeof(d->ids), 0) != sizeof(d->ids))
				return -EBUSY;
			d->n_ids = ARRAY_SIZE(d->ids);
		}
		if (!d->asks[d->ids[--d->n_ids]])
			return d->ids[d->n_ids];
	}
	return -EBUSY;
}

void dns_ask_cancel(struct dns *d, struct dns_ask *ask)
{
	LIST_REMOVE(ask, entry);
	loop_untimer(&d->loop, &ask->timer);
	d->asks[ask->id] = NULL;
	free(ask);
}

static void ask_end(struct dns_ask *ask, int err, uint8_t *reply, size_t n)
{
	dns_ask_fn fn = ask->fn;
	void *arg = ask->arg;

	dns_ask_cancel(ask->side->door->dns, ask);
	fn(arg, err, reply, n);
}

static void ask_on_timer(void *arg)
{
	struct dns_ask *ask = arg;

	ask_end(ask, ask->err ? ask->err : -ETIMEDOUT, NULL, 0);
}

void dns_asks_fail(struct dns_side *side)
{
	while (!LIST_EMPTY(&side->asks))
		ask_end(LIST_FIRST(&side->asks), -ESHUTDOWN, NULL, 0);
}

/* ------------------------------------------------------------------ what arrives */

/* The kernel fills the whole of an address; the scope of a link-local one is not known to us, so those never fit. */
static bool same_server(const struct dns_server *s, const struct sockaddr_storage *from)
{
	struct sockaddr_storage expected;
	socklen_t n = dns_sockaddr(s, &expected);

	return !memcmp(from, &expected, n);
}

/* The open ask of this side that has the message's id and was sent there, or NULL. */
static struct dns_ask *ask_find(const struct dns_side *side, const uint8_t *msg, size_t n,
				const struct sockaddr_storage *server)
{
	struct dns_ask *ask = n < 2 ? NULL : side->door->dns->asks[msg[0] << 8 | msg[1]];

	return ask && ask->side == side && same_server(&ask->server, server) ? ask : NULL;
}

/* Takes the errors from the queue of the socket; the asks that caused them end in a moment. */
static void take_errors(struct dns_side *side)
{
	struct dns *d = side->door->dns;
	uint8_t head[DNS_HEADER_BYTES]; /* of the datagram that was sent */

	for (unsigned i = 0; i < REPLY_BATCH; i++) {
		struct sockaddr_storage to = { 0 };
		struct iovec iov = { head, sizeof(head) };
		struct msghdr msg = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n = recvmsg(side->ask, &msg, MSG_ERRQUEUE | MSG_DONTWAIT);
		struct dns_ask *ask = n < 0 ? NULL : ask_find(side, head, (size_t)n, &to);

		if (n < 0)
			return;
		if (!ask)
			continue;
		ask->err = -ECONNREFUSED; /* nearly always what it is */
		loop_timer(&d->loop, &ask->timer, d->loop.now_ns, ask_on_timer, ask);
	}
}

void dns_ask_on_event(void *arg, uint32_t events)
{
	/* One thread, and no message is kept: one buffer for all. */
	static uint8_t reply[DNS_MESSAGE_BYTES];
	struct dns_side *side = arg;

	if (events & EPOLLERR)
		take_errors(side);
	for (unsigned i = 0; i < REPLY_BATCH; i++) {
		struct sockaddr_storage from = { 0 };
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(side->ask, reply, sizeof(reply), MSG_DONTWAIT, (struct sockaddr *)&from, &len);
		struct dns_ask *ask;

		if (n < 0)
			return; /* nothing more, or an error that the queue tells next time */
		ask = ask_find(side, reply, (size_t)n, &from);
		if (ask && dns_answers(ask->question, ask->id, (struct str){ (char *)reply, (size_t)n }))
			ask_end(ask, 0, reply, (size_t)n);
		else
			log_debug("a datagram that answers nothing was dropped bytes=%zd", n);
	}
}

/* ------------------------------------------------------------------ what is sent */

/* 0 or negative errno. */
static int send_once(const struct dns_side *side, const struct dns_ask *ask, struct str msg)
{
	uint8_t id[2] = { (uint8_t)(ask->id >> 8), (uint8_t)ask->id };
	struct iovec iov[2] = { { id, sizeof(id) }, { (char *)(uintptr_t)msg.s + 2, msg.n - 2 } };
	struct sockaddr_storage to;
	struct msghdr m = { .msg_name = &to, .msg_iov = iov, .msg_iovlen = 2 };

	m.msg_namelen = dns_sockaddr(&ask->server, &to);
	return sendmsg(side->ask, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int ask_send(struct dns_side *side, const struct dns_ask *ask, struct str msg)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	int err;

	if (LIST_EMPTY(&side->asks) && connect(side->ask, &none, sizeof(none)) < 0)
		log_debug("a port is used for longer error=%s", errno_text(errno));
	err = send_once(side, ask, msg);
	if (!err || err == -EAGAIN)
		return err;
	/* It may be the error of an earlier datagram; with the queue empty it is of this one. */
	take_errors(side);
	return send_once(side, ask, msg);
}

int dns_ask_start(struct dns *d, struct dns_side *side, const struct dns_server *server, struct str msg,
		  const struct dns_question *q, uint64_t timeout_ns, dns_ask_fn fn, void *arg, struct dns_ask **ret)
{
	auto_free struct dns_ask *ask = calloc(1, sizeof(*ask));
	int id = id_take(d), err;

	if (!ask || id < 0)
		return ask ? id : -ENOMEM;
	*ask = (struct dns_ask){ .side = side, .server = *server, .question = q, .id = (uint16_t)id, .fn = fn, .arg = arg };
	err = ask_send(side, ask, msg);
	if (!err)
		err = loop_timer(&d->loop, &ask->timer, d->loop.now_ns + timeout_ns, ask_on_timer, ask);
	if (err)
		return err;
	d->asks[id] = ask;
	LIST_INSERT_HEAD(&side->asks, ask, entry);
	*ret = TAKE_PTR(ask);
	return 0;
}
