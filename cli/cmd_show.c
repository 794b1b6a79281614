/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport show`: all that is known of one request, with its tool calls. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/format.h"
#include "cli/print.h"
#include "common/log.h"
#include "common/outcome.h"
#include "common/wire.h"

struct show_args {
	struct cli_common common;
};

enum { FLAG_STREAMED = 1, FLAG_PARTIAL = 2, FLAG_ESTIMATED = 4, FLAG_UNPRICED = 8, FLAG_FORCED = 32 };
static const char *const meaning_names[] = { "other", "shell", "file", "search", "web", "mcp" };

/* "sp_" and hex digits, as shown everywhere, or the ledger's own decimal number. */
static int parse_id(const char *text, uint64_t *ret)
{
	bool hex = !strncmp(text, "sp_", 3);
	const char *digits = hex ? text + 3 : text;
	char *end;

	errno = 0;
	*ret = strtoull(digits, &end, hex ? 16 : 10);
	if (errno || !*digits || *end || digits[0] == '-' || !*ret)
		return cli_fail(EXIT_USAGE,
				"%s is no request: `sallyport log` shows them, sp_ and 16 digits",
				log_quote(str_of(text)));
	return EXIT_OK;
}

/* ---------------------------------------------------------------- JSON */

static void json_calls(struct json_out *j, const struct answer *calls)
{
	json_out_open(j, "calls", '[');
	for (size_t r = 0; r < calls->n_rows; r++) {
		uint64_t meaning = (uint64_t)answer_int(calls, r, "meaning");

		json_out_open(j, NULL, '{');
		json_out_text(j, "tool", answer_text(calls, r, "name"));
		json_out_text(
			j, "kind",
			str_of(meaning < ARRAY_SIZE(meaning_names) ? meaning_names[meaning] : "?"));
		json_out_text(j, "summary", answer_text(calls, r, "summary"));
		json_out_text(j, "arguments", answer_text(calls, r, "arguments"));
		json_out_text(j, "call_id", answer_text(calls, r, "call_id"));
		json_out_bool(j, "complete", answer_int(calls, r, "complete") != 0);
		if (answer_cell(calls, r, "result_error")->kind == ANSWER_INT) {
			json_out_bool(j, "result_error", answer_int(calls, r, "result_error") != 0);
			json_out_int(j, "result_bytes", answer_int(calls, r, "result_bytes"));
		}
		json_out_close(j, '}');
	}
	json_out_close(j, ']');
}

/* -1 in the ledger: the provider did not tell. */
static bool is_tokens(const char *name)
{
	static const char *const names[] = { "input", "output", "cache_read", "cache_write",
					     "reasoning" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i], name))
			return true;
	return false;
}

static int show_json(const struct answer *a, const struct answer *calls)
{
	char room[FORMAT_BYTES];
	int64_t flags = answer_int(a, 0, "flags");
	struct json_out j;

	json_out_init(&j);
	json_out_open(&j, NULL, '{');
	for (unsigned i = 0; i < a->n_columns; i++) {
		const struct answer_cell *c = &a->cells[i];
		char name[64];

		str_copy(name, sizeof(name), a->columns[i]);
		if (!strcmp(name, "id")) {
			snprintf(room, sizeof(room), "sp_%016" PRIx64, (uint64_t)c->n);
			json_out_text(&j, name, str_of(room));
		} else if (!strcmp(name, "started_ns")) {
			json_out_time(&j, "started", (uint64_t)c->n);
		} else if (!strcmp(name, "outcome")) {
			json_out_text(&j, name, str_of(outcome_name((enum outcome)c->n)));
		} else if (!strcmp(name, "format")) {
			json_out_text(&j, name, str_of(wire_format_name((enum wire_format)c->n)));
		} else if (!strcmp(name, "tags")) {
			json_out_tags(&j, name, c->s);
		} else if (!strcmp(name, "cost_nanousd")) {
			format_usd_exact(c->n, room);
			json_out_number(&j, "cost_usd", room);
		} else if (!strcmp(name, "flags")) {
			json_out_bool(&j, "streamed", flags & FLAG_STREAMED);
			json_out_bool(&j, "partial", flags & FLAG_PARTIAL);
			json_out_bool(&j, "estimated", flags & FLAG_ESTIMATED);
			json_out_bool(&j, "unpriced", flags & FLAG_UNPRICED);
			json_out_bool(&j, "forced", flags & FLAG_FORCED);
		} else if (c->kind == ANSWER_TEXT) {
			json_out_text(&j, name, c->s);
		} else if (c->kind == ANSWER_INT && is_tokens(name) && c->n < 0) {
			json_out_null(&j, name);
		} else if (c->kind == ANSWER_INT) {
			json_out_int(&j, name, c->n);
		}
	}
	json_calls(&j, calls);
	json_out_close(&j, '}');
	return json_out_print(&j);
}

/* ---------------------------------------------------------------- for people */

static void field_tokens(const struct answer *a)
{
	static const struct {
		const char *column, *word;
	} parts[] = { { "input", "input" },
		      { "cache_read", "cached" },
		      { "cache_write", "written to cache" },
		      { "output", "output" },
		      { "reasoning", "of it reasoning" } };
	const char *comma = "";
	char n[FORMAT_BYTES];

	printf("%-15s", "tokens");
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (answer_int(a, 0, parts[i].column) < 0)
			continue;
		format_count(answer_int(a, 0, parts[i].column), n);
		printf("%s%s %s", comma, n, parts[i].word);
		comma = ", ";
	}
	puts(*comma ? "" : "not told by the provider");
}

static void field_cost(const struct answer *a)
{
	int64_t flags = answer_int(a, 0, "flags");
	char cost[FORMAT_BYTES];

	format_usd(answer_int(a, 0, "cost_nanousd"), cost);
	if (flags & FLAG_UNPRICED)
		print_field("cost", STR("unpriced: the model has no price"));
	else
		printf("%-15s%s%s\n", "cost", cost,
		       flags & FLAG_ESTIMATED ? ", estimated: the provider told no usage" : "");
}

static void field_times(const struct answer *a)
{
	char at[FORMAT_BYTES], whole[FORMAT_BYTES], first[FORMAT_BYTES];

	format_clock((uint64_t)answer_int(a, 0, "started_ns"), format_now_ns(), at);
	format_duration((uint64_t)answer_int(a, 0, "duration_us"), whole);
	format_duration((uint64_t)answer_int(a, 0, "first_byte_us"), first);
	printf("%-15s%s, took %s", "started", at, whole);
	if (answer_int(a, 0, "first_byte_us"))
		printf(", first byte after %s", first);
	putchar('\n');
}

static void field_bytes(const struct answer *a)
{
	char in[FORMAT_BYTES], out[FORMAT_BYTES];
	int64_t flags = answer_int(a, 0, "flags");

	format_bytes(answer_int(a, 0, "request_bytes"), in);
	format_bytes(answer_int(a, 0, "answer_bytes"), out);
	printf("%-15s%s asked, %s answered%s%s\n", "bytes", in, out,
	       flags & FLAG_STREAMED ? ", streamed" : "",
	       flags & FLAG_PARTIAL ? ", not whole" : "");
}

static void show_calls(const struct answer *calls)
{
	for (size_t r = 0; r < calls->n_rows; r++) {
		uint64_t meaning = (uint64_t)answer_int(calls, r, "meaning");
		const struct answer_cell *err = answer_cell(calls, r, "result_error");

		printf("\ntool call %zu    ", r + 1);
		print_text(answer_text(calls, r, "name"));
		printf(" (%s)%s%s\n",
		       meaning < ARRAY_SIZE(meaning_names) ? meaning_names[meaning] : "?",
		       answer_int(calls, r, "complete") ? "" : ", cut off",
		       err->kind != ANSWER_INT ? ""
		       : err->n		       ? ", ended with an error"
					       : ", ended well");
		print_field("  what", answer_text(calls, r, "summary"));
		print_field("  arguments", answer_text(calls, r, "arguments"));
	}
}

static void show_human(const struct answer *a, const struct answer *calls)
{
	const struct term *term = term_stdout();
	const char *outcome = outcome_name((enum outcome)answer_int(a, 0, "outcome"));

	printf("%-15ssp_%016" PRIx64 "\n", "request", (uint64_t)answer_int(a, 0, "id"));
	printf("%-15s%s%s%s, HTTP %" PRId64 "\n", "outcome", print_color(term, str_of(outcome)),
	       outcome, print_plain(term), answer_int(a, 0, "http_status"));
	if (answer_int(a, 0, "count") > 1)
		printf("%-15s%" PRId64 " in a row, recorded as one\n", "times",
		       answer_int(a, 0, "count"));
	print_field("error", answer_text(a, 0, "error"));
	print_field("rule", answer_text(a, 0, "rule"));
	field_times(a);
	print_field("tags", answer_text(a, 0, "tags"));
	print_field("cgroup", answer_text(a, 0, "cgroup"));
	print_field("container", answer_text(a, 0, "container"));
	printf("%-15s", "process");
	print_text(answer_text(a, 0, "comm"));
	printf(", pid %" PRId64 ", uid %" PRId64 "\n", answer_int(a, 0, "pid"),
	       answer_int(a, 0, "uid"));
	print_field("client", answer_text(a, 0, "client"));
	print_field("session", answer_text(a, 0, "session"));
	printf("%-15s", "asked");
	print_text(answer_text(a, 0, "method"));
	putchar(' ');
	print_text(answer_text(a, 0, "path"));
	printf(" (%s)\n", wire_format_name((enum wire_format)answer_int(a, 0, "format")));
	print_field("provider", answer_text(a, 0, "provider"));
	print_field("model", answer_text(a, 0, "model"));
	print_field("answered by", answer_text(a, 0, "answer_model"));
	print_field("stop", answer_text(a, 0, "stop"));
	field_tokens(a);
	field_cost(a);
	field_bytes(a);
	show_calls(calls);
}

int cmd_show(int argc, char **argv)
{
	struct show_args o = { 0 };
	struct question q = { .op = "show" };
	struct answer a = { 0 }, calls = { 0 };
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("show", &w, 1, 1) : code;
	if (code >= 0)
		return code;
	code = parse_id(w.items[0], &q.id);
	code = code ? code : ledger_ask(&o.common, &q, &a);
	if (!code && !a.n_rows)
		code = cli_fail(EXIT_FAILED,
				"the ledger has no request %s: `sallyport log` lists them",
				log_quote(str_of(w.items[0])));
	q.op = "calls";
	code = code ? code : ledger_ask(&o.common, &q, &calls);
	if (!code && o.common.json)
		code = show_json(&a, &calls);
	else if (!code)
		show_human(&a, &calls);
	answer_fini(&a);
	answer_fini(&calls);
	return code;
}
