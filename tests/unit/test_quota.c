/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include "policy/quota.h"
#include "policy/units.h"

#define DAY (86400 * NSEC_PER_SEC)
#define USD 1000000000LL

static void exactly_enough(void)
{
	struct policy_quota q = { .capacity = 10 };
	struct quota_state s;

	quota_start(&q, 5, &s);
	CHECK(quota_take(&q, 4, &s) && quota_take(&q, 6, &s));
	CHECK_INT(s.balance, 0);
	CHECK(quota_take(&q, 0, &s));
	CHECK(!quota_take(&q, 1, &s));
	CHECK_INT(s.balance, 0);
	CHECK(quota_take(&q, -5, &s)); /* counts as nothing */
	CHECK_INT(s.balance, 0);
}

static void zero_capacity(void)
{
	struct policy_quota q = { .capacity = 0, .rate = 100, .rate_period_ns = 1 };
	struct quota_state s;

	quota_start(&q, 0, &s);
	CHECK(!quota_take(&q, 0, &s) && !quota_take(&q, 1, &s));
	CHECK(quota_wait_ns(&q, 0, &s) == UINT64_MAX);
	CHECK(!quota_exceeds(&q, 1)); /* a smaller one would not pass either */
}

static void larger_than_the_bucket(void)
{
	struct policy_quota q = { .capacity = 10, .rate = 100, .rate_period_ns = 1 };
	struct quota_state s;

	quota_start(&q, 0, &s);
	CHECK(!quota_exceeds(&q, 10) && quota_exceeds(&q, 11));
	CHECK(quota_wait_ns(&q, 11, &s) == UINT64_MAX);
}

/* However often it is looked at, the same time gives the same units. */
static void refill_loses_nothing(void)
{
	struct policy_quota q = { .capacity = 10 * USD, .rate = 10 * USD, .rate_period_ns = DAY };
	static const uint64_t steps[] = { 1, 7, 999, 1000003, NSEC_PER_SEC, 3599 * NSEC_PER_SEC };

	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct quota_state s = { .balance = 0, .refilled_ns = 1000 };
		uint64_t now = 1000, n = MIN((uint64_t)200000, DAY / steps[i]);
		__int128 want;

		for (uint64_t k = 0; k < n; k++)
			quota_refill(&q, now += steps[i], &s);
		want = (__int128)(now - 1000) * q.rate / (int64_t)q.rate_period_ns;
		CHECK_INT(s.balance, (int64_t)want);
	}
}

static void refill_slow(void)
{
	struct policy_quota q = { .capacity = 5, .rate = 1, .rate_period_ns = 30 * DAY };
	struct quota_state s = { .balance = 0, .refilled_ns = 0 };

	for (int i = 1; i <= 29; i++)
		quota_refill(&q, (uint64_t)i * DAY, &s);
	CHECK_INT(s.balance, 0);
	quota_refill(&q, 30 * DAY, &s);
	CHECK_INT(s.balance, 1);
	quota_refill(&q, 1000 * DAY, &s);
	CHECK_INT(s.balance, 5);
	CHECK(s.fraction == 0);
}

static void clock_back(void)
{
	struct policy_quota q = { .capacity = 100, .rate = 1, .rate_period_ns = NSEC_PER_SEC };
	struct quota_state s = { .balance = 0, .refilled_ns = 100 * NSEC_PER_SEC };

	quota_refill(&q, 100 * NSEC_PER_SEC - 1000, &s); /* another core's clock */
	CHECK_INT(s.balance, 0);
	CHECK(s.refilled_ns == 100 * NSEC_PER_SEC);
	quota_refill(&q, 50 * NSEC_PER_SEC, &s); /* a step */
	CHECK_INT(s.balance, 0);
	quota_refill(&q, 53 * NSEC_PER_SEC, &s);
	CHECK_INT(s.balance, 3);
}

static void settle(void)
{
	struct policy_quota q = { .capacity = 100 };
	struct quota_state s;

	quota_start(&q, 0, &s);
	CHECK(quota_take(&q, 60, &s));
	quota_settle(&q, 60, 10, &s);
	CHECK_INT(s.balance, 90);
	CHECK(quota_take(&q, 90, &s));
	quota_settle(&q, 90, 95, &s);
	CHECK_INT(s.balance, -5);
	quota_settle(&q, 1000, 0, &s);
	CHECK_INT(s.balance, 100);
	quota_settle(&q, 0, INT64_MAX, &s);
	quota_settle(&q, 0, INT64_MAX, &s);
	quota_settle(&q, 0, INT64_MAX, &s);
	CHECK(s.balance == INT64_MIN);
	quota_refill(&(struct policy_quota){ .capacity = 100, .rate = 1, .rate_period_ns = 1 }, 50,
		     &s);
	CHECK(s.balance == INT64_MIN + 50);
}

static void wait_time(void)
{
	struct policy_quota q = { .capacity = 100, .rate = 10, .rate_period_ns = 3 * NSEC_PER_SEC };
	struct quota_state s = { .balance = 5 };
	uint64_t wait;

	CHECK(quota_wait_ns(&q, 5, &s) == 0);
	CHECK(quota_wait_ns(&q, 101, &s) == UINT64_MAX);
	wait = quota_wait_ns(&q, 7, &s);
	CHECK_INT(wait, 600000000);
	/* After that time it passes, one nanosecond earlier it does not. */
	for (int64_t amount = 6; amount <= 100; amount += 7) {
		struct quota_state early = { .balance = 5, .refilled_ns = 1 }, then = early;

		wait = quota_wait_ns(&q, amount, &early);
		quota_refill(&q, wait, &early);
		quota_refill(&q, 1 + wait, &then);
		CHECK(!quota_take(&q, amount, &early));
		CHECK(quota_take(&q, amount, &then));
	}
	q.rate = 0;
	CHECK(quota_wait_ns(&q, 7, &s) == UINT64_MAX);
}

static void extremes(void)
{
	struct policy_quota q = { .capacity = INT64_MAX, .rate = INT64_MAX, .rate_period_ns = 1 };
	struct quota_state s = { .balance = INT64_MIN };

	quota_refill(&q, 1, &s);
	CHECK_INT(s.balance, -1);
	quota_refill(&q, UINT64_MAX, &s);
	CHECK(s.balance == INT64_MAX);
	s.balance = INT64_MIN;
	CHECK(quota_wait_ns(&(struct policy_quota){ .capacity = INT64_MAX,
						    .rate = 1,
						    .rate_period_ns = UINT64_MAX },
			    1, &s) == UINT64_MAX - 1);
}

static void units_read(void)
{
	uint64_t ns = 0, bytes = 0;
	enum quota_unit unit = QUOTA_UNIT_MAX;
	int64_t n = 0;

	CHECK(!units_duration(STR("1h30m"), &ns) && ns == 5400 * NSEC_PER_SEC);
	CHECK(!units_duration(STR("500ms"), &ns) && ns == 500 * NSEC_PER_MSEC);
	CHECK(!units_duration(STR("30d"), &ns) && ns == 30 * DAY);
	CHECK(!units_duration(STR("0"), &ns) && ns == 0);
	CHECK(units_duration(STR(""), &ns) && units_duration(STR("10"), &ns) &&
	      units_duration(STR("10 s"), &ns) && units_duration(STR("1.5h"), &ns) &&
	      units_duration(STR("s"), &ns) && units_duration(STR("9999999999999d"), &ns));
	CHECK(!units_size(STR("64MiB"), &bytes) && bytes == 64u << 20);
	CHECK(!units_size(STR("4096"), &bytes) && bytes == 4096);
	CHECK(!units_size(STR("10 MB"), &bytes) && bytes == 10000000);
	CHECK(units_size(STR("64mib"), &bytes) && units_size(STR("-1"), &bytes) &&
	      units_size(STR("99999999TiB"), &bytes));
	CHECK(!units_amount(STR("$10.00"), &unit, &n) && unit == QUOTA_NANOUSD && n == 10 * USD);
	CHECK(!units_amount(STR("$0.000000001"), &unit, &n) && n == 1);
	CHECK(units_amount(STR("$0.0000000001"), &unit, &n) != NULL);
	CHECK(!units_amount(STR("500 requests"), &unit, &n) && unit == QUOTA_REQUESTS && n == 500);
	CHECK(!units_amount(STR("2M tokens"), &unit, &n) && unit == QUOTA_TOKENS && n == 2000000);
	CHECK(!units_amount(STR("1.5k tokens"), &unit, &n) && n == 1500);
	CHECK(units_amount(STR("1.5 tokens"), &unit, &n) && units_amount(STR("10"), &unit, &n) &&
	      units_amount(STR("$-1"), &unit, &n) && units_amount(STR("10 apples"), &unit, &n) &&
	      units_amount(STR("$"), &unit, &n) && units_amount(STR(""), &unit, &n) &&
	      units_amount(STR("99999999999999999999 tokens"), &unit, &n));
	CHECK(!units_rate(STR("$5.00/day"), &unit, &n, &ns) && n == 5 * USD && ns == DAY);
	CHECK(!units_rate(STR("2M tokens/hour"), &unit, &n, &ns) && n == 2000000 && ns == DAY / 24);
	CHECK(!units_rate(STR("$500/month"), &unit, &n, &ns) && ns == 30 * DAY);
	CHECK(units_rate(STR("$5.00"), &unit, &n, &ns) &&
	      units_rate(STR("$5/year"), &unit, &n, &ns));
}

static void units_print(void)
{
	CHECK_STR(units_amount_text(QUOTA_NANOUSD, 10 * USD).s, "$10.00");
	CHECK_STR(units_amount_text(QUOTA_NANOUSD, 1234567).s, "$0.001234567");
	CHECK_STR(units_amount_text(QUOTA_NANOUSD, -500000000).s, "-$0.50");
	CHECK_STR(units_amount_text(QUOTA_REQUESTS, 7).s, "7 requests");
	CHECK_STR(units_rate_text(QUOTA_NANOUSD, USD, DAY).s, "$1.00/day");
	CHECK_STR(units_rate_text(QUOTA_REQUESTS, 500, 60 * NSEC_PER_SEC).s, "500 requests/minute");
	CHECK_STR(units_rate_text(QUOTA_TOKENS, 3, 2 * DAY).s, "3 tokens/2d");
	CHECK_STR(units_rate_text(QUOTA_NANOUSD, 0, 0).s, "none");
	CHECK_STR(units_rate_text(QUOTA_NANOUSD, INT64_MAX, 30 * DAY).s, "$9223372036.854775807/month");
	CHECK_STR(units_duration_text(5400 * NSEC_PER_SEC).s, "1h30m");
	CHECK_STR(units_duration_text(0).s, "0s");
	CHECK_STR(units_duration_text(30 * DAY).s, "30d");
}

TESTS(T(exactly_enough), T(zero_capacity), T(larger_than_the_bucket), T(refill_loses_nothing), T(refill_slow), T(clock_back),
      T(settle), T(wait_time), T(extremes), T(units_read), T(units_print))
