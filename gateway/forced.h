/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of a connection that was led to the door while its client asked for somewhere else: the decision, pure.
 * A provider's name is never passed on unread, and what may hide one is not either.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/stamp.h"

enum forced_sort {
	FORCED_TLS,
	FORCED_TLS_BAD, /* it begins like TLS and is none */
	FORCED_HTTP,    /* a whole head of HTTP/1 */
	FORCED_UPGRADE, /* the same, and what follows it would be another protocol */
	FORCED_OTHER,   /* anything else, or nothing in time */
	FORCED_SORT_MAX
};

struct forced_facts {
	enum forced_sort sort;
	enum stamp_why why; /* VIP, SUSPECT or STRICT */
	bool named;	    /* the client named a host: SNI or Host */
	bool owned;	    /* and an enabled provider has that name */
	bool ech;	    /* the name may be a cover */
};

enum forced_action {
	FORCED_SERVE,	  /* read its requests, bound to the name */
	FORCED_TERMINATE, /* the same behind TLS of ours */
	FORCED_SPLICE,	  /* its bytes go on to where it asked for */
	FORCED_REFUSE,
};

struct forced_verdict {
	enum forced_action action;
	/* of a refusal: */
	uint8_t alert;	  /* TLS alert (RFC 8446, 6); 0: the client speaks no TLS */
	const char *kind; /* of the event */
	const char *why;  /* what is wrong, and the cure */
};

void forced_decide(const struct forced_facts *f, struct forced_verdict *ret);
/* "vip", "suspect", "strict"; "explicit" for the door itself. */
const char *forced_why_name(uint32_t why);
