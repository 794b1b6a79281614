/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "agent/spawn.h"
#include "common/log.h"

static const char *const kind_names[] = {
	[KEY_NONE] = "none", [KEY_FILE] = "file", [KEY_ENV] = "env",
	[KEY_CMD] = "cmd",   [KEY_CRED] = "cred", [KEY_LITERAL] = "literal",
};
_Static_assert(ARRAY_SIZE(kind_names) == KEY_KIND_MAX, "a kind of key lacks its name");

static void key_bad(struct key *k, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void key_bad(struct key *k, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(k->state, sizeof(k->state), fmt, ap);
	va_end(ap);
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}

bool key_path(const struct policy_provider *p, char *ret, size_t size)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");

	if (p->key_kind == KEY_FILE)
		return str_copy(ret, size, p->key_arg);
	if (p->key_kind == KEY_CRED && dir && !memchr(p->key_arg.s, '/', p->key_arg.n))
		return snprintf(ret, size, "%s/%.*s", dir, STR_ARG(p->key_arg)) < (int)size;
	return false;
}

/* Group and others must not read a key; a service manager's credentials may be shared with a group.
 */
static void key_check_file(struct key *k, const char *path, const struct stat *st, bool is_cred)
{
	if (!S_ISREG(st->st_mode))
		key_bad(k, "%s is no file", path);
	else if (st->st_mode & (is_cred ? 0007 : 0077))
		key_bad(k, "%s can be read by others: chmod 600 %s", path, path);
	else if (st->st_uid != 0 && st->st_uid != geteuid())
		key_bad(k, "%s belongs to user %u: chown root %s", path, st->st_uid, path);
	else if (!st->st_size)
		key_bad(k, "%s is empty: write the key into it", path);
	else if (st->st_size > KEY_BYTES_MAX)
		key_bad(k, "%s is longer than a key: name the key's own file", path);
}

static void key_open_file(const struct policy_provider *p, struct key *k)
{
	char path[MSG_PATH_BYTES];
	struct stat st;

	if (!key_path(p, path, sizeof(path))) {
		key_bad(k,
			p->key_kind == KEY_CRED
				? "no $CREDENTIALS_DIRECTORY: add LoadCredential=%.*s:FILE to the unit"
				: "the path of %.*s is too long",
			STR_ARG(p->key_arg));
		return;
	}
	k->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (k->fd < 0) {
		if (errno == ENOENT)
			key_bad(k, "%s is missing: write the key into it, chmod 600", path);
		else
			key_bad(k, "%s cannot be opened: %s", path, errno_text(errno));
		return;
	}
	if (fstat(k->fd, &st) < 0) {
		key_bad(k, "%s cannot be read: %s", path, errno_text(errno));
		return;
	}
	k->changed_ns = (uint64_t)st.st_mtim.tv_sec * NSEC_PER_SEC + (uint64_t)st.st_mtim.tv_nsec;
	key_check_file(k, path, &st, p->key_kind == KEY_CRED);
}

/* An unnamed file in memory with these bytes. */
static void key_from_memory(struct key *k, struct str bytes)
{
	k->fd = memfd_create("key", MFD_CLOEXEC);
	if (k->fd < 0 || write(k->fd, bytes.s, bytes.n) != (ssize_t)bytes.n)
		key_bad(k, "no memory for the key");
	else if (!bytes.n)
		key_bad(k, "the key is empty");
}

static void key_open_env(const struct policy_provider *p, struct key *k)
{
	char name[256];
	const char *value = NULL;

	if (str_copy(name, sizeof(name), p->key_arg))
		value = getenv(name);
	if (!value || !*value)
		key_bad(k, "$%s is not set: Environment= or EnvironmentFile= in the unit", name);
	else
		key_from_memory(k, str_of(value));
}

void key_open(const struct policy_provider *p, bool policy_is_safe, struct key *ret)
{
	struct key k = { .fd = -1, .state = "ok" };

	str_copy(k.provider, sizeof(k.provider), p->name);
	if (p->key_kind == KEY_NONE || p->key_kind == KEY_LITERAL)
		str_copy(k.source, sizeof(k.source), str_of(kind_names[p->key_kind]));
	else
		snprintf(k.source, sizeof(k.source), "%s:%.*s", kind_names[p->key_kind],
			 STR_ARG(p->key_arg));
	switch (p->key_kind) {
	case KEY_FILE:
	case KEY_CRED:
		key_open_file(p, &k);
		break;
	case KEY_ENV:
		key_open_env(p, &k);
		break;
	case KEY_LITERAL:
		key_from_memory(&k, p->key_arg);
		break;
	case KEY_CMD:
		k.is_command = policy_is_safe;
		if (!policy_is_safe)
			key_bad(&k,
				"cmd: is not run, others can write the policy file: chmod go-w it");
		break;
	case KEY_NONE:
	case KEY_KIND_MAX:
		break;
	}
	*ret = k;
}

void key_close(struct key *k)
{
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}

int key_command(struct key *k, const struct policy_provider *p)
{
	char command[4096];
	int pidfd = -1;
	pid_t pid;

	if (!str_copy(command, sizeof(command), p->key_arg)) {
		key_bad(k, "the command is too long: put it into a script");
		return -E2BIG;
	}
	k->fd = memfd_create("key", MFD_CLOEXEC);
	pid = k->fd < 0 ? -errno : spawn_clone(-1, &pidfd);
	if (pid < 0) {
		key_bad(k, "the command cannot be started: %s", errno_text(pid));
		return pid;
	}
	if (!pid) {
		int null = open("/dev/null", O_RDONLY);

		spawn_child_signals();
		if (null < 0 || dup2(null, 0) < 0 || dup2(k->fd, 1) < 0)
			_exit(127);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	return pidfd;
}

void key_command_done(struct key *k, int status)
{
	struct stat st;

	k->is_command = false;
	if (status == -ETIMEDOUT)
		key_bad(k, "the command took longer than 20 s and was ended");
	else if (status)
		key_bad(k, "the command failed with status %d: run it by hand", status);
	else if (fstat(k->fd, &st) < 0 || !st.st_size)
		key_bad(k, "the command printed nothing: run it by hand");
	else if (st.st_size > KEY_BYTES_MAX)
		key_bad(k, "the command printed more than a key");
}
