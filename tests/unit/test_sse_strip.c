/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/sse_strip.h"

#include <errno.h>

#include "tests/unit/test.h"

#define DELTA "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"usage\":null}"
#define USAGE                                                                                      \
	"data: {\"id\":\"x\",\"choices\": [ ],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}"
#define FILTER "data: {\"choices\":[],\"prompt_filter_results\":[],\"usage\":null}"
#define BOTH   "data: {\"choices\":[{\"index\":0,\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}"
#define ERROR  "data: {\"choices\":[],\"usage\":{},\"error\":{\"message\":\"x\"}}"
#define QUOTED                                                                                     \
	"data: {\"choices\":[{\"delta\":{\"content\":\"{\\\"choices\\\":[],\\\"usage\\\":{}}\"}}]}"
#define DONE "data: [DONE]"

static void check_cut(const char *in, const char *want, size_t a, size_t b)
{
	struct sse_strip s;
	struct buf out;
	size_t n = strlen(in);

	buf_init(&out, 1 << 20);
	sse_strip_init(&s);
	if (a == SIZE_MAX) {
		for (size_t i = 0; i < n; i++)
			CHECK_INT(sse_strip_feed(&s, in + i, 1, &out), 0);
	} else {
		CHECK_INT(sse_strip_feed(&s, in, a, &out), 0);
		CHECK_INT(sse_strip_feed(&s, in + a, b - a, &out), 0);
		CHECK_INT(sse_strip_feed(&s, in + b, n - b, &out), 0);
	}
	CHECK_INT(sse_strip_end(&s, &out), 0);
	buf_append(&out, "", 1);
	CHECK_STR(out.data, want);
	buf_fini(&out);
	sse_strip_fini(&s);
}

static void check(const char *in, const char *want)
{
	size_t n = strlen(in);

	check_cut(in, want, n, n);
	check_cut(in, want, SIZE_MAX, 0);
	for (size_t i = 0; i <= n; i++)
		check_cut(in, want, i, MIN(i + 5, n));
}

static void the_usage_chunk_goes(void)
{
	check(DELTA "\n\n" USAGE "\n\n" DONE "\n\n", DELTA "\n\n" DONE "\n\n");
	check(DELTA "\r\n\r\n" USAGE "\r\n\r\n" DONE "\r\n\r\n", DELTA "\r\n\r\n" DONE "\r\n\r\n");
	check(DELTA "\r\r" USAGE "\r\r" DONE "\r\r", DELTA "\r\r" DONE "\r\r");
	check(": keep-alive\n" USAGE "\n\n" DONE "\n\n", DONE "\n\n");
	check("event: x\nid: 1\n" USAGE "  \n\n", "");
	/* In two data lines. */
	check("data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":1}}\n\n", "");
}

static void everything_else_stays(void)
{
	check(FILTER "\n\n" BOTH "\n\n" ERROR "\n\n" QUOTED "\n\n" DONE "\n\n",
	      FILTER "\n\n" BOTH "\n\n" ERROR "\n\n" QUOTED "\n\n" DONE "\n\n");
	check(": comment\n\n\n\nfoo: bar\n\n", ": comment\n\n\n\nfoo: bar\n\n");
	/* A stream that breaks off, also in the middle of the usage chunk. */
	check(DELTA "\n\n" DELTA, DELTA "\n\n" DELTA);
	check(USAGE "\n", USAGE "\n");
	check("data: {\"choices\":[],\"usage\":{}} x\n\n",
	      "data: {\"choices\":[],\"usage\":{}} x\n\n");
}

static void an_event_leaves_with_its_last_byte(void)
{
	struct sse_strip s;
	struct buf out;

	buf_init(&out, 1 << 16);
	sse_strip_init(&s);
	CHECK_INT(sse_strip_feed(&s, DELTA "\n", strlen(DELTA) + 1, &out), 0);
	CHECK_INT(buf_len(&out), 0);
	CHECK_INT(sse_strip_feed(&s, "\n", 1, &out), 0);
	CHECK_INT(buf_len(&out), strlen(DELTA) + 2);
	/* A CR that ends an event does not wait for its LF. */
	CHECK_INT(sse_strip_feed(&s, "data: x\r\n\r", 10, &out), 0);
	CHECK_INT(buf_len(&out), strlen(DELTA) + 12);
	CHECK_INT(sse_strip_feed(&s, "\n", 1, &out), 0);
	CHECK_INT(buf_len(&out), strlen(DELTA) + 13);
	sse_strip_fini(&s);
	buf_fini(&out);
}

static void long_events_pass(void)
{
	size_t n = 200000;
	char *big = malloc(n + 64), *want;
	struct sse_strip s;
	struct buf out;

	memset(big, 'x', n);
	memcpy(big, "data: ", 6);
	memcpy(big + n, "\n\n" DONE "\n\n", strlen("\n\n" DONE "\n\n") + 1);
	want = strdup(big);
	buf_init(&out, 1 << 20);
	sse_strip_init(&s);
	for (size_t i = 0; i < strlen(big); i += 1000) {
		CHECK_INT(sse_strip_feed(&s, big + i, MIN((size_t)1000, strlen(big) - i), &out), 0);
		CHECK(buf_len(&s.held) <= 64 * 1024);
	}
	CHECK_INT(buf_len(&out), strlen(want));
	CHECK(!memcmp(buf_head(&out), want, strlen(want)));
	/* And after it the filter reads again. */
	CHECK_INT(sse_strip_feed(&s, USAGE "\n\n", strlen(USAGE) + 2, &out), 0);
	CHECK_INT(buf_len(&out), strlen(want));
	sse_strip_fini(&s);
	buf_fini(&out);
	free(big);
	free(want);
}

static void a_full_output_is_an_error(void)
{
	struct sse_strip s;
	struct buf out;

	buf_init(&out, 4);
	sse_strip_init(&s);
	CHECK_INT(sse_strip_feed(&s, DONE "\n\n", strlen(DONE) + 2, &out), -ENOBUFS);
	sse_strip_fini(&s);
	buf_fini(&out);
}

TESTS(T(the_usage_chunk_goes), T(everything_else_stays), T(an_event_leaves_with_its_last_byte),
      T(long_events_pass), T(a_full_output_is_an_error))
