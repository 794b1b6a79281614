/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/watch.h"

#include <errno.h>
#include <stdio.h>

#include "agent/engine.h"
#include "agent/force.h"
#include "agent/label.h"
#include "agent/maps.h"
#include "agent/notify.h"
#include "agent/roles.h"
#include "agent/sandbox.h"
#include "agent/state.h"
#include "common/log.h"

/* Rationale: the engine knows a container before its cgroup exists, but may be busy or restarting.
 */
static const unsigned engine_delays_ms[] = { 50, 500, 2000, 10000 };
/* Rationale: a configuration that lists more parents is a mistake. */
#define WATCH_MAX 64

struct watched {
	struct agent *agent;
	const char *path; /* belongs to the configuration */
	int notify_id;	  /* 0: not watched now, it does not exist */
	uint64_t cgroup_id;
	uint64_t guarded_id; /* the cgroup that has a guard; 0: none */
};

static struct watched watched[WATCH_MAX];
static unsigned n_watched;

/* ---------------------------------------------------------------- rules and engine */

static bool sandbox_by_rules(struct sandbox *sb, char *tags, size_t size)
{
	struct label_facts facts = { sb->info.path, sb->info.container, sb->info.image,
				     sb->container_labels, sb->container_labels_bytes };

	return label_by_rules(sb->agent, &facts, tags, size);
}

void watch_apply_rules(struct sandbox *sb)
{
	char tags[MSG_TAGS_BYTES] = "";
	bool found;

	if (sb->info.origin != ORIGIN_RULE && sb->info.origin != ORIGIN_UNLABELLED)
		return;
	found = sandbox_by_rules(sb, tags, sizeof(tags));
	if (sandbox_change(sb, tags, found ? ORIGIN_RULE : ORIGIN_UNLABELLED))
		log_warn("a label cannot be changed cgroup=%s", log_quote(str_of(sb->info.path)));
}

bool watch_fall_back(struct sandbox *sb)
{
	char tags[MSG_TAGS_BYTES] = "";
	bool found;

	if (!sb->is_watched)
		return false;
	found = sandbox_by_rules(sb, tags, sizeof(tags));
	return sandbox_change(sb, tags, found ? ORIGIN_RULE : ORIGIN_UNLABELLED) == 0;
}

static void engine_retry(struct sandbox *sb);

/* Runtimes that keep their own network stack: neither our door nor our stamp exists in there. */
static void note_runtime(struct sandbox *sb, const char *runtime)
{
	static const char *const foreign[] = { "runsc", "kata", "firecracker" };

	for (unsigned i = 0; i < ARRAY_SIZE(foreign); i++)
		if (strstr(runtime, foreign[i]))
			snprintf(sb->info.note, sizeof(sb->info.note),
				 "force: unavailable, and no door (runtime %.40s has a network stack of its own)", runtime);
}

static void on_engine(void *arg, const struct engine_result *r)
{
	struct sandbox *sb = arg;
	char *labels;

	sb->engine = NULL;
	if (r->err) {
		engine_retry(sb);
		return;
	}
	str_copy(sb->info.container, sizeof(sb->info.container), str_of(r->name));
	str_copy(sb->info.image, sizeof(sb->info.image), str_of(r->image));
	note_runtime(sb, r->runtime);
	labels = r->labels_bytes ? malloc(r->labels_bytes) : NULL;
	if (labels)
		memcpy(labels, r->labels, r->labels_bytes);
	free(sb->container_labels);
	sb->container_labels = labels;
	sb->container_labels_bytes = labels ? r->labels_bytes : 0;
	roles_send_label(sb->agent, sb);
	state_save_soon(sb->agent);
	watch_apply_rules(sb);
	/* After the label: who waits in the backlog is judged by it. */
	sandbox_release_doors(sb);
}

static void on_engine_timer(void *arg)
{
	struct sandbox *sb = arg;
	char id[LABEL_ID_BYTES];

	if (!label_container_id(sb->info.path, id) ||
	    engine_ask(sb->agent, id, on_engine, sb, &sb->engine))
		engine_retry(sb);
}

static void engine_retry(struct sandbox *sb)
{
	uint64_t delay;

	if (sb->engine_tries == 2)
		sandbox_release_doors(sb);
	if (sb->engine_tries == ARRAY_SIZE(engine_delays_ms)) {
		log_limited(LOG_WARN,
			    "the container engine knows nothing of a container: is the socket in "
			    "`docker` right? cgroup=%s",
			    log_quote(str_of(sb->info.path)));
		return;
	}
	delay = engine_delays_ms[sb->engine_tries++] * NSEC_PER_MSEC;
	loop_timer(&sb->agent->loop, &sb->engine_timer, sb->agent->loop.now_ns + delay,
		   on_engine_timer, sb);
}

static bool is_container(const struct agent *a, const char *path)
{
	char id[LABEL_ID_BYTES];

	return a->config->docker.n && label_container_id(path, id);
}

static void engine_first(struct sandbox *sb)
{
	char id[LABEL_ID_BYTES];

	if (!is_container(sb->agent, sb->info.path) || !label_container_id(sb->info.path, id))
		return;
	if (engine_ask(sb->agent, id, on_engine, sb, &sb->engine))
		engine_retry(sb);
}

/* ---------------------------------------------------------------- parents */

static void child_seen(void *arg, const char *name)
{
	struct watched *w = arg;
	struct agent *a = w->agent;
	char path[CGROUP_PATH_BYTES], tags[MSG_TAGS_BYTES] = "", why[MSG_TEXT_BYTES];
	struct sandbox_request req = { .path = path, .tags = tags, .is_watched = true };
	struct label_facts facts = { .path = path, .container = "", .image = "" };
	struct sandbox *sb;

	if (snprintf(path, sizeof(path), "%s/%s", w->path[1] ? w->path : "", name) >=
	    (int)sizeof(path))
		return;
	sb = sandbox_alive(a, path);
	if (sb) {
		if (!sb->is_watched) {
			/* Labelled by hand or adopted from the state file. */
			sb->is_watched = true;
			engine_first(sb);
		}
		return;
	}
	if (label_allowed(a, path, why, sizeof(why)))
		return;
	req.engine_waits = is_container(a, path);
	req.origin =
		label_by_rules(a, &facts, tags, sizeof(tags)) ? ORIGIN_RULE : ORIGIN_UNLABELLED;
	if (sandbox_add(a, &req, &sb, why, sizeof(why))) {
		log_limited(LOG_WARN,
			    "a child of a watched cgroup is no sandbox cgroup=%s error=%s",
			    log_quote(str_of(path)), why);
		return;
	}
	engine_first(sb);
}

static void on_parent(void *arg, uint32_t mask, const char *name)
{
	struct watched *w = arg;
	struct sandbox *sb;
	char path[CGROUP_PATH_BYTES];

	if (mask & (IN_IGNORED | IN_DELETE_SELF | IN_Q_OVERFLOW)) {
		watch_scan(w->agent);
		return;
	}
	if (mask & IN_CREATE) {
		child_seen(w, name);
		return;
	}
	if (snprintf(path, sizeof(path), "%s/%s", w->path[1] ? w->path : "", name) <
	    (int)sizeof(path)) {
		sb = sandbox_by_path(w->agent, path);
		if (sb)
			sandbox_probe(sb);
	}
}

/* ---------------------------------------------------------------- guards */

/* The daemon's own processes, the gateway among them, must not be below a guard. */
static bool is_ours(const struct agent *a, const char *path)
{
	char self[CGROUP_PATH_BYTES];

	return !path[1] || cgroup_below(a->gateway_path, path) ||
	       (cgroup_of_pid(getpid(), self, sizeof(self)) == 0 && cgroup_below(self, path));
}

static unsigned n_guards(const struct agent *a)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_watched; i++)
		n += watched[i].agent == a && watched[i].guarded_id;
	return n;
}

/*
 * Between mkdir of a child and its label a process could already go to a provider: programs on the parent work from
 * the first instruction on.
 */
static void guard_set(struct watched *w, int fd, uint64_t id)
{
	struct agent *a = w->agent;
	struct gate_label label = { .cgroup_id = id, .level = cgroup_level(w->path), .mode = force_mode_of(a, "") };
	int err;

	if (w->guarded_id == id || sandbox_by_id(a, id))
		return;
	if (is_ours(a, w->path)) {
		log_limited(LOG_WARN, "no guard stands on %s: this daemon runs below it; start it elsewhere", w->path);
		return;
	}
	err = load_guard(&a->bpf, fd, &label);
	if (err) {
		log_limited(LOG_WARN, "no guard can stand on %s (%s): early connections of its children may pass", w->path,
			    err == -EPERM ? "another program is attached there alone: bpftool cgroup tree" : errno_text(err));
		return;
	}
	w->guarded_id = id;
	force_guards(a, n_guards(a));
}

void watch_guard_modes(struct agent *a)
{
	for (unsigned i = 0; i < n_watched; i++) {
		struct gate_label label = { .cgroup_id = watched[i].guarded_id,
					    .level = cgroup_level(watched[i].path),
					    .mode = force_mode_of(a, "") };

		/* A parent that is labelled itself has one label for both kinds of programs: the sandbox's. */
		if (watched[i].agent == a && label.cgroup_id && !sandbox_by_id(a, label.cgroup_id))
			maps_label_write(&a->bpf, &label);
	}
	force_guards(a, n_guards(a));
}

static bool is_guarded(const struct agent *a, uint64_t id)
{
	for (unsigned i = 0; i < n_watched; i++)
		if (watched[i].agent == a && watched[i].guarded_id == id)
			return true;
	return false;
}

static void drop_unknown_guard(void *arg, uint64_t id)
{
	struct agent *a = arg;

	if (!is_guarded(a, id))
		load_guard_release(&a->bpf, id);
}

static void watched_scan(struct watched *w)
{
	struct agent *a = w->agent;
	auto_close int fd = cgroup_open(&a->cg, w->path);
	uint64_t id = fd < 0 ? 0 : cgroup_id(fd);
	char path[CGROUP_PATH_BYTES + 280];
	int err;

	if (id != w->cgroup_id) {
		notify_remove(a->notify, w->notify_id);
		w->notify_id = 0;
		w->cgroup_id = 0;
		if (w->guarded_id)
			load_guard_release(&a->bpf, w->guarded_id);
		w->guarded_id = 0;
	}
	if (!id)
		return;
	guard_set(w, fd, id);
	if (!w->notify_id) {
		snprintf(path, sizeof(path), "%s%s", a->cg.path, w->path);
		err = notify_add(a->notify, path,
				 IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_ONLYDIR, on_parent, w);
		if (err < 0) {
			log_warn(
				"a parent of sandboxes cannot be watched, it is looked at every 5 s only "
				"path=%s error=%s",
				w->path, errno_text(err));
		} else {
			w->notify_id = err;
			w->cgroup_id = id;
		}
	}
	cgroup_each_child(fd, child_seen, w);
}

void watch_scan(struct agent *a)
{
	for (unsigned i = 0; i < n_watched; i++)
		if (watched[i].agent == a)
			watched_scan(&watched[i]);
}

/* One that does not exist is made: an engine that comes later then finds it watched. */
static void watched_create(struct agent *a, const char *path)
{
	auto_close int fd = path[1] ? cgroup_create(&a->cg, path) : -1;

	if (path[1] && fd < 0)
		log_warn(
			"cgroup.watch names a cgroup that does not exist and cannot be made path=%s error=%s",
			path, errno_text(fd));
}

/* Of a former configuration. */
static void drop_unwatched(struct agent *a)
{
	struct sandbox *next;

	for (struct sandbox *sb = a->sandboxes; sb; sb = next) {
		next = sb->next;
		if (!sb->is_watched &&
		    (sb->info.origin == ORIGIN_RULE || sb->info.origin == ORIGIN_UNLABELLED))
			sandbox_end(sb, "its parent is not in cgroup.watch any more");
	}
}

int watch_init(struct agent *a)
{
	n_watched = 0;
	for (unsigned i = 0; i < a->config->cgroup.n_watch && n_watched < WATCH_MAX; i++) {
		watched[n_watched] = (struct watched){ .agent = a, .path = a->config->cgroup.watch[i].s };
		watched_create(a, watched[n_watched++].path);
	}
	watch_scan(a);
	drop_unwatched(a);
	load_each_guard(&a->bpf, drop_unknown_guard, a);
	return 0;
}

void watch_fini(struct agent *a)
{
	for (unsigned i = 0; i < n_watched; i++)
		notify_remove(a->notify, watched[i].notify_id);
	n_watched = 0;
}
