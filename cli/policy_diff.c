/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changes for whom between two policies. Every source that either policy names is asked for
 * every model that either would give it, by the evaluation that requests go through; a pattern
 * stands for the models it means. So a change that has no effect shows nothing, wherever it stands
 * in the file.
 */
#include "cli/policy_file.h"
#include "cli/print.h"
#include "common/json.h"
#include "policy/explain.h"
#include "policy/match.h"
#include "policy/units.h"

/* Rationale: beyond that nobody reads a list; the last line tells. */
#define SOURCES_MAX 4096u
#define MODELS_MAX  4096u
#define MODEL_BYTES 512
#define LABEL_BYTES 2048
/* What is kept of a pattern that is lost: so many names are told. */
#define REST_MAX    4

struct words {
	char (*items)[MODEL_BYTES];
	unsigned n, max;
	bool cut;
};

struct diff {
	const struct policy *old, *new;
	cJSON *old_json, *new_json; /* their effective forms, as `show --json` */
	struct words sources, models;
	struct table table;
};

static void words_add(struct words *w, struct str s)
{
	for (unsigned i = 0; i < w->n; i++)
		if (str_eq(str_of(w->items[i]), s))
			return;
	if (w->n == w->max || s.n >= MODEL_BYTES)
		w->cut = true;
	else
		str_copy(w->items[w->n++], MODEL_BYTES, s);
}

static const cJSON *members(const cJSON *object, const char *name)
{
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(object, name);

	return list ? list->child : NULL;
}

/* The effective form of a policy, or NULL. */
static cJSON *shown(const struct policy *p)
{
	struct buf text;
	cJSON *json;

	buf_init(&text, 16u << 20);
	json = policy_show(p, &text, true) ? NULL : json_parse(buf_str(&text));
	buf_fini(&text);
	return json;
}

/* The sources of a policy's grants. */
static void sources_of(const cJSON *json, struct words *ret)
{
	const cJSON *grant, *src;

	for (grant = members(json, "grants"); grant; grant = grant->next)
		for (src = members(grant, "src"); src; src = src->next)
			if (cJSON_IsString(src))
				words_add(ret, str_of(src->valuestring));
}

static void on_model(void *arg, const struct policy_provider *provider, struct str model)
{
	char name[MODEL_BYTES];

	if (snprintf(name, sizeof(name), "%.*s/%.*s", STR_ARG(provider->name), STR_ARG(model)) <
	    (int)sizeof(name))
		words_add(arg, str_of(name));
}

/* Allowed in any format that the provider speaks; else *ret tells the most telling refusal. */
static bool allowed(const struct policy *p, const struct policy_identity *who, struct str model,
		    struct policy_verdict *ret)
{
	struct policy_query q = { .who = who->facts, .model = model };
	struct policy_verdict v;

	ret->outcome = OUTCOME_UNKNOWN_MODEL;
	for (unsigned f = WIRE_NONE + 1; f < WIRE_FORMAT_MAX; f++) {
		q.format = (enum wire_format)f;
		policy_eval(p, &q, &v);
		if (f == WIRE_NONE + 1 || v.outcome == OUTCOME_NONE ||
		    ret->outcome == OUTCOME_UNKNOWN_MODEL)
			*ret = v;
		if (v.outcome == OUTCOME_NONE)
			return true;
	}
	return false;
}

/* "calls, day:tag:pr-bot": what this identity pays into. */
static void buckets_of(const struct policy *p, const struct policy_identity *who,
		       const struct policy_verdict *v, char *ret, size_t size)
{
	struct policy_charge charges[POLICY_CHARGES_MAX];
	unsigned n = v->n_candidates
			     ? policy_charges(p, &who->facts, v->candidates[0], v->model, charges)
			     : 0;
	size_t at = 0;

	ret[0] = '\0';
	for (unsigned i = 0; i < n && at < size; i++)
		at += (size_t)snprintf(ret + at, size - at, "%s%s", i ? ", " : "",
				       charges[i].bucket);
}

/* One row of the table, as text. */
static struct str said(const struct diff *d, size_t row, unsigned column)
{
	return table_cell_text(&d->table, &d->table.cells[row * d->table.n_columns + column]);
}

static bool pattern_matches(struct str pattern, const char *model)
{
	struct arena arena = { .max = 1u << 20 };
	struct glob g;
	bool match = !glob_compile(&g, pattern, &arena) && glob_match(&g, str_of(model));

	arena_fini(&arena);
	return match;
}

/* A pattern has already said the same of this model. */
static bool is_covered(const struct diff *d, const char *source, const char *change,
		       const char *model, const char *detail)
{
	bool by_detail = !strcmp(change, "pays");

	for (size_t r = table_rows(&d->table); r-- > 0 && str_eq(said(d, r, 0), str_of(source));)
		if (str_eq(said(d, r, 1), str_of(change)) &&
		    (!by_detail || str_eq(said(d, r, 3), str_of(detail))) &&
		    pattern_matches(said(d, r, 2), model))
			return true;
	return false;
}

static void put(struct diff *d, const char *source, const char *change, const char *what,
		const char *detail)
{
	table_text(&d->table, str_of(source));
	table_text(&d->table, str_of(change));
	table_text(&d->table, str_of(what));
	table_text(&d->table, str_of(detail));
}

static bool patterns_meet(const char *a, const char *b)
{
	struct arena arena = { .max = 1u << 20 };
	struct glob ga, gb;
	bool meet = !glob_compile(&ga, str_of(a), &arena) && !glob_compile(&gb, str_of(b), &arena) &&
		    glob_overlaps(&ga, &gb);

	arena_fini(&arena);
	return meet;
}

/*
 * What a row about a pattern does not mean: "keeps anthropic/claude-sonnet-*; " of one that is lost, "had …" of one
 * that is gained: what of it `other` allows. Names that a pattern before them covers are left out.
 */
static void say_rest(const struct diff *d, const struct policy_identity *who, const struct policy *other,
		     const char *pattern, const char *verb, char *ret, size_t size)
{
	const char *listed[REST_MAX];
	unsigned n = 0;
	size_t at = 0;

	ret[0] = '\0';
	for (unsigned i = 0; i < 2 * d->models.n && at < size; i++) {
		/* Patterns in the first pass, then names. */
		const char *model = d->models.items[i % d->models.n];
		struct policy_verdict v;
		bool covered = strpbrk(model, "*?") ? i >= d->models.n : i < d->models.n;

		for (unsigned k = 0; k < n && !covered; k++)
			covered = pattern_matches(str_of(listed[k]), model);
		if (covered || !patterns_meet(pattern, model) || !allowed(other, who, str_of(model), &v))
			continue;
		if (n == REST_MAX) {
			at += (size_t)snprintf(ret + at, size - at, ", …");
			break;
		}
		at += (size_t)snprintf(ret + at, size - at, "%s%s", n ? ", " : verb, model);
		listed[n++] = model;
	}
	if (n && at < size)
		snprintf(ret + at, size - at, "; ");
}

static void put_model(struct diff *d, const char *source, const char *change, const char *model,
		      const char *detail)
{
	if (!is_covered(d, source, change, model, detail))
		put(d, source, change, model, detail);
}

static void diff_model(struct diff *d, const char *source, const struct policy_identity *who,
		       const char *model)
{
	struct policy_verdict a, b;
	bool before = allowed(d->old, who, str_of(model), &a),
	     after = allowed(d->new, who, str_of(model), &b);
	char old_buckets[2048], new_buckets[2048], detail[4200];

	if (before != after) {
		size_t at = 0;

		if (strpbrk(model, "*?")) {
			say_rest(d, who, after ? d->old : d->new, model, after ? "had " : "keeps ", detail,
				 sizeof(detail) - POLICY_RULE_BYTES);
			at = strlen(detail);
		}
		snprintf(detail + at, sizeof(detail) - at, "%s", after || b.rule[0] ? b.rule : a.rule);
		put_model(d, source, after ? "gains" : "loses", model, detail);
		return;
	}
	if (!before)
		return;
	buckets_of(d->old, who, &a, old_buckets, sizeof(old_buckets));
	buckets_of(d->new, who, &b, new_buckets, sizeof(new_buckets));
	if (!strcmp(old_buckets, new_buckets))
		return;
	snprintf(detail, sizeof(detail), "buckets: %s -> %s", old_buckets[0] ? old_buckets : "none",
		 new_buckets[0] ? new_buckets : "none");
	put_model(d, source, "pays", model, detail);
}

static void diff_source(struct diff *d, const char *source)
{
	struct policy_identity who;
	struct policy_verdict a, b;
	struct policy_query q;

	/* `*` is anyone with a tag: one that no other grant names stands for all of them. */
	policy_identity_of(strcmp(source, "*") ? str_of(source) : STR("tag:anyone-else"), &who);
	q = (struct policy_query){ .who = who.facts,
				   .format = WIRE_OPENAI_CHAT,
				   .model = STR("-") };
	policy_eval(d->old, &q, &a);
	policy_eval(d->new, &q, &b);
	if (a.is_admin != b.is_admin)
		put(d, source, b.is_admin ? "gains" : "loses", "role admin", "");
	d->models.n = 0;
	policy_models(d->old, &who.facts, on_model, &d->models);
	policy_models(d->new, &who.facts, on_model, &d->models);
	/* Patterns first: they stand for most of the names. */
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < d->models.n; i++)
			if ((strpbrk(d->models.items[i], "*?") == NULL) == pass)
				diff_model(d, source, &who, d->models.items[i]);
}

static const struct policy_quota *quota_named(const struct policy *p, struct str name)
{
	for (unsigned i = 0; i < policy_n_quotas(p); i++)
		if (str_eq(policy_quota(p, i)->name, name))
			return policy_quota(p, i);
	return NULL;
}

/* "capacity $1.00 -> $2.00, rate $1.00/day -> none": what of it changes. */
static void quota_change(const struct policy_quota *was, const struct policy_quota *q, char *ret,
			 size_t size)
{
	bool unit = was->unit != q->unit;
	size_t at = 0;

	ret[0] = '\0';
	if (unit || was->capacity != q->capacity)
		at += (size_t)snprintf(ret + at, size - at, "capacity %s -> %s",
				       units_amount_text(was->unit, was->capacity).s,
				       units_amount_text(q->unit, q->capacity).s);
	if (unit || was->rate != q->rate || was->rate_period_ns != q->rate_period_ns)
		at += (size_t)snprintf(ret + at, size - at, "%srate %s -> %s", at ? ", " : "",
				       units_rate_text(was->unit, was->rate, was->rate_period_ns).s,
				       units_rate_text(q->unit, q->rate, q->rate_period_ns).s);
	if (was->warn_only != q->warn_only)
		snprintf(ret + at, size - at, "%son_exceed %s -> %s", at ? ", " : "",
			 was->warn_only ? "warn" : "reject", q->warn_only ? "warn" : "reject");
}

static void diff_quotas(struct diff *d)
{
	for (unsigned i = 0; i < policy_n_quotas(d->new); i++) {
		const struct policy_quota *q = policy_quota(d->new, i),
					  *was = quota_named(d->old, q->name);
		char name[POLICY_BUCKET_BYTES], detail[320];

		str_copy(name, sizeof(name), q->name);
		if (!was) {
			put(d, "quota", "new", name, "");
		} else if (was->unit != q->unit || was->capacity != q->capacity ||
			   was->rate != q->rate || was->rate_period_ns != q->rate_period_ns ||
			   was->warn_only != q->warn_only) {
			quota_change(was, q, detail, sizeof(detail));
			put(d, "quota", "changes", name, detail);
		}
	}
	for (unsigned i = 0; i < policy_n_quotas(d->old); i++) {
		struct str name = policy_quota(d->old, i)->name;
		char text[POLICY_BUCKET_BYTES];

		str_copy(text, sizeof(text), name);
		if (!quota_named(d->new, name))
			put(d, "quota", "gone", text, "");
	}
}

/* The mode of a tag in an effective form: its own or the default. */
static const char *egress_of(const cJSON *json, const char *tag)
{
	const cJSON *modes = cJSON_GetObjectItemCaseSensitive(json, "egress");
	const char *mode = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(modes, tag));

	return mode ? mode : cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(modes, "default"));
}

static void put_change(struct diff *d, const char *who, const char *what, const char *was,
		       const char *is)
{
	char detail[64];

	if (!strcmp(was, is))
		return;
	snprintf(detail, sizeof(detail), "%s -> %s", was, is);
	put(d, who, "changes", what, detail);
}

/* A tag that both name is told once; one that a policy does not name has its default. */
static void diff_egress(struct diff *d)
{
	const cJSON *m, *news = cJSON_GetObjectItemCaseSensitive(d->new_json, "egress");

	for (m = members(d->new_json, "egress"); m; m = m->next)
		put_change(d, m->string, "egress", egress_of(d->old_json, m->string), m->valuestring);
	for (m = members(d->old_json, "egress"); m; m = m->next)
		if (!cJSON_GetObjectItemCaseSensitive(news, m->string))
			put_change(d, m->string, "egress", m->valuestring,
				   egress_of(d->new_json, m->string));
}

static void diff_unpriced(struct diff *d)
{
	put_change(d, "*", "unpriced", policy_unpriced_allowed(d->old) ? "allow" : "deny",
		   policy_unpriced_allowed(d->new) ? "allow" : "deny");
}

/* "cgroup /ci/x -> tag:ci": a rule for labels without its line. */
static void label_text(const cJSON *rule, char ret[LABEL_BYTES])
{
	size_t at = 0;

	ret[0] = '\0';
	for (const cJSON *m = rule->child; m && at < LABEL_BYTES; m = m->next) {
		const char *sep = at ? " " : "";

		if (!cJSON_IsString(m))
			continue;
		if (!strcmp(m->string, "tags"))
			at += (size_t)snprintf(ret + at, LABEL_BYTES - at, "%s-> %s", sep, m->valuestring);
		else if (!strcmp(m->string, "tags_from"))
			at += (size_t)snprintf(ret + at, LABEL_BYTES - at, "%s-> its value", sep);
		else
			at += (size_t)snprintf(ret + at, LABEL_BYTES - at, "%s%s %s", sep, m->string,
					       m->valuestring);
	}
}

static bool has_label(const cJSON *json, const char *text)
{
	char other[LABEL_BYTES];

	for (const cJSON *m = members(json, "labels"); m; m = m->next) {
		label_text(m, other);
		if (!strcmp(text, other))
			return true;
	}
	return false;
}

/* Rules of `a` that `b` lacks. */
static unsigned put_labels(struct diff *d, const cJSON *a, const cJSON *b, const char *change)
{
	char text[LABEL_BYTES];
	unsigned n = 0;

	for (const cJSON *m = members(a, "labels"); m; m = m->next) {
		label_text(m, text);
		if (has_label(b, text))
			continue;
		put(d, "labels", change, text, "");
		n++;
	}
	return n;
}

/* The first rule that matches counts, so another order may be other labels. */
static bool labels_moved(const cJSON *a, const cJSON *b)
{
	const cJSON *m = members(a, "labels"), *k = members(b, "labels");
	char one[LABEL_BYTES], other[LABEL_BYTES];

	for (; m && k; m = m->next, k = k->next) {
		label_text(m, one);
		label_text(k, other);
		if (strcmp(one, other) != 0)
			return true;
	}
	return m || k;
}

static void diff_labels(struct diff *d)
{
	unsigned n = put_labels(d, d->new_json, d->old_json, "new");

	n += put_labels(d, d->old_json, d->new_json, "gone");
	if (!n && labels_moved(d->old_json, d->new_json))
		put(d, "labels", "changes", "order", "the first rule that matches counts");
}

int policy_diff_print(const struct policy_file *old, const struct policy_file *new, bool json)
{
	static const struct column columns[] = {
		{ "who", "WHO", COL_TEXT, COL_CUT },
		{ "change", "", COL_TEXT, 0 },
		{ "what", "WHAT", COL_TEXT, COL_CUT },
		{ "detail", "WHY", COL_TEXT, COL_CUT | COL_MAYBE },
	};
	struct diff d = { .old = old->policy,
			  .new = new->policy,
			  .sources = { .max = SOURCES_MAX },
			  .models = { .max = MODELS_MAX } };
	struct cli_common o = { .json = json };
	int code = EXIT_FAILED;

	d.old_json = shown(d.old);
	d.new_json = shown(d.new);
	d.sources.items = calloc(SOURCES_MAX, MODEL_BYTES);
	d.models.items = calloc(MODELS_MAX, MODEL_BYTES);
	table_init(&d.table, columns, ARRAY_SIZE(columns));
	if (!d.sources.items || !d.models.items || !d.old_json || !d.new_json) {
		cli_fail(EXIT_FAILED, "the policies are too large to be compared");
	} else {
		sources_of(d.old_json, &d.sources);
		sources_of(d.new_json, &d.sources);
		for (unsigned i = 0; i < d.sources.n; i++)
			diff_source(&d, d.sources.items[i]);
		diff_quotas(&d);
		diff_unpriced(&d);
		diff_labels(&d);
		diff_egress(&d);
		code = table_print(&d.table, &o, "nobody gains or loses anything");
		if (d.sources.cut || d.models.cut)
			fprintf(stderr,
				"sallyport: only the first %u sources and models were compared\n",
				SOURCES_MAX);
	}
	table_fini(&d.table);
	free(d.sources.items);
	free(d.models.items);
	cJSON_Delete(d.old_json);
	cJSON_Delete(d.new_json);
	return code;
}
