/* SPDX-License-Identifier: Apache-2.0 */
/* `sallyport status`: what the daemon says of itself. */
#include <errno.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/format.h"
#include "cli/print.h"
#include "cli/untrusted.h"

/* Rationale: the daemon has answered already; a ledger that is busy must not make people wait. */
#define LEDGER_TIMEOUT_MS 2000

struct status_args {
	struct cli_common common;
};

static int status_json(const struct msg_status *s, const struct untrusted *u)
{
	struct json_out j;

	json_out_init(&j);
	json_out_open(&j, NULL, '{');
	json_out_text(&j, "version", str_of(s->version));
	json_out_int(&j, "pid", s->pid);
	json_out_time(&j, "started", s->started_ns);
	json_out_text(&j, "kernel", str_of(s->kernel));
	json_out_text(&j, "cgroup_root", str_of(s->cgroup_root));
	json_out_text(&j, "stamp", str_of(s->stamp));
	json_out_text(&j, "force", str_of(s->force));
	json_out_int(&j, "host_port", s->host_port);
	json_out_int(&j, "workers", s->n_workers);
	json_out_int(&j, "workers_ready", s->n_workers_ready);
	json_out_int(&j, "ledger_pid", s->ledger_pid);
	json_out_int(&j, "restarts", s->restarts);
	json_out_int(&j, "sandboxes", s->n_sandboxes);
	json_out_int(&j, "doors", s->n_doors);
	json_out_text(&j, "policy", str_of(s->policy_path));
	json_out_int(&j, "policy_generation", (int64_t)s->policy_generation);
	json_out_text(&j, "policy_error", str_of(s->policy_error));
	json_out_int(&j, "events_lost", (int64_t)s->events_lost);
	json_out_int(&j, "ca_untrusted", u->count);
	json_out_text(&j, "ca_untrusted_last", str_of(u->text));
	json_out_close(&j, '}');
	return json_out_print(&j);
}

static void field_state(const char *title, bool ok, const char *text)
{
	const struct term *term = term_stdout();

	printf("%-15s%s", title, print_color(term, ok ? STR("ok") : STR("fail")));
	print_text(str_of(text));
	printf("%s\n", print_plain(term));
}

static void status_human(const struct msg_status *s, const struct untrusted *u)
{
	char since[FORMAT_BYTES], text[MSG_PATH_BYTES + 64];

	format_ago(s->started_ns, format_now_ns(), since);
	printf("%-15ssallyport %.31s, pid %u, started %s\n", "daemon", s->version, s->pid, since);
	print_field("kernel", str_of(s->kernel));
	print_field("cgroups", str_of(s->cgroup_root));
	field_state("stamp", !strcmp(s->stamp, "ok"), s->stamp);
	print_field("force", str_of(s->force));
	if (s->host_port)
		printf("%-15shttp://127.0.0.1:%u on the host, %u open in all\n", "doors",
		       s->host_port, s->n_doors);
	else
		printf("%-15snone on the host, %u open in all\n", "doors", s->n_doors);
	snprintf(text, sizeof(text), "%u of %u ready, %u restarts", s->n_workers_ready,
		 s->n_workers, s->restarts);
	field_state("workers", s->n_workers && s->n_workers_ready == s->n_workers, text);
	snprintf(text, sizeof(text), s->ledger_pid ? "pid %u" : "does not run", s->ledger_pid);
	field_state("ledger", s->ledger_pid != 0, text);
	printf("%-15s%u\n", "sandboxes", s->n_sandboxes);
	if (s->policy_generation)
		snprintf(text, sizeof(text), "%.500s, generation %llu", s->policy_path,
			 (unsigned long long)s->policy_generation);
	else
		snprintf(text, sizeof(text), "%s", "none in force, every request is refused: mend the file, it is taken at once");
	field_state("policy", !s->policy_error[0], text);
	if (s->policy_error[0])
		field_state("", false, s->policy_error);
	if (u->count)
		field_state("CA", false, u->text);
	if (s->events_lost)
		printf("%-15s%llu\n", "events lost", (unsigned long long)s->events_lost);
}

/* What the ledger does not tell is left out: its state has a line of its own. */
static void ask_untrusted(const struct cli_common *o, struct untrusted *ret)
{
	struct config *config = NULL;

	*ret = (struct untrusted){ 0 };
	if (!client_config(o, &config) && config)
		untrusted_ask(config->run_dir.s, LEDGER_TIMEOUT_MS, ret);
	config_free(config);
}

int cmd_status(int argc, char **argv)
{
	struct status_args o = { 0 };
	auto_free struct control *c = calloc(1, sizeof(*c));
	const struct msg_status *s;
	struct untrusted untrusted;
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w), err;

	code = code < 0 ? cli_count("status", &w, 0, 0) : code;
	if (code >= 0)
		return code;
	if (!c)
		return cli_fail(EXIT_FAILED, "no memory");
	code = control_open(&o.common, c);
	if (code)
		return code;
	ask_untrusted(&o.common, &untrusted);
	err = control_ask(c, MSG_CTL_STATUS, NULL, 0);
	s = err ? NULL : control_payload(c, MSG_STATUS, sizeof(*s));
	if (!s)
		code = control_failed(err ? err : -EBADMSG);
	else if (o.common.json)
		code = status_json(s, &untrusted);
	else
		status_human(s, &untrusted);
	control_close(c);
	return code;
}
