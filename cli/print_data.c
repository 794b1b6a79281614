/* SPDX-License-Identifier: Apache-2.0 */
/* Lists as JSON and CSV, and single JSON objects: exact values, nothing cut. */
#include "cli/print.h"

#include <inttypes.h>

#include "cli/format.h"

#define TEXT_MAX (256u << 20)

/* ---------------------------------------------------------------- lists */

static void put_json_string(struct str s, FILE *out)
{
	struct buf b;

	buf_init(&b, TEXT_MAX);
	if (!buf_json_string(&b, s))
		fwrite(buf_head(&b), 1, buf_len(&b), out);
	buf_fini(&b);
}

static void put_json_tags(struct str tags, FILE *out)
{
	bool comma = false;

	fputc('[', out);
	while (tags.n) {
		const char *end = memchr(tags.s, ',', tags.n);
		size_t n = end ? (size_t)(end - tags.s) : tags.n;

		if (comma)
			fputc(',', out);
		comma = true;
		put_json_string((struct str){ tags.s, n }, out);
		tags = str_skip(tags, n + 1);
	}
	fputc(']', out);
}

/* The exact value of a number in data: times as RFC 3339, money with nine digits. Quoted in JSON
 * where `*text`. */
static void cell_data(const struct column *col, const struct cell *c, bool *text,
		      char room[FORMAT_BYTES])
{
	*text = col->type == COL_AGO || col->type == COL_CLOCK || col->type == COL_ID;
	if (col->type == COL_AGO || col->type == COL_CLOCK)
		format_rfc3339((uint64_t)c->n, room);
	else if (col->type == COL_ID)
		snprintf(room, FORMAT_BYTES, "sp_%016" PRIx64, (uint64_t)c->n);
	else if (col->type == COL_USD)
		format_usd_exact(c->n, room);
	else if (col->type == COL_BOOL)
		snprintf(room, FORMAT_BYTES, "%s", c->n ? "true" : "false");
	else
		snprintf(room, FORMAT_BYTES, "%" PRId64, c->n);
}

static void put_json_cell(const struct table *t, const struct column *col, const struct cell *c,
			  FILE *out)
{
	char room[FORMAT_BYTES];
	bool text;

	if (c->kind == CELL_NULL) {
		fputs("null", out);
	} else if (c->kind == CELL_TEXT) {
		if (col->type == COL_TAGS)
			put_json_tags(table_cell_text(t, c), out);
		else
			put_json_string(table_cell_text(t, c), out);
	} else {
		cell_data(col, c, &text, room);
		fprintf(out, text ? "\"%s\"" : "%s", room);
	}
}

void table_json(const struct table *t, bool as_lines, FILE *out)
{
	size_t rows = table_rows(t);

	fputs(as_lines ? "" : "[", out);
	for (size_t r = 0; r < rows; r++) {
		const char *comma = "";

		fputs(as_lines ? "{" : r ? ",\n {" : "\n {", out);
		for (unsigned k = 0; k < t->n_columns; k++) {
			if (t->columns[k].flags & COL_HUMAN)
				continue;
			fprintf(out, "%s\"%s\":", comma, t->columns[k].key);
			put_json_cell(t, &t->columns[k], &t->cells[r * t->n_columns + k], out);
			comma = ",";
		}
		fputs(as_lines ? "}\n" : "}", out);
	}
	if (!as_lines)
		fputs(rows ? "\n]\n" : "]\n", out);
}

/* RFC 4180, but with plain line ends. */
static void put_csv(struct str s, FILE *out)
{
	bool quote = false;

	for (size_t i = 0; i < s.n; i++)
		quote = quote || strchr(",\"\r\n", s.s[i]) != NULL;
	if (!quote) {
		fwrite(s.s, 1, s.n, out);
		return;
	}
	fputc('"', out);
	for (size_t i = 0; i < s.n; i++) {
		if (s.s[i] == '"')
			fputc('"', out);
		fputc(s.s[i], out);
	}
	fputc('"', out);
}

static void put_csv_clean(struct str s, FILE *out)
{
	struct buf clean;

	buf_init(&clean, TEXT_MAX);
	if (!format_clean(s, true, &clean))
		put_csv(buf_str(&clean), out);
	buf_fini(&clean);
}

void table_csv(const struct table *t, bool with_head, FILE *out)
{
	void (*put)(struct str, FILE *) = isatty(fileno(out)) ? put_csv_clean : put_csv;

	for (size_t r = with_head ? 0 : 1; r <= table_rows(t); r++) {
		const char *comma = "";

		for (unsigned k = 0; k < t->n_columns; k++) {
			const struct column *col = &t->columns[k];
			const struct cell *c = r ? &t->cells[(r - 1) * t->n_columns + k] : NULL;
			char room[FORMAT_BYTES] = "";
			bool text;

			if (col->flags & COL_HUMAN)
				continue;
			fputs(comma, out);
			comma = ",";
			if (c && c->kind == CELL_INT)
				cell_data(col, c, &text, room);
			put(!c			   ? str_of(col->key)
			    : c->kind == CELL_TEXT ? table_cell_text(t, c)
						   : str_of(room),
			    out);
		}
		fputc('\n', out);
	}
}

/* ---------------------------------------------------------------- JSON objects */

void json_out_init(struct json_out *j)
{
	*j = (struct json_out){ 0 };
	buf_init(&j->buf, TEXT_MAX);
}

static void json_out_key(struct json_out *j, const char *key)
{
	int err = j->comma ? buf_puts(&j->buf, STR(",")) : 0;

	if (!err && key)
		err = buf_printf(&j->buf, "\"%s\":", key);
	j->comma = true;
	j->err = j->err ? j->err : err;
}

static void json_out_raw(struct json_out *j, const char *key, struct str s)
{
	int err;

	json_out_key(j, key);
	err = buf_puts(&j->buf, s);
	j->err = j->err ? j->err : err;
}

void json_out_open(struct json_out *j, const char *key, char bracket)
{
	json_out_raw(j, key, (struct str){ &bracket, 1 });
	j->comma = false;
}

void json_out_close(struct json_out *j, char bracket)
{
	int err = buf_append(&j->buf, &bracket, 1);

	j->err = j->err ? j->err : err;
	j->comma = true;
}

void json_out_text(struct json_out *j, const char *key, struct str s)
{
	int err;

	json_out_key(j, key);
	err = buf_json_string(&j->buf, s);
	j->err = j->err ? j->err : err;
}

void json_out_int(struct json_out *j, const char *key, int64_t n)
{
	char room[FORMAT_BYTES];

	snprintf(room, sizeof(room), "%" PRId64, n);
	json_out_raw(j, key, str_of(room));
}

void json_out_number(struct json_out *j, const char *key, const char *digits)
{
	json_out_raw(j, key, str_of(digits));
}

void json_out_null(struct json_out *j, const char *key)
{
	json_out_raw(j, key, STR("null"));
}

void json_out_bool(struct json_out *j, const char *key, bool b)
{
	json_out_raw(j, key, b ? STR("true") : STR("false"));
}

void json_out_time(struct json_out *j, const char *key, uint64_t at_ns)
{
	char room[FORMAT_BYTES];

	format_rfc3339(at_ns, room);
	if (at_ns)
		json_out_text(j, key, str_of(room));
	else
		json_out_null(j, key);
}

void json_out_tags(struct json_out *j, const char *key, struct str tags)
{
	json_out_open(j, key, '[');
	while (tags.n) {
		const char *end = memchr(tags.s, ',', tags.n);
		size_t n = end ? (size_t)(end - tags.s) : tags.n;

		json_out_text(j, NULL, (struct str){ tags.s, n });
		tags = str_skip(tags, n + 1);
	}
	json_out_close(j, ']');
}

int json_out_print(struct json_out *j)
{
	int err = j->err;

	if (!err) {
		fwrite(buf_head(&j->buf), 1, buf_len(&j->buf), stdout);
		putchar('\n');
	}
	buf_fini(&j->buf);
	return err ? cli_fail(EXIT_FAILED, "the answer does not fit into memory") : EXIT_OK;
}
