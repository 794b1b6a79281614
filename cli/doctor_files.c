/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration, policy, keys and directories, as the daemon would find them. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "cli/doctor.h"
#include "cli/format.h"
#include "common/log.h"

/* A full disk stops the ledger; so much is a warning in time. */
#define DISK_LOW_BYTES (512ull << 20)
/* Rationale: a table of a few hundred models is far below. */
#define PRICES_TEXT_MAX (16u << 20)

/* The first error, as "LINE:COLUMN: text (and N more)". */
static void say_diags(struct doctor *d, const char *what, const char *path,
		      const struct policy_diags *diags)
{
	const struct policy_diag *first = NULL;

	for (unsigned i = 0; i < diags->n && !first; i++)
		if (diags->items[i].is_error)
			first = &diags->items[i];
	if (!first)
		doctor_say(d, FIND_FAIL, what, "%s is not valid", path);
	else if (diags->n_errors > 1)
		doctor_say(d, FIND_FAIL, what, "%s:%u:%u: %s (and %u more: sallyport policy check)",
			   path, first->line, first->column, first->text, diags->n_errors - 1);
	else
		doctor_say(d, FIND_FAIL, what, "%s:%u:%u: %s", path, first->line, first->column,
			   first->text);
}

static bool say_mode(struct doctor *d, const char *what, const char *path)
{
	struct stat st;

	if (stat(path, &st) == 0 && st.st_mode & 0002) {
		doctor_say(d, FIND_FAIL, what, "%s can be written by everybody: chmod o-w %s", path,
			   path);
		return false;
	}
	return true;
}

static void check_config(struct doctor *d, struct policy_diags *diags)
{
	const char *path = client_config_path(d->o);
	auto_free char *text = NULL;
	size_t n = 0;
	int err = client_read_file(path, CONFIG_TEXT_MAX, &text, &n);

	if (!err && !config_parse((struct str){ text, n }, &d->config, diags)) {
		if (say_mode(d, "configuration", path))
			doctor_say(d, diags->n ? FIND_WARN : FIND_OK, "configuration", "%s%s%s",
				   path, diags->n ? ": " : "",
				   diags->n ? diags->items[0].text : "");
		return;
	}
	if (!err)
		say_diags(d, "configuration", path, diags);
	else if (err == -ENOENT)
		doctor_say(d, FIND_FAIL, "configuration",
			   "there is no %s: write {} into it for the defaults", path);
	else
		doctor_say(d, err == -EACCES ? FIND_UNKNOWN : FIND_FAIL, "configuration",
			   "%s cannot be read: %s", path, errno_text(err));
	/* What can be looked at without it is looked at. */
	memset(diags, 0, sizeof(*diags));
	config_parse(STR("{}"), &d->config, diags);
}

/* ---------------------------------------------------------------- policy and keys */

static void check_key_file(struct doctor *d, const struct policy_provider *p, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 && errno == EACCES && !d->is_root)
		doctor_say(d, FIND_UNKNOWN, "key", "%.*s: only root can look at %s",
			   STR_ARG(p->name), path);
	else if (stat(path, &st) < 0)
		doctor_say(d, FIND_FAIL, "key",
			   "%.*s: %s is missing: write the key into it, chmod 600",
			   STR_ARG(p->name), path);
	else if (!S_ISREG(st.st_mode))
		doctor_say(d, FIND_FAIL, "key", "%.*s: %s is no file", STR_ARG(p->name), path);
	else if (st.st_mode & 0077)
		doctor_say(d, FIND_FAIL, "key", "%.*s: %s can be read by others: chmod 600 %s",
			   STR_ARG(p->name), path, path);
	else if (st.st_uid != 0)
		doctor_say(d, FIND_FAIL, "key", "%.*s: %s belongs to user %u: chown root %s",
			   STR_ARG(p->name), path, st.st_uid, path);
	else if (!st.st_size)
		doctor_say(d, FIND_FAIL, "key", "%.*s: %s is empty: write the key into it",
			   STR_ARG(p->name), path);
	else
		doctor_say(d, FIND_OK, "key", "%.*s: %s", STR_ARG(p->name), path);
}

/* Files can be looked at from here; what depends on the daemon's own environment, the daemon tells.
 */
static void check_key(struct doctor *d, const struct policy_provider *p)
{
	char path[MSG_PATH_BYTES];

	if (p->disabled || p->auth_mode == AUTH_NONE)
		return;
	if (p->key_kind == KEY_FILE && str_copy(path, sizeof(path), p->key_arg))
		check_key_file(d, p, path);
	else if (p->key_kind == KEY_NONE && p->auth_mode == AUTH_OVERRIDE)
		doctor_say(d, FIND_FAIL, "key",
			   "%.*s has no key: give it an apikey, or auth_mode \"none\"",
			   STR_ARG(p->name));
	else if (p->key_kind == KEY_LITERAL)
		doctor_say(
			d, FIND_WARN, "key",
			"%.*s: the key stands in the policy, where git shows it: use apikey \"file:/PATH\"",
			STR_ARG(p->name));
}

static void check_policy(struct doctor *d, struct policy_diags *diags)
{
	const char *path = d->config->policy.s;
	auto_free char *text = NULL, *prices = NULL;
	size_t n = 0, n_prices = 0;
	struct policy *p = NULL;
	int err = client_read_file(path, POLICY_TEXT_MAX, &text, &n);

	if (err) {
		doctor_say(d, err == -EACCES && !d->is_root ? FIND_UNKNOWN : FIND_FAIL, "policy",
			   err == -ENOENT
				   ? "there is no %s (%s): write one, see sallyport-policy(5)"
				   : "%s cannot be read: %s",
			   path, errno_text(err));
		return;
	}
	if (d->config->prices.n &&
	    client_read_file(d->config->prices.s, PRICES_TEXT_MAX, &prices, &n_prices))
		doctor_say(d, FIND_FAIL, "prices",
			   "%s cannot be read: set prices to a table that is there, or to \"\"",
			   d->config->prices.s);
	if (policy_parse((struct str){ text, n }, (struct str){ prices, n_prices }, &p, diags)) {
		say_diags(d, "policy", path, diags);
		return;
	}
	if (say_mode(d, "policy", path)) {
		if (diags->n)
			doctor_say(d, FIND_WARN, "policy", "%s: line %u: %s%s", path,
				   diags->items[0].line, diags->items[0].text,
				   diags->n > 1 ? " (and more: sallyport policy check)" : "");
		else
			doctor_say(d, FIND_OK, "policy", "%s, %u providers", path,
				   policy_n_providers(p));
	}
	for (unsigned i = 0; i < policy_n_providers(p); i++)
		check_key(d, policy_provider(p, i));
	doctor_providers(d, p);
	policy_free(p);
}

/* ---------------------------------------------------------------- directories */

static void check_disk(struct doctor *d)
{
	const char *path = d->config->state_dir.s;
	struct statvfs vfs;
	char room[FORMAT_BYTES];
	uint64_t bytes;

	if (statvfs(path, &vfs) < 0 && errno == ENOENT) {
		doctor_say(d, FIND_OK, "disk", "%s will be made by the daemon", path);
		return;
	}
	if (statvfs(path, &vfs) < 0) {
		doctor_say(d, FIND_UNKNOWN, "disk", "%s cannot be looked at: %s", path,
			   errno_text(errno));
		return;
	}
	bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	format_bytes((int64_t)bytes, room);
	if (vfs.f_flag & ST_RDONLY)
		doctor_say(d, FIND_FAIL, "disk",
			   "%s cannot be written: set state_dir to a disk that can", path);
	else if (!vfs.f_bavail || (vfs.f_files && !vfs.f_favail))
		doctor_say(
			d, FIND_FAIL, "disk",
			"%s is full, the ledger cannot go on: free space, or set ledger.retention",
			path);
	else if (bytes < DISK_LOW_BYTES)
		doctor_say(d, FIND_WARN, "disk",
			   "%s has %s left: free space, or set ledger.retention", path, room);
	else
		doctor_say(d, FIND_OK, "disk", "%s has %s left", path, room);
}

static void check_docker(struct doctor *d)
{
	const char *path = d->config->docker.s;
	struct stat st;

	if (!d->config->docker.n)
		return;
	if (stat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		doctor_say(d, FIND_OK, "containers", "an engine at %s", path);
	else
		doctor_say(d, FIND_UNKNOWN, "containers",
			   "no engine at %s; names and labels of containers need one", path);
}

void doctor_files(struct doctor *d)
{
	auto_free struct policy_diags *diags = calloc(1, sizeof(*diags));

	if (!diags)
		return;
	check_config(d, diags);
	if (!d->config)
		return;
	memset(diags, 0, sizeof(*diags));
	check_policy(d, diags);
	check_disk(d);
	check_docker(d);
}
