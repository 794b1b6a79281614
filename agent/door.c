/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. An accepted socket takes its cgroup from its listener, and a listener from
 * the process that created it. The programs that stamp accepted sockets are attached to the
 * gateway's cgroup, so listeners are created by a child that the kernel starts inside that cgroup;
 * it enters the network namespace, brings lo up, binds, hands the descriptors back and exits. It
 * does not listen: the agent first puts the door on the kernel's list, so that no connection can
 * arrive before connects to it are stamped, and then calls listen() on the descriptors it was
 * handed.
 *
 * No SO_REUSEPORT: a process of the sandbox could join the port. SO_REUSEADDR is needed, since
 * connections of a former daemon may be in TIME_WAIT; two sockets can then be bound to one port,
 * but only one of them can listen, and the other one is told so by listen().
 */
#include "agent/door.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "agent/maps.h"
#include "agent/roles.h"
#include "agent/spawn.h"
#include "common/ipc.h"
#include "common/log.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* Rationale: clients wait here while a worker restarts; the kernel cuts it to net.core.somaxconn.
 */
#define DOOR_BACKLOG 4096
/* Rationale: the child does a dozen system calls. */
#define DOOR_CHILD_TIMEOUT_MS 3000

/* ---------------------------------------------------------------- in the child */

static int lo_up(void)
{
	auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_name = "lo" };

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return -errno;
	if (ifr.ifr_flags & IFF_UP)
		return 0;
	ifr.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
}

static int bind_one(int family, uint16_t port)
{
	auto_close int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons(port),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6,
				     .sin6_port = htons(port),
				     .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int on = 1, err;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	err = family == AF_INET ? bind(fd, (struct sockaddr *)&sin, sizeof(sin))
				: bind(fd, (struct sockaddr *)&sin6, sizeof(sin6));
	return err < 0 ? -errno : TAKE_FD(fd);
}

/* Both addresses on one port, or v4 alone where there is no v6. */
static int bind_pair(uint16_t port, struct door_sockets *ret)
{
	auto_close int v4 = bind_one(AF_INET, port);
	int v6;

	if (v4 < 0)
		return v4;
	v6 = bind_one(AF_INET6, port);
	if (v6 == -EADDRINUSE)
		return v6;
	*ret = (struct door_sockets){ .fds = { TAKE_FD(v4), v6 },
				      .n_fds = v6 < 0 ? 1 : 2,
				      .port = port };
	return 0;
}

static void door_child(int channel, int netns_fd, uint16_t from, uint16_t to)
{
	struct door_sockets s = { .fds = { -1, -1 } };
	struct msg_result result = { 0 };
	int err = setns(netns_fd, CLONE_NEWNET) < 0 ? -errno : lo_up();

	if (!err)
		err = -EADDRINUSE;
	for (unsigned port = from; err == -EADDRINUSE && port <= to; port++)
		err = bind_pair((uint16_t)port, &s);
	result.err = err;
	result.generation = s.port;
	ipc_send(channel, MSG_RESULT, 0, &result, sizeof(result), s.fds, err ? 0 : s.n_fds);
	_exit(0);
}

/* ---------------------------------------------------------------- in the agent */

static int door_answer(int channel, int pidfd, struct door_sockets *ret)
{
	auto_free struct ipc_message *m = malloc(sizeof(*m));
	int status = spawn_wait(pidfd, DOOR_CHILD_TIMEOUT_MS);
	struct msg_result *result;

	if (!m)
		return -ENOMEM;
	if (status < 0)
		return status;
	if (ipc_recv(channel, m) != 1 || m->head.len != sizeof(*result))
		return -EIO;
	result = (struct msg_result *)m->payload;
	if (result->err || !m->n_fds || m->n_fds > 2) {
		ipc_message_fini(m);
		return result->err ? result->err : -EIO;
	}
	*ret = (struct door_sockets){ .fds = { m->fds[0], m->n_fds > 1 ? m->fds[1] : -1 },
				      .n_fds = m->n_fds,
				      .port = (uint16_t)result->generation };
	return 0;
}

static int door_bind(int cgroup_fd, int netns_fd, uint16_t from, uint16_t to,
		     struct door_sockets *ret)
{
	auto_close int mine = -1, theirs = -1, pidfd = -1;
	int pair[2], err = ipc_pair(pair);
	pid_t pid;

	if (err)
		return err;
	mine = pair[0];
	theirs = pair[1];
	pid = spawn_clone(cgroup_fd, &pidfd);
	if (pid < 0)
		return (int)pid;
	if (!pid) {
		spawn_child_signals();
		door_child(theirs, netns_fd, from, to);
	}
	close(TAKE_FD(theirs));
	return door_answer(mine, pidfd, ret);
}

void door_sockets_close(struct load *l, struct door_sockets *s)
{
	if (s->netns_cookie)
		maps_door_remove(l, s->netns_cookie, s->port);
	for (unsigned i = 0; i < s->n_fds; i++)
		close(s->fds[i]);
	*s = (struct door_sockets){ .fds = { -1, -1 } };
}

static int door_register(struct load *l, uint64_t door_id, struct door_sockets *s)
{
	socklen_t len = sizeof(s->netns_cookie);
	int err;

	if (getsockopt(s->fds[0], SOL_SOCKET, SO_NETNS_COOKIE, &s->netns_cookie, &len) < 0)
		return -errno;
	err = maps_door_add(l, s->netns_cookie, s->port, door_id);
	for (unsigned i = 0; !err && i < s->n_fds; i++)
		err = listen(s->fds[i], DOOR_BACKLOG) < 0 ? -errno : 0;
	return err;
}

int door_listen(struct load *l, int cgroup_fd, int netns_fd, uint64_t door_id, uint16_t from,
		uint16_t to, struct door_sockets *ret)
{
	unsigned port = from;
	int err;

	do {
		struct door_sockets s;

		err = door_bind(cgroup_fd, netns_fd, (uint16_t)port, to, &s);
		if (err)
			return err;
		err = door_register(l, door_id, &s);
		if (!err) {
			*ret = s;
			return 0;
		}
		port = s.port + 1U;
		door_sockets_close(l, &s);
	} while (err == -EADDRINUSE && port <= to);
	return err;
}

static uint16_t last_port(const struct config *c)
{
	unsigned last = c->door.port + MAX(c->door.port_range, 1) - 1U;

	return (uint16_t)MIN(last, 65535U);
}

/* Once a minute: a sandbox without a door is tried again with each sweep. */
static void door_failed(struct agent *a, const struct stat *st, int err)
{
	if (a->door_failed_ns && a->loop.now_ns - a->door_failed_ns < 60 * NSEC_PER_SEC)
		return;
	a->door_failed_ns = a->loop.now_ns;
	if (err == -EADDRINUSE)
		agent_event(
			a, LOG_WARN, "door_failed", NULL,
			"no door: all ports %u..%u are taken in network namespace %llu; raise door.port_range",
			a->config->door.port, last_port(a->config), (unsigned long long)st->st_ino);
	else
		agent_event(a, LOG_WARN, "door_failed", NULL,
			    "no door on ports %u..%u in network namespace %llu: %s",
			    a->config->door.port, last_port(a->config),
			    (unsigned long long)st->st_ino, errno_text(err));
}

static struct door *door_new(struct agent *a, int netns_fd, const struct stat *st,
			     struct door_wish wish)
{
	struct door *d = calloc(1, sizeof(*d));
	struct door_sockets s;
	int err;

	if (!d)
		return NULL;
	err = door_listen(&a->bpf, a->gateway_cg, netns_fd, a->next_door_id, a->config->door.port,
			  last_port(a->config), &s);
	if (err) {
		door_failed(a, st, err);
		free(d);
		return NULL;
	}
	*d = (struct door){ .agent = a,
			    .next = a->doors,
			    .info = { a->next_door_id++, s.netns_cookie, s.port, wish.is_host },
			    .netns_dev = st->st_dev,
			    .netns_ino = st->st_ino,
			    .fds = { s.fds[0], s.fds[1] },
			    .n_fds = s.n_fds,
			    .held = wish.held };
	a->doors = d;
	a->n_doors++;
	if (!d->held)
		roles_send_door(a, d);
	agent_event(a, LOG_INFO, s.port == a->config->door.port ? "door" : "door_moved", NULL,
		    "door opened port=%u netns=%llu families=%s%s", s.port,
		    (unsigned long long)st->st_ino, s.n_fds > 1 ? "4,6" : "4",
		    s.port == a->config->door.port ? "" : " (the port before it was taken)");
	return d;
}

struct door *door_find(struct agent *a, uint64_t netns_dev, uint64_t netns_ino)
{
	struct door *d = a->doors;

	while (d && (d->netns_ino != netns_ino || d->netns_dev != netns_dev))
		d = d->next;
	return d;
}

struct door *door_get(struct agent *a, int netns_fd, struct door_wish wish)
{
	struct stat st;
	struct door *d;

	if (fstat(netns_fd, &st) < 0)
		return NULL;
	d = door_find(a, st.st_dev, st.st_ino);
	if (!d)
		d = door_new(a, netns_fd, &st, wish);
	if (d)
		d->refs++;
	return d;
}

void door_release(struct door *d)
{
	if (!d->held)
		return;
	d->held = false;
	roles_send_door(d->agent, d);
}

static void door_close(struct door *d)
{
	struct agent *a = d->agent;
	struct door_sockets s = { .n_fds = d->n_fds,
				  .fds = { d->fds[0], d->fds[1] },
				  .port = (uint16_t)d->info.port,
				  .netns_cookie = d->info.netns_cookie };
	struct door **link = &a->doors;

	while (*link != d)
		link = &(*link)->next;
	*link = d->next;
	a->n_doors--;
	if (a->host_door == d)
		a->host_door = NULL;
	if (!d->held)
		roles_send_door_close(a, d);
	door_sockets_close(&a->bpf, &s);
	log_debug("door closed port=%u netns=%llu", d->info.port, (unsigned long long)d->netns_ino);
	free(d);
}

void door_put(struct door *d)
{
	if (d && --d->refs == 0)
		door_close(d);
}

int door_open_host(struct agent *a)
{
	auto_close int fd = netns_open(getpid());
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	a->host_netns_dev = st.st_dev;
	a->host_netns_ino = st.st_ino;
	if (a->config->door.host)
		a->host_door = door_get(a, fd, (struct door_wish){ .is_host = true });
	return a->config->door.host && !a->host_door ? -EADDRINUSE : 0;
}

void doors_close_all(struct agent *a)
{
	while (a->doors)
		door_close(a->doors);
}

int netns_of_pid(pid_t pid, uint64_t *ret_dev, uint64_t *ret_ino)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	if (stat(path, &st) < 0)
		return -errno;
	*ret_dev = st.st_dev;
	*ret_ino = st.st_ino;
	return 0;
}

int netns_open(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
