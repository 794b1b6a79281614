/* SPDX-License-Identifier: Apache-2.0 */
/* `groups` of a policy: names for sources, nested, flattened once into sets of atoms. */
#include "policy/internal.h"

#include <errno.h>

#define ATOM_WORDS (ATOMS_MAX / 64)

struct groups {
	const struct hujson **sorted; /* by name */
	uint64_t **atoms;	      /* of each, ATOM_WORDS long; NULL until it is asked for */
	unsigned n;
};

static int by_name(const void *a, const void *b)
{
	return name_order((*(const struct hujson *const *)a)->key,
			  (*(const struct hujson *const *)b)->key);
}

/* The index in `sorted`, or -1. */
static int group_find(const struct groups *groups, struct str name)
{
	unsigned low = 0, high = groups->n;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		int order = name_order(groups->sorted[middle]->key, name);

		if (!order)
			return (int)middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return -1;
}

static bool is_group(const struct hujson *v)
{
	return v->type == HUJSON_STRING && str_starts(v->text, STR("group:"));
}

/*
 * Everything that the group stands for, whatever lies in between. A group on the way to itself
 * counts with what is known of it so far; that it is there was reported.
 */
static const uint64_t *group_atoms(struct schema *s, struct groups *groups, unsigned at,
				   unsigned depth)
{
	uint64_t *atoms = groups->atoms[at];

	if (atoms || depth > GROUP_DEPTH_MAX)
		return atoms;
	atoms = groups->atoms[at] = schema_alloc(s, ATOM_WORDS, sizeof(*atoms));
	if (!atoms || groups->sorted[at]->type != HUJSON_ARRAY)
		return atoms;
	hujson_for_each(member, groups->sorted[at])
	{
		int next = is_group(member) ? group_find(groups, member->text) : -1;
		const uint64_t *inner =
			next < 0 ? NULL : group_atoms(s, groups, (unsigned)next, depth + 1);
		int atom = member->type != HUJSON_STRING || is_group(member)
				   ? -1
				   : atom_intern(s, member, member->text);

		for (unsigned i = 0; inner && i < ATOM_WORDS; i++)
			atoms[i] |= inner[i];
		if (atom >= 0)
			bit_set(atoms, (unsigned)atom);
	}
	return atoms;
}

static void undefined(struct schema *s, const struct groups *groups, const struct hujson *v)
{
	struct nearest nearest = nearest_start(v->text);

	for (unsigned i = 0; schema_room(s) && i < groups->n; i++)
		nearest_try(&nearest, groups->sorted[i]->key);
	schema_warn(s, v, "`%s` is not defined in `groups`, so it matches nobody%s",
		    diag_word(v->text).s, nearest_hint(&nearest).s);
}

void source_add(struct schema *s, struct groups *groups, const struct hujson *v, unsigned grant)
{
	struct policy *p = s->arg;
	const uint64_t *atoms;
	int at;

	if (!is_group(v)) {
		at = atom_intern(s, v, v->text);
		if (at >= 0)
			bit_set(p->atoms[at].grants, grant);
		return;
	}
	at = group_find(groups, v->text);
	if (at < 0) {
		undefined(s, groups, v);
		return;
	}
	atoms = group_atoms(s, groups, (unsigned)at, 0);
	for (unsigned i = 0; atoms && i < p->n_atoms; i++) {
		if (bit_test(atoms, i))
			bit_set(p->atoms[i].grants, grant);
	}
}

/* Depth-first with colours: 0 new, 1 on the path, 2 done. False: a cycle or too deep, reported. */
static bool group_walk(struct schema *s, const struct groups *groups, unsigned at,
		       unsigned char *colour, unsigned depth)
{
	const struct hujson *group = groups->sorted[at];

	if (colour[at] == 2)
		return true;
	if (colour[at] == 1) {
		schema_error_key(s, group, "`%s` contains itself; take it out of its members",
				 diag_word(group->key).s);
		return false;
	}
	if (depth >= GROUP_DEPTH_MAX) {
		schema_error_key(s, group, "groups are nested more than %d deep", GROUP_DEPTH_MAX);
		return false;
	}
	colour[at] = 1;
	hujson_for_each(member, group)
	{
		int next = is_group(member) ? group_find(groups, member->text) : -1;

		if (next >= 0 && !group_walk(s, groups, (unsigned)next, colour, depth + 1))
			return false;
	}
	colour[at] = 2;
	return true;
}

static bool group_name_valid(struct str name)
{
	struct str rest;

	if (!str_starts(name, STR("group:")))
		return false;
	rest = str_skip(name, strlen("group:"));
	for (size_t i = 0; i < rest.n; i++) {
		unsigned char c = (unsigned char)rest.s[i];

		if (c <= 0x20 || c == 0x7f || c == ',')
			return false;
	}
	return rest.n > 0;
}

/* Also of groups that no grant names: every member must be a source. */
static void group_check(struct schema *s, const struct groups *groups, const struct hujson *group)
{
	if (!group_name_valid(group->key))
		schema_error_key(s, group, "`%s` must be written `group:NAME`",
				 diag_word(group->key).s);
	if (!schema_expect(s, group, HUJSON_ARRAY, "a group"))
		return;
	hujson_for_each(member, group)
	{
		if (!schema_expect(s, member, HUJSON_STRING, "a member of a group"))
			continue;
		if (!is_group(member))
			atom_intern(s, member, member->text);
		else if (group_find(groups, member->text) < 0)
			undefined(s, groups, member);
	}
}

static void groups_check(struct schema *s, const struct groups *groups)
{
	auto_free unsigned char *colour = calloc(groups->n + 1, 1);

	if (!colour) {
		s->err = -ENOMEM;
		return;
	}
	for (unsigned i = 0; i < groups->n; i++)
		group_check(s, groups, groups->sorted[i]);
	for (unsigned i = 0; i < groups->n; i++) {
		if (!group_walk(s, groups, i, colour, 0))
			break;
	}
}

struct groups *groups_parse(struct schema *s, const struct hujson *v)
{
	struct groups *groups = schema_alloc(s, 1, sizeof(*groups));
	unsigned n = 0;

	if (v && v->n > GROUPS_MAX)
		schema_error(s, v, "more than %d groups", GROUPS_MAX);
	if (!groups || !v || v->n > GROUPS_MAX)
		return groups;
	groups->sorted = schema_alloc(s, v->n, sizeof(*groups->sorted));
	groups->atoms = schema_alloc(s, v->n, sizeof(*groups->atoms));
	if (!groups->sorted || !groups->atoms)
		return NULL;
	hujson_for_each(m, v)
	{
		groups->sorted[n++] = m;
	}
	qsort(groups->sorted, n, sizeof(*groups->sorted), by_name);
	groups->n = n;
	groups_check(s, groups);
	return s->err ? NULL : groups;
}
