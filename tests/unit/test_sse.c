/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/sse.h"

#include "common/buf.h"
#include "tests/unit/test.h"

static void on_line(void *arg)
{
	buf_puts(arg, STR("<"));
}

static void on_data(void *arg, const char *data, size_t n)
{
	buf_append(arg, data, n);
}

static void on_line_end(void *arg)
{
	buf_puts(arg, STR(">"));
}

static void on_dispatch(void *arg, struct str name)
{
	buf_printf(arg, "!%.*s\n", STR_ARG(name));
}

static const struct sse_ops ops = {
	.line = on_line, .data = on_data, .line_end = on_line_end, .dispatch = on_dispatch
};

static void check_cut(struct str in, const char *want, size_t a, size_t b)
{
	struct buf out;
	struct sse s;

	buf_init(&out, 1 << 16);
	sse_init(&s, &ops, &out);
	if (a == SIZE_MAX) {
		for (size_t i = 0; i < in.n; i++)
			sse_feed(&s, in.s + i, 1);
	} else {
		sse_feed(&s, in.s, a);
		sse_feed(&s, in.s + a, b - a);
		sse_feed(&s, in.s + b, in.n - b);
	}
	buf_append(&out, "", 1);
	CHECK_STR(out.data, want);
	buf_fini(&out);
}

static void check(const char *in, const char *want)
{
	struct str s = str_of(in);

	check_cut(s, want, s.n, s.n);
	check_cut(s, want, SIZE_MAX, 0);
	for (size_t i = 0; i <= s.n; i++)
		check_cut(s, want, i, MIN(i + 2, s.n));
}

static void events(void)
{
	check("data: a\n\ndata:b\n\n", "<a>!\n<b>!\n");
	check("event: x\ndata: a\n\ndata: b\n\n", "<a>!x\n<b>!\n");
	check("data:  two blanks\n\n", "< two blanks>!\n");
	check("data: a", "<a");
	check("data: a\n", "<a>");
}

static void line_ends(void)
{
	check("event: e\r\ndata: a\r\n\r\ndata: b\r\n\r\n", "<a>!e\n<b>!\n");
	check("event: e\rdata: a\r\rdata: b\r\r", "<a>!e\n<b>!\n");
	check("data: a\r\ndata: b\r\rdata: c\n\r\n", "<a><b>!\n<c>!\n");
}

static void several_data_lines_are_one_event(void)
{
	check("data: a\ndata: b\ndata\ndata:\n\n", "<a><b><><>!\n");
}

static void what_is_ignored(void)
{
	check(": comment\n\n:\n\nid: 1\nretry: 5\n\n", "");
	check("foo: x\ndatas: y\ndat: z\nerror: {}\ndata: a\n\n", "<a>!\n");
	check("a very long field name indeed: x\ndata: a\n\n", "<a>!\n");
	check(" data: x\n\n", "");
	check("event: gone\n\ndata: a\n\n", "<a>!\n");
	check("\n\n\n", "");
}

static void byte_order_mark(void)
{
	check("\xef\xbb\xbf"
	      "data: a\n\n",
	      "<a>!\n");
	check("data: \xef\xbb\xbf\n\n", "<\xef\xbb\xbf>!\n");
}

static void names_are_cut(void)
{
	check("event: 0123456789012345678901234567890123456789012345678901234567890\ndata: a\n\n",
	      "<a>!012345678901234567890123456789012345678901234567\n");
	check("event: a\nevent: b\ndata: x\n\n", "<x>!b\n");
	check("event\ndata: x\n\n", "<x>!\n");
}

static bool skip_idle(void *arg, struct str line)
{
	(void)arg;
	return str_starts(line, STR("idle"));
}

/* A line that is passed over says nothing, and its event is still told; cut in two it is read like
 * any other. */
static void idle_lines_are_passed_over(void)
{
	static const struct sse_ops skipping = { .line = on_line,
						 .data = on_data,
						 .line_end = on_line_end,
						 .dispatch = on_dispatch,
						 .skip = skip_idle };
	const char *text =
		"event: a\ndata: idle 1\n\ndata: x\r\n\r\ndata: idle 2\r\n\r\ndata:idle 3\n\n";
	struct buf out;
	struct sse s;

	buf_init(&out, 1 << 16);
	sse_init(&s, &skipping, &out);
	sse_feed(&s, text, strlen(text));
	sse_feed(&s, "data: idl", 9);
	sse_feed(&s, "e 4\n\n", 5);
	buf_append(&out, "", 1);
	CHECK_STR(out.data, "!a\n<x>!\n!\n<idle 3>!\n<idle 4>!\n");
	buf_fini(&out);
}

TESTS(T(idle_lines_are_passed_over), T(events), T(line_ends), T(several_data_lines_are_one_event),
      T(what_is_ignored), T(byte_order_mark), T(names_are_cut))
