/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A client's connection has one server, the one it asked, and at most one connection there. Each
 * message of the client is looked at: what concerns providers is answered here, the rest is passed on; pipelining
 * costs nothing extra. What the server sends goes back as it comes; its frames are counted only, so that our own
 * answers fall between them.
 *
 *   NONE -> WANTED (a socket of the namespace, from the agent) -> CONNECTING -> OPEN -> NONE (the server closed, idle)
 *                       |                            |             |
 *                       +-----------> FAILED <-------+             +-> ending (it closed with answers outstanding)
 *
 * A message stays in `in` until it can be dealt with: while a name is waited for, while the server's connection opens,
 * while the other side does not take what it was sent. FAILED answers SERVFAIL. An ending connection sends what it has
 * and closes, as the server did. Without a whole message either way for conn_idle_ns it is closed.
 */
#include <errno.h>

#include "agent/dns.h"
#include "common/buf.h"
#include "common/ipc.h"
#include "common/log.h"

/* Rationale: as for datagrams; and its length in front. */
#define QUERY_BYTES (2 + 4096)
#define OUT_BYTES   16384
/* Rationale: what a client may have open with its server before we wait for answers. */
#define UNANSWERED_MAX	64
#define ACCEPT_BATCH	16
#define ACCEPT_PAUSE_NS (50 * NSEC_PER_MSEC)

enum up_state { UP_NONE, UP_WANTED, UP_CONNECTING, UP_OPEN, UP_FAILED };

/* Where in the stream of length-prefixed messages we are. */
struct frames {
	unsigned n_prefix; /* bytes of the length that were seen; 2: the message itself runs */
	size_t left;	   /* of the message */
};

struct dns_conn {
	LIST_ENTRY(dns_conn) entry; /* of its door */
	struct dns_door *door;
	struct dns_server server;
	int fd, up; /* the client's, the server's or -1 */
	struct watch watch, up_watch;
	struct timer idle_timer, up_timer;
	struct buf in, out, up_out;
	struct frames frames; /* of the server */
	enum up_state state;
	uint32_t token;
	unsigned unanswered;
	bool eof, ending;
	struct dns_waiter waiter;
};

static void conn_run(struct dns_conn *c);

/* Counts the messages that end in these bytes. */
static unsigned frames_count(struct frames *f, const uint8_t *data, size_t n)
{
	unsigned ended = 0;

	while (n) {
		size_t step = 1;

		if (f->n_prefix < 2) {
			f->left = f->left << 8 | *data;
			f->n_prefix++;
		} else {
			step = MIN(n, f->left);
			f->left -= step;
		}
		data += step;
		n -= step;
		if (f->n_prefix == 2 && !f->left) {
			f->n_prefix = 0;
			ended++;
		}
	}
	return ended;
}

static bool frames_between(const struct frames *f)
{
	return !f->n_prefix;
}

/* The first whole message of the client's. */
static bool message_next(const struct buf *in, struct str *ret)
{
	const uint8_t *p = (const uint8_t *)in->data + in->start;
	size_t n = buf_len(in);

	if (n < 2 || n - 2 < ((size_t)p[0] << 8 | p[1]))
		return false;
	*ret = (struct str){ (const char *)p + 2, (size_t)p[0] << 8 | p[1] };
	return true;
}

/* ------------------------------------------------------------------ life */

static void conn_on_idle(void *arg)
{
	dns_conn_free(arg);
}

static void conn_touch(struct dns_conn *c)
{
	struct dns *d = c->door->dns;

	loop_timer(&d->loop, &c->idle_timer, d->loop.now_ns + d->conn_idle_ns, conn_on_idle, c);
}

static void up_close(struct dns_conn *c, enum up_state next)
{
	struct dns *d = c->door->dns;

	loop_untimer(&d->loop, &c->up_timer);
	loop_unwatch(&d->loop, &c->up_watch);
	if (c->up >= 0)
		close(TAKE_FD(c->up));
	buf_reset(&c->up_out, 0);
	c->state = next;
}

void dns_conn_free(struct dns_conn *c)
{
	struct dns *d = c->door->dns;

	up_close(c, UP_NONE);
	dns_unwant(&c->waiter);
	loop_untimer(&d->loop, &c->idle_timer);
	loop_unwatch(&d->loop, &c->watch);
	close(c->fd);
	buf_fini(&c->in);
	buf_fini(&c->out);
	buf_fini(&c->up_out);
	LIST_REMOVE(c, entry);
	c->door->n_conns--;
	d->n_conns--;
	free(c);
}

/* ------------------------------------------------------------------ the server's side */

static void up_fail(struct dns_conn *c)
{
	/* What was sent there has no answer any more; what was not gets SERVFAIL. */
	c->ending |= c->unanswered > 0;
	up_close(c, UP_FAILED);
}

static void up_on_timer(void *arg)
{
	struct dns_conn *c = arg;

	up_fail(c);
	conn_run(c);
}

static void up_want(struct dns_conn *c)
{
	struct dns *d = c->door->dns;
	struct msg_socket msg = { .netns_cookie = c->door->info.netns_cookie, .token = ++d->last_token,
				  .family = (uint32_t)c->server.family, .type = SOCK_STREAM };

	c->token = msg.token;
	c->state = UP_WANTED;
	if (ipc_send(d->channel, MSG_SOCKET_WANTED, 0, &msg, sizeof(msg), NULL, 0) ||
	    loop_timer(&d->loop, &c->up_timer, d->loop.now_ns + d->connect_timeout_ns, up_on_timer, c))
		up_fail(c);
}

/* Passes bytes on; returns false when the connection is gone. */
static bool up_read(struct dns_conn *c, uint32_t events)
{
	size_t room = c->out.max - buf_len(&c->out);
	char *to = room ? buf_reserve(&c->out, MIN(room, (size_t)OUT_BYTES / 2)) : NULL;
	ssize_t n = to ? recv(c->up, to, MIN(room, (size_t)OUT_BYTES / 2), MSG_DONTWAIT) : -1;
	unsigned ended;

	/* A reset is told until the socket is closed: nothing is read any more when there is no room for it. */
	if (!to)
		return !(events & (EPOLLHUP | EPOLLERR));
	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	ended = frames_count(&c->frames, (uint8_t *)to, (size_t)n);
	buf_commit(&c->out, (size_t)n);
	/* A transfer of a zone is many messages for one query. */
	c->unanswered -= MIN(ended, c->unanswered);
	if (ended)
		conn_touch(c);
	return true;
}

static void up_on_event(void *arg, uint32_t events)
{
	struct dns_conn *c = arg;
	struct dns *d = c->door->dns;
	int err = 0;
	socklen_t len = sizeof(err);

	if (c->state == UP_CONNECTING) {
		if (getsockopt(c->up, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err) {
			up_fail(c);
		} else {
			loop_untimer(&d->loop, &c->up_timer);
			c->state = UP_OPEN;
		}
	} else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !up_read(c, events)) {
		c->ending |= c->unanswered > 0 || !frames_between(&c->frames);
		up_close(c, UP_NONE);
	}
	conn_run(c);
}

static void up_connect(struct dns_conn *c)
{
	struct dns *d = c->door->dns;
	struct sockaddr_storage to;
	socklen_t len = dns_sockaddr(&c->server, &to);

	c->state = UP_CONNECTING;
	c->frames = (struct frames){ 0 };
	if ((connect(c->up, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS) ||
	    loop_watch(&d->loop, &c->up_watch, c->up, EPOLLOUT, up_on_event, c))
		up_fail(c);
}

void dns_tcp_on_socket(struct dns *d, const struct msg_socket *msg, int *fd)
{
	struct dns_door *door = dns_door_find(d, msg->netns_cookie);
	struct dns_conn *c = door ? LIST_FIRST(&door->conns) : NULL;

	while (c && (c->state != UP_WANTED || c->token != msg->token))
		c = LIST_NEXT(c, entry);
	if (!c)
		return; /* it is gone meanwhile */
	c->up = TAKE_FD(*fd);
	if (c->up < 0)
		up_fail(c);
	else
		up_connect(c);
	conn_run(c);
}

/* ------------------------------------------------------------------ the client's messages */

static void conn_answer(struct dns_conn *c, const struct dns_answer *a)
{
	uint8_t len[2] = { (uint8_t)(a->n >> 8), (uint8_t)a->n };

	if (buf_append(&c->out, len, sizeof(len)) || buf_append(&c->out, a->bytes, a->n))
		c->ending = true; /* a client that got half an answer gets no more */
}

static void conn_consume(struct dns_conn *c, struct str msg)
{
	buf_consume(&c->in, 2 + msg.n);
	conn_touch(c);
}

/* True: the message was taken. */
static bool conn_forward(struct dns_conn *c, struct str msg, const struct dns_question *q)
{
	struct dns_answer answer;

	if (c->state == UP_FAILED || !dns_door_side(c->door, c->server.family)) {
		dns_fail(q, DNS_SERVFAIL, &answer);
		conn_answer(c, &answer);
		return true;
	}
	if (c->state == UP_NONE)
		up_want(c);
	if (c->state != UP_OPEN || c->unanswered >= UNANSWERED_MAX || buf_append(&c->up_out, msg.s - 2, msg.n + 2))
		return c->state == UP_FAILED && conn_forward(c, msg, q);
	c->unanswered++;
	return true;
}

/* The message that waits is the first one in `in` still. */
static void conn_on_name(void *arg, const struct dns_name *name)
{
	struct dns_conn *c = arg;
	struct dns_question q;
	struct dns_answer answer;
	struct str msg;

	if (!message_next(&c->in, &msg) || dns_parse(msg, &q))
		return;
	if (name)
		dns_name_answer(&name->info, c->door->has_v6, &q, &answer);
	else
		dns_fail(&q, DNS_SERVFAIL, &answer);
	conn_answer(c, &answer);
	conn_consume(c, msg);
	conn_run(c);
}

/* Deals with the client's next message; false: there is none, or it must wait. */
static bool conn_step(struct dns_conn *c)
{
	struct dns *d = c->door->dns;
	struct dns_question q;
	struct dns_answer answer;
	struct str msg;
	bool taken = true;

	if (c->ending || c->waiter.want || !message_next(&c->in, &msg) || !frames_between(&c->frames) ||
	    c->out.max - buf_len(&c->out) < sizeof(answer))
		return false;
	switch (dns_names_decide(&d->names, c->door->has_v6, msg, &q, &answer)) {
	case DNS_FATE_ANSWER:
		conn_answer(c, &answer);
		break;
	case DNS_FATE_FORWARD:
		taken = conn_forward(c, msg, &q);
		break;
	case DNS_FATE_WAIT:
		taken = dns_want(d, c->server.asker, str_of(q.name), &c->waiter) != 0;
		if (taken) {
			dns_fail(&q, DNS_SERVFAIL, &answer);
			conn_answer(c, &answer);
		}
		break;
	case DNS_FATE_DROP:
	case DNS_FATE_MAX:
		c->ending = true;
		break;
	}
	if (taken)
		conn_consume(c, msg);
	return taken;
}

/* False: the connection is broken. */
static bool flush(int fd, struct buf *out)
{
	ssize_t n;

	if (!buf_len(out))
		return true;
	n = send(fd, buf_head(out), buf_len(out), MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		buf_consume(out, (size_t)n);
	return n >= 0 || errno == EAGAIN;
}

static void conn_watch(struct dns_conn *c)
{
	struct loop *l = &c->door->dns->loop;
	struct str msg;
	bool want_in = !c->eof && !c->ending && !message_next(&c->in, &msg);
	bool up_room = buf_len(&c->out) < c->out.max / 2;

	loop_rewatch(l, &c->watch, (want_in ? EPOLLIN : 0) | (buf_len(&c->out) ? EPOLLOUT : 0));
	if (c->state == UP_OPEN)
		loop_rewatch(l, &c->up_watch, (up_room ? EPOLLIN : 0) | (buf_len(&c->up_out) ? EPOLLOUT : 0));
}

/* After anything that happened; may free the connection. */
static void conn_run(struct dns_conn *c)
{
	struct str msg;
	bool idle;

	while (conn_step(c))
		continue;
	if (c->state == UP_OPEN && !flush(c->up, &c->up_out))
		up_fail(c);
	idle = !c->unanswered && !message_next(&c->in, &msg);
	if (!flush(c->fd, &c->out) || (!buf_len(&c->out) && (c->ending || (c->eof && idle))))
		dns_conn_free(c);
	else
		conn_watch(c);
}

static void conn_on_event(void *arg, uint32_t events)
{
	struct dns_conn *c = arg;
	size_t room = c->in.max - buf_len(&c->in);
	char *to = events & EPOLLIN && room ? buf_reserve(&c->in, room) : NULL;
	ssize_t n = to ? recv(c->fd, to, room, MSG_DONTWAIT) : -1;

	/* No room for the rest of a message: it is too long. */
	if ((to && n < 0 && errno != EAGAIN) || events & (EPOLLERR | EPOLLHUP) || (events & EPOLLIN && !room)) {
		dns_conn_free(c);
		return;
	}
	if (n > 0)
		buf_commit(&c->in, (size_t)n);
	c->eof |= n == 0;
	conn_run(c);
}

/* ------------------------------------------------------------------ accepting */

static int conn_new(struct dns_side *side, int *fd)
{
	struct dns_door *door = side->door;
	struct dns *d = door->dns;
	auto_free struct dns_conn *c = calloc(1, sizeof(*c));

	if (!c || !dns_server_asked(d, *fd, STAMP_GET, &c->server))
		return -EACCES;
	c->door = door;
	c->up = -1;
	c->waiter = (struct dns_waiter){ .fn = conn_on_name, .arg = c };
	buf_init(&c->in, QUERY_BYTES);
	buf_init(&c->out, OUT_BYTES);
	buf_init(&c->up_out, 2 * QUERY_BYTES);
	if (loop_watch(&d->loop, &c->watch, *fd, EPOLLIN, conn_on_event, c))
		return -ENOMEM;
	c->fd = TAKE_FD(*fd);
	LIST_INSERT_HEAD(&door->conns, c, entry);
	door->n_conns++;
	d->n_conns++;
	conn_touch(c);
	TAKE_PTR(c);
	return 0;
}

static void accept_resume(void *arg)
{
	struct dns_door *door = arg;

	for (unsigned i = 0; i < ARRAY_SIZE(door->sides); i++)
		loop_rewatch(&door->dns->loop, &door->sides[i].tcp_watch, EPOLLIN);
}

/* Too many: the backlog holds the others for a moment. */
static void accept_pause(struct dns_door *door)
{
	struct loop *l = &door->dns->loop;

	for (unsigned i = 0; i < ARRAY_SIZE(door->sides); i++)
		loop_rewatch(l, &door->sides[i].tcp_watch, 0);
	loop_timer(l, &door->accept_timer, l->now_ns + ACCEPT_PAUSE_NS, accept_resume, door);
}

void dns_tcp_on_event(void *arg, uint32_t events)
{
	struct dns_side *side = arg;
	struct dns_door *door = side->door;

	(void)events;
	for (unsigned i = 0; i < ACCEPT_BATCH; i++) {
		auto_close int fd = -1;

		if (door->n_conns >= DNS_DOOR_CONNS_MAX || door->dns->n_conns >= DNS_CONNS_MAX) {
			accept_pause(door);
			return;
		}
		fd = accept4(side->tcp, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS))
			accept_pause(door);
		if (fd < 0 || conn_new(side, &fd))
			return;
	}
}
