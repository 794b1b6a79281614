/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs in the kernel: open, load, attach, pin, adopt, update. With agent/maps.c the only
 * user of libbpf. Everything that is attached is a pinned link, so it stays when the agent dies:
 *
 *   PIN_DIR/vABI/maps/NAME               every map, reused by the next start
 *   PIN_DIR/vABI/gateway/NAME            links on the gateway's cgroup
 *   PIN_DIR/vABI/sandbox/CGROUP_ID/NAME  links on a sandbox; the id in 16 hexadecimal digits
 *   PIN_DIR/vABI/guard/CGROUP_ID/NAME    links on a watched parent
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bpf/gate_abi.h"
#include "common/base.h"

#define LOAD_PATH_BYTES 384

struct gate_bpf;
struct load {
	struct gate_bpf *skel; /* NULL: not open */
	int lock_fd;	       /* on the pin directory, for as long as it is open; 0: none */
	char pin_dir[256];
	char dir[288];						   /* with the ABI's version */
	/* borrowed from the skeleton: */
	int label_fd, handoff_fd, doors_fd, budget_fd, reasons_fd;
	int config_fd, netns_fd, vip_fd, suspect_fd, events_fd;
};

/*
 * Loads the programs and takes over maps that are pinned. Mounts /sys/fs/bpf when the pin directory
 * lies there and it is not mounted. On failure *l is closed and `why` holds a sentence with the
 * cure.
 */
int load_open(struct load *l, const char *pin_dir, char *why, size_t why_size);
/* Links and pins stay. */
void load_close(struct load *l);

/* Attaches to the gateway's cgroup, or brings the pinned links to the programs of this object. */
int load_gateway(struct load *l, int cgroup_fd, uint64_t cgroup_id);
/*
 * The same for a sandbox; the label is in place before the programs that read it are attached. The
 * cgroup's id is label->cgroup_id. On failure nothing new stays attached.
 */
int load_sandbox(struct load *l, int cgroup_fd, const struct gate_label *label);
/* Detaches and forgets a sandbox. Harmless for an unknown one. */
void load_release(struct load *l, uint64_t cgroup_id);

/*
 * The guard of a watched parent: refuses providers' addresses to children that have no program of their own yet.
 * Of the label only cgroup_id and mode count. A parent that is a sandbox itself needs no guard.
 */
int load_guard(struct load *l, int cgroup_fd, const struct gate_label *label);
void load_guard_release(struct load *l, uint64_t cgroup_id);

/* Calls fn for each sandbox, or guarded parent, that has pins. fn may release it. */
typedef void (*load_pin_fn)(void *arg, uint64_t cgroup_id);
void load_each_pinned(struct load *l, load_pin_fn fn, void *arg);
void load_each_guard(struct load *l, load_pin_fn fn, void *arg);
/* Detaches and unpins everything, of other ABI versions too unless `others_only`. */
void load_clean(struct load *l, bool others_only);
