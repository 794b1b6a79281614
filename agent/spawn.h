/* SPDX-License-Identifier: Apache-2.0 */
/* Children that start inside a cgroup. The agent has one thread, so a plain clone is a fork. */
#pragma once

#include <sys/types.h>

/*
 * Like fork(): 0 in the child, the pid in the parent, negative errno. The child starts in the
 * cgroup that `cgroup_fd` is open on (-1: where the agent is). *ret_pidfd is CLOEXEC and the
 * caller's.
 */
pid_t spawn_clone(int cgroup_fd, int *ret_pidfd);

/* In a child: default signals, nothing blocked, and death when the agent dies before an exec. */
void spawn_child_signals(void);

/* Waits at most timeout_ms, then kills. The exit status as of waitid (0: left with 0), or negative
 * errno. */
int spawn_wait(int pidfd, int timeout_ms);
