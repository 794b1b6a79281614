/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The practice provider: a model that is none. It speaks the four formats on 127.0.0.1, asks for one shell
 * command and then says that it is done, refuses every key but its own, and misbehaves on demand. One thread for
 * each connection: it is a test's other end, not a server to be fast.
 *
 * How it misbehaves is an option of the command line, a header of one request (x-practice: stall-ms=500,
 * reset-after=100) or part of the model's name (claude-practice-reset-100, gpt-practice-status-529).
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "common/log.h"
#include "gateway/http_msg.h"
#include "tests/practice/answer.h"

/* Rationale: one more than the gateway's default limit would let through. */
#define BODY_MAX (65u << 20)
#define THREAD_STACK (256u << 10)

struct mischief {
	unsigned delay_ms;	/* before each event */
	unsigned stall_ms;	/* in the middle of the answer */
	unsigned head_ms;	/* before the answer's head */
	long reset_after;	/* bytes of the body, then RST; -1: never */
	unsigned status;	/* answer with this error; 0: none */
	bool garbage;		/* what is no HTTP at all */
	bool lie;		/* a length that is longer than the body */
};

static struct mischief mischief_default = { .reset_after = -1 };
static char key[512];
static FILE *log_file;
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long n_served;

struct peer {
	int fd;
	struct buf in;
	char key_seen[12]; /* "ok", "placeholder", "wrong", "none" */
};

/* ------------------------------------------------------------------ settings */

/* One "name=value" or "name" of a list; false: there is no such name. */
static bool mischief_set(struct mischief *m, const char *name, unsigned long value)
{
	if (!strcmp(name, "delay-ms") || !strcmp(name, "slow"))
		m->delay_ms = value ? (unsigned)value : 20;
	else if (!strcmp(name, "stall-ms") || !strcmp(name, "stall"))
		m->stall_ms = value ? (unsigned)value : 5000;
	else if (!strcmp(name, "head-ms"))
		m->head_ms = (unsigned)value;
	else if (!strcmp(name, "reset-after") || !strcmp(name, "reset"))
		m->reset_after = value ? (long)value : 400;
	else if (!strcmp(name, "status"))
		m->status = value >= 400 && value < 600 ? (unsigned)value : 500;
	else if (!strcmp(name, "garbage"))
		m->garbage = true;
	else if (!strcmp(name, "lie"))
		m->lie = true;
	else
		return false;
	return true;
}

static void mischief_of_header(struct mischief *m, struct str value)
{
	char text[256], *next = text;

	str_copy(text, sizeof(text), value);
	for (char *item; (item = strsep(&next, ", "));) {
		char *eq = strchr(item, '=');

		if (eq)
			*eq = '\0';
		mischief_set(m, item, eq ? strtoul(eq + 1, NULL, 10) : 0);
	}
}

/* "claude-practice-status-529": the word behind "practice-" and its number. */
static void mischief_of_model(struct mischief *m, const char *model)
{
	const char *at = strstr(model, "practice-");
	char name[32];
	size_t n;

	if (!at)
		return;
	at += strlen("practice-");
	n = strcspn(at, "-");
	str_copy(name, sizeof(name), (struct str){ at, n });
	mischief_set(m, name, at[n] == '-' ? strtoul(at + n + 1, NULL, 10) : 0);
}

static void key_read(const char *path)
{
	FILE *f = fopen(path, "re");

	if (!f || !fgets(key, sizeof(key), f))
		die("%s cannot be read: %s; write a made-up key into it", path, errno_text(errno));
	key[strcspn(key, "\r\n")] = '\0';
	fclose(f);
}

/* ------------------------------------------------------------------ sending */

static void sleep_ms(unsigned ms)
{
	struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	if (ms)
		nanosleep(&t, NULL);
}

static bool send_all(int fd, const char *data, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return false;
		data += sent;
		n -= (size_t)sent;
	}
	return true;
}

/* The connection ends with an RST. */
static bool reset(struct peer *p)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	return false;
}

static bool send_head(struct peer *p, int status, const char *type, long length)
{
	char head[512];
	int n = snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\ncontent-type: %s\r\nrequest-id: req_practice_%lu\r\n", status,
			 status == 200 ? "OK" : "Refused", type, __atomic_add_fetch(&n_served, 1, __ATOMIC_RELAXED));

	if (length >= 0)
		n += snprintf(head + n, sizeof(head) - (size_t)n, "content-length: %ld\r\n\r\n", length);
	else
		n += snprintf(head + n, sizeof(head) - (size_t)n, "transfer-encoding: chunked\r\n\r\n");
	return send_all(p->fd, head, (size_t)n);
}

static bool send_error(struct peer *p, enum family family, int status, const char *message)
{
	struct buf b;
	bool sent;

	buf_init(&b, 4096);
	answer_error(family, status, message, &b);
	sent = send_head(p, status, "application/json", (long)buf_len(&b)) && send_all(p->fd, buf_head(&b), buf_len(&b));
	buf_fini(&b);
	return sent;
}

static bool send_piece(struct peer *p, const char *data, size_t n, bool chunked)
{
	char frame[32];
	int len = snprintf(frame, sizeof(frame), "%zx\r\n", n);
	char *whole;
	bool sent;

	if (!chunked)
		return send_all(p->fd, data, n);
	whole = malloc(n + 32);
	if (!whole)
		return false;
	memcpy(whole, frame, (size_t)len);
	memcpy(whole + len, data, n);
	memcpy(whole + len + n, "\r\n", 2);
	sent = send_all(p->fd, whole, (size_t)len + n + 2);
	free(whole);
	return sent;
}

static bool send_answer(struct peer *p, const struct ask *a, const struct mischief *m)
{
	struct answer out;
	bool chunked = a->stream, sent;
	size_t at = 0, total;

	answer_write(a, &out);
	total = buf_len(&out.bytes);
	sleep_ms(m->head_ms);
	sent = send_head(p, 200, out.content_type, chunked ? -1 : (long)total + (m->lie ? 100 : 0));
	for (unsigned i = 0; i < out.n_cuts && sent; i++) {
		size_t to = out.cuts[i];

		if (i == out.n_cuts / 2)
			sleep_ms(m->stall_ms);
		sleep_ms(m->delay_ms);
		if (m->reset_after >= 0 && to > (size_t)m->reset_after)
			to = MAX(at, (size_t)m->reset_after);
		sent = to == at || send_piece(p, buf_head(&out.bytes) + at, to - at, chunked);
		at = to;
		if (m->reset_after >= 0 && at >= (size_t)m->reset_after) {
			/* What was sent is to arrive before the RST. */
			sleep_ms(20);
			sent = reset(p);
		}
	}
	if (sent && chunked)
		sent = send_all(p->fd, "0\r\n\r\n", 5);
	buf_fini(&out.bytes);
	return sent && !m->lie;
}

/* ------------------------------------------------------------------ one request */

static void key_check(struct peer *p, const struct http_head *h)
{
	static const char *const names[] = { "x-api-key", "x-goog-api-key", "api-key", "authorization" };
	const char *seen = "none";

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct str v = http_header_get(h, names[i]);

		if (!v.n)
			continue;
		if (str_starts(v, STR("Bearer ")))
			v = str_skip(v, 7);
		/* Two credentials of which one is wrong are wrong. */
		if (!strcmp(seen, "none") || !strcmp(seen, "ok"))
			seen = str_eq(v, str_of(key)) ? "ok" : str_eq(v, STR("-")) ? "placeholder" : "wrong";
	}
	str_copy(p->key_seen, sizeof(p->key_seen), key[0] ? str_of(seen) : STR("ok"));
}

static void log_request(const struct peer *p, const struct http_head *h, const struct ask *a)
{
	struct numbers n = numbers_of(a);

	if (!log_file)
		return;
	pthread_mutex_lock(&log_lock);
	fprintf(log_file, "%.*s %.*s key=%s model=%s stream=%d turn=%d input=%u cache_read=%u cache_write=%u output=%u\n",
		STR_ARG(h->method), STR_ARG(h->target), p->key_seen, a->model, a->stream, a->has_result ? 2 : 1, n.input,
		n.cache_read, n.cache_write, n.output);
	fflush(log_file);
	pthread_mutex_unlock(&log_lock);
}

/* Which format the path is of; false: none that has an answer here. */
static bool ask_of_path(struct str target, struct ask *a)
{
	const char *q = memchr(target.s, '?', target.n);
	struct str path = { target.s, q ? (size_t)(q - target.s) : target.n };
	const char *at;

	if (str_ends(path, STR("/messages"))) {
		a->family = FAMILY_ANTHROPIC;
	} else if (str_ends(path, STR("/chat/completions"))) {
		a->family = FAMILY_CHAT;
	} else if (str_ends(path, STR("/responses"))) {
		a->family = FAMILY_RESPONSES;
	} else if ((at = str_find(path, STR("/models/"))) && str_find(path, STR("enerateContent"))) {
		struct str model = { at + 8, (size_t)(path.s + path.n - at - 8) };
		const char *colon = memchr(model.s, ':', model.n);

		a->family = FAMILY_GEMINI;
		model.n = colon ? (size_t)(colon - model.s) : model.n;
		str_copy(a->model, sizeof(a->model), model);
		a->stream = str_find(path, STR(":streamGenerateContent")) != NULL;
		a->sse = a->stream && q && str_find((struct str){ q, (size_t)(target.s + target.n - q) }, STR("alt=sse"));
	} else {
		return false;
	}
	return true;
}

/* Models, counts, probes. */
static bool answer_other(struct peer *p, const struct http_head *h)
{
	static const char models[] =
		"{\"object\":\"list\",\"data\":[{\"id\":\"claude-practice\",\"object\":\"model\",\"owned_by\":\"practice\"}],\"has_more\":false}";
	static const char count[] = "{\"input_tokens\":42,\"totalTokens\":42}";
	const char *text = str_find(h->target, STR("ount")) ? count : models;

	if (str_eq(h->method, STR("HEAD")))
		return send_head(p, 200, "text/plain", 0);
	if (text == models && !str_find(h->target, STR("/models")))
		return send_error(p, FAMILY_CHAT, 404, "the practice provider does not serve this path");
	return send_head(p, 200, "application/json", (long)strlen(text)) && send_all(p->fd, text, strlen(text));
}

/* False: the connection ends. */
static bool serve(struct peer *p, const struct http_head *h, struct str body)
{
	struct mischief m = mischief_default;
	struct ask a = { 0 };
	cJSON *json;

	key_check(p, h);
	if (!ask_of_path(h->target, &a)) {
		log_request(p, h, &a);
		return answer_other(p, h);
	}
	a.body_bytes = body.n;
	json = cJSON_ParseWithLength(body.s, body.n);
	if (json)
		ask_read(&a, json);
	cJSON_Delete(json);
	log_request(p, h, &a);
	if (!json)
		return send_error(p, a.family, 400, "the body is no JSON");
	if (strcmp(p->key_seen, "ok"))
		return send_error(p, a.family, 401, "this is not the key of the practice provider");
	mischief_of_model(&m, a.model);
	mischief_of_header(&m, http_header_get(h, "x-practice"));
	if (m.garbage) {
		static const char text[] = "\x01\x02 this is no HTTP at all\r\n\r\n{{{{";

		send_all(p->fd, text, sizeof(text) - 1);
		return false;
	}
	if (m.status)
		return send_error(p, a.family, (int)m.status, "the practice provider was asked to refuse this");
	return send_answer(p, &a, &m);
}

/* ------------------------------------------------------------------ connections */

static bool fill(struct peer *p)
{
	char *room = buf_reserve(&p->in, 65536);
	ssize_t n = room ? read(p->fd, room, 65536) : -1;

	if (n <= 0)
		return false;
	buf_commit(&p->in, (size_t)n);
	return true;
}

/* The body is put into `body`; false: it never came whole. */
static bool read_body(struct peer *p, const struct http_head *h, struct buf *body)
{
	struct http_chunked chunked = { 0 };
	uint64_t left = h->body == HTTP_BODY_LENGTH ? h->length : 0;

	if (h->body == HTTP_BODY_NONE)
		return true;
	if (h->expect_continue && !send_all(p->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25))
		return false;
	for (;;) {
		struct str in = buf_str(&p->in), piece;

		if (h->body == HTTP_BODY_LENGTH) {
			size_t n = (size_t)MIN(left, (uint64_t)in.n);

			if (n && buf_append(body, in.s, n))
				return false;
			buf_consume(&p->in, n);
			left -= n;
			if (!left)
				return true;
		} else {
			size_t had = in.n;
			enum http_piece got = http_chunked_next(&chunked, &in, &piece);

			if (got == PIECE_BAD || (got == PIECE_DATA && buf_append(body, piece.s, piece.n)))
				return false;
			buf_consume(&p->in, had - in.n);
			if (got == PIECE_END)
				return true;
			if (got == PIECE_DATA)
				continue;
		}
		if (!fill(p))
			return false;
	}
}

/* One request; false: the connection ends. */
static bool peer_turn(struct peer *p)
{
	static __thread struct http_head h;
	struct buf head, body;
	const char *why;
	int n;
	bool go_on;

	while ((n = http_parse_request(buf_str(&p->in), &h, &why)) == HTTP_MORE)
		if (!fill(p))
			return false;
	if (n < 0)
		return false;
	/* The head points into memory that does not move while the body is read. */
	buf_init(&head, HTTP_HEAD_MAX);
	buf_init(&body, BODY_MAX);
	go_on = !buf_append(&head, buf_head(&p->in), (size_t)n) && http_parse_request(buf_str(&head), &h, &why) == n;
	buf_consume(&p->in, (size_t)n);
	go_on = go_on && read_body(p, &h, &body) && serve(p, &h, buf_str(&body)) && h.keep_alive;
	buf_fini(&head);
	buf_fini(&body);
	return go_on;
}

static void *peer_run(void *arg)
{
	struct peer *p = arg;

	while (peer_turn(p))
		;
	close(p->fd);
	buf_fini(&p->in);
	free(p);
	return NULL;
}

static int listen_on(unsigned port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4096) < 0)
		die("port %u cannot be used: %s; take another one", port, errno_text(errno));
	return fd;
}

static void accept_forever(int fd)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (;;) {
		int peer_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC), one = 1;
		struct peer *p = peer_fd >= 0 ? calloc(1, sizeof(*p)) : NULL;

		if (!p) {
			if (peer_fd >= 0)
				close(peer_fd);
			sleep_ms(10);
			continue;
		}
		setsockopt(peer_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		p->fd = peer_fd;
		buf_init(&p->in, HTTP_HEAD_MAX + 131072);
		if (pthread_create(&thread, &attr, peer_run, p)) {
			close(peer_fd);
			free(p);
		}
	}
}

int main(int argc, char **argv)
{
	unsigned long port = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;

	if (!port || port > 65535)
		die("usage: provider PORT [--key-file F] [--log F] [--delay-ms N] [--stall-ms N] [--head-ms N] [--reset-after N] [--status N] [--garbage] [--lie]");
	signal(SIGPIPE, SIG_IGN);
	for (int i = 2; i < argc; i++) {
		const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
		bool flag = !strcmp(name, "--garbage") || !strcmp(name, "--lie");

		if (!strcmp(name, "--key-file"))
			key_read(value);
		else if (!strcmp(name, "--log"))
			log_file = fopen(value, "ae");
		else if (strncmp(name, "--", 2) || !mischief_set(&mischief_default, name + 2, strtoul(value, NULL, 10)))
			die("%s is no option of the practice provider", name);
		i += !flag;
	}
	accept_forever(listen_on((unsigned)port));
	return 0;
}
