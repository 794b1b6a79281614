/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* Rationale: a line longer than this is a mistake of ours, not information. */
#define LOG_LINE_BYTES 1024
#define LOG_QUOTE_BYTES 160
#define LOG_WINDOW_NS (10 * NSEC_PER_SEC)

static const char *const level_words[LOG_LEVEL_MAX] = { "err", "warn", "info", "debug", "trace" };
static const char *log_role = "sallyport";
static enum log_level log_max = LOG_INFO;

void log_init(const char *role, enum log_level level)
{
	const time_t zero = 0;
	struct tm tm;

	log_role = role;
	log_max = level;
	/* The C library looks for a time zone once: here, not under a role's list of system calls. */
	gmtime_r(&zero, &tm);
}

bool log_level_parse(const char *word, enum log_level *ret_level)
{
	for (unsigned i = 0; i < LOG_LEVEL_MAX; i++) {
		if (!strcmp(word, level_words[i])) {
			*ret_level = i;
			return true;
		}
	}
	return false;
}

bool log_enabled(enum log_level level)
{
	return level <= log_max;
}

static void log_vwrite(const char *word, const char *fmt, va_list ap)
{
	char line[LOG_LINE_BYTES], when[32];
	struct timespec now;
	struct tm tm;
	int n, m;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	/* strftime() would look at the time zone's file each time, which a role may not. */
	snprintf(when, sizeof(when), "%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
		 tm.tm_hour, tm.tm_min, tm.tm_sec);
	n = snprintf(line, sizeof(line), "%s.%03ldZ %s %s: ", when, now.tv_nsec / 1000000, word,
		     log_role);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	n = MIN(n + MAX(m, 0), (int)sizeof(line) - 2);
	line[n++] = '\n';
	/* One write keeps lines of several roles whole. A full stderr must not stop a role. */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	log_vwrite(level_words[level], fmt, ap);
	va_end(ap);
}

bool log_ratelimit_ok(struct log_ratelimit *rl, const char *what)
{
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	now = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
	if (now - rl->window_ns >= LOG_WINDOW_NS) {
		unsigned lost = rl->suppressed;

		rl->window_ns = now;
		rl->written = rl->suppressed = 0;
		if (lost)
			log_write(LOG_WARN, "lines like the next were left out count=%u where=%s",
				  lost, what);
	}
	if (rl->written >= rl->burst) {
		rl->suppressed++;
		return false;
	}
	rl->written++;
	return true;
}

const char *log_quote(struct str s)
{
	static char ring[4][LOG_QUOTE_BYTES];
	static unsigned turn;
	char *out = ring[turn++ % ARRAY_SIZE(ring)];
	size_t n = 0;

	out[n++] = '"';
	for (size_t i = 0; i < s.n && n < LOG_QUOTE_BYTES - 8; i++) {
		unsigned char c = (unsigned char)s.s[i];

		if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
			n += (size_t)snprintf(out + n, 5, "\\x%02x", c);
		else
			out[n++] = (char)c;
	}
	out[n++] = '"';
	out[n] = '\0';
	return out;
}

const char *errno_text(int err)
{
	static char ring[4][96];
	static unsigned turn;
	char *out = ring[turn++ % ARRAY_SIZE(ring)];

	return strerror_r(err < 0 ? -err : err, out, sizeof(ring[0]));
}

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("sallyport: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}
