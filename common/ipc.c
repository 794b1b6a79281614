/* SPDX-License-Identifier: Apache-2.0 */
#include "common/ipc.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/msg.h"

int ipc_pair(int ret[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret) < 0 ?
		       -errno :
		       0;
}

int ipc_send(int fd, uint16_t type, uint64_t id, const void *payload, size_t len, const int *fds,
	     unsigned n_fds)
{
	struct ipc_header head = { type, MSG_VERSION, (uint32_t)len, id };
	struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)(uintptr_t)payload, len } };
	union {
		struct cmsghdr align;
		char data[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
	} control;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = len ? 2 : 1 };

	assert(len <= IPC_PAYLOAD_MAX && n_fds <= IPC_FDS_MAX);
	if (n_fds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.data;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int ipc_send_wait(int fd, uint16_t type, uint64_t id, const void *payload, size_t len,
		  const int *fds, unsigned n_fds, int timeout_ms)
{
	int err = ipc_send(fd, type, id, payload, len, fds, n_fds);

	while (err == -EAGAIN) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		int n = poll(&p, 1, timeout_ms);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ETIMEDOUT;
		err = ipc_send(fd, type, id, payload, len, fds, n_fds);
	}
	return err;
}

static void message_take_fds(struct ipc_message *m, struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		unsigned n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < n && m->n_fds < IPC_FDS_MAX; i++)
			memcpy(&m->fds[m->n_fds++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
	}
}

int ipc_recv(int fd, struct ipc_message *ret)
{
	struct iovec iov[2] = { { &ret->head, sizeof(ret->head) },
				{ ret->payload, sizeof(ret->payload) } };
	union {
		struct cmsghdr align;
		char data[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
	} control;
	struct msghdr msg = { .msg_iov = iov,
			      .msg_iovlen = 2,
			      .msg_control = control.data,
			      .msg_controllen = sizeof(control) };
	ssize_t n;

	ret->n_fds = 0;
	n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	message_take_fds(ret, &msg);
	if (n == 0)
		return 0;
	if ((size_t)n < sizeof(ret->head) || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ||
	    ret->head.version != MSG_VERSION || (size_t)n != sizeof(ret->head) + ret->head.len) {
		ipc_message_fini(ret);
		return -EBADMSG;
	}
	return 1;
}

int ipc_expect(int fd, uint16_t type, uint32_t len, unsigned n_fds, struct ipc_message *ret)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n;

	while ((n = ipc_recv(fd, ret)) == -EAGAIN || n == -EINTR)
		poll(&p, 1, -1);
	if (n <= 0)
		return -EBADMSG;
	if (ret->head.type == type && ret->head.len == len && ret->n_fds == n_fds)
		return 0;
	ipc_message_fini(ret);
	return -EBADMSG;
}

void ipc_message_fini(struct ipc_message *m)
{
	for (unsigned i = 0; i < m->n_fds; i++) {
		if (m->fds[i] >= 0)
			close(m->fds[i]);
		m->fds[i] = -1;
	}
	m->n_fds = 0;
}

int ipc_dispatch(const struct ipc_rule *rules, size_t n, void *arg, struct ipc_message *m)
{
	for (size_t i = 0; i < n; i++) {
		if (rules[i].type != m->head.type)
			continue;
		if (rules[i].len != m->head.len || m->n_fds < rules[i].fds_min ||
		    m->n_fds > rules[i].fds_max)
			return -EBADMSG;
		rules[i].fn(arg, m);
		return 0;
	}
	return -EBADMSG;
}
