/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <sys/wait.h>

/* The real table of `usage` has an option of most types. */
struct usage_like {
	struct cli_common common;
	const char *by, *tag, *cgroup;
	uint64_t since_ns, until_ns;
	int64_t limit;
};
/* As cmd_run.c has it. */
struct run_like {
	struct cli_common common;
	struct cli_list tags;
	const char *name, *user, *format;
	bool keep_keys;
};

static char said[4096];

/* Runs the parser with stderr in `said`. */
static int parse(const char *const *args, void *into, struct cli_words *ret)
{
	static char *argv[160];
	char path[] = "/tmp/sallyport-test-XXXXXX";
	int argc = 0, code, saved = dup(STDERR_FILENO), fd = mkstemp(path);
	ssize_t n;

	unlink(path);
	for (; args[argc]; argc++)
		argv[argc] = (char *)(uintptr_t)args[argc];
	argv[argc] = NULL;
	dup2(fd, STDERR_FILENO);
	code = cli_parse(argc, argv, into, ret);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	n = pread(fd, said, sizeof(said) - 1, 0);
	said[n > 0 ? n : 0] = '\0';
	close(fd);
	close(saved);
	return code;
}
#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void every_type(void)
{
	struct usage_like o = { .by = "cgroup" };
	struct cli_words w;

	unsetenv("SALLYPORT_CONFIG");
	CHECK_INT(parse(ARGS("usage", "--by", "model", "--since=2h", "-t", "tag:x", "-n5", "--csv",
			     "--config", "/c"),
			&o, &w),
		  -1);
	CHECK_STR(o.by, "model");
	CHECK_STR(o.tag, "tag:x");
	CHECK_INT(o.limit, 5);
	CHECK(o.since_ns > 0 && o.common.csv && !o.common.json);
	CHECK_STR(o.common.config, "/c");
	CHECK_INT(w.n, 0);
}

/* A tag without its prefix would match nothing, and nobody would know why. */
static void filters_by_tag(void)
{
	static const char *const wrong[] = { "PR_BOT", "tag:", "", "-", "tag:1", "tag:a b", "a,b" };
	struct usage_like o = { 0 };
	struct cli_words w;

	CHECK_INT(parse(ARGS("usage", "--tag", "pr-bot"), &o, &w), -1);
	CHECK_STR(o.tag, "tag:pr-bot");
	CHECK_INT(parse(ARGS("usage", "--tag=tag:ci2"), &o, &w), -1);
	CHECK_STR(o.tag, "tag:ci2");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		CHECK_INT(parse(ARGS("usage", "-t", wrong[i]), &o, &w), EXIT_USAGE);
		CHECK(strstr(said, "tag:pr-bot") != NULL);
	}
}

/* As cmd_policy.c begins. */
struct policy_like {
	struct cli_common common;
	struct cli_list tags;
	const char *model, *format, *provider, *cgroup, *container, *user;
};

static void lists_of_tags(void)
{
	struct policy_like o = { 0 };
	struct cli_words w;

	CHECK_INT(parse(ARGS("policy", "explain", "--tag", "web", "-t", "tag:ci", "-tx"), &o, &w), -1);
	CHECK_INT(o.tags.n, 3);
	CHECK_STR(o.tags.items[0], "tag:web");
	CHECK_STR(o.tags.items[1], "tag:ci");
	CHECK_STR(o.tags.items[2], "tag:x");
	CHECK_INT(parse(ARGS("policy", "explain", "--tag", "WEB"), &o, &w), EXIT_USAGE);
	CHECK(strstr(said, "--tag takes a tag like tag:pr-bot") != NULL);
}

static void words_and_options_mix(void)
{
	struct usage_like o = { 0 };
	struct cli_words w;

	CHECK_INT(parse(ARGS("usage", "a", "--json", "b", "--", "--c"), &o, &w), -1);
	CHECK_INT(w.n, 3);
	CHECK_STR(w.items[0], "a");
	CHECK_STR(w.items[1], "b");
	CHECK_STR(w.items[2], "--c");
	CHECK(!w.items[3]);
	CHECK(o.common.json);
}

static void run_stops_at_the_command(void)
{
	struct run_like o = { 0 };
	struct cli_words w;

	CHECK_INT(
		parse(ARGS("run", "-t", "tag:a", "--tag=tag:b", "ls", "--json", "-t", "x"), &o, &w),
		-1);
	CHECK_INT(o.tags.n, 2);
	CHECK_STR(o.tags.items[1], "tag:b");
	CHECK_INT(w.n, 4);
	CHECK_STR(w.items[1], "--json");
	CHECK(!o.common.json && !w.items[4]);
	o = (struct run_like){ 0 };
	CHECK_INT(parse(ARGS("run", "-t", "tag:a", "--", "sleep", "3"), &o, &w), -1);
	CHECK_INT(w.n, 2);
	CHECK_STR(w.items[1], "3");
	CHECK(!w.items[2]);
}

static void config_from_environment(void)
{
	struct usage_like o = { 0 };
	struct cli_words w;

	setenv("SALLYPORT_CONFIG", "/e", 1);
	CHECK_INT(parse(ARGS("usage"), &o, &w), -1);
	CHECK_STR(o.common.config, "/e");
	CHECK_INT(parse(ARGS("usage", "--config=/o"), &o, &w), -1);
	CHECK_STR(o.common.config, "/o");
	o.common.config = NULL;
	setenv("SALLYPORT_CONFIG", "", 1);
	CHECK_INT(parse(ARGS("usage"), &o, &w), -1);
	CHECK(!o.common.config);
}

static void mistakes_are_named(void)
{
	static const struct {
		const char *args[6];
		const char *says;
	} cases[] = {
		{ { "usage", "--bye", "tag" }, "did you mean --by?" },
		{ { "usage", "--zzz" }, "`sallyport usage --help` lists them" },
		{ { "usage", "-z" }, "no option \"-z\"" },
		{ { "usage", "--by", "tga" }, "did you mean `tag`?" },
		{ { "usage", "--by" }, "--by needs a value" },
		{ { "usage", "--json=yes" }, "--json takes no value" },
		{ { "usage", "--limit", "0" }, "a whole number from 1" },
		{ { "usage", "--limit", "99999999999999999999" }, "a whole number from 1" },
		{ { "usage", "--limit", "5x" }, "a whole number from 1" },
		{ { "usage", "--since", "soon" }, "\"soon\" is none" },
		{ { "run", "--format", "al", "--", "ls" }, "all, anthropic" },
		{ { "daemon", "--bogus" }, "no option \"--bogus\"" },
		{ { "daemon", "--config" }, "--config needs a value" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct run_like o = { 0 };
		struct cli_words w;

		CHECK_INT(parse(cases[i].args, &o, &w), EXIT_USAGE);
		if (!strstr(said, cases[i].says))
			printf("\"%s\" lacks \"%s\"\n", said, cases[i].says), test_failures++;
		CHECK(!strncmp(said, "sallyport: ", 11));
		/* One sentence, one line. */
		CHECK(strchr(said, '\n') == said + strlen(said) - 1);
	}
}

static void too_many(void)
{
	const char *args[160] = { "run" };
	struct run_like o = { 0 };
	struct cli_words w;
	int n = 1;

	while (n < 140)
		args[n++] = "--tag=tag:x";
	CHECK_INT(parse(args, &o, &w), EXIT_USAGE);
	CHECK(strstr(said, "64 times at most") != NULL);
	CHECK_INT(o.tags.n, CLI_LIST_MAX);
}

/* Tables that contradict themselves are found here and not by users. */
static void tables_are_sound(void)
{
	for (const struct command *c = commands; c->name; c++) {
		CHECK(command_find(c->name) == c);
		CHECK(c->run && c->summary && c->arguments);
		for (const struct cli_option *o = c->options; o && o->name; o++) {
			CHECK(o->help && *o->help);
			CHECK((o->type == CLI_FLAG) == (o->argument == NULL));
			CHECK((o->type != CLI_WORD) || o->words);
			for (const struct cli_option *p = cli_common_options; p->name; p++)
				CHECK(strcmp(p->name, o->name) != 0 &&
				      (!p->letter || p->letter != o->letter));
			for (const struct cli_option *p = c->options; p != o; p++)
				CHECK(strcmp(p->name, o->name) != 0 &&
				      (!p->letter || p->letter != o->letter));
		}
	}
	CHECK(!command_find("nothing"));
}

static char *read_all(const char *path)
{
	char *text = calloc(1, 1 << 20);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, text, (1 << 20) - 1) < 0)
		text[0] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

/* Every command has its page, and every option stands in it. */
static void manual_is_whole(void)
{
	char *general = read_all("docs/sallyport.1.md");

	if (access("docs", F_OK) < 0) {
		printf("not run from the root of the tree: the manual is not checked\n");
		free(general);
		return;
	}
	for (const struct command *c = commands; c->name; c++) {
		char path[128], word[64];
		char *page;

		snprintf(word, sizeof(word), "**sallyport-%s**(1)", c->name);
		if (!strstr(general, word))
			printf("sallyport.1.md lacks %s\n", word), test_failures++;
		snprintf(path, sizeof(path), "docs/sallyport-%s.1.md", c->name);
		page = read_all(path);
		if (!page[0])
			printf("%s is missing\n", path), test_failures++;
		for (const struct cli_option *o = c->options; page[0] && o && o->name; o++) {
			snprintf(word, sizeof(word), "`--%s", o->name);
			if (!strstr(page, word))
				printf("%s lacks %s\n", path, word), test_failures++;
		}
		free(page);
	}
	free(general);
}

TESTS(T(every_type), T(filters_by_tag), T(lists_of_tags), T(words_and_options_mix), T(run_stops_at_the_command),
      T(config_from_environment), T(mistakes_are_named), T(too_many), T(tables_are_sound),
      T(manual_is_whole))
