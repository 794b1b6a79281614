/* SPDX-License-Identifier: Apache-2.0 */
/* Facts -> verdict: which grants count, who serves the model, which of those are granted. */
#include "policy/internal.h"

#include <stdarg.h>

/* ---------------------------------------------------------------- grants of an identity */

static void match_add(const struct policy *p, int atom, uint64_t *bits)
{
	const uint64_t *from;

	if (atom < 0)
		return;
	from = p->atoms[atom].grants;
	for (unsigned i = 0; i < p->grant_words; i++)
		bits[i] |= from[i];
}

/* The atom of exactly these tags, or -1. */
static int set_lookup(const struct policy *p, const struct policy_facts *who)
{
	struct str tags[IDENTITY_TAGS_MAX];
	char text[IDENTITY_TAGS_MAX * (TAG_BYTES_MAX + 1)];
	size_t used = 0;

	if (!who->n_tags || who->n_tags > IDENTITY_TAGS_MAX)
		return -1;
	for (unsigned i = 0; i < who->n_tags; i++) {
		unsigned at = i;

		if (!who->tags[i].n || who->tags[i].n > TAG_BYTES_MAX)
			return -1;
		for (; at > 0 && name_order(tags[at - 1], who->tags[i]) > 0; at--)
			tags[at] = tags[at - 1];
		tags[at] = who->tags[i];
	}
	for (unsigned i = 0; i < who->n_tags; i++) {
		if (i && str_eq(tags[i], tags[i - 1]))
			continue;
		if (used)
			text[used++] = ',';
		memcpy(text + used, tags[i].s, tags[i].n);
		used += tags[i].n;
	}
	return atom_lookup(p, ATOM_SET, (struct str){ text, used });
}

static void match_globs(const struct policy *p, const struct policy_facts *who, uint64_t *bits)
{
	for (unsigned i = 0; i < p->n_globs; i++) {
		const struct atom *atom = &p->atoms[p->globs[i]];
		struct str text = atom->kind == ATOM_CGROUP ? who->cgroup : who->container;

		if (text.n && glob_match(&atom->glob, text))
			match_add(p, (int)p->globs[i], bits);
	}
}

void grants_match(const struct policy *p, const struct policy_facts *who, struct matched *ret)
{
	unsigned bytes = p->grant_words * sizeof(uint64_t);

	memset(ret->all, 0, bytes);
	memset(ret->other, 0, bytes);
	for (unsigned i = 0; i < who->n_tags; i++)
		match_add(p, atom_lookup(p, ATOM_TAG, who->tags[i]), ret->all);
	/* `*` is anyone who has been labelled. */
	if (who->n_tags)
		match_add(p, p->any_atom, ret->other);
	if (who->n_tags && p->has_sets)
		match_add(p, set_lookup(p, who), ret->other);
	if (who->user.n)
		match_add(p, atom_lookup(p, ATOM_USER, who->user), ret->other);
	match_globs(p, who, ret->other);
	for (unsigned i = 0; i < p->grant_words; i++)
		ret->all[i] |= ret->other[i];
}

static bool match_any(const struct policy *p, const struct matched *m, const uint64_t *bits)
{
	for (unsigned i = 0; i < p->grant_words; i++) {
		if (m->all[i] & (bits ? bits[i] : ~0ull))
			return true;
	}
	return false;
}

/* The grants that are matched and have the bit, in the order of the file. */
#define match_for_each(g, p, m, bits)                                                              \
	for (unsigned w_ = 0, g = 0; w_ < (p)->grant_words; w_++)                                  \
		for (uint64_t left_ = (m)->all[w_] & (bits)[w_];                                   \
		     left_ && (g = w_ * 64 + (unsigned)__builtin_ctzll(left_), true);              \
		     left_ &= left_ - 1)

/* ---------------------------------------------------------------- models and providers */

bool model_split(const struct policy *p, struct str name, unsigned *ret_provider,
		 struct str *ret_model)
{
	const char *slash = name.n ? memchr(name.s, '/', name.n) : NULL;
	struct str head = { name.s, slash ? (size_t)(slash - name.s) : 0 };

	for (unsigned i = 0; slash && i < p->n_providers; i++) {
		if (!str_eq(p->providers[i].name, head))
			continue;
		*ret_provider = i;
		*ret_model = str_skip(name, head.n + 1);
		return true;
	}
	return false;
}

void providers_of_model(const struct policy *p, struct str model, struct bits256 *ret)
{
	uint32_t at = name_hash(0, model);
	unsigned slot;

	*ret = (struct bits256){ 0 };
	for (; (slot = p->model_table.slots[at & p->model_table.mask]); at++) {
		if (!str_eq(p->models[slot - 1].name, model))
			continue;
		*ret = p->models[slot - 1].providers;
		break;
	}
	for (unsigned w = 0; w < PROVIDER_WORDS; w++) {
		for (uint64_t left = p->has_globs.w[w] & ~ret->w[w]; left; left &= left - 1) {
			unsigned i = w * 64 + (unsigned)__builtin_ctzll(left);
			const struct provider_more *more = &p->more[i];

			for (unsigned m = 0; m < more->n_models; m++) {
				if (!glob_match(&more->models[m], model))
					continue;
				bit_set(ret->w, i);
				break;
			}
		}
	}
	bits256_and(ret, &p->enabled);
}

static bool match_whole(const struct policy *p, const struct pattern *pattern, unsigned provider,
			struct str model)
{
	char text[PROVIDER_NAME_MAX + 1 + MODEL_NAME_MAX];
	struct str name = p->providers[provider].name;

	if (pattern->model.shape == GLOB_ANY)
		return true;
	if (model.n > MODEL_NAME_MAX)
		return false;
	memcpy(text, name.s, name.n);
	text[name.n] = '/';
	if (model.n)
		memcpy(text + name.n + 1, model.s, model.n);
	return glob_match(&pattern->model, (struct str){ text, name.n + 1 + model.n });
}

bool pattern_match(const struct policy *p, const struct pattern *pattern, unsigned provider,
		   struct str model)
{
	if (pattern->crossing)
		return match_whole(p, pattern, provider, model);
	return bit_test(pattern->providers.w, provider) && glob_match(&pattern->model, model);
}

bool capability_covers(const struct policy *p, const struct capability *c, unsigned provider,
		       struct str model)
{
	for (unsigned i = 0; i < c->n_patterns; i++) {
		if (pattern_match(p, &c->patterns[i], provider, model))
			return true;
	}
	return !c->n_patterns;
}

/* Those of `left` that the pattern grants. */
static struct bits256 pattern_grants(const struct policy *p, const struct pattern *pattern,
				     const struct bits256 *left, struct str model)
{
	struct bits256 got = *left, none = { 0 };

	if (pattern->crossing && pattern->model.shape == GLOB_ANY)
		return got;
	if (!pattern->crossing) {
		bits256_and(&got, &pattern->providers);
		return bits256_any(&got) && glob_match(&pattern->model, model) ? got : none;
	}
	for (unsigned w = 0; w < PROVIDER_WORDS; w++) {
		for (uint64_t bits = left->w[w]; bits; bits &= bits - 1) {
			unsigned i = w * 64 + (unsigned)__builtin_ctzll(bits);

			if (match_whole(p, pattern, i, model))
				bit_set(none.w, i);
		}
	}
	return none;
}

/* ---------------------------------------------------------------- the verdict */

/* One evaluation on its way. */
struct eval {
	const struct policy *p;
	const struct policy_query *q;
	struct policy_verdict *ret;
	struct matched matched;
	bool named; /* one provider is asked for */
	unsigned provider;
	struct bits256 serving, granted;
	uint16_t rule[PROVIDERS_MAX]; /* the grant that decided, of each granted provider */
};

static void PRINTF_LIKE(3, 4) eval_deny(struct eval *e, enum outcome outcome, const char *fmt, ...)
{
	va_list ap;

	e->ret->outcome = outcome;
	va_start(ap, fmt);
	vsnprintf(e->ret->rule, sizeof(e->ret->rule), fmt, ap);
	va_end(ap);
}

/* Who asks, for a sentence: the tags, or the best other name. */
static struct diag_word who_text(const struct policy_facts *who)
{
	struct diag_word w = { "" };
	size_t n = 0;

	if (!who->n_tags)
		return diag_word(who->user.n	    ? who->user
				 : who->container.n ? who->container
				 : who->cgroup.n    ? who->cgroup
						    : STR("an unlabelled process"));
	for (unsigned i = 0; i < who->n_tags && n + 4 < sizeof(w.s); i++)
		n += (size_t)snprintf(w.s + n, sizeof(w.s) - n, "%s%.*s", i ? "," : "",
				      STR_ARG(who->tags[i]));
	if (n >= sizeof(w.s))
		memcpy(w.s + sizeof(w.s) - 4, "...", 4);
	return diag_word(str_of(w.s));
}

/* Grants and role; false: denied. */
static bool eval_identity(struct eval *e)
{
	const struct policy *p = e->p;
	const struct policy_facts *who = &e->q->who;

	grants_match(p, who, &e->matched);
	if (!match_any(p, &e->matched, NULL)) {
		if (who->n_tags)
			eval_deny(e, OUTCOME_DENIED_ROLE, "no grant matches %s", who_text(who).s);
		else
			eval_deny(e, OUTCOME_DENIED_UNLABELLED,
				  "%s has no label and no grant matches it", who_text(who).s);
		return false;
	}
	if (!match_any(p, &e->matched, p->user_bits)) {
		eval_deny(e, OUTCOME_DENIED_ROLE, "grants match %s, but none gives it a role",
			  who_text(who).s);
		return false;
	}
	e->ret->is_admin = match_any(p, &e->matched, p->admin_bits);
	return true;
}

/* What `provider` and "provider/model" ask for; false: no such provider. */
static bool eval_names(struct eval *e)
{
	const struct policy *p = e->p;
	unsigned provider;
	struct str rest;

	if (!e->q->provider.n) {
		e->named = model_split(p, e->q->model, &e->provider, &e->ret->model);
		return true;
	}
	for (unsigned i = 0; i < p->n_providers; i++) {
		if (!str_eq(p->providers[i].name, e->q->provider))
			continue;
		e->named = true;
		e->provider = i;
		/* "openai/gpt" under /p/openai/ is "gpt", unless it serves that very name. */
		if (model_split(p, e->q->model, &provider, &rest) && provider == i) {
			providers_of_model(p, e->q->model, &e->serving);
			if (!bit_test(e->serving.w, i))
				e->ret->model = rest;
		}
		return true;
	}
	eval_deny(e, OUTCOME_UNKNOWN_MODEL, "no provider is named %s", diag_word(e->q->provider).s);
	return false;
}

static void eval_unserved(struct eval *e, bool other_format)
{
	struct diag_word model = diag_word(e->ret->model);

	if (e->named && e->p->providers[e->provider].disabled)
		eval_deny(e, OUTCOME_UNKNOWN_MODEL, "the provider %.*s is disabled",
			  STR_ARG(e->p->providers[e->provider].name));
	else if (other_format)
		eval_deny(e, OUTCOME_UNKNOWN_MODEL, "%s is served, but not in the format %s",
			  model.s, wire_format_name(e->q->format));
	else if (e->named)
		eval_deny(e, OUTCOME_UNKNOWN_MODEL, "%.*s does not serve %s",
			  STR_ARG(e->p->providers[e->provider].name), model.s);
	else
		eval_deny(e, OUTCOME_UNKNOWN_MODEL, "no provider serves %s", model.s);
}

/* The providers that serve it in the format asked for; false: none does. */
static bool eval_serving(struct eval *e)
{
	const struct policy *p = e->p;
	struct bits256 any;

	if (e->ret->model.n > MODEL_NAME_MAX) {
		eval_deny(e, OUTCOME_UNKNOWN_MODEL, "the model's name is longer than %d bytes",
			  MODEL_NAME_MAX);
		return false;
	}
	if (e->ret->model.n)
		providers_of_model(p, e->ret->model, &e->serving);
	else
		e->serving = p->enabled; /* a call without a model: files, batches */
	if (e->named) {
		struct bits256 one = { 0 };

		bit_set(one.w, e->provider);
		bits256_and(&e->serving, &one);
	}
	any = e->serving;
	if (e->q->format != WIRE_NONE)
		bits256_and(&e->serving, &p->speaks[e->q->format]);
	if (bits256_any(&e->serving))
		return true;
	eval_unserved(e, bits256_any(&any));
	return false;
}

/* Which of them are granted, and by which grant. */
static void eval_granted(struct eval *e)
{
	const struct policy *p = e->p;
	struct bits256 left = e->serving;

	match_for_each(g, p, &e->matched, p->model_bits)
	{
		const struct grant *grant = &p->grants[g];

		for (unsigned c = grant->first; c < grant->first + grant->n; c++) {
			const struct capability *capability = &p->capabilities[c];

			for (unsigned i = 0; i < capability->n_patterns; i++) {
				struct bits256 got = pattern_grants(p, &capability->patterns[i],
								    &left, e->ret->model);

				for (unsigned w = 0; w < PROVIDER_WORDS; w++) {
					left.w[w] &= ~got.w[w];
					e->granted.w[w] |= got.w[w];
					for (uint64_t b = got.w[w]; b; b &= b - 1)
						e->rule[w * 64 + (unsigned)__builtin_ctzll(b)] =
							(uint16_t)g;
				}
			}
			if (!bits256_any(&left))
				return;
		}
	}
}

/* More buckets than a request can be charged to would be a quota that does not count: refused. */
static bool eval_charges_fit(struct eval *e)
{
	const struct policy *p = e->p;
	unsigned most = 0, tags = MAX(e->q->who.n_tags, 1u);

	match_for_each(g, p, &e->matched, p->quota_bits) most +=
		p->grants[g].n_quotas + p->grants[g].tag_quotas * tags;
	if (most <= POLICY_CHARGES_MAX)
		return true;
	for (unsigned i = 0; i < e->ret->n_candidates; i++) {
		struct policy_charge charges[POLICY_CHARGES_MAX];

		if (charges_collect(p, &e->q->who, e->ret->candidates[i], e->ret->model, charges) <=
		    POLICY_CHARGES_MAX)
			continue;
		eval_deny(e, OUTCOME_DENIED_LIMIT,
			  "more than %d quota buckets apply to %s; give it fewer tags or quotas",
			  POLICY_CHARGES_MAX, who_text(&e->q->who).s);
		e->ret->n_candidates = 0;
		return false;
	}
	return true;
}

/* Of a request that came by a provider's name: those of them that have this name; false: none has. */
static bool eval_owners(struct eval *e)
{
	const struct policy *p = e->p;
	struct bits256 owners = { 0 };

	if (!e->q->host.n)
		return true;
	for (unsigned i = 0; i < p->n_providers; i++)
		if (bit_test(e->serving.w, i) && policy_provider_owns(&p->providers[i], e->q->host))
			bit_set(owners.w, i);
	e->serving = owners;
	if (bits256_any(&owners))
		return true;
	eval_deny(e, OUTCOME_UNKNOWN_MODEL, "no provider with the name %s serves %s", diag_word(e->q->host).s,
		  e->ret->model.n ? diag_word(e->ret->model).s : "this");
	return false;
}

void policy_eval(const struct policy *p, const struct policy_query *q, struct policy_verdict *ret)
{
	const struct grant *grant;
	struct eval e = { .p = p, .q = q, .ret = ret };

	ret->outcome = OUTCOME_NONE;
	ret->n_candidates = 0;
	ret->model = q->model;
	ret->is_admin = false;
	ret->rule[0] = '\0';
	if (!eval_identity(&e) || !eval_names(&e) || !eval_serving(&e) || !eval_owners(&e))
		return;
	eval_granted(&e);
	for (unsigned i = 0; i < p->n_order && ret->n_candidates < POLICY_CANDIDATES; i++) {
		if (bit_test(e.granted.w, p->order[i]))
			ret->candidates[ret->n_candidates++] = p->order[i];
	}
	if (!ret->n_candidates) {
		eval_deny(&e, OUTCOME_DENIED_MODEL, "no grant of %s gives it %s",
			  who_text(&q->who).s,
			  ret->model.n
				  ? diag_word(ret->model).s
				  : "all models of a provider, which a call without a model needs");
		return;
	}
	if (!eval_charges_fit(&e))
		return;
	grant = &p->grants[e.rule[ret->candidates[0]]];
	memcpy(ret->rule, grant->rule, grant->rule_n + 1);
}

/* ------------------------------------------------ what a granted request carries */

/*
 * Writes before + value + after; a name that is too long keeps its start and a hash of the whole.
 */
static void bucket_name(const struct quota_more *more, struct str value,
			char ret[POLICY_BUCKET_BYTES])
{
	uint64_t hash = 14695981039346656037ull;
	const struct str parts[] = { more->before, value, more->after };
	size_t n = 0, whole = more->before.n + value.n + more->after.n;
	size_t room = whole < POLICY_BUCKET_BYTES ? whole : POLICY_BUCKET_BYTES - 18;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		size_t take = MIN(parts[i].n, room - n);

		if (take)
			memcpy(ret + n, parts[i].s, take);
		n += take;
		for (size_t b = 0; whole > room && b < parts[i].n; b++)
			hash = (hash ^ (unsigned char)parts[i].s[b]) * 1099511628211ull;
	}
	ret[n] = '\0';
	if (whole > room)
		snprintf(ret + n, POLICY_BUCKET_BYTES - n, "~%016llx", (unsigned long long)hash);
}

/* Up to POLICY_CHARGES_MAX are written; one more is counted. */
static void charge_add(const struct policy *p, unsigned quota, struct str value,
		       struct policy_charge *ret, unsigned *n)
{
	struct policy_charge c = { .quota = quota };

	bucket_name(&p->quota_more[quota], value, c.bucket);
	for (unsigned i = 0; i < MIN(*n, (unsigned)POLICY_CHARGES_MAX); i++) {
		if (ret[i].quota == quota && strcmp(ret[i].bucket, c.bucket) == 0)
			return;
	}
	if (*n < POLICY_CHARGES_MAX)
		ret[*n] = c;
	if (*n <= POLICY_CHARGES_MAX)
		++*n;
}

/*
 * One bucket for each tag that `src` matched, all tags where it matched otherwise. An identity
 * without tags has one under its best other name, so that it never gets away free.
 */
static void charge_tags(const struct policy *p, const struct policy_facts *who,
			const struct matched *m, unsigned grant, unsigned quota,
			struct policy_charge *ret, unsigned *n)
{
	bool all = bit_test(m->other, grant);

	if (!who->n_tags)
		charge_add(p, quota,
			   who->user.n	      ? who->user
			   : who->container.n ? who->container
					      : who->cgroup,
			   ret, n);
	for (unsigned i = 0; i < who->n_tags; i++) {
		int atom = all ? -1 : atom_lookup(p, ATOM_TAG, who->tags[i]);

		if (all || (atom >= 0 && bit_test(p->atoms[atom].grants, grant)))
			charge_add(p, quota, who->tags[i], ret, n);
	}
}

unsigned charges_collect(const struct policy *p, const struct policy_facts *who, unsigned provider,
			 struct str model, struct policy_charge ret[POLICY_CHARGES_MAX])
{
	struct matched m;
	unsigned n = 0;

	grants_match(p, who, &m);
	match_for_each(g, p, &m, p->quota_bits)
	{
		const struct grant *grant = &p->grants[g];

		for (unsigned c = grant->first; c < grant->first + grant->n; c++) {
			const struct capability *capability = &p->capabilities[c];

			if (!capability->n_quotas ||
			    !capability_covers(p, capability, provider, model))
				continue;
			for (unsigned i = 0; i < capability->n_quotas; i++) {
				unsigned quota = capability->quotas[i];

				if (p->quotas[quota].per_tag)
					charge_tags(p, who, &m, g, quota, ret, &n);
				else
					charge_add(p, quota,
						   p->quotas[quota].per_cgroup ? who->cgroup
									       : STR(""),
						   ret, &n);
			}
		}
	}
	return n;
}

unsigned policy_charges(const struct policy *p, const struct policy_facts *who, unsigned provider,
			struct str model, struct policy_charge ret[POLICY_CHARGES_MAX])
{
	return MIN(charges_collect(p, who, provider, model, ret), (unsigned)POLICY_CHARGES_MAX);
}

/* Of these charges the first in dollars, or NULL. */
static const struct policy_charge *dollar_charge(const struct policy *p,
						 const struct policy_charge *charges, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (p->quotas[charges[i].quota].unit == QUOTA_NANOUSD)
			return &charges[i];
	}
	return NULL;
}

bool policy_refuses_unpriced(const struct policy *p, const struct policy_charge *charges, unsigned n)
{
	return !p->unpriced_allow && dollar_charge(p, charges, n);
}

void policy_eval_spending(const struct policy *p, const struct policy_query *q,
			  struct policy_verdict *ret)
{
	struct policy_charge charges[POLICY_CHARGES_MAX];
	struct policy_price price;
	unsigned best, n;

	policy_eval(p, q, ret);
	if (ret->outcome != OUTCOME_NONE || !ret->model.n)
		return;
	best = ret->candidates[0];
	if (policy_price(p, best, ret->model, &price))
		return;
	n = policy_charges(p, &q->who, best, ret->model, charges);
	if (!policy_refuses_unpriced(p, charges, n))
		return;
	ret->outcome = OUTCOME_DENIED_UNPRICED;
	snprintf(ret->rule, sizeof(ret->rule), "%s has no price, and the quota %s is in dollars",
		 diag_word(ret->model).s, dollar_charge(p, charges, n)->bucket);
}

unsigned policy_grant_headers(const struct policy *p, const struct policy_facts *who,
			      unsigned provider, struct str model, struct str *ret, unsigned max)
{
	struct matched m;
	unsigned n = 0;

	grants_match(p, who, &m);
	match_for_each(g, p, &m, p->header_bits)
	{
		const struct grant *grant = &p->grants[g];

		for (unsigned c = grant->first; c < grant->first + grant->n; c++) {
			const struct capability *capability = &p->capabilities[c];

			if (!capability->n_add_headers ||
			    !capability_covers(p, capability, provider, model))
				continue;
			for (unsigned i = 0; i < capability->n_add_headers && n < max; i++)
				ret[n++] = capability->add_headers[i];
		}
	}
	return n;
}

/* ---------------------------------------------------------------- the list of models */

/*
 * A model that stands in the provider's list is listed when it is granted (a pattern when it is
 * granted as a whole); where only a part of a pattern is granted, the grant's own words are.
 */
static void models_of_pattern(const struct policy *p, const struct pattern *pattern,
			      unsigned provider, struct name_list *list)
{
	const struct policy_provider *pp = &p->providers[provider];

	for (unsigned i = 0; i < pp->n_models; i++) {
		struct str model = pp->models[i];
		struct glob served;
		struct str part;

		if (pattern_match(p, pattern, provider, model)) {
			name_list_add(list, model);
			continue;
		}
		if (pattern->crossing || glob_is_literal(model) ||
		    !bit_test(pattern->providers.w, provider))
			continue;
		part = pattern->model.text;
		served = p->more[provider].models[0];
		for (unsigned m = 0; m < p->more[provider].n_models; m++) {
			if (str_eq(p->more[provider].models[m].text, model))
				served = p->more[provider].models[m];
		}
		if (part.n && glob_match(&served, part))
			name_list_add(list, part);
	}
}

void name_list_add(struct name_list *list, struct str name)
{
	for (unsigned i = 0; i < list->n; i++) {
		if (str_eq(list->names[i], name))
			return;
	}
	if (list->n < NAME_LIST_MAX)
		list->names[list->n++] = name;
}

/*
 * "claude-opus-4-8*" is that model and its dated versions; "gpt-5-20*" is the dated versions alone, of
 * a model that has an entry of its own, and "gpt-5-20" is nobody's name.
 */
static bool ends_in_a_date(struct str stem)
{
	const char *dash = stem.n ? memrchr(stem.s, '-', stem.n) : NULL;
	struct str last = dash ? str_skip(stem, (size_t)(dash - stem.s) + 1) : stem;

	return !last.n || str_eq(last, STR("20")) || str_eq(last, STR("0"));
}

/*
 * A provider that serves patterns has no list of names; the price table knows those that people use. Told are
 * the ones that the provider serves and the identity may use, by the same evaluation as a request.
 */
static void models_of_prices(const struct policy *p, const struct policy_facts *who, unsigned provider,
			     const struct price_base *base, policy_model_fn fn, void *arg)
{
	for (unsigned i = 0; i < base->n; i++) {
		struct str pattern = base->entries[i].model.text, name = pattern;
		struct policy_query q = { .who = *who, .provider = p->providers[provider].name };
		struct policy_verdict v;

		while (name.n && name.s[name.n - 1] == '*')
			name.n--;
		q.model = name;
		if (!glob_is_literal(name) || (name.n < pattern.n && ends_in_a_date(name)))
			continue;
		policy_eval(p, &q, &v);
		if (v.outcome == OUTCOME_NONE)
			fn(arg, &p->providers[provider], name);
	}
}

void policy_models(const struct policy *p, const struct policy_facts *who, policy_model_fn fn,
		   void *arg)
{
	struct matched m;

	grants_match(p, who, &m);
	if (!match_any(p, &m, p->user_bits))
		return;
	for (unsigned o = 0; o < p->n_order; o++) {
		struct name_list list = { .n = 0 };
		bool patterns = false;

		match_for_each(g, p, &m, p->model_bits)
		{
			const struct grant *grant = &p->grants[g];

			for (unsigned c = grant->first; c < grant->first + grant->n; c++) {
				for (unsigned i = 0; i < p->capabilities[c].n_patterns; i++)
					models_of_pattern(p, &p->capabilities[c].patterns[i],
							  p->order[o], &list);
			}
		}
		for (unsigned i = 0; i < list.n; i++) {
			fn(arg, &p->providers[p->order[o]], list.names[i]);
			patterns |= !glob_is_literal(list.names[i]);
		}
		if (patterns && p->more[p->order[o]].basis >= 0)
			models_of_prices(p, who, p->order[o], &p->prices.bases[p->more[p->order[o]].basis], fn, arg);
	}
}
