/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport completion bash|zsh|fish`: scripts written from the same tables that parse. */
#include <stdio.h>

#include "cli/cli.h"
#include "common/log.h"

const char *const completion_words[] = { "bash", "zsh", "fish", NULL };

struct completion_args {
	struct cli_common common;
};

static void each_option(const struct command *c,
			void (*fn)(const struct command *c, const struct cli_option *o))
{
	for (const struct cli_option *o = c->options; o && o->name; o++)
		fn(c, o);
	for (const struct cli_option *o = cli_common_options; o->name; o++)
		fn(c, o);
}

static void put_words(const char *const *words)
{
	for (unsigned i = 0; words && words[i]; i++)
		printf("%s%s", i ? " " : "", words[i]);
}

/* ---------------------------------------------------------------- bash */

static void bash_option(const struct command *c, const struct cli_option *o)
{
	(void)c;
	printf(" --%s", o->name);
}

static void bash_values(const struct command *c, const struct cli_option *o)
{
	if (o->type == CLI_WORD) {
		printf("\t%s:--%s", c->name, o->name);
		if (o->letter)
			printf(" | %s:-%c", c->name, o->letter);
		printf(") COMPREPLY=($(compgen -W \"");
		put_words(o->words);
		puts("\" -- \"$cur\")); return ;;");
	}
}

static void bash(void)
{
	puts("# bash completion of sallyport; made by `sallyport completion bash`\n"
	     "_sallyport() {\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd=${COMP_WORDS[1]} opts words\n"
	     "\tif [ \"$COMP_CWORD\" -eq 1 ]; then");
	printf("\t\tCOMPREPLY=($(compgen -W \"");
	for (const struct command *c = commands; c->name; c++)
		printf("%s%s", c == commands ? "" : " ", c->name);
	puts("\" -- \"$cur\")); return\n\tfi\n"
	     "\tif [ \"$cmd\" = run ]; then\n"
	     "\t\tlocal i\n"
	     "\t\tfor ((i = 2; i < COMP_CWORD; i++)); do\n"
	     "\t\t\t[ \"${COMP_WORDS[i]}\" = -- ] && { COMP_WORDS=(\"${COMP_WORDS[@]:i+1}\"); COMP_CWORD=$((COMP_CWORD - i - 1));\n"
	     "\t\t\t\tif [ \"$COMP_CWORD\" -eq 0 ]; then COMPREPLY=($(compgen -c -- \"$cur\")); else COMPREPLY=($(compgen -f -- \"$cur\")); fi\n"
	     "\t\t\t\treturn; }\n"
	     "\t\tdone\n"
	     "\tfi\n"
	     "\tcase $cmd:$prev in");
	for (const struct command *c = commands; c->name; c++)
		each_option(c, bash_values);
	puts("\t*:--config) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
	     "\tesac\n"
	     "\tcase $cmd in");
	for (const struct command *c = commands; c->name; c++) {
		printf("\t%s) opts=\"", c->name);
		each_option(c, bash_option);
		printf("\"; words=\"");
		put_words(c->words);
		if (!strcmp(c->name, "help"))
			for (const struct command *k = commands; k->name; k++)
				printf("%s%s", k == commands ? "" : " ", k->name);
		puts("\" ;;");
	}
	puts("\tesac\n"
	     "\tcase $cur in\n"
	     "\t-*) COMPREPLY=($(compgen -W \"$opts\" -- \"$cur\")) ;;\n"
	     "\t*) if [ \"$COMP_CWORD\" -eq 2 ] && [ -n \"$words\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
	     "\t   else COMPREPLY=($(compgen -f -- \"$cur\")); fi ;;\n"
	     "\tesac\n"
	     "}\n"
	     "complete -F _sallyport sallyport");
}

/* ---------------------------------------------------------------- zsh */

/* Inside '…' and between brackets. */
static void put_zsh(const char *text)
{
	for (const char *p = text; *p; p++) {
		if (*p == '\'')
			fputs("'\\''", stdout);
		else if (strchr("[]:\\", *p))
			printf("\\%c", *p);
		else
			putchar(*p);
	}
}

static void zsh_option(const struct command *c, const struct cli_option *o)
{
	(void)c;
	printf(" \\\n\t\t\t'%s--%s%s[", o->type == CLI_LIST || o->type == CLI_TAGS ? "*" : "", o->name,
	       o->type == CLI_FLAG ? "" : "=");
	put_zsh(o->help);
	putchar(']');
	if (o->type != CLI_FLAG) {
		putchar(':');
		put_zsh(o->argument);
		putchar(':');
		if (o->words) {
			putchar('(');
			put_words(o->words);
			putchar(')');
		} else if (!strcmp(o->argument, "FILE")) {
			fputs("_files", stdout);
		}
	}
	putchar('\'');
}

static void zsh(void)
{
	puts("#compdef sallyport\n# made by `sallyport completion zsh`\n_sallyport() {\n\tlocal -a cmds\n\tcmds=(");
	for (const struct command *c = commands; c->name; c++) {
		printf("\t\t'%s:", c->name);
		put_zsh(c->summary);
		puts("'");
	}
	puts("\t)\n\tif (( CURRENT == 2 )); then\n\t\t_describe command cmds\n\t\treturn\n\tfi\n"
	     "\tlocal cmd=$words[2]\n\tshift words\n\t(( CURRENT-- ))\n\tcase $cmd in");
	for (const struct command *c = commands; c->name; c++) {
		printf("\t%s)\n\t\t_arguments -s", c->name);
		each_option(c, zsh_option);
		if (c->words) {
			printf(" \\\n\t\t\t'1:word:(");
			put_words(c->words);
			printf(")' '*:file:_files'");
		} else if (c->rest_is_raw) {
			printf(" \\\n\t\t\t'*::command:_normal'");
		} else {
			printf(" \\\n\t\t\t'*:file:_files'");
		}
		puts(" ;;");
	}
	puts("\tesac\n}\n_sallyport \"$@\"");
}

/* ---------------------------------------------------------------- fish */

static void put_fish(const char *text)
{
	putchar('\'');
	for (const char *p = text; *p; p++) {
		if (*p == '\'' || *p == '\\')
			putchar('\\');
		putchar(*p);
	}
	putchar('\'');
}

static void fish_option(const struct command *c, const struct cli_option *o)
{
	printf("complete -c sallyport -n '__fish_seen_subcommand_from %s' -l %s", c->name, o->name);
	if (o->letter)
		printf(" -s %c", o->letter);
	if (o->type != CLI_FLAG)
		printf(" -r");
	if (o->words) {
		printf(" -f -a '");
		put_words(o->words);
		putchar('\'');
	}
	printf(" -d ");
	put_fish(o->help);
	putchar('\n');
}

static void fish(void)
{
	puts("# fish completion of sallyport; made by `sallyport completion fish`");
	for (const struct command *c = commands; c->name; c++) {
		printf("complete -c sallyport -n __fish_use_subcommand -f -a %s -d ", c->name);
		put_fish(c->summary);
		putchar('\n');
		if (c->words) {
			printf("complete -c sallyport -n '__fish_seen_subcommand_from %s' -f -a '",
			       c->name);
			put_words(c->words);
			puts("'");
		}
		each_option(c, fish_option);
	}
}

int cmd_completion(int argc, char **argv)
{
	static const struct {
		const char *shell;
		void (*write)(void);
	} shells[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };
	struct completion_args o = { 0 };
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("completion", &w, 1, 1) : code;
	if (code >= 0)
		return code;
	for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
		if (!strcmp(shells[i].shell, w.items[0])) {
			shells[i].write();
			return EXIT_OK;
		}
	return cli_fail(EXIT_USAGE, "there is no completion for %s: bash, zsh and fish have one",
			log_quote(str_of(w.items[0])));
}
