/* SPDX-License-Identifier: Apache-2.0 */
/* The decisions of the kernel side, compiled natively: addresses, the connect decision, the
 * cross-check. */
#include <arpa/inet.h>

#include "bpf/gate_decide.h"
#include "tests/unit/test.h"

static struct gate_dest dest_of(const char *text, uint16_t port)
{
	struct gate_dest d = { .port = port };

	if (strchr(text, ':')) {
		d.family = GATE_AF_INET6;
		inet_pton(AF_INET6, text, d.addr);
	} else {
		d.family = GATE_AF_INET;
		inet_pton(AF_INET, text, d.addr);
	}
	gate_dest_unmap(&d);
	return d;
}

static void constants_are_the_systems(void)
{
	CHECK_INT(GATE_AF_INET, AF_INET);
	CHECK_INT(GATE_AF_INET6, AF_INET6);
	CHECK_INT(GATE_SOCK_STREAM, SOCK_STREAM);
	CHECK_INT(GATE_IPPROTO_TCP, IPPROTO_TCP);
	CHECK_INT(GATE_BE32(0x7f000001u), htonl(0x7f000001u));
	CHECK_INT(GATE_BE16(4117), htons(4117));
}

static void loopback(void)
{
	static const struct {
		const char *address;
		int is_loopback;
		uint32_t family;
	} cases[] = {
		{ "127.0.0.1", 1, GATE_AF_INET },
		{ "0.0.0.0", 1, GATE_AF_INET },
		{ "127.0.0.2", 0, GATE_AF_INET },
		{ "1.0.0.127", 0, GATE_AF_INET },
		{ "10.0.0.1", 0, GATE_AF_INET },
		{ "255.255.255.255", 0, GATE_AF_INET },
		{ "::1", 1, GATE_AF_INET6 },
		{ "::", 1, GATE_AF_INET6 },
		{ "::2", 0, GATE_AF_INET6 },
		{ "100::", 0, GATE_AF_INET6 },
		{ "::ffff:127.0.0.1", 1, GATE_AF_INET },
		{ "::ffff:0.0.0.0", 1, GATE_AF_INET },
		{ "::ffff:8.8.8.8", 0, GATE_AF_INET },
		{ "::127.0.0.1", 0, GATE_AF_INET6 },
		{ "64:ff9b::7f00:1", 0, GATE_AF_INET6 },
		{ "fe80::1", 0, GATE_AF_INET6 },
		{ "0:0:0:0:0:1:7f00:1", 0, GATE_AF_INET6 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct gate_dest d = dest_of(cases[i].address, 4117);

		if (gate_is_loopback(&d) != cases[i].is_loopback || d.family != cases[i].family) {
			printf("%s\n", cases[i].address);
			CHECK(false);
		}
	}
}

static void unmapped_is_whole(void)
{
	struct gate_dest d = dest_of("::ffff:1.2.3.4", 80);

	CHECK_INT(d.addr[0], htonl(0x01020304));
	CHECK_INT(d.addr[1] | d.addr[2] | d.addr[3], 0);
	CHECK_INT(d.port, 80);
}

static void only_tcp_may_be_the_door(void)
{
	struct gate_dest d = dest_of("127.0.0.1", 4117), none = dest_of("127.0.0.1", 0);

	CHECK(gate_may_be_door(&d, SOCK_STREAM, IPPROTO_TCP));
	CHECK(gate_may_be_door(&d, SOCK_STREAM, GATE_IPPROTO_MPTCP));
	CHECK(!gate_may_be_door(&d, SOCK_DGRAM, IPPROTO_UDP));
	CHECK(!gate_may_be_door(&d, SOCK_STREAM, IPPROTO_SCTP));
	CHECK(!gate_may_be_door(&d, SOCK_RAW, IPPROTO_TCP));
	CHECK(!gate_may_be_door(&none, SOCK_STREAM, IPPROTO_TCP));
}

/* A connect that is stamped; each case changes one fact. */
static struct gate_facts good(void)
{
	return (struct gate_facts){ .is_door = 1, .label_id = 5, .level = 2, .has_budget = 1 };
}

static void expect(const struct gate_facts *f, uint32_t action, uint32_t reason, const char *what)
{
	struct gate_verdict v = gate_decide_connect(f);

	if (v.action == action && v.reason == reason &&
	    v.why == (action == GATE_STAMP ? STAMP_EXPLICIT : 0))
		return;
	printf("%s: action %u reason %u why %u\n", what, v.action, v.reason, v.why);
	CHECK(false);
}

static void connect_decisions(void)
{
	struct gate_facts f = good();

	expect(&f, GATE_STAMP, GATE_STAMPED, "the door");
	f.is_door = 0;
	expect(&f, GATE_LET_GO, GATE_PASS, "elsewhere");
	f.label_id = f.has_budget = 0;
	expect(&f, GATE_LET_GO, GATE_PASS, "elsewhere needs no label");
	f = good();
	f.label_id = 0;
	expect(&f, GATE_REFUSE, GATE_DENY_NO_LABEL, "no label yet");
	f = good();
	f.has_budget = 0;
	expect(&f, GATE_REFUSE, GATE_DENY_NO_BUDGET, "no counter");
}

static void inflight_bound(void)
{
	struct gate_facts f = good();

	f.inflight = GATE_INFLIGHT_MAX - 1;
	expect(&f, GATE_STAMP, GATE_STAMPED, "one below the bound");
	f.inflight = GATE_INFLIGHT_MAX;
	expect(&f, GATE_REFUSE, GATE_DENY_INFLIGHT, "at the bound");
	f.inflight_max = GATE_INFLIGHT_MAX + 1;
	expect(&f, GATE_STAMP, GATE_STAMPED, "a bound of its own");
	f.inflight_max = 1;
	f.inflight = -1;
	expect(&f, GATE_STAMP, GATE_STAMPED, "a sweep may leave it below zero");
	f.inflight = 1;
	expect(&f, GATE_REFUSE, GATE_DENY_INFLIGHT, "a small bound");
}

static void innermost_label(void)
{
	struct gate_facts f = good();

	f.pending = GATE_PENDING_STAMPED;
	f.pending_level = 3;
	expect(&f, GATE_KEEP, GATE_STAMP_KEPT, "stamped further down");
	f.pending_level = 2;
	expect(&f, GATE_STAMP, GATE_STAMPED, "our own stamp of an earlier try");
	f.pending_level = 1;
	expect(&f, GATE_STAMP, GATE_STAMPED, "a label further up never comes first");
	f.pending_level = 3;
	f.pending = GATE_PENDING_HANDED;
	expect(&f, GATE_STAMP, GATE_STAMPED, "an earlier connection of the socket");
	f.pending = GATE_PENDING_STAMPED;
	f.is_door = 0;
	expect(&f, GATE_LET_GO, GATE_PASS, "elsewhere");
}

/* ---------------------------------------------------------------- past the door */

static const struct gate_config config = { .n_nat64 = 1 };

static void v4_inside_v6(void)
{
	static const struct {
		const char *address, *v4; /* NULL: none inside */
	} cases[] = {
		{ "2002:c000:201::", "192.0.2.1" },	{ "2002:c000:201:ffff::1", "192.0.2.1" },
		{ "64:ff9b::192.0.2.1", "192.0.2.1" },	{ "64:ff9b:1::192.0.2.1", NULL },
		{ "2003:c000:201::", NULL },		{ "2001:db8::1", NULL },
	};
	struct gate_config cfg = config;

	cfg.nat64[0][0] = htonl(0x0064ff9b);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct gate_dest d = dest_of(cases[i].address, 443), want;

		gate_dest_reduce(&d, &cfg);
		want = dest_of(cases[i].v4 ? cases[i].v4 : cases[i].address, 443);
		CHECK(!memcmp(&d, &want, sizeof(d)));
	}
}

static void pools(void)
{
	struct gate_config cfg = { .vip4_net = htonl(0xc6120000), .vip4_mask = htonl(0xfffe0000) };
	struct gate_dest d;

	inet_pton(AF_INET6, "fd00:1::", cfg.vip6_net);
	inet_pton(AF_INET6, "ffff:ffff:ffff::", cfg.vip6_mask);
	d = dest_of("198.18.0.1", 0);
	CHECK(gate_in_pool(&d, &cfg));
	d = dest_of("198.19.255.255", 0);
	CHECK(gate_in_pool(&d, &cfg));
	d = dest_of("198.20.0.0", 0);
	CHECK(!gate_in_pool(&d, &cfg));
	d = dest_of("fd00:1:0:9::1", 0);
	CHECK(gate_in_pool(&d, &cfg));
	d = dest_of("fd00:1:1::1", 0);
	CHECK(!gate_in_pool(&d, &cfg));
}

static struct gate_facts past(uint32_t class, uint32_t port, uint32_t mode)
{
	return (struct gate_facts){ .label_id = 5, .level = 2, .has_budget = 1, .is_stream = 1, .class = class,
				    .port = port,  .mode = mode, .door_port = 4117, .dns_port = 4153 };
}

static void streams_past_the_door(void)
{
	static const struct {
		uint32_t class, port, mode, action, reason, why, to;
	} cases[] = {
		{ GATE_CLASS_VIP, 443, FORCE_OFF, GATE_LEAD, GATE_LED_VIP, STAMP_VIP, 4117 },
		{ GATE_CLASS_VIP, 80, FORCE_STRICT, GATE_LEAD, GATE_LED_VIP, STAMP_VIP, 4117 },
		{ GATE_CLASS_VIP, 22, FORCE_ASSIST, GATE_REFUSE, GATE_DENY_VIP, 0, 0 },
		{ GATE_CLASS_VIP_UNUSED, 443, FORCE_OFF, GATE_REFUSE, GATE_DENY_VIP, 0, 0 },
		{ GATE_CLASS_SUSPECT, 443, FORCE_OFF, GATE_LET_GO, GATE_PASS, 0, 0 },
		{ GATE_CLASS_SUSPECT, 443, FORCE_OBSERVE, GATE_LET_GO, GATE_OBSERVED, 0, 0 },
		{ GATE_CLASS_SUSPECT, 443, FORCE_ASSIST, GATE_LEAD, GATE_LED_SUSPECT, STAMP_SUSPECT, 4117 },
		{ GATE_CLASS_SUSPECT, 2096, FORCE_ASSIST, GATE_LEAD, GATE_LED_SUSPECT, STAMP_SUSPECT, 4117 },
		{ GATE_CLASS_SUSPECT, 22, FORCE_ASSIST, GATE_LET_GO, GATE_PASS, 0, 0 },
		{ GATE_CLASS_OTHER, 443, FORCE_ASSIST, GATE_LET_GO, GATE_PASS, 0, 0 },
		{ GATE_CLASS_OTHER, 443, FORCE_STRICT, GATE_LEAD, GATE_LED_STRICT, STAMP_STRICT, 4117 },
		{ GATE_CLASS_OTHER, 8443, FORCE_STRICT, GATE_LET_GO, GATE_PASS, 0, 0 },
		{ GATE_CLASS_OTHER, 853, FORCE_STRICT, GATE_REFUSE, GATE_DENY_DOT, 0, 0 },
		{ GATE_CLASS_OTHER, 853, FORCE_ASSIST, GATE_LET_GO, GATE_PASS, 0, 0 },
		{ GATE_CLASS_LOCAL, 443, FORCE_STRICT, GATE_LET_GO, GATE_PASS, 0, 0 },
		{ GATE_CLASS_OTHER, 53, FORCE_OBSERVE, GATE_LET_GO, GATE_PASS, 0, 0 },
		{ GATE_CLASS_OTHER, 53, FORCE_ASSIST, GATE_LEAD, GATE_LED_DNS, STAMP_DNS, 4153 },
		{ GATE_CLASS_LOCAL, 53, FORCE_ASSIST, GATE_LEAD, GATE_LED_DNS, STAMP_DNS, 4153 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct gate_facts f = past(cases[i].class, cases[i].port, cases[i].mode);
		struct gate_verdict v = gate_decide_connect(&f);

		if (v.action == cases[i].action && v.reason == cases[i].reason && v.why == cases[i].why &&
		    (v.action != GATE_LEAD || v.port == cases[i].to))
			continue;
		printf("case %zu: action %u reason %u why %u port %u\n", i, v.action, v.reason, v.why, v.port);
		CHECK(false);
	}
}

/* Whatever is missing: a provider's address is refused, never let go. */
static void what_is_missing_closes(void)
{
	struct gate_facts f = past(GATE_CLASS_SUSPECT, 443, FORCE_ASSIST);

	f.door_port = 0;
	CHECK_INT(gate_decide_connect(&f).action, GATE_REFUSE);
	CHECK_INT(gate_decide_connect(&f).reason, GATE_DENY_NO_DOOR);
	f = past(GATE_CLASS_VIP, 443, FORCE_OFF);
	f.label_id = 0;
	CHECK_INT(gate_decide_connect(&f).reason, GATE_DENY_NO_LABEL);
	f = past(GATE_CLASS_VIP, 443, FORCE_OFF);
	f.has_budget = 0;
	CHECK_INT(gate_decide_connect(&f).reason, GATE_DENY_NO_BUDGET);
	f = past(GATE_CLASS_SUSPECT, 443, FORCE_ASSIST);
	f.inflight = GATE_INFLIGHT_MAX;
	CHECK_INT(gate_decide_connect(&f).reason, GATE_DENY_INFLIGHT);
	/* Names alone do not open a way: the addresses are watched. */
	f = past(GATE_CLASS_OTHER, 53, FORCE_ASSIST);
	f.dns_port = 0;
	CHECK_INT(gate_decide_connect(&f).action, GATE_LET_GO);
}

static void led_further_down(void)
{
	struct gate_facts f = past(GATE_CLASS_LOCAL, 4153, FORCE_STRICT);

	f.led = 1;
	f.pending_level = 3;
	CHECK_INT(gate_decide_connect(&f).action, GATE_KEEP);
	f.pending_level = 2;
	CHECK_INT(gate_decide_connect(&f).action, GATE_LET_GO);
	f.is_stream = 0; /* the second look at a datagram of a v6 socket */
	CHECK_INT(gate_decide_connect(&f).action, GATE_KEEP);
}

static void packets(void)
{
	static const struct {
		struct gate_packet p;
		uint32_t want;
	} cases[] = {
		{ { GATE_CLASS_LOCAL, IPPROTO_UDP, 443, 0, FORCE_STRICT }, GATE_PASS },
		{ { GATE_CLASS_VIP, IPPROTO_UDP, 443, 0, FORCE_OFF }, GATE_DROP_VIP },
		{ { GATE_CLASS_VIP_UNUSED, IPPROTO_ICMP, 0, 0, FORCE_OFF }, GATE_DROP_VIP },
		{ { GATE_CLASS_SUSPECT, IPPROTO_TCP, 443, 0, FORCE_ASSIST }, GATE_DROP_PROVIDER },
		{ { GATE_CLASS_SUSPECT, IPPROTO_UDP, 443, 0, FORCE_ASSIST }, GATE_DROP_PROVIDER },
		{ { GATE_CLASS_SUSPECT, IPPROTO_UDP, 0, 1, FORCE_ASSIST }, GATE_DROP_PROVIDER },
		{ { GATE_CLASS_SUSPECT, IPPROTO_SCTP, 0, 0, FORCE_ASSIST }, GATE_DROP_PROVIDER },
		{ { GATE_CLASS_SUSPECT, IPPROTO_ICMP, 0, 0, FORCE_ASSIST }, GATE_PASS },
		{ { GATE_CLASS_SUSPECT, IPPROTO_TCP, 22, 0, FORCE_ASSIST }, GATE_PASS },
		{ { GATE_CLASS_SUSPECT, IPPROTO_TCP, 443, 0, FORCE_OBSERVE }, GATE_OBSERVED },
		{ { GATE_CLASS_SUSPECT, IPPROTO_TCP, 443, 0, FORCE_OFF }, GATE_PASS },
		{ { GATE_CLASS_OTHER, IPPROTO_UDP, 443, 0, FORCE_ASSIST }, GATE_PASS },
		{ { GATE_CLASS_OTHER, IPPROTO_UDP, 443, 0, FORCE_STRICT }, GATE_DROP_STRICT },
		{ { GATE_CLASS_OTHER, IPPROTO_UDP, 53, 0, FORCE_STRICT }, GATE_DROP_STRICT },
		{ { GATE_CLASS_OTHER, IPPROTO_TCP, 853, 0, FORCE_STRICT }, GATE_DROP_STRICT },
		{ { GATE_CLASS_OTHER, IPPROTO_GRE, 0, 0, FORCE_STRICT }, GATE_DROP_STRICT },
		{ { GATE_CLASS_OTHER, IPPROTO_ICMPV6, 0, 0, FORCE_STRICT }, GATE_PASS },
		{ { GATE_CLASS_OTHER, IPPROTO_TCP, 22, 0, FORCE_STRICT }, GATE_PASS },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(gate_decide_packet(&cases[i].p), cases[i].want);
}

static void guards(void)
{
	CHECK(gate_guard_denies(FORCE_OFF, GATE_CLASS_VIP, 443));
	CHECK(!gate_guard_denies(FORCE_OFF, GATE_CLASS_SUSPECT, 443));
	CHECK(gate_guard_denies(FORCE_ASSIST, GATE_CLASS_SUSPECT, 443));
	CHECK(!gate_guard_denies(FORCE_ASSIST, GATE_CLASS_SUSPECT, 22));
	CHECK(!gate_guard_denies(FORCE_ASSIST, GATE_CLASS_OTHER, 443));
	CHECK(gate_guard_denies(FORCE_STRICT, GATE_CLASS_OTHER, 443));
	CHECK(!gate_guard_denies(FORCE_STRICT, GATE_CLASS_LOCAL, 443));
}

static void peer_decisions(void)
{
	struct stamp s = { .cgroup_id = 77, .sock_cookie = 99 };

	CHECK_INT(gate_decide_peer(&s, 77, 1, 99), STAMP_PEER_AGREES);
	CHECK_INT(gate_decide_peer(&s, 78, 1, 99), STAMP_PEER_DIFFERS);
	CHECK_INT(gate_decide_peer(&s, 77, 0, 99), STAMP_PEER_DIFFERS);
	CHECK_INT(gate_decide_peer(&s, 77, 1, 98), STAMP_PEER_DIFFERS);
	CHECK_INT(gate_decide_peer(&s, 0, 1, 99), STAMP_PEER_DIFFERS);
}

TESTS(T(constants_are_the_systems), T(loopback), T(unmapped_is_whole), T(only_tcp_may_be_the_door),
      T(connect_decisions), T(inflight_bound), T(innermost_label), T(v4_inside_v6), T(pools),
      T(streams_past_the_door), T(what_is_missing_closes), T(led_further_down), T(packets),
      T(guards), T(peer_decisions))
