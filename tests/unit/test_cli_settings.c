/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/settings.h"
#include "tests/unit/test.h"

#include <cjson/cJSON.h>
#include <errno.h>

static struct {
	const char *name, *value;
} world[8];
static char got[8192];

static const char *current(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(world); i++)
		if (world[i].name && !strcmp(world[i].name, name))
			return world[i].value;
	return NULL;
}

static void collect(void *arg, const char *name, const char *value)
{
	size_t n = strlen(got);

	(void)arg;
	snprintf(got + n, sizeof(got) - n, "%s=%s\n", name, value ? value : "(none)");
}

static void settle(const struct settings *s)
{
	got[0] = '\0';
	settings_each(s, current, collect, NULL);
}

#define HAS(line)     CHECK(strstr(got, line "\n") != NULL)
#define HAS_NOT(part) CHECK(strstr(got, part) == NULL)

static void everything(void)
{
	memset(world, 0, sizeof(world));
	settle(&(struct settings){
		.port = 4117, .families = FAMILY_ALL, .anthropic_api_key = true });
	HAS("ANTHROPIC_BASE_URL=http://127.0.0.1:4117");
	HAS("ANTHROPIC_AUTH_TOKEN=-");
	HAS("ANTHROPIC_API_KEY=-");
	HAS("OPENAI_BASE_URL=http://127.0.0.1:4117/v1");
	HAS("OPENAI_API_KEY=-");
	HAS("GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:4117");
	HAS("GEMINI_API_KEY=-");
	HAS_NOT("GOOGLE_API_KEY"); /* was not set, and two would be warned about */
	HAS_NOT("(none)");
	HAS_NOT("NO_PROXY");
}

static void trusted_certificates(void)
{
	memset(world, 0, sizeof(world));
	world[0].name = "REQUESTS_CA_BUNDLE";
	world[0].value = "/corp.pem";
	settle(&(struct settings){ .port = 1, .families = FAMILY_ALL, .bundle = "/run/x/ca/bundle.pem" });
	HAS("SSL_CERT_FILE=/run/x/ca/bundle.pem");
	HAS("NODE_EXTRA_CA_CERTS=/run/x/ca/bundle.pem");
	HAS_NOT("REQUESTS_CA_BUNDLE"); /* is the caller's */
	settle(&(struct settings){ .port = 1, .families = FAMILY_ALL });
	HAS_NOT("SSL_CERT_FILE");
}

static void real_keys_go(void)
{
	memset(world, 0, sizeof(world));
	world[0].name = "ANTHROPIC_API_KEY";
	world[1].name = "GOOGLE_API_KEY";
	world[2].name = "OPENROUTER_API_KEY";
	world[3].name = "CLAUDE_CODE_OAUTH_TOKEN";
	for (unsigned i = 0; i < 4; i++)
		world[i].value = "sk-real";
	settle(&(struct settings){ .port = 1, .families = FAMILY_ALL });
	HAS("ANTHROPIC_API_KEY=(none)");
	HAS("GOOGLE_API_KEY=-");
	HAS("OPENROUTER_API_KEY=(none)");
	HAS("CLAUDE_CODE_OAUTH_TOKEN=(none)");
	HAS_NOT("sk-real");
	settle(&(struct settings){ .port = 1, .families = FAMILY_ALL, .keep_keys = true });
	HAS_NOT("_KEY=");
	HAS_NOT("TOKEN");
	HAS("ANTHROPIC_BASE_URL=http://127.0.0.1:1");
}

static void families(void)
{
	memset(world, 0, sizeof(world));
	settle(&(struct settings){
		.port = 1, .families = FAMILY_OPENAI, .anthropic_api_key = true });
	HAS("OPENAI_BASE_URL=http://127.0.0.1:1/v1");
	HAS_NOT("ANTHROPIC");
	HAS_NOT("GEMINI");
	settle(&(struct settings){ .port = 1 });
	CHECK_STR(got, "");
}

static void proxies(void)
{
	memset(world, 0, sizeof(world));
	world[0].name = "http_proxy";
	world[0].value = "http://proxy:3128";
	settle(&(struct settings){ .port = 1, .families = FAMILY_OPENAI });
	HAS("NO_PROXY=127.0.0.1,localhost");
	HAS("no_proxy=127.0.0.1,localhost");
	world[1].name = "NO_PROXY";
	world[1].value = ".corp";
	settle(&(struct settings){ .port = 1, .families = FAMILY_OPENAI });
	HAS("NO_PROXY=.corp,127.0.0.1,localhost");
	world[1].value = "localhost,127.0.0.1";
	settle(&(struct settings){ .port = 1, .families = FAMILY_OPENAI });
	HAS_NOT("NO_PROXY");
	world[1].value = "*";
	settle(&(struct settings){ .port = 1, .families = FAMILY_OPENAI });
	HAS_NOT("NO_PROXY");
}

static void snippets(void)
{
	static const char *const json[] = { "claude", "gemini", "opencode" };
	struct buf b;

	buf_init(&b, 65536);
	for (size_t i = 0; i < ARRAY_SIZE(json); i++) {
		cJSON *j;

		buf_reset(&b, 65536);
		CHECK_INT(settings_snippet(json[i], 4117, &b), 0);
		j = cJSON_ParseWithLength(buf_head(&b), buf_len(&b));
		CHECK(j != NULL);
		cJSON_Delete(j);
	}
	buf_reset(&b, 65536);
	CHECK_INT(settings_snippet("codex", 4242, &b), 0);
	buf_append(&b, "", 1);
	CHECK(strstr(buf_head(&b), "base_url = \"http://127.0.0.1:4242/v1\"\n") != NULL);
	CHECK_INT(settings_snippet("nothing", 1, &b), -ENOENT);
	buf_fini(&b);
	buf_init(&b, 10);
	CHECK_INT(settings_snippet("codex", 1, &b), -ENOBUFS);
	buf_fini(&b);
}

TESTS(T(everything), T(trusted_certificates), T(real_keys_go), T(families), T(proxies), T(snippets))
