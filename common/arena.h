/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of one lifetime: many small allocations, one free. */
#pragma once

#include "common/str.h"

struct arena_block;
struct arena {
	struct arena_block *blocks; /* newest first */
	size_t used;                /* bytes handed out, all blocks */
	size_t max;                 /* bound on them; 0: none */
};

/* Zeroed, aligned for any type; NULL when memory or the bound is exhausted. Freed by arena_fini() only. */
void *arena_alloc(struct arena *a, size_t n);
/* A NUL-terminated copy, or NULL. */
char *arena_strdup(struct arena *a, struct str s);
/* Frees everything; the arena can be used again. */
void arena_fini(struct arena *a);
