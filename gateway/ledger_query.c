/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to the ledger. Values that come from outside are bound, never written into SQL; what is built
 * from text comes from the tables below. A query runs QUERY_STEPS virtual-machine steps at most.
 */
#include <errno.h>
#include <inttypes.h>

#include "common/base.h"
#include "common/json.h"
#include "common/outcome.h"
#include "common/wire.h"
#include "gateway/extract.h"
#include "gateway/ledger.h"
#include "gateway/tool_meaning.h"

/* Rationale: some seconds; the writer waits behind a query, and its journal grows meanwhile. */
#define QUERY_STEPS  400000000
#define ROWS_DEFAULT 100
#define ROWS_MAX     100000
/* The year 2100: what is computed from a time in SQL stays within 64 bits. */
#define TIME_MAX_NS  (4102444800LL * 1000000000LL)

struct query {
	int64_t since_ns, until_ns, limit, id;
	char op[16], by[16], cgroup[512], tag[512], meaning[16], outcome[24], model[512], provider[128], kind[32];
};

struct grouping {
	const char *by;
	const char *key;  /* SQL of the first column */
	const char *tags; /* SQL of the second */
	const char *join; /* more of FROM */
};

/* A row that mixes identities has none of their tags. */
#define TAGS_OF_ALL "CASE WHEN min(tg.text)=max(tg.text) THEN max(tg.text) ELSE '' END"

static const struct grouping groupings[] = {
	{ "cgroup", "cg.text", TAGS_OF_ALL, "" },
	{ "tag", "je.value", "je.value", ", json_each('[\"'||replace(tg.text,',','\",\"')||'\"]') je" },
	{ "model", "mo.text", "''", "" },
	{ "provider", "pr.text", "''", "" },
	{ "client", "cl.text", "''", "" },
	{ "container", "co.text", TAGS_OF_ALL, "" },
	{ "day", "date(h.hour*3600,'unixepoch')", "''", "" },
	{ "hour", "strftime('%Y-%m-%dT%H:00Z',h.hour*3600,'unixepoch')", "''", "" },
	{ "user", "CASE h.uid WHEN 4294967295 THEN 'unknown' ELSE h.uid END", "''", "" },
};

/*
 * (Part of a printf format.) Hours wholly inside the time asked for, and the requests of the cut ones: of the
 * first, and of the last when it is another one or the first is not cut. ?1 and ?2 are within TIME_MAX_NS.
 */
#define HOURS_FROM                                                                                                    \
	"(SELECT * FROM hours WHERE hour*3600000000000 >= ?1 AND (hour+1)*3600000000000 <= ?2 UNION ALL"              \
	" " CUT_HOUR                                                                                                   \
	" WHERE ?1 %% 3600000000000 AND id >= (?1/1000000)<<20 AND started_ns >= ?1 AND started_ns < ?2"               \
	" AND started_ns/3600000000000 = ?1/3600000000000 UNION ALL " CUT_HOUR                                         \
	" WHERE ?2 %% 3600000000000 AND id >= (?2/3600000000000*3600000)<<20 AND started_ns >= ?1 AND started_ns < ?2" \
	" AND started_ns/3600000000000 = ?2/3600000000000"                                                             \
	" AND (?1 %% 3600000000000 = 0 OR ?1/3600000000000 <> ?2/3600000000000)) h"
#define DENIED_FIRST "8"
#define DENIED_LAST  "15"
#define CUT_HOUR                                                                                                      \
	"SELECT started_ns/3600000000000, cgroup, tags, container, provider, model, client, uid, count,"              \
	" CASE WHEN outcome BETWEEN " DENIED_FIRST " AND " DENIED_LAST " THEN count ELSE 0 END,"                      \
	" CASE WHEN outcome BETWEEN " DENIED_FIRST " AND " DENIED_LAST " OR outcome IN (1,3) THEN 0 ELSE count END,"  \
	" max(input,0), max(cache_read,0), max(cache_write,0), max(output,0), max(reasoning,0), cost_nanousd,"        \
	" tool_calls, (flags&8)/8, (flags&2)/2, started_ns FROM requests"
_Static_assert(OUTCOME_DENIED_UNSTAMPED == 8 && OUTCOME_DENIED_LIMIT == 15 && OUTCOME_OK == 1 && OUTCOME_CLIENT_GONE == 3, "numbers in SQL");

/* ------------------------------------------------------------------ output */

/* Bytes of one UTF-8 character at the front (RFC 3629), or 0. */
static size_t utf8_bytes(struct str s)
{
	const unsigned char *p = (const unsigned char *)s.s;
	size_t n = *p < 0x80 ? 1 : *p < 0xc2 ? 0 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf5 ? 4 : 0;

	if (n > s.n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
	    (*p == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

/* Clients may send any bytes, and a cut may fall into a character; JSON is UTF-8 all the same. */
static int put_text(struct buf *out, struct str s)
{
	int err = buf_puts(out, STR("\""));

	while (s.n && !err) {
		size_t good = 0, n;

		while (good < s.n && (n = utf8_bytes(str_skip(s, good))))
			good += n;
		err = buf_json_escape(out, (struct str){ s.s, good });
		if (!err && good < s.n)
			err = buf_puts(out, STR("\xef\xbf\xbd"));
		s = str_skip(s, good + 1);
	}
	return err ? err : buf_puts(out, STR("\""));
}

static int put_value(sqlite3_stmt *st, int i, struct buf *out)
{
	switch (sqlite3_column_type(st, i)) {
	case SQLITE_INTEGER:
		return buf_printf(out, "%" PRId64, (int64_t)sqlite3_column_int64(st, i));
	case SQLITE_NULL:
		return buf_puts(out, STR("null"));
	default:
		return put_text(out, (struct str){ (const char *)sqlite3_column_text(st, i),
						   (size_t)sqlite3_column_bytes(st, i) });
	}
}

static int put_columns(sqlite3_stmt *st, struct buf *out)
{
	int err = buf_puts(out, STR("{\"columns\":["));

	for (int i = 0; i < sqlite3_column_count(st) && !err; i++)
		err = buf_printf(out, "%s\"%s\"", i ? "," : "", sqlite3_column_name(st, i));
	return err ? err : buf_puts(out, STR("]}\n"));
}

static int put_error(struct buf *out, const char *text)
{
	int err = buf_puts(out, STR("{\"error\":"));

	if (!err)
		err = buf_json_string(out, str_of(text));
	return err ? err : buf_puts(out, STR("}\n"));
}

static int on_steps(void *arg)
{
	int *left = arg;

	return --*left < 0;
}

/* Runs a prepared and bound statement; frees it. */
static int run(struct ledger *l, sqlite3_stmt *st, struct buf *out)
{
	int err, rc, rows = 0, left = QUERY_STEPS / 100000;

	sqlite3_progress_handler(ledger_db(l), 100000, on_steps, &left);
	err = put_columns(st, out);
	while (!err && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		err = buf_puts(out, STR("["));
		for (int i = 0; i < sqlite3_column_count(st) && !err; i++) {
			if (i)
				err = buf_puts(out, STR(","));
			if (!err)
				err = put_value(st, i, out);
		}
		if (!err)
			err = buf_puts(out, STR("]\n"));
		rows++;
	}
	sqlite3_progress_handler(ledger_db(l), 0, NULL, NULL);
	if (!err && rc != SQLITE_DONE)
		err = put_error(out, rc == SQLITE_INTERRUPT ? "the query takes too long; ask for a shorter time with --since" :
							      sqlite3_errmsg(ledger_db(l)));
	else if (!err)
		err = buf_printf(out, "{\"end\":true,\"rows\":%d}\n", rows);
	sqlite3_finalize(st);
	return err;
}

/* ------------------------------------------------------------------ queries */

static sqlite3_stmt *prepare(struct ledger *l, const char *sql, const struct query *q)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(ledger_db(l), sql, -1, &st, NULL) != SQLITE_OK)
		return NULL;
	/* ?1 since, ?2 until, ?3 cgroup, ?4 tag, ?5 meaning, ?6 outcome, ?7 model, ?8 limit, ?9 id, ?10 provider, ?11 kind */
	sqlite3_bind_int64(st, 1, q->since_ns);
	sqlite3_bind_int64(st, 2, q->until_ns);
	sqlite3_bind_text(st, 3, q->cgroup, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 4, q->tag, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 5, q->meaning, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 6, q->outcome, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 7, q->model, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 8, q->limit);
	sqlite3_bind_int64(st, 9, q->id);
	sqlite3_bind_text(st, 10, q->provider, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 11, q->kind, -1, SQLITE_STATIC);
	return st;
}

static int query_usage(struct ledger *l, const struct query *q, struct buf *out)
{
	const struct grouping *g = NULL;
	sqlite3_stmt *st;
	char sql[4096];

	for (size_t i = 0; i < ARRAY_SIZE(groupings); i++)
		if (!strcmp(groupings[i].by, q->by))
			g = &groupings[i];
	if (!g)
		return put_error(out, "--by is one of cgroup, tag, model, provider, client, container, day, hour, user");
	snprintf(sql, sizeof(sql),
		 "SELECT %s AS key, %s AS tags, sum(h.requests) AS requests, sum(h.input) AS input,"
		 " sum(h.output) AS output, sum(h.cache_read) AS cache_read, sum(h.cache_write) AS cache_write,"
		 " sum(h.reasoning) AS reasoning, sum(h.cost_nanousd) AS cost_nanousd, sum(h.tool_calls) AS tool_calls,"
		 " sum(h.denied) AS denied, sum(h.failed) AS failed, sum(h.unpriced) AS unpriced,"
		 " sum(h.partial) AS partial, max(h.last_ns) AS last_ns FROM " HOURS_FROM
		 " JOIN strings cg ON cg.id=h.cgroup JOIN strings tg ON tg.id=h.tags"
		 " JOIN strings mo ON mo.id=h.model JOIN strings pr ON pr.id=h.provider"
		 " JOIN strings cl ON cl.id=h.client JOIN strings co ON co.id=h.container %s"
		 " WHERE (?3='' OR cg.text=?3) AND (?4='' OR instr(','||tg.text||',', ','||?4||',')>0)"
		 " GROUP BY 1 ORDER BY %s LIMIT ?8",
		 g->key, g->tags, g->join,
		 !strcmp(q->by, "day") || !strcmp(q->by, "hour") ? "1" : "sum(h.cost_nanousd) DESC, sum(h.requests) DESC, 1");
	st = prepare(l, sql, q);
	return st ? run(l, st, out) : put_error(out, sqlite3_errmsg(ledger_db(l)));
}

static int query_tools(struct ledger *l, const struct query *q, struct buf *out)
{
	static const char sql[] =
		"SELECT c.at_ns AS at_ns, cg.text AS cgroup, tg.text AS tags, nm.text AS name, c.kind AS kind,"
		" c.meaning AS meaning, sv.text AS server, c.summary AS summary, c.result_error AS result_error,"
		" c.result_bytes AS result_bytes, c.complete AS complete, c.request_id AS request_id,"
		" c.arguments AS arguments, c.call_id AS call_id, r.session AS session"
		" FROM tool_calls c JOIN requests r ON r.id=c.request_id JOIN strings cg ON cg.id=r.cgroup"
		" JOIN strings tg ON tg.id=r.tags JOIN strings nm ON nm.id=c.name JOIN strings sv ON sv.id=c.server"
		" WHERE c.request_id >= (?1/1000000)<<20 AND c.at_ns >= ?1 AND c.at_ns < ?2"
		" AND (?3='' OR cg.text=?3) AND (?4='' OR instr(','||tg.text||',', ','||?4||',')>0)"
		" AND (?5='' OR c.meaning=CAST(?5 AS INTEGER))"
		" ORDER BY c.request_id DESC, c.idx DESC LIMIT ?8";
	sqlite3_stmt *st = prepare(l, sql, q);

	return st ? run(l, st, out) : put_error(out, sqlite3_errmsg(ledger_db(l)));
}

#define REQUEST_COLUMNS                                                                                                \
	"r.id AS id, r.started_ns AS started_ns, r.duration_us AS duration_us, r.first_byte_us AS first_byte_us,"      \
	" cg.text AS cgroup, tg.text AS tags, co.text AS container, pr.text AS provider, mo.text AS model,"            \
	" am.text AS answer_model, cl.text AS client, r.session AS session, me.text AS method, pa.text AS path,"       \
	" r.format AS format, r.outcome AS outcome, r.http_status AS http_status, r.flags AS flags, r.count AS count," \
	" r.input AS input, r.output AS output, r.cache_read AS cache_read, r.cache_write AS cache_write,"             \
	" r.reasoning AS reasoning, r.cost_nanousd AS cost_nanousd, r.tool_calls AS tool_calls,"                       \
	" r.request_bytes AS request_bytes, r.answer_bytes AS answer_bytes, sp.text AS stop, r.error AS error,"        \
	" ru.text AS rule, cm.text AS comm, r.pid AS pid, r.uid AS uid"
#define REQUEST_JOINS                                                                                                  \
	" FROM requests r JOIN strings cg ON cg.id=r.cgroup JOIN strings tg ON tg.id=r.tags"                           \
	" JOIN strings co ON co.id=r.container JOIN strings pr ON pr.id=r.provider JOIN strings mo ON mo.id=r.model"   \
	" JOIN strings am ON am.id=r.answer_model JOIN strings cl ON cl.id=r.client JOIN strings me ON me.id=r.method" \
	" JOIN strings pa ON pa.id=r.path JOIN strings sp ON sp.id=r.stop JOIN strings ru ON ru.id=r.rule"             \
	" JOIN strings cm ON cm.id=r.comm"

static int query_log(struct ledger *l, const struct query *q, struct buf *out)
{
	static const char sql[] = "SELECT " REQUEST_COLUMNS REQUEST_JOINS
				  " WHERE r.id >= (?1/1000000)<<20 AND r.started_ns >= ?1 AND r.started_ns < ?2"
				  " AND (?3='' OR cg.text=?3) AND (?4='' OR instr(','||tg.text||',', ','||?4||',')>0)"
				  " AND (?6='' OR r.outcome=CAST(?6 AS INTEGER)) AND (?7='' OR mo.text=?7)"
				  " AND (?10='' OR pr.text=?10)"
				  " ORDER BY r.id DESC LIMIT ?8";
	sqlite3_stmt *st = prepare(l, sql, q);

	return st ? run(l, st, out) : put_error(out, sqlite3_errmsg(ledger_db(l)));
}

static int query_show(struct ledger *l, const struct query *q, struct buf *out)
{
	static const char sql[] = "SELECT " REQUEST_COLUMNS REQUEST_JOINS " WHERE r.id = ?9";
	sqlite3_stmt *st = prepare(l, sql, q);

	return st ? run(l, st, out) : put_error(out, sqlite3_errmsg(ledger_db(l)));
}

static int query_calls(struct ledger *l, const struct query *q, struct buf *out)
{
	static const char sql[] = "SELECT c.idx AS idx, nm.text AS name, c.kind AS kind, c.meaning AS meaning,"
				  " c.summary AS summary, c.arguments AS arguments, c.call_id AS call_id, c.complete AS complete,"
				  " c.result_error AS result_error, c.result_bytes AS result_bytes"
				  " FROM tool_calls c JOIN strings nm ON nm.id=c.name WHERE c.request_id = ?9 ORDER BY c.idx";
	sqlite3_stmt *st = prepare(l, sql, q);

	return st ? run(l, st, out) : put_error(out, sqlite3_errmsg(ledger_db(l)));
}

static int query_events(struct ledger *l, const struct query *q, struct buf *out)
{
	static const char sql[] = "SELECT at_ns, kind, text, cgroup, tags, comm, pid, uid, count, level FROM events"
				  " WHERE at_ns >= ?1 AND at_ns < ?2 AND (?3='' OR cgroup=?3)"
				  " AND (?4='' OR instr(','||tags||',', ','||?4||',')>0) AND (?11='' OR kind=?11)"
				  " ORDER BY id DESC LIMIT ?8";
	sqlite3_stmt *st = prepare(l, sql, q);

	return st ? run(l, st, out) : put_error(out, sqlite3_errmsg(ledger_db(l)));
}

static int query_stats(struct ledger *l, const struct query *q, struct buf *out)
{
	static const char sql[] = "SELECT (SELECT count(*) FROM requests) AS requests, (SELECT count(*) FROM tool_calls) AS"
				  " tool_calls, (SELECT count(*) FROM events) AS events,"
				  " (SELECT max(started_ns) FROM requests WHERE id=(SELECT max(id) FROM requests)) AS last_ns";
	sqlite3_stmt *st = prepare(l, sql, q);

	return st ? run(l, st, out) : put_error(out, sqlite3_errmsg(ledger_db(l)));
}

static const struct {
	const char *op;
	int (*fn)(struct ledger *l, const struct query *q, struct buf *out);
} ops[] = {
	{ "usage", query_usage }, { "tools", query_tools }, { "log", query_log },     { "show", query_show },
	{ "calls", query_calls }, { "events", query_events }, { "stats", query_stats },
};

/* A word of an enum becomes its number as text; false when there is no such word. */
static bool word_to_number(char *word, size_t size, unsigned max, const char *(*name)(unsigned))
{
	if (!word[0])
		return true;
	for (unsigned i = 0; i < max; i++) {
		if (strcmp(word, name(i)))
			continue;
		snprintf(word, size, "%u", i);
		return true;
	}
	return false;
}

static const char *meaning_word(unsigned i)
{
	return tool_meaning_name((enum tool_meaning)i);
}

static const char *outcome_word(unsigned i)
{
	return outcome_name((enum outcome)i);
}

/* False when one is there that cannot be taken: without its filter the answer would be another one. */
static bool read_words(const cJSON *json, struct query *q)
{
	const struct {
		const char *name;
		char *to;
		size_t size;
	} words[] = {
		{ "op", q->op, sizeof(q->op) },		     { "by", q->by, sizeof(q->by) },
		{ "cgroup", q->cgroup, sizeof(q->cgroup) },  { "tag", q->tag, sizeof(q->tag) },
		{ "meaning", q->meaning, sizeof(q->meaning) }, { "outcome", q->outcome, sizeof(q->outcome) },
		{ "model", q->model, sizeof(q->model) },     { "provider", q->provider, sizeof(q->provider) },
		{ "kind", q->kind, sizeof(q->kind) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!json_string(json, words[i].name, words[i].to, words[i].size) &&
		    cJSON_HasObjectItem(json, words[i].name) && !cJSON_IsNull(cJSON_GetObjectItem(json, words[i].name)))
			return false;
	return true;
}

int ledger_query(struct ledger *l, struct str request, struct buf *out)
{
	struct query q = { .until_ns = INT64_MAX, .limit = ROWS_DEFAULT, .by = "cgroup" };
	bool fits;
	cJSON *json = json_parse(request);
	int err = -ENOENT;

	if (!json)
		return put_error(out, "the query is not a JSON object");
	fits = read_words(json, &q);
	json_int(json, "since_ns", &q.since_ns);
	json_int(json, "until_ns", &q.until_ns);
	json_int(json, "limit", &q.limit);
	json_int(json, "id", &q.id);
	cJSON_Delete(json);
	if (!fits)
		return put_error(out, "a word of the query is too long, or is no text");
	q.since_ns = MIN(MAX(q.since_ns, (int64_t)0), (int64_t)TIME_MAX_NS);
	q.until_ns = MIN(MAX(q.until_ns, (int64_t)0), (int64_t)TIME_MAX_NS);
	q.limit = q.limit < 1 || q.limit > ROWS_MAX ? ROWS_MAX : q.limit;
	if (!word_to_number(q.meaning, sizeof(q.meaning), MEANING_MAX, meaning_word))
		return put_error(out, "the kind of a tool call is one of shell, file, search, web, mcp, other");
	if (!word_to_number(q.outcome, sizeof(q.outcome), OUTCOME_MAX, outcome_word))
		return put_error(out, "there is no such outcome; see sallyport-log(1)");
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		if (!strcmp(ops[i].op, q.op))
			err = ops[i].fn(l, &q, out);
	return err == -ENOENT ? put_error(out, "there is no such query; are both programs of one version?") : err;
}
