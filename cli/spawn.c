/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include "common/base.h"

#define EXIT_NO_CGROUP 126

/* Before 5.7, or where a filter knows no clone3: the child goes in by itself, before it does
 * anything else. */
static pid_t fork_into(int cgroup)
{
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid < 0 ? -errno : pid;
	fd = openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		_exit(EXIT_NO_CGROUP);
	close(fd);
	return 0;
}

pid_t spawn_into(int cgroup)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP,
				   .exit_signal = SIGCHLD,
				   .cgroup = (uint64_t)cgroup };
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid < 0 && (errno == ENOSYS || errno == E2BIG || errno == EINVAL || errno == EPERM))
		return fork_into(cgroup);
	return pid < 0 ? -errno : (pid_t)pid;
}
