/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/format.h"
#include "tests/unit/test.h"

static const uint64_t now_ns = 1795237460ULL * NSEC_PER_SEC; /* 2026-11-21T05:04:20Z */

static void numbers(void)
{
	static const struct {
		int64_t n;
		const char *count, *tokens;
	} cases[] = {
		{ 0, "0", "0" },
		{ 999, "999", "999" },
		{ 1000, "1,000", "1,000" },
		{ 9999, "9,999", "9,999" },
		{ 10000, "10,000", "10.0k" },
		{ 12345, "12,345", "12.3k" },
		{ 123456, "123,456", "123k" },
		{ 999999, "999,999", "1.00M" },
		{ 4560000, "4,560,000", "4.56M" },
		{ -12345, "-12,345", "-12.3k" },
		{ INT64_MAX, "9,223,372,036,854,775,807", "9223372T" },
		{ INT64_MIN, "-9,223,372,036,854,775,808", "-9223372T" },
	};
	char room[FORMAT_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		format_count(cases[i].n, room);
		CHECK_STR(room, cases[i].count);
		format_tokens(cases[i].n, room);
		CHECK_STR(room, cases[i].tokens);
	}
}

static void dollars(void)
{
	static const struct {
		int64_t nano;
		const char *text, *exact;
	} cases[] = {
		{ 0, "$0.00", "0.000000000" },
		{ 1, "<$0.000001", "0.000000001" },
		{ 499, "<$0.000001", "0.000000499" },
		{ 2000, "$0.000002", "0.000002000" },
		{ 726000, "$0.00073", "0.000726000" },
		{ 4200000, "$0.0042", "0.004200000" },
		{ 10000000, "$0.01", "0.010000000" },
		{ 1234567890, "$1.23", "1.234567890" },
		{ 1995000000, "$2.00", "1.995000000" },
		{ 1234500000000, "$1,234.50", "1234.500000000" },
		{ -1234500000000, "-$1,234.50", "-1234.500000000" },
	};
	char room[FORMAT_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		format_usd(cases[i].nano, room);
		CHECK_STR(room, cases[i].text);
		format_usd_exact(cases[i].nano, room);
		CHECK_STR(room, cases[i].exact);
	}
	format_usd(INT64_MIN, room);
	CHECK_STR(room, "-$9,223,372,036.85");
}

static void sizes_and_durations(void)
{
	char room[FORMAT_BYTES];

	format_bytes(0, room);
	CHECK_STR(room, "0 B");
	format_bytes(1023, room);
	CHECK_STR(room, "1023 B");
	format_bytes(4200, room);
	CHECK_STR(room, "4.1 KiB");
	format_bytes(80ll << 30, room);
	CHECK_STR(room, "80 GiB");
	format_duration(0, room);
	CHECK_STR(room, "0 us");
	format_duration(12345, room);
	CHECK_STR(room, "12 ms");
	format_duration(1234567, room);
	CHECK_STR(room, "1.2 s");
	format_duration(200 * USEC_PER_SEC, room);
	CHECK_STR(room, "3m20s");
	format_duration(7265 * USEC_PER_SEC, room);
	CHECK_STR(room, "2h01m");
}

static void times(void)
{
	char room[FORMAT_BYTES];

	format_ago(0, now_ns, room);
	CHECK_STR(room, "-");
	format_ago(now_ns + NSEC_PER_SEC, now_ns, room);
	CHECK_STR(room, "now");
	format_ago(now_ns - 59 * NSEC_PER_SEC, now_ns, room);
	CHECK_STR(room, "59s ago");
	format_ago(now_ns - 3599 * NSEC_PER_SEC, now_ns, room);
	CHECK_STR(room, "59m ago");
	format_ago(now_ns - 47 * 3600 * NSEC_PER_SEC, now_ns, room);
	CHECK_STR(room, "47h ago");
	format_ago(now_ns - 49 * 3600 * NSEC_PER_SEC, now_ns, room);
	CHECK_STR(room, "2d ago");
	format_rfc3339(now_ns + 5, room);
	CHECK_STR(room, "2026-11-21T05:04:20.000000005Z");
	setenv("TZ", "UTC", 1);
	format_clock(now_ns - NSEC_PER_SEC, now_ns, room);
	CHECK_STR(room, "05:04:19");
	format_clock(now_ns - 6 * 3600 * NSEC_PER_SEC, now_ns, room);
	CHECK_STR(room, "11-20 23:04:20");
	format_clock(0, now_ns, room);
	CHECK_STR(room, "1970-01-01 00:00:00");
}

static void time_words(void)
{
	static const struct {
		const char *text;
		uint64_t seconds;
	} good[] = {
		{ "2h", 1795237460 - 7200 },
		{ "1h30m", 1795237460 - 5400 },
		{ "7d", 1795237460 - 7 * 86400 },
		{ "1w", 1795237460 - 7 * 86400 },
		{ "0s", 1795237460 },
		{ "now", 1795237460 },
		{ "today", 1795219200 },
		{ "yesterday", 1795219200 - 86400 },
		{ "2026-11-20", 1795219200 - 86400 },
		{ "2026-11-20T10:30", 1795219200 - 86400 + 37800 },
		{ "2026-11-20T10:30:05Z", 1795219200 - 86400 + 37805 },
		{ "2026-11-20 10:30:05", 1795219200 - 86400 + 37805 },
	};
	static const char *const bad[] = { "",
					   "h",
					   "2",
					   "2x",
					   "-2h",
					   "2h ",
					   "99999999999999999999h",
					   "2026-02-31",
					   "2026-13-01",
					   "2026-11-20T25:00",
					   "2026-11-20T",
					   "2026-11-20x",
					   "1900-01-01",
					   "yesterdy",
					   "20261120" };
	uint64_t ns;

	setenv("TZ", "UTC", 1);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		ns = 0;
		CHECK(format_parse_time(good[i].text, now_ns, &ns));
		CHECK_INT(ns / NSEC_PER_SEC, good[i].seconds);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ns = 42;
		if (format_parse_time(bad[i], now_ns, &ns))
			printf("taken: \"%s\"\n", bad[i]), test_failures++;
		CHECK_INT(ns, 42);
	}
}

static void check_clean(const char *in, size_t n, bool utf8, const char *want)
{
	struct buf b;

	buf_init(&b, 4096);
	CHECK_INT(format_clean((struct str){ in, n }, utf8, &b), 0);
	buf_append(&b, "", 1);
	CHECK_STR(buf_head(&b), want);
	buf_fini(&b);
}
#define CLEAN(in, utf8, want) check_clean(in, sizeof(in) - 1, utf8, want)

static void clean_text(void)
{
	CLEAN("plain", true, "plain");
	CLEAN("a\nb\tc", true, "a b c");
	CLEAN("\033[2Jrm", true, "?[2Jrm");
	CLEAN("a\0b\x7f", true, "a?b?");
	CLEAN("h\303\251", true, "h\303\251");
	CLEAN("h\303\251", false, "h?");
	CLEAN("\302\233x", true, "?x");			/* CSI as one character */
	CLEAN("\342\200\256evil", true, "?evil");	/* right-to-left override */
	CLEAN("\300\257 \355\240\200", true, "?? ???"); /* overlong, surrogate */
	CLEAN("\360\237\230\200\377\342\202", true, "\360\237\230\200???");
}

static void widths(void)
{
	CHECK_INT(format_width(STR("abc")), 3);
	CHECK_INT(format_width(STR("h\303\251")), 2);
	CHECK_INT(format_width(STR("\346\227\245\346\234\254")), 4); /* two wide characters */
	CHECK_INT(format_width(STR("e\314\201")), 1);		     /* combining accent */
	CHECK_INT(format_fit(STR("abcdef"), 4, false), 4);
	CHECK_INT(format_fit(STR("abcdef"), 4, true), 4);
	CHECK_INT(format_fit(STR("abc"), 10, true), 3);
	CHECK_INT(format_fit(STR("\346\227\245\346\234\254"), 3, false), 3);
	CHECK_INT(format_fit(STR("\346\227\245\346\234\254"), 3, true), 3);
	CHECK_INT(format_fit(STR("abc"), 0, false), 0);
}

TESTS(T(numbers), T(dollars), T(sizes_and_durations), T(times), T(time_words), T(clean_text),
      T(widths))
