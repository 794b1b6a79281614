/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages as queries and as answers. What is answered must be readable again and belong to the query; a name that
 * is passed on must, by a second and simpler reading, not be a provider's.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>

#include "agent/dns_names.h"

static struct dns_names names;

static void setup(void)
{
	static const struct msg_name provider = { .name_id = 1, .active = 1, .vip4 = { 198, 18, 0, 1 }, .name = "a.b" };
	static const struct msg_name wildcard = { .active = 1, .name = "*.w.x" };
	struct dns_name *name;

	if (names.buckets)
		return;
	if (dns_names_init(&names, 1) || dns_names_set(&names, &provider, &name) || dns_names_set_pattern(&names, &wildcard))
		abort();
}

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* The labels with their lengths, lower case: no dots to be mistaken about. */
static bool same_labels(struct str msg, const char *wire, size_t n)
{
	if (msg.n < DNS_HEADER_BYTES + n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (tolower((unsigned char)msg.s[DNS_HEADER_BYTES + i]) != wire[i])
			return false;
	return true;
}

static unsigned records(struct str msg, size_t at)
{
	struct dns_records r = { msg, at, dns_n_answers(msg) };
	struct dns_record rec;
	unsigned n = 0;
	int got;

	while ((got = dns_record_next(&r, &rec)) > 0) {
		check(r.at <= msg.n && rec.at + rec.data.n == r.at && strlen(rec.name) < DNS_TEXT_BYTES);
		n++;
	}
	return got ? 0 : n;
}

static void as_query(struct str msg)
{
	struct dns_question q, again;
	struct dns_answer a = { .n = 0 };
	struct str answer;
	enum dns_fate fate = dns_names_decide(&names, msg.n & 1, msg, &q, &a);

	answer = (struct str){ (const char *)a.bytes, a.n };
	if (fate == DNS_FATE_ANSWER) {
		check(a.n >= DNS_HEADER_BYTES && a.n <= sizeof(a.bytes) && a.bytes[2] & 0x80);
		check(!memcmp(a.bytes, msg.s, 2));
		if (dns_parse(answer, &again) == 0)
			check(dns_answers(&q, q.id, answer) && records(answer, again.end) == dns_n_answers(answer));
		else
			check(a.n == DNS_HEADER_BYTES);
	}
	if (fate == DNS_FATE_FORWARD) {
		check(!same_labels(msg, "\1a\1b", 5));
		check(!q.plain || strcmp(q.name, "a.b") != 0);
	}
	if (fate == DNS_FATE_WAIT)
		check(q.plain && strlen(q.name) > 4 && !strcmp(q.name + strlen(q.name) - 4, ".w.x"));
}

static void as_question(struct str msg)
{
	struct dns_question q, again;
	uint8_t built[DNS_ANSWER_BYTES];
	size_t n;

	if (dns_parse(msg, &q))
		return;
	check(q.end <= msg.n && !memcmp(q.head, msg.s, q.end));
	/* What follows the question does not change it. */
	check(!dns_parse((struct str){ msg.s, q.end }, &again) && !strcmp(q.name, again.name) && q.type == again.type);
	if (!q.plain || !q.name[0])
		return;
	n = dns_query_build(str_of(q.name), q.type, q.id, built, &again);
	check(n && !strcmp(q.name, again.name) && q.type == again.type && q.end == again.end);
}

/* The input behind a question that was asked. */
static void as_answer(struct str msg)
{
	static char whole[DNS_MESSAGE_BYTES];
	struct dns_question q;
	struct dns_addresses found = { .n = 0 };
	size_t n = dns_query_build(STR("a.b"), msg.n & 1 ? DNS_A : DNS_AAAA, 7, (uint8_t *)whole, &q);

	check(n > q.end);
	if (msg.n < 2 || msg.n > sizeof(whole) - q.end)
		return;
	whole[2] = (char)0x81;
	whole[7] = msg.s[0];
	whole[11] = 0;
	memcpy(whole + q.end, msg.s + 1, msg.n - 1);
	msg = (struct str){ whole, q.end + msg.n - 1 };
	check(dns_answers(&q, 7, msg));
	if (dns_addresses(msg, &q, &found) == 0)
		check(found.n <= DNS_ADDRESSES_MAX && found.n <= dns_n_answers(msg));
	if (records(msg, q.end) != dns_n_answers(msg))
		check(found.n == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct str in = { (const char *)data, n };

	setup();
	as_query(in);
	as_question(in);
	as_answer(in);
	return 0;
}
