/* SPDX-License-Identifier: Apache-2.0 */
/* What `policy diff` tells, as JSON lines of its table. */
#include "cli/policy_file.h"
#include "tests/unit/test.h"

#include <unistd.h>

static char said[8192];

/* Runs the comparison with stdout in `said`. */
static void diff(const char *old_text, const char *new_text)
{
	static struct policy_diags diags;
	struct policy_file old = { 0 }, new = { 0 };
	char path[] = "/tmp/sallyport-test-XXXXXX";
	int saved = dup(STDOUT_FILENO), fd = mkstemp(path);
	ssize_t n;

	unlink(path);
	CHECK_INT(policy_parse(str_of(old_text), STR_NULL, &old.policy, &diags), 0);
	CHECK_INT(policy_parse(str_of(new_text), STR_NULL, &new.policy, &diags), 0);
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	if (old.policy && new.policy)
		policy_diff_print(&old, &new, true);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	n = pread(fd, said, sizeof(said) - 1, 0);
	said[n > 0 ? n : 0] = '\0';
	close(fd);
	close(saved);
	policy_free(old.policy);
	policy_free(new.policy);
}

static bool told(const char *who, const char *change, const char *what, const char *detail)
{
	char row[512];

	snprintf(row, sizeof(row),
		 "{\"who\":\"%s\",\"change\":\"%s\",\"what\":\"%s\",\"detail\":\"%s\"}", who, change,
		 what, detail);
	if (strstr(said, row))
		return true;
	printf("no %s in\n%s\n", row, said);
	return false;
}

static unsigned rows(void)
{
	unsigned n = 0;

	for (const char *at = said; (at = strstr(at, "\"who\":")); at++)
		n++;
	return n;
}

static void nothing(void)
{
	static const char text[] =
		"{\"egress\":{\"tag:x\":\"strict\"},\"unpriced\":\"allow\","
		"\"labels\":[{\"match\":{\"cgroup\":\"/ci/*\"},\"tags\":[\"tag:ci\"]}]}";

	diff(text, text);
	CHECK_INT(rows(), 0);
}

static void egress(void)
{
	diff("{\"egress\":{\"tag:x\":\"strict\",\"tag:gone\":\"off\",\"tag:same\":\"assist\"}}",
	     "{\"egress\":{\"default\":\"observe\",\"tag:x\":\"off\",\"tag:new\":\"strict\",\"tag:same\":\"assist\"}}");
	CHECK(told("tag:x", "changes", "egress", "strict -> off"));
	CHECK(told("default", "changes", "egress", "assist -> observe"));
	CHECK(told("tag:new", "changes", "egress", "assist -> strict"));
	CHECK(told("tag:gone", "changes", "egress", "off -> observe"));
	CHECK_INT(rows(), 4);
}

static void unpriced(void)
{
	diff("{}", "{\"unpriced\":\"allow\"}");
	CHECK(told("*", "changes", "unpriced", "deny -> allow"));
	CHECK_INT(rows(), 1);
}

#define CI  "{\"match\":{\"cgroup\":\"/ci/*\"},\"tags\":[\"tag:ci\"]}"
#define WEB "{\"match\":{\"container\":\"web-?\"},\"tags\":[\"tag:web\"]}"

static void labels(void)
{
	diff("{\"labels\":[" CI "]}", "{\"labels\":[" WEB "]}");
	CHECK(told("labels", "new", "container web-? -> tag:web", ""));
	CHECK(told("labels", "gone", "cgroup /ci/* -> tag:ci", ""));
	CHECK_INT(rows(), 2);
	diff("{\"labels\":[" CI "," WEB "]}", "{\"labels\":[" WEB ",\n" CI "]}");
	CHECK(told("labels", "changes", "order", "the first rule that matches counts"));
	CHECK_INT(rows(), 1);
}

/* Amounts as people write them. */
static void quotas(void)
{
	diff("{\"quotas\":{\"a\":{\"capacity\":\"$1.00\",\"rate\":\"$1.00/day\"},"
	     "\"b\":{\"capacity\":\"5 requests\"},\"c\":{\"capacity\":\"$2.50\"}}}",
	     "{\"quotas\":{\"a\":{\"capacity\":\"$2.00\"},"
	     "\"b\":{\"capacity\":\"5 requests\",\"rate\":\"2 requests/hour\"},"
	     "\"c\":{\"capacity\":\"$2.50\",\"on_exceed\":\"warn\"}}}");
	CHECK(told("quota", "changes", "a", "capacity $1.00 -> $2.00, rate $1.00/day -> none"));
	CHECK(told("quota", "changes", "b", "rate none -> 2 requests/hour"));
	CHECK(told("quota", "changes", "c", "on_exceed reject -> warn"));
	CHECK_INT(rows(), 3);
}

TESTS(T(nothing), T(egress), T(unpriced), T(labels), T(quotas))
