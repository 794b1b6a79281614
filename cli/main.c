/* SPDX-License-Identifier: Apache-2.0 */
/* The one program: two tables say who goes on, a role that the daemon starts or a command (commands.c). */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "common/log.h"
#include "common/role.h"

/* For the daemon alone. */
static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} roles[] = {
	{ "gateway", gateway_main },
	{ "ledger", ledger_main },
	{ "dns", dns_main },
	{ "ca", ca_main },
};

/* `sallyport --help` and `sallyport -h` are `sallyport help`, and so on. */
static const char *command_of_option(const char *word)
{
	if (!strcmp(word, "--help") || !strcmp(word, "-h"))
		return "help";
	if (!strcmp(word, "--version") || !strcmp(word, "-V"))
		return "version";
	return word;
}

/* `sallyport --config FILE COMMAND` or `--config=FILE`: the option goes behind the command, where it is read. */
static void leading_config(int argc, char **argv)
{
	int words = argc > 1 && !strncmp(argv[1], "--config=", 9) ? 1 : 2;
	char *command;

	if (argc <= 1 + words || (words == 2 && strcmp(argv[1], "--config") != 0))
		return;
	command = argv[1 + words];
	memmove(argv + 2, argv + 1, (size_t)words * sizeof(*argv));
	argv[1] = command;
}

int main(int argc, char **argv)
{
	const struct command *c;
	int code;

	leading_config(argc, argv);
	for (size_t i = 0; i < ARRAY_SIZE(roles) && argc > 2; i++)
		if (!strcmp(argv[1], "role") && !strcmp(argv[2], roles[i].name))
			return roles[i].run(argc - 2, argv + 2);
	if (argc < 2) {
		command_help_all();
		return EXIT_USAGE;
	}
	if (!strncmp(argv[1], "--config", 8))
		return cli_fail(EXIT_USAGE, "a command is missing: sallyport --config FILE COMMAND");
	c = command_find(command_of_option(argv[1]));
	if (!c)
		return command_unknown(argv[1]);
	argv[1] = (char *)(uintptr_t)c->name;
	code = c->run(argc - 1, argv + 1);
	/* A full disk or a closed pipe must not pass for an answer. */
	if (fflush(stdout) || ferror(stdout))
		code = code ? code : EXIT_FAILED;
	return code;
}
