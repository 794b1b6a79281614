/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Globs on names: `*` any run of characters without `/`, `**` any run, `?` one character but not
 * `/`, the rest literal, case matters. Matching is linear in the text for any pattern.
 */
#pragma once

#include <stdint.h>

#include "common/arena.h"
#include "common/str.h"

#define GLOB_BYTES_MAX 512
/* Tokens of one pattern that may hold wildcards; bounds the state set of the matcher. */
#define GLOB_TOKENS_MAX 255

enum glob_shape {
	GLOB_LITERAL,
	GLOB_ANY,
	GLOB_PREFIX,
	GLOB_PREFIX_ANY,
	GLOB_GENERAL,
	GLOB_SHAPE_MAX
};

struct glob {
	struct str text; /* the pattern */
	enum glob_shape shape;
	uint16_t prefix; /* literal bytes at the front */
	uint16_t suffix; /* literal bytes at the end (general shape only) */
	uint16_t n_tokens;
	const uint32_t *tokens; /* of what stands after the prefix (general shape only) */
};

/*
 * 0, -E2BIG (a pattern beyond the bounds) or -ENOMEM. `text` is borrowed and must outlive the
 * glob.
 */
int glob_compile(struct glob *g, struct str text, struct arena *arena);
bool glob_match(const struct glob *g, struct str text);
/* True when some text matches both. Costs the product of the two lengths: for checks, not for
 * requests. */
bool glob_overlaps(const struct glob *a, const struct glob *b);
/* True when no character is special. */
bool glob_is_literal(struct str text);
