/* SPDX-License-Identifier: Apache-2.0 */
/* What the container engine says of a container, asked without stopping the loop. */
#pragma once

#include "agent/agent.h"

struct engine_result {
	int err; /* 0; -ENOENT: no such container; -ECONNREFUSED: no engine; -ETIMEDOUT, -EPROTO */
	pid_t pid; /* of its first process; 0: it does not run */
	char id[72], name[MSG_NAME_BYTES], image[MSG_IMAGE_BYTES], runtime[64];
	const char *labels; /* "name\0value\0…"; borrowed for the call */
	size_t labels_bytes;
};
typedef void (*engine_fn)(void *arg, const struct engine_result *r);

struct engine_query;
/* `container` is an id or a name. fn is called once, later, unless the query is cancelled. */
int engine_ask(struct agent *a, const char *container, engine_fn fn, void *arg,
	       struct engine_query **ret);
/* Accepts NULL. */
void engine_cancel(struct engine_query *q);
