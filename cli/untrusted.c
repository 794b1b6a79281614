/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/untrusted.h"

#include <stdio.h>

#include "cli/format.h"

#define KIND "ca-untrusted"
/* Rationale: who still has the trouble tries again within it, and who was cured is soon not told of any more. */
#define WINDOW_NS (3600 * NSEC_PER_SEC)
/* Rationale: the sentence needs the newest, and a number that says whether it is one client or a fleet. */
#define ROWS_MAX 1000

/* Rationale: the cure is at the end, and has to fit whatever a cgroup is called. */
static struct str at_most(struct str s, size_t max)
{
	return s.n ? (struct str){ s.s, MIN(s.n, max) } : STR("");
}

void untrusted_tell(const struct answer *a, struct untrusted *ret)
{
	struct str cgroup = STR_NULL, tags = STR_NULL, text = STR_NULL;

	*ret = (struct untrusted){ 0 };
	for (size_t r = 0; r < a->n_rows; r++) {
		if (!str_eq(answer_text(a, r, "kind"), STR(KIND)))
			continue;
		if (!ret->count) {
			/* The newest comes first. */
			cgroup = at_most(answer_text(a, r, "cgroup"), 200);
			tags = at_most(answer_text(a, r, "tags"), 100);
			text = at_most(answer_text(a, r, "text"), 350);
		}
		ret->count += MAX(answer_int(a, r, "count"), (int64_t)1);
	}
	if (ret->count)
		snprintf(ret->text, sizeof(ret->text), "refused %lld time%s in the last hour, the newest by %.*s%s%.*s: %.*s",
			 (long long)ret->count, ret->count == 1 ? "" : "s", STR_ARG(cgroup), tags.n ? " " : "", STR_ARG(tags),
			 STR_ARG(text));
}

int untrusted_ask(const char *run_dir, int timeout_ms, struct untrusted *ret)
{
	struct question q = { .op = "events", .kind = KIND, .since_ns = format_now_ns() - WINDOW_NS, .limit = ROWS_MAX };
	struct answer a;
	int err = ledger_ask_at(run_dir, &q, timeout_ms, &a);

	if (!err)
		untrusted_tell(&a, ret);
	answer_fini(&a);
	return err;
}
