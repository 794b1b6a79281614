/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first bytes of a connection that was led to the door: who does the client ask for? Then its requests are served,
 * bound to that name, or its bytes go on to where it asked for, or it is refused with an event.
 */
#pragma once

#include "gateway/conn.h"

struct forced;
struct http_head;
struct splice;

/* True when its client did not ask for the door. */
static inline bool peek_is_forced(const struct stamp *stamp)
{
	return stamp->why == STAMP_VIP || stamp->why == STAMP_SUSPECT || stamp->why == STAMP_STRICT;
}
void peek_start(struct conn *c);
/* Something happened on a connection in one of the states CONN_PEEK … CONN_SPLICED. */
void peek_event(struct conn *c, uint32_t events);
/* Time is up in one of these states; the caller closes. */
void peek_timeout(struct conn *c);
/* A client speaks TLS to the door itself, or without a stamp: an alert, and the end. */
void peek_refuse_tls(struct conn *c);

/* The provider's name that the requests of this connection are for; empty: any. */
struct str peek_name(const struct conn *c);
/* The name in a Host field, in its one spelling and without the port; false: it is none. */
bool peek_host(struct str field, char *ret, size_t size);
void peek_free(struct forced *f);

/* splice.c: may this request of a clear-text connection go on? NULL, or why not. */
const char *peek_follow(struct conn *c, const struct http_head *head);
void peek_follow_refused(struct conn *c, const char *why);
struct splice *peek_splice(const struct conn *c);
void peek_set_splice(struct conn *c, struct splice *s);
