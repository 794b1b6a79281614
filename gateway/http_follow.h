/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests of a clear-text connection that is passed on, one after the other: each head is seen before it goes, so
 * that none of them can turn to a provider's name after the first did not. The bytes are never changed. Pure.
 */
#pragma once

#include "gateway/http_msg.h"

/* Zeroed: a head comes next. */
struct http_follow {
	enum { FOLLOW_HEAD, FOLLOW_LENGTH, FOLLOW_CHUNKED } state;
	uint64_t left;
	struct http_chunked chunked;
};

/* May this request go on? NULL, or a static sentence. */
typedef const char *(*http_follow_fn)(void *arg, const struct http_head *head);
/*
 * How many bytes at the front of `in` may go on; HTTP_MORE: the head is not whole yet; HTTP_BAD with *ret_why: nothing
 * more may go. Call again with what is left while there is some.
 */
int http_follow_next(struct http_follow *f, struct str in, http_follow_fn may_go, void *arg, const char **ret_why);
