/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS role: answers what the sandboxes' sockets ask on port 53. One struct dns, in it a door for each network
 * namespace; dns_udp.c and dns_tcp.c serve clients, dns_ask.c asks servers, dns_want.c waits for names of wildcards,
 * dns_resolve.c keeps the agent told of the providers' real addresses.
 */
#pragma once

#include <netinet/in.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "agent/dns_names.h"
#include "common/loop.h"
#include "common/msg.h"
#include "common/stamp.h"
#include "policy/config.h"

/* Rationale: six descriptors each; as many sandboxes with a namespace of their own as a host has. */
#define DNS_DOORS_MAX 4096
/* Rationale: of one namespace 512 may be open, so a dead server costs it 100 queries a second, and others nothing. */
#define DNS_QUERIES_MAX	     8192
#define DNS_DOOR_QUERIES_MAX 512
/* Rationale: 40 KiB each at most. */
#define DNS_CONNS_MAX	   1024
#define DNS_DOOR_CONNS_MAX 64
#define DNS_LOOKUPS_MAX	   64 /* addresses that are asked for at once */
#define DNS_WANTS_MAX	   64 /* names that the agent is asked for at once */
#define DNS_RESOLVERS_MAX  8
#define DNS_PORT	   53

struct dns;
struct dns_door;
struct dns_query;
struct dns_conn;

struct dns_server {
	int family;
	uint16_t port;
	uint8_t addr[16]; /* v4 in the first four bytes */
	uint64_t asker;	  /* cgroup id of the sandbox whose client asks there; 0: we do */
};

/* ------------------------------------------------------------------ doors (dns.c) */

struct dns_ask;
LIST_HEAD(dns_ask_list, dns_ask);

/* The sockets of one address family in one namespace; -1: none. */
struct dns_side {
	struct dns_door *door;
	int family;
	int udp, tcp, ask; /* bound, listening, unbound */
	struct watch udp_watch, tcp_watch, ask_watch;
	struct dns_ask_list asks; /* open on `ask` */
};

struct dns_door {
	LIST_ENTRY(dns_door) entry;
	struct dns *dns;
	struct msg_dns_door info;
	struct dns_side sides[2]; /* v4, v6 */
	bool has_v6;
	LIST_HEAD(dns_query_list, dns_query) queries;
	LIST_HEAD(dns_conn_list, dns_conn) conns;
	unsigned n_queries, n_conns;
	struct timer accept_timer;
};

struct dns_want;

struct dns {
	struct loop loop;
	int channel;
	struct watch channel_watch;
	const struct config *config;
	struct dns_names names;
	LIST_HEAD(dns_door_list, dns_door) doors;
	struct dns_door *host; /* the door of the host's own namespace, or NULL */
	unsigned n_doors, n_queries, n_conns;

	/* dns_ask.c: by the id on the wire, which no two open ones share */
	struct dns_ask **asks;
	uint16_t ids[64]; /* random numbers that were not used yet */
	unsigned n_ids;

	LIST_HEAD(dns_want_list, dns_want) wants;
	unsigned n_wants;

	/* dns_resolve.c */
	TAILQ_HEAD(dns_lookup_queue, dns_lookup) due;
	unsigned n_lookups; /* open ones */
	struct dns_server resolvers[DNS_RESOLVERS_MAX];
	unsigned n_resolvers;
	uint64_t resolvers_at_ns; /* when they are read again */
	struct timer no_host_timer;
	bool no_host_told;

	uint32_t last_token; /* of SOCKET_WANTED */
	uint64_t n_unstamped;

	/* What tests change. */
	bool (*stamp_of)(int fd, int option, struct stamp *ret);
	const char *resolv_conf;
	uint16_t resolver_port;
	uint64_t query_timeout_ns, want_timeout_ns, lookup_timeout_ns, connect_timeout_ns, conn_idle_ns;
};

/* 0 or negative errno. `channel` and `config` stay the caller's. */
int dns_init(struct dns *d, int channel, const struct config *config);
void dns_fini(struct dns *d);
struct dns_door *dns_door_find(const struct dns *d, uint64_t netns_cookie);
/* The side for a family, or NULL: the namespace has no sockets of it. */
struct dns_side *dns_door_side(struct dns_door *door, int family);
/* Who was asked, as the stamp says; false: there is no stamp (counted, logged). */
bool dns_server_asked(struct dns *d, int fd, int option, struct dns_server *ret);
socklen_t dns_sockaddr(const struct dns_server *server, struct sockaddr_storage *ret);

/* ------------------------------------------------------------------ questions to servers (dns_ask.c) */

/* `err`: 0, -ETIMEDOUT, or what the network said; `reply` lies in a shared buffer, writable, valid for the call. */
typedef void (*dns_ask_fn)(void *arg, int err, uint8_t *reply, size_t n);

int dns_asks_init(struct dns *d);
void dns_asks_fini(struct dns *d);
/*
 * Sends the message, with another id, to the server. `q` is its question and must live as long as the ask. 0: `fn` is
 * called once, later; else it never is: -EBUSY (too many), -ENOMEM, or the errno of the network.
 */
int dns_ask_start(struct dns *d, struct dns_side *side, const struct dns_server *server, struct str msg,
		  const struct dns_question *q, uint64_t timeout_ns, dns_ask_fn fn, void *arg, struct dns_ask **ret);
void dns_ask_cancel(struct dns *d, struct dns_ask *ask);
/* All of this side end with -ESHUTDOWN. */
void dns_asks_fail(struct dns_side *side);
/* Event of side->ask. */
void dns_ask_on_event(void *side, uint32_t events);

/* ------------------------------------------------------------------ names of wildcards (dns_want.c) */

struct dns_waiter {
	LIST_ENTRY(dns_waiter) entry;
	struct dns_want *want; /* NULL: does not wait */
	void (*fn)(void *arg, const struct dns_name *name); /* NULL: it did not come */
	void *arg;
};

/* Asks the agent, unless that was done. 0: waiter->fn is called once, later. -ENOBUFS, -ENOMEM, errno of the channel. */
int dns_want(struct dns *d, uint64_t asker, struct str name, struct dns_waiter *waiter);
void dns_unwant(struct dns_waiter *waiter);
/* The agent spoke of this name; NULL as name: there will be none. */
void dns_want_settle(struct dns *d, struct str text, const struct dns_name *name);
/* Tells all who wait that nothing will come. */
void dns_wants_fini(struct dns *d);

/* ------------------------------------------------------------------ clients (dns_udp.c, dns_tcp.c) */

/* Event of side->udp. */
void dns_udp_on_event(void *side, uint32_t events);
void dns_query_free(struct dns_query *query);

/* Event of side->tcp. */
void dns_tcp_on_event(void *side, uint32_t events);
void dns_conn_free(struct dns_conn *conn);
/* The agent's answer; takes `fd` (-1: none) when a connection waits for it. */
void dns_tcp_on_socket(struct dns *d, const struct msg_socket *msg, int *fd);

/* ------------------------------------------------------------------ providers' addresses (dns_resolve.c) */

/* A name came or changed; it is asked for from now on. */
void dns_resolve_name(struct dns *d, struct dns_name *name);
void dns_resolve_forget(struct dns *d, struct dns_name *name);
/* Asks for what is due, as far as it can: when a door of the host came. */
void dns_resolve_pump(struct dns *d);
