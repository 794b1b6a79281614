/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Doors: the gateway's listening sockets, one pair in each network namespace that needs them. The
 * agent keeps a copy of the descriptors, so that clients wait in the backlog while a worker
 * restarts.
 */
#pragma once

#include "agent/agent.h"

#define DOOR_DNS_FDS 6

struct door {
	struct door *next;
	struct agent *agent;
	struct msg_door info;
	uint64_t netns_dev,
		netns_ino; /* of the namespace; cannot be reused while we listen in it */
	int fds[2];	   /* 127.0.0.1, then [::1] if there is v6 */
	unsigned n_fds;
	int dns_fds[DOOR_DNS_FDS]; /* for the DNS role: UDP, TCP listener, UDP to ask with; then the three of v6 */
	unsigned n_dns_fds;	   /* 0: it could not be opened, and names are resolved past us */
	uint16_t dns_port;
	unsigned refs; /* sandboxes that use it; the host's has one more of its own */
	/*
	 * The workers do not have it yet: its sandbox is a container of which the engine has not
	 * told the name and labels. Clients wait in the backlog instead of being refused for want
	 * of a tag.
	 */
	bool held;
};

struct door_sockets {
	int fds[2];
	unsigned n_fds;
	uint16_t port;
	int dns_fds[DOOR_DNS_FDS];
	unsigned n_dns_fds;
	uint16_t dns_port;
	uint64_t netns_cookie;
};

/* Both ends are tried; dns_from 0: no sockets for the DNS role. */
struct door_ports {
	uint16_t from, to, dns_from, dns_to;
};

/*
 * Listens in the namespace that `netns_fd` is open on, on the first free port of the door and the first of
 * the DNS role, with sockets that belong to the cgroup `cgroup_fd`; registers them in the kernel under `door_id`
 * before the first connection can arrive. 0, -EADDRINUSE (all of the door are taken), or the errno of what failed.
 * Without a port for the DNS role there are no sockets for it, which is no failure.
 */
int door_listen(struct load *l, int cgroup_fd, int netns_fd, uint64_t door_id,
		const struct door_ports *ports, struct door_sockets *ret);
/* Takes it off the kernel's list and closes the descriptors. */
void door_sockets_close(struct load *l, struct door_sockets *s);

struct door_wish {
	bool is_host;
	bool held; /* a new one is held back until door_release() */
};
/* The door of the namespace of `netns_fd` with one more reference, opened if need be; NULL: see the
 * log. */
struct door *door_get(struct agent *a, int netns_fd, struct door_wish wish);
/* Gives a door that was held back to the workers. */
void door_release(struct door *d);
/* An open door of this namespace without a new reference, or NULL. */
struct door *door_find(struct agent *a, uint64_t netns_dev, uint64_t netns_ino);
/* The last one closes it. Accepts NULL. */
void door_put(struct door *d);

/*
 * A socket in the namespace of an open door, for a role that has to reach what a sandbox of it asked for. It belongs
 * to the agent's own cgroup, so no program of a sandbox touches it. A descriptor or negative errno.
 */
int door_socket(struct agent *a, const struct msg_socket *wanted);

/* Opens the host's own door if the configuration wants one. */
int door_open_host(struct agent *a);
void doors_close_all(struct agent *a);

/* Device and inode of a process's network namespace. 0 or negative errno. */
int netns_of_pid(pid_t pid, uint64_t *ret_dev, uint64_t *ret_ino);
/* A descriptor of it, or negative errno. */
int netns_open(pid_t pid);
