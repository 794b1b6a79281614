/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport quota`: the balances of quotas, and filling one up by hand. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/format.h"
#include "cli/print.h"
#include "common/log.h"
#include "policy/diag.h"
#include "policy/units.h"

const char *const quota_words[] = { "list", "refill", NULL };

struct quota_args {
	struct cli_common common;
};
const struct cli_option quota_options[] = {
	CLI_OPTION_CSV(quota_args),
	{ 0 },
};

static const struct column columns[] = {
	{ "bucket", "BUCKET", COL_TEXT, COL_CUT },
	{ "unit", "", COL_TEXT, COL_DATA },
	{ "left", "LEFT", COL_TEXT, COL_HUMAN | COL_RIGHT },
	{ "of", "OF", COL_TEXT, COL_HUMAN | COL_RIGHT },
	{ "percent", "", COL_TEXT, COL_HUMAN | COL_RIGHT },
	{ "reserved", "RESERVED", COL_TEXT, COL_HUMAN | COL_RIGHT | COL_MAYBE },
	{ "refill", "REFILL", COL_TEXT, COL_HUMAN },
	{ "balance", "", COL_INT, COL_DATA },
	{ "capacity", "", COL_INT, COL_DATA },
	{ "rate", "", COL_INT, COL_DATA },
	{ "rate_period_ns", "", COL_INT, COL_DATA },
	{ "held", "", COL_INT, COL_DATA },
};

static enum quota_unit unit_of(struct str name)
{
	unsigned i = 0;

	while (i < QUOTA_UNIT_MAX && !str_eq(str_of(quota_unit_name((enum quota_unit)i)), name))
		i++;
	return (enum quota_unit)i;
}

/* Short: a bucket may hold $3.2143 and millions of tokens. */
static struct units_text amount_text(enum quota_unit unit, int64_t n)
{
	struct units_text t = { "" };
	char room[FORMAT_BYTES];

	if (unit == QUOTA_NANOUSD) {
		format_usd(n, room);
		str_copy(t.s, sizeof(t.s), str_of(room));
		return t;
	}
	if (unit == QUOTA_TOKENS)
		format_tokens(n, room);
	else
		format_count(n, room);
	snprintf(t.s, sizeof(t.s), "%.30s %s", room, unit == QUOTA_TOKENS ? "tokens" : "requests");
	return t;
}

static void put_refill(struct table *t, enum quota_unit unit, int64_t rate, uint64_t period_ns)
{
	char text[128];
	const char *period = period_ns == 86400 * NSEC_PER_SEC	? "day"
			     : period_ns == 3600 * NSEC_PER_SEC ? "hour"
			     : period_ns == 60 * NSEC_PER_SEC	? "minute"
			     : period_ns == NSEC_PER_SEC	? "second"
								: NULL;

	if (!rate) {
		table_text(t, STR("never"));
		return;
	}
	snprintf(text, sizeof(text), "%s/%s", amount_text(unit, rate).s,
		 period ? period : units_duration_text(period_ns).s);
	table_text(t, str_of(text));
}

static void put_row(struct table *t, const struct answer *a, size_t r)
{
	enum quota_unit unit = unit_of(answer_text(a, r, "unit"));
	int64_t balance = answer_int(a, r, "balance"), capacity = answer_int(a, r, "capacity"),
		held = answer_int(a, r, "held");
	char percent[16];

	table_text(t, answer_text(a, r, "bucket"));
	/* The numbers of the data are in this unit. */
	table_text(t, unit == QUOTA_NANOUSD ? STR("nanousd") : answer_text(a, r, "unit"));
	table_text(t, str_of(amount_text(unit, balance).s));
	table_text(t, str_of(amount_text(unit, capacity).s));
	snprintf(percent, sizeof(percent), "%.0f%%",
		 capacity > 0 ? 100.0 * (double)balance / (double)capacity : 0);
	table_text(t, str_of(percent));
	table_text(t, held ? str_of(amount_text(unit, held).s) : STR(""));
	put_refill(t, unit, answer_int(a, r, "rate"), (uint64_t)answer_int(a, r, "rate_period_ns"));
	table_int(t, balance);
	table_int(t, capacity);
	table_int(t, answer_int(a, r, "rate"));
	table_int(t, answer_int(a, r, "rate_period_ns"));
	table_int(t, held);
}

static int quota_list(const struct cli_common *o)
{
	struct question q = { .op = "quota" };
	struct answer a;
	struct table t;
	int code = ledger_ask(o, &q, &a);

	if (code)
		return code;
	table_init(&t, columns, ARRAY_SIZE(columns));
	for (size_t r = 0; r < a.n_rows; r++)
		put_row(&t, &a, r);
	code = table_print(&t, o, "no quota was used yet: buckets appear with their first request");
	table_fini(&t);
	answer_fini(&a);
	return code;
}

/* "$5.00", "2M tokens", or a bare number in the bucket's unit. */
static int refill_amount(const struct answer *a, const char *bucket, const char *text, int64_t *ret)
{
	struct nearest near = nearest_start(str_of(bucket));
	enum quota_unit unit = QUOTA_UNIT_MAX;
	int64_t n = 0;
	bool found = false;
	char with_unit[128];

	for (size_t r = 0; r < a->n_rows; r++) {
		enum quota_unit its = unit_of(answer_text(a, r, "unit"));

		nearest_try(&near, answer_text(a, r, "bucket"));
		if (!str_eq(answer_text(a, r, "bucket"), str_of(bucket)))
			continue;
		found = true;
		if (!text || its >= QUOTA_UNIT_MAX)
			continue;
		snprintf(with_unit, sizeof(with_unit), "%s%.60s%s",
			 its == QUOTA_NANOUSD && text[0] != '$' ? "$" : "", text,
			 its == QUOTA_NANOUSD || strpbrk(text, "$ ") ? ""
			 : its == QUOTA_TOKENS			     ? " tokens"
								     : " requests");
		if (!units_amount(str_of(with_unit), &unit, &n) && unit == its && n > 0) {
			*ret = n;
			return EXIT_OK;
		}
	}
	if (!found)
		return cli_fail(EXIT_FAILED,
				"there is no bucket %s%s: `sallyport quota` lists them",
				log_quote(str_of(bucket)), nearest_hint(&near).s);
	if (!text)
		return EXIT_OK;
	return cli_fail(
		EXIT_USAGE,
		"%s is no amount for this bucket: write it in the bucket's unit, as $5.00, 100 or 2M",
		log_quote(str_of(text)));
}

static int quota_refill(const struct cli_common *o, const char *bucket, const char *amount)
{
	struct question list = { .op = "quota" },
			q = { .op = "refill", .bucket = bucket, .has_amount = amount != NULL };
	struct answer a;
	int code = ledger_ask(o, &list, &a);

	code = code ? code : refill_amount(&a, bucket, amount, &q.amount);
	answer_fini(&a);
	if (code)
		return code;
	code = ledger_ask(o, &q, &a);
	answer_fini(&a);
	if (!code)
		puts(o->json  ? "{\"ok\":true}"
		     : amount ? "added, to the capacity at most"
			      : "filled up");
	return code;
}

int cmd_quota(int argc, char **argv)
{
	struct quota_args o = { 0 };
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	if (code >= 0)
		return code;
	if (!w.n || !strcmp(w.items[0], "list")) {
		code = cli_count("quota", &w, 0, 1);
		return code >= 0 ? code : quota_list(&o.common);
	}
	if (strcmp(w.items[0], "refill") != 0)
		return cli_fail(
			EXIT_USAGE,
			"%s is neither list nor refill: sallyport quota refill BUCKET [AMOUNT]",
			log_quote(str_of(w.items[0])));
	code = cli_count("quota", &w, 2, 4);
	if (code >= 0)
		return code;
	if (w.n == 4) { /* "2M tokens" without quotes */
		char amount[128];

		snprintf(amount, sizeof(amount), "%.60s %.60s", w.items[2], w.items[3]);
		return quota_refill(&o.common, w.items[1], amount);
	}
	return quota_refill(&o.common, w.items[1], w.n == 3 ? w.items[2] : NULL);
}
