/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A role is this binary executed again, `sallyport role gateway N`,
 * `sallyport role ledger` or `sallyport role dns`, inside the gateway's cgroup and with one end of a channel as
 * descriptor 3. It starts as root, is sent its descriptors, and gives root up by itself.
 *
 *   absent -> running (told everything) -> ready (a worker said MSG_READY) -> absent, again after a
 * delay
 *
 * When the agent dies, the channel is closed: the ledger ends; a worker closes its doors, finishes
 * what runs and ends then, beside the workers of the next agent (agent/slot.c). Listening sockets
 * and doorbells belong to the agent and are the same for the next process of a role: clients wait in
 * the backlog meanwhile.
 */
#include "agent/roles.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "agent/ca.h"
#include "agent/door.h"
#include "agent/names.h"
#include "agent/rules.h"
#include "agent/sandbox.h"
#include "agent/slot.h"
#include "agent/spawn.h"
#include "agent/state.h"
#include "agent/suspects.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/role.h"

/* Rationale: what a worker is told at start must not wait for it to boot: 2,000 sandboxes. */
#define CHANNEL_BYTES (4 << 20)
/* Rationale: a worker that does not read for so long is stuck. */
#define SEND_TIMEOUT_MS 2000
#define BACKOFF_MIN_NS	(100 * NSEC_PER_MSEC)
#define BACKOFF_MAX_NS	(10 * NSEC_PER_SEC)
/* Rationale: one that lived so long did not die of its start. */
#define BACKOFF_RESET_NS (30 * NSEC_PER_SEC)
/* Rationale: the longest answers stream for minutes; the service manager's own limit is 90 s. */
#define STOP_TIMEOUT_NS (60 * NSEC_PER_SEC)

enum role_kind { ROLE_GATEWAY, ROLE_LEDGER, ROLE_DNS, ROLE_KIND_MAX };

struct role {
	struct agent *agent;
	enum role_kind kind;
	unsigned index, slot; /* of a worker */
	pid_t pid;	/* 0: absent */
	int pidfd, channel, doorbell, live_fd, journal_fd;
	bool ready, stopping;
	uint64_t started_ns, backoff_ns;
	struct watch exit_watch, channel_watch;
	struct timer restart_timer;
};

static const char *role_name(const struct role *r)
{
	static const char *const names[] = { "gateway", "ledger", "dns" };
	static_assert(ARRAY_SIZE(names) == ROLE_KIND_MAX, "a role lacks its name");

	return names[r->kind];
}

static void role_kill(struct role *r)
{
	if (r->pid)
		syscall(SYS_pidfd_send_signal, r->pidfd, SIGKILL, NULL, 0);
}

/* A role that does not take a message would miss a label or a door: better a fresh one. */
static void role_send_result(struct role *r, int err)
{
	if (!err || err == -EPIPE || err == -ECONNRESET)
		return;
	log_err("a role does not take its messages and is ended role=%s number=%u error=%s",
		role_name(r), r->index, errno_text(err));
	role_kill(r);
}

static int role_send(struct role *r, uint16_t type, const void *payload, size_t len, const int *fds,
		     unsigned n_fds)
{
	return ipc_send_wait(r->channel, type, 0, payload, len, fds, n_fds, SEND_TIMEOUT_MS);
}

/* ---------------------------------------------------------------- what a role is told at start */

static int send_config(struct role *r)
{
	struct agent *a = r->agent;
	auto_close int fd = memfd_create("config", MFD_CLOEXEC);

	if (fd < 0 || write(fd, a->config_text, a->config_bytes) != (ssize_t)a->config_bytes ||
	    lseek(fd, 0, SEEK_SET) < 0)
		return errno ? -errno : -ENOSPC;
	return role_send(r, MSG_CONFIG, NULL, 0, (int[]){ fd, a->doors_lock },
			 r->kind == ROLE_LEDGER ? 1 : 2);
}

static int send_door(struct role *r, const struct door *d)
{
	return role_send(r, MSG_DOOR, &d->info, sizeof(d->info), d->fds, d->n_fds);
}

static int tell_gateway(struct role *r)
{
	struct agent *a = r->agent;
	struct msg_setup setup = { r->slot, a->generation };
	int fds[] = { r->journal_fd, a->balances_fd, r->live_fd, r->doorbell };
	int err = role_send(r, MSG_SETUP, &setup, sizeof(setup), fds, 4);

	err = err ? err : send_config(r);
	err = err ? err : rules_send(a, r->channel);
	err = err ? err : ca_send(a, r->channel);
	for (struct sandbox *sb = a->sandboxes; sb && !err; sb = sb->next)
		err = role_send(r, MSG_LABEL, &sb->info, sizeof(sb->info), NULL, 0);
	for (struct door *d = a->doors; d && !err; d = d->next)
		err = d->held ? 0 : send_door(r, d);
	return err ? err : names_send(a, r->channel, false);
}

static int send_dns_door(struct role *r, const struct door *d)
{
	struct msg_dns_door msg = { d->info.netns_cookie, d->dns_port, d->info.is_host };

	return d->n_dns_fds ? role_send(r, MSG_DNS_DOOR, &msg, sizeof(msg), d->dns_fds, d->n_dns_fds) : 0;
}

static int tell_dns(struct role *r)
{
	struct agent *a = r->agent;
	int err = send_config(r);

	err = err ? err : names_send(a, r->channel, true);
	for (struct door *d = a->doors; d && !err; d = d->next)
		err = send_dns_door(r, d);
	return err;
}

static int tell_ledger(struct role *r)
{
	struct agent *a = r->agent;
	struct msg_setup setup = { 0, 0 };
	int fds[] = { a->journal_dir, a->ledger_dir, a->balances_fd, a->ledger_listener };
	int err = role_send(r, MSG_LEDGER_SETUP, &setup, sizeof(setup), fds, 4);

	err = err ? err : send_config(r);
	err = err ? err
		  : role_send(r, MSG_DOORBELL, &setup, sizeof(setup), &a->journal_bell, 1);
	setup.generation = a->generation;
	for (unsigned i = 0; i < a->n_workers && !err; i++) {
		setup.worker = a->roles[i].slot;
		err = role_send(r, MSG_DOORBELL, &setup, sizeof(setup), &a->roles[i].doorbell, 1);
	}
	return err;
}

/* ---------------------------------------------------------------- what a worker says */

static void on_ready(void *arg, struct ipc_message *m)
{
	struct role *r = arg;

	(void)m;
	if (!r->ready)
		log_info("a role serves role=%s number=%u pid=%d", role_name(r), r->index, r->pid);
	r->ready = true;
}

static void on_rules_result(void *arg, struct ipc_message *m)
{
	struct role *r = arg;
	struct msg_result *result = (struct msg_result *)m->payload;

	result->text[sizeof(result->text) - 1] = '\0';
	if (result->err)
		agent_event(r->agent, LOG_ERR, "policy_refused", NULL,
			    "worker %u refused the policy: %s", r->index,
			    log_quote(str_of(result->text)));
}

static void on_key_bad(void *arg, struct ipc_message *m)
{
	struct role *r = arg;
	struct msg_key *key = (struct msg_key *)m->payload;

	key->provider[sizeof(key->provider) - 1] = '\0';
	rules_key_refused(r->agent, key->provider);
}

/* The answer carries the descriptor, or says why there is none: the sandbox may be gone by now. */
static void on_socket_wanted(void *arg, struct ipc_message *m)
{
	struct role *r = arg;
	struct msg_socket answer;
	auto_close int fd = -1;

	memcpy(&answer, m->payload, sizeof(answer));
	fd = door_socket(r->agent, &answer);
	answer.err = fd < 0 ? fd : 0;
	role_send_result(r, role_send(r, MSG_SOCKET, &answer, sizeof(answer), &fd, fd >= 0));
}

static void on_name_wanted(void *arg, struct ipc_message *m)
{
	struct role *r = arg;
	struct msg_name_wanted *wanted = (struct msg_name_wanted *)m->payload;

	wanted->name[sizeof(wanted->name) - 1] = '\0';
	names_wanted(r->agent, wanted->cgroup_id, wanted->name);
}

static void on_address(void *arg, struct ipc_message *m)
{
	struct role *r = arg;

	suspects_learn(r->agent, (const struct msg_address *)m->payload);
}

static const struct ipc_rule dns_rules[] = {
	{ MSG_READY, 0, 0, 0, on_ready },
	{ MSG_SOCKET_WANTED, sizeof(struct msg_socket), 0, 0, on_socket_wanted },
	{ MSG_NAME_WANTED, sizeof(struct msg_name_wanted), 0, 0, on_name_wanted },
	{ MSG_ADDRESS, sizeof(struct msg_address), 0, 0, on_address },
};
static const struct ipc_rule gateway_rules[] = {
	{ MSG_SOCKET_WANTED, sizeof(struct msg_socket), 0, 0, on_socket_wanted },
	{ MSG_READY, 0, 0, 0, on_ready },
	{ MSG_RULES_RESULT, sizeof(struct msg_result), 0, 0, on_rules_result },
	{ MSG_KEY_BAD, sizeof(struct msg_key), 0, 0, on_key_bad },
};
static const struct ipc_rule ledger_rules[] = {
	{ MSG_READY, 0, 0, 0, on_ready },
};

static void role_channel_close(struct role *r)
{
	loop_unwatch(&r->agent->loop, &r->channel_watch);
	if (r->channel >= 0)
		close(r->channel);
	r->channel = -1;
	r->ready = false;
}

static void on_channel(void *arg, uint32_t events)
{
	struct role *r = arg;
	auto_free struct ipc_message *m = malloc(sizeof(*m));
	int n = m ? ipc_recv(r->channel, m) : -ENOMEM;

	(void)events;
	if (n == -EAGAIN || n == -ENOMEM)
		return;
	if (n == 1) {
		n = r->kind == ROLE_GATEWAY ? ipc_dispatch(gateway_rules, ARRAY_SIZE(gateway_rules), r, m)
		    : r->kind == ROLE_DNS   ? ipc_dispatch(dns_rules, ARRAY_SIZE(dns_rules), r, m)
					    : ipc_dispatch(ledger_rules, ARRAY_SIZE(ledger_rules), r, m);
		ipc_message_fini(m);
		if (!n)
			return;
		log_err("a role sent what it must not and is ended role=%s number=%u type=%u",
			role_name(r), r->index, m->head.type);
		role_kill(r);
	}
	/* Closed or broken: the process follows, and is buried in on_exit(). */
	role_channel_close(r);
}

/* ---------------------------------------------------------------- life */

static int role_start(struct role *r);

static void on_restart(void *arg)
{
	struct role *r = arg;
	int err = role_start(r);

	if (err) {
		log_err("a role cannot be started role=%s number=%u error=%s", role_name(r),
			r->index, errno_text(err));
		loop_timer(&r->agent->loop, &r->restart_timer,
			   r->agent->loop.now_ns + BACKOFF_MAX_NS, on_restart, r);
	}
}

static void role_forget(struct role *r)
{
	loop_unwatch(&r->agent->loop, &r->exit_watch);
	role_channel_close(r);
	if (r->pidfd >= 0)
		close(r->pidfd);
	r->pidfd = -1;
	r->pid = 0;
}

static void roles_stop_step(struct agent *a);

static void on_exit_event(void *arg, uint32_t events)
{
	struct role *r = arg;
	struct agent *a = r->agent;
	int status = spawn_wait(r->pidfd, -1);
	pid_t pid = r->pid;
	uint64_t lived = a->loop.now_ns - r->started_ns;

	(void)events;
	role_forget(r);
	if (a->stopping) {
		roles_stop_step(a);
		return;
	}
	a->restarts++;
	r->backoff_ns = lived > BACKOFF_RESET_NS || !r->backoff_ns
				? BACKOFF_MIN_NS
				: MIN(r->backoff_ns * 2, BACKOFF_MAX_NS);
	agent_event(a, LOG_ERR, "role_died", NULL,
		    "%s %u (pid %d) ended with status %d and is started again in %llu ms",
		    role_name(r), r->index, pid, status,
		    (unsigned long long)(r->backoff_ns / NSEC_PER_MSEC));
	loop_timer(&a->loop, &r->restart_timer, a->loop.now_ns + r->backoff_ns, on_restart, r);
}

static void role_child(const struct role *r, int channel)
{
	char number[16];
	char *argv[] = { (char *)(uintptr_t) "sallyport", (char *)(uintptr_t) "role", NULL, NULL,
			 NULL };
	int null = open("/dev/null", O_RDONLY);

	snprintf(number, sizeof(number), "%u", r->index);
	argv[2] = (char *)(uintptr_t)role_name(r);
	if (r->kind == ROLE_GATEWAY)
		argv[3] = number;
	spawn_child_signals();
	/* Without CLOEXEC only what is meant to be kept: the standard three, and the channel as 3.
	 */
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	if (channel == ROLE_CHANNEL_FD)
		fcntl(channel, F_SETFD, 0);
	else if (dup2(channel, ROLE_CHANNEL_FD) < 0)
		_exit(126);
	execv("/proc/self/exe", argv);
	_exit(127);
}

static int role_start(struct role *r)
{
	struct agent *a = r->agent;
	auto_close int mine = -1, theirs = -1;
	int pair[2], size = CHANNEL_BYTES, err = ipc_pair(pair);
	pid_t pid;

	if (err)
		return err;
	mine = pair[0];
	theirs = pair[1];
	setsockopt(mine, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	pid = spawn_clone(a->gateway_cg, &r->pidfd);
	if (pid < 0)
		return (int)pid;
	if (!pid)
		role_child(r, theirs);
	close(TAKE_FD(theirs));
	r->pid = pid;
	r->channel = TAKE_FD(mine);
	r->started_ns = a->loop.now_ns;
	err = loop_watch(&a->loop, &r->exit_watch, r->pidfd, EPOLLIN, on_exit_event, r);
	err = err ? err
		  : loop_watch(&a->loop, &r->channel_watch, r->channel, EPOLLIN, on_channel, r);
	if (!err)
		err = r->kind == ROLE_GATEWAY ? tell_gateway(r)
		      : r->kind == ROLE_DNS ? tell_dns(r)
					    : tell_ledger(r);
	/* Told half of it, it is of no use; on_exit_event() starts another one. */
	if (err && r->exit_watch.slot)
		role_send_result(r, err);
	return r->exit_watch.slot ? 0 : err;
}

/* Each worker gets the next free slot; those below may still belong to workers of a former daemon. */
static int worker_open(struct role *r)
{
	struct agent *a = r->agent;
	int err = slot_take(a, r->index ? r[-1].slot + 1 : 0, &r->slot, &r->live_fd);

	if (err)
		return err;
	r->journal_fd = slot_journal(a, r->slot);
	if (r->journal_fd < 0)
		return r->journal_fd;
	r->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return r->doorbell < 0 ? -errno : 0;
}

int roles_start(struct agent *a)
{
	int err = 0;

	/* The numbers of labels are never given out twice either. */
	a->generation = state_next_label_id(a);
	if (!a->generation)
		a->generation = (uint32_t)(a->loop.wall_ns / NSEC_PER_SEC);
	a->n_roles = a->n_workers + 2;
	a->roles = calloc(a->n_roles, sizeof(*a->roles));
	if (!a->roles)
		return -ENOMEM;
	for (unsigned i = 0; i < a->n_roles; i++) {
		struct role *r = &a->roles[i];

		*r = (struct role){ .agent = a,
				    .kind = i < a->n_workers	? ROLE_GATEWAY
					    : i == a->n_workers ? ROLE_LEDGER
								: ROLE_DNS,
				    .index = i,
				    .slot = AGENT_SLOTS,
				    .pidfd = -1,
				    .channel = -1,
				    .doorbell = -1,
				    .live_fd = -1,
				    .journal_fd = -1 };
		if (r->kind != ROLE_GATEWAY)
			continue;
		err = worker_open(r);
		if (err)
			return err;
	}
	for (unsigned i = 0; i < a->n_roles && !err; i++)
		err = role_start(&a->roles[i]);
	slots_recover(a);
	return err;
}

unsigned roles_ready(const struct agent *a)
{
	unsigned n = 0;

	for (unsigned i = 0; i < a->n_workers && a->roles; i++)
		n += a->roles[i].ready;
	return n;
}

pid_t roles_ledger_pid(const struct agent *a)
{
	return a->roles ? a->roles[a->n_workers].pid : 0;
}

/* ---------------------------------------------------------------- stop */

static void on_stop_timeout(void *arg)
{
	struct agent *a = arg;

	log_warn("roles did not end in time and are killed");
	for (unsigned i = 0; i < a->n_roles; i++)
		role_kill(&a->roles[i]);
	loop_timer(&a->loop, &a->stop_timer, a->loop.now_ns + NSEC_PER_SEC, on_stop_timeout, a);
}

static bool role_stop(struct role *r)
{
	if (!r->pid)
		return false;
	if (!r->stopping && ipc_send(r->channel, MSG_STOP, 0, NULL, 0, NULL, 0))
		role_kill(r);
	r->stopping = true;
	return true;
}

/* Workers first: the ledger has to read what they write last. */
static void roles_stop_step(struct agent *a)
{
	bool running = false;

	for (unsigned i = 0; i < a->n_workers && a->roles; i++)
		running |= role_stop(&a->roles[i]);
	if (a->roles)
		running |= role_stop(&a->roles[a->n_workers + 1]);
	if (!running && a->roles)
		running = role_stop(&a->roles[a->n_workers]);
	if (!running)
		a->loop.stop = true;
}

void roles_stop(struct agent *a)
{
	bool again = a->stopping;

	a->stopping = true;
	for (unsigned i = 0; i < a->n_roles && a->roles; i++)
		loop_untimer(&a->loop, &a->roles[i].restart_timer);
	loop_timer(&a->loop, &a->stop_timer, a->loop.now_ns + (again ? 0 : STOP_TIMEOUT_NS),
		   on_stop_timeout, a);
	roles_stop_step(a);
}

void roles_fini(struct agent *a)
{
	loop_untimer(&a->loop, &a->stop_timer);
	slots_fini(a);
	for (unsigned i = 0; i < a->n_roles && a->roles; i++) {
		struct role *r = &a->roles[i];

		loop_untimer(&a->loop, &r->restart_timer);
		if (r->pid)
			spawn_wait(r->pidfd, 0);
		role_forget(r);
		if (r->kind != ROLE_GATEWAY)
			continue;
		close(r->doorbell);
		close(r->live_fd);
		close(r->journal_fd);
	}
	free(a->roles);
	a->roles = NULL;
	a->n_roles = 0;
}

/* ---------------------------------------------------------------- news for every worker */

typedef int (*role_fn)(struct role *r, const void *arg);

static void each_worker(struct agent *a, role_fn fn, const void *arg)
{
	for (unsigned i = 0; i < a->n_workers && a->roles; i++)
		if (a->roles[i].channel >= 0)
			role_send_result(&a->roles[i], fn(&a->roles[i], arg));
}

static int tell_label(struct role *r, const void *arg)
{
	return role_send(r, MSG_LABEL, arg, sizeof(struct msg_sandbox), NULL, 0);
}

static int tell_unlabel(struct role *r, const void *arg)
{
	return role_send(r, MSG_UNLABEL, arg, sizeof(struct msg_sandbox), NULL, 0);
}

static int tell_door(struct role *r, const void *arg)
{
	return send_door(r, arg);
}

static int tell_door_close(struct role *r, const void *arg)
{
	return role_send(r, MSG_DOOR_CLOSE, arg, sizeof(struct msg_door), NULL, 0);
}

static int tell_rules(struct role *r, const void *arg)
{
	(void)arg;
	return rules_send(r->agent, r->channel);
}

void roles_send_label(struct agent *a, const struct sandbox *sb)
{
	each_worker(a, tell_label, &sb->info);
}

void roles_send_unlabel(struct agent *a, const struct sandbox *sb)
{
	each_worker(a, tell_unlabel, &sb->info);
}

bool roles_has_slot(const struct agent *a, unsigned slot)
{
	for (unsigned i = 0; i < a->n_workers && a->roles; i++)
		if (a->roles[i].slot == slot)
			return true;
	return false;
}

void roles_send_left(struct agent *a, int live_fd)
{
	unsigned i = 0;

	while (i < a->n_workers && !a->roles[i].ready)
		i++;
	if (i < a->n_workers)
		role_send_result(&a->roles[i], role_send(&a->roles[i], MSG_LIVE_LEFT, NULL, 0, &live_fd, 1));
}

void roles_send_door(struct agent *a, const struct door *d)
{
	each_worker(a, tell_door, d);
}

void roles_send_door_close(struct agent *a, const struct door *d)
{
	each_worker(a, tell_door_close, &d->info);
}

void roles_send_rules(struct agent *a)
{
	each_worker(a, tell_rules, NULL);
}

static int tell_ca(struct role *r, const void *arg)
{
	(void)arg;
	return ca_send(r->agent, r->channel);
}

void roles_send_ca(struct agent *a)
{
	each_worker(a, tell_ca, NULL);
}

static int tell_name(struct role *r, const void *arg)
{
	return role_send(r, MSG_NAME, arg, sizeof(struct msg_name), NULL, 0);
}

/* ---------------------------------------------------------------- news for the DNS role */

/* NULL: it does not run now, and is told everything when it does. */
static struct role *dns_role(struct agent *a)
{
	struct role *r = a->roles ? &a->roles[a->n_workers + 1] : NULL;

	return r && r->channel >= 0 ? r : NULL;
}

void roles_send_name(struct agent *a, const struct msg_name *name)
{
	struct role *dns = dns_role(a);

	each_worker(a, tell_name, name);
	if (dns)
		role_send_result(dns, tell_name(dns, name));
}

void roles_refuse_name(struct agent *a, const char *name)
{
	struct msg_name none = { 0 };
	struct role *dns = dns_role(a);

	str_copy(none.name, sizeof(none.name), str_of(name));
	if (dns)
		role_send_result(dns, tell_name(dns, &none));
}

void roles_send_dns_pattern(struct agent *a, const struct msg_name *pattern)
{
	struct role *dns = dns_role(a);

	if (dns)
		role_send_result(dns, role_send(dns, MSG_DNS_PATTERN, pattern, sizeof(*pattern), NULL, 0));
}

void roles_send_dns_door(struct agent *a, const struct door *d)
{
	struct role *dns = dns_role(a);

	if (dns)
		role_send_result(dns, send_dns_door(dns, d));
}

void roles_send_dns_door_close(struct agent *a, const struct door *d)
{
	struct msg_dns_door msg = { d->info.netns_cookie, d->dns_port, d->info.is_host };
	struct role *dns = dns_role(a);

	if (dns && d->n_dns_fds)
		role_send_result(dns, role_send(dns, MSG_DNS_DOOR_CLOSE, &msg, sizeof(msg), NULL, 0));
}
