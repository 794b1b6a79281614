/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/http_follow.h"

#include <limits.h>

#include "common/base.h"

static int follow_head(struct http_follow *f, struct str in, http_follow_fn may_go, void *arg, const char **ret_why)
{
	struct http_head head;
	int n = http_parse_request(in, &head, ret_why);

	if (n <= 0)
		return n;
	*ret_why = may_go(arg, &head);
	if (*ret_why)
		return HTTP_BAD;
	f->left = head.body == HTTP_BODY_LENGTH ? head.length : 0;
	f->chunked = (struct http_chunked){ 0 };
	f->state = f->left ? FOLLOW_LENGTH : head.body == HTTP_BODY_CHUNKED ? FOLLOW_CHUNKED : FOLLOW_HEAD;
	return n;
}

static int follow_chunks(struct http_follow *f, struct str in, const char **ret_why)
{
	struct str rest = in, piece;

	for (;;) {
		switch (http_chunked_next(&f->chunked, &rest, &piece)) {
		case PIECE_DATA:
			break;
		case PIECE_MORE:
			return (int)in.n;
		case PIECE_END:
			f->state = FOLLOW_HEAD;
			return (int)(in.n - rest.n);
		case PIECE_BAD:
			*ret_why = "the request's chunks are malformed";
			return HTTP_BAD;
		}
	}
}

int http_follow_next(struct http_follow *f, struct str in, http_follow_fn may_go, void *arg, const char **ret_why)
{
	uint64_t n;

	in.n = MIN(in.n, (size_t)INT_MAX);
	if (!in.n)
		return HTTP_MORE;
	switch (f->state) {
	case FOLLOW_LENGTH:
		n = MIN(f->left, (uint64_t)in.n);
		f->left -= n;
		if (!f->left)
			f->state = FOLLOW_HEAD;
		return (int)n;
	case FOLLOW_CHUNKED:
		return follow_chunks(f, in, ret_why);
	default:
		return follow_head(f, in, may_go, arg, ret_why);
	}
}
