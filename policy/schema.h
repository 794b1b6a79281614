/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table per kind of object: each key with its type, where it goes and what it means. The table
 * drives parsing and every message about it. All mistakes of an object are reported, not the first
 * only.
 */
#pragma once

#include "policy/hujson.h"

enum schema_type {
	SCHEMA_STRING,	  /* struct str */
	SCHEMA_PATH,	  /* struct str, an absolute path */
	SCHEMA_BOOL,	  /* bool */
	SCHEMA_INT,	  /* int64_t between min and max */
	SCHEMA_UINT,	  /* unsigned or uint16_t (by .size) between min and max */
	SCHEMA_DURATION,  /* uint64_t nanoseconds; "" is 0 when .min is -1 */
	SCHEMA_SIZE,	  /* uint64_t bytes */
	SCHEMA_WORD,	  /* int or an enum: the index in .words */
	SCHEMA_STRINGS,	  /* const struct str *, the count at .at_count */
	SCHEMA_OBJECT,	  /* a struct inside the struct, by .table */
	SCHEMA_NODE,	  /* const struct hujson *, checked to be of .node; read later */
	SCHEMA_CUSTOM,	  /* .parse */
	SCHEMA_REFUSED,	  /* the design knows it, this version does not enforce it: an error */
	SCHEMA_NO_EFFECT, /* known and harmless: a warning */
	SCHEMA_TYPE_MAX,
};

struct schema;
struct schema_field {
	const char *key; /* NULL ends the table */
	enum schema_type type;
	bool required;
	size_t at, size;
	size_t at_count;
	int64_t min, max;	  /* both 0: no bound */
	const char *const *words; /* NULL-terminated */
	const struct schema_field *table;
	enum hujson_type node;
	void (*parse)(struct schema *s, const struct schema_field *f, const struct hujson *v,
		      void *object);
	const char *help;
};
#define SCHEMA_AT(struct_type, member)                                                             \
	.at = offsetof(struct_type, member), .size = sizeof(((struct_type *)0)->member)

/* One parse. `err` is sticky: -ENOMEM. Mistakes in the text are in diags. */
struct schema {
	struct arena *arena; /* of what is built */
	struct policy_diags *diags;
	int err;
	void *arg; /* the caller's */
};

/* Fills `object`; `what` names it in messages: "a provider". False when it is no object. */
bool schema_parse(struct schema *s, const struct schema_field *table, const char *what,
		  const struct hujson *v, void *object);

/* At the value, or at the key of a member. */
#define schema_error(s, v, ...) diag_add((s)->diags, true, (v)->line, (v)->column, __VA_ARGS__)
#define schema_warn(s, v, ...)	diag_add((s)->diags, false, (v)->line, (v)->column, __VA_ARGS__)
#define schema_error_key(s, v, ...)                                                                \
	diag_add((s)->diags, true, (v)->key_line, (v)->key_column, __VA_ARGS__)
#define schema_warn_key(s, v, ...)                                                                 \
	diag_add((s)->diags, false, (v)->key_line, (v)->key_column, __VA_ARGS__)

/* False when further messages would be dropped: looking for the nearest word is then no use. */
static inline bool schema_room(const struct schema *s)
{
	return s->diags->n < POLICY_DIAGS_MAX;
}
/* Checks the type and reports; `what` names the value: "`models`". */
bool schema_expect(struct schema *s, const struct hujson *v, enum hujson_type type,
		   const char *what);
/* Zeroed memory, or NULL with s->err set; n may be 0 (not NULL then). */
void *schema_alloc(struct schema *s, size_t n, size_t size);
/* A list of strings; false and reported when it is none. */
bool schema_strings(struct schema *s, const struct hujson *v, const char *what,
		    const struct str **ret, unsigned *ret_n);

/* The tables, for those who print or check them: `{ "key", … }` up to a NULL key. */
const struct schema_field *config_schema(void);
const struct schema_field *policy_schema(void);
const struct schema_field *provider_schema(void);
const struct schema_field *quota_schema(void);
const struct schema_field *grant_schema(void);
const struct schema_field *capability_schema(void);
const struct schema_field *label_schema(void);
const struct schema_field *test_schema(void);
