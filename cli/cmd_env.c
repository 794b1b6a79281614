/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport env`: the settings of clients for a shell, a container, or a client's own file. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"
#include "cli/settings.h"
#include "common/log.h"

const char *const env_format_words[] = { "shell", "fish",  "docker", "docker-ca", "json",
					 "claude", "codex", "gemini", "opencode",  NULL };

struct env_args {
	struct cli_common common;
	const char *format;
	int64_t port;
	bool api_key;
};
const struct cli_option env_options[] = {
	{ "format", 'f', CLI_WORD, CLI_AT(env_args, format), "FORMAT", env_format_words, "one of" },
	{ "port", 'p', CLI_NUMBER, CLI_AT(env_args, port), "PORT", NULL,
	  "of the door; default: ask the daemon, else the configuration" },
	{ "api-key", 0, CLI_FLAG, CLI_AT(env_args, api_key), NULL, NULL,
	  "set ANTHROPIC_API_KEY too, for SDKs that want it" },
	{ 0 },
};

/* The daemon knows which port was free; who may not ask it takes the configured one. */
static int env_port(const struct env_args *o, const struct config *config, uint16_t *ret)
{
	struct control c = { .fd = -1 };
	const struct msg_status *s;

	if (o->port > 65535)
		return cli_fail(EXIT_USAGE, "--port takes a port, up to 65535");
	*ret = (uint16_t)o->port;
	if (o->port)
		return EXIT_OK;
	*ret = config->door.port;
	if (!control_open_at(config->run_dir.s, &c) && !control_ask(&c, MSG_CTL_STATUS, NULL, 0)) {
		s = control_payload(&c, MSG_STATUS, sizeof(*s));
		if (s && s->host_port)
			*ret = (uint16_t)s->host_port;
	}
	control_close(&c);
	return EXIT_OK;
}

/* Values are URLs and "-" of our own, and a proxy list that may hold anything: quoted for the
 * shell. */
static void put_quoted(const char *value, const char *escape)
{
	putchar('\'');
	for (const char *p = value; *p; p++)
		if (*p == '\'')
			fputs(escape, stdout);
		else
			putchar(*p);
	putchar('\'');
}

static void put_shell(void *arg, const char *name, const char *value)
{
	(void)arg;
	if (value) {
		printf("export %s=", name);
		put_quoted(value, "'\\''");
		putchar('\n');
	} else {
		printf("unset %s\n", name);
	}
}

static void put_fish(void *arg, const char *name, const char *value)
{
	(void)arg;
	if (value) {
		printf("set -gx %s ", name);
		put_quoted(value, "\\'");
		putchar('\n');
	} else {
		printf("set -e %s\n", name);
	}
}

/* As docker run --env-file and systemd's EnvironmentFile= read it. */
static void put_docker(void *arg, const char *name, const char *value)
{
	(void)arg;
	if (value)
		printf("%s=%s\n", name, value);
}

static void put_json(void *arg, const char *name, const char *value)
{
	if (value)
		json_out_text(arg, name, str_of(value));
}

/* Another machine's or container's environment is not ours. */
static const char *no_current(const char *name)
{
	(void)name;
	return NULL;
}

static const char *our_current(const char *name)
{
	return getenv(name);
}

/* Arguments of `docker run`: the folder, so that the container sees a CA that comes later. */
static void put_docker_ca(void *arg, const char *name, const char *value)
{
	(void)arg;
	printf("-e %s=%s\n", name, value);
}

static int print_docker_ca(const char *bundle)
{
	const char *slash = bundle ? strrchr(bundle, '/') : NULL;

	if (!slash)
		return cli_fail(EXIT_FAILED, "there is no CA to hand on: `sallyport ca show` says why");
	printf("-v %.*s:%.*s:ro\n", (int)(slash - bundle), bundle, (int)(slash - bundle), bundle);
	settings_trust(bundle, put_docker_ca, NULL);
	return EXIT_OK;
}

static int print_json(const struct settings *s)
{
	struct json_out j;

	json_out_init(&j);
	json_out_open(&j, NULL, '{');
	settings_each(s, no_current, put_json, &j);
	json_out_close(&j, '}');
	return json_out_print(&j);
}

static int print_snippet(const char *client, uint16_t port)
{
	struct buf b;
	int err;

	buf_init(&b, 65536);
	err = settings_snippet(client, port, &b);
	if (!err)
		fwrite(buf_head(&b), 1, buf_len(&b), stdout);
	buf_fini(&b);
	return err ? cli_fail(EXIT_FAILED, "the settings of %s cannot be written: %s", client,
			      errno_text(err))
		   : EXIT_OK;
}

static int print_settings(const struct env_args *o, struct settings *s)
{
	if (!strcmp(o->format, "docker-ca"))
		return print_docker_ca(s->bundle);
	if (o->common.json || !strcmp(o->format, "json"))
		return print_json(s);
	if (!strcmp(o->format, "shell")) {
		settings_each(s, our_current, put_shell, NULL);
	} else if (!strcmp(o->format, "fish")) {
		settings_each(s, our_current, put_fish, NULL);
	} else if (!strcmp(o->format, "docker")) {
		/* Variables that name a file which is not mounted would break all TLS of the container: docker-ca has both. */
		s->bundle = NULL;
		settings_each(s, no_current, put_docker, NULL);
	} else {
		return print_snippet(o->format, s->port);
	}
	return EXIT_OK;
}

int cmd_env(int argc, char **argv)
{
	struct env_args o = { .format = "shell" };
	struct settings s = { .families = FAMILY_ALL };
	struct config *config = NULL;
	char bundle[MSG_PATH_BYTES];
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("env", &w, 0, 0) : code;
	if (code >= 0)
		return code;
	code = client_config(&o.common, &config);
	code = code ? code : env_port(&o, config, &s.port);
	if (!code) {
		s.anthropic_api_key = o.api_key;
		s.bundle = settings_bundle(config->run_dir.s, bundle, sizeof(bundle));
		code = print_settings(&o, &s);
	}
	config_free(config);
	return code;
}
