/* SPDX-License-Identifier: Apache-2.0 */
/* `quotas` and `grants` of a policy: who may do what, and what it costs them. */
#include "policy/internal.h"

#include <errno.h>

#include "policy/units.h"

/* ---------------------------------------------------------------- quotas */

struct quota_draft {
	struct str capacity, rate;
	int on_exceed;
};

static const char *const on_exceed[] = { "reject", "warn", NULL };

#define QUOTA(m) SCHEMA_AT(struct quota_draft, m)
static const struct schema_field quota_fields[] = {
	{ "capacity", SCHEMA_STRING, .required = true, QUOTA(capacity),
	  .help = "give the largest balance, like \"$10.00\", \"500 requests\" or \"2M tokens\"" },
	{ "rate", SCHEMA_STRING, QUOTA(rate),
	  .help = "what flows in, like \"$10.00/day\"; left out: it never refills" },
	{ "on_exceed", SCHEMA_WORD, QUOTA(on_exceed), .words = on_exceed,
	  .help = "reject: refuse what the balance does not cover; warn: let it through" },
	{ 0 },
};

const struct schema_field *quota_schema(void)
{
	return quota_fields;
}

/* Finds `<tag>` and its like in the name. */
static void quota_template(struct schema *s, const struct hujson *v, struct policy_quota *q,
			   struct quota_more *more)
{
	static const struct {
		struct str word;
		bool tag, foreign;
	} templates[] = { { STR("<tag>"), true, false },
			  { STR("<cgroup>"), false, false },
			  { STR("<user>"), false, true },
			  { STR("<node>"), false, true } };
	struct str name = v->key;
	const char *open = memchr(name.s, '<', name.n);

	more->before = name;
	more->after = STR("");
	if (!open) {
		if (memchr(name.s, '>', name.n))
			schema_error_key(s, v, "`%s`: a template is written <tag> or <cgroup>",
					 diag_word(name).s);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(templates); i++) {
		struct str at = str_skip(name, (size_t)(open - name.s));

		if (!str_starts(at, templates[i].word))
			continue;
		more->before = (struct str){ name.s, (size_t)(open - name.s) };
		more->after = str_skip(at, templates[i].word.n);
		q->per_tag = templates[i].tag;
		q->per_cgroup = !q->per_tag;
		if (templates[i].foreign)
			schema_warn_key(s, v,
					"`%s` is read as <cgroup>: identity here is the cgroup",
					templates[i].word.s);
		if (memchr(more->after.s, '<', more->after.n))
			schema_error_key(s, v, "`%s` holds two templates; use one",
					 diag_word(name).s);
		return;
	}
	schema_error_key(s, v, "`%s` holds an unknown template; use <tag> or <cgroup>",
			 diag_word(name).s);
}

static void quota_amounts(struct schema *s, const struct hujson *v, const struct quota_draft *d,
			  struct policy_quota *q)
{
	const struct hujson *at = hujson_get(v, STR("capacity"));
	enum quota_unit rate_unit = QUOTA_NANOUSD;
	const char *wrong;

	if (!d->capacity.n)
		return; /* reported */
	wrong = units_amount(d->capacity, &q->unit, &q->capacity);
	if (wrong)
		schema_error(s, at, "`capacity` is `%s`: %s", diag_word(d->capacity).s, wrong);
	if (!d->rate.n)
		return;
	at = hujson_get(v, STR("rate"));
	if (units_rate(d->rate, &rate_unit, &q->rate, &q->rate_period_ns)) {
		wrong = units_rate(d->rate, &rate_unit, &q->rate, &q->rate_period_ns);
		schema_error(s, at, "`rate` is `%s`: %s", diag_word(d->rate).s, wrong);
	} else if (!wrong && rate_unit != q->unit) {
		schema_error(s, at, "`rate` counts %s but `capacity` counts %s; use one unit",
			     quota_unit_name(rate_unit), quota_unit_name(q->unit));
	}
}

static void quota_parse(struct schema *s, const struct hujson *v, struct policy_quota *ret,
			struct quota_more *more)
{
	struct quota_draft d = { .capacity = STR(""), .rate = STR("") };
	struct policy_quota q = { .name = v->key };

	more->line = v->key_line;
	if (!v->key.n || v->key.n >= POLICY_BUCKET_BYTES - 24)
		schema_error_key(s, v, "the name of a quota has 1 to %d bytes",
				 POLICY_BUCKET_BYTES - 25);
	for (size_t i = 0; i < v->key.n; i++) {
		if ((unsigned char)v->key.s[i] < 0x20 || v->key.s[i] == 0x7f) {
			schema_error_key(s, v, "the name of a quota holds no control characters");
			break;
		}
	}
	quota_template(s, v, &q, more);
	if (schema_parse(s, quota_fields, "a quota", v, &d)) {
		quota_amounts(s, v, &d, &q);
		q.warn_only = d.on_exceed == 1;
	}
	*ret = q;
}

void quotas_parse(struct schema *s, const struct hujson *v)
{
	struct policy *p = s->arg;

	if (v->n > QUOTAS_MAX) {
		schema_error(s, v, "more than %d quotas", QUOTAS_MAX);
		return;
	}
	p->quotas = schema_alloc(s, v->n, sizeof(*p->quotas));
	p->quota_more = schema_alloc(s, v->n, sizeof(*p->quota_more));
	if (!p->quotas || !p->quota_more)
		return;
	hujson_for_each(m, v)
	{
		quota_parse(s, m, &p->quotas[p->n_quotas], &p->quota_more[p->n_quotas]);
		p->n_quotas++;
	}
}

/* ---------------------------------------------------------------- grants */

struct grant_draft {
	const struct hujson *src, *app;
};

struct capability_draft {
	const struct hujson *models, *quotas, *add_headers;
	int role;
};

static const char *const roles[] = { "", "user", "admin", NULL };

#define GRANT(m) SCHEMA_AT(struct grant_draft, m)
static const struct schema_field grant_fields[] = {
	{ "src", SCHEMA_NODE, .required = true, GRANT(src), .node = HUJSON_ARRAY,
	  .help = "list who gets it, like [\"tag:ci\", \"group:eng\"]" },
	{ "app", SCHEMA_NODE, .required = true, GRANT(app), .node = HUJSON_OBJECT,
	  .help = "give { \"sallyport/cap/llm\": [ … ] }" },
	{ "dst", SCHEMA_NO_EFFECT, .help = "of a tailnet policy file" },
	{ "ip", SCHEMA_NO_EFFECT, .help = "of a tailnet policy file" },
	{ "revoke_streams", SCHEMA_REFUSED, .help = "end running streams of a revoked grant" },
	{ 0 },
};

static void role_parse(struct schema *s, const struct schema_field *f, const struct hujson *v,
		       void *object)
{
	struct capability_draft *d = object;

	(void)f;
	if (!schema_expect(s, v, HUJSON_STRING, "`role`"))
		return;
	for (int i = 1; roles[i]; i++) {
		if (str_eq(v->text, str_of(roles[i]))) {
			d->role = i;
			return;
		}
	}
	schema_error(s, v, "`role` is `%s`; it must be user or admin", diag_word(v->text).s);
}

static void patterns_node(struct schema *s, const struct schema_field *f, const struct hujson *v,
			  void *object)
{
	struct capability_draft *d = object;

	(void)f;
	if (v->type == HUJSON_ARRAY || schema_expect(s, v, HUJSON_STRING, "`models`"))
		d->models = v;
}

#define CAPABILITY(m) SCHEMA_AT(struct capability_draft, m)
static const struct schema_field capability_fields[] = {
	{ "role", SCHEMA_CUSTOM, .parse = role_parse,
	  .help = "user or admin; needed for any access" },
	{ "models", SCHEMA_CUSTOM, .parse = patterns_node,
	  .help = "a pattern on provider/model, or a list of them" },
	{ "quotas", SCHEMA_NODE, CAPABILITY(quotas), .node = HUJSON_ARRAY,
	  .help = "[{ \"bucket\": NAME }]: what its requests are charged to" },
	{ "add_headers", SCHEMA_NODE, CAPABILITY(add_headers), .node = HUJSON_ARRAY,
	  .help = "\"Name: value\" upstream" },
	{ "tools", SCHEMA_REFUSED, .help = "tool rules" },
	{ "limits", SCHEMA_REFUSED, .help = "limits of a session" },
	{ "send_hooks", SCHEMA_REFUSED, .help = "hooks" },
	{ "connectors", SCHEMA_REFUSED, .help = "MCP" },
	{ "mcp_tools", SCHEMA_REFUSED, .help = "MCP" },
	{ "mcp_resources", SCHEMA_REFUSED, .help = "MCP" },
	{ "mcp_templates", SCHEMA_REFUSED, .help = "MCP" },
	{ "filterable_headers", SCHEMA_REFUSED, .help = "of Aperture" },
	{ "direct_paths", SCHEMA_REFUSED, .help = "of Aperture" },
	{ "set_cors", SCHEMA_REFUSED, .help = "of Aperture" },
	{ "cors_paths", SCHEMA_REFUSED, .help = "of Aperture" },
	{ "Access-Control-Allow-Origin", SCHEMA_REFUSED, .help = "of Aperture" },
	{ "Access-Control-Allow-Methods", SCHEMA_REFUSED, .help = "of Aperture" },
	{ "Access-Control-Allow-Headers", SCHEMA_REFUSED, .help = "of Aperture" },
	{ "skills", SCHEMA_NO_EFFECT, .help = "of Aperture" },
	{ "enable_chat_ui", SCHEMA_NO_EFFECT, .help = "of Aperture" },
	{ "read_metrics", SCHEMA_NO_EFFECT, .help = "of Aperture" },
	{ "read_pricing", SCHEMA_NO_EFFECT, .help = "of Aperture" },
	{ 0 },
};

static const struct schema_field bucket_fields[] = {
	{ "bucket", SCHEMA_NODE, .required = true, .at = 0, .node = HUJSON_STRING,
	  .help = "name a quota" },
	{ 0 },
};

const struct schema_field *grant_schema(void)
{
	return grant_fields;
}

const struct schema_field *capability_schema(void)
{
	return capability_fields;
}

/* ---- patterns on provider/model */

/* Whether some provider that it names serves something that it matches. */
static bool pattern_served(struct policy *p, const struct pattern *pattern)
{
	for (unsigned i = 0; i < p->n_providers; i++) {
		if (!bit_test(pattern->providers.w, i))
			continue;
		for (unsigned m = 0; m < p->providers[i].n_models; m++) {
			/* Only the text of a pattern is looked at. */
			struct glob served = { .text = p->providers[i].models[m] };

			/* Rationale: a file of thousands of patterns must not take minutes. */
			if (p->n_overlaps++ > OVERLAPS_MAX)
				return true;
			if (served.text.n <= GLOB_BYTES_MAX &&
			    glob_overlaps(&pattern->model, &served))
				return true;
		}
	}
	return false;
}

static void pattern_hint(struct schema *s, const struct hujson *v, const struct pattern *pattern)
{
	struct policy *p = s->arg;
	const char *slash = memchr(v->text.s, '/', v->text.n);
	struct str provider = { v->text.s, slash ? (size_t)(slash - v->text.s) : 0 };
	struct nearest nearest = nearest_start(provider);

	if (!slash && !pattern->crossing) {
		schema_warn(s, v,
			    "`%s` can match nothing: models are matched as provider/model; write "
			    "`*/%s`",
			    diag_word(v->text).s, diag_word(v->text).s);
		return;
	}
	if (pattern->crossing)
		return;
	if (bits256_any(&pattern->providers)) {
		if (schema_room(s) && !pattern_served(p, pattern))
			schema_warn(s, v, "`%s` can match nothing: `%s` serves no such model",
				    diag_word(v->text).s, diag_word(provider).s);
		return;
	}
	for (unsigned i = 0; schema_room(s) && i < p->n_providers; i++)
		nearest_try(&nearest, p->providers[i].name);
	schema_warn(s, v, "`%s` can match nothing: no provider is named `%s`%s",
		    diag_word(v->text).s, diag_word(provider).s, nearest_hint(&nearest).s);
}

static int pattern_compile(struct schema *s, struct str text, struct pattern *ret)
{
	const struct policy *p = s->arg;
	const char *slash = memchr(text.s, '/', text.n);
	struct str head = { text.s, slash ? (size_t)(slash - text.s) : text.n };
	struct glob provider;
	int err;

	ret->text = text;
	ret->crossing = str_find(head, STR("**")) != NULL;
	if (ret->crossing)
		return glob_compile(&ret->model, text, s->arena);
	if (!slash) /* can match nothing */
		return glob_compile(&ret->model, STR(""), s->arena);
	err = glob_compile(&provider, head, s->arena);
	for (unsigned i = 0; !err && i < p->n_providers; i++) {
		if (glob_match(&provider, p->providers[i].name))
			bit_set(ret->providers.w, i);
	}
	return err ? err : glob_compile(&ret->model, str_skip(text, head.n + 1), s->arena);
}

static void pattern_parse(struct schema *s, const struct hujson *v, struct capability *c,
			  struct pattern *patterns)
{
	struct pattern *pattern = &patterns[c->n_patterns];
	int err;

	if (!schema_expect(s, v, HUJSON_STRING, "a pattern of `models`"))
		return;
	if (!v->text.n) {
		schema_error(s, v, "`models` is empty; write `**` for every model");
		return;
	}
	err = pattern_compile(s, v->text, pattern);
	if (err == -ENOMEM) {
		s->err = err;
	} else if (err) {
		schema_error(s, v, "the pattern `%s` is too long", diag_word(v->text).s);
	} else {
		c->n_patterns++;
		pattern_hint(s, v, pattern);
	}
}

static void patterns_parse(struct schema *s, const struct hujson *v, struct capability *c)
{
	struct pattern *patterns = schema_alloc(s, v->n ? v->n : 1, sizeof(*patterns));

	if (!patterns)
		return;
	c->patterns = patterns;
	if (v->type == HUJSON_STRING) {
		pattern_parse(s, v, c, patterns);
		return;
	}
	if (!v->n)
		schema_error(s, v, "`models` is empty; write `**` for every model");
	hujson_for_each(item, v)
	{
		pattern_parse(s, item, c, patterns);
	}
}

/* ---- capabilities */

static void bucket_parse(struct schema *s, const struct hujson *v, struct capability *c,
			 unsigned *quotas)
{
	struct policy *p = s->arg;
	const struct hujson *name = NULL;
	struct nearest nearest;

	if (!schema_parse(s, bucket_fields, "an entry of `quotas`", v, &name) || !name)
		return;
	for (unsigned i = 0; i < p->n_quotas; i++) {
		if (!str_eq(p->quotas[i].name, name->text))
			continue;
		p->quota_more[i].used = true;
		quotas[c->n_quotas++] = i;
		if (p->quotas[i].per_tag)
			p->grants[c->grant].tag_quotas++;
		else
			p->grants[c->grant].n_quotas++;
		return;
	}
	nearest = nearest_start(name->text);
	for (unsigned i = 0; schema_room(s) && i < p->n_quotas; i++)
		nearest_try(&nearest, p->quotas[i].name);
	schema_error(s, name, "no quota is named `%s`%s", diag_word(name->text).s,
		     nearest_hint(&nearest).s);
}

static void buckets_parse(struct schema *s, const struct hujson *v, struct capability *c)
{
	unsigned *quotas = schema_alloc(s, v->n, sizeof(*quotas));

	if (!quotas)
		return;
	c->quotas = quotas;
	hujson_for_each(item, v)
	{
		bucket_parse(s, item, c, quotas);
	}
}

static void capability_parse(struct schema *s, const struct hujson *v, unsigned grant)
{
	struct policy *p = s->arg;
	struct capability *c = &p->capabilities[p->n_capabilities];
	struct capability_draft d = { 0 };

	if (!schema_parse(s, capability_fields, "a capability", v, &d))
		return;
	p->n_capabilities++;
	*c = (struct capability){
		.grant = grant, .line = v->line, .user = d.role != 0, .admin = d.role == 2
	};
	if (d.models)
		patterns_parse(s, d.models, c);
	if (d.quotas)
		buckets_parse(s, d.quotas, c);
	if (d.add_headers)
		headers_parse(s, d.add_headers, &c->add_headers, &c->n_add_headers);
	if (c->user)
		bit_set(p->user_bits, grant);
	if (c->admin)
		bit_set(p->admin_bits, grant);
	if (c->n_patterns)
		bit_set(p->model_bits, grant);
	if (c->n_quotas)
		bit_set(p->quota_bits, grant);
	if (c->n_add_headers)
		bit_set(p->header_bits, grant);
}

static bool app_is_ours(struct str name)
{
	return str_eq(name, STR("sallyport/cap/llm")) ||
	       str_eq(name, STR("tailscale.com/cap/aperture"));
}

static void app_parse(struct schema *s, const struct hujson *app, unsigned grant)
{
	bool ours = false;

	hujson_for_each(m, app)
	{
		struct nearest nearest = nearest_start(m->key);

		if (!app_is_ours(m->key)) {
			nearest_try(&nearest, STR("sallyport/cap/llm"));
			nearest_try(&nearest, STR("tailscale.com/cap/aperture"));
			schema_warn_key(s, m, "the capability `%s` has no effect here%s",
					diag_word(m->key).s, nearest_hint(&nearest).s);
			continue;
		}
		ours = true;
		if (!schema_expect(s, m, HUJSON_ARRAY, "the list of capabilities"))
			continue;
		hujson_for_each(item, m)
		{
			capability_parse(s, item, grant);
		}
	}
	if (!ours)
		schema_warn(s, app, "this grant gives nothing; name \"sallyport/cap/llm\"");
}

static void grant_parse(struct schema *s, const struct hujson *v, struct groups *groups,
			unsigned index)
{
	struct policy *p = s->arg;
	struct grant *grant = &p->grants[index];
	struct grant_draft d = { 0 };

	*grant = (struct grant){ .line = v->line, .first = p->n_capabilities, .src = STR("") };
	grant->rule_n = (unsigned)snprintf(grant->rule, sizeof(grant->rule), "grants[%u] (line %u)",
					   index, v->line);
	if (!schema_parse(s, grant_fields, "a grant", v, &d))
		return;
	if (d.src) {
		if (!d.src->n)
			schema_warn(s, d.src, "`src` is empty, so this grant matches nobody");
		if (d.src->first)
			grant->src = d.src->first->text.s ? d.src->first->text : STR("");
		hujson_for_each(item, d.src)
		{
			if (schema_expect(s, item, HUJSON_STRING, "an entry of `src`"))
				source_add(s, groups, item, index);
		}
	}
	if (d.app)
		app_parse(s, d.app, index);
	grant->n = p->n_capabilities - grant->first;
}

/* How many capabilities there can be, so that the array is taken once. */
static unsigned capabilities_count(const struct hujson *grants)
{
	unsigned n = 0;

	hujson_for_each(grant, grants)
	{
		const struct hujson *app =
			grant->type == HUJSON_OBJECT ? hujson_get(grant, STR("app")) : NULL;

		if (!app || app->type != HUJSON_OBJECT)
			continue;
		hujson_for_each(list, app)
		{
			n += list->n;
		}
	}
	return n;
}

static bool grants_alloc(struct schema *s, const struct hujson *v)
{
	struct policy *p = s->arg;
	uint64_t **bits[] = { &p->user_bits, &p->admin_bits, &p->model_bits, &p->quota_bits,
			      &p->header_bits };
	unsigned n = v ? capabilities_count(v) : 0;

	if (v && v->n > GRANTS_MAX)
		schema_error(s, v, "more than %d grants", GRANTS_MAX);
	if (n > CAPABILITIES_MAX)
		schema_error(s, v, "more than %d capabilities", CAPABILITIES_MAX);
	if (s->diags->n_errors && (n > CAPABILITIES_MAX || (v && v->n > GRANTS_MAX)))
		return false;
	p->n_grants = v ? v->n : 0;
	p->grant_words = (p->n_grants + 63) / 64;
	p->grants = schema_alloc(s, p->n_grants, sizeof(*p->grants));
	p->capabilities = schema_alloc(s, n, sizeof(*p->capabilities));
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		*bits[i] = schema_alloc(s, p->grant_words, sizeof(uint64_t));
	return !s->err;
}

void grants_parse(struct schema *s, const struct hujson *v, const struct hujson *groups_node)
{
	struct policy *p = s->arg;
	struct groups *groups = NULL;
	unsigned i = 0;

	if (!grants_alloc(s, v)) {
		p->n_grants = 0;
		return;
	}
	groups = groups_parse(s, groups_node);
	if (!v || s->err || !groups)
		return;
	hujson_for_each(item, v)
	{
		grant_parse(s, item, groups, i++);
	}
}
