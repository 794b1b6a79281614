/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport label` and `unlabel`. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"

const struct cli_option label_options[] = { { 0 } };

struct label_args {
	struct cli_common common;
};

static void sandbox_json(struct json_out *j, const struct msg_sandbox *sb)
{
	json_out_text(j, "cgroup", str_of(sb->path));
	json_out_tags(j, "tags", str_of(sb->tags));
	json_out_text(j, "container", str_of(sb->container));
	json_out_text(j, "image", str_of(sb->image));
	json_out_int(j, "label_id", sb->label_id);
	json_out_int(j, "door_port", sb->door_port);
	json_out_text(j, "note", str_of(sb->note));
}

static int print_labelled(const struct cli_common *o, const struct msg_sandbox *sb)
{
	struct json_out j;

	if (o->json) {
		json_out_init(&j);
		json_out_open(&j, NULL, '{');
		sandbox_json(&j, sb);
		json_out_close(&j, '}');
		return json_out_print(&j);
	}
	print_text(str_of(sb->path));
	printf(" has %s now", sb->tags);
	if (sb->door_port)
		printf("; its door is http://127.0.0.1:%u", sb->door_port);
	else
		printf("; its door opens with its first process");
	if (sb->note[0]) {
		printf("; note: ");
		print_text(str_of(sb->note));
	}
	putchar('\n');
	return EXIT_OK;
}

static int print_unlabelled(const struct cli_common *o, const struct msg_sandbox *sb)
{
	struct json_out j;

	if (o->json) {
		json_out_init(&j);
		json_out_open(&j, NULL, '{');
		json_out_bool(&j, "ok", true);
		json_out_text(&j, "cgroup", str_of(sb->path));
		json_out_tags(&j, "tags", str_of(sb->tags));
		json_out_close(&j, '}');
		return json_out_print(&j);
	}
	printf("the label of ");
	print_text(str_of(sb->path));
	printf(sb->tags[0] ? " is off; a rule of the policy gives it %s\n" : " is off\n", sb->tags);
	return EXIT_OK;
}

/* Tags may come as words of their own, too. */
static int target_fill(const struct cli_words *w, struct msg_target *ret)
{
	size_t at = 0;

	if (!str_copy(ret->target, sizeof(ret->target), str_of(w->items[0])))
		return cli_fail(EXIT_USAGE, "the target is longer than %zu bytes: name one cgroup",
				sizeof(ret->target) - 1);
	for (int i = 1; i < w->n; i++) {
		int n = snprintf(ret->tags + at, sizeof(ret->tags) - at, "%s%s", i > 1 ? "," : "",
				 w->items[i]);

		if (n < 0 || (size_t)n >= sizeof(ret->tags) - at)
			return cli_fail(EXIT_USAGE,
					"the tags together are too long: use shorter ones");
		at += (size_t)n;
	}
	return EXIT_OK;
}

static int ask(int argc, char **argv, uint16_t type, int min, int max)
{
	struct label_args o = { 0 };
	auto_free struct control *c = calloc(1, sizeof(*c));
	struct msg_target target = { 0 };
	const struct msg_result *r;
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count(argv[0], &w, min, max) : code;
	if (code >= 0)
		return code;
	if (!c)
		return cli_fail(EXIT_FAILED, "no memory");
	code = target_fill(&w, &target);
	code = code ? code : control_open(&o.common, c);
	if (code)
		return code;
	code = control_result(c, type, &target, &r);
	if (!code && type == MSG_CTL_LABEL)
		code = print_labelled(&o.common, &r->sandbox);
	else if (!code)
		code = print_unlabelled(&o.common, &r->sandbox);
	control_close(c);
	return code;
}

int cmd_label(int argc, char **argv)
{
	return ask(argc, argv, MSG_CTL_LABEL, 2, CLI_LIST_MAX);
}

int cmd_unlabel(int argc, char **argv)
{
	return ask(argc, argv, MSG_CTL_UNLABEL, 1, 1);
}
