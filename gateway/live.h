/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that are running, in a mapped file: what is known of each survives a SIGKILL of the worker. The
 * worker that takes its place turns what it finds into records and gives back what was held.
 */
#pragma once

#include "common/record.h"
#include "gateway/balance.h"

#define LIVE_STRINGS_BYTES 1536

enum live_state { LIVE_FREE, LIVE_RUNNING };

struct live_slot {
	uint32_t state; /* enum live_state; set last on begin, cleared last on end */
	uint32_t strings_len;
	struct balance_hold hold;
	/* Settled in this much when the worker dies: kept up to date with what the tap has seen. */
	int64_t real[QUOTA_UNIT_MAX];
	struct rec_request rec;
	char strings[LIVE_STRINGS_BYTES];
};

struct live;
/* Maps the file for `slots` requests; -EPROTO: of another version. The descriptor stays the caller's. */
int live_open(int fd, uint32_t slots, struct live **ret);
void live_close(struct live *l);
/* The number that the worker gave out last, over its restarts; 0: none. */
uint64_t *live_last_id(struct live *l);
/* A free slot, or NULL. It counts as taken once live_begin() was called on it. */
struct live_slot *live_take(struct live *l);
/* The record is whole: from here on a crash keeps it. */
void live_begin(struct live_slot *s);
void live_end(struct live *l, struct live_slot *s);
/* Replaces the strings of the slot's record (RQ_STRINGS of them). */
void live_set_strings(struct live_slot *s, const struct str *strings);

/* When nothing runs: gives the room of the slots back (LIVE_EMPTY_BYTES are left); no call but live_close() may follow. */
void live_retire(struct live *l);

typedef void (*live_fn)(void *arg, struct live_slot *s);
/* Calls fn for each slot that a dead worker left running; fn ends it with live_end(). */
void live_recover(struct live *l, live_fn fn, void *arg);
