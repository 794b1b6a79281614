/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/client.h"

#include "tests/unit/test.h"

static void agents(void)
{
	static const struct {
		const char *agent, *name;
	} cases[] = {
		{ "claude-cli/2.1.233 (external, sdk-ts, agent-sdk/0.3.233)",
		  "claude-code/2.1.233" },
		{ "codex_cli_rs/0.169.0 (Debian 12; x86_64) vscode/1.2", "codex/0.169.0" },
		{ "codex_exec/0.169.0-alpha.1", "codex/0.169.0-alpha.1" },
		{ "GeminiCLI/0.61.0/gemini-2.5-pro (linux; x64)", "gemini-cli/0.61.0" },
		{ "GeminiCLI-acp/0.61.0", "gemini-cli/0.61.0" },
		{ "opencode/1.18.2 ai-sdk/provider-utils/4.0.4 runtime/bun/1.3",
		  "opencode/1.18.2" },
		{ "ai-sdk/openai/3.0.7 ai-sdk/provider-utils/4.0.4 runtime/node.js/22", "ai-sdk" },
		{ "ai/7.0.0-beta.183 ai-sdk/provider-utils/4.0.29", "ai-sdk/7.0.0-beta.183" },
		{ "OpenAI/JS 6.16.0", "openai-js/6.16.0" },
		{ "OpenAI/Python 1.99.7", "openai-python/1.99.7" },
		{ "AsyncOpenAI/Python 1.26.0", "openai-python/1.26.0" },
		{ "Anthropic/JS 1.11.0", "anthropic-js/1.11.0" },
		{ "Anthropic/Python 0.76.0", "anthropic-python/0.76.0" },
		{ "google-genai-sdk/1.38.0 gl-node/v25.2.1", "google-genai/1.38.0" },
		{ "GitHubCopilotChat/0.35.0", "copilot/0.35.0" },
		{ "copilot/1.0.102 (linux)", "copilot/1.0.102" },
		{ "Boto3/1.35.56 md/Botocore#1.35.56", "boto3/1.35.56" },
		{ "litellm/1.80.0", "litellm/1.80.0" },
		{ "Faraday v2.14.3", "ruby/2.14.3" },
		{ "python-requests/2.32.3", "python-requests/2.32.3" },
		{ "Go-http-client/1.1", "go-http/1.1" },
		{ "curl/8.5.0", "curl/8.5.0" },
		{ "CURL", "curl" },
		{ "Mozilla/5.0 (it has pi and ai in it)", "other" },
		{ "notcurl/1", "other" },
		{ "curling/1", "other" },
		{ "", "other" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char name[64];

		client_name(str_of(cases[i].agent), name, sizeof(name));
		CHECK_STR(name, cases[i].name);
	}
}

static void names_are_cut_at_the_size(void)
{
	char name[8], huge[2000];

	client_name(STR("claude-cli/2.1.233"), name, sizeof(name));
	CHECK_STR(name, "claude-");
	memset(huge, 'x', sizeof(huge));
	client_name((struct str){ huge, sizeof(huge) }, name, sizeof(name));
	CHECK_STR(name, "other");
	client_name(STR_NULL, name, sizeof(name));
	CHECK_STR(name, "other");
}

static void session_headers_are_lower_case_and_end(void)
{
	size_t n = 0;

	for (; client_session_headers[n]; n++)
		for (const char *p = client_session_headers[n]; *p; p++)
			CHECK(*p < 'A' || *p > 'Z');
	CHECK(n > 8);
	CHECK_STR(client_session_headers[0], "x-claude-code-session-id");
}

TESTS(T(agents), T(names_are_cut_at_the_size), T(session_headers_are_lower_case_and_end))
