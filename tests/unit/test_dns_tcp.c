/* SPDX-License-Identifier: Apache-2.0 */
/* The DNS role: clients that ask by stream. */
#include "tests/unit/dns_role.h"

/* Answers SOCKET_WANTED, with a socket or without. */
static void give_socket(bool there)
{
	struct ipc_message m;
	struct msg_socket *msg = (void *)m.payload;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	CHECK(next_msg(MSG_SOCKET_WANTED, &m));
	CHECK_INT(msg->netns_cookie, OTHER_NETNS);
	CHECK_INT(msg->family, AF_INET);
	CHECK_INT(msg->type, SOCK_STREAM);
	msg->err = there ? 0 : -ENOENT;
	send_msg(MSG_SOCKET, msg, sizeof(*msg), &fd, there);
	close(fd);
}

static int served_stream(void)
{
	int fd;

	CHECK(readable(server_tcp));
	fd = accept4(server_tcp, NULL, NULL, SOCK_NONBLOCK);
	CHECK(fd >= 0);
	return fd;
}

static int stream_setup(void)
{
	setup();
	send_name("api.example.com", 5, 1);
	return connected(SOCK_STREAM, send_door(OTHER_NETNS, false).tcp);
}

static void streams_are_passed_on(void)
{
	struct message q[3] = { query("a.test", DNS_A, 7), query("api.example.com", DNS_A, 8), query("b.test", DNS_A, 9) };
	struct message a, at_server[2], r;
	uint8_t framed[2 + sizeof(r.bytes)];
	int client = stream_setup(), up;

	for (unsigned i = 0; i < 3; i++)
		send_framed(client, &q[i]);
	give_socket(true);
	up = served_stream();
	at_server[0] = receive_framed(up);
	at_server[1] = receive_framed(up);
	CHECK(same_but_id(&q[0], &at_server[0]) && id_of(&at_server[0]) == 7);
	CHECK(same_but_id(&q[2], &at_server[1]) && id_of(&at_server[1]) == 9);
	/* Ours came between, before theirs. */
	a = receive_framed(client);
	CHECK(id_of(&a) == 8 && address_in(&a) == 5);
	/* The answers in reverse order, the first in two pieces. */
	r = reply_to(&at_server[1], 11);
	framed[0] = (uint8_t)(r.n >> 8);
	framed[1] = (uint8_t)r.n;
	memcpy(framed + 2, r.bytes, r.n);
	CHECK_INT(send(up, framed, 1, 0), 1);
	spin_ms(5);
	/* Ours waits for the end of theirs. */
	send_framed(client, &q[1]);
	spin_ms(5);
	CHECK_INT(send(up, framed + 1, r.n + 1, 0), r.n + 1);
	a = receive_framed(client);
	CHECK(same_but_id(&r, &a) && id_of(&a) == 9);
	a = receive_framed(client);
	CHECK_INT(address_in(&a), 5);
	r = reply_to(&at_server[0], 12);
	send_framed(up, &r);
	a = receive_framed(client);
	CHECK_INT(address_in(&a), 12);
	/* The server ends the idle connection: the next query opens another. */
	close(up);
	spin_ms(5);
	send_framed(client, &q[0]);
	give_socket(true);
	up = served_stream();
	a = receive_framed(up);
	CHECK(same_but_id(&q[0], &a));
	/* It ends with an answer outstanding: so do we. */
	close(up);
	CHECK(ends(client));
	CHECK_INT(d.n_conns, 0);
	close(client);
	teardown();
}

static void half_closed_clients_get_their_answers(void)
{
	struct message q = query("a.test", DNS_A, 7), at_server, r, a;
	int client = stream_setup(), up;

	send_framed(client, &q);
	shutdown(client, SHUT_WR);
	give_socket(true);
	up = served_stream();
	at_server = receive_framed(up);
	r = reply_to(&at_server, 11);
	send_framed(up, &r);
	a = receive_framed(client);
	CHECK(same_but_id(&r, &a));
	CHECK(ends(client));
	close(client);
	close(up);
	teardown();
}

static void unreachable_servers_of_streams(void)
{
	struct message q = query("a.test", DNS_A, 7), own = query("api.example.com", DNS_A, 8), a;
	int client = stream_setup();

	/* The agent has no socket. */
	send_framed(client, &q);
	give_socket(false);
	a = receive_framed(client);
	CHECK(rcode(&a) == DNS_SERVFAIL && id_of(&a) == 7);
	send_framed(client, &own);
	a = receive_framed(client);
	CHECK_INT(address_in(&a), 5);
	close(client);
	/* Nobody listens. */
	close(server_tcp);
	client = connected(SOCK_STREAM, send_door(OTHER_NETNS, false).tcp);
	send_framed(client, &q);
	give_socket(true);
	a = receive_framed(client);
	CHECK_INT(rcode(&a), DNS_SERVFAIL);
	close(client);
	/* The agent is silent. */
	d.connect_timeout_ns = 30 * NSEC_PER_MSEC;
	client = connected(SOCK_STREAM, send_door(OTHER_NETNS, false).tcp);
	send_framed(client, &q);
	a = receive_framed(client);
	CHECK_INT(rcode(&a), DNS_SERVFAIL);
	close(client);
	/* The namespace has no IPv6. */
	set_server("2001:db8::1", 53);
	client = connected(SOCK_STREAM, send_door(OTHER_NETNS, false).tcp);
	send_framed(client, &q);
	a = receive_framed(client);
	CHECK_INT(rcode(&a), DNS_SERVFAIL);
	close(client);
	teardown();
}

static void bad_and_idle_streams_end(void)
{
	struct message q = query("api.example.com", DNS_A, 8), a;
	int client = stream_setup(), up;
	uint16_t port;

	CHECK_INT(send(client, "\x40\0", 2, 0), 2); /* 16 KiB */
	for (unsigned i = 0; i < 5000; i++)
		if (send(client, "x", 1, MSG_NOSIGNAL) < 0)
			break;
	CHECK(ends(client));
	close(client);
	client = connected(SOCK_STREAM, port = send_door(OTHER_NETNS, false).tcp);
	CHECK_INT(send(client, "\0\2ab", 4, 0), 4); /* no message */
	CHECK(ends(client));
	close(client);
	d.conn_idle_ns = 40 * NSEC_PER_MSEC;
	client = connected(SOCK_STREAM, port);
	send_framed(client, &q);
	a = receive_framed(client);
	CHECK_INT(address_in(&a), 5);
	/* Bytes that never become a message do not keep it open. */
	for (unsigned i = 0; i < 12; i++) {
		if (send(client, i ? "x" : "\1", 1, MSG_NOSIGNAL) < 0)
			break;
		spin_ms(5);
	}
	CHECK(ends(client));
	close(client);
	/* Nor do those of a server. */
	client = connected(SOCK_STREAM, port);
	q = query("other.test", DNS_A, 9);
	send_framed(client, &q);
	give_socket(true);
	up = served_stream();
	for (unsigned i = 0; i < 16 && send(up, i ? "x" : "\1", 1, MSG_NOSIGNAL) == 1; i++)
		spin_ms(5);
	CHECK_INT(d.n_conns, 0);
	close(client);
	close(up);
	teardown();
}

static void streams_have_a_bound(void)
{
	int clients[DNS_DOOR_CONNS_MAX + 1], client = stream_setup();
	struct message q = query("api.example.com", DNS_A, 8), a;
	uint16_t port = send_door(OTHER_NETNS, false).tcp;

	for (unsigned i = 0; i <= DNS_DOOR_CONNS_MAX; i++)
		clients[i] = connected(SOCK_STREAM, port);
	spin_ms(20);
	CHECK_INT(d.n_conns, DNS_DOOR_CONNS_MAX);
	/* The one too many waits in the backlog until there is room. */
	send_framed(clients[DNS_DOOR_CONNS_MAX], &q);
	CHECK(!readable_ms(clients[DNS_DOOR_CONNS_MAX], 60));
	close(clients[0]);
	a = receive_framed(clients[DNS_DOOR_CONNS_MAX]);
	CHECK_INT(address_in(&a), 5);
	for (unsigned i = 1; i <= DNS_DOOR_CONNS_MAX; i++)
		close(clients[i]);
	close(client);
	teardown();
}

TESTS(T(streams_are_passed_on), T(half_closed_clients_get_their_answers), T(unreachable_servers_of_streams),
      T(bad_and_idle_streams_end), T(streams_have_a_bound))
