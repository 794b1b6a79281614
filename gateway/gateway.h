/* SPDX-License-Identifier: Apache-2.0 */
/* One worker of the gateway: everything that its handlers share. */
#pragma once

#include "common/buf.h"
#include "common/journal.h"
#include "common/loop.h"
#include "gateway/balance.h"
#include "gateway/labels.h"
#include "gateway/live.h"
#include "gateway/hosts.h"
#include "gateway/rules.h"
#include "gateway/share.h"
#include "gateway/upstream.h"
#include "policy/config.h"

/* Rationale: one read takes what a socket buffer usually holds. */
#define SCRATCH_BYTES 65536
/* Doors of one worker: two listeners each. */
#define DOORS_MAX 4096

struct conn;
struct request;
struct splice;
struct tls_server;

struct door {
	uint64_t id;
	uint64_t netns_cookie;
	unsigned n_fds;
	int fds[2];
	struct watch watches[2];
	struct gateway *gw;
};

/* Equal denials in a row are one record with a count. */
#define REPEATS_MAX 64
struct repeat {
	uint64_t key; /* 0: free */
	uint64_t until_ns;
	struct live_slot *slot; /* counts in shared memory: a crash loses none */
};

struct gateway {
	struct loop loop;
	unsigned worker;
	struct config *config;
	struct tls_context *tls;
	struct tls_server *tls_server;
	struct upstream *upstream;

	int channel; /* -1: the agent died, and this worker only finishes what runs */
	bool agent_gone;
	int doors_lock; /* held while doors are served */
	struct watch channel_watch;
	struct timer leave_timer;
	struct rules *rules;   /* in force; NULL until the first commit */
	struct rules *pending; /* RULES and KEYs of the next commit */
	char no_rules[MSG_TEXT_BYTES]; /* why there are none: what is wrong with the file */
	struct labels labels;
	struct hosts hosts;
	struct door *doors[DOORS_MAX];
	unsigned n_doors;
	bool accept_paused;
	struct timer accept_timer;

	struct journal *journal;
	int journal_dir, doorbell;
	uint64_t rung_ns;
	struct balances *balances;
	struct live *live;
	struct repeat repeats[REPEATS_MAX];
	struct timer repeat_timer;

	struct conn *conns;      /* all open ones */
	struct conn *dead_conns; /* freed after the batch */
	struct request *dead_requests;
	struct request *requests_free;
	struct splice *wanted; /* wait for a socket of the agent */
	unsigned n_conns, n_requests, n_requests_free;
	unsigned n_refused; /* connections that only wait to be told so */
	struct shares shares;
	uint64_t body_bytes; /* held request bodies and parts of heads, all of them */
	bool stopping;
	/* Finished requests whose record found no room yet: they stay in shared memory and are tried again. */
	struct live_slot **unrecorded;
	unsigned n_unrecorded, cap_unrecorded;
	struct timer unrecorded_timer;
	uint64_t ledger_checked_ns;
	bool ledger_failed;

	char scratch[SCRATCH_BYTES];
	char frames[SCRATCH_BYTES]; /* of HTTP/2, from a client */
};

/* Reads what the agent has sent: a label may be on its way that a new connection's stamp names. */
void gateway_drain_channel(struct gateway *gw);
/* Tells the agent that the provider refused its key. */
void gateway_report_key(struct gateway *gw, struct str provider);
