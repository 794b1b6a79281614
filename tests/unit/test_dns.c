/* SPDX-License-Identifier: Apache-2.0 */
/* The DNS role: datagrams, names of wildcards, providers' addresses, and the process as a whole. */
#include <sys/mman.h>
#include <sys/wait.h>

#include "common/role.h"
#include "tests/unit/dns_role.h"

/* ------------------------------------------------------------------ datagrams */

static void provider_name_is_answered_here(void)
{
	struct message q = query("api.example.com", DNS_A, 77), a;
	struct sockaddr_in me;
	socklen_t len = sizeof(me);
	struct ports door;
	int client;

	setup();
	send_name("api.example.com", 5, 1);
	door = send_door(OTHER_NETNS, false);
	client = connected(SOCK_DGRAM, door.udp);
	send_to(client, &q);
	a = receive(client);
	CHECK_INT(address_in(&a), 5);
	CHECK_INT(id_of(&a), 77);
	getsockname(client, (struct sockaddr *)&me, &len);
	CHECK_INT(stamp_option, STAMP_DATAGRAM(ntohs(me.sin_port), 77));
	/* No IPv6 there: no address of it. */
	q = query("api.example.com", DNS_AAAA, 78);
	send_to(client, &q);
	a = receive(client);
	CHECK(rcode(&a) == DNS_NOERROR && address_in(&a) == -1);
	CHECK(!readable_ms(server_udp, 20));
	send_name("api.example.com", 5, 0);
	send_to(client, &q);
	CHECK(readable(server_udp));
	close(client);
	teardown();
}

static void others_are_passed_on_as_they_are(void)
{
	struct message q = query("Other.TEST", DNS_A, 1), at_server, r, a;
	struct sockaddr_in from;
	struct ports door;
	unsigned same_id = 0, same_port = 0;
	uint16_t last_port = 0;
	int client;

	setup();
	door = send_door(OTHER_NETNS, false);
	client = connected(SOCK_DGRAM, door.udp);
	for (unsigned i = 0; i < 4; i++) {
		send_to(client, &q);
		at_server = served(&from);
		CHECK(same_but_id(&q, &at_server));
		same_id += id_of(&at_server) == 1;
		same_port += from.sin_port == last_port;
		last_port = from.sin_port;
		r = reply_to(&at_server, 9);
		serve(server_udp, &r, &from);
		a = receive(client);
		CHECK(same_but_id(&r, &a));
		CHECK_INT(id_of(&a), 1);
	}
	CHECK(same_id < 2 && same_port < 2);
	CHECK_INT(d.n_queries, 0);
	/* A program that uses IPv6 sockets for everything. */
	set_server("::ffff:127.0.0.1", server_port);
	send_to(client, &q);
	CHECK(readable(server_udp));
	close(client);
	teardown();
}

static void forged_replies_are_dropped(void)
{
	struct message q = query("other.test", DNS_A, 1), wrong_q = query("another.test", DNS_A, 1), at_server, r, bad, a;
	struct sockaddr_in from;
	struct ports door;
	uint16_t port = 0;
	int client, forger;

	setup();
	door = send_door(OTHER_NETNS, false);
	client = connected(SOCK_DGRAM, door.udp);
	forger = bound("127.0.0.1", SOCK_DGRAM, &port);
	send_to(client, &q);
	at_server = served(&from);
	bad = r = reply_to(&at_server, 9);
	serve(forger, &bad, &from); /* from another port */
	bad.bytes[1] ^= 1;
	serve(server_udp, &bad, &from); /* another id */
	wrong_q.bytes[0] = at_server.bytes[0];
	wrong_q.bytes[1] = at_server.bytes[1];
	bad = reply_to(&wrong_q, 66);
	serve(server_udp, &bad, &from); /* another question */
	serve(server_udp, &at_server, &from); /* a query */
	bad.n = 3;
	serve(server_udp, &bad, &from); /* nothing */
	CHECK(!readable_ms(client, 20));
	CHECK_INT(d.n_queries, 1);
	serve(server_udp, &r, &from);
	a = receive(client);
	CHECK(same_but_id(&r, &a));
	serve(server_udp, &r, &from); /* the same again is too late */
	CHECK(!readable_ms(client, 20));
	close(client);
	close(forger);
	teardown();
}

static void equal_ids_do_not_mix(void)
{
	struct message q[2] = { query("a.test", DNS_A, 7), query("b.test", DNS_A, 7) }, at_server[2], r, a;
	struct sockaddr_in from[2];
	struct ports door;
	int client[2];

	setup();
	door = send_door(OTHER_NETNS, false);
	for (unsigned i = 0; i < 2; i++) {
		client[i] = connected(SOCK_DGRAM, door.udp);
		send_to(client[i], &q[i]);
		at_server[i] = served(&from[i]);
	}
	CHECK(id_of(&at_server[0]) != id_of(&at_server[1]));
	for (unsigned i = 2; i-- > 0;) {
		r = reply_to(&at_server[i], (uint8_t)(10 + i));
		serve(server_udp, &r, &from[i]);
		a = receive(client[i]);
		CHECK_INT(address_in(&a), 10 + i);
		CHECK_INT(id_of(&a), 7);
		close(client[i]);
	}
	teardown();
}

static void without_stamp_nothing(void)
{
	struct message q = query("api.example.com", DNS_A, 1);
	struct ports door;
	char byte;
	int client, tcp;

	setup();
	send_name("api.example.com", 5, 1);
	door = send_door(OTHER_NETNS, false);
	client = connected(SOCK_DGRAM, door.udp);
	stamped = false;
	send_to(client, &q);
	CHECK(!readable_ms(client, 20));
	stamped = true;
	stamp.why = STAMP_EXPLICIT;
	send_to(client, &q);
	CHECK(!readable_ms(client, 20));
	stamp.why = STAMP_DNS;
	stamp.peer = STAMP_PEER_DIFFERS;
	tcp = connected(SOCK_STREAM, door.tcp);
	CHECK(readable(tcp));
	CHECK_INT(recv(tcp, &byte, 1, 0), 0);
	CHECK_INT(stamp_option, STAMP_GET);
	CHECK_INT(d.n_unstamped, 3);
	close(client);
	close(tcp);
	teardown();
}

static void silence_is_silence(void)
{
	struct message q = query("other.test", DNS_A, 1), at_server, r;
	struct sockaddr_in from;
	struct ports door;
	int client;

	setup();
	d.query_timeout_ns = 30 * NSEC_PER_MSEC;
	door = send_door(OTHER_NETNS, false);
	client = connected(SOCK_DGRAM, door.udp);
	send_to(client, &q);
	at_server = served(&from);
	CHECK_INT(d.n_queries, 1);
	CHECK(!readable_ms(client, 60));
	CHECK_INT(d.n_queries, 0);
	r = reply_to(&at_server, 9);
	serve(server_udp, &r, &from);
	CHECK(!readable_ms(client, 20));
	close(client);
	teardown();
}

static void no_network_is_told_at_once(void)
{
	static const char *const servers[] = { "127.0.0.1", "255.255.255.255", "2001:db8::1", "::ffff:127.0.0.1" };
	struct message q = query("other.test", DNS_A, 3), a;
	uint16_t closed = 0;
	struct ports door;
	int client;

	setup();
	close(bound("127.0.0.1", SOCK_DGRAM, &closed));
	door = send_door(OTHER_NETNS, false);
	client = connected(SOCK_DGRAM, door.udp);
	for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
		set_server(servers[i], closed);
		send_to(client, &q);
		CHECK(readable_ms(client, 500));
		a = receive(client);
		CHECK_INT(rcode(&a), DNS_SERVFAIL);
		CHECK_INT(id_of(&a), 3);
	}
	/* An error that waits on the socket does not hurt the next server, which is alive. */
	set_server("127.0.0.1", closed);
	stamp_next_port = server_port;
	send_to(client, &q);
	send_to(client, &q);
	CHECK(readable(server_udp));
	a = receive(client);
	CHECK_INT(rcode(&a), DNS_SERVFAIL);
	CHECK(!readable_ms(client, 20));
	CHECK_INT(d.n_queries, 1);
	stamp_next_port = 0;
	close(client);
	teardown();
}

static void too_many_are_refused(void)
{
	struct message q = query("other.test", DNS_A, 1), a;
	struct ports door, other;
	int client;

	setup();
	door = send_door(OTHER_NETNS, false);
	other = send_door(3, false);
	client = connected(SOCK_DGRAM, door.udp);
	for (unsigned i = 0; i < DNS_DOOR_QUERIES_MAX; i++) {
		send_to(client, &q);
		loop_once(&d.loop, 0);
	}
	spin_ms(10);
	CHECK_INT(d.n_queries, DNS_DOOR_QUERIES_MAX);
	CHECK(!readable_ms(client, 1));
	send_to(client, &q);
	a = receive(client);
	CHECK_INT(rcode(&a), DNS_SERVFAIL);
	close(client);
	/* Another namespace has its own. */
	client = connected(SOCK_DGRAM, other.udp);
	send_to(client, &q);
	CHECK(!readable_ms(client, 10));
	CHECK_INT(d.n_queries, DNS_DOOR_QUERIES_MAX + 1);
	close(client);
	teardown();
}

static void a_namespace_with_ipv6(void)
{
	struct message q = query("api.example.com", DNS_AAAA, 1), a, at_server, r;
	struct msg_dns_door msg = { .netns_cookie = OTHER_NETNS };
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT }, from;
	struct ports p = { 0, 0 };
	socklen_t len = sizeof(sa);
	int fds[6] = { -1, -1, -1, socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0),
		       socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0) };
	int server = socket(AF_INET6, SOCK_DGRAM, 0), client;

	if (bind(fds[3], (struct sockaddr *)&sa, sizeof(sa)) < 0 || bind(server, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		printf("(no IPv6 here) ");
		return;
	}
	setup();
	fds[0] = bound("127.0.0.1", SOCK_DGRAM, &p.udp);
	fds[1] = bound("127.0.0.1", SOCK_STREAM, &p.tcp);
	fds[2] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	CHECK_INT(listen(fds[4], 1), 0);
	send_name("api.example.com", 5, 1);
	send_msg(MSG_DNS_DOOR, &msg, sizeof(msg), fds, 6);
	getsockname(fds[3], (struct sockaddr *)&sa, &len);
	client = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	CHECK_INT(connect(client, (struct sockaddr *)&sa, sizeof(sa)), 0);
	send_to(client, &q);
	a = receive(client);
	CHECK_INT(address_in(&a), 5);
	getsockname(server, (struct sockaddr *)&sa, &len);
	set_server("::1", ntohs(sa.sin6_port));
	q = query("other.test", DNS_AAAA, 2);
	send_to(client, &q);
	CHECK(readable(server));
	len = sizeof(from);
	at_server.n = (size_t)recvfrom(server, at_server.bytes, sizeof(at_server.bytes), 0, (struct sockaddr *)&from, &len);
	r = reply_to(&at_server, 1);
	CHECK_INT(sendto(server, r.bytes, r.n, 0, (struct sockaddr *)&from, len), r.n);
	a = receive(client);
	CHECK(same_but_id(&r, &a));
	for (unsigned i = 0; i < 6; i++)
		close(fds[i]);
	close(client);
	close(server);
	teardown();
}

/* ------------------------------------------------------------------ wildcards */

static void wildcard_names_are_wanted_once(void)
{
	struct message q = query("A.wild.test", DNS_A, 1), aaaa = query("a.wild.test", DNS_AAAA, 2), a;
	struct ipc_message m;
	struct ports door;
	int udp, tcp;

	setup();
	send_pattern("*.wild.test");
	door = send_door(OTHER_NETNS, false);
	udp = connected(SOCK_DGRAM, door.udp);
	tcp = connected(SOCK_STREAM, door.tcp);
	send_to(udp, &q);
	send_to(udp, &aaaa);
	send_framed(tcp, &q);
	CHECK(next_msg(MSG_NAME_WANTED, &m));
	CHECK_STR(((struct msg_name_wanted *)(void *)m.payload)->name, "a.wild.test");
	CHECK(!readable_ms(agent, 20));
	CHECK_INT(d.n_wants, 1);
	CHECK(!readable_ms(udp, 5));
	send_name("a.wild.test", 6, 1);
	for (unsigned i = 0; i < 2; i++) {
		a = receive(udp);
		CHECK(id_of(&a) == 1 ? address_in(&a) == 6 : address_in(&a) == -1 && rcode(&a) == DNS_NOERROR);
	}
	a = receive_framed(tcp);
	CHECK_INT(address_in(&a), 6);
	CHECK_INT(d.n_queries + d.n_wants, 0);
	CHECK(!readable_ms(server_udp, 5));
	close(udp);
	close(tcp);
	teardown();
}

static void wildcard_names_that_do_not_come(void)
{
	struct message q = query("a.wild.test", DNS_A, 1), a;
	struct ipc_message m;
	struct ports door;
	char text[32];
	int udp, tcp;

	setup();
	d.want_timeout_ns = 30 * NSEC_PER_MSEC;
	send_pattern("*.wild.test");
	door = send_door(OTHER_NETNS, false);
	udp = connected(SOCK_DGRAM, door.udp);
	tcp = connected(SOCK_STREAM, door.tcp);
	send_to(udp, &q);
	send_framed(tcp, &q);
	a = receive(udp);
	CHECK_INT(rcode(&a), DNS_SERVFAIL);
	a = receive_framed(tcp);
	CHECK_INT(rcode(&a), DNS_SERVFAIL);
	CHECK(next_msg(MSG_NAME_WANTED, &m));
	/* The agent refuses: nobody waits for the timer. */
	d.want_timeout_ns = 10 * NSEC_PER_SEC;
	send_to(udp, &q);
	CHECK(next_msg(MSG_NAME_WANTED, &m));
	send_name("a.wild.test", 0, 0);
	a = receive(udp);
	CHECK_INT(rcode(&a), DNS_SERVFAIL);
	/* Many at once are refused, and the agent is not flooded. */
	for (unsigned i = 0; i < DNS_WANTS_MAX + 1; i++) {
		snprintf(text, sizeof(text), "n%u.wild.test", i);
		q = query(text, DNS_A, 3);
		send_to(udp, &q);
		spin_ms(1);
	}
	CHECK_INT(d.n_wants, DNS_WANTS_MAX);
	a = receive(udp);
	CHECK_INT(rcode(&a), DNS_SERVFAIL);
	/* A client that leaves while its name is awaited. */
	q = query("n0.wild.test", DNS_A, 3);
	send_framed(tcp, &q);
	spin_ms(5);
	close(tcp);
	send_name("n0.wild.test", 7, 1);
	a = receive(udp);
	CHECK_INT(address_in(&a), 7);
	CHECK(!readable_ms(server_udp, 5));
	close(udp);
	teardown();
}

/* ------------------------------------------------------------------ providers' addresses */

static void expect_address(int family, unsigned last, unsigned ttl)
{
	struct ipc_message m;
	const struct msg_address *msg = (const void *)m.payload;

	CHECK(next_msg(MSG_ADDRESS, &m));
	CHECK_INT(m.head.len, sizeof(*msg));
	CHECK_INT(msg->name_id, 5);
	CHECK_INT(msg->family, family);
	CHECK_INT(msg->addr[3], last);
	CHECK_INT(msg->ttl_s, ttl);
}

static void addresses_are_told(void)
{
	static const struct str localhost = STR_INIT("127.0.0.1");
	struct message at_server, r;
	struct sockaddr_in from;
	struct dns_question q;

	setup();
	config.force.resolvers = &localhost;
	config.force.n_resolvers = 1;
	d.resolver_port = server_port;
	send_name("api.example.com", 5, 1);
	CHECK(!readable_ms(server_udp, 10)); /* no door of the host yet */
	send_door(HOST_NETNS, true);
	for (unsigned i = 0; i < 2; i++) {
		at_server = served(&from);
		CHECK_INT(dns_parse((struct str){ (char *)at_server.bytes, at_server.n }, &q), 0);
		CHECK_STR(q.name, "api.example.com");
		CHECK(q.flags == DNS_FLAG_RD && q.edns);
		r = reply_to(&at_server, 7);
		serve(server_udp, &r, &from);
		expect_address(q.type == DNS_A ? AF_INET : AF_INET6, 7, 120);
	}
	CHECK_INT(d.n_lookups, 0);
	CHECK(!readable_ms(server_udp, 50)); /* not before the TTL is over */
	/* A new door of the host does not ask again, a name that comes back does. */
	send_door(HOST_NETNS, true);
	CHECK(!readable_ms(server_udp, 20));
	send_name("api.example.com", 5, 0);
	send_name("api.example.com", 5, 1);
	at_server = served(&from);
	send_name("api.example.com", 5, 0);
	r = reply_to(&at_server, 7);
	serve(server_udp, &r, &from);
	CHECK(!readable_ms(agent, 20));
	CHECK_INT(d.n_lookups, 0);
	teardown();
}

static void the_next_resolver_has_its_turn(void)
{
	char path[] = "/tmp/sallyport-resolv-XXXXXX";
	const char text[] = "# nameserver 127.0.0.9\nsearch a.test\nnameserver\t127.0.0.1 \nnameserver 127.0.0.2\noptions edns0\n";
	struct message at_server, r;
	struct sockaddr_in from;
	int fd = mkstemp(path), second;
	socklen_t len = sizeof(from);

	setup();
	CHECK_INT(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
	second = bound("127.0.0.2", SOCK_DGRAM, &server_port);
	d.resolv_conf = path;
	d.resolver_port = server_port;
	d.lookup_timeout_ns = 200 * NSEC_PER_MSEC;
	send_door(HOST_NETNS, true);
	send_name("api.example.com", 5, 1);
	CHECK_INT(d.n_resolvers, 2);
	/* One type is refused by the first, the other never answered. */
	at_server = served(&from);
	at_server.bytes[2] |= 0x80;
	at_server.bytes[3] |= DNS_REFUSED;
	serve(server_udp, &at_server, &from);
	for (unsigned i = 0; i < 2; i++) {
		CHECK(readable(second));
		at_server.n = (size_t)recvfrom(second, at_server.bytes, sizeof(at_server.bytes), 0,
					       (struct sockaddr *)&from, &len);
		r = reply_to(&at_server, 8);
		serve(second, &r, &from);
		CHECK(readable(agent));
	}
	close(second);
	close(fd);
	unlink(path);
	teardown();
}

/* The two lookups of a name, the only ones that sleep, wake up now; returns for how many seconds they would have slept. */
static unsigned wake_both(void)
{
	struct timer *t[2] = { d.loop.heap[0], d.loop.heap[1] };
	uint64_t left = t[0]->at_ns - d.loop.now_ns;

	for (unsigned i = 0; i < 2; i++)
		loop_timer(&d.loop, t[i], d.loop.now_ns, t[i]->fn, t[i]->arg);
	return (unsigned)((left + NSEC_PER_SEC / 2) / NSEC_PER_SEC);
}

/* A name with two lookups: both are asked for, answered so, and then sleep. */
static void both_are_answered(enum dns_rcode code)
{
	struct message at_server;
	struct sockaddr_in from;

	for (unsigned i = 0; i < 2; i++) {
		at_server = served(&from);
		if (code == DNS_NOERROR)
			at_server = reply_to(&at_server, 7);
		at_server.bytes[2] |= 0x80;
		at_server.bytes[3] |= code;
		serve(server_udp, &at_server, &from);
	}
	CHECK(!readable_ms(server_udp, 20));
	CHECK_INT(d.n_lookups, 0);
	CHECK_INT(d.loop.n_timers, 2);
}

static void lookups_sleep(void)
{
	static const unsigned failing[] = { 2, 4, 8, 16, 32, 60, 60 };
	static const unsigned absent[] = { 60, 120, 240, 480, 960, 1920, 3600, 3600 };
	struct sockaddr_in from;
	struct ipc_message m;

	setup(); /* no resolv.conf: 127.0.0.1 */
	d.resolver_port = server_port;
	send_door(HOST_NETNS, true);
	send_name("api.example.com", 5, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(failing); i++) {
		both_are_answered(DNS_SERVFAIL);
		CHECK_INT(wake_both(), failing[i]);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(absent); i++) {
		both_are_answered(DNS_NXDOMAIN);
		CHECK_INT(wake_both(), absent[i]);
	}
	both_are_answered(DNS_NOERROR);
	CHECK(next_msg(MSG_ADDRESS, &m) && next_msg(MSG_ADDRESS, &m));
	CHECK_INT(wake_both(), 120);
	/* The host's door is opened anew while they are open: they are asked again. */
	served(&from);
	served(&from);
	CHECK_INT(d.n_lookups, 2);
	send_door(HOST_NETNS, true);
	CHECK_INT(d.n_lookups, 0);
	CHECK_INT(wake_both(), 2);
	both_are_answered(DNS_NOERROR);
	teardown();
}

/* ------------------------------------------------------------------ life */

static void doors_close(void)
{
	struct message q = query("other.test", DNS_A, 1);
	struct msg_dns_door msg = { .netns_cookie = OTHER_NETNS };
	struct ipc_message m;
	struct ports door;
	int udp, tcp;

	setup();
	door = send_door(OTHER_NETNS, false);
	udp = connected(SOCK_DGRAM, door.udp);
	tcp = connected(SOCK_STREAM, door.tcp);
	send_to(udp, &q);
	send_framed(tcp, &q);
	CHECK(next_msg(MSG_SOCKET_WANTED, &m));
	CHECK_INT(d.n_conns + d.n_queries, 2);
	send_msg(MSG_DNS_DOOR_CLOSE, &msg, sizeof(msg), NULL, 0);
	CHECK_INT(d.n_conns + d.n_queries + d.n_doors, 0);
	CHECK(ends(tcp));
	/* The socket that comes now is for nobody. */
	send_msg(MSG_SOCKET, m.payload, sizeof(struct msg_socket), &tcp, 1);
	/* A door of half its sockets is none. */
	CHECK_INT(ipc_send(agent, MSG_DNS_DOOR, 0, &msg, sizeof(msg), (int[]){ udp, udp, udp, udp }, 4), 0);
	spin_ms(5);
	CHECK_INT(d.n_doors, 0);
	/* A message that does not fit is told and harms nobody. */
	CHECK_INT(ipc_send(agent, MSG_NAME, 0, "x", 1, NULL, 0), 0);
	spin_ms(5);
	CHECK(!d.loop.stop);
	close(udp);
	close(tcp);
	teardown();
}

static void ends_with_its_channel(void)
{
	setup();
	send_msg(MSG_STOP, NULL, 0, NULL, 0);
	CHECK(d.loop.stop);
	d.loop.stop = false;
	close(agent);
	spin_ms(5);
	CHECK(d.loop.stop);
	agent = -1;
	teardown();
}

#ifndef __SANITIZE_ADDRESS__ /* the sanitizer makes system calls of its own */
static bool next_of_role(int fd, uint16_t type)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct ipc_message m;

	return poll(&p, 1, 5000) > 0 && ipc_recv(fd, &m) == 1 && m.head.type == type;
}

/* The process as the agent starts it: with its list of system calls, on every path that needs no stamp. */
static void the_role_itself(void)
{
	static const char text[] = "{\"users\": {\"dns\": \"#65534\", \"group\": \"#65534\"}, \"force\": {\"resolvers\": [\"127.0.0.77\"]}}";
	struct msg_dns_door door = { .netns_cookie = HOST_NETNS, .is_host = 1 };
	struct msg_name name = name_msg("api.example.com", 5, 1);
	struct ports p = { 0, 0 };
	int pair[2], config_fd = memfd_create("config", 0), status = 0, client;
	int fds[3] = { bound("127.0.0.1", SOCK_DGRAM, &p.udp), bound("127.0.0.1", SOCK_STREAM, &p.tcp),
		       socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0) };
	char byte;
	pid_t pid;

	CHECK_INT(ipc_pair(pair), 0);
	CHECK(pwrite(config_fd, text, sizeof(text) - 1, 0) > 0);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(pair[1], ROLE_CHANNEL_FD);
		_exit(dns_main(0, NULL));
	}
	close(pair[1]);
	CHECK_INT(ipc_send(pair[0], MSG_CONFIG, 0, NULL, 0, (int[]){ config_fd, config_fd }, 2), 0);
	CHECK(next_of_role(pair[0], MSG_READY));
	ipc_send(pair[0], MSG_DNS_DOOR, 0, &door, sizeof(door), fds, 3);
	ipc_send(pair[0], MSG_NAME, 0, &name, sizeof(name), NULL, 0);
	for (unsigned i = 0; i < 3; i++)
		close(fds[i]);
	client = connected(SOCK_DGRAM, p.udp);
	CHECK_INT(send(client, "x", 1, 0), 1);
	close(client);
	client = connected(SOCK_STREAM, p.tcp);
	fcntl(client, F_SETFL, 0);
	CHECK(recv(client, &byte, 1, 0) <= 0); /* no stamp */
	close(client);
	ipc_send(pair[0], MSG_STOP, 0, NULL, 0, NULL, 0);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	close(pair[0]);
	close(config_fd);
}
#else
static void the_role_itself(void)
{
}
#endif

TESTS(T(provider_name_is_answered_here), T(others_are_passed_on_as_they_are), T(forged_replies_are_dropped),
      T(equal_ids_do_not_mix), T(without_stamp_nothing), T(silence_is_silence), T(no_network_is_told_at_once),
      T(too_many_are_refused), T(a_namespace_with_ipv6), T(wildcard_names_are_wanted_once),
      T(wildcard_names_that_do_not_come), T(addresses_are_told), T(the_next_resolver_has_its_turn),
      T(lookups_sleep), T(doors_close), T(ends_with_its_channel), T(the_role_itself))
