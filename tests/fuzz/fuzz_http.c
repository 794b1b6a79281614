/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP heads and chunked framing. Cut anywhere, a head must be read as in one piece, and so must chunks. */
#include <stdlib.h>
#include <string.h>

#include <stdint.h>

#include "gateway/http_msg.h"

static size_t payload(const uint8_t *data, size_t n, size_t step, enum http_piece *ret)
{
	struct http_chunked c = { 0 };
	struct str piece;
	size_t bytes = 0, at = 0;

	*ret = PIECE_MORE;
	while (at < n && *ret == PIECE_MORE) {
		struct str in = { (const char *)data + at, n - at < step ? n - at : step };

		at += in.n;
		while ((*ret = http_chunked_next(&c, &in, &piece)) == PIECE_DATA)
			bytes += piece.n;
	}
	return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct http_head head;
	struct str in = { (const char *)data, n };
	enum http_piece whole, cut;
	const char *why = NULL;
	int used = http_parse_request(in, &head, &why);

	if (used > (int)n || (used == HTTP_BAD && !why))
		abort();
	if (used > 0) {
		/* A shorter piece of a good head is never a whole head, nor a bad one. */
		for (int i = 0; i < used; i++)
			if (http_parse_request((struct str){ in.s, (size_t)i }, &head, &why) != HTTP_MORE)
				abort();
	}
	used = http_parse_response(in, false, &head, &why);
	if (used > (int)n)
		abort();
	if (payload(data, n, n + 1, &whole) != payload(data, n, 1, &cut) || whole != cut)
		abort();
	return 0;
}
