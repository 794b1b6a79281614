/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/route.h"
#include "tests/unit/test.h"

static void paths(void)
{
	static const struct {
		const char *method, *target;
		enum route_kind kind;
		enum wire_format format;
		const char *upstream, *model, *provider;
		bool stream;
	} cases[] = {
		{ "POST", "/v1/messages", ROUTE_MODEL, WIRE_ANTHROPIC_MESSAGES, "/v1/messages", "", "", false },
		{ "POST", "/v1/messages?beta=true", ROUTE_MODEL, WIRE_ANTHROPIC_MESSAGES, "/v1/messages?beta=true", "", "", false },
		{ "POST", "/v1/v1/messages", ROUTE_MODEL, WIRE_ANTHROPIC_MESSAGES, "/v1/messages", "", "", false },
		{ "POST", "/messages", ROUTE_MODEL, WIRE_ANTHROPIC_MESSAGES, "/v1/messages", "", "", false },
		{ "POST", "/v1/messages/count_tokens", ROUTE_AROUND, WIRE_ANTHROPIC_MESSAGES, "/v1/messages/count_tokens", "", "", false },
		{ "POST", "/chat/completions", ROUTE_MODEL, WIRE_OPENAI_CHAT, "/v1/chat/completions", "", "", false },
		{ "POST", "/openai/v1/chat/completions", ROUTE_MODEL, WIRE_OPENAI_CHAT, "/v1/chat/completions", "", "", false },
		{ "POST", "/v1/responses", ROUTE_MODEL, WIRE_OPENAI_RESPONSES, "/v1/responses", "", "", false },
		{ "POST", "/v1beta/models/gemini-2.5-pro:generateContent?key=AIza&x=1", ROUTE_MODEL, WIRE_GEMINI,
		  "/v1beta/models/gemini-2.5-pro:generateContent?x=1", "gemini-2.5-pro", "", false },
		{ "POST", "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", ROUTE_MODEL, WIRE_GEMINI,
		  "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse", "gemini-2.5-pro", "", true },
		{ "POST", "/v1/models/gemini-2.5-pro:generateContent", ROUTE_MODEL, WIRE_GEMINI,
		  "/v1/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro", "", false },
		{ "POST", "/models/gemini-2.5-pro:countTokens", ROUTE_AROUND, WIRE_GEMINI,
		  "/v1beta/models/gemini-2.5-pro:countTokens", "gemini-2.5-pro", "", false },
		{ "POST", "/p/azure/v1/chat/completions", ROUTE_MODEL, WIRE_OPENAI_CHAT, "/v1/chat/completions", "", "azure", false },
		{ "POST", "/v1/messages/batches", ROUTE_NOT_FOUND, WIRE_NONE, "/v1/messages/batches", "", "", false },
		{ "TRACE", "/v1/messages/count_tokens", ROUTE_NOT_FOUND, WIRE_ANTHROPIC_MESSAGES, "/v1/messages/count_tokens", "", "", false },
		{ "POST", "/v1/messages/../messages", ROUTE_NOT_FOUND, WIRE_NONE, "", "", "", false },
		{ "POST", "/v1/%2E%2e/v1/messages", ROUTE_NOT_FOUND, WIRE_NONE, "", "", "", false },
		{ "POST", "/v1beta/models/a:x/../b:generateContent", ROUTE_NOT_FOUND, WIRE_NONE, "", "", "", false },
		{ "POST", "/v1beta/models/b:generateContent/models/a:generateContent", ROUTE_NOT_FOUND, WIRE_NONE,
		  "/v1beta/models/b:generateContent/models/a:generateContent", "", "", false },
		{ "POST", "/v1beta/models/a:batchGenerateContent", ROUTE_NOT_FOUND, WIRE_NONE, "/v1beta/models/a:batchGenerateContent", "", "", false },
		{ "POST", "/v1beta/models/a:generateContent:countTokens", ROUTE_NOT_FOUND, WIRE_NONE, "/v1beta/models/a:generateContent:countTokens", "", "", false },
		{ "GET", "/v1/models", ROUTE_MODELS, WIRE_OPENAI_CHAT, "", "", "", false },
		{ "GET", "/v1/models?limit=1000", ROUTE_MODELS, WIRE_OPENAI_CHAT, "", "", "", false },
		{ "GET", "/v1beta/models", ROUTE_MODELS, WIRE_GEMINI, "", "", "", false },
		{ "HEAD", "/anything", ROUTE_PROBE, WIRE_NONE, "", "", "", false },
		{ "GET", "/v1/messages", ROUTE_NOT_FOUND, WIRE_ANTHROPIC_MESSAGES, "/v1/messages", "", "", false },
		{ "POST", "/v1/messagesx", ROUTE_NOT_FOUND, WIRE_NONE, "/v1/messagesx", "", "", false },
		{ "POST", "/v1x/messages", ROUTE_NOT_FOUND, WIRE_NONE, "/v1/v1x/messages", "", "", false },
		{ "GET", "/", ROUTE_NOT_FOUND, WIRE_NONE, "/v1/", "", "", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct route r;

		CHECK(route_parse(str_of(cases[i].method), str_of(cases[i].target), false, &r));
		if (r.kind != cases[i].kind || r.format != cases[i].format)
			printf("case %zu: %s\n", i, cases[i].target);
		CHECK_INT(r.kind, cases[i].kind);
		CHECK_INT(r.format, cases[i].format);
		CHECK_STR(r.target, cases[i].upstream);
		CHECK_STR(r.model, cases[i].model);
		CHECK_STR(r.provider, cases[i].provider);
		CHECK_INT(r.path_stream, cases[i].stream);
	}
}

static void upgrade_is_refused(void)
{
	struct route r;

	CHECK(route_parse(STR("GET"), STR("/v1/responses"), true, &r));
	CHECK_INT(r.kind, ROUTE_UPGRADE);
}

static void model_in_path_is_replaced(void)
{
	struct route r;

	CHECK(route_parse(STR("POST"), STR("/v1beta/models/google%2Fgemini-2:generateContent"), false, &r));
	CHECK_STR(r.model, "google/gemini-2");
	CHECK(route_set_model(&r, STR("gemini-2")));
	CHECK_STR(r.target, "/v1beta/models/gemini-2:generateContent");
}

static void too_long(void)
{
	static char target[ROUTE_PATH_BYTES + 10] = "/v1/messages?";
	struct route r;

	memset(target + 13, 'a', sizeof(target) - 14);
	CHECK(!route_parse(STR("POST"), str_of(target), false, &r));
}

TESTS(T(paths), T(upgrade_is_refused), T(model_in_path_is_replaced), T(too_long))
