/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>

#include "common/log.h"
#include "gateway/client.h"
#include "gateway/deny.h"
#include "gateway/forced.h"
#include "gateway/peek.h"

/* Rationale: as many as are usually in flight; more are allocated and freed. */
#define REQUESTS_FREE_MAX 256
/* Memory of a body that a free request keeps: above an agent's usual one it goes back. */
#define BODY_KEPT_BYTES (160u << 10)
/* Free requests that keep such memory. */
#define BODIES_KEPT_MAX 64
/* Of one worker in a millisecond. */
#define REQUEST_IDS (1u << 14)
/* A coded request body may unfold this much (Codex' zstd is about 6:1). */
#define BODY_RATIO_MAX 200

/* Rationale: an engine answers within some 100 ms; see docs/PROTOCOL.md. */
#define LABEL_GRACE_NS (1500 * NSEC_PER_MSEC)
#define LABEL_POLL_NS  (50 * NSEC_PER_MSEC)

/* ------------------------------------------------------------------ life */

/*
 * Milliseconds since the epoch, the worker and a count: unique over workers and restarts, also when the clock
 * steps back, since the last one lies in shared memory.
 */
static uint64_t request_id(struct gateway *gw)
{
	uint64_t id = gw->loop.wall_ns / NSEC_PER_MSEC << 20 | (uint64_t)gw->worker << 14;
	uint64_t *last = live_last_id(gw->live), next = *last + 1;

	/* A count that is full goes on in the next millisecond, not among the numbers of the next worker. */
	if (!(next & (REQUEST_IDS - 1)))
		next = ((next - 1) >> 20 << 20) + (1u << 20) + ((uint64_t)gw->worker << 14);
	*last = MAX(next, id);
	return *last;
}

static struct request *request_new(struct conn *c)
{
	struct gateway *gw = c->gw;
	struct request *r = gw->requests_free;
	struct req_tap *tap = NULL;
	struct resp_tap *answer_tap = NULL;
	struct buf body = { 0 };

	if (r) {
		gw->requests_free = r->next_free;
		gw->n_requests_free--;
		tap = r->tap;
		answer_tap = r->answer_tap;
		body = r->body;
	} else {
		r = malloc(sizeof(*r));
		if (!r)
			return NULL;
	}
	*r = (struct request){ .gw = gw, .conn = c, .tap = tap, .answer_tap = answer_tap, .body = body };
	if (!r->tap)
		r->tap = req_tap_new();
	if (!r->answer_tap)
		r->answer_tap = resp_tap_new();
	if (!r->tap || !r->answer_tap) {
		buf_fini(&r->body);
		req_tap_free(r->tap);
		resp_tap_free(r->answer_tap);
		free(r);
		return NULL;
	}
	r->id = request_id(gw);
	r->started_ns = gw->loop.now_ns;
	r->started_wall_ns = gw->loop.wall_ns;
	r->rules = gw->rules ? rules_ref(gw->rules) : NULL;
	buf_init(&r->head_bytes, HTTP_HEAD_MAX);
	r->body.max = gw->config->client.body_limit_bytes;
	buf_init(&r->up_head, 2 * HTTP_HEAD_MAX);
	buf_init(&r->up_in, HTTP_HEAD_MAX + SCRATCH_BYTES);
	buf_init(&r->held, HTTP_HEAD_MAX + SCRATCH_BYTES);
	buf_init(&r->held_head, HTTP_HEAD_MAX);
	buf_init(&r->held_text, 4 * HTTP_HEAD_MAX);
	gw->n_requests++;
	r->share = share_ref(c->share);
	c->req = r;
	return r;
}

/* The slot in the free list comes after the batch: a stale event may still name the request. */
static void request_release(struct request *r)
{
	struct gateway *gw = r->gw;

	relay_cancel(r);
	loop_untimer(&gw->loop, &r->timer);
	if (buf_len(&r->up_head))
		explicit_bzero(r->up_head.data, r->up_head.cap);
	buf_fini(&r->head_bytes);
	if (gw->n_requests_free < BODIES_KEPT_MAX)
		buf_reset(&r->body, BODY_KEPT_BYTES);
	else
		buf_fini(&r->body);
	buf_fini(&r->up_head);
	buf_fini(&r->up_in);
	buf_fini(&r->held);
	buf_fini(&r->held_head);
	buf_fini(&r->held_text);
	decoder_free(TAKE_PTR(r->decoder));
	decoder_free(TAKE_PTR(r->answer_decoder));
	if (r->strip_on)
		sse_strip_fini(&r->strip);
	rules_unref(TAKE_PTR(r->rules));
	gw->body_bytes -= r->body_counted;
	r->share->bytes -= r->body_counted;
	share_put(&gw->shares, TAKE_PTR(r->share));
	gw->n_requests--;
	r->state = REQUEST_DONE;
	r->next_free = gw->dead_requests;
	gw->dead_requests = r;
}

void request_reap(struct gateway *gw)
{
	while (gw->dead_requests) {
		struct request *r = gw->dead_requests;

		gw->dead_requests = r->next_free;
		if (gw->n_requests_free < REQUESTS_FREE_MAX) {
			r->next_free = gw->requests_free;
			gw->requests_free = r;
			gw->n_requests_free++;
			continue;
		}
		buf_fini(&r->body);
		req_tap_free(r->tap);
		resp_tap_free(r->answer_tap);
		free(r);
	}
}

void request_record(struct request *r, enum outcome outcome)
{
	if (r->recorded)
		return;
	r->recorded = true;
	r->outcome = outcome;
	account_end(r);
}

void request_finish(struct request *r, enum outcome outcome)
{
	struct conn *c = r->conn;
	bool keep = c && r->head.keep_alive && r->mode != RELAY_PLAIN &&
		    (r->answer_ended || !r->answer_begun);

	if (r->state == REQUEST_DONE)
		return;
	request_record(r, outcome);
	log_debug("request ended id=sp_%016" PRIx64 " outcome=%s provider=%u status=%d why=%s", r->id,
		  outcome_name(r->outcome), r->provider, r->answer_status, c ? forced_why_name(c->stamp.why) : "");
	r->conn = NULL;
	request_release(r);
	if (c)
		conn_request_done(c, keep);
}

void request_client_gone(struct request *r)
{
	r->conn = NULL;
	if (r->state == REQUEST_READ) {
		/* Nothing was asked of anyone. */
		request_release(r);
		return;
	}
	if (!r->recorded && r->rules && policy_provider(r->rules->policy, r->provider)->drain_on_disconnect &&
	    relay_drain(r))
		return;
	snprintf(r->why, sizeof(r->why), "the client left");
	request_finish(r, OUTCOME_CLIENT_GONE);
}

/* ------------------------------------------------------------------ who */

const struct label *request_label(const struct request *r)
{
	const struct stamp *stamp = &r->conn->stamp;
	const struct label *label;

	if (!r->conn->stamped || !stamp->label_id)
		return NULL;
	label = labels_get(&r->gw->labels, stamp->label_id);
	if (!label) {
		gateway_drain_channel(r->gw);
		label = labels_get(&r->gw->labels, stamp->label_id);
	}
	return label;
}

struct policy_facts request_facts(const struct request *r)
{
	const struct label *label = request_label(r);

	if (!label)
		return (struct policy_facts){ 0 };
	return (struct policy_facts){ .tags = label->tags,
				      .n_tags = label->n_tags,
				      .cgroup = str_of(label->box.path),
				      .container = str_of(label->box.container) };
}

/* Refuses one without a stamp, or with a peer that is not who the stamp says. */
static void deny_unattested(struct request *r)
{
	if (!r->conn->stamped)
		account_event(r->gw, r->conn, "unstamped", "a connection without a stamp was refused");
	else
		account_event(r->gw, r->conn, "stamp-differs",
			      "the process behind a connection is not of the cgroup of its stamp; refused");
	request_deny(r, OUTCOME_DENIED_UNSTAMPED,
		     "Sallyport: this process is in no labelled sandbox, so the gateway does not know it; start it with `sallyport run --tag tag:NAME -- COMMAND`, or ask the operator for `sallyport label pid:N tag:NAME`.");
}

/* False: answered. */
static bool request_attested(struct request *r)
{
	struct conn *c = r->conn;

	if (!c->stamped || c->stamp.peer == STAMP_PEER_UNKNOWN)
		conn_read_stamp(c);
	if (c->stamped && c->stamp.peer != STAMP_PEER_DIFFERS)
		return true;
	deny_unattested(r);
	return false;
}

/* ------------------------------------------------------------------ answers of ours */

static void deny_v(struct request *r, enum outcome outcome, uint64_t retry_after_s, const char *fmt, va_list ap)
{
	struct conn *c = r->conn;
	struct denial d = { .format = r->route.format,
			    .outcome = outcome,
			    .client = str_of(r->client),
			    .retry_after_s = retry_after_s,
			    .request_id = r->id };

	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	if (!c) {
		request_finish(r, outcome);
		return;
	}
	/* What is left of a body that was not read would be taken for the next request. */
	r->head.keep_alive &= c->stamped && (r->body_whole || r->head.body == HTTP_BODY_NONE);
	d.message = str_of(r->why);
	d.close = !r->head.keep_alive;
	d.no_body = str_eq(r->head.method, STR("HEAD"));
	r->answer_status = deny_write(&d, &c->out);
	if (r->answer_status < 0)
		r->head.keep_alive = false;
	request_finish(r, outcome);
	if (c->state != CONN_DEAD)
		conn_flush(c);
}

void request_deny(struct request *r, enum outcome outcome, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	deny_v(r, outcome, 0, fmt, ap);
	va_end(ap);
}

void request_deny_quota(struct request *r, uint64_t retry_after_s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	deny_v(r, OUTCOME_DENIED_QUOTA, retry_after_s, fmt, ap);
	va_end(ap);
}

static void answer_probe(struct request *r)
{
	struct conn *c = r->conn;

	buf_printf(&c->out, "HTTP/1.1 200 OK\r\nallow: GET, HEAD, POST, OPTIONS\r\ncontent-length: 0\r\n%s\r\n",
		   r->head.keep_alive ? "" : "connection: close\r\n");
	r->answer_status = 200;
	request_finish(r, OUTCOME_LOCAL);
	if (c->state != CONN_DEAD)
		conn_flush(c);
}

void request_bad_head(struct conn *c, const char *why)
{
	struct denial d = { .outcome = OUTCOME_BAD_REQUEST, .message = str_of(why), .close = true };

	if (c->req || c->state == CONN_DEAD) {
		conn_close(c);
		return;
	}
	log_limited(LOG_DEBUG, "a malformed request was refused why=\"%s\"", why);
	c->close_after = true;
	if (deny_write(&d, &c->out) < 0)
		conn_close(c);
	else
		conn_flush(c);
}

/* ------------------------------------------------------------------ reading */

/* The head's bytes become the request's own: the connection's buffer is for what comes next. */
static int request_take_head(struct request *r, const struct http_head *head, struct str bytes)
{
	const char *was = bytes.s, *now;
	int err = buf_append(&r->head_bytes, bytes.s, bytes.n);

	if (err)
		return err;
	now = buf_head(&r->head_bytes);
	r->head = *head;
	r->head.method.s = now + (head->method.s - was);
	r->head.target.s = now + (head->target.s - was);
	for (unsigned i = 0; i < head->n_headers; i++) {
		r->head.headers[i].name.s = now + (head->headers[i].name.s - was);
		r->head.headers[i].value.s = now + (head->headers[i].value.s - was);
	}
	return 0;
}

/* On a connection that is bound to a provider's name each request is for that name. False: answered. */
static bool request_directed(struct request *r)
{
	struct conn *c = r->conn;
	struct str bound = peek_name(c);
	char host[MSG_HOST_BYTES];

	r->forced = peek_is_forced(&c->stamp);
	if (!r->forced || (bound.n && peek_host(http_header_get(&r->head, "host"), host, sizeof(host)) &&
			   str_eq(str_of(host), bound)))
		return true;
	r->head.keep_alive = false;
	request_deny(r, OUTCOME_MISDIRECTED,
		     "Sallyport: the request's Host is not %.*s, which its connection was made for; use a connection of its own for each name.",
		     STR_ARG(bound));
	return false;
}

static void request_find_session(struct request *r)
{
	for (const char *const *name = client_session_headers; *name; name++) {
		struct str value = http_header_get(&r->head, *name);

		if (value.n) {
			str_copy(r->session, sizeof(r->session), value);
			return;
		}
	}
}

/* Room for `more` bytes of a body, and for other sandboxes after that. */
static bool request_fits(const struct request *r, uint64_t more)
{
	const struct gateway *gw = r->gw;

	return share_fits(r->share->bytes + more, gw->config->client.body_memory_bytes, gw->body_bytes + more);
}

static void deny_memory(struct request *r)
{
	request_deny(r, OUTCOME_OVERLOADED,
		     "Sallyport: the gateway holds as many request bodies of this sandbox as client.body_memory allows; try again when others of its requests have ended.");
}

static bool request_bounds(struct request *r)
{
	const struct config *cfg = r->gw->config;
	struct str coding = http_header_get(&r->head, "content-encoding");
	enum coding c = coding.n ? coding_parse(coding) : CODING_IDENTITY;

	if (r->head.body == HTTP_BODY_LENGTH && r->head.length > cfg->client.body_limit_bytes)
		request_deny(r, OUTCOME_TOO_LARGE,
			     "The request's body is larger than client.body_limit (%" PRIu64 " bytes) of the gateway allows.",
			     cfg->client.body_limit_bytes);
	else if (!request_fits(r, r->head.length))
		deny_memory(r);
	else if (c == CODING_UNKNOWN)
		request_deny(r, OUTCOME_BAD_REQUEST,
			     "The request's content-encoding is not one of gzip, deflate, zstd, br; send it plain.");
	else {
		if (c != CODING_IDENTITY)
			r->decoder = decoder_new(c, cfg->client.body_limit_bytes, BODY_RATIO_MAX);
		return true;
	}
	return false;
}

void request_head(struct conn *c, const struct http_head *head, struct str bytes, bool more)
{
	struct request *r = request_new(c);
	/* Other protocols, h2c among them, may be offered and are not taken up (RFC 9110, 7.8). */
	bool websocket = head->upgrade && http_list_has(http_header_get(head, "upgrade"), STR("websocket"));

	if (!r || request_take_head(r, head, bytes) < 0) {
		conn_close(c);
		return;
	}
	if (!route_parse(r->head.method, r->head.target, websocket, &r->route)) {
		request_deny(r, OUTCOME_BAD_REQUEST, "The request's path is too long.");
		return;
	}
	client_name(http_header_get(&r->head, "user-agent"), r->client, sizeof(r->client));
	if (!c->stamped)
		conn_read_stamp(c);
	if (!c->stamped) {
		/* Nobody knows this client: its body is not worth the memory. */
		deny_unattested(r);
		return;
	}
	if (c->refused) {
		r->head.keep_alive = false;
		request_deny(r, OUTCOME_OVERLOADED,
			     "Sallyport: this sandbox has as many connections open as the gateway gives to one (client.max_connections); close some, or try again.");
		return;
	}
	if (!request_directed(r))
		return;
	request_find_session(r);
	req_tap_start(r->tap, r->route.format);
	if (!request_bounds(r))
		return;
	c->state = CONN_BODY;
	r->body_left = r->head.length;
	if (r->head.body == HTTP_BODY_NONE) {
		request_decide(r);
		return;
	}
	if (r->head.expect_continue && !more)
		conn_send(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

static void on_decoded(void *arg, const void *data, size_t n)
{
	req_tap_feed(((struct request *)arg)->tap, data, n);
}

/* A piece that is in the body now (or err): counted, and read by the tap. False: refused. */
static bool request_took_body(struct request *r, struct str piece, int err)
{
	r->gw->body_bytes += piece.n;
	r->share->bytes += piece.n;
	r->body_counted += piece.n;
	if (err == -ENOBUFS) {
		request_deny(r, OUTCOME_TOO_LARGE,
			     "The request's body is larger than client.body_limit (%" PRIu64 " bytes) of the gateway allows.",
			     r->gw->config->client.body_limit_bytes);
	} else if (err || !request_fits(r, 0)) {
		deny_memory(r);
	} else if (!r->decoder) {
		req_tap_feed(r->tap, piece.s, piece.n);
		return true;
	} else {
		err = decoder_feed(r->decoder, piece.s, piece.n, on_decoded, r);
		if (!err)
			return true;
		request_deny(r, err == -EFBIG ? OUTCOME_TOO_LARGE : OUTCOME_BAD_REQUEST,
			     err == -EFBIG ? "The request's body unfolds to more than the gateway allows." :
					     "The request's body is not of its content-encoding.");
	}
	return false;
}

static bool request_take_body(struct request *r, struct str piece)
{
	return request_took_body(r, piece, buf_append(&r->body, piece.s, piece.n));
}

char *request_body_room(struct request *r, size_t *ret_n)
{
	char *to = r->head.body == HTTP_BODY_LENGTH ? buf_reserve(&r->body, r->body_left) : NULL;

	*ret_n = r->body_left;
	return to;
}

void request_body_filled(struct request *r, size_t n)
{
	struct str piece = { r->body.data + r->body.end, n };

	buf_commit(&r->body, n);
	r->body_left -= n;
	if (request_took_body(r, piece, 0) && !r->body_left)
		request_decide(r);
}

size_t request_body(struct request *r, const char *data, size_t n)
{
	struct str in = { data, n }, piece;

	if (r->head.body == HTTP_BODY_LENGTH) {
		piece = (struct str){ data, MIN((uint64_t)n, r->body_left) };
		if (!request_take_body(r, piece))
			return n;
		r->body_left -= piece.n;
		if (!r->body_left)
			request_decide(r);
		return piece.n;
	}
	if (r->head.body == HTTP_BODY_EOF) {
		request_take_body(r, in);
		return n;
	}
	for (;;) {
		switch (http_chunked_next(&r->chunked, &in, &piece)) {
		case PIECE_DATA:
			if (!request_take_body(r, piece))
				return n;
			break;
		case PIECE_MORE:
			return n;
		case PIECE_END:
			request_decide(r);
			return n - in.n;
		case PIECE_BAD:
			r->head.keep_alive = false;
			request_deny(r, OUTCOME_BAD_REQUEST, "The request's chunked body is malformed.");
			return n;
		}
	}
}

void request_body_end(struct request *r)
{
	if (r->head.body == HTTP_BODY_EOF)
		request_decide(r);
	else
		request_deny(r, OUTCOME_BAD_REQUEST, "The request's body is shorter than its content-length says.");
}

/* ------------------------------------------------------------------ deciding */

static void describe(const struct request *r, char *out, size_t size)
{
	const struct label *label = request_label(r);

	snprintf(out, size, "%s (%s)", label && label->n_tags ? label->box.tags : "a sandbox without a tag",
		 label ? label->box.path : "unknown cgroup");
}

static void deny_by_policy(struct request *r)
{
	char who[160];

	describe(r, who, sizeof(who));
	switch (r->verdict.outcome) {
	case OUTCOME_DENIED_UNLABELLED:
		account_event(r->gw, r->conn, "unlabelled", "a sandbox without a label asked for a model and was refused");
		request_deny(r, OUTCOME_DENIED_UNLABELLED,
			     "Sallyport: this sandbox has no label; ask its operator for `sallyport label TARGET tag:NAME`.");
		break;
	case OUTCOME_UNKNOWN_MODEL:
		request_deny(r, OUTCOME_UNKNOWN_MODEL,
			     "Sallyport: no provider here serves the model \"%.*s\" in this format; GET /v1/models lists what %s may use.",
			     STR_ARG(r->model), who);
		break;
	default:
		request_deny(r, r->verdict.outcome,
			     "Sallyport: %s may not use the model \"%.*s\": %s; ask your platform team for a grant.",
			     who, STR_ARG(r->model), r->verdict.rule);
	}
}

/* The model as the policy names it: from the path, or else from the body. */
static void request_find_model(struct request *r)
{
	if (r->route.model[0])
		r->model = str_of(r->route.model);
	else
		r->model = str_of(r->facts->model);
	str_copy(r->model_text, sizeof(r->model_text), r->model);
	r->model = str_of(r->model_text);
	if (!r->session[0])
		str_copy(r->session, sizeof(r->session), str_of(r->facts->session));
	if (!r->session[0] && r->facts->fingerprint)
		snprintf(r->session, sizeof(r->session), "fp_%016" PRIx64, r->facts->fingerprint);
}

/* Everything that can be said without the policy; false: answered. */
static bool request_sound(struct request *r)
{
	if (!request_attested(r)) {
		/* answered */
	} else if (r->route.kind == ROUTE_PROBE) {
		answer_probe(r);
	} else if (!r->rules && r->gw->no_rules[0]) {
		/* The file and the place first: `why` has an end. */
		request_deny(r, OUTCOME_OVERLOADED, "Sallyport: no policy is in force: %.150s; the operator mends it with `sallyport policy check`.",
			     r->gw->no_rules);
	} else if (!r->rules) {
		request_deny(r, OUTCOME_OVERLOADED, "Sallyport: the gateway has no policy yet; try again.");
	} else if (r->route.kind == ROUTE_MODELS) {
		models_answer(r);
	} else if (r->route.kind == ROUTE_UPGRADE) {
		struct conn *c = r->conn;

		buf_puts(&c->out, STR("HTTP/1.1 426 Upgrade Required\r\nupgrade: HTTP/1.1\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n"));
		r->answer_status = 426;
		request_finish(r, OUTCOME_LOCAL);
		if (c->state != CONN_DEAD)
			conn_flush(c);
	} else if (r->route.kind == ROUTE_NOT_FOUND) {
		request_deny(r, OUTCOME_NOT_FOUND,
			     "Sallyport: %.*s %.*s is not served here; model calls go to /v1/messages, /v1/chat/completions, /v1/responses or /v1beta/models/MODEL:generateContent.",
			     STR_ARG(r->head.method), (int)MIN(r->head.target.n, (size_t)64), r->head.target.s);
	} else if (r->decoder && !decoder_done(r->decoder)) {
		request_deny(r, OUTCOME_BAD_REQUEST, "Sallyport: the request's compressed body is cut off.");
	} else if (r->facts->not_json) {
		request_deny(r, OUTCOME_BAD_REQUEST, "Sallyport: the request's body is not a JSON object.");
	} else if (r->facts->model_repeated || r->facts->model_cut) {
		/* Whoever reads the other one would be asked for what policy did not see. */
		request_deny(r, OUTCOME_BAD_REQUEST, "Sallyport: the request names its model twice, or at too great a length.");
	} else if (!r->route.model[0] && r->facts->model_len != strlen(r->facts->model)) {
		/* No model's name needs an escape; with one, others might read another name (NUL). */
		request_deny(r, OUTCOME_BAD_REQUEST, "Sallyport: the model's name holds an escape; write it plain.");
	} else if (!r->model.n) {
		request_deny(r, OUTCOME_BAD_REQUEST, "Sallyport: the request names no model.");
	} else {
		return true;
	}
	return false;
}

static void request_judge(struct request *r);

static void on_judge_again(void *arg)
{
	request_judge(arg);
}

/*
 * A container is stamped before its engine has told its labels: for that moment it is not refused but waits.
 */
static bool label_may_come(struct request *r)
{
	const struct label *label = request_label(r);

	if (!label || label->box.origin != ORIGIN_UNLABELLED ||
	    r->gw->loop.wall_ns >= label->box.since_ns + LABEL_GRACE_NS)
		return false;
	return loop_timer(&r->gw->loop, &r->timer, r->gw->loop.now_ns + LABEL_POLL_NS, on_judge_again, r) == 0;
}

static void request_judge(struct request *r)
{
	struct policy_query q = { .who = request_facts(r),
				  .format = r->route.format,
				  .model = r->model,
				  .provider = str_of(r->route.provider),
				  .host = peek_name(r->conn) };

	policy_eval(r->rules->policy, &q, &r->verdict);
	str_copy(r->rule, sizeof(r->rule), str_of(r->verdict.rule));
	if (r->verdict.outcome == OUTCOME_DENIED_UNLABELLED && label_may_come(r))
		return;
	if (r->verdict.outcome != OUTCOME_NONE)
		deny_by_policy(r);
	else if (!account_has_room(r->gw) || account_begin(r) < 0)
		request_deny(r, OUTCOME_OVERLOADED,
			     "Sallyport: the ledger cannot take more records now; see `sallyport doctor` on the host.");
	else
		relay_start(r);
}

void request_decide(struct request *r)
{
	r->conn->state = CONN_BUSY;
	r->body_whole = true;
	r->facts = req_tap_end(r->tap);
	request_find_model(r);
	if (request_sound(r))
		request_judge(r);
}
