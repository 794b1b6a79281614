/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cgroup.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "common/log.h"

/* Rationale: deeper trees exist nowhere; the kernel's own default is unlimited. */
#define CGROUP_DEPTH_MAX 32
/* Rationale: bounds the time of one walk through a tree that others may fill. */
#define CGROUP_WALK_MAX 65536

/* ---------------------------------------------------------------- the root */

/* The mount point of the first cgroup2 in mountinfo: "… 24 23 0:21 /root /point opts - cgroup2 …".
 */
static int find_mount(char *ret, size_t size)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[1024], point[512];
	int err = -ENOENT;

	if (!f)
		return -errno;
	while (err && fgets(line, sizeof(line), f)) {
		const char *type = strstr(line, " - ");

		if (!type || strncmp(type, " - cgroup2 ", 11))
			continue;
		if (sscanf(line, "%*s %*s %*s %*s %511s", point) == 1 &&
		    str_copy(ret, size, str_of(point)))
			err = 0;
	}
	fclose(f);
	return err;
}

int cgroup_root_open(struct cgroup_root *root, const char *configured, char *why, size_t why_size)
{
	struct statfs fs;
	int err = 0;

	*root = (struct cgroup_root){ .fd = -1 };
	if (!strcmp(configured, "auto"))
		err = find_mount(root->path, sizeof(root->path));
	else if (!str_copy(root->path, sizeof(root->path), str_of(configured)))
		err = -ENAMETOOLONG;
	if (err) {
		snprintf(
			why, why_size,
			"no cgroup v2 hierarchy is mounted: boot with "
			"systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup/unified");
		return err;
	}
	root->fd = open(root->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root->fd < 0) {
		err = -errno;
		snprintf(why, why_size,
			 "cannot open %s: %s; set cgroup.root to where cgroup2 is mounted",
			 root->path, errno_text(err));
		return err;
	}
	if (fstatfs(root->fd, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC) {
		snprintf(why, why_size,
			 "%s is not a cgroup2 file system; set cgroup.root to where it is mounted",
			 root->path);
		cgroup_root_close(root);
		return -EINVAL;
	}
	/* Fine for sandboxes below it; those of the rest of the host cannot be labelled from here. */
	if (cgroup_id(root->fd) != 1)
		log_info("%s is the root of a cgroup namespace: only cgroups below it can be sandboxes",
			 root->path);
	return 0;
}

void cgroup_root_close(struct cgroup_root *root)
{
	if (root->fd >= 0)
		close(root->fd);
	root->fd = -1;
}

/* ---------------------------------------------------------------- paths and ids */

static bool path_ok(const char *path)
{
	if (path[0] != '/' || strlen(path) >= CGROUP_PATH_BYTES)
		return false;
	if (!path[1])
		return true;
	for (const char *p = path; p && *p;) {
		const char *end = strchr(p + 1, '/');
		size_t n = end ? (size_t)(end - p - 1) : strlen(p + 1);

		if (!n || (n == 1 && p[1] == '.') || (n == 2 && p[1] == '.' && p[2] == '.'))
			return false;
		p = end;
	}
	return true;
}

int cgroup_open(const struct cgroup_root *root, const char *path)
{
	int fd;

	if (!path_ok(path))
		return -EINVAL;
	fd = openat(root->fd, path[1] ? path + 1 : ".",
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int cgroup_create(const struct cgroup_root *root, const char *path)
{
	char part[CGROUP_PATH_BYTES] = "";

	if (!path_ok(path) || !path[1])
		return -EINVAL;
	str_copy(part, sizeof(part), str_of(path));
	for (char *p = part + 1;; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = '\0';
		if (mkdirat(root->fd, part + 1, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = c;
		if (!c)
			break;
	}
	return cgroup_open(root, path);
}

static int remove_at(int parent, const char *name, unsigned depth)
{
	auto_close int fd = -1;
	struct dirent *e;
	DIR *dir;
	int copy;

	if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (depth >= CGROUP_DEPTH_MAX)
		return -ELOOP;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir) {
		if (copy >= 0)
			close(copy);
		return -ENOMEM;
	}
	while ((e = readdir(dir)))
		if (e->d_type == DT_DIR && e->d_name[0] != '.')
			remove_at(fd, e->d_name, depth + 1);
	closedir(dir);
	return unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_remove(const struct cgroup_root *root, const char *path)
{
	return path_ok(path) && path[1] ? remove_at(root->fd, path + 1, 0) : -EINVAL;
}

uint64_t cgroup_id(int fd)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + 16];
	} h = { .handle.handle_bytes = 16 };
	struct stat st;
	uint64_t id;
	int mount_id;

	if (name_to_handle_at(fd, "", &h.handle, &mount_id, AT_EMPTY_PATH) == 0 &&
	    h.handle.handle_bytes >= sizeof(id)) {
		memcpy(&id, h.handle.f_handle, sizeof(id));
		return id;
	}
	/* On 64-bit kernels the inode number is the id too. */
	return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

unsigned cgroup_level(const char *path)
{
	unsigned n = 0;

	for (const char *p = path; *p; p++)
		n += *p == '/' && p[1];
	return n;
}

bool cgroup_below(const char *path, const char *above)
{
	size_t n = strlen(above);

	if (n == 1)
		return true;
	return !strncmp(path, above, n) && (!path[n] || path[n] == '/');
}

/* ---------------------------------------------------------------- processes */

int cgroup_of_pid(pid_t pid, char *ret, size_t size)
{
	char name[64], line[CGROUP_PATH_BYTES + 64];
	int err = -ENOENT;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/cgroup", pid);
	f = fopen(name, "re");
	if (!f)
		return errno == ENOENT ? -ESRCH : -errno;
	while (fgets(line, sizeof(line), f)) {
		size_t n = strcspn(line, "\n");

		if (strncmp(line, "0::/", 4))
			continue;
		line[n] = '\0';
		err = !strncmp(line + 3, "/..", 3)	      ? -EXDEV
		      : str_copy(ret, size, str_of(line + 3)) ? 0
							      : -ENAMETOOLONG;
		break;
	}
	if (ferror(f))
		err = -ESRCH;
	fclose(f);
	return err;
}

static ssize_t read_at(int fd, const char *name, char *buf, size_t size)
{
	auto_close int file = openat(fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (file < 0)
		return -errno;
	n = read(file, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

int cgroup_populated(int fd)
{
	char text[256];
	ssize_t n = read_at(fd, "cgroup.events", text, sizeof(text));
	const char *p;

	if (n < 0)
		return (int)n;
	p = strstr(text, "populated ");
	return p ? p[10] == '1' : -EINVAL;
}

struct pid_walk {
	cgroup_pid_fn fn;
	void *arg;
	unsigned n, budget;
	bool stop;
};

static void walk_procs(int fd, struct pid_walk *w)
{
	auto_close int file = openat(fd, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	FILE *f = file < 0 ? NULL : fdopen(file, "re");
	char line[32];

	if (!f)
		return;
	(void)TAKE_FD(file); /* the stream closes it */
	while (!w->stop && fgets(line, sizeof(line), f)) {
		long pid = strtol(line, NULL, 10);

		/* 0: a process that our pid namespace does not show. */
		if (pid <= 0)
			continue;
		w->n++;
		w->stop = !w->fn(w->arg, (pid_t)pid) || w->n >= CGROUP_WALK_MAX;
	}
	fclose(f);
}

static DIR *dir_of(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);

	if (!dir && copy >= 0)
		close(copy);
	return dir;
}

static void walk_pids(int fd, struct pid_walk *w, unsigned depth)
{
	struct dirent *e;
	DIR *dir;

	walk_procs(fd, w);
	dir = depth < CGROUP_DEPTH_MAX && !w->stop ? dir_of(fd) : NULL;
	if (!dir)
		return;
	while (!w->stop && (e = readdir(dir))) {
		auto_close int child = -1;

		if (e->d_type != DT_DIR || e->d_name[0] == '.' || !w->budget--)
			continue;
		child = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child >= 0)
			walk_pids(child, w, depth + 1);
	}
	closedir(dir);
}

unsigned cgroup_each_pid(int fd, cgroup_pid_fn fn, void *arg)
{
	struct pid_walk w = { fn, arg, 0, CGROUP_WALK_MAX, false };

	walk_pids(fd, &w, 0);
	return w.n;
}

int cgroup_each_child(int fd, cgroup_child_fn fn, void *arg)
{
	DIR *dir = dir_of(fd);
	struct dirent *e;

	if (!dir)
		return -errno;
	while ((e = readdir(dir)))
		if (e->d_type == DT_DIR && e->d_name[0] != '.')
			fn(arg, e->d_name);
	closedir(dir);
	return 0;
}

struct name_walk {
	const char *name;
	char *ret;
	size_t size;
	unsigned found, budget;
};

static void walk_names(int fd, const char *path, struct name_walk *w, unsigned depth)
{
	DIR *dir = depth < CGROUP_DEPTH_MAX ? dir_of(fd) : NULL;
	struct dirent *e;

	if (!dir)
		return;
	while ((e = readdir(dir)) && w->budget) {
		char below[CGROUP_PATH_BYTES];
		auto_close int child = -1;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		w->budget--;
		if (snprintf(below, sizeof(below), "%s/%s", path, e->d_name) >= (int)sizeof(below))
			continue;
		if (!strcmp(e->d_name, w->name) && !w->found++)
			str_copy(w->ret, w->size, str_of(below));
		child = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (child >= 0)
			walk_names(child, below, w, depth + 1);
	}
	closedir(dir);
}

int cgroup_find_name(const struct cgroup_root *root, const char *name, char *ret, size_t size)
{
	struct name_walk w = { name, ret, size, 0, CGROUP_WALK_MAX };

	walk_names(root->fd, "", &w, 0);
	return w.found > 1 ? -EEXIST : w.found ? 0 : -ENOENT;
}

static bool kill_pid(void *arg, pid_t pid)
{
	(void)arg;
	kill(pid, SIGKILL);
	return true;
}

int cgroup_kill(int fd, int timeout_ms)
{
	for (int waited = 0; cgroup_populated(fd) == 1; waited += 10) {
		if (waited > timeout_ms)
			return -ETIMEDOUT;
		cgroup_each_pid(fd, kill_pid, NULL);
		poll(NULL, 0, 10);
	}
	return 0;
}
