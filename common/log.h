/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per event on stderr: level, role, a short sentence, key=value pairs. Peer text goes through
 * log_quote(). Prompts, completions, tool arguments, header values and keys are never logged.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base.h"
#include "common/str.h"

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE, LOG_LEVEL_MAX };

/* `role` is borrowed for the life of the process. */
void log_init(const char *role, enum log_level level);
/* Returns false when the word is no level. */
bool log_level_parse(const char *word, enum log_level *ret_level);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Call sites that a peer can trigger: at most `burst` lines in each 10 s, then one line with the count. */
struct log_ratelimit {
	uint64_t window_ns;
	unsigned burst, written, suppressed;
};
bool log_ratelimit_ok(struct log_ratelimit *rl, const char *what);

#define log_err(...)   log_write(LOG_ERR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_DEBUG))                                                        \
			log_write(LOG_DEBUG, __VA_ARGS__);                                         \
	} while (0)
#define log_limited(level, ...)                                                                    \
	do {                                                                                       \
		static struct log_ratelimit rl_ = { .burst = 20 };                                 \
		if (log_enabled(level) && log_ratelimit_ok(&rl_, __func__))                        \
			log_write(level, __VA_ARGS__);                                             \
	} while (0)

/* A printable, quoted, shortened copy of a peer's bytes in one of a few static buffers (one thread). */
const char *log_quote(struct str s);
/* strerror() of a positive or negative errno, in a static buffer (one thread). */
const char *errno_text(int err);

/* For start-up only: one sentence with its cure on stderr, exit status 1. */
void die(const char *fmt, ...) PRINTF_LIKE(1, 2) __attribute__((noreturn));
