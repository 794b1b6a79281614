/* SPDX-License-Identifier: Apache-2.0 */
/* A small blocking HTTP/1.1 client for the practice agent and the end-to-end tests. */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "common/buf.h"
#include "gateway/http_msg.h"

struct http_url {
	char host[128];
	unsigned port;
	char path[1024]; /* begins with '/' */
};

struct http_answer {
	struct http_head head; /* points into `in` */
	struct buf in;
	bool finished; /* the body came whole */
	uint64_t body_bytes;
};

typedef void (*http_body_fn)(void *arg, struct str piece);

/* Only http://HOST[:PORT][/PATH]; false: it is no such address. */
static bool http_url_parse(const char *url, struct http_url *ret)
{
	const char *host = strncmp(url, "http://", 7) ? NULL : url + 7;
	size_t n = host ? strcspn(host, ":/") : 0;

	if (!n || n >= sizeof(ret->host))
		return false;
	str_copy(ret->host, sizeof(ret->host), (struct str){ host, n });
	ret->port = 80;
	host += n;
	if (*host == ':') {
		char *end;

		ret->port = (unsigned)strtoul(host + 1, &end, 10);
		host = end;
	}
	str_copy(ret->path, sizeof(ret->path), *host ? str_of(host) : STR("/"));
	return ret->port && ret->port < 65536 && ret->path[0] == '/';
}

/* A connected socket or -1 with errno. Tries again for `wait_ms` while nobody listens. */
static int http_connect(const struct http_url *u, unsigned wait_ms)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)u->port) };
	struct timespec nap = { 0, 20000000 };
	struct timeval patience = { .tv_sec = 60 };

	if (inet_pton(AF_INET, strcmp(u->host, "localhost") ? u->host : "127.0.0.1", &sa.sin_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	for (unsigned waited = 0;; waited += 20) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return -1;
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
			return fd;
		close(fd);
		if ((errno != ECONNREFUSED && errno != ENETUNREACH) || waited >= wait_ms)
			return -1;
		nanosleep(&nap, NULL);
	}
}

static bool http_send(int fd, struct str s)
{
	while (s.n) {
		ssize_t n = send(fd, s.s, s.n, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		s = str_skip(s, (size_t)n);
	}
	return true;
}

static bool http_fill(int fd, struct buf *in)
{
	char *room = buf_reserve(in, 65536);
	ssize_t n = room ? recv(fd, room, 65536, 0) : -1;

	if (n <= 0)
		return false;
	buf_commit(in, (size_t)n);
	return true;
}

/* The head of the answer; heads of 1xx are skipped. */
static bool http_read_head(int fd, bool to_head, struct http_answer *a, struct buf *head)
{
	const char *why;
	int n;

	for (;;) {
		while ((n = http_parse_response(buf_str(&a->in), to_head, &a->head, &why)) == HTTP_MORE)
			if (!http_fill(fd, &a->in))
				return false;
		if (n < 0)
			return false;
		if (a->head.status >= 200)
			break;
		buf_consume(&a->in, (size_t)n);
	}
	/* The fields must not move while the body is read. */
	if (buf_append(head, buf_head(&a->in), (size_t)n))
		return false;
	buf_consume(&a->in, (size_t)n);
	return http_parse_response(buf_str(head), to_head, &a->head, &why) == n;
}

/* One piece of the body; false: no more, and a->finished says how it ended. */
static bool http_take(int fd, struct http_answer *a, struct http_chunked *chunked, struct str *ret)
{
	for (;;) {
		struct str in = buf_str(&a->in);
		size_t had = in.n;

		if (a->head.body == HTTP_BODY_CHUNKED) {
			enum http_piece got = http_chunked_next(chunked, &in, ret);

			buf_consume(&a->in, had - in.n);
			if (got == PIECE_DATA)
				return true;
			a->finished = got == PIECE_END;
			if (got != PIECE_MORE)
				return false;
		} else {
			uint64_t left = a->head.body == HTTP_BODY_LENGTH ? a->head.length - a->body_bytes : UINT64_MAX;

			*ret = (struct str){ in.s, (size_t)MIN(left, (uint64_t)in.n) };
			a->finished = !left || a->head.body == HTTP_BODY_NONE;
			if (a->finished)
				return false;
			buf_consume(&a->in, ret->n);
			if (ret->n)
				return true;
		}
		if (!http_fill(fd, &a->in)) {
			a->finished = a->head.body == HTTP_BODY_EOF;
			return false;
		}
	}
}

/*
 * One exchange on `fd`: sends `request` (head and body), reads the answer, gives its body to `fn` as it comes.
 * `head` receives the answer's head, and a->head points into it. False: no head came. Free a->in with buf_fini().
 */
__attribute__((unused)) /* by one that only connects */
static bool http_exchange(int fd, struct str request, bool to_head, struct http_answer *a, struct buf *head,
			  http_body_fn fn, void *arg)
{
	struct http_chunked chunked = { 0 };
	struct str piece;

	buf_init(&a->in, HTTP_HEAD_MAX + 131072);
	a->finished = false;
	a->body_bytes = 0;
	http_send(fd, request); /* who refuses early answers before all of it is sent */
	if (!http_read_head(fd, to_head, a, head))
		return false;
	while (http_take(fd, a, &chunked, &piece)) {
		a->body_bytes += piece.n;
		fn(arg, piece);
	}
	return true;
}
