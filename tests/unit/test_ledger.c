/* SPDX-License-Identifier: Apache-2.0 */
/* From journal to database to answers: nothing lost, nothing twice, and sums that agree with their
 * parts. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>

#include "common/outcome.h"
#include "gateway/ledger.h"
#include "tests/unit/test.h"

#define HOUR_NS (3600 * NSEC_PER_SEC)
/* An hour's begin in 2026. */
#define T0_NS (494000 * HOUR_NS)

static char dir_name[64], file_name[96];
static int dir;
static struct ledger *ledger;

static void setup(void)
{
	str_copy(dir_name, sizeof(dir_name), STR("/tmp/sallyport-ledger-XXXXXX"));
	if (!mkdtemp(dir_name))
		exit(1);
	dir = open(dir_name, O_RDONLY | O_DIRECTORY);
	snprintf(file_name, sizeof(file_name), "%s/ledger.db", dir_name);
	CHECK_INT(ledger_open(file_name, &ledger), 0);
}

static void teardown(void)
{
	char command[128];

	ledger_close(ledger);
	ledger = NULL;
	close(dir);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir_name);
	CHECK_INT(system(command), 0);
}

static uint64_t id_at(uint64_t at_ns, unsigned i)
{
	return at_ns / NSEC_PER_MSEC << 20 | i;
}

/* Request i at that time; what it costs and uses follows from i. */
static struct rec_request request(uint64_t at_ns, unsigned i)
{
	struct rec_request r = { .id = id_at(at_ns, i),
				 .started_ns = at_ns,
				 .count = 1,
				 .uid = i % 2,
				 .format = 1,
				 .outcome = OUTCOME_OK,
				 .http_status = 200,
				 .input = 10 + i,
				 .cache_read = -1,
				 .cache_write = 3,
				 .cache_write_1h = -1,
				 .output = 2 * i,
				 .reasoning = -1,
				 .web_searches = -1,
				 .cost_nanousd = 1000 + i,
				 .n_tool_calls = i % 3 };

	if (i % 7 == 0) {
		r.outcome = OUTCOME_DENIED_LIMIT;
		r.count = i % 5 + 1;
		r.input = r.output = -1;
		r.cost_nanousd = 0;
	} else if (i % 11 == 0) {
		r.outcome = OUTCOME_UPSTREAM_BROKE;
		r.flags = RQF_PARTIAL | RQF_UNPRICED;
	}
	return r;
}

static void request_strings(unsigned i, char names[4][64], struct str s[RQ_STRINGS])
{
	memset(s, 0, RQ_STRINGS * sizeof(*s));
	snprintf(names[0], 64, "/box%u", i % 4);
	snprintf(names[1], 64, "tag:a%u,tag:all", i % 3);
	snprintf(names[2], 64, "model-%u", i % 5);
	snprintf(names[3], 64, "session %u", i);
	s[RQ_CGROUP] = str_of(names[0]);
	s[RQ_TAGS] = str_of(names[1]);
	s[RQ_MODEL] = str_of(names[2]);
	s[RQ_SESSION] = str_of(names[3]);
	s[RQ_PROVIDER] = STR("p");
	s[RQ_METHOD] = STR("POST");
}

static char record_bytes[REC_STRINGS_MAX + 1024] __attribute__((aligned(8)));

static struct journal_record packed(uint32_t type, void *fixed, size_t n, uint16_t *lens,
				    const struct str *s, unsigned n_strings)
{
	size_t len = record_pack(lens, s, n_strings, record_bytes + n, sizeof(record_bytes) - n);

	memcpy(record_bytes, fixed, n);
	return (struct journal_record){ type, (uint32_t)(n + len), record_bytes };
}

static struct journal_record request_record(uint64_t at_ns, unsigned i)
{
	struct rec_request r = request(at_ns, i);
	struct str s[RQ_STRINGS];
	char names[4][64];

	request_strings(i, names, s);
	return packed(REC_REQUEST, &r, sizeof(r), r.len, s, RQ_STRINGS);
}

static void add_request(uint64_t at_ns, unsigned i)
{
	struct journal_record rec = request_record(at_ns, i);

	CHECK_INT(ledger_add(ledger, &rec), 0);
}

/* Rows of an answer as an array of arrays; the caller frees. NULL: an error, in last_error. */
static char last_error[256];
static cJSON *columns;

static cJSON *ask(const char *query)
{
	cJSON *rows = cJSON_CreateArray();
	const char *line, *end;
	bool ended = false;
	struct buf out;

	buf_init(&out, 64u << 20);
	last_error[0] = '\0';
	cJSON_Delete(columns);
	columns = NULL;
	CHECK_INT(ledger_query(ledger, str_of(query), &out), 0);
	for (line = buf_head(&out); line < buf_head(&out) + buf_len(&out); line = end + 1) {
		cJSON *json;

		end = memchr(line, '\n', (size_t)(buf_head(&out) + buf_len(&out) - line));
		CHECK(end != NULL);
		if (!end)
			break;
		json = cJSON_ParseWithLength(line, (size_t)(end - line));
		CHECK(json != NULL);
		if (cJSON_IsArray(json)) {
			cJSON_AddItemToArray(rows, json);
			continue;
		}
		if (cJSON_GetObjectItem(json, "columns"))
			columns = cJSON_DetachItemFromObject(json, "columns");
		if (cJSON_GetObjectItem(json, "error"))
			str_copy(last_error, sizeof(last_error),
				 str_of(cJSON_GetStringValue(cJSON_GetObjectItem(json, "error"))));
		if (cJSON_GetObjectItem(json, "end")) {
			ended = true;
			CHECK_INT(cJSON_GetNumberValue(cJSON_GetObjectItem(json, "rows")),
				  cJSON_GetArraySize(rows));
		}
		cJSON_Delete(json);
	}
	CHECK(ended != (last_error[0] != '\0'));
	buf_fini(&out);
	return rows;
}

static cJSON *cell(const cJSON *row, const char *column)
{
	int i = 0;
	const cJSON *c;

	cJSON_ArrayForEach(c, columns)
	{
		if (!strcmp(cJSON_GetStringValue(c), column))
			return cJSON_GetArrayItem(row, i);
		i++;
	}
	CHECK(!"no such column");
	return NULL;
}

static long long sum(const cJSON *rows, const char *column)
{
	const cJSON *row;
	long long n = 0;

	cJSON_ArrayForEach(row, rows) n += (long long)cJSON_GetNumberValue(cell(row, column));
	return n;
}

static long long ask_sum(const char *query, const char *column)
{
	cJSON *rows = ask(query);
	long long n = sum(rows, column);

	cJSON_Delete(rows);
	return n;
}

static unsigned ask_rows(const char *query)
{
	cJSON *rows = ask(query);
	int n = cJSON_GetArraySize(rows);

	cJSON_Delete(rows);
	return (unsigned)n;
}

/* ------------------------------------------------------------------ tests */

static void fresh_file_is_migrated(void)
{
	sqlite3_stmt *st;

	setup();
	CHECK_INT(sqlite3_prepare_v2(ledger_db(ledger), "PRAGMA user_version", -1, &st, NULL),
		  SQLITE_OK);
	CHECK_INT(sqlite3_step(st), SQLITE_ROW);
	CHECK(sqlite3_column_int(st, 0) >= 1);
	sqlite3_finalize(st);
	CHECK_INT(ledger_position(ledger, "w0").segment, 0);
	/* Opened again it is what it was; of a later version it is refused. */
	CHECK_INT(ledger_begin(ledger), 0);
	add_request(T0_NS, 1);
	CHECK_INT(ledger_commit(ledger), 0);
	ledger_close(ledger);
	CHECK_INT(ledger_open(file_name, &ledger), 0);
	CHECK_INT(ask_rows("{\"op\":\"log\"}"), 1);
	CHECK_INT(sqlite3_exec(ledger_db(ledger), "PRAGMA user_version = 999", NULL, NULL, NULL),
		  SQLITE_OK);
	ledger_close(ledger);
	CHECK_INT(ledger_open(file_name, &ledger), -EPROTO);
	ledger = NULL;
	teardown();
}

struct expected {
	long long requests, denied, failed, input, output, cache_write, cost, calls, unpriced,
		partial;
};

static struct expected expect(uint64_t from_ns, uint64_t to_ns, uint64_t step_ns, unsigned n)
{
	struct expected e = { 0 };

	for (unsigned i = 0; i < n; i++) {
		struct rec_request r = request(T0_NS + i * step_ns, i);

		if (r.started_ns < from_ns || r.started_ns >= to_ns)
			continue;
		e.requests += r.count;
		e.denied += r.outcome == OUTCOME_DENIED_LIMIT ? r.count : 0;
		e.failed += r.outcome == OUTCOME_UPSTREAM_BROKE ? r.count : 0;
		e.input += MAX(r.input, (int64_t)0);
		e.output += MAX(r.output, (int64_t)0);
		e.cache_write += r.cache_write;
		e.cost += r.cost_nanousd;
		e.calls += r.n_tool_calls;
		e.unpriced += r.flags & RQF_UNPRICED ? 1 : 0;
		e.partial += r.flags & RQF_PARTIAL ? 1 : 0;
	}
	return e;
}

static void check_usage(const char *by, uint64_t from_ns, uint64_t to_ns, struct expected e)
{
	cJSON *rows;
	char query[200];

	snprintf(
		query, sizeof(query),
		"{\"op\":\"usage\",\"by\":\"%s\",\"since_ns\":\"%llu\",\"until_ns\":\"%llu\",\"limit\":1000}",
		by, (unsigned long long)from_ns, (unsigned long long)to_ns);
	rows = ask(query);
	CHECK_STR(last_error, "");
	CHECK_INT(sum(rows, "requests"), e.requests);
	CHECK_INT(sum(rows, "denied"), e.denied);
	CHECK_INT(sum(rows, "failed"), e.failed);
	CHECK_INT(sum(rows, "input"), e.input);
	CHECK_INT(sum(rows, "output"), e.output);
	CHECK_INT(sum(rows, "cache_write"), e.cache_write);
	CHECK_INT(sum(rows, "cost_nanousd"), e.cost);
	CHECK_INT(sum(rows, "tool_calls"), e.calls);
	CHECK_INT(sum(rows, "unpriced"), e.unpriced);
	CHECK_INT(sum(rows, "partial"), e.partial);
	cJSON_Delete(rows);
}

static const char *tags_of(const cJSON *rows, const char *key)
{
	const cJSON *row;

	cJSON_ArrayForEach(row, rows)
	{
		if (!strcmp(cJSON_GetStringValue(cell(row, "key")), key))
			return cJSON_GetStringValue(cell(row, "tags"));
	}
	return "no such row";
}

static void mixed_rows_have_no_tags(void)
{
	static const unsigned of_box1[] = { 1, 13 }, of_box2[] = { 2, 6 }; /* one set of tags; two */
	cJSON *rows;

	setup();
	CHECK_INT(ledger_begin(ledger), 0);
	for (unsigned i = 0; i < 2; i++) {
		add_request(T0_NS, of_box1[i]);
		add_request(T0_NS, of_box2[i]);
	}
	CHECK_INT(ledger_commit(ledger), 0);
	rows = ask("{\"op\":\"usage\",\"by\":\"cgroup\"}");
	CHECK_STR(tags_of(rows, "/box1"), "tag:a1,tag:all");
	CHECK_STR(tags_of(rows, "/box2"), "");
	cJSON_Delete(rows);
	rows = ask("{\"op\":\"usage\",\"by\":\"container\"}");
	CHECK_STR(tags_of(rows, ""), "");
	cJSON_Delete(rows);
	teardown();
}

/* A journal of many hours is read in groups; sums over any time are those of the requests in it. */
static void rollups_equal_their_requests(void)
{
	enum { N = 3000 };
	static const char *const by[] = { "cgroup",    "model", "provider", "client",
					  "container", "day",	"hour",	    "user" };
	const uint64_t step = 37 * NSEC_PER_SEC, end = T0_NS + N * step;
	struct journal_reader *reader;
	struct journal_record rec;
	struct journal *j;
	unsigned n = 0;

	setup();
	CHECK_INT(journal_open(dir, "w0", 64 << 20, &j), 0);
	for (unsigned i = 0; i < N; i++) {
		struct journal_record r = request_record(T0_NS + i * step, i);
		struct iovec iov = { record_bytes, r.len };

		CHECK_INT(journal_append(j, r.type, &iov, 1), 0);
	}
	CHECK_INT(journal_reader_open(dir, "w0", ledger_position(ledger, "w0"), &reader), 0);
	while (n < N) {
		CHECK_INT(ledger_begin(ledger), 0);
		for (unsigned k = 0; k < 700 && journal_read(reader, &rec) == 1; k++, n++)
			CHECK_INT(ledger_add(ledger, &rec), 0);
		CHECK_INT(ledger_set_position(ledger, "w0", journal_reader_position(reader)), 0);
		CHECK_INT(ledger_commit(ledger), 0);
	}
	CHECK_INT(ledger_position(ledger, "w0").offset, journal_reader_position(reader).offset);
	CHECK_INT(ledger_forget(ledger, "w0"), 0);
	CHECK_INT(ledger_position(ledger, "w0").segment, 0);
	for (size_t i = 0; i < ARRAY_SIZE(by); i++)
		check_usage(by[i], 0, INT64_MAX, expect(0, UINT64_MAX, step, N));
	/* Whole hours, a cut first one, a cut last one, both, and a part of one hour. */
	check_usage("model", T0_NS + HOUR_NS, T0_NS + 5 * HOUR_NS,
		    expect(T0_NS + HOUR_NS, T0_NS + 5 * HOUR_NS, step, N));
	check_usage("model", T0_NS + HOUR_NS + 5000, end,
		    expect(T0_NS + HOUR_NS + 5000, end, step, N));
	check_usage("model", T0_NS, T0_NS + HOUR_NS * 9 / 2,
		    expect(T0_NS, T0_NS + HOUR_NS * 9 / 2, step, N));
	check_usage("hour", T0_NS + HOUR_NS / 3, T0_NS + HOUR_NS * 7 / 2,
		    expect(T0_NS + HOUR_NS / 3, T0_NS + HOUR_NS * 7 / 2, step, N));
	check_usage("user", T0_NS + HOUR_NS / 3, T0_NS + HOUR_NS / 2,
		    expect(T0_NS + HOUR_NS / 3, T0_NS + HOUR_NS / 2, step, N));
	check_usage("user", T0_NS, T0_NS + HOUR_NS / 2,
		    expect(T0_NS, T0_NS + HOUR_NS / 2, step, N));
	CHECK_INT(ask_sum("{\"op\":\"usage\",\"by\":\"tag\",\"tag\":\"tag:all\"}", "requests"),
		  2 * expect(0, UINT64_MAX, step, N).requests);
	CHECK_INT(ask_sum("{\"op\":\"log\",\"limit\":100000}", "count"),
		  expect(0, UINT64_MAX, step, N).requests);
	journal_reader_close(reader);
	journal_close(j);
	teardown();
}

/* A worker that died between record and settlement sends it again; a ledger that died reads it
 * again. */
static void repeated_records_count_once(void)
{
	struct expected e = expect(0, UINT64_MAX, NSEC_PER_SEC, 50);

	setup();
	for (int again = 0; again < 3; again++) {
		CHECK_INT(ledger_begin(ledger), 0);
		for (unsigned i = 0; i < 50; i++)
			add_request(T0_NS + i * NSEC_PER_SEC, i);
		if (again)
			add_request(T0_NS + 3 * NSEC_PER_SEC, 3); /* twice in one transaction */
		CHECK_INT(ledger_commit(ledger), 0);
	}
	check_usage("cgroup", 0, INT64_MAX, e);
	CHECK_INT(ask_rows("{\"op\":\"log\",\"limit\":1000}"), 50);
	teardown();
}

/* What a transaction that failed had numbered must not be used by the next one. */
static void rollback_forgets_strings(void)
{
	cJSON *rows;

	setup();
	CHECK_INT(ledger_begin(ledger), 0);
	for (unsigned i = 0; i < 20; i++)
		add_request(T0_NS + i, i);
	ledger_rollback(ledger);
	CHECK_INT(ask_rows("{\"op\":\"log\"}"), 0);
	CHECK_INT(ask_rows("{\"op\":\"usage\"}"), 0);
	CHECK_INT(ledger_begin(ledger), 0);
	for (unsigned i = 20; i-- > 0;)
		add_request(T0_NS + i, i);
	CHECK_INT(ledger_commit(ledger), 0);
	rows = ask("{\"op\":\"log\",\"model\":\"model-3\"}");
	CHECK_INT(cJSON_GetArraySize(rows), 4);
	for (int i = 0; i < cJSON_GetArraySize(rows); i++) {
		const cJSON *row = cJSON_GetArrayItem(rows, i);
		CHECK_STR(cJSON_GetStringValue(cell(row, "model")), "model-3");
		CHECK_STR(cJSON_GetStringValue(cell(row, "method")), "POST");
		CHECK_STR(cJSON_GetStringValue(cell(row, "provider")), "p");
	}
	cJSON_Delete(rows);
	check_usage("model", 0, INT64_MAX, expect(0, UINT64_MAX, 1, 20));
	teardown();
}

static void put_call(uint64_t request_id, uint32_t index, const char *call_id, struct str name,
		     struct str arguments, uint64_t cgroup_id)
{
	struct rec_tool_call c = { .request_id = request_id,
				   .at_ns = T0_NS,
				   .cgroup_id = cgroup_id,
				   .index = index,
				   .meaning = 1,
				   .complete = 1,
				   .arguments_bytes = (uint32_t)arguments.n };
	struct str s[TC_STRINGS] = { [TC_CALL_ID] = str_of(call_id),
				     [TC_NAME] = name,
				     [TC_SUMMARY] = arguments,
				     [TC_ARGUMENTS] = arguments };
	struct journal_record rec = packed(REC_TOOL_CALL, &c, sizeof(c), c.len, s, TC_STRINGS);

	CHECK_INT(ledger_add(ledger, &rec), 0);
}

static void put_result_of(const char *call_id, const char *name, uint64_t cgroup_id, bool is_error)
{
	struct rec_tool_result t = { .request_id = 9,
				     .at_ns = T0_NS,
				     .cgroup_id = cgroup_id,
				     .bytes = 77,
				     .is_error = is_error };
	struct str s[TR_STRINGS] = { [TR_CALL_ID] = str_of(call_id), [TR_NAME] = str_of(name) };
	struct journal_record rec = packed(REC_TOOL_RESULT, &t, sizeof(t), t.len, s, TR_STRINGS);

	CHECK_INT(ledger_add(ledger, &rec), 0);
}

static void put_result(const char *call_id, uint64_t cgroup_id, bool is_error)
{
	put_result_of(call_id, "", cgroup_id, is_error);
}

/* Gemini has no ids: results are tied to the newest answer's open calls of that name, in order. */
static void results_by_name(void)
{
	uint64_t id = id_at(T0_NS, 1);
	cJSON *rows;
	char query[96];

	setup();
	CHECK_INT(ledger_begin(ledger), 0);
	add_request(T0_NS, 1);
	put_call(id, 0, "", STR("run_shell_command"), STR("one"), 5);
	put_call(id, 1, "", STR("run_shell_command"), STR("two"), 5);
	put_call(id, 2, "", STR("read_file"), STR("three"), 5);
	put_result_of("made-up-by-the-client", "run_shell_command", 6, true); /* of another sandbox */
	put_result_of("made-up-by-the-client", "run_shell_command", 5, false);
	put_result_of("", "run_shell_command", 5, true);
	CHECK_INT(ledger_commit(ledger), 0);
	snprintf(query, sizeof(query), "{\"op\":\"calls\",\"id\":\"%llu\"}", (unsigned long long)id);
	rows = ask(query);
	CHECK_INT(cJSON_GetArraySize(rows), 3);
	CHECK_INT(cJSON_GetNumberValue(cell(cJSON_GetArrayItem(rows, 0), "result_error")), 0);
	CHECK_INT(cJSON_GetNumberValue(cell(cJSON_GetArrayItem(rows, 1), "result_error")), 1);
	CHECK(cJSON_IsNull(cell(cJSON_GetArrayItem(rows, 2), "result_error")));
	cJSON_Delete(rows);
	teardown();
}

static void tool_calls_and_results(void)
{
	uint64_t id = id_at(T0_NS, 1);
	cJSON *rows;
	char query[96];

	setup();
	CHECK_INT(ledger_begin(ledger), 0);
	add_request(T0_NS, 1);
	put_call(id, 0, "call-a", STR("Bash"), STR("ls -l"), 5);
	put_call(id, 1, "call-b", STR("Bash"), STR("rm x"), 5);
	put_call(id, 1, "call-b", STR("Bash"), STR("rm x"), 5); /* again */
	put_result("call-a", 6, true); /* of another sandbox: not its business */
	put_result("call-b", 5, true);
	put_result("call-b", 5, false); /* the first one stands */
	CHECK_INT(ledger_commit(ledger), 0);
	snprintf(query, sizeof(query), "{\"op\":\"calls\",\"id\":\"%llu\"}",
		 (unsigned long long)id);
	rows = ask(query);
	CHECK_INT(cJSON_GetArraySize(rows), 2);
	CHECK(cJSON_IsNull(cell(cJSON_GetArrayItem(rows, 0), "result_error")));
	CHECK_INT(cJSON_GetNumberValue(cell(cJSON_GetArrayItem(rows, 1), "result_error")), 1);
	CHECK_STR(cJSON_GetStringValue(cell(cJSON_GetArrayItem(rows, 1), "summary")), "rm x");
	cJSON_Delete(rows);
	CHECK_INT(ask_rows("{\"op\":\"tools\",\"meaning\":\"shell\"}"), 2);
	CHECK_INT(ask_rows("{\"op\":\"tools\",\"meaning\":\"web\"}"), 0);
	CHECK_INT(ask_rows("{\"op\":\"tools\",\"cgroup\":\"/box1\"}"), 2);
	CHECK_INT(ask_rows("{\"op\":\"tools\",\"cgroup\":\"/box2\"}"), 0);
	teardown();
}

/* Whatever bytes clients and models send: an answer is valid JSON in valid UTF-8. */
static void odd_strings_come_back(void)
{
	static char longest[REC_STRING_MAX + 100];
	static const char odd[] = "a\0\"\\\n\xff\xc3(\xed\xa0\x80\xf0\x9f\x98\x80\xe2\x82";
	const unsigned char *p;
	struct buf out;

	setup();
	memset(longest, 'x', sizeof(longest));
	CHECK_INT(ledger_begin(ledger), 0);
	add_request(T0_NS, 1);
	put_call(id_at(T0_NS, 1), 0, "c", (struct str){ longest, sizeof(longest) },
		 (struct str){ odd, sizeof(odd) - 1 }, 1);
	CHECK_INT(ledger_commit(ledger), 0);
	CHECK_INT(ask_rows("{\"op\":\"tools\"}"), 1);
	buf_init(&out, 1 << 20);
	CHECK_INT(ledger_query(ledger, STR("{\"op\":\"tools\"}"), &out), 0);
	CHECK(str_find(buf_str(&out), STR("\xf0\x9f\x98\x80")) != NULL);
	CHECK(str_find(buf_str(&out), STR("\xef\xbf\xbd(")) != NULL);
	CHECK(!str_find(buf_str(&out), STR("\xff")) && !str_find(buf_str(&out), STR("\xed\xa0")));
	for (p = (const unsigned char *)buf_head(&out);
	     p < (unsigned char *)buf_head(&out) + buf_len(&out); p++)
		CHECK(*p >= 0x20 || *p == '\n');
	buf_fini(&out);
	teardown();
}

static void damaged_records_are_refused(void)
{
	struct journal_record rec = request_record(T0_NS, 1);
	struct rec_event event = { .at_ns = T0_NS, .count = 2 };
	struct str parts[EV_STRINGS] = {
		[EV_KIND] = STR("k"), [EV_TEXT] = STR("t"), [EV_TAGS] = STR("tag:a")
	};

	setup();
	CHECK_INT(ledger_begin(ledger), 0);
	for (uint32_t len = rec.len; len-- > 0;) {
		struct journal_record cut = { rec.type, len, rec.data };

		CHECK_INT(ledger_add(ledger, &cut), -EBADMSG);
	}
	rec.type = REC_TYPE_MAX;
	CHECK_INT(ledger_add(ledger, &rec), -EBADMSG);
	rec = packed(REC_EVENT, &event, sizeof(event), event.len, parts, EV_STRINGS);
	CHECK_INT(ledger_add(ledger, &rec), 0);
	CHECK_INT(ledger_commit(ledger), 0);
	CHECK_INT(ask_rows("{\"op\":\"log\"}"), 0);
	CHECK_INT(ask_rows("{\"op\":\"events\",\"tag\":\"tag:a\"}"), 1);
	CHECK_INT(ask_rows("{\"op\":\"events\",\"tag\":\"tag:\"}"), 0);
	CHECK_INT(ask_rows("{\"op\":\"events\",\"kind\":\"k\"}"), 1);
	CHECK_INT(ask_rows("{\"op\":\"events\",\"kind\":\"kk\"}"), 0);
	teardown();
}

static void queries_have_bounds(void)
{
	static const char *const wrong[] = {
		"",
		"[",
		"{}",
		"{\"op\":\"drop\"}",
		"{\"op\":\"usage\",\"by\":\"x'; DROP TABLE requests\"}",
		"{\"op\":\"usage\",\"by\":\"x' OR 1\"}",
		"{\"op\":\"log\",\"provider\":3}",
		"{\"op\":\"tools\",\"meaning\":\"evil\"}",
		"{\"op\":\"log\",\"outcome\":\"nothing\"}",
	};
	struct buf out;

	setup();
	CHECK_INT(ledger_begin(ledger), 0);
	for (unsigned i = 0; i < 300; i++)
		add_request(T0_NS + i, i);
	CHECK_INT(ledger_commit(ledger), 0);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		CHECK_INT(ask_rows(wrong[i]), 0);
		CHECK(last_error[0]);
	}
	CHECK_INT(ask_rows("{\"op\":\"log\"}"), 100);
	CHECK_INT(ask_rows("{\"op\":\"log\",\"limit\":7}"), 7);
	CHECK_INT(ask_rows("{\"op\":\"log\",\"limit\":-1}"), 300);
	CHECK_INT(ask_rows("{\"op\":\"log\",\"limit\":1000,\"outcome\":\"denied_limit\"}"), 43);
	CHECK_INT(ask_rows("{\"op\":\"log\",\"cgroup\":\"/box1' OR '1'='1\"}"), 0);
	CHECK_INT(
		ask_rows(
			"{\"op\":\"log\",\"since_ns\":\"-9223372036854775808\",\"until_ns\":\"9223372036854775807\",\"limit\":1}"),
		1);
	/* An answer that does not fit is an error of the call, not a cut answer. */
	buf_init(&out, 1000);
	CHECK_INT(ledger_query(ledger, STR("{\"op\":\"log\"}"), &out), -ENOBUFS);
	buf_fini(&out);
	teardown();
}

static void purge_takes_what_is_old(void)
{
	setup();
	CHECK_INT(ledger_begin(ledger), 0);
	for (unsigned i = 0; i < 100; i++) {
		add_request(T0_NS + i * NSEC_PER_SEC, i);
		put_call(id_at(T0_NS + i * NSEC_PER_SEC, i), 0, "c", STR("n"), STR("a"), 1);
	}
	CHECK_INT(ledger_commit(ledger), 0);
	CHECK_INT(ledger_purge(ledger, T0_NS + 50 * NSEC_PER_SEC, 20), 20);
	CHECK_INT(ledger_purge(ledger, T0_NS + 50 * NSEC_PER_SEC, 1000), 30);
	CHECK_INT(ledger_purge(ledger, T0_NS + 50 * NSEC_PER_SEC, 1000), 0);
	CHECK_INT(ask_rows("{\"op\":\"log\",\"limit\":1000}"), 50);
	CHECK_INT(ask_sum("{\"op\":\"stats\"}", "tool_calls"), 50);
	/* The sums of whole hours outlive the requests. */
	check_usage("cgroup", 0, INT64_MAX, expect(0, UINT64_MAX, NSEC_PER_SEC, 100));
	teardown();
}

TESTS(T(fresh_file_is_migrated), T(rollups_equal_their_requests), T(mixed_rows_have_no_tags),
      T(repeated_records_count_once),
      T(rollback_forgets_strings), T(tool_calls_and_results), T(results_by_name), T(odd_strings_come_back),
      T(damaged_records_are_refused), T(queries_have_bounds), T(purge_takes_what_is_old))
