/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer's tap. Theory of operation: the first byte that is no white space tells JSON from a
 * stream, whatever the content type says (errors come as JSON under any). A stream's `data:` lines
 * go straight into the pick, one document for each event; JSON is one document, a JSON array one
 * for each element. The format's marks fill a struct with the document's fields and draw the
 * conclusions at its end, so that the order of keys never matters.
 */
#include "gateway/extract_internal.h"

#include "common/base.h"

static const struct resp_format *const resp_formats[WIRE_FORMAT_MAX] = {
	[WIRE_ANTHROPIC_MESSAGES] = &anthropic_resp,
	[WIRE_OPENAI_CHAT] = &chat_resp,
	[WIRE_OPENAI_RESPONSES] = &responses_resp,
	[WIRE_GEMINI] = &gemini_resp,
};

/* ---------------------------------------------------------------- for the formats */

void resp_over(struct resp_tap *tap)
{
	tap->facts.complete = !tap->unfinished;
	if (tap->ended)
		return;
	tap->ended = true;
	tap->format->finish(tap);
}

void resp_model(struct resp_tap *tap, const char *model)
{
	if (!tap->facts.model[0])
		str_copy(tap->facts.model, sizeof(tap->facts.model), str_of(model));
}

void resp_stop(struct resp_tap *tap, const char *reason)
{
	if (reason[0])
		str_copy(tap->facts.stop_reason, sizeof(tap->facts.stop_reason), str_of(reason));
}

static const char *first_of(const char *a, const char *b)
{
	return a[0] ? a : b;
}

void error_fields_reset(struct error_fields *e)
{
	e->type[0] = e->code[0] = e->status[0] = e->message[0] = '\0';
	e->top_type[0] = e->top_code[0] = e->top_message[0] = e->detail[0] = '\0';
	e->present = false;
}

bool resp_error(struct resp_tap *tap, const struct error_fields *e, bool top)
{
	struct resp_facts *f = &tap->facts;
	const char *type = first_of(e->type, e->status), *code = e->code, *message = e->message;

	if (tap->http_status >= 400 && tap->shape == SHAPE_JSON)
		top = true;
	if (top && !e->present) {
		type = e->top_type;
		code = e->top_code;
		message = first_of(e->top_message, e->detail);
	}
	if (!e->present && !(top && (type[0] || code[0] || message[0])))
		return false;
	if (f->has_error)
		return true;
	f->has_error = true;
	str_copy(f->error_type, sizeof(f->error_type), str_of(type));
	str_copy(f->error_code, sizeof(f->error_code), str_of(code));
	str_copy(f->error_message, sizeof(f->error_message), str_of(message));
	return true;
}

/* ---------------------------------------------------------------- streams */

/*
 * A data line begins. A document that is whole already is followed by a new one, even in the same
 * event: some servers leave the blank line out.
 */
static void resp_on_line(void *arg)
{
	struct resp_tap *tap = arg;

	tap->head_len = 0;
	if (!tap->event_open || scan_done(&tap->pick.scan) || scan_bad(&tap->pick.scan))
		pick_reset(&tap->pick);
	else
		pick_feed(&tap->pick, "\n", 1);
	tap->event_open = true;
}

static void resp_on_data(void *arg, const char *data, size_t n)
{
	struct resp_tap *tap = arg;
	size_t head = MIN(n, sizeof(tap->head) - tap->head_len);

	memcpy(tap->head + tap->head_len, data, head);
	tap->head_len += (uint8_t)head;
	pick_feed(&tap->pick, data, n);
}

static void resp_on_line_end(void *arg)
{
	struct resp_tap *tap = arg;
	struct str head = { tap->head, tap->head_len };

	while (head.n && (head.s[head.n - 1] == ' ' || head.s[head.n - 1] == '\t'))
		head.n--;
	if (str_eq(head, STR("[DONE]")))
		resp_over(tap);
}

static void resp_on_dispatch(void *arg, struct str name)
{
	struct resp_tap *tap = arg;

	(void)name;
	tap->event_open = false;
}

static bool resp_on_skip(void *arg, struct str line)
{
	struct resp_tap *tap = arg;

	/* Not the second line of an event whose document is still open. */
	return tap->format->idle && !tap->event_open && tap->format->idle(line);
}

static const struct sse_ops resp_sse_ops = {
	.skip = resp_on_skip,
	.line = resp_on_line,
	.data = resp_on_data,
	.line_end = resp_on_line_end,
	.dispatch = resp_on_dispatch,
};

/* ---------------------------------------------------------------- the tap */

struct resp_tap *resp_tap_new(void)
{
	struct resp_tap *tap = calloc(1, sizeof(*tap));

	if (tap)
		tap->facts.usage = tap->facts.billed_extra = USAGE_NONE;
	return tap;
}

static void resp_tap_drop_state(struct resp_tap *tap)
{
	if (tap->state)
		tap->format->fini(tap->state);
	free(tap->state);
	tap->state = NULL;
	tap->format = NULL;
}

void resp_tap_free(struct resp_tap *tap)
{
	if (!tap)
		return;
	calls_clear(&tap->calls);
	resp_tap_drop_state(tap);
	free(tap);
}

/* Keeps the state's memory from one answer to the next of the same format. */
static void resp_tap_set_format(struct resp_tap *tap, const struct resp_format *format)
{
	if (tap->format == format && tap->state) {
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a state has its format */
		format->reset(tap->state);
		return;
	}
	resp_tap_drop_state(tap);
	if (!format)
		return;
	pick_tree_build(format->tree, format->paths, format->n_paths);
	tap->state = calloc(1, format->state_size);
	if (!tap->state)
		return;
	tap->format = format;
	format->init(tap->state);
}

void resp_tap_start(struct resp_tap *tap, enum wire_format format, int http_status,
		    struct str content_type, tool_call_fn on_call, void *arg)
{
	calls_clear(&tap->calls);
	tap->calls.fn = on_call;
	tap->calls.arg = arg;
	tap->facts = (struct resp_facts){ .usage = USAGE_NONE, .billed_extra = USAGE_NONE };
	tap->shape = SHAPE_UNKNOWN;
	tap->http_status = http_status;
	tap->says_sse = str_find(content_type, STR("event-stream")) != NULL;
	tap->ended = tap->event_open = tap->unfinished = false;
	resp_tap_set_format(tap, format < WIRE_FORMAT_MAX ? resp_formats[format] : NULL);
	sse_init(&tap->sse, &resp_sse_ops, tap);
	if (tap->format)
		pick_init(&tap->pick, tap->format->tree, tap->state, tap->format->mark, tap);
}

static bool is_one_of(char c, const char *set)
{
	return c && strchr(set, c);
}

/* Looks at the first byte that is neither white space nor part of a byte order mark. */
static size_t resp_tap_sniff(struct resp_tap *tap, const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && is_one_of(p[i], " \t\r\n\xef\xbb\xbf"))
		i++;
	if (i == n)
		return n;
	if (p[i] == '{' || p[i] == '[')
		tap->shape = SHAPE_JSON;
	else if (tap->says_sse || is_one_of(p[i], ":deir"))
		tap->shape = SHAPE_SSE;
	else
		tap->shape = SHAPE_JSON; /* of which the scanner will know that it is none */
	tap->facts.streamed = tap->shape == SHAPE_SSE;
	return i;
}

bool resp_tap_feed(struct resp_tap *tap, const void *data, size_t n)
{
	const char *p = data;
	bool was = tap->ended;
	size_t skip = 0;

	if (!tap->format || !n)
		return false;
	if (tap->shape == SHAPE_UNKNOWN)
		skip = resp_tap_sniff(tap, p, n);
	if (tap->shape == SHAPE_SSE) {
		sse_feed(&tap->sse, p + skip, n - skip);
	} else if (tap->shape == SHAPE_JSON) {
		pick_feed(&tap->pick, p + skip, n - skip);
		/* Google also wraps a plain error in an array; that is no stream. */
		if (tap->pick.root_array)
			tap->facts.streamed = !tap->facts.has_error || tap->facts.model[0];
		if (!tap->ended && tap->pick.whole)
			resp_over(tap);
	}
	return tap->ended && !was;
}

const struct resp_facts *resp_tap_facts(struct resp_tap *tap)
{
	tap->facts.n_calls = tap->calls.n_emitted;
	tap->facts.n_calls_dropped = tap->calls.n_dropped;
	return &tap->facts;
}

const struct resp_facts *resp_tap_end(struct resp_tap *tap)
{
	if (tap->format && tap->shape != SHAPE_UNKNOWN)
		tap->format->finish(tap);
	if (tap->http_status >= 400)
		tap->facts.has_error = true;
	return resp_tap_facts(tap);
}
