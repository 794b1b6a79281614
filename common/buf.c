/* SPDX-License-Identifier: Apache-2.0 */
#include "common/buf.h"

#include <assert.h>
#include <errno.h>

/* Rationale: below this most heads and small answers fit without a second allocation. */
#define BUF_FIRST_BYTES 2048

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ .max = b->max };
}

void buf_reset(struct buf *b, size_t keep)
{
	if (b->cap > keep)
		buf_fini(b);
	b->start = b->end = 0;
}

char *buf_reserve(struct buf *b, size_t n)
{
	size_t len = buf_len(b), cap;
	char *data;

	if (n > b->max || len > b->max - n)
		return NULL;
	if (b->cap - b->end >= n && b->data)
		return b->data + b->end;
	/* Sliding down costs a copy; it is worth it when at least half of the memory is free. */
	if (b->data && b->start && len + n <= b->cap && len <= b->cap / 2) {
		memmove(b->data, b->data + b->start, len);
		b->start = 0;
		b->end = len;
		return b->data + b->end;
	}
	cap = b->cap ? b->cap : BUF_FIRST_BYTES;
	while (cap < len + n)
		cap *= 2;
	data = malloc(cap);
	if (!data)
		return NULL;
	if (len)
		memcpy(data, b->data + b->start, len);
	free(b->data);
	b->data = data;
	b->cap = cap;
	b->start = 0;
	b->end = len;
	return data + len;
}

int buf_append(struct buf *b, const void *data, size_t n)
{
	char *p;

	if (!n)
		return 0;
	p = buf_reserve(b, n);
	if (!p)
		return n > b->max || buf_len(b) > b->max - n ? -ENOBUFS : -ENOMEM;
	memcpy(p, data, n);
	buf_commit(b, n);
	return 0;
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	char *p;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		return -EINVAL;
	p = buf_reserve(b, (size_t)n + 1);
	if (!p)
		return -ENOBUFS;
	vsnprintf(p, (size_t)n + 1, fmt, ap);
	buf_commit(b, (size_t)n);
	return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int err;

	va_start(ap, fmt);
	err = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return err;
}

int buf_json_escape(struct buf *b, struct str s)
{
	static const char hex[] = "0123456789abcdef";
	size_t from = 0, was = b->end - b->start;
	int err = 0;

	for (size_t i = 0; i < s.n && !err; i++) {
		unsigned char c = (unsigned char)s.s[i];
		char esc[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
		size_t esc_len = 6;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		if (c == '"' || c == '\\' || c == '\n' || c == '\t' || c == '\r') {
			esc[1] = c == '\n' ? 'n' : c == '\t' ? 't' : c == '\r' ? 'r' : (char)c;
			esc_len = 2;
		}
		err = buf_append(b, s.s + from, i - from);
		if (!err)
			err = buf_append(b, esc, esc_len);
		from = i + 1;
	}
	if (!err)
		err = buf_append(b, s.s + from, s.n - from);
	if (err)
		b->end = b->start + was;
	return err;
}

int buf_json_string(struct buf *b, struct str s)
{
	size_t was = b->end - b->start;
	int err = buf_append(b, "\"", 1);

	if (!err)
		err = buf_json_escape(b, s);
	if (!err)
		err = buf_append(b, "\"", 1);
	if (err)
		b->end = b->start + was;
	return err;
}

void buf_consume(struct buf *b, size_t n)
{
	assert(n <= buf_len(b));
	b->start += n;
	if (b->start == b->end)
		b->start = b->end = 0;
}
