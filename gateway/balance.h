/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Balances of all quota buckets, shared by the workers and the ledger role through one mapped file
 * under a robust process-shared mutex: exact under concurrency, and a SIGKILL of any process at any
 * instruction leaves every balance either before or after the operation it was in.
 */
#pragma once

#include "policy/quota.h"

#define BALANCE_BUCKETS_MAX 16384

#define BALANCE_WRITERS_MAX 64

struct balances;
/*
 * Maps `fd` (created empty: initialised; a file of another version: -EPROTO). `writer` is this
 * process's number, 0..63, for crash recovery: no two live processes have the same, and a process
 * opens for itself (a handle does not outlive fork()). The fd stays the caller's. After a reboot
 * every hold is given back, as by balances_void().
 */
int balances_open(int fd, unsigned writer, struct balances **ret);
void balances_close(struct balances *b);
/*
 * For a start that found no running requests of an earlier life: gives all holds back; where one
 * still exists somewhere it is recognised, and settling it does nothing.
 */
void balances_void(struct balances *b);

/* What one request holds; plain data that lives in shared memory beside the running request. */
struct balance_hold {
	uint64_t op; /* 0: nothing is held */
	uint32_t n;
	struct {
		uint32_t bucket; /* slot in the file */
		uint32_t unit;	 /* enum quota_unit */
		int64_t amount;	 /* reserved, in the unit */
	} parts[POLICY_CHARGES_MAX];
};

struct balance_need {
	const struct policy_quota *quota;
	const char *bucket; /* expanded name */
	int64_t amount;	    /* to reserve, in the quota's unit */
};
struct balance_refusal {
	unsigned need;		 /* index of the first empty bucket, in the order given */
	uint64_t retry_after_ns; /* UINT64_MAX: never */
	int64_t balance;
};
/*
 * All or nothing: 0 and *ret_hold filled; -EDQUOT and *ret_refusal filled, nothing taken; -ENOSPC:
 * no free slot for a new bucket. Quotas with warn_only never refuse.
 */
int balances_reserve(struct balances *b, const struct balance_need *needs, unsigned n,
		     uint64_t now_ns, struct balance_hold *ret_hold,
		     struct balance_refusal *ret_refusal);
/*
 * real[unit] is what it came to; the hold becomes empty. Safe on an empty hold and on one undone
 * by a crash.
 */
void balances_settle(struct balances *b, struct balance_hold *hold,
		     const int64_t real[QUOTA_UNIT_MAX]);

struct balance_row {
	char bucket[POLICY_BUCKET_BYTES];
	enum quota_unit unit;
	int64_t balance, capacity, rate, held;
	uint64_t rate_period_ns;
};
/*
 * Row i in the order of creation (a reused slot keeps its place), refilled to now_ns; false past
 * the end.
 */
bool balances_row(struct balances *b, unsigned i, uint64_t now_ns, struct balance_row *ret);
/*
 * Adds to a bucket (of each unit with that name), to its capacity at most; -ENOENT. amount < 0:
 * fill it up.
 */
int balances_refill(struct balances *b, const char *bucket, int64_t amount, uint64_t now_ns);
