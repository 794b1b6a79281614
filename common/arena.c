/* SPDX-License-Identifier: Apache-2.0 */
#include "common/arena.h"

#include "common/base.h"

#define ARENA_BLOCK_BYTES 16384

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	_Alignas(max_align_t) char data[];
};

void *arena_alloc(struct arena *a, size_t n)
{
	size_t need = (n + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
	struct arena_block *b = a->blocks;
	void *p;

	if (need < n || (a->max && (need > a->max || a->used > a->max - need)))
		return NULL;
	if (!b || b->size - b->used < need) {
		size_t size = MAX(need, (size_t)ARENA_BLOCK_BYTES);

		b = calloc(1, sizeof(*b) + size);
		if (!b)
			return NULL;
		b->size = size;
		b->next = a->blocks;
		a->blocks = b;
	}
	p = b->data + b->used;
	b->used += need;
	a->used += need;
	return p;
}

char *arena_strdup(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n + 1);

	if (p && s.n)
		memcpy(p, s.s, s.n);
	return p;
}

void arena_fini(struct arena *a)
{
	while (a->blocks) {
		struct arena_block *next = a->blocks->next;

		free(a->blocks);
		a->blocks = next;
	}
	a->used = 0;
}
