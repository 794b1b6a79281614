/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/print.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "cli/format.h"

#define TEXT_MAX    (256u << 20)
#define COLUMNS_MAX TABLE_COLUMNS_MAX
/* Columns that may be cut keep at least this much. */
#define CUT_MIN 8
#define GAP	2

/* ---------------------------------------------------------------- terminal */

static bool names_utf8(const char *locale)
{
	return strcasestr(locale, "utf-8") || strcasestr(locale, "utf8");
}

/* A locale that is set decides. Without one (LANG is unset on minimal systems) the terminal does.
 */
bool term_utf8(const char *lc_all, const char *lc_ctype, const char *lang, bool is_tty, bool iutf8)
{
	const char *first = lc_all && *lc_all ? lc_all : lc_ctype && *lc_ctype ? lc_ctype : lang;

	if (first && *first)
		return names_utf8(first);
	return is_tty ? iutf8 : true; /* a file keeps the bytes as they came */
}

const struct term *term_stdout(void)
{
	static struct term term;
	static bool known;
	struct winsize ws = { 0 };
	struct termios tio = { 0 };
	const char *columns = getenv("COLUMNS"), *name = getenv("TERM"),
		   *no_color = getenv("NO_COLOR");

	if (known)
		return &term;
	known = true;
	term.is_tty = isatty(STDOUT_FILENO);
	term.utf8 =
		term_utf8(getenv("LC_ALL"), getenv("LC_CTYPE"), getenv("LANG"), term.is_tty,
			  term.is_tty && !tcgetattr(STDOUT_FILENO, &tio) && tio.c_iflag & IUTF8);
	term.color = term.is_tty && !(no_color && *no_color) && name && strcmp(name, "dumb") != 0;
	if (!term.is_tty)
		return &term;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col)
		term.width = ws.ws_col;
	else if (columns)
		term.width = (unsigned)strtoul(columns, NULL, 10);
	if (term.width && term.width < 20)
		term.width = 20;
	return &term;
}

const char *print_color(const struct term *term, struct str word)
{
	static const struct {
		struct str start;
		const char *code;
	} colors[] = {
		{ { "ok", 2 }, "\033[32m" },	   { { "warn", 4 }, "\033[33m" },
		{ { "fail", 4 }, "\033[31m" },	   { { "denied", 6 }, "\033[33m" },
		{ { "err", 3 }, "\033[31m" },	   { { "upstream", 8 }, "\033[31m" },
		{ { "provider", 8 }, "\033[31m" }, { { "key_", 4 }, "\033[31m" },
		{ { "no_key", 6 }, "\033[31m" },   { { "overloaded", 10 }, "\033[31m" },
		{ { "lost", 4 }, "\033[31m" },	   { { "unknown", 7 }, "\033[33m" },
		{ { "block", 5 }, "\033[31m" },	   { { "deny", 4 }, "\033[31m" },
		{ { "allow", 5 }, "\033[32m" },
	};

	for (size_t i = 0; term->color && i < ARRAY_SIZE(colors); i++)
		if (str_starts(word, colors[i].start))
			return colors[i].code;
	return "";
}

const char *print_plain(const struct term *term)
{
	return term->color ? "\033[0m" : "";
}

void print_text(struct str s)
{
	struct buf b;

	buf_init(&b, TEXT_MAX);
	if (!format_clean(s, term_stdout()->utf8, &b) && buf_len(&b))
		fwrite(buf_head(&b), 1, buf_len(&b), stdout);
	buf_fini(&b);
}

void print_field(const char *title, struct str text)
{
	if (!text.n)
		return;
	printf("%-15s", title);
	print_text(text);
	putchar('\n');
}

/* ---------------------------------------------------------------- cells */

void table_init(struct table *t, const struct column *columns, unsigned n)
{
	*t = (struct table){ .columns = columns,
			     .n_columns = n < COLUMNS_MAX ? n : COLUMNS_MAX,
			     .now_ns = format_now_ns() };
	buf_init(&t->text, TEXT_MAX);
}

void table_fini(struct table *t)
{
	free(t->cells);
	buf_fini(&t->text);
	t->cells = NULL;
	t->n_cells = 0;
}

static void add(struct table *t, struct cell c)
{
	if (t->n_cells == t->cap && !t->err) {
		size_t cap = t->cap ? t->cap * 2 : 256;
		struct cell *p = reallocarray(t->cells, cap, sizeof(*p));

		if (p) {
			t->cells = p;
			t->cap = cap;
		} else {
			t->err = -ENOMEM;
		}
	}
	if (!t->err)
		t->cells[t->n_cells++] = c;
}

void table_text(struct table *t, struct str s)
{
	struct cell c = { .kind = CELL_TEXT, .at = buf_len(&t->text), .len = s.n };
	int err = s.n ? buf_puts(&t->text, s) : 0;

	if (err)
		t->err = err;
	add(t, c);
}

void table_int(struct table *t, int64_t n)
{
	add(t, (struct cell){ .kind = CELL_INT, .n = n });
}

void table_null(struct table *t)
{
	add(t, (struct cell){ .kind = CELL_NULL });
}

void table_reverse(struct table *t)
{
	size_t rows = table_rows(t), n = t->n_columns;

	for (size_t i = 0; i < rows / 2; i++)
		for (size_t k = 0; k < n; k++) {
			struct cell *a = &t->cells[i * n + k],
				    *b = &t->cells[(rows - 1 - i) * n + k], c = *a;

			*a = *b;
			*b = c;
		}
}

struct str table_cell_text(const struct table *t, const struct cell *c)
{
	return c->len ? (struct str){ buf_head(&t->text) + c->at, c->len } : STR("");
}

/* As a person reads it: not cleaned, valid until the next call with the same `room`. */
static struct str cell_human(const struct table *t, const struct column *col, const struct cell *c,
			     char room[FORMAT_BYTES])
{
	if (c->kind == CELL_TEXT)
		return table_cell_text(t, c);
	if (c->kind == CELL_NULL)
		return STR("");
	switch (col->type) {
	case COL_COUNT:
		format_count(c->n, room);
		break;
	case COL_TOKENS:
		format_tokens(c->n, room);
		break;
	case COL_USD:
		format_usd(c->n, room);
		break;
	case COL_AGO:
		format_ago((uint64_t)c->n, t->now_ns, room);
		break;
	case COL_CLOCK:
		format_clock((uint64_t)c->n, t->now_ns, room);
		break;
	case COL_US:
		format_duration((uint64_t)c->n, room);
		break;
	case COL_BYTES:
		format_bytes(c->n, room);
		break;
	case COL_ID:
		snprintf(room, FORMAT_BYTES, "sp_%016" PRIx64, (uint64_t)c->n);
		break;
	case COL_BOOL:
		return c->n ? STR("yes") : STR("");
	case COL_TEXT:
	case COL_TAGS:
	case COL_INT:
		snprintf(room, FORMAT_BYTES, "%" PRId64, c->n);
		break;
	}
	return str_of(room);
}

static bool is_number(const struct column *col)
{
	return col->flags & COL_RIGHT || col->type == COL_COUNT || col->type == COL_TOKENS ||
	       col->type == COL_USD || col->type == COL_BYTES || col->type == COL_INT ||
	       col->type == COL_US;
}

/* ---------------------------------------------------------------- table */

struct layout {
	bool shown[COLUMNS_MAX];
	size_t width[COLUMNS_MAX];
	unsigned n_shown;
};

static void layout_measure(const struct table *t, const struct term *term, struct layout *l)
{
	struct buf clean;
	char room[FORMAT_BYTES];

	buf_init(&clean, TEXT_MAX);
	for (unsigned k = 0; k < t->n_columns; k++) {
		const struct column *col = &t->columns[k];
		bool any = false;

		l->width[k] = strlen(col->title);
		for (size_t r = 0; r < table_rows(t) && !(col->flags & COL_DATA); r++) {
			struct str s = cell_human(t, col, &t->cells[r * t->n_columns + k], room);

			any = any || s.n;
			buf_reset(&clean, 4096);
			format_clean(s, term->utf8, &clean);
			l->width[k] = MAX(l->width[k], format_width(buf_str(&clean)));
		}
		l->shown[k] = !(col->flags & COL_DATA) && (any || !(col->flags & COL_MAYBE));
		l->n_shown += l->shown[k];
	}
	buf_fini(&clean);
}

static size_t layout_total(const struct table *t, const struct layout *l)
{
	size_t total = 0;

	for (unsigned k = 0; k < t->n_columns; k++)
		if (l->shown[k])
			total += l->width[k] + (total ? GAP : 0);
	return total;
}

/* The least that the shown columns can be cut to. */
static size_t layout_least(const struct table *t, const struct layout *l)
{
	struct layout least = *l;

	for (unsigned k = 0; k < t->n_columns; k++)
		if (t->columns[k].flags & (COL_CUT | COL_TAIL))
			least.width[k] = MIN(least.width[k], (size_t)CUT_MIN);
	return layout_total(t, &least);
}

static void layout_drop(const struct table *t, const struct term *term, struct layout *l)
{
	for (unsigned k = t->n_columns; k-- > 0 && term->width && layout_least(t, l) > term->width;)
		if (l->shown[k] && t->columns[k].flags & COL_WEAK) {
			l->shown[k] = false;
			l->n_shown--;
		}
}

/* Takes from the widest column that may be cut, one step at a time, until it fits. */
static void layout_fit(const struct table *t, const struct term *term, struct layout *l)
{
	size_t total = layout_total(t, l);

	while (term->width && total > term->width) {
		unsigned widest = t->n_columns;
		size_t second = CUT_MIN, take;

		for (unsigned k = 0; k < t->n_columns; k++)
			if (l->shown[k] && t->columns[k].flags & (COL_CUT | COL_TAIL) &&
			    l->width[k] > CUT_MIN &&
			    (widest == t->n_columns || l->width[k] > l->width[widest]))
				widest = k;
		if (widest == t->n_columns)
			return; /* narrower than the least: the terminal wraps */
		for (unsigned k = 0; k < t->n_columns; k++)
			if (k != widest && l->shown[k] &&
			    t->columns[k].flags & (COL_CUT | COL_TAIL) &&
			    l->width[k] < l->width[widest])
				second = MAX(second, l->width[k]);
		take = MIN(total - term->width, MAX(l->width[widest] - second, (size_t)1));
		l->width[widest] -= take;
		total -= take;
	}
}

static void put_spaces(size_t n, FILE *out)
{
	fprintf(out, "%*s", (int)n, "");
}

/* Cut to the width; the last column is not padded. */
static void put_cell(struct str s, const struct column *col, const struct term *term, size_t width,
		     bool is_last, FILE *out)
{
	struct str more = term->utf8 ? STR("…") : STR("~");
	size_t have = format_width(s);
	bool cut = term->width && have > width && col->flags & (COL_CUT | COL_TAIL),
	     tail = col->flags & COL_TAIL;
	const char *color = col->flags & COL_STATE ? print_color(term, s) : "";
	size_t pad;

	if (cut) {
		size_t n = format_fit(s, width - 1, tail);

		s = tail ? str_skip(s, s.n - n) : (struct str){ s.s, n };
		have = format_width(s) + 1;
	}
	pad = have < width ? width - have : 0;
	if (is_number(col))
		put_spaces(pad, out);
	fprintf(out, "%s%s%.*s%s%s", color, cut && tail ? more.s : "", STR_ARG(s),
		cut && !tail ? more.s : "", *color ? print_plain(term) : "");
	if (!is_number(col) && !is_last)
		put_spaces(pad, out);
}

/* Blanks at the end of a line are for nobody. */
static void put_trimmed(char *line, size_t n, FILE *out)
{
	while (n && line[n - 1] == ' ')
		n--;
	fwrite(line, 1, n, out);
	fputc('\n', out);
}

static void put_row(const struct table *t, const struct term *term, const struct layout *l,
		    const struct cell *row, FILE *out)
{
	unsigned shown = 0;
	char *line = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&line, &n);
	struct buf clean;
	char room[FORMAT_BYTES];

	if (!f)
		return;
	buf_init(&clean, TEXT_MAX);
	for (unsigned k = 0; k < t->n_columns; k++) {
		const struct column *col = &t->columns[k];

		if (!l->shown[k])
			continue;
		buf_reset(&clean, 4096);
		if (row)
			format_clean(cell_human(t, col, &row[k], room), term->utf8, &clean);
		else
			buf_puts(&clean, str_of(col->title));
		if (shown++)
			put_spaces(GAP, f);
		put_cell(buf_str(&clean), col, term, l->width[k], shown == l->n_shown, f);
	}
	buf_fini(&clean);
	if (!fclose(f))
		put_trimmed(line, n, out);
	free(line);
}

/* A table that goes on keeps its columns: they may grow, and what was shown stays. */
static void layout_remember(const struct table *t, struct layout *l, struct table_memory *memory)
{
	l->n_shown = 0;
	for (unsigned k = 0; k < t->n_columns; k++) {
		memory->width[k] = l->width[k] = MAX(l->width[k], memory->width[k]);
		memory->shown[k] = l->shown[k] = l->shown[k] || memory->shown[k];
		l->n_shown += l->shown[k];
	}
}

void table_human(const struct table *t, const struct term *term, bool with_head,
		 struct table_memory *memory, FILE *out)
{
	struct layout l = { 0 };

	layout_measure(t, term, &l);
	if (memory)
		layout_remember(t, &l, memory);
	layout_drop(t, term, &l);
	layout_fit(t, term, &l);
	if (with_head) {
		fputs(term->color ? "\033[1m" : "", out);
		put_row(t, &(struct term){ .width = term->width, .utf8 = term->utf8 }, &l, NULL,
			out);
		fputs(print_plain(term), out);
	}
	for (size_t r = 0; r < table_rows(t); r++)
		put_row(t, term, &l, &t->cells[r * t->n_columns], out);
}

int table_print(struct table *t, const struct cli_common *o, const char *empty)
{
	if (t->err)
		return cli_fail(
			EXIT_FAILED,
			"the answer does not fit into memory: ask for less with --since or -n");
	if (o->json)
		table_json(t, false, stdout);
	else if (o->csv)
		table_csv(t, true, stdout);
	else if (!table_rows(t))
		puts(empty);
	else
		table_human(t, term_stdout(), true, NULL, stdout);
	return EXIT_OK;
}
