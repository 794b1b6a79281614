/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between roles over SOCK_SEQPACKET: one header, one fixed payload, a few descriptors. */
#pragma once

#include <stdint.h>

#include "common/base.h"

#define IPC_FDS_MAX     8
#define IPC_PAYLOAD_MAX 8192

struct ipc_header {
	uint16_t type; /* enum msg_type */
	uint16_t version;
	uint32_t len; /* of the payload */
	uint64_t id;  /* of a request; the answer repeats it */
};

struct ipc_message {
	struct ipc_header head;
	int fds[IPC_FDS_MAX];
	unsigned n_fds;
	_Alignas(8) char payload[IPC_PAYLOAD_MAX];
};

/* A connected pair, CLOEXEC and NONBLOCK. */
int ipc_pair(int ret[2]);
/* 0 or negative errno (-EAGAIN: the peer is slow). The descriptors stay the caller's. */
int ipc_send(int fd, uint16_t type, uint64_t id, const void *payload, size_t len, const int *fds,
	     unsigned n_fds);
/* Like ipc_send(), but waits up to timeout_ms for room. For messages that must not be dropped. */
int ipc_send_wait(int fd, uint16_t type, uint64_t id, const void *payload, size_t len,
		  const int *fds, unsigned n_fds, int timeout_ms);
/*
 * 1: a message (its descriptors are the caller's), 0: the peer closed, -EAGAIN: nothing now, -EBADMSG: not
 * of our protocol (its descriptors were closed), other negative errno.
 */
int ipc_recv(int fd, struct ipc_message *ret);
/*
 * For start-up: waits for the next message, which must be of this type, length and number of descriptors.
 * 0 or -EBADMSG.
 */
int ipc_expect(int fd, uint16_t type, uint32_t len, unsigned n_fds, struct ipc_message *ret);
/* Closes the descriptors that a handler did not take. */
void ipc_message_fini(struct ipc_message *m);

/* One row of a receiver's table: what it accepts, of which size, and who handles it. */
struct ipc_rule {
	uint16_t type;
	uint32_t len;
	unsigned fds_min, fds_max;
	void (*fn)(void *arg, struct ipc_message *m);
};
/* Looks the message up and calls the handler; -EBADMSG when no rule fits (the caller closes the peer). */
int ipc_dispatch(const struct ipc_rule *rules, size_t n, void *arg, struct ipc_message *m);
