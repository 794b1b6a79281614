/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 *   client ── conn (socket, TLS, share) ── h2 (one session of nghttp2) ─┬─ h2_stream ── conn ── request
 *                                                                       └─ h2_stream ── conn ── request
 *
 * Reading: frames -> nghttp2 -> the fields of a head, written down as a head of HTTP/1.1 and read by http_msg.c, so that
 * the same is refused in both; DATA -> request_body(), END_STREAM -> request_body_end(). Bodies are taken at once: what
 * bounds them is the share of memory, not the window.
 *
 * Writing: the request writes an answer of HTTP/1.1 to its conn's `out`, which is the stream's only buffer. Its head becomes
 * HEADERS; on_read() takes the framing off while nghttp2 asks for DATA, as much as the windows allow. Trailers are left out
 * (RFC 9110, 6.5.1, permits it; no provider sends any). So a slow stream fills its own `out`, its provider pauses, and
 * the others go on.
 *
 * Nothing is sent inside of a callback: h2_wake() asks for h2_flush() at the end of the same wake-up. So an event of a
 * stream leaves in the wake-up in which it came, and those of several streams in one write.
 *
 * Life: a stream's conn counts as a connection of its sandbox, and lives until the stream is closed on both sides. The
 * session is freed after the batch, since a connection may be closed inside of a callback.
 *
 * Limits: STREAMS_MAX at a time; a head of HTTP_HEAD_MAX in at most CONTINUATIONS_MAX further frames; RESETS_BURST streams
 * that ended in an error; QUEUE_MAX answers to SETTINGS, PING and refused streams that the client does not take. Nothing is
 * pushed; priorities order only the frames of one connection; PRIORITY_UPDATE and Upgrade: h2c are ignored.
 */
#include "gateway/h2.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>

#include "common/log.h"
#include "gateway/conn.h"
#include "gateway/request.h"

/* Rationale: RFC 9113, 6.5.2, wants 100 at least; an agent with all its sub-agents has some ten. */
#define STREAMS_MAX 128
/* Rationale: bodies are taken at once, so a window is no memory; a long prompt comes without a wait for the next update. */
#define STREAM_WINDOW_BYTES (1 << 20)
#define CONN_WINDOW_BYTES   (4 << 20)
/* Rationale: a head of HTTP_HEAD_MAX takes four frames of 16 KiB (CVE-2024-28182). */
#define CONTINUATIONS_MAX 8
/* Rationale: all streams of a client that is interrupted, twice; then as many as a person can cause (CVE-2023-44487). */
#define RESETS_BURST	 256
#define RESET_EVERY_NS	 (NSEC_PER_SEC / 32)
/* Rationale: one read brings at most 1000 of them (the library's bound); the client gets them with the next write. */
#define QUEUE_MAX 64
/* Rationale: what the library takes for a connection with default tables, measured; it counts in the share of memory. */
#define H2_SESSION_BYTES (26u << 10)
/* What is made ready for one write. */
#define FLUSH_BYTES SCRATCH_BYTES

struct h2_stream {
	struct h2 *h2;
	struct h2_stream *prev, *next;
	struct conn *conn; /* NULL: closed, and the client is told */
	int32_t id;
	bool to_head;
	bool stalls; /* the client has not taken all of `out`, and its time runs */
	/* the answer, as far as the library has it */
	enum { ANSWER_HEAD, ANSWER_BODY, ANSWER_ENDED } part;
	enum http_body framing;
	uint64_t left;
	struct http_chunked chunked;
};

struct h2 {
	struct conn *conn;
	nghttp2_session *session;
	struct h2_stream *streams;
	struct timer timer;
	bool receiving; /* in nghttp2_session_mem_recv() */
	bool drained;	/* a stream whose provider pauses has room */
	bool leaving;
	uint64_t resets_until_ns; /* each one that ended in an error moves it by RESET_EVERY_NS */
	/* the head that is read now */
	unsigned continuations;
	nghttp2_rcbuf *method, *path, *authority;
	bool lined; /* its first line is written */
	struct buf head;
	const char *why; /* what is wrong with it */
};

static const char PREFACE[] = "PRI * HTTP/2.0\r\n";

bool h2_is_preface(struct str in)
{
	return str_starts(in, STR(PREFACE));
}

bool h2_is_busy(const struct h2 *h)
{
	/* One that was answered, and whose client has not ended its request, keeps nothing open. */
	for (const struct h2_stream *s = h->streams; s; s = s->next)
		if (s->part != ANSWER_ENDED)
			return true;
	return false;
}

bool h2_wants(const struct h2 *h)
{
	return nghttp2_session_get_outbound_queue_size(h->session) < QUEUE_MAX;
}

size_t h2_held(const struct h2 *h)
{
	return H2_SESSION_BYTES + buf_len(&h->head);
}

struct conn *h2_stream_outer(const struct h2_stream *s)
{
	return s->h2->conn;
}

static struct h2_stream *stream_get(const struct h2 *h, int32_t id)
{
	return nghttp2_session_get_stream_user_data(h->session, id);
}

static void on_wake(void *arg)
{
	h2_flush(arg);
}

/* What waits to be sent leaves at the end of this wake-up. */
static void h2_wake(struct h2 *h)
{
	struct gateway *gw = h->conn->gw;

	if (h->receiving || h->timer.index || h->conn->state == CONN_DEAD)
		return;
	if (loop_timer(&gw->loop, &h->timer, gw->loop.now_ns, on_wake, h) < 0)
		conn_close(h->conn);
}

/* ------------------------------------------------------------------ streams */

static struct h2_stream *stream_new(struct h2 *h, int32_t id)
{
	struct h2_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->h2 = h;
	s->id = id;
	s->next = h->streams;
	if (h->streams)
		h->streams->prev = s;
	h->streams = s;
	nghttp2_session_set_stream_user_data(h->session, id, s);
	/* What is busy is not given up for another, this stream included. */
	conn_set_idle(h->conn);
	s->conn = conn_open_stream(h->conn, s);
	return s;
}

static void stream_free(struct h2_stream *s)
{
	if (s->prev)
		s->prev->next = s->next;
	else
		s->h2->streams = s->next;
	if (s->next)
		s->next->prev = s->prev;
	free(s);
}

/* Its conn, if that lives, is closed without telling the client again. */
static void stream_cut(struct h2_stream *s)
{
	struct conn *c = TAKE_PTR(s->conn);

	if (!c)
		return;
	c->stream = NULL;
	conn_close(c);
}

void h2_stream_gone(struct h2_stream *s, bool untouched)
{
	s->conn = NULL;
	nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id,
				  untouched ? NGHTTP2_REFUSED_STREAM : NGHTTP2_INTERNAL_ERROR);
	h2_wake(s->h2);
}

/* ------------------------------------------------------------------ a request's head */

static struct str text_of(nghttp2_rcbuf *b)
{
	nghttp2_vec v = b ? nghttp2_rcbuf_get_buf(b) : (nghttp2_vec){ 0 };

	return (struct str){ (const char *)v.base, v.len };
}

static void head_reset(struct h2 *h)
{
	nghttp2_rcbuf **pseudo[] = { &h->method, &h->path, &h->authority };

	for (size_t i = 0; i < ARRAY_SIZE(pseudo); i++)
		if (*pseudo[i])
			nghttp2_rcbuf_decref(TAKE_PTR(*pseudo[i]));
	buf_reset(&h->head, 4096);
	h->lined = false;
	h->why = NULL;
}

static void head_put(struct h2 *h, struct str name, struct str value)
{
	int err = buf_puts(&h->head, name);

	if (!err)
		err = buf_puts(&h->head, STR(": "));
	if (!err)
		err = buf_puts(&h->head, value);
	if (!err)
		err = buf_puts(&h->head, STR("\r\n"));
	if (err)
		h->why = "the head is too long";
}

/* The first line and Host, before the first field; the library has seen to it that ":" fields come first, and once. */
static void head_line(struct h2 *h)
{
	struct str method = text_of(h->method), path = text_of(h->path);

	h->lined = true;
	if (buf_printf(&h->head, "%.*s %.*s HTTP/1.1\r\n", STR_ARG(method), STR_ARG(path)) < 0)
		h->why = "the head is too long";
	else if (h->authority)
		head_put(h, STR("host"), text_of(h->authority));
}

static bool line_fits(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.s[i] == '\r' || s.s[i] == '\n' || s.s[i] == '\0')
			return false;
	return true;
}

static void head_field(struct h2 *h, struct str name, nghttp2_rcbuf *value)
{
	nghttp2_rcbuf **pseudo = str_eq(name, STR(":method"))	 ? &h->method :
				 str_eq(name, STR(":path"))	 ? &h->path :
				 str_eq(name, STR(":authority")) ? &h->authority :
								   NULL;

	if (h->why)
		return;
	if (!line_fits(name) || !line_fits(text_of(value))) {
		h->why = "control byte in a header field";
	} else if (pseudo) {
		nghttp2_rcbuf_incref(value);
		*pseudo = value;
	} else if (!str_starts(name, STR(":"))) {
		if (!h->lined)
			head_line(h);
		if (h->why || !str_eq(name, STR("host")) || !h->authority)
			head_put(h, name, text_of(value));
		else if (!str_caseeq(text_of(value), text_of(h->authority)))
			h->why = "Host and :authority differ";
	}
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2 *h = arg;

	(void)session;
	(void)frame;
	head_reset(h);
	if (!h->streams && !h->conn->refused)
		conn_set_deadline(h->conn, h->conn->gw->config->client.head_timeout_ns);
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
		     uint8_t flags, void *arg)
{
	(void)session;
	(void)flags;
	if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) /* trailers are read and dropped */
		head_field(arg, text_of(name), value);
	return 0;
}

static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name, nghttp2_rcbuf *value,
			     uint8_t flags, void *arg)
{
	struct h2 *h = arg;

	(void)session;
	(void)frame;
	(void)name;
	(void)value;
	(void)flags;
	h->why = "malformed header field";
	return 0;
}

/* The head is whole: a request begins. */
static void head_done(struct h2 *h, int32_t id, bool end)
{
	struct h2_stream *s = stream_new(h, id);
	struct conn *c = s ? s->conn : NULL;
	struct http_head head;

	if (!c) {
		if (!s)
			nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
		return;
	}
	if (!h->lined)
		head_line(h);
	if (!h->why && buf_puts(&h->head, STR("\r\n")) < 0)
		h->why = "the head is too long";
	if (h->why || http_parse_request(buf_str(&h->head), &head, &h->why) <= 0) {
		request_bad_head(c, h->why);
		return;
	}
	s->to_head = str_eq(head.method, STR("HEAD"));
	if (!end && head.body == HTTP_BODY_NONE && !http_header_get(&head, "content-length").n)
		head.body = HTTP_BODY_EOF;
	conn_set_deadline(c, c->gw->config->client.idle_timeout_ns); /* of the body's first bytes */
	request_head(c, &head, buf_str(&h->head), false);
}

/* ------------------------------------------------------------------ a request's body */

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *arg)
{
	struct h2_stream *s = stream_get(arg, id);
	struct conn *c = s ? s->conn : NULL;

	/*
	 * What comes after an early answer is dropped, and the client need not send the rest (RFC 9113, 8.1). It is told so
	 * only when more is to come: some clients lose an answer that is followed by a reset while they still send.
	 */
	if (!c || c->state != CONN_BODY) {
		if (s && s->part == ANSWER_ENDED && !(flags & NGHTTP2_FLAG_END_STREAM))
			nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
		return 0;
	}
	conn_set_deadline(c, c->gw->config->client.idle_timeout_ns);
	request_body(c->req, (const char *)data, n);
	return 0;
}

static void body_end(const struct h2 *h, int32_t id)
{
	struct h2_stream *s = stream_get(h, id);

	if (s && s->conn && s->conn->state == CONN_BODY)
		request_body_end(s->conn->req);
}

/* ------------------------------------------------------------------ frames */

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
	struct h2 *h = arg;

	(void)session;
	h->continuations = hd->type == NGHTTP2_CONTINUATION ? h->continuations + 1 : 0;
	return h->continuations > CONTINUATIONS_MAX || h->conn->state == CONN_DEAD ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct h2 *h = arg;
	bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	(void)session;
	if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
		head_done(h, frame->hd.stream_id, end);
		head_reset(h);
	}
	if (end && (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS))
		body_end(h, frame->hd.stream_id);
	return 0;
}

/* An answer that came before the end of its request: who never ends that is given up as an idle connection. */
static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct conn *c = ((struct h2 *)arg)->conn;

	if ((frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
	    frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
	    nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
		conn_set_deadline(c, c->gw->config->client.idle_timeout_ns);
	return 0;
}

/* Streams that end in an error cost us more than the client, whoever of us says so. */
static void count_reset(struct h2 *h)
{
	uint64_t now = h->conn->gw->loop.now_ns;

	h->resets_until_ns = MAX(h->resets_until_ns, now) + RESET_EVERY_NS;
	if (h->resets_until_ns - now <= RESETS_BURST * RESET_EVERY_NS)
		return;
	log_limited(LOG_INFO, "a client resets its streams too fast, its connection ends cgroup_id=%llu",
		    (unsigned long long)h->conn->stamp.cgroup_id);
	nghttp2_session_terminate_session(h->session, NGHTTP2_ENHANCE_YOUR_CALM);
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t error, void *arg)
{
	struct h2 *h = arg;
	struct h2_stream *s = stream_get(h, id);
	struct conn *c = h->conn;

	(void)session;
	if (error != NGHTTP2_NO_ERROR)
		count_reset(h);
	if (!s)
		return 0;
	stream_cut(s);
	stream_free(s);
	if (h->streams || c->state == CONN_DEAD)
		return 0;
	conn_set_idle(c);
	if (!c->refused)
		conn_set_deadline(c, c->gw->config->client.idle_timeout_ns);
	if (c->gw->stopping)
		h2_leave(h);
	return 0;
}

void h2_receive(struct conn *c, struct str in)
{
	struct h2 *h = c->h2;
	ssize_t n;

	h->receiving = true;
	n = nghttp2_session_mem_recv(h->session, (const uint8_t *)in.s, in.n);
	h->receiving = false;
	if (n < 0) {
		log_limited(LOG_DEBUG, "a client's HTTP/2 was refused why=\"%s\"", nghttp2_strerror((int)n));
		conn_close(c);
	}
	if (c->state == CONN_DEAD)
		return;
	conn_hold_in(c);
	h2_flush(h);
}

/* ------------------------------------------------------------------ answers */

static bool field_forwarded(struct str name)
{
	static const char *const of_http1[] = { "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade" };

	for (size_t i = 0; i < ARRAY_SIZE(of_http1); i++)
		if (str_caseeq(name, str_of(of_http1[i])))
			return false;
	return true;
}

static nghttp2_nv field(struct str name, struct str value)
{
	return (nghttp2_nv){ (uint8_t *)(uintptr_t)name.s, (uint8_t *)(uintptr_t)value.s, name.n, value.n, NGHTTP2_NV_FLAG_NONE };
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *to, size_t size, uint32_t *flags,
		       nghttp2_data_source *source, void *arg);

/* The head is copied by the library. */
static int answer_submit(struct h2_stream *s, const struct http_head *head)
{
	nghttp2_data_provider body = { .source.ptr = s, .read_callback = on_read };
	nghttp2_session *session = s->h2->session;
	nghttp2_nv fields[HTTP_HEADERS_MAX + 1];
	char status[12];
	size_t n = 0;

	snprintf(status, sizeof(status), "%d", head->status);
	fields[n++] = field(STR(":status"), str_of(status));
	for (unsigned i = 0; i < head->n_headers; i++)
		if (field_forwarded(head->headers[i].name))
			fields[n++] = field(head->headers[i].name, head->headers[i].value);
	if (head->status < 200)
		return nghttp2_submit_headers(session, NGHTTP2_FLAG_NONE, s->id, NULL, fields, n, NULL);
	s->framing = head->body;
	s->left = head->length;
	s->part = head->body == HTTP_BODY_NONE ? ANSWER_ENDED : ANSWER_BODY;
	return nghttp2_submit_response(session, s->id, fields, n, s->part == ANSWER_BODY ? &body : NULL);
}

/* Our own heads, each whole when it lies in `out`. Negative errno: one cannot be sent. */
static int answer_heads(struct h2_stream *s)
{
	struct buf *out = &s->conn->out;
	struct http_head head;
	const char *why = NULL;

	while (s->part == ANSWER_HEAD && buf_len(out)) {
		int n = http_parse_response(buf_str(out), s->to_head, &head, &why);

		if (n <= 0 || answer_submit(s, &head) < 0) {
			log_limited(LOG_WARN, "an answer's head cannot be sent as HTTP/2 why=\"%s\"", why ? why : "its size");
			return -EPROTO;
		}
		buf_consume(out, (size_t)n);
	}
	return 0;
}

/* Its request is over: nothing more is appended to `out`. */
static bool answer_over(const struct conn *c)
{
	return c->close_after && !c->req;
}

void h2_stream_wake(struct h2_stream *s)
{
	struct conn *c = s->conn;

	if (answer_heads(s) < 0 || (s->part == ANSWER_HEAD && answer_over(c))) {
		conn_close(c);
		return;
	}
	nghttp2_session_resume_data(s->h2->session, s->id);
	if (buf_len(&c->out) && !s->stalls) {
		s->stalls = true;
		conn_set_deadline(c, WRITE_STALL_NS);
	}
	h2_wake(s->h2);
}

/*
 * One step over the framing of HTTP/1.1 at the front of *in, which is advanced. PIECE_DATA: *ret is payload of at most `room`
 * bytes.
 */
static enum http_piece answer_next(struct h2_stream *s, struct str *in, size_t room, struct str *ret)
{
	struct str part = { in->s, MIN(in->n, room) };
	enum http_piece what = PIECE_BAD;

	if (s->framing == HTTP_BODY_CHUNKED) {
		what = http_chunked_next(&s->chunked, &part, ret);
		*in = str_skip(*in, (size_t)(part.s - in->s));
	} else if (s->framing == HTTP_BODY_LENGTH && !s->left) {
		what = PIECE_END;
	} else if (s->framing == HTTP_BODY_LENGTH) {
		*ret = (struct str){ part.s, MIN((uint64_t)part.n, s->left) };
		s->left -= ret->n;
		*in = str_skip(*in, ret->n);
		what = ret->n ? PIECE_DATA : PIECE_MORE;
	}
	return what;
}

/* Payload for a DATA frame, as much as `out` has and the frame takes. */
static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *to, size_t size, uint32_t *flags,
		       nghttp2_data_source *source, void *arg)
{
	struct h2_stream *s = source->ptr;
	struct conn *c = s->conn;
	struct h2 *h = arg;
	enum http_piece what = PIECE_DATA;
	struct str in, piece;
	size_t n = 0;

	(void)session;
	(void)id;
	if (!c)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	in = buf_str(&c->out);
	while (what == PIECE_DATA && (n < size || (s->framing == HTTP_BODY_LENGTH && !s->left))) {
		what = answer_next(s, &in, size - n, &piece);
		if (what != PIECE_DATA)
			break;
		memcpy(to + n, piece.s, piece.n);
		n += piece.n;
	}
	buf_consume(&c->out, buf_len(&c->out) - in.n);
	if (n) {
		conn_set_deadline(c, WRITE_STALL_NS);
		s->stalls = in.n > 0;
	}
	if (!in.n) {
		buf_reset(&c->out, 4096);
		h->drained |= c->req && c->req->paused;
	}
	if (what == PIECE_END) {
		s->part = ANSWER_ENDED;
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	} else if (!n) {
		/* Over without its end: it broke, and the client is to know. */
		return answer_over(c) || what == PIECE_BAD ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : NGHTTP2_ERR_DEFERRED;
	}
	return (ssize_t)n;
}

/* Providers that paused for a stream which has room now. */
static void resume_providers(struct h2 *h)
{
	if (!h->drained)
		return;
	h->drained = false;
	for (struct h2_stream *s = h->streams; s; s = s->next)
		if (s->conn && s->conn->req && s->conn->req->paused && !buf_len(&s->conn->out))
			relay_resume(s->conn->req);
}

void h2_flush(struct h2 *h)
{
	struct conn *c = h->conn;
	const uint8_t *data;
	ssize_t n = 1;

	while (n > 0 && !h->receiving && c->state != CONN_DEAD && !(c->watch.events & EPOLLOUT)) {
		while (buf_len(&c->out) < FLUSH_BYTES && (n = nghttp2_session_mem_send(h->session, &data)) > 0)
			if (buf_append(&c->out, data, (size_t)n) < 0)
				n = -ENOMEM;
		if (n < 0) {
			conn_close(c);
			return;
		}
		if (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session))
			c->close_after = true;
		if (buf_len(&c->out) || c->close_after)
			conn_flush(c);
	}
	if (c->state != CONN_DEAD)
		resume_providers(h);
}

/* ------------------------------------------------------------------ life */

bool h2_leave(struct h2 *h)
{
	int32_t last = nghttp2_session_get_last_proc_stream_id(h->session);

	if (h->leaving || nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL, 0) < 0)
		return false;
	h->leaving = true;
	h2_wake(h);
	return true;
}

static int session_new(struct h2 *h)
{
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP_HEAD_MAX },
	};
	nghttp2_session_callbacks *calls = NULL;
	nghttp2_option *option = NULL;
	int err = nghttp2_session_callbacks_new(&calls);

	if (!err)
		err = nghttp2_option_new(&option);
	if (!err) {
		nghttp2_session_callbacks_set_on_begin_frame_callback(calls, on_begin_frame);
		nghttp2_session_callbacks_set_on_begin_headers_callback(calls, on_begin_headers);
		nghttp2_session_callbacks_set_on_header_callback2(calls, on_header);
		nghttp2_session_callbacks_set_on_invalid_header_callback2(calls, on_invalid_header);
		nghttp2_session_callbacks_set_on_frame_recv_callback(calls, on_frame);
		nghttp2_session_callbacks_set_on_data_chunk_recv_callback(calls, on_data);
		nghttp2_session_callbacks_set_on_frame_send_callback(calls, on_frame_sent);
		nghttp2_session_callbacks_set_on_stream_close_callback(calls, on_close);
		nghttp2_option_set_no_closed_streams(option, 1);
		nghttp2_option_set_max_send_header_block_length(option, 2 * HTTP_HEAD_MAX);
		err = nghttp2_session_server_new2(&h->session, calls, h, option);
	}
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(calls);
	if (!err)
		err = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
	return err ? err : nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW_BYTES);
}

void h2_begin(struct conn *c)
{
	struct h2 *h = calloc(1, sizeof(*h));

	c->h2 = h;
	if (h) {
		h->conn = c;
		buf_init(&h->head, HTTP_HEAD_MAX);
	}
	if (!h || session_new(h) < 0) {
		conn_close(c);
		return;
	}
	c->state = CONN_H2;
	if (c->gw->stopping)
		h2_leave(h);
}

void h2_close(struct h2 *h)
{
	if (!h)
		return;
	loop_untimer(&h->conn->gw->loop, &h->timer);
	for (struct h2_stream *s = h->streams; s; s = s->next)
		stream_cut(s);
}

void h2_free(struct h2 *h)
{
	if (!h)
		return;
	while (h->streams)
		stream_free(h->streams);
	head_reset(h);
	buf_fini(&h->head);
	nghttp2_session_del(h->session);
	free(h);
}
