/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events by the WHATWG rules, read in pieces cut anywhere and handed on without
 * collecting them: lines end in LF, CRLF or CR, a blank line ends an event, several data lines are
 * joined by LF.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/str.h"

#define SSE_NAME_MAX 48 /* of an event; longer names are cut */

struct sse_ops {
	/* The event gets (another) data line; what it holds follows in pieces. */
	void (*line)(void *arg);
	/* Bytes of the data line in hand. */
	void (*data)(void *arg, const char *data, size_t n);
	/* The data line has ended. */
	void (*line_end)(void *arg);
	/* A blank line: the event is whole. `name` is that of its `event:` line, or empty. */
	void (*dispatch)(void *arg, struct str name);
	/*
	 * May be NULL. A whole data line that lies in one piece (what follows "data:" and a space):
	 * true when nothing in it matters, and then line, data and line_end are not called for it.
	 */
	bool (*skip)(void *arg, struct str line);
};

struct sse {
	const struct sse_ops *ops;
	void *arg;
	char field[8]; /* the field's name; none that we know is longer */
	char name[SSE_NAME_MAX];
	unsigned field_len, name_len;
	unsigned char state, bom;
	bool after_cr, has_data, first_space;
};

void sse_init(struct sse *s, const struct sse_ops *ops, void *arg);
void sse_feed(struct sse *s, const void *data, size_t n);
/* The name of the event in hand, so far. */
static inline struct str sse_event_name(const struct sse *s)
{
	return (struct str){ s->name, s->name_len };
}
