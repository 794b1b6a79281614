/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A reload makes a new rule_set: reads policy and prices, parses them, opens
 * the keys, starts the commands that print keys. When the last command has ended the set takes the
 * place of the one in force and goes to the workers. A newer reload drops a set that still waits.
 *
 * Files are watched by their folders, since editors and configuration tools replace files by
 * renaming.
 */
#include "agent/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "agent/ca.h"
#include "agent/force.h"
#include "agent/keys.h"
#include "agent/notify.h"
#include "agent/roles.h"
#include "agent/sandbox.h"
#include "agent/spawn.h"
#include "common/buf.h"
#include "common/ipc.h"
#include "common/log.h"

/* Rationale: a key command may ask a server; a person waits for the answer to a reload. */
#define KEY_COMMAND_TIMEOUT_NS (20 * NSEC_PER_SEC)
/* Rationale: an editor writes a file in several steps. */
#define RELOAD_DELAY_NS (200 * NSEC_PER_MSEC)
#define SEND_TIMEOUT_MS 2000
#define FOLDERS_MAX	32

struct rule_set;
struct key_wait {
	struct watch watch;
	struct timer timer;
	int pidfd;
	unsigned key;
	struct rule_set *set;
};

struct rule_set {
	struct agent *agent;
	struct policy *policy;
	int policy_fd, prices_fd; /* their texts, in memory */
	struct key *keys;
	struct key_wait *waits;
	unsigned n_keys, n_waiting;
	uint64_t generation;
};

struct rules {
	struct rule_set *current, *next;
	uint64_t generation;
	char error[MSG_TEXT_BYTES];
	uint64_t seen; /* what the files looked like at the last reload, as a hash */
	struct timer timer;
	int folders[FOLDERS_MAX];
	unsigned n_folders;
};

/* ---------------------------------------------------------------- a set */

static void wait_end(struct key_wait *w)
{
	loop_unwatch(&w->set->agent->loop, &w->watch);
	loop_untimer(&w->set->agent->loop, &w->timer);
	if (w->pidfd >= 0)
		close(w->pidfd);
	w->pidfd = -1;
}

static void set_free(struct rule_set *set)
{
	if (!set)
		return;
	for (unsigned i = 0; i < set->n_keys; i++) {
		if (set->waits && set->waits[i].pidfd >= 0) {
			spawn_wait(set->waits[i].pidfd, 0);
			wait_end(&set->waits[i]);
		}
		key_close(&set->keys[i]);
	}
	policy_free(set->policy);
	if (set->policy_fd >= 0)
		close(set->policy_fd);
	if (set->prices_fd >= 0)
		close(set->prices_fd);
	free(set->keys);
	free(set->waits);
	free(set);
}

static int memory_file(const char *name, struct str text)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -errno;
	if (write(fd, text.s, text.n) != (ssize_t)text.n ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0) {
		close(fd);
		return -ENOSPC;
	}
	return fd;
}

/* 0 with the text; *ret_safe: nobody but root can have written it. */
static int read_file(const char *path, size_t max, struct buf *ret, bool *ret_safe, char *why,
		     size_t why_size)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	char *room;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0) {
		int err = -errno;

		snprintf(why, why_size, "%s cannot be read: %s", path, errno_text(-err));
		return err;
	}
	if (!S_ISREG(st.st_mode) || st.st_mode & 0002) {
		snprintf(why, why_size,
			 S_ISREG(st.st_mode) ? "%s can be written by everybody: chmod o-w %s"
					     : "%s is no file",
			 path, path);
		return -EPERM;
	}
	*ret_safe = !(st.st_mode & 0022) && (st.st_uid == 0 || st.st_uid == geteuid());
	do {
		room = buf_len(ret) <= max ? buf_reserve(ret, 16384) : NULL;
		if (!room) {
			snprintf(why, why_size, "%s is longer than %zu bytes", path, max);
			return -EFBIG;
		}
		n = read(fd, room, 16384);
		if (n > 0)
			buf_commit(ret, (size_t)n);
	} while (n > 0);
	if (n < 0)
		snprintf(why, why_size, "%s cannot be read: %s", path, errno_text(errno));
	return n < 0 ? -errno : 0;
}

/* The first error, as "FILE:LINE:COLUMN: text". */
static void say_diags(const struct policy_diags *d, struct str file, char *why, size_t size)
{
	const struct policy_diag *first = NULL;

	for (unsigned i = 0; i < d->n && !first; i++)
		if (d->items[i].is_error)
			first = &d->items[i];
	if (!first)
		snprintf(why, size, "%.*s cannot be used", STR_ARG(file));
	else if (d->n_errors > 1)
		snprintf(why, size, "%.*s:%u:%u: %s (and %u more)", STR_ARG(file), first->line,
			 first->column, first->text, d->n_errors - 1);
	else
		snprintf(why, size, "%.*s:%u:%u: %s", STR_ARG(file), first->line, first->column,
			 first->text);
}

static int set_parse(struct rule_set *set, struct str policy, struct str prices, char *why,
		     size_t why_size)
{
	auto_free struct policy_diags *diags = calloc(1, sizeof(*diags));
	const struct config *c = set->agent->config;
	int err = diags ? policy_parse(policy, prices, &set->policy, diags) : -ENOMEM;

	if (err == -EINVAL)
		say_diags(diags, c->policy, why, why_size);
	else if (err)
		snprintf(why, why_size, "%s cannot be used: %s", c->policy.s, errno_text(err));
	for (unsigned i = 0; !err && i < diags->n; i++)
		log_warn("%s:%u:%u: %s", c->policy.s, diags->items[i].line, diags->items[i].column,
			 diags->items[i].text);
	if (err)
		return err;
	set->policy_fd = memory_file("policy", policy);
	set->prices_fd = memory_file("prices", prices);
	if (set->policy_fd < 0 || set->prices_fd < 0) {
		snprintf(why, why_size, "no memory for the policy");
		return -ENOMEM;
	}
	return 0;
}

static void say_no_policy(const struct agent *a, char *why, size_t size)
{
	snprintf(why, size, "there is no policy %s: %s, see sallyport-policy(5)", a->config->policy.s,
		 a->rules->current ? "the one before stays in force until you write one" :
				     "every request is refused until you write one");
}

static int set_read(struct rule_set *set, bool *ret_safe, char *why, size_t why_size)
{
	const struct config *c = set->agent->config;
	struct buf policy, prices;
	bool prices_safe;
	int err;

	buf_init(&policy, POLICY_TEXT_MAX + 32768);
	buf_init(&prices, POLICY_TEXT_MAX + 32768);
	err = read_file(c->policy.s, POLICY_TEXT_MAX, &policy, ret_safe, why, why_size);
	if (err == -ENOENT)
		say_no_policy(set->agent, why, why_size);
	if (!err && c->prices.n)
		err = read_file(c->prices.s, POLICY_TEXT_MAX, &prices, &prices_safe, why, why_size);
	if (!err)
		err = set_parse(set, buf_str(&policy), buf_str(&prices), why, why_size);
	buf_fini(&policy);
	buf_fini(&prices);
	return err;
}

/* ---------------------------------------------------------------- keys */

static void set_in_force(struct rule_set *set);

static void wait_done(struct key_wait *w, int timeout_ms)
{
	struct rule_set *set = w->set;
	int status = spawn_wait(w->pidfd, timeout_ms);

	key_command_done(&set->keys[w->key], status);
	wait_end(w);
	if (!--set->n_waiting)
		set_in_force(set);
}

static void on_key_command(void *arg, uint32_t events)
{
	(void)events;
	wait_done(arg, -1);
}

static void on_key_timeout(void *arg)
{
	wait_done(arg, 0);
}

static void set_run_command(struct rule_set *set, unsigned i)
{
	struct agent *a = set->agent;
	struct key_wait *w = &set->waits[i];

	w->pidfd = key_command(&set->keys[i], policy_provider(set->policy, i));
	if (w->pidfd < 0) {
		set->keys[i].is_command = false;
		return;
	}
	set->n_waiting++;
	loop_watch(&a->loop, &w->watch, w->pidfd, EPOLLIN, on_key_command, w);
	loop_timer(&a->loop, &w->timer, a->loop.now_ns + KEY_COMMAND_TIMEOUT_NS, on_key_timeout, w);
}

static int set_open_keys(struct rule_set *set, bool policy_is_safe)
{
	unsigned n = policy_n_providers(set->policy);

	set->keys = calloc(n + 1, sizeof(*set->keys));
	set->waits = calloc(n + 1, sizeof(*set->waits));
	if (!set->keys || !set->waits)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		set->waits[i] = (struct key_wait){ .pidfd = -1, .key = i, .set = set };
		key_open(policy_provider(set->policy, i), policy_is_safe, &set->keys[i]);
		set->n_keys = i + 1;
	}
	for (unsigned i = 0; i < n; i++)
		if (set->keys[i].is_command)
			set_run_command(set, i);
	return 0;
}

/* ---------------------------------------------------------------- watching the files */

static void on_reload_timer(void *arg);

static void on_folder(void *arg, uint32_t mask, const char *name)
{
	struct agent *a = arg;

	(void)mask;
	(void)name;
	loop_timer(&a->loop, &a->rules->timer, a->loop.now_ns + RELOAD_DELAY_NS, on_reload_timer,
		   a);
}

static void watch_folder(struct agent *a, const char *file)
{
	struct rules *r = a->rules;
	char folder[MSG_PATH_BYTES];
	char *slash;
	int id;

	if (r->n_folders == FOLDERS_MAX || !str_copy(folder, sizeof(folder), str_of(file)))
		return;
	slash = strrchr(folder, '/');
	if (!slash)
		str_copy(folder, sizeof(folder), STR("."));
	else
		slash[slash == folder] = '\0';
	id = notify_add(a->notify, folder,
			IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE | IN_ATTRIB | IN_ONLYDIR,
			on_folder, a);
	if (id > 0)
		r->folders[r->n_folders++] = id;
}

static void unwatch_folders(struct agent *a)
{
	for (unsigned i = 0; i < a->rules->n_folders; i++)
		notify_remove(a->notify, a->rules->folders[i]);
	a->rules->n_folders = 0;
}

/* Calls fn for each file that the rules come from: those of the set in force, or at least the
 * policy. */
static void each_file(struct agent *a, void (*fn)(struct agent *a, const char *path, void *arg),
		      void *arg)
{
	const struct rule_set *set = a->rules->current;

	fn(a, a->config_path, arg);
	fn(a, a->config->policy.s, arg);
	if (a->config->prices.n)
		fn(a, a->config->prices.s, arg);
	for (unsigned i = 0; set && i < set->n_keys; i++) {
		char path[MSG_PATH_BYTES];

		if (key_path(policy_provider(set->policy, i), path, sizeof(path)))
			fn(a, path, arg);
	}
}

static void watch_file(struct agent *a, const char *path, void *arg)
{
	(void)arg;
	watch_folder(a, path);
}

/* FNV-1a; a change that it misses is seen at the next one, or by SIGHUP. */
static void see_file(struct agent *a, const char *path, void *arg)
{
	uint64_t *hash = arg;
	struct stat st = { 0 };
	uint64_t facts[5] = { 0 };
	const unsigned char *p = (const unsigned char *)facts;

	(void)a;
	if (stat(path, &st) < 0)
		st.st_size = -1;
	facts[0] = st.st_ino;
	facts[1] = (uint64_t)st.st_size;
	facts[2] = (uint64_t)st.st_mtim.tv_sec;
	facts[3] = (uint64_t)st.st_mtim.tv_nsec;
	facts[4] = (uint64_t)st.st_mode << 32 | st.st_uid;
	for (size_t i = 0; i < sizeof(facts); i++)
		*hash = (*hash ^ p[i]) * 0x100000001b3ULL;
}

/* True when a file looks other than at the last call. */
static bool files_changed(struct agent *a)
{
	uint64_t now = 0xcbf29ce484222325ULL;
	bool changed;

	each_file(a, see_file, &now);
	changed = now != a->rules->seen;
	a->rules->seen = now;
	return changed;
}

static void on_reload_timer(void *arg)
{
	if (files_changed(arg))
		rules_reload(arg);
}

/* ---------------------------------------------------------------- reload */

static void set_in_force(struct rule_set *set)
{
	struct agent *a = set->agent;
	struct rules *r = a->rules;
	unsigned bad = 0;

	set_free(r->current);
	r->current = set;
	r->next = NULL;
	r->error[0] = '\0';
	for (unsigned i = 0; i < set->n_keys; i++) {
		if (!strcmp(set->keys[i].state, "ok"))
			continue;
		bad++;
		agent_event(a, LOG_WARN, "key_bad", NULL, "provider %s has no usable key: %s",
			    set->keys[i].provider, set->keys[i].state);
	}
	agent_event(a, LOG_INFO, "policy", NULL,
		    "policy in force generation=%llu providers=%u without_key=%u",
		    (unsigned long long)set->generation, set->n_keys, bad);
	unwatch_folders(a);
	each_file(a, watch_file, NULL);
	files_changed(a);
	roles_send_rules(a);
	sandboxes_apply_rules(a);
	force_apply_policy(a);
	ca_refresh(a, false);
}

int rules_reload(struct agent *a)
{
	struct rules *r = a->rules;
	struct rule_set *set = calloc(1, sizeof(*set));
	char why[MSG_TEXT_BYTES] = "no memory";
	bool is_safe = false;
	int err;

	if (!set)
		return -ENOMEM;
	*set = (struct rule_set){ .agent = a, .policy_fd = -1, .prices_fd = -1 };
	err = set_read(set, &is_safe, why, sizeof(why));
	err = err ? err : set_open_keys(set, is_safe);
	if (err) {
		set_free(set);
		str_copy(r->error, sizeof(r->error), str_of(why));
		agent_event(a, LOG_ERR, "policy_refused", NULL, "%s", why);
		if (!r->current)
			roles_send_rules(a);
		return err;
	}
	set_free(r->next);
	r->next = set;
	set->generation = ++r->generation;
	if (!set->n_waiting)
		set_in_force(set);
	return 0;
}

int rules_init(struct agent *a)
{
	a->rules = calloc(1, sizeof(*a->rules));
	if (!a->rules)
		return -ENOMEM;
	/* Without a policy nobody may do anything, but the daemon runs and says so. */
	if (rules_reload(a)) {
		each_file(a, watch_file, NULL);
		files_changed(a);
	}
	return 0;
}

void rules_fini(struct agent *a)
{
	struct rules *r = a->rules;

	if (!r)
		return;
	unwatch_folders(a);
	loop_untimer(&a->loop, &r->timer);
	set_free(r->next);
	set_free(r->current);
	free(r);
	a->rules = NULL;
}

const struct policy *rules_policy(const struct agent *a)
{
	return a->rules && a->rules->current ? a->rules->current->policy : NULL;
}

uint64_t rules_generation(const struct agent *a)
{
	return a->rules && a->rules->current ? a->rules->current->generation : 0;
}

const char *rules_error(const struct agent *a)
{
	return a->rules ? a->rules->error : "";
}

/* ---------------------------------------------------------------- to the workers */

/* A descriptor of its own position: workers read the same file at the same time. */
static int reopen(int fd)
{
	char path[64];
	int copy;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	copy = open(path, O_RDONLY | O_CLOEXEC);
	return copy < 0 ? -errno : copy;
}

static int send_key(int channel, const struct key *k)
{
	struct msg_key msg = { 0 };
	auto_close int fd = -1;

	if (k->fd < 0)
		return 0;
	fd = reopen(k->fd);
	if (fd < 0)
		return fd;
	memcpy(msg.provider, k->provider, sizeof(msg.provider));
	return ipc_send_wait(channel, MSG_KEY, 0, &msg, sizeof(msg), &fd, 1, SEND_TIMEOUT_MS);
}

/* So that the refusal of a request can tell it too. */
static int send_why_none(const struct agent *a, int channel)
{
	struct msg_result result = { .err = -EINVAL };

	if (!rules_error(a)[0])
		return 0;
	str_copy(result.text, sizeof(result.text), str_of(rules_error(a)));
	return ipc_send_wait(channel, MSG_NO_RULES, 0, &result, sizeof(result), NULL, 0, SEND_TIMEOUT_MS);
}

int rules_send(struct agent *a, int channel)
{
	const struct rule_set *set = a->rules ? a->rules->current : NULL;
	struct msg_rules msg = { 0 };
	auto_close int policy = -1, prices = -1;
	int err;

	if (!set)
		return send_why_none(a, channel);
	msg.generation = set->generation;
	policy = reopen(set->policy_fd);
	prices = reopen(set->prices_fd);
	if (policy < 0 || prices < 0)
		return MIN(policy, prices);
	err = ipc_send_wait(channel, MSG_RULES, 0, &msg, sizeof(msg), (int[]){ policy, prices }, 2,
			    SEND_TIMEOUT_MS);
	for (unsigned i = 0; !err && i < set->n_keys; i++)
		err = send_key(channel, &set->keys[i]);
	if (!err)
		err = ipc_send_wait(channel, MSG_COMMIT, 0, &msg, sizeof(msg), NULL, 0,
				    SEND_TIMEOUT_MS);
	return err;
}

void rules_key_refused(struct agent *a, const char *provider)
{
	struct rule_set *set = a->rules->current;

	for (unsigned i = 0; set && i < set->n_keys; i++) {
		struct key *k = &set->keys[i];

		if (strcmp(k->provider, provider) || strcmp(k->state, "ok"))
			continue;
		snprintf(k->state, sizeof(k->state),
			 "the provider refused this key: replace it (%.40s)", k->source);
		agent_event(a, LOG_WARN, "key_refused", NULL,
			    "provider %s refused its key source=%s", k->provider, k->source);
	}
}

unsigned rules_n_keys(const struct agent *a)
{
	return a->rules && a->rules->current ? a->rules->current->n_keys : 0;
}

bool rules_key_row(const struct agent *a, unsigned i, struct msg_key_row *ret)
{
	const struct key *k;

	if (i >= rules_n_keys(a))
		return false;
	k = &a->rules->current->keys[i];
	*ret = (struct msg_key_row){ .changed_ns = k->changed_ns };
	memcpy(ret->provider, k->provider, sizeof(ret->provider));
	memcpy(ret->source, k->source, sizeof(ret->source));
	memcpy(ret->state, k->state, sizeof(ret->state));
	return true;
}
