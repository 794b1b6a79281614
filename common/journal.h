/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hand-over to the ledger: an append-only log in mapped segment files, one writer, one reader. A
 * record counts once its end is published in the segment's header; a SIGKILL of the writer leaves whole
 * records only, one of the reader leaves its position in the database. The page cache survives both.
 *
 * Writer: appends, opens the next segment when one is full. Reader: reads, and removes what it has
 * committed of segments that are closed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define JOURNAL_SEGMENT_BYTES (4u << 20)
#define JOURNAL_RECORD_MAX    (64u << 10)
#define JOURNAL_NAME_BYTES    16 /* "w0" */

struct journal;
/*
 * Opens for writing in the directory `dirfd` (borrowed for the journal's life) under `name`. Always begins
 * a new segment; older ones are left to the reader. `limit_bytes` bounds all segments that are not read
 * yet. 0, -ENOSPC (disk or limit), -ENOMEM, other errno.
 */
int journal_open(int dirfd, const char *name, uint64_t limit_bytes, struct journal **ret);
void journal_close(struct journal *j);
/* 0; -ENOSPC: nothing was written (limit or disk), the caller keeps the record; -EMSGSIZE. */
int journal_append(struct journal *j, uint32_t type, const struct iovec *iov, unsigned n);
/* True when `bytes` more can be appended without asking the disk: for admission. Opens ahead when needed. */
bool journal_has_room(struct journal *j, size_t bytes);

struct journal_position {
	uint64_t segment; /* number in the file's name; 0: nothing read yet */
	uint64_t offset;
};
struct journal_record {
	uint32_t type, len;
	const void *data; /* 8-byte aligned, valid until the next call on the reader */
};
struct journal_reader;
/* Reads on after `from`. The directory stays the caller's. */
int journal_reader_open(int dirfd, const char *name, struct journal_position from,
			struct journal_reader **ret);
void journal_reader_close(struct journal_reader *r);
/* 1: a record; 0: nothing more for now; -EBADMSG: damaged, the rest of that segment is skipped. */
int journal_read(struct journal_reader *r, struct journal_record *ret);
struct journal_position journal_reader_position(const struct journal_reader *r);
/* Removes segments that lie wholly before `done` (committed); returns how many. */
int journal_reader_trim(struct journal_reader *r, struct journal_position done);
