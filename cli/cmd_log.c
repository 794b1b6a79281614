/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport log`: finished requests, or events of the daemon, the newest last. */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "cli/client.h"
#include "cli/format.h"
#include "cli/print.h"
#include "common/log.h"
#include "common/outcome.h"
#include "common/wire.h"
#include "policy/diag.h"

#define FOLLOW_PERIOD_MS 500
/* Rationale: as many as can end between two looks; each look asks for this many of the newest. */
#define FOLLOW_ROWS 1000
/* Requests are sorted by their beginning; one that ends now may have begun long ago. */
#define FOLLOW_WINDOW_NS (3600 * NSEC_PER_SEC)

struct log_args {
	struct cli_common common;
	const char *outcome, *tag, *cgroup, *model, *provider;
	uint64_t since_ns, until_ns;
	int64_t limit;
	bool events, follow;
};
const struct cli_option log_options[] = {
	{ "since", 's', CLI_TIME, CLI_AT(log_args, since_ns), "TIME", NULL,
	  "from then on: 2h, 7d, today, 2026-01-31" },
	{ "until", 0, CLI_TIME, CLI_AT(log_args, until_ns), "TIME", NULL, "up to then" },
	{ "outcome", 'o', CLI_TEXT, CLI_AT(log_args, outcome), "OUTCOME", NULL,
	  "those that ended so: ok, denied_quota ..." },
	{ "tag", 't', CLI_TAG, CLI_AT(log_args, tag), "TAG", NULL, "of cgroups with this tag" },
	{ "cgroup", 'c', CLI_TEXT, CLI_AT(log_args, cgroup), "PATH", NULL, "of this cgroup" },
	{ "model", 'm', CLI_TEXT, CLI_AT(log_args, model), "MODEL", NULL,
	  "that asked for this model" },
	{ "provider", 'p', CLI_TEXT, CLI_AT(log_args, provider), "NAME", NULL,
	  "that went to this provider" },
	{ "events", 'e', CLI_FLAG, CLI_AT(log_args, events), NULL, NULL,
	  "what the daemon did, in place of requests" },
	{ "limit", 'n', CLI_NUMBER, CLI_AT(log_args, limit), "ROWS", NULL,
	  "the newest so many (100)" },
	{ "follow", 'f', CLI_FLAG, CLI_AT(log_args, follow), NULL, NULL,
	  "go on with new ones until interrupted" },
	CLI_OPTION_CSV(log_args),
	{ 0 },
};

/* ---------------------------------------------------------------- requests */

static const struct column request_columns[] = {
	{ "started", "TIME", COL_CLOCK, 0 },
	{ "outcome", "OUTCOME", COL_TEXT, COL_STATE },
	{ "http_status", "", COL_INT, COL_DATA },
	{ "tags", "TAGS", COL_TAGS, COL_CUT },
	{ "cgroup", "", COL_TEXT, COL_DATA },
	{ "container", "", COL_TEXT, COL_DATA },
	{ "provider", "", COL_TEXT, COL_DATA },
	{ "model", "MODEL", COL_TEXT, COL_CUT },
	{ "answer_model", "", COL_TEXT, COL_DATA },
	{ "client", "CLIENT", COL_TEXT, COL_CUT | COL_MAYBE | COL_WEAK },
	{ "session", "", COL_TEXT, COL_DATA },
	{ "method", "", COL_TEXT, COL_DATA },
	{ "path", "", COL_TEXT, COL_DATA },
	{ "format", "", COL_TEXT, COL_DATA },
	{ "times", "TIMES", COL_COUNT, COL_MAYBE | COL_HUMAN },
	{ "count", "", COL_COUNT, COL_DATA },
	{ "prompt", "INPUT", COL_TOKENS, COL_HUMAN | COL_WEAK },
	{ "input", "", COL_TOKENS, COL_DATA },
	{ "cache_read", "", COL_TOKENS, COL_DATA },
	{ "cache_write", "", COL_TOKENS, COL_DATA },
	{ "output", "OUTPUT", COL_TOKENS, COL_WEAK },
	{ "reasoning", "", COL_TOKENS, COL_DATA },
	{ "cost", "COST", COL_TEXT, COL_HUMAN | COL_RIGHT },
	{ "cost_usd", "", COL_USD, COL_DATA },
	{ "tools", "TOOLS", COL_COUNT, COL_MAYBE | COL_WEAK | COL_HUMAN },
	{ "tool_calls", "", COL_COUNT, COL_DATA },
	{ "duration_us", "TOOK", COL_US, COL_WEAK },
	{ "first_byte_us", "", COL_US, COL_DATA },
	{ "request_bytes", "", COL_BYTES, COL_DATA },
	{ "answer_bytes", "", COL_BYTES, COL_DATA },
	{ "streamed", "", COL_BOOL, COL_DATA },
	{ "partial", "", COL_BOOL, COL_DATA },
	{ "estimated", "", COL_BOOL, COL_DATA },
	{ "unpriced", "", COL_BOOL, COL_DATA },
	{ "forced", "", COL_BOOL, COL_DATA },
	{ "stop", "", COL_TEXT, COL_DATA },
	{ "error", "", COL_TEXT, COL_DATA },
	{ "rule", "", COL_TEXT, COL_DATA },
	{ "comm", "", COL_TEXT, COL_DATA },
	{ "pid", "", COL_INT, COL_DATA },
	{ "uid", "", COL_INT, COL_DATA },
	{ "id", "REQUEST", COL_ID, 0 },
};

/* Of the record's flags (common/record.h). */
enum { FLAG_STREAMED = 1, FLAG_PARTIAL = 2, FLAG_ESTIMATED = 4, FLAG_UNPRICED = 8, FLAG_FORCED = 32 };

/* -1 in the ledger: the provider did not tell. */
static void put_tokens(struct table *t, int64_t n)
{
	if (n < 0)
		table_null(t);
	else
		table_int(t, n);
}

/* What is usual is left blank. */
static void put_above(struct table *t, int64_t n, int64_t usual)
{
	if (n > usual)
		table_int(t, n);
	else
		table_null(t);
}

static void put_prompt(struct table *t, const struct answer *a, size_t r)
{
	int64_t input = answer_int(a, r, "input"), read = answer_int(a, r, "cache_read"),
		write = answer_int(a, r, "cache_write");

	if (input < 0 && read < 0 && write < 0)
		table_null(t);
	else
		table_int(t,
			  MAX(input, (int64_t)0) + MAX(read, (int64_t)0) + MAX(write, (int64_t)0));
}

static void put_cost(struct table *t, const struct answer *a, size_t r)
{
	int64_t flags = answer_int(a, r, "flags"), cost = answer_int(a, r, "cost_nanousd");
	char text[FORMAT_BYTES + 2] = "";

	format_usd(cost, text + (flags & FLAG_ESTIMATED ? 1 : 0));
	if (flags & FLAG_ESTIMATED)
		text[0] = '~';
	if (flags & FLAG_UNPRICED)
		table_text(t, STR("unpriced"));
	else if (!cost && answer_int(a, r, "output") < 0)
		table_text(t, STR(""));
	else
		table_text(t, str_of(text));
}

static void put_request(struct table *t, const struct answer *a, size_t r)
{
	static const char *const texts_before[] = { "tags",	"cgroup",  "container",
						    "provider", "model",   "answer_model",
						    "client",	"session", "method",
						    "path" };
	static const char *const texts_after[] = { "stop", "error", "rule", "comm" };
	static const char *const numbers[] = { "duration_us", "first_byte_us", "request_bytes",
					       "answer_bytes" };
	int64_t flags = answer_int(a, r, "flags"), count = answer_int(a, r, "count");

	table_int(t, answer_int(a, r, "started_ns"));
	table_text(t, str_of(outcome_name((enum outcome)answer_int(a, r, "outcome"))));
	table_int(t, answer_int(a, r, "http_status"));
	for (size_t i = 0; i < ARRAY_SIZE(texts_before); i++)
		table_text(t, answer_text(a, r, texts_before[i]));
	table_text(t, str_of(wire_format_name((enum wire_format)answer_int(a, r, "format"))));
	put_above(t, count, 1);
	table_int(t, count);
	put_prompt(t, a, r);
	put_tokens(t, answer_int(a, r, "input"));
	put_tokens(t, answer_int(a, r, "cache_read"));
	put_tokens(t, answer_int(a, r, "cache_write"));
	put_tokens(t, answer_int(a, r, "output"));
	put_tokens(t, answer_int(a, r, "reasoning"));
	put_cost(t, a, r);
	table_int(t, answer_int(a, r, "cost_nanousd"));
	put_above(t, answer_int(a, r, "tool_calls"), 0);
	table_int(t, answer_int(a, r, "tool_calls"));
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		table_int(t, answer_int(a, r, numbers[i]));
	table_int(t, !!(flags & FLAG_STREAMED));
	table_int(t, !!(flags & FLAG_PARTIAL));
	table_int(t, !!(flags & FLAG_ESTIMATED));
	table_int(t, !!(flags & FLAG_UNPRICED));
	table_int(t, !!(flags & FLAG_FORCED));
	for (size_t i = 0; i < ARRAY_SIZE(texts_after); i++)
		table_text(t, answer_text(a, r, texts_after[i]));
	table_int(t, answer_int(a, r, "pid"));
	table_int(t, answer_int(a, r, "uid"));
	table_int(t, answer_int(a, r, "id"));
}

/* ---------------------------------------------------------------- events */

static const struct column event_columns[] = {
	{ "at", "TIME", COL_CLOCK, 0 },
	{ "level", "LEVEL", COL_TEXT, COL_STATE },
	{ "kind", "EVENT", COL_TEXT, 0 },
	{ "text", "WHAT", COL_TEXT, COL_CUT },
	{ "tags", "TAGS", COL_TAGS, COL_CUT | COL_MAYBE },
	{ "cgroup", "CGROUP", COL_TEXT, COL_TAIL | COL_MAYBE },
	{ "comm", "", COL_TEXT, COL_DATA },
	{ "pid", "", COL_INT, COL_DATA },
	{ "uid", "", COL_INT, COL_DATA },
	{ "count", "", COL_COUNT, COL_DATA },
};

static void put_event(struct table *t, const struct answer *a, size_t r)
{
	static const char *const levels[] = { "err", "warn", "info", "debug", "trace" };
	uint64_t level = (uint64_t)answer_int(a, r, "level");

	_Static_assert(ARRAY_SIZE(levels) == LOG_LEVEL_MAX, "a level lacks its name");
	table_int(t, answer_int(a, r, "at_ns"));
	table_text(t, str_of(level < ARRAY_SIZE(levels) ? levels[level] : "?"));
	table_text(t, answer_text(a, r, "kind"));
	table_text(t, answer_text(a, r, "text"));
	table_text(t, answer_text(a, r, "tags"));
	table_text(t, answer_text(a, r, "cgroup"));
	table_text(t, answer_text(a, r, "comm"));
	table_int(t, answer_int(a, r, "pid"));
	table_int(t, answer_int(a, r, "uid"));
	table_int(t, answer_int(a, r, "count"));
}

/* ---------------------------------------------------------------- both */

static void log_table(const struct log_args *o, struct table *t)
{
	if (o->events)
		table_init(t, event_columns, ARRAY_SIZE(event_columns));
	else
		table_init(t, request_columns, ARRAY_SIZE(request_columns));
}

static void put_row(struct table *t, const struct log_args *o, const struct answer *a, size_t r)
{
	if (o->events)
		put_event(t, a, r);
	else
		put_request(t, a, r);
}

static struct question log_question(const struct log_args *o)
{
	return (struct question){ .op = o->events ? "events" : "log",
				  .outcome = o->outcome,
				  .tag = o->tag,
				  .cgroup = o->cgroup,
				  .model = o->model,
				  .provider = o->provider,
				  .since_ns = o->since_ns,
				  .until_ns = o->until_ns,
				  .limit = o->limit };
}

/* What tells two rows apart. */
static uint64_t row_key(const struct log_args *o, const struct answer *a, size_t r)
{
	struct str text = answer_text(a, r, "text");
	uint64_t hash = 14695981039346656037ULL;

	if (!o->events)
		return (uint64_t)answer_int(a, r, "id");
	for (size_t i = 0; i < text.n; i++)
		hash = (hash ^ (unsigned char)text.s[i]) * 1099511628211ULL;
	return hash ^ (uint64_t)answer_int(a, r, "at_ns");
}

static bool was_there(const struct log_args *o, const struct answer *before, uint64_t key)
{
	for (size_t r = 0; r < before->n_rows; r++)
		if (row_key(o, before, r) == key)
			return true;
	return false;
}

/* Rows that the last look did not show; those too old for it are not new. */
static int print_new(const struct log_args *o, const struct answer *a, const struct answer *before,
		     struct table_memory *memory)
{
	uint64_t oldest =
		before->n_rows == FOLLOW_ROWS ? row_key(o, before, before->n_rows - 1) : 0;
	struct table t;

	log_table(o, &t);
	for (size_t r = a->n_rows; r-- > 0;) {
		uint64_t key = row_key(o, a, r);

		if ((!o->events && key < oldest) || was_there(o, before, key))
			continue;
		put_row(&t, o, a, r);
	}
	if (o->common.json)
		table_json(&t, true, stdout);
	else if (o->common.csv)
		table_csv(&t, false, stdout);
	else if (table_rows(&t))
		table_human(&t, term_stdout(), false, memory, stdout);
	table_fini(&t);
	return fflush(stdout) ? EXIT_FAILED : EXIT_OK;
}

static int follow(const struct log_args *o, struct answer *before, struct table_memory *memory)
{
	const struct timespec period = { .tv_nsec = FOLLOW_PERIOD_MS * (long)NSEC_PER_MSEC };
	struct question q = log_question(o);
	int code = EXIT_OK;

	q.limit = FOLLOW_ROWS;
	while (!code) {
		struct answer a;

		nanosleep(&period, NULL);
		q.since_ns = format_now_ns() - FOLLOW_WINDOW_NS;
		code = ledger_ask(&o->common, &q, &a);
		if (code)
			break;
		code = print_new(o, &a, before, memory);
		answer_fini(before);
		*before = a;
	}
	return code;
}

static bool is_wanted(const struct log_args *o, const struct answer *a, size_t r)
{
	int64_t at_ns = answer_int(a, r, o->events ? "at_ns" : "started_ns");

	return r < (size_t)o->limit && (uint64_t)at_ns >= o->since_ns;
}

/* What is followed later is asked for at once, so that nothing falls between two questions. */
static int log_start(const struct log_args *o, struct answer *ret, struct table_memory *memory)
{
	struct question q = log_question(o);
	uint64_t window_ns = format_now_ns() - FOLLOW_WINDOW_NS;
	struct table t;
	int code;

	if (o->follow) {
		q.limit = MAX(q.limit, (int64_t)FOLLOW_ROWS);
		q.since_ns = MIN(q.since_ns, window_ns);
	}
	code = ledger_ask(&o->common, &q, ret);
	if (code)
		return code;
	log_table(o, &t);
	for (size_t r = ret->n_rows; r-- > 0;)
		if (is_wanted(o, ret, r))
			put_row(&t, o, ret, r);
	if (o->follow && o->common.json)
		table_json(&t, true, stdout);
	else if (o->follow && !o->common.csv)
		table_human(&t, term_stdout(), true, memory, stdout);
	else
		code = table_print(&t, &o->common,
				   o->events ? "no event in that time" : "no request in that time");
	table_fini(&t);
	fflush(stdout);
	return code;
}

static int check_outcome(const char *word)
{
	struct nearest near = nearest_start(str_of(word));

	for (unsigned i = 0; word && i < OUTCOME_MAX; i++) {
		if (!strcmp(outcome_name((enum outcome)i), word))
			return EXIT_OK;
		nearest_try(&near, str_of(outcome_name((enum outcome)i)));
	}
	return word ? cli_fail(EXIT_USAGE, "%s is no outcome%s: sallyport-log(1) lists them",
			       log_quote(str_of(word)), nearest_hint(&near).s)
		    : EXIT_OK;
}

int cmd_log(int argc, char **argv)
{
	struct log_args o = { .limit = 100 };
	struct answer a = { 0 };
	struct table_memory memory = { 0 };
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("log", &w, 0, 0) : code;
	if (code >= 0)
		return code;
	code = check_outcome(o.outcome);
	code = code ? code : log_start(&o, &a, &memory);
	if (!code && o.follow)
		code = follow(&o, &a, &memory);
	answer_fini(&a);
	return code;
}
