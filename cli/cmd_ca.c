/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `sallyport ca`: the CA with which the gateway answers for providers' names. What is shown and installed lies in
 * RUN_DIR/ca, where the daemon puts it; the key is not there, and no command can show it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cli/client.h"
#include "cli/format.h"
#include "cli/print.h"
#include "cli/settings.h"
#include "common/json.h"
#include "common/log.h"

#define FILE_MAX (8u << 20)
/* Rationale: a new CA takes some milliseconds. */
#define ROTATE_WAIT_MS 5000

const char *const ca_words[] = { "show", "install", "rotate", NULL };

struct ca_args {
	struct cli_common common;
	const char *to;
	bool pem;
};
const struct cli_option ca_options[] = {
	{ "pem", 0, CLI_FLAG, CLI_AT(ca_args, pem), NULL, NULL, "show: the certificate itself, and those of former CAs" },
	{ "to", 0, CLI_TEXT, CLI_AT(ca_args, to), "PATH", NULL,
	  "install: write a bundle of the system's certificates and ours to this file or folder instead" },
	{ 0 },
};

/* ---------------------------------------------------------------- files of RUN_DIR/ca */

/* The caller frees it. */
static int read_file(const char *run_dir, const char *name, struct str *ret)
{
	char path[MSG_PATH_BYTES], *text;
	int err;

	snprintf(path, sizeof(path), "%s/ca/%s", run_dir, name);
	err = client_read_file(path, FILE_MAX, &text, &ret->n);
	if (!err)
		ret->s = text;
	return err;
}

static void free_text(struct str *text)
{
	free((void *)(uintptr_t)text->s);
}

static int no_ca(int err)
{
	if (err == -ENOENT)
		return cli_fail(EXIT_FAILED,
				"there is no CA: the daemon makes one when a provider of the policy has domains; see `sallyport log --events`");
	return cli_fail(EXIT_FAILED, "the CA cannot be read: %s", errno_text(err));
}

static int load(const char *run_dir, cJSON **ret)
{
	struct str text;
	int err = read_file(run_dir, "ca.json", &text);

	if (err)
		return no_ca(err);
	*ret = json_parse(text);
	free_text(&text);
	return *ret ? EXIT_OK : no_ca(-EBADMSG);
}

/* ---------------------------------------------------------------- show */

static uint64_t time_of(const cJSON *ca, const char *name)
{
	int64_t seconds = 0;

	json_int(ca, name, &seconds);
	return (uint64_t)seconds * NSEC_PER_SEC;
}

static struct str text_of(const cJSON *ca, const char *name)
{
	return str_of(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(ca, name)));
}

static const cJSON *first_of(const cJSON *ca, const char *list)
{
	const cJSON *items = cJSON_GetObjectItemCaseSensitive(ca, list);

	return items ? items->child : NULL;
}

static int show_json(const cJSON *ca)
{
	const cJSON *item;
	struct json_out j;

	json_out_init(&j);
	json_out_open(&j, NULL, '{');
	json_out_text(&j, "subject", text_of(ca, "subject"));
	json_out_text(&j, "fingerprint", text_of(ca, "fingerprint"));
	json_out_time(&j, "from", time_of(ca, "from"));
	json_out_time(&j, "until", time_of(ca, "until"));
	json_out_open(&j, "names", '[');
	for (item = first_of(ca, "names"); item; item = item->next)
		json_out_text(&j, NULL, str_of(cJSON_GetStringValue(item)));
	json_out_close(&j, ']');
	json_out_open(&j, "former", '[');
	for (item = first_of(ca, "former"); item; item = item->next)
		json_out_text(&j, NULL, text_of(item, "fingerprint"));
	json_out_close(&j, ']');
	json_out_close(&j, '}');
	return json_out_print(&j);
}

static int show_human(const cJSON *ca)
{
	char from[FORMAT_BYTES], until[FORMAT_BYTES], text[2 * FORMAT_BYTES + 8];
	const cJSON *item;

	format_rfc3339(time_of(ca, "from"), from);
	format_rfc3339(time_of(ca, "until"), until);
	snprintf(text, sizeof(text), "%.10s to %.10s", from, until);
	print_field("subject", text_of(ca, "subject"));
	print_field("SHA-256", text_of(ca, "fingerprint"));
	print_field("valid", str_of(text));
	printf("\nit may sign for these names and what lies below them, and for no addresses\n");
	for (item = first_of(ca, "names"); item; item = item->next) {
		printf("  ");
		print_text(str_of(cJSON_GetStringValue(item)));
		putchar('\n');
	}
	for (item = first_of(ca, "former"); item; item = item->next) {
		format_rfc3339(time_of(item, "until"), until);
		printf("\nformer CA, trusted until %.10s\n", until);
		print_field("SHA-256", text_of(item, "fingerprint"));
	}
	return EXIT_OK;
}

static int show_pem(const char *run_dir)
{
	struct str text;
	int err = read_file(run_dir, "ca.pem", &text);

	if (err)
		return no_ca(err);
	fwrite(text.s, 1, text.n, stdout);
	free_text(&text);
	return EXIT_OK;
}

static int ca_show(const struct ca_args *o, const char *run_dir)
{
	cJSON *ca = NULL;
	int code;

	if (o->pem)
		return show_pem(run_dir);
	code = load(run_dir, &ca);
	if (!code)
		code = o->common.json ? show_json(ca) : show_human(ca);
	cJSON_Delete(ca);
	return code;
}

/* ---------------------------------------------------------------- install */

static int copy_file(const char *run_dir, const char *name, const char *to)
{
	struct str text;
	auto_close int fd = -1;
	int err = read_file(run_dir, name, &text);

	if (err)
		return no_ca(err);
	fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	err = fd < 0 || write(fd, text.s, text.n) != (ssize_t)text.n ? errno : 0;
	free_text(&text);
	return err ? cli_fail(EXIT_FAILED, "%s cannot be written: %s", to, errno_text(err)) : EXIT_OK;
}

static void put_variable(void *arg, const char *name, const char *value)
{
	(void)arg;
	printf("export %s='%s'\n", name, value);
}

static int install_to(const char *run_dir, const char *to)
{
	char path[MSG_PATH_BYTES];
	struct stat st;
	bool is_folder = stat(to, &st) == 0 && S_ISDIR(st.st_mode);
	int code;

	if (strchr(to, '\''))
		return cli_fail(EXIT_USAGE, "a path with a quote in it fits into no shell line; use another");
	snprintf(path, sizeof(path), "%s%s", to, is_folder ? "/sallyport-bundle.pem" : "");
	code = copy_file(run_dir, "bundle.pem", path);
	if (!code)
		settings_trust(path, put_variable, NULL);
	return code;
}

/* Where distributions take certificates of the host's own from. */
static const struct {
	const char *folder, *file, *command;
} stores[] = {
	{ "/usr/local/share/ca-certificates", "sallyport.crt", "update-ca-certificates" }, /* Debian, Alpine */
	{ "/etc/pki/ca-trust/source/anchors", "sallyport.pem", "update-ca-trust" },	   /* Fedora */
	{ "/etc/ca-certificates/trust-source/anchors", "sallyport.crt", "update-ca-trust" }, /* Arch */
};

static int run_command(const char *name)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		execlp(name, name, (char *)NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}

static int install_here(const char *run_dir)
{
	char path[MSG_PATH_BYTES];
	int code;

	for (size_t i = 0; i < ARRAY_SIZE(stores); i++) {
		if (access(stores[i].folder, F_OK) < 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", stores[i].folder, stores[i].file);
		code = copy_file(run_dir, "ca.pem", path);
		if (code)
			return code;
		if (run_command(stores[i].command))
			return cli_fail(EXIT_FAILED, "%s failed: run it by hand; the certificate is in %s", stores[i].command, path);
		printf("this host's trust store has the CA now (%s); Node and Python's requests keep stores of their own: `sallyport env`\n",
		       path);
		return EXIT_OK;
	}
	return cli_fail(EXIT_FAILED, "this system's trust store was not found: use --to PATH and the variables that it prints");
}

/* ---------------------------------------------------------------- rotate */

static bool same_ca(const cJSON *a, const cJSON *b)
{
	return str_eq(text_of(a, "fingerprint"), text_of(b, "fingerprint"));
}

/* The daemon has begun; the new CA is there when its description is. */
static int wait_for_new(const struct ca_args *o, const char *run_dir, const cJSON *before)
{
	for (int waited = 0; waited < ROTATE_WAIT_MS; waited += 50) {
		struct str text;
		cJSON *ca = NULL;
		bool is_new;

		usleep(50000);
		if (read_file(run_dir, "ca.json", &text))
			continue;
		ca = json_parse(text);
		free_text(&text);
		is_new = ca && !same_ca(ca, before);
		cJSON_Delete(ca);
		if (is_new)
			return ca_show(o, run_dir);
	}
	return cli_fail(EXIT_FAILED, "no new CA came within %d s: see `sallyport log --events` and the daemon's log",
			ROTATE_WAIT_MS / 1000);
}

static int ca_rotate(const struct ca_args *o, const char *run_dir)
{
	auto_free struct control *c = calloc(1, sizeof(*c));
	const struct msg_result *r;
	struct str text;
	cJSON *before = NULL;
	int code;

	if (!c)
		return cli_fail(EXIT_FAILED, "no memory");
	if (!read_file(run_dir, "ca.json", &text)) {
		before = json_parse(text);
		free_text(&text);
	}
	code = control_open(&o->common, c);
	if (!code) {
		int err = control_ask(c, MSG_CTL_CA_ROTATE, NULL, 0);

		r = err ? NULL : control_payload(c, MSG_RESULT, sizeof(*r));
		code = !r ? control_failed(err ? err : -EBADMSG) : r->err ? cli_fail(EXIT_FAILED, "%.400s", r->text) : EXIT_OK;
		control_close(c);
	}
	code = code ? code : wait_for_new(o, run_dir, before);
	cJSON_Delete(before);
	return code;
}

/* ---------------------------------------------------------------- the command */

int cmd_ca(int argc, char **argv)
{
	struct ca_args o = { 0 };
	struct config *config = NULL;
	const char *word = "show";
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	code = code < 0 ? cli_count("ca", &w, 0, 1) : code;
	if (code >= 0)
		return code;
	if (w.n)
		word = w.items[0];
	code = client_config(&o.common, &config);
	if (code)
		return code;
	if (!strcmp(word, "show"))
		code = ca_show(&o, config->run_dir.s);
	else if (!strcmp(word, "install"))
		code = o.to ? install_to(config->run_dir.s, o.to) : install_here(config->run_dir.s);
	else if (!strcmp(word, "rotate"))
		code = ca_rotate(&o, config->run_dir.s);
	else
		code = cli_fail(EXIT_USAGE, "ca takes show, install or rotate");
	config_free(config);
	return code;
}
