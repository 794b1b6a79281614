/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>

#include "policy/price.h"

#define MILLION 1000000LL

static struct policy_diags diags;

/* A policy with one provider at this host; NULL-terminated extra keys. */
static struct policy *provider(const char *url, const char *more, const char *prices)
{
	char text[1024];
	struct policy *p = NULL;

	snprintf(
		text, sizeof(text),
		"{\"providers\":{\"p\":{\"baseurl\":\"%s\",\"apikey\":\"env:K\",\"models\":[\"**\"]%s}}}",
		url, more);
	if (policy_parse(str_of(text), str_of(prices), &p, &diags)) {
		for (unsigned i = 0; i < diags.n; i++)
			printf("%s\n", diags.items[i].text);
		exit(1);
	}
	return p;
}

static struct policy_price price_of(const char *url, const char *more, const char *model,
				    bool *ret_found)
{
	struct policy *p = provider(url, more, "");
	struct policy_price price = { 0 };

	*ret_found = policy_price(p, 0, str_of(model), &price);
	policy_free(p);
	return price;
}

static void builtin(void)
{
	static const struct {
		const char *url, *model;
		long long input, output; /* micro-dollars a million, or -1: unpriced */
	} cases[] = {
		{ "https://api.anthropic.com", "claude-sonnet-4-5-20250929", 3000000, 15000000 },
		{ "https://api.anthropic.com", "claude-sonnet-4-20250514", 3000000, 15000000 },
		{ "https://api.anthropic.com", "claude-opus-4-1-20250805", 15000000, 75000000 },
		{ "https://api.anthropic.com", "claude-opus-4-20250514", 15000000, 75000000 },
		{ "https://api.anthropic.com", "claude-opus-4-5", 5000000, 25000000 },
		{ "https://api.anthropic.com", "claude-haiku-4-5-20251001", 1000000, 5000000 },
		{ "https://api.anthropic.com", "claude-3-5-haiku-latest", 800000, 4000000 },
		{ "https://api.anthropic.com", "claude-3-haiku-20240307", 250000, 1250000 },
		{ "https://api.anthropic.com", "claude-sonnet-9", -1, 0 },
		{ "https://api.anthropic.com", "gpt-4o", -1, 0 }, /* not of this basis */
		{ "https://api.openai.com", "gpt-4o", 2500000, 10000000 },
		{ "https://api.openai.com", "gpt-4o-2024-05-13", 5000000, 15000000 },
		{ "https://api.openai.com", "gpt-4o-mini-2024-07-18", 150000, 600000 },
		{ "https://api.openai.com", "gpt-4.1-mini-2025-04-14", 400000, 1600000 },
		{ "https://api.openai.com", "gpt-5-2025-08-07", 1250000, 10000000 },
		{ "https://api.openai.com", "gpt-5-mini", 250000, 2000000 },
		{ "https://api.openai.com", "gpt-5.1-codex-mini", 250000, 2000000 },
		{ "https://api.openai.com", "gpt-4o-audio-preview", -1, 0 },
		{ "https://generativelanguage.googleapis.com", "gemini-2.5-flash", 300000,
		  2500000 },
		{ "https://generativelanguage.googleapis.com", "gemini-2.5-flash-lite", 100000,
		  400000 },
		{ "https://my.openai.azure.com", "gpt-4o", 2500000, 10000000 },
		{ "https://openrouter.ai/api", "anthropic/claude-sonnet-4.5", 3000000, 15000000 },
		{ "https://evilopenai.com", "gpt-4o", 2500000,
		  10000000 }, /* unknown host: all are searched */
		{ "http://127.0.0.1:9", "claude-sonnet-4-5", 3000000, 15000000 },
		{ "http://127.0.0.1:9", "qwen3:4b", -1, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bool found;
		struct policy_price price = price_of(cases[i].url, "", cases[i].model, &found);

		if (found != (cases[i].input >= 0))
			printf("%s\n", cases[i].model);
		CHECK(found == (cases[i].input >= 0));
		if (!found)
			continue;
		CHECK_INT(price.input, cases[i].input);
		CHECK_INT(price.output, cases[i].output);
		CHECK(price.adjustment_ppm == MILLION);
	}
}

/* The shipped table itself: everything in it is priced, and caches are where they should be. */
static void table_is_sound(void)
{
	struct price_table t = { 0 };
	struct arena arena = { 0 };

	memset(&diags, 0, sizeof(diags));
	CHECK_INT(price_table_parse(prices_builtin, &arena, &t, &diags), 0);
	CHECK_INT(diags.n, 0);
	CHECK(t.date.n == 10 && t.n >= 10);
	for (unsigned b = 0; b < t.n; b++) {
		for (unsigned i = 0; i < t.bases[b].n; i++) {
			const struct policy_price *p = &t.bases[b].entries[i].price;

			CHECK(p->input > 0 && p->context_tokens > 0);
			CHECK(p->cache_read < p->input);
			CHECK(p->cache_write_5m < 0 || p->cache_write_5m >= p->input);
			CHECK(p->output < 0 || p->output >= p->input);
			CHECK(!p->tier_above_tokens || p->tier_input > p->input);
		}
	}
	arena_fini(&arena);
}

static void maps_and_basis(void)
{
	struct policy_price price;
	bool found;

	price = price_of(
		"https://x.example",
		",\"cost_basis\":\"anthropic\",\"model_cost_map\":[{\"match\":\"new-*\",\"as\":"
		"\"claude-sonnet-4-5\",\"adjustment\":1.1},{\"match\":\"**\",\"as\":\"claude-haiku-4-5\"}]",
		"new-x", &found);
	CHECK(found && price.input == 3000000 && price.adjustment_ppm == 1100000);
	CHECK_INT(price_cost_nanousd(&price, &(struct usage_tokens){ .input = 100000 }), 330000000);
	price = price_of(
		"https://x.example",
		",\"cost_basis\":\"anthropic\",\"model_cost_map\":[{\"match\":\"new-*\",\"as\":\"x\"},"
		"{\"match\":\"**\",\"as\":\"claude-haiku-4-5\"}]",
		"old", &found);
	CHECK(found && price.input == 1000000);
	price = price_of("https://x.example",
			 ",\"model_cost_map\":[{\"match\":\"a\",\"as\":\"nothing\"}]", "a", &found);
	CHECK(!found);
	price = price_of("https://x.example", ",\"cost_basis\":\"free\"", "anything", &found);
	CHECK(found);
	CHECK_INT(price_cost_nanousd(&price,
				     &(struct usage_tokens){ .input = MILLION, .output = MILLION }),
		  0);
	price = price_of("https://x.example", ",\"cost_basis\":\"vertex\"", "gemini-2.5-pro",
			 &found);
	CHECK(found && price.tier_above_tokens == 200000);
	price_of("https://x.example", ",\"cost_basis\":\"bedrock-eu\"",
		 "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", &found);
	CHECK(found);
}

static bool said(const char *words)
{
	for (unsigned i = 0; i < diags.n; i++) {
		if (diags.items[i].is_error && strstr(diags.items[i].text, words))
			return true;
	}
	return false;
}

static void map_errors(void)
{
	static const struct {
		const char *map, *want;
	} cases[] = {
		{ "{\"match\":\"a\"}", "`as` is missing" },
		{ "{\"match\":\"[ab]\",\"as\":\"x\"}", "is no part of patterns" },
		{ "{\"match\":\"a\",\"as\":\"x\",\"adjustment\":1e3}", "plain decimal" },
		{ "{\"match\":\"a\",\"as\":\"x\",\"adjustment\":-1}", "between 0 and 1000" },
		{ "{\"match\":\"a\",\"as\":\"x\",\"adjustment\":1.0000001}", "too many digits" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[512];
		struct policy *p = NULL;

		snprintf(
			text, sizeof(text),
			"{\"providers\":{\"p\":{\"baseurl\":\"https://x\",\"models\":[\"m\"],\"model_cost_map\":[%s]}}}",
			cases[i].map);
		CHECK_INT(policy_parse(str_of(text), STR_NULL, &p, &diags), -EINVAL);
		CHECK(said(cases[i].want));
	}
}

static void cost_is_exact(void)
{
	struct policy_price p = { .input = 3000000,
				  .output = 15000000,
				  .cache_read = 300000,
				  .cache_write_5m = 3750000,
				  .cache_write_1h = 6000000,
				  .web_search_nanousd = 10000000,
				  .adjustment_ppm = MILLION };
	struct usage_tokens t = { .input = 1000,
				  .cache_read = 2000,
				  .cache_write_5m = 300,
				  .cache_write_1h = 40,
				  .output = 500,
				  .reasoning = 400,
				  .web_searches = 2 };

	/* 1000*3 + 2000*.3 + 300*3.75 + 40*6 + 500*15 millionths of a dollar, and two searches. */
	CHECK_INT(price_cost_nanousd(&p, &t), (3000 + 600 + 1125 + 240 + 7500) * 1000LL + 20000000);
	CHECK_INT(price_cost_nanousd(&p, &(struct usage_tokens){ 0 }), 0);
	CHECK_INT(price_cost_nanousd(&p, &(struct usage_tokens){ .input = -5, .output = -1 }), 0);
	/* Rounded up, once. */
	p.input = 1;
	p.output = 1;
	CHECK_INT(price_cost_nanousd(&p, &(struct usage_tokens){ .input = 1 }), 1);
	CHECK_INT(price_cost_nanousd(&p, &(struct usage_tokens){ .input = 500, .output = 500 }), 1);
	CHECK_INT(price_cost_nanousd(&p, &(struct usage_tokens){ .input = 500, .output = 501 }), 2);
	p.adjustment_ppm = 500000;
	CHECK_INT(price_cost_nanousd(&p, &(struct usage_tokens){ .input = 1000, .output = 1000 }),
		  1);
	p.adjustment_ppm = 0;
	CHECK_INT(price_cost_nanousd(&p, &t), 0);
}

static void cost_extremes(void)
{
	struct policy_price p = { .input = INT64_MAX,
				  .output = INT64_MAX,
				  .cache_read = INT64_MAX,
				  .cache_write_5m = INT64_MAX,
				  .cache_write_1h = INT64_MAX,
				  .web_search_nanousd = INT64_MAX,
				  .adjustment_ppm = INT64_MAX };
	struct usage_tokens t = { .input = INT64_MAX,
				  .cache_read = INT64_MAX,
				  .cache_write_5m = INT64_MAX,
				  .cache_write_1h = INT64_MAX,
				  .output = INT64_MAX,
				  .web_searches = INT64_MAX };

	CHECK(price_cost_nanousd(&p, &t) == INT64_MAX);
	p.adjustment_ppm = 1;
	CHECK(price_cost_nanousd(&p, &t) == INT64_MAX);
	p = (struct policy_price){ .input = 75000000,
				   .output = 150000000,
				   .adjustment_ppm = MILLION };
	t = (struct usage_tokens){ .input = 1000000000000 };
	CHECK_INT(price_cost_nanousd(&p, &t), 75000000000000000);
}

static void missing_parts_and_tiers(void)
{
	struct policy_price p = { .input = 2000000,
				  .output = -1,
				  .cache_read = -1,
				  .cache_write_5m = -1,
				  .cache_write_1h = -1,
				  .adjustment_ppm = MILLION,
				  .tier_above_tokens = 1000,
				  .tier_input = 4000000,
				  .tier_output = -1,
				  .tier_cache_read = -1,
				  .tier_cache_write_5m = -1,
				  .tier_cache_write_1h = -1 };

	CHECK_INT(price_cost_nanousd(&p, &(struct usage_tokens){ .input = 10,
								 .cache_read = 10,
								 .cache_write_5m = 10,
								 .cache_write_1h = 10,
								 .output = 10 }),
		  80000);
	CHECK_INT(price_cost_nanousd(&p, &(struct usage_tokens){ .input = 1000 }), 2000000);
	CHECK_INT(price_cost_nanousd(&p, &(struct usage_tokens){ .input = 1001 }), 4004000);
	/* The whole prompt counts for the tier. */
	CHECK_INT(price_cost_nanousd(&p, &(struct usage_tokens){ .input = 1, .cache_read = 1000 }),
		  4004000);
}

static void own_table(void)
{
	struct policy *p = provider(
		"https://api.openai.com", "",
		"{ \"date\": \"2030-01-01\", \"bases\": { \"openai\": { \"models\": {"
		"\"**\": { \"input\": 1.000001 }, \"gpt-*\": { \"input\": 2 }, \"gpt-1*\": { \"input\": 3 },"
		"\"gpt-1\": { \"input\": 4, \"output\": 0.5, \"context\": 10, \"max_output\": 5 } } } } }");
	struct policy_price price;

	CHECK(str_eq(policy_prices_date(p), STR("2030-01-01")));
	CHECK(policy_price(p, 0, STR("gpt-1"), &price) && price.input == 4000000 &&
	      price.max_output_tokens == 5);
	CHECK(policy_price(p, 0, STR("gpt-12"), &price) && price.input == 3000000 &&
	      price.output == -1);
	CHECK(policy_price(p, 0, STR("gpt-2"), &price) && price.input == 2000000);
	CHECK(policy_price(p, 0, STR("o1"), &price) && price.input == 1000001);
	policy_free(p);
}

static void table_errors(void)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "{}", "`date` is missing in the price table" },
		{ "{\"date\":\"x\",\"bases\":{\"a\":{\"models\":{\"m\":{\"inputs\":1}}}}}",
		  "did you mean `input`?" },
		{ "{\"date\":\"x\",\"bases\":{\"a\":{\"models\":{\"m\":{\"input\":\"1\"}}}}}",
		  "is a string" },
		{ "{\"date\":\"x\",\"bases\":{\"a\":{\"models\":{\"m\":{\"input\":1e-7}}}}}",
		  "plain decimal" },
		{ "{\"date\":\"x\",\"bases\":{\"a\":{\"models\":{\"m\":{\"input\":0.0000001}}}}}",
		  "too many digits" },
		{ "{\"date\":\"x\",\"bases\":{\"a\":{\"models\":{\"m\":{\"input\":-1}}}}}",
		  "between 0 and a million" },
		{ "{\"date\":\"x\",\"bases\":{\"a\":{\"like\":[\"b\"]}}}",
		  "`like` names no basis" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct price_table t = { 0 };
		struct arena arena = { 0 };

		memset(&diags, 0, sizeof(diags));
		CHECK_INT(price_table_parse(str_of(cases[i].text), &arena, &t, &diags), -EINVAL);
		CHECK(strstr(diags.items[0].text, cases[i].want) != NULL);
		arena_fini(&arena);
	}
}

TESTS(T(builtin), T(table_is_sound), T(maps_and_basis), T(map_errors), T(cost_is_exact),
      T(cost_extremes), T(missing_parts_and_tiers), T(own_table), T(table_errors))
