/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's answer holds words of strangers: names, image labels. It is fetched and parsed by a
 * child that gives up root when it is connected and before it reads the first byte (the socket
 * belongs to root), and that hands back one struct of fixed size and a bounded run of strings.
 */
#include "agent/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>


#include "agent/spawn.h"
#include "common/json.h"
#include "common/buf.h"
#include "common/fetch.h"
#include "common/isolate.h"
#include "common/log.h"

#define ENGINE_TIMEOUT_MS 4000
/* Rationale: inspect answers are 5 to 20 KB; mounts and environment can make them longer. */
#define ENGINE_ANSWER_MAX (4u << 20)
#define ENGINE_LABELS_MAX (48u << 10)
#define ENGINE_FD_PIPE	  3

struct engine_answer {
	int32_t err, pid;
	char id[72], name[MSG_NAME_BYTES], image[MSG_IMAGE_BYTES], runtime[64];
	uint32_t labels_bytes;
};

struct engine_query {
	struct agent *agent;
	engine_fn fn;
	void *arg;
	int pipe, pidfd;
	struct watch watch;
	struct timer timer;
	struct buf in;
};

/* ---------------------------------------------------------------- in the child */

static void copy_string(char *dst, size_t size, const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	if (cJSON_IsString(item))
		str_copy(dst, size, str_of(item->valuestring));
}

static void copy_labels(struct buf *out, const cJSON *labels)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, labels)
	{
		size_t before = buf_len(out);

		if (!cJSON_IsString(item) || !item->string)
			continue;
		/* Whole pairs only; what does not fit is left out. */
		if (buf_append(out, item->string, strlen(item->string) + 1) ||
		    buf_append(out, item->valuestring, strlen(item->valuestring) + 1))
			out->end = out->start + before;
	}
}

static void parse_inspect(const char *text, size_t n, struct engine_answer *ret, struct buf *labels)
{
	cJSON *root = cJSON_ParseWithLength(text, n);
	const cJSON *state = cJSON_GetObjectItemCaseSensitive(root, "State");
	const cJSON *config = cJSON_GetObjectItemCaseSensitive(root, "Config");
	const cJSON *host = cJSON_GetObjectItemCaseSensitive(root, "HostConfig");
	const cJSON *pid = cJSON_GetObjectItemCaseSensitive(state, "Pid");

	ret->err = root ? 0 : -EPROTO;
	copy_string(ret->id, sizeof(ret->id), root, "Id");
	copy_string(ret->name, sizeof(ret->name), root, "Name");
	if (ret->name[0] == '/')
		memmove(ret->name, ret->name + 1, strlen(ret->name));
	copy_string(ret->image, sizeof(ret->image), config, "Image");
	copy_string(ret->runtime, sizeof(ret->runtime), host, "Runtime");
	if (cJSON_IsNumber(pid) && pid->valuedouble > 0 && pid->valuedouble < INT32_MAX)
		ret->pid = (int32_t)pid->valuedouble;
	copy_labels(labels, cJSON_GetObjectItemCaseSensitive(config, "Labels"));
	cJSON_Delete(root);
}

static void write_all(int fd, const void *data, size_t n)
{
	for (const char *p = data; n;) {
		ssize_t done = write(fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			_exit(1);
		p += done;
		n -= (size_t)done;
	}
}

static void on_engine_connected(void *arg)
{
	const struct agent *a = arg;

	isolate_user(a->gateway_uid, a->gid);
}

static void engine_child(struct agent *a, int pipe, const char *container)
{
	struct engine_answer answer = { 0 };
	struct buf body, labels;
	char path[256];
	long status = 0;

	if (pipe != ENGINE_FD_PIPE && dup2(pipe, ENGINE_FD_PIPE) < 0)
		_exit(1);
	isolate_start(ENGINE_FD_PIPE);
	buf_init(&body, ENGINE_ANSWER_MAX);
	buf_init(&labels, ENGINE_LABELS_MAX);
	snprintf(path, sizeof(path), "/containers/%s/json", container);
	answer.err = fetch_unix(a->config->docker.s, path, ENGINE_TIMEOUT_MS - 500,
				on_engine_connected, a, &body, &status);
	if (!answer.err && status == 404)
		answer.err = -ENOENT;
	else if (!answer.err && status != 200)
		answer.err = -EPROTO;
	/* Root is given up by now: there was an answer. */
	if (!answer.err && geteuid() != 0)
		parse_inspect(buf_head(&body), buf_len(&body), &answer, &labels);
	answer.labels_bytes = (uint32_t)buf_len(&labels);
	write_all(ENGINE_FD_PIPE, &answer, sizeof(answer));
	write_all(ENGINE_FD_PIPE, labels.data ? buf_head(&labels) : "", buf_len(&labels));
	_exit(0);
}

/* ---------------------------------------------------------------- in the agent */

static void engine_free(struct engine_query *q)
{
	loop_unwatch(&q->agent->loop, &q->watch);
	loop_untimer(&q->agent->loop, &q->timer);
	if (q->pidfd >= 0) {
		/* Kills it if it still runs. */
		spawn_wait(q->pidfd, 0);
		close(q->pidfd);
	}
	if (q->pipe >= 0)
		close(q->pipe);
	buf_fini(&q->in);
	free(q);
}

static void engine_done(struct engine_query *q, int err)
{
	struct engine_answer answer;
	struct engine_result r = { .err = err };
	engine_fn fn = q->fn;
	void *arg = q->arg;

	if (!err && buf_len(&q->in) >= sizeof(answer)) {
		memcpy(&answer, buf_head(&q->in), sizeof(answer));
		r.err = answer.err;
		r.pid = answer.pid;
		str_copy(r.id, sizeof(r.id), (struct str){ answer.id, strnlen(answer.id, 71) });
		str_copy(r.name, sizeof(r.name),
			 (struct str){ answer.name, strnlen(answer.name, MSG_NAME_BYTES - 1) });
		str_copy(r.image, sizeof(r.image),
			 (struct str){ answer.image, strnlen(answer.image, MSG_IMAGE_BYTES - 1) });
		str_copy(r.runtime, sizeof(r.runtime),
			 (struct str){ answer.runtime, strnlen(answer.runtime, 63) });
		if (answer.labels_bytes == buf_len(&q->in) - sizeof(answer)) {
			r.labels = buf_head(&q->in) + sizeof(answer);
			r.labels_bytes = answer.labels_bytes;
		}
	} else if (!err) {
		r.err = -EPROTO;
	}
	fn(arg, &r);
	engine_free(q);
}

static void on_engine_pipe(void *arg, uint32_t events)
{
	struct engine_query *q = arg;
	char *room = buf_reserve(&q->in, 4096);
	ssize_t n;

	(void)events;
	if (!room) {
		engine_done(q, -EPROTO);
		return;
	}
	n = read(q->pipe, room, 4096);
	if (n > 0)
		buf_commit(&q->in, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		engine_done(q, 0);
}

static void on_engine_timeout(void *arg)
{
	engine_done(arg, -ETIMEDOUT);
}

static bool name_ok(const char *name)
{
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

	return n && !name[n] && n <= 128 && name[0] != '.';
}

int engine_ask(struct agent *a, const char *container, engine_fn fn, void *arg,
	       struct engine_query **ret)
{
	auto_close int in = -1, out = -1;
	struct engine_query *q;
	int fds[2], err;
	pid_t pid;

	if (!name_ok(container))
		return -EINVAL;
	if (!a->config->docker.n)
		return -ECONNREFUSED;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	in = fds[0];
	out = fds[1];
	fcntl(in, F_SETFL, O_NONBLOCK);
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	*q = (struct engine_query){ .agent = a, .fn = fn, .arg = arg, .pipe = -1, .pidfd = -1 };
	buf_init(&q->in, sizeof(struct engine_answer) + ENGINE_LABELS_MAX + 4096);
	pid = spawn_clone(-1, &q->pidfd);
	if (!pid) {
		spawn_child_signals();
		engine_child(a, out, container);
	}
	err = pid < 0 ? (int)pid : loop_watch(&a->loop, &q->watch, in, EPOLLIN, on_engine_pipe, q);
	if (err) {
		engine_free(q);
		return err;
	}
	q->pipe = TAKE_FD(in);
	loop_timer(&a->loop, &q->timer, a->loop.now_ns + ENGINE_TIMEOUT_MS * NSEC_PER_MSEC,
		   on_engine_timeout, q);
	*ret = q;
	return 0;
}

void engine_cancel(struct engine_query *q)
{
	if (q)
		engine_free(q);
}
