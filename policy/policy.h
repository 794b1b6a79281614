/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public face of the policy library: text -> policy -> (facts) -> verdict + reason. Pure: no
 * I/O, no clock, no log, no global state. A policy is immutable after policy_parse() and may be
 * read by any number of threads. All strings inside belong to the policy and live as long as it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/force.h"
#include "common/outcome.h"
#include "common/str.h"
#include "common/wire.h"

#define POLICY_TEXT_MAX	    (4u << 20)
#define POLICY_CANDIDATES   8  /* providers tried for one model */
#define POLICY_CHARGES_MAX  32 /* buckets of one request; one more refuses it */
#define POLICY_BUCKET_BYTES 96 /* "day:tag:pr-bot" */
#define POLICY_RULE_BYTES   160

/* ---------------------------------------------------------------- diagnostics */

struct policy_diag {
	bool is_error;	       /* else a warning */
	unsigned line, column; /* from 1; 0: the whole file */
	char text[256];	       /* a sentence with the cure, without the position */
};
#define POLICY_DIAGS_MAX 64
struct policy_diags {
	struct policy_diag items[POLICY_DIAGS_MAX];
	unsigned n, n_errors, n_dropped;
};
/* "FILE:LINE:COLUMN: error: text" lines; 0 or the error of the buffer. */
struct buf;
int policy_diags_print(const struct policy_diags *d, struct str file, struct buf *out);

/* ---------------------------------------------------------------- policy */

struct policy;
/*
 * 0, or -EINVAL (see diags), -ENOMEM. *ret_policy is untouched on failure. `prices` is the text of
 * a price table (prices.hujson) or empty for the built-in one. Runs the `tests` of the file too: a
 * failing test is an error.
 */
int policy_parse(struct str text, struct str prices, struct policy **ret_policy,
		 struct policy_diags *diags);
void policy_free(struct policy *p);

enum policy_key_kind { KEY_NONE, KEY_FILE, KEY_ENV, KEY_CMD, KEY_CRED, KEY_LITERAL, KEY_KIND_MAX };
enum policy_auth_header {
	AUTH_BEARER,
	AUTH_X_API_KEY,
	AUTH_X_GOOG_API_KEY,
	AUTH_API_KEY,
	AUTH_HEADER_MAX
};
enum policy_auth_mode { AUTH_OVERRIDE, AUTH_PASSTHROUGH, AUTH_NONE, AUTH_MODE_MAX };

struct policy_provider {
	struct str name, description;
	bool tls;	 /* https */
	struct str host; /* of baseurl, without brackets */
	uint16_t port;
	struct str base_path; /* "" or "/x/y", no slash at the end */
	enum policy_key_kind key_kind;
	struct str key_arg; /* path, variable, command, credential name; a literal's text */
	enum policy_auth_header auth_header;
	enum policy_auth_mode auth_mode;
	bool formats[WIRE_FORMAT_MAX];
	const struct str *models; /* globs */
	unsigned n_models;
	const struct str *add_headers; /* "Name: value", checked */
	unsigned n_add_headers;
	const struct str *domains; /* host names, lower case; "*" stands for a run without a dot */
	unsigned n_domains;
	const struct str *cidrs; /* "160.79.104.0/23": addresses that only this provider has */
	unsigned n_cidrs;
	int64_t preference;
	bool disabled, insecure;
	bool drain_on_disconnect; /* the provider bills the whole answer anyway */
	bool usage_option; /* takes stream_options.include_usage (default true for openai_chat) */
};
unsigned policy_n_providers(const struct policy *p);
const struct policy_provider *policy_provider(const struct policy *p, unsigned i);

/* Who asks. Everything is borrowed for the call. */
struct policy_facts {
	const struct str *tags; /* "tag:x" */
	unsigned n_tags;
	struct str cgroup;    /* path below the cgroup2 root, "/…" */
	struct str container; /* name, or empty */
	struct str user;      /* login of a host process, or empty */
};

enum quota_unit { QUOTA_NANOUSD, QUOTA_REQUESTS, QUOTA_TOKENS, QUOTA_UNIT_MAX };
const char *quota_unit_name(enum quota_unit unit);

struct policy_quota {
	struct str name; /* as in the file, "<tag>" included */
	bool per_tag, per_cgroup;
	enum quota_unit unit;
	int64_t capacity;
	int64_t rate; /* units per rate_period_ns; 0: never refills */
	uint64_t rate_period_ns;
	bool warn_only; /* on_exceed: warn */
};
unsigned policy_n_quotas(const struct policy *p);
const struct policy_quota *policy_quota(const struct policy *p, unsigned i);

struct policy_charge {
	unsigned quota;			  /* index */
	char bucket[POLICY_BUCKET_BYTES]; /* expanded name: the identity of the balance */
};

struct policy_query {
	struct policy_facts who;
	enum wire_format format;
	struct str model; /* "model" or "provider/model"; a provider prefix is honoured if it names
			     one */
	struct str provider; /* explicit provider (/p/{provider}/…), or empty */
	struct str host;     /* the provider's name that it was sent to: only who has it may serve it; or empty */
};

struct policy_verdict {
	enum outcome outcome;			/* OUTCOME_NONE: allowed */
	unsigned candidates[POLICY_CANDIDATES]; /* provider indexes, best first */
	unsigned n_candidates;
	struct str model; /* without the provider prefix; points into the query */
	bool is_admin;
	char rule[POLICY_RULE_BYTES]; /* the rule that decided: "grants[1] (line 40)", or what is
					 missing */
};
/* Bounded, no allocation. Never touches quotas; those are policy_charges() and quota.h. */
void policy_eval(const struct policy *p, const struct policy_query *q, struct policy_verdict *ret);

/* The buckets that this identity pays for this provider and model; returns how many. */
unsigned policy_charges(const struct policy *p, const struct policy_facts *who, unsigned provider,
			struct str model, struct policy_charge ret[POLICY_CHARGES_MAX]);
/* These charges refuse a model without a price: one is in dollars, and `unpriced` is "deny". */
bool policy_refuses_unpriced(const struct policy *p, const struct policy_charge *charges,
			     unsigned n);
/*
 * As policy_eval(), and what the gateway refuses before it asks the best candidate: a model without
 * a price under a dollar quota. The candidates stay, so that it can be told why. Not for a call
 * that spends nothing (files, counting).
 */
void policy_eval_spending(const struct policy *p, const struct policy_query *q,
			  struct policy_verdict *ret);
/* Headers that matching grants add upstream ("Name: value"); returns how many were written. */
unsigned policy_grant_headers(const struct policy *p, const struct policy_facts *who,
			      unsigned provider, struct str model, struct str *ret, unsigned max);

/*
 * Calls `fn` for each (provider, model) the identity may use; globs are listed as they stand, and behind them
 * the names of the provider's price table that they cover.
 */
typedef void (*policy_model_fn)(void *arg, const struct policy_provider *provider,
				struct str model);
void policy_models(const struct policy *p, const struct policy_facts *who, policy_model_fn fn,
		   void *arg);

/* ---------------------------------------------------------------- the forced path */

/* What `egress` says of an identity: the strictest of its tags' modes, else the default. */
enum force_mode policy_egress_mode(const struct policy *p, const struct str *tags, unsigned n_tags);
/* Does `pattern` ("api.example.com", "*.example.com") cover this host name (lower case, no final dot)? */
bool policy_domain_match(struct str pattern, struct str host);
/* True when the enabled provider has this host name among its domains. */
bool policy_provider_owns(const struct policy_provider *provider, struct str host);
/* The first enabled provider that has it, or -1. */
int policy_domain_provider(const struct policy *p, struct str host);

/* ---------------------------------------------------------------- labels by rule */

struct policy_label_facts {
	struct str cgroup, image, container;
	/* Looks a container label up; returns empty when there is none. */
	struct str (*container_label)(void *arg, struct str name);
	void *arg;
};
/* First matching rule of `labels`; writes "tag:a,tag:b" and returns true, or false. */
bool policy_label(const struct policy *p, const struct policy_label_facts *facts, char *ret_tags,
		  size_t size);

/* ---------------------------------------------------------------- prices */

struct usage_tokens {
	int64_t input, cache_read, cache_write_5m, cache_write_1h, output, reasoning, web_searches;
};
struct policy_price {
	/* picodollars a token: dollars per million tokens times 1e6. -1: this part has no price. */
	int64_t input, output, cache_read, cache_write_5m, cache_write_1h;
	int64_t web_search_nanousd;		   /* each */
	int64_t context_tokens, max_output_tokens; /* 0: unknown */
	/* Other prices when the whole prompt is longer than this; 0: none. -1: as above. */
	int64_t tier_above_tokens;
	int64_t tier_input, tier_output, tier_cache_read, tier_cache_write_5m, tier_cache_write_1h;
	int64_t adjustment_ppm; /* 1,000,000: none */
};
/* False: unpriced. Follows model_cost_map and cost_basis of the provider. */
bool policy_price(const struct policy *p, unsigned provider, struct str model,
		  struct policy_price *ret);
/*
 * Nano-dollars, rounded up once at the end; tokens below 0 count as 0; saturates at INT64_MAX.
 * Reasoning is a part of the output and costs nothing on its own; a cached part without a price
 * costs as input.
 */
int64_t price_cost_nanousd(const struct policy_price *price, const struct usage_tokens *tokens);

/* `unpriced`: "allow" in the policy lets unpriced models through a dollar quota; default deny. */
bool policy_unpriced_allowed(const struct policy *p);
/* "2025-11-20": of the price table. */
struct str policy_prices_date(const struct policy *p);
