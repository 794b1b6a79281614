/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport force`: what is done about connections past the gateway, and the break-glass that stops it. */
#include <errno.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/print.h"
#include "common/force.h"

struct force_args {
	struct cli_common common;
};
const char *const force_words[] = { "status", "on", "off", NULL };

/* ---------------------------------------------------------------- status */

static int force_json(const struct msg_force *f)
{
	struct json_out j;

	json_out_init(&j);
	json_out_open(&j, NULL, '{');
	json_out_text(&j, "state", str_of(f->text));
	json_out_text(&j, "default_mode", str_of(force_mode_name(f->mode)));
	json_out_int(&j, "off", f->is_off);
	json_out_int(&j, "names", f->n_names);
	json_out_int(&j, "addresses", f->n_addresses);
	json_out_open(&j, "tests", '{');
	for (unsigned i = 0; i < f->n_tests; i++)
		json_out_text(&j, f->tests[i].step, str_of(f->tests[i].result));
	json_out_close(&j, '}');
	json_out_open(&j, "counts", '{');
	for (unsigned i = 0; i < MSG_FORCE_COUNTS && f->count_names[i][0]; i++)
		json_out_int(&j, f->count_names[i], (int64_t)f->counts[i]);
	json_out_close(&j, '}');
	json_out_close(&j, '}');
	return json_out_print(&j);
}

static void force_human(const struct msg_force *f)
{
	const struct term *term = term_stdout();
	char text[96];

	print_field("force", str_of(f->text));
	snprintf(text, sizeof(text), "%u names of providers, %u addresses that they have or may share", f->n_names,
		 f->n_addresses);
	print_field("watched", str_of(text));
	printf("\nself test\n");
	for (unsigned i = 0; i < f->n_tests; i++) {
		bool ok = !strcmp(f->tests[i].result, "ok");

		printf("  %-32s%s", f->tests[i].step, print_color(term, ok ? STR("ok") : STR("fail")));
		print_text(str_of(f->tests[i].result));
		printf("%s\n", print_plain(term));
	}
	printf("\nsince the programs were loaded\n");
	for (unsigned i = 0; i < MSG_FORCE_COUNTS && f->count_names[i][0]; i++)
		if (f->counts[i])
			printf("  %-32s%llu\n", f->count_names[i], (unsigned long long)f->counts[i]);
}

/* ---------------------------------------------------------------- the command */

static int force_show(const struct force_args *o, struct control *c)
{
	const struct msg_force_wish wish = { .wish = FORCE_WISH_STATUS };
	int err = control_ask(c, MSG_CTL_FORCE, &wish, sizeof(wish));
	const struct msg_force *f = err ? NULL : control_payload(c, MSG_FORCE, sizeof(*f));

	if (!f)
		return control_failed(err ? err : -EBADMSG);
	if (o->common.json)
		return force_json(f);
	force_human(f);
	return EXIT_OK;
}

static int force_switch(const struct force_args *o, struct control *c, bool on)
{
	const struct msg_force_wish wish = { .wish = on ? FORCE_WISH_ON : FORCE_WISH_OFF };
	int err = control_ask(c, MSG_CTL_FORCE, &wish, sizeof(wish));
	const struct msg_result *r = err ? NULL : control_payload(c, MSG_RESULT, sizeof(*r));

	if (!r)
		return control_failed(err ? err : -EBADMSG);
	if (r->err)
		return cli_fail(EXIT_FAILED, "%.400s", r->text);
	/* For a program: the state that is now. */
	if (o->common.json)
		return force_show(o, c);
	printf(on ? "the forced path is on, as `egress` of the policy has it\n" :
		    "the forced path is off for every sandbox; the explicit door serves on. `sallyport force on` undoes it\n");
	return EXIT_OK;
}

int cmd_force(int argc, char **argv)
{
	struct force_args o = { 0 };
	auto_free struct control *c = calloc(1, sizeof(*c));
	const char *word = "status";
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("force", &w, 0, 1) : code;
	if (code >= 0)
		return code;
	if (w.n)
		word = w.items[0];
	if (strcmp(word, "status") && strcmp(word, "on") && strcmp(word, "off"))
		return cli_fail(EXIT_USAGE, "force takes status, on or off");
	if (!c)
		return cli_fail(EXIT_FAILED, "no memory");
	code = control_open(&o.common, c);
	if (code)
		return code;
	code = !strcmp(word, "status") ? force_show(&o, c) : force_switch(&o, c, !strcmp(word, "on"));
	control_close(c);
	return code;
}
