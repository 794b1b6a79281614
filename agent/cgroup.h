/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup2 hierarchy as the agent sees it: where it is mounted, paths below it, ids, processes.
 * No state of the agent is touched here. Paths begin with "/" and are relative to the root of
 * cgroup2.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base.h"
#include "common/str.h"

#define CGROUP_PATH_BYTES 512

struct cgroup_root {
	int fd;
	char path[256]; /* where it is mounted */
};

/*
 * Opens the root: `configured`, or the first mount of type cgroup2 when that is "auto". On failure
 * a sentence with the cure is in `why`.
 */
int cgroup_root_open(struct cgroup_root *root, const char *configured, char *why, size_t why_size);
void cgroup_root_close(struct cgroup_root *root);

/* A directory descriptor or negative errno. Refuses paths with "..", empty parts or too many bytes.
 */
int cgroup_open(const struct cgroup_root *root, const char *path);
/* Makes the cgroup and those above it; a descriptor like cgroup_open(). */
int cgroup_create(const struct cgroup_root *root, const char *path);
/* Removes it and what lies below, depth first. 0, -EBUSY while it has processes. */
int cgroup_remove(const struct cgroup_root *root, const char *path);
/* The kernel's 64-bit id, as BPF sees it; 0 on failure. */
uint64_t cgroup_id(int fd);
/* Number of parts of the path: the root is 0. */
unsigned cgroup_level(const char *path);
/* True when `path` is `above` or lies below it. */
bool cgroup_below(const char *path, const char *above);

/* The cgroup of a process; -ESRCH: gone, -ENOENT: not in cgroup2, -EXDEV: outside of what we see.
 */
int cgroup_of_pid(pid_t pid, char *ret, size_t size);
/* `populated` of cgroup.events: 1, 0 or negative errno. Processes further down count. */
int cgroup_populated(int fd);

/* Calls fn for each process in it and below, until fn returns false; returns how many were seen. */
typedef bool (*cgroup_pid_fn)(void *arg, pid_t pid);
unsigned cgroup_each_pid(int fd, cgroup_pid_fn fn, void *arg);
/* Calls fn with the name of each child directory. */
typedef void (*cgroup_child_fn)(void *arg, const char *name);
int cgroup_each_child(int fd, cgroup_child_fn fn, void *arg);

/*
 * The cgroup whose directory has this name, wherever it lies: for systemd units. 0, -ENOENT, or
 * -EEXIST when there are several (*ret is the first).
 */
int cgroup_find_name(const struct cgroup_root *root, const char *name, char *ret, size_t size);

/* Kills what runs in it; waits up to timeout_ms for it to be empty. 0 or -ETIMEDOUT. */
int cgroup_kill(int fd, int timeout_ms);
