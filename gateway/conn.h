/* SPDX-License-Identifier: Apache-2.0 */
/* A client's connection: reads requests, sends bytes, knows who is behind it. */
#pragma once

#include "common/stamp.h"
#include "gateway/gateway.h"

enum conn_state {
	CONN_IDLE, /* between requests */
	CONN_HEAD, /* a part of a head is there */
	CONN_BODY, /* the body comes */
	CONN_BUSY, /* the request is with the provider */
	CONN_H2,   /* it has streams (h2.c), each a conn of its own */
	/* peek.c: its client did not ask for the door */
	CONN_PEEK,    /* its first bytes come */
	CONN_TLS,     /* TLS of ours begins */
	CONN_SPLICED, /* its bytes go on to where it asked for */
	CONN_DEAD,
};

/* Rationale: a client that takes nothing for so long will not come back. */
#define WRITE_STALL_NS (300 * NSEC_PER_SEC)

struct forced;
struct h2;
struct h2_stream;
struct tls;

struct conn {
	struct gateway *gw;
	struct conn *prev, *next; /* in gw->conns; next in gw->dead_conns */
	int fd; /* -1: a stream of another one */
	enum conn_state state;
	struct watch watch;
	struct timer timer;
	uint64_t deadline_ns; /* the timer fires at or before it and looks here */
	struct buf in;        /* head, and what was pipelined after the request */
	struct buf out;       /* what the client has not taken yet */
	struct request *req;  /* NULL between requests */
	bool close_after;     /* when `out` is empty */
	bool stamped;
	bool asked;   /* its first head was read */
	bool pumping; /* in conn_pump() */
	bool more;    /* the head in `in` is not whole */
	bool shut;            /* our side was closed; waiting for the client's end */
	bool refused;         /* over its share: its request gets that for an answer */
	struct share *share;
	struct share_idle idle;
	uint64_t held; /* bytes of `in` that count as held */
	struct stamp stamp;
	struct tls *tls;       /* NULL: clear text */
	struct forced *forced; /* NULL: its client asked for the door */
	struct timer kick;     /* bytes lie decrypted in the session, which epoll does not see */
	struct h2 *h2;            /* in state CONN_H2 */
	struct h2_stream *stream; /* NULL: it has a socket */
};

/* Takes the descriptor. */
void conn_accept(struct gateway *gw, int fd);
/*
 * A conn for one request of a connection that speaks HTTP/2: with its stamp, and counted in its share. NULL: no memory, or
 * no room; then h2_stream_gone() was called.
 */
struct conn *conn_open_stream(struct conn *outer, struct h2_stream *s);
/*
 * Sends to the client what it takes now and keeps the rest. 0, or -ENOBUFS: the bound is reached (the bytes
 * were not taken), -EPIPE: it is gone (and closed).
 */
int conn_send(struct conn *c, const void *data, size_t n);
/* Sends what was appended to c->out. */
int conn_flush(struct conn *c);
/* True when the client has taken so little that its provider should pause. */
bool conn_full(const struct conn *c);
/* The request of this connection is over and its last byte is sent or in `out`. */
void conn_request_done(struct conn *c, bool keep);
/* The one way to close: tells the request, if one runs. */
void conn_close(struct conn *c);
/* Requests are read from here on: what is in c->in or in the TLS session is the first of them. */
void conn_begin(struct conn *c);
/* Moves the deadline, after which the connection is closed. */
void conn_set_deadline(struct conn *c, uint64_t after_ns);
/* Those that wait for a request, and have nothing left to send, are given up first. */
void conn_set_idle(struct conn *c);
/* Room for what its sandbox has, this one counted; if need be in the place of a connection that waits. */
bool conn_fits(const struct conn *c);
/* What lies in c->in has to fit into its sandbox's share of memory, as a body has; it may be closed. */
void conn_hold_in(struct conn *c);
/* Reads the stamp, or reads it again: the cross-check may decide only now. */
void conn_read_stamp(struct conn *c);
/* Frees what died in this batch. */
void conn_reap(struct gateway *gw);
/* Closes what waits between requests; what still has bytes to send closes when they are taken. */
void conn_stop_idle(struct gateway *gw);
/* True when a client has not taken all of its last answer yet. */
bool conn_any_sending(const struct gateway *gw);
