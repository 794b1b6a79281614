/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wire format of DNS. A name in a message is a chain of labels that may go on earlier in the message (a
 * pointer); each pointer must lead before the place where the present run began, so every chain ends.
 */
#include "agent/dns_msg.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>

/* Rationale: no resolver returns longer chains; each hop costs a pass over the answers. */
#define ALIASES_MAX 16
/* Rationale: what is behind so many records is no list of addresses any more. */
#define RECORDS_MAX 256U
#define NAME_WIRE_MAX 255
/* Rationale: avoids fragments (the value of DNS flag day 2020). */
#define EDNS_BYTES 1232
/* The name that was asked for, as a pointer to it. */
#define POINTER_TO_QUESTION (0xc000 | DNS_HEADER_BYTES)

static unsigned get8(struct str m, size_t at)
{
	return (unsigned char)m.s[at];
}

static uint16_t get16(struct str m, size_t at)
{
	return (uint16_t)(get8(m, at) << 8 | get8(m, at + 1));
}

static uint32_t get32(struct str m, size_t at)
{
	return (uint32_t)get16(m, at) << 16 | get16(m, at + 2);
}

/* Lower case; '?' for what a host name never has, so a label with a dot inside is not mistaken for two. */
static char text_byte(unsigned c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c + 'a' - 'A');
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ? (char)c : '?';
}

/* The name at `at` as text; returns where its bytes in this place end, or 0 when it cannot be read. */
static size_t name_read(struct str m, size_t at, bool pointers, char text[DNS_TEXT_BYTES])
{
	size_t end = 0, run = at, wire = 0, n = 0;

	while (at < m.n) {
		unsigned len = get8(m, at);

		if (len >= 0xc0) {
			if (!pointers || at + 2 > m.n)
				return 0;
			end = end ? end : at + 2;
			at = get16(m, at) & 0x3fff;
			if (at >= run)
				return 0;
			run = at;
			continue;
		}
		wire += len + 1;
		if (len > 63 || wire > NAME_WIRE_MAX || len >= m.n - at)
			return 0;
		if (!len) {
			text[n] = '\0';
			return end ? end : at + 1;
		}
		if (n)
			text[n++] = '.';
		for (unsigned i = 1; i <= len; i++)
			text[n++] = text_byte(get8(m, at + i));
		at += len + 1;
	}
	return 0;
}

/* Behind the record's name: type, class, ttl, length. */
static int record_read(struct str m, size_t at, struct dns_record *ret, size_t *ret_end)
{
	size_t n;

	at = name_read(m, at, true, ret->name);
	if (!at || m.n - at < 10)
		return -EINVAL;
	ret->type = get16(m, at);
	ret->class = get16(m, at + 2);
	ret->ttl_s = get32(m, at + 4);
	n = get16(m, at + 8);
	ret->at = at + 10;
	if (m.n - ret->at < n)
		return -EINVAL;
	ret->data = (struct str){ m.s + ret->at, n };
	*ret_end = ret->at + n;
	return 0;
}

/* An unreadable record ends the search: the query is answered as one without EDNS. */
static void find_opt(struct str m, struct dns_question *q)
{
	unsigned left = (unsigned)get16(m, 6) + get16(m, 8) + get16(m, 10);
	struct dns_record rec;
	size_t at = q->end;

	q->edns = q->dnssec_ok = false;
	for (left = MIN(left, RECORDS_MAX); left && !record_read(m, at, &rec, &at); left--) {
		if (rec.type != DNS_OPT)
			continue;
		q->edns = true;
		q->dnssec_ok = rec.ttl_s & 0x8000;
		return;
	}
}

int dns_parse(struct str msg, struct dns_question *ret)
{
	size_t at;

	if (msg.n < DNS_HEADER_BYTES || get16(msg, 4) != 1)
		return -EINVAL;
	at = name_read(msg, DNS_HEADER_BYTES, false, ret->name);
	if (!at || msg.n - at < 4)
		return -EINVAL;
	ret->id = get16(msg, 0);
	ret->flags = get16(msg, 2);
	ret->type = get16(msg, at);
	ret->class = get16(msg, at + 2);
	ret->end = (uint16_t)(at + 4);
	ret->plain = !strchr(ret->name, '?');
	memcpy(ret->head, msg.s, ret->end);
	find_opt(msg, ret);
	return 0;
}

/* Labels are at most 63 long, so their lengths are no letters. */
static bool same_letters(const uint8_t *a, const char *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned x = a[i], y = (unsigned char)b[i];

		if (x != y && ((x ^ y) != 0x20 || (x | 0x20) < 'a' || (x | 0x20) > 'z'))
			return false;
	}
	return true;
}

bool dns_answers(const struct dns_question *asked, uint16_t id, struct str msg)
{
	size_t name_end = asked->end - 4U;

	if (msg.n < DNS_HEADER_BYTES || get16(msg, 0) != id || !(get16(msg, 2) & DNS_FLAG_QR))
		return false;
	/* Some servers that do not understand a query (EDNS, RFC 6891, 7) send the header back. */
	if (!get16(msg, 4))
		return get16(msg, 2) & DNS_RCODE && !get16(msg, 6);
	return get16(msg, 4) == 1 && msg.n >= asked->end &&
	       same_letters(asked->head + DNS_HEADER_BYTES, msg.s + DNS_HEADER_BYTES, name_end - DNS_HEADER_BYTES) &&
	       !memcmp(asked->head + name_end, msg.s + name_end, 4);
}

/* ------------------------------------------------------------------ answers */

static void put(struct dns_answer *a, const void *data, size_t n)
{
	assert(n <= sizeof(a->bytes) - a->n);
	memcpy(a->bytes + a->n, data, n);
	a->n += n;
}

static void put16(struct dns_answer *a, unsigned v)
{
	put(a, (uint8_t[]){ (uint8_t)(v >> 8), (uint8_t)v }, 2);
}

static void put32(struct dns_answer *a, uint32_t v)
{
	put16(a, v >> 16);
	put16(a, v & 0xffff);
}

/* Which of the header's four counts grows. */
enum section { SECTION_ANSWER = 6, SECTION_AUTHORITY = 8, SECTION_ADDITIONAL = 10 };

static void count(struct dns_answer *a, enum section s)
{
	a->bytes[s + 1]++; /* never near 256 */
}

static void answer_header(struct dns_answer *a, uint16_t id, uint16_t flags, enum dns_rcode rcode, unsigned n_questions)
{
	a->n = 0;
	put16(a, id);
	put16(a, DNS_FLAG_QR | DNS_FLAG_RA | (flags & (DNS_OPCODE | DNS_FLAG_RD | DNS_FLAG_CD)) | (unsigned)rcode);
	put16(a, n_questions);
	put(a, (uint8_t[6]){ 0 }, 6);
}

void dns_answer_begin(struct dns_answer *a, const struct dns_question *q, enum dns_rcode rcode)
{
	answer_header(a, q->id, q->flags, rcode, 1);
	put(a, q->head + DNS_HEADER_BYTES, q->end - DNS_HEADER_BYTES);
}

void dns_answer_header(struct dns_answer *a, struct str msg, enum dns_rcode rcode)
{
	answer_header(a, get16(msg, 0), get16(msg, 2), rcode, 0);
}

void dns_answer_addr(struct dns_answer *a, int family, const uint8_t *addr, uint32_t ttl_s)
{
	unsigned n = family == AF_INET ? 4 : 16;

	put16(a, POINTER_TO_QUESTION);
	put16(a, family == AF_INET ? DNS_A : DNS_AAAA);
	put16(a, DNS_IN);
	put32(a, ttl_s);
	put16(a, n);
	put(a, addr, n);
	count(a, SECTION_ANSWER);
}

void dns_answer_soa(struct dns_answer *a, uint32_t ttl_s)
{
	/* Server and mailbox are the root: there is no zone behind it. */
	static const uint8_t root[2];

	put16(a, POINTER_TO_QUESTION);
	put16(a, DNS_SOA);
	put16(a, DNS_IN);
	put32(a, ttl_s);
	put16(a, sizeof(root) + 5 * 4);
	put(a, root, sizeof(root));
	put32(a, 1); /* serial, refresh, retry, expire; the last one bounds the negative answer */
	put32(a, 3600);
	put32(a, 600);
	put32(a, 86400);
	put32(a, ttl_s);
	count(a, SECTION_AUTHORITY);
}

static void put_opt(struct dns_answer *a, bool dnssec_ok)
{
	put(a, "", 1);
	put16(a, DNS_OPT);
	put16(a, EDNS_BYTES);
	put32(a, dnssec_ok ? 0x8000 : 0);
	put16(a, 0);
	count(a, SECTION_ADDITIONAL);
}

void dns_answer_end(struct dns_answer *a, const struct dns_question *q)
{
	if (q->edns)
		put_opt(a, q->dnssec_ok);
}

/* As labels, with the final empty one; false: too long or an empty label. */
static bool put_name(struct dns_answer *a, struct str name)
{
	if (!name.n || name.n > NAME_WIRE_MAX - 2)
		return false;
	while (name.n) {
		const char *dot = memchr(name.s, '.', name.n);
		size_t n = dot ? (size_t)(dot - name.s) : name.n;

		if (!n || n > 63 || n + 1 == name.n)
			return false;
		put(a, (uint8_t[]){ (uint8_t)n }, 1);
		put(a, name.s, n);
		name = str_skip(name, n + 1);
	}
	put(a, "", 1);
	return true;
}

size_t dns_query_build(struct str name, enum dns_type type, uint16_t id, uint8_t ret[DNS_ANSWER_BYTES],
		       struct dns_question *ret_q)
{
	struct dns_answer a = { .n = 0 };

	put16(&a, id);
	put16(&a, DNS_FLAG_RD);
	put16(&a, 1);
	put(&a, (uint8_t[6]){ 0 }, 6);
	if (!put_name(&a, name))
		return 0;
	put16(&a, type);
	put16(&a, DNS_IN);
	put_opt(&a, false);
	if (dns_parse((struct str){ (const char *)a.bytes, a.n }, ret_q))
		return 0;
	memcpy(ret, a.bytes, a.n);
	return a.n;
}

/* ------------------------------------------------------------------ records */

unsigned dns_n_answers(struct str msg)
{
	return msg.n < DNS_HEADER_BYTES ? 0 : get16(msg, 6);
}

int dns_record_next(struct dns_records *r, struct dns_record *ret)
{
	size_t end;

	if (!r->left)
		return 0;
	if (record_read(r->msg, r->at, ret, &end))
		return -EINVAL;
	r->at = end;
	r->left--;
	return 1;
}

static struct dns_records answers_of(struct str msg, const struct dns_question *q)
{
	return (struct dns_records){ msg, q->end, MIN(dns_n_answers(msg), RECORDS_MAX) };
}

/* Follows one alias of `name` in place: 1, 0 when it has none, -EINVAL. */
static int alias_follow(struct str msg, const struct dns_question *q, char name[DNS_TEXT_BYTES], uint32_t *ttl_s)
{
	struct dns_records r = answers_of(msg, q);
	struct dns_record rec;
	int got;

	while ((got = dns_record_next(&r, &rec)) > 0) {
		if (rec.type != DNS_CNAME || rec.class != DNS_IN || strcmp(rec.name, name) != 0)
			continue;
		if (name_read(msg, rec.at, true, name) != rec.at + rec.data.n)
			return -EINVAL;
		*ttl_s = MIN(*ttl_s, rec.ttl_s);
		return 1;
	}
	return got;
}

int dns_addresses(struct str msg, const struct dns_question *q, struct dns_addresses *ret)
{
	struct dns_addresses found = { .ttl_s = UINT32_MAX };
	unsigned bytes = q->type == DNS_A ? 4 : 16;
	struct dns_records r;
	struct dns_record rec;
	char name[DNS_TEXT_BYTES];
	int got = 1;

	if (msg.n < q->end)
		return -EINVAL;
	memcpy(name, q->name, sizeof(name));
	for (unsigned i = 0; i < ALIASES_MAX && got > 0; i++)
		got = alias_follow(msg, q, name, &found.ttl_s);
	r = answers_of(msg, q);
	while (got >= 0 && found.n < DNS_ADDRESSES_MAX && (got = dns_record_next(&r, &rec)) > 0) {
		if (rec.type != q->type || rec.class != DNS_IN || rec.data.n != bytes || strcmp(rec.name, name) != 0)
			continue;
		memcpy(found.addr[found.n++], rec.data.s, bytes);
		found.ttl_s = MIN(found.ttl_s, rec.ttl_s);
	}
	if (got < 0)
		return -EINVAL;
	*ret = found;
	return 0;
}
