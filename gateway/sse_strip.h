/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes the usage-only chunk out of a chat stream whose client did not ask for it. Every other
 * event leaves in the call in which its last byte came, byte for byte.
 */
#pragma once

#include "common/buf.h"

struct sse_strip {
	struct buf held; /* the event that is not whole yet */
	bool passing;	 /* an event above the bound: passed on unread until it ends */
	unsigned state;
};

void sse_strip_init(struct sse_strip *s);
void sse_strip_fini(struct sse_strip *s);
/* Appends what may leave to `out`; 0 or -ENOBUFS/-ENOMEM of `out`. */
int sse_strip_feed(struct sse_strip *s, const void *data, size_t n, struct buf *out);
/* The stream ended: what is held leaves. */
int sse_strip_end(struct sse_strip *s, struct buf *out);
