/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The provider's side of a request: choose, connect, send with the real key, and stream the answer back
 * while the tap reads it. See request.h for the states and modes.
 *
 * The order on each piece of the answer is: framing, tap, shared memory, client. So when a client has seen
 * the end of an answer, its record is safe already. Nothing is retried once the provider may have begun to
 * work: a request is sent to another candidate only when the connection failed, or when the provider said
 * itself (429, 503, 529, or 401/403 on our key) that it did not serve it.
 */
#include <errno.h>
#include <inttypes.h>

#include "common/log.h"
#include "gateway/deny.h"
#include "gateway/request.h"

/* Reads of one event before others get their turn. */
#define RELAY_READS 4
/* Rationale: a drained answer nobody waits for may not run for hours. */
#define DRAIN_MAX_NS (600 * NSEC_PER_SEC)
/* Rationale: one 100 and a few 103; more is a provider that never answers. */
#define INTERIM_MAX 16

static void relay_next(struct request *r);
static void relay_timeout(void *arg);

static void relay_deadline(struct request *r, uint64_t after_ns)
{
	r->deadline_ns = r->gw->loop.now_ns + after_ns;
	if (r->drain_until_ns)
		r->deadline_ns = MIN(r->deadline_ns, r->drain_until_ns);
	if (!r->timer.index || r->timer.at_ns > r->deadline_ns)
		loop_timer(&r->gw->loop, &r->timer, r->deadline_ns, relay_timeout, r);
}

void relay_cancel(struct request *r)
{
	upstream_put(TAKE_PTR(r->up), false);
}

/* ------------------------------------------------------------------ failures */

/* Nothing of an answer has gone to the client: another candidate, or our error. */
static void relay_failed(struct request *r, enum outcome outcome, bool may_retry, const char *why)
{
	const struct policy_provider *p = request_provider(r);

	upstream_put(TAKE_PTR(r->up), false);
	snprintf(r->why, sizeof(r->why), "Sallyport: the provider \"%.*s\" %s", STR_ARG(p->name), why);
	log_limited(LOG_WARN, "a provider failed provider=%.*s why=\"%s\"", STR_ARG(p->name), why);
	if (may_retry && r->candidate + 1 < r->verdict.n_candidates && r->conn) {
		r->candidate++;
		relay_next(r);
		return;
	}
	{
		char text[sizeof(r->why)];

		str_copy(text, sizeof(text), str_of(r->why));
		request_deny(r, outcome, "%s", text);
	}
}

/* The answer has begun and cannot be taken back: an error event where the framing allows one. */
static void relay_broken(struct request *r, enum outcome outcome, const char *why)
{
	struct conn *c = r->conn;
	bool between = r->mode == RELAY_CHUNK || (r->answer_framing == HTTP_BODY_CHUNKED &&
						  r->answer_chunked.state == CHUNK_SIZE && !r->answer_chunked.digits);

	snprintf(r->why, sizeof(r->why), "%s", why);
	r->head.keep_alive = false;
	relay_cancel(r);
	if (c && r->answer_sse && between && r->mode != RELAY_PLAIN) {
		struct buf event;

		buf_init(&event, 4096);
		if (deny_write_event(r->route.format, STR("api_error"), str_of(r->why), &event) == 0 &&
		    buf_printf(&c->out, "%zx\r\n%.*s\r\n0\r\n\r\n", buf_len(&event), STR_ARG(buf_str(&event))) == 0)
			r->answer_ended = true;
		buf_fini(&event);
	}
	request_finish(r, outcome);
	if (c && c->state != CONN_DEAD)
		conn_flush(c);
}

static void relay_broke(struct request *r, enum outcome outcome, const char *why)
{
	if (r->answer_begun || !r->conn)
		relay_broken(r, outcome, why);
	else
		relay_failed(r, outcome, false, why);
}

static void relay_timeout(void *arg)
{
	struct request *r = arg;

	if (r->deadline_ns > r->gw->loop.now_ns)
		loop_timer(&r->gw->loop, &r->timer, r->deadline_ns, relay_timeout, r);
	else if (r->paused)
		relay_deadline(r, r->gw->config->upstream.idle_timeout_ns); /* the client's turn, not its */
	else if (!r->conn) /* read to its end, but not for ever: billed as one that was cut off at once */
		relay_broken(r, OUTCOME_CLIENT_GONE, "the client left");
	else
		relay_broke(r, OUTCOME_UPSTREAM_STALL, "sent nothing for as long as the gateway waits; try again");
}

/* ------------------------------------------------------------------ the answer's head */

static bool answer_field_forwarded(struct str name)
{
	static const char *const hop[] = { "connection", "keep-alive", "proxy-connection", "proxy-authenticate",
					   "te", "trailer", "transfer-encoding", "upgrade", "content-length",
					   "set-cookie", "alt-svc" };

	for (size_t i = 0; i < ARRAY_SIZE(hop); i++)
		if ((name.s[0] | 0x20) == hop[i][0] && str_caseeq(name, str_of(hop[i])))
			return false;
	return true;
}

/* Status line and fields, without framing; a field that holds our key is left out. */
static int answer_fields(struct request *r, const struct http_head *head, struct buf *out)
{
	const struct secret *key = r->rules->keys[r->provider].secret;
	int err = buf_printf(out, "HTTP/1.1 %d %s\r\n", head->status, head->status < 400 ? "OK" : "Error");

	for (unsigned i = 0; i < head->n_headers && !err; i++) {
		const struct http_header *h = &head->headers[i];

		if (!answer_field_forwarded(h->name) || (key && secret_found_in(key, h->value)))
			continue;
		err = buf_puts(out, h->name);
		if (!err)
			err = buf_puts(out, STR(": "));
		if (!err)
			err = buf_puts(out, h->value);
		if (!err)
			err = buf_puts(out, STR("\r\n"));
	}
	/* A proxy in front of the client must not collect a stream (docs/CLIENTS.md). */
	if (!err && r->answer_sse)
		err = buf_puts(out, STR("x-accel-buffering: no\r\n"));
	return err ? err : buf_printf(out, "sallyport-request-id: sp_%016" PRIx64 "\r\n", r->id);
}

static void answer_choose_mode(struct request *r, const struct http_head *head)
{
	bool old_client = r->head.minor == 0;

	if (head->status >= 400)
		r->mode = RELAY_HOLD;
	else if (old_client && (head->body != HTTP_BODY_LENGTH || r->strip_on))
		r->mode = RELAY_PLAIN;
	else if (r->strip_on || head->body == HTTP_BODY_EOF)
		r->mode = RELAY_CHUNK;
	else
		r->mode = RELAY_RAW;
}

static int answer_framing(struct request *r, const struct http_head *head, struct buf *out)
{
	int err = 0;

	if (r->mode == RELAY_CHUNK || (r->mode == RELAY_RAW && head->body == HTTP_BODY_CHUNKED))
		err = buf_puts(out, STR("transfer-encoding: chunked\r\n"));
	else if (r->mode == RELAY_RAW && (head->status != 204 && head->status != 304))
		err = buf_printf(out, "content-length: %" PRIu64 "\r\n", head->length);
	if (!err && (!r->head.keep_alive || r->mode == RELAY_PLAIN))
		err = buf_puts(out, STR("connection: close\r\n"));
	return err ? err : buf_puts(out, STR("\r\n"));
}

static void on_answer_call(void *arg, const struct tool_call *call)
{
	account_tool_call(arg, call);
}

/* 401 and 403 speak of our key, 429, 503 and 529 of the provider's load: another candidate may serve it. */
static bool answer_refused(struct request *r, int status)
{
	const struct policy_provider *p = request_provider(r);

	if ((status == 401 || status == 403) && p->auth_mode == AUTH_OVERRIDE) {
		r->rules->keys[r->provider].bad = true;
		account_event(r->gw, r->conn, "key-refused", "the provider %.*s refused its key (%d); replace it and run `sallyport policy reload`",
			      STR_ARG(p->name), status);
		gateway_report_key(r->gw, p->name);
		relay_failed(r, OUTCOME_KEY_REFUSED, true,
			     "refused the key of this host; its operator is told (`sallyport keys`)");
		return true;
	}
	if ((status == 429 || status == 503 || status == 529) && r->candidate + 1 < r->verdict.n_candidates) {
		relay_failed(r, OUTCOME_UPSTREAM_DOWN, true, "has no capacity now");
		return true;
	}
	return false;
}

/* The final head at the front of *in, which is advanced over it and over interim ones (1xx). 1, HTTP_MORE, HTTP_BAD. */
static int answer_parse_head(struct request *r, struct str *in, struct http_head *head)
{
	for (;;) {
		const char *why = NULL;
		int n = http_parse_response(*in, str_eq(r->head.method, STR("HEAD")), head, &why);

		if (n <= 0)
			return n;
		if (head->status == 101 || (head->status < 200 && ++r->n_interim > INTERIM_MAX))
			return HTTP_BAD;
		*in = str_skip(*in, (size_t)n);
		if (head->status >= 200)
			return 1;
	}
}

enum { HEAD_DONE, HEAD_MORE, HEAD_OVER };

/* HEAD_DONE: go on with the body; HEAD_OVER: the request ended, or is with another candidate now. */
static int answer_head(struct request *r, struct str *in)
{
	struct http_head head;
	struct conn *c = r->conn;
	struct str coding;
	int n = answer_parse_head(r, in, &head);
	int err;

	if (n == HTTP_MORE)
		return HEAD_MORE;
	if (n == HTTP_BAD) {
		relay_broke(r, OUTCOME_UPSTREAM_BROKE, "answered with something that is not HTTP");
		return HEAD_OVER;
	}
	r->answer_status = head.status;
	r->first_byte_ns = r->gw->loop.now_ns;
	if (answer_refused(r, head.status))
		return HEAD_OVER;
	r->answer_framing = head.body;
	r->answer_left = head.length;
	r->answer_keep_alive = head.keep_alive;
	r->answer_sse = str_starts(http_header_get(&head, "content-type"), STR("text/event-stream"));
	if (r->strip_on && !r->answer_sse) {
		sse_strip_fini(&r->strip);
		r->strip_on = false;
	}
	answer_choose_mode(r, &head);
	coding = http_header_get(&head, "content-encoding");
	if (coding.n && coding_parse(coding) != CODING_IDENTITY && coding_parse(coding) != CODING_UNKNOWN)
		r->answer_decoder = decoder_new(coding_parse(coding), 0, 0);
	resp_tap_start(r->answer_tap, r->route.format, head.status, http_header_get(&head, "content-type"),
		       on_answer_call, r);
	r->state = REQUEST_ANSWER_BODY;
	if (r->mode == RELAY_HOLD)
		err = answer_fields(r, &head, &r->held_head);
	else if (!c)
		err = 0;
	else {
		err = answer_fields(r, &head, &c->out);
		if (!err)
			err = answer_framing(r, &head, &c->out);
		r->answer_begun = true;
	}
	if (err) {
		relay_broke(r, OUTCOME_UPSTREAM_BROKE, "answered with a head that is too long");
		return HEAD_OVER;
	}
	return HEAD_DONE;
}

/* ------------------------------------------------------------------ the answer's body */

struct tapped {
	struct request *r;
	bool end; /* the client sees the end in these bytes */
};

static void on_answer_decoded(void *arg, const void *data, size_t n)
{
	struct tapped *t = arg;

	t->end |= resp_tap_feed(t->r->answer_tap, data, n);
	if (t->r->mode == RELAY_HOLD)
		buf_append(&t->r->held_text, data, n); /* what is above the bound is not searched for the key */
}

/* One run of payload: to the tap, and in the modes that do not pass framing through, towards the client. */
static int answer_payload(struct request *r, struct str piece, struct tapped *t)
{
	struct conn *c = r->conn;
	int err = 0;

	r->answer_bytes += piece.n;
	if (!r->answer_decoder)
		on_answer_decoded(t, piece.s, piece.n);
	else if (decoder_feed(r->answer_decoder, piece.s, piece.n, on_answer_decoded, t) < 0)
		log_debug("an answer is not of its content-encoding id=sp_%016" PRIx64, r->id);
	if (r->mode == RELAY_RAW || !c)
		return 0;
	if (r->mode == RELAY_HOLD)
		return buf_append(&r->held, piece.s, piece.n);
	if (r->mode == RELAY_PLAIN && !r->strip_on)
		return buf_puts(&c->out, piece);
	if (r->strip_on) {
		buf_reset(&r->held, 65536);
		err = sse_strip_feed(&r->strip, piece.s, piece.n, &r->held);
		piece = buf_str(&r->held);
	}
	if (!err && piece.n && r->mode == RELAY_PLAIN)
		err = buf_puts(&c->out, piece);
	else if (!err && piece.n) {
		err = buf_printf(&c->out, "%zx\r\n", piece.n);
		if (!err)
			err = buf_puts(&c->out, piece);
		if (!err)
			err = buf_puts(&c->out, STR("\r\n"));
	}
	return err;
}

/* Walks over the framing. PIECE_END when the message is whole; *in is what follows it. */
static enum http_piece answer_walk(struct request *r, struct str *in, struct tapped *t, int *err)
{
	struct str piece;
	enum http_piece what = PIECE_MORE;

	*err = 0;
	switch (r->answer_framing) {
	case HTTP_BODY_NONE:
		return PIECE_END;
	case HTTP_BODY_LENGTH:
		piece = (struct str){ in->s, MIN((uint64_t)in->n, r->answer_left) };
		*in = str_skip(*in, piece.n);
		r->answer_left -= piece.n;
		if (piece.n)
			*err = answer_payload(r, piece, t);
		return r->answer_left ? PIECE_MORE : PIECE_END;
	case HTTP_BODY_EOF:
		if (in->n)
			*err = answer_payload(r, *in, t);
		*in = str_skip(*in, in->n);
		return PIECE_MORE;
	case HTTP_BODY_CHUNKED:
		while (!*err && (what = http_chunked_next(&r->answer_chunked, in, &piece)) == PIECE_DATA)
			*err = answer_payload(r, piece, t);
		return what;
	}
	return PIECE_BAD;
}

/* The provider's error, whole: scrubbed and passed on, or replaced when it tells our key. */
static int answer_release_held(struct request *r)
{
	const struct secret *key = r->rules->keys[r->provider].secret;
	struct str text = buf_len(&r->held_text) ? buf_str(&r->held_text) : buf_str(&r->held);
	struct conn *c = r->conn;
	int err;

	if (!c)
		return 0;
	if (key && (secret_found_in(key, text) || secret_found_in(key, buf_str(&r->held)))) {
		buf_reset(&r->held, SIZE_MAX);
		buf_puts(&r->held, STR("{\"error\":{\"type\":\"api_error\",\"message\":\"Sallyport: the provider's error was withheld because it held the key.\"}}"));
	}
	err = buf_puts(&c->out, buf_str(&r->held_head));
	if (!err)
		err = buf_printf(&c->out, "content-length: %zu\r\n%s\r\n", buf_len(&r->held),
				 r->head.keep_alive ? "" : "connection: close\r\n");
	if (!err)
		err = buf_puts(&c->out, buf_str(&r->held));
	r->answer_begun = true;
	return err;
}

/* The end of the message, still before its last bytes leave. */
static int answer_end(struct request *r)
{
	struct conn *c = r->conn;
	int err = 0;

	resp_tap_end(r->answer_tap);
	r->answer_ended = true;
	if (r->mode == RELAY_HOLD)
		return answer_release_held(r);
	if (r->strip_on && c) {
		buf_reset(&r->held, 65536);
		err = sse_strip_end(&r->strip, &r->held);
		if (!err && buf_len(&r->held) && r->mode == RELAY_CHUNK)
			err = buf_printf(&c->out, "%zx\r\n%.*s\r\n", buf_len(&r->held), STR_ARG(buf_str(&r->held)));
		else if (!err)
			err = buf_puts(&c->out, buf_str(&r->held));
	}
	if (!err && c && r->mode == RELAY_CHUNK)
		err = buf_puts(&c->out, STR("0\r\n\r\n"));
	return err;
}

static enum outcome answer_outcome(const struct request *r)
{
	if (!r->conn)
		return OUTCOME_CLIENT_GONE;
	return r->answer_status >= 400 || resp_tap_facts(r->answer_tap)->has_error ? OUTCOME_PROVIDER_ERROR :
										   OUTCOME_OK;
}

/* The message is over: the connection goes back, the record is written, then the last bytes leave. */
static void relay_complete(struct request *r, bool clean, struct str last)
{
	struct conn *c = r->conn;

	/* Where the answer came before the request was all sent, the rest of it would be read as the next one. */
	upstream_put(TAKE_PTR(r->up), clean && r->answer_keep_alive && r->sent == r->to_send && !r->send_broke);
	request_record(r, answer_outcome(r));
	if (c && last.n) {
		int err = conn_send(c, last.s, last.n);

		if (err == -EPIPE)
			return; /* it left with the request, which is recorded */
		if (err)
			r->head.keep_alive = false;
	}
	request_finish(r, r->outcome);
	if (c && c->state != CONN_DEAD)
		conn_flush(c);
}

/* 0 when the request goes on. */
static int relay_body(struct request *r, struct str in)
{
	const char *from = in.s;
	struct tapped t = { .r = r };
	struct conn *c = r->conn;
	int err;
	enum http_piece what = answer_walk(r, &in, &t, &err);

	if (what == PIECE_BAD) {
		r->answer_chunked.state = CHUNK_DATA; /* the client's view ends somewhere before: no event fits in */
		relay_broke(r, OUTCOME_UPSTREAM_BROKE, "sent malformed chunks");
		return 1;
	}
	if (what == PIECE_END && !err)
		err = answer_end(r);
	account_progress(r);
	if (!err && c && r->mode == RELAY_RAW && what != PIECE_END)
		err = conn_send(c, from, (size_t)(in.s - from));
	if (err == -EPIPE || (c && r->conn != c))
		return 1; /* the client left, and took the request along */
	if (err) {
		r->answer_chunked.state = CHUNK_DATA;
		relay_broke(r, OUTCOME_UPSTREAM_BROKE, "sent more than could be held");
		return 1;
	}
	if (what == PIECE_END) {
		relay_complete(r, !in.n, r->mode == RELAY_RAW ? (struct str){ from, (size_t)(in.s - from) } : STR_NULL);
		return 1;
	}
	if (c && buf_len(&c->out) && conn_flush(c) < 0)
		return 1;
	return r->state == REQUEST_DONE || (c && r->conn != c);
}

static int relay_bytes(struct request *r, struct str in)
{
	if (r->state == REQUEST_ANSWER_BODY)
		return relay_body(r, in);
	/* A head usually comes in one piece: only what is left over is kept. */
	if (buf_len(&r->up_in)) {
		if (buf_append(&r->up_in, in.s, in.n) < 0) {
			relay_broke(r, OUTCOME_UPSTREAM_BROKE, "answered with a head that is too long");
			return 1;
		}
		in = buf_str(&r->up_in);
	}
	switch (answer_head(r, &in)) {
	case HEAD_DONE:
		return relay_body(r, in);
	case HEAD_OVER:
		return 1;
	}
	if (buf_len(&r->up_in)) {
		buf_consume(&r->up_in, buf_len(&r->up_in) - in.n);
		return 0;
	}
	if (buf_append(&r->up_in, in.s, in.n) == 0)
		return 0;
	relay_broke(r, OUTCOME_UPSTREAM_BROKE, "answered with a head that is too long");
	return 1;
}

/* The provider closed: the end of an unframed answer, or a broken one. */
static void relay_eof(struct request *r, int err)
{
	if (r->state == REQUEST_ANSWER_BODY && r->answer_framing == HTTP_BODY_EOF && !err) {
		if (answer_end(r) == 0) {
			account_progress(r);
			relay_complete(r, false, STR_NULL);
			return;
		}
	}
	relay_broke(r, OUTCOME_UPSTREAM_BROKE,
		    r->state == REQUEST_ANSWER_BODY ? "broke the answer off in the middle" :
		    r->send_broke		    ? "closed the connection while the request was sent" :
						      "closed the connection without an answer");
}

/* Some of the request is still to be sent. */
static bool relay_sending(const struct request *r)
{
	return r->sent < r->to_send && !r->send_broke;
}

static void on_readable(void *arg)
{
	struct request *r = arg;
	struct upstream_conn *up = r->up;

	if (r->paused)
		return;
	for (int i = 0; i < RELAY_READS || upstream_pending(up); i++) {
		ssize_t n = upstream_read(up, r->gw->scratch, SCRATCH_BYTES);

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			relay_eof(r, (int)n);
			return;
		}
		/* An answer before the request is all sent: the provider refuses the rest of it. */
		if (r->state == REQUEST_ASKING)
			r->state = REQUEST_ANSWER_HEAD;
		if (relay_bytes(r, (struct str){ r->gw->scratch, (size_t)n }))
			return;
		/* Parts of a head do not count as a first byte. */
		if (r->state == REQUEST_ANSWER_BODY)
			relay_deadline(r, r->gw->config->upstream.idle_timeout_ns);
		if (r->conn && conn_full(r->conn)) {
			r->paused = true;
			upstream_want(up, false, false);
			return;
		}
		if ((size_t)n < SCRATCH_BYTES && !upstream_pending(up))
			return;
	}
}

void relay_resume(struct request *r)
{
	if (!r->up || r->state != REQUEST_ANSWER_BODY)
		return;
	r->paused = false;
	relay_deadline(r, r->gw->config->upstream.idle_timeout_ns);
	upstream_want(r->up, true, relay_sending(r));
	if (upstream_pending(r->up))
		on_readable(r);
}

bool relay_drain(struct request *r)
{
	bool asked = r->state == REQUEST_ANSWER_BODY || (r->state == REQUEST_ANSWER_HEAD && !relay_sending(r));

	if (!asked || !r->up)
		return false;
	r->drain_until_ns = r->gw->loop.now_ns + DRAIN_MAX_NS;
	if (r->state == REQUEST_ANSWER_BODY)
		relay_resume(r);
	return true;
}

static void relay_push(struct request *r)
{
	size_t was = r->sent;
	int err = relay_sending(r) ? ask_send(r) : 0;

	if (err && err != -EAGAIN && !r->sent && r->pooled) {
		/* It was closed while it lay in the pool: nothing was asked on it. */
		upstream_put(TAKE_PTR(r->up), false);
		relay_next(r);
		return;
	}
	if (r->sent)
		account_dispatched(r);
	if (err == -EAGAIN) {
		upstream_want(r->up, !r->paused, true);
		if (r->state == REQUEST_ASKING && r->sent > was)
			relay_deadline(r, r->gw->config->upstream.first_byte_timeout_ns);
		return;
	}
	/* It takes no more, but may have said why before it closed ("too large"): what it said is read first. */
	r->send_broke = err;
	explicit_bzero(buf_head(&r->up_head), buf_len(&r->up_head));
	upstream_want(r->up, !r->paused, false);
	if (r->state != REQUEST_ASKING)
		return;
	r->state = REQUEST_ANSWER_HEAD;
	relay_deadline(r, r->gw->config->upstream.first_byte_timeout_ns);
}

static void on_writable(void *arg)
{
	relay_push(arg);
}

static void on_ready(void *arg, int err, const char *why)
{
	struct request *r = arg;
	char text[200];

	if (!err) {
		relay_push(r);
		return;
	}
	r->up = NULL;
	snprintf(text, sizeof(text), "cannot be reached: %s", why);
	relay_failed(r, OUTCOME_UPSTREAM_DOWN, true, text);
}

static const struct upstream_events relay_events = { on_ready, on_readable, on_writable };

/* ------------------------------------------------------------------ candidates */

static bool key_usable(const struct request *r, const struct policy_provider *p)
{
	const struct provider_key *key = &r->rules->keys[r->provider];
	const char *field;

	if (p->auth_mode == AUTH_NONE)
		return true;
	if (p->auth_mode == AUTH_PASSTHROUGH && ask_client_credential(r, &field).n)
		return true;
	return key->secret && !(key->bad && r->candidate + 1 < r->verdict.n_candidates);
}

/* What an earlier candidate has left behind. */
static void relay_forget_answer(struct request *r)
{
	buf_reset(&r->up_in, HTTP_HEAD_MAX);
	r->answer_status = 0;
	r->first_byte_ns = 0;
	r->n_interim = 0;
	r->send_broke = false;
	if (r->strip_on)
		sse_strip_fini(&r->strip);
	r->strip_on = false;
}

static void relay_next(struct request *r)
{
	const struct policy_provider *p;
	bool ready = false;
	int err;

	relay_forget_answer(r);
	r->provider = r->verdict.candidates[r->candidate];
	if (r->candidate)
		account_next_provider(r);
	p = request_provider(r);
	if (!key_usable(r, p)) {
		relay_failed(r, OUTCOME_NO_KEY, true, "has no usable key on this host; see `sallyport keys` there");
		return;
	}
	r->priced = policy_price(r->rules->policy, r->provider, r->verdict.model, &r->price);
	if (!account_reserve(r))
		return;
	err = ask_build(r);
	if (!err)
		err = upstream_get(r->gw->upstream, p->host, p->port, p->tls, &relay_events, r, &r->up, &ready);
	if (err) {
		relay_failed(r, OUTCOME_OVERLOADED, false, "cannot be asked: the gateway is out of memory");
		return;
	}
	r->state = REQUEST_ASKING;
	r->pooled = ready;
	/* The connect has its own time limit; this one is behind it. */
	relay_deadline(r, r->gw->config->upstream.first_byte_timeout_ns + r->gw->config->upstream.connect_timeout_ns);
	if (ready)
		relay_push(r);
}

void relay_start(struct request *r)
{
	r->candidate = 0;
	relay_next(r);
}
