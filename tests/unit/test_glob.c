/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Globs: a table, every short pattern against a plain matcher, and the time of the worst pattern.
 */
#include "tests/unit/test.h"

#include <errno.h>
#include <time.h>

#include "policy/match.h"

static bool match(const char *pattern, const char *text)
{
	struct arena arena = { 0 };
	struct glob g;
	bool ret;

	CHECK_INT(glob_compile(&g, str_of(pattern), &arena), 0);
	ret = glob_match(&g, str_of(text));
	arena_fini(&arena);
	return ret;
}

static void table(void)
{
	static const struct {
		const char *pattern, *text;
		bool want;
	} cases[] = {
		{ "", "", true },
		{ "", "a", false },
		{ "abc", "abc", true },
		{ "abc", "abcd", false },
		{ "abc", "ABC", false },
		{ "*", "", true },
		{ "*", "abc", true },
		{ "*", "a/b", false },
		{ "**", "a/b/c", true },
		{ "**", "", true },
		{ "a/*", "a/", true },
		{ "a/*", "a/b", true },
		{ "a/*", "a/b/c", false },
		{ "a/**", "a/b/c", true },
		{ "a/**", "a", false },
		{ "?", "a", true },
		{ "?", "/", false },
		{ "?", "", false },
		{ "?", "\xc3\xa4", true }, /* one character, two bytes */
		{ "??", "\xc3\xa4", false },
		{ "*\xc3\xa4*", "x\xc3\xa4y", true },
		{ "anthropic/claude-*", "anthropic/claude-sonnet-4-5", true },
		{ "*/claude-sonnet*", "anthropic/claude-sonnet-4-5", true },
		{ "*/claude-sonnet*", "claude-sonnet-4-5", false },
		{ "**claude*", "a/b/claude-3", true },
		{ "**claude*", "a/b/claude-3/x", false },
		{ "**/x/**", "a/x/b", true },
		{ "**/x/**", "x/b", false },
		{ "*a*a*a", "aaa", true },
		{ "*a*a*a", "aab", false },
		{ "a*b*c", "aXbYbZc", true },
		{ "a**b", "a/x/b", true },
		{ "a***b", "a/x/b", true },
		{ "*/", "a/", true },
		{ "a*b**c", "axb/y/c", true },
		{ "a*b**c", "a/b/y/c", false },
		{ "[a]", "[a]", true },
		{ "[a]", "a", false },
		{ "\\*", "\\x", true }, /* a backslash is itself */
		{ "/system.slice/*.service/**", "/system.slice/x.service/a/b", true },
		{ "/system.slice/*.service/**", "/system.slice/x.service", false },
		{ "ghcr.io/acme/agent:*", "ghcr.io/acme/agent:v1.2", true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (match(cases[i].pattern, cases[i].text) != cases[i].want)
			printf("case %zu: %s against %s\n", i, cases[i].pattern, cases[i].text);
		CHECK(match(cases[i].pattern, cases[i].text) == cases[i].want);
	}
}

/* The meaning, word for word, with backtracking. */
static bool plain(const char *p, const char *t)
{
	if (!*p)
		return !*t;
	if (p[0] == '*' && p[1] == '*') {
		for (;; t++) {
			if (plain(p + 2, t))
				return true;
			if (!*t)
				return false;
		}
	}
	if (*p == '*') {
		for (;; t++) {
			if (plain(p + 1, t))
				return true;
			if (!*t || *t == '/')
				return false;
		}
	}
	if (!*t || (*p == '?' ? *t == '/' : *p != *t))
		return false;
	return plain(p + 1, t + 1);
}

static void word(unsigned long code, const char *alphabet, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++, code /= strlen(alphabet))
		out[i] = alphabet[code % strlen(alphabet)];
	out[n] = '\0';
}

static void against_plain(void)
{
	unsigned wrong = 0;
	char pattern[8], text[8];

	for (unsigned long p = 0; p < 5 * 5 * 5 * 5 * 5; p++) {
		struct arena arena = { 0 };
		struct glob g;

		word(p, "ab/*?", 5, pattern);
		CHECK_INT(glob_compile(&g, str_of(pattern), &arena), 0);
		for (size_t n = 0; n < 5; n++) {
			unsigned long all = 1;

			for (size_t i = 0; i < n; i++)
				all *= 3;
			for (unsigned long t = 0; t < all; t++) {
				word(t, "ab/", n, text);
				wrong += glob_match(&g, str_of(text)) != plain(pattern, text);
			}
		}
		arena_fini(&arena);
	}
	CHECK_INT(wrong, 0);
}

/* Two patterns meet if some short text matches both: with 4 tokens each, 7 characters are enough.
 */
static void overlaps(void)
{
	static struct glob globs[4 * 4 * 4 * 4];
	static uint64_t matched[ARRAY_SIZE(globs)][6];
	struct arena arena = { 0 };
	static char patterns[ARRAY_SIZE(globs)][8];
	unsigned wrong = 0;
	char text[8];

	for (size_t p = 0; p < ARRAY_SIZE(globs); p++) {
		unsigned bit = 0;

		word(p, "a/*?", 4, patterns[p]);
		CHECK_INT(glob_compile(&globs[p], str_of(patterns[p]), &arena), 0);
		for (size_t n = 0; n <= 7; n++) {
			for (unsigned long t = 0; t < 1ul << n; t++, bit++) {
				word(t, "a/", n, text);
				if (glob_match(&globs[p], str_of(text)))
					matched[p][bit / 64] |= 1ull << (bit % 64);
			}
		}
	}
	for (size_t a = 0; a < ARRAY_SIZE(globs); a++) {
		for (size_t b = 0; b < ARRAY_SIZE(globs); b++) {
			bool both = false;

			for (size_t w = 0; w < 6; w++)
				both |= (matched[a][w] & matched[b][w]) != 0;
			wrong += both != glob_overlaps(&globs[a], &globs[b]);
		}
	}
	CHECK_INT(wrong, 0);
	arena_fini(&arena);
}

static void bounds(void)
{
	struct arena arena = { 0 };
	char text[GLOB_BYTES_MAX + 2];
	struct glob g;

	memset(text, '?', sizeof(text));
	CHECK_INT(glob_compile(&g, (struct str){ text, GLOB_TOKENS_MAX }, &arena), 0);
	CHECK_INT(glob_compile(&g, (struct str){ text, GLOB_TOKENS_MAX + 1 }, &arena), -E2BIG);
	memset(text, 'a', sizeof(text));
	CHECK_INT(glob_compile(&g, (struct str){ text, GLOB_BYTES_MAX }, &arena), 0);
	CHECK_INT(glob_compile(&g, (struct str){ text, GLOB_BYTES_MAX + 1 }, &arena), -E2BIG);
	CHECK(glob_match(&(struct glob){ .shape = GLOB_ANY }, STR_NULL));
	/* Bytes that are no UTF-8 are matched one by one and are no other character. */
	CHECK(match("?", "\xff") && !match("\xc3\xbf", "\xff"));
	arena_fini(&arena);
}

/* Backtracking would need longer than the universe has. */
static void worst_case(void)
{
	struct arena arena = { 0 };
	char pattern[128], text[2048];
	struct timespec a, b;
	struct glob g;

	for (size_t i = 0; i < sizeof(pattern) - 1; i += 2)
		memcpy(pattern + i, "*a", 2);
	memset(text, 'a', sizeof(text));
	CHECK_INT(glob_compile(&g, (struct str){ pattern, 127 }, &arena), 0);
	clock_gettime(CLOCK_MONOTONIC, &a);
	CHECK(glob_match(&g, (struct str){ text, sizeof(text) }));
	text[sizeof(text) - 1] = 'b';
	pattern[126] = 'a';
	CHECK(!glob_match(&g, (struct str){ text, sizeof(text) / 64 }));
	clock_gettime(CLOCK_MONOTONIC, &b);
	CHECK((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 500);
	arena_fini(&arena);
}

TESTS(T(table), T(against_plain), T(overlaps), T(bounds), T(worst_case))
