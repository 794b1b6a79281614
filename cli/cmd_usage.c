/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport usage`: what was used, by cgroup, tag, model and so on. */
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/format.h"
#include "cli/print.h"

const char *const usage_by_words[] = { "cgroup",    "tag", "model", "provider", "client",
				       "container", "day", "hour",  "user",	NULL };

struct usage_args {
	struct cli_common common;
	const char *by, *tag, *cgroup;
	uint64_t since_ns, until_ns;
	int64_t limit;
};
const struct cli_option usage_options[] = {
	{ "by", 'b', CLI_WORD, CLI_AT(usage_args, by), "WHAT", usage_by_words, "one row for each" },
	{ "since", 's', CLI_TIME, CLI_AT(usage_args, since_ns), "TIME", NULL,
	  "from then on: 2h, 7d, today, 2026-01-31" },
	{ "until", 0, CLI_TIME, CLI_AT(usage_args, until_ns), "TIME", NULL, "up to then" },
	{ "tag", 't', CLI_TAG, CLI_AT(usage_args, tag), "TAG", NULL, "of cgroups with this tag" },
	{ "cgroup", 'c', CLI_TEXT, CLI_AT(usage_args, cgroup), "PATH", NULL, "of this cgroup" },
	{ "limit", 'n', CLI_NUMBER, CLI_AT(usage_args, limit), "ROWS", NULL,
	  "so many rows at most" },
	CLI_OPTION_CSV(usage_args),
	{ 0 },
};

enum { U_TAGS, U_KEY };
static const struct column columns_template[] = {
	[U_TAGS] = { "tags", "TAGS", COL_TAGS, COL_CUT },
	[U_KEY] = { "key", "", COL_TEXT, COL_CUT },
	{ "requests", "REQUESTS", COL_COUNT, 0 },
	{ "input", "INPUT", COL_TOKENS, 0 },
	{ "output", "OUTPUT", COL_TOKENS, 0 },
	{ "cache_read", "CACHED", COL_TOKENS, COL_WEAK },
	{ "cache_write", "", COL_TOKENS, COL_DATA },
	{ "reasoning", "REASONING", COL_TOKENS, COL_WEAK },
	{ "cost", "COST", COL_TEXT, COL_HUMAN | COL_RIGHT },
	{ "cost_usd", "", COL_USD, COL_DATA },
	{ "unpriced", "", COL_COUNT, COL_DATA },
	{ "tool_calls", "TOOLS", COL_COUNT, COL_WEAK },
	{ "denied", "DENIED", COL_COUNT, 0 },
	{ "failed", "FAILED", COL_COUNT, COL_WEAK },
	{ "partial", "", COL_COUNT, COL_DATA },
	{ "last", "LAST SEEN", COL_AGO, COL_WEAK },
};

/* A mark where not every request has a price: the sum is then too low. */
static void put_cost(struct table *t, int64_t nanousd, int64_t unpriced)
{
	char text[FORMAT_BYTES + 1], usd[FORMAT_BYTES];

	format_usd(nanousd, usd);
	snprintf(text, sizeof(text), "%s%s", usd, unpriced ? "*" : "");
	if (unpriced && !nanousd)
		table_text(t, STR("unpriced"));
	else
		table_text(t, str_of(text));
}

static bool is_data(const struct usage_args *o)
{
	return o->common.json || o->common.csv;
}

static void put_key(struct table *t, const struct answer *a, size_t row, const struct usage_args *o)
{
	const struct answer_cell *c = answer_cell(a, row, "key");
	bool is_user = !strcmp(o->by, "user");
	const struct passwd *pw = is_user && c->kind == ANSWER_INT ? getpwuid((uid_t)c->n) : NULL;
	char number[FORMAT_BYTES], none[32];

	if (pw) {
		table_text(t, str_of(pw->pw_name));
	} else if (c->kind == ANSWER_INT) {
		snprintf(number, sizeof(number), "%" PRId64, c->n);
		table_text(t, str_of(number));
	} else if (!c->s.n && !is_data(o)) {
		/* A blank would look like a mistake of the table's. */
		snprintf(none, sizeof(none), "(no %s)", strcmp(o->by, "tag") ? o->by : "label");
		table_text(t, str_of(none));
	} else {
		table_text(t, c->s);
	}
}

static const char *const sums[] = { "requests",	   "input",	"output",	"cache_read",
				    "cache_write", "reasoning", "cost_nanousd", "unpriced",
				    "tool_calls",  "denied",	"failed",	"partial" };
enum {
	S_REQUESTS,
	S_INPUT,
	S_OUTPUT,
	S_READ,
	S_WRITE,
	S_REASONING,
	S_COST,
	S_UNPRICED,
	S_TOOLS,
	S_DENIED,
	S_FAILED,
	S_PARTIAL
};

static void put_numbers(struct table *t, const int64_t n[ARRAY_SIZE(sums)], int64_t last_ns)
{
	for (unsigned i = S_REQUESTS; i <= S_REASONING; i++)
		table_int(t, n[i]);
	put_cost(t, n[S_COST], n[S_UNPRICED]);
	table_int(t, n[S_COST]);
	table_int(t, n[S_UNPRICED]);
	table_int(t, n[S_TOOLS]);
	table_int(t, n[S_DENIED]);
	table_int(t, n[S_FAILED]);
	table_int(t, n[S_PARTIAL]);
	table_int(t, last_ns);
}

static void put_rows(struct table *t, const struct answer *a, const struct usage_args *o)
{
	bool total = !is_data(o) && a->n_rows > 1 && strcmp(o->by, "tag") != 0;
	int64_t all[ARRAY_SIZE(sums)] = { 0 }, last_ns = 0;

	for (size_t r = 0; r < a->n_rows; r++) {
		int64_t n[ARRAY_SIZE(sums)];

		for (unsigned i = 0; i < ARRAY_SIZE(sums); i++) {
			n[i] = answer_int(a, r, sums[i]);
			if (__builtin_add_overflow(all[i], n[i], &all[i]))
				all[i] = INT64_MAX;
		}
		last_ns = MAX(last_ns, answer_int(a, r, "last_ns"));
		table_text(t, answer_text(a, r, "tags"));
		put_key(t, a, r, o);
		put_numbers(t, n, answer_int(a, r, "last_ns"));
	}
	if (!total)
		return;
	/* Not by tag: a cgroup with two tags is in two rows. */
	table_text(t, STR("total"));
	table_text(t, STR(""));
	put_numbers(t, all, last_ns);
}

static void columns_for(const char *by, struct column ret[ARRAY_SIZE(columns_template)])
{
	static char title[16];
	bool with_tags = !strcmp(by, "cgroup") || !strcmp(by, "container");

	memcpy(ret, columns_template, sizeof(columns_template));
	str_copy(title, sizeof(title), str_of(by));
	for (char *p = title; *p; p++)
		*p = (char)(*p - 'a' + 'A');
	ret[U_KEY].key = by;
	ret[U_KEY].title = title;
	if (!strcmp(by, "cgroup"))
		ret[U_KEY].flags = COL_TAIL;
	if (!with_tags) {
		/* The word "total" needs a place: the first column that is shown. */
		ret[U_TAGS].flags |= COL_DATA;
	}
}

static void footnotes(const struct answer *a)
{
	int64_t unpriced = 0, partial = 0;

	for (size_t r = 0; r < a->n_rows; r++) {
		unpriced += answer_int(a, r, "unpriced");
		partial += answer_int(a, r, "partial");
	}
	if (unpriced)
		printf("\n* %" PRId64
		       " requests went to models without a price, their cost is not in the sum: add prices "
		       "(sallyport-policy(5), cost_basis and model_cost_map)\n",
		       unpriced);
	if (partial)
		printf("%s%" PRId64
		       " answers were not whole; they count with what was seen of them\n",
		       unpriced ? "" : "\n", partial);
}

/* What was asked for, of which there is nothing. */
static void nothing_text(const struct usage_args *o, char *ret, size_t size)
{
	snprintf(ret, size, "nothing was used%s%s%s%s%s", o->cgroup ? " by " : "", o->cgroup ? o->cgroup : "",
		 o->tag ? " with " : "", o->tag ? o->tag : "",
		 o->since_ns || o->until_ns ? " in that time" : " yet");
}

static int usage_print(const struct usage_args *o, const struct answer *a)
{
	struct column columns[ARRAY_SIZE(columns_template)];
	struct table t;
	char nothing[640];
	int code;

	nothing_text(o, nothing, sizeof(nothing));
	columns_for(o->by, columns);
	table_init(&t, columns, ARRAY_SIZE(columns));
	put_rows(&t, a, o);
	if (columns[U_TAGS].flags & COL_DATA && t.n_cells && !is_data(o) && a->n_rows > 1 && strcmp(o->by, "tag") != 0)
		/* The total's word moves into the column that is shown. */
		t.cells[t.n_cells - t.n_columns + U_KEY] =
			t.cells[t.n_cells - t.n_columns + U_TAGS];
	code = table_print(&t, &o->common, nothing);
	if (!code && !is_data(o))
		footnotes(a);
	table_fini(&t);
	return code;
}

int cmd_usage(int argc, char **argv)
{
	struct usage_args o = { .by = "cgroup", .limit = 100000 };
	struct question q = { .op = "usage" };
	struct answer a;
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("usage", &w, 0, 0) : code;
	if (code >= 0)
		return code;
	q.by = o.by;
	q.tag = o.tag;
	q.cgroup = o.cgroup;
	q.since_ns = o.since_ns;
	q.until_ns = o.until_ns;
	q.limit = o.limit;
	code = ledger_ask(&o.common, &q, &a);
	if (code)
		return code;
	code = usage_print(&o, &a);
	answer_fini(&a);
	return code;
}
