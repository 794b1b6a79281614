/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of the ledger as `sallyport log`, `tools` and `log --events` ask for them, told one by one: each row that
 * a script causes has to be named by it, in their order, and none is left at its end.
 */
#pragma once

#include <cjson/cJSON.h>

#include "common/outcome.h"
#include "gateway/tool_meaning.h"
#include "tests/replay/world.h"

#define ROWS_MAX 512

struct table {
	const char *word; /* in a script */
	const char *op;   /* of the query */
	const char *key[2]; /* columns that tell rows apart, with the first one */
	const char *said[12]; /* of a row that nobody named, for people */
	char told[ROWS_MAX][256];
	unsigned n_told;
	cJSON *columns, *row;
	char first[24]; /* column of the row at hand, as it came: an id is beyond what cJSON's numbers hold */
};

static struct table tables[] = {
	{ .word = "row",
	  .op = "log",
	  .said = { "outcome", "http_status", "flags", "count", "provider", "model", "input", "output", "cost_nanousd", "tool_calls",
		    "error", "rule" } },
	{ .word = "tool",
	  .op = "tools",
	  .key = { "call_id", "arguments" },
	  .said = { "name", "kind", "meaning", "summary", "arguments", "result_error", "result_bytes" } },
	{ .word = "event", .op = "events", .key = { "text" }, .said = { "kind", "count", "text", "cgroup" } },
};

static struct table *table_find(struct str word)
{
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		if (str_eq(str_of(tables[i].word), word))
			return &tables[i];
	return NULL;
}

static void flags_text(int flags, char *out, size_t size)
{
	snprintf(out, size, "%s%s%s%s", flags & RQF_STREAMED ? "+streamed" : "", flags & RQF_PARTIAL ? "+partial" : "",
		 flags & RQF_ESTIMATED ? "+estimated" : "", flags & RQF_UNPRICED ? "+unpriced" : "");
	memmove(out, out + (*out != 0), strlen(out + (*out != 0)) + 1);
}

/* A column of the row at hand as text; false: there is no such column. */
static bool row_value(const struct table *t, const char *column, char *out, size_t size)
{
	const cJSON *name, *value = t->row->child;

	for (name = t->columns->child; name && strcmp(name->valuestring, column); name = name->next)
		value = value->next;
	if (!name)
		return false;
	if (!strcmp(column, "outcome"))
		snprintf(out, size, "%s", outcome_name((enum outcome)value->valueint));
	else if (!strcmp(column, "format"))
		snprintf(out, size, "%s", wire_format_name((enum wire_format)value->valueint));
	else if (!strcmp(column, "meaning"))
		snprintf(out, size, "%s", tool_meaning_name((enum tool_meaning)value->valueint));
	else if (!strcmp(column, "kind") && cJSON_IsNumber(value))
		snprintf(out, size, "%s", tool_kind_name((enum tool_kind)value->valueint));
	else if (!strcmp(column, "flags"))
		flags_text(value->valueint, out, size);
	else if (cJSON_IsString(value))
		snprintf(out, size, "%s", value->valuestring);
	else if (cJSON_IsNull(value))
		snprintf(out, size, "null");
	else
		snprintf(out, size, "%.0f", value->valuedouble);
	return true;
}

static void row_key(const struct table *t, char *out, size_t size)
{
	char value[4096];

	snprintf(out, size, "%s/", t->first);
	for (size_t i = 0; i < ARRAY_SIZE(t->key) && t->key[i]; i++) {
		row_value(t, t->key[i], value, sizeof(value));
		snprintf(out + strlen(out), size - strlen(out), "%.80s/", value);
	}
}

static bool row_told(const struct table *t, const char *key)
{
	for (unsigned i = 0; i < t->n_told; i++)
		if (!strcmp(t->told[i], key))
			return true;
	return false;
}

static void row_print(const struct table *t)
{
	char value[4096];

	printf("\t%s", t->word);
	for (size_t i = 0; i < ARRAY_SIZE(t->said) && t->said[i]; i++)
		if (row_value(t, t->said[i], value, sizeof(value)) && *value)
			printf(strchr(value, ' ') ? " %s=\"%s\"" : " %s=%s", t->said[i], value);
	printf("\n");
}

struct answer_line {
	cJSON *json;
	char first[24];
};

/* The answer to the query, one JSON value a line; the caller frees them. */
static unsigned rows_ask(struct table *t, struct answer_line lines[ROWS_MAX])
{
	struct buf out;
	char question[80];
	unsigned n = 0;
	struct str rest;

	world_read_journal();
	buf_init(&out, 16u << 20);
	snprintf(question, sizeof(question), "{\"op\":\"%s\",\"limit\":%d}", t->op, ROWS_MAX - 2);
	ledger_query(world.ledger, str_of(question), &out);
	for (rest = buf_str(&out); rest.n && n < ROWS_MAX;) {
		const char *end = memchr(rest.s, '\n', rest.n);

		str_copy(lines[n].first, sizeof(lines[n].first), (struct str){ rest.s + 1, strcspn(rest.s + 1, ",\n") });
		lines[n++].json = cJSON_ParseWithLength(rest.s, (size_t)(end - rest.s));
		rest = str_skip(rest, (size_t)(end - rest.s) + 1);
	}
	buf_fini(&out);
	t->columns = n > 1 ? cJSON_GetObjectItem(lines[0].json, "columns") : NULL;
	if (!t->columns)
		broken("the ledger does not answer");
	return n;
}

/* Calls fn for each row that was not named yet, oldest first, until it says stop; returns how many there were. */
static unsigned rows_each(struct table *t, bool (*fn)(struct table *t, void *arg), void *arg)
{
	struct answer_line lines[ROWS_MAX];
	unsigned n = rows_ask(t, lines), found = 0;
	char key[256];

	/* Newest first, behind the columns and before the end. */
	for (unsigned i = n - 1; i-- > 1;) {
		t->row = lines[i].json;
		str_copy(t->first, sizeof(t->first), str_of(lines[i].first));
		row_key(t, key, sizeof(key));
		if (row_told(t, key))
			continue;
		found++;
		if (!fn(t, arg))
			break;
	}
	for (unsigned i = 0; i < n; i++)
		cJSON_Delete(lines[i].json);
	return found;
}
