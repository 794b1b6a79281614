/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/settings.h"

#include <errno.h>
#include <stdio.h>

#define VALUE_BYTES 4096

enum { IF_SET = 1, IS_KEY = 2, SDK_ONLY = 4 };

/* The gateway listens on 127.0.0.1 in every network namespace, so one set of values fits all. */
static const struct {
	const char *name;
	const char *value; /* "%" stands for http://127.0.0.1:PORT */
	unsigned family, flags;
} variables[] = {
	{ "ANTHROPIC_BASE_URL", "%", FAMILY_ANTHROPIC, 0 },
	{ "ANTHROPIC_API_BASE", "%", FAMILY_ANTHROPIC, 0 }, /* LiteLLM, Aider */
	{ "ANTHROPIC_HOST", "%", FAMILY_ANTHROPIC, 0 },	    /* Goose */
	{ "ANTHROPIC_AUTH_TOKEN", "-", FAMILY_ANTHROPIC, IS_KEY },
	{ "ANTHROPIC_API_KEY", "-", FAMILY_ANTHROPIC, IS_KEY | SDK_ONLY },
	{ "OPENAI_BASE_URL", "%/v1", FAMILY_OPENAI, 0 },
	{ "OPENAI_API_BASE", "%/v1", FAMILY_OPENAI, 0 }, /* LiteLLM, Aider, older SDKs */
	{ "OPENAI_HOST", "%", FAMILY_OPENAI, 0 },	 /* Goose */
	{ "OPENAI_API_KEY", "-", FAMILY_OPENAI, IS_KEY },
	{ "CODEX_API_KEY", "-", FAMILY_OPENAI, IS_KEY }, /* codex exec */
	{ "GOOGLE_GEMINI_BASE_URL", "%", FAMILY_GEMINI, 0 },
	{ "GEMINI_API_KEY", "-", FAMILY_GEMINI, IS_KEY },
	/* Google's SDKs warn when both are set. */
	{ "GOOGLE_API_KEY", "-", FAMILY_GEMINI, IS_KEY | IF_SET },
};

/* Keys of model providers that a sandbox has no use for: the gateway holds its own. */
static const char *const secrets[] = {
	"CLAUDE_CODE_OAUTH_TOKEN",
	"AWS_BEARER_TOKEN_BEDROCK",
	"AZURE_API_KEY",
	"AZURE_OPENAI_API_KEY",
	"CEREBRAS_API_KEY",
	"COHERE_API_KEY",
	"CO_API_KEY",
	"DASHSCOPE_API_KEY",
	"DEEPINFRA_API_KEY",
	"DEEPSEEK_API_KEY",
	"FIREWORKS_API_KEY",
	"GOOGLE_GENERATIVE_AI_API_KEY",
	"GROQ_API_KEY",
	"MISTRAL_API_KEY",
	"MOONSHOT_API_KEY",
	"NVIDIA_API_KEY",
	"OPENROUTER_API_KEY",
	"PERPLEXITY_API_KEY",
	"REPLICATE_API_TOKEN",
	"SAMBANOVA_API_KEY",
	"TOGETHER_API_KEY",
	"VOYAGE_API_KEY",
	"XAI_API_KEY",
	"ZAI_API_KEY",
	"ZHIPUAI_API_KEY",
};

/*
 * A client that was led to the gateway must accept its certificate. Each of these names a file with all certificates to
 * trust; the bundle holds the system's, too. Java has no such variable: `sallyport ca install` in its image.
 */
static const char *const trust[] = {
	"SSL_CERT_FILE",	/* OpenSSL, Go, Ruby, rustls */
	"NODE_EXTRA_CA_CERTS",
	"REQUESTS_CA_BUNDLE",	/* Python's requests */
	"CURL_CA_BUNDLE",
	"GIT_SSL_CAINFO",
	"CODEX_CA_CERTIFICATE",
	"AWS_CA_BUNDLE",
	"PIP_CERT",
	"CARGO_HTTP_CAINFO",
	"DENO_CERT",
};

static const char *const proxies[] = { "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY" };

static void emit_url(const char *format, uint16_t port, settings_fn fn, void *arg, const char *name)
{
	char value[64];

	if (format[0] == '%') {
		snprintf(value, sizeof(value), "http://127.0.0.1:%u%s", port, format + 1);
		format = value;
	}
	fn(arg, name, format);
}

/* A proxy for http: would get what is meant for the door. */
static void emit_no_proxy(const char *(*current)(const char *name), settings_fn fn, void *arg)
{
	const char *upper = current("NO_PROXY"), *lower = current("no_proxy");
	const char *old = lower && *lower ? lower : upper ? upper : "";
	char value[VALUE_BYTES];
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(proxies); i++)
		any = any || (current(proxies[i]) && *current(proxies[i]));
	if (!any || !strcmp(old, "*") || strstr(old, "127.0.0.1"))
		return;
	if (snprintf(value, sizeof(value), "%s%s127.0.0.1,localhost", old, *old ? "," : "") >=
	    (int)sizeof(value))
		return;
	fn(arg, "NO_PROXY", value);
	fn(arg, "no_proxy", value);
}

static const char *nothing_set(const char *name)
{
	(void)name;
	return NULL;
}

void settings_trust_each(const char *bundle, const char *(*current)(const char *name), settings_fn fn, void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(trust); i++)
		if (!current(trust[i]))
			fn(arg, trust[i], bundle);
}

void settings_trust(const char *bundle, settings_fn fn, void *arg)
{
	settings_trust_each(bundle, nothing_set, fn, arg);
}

const char *settings_bundle(const char *run_dir, char *ret, size_t size)
{
	if (snprintf(ret, size, "%s/ca/bundle.pem", run_dir) >= (int)size || access(ret, R_OK) < 0)
		return NULL;
	return ret;
}

void settings_each(const struct settings *s, const char *(*current)(const char *name),
		   settings_fn fn, void *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		const char *now = current(variables[i].name);

		if (!(variables[i].family & s->families) ||
		    (s->keep_keys && variables[i].flags & IS_KEY))
			continue;
		if (variables[i].flags & IF_SET && !now)
			continue;
		if (!(variables[i].flags & SDK_ONLY) || s->anthropic_api_key)
			emit_url(variables[i].value, s->port, fn, arg, variables[i].name);
		else if (now)
			fn(arg, variables[i].name, NULL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(secrets) && !s->keep_keys; i++)
		if (current(secrets[i]))
			fn(arg, secrets[i], NULL);
	emit_no_proxy(current, fn, arg);
	if (s->bundle)
		settings_trust_each(s->bundle, current, fn, arg);
}

/* ---------------------------------------------------------------- files of clients */

static const struct {
	const char *client, *text; /* every "%" stands for http://127.0.0.1:PORT */
} snippets[] = {
	{ "claude", "{\n"
		    "  \"env\": {\n"
		    "    \"ANTHROPIC_BASE_URL\": \"%\",\n"
		    "    \"ANTHROPIC_AUTH_TOKEN\": \"-\"\n"
		    "  }\n"
		    "}\n" },
	{ "codex", "model_provider = \"sallyport\"\n"
		   "\n"
		   "[model_providers.sallyport]\n"
		   "name = \"Sallyport\"\n"
		   "base_url = \"%/v1\"\n"
		   "wire_api = \"responses\"\n"
		   "requires_openai_auth = false\n" },
	{ "gemini", "{\n"
		    "  \"security\": { \"auth\": { \"selectedType\": \"gemini-api-key\" } }\n"
		    "}\n" },
	{ "opencode",
	  "{\n"
	  "  \"$schema\": \"https://opencode.ai/config.json\",\n"
	  "  \"provider\": {\n"
	  "    \"anthropic\": { \"options\": { \"baseURL\": \"%/v1\", \"apiKey\": \"-\" } },\n"
	  "    \"openai\": { \"options\": { \"baseURL\": \"%/v1\", \"apiKey\": \"-\" } },\n"
	  "    \"google\": { \"options\": { \"baseURL\": \"%/v1beta\", \"apiKey\": \"-\" } }\n"
	  "  }\n"
	  "}\n" },
};

int settings_snippet(const char *client, uint16_t port, struct buf *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(snippets); i++) {
		const char *p = snippets[i].text;
		int err = 0;

		if (strcmp(snippets[i].client, client) != 0)
			continue;
		while (*p && !err) {
			size_t n = strcspn(p, "%");

			err = buf_append(out, p, n);
			p += n;
			if (*p != '%' || err)
				continue;
			err = buf_printf(out, "http://127.0.0.1:%u", port);
			p++;
		}
		return err;
	}
	return -ENOENT;
}
