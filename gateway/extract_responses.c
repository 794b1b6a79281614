/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenAI Responses. What counts in a stream are the items of response.output_item.done, ordered by
 * their output_index (item ids may change from event to event); if there are none, those of the
 * final event. A call that was begun and never done is told only if the stream breaks off.
 */
#include "gateway/extract_internal.h"

#include "common/base.h"

/* ---------------------------------------------------------------- answers */

enum { TAG_ITEM = TAG_OWN, TAG_OUTPUT };

struct responses_usage {
	int64_t input, cached, written, output, reasoning;
};

struct responses_resp {
	/* the event in hand */
	char model[MODEL_BYTES], status[STOP_BYTES], reason[STOP_BYTES];
	int64_t output_index, searches;
	struct responses_usage usage;
	struct error_fields error;
	struct pick_value delta;
	bool has_item;
	unsigned first; /* calls of the table from here on are the final output of this event */
	/* the item in hand */
	struct {
		char type[64], id[CALL_ID_BYTES], call_id[CALL_ID_BYTES], name[TOOL_NAME_BYTES];
		char server[TOOL_NAME_BYTES], namespace_[TOOL_NAME_BYTES], status[32];
		char execution[16], caller[TOOL_NAME_BYTES], environment[48];
		int8_t error; /* enum scan_type, -1: absent */
		struct pick_value args, input, action, actions, operation, queries, code;
	} item;
	/* the answer so far */
	uint64_t n_done;
	bool any_done;
};

#define F(field) PICK_FIELD(struct responses_resp, field)
#define ITEM_PATHS(prefix, tag)                                                                    \
	{ prefix, PICK_NONE, 0, 0, tag }, { prefix ".type", PICK_TEXT, F(item.type), 0 },          \
		{ prefix ".id", PICK_TEXT, F(item.id), 0 },                                        \
		{ prefix ".call_id", PICK_TEXT, F(item.call_id), 0 },                              \
		{ prefix ".name", PICK_TEXT, F(item.name), 0 },                                    \
		{ prefix ".server_label", PICK_TEXT, F(item.server), 0 },                          \
		{ prefix ".namespace", PICK_TEXT, F(item.namespace_), 0 },                         \
		{ prefix ".status", PICK_TEXT, F(item.status), 0 },                                \
		{ prefix ".execution", PICK_TEXT, F(item.execution), 0 },                          \
		{ prefix ".caller.type", PICK_TEXT, F(item.caller), 0 },                           \
		{ prefix ".environment.type", PICK_TEXT, F(item.environment), 0 },                 \
		{ prefix ".error", PICK_TYPE, F(item.error), 0 },                                  \
		{ prefix ".arguments", PICK_VALUE, F(item.args), 0 },                              \
		{ prefix ".input", PICK_VALUE, F(item.input), 0 },                                 \
		{ prefix ".action", PICK_VALUE, F(item.action), 0 },                               \
		{ prefix ".actions", PICK_VALUE, F(item.actions), 0 },                             \
		{ prefix ".operation", PICK_VALUE, F(item.operation), 0 },                         \
		{ prefix ".queries", PICK_VALUE, F(item.queries), 0 },                             \
	{                                                                                          \
		prefix ".code", PICK_VALUE, F(item.code), 0                                        \
	}

static const struct pick_path resp_paths[] = {

	{ "response?.model", PICK_TEXT, F(model), 0 },
	{ "response?.status", PICK_TEXT, F(status), 0 },
	{ "response?.incomplete_details.reason", PICK_TEXT, F(reason), 0 },
	{ "response?.usage.input_tokens", PICK_INT, F(usage.input), 0 },
	{ "response?.usage.input_tokens_details.cached_tokens", PICK_INT, F(usage.cached), 0 },
	{ "response?.usage.input_tokens_details.cache_write_tokens", PICK_INT, F(usage.written),
	  0 },
	{ "response?.usage.output_tokens", PICK_INT, F(usage.output), 0 },
	{ "response?.usage.output_tokens_details.reasoning_tokens", PICK_INT, F(usage.reasoning),
	  0 },
	{ "response?.tool_usage.web_search.num_requests", PICK_INT, F(searches), 0 },
	ITEM_PATHS("response?.output.*", TAG_OUTPUT),
	ITEM_PATHS("item", TAG_ITEM),
	{ "output_index", PICK_INT, F(output_index), 0 },
	{ "delta", PICK_VALUE, F(delta), 0 },
	ERROR_TOP_PATHS(struct responses_resp, error),
	ERROR_PATHS(struct responses_resp, error, "response?."),
};

/* ------------------------------------------------------------ items */

enum item_args {
	ARGS_NONE, /* the wire has no arguments: null */
	ARGS_ARGUMENTS,
	ARGS_INPUT,
	ARGS_ACTION,
	ARGS_OPERATION,
	ARGS_QUERIES, /* {"queries": […]} */
	ARGS_CODE,    /* {"code": "…"} */
};

static const struct item_kind {
	const char *type, *name; /* NULL: the item's own name */
	enum tool_kind kind;
	enum item_args args;
} item_kinds[] = {
	{ "function_call", NULL, TOOL_FUNCTION, ARGS_ARGUMENTS },
	{ "custom_tool_call", NULL, TOOL_FUNCTION, ARGS_INPUT },
	{ "apply_patch_call", "apply_patch", TOOL_FUNCTION, ARGS_OPERATION },
	{ "local_shell_call", "local_shell", TOOL_FUNCTION, ARGS_ACTION },
	{ "computer_call", "computer", TOOL_FUNCTION, ARGS_ACTION },
	{ "shell_call", "shell", TOOL_FUNCTION, ARGS_ACTION },
	{ "web_search_call", "web_search", TOOL_SERVER, ARGS_ACTION },
	{ "file_search_call", "file_search", TOOL_SERVER, ARGS_QUERIES },
	{ "code_interpreter_call", "code_interpreter", TOOL_SERVER, ARGS_CODE },
	{ "image_generation_call", "image_generation", TOOL_SERVER, ARGS_NONE },
	{ "tool_search_call", "tool_search", TOOL_FUNCTION, ARGS_ARGUMENTS },
	{ "mcp_call", NULL, TOOL_MCP, ARGS_ARGUMENTS },
	{ "mcp_approval_request", NULL, TOOL_MCP, ARGS_ARGUMENTS },
	/* Types that others made up (x_search_call …): run by them. */
	{ "_call", NULL, TOOL_SERVER, ARGS_ARGUMENTS },
};

/* NULL: the item is no call. */
static const struct item_kind *responses_item_kind(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(item_kinds) - 1; i++)
		if (!strcmp(item_kinds[i].type, type))
			return &item_kinds[i];
	return str_ends(str_of(type), STR("_call")) ? &item_kinds[ARRAY_SIZE(item_kinds) - 1]
						    : NULL;
}

static const struct pick_value *responses_item_value(const struct responses_resp *r,
						     enum item_args args)
{
	switch (args) {
	case ARGS_INPUT:
		return &r->item.input;
	case ARGS_ACTION:
		return r->item.action.present ? &r->item.action : &r->item.actions;
	case ARGS_OPERATION:
		return &r->item.operation;
	case ARGS_QUERIES:
		return &r->item.queries;
	case ARGS_CODE:
		return &r->item.code;
	default:
		return &r->item.args;
	}
}

/* {"queries": …} and {"code": …}, with the value as JSON. */
static void responses_wrap(struct call_table *t, struct open_call *call, const char *key,
			   const struct pick_value *v)
{
	struct str text = v->present ? buf_str(&v->text) : STR("null");
	struct buf quoted;

	buf_init(&quoted, (size_t)TOOL_ARGS_MAX * 6 + 2);
	calls_append(t, call, STR("{\""));
	calls_append(t, call, str_of(key));
	calls_append(t, call, STR("\":"));
	if (v->present && v->type == SCAN_STRING) {
		if (buf_json_string(&quoted, text) < 0)
			call->cut = true;
		text = buf_str(&quoted);
	}
	calls_append(t, call, text);
	calls_append(t, call, STR("}"));
	buf_fini(&quoted);
}

static void responses_args(struct call_table *t, struct open_call *call,
			   const struct responses_resp *r, enum item_args args)
{
	const struct pick_value *v = responses_item_value(r, args);

	call->cut = v->cut;
	if (args == ARGS_QUERIES || args == ARGS_CODE) {
		responses_wrap(t, call, args == ARGS_CODE ? "code" : "queries", v);
		return;
	}
	call->args_null = args == ARGS_NONE || !v->present || v->type == SCAN_NULL;
	if (call->args_null)
		return;
	call->text_on_wire = v->type == SCAN_STRING;
	calls_append(t, call, buf_str(&v->text));
}

/* The item in hand as a call at the end of the table; NULL: it is none, or there is no room. */
static struct open_call *responses_open(struct resp_tap *tap, const struct responses_resp *r)
{
	const struct item_kind *kind = responses_item_kind(r->item.type);
	struct str type = str_of(r->item.type), id, name;
	struct open_call *call = kind ? calls_open(&tap->calls) : NULL;

	if (!call)
		return NULL;
	id = str_of(r->item.call_id[0] ? r->item.call_id : r->item.id);
	name = kind->name ? str_of(kind->name) : str_of(r->item.name);
	if (!name.n && type.n > strlen("_call"))
		name = (struct str){ type.s, type.n - strlen("_call") };
	call->has_id = id.n > 0;
	str_copy(call->id, sizeof(call->id), id);
	str_copy(call->name, sizeof(call->name), name);
	str_copy(call->server, sizeof(call->server), str_of(r->item.server));
	str_copy(call->namespace_, sizeof(call->namespace_), str_of(r->item.namespace_));
	str_copy(call->caller, sizeof(call->caller), str_of(r->item.caller));
	call->kind = kind->kind;
	if (!strcmp(kind->type, "tool_search_call") && !strcmp(r->item.execution, "server"))
		call->kind = TOOL_SERVER;
	if (!strcmp(kind->type, "shell_call")) {
		if (!strncmp(r->item.environment, "container", strlen("container")))
			call->kind = TOOL_SERVER;
		else
			call->undecided = true;
	}
	call->custom = !strcmp(kind->type, "custom_tool_call");
	call->pending_approval = !strcmp(kind->type, "mcp_approval_request");
	call->failed = !strcmp(r->item.status, "failed") ||
		       (kind->kind == TOOL_MCP && r->item.error >= 0 && r->item.error != SCAN_NULL);
	call->whole = true;
	responses_args(&tap->calls, call, r, kind->args);
	return call;
}

/* The output of a shell call in the same answer: the provider ran it. */
static void responses_shell_output(struct resp_tap *tap, const char *call_id)
{
	for (unsigned i = 0; i < tap->calls.n; i++) {
		struct open_call *call = tap->calls.calls[i];

		if (call->undecided && !strcmp(call->id, call_id))
			call->kind = TOOL_SERVER;
	}
}

static int responses_find(struct resp_tap *tap, int64_t index, bool whole)
{
	for (unsigned i = 0; index >= 0 && i < tap->calls.n; i++)
		if (tap->calls.calls[i]->index == index && tap->calls.calls[i]->whole == whole)
			return (int)i;
	return -1;
}

/* The item of this event is done (or was added: its arguments follow). */
static void responses_item(struct resp_tap *tap, struct responses_resp *r, bool done)
{
	struct open_call *call;
	int begun = responses_find(tap, r->output_index, false);

	if (done && begun >= 0)
		calls_drop(&tap->calls, (unsigned)begun);
	if (done && !strcmp(r->item.type, "shell_call_output"))
		responses_shell_output(tap, r->item.call_id);
	call = responses_open(tap, r);
	if (done) {
		r->any_done = true;
		r->n_done++;
	}
	if (!call)
		return;
	call->whole = done;
	call->index = r->output_index;
	call->order = r->output_index >= 0 ? (uint64_t)r->output_index : r->n_done;
}

/* A fragment of the arguments of a call that was added; they only matter if the stream breaks off.
 */
static void responses_fragment(struct resp_tap *tap, struct responses_resp *r)
{
	int i = responses_find(tap, r->output_index, false);
	struct open_call *call = i >= 0 ? tap->calls.calls[i] : NULL;

	if (!call || !r->delta.present || r->delta.type != SCAN_STRING)
		return;
	call->args_null = false;
	call->text_on_wire = true;
	calls_append(&tap->calls, call, buf_str(&r->delta.text));
}

/* An item of "output", before it is known whether this is the final one. */
static void responses_output(struct resp_tap *tap, struct responses_resp *r)
{
	struct open_call *call;

	if (!strcmp(r->item.type, "shell_call_output"))
		responses_shell_output(tap, r->item.call_id);
	call = responses_open(tap, r);
	if (call)
		call->order = tap->calls.n;
}

/* ------------------------------------------------------------ events */

static void responses_usage(struct resp_tap *tap, const struct responses_resp *r)
{
	const struct responses_usage *u = &r->usage;
	struct usage *out = &tap->facts.usage;

	if (u->input < 0 && u->output < 0)
		return;
	*out = USAGE_NONE;
	out->cache_read = u->cached;
	out->cache_write = u->written;
	out->output = u->output;
	out->reasoning = u->reasoning;
	out->web_searches = r->searches;
	if (u->input >= 0) {
		out->input = u->input - MAX(u->cached, 0) - MAX(u->written, 0);
		out->input = MAX(out->input, 0);
	}
}

static bool responses_pending(const char *status)
{
	return !strcmp(status, "queued") || !strcmp(status, "in_progress");
}

/* The whole answer: a JSON body, or the response of a stream's last event. */
static void responses_final(struct resp_tap *tap, struct responses_resp *r)
{
	responses_usage(tap, r);
	resp_stop(tap, !strcmp(r->status, "incomplete") && r->reason[0] ? r->reason : r->status);
	/* Calls that were added and never done are not part of it. */
	for (unsigned i = r->first; i-- > 0;)
		if (!tap->calls.calls[i]->whole) {
			calls_drop(&tap->calls, i);
			r->first--;
		}
	tap->unfinished = tap->shape == SHAPE_JSON && responses_pending(r->status);
}

/* Items of an "output" that does not count. */
static void responses_forget_output(struct resp_tap *tap, const struct responses_resp *r)
{
	while (tap->calls.n > r->first)
		calls_drop(&tap->calls, tap->calls.n - 1);
}

static bool is_any_of(struct str s, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(s, str_of(words[i])))
			return true;
	return false;
}

static void responses_stream_event(struct resp_tap *tap, struct responses_resp *r)
{
	static const char *const finals[] = { "response.completed", "response.failed",
					      "response.incomplete", "response.cancelled",
					      "response.done" };
	struct str type =
		r->error.top_type[0] ? str_of(r->error.top_type) : sse_event_name(&tap->sse);
	bool final = is_any_of(type, finals, ARRAY_SIZE(finals));
	bool error = str_eq(type, STR("error"));

	if (!final || r->any_done)
		responses_forget_output(tap, r);
	if (final)
		responses_final(tap, r);
	else if (r->has_item && str_eq(type, STR("response.output_item.done")))
		responses_item(tap, r, true);
	else if (r->has_item && str_eq(type, STR("response.output_item.added")))
		responses_item(tap, r, false);
	else if (str_ends(type, STR("_call_arguments.delta")) ||
		 str_ends(type, STR("_call_input.delta")))
		responses_fragment(tap, r);
	/* An error event may have its members at the top; the type there is the event's. */
	if (error)
		r->error.top_type[0] = '\0';
	if (resp_error(tap, &r->error, error) || final)
		resp_over(tap);
}

static void responses_event(struct resp_tap *tap, struct responses_resp *r)
{
	resp_model(tap, r->model);
	if (tap->shape == SHAPE_SSE) {
		responses_stream_event(tap, r);
		return;
	}
	responses_final(tap, r);
	resp_error(tap, &r->error, false);
}

static void responses_event_reset(struct resp_tap *tap, struct responses_resp *r)
{
	r->model[0] = r->status[0] = r->reason[0] = '\0';
	r->output_index = r->searches = -1;
	memset(&r->usage, 0xff, sizeof(r->usage)); /* all -1 */
	error_fields_reset(&r->error);
	pick_value_reset(&r->delta);
	r->has_item = false;
	r->first = tap->calls.n;
}

static struct pick_value *responses_value(struct responses_resp *r, unsigned i)
{
	struct pick_value *values[] = { &r->item.args,	    &r->item.input,   &r->item.action,
					&r->item.actions,   &r->item.queries, &r->item.code,
					&r->item.operation, &r->delta };

	return i < ARRAY_SIZE(values) ? values[i] : NULL;
}

static void responses_item_reset(struct responses_resp *r)
{
	r->item.type[0] = r->item.id[0] = r->item.call_id[0] = r->item.name[0] = '\0';
	r->item.server[0] = r->item.namespace_[0] = r->item.status[0] = '\0';
	r->item.execution[0] = r->item.caller[0] = r->item.environment[0] = '\0';
	r->item.error = -1;
	for (unsigned i = 0; responses_value(r, i) != &r->delta; i++)
		pick_value_reset(responses_value(r, i));
}

static bool responses_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct resp_tap *tap = arg;
	struct responses_resp *r = tap->state;

	switch (tag) {
	case PICK_ROOT:
		if (leave)
			responses_event(tap, r);
		else
			responses_event_reset(tap, r);
		break;
	case TAG_ERROR:
		r->error.present = r->error.present || type == SCAN_OBJECT || type == SCAN_STRING;
		break;
	case TAG_ITEM:
		if (leave)
			r->has_item = type == SCAN_OBJECT;
		else
			responses_item_reset(r);
		break;
	case TAG_OUTPUT:
		if (leave)
			responses_output(tap, r);
		else
			responses_item_reset(r);
		break;
	}
	return true;
}

static void responses_init(void *state)
{
	for (unsigned i = 0; responses_value(state, i); i++)
		pick_value_init(responses_value(state, i), TOOL_ARGS_MAX);
}

static void responses_reset(void *state)
{
	struct responses_resp *r = state;

	responses_item_reset(r);
	r->any_done = false;
	r->n_done = 0;
}

static void responses_fini(void *state)
{
	for (unsigned i = 0; responses_value(state, i); i++)
		pick_value_fini(responses_value(state, i));
}

static void responses_finish(struct resp_tap *tap)
{
	calls_flush(&tap->calls);
}

static struct pick_tree resp_tree;
const struct resp_format responses_resp = {
	.state_size = sizeof(struct responses_resp),
	.paths = resp_paths,
	.n_paths = ARRAY_SIZE(resp_paths),
	.tree = &resp_tree,
	.mark = responses_mark,
	.init = responses_init,
	.reset = responses_reset,
	.fini = responses_fini,
	.finish = responses_finish,
};
#undef F

/* ---------------------------------------------------------------- requests */

enum { REQ_INPUT = REQ_OWN, REQ_ITEM, REQ_OUTPUT, REQ_OUTPUT_TEXT };

#define C(field) PICK_FIELD(struct req_common, field)
static const struct pick_path req_paths[] = {
	{ "model", PICK_TEXT, C(model), REQ_MODEL },
	{ "stream", PICK_BOOL, C(stream), 0 },
	{ "max_output_tokens", PICK_BOUND, C(max_a), 0 },
	{ "prompt_cache_key", PICK_TEXT, C(cache_key), 0 },
	{ "user", PICK_TEXT, C(user), 0 },
	{ "previous_response_id", PICK_TEXT, C(previous), 0 },
	{ "conversation", PICK_TEXT, C(session), 0 },
	{ "conversation.id", PICK_TEXT, C(session), 0 },
	{ "metadata.session_id", PICK_TEXT, C(session), 0 },
	{ "instructions", PICK_HASH, C(text), REQ_SYSTEM },
	{ "input", PICK_HASH, C(text), REQ_INPUT },
	{ "input.*", PICK_NONE, 0, 0, REQ_ITEM },
	{ "input.*.type", PICK_TEXT, C(type), 0 },
	{ "input.*.role", PICK_TEXT, C(role), 0 },
	{ "input.*.content", PICK_HASH, C(text), REQ_TEXT },
	{ "input.*.content.*.text", PICK_HASH, C(text), REQ_TEXT },
	{ "input.*.call_id", PICK_TEXT, C(result.id), 0 },
	{ "input.*.output", PICK_HASH, C(result.text), REQ_OUTPUT },
	{ "input.*.output.*.text", PICK_HASH, C(result.text), 0 },
};
#undef C

/* Whose an item is: calls and reasoning are the model's, outputs nobody's. */
static enum req_author responses_author(const struct req_common *c)
{
	struct str type = str_of(c->type);

	if (!strcmp(c->role, "assistant") || str_eq(type, STR("reasoning")) ||
	    str_ends(type, STR("_call")))
		return REQ_ANSWER;
	if (!strcmp(c->role, "user"))
		return REQ_USER;
	return !strcmp(c->role, "system") || !strcmp(c->role, "developer") ? REQ_SYSTEM_MESSAGE
									   : REQ_OTHER;
}

static void responses_req_item_end(struct req_tap *tap)
{
	struct str type = str_of(tap->c.type);

	if (str_ends(type, STR("_call_output")) || str_ends(type, STR("tool_output")))
		req_result_end(tap);
	req_message_end(tap, responses_author(&tap->c));
}

static bool responses_req_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct req_tap *tap = arg;
	bool known, wanted = req_mark(tap, tag, type, leave, &known);

	if (known)
		return wanted;
	switch (tag) {
	case REQ_INPUT:
		/* A string is the user's message. */
		if (type != SCAN_STRING)
			break;
		if (!leave)
			req_message_begin(tap);
		req_mark(tap, REQ_TEXT, type, leave, &known);
		if (leave)
			req_message_end(tap, REQ_USER);
		break;
	case REQ_ITEM:
		if (leave) {
			responses_req_item_end(tap);
			break;
		}
		tap->c.type[0] = '\0';
		req_message_begin(tap);
		req_result_begin(tap);
		break;
	case REQ_OUTPUT:
		req_result_content(tap, type, leave);
		break;
	}
	return true;
}

static struct pick_tree req_tree;
const struct req_format responses_req = {
	.paths = req_paths,
	.n_paths = ARRAY_SIZE(req_paths),
	.tree = &req_tree,
	.mark = responses_req_mark,
};
