/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS role, run in the test's process: the test is the agent at the channel, the clients, the name servers, and
 * the kernel that tells who was asked.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "agent/dns.h"
#include "common/ipc.h"
#include "tests/unit/test.h"

#define HOST_NETNS 1
#define OTHER_NETNS 2

static struct dns d;
static struct config config;
static int agent; /* its end of the channel */
static struct stamp stamp;
static bool stamped;
static int stamp_option;
static uint16_t stamp_next_port; /* of the server in the stamps behind the next one; 0: the same */

/* The name server: a datagram socket and a listener on the same port. */
static int server_udp, server_tcp;
static uint16_t server_port;

static inline bool fake_stamp(int fd, int option, struct stamp *ret)
{
	(void)fd;
	stamp_option = option;
	*ret = stamp;
	stamp.orig_port = stamp_next_port ? stamp_next_port : stamp.orig_port;
	return stamped;
}

/* ------------------------------------------------------------------ sockets */

static inline int bound(const char *addr, int type, uint16_t *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(*port) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(sa);

	inet_pton(AF_INET, addr, &sa.sin_addr);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || getsockname(fd, (struct sockaddr *)&sa, &len) < 0 ||
	    (type == SOCK_STREAM && listen(fd, 128) < 0)) {
		close(fd);
		return -1;
	}
	*port = ntohs(sa.sin_port);
	return fd;
}

static inline int connected(int type, uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	CHECK_INT(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static inline void server_open(void)
{
	do {
		server_port = 0;
		server_udp = bound("127.0.0.1", SOCK_DGRAM, &server_port);
		server_tcp = bound("127.0.0.1", SOCK_STREAM, &server_port);
	} while (server_tcp < 0 && !close(server_udp));
}

/* Runs the role until `fd` can be read; false: it cannot within that time. */
static inline bool readable_ms(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t until;

	loop_update_time(&d.loop);
	until = d.loop.now_ns + (uint64_t)ms * NSEC_PER_MSEC;
	while (d.loop.now_ns < until) {
		loop_once(&d.loop, 1);
		if (poll(&p, 1, 0) > 0)
			return true;
	}
	return false;
}

static inline bool readable(int fd)
{
	return readable_ms(fd, 2000);
}

static inline void spin_ms(int ms)
{
	readable_ms(-1, ms);
}

/* ------------------------------------------------------------------ the agent */

static inline void send_msg(uint16_t type, const void *payload, size_t len, const int *fds, unsigned n_fds)
{
	CHECK_INT(ipc_send(agent, type, 0, payload, len, fds, n_fds), 0);
	spin_ms(2);
}

static inline bool next_msg(uint16_t type, struct ipc_message *m)
{
	return readable(agent) && ipc_recv(agent, m) == 1 && m->head.type == type;
}

static inline struct msg_name name_msg(const char *text, uint32_t id, uint32_t active)
{
	struct msg_name msg = { .name_id = id, .active = active, .vip4 = { 198, 18, 0, (uint8_t)id },
				.vip6 = { 0xfd, [15] = (uint8_t)id } };

	str_copy(msg.name, sizeof(msg.name), str_of(text));
	return msg;
}

static inline void send_name(const char *text, uint32_t id, uint32_t active)
{
	struct msg_name msg = name_msg(text, id, active);

	send_msg(MSG_NAME, &msg, sizeof(msg), NULL, 0);
}

static inline void send_pattern(const char *text)
{
	struct msg_name msg = name_msg(text, 0, 1);

	send_msg(MSG_DNS_PATTERN, &msg, sizeof(msg), NULL, 0);
}

struct ports {
	uint16_t udp, tcp;
};

static inline struct ports send_door(uint64_t netns, bool is_host)
{
	struct msg_dns_door msg = { .netns_cookie = netns, .is_host = is_host };
	struct ports p = { 0, 0 };
	int fds[3] = { bound("127.0.0.1", SOCK_DGRAM, &p.udp), bound("127.0.0.1", SOCK_STREAM, &p.tcp),
		       socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0) };

	send_msg(MSG_DNS_DOOR, &msg, sizeof(msg), fds, 3);
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
	return p;
}

static inline void set_server(const char *addr, uint16_t port)
{
	stamp = (struct stamp){ .version = STAMP_VERSION, .why = STAMP_DNS, .orig_port = port };
	stamp.family = strchr(addr, ':') ? AF_INET6 : AF_INET;
	inet_pton((int)stamp.family, addr, stamp.orig_addr);
	stamped = true;
}

static inline void setup(void)
{
	int pair[2];

	config = (struct config){ 0 };
	CHECK_INT(ipc_pair(pair), 0);
	agent = pair[0];
	CHECK_INT(dns_init(&d, pair[1], &config), 0);
	d.stamp_of = fake_stamp;
	d.resolv_conf = "/nonexistent";
	server_open();
	set_server("127.0.0.1", server_port);
}

static inline void teardown(void)
{
	int channel = d.channel;

	dns_fini(&d);
	CHECK_INT(d.n_doors + d.n_conns + d.n_queries + d.n_wants, 0);
	close(channel);
	close(agent);
	close(server_udp);
	close(server_tcp);
}

/* ------------------------------------------------------------------ messages */

struct message {
	uint8_t bytes[4096];
	size_t n;
};

static inline struct message query(const char *name, enum dns_type type, uint16_t id)
{
	struct dns_question q;
	struct message m;

	m.n = dns_query_build(str_of(name), type, id, m.bytes, &q);
	return m;
}

/* What a server makes of a query: an answer with an address, and some bytes that nobody understands. */
static inline struct message reply_to(const struct message *asked, const uint8_t last)
{
	struct dns_question q;
	struct dns_answer a;
	struct message m = { .n = 0 };

	CHECK_INT(dns_parse((struct str){ (const char *)asked->bytes, asked->n }, &q), 0);
	dns_answer_begin(&a, &q, DNS_NOERROR);
	dns_answer_addr(&a, q.type == DNS_A ? AF_INET : AF_INET6, (uint8_t[16]){ 203, 0, 113, last }, 120);
	memcpy(m.bytes, a.bytes, a.n);
	memcpy(m.bytes + a.n, "trailing", 8);
	m.n = a.n + 8;
	return m;
}

static inline unsigned rcode(const struct message *m)
{
	return m->n < DNS_HEADER_BYTES ? 99 : m->bytes[3] & DNS_RCODE;
}

static inline uint16_t id_of(const struct message *m)
{
	return (uint16_t)(m->bytes[0] << 8 | m->bytes[1]);
}

static inline bool same_but_id(const struct message *a, const struct message *b)
{
	return a->n == b->n && a->n > 2 && !memcmp(a->bytes + 2, b->bytes + 2, a->n - 2);
}

static inline void send_to(int fd, const struct message *m)
{
	CHECK_INT(send(fd, m->bytes, m->n, 0), m->n);
}

static inline struct message receive(int fd)
{
	struct message m = { .n = 0 };
	ssize_t n = readable(fd) ? recv(fd, m.bytes, sizeof(m.bytes), 0) : -1;

	CHECK(n >= 0);
	m.n = n < 0 ? 0 : (size_t)n;
	return m;
}

static inline struct message served(struct sockaddr_in *ret_from)
{
	struct message m = { .n = 0 };
	socklen_t len = sizeof(*ret_from);
	ssize_t n = -1;

	if (readable(server_udp))
		n = recvfrom(server_udp, m.bytes, sizeof(m.bytes), 0, (struct sockaddr *)ret_from, &len);
	CHECK(n > 0);
	m.n = n < 0 ? 0 : (size_t)n;
	return m;
}

static inline void serve(int fd, const struct message *m, const struct sockaddr_in *to)
{
	CHECK_INT(sendto(fd, m->bytes, m->n, 0, (const struct sockaddr *)to, sizeof(*to)), m->n);
}

/* The address of an answer: its last byte, or -1. */
static inline int address_in(const struct message *m)
{
	struct str msg = { (const char *)m->bytes, m->n };
	struct dns_question q;
	struct dns_addresses found;

	if (dns_parse(msg, &q) || dns_addresses(msg, &q, &found) || found.n != 1)
		return -1;
	return found.addr[0][q.type == DNS_A ? 3 : 15];
}

/* ------------------------------------------------------------------ streams */

static inline void send_framed(int fd, const struct message *m)
{
	uint8_t len[2] = { (uint8_t)(m->n >> 8), (uint8_t)m->n };

	CHECK_INT(send(fd, len, 2, MSG_MORE), 2);
	send_to(fd, m);
}

/* The next message of a stream, byte by byte. */
static inline struct message receive_framed(int fd)
{
	uint8_t bytes[4096 + 2];
	struct message m = { .n = 0 };
	size_t n = 0;

	while (n < 2 || n < 2U + (bytes[0] << 8 | bytes[1])) {
		if (!readable(fd) || recv(fd, bytes + n, 1, 0) != 1) {
			CHECK(!"the stream ended");
			return m;
		}
		n++;
	}
	m.n = n - 2;
	memcpy(m.bytes, bytes + 2, m.n);
	return m;
}

static inline bool ends(int fd)
{
	char byte;

	return readable(fd) && recv(fd, &byte, 1, 0) <= 0;
}
