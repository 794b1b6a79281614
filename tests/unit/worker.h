/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker of the gateway without an agent, driven from the thread of the test: one sandbox with a grant for the model "m",
 * one provider on loopback. The stamp is ours to give, since getsockopt() is: what the kernel would have written is in `stamp`.
 */
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "common/log.h"
#include "common/msg.h"
#include "gateway/conn.h"
#include "gateway/request.h"

static struct stamp stamp = { .version = STAMP_VERSION, .label_id = 7, .why = STAMP_EXPLICIT, .netns_cookie = 5, .cgroup_id = 9,
			      .family = AF_INET, .peer = STAMP_PEER_AGREES, .comm = "client" };
static struct gateway gw;
static int journal_dir;
static char worker_folder[] = "/tmp/sallyport-worker-XXXXXX";

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (level != STAMP_SOL)
		return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
	if (*len < sizeof(stamp) || !stamp.version)
		return -1;
	memcpy(value, &stamp, sizeof(stamp));
	*len = sizeof(stamp);
	return 0;
}

static int memory_file(const char *text)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	if (write(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		exit(1);
	return fd;
}

static void worker_after_batch(void *arg)
{
	request_reap(arg);
	conn_reap(arg);
	upstream_reap(gw.upstream);
}

static void worker_remove(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -r %s", worker_folder);
	if (system(command))
		printf("%s cannot be removed\n", worker_folder);
}

/* Everything or the end of the program. */
static void worker_start(const char *config, int provider_port)
{
	static struct policy_diags diags;
	struct msg_sandbox box = { .label_id = 7, .path = "/box", .tags = "tag:a" };
	struct secret *key = NULL;
	char policy[512], why[320] = "";

	signal(SIGPIPE, SIG_IGN);
	log_init("test", LOG_ERR);
	snprintf(policy, sizeof(policy),
		 "{\"providers\":{\"p\":{\"baseurl\":\"http://127.0.0.1:%d\",\"models\":[\"m\"],\"compatibility\":{\"anthropic_messages\":true,"
		 "\"openai_chat\":true},\"authorization\":\"x-api-key\",\"apikey\":\"file:/x\"}},"
		 "\"unpriced\":\"allow\",\"grants\":[{\"src\":[\"*\"],\"app\":{\"sallyport/cap/llm\":[{\"role\":\"user\",\"models\":\"**\"}]}}]}",
		 provider_port);
	if (!mkdtemp(worker_folder))
		exit(1);
	atexit(worker_remove);
	journal_dir = open(worker_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	gw.channel = -1;
	gw.doorbell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (config_parse(str_of(config), &gw.config, &diags) < 0 || loop_init(&gw.loop) < 0 ||
	    journal_open(journal_dir, "w0", 64 << 20, &gw.journal) < 0 || balances_open(memory_file(""), 0, &gw.balances) < 0 ||
	    live_open(memory_file(""), 600, &gw.live) < 0 || upstream_new(&gw.loop, gw.config, NULL, &gw.upstream) < 0 ||
	    rules_read(memory_file(policy), memory_file(""), 1, &gw.rules, why, sizeof(why)) < 0 ||
	    secret_read(memory_file("sk-ours-0123456789"), &key) < 0 || rules_set_key(gw.rules, STR("p"), key) < 0 ||
	    labels_set(&gw.labels, &box) < 0) {
		printf("the worker cannot be set up %s\n", why);
		exit(1);
	}
	gw.loop.after_batch = worker_after_batch;
	gw.loop.after_arg = &gw;
}

/* A connection of the sandbox; returns the client's end, which does not block. `small`: its buffers hold little. */
static int worker_connect(bool small)
{
	int pair[2], bytes = 4096;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		exit(1);
	for (int i = 0; i < 2 && small; i++)
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	conn_accept(&gw, pair[0]);
	return pair[1];
}

static inline void worker_stop(void)
{
	while (gw.conns)
		conn_close(gw.conns);
	worker_after_batch(&gw);
	journal_close(TAKE_PTR(gw.journal));
}
