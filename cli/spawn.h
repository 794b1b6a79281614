/* SPDX-License-Identifier: Apache-2.0 */
/* Children that begin inside a cgroup: not one of their sockets is without its stamp. */
#pragma once

#include <sys/types.h>

/*
 * Like fork(), into the cgroup of this descriptor: 0 in the child, its pid, or negative errno. The
 * child shares our signal mask and handlers.
 */
pid_t spawn_into(int cgroup);
