/* SPDX-License-Identifier: Apache-2.0 */
/* Paths and files of the hierarchy, on an ordinary directory tree that looks like one. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "agent/cgroup.h"
#include "tests/unit/test.h"

static char dir[] = "/tmp/sallyport-test-XXXXXX";
static struct cgroup_root root = { .fd = -1 };

static void open_root(void)
{
	if (root.fd >= 0)
		return;
	if (!mkdtemp(dir))
		abort();
	str_copy(root.path, sizeof(root.path), str_of(dir));
	root.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void put(const char *path, const char *text)
{
	int fd = openat(root.fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void levels(void)
{
	CHECK_INT(cgroup_level("/"), 0);
	CHECK_INT(cgroup_level("/a"), 1);
	CHECK_INT(cgroup_level("/a/b"), 2);
	CHECK_INT(cgroup_level("/a/b/"), 2);
}

static void below(void)
{
	CHECK(cgroup_below("/a/b", "/a"));
	CHECK(cgroup_below("/a", "/a"));
	CHECK(cgroup_below("/a", "/"));
	CHECK(!cgroup_below("/ab", "/a"));
	CHECK(!cgroup_below("/a", "/a/b"));
}

static void hostile_paths(void)
{
	static const char *const bad[] = { "",	    "a",  "/..",    "/a/..", "/../a",
					   "/a//b", "/.", "/a/./b", "/a/" };
	char longer[2 * CGROUP_PATH_BYTES];

	open_root();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(cgroup_open(&root, bad[i]), -EINVAL);
	memset(longer, 'a', sizeof(longer));
	longer[0] = '/';
	longer[sizeof(longer) - 1] = '\0';
	CHECK_INT(cgroup_open(&root, longer), -EINVAL);
	CHECK_INT(cgroup_create(&root, "/"), -EINVAL);
	CHECK_INT(cgroup_remove(&root, "/"), -EINVAL);
	CHECK_INT(cgroup_remove(&root, "/../x"), -EINVAL);
	CHECK_INT(symlinkat("/", root.fd, "link"), 0);
	CHECK(cgroup_open(&root, "/link") < 0);
	unlinkat(root.fd, "link", 0);
}

static void create_and_remove(void)
{
	int fd, again;

	open_root();
	fd = cgroup_create(&root, "/one/two/three");
	CHECK(fd >= 0);
	CHECK(cgroup_id(fd) != 0);
	again = cgroup_open(&root, "/one/two/three");
	CHECK(cgroup_id(again) == cgroup_id(fd));
	close(fd);
	close(again);
	CHECK_INT(cgroup_open(&root, "/one/none"), -ENOENT);
	CHECK_INT(cgroup_remove(&root, "/one"), 0);
	CHECK_INT(cgroup_open(&root, "/one"), -ENOENT);
	CHECK_INT(cgroup_remove(&root, "/one"), 0);
}

static void populated(void)
{
	int fd;

	open_root();
	fd = cgroup_create(&root, "/p");
	CHECK_INT(cgroup_populated(fd), -ENOENT);
	put("p/cgroup.events", "populated 1\nfrozen 0\n");
	CHECK_INT(cgroup_populated(fd), 1);
	put("p/cgroup.events", "frozen 1\npopulated 0\n");
	CHECK_INT(cgroup_populated(fd), 0);
	put("p/cgroup.events", "");
	CHECK_INT(cgroup_populated(fd), -EINVAL);
	unlinkat(root.fd, "p/cgroup.events", 0);
	close(fd);
	cgroup_remove(&root, "/p");
}

static bool sum_pid(void *arg, pid_t pid)
{
	*(long *)arg += pid;
	return true;
}

static bool stop_at_once(void *arg, pid_t pid)
{
	(void)arg;
	(void)pid;
	return false;
}

static void pids(void)
{
	long sum = 0;
	int fd, below_fd;

	open_root();
	fd = cgroup_create(&root, "/q");
	below_fd = cgroup_create(&root, "/q/r");
	put("q/cgroup.procs", "10\n0\n20\n");
	put("q/r/cgroup.procs", "300\n");
	CHECK_INT(cgroup_each_pid(fd, sum_pid, &sum), 3);
	CHECK_INT(sum, 330);
	CHECK_INT(cgroup_each_pid(fd, stop_at_once, NULL), 1);
	unlinkat(root.fd, "q/cgroup.procs", 0);
	unlinkat(root.fd, "q/r/cgroup.procs", 0);
	close(fd);
	close(below_fd);
	cgroup_remove(&root, "/q");
}

static void find_by_name(void)
{
	char path[CGROUP_PATH_BYTES];
	int fds[3];

	open_root();
	fds[0] = cgroup_create(&root, "/system.slice/a.service");
	fds[1] = cgroup_create(&root, "/user.slice/b.service");
	fds[2] = cgroup_create(&root, "/system.slice/b.service/inner");
	CHECK_INT(cgroup_find_name(&root, "a.service", path, sizeof(path)), 0);
	CHECK_STR(path, "/system.slice/a.service");
	CHECK_INT(cgroup_find_name(&root, "b.service", path, sizeof(path)), -EEXIST);
	CHECK_INT(cgroup_find_name(&root, "c.service", path, sizeof(path)), -ENOENT);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	cgroup_remove(&root, "/system.slice");
	cgroup_remove(&root, "/user.slice");
}

static void own_process(void)
{
	char path[CGROUP_PATH_BYTES] = "";
	int err = cgroup_of_pid(getpid(), path, sizeof(path));

	/* A host without version 2 has no such line. */
	CHECK(err == -ENOENT || err == -EXDEV || (err == 0 && path[0] == '/'));
	CHECK_INT(cgroup_of_pid(INT32_MAX, path, sizeof(path)), -ESRCH);
}

static void roots(void)
{
	struct cgroup_root r;
	char why[512] = "";

	CHECK_INT(cgroup_root_open(&r, "/proc", why, sizeof(why)), -EINVAL);
	CHECK(strstr(why, "cgroup.root"));
	CHECK_INT(cgroup_root_open(&r, "/nonexistent", why, sizeof(why)), -ENOENT);
	CHECK(strstr(why, "/nonexistent"));
	if (root.fd >= 0) {
		close(root.fd);
		rmdir(dir);
	}
}

TESTS(T(levels), T(below), T(hostile_paths), T(create_and_remove), T(populated), T(pids),
      T(find_by_name), T(own_process), T(roots))
