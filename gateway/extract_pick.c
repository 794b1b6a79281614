/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the tables become a tree of names. The scanner's open containers are
 * mirrored by a stack of nodes; a key is looked up among the children of the innermost one, and
 * what is not found is skipped by the scanner together with everything below it.
 */
#include "gateway/extract_pick.h"

#include <assert.h>
#include <limits.h>

#include "common/base.h"

#define NODE_ROOT 0
#define NODE_NONE UINT16_MAX

/* ---------------------------------------------------------------- building */

static unsigned pick_child(struct pick_tree *t, unsigned parent, struct str name)
{
	unsigned at;

	for (at = t->nodes[parent].child; at; at = t->nodes[at].sibling)
		if (str_eq((struct str){ t->nodes[at].name, t->nodes[at].name_len }, name))
			return at;
	assert(t->n < PICK_NODES);
	at = t->n++;
	t->nodes[at] = (struct pick_node){
		.name = name.s,
		.name_len = (uint16_t)name.n,
		.sibling = t->nodes[parent].child,
	};
	t->nodes[parent].child = (uint16_t)at;
	return at;
}

static void pick_add(struct pick_tree *t, unsigned parent, struct str rest,
		     const struct pick_path *path)
{
	const char *dot = rest.n ? memchr(rest.s, '.', rest.n) : NULL;
	struct str step = { rest.s, dot ? (size_t)(dot - rest.s) : rest.n };
	struct pick_node *node;

	if (!rest.n) {
		node = &t->nodes[parent];
		if (path->kind != PICK_NONE) {
			node->kind = path->kind;
			node->at = (uint32_t)path->at;
			node->size = (uint16_t)MIN(path->size, (size_t)UINT16_MAX);
		}
		if (path->tag)
			node->tag = path->tag;
		return;
	}
	rest = dot ? str_skip(rest, step.n + 1) : STR_NULL;
	if (step.n && step.s[step.n - 1] == '?') {
		pick_add(t, parent, rest, path);
		step.n--;
	}
	while (step.n) {
		const char *bar = memchr(step.s, '|', step.n);
		size_t n = bar ? (size_t)(bar - step.s) : step.n;

		pick_add(t, pick_child(t, parent, (struct str){ step.s, n }), rest, path);
		step = str_skip(step, bar ? n + 1 : n);
	}
}

void pick_tree_build(struct pick_tree *tree, const struct pick_path *paths, size_t n)
{
	if (tree->n)
		return;
	tree->n = 1;
	tree->nodes[0] = (struct pick_node){ .tag = PICK_ROOT };
	for (size_t i = 0; i < n; i++)
		pick_add(tree, NODE_ROOT, str_of(paths[i].path), &paths[i]);
}

/* ---------------------------------------------------------------- values */

void pick_value_init(struct pick_value *v, size_t max)
{
	*v = (struct pick_value){ 0 };
	buf_init(&v->text, max);
}

void pick_value_fini(struct pick_value *v)
{
	buf_fini(&v->text);
	v->present = v->cut = false;
}

void pick_value_reset(struct pick_value *v)
{
	/* Rationale: most arguments are small; one large file written by a tool need not stay
	 * around. */
	buf_reset(&v->text, 64 * 1024);
	v->present = v->cut = false;
}

static void pick_value_add(struct pick_value *v, struct str piece)
{
	size_t room = v->text.max - buf_len(&v->text);

	if (piece.n > room) {
		piece.n = room;
		v->cut = true;
	}
	if (buf_puts(&v->text, piece) < 0)
		v->cut = true;
}

uint64_t pick_hash_mix(uint64_t a, uint64_t b)
{
	a = (a ^ b) * 0x9e3779b97f4a7c15ULL;
	return a ^ a >> 32;
}

static bool pick_hash_add(struct pick_hash *h, struct str piece)
{
	uint64_t hash = h->n ? h->hash : 0xcbf29ce484222325ULL;
	size_t n = MIN(piece.n, (size_t)(PICK_HASH_BYTES - h->n));

	if (h->n < sizeof(h->head))
		memcpy(h->head + h->n, piece.s, MIN(n, sizeof(h->head) - h->n));
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ (unsigned char)piece.s[i]) * 0x100000001b3ULL;
	h->hash = hash;
	h->n += (uint32_t)n;
	return h->n < PICK_HASH_BYTES;
}

/* A text that was cut may end inside a character; the character goes. */
static size_t pick_utf8_trim(const char *s, size_t n)
{
	size_t i = n, want;

	while (i && n - i < 3 && ((unsigned char)s[i - 1] & 0xc0) == 0x80)
		i--;
	if (!i || !((unsigned char)s[i - 1] & 0x80))
		return n;
	want = (unsigned char)s[i - 1] >= 0xf0 ? 4 : (unsigned char)s[i - 1] >= 0xe0 ? 3 : 2;
	return n - (i - 1) < want ? i - 1 : n;
}

static int64_t pick_integer(const char *text)
{
	double d;
	char *end;
	long long v;

	v = strtoll(text, &end, 10);
	if (!*end)
		return v;
	d = strtod(text, NULL);
	/* Rationale: 2^53; a count above it is nonsense. */
	return d >= 9007199254740992.0 ? 9007199254740992LL : d <= 0 ? 0 : (int64_t)d;
}

/* ---------------------------------------------------------------- reading */

static const struct pick_node *pick_node(const struct pick *p)
{
	return &p->tree->nodes[p->stack[p->depth]];
}

static void *pick_field(const struct pick *p)
{
	return (char *)p->base + pick_node(p)->at;
}

static bool pick_is_container(enum scan_type type)
{
	return type == SCAN_OBJECT || type == SCAN_ARRAY;
}

static uint16_t pick_find(const struct pick *p, struct str name)
{
	const struct pick_node *nodes = p->tree->nodes;
	unsigned at = nodes[p->stack[p->depth]].child;

	for (; at; at = nodes[at].sibling)
		if (nodes[at].name_len == name.n && !memcmp(nodes[at].name, name.s, name.n))
			return (uint16_t)at;
	return NODE_NONE;
}

static void pick_on_key(void *arg, struct str key)
{
	struct pick *p = arg;

	p->next = key.n ? pick_find(p, key) : NODE_NONE;
}

/*
 * A name that stands twice counts as the larger number, whichever a provider takes: null next to a number is no
 * bound at all.
 */
static void pick_unbound(int64_t *field, enum scan_type type)
{
	*field = type == SCAN_NULL && *field < 0 ? PICK_BOUND_NULL : PICK_NO_BOUND;
}

static void pick_bound(int64_t *field, int64_t value)
{
	*field = *field == PICK_BOUND_NULL ? PICK_NO_BOUND : MAX(*field, value);
}

/* What the scanner shall do with a value of this node. */
static enum scan_want pick_start(struct pick *p, enum scan_type type)
{
	const struct pick_node *node = pick_node(p);
	struct pick_value *value;

	p->text_len = 0;
	p->number_len = 0;
	switch (node->kind) {
	case PICK_VALUE:
		value = pick_field(p);
		pick_value_reset(value);
		value->present = true;
		value->type = type;
		if (!node->child || !pick_is_container(type))
			return SCAN_TEXT;
		break;
	case PICK_HASH:
		if (type == SCAN_STRING) {
			*(struct pick_hash *)pick_field(p) = (struct pick_hash){ 0 };
			return SCAN_TEXT;
		}
		break;
	case PICK_TYPE:
		*(int8_t *)pick_field(p) = (int8_t)type;
		break;
	case PICK_BOUND:
		if (type == SCAN_NUMBER)
			return SCAN_TEXT;
		pick_unbound(pick_field(p), type);
		return SCAN_SKIP;
	case PICK_INT:
		return type == SCAN_NUMBER ? SCAN_TEXT : SCAN_SKIP;
	case PICK_BOOL:
		if (type == SCAN_TRUE || type == SCAN_FALSE)
			*(int8_t *)pick_field(p) = type == SCAN_TRUE;
		return SCAN_SKIP;
	case PICK_TEXT:
		if (!pick_is_container(type) && type != SCAN_NULL) {
			*(char *)pick_field(p) = '\0';
			return SCAN_TEXT;
		}
		break;
	case PICK_NONE:
		break;
	}
	return pick_is_container(type) && (node->child || node->tag) ? SCAN_WALK : SCAN_SKIP;
}

static enum scan_want pick_on_begin(void *arg, enum scan_type type)
{
	struct pick *p = arg;
	const struct pick_node *node;
	enum scan_want want;
	uint16_t at;

	if (p->depth == 0 && !p->root_array && type == SCAN_ARRAY) {
		/* An array of documents: its elements are roots. */
		p->root_array = true;
		p->stack[++p->depth] = NODE_NONE;
		p->in_array[p->depth] = true;
		return SCAN_WALK;
	}
	if (p->depth == 0 || p->stack[p->depth] == NODE_NONE)
		at = NODE_ROOT;
	else
		at = p->in_array[p->depth] ? pick_find(p, STR("*")) : p->next;
	if (at == NODE_NONE) {
		p->wanted = false;
		return SCAN_SKIP;
	}
	p->stack[++p->depth] = at;
	p->in_array[p->depth] = type == SCAN_ARRAY;
	p->wanted = true;
	node = pick_node(p);
	if (node->tag && p->mark && !p->mark(p->arg, node->tag, type, false))
		want = SCAN_SKIP;
	else
		want = pick_start(p, type);
	return want;
}

static void pick_on_piece(void *arg, struct str piece)
{
	struct pick *p = arg;
	const struct pick_node *node = pick_node(p);
	char *text = pick_field(p);
	size_t n;

	switch (node->kind) {
	case PICK_VALUE:
		pick_value_add(pick_field(p), piece);
		break;
	case PICK_HASH:
		if (!pick_hash_add(pick_field(p), piece))
			scan_skip_rest(&p->scan);
		break;
	case PICK_TEXT:
		n = MIN(piece.n, node->size - 1 - p->text_len);
		memcpy(text + p->text_len, piece.s, n);
		p->text_len += n;
		if (n < piece.n)
			p->text_len = pick_utf8_trim(text, p->text_len);
		text[p->text_len] = '\0';
		/* What is full stays full: a shorter piece must not fill the gap of a cut
		 * character. */
		if (n < piece.n)
			scan_skip_rest(&p->scan);
		break;
	case PICK_INT:
	case PICK_BOUND:
		n = MIN(piece.n, sizeof(p->number) - 1 - p->number_len);
		memcpy(p->number + p->number_len, piece.s, n);
		p->number_len += (unsigned)n;
		break;
	default:
		break;
	}
}

static void pick_on_end(void *arg, enum scan_type type)
{
	struct pick *p = arg;
	const struct pick_node *node;

	if (!p->wanted) {
		/* A value without a node; its container's node is on top of the stack. */
		p->wanted = true;
		return;
	}
	if (p->stack[p->depth] == NODE_NONE) {
		p->depth--;
		p->whole = true;
		return;
	}
	node = pick_node(p);
	if ((node->kind == PICK_INT || node->kind == PICK_BOUND) && p->number_len) {
		int64_t value;

		p->number[p->number_len] = '\0';
		value = pick_integer(p->number);
		if (node->kind == PICK_INT)
			*(int64_t *)pick_field(p) = value;
		else
			pick_bound(pick_field(p), value);
		p->number_len = 0;
	}
	if (node->tag && p->mark)
		p->mark(p->arg, node->tag, type, true);
	p->whole = --p->depth == 0;
}

static const struct scan_ops pick_ops = {
	.key = pick_on_key,
	.begin = pick_on_begin,
	.piece = pick_on_piece,
	.end = pick_on_end,
};

void pick_init(struct pick *p, const struct pick_tree *tree, void *base, pick_mark_fn mark,
	       void *arg)
{
	p->tree = tree;
	p->base = base;
	p->mark = mark;
	p->arg = arg;
	scan_init(&p->scan, &pick_ops, p);
	pick_reset(p);
}

void pick_reset(struct pick *p)
{
	scan_reset(&p->scan);
	p->depth = 0;
	p->next = NODE_NONE;
	p->wanted = true;
	p->root_array = p->whole = false;
	p->number_len = 0;
	p->text_len = 0;
}

bool pick_feed(struct pick *p, const void *data, size_t n)
{
	return scan_feed(&p->scan, data, n);
}
