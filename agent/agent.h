/* SPDX-License-Identifier: Apache-2.0 */
/* The one context of the privileged daemon; main.c fills it in, every file of agent/ works on it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/cgroup.h"
#include "agent/load.h"
#include "common/loop.h"
#include "common/msg.h"
#include "policy/config.h"

/* Rationale: numbers of workers; the table of balances has room for 64 writers, and the last one is the ledger. */
#define AGENT_SLOTS 63
/* Rationale: a former daemon's workers may still finish what runs while as many new ones start. */
#define AGENT_WORKERS_MAX 31

struct ca;
struct control;
struct door;
struct force;
struct journal;
struct names;
struct notify;
struct role;
struct rules;
struct sandbox;
struct suspects;

struct agent {
	struct loop loop;
	const char *config_path;
	struct config *config;
	char *config_text; /* as the workers get it */
	size_t config_bytes;
	bool clean_at_exit;
	bool stopping;
	uint64_t started_ns; /* wall clock */

	uid_t gateway_uid, ledger_uid, dns_uid;
	gid_t gid;
	unsigned n_workers;

	/* files */
	int lock_fd;
	int run_dir, state_dir, journal_dir, ledger_dir, ca_dir; /* directories */
	int balances_fd, ledger_listener;
	int doors_lock; /* held by every worker that serves doors */
	uint32_t generation; /* of this daemon's workers; never used twice */
	struct journal *journal; /* the agent's own */
	int journal_bell;
	uint64_t events_lost;

	/* kernel */
	struct cgroup_root cg;
	struct load bpf;
	int gateway_cg, parent_cg;
	char gateway_path[CGROUP_PATH_BYTES];
	char run_path[CGROUP_PATH_BYTES]; /* parent of the cgroups that `run` makes */
	char stamp_state[MSG_TEXT_BYTES]; /* "ok", or what is wrong */
	char kernel[64];

	struct force *force;
	struct names *names;
	struct suspects *suspects;

	struct door *doors;
	struct door *host_door; /* NULL: not opened */
	uint64_t host_netns_dev, host_netns_ino, next_door_id;
	unsigned n_doors;
	uint64_t door_failed_ns; /* when that was last said */

	struct sandbox *sandboxes;
	unsigned n_sandboxes;
	uint32_t next_label_id;	    /* the next that is given out */
	uint32_t reserved_label_id; /* the state file promises that none above was given out */
	struct timer save_timer, sweep_timer;
	uint64_t handoff_swept_ns, host_door_tried_ns;

	struct notify *notify;
	struct role *roles; /* workers, then the ledger */
	unsigned n_roles, restarts;
	struct rules *rules;
	struct ca *ca;
	struct control *control;
	struct watch signal_watch;
	int signal_fd;
	struct timer stop_timer, slots_timer;
};

/* ---------------------------------------------------------------- events.c */

/*
 * One event: a line in the log and a record for the ledger. `kind` is a stable word ("label",
 * "door_moved"); `sb` may be NULL. A full journal loses the record and counts it.
 */
void agent_event(struct agent *a, int level, const char *kind, const struct sandbox *sb,
		 const char *fmt, ...) PRINTF_LIKE(5, 6);

/* Something that happened `count` times to a process; what is not known is 0 or "". */
struct agent_incident {
	int level;
	const char *kind, *comm;
	const struct sandbox *sb; /* may be NULL */
	uint32_t pid, uid, count;
};
void agent_incident(struct agent *a, const struct agent_incident *what, const char *fmt, ...) PRINTF_LIKE(3, 4);
