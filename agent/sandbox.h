/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes: cgroups with programs, a label and doors. Each is known to kernel, workers and state
 * file from sandbox_add() to sandbox_end().
 */
#pragma once

#include "agent/agent.h"

/* Rationale: one process may make many namespaces; each open door costs every worker two
 * descriptors. */
#define SANDBOX_DOORS_MAX 16

struct control_conn;
struct door;
struct engine_query;

struct sandbox {
	struct sandbox *next;
	struct agent *agent;
	struct msg_sandbox info;
	unsigned level;
	int cgroup_fd;
	int events_wd;	 /* notify id of cgroup.events; 0: none */
	bool is_watched; /* a child of a watched parent: without an explicit label it falls back to
			    the rules */
	bool engine_waits; /* a container of which the engine has not told yet: its doors are held
			      back */
	struct door *doors[SANDBOX_DOORS_MAX];
	unsigned n_doors;
	unsigned n_names; /* below wildcards that it asked for as the first one */
	struct door *run_door; /* of `run`: the caller's, while the caller's connection lives */
	struct control_conn *run_conn;
	struct timer probe_timer, engine_timer;
	unsigned probe_step, engine_tries;
	struct engine_query *engine;
	char *container_labels; /* "name\0value\0…", for the rules */
	size_t container_labels_bytes;
};

struct sandbox_request {
	const char *path;
	const char *tags; /* checked */
	enum sandbox_origin origin;
	bool is_watched;
	bool engine_waits;
};

struct sandbox *sandbox_by_id(struct agent *a, uint64_t cgroup_id);
struct sandbox *sandbox_by_path(struct agent *a, const char *path);
/* The same, but one whose cgroup was removed (and perhaps made again) is ended first. */
struct sandbox *sandbox_alive(struct agent *a, const char *path);

/*
 * Labels the cgroup: tells the workers, then attaches, then opens doors. A cgroup that has a label
 * gets the new tags. 0 or negative errno with a sentence in `why`.
 */
int sandbox_add(struct agent *a, const struct sandbox_request *req, struct sandbox **ret, char *why,
		size_t why_size);
/* New tags or origin for one that is there. */
int sandbox_change(struct sandbox *sb, const char *tags, enum sandbox_origin origin);
/* The mode of its tags as the policy in force has it; connections that run are not touched. */
void sandbox_set_mode(struct sandbox *sb);
/* The label is taken off or the cgroup is gone: programs off, doors closed, workers told, memory
 * freed. */
void sandbox_end(struct sandbox *sb, const char *why);

/* Looks at its processes: doors in their namespaces, or the end of the sandbox. May free it. */
void sandbox_probe(struct sandbox *sb);
/* Probes often for some seconds: something has just changed. */
void sandbox_probe_soon(struct sandbox *sb);
/* The engine has told, or is not waited for any longer: the workers get the doors. */
void sandbox_release_doors(struct sandbox *sb);
/* The connection that asked for a `run` is gone. */
void sandbox_run_released(struct sandbox *sb);
/* Writes what `run` needs to know into the answer. */
int sandbox_run(struct agent *a, const char *hint, const char *tags, struct control_conn *conn,
		int netns_fd, struct sandbox **ret, char *why, size_t why_size);

/* At start: sandboxes of the state file that still exist; pins that belong to none are removed. */
void sandboxes_adopt(struct agent *a);
/* Begins the slow sweep. */
int sandboxes_start(struct agent *a);
/* Takes off empty `run` cgroups, and everything when `clean`. Frees the memory in any case. */
void sandboxes_fini(struct agent *a, bool clean);
/* After a change of the policy: the rules are asked again for what they labelled. */
void sandboxes_apply_rules(struct agent *a);
