/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OpenAI Chat Completions and its many imitators. A stream's chunks carry deltas for each choice;
 * calls are joined by choice and index. Where the wire leaves the index out, a delta with an id
 * opens a call; where it gives every call the same index, a new id together with a name does.
 */
#include "gateway/extract_internal.h"

#include <inttypes.h>

#include "common/base.h"

/* ---------------------------------------------------------------- answers */

enum { TAG_CHOICE = TAG_OWN, TAG_MESSAGE, TAG_CALL, TAG_ID, TAG_LEGACY, TAG_EXECUTED, TAG_USAGE };

struct chat_usage {
	int64_t prompt, completion, total;
	int64_t cached, hit, cached_top, num_cached, cache_read; /* read from a cache, under … */
	int64_t written, written_details, written_top;		 /* written to one */
	int64_t reasoning, reasoning_top;
	int64_t web_searches, search_queries;
};

struct chat_resp {
	/* the chunk in hand */
	char model[MODEL_BYTES];
	struct error_fields error;
	struct chat_usage usage;
	/* the choice in hand */
	int64_t choice;
	char finish[STOP_BYTES];
	unsigned first; /* calls of the table from here on came with this choice and are not sorted
			   in */
	/* the call in hand */
	struct {
		char id[CALL_ID_BYTES], type[48], name[TOOL_NAME_BYTES];
		char custom_name[TOOL_NAME_BYTES];
		int64_t index;
		bool has_id;
		struct pick_value args, input;
	} call;
	/* the answer so far */
	bool finished;
	uint64_t n_opened;
};

#define F(field) PICK_FIELD(struct chat_resp, field)
#define USAGE_PATHS(prefix)                                                                        \
	{ prefix, PICK_NONE, 0, 0, TAG_USAGE },                                                    \
		{ prefix ".prompt_tokens", PICK_INT, F(usage.prompt), 0 },                         \
		{ prefix ".completion_tokens", PICK_INT, F(usage.completion), 0 },                 \
		{ prefix ".total_tokens", PICK_INT, F(usage.total), 0 },                           \
		{ prefix ".prompt_tokens_details.cached_tokens", PICK_INT, F(usage.cached), 0 },   \
		{ prefix ".prompt_tokens_details.cache_write_tokens", PICK_INT, F(usage.written),  \
		  0 },                                                                             \
		{ prefix ".prompt_tokens_details.cache_creation_tokens", PICK_INT,                 \
		  F(usage.written_details), 0 },                                                   \
		{ prefix ".completion_tokens_details.reasoning_tokens", PICK_INT,                  \
		  F(usage.reasoning), 0 },                                                         \
		{ prefix ".prompt_cache_hit_tokens", PICK_INT, F(usage.hit), 0 },                  \
		{ prefix ".cached_tokens", PICK_INT, F(usage.cached_top), 0 },                     \
		{ prefix ".num_cached_tokens", PICK_INT, F(usage.num_cached), 0 },                 \
		{ prefix ".cache_read_input_tokens", PICK_INT, F(usage.cache_read), 0 },           \
		{ prefix ".cache_creation_input_tokens", PICK_INT, F(usage.written_top), 0 },      \
		{ prefix ".reasoning_tokens", PICK_INT, F(usage.reasoning_top), 0 },               \
		{ prefix ".server_tool_use.web_search_requests", PICK_INT, F(usage.web_searches),  \
		  0 },                                                                             \
	{                                                                                          \
		prefix ".num_search_queries", PICK_INT, F(usage.search_queries), 0                 \
	}
/* "delta" in a stream, "message" otherwise; some streams repeat the message so far in each chunk.
 */
#define MSG "choices.*.delta|message."

static const struct pick_path resp_paths[] = {
	{ "model", PICK_TEXT, F(model), 0 },
	{ "choices.*", PICK_NONE, 0, 0, TAG_CHOICE },
	{ "choices.*.index", PICK_INT, F(choice), 0 },
	{ "choices.*.finish_reason", PICK_TEXT, F(finish), 0 },
	{ "choices.*.message", PICK_NONE, 0, 0, TAG_MESSAGE },
	{ MSG "tool_calls.*", PICK_NONE, 0, 0, TAG_CALL },
	{ MSG "tool_calls.*.index", PICK_INT, F(call.index), 0 },
	{ MSG "tool_calls.*.id", PICK_TEXT, F(call.id), TAG_ID },
	{ MSG "tool_calls.*.type", PICK_TEXT, F(call.type), 0 },
	{ MSG "tool_calls.*.function.name", PICK_TEXT, F(call.name), 0 },
	{ MSG "tool_calls.*.function.arguments", PICK_VALUE, F(call.args), 0 },
	{ MSG "tool_calls.*.custom.name", PICK_TEXT, F(call.custom_name), 0 },
	{ MSG "tool_calls.*.custom.input", PICK_VALUE, F(call.input), 0 },
	{ MSG "function_call", PICK_NONE, 0, 0, TAG_LEGACY },
	{ MSG "function_call.name", PICK_TEXT, F(call.name), 0 },
	{ MSG "function_call.arguments", PICK_VALUE, F(call.args), 0 },
	{ MSG "executed_tools.*", PICK_NONE, 0, 0, TAG_EXECUTED },
	{ MSG "executed_tools.*.index", PICK_INT, F(call.index), 0 },
	{ MSG "executed_tools.*.type", PICK_TEXT, F(call.type), 0 },
	{ MSG "executed_tools.*.name", PICK_TEXT, F(call.name), 0 },
	{ MSG "executed_tools.*.arguments", PICK_VALUE, F(call.args), 0 },
	USAGE_PATHS("usage"),
	USAGE_PATHS("x_groq.usage"),
	USAGE_PATHS("choices.*.usage"),
	ERROR_TOP_PATHS(struct chat_resp, error),
	ERROR_PATHS(struct chat_resp, error, ""),
};
#undef F
#undef MSG

/* ------------------------------------------------------------ usage */

/* The first that is reported, or -1. */
static int64_t reported(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e)
{
	return a >= 0 ? a : b >= 0 ? b : c >= 0 ? c : d >= 0 ? d : e;
}

/* The last object with a count in it wins as a whole: running totals differ in their keys. */
static void chat_usage(struct resp_tap *tap, const struct chat_usage *u)
{
	struct usage *out = &tap->facts.usage;
	int64_t cached = reported(u->cached, u->hit, u->cached_top, u->num_cached, u->cache_read);
	int64_t written = reported(u->written, u->written_details, u->written_top, -1, -1);
	int64_t reasoning = reported(u->reasoning, u->reasoning_top, -1, -1, -1);
	int64_t output = u->completion;

	if (u->prompt < 0 && u->completion < 0)
		return;
	/* xAI leaves reasoning out of the completion; its own total tells. */
	if (reasoning > 0 && u->total >= 0 && output >= 0 &&
	    u->total == MAX(u->prompt, 0) + output + reasoning)
		output += reasoning;
	*out = USAGE_NONE;
	out->output = output;
	out->cache_read = cached;
	out->cache_write = written;
	out->reasoning = reasoning;
	out->web_searches = reported(u->web_searches, u->search_queries, -1, -1, -1);
	if (u->prompt >= 0) {
		out->input = u->prompt - MAX(cached, 0) - MAX(written, 0);
		/* Some report more cached tokens than the prompt has. */
		out->input = MAX(out->input, 0);
	}
}

/* ------------------------------------------------------------ calls */

static void chat_call_reset(struct chat_resp *c)
{
	c->call.id[0] = c->call.type[0] = c->call.name[0] = c->call.custom_name[0] = '\0';
	c->call.index = -1;
	c->call.has_id = false;
	pick_value_reset(&c->call.args);
	pick_value_reset(&c->call.input);
}

/*
 * A call or a fragment of one has been read. The number of its choice may not be known yet, so it
 * is put at the end of the table and sorted in when the choice ends.
 */
static void chat_call(struct resp_tap *tap, struct chat_resp *c, int tag)
{
	bool custom = !strcmp(c->call.type, "custom") ||
		      (!c->call.type[0] && c->call.input.present && !c->call.args.present);
	const struct pick_value *args = custom ? &c->call.input : &c->call.args;
	const char *name = custom ? c->call.custom_name : c->call.name;
	struct open_call *call;

	if (tag == TAG_EXECUTED && !name[0])
		name = c->call.type;
	/* Some servers send the old member in every answer, empty. */
	if (tag == TAG_LEGACY && !name[0] && !buf_len(&args->text))
		return;
	call = calls_open(&tap->calls);
	if (!call)
		return;
	call->index = c->call.index;
	call->legacy = tag == TAG_LEGACY;
	call->executed = tag == TAG_EXECUTED;
	call->kind = call->executed ? TOOL_SERVER : TOOL_FUNCTION;
	call->custom = custom && tag == TAG_CALL;
	call->has_id = tag == TAG_CALL && c->call.has_id;
	call->text_on_wire = args->present && args->type == SCAN_STRING;
	call->cut = args->cut;
	str_copy(call->name, sizeof(call->name), str_of(name));
	if (call->has_id)
		str_copy(call->id, sizeof(call->id), str_of(c->call.id));
	if (args->present && args->type != SCAN_NULL)
		calls_append(&tap->calls, call, buf_str(&args->text));
}

/* The call that a fragment belongs to, or NULL if it is a call of its own. */
static struct open_call *chat_find(struct resp_tap *tap, unsigned n, const struct open_call *frag)
{
	for (unsigned i = n; i-- > 0;) {
		struct open_call *call = tap->calls.calls[i];

		if (call->choice != frag->choice || call->legacy != frag->legacy ||
		    call->executed != frag->executed)
			continue;
		if (frag->legacy)
			return call;
		if (frag->index >= 0 && call->index != frag->index)
			continue;
		if (frag->id[0] && call->id[0] && strcmp(frag->id, call->id)) {
			/* Another id: another call, unless the server makes up a new one for each
			 * delta. */
			if (frag->index < 0)
				continue;
			return frag->name[0] ? NULL : call;
		}
		if (frag->index < 0 && !frag->id[0] && frag->name[0])
			return NULL;
		return call;
	}
	return NULL;
}

/* Joins calls[i] to the one that it continues. */
static void chat_join(struct resp_tap *tap, struct open_call *call, unsigned i)
{
	struct open_call *frag = tap->calls.calls[i];

	if (!call->name[0])
		str_copy(call->name, sizeof(call->name), str_of(frag->name));
	if (!call->id[0] && frag->has_id) {
		call->has_id = true;
		str_copy(call->id, sizeof(call->id), str_of(frag->id));
	}
	call->custom = call->custom || frag->custom;
	call->text_on_wire = call->text_on_wire || frag->text_on_wire;
	/* Groq repeats the whole entry once the tool has run. */
	if (!call->executed || !buf_len(&call->args))
		calls_append(&tap->calls, call, buf_str(&frag->args));
	call->cut = call->cut || frag->cut;
	calls_drop(&tap->calls, i);
}

static void chat_choice_end(struct resp_tap *tap, struct chat_resp *c)
{
	unsigned i = c->first;

	while (i < tap->calls.n) {
		struct open_call *frag = tap->calls.calls[i], *call;

		frag->choice = (int)MIN(MAX(c->choice, 0), 1 << 20);
		call = tap->shape == SHAPE_SSE ? chat_find(tap, i, frag) : NULL;
		if (call) {
			chat_join(tap, call, i);
			continue;
		}
		if (i >= OPEN_CALLS_MAX) {
			calls_drop(&tap->calls, i);
			tap->calls.n_dropped++;
			continue;
		}
		frag->order = c->n_opened++;
		i++;
	}
	if (c->finish[0])
		c->finished = true;
	if (c->choice <= 0)
		resp_stop(tap, c->finish);
}

/* ------------------------------------------------------------ events */

static void chat_reset_chunk(struct chat_resp *c)
{
	c->model[0] = '\0';
	error_fields_reset(&c->error);
}

static void chat_chunk_end(struct resp_tap *tap, struct chat_resp *c)
{
	resp_model(tap, c->model);
	if (resp_error(tap, &c->error, false))
		resp_over(tap);
	/* Not all servers send [DONE]; an answer with a finish reason is not cut short. */
	if (c->finished)
		tap->facts.complete = true;
}

static void chat_on_choice(struct resp_tap *tap, struct chat_resp *c, bool leave)
{
	if (leave) {
		chat_choice_end(tap, c);
		return;
	}
	c->choice = -1;
	c->finish[0] = '\0';
	c->first = tap->calls.n;
}

static bool chat_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct resp_tap *tap = arg;
	struct chat_resp *c = tap->state;

	switch (tag) {
	case PICK_ROOT:
		if (leave)
			chat_chunk_end(tap, c);
		else
			chat_reset_chunk(c);
		break;
	case TAG_ERROR:
		c->error.present = type == SCAN_OBJECT || type == SCAN_STRING;
		break;
	case TAG_CHOICE:
		chat_on_choice(tap, c, leave);
		break;
	case TAG_MESSAGE:
		/* A stream's calls are in its deltas. */
		return tap->shape != SHAPE_SSE;
	case TAG_ID:
		c->call.has_id = type == SCAN_STRING;
		break;
	case TAG_CALL:
	case TAG_LEGACY:
	case TAG_EXECUTED:
		if (type != SCAN_OBJECT)
			break;
		if (leave)
			chat_call(tap, c, tag);
		else
			chat_call_reset(c);
		break;
	case TAG_USAGE:
		if (type != SCAN_OBJECT)
			break;
		if (leave)
			chat_usage(tap, &c->usage);
		else
			memset(&c->usage, 0xff, sizeof(c->usage)); /* all -1 */
		break;
	}
	return true;
}

static void chat_init(void *state)
{
	struct chat_resp *c = state;

	pick_value_init(&c->call.args, TOOL_ARGS_MAX);
	pick_value_init(&c->call.input, TOOL_ARGS_MAX);
}

static void chat_reset(void *state)
{
	struct chat_resp *c = state;

	chat_reset_chunk(c);
	chat_call_reset(c);
	c->finished = false;
	c->n_opened = 0;
}

static void chat_fini(void *state)
{
	struct chat_resp *c = state;

	pick_value_fini(&c->call.args);
	pick_value_fini(&c->call.input);
}

/* Deltas have no end of their own: a call is whole when the answer is. */
static void chat_finish(struct resp_tap *tap)
{
	for (unsigned i = 0; i < tap->calls.n; i++)
		tap->calls.calls[i]->whole = tap->facts.complete;
	calls_flush(&tap->calls);
}

static struct pick_tree resp_tree;
const struct resp_format chat_resp = {
	.state_size = sizeof(struct chat_resp),
	.paths = resp_paths,
	.n_paths = ARRAY_SIZE(resp_paths),
	.tree = &resp_tree,
	.mark = chat_mark,
	.init = chat_init,
	.reset = chat_reset,
	.fini = chat_fini,
	.finish = chat_finish,
};

/* ---------------------------------------------------------------- requests */

enum { REQ_MESSAGE = REQ_OWN, REQ_CONTENT, REQ_PROMPT, REQ_TOKEN };

#define C(field) PICK_FIELD(struct req_common, field)
static const struct pick_path req_paths[] = {
	{ "model", PICK_TEXT, C(model), REQ_MODEL },
	{ "stream", PICK_BOOL, C(stream), 0 },
	{ "stream_options", PICK_NONE, 0, 0, REQ_OPTIONS },
	{ "stream_options.include_usage", PICK_BOOL, C(include_usage), REQ_INCLUDE },
	{ "max_tokens", PICK_BOUND, C(max_a), 0 },
	{ "max_completion_tokens", PICK_BOUND, C(max_b), 0 },
	{ "n", PICK_BOUND, C(n), 0 },
	/* Completions: several prompts, each answered n times, or the best of more; embeddings: input. */
	{ "best_of", PICK_BOUND, C(best_of), 0 },
	{ "prompt.*", PICK_NONE, 0, 0, REQ_PROMPT },
	{ "prompt.*.*", PICK_NONE, 0, 0, REQ_TOKEN },
	{ "input.*", PICK_NONE, 0, 0, REQ_TOKEN },
	{ "input.*.*", PICK_NONE, 0, 0, REQ_TOKEN },
	{ "prompt_cache_key", PICK_TEXT, C(cache_key), 0 },
	{ "user", PICK_TEXT, C(user), 0 },
	{ "session_id", PICK_TEXT, C(session), 0 },
	{ "metadata.session_id", PICK_TEXT, C(session), 0 },
	{ "messages.*", PICK_NONE, 0, 0, REQ_MESSAGE },
	{ "messages.*.role", PICK_TEXT, C(role), 0 },
	{ "messages.*.tool_call_id", PICK_TEXT, C(result.id), 0 },
	{ "messages.*.content", PICK_HASH, C(text), REQ_CONTENT },
	{ "messages.*.content.*.text", PICK_HASH, C(text), REQ_TEXT },
};
#undef C

static enum req_author chat_author(const char *role)
{
	if (!strcmp(role, "assistant"))
		return REQ_ANSWER;
	if (!strcmp(role, "user"))
		return REQ_USER;
	return !strcmp(role, "system") || !strcmp(role, "developer") ? REQ_SYSTEM_MESSAGE
								     : REQ_OTHER;
}

static bool chat_req_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct req_tap *tap = arg;
	struct req_common *c = &tap->c;
	bool known, wanted = req_mark(tap, tag, type, leave, &known);

	if (known)
		return wanted;
	switch (tag) {
	case REQ_MESSAGE:
		if (!leave) {
			req_message_begin(tap);
			req_result_begin(tap);
			break;
		}
		if (!strcmp(c->role, "tool") || !strcmp(c->role, "function"))
			req_result_end(tap);
		req_message_end(tap, chat_author(c->role));
		break;
	case REQ_PROMPT:
		/* An array of numbers is one prompt, one of strings or of arrays is many. */
		c->n_prompts += leave && type != SCAN_NUMBER;
		/* fallthrough */
	case REQ_TOKEN:
		tap->facts.token_ids += leave && type == SCAN_NUMBER;
		return type == SCAN_ARRAY;
	case REQ_CONTENT:
		req_result_content(tap, type, leave);
		return type != SCAN_STRING || req_mark(tap, REQ_TEXT, type, leave, &known);
	}
	return true;
}

static struct pick_tree req_tree;
const struct req_format chat_req = {
	.paths = req_paths,
	.n_paths = ARRAY_SIZE(req_paths),
	.tree = &req_tree,
	.mark = chat_req_mark,
};
