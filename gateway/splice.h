/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection whose bytes go on untouched to where its client asked for: the socket comes from the agent, made in the
 * client's network namespace, since only from there the address means what the client means.
 */
#pragma once

#include "gateway/conn.h"

struct msg_socket;
struct splice;

/*
 * Begins for this connection, whose first bytes lie in c->in and are sent first. `follow`: it is clear-text HTTP, and
 * each request is looked at before it goes (http_follow.h). False: it cannot, and was closed.
 */
bool splice_start(struct conn *c, bool follow);
/* The agent's answer; the descriptor is taken (-1: none). */
void splice_socket(struct gateway *gw, const struct msg_socket *msg, int fd);
/* Something happened on the client's side. */
void splice_event(struct conn *c, uint32_t events);
/* For conn_close(). */
void splice_free(struct splice *s);
