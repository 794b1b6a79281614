/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A sandbox is known by its cgroup's id; its path may be reused by another
 * one.
 *
 *   add:   id -> workers (they know the label before a stamp with it can arrive) -> programs and
 * label -> state file -> doors lives: cgroup.events, the first seconds after a change and a slow
 * sweep make us look at the processes: each network namespace they use gets a door, and one that
 * none uses any more loses it. (A container's first process switches its namespace after the cgroup
 * was made, and nothing tells.) ends:  the directory is gone, or has another id: programs off,
 * doors closed, workers told.
 *
 * An open listener keeps a namespace alive, so doors must be given up for namespaces to die.
 */
#include "agent/sandbox.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent/control.h"
#include "agent/door.h"
#include "agent/engine.h"
#include "agent/force.h"
#include "agent/incidents.h"
#include "agent/label.h"
#include "agent/maps.h"
#include "agent/notify.h"
#include "agent/roles.h"
#include "agent/state.h"
#include "agent/watch.h"
#include "common/log.h"

/* Rationale: runc switches namespaces within some 20 ms; slow hosts and hooks take seconds. */
static const unsigned probe_steps_ms[] = {
	2, 5, 10, 10, 20, 20, 50, 50, 100, 200, 500, 1000, 2000
};
#define SWEEP_NS (5 * NSEC_PER_SEC)
/* Rationale: an engine tells of a container once it runs, some 200 ms; clients wait no longer than
 * this. */
#define ENGINE_WAIT_NS (3 * NSEC_PER_SEC)
/* Rationale: the host's ports may come free again; trying costs a process. */
#define HOST_DOOR_RETRY_NS (60 * NSEC_PER_SEC)
/* Rationale: longer than the kernel retries a SYN by default (127 s). */
#define HANDOFF_MAX_AGE_NS (600 * NSEC_PER_SEC)

struct sandbox *sandbox_by_id(struct agent *a, uint64_t cgroup_id)
{
	struct sandbox *sb = a->sandboxes;

	while (sb && sb->info.cgroup_id != cgroup_id)
		sb = sb->next;
	return sb;
}

struct sandbox *sandbox_by_path(struct agent *a, const char *path)
{
	struct sandbox *sb = a->sandboxes;

	while (sb && strcmp(sb->info.path, path))
		sb = sb->next;
	return sb;
}

static void sandbox_note(struct sandbox *sb, const char *note)
{
	str_copy(sb->info.note, sizeof(sb->info.note), str_of(note));
}

/* ---------------------------------------------------------------- doors */

static bool netns_is_host(const struct agent *a, uint64_t dev, uint64_t ino)
{
	return dev == a->host_netns_dev && ino == a->host_netns_ino;
}

/* The namespace may have changed, or the number may be another process's by now: only what is
 * opened counts. */
static struct door *door_for_pid(struct sandbox *sb, pid_t pid)
{
	auto_close int fd = netns_open(pid);
	char path[CGROUP_PATH_BYTES];

	if (fd < 0 || cgroup_of_pid(pid, path, sizeof(path)) || !cgroup_below(path, sb->info.path))
		return NULL;
	return door_get(sb->agent, fd, (struct door_wish){ .held = sb->engine_waits });
}

struct door_scan {
	struct sandbox *sb;
	struct door *doors[SANDBOX_DOORS_MAX];
	unsigned n, n_procs;
	bool is_host_without_door;
	uint64_t last_dev, last_ino;
};

static void scan_add(struct door_scan *s, pid_t pid, uint64_t dev, uint64_t ino)
{
	struct agent *a = s->sb->agent;
	struct door *d = door_find(a, dev, ino);

	for (unsigned i = 0; i < s->n; i++)
		if (d && s->doors[i] == d)
			return;
	if (netns_is_host(a, dev, ino) && !a->host_door) {
		s->is_host_without_door = true;
		return;
	}
	if (s->n == SANDBOX_DOORS_MAX) {
		log_limited(LOG_WARN,
			    "a sandbox has too many network namespaces, some get no door cgroup=%s",
			    log_quote(str_of(s->sb->info.path)));
		return;
	}
	if (d)
		d->refs++;
	else
		d = door_for_pid(s->sb, pid);
	if (d)
		s->doors[s->n++] = d;
}

static bool scan_pid(void *arg, pid_t pid)
{
	struct door_scan *s = arg;
	uint64_t dev, ino;

	s->n_procs++;
	if (netns_of_pid(pid, &dev, &ino))
		return true;
	if (dev == s->last_dev && ino == s->last_ino)
		return true;
	s->last_dev = dev;
	s->last_ino = ino;
	scan_add(s, pid, dev, ino);
	return true;
}

static void sandbox_doors(struct sandbox *sb)
{
	struct door_scan s = { .sb = sb };
	struct door *old[SANDBOX_DOORS_MAX];
	unsigned n_old = sb->n_doors;

	if (sb->engine_waits && sb->agent->loop.wall_ns - sb->info.since_ns > ENGINE_WAIT_NS)
		sandbox_release_doors(sb);

	cgroup_each_pid(sb->cgroup_fd, scan_pid, &s);
	memcpy(old, sb->doors, sizeof(old));
	memcpy(sb->doors, s.doors, sizeof(s.doors));
	sb->n_doors = s.n;
	sb->info.n_procs = s.n_procs;
	/* New references were taken before old ones go: a door that stays is not closed in between.
	 */
	for (unsigned i = 0; i < n_old; i++)
		door_put(old[i]);
	sb->info.n_doors = s.n + !!sb->run_door;
	if (s.n)
		sb->info.door_port = s.doors[s.n - 1]->info.port;
	else if (sb->run_door)
		sb->info.door_port = sb->run_door->info.port;
	else
		sb->info.door_port = 0;
	if (s.is_host_without_door && !sb->info.note[0])
		sandbox_note(sb, "uses the host's network, where door.host is false");
}

void sandbox_release_doors(struct sandbox *sb)
{
	sb->engine_waits = false;
	for (unsigned i = 0; i < sb->n_doors; i++)
		door_release(sb->doors[i]);
}

/* ---------------------------------------------------------------- life */

/* The directory is still there and is still the same cgroup. */
static bool sandbox_exists(struct sandbox *sb)
{
	auto_close int fd = cgroup_open(&sb->agent->cg, sb->info.path);

	return fd >= 0 && cgroup_id(fd) == sb->info.cgroup_id;
}

static void sandbox_remove_run(struct sandbox *sb)
{
	struct agent *a = sb->agent;
	char path[CGROUP_PATH_BYTES];

	str_copy(path, sizeof(path), str_of(sb->info.path));
	sandbox_end(sb, "its processes ended");
	cgroup_remove(&a->cg, path);
}

void sandbox_probe(struct sandbox *sb)
{
	if (!sandbox_exists(sb)) {
		sandbox_end(sb, "the cgroup is gone");
		return;
	}
	if (sb->info.origin == ORIGIN_RUN && !sb->run_conn &&
	    cgroup_populated(sb->cgroup_fd) == 0) {
		sandbox_remove_run(sb);
		return;
	}
	sandbox_doors(sb);
}

static void on_probe(void *arg)
{
	struct sandbox *sb = arg;

	if (sb->probe_step < ARRAY_SIZE(probe_steps_ms))
		loop_timer(&sb->agent->loop, &sb->probe_timer,
			   sb->agent->loop.now_ns +
				   probe_steps_ms[sb->probe_step++] * NSEC_PER_MSEC,
			   on_probe, sb);
	sandbox_probe(sb);
}

void sandbox_probe_soon(struct sandbox *sb)
{
	sb->probe_step = 0;
	loop_timer(&sb->agent->loop, &sb->probe_timer, sb->agent->loop.now_ns, on_probe, sb);
}

static void on_cgroup_events(void *arg, uint32_t mask, const char *name)
{
	(void)name;
	if (!(mask & IN_IGNORED))
		sandbox_probe_soon(arg);
	else
		sandbox_probe(arg);
}

static struct gate_label sandbox_gate_label(const struct sandbox *sb)
{
	return (struct gate_label){ .label_id = sb->info.label_id,
				    .label_gen = sb->info.label_gen,
				    .level = sb->level,
				    .cgroup_id = sb->info.cgroup_id,
				    .mode = sb->info.mode };
}

void sandbox_set_mode(struct sandbox *sb)
{
	uint32_t mode = force_mode_of(sb->agent, sb->info.tags);
	struct gate_label label;
	int err;

	if (mode == sb->info.mode)
		return;
	sb->info.mode = mode;
	label = sandbox_gate_label(sb);
	err = maps_label_write(&sb->agent->bpf, &label);
	if (err)
		log_err("a mode cannot be changed cgroup=%s error=%s", log_quote(str_of(sb->info.path)), errno_text(err));
}

static int sandbox_attach(struct sandbox *sb)
{
	struct gate_label label = sandbox_gate_label(sb);
	char path[CGROUP_PATH_BYTES + 280];
	int err = load_sandbox(&sb->agent->bpf, sb->cgroup_fd, &label);

	if (err)
		return err;
	snprintf(path, sizeof(path), "%s%s/cgroup.events", sb->agent->cg.path, sb->info.path);
	sb->events_wd = notify_add(sb->agent->notify, path, IN_MODIFY, on_cgroup_events, sb);
	if (sb->events_wd < 0) {
		log_warn("cannot watch a cgroup, it is looked at every 5 s only: raise "
			 "fs.inotify.max_user_watches path=%s error=%s",
			 path, errno_text(sb->events_wd));
		sb->events_wd = 0;
	}
	return 0;
}

static void sandbox_free(struct sandbox *sb)
{
	struct agent *a = sb->agent;
	struct sandbox **link = &a->sandboxes;

	while (*link && *link != sb)
		link = &(*link)->next;
	if (*link) {
		*link = sb->next;
		a->n_sandboxes--;
	}
	notify_remove(a->notify, sb->events_wd);
	loop_untimer(&a->loop, &sb->probe_timer);
	loop_untimer(&a->loop, &sb->engine_timer);
	engine_cancel(sb->engine);
	for (unsigned i = 0; i < sb->n_doors; i++)
		door_put(sb->doors[i]);
	door_put(sb->run_door);
	if (sb->run_conn)
		control_run_ended(sb->run_conn);
	if (sb->cgroup_fd >= 0)
		close(sb->cgroup_fd);
	free(sb->container_labels);
	free(sb);
}

/* A new struct in the list, nothing done yet. */
static struct sandbox *sandbox_new(struct agent *a, const char *path, int *ret_err)
{
	auto_close int fd = cgroup_open(&a->cg, path);
	struct sandbox *sb;
	uint64_t id = fd < 0 ? 0 : cgroup_id(fd);

	if (fd < 0 || !id) {
		*ret_err = fd < 0 ? fd : -EIO;
		return NULL;
	}
	sb = calloc(1, sizeof(*sb));
	if (!sb) {
		*ret_err = -ENOMEM;
		return NULL;
	}
	*sb = (struct sandbox){ .agent = a, .next = a->sandboxes, .level = cgroup_level(path) };
	sb->cgroup_fd = TAKE_FD(fd);
	sb->info.cgroup_id = id;
	str_copy(sb->info.path, sizeof(sb->info.path), str_of(path));
	a->sandboxes = sb;
	a->n_sandboxes++;
	return sb;
}

static int sandbox_start(struct sandbox *sb)
{
	int err;

	roles_send_label(sb->agent, sb);
	err = sandbox_attach(sb);
	if (err)
		roles_send_unlabel(sb->agent, sb);
	return err;
}

static void say_why(const char *path, int err, char *why, size_t size)
{
	if (err == -ENOENT)
		snprintf(why, size, "there is no cgroup %s", path);
	else if (err == -EPERM)
		snprintf(
			why, size,
			"the kernel refuses programs on %s: another program is attached there or above it "
			"alone (bpftool cgroup tree)",
			path);
	else if (err == -ENOSPC)
		snprintf(why, size, "there are %d sandboxes, which is the limit: end some",
			 GATE_SANDBOX_MAX);
	else
		snprintf(why, size, "%s cannot be labelled: %s", path, errno_text(err));
}

struct sandbox *sandbox_alive(struct agent *a, const char *path)
{
	struct sandbox *sb = sandbox_by_path(a, path);

	if (sb && !sandbox_exists(sb)) {
		sandbox_end(sb, "the cgroup is gone");
		sb = NULL;
	}
	return sb;
}

/*
 * A label that somebody was told of outlives this daemon: the file has it before the programs are attached. What the
 * rules gave is found again, and need not wait for the disk.
 */
static void label_save(struct sandbox *sb)
{
	if (sb->info.origin == ORIGIN_EXPLICIT || sb->info.origin == ORIGIN_RUN)
		state_save(sb->agent);
	else
		state_save_soon(sb->agent);
}

int sandbox_add(struct agent *a, const struct sandbox_request *req, struct sandbox **ret, char *why,
		size_t why_size)
{
	struct sandbox *sb = sandbox_alive(a, req->path);
	int err = 0;

	if (sb) {
		err = sandbox_change(sb, req->tags, req->origin);
		if (err)
			say_why(req->path, err, why, why_size);
		*ret = sb;
		return err;
	}
	sb = sandbox_new(a, req->path, &err);
	if (!sb) {
		say_why(req->path, err, why, why_size);
		return err;
	}
	sb->is_watched = req->is_watched;
	sb->engine_waits = req->engine_waits;
	sb->info.label_id = state_next_label_id(a);
	sb->info.label_gen = 1;
	sb->info.origin = req->origin;
	sb->info.since_ns = a->loop.wall_ns;
	str_copy(sb->info.tags, sizeof(sb->info.tags), str_of(req->tags));
	sb->info.mode = force_mode_of(a, req->tags);
	label_save(sb);
	err = sb->info.label_id ? sandbox_start(sb) : -EIO;
	if (err) {
		say_why(req->path, err, why, why_size);
		sandbox_free(sb);
		state_save_soon(a);
		return err;
	}
	agent_event(a, req->origin == ORIGIN_UNLABELLED ? LOG_DEBUG : LOG_INFO,
		    req->origin == ORIGIN_UNLABELLED ? "sandbox" : "label", sb,
		    "cgroup is a sandbox now id=%u", sb->info.label_id);
	sandbox_doors(sb);
	sandbox_probe_soon(sb);
	*ret = sb;
	return 0;
}

int sandbox_change(struct sandbox *sb, const char *tags, enum sandbox_origin origin)
{
	struct agent *a = sb->agent;
	struct gate_label label;

	if (sb->info.origin == (uint32_t)origin && !strcmp(sb->info.tags, tags))
		return 0;
	sb->info.origin = origin;
	sb->info.label_gen++;
	str_copy(sb->info.tags, sizeof(sb->info.tags), str_of(tags));
	sb->info.mode = force_mode_of(a, tags);
	roles_send_label(a, sb);
	label_save(sb);
	agent_event(a, LOG_INFO, "label", sb, "label changed id=%u", sb->info.label_id);
	label = sandbox_gate_label(sb);
	return maps_label_write(&a->bpf, &label);
}

void sandbox_end(struct sandbox *sb, const char *why)
{
	struct agent *a = sb->agent;

	load_release(&a->bpf, sb->info.cgroup_id);
	incidents_end(a, sb->info.cgroup_id);
	agent_event(a, sb->info.origin == ORIGIN_UNLABELLED ? LOG_DEBUG : LOG_INFO, "unlabel", sb,
		    "no sandbox any more: %s", why);
	roles_send_unlabel(a, sb);
	sandbox_free(sb);
	watch_guard_modes(a); /* one on this cgroup is a guard's again */
	state_save_soon(a);
}

/* ---------------------------------------------------------------- run */

/* Letters, digits, "-", "_" and "." of what was asked for; "run" if nothing is left. */
static void run_name(const char *hint, char *ret, size_t size)
{
	size_t n = 0;

	for (; *hint && n + 1 < size; hint++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_",
			   *hint) ||
		    (*hint == '.' && n))
			ret[n++] = *hint;
	ret[n] = '\0';
	if (!n)
		str_copy(ret, size, STR("run"));
}

static bool netns_fd_is_host(const struct agent *a, int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && netns_is_host(a, st.st_dev, st.st_ino);
}

int sandbox_run(struct agent *a, const char *hint, const char *tags, struct control_conn *conn,
		int netns_fd, struct sandbox **ret, char *why, size_t why_size)
{
	char name[64], path[CGROUP_PATH_BYTES];
	auto_close int fd = -1;
	struct sandbox_request req = { .path = path, .tags = tags, .origin = ORIGIN_RUN };
	int err;

	run_name(hint, name, sizeof(name));
	/* A label id is never given out twice, so the name is free. */
	if (snprintf(path, sizeof(path), "%s/%s-%u", a->run_path, name, a->next_label_id) >=
	    (int)sizeof(path)) {
		snprintf(why, why_size, "cgroup.parent is too long: use a shorter one");
		return -ENAMETOOLONG;
	}
	fd = cgroup_create(&a->cg, path);
	if (fd < 0) {
		snprintf(why, why_size, "cannot make the cgroup %s: %s", path, errno_text(fd));
		return fd;
	}
	err = sandbox_add(a, &req, ret, why, why_size);
	if (err) {
		cgroup_remove(&a->cg, path);
		return err;
	}
	(*ret)->run_conn = conn;
	if (!netns_fd_is_host(a, netns_fd) || a->host_door)
		(*ret)->run_door = door_get(a, netns_fd, (struct door_wish){ 0 });
	sandbox_doors(*ret);
	return 0;
}

void sandbox_run_released(struct sandbox *sb)
{
	sb->run_conn = NULL;
	door_put(sb->run_door);
	sb->run_door = NULL;
	sandbox_probe_soon(sb);
}

/* ---------------------------------------------------------------- start, sweep, end */

static void adopt_one(struct agent *a, const struct msg_sandbox *info)
{
	int err = 0;
	struct sandbox *sb = sandbox_new(a, info->path, &err);

	if (!sb)
		return;
	if (sb->info.cgroup_id != info->cgroup_id) {
		sandbox_free(sb);
		return;
	}
	sb->info = *info;
	sb->info.n_doors = sb->info.n_procs = sb->info.door_port = 0;
	err = sandbox_attach(sb);
	if (err) {
		agent_event(a, LOG_ERR, "adopt_failed", sb,
			    "the programs of a sandbox cannot be renewed: %s", errno_text(err));
		sandbox_free(sb);
		return;
	}
	sandbox_doors(sb);
	sandbox_probe_soon(sb);
}

static void drop_unknown_pin(void *arg, uint64_t id)
{
	struct agent *a = arg;

	if (!sandbox_by_id(a, id))
		load_release(&a->bpf, id);
}

void sandboxes_adopt(struct agent *a)
{
	state_load(a, adopt_one);
	load_each_pinned(&a->bpf, drop_unknown_pin, a);
	if (a->n_sandboxes)
		agent_event(a, LOG_INFO, "adopted", NULL,
			    "%u sandboxes of the former daemon are kept", a->n_sandboxes);
}

static void on_sweep(void *arg)
{
	struct agent *a = arg;
	struct sandbox *next;

	loop_timer(&a->loop, &a->sweep_timer, a->loop.now_ns + SWEEP_NS, on_sweep, a);
	watch_scan(a);
	for (struct sandbox *sb = a->sandboxes; sb; sb = next) {
		next = sb->next;
		sandbox_probe(sb);
	}
	if (a->config->door.host && !a->host_door &&
	    a->loop.now_ns - a->host_door_tried_ns > HOST_DOOR_RETRY_NS) {
		a->host_door_tried_ns = a->loop.now_ns;
		door_open_host(a);
	}
	if (a->loop.now_ns - a->handoff_swept_ns > HANDOFF_MAX_AGE_NS / 4) {
		a->handoff_swept_ns = a->loop.now_ns;
		maps_handoff_sweep(&a->bpf, a->loop.now_ns, HANDOFF_MAX_AGE_NS);
	}
}

int sandboxes_start(struct agent *a)
{
	a->handoff_swept_ns = a->host_door_tried_ns = a->loop.now_ns;
	return loop_timer(&a->loop, &a->sweep_timer, a->loop.now_ns + SWEEP_NS, on_sweep, a);
}

void sandboxes_fini(struct agent *a, bool clean)
{
	struct sandbox *next;

	for (struct sandbox *sb = a->sandboxes; sb; sb = next) {
		next = sb->next;
		if (sb->info.origin == ORIGIN_RUN && cgroup_populated(sb->cgroup_fd) == 0)
			sandbox_remove_run(sb);
		else if (clean)
			sandbox_end(sb, "the daemon was told to clean up");
	}
	state_save(a);
	while (a->sandboxes)
		sandbox_free(a->sandboxes);
	loop_untimer(&a->loop, &a->save_timer);
	loop_untimer(&a->loop, &a->sweep_timer);
}

void sandboxes_apply_rules(struct agent *a)
{
	for (struct sandbox *sb = a->sandboxes; sb; sb = sb->next)
		watch_apply_rules(sb);
}
