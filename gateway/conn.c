/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/log.h"
#include "gateway/client_hello.h"
#include "gateway/h2.h"
#include "gateway/peek.h"
#include "gateway/request.h"
#include "gateway/tls_server.h"

/* Rationale: above the high mark the provider pauses; a stream's usual lag is far below it. */
#define OUT_HIGH_BYTES (256u << 10)
/* One event more than the high mark may still come in a read. */
#define OUT_MAX_BYTES (OUT_HIGH_BYTES + 4 * SCRATCH_BYTES)
/* Rationale: enough for a burst to be answered; FILES_RESERVE has room for them. More are closed without a word. */
#define REFUSED_MAX 64
/* A client that connects in order to ask has its head ready. */
#define REFUSED_HEAD_NS (2 * NSEC_PER_SEC)
/* How long a closed connection waits for the client to read the last bytes. */
#define LINGER_NS (2 * NSEC_PER_SEC)

static void on_conn(void *arg, uint32_t events);
static void conn_read_rest(struct conn *c);

/* ------------------------------------------------------------------ bytes, in clear or in TLS */

/* Bytes, 0 at the end, negative errno. */
static ssize_t conn_recv(struct conn *c, void *data, size_t n)
{
	ssize_t got;

	if (c->tls)
		return tls_read(c->tls, data, n);
	got = read(c->fd, data, n);
	return got < 0 ? -errno : got;
}

/* As many of both as it takes now, or negative errno. */
static ssize_t conn_put_tls(struct conn *c, const struct iovec iov[2])
{
	size_t sent = 0;

	for (int i = 0; i < 2; i++) {
		for (size_t at = 0; at < iov[i].iov_len;) {
			ssize_t n = tls_write(c->tls, (const char *)iov[i].iov_base + at, iov[i].iov_len - at);

			if (n < 0)
				return n == -EAGAIN && sent ? (ssize_t)sent : n;
			at += (size_t)n;
			sent += (size_t)n;
		}
	}
	return (ssize_t)sent;
}

static ssize_t conn_put(struct conn *c, struct iovec iov[2])
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t sent;

	if (c->tls)
		return conn_put_tls(c, iov);
	sent = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
	return sent < 0 ? -errno : sent;
}

static void on_kick(void *arg)
{
	conn_read_rest(arg);
}

/* Reading goes on: what the session holds decrypted brings no event. */
static void conn_kick(struct conn *c)
{
	if (c->tls && tls_pending(c->tls))
		loop_timer(&c->gw->loop, &c->kick, c->gw->loop.now_ns, on_kick, c);
}

/* ------------------------------------------------------------------ life */

static void on_deadline(void *arg)
{
	struct conn *c = arg;

	if (c->deadline_ns > c->gw->loop.now_ns) {
		loop_timer(&c->gw->loop, &c->timer, c->deadline_ns, on_deadline, c);
		return;
	}
	/* While the provider works its timeouts count; here only a client that does not read does. */
	if ((c->state == CONN_BUSY || (c->h2 && h2_is_busy(c->h2))) && !buf_len(&c->out)) {
		c->deadline_ns = c->gw->loop.now_ns + WRITE_STALL_NS;
		loop_timer(&c->gw->loop, &c->timer, c->deadline_ns, on_deadline, c);
		return;
	}
	if (c->state == CONN_HEAD && buf_len(&c->in))
		log_debug("a request's head did not come in time fd=%d", c->fd);
	if (c->forced)
		peek_timeout(c);
	if (!c->h2 || !h2_leave(c->h2))
		conn_close(c);
	else if (c->state != CONN_DEAD)
		conn_set_deadline(c, LINGER_NS);
}

/* Moves the deadline; the heap is touched only when it comes nearer. */
void conn_set_deadline(struct conn *c, uint64_t after_ns)
{
	c->deadline_ns = c->gw->loop.now_ns + after_ns;
	if (!c->timer.index || c->timer.at_ns > c->deadline_ns)
		loop_timer(&c->gw->loop, &c->timer, c->deadline_ns, on_deadline, c);
}

void conn_read_stamp(struct conn *c)
{
	struct stamp stamp;
	socklen_t len = sizeof(stamp);
	int one = 1;

	if (c->stream) {
		const struct conn *outer = h2_stream_outer(c->stream);

		conn_read_stamp(h2_stream_outer(c->stream));
		c->stamp = outer->stamp;
		c->stamped = outer->stamped;
		return;
	}
	/*
	 * The cross-check happens in the kernel when a segment of ours leaves. A client that has sent a small
	 * request on a new connection may wait for an acknowledgment that is delayed: this sends it now. Where
	 * that does not decide either (loopback acknowledges in other ways) the stamp of the connect stands:
	 * UNKNOWN is no evidence against the client, and the check goes on at its next segments.
	 */
	if (c->stamped)
		setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
	if (getsockopt(c->fd, STAMP_SOL, STAMP_GET, &stamp, &len) == 0 && len == sizeof(stamp) &&
	    stamp.version == STAMP_VERSION) {
		c->stamp = stamp;
		c->stamped = true;
	}
}

void conn_set_idle(struct conn *c)
{
	bool waits = c->state == CONN_IDLE || c->state == CONN_HEAD || c->state == CONN_PEEK ||
		     (c->state == CONN_H2 && !h2_is_busy(c->h2));

	if (waits && !c->close_after && !c->refused && !buf_len(&c->out))
		share_idle_add(c->share, &c->idle);
	else
		share_idle_remove(c->share, &c->idle);
}

bool conn_fits(const struct conn *c)
{
	struct gateway *gw = c->gw;
	struct share *victim;

	if (share_fits(c->share->n_conns, gw->config->client.max_connections, gw->n_conns))
		return true;
	victim = share_victim(&gw->shares, c->share);
	if (!victim)
		return false;
	conn_close(container_of(victim->oldest, struct conn, idle));
	return true;
}

/* Its first request is answered with the refusal, in its format. */
static void conn_refuse(struct conn *c)
{
	log_limited(LOG_WARN, "a sandbox has its share of connections cgroup_id=%llu connections=%u of=%u",
		    (unsigned long long)c->share->key, c->share->n_conns, c->gw->config->client.max_connections);
	if (c->gw->n_refused >= REFUSED_MAX) {
		conn_close(c);
		return;
	}
	c->refused = true;
	c->gw->n_refused++;
	conn_set_deadline(c, REFUSED_HEAD_NS);
}

/* Among the open ones. */
static void conn_enter(struct conn *c, struct gateway *gw, int fd)
{
	c->gw = gw;
	c->fd = fd;
	buf_init(&c->in, HTTP_HEAD_MAX + SCRATCH_BYTES);
	buf_init(&c->out, OUT_MAX_BYTES);
	c->next = gw->conns;
	if (gw->conns)
		gw->conns->prev = c;
	gw->conns = c;
	gw->n_conns++;
	c->state = CONN_HEAD;
}

struct conn *conn_open_stream(struct conn *outer, struct h2_stream *s)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c) {
		h2_stream_gone(s, true);
		return NULL;
	}
	c->stream = s;
	c->stamp = outer->stamp;
	c->stamped = outer->stamped;
	c->forced = outer->forced;
	conn_enter(c, outer->gw, -1);
	c->share = share_ref(outer->share);
	c->share->n_conns++;
	if (!conn_fits(c))
		conn_refuse(c);
	return c->state == CONN_DEAD ? NULL : c;
}

void conn_accept(struct gateway *gw, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	int one = 1;

	if (!c || loop_watch(&gw->loop, &c->watch, fd, EPOLLIN | EPOLLRDHUP, on_conn, c) < 0) {
		close(fd);
		free(c);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	conn_enter(c, gw, fd);
	conn_read_stamp(c);
	c->share = share_get(&gw->shares, c->stamped ? c->stamp.cgroup_id : 0);
	if (!c->share) {
		conn_close(c);
		return;
	}
	c->share->n_conns++;
	if (!conn_fits(c)) {
		conn_refuse(c);
		return;
	}
	conn_set_idle(c);
	conn_set_deadline(c, gw->config->client.head_timeout_ns);
	if (c->stamped && peek_is_forced(&c->stamp))
		peek_start(c);
}

/* What is kept of the client's bytes counts as held, as bodies do. */
static void conn_hold(struct conn *c, size_t n)
{
	c->gw->body_bytes += n - c->held;
	c->share->bytes += n - c->held;
	c->held = n;
}

static void conn_leave_share(struct conn *c)
{
	if (!c->share)
		return;
	conn_hold(c, 0);
	share_idle_remove(c->share, &c->idle);
	c->share->n_conns--;
	c->gw->n_refused -= c->refused;
	share_put(&c->gw->shares, TAKE_PTR(c->share));
}

void conn_close(struct conn *c)
{
	struct request *r = c->req;
	bool untouched = c->state == CONN_HEAD;

	if (c->state == CONN_DEAD)
		return;
	c->state = CONN_DEAD;
	h2_close(c->h2);
	if (c->stream)
		h2_stream_gone(TAKE_PTR(c->stream), untouched);
	loop_untimer(&c->gw->loop, &c->timer);
	loop_untimer(&c->gw->loop, &c->kick);
	loop_unwatch(&c->gw->loop, &c->watch);
	tls_free(TAKE_PTR(c->tls));
	if (c->fd < 0)
		c->forced = NULL; /* of the connection that the stream was on */
	else
		close(TAKE_FD(c->fd));
	if (r) {
		c->req = NULL;
		request_client_gone(r);
	}
	peek_free(TAKE_PTR(c->forced));
	conn_leave_share(c);
	buf_fini(&c->in);
	buf_fini(&c->out);
	if (c->prev)
		c->prev->next = c->next;
	else
		c->gw->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->next = c->gw->dead_conns;
	c->gw->dead_conns = c;
	c->gw->n_conns--;
}

void conn_reap(struct gateway *gw)
{
	while (gw->dead_conns) {
		struct conn *c = gw->dead_conns;

		gw->dead_conns = c->next;
		h2_free(c->h2);
		free(c);
	}
}

void conn_stop_idle(struct gateway *gw)
{
	struct conn *c, *next;

	for (c = gw->conns; c; c = next) {
		next = c->next;
		if (c->h2)
			h2_leave(c->h2);
		if (c->stream || c->h2)
			continue; /* a stream ends when its last byte is on its way */
		if (c->state != CONN_IDLE && (c->state != CONN_HEAD || buf_len(&c->in)))
			continue;
		if (!buf_len(&c->out) && !c->shut)
			conn_close(c);
		else
			c->close_after = true;
	}
}

bool conn_any_sending(const struct gateway *gw)
{
	for (const struct conn *c = gw->conns; c; c = c->next)
		if (buf_len(&c->out) || c->shut)
			return true;
	return false;
}

bool conn_full(const struct conn *c)
{
	return buf_len(&c->out) > OUT_HIGH_BYTES;
}

static void conn_pump(struct conn *c, struct str fresh);

/* All of `out` was taken: what waited for that goes on. */
static void conn_drained(struct conn *c)
{
	uint32_t events = c->watch.events & ~(uint32_t)EPOLLOUT;

	buf_reset(&c->out, 4096);
	if (c->state != CONN_BUSY)
		events |= EPOLLIN;
	loop_rewatch(&c->gw->loop, &c->watch, events);
	conn_set_idle(c);
	if (c->close_after && !c->req) {
		/*
		 * A reset would drop what the client has not read yet: end our side, read on and drop what it
		 * still sends, and wait a little.
		 */
		if (!c->shut)
			conn_set_deadline(c, LINGER_NS);
		if (c->tls && !c->shut)
			tls_server_end(c->tls);
		shutdown(c->fd, SHUT_WR);
		c->shut = true;
	} else if (c->state != CONN_BUSY) {
		if (buf_len(&c->in))
			conn_pump(c, STR_NULL);
		conn_kick(c);
	}
}

/* Those of a stream go by its windows. */
static int conn_wake_stream(struct conn *c)
{
	h2_stream_wake(c->stream);
	return c->state == CONN_DEAD ? -EPIPE : 0;
}

int conn_flush(struct conn *c)
{
	struct request *r = c->req;

	if (c->stream)
		return conn_wake_stream(c);
	while (buf_len(&c->out)) {
		struct iovec iov[2] = { { buf_head(&c->out), buf_len(&c->out) }, { NULL, 0 } };
		ssize_t n = conn_put(c, iov);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN) {
			conn_set_deadline(c, WRITE_STALL_NS);
			loop_rewatch(&c->gw->loop, &c->watch, c->watch.events | EPOLLOUT);
			return 0;
		}
		if (n < 0) {
			conn_close(c);
			return -EPIPE;
		}
		buf_consume(&c->out, (size_t)n);
	}
	conn_drained(c);
	if (r && c->req == r && r->paused)
		relay_resume(r);
	return 0;
}

int conn_send(struct conn *c, const void *data, size_t n)
{
	struct iovec iov[2] = { { buf_head(&c->out), buf_len(&c->out) }, { (void *)(uintptr_t)data, n } };
	size_t from_out, from_data;
	ssize_t sent;

	if (c->stream) {
		int err = buf_append(&c->out, data, n);

		return err ? err : conn_wake_stream(c);
	}
	/* While the socket is full, asking it again would cost a call and bring nothing. */
	if (c->watch.events & EPOLLOUT)
		return buf_append(&c->out, data, n);
	sent = conn_put(c, iov);
	if (sent < 0 && sent != -EAGAIN && sent != -EINTR) {
		conn_close(c);
		return -EPIPE;
	}
	sent = MAX(sent, (ssize_t)0);
	from_out = MIN((size_t)sent, iov[0].iov_len);
	from_data = (size_t)sent - from_out;
	buf_consume(&c->out, from_out);
	if (from_data == n && !buf_len(&c->out))
		return 0;
	conn_set_deadline(c, WRITE_STALL_NS);
	loop_rewatch(&c->gw->loop, &c->watch, c->watch.events | EPOLLOUT);
	return buf_append(&c->out, (const char *)data + from_data, n - from_data);
}

/* These first bytes and all that follow are HTTP/2. */
static void conn_begin_h2(struct conn *c, struct str in)
{
	h2_begin(c);
	while (in.n && c->state == CONN_H2) {
		size_t n = MIN(in.n, sizeof(c->gw->frames));

		memcpy(c->gw->frames, in.s, n);
		in = str_skip(in, n);
		h2_receive(c, (struct str){ c->gw->frames, n });
	}
}

/* One head, or a part of one, at the front of these bytes; returns how many were taken up. */
static size_t conn_parse_head(struct conn *c, struct str in)
{
	struct http_head head;
	const char *why = NULL;
	int n;

	if (!c->tls && str_starts(in, STR(TLS_FIRST_BYTE))) {
		peek_refuse_tls(c);
		return in.n;
	}
	n = http_parse_request(in, &head, &why);
	if (n == HTTP_BAD && !c->asked && h2_is_preface(in)) {
		conn_begin_h2(c, in);
		return in.n;
	}
	if (n == HTTP_BAD) {
		request_bad_head(c, why);
		return in.n;
	}
	if (n == HTTP_MORE) {
		if (c->state == CONN_IDLE) {
			c->state = CONN_HEAD;
			conn_set_deadline(c, c->gw->config->client.head_timeout_ns);
		}
		c->more = true;
		return 0;
	}
	c->asked = true;
	share_idle_remove(c->share, &c->idle);
	conn_set_deadline(c, c->gw->config->client.idle_timeout_ns); /* of the body's first bytes */
	request_head(c, &head, (struct str){ in.s, (size_t)n }, in.n > (size_t)n);
	return (size_t)n;
}

void conn_hold_in(struct conn *c)
{
	struct gateway *gw = c->gw;
	size_t n = buf_len(&c->in) + (c->h2 ? h2_held(c->h2) : 0);

	if (n == c->held)
		return;
	conn_hold(c, n);
	if ((c->state == CONN_HEAD || c->state == CONN_PEEK || c->state == CONN_H2) &&
	    !share_fits(c->share->bytes, gw->config->client.body_memory_bytes, gw->body_bytes))
		conn_close(c);
}

/*
 * Takes up what lies in `in` and what has just come, request by request, and keeps the rest in `in`. A
 * request that is answered at once comes back here through conn_request_done(): the flag makes a loop of
 * what would be a recursion as deep as the pipeline. A client that does not read its answers is asked for no
 * more requests.
 */
static void conn_pump(struct conn *c, struct str fresh)
{
	bool kept = buf_len(&c->in) > 0;

	if (c->pumping)
		return;
	if (kept && buf_append(&c->in, fresh.s, fresh.n) < 0) {
		request_bad_head(c, "the head is too long");
		return;
	}
	/* Of a head that comes byte by byte only the end of a line is worth another look. */
	if (kept && c->state == CONN_HEAD && fresh.n && !memchr(fresh.s, '\n', fresh.n)) {
		conn_hold_in(c);
		return;
	}
	c->pumping = true;
	c->more = false;
	while (c->state != CONN_DEAD && c->state != CONN_BUSY && !c->close_after && !c->more) {
		struct str in = kept ? buf_str(&c->in) : fresh;
		size_t used;

		if (!in.n || (c->state != CONN_BODY && conn_full(c)))
			break;
		used = c->state == CONN_BODY ? request_body(c->req, in.s, in.n) : conn_parse_head(c, in);
		if (c->state != CONN_DEAD && kept)
			buf_consume(&c->in, used);
		else
			fresh = str_skip(fresh, used);
	}
	c->pumping = false;
	if (!kept && c->state != CONN_DEAD && !c->close_after && buf_append(&c->in, fresh.s, fresh.n) < 0)
		request_bad_head(c, "the head is too long");
	if (c->state != CONN_DEAD)
		conn_hold_in(c);
}

void conn_request_done(struct conn *c, bool keep)
{
	c->req = NULL;
	if (c->state == CONN_DEAD)
		return;
	c->close_after |= !keep || c->gw->stopping || c->stream;
	c->state = CONN_IDLE;
	if (c->stream) {
		h2_stream_wake(c->stream);
		return;
	}
	if (c->close_after) {
		if (!buf_len(&c->out))
			conn_drained(c);
		return;
	}
	conn_set_idle(c);
	conn_set_deadline(c, c->gw->config->client.idle_timeout_ns);
	loop_rewatch(&c->gw->loop, &c->watch, c->watch.events | EPOLLIN);
	conn_kick(c);
	if (buf_len(&c->in))
		conn_pump(c, STR_NULL);
	else
		buf_reset(&c->in, 4096);
}

/* A body of known length is read to where it stays. True when that was done. */
static bool conn_read_body(struct conn *c)
{
	size_t room;
	char *to = request_body_room(c->req, &room);
	ssize_t n = to ? conn_recv(c, to, room) : 0;

	if (!to)
		return false;
	if (n == -EAGAIN || n == -EINTR)
		return true;
	if (n <= 0) {
		conn_close(c);
		return true;
	}
	conn_set_deadline(c, c->gw->config->client.idle_timeout_ns);
	c->pumping = true;
	request_body_filled(c->req, (size_t)n);
	c->pumping = false;
	return true;
}

/* The body goes straight from the socket to the request; parts of heads are collected in `in`. */
static void conn_read(struct conn *c)
{
	/* While frames are read, a request may read its provider's answer. */
	char *to = c->h2 ? c->gw->frames : c->gw->scratch;
	ssize_t n;

	if (c->state == CONN_BODY && !buf_len(&c->in) && conn_read_body(c))
		return;
	n = conn_recv(c, to, SCRATCH_BYTES);
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		conn_close(c);
		return;
	}
	if (c->shut || c->close_after)
		return; /* read and dropped until the client ends */
	if (c->state == CONN_BODY)
		conn_set_deadline(c, c->gw->config->client.idle_timeout_ns);
	if (c->h2)
		h2_receive(c, (struct str){ to, (size_t)n });
	else
		conn_pump(c, (struct str){ to, (size_t)n });
}

/* Its next request, or more of this one, is wanted now. */
static bool conn_wants(const struct conn *c)
{
	if (c->h2)
		return c->shut || c->close_after || h2_wants(c->h2);
	return c->shut || (c->state != CONN_BUSY && (c->state == CONN_BODY || c->close_after || !conn_full(c)));
}

/* What is left of a TLS record: at most 16 KiB, so this ends. */
static void conn_read_rest(struct conn *c)
{
	while (c->state != CONN_DEAD && c->tls && conn_wants(c) && tls_pending(c->tls))
		conn_read(c);
}

void conn_begin(struct conn *c)
{
	c->state = CONN_HEAD;
	conn_set_idle(c);
	conn_set_deadline(c, c->gw->config->client.head_timeout_ns);
	loop_rewatch(&c->gw->loop, &c->watch, EPOLLIN | EPOLLRDHUP);
	if (buf_len(&c->in))
		conn_pump(c, STR_NULL);
	conn_kick(c);
}

static void on_conn(void *arg, uint32_t events)
{
	struct conn *c = arg;

	if (c->state >= CONN_PEEK) {
		if (c->state != CONN_DEAD)
			peek_event(c, events);
		return;
	}
	if (events & EPOLLOUT && conn_flush(c) < 0)
		return;
	if (events & EPOLLOUT && c->h2)
		h2_flush(c->h2);
	if (c->state == CONN_DEAD)
		return;
	if (!conn_wants(c)) {
		if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
			conn_close(c);
			return;
		}
		/* Pipelined: the next request waits in the socket until this one is over. */
		if (events & EPOLLIN)
			loop_rewatch(&c->gw->loop, &c->watch, c->watch.events & ~(uint32_t)EPOLLIN);
		return;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		conn_read(c);
	conn_read_rest(c);
}
