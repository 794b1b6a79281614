/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger's database: requests, tool calls, events, hourly roll-ups. SQLite in WAL mode; strings that
 * repeat are stored once. Used by the ledger role only, which alone writes it.
 */
#pragma once

#include <sqlite3.h>

#include "common/buf.h"
#include "common/journal.h"
#include "common/record.h"

/* Journals read by one ledger: the agent's, the workers', and those of dead workers until they are read. */
#define LEDGER_JOURNALS_MAX 192

struct ledger;
/* Opens (and makes or migrates) `file`, a path for SQLite. 0 or -EIO with the reason logged; -EPROTO: newer. */
int ledger_open(const char *file, struct ledger **ret);
void ledger_close(struct ledger *l);

/* All or nothing: begin, add …, position, commit. On failure call ledger_rollback() and begin anew. */
int ledger_begin(struct ledger *l);
/* 0; -EBADMSG: the record does not fit its type (skipped by the caller); -EIO. */
int ledger_add(struct ledger *l, const struct journal_record *rec);
int ledger_set_position(struct ledger *l, const char *journal, struct journal_position pos);
int ledger_commit(struct ledger *l);
void ledger_rollback(struct ledger *l);
/* Where reading goes on; zero for a new journal. */
struct journal_position ledger_position(struct ledger *l, const char *journal);

/* For a journal that is gone and whose name does not come again. 0 or -EIO. */
int ledger_forget(struct ledger *l, const char *journal);

/* Removes at most `limit` requests (with calls and events) older than this; returns how many, or -EIO. */
int ledger_purge(struct ledger *l, uint64_t before_ns, unsigned limit);

/*
 * Answers one query (a JSON object; docs/PROTOCOL.md) with JSON lines: {"columns":[…]}, then one array a
 * row, then {"end":true,"rows":N}, or {"error":"…"}. 0 or -ENOBUFS when `out` is full.
 */
int ledger_query(struct ledger *l, struct str request, struct buf *out);

/* For ledger_query.c. */
sqlite3 *ledger_db(struct ledger *l);
