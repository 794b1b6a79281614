/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a connection that was led to the door: every case of the table. */
#include "gateway/forced.h"

#include "tests/unit/test.h"

/* What is expected for a virtual address, a suspect one, and any other (strict). */
struct row {
	enum forced_sort sort;
	bool named, owned, ech;
	struct want {
		enum forced_action action;
		uint8_t alert;
		const char *kind;
	} vip, suspect, strict;
};

#define REFUSE(alert, kind) { FORCED_REFUSE, alert, kind }
#define SPLICE		    { FORCED_SPLICE, 0, NULL }
#define ALL(...)	    { __VA_ARGS__ }, { __VA_ARGS__ }, { __VA_ARGS__ }

static const struct row rows[] = {
	{ FORCED_TLS, true, true, false, ALL(FORCED_TERMINATE, 0, NULL) },
	{ FORCED_TLS, true, true, true, ALL(FORCED_TERMINATE, 0, NULL) },
	{ FORCED_TLS, true, false, false, REFUSE(112, "vip-other-name"), SPLICE, SPLICE },
	{ FORCED_TLS, true, false, true, ALL(FORCED_REFUSE, 49, "name-hidden") },
	{ FORCED_TLS, false, false, true, ALL(FORCED_REFUSE, 49, "name-hidden") },
	{ FORCED_TLS, false, false, false, ALL(FORCED_REFUSE, 49, "no-name") },
	{ FORCED_TLS_BAD, false, false, false, ALL(FORCED_REFUSE, 50, "not-web") },
	{ FORCED_HTTP, true, true, false, ALL(FORCED_SERVE, 0, NULL) },
	{ FORCED_HTTP, true, false, false, REFUSE(0, "vip-other-name"), SPLICE, SPLICE },
	{ FORCED_HTTP, false, false, false, REFUSE(0, "vip-other-name"), REFUSE(0, "no-name"), REFUSE(0, "no-name") },
	{ FORCED_UPGRADE, true, true, false, ALL(FORCED_SERVE, 0, NULL) },
	{ FORCED_UPGRADE, true, false, false, REFUSE(0, "vip-other-name"), REFUSE(0, "not-web"), REFUSE(0, "not-web") },
	{ FORCED_OTHER, false, false, false, ALL(FORCED_REFUSE, 0, "not-web") },
};

static void table(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *r = &rows[i];

		for (enum stamp_why why = STAMP_VIP; why <= STAMP_STRICT; why++) {
			struct forced_facts f = { r->sort, why, r->named, r->owned, r->ech };
			const struct want *want = why == STAMP_VIP ? &r->vip : why == STAMP_SUSPECT ? &r->suspect : &r->strict;
			struct forced_verdict v;

			forced_decide(&f, &v);
			CHECK_INT(v.action, want->action);
			CHECK_INT(v.alert, want->alert);
			CHECK_STR(v.kind, want->kind);
			CHECK((v.action == FORCED_REFUSE) == (v.why != NULL));
		}
	}
}

/* Whatever the facts: a name that a provider has is never passed on, nor is a connection without a name. */
static void never_spliced(void)
{
	for (unsigned bits = 0; bits < 8; bits++) {
		for (enum forced_sort sort = 0; sort < FORCED_SORT_MAX; sort++) {
			for (enum stamp_why why = STAMP_VIP; why <= STAMP_STRICT; why++) {
				struct forced_facts f = { sort, why, bits & 1, (bits & 3) == 3, sort == FORCED_TLS && bits & 4 };
				struct forced_verdict v;

				forced_decide(&f, &v);
				if (v.action == FORCED_SPLICE)
					CHECK(f.named && !f.owned && !f.ech && why != STAMP_VIP);
			}
		}
	}
}

static void why_names(void)
{
	CHECK_STR(forced_why_name(STAMP_VIP), "vip");
	CHECK_STR(forced_why_name(0), "?");
	CHECK_STR(forced_why_name(99), "?");
}

TESTS(T(table), T(never_spliced), T(why_names))
