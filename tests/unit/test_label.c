/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "agent/label.h"
#include "tests/unit/test.h"

static char why[512], tags[MSG_TAGS_BYTES];

static void good_tags(void)
{
	static const char *const cases[][2] = {
		{ "tag:a", "tag:a" },
		{ "tag:pr-bot", "tag:pr-bot" },
		{ "tag:b,tag:a", "tag:a,tag:b" },
		{ "tag:a,tag:a", "tag:a" },
		{ "tag:a1,tag:a,tag:a-b", "tag:a,tag:a-b,tag:a1" },
		{ "tag:a,", "tag:a" },
		{ "tag:a--", "tag:a--" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_INT(label_tags(cases[i][0], tags, sizeof(tags), why, sizeof(why)), 0);
		CHECK_STR(tags, cases[i][1]);
	}
}

static void bad_tags(void)
{
	static const char *const cases[] = {
		"",	   ",",
		"tag:",	   "pr-bot",
		"TAG:a",   "tag:A",
		"tag:1a",  "tag:-a",
		"tag:a b", "tag:a,b",
		"tag: a",  "tag:a,,tag:b",
		"tag:a_b", "tag:\xc3\xa9",
		"tag:a\n", "tag:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		why[0] = '\0';
		if (label_tags(cases[i], tags, sizeof(tags), why, sizeof(why)) != -EINVAL ||
		    !why[0]) {
			printf("%s\n", cases[i]);
			CHECK(false);
		}
		/* A peer's bytes do not reach a terminal as they are. */
		CHECK(!strchr(why, '\n') && !strchr(why, '\xc3'));
	}
}

static void too_many_tags(void)
{
	char in[LABEL_TAGS_MAX * 8 + 64] = "";

	for (unsigned i = 0; i < LABEL_TAGS_MAX; i++)
		snprintf(in + strlen(in), sizeof(in) - strlen(in), "tag:a%u,", i);
	CHECK_INT(label_tags(in, tags, sizeof(tags), why, sizeof(why)), 0);
	snprintf(in + strlen(in), sizeof(in) - strlen(in), "tag:b");
	CHECK_INT(label_tags(in, tags, sizeof(tags), why, sizeof(why)), -EINVAL);
	CHECK_INT(label_tags("tag:abcdef", tags, 8, why, sizeof(why)), -EINVAL);
}

static void targets(void)
{
	struct label_target t;

	CHECK_INT(label_target("/a/b", &t, why, sizeof(why)), 0);
	CHECK_INT(t.kind, LABEL_PATH);
	CHECK_STR(t.name, "/a/b");
	CHECK_INT(label_target("/a/b//", &t, why, sizeof(why)), 0);
	CHECK_STR(t.name, "/a/b");
	CHECK_INT(label_target("pid:4711", &t, why, sizeof(why)), 0);
	CHECK_INT(t.kind, LABEL_PID);
	CHECK_INT(t.pid, 4711);
	CHECK_INT(label_target("unit:nginx", &t, why, sizeof(why)), 0);
	CHECK_INT(t.kind, LABEL_UNIT);
	CHECK_STR(t.name, "nginx.service");
	CHECK_INT(label_target("unit:a.scope", &t, why, sizeof(why)), 0);
	CHECK_STR(t.name, "a.scope");
	CHECK_INT(label_target("docker:web_1", &t, why, sizeof(why)), 0);
	CHECK_INT(t.kind, LABEL_DOCKER);
	CHECK_STR(t.name, "web_1");
}

static void bad_targets(void)
{
	static const char *const cases[] = { "",
					     "a/b",
					     "pid:",
					     "pid:0",
					     "pid:-1",
					     "pid:1x",
					     "pid:99999999999999999999",
					     "unit:",
					     "unit:a/b",
					     "docker:",
					     "docker:../x",
					     "podman:x",
					     "docker:a\x1b[2J" };
	struct label_target t = { .pid = 77 };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		why[0] = '\0';
		if (label_target(cases[i], &t, why, sizeof(why)) != -EINVAL || !why[0]) {
			printf("%s\n", cases[i]);
			CHECK(false);
		}
		CHECK(!strchr(why, '\x1b'));
	}
	CHECK_INT(t.pid, 77);
}

static void container_ids(void)
{
#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	static const char *const good[] = { "/docker/" HEX, "/system.slice/docker-" HEX ".scope",
					    "/machine.slice/libpod-" HEX ".scope", "/x/y/" HEX };
	static const char *const bad[] = { "/docker/" HEX "0",
					   "/docker/0123",
					   "/docker/docker-" HEX ".service",
					   "/docker/cri-" HEX ".scope",
					   "/docker/",
					   "/",
					   "/" HEX "/init" };
	char id[LABEL_ID_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		CHECK(label_container_id(good[i], id));
		CHECK_STR(id, HEX);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK(!label_container_id(bad[i], id));
}

static void own_cgroups_are_refused(void)
{
	static const char *const refused[] = { "/", "/sp", "/sp/gateway", "/sp/gateway/x",
					       "/sp/run" };
	static const char *const allowed[] = { "/sp/run/a-1", "/sp/gateway2", "/docker/x", "/spx" };
	struct agent a = { .gateway_path = "/sp/gateway", .run_path = "/sp/run" };

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		CHECK_INT(label_allowed(&a, refused[i], why, sizeof(why)), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		CHECK_INT(label_allowed(&a, allowed[i], why, sizeof(why)), 0);
}

static void resolve_paths(void)
{
	struct agent a = { .cg.path = "/sys/fs/cgroup" };
	struct label_target t = { .kind = LABEL_PATH };
	char path[CGROUP_PATH_BYTES];

	str_copy(t.name, sizeof(t.name), STR("/sys/fs/cgroup/docker/x"));
	CHECK_INT(label_resolve(&a, &t, path, sizeof(path), why, sizeof(why)), 0);
	CHECK_STR(path, "/docker/x");
	str_copy(t.name, sizeof(t.name), STR("/docker/x"));
	CHECK_INT(label_resolve(&a, &t, path, sizeof(path), why, sizeof(why)), 0);
	CHECK_STR(path, "/docker/x");
	t = (struct label_target){ .kind = LABEL_PID, .pid = INT32_MAX };
	CHECK_INT(label_resolve(&a, &t, path, sizeof(path), why, sizeof(why)), -ESRCH);
}

TESTS(T(good_tags), T(bad_tags), T(too_many_tags), T(targets), T(bad_targets), T(container_ids),
      T(own_cgroups_are_refused), T(resolve_paths))
