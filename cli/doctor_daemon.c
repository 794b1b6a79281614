/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon as others meet it: its status, the ledger, its keys, and one request from a labelled
 * cgroup through the door, which must come back with anything but "who are you".
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "cli/doctor.h"
#include "cli/spawn.h"
#include "cli/untrusted.h"
#include "common/log.h"

#define LEDGER_TIMEOUT_MS 10000
#define DOOR_TIMEOUT_MS	  5000
#define ANSWER_BYTES	  4096

/* ---------------------------------------------------------------- status */

static void check_status(struct doctor *d)
{
	const struct msg_status *s = &d->status;

	doctor_say(d, FIND_OK, "daemon", "sallyport %.31s, pid %u", s->version, s->pid);
	if (strcmp(s->version, SALLYPORT_VERSION) != 0)
		doctor_say(d, FIND_WARN, "version",
			   "the daemon is %.31s, this program " SALLYPORT_VERSION
			   ": systemctl restart sallyport",
			   s->version);
	if (!strcmp(s->stamp, "ok"))
		doctor_say(d, FIND_OK, "stamp",
			   "connections are stamped, as the daemon's own test at its start showed");
	else
		doctor_say(
			d, FIND_FAIL, "stamp",
			"connections cannot be stamped, so every request is refused: %s; look at the kernel and bpf "
			"rows, then restart",
			s->stamp);
	if (s->n_workers && s->n_workers_ready == s->n_workers)
		doctor_say(d, FIND_OK, "workers", "%u ready", s->n_workers);
	else
		doctor_say(d, FIND_FAIL, "workers",
			   "%u of %u ready: the daemon's log says why (journalctl -u sallyport)",
			   s->n_workers_ready, s->n_workers);
	if (s->restarts)
		doctor_say(d, FIND_WARN, "restarts",
			   "workers or the ledger ended %u times: the daemon's log says why",
			   s->restarts);
	if (s->events_lost)
		doctor_say(d, FIND_WARN, "events", "%llu were lost: the disk may be slow or full",
			   (unsigned long long)s->events_lost);
	if (s->policy_error[0] && !s->policy_generation)
		doctor_say(d, FIND_FAIL, "policy",
			   "none is in force, so every request is refused: %s; mend the file, it is taken at once",
			   s->policy_error);
	else if (s->policy_error[0])
		doctor_say(d, FIND_FAIL, "policy",
			   "the newest file is not in force, generation %llu is: %s",
			   (unsigned long long)s->policy_generation, s->policy_error);
}

/* Each step that the daemon tried at its start. */
static void check_force(struct doctor *d, struct control *c)
{
	const struct msg_force_wish wish = { .wish = FORCE_WISH_STATUS };
	int err = control_ask(c, MSG_CTL_FORCE, &wish, sizeof(wish));
	const struct msg_force *f = err ? NULL : control_payload(c, MSG_FORCE, sizeof(*f));
	bool failed = false;

	if (!f) {
		doctor_say(d, FIND_FAIL, "force", "the daemon does not tell: restart it (systemctl restart sallyport)");
		return;
	}
	for (unsigned i = 0; i < f->n_tests; i++) {
		bool ok = !strcmp(f->tests[i].result, "ok");

		failed |= !ok;
		doctor_say(d, ok ? FIND_OK : FIND_FAIL, "force", "%.47s: %.127s%s", f->tests[i].step, f->tests[i].result,
			   ok ? "" : "; the explicit door serves on, see the kernel and bpf rows");
	}
	if (!failed)
		doctor_say(d, f->is_off ? FIND_WARN : FIND_OK, "force", "%.500s", f->text);
}

static void check_ledger(struct doctor *d)
{
	struct question q = { .op = "events", .limit = 1 };
	struct answer a;
	int err = ledger_ask_at(d->config->run_dir.s, &q, LEDGER_TIMEOUT_MS, &a);

	if (!err)
		doctor_say(d, FIND_OK, "ledger", "answers");
	else if (err == -EREMOTEIO)
		doctor_say(d, FIND_FAIL, "ledger",
			   "cannot read its database (%.*s): is the disk full or damaged?",
			   STR_ARG(a.columns[0]));
	else
		doctor_say(d, FIND_FAIL, "ledger",
			   "does not answer (%s): the daemon's log says why", errno_text(err));
	answer_fini(&a);
}

/* Clients that were led to the gateway and hung up on its certificate. */
static void check_trust(struct doctor *d)
{
	struct untrusted u;

	/* A ledger that does not answer has its row. */
	if (untrusted_ask(d->config->run_dir.s, LEDGER_TIMEOUT_MS, &u))
		return;
	if (u.count)
		doctor_say(d, FIND_WARN, "CA", "%s", u.text);
	else
		doctor_say(d, FIND_OK, "CA", "no client refused it in the last hour");
}

static void on_key(void *arg, const void *row)
{
	const struct msg_key_row *k = row;

	if (strcmp(k->state, "ok") != 0)
		doctor_say(arg, FIND_FAIL, "key in use", "%s: %s", k->provider, k->state);
}

static void check_keys(struct doctor *d, struct control *c)
{
	unsigned failed = d->count[FIND_FAIL];

	if (control_list(c, MSG_CTL_KEYS, MSG_KEY_ROW, sizeof(struct msg_key_row), on_key, d))
		doctor_say(d, FIND_FAIL, "key in use",
			   "the daemon does not tell: is it of the same version?");
	else if (d->count[FIND_FAIL] == failed)
		doctor_say(d, FIND_OK, "key in use", "the daemon has read every key");
}

/* ---------------------------------------------------------------- from end to end */

/* In the labelled cgroup: asks for the models and hands the head of the answer to the pipe. */
static void ask_door(uint16_t port, int out)
{
	static const char request[] =
		"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: sallyport-doctor\r\nconnection: close\r\n\r\n";
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons(port),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char answer[ANSWER_BYTES];
	ssize_t n;

	if (fd < 0 || connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		_exit(1);
	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0 ||
	    poll(&p, 1, DOOR_TIMEOUT_MS) != 1)
		_exit(2);
	n = recv(fd, answer, sizeof(answer), 0);
	_exit(n > 0 && write(out, answer, (size_t)n) == n ? 0 : 2);
}

static void judge_answer(struct doctor *d, struct str head, uint16_t port)
{
	if (!str_starts(head, STR("HTTP/1.1 ")))
		doctor_say(d, FIND_FAIL, "end to end",
			   "port %u does not answer as a door: another program may have it", port);
	else if (str_find(head, STR("denied_unstamped")))
		doctor_say(
			d, FIND_FAIL, "end to end",
			"a connection from a labelled cgroup came without its stamp: another BPF program may "
			"be attached alone (bpftool cgroup tree)");
	else if (str_find(head, STR("denied_unlabelled")))
		doctor_say(d, FIND_FAIL, "end to end",
			   "a labelled cgroup was not known as one: restart the daemon");
	else
		doctor_say(d, FIND_OK, "end to end",
			   "a labelled cgroup reached the gateway at port %u and was known", port);
}

static void try_door(struct doctor *d, int cgroup, uint16_t port)
{
	char answer[ANSWER_BYTES];
	int out[2], status = 0;
	ssize_t n = 0;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0)
		return;
	pid = spawn_into(cgroup);
	if (!pid)
		ask_door(port, out[1]);
	close(out[1]);
	if (pid > 0) {
		n = read(out[0], answer, sizeof(answer));
		waitpid(pid, &status, 0);
	}
	close(out[0]);
	if (pid < 0)
		doctor_say(d, FIND_FAIL, "end to end", "no process can be started in a cgroup: %s",
			   errno_text((int)pid));
	else if (n > 0)
		judge_answer(d, (struct str){ answer, (size_t)n }, port);
	else
		doctor_say(d, FIND_FAIL, "end to end",
			   WIFEXITED(status) && WEXITSTATUS(status) == 1
				   ? "nothing listens at port %u: the daemon's log says why"
				   : "the door at port %u does not answer: are the workers ready?",
			   port);
}

static void check_end_to_end(struct doctor *d, struct control *c)
{
	struct msg_target t = { .target = "doctor", .tags = "tag:sallyport-doctor" };
	const struct msg_result *r;
	int err = control_ask(c, MSG_CTL_RUN, &t, sizeof(t));

	r = err ? NULL : control_payload(c, MSG_RESULT, sizeof(*r));
	if (!r || r->err || c->message.n_fds != 1)
		doctor_say(d, FIND_FAIL, "end to end", "no labelled cgroup can be made: %s",
			   r && r->text[0] ? r->text : errno_text(err));
	else if (!r->sandbox.door_port)
		doctor_say(d, FIND_WARN, "end to end",
			   "not tried: no door is open in this network namespace (door.host)");
	else
		try_door(d, c->message.fds[0], (uint16_t)r->sandbox.door_port);
}

void doctor_daemon(struct doctor *d)
{
	auto_free struct control *c = calloc(1, sizeof(*c));
	const struct msg_status *s;
	int err = c ? control_open_at(d->config->run_dir.s, c) : -ENOMEM;

	if (err == -EACCES || err == -EPERM) {
		d->may_have_daemon = true;
		doctor_say(d, FIND_UNKNOWN, "daemon", "only root may ask it");
		return;
	}
	if (err) {
		doctor_say(d, FIND_FAIL, "daemon",
			   "does not run (%s/control.sock: %s): systemctl start sallyport",
			   d->config->run_dir.s, errno_text(err));
		return;
	}
	err = control_ask(c, MSG_CTL_STATUS, NULL, 0);
	s = err ? NULL : control_payload(c, MSG_STATUS, sizeof(*s));
	if (s) {
		d->status = *s;
		d->has_daemon = true;
		check_status(d);
		check_force(d, c);
		check_ledger(d);
		check_trust(d);
		check_keys(d, c);
		check_end_to_end(d, c);
	} else {
		doctor_say(d, FIND_FAIL, "daemon",
			   "does not answer (%s): restart it (systemctl restart sallyport)",
			   err ? errno_text(err) : "another version");
	}
	control_close(c);
}

/* ---------------------------------------------------------------- ports */

static bool port_is_free(uint16_t port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons(port),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	return fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
	       bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0;
}

void doctor_doors(struct doctor *d)
{
	unsigned port = d->config->door.port,
		 end = port + MAX(1U, (unsigned)d->config->door.port_range);
	unsigned first = port;

	if (!d->config->door.host) {
		doctor_say(d, FIND_OK, "door",
			   "none on the host, as configured; sandboxes have their own");
		return;
	}
	if (d->has_daemon) {
		if (!d->status.host_port)
			doctor_say(
				d, FIND_FAIL, "door",
				"none is open on the host: free one of the ports %u to %u, then restart",
				port, end - 1);
		else if (d->status.host_port != port)
			doctor_say(
				d, FIND_WARN, "door",
				"port %u was taken, the host's door is %u: sallyport env tells clients",
				port, d->status.host_port);
		else
			doctor_say(d, FIND_OK, "door", "http://127.0.0.1:%u", port);
		return;
	}
	if (d->may_have_daemon) {
		doctor_say(d, FIND_UNKNOWN, "door",
			   "only root may ask the daemon for its port; configured is %u", port);
		return;
	}
	while (first < end && first <= 65535 && !port_is_free((uint16_t)first))
		first++;
	if (first >= end || first > 65535)
		doctor_say(
			d, FIND_WARN, "door",
			"the ports %u to %u are all taken, by a running daemon or another program",
			port, end - 1);
	else if (first != port)
		doctor_say(
			d, FIND_WARN, "door",
			"port %u is taken, by a running daemon or another program; %u would be used",
			port, first);
	else
		doctor_say(d, FIND_OK, "door", "port %u is free", port);
}
