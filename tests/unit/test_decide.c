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
      T(connect_decisions), T(inflight_bound), T(innermost_label), T(peer_decisions))
