/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A connection asks one thing at a time. Three answers come later than at
 * once: of targets that the container engine has to find, of lists that do not fit into the
 * socket's buffer, and of `run`, whose connection then stays open for as long as the command runs:
 * when it closes, the cgroup is taken off once it is empty.
 */
#include "agent/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/ca.h"
#include "agent/door.h"
#include "agent/engine.h"
#include "agent/force.h"
#include "agent/label.h"
#include "agent/roles.h"
#include "agent/rules.h"
#include "agent/sandbox.h"
#include "agent/watch.h"
#include "common/ipc.h"
#include "common/log.h"

#define CONTROL_SOCKET "control.sock"
/* Rationale: each `run` holds one; a host runs hundreds of agents at most. */
#define CONNS_MAX 1024

enum list_kind { LIST_NONE, LIST_SANDBOXES, LIST_KEYS };

struct control_conn {
	struct control_conn *next;
	struct agent *agent;
	struct watch watch;
	int fd;
	struct ucred peer;
	uint64_t id;	     /* of the request that is being answered */
	struct sandbox *run; /* of MSG_CTL_RUN */
	struct engine_query *engine;
	bool is_unlabel; /* what to do when the engine has answered */
	char tags[MSG_TAGS_BYTES];
	enum list_kind list;
	uint32_t list_at; /* label ids, or key rows, below are sent */
	bool dead;
};

struct control {
	int fd;
	struct watch watch;
	struct control_conn *conns;
	unsigned n;
};

static void conn_close(struct control_conn *c)
{
	struct agent *a = c->agent;
	struct control_conn **link = &a->control->conns;

	while (*link != c)
		link = &(*link)->next;
	*link = c->next;
	a->control->n--;
	engine_cancel(c->engine);
	loop_unwatch(&a->loop, &c->watch);
	close(c->fd);
	if (c->run)
		sandbox_run_released(c->run);
	free(c);
}

void control_run_ended(struct control_conn *conn)
{
	conn->run = NULL;
}

/* ---------------------------------------------------------------- answers */

static void conn_send(struct control_conn *c, uint16_t type, const void *payload, size_t len,
		      int fd)
{
	int err = ipc_send(c->fd, type, c->id, payload, len, &fd, fd >= 0);

	/* Small and one at a time: a peer that lets them pile up does not read. */
	if (err)
		c->dead = true;
}

static void conn_result(struct control_conn *c, int err, const char *text, const struct msg_sandbox *sb,
			int fd)
{
	struct msg_result result = { .err = err, .generation = rules_generation(c->agent) };

	str_copy(result.text, sizeof(result.text), str_of(text));
	if (sb)
		result.sandbox = *sb;
	conn_send(c, MSG_RESULT, &result, sizeof(result), fd);
}

/* The sandbox with the lowest label id from `from` on. */
static struct sandbox *sandbox_from(struct agent *a, uint32_t from)
{
	struct sandbox *best = NULL;

	for (struct sandbox *sb = a->sandboxes; sb; sb = sb->next)
		if (sb->info.label_id >= from && (!best || sb->info.label_id < best->info.label_id))
			best = sb;
	return best;
}

static int list_send_one(struct control_conn *c, bool *ret_more)
{
	struct sandbox *sb = c->list == LIST_SANDBOXES ? sandbox_from(c->agent, c->list_at) : NULL;
	struct msg_sandbox info;
	struct msg_key_row row;
	int err;

	*ret_more = true;
	if (sb) {
		info = sb->info;
		info.mode = force_mode_in_force(c->agent, info.mode);
		err = ipc_send(c->fd, MSG_SANDBOX, c->id, &info, sizeof(info), NULL, 0);
		if (!err)
			c->list_at = sb->info.label_id + 1;
		return err;
	}
	if (c->list == LIST_KEYS && rules_key_row(c->agent, c->list_at, &row)) {
		err = ipc_send(c->fd, MSG_KEY_ROW, c->id, &row, sizeof(row), NULL, 0);
		c->list_at += !err;
		return err;
	}
	err = ipc_send(c->fd, MSG_END, c->id, NULL, 0, NULL, 0);
	*ret_more = err != 0;
	return err;
}

/* As much as fits; the rest when the peer has read. */
static void list_continue(struct control_conn *c)
{
	bool more = true;
	int err = 0;

	while (more && !err)
		err = list_send_one(c, &more);
	if (err && err != -EAGAIN)
		c->dead = true;
	if (!more)
		c->list = LIST_NONE;
	loop_rewatch(&c->agent->loop, &c->watch, err == -EAGAIN ? EPOLLOUT : EPOLLIN);
}

/* ---------------------------------------------------------------- label, unlabel */

static void unlabel_path(struct control_conn *c, const char *path)
{
	struct sandbox *sb = sandbox_by_path(c->agent, path);
	char why[MSG_TEXT_BYTES];
	struct msg_sandbox left;

	if (!sb || sb->info.origin == ORIGIN_UNLABELLED) {
		snprintf(why, sizeof(why), "%s has no label", path);
		conn_result(c, -ENOENT, why, NULL, -1);
		return;
	}
	/* Taken off, it would be back at once. */
	if (sb->info.origin == ORIGIN_RULE) {
		snprintf(why, sizeof(why), "%s has no label of its own; a rule of the policy gives it %s", path,
			 sb->info.tags);
		conn_result(c, -EPERM, why, NULL, -1);
		return;
	}
	if (watch_fall_back(sb)) {
		conn_result(c, 0, "", &sb->info, -1);
		return;
	}
	left = sb->info;
	left.tags[0] = '\0';
	sandbox_end(sb, "the label was taken off");
	conn_result(c, 0, "", &left, -1);
}

static void label_path(struct control_conn *c, const char *path)
{
	struct agent *a = c->agent;
	char why[MSG_TEXT_BYTES] = "";
	struct sandbox_request req = { .path = path, .tags = c->tags, .origin = ORIGIN_EXPLICIT };
	struct sandbox *sb = sandbox_by_path(a, path);
	int err;

	err = label_allowed(a, path, why, sizeof(why));
	/* A run keeps its origin: its cgroup is ours to remove. */
	if (sb && sb->info.origin == ORIGIN_RUN)
		req.origin = ORIGIN_RUN;
	if (!err)
		err = sandbox_add(a, &req, &sb, why, sizeof(why));
	conn_result(c, err, why, err ? NULL : &sb->info, -1);
}

static void target_found(struct control_conn *c, const char *path)
{
	if (c->is_unlabel)
		unlabel_path(c, path);
	else
		label_path(c, path);
}

static void engine_sentence(const struct agent *a, int err, char *why, size_t size)
{
	if (err == -ENOENT)
		snprintf(
			why, size,
			"the container engine knows no such container: docker ps shows their names");
	else if (err == -EINVAL)
		snprintf(why, size, "that is no name of a container: docker ps shows their names");
	else
		snprintf(
			why, size,
			"no container engine answers at %s (%s): is it running, and is `docker` in the "
			"configuration right?",
			a->config->docker.n ? a->config->docker.s : "(none)", errno_text(err));
}

static void on_engine_target(void *arg, const struct engine_result *r)
{
	struct control_conn *c = arg;
	char path[CGROUP_PATH_BYTES], why[MSG_TEXT_BYTES] = "";
	int err = r->err;

	c->engine = NULL;
	if (err) {
		engine_sentence(c->agent, err, why, sizeof(why));
	} else if (!r->pid) {
		snprintf(why, sizeof(why), "the container does not run: start it first");
		err = -ESRCH;
	} else {
		err = cgroup_of_pid(r->pid, path, sizeof(path));
		if (err || !strcmp(path, "/")) {
			err = err ? err : -EINVAL;
			snprintf(
				why, sizeof(why),
				"the container has no cgroup of version 2 of its own: is the engine on this host?");
		}
	}
	if (err)
		conn_result(c, err, why, NULL, -1);
	else
		target_found(c, path);
	loop_rewatch(&c->agent->loop, &c->watch, EPOLLIN);
	if (c->dead)
		conn_close(c);
}

static void label_request(struct control_conn *c, struct msg_target *m, bool is_unlabel)
{
	char why[MSG_TEXT_BYTES] = "", path[CGROUP_PATH_BYTES];
	struct label_target target;
	int err = 0;

	m->target[sizeof(m->target) - 1] = m->tags[sizeof(m->tags) - 1] = '\0';
	c->is_unlabel = is_unlabel;
	if (!is_unlabel)
		err = label_tags(m->tags, c->tags, sizeof(c->tags), why, sizeof(why));
	err = err ? err : label_target(m->target, &target, why, sizeof(why));
	if (!err && target.kind == LABEL_DOCKER) {
		err = engine_ask(c->agent, target.name, on_engine_target, c, &c->engine);
		if (!err) {
			/* The next request waits. */
			loop_rewatch(&c->agent->loop, &c->watch, 0);
			return;
		}
		engine_sentence(c->agent, err, why, sizeof(why));
	}
	err = err ? err : label_resolve(c->agent, &target, path, sizeof(path), why, sizeof(why));
	if (err)
		conn_result(c, err, why, NULL, -1);
	else
		target_found(c, path);
}

static void on_label(void *arg, struct ipc_message *m)
{
	label_request(arg, (struct msg_target *)m->payload, false);
}

static void on_unlabel(void *arg, struct ipc_message *m)
{
	label_request(arg, (struct msg_target *)m->payload, true);
}

/* ---------------------------------------------------------------- run, list, status, reload */

static void on_run(void *arg, struct ipc_message *m)
{
	struct control_conn *c = arg;
	struct msg_target *t = (struct msg_target *)m->payload;
	char why[MSG_TEXT_BYTES] = "";
	auto_close int netns = netns_open(c->peer.pid);
	const struct sandbox *made;
	int err;

	t->target[sizeof(t->target) - 1] = t->tags[sizeof(t->tags) - 1] = '\0';
	err = label_tags(t->tags, c->tags, sizeof(c->tags), why, sizeof(why));
	if (!err && c->run) {
		err = -EBUSY;
		snprintf(why, sizeof(why), "one connection runs one command");
	}
	if (!err && netns < 0) {
		err = netns;
		snprintf(why, sizeof(why), "the caller's network namespace cannot be opened: %s",
			 errno_text(netns));
	}
	if (!err)
		err = sandbox_run(c->agent, t->target, c->tags, c, netns, &c->run, why,
				  sizeof(why));
	made = err ? NULL : c->run;
	conn_result(c, err, why, made ? &made->info : NULL, made ? made->cgroup_fd : -1);
}

static void on_list(void *arg, struct ipc_message *m)
{
	struct control_conn *c = arg;

	(void)m;
	c->list = LIST_SANDBOXES;
	c->list_at = 0;
	list_continue(c);
}

static void on_keys(void *arg, struct ipc_message *m)
{
	struct control_conn *c = arg;

	(void)m;
	c->list = LIST_KEYS;
	c->list_at = 0;
	list_continue(c);
}

static void on_status(void *arg, struct ipc_message *m)
{
	struct control_conn *c = arg;
	struct agent *a = c->agent;
	struct msg_status s = { .policy_generation = rules_generation(a),
				.started_ns = a->started_ns,
				.pid = (uint32_t)getpid(),
				.n_workers = a->n_workers,
				.n_workers_ready = roles_ready(a),
				.n_sandboxes = a->n_sandboxes,
				.n_doors = a->n_doors,
				.host_port = a->host_door ? a->host_door->info.port : 0,
				.ledger_pid = (uint32_t)roles_ledger_pid(a),
				.restarts = a->restarts,
				.events_lost = a->events_lost };

	(void)m;
	str_copy(s.version, sizeof(s.version), STR(SALLYPORT_VERSION));
	str_copy(s.kernel, sizeof(s.kernel), str_of(a->kernel));
	str_copy(s.cgroup_root, sizeof(s.cgroup_root), str_of(a->cg.path));
	str_copy(s.policy_path, sizeof(s.policy_path), a->config->policy);
	str_copy(s.policy_error, sizeof(s.policy_error), str_of(rules_error(a)));
	str_copy(s.stamp, sizeof(s.stamp), str_of(a->stamp_state));
	force_describe(a, s.force, sizeof(s.force));
	conn_send(c, MSG_STATUS, &s, sizeof(s), -1);
}

static void on_reload(void *arg, struct ipc_message *m)
{
	struct control_conn *c = arg;
	int err = rules_reload(c->agent);

	(void)m;
	conn_result(c, err, err ? rules_error(c->agent) : "", NULL, -1);
}

static void on_force(void *arg, struct ipc_message *m)
{
	struct control_conn *c = arg;
	const struct msg_force_wish *w = (const struct msg_force_wish *)m->payload;
	struct msg_force state;
	int err;

	if (w->wish == FORCE_WISH_STATUS) {
		force_status(c->agent, &state);
		conn_send(c, MSG_FORCE, &state, sizeof(state), -1);
		return;
	}
	err = w->wish < FORCE_WISH_MAX ? force_set(c->agent, w->wish == FORCE_WISH_ON) : -EINVAL;
	conn_result(c, err, err ? "the state directory cannot be written: free some disk" : "", NULL, -1);
}

/* 0 means begun: who asks sees it in RUN_DIR/ca. */
static void on_ca_rotate(void *arg, struct ipc_message *m)
{
	struct control_conn *c = arg;
	int err = ca_refresh(c->agent, true);

	(void)m;
	conn_result(c, err,
		    err == -ENOENT ? "no provider of the policy has domains, so there is no CA: see domains in sallyport-policy(5)" :
		    err		   ? "the role that keeps the CA cannot be started; look at the daemon's log" :
				     "",
		    NULL, -1);
}

static const struct ipc_rule control_rules[] = {
	{ MSG_CTL_CA_ROTATE, 0, 0, 0, on_ca_rotate },
	{ MSG_CTL_FORCE, sizeof(struct msg_force_wish), 0, 0, on_force },
	{ MSG_CTL_LABEL, sizeof(struct msg_target), 0, 0, on_label },
	{ MSG_CTL_UNLABEL, sizeof(struct msg_target), 0, 0, on_unlabel },
	{ MSG_CTL_RUN, sizeof(struct msg_target), 0, 0, on_run },
	{ MSG_CTL_LIST, 0, 0, 0, on_list },
	{ MSG_CTL_STATUS, 0, 0, 0, on_status },
	{ MSG_CTL_RELOAD, 0, 0, 0, on_reload },
	{ MSG_CTL_KEYS, 0, 0, 0, on_keys },
};

/* ---------------------------------------------------------------- connections */

static void on_conn(void *arg, uint32_t events)
{
	struct control_conn *c = arg;
	auto_free struct ipc_message *m = NULL;
	int n;

	if (c->list != LIST_NONE && !(events & (EPOLLHUP | EPOLLERR))) {
		list_continue(c);
		if (c->dead)
			conn_close(c);
		return;
	}
	m = malloc(sizeof(*m));
	n = m ? ipc_recv(c->fd, m) : -ENOMEM;
	if (n == -EAGAIN && !(events & (EPOLLHUP | EPOLLERR)))
		return;
	if (n == 1) {
		c->id = m->head.id;
		n = ipc_dispatch(control_rules, ARRAY_SIZE(control_rules), c, m);
		ipc_message_fini(m);
		if (n)
			log_limited(LOG_WARN,
				    "a command sent what is no request: is it of another version? "
				    "pid=%d type=%u",
				    c->peer.pid, m->head.type);
		else if (!c->dead)
			return;
	}
	conn_close(c);
}

static void on_listener(void *arg, uint32_t events)
{
	struct agent *a = arg;
	auto_close int fd = accept4(a->control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct control_conn *c;
	socklen_t len = sizeof(c->peer);

	(void)events;
	if (fd < 0 || a->control->n == CONNS_MAX)
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->agent = a;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &len) < 0 ||
	    (c->peer.uid != 0 && c->peer.uid != geteuid()) ||
	    loop_watch(&a->loop, &c->watch, fd, EPOLLIN, on_conn, c)) {
		free(c);
		return;
	}
	c->fd = TAKE_FD(fd);
	c->next = a->control->conns;
	a->control->conns = c;
	a->control->n++;
}

int control_init(struct agent *a)
{
	auto_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	mode_t old;
	int err;

	if (fd < 0)
		return -errno;
	if (snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/" CONTROL_SOCKET,
		     a->config->run_dir.s) >= (int)sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	/* The lock of the run directory is ours: whoever left the socket is gone. */
	unlink(sun.sun_path);
	old = umask(0177);
	err = bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 || listen(fd, 64) < 0 ? -errno : 0;
	umask(old);
	if (err)
		return err;
	a->control = calloc(1, sizeof(*a->control));
	if (!a->control)
		return -ENOMEM;
	a->control->fd = TAKE_FD(fd);
	return loop_watch(&a->loop, &a->control->watch, a->control->fd, EPOLLIN, on_listener, a);
}

void control_fini(struct agent *a)
{
	if (!a->control)
		return;
	while (a->control->conns)
		conn_close(a->control->conns);
	loop_unwatch(&a->loop, &a->control->watch);
	close(a->control->fd);
	unlinkat(a->run_dir, CONTROL_SOCKET, 0);
	free(a->control);
	a->control = NULL;
}
