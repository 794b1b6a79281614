/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token buckets. Refill is exact: elapsed * rate is kept as whole units plus a remainder over the
 * period, so a bucket read every microsecond and one read once a day end at the same balance.
 */
#include "policy/quota.h"

#include "common/base.h"

/* Rationale: workers read the clock at slightly different moments; more than this is a step. */
#define CLOCK_JITTER_NS NSEC_PER_SEC

static const char *const unit_names[] = {
	[QUOTA_NANOUSD] = "dollars",
	[QUOTA_REQUESTS] = "requests",
	[QUOTA_TOKENS] = "tokens",
};
_Static_assert(ARRAY_SIZE(unit_names) == QUOTA_UNIT_MAX, "a unit lacks its name");

const char *quota_unit_name(enum quota_unit unit)
{
	return (unsigned)unit < QUOTA_UNIT_MAX ? unit_names[unit] : "?";
}

static int64_t clamp_add(int64_t a, int64_t b)
{
	int64_t sum;

	if (!__builtin_add_overflow(a, b, &sum))
		return sum;
	return b > 0 ? INT64_MAX : INT64_MIN;
}

void quota_start(const struct policy_quota *q, uint64_t now_ns, struct quota_state *ret)
{
	*ret = (struct quota_state){ .balance = q->capacity, .refilled_ns = now_ns };
}

void quota_refill(const struct policy_quota *q, uint64_t now_ns, struct quota_state *state)
{
	unsigned __int128 gained, room;
	uint64_t elapsed;

	if (now_ns <= state->refilled_ns) {
		/* Time that passes after a step back is real again; the fraction stays. */
		if (state->refilled_ns - now_ns > CLOCK_JITTER_NS)
			state->refilled_ns = now_ns;
		return;
	}
	elapsed = now_ns - state->refilled_ns;
	state->refilled_ns = now_ns;
	if (state->balance >= q->capacity || q->rate <= 0 || !q->rate_period_ns) {
		state->fraction = 0;
		return;
	}
	gained = (unsigned __int128)elapsed * (uint64_t)q->rate + state->fraction;
	state->fraction = (uint64_t)(gained % q->rate_period_ns);
	gained /= q->rate_period_ns;
	room = (unsigned __int128)((__int128)q->capacity - state->balance);
	if (gained < room) {
		state->balance = (int64_t)(state->balance + (__int128)gained);
		return;
	}
	state->balance = q->capacity;
	state->fraction = 0;
}

bool quota_take(const struct policy_quota *q, int64_t amount, struct quota_state *state)
{
	amount = MAX(amount, (int64_t)0);
	/* A capacity of nothing blocks, whatever the price. */
	if (q->capacity <= 0 || state->balance < amount)
		return false;
	state->balance -= amount;
	return true;
}

void quota_settle(const struct policy_quota *q, int64_t reserved, int64_t real,
		  struct quota_state *state)
{
	int64_t back = MAX(reserved, (int64_t)0) - MAX(real, (int64_t)0);

	state->balance = clamp_add(state->balance, back);
	if (back > 0)
		state->balance = MIN(state->balance, q->capacity);
}

bool quota_exceeds(const struct policy_quota *q, int64_t amount)
{
	return q->capacity > 0 && amount > q->capacity;
}

uint64_t quota_wait_ns(const struct policy_quota *q, int64_t amount,
		       const struct quota_state *state)
{
	unsigned __int128 missing, ns;

	amount = MAX(amount, (int64_t)0);
	if (q->capacity <= 0 || quota_exceeds(q, amount))
		return UINT64_MAX;
	if (state->balance >= amount)
		return 0;
	if (q->rate <= 0 || !q->rate_period_ns)
		return UINT64_MAX;
	missing = (unsigned __int128)((__int128)amount - state->balance) * q->rate_period_ns;
	missing -= MIN(missing, (unsigned __int128)state->fraction);
	ns = (missing + (uint64_t)q->rate - 1) / (uint64_t)q->rate;
	return ns > UINT64_MAX - 1 ? UINT64_MAX - 1 : (uint64_t)ns;
}
