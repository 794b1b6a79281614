/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 towards clients: sessions of nghttp2's client side, or bytes of ours, against a real worker (worker.h) that is
 * driven from here, and a provider with a thread for each connection, which does as x-test says.
 */
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <semaphore.h>

#include "common/journal.h"
#include "common/record.h"
#include "tests/unit/test.h"
#include "tests/unit/worker.h"

#define BIG_BYTES (2u << 20)
#define BODY_MAX  (4u << 20)
#define ANSWERS	  160

/* ------------------------------------------------------------------ the provider */

static sem_t go;     /* lets a provider's thread go on */
static sem_t turned; /* told by one that waits for it */
static char seen[16384];

static void say(int fd, const char *data, size_t n)
{
	while (n) {
		ssize_t put = write(fd, data, n);

		if (put <= 0)
			return;
		data += put;
		n -= (size_t)put;
	}
}

static void say_text(int fd, const char *text)
{
	say(fd, text, strlen(text));
}

static void say_sized(int fd, const char *fields, const char *body, size_t n)
{
	char head[300];

	snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%scontent-length: %zu\r\n\r\n", fields, n);
	say_text(fd, head);
	say(fd, body, n);
}

/* Lets one that waits go on; when it has gone, so that a later one is not taken for it. */
static void let_go(void)
{
	int waiting = 1;

	sem_post(&go);
	for (int i = 0; i < 1000 && waiting; i++) {
		usleep(1000);
		sem_getvalue(&go, &waiting);
	}
}

/* Two events in three chunks, the second one when it is told to; then what a client must not see. */
static void say_events(int fd)
{
	say_text(fd, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
	say_text(fd, "14;ext=1\r\nevent: a\ndata: {}\n\n\n\r\n");
	sem_post(&turned);
	sem_wait(&go);
	say_text(fd, "5\r\nevent\r\n");
	say_text(fd, "e\r\n: b\ndata: {}\n\n\r\n0\r\nx-trailer: 1\r\n\r\n");
}
static const char events[] = "event: a\ndata: {}\n\n\nevent: b\ndata: {}\n\n";

static void answer(int fd, const char *test, const char *body, size_t n)
{
	static char big[BIG_BYTES];

	if (!strcmp(test, "echo")) {
		say_sized(fd, "", body, n);
	} else if (!strcmp(test, "big")) {
		memset(big, 'b', sizeof(big));
		say_sized(fd, "", big, sizeof(big));
	} else if (!strcmp(test, "events")) {
		say_events(fd);
	} else if (!strcmp(test, "wait")) {
		sem_post(&turned);
		sem_wait(&go);
		say_sized(fd, "", "{}", 2);
	} else if (!strcmp(test, "break")) {
		say_text(fd, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
		shutdown(fd, SHUT_RDWR);
	} else {
		say_sized(fd, "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nX-Case: Kept\r\n", "{\"model\":\"m\"}", 13);
	}
}

static void *provide(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char *in = malloc(BODY_MAX), test[32];
	size_t n = 0;
	ssize_t got;

	while ((got = read(fd, in + n, BODY_MAX - 1 - n)) > 0) {
		const char *end, *length, *field;
		size_t want, head;

		n += (size_t)got;
		in[n] = '\0';
		end = strstr(in, "\r\n\r\n");
		length = end ? strcasestr(in, "content-length: ") : NULL;
		want = length ? strtoul(length + 16, NULL, 10) : 0;
		head = end ? (size_t)(end + 4 - in) : 0;
		if (!end || n < head + want)
			continue;
		str_copy(seen, sizeof(seen), (struct str){ in, head });
		field = strstr(seen, "x-test: ");
		str_copy(test, sizeof(test), field ? (struct str){ field + 8, strcspn(field + 8, "\r") } : STR(""));
		answer(fd, test, in + head, want);
		n = 0;
	}
	free(in);
	close(fd);
	return NULL;
}

static void *run_provider(void *arg)
{
	int fd;

	while ((fd = accept4((int)(intptr_t)arg, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		pthread_t t;

		pthread_create(&t, NULL, provide, (void *)(intptr_t)fd);
		pthread_detach(t);
	}
	return NULL;
}

static int provider_start(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_t t;

	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 256) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		exit(1);
	pthread_create(&t, NULL, run_provider, (void *)(intptr_t)fd);
	pthread_detach(t);
	return ntohs(a.sin_port);
}

/* ------------------------------------------------------------------ the client */

struct reply {
	int32_t id;
	int status;
	char fields[2048]; /* "name: value\n" */
	struct buf body;
	bool closed;
	uint32_t error;
	/* of the request */
	const char *data;
	size_t n_data;
};

struct client {
	int fd;
	nghttp2_session *session;
	struct buf out;
	struct reply replies[ANSWERS];
	unsigned n;
	bool ended; /* the worker closed */
	int goaway; /* -1: none */
};

static struct reply *reply_of(struct client *c, int32_t id)
{
	for (unsigned i = 0; i < c->n; i++)
		if (c->replies[i].id == id)
			return &c->replies[i];
	return NULL;
}

static int client_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t n_name,
			 const uint8_t *value, size_t n_value, uint8_t flags, void *arg)
{
	struct reply *r = reply_of(arg, frame->hd.stream_id);
	size_t at = strlen(r->fields);

	(void)session;
	(void)flags;
	(void)n_name;
	if (!strcmp((const char *)name, ":status"))
		r->status = (int)strtol((const char *)value, NULL, 10);
	snprintf(r->fields + at, sizeof(r->fields) - at, "%s: %.*s\n", (const char *)name, (int)n_value, (const char *)value);
	return 0;
}

static int client_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *arg)
{
	(void)session;
	(void)flags;
	return buf_append(&reply_of(arg, id)->body, data, n) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int client_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
	struct reply *r = reply_of(arg, id);

	(void)session;
	r->closed = true;
	r->error = error;
	return 0;
}

static int client_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	(void)session;
	if (frame->hd.type == NGHTTP2_GOAWAY)
		((struct client *)arg)->goaway = (int)frame->goaway.error_code;
	return 0;
}

static ssize_t client_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t size, uint32_t *flags,
			   nghttp2_data_source *source, void *arg)
{
	struct reply *r = source->ptr;
	size_t n = MIN(size, r->n_data);

	(void)session;
	(void)id;
	(void)arg;
	memcpy(to, r->data, n);
	r->data += n;
	r->n_data -= n;
	if (!r->n_data)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

/* `manual`: the windows of its streams stay at 65535 until the test says otherwise. */
static struct client *client_open(bool manual)
{
	struct client *c = calloc(1, sizeof(*c));
	nghttp2_session_callbacks *calls;
	nghttp2_option *option;

	c->fd = worker_connect(false);
	c->goaway = -1;
	buf_init(&c->out, 16 << 20);
	nghttp2_session_callbacks_new(&calls);
	nghttp2_option_new(&option);
	nghttp2_session_callbacks_set_on_header_callback(calls, client_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, client_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(calls, client_close);
	nghttp2_session_callbacks_set_on_frame_recv_callback(calls, client_frame);
	nghttp2_option_set_no_auto_window_update(option, manual);
	nghttp2_option_set_no_http_messaging(option, 1); /* malformed requests go out */
	nghttp2_option_set_max_send_header_block_length(option, 1 << 20);
	nghttp2_session_client_new2(&c->session, calls, c, option);
	nghttp2_session_callbacks_del(calls);
	nghttp2_option_del(option);
	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, NULL, 0);
	nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, 64 << 20);
	return c;
}

/* Sends, lets the worker run once, receives. */
static void turn(struct client *c)
{
	static char in[65536];
	const uint8_t *data;
	ssize_t n;

	while (c->session && (n = nghttp2_session_mem_send(c->session, &data)) > 0)
		buf_append(&c->out, data, (size_t)n);
	if (buf_len(&c->out) && (n = send(c->fd, buf_head(&c->out), buf_len(&c->out), MSG_NOSIGNAL)) > 0)
		buf_consume(&c->out, (size_t)n);
	loop_once(&gw.loop, 2);
	while ((n = read(c->fd, in, sizeof(in))) > 0)
		if (c->session && nghttp2_session_mem_recv(c->session, (uint8_t *)in, (size_t)n) < 0)
			c->ended = true;
	c->ended |= n == 0;
}

static void turns(struct client *c, unsigned n)
{
	while (n--)
		turn(c);
}

/* Until this many of its streams are closed, or 5 s are over. */
static bool closed(struct client *c, unsigned n)
{
	uint64_t until = gw.loop.now_ns + 5 * NSEC_PER_SEC;

	for (;;) {
		unsigned is = 0;

		for (unsigned i = 0; i < c->n; i++)
			is += c->replies[i].closed;
		if (is >= n)
			return true;
		if (gw.loop.now_ns > until)
			return false;
		turn(c);
	}
}

static bool ended(struct client *c)
{
	uint64_t until = gw.loop.now_ns + 5 * NSEC_PER_SEC;

	while (!c->ended && gw.loop.now_ns < until)
		turn(c);
	return c->ended;
}

static void client_free(struct client *c)
{
	for (unsigned i = 0; i < c->n; i++)
		buf_fini(&c->replies[i].body);
	nghttp2_session_del(c->session);
	buf_fini(&c->out);
	close(c->fd);
	free(c);
	for (int i = 0; i < 200 && gw.n_conns; i++)
		loop_once(&gw.loop, 5);
	CHECK_INT(gw.n_conns, 0);
	CHECK_INT(gw.n_requests, 0);
}

#define FIELDS_MAX 8

/* `extra`: "name: value" lines, up to FIELDS_MAX; a line may hold a pseudo field. Without a body: GET. */
static struct reply *ask(struct client *c, const char *method, const char *path, const char *extra, const char *body, size_t n)
{
	struct reply *r = &c->replies[c->n++];
	nghttp2_data_provider from = { .source.ptr = r, .read_callback = client_body };
	static char text[200000];
	nghttp2_nv fields[FIELDS_MAX + 3];
	size_t n_fields = 0;
	char *line, *rest = text;

	snprintf(text, sizeof(text), ":method: %s\n:path: %s\n:scheme: http\n:authority: gate\n%s", method, path, extra);
	while ((line = strsep(&rest, "\n")) && *line) {
		char *colon = strchr(line + 1, ':');

		*colon = '\0';
		fields[n_fields++] = (nghttp2_nv){ (uint8_t *)line, (uint8_t *)colon + 2, strlen(line), strlen(colon + 2), 0 };
	}
	r->data = body;
	r->n_data = n;
	buf_init(&r->body, BODY_MAX);
	r->id = nghttp2_submit_request(c->session, NULL, fields, n_fields, body ? &from : NULL, NULL);
	CHECK(r->id > 0);
	return r;
}

static const char small[] = "{\"model\":\"m\",\"max_tokens\":5,\"messages\":[]}";

static struct reply *ask_model(struct client *c, const char *extra)
{
	return ask(c, "POST", "/v1/messages", extra, small, strlen(small));
}

static bool body_is(const struct reply *r, const char *data, size_t n)
{
	return buf_len(&r->body) == n && (!n || memcmp(buf_head(&r->body), data, n) == 0);
}

static bool body_has(const struct reply *r, const char *text)
{
	return buf_len(&r->body) && memmem(buf_head(&r->body), buf_len(&r->body), text, strlen(text));
}

/* ------------------------------------------------------------------ what was recorded */

static bool next_request(struct rec_request *ret)
{
	static struct journal_reader *reader;
	struct journal_position from = { 0, 0 };
	struct journal_record rec;

	if (!reader && journal_reader_open(journal_dir, "w0", from, &reader) < 0)
		return false;
	while (journal_read(reader, &rec) == 1)
		if (rec.type == REC_REQUEST) {
			memcpy(ret, rec.data, sizeof(*ret));
			return true;
		}
	return false;
}

/* The outcome of the newest one; -1: none since the last question. */
static int last_outcome(void)
{
	struct rec_request rec;
	int outcome = -1;

	while (next_request(&rec))
		outcome = rec.outcome;
	return outcome;
}

/* ------------------------------------------------------------------ answers */

static void json(void)
{
	struct client *c;
	struct reply *r;

	sem_init(&go, 0, 0);
	sem_init(&turned, 0, 0);
	worker_start("{\"client\":{\"head_timeout\":\"1s\",\"max_connections\":200,\"body_limit\":\"3MiB\"}}", provider_start());
	c = client_open(false);
	r = ask_model(c, "x-api-key: sk-client\nuser-agent: curl/8\n");
	CHECK(closed(c, 1));
	CHECK_INT(r->status, 200);
	CHECK_INT(r->error, NGHTTP2_NO_ERROR);
	CHECK(body_is(r, "{\"model\":\"m\"}", 13));
	CHECK(strstr(r->fields, "content-type: application/json\n") && strstr(r->fields, "x-case: Kept\n"));
	CHECK(strstr(r->fields, "content-length: 13\n") && strstr(r->fields, "sallyport-request-id: sp_"));
	CHECK(!strstr(r->fields, "connection") && !strstr(r->fields, "keep-alive") && !strstr(r->fields, "transfer-encoding"));
	CHECK(strstr(seen, "POST /v1/messages HTTP/1.1\r\n") && strstr(seen, "x-api-key: sk-ours-0123456789\r\n"));
	CHECK(!strstr(seen, "sk-client") && !strstr(seen, ":authority"));
	CHECK_INT(last_outcome(), OUTCOME_OK);
	/* The same connection goes on. */
	r = ask_model(c, "");
	CHECK(closed(c, 2));
	CHECK_INT(r->status, 200);
	client_free(c);
}

/* Each event is there before the next one is sent; framing, extensions and trailers are not. */
static void event_stream(void)
{
	struct client *c = client_open(false);
	struct reply *r = ask_model(c, "x-test: events\n");
	size_t first = strlen("event: a\ndata: {}\n\n\n");

	for (int i = 0; i < 500 && buf_len(&r->body) < first; i++)
		turn(c);
	CHECK(body_is(r, events, first) && !r->closed);
	sem_wait(&turned);
	let_go();
	CHECK(closed(c, 1));
	CHECK(body_is(r, events, strlen(events)));
	CHECK_INT(r->error, NGHTTP2_NO_ERROR);
	CHECK(strstr(r->fields, "content-type: text/event-stream\n") && !strstr(r->fields, "trailer"));
	CHECK_INT(last_outcome(), OUTCOME_OK);
	client_free(c);
}

static char *large_body(size_t n, char seed)
{
	char *body = malloc(n);

	for (size_t i = 0; i < n; i++)
		body[i] = (char)('a' + (i * 7 + (size_t)seed) % 26);
	memcpy(body, "{\"model\":\"m\",\"x\":\"", 18);
	memcpy(body + n - 2, "\"}", 2);
	return body;
}

/* A MiB there and back, with and without its length. */
static void large(void)
{
	size_t n = 1 << 20;
	char *body = large_body(n, 1);
	struct client *c = client_open(false);
	struct reply *a = ask(c, "POST", "/v1/messages", "x-test: echo\ncontent-length: 1048576\n", body, n);
	struct reply *b = ask(c, "POST", "/v1/messages", "x-test: echo\nexpect: 100-continue\n", body, n);

	CHECK(closed(c, 2));
	CHECK(strstr(b->fields, ":status: 100\n") && strstr(b->fields, ":status: 200\n"));
	CHECK(a->status == 200 && body_is(a, body, n));
	CHECK(b->status == 200 && body_is(b, body, n));
	CHECK(strstr(seen, "content-length: 1048576\r\n") != NULL);
	client_free(c);
	free(body);
}

static void parallel(void)
{
	struct client *c = client_open(false);
	char *bodies[100];

	for (int i = 0; i < 100; i++) {
		bodies[i] = large_body(20000, (char)i);
		ask(c, "POST", "/v1/messages", "x-test: echo\n", bodies[i], 20000);
	}
	CHECK(closed(c, 100));
	for (int i = 0; i < 100; i++) {
		CHECK(c->replies[i].status == 200 && body_is(&c->replies[i], bodies[i], 20000));
		free(bodies[i]);
	}
	client_free(c);
}

/* A client that leaves one stream alone stops neither the others nor fills our memory; later it gets all of it. */
static void windows(void)
{
	struct client *c = client_open(true);
	struct reply *stuck = ask_model(c, "x-test: big\n"), *other;

	turns(c, 100);
	CHECK_INT(buf_len(&stuck->body), 65535);
	for (const struct conn *at = gw.conns; at; at = at->next)
		CHECK(buf_len(&at->out) < 600000);
	other = ask_model(c, "");
	CHECK(closed(c, 1));
	CHECK(other->status == 200 && !stuck->closed);
	nghttp2_submit_window_update(c->session, NGHTTP2_FLAG_NONE, stuck->id, 8 << 20);
	CHECK(closed(c, 2));
	CHECK_INT(buf_len(&stuck->body), BIG_BYTES);
	CHECK_INT(stuck->error, NGHTTP2_NO_ERROR);
	client_free(c);
}

static void broken(void)
{
	struct client *c = client_open(false);
	struct reply *r = ask_model(c, "x-test: break\n");

	CHECK(closed(c, 1));
	CHECK_INT(r->status, 200);
	CHECK(body_is(r, "half", 4));
	CHECK_INT(r->error, NGHTTP2_INTERNAL_ERROR);
	CHECK_INT(last_outcome(), OUTCOME_UPSTREAM_BROKE);
	client_free(c);
}

/* ------------------------------------------------------------------ refusals */

static void denied(void)
{
	static const char other[] = "{\"model\":\"other\",\"messages\":[]}";
	struct client *c = client_open(false);
	struct reply *native = ask(c, "POST", "/v1/messages", "", other, strlen(other));
	struct reply *chat = ask(c, "POST", "/v1/chat/completions", "", other, strlen(other));
	struct reply *path = ask(c, "GET", "/api/hello", "", NULL, 0);
	struct reply *list = ask(c, "GET", "/v1/models", "", NULL, 0);
	struct reply *head = ask(c, "HEAD", "/", "", NULL, 0);

	CHECK(closed(c, 5));
	CHECK(native->status == 404 && body_has(native, "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\""));
	CHECK(chat->status == 404 && body_has(chat, "{\"error\":{\"type\":\"not_found_error\""));
	CHECK(strstr(native->fields, "sallyport-reason: unknown_model\n") && !strstr(native->fields, "connection"));
	CHECK(path->status == 404 && body_has(path, "is not served here"));
	CHECK(list->status == 200 && body_has(list, "\"m\""));
	CHECK(head->status == 200 && !buf_len(&head->body));
	client_free(c);
	stamp.version = 0;
	c = client_open(false);
	native = ask_model(c, "");
	CHECK(closed(c, 1));
	CHECK(native->status == 403 && body_has(native, "no labelled sandbox"));
	client_free(c);
	stamp.version = STAMP_VERSION;
}

/* Answered before it is all there; the client is told to stop sending, and the connection goes on. */
static void too_large(void)
{
	size_t n = 4 << 20;
	char *body = large_body(n, 2);
	struct client *c = client_open(false);
	struct reply *a = ask(c, "POST", "/v1/messages", "content-length: 4194304\n", body, n);
	struct reply *b = ask(c, "POST", "/v1/messages", "", body, n);

	CHECK(closed(c, 2));
	CHECK(a->status == 413 && body_has(a, "client.body_limit"));
	CHECK(b->status == 413 && a->error == NGHTTP2_NO_ERROR && b->error == NGHTTP2_NO_ERROR);
	CHECK(a->n_data > 0);
	a = ask_model(c, "");
	CHECK(closed(c, 3));
	CHECK_INT(a->status, 200);
	client_free(c);
	free(body);
}

/* What is refused in HTTP/1.1 is refused here, and what HTTP/2 forbids. */
static void ambiguous(void)
{
	static char fields[80000], value[14001];
	struct client *c = client_open(false);
	struct reply *r[6];

	r[0] = ask(c, "HEAD", "/", "host: gate\n", NULL, 0);
	r[1] = ask(c, "GET", "/", "host: other\n", NULL, 0);
	r[2] = ask(c, "GET", "/a b", "", NULL, 0);
	r[3] = ask(c, "GET", "/", "x: a\rb: c\n", NULL, 0);
	r[4] = ask(c, "GET", "/", "transfer-encoding: chunked\n", NULL, 0);
	r[5] = ask(c, "POST", "/v1/messages", "content-length: 5\n", small, strlen(small));
	CHECK(closed(c, 6));
	CHECK_INT(r[0]->status, 200);
	CHECK(r[1]->status == 400 && body_has(r[1], "Host and :authority differ"));
	CHECK(r[2]->status == 400 || r[2]->error == NGHTTP2_PROTOCOL_ERROR);
	CHECK(r[3]->status == 400 && body_has(r[3], "header field"));
	CHECK(!r[4]->status && r[4]->error == NGHTTP2_PROTOCOL_ERROR);
	CHECK(!r[5]->status && r[5]->error == NGHTTP2_PROTOCOL_ERROR);
	client_free(c);
	/* Long fields: each fits into a frame, all of them not into a head. */
	c = client_open(false);
	memset(value, 'v', sizeof(value) - 1);
	for (int i = 0; i < 5; i++)
		snprintf(fields + strlen(fields), sizeof(fields) - strlen(fields), "x%d: %s\n", i, value);
	r[0] = ask(c, "GET", "/", fields, NULL, 0);
	CHECK(closed(c, 1));
	CHECK(r[0]->status == 400 && body_has(r[0], "too long"));
	client_free(c);
}

/* Streams count as connections: two clients with 100 each find the end of 200, and nobody loses an answer. */
static void counted(void)
{
	struct client *c[2] = { client_open(false), client_open(false) };
	unsigned served = 0, refused = 0;

	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 100; k++)
			ask_model(c[i], "x-test: wait\n");
	for (int i = 0; i < 200; i++) {
		turn(c[0]);
		turn(c[1]);
	}
	for (int i = 0; i < 200; i++)
		sem_post(&go);
	for (int i = 0; i < 2; i++) {
		CHECK(closed(c[i], 100));
		for (unsigned k = 0; k < 100; k++) {
			served += c[i]->replies[k].status == 200;
			refused += c[i]->replies[k].status == 503 && body_has(&c[i]->replies[k], "client.max_connections");
		}
	}
	CHECK(served > 150 && refused > 5 && served + refused == 200);
	close(c[0]->fd);
	c[0]->fd = -1;
	client_free(c[1]);
	client_free(c[0]);
	sem_init(&go, 0, 0);
	sem_init(&turned, 0, 0);
}

/* ------------------------------------------------------------------ ends */

static void reset_by_client(void)
{
	struct client *c = client_open(false);
	struct reply *gone = ask_model(c, "x-test: wait\n"), *stays;

	turns(c, 30);
	sem_wait(&turned);
	last_outcome();
	nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, gone->id, NGHTTP2_CANCEL);
	CHECK(closed(c, 1));
	turns(c, 5);
	CHECK_INT(gw.n_requests, 0);
	CHECK_INT(last_outcome(), OUTCOME_CLIENT_GONE);
	let_go();
	stays = ask_model(c, "");
	CHECK(closed(c, 2));
	CHECK_INT(stays->status, 200);
	/* The connection breaks under streams that run. */
	ask_model(c, "x-test: wait\n");
	turns(c, 30);
	sem_wait(&turned);
	let_go();
	client_free(c);
}

/* Told to end: what runs goes on to its end, then the connection is closed. */
static void draining(void)
{
	struct client *c = client_open(false), *waits = client_open(false);
	struct reply *r = ask_model(c, "x-test: wait\n");

	turns(waits, 5);
	turns(c, 30);
	sem_wait(&turned);
	gw.stopping = true;
	conn_stop_idle(&gw);
	CHECK(ended(waits));
	CHECK_INT(waits->goaway, NGHTTP2_NO_ERROR);
	turns(c, 3);
	CHECK(!c->ended && !r->closed);
	CHECK_INT(c->goaway, NGHTTP2_NO_ERROR);
	let_go();
	CHECK(ended(c));
	CHECK(r->closed && r->status == 200 && r->error == NGHTTP2_NO_ERROR);
	gw.stopping = false;
	close(waits->fd);
	waits->fd = -1;
	client_free(c);
	client_free(waits);
}

static void idle(void)
{
	struct client *c = client_open(false);

	CHECK(ended(c)); /* after head_timeout without a request */
	CHECK_INT(c->goaway, NGHTTP2_NO_ERROR);
	client_free(c);
}

/* ------------------------------------------------------------------ bytes of ours */

/* A client without a session: what it sends is in `out`. */
static struct client *raw_open(const char *first)
{
	struct client *c = calloc(1, sizeof(*c));

	c->fd = worker_connect(false);
	buf_init(&c->out, 16 << 20);
	buf_puts(&c->out, str_of(first));
	return c;
}

static void frame(struct buf *out, unsigned type, unsigned flags, unsigned id, const char *data, size_t n)
{
	unsigned char head[9] = { (unsigned char)(n >> 16), (unsigned char)(n >> 8), (unsigned char)n, (unsigned char)type,
				  (unsigned char)flags, (unsigned char)(id >> 24), (unsigned char)(id >> 16),
				  (unsigned char)(id >> 8), (unsigned char)id };

	buf_append(out, head, sizeof(head));
	buf_append(out, data, n);
}

static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/* GET / of the static table: :method, :scheme, :path; :authority "g". */
static const char get[] = "\x82\x86\x84\x01\x01g";

static void byte_by_byte(void)
{
	struct client *c = raw_open(hello);
	static char in[4096];
	struct buf bytes = c->out;
	size_t n = 0;
	ssize_t got;
	int status = 0;

	frame(&bytes, NGHTTP2_SETTINGS, 0, 0, "", 0);
	frame(&bytes, NGHTTP2_HEADERS, 5, 1, get, 6);
	buf_init(&c->out, 16 << 20);
	for (size_t i = 0; i < buf_len(&bytes); i++) {
		CHECK(write(c->fd, buf_head(&bytes) + i, 1) == 1);
		loop_once(&gw.loop, 2);
	}
	while (n < sizeof(in) && (got = read(c->fd, in + n, sizeof(in) - n)) > 0)
		n += (size_t)got;
	for (size_t i = 0; i + 9 < n && !status; i += 9 + ((unsigned char)in[i + 1] << 8) + (unsigned char)in[i + 2])
		if (in[i + 3] == NGHTTP2_HEADERS)
			status = (unsigned char)in[i + 9];
	CHECK_INT(status, 0x8d); /* ":status: 404" of the static table */
	buf_fini(&bytes);
	client_free(c);
}

static void malformed(void)
{
	struct client *c = raw_open("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");

	CHECK(ended(c));
	client_free(c);
	c = raw_open(hello); /* a frame that is longer than allowed */
	frame(&c->out, NGHTTP2_SETTINGS, 0, 0, "", 0);
	buf_append(&c->out, "\xff\xff\xff\x00\x00\x00\x00\x00\x01", 9);
	CHECK(ended(c));
	client_free(c);
	c = raw_open(hello); /* DATA of no stream */
	frame(&c->out, NGHTTP2_SETTINGS, 0, 0, "", 0);
	frame(&c->out, NGHTTP2_DATA, 0, 1, "x", 1);
	CHECK(ended(c));
	client_free(c);
	c = raw_open(hello); /* an index outside of the tables */
	frame(&c->out, NGHTTP2_SETTINGS, 0, 0, "", 0);
	frame(&c->out, NGHTTP2_HEADERS, 5, 1, "\xff\xff\x7f", 3);
	CHECK(ended(c));
	client_free(c);
}

/* HTTP/2 begins a connection or does not come at all. */
static void later_preface(void)
{
	struct client *c = raw_open("GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n");
	char in[2048];

	turns(c, 3);
	buf_puts(&c->out, STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
	send(c->fd, buf_head(&c->out), buf_len(&c->out), 0);
	buf_reset(&c->out, 4096);
	loop_once(&gw.loop, 2);
	CHECK(read(c->fd, in, sizeof(in)) > 12 && memcmp(in, "HTTP/1.1 400", 12) == 0);
	client_free(c);
	/* Upgrade: h2c is not taken up. */
	c = raw_open("");
	snprintf(in, sizeof(in), "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
		 "http2-settings: AAMAAABkAAQAAP__\r\ncontent-length: %zu\r\n\r\n%s", strlen(small), small);
	CHECK(send(c->fd, in, strlen(in), 0) > 0);
	for (int i = 0; i < 100; i++) {
		loop_once(&gw.loop, 2);
		if (read(c->fd, in, sizeof(in)) > 0)
			break;
	}
	CHECK(memcmp(in, "HTTP/1.1 200", 12) == 0);
	client_free(c);
}

/* CVE-2023-44487: streams that are reset as soon as they are asked for. */
static void resets_flood(void)
{
	struct client *c = raw_open(hello);

	frame(&c->out, NGHTTP2_SETTINGS, 0, 0, "", 0);
	for (unsigned i = 0; i < 600; i++) {
		frame(&c->out, NGHTTP2_HEADERS, 4, 2 * i + 1, get, 6);
		frame(&c->out, NGHTTP2_RST_STREAM, 0, 2 * i + 1, "\0\0\0\x8", 4);
	}
	CHECK(ended(c));
	client_free(c);
}

/* CVE-2024-28182: a head that never ends. */
static void continuation_flood(void)
{
	struct client *c = raw_open(hello);

	frame(&c->out, NGHTTP2_SETTINGS, 0, 0, "", 0);
	frame(&c->out, NGHTTP2_HEADERS, 1, 1, get, 6);
	for (int i = 0; i < 8; i++)
		frame(&c->out, NGHTTP2_CONTINUATION, 0, 1, "", 0);
	turns(c, 20);
	CHECK(!c->ended);
	frame(&c->out, NGHTTP2_CONTINUATION, 0, 1, "", 0);
	CHECK(ended(c));
	client_free(c);
}

/* Who asks and does not take the answers is not read any more. */
static void ping_flood(void)
{
	struct client *c = raw_open(hello);
	size_t sent = 0;

	frame(&c->out, NGHTTP2_SETTINGS, 0, 0, "", 0);
	turns(c, 3);
	for (int i = 0; i < 300000; i++) {
		if (!buf_len(&c->out))
			for (int k = 0; k < 100; k++)
				frame(&c->out, NGHTTP2_PING, 0, 0, "12345678", 8);
		ssize_t n = send(c->fd, buf_head(&c->out), buf_len(&c->out), MSG_NOSIGNAL);

		if (n > 0) {
			buf_consume(&c->out, (size_t)n);
			sent += (size_t)n;
		} else if (errno != EAGAIN) {
			break;
		}
		loop_once(&gw.loop, 0);
		if (n < 0 && i > 20000)
			break;
	}
	CHECK(sent < 4 << 20); /* both sockets' buffers, and ours */
	client_free(c);
}

static void stop(void)
{
	worker_stop();
	CHECK_INT(gw.n_conns, 0);
	CHECK_INT(gw.n_requests, 0);
	CHECK_INT(gw.body_bytes, 0);
}

TESTS(T(json), T(event_stream), T(large), T(parallel), T(windows), T(broken), T(denied), T(too_large), T(ambiguous), T(counted),
      T(reset_by_client), T(draining), T(idle), T(byte_by_byte), T(malformed), T(later_preface), T(resets_flood),
      T(continuation_flood), T(ping_flood), T(stop))
