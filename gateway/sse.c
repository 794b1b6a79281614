/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: a line is a field name, a colon, one optional space and a value. The value
 * goes to the handler (data), into `name` (event), or nowhere (comments, id, retry, unknown
 * fields).
 */
#include "gateway/sse.h"

#include "common/base.h"

enum { AT_FIELD, AT_DATA, AT_NAME, AT_IGNORED };

void sse_init(struct sse *s, const struct sse_ops *ops, void *arg)
{
	*s = (struct sse){ .ops = ops, .arg = arg, .state = AT_FIELD };
}

/* The line's name is complete (a colon, or the end of the line). */
static void sse_field(struct sse *s)
{
	struct str field = { s->field, s->field_len };

	s->state = AT_IGNORED;
	s->first_space = true;
	if (str_eq(field, STR("data"))) {
		s->state = AT_DATA;
		s->has_data = true;
		s->ops->line(s->arg);
	} else if (str_eq(field, STR("event"))) {
		s->state = AT_NAME;
		s->name_len = 0;
	}
}

static void sse_line_end(struct sse *s)
{
	if (s->state == AT_FIELD && !s->field_len) {
		if (s->has_data)
			s->ops->dispatch(s->arg, sse_event_name(s));
		s->has_data = false;
		s->name_len = 0;
		return;
	}
	if (s->state == AT_FIELD)
		sse_field(s);
	if (s->state == AT_DATA)
		s->ops->line_end(s->arg);
	s->state = AT_FIELD;
	s->field_len = 0;
}

/* The bytes [p, end) hold no line end. */
static void sse_value(struct sse *s, const char *p, const char *end)
{
	size_t n;

	if (s->first_space && p < end) {
		s->first_space = false;
		if (*p == ' ')
			p++;
	}
	n = (size_t)(end - p);
	if (s->state == AT_DATA && n) {
		s->ops->data(s->arg, p, n);
	} else if (s->state == AT_NAME) {
		n = MIN(n, sizeof(s->name) - s->name_len);
		memcpy(s->name + s->name_len, p, n);
		s->name_len += (unsigned)n;
	}
}

static const char *sse_in_field(struct sse *s, const char *p, const char *end)
{
	for (; p < end; p++) {
		if (*p == ':') {
			sse_field(s);
			return p + 1;
		}
		/* A name that does not fit is none that we know. */
		if (s->field_len < sizeof(s->field))
			s->field[s->field_len++] = *p;
	}
	return p;
}

/* A byte order mark at the start of the stream, cut anywhere. */
static const char *sse_bom(struct sse *s, const char *p, const char *end)
{
	static const char bom[] = "\xef\xbb\xbf";

	while (s->bom < 3 && p < end && *p == bom[s->bom]) {
		p++;
		s->bom++;
	}
	if (p < end)
		s->bom = 3;
	return p;
}

/* The next CR or LF, or end. */
static const char *sse_find_end(const char *p, const char *end)
{
	const char *lf = memchr(p, '\n', (size_t)(end - p));
	const char *stop = lf ? lf : end;
	const char *cr = memchr(p, '\r', (size_t)(stop - p));

	return cr ? cr : stop;
}

/* A whole data line of which the handler knows at a glance that it needs no reading. */
static bool sse_skip_line(struct sse *s, const char *p, const char *stop)
{
	struct str line = { p, (size_t)(stop - p) };

	if (!s->ops->skip || s->state != AT_FIELD || s->field_len || !str_starts(line, STR("data: ")))
		return false;
	if (!s->ops->skip(s->arg, str_skip(line, 6)))
		return false;
	s->has_data = true;
	return true;
}

void sse_feed(struct sse *s, const void *data, size_t n)
{
	const char *p = data, *end;

	if (!n)
		return;
	end = p + n;
	if (s->bom < 3)
		p = sse_bom(s, p, end);
	while (p < end) {
		const char *stop;

		if (s->after_cr) {
			s->after_cr = false;
			if (*p == '\n') {
				p++;
				continue;
			}
		}
		stop = sse_find_end(p, end);
		if (stop < end && sse_skip_line(s, p, stop)) {
			s->after_cr = *stop == '\r';
			p = stop + 1;
			continue;
		}
		if (s->state == AT_FIELD)
			p = sse_in_field(s, p, stop);
		if (s->state != AT_FIELD)
			sse_value(s, p, stop);
		if (stop == end)
			return;
		s->after_cr = *stop == '\r';
		p = stop + 1;
		sse_line_end(s);
	}
}
