/* SPDX-License-Identifier: Apache-2.0 */
/* The price table: text -> sorted entries, and the search in it. The public part is in policy.h. */
#pragma once

#include "policy/hujson.h"
#include "policy/match.h"

#define PRICE_BASES_MAX 32
/* Rationale: the shipped table has about 150 entries; each lookup reads one base from the front. */
#define PRICE_ENTRIES_MAX 4096
/* A cost_basis of this name prices everything at nothing: a model of one's own. */
#define PRICE_BASIS_FREE "free"

struct price_entry {
	struct glob model;
	struct policy_price price;
};
struct price_base {
	struct str name;
	struct price_entry *entries; /* most specific first */
	unsigned n;
	unsigned like[4], n_like; /* other bases searched afterwards */
};
struct price_table {
	struct str date;
	struct price_base *bases;
	unsigned n;
};

/* The table embedded in the program. */
extern const struct str prices_builtin;

/* 0, -EINVAL (see diags) or -ENOMEM. Everything lives in `arena`. */
int price_table_parse(struct str text, struct arena *arena, struct price_table *ret,
		      struct policy_diags *diags);
/* The index, or -1. */
int price_base_find(const struct price_table *t, struct str name);
/* The base that a provider's host implies, or -1: all are searched. */
int price_base_of_host(const struct price_table *t, struct str host);
/* base -1: all of them in order. NULL: unpriced. */
const struct policy_price *price_find(const struct price_table *t, int base, struct str model);
