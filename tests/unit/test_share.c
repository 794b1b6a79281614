/* SPDX-License-Identifier: Apache-2.0 */
/* Fair shares: who may have how much, and who gives way. */
#include "gateway/share.h"
#include "tests/unit/test.h"

static struct shares all;

/* How many one more of these may take of what the others left. */
static unsigned take_all(unsigned total, unsigned used)
{
	unsigned n = 0;

	while (share_fits(n + 1, total, used + n + 1))
		n++;
	return n;
}

static void alone_nearly_everything(void)
{
	CHECK_INT(take_all(900, 0), 800);
	CHECK_INT(take_all(16384, 0), 14564);
	/* However small the whole is, one gets in. */
	for (unsigned total = 1; total < 20; total++)
		CHECK(take_all(total, 0) >= 1);
	CHECK(!share_fits(1, 10, 11));
	CHECK(share_fits(64 << 20, 512 << 20, 64 << 20));
	CHECK(share_fits(0, UINT64_MAX, UINT64_MAX));
}

/* Greedy ones, one after the other: each next one gets in, for as long as anything is left. */
static void another_always_gets_in(void)
{
	unsigned used = 0, n = 0;

	while (used < 16384) {
		unsigned got = take_all(16384, used);

		CHECK(got >= 1);
		used += got;
		n++;
		if (!got)
			break;
	}
	CHECK(n >= 5);
}

static void references(void)
{
	struct share *a = share_get(&all, 1), *b = share_get(&all, 2), *again = share_get(&all, 1);

	CHECK(a && b && a != b && a == again);
	CHECK_INT(a->refs, 2);
	share_put(&all, a);
	CHECK_INT(a->refs, 1);
	share_put(&all, a);
	share_put(&all, b);
	share_put(&all, NULL);
	for (unsigned i = 0; i < SHARE_BUCKETS; i++)
		CHECK(!all.buckets[i]);
}

static void the_greediest_gives_way(void)
{
	struct share_idle ia[3] = { 0 }, ib[2] = { 0 };
	struct share *a = share_get(&all, 1), *b = share_get(&all, 2), *c = share_get(&all, 3);

	a->n_conns = 3;
	b->n_conns = 2;
	c->n_conns = 1;
	CHECK(!share_victim(&all, c)); /* nobody waits */
	for (unsigned i = 0; i < 3; i++)
		share_idle_add(a, &ia[i]);
	share_idle_add(a, &ia[0]); /* once only */
	for (unsigned i = 0; i < 2; i++)
		share_idle_add(b, &ib[i]);
	CHECK(share_victim(&all, c) == a && a->oldest == &ia[0]);
	share_idle_remove(a, &ia[1]);
	share_idle_remove(a, &ia[1]);
	share_idle_remove(a, &ia[0]);
	CHECK(a->oldest == &ia[2] && a->newest == &ia[2]);
	share_idle_remove(a, &ia[2]);
	CHECK(!a->oldest && !a->newest);
	CHECK(share_victim(&all, c) == b); /* a has the most, but all of them work */
	CHECK(share_victim(&all, a) == NULL); /* nobody pays for one that has more itself */
	CHECK(share_victim(&all, b) == b);
	share_put(&all, a);
	share_put(&all, b);
	share_put(&all, c);
}

TESTS(T(alone_nearly_everything), T(another_always_gets_in), T(references), T(the_greediest_gives_way))
