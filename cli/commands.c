/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands, and those commands that only speak of it: help, completion, version. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "common/log.h"
#include "common/role.h"
#include "policy/config.h"
#include "policy/diag.h"

static int cmd_daemon(int argc, char **argv);

struct daemon_args {
	struct cli_common common;
	bool clean;
};
static const struct cli_option daemon_options[] = {
	{ "clean", 0, CLI_FLAG, CLI_AT(daemon_args, clean), NULL, NULL,
	  "at the end take off all labels, programs and cgroups" },
	{ 0 },
};

const struct command commands[] = {
	{ "run", "[OPTION]... [--] COMMAND [ARGUMENT]...",
	  "run a command in a labelled cgroup of its own", cmd_run, .rest_is_raw = true,
	  .options = run_options,
	  .more = "The command sees a base URL and the key \"-\" for each client; provider keys in the\n"
		  "environment do not reach it. Its exit code is the exit code (128 + signal when it was\n"
		  "ended by one)." },
	{ "env", "", "settings that point clients to the gateway", cmd_env, .options = env_options,
	  .more = "eval \"$(sallyport env)\" sets them in this shell." },
	{ "label", "TARGET TAG[,TAG]...", "put tags on a cgroup", cmd_label,
	  .more = "TARGET: /path/of/cgroup, pid:N, unit:NAME, docker:NAME. TAG: tag:name." },
	{ "unlabel", "TARGET", "take the label off a cgroup", cmd_unlabel,
	  .more = "TARGET: /path/of/cgroup, pid:N, unit:NAME, docker:NAME." },
	{ "ps", "", "sandboxes: labelled cgroups and their doors", cmd_ps, .options = ps_options },
	{ "status", "", "how the daemon does", cmd_status, .more = NULL },
	{ "doctor", "", "look for what is wrong, and say the cure", cmd_doctor, .more = NULL },
	{ "usage", "", "requests, tokens and cost by cgroup, tag, model ...", cmd_usage,
	  .options = usage_options },
	{ "tools", "", "what the agents ran", cmd_tools, .options = tools_options },
	{ "log", "", "finished requests, or events", cmd_log, .options = log_options },
	{ "show", "REQUEST", "one request with its tool calls", cmd_show,
	  .more = "REQUEST: sp_... as in `sallyport log` and in the answer's header\n"
		  "sallyport-request-id." },
	{ "policy",
	  "check [FILE] | show [FILE] | explain [FILE] | test [FILE] | reload | diff OLD NEW",
	  "check, show, explain and reload the policy", cmd_policy, .options = policy_options,
	  .words = policy_words },
	{ "quota", "[list] | refill BUCKET [AMOUNT]", "balances of quotas", cmd_quota,
	  .options = quota_options, .words = quota_words,
	  .more = "AMOUNT: in the bucket's unit, as $5.00, 100 or 2M; without it the bucket is\n"
		  "filled up." },
	{ "keys", "", "provider keys: where from, and whether they work", cmd_keys,
	  .options = keys_options },
	{ "force", "[status | on | off]", "connections past the gateway: state, break-glass", cmd_force,
	  .words = force_words },
	{ "ca", "[show] | install | rotate", "the CA with which the gateway answers for providers' names", cmd_ca,
	  .options = ca_options, .words = ca_words },
	{ "version", "", "the version", cmd_version, .more = NULL },
	{ "help", "[COMMAND]", "this list, or one command's options", cmd_help, .more = NULL },
	{ "completion", "bash | zsh | fish", "a script that completes commands for a shell",
	  cmd_completion, .words = completion_words },
	{ "daemon", "[--config FILE] [--clean]", "the daemon itself, for the service manager",
	  cmd_daemon, .options = daemon_options },
	{ 0 },
};

const struct command *command_find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

int command_unknown(const char *name)
{
	struct nearest near = nearest_start(str_of(name));

	for (const struct command *c = commands; c->name; c++)
		nearest_try(&near, str_of(c->name));
	return cli_fail(EXIT_USAGE, "%s is no command%s: `sallyport help` lists them",
			log_quote(str_of(name)), nearest_hint(&near).s);
}

static int cmd_daemon(int argc, char **argv)
{
	struct daemon_args o = { 0 };
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("daemon", &w, 0, 0) : code;
	if (code >= 0)
		return code;
	return agent_main(o.common.config ? o.common.config : CONFIG_PATH, o.clean);
}

struct plain_options {
	struct cli_common common;
};

int cmd_version(int argc, char **argv)
{
	struct plain_options o = { 0 };
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("version", &w, 0, 0) : code;
	if (code >= 0)
		return code;
	printf(o.common.json ? "{\"version\":\"%s\"}\n" : "sallyport %s\n", SALLYPORT_VERSION);
	return EXIT_OK;
}

static int help_json(void)
{
	struct json_out j;

	json_out_init(&j);
	json_out_open(&j, NULL, '[');
	for (const struct command *c = commands; c->name; c++) {
		json_out_open(&j, NULL, '{');
		json_out_text(&j, "name", str_of(c->name));
		json_out_text(&j, "arguments", str_of(c->arguments));
		json_out_text(&j, "summary", str_of(c->summary));
		json_out_open(&j, "options", '[');
		for (const struct cli_option *o = c->options; o && o->name; o++)
			json_out_text(&j, NULL, str_of(o->name));
		json_out_close(&j, ']');
		json_out_close(&j, '}');
	}
	json_out_close(&j, ']');
	return json_out_print(&j);
}

int cmd_help(int argc, char **argv)
{
	struct plain_options o = { 0 };
	const struct command *c;
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("help", &w, 0, 1) : code;
	if (code >= 0)
		return code;
	if (o.common.json)
		return help_json();
	if (!w.n) {
		command_help_all();
		return EXIT_OK;
	}
	c = command_find(w.items[0]);
	if (!c)
		return command_unknown(w.items[0]);
	command_help(c);
	return EXIT_OK;
}
