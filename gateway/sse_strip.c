/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: bytes are held until the blank line that ends their event, then they leave
 * or are dropped as a whole. An event longer than HELD_MAX cannot be the usage chunk: it passes
 * unread. Where the blank line is a CR, its LF may come with the next piece; it goes the way its
 * event went.
 */
#include "gateway/sse_strip.h"

#include "common/base.h"
#include "gateway/extract_pick.h"
#include "gateway/sse.h"

/* Rationale: recorded usage chunks are below 1 KiB, with all their details. */
#define HELD_MAX (64u << 10)

enum {
	IN_LINE = 1,  /* the line in hand has bytes */
	AFTER_CR = 2, /* the last byte was a CR: an LF belongs to it */
	EVENT_CR = 4, /* … and that CR has ended an event */
	DROPPED = 8,  /* which was dropped */
};

/* ---------------------------------------------------------------- what a chunk is */

enum { TAG_CHOICES = PICK_ROOT + 1, TAG_USAGE, TAG_ERROR };

struct chunk {
	struct pick pick;
	bool no_choices, usage, other;
	unsigned documents;
};

static const struct pick_path chunk_paths[] = {
	{ "choices", PICK_NONE, 0, 0, TAG_CHOICES },
	{ "usage", PICK_NONE, 0, 0, TAG_USAGE },
	{ "error", PICK_NONE, 0, 0, TAG_ERROR },
};

static bool chunk_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct chunk *c = arg;

	if (!leave)
		return tag == PICK_ROOT;
	switch (tag) {
	case PICK_ROOT:
		c->documents++;
		break;
	case TAG_CHOICES:
		c->no_choices = type == SCAN_ARRAY && scan_was_empty(&c->pick.scan);
		break;
	case TAG_USAGE:
		c->usage = type == SCAN_OBJECT;
		break;
	case TAG_ERROR:
		c->other = type != SCAN_NULL;
		break;
	}
	return true;
}

static void chunk_on_line(void *arg)
{
	struct chunk *c = arg;

	pick_feed(&c->pick, "\n", 1);
}

static void chunk_on_data(void *arg, const char *data, size_t n)
{
	struct chunk *c = arg;

	pick_feed(&c->pick, data, n);
}

static void chunk_on_line_end(void *arg)
{
	(void)arg;
}

static void chunk_on_dispatch(void *arg, struct str name)
{
	(void)arg;
	(void)name;
}

static const struct sse_ops chunk_ops = {
	.line = chunk_on_line,
	.data = chunk_on_data,
	.line_end = chunk_on_line_end,
	.dispatch = chunk_on_dispatch,
};

/* Is the whole event one chunk without choices that tells the usage? */
static bool strip_is_usage(struct str event)
{
	static struct pick_tree tree;
	struct chunk c = { .documents = 0 };
	struct sse sse;

	/* Nearly all chunks are known not to be it without reading them. */
	if (!str_find(event, STR("\"usage\"")) || !str_find(event, STR("\"choices\"")))
		return false;
	pick_tree_build(&tree, chunk_paths, ARRAY_SIZE(chunk_paths));
	pick_init(&c.pick, &tree, &c, chunk_mark, &c);
	sse_init(&sse, &chunk_ops, &c);
	sse_feed(&sse, event.s, event.n);
	return c.documents == 1 && scan_done(&c.pick.scan) && c.no_choices && c.usage && !c.other;
}

/* ---------------------------------------------------------------- events */

void sse_strip_init(struct sse_strip *s)
{
	*s = (struct sse_strip){ 0 };
	buf_init(&s->held, HELD_MAX);
}

void sse_strip_fini(struct sse_strip *s)
{
	buf_fini(&s->held);
}

static int strip_release(struct sse_strip *s, struct buf *out)
{
	int err = buf_puts(out, buf_str(&s->held));

	if (!err)
		buf_reset(&s->held, HELD_MAX);
	return err;
}

/* Holds bytes of an event, or passes them on if it is too long for that. */
static int strip_hold(struct sse_strip *s, struct str bytes, struct buf *out)
{
	int err;

	if (!s->passing && !buf_puts(&s->held, bytes))
		return 0;
	if (!s->passing) {
		s->passing = true;
		err = strip_release(s, out);
		if (err)
			return err;
	}
	return buf_puts(out, bytes);
}

static int strip_event_end(struct sse_strip *s, struct buf *out)
{
	s->state &= ~(unsigned)DROPPED;
	if (s->passing) {
		s->passing = false;
		return 0;
	}
	if (!strip_is_usage(buf_str(&s->held)))
		return strip_release(s, out);
	s->state |= DROPPED;
	buf_reset(&s->held, HELD_MAX);
	return 0;
}

/* An LF right after a CR. */
static int strip_second_half(struct sse_strip *s, struct buf *out)
{
	s->state &= ~(unsigned)AFTER_CR;
	if (!(s->state & EVENT_CR))
		return strip_hold(s, STR("\n"), out);
	s->state &= ~(unsigned)EVENT_CR;
	return s->state & DROPPED ? 0 : buf_puts(out, STR("\n"));
}

/* The bytes up to and with a line end (or all there are); returns how many. */
static size_t strip_line(struct str bytes, bool *ret_ended)
{
	const char *lf = memchr(bytes.s, '\n', bytes.n);
	size_t n = lf ? (size_t)(lf - bytes.s) : bytes.n;
	const char *cr = memchr(bytes.s, '\r', n);

	if (cr)
		n = (size_t)(cr - bytes.s);
	*ret_ended = cr || lf;
	return *ret_ended ? n + 1 : n;
}

int sse_strip_feed(struct sse_strip *s, const void *data, size_t n, struct buf *out)
{
	struct str rest = { data, n };
	int err = 0;

	while (rest.n && !err) {
		bool ended, blank;
		size_t take;

		if (s->state & AFTER_CR && *rest.s == '\n') {
			err = strip_second_half(s, out);
			rest = str_skip(rest, 1);
			continue;
		}
		s->state &= ~(unsigned)(AFTER_CR | EVENT_CR);
		take = strip_line(rest, &ended);
		blank = ended && take == 1 && !(s->state & IN_LINE);
		err = strip_hold(s, (struct str){ rest.s, take }, out);
		s->state = ended ? s->state & ~(unsigned)IN_LINE : s->state | IN_LINE;
		if (ended && rest.s[take - 1] == '\r')
			s->state |= AFTER_CR | (blank ? EVENT_CR : 0u);
		if (!err && blank)
			err = strip_event_end(s, out);
		rest = str_skip(rest, take);
	}
	return err;
}

int sse_strip_end(struct sse_strip *s, struct buf *out)
{
	s->passing = false;
	s->state = 0;
	return strip_release(s, out);
}
