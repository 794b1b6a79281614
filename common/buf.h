/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growable byte buffer with a hard bound. Bytes are appended at the end and consumed at the front;
 * the memory is owned by the buffer and released by buf_fini().
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>

#include "common/base.h"
#include "common/str.h"

struct buf {
	char *data;
	size_t start; /* first unread byte */
	size_t end;   /* one past the last byte */
	size_t cap;
	size_t max; /* bound on unread bytes; appending beyond it fails with -ENOBUFS */
};

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

static inline char *buf_head(const struct buf *b)
{
	return b->data + b->start;
}

static inline struct str buf_str(const struct buf *b)
{
	return (struct str){ b->data ? b->data + b->start : NULL, b->end - b->start };
}

/* No memory is taken until the first append. */
void buf_init(struct buf *b, size_t max);
/* Accepts a zeroed or finished buffer. */
void buf_fini(struct buf *b);
/* Forgets the content; keeps the memory unless it is above `keep` bytes. */
void buf_reset(struct buf *b, size_t keep);

/*
 * Makes room for n more bytes and returns where to write them, or NULL when the bound or memory is
 * exceeded (the content is untouched). Follow with buf_commit(). May move the content.
 */
char *buf_reserve(struct buf *b, size_t n);
static inline void buf_commit(struct buf *b, size_t n)
{
	b->end += n;
}

/* 0, -ENOBUFS (the bound) or -ENOMEM; nothing is appended on failure. */
int buf_append(struct buf *b, const void *data, size_t n);
static inline int buf_puts(struct buf *b, struct str s)
{
	return buf_append(b, s.s, s.n);
}
int buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
int buf_vprintf(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* Appends the bytes as the inside of a JSON string: quotes, backslashes and controls escaped. */
int buf_json_escape(struct buf *b, struct str s);
/* The same with the quotes around it. */
int buf_json_string(struct buf *b, struct str s);

/* Drops n bytes at the front. */
void buf_consume(struct buf *b, size_t n);
