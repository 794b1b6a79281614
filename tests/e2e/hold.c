/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile client: takes many connections and keeps them, for as long as it is let.
 *
 *   hold [-n COUNT] [-s SECONDS] [-h | -b BYTES] http://HOST:PORT/
 *
 * Opens COUNT connections, opens each that is closed again, until SECONDS are over. -h: each sends a byte of a head
 * now and then; -b: each sends BYTES of a body and never the last one. Says "holding" once it has tried all, and at
 * the end how many it held and how many were closed.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>

#include "common/log.h"
#include "tests/practice/http_client.h"

#define HOLD_MAX 20000

static struct http_url url;
static struct pollfd held[HOLD_MAX];
static size_t body_bytes, sent[HOLD_MAX];
static bool heads;
static char *text; /* what each sends */
static size_t text_len;

static void open_one(unsigned i)
{
	held[i].events = POLLIN;
	held[i].fd = http_connect(&url, 0);
	sent[i] = 0;
	if (held[i].fd >= 0)
		fcntl(held[i].fd, F_SETFL, O_NONBLOCK);
}

static void close_one(unsigned i)
{
	close(held[i].fd);
	held[i].fd = -1;
}

static void send_some(unsigned i)
{
	size_t n = heads ? 1 : text_len - sent[i];
	ssize_t done = sent[i] < text_len ? send(held[i].fd, text + sent[i], n, MSG_NOSIGNAL) : 0;

	if (done > 0)
		sent[i] += (size_t)done;
}

static void make_text(void)
{
	text_len = heads ? 512 : body_bytes + 256;
	text = malloc(text_len);
	if (!text)
		die("no memory");
	memset(text, 'x', text_len);
	if (heads)
		memcpy(text, "POST / HTTP/1.1\r\nhost: x\r\na: ", 30);
	else if (body_bytes)
		text_len = body_bytes + (size_t)snprintf(text, 256, "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: %zu\r\n\r\n", body_bytes + 1);
	else
		text_len = 0;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	unsigned count = 1000, seconds = 5, closed = 0, open = 0;
	time_t end;
	char byte[4096];
	int c;

	signal(SIGPIPE, SIG_IGN);
	while ((c = getopt(argc, argv, "n:s:hb:")) != -1) {
		switch (c) {
		case 'n': count = (unsigned)strtoul(optarg, NULL, 10); break;
		case 's': seconds = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'h': heads = true; break;
		case 'b': body_bytes = strtoul(optarg, NULL, 10); break;
		default: die("usage: see the top of tests/e2e/hold.c");
		}
	}
	if (optind + 1 != argc || !http_url_parse(argv[optind], &url) || !count || count > HOLD_MAX)
		die("usage: hold [options] http://HOST:PORT/; see the top of tests/e2e/hold.c");
	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_max < count + 20)
		die("so many descriptors are not allowed: ulimit -Hn %u", count + 20);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	make_text();
	end = time(NULL) + seconds;
	for (unsigned i = 0; i < count; i++) {
		open_one(i);
		if (held[i].fd >= 0)
			send_some(i);
	}
	puts("holding");
	fflush(stdout);
	while (time(NULL) < end) {
		if (poll(held, count, 100) < 0)
			break;
		for (unsigned i = 0; i < count; i++) {
			if (held[i].fd >= 0 && held[i].revents && recv(held[i].fd, byte, sizeof(byte), 0) <= 0) {
				close_one(i);
				closed++;
			}
			if (held[i].fd < 0)
				open_one(i);
			if (held[i].fd >= 0)
				send_some(i);
		}
		usleep(50000); /* rude, not a denial of the processor */
	}
	for (unsigned i = 0; i < count; i++)
		open += held[i].fd >= 0;
	printf("held %u of %u, %u were closed\n", open, count, closed);
	return 0;
}
