/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gemini generateContent, also on Vertex: JSON, SSE, or one JSON array of chunks. Calls are parts
 * of the content; one whose arguments are streamed stays open from its name to the part without
 * willContinue. Searches that only the grounding metadata tells of are reported at the end.
 */
#include "gateway/extract_internal.h"

#include <ctype.h>

#include "common/base.h"

/* ---------------------------------------------------------------- answers */

enum {
	TAG_CANDIDATE = TAG_OWN,
	TAG_PART,
	TAG_FUNCTION,
	TAG_PARTIAL,
	TAG_CODE,
	TAG_TOOL,
	TAG_QUERY,
	TAG_URL,
};

/* Rationale: a part carries one fragment, or a few; what is above marks the call as cut. */
#define FRAGMENTS_MAX	    64
#define FRAGMENT_PATH_BYTES 256
/* Rationale: recorded answers list one or two queries and URLs. */
#define INFERRED_MAX   24
#define INFERRED_BYTES 512

struct gemini_counts {
	int64_t prompt, cached, candidates, thoughts, tool_use;
};

struct gemini_fragment {
	char path[FRAGMENT_PATH_BYTES];
	enum partial_kind kind;
	size_t at, n; /* its value, in fragment_text */
};

struct gemini_list {
	char items[INFERRED_MAX][INFERRED_BYTES];
	unsigned n;
};

struct gemini_resp {
	/* the chunk in hand */
	char model[MODEL_BYTES], block_reason[STOP_BYTES];
	struct gemini_counts usage; /* the last of each, over all chunks */
	struct error_fields error;
	/* the candidate in hand */
	int64_t candidate;
	char finish[STOP_BYTES];
	unsigned first; /* calls of the table from here on belong to it */
	/* the part in hand */
	struct {
		char name[TOOL_NAME_BYTES], id[CALL_ID_BYTES];
		int8_t will_continue;
		struct pick_value args;
		struct gemini_fragment fragments[FRAGMENTS_MAX];
		unsigned n_fragments;
		struct buf fragment_text;
		bool cut;
	} call;
	/* the fragment in hand */
	struct {
		char path[FRAGMENT_PATH_BYTES], number[48];
		struct pick_value string;
		int8_t boolean;
	} partial;
	struct {
		char id[CALL_ID_BYTES], type[TOOL_NAME_BYTES];
		struct pick_value language, code, args;
	} tool;
	char item[INFERRED_BYTES];
	/* the answer so far */
	bool open; /* a call whose arguments are still coming */
	char open_name[TOOL_NAME_BYTES], open_id[CALL_ID_BYTES];
	struct partial_args args;
	bool finished, searched, fetched, inferred_told;
	uint64_t n_opened;
	struct gemini_list queries, urls;
};

#define F(field) PICK_FIELD(struct gemini_resp, field)
#define PART	 "candidates.*.content.parts.*."
static const struct pick_path resp_paths[] = {
	{ "modelVersion", PICK_TEXT, F(model), 0 },
	{ "promptFeedback.blockReason", PICK_TEXT, F(block_reason), 0 },
	{ "usageMetadata.promptTokenCount", PICK_INT, F(usage.prompt), 0 },
	{ "usageMetadata.cachedContentTokenCount", PICK_INT, F(usage.cached), 0 },
	{ "usageMetadata.candidatesTokenCount", PICK_INT, F(usage.candidates), 0 },
	{ "usageMetadata.thoughtsTokenCount", PICK_INT, F(usage.thoughts), 0 },
	{ "usageMetadata.toolUsePromptTokenCount", PICK_INT, F(usage.tool_use), 0 },
	{ "candidates.*", PICK_NONE, 0, 0, TAG_CANDIDATE },
	{ "candidates.*.index", PICK_INT, F(candidate), 0 },
	{ "candidates.*.finishReason", PICK_TEXT, F(finish), 0 },
	{ "candidates.*.content.parts.*", PICK_NONE, 0, 0, TAG_PART },
	{ PART "functionCall", PICK_NONE, 0, 0, TAG_FUNCTION },
	{ PART "functionCall.name", PICK_TEXT, F(call.name), 0 },
	{ PART "functionCall.id", PICK_TEXT, F(call.id), 0 },
	{ PART "functionCall.args", PICK_VALUE, F(call.args), 0 },
	{ PART "functionCall.willContinue", PICK_BOOL, F(call.will_continue), 0 },
	{ PART "functionCall.partialArgs.*", PICK_NONE, 0, 0, TAG_PARTIAL },
	{ PART "functionCall.partialArgs.*.jsonPath", PICK_TEXT, F(partial.path), 0 },
	{ PART "functionCall.partialArgs.*.stringValue", PICK_VALUE, F(partial.string), 0 },
	{ PART "functionCall.partialArgs.*.numberValue", PICK_TEXT, F(partial.number), 0 },
	{ PART "functionCall.partialArgs.*.boolValue", PICK_BOOL, F(partial.boolean), 0 },
	{ PART "executableCode", PICK_NONE, 0, 0, TAG_CODE },
	{ PART "executableCode.id", PICK_TEXT, F(tool.id), 0 },
	{ PART "executableCode.language", PICK_VALUE, F(tool.language), 0 },
	{ PART "executableCode.code", PICK_VALUE, F(tool.code), 0 },
	{ PART "toolCall", PICK_NONE, 0, 0, TAG_TOOL },
	{ PART "toolCall.id", PICK_TEXT, F(tool.id), 0 },
	{ PART "toolCall.toolType", PICK_TEXT, F(tool.type), 0 },
	{ PART "toolCall.args", PICK_VALUE, F(tool.args), 0 },
	{ "candidates.*.groundingMetadata.webSearchQueries.*", PICK_TEXT, F(item), TAG_QUERY },
	{ "candidates.*.urlContextMetadata.urlMetadata.*.retrievedUrl", PICK_TEXT, F(item),
	  TAG_URL },
	ERROR_TOP_PATHS(struct gemini_resp, error),
	ERROR_PATHS(struct gemini_resp, error, ""),
};
#undef F
#undef PART

/* ------------------------------------------------------------ calls */

/* A call of the candidate in hand; its number is put in when the candidate ends. */
static struct open_call *gemini_open(struct resp_tap *tap, struct gemini_resp *g, const char *name,
				     const char *id, enum tool_kind kind)
{
	struct open_call *call = calls_open(&tap->calls);

	if (!call)
		return NULL;
	call->kind = kind;
	call->whole = true;
	call->order = g->n_opened++;
	call->has_id = id[0];
	str_copy(call->id, sizeof(call->id), str_of(id));
	str_copy(call->name, sizeof(call->name), str_of(name));
	return call;
}

/* The call with streamed arguments has all of them, or the answer has ended. */
static void gemini_close(struct resp_tap *tap, struct gemini_resp *g, bool whole)
{
	struct open_call *call;
	struct buf text;

	if (!g->open)
		return;
	g->open = false;
	call = gemini_open(tap, g, g->open_name, g->open_id, TOOL_FUNCTION);
	if (call) {
		buf_init(&text, TOOL_ARGS_MAX);
		if (partial_write(&g->args, &text) < 0 || g->args.cut)
			call->cut = true;
		calls_append(&tap->calls, call, buf_str(&text));
		call->whole = whole;
		buf_fini(&text);
	}
	partial_fini(&g->args);
}

static void gemini_take_fragments(struct gemini_resp *g)
{
	for (unsigned i = 0; i < g->call.n_fragments; i++) {
		const struct gemini_fragment *f = &g->call.fragments[i];

		partial_put(&g->args, str_of(f->path), f->kind,
			    (struct str){ buf_head(&g->call.fragment_text) + f->at, f->n });
	}
	if (g->call.cut)
		g->args.cut = true;
}

/* A functionCall part: a whole call, or the beginning, the middle or the end of a streamed one. */
static void gemini_function(struct resp_tap *tap, struct gemini_resp *g)
{
	bool goes_on = g->call.will_continue == 1;
	struct open_call *call;

	if (g->call.name[0])
		gemini_close(tap, g, true);
	if (g->call.name[0] && !goes_on && !g->call.n_fragments) {
		call = gemini_open(tap, g, g->call.name, g->call.id, TOOL_FUNCTION);
		if (call && g->call.args.present && g->call.args.type != SCAN_NULL)
			calls_append(&tap->calls, call, buf_str(&g->call.args.text));
		if (call)
			call->cut = call->cut || g->call.args.cut;
		return;
	}
	if (g->call.name[0]) {
		g->open = true;
		str_copy(g->open_name, sizeof(g->open_name), str_of(g->call.name));
		str_copy(g->open_id, sizeof(g->open_id), str_of(g->call.id));
		partial_init(&g->args, TOOL_ARGS_MAX);
	}
	if (!g->open)
		return;
	gemini_take_fragments(g);
	if (!goes_on)
		gemini_close(tap, g, true);
}

static void gemini_fragment_add(struct gemini_resp *g, enum partial_kind kind, struct str value)
{
	struct gemini_fragment *f;
	size_t at = buf_len(&g->call.fragment_text);

	if (g->call.n_fragments == FRAGMENTS_MAX || buf_puts(&g->call.fragment_text, value) < 0) {
		g->call.cut = true;
		return;
	}
	f = &g->call.fragments[g->call.n_fragments++];
	str_copy(f->path, sizeof(f->path), str_of(g->partial.path));
	f->kind = kind;
	f->at = at;
	f->n = value.n;
}

static void gemini_fragment_end(struct gemini_resp *g)
{
	if (g->partial.string.present && g->partial.string.type == SCAN_STRING)
		gemini_fragment_add(g, PARTIAL_STRING, buf_str(&g->partial.string.text));
	else if (g->partial.number[0])
		gemini_fragment_add(g, PARTIAL_LITERAL, str_of(g->partial.number));
	else if (g->partial.boolean >= 0)
		gemini_fragment_add(g, PARTIAL_LITERAL,
				    g->partial.boolean ? STR("true") : STR("false"));
	else
		gemini_fragment_add(g, PARTIAL_LITERAL, STR("null"));
	g->call.cut = g->call.cut || g->partial.string.cut;
}

/* Appends `"key":value`, the value as JSON. */
static int append_member(struct buf *out, const char *key, const struct pick_value *v)
{
	int err = buf_len(out) > 1 ? buf_puts(out, STR(",")) : 0;

	if (!v->present)
		return 0;
	if (!err)
		err = buf_json_string(out, str_of(key));
	if (!err)
		err = buf_puts(out, STR(":"));
	if (err)
		return err;
	return v->type == SCAN_STRING ? buf_json_string(out, buf_str(&v->text))
				      : buf_puts(out, buf_str(&v->text));
}

static void gemini_code(struct resp_tap *tap, struct gemini_resp *g)
{
	struct open_call *call = gemini_open(tap, g, "code_execution", g->tool.id, TOOL_SERVER);
	struct buf text;

	if (!call)
		return;
	buf_init(&text, TOOL_ARGS_MAX);
	if (buf_puts(&text, STR("{")) < 0 ||
	    append_member(&text, "language", &g->tool.language) < 0 ||
	    append_member(&text, "code", &g->tool.code) < 0 || buf_puts(&text, STR("}")) < 0)
		call->cut = true;
	calls_append(&tap->calls, call, buf_str(&text));
	call->cut = call->cut || g->tool.code.cut;
	buf_fini(&text);
}

static void gemini_tool(struct resp_tap *tap, struct gemini_resp *g)
{
	struct open_call *call;
	char name[TOOL_NAME_BYTES];

	str_copy(name, sizeof(name), str_of(g->tool.type));
	for (char *p = name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (strstr(name, "search"))
		g->searched = true;
	if (strstr(name, "url") || strstr(name, "fetch"))
		g->fetched = true;
	call = gemini_open(tap, g, name, g->tool.id, TOOL_SERVER);
	if (!call)
		return;
	call->args_null = !g->tool.args.present || g->tool.args.type == SCAN_NULL;
	if (!call->args_null)
		calls_append(&tap->calls, call, buf_str(&g->tool.args.text));
	call->cut = call->cut || g->tool.args.cut;
}

/* ------------------------------------------------------------ inferred calls */

/* Chunks repeat what they have said before. */
static void gemini_list_add(struct gemini_list *list, const char *item)
{
	if (!item[0] || list->n == INFERRED_MAX)
		return;
	for (unsigned i = 0; i < list->n; i++)
		if (!strcmp(list->items[i], item))
			return;
	str_copy(list->items[list->n++], INFERRED_BYTES, str_of(item));
}

static void gemini_infer(struct resp_tap *tap, struct gemini_resp *g, const char *name,
			 const char *key, const struct gemini_list *list)
{
	struct open_call *call = gemini_open(tap, g, name, "", TOOL_SERVER);
	struct buf text;
	int err;

	if (!call)
		return;
	call->inferred = true;
	buf_init(&text, TOOL_ARGS_MAX);
	err = buf_printf(&text, "{\"%s\":[", key);
	for (unsigned i = 0; i < list->n && !err; i++) {
		err = i ? buf_puts(&text, STR(",")) : 0;
		if (!err)
			err = buf_json_string(&text, str_of(list->items[i]));
	}
	if (err || buf_puts(&text, STR("]}")) < 0)
		call->cut = true;
	calls_append(&tap->calls, call, buf_str(&text));
	buf_fini(&text);
}

/* ------------------------------------------------------------ events */

static void gemini_usage(struct resp_tap *tap, const struct gemini_counts *c)
{
	struct usage *u = &tap->facts.usage;

	if (c->prompt >= 0 || c->tool_use >= 0) {
		u->input = MAX(c->prompt, 0) - MAX(c->cached, 0);
		u->input = MAX(u->input, 0) + MAX(c->tool_use, 0);
	}
	u->cache_read = c->cached;
	if (c->candidates >= 0 || c->thoughts >= 0)
		u->output = MAX(c->candidates, 0) + MAX(c->thoughts, 0);
	u->reasoning = c->thoughts;
}

static void gemini_candidate_end(struct resp_tap *tap, struct gemini_resp *g)
{
	if (g->finish[0])
		g->finished = true;
	if (g->candidate <= 0)
		resp_stop(tap, g->finish);
	while (tap->calls.n > g->first) {
		struct open_call *call = tap->calls.calls[g->first];

		call->choice = (int)MIN(g->candidate, 1 << 20);
		if (call->choice < 0)
			call->choice = 0;
		calls_emit(&tap->calls, g->first, call->whole);
	}
}

static void gemini_chunk_end(struct resp_tap *tap, struct gemini_resp *g)
{
	resp_model(tap, g->model);
	gemini_usage(tap, &g->usage);
	if (g->block_reason[0]) {
		g->finished = true;
		if (!tap->facts.stop_reason[0])
			resp_stop(tap, g->block_reason);
	}
	if (resp_error(tap, &g->error, false) && tap->shape == SHAPE_SSE)
		resp_over(tap);
	if (g->finished && tap->shape == SHAPE_SSE)
		tap->facts.complete = true;
}

static void gemini_chunk_reset(struct gemini_resp *g)
{
	g->model[0] = g->block_reason[0] = '\0';
	error_fields_reset(&g->error);
}

static void gemini_function_reset(struct gemini_resp *g)
{
	g->call.name[0] = g->call.id[0] = '\0';
	g->call.will_continue = -1;
	g->call.n_fragments = 0;
	g->call.cut = false;
	buf_reset(&g->call.fragment_text, 64 * 1024);
	pick_value_reset(&g->call.args);
}

static void gemini_partial_reset(struct gemini_resp *g)
{
	g->partial.path[0] = g->partial.number[0] = '\0';
	g->partial.boolean = -1;
	pick_value_reset(&g->partial.string);
}

static void gemini_tool_reset(struct gemini_resp *g)
{
	g->tool.id[0] = g->tool.type[0] = '\0';
	pick_value_reset(&g->tool.language);
	pick_value_reset(&g->tool.code);
	pick_value_reset(&g->tool.args);
}

static void gemini_on_candidate(struct resp_tap *tap, struct gemini_resp *g, bool leave)
{
	if (leave) {
		gemini_candidate_end(tap, g);
		return;
	}
	g->candidate = -1;
	g->finish[0] = '\0';
	g->first = tap->calls.n;
}

static bool gemini_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct resp_tap *tap = arg;
	struct gemini_resp *g = tap->state;

	switch (tag) {
	case PICK_ROOT:
		leave ? gemini_chunk_end(tap, g) : gemini_chunk_reset(g);
		break;
	case TAG_ERROR:
		g->error.present = type == SCAN_OBJECT || type == SCAN_STRING;
		break;
	case TAG_CANDIDATE:
		gemini_on_candidate(tap, g, leave);
		break;
	case TAG_FUNCTION:
		if (type == SCAN_OBJECT)
			leave ? gemini_function(tap, g) : gemini_function_reset(g);
		break;
	case TAG_PARTIAL:
		leave ? gemini_fragment_end(g) : gemini_partial_reset(g);
		break;
	case TAG_CODE:
		if (type == SCAN_OBJECT)
			leave ? gemini_code(tap, g) : gemini_tool_reset(g);
		break;
	case TAG_TOOL:
		if (type == SCAN_OBJECT)
			leave ? gemini_tool(tap, g) : gemini_tool_reset(g);
		break;
	case TAG_QUERY:
	case TAG_URL:
		if (type == SCAN_STRING && leave)
			gemini_list_add(tag == TAG_URL ? &g->urls : &g->queries, g->item);
		break;
	}
	return true;
}

static void gemini_init(void *state)
{
	struct gemini_resp *g = state;

	memset(&g->usage, 0xff, sizeof(g->usage)); /* all -1 */
	buf_init(&g->call.fragment_text, TOOL_ARGS_MAX);
	pick_value_init(&g->call.args, TOOL_ARGS_MAX);
	pick_value_init(&g->partial.string, TOOL_ARGS_MAX);
	pick_value_init(&g->tool.language, 256);
	pick_value_init(&g->tool.code, TOOL_ARGS_MAX);
	pick_value_init(&g->tool.args, TOOL_ARGS_MAX);
	partial_init(&g->args, TOOL_ARGS_MAX);
}

static void gemini_reset(void *state)
{
	struct gemini_resp *g = state;

	memset(&g->usage, 0xff, sizeof(g->usage));
	partial_fini(&g->args);
	g->open = g->finished = g->searched = g->fetched = g->inferred_told = false;
	g->n_opened = 0;
	g->queries.n = g->urls.n = 0;
}

static void gemini_fini(void *state)
{
	struct gemini_resp *g = state;

	gemini_function_reset(g);
	buf_fini(&g->call.fragment_text);
	pick_value_fini(&g->call.args);
	pick_value_fini(&g->partial.string);
	pick_value_fini(&g->tool.language);
	pick_value_fini(&g->tool.code);
	pick_value_fini(&g->tool.args);
	partial_fini(&g->args);
}

static void gemini_finish(struct resp_tap *tap)
{
	struct gemini_resp *g = tap->state;

	gemini_close(tap, g, tap->facts.complete);
	if (!g->inferred_told) {
		g->inferred_told = true;
		if (!g->searched && g->queries.n)
			gemini_infer(tap, g, "google_search", "webSearchQueries", &g->queries);
		if (!g->fetched && g->urls.n)
			gemini_infer(tap, g, "url_context", "urls", &g->urls);
	}
	calls_flush(&tap->calls);
}

static struct pick_tree resp_tree;
const struct resp_format gemini_resp = {
	.state_size = sizeof(struct gemini_resp),
	.paths = resp_paths,
	.n_paths = ARRAY_SIZE(resp_paths),
	.tree = &resp_tree,
	.mark = gemini_mark,
	.init = gemini_init,
	.reset = gemini_reset,
	.fini = gemini_fini,
	.finish = gemini_finish,
};

/* ---------------------------------------------------------------- requests */

enum { REQ_CONTENT = REQ_OWN, REQ_PART, REQ_RESULT, REQ_RESPONSE, REQ_FAILURE };

#define C(field) PICK_FIELD(struct req_common, field)
#define CONFIG	 "generationConfig|generation_config."
#define SYSTEM	 "systemInstruction|system_instruction"
/* Some SDKs send a single content or part without the array around it. */
#define RESULT "contents.*.parts.*.functionResponse|function_response"
static const struct pick_path req_paths[] = {
	{ "model", PICK_TEXT, C(model), REQ_MODEL },
	{ CONFIG "maxOutputTokens|max_output_tokens", PICK_BOUND, C(max_a), 0 },
	{ CONFIG "candidateCount|candidate_count", PICK_BOUND, C(n), 0 },
	{ SYSTEM ".parts.*.text", PICK_HASH, C(text), REQ_SYSTEM },
	{ SYSTEM ".parts.text", PICK_HASH, C(text), REQ_SYSTEM },
	{ "contents.*", PICK_NONE, 0, 0, REQ_CONTENT },
	{ "contents.*.role", PICK_TEXT, C(role), 0 },
	{ "contents.*.parts.*.text", PICK_HASH, C(text), REQ_TEXT },
	{ RESULT, PICK_NONE, 0, 0, REQ_RESULT },
	{ RESULT ".id", PICK_TEXT, C(result.id), 0 },
	{ RESULT ".name", PICK_TEXT, C(type), 0 },
	{ RESULT ".response", PICK_NONE, 0, 0, REQ_RESPONSE },
	{ RESULT ".response.error", PICK_NONE, 0, 0, REQ_FAILURE },
};
#undef C

static void gemini_req_result_end(struct req_tap *tap)
{
	struct req_facts *f = &tap->facts;
	unsigned before = f->n_results;

	req_result_end(tap);
	if (f->n_results > before)
		str_copy(f->results[before].name, sizeof(f->results[before].name), str_of(tap->c.type));
}

static bool gemini_req_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct req_tap *tap = arg;
	struct req_common *c = &tap->c;
	bool known, wanted = req_mark(tap, tag, type, leave, &known);

	if (known)
		return wanted;
	switch (tag) {
	case REQ_CONTENT:
		if (!leave)
			req_message_begin(tap);
		else
			req_message_end(tap, !strcmp(c->role, "model") ? REQ_ANSWER : REQ_USER);
		break;
	case REQ_RESULT:
		if (leave) {
			gemini_req_result_end(tap);
			break;
		}
		c->type[0] = '\0';
		req_result_begin(tap);
		break;
	case REQ_RESPONSE:
		req_result_content(tap, type, leave);
		break;
	case REQ_FAILURE:
		/* By convention a failed tool answers {"error": …} instead of {"output": …}. */
		if (type != SCAN_NULL)
			c->result.is_error = 1;
		return false;
	}
	return true;
}

static struct pick_tree req_tree;
const struct req_format gemini_req = {
	.paths = req_paths,
	.n_paths = ARRAY_SIZE(req_paths),
	.tree = &req_tree,
	.mark = gemini_req_mark,
};
