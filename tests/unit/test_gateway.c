/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's smaller parts: denials, secrets, labels, live slots. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "gateway/deny.h"
#include "gateway/http_msg.h"
#include "gateway/keys.h"
#include "gateway/labels.h"
#include "gateway/live.h"
#include "gateway/hosts.h"
#include "tests/unit/test.h"

static struct http_head head;

/* Writes the denial and parses it back: a client's view. The caller frees the JSON. */
static cJSON *denial(enum wire_format format, enum outcome outcome, const char *client, int *ret_status)
{
	struct denial d = { .format = format, .outcome = outcome, .message = STR("say \"no\"\n"), .client = str_of(client), .retry_after_s = 5, .request_id = 0xabc };
	const char *why;
	struct buf out;
	cJSON *json;
	int n;

	buf_init(&out, 65536);
	CHECK(deny_write(&d, &out) > 0);
	n = http_parse_response(buf_str(&out), false, &head, &why);
	CHECK(n > 0 && head.body == HTTP_BODY_LENGTH && head.length == buf_len(&out) - (size_t)n);
	*ret_status = head.status;
	json = cJSON_ParseWithLength(buf_head(&out) + n, buf_len(&out) - (size_t)n);
	CHECK(json != NULL);
	CHECK(str_eq(http_header_get(&head, "sallyport-reason"), str_of(outcome_name(outcome))));
	/* The fields point into `out`; what tests look at is told by presence only. */
	buf_fini(&out);
	return json;
}

static const char *error_field(const cJSON *json, const char *field)
{
	const char *s = cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(json, "error"), field));

	return s ? s : "";
}

static void denial_statuses(void)
{
	static const struct {
		enum wire_format format;
		enum outcome outcome;
		const char *client;
		int status;
		const char *field, *value;
	} cases[] = {
		{ WIRE_ANTHROPIC_MESSAGES, OUTCOME_DENIED_MODEL, "", 403, "type", "permission_error" },
		{ WIRE_ANTHROPIC_MESSAGES, OUTCOME_UNKNOWN_MODEL, "", 404, "type", "not_found_error" },
		{ WIRE_ANTHROPIC_MESSAGES, OUTCOME_DENIED_QUOTA, "", 429, "type", "rate_limit_error" },
		{ WIRE_ANTHROPIC_MESSAGES, OUTCOME_TOO_LARGE, "", 413, "type", "request_too_large" },
		{ WIRE_ANTHROPIC_MESSAGES, OUTCOME_MISDIRECTED, "", 421, "type", "invalid_request_error" },
		{ WIRE_OPENAI_CHAT, OUTCOME_MISDIRECTED, "", 421, "code", "misdirected" },
		{ WIRE_GEMINI, OUTCOME_MISDIRECTED, "", 421, "status", "INVALID_ARGUMENT" },
		{ WIRE_OPENAI_CHAT, OUTCOME_DENIED_QUOTA, "", 429, "code", "insufficient_quota" },
		{ WIRE_OPENAI_CHAT, OUTCOME_DENIED_MODEL, "", 403, "code", "denied_model" },
		{ WIRE_OPENAI_RESPONSES, OUTCOME_DENIED_MODEL, "codex/0.169", 400, "type", "invalid_request_error" },
		{ WIRE_OPENAI_RESPONSES, OUTCOME_DENIED_QUOTA, "codex/0.169", 400, "type", "invalid_request_error" },
		{ WIRE_OPENAI_RESPONSES, OUTCOME_UNKNOWN_MODEL, "codex/0.169", 400, "type", "invalid_request_error" },
		{ WIRE_OPENAI_CHAT, OUTCOME_DENIED_QUOTA, "opencode/1.18", 403, "type", "permission_error" },
		{ WIRE_ANTHROPIC_MESSAGES, OUTCOME_DENIED_QUOTA, "opencode/1.18", 403, "type", "permission_error" },
		{ WIRE_GEMINI, OUTCOME_DENIED_QUOTA, "", 402, "status", "RESOURCE_EXHAUSTED" },
		{ WIRE_GEMINI, OUTCOME_DENIED_MODEL, "", 403, "status", "PERMISSION_DENIED" },
		{ WIRE_GEMINI, OUTCOME_UPSTREAM_DOWN, "", 502, "status", "INTERNAL" },
		{ WIRE_ANTHROPIC_MESSAGES, OUTCOME_UPSTREAM_STALL, "", 504, "type", "api_error" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int status;
		cJSON *json = denial(cases[i].format, cases[i].outcome, cases[i].client, &status);

		CHECK_INT(status, cases[i].status);
		CHECK_STR(error_field(json, cases[i].field), cases[i].value);
		CHECK_STR(error_field(json, "message"), "say \"no\"\n");
		CHECK_INT(head.status, cases[i].status);
		cJSON_Delete(json);
	}
}

static void denial_retry_after(void)
{
	struct denial d = { .format = WIRE_ANTHROPIC_MESSAGES, .outcome = OUTCOME_DENIED_QUOTA, .message = STR("x"), .retry_after_s = 5 };
	struct buf out;

	buf_init(&out, 65536);
	deny_write(&d, &out);
	CHECK(str_find(buf_str(&out), STR("\r\nretry-after: 61\r\n")));
	buf_reset(&out, 0);
	d.retry_after_s = 3600;
	deny_write(&d, &out);
	CHECK(str_find(buf_str(&out), STR("\r\nretry-after: 3600\r\n")));
	buf_reset(&out, 0);
	d.format = WIRE_OPENAI_RESPONSES;
	deny_write(&d, &out);
	CHECK(!str_find(buf_str(&out), STR("retry-after")));
	CHECK(str_find(buf_str(&out), STR("x-should-retry: false\r\n")));
	buf_fini(&out);
}

static int memory_file(const char *text)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	if (write(fd, text, strlen(text)) < 0)
		exit(1);
	return fd;
}

static void secrets(void)
{
	struct secret *s = NULL;
	struct buf out;
	int fd = memory_file("  sk-test-0123456789\n");

	buf_init(&out, 1000);
	CHECK_INT(secret_read(fd, &s), 0);
	CHECK_INT(secret_append(s, &out), 0);
	CHECK(str_eq(buf_str(&out), STR("sk-test-0123456789")));
	CHECK(secret_found_in(s, STR("your key sk-test-0123456789 is bad")));
	CHECK(!secret_found_in(s, STR("your key sk-test-012345678 is bad")));
	secret_free(s);
	close(fd);
	fd = memory_file("\n");
	CHECK_INT(secret_read(fd, &s), -ENODATA);
	close(fd);
	fd = memory_file("two words");
	CHECK_INT(secret_read(fd, &s), -EINVAL);
	close(fd);
	buf_fini(&out);
}

static void label_table(void)
{
	static struct labels l;
	struct msg_sandbox box = { .label_id = 7, .tags = "tag:a,tag:b" };
	const struct label *label;

	CHECK_INT(labels_set(&l, &box), 0);
	label = labels_get(&l, 7);
	CHECK(label && label->n_tags == 2 && str_eq(label->tags[1], STR("tag:b")));
	box.label_gen = 2;
	str_copy(box.tags, sizeof(box.tags), STR("tag:c"));
	CHECK_INT(labels_set(&l, &box), 0);
	CHECK_INT(l.n, 1);
	CHECK(labels_get(&l, 7)->n_tags == 1);
	box.label_id = 7 + LABEL_BUCKETS;
	memset(box.path, 'x', sizeof(box.path));
	CHECK_INT(labels_set(&l, &box), -EINVAL);
	labels_remove(&l, 7);
	labels_remove(&l, 7);
	CHECK(!labels_get(&l, 7) && l.n == 0);
	labels_fini(&l);
}

static void host_table(void)
{
	static const uint32_t order[] = { 5, 1, 9, 3, 7 };
	struct hosts t = { 0 };
	struct msg_name msg = { .name_id = 0, .name = "a.test" };

	CHECK_INT(hosts_set(&t, &msg), -EINVAL);
	for (uint32_t round = 0; round < 40; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
			msg.name_id = 10 * round + order[i];
			snprintf(msg.name, sizeof(msg.name), "n%u.test", msg.name_id);
			CHECK_INT(hosts_set(&t, &msg), 0);
		}
	}
	CHECK_INT(t.n, 200);
	CHECK_STR(hosts_get(&t, 7), "n7.test");
	CHECK_STR(hosts_get(&t, 395), "n395.test");
	CHECK_STR(hosts_get(&t, 2), "");
	CHECK_STR(hosts_get(&t, 1000), "");
	msg.name_id = 7;
	str_copy(msg.name, sizeof(msg.name), STR("other.test"));
	CHECK_INT(hosts_set(&t, &msg), 0);
	CHECK(t.n == 200);
	CHECK_STR(hosts_get(&t, 7), "other.test");
	memset(msg.name, 'x', sizeof(msg.name));
	CHECK_INT(hosts_set(&t, &msg), -EINVAL);
	hosts_fini(&t);
	CHECK_STR(hosts_get(&t, 7), "");
}

static unsigned recovered;
static struct live *live;

static void on_recovered(void *arg, struct live_slot *s)
{
	(void)arg;
	recovered += (unsigned)s->rec.id;
	live_end(live, s);
}

/* Once nothing runs, only the last number is kept; and not before. */
static void live_given_back(int fd)
{
	struct live_slot *s;
	struct stat st;

	CHECK_INT(live_open(fd, 3, &live), 0);
	s = live_take(live);
	CHECK(s != NULL);
	live_begin(s);
	*live_last_id(live) = 77;
	live_retire(live);
	CHECK(fstat(fd, &st) == 0 && st.st_size > LIVE_EMPTY_BYTES);
	live_close(live);
	/* As one opens it that only records what is left. */
	CHECK_INT(live_open(fd, 0, &live), 0);
	recovered = 0;
	live_recover(live, on_recovered, NULL);
	live_retire(live);
	live_close(live);
	CHECK(fstat(fd, &st) == 0);
	CHECK_INT(st.st_size, LIVE_EMPTY_BYTES);
	CHECK_INT(live_open(fd, 3, &live), 0);
	CHECK_INT(*live_last_id(live), 77);
	CHECK(live_take(live) && live_take(live) && live_take(live) && !live_take(live));
	live_close(live);
}

/* What a worker leaves running is found by the one that maps the file next. */
static void live_slots(void)
{
	int fd = memory_file("");
	struct live_slot *a, *b;
	struct str strings[RQ_STRINGS] = { [RQ_MODEL] = STR("m") };

	CHECK_INT(live_open(fd, 3, &live), 0);
	a = live_take(live);
	b = live_take(live);
	CHECK(a && b && live_take(live) && !live_take(live));
	a->rec = (struct rec_request){ .id = 5 };
	live_set_strings(a, strings);
	live_begin(a);
	b->rec = (struct rec_request){ .id = 100 };
	live_begin(b);
	live_end(live, b);
	live_close(live);
	CHECK_INT(live_open(fd, 3, &live), 0);
	live_recover(live, on_recovered, NULL);
	CHECK_INT(recovered, 5);
	live_recover(live, on_recovered, NULL);
	CHECK_INT(recovered, 5);
	CHECK(live_take(live) && live_take(live) && live_take(live) && !live_take(live));
	live_close(live);
	live_given_back(fd);
	CHECK(pwrite(fd, "garbage!", 8, 0) == 8);
	CHECK_INT(live_open(fd, 3, &live), -EPROTO);
	close(fd);
}

TESTS(T(denial_statuses), T(denial_retry_after), T(secrets), T(label_table), T(host_table), T(live_slots))
