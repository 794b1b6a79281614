/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A policy and its verdicts in words. Never a literal key, a command's arguments or a header's
 * value.
 */
#pragma once

#include "common/buf.h"
#include "policy/policy.h"

/*
 * Verdict, deciding rule with its line, each candidate with reason, price and buckets; the same
 * evaluation as for a request. 0 or the error of the buffer.
 */
int policy_explain(const struct policy *p, const struct policy_query *q, struct buf *out);
/* The effective policy, defaults included. */
int policy_show(const struct policy *p, struct buf *out, bool json);
