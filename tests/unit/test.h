/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The unit tests' helper. A test is `static void name(void)`; it is listed in TESTS(...), and one that is
 * not listed is an unused function, which the build refuses.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base.h"
#include "common/str.h"

static int test_failures;

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #cond);                          \
			test_failures++;                                                           \
		}                                                                                  \
	} while (0)
#define CHECK_INT(got, want)                                                                       \
	do {                                                                                       \
		long long got_ = (long long)(got), want_ = (long long)(want);                      \
		if (got_ != want_) {                                                               \
			printf("%s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__, #got,     \
			       got_, want_);                                                       \
			test_failures++;                                                           \
		}                                                                                  \
	} while (0)
#define CHECK_STR(got, want)                                                                       \
	do {                                                                                       \
		struct str got_ = str_of(got), want_ = str_of(want);                               \
		if (!str_eq(got_, want_)) {                                                        \
			printf("%s:%d: %s is \"%.*s\", expected \"%.*s\"\n", __FILE__, __LINE__,   \
			       #got, STR_ARG(got_), STR_ARG(want_));                               \
			test_failures++;                                                           \
		}                                                                                  \
	} while (0)

struct test {
	const char *name;
	void (*run)(void);
};

#define T(fn) { #fn, fn }
/* The whole main(): TESTS(T(a), T(b)). An argument runs only the tests whose name contains it. */
#define TESTS(...)                                                                                 \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		static const struct test tests[] = { __VA_ARGS__ };                                \
		unsigned passed = 0, failed = 0;                                                   \
		for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {                                   \
			int before = test_failures;                                                \
			if (argc > 1 && !strstr(tests[i].name, argv[1]))                           \
				continue;                                                          \
			tests[i].run();                                                            \
			if (test_failures == before)                                               \
				passed++;                                                          \
			else {                                                                     \
				failed++;                                                          \
				printf("FAIL %s\n", tests[i].name);                                \
			}                                                                          \
		}                                                                                  \
		printf("%u passed, %u failed\n", passed, failed);                                  \
		return failed || !passed;                                                          \
	}
