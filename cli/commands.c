/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands, and those commands that only speak of it: help, completion, version. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/print.h"
#include "common/log.h"
#include "policy/diag.h"

static int cmd_daemon(int argc, char **argv);

static const struct cli_option daemon_options[] = {
	{ "clean", 0, CLI_FLAG, 0, NULL, NULL, "at the end take off all labels, programs and cgroups" },
	{ 0 },
};

const struct command commands[] = {
	{ "run", "[OPTION]... [--] COMMAND [ARGUMENT]...", "run a command in a labelled cgroup of its own", cmd_run, false,
	  true, run_options, NULL,
	  "The command sees a base URL and the key \"-\" for each client; provider keys in the\n"
	  "environment do not reach it. Its exit code is the exit code (128 + signal when it was\n"
	  "ended by one)." },
	{ "env", "", "settings that point clients to the gateway", cmd_env, false, false, env_options, NULL,
	  "eval \"$(sallyport env)\" sets them in this shell." },
	{ "label", "TARGET TAG[,TAG]...", "put tags on a cgroup", cmd_label, false, false, NULL, NULL,
	  "TARGET: /path/of/cgroup, pid:N, unit:NAME, docker:NAME. TAG: tag:name." },
	{ "unlabel", "TARGET", "take the label off a cgroup", cmd_unlabel, false, false, NULL, NULL,
	  "TARGET: /path/of/cgroup, pid:N, unit:NAME, docker:NAME." },
	{ "ps", "", "sandboxes: labelled cgroups and their doors", cmd_ps, false, false, ps_options, NULL, NULL },
	{ "status", "", "how the daemon does", cmd_status, false, false, NULL, NULL, NULL },
	{ "doctor", "", "look for what is wrong, and say the cure", cmd_doctor, false, false, NULL, NULL, NULL },
	{ "usage", "", "requests, tokens and cost by cgroup, tag, model ...", cmd_usage, false, false, usage_options, NULL,
	  NULL },
	{ "tools", "", "what the agents ran", cmd_tools, false, false, tools_options, NULL, NULL },
	{ "log", "", "finished requests, or events", cmd_log, false, false, log_options, NULL, NULL },
	{ "show", "REQUEST", "one request with its tool calls", cmd_show, false, false, NULL, NULL,
	  "REQUEST: sp_... as in `sallyport log` and in the answer's header sallyport-request-id." },
	{ "policy", "check [FILE] | show [FILE] | explain [FILE] | test [FILE] | reload | diff OLD NEW",
	  "check, show, explain and reload the policy", cmd_policy, false, false, policy_options, policy_words, NULL },
	{ "quota", "[list] | refill BUCKET [AMOUNT]", "balances of quotas", cmd_quota, false, false, quota_options, quota_words,
	  "AMOUNT: in the bucket's unit, as $5.00, 100 or 2M; without it the bucket is filled up." },
	{ "keys", "", "provider keys: where from, and whether they work", cmd_keys, false, false, keys_options, NULL, NULL },
	{ "version", "", "the version", cmd_version, false, false, NULL, NULL, NULL },
	{ "help", "[COMMAND]", "this list, or one command's options", cmd_help, false, false, NULL, NULL, NULL },
	{ "completion", "bash | zsh | fish", "a script that completes commands for a shell", cmd_completion, false, false, NULL,
	  completion_words, NULL },
	{ "daemon", "[--config FILE] [--clean]", "the daemon itself, for the service manager", cmd_daemon, false, false,
	  daemon_options, NULL, NULL },
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
	return cli_fail(EXIT_USAGE, "%s is no command%s: `sallyport help` lists them", log_quote(str_of(name)),
			nearest_hint(&near).s);
}

/* Only for its help: main() hands the daemon over before. */
static int cmd_daemon(int argc, char **argv)
{
	(void)argc;
	command_help(command_find(argv[0]));
	return EXIT_OK;
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
