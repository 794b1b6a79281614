/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   RUN_DIR/control.sock     root 0600    the command line's
 *   RUN_DIR/ledger.sock      root 0600    the ledger's, opened here
 *   RUN_DIR/lock             root 0600    one daemon per run_dir
 *   RUN_DIR/doors            root 0600    locked while a worker serves doors
 *   STATE_DIR/agent.state    root 0600    labels
 *   STATE_DIR/ca/            root 0700: the workers, of the same user as the folder in it, do not come through
 *   STATE_DIR/ca/files/      gateway 0700  the CA for sandboxes, its key
 *   STATE_DIR/balances       gateway:group 0660
 *   STATE_DIR/ledger/        ledger:group 0750
 *   STATE_DIR/journal/       root:group 0770, setgid; wN.GENERATION of the gateway, agent of root,
 *                            live-N
 */
#include "agent/files.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/journal.h"
#include "common/log.h"

static bool number_of(struct str name, unsigned long *ret)
{
	char *end;

	if (name.n < 2 || name.s[0] != '#' || !isdigit((unsigned char)name.s[1]))
		return false;
	*ret = strtoul(name.s + 1, &end, 10);
	return !*end && *ret < UINT32_MAX;
}

static uid_t user_of(struct str name, const char *key)
{
	const struct passwd *pw;
	unsigned long n;

	if (number_of(name, &n))
		return (uid_t)n;
	pw = getpwnam(name.s);
	if (!pw)
		die("user %s does not exist: useradd --system --user-group --no-create-home --shell /usr/sbin/nologin %s, "
		    "or set users.%s",
		    name.s, name.s, key);
	return pw->pw_uid;
}

void files_users(struct agent *a)
{
	const struct config *c = a->config;
	const struct group *gr;
	unsigned long n;

	a->gateway_uid = user_of(c->users.gateway, "gateway");
	a->ledger_uid = user_of(c->users.ledger, "ledger");
	a->dns_uid = user_of(c->users.dns, "dns");
	if (number_of(c->users.group, &n)) {
		a->gid = (gid_t)n;
	} else {
		gr = getgrnam(c->users.group.s);
		if (!gr)
			die("group %s does not exist: groupadd --system %s, or set users.group",
			    c->users.group.s, c->users.group.s);
		a->gid = gr->gr_gid;
	}
	if (!a->gateway_uid || !a->ledger_uid || !a->dns_uid)
		die("users.gateway, users.ledger and users.dns must not be root: name users of their own");
}

static int make_path(const char *path, mode_t mode)
{
	char part[MSG_PATH_BYTES] = "";

	if (path[0] != '/' || !str_copy(part, sizeof(part), str_of(path)))
		return -EINVAL;
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(part, mode) < 0 && errno != EEXIST ? -errno : 0;
}

static int open_top(const char *path, const char *key, gid_t gid, mode_t mode)
{
	int err = make_path(path, mode);
	int fd = err ? err : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fchown(fd, 0, gid) < 0 || fchmod(fd, mode) < 0)
		die("cannot use %s as %s: %s; name a directory on a disk that can be written", path,
		    key, errno_text(err ? err : errno));
	return fd;
}

static int open_dir(int parent, const char *name, uid_t uid, gid_t gid, mode_t mode)
{
	int fd;

	if (mkdirat(parent, name, mode & 0777) < 0 && errno != EEXIST)
		die("cannot make the directory %s: %s", name, errno_text(errno));
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchown(fd, uid, gid) < 0 || fchmod(fd, mode) < 0)
		die("cannot use the directory %s: %s", name, errno_text(errno));
	return fd;
}

static void open_ca(struct agent *a)
{
	auto_close int outer = open_dir(a->state_dir, "ca", 0, 0, 0700);

	a->ca_dir = open_dir(outer, "files", a->gateway_uid, a->gid, 0700);
}

static void take_lock(struct agent *a)
{
	char pid[32] = "";
	ssize_t n;

	a->lock_fd = openat(a->run_dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (a->lock_fd < 0)
		die("cannot make %s/lock: %s", a->config->run_dir.s, errno_text(errno));
	if (flock(a->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		n = read(a->lock_fd, pid, sizeof(pid) - 1);
		pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
		die("another daemon uses %s (pid %s): stop it, or give this one its own run_dir, state_dir, pin_dir and "
		    "cgroup.parent",
		    a->config->run_dir.s, pid);
	}
	n = snprintf(pid, sizeof(pid), "%d\n", getpid());
	if (ftruncate(a->lock_fd, 0) < 0 || write(a->lock_fd, pid, (size_t)n) < 0)
		log_warn("cannot write the pid to the lock file error=%s", errno_text(errno));
}

void files_lock_dir(int fd, const char *key, const char *path)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return;
	die("another daemon uses %s as its %s: stop it, or give this one its own run_dir, state_dir, pin_dir and cgroup.parent",
	    path, key);
}

static int open_ledger_socket(struct agent *a)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	mode_t old;
	int err;

	if (fd < 0 || snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/ledger.sock",
			       a->config->run_dir.s) >= (int)sizeof(sun.sun_path))
		die("run_dir is too long: the path of a socket has room for 107 bytes");
	unlink(sun.sun_path);
	old = umask(0177);
	err = bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 || listen(fd, 64) < 0 ? errno : 0;
	umask(old);
	if (err)
		die("cannot listen on %s: %s", sun.sun_path, errno_text(err));
	return TAKE_FD(fd);
}

static void open_journal(struct agent *a)
{
	/* Kept open for the journal's life. */
	int dir = open_dir(a->journal_dir, "agent", 0, a->gid, 02770);
	int err = journal_open(dir, "agent", a->config->ledger.journal_limit_bytes, &a->journal);

	if (err)
		log_err("events are not recorded, only logged: the journal cannot be opened error=%s",
			errno_text(err));
	a->journal_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->journal_bell < 0)
		die("no eventfd: %s", errno_text(errno));
}

void files_open(struct agent *a)
{
	const struct config *c = a->config;

	umask(0022);
	a->run_dir = open_top(c->run_dir.s, "run_dir", 0, 0755);
	take_lock(a);
	a->state_dir = open_top(c->state_dir.s, "state_dir", a->gid, 0750);
	files_lock_dir(a->state_dir, "state_dir", c->state_dir.s);
	a->journal_dir = open_dir(a->state_dir, "journal", 0, a->gid, 02770);
	a->ledger_dir = open_dir(a->state_dir, "ledger", a->ledger_uid, a->gid, 0750);
	open_ca(a);
	a->balances_fd =
		openat(a->state_dir, "balances", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0660);
	if (a->balances_fd < 0 || fchown(a->balances_fd, a->gateway_uid, a->gid) < 0 ||
	    fchmod(a->balances_fd, 0660) < 0)
		die("cannot open %s/balances: %s", c->state_dir.s, errno_text(errno));
	a->doors_lock = openat(a->run_dir, "doors", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (a->doors_lock < 0)
		die("cannot make %s/doors: %s", c->run_dir.s, errno_text(errno));
	a->ledger_listener = open_ledger_socket(a);
	open_journal(a);
}

void files_close(struct agent *a)
{
	journal_close(a->journal);
	a->journal = NULL;
	unlinkat(a->run_dir, "ledger.sock", 0);
	unlinkat(a->run_dir, "doors", 0);
	unlinkat(a->run_dir, "lock", 0);
	close(a->doors_lock);
	close(a->ledger_listener);
	close(a->balances_fd);
	close(a->ledger_dir);
	close(a->journal_dir);
	close(a->ca_dir);
	close(a->state_dir);
	close(a->run_dir);
	close(a->journal_bell);
	close(a->lock_fd);
}
