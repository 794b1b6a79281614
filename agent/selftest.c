/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/selftest.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>

#include "agent/door.h"
#include "agent/spawn.h"
#include "common/log.h"
#include "common/stamp.h"

#define SELFTEST_TIMEOUT_MS 3000
/* Any will do: nothing else is in that namespace. */
#define SELFTEST_PORT 4117

struct selftest {
	struct agent *agent;
	char path[CGROUP_PATH_BYTES];
	int cgroup_fd, netns_fd;
	struct gate_label label;
	struct door_sockets door;
	bool attached;
};

/* A child that makes a namespace tells its end through the pipe and waits; we open the namespace.
 */
static int make_netns(void)
{
	int ready[2], go[2], pidfd = -1, fd;
	char byte;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
		return -errno;
	pid = spawn_clone(-1, &pidfd);
	if (!pid) {
		spawn_child_signals();
		close(go[1]);
		if (unshare(CLONE_NEWNET) < 0 || write(ready[1], "", 1) != 1 ||
		    read(go[0], &byte, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(ready[1]);
	close(go[0]);
	fd = pid < 0 ? (int)pid : read(ready[0], &byte, 1) == 1 ? netns_open(pid) : -EPERM;
	close(ready[0]);
	close(go[1]);
	if (pid > 0) {
		spawn_wait(pidfd, SELFTEST_TIMEOUT_MS);
		close(pidfd);
	}
	return fd;
}

static void client_child(const struct selftest *t)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons(t->door.port),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	char byte;
	int fd;

	spawn_child_signals();
	if (setns(t->netns_fd, CLONE_NEWNET) < 0)
		_exit(1);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		_exit(2);
	/* Until the other end has looked. */
	_exit(write(fd, "x", 1) == 1 && read(fd, &byte, 1) == 0 ? 0 : 3);
}

static const char *read_stamp(const struct selftest *t, int conn)
{
	struct pollfd p = { .fd = conn, .events = POLLIN };
	struct stamp s;
	socklen_t len = sizeof(s);

	if (poll(&p, 1, SELFTEST_TIMEOUT_MS) != 1)
		return "the connection brought nothing";
	if (getsockopt(conn, STAMP_SOL, STAMP_GET, &s, &len) < 0)
		return "a connection arrived without a stamp";
	if (s.version != STAMP_VERSION || s.cgroup_id != t->label.cgroup_id ||
	    s.label_id != t->label.label_id || s.netns_cookie != t->door.netns_cookie)
		return "a stamp names another sandbox";
	if (s.peer != STAMP_PEER_AGREES)
		return "the stamp and the live peer do not agree";
	return NULL;
}

static const char *try_connect(struct selftest *t)
{
	struct pollfd p = { .fd = t->door.fds[0], .events = POLLIN };
	auto_close int conn = -1, pidfd = -1;
	const char *why;
	pid_t pid = spawn_clone(t->cgroup_fd, &pidfd);

	if (pid < 0)
		return "no process can be started in a cgroup (CLONE_INTO_CGROUP)";
	if (!pid)
		client_child(t);
	if (poll(&p, 1, SELFTEST_TIMEOUT_MS) == 1)
		conn = accept4(t->door.fds[0], NULL, NULL, SOCK_CLOEXEC);
	why = conn < 0 ? "a connection to the door did not arrive" : read_stamp(t, conn);
	if (conn >= 0)
		close(TAKE_FD(conn));
	spawn_wait(pidfd, SELFTEST_TIMEOUT_MS);
	return why;
}

static const char *selftest_steps(struct selftest *t)
{
	struct agent *a = t->agent;

	t->cgroup_fd = cgroup_create(&a->cg, t->path);
	if (t->cgroup_fd < 0)
		return "no cgroup can be made";
	t->netns_fd = make_netns();
	if (t->netns_fd < 0)
		return "no network namespace can be made";
	/* An id that no sandbox ever has. */
	t->label = (struct gate_label){ .label_id = UINT32_MAX,
					.label_gen = 1,
					.level = cgroup_level(t->path),
					.cgroup_id = cgroup_id(t->cgroup_fd) };
	if (load_sandbox(&a->bpf, t->cgroup_fd, &t->label))
		return "the programs cannot be attached to a cgroup";
	t->attached = true;
	if (door_listen(&a->bpf, a->gateway_cg, t->netns_fd, UINT64_MAX, SELFTEST_PORT,
			SELFTEST_PORT, &t->door))
		return "no door can be opened in a network namespace";
	return try_connect(t);
}

int selftest_run(struct agent *a)
{
	struct selftest t = { .agent = a, .cgroup_fd = -1, .netns_fd = -1 };
	const char *why;

	if (snprintf(t.path, sizeof(t.path), "%s/selftest", a->config->cgroup.parent.s) >=
	    (int)sizeof(t.path))
		return -ENAMETOOLONG;
	why = selftest_steps(&t);
	if (t.door.n_fds)
		door_sockets_close(&a->bpf, &t.door);
	if (t.attached)
		load_release(&a->bpf, t.label.cgroup_id);
	if (t.netns_fd >= 0)
		close(t.netns_fd);
	if (t.cgroup_fd >= 0)
		close(t.cgroup_fd);
	cgroup_remove(&a->cg, t.path);
	str_copy(a->stamp_state, sizeof(a->stamp_state), why ? str_of(why) : STR("ok"));
	return why ? -EOPNOTSUPP : 0;
}
