/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport tools`: what the agents ran, the newest last, as in a log. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"

/* In the order of the ledger's numbers: enum tool_meaning. */
const char *const tools_kind_words[] = { "shell", "file", "search", "web", "mcp", "other", NULL };
static const char *const meaning_names[] = { "other", "shell", "file", "search", "web", "mcp" };

struct tools_args {
	struct cli_common common;
	const char *kind, *tag, *cgroup;
	uint64_t since_ns, until_ns;
	int64_t limit;
	bool full;
};
const struct cli_option tools_options[] = {
	{ "kind", 'k', CLI_WORD, CLI_AT(tools_args, kind), "KIND", tools_kind_words,
	  "of this kind only" },
	{ "since", 's', CLI_TIME, CLI_AT(tools_args, since_ns), "TIME", NULL,
	  "from then on: 2h, 7d, today, 2026-01-31" },
	{ "until", 0, CLI_TIME, CLI_AT(tools_args, until_ns), "TIME", NULL, "up to then" },
	{ "tag", 't', CLI_TAG, CLI_AT(tools_args, tag), "TAG", NULL, "of cgroups with this tag" },
	{ "cgroup", 'c', CLI_TEXT, CLI_AT(tools_args, cgroup), "PATH", NULL, "of this cgroup" },
	{ "limit", 'n', CLI_NUMBER, CLI_AT(tools_args, limit), "ROWS", NULL,
	  "the newest so many (100)" },
	{ "full", 0, CLI_FLAG, CLI_AT(tools_args, full), NULL, NULL,
	  "the arguments as they came, in place of the short form" },
	CLI_OPTION_CSV(tools_args),
	{ 0 },
};

static const struct column columns[] = {
	{ "at", "TIME", COL_CLOCK, 0 },
	{ "tags", "TAGS", COL_TAGS, COL_CUT },
	{ "cgroup", "CGROUP", COL_TEXT, COL_DATA },
	{ "kind", "KIND", COL_TEXT, 0 },
	{ "tool", "TOOL", COL_TEXT, COL_CUT },
	{ "server", "SERVER", COL_TEXT, COL_DATA },
	{ "result", "RESULT", COL_TEXT, COL_STATE },
	{ "summary", "WHAT", COL_TEXT, COL_CUT },
	{ "result_bytes", "", COL_BYTES, COL_DATA },
	{ "complete", "", COL_BOOL, COL_DATA },
	{ "arguments", "", COL_TEXT, COL_DATA },
	{ "session", "", COL_TEXT, COL_DATA },
	{ "call_id", "", COL_TEXT, COL_DATA },
	{ "request", "", COL_ID, COL_DATA },
};

static void put_optional(struct table *t, const struct answer_cell *c)
{
	if (c->kind == ANSWER_INT)
		table_int(t, c->n);
	else
		table_null(t);
}

/* The result comes with the agent's next request, if it ran the tool at all. */
static const char *result_word(const struct answer *a, size_t r)
{
	const struct answer_cell *err = answer_cell(a, r, "result_error");

	if (!answer_int(a, r, "complete"))
		return "cut";
	if (err->kind != ANSWER_INT)
		return "-";
	return err->n ? "error" : "ok";
}

static void put_row(struct table *t, const struct answer *a, size_t r, bool full)
{
	uint64_t meaning = (uint64_t)answer_int(a, r, "meaning");

	table_int(t, answer_int(a, r, "at_ns"));
	table_text(t, answer_text(a, r, "tags"));
	table_text(t, answer_text(a, r, "cgroup"));
	table_text(t, str_of(meaning < ARRAY_SIZE(meaning_names) ? meaning_names[meaning] : "?"));
	table_text(t, answer_text(a, r, "name"));
	table_text(t, answer_text(a, r, "server"));
	table_text(t, str_of(result_word(a, r)));
	table_text(t, answer_text(a, r, full ? "arguments" : "summary"));
	put_optional(t, answer_cell(a, r, "result_bytes"));
	table_int(t, answer_int(a, r, "complete"));
	table_text(t, answer_text(a, r, "arguments"));
	table_text(t, answer_text(a, r, "session"));
	table_text(t, answer_text(a, r, "call_id"));
	table_int(t, answer_int(a, r, "request_id"));
}

int cmd_tools(int argc, char **argv)
{
	struct tools_args o = { .limit = 100 };
	struct question q = { .op = "tools" };
	struct answer a;
	struct table t;
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("tools", &w, 0, 0) : code;
	if (code >= 0)
		return code;
	q.meaning = o.kind;
	q.tag = o.tag;
	q.cgroup = o.cgroup;
	q.since_ns = o.since_ns;
	q.until_ns = o.until_ns;
	q.limit = o.limit;
	code = ledger_ask(&o.common, &q, &a);
	if (code)
		return code;
	table_init(&t, columns, ARRAY_SIZE(columns));
	for (size_t r = a.n_rows; r-- > 0;)
		put_row(&t, &a, r, o.full && !o.common.json && !o.common.csv);
	code = table_print(&t, &o.common, "no tool was called in that time");
	table_fini(&t);
	answer_fini(&a);
	return code;
}
