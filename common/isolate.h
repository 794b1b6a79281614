/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a role gives up what it does not need, in four stages: start (close inherited descriptors, not
 * dumpable), user (groups, user, no new privileges, no capabilities), before loop (seccomp).
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Closes everything above `keep_up_to`; not dumpable; no core file. Dies on failure. */
void isolate_start(int keep_up_to);
/* The number behind a name or "#NUMBER" (NUL-terminated); dies with the cure when there is none. */
uid_t isolate_user_id(const char *name);
gid_t isolate_group_id(const char *name);
/* No supplementary groups, this user and group, no capabilities, no new privileges. Dies on failure. */
void isolate_user(uid_t uid, gid_t gid);
/*
 * Allows these system calls and no others, for this and all later threads: release builds are killed by
 * another one, debug builds (or SALLYPORT_SECCOMP=trap) name it first. Dies when the filter is refused.
 */
void isolate_syscalls(const int *allowed, size_t n);
