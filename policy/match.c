/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: most patterns are a literal, a literal with one star at the end, or `**`;
 * those are a memcmp(). The others run as a set of states (one bit for each token) over the
 * characters of the text, so no pattern can make it backtrack.
 */
#include "policy/match.h"

#include <errno.h>

#include "common/base.h"

/* Tokens are code points; these lie beyond the last one. */
#define TOKEN_STAR  0x110000u /* any run without '/' */
#define TOKEN_ANY   0x110001u /* any run */
#define TOKEN_ONE   0x110002u /* one character but '/' */
#define TOKEN_BYTE  0x110100u /* plus a byte that is part of no character */
#define STATE_WORDS ((GLOB_TOKENS_MAX + 1 + 63) / 64)

static bool is_special(char c)
{
	return c == '*' || c == '?';
}

bool glob_is_literal(struct str text)
{
	for (size_t i = 0; i < text.n; i++) {
		if (is_special(text.s[i]))
			return false;
	}
	return true;
}

/* Reads one character (or one byte that is part of none) and moves past it. */
static uint32_t next_char(const unsigned char *s, size_t n, size_t *pos)
{
	uint32_t c = s[(*pos)++];
	unsigned more = c < 0xc2 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : 0;

	if (c < 0x80)
		return c;
	if (!more || n - *pos < more)
		return TOKEN_BYTE + c;
	for (unsigned i = 0; i < more; i++) {
		if ((s[*pos + i] & 0xc0) != 0x80)
			return TOKEN_BYTE + c;
	}
	c &= 0x3fu >> more;
	for (unsigned i = 0; i < more; i++)
		c = c << 6 | (s[(*pos)++] & 0x3f);
	return c;
}

/* The next token of a pattern. Runs of stars become one, the widest of them. */
static uint32_t next_token(struct str text, size_t *pos)
{
	const unsigned char *s = (const unsigned char *)text.s;
	size_t stars = 0;

	while (*pos + stars < text.n && s[*pos + stars] == '*')
		stars++;
	*pos += stars;
	if (stars)
		return stars > 1 ? TOKEN_ANY : TOKEN_STAR;
	if (s[*pos] != '?')
		return next_char(s, text.n, pos);
	++*pos;
	return TOKEN_ONE;
}

static int tokens_compile(struct glob *g, struct arena *arena)
{
	uint32_t tokens[GLOB_TOKENS_MAX], *copy;
	size_t pos = g->prefix;
	unsigned n = 0;

	while (pos < g->text.n) {
		if (n == GLOB_TOKENS_MAX)
			return -E2BIG;
		tokens[n++] = next_token(g->text, &pos);
	}
	copy = arena_alloc(arena, n * sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	memcpy(copy, tokens, n * sizeof(*copy));
	g->tokens = copy;
	g->n_tokens = (uint16_t)n;
	return 0;
}

int glob_compile(struct glob *ret, struct str text, struct arena *arena)
{
	struct glob g = { .text = text };
	struct str rest;
	int err;

	if (text.n > GLOB_BYTES_MAX)
		return -E2BIG;
	while (g.prefix < text.n && !is_special(text.s[g.prefix]))
		g.prefix++;
	rest = str_skip(text, g.prefix);
	if (!rest.n) {
		g.shape = GLOB_LITERAL;
	} else if (str_eq(rest, STR("**"))) {
		g.shape = g.prefix ? GLOB_PREFIX_ANY : GLOB_ANY;
	} else if (str_eq(rest, STR("*"))) {
		g.shape = GLOB_PREFIX;
	} else {
		g.shape = GLOB_GENERAL;
		while (!is_special(text.s[text.n - 1 - g.suffix]))
			g.suffix++;
		err = tokens_compile(&g, arena);
		if (err)
			return err;
	}
	*ret = g;
	return 0;
}

static void state_set(uint64_t *state, unsigned i)
{
	state[i / 64] |= 1ull << (i % 64);
}

/* A star may also match nothing: its successor is reached with it. No two stars are neighbours. */
static void state_enter(const struct glob *g, uint64_t *state, unsigned i)
{
	state_set(state, i);
	if (i < g->n_tokens && (g->tokens[i] == TOKEN_STAR || g->tokens[i] == TOKEN_ANY))
		state_set(state, i + 1);
}

/* One character from one state. */
static void state_step(const struct glob *g, unsigned i, uint32_t c, uint64_t *next)
{
	uint32_t token;

	if (i >= g->n_tokens)
		return;
	token = g->tokens[i];
	if (token == TOKEN_ANY || (token == TOKEN_STAR && c != '/'))
		state_enter(g, next, i);
	else if (token == c || (token == TOKEN_ONE && c != '/'))
		state_enter(g, next, i + 1);
}

static bool glob_run(const struct glob *g, struct str text)
{
	uint64_t state[STATE_WORDS] = { 0 };
	unsigned words = (g->n_tokens + 1u + 63) / 64;
	size_t pos = 0;

	state_enter(g, state, 0);
	while (pos < text.n) {
		uint32_t c = next_char((const unsigned char *)text.s, text.n, &pos);
		uint64_t next[STATE_WORDS] = { 0 }, any = 0;

		for (unsigned w = 0; w < words; w++) {
			for (uint64_t bits = state[w]; bits; bits &= bits - 1)
				state_step(g, w * 64 + (unsigned)__builtin_ctzll(bits), c, next);
		}
		for (unsigned w = 0; w < words; w++)
			any |= state[w] = next[w];
		if (!any)
			return false;
	}
	return state[g->n_tokens / 64] >> (g->n_tokens % 64) & 1;
}

bool glob_match(const struct glob *g, struct str text)
{
	struct str rest;

	if (g->shape == GLOB_LITERAL)
		return str_eq(g->text, text);
	if (!text.s)
		text = STR("");
	if (text.n < g->prefix || (g->prefix && memcmp(text.s, g->text.s, g->prefix) != 0))
		return false;
	rest = str_skip(text, g->prefix);
	switch (g->shape) {
	case GLOB_ANY:
	case GLOB_PREFIX_ANY:
		return true;
	case GLOB_PREFIX:
		return !rest.n || !memchr(rest.s, '/', rest.n);
	default:
		if (rest.n < g->suffix || memcmp(rest.s + rest.n - g->suffix,
						 g->text.s + g->text.n - g->suffix, g->suffix) != 0)
			return false;
		return glob_run(g, rest);
	}
}

/* ---------------------------------------------------------------- do two patterns meet */

static bool is_star(uint32_t token)
{
	return token == TOKEN_STAR || token == TOKEN_ANY;
}

/* Whether one character can be taken by both tokens. */
static bool tokens_meet(uint32_t a, uint32_t b)
{
	bool any_a = a == TOKEN_ANY, any_b = b == TOKEN_ANY;
	bool most_a = a == TOKEN_STAR || a == TOKEN_ONE, most_b = b == TOKEN_STAR || b == TOKEN_ONE;

	if (any_a || any_b || (most_a && most_b))
		return true;
	if (most_a || most_b)
		return (most_a ? b : a) != '/';
	return a == b;
}

/* From the pair (i, j) of positions to those that one step more reaches, in `row` and `next`. */
static void pair_step(const uint32_t *a, unsigned i, unsigned n_a, const uint32_t *b, unsigned j,
		      unsigned n_b, bool *row, bool *next)
{
	bool star_a = i < n_a && is_star(a[i]), star_b = j < n_b && is_star(b[j]);

	if (star_a)
		next[j] = true;
	if (star_b)
		row[j + 1] = true;
	if (i == n_a || j == n_b || !tokens_meet(a[i], b[j]))
		return;
	if (!star_a && !star_b)
		next[j + 1] = true;
	else if (!star_a)
		next[j] = true;
	else if (!star_b)
		row[j + 1] = true;
}

bool glob_overlaps(const struct glob *ga, const struct glob *gb)
{
	uint32_t a[GLOB_BYTES_MAX], b[GLOB_BYTES_MAX];
	bool rows[2][GLOB_BYTES_MAX + 2] = { { true } };
	unsigned n_a = 0, n_b = 0;

	for (size_t pos = 0; pos < ga->text.n;)
		a[n_a++] = next_token(ga->text, &pos);
	for (size_t pos = 0; pos < gb->text.n;)
		b[n_b++] = next_token(gb->text, &pos);
	for (unsigned i = 0; i <= n_a; i++) {
		bool *row = rows[i % 2], *next = rows[(i + 1) % 2];

		memset(next, 0, sizeof(rows[0]));
		for (unsigned j = 0; j <= n_b; j++) {
			if (row[j])
				pair_step(a, i, n_a, b, j, n_b, row, next);
		}
	}
	return rows[n_a % 2][n_b];
}
