/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/format.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

uint64_t format_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* ---------------------------------------------------------------- numbers */

void format_count(int64_t n, char ret[FORMAT_BYTES])
{
	char digits[24], *out = ret;
	uint64_t u = n < 0 ? (uint64_t)0 - (uint64_t)n : (uint64_t)n;
	int len = snprintf(digits, sizeof(digits), "%" PRIu64, u);

	if (n < 0)
		*out++ = '-';
	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			*out++ = ',';
		*out++ = digits[i];
	}
	*out = '\0';
}

void format_tokens(int64_t n, char ret[FORMAT_BYTES])
{
	static const char units[] = "kMBT";
	double x = (double)n;
	unsigned unit = 0;

	if (n > -10000 && n < 10000) {
		format_count(n, ret);
		return;
	}
	for (x /= 1000; unit < 3 && (x >= 999.5 || x <= -999.5); unit++)
		x /= 1000;
	snprintf(ret, FORMAT_BYTES, "%.*f%c",
		 x < 10 && x > -10     ? 2
		 : x < 100 && x > -100 ? 1
				       : 0,
		 x, units[unit]);
}

void format_usd_exact(int64_t nanousd, char ret[FORMAT_BYTES])
{
	uint64_t u = nanousd < 0 ? (uint64_t)0 - (uint64_t)nanousd : (uint64_t)nanousd;

	snprintf(ret, FORMAT_BYTES, "%s%" PRIu64 ".%09" PRIu64, nanousd < 0 ? "-" : "",
		 u / 1000000000, u % 1000000000);
}

void format_usd(int64_t nanousd, char ret[FORMAT_BYTES])
{
	uint64_t u = nanousd < 0 ? (uint64_t)0 - (uint64_t)nanousd : (uint64_t)nanousd, cents;
	char whole[FORMAT_BYTES];
	const char *sign = nanousd < 0 ? "-" : "";

	if (u && u < 500) {
		snprintf(ret, FORMAT_BYTES, "%s<$0.000001", sign);
		return;
	}
	if (u && u < 10000000) { /* below a cent: two digits that count */
		int digits = u < 10000 ? 6 : u < 1000000 ? 5 : 4;

		snprintf(ret, FORMAT_BYTES, "%s$%.*f", sign, digits, (double)u / 1e9);
		return;
	}
	cents = u / 10000000 + (u % 10000000 >= 5000000);
	format_count((int64_t)(cents / 100), whole);
	snprintf(ret, FORMAT_BYTES, "%s$%.30s.%02u", sign, whole, (unsigned)(cents % 100));
}

void format_bytes(int64_t n, char ret[FORMAT_BYTES])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB" };
	double x = (double)n / 1024;
	unsigned unit = 0;

	if (n < 1024) {
		snprintf(ret, FORMAT_BYTES, "%" PRId64 " B", n);
		return;
	}
	while (x >= 1023.5 && unit + 1 < ARRAY_SIZE(units)) {
		x /= 1024;
		unit++;
	}
	snprintf(ret, FORMAT_BYTES, "%.*f %s", x < 10 ? 1 : 0, x, units[unit]);
}

/* ---------------------------------------------------------------- times */

void format_ago(uint64_t at_ns, uint64_t now_ns, char ret[FORMAT_BYTES])
{
	uint64_t s = at_ns < now_ns ? (now_ns - at_ns) / NSEC_PER_SEC : 0;

	if (!at_ns)
		snprintf(ret, FORMAT_BYTES, "-");
	else if (s < 1)
		snprintf(ret, FORMAT_BYTES, "now");
	else if (s < 60)
		snprintf(ret, FORMAT_BYTES, "%" PRIu64 "s ago", s);
	else if (s < 3600)
		snprintf(ret, FORMAT_BYTES, "%" PRIu64 "m ago", s / 60);
	else if (s < 48 * 3600)
		snprintf(ret, FORMAT_BYTES, "%" PRIu64 "h ago", s / 3600);
	else
		snprintf(ret, FORMAT_BYTES, "%" PRIu64 "d ago", s / 86400);
}

void format_clock(uint64_t at_ns, uint64_t now_ns, char ret[FORMAT_BYTES])
{
	time_t at = (time_t)(at_ns / NSEC_PER_SEC), now = (time_t)(now_ns / NSEC_PER_SEC);
	struct tm a = { 0 }, n = { 0 };

	localtime_r(&at, &a);
	localtime_r(&now, &n);
	if (a.tm_year != n.tm_year)
		strftime(ret, FORMAT_BYTES, "%Y-%m-%d %H:%M:%S", &a);
	else
		strftime(ret, FORMAT_BYTES, a.tm_yday == n.tm_yday ? "%H:%M:%S" : "%m-%d %H:%M:%S",
			 &a);
}

void format_rfc3339(uint64_t at_ns, char ret[FORMAT_BYTES])
{
	time_t at = (time_t)(at_ns / NSEC_PER_SEC);
	struct tm tm = { 0 };
	size_t n;

	gmtime_r(&at, &tm);
	n = strftime(ret, FORMAT_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ret + n, FORMAT_BYTES - n, ".%09uZ", (unsigned)(at_ns % NSEC_PER_SEC));
}

void format_duration(uint64_t us, char ret[FORMAT_BYTES])
{
	if (us < 1000)
		snprintf(ret, FORMAT_BYTES, "%" PRIu64 " us", us);
	else if (us < 1000000)
		snprintf(ret, FORMAT_BYTES, "%" PRIu64 " ms", us / 1000);
	else if (us < 60 * USEC_PER_SEC)
		snprintf(ret, FORMAT_BYTES, "%.1f s", (double)us / 1e6);
	else if (us < 3600 * USEC_PER_SEC)
		snprintf(ret, FORMAT_BYTES, "%um%02us", (unsigned)(us / (60 * USEC_PER_SEC)),
			 (unsigned)(us / USEC_PER_SEC % 60));
	else
		snprintf(ret, FORMAT_BYTES, "%lluh%02um",
			 (unsigned long long)(us / (3600 * USEC_PER_SEC)),
			 (unsigned)(us / (60 * USEC_PER_SEC) % 60));
}

static bool parse_ago(const char *text, uint64_t now_ns, uint64_t *ret)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 } };
	uint64_t total = 0;

	while (*text) {
		char *end;
		unsigned long long n;
		uint64_t seconds = 0;

		if (!isdigit((unsigned char)*text))
			return false;
		errno = 0;
		n = strtoull(text, &end, 10);
		for (size_t i = 0; i < ARRAY_SIZE(units); i++)
			if (*end == units[i].unit)
				seconds = units[i].seconds;
		if (errno || !seconds || n > 100ULL * 366 * 86400 / seconds)
			return false;
		total += n * seconds;
		text = end + 1;
	}
	total *= NSEC_PER_SEC;
	*ret = total < now_ns ? now_ns - total : 0;
	return true;
}

/* The day, and the time of the day when one is given. */
static bool parse_date(const char *text, uint64_t *ret)
{
	struct tm tm = { .tm_isdst = -1 }, check;
	int n = 0, used = 0;
	bool utc;
	time_t t;

	if (sscanf(text, "%4d-%2d-%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &n) < 3 || !n)
		return false;
	text += n;
	if (*text == 'T' || *text == ' ') {
		if (sscanf(++text, "%2d:%2d%n", &tm.tm_hour, &tm.tm_min, &used) < 2 || !used)
			return false;
		text += used;
		if (*text == ':') {
			used = 0;
			if (sscanf(++text, "%2d%n", &tm.tm_sec, &used) < 1)
				return false;
			text += used;
		}
	}
	utc = *text == 'Z';
	if (text[utc] || tm.tm_year < 1970)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	check = tm;
	t = utc ? timegm(&tm) : mktime(&tm);
	/* The 31st of February is none. */
	if (t < 0 || tm.tm_mday != check.tm_mday || tm.tm_mon != check.tm_mon ||
	    check.tm_hour > 23 || check.tm_min > 59)
		return false;
	*ret = (uint64_t)t * NSEC_PER_SEC;
	return true;
}

bool format_parse_time(const char *text, uint64_t now_ns, uint64_t *ret)
{
	time_t now = (time_t)(now_ns / NSEC_PER_SEC);
	bool today = !strcmp(text, "today");
	struct tm tm = { 0 };

	if (today || !strcmp(text, "yesterday")) {
		localtime_r(&now, &tm);
		tm.tm_sec = tm.tm_min = tm.tm_hour = 0;
		tm.tm_mday -= !today;
		tm.tm_isdst = -1;
		*ret = (uint64_t)mktime(&tm) * NSEC_PER_SEC;
		return true;
	}
	if (!strcmp(text, "now")) {
		*ret = now_ns;
		return true;
	}
	return (*text && parse_ago(text, now_ns, ret)) || parse_date(text, ret);
}

/* ---------------------------------------------------------------- text */

/* Bytes of the character at `s` and its code; 0 when it is no UTF-8. */
static size_t utf8_next(struct str s, uint32_t *ret)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned char c = (unsigned char)s.s[0];
	size_t n = c < 0x80		   ? 1
		   : c >= 0xc2 && c < 0xe0 ? 2
		   : c >= 0xe0 && c < 0xf0 ? 3
		   : c >= 0xf0 && c < 0xf5 ? 4
					   : 0;
	uint32_t code = n == 1 ? c : c & (0x7fu >> n);

	if (!n || n > s.n)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if (((unsigned char)s.s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | ((unsigned char)s.s[i] & 0x3f);
	}
	if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return 0;
	*ret = code;
	return n;
}

/* Controls, and what turns the direction of the line round: text must not dress up as other text.
 */
static bool is_unsafe(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x61c ||
	       c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) || (c >= 0xe0000 && c < 0xe1000);
}

int format_clean(struct str in, bool utf8, struct buf *out)
{
	int err = 0;

	while (in.n && !err) {
		uint32_t c = 0;
		size_t n = utf8_next(in, &c);

		if (n && (c == '\n' || c == '\t' || c == '\r'))
			err = buf_puts(out, STR(" "));
		else if (!n || is_unsafe(c) || (!utf8 && c > 0x7e))
			err = buf_puts(out, STR("?"));
		else
			err = buf_append(out, in.s, n);
		in = str_skip(in, n ? n : 1);
	}
	return err;
}

/* Enough of UAX #11 for file names and commands: wide East Asian characters and emoji, combining
 * marks. */
static unsigned width_of(uint32_t c)
{
	if ((c >= 0x300 && c < 0x370) || (c >= 0x200b && c <= 0x200d) ||
	    (c >= 0xfe00 && c < 0xfe10) || (c >= 0x20d0 && c < 0x2100))
		return 0;
	if ((c >= 0x1100 && c < 0x1160) || (c >= 0x2e80 && c < 0xa4d0) ||
	    (c >= 0xac00 && c < 0xd7a4) || (c >= 0xf900 && c < 0xfb00) ||
	    (c >= 0xfe30 && c < 0xfe70) || (c >= 0xff00 && c < 0xff61) ||
	    (c >= 0xffe0 && c < 0xffe7) || (c >= 0x1f300 && c < 0x1f650) ||
	    (c >= 0x1f680 && c < 0x1f700) || (c >= 0x1f900 && c < 0x1fb00) ||
	    (c >= 0x20000 && c < 0x3fffe))
		return 2;
	return 1;
}

size_t format_width(struct str text)
{
	size_t width = 0;

	while (text.n) {
		uint32_t c = 0;
		size_t n = utf8_next(text, &c);

		width += n ? width_of(c) : 1;
		text = str_skip(text, n ? n : 1);
	}
	return width;
}

size_t format_fit(struct str text, size_t width, bool tail)
{
	size_t all = format_width(text), seen = 0, at = 0;

	while (at < text.n) {
		uint32_t c = 0;
		size_t n = utf8_next(str_skip(text, at), &c), w = n ? width_of(c) : 1;

		if (tail ? all - seen <= width : seen + w > width)
			break;
		seen += w;
		at += n ? n : 1;
	}
	return tail ? text.n - at : at;
}
