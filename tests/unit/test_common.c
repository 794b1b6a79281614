/* SPDX-License-Identifier: Apache-2.0 */
/* The small parts of common/: buffers, records, arena, loop, messages. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "common/addr.h"
#include "common/arena.h"
#include "common/buf.h"
#include "common/ipc.h"
#include "common/loop.h"
#include "common/msg.h"
#include "common/outcome.h"
#include "common/record.h"
#include "common/wire.h"
#include "tests/unit/test.h"

static void buf_bounds(void)
{
	struct buf b;

	buf_init(&b, 10);
	CHECK_INT(buf_append(&b, "0123456789", 10), 0);
	CHECK_INT(buf_append(&b, "x", 1), -ENOBUFS);
	CHECK(!buf_reserve(&b, SIZE_MAX));
	buf_consume(&b, 4);
	CHECK_INT(buf_append(&b, "abcd", 4), 0);
	CHECK(str_eq(buf_str(&b), STR("456789abcd")));
	buf_fini(&b);
	buf_fini(&b);
}

static void buf_slides(void)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	for (unsigned i = 0; i < 10000; i++) {
		CHECK_INT(buf_append(&b, &i, sizeof(i)), 0);
		if (i >= 100) {
			unsigned got;

			memcpy(&got, buf_head(&b), sizeof(got));
			CHECK_INT(got, i - 100);
			buf_consume(&b, sizeof(got));
		}
	}
	CHECK(b.cap <= 4096);
	buf_fini(&b);
}

static void buf_json(void)
{
	struct buf b;

	buf_init(&b, 100);
	CHECK_INT(buf_json_string(&b, (struct str){ "a\"\\\n\x01z", 6 }), 0);
	CHECK(str_eq(buf_str(&b), STR("\"a\\\"\\\\\\n\\u0001z\"")));
	b.max = buf_len(&b) + 3;
	CHECK_INT(buf_json_string(&b, STR("too long")), -ENOBUFS);
	CHECK(str_eq(buf_str(&b), STR("\"a\\\"\\\\\\n\\u0001z\"")));
	buf_fini(&b);
}

static void arena_grows(void)
{
	struct arena a = { .max = 100000 };

	for (int i = 0; i < 1000; i++) {
		char *p = arena_strdup(&a, STR("some words"));

		CHECK(p && !strcmp(p, "some words") && (uintptr_t)p % 16 == 0);
	}
	CHECK(!arena_alloc(&a, 100000));
	CHECK(!arena_alloc(&a, SIZE_MAX));
	arena_fini(&a);
}

static void record_roundtrip(void)
{
	struct str in[3] = { STR("one"), STR(""), STR("three") }, out[3];
	uint16_t lens[3];
	char data[8];
	size_t n = record_pack(lens, in, 3, data, sizeof(data));

	CHECK_INT(n, 8);
	CHECK(record_unpack(lens, 3, data, n, out));
	CHECK(str_eq(out[0], in[0]) && str_eq(out[1], in[1]) && str_eq(out[2], in[2]));
	CHECK(!record_unpack(lens, 3, data, n - 1, out));
	n = record_pack(lens, in, 3, data, 5);
	CHECK(record_unpack(lens, 3, data, n, out) && str_eq(out[2], STR("th")));
}

static unsigned fired[8], n_fired;
static struct loop loop;

static void on_timer(void *arg)
{
	fired[n_fired++] = *(unsigned *)arg;
}

static void loop_timers(void)
{
	static unsigned names[4] = { 0, 1, 2, 3 };
	struct timer t[4] = { 0 };

	CHECK_INT(loop_init(&loop), 0);
	for (unsigned i = 0; i < 4; i++)
		loop_timer(&loop, &t[i], loop.now_ns + (4 - i) * NSEC_PER_MSEC, on_timer, &names[i]);
	loop_untimer(&loop, &t[2]);
	loop_timer(&loop, &t[3], loop.now_ns + 6 * NSEC_PER_MSEC, on_timer, &names[3]);
	for (int i = 0; i < 50 && n_fired < 3; i++)
		loop_once(&loop, 10);
	CHECK_INT(n_fired, 3);
	CHECK(fired[0] == 1 && fired[1] == 0 && fired[2] == 3);
	loop_fini(&loop);
}

struct pipe_end {
	struct watch watch;
	struct pipe_end *other;
	unsigned events;
};

/* Closes the other one: its event of the same batch must not come. */
static void on_pipe(void *arg, uint32_t events)
{
	struct pipe_end *p = arg;

	(void)events;
	p->events++;
	loop_unwatch(&loop, &p->other->watch);
	loop_unwatch(&loop, &p->watch);
}

static void loop_drops_stale_events(void)
{
	struct pipe_end ends[2] = { 0 };
	int a[2], b[2];

	CHECK(pipe(a) == 0 && pipe(b) == 0);
	CHECK_INT(loop_init(&loop), 0);
	ends[0].other = &ends[1];
	ends[1].other = &ends[0];
	CHECK(write(a[1], "x", 1) == 1 && write(b[1], "x", 1) == 1);
	CHECK_INT(loop_watch(&loop, &ends[0].watch, a[0], EPOLLIN, on_pipe, &ends[0]), 0);
	CHECK_INT(loop_watch(&loop, &ends[1].watch, b[0], EPOLLIN, on_pipe, &ends[1]), 0);
	loop_once(&loop, 100);
	loop_once(&loop, 0);
	CHECK_INT(ends[0].events + ends[1].events, 1);
	loop_fini(&loop);
	close(a[0]);
	close(a[1]);
	close(b[0]);
	close(b[1]);
}

static unsigned handled;

static void on_message(void *arg, struct ipc_message *m)
{
	(void)arg;
	handled += ((struct msg_rules *)(void *)m->payload)->generation;
}

static void messages(void)
{
	static const struct ipc_rule rules[] = { { MSG_COMMIT, sizeof(struct msg_rules), 0, 0, on_message } };
	struct msg_rules msg = { .generation = 5 };
	static struct ipc_message m;
	int pair[2], fd = open("/dev/null", O_RDONLY);

	CHECK_INT(ipc_pair(pair), 0);
	CHECK_INT(ipc_recv(pair[1], &m), -EAGAIN);
	CHECK_INT(ipc_send(pair[0], MSG_COMMIT, 9, &msg, sizeof(msg), NULL, 0), 0);
	CHECK_INT(ipc_recv(pair[1], &m), 1);
	CHECK_INT(m.head.id, 9);
	CHECK_INT(ipc_dispatch(rules, 1, NULL, &m), 0);
	CHECK_INT(handled, 5);
	/* Descriptors that no rule allows are refused, and closed. */
	CHECK_INT(ipc_send(pair[0], MSG_COMMIT, 0, &msg, sizeof(msg), &fd, 1), 0);
	CHECK_INT(ipc_recv(pair[1], &m), 1);
	CHECK_INT(m.n_fds, 1);
	CHECK_INT(ipc_dispatch(rules, 1, NULL, &m), -EBADMSG);
	ipc_message_fini(&m);
	CHECK_INT(ipc_send(pair[0], MSG_STOP, 0, &msg, sizeof(msg), NULL, 0), 0);
	CHECK_INT(ipc_recv(pair[1], &m), 1);
	CHECK_INT(ipc_dispatch(rules, 1, NULL, &m), -EBADMSG);
	CHECK(write(pair[0], "short", 5) == 5);
	CHECK_INT(ipc_recv(pair[1], &m), -EBADMSG);
	close(pair[0]);
	CHECK_INT(ipc_recv(pair[1], &m), 0);
	close(pair[1]);
	close(fd);
}

static void names_are_told(void)
{
	for (unsigned i = 0; i < OUTCOME_MAX; i++)
		CHECK(outcome_name(i) && *outcome_name(i) != '?');
	for (unsigned i = 0; i < WIRE_FORMAT_MAX; i++)
		CHECK(*wire_format_name(i) != '?');
	CHECK_STR(outcome_name(OUTCOME_MAX), "?");
}

static void addresses(void)
{
	char text[ADDR_TEXT_BYTES];
	uint8_t addr[16];
	int family;

	CHECK(addr_parse(STR("192.0.2.7"), &family, addr) && family == AF_INET && addr[3] == 7);
	CHECK_STR(addr_text(family, addr, text), "192.0.2.7");
	CHECK(addr_parse(STR("2001:db8::7"), &family, addr) && family == AF_INET6 && addr[15] == 7);
	CHECK_STR(addr_text(family, addr, text), "2001:db8::7");
	CHECK(!addr_parse(STR(""), &family, addr));
	CHECK(!addr_parse(STR("192.0.2"), &family, addr));
	CHECK(!addr_parse(STR("192.0.2.7 "), &family, addr));
	CHECK(!addr_parse(STR("2001:db8:0000:0000:0000:0000:0000:0000:0000:0007"), &family, addr));
	CHECK_STR(addr_text(1, addr, text), "?");
}

static void prefixes(void)
{
	struct addr_prefix p;

	CHECK(addr_prefix_parse(STR("198.18.0.0/16"), &p) && p.family == AF_INET && p.bits == 16);
	CHECK(addr_prefix_parse(STR("192.0.2.7"), &p) && p.bits == 32);
	CHECK(addr_prefix_parse(STR("::/0"), &p) && p.family == AF_INET6 && p.bits == 0);
	CHECK(!addr_prefix_parse(STR("192.0.2.7/24"), &p));
	CHECK(!addr_prefix_parse(STR("192.0.2.0/33"), &p));
	CHECK(!addr_prefix_parse(STR("192.0.2.0/"), &p));
	CHECK(!addr_prefix_parse(STR("2001:db8::/x"), &p));
	CHECK(!addr_prefix_parse(STR("/24"), &p));
}

TESTS(T(buf_bounds), T(buf_slides), T(buf_json), T(arena_grows), T(record_roundtrip), T(loop_timers),
      T(loop_drops_stale_events), T(messages), T(names_are_told), T(addresses), T(prefixes))
