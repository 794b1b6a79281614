/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Picks values out of a JSON document by their paths while it streams by, and puts them into the
 * fields of a struct. A format is a table of paths; everything not in the table is skipped.
 *
 * A path is names joined by dots. "*" stands for the elements of an array, "a|b" for either name,
 * "a?" for a step that may be missing. A document that is an array of documents is read as one
 * after another.
 */
#pragma once

#include "common/buf.h"
#include "gateway/scan.h"

enum pick_kind {
	PICK_NONE,  /* only walked into or marked */
	PICK_INT,   /* int64_t; only numbers, the fraction is dropped */
	PICK_BOUND, /* int64_t: the largest of all numbers that stand there, for a worst case; PICK_NO_BOUND
		       when something else stands there too, or a string, which some read as a number */
	PICK_BOOL,  /* int8_t 0 or 1 */
	PICK_TEXT,  /* char[size]: a string, number or word as text; null and containers leave it as
		       it is */
	PICK_VALUE, /* struct pick_value: strings unescaped, anything else as it stands */
	PICK_HASH,  /* struct pick_hash of a string */
	PICK_TYPE,  /* int8_t: enum scan_type of the value */
};

/* A value of any type and size, up to the buffer's bound. */
struct pick_value {
	struct buf text;
	enum scan_type type;
	bool present;
	bool cut; /* it was longer than the bound, or memory was short */
};

/* Rationale: system prompts differ within their first page; the rest would only cost time. */
#define PICK_HASH_BYTES 4096
struct pick_hash {
	uint64_t hash;	/* FNV-1a of the first PICK_HASH_BYTES */
	uint32_t n;	/* bytes hashed */
	char head[128]; /* the first of them, not terminated: MIN(n, sizeof(head)) */
};

struct pick_path {
	const char *path;
	enum pick_kind kind;
	size_t at, size; /* the field, in the struct given to pick_init() */
	int tag;	 /* not 0: pick_mark_fn hears of it */
};
/* Values of a PICK_BOUND field, which starts at -1. */
#define PICK_NO_BOUND	INT64_MAX
#define PICK_BOUND_NULL (-2) /* only null so far: as good as absent */

#define PICK_FIELD(type, field) offsetof(type, field), sizeof(((type *)0)->field)

/* The tag of the document itself (of each element, where it is an array). */
#define PICK_ROOT 1

/*
 * A tagged value begins (`leave` false: return whether it is wanted) or has ended, its members
 * picked. The end is also told of values that were not wanted.
 */
typedef bool (*pick_mark_fn)(void *arg, int tag, enum scan_type type, bool leave);

/* Rationale: the largest table has 78 paths, which make 115 nodes with their alternatives. */
#define PICK_NODES 256
struct pick_node {
	const char *name;
	uint16_t name_len, child, sibling; /* 0: none; node 0 is the document */
	uint16_t size;
	uint32_t at;
	int tag;
	enum pick_kind kind;
};

/* Built from a table once, then shared by all who read that format. */
struct pick_tree {
	struct pick_node nodes[PICK_NODES];
	unsigned n;
};
/* Does nothing if the tree is built already. */
void pick_tree_build(struct pick_tree *tree, const struct pick_path *paths, size_t n);

struct pick {
	struct scan scan;
	const struct pick_tree *tree;
	void *base; /* the struct that gets the fields */
	pick_mark_fn mark;
	void *arg;
	uint16_t stack[SCAN_DEPTH_MAX +
		       2]; /* nodes of the open containers and of the value in hand */
	bool in_array[SCAN_DEPTH_MAX + 2];
	unsigned depth;
	uint16_t next; /* the node of the key just read */
	bool wanted, root_array;
	bool whole; /* the document has been read to its end, whatever follows */
	size_t text_len;
	char number[40];
	unsigned number_len;
};

void pick_init(struct pick *p, const struct pick_tree *tree, void *base, pick_mark_fn mark,
	       void *arg);
/* For the next document. */
void pick_reset(struct pick *p);
/* False: not JSON. */
bool pick_feed(struct pick *p, const void *data, size_t n);

void pick_value_init(struct pick_value *v, size_t max);
void pick_value_fini(struct pick_value *v);
/* Forgets the value, keeps small memory. */
void pick_value_reset(struct pick_value *v);

uint64_t pick_hash_mix(uint64_t a, uint64_t b);
