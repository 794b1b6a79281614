/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to providers, against sockets of the test itself on loopback. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "gateway/upstream.h"
#include "tests/unit/test.h"

static struct loop loop;
static struct config config;
static struct upstream *upstream;

/* What happened on one connection. */
struct seen {
	unsigned ready, readable, writable;
	int err;
	char why[256];
};

static void on_ready(void *arg, int err, const char *why)
{
	struct seen *s = arg;

	s->ready++;
	s->err = err;
	str_copy(s->why, sizeof(s->why), str_of(why));
}

static void on_readable(void *arg)
{
	((struct seen *)arg)->readable++;
}

static void on_writable(void *arg)
{
	((struct seen *)arg)->writable++;
}

static const struct upstream_events events = { on_ready, on_readable, on_writable };

static void setup(void)
{
	config = (struct config){ 0 };
	config.upstream.connect_timeout_ns = 300 * NSEC_PER_MSEC;
	config.upstream.max_idle_connections = 2;
	/* Its threads live as long as the process: one for all tests. */
	if (upstream)
		return;
	CHECK_INT(loop_init(&loop), 0);
	CHECK_INT(upstream_new(&loop, &config, tls_context_new(""), &upstream), 0);
}

/* Runs the loop for at most that long, or until *count is not 0. */
static void spin(const unsigned *count, int ms)
{
	uint64_t until;

	loop_update_time(&loop);
	until = loop.now_ns + (uint64_t)ms * NSEC_PER_MSEC;
	while (loop.now_ns < until && !(count && *count)) {
		loop_once(&loop, 5);
		upstream_reap(upstream);
	}
}

static int listener(int backlog, uint16_t *ret_port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sa);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, backlog) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		exit(1);
	*ret_port = ntohs(sa.sin_port);
	return fd;
}

static struct upstream_conn *get(const char *host, uint16_t port, bool tls, struct seen *s, bool *ret_ready)
{
	struct upstream_conn *c = NULL;

	*s = (struct seen){ 0 };
	CHECK_INT(upstream_get(upstream, str_of(host), port, tls, &events, s, &c, ret_ready), 0);
	CHECK_INT(s->ready, 0); /* never from inside */
	return c;
}

/* One that is open, and the server's end of it. */
static struct upstream_conn *get_open(int server, uint16_t port, struct seen *s, int *ret_peer)
{
	bool ready;
	struct upstream_conn *c = get("127.0.0.1", port, false, s, &ready);

	CHECK(!ready);
	spin(&s->ready, 1000);
	CHECK_INT(s->ready, 1);
	CHECK_INT(s->err, 0);
	*ret_peer = accept(server, NULL, NULL);
	return c;
}

static void reset(int fd)
{
	struct linger now = { 1, 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* ------------------------------------------------------------------ tests */

static void connects_and_is_reused(void)
{
	uint16_t port;
	int server = listener(8, &port), peer;
	struct iovec iov[2] = { { (char *)(uintptr_t) "he", 2 }, { (char *)(uintptr_t) "llo", 3 } };
	struct upstream_conn *c, *again, *other;
	struct seen s, s2, s3;
	char text[16];
	bool ready;

	setup();
	c = get_open(server, port, &s, &peer);
	CHECK_INT(upstream_writev(c, iov, 2), 5);
	CHECK_INT(read(peer, text, sizeof(text)), 5);
	CHECK_INT(upstream_read(c, text, sizeof(text)), -EAGAIN);
	CHECK_INT(write(peer, "yes", 3), 3);
	spin(&s.readable, 1000);
	CHECK_INT(upstream_read(c, text, sizeof(text)), 3);
	upstream_put(c, true);
	again = get("127.0.0.1", port, false, &s2, &ready);
	CHECK(ready && again == c);
	/* While it is busy the next one is another. */
	other = get("127.0.0.1", port, false, &s3, &ready);
	CHECK(!ready && other != c);
	spin(&s3.ready, 1000);
	CHECK_INT(s3.err, 0);
	upstream_put(other, false);
	upstream_put(again, false);
	upstream_put(NULL, true);
	spin(NULL, 10);
	CHECK_INT(read(peer, text, 1), 0);
	close(peer);
	close(server);
}

static void idle_ones_end_with_their_peer(void)
{
	uint16_t port;
	int server = listener(8, &port), peer;
	struct upstream_conn *c;
	struct seen s;
	bool ready;

	setup();
	/* Closed by the provider and seen by the loop; closed and not seen yet; bytes nobody asked for. */
	for (int how = 0; how < 4; how++) {
		c = get_open(server, port, &s, &peer);
		upstream_put(c, true);
		if (how == 2)
			CHECK_INT(write(peer, "x", 1), 1);
		else if (how == 3)
			reset(peer);
		else
			close(peer);
		if (how == 0)
			spin(NULL, 20);
		c = get("127.0.0.1", port, false, &s, &ready);
		CHECK(!ready);
		upstream_put(c, false); /* before it has begun */
		if (how == 2)
			close(peer);
	}
	spin(NULL, 20);
	CHECK_INT(s.ready, 0); /* the one that left is told nothing */
	close(server);
}

static void pool_is_bounded(void)
{
	uint16_t port;
	int server = listener(8, &port), peer[3];
	struct upstream_conn *c[3];
	struct seen s[3];
	char byte;

	setup();
	for (int i = 0; i < 3; i++)
		c[i] = get_open(server, port, &s[i], &peer[i]);
	for (int i = 0; i < 3; i++)
		upstream_put(c[i], true);
	spin(NULL, 20);
	CHECK_INT(recv(peer[0], &byte, 1, MSG_DONTWAIT), -1);
	CHECK_INT(recv(peer[1], &byte, 1, MSG_DONTWAIT), -1);
	CHECK_INT(recv(peer[2], &byte, 1, MSG_DONTWAIT), 0);
	for (int i = 0; i < 3; i++)
		close(peer[i]);
	close(server);
}

static void refused_says_so(void)
{
	uint16_t port;
	int server = listener(1, &port);
	struct seen s;
	bool ready;

	close(server);
	setup();
	get("127.0.0.1", port, false, &s, &ready);
	spin(&s.ready, 1000);
	CHECK_INT(s.ready, 1);
	CHECK_INT(s.err, -ECONNREFUSED);
	CHECK_STR(s.why, "Connection refused");
}

static void silence_times_out(void)
{
	uint16_t port;
	int server = listener(0, &port), filler[8];
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint64_t began;
	struct seen s;
	bool ready;

	/* A backlog that is full swallows what comes. */
	for (size_t i = 0; i < ARRAY_SIZE(filler); i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		connect(filler[i], (struct sockaddr *)&sa, sizeof(sa));
	}
	setup();
	loop_update_time(&loop);
	began = loop.now_ns;
	get("127.0.0.1", port, false, &s, &ready);
	spin(&s.ready, 3000);
	CHECK_INT(s.ready, 1);
	CHECK_INT(s.err, -ETIMEDOUT);
	CHECK(str_find(str_of(s.why), STR("upstream.connect_timeout")) != NULL);
	CHECK(loop.now_ns - began >= config.upstream.connect_timeout_ns && loop.now_ns - began < NSEC_PER_SEC);
	for (size_t i = 0; i < ARRAY_SIZE(filler); i++)
		close(filler[i]);
	close(server);
}

/* Many ask at once, some leave before the answer; each of the others is told once. */
static void names_are_resolved(void)
{
	uint16_t port;
	int server = listener(128, &port);
	enum { N = 100 };
	struct upstream_conn *c[N];
	struct seen s[N], bad;
	unsigned told = 0;
	bool ready;

	setup();
	config.upstream.connect_timeout_ns = 10 * NSEC_PER_SEC;
	for (int i = 0; i < N; i++)
		c[i] = get("localhost", port, false, &s[i], &ready);
	for (int i = 0; i < N; i += 2)
		upstream_put(c[i], false);
	spin(&s[1].ready, 5000);
	spin(NULL, 200);
	for (int i = 0; i < N; i++) {
		told += s[i].ready;
		CHECK_INT(s[i].ready, i % 2);
		CHECK_INT(s[i].err, 0);
	}
	CHECK_INT(told, N / 2);
	for (int i = 1; i < N; i += 2)
		upstream_put(c[i], false);
	get("no-such-host.invalid", port, false, &bad, &ready);
	spin(&bad.ready, 10000);
	CHECK_INT(bad.ready, 1);
	CHECK(bad.err < 0);
	CHECK(str_starts(str_of(bad.why), STR("its name does")));
	close(server);
}

/* With nothing wanted not even an end is told, and the loop rests; what was sent before the end is still there. */
static void pause_is_silent(void)
{
	uint16_t port;
	int server = listener(8, &port), peer;
	struct upstream_conn *c;
	struct seen s;
	char text[16];

	setup();
	c = get_open(server, port, &s, &peer);
	CHECK_INT(write(peer, "last words", 10), 10);
	upstream_want(c, false, false);
	reset(peer);
	spin(NULL, 30);
	CHECK_INT(s.readable + s.writable, 0);
	upstream_want(c, true, false);
	spin(&s.readable, 1000);
	CHECK(s.readable > 0);
	CHECK_INT(upstream_read(c, text, sizeof(text)), 10);
	CHECK_INT(upstream_read(c, text, sizeof(text)), -ECONNRESET);
	upstream_put(c, false);
	close(server);
}

static void proxy_is_asked_first(void)
{
	static const struct {
		const char *answer, *why;
	} cases[] = {
		{ "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n", "the HTTPS proxy refused the way (status 403)" },
		{ "HTTP/1.1 200 OK\r\n\r\nnot TLS", "the TLS handshake failed: " },
		{ "nonsense\r\n\r\n", "the HTTPS proxy refused the way (status 0)" },
		{ "HTTP/1.1 2", "the HTTPS proxy closed the connection" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint16_t port;
		int server = listener(8, &port), peer;
		char text[256];
		struct seen s;
		bool ready;
		ssize_t n;

		setup();
		config.upstream.proxy_host = STR("127.0.0.1");
		config.upstream.proxy_port = port;
		get(i ? "provider.example" : "::1", 443, true, &s, &ready);
		spin(NULL, 20);
		peer = accept(server, NULL, NULL);
		spin(NULL, 20);
		n = recv(peer, text, sizeof(text) - 1, MSG_DONTWAIT);
		text[MAX(n, (ssize_t)0)] = '\0';
		CHECK_STR(text, i ? "CONNECT provider.example:443 HTTP/1.1\r\nHost: provider.example:443\r\n\r\n" :
				    "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n");
		CHECK_INT(s.ready, 0);
		CHECK_INT(write(peer, cases[i].answer, strlen(cases[i].answer)), strlen(cases[i].answer));
		if (i == 3)
			close(peer);
		spin(&s.ready, 200);
		CHECK_INT(s.ready, 1);
		CHECK(s.err < 0);
		CHECK(str_starts(str_of(s.why), str_of(cases[i].why)));
		if (i != 3)
			close(peer);
		close(server);
	}
}

TESTS(T(connects_and_is_reused), T(idle_ones_end_with_their_peer), T(pool_is_bounded), T(refused_says_so), T(silence_times_out),
      T(names_are_resolved), T(pause_is_silent), T(proxy_is_asked_first))
