/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Token buckets as pure functions over a balance that the caller keeps. Amounts are in the quota's
 * unit.
 */
#pragma once

#include "policy/policy.h"

struct quota_state {
	int64_t balance;      /* may be below zero after a settlement above the reservation */
	uint64_t refilled_ns; /* wall clock up to which refill is in the balance */
	uint64_t fraction;    /* of a unit, in 1/rate_period_ns: what a refill left over */
};

/* A full bucket at `now_ns`. */
void quota_start(const struct policy_quota *q, uint64_t now_ns, struct quota_state *ret);
/*
 * Adds what has accrued, to the capacity at most; loses no fraction. A clock that went back adds
 * nothing; after a step of more than a second refill counts from the new time.
 */
void quota_refill(const struct policy_quota *q, uint64_t now_ns, struct quota_state *state);
/*
 * Takes `amount` when the balance covers it ("exactly enough" passes); state untouched when it does
 * not. A capacity of 0 refuses even an amount of 0.
 */
bool quota_take(const struct policy_quota *q, int64_t amount, struct quota_state *state);
/*
 * Settles a reservation: the difference goes back or is taken, even below zero; capacity bounds
 * it.
 */
void quota_settle(const struct policy_quota *q, int64_t reserved, int64_t real,
		  struct quota_state *state);
/*
 * Even the full bucket does not cover it. Not so of a capacity of nothing: that one blocks, and no
 * smaller request would pass.
 */
bool quota_exceeds(const struct policy_quota *q, int64_t amount);
/* Nanoseconds until `amount` is covered; UINT64_MAX: never (no rate, or above the capacity). */
uint64_t quota_wait_ns(const struct policy_quota *q, int64_t amount,
		       const struct quota_state *state);
