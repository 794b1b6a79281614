/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Anthropic Messages, also as Vertex and others speak it. A stream is message_start, content blocks
 * by index (start, deltas, stop), message_delta, message_stop; counts in later events replace
 * earlier ones.
 */
#include "gateway/extract_internal.h"

#include "common/base.h"

/* ---------------------------------------------------------------- answers */

enum { TAG_BLOCK = TAG_OWN, TAG_START_BLOCK, TAG_ITERATIONS, TAG_ITERATION };

struct counts {
	int64_t input, cache_read, cache_write, output, reasoning, cache_write_1h, web_searches;
};
#define COUNTS_NONE ((struct counts){ -1, -1, -1, -1, -1, -1, -1 })

struct anthropic_resp {
	/* the event in hand */
	char model[MODEL_BYTES], stop[STOP_BYTES];
	int64_t index;
	struct counts usage, iteration, iterations;
	bool has_iterations;
	struct pick_value partial;
	struct error_fields error;
	/* the block in hand */
	struct {
		char type[48], id[CALL_ID_BYTES], name[TOOL_NAME_BYTES], server[TOOL_NAME_BYTES];
		char caller[TOOL_NAME_BYTES];
		struct pick_value input;
	} block;
	bool block_started; /* by this event */
	/* the answer so far */
	struct counts sum; /* of the iterations */
	bool sum_known;
};

#define F(field) PICK_FIELD(struct anthropic_resp, field)
#define BLOCK_PATHS(prefix, tag)                                                                   \
	{ prefix, PICK_NONE, 0, 0, tag }, { prefix ".type", PICK_TEXT, F(block.type), 0 },         \
		{ prefix ".id", PICK_TEXT, F(block.id), 0 },                                       \
		{ prefix ".name", PICK_TEXT, F(block.name), 0 },                                   \
		{ prefix ".server_name", PICK_TEXT, F(block.server), 0 },                          \
		{ prefix ".caller.type", PICK_TEXT, F(block.caller), 0 },                          \
	{                                                                                          \
		prefix ".input", PICK_VALUE, F(block.input), 0                                     \
	}
#define COUNT_PATHS(prefix, field)                                                                 \
	{ prefix ".input_tokens", PICK_INT, F(field.input), 0 },                                   \
		{ prefix ".cache_read_input_tokens", PICK_INT, F(field.cache_read), 0 },           \
		{ prefix ".cache_creation_input_tokens", PICK_INT, F(field.cache_write), 0 },      \
		{ prefix ".output_tokens", PICK_INT, F(field.output), 0 },                         \
		{ prefix ".output_tokens_details.thinking_tokens", PICK_INT, F(field.reasoning),   \
		  0 },                                                                             \
		{ prefix ".cache_creation.ephemeral_1h_input_tokens", PICK_INT,                    \
		  F(field.cache_write_1h), 0 },                                                    \
	{                                                                                          \
		prefix ".server_tool_use.web_search_requests", PICK_INT, F(field.web_searches), 0  \
	}

static const struct pick_path resp_paths[] = {
	{ "index", PICK_INT, F(index), 0 },
	{ "message?.model", PICK_TEXT, F(model), 0 },
	{ "message?.stop_reason", PICK_TEXT, F(stop), 0 },
	{ "delta.stop_reason", PICK_TEXT, F(stop), 0 },
	{ "delta.partial_json", PICK_VALUE, F(partial), 0 },
	COUNT_PATHS("message?.usage", usage),
	{ "message?.usage.iterations", PICK_NONE, 0, 0, TAG_ITERATIONS },
	{ "message?.usage.iterations.*", PICK_NONE, 0, 0, TAG_ITERATION },
	COUNT_PATHS("message?.usage.iterations.*", iteration),
	BLOCK_PATHS("message?.content.*", TAG_BLOCK),
	BLOCK_PATHS("content_block", TAG_START_BLOCK),
	ERROR_TOP_PATHS(struct anthropic_resp, error),
	ERROR_PATHS(struct anthropic_resp, error, ""),
};
#undef F

static void counts_take(struct counts *to, const struct counts *from)
{
	int64_t *t[] = { &to->input,	 &to->cache_read,     &to->cache_write, &to->output,
			 &to->reasoning, &to->cache_write_1h, &to->web_searches };
	const int64_t *f[] = { &from->input,	   &from->cache_read, &from->cache_write,
			       &from->output,	   &from->reasoning,  &from->cache_write_1h,
			       &from->web_searches };

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		if (*f[i] >= 0)
			*t[i] = *f[i];
}

static void counts_add(struct counts *to, const struct counts *from)
{
	to->input += MAX(from->input, 0);
	to->cache_read += MAX(from->cache_read, 0);
	to->cache_write += MAX(from->cache_write, 0);
	to->output += MAX(from->output, 0);
	to->reasoning += MAX(from->reasoning, 0);
	to->cache_write_1h += MAX(from->cache_write_1h, 0);
	to->web_searches += MAX(from->web_searches, 0);
}

/* What the passes add to the top level; -1 where they add nothing. */
static int64_t extra(int64_t sum, int64_t top)
{
	return sum > MAX(top, 0) ? sum - MAX(top, 0) : -1;
}

/* Later counts replace earlier ones key by key; what an event does not say stays. */
static void anthropic_usage(struct resp_tap *tap, struct anthropic_resp *a)
{
	struct usage *u = &tap->facts.usage, *more = &tap->facts.billed_extra;
	struct counts now = { u->input,	    u->cache_read,     u->cache_write, u->output,
			      u->reasoning, u->cache_write_1h, u->web_searches };
	const struct counts *sum = &a->sum;

	counts_take(&now, &a->usage);
	*u = (struct usage){ now.input,	    now.cache_read,	now.cache_write, now.output,
			     now.reasoning, now.cache_write_1h, now.web_searches };
	if (a->has_iterations) {
		a->sum = a->iterations;
		a->sum_known = true;
	}
	if (!a->sum_known)
		return;
	tap->facts.has_iterations = true;
	*more = (struct usage){
		.input = extra(sum->input, u->input),
		.cache_read = extra(sum->cache_read, u->cache_read),
		.cache_write = extra(sum->cache_write, u->cache_write),
		.output = extra(sum->output, u->output),
		.reasoning = extra(sum->reasoning, u->reasoning),
		.cache_write_1h = extra(sum->cache_write_1h, u->cache_write_1h),
		.web_searches = extra(sum->web_searches, u->web_searches),
	};
}

/* The block in hand is a call: opens it. */
static struct open_call *anthropic_open(struct resp_tap *tap, struct anthropic_resp *a)
{
	struct open_call *call;
	enum tool_kind kind;

	if (!strcmp(a->block.type, "tool_use"))
		kind = TOOL_FUNCTION;
	else if (!strcmp(a->block.type, "server_tool_use"))
		kind = TOOL_SERVER;
	else if (!strcmp(a->block.type, "mcp_tool_use"))
		kind = TOOL_MCP;
	else
		return NULL;
	call = calls_open(&tap->calls);
	if (!call)
		return NULL;
	call->kind = kind;
	call->has_id = a->block.id[0];
	str_copy(call->id, sizeof(call->id), str_of(a->block.id));
	str_copy(call->name, sizeof(call->name), str_of(a->block.name));
	str_copy(call->server, sizeof(call->server), str_of(a->block.server));
	/* "direct" is the model itself. */
	if (strcmp(a->block.caller, "direct"))
		str_copy(call->caller, sizeof(call->caller), str_of(a->block.caller));
	if (a->block.input.present && a->block.input.type != SCAN_NULL)
		calls_append(&tap->calls, call, buf_str(&a->block.input.text));
	call->cut = a->block.input.cut;
	return call;
}

static struct open_call *anthropic_find(struct resp_tap *tap, int64_t index)
{
	for (unsigned i = tap->calls.n; i-- > 0;)
		if (tap->calls.calls[i]->index == index)
			return tap->calls.calls[i];
	return NULL;
}

/* An input that came with the start counts only if no fragment follows. */
static void anthropic_fragment(struct resp_tap *tap, struct anthropic_resp *a)
{
	struct open_call *call = anthropic_find(tap, a->index);

	if (!call || !a->partial.present || !buf_len(&a->partial.text))
		return;
	if (!call->text_on_wire) {
		call->text_on_wire = true;
		calls_set_args(&tap->calls, call, STR_NULL);
	}
	calls_append(&tap->calls, call, buf_str(&a->partial.text));
	call->cut = call->cut || a->partial.cut;
}

/* Calls are told in the order in which they were opened. */
static void anthropic_close(struct resp_tap *tap, struct open_call *call)
{
	if (call)
		call->whole = true;
	while (tap->calls.n && tap->calls.calls[0]->whole)
		calls_emit(&tap->calls, 0, true);
}

static void anthropic_event(struct resp_tap *tap, struct anthropic_resp *a)
{
	struct str type =
		a->error.top_type[0] ? str_of(a->error.top_type) : sse_event_name(&tap->sse);
	struct open_call *call;

	resp_model(tap, a->model);
	resp_stop(tap, a->stop);
	anthropic_usage(tap, a);
	if (resp_error(tap, &a->error, false))
		resp_over(tap);
	if (tap->shape != SHAPE_SSE)
		return;
	if (a->block_started) {
		call = anthropic_open(tap, a);
		if (call)
			call->index = a->index;
	} else if (str_eq(type, STR("content_block_delta"))) {
		anthropic_fragment(tap, a);
	} else if (str_eq(type, STR("content_block_stop"))) {
		anthropic_close(tap, anthropic_find(tap, a->index));
	} else if (str_eq(type, STR("message_stop"))) {
		resp_over(tap);
	}
}

static void anthropic_event_reset(struct anthropic_resp *a)
{
	a->model[0] = a->stop[0] = '\0';
	a->index = -1;
	a->usage = COUNTS_NONE;
	a->has_iterations = a->block_started = false;
	pick_value_reset(&a->partial);
	error_fields_reset(&a->error);
}

static void anthropic_block_reset(struct anthropic_resp *a)
{
	a->block.type[0] = a->block.id[0] = a->block.name[0] = '\0';
	a->block.server[0] = a->block.caller[0] = '\0';
	pick_value_reset(&a->block.input);
}

static bool anthropic_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct resp_tap *tap = arg;
	struct anthropic_resp *a = tap->state;

	switch (tag) {
	case PICK_ROOT:
		if (leave)
			anthropic_event(tap, a);
		else
			anthropic_event_reset(a);
		break;
	case TAG_ERROR:
		a->error.present = type == SCAN_OBJECT || type == SCAN_STRING;
		break;
	case TAG_START_BLOCK:
		if (leave)
			a->block_started = true;
		else
			anthropic_block_reset(a);
		break;
	case TAG_BLOCK:
		if (!leave) {
			anthropic_block_reset(a);
		} else if (anthropic_open(tap, a)) {
			calls_emit(&tap->calls, tap->calls.n - 1, true);
		}
		break;
	case TAG_ITERATIONS:
		if (!leave)
			a->iterations = (struct counts){ 0 };
		break;
	case TAG_ITERATION:
		if (!leave) {
			a->iteration = COUNTS_NONE;
		} else {
			counts_add(&a->iterations, &a->iteration);
			a->has_iterations = true;
		}
		break;
	}
	return true;
}

static void anthropic_init(void *state)
{
	struct anthropic_resp *a = state;

	pick_value_init(&a->partial, TOOL_ARGS_MAX);
	pick_value_init(&a->block.input, TOOL_ARGS_MAX);
}

static void anthropic_reset(void *state)
{
	struct anthropic_resp *a = state;

	anthropic_event_reset(a);
	anthropic_block_reset(a);
	a->sum_known = false;
}

static void anthropic_fini(void *state)
{
	struct anthropic_resp *a = state;

	pick_value_fini(&a->partial);
	pick_value_fini(&a->block.input);
}

/* Blocks whose stop never came. */
static void anthropic_finish(struct resp_tap *tap)
{
	calls_flush(&tap->calls);
}

static struct pick_tree resp_tree;
/*
 * Text and thinking are most of a stream and no fact comes from them. This is how Anthropic writes such an
 * event; written otherwise it is read like any other.
 */
static bool anthropic_idle(struct str line)
{
	static const struct str start = STR_INIT("{\"type\":\"content_block_delta\",\"index\":");
	static const struct str text = STR_INIT(",\"delta\":{\"type\":\"text_delta\",");
	static const struct str thinking = STR_INIT(",\"delta\":{\"type\":\"thinking_delta\",");

	if (!str_starts(line, start))
		return false;
	line = str_skip(line, start.n);
	while (line.n && line.s[0] >= '0' && line.s[0] <= '9')
		line = str_skip(line, 1);
	return str_starts(line, text) || str_starts(line, thinking);
}

const struct resp_format anthropic_resp = {
	.state_size = sizeof(struct anthropic_resp),
	.paths = resp_paths,
	.n_paths = ARRAY_SIZE(resp_paths),
	.tree = &resp_tree,
	.mark = anthropic_mark,
	.init = anthropic_init,
	.reset = anthropic_reset,
	.fini = anthropic_fini,
	.finish = anthropic_finish,
	.idle = anthropic_idle,
};

/* ---------------------------------------------------------------- requests */

enum { REQ_MESSAGE = REQ_OWN, REQ_BLOCK, REQ_RESULT_CONTENT };

#define C(field) PICK_FIELD(struct req_common, field)
static const struct pick_path req_paths[] = {
	{ "model", PICK_TEXT, C(model), REQ_MODEL },
	{ "stream", PICK_BOOL, C(stream), 0 },
	{ "max_tokens", PICK_BOUND, C(max_a), 0 },
	{ "metadata.user_id", PICK_TEXT, C(user), 0 },
	{ "metadata.session_id", PICK_TEXT, C(session), 0 },
	{ "system", PICK_HASH, C(text), REQ_SYSTEM },
	{ "system.*.text", PICK_HASH, C(text), REQ_SYSTEM },
	{ "messages.*", PICK_NONE, 0, 0, REQ_MESSAGE },
	{ "messages.*.role", PICK_TEXT, C(role), 0 },
	{ "messages.*.content", PICK_HASH, C(text), REQ_TEXT },
	{ "messages.*.content.*", PICK_NONE, 0, 0, REQ_BLOCK },
	{ "messages.*.content.*.type", PICK_TEXT, C(type), 0 },
	{ "messages.*.content.*.text", PICK_HASH, C(text), REQ_TEXT },
	{ "messages.*.content.*.tool_use_id", PICK_TEXT, C(result.id), 0 },
	{ "messages.*.content.*.is_error", PICK_BOOL, C(result.is_error), 0 },
	{ "messages.*.content.*.content", PICK_NONE, 0, 0, REQ_RESULT_CONTENT },
};
#undef C

static bool anthropic_req_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct req_tap *tap = arg;
	bool known, wanted = req_mark(tap, tag, type, leave, &known);

	if (known)
		return wanted;
	switch (tag) {
	case REQ_MESSAGE:
		if (!leave)
			req_message_begin(tap);
		else
			req_message_end(tap,
					!strcmp(tap->c.role, "assistant") ? REQ_ANSWER : REQ_USER);
		break;
	case REQ_BLOCK:
		if (!leave) {
			tap->c.type[0] = '\0';
			req_result_begin(tap);
		} else if (!strcmp(tap->c.type, "tool_result")) {
			req_result_end(tap);
		}
		break;
	case REQ_RESULT_CONTENT:
		req_result_content(tap, type, leave);
		return false;
	}
	return true;
}

static struct pick_tree req_tree;
const struct req_format anthropic_req = {
	.paths = req_paths,
	.n_paths = ARRAY_SIZE(req_paths),
	.tree = &req_tree,
	.mark = anthropic_req_mark,
};
