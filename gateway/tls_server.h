/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS towards clients that were led to the door: a certificate for the provider's name that they ask for, signed by the
 * host's CA. A session is a struct tls: tls_read(), tls_write() and the others of tls.h work on it.
 */
#pragma once

#include <stdint.h>

#include "common/buf.h"
#include "gateway/tls.h"

struct tls_server;
/* Before isolation. Dies on failure. */
struct tls_server *tls_server_new(void);
void tls_server_free(struct tls_server *s);
/*
 * The CA from now on: certificates (PEM, the signing one first, then the cross certificates) and its private key. The
 * descriptors stay the caller's, read from position 0. 0, or negative errno with *ret_why a static sentence; then the
 * one before stays.
 */
int tls_server_set_ca(struct tls_server *s, int certs, int key, const char **ret_why);
bool tls_server_has_ca(const struct tls_server *s);

/*
 * A session for this name on the descriptor, which stays the caller's. `first`: what was read from it already; the
 * bytes are taken. NULL: no CA, or no memory.
 */
struct tls *tls_server_session(struct tls_server *s, int fd, const char *name, struct buf *first, uint64_t wall_ns);

enum tls_refusal {
	TLS_REFUSED_OTHER,	  /* no common version, cipher or protocol; garbage */
	TLS_REFUSED_CERTIFICATE,  /* the client says that it does not accept ours, or leaves without a word */
};
/* 0: done; -EAGAIN (*ret_want_write tells what for); -EPROTO: *ret and tls_why() tell why. */
int tls_server_handshake(struct tls *t, bool *ret_want_write, enum tls_refusal *ret);
/* Tells the client that nothing more comes. */
void tls_server_end(struct tls *t);

/* A fatal alert in clear, for a client whose hello is not answered. */
#define TLS_ALERT_BYTES 7
void tls_alert(uint8_t alert, unsigned char ret[TLS_ALERT_BYTES]);
