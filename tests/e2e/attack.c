/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attack WAY ADDRESS PORT [HOST]: one try to reach a provider past the door, as a program in a sandbox could make it.
 * Prints what came of it on one line: "refused ERRNO" (by which call), "sent N", or "answered FIRST-LINE".
 *
 *   tcp, tcp6only, fastopen, mptcp, uring    connect in that way and ask GET / with Host: HOST
 *   device:NAME                              the same from a socket bound to that interface
 *   repair                                   a socket that is put into repair mode and "connected"
 *   held:SECONDS                             connects, waits, and asks only then
 *   idle:N                                   opens N connections at once and holds them for two seconds
 *   udp, udplite                             one datagram
 *   raw:PROTOCOL                             one packet made by hand (IPPROTO_RAW)
 *   packet:NAME                              one frame past the IP layer, on that interface (AF_PACKET)
 *   sctp, vsock                              a socket of that kind
 *   receive                                  takes a socket from standard input (SCM_RIGHTS) and asks on it
 *   send:COMMAND…                            connects, and hands the socket to a child that runs the rest
 *   netns                                    the same as tcp, in a network namespace of its own
 *   bpf                                      tries to load a program
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef MSG_FASTOPEN
#define MSG_FASTOPEN 0x20000000
#endif
#define ANSWER_TIMEOUT_MS 4000

struct goal {
	struct sockaddr_storage sa;
	socklen_t len;
	const char *host;
	unsigned port;
};

static int refused(const char *call)
{
	printf("refused %s by %s\n", strerrorname_np(errno), call);
	return 1;
}

static int goal_parse(const char *address, const char *port, const char *host, struct goal *g)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)&g->sa;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&g->sa;

	*g = (struct goal){ .host = host, .port = (unsigned)strtoul(port, NULL, 10) };
	if (strchr(address, ':')) {
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons((uint16_t)g->port);
		g->len = sizeof(*sin6);
		return inet_pton(AF_INET6, address, &sin6->sin6_addr);
	}
	sin->sin_family = AF_INET;
	sin->sin_port = htons((uint16_t)g->port);
	g->len = sizeof(*sin);
	return inet_pton(AF_INET, address, &sin->sin_addr);
}

/* ---------------------------------------------------------------- streams */

static int request_text(const struct goal *g, char *ret, size_t size)
{
	return snprintf(ret, size, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", g->host);
}

static int answer(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char text[512];
	ssize_t n;

	if (poll(&p, 1, ANSWER_TIMEOUT_MS) != 1) {
		puts("silent");
		return 1;
	}
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return refused("read");
	text[n] = '\0';
	text[strcspn(text, "\r\n")] = '\0';
	printf(n ? "answered %s\n" : "closed%s\n", text);
	return 0;
}

static int ask(int fd, const struct goal *g)
{
	char text[512];
	int n = request_text(g, text, sizeof(text));

	return write(fd, text, (size_t)n) == n ? answer(fd) : refused("write");
}

static int stream(const struct goal *g, int protocol)
{
	return socket(g->sa.ss_family, SOCK_STREAM, protocol);
}

static int tcp(const struct goal *g, int fd)
{
	struct timeval patience = { 4, 0 };

	if (fd < 0)
		return refused("socket");
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)); /* of connect() too */
	return connect(fd, (const struct sockaddr *)&g->sa, g->len) < 0 ? refused("connect") : ask(fd, g);
}

static int tcp6only(const struct goal *g)
{
	int fd = stream(g, 0), on = 1;

	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	return tcp(g, fd);
}

static int fastopen(const struct goal *g)
{
	int fd = stream(g, 0), n;
	char text[512];

	n = request_text(g, text, sizeof(text));
	if (sendto(fd, text, (size_t)n, MSG_FASTOPEN, (const struct sockaddr *)&g->sa, g->len) < 0)
		return refused("sendto");
	return answer(fd);
}

static int on_device(const struct goal *g, const char *name)
{
	int fd = stream(g, 0);

	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name) + 1) < 0)
		return refused("SO_BINDTODEVICE");
	return tcp(g, fd);
}

static int repair(const struct goal *g)
{
	int fd = stream(g, 0), on = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0)
		return refused("TCP_REPAIR");
	if (connect(fd, (const struct sockaddr *)&g->sa, g->len) < 0)
		return refused("connect");
	on = 0;
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) < 0)
		return refused("TCP_REPAIR off");
	return ask(fd, g);
}

static int held(const struct goal *g, const char *seconds)
{
	int fd = stream(g, 0);

	if (connect(fd, (const struct sockaddr *)&g->sa, g->len) < 0)
		return refused("connect");
	puts("connected");
	fflush(stdout);
	usleep((useconds_t)(atof(seconds) * 1e6));
	return ask(fd, g);
}

static int idle(const struct goal *g, long wanted)
{
	int made = 0;

	for (long i = 0; i < wanted; i++) {
		int fd = socket(g->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

		if (fd < 0)
			break;
		made += connect(fd, (const struct sockaddr *)&g->sa, g->len) == 0 || errno == EINPROGRESS;
	}
	sleep(2);
	printf("sent %d\n", made);
	return 0;
}

static int uring(const struct goal *g)
{
	struct io_uring_params p = { 0 };
	int ring = (int)syscall(SYS_io_uring_setup, 2, &p), fd = stream(g, 0), res;
	struct io_uring_sqe *sqe;
	char *sq, *cq;

	if (ring < 0)
		return refused("io_uring_setup");
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * sizeof(unsigned), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		  IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED,
		  ring, IORING_OFF_CQ_RING);
	sqe = mmap(NULL, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED)
		return refused("mmap");
	*sqe = (struct io_uring_sqe){ .opcode = IORING_OP_CONNECT, .fd = fd, .addr = (uintptr_t)&g->sa, .off = g->len };
	*(unsigned *)(sq + p.sq_off.array) = 0;
	__atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return refused("io_uring_enter");
	res = ((struct io_uring_cqe *)(cq + p.cq_off.cqes))->res;
	if (res < 0) {
		errno = -res;
		return refused("connect");
	}
	return ask(fd, g);
}

/* ---------------------------------------------------------------- packets */

static int sent(ssize_t n, const char *call)
{
	if (n < 0)
		return refused(call);
	printf("sent %zd\n", n);
	return 0;
}

static int datagram(const struct goal *g, int protocol)
{
	int fd = socket(g->sa.ss_family, SOCK_DGRAM, protocol);

	if (fd < 0)
		return refused("socket");
	return sent(sendto(fd, "attack", 6, 0, (const struct sockaddr *)&g->sa, g->len), "sendto");
}

struct frame {
	struct iphdr ip;
	struct udphdr udp;
	char text[6];
} __attribute__((packed));

static uint16_t ip_sum(const struct frame *f)
{
	uint16_t words[sizeof(f->ip) / 2];
	uint32_t sum = 0;

	memcpy(words, f, sizeof(words));
	for (unsigned i = 0; i < sizeof(words) / sizeof(*words); i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~(sum + (sum >> 16));
}

static struct frame frame_make(const struct goal *g, int protocol)
{
	struct frame f = {
		.ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = (uint8_t)protocol, .tot_len = htons(sizeof(f)) },
		.udp = { .source = htons(4444), .dest = htons((uint16_t)g->port), .len = htons(sizeof(f) - sizeof(f.ip)) },
		.text = "attack"
	};

	f.ip.daddr = ((const struct sockaddr_in *)&g->sa)->sin_addr.s_addr;
	f.ip.saddr = htonl(0x0a4d0002); /* 10.77.0.2 */
	f.ip.check = ip_sum(&f);
	return f;
}

static int raw(const struct goal *g, int protocol)
{
	struct frame f = frame_make(g, protocol);
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

	if (fd < 0)
		return refused("socket");
	return sent(sendto(fd, &f, sizeof(f), 0, (const struct sockaddr *)&g->sa, g->len), "sendto");
}

static int packet(const struct goal *g, const char *device)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_IP),
				  .sll_ifindex = (int)if_nametoindex(device),
				  .sll_halen = 6,
				  .sll_addr = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } };
	struct frame f = frame_make(g, IPPROTO_UDP);
	int fd = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP));

	if (fd < 0)
		return refused("socket");
	return sent(sendto(fd, &f, sizeof(f), 0, (struct sockaddr *)&to, sizeof(to)), "sendto");
}

static int vsock(void)
{
	struct sockaddr_vm vm = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 443 };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0)
		return refused("socket");
	return connect(fd, (struct sockaddr *)&vm, sizeof(vm)) < 0 ? refused("connect") : sent(0, "connect");
}

/* ---------------------------------------------------------------- sockets of others */

static int receive(const struct goal *g)
{
	char byte, room[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	struct cmsghdr *c;
	int fd;

	if (recvmsg(STDIN_FILENO, &m, 0) != 1 || !(c = CMSG_FIRSTHDR(&m)))
		return refused("recvmsg");
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return tcp(g, fd);
}

/* The socket is made here, in this program's cgroup, and used by the command. */
static int send_to(const struct goal *g, char **command)
{
	char byte = 'x', room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	int fd = stream(g, 0), pair[2];
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	if (fd < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return refused("socket");
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(pair[0], &m, 0) != 1)
		return refused("sendmsg");
	dup2(pair[1], STDIN_FILENO);
	execvp(command[0], command);
	return refused("exec");
}

static int load_program(void)
{
	struct bpf_insn code[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1 }, { .code = BPF_JMP | BPF_EXIT } };
	union bpf_attr attr = { .prog_type = BPF_PROG_TYPE_CGROUP_SKB,
				.insns = (uintptr_t)code,
				.insn_cnt = 2,
				.license = (uintptr_t) "GPL" };

	if (syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr)) < 0)
		return refused("bpf");
	puts("sent 0");
	return 0;
}

int main(int argc, char **argv)
{
	const char *way = argc > 1 ? argv[1] : "", *word = strchr(way, ':');
	struct goal g;

	if (argc < 4 || !goal_parse(argv[2], argv[3], argc > 4 ? argv[4] : "api.anthropic.com", &g)) {
		fprintf(stderr, "usage: attack WAY ADDRESS PORT [HOST] (the ways stand at the head of tests/e2e/attack.c)\n");
		return 2;
	}
	word = word ? word + 1 : "";
#define IS(name) (!strcmp(way, name) || (!strncmp(way, name ":", sizeof(name))))
	if (IS("tcp"))
		return tcp(&g, stream(&g, 0));
	if (IS("tcp6only"))
		return tcp6only(&g);
	if (IS("fastopen"))
		return fastopen(&g);
	if (IS("mptcp"))
		return tcp(&g, stream(&g, IPPROTO_MPTCP));
	if (IS("uring"))
		return uring(&g);
	if (IS("device"))
		return on_device(&g, word);
	if (IS("repair"))
		return repair(&g);
	if (IS("held"))
		return held(&g, word);
	if (IS("idle"))
		return idle(&g, strtol(word, NULL, 10));
	if (IS("udp"))
		return datagram(&g, 0);
	if (IS("udplite"))
		return datagram(&g, IPPROTO_UDPLITE);
	if (IS("raw"))
		return raw(&g, (int)strtol(word, NULL, 10));
	if (IS("packet"))
		return packet(&g, word);
	if (IS("sctp"))
		return tcp(&g, stream(&g, IPPROTO_SCTP));
	if (IS("vsock"))
		return vsock();
	if (IS("receive"))
		return receive(&g);
	if (IS("send"))
		return send_to(&g, argv + 5);
	if (IS("netns"))
		return unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0 ? refused("unshare") : tcp(&g, stream(&g, 0));
	if (IS("bpf"))
		return load_program();
	fprintf(stderr, "attack: %s is no way\n", way);
	return 2;
}
