/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/units.h"

#include <inttypes.h>

#include "common/base.h"

#define NS_MIN	(60 * NSEC_PER_SEC)
#define NS_HOUR (60 * NS_MIN)
#define NS_DAY	(24 * NS_HOUR)

struct unit {
	struct str name;
	uint64_t factor;
};

static const struct unit durations[] = {
	{ STR("d"), NS_DAY },	    { STR("h"), NS_HOUR },	  { STR("m"), NS_MIN },
	{ STR("s"), NSEC_PER_SEC }, { STR("ms"), NSEC_PER_MSEC }, { STR("us"), 1000 },
	{ STR("ns"), 1 },	    { STR("w"), 7 * NS_DAY },
};

static const struct unit sizes[] = {
	{ STR(""), 1 },
	{ STR("B"), 1 },
	{ STR("KiB"), 1ull << 10 },
	{ STR("MiB"), 1ull << 20 },
	{ STR("GiB"), 1ull << 30 },
	{ STR("TiB"), 1ull << 40 },
	{ STR("kB"), 1000 },
	{ STR("KB"), 1000 },
	{ STR("MB"), 1000000 },
	{ STR("GB"), 1000000000 },
	{ STR("TB"), 1000000000000 },
};

/* A month is 30 days, as in Aperture. */
static const struct unit periods[] = {
	{ STR("second"), NSEC_PER_SEC }, { STR("sec"), NSEC_PER_SEC },	{ STR("minute"), NS_MIN },
	{ STR("min"), NS_MIN },		 { STR("hour"), NS_HOUR },	{ STR("day"), NS_DAY },
	{ STR("week"), 7 * NS_DAY },	 { STR("month"), 30 * NS_DAY },
};

static const struct unit *unit_find(const struct unit *units, size_t n, struct str name)
{
	for (size_t i = 0; i < n; i++) {
		if (str_eq(units[i].name, name))
			return &units[i];
	}
	return NULL;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static struct str trim(struct str s)
{
	while (s.n && s.s[0] == ' ')
		s = str_skip(s, 1);
	while (s.n && s.s[s.n - 1] == ' ')
		s.n--;
	return s;
}

/* Takes the digits at the front; false when there are none or they overflow. */
static bool take_uint(struct str *s, uint64_t *ret)
{
	struct str rest = *s;
	uint64_t value = 0;

	if (!rest.n || !is_digit(rest.s[0]))
		return false;
	for (; rest.n && is_digit(rest.s[0]); rest = str_skip(rest, 1)) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(rest.s[0] - '0'), &value))
			return false;
	}
	*ret = value;
	*s = rest;
	return true;
}

static struct str take_letters(struct str *s)
{
	struct str word = { s->s, 0 };

	while (word.n < s->n && is_letter(s->s[word.n]))
		word.n++;
	*s = str_skip(*s, word.n);
	return word;
}

const char *units_duration(struct str s, uint64_t *ret_ns)
{
	static const char how[] =
		"write a duration with its unit, like \"500ms\", \"10s\", \"2h\" or \"30d\"";
	uint64_t sum = 0;

	if (str_eq(s, STR("0"))) {
		*ret_ns = 0;
		return NULL;
	}
	if (!s.n)
		return how;
	while (s.n) {
		uint64_t value;
		const struct unit *unit;

		if (!take_uint(&s, &value))
			return how;
		unit = unit_find(durations, ARRAY_SIZE(durations), take_letters(&s));
		if (!unit)
			return how;
		if (__builtin_mul_overflow(value, unit->factor, &value) ||
		    __builtin_add_overflow(sum, value, &sum) || sum > INT64_MAX)
			return "the duration is longer than 292 years";
	}
	*ret_ns = sum;
	return NULL;
}

const char *units_size(struct str s, uint64_t *ret_bytes)
{
	static const char how[] = "write a size like \"4096\", \"64KiB\", \"64MiB\" or \"1GiB\"";
	const struct unit *unit;
	uint64_t value;

	s = trim(s);
	if (!take_uint(&s, &value))
		return how;
	unit = unit_find(sizes, ARRAY_SIZE(sizes), trim(s));
	if (!unit)
		return how;
	if (__builtin_mul_overflow(value, unit->factor, &value) || value > INT64_MAX)
		return "the size is larger than any machine";
	*ret_bytes = value;
	return NULL;
}

const char *units_decimal(struct str s, unsigned digits, int64_t *ret)
{
	bool negative = s.n && s.s[0] == '-', any = false;
	unsigned after = 0;
	int64_t value = 0;

	if (negative)
		s = str_skip(s, 1);
	for (bool point = false; s.n; s = str_skip(s, 1)) {
		if (s.s[0] == '.' && !point && any) {
			point = true;
			continue;
		}
		if (!is_digit(s.s[0]))
			return "write it as a plain decimal number, like 10 or 0.25";
		if (point && after == digits) {
			if (s.s[0] != '0')
				return "too many digits after the decimal point";
			continue;
		}
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, s.s[0] - '0', &value))
			return "the number is too large";
		after += point;
		any = true;
	}
	if (!any)
		return "write it as a plain decimal number, like 10 or 0.25";
	for (; after < digits; after++) {
		if (__builtin_mul_overflow(value, 10, &value))
			return "the number is too large";
	}
	*ret = negative ? -value : value;
	return NULL;
}

/* "500", "2M", "1.5M" -> a whole number. */
static const char *count_parse(struct str s, int64_t *ret)
{
	static const struct {
		char suffix;
		unsigned digits;
	} suffixes[] = { { 'k', 3 }, { 'K', 3 }, { 'M', 6 }, { 'G', 9 }, { 'B', 9 } };
	unsigned digits = 0;

	for (size_t i = 0; s.n && i < ARRAY_SIZE(suffixes); i++) {
		if (s.s[s.n - 1] != suffixes[i].suffix)
			continue;
		digits = suffixes[i].digits;
		s.n--;
		break;
	}
	return units_decimal(s, digits, ret);
}

const char *units_amount(struct str s, enum quota_unit *ret_unit, int64_t *ret)
{
	static const char how[] =
		"write an amount like \"$10.00\", \"500 requests\" or \"2M tokens\"";
	enum quota_unit unit = QUOTA_NANOUSD;
	struct str count, word;
	const char *wrong;
	int64_t value;

	s = trim(s);
	if (str_starts(s, STR("$"))) {
		wrong = units_decimal(str_skip(s, 1), 9, &value);
	} else {
		count = (struct str){ s.s, 0 };
		while (count.n < s.n && s.s[count.n] != ' ')
			count.n++;
		word = trim(str_skip(s, count.n));
		if (str_eq(word, STR("requests")) || str_eq(word, STR("request")))
			unit = QUOTA_REQUESTS;
		else if (str_eq(word, STR("tokens")) || str_eq(word, STR("token")))
			unit = QUOTA_TOKENS;
		else
			return how;
		wrong = count_parse(count, &value);
	}
	if (wrong)
		return wrong;
	if (value < 0)
		return "an amount cannot be negative";
	*ret_unit = unit;
	*ret = value;
	return NULL;
}

const char *units_rate(struct str s, enum quota_unit *ret_unit, int64_t *ret,
		       uint64_t *ret_period_ns)
{
	static const char how[] = "write a rate like \"$10.00/day\", \"500 requests/hour\" or "
				  "\"2M tokens/min\" (second, min, hour, day, week, month)";
	const char *slash = s.n ? memrchr(s.s, '/', s.n) : NULL;
	const struct unit *period;
	const char *wrong;
	struct str name;

	if (!slash)
		return how;
	name = str_skip(s, (size_t)(slash - s.s) + 1);
	period = unit_find(periods, ARRAY_SIZE(periods), trim(name));
	if (!period)
		return how;
	wrong = units_amount((struct str){ s.s, (size_t)(slash - s.s) }, ret_unit, ret);
	if (!wrong)
		*ret_period_ns = period->factor;
	return wrong;
}

/* Dollars with at least two and at most nine digits after the point. */
static void dollars_text(struct units_text *t, int64_t nanousd)
{
	uint64_t abs = nanousd < 0 ? -(uint64_t)nanousd : (uint64_t)nanousd;
	size_t n;

	snprintf(t->s, sizeof(t->s), "%s$%" PRIu64 ".%09" PRIu64, nanousd < 0 ? "-" : "",
		 abs / 1000000000, abs % 1000000000);
	n = strlen(t->s);
	for (int i = 0; i < 7 && t->s[n - 1] == '0'; i++)
		t->s[--n] = '\0';
}

struct units_text units_amount_text(enum quota_unit unit, int64_t amount)
{
	struct units_text t = { "" };

	if (unit == QUOTA_NANOUSD)
		dollars_text(&t, amount);
	else
		snprintf(t.s, sizeof(t.s), "%" PRId64 " %s", amount, quota_unit_name(unit));
	return t;
}

struct units_text units_duration_text(uint64_t ns)
{
	struct units_text t = { "" };
	size_t n = 0;

	for (size_t i = 0; i < 7; i++) { /* not weeks, which stand last */
		uint64_t count = ns / durations[i].factor;

		if (!count)
			continue;
		n += (size_t)snprintf(t.s + n, sizeof(t.s) - n, "%" PRIu64 "%s", count,
				      durations[i].name.s);
		if (n >= sizeof(t.s))
			break;
		ns %= durations[i].factor;
	}
	if (!n)
		str_copy(t.s, sizeof(t.s), STR("0s"));
	return t;
}

struct units_text units_rate_text(enum quota_unit unit, int64_t rate, uint64_t period_ns)
{
	struct units_text amount = units_amount_text(unit, rate), period = units_duration_text(period_ns);
	struct units_text t = { "none" };

	for (size_t i = ARRAY_SIZE(periods); i-- > 0;) { /* the first name of a length is the whole word */
		if (periods[i].factor == period_ns)
			str_copy(period.s, sizeof(period.s), periods[i].name);
	}
	if (rate > 0)
		snprintf(t.s, sizeof(t.s), "%.31s/%.15s", amount.s, period.s);
	return t;
}
