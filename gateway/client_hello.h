/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first message of a TLS client (RFC 8446, 4.1.2): which name it asks for, before anything is answered. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

/*
 * Records included. Rationale: hellos with a post-quantum key share are 2 KiB, with Encrypted Client Hello 3 KiB; the
 * length of the extensions has 16 bits. As much as an HTTP head may have.
 */
#define CLIENT_HELLO_MAX (64u << 10)
#define HOST_NAME_BYTES	 256 /* 253 at most (RFC 1035, 2.3.4) */

#define TLS_RECORD_HANDSHAKE 22
#define TLS_FIRST_BYTE	     "\x16" /* of every TLS connection: the same number */

struct client_hello {
	/* Where reading goes on when more has come: zeroed at the start. */
	size_t next_record, have;

	char name[HOST_NAME_BYTES]; /* lower case, without a final dot; "": none was sent */
	uint16_t version;	    /* the highest that is offered: 0x0303, 0x0304 */
	bool alpn;		    /* the client names protocols … */
	bool alpn_http11, alpn_h2;  /* … and these are among them */
	bool ech;		    /* the name may be another one's: the real one is encrypted, or it is said to be */
};

enum { HELLO_MORE = 0, HELLO_BAD = -1 };

/*
 * `in` is all that the client has sent so far, from its first byte. Returns the bytes of the records that hold the
 * message, HELLO_MORE, or HELLO_BAD with *ret_why a static sentence. The same struct goes with all calls for a client.
 */
int client_hello_parse(struct str in, struct client_hello *h, const char **ret_why);
/* Copies a host name in its one spelling: lower case, no final dot. False: it is none. */
bool host_name_copy(struct str name, char ret[HOST_NAME_BYTES]);
