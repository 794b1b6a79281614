/* SPDX-License-Identifier: Apache-2.0 */
/* Options from tables: parsing, help, and the sentence for what is wrong. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/format.h"
#include "common/log.h"
#include "policy/diag.h"

struct cli_all {
	struct cli_common common;
};

const struct cli_option cli_common_options[] = {
	{ "config", 0, CLI_TEXT, CLI_AT(cli_all, common.config), "FILE", NULL,
	  "the configuration (or SALLYPORT_CONFIG; /etc/sallyport/config.hujson)" },
	{ "json", 0, CLI_FLAG, CLI_AT(cli_all, common.json), NULL, NULL, "the answer as JSON" },
	{ "help", 'h', CLI_FLAG, 0, NULL, NULL, "this text" },
	{ 0 },
};

int cli_fail(int code, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("sallyport: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return code;
}

/* ---------------------------------------------------------------- looking up */

static bool option_is(const struct cli_option *o, const char *word, size_t n)
{
	return strlen(o->name) == n && !memcmp(o->name, word, n);
}

/* `word` without its dashes; a letter when `is_letter`. */
static const struct cli_option *option_find(const struct command *c, const char *word, size_t n,
					    bool is_letter)
{
	const struct cli_option *tables[] = { c->options, cli_common_options };

	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct cli_option *o = tables[t]; o && o->name; o++)
			if (is_letter ? o->letter && o->letter == word[0] : option_is(o, word, n))
				return o;
	return NULL;
}

/* As nearest_hint(), but an option is shown with its dashes. */
static struct diag_word hint(const struct nearest *near)
{
	struct diag_word w = nearest_hint(near);

	if (w.s[0])
		snprintf(w.s, sizeof(w.s), " (did you mean --%.*s?)", STR_ARG(near->best));
	return w;
}

static int option_unknown(const struct command *c, const char *word)
{
	const struct cli_option *tables[] = { c->options, cli_common_options };
	struct str name = { word, strcspn(word, "=") };
	struct nearest near = nearest_start(str_skip(name, strspn(word, "-")));

	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct cli_option *o = tables[t]; o && o->name; o++)
			nearest_try(&near, str_of(o->name));
	return cli_fail(EXIT_USAGE, "%s has no option %s%s: `sallyport %s --help` lists them",
			c->name, log_quote(name), hint(&near).s, c->name);
}

/* ---------------------------------------------------------------- values */

static int set_word(const struct cli_option *o, const char *value, const char **ret)
{
	struct nearest near = nearest_start(str_of(value));

	for (unsigned i = 0; o->words[i]; i++) {
		if (!strcmp(o->words[i], value)) {
			*ret = value;
			return -1;
		}
		nearest_try(&near, str_of(o->words[i]));
	}
	fflush(stdout);
	fprintf(stderr, "sallyport: --%s is one of", o->name);
	for (unsigned i = 0; o->words[i]; i++)
		fprintf(stderr, "%s %s", i ? "," : "", o->words[i]);
	fprintf(stderr, "; %s is none%s\n", log_quote(str_of(value)), nearest_hint(&near).s);
	return EXIT_USAGE;
}

/* The text lives as long as the process; a command line has no more of them than a list holds. */
static int set_tag(const struct cli_option *o, const char *value, const char **ret)
{
	static char texts[CLI_LIST_MAX][4 + 64 + 1];
	static unsigned n_texts;
	char *text = texts[n_texts++ % CLI_LIST_MAX];
	const char *name = strncmp(value, "tag:", 4) ? value : value + 4;
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	if (name[n] || n < 1 || n > 64 || name[0] < 'a')
		return cli_fail(EXIT_USAGE, "--%s takes a tag like tag:pr-bot; %s is none", o->name,
				log_quote(str_of(value)));
	snprintf(text, sizeof(texts[0]), "tag:%s", name);
	*ret = text;
	return -1;
}

static int set_number(const struct cli_option *o, const char *value, int64_t *ret)
{
	char *end;
	long long n;

	errno = 0;
	n = strtoll(value, &end, 10);
	if (errno || end == value || *end || n < 1)
		return cli_fail(EXIT_USAGE, "--%s takes a whole number from 1; %s is none", o->name,
				log_quote(str_of(value)));
	*ret = n;
	return -1;
}

static int set_time(const struct cli_option *o, const char *value, uint64_t *ret)
{
	if (format_parse_time(value, format_now_ns(), ret))
		return -1;
	return cli_fail(
		EXIT_USAGE,
		"--%s takes a time ago (30m, 2h, 7d), today, yesterday or a date (2026-01-31, 2026-01-31T14:00); %s "
		"is none",
		o->name, log_quote(str_of(value)));
}

static int list_add(const struct cli_option *o, const char *value, struct cli_list *list)
{
	if (list->n == CLI_LIST_MAX)
		return cli_fail(EXIT_USAGE, "--%s can be given %u times at most", o->name,
				CLI_LIST_MAX);
	if (o->type == CLI_TAGS && set_tag(o, value, &value) >= 0)
		return EXIT_USAGE;
	list->items[list->n++] = value;
	return -1;
}

/* -1, or EXIT_USAGE. */
static int option_set(const struct cli_option *o, const char *value, void *into)
{
	char *at = (char *)into + o->at;

	switch (o->type) {
	case CLI_FLAG:
		*(bool *)at = true;
		return -1;
	case CLI_TEXT:
		*(const char **)(void *)at = value;
		return -1;
	case CLI_WORD:
		return set_word(o, value, (const char **)(void *)at);
	case CLI_TAG:
		return set_tag(o, value, (const char **)(void *)at);
	case CLI_LIST:
	case CLI_TAGS:
		return list_add(o, value, (struct cli_list *)(void *)at);
	case CLI_NUMBER:
		return set_number(o, value, (int64_t *)(void *)at);
	case CLI_TIME:
		return set_time(o, value, (uint64_t *)(void *)at);
	}
	return EXIT_USAGE;
}

/* ---------------------------------------------------------------- parsing */

struct parse {
	const struct command *command;
	char **argv;
	int argc, i;
	void *into;
	bool help;
};

static int parse_one(struct parse *p, const struct cli_option *o, const char *value,
		     const char *shown)
{
	if (!strcmp(o->name, "help")) {
		p->help = true;
		return -1;
	}
	if (o->type == CLI_FLAG && value)
		return cli_fail(EXIT_USAGE, "--%s takes no value", o->name);
	if (o->type != CLI_FLAG && !value) {
		if (p->i + 1 >= p->argc)
			return cli_fail(EXIT_USAGE, "%s needs a value: %s %s", shown, shown,
					o->argument);
		value = p->argv[++p->i];
	}
	return option_set(o, value, p->into);
}

static int parse_long(struct parse *p, const char *word)
{
	size_t n = strcspn(word + 2, "=");
	const struct cli_option *o = option_find(p->command, word + 2, n, false);

	if (!o)
		return option_unknown(p->command, word);
	return parse_one(p, o, word[2 + n] ? word + 3 + n : NULL, word);
}

/* "-n 5", "-n5", "-ab" of flags. */
static int parse_short(struct parse *p, const char *word)
{
	for (const char *l = word + 1; *l; l++) {
		const struct cli_option *o = option_find(p->command, l, 1, true);
		char shown[] = { '-', *l, '\0' };
		int code;

		if (!o)
			return option_unknown(p->command, l == word + 1 ? word : shown);
		if (o->type != CLI_FLAG)
			return parse_one(p, o, l[1] ? l + 1 : NULL, shown);
		code = parse_one(p, o, NULL, shown);
		if (code >= 0)
			return code;
	}
	return -1;
}

int cli_parse(int argc, char **argv, void *into, struct cli_words *ret)
{
	struct parse p = {
		.command = command_find(argv[0]), .argv = argv, .argc = argc, .into = into
	};
	struct cli_common *common = into;
	int code = -1;

	ret->items = argv + 1;
	ret->n = 0;
	for (p.i = 1; p.i < argc && code < 0; p.i++) {
		char *word = argv[p.i];
		bool is_end = !strcmp(word, "--");

		if (is_end || (p.command->rest_is_raw && (word[0] != '-' || !word[1]))) {
			for (int k = p.i + is_end; k < argc; k++)
				ret->items[ret->n++] = argv[k];
			break;
		}
		if (word[0] != '-' || !word[1])
			ret->items[ret->n++] = word;
		else
			code = word[1] == '-' ? parse_long(&p, word) : parse_short(&p, word);
	}
	ret->items[ret->n] = NULL; /* there is room: argv ends with one, too */
	if (code < 0 && p.help) {
		command_help(p.command);
		return EXIT_OK;
	}
	if (!common->config)
		common->config = getenv("SALLYPORT_CONFIG");
	if (common->config && !common->config[0])
		common->config = NULL;
	return code;
}

int cli_count(const char *command, const struct cli_words *words, int min, int max)
{
	const struct command *c = command_find(command);

	if (words->n >= min && words->n <= max)
		return -1;
	if (words->n > max)
		return cli_fail(EXIT_USAGE, "%s is one word too many: sallyport %s %s",
				log_quote(str_of(words->items[max])), c->name, c->arguments);
	return cli_fail(EXIT_USAGE, "something is missing: sallyport %s %s", c->name, c->arguments);
}

/* ---------------------------------------------------------------- help */

static void help_option(const struct cli_option *o)
{
	char left[64];
	int n = snprintf(left, sizeof(left), "  %c%c%c --%s%s%s", o->letter ? '-' : ' ',
			 o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name,
			 o->argument ? " " : "", o->argument ? o->argument : "");

	printf("%-26s%s%s", left, n > 25 ? "\n                          " : "", o->help);
	for (unsigned i = 0; o->words && o->words[i]; i++)
		printf("%s%s", i ? ", " : ": ", o->words[i]);
	putchar('\n');
}

void command_help(const struct command *c)
{
	printf("sallyport %s: %s\n\nusage: sallyport %s%s%s\n\n", c->name, c->summary, c->name,
	       c->arguments[0] ? " " : "", c->arguments);
	for (const struct cli_option *o = c->options; o && o->name; o++)
		help_option(o);
	for (const struct cli_option *o = cli_common_options; o->name; o++)
		help_option(o);
	if (c->more)
		printf("\n%s\n", c->more);
	printf("\nMore in sallyport-%s(1).\n", c->name);
}

void command_help_all(void)
{
	puts("sallyport: the one guarded way from a sandbox to a model\n\nusage: sallyport COMMAND [OPTION]...\n");
	for (const struct command *c = commands; c->name; c++)
		if (!c->hidden)
			printf("  %-12s%s\n", c->name, c->summary);
	puts("\n`sallyport COMMAND --help` has the options. Every command takes --config FILE and --json.\n"
	     "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon answers.");
}
