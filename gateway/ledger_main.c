/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger role: reads every writer's journal, commits in groups, answers queries on a unix socket.
 *
 * A doorbell starts a short wait in which more records gather; then everything that is there goes into one
 * transaction together with the positions reached. So a crash of this role loses nothing and counts nothing
 * twice. While the database cannot be written the journals keep the records, and a file beside each journal
 * tells its worker so.
 *
 * A journal's directory is locked by its worker. Those that have no doorbell are of workers of a former agent, which
 * may still finish requests: they are read from time to time, and removed once nobody holds the lock and all of it
 * is committed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/ipc.h"
#include "common/isolate.h"
#include "common/json.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/msg.h"
#include "common/role.h"
#include "gateway/balance.h"
#include "gateway/ledger.h"
#include "gateway/rules.h"
#include "policy/config.h"

#define GATHER_NS  (20 * NSEC_PER_MSEC)
/* A lost doorbell must not delay records for ever. */
#define POLL_NS    (500 * NSEC_PER_MSEC)
#define RETRY_NS   (1 * NSEC_PER_SEC)
#define PURGE_NS   (600 * NSEC_PER_SEC)
/* How often journals are looked for that have no doorbell. */
#define SCAN_NS	   (2 * NSEC_PER_SEC)
/* Rationale: the ledger of an agent that was killed commits what it has and ends; a disk may be slow. */
#define HAND_OVER_MS 20000
#define BATCH_RECORDS 5000
/* Transactions in a row before queries and the agent get their turn. */
#define DRAIN_BATCHES 8
#define CLIENTS_MAX   16
#define QUERY_BYTES   65536
#define ANSWER_BYTES  (64u << 20)

struct writer {
	struct role *role;
	char name[JOURNAL_NAME_BYTES];
	int dir;      /* -1: this entry is free */
	int doorbell; /* -1: of a worker that has another agent, or none */
	bool over;    /* its worker is gone */
	bool at_end;  /* everything was committed, since that was known */
	int n_read;   /* in the open transaction */
	struct watch watch;
	struct journal_reader *reader;
	struct journal_position done; /* committed: where reading begins again after a failure */
};

struct client {
	struct role *role;
	int fd; /* -1: free */
	struct watch watch;
	struct buf in, out;
};

static struct role {
	struct loop loop;
	struct config *config;
	struct ledger *ledger;
	struct balances *balances;
	int channel, journal_root, listener;
	struct watch channel_watch, listener_watch;
	struct writer writers[LEDGER_JOURNALS_MAX];
	unsigned n_writers; /* entries ever used */
	struct timer gather, purge, scan;
	struct client clients[CLIENTS_MAX];
	bool failing;
} role;

/* ------------------------------------------------------------------ journals */

/* From `done`: not asked of the database again, which may be what fails. */
static int writer_open(struct writer *w)
{
	journal_reader_close(TAKE_PTR(w->reader));
	return journal_reader_open(w->dir, w->name, w->done, &w->reader);
}

/* Records of one writer into the open transaction; returns how many, or -EIO. */
static int writer_read(struct writer *w, int max)
{
	struct journal_record rec;
	int n = 0, got;

	while (n < max && (got = journal_read(w->reader, &rec)) != 0) {
		int err = got < 0 ? got : ledger_add(w->role->ledger, &rec);

		if (err == -EBADMSG)
			log_limited(LOG_ERR, "a damaged record was skipped journal=%s", w->name);
		else if (err)
			return err;
		n++;
	}
	return n && ledger_set_position(w->role->ledger, w->name, journal_reader_position(w->reader)) < 0 ? -EIO : n;
}

/* The file beside a journal: its worker looks for it (config: ledger.on_error). */
static void writer_tell(const struct writer *w, bool failing)
{
	auto_close int fd = -1;

	if (!failing) {
		unlinkat(w->dir, "ledger-error", 0);
		return;
	}
	fd = openat(w->dir, "ledger-error", O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		log_debug("a worker could not be told journal=%s", w->name);
}

/* Tells the workers whether records can be written. */
static void role_set_failing(struct role *r, bool failing)
{
	if (r->failing == failing)
		return;
	r->failing = failing;
	if (failing)
		log_err("the ledger cannot be written; records wait in the journal, free space below state_dir");
	else
		log_info("the ledger can be written again");
	for (unsigned i = 0; i < r->n_writers; i++)
		if (r->writers[i].reader)
			writer_tell(&r->writers[i], failing);
}

static void writer_committed(struct writer *w)
{
	w->done = journal_reader_position(w->reader);
	w->at_end = !w->n_read;
}

/* One transaction over all journals; returns the number of records, or -EIO with everything undone. */
static int role_transaction(struct role *r)
{
	int total = 0, err = ledger_begin(r->ledger);

	for (unsigned i = 0; i < r->n_writers && !err; i++) {
		struct writer *w = &r->writers[i];

		w->n_read = w->reader ? writer_read(w, BATCH_RECORDS) : 0;
		if (w->n_read < 0)
			err = w->n_read;
		else
			total += w->n_read;
	}
	if (!err)
		err = ledger_commit(r->ledger);
	for (unsigned i = 0; i < r->n_writers && !err; i++)
		if (r->writers[i].reader)
			writer_committed(&r->writers[i]);
	if (!err)
		return total;
	ledger_rollback(r->ledger);
	for (unsigned i = 0; i < r->n_writers; i++)
		if (r->writers[i].reader)
			writer_open(&r->writers[i]);
	return err;
}

/* Everything that is there, within a bound: 1 when more is left, 0, or -EIO. */
static int role_drain(struct role *r)
{
	int n = 0;

	for (int i = 0; i < DRAIN_BATCHES; i++) {
		n = role_transaction(r);
		if (n < BATCH_RECORDS)
			break;
	}
	role_set_failing(r, n < 0);
	for (unsigned i = 0; i < r->n_writers; i++)
		if (r->writers[i].reader)
			journal_reader_trim(r->writers[i].reader, r->writers[i].done);
	return n < 0 ? n : n >= BATCH_RECORDS;
}

static void on_gather(void *arg)
{
	struct role *r = arg;
	int n = role_drain(r);

	loop_timer(&r->loop, &r->gather, r->loop.now_ns + (n < 0 ? RETRY_NS : n ? 0 : POLL_NS), on_gather, r);
	for (unsigned i = 0; i < r->n_writers; i++)
		if (r->writers[i].doorbell >= 0)
			loop_rewatch(&r->loop, &r->writers[i].watch, EPOLLIN);
}

/* Not read again until the group is committed: the doorbells of that time are one. */
static void on_doorbell(void *arg, uint32_t events)
{
	struct writer *w = arg;
	uint64_t n;

	(void)events;
	if (read(w->doorbell, &n, sizeof(n)) < 0)
		return;
	loop_rewatch(&w->role->loop, &w->watch, 0);
	if (w->role->gather.at_ns > w->role->loop.now_ns + GATHER_NS)
		loop_timer(&w->role->loop, &w->role->gather, w->role->loop.now_ns + GATHER_NS, on_gather, w->role);
}

static void on_purge(void *arg)
{
	struct role *r = arg;
	int n = 0;

	if (r->config->ledger.retention_ns && r->loop.wall_ns > r->config->ledger.retention_ns)
		n = ledger_purge(r->ledger, r->loop.wall_ns - r->config->ledger.retention_ns, BATCH_RECORDS);
	loop_timer(&r->loop, &r->purge, r->loop.now_ns + (n >= BATCH_RECORDS ? RETRY_NS : PURGE_NS), on_purge, r);
}

/* ------------------------------------------------------------------ journals come and go */

/* The journal of this name, opened if it is not; NULL: it cannot be read, or there are too many for now. */
static struct writer *writer_get(struct role *r, const char *name)
{
	struct writer *w = NULL;

	for (unsigned i = 0; i < r->n_writers; i++) {
		if (r->writers[i].dir >= 0 && !strcmp(r->writers[i].name, name))
			return &r->writers[i];
		if (r->writers[i].dir < 0)
			w = &r->writers[i];
	}
	if (!w && r->n_writers == LEDGER_JOURNALS_MAX)
		return NULL;
	w = w ? w : &r->writers[r->n_writers];
	*w = (struct writer){ .role = r, .doorbell = -1 };
	if (!str_copy(w->name, sizeof(w->name), str_of(name)))
		return NULL;
	w->dir = openat(r->journal_root, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	w->done = ledger_position(r->ledger, w->name);
	if (w->dir < 0 || writer_open(w) < 0) {
		log_err("a journal cannot be read journal=%s why=\"%s\"", w->name, errno_text(errno));
		if (w->dir >= 0)
			close(TAKE_FD(w->dir));
		return NULL;
	}
	/* An earlier life of this role may have ended in the middle of a failure. */
	writer_tell(w, r->failing);
	r->n_writers = MAX(r->n_writers, (unsigned)(w - r->writers) + 1);
	return w;
}

typedef void (*name_fn)(void *arg, const char *name);

static void each_name(int dirfd, name_fn fn, void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (!dir && fd >= 0)
		close(fd);
	while (dir && (e = readdir(dir)))
		fn(arg, e->d_name);
	if (dir)
		closedir(dir);
}

static void remove_file(void *arg, const char *name)
{
	if (strcmp(name, ".") && strcmp(name, ".."))
		unlinkat(*(int *)arg, name, 0);
}

/* The files first: while the position is there, nothing is counted twice. */
static void writer_remove(struct writer *w)
{
	struct role *r = w->role;

	each_name(w->dir, remove_file, &w->dir);
	if (unlinkat(r->journal_root, w->name, AT_REMOVEDIR) < 0 || ledger_forget(r->ledger, w->name) < 0) {
		log_limited(LOG_WARN, "a journal that is read cannot be removed journal=%s why=\"%s\"", w->name,
			    errno_text(errno));
		return;
	}
	log_debug("a dead worker's journal is read and removed journal=%s", w->name);
	journal_reader_close(TAKE_PTR(w->reader));
	close(TAKE_FD(w->dir));
}

static void journal_seen(void *arg, const char *name)
{
	if (name[0] == 'w')
		writer_get(arg, name);
}

static void on_scan(void *arg)
{
	struct role *r = arg;

	each_name(r->journal_root, journal_seen, r);
	for (unsigned i = 0; i < r->n_writers; i++) {
		struct writer *w = &r->writers[i];

		if (w->dir < 0 || w->doorbell >= 0 || w->name[0] != 'w')
			continue;
		if (w->over && w->at_end)
			writer_remove(w);
		else if (!w->over && flock(w->dir, LOCK_EX | LOCK_NB) == 0) {
			w->over = true;
			w->at_end = false; /* it may have written since */
		}
	}
	loop_timer(&r->loop, &r->scan, r->loop.now_ns + SCAN_NS, on_scan, r);
}

/* ------------------------------------------------------------------ queries */

static void client_close(struct client *c)
{
	loop_unwatch(&c->role->loop, &c->watch);
	close(TAKE_FD(c->fd));
	buf_fini(&c->in);
	buf_fini(&c->out);
}

static int put_balance(struct buf *out, const struct balance_row *row)
{
	int err = buf_puts(out, STR("["));

	if (!err)
		err = buf_json_string(out, str_of(row->bucket));
	return err ? err :
		     buf_printf(out, ",\"%s\",%lld,%lld,%lld,%llu,%lld]\n", quota_unit_name(row->unit), (long long)row->balance,
				(long long)row->capacity, (long long)row->rate, (unsigned long long)row->rate_period_ns,
				(long long)row->held);
}

/* {"op":"quota"} lists, {"op":"refill","bucket":"…","amount":"…"} adds (amount absent: fills up). */
static bool query_balances(struct role *r, struct str request, struct buf *out)
{
	char op[16] = "", bucket[POLICY_BUCKET_BYTES] = "";
	struct balance_row row;
	int64_t amount = -1;
	cJSON *json = json_parse(request);
	unsigned i = 0;

	json_string(json, "op", op, sizeof(op));
	json_string(json, "bucket", bucket, sizeof(bucket));
	json_int(json, "amount", &amount);
	cJSON_Delete(json);
	if (!strcmp(op, "refill")) {
		int err = balances_refill(r->balances, bucket, amount, r->loop.wall_ns);

		buf_printf(out, err ? "{\"error\":\"there is no such bucket; `sallyport quota` lists them\"}\n" :
				      "{\"end\":true,\"rows\":0}\n");
		return true;
	}
	if (strcmp(op, "quota"))
		return false;
	buf_puts(out, STR("{\"columns\":[\"bucket\",\"unit\",\"balance\",\"capacity\",\"rate\",\"rate_period_ns\",\"held\"]}\n"));
	while (balances_row(r->balances, i, r->loop.wall_ns, &row) && put_balance(out, &row) == 0)
		i++;
	buf_printf(out, "{\"end\":true,\"rows\":%u}\n", i);
	return true;
}

static void client_write(struct client *c)
{
	while (buf_len(&c->out)) {
		ssize_t n = send(c->fd, buf_head(&c->out), buf_len(&c->out), MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			loop_rewatch(&c->role->loop, &c->watch, EPOLLOUT);
			return;
		}
		if (n < 0) {
			client_close(c);
			return;
		}
		buf_consume(&c->out, (size_t)n);
	}
	loop_rewatch(&c->role->loop, &c->watch, EPOLLIN);
}

static void on_client(void *arg, uint32_t events)
{
	struct client *c = arg;
	const char *lf;
	char *p;
	ssize_t n;

	if (events & EPOLLOUT) {
		client_write(c);
		return;
	}
	p = buf_reserve(&c->in, 4096);
	n = p ? read(c->fd, p, 4096) : 0;
	if (n <= 0) {
		client_close(c);
		return;
	}
	buf_commit(&c->in, (size_t)n);
	while ((lf = buf_len(&c->in) ? memchr(buf_head(&c->in), '\n', buf_len(&c->in)) : NULL)) {
		struct str line = { buf_head(&c->in), (size_t)(lf - buf_head(&c->in)) };

		size_t was = buf_len(&c->out);

		role_drain(c->role); /* who has seen an answer finds it here */
		if (!query_balances(c->role, line, &c->out) && ledger_query(c->role->ledger, line, &c->out) < 0) {
			c->out.end = c->out.start + was; /* answers of earlier lines stay */
			buf_puts(&c->out, STR("{\"error\":\"the answer is too long; ask with --since or --limit\"}\n"));
		}
		buf_consume(&c->in, line.n + 1);
	}
	client_write(c);
}

static void on_listener(void *arg, uint32_t events)
{
	struct role *r = arg;
	int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	for (unsigned i = 0; fd >= 0 && i < CLIENTS_MAX; i++) {
		struct client *c = &r->clients[i];

		if (c->fd >= 0)
			continue;
		*c = (struct client){ .role = r, .fd = TAKE_FD(fd) };
		buf_init(&c->in, QUERY_BYTES);
		buf_init(&c->out, ANSWER_BYTES);
		if (loop_watch(&r->loop, &c->watch, c->fd, EPOLLIN, on_client, c) < 0)
			close(TAKE_FD(c->fd));
	}
	if (fd >= 0)
		close(fd); /* as many as are served are open */
}

/* ------------------------------------------------------------------ the agent */

static void on_msg_doorbell(void *arg, struct ipc_message *m)
{
	struct role *r = arg;
	const struct msg_setup *setup = (const void *)m->payload;
	char name[JOURNAL_NAME_BYTES] = "agent";
	struct writer *w;

	if (setup->generation)
		snprintf(name, sizeof(name), "w%u.%u", setup->worker, setup->generation);
	w = writer_get(r, name);
	if (!w || w->doorbell >= 0)
		return;
	w->doorbell = TAKE_FD(m->fds[0]);
	loop_watch(&r->loop, &w->watch, w->doorbell, EPOLLIN, on_doorbell, w);
	loop_timer(&r->loop, &r->gather, r->loop.now_ns + GATHER_NS, on_gather, r);
}

static void on_msg_stop(void *arg, struct ipc_message *m)
{
	(void)m;
	((struct role *)arg)->loop.stop = true;
}

static const struct ipc_rule agent_rules[] = {
	{ MSG_DOORBELL, sizeof(struct msg_setup), 1, 1, on_msg_doorbell },
	{ MSG_STOP, 0, 0, 0, on_msg_stop },
};

static void on_channel(void *arg, uint32_t events)
{
	struct role *r = arg;
	struct ipc_message m;
	int n;

	(void)events;
	while ((n = ipc_recv(r->channel, &m)) > 0) {
		if (ipc_dispatch(agent_rules, ARRAY_SIZE(agent_rules), r, &m) < 0)
			log_err("the agent sent a message that does not fit type=%u", m.head.type);
		ipc_message_fini(&m);
	}
	if (n == 0)
		r->loop.stop = true;
}

/* ------------------------------------------------------------------ start */

/* What SQLite, the journals and the loop need. */
static const int allowed_syscalls[] = {
	SYS_read, SYS_write, SYS_pread64, SYS_pwrite64, SYS_close, SYS_recvmsg, SYS_sendmsg, SYS_recvfrom, SYS_sendto,
	SYS_accept4, SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_ctl, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise,
	SYS_brk, SYS_futex, SYS_clock_gettime, SYS_gettimeofday, SYS_nanosleep, SYS_clock_nanosleep, SYS_getrandom, SYS_getpid,
	SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_openat, SYS_newfstatat, SYS_fstat,
	SYS_lseek, SYS_getdents64,
	SYS_fallocate, SYS_ftruncate, SYS_fsync, SYS_fdatasync, SYS_unlinkat, SYS_faccessat,
	SYS_faccessat2, SYS_fcntl, SYS_getcwd, SYS_fchown, SYS_fchmod,
	SYS_ioctl, SYS_uname, SYS_sysinfo, SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_restart_syscall,
	SYS_exit, SYS_exit_group, SYS_statx, SYS_readlinkat, SYS_utimensat, SYS_prlimit64, SYS_sched_yield, SYS_rseq,
	SYS_set_robust_list, SYS_tgkill, SYS_shutdown, SYS_sigaltstack, SYS_flock,
#ifdef SYS_open
	SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_unlink, SYS_readlink,
#endif
};

static void become_ledger(struct role *r, int config_fd)
{
	static struct policy_diags diags;
	auto_free char *text = NULL;
	enum log_level level = LOG_INFO;
	size_t n;

	if (read_whole(config_fd, CONFIG_TEXT_MAX, &text, &n) < 0 ||
	    config_parse((struct str){ text, n }, &r->config, &diags) < 0)
		die("the configuration that the agent sent is not valid");
	log_level_parse(r->config->log_level.s, &level);
	log_init("ledger", level);
	isolate_user(isolate_user_id(r->config->users.ledger.s), isolate_group_id(r->config->users.group.s));
}

/*
 * One ledger for one database: two would read the same records. That of an agent that was killed ends by itself.
 * The lock is held until this process ends.
 */
static void wait_for_hand_over(void)
{
	int fd = open("ledger.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);

	if (fd < 0)
		die("state_dir/ledger/ledger.lock cannot be made: %s", errno_text(errno));
	for (int waited = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited += 50) {
		if (waited >= HAND_OVER_MS)
			die("the ledger role of a former daemon does not end; see what keeps it (ps, the disk) and kill it");
		usleep(50000);
	}
}

int ledger_main(int argc, char **argv)
{
	struct ipc_message setup, config;
	struct role *r = &role;

	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "sallyport-ledger");
	isolate_start(ROLE_CHANNEL_FD);
	r->channel = ROLE_CHANNEL_FD;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		r->clients[i].fd = -1;
	if (ipc_expect(r->channel, MSG_LEDGER_SETUP, sizeof(struct msg_setup), 4, &setup) < 0 ||
	    ipc_expect(r->channel, MSG_CONFIG, 0, 1, &config) < 0)
		die("the agent's set-up did not come; this program is started by `sallyport daemon` only");
	become_ledger(r, config.fds[0]);
	ipc_message_fini(&config);
	umask(0027);
	r->journal_root = TAKE_FD(setup.fds[0]);
	r->listener = TAKE_FD(setup.fds[3]);
	if (fchdir(setup.fds[1]) < 0)
		die("state_dir/ledger cannot be used: %s", errno_text(errno));
	wait_for_hand_over();
	if (ledger_open("ledger.db", &r->ledger) < 0)
		die("the ledger cannot be opened in state_dir/ledger; see the line above");
	if (balances_open(setup.fds[2], 63, &r->balances) < 0)
		die("the quota balances cannot be opened; state_dir/balances may be of another version");
	ipc_message_fini(&setup);
	if (loop_init(&r->loop) < 0 ||
	    loop_watch(&r->loop, &r->channel_watch, r->channel, EPOLLIN, on_channel, r) < 0 ||
	    loop_watch(&r->loop, &r->listener_watch, r->listener, EPOLLIN, on_listener, r) < 0)
		die("the ledger role cannot be set up: out of memory or descriptors");
	loop_timer(&r->loop, &r->gather, r->loop.now_ns, on_gather, r);
	loop_timer(&r->loop, &r->purge, r->loop.now_ns + PURGE_NS, on_purge, r);
	loop_timer(&r->loop, &r->scan, r->loop.now_ns, on_scan, r);
	isolate_syscalls(allowed_syscalls, ARRAY_SIZE(allowed_syscalls));
	ipc_send_wait(r->channel, MSG_READY, 0, NULL, 0, NULL, 0, 1000);
	loop_run(&r->loop);
	while (role_drain(r) > 0)
		continue;
	ledger_close(r->ledger);
	return 0;
}
