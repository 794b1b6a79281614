/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `sallyport doctor`: looks for what is wrong and says the cure. Needs neither daemon nor root, but
 * says what it could not look at without them. It changes nothing, but for one short-lived cgroup
 * that the daemon makes for the test from end to end.
 */
#include <stdarg.h>
#include <stdio.h>

#include "cli/doctor.h"

struct doctor_args {
	struct cli_common common;
};

static const char *const finding_names[] = { "ok", "warn", "fail", "-" };
_Static_assert(ARRAY_SIZE(finding_names) == FIND_MAX, "a finding lacks its word");

static const struct column columns[] = {
	{ "what", "CHECK", COL_TEXT, 0 },
	{ "state", "STATE", COL_TEXT, COL_STATE },
	{ "text", "FOUND", COL_TEXT, 0 },
};

void doctor_say(struct doctor *d, enum finding f, const char *what, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->count[f]++;
	table_text(&d->table, str_of(what));
	table_text(&d->table, str_of(finding_names[f]));
	table_text(&d->table, str_of(text));
}

static int print(struct doctor *d)
{
	int code = table_print(&d->table, d->o, "");

	if (code)
		return code;
	if (!d->o->json) {
		printf("\n%u ok, %u warnings, %u failed", d->count[FIND_OK], d->count[FIND_WARN],
		       d->count[FIND_FAIL]);
		if (d->count[FIND_UNKNOWN])
			printf(", %u not looked at%s", d->count[FIND_UNKNOWN],
			       d->is_root ? "" : " (some need root: sudo sallyport doctor)");
		putchar('\n');
	}
	return d->count[FIND_FAIL] ? EXIT_FAILED : EXIT_OK;
}

int cmd_doctor(int argc, char **argv)
{
	struct doctor_args o = { 0 };
	auto_free struct doctor *d = calloc(1, sizeof(*d));
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("doctor", &w, 0, 0) : code;
	if (code >= 0)
		return code;
	if (!d)
		return cli_fail(EXIT_FAILED, "no memory");
	d->o = &o.common;
	d->is_root = geteuid() == 0;
	table_init(&d->table, columns, ARRAY_SIZE(columns));
	doctor_files(d);
	if (d->config) {
		doctor_host(d);
		doctor_daemon(d);
		doctor_doors(d);
	}
	code = print(d);
	table_fini(&d->table);
	config_free(d->config);
	return code;
}
