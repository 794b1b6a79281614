/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker of the gateway in a thread of this program, with real clients (OpenSSL), a provider and origin servers on
 * loopback. The stamp is ours to give, since getsockopt() is: what the kernel would have written is in `stamp`. The
 * test plays the agent, over the real channel.
 *
 *   client ── door (worker) ── provider            a name of a provider
 *                  └────────── origin              any other name: spliced
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "common/ipc.h"
#include "common/log.h"
#include "common/msg.h"
#include "gateway/ca.h"
#include "gateway/conn.h"
#include "gateway/request.h"
#include "gateway/tls_server.h"
#include "tests/unit/test.h"

static struct stamp stamp;
static struct gateway gw;
static struct watch channel_watch;
static pthread_t worker, agent, provider;
static int agent_channel, door_port, provider_port, stop_fd, journal_dir;
static bool refuse_sockets;
static X509 *root;
static char folder[] = "/tmp/sallyport-peek-XXXXXX";

/* The kernel's part. */
int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (level != STAMP_SOL)
		return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
	if (*len < sizeof(stamp))
		return -1;
	memcpy(value, &stamp, sizeof(stamp));
	*len = sizeof(stamp);
	return 0;
}

/* ------------------------------------------------------------------ set-up */

static int memory_file(const char *text)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	if (write(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		exit(1);
	return fd;
}

static int listener(int *ret_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		exit(1);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

static int connect_to(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval limit = { 5, 0 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	a.sin_port = htons((uint16_t)port);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		exit(1);
	return fd;
}

static void *run_worker(void *arg)
{
	(void)arg;
	loop_run(&gw.loop);
	return NULL;
}

static void on_channel(void *arg, uint32_t events)
{
	(void)events;
	gateway_drain_channel(arg);
}

static void after_batch(void *arg)
{
	request_reap(arg);
	conn_reap(arg);
	upstream_reap(gw.upstream);
}

/* Gives the worker the sockets that it wants. */
static void *run_agent(void *arg)
{
	struct pollfd p[2] = { { .fd = agent_channel, .events = POLLIN }, { .fd = stop_fd, .events = POLLIN } };
	struct ipc_message *m = malloc(sizeof(*m));

	(void)arg;
	while (poll(p, 2, -1) > 0 && !p[1].revents) {
		if (ipc_recv(agent_channel, m) != 1)
			continue;
		if (m->head.type == MSG_SOCKET_WANTED) {
			struct msg_socket msg = *(struct msg_socket *)(void *)m->payload;
			int fd = refuse_sockets ? -1 : socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

			if (msg.family != AF_INET || msg.type != SOCK_STREAM || msg.netns_cookie != stamp.netns_cookie)
				exit(1);
			msg.err = fd < 0 ? -EPERM : 0;
			ipc_send(agent_channel, MSG_SOCKET, 0, &msg, sizeof(msg), &fd, fd >= 0);
			if (fd >= 0)
				close(fd);
		}
		ipc_message_fini(m);
	}
	free(m);
	return NULL;
}

/* What the provider saw last: head and the length of its body. */
static char seen[16384];
static size_t seen_body;

static void provide(int fd)
{
	static char in[1 << 16];
	size_t n = 0;

	for (;;) {
		ssize_t got = read(fd, in + n, sizeof(in) - 1 - n);
		const char *length, *end;
		size_t want, have;
		char head[200];

		if (got <= 0)
			return;
		n += (size_t)got;
		in[n] = '\0';
		end = strstr(in, "\r\n\r\n");
		if (!end)
			continue;
		length = strcasestr(in, "content-length: ");
		want = length ? strtoul(length + 16, NULL, 10) : 0;
		str_copy(seen, sizeof(seen), (struct str){ in, (size_t)(end - in) });
		have = n - (size_t)(end + 4 - in);
		while (have < want && (got = read(fd, in, sizeof(in))) > 0)
			have += (size_t)got;
		seen_body = have;
		n = 0;
		if (strstr(seen, "x-big:")) {
			static char big[2 << 20];

			memset(big, 'b', sizeof(big));
			snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %zu\r\n\r\n", sizeof(big));
			if (write(fd, head, strlen(head)) < 0 || write(fd, big, sizeof(big)) < 0)
				return;
			continue;
		}
		snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{\"model\":\"m\"}");
		if (write(fd, head, strlen(head)) < 0)
			return;
	}
}

static void *run_provider(void *arg)
{
	int l = *(int *)arg;

	for (;;) {
		int fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			return NULL;
		provide(fd);
		close(fd);
	}
}

static void send_rules(void)
{
	char policy[1024];
	struct msg_rules msg = { 1 };
	struct msg_key key = { .provider = "p" };
	int fds[2], fd = memory_file("sk-ours-0123456789");

	snprintf(policy, sizeof(policy),
		 "{\"providers\":{\"p\":{\"baseurl\":\"http://127.0.0.1:%d\",\"models\":[\"m\"],\"compatibility\":{\"anthropic_messages\":true},"
		 "\"authorization\":\"x-api-key\",\"apikey\":\"file:/x\",\"domains\":[\"api.provider.test\"]},"
		 "\"q\":{\"baseurl\":\"http://127.0.0.1:%d\",\"models\":[\"m\",\"other\"],\"domains\":[\"*.q.test\"],\"auth_mode\":\"none\"}},"
		 "\"unpriced\":\"allow\",\"grants\":[{\"src\":[\"*\"],\"app\":{\"sallyport/cap/llm\":[{\"role\":\"user\",\"models\":\"**\"}]}}]}",
		 provider_port, provider_port);
	fds[0] = memory_file(policy);
	fds[1] = memory_file("");
	ipc_send(agent_channel, MSG_RULES, 0, &msg, sizeof(msg), fds, 2);
	ipc_send(agent_channel, MSG_KEY, 0, &key, sizeof(key), &fd, 1);
	ipc_send(agent_channel, MSG_COMMIT, 0, &msg, sizeof(msg), NULL, 0);
	close(fds[0]);
	close(fds[1]);
	close(fd);
}

static void send_ca(int dir)
{
	struct str domains[] = { STR_INIT("api.provider.test"), STR_INIT("*.q.test") };
	struct ca *ca = NULL;
	int fds[2];
	BIO *bio;

	CHECK_INT(ca_open(dir, STR("box"), domains, 2, false, time(NULL), &ca), 0);
	fds[0] = ca_served(ca);
	fds[1] = ca_key(ca);
	ipc_send(agent_channel, MSG_CA, 0, NULL, 0, fds, 2);
	lseek(fds[0], 0, SEEK_SET);
	bio = BIO_new_fd(fds[0], BIO_CLOSE);
	root = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	BIO_free(bio);
	close(fds[1]);
	ca_free(ca);
	for (const char *const *f = (const char *const[]){ "ca.key", "ca.pem", "cross.pem", "old.pem", NULL }; *f; f++)
		unlinkat(dir, *f, 0);
}

static void start(void)
{
	static int provider_listener;
	static struct policy_diags diags;
	struct msg_sandbox box = { .label_id = 7, .path = "/box", .tags = "tag:a" };
	struct msg_name name = { .name_id = 3, .active = 1, .name = "api.provider.test" };
	struct msg_door door = { .door_id = 1, .netns_cookie = 5 };
	int pair[2], fd;

	signal(SIGPIPE, SIG_IGN);
	log_init("test", LOG_ERR);
	stamp = (struct stamp){ .version = STAMP_VERSION, .label_id = 7, .why = STAMP_VIP, .netns_cookie = 5, .cgroup_id = 9,
				.family = AF_INET, .peer = STAMP_PEER_AGREES, .comm = "client" };
	CHECK(mkdtemp(folder) != NULL);
	journal_dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_INT(config_parse(STR("{\"client\":{\"head_timeout\":\"1s\"}}"), &gw.config, &diags), 0);
	CHECK_INT(loop_init(&gw.loop), 0);
	CHECK_INT(journal_open(journal_dir, "w0", 64 << 20, &gw.journal), 0);
	CHECK_INT(balances_open(memory_file(""), 0, &gw.balances), 0);
	CHECK_INT(live_open(memory_file(""), 200, &gw.live), 0);
	gw.doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	gw.tls = tls_context_new("");
	gw.tls_server = tls_server_new();
	CHECK_INT(upstream_new(&gw.loop, gw.config, gw.tls, &gw.upstream), 0);
	CHECK_INT(ipc_pair(pair), 0);
	gw.channel = pair[0];
	agent_channel = pair[1];
	gw.loop.after_batch = after_batch;
	gw.loop.after_arg = &gw;
	CHECK_INT(loop_watch(&gw.loop, &channel_watch, gw.channel, EPOLLIN, on_channel, &gw), 0);
	stop_fd = eventfd(0, EFD_CLOEXEC);
	provider_listener = listener(&provider_port);
	pthread_create(&provider, NULL, run_provider, &provider_listener);
	send_rules();
	send_ca(journal_dir);
	ipc_send(agent_channel, MSG_LABEL, 0, &box, sizeof(box), NULL, 0);
	ipc_send(agent_channel, MSG_NAME, 0, &name, sizeof(name), NULL, 0);
	fd = listener(&door_port);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	ipc_send(agent_channel, MSG_DOOR, 0, &door, sizeof(door), &fd, 1);
	close(fd);
	gateway_drain_channel(&gw);
	CHECK(gw.rules && tls_server_has_ca(gw.tls_server) && gw.n_doors == 1);
	pthread_create(&worker, NULL, run_worker, NULL);
	pthread_create(&agent, NULL, run_agent, NULL);
}

/* ------------------------------------------------------------------ what was recorded */

static struct journal_reader *reader;
/* Of the newest request and event. */
static struct rec_request last_request;
static char last_kind[64], last_text[600];

/* Waits for the next record of this type. */
static bool next_record(enum record_type type)
{
	struct journal_position from = { 0, 0 };
	struct journal_record rec;
	struct str parts[EV_STRINGS];
	struct rec_event event;

	if (!reader && journal_reader_open(journal_dir, "w0", from, &reader) < 0)
		return false;
	for (int i = 0; i < 300; i++) {
		while (journal_read(reader, &rec) == 1) {
			if (rec.type == REC_REQUEST)
				memcpy(&last_request, rec.data, sizeof(last_request));
			if (rec.type == REC_EVENT) {
				memcpy(&event, rec.data, sizeof(event));
				record_unpack(event.len, EV_STRINGS, (const char *)rec.data + sizeof(event),
					      rec.len - sizeof(event), parts);
				str_copy(last_kind, sizeof(last_kind), parts[EV_KIND]);
				str_copy(last_text, sizeof(last_text), parts[EV_TEXT]);
			}
			if (rec.type == (uint32_t)type)
				return true;
		}
		usleep(10000);
	}
	return false;
}

static void expect_event(const char *kind, const char *text)
{
	last_kind[0] = '\0';
	CHECK(next_record(REC_EVENT));
	CHECK_STR(last_kind, kind);
	if (!strstr(last_text, text))
		printf("event: %s\n", last_text);
	CHECK(strstr(last_text, text) != NULL);
}

/* ------------------------------------------------------------------ clients */

static void led(enum stamp_why why, int port)
{
	static const unsigned char loopback[4] = { 127, 0, 0, 1 };

	stamp.why = why;
	stamp.orig_port = (uint32_t)port;
	stamp.name_id = why == STAMP_VIP ? 3 : 0;
	memset(stamp.orig_addr, 0, sizeof(stamp.orig_addr));
	memcpy(stamp.orig_addr, loopback, 4);
}

static SSL_CTX *client_context(bool trusts)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (trusts)
		X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root);
	return ctx;
}

struct client {
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;
};

/* 1: connected; else the reason of OpenSSL's error, or -1. */
static int client_open(struct client *c, const char *sni, bool trusts)
{
	int n;

	c->ctx = client_context(trusts);
	c->fd = connect_to(door_port);
	c->ssl = SSL_new(c->ctx);
	SSL_set_fd(c->ssl, c->fd);
	if (sni) {
		SSL_set_tlsext_host_name(c->ssl, sni);
		SSL_set1_host(c->ssl, sni);
	}
	ERR_clear_error();
	n = SSL_connect(c->ssl);
	return n == 1 ? 1 : ERR_peek_error() ? ERR_GET_REASON(ERR_peek_error()) : -1;
}

static void client_close(struct client *c)
{
	SSL_free(c->ssl);
	SSL_CTX_free(c->ctx);
	close(c->fd);
}

static char answer[3 << 20];

/* One answer by its content-length; the status, or 0. */
static int read_answer(struct client *c, size_t *ret_body)
{
	size_t n = 0, want = 0;
	const char *end = NULL, *length;

	while (!end || n < want) {
		ssize_t got = c->ssl ? SSL_read(c->ssl, answer + n, (int)(sizeof(answer) - 1 - n)) :
				       read(c->fd, answer + n, sizeof(answer) - 1 - n);

		if (got <= 0)
			return 0;
		n += (size_t)got;
		answer[n] = '\0';
		end = end ? end : strstr(answer, "\r\n\r\n");
		length = end ? strcasestr(answer, "content-length: ") : NULL;
		if (length)
			want = (size_t)(end + 4 - answer) + strtoul(length + 16, NULL, 10);
		if (want && n > want)
			return 0; /* one at a time, please */
	}
	if (ret_body)
		*ret_body = want - (size_t)(end + 4 - answer);
	return (int)strtol(answer + 9, NULL, 10);
}

static void put(struct client *c, const char *data, size_t n)
{
	if (c->ssl)
		CHECK(SSL_write(c->ssl, data, (int)n) == (int)n);
	else
		CHECK(write(c->fd, data, n) == (ssize_t)n);
}

static void puts_text(struct client *c, const char *text)
{
	put(c, text, strlen(text));
}

static void ask(struct client *c, const char *host, const char *fields, const char *model)
{
	char text[1024], body[200];

	snprintf(body, sizeof(body), "{\"model\":\"%s\",\"max_tokens\":5,\"messages\":[]}", model);
	snprintf(text, sizeof(text), "POST /v1/messages HTTP/1.1\r\nHost: %s\r\nx-api-key: sk-client\r\n%scontent-length: %zu\r\n\r\n%s",
		 host, fields, strlen(body), body);
	put(c, text, strlen(text));
}

/* ------------------------------------------------------------------ a provider's name */

static void served_over_tls(void)
{
	struct client c;

	start();
	led(STAMP_VIP, 443);
	CHECK_INT(client_open(&c, "api.provider.test", true), 1);
	ask(&c, "api.provider.test", "", "m");
	CHECK_INT(read_answer(&c, NULL), 200);
	CHECK(strstr(seen, "x-api-key: sk-ours-0123456789") && !strstr(seen, "sk-client"));
	CHECK(next_record(REC_REQUEST));
	CHECK_INT(last_request.outcome, OUTCOME_OK);
	CHECK(last_request.flags & RQF_FORCED);
	/* The same connection, the name in other spellings. */
	ask(&c, "API.Provider.test:443", "", "m");
	CHECK_INT(read_answer(&c, NULL), 200);
	CHECK(next_record(REC_REQUEST));
	/* As a client writes it that was led from another port of such a front end. */
	ask(&c, "api.provider.test:8443", "", "m");
	CHECK_INT(read_answer(&c, NULL), 200);
	CHECK(next_record(REC_REQUEST));
	client_close(&c);
}

/* Two requests in one record while the first one is with the provider. */
static void pipelined(void)
{
	static const char body[] = "{\"model\":\"m\",\"max_tokens\":5,\"messages\":[]}";
	struct client c;
	char text[2048];
	size_t n = 0, got = 0;

	for (int i = 0; i < 3; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "POST /v1/messages HTTP/1.1\r\nHost: api.provider.test\r\ncontent-length: %zu\r\n\r\n%s",
				      strlen(body), body);
	CHECK_INT(client_open(&c, "api.provider.test", true), 1);
	put(&c, text, n);
	for (unsigned answers = 0; answers < 3;) {
		int r = SSL_read(c.ssl, answer + got, (int)(sizeof(answer) - 1 - got));

		if (r <= 0) {
			CHECK_INT(answers, 3);
			break;
		}
		got += (size_t)r;
		answer[got] = '\0';
		answers = 0;
		for (const char *p = answer; (p = strstr(p, "{\"model\":\"m\"}")); p++)
			answers++;
	}
	client_close(&c);
	for (int i = 0; i < 3; i++)
		CHECK(next_record(REC_REQUEST));
}

static void large(void)
{
	static char body[1 << 20];
	struct client c;
	char head[300];
	size_t n = 0;

	CHECK_INT(client_open(&c, "api.provider.test", true), 1);
	memset(body, ' ', sizeof(body));
	memcpy(body, "{\"model\":\"m\",\"messages\":[]}", 27);
	snprintf(head, sizeof(head), "POST /v1/messages HTTP/1.1\r\nHost: api.provider.test\r\nx-big: 1\r\ncontent-length: %zu\r\n\r\n", sizeof(body));
	put(&c, head, strlen(head));
	put(&c, body, sizeof(body));
	CHECK_INT(read_answer(&c, &n), 200);
	CHECK_INT(seen_body, sizeof(body));
	CHECK_INT(n, 2 << 20);
	CHECK(memcmp(answer + strlen(answer) - 4, "bbbb", 4) == 0);
	client_close(&c);
	CHECK(next_record(REC_REQUEST));
}

static void misdirected(void)
{
	static const char *const hosts[] = { "a.q.test", "evil.test", "api.provider.test:https", "api.provider.test:", "api.provider.test.evil.test" };
	struct client c;

	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		CHECK_INT(client_open(&c, "api.provider.test", true), 1);
		ask(&c, hosts[i], "", "m");
		CHECK_INT(read_answer(&c, NULL), 421);
		CHECK(strstr(answer, "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\"") != NULL);
		CHECK_INT(SSL_read(c.ssl, answer, 1), 0); /* closed, and said so */
		client_close(&c);
	}
}

/* The path decides the format, the name the provider: a model that only another one has is not there. */
static void bound_to_its_providers(void)
{
	struct client c;

	CHECK_INT(client_open(&c, "api.provider.test", true), 1);
	ask(&c, "api.provider.test", "", "other");
	CHECK_INT(read_answer(&c, NULL), 404);
	puts_text(&c, "GET /v1/models HTTP/1.1\r\nHost: api.provider.test\r\n\r\n");
	CHECK_INT(read_answer(&c, NULL), 200);
	CHECK(strstr(answer, "\"m\"") && !strstr(answer, "other"));
	puts_text(&c, "GET /api/hello HTTP/1.1\r\nHost: api.provider.test\r\n\r\n");
	CHECK_INT(read_answer(&c, NULL), 404);
	client_close(&c);
}

/* Reads until the text is among the last bytes that came. */
static bool read_until(struct client *c, const char *text, size_t n)
{
	size_t have = 0;
	int got;

	while (!memmem(answer, have, text, n) && (got = SSL_read(c->ssl, answer + have, (int)(sizeof(answer) - have))) > 0)
		have += (size_t)got;
	return memmem(answer, have, text, n) != NULL;
}

/* Chosen by ALPN; every stream of it is for the name, as every request of HTTP/1.1 is. */
static void served_over_h2(void)
{
	static const char first[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
				    "\0\0\x21\1\5\0\0\0\1\x82\x87\4\x0a/v1/models\1\x11" "api.provider.test";
	static const char second[] = "\0\0\x19\1\5\0\0\0\3\x82\x87\4\x0a/v1/models\1\x09" "evil.test";
	static const char offer[] = "\x08http/1.1\x02h2";
	const unsigned char *chosen = NULL;
	unsigned n = 0;
	struct client c = { .ctx = client_context(true), .fd = connect_to(door_port) };

	SSL_CTX_set_alpn_protos(c.ctx, (const unsigned char *)offer, sizeof(offer) - 1);
	c.ssl = SSL_new(c.ctx);
	SSL_set_fd(c.ssl, c.fd);
	SSL_set_tlsext_host_name(c.ssl, "api.provider.test");
	CHECK_INT(SSL_connect(c.ssl), 1);
	SSL_get0_alpn_selected(c.ssl, &chosen, &n);
	CHECK(n == 2 && memcmp(chosen, "h2", 2) == 0);
	put(&c, first, sizeof(first) - 1);
	CHECK(read_until(&c, "{\"object\":\"list\"", 16));
	put(&c, second, sizeof(second) - 1);
	CHECK(read_until(&c, "which its connection was made for", 33));
	client_close(&c);
}

static void served_in_clear(void)
{
	struct client c = { .ssl = NULL };

	led(STAMP_SUSPECT, 80);
	c.fd = connect_to(door_port);
	ask(&c, "api.provider.test", "", "m");
	CHECK_INT(read_answer(&c, NULL), 200);
	ask(&c, "evil.test", "", "m");
	CHECK_INT(read_answer(&c, NULL), 421);
	close(c.fd);
}

/* Cut at every byte, the hello and what follows. */
static void byte_by_byte(void)
{
	struct client c = { .ctx = client_context(true), .fd = connect_to(door_port) };
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	char byte, bytes[4096];
	int done;

	c.ssl = SSL_new(c.ctx);
	SSL_set_bio(c.ssl, in, out);
	SSL_set_tlsext_host_name(c.ssl, "api.provider.test");
	while ((done = SSL_connect(c.ssl)) != 1) {
		while (BIO_read(out, &byte, 1) == 1)
			CHECK(write(c.fd, &byte, 1) == 1);
		done = (int)read(c.fd, bytes, sizeof(bytes));
		CHECK(done > 0);
		if (done <= 0)
			break;
		BIO_write(in, bytes, done);
	}
	CHECK_INT(SSL_is_init_finished(c.ssl), 1);
	client_close(&c);
}

/* ------------------------------------------------------------------ refused */

static void untrusted(void)
{
	struct client c;

	led(STAMP_VIP, 443);
	CHECK_INT(client_open(&c, "api.provider.test", false), SSL_R_CERTIFICATE_VERIFY_FAILED);
	client_close(&c);
	expect_event("ca-untrusted", "give it the base URL http://127.0.0.1:");
}

static void other_name_at_vip(void)
{
	struct client c;

	CHECK_INT(client_open(&c, "evil.test", true), SSL_R_TLSV1_UNRECOGNIZED_NAME);
	client_close(&c);
	expect_event("vip-other-name", "for evil.test, the address of api.provider.test (vip) was refused");
	c = (struct client){ .fd = connect_to(door_port) };
	ask(&c, "evil2.test", "", "m");
	CHECK_INT(read_answer(&c, NULL), 421);
	close(c.fd);
	expect_event("vip-other-name", "for evil2.test");
}

static void hidden_name(void)
{
	static const enum stamp_why whys[] = { STAMP_VIP, STAMP_SUSPECT, STAMP_STRICT };
	struct client c;

	for (size_t i = 0; i < ARRAY_SIZE(whys); i++) {
		led(whys[i], 443);
		CHECK_INT(client_open(&c, NULL, true), SSL_R_TLSV1_ALERT_ACCESS_DENIED);
		client_close(&c);
		expect_event("no-name", "connect by name");
	}
}

static void neither(void)
{
	int fd = connect_to(door_port);
	char byte;

	CHECK(write(fd, "SSH-2.0-x\r\n\r\n", 13) == 13);
	CHECK(read(fd, &byte, 1) <= 0);
	close(fd);
	expect_event("not-web", "speaks neither TLS nor HTTP/1");
	fd = connect_to(door_port); /* whose name is compressed */
	CHECK(write(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24) == 24);
	CHECK(read(fd, &byte, 1) <= 0); /* the same event, told once */
	close(fd);
	/* One that waits for the server to speak first. */
	led(STAMP_STRICT, 8443);
	fd = connect_to(door_port);
	CHECK(read(fd, &byte, 1) <= 0);
	close(fd);
	expect_event("not-web", "port 8443");
}

static void tls_at_the_explicit_door(void)
{
	struct client c;

	led(STAMP_EXPLICIT, 0);
	CHECK_INT(client_open(&c, "api.provider.test", true), SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE);
	client_close(&c);
	c = (struct client){ .fd = connect_to(door_port) };
	ask(&c, "127.0.0.1", "", "m");
	CHECK_INT(read_answer(&c, NULL), 200);
	close(c.fd);
}

/* ------------------------------------------------------------------ passed on */

static int origin, origin_port;

static int origin_accept(void)
{
	struct pollfd p = { .fd = origin, .events = POLLIN };
	struct timeval limit = { 5, 0 };
	int fd = poll(&p, 1, 3000) == 1 ? accept4(origin, NULL, NULL, SOCK_CLOEXEC) : -1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static size_t load_hello(char *to, size_t size)
{
	FILE *f = fopen("tests/fixtures/hello/go", "rb");
	size_t n = f ? fread(to, 1, size, f) : 0;

	if (f)
		fclose(f);
	return n;
}

static bool read_exactly(int fd, char *to, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t got = read(fd, to + at, n - at);

		if (got <= 0)
			return false;
		at += (size_t)got;
	}
	return true;
}

struct pouring {
	int fd;
	size_t n;
	unsigned seed;
};

static char pattern(size_t i, unsigned seed)
{
	return (char)((i * 2654435761u + seed) >> 13);
}

static void *pour(void *arg)
{
	struct pouring *p = arg;
	static __thread char block[65536];

	for (size_t at = 0; at < p->n;) {
		size_t n = MIN(sizeof(block), p->n - at), sent = 0;

		for (size_t i = 0; i < n; i++)
			block[i] = pattern(at + i, p->seed);
		while (sent < n) {
			ssize_t put_now = write(p->fd, block + sent, n - sent);

			if (put_now <= 0)
				return NULL;
			sent += (size_t)put_now;
		}
		at += n;
	}
	shutdown(p->fd, SHUT_WR);
	return NULL;
}

/* All of it, then the end. */
static bool same(int fd, size_t n, unsigned seed)
{
	static char block[65536];
	size_t at = 0;
	ssize_t got;

	while ((got = read(fd, block, sizeof(block))) > 0) {
		for (ssize_t i = 0; i < got; i++)
			if (block[i] != pattern(at + (size_t)i, seed))
				return false;
		at += (size_t)got;
	}
	return got == 0 && at == n;
}

/* The hello as it was sent, then 32 MiB each way at once, each end passed on alone. */
static void spliced(void)
{
	static char hello[4096], got[4096];
	size_t n = load_hello(hello, sizeof(hello));
	int fd, far;
	struct pouring up, down;
	pthread_t t1, t2;

	origin = listener(&origin_port);
	led(STAMP_SUSPECT, origin_port);
	fd = connect_to(door_port);
	CHECK(write(fd, hello, 700) == 700);
	usleep(20000);
	CHECK(write(fd, hello + 700, n - 700) == (ssize_t)(n - 700));
	far = origin_accept();
	CHECK(far >= 0 && read_exactly(far, got, n) && memcmp(hello, got, n) == 0);
	up = (struct pouring){ fd, 32 << 20, 1 };
	down = (struct pouring){ far, 32 << 20, 2 };
	pthread_create(&t1, NULL, pour, &up);
	pthread_create(&t2, NULL, pour, &down);
	CHECK(same(far, up.n, up.seed));
	pthread_join(t1, NULL);
	CHECK(same(fd, down.n, down.seed));
	pthread_join(t2, NULL);
	close(fd);
	close(far);
	for (int i = 0; i < 100 && gw.n_conns; i++)
		usleep(10000);
	CHECK_INT(gw.n_conns, 0); /* nothing is left of it, nor of its weight */
}

/* The client has sent its end; the answer still comes, also after a while. */
static void half_closed(void)
{
	static char hello[4096], got[4096];
	size_t n = load_hello(hello, sizeof(hello));
	int fd = connect_to(door_port), far;

	CHECK(write(fd, hello, n) == (ssize_t)n);
	shutdown(fd, SHUT_WR);
	far = origin_accept();
	CHECK(read_exactly(far, got, n));
	CHECK_INT(read(far, got, 1), 0);
	usleep(50000);
	CHECK(write(far, "late", 4) == 4);
	CHECK(read_exactly(fd, got, 4) && memcmp(got, "late", 4) == 0);
	close(far);
	CHECK_INT(read(fd, got, 1), 0);
	close(fd);
}

static void resets(void)
{
	static char hello[4096], got[4096];
	struct linger now = { 1, 0 };
	size_t n = load_hello(hello, sizeof(hello));

	for (int from_client = 0; from_client < 2; from_client++) {
		int fd = connect_to(door_port), far, left, stays;

		CHECK(write(fd, hello, n) == (ssize_t)n);
		far = origin_accept();
		CHECK(read_exactly(far, got, n));
		left = from_client ? fd : far;
		stays = from_client ? far : fd;
		setsockopt(left, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(left);
		CHECK_INT(read(stays, got, 1), -1);
		CHECK_INT(errno, ECONNRESET);
		close(stays);
	}
	/* Nobody listens at the original address. */
	led(STAMP_SUSPECT, 1);
	{
		int fd = connect_to(door_port);

		CHECK(write(fd, hello, n) == (ssize_t)n);
		CHECK_INT(read(fd, got, 1), -1);
		CHECK_INT(errno, ECONNRESET);
		close(fd);
		/* The agent has no socket for us. */
		refuse_sockets = true;
		fd = connect_to(door_port);
		CHECK(write(fd, hello, n) == (ssize_t)n);
		CHECK_INT(read(fd, got, 1), -1);
		CHECK_INT(errno, ECONNRESET);
		close(fd);
		refuse_sockets = false;
	}
	led(STAMP_SUSPECT, origin_port);
}

/* Clear text: several requests go on as they are, until one turns to a provider's name. */
static void followed(void)
{
	static const char first[] = "GET /a HTTP/1.1\r\nHost: other.test:8080\r\n\r\n"
				    "POST /b HTTP/1.1\r\nHost: other.test\r\ntransfer-encoding: chunked\r\n\r\n"
				    "3\r\nabc\r\n0\r\n\r\n",
			  second[] = "PUT /c HTTP/1.1\r\nHost: cdn.test\r\ncontent-length: 31\r\n\r\nHost: api.provider.test\r\n\r\n....",
			  third[] = "POST /v1/messages HTTP/1.1\r\nHost: Api.Provider.TEST.\r\n\r\n";
	static char got[4096];
	int fd = connect_to(door_port), far;

	CHECK(write(fd, first, strlen(first)) == (ssize_t)strlen(first));
	far = origin_accept();
	CHECK(read_exactly(far, got, strlen(first)) && memcmp(got, first, strlen(first)) == 0);
	CHECK(write(far, "HTTP/1.1 200 OK\r\n\r\n", 19) == 19);
	CHECK(read_exactly(fd, got, 19));
	for (size_t i = 0; i < strlen(second) - 2; i++)
		CHECK(write(fd, second + i, 1) == 1);
	CHECK(read_exactly(far, got, strlen(second) - 2));
	CHECK(memcmp(got, second, strlen(second) - 2) == 0);
	CHECK(write(fd, second + strlen(second) - 2, 2) == 2);
	CHECK(read_exactly(far, got, 2));
	for (size_t i = 0; i < strlen(third); i++)
		if (write(fd, third + i, 1) != 1)
			break;
	CHECK(read(far, got, sizeof(got)) <= 0); /* not a byte of it */
	CHECK(read(fd, got, sizeof(got)) <= 0);
	expect_event("later-request", "a connection of its own for each name");
	close(fd);
	close(far);
}

static void upgrade_refused(void)
{
	static const char text[] = "GET /ws HTTP/1.1\r\nHost: other.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
	struct client c = { .fd = connect_to(door_port) };

	put(&c, text, strlen(text));
	CHECK_INT(read_answer(&c, NULL), 421);
	close(c.fd);
	expect_event("not-web", "Upgrade");
}

static void stop(void)
{
	uint64_t one = 1;
	char command[100];

	gw.loop.stop = true;
	ipc_send(agent_channel, MSG_DOOR_CLOSE, 0, &(struct msg_door){ .door_id = 1 }, sizeof(struct msg_door), NULL, 0);
	CHECK(write(stop_fd, &one, sizeof(one)) > 0);
	pthread_join(worker, NULL);
	pthread_join(agent, NULL);
	while (gw.conns)
		conn_close(gw.conns);
	after_batch(&gw);
	CHECK_INT(gw.n_conns, 0);
	CHECK_INT(gw.n_requests, 0);
	journal_reader_close(reader);
	journal_close(gw.journal);
	tls_server_free(gw.tls_server);
	hosts_fini(&gw.hosts);
	X509_free(root);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	CHECK_INT(system(command), 0);
}

TESTS(T(served_over_tls), T(pipelined), T(large), T(misdirected), T(bound_to_its_providers), T(served_over_h2),
      T(served_in_clear), T(byte_by_byte), T(untrusted), T(other_name_at_vip), T(hidden_name), T(neither),
      T(tls_at_the_explicit_door), T(spliced), T(half_closed), T(resets), T(followed), T(upgrade_refused), T(stop))
