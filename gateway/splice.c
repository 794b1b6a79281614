/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. WANTED (the agent is asked for a socket) -> CONNECTING -> OPEN -> closed. Two flows, each from
 * one socket to the other:
 *
 *   held bytes first (what was read to decide), then splice(2) through a pipe, which copies nothing
 *
 * A flow holds a pipe only while bytes are in it, so a worker needs as many pipes as it has peers that do not read. The
 * flow of a clear-text client is copied instead: its requests are looked at before they go. Both sockets are watched
 * level-triggered, for what a flow waits for and nothing else: a peer that does not read stops the other one.
 *
 * The end of one direction is passed on as such; the connection is over when both have ended. A reset is passed on as a
 * reset. There is one time limit: of silence in both directions.
 *
 * Not handled: urgent data, which splice(2) delivers in line.
 */
#include "gateway/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "common/addr.h"
#include "common/ipc.h"
#include "common/log.h"
#include "gateway/http_follow.h"
#include "gateway/peek.h"
#include "gateway/request.h"

/*
 * Rationale: the most that a user may ask for; 256 KiB cost 5 % of the throughput. Above the user's limit of pipe pages
 * (64 MiB) further pipes stay at 64 KiB or less, and work.
 */
#define PIPE_BYTES (1 << 20)
/* Pipes that are kept for the next flow that needs one. */
#define PIPES_KEPT 8
/* Of one event, before others get their turn. */
#define ROUNDS 16
/*
 * Rationale: two descriptors are counted for each connection (bound_connections()); both pipes of a spliced one may
 * be held as well.
 */
#define SPLICE_WEIGHT 2

enum splice_state { SPLICE_WANTED, SPLICE_CONNECTING, SPLICE_OPEN };

struct flow {
	int from, to;
	int pipe[2];    /* -1: none is held */
	size_t in_pipe;
	struct buf held;  /* goes before anything else */
	struct buf heads; /* of a followed flow: read, not looked at to the end yet */
	bool follow, ended, done; /* ended: no more comes; done: that was passed on */
	bool wants_in, wants_out; /* waits for bytes, or for room */
	uint64_t bytes;
};

struct splice {
	struct conn *c;
	struct splice *next; /* in gw->wanted */
	enum splice_state state;
	uint32_t token;
	int fd;
	struct watch watch;
	struct flow up, down;
	struct http_follow http;
	uint64_t moved_ns;
};

/* ------------------------------------------------------------------ pipes */

static int kept[PIPES_KEPT][2];
static unsigned n_kept;

static int pipe_get(int ret[2])
{
	if (n_kept) {
		memcpy(ret, kept[--n_kept], sizeof(kept[0]));
		return 0;
	}
	if (pipe2(ret, O_CLOEXEC | O_NONBLOCK) < 0) {
		ret[0] = ret[1] = -1;
		return -errno;
	}
	fcntl(ret[1], F_SETPIPE_SZ, PIPE_BYTES);
	return 0;
}

static void pipe_put(int p[2], bool empty)
{
	if (p[0] < 0)
		return;
	if (empty && n_kept < PIPES_KEPT) {
		memcpy(kept[n_kept++], p, sizeof(kept[0]));
	} else {
		close(p[0]);
		close(p[1]);
	}
	p[0] = p[1] = -1;
}

/* ------------------------------------------------------------------ a flow: 0, -EAGAIN (it waits), or what broke */

static int flow_send_held(struct flow *f)
{
	while (buf_len(&f->held)) {
		ssize_t n = send(f->to, buf_head(&f->held), buf_len(&f->held), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			f->wants_out = errno == EAGAIN;
			return -errno;
		}
		f->bytes += (uint64_t)n;
		buf_consume(&f->held, (size_t)n);
	}
	buf_reset(&f->held, 0);
	return 0;
}

static const char *may_go(void *arg, const struct http_head *head)
{
	return peek_follow(arg, head);
}

/* Moves what may go from `heads` to `held`. */
static int flow_look(struct splice *s, struct flow *f)
{
	const char *why = NULL;

	while (buf_len(&f->heads)) {
		int n = http_follow_next(&s->http, buf_str(&f->heads), may_go, s->c, &why);

		if (n == HTTP_MORE)
			return 0;
		if (n == HTTP_BAD) {
			peek_follow_refused(s->c, why);
			return -EACCES;
		}
		if (buf_append(&f->held, buf_head(&f->heads), (size_t)n) < 0)
			return -ENOBUFS;
		buf_consume(&f->heads, (size_t)n);
	}
	return 0;
}

static int flow_copy(struct splice *s, struct flow *f)
{
	char *scratch = s->c->gw->scratch;
	ssize_t n = recv(f->from, scratch, SCRATCH_BYTES, 0);
	bool worth;
	int err;

	if (n < 0) {
		f->wants_in = errno == EAGAIN;
		return -errno;
	}
	f->ended = !n;
	/* Of a head that comes byte by byte only the end of a line is worth another look. */
	worth = !buf_len(&f->heads) || memchr(scratch, '\n', (size_t)n);
	err = buf_append(&f->heads, scratch, (size_t)n);
	return err || !worth ? err : flow_look(s, f);
}

static int flow_fill(struct flow *f)
{
	int err = f->pipe[0] < 0 ? pipe_get(f->pipe) : 0;
	ssize_t n;

	if (err) {
		log_limited(LOG_WARN, "a connection cannot be passed on: %s; raise LimitNOFILE of the service", errno_text(err));
		return err;
	}
	n = splice(f->from, NULL, f->pipe[1], NULL, PIPE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (n < 0) {
		f->wants_in = errno == EAGAIN;
		return -errno;
	}
	f->ended = !n;
	f->in_pipe = (size_t)n;
	return 0;
}

static int flow_drain(struct flow *f)
{
	ssize_t n = splice(f->pipe[0], NULL, f->to, NULL, f->in_pipe, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

	if (n < 0) {
		f->wants_out = errno == EAGAIN;
		return -errno;
	}
	f->in_pipe -= (size_t)n;
	f->bytes += (uint64_t)n;
	return 0;
}

static int flow_step(struct splice *s, struct flow *f)
{
	if (buf_len(&f->held))
		return flow_send_held(f);
	if (f->in_pipe)
		return flow_drain(f);
	if (f->ended) {
		f->done = true;
		return shutdown(f->to, SHUT_WR) < 0 && errno != ENOTCONN ? -errno : 0;
	}
	return f->follow ? flow_copy(s, f) : flow_fill(f);
}

static int flow_run(struct splice *s, struct flow *f)
{
	uint64_t was = f->bytes;
	int err = 0;

	f->wants_in = f->wants_out = false;
	for (int i = 0; i < ROUNDS && !err && !f->done; i++)
		err = flow_step(s, f);
	if (err == -EINTR || (!err && !f->done)) {
		/* Its turn is over: what it would do next is asked for again. */
		f->wants_out = f->in_pipe || buf_len(&f->held);
		f->wants_in = !f->wants_out;
		err = 0;
	}
	if (!f->in_pipe)
		pipe_put(f->pipe, true);
	if (f->bytes != was)
		s->moved_ns = s->c->gw->loop.now_ns;
	return err == -EAGAIN ? 0 : err;
}

static void flow_init(struct flow *f, int from, int to)
{
	f->from = from;
	f->to = to;
	f->pipe[0] = f->pipe[1] = -1;
	buf_init(&f->held, HTTP_HEAD_MAX + 2 * SCRATCH_BYTES);
	buf_init(&f->heads, HTTP_HEAD_MAX + SCRATCH_BYTES);
}

static void flow_fini(struct flow *f)
{
	pipe_put(f->pipe, !f->in_pipe);
	buf_fini(&f->held);
	buf_fini(&f->heads);
}

/* ------------------------------------------------------------------ both */

/* Both peers get a reset, as the one that broke would have given it to the other. */
static void splice_reset(struct splice *s)
{
	struct linger now = { 1, 0 };
	struct conn *c = s->c;

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	if (s->fd >= 0)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	conn_close(c);
}

static void on_server(void *arg, uint32_t events);

/* Without anything to wait for, a socket that has ended would wake us for ever. */
static void splice_want(struct loop *loop, struct watch *w, int fd, uint32_t events, watch_fn fn, void *arg)
{
	if (!events)
		loop_unwatch(loop, w);
	else if (w->slot)
		loop_rewatch(loop, w, events);
	else
		loop_watch(loop, w, fd, events, fn, arg);
}

static void splice_run(struct splice *s)
{
	struct conn *c = s->c;
	int err = flow_run(s, &s->up);

	err = err ? err : flow_run(s, &s->down);
	if (err == -EACCES || (s->up.done && s->down.done)) {
		conn_close(c);
		return;
	}
	if (err) {
		log_debug("a connection that was passed on broke error=%s", errno_text(err));
		splice_reset(s);
		return;
	}
	if (s->moved_ns == c->gw->loop.now_ns)
		conn_set_deadline(c, c->gw->config->upstream.idle_timeout_ns);
	splice_want(&c->gw->loop, &c->watch, c->fd, (s->up.wants_in ? EPOLLIN : 0) | (s->down.wants_out ? EPOLLOUT : 0),
		    c->watch.fn, c);
	splice_want(&c->gw->loop, &s->watch, s->fd, (s->down.wants_in ? EPOLLIN : 0) | (s->up.wants_out ? EPOLLOUT : 0),
		    on_server, s);
}

static int socket_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 ? errno : err;
}

static void splice_broke(struct splice *s, int err)
{
	log_debug("a connection cannot be passed on error=%s", errno_text(err));
	splice_reset(s);
}

static void on_server(void *arg, uint32_t events)
{
	struct splice *s = arg;
	int err = events & EPOLLERR ? socket_error(s->fd) : 0, one = 1;

	if (err) {
		splice_broke(s, err);
		return;
	}
	if (s->state == SPLICE_CONNECTING) {
		err = socket_error(s->fd);
		if (err) {
			splice_broke(s, err);
			return;
		}
		s->state = SPLICE_OPEN;
		setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	splice_run(s);
}

void splice_event(struct conn *c, uint32_t events)
{
	struct splice *s = peek_splice(c);
	int err = events & (EPOLLERR | EPOLLHUP) ? socket_error(c->fd) : 0;

	/* Before the other side is open only the client's end matters, and nothing is read. */
	if (err || (s->state != SPLICE_OPEN && events & (EPOLLHUP | EPOLLERR)))
		splice_broke(s, err ? err : EPIPE);
	else if (s->state == SPLICE_OPEN)
		splice_run(s);
}

/* ------------------------------------------------------------------ begin and end */

static socklen_t original_address(const struct stamp *stamp, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (void *)ret;
	struct sockaddr_in6 *v6 = (void *)ret;

	memset(ret, 0, sizeof(*ret));
	if (stamp->family == AF_INET) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)stamp->orig_port);
		memcpy(&v4->sin_addr, stamp->orig_addr, 4);
		return sizeof(*v4);
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)stamp->orig_port);
	memcpy(&v6->sin6_addr, stamp->orig_addr, 16);
	return sizeof(*v6);
}

bool splice_start(struct conn *c, bool follow)
{
	static uint32_t last_token;
	struct gateway *gw = c->gw;
	struct splice *s = calloc(1, sizeof(*s));
	struct msg_socket msg = { .netns_cookie = c->stamp.netns_cookie, .family = c->stamp.family, .type = SOCK_STREAM };

	if (!s) {
		conn_close(c);
		return false;
	}
	s->c = c;
	s->fd = -1;
	s->token = msg.token = ++last_token;
	flow_init(&s->up, c->fd, -1);
	flow_init(&s->down, -1, c->fd);
	s->up.follow = follow;
	*(follow ? &s->up.heads : &s->up.held) = c->in;
	c->in = (struct buf){ 0 };
	s->next = gw->wanted;
	gw->wanted = s;
	gw->n_conns += SPLICE_WEIGHT;
	c->share->n_conns += SPLICE_WEIGHT;
	c->state = CONN_SPLICED;
	conn_set_idle(c);
	conn_hold_in(c);
	peek_set_splice(c, s);
	if (!conn_fits(c)) {
		log_limited(LOG_WARN, "a sandbox has its share of connections, one more is not passed on cgroup_id=%" PRIu64,
			    (uint64_t)c->stamp.cgroup_id);
		splice_reset(s);
		return false;
	}
	if (follow && flow_look(s, &s->up) < 0) {
		conn_close(c);
		return false;
	}
	conn_set_deadline(c, gw->config->upstream.connect_timeout_ns);
	/* Neither more bytes nor the end of them are of interest until they can go somewhere. */
	loop_rewatch(&gw->loop, &c->watch, 0);
	if (ipc_send(gw->channel, MSG_SOCKET_WANTED, 0, &msg, sizeof(msg), NULL, 0) < 0) {
		log_limited(LOG_WARN, "the agent could not be asked for a socket");
		splice_reset(s);
		return false;
	}
	return true;
}

static struct splice *wanted_take(struct gateway *gw, uint32_t token)
{
	for (struct splice **at = &gw->wanted; *at; at = &(*at)->next) {
		struct splice *s = *at;

		if (s->token != token)
			continue;
		*at = s->next;
		s->next = NULL;
		return s;
	}
	return NULL;
}

void splice_socket(struct gateway *gw, const struct msg_socket *msg, int fd)
{
	struct splice *s = wanted_take(gw, msg->token);
	struct sockaddr_storage to;
	socklen_t len;

	if (!s) {
		if (fd >= 0)
			close(fd);
		return; /* the client left meanwhile */
	}
	s->fd = fd;
	s->up.to = s->down.from = fd;
	s->state = SPLICE_CONNECTING;
	if (fd < 0) {
		splice_broke(s, msg->err ? -msg->err : EIO);
		return;
	}
	len = original_address(&s->c->stamp, &to);
	if ((connect(fd, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS) ||
	    loop_watch(&gw->loop, &s->watch, fd, EPOLLOUT, on_server, s) < 0)
		splice_broke(s, errno);
}

void splice_free(struct splice *s)
{
	struct gateway *gw = s->c->gw;

	wanted_take(gw, s->token);
	loop_unwatch(&gw->loop, &s->watch);
	if (s->fd >= 0)
		close(s->fd);
	log_debug("a connection that was passed on ended sent=%" PRIu64 " received=%" PRIu64, s->up.bytes, s->down.bytes);
	flow_fini(&s->up);
	flow_fini(&s->down);
	gw->n_conns -= SPLICE_WEIGHT;
	s->c->share->n_conns -= SPLICE_WEIGHT;
	free(s);
}
