/* SPDX-License-Identifier: Apache-2.0 */
/* A borrowed string: pointer and length, never owned, not NUL-terminated. */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct str {
	const char *s;
	size_t n;
};

#define STR(lit)     ((struct str){ (lit), sizeof(lit) - 1 })
/* The same for a static initialiser. */
#define STR_INIT(lit) { (lit), sizeof(lit) - 1 }
#define STR_NULL     ((struct str){ NULL, 0 })
/* printf("%.*s", STR_ARG(x)) */
#define STR_ARG(x)   (int)(x).n, ((x).s ? (x).s : "")

static inline struct str str_of(const char *s)
{
	return (struct str){ s, s ? strlen(s) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.s, b.s, a.n) == 0);
}

static inline bool str_caseeq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.s, b.s, a.n) == 0);
}

static inline bool str_starts(struct str a, struct str prefix)
{
	return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.s, prefix.s, prefix.n) == 0);
}

static inline bool str_ends(struct str a, struct str suffix)
{
	return a.n >= suffix.n &&
	       (suffix.n == 0 || memcmp(a.s + a.n - suffix.n, suffix.s, suffix.n) == 0);
}

/* The first occurrence of the needle, or NULL. */
static inline const char *str_find(struct str hay, struct str needle)
{
	return hay.s ? memmem(hay.s, hay.n, needle.s, needle.n) : NULL;
}

static inline struct str str_skip(struct str a, size_t n)
{
	return n >= a.n ? (struct str){ a.s + a.n, 0 } : (struct str){ a.s + n, a.n - n };
}

/* Copies at most size-1 bytes and always terminates (size > 0); returns true if all of it fitted. */
static inline bool str_copy(char *dst, size_t size, struct str src)
{
	size_t n = src.n < size ? src.n : size - 1;

	if (n)
		memcpy(dst, src.s, n);
	dst[n] = '\0';
	return n == src.n;
}
