/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a request costs and that it is remembered: reservation in the buckets, progress in shared memory,
 * the record in the journal, settlement. Order at the end: shared memory, journal, buckets, slot; a crash
 * between any two of them neither loses nor doubles (the ledger takes each request id once).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>

#include "common/log.h"
#include "gateway/request.h"
#include "gateway/tool_meaning.h"
#include "policy/units.h"

/* Rationale: prose has about four bytes a token, code and JSON three; a reservation should not be low. */
#define BYTES_PER_TOKEN 3
/* An image of 1 MB in base64 is 1,600 tokens at the providers; text in disguise is up to a third of its bytes. */
#define BLOB_BYTES_PER_TOKEN 32
#define OTHER_BYTES_PER_TOKEN 5
/* What a model may answer when neither the request nor the price table says. */
#define OUTPUT_TOKENS_DEFAULT 32000
/* Rationale: nobody has a quota for it, and its price still fits. */
#define ESTIMATE_MAX 1000000000000LL
/* Bytes on the wire for each token of an answer whose provider told no usage: events, or plain JSON. */
#define STREAM_BYTES_PER_TOKEN 150
#define JSON_BYTES_PER_TOKEN   5
/* Room that one request may need: its record, its calls and results. */
#define ADMISSION_BYTES (256u << 10)
/* Rationale: the reader of the journal wakes up this often at most. */
#define DOORBELL_NS  (5 * NSEC_PER_MSEC)
#define REPEAT_NS    (10 * NSEC_PER_SEC)
#define RETRY_NS     (1 * NSEC_PER_SEC)
#define ARGUMENTS_KEPT 4096

/* ------------------------------------------------------------------ journal */

static int journal_put(struct gateway *gw, uint32_t type, const void *fixed, size_t n, const char *strings,
		       size_t strings_len)
{
	struct iovec iov[2] = { { (void *)(uintptr_t)fixed, n }, { (void *)(uintptr_t)strings, strings_len } };
	uint64_t one = 1;
	int err = journal_append(gw->journal, type, iov, 2);

	if (!err && gw->loop.now_ns - gw->rung_ns >= DOORBELL_NS) {
		gw->rung_ns = gw->loop.now_ns;
		if (write(gw->doorbell, &one, sizeof(one)) < 0)
			return 0; /* rung already */
	}
	return err;
}

static int slot_record(struct gateway *gw, const struct live_slot *s)
{
	return journal_put(gw, REC_REQUEST, &s->rec, sizeof(s->rec), s->strings, s->strings_len);
}

/* Record and strings; what is held and the state stay. */
static void slot_copy(struct live_slot *to, const struct live_slot *from)
{
	to->rec = from->rec;
	to->strings_len = from->strings_len;
	memcpy(to->strings, from->strings, from->strings_len);
}

static void on_unrecorded(void *arg)
{
	struct gateway *gw = arg;

	while (gw->n_unrecorded && slot_record(gw, gw->unrecorded[gw->n_unrecorded - 1]) == 0)
		live_end(gw->live, gw->unrecorded[--gw->n_unrecorded]);
	if (gw->n_unrecorded)
		loop_timer(&gw->loop, &gw->unrecorded_timer, gw->loop.now_ns + RETRY_NS, on_unrecorded, gw);
}

/* The journal is full or the disk: the record stays in shared memory and is tried again. */
static void slot_keep(struct gateway *gw, struct live_slot *s)
{
	log_limited(LOG_ERR, "the journal takes no more records; free space below state_dir");
	if (gw->n_unrecorded == gw->cap_unrecorded) {
		unsigned cap = gw->cap_unrecorded ? gw->cap_unrecorded * 2 : 64;
		struct live_slot **more = realloc(gw->unrecorded, cap * sizeof(struct live_slot *));

		if (!more)
			return; /* a restart of this worker finds it */
		gw->unrecorded = more;
		gw->cap_unrecorded = cap;
	}
	gw->unrecorded[gw->n_unrecorded++] = s;
	if (!gw->unrecorded_timer.index)
		loop_timer(&gw->loop, &gw->unrecorded_timer, gw->loop.now_ns + RETRY_NS, on_unrecorded, gw);
}

/* A record without a slot of its own gets one when the journal has no room. */
static void brief_record(struct gateway *gw, const struct live_slot *brief)
{
	struct live_slot *s;

	if (slot_record(gw, brief) == 0)
		return;
	s = live_take(gw->live);
	if (!s) {
		log_limited(LOG_ERR, "a refused request could not be recorded; free space below state_dir");
		return;
	}
	slot_copy(s, brief);
	live_begin(s);
	slot_keep(gw, s);
}

static void slot_finish(struct gateway *gw, struct live_slot *s)
{
	int err = slot_record(gw, s);

	if (s->hold.op)
		balances_settle(gw->balances, &s->hold, s->real);
	if (err)
		slot_keep(gw, s);
	else
		live_end(gw->live, s);
}

bool account_has_room(struct gateway *gw)
{
	/* The ledger role leaves this file beside the journal while it cannot write. */
	if (gw->config->ledger.on_error == LEDGER_STOP && gw->loop.now_ns - gw->ledger_checked_ns > RETRY_NS) {
		gw->ledger_checked_ns = gw->loop.now_ns;
		gw->ledger_failed = faccessat(gw->journal_dir, "ledger-error", F_OK, 0) == 0;
	}
	return !gw->ledger_failed && !gw->n_unrecorded && journal_has_room(gw->journal, ADMISSION_BYTES);
}

/* ------------------------------------------------------------------ records */

/* Who asked, as the slot has it already: for one whose connection is gone. */
static void keep_identity(const struct live_slot *s, char kept[LIVE_STRINGS_BYTES], struct str strings[RQ_STRINGS])
{
	static const enum rec_request_string who[] = { RQ_CGROUP, RQ_TAGS, RQ_CONTAINER, RQ_COMM };
	struct str was[RQ_STRINGS];

	memcpy(kept, s->strings, s->strings_len);
	if (!record_unpack(s->rec.len, RQ_STRINGS, kept, s->strings_len, was))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(who); i++)
		strings[who[i]] = was[who[i]];
}

static void fill_strings(const struct request *r, struct live_slot *s)
{
	char kept[LIVE_STRINGS_BYTES];
	const struct label *label = r->conn ? request_label(r) : NULL;
	const struct resp_facts *f = r->state == REQUEST_ANSWER_BODY ? resp_tap_facts(r->answer_tap) : NULL;
	struct str target = r->head.target, strings[RQ_STRINGS] = { 0 };
	const char *query = target.n ? memchr(target.s, '?', target.n) : NULL;

	strings[RQ_CGROUP] = str_of(label ? label->box.path : "");
	strings[RQ_TAGS] = str_of(label ? label->box.tags : "");
	strings[RQ_CONTAINER] = str_of(label ? label->box.container : "");
	if (r->rules && r->verdict.n_candidates)
		strings[RQ_PROVIDER] = policy_provider(r->rules->policy, r->provider)->name;
	strings[RQ_MODEL] = r->verdict.model.n ? r->verdict.model : r->model;
	strings[RQ_ANSWER_MODEL] = str_of(f ? f->model : "");
	strings[RQ_CLIENT] = str_of(r->client);
	strings[RQ_SESSION] = str_of(r->session);
	strings[RQ_METHOD] = r->head.method;
	strings[RQ_PATH] = (struct str){ target.s, MIN(query ? (size_t)(query - target.s) : target.n, (size_t)200) };
	strings[RQ_STOP] = str_of(f ? f->stop_reason : "");
	strings[RQ_ERROR] = str_of(f && f->has_error ? (f->error_type[0] ? f->error_type : f->error_code) : r->why);
	strings[RQ_RULE] = str_of(r->rule);
	if (r->conn)
		strings[RQ_COMM] = (struct str){ r->conn->stamp.comm,
						 strnlen(r->conn->stamp.comm, sizeof(r->conn->stamp.comm)) };
	else
		keep_identity(s, kept, strings);
	live_set_strings(s, strings);
}

static void fill_fixed(const struct request *r, struct live_slot *s)
{
	s->rec = (struct rec_request){ .id = r->id,
				       .started_ns = r->started_wall_ns,
				       .count = 1,
				       .format = (uint8_t)r->route.format,
				       .outcome = OUTCOME_LOST,
				       .flags = RQF_PARTIAL,
				       .worker = (uint8_t)r->gw->worker,
				       .input = -1, .cache_read = -1, .cache_write = -1, .cache_write_1h = -1,
				       .output = -1, .reasoning = -1, .web_searches = -1,
				       .request_bytes = r->facts ? r->facts->body_bytes : 0 };
	if (r->conn) {
		s->rec.cgroup_id = r->conn->stamp.cgroup_id;
		s->rec.label_id = r->conn->stamp.label_id;
		s->rec.label_gen = r->conn->stamp.label_gen;
		s->rec.pid = r->conn->stamp.pid;
		s->rec.uid = r->conn->stamped ? r->conn->stamp.uid : UINT32_MAX;
	}
}

/* What tools of the last turn came to, as this request brings it. */
static void record_results(struct request *r)
{
	for (unsigned i = 0; i < r->facts->n_results; i++) {
		const struct tool_result *t = &r->facts->results[i];
		struct rec_tool_result rec = { .request_id = r->id,
					       .at_ns = r->started_wall_ns,
					       .cgroup_id = r->conn->stamp.cgroup_id,
					       .bytes = t->bytes,
					       .is_error = t->is_error };
		struct str parts[TR_STRINGS] = { [TR_CALL_ID] = str_of(t->call_id), [TR_NAME] = str_of(t->name) };
		char strings[CALL_ID_BYTES + TOOL_NAME_BYTES];
		size_t n = record_pack(rec.len, parts, TR_STRINGS, strings, sizeof(strings));

		if (n)
			journal_put(r->gw, REC_TOOL_RESULT, &rec, sizeof(rec), strings, n);
	}
}

int account_begin(struct request *r)
{
	r->slot = live_take(r->gw->live);
	if (!r->slot)
		return -ENOSPC;
	if (r->verdict.n_candidates)
		r->provider = r->verdict.candidates[0];
	fill_fixed(r, r->slot);
	fill_strings(r, r->slot);
	live_begin(r->slot);
	record_results(r);
	return 0;
}

void account_next_provider(struct request *r)
{
	if (r->slot)
		fill_strings(r, r->slot);
}

void account_dispatched(struct request *r)
{
	if (r->slot)
		r->slot->real[QUOTA_REQUESTS] = 1;
}

void account_tool_call(struct request *r, const struct tool_call *call)
{
	char summary[1024], strings[REC_STRING_MAX + 2048];
	enum tool_meaning meaning = tool_meaning(call, summary, sizeof(summary));
	struct rec_tool_call rec = { .request_id = r->id,
				     .at_ns = r->gw->loop.wall_ns,
				     .cgroup_id = r->slot ? r->slot->rec.cgroup_id : 0,
				     .index = r->n_calls++,
				     .kind = (uint8_t)call->kind,
				     .meaning = (uint8_t)meaning,
				     .complete = call->complete,
				     .arguments_bytes = (uint32_t)call->arguments.n };
	struct str parts[TC_STRINGS] = { [TC_CALL_ID] = call->id,
					 [TC_NAME] = call->name,
					 [TC_SERVER] = call->server,
					 [TC_SUMMARY] = str_of(summary),
					 [TC_ARGUMENTS] = { call->arguments.s,
							    MIN(call->arguments.n, (size_t)ARGUMENTS_KEPT) } };
	size_t n = record_pack(rec.len, parts, TC_STRINGS, strings, sizeof(strings));

	if (journal_put(r->gw, REC_TOOL_CALL, &rec, sizeof(rec), strings, n) < 0)
		log_limited(LOG_ERR, "a tool call could not be recorded; free space below state_dir");
}

/* ------------------------------------------------------------------ money */

/*
 * Text, what looks like an image, and what is no string (numbers are tokens of some APIs): each at what it may come
 * to at the most, roughly. Only a reservation; the provider's numbers are what is paid.
 */
static int64_t estimate_input(const struct request *r)
{
	const struct req_facts *f = r->facts;
	uint64_t strings = f->text_bytes + f->blob_bytes;
	uint64_t others = f->body_bytes > strings ? f->body_bytes - strings : 0;

	return (int64_t)(f->text_bytes / BYTES_PER_TOKEN + f->blob_bytes / BLOB_BYTES_PER_TOKEN +
			 others / OTHER_BYTES_PER_TOKEN + f->token_ids) +
	       1;
}

static int64_t estimate_output(const struct request *r)
{
	int64_t n = r->facts->max_output, all;

	if (r->route.kind != ROUTE_MODEL)
		return 0;
	if (n < 0)
		n = r->priced && r->price.max_output_tokens ? r->price.max_output_tokens : OUTPUT_TOKENS_DEFAULT;
	if (r->priced && r->price.max_output_tokens)
		n = MIN(n, r->price.max_output_tokens);
	if (__builtin_mul_overflow(n, r->facts->answers, &all))
		return ESTIMATE_MAX;
	return MIN(all, ESTIMATE_MAX);
}

/* Dollars of an estimate are rounded up: nobody needs them to the billionth. */
#define SAID_NANOUSD 100000

/* It would wait for ever: no refill helps, a smaller request does. */
static void deny_too_large(struct request *r, const struct balance_need *need)
{
	enum quota_unit unit = need->quota->unit;
	int64_t amount = need->amount;

	if (unit == QUOTA_NANOUSD && amount % SAID_NANOUSD && amount < INT64_MAX - SAID_NANOUSD)
		amount += SAID_NANOUSD - amount % SAID_NANOUSD;
	request_deny_quota(r, 0,
			   "Sallyport: this request may %s %s, more than the quota \"%s\" ever holds (%s): ask for fewer output tokens (max_tokens, max_completion_tokens, maxOutputTokens), or ask your platform team for a larger capacity.",
			   unit == QUOTA_NANOUSD ? "cost" : "need", units_amount_text(unit, amount).s, need->bucket,
			   units_amount_text(unit, need->quota->capacity).s);
}

static void deny_quota(struct request *r, const struct balance_need *need, const struct balance_refusal *no)
{
	bool never = no->retry_after_ns == UINT64_MAX;
	uint64_t seconds = never ? 0 : no->retry_after_ns / NSEC_PER_SEC + 1;
	const char *unit = quota_unit_name(need->quota->unit);
	char amounts[120];

	snprintf(r->rule, sizeof(r->rule), "quota %s", need->bucket);
	if (quota_exceeds(need->quota, need->amount)) {
		deny_too_large(r, need);
		return;
	}
	if (need->quota->unit == QUOTA_NANOUSD)
		snprintf(amounts, sizeof(amounts), "$%.4f left, this request may cost $%.4f", (double)no->balance / 1e9,
			 (double)need->amount / 1e9);
	else
		snprintf(amounts, sizeof(amounts), "%" PRId64 " %s left, this request may need %" PRId64, no->balance,
			 unit, need->amount);
	if (never)
		request_deny_quota(r, 0, "Sallyport: the quota \"%s\" is spent (%s); ask your platform team to refill it.",
				   need->bucket, amounts);
	else
		request_deny_quota(r, seconds,
				   "Sallyport: the quota \"%s\" is spent (%s); it refills in %" PRIu64 " s, or ask your platform team.",
				   need->bucket, amounts, seconds);
}

bool account_reserve(struct request *r)
{
	struct policy_facts who = request_facts(r);
	struct policy_charge charges[POLICY_CHARGES_MAX];
	struct balance_need needs[POLICY_CHARGES_MAX];
	struct balance_refusal refusal;
	int64_t nothing[QUOTA_UNIT_MAX] = { 0 }, input = estimate_input(r);
	int64_t output = estimate_output(r), cost = 0;
	unsigned n = r->route.kind != ROUTE_MODEL ? 0 :
						    policy_charges(r->rules->policy, &who, r->provider,
								   r->verdict.model, charges);
	int err;

	r->estimate_input = input;
	if (r->slot->hold.op) /* of a candidate that failed */
		balances_settle(r->gw->balances, &r->slot->hold, nothing);
	r->slot->real[QUOTA_REQUESTS] = 0;
	if (r->priced) {
		struct usage_tokens t = { .input = input, .output = output };

		cost = price_cost_nanousd(&r->price, &t);
	} else if (policy_refuses_unpriced(r->rules->policy, charges, n)) {
		request_deny(r, OUTCOME_DENIED_UNPRICED,
			     "Sallyport: the model \"%.*s\" has no price and your quota is in dollars; ask your platform team for a price (prices.hujson) or `\"unpriced\": \"allow\"`.",
			     STR_ARG(r->verdict.model));
		return false;
	}
	for (unsigned i = 0; i < n; i++) {
		const struct policy_quota *q = policy_quota(r->rules->policy, charges[i].quota);

		needs[i] = (struct balance_need){ q, charges[i].bucket,
						  q->unit == QUOTA_NANOUSD  ? cost :
						  q->unit == QUOTA_REQUESTS ? 1 :
									      input + output };
	}
	if (!n)
		return true;
	err = balances_reserve(r->gw->balances, needs, n, r->gw->loop.wall_ns, &r->slot->hold, &refusal);
	if (err == -EDQUOT)
		deny_quota(r, &needs[refusal.need], &refusal);
	else if (err)
		request_deny(r, OUTCOME_OVERLOADED, "Sallyport: the table of quota balances is full; use fewer per-cgroup quotas.");
	return !err;
}

static struct usage_tokens billed_tokens(const struct request *r, const struct resp_facts *f, bool *ret_estimated)
{
	struct usage u = f->usage;
	bool partial = !f->complete, none = u.input < 0 && u.output < 0;
	int64_t seen = (int64_t)(r->answer_bytes / (f->streamed ? STREAM_BYTES_PER_TOKEN : JSON_BYTES_PER_TOKEN));
	struct usage_tokens t;

	*ret_estimated = r->answer_status < 400 && r->answer_bytes && (none || partial) && r->route.kind == ROUTE_MODEL;
	if (*ret_estimated && none)
		u.input = r->estimate_input;
	if (*ret_estimated)
		u.output = MAX(u.output, seen);
	/* An answer that is only queued (Responses' background): it will be made, and nobody tells us how long. */
	if (*ret_estimated && none && !f->streamed && partial)
		u.output = MAX(u.output, estimate_output(r));
	t = (struct usage_tokens){ .input = MAX(u.input, (int64_t)0),
				   .cache_read = MAX(u.cache_read, (int64_t)0),
				   .cache_write_1h = MAX(u.cache_write_1h, (int64_t)0),
				   .output = MAX(u.output, (int64_t)0),
				   .reasoning = u.reasoning,
				   .web_searches = MAX(u.web_searches, (int64_t)0) };
	t.cache_write_5m = MAX(u.cache_write, (int64_t)0) - t.cache_write_1h;
	if (f->has_iterations) {
		t.input += MAX(f->billed_extra.input, (int64_t)0);
		t.output += MAX(f->billed_extra.output, (int64_t)0);
		t.cache_read += MAX(f->billed_extra.cache_read, (int64_t)0);
		t.cache_write_5m += MAX(f->billed_extra.cache_write, (int64_t)0);
	}
	return t;
}

void account_progress(struct request *r)
{
	const struct resp_facts *f;
	struct usage_tokens t;
	bool estimated;
	struct rec_request *rec;

	if (!r->slot)
		return;
	f = resp_tap_facts(r->answer_tap);
	t = billed_tokens(r, f, &estimated);
	rec = &r->slot->rec;
	rec->input = f->usage.input;
	rec->cache_read = f->usage.cache_read;
	rec->cache_write = f->usage.cache_write;
	rec->cache_write_1h = f->usage.cache_write_1h;
	rec->output = f->usage.output;
	rec->reasoning = f->usage.reasoning;
	rec->web_searches = f->usage.web_searches;
	rec->flags = (uint8_t)((f->streamed ? RQF_STREAMED : 0) | (f->complete ? 0 : RQF_PARTIAL) |
			       (estimated ? RQF_ESTIMATED : 0) | (r->priced ? 0 : RQF_UNPRICED));
	if (estimated) {
		rec->input = t.input;
		rec->output = t.output;
	}
	rec->cost_nanousd = r->priced && r->route.kind == ROUTE_MODEL ? price_cost_nanousd(&r->price, &t) : 0;
	rec->http_status = rec->upstream_status = (uint16_t)r->answer_status;
	rec->answer_bytes = r->answer_bytes;
	rec->duration_us = (r->gw->loop.now_ns - r->started_ns) / 1000; /* until here, should this process die */
	rec->n_tool_calls = r->n_calls;
	if (f->complete)
		rec->outcome = (uint8_t)(f->has_error ? OUTCOME_PROVIDER_ERROR : OUTCOME_OK);
	r->slot->real[QUOTA_NANOUSD] = rec->cost_nanousd;
	r->slot->real[QUOTA_REQUESTS] = 1;
	r->slot->real[QUOTA_TOKENS] = t.input + t.cache_read + t.cache_write_5m + t.cache_write_1h + t.output;
}

/* ------------------------------------------------------------------ the end */

static void fill_end(const struct request *r, struct live_slot *s)
{
	struct gateway *gw = r->gw;

	s->rec.outcome = (uint8_t)r->outcome;
	s->rec.http_status = (uint16_t)MAX(r->answer_status, 0);
	s->rec.duration_us = (gw->loop.now_ns - r->started_ns) / 1000;
	s->rec.first_byte_us = r->first_byte_ns ? (r->first_byte_ns - r->started_ns) / 1000 : 0;
	if (r->state != REQUEST_ANSWER_BODY)
		s->rec.flags &= RQF_ESTIMATED | RQF_UNPRICED; /* there was no answer that could be partial */
	if (r->forced)
		s->rec.flags |= RQF_FORCED;
}

/*
 * The provider had the whole request when the client left: it bills what it read, whoever listens. Were that
 * free, a sandbox could spend without end by leaving early.
 */
static void bill_unanswered(const struct request *r, struct live_slot *s)
{
	struct usage_tokens t = { .input = r->estimate_input };

	s->rec.input = t.input;
	s->rec.flags = RQF_ESTIMATED | (r->priced ? 0 : RQF_UNPRICED);
	s->rec.cost_nanousd = r->priced ? price_cost_nanousd(&r->price, &t) : 0;
	s->real[QUOTA_NANOUSD] = s->rec.cost_nanousd;
	s->real[QUOTA_TOKENS] = t.input;
}

static bool is_denial(enum outcome outcome)
{
	return outcome >= OUTCOME_DENIED_UNSTAMPED && outcome <= OUTCOME_DENIED_LIMIT;
}

/* Repeats of an event, counted in the memory of this process: an event is a message, not money. */
#define EVENTS_MAX 32
static struct event_repeat {
	uint64_t key, until_ns; /* key 0: free */
	struct rec_event rec;
	size_t n;
	char strings[2048];
} event_repeats[EVENTS_MAX];

/* True while there are some left to wait for. */
static bool events_flush(struct gateway *gw, bool all)
{
	bool open = false;

	for (struct event_repeat *e = event_repeats; e < event_repeats + EVENTS_MAX; e++) {
		if (e->key && !all && e->until_ns > gw->loop.now_ns) {
			open = true;
			continue;
		}
		if (e->key && e->rec.count)
			journal_put(gw, REC_EVENT, &e->rec, sizeof(e->rec), e->strings, e->n);
		e->key = 0;
	}
	return open;
}

static uint64_t mix(uint64_t h, struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (unsigned char)s.s[i]) * 0x100000001b3ULL;
	return h * 0x9e3779b97f4a7c15ULL;
}

void account_flush_repeats(struct gateway *gw, bool all)
{
	bool open = events_flush(gw, all);

	for (unsigned i = 0; i < REPEATS_MAX; i++) {
		struct repeat *p = &gw->repeats[i];

		if (!p->key)
			continue;
		/* While the journal has no room they count on: each would keep a slot otherwise. */
		if (!all && (p->until_ns > gw->loop.now_ns || gw->n_unrecorded)) {
			open = true;
			continue;
		}
		if (p->slot)
			slot_finish(gw, TAKE_PTR(p->slot));
		p->key = 0;
	}
	if (!open)
		loop_untimer(&gw->loop, &gw->repeat_timer);
}

static void on_repeat_timer(void *arg)
{
	struct gateway *gw = arg;

	loop_timer(&gw->loop, &gw->repeat_timer, gw->loop.now_ns + RETRY_NS, on_repeat_timer, gw);
	account_flush_repeats(gw, false);
}

static void repeats_arm(struct gateway *gw)
{
	if (!gw->repeat_timer.index)
		loop_timer(&gw->loop, &gw->repeat_timer, gw->loop.now_ns + RETRY_NS, on_repeat_timer, gw);
}

/* The place of this key, or NULL; also a free one (or NULL) and how many are taken. */
static struct repeat *repeat_find(struct gateway *gw, uint64_t key, struct repeat **ret_free, unsigned *ret_taken)
{
	*ret_free = NULL;
	*ret_taken = 0;
	for (struct repeat *p = gw->repeats; p < gw->repeats + REPEATS_MAX; p++) {
		if (p->key == key && (p->until_ns > gw->loop.now_ns || gw->n_unrecorded))
			return p;
		if (!p->key)
			*ret_free = p;
		else
			(*ret_taken)++;
	}
	return NULL;
}

/*
 * Refused: the first of its kind is recorded at once, those that follow within REPEAT_NS are one record
 * with their count, which lives in shared memory until its time is up. Who varies model or path to fill the
 * table is counted by cgroup and outcome only: refusals must not fill the disk.
 */
static void record_refused(struct request *r, const struct live_slot *s)
{
	struct gateway *gw = r->gw;
	uint64_t coarse = mix(s->rec.cgroup_id + r->outcome, STR("*")) | 1;
	uint64_t key = mix(mix(mix(s->rec.cgroup_id + r->outcome, r->model), str_of(r->rule)), str_of(r->route.target)) | 1;
	struct repeat *free_place, *p;
	unsigned taken;

	p = repeat_find(gw, key, &free_place, &taken);
	if (!p && taken >= REPEATS_MAX / 2) {
		key = coarse;
		p = repeat_find(gw, key, &free_place, &taken);
	}
	if (!p) {
		brief_record(gw, s);
		if (!free_place)
			return;
		*free_place = (struct repeat){ .key = key, .until_ns = gw->loop.now_ns + REPEAT_NS };
		repeats_arm(gw);
		return;
	}
	if (p->slot) {
		p->slot->rec.count++;
		return;
	}
	p->slot = live_take(gw->live);
	if (!p->slot) {
		brief_record(gw, s);
		return;
	}
	slot_copy(p->slot, s);
	live_begin(p->slot);
}

void account_end(struct request *r)
{
	struct gateway *gw = r->gw;
	struct live_slot *s = TAKE_PTR(r->slot), brief;

	if (r->outcome == OUTCOME_LOCAL)
		return;
	if (s && !is_denial(r->outcome)) {
		if (r->outcome == OUTCOME_UPSTREAM_DOWN || r->outcome == OUTCOME_NO_KEY || r->outcome == OUTCOME_KEY_REFUSED ||
		    r->outcome == OUTCOME_OVERLOADED)
			memset(s->real, 0, sizeof(s->real));
		else if (!s->real[QUOTA_REQUESTS] && r->sent)
			s->real[QUOTA_REQUESTS] = 1;
		if (r->outcome == OUTCOME_CLIENT_GONE && r->state == REQUEST_ANSWER_HEAD && r->route.kind == ROUTE_MODEL)
			bill_unanswered(r, s);
		fill_strings(r, s);
		fill_end(r, s);
		slot_finish(gw, s);
		return;
	}
	if (s) {
		memset(s->real, 0, sizeof(s->real));
		if (s->hold.op)
			balances_settle(gw->balances, &s->hold, s->real);
		live_end(gw->live, s);
	}
	/* Denied, or ended before it was admitted: no slot is needed for a moment like this. */
	memset(&brief, 0, offsetof(struct live_slot, strings));
	fill_fixed(r, &brief);
	fill_strings(r, &brief);
	fill_end(r, &brief);
	record_refused(r, &brief);
}

static void recover_one(void *arg, struct live_slot *s)
{
	struct gateway *gw = arg;

	slot_finish(gw, s);
}

void account_recover(struct gateway *gw)
{
	live_recover(gw->live, recover_one, gw);
}

struct left {
	struct gateway *gw;
	struct live *live;
};

static void recover_left(void *arg, struct live_slot *s)
{
	struct left *left = arg;
	int err = slot_record(left->gw, s);

	if (s->hold.op)
		balances_settle(left->gw->balances, &s->hold, s->real);
	/* Without room for the record it stays, and comes again. */
	if (!err)
		live_end(left->live, s);
}

void account_recover_left(struct gateway *gw, int fd)
{
	struct left left = { .gw = gw };
	int err = live_open(fd, 0, &left.live);

	if (err) {
		log_limited(LOG_ERR, "the running requests of a dead worker cannot be read: %s; they may be of another version",
			    errno_text(err));
		return;
	}
	live_recover(left.live, recover_left, &left);
	live_retire(left.live);
	live_close(left.live);
}

/* ------------------------------------------------------------------ events */

/* Counts an event that was recorded a moment ago; else false, a place to remember it or NULL, and how many are taken. */
static bool event_repeated(struct gateway *gw, uint64_t key, struct event_repeat **ret_place, unsigned *ret_taken)
{
	*ret_place = NULL;
	*ret_taken = 0;
	for (struct event_repeat *e = event_repeats; e < event_repeats + EVENTS_MAX; e++) {
		if (e->key == key && e->until_ns > gw->loop.now_ns) {
			e->rec.count++;
			return true;
		}
		if (!e->key)
			*ret_place = e;
		else
			(*ret_taken)++;
	}
	return false;
}

void account_event(struct gateway *gw, const struct conn *c, const char *kind, const char *fmt, ...)
{
	const struct label *label = c && c->stamped ? labels_get(&gw->labels, c->stamp.label_id) : NULL;
	struct rec_event rec = { .at_ns = gw->loop.wall_ns, .count = 1, .level = LOG_WARN };
	char text[512], strings[sizeof(event_repeats[0].strings)];
	struct str parts[EV_STRINGS] = { [EV_KIND] = str_of(kind) };
	struct event_repeat *place;
	uint64_t key, coarse;
	unsigned taken;
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* Who varies names or addresses to fill the table is counted by cgroup and kind only. */
	coarse = mix(c ? c->stamp.cgroup_id : 0, str_of(kind)) | 1;
	key = mix(coarse, str_of(text)) | 1;
	if (event_repeated(gw, key, &place, &taken))
		return;
	if (taken >= EVENTS_MAX / 2) {
		key = coarse;
		if (event_repeated(gw, key, &place, &taken))
			return;
	}
	parts[EV_TEXT] = str_of(text);
	if (c) {
		rec.cgroup_id = c->stamp.cgroup_id;
		rec.pid = c->stamp.pid;
		rec.uid = c->stamp.uid;
		parts[EV_COMM] = (struct str){ c->stamp.comm, strnlen(c->stamp.comm, sizeof(c->stamp.comm)) };
	}
	if (label) {
		parts[EV_CGROUP] = str_of(label->box.path);
		parts[EV_TAGS] = str_of(label->box.tags);
	}
	n = record_pack(rec.len, parts, EV_STRINGS, strings, sizeof(strings));
	if (journal_put(gw, REC_EVENT, &rec, sizeof(rec), strings, n) < 0)
		log_limited(LOG_ERR, "an event could not be recorded; free space below state_dir");
	if (place) {
		rec.count = 0;
		*place = (struct event_repeat){ .key = key, .until_ns = gw->loop.now_ns + REPEAT_NS, .rec = rec, .n = n };
		memcpy(place->strings, strings, n);
		repeats_arm(gw);
	}
	log_limited(LOG_WARN, "%s kind=%s", text, kind);
}
