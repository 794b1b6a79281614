/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/explain.h"

#include <inttypes.h>

#include "policy/internal.h"
#include "policy/units.h"

static const char *const auth_words[] = { [AUTH_BEARER] = "bearer",
					  [AUTH_X_API_KEY] = "x-api-key",
					  [AUTH_X_GOOG_API_KEY] = "x-goog-api-key",
					  [AUTH_API_KEY] = "api-key" };
static const char *const mode_words[] = {
	[AUTH_OVERRIDE] = "override", [AUTH_PASSTHROUGH] = "passthrough", [AUTH_NONE] = "none"
};
_Static_assert(ARRAY_SIZE(auth_words) == AUTH_HEADER_MAX, "an authorization word is missing");
_Static_assert(ARRAY_SIZE(mode_words) == AUTH_MODE_MAX, "an auth_mode word is missing");

/* Printing goes on after an error and the first one is returned at the end. */
struct printer {
	struct buf *out;
	int err;
	bool comma;
};

static void PRINTF_LIKE(2, 3) say(struct printer *pr, const char *fmt, ...)
{
	va_list ap;

	if (pr->err)
		return;
	va_start(ap, fmt);
	pr->err = buf_vprintf(pr->out, fmt, ap);
	va_end(ap);
}

/* ---------------------------------------------------------------- explain */

static void say_rate(struct printer *pr, const char *name, int64_t picodollars)
{
	if (picodollars < 0)
		return;
	/* Picodollars a token are micro-dollars a million. */
	say(pr, "%s%s %s", pr->comma ? ", " : "", name,
	    units_amount_text(QUOTA_NANOUSD, picodollars * 1000).s);
	pr->comma = true;
}

static void say_price(struct printer *pr, const struct policy *p, unsigned provider,
		      struct str model)
{
	struct policy_price price;
	struct str as;

	if (!price_resolve(p, provider, model, &price, &as)) {
		say(pr, "   price   none: unpriced, %s under a dollar quota\n",
		    p->unpriced_allow ? "let through" : "refused");
		return;
	}
	say(pr, "   price   ");
	pr->comma = false;
	say_rate(pr, "input", price.input);
	say_rate(pr, "output", price.output);
	say_rate(pr, "cache read", price.cache_read);
	say_rate(pr, "cache write 5m", price.cache_write_5m);
	say_rate(pr, "cache write 1h", price.cache_write_1h);
	say(pr, " a million tokens");
	if (price.tier_above_tokens)
		say(pr, "; other prices above %" PRId64 " tokens", price.tier_above_tokens);
	if (!str_eq(as, model))
		say(pr, "; as %.*s", STR_ARG(as));
	if (price.adjustment_ppm != 1000000)
		say(pr, "; times %" PRId64 ".%06" PRId64, price.adjustment_ppm / 1000000,
		    price.adjustment_ppm % 1000000);
	say(pr, " (table of %.*s)\n", STR_ARG(p->prices.date));
}

static void say_quota(struct printer *pr, const struct policy_quota *q)
{
	say(pr, "%s", units_amount_text(q->unit, q->capacity).s);
	if (q->rate > 0)
		say(pr, ", %s flow in every %s", units_amount_text(q->unit, q->rate).s,
		    units_duration_text(q->rate_period_ns).s);
	else
		say(pr, ", never refilled");
	if (q->warn_only)
		say(pr, ", warns only");
}

static void say_candidate(struct printer *pr, const struct policy *p, const struct policy_query *q,
			  const struct policy_verdict *v, unsigned at)
{
	unsigned provider = v->candidates[at], n;
	const struct policy_provider *pp = &p->providers[provider];
	struct policy_charge charges[POLICY_CHARGES_MAX];

	say(pr, "%u. %.*s at %s://%.*s:%u%.*s, preference %" PRId64 ", key %s\n", at + 1,
	    STR_ARG(pp->name), pp->tls ? "https" : "http", STR_ARG(pp->host), pp->port,
	    STR_ARG(pp->base_path), pp->preference,
	    pp->auth_mode != AUTH_OVERRIDE ? mode_words[pp->auth_mode]
	    : pp->key_kind == KEY_NONE	   ? "missing"
					   : auth_words[pp->auth_header]);
	say_price(pr, p, provider, v->model);
	n = policy_charges(p, &q->who, provider, v->model, charges);
	for (unsigned i = 0; i < n; i++) {
		say(pr, "   bucket  %s: ", charges[i].bucket);
		say_quota(pr, &p->quotas[charges[i].quota]);
		say(pr, "\n");
	}
	if (!n)
		say(pr, "   bucket  none\n");
}

/* The grants that count for this identity, and what each one gives. */
static void say_grants(struct printer *pr, const struct policy *p, const struct policy_query *q)
{
	struct matched m;
	unsigned n = 0;

	grants_match(p, &q->who, &m);
	for (unsigned g = 0; g < p->n_grants; g++) {
		const struct grant *grant = &p->grants[g];

		if (!bit_test(m.all, g))
			continue;
		n++;
		say(pr, "   %s:%s%s", grant->rule,
		    bit_test(p->admin_bits, g)	? " role admin"
		    : bit_test(p->user_bits, g) ? " role user"
						: "",
		    bit_test(p->model_bits, g) ? " models" : "");
		for (unsigned c = grant->first; c < grant->first + grant->n; c++) {
			for (unsigned i = 0; i < p->capabilities[c].n_patterns; i++)
				say(pr, " %.*s", STR_ARG(p->capabilities[c].patterns[i].text));
		}
		say(pr, "\n");
	}
	if (!n)
		say(pr, "   none\n");
}

int policy_explain(const struct policy *p, const struct policy_query *q, struct buf *out)
{
	struct printer pr = { .out = out };
	struct policy_verdict v;

	policy_eval_spending(p, q, &v);
	if (v.outcome == OUTCOME_NONE)
		say(&pr, "allowed by %s%s\n", v.rule, v.is_admin ? ", as admin" : "");
	else
		say(&pr, "denied (%s): %s\n", outcome_name(v.outcome), v.rule);
	say(&pr, "model %.*s%s%s\n", STR_ARG(v.model),
	    q->format != WIRE_NONE ? " in the format " : "",
	    q->format != WIRE_NONE ? wire_format_name(q->format) : "");
	say(&pr, "grants that match:\n");
	say_grants(&pr, p, q);
	if (v.n_candidates)
		say(&pr, "providers, best first:\n");
	for (unsigned i = 0; i < v.n_candidates; i++)
		say_candidate(&pr, p, q, &v, i);
	return pr.err;
}

/* ---------------------------------------------------------------- show */

/* Where a key comes from, without anything secret. */
static struct diag_word key_text(const struct policy_provider *p)
{
	static const char *const kinds[] = {
		[KEY_NONE] = "none", [KEY_FILE] = "file:", [KEY_ENV] = "env:",
		[KEY_CMD] = "cmd:",  [KEY_CRED] = "cred:", [KEY_LITERAL] = "literal (hidden)"
	};
	struct str arg = p->key_arg;
	const char *space = p->key_kind == KEY_CMD && arg.n ? memchr(arg.s, ' ', arg.n) : NULL;
	char text[512];
	_Static_assert(ARRAY_SIZE(kinds) == KEY_KIND_MAX, "a kind of key lacks its name");

	if (p->key_kind == KEY_LITERAL || p->key_kind == KEY_NONE)
		arg = STR("");
	if (space)
		arg.n = (size_t)(space - arg.s);
	snprintf(text, sizeof(text), "%s%.*s%s", kinds[p->key_kind], STR_ARG(arg),
		 space ? " ..." : "");
	return diag_word(str_of(text));
}

static void show_provider(struct printer *pr, const struct policy *p, unsigned i)
{
	const struct policy_provider *pp = &p->providers[i];

	say(pr,
	    "provider %.*s%s (line %u)\n   url     %s://%.*s:%u%.*s\n   key     %s, %s, %s\n   formats",
	    STR_ARG(pp->name), pp->disabled ? ", disabled" : "", p->more[i].line,
	    pp->tls ? "https" : "http", STR_ARG(pp->host), pp->port, STR_ARG(pp->base_path),
	    key_text(pp).s, auth_words[pp->auth_header], mode_words[pp->auth_mode]);
	for (unsigned f = 1; f < WIRE_FORMAT_MAX; f++) {
		if (pp->formats[f])
			say(pr, " %s", wire_format_name(f));
	}
	say(pr, "\n   models ");
	for (unsigned m = 0; m < pp->n_models; m++)
		say(pr, " %.*s", STR_ARG(pp->models[m]));
	say(pr, "\n   domains");
	for (unsigned m = 0; m < pp->n_domains; m++)
		say(pr, " %.*s", STR_ARG(pp->domains[m]));
	say(pr, "\n   client leaves: %s; preference %" PRId64 "; prices %.*s\n",
	    pp->drain_on_disconnect ? "drain" : "cancel", pp->preference,
	    STR_ARG(p->more[i].basis == BASIS_FREE ? STR("free")
		    : p->more[i].basis < 0	   ? STR("of any basis")
						   : p->prices.bases[p->more[i].basis].name));
}

static void show_grant(struct printer *pr, const struct policy *p, unsigned g)
{
	const struct grant *grant = &p->grants[g];

	say(pr, "%s\n   from   ", grant->rule);
	for (unsigned a = 0; a < p->n_atoms; a++) {
		static const char *const prefixes[] = {
			[ATOM_ANY] = "",	   [ATOM_TAG] = "",
			[ATOM_SET] = "exactly ",   [ATOM_USER] = "user:",
			[ATOM_CGROUP] = "cgroup:", [ATOM_CONTAINER] = "container:"
		};

		if (bit_test(p->atoms[a].grants, g))
			say(pr, " %s%.*s", prefixes[p->atoms[a].kind], STR_ARG(p->atoms[a].text));
	}
	say(pr, "\n");
	for (unsigned c = grant->first; c < grant->first + grant->n; c++) {
		const struct capability *cap = &p->capabilities[c];

		say(pr, "   gives  %s", cap->admin ? " role admin" : cap->user ? " role user" : "");
		for (unsigned i = 0; i < cap->n_patterns; i++)
			say(pr, " %.*s", STR_ARG(cap->patterns[i].text));
		for (unsigned i = 0; i < cap->n_quotas; i++)
			say(pr, " charged to %.*s", STR_ARG(p->quotas[cap->quotas[i]].name));
		if (cap->n_add_headers)
			say(pr, " %u headers", cap->n_add_headers);
		say(pr, "\n");
	}
}

static void show_label(struct printer *pr, const struct label_rule *r)
{
	say(pr, "label rule (line %u):", r->line);
	if (r->has_cgroup)
		say(pr, " cgroup %.*s", STR_ARG(r->cgroup.text));
	if (r->has_image)
		say(pr, " image %.*s", STR_ARG(r->image.text));
	if (r->has_container)
		say(pr, " container %.*s", STR_ARG(r->container.text));
	if (r->docker_label.n)
		say(pr, " docker_label %.*s", STR_ARG(r->docker_label));
	if (r->has_value)
		say(pr, "=%.*s", STR_ARG(r->value.text));
	say(pr, " -> %.*s\n", STR_ARG(r->from_value ? STR("its value") : r->tags));
}

static void show_text(struct printer *pr, const struct policy *p)
{
	for (unsigned i = 0; i < p->n_providers; i++)
		show_provider(pr, p, i);
	for (unsigned i = 0; i < p->n_quotas; i++) {
		say(pr, "quota %.*s (line %u): ", STR_ARG(p->quotas[i].name),
		    p->quota_more[i].line);
		say_quota(pr, &p->quotas[i]);
		say(pr, "\n");
	}
	for (unsigned i = 0; i < p->n_grants; i++)
		show_grant(pr, p, i);
	for (unsigned i = 0; i < p->n_labels; i++)
		show_label(pr, &p->labels[i]);
	say(pr, "egress default: %s\n", force_mode_name(p->egress_default));
	for (unsigned i = 0; i < p->n_egress; i++)
		say(pr, "egress %.*s: %s\n", STR_ARG(p->egress[i].tag),
		    force_mode_name(p->egress[i].mode));
	say(pr, "models without a price: %s under a dollar quota; prices of %.*s\n",
	    p->unpriced_allow ? "allowed" : "denied", STR_ARG(p->prices.date));
}

/* ---------------------------------------------------------------- show --json */

static void json_str(struct printer *pr, struct str s)
{
	if (!pr->err)
		pr->err = buf_json_string(pr->out, s);
}

/* `,"key":` or `"key":` */
static void json_key(struct printer *pr, const char *key)
{
	say(pr, "%s\"%s\":", pr->comma ? "," : "", key);
	pr->comma = true;
}

static void json_member(struct printer *pr, const char *key, struct str value)
{
	json_key(pr, key);
	json_str(pr, value);
}

static void json_list(struct printer *pr, const char *key, const struct str *list, unsigned n)
{
	json_key(pr, key);
	say(pr, "[");
	for (unsigned i = 0; i < n; i++) {
		say(pr, "%s", i ? "," : "");
		json_str(pr, list[i]);
	}
	say(pr, "]");
}

static void json_provider(struct printer *pr, const struct policy *p, unsigned i)
{
	const struct policy_provider *pp = &p->providers[i];
	bool v6 = pp->host.n && memchr(pp->host.s, ':', pp->host.n);
	char url[1024];
	unsigned n = 0;

	snprintf(url, sizeof(url), "%s://%s%.*s%s:%u%.*s", pp->tls ? "https" : "http",
		 v6 ? "[" : "", STR_ARG(pp->host), v6 ? "]" : "", pp->port, STR_ARG(pp->base_path));
	say(pr, "{");
	pr->comma = false;
	json_member(pr, "id", pp->name);
	json_member(pr, "name", p->more[i].title);
	json_member(pr, "description", pp->description);
	json_member(pr, "baseurl", str_of(url));
	json_member(pr, "key", str_of(key_text(pp).s));
	json_member(pr, "authorization", str_of(auth_words[pp->auth_header]));
	json_member(pr, "auth_mode", str_of(mode_words[pp->auth_mode]));
	json_key(pr, "formats");
	say(pr, "[");
	for (unsigned f = 1; f < WIRE_FORMAT_MAX; f++) {
		if (pp->formats[f])
			say(pr, "%s\"%s\"", n++ ? "," : "", wire_format_name(f));
	}
	say(pr, "]");
	json_list(pr, "models", pp->models, pp->n_models);
	json_list(pr, "domains", pp->domains, pp->n_domains);
	say(pr, ",\"preference\":%" PRId64 ",\"disabled\":%s,\"on_disconnect\":\"%s\",\"line\":%u}",
	    pp->preference, pp->disabled ? "true" : "false",
	    pp->drain_on_disconnect ? "drain" : "cancel", p->more[i].line);
}

static void json_quota(struct printer *pr, const struct policy *p, unsigned i)
{
	const struct policy_quota *q = &p->quotas[i];

	say(pr, "{");
	pr->comma = false;
	json_member(pr, "name", q->name);
	json_member(pr, "unit",
		    str_of(q->unit == QUOTA_NANOUSD ? "nanousd" : quota_unit_name(q->unit)));
	say(pr,
	    ",\"capacity\":%" PRId64 ",\"rate\":%" PRId64 ",\"rate_period_ns\":%" PRIu64
	    ",\"on_exceed\":\"%s\",\"line\":%u}",
	    q->capacity, q->rate, q->rate_period_ns, q->warn_only ? "warn" : "reject",
	    p->quota_more[i].line);
}

static void json_sources(struct printer *pr, const struct policy *p, unsigned g)
{
	static const char *const prefixes[] = {
		[ATOM_ANY] = "",       [ATOM_TAG] = "",		  [ATOM_SET] = "",
		[ATOM_USER] = "user:", [ATOM_CGROUP] = "cgroup:", [ATOM_CONTAINER] = "container:"
	};
	unsigned n = 0;

	json_key(pr, "src");
	say(pr, "[");
	for (unsigned a = 0; a < p->n_atoms; a++) {
		if (!bit_test(p->atoms[a].grants, g))
			continue;
		say(pr, "%s\"%s", n++ ? "," : "", prefixes[p->atoms[a].kind]);
		if (!pr->err)
			pr->err = buf_json_escape(pr->out, p->atoms[a].text);
		say(pr, "\"");
	}
	say(pr, "]");
}

static void json_capability(struct printer *pr, const struct policy *p, const struct capability *c)
{
	say(pr, "{\"role\":%s,\"models\":", c->admin ? "\"admin\"" : c->user ? "\"user\"" : "null");
	say(pr, "[");
	for (unsigned i = 0; i < c->n_patterns; i++) {
		say(pr, "%s", i ? "," : "");
		json_str(pr, c->patterns[i].text);
	}
	say(pr, "],\"quotas\":[");
	for (unsigned i = 0; i < c->n_quotas; i++) {
		say(pr, "%s", i ? "," : "");
		json_str(pr, p->quotas[c->quotas[i]].name);
	}
	say(pr, "],\"headers\":%u,\"line\":%u}", c->n_add_headers, c->line);
}

static void json_grant(struct printer *pr, const struct policy *p, unsigned g)
{
	const struct grant *grant = &p->grants[g];

	say(pr, "{\"line\":%u", grant->line);
	pr->comma = true;
	json_sources(pr, p, g);
	json_key(pr, "capabilities");
	say(pr, "[");
	for (unsigned c = grant->first; c < grant->first + grant->n; c++) {
		say(pr, "%s", c > grant->first ? "," : "");
		json_capability(pr, p, &p->capabilities[c]);
	}
	say(pr, "]}");
}

static void json_label(struct printer *pr, const struct policy *p, unsigned i)
{
	const struct label_rule *r = &p->labels[i];

	say(pr, "{\"line\":%u", r->line);
	pr->comma = true;
	if (r->has_cgroup)
		json_member(pr, "cgroup", r->cgroup.text);
	if (r->has_image)
		json_member(pr, "image", r->image.text);
	if (r->has_container)
		json_member(pr, "container", r->container.text);
	if (r->docker_label.n)
		json_member(pr, "docker_label", r->docker_label);
	if (r->has_value)
		json_member(pr, "docker_label_value", r->value.text);
	json_member(pr, r->from_value ? "tags_from" : "tags",
		    r->from_value ? STR("value") : r->tags);
	say(pr, "}");
}

static void json_array(struct printer *pr, const struct policy *p, const char *key, unsigned n,
		       void (*one)(struct printer *, const struct policy *, unsigned))
{
	say(pr, "\"%s\":[", key);
	for (unsigned i = 0; i < n; i++) {
		say(pr, "%s", i ? "," : "");
		one(pr, p, i);
	}
	say(pr, "],");
}

static void json_egress(struct printer *pr, const struct policy *p)
{
	say(pr, "\"egress\":{\"default\":\"%s\"", force_mode_name(p->egress_default));
	for (unsigned i = 0; i < p->n_egress; i++)
		say(pr, ",\"%.*s\":\"%s\"", STR_ARG(p->egress[i].tag), /* a tag needs no escapes */
		    force_mode_name(p->egress[i].mode));
	say(pr, "},");
}

static void show_json(struct printer *pr, const struct policy *p)
{
	say(pr, "{");
	json_array(pr, p, "providers", p->n_providers, json_provider);
	json_array(pr, p, "quotas", p->n_quotas, json_quota);
	json_array(pr, p, "grants", p->n_grants, json_grant);
	json_array(pr, p, "labels", p->n_labels, json_label);
	json_egress(pr, p);
	pr->comma = false;
	json_member(pr, "unpriced", p->unpriced_allow ? STR("allow") : STR("deny"));
	json_member(pr, "prices_date", p->prices.date);
	say(pr, "}\n");
}

int policy_show(const struct policy *p, struct buf *out, bool json)
{
	struct printer pr = { .out = out };

	if (json)
		show_json(&pr, p);
	else
		show_text(&pr, p);
	return pr.err;
}
