/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. One run of the role at a time: idle -> running -> idle. A wish that comes meanwhile is kept and
 * begins the next run. The role is told everything at once and ends by itself; its answer is read when it has ended.
 * One that takes too long is killed. What a failed run leaves is what was there before, and it is tried again.
 *
 * STATE_DIR/ca/ is root's; the role is handed a folder below it as a descriptor. The workers have the role's user, but
 * no way to that folder: they sign with the key, and cannot replace what sandboxes are told to trust.
 *
 * RUN_DIR/ca/ is a folder, and whole: a sandbox that mounts it sees a new CA; a file that was mounted alone would stay
 * the old one for ever, since files are replaced by renaming.
 */
#include "agent/ca.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "agent/roles.h"
#include "agent/rules.h"
#include "agent/spawn.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/buf.h"
#include "common/role.h"
#include "policy/policy.h"

/* Rationale: it makes one key and writes four small files. */
#define RUN_TIMEOUT_NS (10 * NSEC_PER_SEC)
#define RETRY_NS       (60 * NSEC_PER_SEC)
/* Rationale: the CA is renewed at half of its time, a year before it ends. */
#define LOOK_AGAIN_NS (24 * 3600 * NSEC_PER_SEC)
/* Rationale: all domains lie in the channel until the role has booted. */
#define CHANNEL_BYTES	(4 << 20)
#define SEND_TIMEOUT_MS 2000
/* Rationale: the system's certificates are some 220 KB. */
#define BUNDLE_MAX (4u << 20)

enum ca_answer { ANSWER_SERVED, ANSWER_KEY, ANSWER_TRUSTED, ANSWER_DESCRIPTION, ANSWER_MAX };

struct ca {
	struct agent *agent;
	int dir;     /* the role's */
	int run_dir; /* RUN_DIR/ca */
	int served, key; /* -1: there is none yet */
	int pidfd, channel;
	struct watch exit_watch;
	struct timer timer; /* of the run, or until the next one */
	bool again, rotate; /* wishes that wait for the end of this run */
};

/* The system's bundle has one of these paths. */
static const char *const system_bundles[] = {
	"/etc/ssl/certs/ca-certificates.crt", /* Debian, Arch, Alpine */
	"/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora */
	"/etc/ssl/ca-bundle.pem",	      /* SUSE */
	"/etc/ssl/cert.pem",
};

/* ---------------------------------------------------------------- files for sandboxes */

/* Appends the file's bytes from its start; bounded. */
static int append_file(struct buf *out, int fd)
{
	off_t at = 0;

	for (;;) {
		char *room = buf_reserve(out, 16384);
		ssize_t n = room ? pread(fd, room, 16384, at) : -1;

		if (!room)
			return -EFBIG;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		buf_commit(out, (size_t)n);
		at += n;
	}
}

static int append_path(struct buf *out, const char *path)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : append_file(out, fd);
}

static int write_file(int dir, const char *name, struct str text)
{
	char temp[64];
	auto_close int fd = -1;

	snprintf(temp, sizeof(temp), "%s.new", name);
	unlinkat(dir, temp, 0);
	fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0644) < 0 || write(fd, text.s, text.n) != (ssize_t)text.n || renameat(dir, temp, dir, name) < 0)
		return errno ? -errno : -ENOSPC;
	return 0;
}

static int publish_one(struct ca *ca, const char *name, int fd, bool with_system)
{
	struct buf text;
	int err = -ENOENT;

	buf_init(&text, BUNDLE_MAX + 16384);
	for (size_t i = 0; with_system && err && i < ARRAY_SIZE(system_bundles); i++)
		err = append_path(&text, system_bundles[i]);
	if (with_system && err && ca->agent->config->upstream.ca_file.n)
		err = append_path(&text, ca->agent->config->upstream.ca_file.s);
	if (with_system && err)
		log_warn("the system has no trusted certificates; sandboxes with RUN_DIR/ca/bundle.pem trust our CA alone");
	if (buf_len(&text) && buf_head(&text)[buf_len(&text) - 1] != '\n')
		buf_puts(&text, STR("\n"));
	err = append_file(&text, fd);
	err = err ? err : write_file(ca->run_dir, name, buf_str(&text));
	buf_fini(&text);
	return err;
}

/* ---------------------------------------------------------------- a run */

static int ca_start(struct ca *ca, bool rotate);

static void on_again(void *arg)
{
	ca_refresh(((struct ca *)arg)->agent, false);
}

static void take_answer(struct ca *ca, struct ipc_message *m)
{
	struct agent *a = ca->agent;
	int err;

	err = publish_one(ca, "bundle.pem", m->fds[ANSWER_TRUSTED], true);
	err = err ? err : publish_one(ca, "ca.pem", m->fds[ANSWER_TRUSTED], false);
	err = err ? err : publish_one(ca, "ca.json", m->fds[ANSWER_DESCRIPTION], false);
	if (err)
		agent_event(a, LOG_ERR, "ca_failed", NULL, "%s/ca cannot be written: %s; sandboxes cannot be given the CA",
			    a->config->run_dir.s, errno_text(err));
	if (ca->served >= 0) {
		close(ca->served);
		close(ca->key);
	}
	ca->served = TAKE_FD(m->fds[ANSWER_SERVED]);
	ca->key = TAKE_FD(m->fds[ANSWER_KEY]);
	roles_send_ca(a);
}

static void ca_failed(struct ca *ca, const char *why)
{
	agent_event(ca->agent, LOG_ERR, "ca_failed", NULL,
		    "no CA for sandboxes: %s; TLS to providers' names is refused until there is one", why);
}

static void ca_end(struct ca *ca, int status)
{
	struct agent *a = ca->agent;
	auto_free struct ipc_message *m = malloc(sizeof(*m));
	int n = m && !a->stopping ? ipc_recv(ca->channel, m) : -ENOMEM;
	bool good = n == 1 && m->head.type == MSG_CA && m->head.len == 0 && m->n_fds == ANSWER_MAX;

	loop_unwatch(&a->loop, &ca->exit_watch);
	close(TAKE_FD(ca->pidfd));
	close(TAKE_FD(ca->channel));
	if (good) {
		take_answer(ca, m);
	} else if (n == 1 && m->head.type == MSG_RESULT && m->head.len == sizeof(struct msg_result)) {
		struct msg_result *r = (struct msg_result *)m->payload;

		r->text[sizeof(r->text) - 1] = '\0';
		ca_failed(ca, log_quote(str_of(r->text)));
	} else if (!a->stopping) {
		ca_failed(ca, status == -ETIMEDOUT ? "its role took longer than 10 s and was ended" : "its role died");
	}
	if (n == 1)
		ipc_message_fini(m);
	if (a->stopping)
		return;
	if (ca->again && !ca_start(ca, ca->rotate))
		return;
	loop_timer(&a->loop, &ca->timer, a->loop.now_ns + (good ? LOOK_AGAIN_NS : RETRY_NS), on_again, ca);
}

static void on_exit_event(void *arg, uint32_t events)
{
	struct ca *ca = arg;

	(void)events;
	ca_end(ca, spawn_wait(ca->pidfd, -1));
}

static void on_timeout(void *arg)
{
	struct ca *ca = arg;

	spawn_wait(ca->pidfd, 0);
	ca_end(ca, -ETIMEDOUT);
}

static void ca_child(int channel)
{
	char *argv[] = { (char *)(uintptr_t) "sallyport", (char *)(uintptr_t) "role", (char *)(uintptr_t) "ca", NULL };
	int null = open("/dev/null", O_RDONLY);

	spawn_child_signals();
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	if (channel == ROLE_CHANNEL_FD)
		fcntl(channel, F_SETFD, 0);
	else if (dup2(channel, ROLE_CHANNEL_FD) < 0)
		_exit(126);
	execv("/proc/self/exe", argv);
	_exit(127);
}

/* Calls fn for each domain of an enabled provider until it fails. */
static int each_domain(const struct agent *a, int (*fn)(int channel, struct str domain), int channel)
{
	const struct policy *p = rules_policy(a);
	int err = 0;

	for (unsigned i = 0; p && !err && i < policy_n_providers(p); i++) {
		const struct policy_provider *provider = policy_provider(p, i);

		for (unsigned k = 0; !provider->disabled && !err && k < provider->n_domains; k++)
			err = fn(channel, provider->domains[k]);
	}
	return err;
}

static int send_domain(int channel, struct str domain)
{
	struct msg_name msg = { .active = 1 };

	str_copy(msg.name, sizeof(msg.name), domain);
	return ipc_send(channel, MSG_DNS_PATTERN, 0, &msg, sizeof(msg), NULL, 0);
}

static int one_is_enough(int channel, struct str domain)
{
	(void)channel;
	(void)domain;
	return 1;
}

static int ca_tell(struct ca *ca, bool rotate)
{
	struct agent *a = ca->agent;
	struct msg_ca_setup setup = { .rotate = rotate };
	auto_close int config = memfd_create("config", MFD_CLOEXEC);
	int err;

	if (config < 0 || write(config, a->config_text, a->config_bytes) != (ssize_t)a->config_bytes ||
	    lseek(config, 0, SEEK_SET) < 0)
		return errno ? -errno : -ENOSPC;
	err = ipc_send(ca->channel, MSG_CONFIG, 0, NULL, 0, &config, 1);
	err = err ? err : ipc_send(ca->channel, MSG_CA_SETUP, 0, &setup, sizeof(setup), &ca->dir, 1);
	err = err ? err : each_domain(a, send_domain, ca->channel);
	return err ? err : ipc_send(ca->channel, MSG_STOP, 0, NULL, 0, NULL, 0);
}

static int ca_start(struct ca *ca, bool rotate)
{
	struct agent *a = ca->agent;
	auto_close int mine = -1, theirs = -1;
	int pair[2], size = CHANNEL_BYTES, err = ipc_pair(pair);
	pid_t pid;

	ca->again = ca->rotate = false;
	if (err)
		return err;
	mine = pair[0];
	theirs = pair[1];
	setsockopt(mine, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	pid = spawn_clone(a->gateway_cg, &ca->pidfd);
	if (pid < 0)
		return (int)pid;
	if (!pid)
		ca_child(theirs);
	ca->channel = TAKE_FD(mine);
	err = loop_watch(&a->loop, &ca->exit_watch, ca->pidfd, EPOLLIN, on_exit_event, ca);
	err = err ? err : loop_timer(&a->loop, &ca->timer, a->loop.now_ns + RUN_TIMEOUT_NS, on_timeout, ca);
	err = err ? err : ca_tell(ca, rotate);
	if (err) {
		spawn_wait(ca->pidfd, 0);
		ca_end(ca, err);
	}
	return err;
}

/* ---------------------------------------------------------------- for the others */

int ca_refresh(struct agent *a, bool rotate)
{
	struct ca *ca = a->ca;

	if (!ca || !each_domain(a, one_is_enough, -1))
		return -ENOENT;
	if (ca->pidfd >= 0) {
		ca->again = true;
		ca->rotate |= rotate;
		return 0;
	}
	return ca_start(ca, rotate);
}

int ca_send(struct agent *a, int channel)
{
	const struct ca *ca = a->ca;

	if (!ca || ca->served < 0)
		return 0;
	return ipc_send_wait(channel, MSG_CA, 0, NULL, 0, (int[]){ ca->served, ca->key }, 2, SEND_TIMEOUT_MS);
}

int ca_init(struct agent *a)
{
	struct ca *ca = calloc(1, sizeof(*ca));

	if (!ca)
		return -ENOMEM;
	*ca = (struct ca){ .agent = a, .dir = a->ca_dir, .served = -1, .key = -1, .pidfd = -1, .channel = -1 };
	if (mkdirat(a->run_dir, "ca", 0755) < 0 && errno != EEXIST) {
		free(ca);
		return -errno;
	}
	ca->run_dir = openat(a->run_dir, "ca", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (ca->run_dir < 0) {
		free(ca);
		return -errno;
	}
	a->ca = ca;
	return 0;
}

void ca_fini(struct agent *a)
{
	struct ca *ca = a->ca;

	if (!ca)
		return;
	loop_untimer(&a->loop, &ca->timer);
	if (ca->pidfd >= 0) {
		spawn_wait(ca->pidfd, 0);
		loop_unwatch(&a->loop, &ca->exit_watch);
		close(ca->pidfd);
		close(ca->channel);
	}
	if (ca->served >= 0) {
		close(ca->served);
		close(ca->key);
	}
	close(ca->run_dir);
	free(ca);
	a->ca = NULL;
}
