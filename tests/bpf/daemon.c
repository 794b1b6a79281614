/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real daemon with roles that are easy to look into: `role gateway` answers every connection to
 * a door with one line that says what its stamp and the label table say; `role ledger` counts
 * journal records. tests/bpf/test_daemon.sh drives it. Commands: daemon …,
 * label|unlabel|list|status|keys|reload|run.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "agent/spawn.h"
#include "cli/cli.h"
#include "common/ipc.h"
#include "common/isolate.h"
#include "common/journal.h"
#include "common/log.h"
#include "common/msg.h"
#include "common/record.h"
#include "common/role.h"
#include "common/stamp.h"

#define DOORS  64
#define LABELS 256
#define NOBODY 65534

struct test_door {
	struct msg_door info;
	int fds[2];
	unsigned n;
};

static struct test_door doors[DOORS];
static struct msg_sandbox labels[LABELS];
static unsigned n_doors, n_labels, n_keys, n_rules, worker;
static struct ipc_message m;

/* ---------------------------------------------------------------- role gateway */

static void take_label(const struct msg_sandbox *info)
{
	for (unsigned i = 0; i < n_labels; i++)
		if (labels[i].label_id == info->label_id) {
			labels[i] = *info;
			return;
		}
	if (n_labels < LABELS)
		labels[n_labels++] = *info;
}

static const struct msg_sandbox *get_label(uint32_t id)
{
	for (unsigned i = 0; i < n_labels; i++)
		if (labels[i].label_id == id)
			return &labels[i];
	return NULL;
}

static void take_door(void)
{
	struct test_door *d = &doors[n_doors];

	if (n_doors == DOORS)
		return;
	memcpy(&d->info, m.payload, sizeof(d->info));
	d->n = m.n_fds;
	memcpy(d->fds, m.fds, sizeof(d->fds));
	m.n_fds = 0;
	n_doors++;
}

static void close_door(const struct msg_door *info)
{
	for (unsigned i = 0; i < n_doors; i++) {
		if (doors[i].info.door_id != info->door_id)
			continue;
		for (unsigned k = 0; k < doors[i].n; k++)
			close(doors[i].fds[k]);
		doors[i] = doors[--n_doors];
	}
}

static void forget_label(uint32_t id)
{
	for (unsigned i = 0; i < n_labels; i++)
		if (labels[i].label_id == id)
			labels[i--] = labels[--n_labels];
}

/* False: the channel is closed. */
static bool drain(void)
{
	int n;

	while ((n = ipc_recv(ROLE_CHANNEL_FD, &m)) == 1) {
		switch (m.head.type) {
		case MSG_SETUP:
			if (m.n_fds != 4)
				_exit(10);
			break;
		case MSG_LABEL:
			take_label((struct msg_sandbox *)m.payload);
			break;
		case MSG_UNLABEL:
			forget_label(((struct msg_sandbox *)m.payload)->label_id);
			break;
		case MSG_DOOR:
			take_door();
			break;
		case MSG_DOOR_CLOSE:
			close_door((struct msg_door *)m.payload);
			break;
		case MSG_RULES:
			n_keys = 0;
			break;
		case MSG_KEY:
			n_keys++;
			break;
		case MSG_COMMIT:
			n_rules++;
			break;
		case MSG_STOP:
			_exit(0);
		}
		ipc_message_fini(&m);
	}
	return n == -EAGAIN;
}

static void answer(int conn, const struct test_door *d)
{
	struct pollfd p = { .fd = conn, .events = POLLIN };
	const struct msg_sandbox *label;
	struct stamp s;
	socklen_t len = sizeof(s);
	char line[2048], in[64];

	if (poll(&p, 1, 1000) == 1 && read(conn, in, sizeof(in)) < 0)
		in[0] = '\0';
	if (getsockopt(conn, STAMP_SOL, STAMP_GET, &s, &len) < 0) {
		snprintf(line, sizeof(line), "unstamped errno=%d\n", errno);
	} else {
		drain();
		label = get_label(s.label_id);
		snprintf(
			line, sizeof(line),
			"stamped label=%u gen=%u known=%d tags=%s path=%s origin=%u family=%u port=%u netns=%d peer=%u "
			"pid=%u uid=%u comm=%s me=%u keys=%u rules=%u worker=%u pid_worker=%d\n",
			s.label_id, s.label_gen, label != NULL, label ? label->tags : "-",
			label ? label->path : "-", label ? label->origin : 99, s.family,
			s.orig_port, s.netns_cookie == d->info.netns_cookie, s.peer, s.pid, s.uid,
			s.comm, getuid(), n_keys, n_rules, worker, getpid());
	}
	if (write(conn, line, strlen(line)) < 0)
		close(conn);
	close(conn);
}

static int role_gateway(unsigned n)
{
	worker = n;
	isolate_start(ROLE_CHANNEL_FD);
	isolate_user(NOBODY, NOBODY);
	/* Wait for the first burst, then say so. */
	ipc_send(ROLE_CHANNEL_FD, MSG_READY, 0, NULL, 0, NULL, 0);
	for (;;) {
		struct pollfd fds[1 + 2 * DOORS] = { { .fd = ROLE_CHANNEL_FD, .events = POLLIN } };
		unsigned at[1 + 2 * DOORS], k = 1;

		for (unsigned i = 0; i < n_doors; i++)
			for (unsigned j = 0; j < doors[i].n; j++, k++) {
				fds[k] = (struct pollfd){ .fd = doors[i].fds[j], .events = POLLIN };
				at[k] = i;
			}
		poll(fds, k, -1);
		for (unsigned i = 1; i < k; i++) {
			int conn =
				fds[i].revents ? accept4(fds[i].fd, NULL, NULL, SOCK_CLOEXEC) : -1;

			if (conn >= 0)
				answer(conn, &doors[at[i]]);
		}
		if (fds[0].revents && !drain())
			_exit(0);
	}
}

/* ---------------------------------------------------------------- role dns */

/* Takes what it is told and answers nothing. */
static int role_dns(void)
{
	struct pollfd p = { .fd = ROLE_CHANNEL_FD, .events = POLLIN };
	static struct ipc_message told;
	int n;

	ipc_send(ROLE_CHANNEL_FD, MSG_READY, 0, NULL, 0, NULL, 0);
	while (poll(&p, 1, -1) == 1 && ((n = ipc_recv(ROLE_CHANNEL_FD, &told)) == 1 || n == -EAGAIN)) {
		if (n != 1)
			continue;
		ipc_message_fini(&told);
		if (told.head.type == MSG_STOP)
			break;
	}
	return 0;
}

/* ---------------------------------------------------------------- role ledger */

static int role_ledger(void)
{
	struct pollfd p = { .fd = ROLE_CHANNEL_FD, .events = POLLIN };

	isolate_start(ROLE_CHANNEL_FD);
	while (poll(&p, 1, -1) >= 0) {
		int n = ipc_recv(ROLE_CHANNEL_FD, &m);

		if (n == 1 && m.head.type == MSG_STOP)
			return 0;
		if (n == 1)
			ipc_message_fini(&m);
		else if (n != -EAGAIN)
			return 0;
	}
	return 1;
}

/* ---------------------------------------------------------------- commands */

static int control_connect(const char *run_dir)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/control.sock", run_dir);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		die("no daemon at %s: %s", sun.sun_path, errno_text(errno));
	return fd;
}

static void receive(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (poll(&p, 1, 30000) != 1 || ipc_recv(fd, &m) != 1)
		die("the daemon does not answer");
}

static void print_sandbox(const struct msg_sandbox *s)
{
	printf("sandbox id=%u gen=%u origin=%u procs=%u doors=%u port=%u path=%s tags=%s container=%s image=%s note=%s\n",
	       s->label_id, s->label_gen, s->origin, s->n_procs, s->n_doors, s->door_port, s->path,
	       s->tags, s->container, s->image, s->note);
}

static int request(int fd, uint16_t type, const struct msg_target *t)
{
	ipc_send(fd, type, 7, t, t ? sizeof(*t) : 0, NULL, 0);
	for (;;) {
		receive(fd);
		if (m.head.id != 7)
			die("the answer has another id");
		if (m.head.type == MSG_END)
			return 0;
		if (m.head.type == MSG_SANDBOX)
			print_sandbox((struct msg_sandbox *)m.payload);
		if (m.head.type == MSG_KEY_ROW) {
			struct msg_key_row *r = (struct msg_key_row *)m.payload;

			printf("key provider=%s source=%s state=%s\n", r->provider, r->source,
			       r->state);
		}
		if (m.head.type == MSG_STATUS) {
			struct msg_status *s = (struct msg_status *)m.payload;

			printf("status stamp=%s ready=%u/%u sandboxes=%u doors=%u host_port=%u generation=%" PRIu64
			       " restarts=%u policy_error=%s\n",
			       s->stamp, s->n_workers_ready, s->n_workers, s->n_sandboxes,
			       s->n_doors, s->host_port, s->policy_generation, s->restarts,
			       s->policy_error);
			return 0;
		}
		if (m.head.type == MSG_RESULT) {
			struct msg_result *r = (struct msg_result *)m.payload;

			printf("result err=%d text=%s\n", r->err, r->text);
			if (!r->err && r->sandbox.label_id)
				print_sandbox(&r->sandbox);
			return r->err ? 1 : 0;
		}
	}
}

static int command_run(int fd, const struct msg_target *t, char **argv)
{
	int status, pidfd = -1;
	pid_t pid;

	status = request(fd, MSG_CTL_RUN, t);
	if (status || m.n_fds != 1)
		return 1;
	fflush(stdout);
	pid = spawn_clone(m.fds[0], &pidfd);
	if (!pid) {
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid < 0 ? 1 : spawn_wait(pidfd, 60000);
}

/* Sits on the door's port, for the test of a door that has to move. */
static int squat(uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons(port),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 || listen(fd, 1) < 0)
		die("cannot listen on port %u: %s", port, errno_text(errno));
	return pause();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		uint16_t type;
	} requests[] = { { "label", MSG_CTL_LABEL }, { "unlabel", MSG_CTL_UNLABEL },
			 { "list", MSG_CTL_LIST },   { "status", MSG_CTL_STATUS },
			 { "keys", MSG_CTL_KEYS },   { "reload", MSG_CTL_RELOAD } };
	struct msg_target t = { 0 };
	int fd;

	if (argc > 1 && !strcmp(argv[1], "daemon"))
		return command_find("daemon")->run(argc - 1, argv + 1);
	if (argc > 3 && !strcmp(argv[1], "role") && !strcmp(argv[2], "gateway"))
		return role_gateway((unsigned)strtoul(argv[3], NULL, 10));
	if (argc > 2 && !strcmp(argv[1], "role") && !strcmp(argv[2], "ledger"))
		return role_ledger();
	if (argc > 2 && !strcmp(argv[1], "role") && !strcmp(argv[2], "dns"))
		return role_dns();
	if (argc > 2 && !strcmp(argv[1], "squat"))
		return squat((uint16_t)strtoul(argv[2], NULL, 10));
	if (argc < 3)
		die("usage: daemon COMMAND RUN_DIR [TARGET [TAGS [-- COMMAND…]]]");
	fd = control_connect(argv[2]);
	if (argc > 3)
		str_copy(t.target, sizeof(t.target), str_of(argv[3]));
	if (argc > 4)
		str_copy(t.tags, sizeof(t.tags), str_of(argv[4]));
	if (!strcmp(argv[1], "run") && argc > 5)
		return command_run(fd, &t, argv + 5);
	for (unsigned i = 0; i < ARRAY_SIZE(requests); i++)
		if (!strcmp(argv[1], requests[i].name))
			return request(fd, requests[i].type, i < 2 ? &t : NULL);
	die("no such command: %s", argv[1]);
}
