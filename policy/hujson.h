/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HuJSON text -> tree: JSON with comments and trailing commas, nothing else. Every value and key
 * knows its line and column (from 1; columns count characters). Duplicate keys are errors.
 */
#pragma once

#include "common/arena.h"
#include "policy/diag.h"

#define HUJSON_DEPTH_MAX 32
/* Rationale: a policy of 4,096 grants has about 100,000 values; a value takes some 100 bytes. */
#define HUJSON_NODES_MAX (512u * 1024)

enum hujson_type {
	HUJSON_NULL,
	HUJSON_BOOL,
	HUJSON_NUMBER,
	HUJSON_STRING,
	HUJSON_ARRAY,
	HUJSON_OBJECT,
	HUJSON_TYPE_MAX
};

struct hujson {
	enum hujson_type type;
	bool boolean;
	unsigned line, column;	       /* of the value */
	unsigned key_line, key_column; /* of a member's key */
	struct str key;		       /* of a member of an object */
	struct str text;	       /* a string, decoded; a number as it is spelled */
	struct hujson *first, *next;   /* children; the next sibling */
	unsigned n;		       /* children */
};

/* "an object", "a string", … */
const char *hujson_type_name(enum hujson_type type);

/*
 * 0, -EINVAL (what is wrong is in diags) or -ENOMEM. Nodes and strings live in the two arenas,
 * which may be the same; strings are followed by a NUL byte and hold none.
 */
int hujson_parse(struct str text, struct arena *nodes, struct arena *strings, struct hujson **ret,
		 struct policy_diags *diags);

/* The member of an object, or NULL. */
const struct hujson *hujson_get(const struct hujson *object, struct str key);

#define hujson_for_each(child, parent)                                                             \
	for (const struct hujson *child = (parent)->first; child; child = (child)->next)
