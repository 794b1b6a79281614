/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client of the benchmarks: CONNECTIONS keep-alive connections, REQUESTS in all, a body of BYTES shaped as
 * an agent's request. load PORT CONNECTIONS REQUESTS BYTES [stream] [cgroup.procs FILE]. Prints one line:
 * requests, errors, bytes, seconds, and the median and 99th percentile of the time to the first and last byte.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/http_msg.h"

#define TIMEOUT_S 120

static struct loop loop;
static struct buf request;
static unsigned to_start, running, done, errors;
static uint64_t bytes;
static uint64_t *first_us, *last_us;
static struct sockaddr_in address = { .sin_family = AF_INET };

struct client {
	int fd;
	struct watch watch;
	size_t sent;
	uint64_t began_ns, first_ns;
	struct buf head;
	bool in_body;
	struct http_head parsed;
	struct http_chunked chunked;
	uint64_t left;
};

static uint64_t now_ns(void)
{
	loop_update_time(&loop);
	return loop.now_ns;
}

static void on_client(void *arg, uint32_t events);

static void client_push(struct client *c)
{
	while (c->sent < buf_len(&request)) {
		ssize_t n = send(c->fd, buf_head(&request) + c->sent, buf_len(&request) - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			loop_rewatch(&loop, &c->watch, EPOLLIN | EPOLLOUT);
			return;
		}
		if (n < 0)
			die("the server closed a connection: %s", errno_text(errno));
		c->sent += (size_t)n;
	}
	loop_rewatch(&loop, &c->watch, EPOLLIN);
}

static void client_ask(struct client *c)
{
	if (!to_start) {
		loop_unwatch(&loop, &c->watch);
		close(c->fd);
		if (!running)
			loop.stop = true;
		return;
	}
	to_start--;
	running++;
	c->sent = 0;
	c->first_ns = 0;
	c->in_body = false;
	c->chunked = (struct http_chunked){ 0 };
	buf_reset(&c->head, SIZE_MAX);
	c->began_ns = now_ns();
	client_push(c);
}

static void client_done(struct client *c)
{
	first_us[done] = (c->first_ns - c->began_ns) / 1000;
	last_us[done] = (now_ns() - c->began_ns) / 1000;
	if (c->parsed.status != 200)
		errors++;
	done++;
	running--;
	client_ask(c);
}

/* True when the message ended in these bytes. */
static bool client_body(struct client *c, struct str in)
{
	struct str piece;
	enum http_piece what;

	if (c->parsed.body == HTTP_BODY_NONE)
		return true;
	if (c->parsed.body == HTTP_BODY_LENGTH) {
		c->left -= MIN((uint64_t)in.n, c->left);
		return !c->left;
	}
	while ((what = http_chunked_next(&c->chunked, &in, &piece)) == PIECE_DATA)
		continue;
	if (what == PIECE_BAD)
		die("the answer's chunks are malformed");
	return what == PIECE_END;
}

static void on_client(void *arg, uint32_t events)
{
	static char scratch[65536];
	struct client *c = arg;
	const char *why = "";
	struct str in;
	ssize_t n;
	int used;

	if (events & EPOLLOUT)
		client_push(c);
	if (!(events & ~(uint32_t)EPOLLOUT))
		return;
	n = read(c->fd, scratch, sizeof(scratch));
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("the server closed a connection after %u answers", done);
	bytes += (uint64_t)n;
	if (!c->first_ns)
		c->first_ns = now_ns();
	in = (struct str){ scratch, (size_t)n };
	if (!c->in_body) {
		buf_append(&c->head, in.s, in.n);
		used = http_parse_response(buf_str(&c->head), false, &c->parsed, &why);
		if (used == HTTP_BAD)
			die("not HTTP: %s", why);
		if (used == HTTP_MORE)
			return;
		c->in_body = true;
		c->left = c->parsed.length;
		in = str_skip(buf_str(&c->head), (size_t)used);
	}
	if (client_body(c, in))
		client_done(c);
}

static void build_request(size_t body_bytes, bool stream)
{
	struct buf body;
	const char *middle = stream ? ",\"stream\":true" : "";

	buf_init(&body, 1 << 26);
	buf_printf(&body, "{\"model\":\"claude-sonnet-4-5\",\"max_tokens\":1000%s,\"messages\":[{\"role\":\"user\",\"content\":\"", middle);
	while (buf_len(&body) + 64 < body_bytes)
		buf_puts(&body, STR("Please read the file src/main.c and say what it does.\\n"));
	buf_puts(&body, STR("\"}]}"));
	buf_init(&request, 1 << 26);
	buf_printf(&request,
		   "POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: claude-cli/2.1.329 (external, cli)\r\n"
		   "Accept: application/json\r\nContent-Type: application/json\r\nanthropic-version: 2023-06-01\r\n"
		   "x-api-key: -\r\nContent-Length: %zu\r\n\r\n",
		   buf_len(&body));
	buf_puts(&request, buf_str(&body));
	buf_fini(&body);
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void client_start(struct client *c)
{
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("no connection: %s", errno_text(errno));
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	buf_init(&c->head, 1 << 20);
	loop_watch(&loop, &c->watch, c->fd, EPOLLIN, on_client, c);
}

int main(int argc, char **argv)
{
	unsigned connections = argc > 4 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
	struct client *clients = calloc(connections + 1, sizeof(*clients));
	uint64_t began;

	if (argc < 5 || !clients || loop_init(&loop) < 0)
		die("usage: load PORT CONNECTIONS REQUESTS BYTES [stream]");
	signal(SIGPIPE, SIG_IGN);
	alarm(TIMEOUT_S); /* it ends by itself whatever the server does */
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	address.sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10));
	to_start = (unsigned)strtoul(argv[3], NULL, 10);
	first_us = calloc(to_start + 1, sizeof(*first_us));
	last_us = calloc(to_start + 1, sizeof(*last_us));
	build_request(strtoull(argv[4], NULL, 10), argc > 5 && !strcmp(argv[5], "stream"));
	for (unsigned i = 0; i < connections; i++)
		client_start(&clients[i]);
	began = now_ns();
	for (unsigned i = 0; i < connections; i++)
		client_ask(&clients[i]);
	if (loop_run(&loop) < 0)
		die("the event loop failed");
	qsort(first_us, done, sizeof(*first_us), compare);
	qsort(last_us, done, sizeof(*last_us), compare);
	printf("requests=%u errors=%u bytes=%llu seconds=%.3f first_p50_us=%llu first_p99_us=%llu last_p50_us=%llu last_p99_us=%llu\n",
	       done, errors, (unsigned long long)bytes, (double)(now_ns() - began) / 1e9, (unsigned long long)first_us[done / 2],
	       (unsigned long long)first_us[done * 99 / 100], (unsigned long long)last_us[done / 2],
	       (unsigned long long)last_us[done * 99 / 100]);
	return errors != 0;
}
