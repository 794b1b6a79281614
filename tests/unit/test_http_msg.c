/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/http_msg.h"
#include "tests/unit/test.h"

static struct http_head head;
static const char *why;

static int request(const char *text)
{
	why = NULL;
	return http_parse_request(str_of(text), &head, &why);
}

static void request_plain(void)
{
	const char *text = "POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nX-A:  b \r\n\r\nbody";

	CHECK_INT(request(text), strlen(text) - 4);
	CHECK(str_eq(head.method, STR("POST")));
	CHECK(str_eq(head.target, STR("/v1/messages?beta=true")));
	CHECK_INT(head.body, HTTP_BODY_LENGTH);
	CHECK_INT(head.length, 12);
	CHECK(head.keep_alive);
	CHECK(str_eq(http_header_get(&head, "x-a"), STR("b")));
	CHECK(!http_header_get(&head, "x-b").s);
}

static void request_cut_anywhere(void)
{
	const char *text = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

	for (size_t n = 0; n < strlen(text); n++)
		CHECK_INT(http_parse_request((struct str){ text, n }, &head, &why), HTTP_MORE);
	CHECK_INT(request(text), strlen(text));
	CHECK_INT(head.body, HTTP_BODY_CHUNKED);
}

static void request_refused(void)
{
	static const char *const bad[] = {
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999999999\r\n\r\n",
		"POST / HTTP/1.1\nHost: x\n\n",
		"POST / HTTP/1.1\r\nHost: x\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
		"POST / HTTP/1.1\r\nHost : x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"POST / HTTP/1.1\r\n\r\n",
		"POST http://evil/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST //evil@x HTTP/2.0\r\nHost: x\r\n\r\n",
		"POST * HTTP/1.1\r\nHost: x\r\n\r\n",
		"PO ST / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /a b HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nA: b\x01\r\n\r\n",
		"\x16\x03\x01\x02\r\n\r\n",
		"GET /#x HTTP/1.1\r\nHost: x\r\n\r\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int n = request(bad[i]);

		if (n != HTTP_BAD || !why)
			printf("case %zu: %d\n", i, n);
		CHECK(n == HTTP_BAD && why);
	}
}

static void request_bounds(void)
{
	static char text[HTTP_HEAD_MAX + 100];
	size_t n = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: x\r\nA: ");

	memset(text + n, 'a', sizeof(text) - n);
	CHECK_INT(http_parse_request((struct str){ text, HTTP_HEAD_MAX }, &head, &why), HTTP_BAD);
	n = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: x\r\n");
	for (int i = 0; i < HTTP_HEADERS_MAX; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "A: b\r\n");
	snprintf(text + n, sizeof(text) - n, "\r\n");
	CHECK_INT(request(text), HTTP_BAD);
}

static void keep_alive_rules(void)
{
	request("GET / HTTP/1.0\r\n\r\n");
	CHECK(!head.keep_alive);
	request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
	CHECK(head.keep_alive);
	request("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, close\r\n\r\n");
	CHECK(!head.keep_alive);
	request("GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: Upgrade\r\n\r\n");
	CHECK(head.expect_continue && head.upgrade && head.keep_alive);
}

static int response(const char *text, bool to_head)
{
	return http_parse_response(str_of(text), to_head, &head, &why);
}

static void response_framing(void)
{
	CHECK(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false) > 0);
	CHECK(head.body == HTTP_BODY_LENGTH && head.length == 5 && head.keep_alive);
	CHECK(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true) > 0);
	CHECK_INT(head.body, HTTP_BODY_NONE);
	CHECK(response("HTTP/1.1 200\r\n\r\n", false) > 0);
	CHECK(head.body == HTTP_BODY_EOF && !head.keep_alive);
	CHECK(response("HTTP/1.1 204 No\r\n\r\n", false) > 0 && head.body == HTTP_BODY_NONE);
	CHECK(response("HTTP/1.1 100 Continue\r\n\r\n", false) > 0 && head.status == 100);
	CHECK_INT(response("HTTP/1.1 20 OK\r\n\r\n", false), HTTP_BAD);
	CHECK_INT(response("HTTP/2 200 OK\r\n\r\n", false), HTTP_BAD);
	CHECK_INT(response("garbage\r\n\r\n", false), HTTP_BAD);
	CHECK_INT(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false), HTTP_BAD);
}

/* Reads `text` in pieces of `step` bytes; returns how the message ended and what it held. */
static enum http_piece chunked(const char *text, size_t step, char *out)
{
	struct http_chunked c = { 0 };
	struct str all = str_of(text), piece;
	enum http_piece what = PIECE_MORE;
	size_t n = 0;

	while (all.n && what == PIECE_MORE) {
		struct str in = { all.s, MIN(step, all.n) };

		all = str_skip(all, in.n);
		while ((what = http_chunked_next(&c, &in, &piece)) == PIECE_DATA) {
			memcpy(out + n, piece.s, piece.n);
			n += piece.n;
		}
	}
	out[n] = '\0';
	return what;
}

static void chunked_bodies(void)
{
	const char *text = "5\r\nhello\r\n6;ext=\"1\"\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
	char out[64];

	for (size_t step = 1; step <= strlen(text); step++) {
		CHECK_INT(chunked(text, step, out), PIECE_END);
		CHECK_STR(out, "hello world");
	}
	CHECK_INT(chunked("5\r\nhel", 3, out), PIECE_MORE);
	CHECK_INT(chunked("5\nhello", 1, out), PIECE_BAD);
	CHECK_INT(chunked("5\r\nhelloX", 100, out), PIECE_BAD);
	CHECK_INT(chunked("\r\n", 1, out), PIECE_BAD);
	CHECK_INT(chunked("-1\r\n", 1, out), PIECE_BAD);
	CHECK_INT(chunked("1000000000000000f\r\n", 1, out), PIECE_BAD);
	CHECK_INT(chunked("0\r\n\r\n", 1, out), PIECE_END);
}

static void list_words(void)
{
	CHECK(http_list_has(STR("a, Close ,b"), STR("close")));
	CHECK(!http_list_has(STR("closed"), STR("close")));
	CHECK(!http_list_has(STR(""), STR("close")));
}

TESTS(T(request_plain), T(request_cut_anywhere), T(request_refused), T(request_bounds), T(keep_alive_rules),
      T(response_framing), T(chunked_bodies), T(list_words))
