/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds recorded exchanges to the taps and compares what they make of them with the facts beside
 * each exchange: in one piece, byte by byte, and cut at random places. Usage: check DIR [--seed N]
 * [--formats a,b]. Exit status 0 only if all is exact.
 */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/base.h"
#include "common/buf.h"
#include "gateway/decode.h"
#include "gateway/extract.h"

#define BODY_MAX (256u << 20)
#define CUTS	 100

/* ---------------------------------------------------------------- what is known about a folder */

static const struct folder {
	const char *name;
	enum wire_format format;
	bool model_in_path;
} folders[] = {
	{ "anthropic-messages", WIRE_ANTHROPIC_MESSAGES, false },
	{ "openai-chat", WIRE_OPENAI_CHAT, false },
	{ "openai-compat", WIRE_OPENAI_CHAT, false },
	{ "openai-responses", WIRE_OPENAI_RESPONSES, false },
	{ "openai-responses-compat", WIRE_OPENAI_RESPONSES, false },
	{ "azure-openai-chat", WIRE_OPENAI_CHAT, false },
	{ "azure-openai-responses", WIRE_OPENAI_RESPONSES, false },
	{ "gemini-generate", WIRE_GEMINI, true },
	{ "vertex-gemini", WIRE_GEMINI, true },
	{ "vertex-anthropic", WIRE_ANTHROPIC_MESSAGES, true },
};

/* ---------------------------------------------------------------- small helpers */

static uint64_t seed_now;

static uint64_t random_next(void)
{
	seed_now ^= seed_now << 13;
	seed_now ^= seed_now >> 7;
	seed_now ^= seed_now << 17;
	return seed_now;
}

static char *read_whole(const char *path, size_t *ret_n)
{
	FILE *f = fopen(path, "rb");
	char *data = NULL;
	long n = -1;

	if (f && !fseek(f, 0, SEEK_END))
		n = ftell(f);
	if (n >= 0) {
		rewind(f);
		data = calloc(1, (size_t)n + 1);
		if (data && fread(data, 1, (size_t)n, f) != (size_t)n) {
			free(data);
			data = NULL;
		}
	}
	if (f)
		fclose(f);
	*ret_n = data ? (size_t)n : 0;
	return data;
}

static cJSON *read_json(const char *path)
{
	size_t n;
	char *text = read_whole(path, &n);
	cJSON *json = text ? cJSON_ParseWithLength(text, n) : NULL;

	free(text);
	return json;
}

static const char *text_of(const cJSON *o, const char *key)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
}

/* The same of a value that may also be a number; `buf` is for that. */
static const char *scalar_of(const cJSON *o, const char *key, char *buf, size_t size)
{
	const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

	if (!cJSON_IsNumber(v))
		return cJSON_GetStringValue(v);
	snprintf(buf, size, "%.0f", v->valuedouble);
	return buf;
}

static size_t base64_decode(const char *in, char *out)
{
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t n = 0;

	for (; *in && *in != '='; in++) {
		int v = *in >= 'A' && *in <= 'Z'   ? *in - 'A'
			: *in >= 'a' && *in <= 'z' ? *in - 'a' + 26
			: *in >= '0' && *in <= '9' ? *in - '0' + 52
			: *in == '+'		   ? 62
			: *in == '/'		   ? 63
						   : -1;
		if (v < 0)
			continue;
		acc = acc << 6 | (uint32_t)v;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[n++] = (char)(acc >> bits);
		}
	}
	return n;
}

/* The body of a request or response as bytes; NULL if there is none. Freed by the caller. */
static char *body_of(const cJSON *message, size_t *ret_n)
{
	const char *body = text_of(message, "body"), *encoding = text_of(message, "body_encoding");
	size_t n = body ? strlen(body) : 0;
	char *data = body ? malloc(n + 1) : NULL;

	*ret_n = n;
	if (!data)
		return NULL;
	if (encoding && !strcmp(encoding, "base64"))
		*ret_n = base64_decode(body, data);
	else
		memcpy(data, body, n);
	return data;
}

/* ---------------------------------------------------------------- one exchange */

struct check {
	const char *id;
	const struct folder *folder;
	const cJSON *exchange, *expected, *ambiguous;
	cJSON *calls; /* what the tap told, in the shape of the expected facts */
	unsigned mismatches;
	bool quiet;
};

static bool is_ambiguous(const struct check *c, const char *fact)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, c->ambiguous)
	{
		const char *name = cJSON_GetStringValue(item);

		if (name && !strcmp(name, fact))
			return true;
	}
	return false;
}

PRINTF_LIKE(3, 4)
static void mismatch(struct check *c, const char *fact, const char *fmt, ...)
{
	va_list ap;

	if (is_ambiguous(c, fact))
		return;
	c->mismatches++;
	if (c->quiet)
		return;
	printf("    %s  %s: ", c->id, fact);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
}

/* null and "" are the same here: the facts have no way to tell them apart. */
static void check_text(struct check *c, const char *fact, const char *want, const char *got)
{
	want = want ? want : "";
	if (strcmp(want, got))
		mismatch(c, fact, "expected \"%.80s\", got \"%.80s\"", want, got);
}

static void check_bool(struct check *c, const char *fact, bool got)
{
	const cJSON *want = cJSON_GetObjectItemCaseSensitive(c->expected, fact);

	if (cJSON_IsTrue(want) != got)
		mismatch(c, fact, "expected %s, got %s", cJSON_IsTrue(want) ? "true" : "false",
			 got ? "true" : "false");
}

static void check_count(struct check *c, const char *key, int64_t got)
{
	const cJSON *usage = cJSON_GetObjectItemCaseSensitive(c->expected, "usage");
	const cJSON *want = cJSON_GetObjectItemCaseSensitive(usage, key);
	int64_t value = cJSON_IsNumber(want) ? (int64_t)want->valuedouble : -1;
	char fact[64];

	snprintf(fact, sizeof(fact), "usage.%s", key);
	if (value != got)
		mismatch(c, fact, "expected %lld, got %lld", (long long)value, (long long)got);
}

/* ---------------------------------------------------------------- tool calls */

static void add_text(cJSON *o, const char *key, struct str s)
{
	char *copy = strndup(s.s ? s.s : "", s.n);

	cJSON_AddStringToObject(o, key, copy ? copy : "");
	free(copy);
}

/* The value of the arguments: that of the text, or the text itself if it is no JSON. */
static cJSON *argument_value(const struct tool_call *call)
{
	char *text = strndup(call->arguments.s ? call->arguments.s : "", call->arguments.n);
	cJSON *value;

	if (call->arguments_null)
		value = cJSON_CreateNull();
	else if (!call->arguments.n)
		value = cJSON_CreateObject();
	else
		value = cJSON_ParseWithOpts(text, NULL, true);
	if (!value)
		value = cJSON_CreateString(text ? text : "");
	free(text);
	return value;
}

static void on_call(void *arg, const struct tool_call *call)
{
	struct check *c = arg;
	cJSON *o = cJSON_CreateObject();

	if (call->id.s)
		add_text(o, "id", call->id);
	else
		cJSON_AddNullToObject(o, "id");
	add_text(o, "name", call->name);
	cJSON_AddStringToObject(o, "kind", tool_kind_name(call->kind));
	cJSON_AddItemToObject(o, "arguments", argument_value(call));
	if (call->text_on_wire)
		add_text(o, "arguments_text", call->arguments);
	else
		cJSON_AddNullToObject(o, "arguments_text");
	if (call->server.n)
		add_text(o, "server", call->server);
	if (call->caller.n)
		add_text(o, "caller", call->caller);
	if (call->namespace_.n)
		add_text(o, "namespace", call->namespace_);
	cJSON_AddNumberToObject(o, "choice", call->choice);
	if (call->custom)
		cJSON_AddTrueToObject(o, "custom");
	if (call->pending_approval)
		cJSON_AddTrueToObject(o, "pending_approval");
	if (call->failed)
		cJSON_AddTrueToObject(o, "failed");
	if (call->inferred)
		cJSON_AddTrueToObject(o, "inferred");
	cJSON_AddItemToArray(c->calls, o);
}

static void check_call(struct check *c, const cJSON *want, const cJSON *got)
{
	static const char *const keys[] = {
		"id",	   "name",	"kind",	  "arguments", "arguments_text",   "server",
		"caller",  "namespace", "choice", "custom",    "pending_approval", "failed",
		"inferred"
	};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const cJSON *w = cJSON_GetObjectItemCaseSensitive(want, keys[i]);
		const cJSON *g = cJSON_GetObjectItemCaseSensitive(got, keys[i]);
		char fact[64], *wt, *gt;

		if (!w && (!g || !strcmp(keys[i], "choice")))
			continue;
		if (w && g && cJSON_Compare(w, g, true))
			continue;
		snprintf(fact, sizeof(fact), "tool_calls.%s", keys[i]);
		wt = w ? cJSON_PrintUnformatted(w) : NULL;
		gt = g ? cJSON_PrintUnformatted(g) : NULL;
		mismatch(c, fact, "expected %.120s, got %.120s", wt ? wt : "nothing",
			 gt ? gt : "nothing");
		cJSON_free(wt);
		cJSON_free(gt);
	}
}

static void check_calls(struct check *c)
{
	const cJSON *want = cJSON_GetObjectItemCaseSensitive(c->expected, "tool_calls");
	int n = cJSON_GetArraySize(want), got = cJSON_GetArraySize(c->calls);

	if (n != got)
		mismatch(c, "tool_calls", "expected %d calls, got %d", n, got);
	for (int i = 0; i < n && i < got; i++)
		check_call(c, cJSON_GetArrayItem(want, i), cJSON_GetArrayItem(c->calls, i));
}

/* ---------------------------------------------------------------- facts of the answer */

/* Messages longer than the tap keeps are compared as far as it does. */
static void check_error(struct check *c, const struct resp_facts *f)
{
	const cJSON *want = cJSON_GetObjectItemCaseSensitive(c->expected, "error");
	const char *message = text_of(want, "message");
	const char *type = f->error_type[0] ? f->error_type : f->error_code;
	size_t n = strlen(f->error_message);

	if (cJSON_IsObject(want) != f->has_error) {
		mismatch(c, "error", "expected %s, got %s (%s)",
			 cJSON_IsObject(want) ? "one" : "none", f->has_error ? "one" : "none",
			 f->error_message);
		return;
	}
	if (!f->has_error)
		return;
	check_text(c, "error", text_of(want, "type"), f->error_type);
	check_text(c, "error", text_of(want, "code"), f->error_code);
	if (!message || strlen(message) < ERROR_MSG_BYTES - 4)
		check_text(c, "error", message, f->error_message);
	else if (n < ERROR_MSG_BYTES - 4 || strncmp(message, f->error_message, n))
		mismatch(c, "error", "the message is not the beginning of the expected one: %s",
			 f->error_message);
	check_text(c, "error_type", text_of(c->expected, "error_type"), type);
}

static int64_t plus(int64_t a, int64_t b)
{
	return MAX(a, 0) + MAX(b, 0);
}

/* The bill is the sum of the iterations: the top level and what the tap says they add. */
static void check_iterations(struct check *c, const struct resp_facts *f)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(c->expected, "usage_iterations");
	static const char *const keys[] = { "input", "output", "cache_read", "cache_write" };
	int64_t got[] = { plus(f->usage.input, f->billed_extra.input),
			  plus(f->usage.output, f->billed_extra.output),
			  plus(f->usage.cache_read, f->billed_extra.cache_read),
			  plus(f->usage.cache_write, f->billed_extra.cache_write) };

	if (cJSON_IsArray(list) != f->has_iterations)
		mismatch(c, "usage_iterations", "expected %s", list ? "some" : "none");
	if (!cJSON_IsArray(list))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const cJSON *item;
		int64_t want = 0;

		cJSON_ArrayForEach(item, list)
		{
			const cJSON *n = cJSON_GetObjectItemCaseSensitive(item, keys[i]);

			want += cJSON_IsNumber(n) ? (int64_t)n->valuedouble : 0;
		}
		if (want != got[i])
			mismatch(c, "usage_iterations", "%s: expected %lld, got %lld", keys[i],
				 (long long)want, (long long)got[i]);
	}
}

static void check_answer(struct check *c, const struct resp_facts *f, const char *request_model)
{
	const char *model = f->model[0] ? f->model : request_model;
	char number[32];

	check_text(c, "response_model", text_of(c->expected, "response_model"), f->model);
	check_text(c, "model", text_of(c->expected, "model"), model);
	check_bool(c, "streamed", f->streamed);
	check_bool(c, "complete", f->complete);
	check_count(c, "input", f->usage.input);
	check_count(c, "output", f->usage.output);
	check_count(c, "cache_read", f->usage.cache_read);
	check_count(c, "cache_write", f->usage.cache_write);
	check_count(c, "reasoning", f->usage.reasoning);
	check_text(c, "stop_reason", scalar_of(c->expected, "stop_reason", number, sizeof(number)),
		   f->stop_reason);
	check_error(c, f);
	check_iterations(c, f);
	check_calls(c);
}

/* ---------------------------------------------------------------- feeding */

enum cutting { WHOLE, BYTEWISE, RANDOM, CUTTING_MAX };

/* The size of the next piece of the n bytes left. */
static size_t next_piece(enum cutting cutting, size_t total, size_t left)
{
	if (cutting == WHOLE)
		return left;
	if (cutting == BYTEWISE)
		return 1;
	/* CUTS cuts on average, evenly spread. */
	return MIN(left, 1 + (size_t)(random_next() % (2 * total / CUTS + 1)));
}

struct feed {
	struct resp_tap *tap;
	bool ended;
	struct usage usage_at_end;
	unsigned calls_at_end;
};

static void feed_decoded(void *arg, const void *data, size_t n)
{
	struct feed *f = arg;
	const struct resp_facts *facts;

	if (!resp_tap_feed(f->tap, data, n))
		return;
	facts = resp_tap_facts(f->tap);
	f->ended = true;
	f->usage_at_end = facts->usage;
	f->calls_at_end = facts->n_calls;
}

static void feed_answer(struct check *c, const char *body, size_t n, enum cutting cutting,
			struct feed *feed)
{
	const cJSON *response = cJSON_GetObjectItemCaseSensitive(c->exchange, "response");
	const char *coding = text_of(response, "content_coding");
	struct decoder *d = decoder_new(coding_parse(str_of(coding)), BODY_MAX, 0);
	size_t at = 0;
	int err = d ? 0 : -ENOTSUP;

	while (at < n && !err) {
		size_t piece = next_piece(cutting, n, n - at);

		err = decoder_feed(d, body + at, piece, feed_decoded, feed);
		at += piece;
	}
	if (err < 0)
		mismatch(c, "content_coding", "the decoder said %d", err);
	else if (!decoder_done(d))
		mismatch(c, "content_coding", "the coding's end was not seen");
	decoder_free(d);
}

/* Returns the model that the request asks for, in a static buffer. */
static const char *run_request(struct check *c, enum cutting cutting)
{
	const cJSON *request = cJSON_GetObjectItemCaseSensitive(c->exchange, "request");
	static char model[MODEL_BYTES];
	struct req_tap *tap = req_tap_new();
	const struct req_facts *f;
	bool path_stream = false, in_path;
	char path_name[MODEL_BYTES] = "";
	size_t n, at = 0;
	char *body = body_of(request, &n);

	in_path = path_model(str_of(text_of(request, "url")), path_name, sizeof(path_name),
			     &path_stream);
	req_tap_start(tap, c->folder->format);
	while (at < n) {
		size_t piece = next_piece(cutting, n, n - at);

		req_tap_feed(tap, body + at, piece);
		at += piece;
	}
	f = req_tap_end(tap);
	str_copy(model, sizeof(model),
		 str_of(c->folder->model_in_path || !f->model[0] ? path_name : f->model));
	/* Without a body the recording does not tell what was asked. */
	if (body) {
		check_text(c, "request_model", text_of(c->expected, "request_model"), model);
		check_bool(c, "stream",
			   c->folder->model_in_path && in_path ? path_stream : f->stream);
		if (f->not_json)
			mismatch(c, "request", "the body was not read as JSON");
		if (f->body_bytes != n)
			mismatch(c, "request", "%zu bytes, counted %llu", n,
				 (unsigned long long)f->body_bytes);
	} else if (c->folder->model_in_path) {
		check_bool(c, "stream", path_stream);
	}
	if (!body)
		model[0] = '\0';
	req_tap_free(tap);
	free(body);
	return model;
}

static void run_answer(struct check *c, enum cutting cutting, const char *request_model)
{
	const cJSON *response = cJSON_GetObjectItemCaseSensitive(c->exchange, "response");
	const cJSON *headers = cJSON_GetObjectItemCaseSensitive(response, "headers");
	const cJSON *status = cJSON_GetObjectItemCaseSensitive(response, "status");
	struct feed feed = { .tap = resp_tap_new() };
	const struct resp_facts *facts;
	size_t n;
	char *body = body_of(response, &n);

	c->calls = cJSON_CreateArray();
	resp_tap_start(feed.tap, c->folder->format, status ? status->valueint : 0,
		       str_of(text_of(headers, "content-type")), on_call, c);
	feed_answer(c, body, n, cutting, &feed);
	facts = resp_tap_end(feed.tap);
	check_answer(c, facts, request_model);
	/* What is recorded at the end that a client sees must be all there is. */
	if (feed.ended && (feed.calls_at_end != facts->n_calls ||
			   memcmp(&feed.usage_at_end, &facts->usage, sizeof(facts->usage)) != 0))
		mismatch(c, "end", "calls or usage changed after the end was announced");
	if (!feed.ended && facts->complete && !facts->streamed)
		mismatch(c, "end", "a whole JSON body whose end was not announced");
	cJSON_Delete(c->calls);
	resp_tap_free(feed.tap);
	free(body);
}

/* ---------------------------------------------------------------- folders */

struct tally {
	unsigned exchanges, exact, exact_by_cut[CUTTING_MAX];
};

static void check_exchange(const char *dir, const struct folder *folder, const char *file,
			   uint64_t seed, struct tally *tally)
{
	char path[4096], id[512];
	size_t stem = strlen(file) - strlen(".expected.json");
	struct check c = { .folder = folder };
	cJSON *exchange, *expected;
	bool exact = true;

	snprintf(id, sizeof(id), "%s/%.*s", folder->name, (int)stem, file);
	snprintf(path, sizeof(path), "%s/%s/%s", dir, folder->name, file);
	expected = read_json(path);
	snprintf(path, sizeof(path), "%s/%s.json", dir, id);
	exchange = read_json(path);
	c.id = id;
	c.exchange = exchange;
	c.expected = expected;
	c.ambiguous = cJSON_GetObjectItemCaseSensitive(expected, "ambiguous");
	tally->exchanges++;
	if (!exchange || !expected) {
		printf("    %s  cannot be read\n", id);
		exact = false;
	}
	for (int cutting = 0; exchange && expected && cutting < CUTTING_MAX; cutting++) {
		/* The same cuts for an exchange, whatever else is checked. */
		seed_now = seed * 0x9e3779b97f4a7c15ULL + strlen(id) + 1;
		c.mismatches = 0;
		run_answer(&c, (enum cutting)cutting, run_request(&c, (enum cutting)cutting));
		if (!c.mismatches) {
			tally->exact_by_cut[cutting]++;
		} else {
			exact = false;
			c.quiet = true; /* the other cuts would say the same */
		}
	}
	if (exact)
		tally->exact++;
	cJSON_Delete(exchange);
	cJSON_Delete(expected);
}

static int is_expected_file(const struct dirent *e)
{
	return str_ends(str_of(e->d_name), STR(".expected.json"));
}

static void check_folder(const char *dir, const struct folder *folder, uint64_t seed,
			 struct tally *tally)
{
	struct dirent **files;
	char path[4096];
	int n;

	snprintf(path, sizeof(path), "%s/%s", dir, folder->name);
	n = scandir(path, &files, is_expected_file, alphasort);
	for (int i = 0; i < n; i++) {
		check_exchange(dir, folder, files[i]->d_name, seed, tally);
		free(files[i]);
	}
	if (n >= 0)
		free(files);
}

static bool is_known(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (!strcmp(folders[i].name, name))
			return true;
	return false;
}

static void print_unread(const char *dir)
{
	struct dirent **files;
	int n = scandir(dir, &files, NULL, alphasort);
	char path[4096];

	for (int i = 0; i < n; i++) {
		if (files[i]->d_name[0] != '.' && !is_known(files[i]->d_name)) {
			struct dirent **inside;
			int m;

			snprintf(path, sizeof(path), "%s/%s", dir, files[i]->d_name);
			m = scandir(path, &inside, is_expected_file, alphasort);
			if (m > 0)
				printf("%-26s %5d  not read by this version\n", files[i]->d_name,
				       m);
			for (int k = 0; k < m; k++)
				free(inside[k]);
			if (m >= 0)
				free(inside);
		}
		free(files[i]);
	}
	if (n >= 0)
		free(files);
}

/* Is the name in the comma list? An absent list has all. */
static bool is_wanted(const char *list, const char *name)
{
	struct str rest = str_of(list);

	while (rest.n) {
		const char *comma = memchr(rest.s, ',', rest.n);
		struct str item = { rest.s, comma ? (size_t)(comma - rest.s) : rest.n };

		if (str_eq(item, str_of(name)))
			return true;
		rest = str_skip(rest, item.n + (comma ? 1 : 0));
	}
	return !list;
}

int main(int argc, char **argv)
{
	const char *dir = NULL, *formats = NULL;
	struct tally sum = { 0 };
	uint64_t seed = 1;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--formats") && i + 1 < argc)
			formats = argv[++i];
		else if (argv[i][0] != '-' && !dir)
			dir = argv[i];
		else
			dir = NULL, argc = 0;
	}
	if (!dir) {
		fprintf(stderr, "usage: check DIR [--seed N] [--formats a,b]; DIR holds a folder "
				"for each wire format.\n");
		return 2;
	}
	printf("%-26s %5s %6s %6s %6s %6s\n", "format", "n", "exact", "whole", "bytes", "cuts");
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		struct tally t = { 0 };

		if (!is_wanted(formats, folders[i].name))
			continue;
		check_folder(dir, &folders[i], seed, &t);
		printf("%-26s %5u %6u %6u %6u %6u\n", folders[i].name, t.exchanges, t.exact,
		       t.exact_by_cut[WHOLE], t.exact_by_cut[BYTEWISE], t.exact_by_cut[RANDOM]);
		sum.exchanges += t.exchanges;
		sum.exact += t.exact;
	}
	printf("%-26s %5u %6u\n", "all", sum.exchanges, sum.exact);
	print_unread(dir);
	return sum.exchanges && sum.exact == sum.exchanges ? 0 : 1;
}
