/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: one public function for each command, found by the table in commands.c; one
 * table of options for each command, which drives parsing, help and completion alike.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base.h"

/* Exit codes, the same for every command (sallyport(1)). */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NO_DAEMON = 3 };

/* ---------------------------------------------------------------- options */

enum cli_type {
	CLI_FLAG,   /* bool */
	CLI_TEXT,   /* const char * */
	CLI_WORD,   /* const char *, one of .words */
	CLI_TAG,    /* const char *, "tag:NAME"; NAME alone means the same */
	CLI_LIST,   /* struct cli_list: may be given again and again */
	CLI_TAGS,   /* the same of tags, as CLI_TAG */
	CLI_NUMBER, /* int64_t, from 1 */
	CLI_TIME,   /* uint64_t, wall clock in ns: "2h" ago, or a date */
};

struct cli_option {
	const char *name; /* without "--"; NULL ends the table */
	char letter;	  /* of the short form, or 0 */
	enum cli_type type;
	size_t at;		  /* in the command's struct */
	const char *argument;	  /* its argument's name in the help */
	const char *const *words; /* of CLI_WORD, and for completion; NULL-terminated */
	const char *help;
};
#define CLI_AT(type, member) offsetof(struct type, member)

/* Rationale: a cgroup takes fewer tags than this. */
#define CLI_LIST_MAX 64
struct cli_list {
	const char *items[CLI_LIST_MAX];
	unsigned n;
};

/* The struct of every command begins with this. */
struct cli_common {
	const char *config; /* of --config or SALLYPORT_CONFIG, else NULL */
	bool json;
	bool csv;
};
/* For the table of a command that lists. */
#define CLI_OPTION_CSV(type)                                                                       \
	{                                                                                          \
		"csv", 0, CLI_FLAG, offsetof(struct type, common.csv), NULL, NULL,                 \
			"comma separated values with a head line"                                  \
	}

struct cli_words {
	char **items; /* what is neither option nor option's argument; ends with NULL; borrowed from
			 argv */
	int n;
};

/*
 * Options of the command argv[0] go into `into`, other words into ret. -1: go on; else the exit
 * code to return at once (the help was printed, or the mistake was said).
 */
int cli_parse(int argc, char **argv, void *into, struct cli_words *ret);
/* Says which word is one too many, or what is missing. -1 when the count fits, else EXIT_USAGE. */
int cli_count(const char *command, const struct cli_words *words, int min, int max);

/* "sallyport: SENTENCE" on stderr; returns `code`. */
int cli_fail(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---------------------------------------------------------------- commands */

struct command {
	const char *name;
	const char *arguments;		   /* after the name, for help */
	const char *summary;		   /* one line */
	int (*run)(int argc, char **argv); /* argv[0] is the command's name */
	bool hidden;
	bool rest_is_raw; /* options end at the first word: `run` */
	const struct cli_option *options;
	const char *const *words; /* what the first word may be, for help and completion; or NULL */
	const char *more;	  /* further lines of the help, or NULL */
};
extern const struct command commands[]; /* ends with a NULL name */
/* --config, --json, --help: known to every command. */
extern const struct cli_option cli_common_options[];

/* NULL when there is none. */
const struct command *command_find(const char *name);
/* EXIT_USAGE, with the nearest name. */
int command_unknown(const char *name);
/* To stdout. */
void command_help(const struct command *c);
void command_help_all(void);

int cmd_run(int argc, char **argv);
int cmd_env(int argc, char **argv);
int cmd_label(int argc, char **argv);
int cmd_unlabel(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_usage(int argc, char **argv);
int cmd_tools(int argc, char **argv);
int cmd_log(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_policy(int argc, char **argv);
int cmd_quota(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_ca(int argc, char **argv);
int cmd_force(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_completion(int argc, char **argv);

extern const struct cli_option run_options[], env_options[], label_options[], ps_options[],
	usage_options[], tools_options[], log_options[], policy_options[], quota_options[],
	keys_options[], ca_options[];
extern const char *const force_words[];
extern const char *const ca_words[];
extern const char *const usage_by_words[],
	*const tools_kind_words[], *const env_format_words[],
					   *const policy_words[], *const quota_words[],
									  *const completion_words[];
