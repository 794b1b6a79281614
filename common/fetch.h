/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP exchange off the hot path, by libcurl. Blocks; for helpers and short-lived children. */
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
