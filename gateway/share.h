/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fair shares of what one worker has, connections and memory for bodies, by sandbox. One may take at most
 * SHARE_PER_FREE times what is free: alone it gets nearly everything, and there is always room for another.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Rationale: a single sandbox gets 8/9 of all; the next one finds 1/9 at once, and more as the first gives way. */
#define SHARE_PER_FREE 8
#define SHARE_BUCKETS  1024

/* In the connection: its place among those of its sandbox that wait for a request. */
struct share_idle {
	struct share_idle *prev, *next;
	bool listed;
};

struct share {
	struct share *next; /* in its bucket */
	uint64_t key;       /* id of the labelled cgroup; 0: connections without a stamp, all of them */
	unsigned refs;      /* connections, and requests that hold bytes */
	unsigned n_conns;
	uint64_t bytes;
	struct share_idle *oldest, *newest; /* waiting connections */
};

struct shares {
	struct share *buckets[SHARE_BUCKETS];
};

/* The share of this cgroup with one more reference; NULL: out of memory. */
struct share *share_get(struct shares *all, uint64_t key);
static inline struct share *share_ref(struct share *s)
{
	s->refs++;
	return s;
}
/* Accepts NULL; the last one frees it. */
void share_put(struct shares *all, struct share *s);

/* True when one that has so much, the new included, leaves enough for others. */
static inline bool share_fits(uint64_t has, uint64_t total, uint64_t used)
{
	return used <= total && has / SHARE_PER_FREE <= total - used;
}

/* Appends to the waiting ones, or takes out; either may be called again. */
void share_idle_add(struct share *s, struct share_idle *i);
void share_idle_remove(struct share *s, struct share_idle *i);
/*
 * Who has to give up a waiting connection for one more of `s` (which is counted already): the sandbox with the
 * most, if it has more than `s`, else `s` itself. NULL: nobody has a waiting one.
 */
struct share *share_victim(const struct shares *all, struct share *s);
