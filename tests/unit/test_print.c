/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/print.h"
#include "tests/unit/test.h"

enum { N_COLUMNS = 6 };
static const struct column columns[N_COLUMNS] = {
	{ "tags", "TAGS", COL_TAGS, COL_CUT },
	{ "cgroup", "CGROUP", COL_TEXT, COL_TAIL },
	{ "requests", "REQUESTS", COL_COUNT, 0 },
	{ "cost", "COST", COL_USD, 0 },
	{ "secret", "", COL_INT, COL_DATA },
	{ "note", "NOTE", COL_TEXT, COL_MAYBE | COL_HUMAN },
};

static void fill(struct table *t)
{
	table_init(t, columns, N_COLUMNS);
	table_text(t, STR("tag:a,tag:b"));
	table_text(t, STR("/sallyport/run/claude-17"));
	table_int(t, 1234);
	table_int(t, 1234567890);
	table_int(t, INT64_MAX);
	table_text(t, STR(""));
	table_text(t, STR("tag:c"));
	table_text(t, STR("/x\"y,\n"));
	table_null(t);
	table_int(t, 0);
	table_null(t);
	table_text(t, STR(""));
}

static void check_output(void (*print)(const struct table *t, FILE *f), const char *want)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	struct table t;

	fill(&t);
	CHECK_INT(t.err, 0);
	CHECK_INT(table_rows(&t), 2);
	print(&t, f);
	fclose(f);
	CHECK_STR(text, want);
	free(text);
	table_fini(&t);
}

static void print_wide(const struct table *t, FILE *f)
{
	table_human(t, &(struct term){ .utf8 = true }, true, NULL, f);
}

static void print_narrow(const struct table *t, FILE *f)
{
	table_human(t, &(struct term){ .utf8 = true, .width = 44 }, true, NULL, f);
}

static void print_ascii(const struct table *t, FILE *f)
{
	table_human(t, &(struct term){ .width = 40 }, false, NULL, f);
}

static void print_json(const struct table *t, FILE *f)
{
	table_json(t, false, f);
}

static void print_lines(const struct table *t, FILE *f)
{
	table_json(t, true, f);
}

static void print_csv(const struct table *t, FILE *f)
{
	table_csv(t, true, f);
}

static void human(void)
{
	check_output(print_wide, "TAGS         CGROUP                    REQUESTS   COST\n"
				 "tag:a,tag:b  /sallyport/run/claude-17     1,234  $1.23\n"
				 "tag:c        /x\"y,                               $0.00\n");
	check_output(print_narrow, "TAGS         CGROUP          REQUESTS   COST\n"
				   "tag:a,tag:b  …run/claude-17     1,234  $1.23\n"
				   "tag:c        /x\"y,                     $0.00\n");
}

/* The widths are right: no line is longer than the terminal. */
static void narrow_fits(void)
{
	for (unsigned width = 40; width < 80; width++) {
		char *text = NULL, *line, *save = NULL;
		size_t n = 0;
		FILE *f = open_memstream(&text, &n);
		struct table t;

		fill(&t);
		table_human(&t, &(struct term){ .utf8 = false, .width = width }, true, NULL, f);
		fclose(f);
		for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
			CHECK(strlen(line) <= width);
		free(text);
		table_fini(&t);
	}
}

static void ascii(void)
{
	check_output(print_ascii, "tag:a,tag~  ~/claude-17     1,234  $1.23\n"
				  "tag:c       /x\"y,                  $0.00\n");
}

/* Pieces of one table stand below each other. */
static void pieces(void)
{
	static const struct column two[] = { { "a", "A", COL_TEXT, 0 }, { "b", "B", COL_TEXT, 0 } };
	struct table_memory memory = { 0 };
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	for (unsigned i = 0; i < 2; i++) {
		struct table t;

		table_init(&t, two, 2);
		table_text(&t, i ? STR("x") : STR("wide one"));
		table_text(&t, STR("y"));
		table_human(&t, &(struct term){ .utf8 = true }, !i, &memory, f);
		table_fini(&t);
	}
	fclose(f);
	CHECK_STR(text, "A         B\nwide one  y\nx         y\n");
	free(text);
}

static void json(void)
{
	check_output(
		print_json,
		"[\n {\"tags\":[\"tag:a\",\"tag:b\"],\"cgroup\":\"/sallyport/run/claude-17\",\"requests\":1234,\"cost\":1.234567890,"
		"\"secret\":9223372036854775807},\n"
		" {\"tags\":[\"tag:c\"],\"cgroup\":\"/x\\\"y,\\n\",\"requests\":null,\"cost\":0.000000000,\"secret\":null}\n]\n");
	check_output(
		print_lines,
		"{\"tags\":[\"tag:a\",\"tag:b\"],\"cgroup\":\"/sallyport/run/claude-17\",\"requests\":1234,\"cost\":1.234567890,"
		"\"secret\":9223372036854775807}\n"
		"{\"tags\":[\"tag:c\"],\"cgroup\":\"/x\\\"y,\\n\",\"requests\":null,\"cost\":0.000000000,\"secret\":null}\n");
}

static void csv(void)
{
	check_output(
		print_csv,
		"tags,cgroup,requests,cost,secret\n"
		"\"tag:a,tag:b\",/sallyport/run/claude-17,1234,1.234567890,9223372036854775807\n"
		"tag:c,\"/x\"\"y,\n\",,0.000000000,\n");
}

static void empty(void)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	struct table t;

	table_init(&t, columns, N_COLUMNS);
	table_json(&t, false, f);
	table_csv(&t, true, f);
	fclose(f);
	CHECK_STR(text, "[]\ntags,cgroup,requests,cost,secret\n");
	free(text);
	table_fini(&t);
}

static void reverse(void)
{
	struct table t;

	fill(&t);
	table_reverse(&t);
	CHECK_INT(t.cells[2].kind, CELL_NULL);
	CHECK_INT(t.cells[N_COLUMNS + 2].n, 1234);
	table_fini(&t);
}

static void utf8_decision(void)
{
	CHECK(term_utf8(NULL, NULL, "C.UTF-8", true, false));
	CHECK(!term_utf8(NULL, NULL, "C", true, true));
	CHECK(!term_utf8("POSIX", "de_DE.UTF-8", "de_DE.UTF-8", true, true));
	CHECK(term_utf8("", "de_DE.utf8", "C", true, false));
	CHECK(term_utf8(NULL, NULL, NULL, true, true)); /* the terminal says so */
	CHECK(!term_utf8(NULL, NULL, NULL, true, false));
	CHECK(term_utf8(NULL, NULL, "", false, false)); /* a file keeps the bytes */
}

static void colors(void)
{
	struct term with = { .color = true }, without = { 0 };

	CHECK_STR(print_color(&without, STR("fail")), "");
	CHECK(strcmp(print_color(&with, STR("fail")), print_color(&with, STR("ok"))) != 0);
	CHECK(*print_color(&with, STR("denied_quota")));
	CHECK_STR(print_color(&with, STR("tag:x")), "");
}

static void json_objects(void)
{
	struct json_out j;

	json_out_init(&j);
	json_out_open(&j, NULL, '{');
	json_out_text(&j, "a", STR("x\"y"));
	json_out_int(&j, "n", INT64_MIN);
	json_out_open(&j, "list", '[');
	json_out_close(&j, ']');
	json_out_tags(&j, "tags", STR("tag:a,tag:b"));
	json_out_bool(&j, "b", true);
	json_out_time(&j, "t", 0);
	json_out_close(&j, '}');
	buf_append(&j.buf, "", 1);
	CHECK_INT(j.err, 0);
	CHECK_STR(
		buf_head(&j.buf),
		"{\"a\":\"x\\\"y\",\"n\":-9223372036854775808,\"list\":[],\"tags\":[\"tag:a\",\"tag:b\"],"
		"\"b\":true,\"t\":null}");
	buf_fini(&j.buf);
}

TESTS(T(human), T(narrow_fits), T(ascii), T(pieces), T(json), T(csv), T(empty), T(reverse),
      T(utf8_decision), T(colors), T(json_objects))
