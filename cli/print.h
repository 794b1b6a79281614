/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists: one set of rows is printed as a table that fits the terminal, as JSON, or as CSV. What
 * comes from strangers is made harmless for terminals.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/cli.h"
#include "common/buf.h"
#include "common/str.h"

/* ---------------------------------------------------------------- terminal */

struct term {
	bool is_tty, color, utf8;
	unsigned width; /* columns; 0: no bound */
};
/* Of standard output; asked once. */
const struct term *term_stdout(void);
/* What locale variables and terminal allow; `iutf8`: the terminal's line discipline is told of
 * UTF-8. */
bool term_utf8(const char *lc_all, const char *lc_ctype, const char *lang, bool is_tty, bool iutf8);

/* ---------------------------------------------------------------- tables */

enum column_type {
	COL_TEXT,
	COL_COUNT,  /* 1,234 */
	COL_TOKENS, /* 12.3k */
	COL_USD,    /* nano-dollars */
	COL_AGO,    /* wall clock ns */
	COL_CLOCK,  /* wall clock ns */
	COL_US,	    /* microseconds */
	COL_BYTES,
	COL_ID,	  /* of a request: sp_… */
	COL_INT,  /* plain digits */
	COL_BOOL, /* yes or nothing */
	COL_TAGS, /* text "tag:a,tag:b", an array in JSON */
};
enum column_flag {
	COL_CUT = 1,	/* may lose its end when the terminal is narrow */
	COL_TAIL = 2,	/* may lose its beginning: paths */
	COL_DATA = 4,	/* in JSON and CSV only */
	COL_HUMAN = 8,	/* in the table only */
	COL_MAYBE = 16, /* not shown when every row is empty */
	COL_STATE = 32, /* coloured by its word */
	COL_RIGHT = 64, /* to the right; numbers are without it */
	COL_WEAK = 128, /* left out when the terminal is too narrow for all, the last one first */
};
#define TABLE_COLUMNS_MAX 48
struct column {
	const char *key, *title; /* of JSON and CSV; of the table */
	enum column_type type;
	unsigned flags;
};

struct cell {
	enum { CELL_NULL, CELL_INT, CELL_TEXT } kind;
	int64_t n;
	size_t at, len; /* in the table's text */
};
struct table {
	const struct column *columns;
	unsigned n_columns;
	struct cell *cells;
	size_t n_cells, cap;
	struct buf text;
	int err; /* sticky */
	uint64_t now_ns;
};

void table_init(struct table *t, const struct column *columns, unsigned n);
void table_fini(struct table *t);
/* Cells are added in the order of the columns, row after row. Text is copied. */
void table_text(struct table *t, struct str s);
void table_int(struct table *t, int64_t n);
void table_null(struct table *t);
/* Of a cell with text; borrowed until the next cell is added. */
struct str table_cell_text(const struct table *t, const struct cell *c);
static inline size_t table_rows(const struct table *t)
{
	return t->n_cells / t->n_columns;
}
/* The other way round: the last row becomes the first. */
void table_reverse(struct table *t);

/* By the options; EXIT_OK, or EXIT_FAILED when memory ran out. `empty` is said instead of a table
 * without rows. */
int table_print(struct table *t, const struct cli_common *o, const char *empty);
/* Widths of a table that is printed piece by piece; zeroed at first. */
struct table_memory {
	size_t width[TABLE_COLUMNS_MAX];
	bool shown[TABLE_COLUMNS_MAX];
};
/* To a stream, as for this terminal; `memory` may be NULL. */
void table_human(const struct table *t, const struct term *term, bool with_head,
		 struct table_memory *memory, FILE *out);
/* Controls go to files as they came, but not to a terminal. */
void table_csv(const struct table *t, bool with_head, FILE *out);
/* An array with a line for each row; `as_lines`: the objects alone. */
void table_json(const struct table *t, bool as_lines, FILE *out);

/* ---------------------------------------------------------------- single things */

/* Made harmless and written to stdout. */
void print_text(struct str s);
/* "  title:      text", with wrapped nothing; left out when empty. */
void print_field(const char *title, struct str text);
/* ESC sequence for a word as ok, warn, fail, denied_…; "" without colours. Follow with
 * print_plain(). */
const char *print_color(const struct term *term, struct str word);
const char *print_plain(const struct term *term);

/* A JSON object that grows in a buffer: members in order, commas by itself. */
struct json_out {
	struct buf buf;
	bool comma;
	int err;
};
void json_out_init(struct json_out *j);
void json_out_open(struct json_out *j, const char *key,
		   char bracket); /* key NULL: inside an array, or the top */
void json_out_close(struct json_out *j, char bracket);
void json_out_text(struct json_out *j, const char *key, struct str s);
void json_out_int(struct json_out *j, const char *key, int64_t n);
void json_out_number(struct json_out *j, const char *key, const char *digits);
void json_out_null(struct json_out *j, const char *key);
void json_out_bool(struct json_out *j, const char *key, bool b);
void json_out_time(struct json_out *j, const char *key, uint64_t at_ns); /* null for 0 */
void json_out_tags(struct json_out *j, const char *key, struct str tags);
/* To stdout with a line end; frees. EXIT_OK or EXIT_FAILED. */
int json_out_print(struct json_out *j);
