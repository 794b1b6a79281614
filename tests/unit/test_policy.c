/* SPDX-License-Identifier: Apache-2.0 */
/* A policy from its text to its verdicts: parsing, messages, evaluation, charges, labels, words. */
#include "tests/unit/test.h"

#include <errno.h>
#include <time.h>

#include "common/buf.h"
#include "policy/explain.h"
#include "policy/policy.h"

static struct policy_diags diags;

/* NULL when it does not parse; diags tell why. */
static struct policy *parse(const char *text)
{
	struct policy *p = NULL;
	int err = policy_parse(str_of(text), STR_NULL, &p, &diags);

	CHECK(err == (p ? 0 : -EINVAL));
	CHECK((diags.n_errors == 0) == (p != NULL));
	return p;
}

static struct policy *must_parse(const char *text)
{
	struct policy *p = parse(text);

	for (unsigned i = 0; !p && i < diags.n; i++)
		printf("%u:%u: %s\n", diags.items[i].line, diags.items[i].column,
		       diags.items[i].text);
	if (!p)
		exit(1);
	return p;
}

/* The first diagnostic that contains the words, or NULL. */
static const struct policy_diag *said(const char *words, bool is_error)
{
	for (unsigned i = 0; i < diags.n; i++) {
		if (diags.items[i].is_error == is_error && strstr(diags.items[i].text, words))
			return &diags.items[i];
	}
	for (unsigned i = 0; i < diags.n; i++)
		printf("  said: %s\n", diags.items[i].text);
	return NULL;
}

#define CHECK_ERROR(text, words)                                                                   \
	do {                                                                                       \
		struct policy *p_ = parse(text);                                                   \
		CHECK(!p_);                                                                        \
		CHECK(said(words, true) != NULL);                                                  \
		policy_free(p_);                                                                   \
	} while (0)
#define CHECK_WARNING(text, words)                                                                 \
	do {                                                                                       \
		struct policy *p_ = parse(text);                                                   \
		CHECK(p_ != NULL);                                                                 \
		CHECK(said(words, false) != NULL);                                                 \
		policy_free(p_);                                                                   \
	} while (0)

/* A provider `p` for models m*, and what else the test says. */
#define PROVIDER                                                                                   \
	"\"providers\":{\"p\":{\"baseurl\":\"https://p.example\",\"apikey\":\"env:K\",\"models\":[\"m*\"]}},"
#define GRANT(src, caps) "{\"src\":[" src "],\"app\":{\"sallyport/cap/llm\":[" caps "]}}"
#define POLICY(rest)	 "{" PROVIDER rest "}"

/* ---------------------------------------------------------------- who asks */

static struct str tag_list[8];

static struct policy_facts tagged(const char *tags)
{
	struct policy_facts who = { .tags = tag_list, .cgroup = STR("/docker/1") };

	while (*tags) {
		size_t n = strcspn(tags, ",");

		tag_list[who.n_tags++] = (struct str){ tags, n };
		tags += n + (tags[n] == ',');
	}
	return who;
}

static struct policy_verdict ask(const struct policy *p, struct policy_facts who,
				 enum wire_format format, const char *model)
{
	struct policy_query q = { .who = who, .format = format, .model = str_of(model) };
	struct policy_verdict v;

	policy_eval(p, &q, &v);
	CHECK((v.outcome == OUTCOME_NONE) == (v.n_candidates > 0));
	CHECK(v.rule[0] != '\0');
	return v;
}

static enum outcome verdict(const struct policy *p, const char *tags, const char *model)
{
	return ask(p, tagged(tags), WIRE_NONE, model).outcome;
}

/* ---------------------------------------------------------------- parsing */

static void unknown_keys(void)
{
	const struct policy_diag *d;

	CHECK(!parse("{\n  \"provders\": {}\n}"));
	d = said("unknown key `provders` in the policy (did you mean `providers`?)", true);
	CHECK(d && d->line == 2 && d->column == 3);
	CHECK_ERROR(
		"{\"providers\":{\"p\":{\"baseurl\":\"https://x\",\"models\":[],\"api_key\":\"k\"}}}",
		"unknown key `api_key` in a provider (did you mean `apikey`?)");
	CHECK_ERROR(POLICY("\"grants\":[{\"src\":[\"*\"],\"apps\":{}}]"),
		    "unknown key `apps` in a grant");
	CHECK_ERROR(POLICY("\"grants\":[" GRANT("\"*\"", "{\"model\":\"**\"}") "]"),
		    "unknown key `model` in a capability (did you mean `models`?)");
	CHECK_ERROR(POLICY("\"quotas\":{\"q\":{\"capacity\":\"$1\",\"rates\":\"x\"}}"),
		    "unknown key `rates`");
	/* Several at once. */
	CHECK(!parse("{\"a\":1,\"b\":2,\"providers\":[],\"unpriced\":\"maybe\"}"));
	CHECK_INT(diags.n_errors, 4);
}

static void wrong_types(void)
{
	CHECK_ERROR("[]", "the policy is a list; it must be an object");
	CHECK_ERROR("{\"grants\":{}}", "`grants` is an object; it must be a list");
	CHECK_ERROR("{\"providers\":{\"p\":{\"baseurl\":1,\"models\":[\"x\"]}}}",
		    "`baseurl` is a number; it must be a string");
	CHECK_ERROR("{\"providers\":{\"p\":{\"baseurl\":\"https://x\",\"models\":\"x\"}}}",
		    "`models` is a string; it must be a list");
	CHECK_ERROR("{\"providers\":{\"p\":{\"baseurl\":\"https://x\",\"models\":[1]}}}",
		    "an entry of `models` is a number");
	CHECK_ERROR(
		"{\"providers\":{\"p\":{\"baseurl\":\"https://x\",\"models\":[\"m\"],\"preference\":1.5}}}",
		"`preference` must be a whole number");
	CHECK_ERROR("{\"unpriced\":\"maybe\"}", "it must be one of \"deny\", \"allow\"");
	CHECK_ERROR("{\"providers\":{\"p\":{\"models\":[\"m\"]}}}",
		    "`baseurl` is missing in a provider");
	CHECK_ERROR("{\"grants\":[{\"src\":[\"*\"]}]}", "`app` is missing in a grant");
}

/* Nothing that the design knows and this version does not enforce is passed over. */
static void not_enforced(void)
{
	static const char *const top[] = { "tool_rules", "hooks",	"oidc",
					   "tagOwners",	 "exporters",	"database", "connectors",
					   "mcp",	 "temp_grants", "sandboxes" };
	static const char *const inside[] = { "tools",	     "limits",	  "send_hooks",
					      "connectors",  "mcp_tools", "filterable_headers",
					      "direct_paths" };
	static const char *const shown[] = { "auto_cost_basis", "flags", "chat_models" };
	char text[512], want[128];

	for (size_t i = 0; i < ARRAY_SIZE(top); i++) {
		snprintf(text, sizeof(text), "{\"%s\":{\"x\":1}}", top[i]);
		snprintf(want, sizeof(want), "`%s` is not enforced by this version; remove it",
			 top[i]);
		CHECK_ERROR(text, want);
		snprintf(text, sizeof(text), "{\"%s\":{}}", top[i]);
		CHECK_WARNING(text, "nothing is lost");
	}
	for (size_t i = 0; i < ARRAY_SIZE(inside); i++) {
		snprintf(text, sizeof(text),
			 POLICY("\"grants\":[" GRANT("\"*\"", "{\"%s\":[\"x\"]}") "]"), inside[i]);
		snprintf(want, sizeof(want), "`%s` is not enforced by this version; remove it",
			 inside[i]);
		CHECK_ERROR(text, want);
	}
	for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
		snprintf(text, sizeof(text), "{\"%s\":true}", shown[i]);
		CHECK_WARNING(text, "has no effect here");
	}
	CHECK_ERROR("{\"labels\":[{\"match\":{\"annotation\":\"x\"},\"tags\":[\"tag:a\"]}]}",
		    "`annotation` is not enforced by this version");
	CHECK_ERROR(
		POLICY("\"tests\":[{\"src\":\"tag:a\",\"model\":\"m\",\"expect\":\"deny\",\"shell\":\"rm\"}]"),
		"`shell` is not enforced");
}

#define WITH_URL(url)                                                                              \
	"{\"providers\":{\"p\":{\"baseurl\":\"" url                                                \
	"\",\"models\":[\"m\"],\"auth_mode\":\"none\"}}}"

static void check_url(const char *text, bool tls, const char *host, unsigned port, const char *path)
{
	struct policy *p = must_parse(text);
	const struct policy_provider *pp = policy_provider(p, 0);

	CHECK(pp->tls == tls);
	CHECK(str_eq(pp->host, str_of(host)));
	CHECK_INT(pp->port, port);
	CHECK(str_eq(pp->base_path, str_of(path)));
	policy_free(p);
}

static void base_urls(void)
{
	check_url(WITH_URL("https://Api.Example.com"), true, "api.example.com", 443, "");
	check_url(WITH_URL("https://api.example.com:8443/a/b/"), true, "api.example.com", 8443,
		  "/a/b");
	check_url(WITH_URL("http://127.0.0.1:8000"), false, "127.0.0.1", 8000, "");
	check_url(WITH_URL("http://[::1]:8000/x"), false, "::1", 8000, "/x");
	check_url(WITH_URL("http://localhost"), false, "localhost", 80, "");
	check_url(WITH_URL("https://openrouter.ai/api/v1"), true, "openrouter.ai", 443, "/api");
	CHECK(said("ends in `/v1`", false) != NULL);
	check_url(WITH_URL("https://x.example/v1beta/"), true, "x.example", 443, "");
	check_url(WITH_URL("https://x.example/apiv1"), true, "x.example", 443, "/apiv1");
	CHECK_ERROR(WITH_URL("http://10.0.0.9:8000"),
		    "clear text; use https, or set \"insecure\": true");
	CHECK_ERROR(WITH_URL("http://localhost.example.com"), "clear text");
	CHECK_ERROR(WITH_URL("ftp://x"), "must start with https:// or http://");
	CHECK_ERROR(WITH_URL("https://"), "its host is no name");
	CHECK_ERROR(WITH_URL("https://a b"), "its host is no name");
	CHECK_ERROR(WITH_URL("https://a..b"), "its host is no name");
	CHECK_ERROR(WITH_URL("https://user:pw@x"), "it holds a login");
	CHECK_ERROR(WITH_URL("https://x/?a=b"), "cannot hold a query");
	CHECK_ERROR(WITH_URL("https://x#f"), "cannot hold a query");
	CHECK_ERROR(WITH_URL("https://x:0"), "port must be a number");
	CHECK_ERROR(WITH_URL("https://x:65536"), "port must be a number");
	CHECK_ERROR(WITH_URL("https://[::1"), "not closed");
	CHECK_ERROR(WITH_URL("https://x/a/../b"), "holds `//` or `/..`");
}

#define WITH_KEY(key)                                                                              \
	"{\"providers\":{\"p\":{\"baseurl\":\"https://x\",\"models\":[\"m\"],\"apikey\":\"" key    \
	"\"}}}"

static void keys(void)
{
	static const struct {
		const char *text;
		enum policy_key_kind kind;
		const char *arg;
	} cases[] = {
		{ WITH_KEY("file:/etc/k"), KEY_FILE, "/etc/k" },
		{ WITH_KEY("env:MY_KEY"), KEY_ENV, "MY_KEY" },
		{ WITH_KEY("cmd:vault read x"), KEY_CMD, "vault read x" },
		{ WITH_KEY("cred:openai"), KEY_CRED, "openai" },
		{ WITH_KEY("sk-secret"), KEY_LITERAL, "sk-secret" },
		{ WITH_KEY(""), KEY_NONE, "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct policy *p = must_parse(cases[i].text);
		const struct policy_provider *pp = policy_provider(p, 0);

		CHECK_INT(pp->key_kind, cases[i].kind);
		CHECK(str_eq(pp->key_arg, str_of(cases[i].arg)));
		policy_free(p);
	}
	CHECK_WARNING(WITH_KEY("sk-secret"), "is the key itself");
	CHECK(!strstr(diags.items[0].text, "sk-secret"));
	CHECK_WARNING(WITH_KEY(""), "has no key");
	CHECK_ERROR(WITH_KEY("file:relative"), "absolute path");
	CHECK_ERROR(WITH_KEY("env:A B"), "name of a variable");
	CHECK_ERROR(WITH_KEY("cred:../x"), "systemd credential");
	CHECK_ERROR(WITH_KEY("keyfile::/x"), "not served by this version");
	CHECK_ERROR(WITH_KEY("two words"), "no spaces");
	CHECK_ERROR(WITH_KEY("a\\nb"), "control character");
}

#define WITH(more)                                                                                               \
	"{\"providers\":{\"p\":{\"baseurl\":\"https://x.example\",\"apikey\":\"env:K\",\"models\":[\"m\"]," more \
	"}}}"

static void provider_details(void)
{
	struct policy *p = must_parse(WITH("\"compatibility\":{\"anthropic_messages\":true}"));
	const struct policy_provider *pp = policy_provider(p, 0);

	CHECK(pp->formats[WIRE_ANTHROPIC_MESSAGES] && !pp->formats[WIRE_OPENAI_CHAT] &&
	      !pp->usage_option);
	CHECK(pp->auth_header == AUTH_BEARER && pp->auth_mode == AUTH_OVERRIDE &&
	      !pp->drain_on_disconnect);
	CHECK(pp->n_domains == 1 && str_eq(pp->domains[0], STR("x.example")));
	policy_free(p);
	p = must_parse(WITH(
		"\"compatibility\":{\"openai_responses\":true,\"openai_chat\":true},"
		"\"on_disconnect\":\"drain\",\"usage_option\":false,\"auth_mode\":\"passthrough\","
		"\"authorization\":\"API-Key\",\"domains\":[\"A.example\"],\"name\":\"P\","
		"\"add_headers\":[\"X-A: b\"],\"preference\":-3"));
	pp = policy_provider(p, 0);
	CHECK(pp->formats[WIRE_OPENAI_CHAT] && pp->formats[WIRE_OPENAI_RESPONSES] &&
	      !pp->usage_option);
	CHECK(pp->drain_on_disconnect && pp->auth_mode == AUTH_PASSTHROUGH &&
	      pp->auth_header == AUTH_API_KEY);
	CHECK(pp->n_domains == 1 && str_eq(pp->domains[0], STR("a.example")));
	CHECK(pp->n_add_headers == 1 && pp->preference == -3);
	policy_free(p);
	p = must_parse(WITH("\"disabled\":false"));
	CHECK(policy_provider(p, 0)->formats[WIRE_OPENAI_CHAT] &&
	      policy_provider(p, 0)->usage_option);
	policy_free(p);
	CHECK_ERROR(WITH("\"compatibility\":{\"anthropic_message\":true}"),
		    "unknown wire format `anthropic_message` (did you mean `anthropic_messages`?)");
	CHECK_WARNING(WITH("\"compatibility\":{\"bedrock_converse\":true}"),
		      "not served by this version");
	CHECK_ERROR(WITH("\"authorization\":\"hec\""), "not served by this version");
	CHECK_ERROR(WITH("\"authorization\":\"basic\""), "it must be bearer, x-api-key");
	CHECK_ERROR(WITH("\"add_headers\":[\"Host: x\"]"), "belongs to the connection");
	CHECK_ERROR(WITH("\"add_headers\":[\"X-A\"]"), "write it as");
	CHECK_ERROR(WITH("\"add_headers\":[\"X A: b\"]"), "letters, digits and dashes");
	CHECK_ERROR(WITH("\"add_headers\":[\"X-A: b\\r\\nY: c\"]"), "no control characters");
	CHECK_ERROR(WITH("\"domains\":[\"*.x\"]"), "is no host name");
	CHECK_ERROR(WITH("\"cost_basis\":\"antropic\""),
		    "no basis `antropic` (did you mean `anthropic`?)");
	CHECK_ERROR(WITH("\"upstream\":\"x\""), "`upstream` is not enforced");
	CHECK_ERROR("{\"providers\":{\"a/b\":{\"baseurl\":\"https://x\",\"models\":[\"m\"]}}}",
		    "cannot be a provider's name");
	CHECK_WARNING("{\"providers\":{\"p\":{\"baseurl\":\"https://x\",\"models\":[\"p/m\"]}}}",
		      "repeats the provider's name");
	CHECK_WARNING(
		"{\"providers\":{\"p\":{\"baseurl\":\"https://api.anthropic.com\",\"apikey\":\"env:K\","
		"\"models\":[\"m\"]}}}",
		"as x-api-key");
}

static void quotas_parse(void)
{
	struct policy *p = must_parse(POLICY(
		"\"quotas\":{"
		"\"a:<tag>\":{\"capacity\":\"$10.00\",\"rate\":\"$5.00/day\"},"
		"\"b\":{\"capacity\":\"500 requests\",\"on_exceed\":\"warn\"},"
		"\"c:<cgroup>:x\":{\"capacity\":\"2M tokens\",\"rate\":\"2M tokens/hour\",\"on_exceed\":\"reject\"},"
		"\"d:<node>\":{\"capacity\":\"$0.00\"}}"));

	CHECK_INT(policy_n_quotas(p), 4);
	CHECK(policy_quota(p, 0)->per_tag && policy_quota(p, 0)->unit == QUOTA_NANOUSD);
	CHECK_INT(policy_quota(p, 0)->capacity, 10000000000);
	CHECK_INT(policy_quota(p, 0)->rate, 5000000000);
	CHECK(policy_quota(p, 1)->warn_only && !policy_quota(p, 1)->rate);
	CHECK(policy_quota(p, 2)->per_cgroup && policy_quota(p, 2)->rate == 2000000);
	CHECK(policy_quota(p, 3)->per_cgroup && policy_quota(p, 3)->capacity == 0);
	CHECK(said("`<node>` is read as <cgroup>", false) != NULL);
	CHECK(said("the quota `b` is never used", false) != NULL);
	policy_free(p);
	CHECK_ERROR("{\"quotas\":{\"a\":{\"capacity\":\"10\"}}}", "write an amount like");
	CHECK_ERROR("{\"quotas\":{\"a\":{\"capacity\":\"$10\",\"rate\":\"5 requests/day\"}}}",
		    "use one unit");
	CHECK_ERROR("{\"quotas\":{\"a\":{\"capacity\":\"$10\",\"rate\":\"$5/year\"}}}",
		    "write a rate like");
	CHECK_ERROR("{\"quotas\":{\"a\":{\"capacity\":\"$10\",\"on_exceed\":\"x\"}}}",
		    "\"reject\", \"warn\"");
	CHECK_ERROR("{\"quotas\":{\"a:<team>\":{\"capacity\":\"$1\"}}}", "unknown template");
	CHECK_ERROR("{\"quotas\":{\"a:<tag>:<cgroup>\":{\"capacity\":\"$1\"}}}", "two templates");
	CHECK_ERROR("{\"quotas\":{\"a\":{\"rate\":\"$5/day\"}}}", "`capacity` is missing");
}

static void sources(void)
{
	CHECK_ERROR(POLICY("\"grants\":[" GRANT("\"tag:Big\"", "") "]"), "is no tag");
	CHECK_ERROR(POLICY("\"grants\":[" GRANT("\"tag:\"", "") "]"), "is no tag");
	CHECK_ERROR(POLICY("\"grants\":[" GRANT("\"tag:a,b\"", "") "]"),
		    "a set of tags is written");
	CHECK_ERROR(POLICY("\"grants\":[" GRANT("\"tag:a,\"", "") "]"), "a set of tags is written");
	CHECK_ERROR(POLICY("\"grants\":[" GRANT("\"pr-bot\"", "") "]"), "is no source");
	CHECK_ERROR(POLICY("\"grants\":[" GRANT("\"user:\"", "") "]"), "is no source");
	CHECK_ERROR(POLICY("\"grants\":[" GRANT("\"user:*\"", "") "]"), "no wildcards");
	CHECK_WARNING(POLICY("\"grants\":[" GRANT("\"me@example.com\"", "") "]"),
		      "matches nobody here");
	CHECK_WARNING(POLICY("\"grants\":[" GRANT("\"cgroup:docker/*\"", "") "]"),
		      "write `cgroup:/docker/*`");
	CHECK_WARNING(
		POLICY("\"groups\":{\"group:dev\":[]},\"grants\":[" GRANT("\"group:def\"", "") "]"),
		"`group:def` is not defined in `groups`, so it matches nobody (did you mean `group:dev`?)");
	CHECK_WARNING(POLICY("\"grants\":[{\"src\":[],\"app\":{\"sallyport/cap/llm\":[]}}]"),
		      "`src` is empty");
	CHECK_WARNING(POLICY("\"grants\":[{\"src\":[\"*\"],\"app\":{\"sallyport/cap/lm\":[]}}]"),
		      "(did you mean `sallyport/cap/llm`?)");
	CHECK_WARNING(POLICY("\"grants\":[" GRANT("\"*\"", "{\"models\":\"**\"}") "]"),
		      "no grant gives a role");
}

static void groups(void)
{
	struct policy *p;

	CHECK_ERROR(
		"{\"groups\":{\"group:a\":[\"group:b\"],\"group:b\":[\"group:c\"],\"group:c\":[\"group:a\"]}}",
		"contains itself");
	CHECK_ERROR("{\"groups\":{\"group:a\":[\"group:a\"]}}", "contains itself");
	CHECK_ERROR("{\"groups\":{\"a\":[]}}", "must be written `group:NAME`");
	CHECK_ERROR("{\"groups\":{\"group:a\":[\"x\"]}}", "is no source");
	CHECK_WARNING("{\"groups\":{\"group:a\":[\"group:z\"]}}", "is not defined");
	p = must_parse(POLICY(
		"\"groups\":{\"group:in\":[\"tag:a\",\"user:u\"],\"group:out\":[\"group:in\",\"tag:b\","
		"\"group:in\"]},"
		"\"grants\":[" GRANT("\"group:out\"",
				     "{\"role\":\"user\",\"models\":\"**\"}") "]"));
	CHECK_INT(verdict(p, "tag:a", "m1"), OUTCOME_NONE);
	CHECK_INT(verdict(p, "tag:b", "m1"), OUTCOME_NONE);
	CHECK_INT(verdict(p, "tag:c", "m1"), OUTCOME_DENIED_ROLE);
	CHECK_INT(ask(p, (struct policy_facts){ .user = STR("u") }, WIRE_NONE, "m1").outcome,
		  OUTCOME_NONE);
	policy_free(p);
}

static void pattern_warnings(void)
{
	const struct policy_diag *d;
	struct policy *p;

	p = must_parse(POLICY(
		"\"grants\":[" GRANT("\"*\"", "{\"role\":\"user\",\"models\":\"claude-*\"}") "]"));
	d = said(
		"`claude-*` can match nothing: models are matched as provider/model; write `*/claude-*`",
		false);
	CHECK(d && d->line == 1 && d->column > 100);
	CHECK_INT(verdict(p, "tag:a", "m1"), OUTCOME_DENIED_MODEL);
	policy_free(p);
	CHECK_WARNING(
		"{\"providers\":{\"openai\":{\"baseurl\":\"https://x\",\"models\":[\"m\"]}},\"grants\":[" GRANT(
			"\"*\"", "{\"models\":\"opnai/*\"}") "]}",
		"no provider is named `opnai` (did you mean `openai`?)");
	CHECK_WARNING(POLICY("\"grants\":[" GRANT("\"*\"", "{\"models\":\"p/gpt-*\"}") "]"),
		      "`p/gpt-*` can match nothing: `p` serves no such model");
	CHECK_WARNING(POLICY("\"grants\":[" GRANT("\"*\"", "{\"models\":\"x*/*\"}") "]"),
		      "no provider is named");
	p = must_parse(
		POLICY("\"grants\":[" GRANT("\"*\"", "{\"role\":\"user\",\"models\":\"**\"}") "]"));
	CHECK_INT(diags.n, 0);
	policy_free(p);
	CHECK_ERROR(POLICY("\"grants\":[" GRANT("\"*\"", "{\"models\":\"\"}") "]"),
		    "`models` is empty");
	CHECK_ERROR(
		POLICY("\"quotas\":{\"day\":{\"capacity\":\"$1\"}},"
		       "\"grants\":[" GRANT("\"*\"", "{\"quotas\":[{\"bucket\":\"dya\"}]}") "]"),
		"no quota is named `dya` (did you mean `day`?)");
}

static void failing_tests(void)
{
	const struct policy_diag *d;

#define TESTED(test)                                                                               \
	"{" PROVIDER "\"grants\":[" GRANT(                                                         \
		"\"tag:a\"", "{\"role\":\"user\",\"models\":\"**\"}") "],\n\"tests\":[" test "]}"
	policy_free(must_parse(TESTED(
		"{\"src\":\"tag:a\",\"model\":\"p/m1\",\"expect\":\"allow\"},"
		"{\"src\":\"tag:a,tag:b\",\"model\":\"m1\",\"format\":\"openai_chat\",\"expect\":\"allow\"},"
		"{\"src\":\"tag:b\",\"model\":\"m1\",\"expect\":\"deny\"},"
		"{\"src\":\"cgroup:/x\",\"model\":\"m1\",\"expect\":\"deny\"}")));
	CHECK_ERROR(TESTED("{\"src\":\"tag:b\",\"model\":\"m1\",\"expect\":\"allow\"}"),
		    "tests[0] fails: tag:b for m1 is denied: no grant matches tag:b");
	d = said("tests[0]", true);
	CHECK(d && d->line == 2 && d->column == 10);
	CHECK_ERROR(TESTED("{\"src\":\"tag:a\",\"model\":\"m1\",\"expect\":\"deny\"}"),
		    "is allowed: grants[0] (line 1)");
	CHECK_ERROR(TESTED("{\"src\":\"group:a\",\"model\":\"m1\",\"expect\":\"deny\"}"),
		    "one identity");
	CHECK_ERROR(TESTED("{\"src\":\"tag:a\",\"model\":\"m1\",\"expect\":\"block\"}"),
		    "\"allow\" or \"deny\"");
	CHECK_ERROR(
		TESTED("{\"src\":\"tag:a\",\"model\":\"m1\",\"format\":\"openai\",\"expect\":\"deny\"}"),
		"unknown wire format");
}

/* ---------------------------------------------------------------- evaluation */

static void outcomes(void)
{
	struct policy *p = must_parse(POLICY(
		"\"grants\":[" GRANT("\"tag:a\"", "{\"role\":\"user\"},{\"models\":\"p/m1\"}") "," GRANT(
			"\"tag:norole\"",
			"{\"models\":\"**\"}") "," GRANT("\"tag:boss\"",
							 "{\"role\":\"admin\",\"models\":\"p/*\"}") "]"));
	struct policy_verdict v;

	v = ask(p, tagged("tag:a"), WIRE_OPENAI_CHAT, "m1");
	CHECK_INT(v.outcome, OUTCOME_NONE);
	CHECK_STR(v.rule, "grants[0] (line 1)");
	CHECK(!v.is_admin && v.n_candidates == 1 && str_eq(v.model, STR("m1")));
	v = ask(p, tagged("tag:a"), WIRE_OPENAI_CHAT, "p/m1");
	CHECK(v.outcome == OUTCOME_NONE && str_eq(v.model, STR("m1")));
	v = ask(p, tagged("tag:a"), WIRE_OPENAI_CHAT, "m2");
	CHECK_INT(v.outcome, OUTCOME_DENIED_MODEL);
	CHECK_STR(v.rule, "no grant of tag:a gives it m2");
	v = ask(p, tagged("tag:a"), WIRE_OPENAI_CHAT, "x");
	CHECK_INT(v.outcome, OUTCOME_UNKNOWN_MODEL);
	CHECK_STR(v.rule, "no provider serves x");
	v = ask(p, tagged("tag:a"), WIRE_ANTHROPIC_MESSAGES, "m1");
	CHECK_INT(v.outcome, OUTCOME_UNKNOWN_MODEL);
	CHECK_STR(v.rule, "m1 is served, but not in the format anthropic_messages");
	CHECK_INT(verdict(p, "tag:norole", "m1"), OUTCOME_DENIED_ROLE);
	CHECK_INT(verdict(p, "tag:other", "m1"), OUTCOME_DENIED_ROLE);
	v = ask(p, tagged("tag:boss"), WIRE_NONE, "m9");
	CHECK(v.outcome == OUTCOME_NONE && v.is_admin);
	/* Grants add up; an exact name is no alias. */
	CHECK_INT(verdict(p, "tag:norole,tag:a", "m7"), OUTCOME_NONE);
	CHECK_INT(verdict(p, "tag:a", "m1-20250101"), OUTCOME_DENIED_MODEL);
	CHECK_INT(verdict(p, "", "m1"), OUTCOME_DENIED_UNLABELLED);
	policy_free(p);
}

static void star_and_unlabelled(void)
{
	struct policy *p = must_parse(POLICY(
		"\"grants\":[" GRANT("\"*\"", "{\"role\":\"user\",\"models\":\"**\"}") "," GRANT(
			"\"container:web-*\"",
			"{\"role\":\"user\",\"models\":\"p/m1\"}") "," GRANT("\"cgroup:/sys/**\"",
									     "{\"models\":\"p/m1\"}") "]"));
	struct policy_facts none = { .cgroup = STR("/docker/1") };
	struct policy_facts web = { .cgroup = STR("/docker/1"), .container = STR("web-3") };
	struct policy_facts sys = { .cgroup = STR("/sys/a/b") };

	CHECK_INT(verdict(p, "tag:anything", "m2"), OUTCOME_NONE);
	CHECK_INT(ask(p, none, WIRE_NONE, "m1").outcome, OUTCOME_DENIED_UNLABELLED);
	CHECK_INT(ask(p, web, WIRE_NONE, "m1").outcome, OUTCOME_NONE);
	CHECK_INT(ask(p, web, WIRE_NONE, "m2").outcome, OUTCOME_DENIED_MODEL);
	CHECK_INT(ask(p, sys, WIRE_NONE, "m1").outcome, OUTCOME_DENIED_ROLE);
	policy_free(p);
}

static void exact_sets(void)
{
	struct policy *p = must_parse(POLICY("\"grants\":[" GRANT(
		"\"tag:b, tag:a\"", "{\"role\":\"user\",\"models\":\"**\"}") "]"));

	CHECK_INT(verdict(p, "tag:a,tag:b", "m1"), OUTCOME_NONE);
	CHECK_INT(verdict(p, "tag:b,tag:a", "m1"), OUTCOME_NONE);
	CHECK_INT(verdict(p, "tag:b,tag:a,tag:a", "m1"), OUTCOME_NONE);
	CHECK_INT(verdict(p, "tag:a", "m1"), OUTCOME_DENIED_ROLE);
	CHECK_INT(verdict(p, "tag:a,tag:b,tag:c", "m1"), OUTCOME_DENIED_ROLE);
	policy_free(p);
}

#define TWO_PROVIDERS                                                                                     \
	"\"providers\":{"                                                                                 \
	"\"low\":{\"baseurl\":\"https://l\",\"apikey\":\"env:K\",\"models\":[\"m*\",\"x/y\"]},"           \
	"\"high\":{\"baseurl\":\"https://h\",\"apikey\":\"env:K\",\"models\":[\"m1\"],\"preference\":5}," \
	"\"off\":{\"baseurl\":\"https://o\",\"apikey\":\"env:K\",\"models\":[\"m*\"],\"preference\":9,\"disabled\":true}},"

static void which_provider(void)
{
	struct policy *p = must_parse(
		"{" TWO_PROVIDERS
		"\"grants\":[" GRANT("\"tag:all\"", "{\"role\":\"user\",\"models\":\"**\"}") "," GRANT(
			"\"tag:low\"", "{\"role\":\"user\",\"models\":\"low/**\"}") "]}");
	struct policy_query q = { .model = STR("m1") };
	struct policy_verdict v = ask(p, tagged("tag:all"), WIRE_NONE, "m1");

	CHECK(v.n_candidates == 2 && v.candidates[0] == 1 && v.candidates[1] == 0);
	v = ask(p, tagged("tag:low"), WIRE_NONE, "m1");
	CHECK(v.n_candidates == 1 && v.candidates[0] == 0);
	v = ask(p, tagged("tag:low"), WIRE_NONE, "high/m1");
	CHECK_INT(v.outcome, OUTCOME_DENIED_MODEL);
	v = ask(p, tagged("tag:all"), WIRE_NONE, "low/m1");
	CHECK(v.n_candidates == 1 && v.candidates[0] == 0);
	v = ask(p, tagged("tag:all"), WIRE_NONE, "high/m2");
	CHECK_INT(v.outcome, OUTCOME_UNKNOWN_MODEL);
	CHECK_STR(v.rule, "high does not serve m2");
	v = ask(p, tagged("tag:all"), WIRE_NONE, "off/m1");
	CHECK_STR(v.rule, "the provider off is disabled");
	/* A slash in a model's own name is no provider. */
	v = ask(p, tagged("tag:all"), WIRE_NONE, "x/y");
	CHECK(v.outcome == OUTCOME_NONE && str_eq(v.model, STR("x/y")));
	v = ask(p, tagged("tag:all"), WIRE_NONE, "low/x/y");
	CHECK(v.outcome == OUTCOME_NONE && str_eq(v.model, STR("x/y")));
	/* An explicit provider. */
	q.who = tagged("tag:all");
	q.provider = STR("low");
	policy_eval(p, &q, &v);
	CHECK(v.n_candidates == 1 && v.candidates[0] == 0);
	q.model = STR("low/m1");
	policy_eval(p, &q, &v);
	CHECK(v.n_candidates == 1 && str_eq(v.model, STR("m1")));
	q.model = STR("high/m1"); /* not what the path says */
	policy_eval(p, &q, &v);
	CHECK_INT(v.outcome, OUTCOME_UNKNOWN_MODEL);
	q.model = STR("");
	policy_eval(p, &q, &v);
	CHECK_INT(v.outcome, OUTCOME_NONE);
	q.provider = STR("nope");
	policy_eval(p, &q, &v);
	CHECK_INT(v.outcome, OUTCOME_UNKNOWN_MODEL);
	CHECK_STR(v.rule, "no provider is named nope");
	policy_free(p);
}

/* A call without a model needs all of a provider. */
static void without_model(void)
{
	struct policy *p = must_parse(POLICY(
		"\"grants\":[" GRANT("\"tag:some\"", "{\"role\":\"user\",\"models\":\"p/m1\"}") "," GRANT(
			"\"tag:all\"", "{\"role\":\"user\",\"models\":\"p/*\"}") "]"));
	char name[400];

	CHECK_INT(verdict(p, "tag:some", ""), OUTCOME_DENIED_MODEL);
	CHECK_INT(verdict(p, "tag:all", ""), OUTCOME_NONE);
	memset(name, 'm', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK_INT(verdict(p, "tag:all", name), OUTCOME_UNKNOWN_MODEL);
	policy_free(p);
}

static void many_candidates(void)
{
	char text[8192];
	size_t n = (size_t)snprintf(text, sizeof(text), "{\"providers\":{");
	struct policy_verdict v;
	struct policy *p;

	for (int i = 0; i < 20; i++)
		n += (size_t)snprintf(
			text + n, sizeof(text) - n,
			"\"p%d\":{\"baseurl\":\"https://x\",\"apikey\":\"env:K\",\"models\":[\"m\"],"
			"\"preference\":%d},",
			i, i % 7);
	snprintf(text + n, sizeof(text) - n, "},\"grants\":[%s]}",
		 GRANT("\"*\"", "{\"role\":\"user\",\"models\":\"*/m\"}"));
	p = must_parse(text);
	v = ask(p, tagged("tag:a"), WIRE_NONE, "m");
	CHECK_INT(v.n_candidates, POLICY_CANDIDATES);
	CHECK_INT(v.candidates[0], 6);
	CHECK_INT(v.candidates[1], 13);
	CHECK_INT(v.candidates[2], 5);
	policy_free(p);
}

/* ------------------------------------------------ charges, headers, models, labels */

static void charges(void)
{
	struct policy *p = must_parse(POLICY(
		"\"quotas\":{"
		"\"day:<tag>\":{\"capacity\":\"$1\"},\"box:<cgroup>\":{\"capacity\":\"$1\"},\"pool\":{\"capacity\":\"$1\"}},"
		"\"grants\":[" GRANT("\"tag:a\",\"tag:b\"", "{\"role\":\"user\",\"models\":\"p/m1\",\"quotas\":[{\"bucket\":\"day:<tag>\"}]}") "," GRANT(
			"\"*\"",
			"{\"quotas\":[{\"bucket\":\"pool\"}]}") "," GRANT("\"container:c\"",
									  "{\"quotas\":[{\"bucket\":\"day:<tag>\"},{\"bucket\":\"box:<cgroup>\"}]}") "]"));
	struct policy_charge got[POLICY_CHARGES_MAX], first;
	struct policy_facts who = tagged("tag:a,tag:c");
	struct policy_facts bare = { .container = STR("c"), .cgroup = STR("/x") };
	char cgroup[300];

	CHECK_INT(policy_charges(p, &who, 0, STR("m1"), got), 2);
	CHECK_STR(got[0].bucket, "day:tag:a"); /* only the tag that src matched */
	CHECK_STR(got[1].bucket, "pool");
	CHECK_INT(got[1].quota, 2);
	CHECK_INT(policy_charges(p, &who, 0, STR("m2"), got), 1);
	CHECK_STR(got[0].bucket, "pool");
	who = tagged("tag:a,tag:b");
	CHECK_INT(policy_charges(p, &who, 0, STR("m1"), got), 3);
	CHECK_STR(got[1].bucket, "day:tag:b");
	who.container = STR("c"); /* matched otherwise: all tags, and none twice */
	CHECK_INT(policy_charges(p, &who, 0, STR("m1"), got), 4);
	CHECK_STR(got[3].bucket, "box:/docker/1");
	CHECK_INT(policy_charges(p, &bare, 0, STR("m1"), got), 2);
	CHECK_STR(got[0].bucket, "day:c"); /* no tag: never free */
	CHECK_STR(got[1].bucket, "box:/x");
	/* Long paths stay apart. */
	memset(cgroup, 'x', sizeof(cgroup));
	bare.cgroup = (struct str){ cgroup, sizeof(cgroup) };
	CHECK_INT(policy_charges(p, &bare, 0, STR("m1"), got), 2);
	CHECK_INT(strlen(got[1].bucket), POLICY_BUCKET_BYTES - 1);
	first = got[1];
	cgroup[299] = 'y';
	CHECK_INT(policy_charges(p, &bare, 0, STR("m1"), got), 2);
	CHECK(strcmp(got[1].bucket, first.bucket) != 0);
	policy_free(p);
}

/* A bucket more than can be charged refuses the request rather than go uncounted. */
static void too_many_charges(void)
{
	struct policy *p = must_parse(POLICY("\"quotas\":{\"q:<tag>\":{\"capacity\":\"$1\"}},\"grants\":[" GRANT(
		"\"*\"",
		"{\"role\":\"user\",\"models\":\"**\",\"quotas\":[{\"bucket\":\"q:<tag>\"}]}") "]"));
	struct policy_charge got[POLICY_CHARGES_MAX];
	static char names[40][16];
	struct str tags[40];
	struct policy_facts who = { .tags = tags, .cgroup = STR("/x") };
	char text[8192];
	size_t n;

	for (unsigned i = 0; i < 40; i++) {
		snprintf(names[i], sizeof(names[i]), "tag:t%u", i);
		tags[i] = str_of(names[i]);
	}
	who.n_tags = POLICY_CHARGES_MAX;
	CHECK_INT(ask(p, who, WIRE_NONE, "m").outcome, OUTCOME_NONE);
	CHECK_INT(policy_charges(p, &who, 0, STR("m"), got), POLICY_CHARGES_MAX);
	who.n_tags++;
	CHECK_INT(ask(p, who, WIRE_NONE, "m").outcome, OUTCOME_DENIED_LIMIT);
	CHECK_INT(policy_charges(p, &who, 0, STR("m"), got), POLICY_CHARGES_MAX);
	policy_free(p);
	n = (size_t)snprintf(text, sizeof(text), "{\"quotas\":{");
	for (unsigned i = 0; i < 33; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "\"q%u\":{\"capacity\":\"$1\"},",
				      i);
	n += (size_t)snprintf(
		text + n, sizeof(text) - n,
		"},\"grants\":[{\"src\":[\"tag:a\"],\"app\":{\"sallyport/cap/llm\":[{\"quotas\":[");
	for (unsigned i = 0; i < 33; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "{\"bucket\":\"q%u\"},", i);
	snprintf(text + n, sizeof(text) - n, "]}]}}]}");
	CHECK_ERROR(text, "charge 33 quotas, and a request has 32 at most");
}

static void grant_headers(void)
{
	struct policy *p = must_parse(POLICY("\"grants\":[" GRANT(
		"\"tag:a\"",
		"{\"models\":\"p/m1\",\"add_headers\":[\"X-A: 1\",\"X-B: 2\"]},{\"add_headers\":[\"X-C: 3\"]}") "]"));
	struct policy_facts who = tagged("tag:a");
	struct str got[4];

	CHECK_INT(policy_grant_headers(p, &who, 0, STR("m1"), got, 4), 3);
	CHECK(str_eq(got[0], STR("X-A: 1")) && str_eq(got[2], STR("X-C: 3")));
	CHECK_INT(policy_grant_headers(p, &who, 0, STR("m2"), got, 4), 1);
	CHECK_INT(policy_grant_headers(p, &who, 0, STR("m1"), got, 2), 2);
	who = tagged("tag:b");
	CHECK_INT(policy_grant_headers(p, &who, 0, STR("m1"), got, 4), 0);
	policy_free(p);
}

static void list_model(void *arg, const struct policy_provider *provider, struct str model)
{
	char *out = arg;
	size_t n = strlen(out);

	snprintf(out + n, 256 - n, "%.*s/%.*s ", STR_ARG(provider->name), STR_ARG(model));
}

static void model_list(void)
{
	struct policy *p = must_parse(
		"{" TWO_PROVIDERS
		"\"grants\":[" GRANT("\"tag:all\"", "{\"role\":\"user\",\"models\":\"**\"}") "," GRANT(
			"\"tag:some\"",
			"{\"role\":\"user\",\"models\":[\"low/m7\",\"low/m-*\",\"high/*\",\"low/q\"]}") "," GRANT("\"tag:norole\"",
														  "{\"models\":\"**\"}") "]}");
	struct policy_facts who = tagged("tag:all");
	char out[256] = "";

	policy_models(p, &who, list_model, out);
	CHECK_STR(out, "high/m1 low/m* low/x/y ");
	who = tagged("tag:some");
	out[0] = '\0';
	policy_models(p, &who, list_model, out);
	CHECK_STR(out, "high/m1 low/m7 low/m-* ");
	who = tagged("tag:norole");
	out[0] = '\0';
	policy_models(p, &who, list_model, out);
	CHECK_STR(out, "");
	policy_free(p);
}

/* A provider that serves a pattern lists what its price table names, as far as it is granted. */
static void model_list_of_a_pattern(void)
{
	struct policy *p = must_parse(
		"{\"providers\":{\"a\":{\"baseurl\":\"https://api.anthropic.com\",\"apikey\":\"env:K\","
		"\"compatibility\":{\"anthropic_messages\":true},\"models\":[\"claude-*\"]}},\"grants\":[" GRANT(
			"\"tag:a\"", "{\"role\":\"user\",\"models\":\"a/claude-sonnet-4-5*\"}") "]}");
	struct policy_facts who = tagged("tag:a");
	char out[256] = "";

	policy_models(p, &who, list_model, out);
	CHECK_STR(out, "a/claude-sonnet-4-5* a/claude-sonnet-4-5 ");
	policy_free(p);
}

/* Not every pattern of the table is a model's name with a star behind it. */
static void model_list_of_dated_versions(void)
{
	struct policy *p = NULL;
	struct policy_facts who = tagged("tag:a");
	char out[256] = "";

	CHECK_INT(policy_parse(
			  STR("{\"providers\":{\"a\":{\"baseurl\":\"https://a\",\"apikey\":\"env:K\",\"cost_basis\":\"b\",\"models\":[\"**\"]}},"
			      "\"grants\":[" GRANT("\"tag:a\"", "{\"role\":\"user\",\"models\":\"**\"}") "]}"),
			  STR("{\"date\":\"2026-01-01\",\"bases\":{\"b\":{\"models\":{\"m-5\":{\"input\":1,\"output\":1},"
			      "\"m-5-20*\":{\"input\":1,\"output\":1},\"m-4-8*\":{\"input\":1,\"output\":1},"
			      "\"n-preview-0*\":{\"input\":1,\"output\":1},\"n-*\":{\"input\":1,\"output\":1},"
			      "\"m-4?20*\":{\"input\":1,\"output\":1},\"x-20\":{\"input\":1,\"output\":1}}}}}"),
			  &p, &diags),
		  0);
	if (!p)
		return;
	policy_models(p, &who, list_model, out);
	CHECK(strstr(out, "a/m-5 ") && strstr(out, "a/m-4-8 ") && strstr(out, "a/x-20 "));
	CHECK(!strstr(out, "a/m-5-20") && !strstr(out, "a/n-") && !strstr(out, "a/m-4?"));
	policy_free(p);
}

static struct str label_value(void *arg, struct str name)
{
	return str_eq(name, STR("sallyport.tags")) ? str_of(arg) : STR_NULL;
}

static void labels(void)
{
	struct policy *p = must_parse(
		"{\"labels\":["
		"{\"match\":{\"docker_label\":\"sallyport.tags\"},\"tags_from\":\"value\"},"
		"{\"match\":{\"docker_label\":\"other=x*\"},\"tags\":[\"tag:other\"]},"
		"{\"match\":{\"image\":\"ghcr.io/acme/*:*\",\"container\":\"web-?\"},\"tags\":[\"tag:acme\",\"tag:web\",\"tag:acme\"]},"
		"{\"match\":{\"cgroup\":\"/ci/**\"},\"tags\":[\"tag:ci\"]}]}");
	char value[64] = "tag:a, tag:b,tag:a";
	struct policy_label_facts facts = { .cgroup = STR("/ci/x"),
					    .image = STR("ghcr.io/acme/agent:1"),
					    .container = STR("web-1"),
					    .container_label = label_value,
					    .arg = value };
	char out[64];

	CHECK(policy_label(p, &facts, out, sizeof(out)));
	CHECK_STR(out, "tag:a,tag:b");
	CHECK(!policy_label(p, &facts, out, 8)); /* half a list is none */
	CHECK_STR(out, "");
	snprintf(value, sizeof(value), "tag:a,oops");
	CHECK(!policy_label(p, &facts, out, sizeof(out)));
	CHECK_STR(out, "");
	value[0] = '\0';
	CHECK(policy_label(p, &facts, out, sizeof(out)));
	CHECK_STR(out, "tag:acme,tag:web");
	facts.container = STR("web-10");
	CHECK(policy_label(p, &facts, out, sizeof(out)));
	CHECK_STR(out, "tag:ci");
	facts.cgroup = STR("/ci");
	CHECK(!policy_label(p, &facts, out, sizeof(out)));
	facts.container_label = NULL;
	CHECK(!policy_label(p, &facts, out, sizeof(out)));
	policy_free(p);
	CHECK_ERROR("{\"labels\":[{\"match\":{\"image\":\"x\"}}]}", "either `tags` or");
	CHECK_ERROR("{\"labels\":[{\"match\":{\"image\":\"x\"},\"tags_from\":\"value\"}]}",
		    "needs `docker_label`");
	CHECK_ERROR("{\"labels\":[{\"match\":{},\"tags\":[\"tag:a\"]}]}", "`match` is empty");
	CHECK_ERROR("{\"labels\":[{\"match\":{\"image\":\"x\"},\"tags\":[\"a\"]}]}", "is no tag");
	CHECK_ERROR("{\"labels\":[{\"match\":{\"image\":\"x\"},\"tags\":[]}]}", "`tags` is empty");
	CHECK_WARNING("{\"labels\":[{\"match\":{\"cgroup\":\"ci/**\"},\"tags\":[\"tag:a\"]}]}",
		      "write `/ci/**`");
}

/* ---------------------------------------------------------------- words */

static bool wrote(const struct buf *out, const char *words)
{
	return buf_len(out) && memmem(buf_head(out), buf_len(out), words, strlen(words));
}

static void explain(void)
{
	struct policy *p = must_parse(
		"{\"providers\":{\"p\":{\"baseurl\":\"https://api.anthropic.com\","
		"\"authorization\":\"x-api-key\",\"apikey\":\"sk-very-secret\",\"models\":[\"claude-*\"],"
		"\"add_headers\":[\"X-Auth: hidden-value\"]},"
		"\"c\":{\"baseurl\":\"https://c\",\"apikey\":\"cmd:/bin/get hidden-value\",\"models\":[\"z\"]}},"
		"\"quotas\":{\"d:<tag>\":{\"capacity\":\"$1\",\"rate\":\"$1/day\"}},\"grants\":[" GRANT(
			"\"tag:a\"",
			"{\"role\":\"user\",\"models\":\"p/**\",\"quotas\":[{\"bucket\":\"d:<tag>\"}]}") "]}");
	struct policy_query q = { .who = tagged("tag:a"), .model = STR("claude-sonnet-4-5") };
	struct buf out;

	buf_init(&out, 1 << 20);
	CHECK_INT(policy_explain(p, &q, &out), 0);
	CHECK(wrote(&out, "allowed by grants[0] (line 1)"));
	CHECK(wrote(&out, "d:tag:a: $1.00, $1.00 flow in every 1d"));
	CHECK(wrote(&out, "input $3.00, output $15.00"));
	q.model = STR("nope");
	CHECK_INT(policy_explain(p, &q, &out), 0);
	CHECK(wrote(&out, "denied (unknown_model): no provider serves nope"));
	CHECK_INT(policy_show(p, &out, false), 0);
	CHECK_INT(policy_show(p, &out, true), 0);
	CHECK(wrote(&out, "\"src\":[\"tag:a\"]"));
	CHECK(!wrote(&out, "sk-very-secret"));
	CHECK(!wrote(&out, "hidden-value"));
	buf_fini(&out);
	buf_init(&out, 64);
	CHECK_INT(policy_show(p, &out, false), -ENOBUFS);
	buf_fini(&out);
	policy_free(p);
}

#define DOLLARS(unpriced, quota)                                                                   \
	POLICY("\"unpriced\":\"" unpriced "\",\"quotas\":{\"d\":{\"capacity\":\"" quota "\"}},\"grants\":[" GRANT( \
		"\"tag:a\"",                                                                       \
		"{\"role\":\"user\",\"models\":\"**\",\"quotas\":[{\"bucket\":\"d\"}]}") "]")

static enum outcome spending(const char *policy, const char *model)
{
	struct policy *p = must_parse(policy);
	struct policy_query q = { .who = tagged("tag:a"), .model = str_of(model) };
	struct policy_verdict v;

	policy_eval_spending(p, &q, &v);
	CHECK_INT(v.n_candidates, 1);
	policy_free(p);
	return v.outcome;
}

/* What explain and the tests say of a model without a price is what the gateway does. */
static void unpriced(void)
{
	struct policy *p = must_parse(DOLLARS("deny", "$1.00"));
	struct policy_query q = { .who = tagged("tag:a"), .model = STR("m1") };
	char tested[1024];
	struct buf out;

	buf_init(&out, 1 << 20);
	CHECK_INT(policy_explain(p, &q, &out), 0);
	CHECK(wrote(&out, "denied (denied_unpriced): m1 has no price, and the quota d is in dollars\n"));
	CHECK(wrote(&out, "unpriced, refused under a dollar quota"));
	buf_fini(&out);
	policy_free(p);
	CHECK_INT(spending(DOLLARS("deny", "$1.00"), "m1"), OUTCOME_DENIED_UNPRICED);
	CHECK_INT(spending(DOLLARS("allow", "$1.00"), "m1"), OUTCOME_NONE);
	CHECK_INT(spending(DOLLARS("deny", "9 requests"), "m1"), OUTCOME_NONE);
	CHECK_INT(spending(DOLLARS("deny", "$1.00"), ""), OUTCOME_NONE); /* spends nothing */
	snprintf(tested, sizeof(tested),
		 "%.*s,\"tests\":[{\"src\":\"tag:a\",\"model\":\"m1\",\"expect\":\"allow\"}]}",
		 (int)strlen(DOLLARS("deny", "$1.00")) - 1, DOLLARS("deny", "$1.00"));
	CHECK_ERROR(tested, "tests[0] fails: tag:a for m1 is denied: m1 has no price");
}

static void diags_text(void)
{
	struct buf out;

	CHECK(!parse("{\n\"x\": 1}"));
	buf_init(&out, 4096);
	CHECK_INT(policy_diags_print(&diags, STR("a.hujson"), &out), 0);
	CHECK(wrote(&out, "a.hujson:2:1: error: unknown key `x` in the policy\n"));
	CHECK(str_starts(buf_str(&out), STR("a.hujson: warning: no `providers`")));
	buf_fini(&out);
}

/* ---------------------------------------------------------------- files, bounds, time */

static char *read_file(const char *path, size_t *ret_n)
{
	FILE *f = fopen(path, "r");
	char *text = malloc(POLICY_TEXT_MAX);

	*ret_n = f && text ? fread(text, 1, POLICY_TEXT_MAX, f) : 0;
	if (f)
		fclose(f);
	return text;
}

/* Run from the root of the tree, as `make unit` does. */
static void examples(void)
{
	static const char *const files[] = { "small", "fleet", "aperture", "gpu-host" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char path[128];
		struct policy *p = NULL;
		size_t n;
		char *text;

		snprintf(path, sizeof(path), "policy/examples/%s.hujson", files[i]);
		text = read_file(path, &n);
		CHECK(n > 0);
		CHECK_INT(policy_parse((struct str){ text, n }, STR_NULL, &p, &diags), 0);
		for (unsigned k = 0; k < diags.n; k++) {
			if (diags.items[k].is_error || strcmp(files[i], "aperture") != 0)
				printf("%s:%u: %s\n", path, diags.items[k].line,
				       diags.items[k].text);
		}
		CHECK(strcmp(files[i], "aperture") == 0 || diags.n == 0);
		policy_free(p);
		free(text);
	}
}

static void bounds(void)
{
	size_t size = POLICY_TEXT_MAX + 1;
	char *text = malloc(size);
	struct policy *p = NULL;

	memset(text, ' ', size);
	CHECK_INT(policy_parse((struct str){ text, size }, STR_NULL, &p, &diags), -EINVAL);
	CHECK(said("larger than", true) != NULL);
	CHECK_INT(policy_parse(STR("{}"), STR("{"), &p, &diags), -EINVAL);
	CHECK(said("price table, line 1", true) != NULL);
	free(text);
	policy_free(NULL);
	p = must_parse("{}");
	CHECK(said("no `providers`", false) && said("no `grants`", false));
	CHECK_INT(verdict(p, "tag:a", "m"), OUTCOME_DENIED_ROLE);
	policy_free(p);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* `n` grants for tags of their own; the one who asks has two tags and a `*` grant. */
static struct policy *big_policy(unsigned n)
{
	size_t size = 4096 + n * 256ul, at = 0;
	char *text = malloc(size);
	struct policy *p;

	at += (size_t)snprintf(text + at, size - at, "{\"providers\":{");
	for (unsigned i = 0; i < 8; i++)
		at += (size_t)snprintf(
			text + at, size - at,
			"\"p%u\":{\"baseurl\":\"https://x\",\"apikey\":\"env:K\",\"models\":"
			"[\"model-%u-*\",\"exact-%u\"]},",
			i, i, i);
	at += (size_t)snprintf(text + at, size - at, "},\"quotas\":{");
	for (unsigned i = 0; i < 100; i++)
		at += (size_t)snprintf(text + at, size - at, "\"q%u\":{\"capacity\":\"$1\"},", i);
	at += (size_t)snprintf(text + at, size - at,
			       "},\"grants\":[{\"src\":[\"*\"],\"app\":"
			       "{\"sallyport/cap/llm\":[{\"role\":\"user\"}]}},");
	for (unsigned i = 0; i < n; i++)
		at += (size_t)snprintf(
			text + at, size - at,
			"{\"src\":[\"tag:t%u\"],\"app\":{\"sallyport/cap/llm\":[{\"models\":"
			"\"p%u/model-%u-*\",\"quotas\":[{\"bucket\":\"q%u\"}]}]}},",
			i, i % 8, i % 8, i % 100);
	snprintf(text + at, size - at, "]}");
	p = must_parse(text);
	free(text);
	return p;
}

/* Prints only: a figure of a test machine under load proves nothing. */
static void evaluation_time(void)
{
	static const unsigned sizes[] = { 1, 10, 100, 1000, 4000 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct policy *p = big_policy(sizes[i]);
		char tag[24], model[24];
		struct str tags[2] = { STR("tag:somebody"), { tag, 0 } };
		struct policy_query q = { .who = { tags, 2, STR("/docker/1"), STR_NULL, STR_NULL },
					  .format = WIRE_OPENAI_CHAT };
		struct policy_charge got[POLICY_CHARGES_MAX];
		struct policy_verdict v;
		uint64_t start;
		unsigned rounds = 20000, charged = 0;

		tags[1].n = (size_t)snprintf(tag, sizeof(tag), "tag:t%u", sizes[i] - 1);
		snprintf(model, sizeof(model), "model-%u-x", (sizes[i] - 1) % 8);
		q.model = str_of(model);
		start = now_ns();
		for (unsigned r = 0; r < rounds; r++)
			policy_eval(p, &q, &v);
		printf("(%u grants: %llu ns", sizes[i],
		       (unsigned long long)(now_ns() - start) / rounds);
		CHECK_INT(v.outcome, OUTCOME_NONE);
		start = now_ns();
		for (unsigned r = 0; r < rounds; r++)
			charged += policy_charges(p, &q.who, v.candidates[0], v.model, got);
		printf(", charges %llu ns) ", (unsigned long long)(now_ns() - start) / rounds);
		CHECK_INT(charged, rounds);
		policy_free(p);
	}
}

static void egress_modes(void)
{
	struct policy *p = must_parse("{\"egress\":{\"default\":\"observe\",\"tag:a\":\"off\",\"tag:b\":\"strict\"}}");
	struct str tags[] = { STR("tag:a"), STR("tag:b"), STR("tag:c") };

	CHECK_INT(policy_egress_mode(p, NULL, 0), FORCE_OBSERVE);
	CHECK_INT(policy_egress_mode(p, &tags[2], 1), FORCE_OBSERVE);
	CHECK_INT(policy_egress_mode(p, tags, 1), FORCE_OFF);
	CHECK_INT(policy_egress_mode(p, tags, 2), FORCE_STRICT);
	policy_free(p);
	p = must_parse("{}");
	CHECK_INT(policy_egress_mode(p, tags, 3), FORCE_ASSIST);
	policy_free(p);
	CHECK_ERROR("{\"egress\":{\"default\":\"strickt\"}}", "did you mean `strict`");
	CHECK_ERROR("{\"egress\":{\"ci\":\"strict\"}}", "neither \"default\" nor a tag");
	CHECK_ERROR("{\"egress\":{\"default\":1}}", "a mode of `egress`");
}

static void egress_shown(void)
{
	struct policy *p = must_parse("{\"egress\":{\"default\":\"observe\",\"tag:b\":\"strict\"}}");
	struct buf out;

	buf_init(&out, 1 << 20);
	CHECK_INT(policy_show(p, &out, false), 0);
	CHECK(wrote(&out, "egress default: observe\negress tag:b: strict\n"));
	CHECK_INT(policy_show(p, &out, true), 0);
	CHECK(wrote(&out, "\"egress\":{\"default\":\"observe\",\"tag:b\":\"strict\"}"));
	buf_fini(&out);
	policy_free(p);
}

static void domain_patterns(void)
{
	static const struct {
		const char *pattern, *host;
		bool covers;
	} cases[] = {
		{ "api.example.com", "api.example.com", true },
		{ "api.example.com", "api.example.com.evil.test", false },
		{ "*.example.com", "a.example.com", true },
		{ "*.example.com", "a.b.example.com", false },
		{ "*.example.com", "example.com", false },
		{ "*.example.com", "evilexample.com", false },
		{ "runtime.*.cloud.test", "runtime.eu-1.cloud.test", true },
		{ "runtime.*.cloud.test", "runtime.eu.1.cloud.test", false },
		{ "*-x.example.com", "a-b-x.example.com", true },
		{ "*-x.example.com", "", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(policy_domain_match(str_of(cases[i].pattern), str_of(cases[i].host)), cases[i].covers);
}

static void domains_of_providers(void)
{
	struct policy *p = must_parse(
		"{\"providers\":{\"a\":{\"baseurl\":\"https://api.a.test\",\"models\":[\"m\"]},"
		"\"b\":{\"baseurl\":\"https://b.test\",\"models\":[\"m\"],\"domains\":[\"*.B.test\"],\"cidrs\":[\"192.0.2.0/24\"]},"
		"\"c\":{\"baseurl\":\"https://c.test\",\"models\":[\"m\"],\"disabled\":true}}}");

	CHECK_INT(policy_domain_provider(p, STR("api.a.test")), 0);
	CHECK_INT(policy_domain_provider(p, STR("x.b.test")), 1);
	CHECK_INT(policy_domain_provider(p, STR("b.test")), -1);
	CHECK_INT(policy_domain_provider(p, STR("c.test")), -1);
	CHECK_INT(policy_provider(p, 1)->n_cidrs, 1);
	policy_free(p);
	CHECK_ERROR("{\"providers\":{\"b\":{\"baseurl\":\"https://b.test\",\"models\":[\"m\"],\"domains\":[\"*.com\"]}}}",
		    "is no host name");
	CHECK_ERROR("{\"providers\":{\"b\":{\"baseurl\":\"https://b.test\",\"models\":[\"m\"],\"cidrs\":[\"192.0.2.1/24\"]}}}",
		    "is no network");
}

/* A request that was sent to a provider's name is for who has that name, whatever else serves the model. */
static void bound_to_a_name(void)
{
	struct policy *p = must_parse(
		"{\"providers\":{\"a\":{\"baseurl\":\"https://api.a.test\",\"apikey\":\"env:K\",\"models\":[\"m\",\"x\"]},"
		"\"b\":{\"baseurl\":\"https://b.test\",\"apikey\":\"env:K\",\"models\":[\"m\"],\"preference\":5,\"domains\":[\"*.b.test\"]}},"
		"\"grants\":[" GRANT("\"*\"", "{\"role\":\"user\",\"models\":\"**\"}") "]}");
	struct str tag = STR("tag:a");
	struct policy_query q = { .who = { .tags = &tag, .n_tags = 1 }, .format = WIRE_OPENAI_CHAT, .model = STR("m") };
	struct policy_verdict v;

	policy_eval(p, &q, &v);
	CHECK(v.outcome == OUTCOME_NONE && v.n_candidates == 2);
	q.host = STR("api.a.test");
	policy_eval(p, &q, &v);
	CHECK(v.outcome == OUTCOME_NONE && v.n_candidates == 1 && v.candidates[0] == 0);
	q.host = STR("eu.b.test");
	policy_eval(p, &q, &v);
	CHECK(v.outcome == OUTCOME_NONE && v.n_candidates == 1 && v.candidates[0] == 1);
	q.model = STR("x");
	policy_eval(p, &q, &v);
	CHECK_INT(v.outcome, OUTCOME_UNKNOWN_MODEL);
	CHECK_STR(v.rule, "no provider with the name eu.b.test serves x");
	q.model = STR("a/m");
	policy_eval(p, &q, &v);
	CHECK_INT(v.outcome, OUTCOME_UNKNOWN_MODEL);
	q = (struct policy_query){ .who = q.who, .format = WIRE_OPENAI_CHAT, .model = STR("m"), .provider = STR("a"), .host = STR("eu.b.test") };
	policy_eval(p, &q, &v);
	CHECK_INT(v.outcome, OUTCOME_UNKNOWN_MODEL);
	policy_free(p);
}

TESTS(T(unknown_keys), T(wrong_types), T(not_enforced), T(base_urls), T(keys), T(provider_details),
      T(quotas_parse), T(sources), T(groups), T(pattern_warnings), T(failing_tests), T(outcomes),
      T(star_and_unlabelled), T(exact_sets), T(which_provider), T(without_model),
      T(many_candidates), T(charges), T(too_many_charges), T(grant_headers), T(model_list), T(model_list_of_a_pattern),
      T(model_list_of_dated_versions),
      T(labels), T(egress_modes), T(egress_shown), T(domain_patterns), T(domains_of_providers),
      T(bound_to_a_name), T(explain), T(unpriced), T(diags_text), T(examples), T(bounds), T(evaluation_time))
