/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request from its head to its record. Theory of operation:
 *
 *   READ -> DECIDED -> (ASKING -> ANSWER_HEAD -> ANSWER_BODY)* -> DONE
 *
 * request_head() and request_body() read, request_decide() routes, asks policy, reserves, and sends it to a
 * provider (relay.c), or answers itself. Every request ends in request_finish() with exactly one outcome.
 * The connection may leave before (c->req and r->conn are cut); an answer that is billed anyway is then
 * read to its end without it.
 */
#pragma once

#include "gateway/conn.h"
#include "gateway/decode.h"
#include "gateway/extract.h"
#include "gateway/http_msg.h"
#include "gateway/route.h"
#include "gateway/sse_strip.h"

/* The model's prefix, and the wish for usage. */
#define REQUEST_EDITS_MAX 2

enum request_state {
	REQUEST_READ,
	REQUEST_ASKING,      /* connecting or sending */
	REQUEST_ANSWER_HEAD,
	REQUEST_ANSWER_BODY,
	REQUEST_DONE,
};

/* How the answer's bytes go to the client. */
enum relay_mode {
	RELAY_RAW,   /* as they came, framing included */
	RELAY_CHUNK, /* payload in chunks of ours */
	RELAY_PLAIN, /* payload, then the connection ends (HTTP/1.0) */
	RELAY_HOLD,  /* an error: kept until it is whole, for scrubbing */
};

struct request {
	struct gateway *gw;
	struct conn *conn; /* NULL: the client left */
	struct request *next_free;
	enum request_state state;
	uint64_t id, started_ns, started_wall_ns, first_byte_ns;

	/* the request */
	struct http_head head; /* points into head_bytes */
	struct buf head_bytes;
	struct route route;
	struct req_tap *tap;
	const struct req_facts *facts;
	struct decoder *decoder;
	struct http_chunked chunked;
	uint64_t body_left;
	bool body_whole;
	bool forced; /* its client asked for the provider itself and was led here */
	struct buf body;
	uint64_t body_counted; /* of it in gw->body_bytes and the share's */
	struct share *share;   /* whose body it is; the client may have left */
	struct str model;      /* asked for, without a provider prefix */
	char model_text[MODEL_BYTES];
	char client[48];
	char session[SESSION_BYTES];

	/* the decision */
	struct rules *rules;
	struct policy_verdict verdict;
	unsigned candidate; /* index into the verdict's providers */
	unsigned provider;  /* index into the policy */
	struct policy_price price;
	bool priced;
	struct live_slot *slot;
	int64_t estimate_input;
	enum outcome outcome;
	bool recorded;
	char why[384]; /* the sentence behind an outcome that is not ok */
	char rule[POLICY_RULE_BYTES];

	/* the provider */
	struct upstream_conn *up;
	struct buf up_head; /* holds the key: zeroed */
	struct iovec pieces[2 * REQUEST_EDITS_MAX + 1];
	unsigned n_pieces;
	size_t to_send, sent;
	bool pooled;     /* the connection was used before */
	bool send_broke; /* the provider takes no more of the request; it may still answer */
	struct timer timer;
	uint64_t deadline_ns;
	uint64_t drain_until_ns; /* the client left and the answer is read to its end until then; 0: no */

	/* the answer */
	struct buf up_in;
	struct resp_tap *answer_tap;
	struct decoder *answer_decoder;
	struct sse_strip strip;
	bool strip_on;
	enum relay_mode mode;
	enum http_body answer_framing;
	struct http_chunked answer_chunked;
	uint64_t answer_left, answer_bytes;
	struct buf held;      /* RELAY_HOLD: the payload */
	struct buf held_head; /* and the head's fields */
	struct buf held_text; /* decoded */
	int answer_status;
	bool answer_keep_alive, answer_begun, answer_sse, answer_ended, paused;
	unsigned n_calls, n_interim;
};

/* A head is whole: `bytes` is all of it, and is copied. `more` tells that some of the body is there too. */
void request_head(struct conn *c, const struct http_head *head, struct str bytes, bool more);
/* A head could not be read. */
void request_bad_head(struct conn *c, const char *why);
/* Bytes of the body; returns how many belong to it. May finish the request. */
size_t request_body(struct request *r, const char *data, size_t n);
/* A body without a length (HTTP_BODY_EOF, of a stream of HTTP/2) is whole; one with a length lacks some. */
void request_body_end(struct request *r);
/*
 * The same without a copy, for a body of known length: where the next bytes of it go and how many fit, or
 * NULL; then how many were put there.
 */
char *request_body_room(struct request *r, size_t *ret_n);
void request_body_filled(struct request *r, size_t n);
/* The body is whole. */
void request_decide(struct request *r);
/* Answers with an error of ours and ends the request. */
void request_deny(struct request *r, enum outcome outcome, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same for an empty bucket; retry_after_s 0: it does not refill. */
void request_deny_quota(struct request *r, uint64_t retry_after_s, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The client left while the request ran. */
void request_client_gone(struct request *r);
/* The record is written and the buckets are settled; nothing of this changes any more. Once. */
void request_record(struct request *r, enum outcome outcome);
/* Records if that was not done, and releases; the request is gone afterwards. */
void request_finish(struct request *r, enum outcome outcome);
void request_reap(struct gateway *gw);

static inline const struct policy_provider *request_provider(const struct request *r)
{
	return policy_provider(r->rules->policy, r->provider);
}

/* ask.c: head and pieces for this provider, ready to send from the start. Negative errno: they do not fit. */
int ask_build(struct request *r);
/* Sends what is left; 0 when all went, -EAGAIN (also: others get their turn), or what broke. */
int ask_send(struct request *r);
/* The client's own credential, for passthrough; empty for none or a placeholder. */
struct str ask_client_credential(const struct request *r, const char **ret_field);

/* relay.c: sends the request to verdict.candidates[candidate]. */
void relay_start(struct request *r);
/* Nobody listens any more, or nobody shall: the provider's connection is cut. */
void relay_cancel(struct request *r);
/* The client has room again. */
void relay_resume(struct request *r);
/* The client left, and the provider bills the whole answer anyway: it is read to its end. False: it cannot be. */
bool relay_drain(struct request *r);

/* account.c */
/* Begins the record in shared memory. -ENOSPC: our bounds. */
int account_begin(struct request *r);
/* Reserves in every bucket for this provider; on refusal denies and returns false. */
bool account_reserve(struct request *r);
/* The candidate before failed and r->provider is asked now: the record names it, should this process die. */
void account_next_provider(struct request *r);
/* Something was sent to the provider: it counts as a request even if this process dies now. */
void account_dispatched(struct request *r);
/* What the tap has seen so far goes to shared memory. */
void account_progress(struct request *r);
/* Journal, settlement, slot. */
void account_end(struct request *r);
void account_tool_call(struct request *r, const struct tool_call *call);
/* Records what an earlier life of this worker left running. */
void account_recover(struct gateway *gw);
/* The same for a worker that died with a former agent; the descriptor stays the caller's. */
void account_recover_left(struct gateway *gw, int fd);
void account_event(struct gateway *gw, const struct conn *c, const char *kind, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* True when so much room is left that an admitted request is sure to be recorded. */
bool account_has_room(struct gateway *gw);
/* Bounded repeats whose time is up are recorded. `all`: without waiting. */
void account_flush_repeats(struct gateway *gw, bool all);

/* models.c: GET /v1/models. */
void models_answer(struct request *r);
/* Who asks, for policy; points into the label. */
struct policy_facts request_facts(const struct request *r);
const struct label *request_label(const struct request *r);
