/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the scanner and the taps read: long strings, dense JSON, a stream of small events. */
#include <stdio.h>
#include <time.h>

#include "common/base.h"
#include "common/buf.h"
#include "gateway/extract.h"
#include "gateway/scan.h"

#define BODY   (32u << 20)
#define ROUNDS 5

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void report(const char *what, uint64_t ns, size_t bytes)
{
	printf("%-40s %8.0f MB/s\n", what, (double)bytes * 1e3 / (double)ns);
}

static void no_key(void *arg, struct str key)
{
	(void)arg;
	(void)key;
}

static enum scan_want skip(void *arg, enum scan_type type)
{
	(void)arg;
	(void)type;
	return SCAN_SKIP;
}

static enum scan_want walk(void *arg, enum scan_type type)
{
	(void)arg;
	return type == SCAN_OBJECT || type == SCAN_ARRAY ? SCAN_WALK : SCAN_SKIP;
}

static void no_piece(void *arg, struct str piece)
{
	(void)arg;
	(void)piece;
}

static void no_end(void *arg, enum scan_type type)
{
	(void)arg;
	(void)type;
}

static const struct scan_ops skip_ops = { no_key, skip, no_piece, no_end };
static const struct scan_ops walk_ops = { no_key, walk, no_piece, no_end };

/* In pieces of 16 KiB, as they come from a socket. The best of the rounds counts. */
static void bench_scan(const char *what, const struct scan_ops *ops, struct str body)
{
	uint64_t best = UINT64_MAX;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t start = now_ns();
		struct scan s;

		scan_init(&s, ops, NULL);
		for (size_t i = 0; i < body.n; i += 16384)
			scan_feed(&s, body.s + i, MIN((size_t)16384, body.n - i));
		if (!scan_done(&s))
			printf("%s: not JSON\n", what);
		best = MIN(best, now_ns() - start);
	}
	report(what, best, body.n);
}

static void bench_request(const char *what, enum wire_format format, struct str body)
{
	struct req_tap *tap = req_tap_new();
	uint64_t best = UINT64_MAX;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t start = now_ns();

		req_tap_start(tap, format);
		for (size_t i = 0; i < body.n; i += 16384)
			req_tap_feed(tap, body.s + i, MIN((size_t)16384, body.n - i));
		req_tap_end(tap);
		best = MIN(best, now_ns() - start);
	}
	report(what, best, body.n);
	req_tap_free(tap);
}

static void bench_answer(const char *what, enum wire_format format, struct str body)
{
	struct resp_tap *tap = resp_tap_new();
	uint64_t best = UINT64_MAX;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t start = now_ns();

		resp_tap_start(tap, format, 200, STR_NULL, NULL, NULL);
		for (size_t i = 0; i < body.n; i += 1000)
			resp_tap_feed(tap, body.s + i, MIN((size_t)1000, body.n - i));
		resp_tap_end(tap);
		best = MIN(best, now_ns() - start);
	}
	report(what, best, body.n);
	resp_tap_free(tap);
}

static void repeat(struct buf *b, const char *unit, const char *between, size_t upto)
{
	buf_puts(b, str_of(unit));
	while (buf_len(b) < upto) {
		buf_puts(b, str_of(between));
		buf_puts(b, str_of(unit));
	}
}

int main(void)
{
	struct buf b;

	buf_init(&b, 2 * BODY);
	buf_puts(&b, STR("{\"data\":\""));
	repeat(&b, "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk", "", BODY);
	buf_puts(&b, STR("\"}"));
	bench_scan("one long string, skipped", &skip_ops, buf_str(&b));

	buf_reset(&b, SIZE_MAX);
	buf_puts(&b, STR("[\""));
	repeat(&b, "int main(void)\\n{\\n\\tprintf(\\\"hello, %s\\\\n\\\", name);\\n}\\n", "",
	       BODY);
	buf_puts(&b, STR("\"]"));
	bench_scan("source code in a string, skipped", &skip_ops, buf_str(&b));

	buf_reset(&b, SIZE_MAX);
	buf_puts(&b, STR("["));
	repeat(&b,
	       "{\"id\":17,\"x\":-1.5e3,\"ok\":true,\"n\":null,\"tags\":[\"a\",\"bc\"],\"o\":{\"k\":\"value\"}}",
	       ",", BODY);
	buf_puts(&b, STR("]"));
	bench_scan("dense JSON, skipped", &skip_ops, buf_str(&b));
	bench_scan("dense JSON, walked", &walk_ops, buf_str(&b));

	buf_reset(&b, SIZE_MAX);
	buf_puts(&b, STR("{\"model\":\"m\",\"messages\":["));
	repeat(&b,
	       "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"toolu_01\",\"content\":"
	       "\"drwxr-xr-x 2 root root 4096 Jan  1 00:00 directory\\n-rw-r--r-- 1 root root 120 file\\n\"}]}",
	       ",", BODY);
	buf_puts(&b, STR("]}"));
	bench_request("Anthropic request, small results", WIRE_ANTHROPIC_MESSAGES, buf_str(&b));

	buf_reset(&b, SIZE_MAX);
	repeat(&b,
	       "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
	       "\"text_delta\",\"text\":\" some words\"}}\n\n",
	       "", BODY);
	bench_answer("Anthropic stream, text deltas", WIRE_ANTHROPIC_MESSAGES, buf_str(&b));

	buf_reset(&b, SIZE_MAX);
	repeat(&b,
	       "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\"model\":"
	       "\"gpt-4.1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"logprobs\":null,"
	       "\"finish_reason\":null}],\"usage\":null}\n\n",
	       "", BODY);
	bench_answer("chat stream, text deltas", WIRE_OPENAI_CHAT, buf_str(&b));
	buf_fini(&b);
	return 0;
}
