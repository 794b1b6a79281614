/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 with clients (RFC 9113). The connection keeps its socket or TLS; each stream is a connection of its own towards
 * request.c and relay.c, which speak HTTP/1.1 to it as to any other.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/str.h"

struct conn;
struct h2;
struct h2_stream;

/* True when these bytes, which are no head of HTTP/1, begin HTTP/2. */
bool h2_is_preface(struct str in);
/* The connection speaks HTTP/2 from its next byte on; its first, the preface included, go to h2_receive(). */
void h2_begin(struct conn *c);
void h2_receive(struct conn *c, struct str in);
/* Sends what there is as far as the socket takes it. */
void h2_flush(struct h2 *h);
/* No more streams; the connection ends after the last one. False: that was said before. */
bool h2_leave(struct h2 *h);
/* Its streams end; the memory stays until h2_free(), since this may be inside of a call of the library. */
void h2_close(struct h2 *h);
void h2_free(struct h2 *h);

/* True while a stream is open. */
bool h2_is_busy(const struct h2 *h);
/* False while the client does not take what it was answered. */
bool h2_wants(const struct h2 *h);
/* Bytes that count in the share of memory: the session, and what is kept of a request's head. */
size_t h2_held(const struct h2 *h);

/* The connection that the stream is on. */
struct conn *h2_stream_outer(const struct h2_stream *s);
/* Something was appended to the stream's `out`, or its request is over. The stream's conn may be closed by it. */
void h2_stream_wake(struct h2_stream *s);
/* The stream's conn is closed. `untouched`: nothing of the request was looked at. */
void h2_stream_gone(struct h2_stream *s, bool untouched);
