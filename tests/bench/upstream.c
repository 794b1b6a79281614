/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The provider of the benchmarks: as cheap as a server can be, so that what is measured is the proxy.
 * bench-upstream PORT SHAPE [EVENTS]: SHAPE is `json` (a small whole answer), `sse` (EVENTS events at once, as an
 * agent's answer with tool calls) or `drip` (one event each millisecond for each stream).
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/loop.h"

#define DRIP_NS (1 * NSEC_PER_MSEC)

static struct loop loop;
static struct buf answer;     /* head and body, or the head of a drip */
static struct buf drip_event; /* one chunk */
static unsigned n_events = 300;
static bool drips;

struct peer {
	int fd;
	struct watch watch;
	struct timer timer;
	char head[8192];
	size_t n;
	uint64_t body_left;
	unsigned dripped;
	size_t sent;
};

static void peer_close(struct peer *p)
{
	loop_untimer(&loop, &p->timer);
	loop_unwatch(&loop, &p->watch);
	close(p->fd);
	free(p);
}

static void chunk(struct buf *b, const char *fmt, const char *a, unsigned i)
{
	char text[512];
	int n = snprintf(text, sizeof(text), fmt, a, i);

	buf_printf(b, "%x\r\n%s\r\n", n, text);
}

static void build_sse(void)
{
	buf_puts(&answer, STR("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"));
	chunk(&answer,
	      "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"usage\":{\"input_tokens\":21000,\"output_tokens\":1}}}%s\n\n", "", 0);
	chunk(&answer,
	      "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}%s\n\n", "", 0);
	for (unsigned i = 0; i < n_events - 20; i++)
		chunk(&answer,
		      "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" some words %s%u\"}}\n\n",
		      "of an answer ", i);
	chunk(&answer, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}%s\n\n", "", 0);
	chunk(&answer,
	      "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"Bash\",\"input\":{}}}%s\n\n", "", 0);
	chunk(&answer,
	      "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"command\\\":\\\"ls\"}}%s\n\n", "", 0);
	for (unsigned i = 0; i < 12; i++)
		chunk(&answer,
		      "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\" file%s%u\"}}\n\n", "", i);
	chunk(&answer,
	      "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\\\"}\"}}%s\n\n", "", 0);
	chunk(&answer, "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}%s\n\n", "", 0);
	chunk(&answer,
	      "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":900}}%s\n\n", "", 0);
	chunk(&answer, "event: message_stop\ndata: {\"type\":\"message_stop\"}%s\n\n", "", 0);
	buf_puts(&answer, STR("0\r\n\r\n"));
}

static void build_json(void)
{
	static const char body[] =
		"{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[{\"type\":\"text\",\"text\":\"Fine, thank you. It is a small answer of some hundred bytes, as a count or a yes would be.\"}],\"stop_reason\":\"end_turn\",\"usage\":{\"input_tokens\":210,\"output_tokens\":25}}";

	buf_printf(&answer, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
		   sizeof(body) - 1, body);
}

static void build_drip(void)
{
	buf_puts(&answer, STR("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"));
	chunk(&drip_event,
	      "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" some words of a stream\"}}%s\n\n", "", 0);
}

static void on_drip(void *arg)
{
	struct peer *p = arg;
	bool last = ++p->dripped >= n_events;

	if (send(p->fd, buf_head(&drip_event), buf_len(&drip_event), MSG_NOSIGNAL | (last ? MSG_MORE : 0)) < 0) {
		peer_close(p);
		return;
	}
	if (!last)
		loop_timer(&loop, &p->timer, loop.now_ns + DRIP_NS, on_drip, p);
	else if (send(p->fd, "0\r\n\r\n", 5, MSG_NOSIGNAL) < 0)
		peer_close(p);
}

static void peer_answer(struct peer *p)
{
	while (p->sent < buf_len(&answer)) {
		ssize_t n = send(p->fd, buf_head(&answer) + p->sent, buf_len(&answer) - p->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			loop_rewatch(&loop, &p->watch, EPOLLIN | EPOLLOUT);
			return;
		}
		if (n < 0) {
			peer_close(p);
			return;
		}
		p->sent += (size_t)n;
	}
	loop_rewatch(&loop, &p->watch, EPOLLIN);
	p->dripped = 0;
	if (drips)
		loop_timer(&loop, &p->timer, loop.now_ns + DRIP_NS, on_drip, p);
}

static void on_peer(void *arg, uint32_t events)
{
	static char scratch[65536];
	struct peer *p = arg;
	const char *end, *length;
	ssize_t n;

	if (events & EPOLLOUT) {
		peer_answer(p);
		return;
	}
	n = read(p->fd, scratch, sizeof(scratch));
	if (n <= 0) {
		peer_close(p);
		return;
	}
	if (p->body_left) {
		p->body_left -= MIN((uint64_t)n, p->body_left);
	} else {
		size_t take = MIN((size_t)n, sizeof(p->head) - 1 - p->n);

		memcpy(p->head + p->n, scratch, take);
		p->n += take;
		p->head[p->n] = '\0';
		end = strstr(p->head, "\r\n\r\n");
		if (!end)
			return;
		length = strcasestr(p->head, "\r\ncontent-length:");
		p->body_left = length && length < end ? strtoull(length + 17, NULL, 10) : 0;
		p->body_left -= MIN(p->body_left, p->n + (size_t)n - take - (size_t)(end + 4 - p->head));
		p->n = 0;
	}
	if (!p->body_left) {
		p->sent = 0;
		peer_answer(p);
	}
}

static void on_accept(void *arg, uint32_t events)
{
	int fd = accept4(*(int *)arg, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;
	struct peer *p = fd >= 0 ? calloc(1, sizeof(*p)) : NULL;

	(void)events;
	if (!p)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	p->fd = fd;
	loop_watch(&loop, &p->watch, fd, EPOLLIN, on_peer, p);
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct watch watch;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

	if (argc < 3)
		die("usage: upstream PORT json|sse|drip [EVENTS]");
	signal(SIGPIPE, SIG_IGN);
	sa.sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10));
	if (argc > 3)
		n_events = MAX((unsigned)strtoul(argv[3], NULL, 10), 21u);
	buf_init(&answer, 1 << 24);
	buf_init(&drip_event, 4096);
	drips = !strcmp(argv[2], "drip");
	if (drips)
		build_drip();
	else if (!strcmp(argv[2], "sse"))
		build_sse();
	else
		build_json();
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4096) < 0 || loop_init(&loop) < 0)
		die("port %s cannot be used: %s", argv[1], errno_text(errno));
	loop_watch(&loop, &watch, fd, EPOLLIN, on_accept, &fd);
	return loop_run(&loop) < 0;
}
