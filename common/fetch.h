/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP off the hot path, by libcurl. Blocks; for helpers and short-lived children. */
#pragma once

#include "common/buf.h"

/*
 * GET http://localhost`path` over the unix stream socket at `socket_path`. `on_connected` (may be
 * NULL) is called when the connection is up and before a byte is sent or read: the place to give up
 * privileges. The body is appended to `ret` up to its bound. 0 with the status in *ret_status,
 * -ECONNREFUSED, -ETIMEDOUT, -ENOBUFS (the answer is longer than the bound), -EPROTO.
 */
typedef void (*fetch_connected_fn)(void *arg);
int fetch_unix(const char *socket_path, const char *path, long timeout_ms,
	       fetch_connected_fn on_connected, void *arg, struct buf *ret, long *ret_status);

/* One server that is to answer. */
struct fetch_reach {
	char url[512];
	int err;	/* 0, -ENXIO: the name, -ECONNREFUSED: TCP or the proxy, -EPROTO: TLS, -ETIMEDOUT */
	char text[256]; /* what libcurl says of it */
};
/*
 * Connects to all of them at once, as far as a request could be sent, and sends none. `proxy` ("http://host:port") and
 * `ca_file` may be empty. 0 when each has its `err`, or -ENOMEM.
 */
int fetch_reach(struct fetch_reach *targets, unsigned n, const char *proxy, const char *ca_file, long timeout_ms);
