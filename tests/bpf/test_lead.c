/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections past the gateway, tried on real sockets: what is led where, under which stamp, what the client sees of
 * it, what is refused or dropped. One network namespace stands for the world: its loopback device has the addresses
 * of a provider (192.0.2.1, 2001:db8::1) and of others (…2), and a listener that is in no sandbox waits on each.
 *
 *   /sallyport-test-lPID/gateway   the doors' sockets belong here
 *   /sallyport-test-lPID/p         a watched parent, with /p/child below it
 *   /sallyport-test-lPID/a         sandbox, with /inner below it
 *
 * Needs root, BPF and cgroup v2; says so and succeeds without them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "agent/cgroup.h"
#include "agent/door.h"
#include "agent/load.h"
#include "agent/maps.h"
#include "agent/spawn.h"
#include "bpf/gate_addr.h"
#include "common/addr.h"
#include "common/log.h"
#include "common/stamp.h"
#include "tests/unit/test.h"

#define NAME_ID	    7
#define LABEL	    11
#define LABEL_INNER 33
#define CLIENT_COMM "sp-lead"
#define PROVIDER    "192.0.2.1"
#define OTHER	    "192.0.2.2"
#define VIP	    "198.18.0.7"
#define VIP_UNUSED  "198.18.0.8"
#define PROVIDER6   "2001:db8::1"
#define OTHER6	    "2001:db8::2"
#define VIP6	    "fd53:504c:5900::7"
#ifndef MSG_FASTOPEN
#define MSG_FASTOPEN 0x20000000
#endif
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

struct cg {
	char path[128];
	int fd;
	uint64_t id;
	unsigned level;
};

static struct cgroup_root root;
static char base[64], pin_dir[64];
static struct cg gateway, parent, child, a, inner;
static struct load l;
static int netns = -1;
static struct door_sockets door = { .fds = { -1, -1 } };
static struct gate_config config;
static struct maps_events *events;
static struct gate_event last_event;
static unsigned n_events;
static const uint16_t world_ports[] = { 443, 80, 8443, 5000, 853 };
static int world[ARRAY_SIZE(world_ports)], world_udp = -1, world_dns = -1;

/* ---------------------------------------------------------------- surroundings */

static struct cg cg_make(const char *name)
{
	struct cg c = { .fd = -1 };

	snprintf(c.path, sizeof(c.path), "%s/%s", base, name);
	c.fd = cgroup_create(&root, c.path);
	c.id = c.fd < 0 ? 0 : cgroup_id(c.fd);
	c.level = cgroup_level(c.path);
	return c;
}

static struct gate_label label_of(const struct cg *c, uint32_t id, enum force_mode mode)
{
	return (struct gate_label){ .label_id = id, .label_gen = 1, .level = c->level, .cgroup_id = c->id, .mode = mode };
}

static void label(const struct cg *c, uint32_t id, enum force_mode mode)
{
	struct gate_label x = label_of(c, id, mode);

	CHECK_INT(load_sandbox(&l, c->fd, &x), 0);
}

static void set_mode(enum force_mode mode)
{
	struct gate_label x = label_of(&a, LABEL, mode);

	CHECK_INT(maps_label_write(&l, &x), 0);
}

static socklen_t address(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (strchr(text, ':')) {
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons(port);
		inet_pton(AF_INET6, text, &sin6->sin6_addr);
		return sizeof(*sin6);
	}
	sin->sin_family = AF_INET;
	sin->sin_port = htons(port);
	inet_pton(AF_INET, text, &sin->sin_addr);
	return sizeof(*sin);
}

/* Runs fn in a cgroup (-1: this one) and the namespace; its result is the exit status, negative errno as positive. */
typedef int (*child_fn)(const void *arg);
static int start_in(int cgroup_fd, child_fn fn, const void *arg)
{
	int pidfd = -1, err;
	pid_t pid = spawn_clone(cgroup_fd, &pidfd);

	if (pid)
		return pid < 0 ? (int)pid : pidfd;
	spawn_child_signals();
	prctl(PR_SET_NAME, CLIENT_COMM);
	if (setns(netns, CLONE_NEWNET) < 0)
		_exit(251);
	err = fn(arg);
	_exit(err < 0 ? -err : err);
}

static int run_in(int cgroup_fd, child_fn fn, const void *arg)
{
	int pidfd = start_in(cgroup_fd, fn, arg), status = spawn_wait(pidfd, 5000);

	close(pidfd);
	return status;
}

static int make_world(const void *arg)
{
	(void)arg;
	return system("ip link set lo up && ip addr add 192.0.2.1/32 dev lo && ip addr add 192.0.2.2/32 dev lo && "
		      "ip addr add 192.0.2.53/32 dev lo && ip route add 198.18.0.0/16 dev lo && ip -6 addr add 2001:db8::1/128 dev lo && "
		      "ip -6 addr add 2001:db8::2/128 dev lo") == 0 ?
		       0 :
		       1;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("%s: cannot write %s\n", path, text);
	if (fd >= 0)
		close(fd);
}

static int listen_on(uint16_t port, int type)
{
	struct sockaddr_storage sa;
	int fd = socket(AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
	socklen_t len = address("::", port, &sa);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&sa, len) < 0 || (type == SOCK_STREAM && listen(fd, 16) < 0)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void on_event(void *arg, const struct gate_event *e)
{
	(void)arg;
	last_event = *e;
	n_events++;
}

static unsigned events_now(void)
{
	n_events = 0;
	maps_events_read(events);
	return n_events;
}

/* ---------------------------------------------------------------- TCP */

enum way { WAY_CONNECT, WAY_FASTOPEN, WAY_MPTCP, WAY_V6ONLY };
struct ask {
	const char *address;
	uint16_t port;
	enum way way;
};

static bool same_address(const struct sockaddr_storage *x, const struct sockaddr_storage *y)
{
	const struct sockaddr_in *x4 = (const void *)x, *y4 = (const void *)y;
	const struct sockaddr_in6 *x6 = (const void *)x, *y6 = (const void *)y;

	if (x->ss_family != y->ss_family)
		return false;
	if (x->ss_family == AF_INET)
		return x4->sin_port == y4->sin_port && x4->sin_addr.s_addr == y4->sin_addr.s_addr;
	return x6->sin6_port == y6->sin6_port && !memcmp(&x6->sin6_addr, &y6->sin6_addr, 16);
}

#define EXIT_PEER 240 /* getpeername() tells another address than was asked for */
/* Leaves with the errno of connect(), or 0 when the other end closed. */
static int ask_tcp(const void *arg)
{
	const struct ask *q = arg;
	struct sockaddr_storage sa, peer = { 0 };
	socklen_t len = address(q->address, q->port, &sa), peer_len = sizeof(peer);
	int fd = socket(sa.ss_family, SOCK_STREAM, q->way == WAY_MPTCP ? IPPROTO_MPTCP : 0), on = 1;
	char byte;

	if (fd < 0)
		return -errno;
	if (q->way == WAY_V6ONLY)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (q->way == WAY_FASTOPEN) {
		if (sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&sa, len) != 1)
			return -errno;
	} else if (connect(fd, (struct sockaddr *)&sa, len) < 0 || write(fd, "x", 1) != 1) {
		return -errno;
	}
	/* An MPTCP socket hides its subflow, which the hook sees (docs/THREAT-MODEL.md). */
	if (q->way != WAY_MPTCP &&
	    (getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0 || !same_address(&peer, &sa)))
		return EXIT_PEER;
	while (read(fd, &byte, 1) < 0 && errno == EINTR)
		;
	return 0;
}

struct came {
	int status;	/* of the client */
	bool to_door, to_world, has_stamp;
	struct stamp stamp;
};

static int accept_one(const int *fds, unsigned n, int also, int timeout_ms)
{
	struct pollfd p[16] = { 0 };

	for (unsigned i = 0; i < n; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	p[n] = (struct pollfd){ .fd = also, .events = POLLIN };
	poll(p, n + 1, timeout_ms);
	for (unsigned i = 0; i < n; i++)
		if (p[i].revents)
			return (int)i;
	return -1;
}

static struct came tcp_in(const struct cg *cg, struct ask q)
{
	int fds[2 + ARRAY_SIZE(world_ports) + 2], pidfd = start_in(cg->fd, ask_tcp, &q), at, conn;
	struct came c = { 0 };
	socklen_t len = sizeof(c.stamp);
	struct pollfd p = { .events = POLLIN };
	unsigned n = 0;
	char byte;

	fds[n++] = door.fds[0];
	fds[n++] = door.fds[1];
	fds[n++] = door.dns_fds[1];
	fds[n++] = door.dns_fds[4];
	for (unsigned i = 0; i < ARRAY_SIZE(world_ports); i++)
		fds[n++] = world[i];
	at = accept_one(fds, n, pidfd, 3000);
	if (at >= 0) {
		conn = accept4(fds[at], NULL, NULL, SOCK_CLOEXEC);
		p.fd = conn;
		if (poll(&p, 1, 1000) == 1 && read(conn, &byte, 1) == 1) {
			c.to_door = at < 4;
			c.to_world = at >= 4;
		}
		c.has_stamp = getsockopt(conn, STAMP_SOL, STAMP_GET, &c.stamp, &len) == 0;
		close(conn);
	}
	c.status = spawn_wait(pidfd, 5000);
	close(pidfd);
	return c;
}

static struct came tcp(const char *to, uint16_t port)
{
	return tcp_in(&a, (struct ask){ to, port, WAY_CONNECT });
}

/* What the stamp says was asked for, as text; v4-mapped as v4. */
static void check_led(const struct came *c, enum stamp_why why, const char *asked, uint16_t port)
{
	char text[ADDR_TEXT_BYTES];

	CHECK_INT(c->status, 0);
	CHECK(c->to_door && c->has_stamp);
	CHECK_INT(c->stamp.why, why);
	CHECK_INT(c->stamp.orig_port, port);
	CHECK_INT(c->stamp.cgroup_id, a.id);
	CHECK_INT(c->stamp.peer, STAMP_PEER_AGREES);
	CHECK_STR(addr_text((int)c->stamp.family, c->stamp.orig_addr, text), asked);
}

static void check_direct(const struct came *c)
{
	CHECK_INT(c->status, 0);
	CHECK(c->to_world && !c->has_stamp);
}

static void check_refused(const struct came *c)
{
	CHECK_INT(c->status, EPERM);
	CHECK(!c->to_world && !c->to_door);
}

static void modes_of_an_address(void)
{
	static const struct {
		enum force_mode mode;
		const char *address;
		uint16_t port;
		enum stamp_why why; /* 0: direct */
	} cases[] = {
		{ FORCE_OFF, PROVIDER, 443, 0 },
		{ FORCE_OBSERVE, PROVIDER, 443, 0 },
		{ FORCE_ASSIST, PROVIDER, 443, STAMP_SUSPECT },
		{ FORCE_ASSIST, PROVIDER, 80, STAMP_SUSPECT },
		{ FORCE_ASSIST, PROVIDER, 8443, STAMP_SUSPECT },
		{ FORCE_ASSIST, PROVIDER, 5000, 0 },
		{ FORCE_ASSIST, OTHER, 443, 0 },
		{ FORCE_STRICT, PROVIDER, 443, STAMP_SUSPECT },
		{ FORCE_STRICT, OTHER, 443, STAMP_STRICT },
		{ FORCE_STRICT, OTHER, 80, STAMP_STRICT },
		{ FORCE_STRICT, OTHER, 5000, 0 },
		{ FORCE_OFF, VIP, 443, STAMP_VIP },
		{ FORCE_ASSIST, VIP, 443, STAMP_VIP },
		{ FORCE_STRICT, VIP, 80, STAMP_VIP },
		{ FORCE_OBSERVE, PROVIDER6, 443, 0 },
		{ FORCE_ASSIST, PROVIDER6, 443, STAMP_SUSPECT },
		{ FORCE_ASSIST, OTHER6, 443, 0 },
		{ FORCE_STRICT, OTHER6, 443, STAMP_STRICT },
		{ FORCE_ASSIST, VIP6, 443, STAMP_VIP },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct came c;

		set_mode(cases[i].mode);
		c = tcp(cases[i].address, cases[i].port);
		if (!cases[i].why) {
			check_direct(&c);
			continue;
		}
		check_led(&c, cases[i].why, cases[i].address, cases[i].port);
		CHECK_INT(c.stamp.name_id, cases[i].why == STAMP_STRICT ? 0 : NAME_ID);
		CHECK_INT(c.stamp.mode, cases[i].mode);
	}
	set_mode(FORCE_ASSIST);
}

static void v4_in_v6(void)
{
	static const struct {
		const char *address, *asked;
	} cases[] = {
		{ "::ffff:192.0.2.1", PROVIDER },
		{ "2002:c000:201::9", "2002:c000:201::9" },   /* 6to4 */
		{ "64:ff9b::192.0.2.1", "64:ff9b::c000:201" }, /* NAT64 */
	};
	struct came c;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		c = tcp(cases[i].address, 443);
		check_led(&c, STAMP_SUSPECT, cases[i].asked, 443);
	}
	c = tcp("::ffff:198.18.0.7", 443);
	check_led(&c, STAMP_VIP, VIP, 443);
	c = tcp("::ffff:192.0.2.2", 443);
	check_direct(&c);
}

static void other_ways_to_connect(void)
{
	static const enum way ways[] = { WAY_FASTOPEN, WAY_MPTCP };
	struct came c;

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		c = tcp_in(&a, (struct ask){ PROVIDER, 443, ways[i] });
		check_led(&c, STAMP_SUSPECT, PROVIDER, 443);
		c = tcp_in(&a, (struct ask){ VIP, 443, ways[i] });
		check_led(&c, STAMP_VIP, VIP, 443);
	}
	c = tcp_in(&a, (struct ask){ PROVIDER6, 443, WAY_V6ONLY });
	check_led(&c, STAMP_SUSPECT, PROVIDER6, 443);
}

static void what_is_refused(void)
{
	struct came c = tcp(VIP_UNUSED, 443);

	check_refused(&c);
	c = tcp(VIP, 22);
	check_refused(&c);
	set_mode(FORCE_STRICT);
	c = tcp(OTHER, 853);
	check_refused(&c);
	set_mode(FORCE_ASSIST);
	c = tcp(OTHER, 853);
	check_direct(&c);
}

static void break_glass(void)
{
	struct came c;

	config.force_off = 1;
	CHECK_INT(maps_config_write(&l, &config), 0);
	set_mode(FORCE_STRICT);
	c = tcp(PROVIDER, 443);
	check_direct(&c);
	c = tcp("127.0.0.1", door.port);
	check_led(&c, STAMP_EXPLICIT, "127.0.0.1", door.port);
	config.force_off = 0;
	CHECK_INT(maps_config_write(&l, &config), 0);
	set_mode(FORCE_ASSIST);
	c = tcp(PROVIDER, 443);
	check_led(&c, STAMP_SUSPECT, PROVIDER, 443);
}

static void innermost_label_counts(void)
{
	struct came c;

	label(&inner, LABEL_INNER, FORCE_ASSIST);
	c = tcp_in(&inner, (struct ask){ PROVIDER, 443, WAY_CONNECT });
	CHECK(c.to_door && c.has_stamp);
	CHECK_INT(c.stamp.label_id, LABEL_INNER);
	CHECK_INT(c.stamp.peer, STAMP_PEER_AGREES);
	c = tcp_in(&inner, (struct ask){ "192.0.2.53", 53, WAY_CONNECT });
	CHECK(c.to_door && c.has_stamp);
	CHECK_INT(c.stamp.why, STAMP_DNS);
	CHECK_INT(c.stamp.label_id, LABEL_INNER);
	load_release(&l, inner.id);
}

static void without_a_door(void)
{
	struct gate_netns ns;
	struct came c;

	maps_netns_remove(&l, door.netns_cookie);
	events_now();
	c = tcp(PROVIDER, 443);
	check_refused(&c);
	CHECK_INT(events_now(), 1);
	CHECK_INT(last_event.reason, GATE_DENY_NO_DOOR);
	CHECK_INT(last_event.netns_cookie, door.netns_cookie);
	c = tcp(OTHER, 443);
	check_direct(&c);
	ns = (struct gate_netns){ door.port, door.dns_port, GATE_NETNS_DOOR6 | GATE_NETNS_DNS6, 0 };
	CHECK_INT(maps_netns_set(&l, door.netns_cookie, &ns), 0);
}

static void events_tell(void)
{
	struct came c;

	events_now();
	c = tcp(PROVIDER, 443);
	check_led(&c, STAMP_SUSPECT, PROVIDER, 443);
	CHECK_INT(events_now(), 1);
	CHECK_INT(last_event.reason, GATE_LED_SUSPECT);
	CHECK_INT(last_event.cgroup_id, a.id);
	CHECK_INT(last_event.label_id, LABEL);
	CHECK_INT(last_event.port, 443);
	CHECK_INT(last_event.name_id, NAME_ID);
	CHECK(!strcmp(last_event.comm, CLIENT_COMM));
	CHECK(last_event.addr[2] == htonl(0xffff) && last_event.addr[3] == htonl(0xc0000201));
	c = tcp(OTHER, 443);
	check_direct(&c);
	c = tcp("127.0.0.1", door.port);
	check_led(&c, STAMP_EXPLICIT, "127.0.0.1", door.port);
	CHECK_INT(events_now(), 0);
}

/* ---------------------------------------------------------------- names */

struct question {
	const char *server;
	bool connected;
	const char *second; /* asked on the same socket afterwards; NULL: none */
};

#define EXIT_SOURCE 241 /* the answer seems to come from somewhere else */
#define EXIT_SILENT 242
static int question_one(int fd, const char *server, bool connected)
{
	struct sockaddr_storage sa, from = { 0 };
	socklen_t len = address(server, 53, &sa), from_len = sizeof(from);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;

	if (connected ? connect(fd, (struct sockaddr *)&sa, len) < 0 || send(fd, "id", 2, 0) != 2 :
			sendto(fd, "id", 2, 0, (struct sockaddr *)&sa, len) != 2)
		return -errno;
	if (poll(&p, 1, 3000) != 1)
		return EXIT_SILENT;
	if (recvfrom(fd, &byte, 1, 0, (struct sockaddr *)&from, &from_len) != 1)
		return -errno;
	if (!same_address(&from, &sa))
		return EXIT_SOURCE;
	from_len = sizeof(from);
	if (connected && (getpeername(fd, (struct sockaddr *)&from, &from_len) < 0 || !same_address(&from, &sa)))
		return EXIT_PEER;
	return 0;
}

static int ask_udp(const void *arg)
{
	const struct question *q = arg;
	int fd = socket(strchr(q->server, ':') ? AF_INET6 : AF_INET, SOCK_DGRAM, 0), err;

	err = question_one(fd, q->server, q->connected);
	return err || !q->second ? err : question_one(fd, q->second, q->connected);
}

/* Answers one datagram at the DNS role's sockets; false: none came. */
static bool answer_one(struct stamp *ret)
{
	struct pollfd p[2] = { { .fd = door.dns_fds[0], .events = POLLIN }, { .fd = door.dns_fds[3], .events = POLLIN } };
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from), len = sizeof(*ret);
	uint16_t port;
	uint8_t id[2];
	int fd;

	if (poll(p, 2, 2000) < 1)
		return false;
	fd = p[0].revents ? p[0].fd : p[1].fd;
	if (recvfrom(fd, id, sizeof(id), 0, (struct sockaddr *)&from, &from_len) != sizeof(id))
		return false;
	port = from.ss_family == AF_INET ? ((struct sockaddr_in *)&from)->sin_port : ((struct sockaddr_in6 *)&from)->sin6_port;
	if (getsockopt(fd, STAMP_SOL, STAMP_DATAGRAM(ntohs(port), id[0] << 8 | id[1]), ret, &len) < 0)
		return false;
	return sendto(fd, "a", 1, 0, (struct sockaddr *)&from, from_len) == 1;
}

static void check_question(const struct question *q, const char *asked, const char *asked_second)
{
	int pidfd = start_in(a.fd, ask_udp, q), status;
	char text[ADDR_TEXT_BYTES];
	struct stamp s = { 0 };

	CHECK(answer_one(&s));
	CHECK_INT(s.why, STAMP_DNS);
	CHECK_INT(s.orig_port, 53);
	CHECK_INT(s.cgroup_id, a.id);
	CHECK_STR(addr_text((int)s.family, s.orig_addr, text), asked);
	if (asked_second) {
		CHECK(answer_one(&s));
		CHECK_STR(addr_text((int)s.family, s.orig_addr, text), asked_second);
	}
	status = spawn_wait(pidfd, 5000);
	if (status)
		printf("     server %s, %s socket\n", q->server, q->connected ? "connected" : "unconnected");
	CHECK_INT(status, 0);
	close(pidfd);
}

static void questions(void)
{
	static const struct {
		const char *server, *asked;
	} servers[] = {
		{ "192.0.2.53", "192.0.2.53" },
		{ "127.0.0.53", "127.0.0.53" },
		{ "203.0.113.1", "203.0.113.1" }, /* no route leads there */
		{ "::ffff:192.0.2.53", "192.0.2.53" },
		{ "2001:db8::53", "2001:db8::53" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
		check_question(&(struct question){ servers[i].server, true, NULL }, servers[i].asked, NULL);
		check_question(&(struct question){ servers[i].server, false, NULL }, servers[i].asked, NULL);
	}
	check_question(&(struct question){ "192.0.2.53", false, "203.0.113.1" }, "192.0.2.53", "203.0.113.1");
	check_question(&(struct question){ "192.0.2.53", true, "203.0.113.1" }, "192.0.2.53", "203.0.113.1");
}

/* Datagrams to these servers before any is read; the ids are of two letters each. */
struct burst {
	const char *servers, *ids;
};
static int ask_burst(const void *arg)
{
	const struct burst *q = arg;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	for (unsigned i = 0; q->servers[i]; i++) {
		char text[] = "192.0.2.0";
		struct sockaddr_storage sa;
		socklen_t len;

		text[8] = q->servers[i];
		len = address(text, 53, &sa);
		if (sendto(fd, q->ids + 2 * i, 2, 0, (struct sockaddr *)&sa, len) != 2)
			return -errno;
	}
	return 0;
}

static void check_burst(const struct burst *q, const char *asked)
{
	CHECK_INT(run_in(a.fd, ask_burst, q), 0);
	for (unsigned i = 0; asked[i]; i++) {
		char text[ADDR_TEXT_BYTES], want[] = "192.0.2.0";
		struct stamp s = { 0 };

		want[8] = asked[i];
		CHECK(answer_one(&s));
		CHECK_STR(addr_text((int)s.family, s.orig_addr, text), want);
	}
}

/* musl asks all of its servers at once by one socket: each has to be asked. */
static void questions_at_once(void)
{
	check_burst(&(struct burst){ "567", "AAAAAA" }, "765");
	check_burst(&(struct burst){ "567567", "AAAAAABBBBBB" }, "765765");
	check_burst(&(struct burst){ "567", "AABBCC" }, "567");
	check_burst(&(struct burst){ "5", "AA" }, "5"); /* nothing was left over */
}

static void questions_by_tcp(void)
{
	struct came c = tcp("192.0.2.53", 53);

	check_led(&c, STAMP_DNS, "192.0.2.53", 53);
	c = tcp("2001:db8::53", 53);
	check_led(&c, STAMP_DNS, "2001:db8::53", 53);
}

static void questions_without_force(void)
{
	const struct question q = { "192.0.2.53", true, NULL };
	struct pollfd p = { .fd = world_dns, .events = POLLIN };
	int pidfd;
	char byte;

	set_mode(FORCE_OBSERVE);
	pidfd = start_in(a.fd, ask_udp, &q);
	CHECK_INT(poll(&p, 1, 2000), 1);
	CHECK_INT(read(world_dns, &byte, 1), 1);
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	spawn_wait(pidfd, 1000);
	close(pidfd);
	set_mode(FORCE_ASSIST);
}

/* ---------------------------------------------------------------- packets and sockets */

static int send_udp(const void *arg)
{
	const struct ask *q = arg;
	struct sockaddr_storage sa;
	socklen_t len = address(q->address, q->port, &sa);
	int fd = socket(sa.ss_family, SOCK_DGRAM, 0);

	return sendto(fd, "x", 1, 0, (struct sockaddr *)&sa, len) == 1 ? 0 : -errno;
}

/* What resolvers do to compare routes must not fail. */
static int connect_udp(const void *arg)
{
	const struct ask *q = arg;
	struct sockaddr_storage sa;
	socklen_t len = address(q->address, q->port, &sa);
	int fd = socket(sa.ss_family, SOCK_DGRAM, 0);

	return connect(fd, (struct sockaddr *)&sa, len) == 0 ? 0 : -errno;
}

static void datagrams(void)
{
	CHECK_INT(run_in(a.fd, send_udp, &(struct ask){ PROVIDER, 443, 0 }), EPERM);
	CHECK_INT(run_in(a.fd, send_udp, &(struct ask){ PROVIDER6, 443, 0 }), EPERM);
	CHECK_INT(run_in(a.fd, send_udp, &(struct ask){ "::ffff:192.0.2.1", 443, 0 }), EPERM);
	CHECK_INT(run_in(a.fd, send_udp, &(struct ask){ PROVIDER, 5000, 0 }), 0);
	CHECK_INT(run_in(a.fd, send_udp, &(struct ask){ OTHER, 443, 0 }), 0);
	CHECK_INT(run_in(a.fd, connect_udp, &(struct ask){ PROVIDER, 443, 0 }), 0);
	set_mode(FORCE_STRICT);
	CHECK_INT(run_in(a.fd, send_udp, &(struct ask){ OTHER, 443, 0 }), EPERM);
	CHECK_INT(run_in(a.fd, send_udp, &(struct ask){ OTHER, 853, 0 }), EPERM);
	CHECK_INT(run_in(a.fd, send_udp, &(struct ask){ OTHER, 5000, 0 }), 0);
	set_mode(FORCE_OBSERVE);
	CHECK_INT(run_in(a.fd, send_udp, &(struct ask){ PROVIDER, 443, 0 }), 0);
	set_mode(FORCE_ASSIST);
}

struct packet {
	const char *address;
	uint16_t port;
	uint8_t protocol;
};
static int send_raw(const void *arg)
{
	const struct packet *q = arg;
	struct {
		struct iphdr ip;
		struct udphdr udp;
	} packet = { .ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = q->protocol, .tot_len = htons(28) },
		     .udp = { .source = htons(999), .dest = htons(q->port), .len = htons(8) } };
	struct sockaddr_storage sa;
	socklen_t len = address(q->address, 0, &sa);
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

	packet.ip.daddr = ((struct sockaddr_in *)&sa)->sin_addr.s_addr;
	packet.ip.saddr = htonl(0xc0000202);
	if (fd < 0)
		return -errno;
	return sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&sa, len) > 0 ? 0 : -errno;
}

/* A v6 fragment: `chain` is what follows the fragment's header. */
struct fragment {
	uint8_t next;
	uint16_t offset; /* and the flag that more follow */
	uint8_t chain[16];
};
static int send_fragment(const void *arg)
{
	const struct fragment *q = arg;
	struct {
		uint8_t ip[40], fragment[8], chain[16];
	} packet = { .ip = { [0] = 0x60, [5] = 24, [6] = 44, [7] = 64 },
		     .fragment = { q->next, 0, (uint8_t)(q->offset >> 8), (uint8_t)q->offset, 0, 0, 0, 7 } };
	struct sockaddr_storage sa;
	socklen_t len = address(PROVIDER6, 0, &sa);
	int fd = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);

	memcpy(packet.ip + 8, "\x20\x01\x0d\xb8", 4);
	memcpy(packet.ip + 24, &((struct sockaddr_in6 *)&sa)->sin6_addr, 16);
	memcpy(packet.chain, q->chain, sizeof(packet.chain));
	if (fd < 0)
		return -errno;
	return sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&sa, len) > 0 ? 0 : -errno;
}

/* Pieces of one packet to port 443, cut so that none of them shows it. */
static void hidden_ports(void)
{
	/* Options of 24 bytes, of which 16 are here; TCP begins in the next one. */
	CHECK_INT(run_in(a.fd, send_fragment, &(struct fragment){ 60, 1, { 6, 2, 1, 12 } }), EPERM);
	/* The rest: bytes that look like another fragment's header, and like port 5000. */
	CHECK_INT(run_in(a.fd, send_fragment, &(struct fragment){ 44, 16, { 6, [8] = 0x10, 0, 0x13, 0x88 } }), EPERM);
	CHECK_INT(run_in(a.fd, send_fragment, &(struct fragment){ 44, 0, { 6, [8] = 0x10, 0, 0x13, 0x88 } }), 0);
}

static void raw_packets(void)
{
	CHECK_INT(run_in(a.fd, send_raw, &(struct packet){ PROVIDER, 443, IPPROTO_UDP }), EPERM);
	CHECK_INT(run_in(a.fd, send_raw, &(struct packet){ PROVIDER, 443, IPPROTO_TCP }), EPERM);
	CHECK_INT(run_in(a.fd, send_raw, &(struct packet){ PROVIDER, 0, IPPROTO_SCTP }), EPERM);
	CHECK_INT(run_in(a.fd, send_raw, &(struct packet){ PROVIDER, 0, IPPROTO_IPV6 }), EPERM); /* 6in4 */
	CHECK_INT(run_in(a.fd, send_raw, &(struct packet){ VIP, 5000, IPPROTO_UDP }), EPERM);
	CHECK_INT(run_in(a.fd, send_raw, &(struct packet){ OTHER, 443, IPPROTO_TCP }), 0);
}

struct kind {
	int family, type, protocol;
};
static int make_socket(const void *arg)
{
	const struct kind *k = arg;

	return socket(k->family, k->type, k->protocol) >= 0 ? 0 : -errno;
}

static void kinds_of_sockets(void)
{
	static const struct {
		struct kind kind;
		int strict; /* the errno */
	} cases[] = {
		{ { AF_INET, SOCK_STREAM, 0 }, 0 },
		{ { AF_INET6, SOCK_STREAM, 0 }, 0 },
		{ { AF_INET, SOCK_DGRAM, 0 }, 0 },
		{ { AF_UNIX, SOCK_STREAM, 0 }, 0 },
		{ { AF_INET, SOCK_RAW, IPPROTO_RAW }, EPERM },
		{ { AF_INET6, SOCK_RAW, IPPROTO_ICMPV6 }, EPERM },
		{ { AF_INET, SOCK_STREAM, IPPROTO_MPTCP }, EPERM },
		{ { AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE }, EPERM },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_INT(run_in(a.fd, make_socket, &cases[i].kind), 0);
		set_mode(FORCE_STRICT);
		CHECK_INT(run_in(a.fd, make_socket, &cases[i].kind), cases[i].strict);
		set_mode(FORCE_ASSIST);
	}
}

/* A connection that is older than its label: stopped by the label, as soon as it sends. */
static int talk_on(const void *arg)
{
	const struct ask *q = arg;
	struct sockaddr_storage sa;
	socklen_t len = address(q->address, q->port, &sa);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&sa, len) < 0)
		return -errno;
	for (int i = 0; i < 100; i++) {
		if (write(fd, "x", 1) != 1)
			return -errno;
		usleep(20000);
	}
	return 0;
}

static void older_than_the_label(void)
{
	int pidfd, conn, before = 0, after = 0;
	char bytes[256];

	load_release(&l, a.id);
	pidfd = start_in(a.fd, talk_on, &(struct ask){ PROVIDER, 443, 0 });
	accept_one(&world[0], 1, -1, 2000);
	conn = accept4(world[0], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	CHECK(conn >= 0);
	usleep(200000);
	before = (int)read(conn, bytes, sizeof(bytes));
	CHECK(before > 0);
	label(&a, LABEL, FORCE_ASSIST);
	usleep(100000);
	while (read(conn, bytes, sizeof(bytes)) > 0)
		; /* was under way */
	usleep(300000);
	after = (int)read(conn, bytes, sizeof(bytes));
	CHECK(after < 0);
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	spawn_wait(pidfd, 1000);
	close(pidfd);
	close(conn);
}

/* ---------------------------------------------------------------- guard */

static void guard(void)
{
	struct gate_label g = label_of(&parent, 0, FORCE_ASSIST), strict = label_of(&parent, 0, FORCE_STRICT);
	struct ask provider = { PROVIDER, 443, WAY_CONNECT }, other = { OTHER, 443, WAY_CONNECT };
	struct came c;

	CHECK_INT(load_guard(&l, parent.fd, &g), 0);
	events_now();
	c = tcp_in(&child, provider);
	check_refused(&c);
	CHECK_INT(events_now(), 1);
	CHECK_INT(last_event.reason, GATE_GUARD_DENIED);
	c = tcp_in(&child, (struct ask){ VIP, 443, WAY_CONNECT });
	check_refused(&c);
	CHECK_INT(run_in(child.fd, send_udp, &provider), EPERM);
	c = tcp_in(&child, other);
	check_direct(&c);
	/* A labelled child is the label's business, whatever its mode. */
	label(&child, LABEL, FORCE_OFF);
	c = tcp_in(&child, provider);
	check_direct(&c);
	CHECK_INT(run_in(child.fd, send_udp, &provider), 0);
	label(&child, LABEL, FORCE_ASSIST);
	c = tcp_in(&child, provider);
	CHECK(c.to_door && c.has_stamp && c.stamp.cgroup_id == child.id);
	load_release(&l, child.id);
	/* strict for who has no label */
	config.guard_strict = 1;
	CHECK_INT(maps_config_write(&l, &config), 0);
	CHECK_INT(load_guard(&l, parent.fd, &strict), 0);
	c = tcp_in(&child, other);
	check_refused(&c);
	label(&child, LABEL, FORCE_ASSIST);
	c = tcp_in(&child, other);
	check_direct(&c);
	load_release(&l, child.id);
	config.guard_strict = 0;
	CHECK_INT(maps_config_write(&l, &config), 0);
	load_guard_release(&l, parent.id);
	c = tcp_in(&child, provider);
	check_direct(&c);
}

/* A parent that was guarded and is labelled itself: taking the guard off leaves the sandbox whole. */
static void guarded_and_labelled(void)
{
	struct gate_label g = label_of(&parent, 0, FORCE_ASSIST);
	struct came c;

	CHECK_INT(load_guard(&l, parent.fd, &g), 0);
	label(&parent, LABEL, FORCE_ASSIST);
	load_guard_release(&l, parent.id);
	c = tcp_in(&parent, (struct ask){ PROVIDER, 443, WAY_CONNECT });
	CHECK(c.to_door && c.has_stamp && c.stamp.cgroup_id == parent.id);
	load_release(&l, parent.id);
	CHECK(maps_inflight(&l, parent.id) < 0);
}

/* ---------------------------------------------------------------- start, end */

static struct gate_suspect_key suspect(const char *text)
{
	struct gate_suspect_key key = { .bits = 128 };
	uint8_t addr[16];
	int family = 0;

	CHECK(addr_parse(str_of(text), &family, addr));
	if (family == AF_INET) {
		key.addr[2] = htonl(0xffff);
		memcpy(&key.addr[3], addr, 4);
	} else {
		memcpy(key.addr, addr, 16);
	}
	return key;
}

static void fill_maps(void)
{
	static const char *const vips[] = { VIP, VIP6 }, *const suspects[] = { PROVIDER, PROVIDER6 };
	struct gate_vip_key vip;

	config = (struct gate_config){ .vip4_net = htonl(0xc6120000), .vip4_mask = htonl(0xffff0000), .n_nat64 = 1 };
	inet_pton(AF_INET6, "fd53:504c:5900::", config.vip6_net);
	inet_pton(AF_INET6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:0", config.vip6_mask);
	config.nat64[0][0] = htonl(0x0064ff9b);
	CHECK_INT(maps_config_write(&l, &config), 0);
	for (size_t i = 0; i < 2; i++) {
		struct gate_suspect_key key = suspect(vips[i]);

		memcpy(vip.addr, key.addr, sizeof(vip.addr));
		CHECK_INT(maps_vip_set(&l, &vip, NAME_ID), 0);
		key = suspect(suspects[i]);
		CHECK_INT(maps_suspect_set(&l, &key, NAME_ID), 0);
	}
}

static int open_namespace(void)
{
	int mine = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (mine < 0 || unshare(CLONE_NEWNET) < 0)
		return -1;
	write_file("/proc/sys/net/ipv4/tcp_fastopen", "3");
	netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (make_world(NULL))
		return -1;
	for (unsigned i = 0; i < ARRAY_SIZE(world_ports); i++)
		world[i] = listen_on(world_ports[i], SOCK_STREAM);
	world_udp = listen_on(443, SOCK_DGRAM);
	world_dns = listen_on(53, SOCK_DGRAM);
	if (setns(mine, CLONE_NEWNET) < 0)
		return -1;
	close(mine);
	return netns;
}

static bool set_up(char *why, size_t size)
{
	static const struct door_ports ports = { 4117, 4117, 4153, 4153 };

	snprintf(base, sizeof(base), "/sallyport-test-l%d", getpid());
	snprintf(pin_dir, sizeof(pin_dir), "/sys/fs/bpf/sallyport-test-l%d", getpid());
	if (geteuid() != 0) {
		snprintf(why, size, "needs root");
		return false;
	}
	if (cgroup_root_open(&root, "auto", why, size) || load_open(&l, pin_dir, why, size))
		return false;
	gateway = cg_make("gateway");
	parent = cg_make("p");
	child = cg_make("p/child");
	a = cg_make("a");
	inner = cg_make("a/inner");
	fill_maps();
	label(&a, LABEL, FORCE_ASSIST);
	if (load_gateway(&l, gateway.fd, gateway.id) || open_namespace() < 0 ||
	    door_listen(&l, gateway.fd, netns, 1, &ports, &door) || maps_events_open(&l, on_event, NULL, &events)) {
		snprintf(why, size, "no namespace, door or ring can be made: %s", errno_text(errno));
		return false;
	}
	CHECK_INT(door.n_dns_fds, 6);
	return true;
}

static void tear_down(void)
{
	maps_events_close(events);
	if (door.n_fds)
		door_sockets_close(&l, &door);
	if (l.skel) {
		load_clean(&l, false);
		load_close(&l);
	}
	if (base[0]) {
		int fd = cgroup_open(&root, base);

		if (fd >= 0) {
			cgroup_kill(fd, 2000);
			close(fd);
		}
		cgroup_remove(&root, base);
	}
}

static void on_interrupt(int sig)
{
	tear_down();
	_exit(128 + sig);
}

static const struct test tests[] = { T(modes_of_an_address), T(v4_in_v6), T(other_ways_to_connect),
				     T(what_is_refused), T(break_glass), T(innermost_label_counts),
				     T(without_a_door), T(events_tell), T(questions),
				     T(questions_at_once), T(questions_by_tcp), T(questions_without_force), T(datagrams),
				     T(raw_packets), T(hidden_ports), T(kinds_of_sockets), T(older_than_the_label), T(guard),
				     T(guarded_and_labelled) };

int main(int argc, char **argv)
{
	char why[512] = "";
	unsigned passed = 0, failed = 0;

	log_init("test", getenv("V") ? LOG_DEBUG : LOG_WARN);
	signal(SIGINT, on_interrupt);
	signal(SIGTERM, on_interrupt);
	if (!set_up(why, sizeof(why))) {
		printf("%s: everything: %s\n", l.skel ? "FAIL" : "skipped", why);
		failed = l.skel != NULL;
		tear_down();
		return (int)failed;
	}
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		int failures = test_failures;

		if (argc > 1 && !strstr(tests[i].name, argv[1]))
			continue;
		tests[i].run();
		if (test_failures == failures) {
			passed++;
			continue;
		}
		failed++;
		printf("FAIL %s\n", tests[i].name);
	}
	tear_down();
	printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed || !passed;
}
