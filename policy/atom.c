/* SPDX-License-Identifier: Apache-2.0 */
/* Sources: the forms of `src`, interned, and the tables that find them by name. */
#include "policy/internal.h"

#include <errno.h>

uint32_t name_hash(unsigned seed, struct str s)
{
	uint32_t h = 2166136261u ^ seed * 0x9e3779b1u;

	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (unsigned char)s.s[i]) * 16777619u;
	return h ^ h >> 15;
}

int name_order(struct str a, struct str b)
{
	size_t n = MIN(a.n, b.n);
	int order = n ? memcmp(a.s, b.s, n) : 0;

	return order ? order : (a.n > b.n) - (a.n < b.n);
}

bool tag_valid(struct str s)
{
	struct str name = str_skip(s, strlen("tag:"));

	if (!str_starts(s, STR("tag:")) || !name.n || s.n > TAG_BYTES_MAX)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.s[i];

		if (!(c >= 'a' && c <= 'z') && !(i && ((c >= '0' && c <= '9') || c == '-')))
			return false;
	}
	return true;
}

bool tags_next(struct str *rest, struct str *ret_tag, bool *bad)
{
	const char *comma;
	struct str tag;

	*bad = false;
	if (!rest->n)
		return false;
	comma = memchr(rest->s, ',', rest->n);
	tag = (struct str){ rest->s, comma ? (size_t)(comma - rest->s) : rest->n };
	*rest = str_skip(*rest, tag.n + (comma != NULL));
	while (tag.n && tag.s[0] == ' ')
		tag = str_skip(tag, 1);
	while (tag.n && tag.s[tag.n - 1] == ' ')
		tag.n--;
	*bad = !tag_valid(tag) || (comma && !rest->n);
	*ret_tag = tag;
	return !*bad;
}

int atom_lookup(const struct policy *p, enum atom_kind kind, struct str text)
{
	uint32_t at = name_hash(kind, text);

	if (!p->atom_table.slots)
		return -1;
	for (;; at++) {
		unsigned slot = p->atom_table.slots[at & p->atom_table.mask];

		if (!slot)
			return -1;
		if (p->atoms[slot - 1].kind == kind && str_eq(p->atoms[slot - 1].text, text))
			return (int)slot - 1;
	}
}

/* Room in the table was taken for ATOMS_MAX at first use. */
static void table_insert(struct name_table *t, unsigned index, uint32_t hash)
{
	while (t->slots[hash & t->mask])
		hash++;
	t->slots[hash & t->mask] = index + 1;
}

static bool atoms_grow(struct schema *s)
{
	struct policy *p = s->arg;
	unsigned cap = p->atoms_cap ? p->atoms_cap * 2 : 64;
	struct atom *atoms;

	if (p->n_atoms < p->atoms_cap)
		return true;
	atoms = schema_alloc(s, cap, sizeof(*atoms));
	p->atom_table.slots = schema_alloc(s, (size_t)cap * 2, sizeof(*p->atom_table.slots));
	if (!atoms || !p->atom_table.slots)
		return false;
	if (p->n_atoms)
		memcpy(atoms, p->atoms, p->n_atoms * sizeof(*atoms));
	p->atoms = atoms;
	p->atoms_cap = cap;
	p->atom_table.mask = cap * 2 - 1;
	for (unsigned i = 0; i < p->n_atoms; i++)
		table_insert(&p->atom_table, i, name_hash(p->atoms[i].kind, p->atoms[i].text));
	return true;
}

static int atom_add(struct schema *s, const struct hujson *v, enum atom_kind kind, struct str text)
{
	struct policy *p = s->arg;
	struct atom *atom;
	int err = 0, at = atom_lookup(p, kind, text);

	if (at >= 0)
		return at;
	if (p->n_atoms == ATOMS_MAX) {
		schema_error(s, v, "more than %d different sources", ATOMS_MAX);
		return -1;
	}
	if (!atoms_grow(s))
		return -1;
	atom = &p->atoms[p->n_atoms];
	*atom = (struct atom){ .kind = kind, .text = text, .line = v->line };
	atom->grants = schema_alloc(s, p->grant_words, sizeof(uint64_t));
	if (kind == ATOM_CGROUP || kind == ATOM_CONTAINER)
		err = glob_compile(&atom->glob, text, s->arena);
	if (err == -ENOMEM)
		s->err = err;
	else if (err)
		schema_error(s, v, "the pattern `%s` is too long", diag_word(text).s);
	if (err || !atom->grants)
		return -1;
	table_insert(&p->atom_table, p->n_atoms, name_hash(kind, text));
	return (int)p->n_atoms++;
}

/* "tag:b, tag:a" -> "tag:a,tag:b" in the arena; STR_NULL: reported. */
static struct str set_canonical(struct schema *s, const struct hujson *v, struct str text)
{
	struct str tags[IDENTITY_TAGS_MAX], tag;
	unsigned n = 0;
	size_t used = 0;
	bool bad = false;
	char *out;

	while (tags_next(&text, &tag, &bad)) {
		unsigned at = n;

		if (n == IDENTITY_TAGS_MAX) {
			schema_error(s, v, "a set has at most %d tags", IDENTITY_TAGS_MAX);
			return STR_NULL;
		}
		for (; at > 0; at--) {
			if (name_order(tags[at - 1], tag) < 0)
				break;
			tags[at] = tags[at - 1];
		}
		tags[at] = tag;
		n++;
	}
	if (bad) {
		schema_error(s, v,
			     "a set of tags is written \"tag:a,tag:b\", with names of [a-z0-9-]");
		return STR_NULL;
	}
	out = schema_alloc(s, v->text.n + 1, 1);
	for (unsigned i = 0; out && i < n; i++) {
		if (i && str_eq(tags[i], tags[i - 1]))
			continue;
		if (used)
			out[used++] = ',';
		memcpy(out + used, tags[i].s, tags[i].n);
		used += tags[i].n;
	}
	return (struct str){ out, used };
}

static int source_unknown(struct schema *s, const struct hujson *v, struct str text)
{
	if (str_eq(text, STR("(loopback)")) || memchr(text.s, '@', text.n)) {
		schema_warn(
			s, v,
			"`%s` is a name of a tailnet and matches nobody here; write tag:, group:, "
			"user:, cgroup: or container:",
			diag_word(text).s);
		return -1;
	}
	schema_error(s, v,
		     "`%s` is no source; write tag:NAME, group:NAME, user:LOGIN, cgroup:/PATTERN, "
		     "container:PATTERN or *",
		     diag_word(text).s);
	return -1;
}

static int atom_tag(struct schema *s, const struct hujson *v, struct str text)
{
	struct str set;

	if (!memchr(text.s, ',', text.n)) {
		if (tag_valid(text))
			return atom_add(s, v, ATOM_TAG, text);
		schema_error(
			s, v,
			"`%s` is no tag; it is `tag:`, a letter, then letters, digits and dashes "
			"in lower case, %d bytes at most",
			diag_word(text).s, TAG_BYTES_MAX);
		return -1;
	}
	set = set_canonical(s, v, text);
	return set.s ? atom_add(s, v, ATOM_SET, set) : -1;
}

int atom_intern(struct schema *s, const struct hujson *v, struct str text)
{
	static const struct {
		struct str prefix;
		enum atom_kind kind;
	} forms[] = { { STR("user:"), ATOM_USER },
		      { STR("cgroup:"), ATOM_CGROUP },
		      { STR("container:"), ATOM_CONTAINER } };

	if (str_eq(text, STR("*")))
		return atom_add(s, v, ATOM_ANY, text);
	if (str_starts(text, STR("tag:")))
		return atom_tag(s, v, text);
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		struct str arg;

		if (!str_starts(text, forms[i].prefix))
			continue;
		arg = str_skip(text, forms[i].prefix.n);
		if (!arg.n)
			break;
		if (forms[i].kind == ATOM_USER && !glob_is_literal(arg))
			schema_error(s, v, "`%s`: a login has no wildcards", diag_word(text).s);
		else if (forms[i].kind == ATOM_USER)
			schema_warn(s, v, "`%s` matches nobody yet: the gateway of this version knows tags, cgroups and containers; grant to a tag",
				    diag_word(text).s);
		if (forms[i].kind == ATOM_CGROUP && arg.s[0] != '/' && !str_starts(arg, STR("**")))
			schema_warn(s, v,
				    "`%s` can match nothing: paths of cgroups start with a slash; "
				    "write `cgroup:/%s`",
				    diag_word(text).s, diag_word(arg).s);
		return atom_add(s, v, forms[i].kind, arg);
	}
	return source_unknown(s, v, text);
}

/* ---------------------------------------------------------------- models */

static void models_index(struct schema *s)
{
	struct policy *p = s->arg;
	unsigned total = 0, size = 16;

	for (unsigned i = 0; i < p->n_providers; i++)
		total += p->providers[i].n_models;
	while (size < total * 2)
		size *= 2;
	p->models = schema_alloc(s, total, sizeof(*p->models));
	p->model_table.slots = schema_alloc(s, size, sizeof(*p->model_table.slots));
	p->model_table.mask = size - 1;
	if (s->err)
		return;
	for (unsigned i = 0; i < p->n_providers; i++) {
		if (p->more[i].n_models)
			bit_set(p->has_globs.w, i);
		for (unsigned m = 0; m < p->providers[i].n_models; m++) {
			struct str name = p->providers[i].models[m];
			uint32_t at = name_hash(0, name);
			unsigned slot;

			while ((slot = p->model_table.slots[at & p->model_table.mask]) &&
			       !str_eq(p->models[slot - 1].name, name))
				at++;
			if (!slot) {
				p->models[p->n_models].name = name;
				slot = p->model_table.slots[at & p->model_table.mask] =
					++p->n_models;
			}
			bit_set(p->models[slot - 1].providers.w, i);
		}
	}
}

void atoms_index(struct schema *s)
{
	struct policy *p = s->arg;

	p->globs = schema_alloc(s, p->n_atoms, sizeof(*p->globs));
	p->any_atom = atom_lookup(p, ATOM_ANY, STR("*"));
	for (unsigned i = 0; p->globs && i < p->n_atoms; i++) {
		if (p->atoms[i].kind == ATOM_CGROUP || p->atoms[i].kind == ATOM_CONTAINER)
			p->globs[p->n_globs++] = i;
		p->has_sets |= p->atoms[i].kind == ATOM_SET;
	}
	models_index(s);
}
