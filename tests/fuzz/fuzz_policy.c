/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any text as a policy and as a configuration. A policy that parses is asked as people would:
 * verdicts stay inside their bounds, say the same twice, and every list and explanation can be
 * written.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/base.h"
#include "policy/config.h"
#include "policy/explain.h"

/* A small table: the built-in one would take most of the time. */
#define PRICES                                                                                      \
	"{\"date\":\"2026-01-01\",\"bases\":{\"anthropic\":{\"models\":{\"claude-*\":{\"input\":3," \
	"\"output\":15}}},\"openai\":{\"models\":{\"gpt-*\":{\"input\":1}}}}}"

static struct str no_label(void *arg, struct str name)
{
	(void)name;
	return *(struct str *)arg;
}

static void count(void *arg, const struct policy_provider *provider, struct str model)
{
	assert(provider->name.n && model.s);
	++*(unsigned *)arg;
}

static void check_verdict(const struct policy *p, const struct policy_query *q)
{
	struct policy_charge charges[POLICY_CHARGES_MAX];
	struct policy_verdict v, again;
	struct policy_price price;
	struct str headers[4];

	policy_eval(p, q, &v);
	policy_eval(p, q, &again);
	assert(v.outcome == again.outcome && v.n_candidates == again.n_candidates);
	assert((v.outcome == OUTCOME_NONE) == (v.n_candidates > 0));
	assert(v.n_candidates <= POLICY_CANDIDATES && memchr(v.rule, '\0', sizeof(v.rule)) &&
	       v.rule[0]);
	for (unsigned i = 0; i < v.n_candidates; i++) {
		assert(v.candidates[i] < policy_n_providers(p));
		assert(!policy_provider(p, v.candidates[i])->disabled);
		assert(policy_charges(p, &q->who, v.candidates[i], v.model, charges) <=
		       POLICY_CHARGES_MAX);
		assert(policy_grant_headers(p, &q->who, v.candidates[i], v.model, headers, 4) <= 4);
		if (policy_price(p, v.candidates[i], v.model, &price))
			assert(price_cost_nanousd(&price,
						  &(struct usage_tokens){ .input = 1000 }) >= 0);
	}
}

static void ask(const struct policy *p, struct str word)
{
	struct str tags[] = { STR("tag:a"), STR("tag:b"), STR("tag:pr-bot") };
	struct policy_label_facts facts = { STR("/docker/1"), STR("ghcr.io/acme/agent:1"),
					    STR("web"), no_label, &word };
	struct policy_query q = { .who = { tags, 3, STR("/docker/1"), STR("web"), STR_NULL } };
	struct buf out;
	unsigned n = 0;
	char label[64];

	for (unsigned t = 0; t <= 3; t++) {
		q.who.n_tags = t;
		for (unsigned f = 0; f < WIRE_FORMAT_MAX; f++) {
			q.format = f;
			q.model = f % 2 ? STR("claude-sonnet-4-5") : word;
			check_verdict(p, &q);
		}
	}
	policy_models(p, &q.who, count, &n);
	policy_label(p, &facts, label, sizeof(label));
	buf_init(&out, 16 << 20);
	policy_explain(p, &q, &out);
	policy_show(p, &out, false);
	policy_show(p, &out, true);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct policy_diags diags;
	char *copy = malloc(size ? size : 1);
	struct str text = { copy, size };
	struct policy *p = NULL;
	struct config *c = NULL;

	memcpy(copy, data, size);
	if (policy_parse(text, STR(PRICES), &p, &diags) == 0)
		ask(p, (struct str){ copy, MIN(size, (size_t)24) });
	else
		assert(diags.n_errors > 0 && diags.n <= POLICY_DIAGS_MAX);
	policy_free(p);
	if (config_parse(text, &c, &diags) != 0)
		assert(diags.n_errors > 0);
	config_free(c);
	free(copy);
	return 0;
}
