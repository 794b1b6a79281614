/* SPDX-License-Identifier: Apache-2.0 */
/* The `tests` of a policy file, run through the same evaluation as requests. */
#include "policy/internal.h"

#include <errno.h>

struct test_draft {
	struct str src, model, format, expect;
};

#define TEST(m) SCHEMA_AT(struct test_draft, m)
static const struct schema_field test_fields[] = {
	{ "src", SCHEMA_STRING, .required = true, TEST(src),
	  .help = "say who: \"tag:a\", \"tag:a,tag:b\", user:, cgroup: or container:" },
	{ "model", SCHEMA_STRING, .required = true, TEST(model), .help = "name a model" },
	{ "format", SCHEMA_STRING, TEST(format), .help = "a wire format; left out: any" },
	{ "expect", SCHEMA_STRING, .required = true, TEST(expect),
	  .help = "\"allow\" or \"deny\"" },
	{ "shell", SCHEMA_REFUSED, .help = "tool rules" },
	{ "by", SCHEMA_REFUSED, .help = "tool rules" },
	{ "args", SCHEMA_REFUSED, .help = "tool rules" },
	{ 0 },
};

const struct schema_field *test_schema(void)
{
	return test_fields;
}

/* Who asks in this test; `tags` has room for IDENTITY_TAGS_MAX. */
static bool test_who(struct schema *s, const struct hujson *v, struct str src, struct str *tags,
		     struct policy_facts *ret)
{
	struct str tag;
	bool bad = false;

	*ret = (struct policy_facts){ .tags = tags };
	if (str_starts(src, STR("user:"))) {
		ret->user = str_skip(src, 5);
	} else if (str_starts(src, STR("cgroup:"))) {
		ret->cgroup = str_skip(src, 7);
	} else if (str_starts(src, STR("container:"))) {
		ret->container = str_skip(src, 10);
	} else {
		while (ret->n_tags < IDENTITY_TAGS_MAX && tags_next(&src, &tag, &bad))
			tags[ret->n_tags++] = tag;
	}
	if (!bad && (ret->user.n || ret->cgroup.n || ret->container.n || ret->n_tags))
		return true;
	schema_error(
		s, hujson_get(v, STR("src")),
		"`src` of a test is one identity: \"tag:a\", \"tag:a,tag:b\", user:, cgroup: or "
		"container:");
	return false;
}

static bool test_format(struct schema *s, const struct hujson *v, struct str name,
			enum wire_format *ret)
{
	struct nearest nearest = nearest_start(name);

	*ret = WIRE_NONE;
	if (!name.n)
		return true;
	for (unsigned i = 1; i < WIRE_FORMAT_MAX; i++) {
		nearest_try(&nearest, str_of(wire_format_name(i)));
		if (!str_eq(name, str_of(wire_format_name(i))))
			continue;
		*ret = i;
		return true;
	}
	schema_error(s, hujson_get(v, STR("format")), "unknown wire format `%s`%s",
		     diag_word(name).s, nearest_hint(&nearest).s);
	return false;
}

static void test_run(struct schema *s, const struct hujson *v, unsigned index)
{
	struct test_draft d = {
		.src = STR(""), .model = STR(""), .format = STR(""), .expect = STR("")
	};
	unsigned errors = s->diags->n_errors;
	struct str tags[IDENTITY_TAGS_MAX];
	struct policy_query q = { 0 };
	struct policy_verdict verdict;
	bool allow;

	if (!schema_parse(s, test_fields, "a test", v, &d) || s->diags->n_errors > errors)
		return;
	allow = str_eq(d.expect, STR("allow"));
	if (!allow && !str_eq(d.expect, STR("deny"))) {
		schema_error(s, hujson_get(v, STR("expect")),
			     "`expect` must be \"allow\" or \"deny\"");
		return;
	}
	if (!test_who(s, v, d.src, tags, &q.who) || !test_format(s, v, d.format, &q.format))
		return;
	q.model = d.model;
	policy_eval_spending(s->arg, &q, &verdict);
	if ((verdict.outcome == OUTCOME_NONE) == allow)
		return;
	schema_error(s, v, "tests[%u] fails: %s for %s is %s: %.120s", index, diag_word(d.src).s,
		     diag_word(d.model).s, allow ? "denied" : "allowed", verdict.rule);
}

void tests_run(struct schema *s, const struct hujson *v)
{
	unsigned i = 0;

	hujson_for_each(item, v)
	{
		test_run(s, item, i++);
	}
}
