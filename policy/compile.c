/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text -> policy: the top level of the file, the order in which its parts are read, the last
 * checks.
 */
#include "policy/internal.h"

#include <errno.h>

struct document {
	const struct hujson *providers, *groups, *quotas, *grants, *labels, *egress, *tests;
	int unpriced;
};

static const char *const unpriced_words[] = { "deny", "allow", NULL };

#define DOC(m) SCHEMA_AT(struct document, m)
static const struct schema_field policy_fields[] = {
	{ "providers", SCHEMA_NODE, DOC(providers), .node = HUJSON_OBJECT,
	  .help = "upstreams by name" },
	{ "groups", SCHEMA_NODE, DOC(groups), .node = HUJSON_OBJECT,
	  .help = "names for many sources" },
	{ "labels", SCHEMA_NODE, DOC(labels), .node = HUJSON_ARRAY, .help = "tags by rule" },
	{ "quotas", SCHEMA_NODE, DOC(quotas), .node = HUJSON_OBJECT, .help = "budgets by name" },
	{ "grants", SCHEMA_NODE, DOC(grants), .node = HUJSON_ARRAY, .help = "who may do what" },
	{ "tests", SCHEMA_NODE, DOC(tests), .node = HUJSON_ARRAY, .help = "what must hold" },
	{ "unpriced", SCHEMA_WORD, DOC(unpriced), .words = unpriced_words,
	  .help = "models without a price under a dollar quota" },
	{ "tool_rules", SCHEMA_REFUSED, .help = "rules on tool calls" },
	{ "hooks", SCHEMA_REFUSED, .help = "HTTP hooks" },
	{ "egress", SCHEMA_NODE, DOC(egress), .node = HUJSON_OBJECT,
	  .help = "what is done about connections past the gateway, by tag" },
	{ "oidc", SCHEMA_REFUSED, .help = "identity by OIDC token" },
	{ "tagOwners", SCHEMA_REFUSED, .help = "who may put a tag on" },
	{ "exporters", SCHEMA_REFUSED, .help = "exports" },
	{ "database", SCHEMA_REFUSED, .help = "retention; see `ledger` of config.hujson" },
	{ "connectors", SCHEMA_REFUSED, .help = "MCP" },
	{ "mcp", SCHEMA_REFUSED, .help = "MCP" },
	{ "temp_grants", SCHEMA_REFUSED, .help = "of Aperture, deprecated" },
	{ "sandboxes", SCHEMA_REFUSED, .help = "of Aperture" },
	{ "revoke_streams", SCHEMA_REFUSED, .help = "end running streams of a revoked grant" },
	{ "auto_cost_basis", SCHEMA_NO_EFFECT,
	  .help = "of Aperture; the basis is always inferred" },
	{ "flags", SCHEMA_NO_EFFECT, .help = "of Aperture" },
	{ "chat_models", SCHEMA_NO_EFFECT, .help = "of Aperture" },
	{ 0 },
};

const struct schema_field *policy_schema(void)
{
	return policy_fields;
}

/* ---------------------------------------------------------------- checks of the whole */

static void check_quotas_used(struct schema *s)
{
	const struct policy *p = s->arg;

	for (unsigned i = 0; i < p->n_quotas; i++) {
		if (!p->quota_more[i].used)
			diag_add(s->diags, false, p->quota_more[i].line, 1,
				 "the quota `%s` is never used; name it in a grant",
				 diag_word(p->quotas[i].name).s);
	}
}

/* The distinct quotas of all grants of one source; they alone must fit. */
static unsigned atom_quotas(const struct policy *p, const struct atom *atom, uint64_t *seen)
{
	unsigned n = 0;

	memset(seen, 0, (p->n_quotas + 63) / 64 * sizeof(*seen));
	for (unsigned c = 0; c < p->n_capabilities; c++) {
		const struct capability *capability = &p->capabilities[c];

		if (!capability->n_quotas || !bit_test(atom->grants, capability->grant))
			continue;
		for (unsigned i = 0; i < capability->n_quotas; i++) {
			n += !bit_test(seen, capability->quotas[i]);
			bit_set(seen, capability->quotas[i]);
		}
	}
	return n;
}

static void check_charges(struct schema *s)
{
	struct policy *p = s->arg;
	uint64_t *seen;

	if (p->n_quotas <= POLICY_CHARGES_MAX)
		return;
	seen = schema_alloc(s, (p->n_quotas + 63) / 64, sizeof(*seen));
	for (unsigned i = 0; seen && i < p->n_atoms; i++) {
		unsigned n = atom_quotas(p, &p->atoms[i], seen);

		if (n > POLICY_CHARGES_MAX)
			diag_add(
				s->diags, true, p->atoms[i].line, 1,
				"the grants of `%s` charge %u quotas, and a request has %d at most",
				diag_word(p->atoms[i].text).s, n, POLICY_CHARGES_MAX);
	}
}

static void check_roles(struct schema *s, const struct hujson *grants)
{
	const struct policy *p = s->arg;
	bool roles = false;

	for (unsigned i = 0; i < p->grant_words; i++)
		roles |= p->user_bits[i] != 0;
	if (!p->n_providers)
		diag_add(s->diags, false, 0, 0, "no `providers`: every request will be refused");
	if (!grants || !grants->n)
		diag_add(s->diags, false, 0, 0, "no `grants`: every request will be refused");
	else if (!roles)
		schema_warn(
			s, grants,
			"no grant gives a role, so every request will be refused; add { \"role\": "
			"\"user\" }");
}

/* ---------------------------------------------------------------- the whole */

static void policy_build(struct schema *s, const struct hujson *root)
{
	struct policy *p = s->arg;
	struct document d = { 0 };

	if (!schema_parse(s, policy_fields, "the policy", root, &d))
		return;
	p->unpriced_allow = d.unpriced == 1;
	if (d.providers)
		providers_parse(s, d.providers);
	if (d.quotas && !s->err)
		quotas_parse(s, d.quotas);
	if (!s->err)
		grants_parse(s, d.grants, d.groups);
	if (d.labels && !s->err)
		labels_parse(s, d.labels);
	if (!s->err)
		egress_parse(s, d.egress);
	if (!s->err)
		atoms_index(s);
	if (s->err)
		return;
	check_quotas_used(s);
	check_charges(s);
	check_roles(s, d.grants);
	/* Rationale: tests of a broken policy would only add noise. */
	if (d.tests && !s->err && !s->diags->n_errors)
		tests_run(s, d.tests);
}

/* Mistakes of the price table point into another file, so their position is part of the text. */
static int prices_load(struct schema *s, struct str prices)
{
	struct policy *p = s->arg;
	struct policy_diags *own = calloc(1, sizeof(*own));
	int err;

	if (!own)
		return -ENOMEM;
	err = price_table_parse(prices.n ? prices : prices_builtin, &p->arena, &p->prices, own);
	for (unsigned i = 0; i < own->n; i++)
		diag_add(s->diags, own->items[i].is_error, 0, 0,
			 "price table, line %u, column %u: %.200s", own->items[i].line,
			 own->items[i].column, own->items[i].text);
	free(own);
	return err;
}

int policy_parse(struct str text, struct str prices, struct policy **ret_policy,
		 struct policy_diags *diags)
{
	struct policy *p = calloc(1, sizeof(*p));
	struct arena nodes = { .max = POLICY_ARENA_BYTES };
	struct schema s = { .diags = diags, .arg = p };
	struct hujson *root = NULL;

	diags->n = diags->n_errors = diags->n_dropped = 0;
	if (!p)
		return -ENOMEM;
	s.arena = &p->arena;
	p->arena.max = POLICY_ARENA_BYTES;
	p->any_atom = -1;
	if (text.n > POLICY_TEXT_MAX)
		diag_add(diags, true, 0, 0, "the file is larger than %u bytes", POLICY_TEXT_MAX);
	else
		s.err = hujson_parse(text, &nodes, &p->arena, &root, diags);
	if (!s.err && !diags->n_errors)
		s.err = prices_load(&s, prices);
	if (!s.err && !diags->n_errors)
		policy_build(&s, root);
	arena_fini(&nodes);
	diag_sort(diags);
	if (!s.err && !diags->n_errors) {
		*ret_policy = p;
		return 0;
	}
	policy_free(p);
	return s.err ? s.err : -EINVAL;
}

void policy_free(struct policy *p)
{
	if (!p)
		return;
	for (unsigned i = 0; i < p->n_providers; i++) {
		const struct policy_provider *provider = &p->providers[i];

		/* A key that stood in the file is wiped; its text is ours alone. */
		if (provider->key_kind == KEY_LITERAL && provider->key_arg.n)
			explicit_bzero((char *)(uintptr_t)provider->key_arg.s, provider->key_arg.n);
	}
	arena_fini(&p->arena);
	free(p);
}

unsigned policy_n_providers(const struct policy *p)
{
	return p->n_providers;
}

const struct policy_provider *policy_provider(const struct policy *p, unsigned i)
{
	return &p->providers[i];
}

unsigned policy_n_quotas(const struct policy *p)
{
	return p->n_quotas;
}

const struct policy_quota *policy_quota(const struct policy *p, unsigned i)
{
	return &p->quotas[i];
}

bool policy_unpriced_allowed(const struct policy *p)
{
	return p->unpriced_allow;
}

struct str policy_prices_date(const struct policy *p)
{
	return p->prices.date;
}
