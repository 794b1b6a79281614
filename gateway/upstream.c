/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A connection goes RESOLVING -> CONNECTING -> (PROXY) -> (TLS) -> BUSY; BUSY and IDLE
 * alternate while it is reused. Addresses are tried in order within one connect timeout, which they share: one
 * that swallows everything leaves time for the others. An idle
 * connection stays watched: any event on it closes it. Closing takes it off the lists at once; the memory
 * is freed after the batch, since a stale event may still name it.
 */
#include "gateway/upstream.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/log.h"
#include "gateway/http_msg.h"

/* Rationale: providers close idle connections after a minute or more; we are first, so that no request
 * meets a connection that is being closed. */
#define IDLE_NS      (50 * NSEC_PER_SEC)
#define ADDRS_TTL_NS (30 * NSEC_PER_SEC)

enum upstream_state { UP_RESOLVING, UP_CONNECTING, UP_PROXY, UP_TLS, UP_BUSY, UP_IDLE, UP_DEAD };

struct endpoint {
	struct endpoint *next;
	char host[256];
	uint16_t port;
	bool tls;
	struct upstream_conn *idle; /* newest first */
	unsigned n_idle;
	struct resolved addrs;
	uint64_t addrs_until_ns;
};

struct upstream {
	struct loop *loop;
	const struct config *config;
	struct tls_context *tls;
	struct resolver *resolver;
	struct endpoint *endpoints;
	struct upstream_conn *dead;
};

struct upstream_conn {
	struct upstream *u;
	struct endpoint *ep;
	enum upstream_state state;
	int fd;
	struct watch watch;
	struct timer timer; /* of one address, then idle */
	uint64_t deadline_ns; /* connect timeout */
	struct tls *tls;
	const struct upstream_events *events;
	void *arg;
	struct upstream_conn *prev, *next; /* in the idle list; next in the dead list */
	struct resolved addrs;
	unsigned addr; /* the one being tried */
	uint64_t idle_until_ns;
	struct buf proxy; /* answer of the proxy */
	char why[256];
};

int upstream_new(struct loop *loop, const struct config *config, struct tls_context *tls, struct upstream **ret)
{
	struct upstream *u = calloc(1, sizeof(*u));
	int err;

	if (!u)
		return -ENOMEM;
	u->loop = loop;
	u->config = config;
	u->tls = tls;
	err = resolver_new(loop, &u->resolver);
	if (err) {
		free(u);
		return err;
	}
	*ret = u;
	return 0;
}

static struct endpoint *endpoint_get(struct upstream *u, struct str host, uint16_t port, bool tls)
{
	struct endpoint *ep;

	for (ep = u->endpoints; ep; ep = ep->next)
		if (ep->port == port && ep->tls == tls && str_eq(str_of(ep->host), host))
			return ep;
	ep = calloc(1, sizeof(*ep));
	if (!ep || !str_copy(ep->host, sizeof(ep->host), host)) {
		free(ep);
		return NULL;
	}
	ep->port = port;
	ep->tls = tls;
	ep->next = u->endpoints;
	u->endpoints = ep;
	return ep;
}

static void idle_unlink(struct upstream_conn *c)
{
	if (c->prev)
		c->prev->next = c->next;
	else
		c->ep->idle = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->prev = c->next = NULL;
	c->ep->n_idle--;
}

static void conn_close(struct upstream_conn *c)
{
	if (c->state == UP_DEAD)
		return;
	if (c->state == UP_IDLE)
		idle_unlink(c);
	if (c->state == UP_RESOLVING)
		resolver_forget(c->u->resolver, c);
	loop_untimer(c->u->loop, &c->timer);
	loop_unwatch(c->u->loop, &c->watch);
	tls_free(TAKE_PTR(c->tls));
	if (c->fd >= 0)
		close(TAKE_FD(c->fd));
	buf_fini(&c->proxy);
	c->state = UP_DEAD;
	c->next = c->u->dead;
	c->u->dead = c;
}

void upstream_reap(struct upstream *u)
{
	while (u->dead) {
		struct upstream_conn *c = u->dead;

		u->dead = c->next;
		free(c);
	}
}

/* The request is told, unless it has left. */
static void conn_fail(struct upstream_conn *c, int err, const char *why)
{
	const struct upstream_events *events = c->events;
	char text[sizeof(c->why)];

	str_copy(text, sizeof(text), str_of(why));
	conn_close(c);
	if (events)
		events->ready(c->arg, err, text);
}

static void on_event(void *arg, uint32_t events);
static void conn_try(struct upstream_conn *c);
static void conn_try_next(struct upstream_conn *c, const char *why);
static void on_timeout(void *arg);

static bool via_proxy(const struct upstream_conn *c)
{
	return c->ep->tls && c->u->config->upstream.proxy_host.n;
}

static void conn_ready(struct upstream_conn *c)
{
	c->state = UP_BUSY;
	loop_untimer(c->u->loop, &c->timer);
	upstream_want(c, true, false);
	if (c->events)
		c->events->ready(c->arg, 0, NULL);
}

static void conn_handshake(struct upstream_conn *c)
{
	bool want_write = false;
	int err = tls_handshake(c->tls, &want_write);

	if (err == -EAGAIN)
		upstream_want(c, !want_write, want_write);
	else if (err)
		conn_fail(c, err, tls_why(c->tls));
	else
		conn_ready(c);
}

static void conn_start_tls(struct upstream_conn *c)
{
	c->tls = tls_new(c->u->tls, c->fd, c->ep->host);
	if (!c->tls) {
		conn_fail(c, -ENOMEM, "there is no memory for a TLS session");
		return;
	}
	c->state = UP_TLS;
	conn_handshake(c);
}

static void conn_start_proxy(struct upstream_conn *c)
{
	char head[700];
	bool v6 = strchr(c->ep->host, ':');
	char name[sizeof(c->ep->host) + 10];
	int n;

	snprintf(name, sizeof(name), "%s%s%s:%u", v6 ? "[" : "", c->ep->host, v6 ? "]" : "", c->ep->port);
	n = snprintf(head, sizeof(head), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", name, name);

	c->state = UP_PROXY;
	buf_init(&c->proxy, HTTP_HEAD_MAX);
	/* A fresh socket takes a few hundred bytes whole. */
	if (write(c->fd, head, (size_t)n) != n)
		conn_fail(c, -EPROTO, "the HTTPS proxy did not take our request");
	else
		upstream_want(c, true, false);
}

/* Byte by byte would be slow, but nothing may be read past the head: the rest is TLS. */
static void on_proxy_readable(struct upstream_conn *c)
{
	struct http_head *head;
	const char *why;
	ssize_t n;
	int used;

	for (;;) {
		char *p = buf_reserve(&c->proxy, 1);

		n = p ? read(c->fd, p, 1) : -1;
		if (n < 0 && p && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			conn_fail(c, -EPROTO, "the HTTPS proxy closed the connection");
			return;
		}
		buf_commit(&c->proxy, 1);
		if (*p == '\n' && str_ends(buf_str(&c->proxy), STR("\r\n\r\n")))
			break;
	}
	head = malloc(sizeof(*head));
	used = head ? http_parse_response(buf_str(&c->proxy), true, head, &why) : HTTP_BAD;
	if (used <= 0 || head->status / 100 != 2) {
		snprintf(c->why, sizeof(c->why), "the HTTPS proxy refused the way (status %d)",
			 used > 0 ? head->status : 0);
		free(head);
		conn_fail(c, -EPROTO, c->why);
		return;
	}
	free(head);
	conn_start_tls(c);
}

static void on_connected(struct upstream_conn *c)
{
	int err = 0, one = 1;
	socklen_t len = sizeof(err);

	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err) {
		conn_try_next(c, errno_text(err));
		return;
	}
	/* Proxy and TLS have what is left of the time. */
	loop_timer(c->u->loop, &c->timer, c->deadline_ns, on_timeout, c);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (via_proxy(c))
		conn_start_proxy(c);
	else if (c->ep->tls)
		conn_start_tls(c);
	else
		conn_ready(c);
}

static void on_event(void *arg, uint32_t events)
{
	struct upstream_conn *c = arg;

	switch (c->state) {
	case UP_CONNECTING:
		on_connected(c);
		break;
	case UP_PROXY:
		on_proxy_readable(c);
		break;
	case UP_TLS:
		conn_handshake(c);
		break;
	case UP_BUSY:
		if (events & EPOLLOUT)
			c->events->writable(c->arg);
		if (c->state == UP_BUSY && c->events && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			c->events->readable(c->arg);
		break;
	case UP_IDLE:
		conn_close(c);
		break;
	case UP_RESOLVING:
	case UP_DEAD:
		break;
	}
}

/* Closes one connection of a pool, so that a new one can be made; false: there is none. */
static bool pool_give_up_one(struct upstream *u)
{
	for (struct endpoint *ep = u->endpoints; ep; ep = ep->next)
		if (ep->idle) {
			conn_close(ep->idle);
			return true;
		}
	return false;
}

static int conn_socket(struct upstream *u, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 && (errno == EMFILE || errno == ENFILE) && pool_give_up_one(u))
		fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd;
}

/* The time of the address being tried: an equal part of what is left. */
static void conn_try_timer(struct upstream_conn *c)
{
	uint64_t now = c->u->loop->now_ns, left = c->deadline_ns > now ? c->deadline_ns - now : 0;

	loop_timer(c->u->loop, &c->timer, now + left / (c->addrs.n - c->addr), on_timeout, c);
}

static void conn_try_next(struct upstream_conn *c, const char *why)
{
	snprintf(c->why, sizeof(c->why), "%s", why);
	loop_unwatch(c->u->loop, &c->watch);
	close(TAKE_FD(c->fd));
	c->addr++;
	conn_try(c);
}

/* Connects to the next address, or gives up. */
static void conn_try(struct upstream_conn *c)
{
	while (c->addr < c->addrs.n) {
		const struct sockaddr *sa = (const struct sockaddr *)&c->addrs.addrs[c->addr];
		socklen_t len = sa->sa_family == AF_INET ? sizeof(struct sockaddr_in) :
							   sizeof(struct sockaddr_in6);

		c->fd = conn_socket(c->u, sa->sa_family);
		c->state = UP_CONNECTING;
		if (c->fd < 0) {
			conn_fail(c, -errno, "no socket could be made for it: the gateway is out of descriptors");
			return;
		}
		if ((connect(c->fd, sa, len) == 0 || errno == EINPROGRESS) &&
		    loop_watch(c->u->loop, &c->watch, c->fd, EPOLLOUT, on_event, c) == 0) {
			conn_try_timer(c);
			return;
		}
		snprintf(c->why, sizeof(c->why), "%s", errno_text(errno));
		close(TAKE_FD(c->fd));
		c->addr++;
	}
	conn_fail(c, -ECONNREFUSED, c->why[0] ? c->why : "it has no address");
}

static void on_resolved(void *arg, int err, const struct resolved *result)
{
	struct upstream_conn *c = arg;

	if (err) {
		/* An address of a moment ago is better than none. */
		if (!via_proxy(c) && c->ep->addrs.n) {
			c->addrs = c->ep->addrs;
			conn_try(c);
			return;
		}
		snprintf(c->why, sizeof(c->why), "its name does not resolve: %s", gai_strerror(err));
		c->state = UP_CONNECTING; /* nothing to forget any more */
		conn_fail(c, -EHOSTUNREACH, c->why);
		return;
	}
	c->addrs = *result;
	if (!via_proxy(c)) {
		c->ep->addrs = *result;
		c->ep->addrs_until_ns = c->u->loop->now_ns + ADDRS_TTL_NS;
	}
	conn_try(c);
}

/* Deferred by a timer, so that events never come from inside upstream_get(). */
static void on_start(void *arg);

static void on_timeout(void *arg)
{
	struct upstream_conn *c = arg;

	if (c->state == UP_IDLE && c->idle_until_ns > c->u->loop->now_ns)
		loop_timer(c->u->loop, &c->timer, c->idle_until_ns, on_timeout, c);
	else if (c->state == UP_IDLE)
		conn_close(c);
	else if (c->state == UP_BUSY)
		return; /* busy again: a left-over of its idle time */
	else if (c->state == UP_CONNECTING && c->addr + 1 < c->addrs.n)
		conn_try_next(c, "it did not answer within upstream.connect_timeout");
	else
		conn_fail(c, -ETIMEDOUT,
			  c->state == UP_RESOLVING ? "its name did not resolve within upstream.connect_timeout" :
						     "it did not answer within upstream.connect_timeout");
}

static void on_start(void *arg)
{
	struct upstream_conn *c = arg;
	const struct config *cfg = c->u->config;
	bool proxy = via_proxy(c);
	const char *host = proxy ? cfg->upstream.proxy_host.s : c->ep->host;
	uint16_t port = proxy ? cfg->upstream.proxy_port : c->ep->port;

	c->deadline_ns = c->u->loop->now_ns + cfg->upstream.connect_timeout_ns;
	loop_timer(c->u->loop, &c->timer, c->deadline_ns, on_timeout, c);
	if (!proxy && c->ep->addrs_until_ns > c->u->loop->now_ns) {
		c->addrs = c->ep->addrs;
		conn_try(c);
	} else if (resolve_literal(host, port, &c->addrs)) {
		conn_try(c);
	} else if (resolver_ask(c->u->resolver, host, port, on_resolved, c) < 0) {
		conn_fail(c, -ENOBUFS, "too many names are being resolved");
	}
}

/* The newest idle connection that is still quiet. */
static struct upstream_conn *pool_take(struct endpoint *ep)
{
	while (ep->idle) {
		struct upstream_conn *c = ep->idle;
		char byte;
		ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN) {
			idle_unlink(c);
			c->state = UP_BUSY;
			return c;
		}
		conn_close(c);
	}
	return NULL;
}

int upstream_get(struct upstream *u, struct str host, uint16_t port, bool tls,
		 const struct upstream_events *events, void *arg, struct upstream_conn **ret, bool *ret_ready)
{
	struct endpoint *ep = endpoint_get(u, host, port, tls);
	struct upstream_conn *c = ep ? pool_take(ep) : NULL;
	int err;

	if (!ep)
		return -ENOMEM;
	*ret_ready = c != NULL;
	if (!c) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return -ENOMEM;
		c->u = u;
		c->ep = ep;
		c->fd = -1;
		c->state = UP_RESOLVING;
		err = loop_timer(u->loop, &c->timer, u->loop->now_ns, on_start, c);
		if (err) {
			free(c);
			return err;
		}
	}
	c->events = events;
	c->arg = arg;
	*ret = c;
	return 0;
}

void upstream_put(struct upstream_conn *c, bool reusable)
{
	struct endpoint *ep;

	if (!c)
		return;
	c->events = NULL;
	ep = c->ep;
	if (!reusable || c->state != UP_BUSY || upstream_pending(c) ||
	    ep->n_idle >= c->u->config->upstream.max_idle_connections) {
		conn_close(c);
		return;
	}
	c->state = UP_IDLE;
	c->prev = NULL;
	c->next = ep->idle;
	if (ep->idle)
		ep->idle->prev = c;
	ep->idle = c;
	ep->n_idle++;
	c->idle_until_ns = c->u->loop->now_ns + IDLE_NS;
	upstream_want(c, true, false);
	/* The timer is left where it is when it comes early: it looks at idle_until_ns. */
	if (!c->timer.index)
		loop_timer(c->u->loop, &c->timer, c->idle_until_ns, on_timeout, c);
}

ssize_t upstream_read(struct upstream_conn *c, void *data, size_t n)
{
	ssize_t got = c->tls ? tls_read(c->tls, data, n) : read(c->fd, data, n);

	if (c->tls || got >= 0)
		return got;
	return errno == EINTR ? -EAGAIN : -errno;
}

ssize_t upstream_writev(struct upstream_conn *c, const struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n };
	ssize_t done = 0, put;

	if (!c->tls) {
		put = sendmsg(c->fd, &msg, MSG_NOSIGNAL);
		return put >= 0 ? put : errno == EINTR ? -EAGAIN : -errno;
	}
	for (int i = 0; i < n; i++) {
		size_t at = 0;

		while (at < iov[i].iov_len) {
			put = tls_write(c->tls, (char *)iov[i].iov_base + at, iov[i].iov_len - at);
			if (put < 0)
				return done ? done : put;
			at += (size_t)put;
			done += put;
		}
	}
	return done;
}

bool upstream_pending(const struct upstream_conn *c)
{
	return c->tls && tls_pending(c->tls);
}

void upstream_want(struct upstream_conn *c, bool readable, bool writable)
{
	uint32_t events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u);

	/* EPOLLHUP and EPOLLERR cannot be masked: as long as nothing is wanted they would come again and again. */
	if (!events)
		loop_unwatch(c->u->loop, &c->watch);
	else if (c->watch.slot)
		loop_rewatch(c->u->loop, &c->watch, events);
	else if (loop_watch(c->u->loop, &c->watch, c->fd, events, on_event, c) < 0)
		log_limited(LOG_ERR, "a connection to a provider cannot be watched and will time out");
}
