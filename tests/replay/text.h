/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of a script as bytes, and as patterns. In a block each line stands for its own bytes, no line end is
 * added; \r \n \t \\ \xHH are escapes, any other backslash is itself (JSON has many). And:
 *
 *   %length      the number of bytes behind the first empty line of this block
 *   %NAME        the port of the listener NAME
 *   %chunk TEXT  (a line of its own) TEXT as one chunk of chunked coding
 *   %repeat N T  (a line of its own) T, N times
 *   %id          what is seen: the 16 hex digits of a request id
 *   %any         what is seen: anything up to the end of the line
 */
#pragma once

#include <ctype.h>

#include "common/buf.h"

/* Rationale: a body over the limits of the gateway, and no more. */
#define BLOCK_MAX (64u << 20)

/* Stand for what is not known yet: scripts are text, they hold no such bytes. */
enum { MARK_ANY = 1, MARK_ID, MARK_LENGTH };

/* The port behind a name, or 0. */
typedef unsigned (*port_fn)(struct str name);

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t text_escape(struct str in, struct buf *out)
{
	static const char from[] = "rnt\\", to[] = "\r\n\t\\";
	const char *p = in.n > 1 ? strchr(from, in.s[1]) : NULL;

	if (p && *p) {
		buf_append(out, &to[p - from], 1);
		return 2;
	}
	if (in.n > 3 && in.s[1] == 'x' && hex_digit(in.s[2]) >= 0 && hex_digit(in.s[3]) >= 0) {
		char byte = (char)(hex_digit(in.s[2]) << 4 | hex_digit(in.s[3]));

		buf_append(out, &byte, 1);
		return 4;
	}
	buf_append(out, in.s, 1);
	return 1;
}

static size_t text_percent(struct str in, port_fn port, struct buf *out)
{
	static const struct {
		struct str word;
		char mark;
	} marks[] = { { STR_INIT("%any"), MARK_ANY }, { STR_INIT("%id"), MARK_ID }, { STR_INIT("%length"), MARK_LENGTH } };
	struct str name = { in.s + 1, 0 };

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		if (!str_starts(in, marks[i].word))
			continue;
		buf_append(out, &marks[i].mark, 1);
		return marks[i].word.n;
	}
	while (name.n + 1 < in.n && (isalnum((unsigned char)name.s[name.n]) || name.s[name.n] == '_'))
		name.n++;
	if (!port(name)) {
		buf_append(out, in.s, 1);
		return 1;
	}
	buf_printf(out, "%u", port(name));
	return name.n + 1;
}

static void text_expand(struct str in, port_fn port, struct buf *out)
{
	while (in.n) {
		size_t n = 1;

		if (*in.s == '\\')
			n = text_escape(in, out);
		else if (*in.s == '%')
			n = text_percent(in, port, out);
		else
			buf_append(out, in.s, 1);
		in = str_skip(in, n);
	}
}

/* One line of a block. */
static void text_line(struct str line, port_fn port, struct buf *out)
{
	struct buf piece;

	buf_init(&piece, BLOCK_MAX);
	if (str_starts(line, STR("%chunk "))) {
		text_expand(str_skip(line, 7), port, &piece);
		buf_printf(out, "%zx\r\n", buf_len(&piece));
		buf_puts(out, buf_str(&piece));
		buf_puts(out, STR("\r\n"));
	} else if (str_starts(line, STR("%repeat "))) {
		char *text;
		unsigned long n = strtoul(line.s + 8, &text, 10);

		text_expand(str_skip(line, (size_t)(text - line.s) + 1), port, &piece);
		while (n-- && buf_puts(out, buf_str(&piece)) == 0)
			;
	} else {
		text_expand(line, port, out);
	}
	buf_fini(&piece);
}

/* %length becomes a number. */
static void text_finish(struct buf *b)
{
	const char *mark = buf_len(b) ? memchr(buf_head(b), MARK_LENGTH, buf_len(b)) : NULL;
	const char *end = str_find(buf_str(b), STR("\r\n\r\n"));
	struct buf done;

	if (!mark || !end)
		return;
	buf_init(&done, BLOCK_MAX + 32);
	buf_append(&done, buf_head(b), (size_t)(mark - buf_head(b)));
	buf_printf(&done, "%zu", buf_len(b) - (size_t)(end + 4 - buf_head(b)));
	buf_puts(&done, str_skip(buf_str(b), (size_t)(mark + 1 - buf_head(b))));
	buf_fini(b);
	*b = done;
}

static bool text_is_id(struct str s)
{
	for (size_t i = 0; i < 16; i++)
		if (i >= s.n || hex_digit(s.s[i]) < 0)
			return false;
	return true;
}

/*
 * How many bytes at the front of `s` the pattern covers, or -1; *far is where it came to at best. `s` may go on
 * behind them.
 */
static ssize_t text_match(struct str pattern, struct str s, const char **far)
{
	const char *from = s.s;

	for (; pattern.n; pattern = str_skip(pattern, 1)) {
		*far = MAX(*far, s.s);
		if (*pattern.s == MARK_ANY) {
			for (;; s = str_skip(s, 1)) {
				ssize_t n = text_match(str_skip(pattern, 1), s, far);

				if (n >= 0)
					return s.s + n - from;
				if (!s.n || *s.s == '\r' || *s.s == '\n')
					return -1;
			}
		}
		if (*pattern.s == MARK_ID) {
			if (!text_is_id(s))
				return -1;
			s = str_skip(s, 16);
			continue;
		}
		if (!s.n || *s.s != *pattern.s)
			return -1;
		s = str_skip(s, 1);
	}
	return s.s - from;
}

/* For people: at most so many bytes, escaped as in a script. */
static void text_print(struct str s, size_t max)
{
	for (size_t i = 0; i < MIN(s.n, max); i++) {
		unsigned char c = (unsigned char)s.s[i];

		if (c == '\r')
			printf("\\r");
		else if (c == '\n')
			printf("\\n\n\t");
		else if (c == MARK_ANY)
			printf("%%any");
		else if (c == MARK_ID)
			printf("%%id");
		else if (c < ' ' || c >= 0x7f)
			printf("\\x%02x", c);
		else
			putchar(c);
	}
	printf("%s\n", s.n > max ? " …" : "");
}
