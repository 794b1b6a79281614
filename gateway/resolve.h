/* SPDX-License-Identifier: Apache-2.0 */
/* Names to addresses without blocking the loop: one thread asks the C library, answers come as events. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>

#include "common/loop.h"

#define RESOLVE_ADDRS_MAX 8

struct resolved {
	struct sockaddr_storage addrs[RESOLVE_ADDRS_MAX];
	unsigned n;
};
/* err: 0, or an EAI_ code of getaddrinfo(3). */
typedef void (*resolve_fn)(void *arg, int err, const struct resolved *result);

struct resolver;
int resolver_new(struct loop *loop, struct resolver **ret);
/*
 * Asks; fn is called later from the loop, exactly once, unless resolver_forget() comes first. -ENOBUFS:
 * too many questions are open.
 */
int resolver_ask(struct resolver *r, const char *host, uint16_t port, resolve_fn fn, void *arg);
/* Drops the questions of this arg. */
void resolver_forget(struct resolver *r, void *arg);
/* An address in numbers needs no asking: true and *ret filled. */
bool resolve_literal(const char *host, uint16_t port, struct resolved *ret);
