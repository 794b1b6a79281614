/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport ps`: the sandboxes, as the daemon knows them. */
#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"
#include "common/force.h"

struct ps_args {
	struct cli_common common;
	const char *tag;
	bool quiet;
};
const struct cli_option ps_options[] = {
	{ "tag", 't', CLI_TAG, CLI_AT(ps_args, tag), "TAG", NULL, "those with this tag only" },
	{ "quiet", 'q', CLI_FLAG, CLI_AT(ps_args, quiet), NULL, NULL,
	  "cgroups only, one in each line" },
	CLI_OPTION_CSV(ps_args),
	{ 0 },
};

static const char *const origin_names[] = {
	[ORIGIN_EXPLICIT] = "label",
	[ORIGIN_RULE] = "rule",
	[ORIGIN_RUN] = "run",
	[ORIGIN_UNLABELLED] = "watched",
};
_Static_assert(ARRAY_SIZE(origin_names) == ORIGIN_MAX, "an origin lacks its name");

static const struct column columns[] = {
	{ "tags", "TAGS", COL_TAGS, COL_CUT },
	{ "cgroup", "CGROUP", COL_TEXT, COL_TAIL },
	{ "container", "CONTAINER", COL_TEXT, COL_CUT | COL_MAYBE },
	{ "image", "IMAGE", COL_TEXT, COL_CUT | COL_MAYBE | COL_WEAK },
	{ "by", "BY", COL_TEXT, COL_WEAK },
	{ "processes", "PROCS", COL_COUNT, 0 },
	{ "door_port", "DOOR", COL_INT, 0 },
	{ "doors", "", COL_INT, COL_DATA },
	{ "mode", "MODE", COL_TEXT, COL_WEAK },
	{ "since", "SINCE", COL_AGO, COL_WEAK },
	{ "label_id", "", COL_INT, COL_DATA },
	{ "cgroup_id", "", COL_INT, COL_DATA },
	{ "note", "NOTE", COL_TEXT, COL_CUT | COL_MAYBE },
};

struct list {
	const struct ps_args *o;
	unsigned n_seen; /* those without the tag too */
	struct table table;
};

static bool has_tag(struct str tags, struct str tag)
{
	while (tags.n) {
		const char *end = memchr(tags.s, ',', tags.n);
		size_t n = end ? (size_t)(end - tags.s) : tags.n;

		if (str_eq((struct str){ tags.s, n }, tag))
			return true;
		tags = str_skip(tags, n + 1);
	}
	return false;
}

static void on_sandbox(void *arg, const void *row)
{
	struct list *l = arg;
	const struct msg_sandbox *sb = row;
	struct table *t = &l->table;

	l->n_seen++;
	if (l->o->tag && !has_tag(str_of(sb->tags), str_of(l->o->tag)))
		return;
	if (l->o->quiet) {
		print_text(str_of(sb->path));
		putchar('\n');
		return;
	}
	table_text(t, str_of(sb->tags));
	table_text(t, str_of(sb->path));
	table_text(t, str_of(sb->container));
	table_text(t, str_of(sb->image));
	table_text(t, str_of(sb->origin < ORIGIN_MAX ? origin_names[sb->origin] : "?"));
	table_int(t, sb->n_procs);
	if (sb->door_port)
		table_int(t, sb->door_port);
	else
		table_null(t);
	table_int(t, sb->n_doors);
	table_text(t, str_of(force_mode_name(sb->mode)));
	table_int(t, (int64_t)sb->since_ns);
	table_int(t, sb->label_id);
	table_int(t, (int64_t)sb->cgroup_id);
	table_text(t, str_of(sb->note));
}

static int print(struct list *l)
{
	char other[160];

	snprintf(other, sizeof(other), "no cgroup has %s: `sallyport ps` lists those with other tags",
		 l->o->tag ? l->o->tag : "");
	return table_print(&l->table, &l->o->common,
			   l->o->tag && l->n_seen ?
				   other :
				   "no cgroup has a label: sallyport run --tag tag:NAME -- COMMAND, or "
				   "sallyport label TARGET tag:NAME");
}

int cmd_ps(int argc, char **argv)
{
	struct ps_args o = { 0 };
	auto_free struct control *c = calloc(1, sizeof(*c));
	struct list l = { .o = &o };
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("ps", &w, 0, 0) : code;
	if (code >= 0)
		return code;
	if (!c)
		return cli_fail(EXIT_FAILED, "no memory");
	code = control_open(&o.common, c);
	if (code)
		return code;
	table_init(&l.table, columns, ARRAY_SIZE(columns));
	code = control_list(c, MSG_CTL_LIST, MSG_SANDBOX, sizeof(struct msg_sandbox), on_sandbox,
			    &l);
	if (!code && !o.quiet)
		code = print(&l);
	table_fini(&l.table);
	control_close(c);
	return code;
}
