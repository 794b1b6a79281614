/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections to providers: resolve, connect (through the HTTPS proxy of the configuration if there is
 * one), TLS, and a pool of idle ones for each endpoint. Where to connect comes from the policy only.
 */
#pragma once

#include <sys/uio.h>

#include "common/loop.h"
#include "gateway/resolve.h"
#include "gateway/tls.h"
#include "policy/config.h"

struct upstream;     /* all of it */
struct upstream_conn; /* one connection */

/* What happens on a connection that a request holds. Not called from inside upstream_get(). */
struct upstream_events {
	/* Once: err 0, or negative errno and a sentence for people (the connection is gone then). */
	void (*ready)(void *arg, int err, const char *why);
	void (*readable)(void *arg);
	void (*writable)(void *arg);
};

int upstream_new(struct loop *loop, const struct config *config, struct tls_context *tls, struct upstream **ret);
/*
 * Gets a connection for a request. *ret_ready: it is one of the pool and can be written at once; else
 * events->ready comes later. -ENOMEM, -ENOBUFS.
 */
int upstream_get(struct upstream *u, struct str host, uint16_t port, bool tls,
		 const struct upstream_events *events, void *arg, struct upstream_conn **ret, bool *ret_ready);
/* Gives it back: to the pool when `reusable`, else closed. Accepts NULL. */
void upstream_put(struct upstream_conn *c, bool reusable);

/* Bytes, 0 at the end, -EAGAIN, other negative errno. */
ssize_t upstream_read(struct upstream_conn *c, void *data, size_t n);
ssize_t upstream_writev(struct upstream_conn *c, const struct iovec *iov, int n);
/* True when more can be read without an event. */
bool upstream_pending(const struct upstream_conn *c);
/*
 * Which events are wanted: reading is on and writing off after ready. With neither nothing comes at all, not
 * even the news of an end: it waits behind what was not read.
 */
void upstream_want(struct upstream_conn *c, bool readable, bool writable);
/* Frees what was closed in this batch; call after each batch of events. */
void upstream_reap(struct upstream *u);
