/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantities as people write them -> integers, exactly and without floating point. All return NULL,
 * or a static sentence that says how to write it; outputs are untouched then.
 */
#pragma once

#include "policy/policy.h"

/* "500ms", "10s", "1h30m", "30d" -> nanoseconds. */
const char *units_duration(struct str s, uint64_t *ret_ns);
/* "4096", "64KiB", "64MiB", "1GiB", "10MB" -> bytes. */
const char *units_size(struct str s, uint64_t *ret_bytes);
/* "12", "-0.25" times 10^digits (at most 12); more digits after the point than that are refused. */
const char *units_decimal(struct str s, unsigned digits, int64_t *ret);
/* "$10.00", "500 requests", "2M tokens". */
const char *units_amount(struct str s, enum quota_unit *ret_unit, int64_t *ret);
/* "$10.00/day", "500 requests/hour": an amount in each period. */
const char *units_rate(struct str s, enum quota_unit *ret_unit, int64_t *ret,
		       uint64_t *ret_period_ns);
/* The amount as a person writes it: "$10.00", "500 requests". */
struct units_text {
	char s[48];
};
struct units_text units_amount_text(enum quota_unit unit, int64_t amount);
/* "$10.00/day", "500 requests/hour"; a rate of 0 is "none". */
struct units_text units_rate_text(enum quota_unit unit, int64_t rate, uint64_t period_ns);
/* "10s", "1h30m"; 0 is "0s". */
struct units_text units_duration_text(uint64_t ns);
