/* SPDX-License-Identifier: Apache-2.0 */
/* TLS towards providers: the certificate is verified against the name that the policy gives, always. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls_context;
struct tls;
/* Loads the trusted roots (`ca_file`, or the system's when empty); dies on failure. Before isolation. */
struct tls_context *tls_context_new(const char *ca_file);
/* A client session on the connected descriptor, which stays the caller's; NULL: no memory. */
struct tls *tls_new(struct tls_context *ctx, int fd, const char *host);
void tls_free(struct tls *t);
/* 0: done; -EAGAIN (*ret_want_write tells what for); -EPROTO: refused, see tls_why(). */
int tls_handshake(struct tls *t, bool *ret_want_write);
/* Bytes, 0 at a clean end, -EAGAIN, -ECONNRESET. */
ssize_t tls_read(struct tls *t, void *data, size_t n);
ssize_t tls_write(struct tls *t, const void *data, size_t n);
/* True when bytes lie decrypted in the session, which epoll does not see. */
bool tls_pending(const struct tls *t);
/* Why the handshake failed, for people; in a buffer of the session. */
const char *tls_why(const struct tls *t);
