/* SPDX-License-Identifier: Apache-2.0 */
/* Each request ends in exactly one of these, in log, metric and ledger alike. */
#pragma once

enum outcome {
	OUTCOME_NONE = 0, /* still running */
	OUTCOME_OK,
	OUTCOME_PROVIDER_ERROR, /* the provider answered with an error of its own, passed on */
	OUTCOME_CLIENT_GONE,    /* the client left before the end */
	OUTCOME_UPSTREAM_DOWN,  /* no connection: refused, unresolved, timeout, TLS */
	OUTCOME_UPSTREAM_BROKE, /* the answer stopped or was not HTTP */
	OUTCOME_UPSTREAM_STALL, /* nothing came for the idle limit */
	OUTCOME_KEY_REFUSED,    /* 401/403 on our key */
	OUTCOME_DENIED_UNSTAMPED,
	OUTCOME_DENIED_UNLABELLED,
	OUTCOME_DENIED_ROLE,
	OUTCOME_DENIED_MODEL,
	OUTCOME_UNKNOWN_MODEL,
	OUTCOME_DENIED_QUOTA,
	OUTCOME_DENIED_UNPRICED,
	OUTCOME_DENIED_LIMIT,
	OUTCOME_BAD_REQUEST,
	OUTCOME_TOO_LARGE,
	OUTCOME_NOT_FOUND,  /* no such path on the door */
	OUTCOME_NO_KEY,     /* the provider has no usable key */
	OUTCOME_OVERLOADED, /* our own bounds: memory, connections, ledger full */
	OUTCOME_LOCAL,      /* answered by the gateway itself: HEAD, /v1/models */
	OUTCOME_LOST,       /* the worker died in the middle; what was known is recorded */
	OUTCOME_MISDIRECTED, /* its Host is not the name that the connection was made for */
	OUTCOME_MAX,
};

/* Stable lower-case word, as in `sallyport-reason`, the ledger and metrics. */
const char *outcome_name(enum outcome outcome);
