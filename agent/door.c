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
#include <linux/sockios.h>
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

/* Datagram sockets do not share their port with anybody: no SO_REUSEADDR. */
static int bind_one(int family, int type, uint16_t port)
{
	auto_close int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons(port),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6,
				     .sin6_port = htons(port),
				     .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int on = 1, err;

	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM)
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
	auto_close int v4 = bind_one(AF_INET, SOCK_STREAM, port);
	int v6;

	if (v4 < 0)
		return v4;
	v6 = bind_one(AF_INET6, SOCK_STREAM, port);
	if (v6 == -EADDRINUSE)
		return v6;
	ret->fds[0] = TAKE_FD(v4);
	ret->fds[1] = v6;
	ret->n_fds = v6 < 0 ? 1 : 2;
	ret->port = port;
	return 0;
}

/* The three of one family. Nothing is left open on failure. */
static int bind_dns(int family, uint16_t port, int ret[3])
{
	auto_close int udp = bind_one(family, SOCK_DGRAM, port);
	auto_close int tcp = udp < 0 ? -1 : bind_one(family, SOCK_STREAM, port);
	auto_close int ask = tcp < 0 ? -1 : socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (ask < 0)
		return udp < 0 ? udp : tcp < 0 ? tcp : -errno;
	ret[0] = TAKE_FD(udp);
	ret[1] = TAKE_FD(tcp);
	ret[2] = TAKE_FD(ask);
	return 0;
}

static int bind_dns_pair(uint16_t port, struct door_sockets *s)
{
	int err = bind_dns(AF_INET, port, s->dns_fds);

	if (err)
		return err;
	err = bind_dns(AF_INET6, port, s->dns_fds + 3);
	if (err == -EADDRINUSE) {
		for (unsigned i = 0; i < 3; i++)
			close(TAKE_FD(s->dns_fds[i]));
		return err;
	}
	s->n_dns_fds = err ? 3 : 6;
	s->dns_port = port;
	return 0;
}

/* What the child made; the descriptors follow in this order. */
struct door_made {
	int32_t err;
	uint16_t port, dns_port;
	uint32_t n_fds, n_dns_fds;
};

static void door_child(int channel, int netns_fd, const struct door_ports *p)
{
	struct door_sockets s = { .fds = { -1, -1 } };
	struct door_made made = { 0 };
	int fds[IPC_FDS_MAX], err = setns(netns_fd, CLONE_NEWNET) < 0 ? -errno : lo_up();

	if (!err)
		err = -EADDRINUSE;
	for (unsigned port = p->from; err == -EADDRINUSE && port <= p->to; port++)
		err = bind_pair((uint16_t)port, &s);
	if (!err && p->dns_from) {
		int dns = -EADDRINUSE;

		for (unsigned port = p->dns_from; dns == -EADDRINUSE && port <= p->dns_to; port++)
			dns = bind_dns_pair((uint16_t)port, &s);
	}
	made = (struct door_made){ err, s.port, s.dns_port, err ? 0 : s.n_fds, err ? 0 : s.n_dns_fds };
	memcpy(fds, s.fds, made.n_fds * sizeof(*fds));
	memcpy(fds + made.n_fds, s.dns_fds, made.n_dns_fds * sizeof(*fds));
	ipc_send(channel, MSG_DOOR, 0, &made, sizeof(made), fds, made.n_fds + made.n_dns_fds);
	_exit(0);
}

/* ---------------------------------------------------------------- in the agent */

static int door_answer(int channel, int pidfd, struct door_sockets *ret)
{
	auto_free struct ipc_message *m = malloc(sizeof(*m));
	int status = spawn_wait(pidfd, DOOR_CHILD_TIMEOUT_MS);
	struct door_made made;

	if (!m)
		return -ENOMEM;
	if (status < 0)
		return status;
	if (ipc_recv(channel, m) != 1)
		return -EIO;
	memcpy(&made, m->payload, sizeof(made));
	if (m->head.len != sizeof(made) || made.err || !made.n_fds || made.n_fds > 2 ||
	    made.n_dns_fds > DOOR_DNS_FDS || m->n_fds != made.n_fds + made.n_dns_fds) {
		ipc_message_fini(m);
		return made.err ? made.err : -EIO;
	}
	*ret = (struct door_sockets){ .fds = { m->fds[0], made.n_fds > 1 ? m->fds[1] : -1 },
				      .n_fds = made.n_fds,
				      .port = made.port,
				      .n_dns_fds = made.n_dns_fds,
				      .dns_port = made.dns_port };
	memcpy(ret->dns_fds, m->fds + made.n_fds, made.n_dns_fds * sizeof(*ret->dns_fds));
	return 0;
}

static int door_bind(int cgroup_fd, int netns_fd, const struct door_ports *ports, struct door_sockets *ret)
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
		door_child(theirs, netns_fd, ports);
	}
	close(TAKE_FD(theirs));
	return door_answer(mine, pidfd, ret);
}

void door_sockets_close(struct load *l, struct door_sockets *s)
{
	if (s->netns_cookie) {
		maps_netns_remove(l, s->netns_cookie);
		maps_door_remove(l, s->netns_cookie, s->port);
	}
	for (unsigned i = 0; i < s->n_fds; i++)
		close(s->fds[i]);
	for (unsigned i = 0; i < s->n_dns_fds; i++)
		close(s->dns_fds[i]);
	*s = (struct door_sockets){ .fds = { -1, -1 } };
}

/* The second of a family's three listens. */
static int dns_listen(const struct door_sockets *s)
{
	for (unsigned i = 1; i < s->n_dns_fds; i += 3)
		if (listen(s->dns_fds[i], DOOR_BACKLOG) < 0)
			return -errno;
	return 0;
}

static int door_register(struct load *l, uint64_t door_id, struct door_sockets *s)
{
	socklen_t len = sizeof(s->netns_cookie);
	struct gate_netns ns = { .door_port = s->port,
				 .dns_port = s->dns_port,
				 .flags = (s->n_fds > 1 ? GATE_NETNS_DOOR6 : 0) |
					  (s->n_dns_fds > 3 ? GATE_NETNS_DNS6 : 0) };
	int err;

	if (getsockopt(s->fds[0], SOL_SOCKET, SO_NETNS_COOKIE, &s->netns_cookie, &len) < 0)
		return -errno;
	err = maps_door_add(l, s->netns_cookie, s->port, door_id);
	for (unsigned i = 0; !err && i < s->n_fds; i++)
		err = listen(s->fds[i], DOOR_BACKLOG) < 0 ? -errno : 0;
	err = err ? err : dns_listen(s);
	/* Last: connections are led here from now on. */
	return err ? err : maps_netns_set(l, s->netns_cookie, &ns);
}

int door_listen(struct load *l, int cgroup_fd, int netns_fd, uint64_t door_id, const struct door_ports *ports,
		struct door_sockets *ret)
{
	struct door_ports left = *ports;
	int err;

	do {
		struct door_sockets s;

		err = door_bind(cgroup_fd, netns_fd, &left, &s);
		if (err)
			return err;
		err = door_register(l, door_id, &s);
		if (!err) {
			*ret = s;
			return 0;
		}
		left.from = (uint16_t)(s.port + 1);
		door_sockets_close(l, &s);
	} while (err == -EADDRINUSE && left.from <= left.to && left.from);
	return err;
}

static uint16_t last_of(unsigned first, unsigned range)
{
	return (uint16_t)MIN(first + MAX(range, 1U) - 1, 65535U);
}

static uint16_t last_port(const struct config *c)
{
	return last_of(c->door.port, c->door.port_range);
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
	const struct config *c = a->config;
	const struct door_ports ports = { c->door.port, last_port(c), c->force.dns_port,
					  last_of(c->force.dns_port, c->door.port_range) };
	struct door *d = calloc(1, sizeof(*d));
	struct door_sockets s;
	int err;

	if (!d)
		return NULL;
	err = door_listen(&a->bpf, a->gateway_cg, netns_fd, a->next_door_id, &ports, &s);
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
			    .n_dns_fds = s.n_dns_fds,
			    .dns_port = s.dns_port,
			    .held = wish.held };
	memcpy(d->dns_fds, s.dns_fds, sizeof(d->dns_fds));
	a->doors = d;
	a->n_doors++;
	if (!d->held)
		roles_send_door(a, d);
	roles_send_dns_door(a, d);
	if (!d->n_dns_fds)
		agent_event(a, LOG_WARN, "dns_failed", NULL,
			    "names of network namespace %llu are resolved past us: ports %u..%u are taken; set force.dns_port",
			    (unsigned long long)st->st_ino, ports.dns_from, ports.dns_to);
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
				  .n_dns_fds = d->n_dns_fds,
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
	roles_send_dns_door_close(a, d);
	memcpy(s.dns_fds, d->dns_fds, sizeof(s.dns_fds));
	door_sockets_close(&a->bpf, &s);
	log_debug("door closed port=%u netns=%llu", d->info.port, (unsigned long long)d->netns_ino);
	free(d);
}

void door_put(struct door *d)
{
	if (d && --d->refs == 0)
		door_close(d);
}

/* ---------------------------------------------------------------- sockets for the roles */

/*
 * The agent has one thread: while it is in the other namespace nothing else runs. That it cannot come back must not
 * happen; everything later would be done in a sandbox's namespace.
 */
static int socket_in(int netns_fd, int family, int type)
{
	static int home = -1;
	int fd;

	if (home < 0)
		home = netns_open(getpid());
	if (home < 0 || setns(netns_fd, CLONE_NEWNET) < 0)
		return home < 0 ? home : -errno;
	fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	fd = fd < 0 ? -errno : fd;
	if (setns(home, CLONE_NEWNET) < 0)
		die("cannot return to the host's network namespace: %s", errno_text(errno));
	return fd;
}

int door_socket(struct agent *a, const struct msg_socket *wanted)
{
	struct door *d = a->doors;
	auto_close int ns = -1;

	if ((wanted->family != AF_INET && wanted->family != AF_INET6) ||
	    (wanted->type != SOCK_STREAM && wanted->type != SOCK_DGRAM))
		return -EINVAL;
	while (d && d->info.netns_cookie != wanted->netns_cookie)
		d = d->next;
	if (!d)
		return -ENOENT;
	/* SIOCGSKNS: Linux 4.10; asks for CAP_NET_ADMIN over the namespace. */
	ns = ioctl(d->fds[0], SIOCGSKNS);
	return ns < 0 ? -errno : socket_in(ns, (int)wanted->family, (int)wanted->type);
}

/* ---------------------------------------------------------------- the host's */

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
