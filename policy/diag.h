/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collecting diagnostics: bounded, with positions, peer words made printable, the nearest known
 * word.
 */
#pragma once

#include "common/base.h"
#include "policy/policy.h"

/* Counts always; keeps the text while there is room, errors before warnings. */
void diag_add(struct policy_diags *d, bool is_error, unsigned line, unsigned column,
	      const char *fmt, ...) PRINTF_LIKE(5, 6);
/* By position, stable. */
void diag_sort(struct policy_diags *d);

/* A short printable copy of a word from a file, for one expression: diag_word(w).s */
struct diag_word {
	char s[64];
};
struct diag_word diag_word(struct str s);

/* The word of a list that is nearest to `word`, if one is near at all. */
struct nearest {
	struct str word, best;
	unsigned distance;
};
static inline struct nearest nearest_start(struct str word)
{
	return (struct nearest){ .word = word, .distance = ~0u };
}
void nearest_try(struct nearest *n, struct str candidate);
/* " (did you mean `x`?)" or "". */
struct diag_word nearest_hint(const struct nearest *n);
