/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/client.h"

#include <ctype.h>

#include "common/base.h"

/* Best first: those that a harness sets for each session, then those of a thread or task, then the
 * generic. */
const char *const client_session_headers[] = {
	"x-claude-code-session-id", "session_id",	 "session-id",
	"x-codex-session-id",	    "thread-id",	 "x-interaction-id",
	"x-client-session-id",	    "x-kilocode-taskid", "x-mux-workspace-id",
	"x-opencode-session",	    "x-session-id",	 "x-session-affinity",
	"x-conversation-id",	    "conversation_id",	 NULL,
};

/*
 * Products of a User-Agent and what they are called here. Order counts: harnesses before the SDKs
 * that they are built on, SDKs before HTTP libraries.
 */
static const struct client {
	const char *product; /* a name before "/", or a whole word; case does not count */
	const char *name;
} clients[] = {
	{ "claude-cli", "claude-code" },
	{ "claude-code", "claude-code" },
	{ "claude-vscode", "claude-code" },
	{ "codex_cli_rs", "codex" },
	{ "codex_exec", "codex" },
	{ "codex-tui", "codex" },
	{ "codex_vscode", "codex" },
	{ "codex_sdk_ts", "codex" },
	{ "codex-cli", "codex" },
	{ "codex", "codex" },
	{ "GeminiCLI", "gemini-cli" },
	{ "GeminiCLI-acp", "gemini-cli" },
	{ "GeminiCLI-tui", "gemini-cli" },
	{ "QwenCode", "qwen-code" },
	{ "opencode", "opencode" },
	{ "GitHubCopilotChat", "copilot" },
	{ "copilot-cli", "copilot" },
	{ "copilot", "copilot" },
	{ "Kilo-Code", "kilo" },
	{ "Roo-Code", "roo" },
	{ "Cline", "cline" },
	{ "goose", "goose" },
	{ "Cursor", "cursor" },
	{ "Zed", "zed" },
	{ "Continue", "continue" },
	{ "crush", "crush" },
	{ "Charm-Crush", "crush" },
	{ "factory-cli", "droid" },
	{ "amp", "amp" },
	{ "pi", "pi" },
	{ "aider", "aider" },
	{ "Charm-Fantasy", "fantasy" },
	{ "agent-framework-python", "agent-framework" },
	{ "mini-swe-agent", "mini-swe-agent" },
	{ "litellm", "litellm" },
	{ "langchain", "langchain" },
	{ "OpenAI/JS", "openai-js" },
	{ "OpenAI/Python", "openai-python" },
	{ "AsyncOpenAI/Python", "openai-python" },
	{ "AzureOpenAI/Python", "openai-python" },
	{ "AsyncAzureOpenAI/Python", "openai-python" },
	{ "Agents/JavaScript", "openai-agents-js" },
	{ "Agents/Python", "openai-agents-python" },
	{ "OpenAI/Go", "openai-go" },
	{ "OpenAI/Java", "openai-java" },
	{ "OpenAIClientImpl/Java", "openai-java" },
	{ "OpenAI/Ruby", "openai-ruby" },
	{ "OpenAI", "openai-dotnet" },
	{ "Anthropic/JS", "anthropic-js" },
	{ "Anthropic/Python", "anthropic-python" },
	{ "AsyncAnthropic/Python", "anthropic-python" },
	{ "AnthropicVertex/Python", "anthropic-python" },
	{ "AsyncAnthropicVertex/Python", "anthropic-python" },
	{ "AnthropicBedrock/Python", "anthropic-python" },
	{ "AsyncAnthropicBedrock/Python", "anthropic-python" },
	{ "Anthropic/Go", "anthropic-go" },
	{ "Anthropic/Ruby", "anthropic-ruby" },
	{ "AnthropicClientImpl/Java", "anthropic-java" },
	{ "google-genai-sdk", "google-genai" },
	{ "genai-js", "google-genai" },
	{ "mistral-client-python", "mistral-python" },
	{ "Groq/Python", "groq-python" },
	{ "ai", "ai-sdk" },
	{ "ai-sdk", "ai-sdk" },
	{ "Boto3", "boto3" },
	{ "aws-sdk-js", "aws-sdk-js" },
	{ "python-requests", "python-requests" },
	{ "python-httpx", "python-httpx" },
	{ "aiohttp", "aiohttp" },
	{ "Python-urllib", "python-urllib" },
	{ "Go-http-client", "go-http" },
	{ "reqwest", "reqwest" },
	{ "node-fetch", "node-fetch" },
	{ "undici", "node" },
	{ "node", "node" },
	{ "Bun", "bun" },
	{ "Deno", "deno" },
	{ "axios", "axios" },
	{ "okhttp", "okhttp" },
	{ "Faraday", "ruby" },
	{ "Ruby", "ruby" },
	{ "curl", "curl" },
	{ "Wget", "wget" },
	{ "PostmanRuntime", "postman" },
};

static bool is_word_byte(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.' || c == '/' ||
	       c == '@';
}

/* Where the product's name ends in the agent, if it stands there as a word of its own. */
static const char *client_find(struct str agent, struct str product)
{
	for (size_t i = 0; i + product.n <= agent.n; i++) {
		const char *at = agent.s + i, *end = at + product.n;

		if (strncasecmp(at, product.s, product.n) != 0)
			continue;
		if (i && is_word_byte(at[-1]))
			continue;
		/* "ai" and "pi" are words of many languages; as products they have a version. */
		if (end < agent.s + agent.n && *end == '/')
			return end;
		if (product.n > 3 && (end == agent.s + agent.n || !is_word_byte(*end)))
			return end;
	}
	return NULL;
}

/* "/1.2.3 (…)" or " 1.2.3": the version, or nothing. */
static struct str client_version(const char *at, const char *end)
{
	const char *from;

	while (at < end && (*at == '/' || *at == ' ' || *at == 'v' || *at == ':'))
		at++;
	from = at;
	while (at < end && (isalnum((unsigned char)*at) || *at == '.' || *at == '-' || *at == '+'))
		at++;
	if (at == from || !isdigit((unsigned char)*from))
		return STR_NULL;
	return (struct str){ from, (size_t)(at - from) };
}

void client_name(struct str user_agent, char *ret, size_t size)
{
	/* Rationale: recorded agents are below 200 bytes; more tells nothing. */
	struct str agent = { user_agent.s, MIN(user_agent.n, (size_t)512) };

	for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
		const char *end = client_find(agent, str_of(clients[i].product));
		struct str version;

		if (!end)
			continue;
		version = client_version(end, agent.s + agent.n);
		if (version.n)
			snprintf(ret, size, "%s/%.*s", clients[i].name, STR_ARG(version));
		else
			snprintf(ret, size, "%s", clients[i].name);
		return;
	}
	str_copy(ret, size, STR("other"));
}
