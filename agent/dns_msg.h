/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages (RFC 1035, 6891): reading what strangers send, writing short answers. Pure: no I/O, no clock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base.h"
#include "common/str.h"

#define DNS_HEADER_BYTES   12
#define DNS_QUESTION_BYTES (DNS_HEADER_BYTES + 255 + 4) /* header and the longest question */
#define DNS_TEXT_BYTES	   256
#define DNS_MESSAGE_BYTES  65535
/* Rationale: fits into a datagram without EDNS; the longest question and all that we add to it is below 400. */
#define DNS_ANSWER_BYTES 512

/* Bits of dns_question.flags. */
#define DNS_FLAG_QR 0x8000
#define DNS_FLAG_TC 0x0200
#define DNS_FLAG_RD 0x0100
#define DNS_FLAG_RA 0x0080
#define DNS_FLAG_CD 0x0010
#define DNS_OPCODE  0x7800
#define DNS_RCODE   0x000f

enum dns_type {
	DNS_A = 1, DNS_CNAME = 5, DNS_SOA = 6, DNS_AAAA = 28, DNS_OPT = 41, DNS_SVCB = 64, DNS_HTTPS = 65, DNS_ANY = 255
};
enum dns_class { DNS_IN = 1, DNS_CLASS_ANY = 255 };
enum dns_rcode { DNS_NOERROR, DNS_FORMERR, DNS_SERVFAIL, DNS_NXDOMAIN, DNS_NOTIMP, DNS_REFUSED };

/* The head of a message, kept for as long as somebody waits for its answer. */
struct dns_question {
	uint16_t id, flags, type, class;
	uint16_t end;	  /* bytes in `head`; what follows in the message are records */
	bool edns;	  /* the query has an OPT record */
	bool dnssec_ok;	  /* and its DO bit */
	bool plain;	  /* nothing but letters, digits, '-' and '_' in the labels */
	char name[DNS_TEXT_BYTES]; /* lower case, without final dot; '?' for any byte that is not plain */
	uint8_t head[DNS_QUESTION_BYTES]; /* header and question as they came */
};

/* 0, or -EINVAL: not exactly one question that can be read (`ret` is then undefined). */
int dns_parse(struct str msg, struct dns_question *ret);
/* Is this the answer to it: the same id and the same question? A failure may leave the question out. */
bool dns_answers(const struct dns_question *asked, uint16_t id, struct str msg);

struct dns_answer {
	uint8_t bytes[DNS_ANSWER_BYTES];
	size_t n;
};
/* An answer without records. */
void dns_answer_begin(struct dns_answer *a, const struct dns_question *q, enum dns_rcode rcode);
/* The same for a message whose question cannot be read; its header must be there. */
void dns_answer_header(struct dns_answer *a, struct str msg, enum dns_rcode rcode);
/* An address of the name that was asked for (A or AAAA as the family says). */
void dns_answer_addr(struct dns_answer *a, int family, const uint8_t *addr, uint32_t ttl_s);
/* "There is nothing", for so long (RFC 2308). Behind the addresses, before the end. */
void dns_answer_soa(struct dns_answer *a, uint32_t ttl_s);
/* The OPT record that a query with one gets. */
void dns_answer_end(struct dns_answer *a, const struct dns_question *q);

/* A recursive query with EDNS; its question is in `ret_q`. Returns the bytes of `ret`, 0: it is no name. */
size_t dns_query_build(struct str name, enum dns_type type, uint16_t id, uint8_t ret[DNS_ANSWER_BYTES],
		       struct dns_question *ret_q);

struct dns_record {
	char name[DNS_TEXT_BYTES];
	uint16_t type, class;
	uint32_t ttl_s;
	struct str data; /* borrowed from the message */
	size_t at;	 /* of the data in the message */
};
/* The answers of a message, one after another: set `at` to the question's end and `left` to dns_n_answers(). */
struct dns_records {
	struct str msg;
	size_t at;
	unsigned left;
};
unsigned dns_n_answers(struct str msg);
/* 1: `ret` is filled, 0: no more, -EINVAL: cannot be read. */
int dns_record_next(struct dns_records *r, struct dns_record *ret);

#define DNS_ADDRESSES_MAX 32
struct dns_addresses {
	unsigned n;
	uint32_t ttl_s; /* the shortest of the addresses and of the aliases that led to them */
	uint8_t addr[DNS_ADDRESSES_MAX][16];
};
/*
 * The addresses of the question's type (A or AAAA), behind its aliases (CNAME) as far as this message has them. 0 or
 * -EINVAL.
 */
int dns_addresses(struct str msg, const struct dns_question *q, struct dns_addresses *ret);
