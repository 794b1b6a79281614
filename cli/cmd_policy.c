/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport policy`: the same parser and evaluation as the daemon's, on files and without it. */
#include <errno.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/policy_file.h"
#include "cli/print.h"
#include "common/log.h"
#include "policy/diag.h"
#include "policy/explain.h"
#include "policy/hujson.h"

const char *const policy_words[] = { "check", "show", "explain", "test", "reload", "diff", NULL };
static const char *const format_words[] = { "anthropic_messages", "openai_chat", "openai_responses",
					    "gemini_generate_content", NULL };
_Static_assert(WIRE_FORMAT_MAX == 5, "a format lacks its word");

struct policy_args {
	struct cli_common common;
	struct cli_list tags;
	const char *model, *format, *provider, *cgroup, *container, *user;
};
const struct cli_option policy_options[] = {
	{ "tag", 't', CLI_TAGS, CLI_AT(policy_args, tags), "TAG", NULL,
	  "explain: who asks has this tag; may be given again" },
	{ "cgroup", 'c', CLI_TEXT, CLI_AT(policy_args, cgroup), "PATH", NULL,
	  "explain: its cgroup" },
	{ "container", 0, CLI_TEXT, CLI_AT(policy_args, container), "NAME", NULL,
	  "explain: its container" },
	{ "user", 'u', CLI_TEXT, CLI_AT(policy_args, user), "LOGIN", NULL, "explain: its user" },
	{ "model", 'm', CLI_TEXT, CLI_AT(policy_args, model), "MODEL", NULL,
	  "explain: asks for this model; else all its models are listed" },
	{ "format", 'f', CLI_WORD, CLI_AT(policy_args, format), "FORMAT", format_words,
	  "explain: in this wire format" },
	{ "provider", 'p', CLI_TEXT, CLI_AT(policy_args, provider), "NAME", NULL,
	  "explain: of this provider" },
	{ 0 },
};

/* ---------------------------------------------------------------- check, test, show */

static int check_json(const struct policy_file *f)
{
	struct json_out j;
	int code;

	json_out_init(&j);
	json_out_open(&j, NULL, '{');
	json_out_text(&j, "file", str_of(f->path));
	json_out_bool(&j, "ok", f->policy != NULL);
	json_out_open(&j, "messages", '[');
	for (unsigned i = 0; i < f->diags->n; i++) {
		const struct policy_diag *d = &f->diags->items[i];

		json_out_open(&j, NULL, '{');
		json_out_text(&j, "severity", d->is_error ? STR("error") : STR("warning"));
		json_out_int(&j, "line", d->line);
		json_out_int(&j, "column", d->column);
		json_out_text(&j, "text", str_of(d->text));
		json_out_close(&j, '}');
	}
	json_out_close(&j, ']');
	json_out_close(&j, '}');
	code = json_out_print(&j);
	return code ? code : f->policy ? EXIT_OK : EXIT_FAILED;
}

/* How many `tests` the file holds; they were run when it was parsed. */
static unsigned count_tests(const struct policy_file *f)
{
	auto_free struct policy_diags *diags = calloc(1, sizeof(*diags));
	const struct hujson *tests = NULL;
	struct hujson *root = NULL;
	struct arena arena = { .max = 64u << 20 };
	unsigned n;

	if (diags &&
	    !hujson_parse((struct str){ f->text, f->text_bytes }, &arena, &arena, &root, diags))
		tests = hujson_get(root, STR("tests"));
	n = tests ? tests->n : 0;
	arena_fini(&arena);
	return n;
}

/* Messages of a good policy are remarks, those of a bad one the answer; both on stderr as compilers
 * do. */
static int policy_check(const struct policy_args *o, const char *path, bool is_test)
{
	struct policy_file f;
	int code = policy_file_load(&o->common, path, &f);

	if (!code && o->common.json) {
		code = check_json(&f);
	} else if (!code) {
		unsigned n_tests = count_tests(&f);

		policy_file_say(&f, stderr);
		if (!f.policy)
			code = cli_fail(EXIT_FAILED,
					"%s is not valid (%u errors): the daemon would not take it",
					f.path, f.diags->n_errors);
		else if (is_test && !n_tests)
			printf("%s: is valid, but has no tests; sallyport-policy(5) shows how to write them\n",
			       f.path);
		else if (is_test)
			printf("%s: %u tests passed\n", f.path, n_tests);
		else
			printf("%s: ok, %u providers, %u quotas, %u tests passed, %u warnings\n",
			       f.path, policy_n_providers(f.policy), policy_n_quotas(f.policy),
			       n_tests, f.diags->n - MIN(f.diags->n, f.diags->n_errors));
	}
	policy_file_fini(&f);
	return code;
}

/* EXIT_OK with a valid policy in *ret; messages were said. */
static int load_valid(const struct cli_common *o, const char *path, struct policy_file *ret)
{
	int code = policy_file_load(o, path, ret);

	if (!code && !ret->policy) {
		policy_file_say(ret, stderr);
		code = cli_fail(EXIT_FAILED, "%s is not valid: mend what stands above", ret->path);
	}
	return code;
}

static int print_buf(struct buf *b, int err)
{
	if (!err && buf_len(b))
		fwrite(buf_head(b), 1, buf_len(b), stdout);
	buf_fini(b);
	return err ? cli_fail(EXIT_FAILED, "the policy is too large to be shown") : EXIT_OK;
}

static int policy_show_file(const struct policy_args *o, const char *path)
{
	struct policy_file f;
	struct buf b;
	int code = load_valid(&o->common, path, &f);

	if (!code) {
		buf_init(&b, 64u << 20);
		code = print_buf(&b, policy_show(f.policy, &b, o->common.json));
	}
	policy_file_fini(&f);
	return code;
}

/* ---------------------------------------------------------------- explain */

static int identity_fill(const struct policy_args *o, struct policy_identity *who)
{
	*who = (struct policy_identity){ 0 };
	who->facts.tags = who->tags;
	_Static_assert(CLI_LIST_MAX <= POLICY_IDENTITY_TAGS, "an identity has too few tags");
	for (unsigned i = 0; i < o->tags.n; i++)
		who->tags[who->facts.n_tags++] = str_of(o->tags.items[i]);
	who->facts.cgroup = str_of(o->cgroup);
	who->facts.container = str_of(o->container);
	who->facts.user = str_of(o->user);
	if (!o->tags.n && !o->cgroup && !o->container && !o->user)
		return cli_fail(
			EXIT_USAGE,
			"explain needs to know who asks: --tag tag:NAME, --cgroup, --container or --user");
	return EXIT_OK;
}

static enum wire_format format_of(const char *word)
{
	for (unsigned f = 0; word && f < WIRE_FORMAT_MAX; f++)
		if (!strcmp(wire_format_name((enum wire_format)f), word))
			return (enum wire_format)f;
	return WIRE_NONE;
}

/* Without --format the first one in which the model is served; the refusal of the first when there
 * is none. */
static enum wire_format format_guess(const struct policy *p, struct policy_query q)
{
	struct policy_verdict v;
	enum wire_format served = WIRE_NONE;

	for (unsigned f = WIRE_NONE + 1; f < WIRE_FORMAT_MAX; f++) {
		q.format = (enum wire_format)f;
		policy_eval_spending(p, &q, &v);
		if (v.outcome == OUTCOME_NONE)
			return q.format;
		if (v.outcome != OUTCOME_UNKNOWN_MODEL && served == WIRE_NONE)
			served = q.format;
	}
	return served == WIRE_NONE ? WIRE_ANTHROPIC_MESSAGES : served;
}

static void json_candidate(struct json_out *j, const struct policy *p, const struct policy_query *q,
			   const struct policy_verdict *v, unsigned provider)
{
	struct policy_charge charges[POLICY_CHARGES_MAX];
	struct policy_price price;
	unsigned n = policy_charges(p, &q->who, provider, v->model, charges);

	json_out_open(j, NULL, '{');
	json_out_text(j, "provider", policy_provider(p, provider)->name);
	json_out_bool(j, "priced", policy_price(p, provider, v->model, &price));
	json_out_open(j, "buckets", '[');
	for (unsigned i = 0; i < n; i++)
		json_out_text(j, NULL, str_of(charges[i].bucket));
	json_out_close(j, ']');
	json_out_close(j, '}');
}

static int explain_json(const struct policy *p, const struct policy_query *q)
{
	struct policy_verdict v;
	struct json_out j;

	policy_eval_spending(p, q, &v);
	json_out_init(&j);
	json_out_open(&j, NULL, '{');
	json_out_text(&j, "verdict", v.outcome == OUTCOME_NONE ? STR("allow") : STR("deny"));
	json_out_text(&j, "outcome",
		      str_of(v.outcome == OUTCOME_NONE ? "ok" : outcome_name(v.outcome)));
	json_out_text(&j, "rule", str_of(v.rule));
	json_out_text(&j, "model", v.model);
	json_out_text(&j, "format", str_of(wire_format_name(q->format)));
	json_out_bool(&j, "admin", v.is_admin);
	json_out_open(&j, "candidates", '[');
	for (unsigned i = 0; i < v.n_candidates; i++)
		json_candidate(&j, p, q, &v, v.candidates[i]);
	json_out_close(&j, ']');
	json_out_close(&j, '}');
	return json_out_print(&j);
}

static void on_model(void *arg, const struct policy_provider *provider, struct str model)
{
	table_text(arg, provider->name);
	table_text(arg, model);
}

static int explain_models(const struct policy *p, const struct policy_identity *who,
			  const struct cli_common *o)
{
	static const struct column columns[] = { { "provider", "PROVIDER", COL_TEXT, 0 },
						 { "model", "MODELS", COL_TEXT, 0 } };
	struct table t;
	int code;

	table_init(&t, columns, ARRAY_SIZE(columns));
	policy_models(p, &who->facts, on_model, &t);
	code = table_print(&t, o, "no model: no grant matches, or none gives a model");
	table_fini(&t);
	return code;
}

static int policy_explain_file(const struct policy_args *o, const char *path)
{
	struct policy_identity who;
	struct policy_query q;
	struct policy_file f;
	struct buf b;
	int code = identity_fill(o, &who);

	if (code)
		return code;
	code = load_valid(&o->common, path, &f);
	q = (struct policy_query){ .who = who.facts,
				   .model = str_of(o->model),
				   .provider = str_of(o->provider) };
	if (!code)
		q.format = o->format ? format_of(o->format) : format_guess(f.policy, q);
	if (!code && !o->model) {
		code = explain_models(f.policy, &who, &o->common);
	} else if (!code && o->common.json) {
		code = explain_json(f.policy, &q);
	} else if (!code) {
		buf_init(&b, 1u << 20);
		code = print_buf(&b, policy_explain(f.policy, &q, &b));
	}
	policy_file_fini(&f);
	return code;
}

/* ---------------------------------------------------------------- reload, diff */

static int policy_reload(const struct cli_common *o)
{
	auto_free struct control *c = calloc(1, sizeof(*c));
	const struct msg_result *r;
	int code;

	if (!c)
		return cli_fail(EXIT_FAILED, "no memory");
	code = control_open(o, c);
	code = code ? code : control_result(c, MSG_CTL_RELOAD, NULL, &r);
	if (!code)
		printf(o->json ? "{\"ok\":true,\"generation\":%llu}\n"
			       : "the policy is in force, generation %llu\n",
		       (unsigned long long)r->generation);
	control_close(c);
	return code;
}

static int policy_diff(const struct cli_common *o, const char *old_path, const char *new_path)
{
	struct policy_file old, new = { 0 };
	int code = load_valid(o, old_path, &old);

	code = code ? code : load_valid(o, new_path, &new);
	if (!code)
		code = policy_diff_print(&old, &new, o->json);
	policy_file_fini(&old);
	policy_file_fini(&new);
	return code;
}

static int unknown_word(const char *word)
{
	struct nearest near = nearest_start(str_of(word));

	for (unsigned i = 0; policy_words[i]; i++)
		nearest_try(&near, str_of(policy_words[i]));
	return cli_fail(EXIT_USAGE, "policy has no %s%s: sallyport policy %s",
			log_quote(str_of(word)), nearest_hint(&near).s,
			command_find("policy")->arguments);
}

int cmd_policy(int argc, char **argv)
{
	struct policy_args o = { 0 };
	struct cli_words w;
	const char *word;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("policy", &w, 1, 3) : code;
	if (code >= 0)
		return code;
	word = w.items[0];
	code = cli_count("policy", &w, !strcmp(word, "diff") ? 3 : 1,
			 !strcmp(word, "diff")	   ? 3
			 : !strcmp(word, "reload") ? 1
						   : 2);
	if (code >= 0)
		return code;
	if (!strcmp(word, "check") || !strcmp(word, "test"))
		return policy_check(&o, w.n > 1 ? w.items[1] : NULL, !strcmp(word, "test"));
	if (!strcmp(word, "show"))
		return policy_show_file(&o, w.n > 1 ? w.items[1] : NULL);
	if (!strcmp(word, "explain"))
		return policy_explain_file(&o, w.n > 1 ? w.items[1] : NULL);
	if (!strcmp(word, "reload"))
		return policy_reload(&o.common);
	if (!strcmp(word, "diff"))
		return policy_diff(&o.common, w.items[1], w.items[2]);
	return unknown_word(word);
}
