/* SPDX-License-Identifier: Apache-2.0 */
/* The request's tap: what the four formats have in common. Their tables are in extract_<format>.c.
 */
#include "gateway/extract_internal.h"

#include "common/base.h"

static const struct req_format *const req_formats[WIRE_FORMAT_MAX] = {
	[WIRE_ANTHROPIC_MESSAGES] = &anthropic_req,
	[WIRE_OPENAI_CHAT] = &chat_req,
	[WIRE_OPENAI_RESPONSES] = &responses_req,
	[WIRE_GEMINI] = &gemini_req,
};

/* Rationale: far above any model's bound, and far from overflow when multiplied by prices. */
#define OUTPUT_MAX 1000000000000LL
/* Rationale: above what any provider takes; a product of two fits. */
#define ANSWERS_MAX (1LL << 20)

/* ---------------------------------------------------------------- the conversation's start */

static bool pick_hash_starts(const struct pick_hash *h, struct str prefix)
{
	return str_starts((struct str){ h->head, MIN((size_t)h->n, sizeof(h->head)) }, prefix);
}

static void req_on_system(struct req_tap *tap, bool leave)
{
	struct req_common *c = &tap->c;

	if (!leave) {
		c->text.n = 0;
		return;
	}
	/* Claude Code's billing line differs from request to request. */
	if (c->text.n && !pick_hash_starts(&c->text, STR("x-anthropic-billing-header")))
		c->system_hash = pick_hash_mix(c->system_hash, c->text.hash);
}

/* Texts after the first user message are of no use, but for what a tool says. */
static bool req_on_text(struct req_tap *tap, bool leave)
{
	struct req_common *c = &tap->c;

	if (!leave) {
		c->text.n = 0;
		return !c->have_user || !c->role[0] || !strcmp(c->role, "tool") ||
		       !strcmp(c->role, "function");
	}
	if (!c->text.n)
		return true;
	c->message_hash = pick_hash_mix(c->message_hash, c->text.hash);
	if (!c->result.text.n)
		c->result.text = c->text;
	return true;
}

void req_message_begin(struct req_tap *tap)
{
	tap->c.role[0] = '\0';
	tap->c.message_hash = 0;
}

void req_message_end(struct req_tap *tap, enum req_author author)
{
	struct req_common *c = &tap->c;

	if (author == REQ_ANSWER) {
		tap->facts.n_results = tap->facts.n_results_dropped = 0;
	} else if (author == REQ_USER && !c->have_user && c->message_hash) {
		c->have_user = true;
		c->user_hash = c->message_hash;
	} else if (author == REQ_SYSTEM_MESSAGE && !c->have_user) {
		c->system_hash = pick_hash_mix(c->system_hash, c->message_hash);
	}
	c->message_hash = 0;
}

/* ---------------------------------------------------------------- tool results */

void req_result_begin(struct req_tap *tap)
{
	struct req_result *r = &tap->c.result;

	r->id[0] = '\0';
	r->bytes = 0;
	r->is_error = -1;
	r->text.n = 0;
}

void req_result_content(struct req_tap *tap, enum scan_type type, bool leave)
{
	struct req_result *r = &tap->c.result;
	uint64_t at = scan_offset(&tap->pick.scan);

	if (!leave)
		r->from = at;
	else
		r->bytes = at - r->from - (type == SCAN_STRING ? 2 : 0);
}

/* The number after `key` in the text; 0 if there is none. */
static int number_after(struct str text, struct str key)
{
	const char *at = str_find(text, key), *end = text.s + text.n;

	if (!at)
		return 0;
	for (at += key.n; at < end && (*at == ' ' || *at == ':'); at++)
		;
	return at < end && ((*at >= '1' && *at <= '9') || *at == '-');
}

/* Formats without a flag for it: how harnesses begin the text of a failure. */
static bool result_text_fails(const struct pick_hash *h)
{
	struct str text = { h->head, MIN((size_t)h->n, sizeof(h->head)) };

	return str_starts(text, STR("Error")) || str_starts(text, STR("error:")) ||
	       str_starts(text, STR("{\"error\"")) || str_starts(text, STR("<error")) ||
	       number_after(text, STR("Exit code")) ||
	       number_after(text, STR("exited with code")) ||
	       number_after(text, STR("\"exit_code\""));
}

void req_result_end(struct req_tap *tap)
{
	const struct req_result *r = &tap->c.result;
	struct req_facts *f = &tap->facts;
	struct tool_result *out;

	if (f->n_results == TOOL_RESULTS_MAX) {
		f->n_results_dropped++;
		return;
	}
	out = &f->results[f->n_results++];
	out->name[0] = '\0';
	str_copy(out->call_id, sizeof(out->call_id), str_of(r->id));
	out->bytes = r->bytes;
	out->is_error = r->is_error >= 0 ? r->is_error : result_text_fails(&r->text);
}

/* ---------------------------------------------------------------- marks of all formats */

static void req_on_root(struct req_tap *tap, enum scan_type type, bool leave)
{
	if (!leave)
		return;
	tap->c.is_object = type == SCAN_OBJECT && !tap->pick.root_array;
	tap->c.root_end = scan_offset(&tap->pick.scan) - 1;
}

static void req_on_model(struct req_tap *tap, enum scan_type type, bool leave)
{
	struct req_facts *f = &tap->facts;
	uint64_t at = scan_offset(&tap->pick.scan);

	if (!leave) {
		f->model_repeated = f->model_repeated || f->model_at || tap->c.model[0];
		tap->c.model[0] = '\0';
		f->model_at = at + 1;
		f->model_len = 0;
	} else if (type == SCAN_STRING) {
		f->model_len = at - 1 - f->model_at;
	} else {
		/* No model is a number; what it says is kept for the refusal only. */
		f->model_at = 0;
	}
}

static void req_on_options(struct req_tap *tap, enum scan_type type, bool leave)
{
	struct req_common *c = &tap->c;
	uint64_t at = scan_offset(&tap->pick.scan);

	if (!leave) {
		c->options_from = at;
		c->include_seen = false;
		c->include_usage = -1;
		return;
	}
	c->options_to = at;
	if (type == SCAN_OBJECT)
		c->options = scan_was_empty(&tap->pick.scan) ? OPTIONS_EMPTY : OPTIONS_OBJECT;
	else
		c->options = type == SCAN_NULL ? OPTIONS_NULL : OPTIONS_OTHER;
}

static void req_on_include(struct req_tap *tap, bool leave)
{
	struct req_common *c = &tap->c;
	uint64_t at = scan_offset(&tap->pick.scan);

	if (leave) {
		c->include_to = at;
		return;
	}
	c->include_from = at;
	c->include_seen = true;
	c->include_usage = -1;
}

bool req_mark(struct req_tap *tap, int tag, enum scan_type type, bool leave, bool *ret_known)
{
	*ret_known = true;
	switch (tag) {
	case PICK_ROOT:
		req_on_root(tap, type, leave);
		return true;
	case REQ_MODEL:
		req_on_model(tap, type, leave);
		return true;
	case REQ_SYSTEM:
		if (type == SCAN_STRING)
			req_on_system(tap, leave);
		return true;
	case REQ_TEXT:
		return type != SCAN_STRING || req_on_text(tap, leave);
	case REQ_OPTIONS:
		req_on_options(tap, type, leave);
		return true;
	case REQ_INCLUDE:
		req_on_include(tap, leave);
		return true;
	default:
		*ret_known = false;
		return true;
	}
}

/* ---------------------------------------------------------------- the end */

/* Where to put what so that a chat stream reports its usage; see extract.h. */
static void req_usage_edit(struct req_tap *tap)
{
	const struct req_common *c = &tap->c;
	struct req_facts *f = &tap->facts;
	const char *insert = "";

	f->usage_asked = c->options == OPTIONS_OBJECT && c->include_usage == 1;
	if (tap->wire != WIRE_OPENAI_CHAT || !f->stream || f->usage_asked || f->not_json)
		return;
	switch (c->options) {
	case OPTIONS_NONE:
		f->usage_edit.at = c->root_end;
		insert = ",\"stream_options\":{\"include_usage\":true}";
		break;
	case OPTIONS_NULL:
		f->usage_edit.at = c->options_from;
		f->usage_edit.skip = c->options_to - c->options_from;
		insert = "{\"include_usage\":true}";
		break;
	case OPTIONS_EMPTY:
		f->usage_edit.at = c->options_to - 1;
		insert = "\"include_usage\":true";
		break;
	case OPTIONS_OBJECT:
		f->usage_edit.at = c->include_seen ? c->include_from : c->options_to - 1;
		f->usage_edit.skip = c->include_seen ? c->include_to - c->include_from : 0;
		insert = c->include_seen ? "true" : ",\"include_usage\":true";
		break;
	case OPTIONS_OTHER:
		break; /* the provider will refuse it */
	}
	str_copy(f->usage_edit.insert, sizeof(f->usage_edit.insert), str_of(insert));
}

/* Claude Code: JSON with a session_id, or the older user_…_account_…_session_<uuid>. */
static struct str req_session_of_user(const char *user)
{
	struct str text = str_of(user), key = STR("\"session_id\""), mark = STR("_session_");
	const char *at = str_find(text, key), *end = text.s + text.n, *stop;

	if (at) {
		for (at += key.n; at < end && (*at == ' ' || *at == ':'); at++)
			;
		if (at == end || *at++ != '"')
			return STR_NULL;
		stop = memchr(at, '"', (size_t)(end - at));
		return stop ? (struct str){ at, (size_t)(stop - at) } : STR_NULL;
	}
	at = str_find(text, mark);
	return at ? (struct str){ at + mark.n, (size_t)(end - at) - mark.n } : STR_NULL;
}

static void req_session(struct req_tap *tap)
{
	const struct req_common *c = &tap->c;
	struct str session = req_session_of_user(c->user);

	if (!session.n)
		session = str_of(c->session);
	if (!session.n)
		session = str_of(c->cache_key);
	str_copy(tap->facts.session, sizeof(tap->facts.session), session);
}

static void req_limits(struct req_tap *tap)
{
	const struct req_common *c = &tap->c;
	int64_t bound = MAX(c->max_a, c->max_b), n = MAX(c->n, c->best_of);

	if (bound == PICK_NO_BOUND || bound < 0)
		bound = -1;
	tap->facts.max_output = MIN(bound, OUTPUT_MAX);
	n = MIN(MAX(n, 1), ANSWERS_MAX);
	tap->facts.answers = n * (int64_t)MIN(MAX(c->n_prompts, 1ULL), (uint64_t)ANSWERS_MAX);
}

/* ---------------------------------------------------------------- the tap */

struct req_tap *req_tap_new(void)
{
	struct req_tap *tap = calloc(1, sizeof(*tap));

	if (tap)
		req_tap_start(tap, WIRE_NONE);
	return tap;
}

void req_tap_free(struct req_tap *tap)
{
	free(tap);
}

void req_tap_start(struct req_tap *tap, enum wire_format format)
{
	memset(&tap->c, 0, sizeof(tap->c));
	memset(&tap->facts, 0, sizeof(tap->facts));
	tap->facts.max_output = -1;
	tap->facts.answers = 1;
	tap->c.max_a = tap->c.max_b = tap->c.n = tap->c.best_of = -1;
	tap->c.stream = tap->c.include_usage = -1;
	tap->wire = format;
	tap->format = format < WIRE_FORMAT_MAX ? req_formats[format] : NULL;
	if (!tap->format)
		return;
	pick_tree_build(tap->format->tree, tap->format->paths, tap->format->n_paths);
	pick_init(&tap->pick, tap->format->tree, &tap->c, tap->format->mark, tap);
}

void req_tap_feed(struct req_tap *tap, const void *data, size_t n)
{
	tap->facts.body_bytes += n;
	if (tap->format)
		pick_feed(&tap->pick, data, n);
}

const struct req_facts *req_tap_end(struct req_tap *tap)
{
	struct req_common *c = &tap->c;
	struct req_facts *f = &tap->facts;

	if (!tap->format)
		return f;
	f->not_json = !scan_finish(&tap->pick.scan) || !c->is_object;
	f->text_bytes = tap->pick.scan.text_bytes;
	f->blob_bytes = tap->pick.scan.blob_bytes;
	f->stream = c->stream == 1;
	f->model_cut = !str_copy(f->model, sizeof(f->model), str_of(c->model));
	if (c->have_user && !c->previous[0])
		f->fingerprint = pick_hash_mix(c->system_hash, c->user_hash) | 1;
	req_limits(tap);
	req_session(tap);
	req_usage_edit(tap);
	return f;
}
