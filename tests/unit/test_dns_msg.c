/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages, whole and damaged, and what is decided about a query. */
#include <errno.h>
#include <netinet/in.h>

#include "agent/dns_names.h"
#include "tests/unit/test.h"

#define HEADER(flags, qd, an, ns, ar) "\x12\x34" flags "\0" qd "\0" an "\0" ns "\0" ar
#define QUERY	HEADER("\x01\x00", "\1", "\0", "\0", "\0")
#define API	"\3aPi\7eXample\3com\0"
#define A_IN	"\0\1\0\1"
#define OPT_DO	"\0\0\x29\x04\xd0\0\0\x80\0\0\0"
#define REPLY(an) HEADER("\x81\x80", "\1", an, "\0", "\0") API A_IN

static struct dns_question q;
static struct dns_answer answer;

static struct str answered(void)
{
	return (struct str){ (const char *)answer.bytes, answer.n };
}

static unsigned at16(struct str m, size_t at)
{
	return (unsigned)(unsigned char)m.s[at] << 8 | (unsigned char)m.s[at + 1];
}

static void query_is_read(void)
{
	struct str msg = STR(QUERY API A_IN);

	CHECK_INT(dns_parse(msg, &q), 0);
	CHECK_STR(q.name, "api.example.com");
	CHECK_INT(q.id, 0x1234);
	CHECK_INT(q.flags, DNS_FLAG_RD);
	CHECK_INT(q.type, DNS_A);
	CHECK_INT(q.class, DNS_IN);
	CHECK_INT(q.end, msg.n);
	CHECK(q.plain && !q.edns && !q.dnssec_ok);
	CHECK(!memcmp(q.head, msg.s, msg.n));
	CHECK_INT(dns_parse(STR(HEADER("\x01\x00", "\1", "\0", "\0", "\1") API A_IN OPT_DO), &q), 0);
	CHECK(q.edns && q.dnssec_ok);
	CHECK_INT(dns_parse(STR(QUERY "\0" A_IN), &q), 0);
	CHECK_STR(q.name, "");
}

/* A label may hold any byte: it must not pass for a name that it is not. */
static void odd_labels_are_no_host_names(void)
{
	CHECK_INT(dns_parse(STR(QUERY "\13api.example\3com\0" A_IN), &q), 0);
	CHECK_STR(q.name, "api?example.com");
	CHECK(!q.plain);
	CHECK_INT(dns_parse(STR(QUERY "\4ap\0i\3com\0" A_IN), &q), 0);
	CHECK_STR(q.name, "ap?i.com");
	CHECK_INT(dns_parse(STR(QUERY "\5_tcp*\3com\0" A_IN), &q), 0);
	CHECK_STR(q.name, "_tcp?.com");
}

static void damaged_queries_are_refused(void)
{
	static const struct str bad[] = {
		STR_INIT(HEADER("\x01\x00", "\0", "\0", "\0", "\0") API A_IN), /* no question */
		STR_INIT(HEADER("\x01\x00", "\2", "\0", "\0", "\0") API A_IN API A_IN),
		STR_INIT(QUERY "\xc0\x0c" A_IN),	 /* a pointer to itself */
		STR_INIT(QUERY "\3api\xc0\x0c" A_IN),	 /* and to its own name */
		STR_INIT(QUERY "\xc0\0" A_IN),		 /* into the header */
		STR_INIT(QUERY "\x40" "aaa\0" A_IN),	 /* extended label type */
		STR_INIT(QUERY "\x80" "aaa\0" A_IN),
	};
	struct str msg = STR(QUERY API A_IN);
	char name[320];
	size_t n = DNS_HEADER_BYTES;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(dns_parse(bad[i], &q), -EINVAL);
	for (size_t cut = 0; cut < msg.n; cut++)
		CHECK_INT(dns_parse((struct str){ msg.s, cut }, &q), -EINVAL);
	/* 255 bytes are a name, 256 are none. */
	memcpy(name, QUERY, DNS_HEADER_BYTES);
	for (unsigned i = 0; i < 4; i++) {
		name[n++] = i < 3 ? 63 : 61;
		memset(name + n, 'x', 63);
		n += i < 3 ? 63 : 61;
	}
	memcpy(name + n, "\0\0\1\0\1", 5);
	CHECK_INT(dns_parse((struct str){ name, n + 5 }, &q), 0);
	CHECK_INT(strlen(q.name), 253);
	CHECK_INT(q.end, DNS_QUESTION_BYTES);
	name[DNS_HEADER_BYTES + 192] = 62;
	memcpy(name + n, "x\0\0\1\0\1", 6);
	CHECK_INT(dns_parse((struct str){ name, n + 6 }, &q), -EINVAL);
}

static void answer_matches_id_and_question(void)
{
	struct str reply = STR(REPLY("\0"));

	CHECK_INT(dns_parse(STR(QUERY API A_IN), &q), 0);
	CHECK(dns_answers(&q, 0x1234, reply));
	CHECK(dns_answers(&q, 0x1234, STR(HEADER("\x81\x80", "\1", "\0", "\0", "\0") "\3ApI\7Example\3com\0" A_IN)));
	CHECK(!dns_answers(&q, 0x1235, reply));
	CHECK(!dns_answers(&q, 0x1234, STR(QUERY API A_IN))); /* not an answer */
	CHECK(!dns_answers(&q, 0x1234, STR(HEADER("\x81\x80", "\1", "\0", "\0", "\0") "\3apx\7example\3com\0" A_IN)));
	CHECK(!dns_answers(&q, 0x1234, STR(HEADER("\x81\x80", "\1", "\0", "\0", "\0") API "\0\x1c\0\1")));
	CHECK(!dns_answers(&q, 0x1234, STR(HEADER("\x81\x80", "\2", "\0", "\0", "\0") API A_IN API A_IN)));
	for (size_t cut = 0; cut < reply.n; cut++)
		CHECK(!dns_answers(&q, 0x1234, (struct str){ reply.s, cut }));
	/* A server that cannot read it may send the header back, but only to say that it failed. */
	CHECK(dns_answers(&q, 0x1234, STR(HEADER("\x81\x81", "\0", "\0", "\0", "\0"))));
	CHECK(!dns_answers(&q, 0x1234, STR(HEADER("\x81\x80", "\0", "\0", "\0", "\0"))));
	/* Types are no letters: 65 is not 97. */
	CHECK_INT(dns_parse(STR(QUERY API "\0\x41\0\1"), &q), 0);
	CHECK(!dns_answers(&q, 0x1234, STR(HEADER("\x81\x80", "\1", "\0", "\0", "\0") API "\0\x61\0\1")));
}

#define CNAME(from, to) from "\0\5\0\1\0\0\0\x3c" to
#define A_RECORD(from, ttl, last) from "\0\1\0\1\0\0\0" ttl "\0\4\xcb\0\x71" last
#define ASKED "\xc0\x0c"
#define CDN   "\3cdn\4test\0"

static struct dns_addresses found;

static void addresses_follow_aliases(void)
{
	static const struct str chain = STR_INIT(
		REPLY("\5") A_RECORD(CDN, "\x78", "\7") CNAME(ASKED, "\0\7\4edge\xc0\x10") A_RECORD(ASKED, "\5", "\1")
			CNAME("\4edge\7example\3com\0", "\0\12" CDN) A_RECORD("\3CDN\4test\0", "\x50", "\x8"));

	CHECK_INT(dns_parse(STR(QUERY API A_IN), &q), 0);
	CHECK_INT(dns_addresses(chain, &q, &found), 0);
	CHECK_INT(found.n, 2); /* in any order; not the one beside the alias */
	CHECK_INT(found.ttl_s, 60);
	CHECK(!memcmp(found.addr[0], "\xcb\0\x71\7", 4) && !memcmp(found.addr[1], "\xcb\0\x71\x8", 4));
	for (size_t cut = 0; cut < chain.n; cut++) {
		/* Behind what the header counts there is nothing to read: every cut is noticed. */
		CHECK_INT(dns_addresses((struct str){ chain.s, cut }, &q, &found), -EINVAL);
	}
	CHECK_INT(dns_addresses(STR(REPLY("\1") CNAME(ASKED, "\0\12" CDN)), &q, &found), 0);
	CHECK_INT(found.n, 0);
}

static void hostile_records_end(void)
{
	struct str loop = STR(REPLY("\2") CNAME(ASKED, "\0\12" CDN) CNAME(CDN, "\0\2\xc0\x0c"));
	char many[DNS_HEADER_BYTES + 30 + 255 * 16] = REPLY("\xff");
	size_t n = sizeof(REPLY("\xff")) - 1;

	CHECK_INT(dns_parse(STR(QUERY API A_IN), &q), 0);
	CHECK_INT(dns_addresses(loop, &q, &found), 0);
	CHECK_INT(found.n, 0);
	/* A pointer forward, one to itself, an alias longer than its record. */
	CHECK_INT(dns_addresses(STR(REPLY("\1") A_RECORD("\xc0\x30", "\5", "\1") CDN), &q, &found), -EINVAL);
	CHECK_INT(dns_addresses(STR(REPLY("\1") A_RECORD("\xc0\x21", "\5", "\1")), &q, &found), -EINVAL);
	CHECK_INT(dns_addresses(STR(REPLY("\2") CNAME(ASKED, "\0\3" CDN) A_RECORD(ASKED, "\5", "\1")), &q, &found), -EINVAL);
	/* An address of another length is none. */
	CHECK_INT(dns_addresses(STR(REPLY("\1") ASKED "\0\1\0\1\0\0\0\5\0\3\xcb\0\x71"), &q, &found), 0);
	CHECK_INT(found.n, 0);
	for (unsigned i = 0; i < 255; i++, n += 16)
		memcpy(many + n, A_RECORD(ASKED, "\5", "\1"), 16);
	CHECK_INT(dns_addresses((struct str){ many, n }, &q, &found), 0);
	CHECK_INT(found.n, DNS_ADDRESSES_MAX);
}

static void our_query_is_read_again(void)
{
	static const char *const bad[] = { "", ".", "a..b", "a.", ".a",
					   "a123456789012345678901234567890123456789012345678901234567890123.com" };
	uint8_t msg[DNS_ANSWER_BYTES];
	struct dns_question again;
	char name[300];
	size_t n = dns_query_build(STR("api.example.com"), DNS_AAAA, 7, msg, &q);

	CHECK_INT(dns_parse((struct str){ (char *)msg, n }, &again), 0);
	CHECK_STR(again.name, "api.example.com");
	CHECK(again.edns && again.type == DNS_AAAA && again.id == 7 && again.flags == DNS_FLAG_RD);
	CHECK_STR(q.name, again.name);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_INT(dns_query_build(str_of(bad[i]), DNS_A, 7, msg, &q), 0);
	memset(name, 'a', sizeof(name));
	for (size_t i = 9; i < sizeof(name); i += 10)
		name[i] = '.';
	CHECK(dns_query_build((struct str){ name, 253 }, DNS_A, 7, msg, &q) > 0);
	CHECK_INT(dns_query_build((struct str){ name, 254 }, DNS_A, 7, msg, &q), 0);
}

/* ------------------------------------------------------------------ decisions */

static struct dns_names names;

static void add(const char *text, uint32_t id)
{
	struct msg_name msg = { .name_id = id, .active = 1, .vip4 = { 198, 18, 0, (uint8_t)id },
				.vip6 = { 0xfd, [15] = (uint8_t)id } };
	struct dns_name *name;

	str_copy(msg.name, sizeof(msg.name), str_of(text));
	CHECK_INT(dns_names_set(&names, &msg, &name), 0);
}

static void pattern(const char *text, uint32_t active)
{
	struct msg_name msg = { .active = active };

	str_copy(msg.name, sizeof(msg.name), str_of(text));
	CHECK_INT(dns_names_set_pattern(&names, &msg), 0);
}

static void setup_names(void)
{
	CHECK_INT(dns_names_init(&names, 42), 0);
	add("api.example.com", 1);
	pattern("*.wild.test", 1);
}

static enum dns_fate decide(struct str msg, bool has_v6)
{
	answer.n = 0;
	return dns_names_decide(&names, has_v6, msg, &q, &answer);
}

#define ASK(name, type) STR(QUERY name "\0" type "\0\1")

static void provider_names_are_answered(void)
{
	struct str a;
	struct dns_question again;

	setup_names();
	CHECK_INT(decide(ASK(API, "\1"), true), DNS_FATE_ANSWER);
	a = answered();
	CHECK_INT(dns_addresses(a, &q, &found), 0);
	CHECK_INT(found.n, 1);
	CHECK_INT(found.ttl_s, DNS_TTL_S);
	CHECK(!memcmp(found.addr[0], "\xc6\x12\0\1", 4));
	CHECK_INT(at16(a, 0), 0x1234);
	CHECK_INT(at16(a, 2), DNS_FLAG_QR | DNS_FLAG_RD | DNS_FLAG_RA);
	/* The case of the question comes back (draft-vixie-dnsext-dns0x20). */
	CHECK(!memcmp(a.s + DNS_HEADER_BYTES, API, sizeof(API) - 1));
	CHECK_INT(at16(a, 10), 0);
	CHECK_INT(decide(ASK(API, "\x1c"), true), DNS_FATE_ANSWER);
	CHECK_INT(dns_addresses(answered(), &q, &found), 0);
	CHECK(found.n == 1 && found.addr[0][0] == 0xfd && found.addr[0][15] == 1);
	/* Both for ANY. */
	CHECK_INT(decide(ASK(API, "\xff"), true), DNS_FATE_ANSWER);
	CHECK_INT(at16(answered(), 6), 2);
	/* EDNS is answered with EDNS. */
	CHECK_INT(decide(STR(HEADER("\x01\x10", "\1", "\0", "\0", "\1") API A_IN OPT_DO), true), DNS_FATE_ANSWER);
	CHECK_INT(dns_parse(answered(), &again), 0);
	CHECK(again.edns && again.dnssec_ok && again.flags & DNS_FLAG_CD);
	dns_names_fini(&names);
}

static void nothing_else_of_providers_goes_out(void)
{
	static const struct str types[] = { /* HTTPS, SVCB, MX, TXT, NS, SOA, CNAME, an unknown one */
		STR_INIT("\x41"), STR_INIT("\x40"), STR_INIT("\x0f"), STR_INIT("\x10"),
		STR_INIT("\2"),	  STR_INIT("\6"),   STR_INIT("\5"),   STR_INIT("\xc8") };
	char msg[] = QUERY API "\0?\0\1";

	setup_names();
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		msg[sizeof(msg) - 1 - 3] = types[i].s[0];
		CHECK_INT(decide((struct str){ msg, sizeof(msg) - 1 }, true), DNS_FATE_ANSWER);
		CHECK_INT(at16(answered(), 2) & DNS_RCODE, DNS_NOERROR);
		CHECK_INT(at16(answered(), 6), 0);
		CHECK_INT(at16(answered(), 8), 1); /* the SOA that keeps the answer for a while */
	}
	CHECK_INT(decide(ASK(API, "\x1c"), false), DNS_FATE_ANSWER);
	CHECK_INT(at16(answered(), 6), 0);
	CHECK_INT(at16(answered(), 8), 1);
	CHECK_INT(decide(ASK(API, "\xff"), false), DNS_FATE_ANSWER);
	CHECK_INT(at16(answered(), 6), 1);
	/* Another class. */
	CHECK_INT(decide(STR(QUERY API "\0\1\0\3"), true), DNS_FATE_ANSWER);
	CHECK_INT(at16(answered(), 2) & DNS_RCODE, DNS_REFUSED);
	dns_names_fini(&names);
}

static void others_go_on(void)
{
	setup_names();
	CHECK_INT(decide(ASK("\1x" API, "\1"), true), DNS_FATE_FORWARD);
	CHECK_INT(decide(ASK("\7eXample\3com\0", "\1"), true), DNS_FATE_FORWARD);
	CHECK_INT(decide(ASK("\13api.example\3com\0", "\1"), true), DNS_FATE_FORWARD);
	CHECK_INT(decide(ASK("\4wild\4test\0", "\1"), true), DNS_FATE_FORWARD);
	CHECK_INT(decide(ASK("\1a\1b\4wild\4test\0", "\1"), true), DNS_FATE_FORWARD);
	CHECK_INT(decide(ASK("\0", "\2"), true), DNS_FATE_FORWARD);
	CHECK_INT(decide(ASK("\1a\4wild\4test\0", "\x41"), true), DNS_FATE_WAIT);
	CHECK_STR(q.name, "a.wild.test");
	CHECK_INT(decide(ASK("\1*\4wild\4test\0", "\1"), true), DNS_FATE_ANSWER);
	CHECK_INT(at16(answered(), 2) & DNS_RCODE, DNS_NXDOMAIN);
	add("a.wild.test", 2);
	CHECK_INT(decide(ASK("\1a\4wild\4test\0", "\1"), true), DNS_FATE_ANSWER);
	pattern("*.wild.test", 0);
	CHECK_INT(decide(ASK("\1b\4wild\4test\0", "\1"), true), DNS_FATE_FORWARD);
	dns_names_remove(&names, dns_names_find(&names, STR("api.example.com")));
	CHECK_INT(decide(ASK(API, "\1"), true), DNS_FATE_FORWARD);
	dns_names_fini(&names);
}

static void own_names(void)
{
	setup_names();
	CHECK_INT(decide(ASK("\11SALLYPORT\10internal\0", "\1"), false), DNS_FATE_ANSWER);
	CHECK_INT(dns_addresses(answered(), &q, &found), 0);
	CHECK(found.n == 1 && !memcmp(found.addr[0], "\x7f\0\0\1", 4));
	CHECK_INT(decide(ASK("\11sallyport\10internal\0", "\x1c"), true), DNS_FATE_ANSWER);
	CHECK_INT(dns_addresses(answered(), &q, &found), 0);
	CHECK(found.n == 1 && found.addr[0][15] == 1 && !found.addr[0][0]);
	CHECK_INT(decide(ASK("\23use-application-dns\3net\0", "\1"), true), DNS_FATE_ANSWER);
	CHECK_INT(at16(answered(), 2) & DNS_RCODE, DNS_NXDOMAIN);
	dns_names_fini(&names);
}

static void what_is_no_query(void)
{
	setup_names();
	CHECK_INT(decide(STR(REPLY("\0")), true), DNS_FATE_DROP);
	CHECK_INT(decide(STR("\x12\x34\1\0\0\1\0\0\0\0\0"), true), DNS_FATE_DROP);
	CHECK_INT(decide(STR(HEADER("\x28\x00", "\1", "\0", "\0", "\0") API "\0\6\0\1"), true), DNS_FATE_ANSWER);
	CHECK_INT(answer.n, DNS_HEADER_BYTES);
	CHECK_INT(at16(answered(), 2), DNS_FLAG_QR | DNS_FLAG_RA | 0x2800 | DNS_NOTIMP);
	CHECK_INT(decide(STR(QUERY "\xc0\x0c" A_IN), true), DNS_FATE_ANSWER);
	CHECK_INT(at16(answered(), 2) & DNS_RCODE, DNS_FORMERR);
	CHECK_INT(at16(answered(), 4), 0);
	dns_names_fini(&names);
}

static void tables_have_bounds(void)
{
	struct msg_name msg = { .name_id = 1, .active = 1 };
	struct dns_name *name;

	CHECK_INT(dns_names_init(&names, 1), 0);
	for (unsigned i = 0; i < DNS_NAMES_MAX; i++) {
		snprintf(msg.name, sizeof(msg.name), "n%u.test", i);
		CHECK_INT(dns_names_set(&names, &msg, &name), 0);
	}
	CHECK_INT(dns_names_set(&names, &msg, &name), 0); /* the same again */
	CHECK(dns_names_find(&names, STR("n4711.test")));
	str_copy(msg.name, sizeof(msg.name), STR("one.more"));
	CHECK_INT(dns_names_set(&names, &msg, &name), -ENOBUFS);
	for (unsigned i = 0; i < DNS_PATTERNS_MAX; i++) {
		snprintf(msg.name, sizeof(msg.name), "*.p%u.test", i);
		CHECK_INT(dns_names_set_pattern(&names, &msg), 0);
	}
	CHECK_INT(dns_names_set_pattern(&names, &msg), 0);
	str_copy(msg.name, sizeof(msg.name), STR("*.one.more"));
	CHECK_INT(dns_names_set_pattern(&names, &msg), -ENOBUFS);
	memset(msg.name, 'a', sizeof(msg.name));
	CHECK_INT(dns_names_set(&names, &msg, &name), -EINVAL);
	CHECK_INT(dns_names_set_pattern(&names, &msg), -EINVAL);
	dns_names_fini(&names);
}

TESTS(T(query_is_read), T(odd_labels_are_no_host_names), T(damaged_queries_are_refused), T(answer_matches_id_and_question),
      T(addresses_follow_aliases), T(hostile_records_end), T(our_query_is_read_again), T(provider_names_are_answered),
      T(nothing_else_of_providers_goes_out), T(others_go_on), T(own_names), T(what_is_no_query), T(tables_have_bounds))
