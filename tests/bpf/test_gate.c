/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The programs in the kernel, tried on real sockets. Everything happens in cgroups, network
 * namespaces and a pin directory of this test's own:
 *
 *   /sallyport-test-PID/gateway   the doors' sockets belong here
 *   /sallyport-test-PID/a         sandbox, with /inner below it
 *   /sallyport-test-PID/b         another sandbox
 *   /sallyport-test-PID/out       no sandbox
 *
 * Needs root, BPF and cgroup v2; says so and succeeds without them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <bpf/bpf.h>

#include "agent/cgroup.h"
#include "agent/door.h"
#include "agent/load.h"
#include "agent/maps.h"
#include "agent/spawn.h"
#include "bpf/gate_addr.h"
#include "common/ipc.h"
#include "common/log.h"
#include "common/stamp.h"
#include "tests/unit/test.h"

#define PORT	    4117
#define PORTS(first, last) (&(const struct door_ports){ .from = (first), .to = (last) })
#define CLIENT_UID  4321
#define CLIENT_COMM "sp-client"
#define LABEL_A	    11
#define LABEL_B	    22
#define LABEL_INNER 33
#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif
#ifndef MSG_FASTOPEN
#define MSG_FASTOPEN 0x20000000
#endif

struct cg {
	char path[128];
	int fd;
	uint64_t id;
	unsigned level;
};

/* The kernel tells a process's number in the first PID namespace, which we know only there. */
static void check_pid(uint32_t got, pid_t want)
{
	struct stat st;

	/* 0xEFFFFFFC: PROC_PID_INIT_INO, include/linux/proc_ns.h */
	if (stat("/proc/self/ns/pid", &st) == 0 && st.st_ino == 0xEFFFFFFCU)
		CHECK_INT(got, want);
	else
		CHECK(got != 0);
}

static struct cgroup_root root;
static char base[64], pin_dir[64];
static struct cg gateway, a, inner, b, out;
static struct load l;
static int netns = -1;
static struct door_sockets door = { .fds = { -1, -1 } };
static uint64_t before[GATE_REASON_MAX];
static int skipped;

#define SKIP(why)                                                                                  \
	do {                                                                                       \
		printf("skipped: %s: %s\n", __func__, why);                                        \
		skipped++;                                                                         \
		return;                                                                            \
	} while (0)

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

static int label_as(const struct cg *c, uint32_t id, uint32_t gen, uint32_t inflight_max)
{
	struct gate_label label = { .label_id = id,
				    .label_gen = gen,
				    .level = c->level,
				    .inflight_max = inflight_max,
				    .cgroup_id = c->id };

	return load_sandbox(&l, c->fd, &label);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		errno = EIO;
	if (fd >= 0)
		close(fd);
}

/* A namespace of its own in which `prepare` (or NULL) was run. */
static int netns_new(void (*prepare)(void))
{
	int ready[2], go[2], pidfd = -1, fd;
	char byte;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
		return -errno;
	pid = spawn_clone(-1, &pidfd);
	if (!pid) {
		close(go[1]);
		if (unshare(CLONE_NEWNET) < 0)
			_exit(1);
		if (prepare)
			prepare();
		if (write(ready[1], "", 1) != 1 || read(go[0], &byte, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(ready[1]);
	close(go[0]);
	fd = read(ready[0], &byte, 1) == 1 ? netns_open(pid) : -EPERM;
	close(ready[0]);
	close(go[1]);
	spawn_wait(pidfd, 3000);
	close(pidfd);
	return fd;
}

static uint64_t counted(enum gate_reason r)
{
	uint64_t now[GATE_REASON_MAX];

	maps_reasons(&l, now);
	return now[r] - before[r];
}

static void count_from_here(void)
{
	maps_reasons(&l, before);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* ---------------------------------------------------------------- clients */

enum client_way { WAY_CONNECT, WAY_FASTOPEN, WAY_URING, WAY_MPTCP };

struct client {
	const struct cg *cg;
	int netns;
	const char *address; /* v4, or v6 when it holds a colon */
	uint16_t port, source_port;
	enum client_way way;
	int fd;	    /* a socket to use instead of a new one; -1: none */
	bool reset; /* leaves with a reset */
	bool lazy;  /* the third packet of the handshake carries the data */
	bool as_root;
};

/* What the client says in its first bytes. */
struct hello {
	uint64_t cookie;
	uint32_t pid;
};

static socklen_t address_of(const struct client *c, struct sockaddr_storage *ret)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (strchr(c->address, ':')) {
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons(c->port);
		inet_pton(AF_INET6, c->address, &sin6->sin6_addr);
		return sizeof(*sin6);
	}
	sin->sin_family = AF_INET;
	sin->sin_port = htons(c->port);
	inet_pton(AF_INET, c->address, &sin->sin_addr);
	return sizeof(*sin);
}

static int uring_connect(int fd, struct sockaddr *sa, socklen_t len)
{
	struct io_uring_params p = { 0 };
	int ring = (int)syscall(SYS_io_uring_setup, 2, &p), res;
	char *sq, *cq;
	struct io_uring_sqe *sqe;
	unsigned *head, *tail;

	if (ring < 0)
		return -ENOSYS;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(unsigned), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
		  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_CQ_RING);
	sqe = mmap(NULL, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED)
		return -ENOMEM;
	*sqe = (struct io_uring_sqe){
		.opcode = IORING_OP_CONNECT, .fd = fd, .addr = (uint64_t)(uintptr_t)sa, .off = len
	};
	*(unsigned *)(sq + p.sq_off.array) = 0;
	tail = (unsigned *)(sq + p.sq_off.tail);
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return -errno;
	head = (unsigned *)(cq + p.cq_off.head);
	res = ((struct io_uring_cqe *)(cq + p.cq_off.cqes))[*head &
							    *(unsigned *)(cq + p.cq_off.ring_mask)]
		      .res;
	close(ring);
	return res;
}

static int client_connect(const struct client *c, int fd, const struct hello *hello)
{
	struct sockaddr_storage sa;
	socklen_t len = address_of(c, &sa);
	int err = 0;

	if (c->way == WAY_FASTOPEN) {
		err = sendto(fd, hello, sizeof(*hello), MSG_FASTOPEN, (struct sockaddr *)&sa, len) <
				      0
			      ? -errno
			      : 0;
		return err;
	}
	if (c->way == WAY_URING)
		err = uring_connect(fd, (struct sockaddr *)&sa, len);
	else if (connect(fd, (struct sockaddr *)&sa, len) < 0)
		err = -errno;
	if (!err && write(fd, hello, sizeof(*hello)) != sizeof(*hello))
		err = -EIO;
	return err;
}

static void client_socket_options(const struct client *c, int fd)
{
	struct sockaddr_in source = { .sin_family = AF_INET,
				      .sin_port = htons(c->source_port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger linger = { 1, 0 };
	int on = 1;

	if (c->source_port) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (bind(fd, (struct sockaddr *)&source, sizeof(source)) < 0)
			_exit(250);
	}
	if (c->lazy) {
		int off = 0;

		setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &off, sizeof(off));
	}
	if (c->reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

/* Leaves with the errno of its connect; 0 after the other end has closed. */
static void client_main(const struct client *c)
{
	struct hello hello = { .pid = (uint32_t)getpid() };
	socklen_t len = sizeof(hello.cookie);
	int family = strchr(c->address, ':') ? AF_INET6 : AF_INET, fd = c->fd, err;
	char byte;

	spawn_child_signals();
	prctl(PR_SET_NAME, CLIENT_COMM);
	if (setns(c->netns, CLONE_NEWNET) < 0)
		_exit(251);
	if (!c->as_root && (setresgid(CLIENT_UID, CLIENT_UID, CLIENT_UID) < 0 ||
			    setresuid(CLIENT_UID, CLIENT_UID, CLIENT_UID) < 0))
		_exit(252);
	if (fd < 0)
		fd = socket(family, SOCK_STREAM, c->way == WAY_MPTCP ? GATE_IPPROTO_MPTCP : 0);
	if (fd < 0)
		_exit(253);
	client_socket_options(c, fd);
	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &hello.cookie, &len);
	err = client_connect(c, fd, &hello);
	if (err)
		_exit(-err);
	while (read(fd, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

static int client_start(const struct client *c)
{
	int pidfd = -1;
	pid_t pid = spawn_clone(c->cg->fd, &pidfd);

	if (!pid)
		client_main(c);
	return pid < 0 ? (int)pid : pidfd;
}

struct seen {
	int connected; /* exit status of the client: 0 or an errno */
	bool arrived;
	int stamp_errno; /* 0: there is a stamp */
	struct stamp stamp;
	struct hello hello;
	struct sockaddr_storage peer;
};

static void look(int conn, struct seen *s)
{
	struct pollfd p = { .fd = conn, .events = POLLIN };
	socklen_t len = sizeof(s->stamp), peer_len = sizeof(s->peer);

	s->arrived = true;
	poll(&p, 1, 2000);
	s->stamp_errno = getsockopt(conn, STAMP_SOL, STAMP_GET, &s->stamp, &len) < 0 ? errno : 0;
	if (!s->stamp_errno)
		CHECK_INT(len, sizeof(s->stamp));
	getpeername(conn, (struct sockaddr *)&s->peer, &peer_len);
	if (recv(conn, &s->hello, sizeof(s->hello), MSG_DONTWAIT) < 0)
		s->hello.pid = 0;
}

static int accept_from(const struct door_sockets *d, int timeout_ms)
{
	struct pollfd p[2] = { { .fd = d->fds[0], .events = POLLIN },
			       { .fd = d->fds[1], .events = POLLIN } };

	if (poll(p, d->n_fds, timeout_ms) < 1)
		return -1;
	return accept4(p[0].revents ? d->fds[0] : d->fds[1], NULL, NULL, SOCK_CLOEXEC);
}

/* One whole exchange with the door. */
static struct seen client_at(const struct client *c, const struct door_sockets *d)
{
	struct pollfd p[3] = { { .fd = d->fds[0], .events = POLLIN },
			       { .fd = -1 },
			       { .events = POLLIN } };
	struct seen s = { .stamp_errno = -1 };
	int pidfd = client_start(c), conn;

	p[1] = (struct pollfd){ .fd = d->fds[1], .events = POLLIN };
	p[2].fd = pidfd;
	poll(p, 3, 3000);
	conn = p[0].revents || p[1].revents ? accept_from(d, 0) : -1;
	if (conn >= 0) {
		look(conn, &s);
		close(conn);
	}
	s.connected = spawn_wait(pidfd, 3000);
	close(pidfd);
	return s;
}

static struct client client_of(const struct cg *cg)
{
	return (struct client){
		.cg = cg, .netns = netns, .address = "127.0.0.1", .port = door.port, .fd = -1
	};
}

static struct seen plain(const struct cg *cg)
{
	struct client c = client_of(cg);

	return client_at(&c, &door);
}

static void check_stamped(const struct seen *s, uint32_t label, const struct cg *cg)
{
	CHECK_INT(s->connected, 0);
	CHECK_INT(s->stamp_errno, 0);
	CHECK_INT(s->stamp.version, STAMP_VERSION);
	CHECK_INT(s->stamp.label_id, label);
	CHECK_INT(s->stamp.cgroup_id, cg->id);
	CHECK_INT(s->stamp.label_level, cg->level);
	CHECK_INT(s->stamp.netns_cookie, door.netns_cookie);
	CHECK_INT(s->stamp.sock_cookie, s->hello.cookie);
	CHECK_INT(s->stamp.why, STAMP_EXPLICIT);
	CHECK_INT(s->stamp.peer, STAMP_PEER_AGREES);
}

static void check_bare(const struct seen *s)
{
	CHECK_INT(s->connected, 0);
	CHECK(s->arrived);
	CHECK(s->stamp_errno == EOPNOTSUPP || s->stamp_errno == ENOPROTOOPT);
}

static void check_nothing_left(void)
{
	CHECK_INT(maps_handoff_count(&l), 0);
	CHECK_INT(maps_inflight(&l, a.id), 0);
	CHECK_INT(maps_inflight(&l, b.id), 0);
}

/* ---------------------------------------------------------------- stamps */

static void every_field_v4(void)
{
	static const uint8_t loopback[16] = { 127, 0, 0, 1 };
	uint64_t from = now_ns();
	struct seen s = plain(&a);

	check_stamped(&s, LABEL_A, &a);
	CHECK_INT(s.stamp.label_gen, 1);
	CHECK_INT(s.stamp.uid, CLIENT_UID);
	check_pid(s.stamp.pid, s.hello.pid);
	CHECK_STR(s.stamp.comm, CLIENT_COMM);
	CHECK_INT(s.stamp.family, AF_INET);
	CHECK_INT(s.stamp.orig_port, PORT);
	CHECK(!memcmp(s.stamp.orig_addr, loopback, 16));
	CHECK(s.stamp.time_ns >= from && s.stamp.time_ns <= now_ns());
	check_nothing_left();
}

static void every_field_v6(void)
{
	static const uint8_t loopback[16] = { [15] = 1 };
	struct client c = client_of(&a);
	struct seen s;

	if (door.n_fds < 2)
		SKIP("no IPv6 here");
	c.address = "::1";
	s = client_at(&c, &door);
	check_stamped(&s, LABEL_A, &a);
	CHECK_INT(s.stamp.family, AF_INET6);
	CHECK_INT(s.stamp.orig_port, PORT);
	CHECK(!memcmp(s.stamp.orig_addr, loopback, 16));
	CHECK_INT(s.stamp.uid, CLIENT_UID);
	check_pid(s.stamp.pid, s.hello.pid);
	check_nothing_left();
}

static void v4_mapped_takes_the_v4_path(void)
{
	static const uint8_t loopback[16] = { 127, 0, 0, 1 };
	struct client c = client_of(&a);
	struct seen s;

	if (door.n_fds < 2)
		SKIP("no IPv6 here");
	c.address = "::ffff:127.0.0.1";
	s = client_at(&c, &door);
	check_stamped(&s, LABEL_A, &a);
	CHECK_INT(s.stamp.family, AF_INET);
	CHECK(!memcmp(s.stamp.orig_addr, loopback, 16));
	check_nothing_left();
}

static void unspecified_is_loopback(void)
{
	struct client c = client_of(&a);
	struct seen s;

	c.address = "0.0.0.0";
	s = client_at(&c, &door);
	check_stamped(&s, LABEL_A, &a);
	if (door.n_fds < 2)
		SKIP("no IPv6 here");
	c.address = "::";
	s = client_at(&c, &door);
	check_stamped(&s, LABEL_A, &a);
	check_nothing_left();
}

static void child_cgroup_inherits(void)
{
	struct seen s = plain(&inner);

	check_stamped(&s, LABEL_A, &a);
}

static void innermost_label_wins(void)
{
	struct seen s;

	CHECK_INT(label_as(&inner, LABEL_INNER, 1, 0), 0);
	count_from_here();
	s = plain(&inner);
	check_stamped(&s, LABEL_INNER, &inner);
	CHECK_INT(counted(GATE_STAMP_KEPT), 1);
	CHECK_INT(counted(GATE_HANDED), 1);
	load_release(&l, inner.id);
	s = plain(&inner);
	check_stamped(&s, LABEL_A, &a);
	check_nothing_left();
}

static void unlabelled_has_no_stamp(void)
{
	struct seen s;

	count_from_here();
	s = plain(&out);
	check_bare(&s);
	CHECK_INT(counted(GATE_ARRIVED_BARE), 1);
}

static void two_sandboxes_one_namespace(void)
{
	struct seen s = plain(&a);

	check_stamped(&s, LABEL_A, &a);
	s = plain(&b);
	check_stamped(&s, LABEL_B, &b);
}

static void label_may_change(void)
{
	struct gate_label label;
	struct seen s;

	CHECK_INT(maps_label_read(&l, a.id, &label), 0);
	label.label_gen = 7;
	CHECK_INT(maps_label_write(&l, &label), 0);
	s = plain(&a);
	check_stamped(&s, LABEL_A, &a);
	CHECK_INT(s.stamp.label_gen, 7);
	label.label_gen = 1;
	CHECK_INT(maps_label_write(&l, &label), 0);
}

static void fastopen(void)
{
	struct client c = client_of(&a);
	struct seen s;
	int on = 16;

	setsockopt(door.fds[0], IPPROTO_TCP, TCP_FASTOPEN, &on, sizeof(on));
	c.way = WAY_FASTOPEN;
	for (int i = 0; i < 3; i++) {
		s = client_at(&c, &door);
		check_stamped(&s, LABEL_A, &a);
	}
	on = 0;
	setsockopt(door.fds[0], IPPROTO_TCP, TCP_FASTOPEN, &on, sizeof(on));
	check_nothing_left();
}

/*
 * When the packet that makes the connection brings the data too, the cross-check may have seen no
 * packet of the accepted socket yet. TCP_QUICKACK sends one.
 */
static void quickack_decides(void)
{
	struct client c = client_of(&a);
	int pidfd, conn, on = 1;
	socklen_t len;
	struct seen s = { 0 };

	c.lazy = true;
	pidfd = client_start(&c);
	conn = accept_from(&door, 3000);
	CHECK(conn >= 0);
	look(conn, &s);
	CHECK_INT(s.stamp_errno, 0);
	CHECK(s.stamp.peer == STAMP_PEER_UNKNOWN || s.stamp.peer == STAMP_PEER_AGREES);
	CHECK_INT(setsockopt(conn, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on)), 0);
	len = sizeof(s.stamp);
	CHECK_INT(getsockopt(conn, STAMP_SOL, STAMP_GET, &s.stamp, &len), 0);
	CHECK_INT(s.stamp.peer, STAMP_PEER_AGREES);
	close(conn);
	spawn_wait(pidfd, 3000);
	close(pidfd);
}

static void io_uring(void)
{
	struct client c = client_of(&a);
	struct seen s;

	c.way = WAY_URING;
	s = client_at(&c, &door);
	if (s.connected == ENOSYS)
		SKIP("no io_uring here");
	check_stamped(&s, LABEL_A, &a);
}

static void mptcp(void)
{
	int probe = socket(AF_INET, SOCK_STREAM, GATE_IPPROTO_MPTCP);
	struct client c = client_of(&a);
	struct seen s;

	if (probe < 0)
		SKIP("no MPTCP here");
	close(probe);
	c.way = WAY_MPTCP;
	s = client_at(&c, &door);
	CHECK_INT(s.connected, 0);
	CHECK_INT(s.stamp_errno, 0);
	CHECK_INT(s.stamp.label_id, LABEL_A);
}

/* ---------------------------------------------------------------- identity is the socket's */

/* A socket made by a process of `maker`, in our hands. */
static int socket_of(const struct cg *maker)
{
	int pair[2], pidfd = -1, fd = -1;
	static struct ipc_message m;

	if (ipc_pair(pair))
		return -1;
	if (!spawn_clone(maker->fd, &pidfd)) {
		if (setns(netns, CLONE_NEWNET) < 0)
			_exit(1);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		ipc_send(pair[1], 1, 0, NULL, 0, &fd, 1);
		_exit(0);
	}
	spawn_wait(pidfd, 3000);
	close(pidfd);
	if (ipc_recv(pair[0], &m) == 1 && m.n_fds == 1)
		fd = m.fds[0];
	close(pair[0]);
	close(pair[1]);
	return fd;
}

static void passed_socket_keeps_its_creator(void)
{
	struct client c = client_of(&b);
	struct seen s;

	c.fd = socket_of(&a);
	CHECK(c.fd >= 0);
	s = client_at(&c, &door);
	close(c.fd);
	check_stamped(&s, LABEL_A, &a);
	/* The process is the one that called connect(). */
	check_pid(s.stamp.pid, s.hello.pid);
}

static void socket_from_outside_has_no_stamp(void)
{
	struct client c = client_of(&a);
	struct seen s;

	c.fd = socket_of(&out);
	s = client_at(&c, &door);
	close(c.fd);
	check_bare(&s);
}

/* ---------------------------------------------------------------- one shot, nothing to forge */

static void one_shot(void)
{
	struct client c = client_of(&a);
	struct seen s;

	c.source_port = 40123;
	c.reset = true;
	c.as_root = true;
	s = client_at(&c, &door);
	check_stamped(&s, LABEL_A, &a);
	check_nothing_left();
	/* The same two ends, from a cgroup without a label. */
	c.cg = &out;
	s = client_at(&c, &door);
	check_bare(&s);
}

static void entry_goes_with_a_failed_connect(void)
{
	struct client c = client_of(&a);
	struct seen s;

	/* On the list, but nobody listens. */
	CHECK_INT(maps_door_add(&l, door.netns_cookie, 4999, 1), 0);
	c.port = 4999;
	c.source_port = 40124;
	c.as_root = true;
	count_from_here();
	s = client_at(&c, &door);
	CHECK_INT(s.connected, ECONNREFUSED);
	CHECK_INT(counted(GATE_HANDED), 1);
	CHECK_INT(counted(GATE_TAKEN_BACK), 1);
	check_nothing_left();
	maps_door_remove(&l, door.netns_cookie, 4999);
}

static struct gate_tuple tuple_from(uint16_t source_port)
{
	return (struct gate_tuple){ .netns_cookie = door.netns_cookie,
				    .saddr = { GATE_BE32(0x7f000001u) },
				    .daddr = { GATE_BE32(0x7f000001u) },
				    .sport = source_port,
				    .dport = door.port,
				    .family = AF_INET };
}

/* Only root can write the map; what it writes is contradicted by the live socket all the same. */
static void cross_check_differs(void)
{
	struct gate_tuple tuple = tuple_from(40125);
	struct stamp forged = { .version = STAMP_VERSION,
				.label_id = LABEL_A,
				.cgroup_id = a.id,
				.label_level = a.level,
				.sock_cookie = 1 };
	struct client c = client_of(&out);
	struct seen s;

	CHECK_INT(bpf_map_update_elem(l.handoff_fd, &tuple, &forged, BPF_ANY), 0);
	c.source_port = 40125;
	c.as_root = true;
	count_from_here();
	s = client_at(&c, &door);
	CHECK_INT(s.stamp_errno, 0);
	CHECK_INT(s.stamp.peer, STAMP_PEER_DIFFERS);
	CHECK_INT(counted(GATE_PEER_DIFFERS), 1);
	/* The forged entry was in nobody's budget. */
	label_as(&a, LABEL_A, 1, 0);
	load_release(&l, a.id);
	CHECK_INT(label_as(&a, LABEL_A, 1, 0), 0);
}

/* A left-over entry of another sandbox under the same tuple is replaced, not believed. */
static void stale_entry_is_replaced(void)
{
	struct gate_tuple tuple = tuple_from(40126);
	struct stamp stale = { .version = STAMP_VERSION,
			       .label_id = LABEL_B,
			       .cgroup_id = b.id,
			       .label_level = b.level,
			       .sock_cookie = 2 };
	struct client c = client_of(&a);
	struct seen s;

	CHECK_INT(bpf_map_update_elem(l.handoff_fd, &tuple, &stale, BPF_ANY), 0);
	c.source_port = 40126;
	c.as_root = true;
	count_from_here();
	s = client_at(&c, &door);
	check_stamped(&s, LABEL_A, &a);
	CHECK_INT(counted(GATE_HANDOFF_REPLACED), 1);
	load_release(&l, b.id);
	CHECK_INT(label_as(&b, LABEL_B, 1, 0), 0);
	check_nothing_left();
}

static void old_entries_are_swept(void)
{
	struct gate_tuple tuple = tuple_from(40127);
	struct stamp stale = { .version = STAMP_VERSION, .cgroup_id = 12345, .time_ns = 1 };

	CHECK_INT(bpf_map_update_elem(l.handoff_fd, &tuple, &stale, BPF_ANY), 0);
	CHECK_INT(maps_handoff_sweep(&l, now_ns(), 2 * now_ns()), 0);
	CHECK_INT(maps_handoff_sweep(&l, now_ns(), 1000), 1);
	CHECK_INT(maps_handoff_count(&l), 0);
}

/* ---------------------------------------------------------------- refusals */

static void no_label_is_refused(void)
{
	struct cg c = cg_make("blank");
	struct seen s;

	CHECK_INT(label_as(&c, 0, 0, 0), 0);
	count_from_here();
	s = plain(&c);
	CHECK_INT(s.connected, EPERM);
	CHECK_INT(counted(GATE_DENY_NO_LABEL), 1);
	load_release(&l, c.id);
	close(c.fd);
}

static void optmem_zero(void)
{
	write_file("/proc/sys/net/core/optmem_max", "0");
}

static void no_storage_is_refused(void)
{
	int ns = netns_new(optmem_zero);
	struct client c = client_of(&a);
	struct door_sockets d;
	struct seen s;
	char text[32] = "";
	int pidfd = -1;

	/* Older kernels have one value for all namespaces, which a namespace cannot change. */
	if (!spawn_clone(-1, &pidfd)) {
		int fd;

		if (setns(ns, CLONE_NEWNET) < 0)
			_exit(1);
		fd = open("/proc/sys/net/core/optmem_max", O_RDONLY);
		_exit(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && text[0] == '0' ? 0 : 1);
	}
	if (spawn_wait(pidfd, 3000)) {
		close(ns);
		SKIP("net.core.optmem_max is not of the namespace here");
	}
	CHECK_INT(door_listen(&l, gateway.fd, ns, 9, PORTS(PORT, PORT), &d), 0);
	c.netns = ns;
	count_from_here();
	s = client_at(&c, &d);
	CHECK_INT(s.connected, EPERM);
	CHECK_INT(counted(GATE_DENY_STORAGE), 1);
	/* What is no door stays free: refused by nobody listening there, not by us. */
	c.port = 4444;
	s = client_at(&c, &d);
	CHECK_INT(s.connected, ECONNREFUSED);
	door_sockets_close(&l, &d);
	close(ns);
}

/* Connects without waiting, and keeps the sockets until told to go. */
static void flood_main(const struct client *c, int result, int go, unsigned n)
{
	struct sockaddr_storage sa;
	socklen_t len = address_of(c, &sa);
	unsigned refused = 0;
	char byte;

	if (setns(c->netns, CLONE_NEWNET) < 0)
		_exit(1);
	for (unsigned i = 0; i < n; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

		refused += connect(fd, (struct sockaddr *)&sa, len) < 0 && errno == EPERM;
	}
	if (write(result, &refused, sizeof(refused)) < 0 || read(go, &byte, 1) < 0)
		_exit(1);
	_exit(0);
}

static void inflight_is_bounded_for_each(void)
{
	struct client c = client_of(&a);
	struct door_sockets d;
	int ns = netns_new(NULL), result[2], go[2], pidfd = -1;
	unsigned refused = 0;
	struct seen s;

	CHECK_INT(door_listen(&l, gateway.fd, ns, 9, PORTS(PORT, PORT), &d), 0);
	/* One connection fits; SYNs behind it are dropped and stay under way. */
	listen(d.fds[0], 0);
	CHECK_INT(label_as(&a, LABEL_A, 1, 4), 0);
	c.netns = ns;
	if (pipe(result) < 0 || pipe(go) < 0)
		return;
	count_from_here();
	if (!spawn_clone(a.fd, &pidfd)) {
		close(go[1]);
		flood_main(&c, result[1], go[0], 40);
	}
	close(go[0]);
	CHECK_INT(read(result[0], &refused, sizeof(refused)), sizeof(refused));
	CHECK(refused >= 30);
	CHECK_INT(counted(GATE_DENY_INFLIGHT), refused);
	CHECK_INT(maps_handoff_count(&l), 4);
	CHECK_INT(maps_inflight(&l, a.id), 4);
	/* Another sandbox is served elsewhere, and even here it is not refused but waits. */
	s = plain(&b);
	check_stamped(&s, LABEL_B, &b);
	close(go[1]);
	spawn_wait(pidfd, 3000);
	close(pidfd);
	for (int i = 0; i < 100 && maps_handoff_count(&l); i++)
		poll(NULL, 0, 10);
	check_nothing_left();
	CHECK_INT(label_as(&a, LABEL_A, 1, 0), 0);
	close(result[0]);
	close(result[1]);
	door_sockets_close(&l, &d);
	close(ns);
}

/* ---------------------------------------------------------------- what must stay untouched */

static void other_ports_are_untouched(void)
{
	struct client c = client_of(&a);
	struct door_sockets d;
	struct seen s;

	CHECK_INT(door_listen(&l, gateway.fd, netns, 9, PORTS(5001, 5001), &d), 0);
	maps_door_remove(&l, d.netns_cookie, d.port);
	c.port = 5001;
	count_from_here();
	s = client_at(&c, &d);
	check_bare(&s);
	CHECK_INT(counted(GATE_STAMPED), 0);
	CHECK_INT(counted(GATE_PASS), 1);
	door_sockets_close(&l, &d);
}

static void gateway_is_exempt(void)
{
	struct seen s;

	count_from_here();
	s = plain(&gateway);
	check_bare(&s);
	CHECK_INT(counted(GATE_PASS) + counted(GATE_STAMPED), 0);
}

static void programs_in_place_run(void)
{
	struct seen s;

	count_from_here();
	s = plain(&a);
	check_stamped(&s, LABEL_A, &a);
	CHECK(counted(GATE_SOCKET_SEEN) >= 1);
	CHECK_INT(counted(GATE_PEER_AGREES), 1);
	CHECK_INT(counted(GATE_ARRIVED), 1);
}

static void other_options_are_untouched(void)
{
	struct client c = client_of(&a);
	int pidfd = client_start(&c), conn = accept_from(&door, 3000), value = -1;
	socklen_t len = sizeof(value);
	struct tcp_info info;
	struct stamp s;

	CHECK(conn >= 0);
	CHECK_INT(getsockopt(conn, SOL_SOCKET, SO_TYPE, &value, &len), 0);
	CHECK_INT(value, SOCK_STREAM);
	len = sizeof(info);
	CHECK_INT(getsockopt(conn, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	CHECK_INT(info.tcpi_state, TCP_ESTABLISHED);
	/* Too little room is an error, not half a stamp. */
	len = sizeof(s) - 8;
	CHECK(getsockopt(conn, STAMP_SOL, STAMP_GET, &s, &len) < 0);
	len = sizeof(s);
	CHECK(getsockopt(conn, STAMP_SOL, STAMP_GET + 1, &s, &len) < 0);
	close(conn);
	spawn_wait(pidfd, 3000);
	close(pidfd);
}

/* ---------------------------------------------------------------- doors */

static void taken_port_moves_the_door(void)
{
	int ns = netns_new(NULL);
	struct door_sockets first, second, third;
	struct client c = client_of(&a);
	struct seen s;

	CHECK_INT(door_listen(&l, gateway.fd, ns, 9, PORTS(PORT, PORT + 1), &first), 0);
	CHECK_INT(door_listen(&l, gateway.fd, ns, 9, PORTS(PORT, PORT + 1), &second), 0);
	CHECK_INT(first.port, PORT);
	CHECK_INT(second.port, PORT + 1);
	CHECK_INT(door_listen(&l, gateway.fd, ns, 9, PORTS(PORT, PORT + 1), &third), -EADDRINUSE);
	c.netns = ns;
	c.port = second.port;
	s = client_at(&c, &second);
	CHECK_INT(s.stamp_errno, 0);
	CHECK_INT(s.stamp.orig_port, PORT + 1);
	door_sockets_close(&l, &first);
	door_sockets_close(&l, &second);
	close(ns);
}

static void ipv6_off(void)
{
	write_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
	write_file("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1");
}

static void door_without_ipv6(void)
{
	int ns = netns_new(ipv6_off);
	struct client c = client_of(&a);
	struct door_sockets d;
	struct seen s;

	CHECK_INT(door_listen(&l, gateway.fd, ns, 9, PORTS(PORT, PORT), &d), 0);
	CHECK_INT(d.n_fds, 1);
	c.netns = ns;
	s = client_at(&c, &d);
	CHECK_INT(s.stamp_errno, 0);
	CHECK_INT(s.stamp.label_id, LABEL_A);
	CHECK_INT(s.stamp.netns_cookie, d.netns_cookie);
	door_sockets_close(&l, &d);
	close(ns);
}

/* ---------------------------------------------------------------- life of the programs */

static void adoption_keeps_everything(void)
{
	char why[512];
	struct gate_label label;
	struct seen s;

	load_close(&l);
	CHECK_INT(load_open(&l, pin_dir, why, sizeof(why)), 0);
	CHECK_INT(load_gateway(&l, gateway.fd, gateway.id), 0);
	CHECK_INT(maps_label_read(&l, a.id, &label), 0);
	CHECK_INT(label.label_id, LABEL_A);
	/* Before anything is renewed the old links still work, on the same maps. */
	s = plain(&b);
	check_stamped(&s, LABEL_B, &b);
	CHECK_INT(label_as(&a, LABEL_A, 1, 0), 0);
	CHECK_INT(label_as(&b, LABEL_B, 1, 0), 0);
	s = plain(&a);
	check_stamped(&s, LABEL_A, &a);
	check_nothing_left();
}

/* The smallest program: it lets everything go, and counts nothing. */
static int program_of_others(void)
{
	const struct bpf_insn code[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1 },
					 { .code = BPF_JMP | BPF_EXIT } };
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);

	return bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "others", "GPL", code, ARRAY_SIZE(code), &opts);
}

/* Others' programs above: one that shares its place is no hindrance, one that does not is an error that can be told. */
static void programs_of_others(void)
{
	struct cg above = cg_make("above"), below = cg_make("above/below");
	int prog = program_of_others();
	struct seen s;

	CHECK(prog >= 0);
	CHECK_INT(bpf_prog_attach(prog, above.fd, BPF_CGROUP_INET4_CONNECT, BPF_F_ALLOW_MULTI), 0);
	CHECK_INT(label_as(&below, 55, 1, 0), 0);
	s = plain(&below);
	check_stamped(&s, 55, &below);
	load_release(&l, below.id);
	CHECK_INT(bpf_prog_detach2(prog, above.fd, BPF_CGROUP_INET4_CONNECT), 0);

	CHECK_INT(bpf_prog_attach(prog, above.fd, BPF_CGROUP_INET4_CONNECT, 0), 0);
	CHECK_INT(label_as(&below, 55, 1, 0), -EPERM);
	s = plain(&below);
	check_bare(&s); /* nothing of ours stayed attached */
	CHECK_INT(bpf_prog_detach2(prog, above.fd, BPF_CGROUP_INET4_CONNECT), 0);
	CHECK_INT(label_as(&below, 55, 1, 0), 0);
	load_release(&l, below.id);
	close(prog);
	close(below.fd);
	close(above.fd);
}

static void one_daemon_for_a_pin_directory(void)
{
	struct load other;
	char why[512] = "";

	CHECK_INT(load_open(&other, pin_dir, why, sizeof(why)), -EBUSY);
	CHECK(strstr(why, "another daemon uses") != NULL);
	CHECK(other.skel == NULL);
}

/* The process that attached is killed; the programs stay. */
static void killed_owner_leaves_the_programs(void)
{
	struct cg c = cg_make("killed");
	int pidfd = -1;
	char why[512];
	struct seen s;

	load_close(&l); /* one at a time */
	if (!spawn_clone(-1, &pidfd)) {
		if (load_open(&l, pin_dir, why, sizeof(why)) || label_as(&c, 44, 1, 0))
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	CHECK_INT(spawn_wait(pidfd, 10000), 128 + SIGKILL);
	close(pidfd);
	CHECK_INT(load_open(&l, pin_dir, why, sizeof(why)), 0);
	CHECK_INT(load_gateway(&l, gateway.fd, gateway.id), 0);
	s = plain(&c);
	check_stamped(&s, 44, &c);
	load_release(&l, c.id);
	s = plain(&c);
	check_bare(&s);
	close(c.fd);
}

static void update_under_load(void)
{
	struct client c = client_of(&a);
	int bad = 0;

	for (int i = 0; i < 60; i++) {
		int pidfd = client_start(&c), conn;
		struct seen s = { 0 };

		/* Every link is renewed while the client is on its way. */
		CHECK_INT(label_as(&a, LABEL_A, 1, 0), 0);
		CHECK_INT(load_gateway(&l, gateway.fd, gateway.id), 0);
		conn = accept_from(&door, 3000);
		if (conn >= 0) {
			look(conn, &s);
			close(conn);
		}
		bad += spawn_wait(pidfd, 3000) || s.stamp_errno || s.stamp.label_id != LABEL_A;
		close(pidfd);
	}
	CHECK_INT(bad, 0);
	check_nothing_left();
}

static void removed_cgroup_is_no_obstacle(void)
{
	struct cg c = cg_make("gone"), again;

	CHECK_INT(label_as(&c, 55, 1, 0), 0);
	close(c.fd);
	CHECK_INT(cgroup_remove(&root, c.path), 0);
	again = cg_make("gone");
	CHECK(again.id != c.id);
	CHECK_INT(label_as(&again, 56, 1, 0), 0);
	load_release(&l, c.id);
	load_release(&l, again.id);
	close(again.fd);
}

static void second_instance_is_a_stranger(void)
{
	char dir[80], why[512];
	struct load other;
	struct cg gw2 = cg_make("gateway2");
	struct client c = client_of(&a);
	struct door_sockets d;
	struct seen s;

	snprintf(dir, sizeof(dir), "%s-2", pin_dir);
	CHECK_INT(load_open(&other, dir, why, sizeof(why)), 0);
	CHECK_INT(load_gateway(&other, gw2.fd, gw2.id), 0);
	CHECK_INT(door_listen(&other, gw2.fd, netns, 1, PORTS(6001, 6001), &d), 0);
	c.port = 6001;
	s = client_at(&c, &d);
	check_bare(&s);
	door_sockets_close(&other, &d);
	load_clean(&other, false);
	load_close(&other);
	close(gw2.fd);
	CHECK(access(dir, F_OK) < 0);
	s = plain(&a);
	check_stamped(&s, LABEL_A, &a);
}

/* ---------------------------------------------------------------- main */

static const struct test tests[] = {
	T(every_field_v4),
	T(every_field_v6),
	T(v4_mapped_takes_the_v4_path),
	T(unspecified_is_loopback),
	T(child_cgroup_inherits),
	T(innermost_label_wins),
	T(unlabelled_has_no_stamp),
	T(two_sandboxes_one_namespace),
	T(label_may_change),
	T(fastopen),
	T(quickack_decides),
	T(io_uring),
	T(mptcp),
	T(passed_socket_keeps_its_creator),
	T(socket_from_outside_has_no_stamp),
	T(one_shot),
	T(entry_goes_with_a_failed_connect),
	T(cross_check_differs),
	T(stale_entry_is_replaced),
	T(old_entries_are_swept),
	T(no_label_is_refused),
	T(no_storage_is_refused),
	T(inflight_is_bounded_for_each),
	T(other_ports_are_untouched),
	T(gateway_is_exempt),
	T(programs_in_place_run),
	T(other_options_are_untouched),
	T(taken_port_moves_the_door),
	T(door_without_ipv6),
	T(adoption_keeps_everything),
	T(programs_of_others),
	T(one_daemon_for_a_pin_directory),
	T(killed_owner_leaves_the_programs),
	T(update_under_load),
	T(removed_cgroup_is_no_obstacle),
	T(second_instance_is_a_stranger),
};

static void fastopen_on(void)
{
	write_file("/proc/sys/net/ipv4/tcp_fastopen", "3");
}

static int set_up(char *why, size_t size)
{
	int err;

	if (geteuid() != 0) {
		snprintf(why, size, "needs root");
		return -EPERM;
	}
	err = cgroup_root_open(&root, "auto", why, size);
	if (err)
		return err;
	snprintf(base, sizeof(base), "/sallyport-test-%d", getpid());
	snprintf(pin_dir, sizeof(pin_dir), "/sys/fs/bpf/sallyport-test-%d", getpid());
	gateway = cg_make("gateway");
	a = cg_make("a");
	inner = cg_make("a/inner");
	b = cg_make("b");
	out = cg_make("out");
	netns = netns_new(fastopen_on);
	if (gateway.fd < 0 || inner.fd < 0 || netns < 0) {
		snprintf(why, size, "cannot make cgroups or network namespaces");
		return -EPERM;
	}
	err = load_open(&l, pin_dir, why, size);
	if (err)
		return err;
	if (load_gateway(&l, gateway.fd, gateway.id) || label_as(&a, LABEL_A, 1, 0) ||
	    label_as(&b, LABEL_B, 1, 0) ||
	    door_listen(&l, gateway.fd, netns, 1, PORTS(PORT, PORT), &door)) {
		snprintf(why, size, "cannot attach or listen");
		return -EIO;
	}
	return 0;
}

static void tear_down(void)
{
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

int main(int argc, char **argv)
{
	char why[512] = "";
	unsigned passed = 0, failed = 0;
	int err;

	log_init("test", getenv("V") ? LOG_DEBUG : LOG_WARN);
	signal(SIGINT, on_interrupt);
	signal(SIGTERM, on_interrupt);
	err = set_up(why, sizeof(why));
	if (err) {
		printf("skipped: everything: %s\n", why);
		tear_down();
		/* Attaching that fails after loading worked is a failure, not a lack. */
		return err == -EIO;
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
		for (unsigned r = 0; r < GATE_REASON_MAX; r++)
			if (counted(r))
				printf("     %s: %llu since the last mark\n", gate_reason_name(r),
				       (unsigned long long)counted(r));
		failed++;
		printf("FAIL %s\n", tests[i].name);
	}
	tear_down();
	printf("%u passed, %u failed, %d skipped\n", passed, failed, skipped);
	return failed != 0;
}
