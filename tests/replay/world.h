/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One worker of the gateway in this process, and what is around it: the agent at the other end of its channel,
 * the kernel's stamp, the clock, and the ledger that reads its journal.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "common/ipc.h"
#include "common/log.h"
#include "common/msg.h"
#include "gateway/ledger.h"
#include "gateway/request.h"

#define SANDBOXES_MAX 8
/* Rationale: what one script opens, and some. */
#define FDS_MAX	      256
/* The first moment of every script: 2026-01-01. */
#define WALL_START_NS (1767225600 * NSEC_PER_SEC)
/* Wake-ups that one thing may cause; more is a loop that never rests. */
#define WAKEUPS_MAX   100000

static struct world {
	struct gateway gw;
	int agent; /* its end of the channel */
	uint64_t generation;
	uint64_t clock_ns;
	struct stamp stamps[FDS_MAX]; /* version 0: none */
	struct msg_sandbox boxes[SANDBOXES_MAX];
	unsigned n_boxes;
	struct ledger *ledger;
	struct journal_reader *reader;
	char dir[64];
} world;

__attribute__((noreturn)) PRINTF_LIKE(1, 2) static void broken(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n0 passed, 1 failed\n");
	exit(1);
}

/* ------------------------------------------------------------------ what the kernel would say */

/* In place of the C library's: the stamp comes from a BPF program, which no test without root can load. */
int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict len)
{
	if (level != STAMP_SOL)
		return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
	if (fd >= FDS_MAX || !world.stamps[fd].version || *len < sizeof(struct stamp)) {
		errno = ENOPROTOOPT;
		return -1;
	}
	memcpy(value, &world.stamps[fd], sizeof(struct stamp));
	*len = sizeof(struct stamp);
	return 0;
}

static void world_clock(struct loop *l)
{
	l->now_ns = world.clock_ns;
	l->wall_ns = WALL_START_NS + world.clock_ns;
}

/* ------------------------------------------------------------------ the agent */

static int memory_file(struct str text)
{
	int fd = memfd_create("replay", MFD_CLOEXEC);

	if (fd < 0 || write(fd, text.s, text.n) != (ssize_t)text.n)
		broken("no memory file: %s", errno_text(errno));
	return fd;
}

static void agent_send(uint16_t type, const void *payload, size_t n, int fd)
{
	if (ipc_send(world.agent, type, 0, payload, n, &fd, fd >= 0) < 0)
		broken("the worker's channel is full");
	if (fd >= 0)
		close(fd);
	gateway_drain_channel(&world.gw);
}

static void agent_send_rules(struct str policy)
{
	struct msg_rules msg = { .generation = ++world.generation };

	agent_send(MSG_RULES, &msg, sizeof(msg), memory_file(policy));
}

static void agent_send_key(struct str provider, struct str key)
{
	struct msg_key msg = { 0 };

	str_copy(msg.provider, sizeof(msg.provider), provider);
	agent_send(MSG_KEY, &msg, sizeof(msg), memory_file(key));
}

/* The answer to the rules: "" when they are in force now, or why not. */
static const char *agent_commit(void)
{
	static char why[MSG_TEXT_BYTES];
	struct msg_rules msg = { .generation = world.generation };
	struct ipc_message m;
	bool answered = false;

	agent_send(MSG_COMMIT, &msg, sizeof(msg), -1);
	while (!answered && ipc_recv(world.agent, &m) > 0) {
		const struct msg_result *result = (const void *)m.payload;

		answered = m.head.type == MSG_RULES_RESULT;
		if (answered)
			str_copy(why, sizeof(why), str_of(result->err ? result->text : ""));
		ipc_message_fini(&m);
	}
	return answered ? why : "the worker does not answer";
}

/* The first call makes the sandbox, later ones change its tags. No tags: watched, but not labelled. */
static void agent_send_label(struct str name, struct str tags)
{
	struct msg_sandbox *box = world.boxes;
	char path[64];

	snprintf(path, sizeof(path), "/replay/%.*s", STR_ARG(name));
	while (box < world.boxes + world.n_boxes && strcmp(box->path, path))
		box++;
	if (box == world.boxes + SANDBOXES_MAX)
		broken("too many sandboxes");
	if (box == world.boxes + world.n_boxes) {
		world.n_boxes++;
		box->label_id = world.n_boxes;
		box->cgroup_id = 1000 + world.n_boxes;
		box->since_ns = WALL_START_NS + world.clock_ns;
		str_copy(box->path, sizeof(box->path), str_of(path));
	}
	box->label_gen++;
	box->origin = tags.n ? ORIGIN_EXPLICIT : ORIGIN_UNLABELLED;
	str_copy(box->tags, sizeof(box->tags), tags);
	agent_send(MSG_LABEL, box, sizeof(*box), -1);
}

/* ------------------------------------------------------------------ the worker */

static void on_channel(void *arg, uint32_t events)
{
	(void)events;
	gateway_drain_channel(arg);
}

static void after_batch(void *arg)
{
	struct gateway *gw = arg;

	request_reap(gw);
	conn_reap(gw);
	upstream_reap(gw->upstream);
}

static void world_open_ledger(struct gateway *gw)
{
	char file[sizeof(world.dir) + 16];
	struct journal_position start = { 0 };

	snprintf(world.dir, sizeof(world.dir), "%s/replay-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(world.dir))
		broken("%s: no directory: %s", world.dir, errno_text(errno));
	snprintf(file, sizeof(file), "%s/ledger.db", world.dir);
	gw->journal_dir = open(world.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (journal_open(gw->journal_dir, "w0", gw->config->ledger.journal_limit_bytes, &gw->journal) < 0 ||
	    ledger_open(file, &world.ledger) < 0 || journal_reader_open(gw->journal_dir, "w0", start, &world.reader) < 0)
		broken("the journal or the ledger cannot be opened in %s", world.dir);
}

static void world_start(struct str config)
{
	static struct policy_diags diags;
	struct gateway *gw = &world.gw;
	int pair[2], shared[2] = { memory_file(STR_NULL), memory_file(STR_NULL) };

	signal(SIGPIPE, SIG_IGN);
	world.clock_ns = 1000 * NSEC_PER_SEC;
	if (config_parse(config, &gw->config, &diags) < 0)
		broken("the configuration is refused: %s", diags.items[0].text);
	if (ipc_pair(pair) < 0 || loop_init(&gw->loop) < 0)
		broken("no channel or no loop: %s", errno_text(errno));
	gw->channel = pair[0];
	world.agent = pair[1];
	gw->loop.clock = world_clock;
	loop_update_time(&gw->loop);
	gw->loop.after_batch = after_batch;
	gw->loop.after_arg = gw;
	gw->tls = tls_context_new("");
	gw->doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	world_open_ledger(gw);
	if (balances_open(shared[0], 0, &gw->balances) < 0 ||
	    live_open(shared[1], gw->config->client.max_connections + REPEATS_MAX, &gw->live) < 0 ||
	    upstream_new(&gw->loop, gw->config, gw->tls, &gw->upstream) < 0 ||
	    loop_watch(&gw->loop, &gw->channel_watch, gw->channel, EPOLLIN, on_channel, gw) < 0)
		broken("the worker cannot be set up");
	close(shared[0]);
	close(shared[1]);
}

/* The server's end of a client's connection; `box` NULL: the kernel knows nothing of the client. */
static void world_accept(int fd, const struct msg_sandbox *box)
{
	if (fd < 0 || fd >= FDS_MAX)
		broken("too many connections");
	world.stamps[fd] = (struct stamp){ 0 };
	if (box)
		world.stamps[fd] = (struct stamp){ .version = STAMP_VERSION,
						   .label_id = box->label_id,
						   .label_gen = box->label_gen,
						   .why = STAMP_EXPLICIT,
						   .cgroup_id = box->cgroup_id,
						   .pid = 4242,
						   .uid = 1000,
						   .comm = "agent",
						   .peer = STAMP_PEER_AGREES };
	conn_accept(&world.gw, fd);
}

/* True when something waits for the worker: an event, or a timer that is due. */
static bool world_has_work(int real_ms)
{
	const struct loop *l = &world.gw.loop;
	struct pollfd p = { .fd = l->epfd, .events = POLLIN };

	return (l->n_timers && l->heap[0]->at_ns <= world.clock_ns) || poll(&p, 1, real_ms) > 0;
}

/* Lets the worker do all that there is to do at this moment of its clock. */
static void world_settle(int real_ms)
{
	for (int i = 0; world_has_work(real_ms); i++) {
		if (i == WAKEUPS_MAX)
			broken("the worker never rests");
		loop_once(&world.gw.loop, 0);
	}
}

/* ------------------------------------------------------------------ the ledger's side */

static void world_read_journal(void)
{
	struct journal_record rec;
	int err = ledger_begin(world.ledger), got;

	while (!err && (got = journal_read(world.reader, &rec)) != 0)
		err = got < 0 ? got : ledger_add(world.ledger, &rec);
	if (err || ledger_commit(world.ledger) < 0)
		broken("the ledger does not take a record: %s", errno_text(err));
}

static void world_clean(void)
{
	static const char *const files[] = { "ledger.db", "ledger.db-wal", "ledger.db-shm" };
	char command[sizeof(world.dir) + 16];

	if (!world.dir[0])
		return;
	journal_reader_close(TAKE_PTR(world.reader));
	journal_close(TAKE_PTR(world.gw.journal));
	ledger_close(TAKE_PTR(world.ledger));
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		unlinkat(world.gw.journal_dir, files[i], 0);
	snprintf(command, sizeof(command), "rm -rf %s", world.dir);
	if (system(command) != 0)
		printf("%s is left behind\n", world.dir);
}
