/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/extract_partial.h"

#include "common/base.h"

struct partial_piece {
	struct partial_piece *next;
	struct str text;
};

struct partial_node {
	struct partial_node *child, *last_child, *next;
	struct str key;
	unsigned index;
	enum { NODE_EMPTY, NODE_OBJECT, NODE_ARRAY, NODE_STRING, NODE_LITERAL } kind;
	struct partial_piece *first, *last;
};

void partial_init(struct partial_args *p, size_t max_bytes)
{
	*p = (struct partial_args){ .arena = { .max = max_bytes } };
}

void partial_fini(struct partial_args *p)
{
	size_t max = p->arena.max;

	arena_fini(&p->arena);
	partial_init(p, max);
}

static struct partial_node *partial_node(struct partial_args *p)
{
	if (p->n_nodes >= PARTIAL_NODES_MAX)
		return NULL;
	p->n_nodes++;
	return arena_alloc(&p->arena, sizeof(struct partial_node));
}

struct partial_step {
	bool is_index;
	unsigned index;
	struct str key;
};

/* "[12]" */
static bool partial_index(struct str *path, struct partial_step *step)
{
	size_t i = 1;

	step->is_index = true;
	step->index = 0;
	for (; i < path->n && path->s[i] >= '0' && path->s[i] <= '9'; i++) {
		step->index = step->index * 10 + (unsigned)(path->s[i] - '0');
		if (step->index >= PARTIAL_NODES_MAX)
			return false;
	}
	if (i == 1 || i >= path->n || path->s[i] != ']')
		return false;
	*path = str_skip(*path, i + 1);
	return true;
}

/* "['key']" or the same with double quotes */
static bool partial_quoted(struct str *path, struct partial_step *step)
{
	const char *stop = memchr(path->s + 2, path->s[1], path->n - 2);

	if (!stop || stop + 1 >= path->s + path->n || stop[1] != ']')
		return false;
	step->is_index = false;
	step->key = (struct str){ path->s + 2, (size_t)(stop - path->s - 2) };
	*path = str_skip(*path, step->key.n + 4);
	return true;
}

/* Takes the next step off the path; false at its end or where it makes no sense. */
static bool partial_next(struct str *path, struct partial_step *step)
{
	size_t n = 1;

	if (path->n > 2 && path->s[0] == '[' && (path->s[1] == '\'' || path->s[1] == '"'))
		return partial_quoted(path, step);
	if (path->n > 2 && path->s[0] == '[')
		return partial_index(path, step);
	if (path->n < 2 || path->s[0] != '.')
		return false;
	while (n < path->n && path->s[n] != '.' && path->s[n] != '[')
		n++;
	step->is_index = false;
	step->key = (struct str){ path->s + 1, n - 1 };
	*path = str_skip(*path, n);
	return n > 1;
}

static struct partial_node *partial_child(struct partial_args *p, struct partial_node *parent,
					  const struct partial_step *step)
{
	struct partial_node *n;

	if (parent->kind == NODE_EMPTY)
		parent->kind = step->is_index ? NODE_ARRAY : NODE_OBJECT;
	if (parent->kind != (step->is_index ? NODE_ARRAY : NODE_OBJECT))
		return NULL;
	/* Fragments come in order: the last member is nearly always the one. */
	n = parent->last_child;
	if (n && (step->is_index ? n->index == step->index : str_eq(n->key, step->key)))
		return n;
	for (n = parent->child; n; n = n->next)
		if (step->is_index ? n->index == step->index : str_eq(n->key, step->key))
			return n;
	n = partial_node(p);
	if (!n)
		return NULL;
	n->index = step->index;
	if (!step->is_index) {
		n->key = (struct str){ arena_strdup(&p->arena, step->key), step->key.n };
		if (!n->key.s)
			return NULL;
	}
	if (parent->last_child)
		parent->last_child->next = n;
	else
		parent->child = n;
	parent->last_child = n;
	return n;
}

static bool partial_set(struct partial_args *p, struct partial_node *n, enum partial_kind kind,
			struct str value)
{
	struct partial_piece *piece;

	if (n->kind == NODE_OBJECT || n->kind == NODE_ARRAY)
		return false;
	if (kind == PARTIAL_LITERAL || n->kind != NODE_STRING)
		n->first = n->last = NULL;
	n->kind = kind == PARTIAL_STRING ? NODE_STRING : NODE_LITERAL;
	if (!value.n)
		return true;
	piece = arena_alloc(&p->arena, sizeof(*piece));
	if (!piece)
		return false;
	piece->text = (struct str){ arena_strdup(&p->arena, value), value.n };
	if (!piece->text.s)
		return false;
	if (n->last)
		n->last->next = piece;
	else
		n->first = piece;
	n->last = piece;
	return true;
}

void partial_put(struct partial_args *p, struct str path, enum partial_kind kind, struct str value)
{
	struct partial_step step = { 0 };
	struct partial_node *n;
	unsigned depth = 0;

	if (!p->root)
		p->root = partial_node(p);
	n = p->root;
	if (path.n && path.s[0] == '$')
		path = str_skip(path, 1);
	while (n && path.n && ++depth <= PARTIAL_DEPTH_MAX && partial_next(&path, &step))
		n = partial_child(p, n, &step);
	if (!n || n == p->root || path.n || !partial_set(p, n, kind, value))
		p->cut = true;
}

static int partial_write_node(const struct partial_node *n, struct buf *out);

static int partial_write_string(const struct partial_node *n, struct buf *out)
{
	int err = buf_puts(out, STR("\""));

	for (const struct partial_piece *piece = n->first; piece && !err; piece = piece->next)
		err = buf_json_escape(out, piece->text);
	return err ? err : buf_puts(out, STR("\""));
}

/* Elements may have come in any order and with holes: those are null. */
static int partial_write_array(const struct partial_node *n, struct buf *out)
{
	unsigned top = 0;
	int err = buf_puts(out, STR("["));

	for (const struct partial_node *c = n->child; c; c = c->next)
		top = MAX(top, c->index + 1);
	for (unsigned i = 0; i < top && !err; i++) {
		const struct partial_node *c = n->child;

		while (c && c->index != i)
			c = c->next;
		if (i)
			err = buf_puts(out, STR(","));
		if (!err)
			err = c ? partial_write_node(c, out) : buf_puts(out, STR("null"));
	}
	return err ? err : buf_puts(out, STR("]"));
}

static int partial_write_object(const struct partial_node *n, struct buf *out)
{
	int err = buf_puts(out, STR("{"));

	for (const struct partial_node *c = n->child; c && !err; c = c->next) {
		if (c != n->child)
			err = buf_puts(out, STR(","));
		if (!err)
			err = buf_json_string(out, c->key);
		if (!err)
			err = buf_puts(out, STR(":"));
		if (!err)
			err = partial_write_node(c, out);
	}
	return err ? err : buf_puts(out, STR("}"));
}

/* Recursion ends at PARTIAL_DEPTH_MAX, which partial_put() keeps. */
static int partial_write_node(const struct partial_node *n, struct buf *out)
{
	switch (n->kind) {
	case NODE_OBJECT:
		return partial_write_object(n, out);
	case NODE_ARRAY:
		return partial_write_array(n, out);
	case NODE_STRING:
		return partial_write_string(n, out);
	case NODE_LITERAL:
		return buf_puts(out, n->first ? n->first->text : STR("null"));
	default:
		return buf_puts(out, STR("null"));
	}
}

int partial_write(const struct partial_args *p, struct buf *out)
{
	if (!p->root || p->root->kind == NODE_EMPTY)
		return buf_puts(out, STR("{}"));
	return partial_write_node(p->root, out);
}
