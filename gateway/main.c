/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker of the gateway: started by the agent as `sallyport role gateway`, with the channel to it as
 * descriptor 3. It reads its set-up as root, gives everything up, and serves the doors that it is handed.
 */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/ipc.h"
#include "common/isolate.h"
#include "common/log.h"
#include "common/msg.h"
#include "common/role.h"
#include "gateway/request.h"
#include "gateway/splice.h"
#include "gateway/tls_server.h"

/* Accepts of one event before others get their turn. */
#define ACCEPT_BATCH 64
#define ACCEPT_PAUSE_NS (50 * NSEC_PER_MSEC)
/* Rationale: doors, journal, resolver, idle connections to some providers, refused ones that wait for their answer. */
#define FILES_RESERVE 200
/* Rationale: as long as an answer may be silent; whoever streams on for longer is cut. */
#define LEAVE_NS (1800 * NSEC_PER_SEC)

static struct gateway gateway;

/* ------------------------------------------------------------------ doors */

static void on_door(void *arg, uint32_t events);

static void door_watch(struct door *d)
{
	for (unsigned k = 0; k < d->n_fds; k++)
		if (!d->watches[k].slot)
			loop_watch(&d->gw->loop, &d->watches[k], d->fds[k], EPOLLIN | EPOLLEXCLUSIVE, on_door, d);
}

static void accept_resume(void *arg)
{
	struct gateway *gw = arg;

	gw->accept_paused = false;
	for (unsigned i = 0; i < gw->n_doors; i++)
		door_watch(gw->doors[i]);
}

/*
 * Too few descriptors: the backlog holds the others for a moment. An exclusive watch cannot be
 * changed (epoll_ctl(2)), only taken away.
 */
static void accept_pause(struct gateway *gw)
{
	gw->accept_paused = true;
	for (unsigned i = 0; i < gw->n_doors; i++)
		for (unsigned k = 0; k < gw->doors[i]->n_fds; k++)
			loop_unwatch(&gw->loop, &gw->doors[i]->watches[k]);
	loop_timer(&gw->loop, &gw->accept_timer, gw->loop.now_ns + ACCEPT_PAUSE_NS, accept_resume, gw);
}

static void on_door(void *arg, uint32_t events)
{
	struct door *d = arg;
	struct gateway *gw = d->gw;

	(void)events;
	for (unsigned k = 0; k < d->n_fds; k++) {
		for (int i = 0; i < ACCEPT_BATCH; i++) {
			int fd = accept4(d->fds[k], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
			if (fd >= 0) {
				conn_accept(gw, fd);
				continue;
			}
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
				log_limited(LOG_WARN, "no more connections can be accepted for now: %s",
					    errno_text(errno));
				accept_pause(gw);
				return;
			}
			break;
		}
	}
}

static void door_close(struct gateway *gw, unsigned i)
{
	struct door *d = gw->doors[i];

	for (unsigned k = 0; k < d->n_fds; k++) {
		loop_unwatch(&gw->loop, &d->watches[k]);
		close(d->fds[k]);
	}
	free(d);
	gw->doors[i] = gw->doors[--gw->n_doors];
}

/* ------------------------------------------------------------------ messages of the agent */

static void on_msg_door(void *arg, struct ipc_message *m)
{
	struct gateway *gw = arg;
	const struct msg_door *msg = (const void *)m->payload;
	struct door *d = gw->n_doors < DOORS_MAX ? calloc(1, sizeof(*d)) : NULL;

	if (!d) {
		log_err("a door cannot be served: too many doors; use more instances");
		return;
	}
	d->gw = gw;
	d->id = msg->door_id;
	d->netns_cookie = msg->netns_cookie;
	for (unsigned i = 0; i < m->n_fds && i < ARRAY_SIZE(d->fds); i++) {
		d->fds[d->n_fds++] = TAKE_FD(m->fds[i]);
	}
	if (!gw->accept_paused)
		door_watch(d);
	gw->doors[gw->n_doors++] = d;
}

static void on_msg_door_close(void *arg, struct ipc_message *m)
{
	struct gateway *gw = arg;
	const struct msg_door *msg = (const void *)m->payload;

	for (unsigned i = gw->n_doors; i-- > 0;)
		if (gw->doors[i]->id == msg->door_id)
			door_close(gw, i);
}

static void on_msg_label(void *arg, struct ipc_message *m)
{
	struct gateway *gw = arg;

	if (labels_set(&gw->labels, (const void *)m->payload) < 0)
		log_err("a label could not be taken over; its sandbox is refused");
}

static void on_msg_unlabel(void *arg, struct ipc_message *m)
{
	struct gateway *gw = arg;

	labels_remove(&gw->labels, ((const struct msg_sandbox *)(const void *)m->payload)->label_id);
}

static void send_result(struct gateway *gw, uint64_t generation, int err, const char *why)
{
	struct msg_result result = { .err = err, .generation = generation };

	str_copy(result.text, sizeof(result.text), str_of(why));
	ipc_send_wait(gw->channel, MSG_RULES_RESULT, 0, &result, sizeof(result), NULL, 0, 1000);
}

static void on_msg_rules(void *arg, struct ipc_message *m)
{
	struct gateway *gw = arg;
	const struct msg_rules *msg = (const void *)m->payload;
	struct rules *rules;
	char why[320] = "";
	int err = rules_read(m->fds[0], m->n_fds > 1 ? m->fds[1] : -1, msg->generation, &rules, why, sizeof(why));

	rules_unref(TAKE_PTR(gw->pending));
	if (err)
		send_result(gw, msg->generation, err, why);
	else
		gw->pending = rules;
}

static void on_msg_key(void *arg, struct ipc_message *m)
{
	struct gateway *gw = arg;
	const struct msg_key *msg = (const void *)m->payload;
	struct secret *secret = NULL;
	int err = secret_read(m->fds[0], &secret);

	if (err)
		log_err("a key cannot be used provider=%s why=\"%s\"", log_quote(str_of(msg->provider)),
			err == -ENODATA ? "the file is empty" : errno_text(err));
	else if (gw->pending)
		rules_set_key(gw->pending, str_of(msg->provider), secret);
	else
		secret_free(secret);
}

static void on_msg_commit(void *arg, struct ipc_message *m)
{
	struct gateway *gw = arg;
	const struct msg_rules *msg = (const void *)m->payload;

	if (!gw->pending || gw->pending->generation != msg->generation)
		return; /* the RULES were refused, and the agent knows */
	rules_unref(gw->rules);
	gw->rules = TAKE_PTR(gw->pending);
	send_result(gw, msg->generation, 0, "");
}

/* Accepts nothing any more, and ends when what runs has ended. */
static void gateway_stop(struct gateway *gw)
{
	gw->stopping = true;
	while (gw->n_doors)
		door_close(gw, gw->n_doors - 1);
	loop_untimer(&gw->loop, &gw->accept_timer);
	conn_stop_idle(gw);
}

static void on_msg_no_rules(void *arg, struct ipc_message *m)
{
	struct gateway *gw = arg;
	const struct msg_result *msg = (const void *)m->payload;

	str_copy(gw->no_rules, sizeof(gw->no_rules), (struct str){ msg->text, strnlen(msg->text, sizeof(msg->text) - 1) });
}

static void on_msg_stop(void *arg, struct ipc_message *m)
{
	(void)m;
	gateway_stop(arg);
}

static void on_msg_live_left(void *arg, struct ipc_message *m)
{
	account_recover_left(arg, m->fds[0]);
}

static void on_msg_ca(void *arg, struct ipc_message *m)
{
	struct gateway *gw = arg;
	const char *why = "";

	if (tls_server_set_ca(gw->tls_server, m->fds[0], m->fds[1], &why) < 0)
		log_err("the CA cannot be used: %s; `sallyport ca rotate` makes a new one", why);
}

static void on_msg_name(void *arg, struct ipc_message *m)
{
	struct gateway *gw = arg;

	if (hosts_set(&gw->hosts, (const void *)m->payload) < 0)
		log_limited(LOG_WARN, "a provider's name could not be taken over; events show its address only");
}

static void on_msg_socket(void *arg, struct ipc_message *m)
{
	splice_socket(arg, (const void *)m->payload, m->n_fds ? TAKE_FD(m->fds[0]) : -1);
}

static const struct ipc_rule agent_rules[] = {
	{ MSG_RULES, sizeof(struct msg_rules), 1, 2, on_msg_rules },
	{ MSG_KEY, sizeof(struct msg_key), 1, 1, on_msg_key },
	{ MSG_COMMIT, sizeof(struct msg_rules), 0, 0, on_msg_commit },
	{ MSG_LABEL, sizeof(struct msg_sandbox), 0, 0, on_msg_label },
	{ MSG_UNLABEL, sizeof(struct msg_sandbox), 0, 0, on_msg_unlabel },
	{ MSG_DOOR, sizeof(struct msg_door), 1, 2, on_msg_door },
	{ MSG_DOOR_CLOSE, sizeof(struct msg_door), 0, 0, on_msg_door_close },
	{ MSG_NO_RULES, sizeof(struct msg_result), 0, 0, on_msg_no_rules },
	{ MSG_STOP, 0, 0, 0, on_msg_stop },
	{ MSG_LIVE_LEFT, 0, 1, 1, on_msg_live_left },
	{ MSG_CA, 0, 2, 2, on_msg_ca },
	{ MSG_NAME, sizeof(struct msg_name), 0, 0, on_msg_name },
	{ MSG_SOCKET, sizeof(struct msg_socket), 0, 1, on_msg_socket },
};

void gateway_drain_channel(struct gateway *gw)
{
	struct ipc_message m;
	int n;

	if (gw->channel < 0 || gw->agent_gone)
		return;
	while ((n = ipc_recv(gw->channel, &m)) > 0) {
		if (ipc_dispatch(agent_rules, ARRAY_SIZE(agent_rules), gw, &m) < 0)
			log_err("the agent sent a message that does not fit type=%u len=%u; are both of one version?",
				m.head.type, m.head.len);
		ipc_message_fini(&m);
	}
	gw->agent_gone = n == 0; /* acted upon after the batch: a request may be in the middle of this call */
}

static void on_leave(void *arg)
{
	struct gateway *gw = arg;

	log_warn("requests=%u still run long after the agent's death and are cut", gw->n_requests);
	gw->loop.stop = true;
}

/*
 * The agent died. A new one starts workers of its own, which need the doors' ports: they are closed, and then the
 * lock that says so. What runs goes on to its end, its limits are those that it has anyway.
 */
static void gateway_leave(struct gateway *gw)
{
	loop_unwatch(&gw->loop, &gw->channel_watch);
	close(TAKE_FD(gw->channel));
	rules_unref(TAKE_PTR(gw->pending));
	gateway_stop(gw);
	close(TAKE_FD(gw->doors_lock));
	if (loop_timer(&gw->loop, &gw->leave_timer, gw->loop.now_ns + LEAVE_NS, on_leave, gw) < 0)
		gw->loop.stop = true;
	if (gw->n_requests)
		log_info("the agent is gone; what runs is finished requests=%u", gw->n_requests);
}

static void on_channel(void *arg, uint32_t events)
{
	(void)events;
	gateway_drain_channel(arg);
}

void gateway_report_key(struct gateway *gw, struct str provider)
{
	struct msg_key msg = { 0 };

	str_copy(msg.provider, sizeof(msg.provider), provider);
	if (gw->channel < 0)
		return;
	if (ipc_send(gw->channel, MSG_KEY_BAD, 0, &msg, sizeof(msg), NULL, 0) < 0)
		log_limited(LOG_WARN, "the agent could not be told of a refused key");
}

/* ------------------------------------------------------------------ start */

static void read_config(struct gateway *gw, int fd)
{
	static struct policy_diags diags;
	auto_free char *text = NULL;
	size_t n = 0;

	if (read_whole(fd, CONFIG_TEXT_MAX, &text, &n) < 0 ||
	    config_parse((struct str){ text, n }, &gw->config, &diags) < 0)
		die("the configuration that the agent sent is not valid");
}

/* What the loop, OpenSSL, the C library's resolver and the journal need; nothing that starts programs. */
static const int allowed_syscalls[] = {
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_close, SYS_recvmsg, SYS_sendmsg,
	SYS_recvfrom, SYS_sendto, SYS_sendmmsg, SYS_recvmmsg, SYS_socket, SYS_connect, SYS_bind, SYS_accept4, SYS_shutdown,
	SYS_getsockopt, SYS_setsockopt, SYS_getsockname, SYS_getpeername, SYS_epoll_wait, SYS_epoll_pwait,
	SYS_epoll_ctl, SYS_epoll_create1, SYS_eventfd2, SYS_poll, SYS_ppoll, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap,
	SYS_madvise, SYS_mlock, SYS_brk, SYS_futex, SYS_get_robust_list, SYS_set_robust_list, SYS_clock_gettime,
	SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_getrandom, SYS_getpid, SYS_gettid, SYS_getuid, SYS_geteuid,
	SYS_getgid, SYS_getegid, SYS_openat, SYS_newfstatat, SYS_fstat, SYS_lseek, SYS_getdents64, SYS_fallocate,
	SYS_ftruncate, SYS_unlinkat, SYS_faccessat, SYS_faccessat2, SYS_fcntl, SYS_ioctl, SYS_uname, SYS_sysinfo, SYS_sched_yield,
	SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_restart_syscall, SYS_exit, SYS_exit_group,
	SYS_rseq, SYS_sched_getaffinity, SYS_prlimit64, SYS_tgkill,
#ifdef SYS_open
	SYS_open, SYS_stat, SYS_access, SYS_readlink,
#endif
	SYS_statx, SYS_readlinkat, SYS_membarrier, SYS_sigaltstack, SYS_splice, SYS_pipe2,
};

static void after_batch(void *arg)
{
	struct gateway *gw = arg;

	if (gw->agent_gone && gw->channel >= 0)
		gateway_leave(gw);
	request_reap(gw);
	conn_reap(gw);
	upstream_reap(gw->upstream);
	if (gw->stopping && !gw->n_requests && !conn_any_sending(gw))
		gw->loop.stop = true;
}

/*
 * Each connection may need a second descriptor, of its provider: accepting stops before connecting fails.
 */
static void bound_connections(struct gateway *gw)
{
	struct rlimit files;
	rlim_t reserve = FILES_RESERVE;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	if (files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	files.rlim_cur = files.rlim_cur > 2 * reserve ? (files.rlim_cur - reserve) / 2 : files.rlim_cur / 4;
	if (files.rlim_cur < gw->config->client.max_connections) {
		gw->config->client.max_connections = (uint32_t)MAX(files.rlim_cur, (rlim_t)1);
		log_warn("client.max_connections is %u for a worker: raise LimitNOFILE of the service for more",
			 (unsigned)gw->config->client.max_connections);
	}
}

static void open_shared(struct gateway *gw, const struct msg_setup *setup, int fds[4])
{
	char name[JOURNAL_NAME_BYTES];
	int err;

	gw->worker = setup->worker;
	gw->journal_dir = TAKE_FD(fds[0]);
	gw->doorbell = TAKE_FD(fds[3]);
	snprintf(name, sizeof(name), "w%u.%u", gw->worker, setup->generation);
	err = journal_open(gw->journal_dir, name, gw->config->ledger.journal_limit_bytes, &gw->journal);
	if (err)
		die("the journal of worker %u cannot be opened: %s; free space below state_dir", gw->worker, errno_text(err));
	err = balances_open(fds[1], gw->worker, &gw->balances);
	if (!err)
		err = live_open(fds[2], gw->config->client.max_connections + REPEATS_MAX, &gw->live);
	if (err)
		die("the shared state of worker %u cannot be opened: %s; it may be of another version", gw->worker,
		    errno_text(err));
	/* A clock that was days ahead once must not date all later requests. */
	if (*live_last_id(gw->live) >> 20 > gw->loop.wall_ns / NSEC_PER_MSEC + 86400000)
		*live_last_id(gw->live) = 0;
}

int gateway_main(int argc, char **argv)
{
	struct gateway *gw = &gateway;
	struct ipc_message setup, config;
	enum log_level level = LOG_INFO;
	uid_t uid;
	gid_t gid;

	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "sallyport-gw");
	isolate_start(ROLE_CHANNEL_FD);
	gw->channel = ROLE_CHANNEL_FD;
	if (ipc_expect(gw->channel, MSG_SETUP, sizeof(struct msg_setup), 4, &setup) < 0 ||
	    ipc_expect(gw->channel, MSG_CONFIG, 0, 2, &config) < 0)
		die("the agent's set-up did not come; this program is started by `sallyport daemon` only");
	read_config(gw, config.fds[0]);
	gw->doors_lock = TAKE_FD(config.fds[1]);
	ipc_message_fini(&config);
	log_level_parse(gw->config->log_level.s, &level);
	log_init("gateway", level);
	gw->tls = tls_context_new(gw->config->upstream.ca_file.s);
	gw->tls_server = tls_server_new();
	uid = isolate_user_id(gw->config->users.gateway.s);
	gid = isolate_group_id(gw->config->users.group.s);
	isolate_user(uid, gid);
	umask(0007);
	if (loop_init(&gw->loop) < 0)
		die("no event loop could be made: %s", errno_text(errno));
	open_shared(gw, (const void *)setup.payload, setup.fds);
	ipc_message_fini(&setup);
	account_recover(gw);
	if (upstream_new(&gw->loop, gw->config, gw->tls, &gw->upstream) < 0 ||
	    loop_watch(&gw->loop, &gw->channel_watch, gw->channel, EPOLLIN, on_channel, gw) < 0)
		die("the worker cannot be set up: out of memory or descriptors");
	bound_connections(gw);
	gw->loop.after_batch = after_batch;
	gw->loop.after_arg = gw;
	isolate_syscalls(allowed_syscalls, ARRAY_SIZE(allowed_syscalls));
	ipc_send_wait(gw->channel, MSG_READY, 0, NULL, 0, NULL, 0, 1000);
	loop_run(&gw->loop);
	account_flush_repeats(gw, true);
	live_retire(gw->live);
	journal_close(gw->journal);
	return 0;
}
