/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prices: a table in HuJSON, dollars for a million tokens, read without floating point into
 * picodollars for a token; the search by provider and model; the sum of a bill.
 */
#include "policy/internal.h"

#include <errno.h>

#include "policy/units.h"

struct base_draft {
	const struct hujson *models;
	const struct str *like;
	unsigned n_like;
};

struct table_draft {
	struct str date;
	const struct hujson *bases;
};

static void picodollars_parse(struct schema *s, const struct schema_field *f,
			      const struct hujson *v, void *object)
{
	int64_t *at = (int64_t *)((char *)object + f->at);
	/* Dollars a million -> picodollars each: 6 digits. Dollars -> nano-dollars: 9. */
	unsigned digits = f->at == offsetof(struct policy_price, web_search_nanousd) ? 9 : 6;
	const char *wrong;
	int64_t value;
	char what[64];

	snprintf(what, sizeof(what), "`%s`", f->key);
	if (!schema_expect(s, v, HUJSON_NUMBER, what))
		return;
	wrong = units_decimal(v->text, digits, &value);
	if (wrong)
		schema_error(s, v, "%s: %s", what, wrong);
	else if (value < 0 || value > 1000000000000LL)
		schema_error(s, v, "%s must be between 0 and a million", what);
	else
		*at = value;
}

#define PRICE(m) SCHEMA_AT(struct policy_price, m)
#define PRICE_PART(k, m)                                                                           \
	{                                                                                          \
		k, SCHEMA_CUSTOM, PRICE(m), .parse = picodollars_parse, .help = "dollars"          \
	}

static const struct schema_field tier_fields[] = {
	{ "above", SCHEMA_INT, .required = true, PRICE(tier_above_tokens), .min = 1, .max = 1 << 30,
	  .help = "tokens of the whole prompt" },
	PRICE_PART("input", tier_input),
	PRICE_PART("output", tier_output),
	PRICE_PART("cache_read", tier_cache_read),
	PRICE_PART("cache_write_5m", tier_cache_write_5m),
	PRICE_PART("cache_write_1h", tier_cache_write_1h),
	{ 0 },
};

static void tier_parse(struct schema *s, const struct schema_field *f, const struct hujson *v,
		       void *object)
{
	(void)f;
	schema_parse(s, tier_fields, "a tier", v, object);
}

static const struct schema_field price_fields[] = {
	PRICE_PART("input", input),
	PRICE_PART("output", output),
	PRICE_PART("cache_read", cache_read),
	PRICE_PART("cache_write_5m", cache_write_5m),
	PRICE_PART("cache_write_1h", cache_write_1h),
	PRICE_PART("web_search", web_search_nanousd),
	{ "context", SCHEMA_INT, PRICE(context_tokens), .min = 1, .max = 1 << 30,
	  .help = "tokens" },
	{ "max_output", SCHEMA_INT, PRICE(max_output_tokens), .min = 1, .max = 1 << 30,
	  .help = "tokens" },
	{ "long", SCHEMA_CUSTOM, .parse = tier_parse,
	  .help = "other prices above a prompt's size" },
	{ 0 },
};

#define BASE(m) SCHEMA_AT(struct base_draft, m)
static const struct schema_field base_fields[] = {
	{ "models", SCHEMA_NODE, BASE(models), .node = HUJSON_OBJECT,
	  .help = "patterns and prices" },
	{ "like", SCHEMA_STRINGS, BASE(like), .at_count = offsetof(struct base_draft, n_like),
	  .help = "bases that are searched afterwards" },
	{ 0 },
};

#define TABLE(m) SCHEMA_AT(struct table_draft, m)
static const struct schema_field table_fields[] = {
	{ "date", SCHEMA_STRING, .required = true, TABLE(date),
	  .help = "when it was last compared" },
	{ "bases", SCHEMA_NODE, .required = true, TABLE(bases), .node = HUJSON_OBJECT,
	  .help = "price lists by name" },
	{ 0 },
};

static unsigned literal_bytes(const struct glob *g)
{
	unsigned n = 0;

	for (size_t i = 0; i < g->text.n; i++)
		n += g->text.s[i] != '*' && g->text.s[i] != '?';
	return n;
}

static bool more_specific(const struct glob *a, const struct glob *b)
{
	bool exact_a = a->shape == GLOB_LITERAL, exact_b = b->shape == GLOB_LITERAL;

	return exact_a != exact_b ? exact_a : literal_bytes(a) > literal_bytes(b);
}

static void entry_parse(struct schema *s, const struct hujson *v, struct price_base *base)
{
	struct price_entry e = { .price = { .input = -1,
					    .output = -1,
					    .cache_read = -1,
					    .cache_write_5m = -1,
					    .cache_write_1h = -1,
					    .tier_input = -1,
					    .tier_output = -1,
					    .tier_cache_read = -1,
					    .tier_cache_write_5m = -1,
					    .tier_cache_write_1h = -1,
					    .adjustment_ppm = 1000000 } };
	int err = glob_compile(&e.model, v->key, s->arena);
	unsigned at = base->n;

	if (err == -ENOMEM)
		s->err = err;
	else if (err)
		schema_error_key(s, v, "the pattern is too long");
	if (err || !schema_parse(s, price_fields, "a price", v, &e.price))
		return;
	for (; at > 0 && more_specific(&e.model, &base->entries[at - 1].model); at--)
		base->entries[at] = base->entries[at - 1];
	base->entries[at] = e;
	base->n++;
}

static void base_parse(struct schema *s, const struct hujson *v, struct price_base *ret,
		       struct base_draft *d)
{
	*ret = (struct price_base){ .name = v->key };
	if (!schema_parse(s, base_fields, "a basis", v, d) || !d->models)
		return;
	if (d->models->n > PRICE_ENTRIES_MAX) {
		schema_error(s, d->models, "more than %d prices", PRICE_ENTRIES_MAX);
		return;
	}
	ret->entries = schema_alloc(s, d->models->n, sizeof(*ret->entries));
	if (!ret->entries)
		return;
	hujson_for_each(m, d->models)
	{
		entry_parse(s, m, ret);
	}
}

/* `like` names bases that may stand later in the file. */
static void base_link(struct schema *s, const struct hujson *v, const struct price_table *t,
		      struct price_base *base, const struct base_draft *d)
{
	for (unsigned i = 0; i < d->n_like; i++) {
		int at = price_base_find(t, d->like[i]);

		if (at < 0)
			schema_error(s, v, "`like` names no basis: `%s`", diag_word(d->like[i]).s);
		else if (base->n_like == ARRAY_SIZE(base->like))
			schema_error(s, v, "`like` names more than %zu bases",
				     ARRAY_SIZE(base->like));
		else
			base->like[base->n_like++] = (unsigned)at;
	}
}

static void table_build(struct schema *s, const struct hujson *root, struct price_table *t)
{
	struct table_draft d = { .date = STR("") };
	struct base_draft bases[PRICE_BASES_MAX] = { 0 };
	unsigned n = 0;

	if (!schema_parse(s, table_fields, "the price table", root, &d) || !d.bases)
		return;
	if (d.bases->n > PRICE_BASES_MAX) {
		schema_error(s, d.bases, "more than %d bases", PRICE_BASES_MAX);
		return;
	}
	t->date = d.date;
	t->bases = schema_alloc(s, d.bases->n, sizeof(*t->bases));
	if (!t->bases)
		return;
	hujson_for_each(m, d.bases)
	{
		base_parse(s, m, &t->bases[t->n], &bases[t->n]);
		t->n++;
	}
	hujson_for_each(m, d.bases)
	{
		base_link(s, m, t, &t->bases[n], &bases[n]);
		n++;
	}
}

int price_table_parse(struct str text, struct arena *arena, struct price_table *ret,
		      struct policy_diags *diags)
{
	struct arena nodes = { .max = POLICY_ARENA_BYTES };
	struct schema s = { .arena = arena, .diags = diags };
	struct price_table t = { .date = STR("") };
	struct hujson *root = NULL;

	if (text.n > POLICY_TEXT_MAX)
		diag_add(diags, true, 0, 0, "the price table is larger than %u bytes",
			 POLICY_TEXT_MAX);
	else
		s.err = hujson_parse(text, &nodes, arena, &root, diags);
	if (!s.err && !diags->n_errors)
		table_build(&s, root, &t);
	arena_fini(&nodes);
	if (s.err || diags->n_errors)
		return s.err ? s.err : -EINVAL;
	*ret = t;
	return 0;
}

/* ---------------------------------------------------------------- search */

int price_base_find(const struct price_table *t, struct str name)
{
	for (unsigned i = 0; i < t->n; i++) {
		if (str_eq(t->bases[i].name, name))
			return (int)i;
	}
	return -1;
}

int price_base_of_host(const struct price_table *t, struct str host)
{
	static const struct {
		struct str suffix, base;
		bool region; /* also as "us-east5-aiplatform…" */
	} hosts[] = {
		{ STR("anthropic.com"), STR("anthropic"), false },
		{ STR("openai.com"), STR("openai"), false },
		{ STR("openai.azure.com"), STR("azure"), false },
		{ STR("generativelanguage.googleapis.com"), STR("google"), false },
		{ STR("aiplatform.googleapis.com"), STR("vertex"), true },
		{ STR("amazonaws.com"), STR("bedrock"), false },
		{ STR("openrouter.ai"), STR("openrouter"), false },
		{ STR("ai-gateway.vercel.sh"), STR("vercel"), false },
		{ STR("mistral.ai"), STR("mistral"), false },
		{ STR("deepseek.com"), STR("deepseek"), false },
		{ STR("groq.com"), STR("groq"), false },
		{ STR("x.ai"), STR("xai"), false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		struct str s = hosts[i].suffix;
		char before = host.n > s.n ? host.s[host.n - s.n - 1] : '.';

		if (str_ends(host, s) && (before == '.' || (hosts[i].region && before == '-')))
			return price_base_find(t, hosts[i].base);
	}
	return -1;
}

static const struct policy_price *base_search(const struct price_base *b, struct str model)
{
	for (unsigned i = 0; i < b->n; i++) {
		if (glob_match(&b->entries[i].model, model))
			return &b->entries[i].price;
	}
	return NULL;
}

const struct policy_price *price_find(const struct price_table *t, int base, struct str model)
{
	const struct policy_price *found = NULL;
	const struct price_base *b;

	if (base < 0) {
		for (unsigned i = 0; i < t->n && !found; i++)
			found = base_search(&t->bases[i], model);
		return found;
	}
	b = &t->bases[base];
	found = base_search(b, model);
	for (unsigned i = 0; i < b->n_like && !found; i++)
		found = base_search(&t->bases[b->like[i]], model);
	return found;
}

bool price_resolve(const struct policy *p, unsigned provider, struct str model,
		   struct policy_price *ret, struct str *ret_as)
{
	const struct provider_more *more = &p->more[provider];
	int64_t adjustment = 1000000;
	const struct policy_price *found;

	*ret_as = model;
	for (unsigned i = 0; i < more->n_maps; i++) {
		if (!glob_match(&more->maps[i].match, model))
			continue;
		*ret_as = more->maps[i].as;
		adjustment = more->maps[i].adjustment_ppm;
		break;
	}
	if (more->basis == BASIS_FREE) {
		*ret = (struct policy_price){ .adjustment_ppm = 1000000 };
		return true;
	}
	found = price_find(&p->prices, more->basis, *ret_as);
	if (!found)
		return false;
	*ret = *found;
	ret->adjustment_ppm = adjustment;
	return true;
}

bool policy_price(const struct policy *p, unsigned provider, struct str model,
		  struct policy_price *ret)
{
	struct str as;

	return price_resolve(p, provider, model, ret, &as);
}

/* ---------------------------------------------------------------- the bill */

struct rates {
	int64_t input, output, cache_read, cache_write_5m, cache_write_1h;
};

static int64_t first_priced(int64_t a, int64_t b, int64_t c)
{
	return a >= 0 ? a : b >= 0 ? b : MAX(c, (int64_t)0);
}

/* A part of the prompt without a price of its own is billed as plain input. */
static struct rates rates_of(const struct policy_price *price, bool tier)
{
	const struct policy_price *p = price;
	struct rates r;

	r.input = first_priced(tier ? p->tier_input : -1, p->input, 0);
	r.output = first_priced(tier ? p->tier_output : -1, p->output, 0);
	r.cache_read = first_priced(tier ? p->tier_cache_read : -1, p->cache_read, r.input);
	r.cache_write_5m =
		first_priced(tier ? p->tier_cache_write_5m : -1, p->cache_write_5m, r.input);
	r.cache_write_1h = first_priced(tier ? p->tier_cache_write_1h : -1, p->cache_write_1h,
					r.cache_write_5m);
	return r;
}

/* Rationale: far above INT64_MAX nano-dollars, and times the largest adjustment it still fits. */
#define PICO_MAX ((unsigned __int128)1 << 95)

static unsigned __int128 part(int64_t tokens, int64_t rate)
{
	return tokens > 0 && rate > 0 ? (unsigned __int128)(uint64_t)tokens * (uint64_t)rate : 0;
}

int64_t price_cost_nanousd(const struct policy_price *price, const struct usage_tokens *t)
{
	const unsigned __int128 unit = 1000ull * 1000000; /* pico -> nano, and parts per million */
	const int64_t adjustment = MIN(MAX(price->adjustment_ppm, (int64_t)0), ADJUSTMENT_PPM_MAX);
	unsigned __int128 prompt = 0, sum, searches;
	bool tier;
	struct rates r;

	prompt += (uint64_t)MAX(t->input, (int64_t)0);
	prompt += (uint64_t)MAX(t->cache_read, (int64_t)0);
	prompt += (uint64_t)MAX(t->cache_write_5m, (int64_t)0);
	prompt += (uint64_t)MAX(t->cache_write_1h, (int64_t)0);
	tier = price->tier_above_tokens > 0 && prompt > (uint64_t)price->tier_above_tokens;
	r = rates_of(price, tier);
	sum = part(t->input, r.input);
	sum = MIN(sum + part(t->output, r.output), PICO_MAX);
	sum = MIN(sum + part(t->cache_read, r.cache_read), PICO_MAX);
	sum = MIN(sum + part(t->cache_write_5m, r.cache_write_5m), PICO_MAX);
	sum = MIN(sum + part(t->cache_write_1h, r.cache_write_1h), PICO_MAX);
	searches = MIN(part(t->web_searches, price->web_search_nanousd), PICO_MAX / 1000);
	sum = MIN(sum + searches * 1000, PICO_MAX);
	sum = sum * (uint64_t)adjustment;
	sum = (sum + unit - 1) / unit;
	return sum > INT64_MAX ? INT64_MAX : (int64_t)sum;
}
