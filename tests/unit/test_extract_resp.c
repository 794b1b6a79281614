/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/extract.h"

#include <dirent.h>

#include "common/buf.h"
#include "tests/unit/test.h"

#define FIXTURES "tests/fixtures/wire"

/* ---------------------------------------------------------------- facts as text */

struct seen {
	struct buf calls;
	unsigned n;
	size_t longest;
	bool all_complete;
};

static void put_text(struct buf *b, const char *key, struct str s)
{
	if (!s.s)
		return;
	buf_printf(b, " %s=", key);
	buf_json_string(b, s);
}

static void on_call(void *arg, const struct tool_call *call)
{
	struct seen *seen = arg;
	struct buf *b = &seen->calls;

	seen->n++;
	seen->longest = MAX(seen->longest, call->arguments.n);
	seen->all_complete = seen->all_complete && call->complete;
	if (call->arguments.n > 4096)
		return;
	buf_printf(b, "call %s", tool_kind_name(call->kind));
	put_text(b, "id", call->id);
	put_text(b, "name", call->name);
	put_text(b, call->text_on_wire ? "text" : "args", call->arguments);
	if (call->server.n)
		put_text(b, "server", call->server);
	if (call->caller.n)
		put_text(b, "caller", call->caller);
	if (call->namespace_.n)
		put_text(b, "namespace", call->namespace_);
	buf_printf(b, " choice=%d%s%s%s%s%s%s\n", call->choice, call->arguments_null ? " null" : "",
		   call->custom ? " custom" : "", call->pending_approval ? " pending" : "",
		   call->failed ? " failed" : "", call->inferred ? " inferred" : "",
		   call->complete ? "" : " incomplete");
}

static void dump(struct buf *b, const struct resp_facts *f, struct seen *seen)
{
	const struct usage *u = &f->usage, *x = &f->billed_extra;

	buf_printf(b, "model=%s stop=%s streamed=%d complete=%d calls=%u\n", f->model,
		   f->stop_reason, f->streamed, f->complete, f->n_calls);
	buf_printf(
		b, "input=%ld read=%ld write=%ld (1h %ld) output=%ld reasoning=%ld searches=%ld\n",
		(long)u->input, (long)u->cache_read, (long)u->cache_write, (long)u->cache_write_1h,
		(long)u->output, (long)u->reasoning, (long)u->web_searches);
	if (f->has_iterations)
		buf_printf(b, "extra input=%ld output=%ld\n", (long)x->input, (long)x->output);
	if (f->has_error)
		buf_printf(b, "error type=%s code=%s message=%s\n", f->error_type, f->error_code,
			   f->error_message);
	buf_puts(b, buf_str(&seen->calls));
}

/* ---------------------------------------------------------------- fixtures */

static char *slurp(const char *path, size_t *ret_n)
{
	FILE *f = fopen(path, "rb");
	char *data;
	long n;

	if (!f)
		return NULL;
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	data = calloc(1, (size_t)n + 1);
	*ret_n = data ? fread(data, 1, (size_t)n, f) : 0;
	fclose(f);
	return data;
}

static enum wire_format format_of(const char *name)
{
	return !strncmp(name, "anthropic", 9)	? WIRE_ANTHROPIC_MESSAGES
	       : !strncmp(name, "chat", 4)	? WIRE_OPENAI_CHAT
	       : !strncmp(name, "responses", 9) ? WIRE_OPENAI_RESPONSES
						: WIRE_GEMINI;
}

/* "…-429.json": 429, else 200. */
static int status_of(const char *name)
{
	const char *dash = strrchr(name, '-');
	int status = dash ? (int)strtol(dash + 1, NULL, 10) : 0;

	return status >= 100 ? status : 200;
}

/* Feeds the pieces [0, a), [a, b), [b, n), or single bytes; returns the facts as text. */
static char *run(struct resp_tap *tap, const char *name, const char *body, size_t n, size_t a,
		 size_t b, unsigned *ret_ends)
{
	struct seen seen = { 0 };
	struct buf text;

	buf_init(&text, 1 << 20);
	buf_init(&seen.calls, 1 << 20);
	*ret_ends = 0;
	resp_tap_start(tap, format_of(name), status_of(name), STR_NULL, on_call, &seen);
	if (a == SIZE_MAX) {
		for (size_t i = 0; i < n; i++)
			*ret_ends += resp_tap_feed(tap, body + i, 1);
	} else {
		*ret_ends += resp_tap_feed(tap, body, a);
		*ret_ends += resp_tap_feed(tap, body + a, b - a);
		*ret_ends += resp_tap_feed(tap, body + b, n - b);
	}
	dump(&text, resp_tap_end(tap), &seen);
	CHECK_INT(seen.n, resp_tap_facts(tap)->n_calls);
	buf_append(&text, "", 1);
	buf_fini(&seen.calls);
	return text.data;
}

/* False: it went wrong, and one report for a fixture is enough. */
static bool check_run(struct resp_tap *tap, const char *name, const char *body, size_t n,
		      const char *want, size_t a, size_t b)
{
	unsigned ends;
	char *got = run(tap, name, body, n, a, b, &ends);
	bool gemini_stream = !strncmp(name, "gemini", 6) && strstr(name, ".sse");
	bool ended = (strstr(want, "complete=1") || strstr(name, "queued")) && !gemini_stream &&
		     !strstr(name, "running-totals");
	int before = test_failures;

	if (strcmp(got, want) != 0) {
		printf("%s cut at %zd:\n%s---- expected\n%s", name, a == SIZE_MAX ? -1 : (ssize_t)a,
		       got, want);
		test_failures++;
	}
	/* An end is announced once, or, where the wire has no end marker, never. */
	if (ends != (ended ? 1u : 0u)) {
		printf("%s: the end was announced %u times\n", name, ends);
		test_failures++;
	}
	free(got);
	return test_failures == before;
}

static void check_fixture(struct resp_tap *tap, const char *name)
{
	char path[512];
	size_t n, n_want;
	char *body, *want;

	snprintf(path, sizeof(path), FIXTURES "/%s", name);
	body = slurp(path, &n);
	snprintf(path, sizeof(path), FIXTURES "/%s.facts", name);
	want = slurp(path, &n_want);
	CHECK(body && n);
	if (!want) {
		unsigned ends;

		want = run(tap, name, body, n, n, n, &ends);
		printf("%s is missing; this is what the tap says:\n%s", path, want);
		test_failures++;
	} else if (check_run(tap, name, body, n, want, n, n) &&
		   check_run(tap, name, body, n, want, SIZE_MAX, 0)) {
		for (size_t i = 0; i < n; i++)
			if (!check_run(tap, name, body, n, want, i, MIN(i + 1 + i % 7, n)))
				break;
	}
	free(want);
	free(body);
}

static int is_fixture(const struct dirent *e)
{
	struct str name = str_of(e->d_name);

	return str_ends(name, STR(".sse")) || str_ends(name, STR(".json"));
}

/* One tap serves all of them: nothing may stay behind from one answer to the next. */
static void all_fixtures_at_every_cut(void)
{
	struct resp_tap *tap = resp_tap_new();
	struct dirent **files;
	int n = scandir(FIXTURES, &files, is_fixture, alphasort);

	CHECK(n > 40);
	for (int i = 0; i < n; i++) {
		check_fixture(tap, files[i]->d_name);
		free(files[i]);
	}
	if (n >= 0)
		free(files);
	resp_tap_free(tap);
}

/* ---------------------------------------------------------------- bounds */

static void feed_text(struct resp_tap *tap, const char *text)
{
	resp_tap_feed(tap, text, strlen(text));
}

static void start(struct resp_tap *tap, enum wire_format format, struct seen *seen)
{
	*seen = (struct seen){ .all_complete = true };
	buf_init(&seen->calls, 1 << 20);
	resp_tap_start(tap, format, 200, STR("text/event-stream"), on_call, seen);
}

static void arguments_above_the_bound_are_cut(void)
{
	struct resp_tap *tap = resp_tap_new();
	struct seen seen;
	char filler[8192];

	memset(filler, 'x', sizeof(filler));
	filler[sizeof(filler) - 1] = '\0';
	start(tap, WIRE_ANTHROPIC_MESSAGES, &seen);
	feed_text(tap, "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":"
		       "{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"Write\",\"input\":{}}}\n\n");
	for (int i = 0; i < 300; i++) {
		feed_text(tap, "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":"
			       "{\"partial_json\":\"");
		feed_text(tap, filler);
		feed_text(tap, "\"}}\n\n");
	}
	feed_text(tap, "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n");
	CHECK_INT(seen.n, 1);
	CHECK_INT(seen.longest, TOOL_ARGS_MAX);
	CHECK(!seen.all_complete);
	resp_tap_free(tap);
	buf_fini(&seen.calls);
}

static void too_many_open_calls_are_counted(void)
{
	struct resp_tap *tap = resp_tap_new();
	const struct resp_facts *f;
	struct seen seen;
	char line[256];

	start(tap, WIRE_OPENAI_CHAT, &seen);
	for (int i = 0; i < 1000; i++) {
		snprintf(
			line, sizeof(line),
			"data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":%d,"
			"\"id\":\"c%d\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n\n",
			i, i);
		feed_text(tap, line);
	}
	/* A fragment of a call that is open still finds it. */
	feed_text(tap,
		  "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,"
		  "\"function\":{\"arguments\":\" \"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n");
	feed_text(tap, "data: [DONE]\n\n");
	f = resp_tap_end(tap);
	CHECK_INT(f->n_calls, 128);
	CHECK_INT(f->n_calls_dropped, 1000 - 128);
	CHECK_INT(seen.longest, 3);
	resp_tap_free(tap);
	buf_fini(&seen.calls);
}

static void deep_and_broken_documents_do_no_harm(void)
{
	struct resp_tap *tap = resp_tap_new();
	struct seen seen;

	start(tap, WIRE_ANTHROPIC_MESSAGES, &seen);
	feed_text(tap, "data: {\"type\":\"message_start\",\"x\":");
	for (int i = 0; i < 100000; i++)
		feed_text(tap, "[");
	feed_text(tap, "\n\ndata: {\"broken\n\ndata: not json\n\ndata: {]}\n\n");
	feed_text(
		tap,
		"data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n");
	CHECK_STR(resp_tap_facts(tap)->stop_reason, "end_turn");
	CHECK(!resp_tap_facts(tap)->complete);
	resp_tap_free(tap);
	buf_fini(&seen.calls);
}

static void facts_are_there_in_the_middle(void)
{
	struct resp_tap *tap = resp_tap_new();
	struct seen seen;

	start(tap, WIRE_ANTHROPIC_MESSAGES, &seen);
	CHECK_INT(resp_tap_facts(tap)->usage.input, -1);
	feed_text(tap, "data: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":"
		       "{\"input_tokens\":7,\"output_tokens\":1}}}\n");
	CHECK_INT(resp_tap_facts(tap)->usage.input, 7);
	CHECK_STR(resp_tap_facts(tap)->model, "m");
	CHECK(resp_tap_facts(tap)->streamed);
	feed_text(tap, "\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":5}}\n");
	CHECK_INT(resp_tap_facts(tap)->usage.output, 5);
	CHECK_INT(resp_tap_facts(tap)->usage.input, 7);
	resp_tap_free(tap);
	buf_fini(&seen.calls);
}

static void an_answer_that_is_not_read_is_quiet(void)
{
	struct resp_tap *tap = resp_tap_new();
	const struct resp_facts *f;

	resp_tap_start(tap, WIRE_NONE, 200, STR("text/html"), NULL, NULL);
	CHECK(!resp_tap_feed(tap, "{}", 2));
	f = resp_tap_end(tap);
	CHECK(!f->complete && !f->has_error && !f->model[0]);
	/* An empty body, and one without anybody who listens to calls. */
	resp_tap_start(tap, WIRE_GEMINI, 500, STR_NULL, NULL, NULL);
	CHECK(resp_tap_end(tap)->has_error);
	resp_tap_start(tap, WIRE_OPENAI_CHAT, 200, STR_NULL, NULL, NULL);
	feed_text(tap, "{\"choices\":[{\"message\":{\"tool_calls\":[{\"id\":\"a\",\"function\":"
		       "{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}");
	CHECK_INT(resp_tap_end(tap)->n_calls, 1);
	resp_tap_free(tap);
}

static void long_names_are_cut_between_characters(void)
{
	struct resp_tap *tap = resp_tap_new();
	char body[1024] = "{\"model\":\"";
	const char *model;
	size_t n;

	for (int i = 0; i < 100; i++)
		strncat(body, "\xc3\xa9", sizeof(body) - strlen(body) - 1);
	strncat(body, "\"}", sizeof(body) - strlen(body) - 1);
	resp_tap_start(tap, WIRE_OPENAI_CHAT, 200, STR_NULL, NULL, NULL);
	feed_text(tap, body);
	model = resp_tap_end(tap)->model;
	n = strlen(model);
	CHECK_INT(n, 126);
	CHECK((unsigned char)model[n - 1] == 0xa9);
	resp_tap_free(tap);
}

/* ---------------------------------------------------------------- paths */

static void models_in_paths(void)
{
	static const struct {
		const char *path, *model; /* NULL: none */
		bool stream;
	} cases[] = {
		{ "/v1beta/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro", false },
		{ "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", "gemini-2.5-pro",
		  true },
		{ "/v1/projects/p/locations/global/publishers/anthropic/models/"
		  "claude-3-7-sonnet@20250219:streamRawPredict",
		  "claude-3-7-sonnet@20250219", true },
		{ "/v1/projects/p/locations/l/publishers/anthropic/models/claude%40x:rawPredict",
		  "claude@x", false },
		{ "/v1beta/tunedModels/mine:generateContent", "mine", false },
		{ "/openai/deployments/gpt-4.1-mini/chat/completions?api-version=1", "gpt-4.1-mini",
		  false },
		{ "//openai/deployments/a%2fb/chat/completions", "a/b", false },
		{ "https://x.example/v1beta/models/m:countTokens", "m", false },
		{ "/v1beta/models", NULL, false },
		{ "/v1beta/models/gemini", NULL, false },
		{ "/v1/chat/completions", NULL, false },
		{ "/v1beta/models/:generateContent", NULL, false },
		{ "/v1beta/models/a%00b:generateContent", NULL, false },
		{ "/v1beta/x?y=/models/m:generateContent", NULL, false },
		{ "", NULL, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char model[MODEL_BYTES] = "unset";
		bool stream = false;
		bool found = path_model(str_of(cases[i].path), model, sizeof(model), &stream);

		CHECK_INT(found, cases[i].model != NULL);
		CHECK_STR(model, cases[i].model ? cases[i].model : "unset");
		CHECK_INT(stream, cases[i].stream);
	}
}

TESTS(T(all_fixtures_at_every_cut), T(arguments_above_the_bound_are_cut),
      T(too_many_open_calls_are_counted), T(deep_and_broken_documents_do_no_harm),
      T(facts_are_there_in_the_middle), T(an_answer_that_is_not_read_is_quiet),
      T(long_names_are_cut_between_characters), T(models_in_paths))
