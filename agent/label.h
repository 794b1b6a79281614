/* SPDX-License-Identifier: Apache-2.0 */
/* Names of cgroups and tags: what an operator may write, and what the policy's rules say. */
#pragma once

#include "agent/agent.h"

/* Rationale: what policy evaluation looks at; the room for their text is MSG_TAGS_BYTES. */
#define LABEL_TAGS_MAX	32
#define LABEL_TAG_BYTES 64
#define LABEL_ID_BYTES	65 /* 64 hexadecimal digits of a container */

/*
 * Checks "tag:a,tag:b", sorts, drops duplicates. 0, or -EINVAL with a sentence. An empty list is an
 * error.
 */
int label_tags(const char *in, char *ret, size_t size, char *why, size_t why_size);

enum label_kind { LABEL_PATH, LABEL_PID, LABEL_UNIT, LABEL_DOCKER };
struct label_target {
	enum label_kind kind;
	char name[CGROUP_PATH_BYTES]; /* path; unit with its suffix; container */
	pid_t pid;
};
/* "/path", "pid:N", "unit:NAME", "docker:NAME"; 0, or -EINVAL with a sentence. */
int label_target(const char *in, struct label_target *ret, char *why, size_t why_size);

/* The cgroup of a path, pid or unit (not of a container: ask the engine for its pid). */
int label_resolve(struct agent *a, const struct label_target *t, char *ret, size_t size, char *why,
		  size_t why_size);
/* Refuses the root, the gateway's cgroup and everything that holds it. */
int label_allowed(struct agent *a, const char *path, char *why, size_t why_size);

/* The container's id in the last part of the path (cgroupfs and systemd drivers), or false. */
bool label_container_id(const char *path, char ret[LABEL_ID_BYTES]);

/* What the rules of the policy say of a cgroup and its container; false: nothing. */
struct label_facts {
	const char *path, *container, *image;
	const char *labels; /* "name\0value\0…" */
	size_t labels_bytes;
};
bool label_by_rules(struct agent *a, const struct label_facts *facts, char *ret, size_t size);
