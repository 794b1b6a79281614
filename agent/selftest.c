/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Not the kernel's version decides but what happens: in a cgroup and a network namespace made for this, a client
 * connects in each of the ways that a sandbox can, and the other end looks at the stamp. Documentation addresses
 * (RFC 5737) stand for providers; nothing is sent anywhere, the namespace has no way out.
 */
#include "agent/selftest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>

#include "agent/door.h"
#include "agent/force.h"
#include "agent/maps.h"
#include "agent/spawn.h"
#include "common/addr.h"
#include "common/log.h"
#include "common/stamp.h"

#define SELFTEST_TIMEOUT_MS 3000
/* Any will do: nothing else is in that namespace. */
#define SELFTEST_PORT	  4117
#define SELFTEST_DNS_PORT 4153
/* No name ever has it. */
#define SELFTEST_NAME UINT32_MAX

struct selftest {
	struct agent *agent;
	char path[CGROUP_PATH_BYTES];
	int cgroup_fd, netns_fd;
	struct gate_label label;
	struct door_sockets door;
	struct gate_suspect_key suspect;
	struct gate_vip_key vip_key;
	char vip[ADDR_TEXT_BYTES];
	bool attached;
};

/* One connection, and what must come of it. */
struct step {
	const char *name;
	enum force_mode mode;
	const char *address; /* NULL: the virtual one */
	uint16_t port;
	int type;
	enum stamp_why why; /* 0: it is not led */
};

static const struct step steps[] = {
	{ "door", FORCE_ASSIST, "127.0.0.1", SELFTEST_PORT, SOCK_STREAM, STAMP_EXPLICIT },
	{ "assist: a provider's name", FORCE_ASSIST, NULL, 443, SOCK_STREAM, STAMP_VIP },
	{ "assist: a provider's address", FORCE_ASSIST, "192.0.2.1", 443, SOCK_STREAM, STAMP_SUSPECT },
	{ "assist: another address", FORCE_ASSIST, "192.0.2.2", 443, SOCK_STREAM, 0 },
	{ "assist: a name server", FORCE_ASSIST, "192.0.2.53", 53, SOCK_DGRAM, STAMP_DNS },
	{ "strict: another address", FORCE_STRICT, "192.0.2.2", 443, SOCK_STREAM, STAMP_STRICT },
	{ "observe: a provider's address", FORCE_OBSERVE, "192.0.2.1", 443, SOCK_STREAM, 0 },
	{ "off: a provider's address", FORCE_OFF, "192.0.2.1", 443, SOCK_STREAM, 0 },
	{ "off: door", FORCE_OFF, "127.0.0.1", SELFTEST_PORT, SOCK_STREAM, STAMP_EXPLICIT },
};
_Static_assert(ARRAY_SIZE(steps) <= MSG_FORCE_TESTS, "a step finds no room in the status");

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

/* ---------------------------------------------------------------- the client */

enum client_exit { CLIENT_OK, CLIENT_NO_NETNS = 1, CLIENT_NOT_CONNECTED, CLIENT_NO_ANSWER, CLIENT_OTHER_PEER };

static void client_child(const struct selftest *t, const struct step *s)
{
	const char *address = s->address ? s->address : t->vip;
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(s->port) }, peer = { 0 };
	socklen_t len = sizeof(peer);
	char byte;
	int fd;

	spawn_child_signals();
	inet_pton(AF_INET, address, &sin.sin_addr);
	if (setns(t->netns_fd, CLONE_NEWNET) < 0)
		_exit(CLIENT_NO_NETNS);
	fd = socket(AF_INET, s->type | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		_exit(CLIENT_NOT_CONNECTED);
	if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 || peer.sin_addr.s_addr != sin.sin_addr.s_addr ||
	    peer.sin_port != sin.sin_port)
		_exit(CLIENT_OTHER_PEER);
	if (write(fd, "id", 2) != 2)
		_exit(CLIENT_NO_ANSWER);
	if (s->type == SOCK_DGRAM)
		_exit(CLIENT_OK);
	/* Until the other end has looked. */
	_exit(read(fd, &byte, 1) == 0 ? CLIENT_OK : CLIENT_NO_ANSWER);
}

/* ---------------------------------------------------------------- the other end */

static const char *judge(const struct selftest *t, const struct step *s, const struct stamp *stamp)
{
	if (stamp->version != STAMP_VERSION || stamp->cgroup_id != t->label.cgroup_id ||
	    stamp->label_id != t->label.label_id || stamp->netns_cookie != t->door.netns_cookie)
		return "a stamp names another sandbox";
	if (stamp->why != (uint32_t)s->why || stamp->orig_port != s->port || stamp->mode != (uint32_t)s->mode)
		return "a stamp tells another destination";
	if (s->type == SOCK_STREAM && stamp->peer != STAMP_PEER_AGREES)
		return "the stamp and the live peer do not agree";
	return NULL;
}

static const char *look_at_connection(const struct selftest *t, const struct step *s)
{
	struct pollfd p = { .fd = t->door.fds[0], .events = POLLIN };
	auto_close int conn = -1;
	struct stamp stamp;
	socklen_t len = sizeof(stamp);
	uint8_t id[2];

	if (poll(&p, 1, SELFTEST_TIMEOUT_MS) == 1)
		conn = accept4(t->door.fds[0], NULL, NULL, SOCK_CLOEXEC);
	if (conn < 0)
		return "a connection did not arrive";
	p.fd = conn;
	/* Read to its end, or closing would reset what the client waits on. */
	if (poll(&p, 1, SELFTEST_TIMEOUT_MS) != 1 || read(conn, id, sizeof(id)) != sizeof(id))
		return "the connection brought nothing";
	if (getsockopt(conn, STAMP_SOL, STAMP_GET, &stamp, &len) < 0)
		return "a connection arrived without a stamp";
	return judge(t, s, &stamp);
}

static const char *look_at_datagram(const struct selftest *t, const struct step *s)
{
	struct pollfd p = { .fd = t->door.n_dns_fds ? t->door.dns_fds[0] : -1, .events = POLLIN };
	struct sockaddr_in from = { 0 };
	socklen_t from_len = sizeof(from), len;
	struct stamp stamp;
	uint8_t id[2];

	if (poll(&p, 1, SELFTEST_TIMEOUT_MS) != 1 ||
	    recvfrom(p.fd, id, sizeof(id), 0, (struct sockaddr *)&from, &from_len) != sizeof(id))
		return "a datagram did not arrive";
	len = sizeof(stamp);
	if (getsockopt(p.fd, STAMP_SOL, STAMP_DATAGRAM(ntohs(from.sin_port), id[0] << 8 | id[1]), &stamp, &len) < 0)
		return "a datagram arrived without a stamp";
	return judge(t, s, &stamp);
}

static const char *look_that_nothing_came(const struct selftest *t)
{
	struct pollfd p = { .fd = t->door.fds[0], .events = POLLIN };

	return poll(&p, 1, 0) == 0 ? NULL : "a connection was led that should not be";
}

static const char *client_result(int status, const struct step *s)
{
	/* The namespace has no way out: what is not led is not connected. */
	if (!s->why)
		return status == CLIENT_NOT_CONNECTED ? NULL : "a connection went somewhere";
	return status == CLIENT_OK	    ? NULL :
	       status == CLIENT_OTHER_PEER ? "the client sees another peer than it asked for" :
					      "a client could not connect";
}

static const char *step_run(struct selftest *t, const struct step *s)
{
	auto_close int pidfd = -1;
	const char *why, *client;
	pid_t pid;

	t->label.mode = s->mode;
	if (maps_label_write(&t->agent->bpf, &t->label))
		return "the mode of a label cannot be changed";
	pid = spawn_clone(t->cgroup_fd, &pidfd);
	if (pid < 0)
		return "no process can be started in a cgroup (CLONE_INTO_CGROUP)";
	if (!pid)
		client_child(t, s);
	if (!s->why) {
		client = client_result(spawn_wait(pidfd, SELFTEST_TIMEOUT_MS), s);
		return client ? client : look_that_nothing_came(t);
	}
	why = s->type == SOCK_DGRAM ? look_at_datagram(t, s) : look_at_connection(t, s);
	client = client_result(spawn_wait(pidfd, SELFTEST_TIMEOUT_MS), s);
	return why ? why : client;
}

/* ---------------------------------------------------------------- surroundings */

/* The pool's last address, which is never given to a name. */
static int make_addresses(struct selftest *t)
{
	struct load *l = &t->agent->bpf;
	struct in_addr suspect = { htonl(0xc0000201) }; /* 192.0.2.1 */
	struct addr_prefix pool;
	uint8_t addr[16] = { 0 };
	uint32_t last;

	if (!addr_prefix_parse(t->agent->config->force.vip4, &pool))
		return -EINVAL;
	memcpy(&last, pool.addr, sizeof(last));
	last = htonl(ntohl(last) | (pool.bits ? 0xffffffffU >> pool.bits : 0xffffffffU));
	memcpy(addr, &last, sizeof(last));
	addr_text(AF_INET, addr, t->vip);
	t->vip_key = (struct gate_vip_key){ { 0, 0, htonl(0xffff), last } };
	t->suspect = (struct gate_suspect_key){ 128, { 0, 0, htonl(0xffff), suspect.s_addr } };
	return maps_vip_set(l, &t->vip_key, SELFTEST_NAME) || maps_suspect_set(l, &t->suspect, SELFTEST_NAME) ? -EIO : 0;
}

static const char *make_sandbox(struct selftest *t)
{
	const struct door_ports ports = { SELFTEST_PORT, SELFTEST_PORT, SELFTEST_DNS_PORT, SELFTEST_DNS_PORT };
	struct agent *a = t->agent;

	t->cgroup_fd = cgroup_create(&a->cg, t->path);
	if (t->cgroup_fd < 0)
		return "no cgroup can be made";
	t->netns_fd = make_netns();
	if (t->netns_fd < 0)
		return "no network namespace can be made";
	t->label = (struct gate_label){ .label_id = SELFTEST_LABEL,
					.label_gen = 1,
					.level = cgroup_level(t->path),
					.cgroup_id = cgroup_id(t->cgroup_fd) };
	if (load_sandbox(&a->bpf, t->cgroup_fd, &t->label))
		return "the programs cannot be attached to a cgroup";
	t->attached = true;
	if (door_listen(&a->bpf, a->gateway_cg, t->netns_fd, UINT64_MAX, &ports, &t->door))
		return "no door can be opened in a network namespace";
	return make_addresses(t) ? "an address cannot be put into the kernel's list" : NULL;
}

static void clean_up(struct selftest *t)
{
	struct agent *a = t->agent;

	maps_vip_remove(&a->bpf, &t->vip_key);
	maps_suspect_remove(&a->bpf, &t->suspect);
	if (t->door.n_fds)
		door_sockets_close(&a->bpf, &t->door);
	if (t->attached)
		load_release(&a->bpf, t->label.cgroup_id);
	if (t->netns_fd >= 0)
		close(t->netns_fd);
	if (t->cgroup_fd >= 0)
		close(t->cgroup_fd);
	cgroup_remove(&a->cg, t->path);
}

/* The first step is the door itself: without it nothing works. The others decide about the forced path alone. */
static const char *run_steps(struct selftest *t)
{
	const char *door = NULL, *forced = NULL;

	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
		const char *why = step_run(t, &steps[i]);

		force_test_result(t->agent, steps[i].name, why ? why : "ok");
		if (why && steps[i].why == STAMP_EXPLICIT)
			door = door ? door : why;
		else if (why)
			forced = forced ? forced : why;
	}
	if (door || forced)
		force_fail(t->agent, door ? door : forced);
	return door;
}

int selftest_run(struct agent *a)
{
	struct selftest t = { .agent = a, .cgroup_fd = -1, .netns_fd = -1 };
	const char *why;

	if (snprintf(t.path, sizeof(t.path), "%s/selftest", a->config->cgroup.parent.s) >=
	    (int)sizeof(t.path))
		return -ENAMETOOLONG;
	why = make_sandbox(&t);
	if (why)
		force_fail(a, why);
	else
		why = run_steps(&t);
	clean_up(&t);
	str_copy(a->stamp_state, sizeof(a->stamp_state), why ? str_of(why) : STR("ok"));
	return why ? -EOPNOTSUPP : 0;
}
