/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 message heads and chunked framing (RFC 9112), strictly read: what is ambiguous is refused, not
 * repaired. Pure functions over bytes; everything returned points into the input.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

/* Rationale: the largest head seen of a real client is 3 KiB in 40 fields. */
#define HTTP_HEAD_MAX    (64u << 10)
#define HTTP_HEADERS_MAX 100

struct http_header {
	struct str name, value;
};

enum http_body { HTTP_BODY_NONE, HTTP_BODY_LENGTH, HTTP_BODY_CHUNKED, HTTP_BODY_EOF };

struct http_head {
	struct str method, target; /* of a request */
	int status;                /* of an answer */
	int minor;                 /* HTTP/1.minor: 0 or 1 */
	struct http_header headers[HTTP_HEADERS_MAX];
	unsigned n_headers;
	enum http_body body;
	uint64_t length;      /* HTTP_BODY_LENGTH */
	bool keep_alive;      /* the sender would go on with this connection */
	bool expect_continue; /* Expect: 100-continue */
	bool upgrade;         /* Connection: upgrade */
};

enum { HTTP_MORE = 0, HTTP_BAD = -1 };

/*
 * Bytes of the head with its blank line, HTTP_MORE, or HTTP_BAD with *ret_why a static sentence. `ret` is
 * defined only on success.
 */
int http_parse_request(struct str in, struct http_head *ret, const char **ret_why);
/* `to_head`: the answer is to a HEAD request and has no body whatever its fields say. */
int http_parse_response(struct str in, bool to_head, struct http_head *ret, const char **ret_why);

/* The value of the first field of this (lower case) name, or a null string. */
struct str http_header_get(const struct http_head *head, const char *name);
/* True when the comma-separated list holds the (lower case) word. */
bool http_list_has(struct str list, struct str word);

/* Chunked framing. Zeroed is the start. */
struct http_chunked {
	enum {
		CHUNK_SIZE,
		CHUNK_EXT,
		CHUNK_SIZE_LF,
		CHUNK_DATA,
		CHUNK_DATA_CR,
		CHUNK_DATA_LF,
		CHUNK_TRAILER,
		CHUNK_TRAILER_FIELD,
		CHUNK_TRAILER_LF,
		CHUNK_END_LF,
		CHUNK_DONE,
	} state;
	unsigned digits, line; /* bytes of the size, of the extension or trailer so far */
	uint64_t left;         /* of the chunk */
};
enum http_piece { PIECE_MORE, PIECE_DATA, PIECE_END, PIECE_BAD };
/*
 * Reads on in *in, which is advanced. PIECE_DATA: *ret is a run of payload; PIECE_END: the message ended,
 * what is left in *in is not of it; PIECE_MORE: *in is empty.
 */
enum http_piece http_chunked_next(struct http_chunked *c, struct str *in, struct str *ret);
