/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Incremental JSON scanner: fed in pieces cut anywhere, constant memory, nothing copied. The
 * handler says of each value whether it wants it; what nobody wants passes at memory speed but is
 * still checked for syntax.
 *
 * Lenient where real servers are: control bytes inside strings, unknown escapes, NaN, Infinity,
 * any run of number characters. Below SCAN_DEPTH_MAX levels only strings and brackets are looked
 * at.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

/* Rationale: recorded traffic nests 12 deep; one bit of a word for each level. */
#define SCAN_DEPTH_MAX 64
/* Longer keys are nobody's: they are reported as empty. */
#define SCAN_KEY_MAX 64

enum scan_type {
	SCAN_OBJECT,
	SCAN_ARRAY,
	SCAN_STRING,
	SCAN_NUMBER,
	SCAN_TRUE,
	SCAN_FALSE,
	SCAN_NULL
};

enum scan_want {
	SCAN_SKIP, /* nothing but the end */
	SCAN_WALK, /* containers: their keys and values are reported too */
	SCAN_TEXT, /* strings unescaped; everything else as SCAN_RAW */
	SCAN_RAW,  /* the bytes as they stand, quotes and brackets included */
};

struct scan_ops {
	/* A key of a walked object, unescaped; n is 0 for one above SCAN_KEY_MAX. */
	void (*key)(void *arg, struct str key);
	/* A value begins; scan_offset() is that of its first byte. */
	enum scan_want (*begin)(void *arg, enum scan_type type);
	/* Pieces of a value wanted as text or raw; valid during the call only. */
	void (*piece)(void *arg, struct str piece);
	/* The value has ended, also a skipped one; scan_offset() is one past its last byte. */
	void (*end)(void *arg, enum scan_type type);
};

struct scan {
	const struct scan_ops *ops;
	void *arg;
	uint64_t offset;     /* see scan_offset() */
	uint64_t fed;	     /* bytes of all earlier pieces */
	uint64_t text_bytes; /* inside strings (keys too) that do not look like a base64 blob */
	uint64_t blob_bytes; /* inside those that do */
	uint64_t types;	     /* one bit for each open container, 1: object; lowest: innermost */
	uint64_t run;	     /* raw bytes of the string in hand */
	const char *piece;   /* start of the bytes in hand */
	const char *raw;     /* wanted raw from here on; NULL: not */
	const char *word;    /* the literal in hand */
	unsigned depth;	     /* open containers */
	unsigned quiet;	     /* depth of the container whose inside nobody wants; 0: none */
	unsigned key_len;
	uint32_t code; /* \uXXXX so far */
	uint16_t high; /* a high surrogate waiting for its other half */
	uint8_t state, want, type;
	uint8_t escape; /* 0: none, 1: after the backslash, 2 to 5: hex digits seen + 2 */
	uint8_t bom;
	bool in_key, raw_on, blob, empty, key_long;
	char key[SCAN_KEY_MAX];
};

void scan_init(struct scan *s, const struct scan_ops *ops, void *arg);
/* Forgets the document; handler stays. Text bytes and offset start again at 0. */
void scan_reset(struct scan *s);
/* False: this is no JSON; further feeding has no effect. */
bool scan_feed(struct scan *s, const void *data, size_t n);
/* The input has ended: closes a number at the top level. True if one whole value was read. */
bool scan_finish(struct scan *s);
/* One whole value was read (only white space may follow). */
bool scan_done(const struct scan *s);
bool scan_bad(const struct scan *s);
/* From piece(): nobody wants the rest of this string. Its end is still reported. */
void scan_skip_rest(struct scan *s);

/* Offset from the start of the document, for handlers. */
static inline uint64_t scan_offset(const struct scan *s)
{
	return s->offset;
}

/* In end(): the container had no members. */
static inline bool scan_was_empty(const struct scan *s)
{
	return s->empty;
}

/* The first quote or backslash in [p, end), or end. Exported for the benchmark. */
const char *scan_find_quote(const char *p, const char *end);
