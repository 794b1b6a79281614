/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/ledger.h"

#include <errno.h>
#include <stdio.h>

#include "common/base.h"
#include "common/log.h"
#include "common/outcome.h"
#include "common/wire.h"

/* Each entry brings the schema from its index to the next version; never edit one that was released. */
static const char *const migrations[] = {
	"CREATE TABLE strings(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);"
	"CREATE TABLE requests(id INTEGER PRIMARY KEY, started_ns INTEGER, duration_us INTEGER,"
	" first_byte_us INTEGER, cgroup_id INTEGER, label_id INTEGER, pid INTEGER, uid INTEGER,"
	" count INTEGER, http_status INTEGER, format INTEGER, outcome INTEGER, flags INTEGER,"
	" tool_calls INTEGER, input INTEGER, cache_read INTEGER, cache_write INTEGER,"
	" cache_write_1h INTEGER, output INTEGER, reasoning INTEGER, web_searches INTEGER,"
	" cost_nanousd INTEGER, request_bytes INTEGER, answer_bytes INTEGER,"
	" cgroup INTEGER, tags INTEGER, container INTEGER, provider INTEGER, model INTEGER,"
	" answer_model INTEGER, client INTEGER, session TEXT, method INTEGER, path INTEGER,"
	" stop INTEGER, error TEXT, rule INTEGER, comm INTEGER);"
	"CREATE TABLE tool_calls(request_id INTEGER, idx INTEGER, at_ns INTEGER, cgroup_id INTEGER,"
	" kind INTEGER, meaning INTEGER, complete INTEGER, arguments_bytes INTEGER, call_id TEXT,"
	" name INTEGER, server INTEGER, summary TEXT, arguments TEXT, result_error INTEGER,"
	" result_bytes INTEGER, result_request INTEGER, PRIMARY KEY(request_id, idx)) WITHOUT ROWID;"
	"CREATE INDEX tool_calls_open ON tool_calls(call_id) WHERE result_error IS NULL;"
	"CREATE TABLE events(id INTEGER PRIMARY KEY, at_ns INTEGER, cgroup_id INTEGER, pid INTEGER,"
	" uid INTEGER, count INTEGER, level INTEGER, kind TEXT, text TEXT, cgroup TEXT, tags TEXT, comm TEXT);"
	"CREATE TABLE hours(hour INTEGER, cgroup INTEGER, tags INTEGER, container INTEGER, provider INTEGER,"
	" model INTEGER, client INTEGER, uid INTEGER, requests INTEGER, denied INTEGER, failed INTEGER,"
	" input INTEGER, cache_read INTEGER, cache_write INTEGER, output INTEGER, reasoning INTEGER,"
	" cost_nanousd INTEGER, tool_calls INTEGER, unpriced INTEGER, partial INTEGER, last_ns INTEGER,"
	" PRIMARY KEY(hour, cgroup, tags, container, provider, model, client, uid)) WITHOUT ROWID;"
	"CREATE TABLE journals(name TEXT PRIMARY KEY, segment INTEGER, offset INTEGER) WITHOUT ROWID;",
};

enum statement {
	ST_STRING,
	ST_STRING_ID,
	ST_REQUEST,
	ST_CALL,
	ST_RESULT,
	ST_RESULT_BY_NAME,
	ST_EVENT,
	ST_HOUR,
	ST_POSITION,
	ST_FORGET,
	ST_MAX
};

static const char *const statements[ST_MAX] = {
	[ST_STRING] = "INSERT OR IGNORE INTO strings(text) VALUES(?1)",
	[ST_STRING_ID] = "SELECT id FROM strings WHERE text = ?1",
	[ST_REQUEST] = "INSERT OR IGNORE INTO requests VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,"
		       "?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29,?30,?31,?32,?33,?34,?35,?36,?37,?38)",
	[ST_CALL] = "INSERT OR IGNORE INTO tool_calls VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,NULL,NULL,NULL)",
	[ST_RESULT] = "UPDATE tool_calls SET result_error = ?3, result_bytes = ?4, result_request = ?5"
		      " WHERE call_id = ?1 AND result_error IS NULL AND cgroup_id = ?2",
	/* Formats without call ids: the first open call of that name in the newest answer that has one. */
	[ST_RESULT_BY_NAME] = "UPDATE tool_calls SET result_error = ?3, result_bytes = ?4, result_request = ?5"
			      " WHERE (request_id, idx) = (SELECT request_id, idx FROM tool_calls"
			      " WHERE call_id = '' AND result_error IS NULL AND cgroup_id = ?2"
			      " AND name = (SELECT id FROM strings WHERE text = ?1)"
			      " ORDER BY request_id DESC, idx LIMIT 1)",
	[ST_EVENT] = "INSERT INTO events(at_ns,cgroup_id,pid,uid,count,level,kind,text,cgroup,tags,comm)"
		     " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11)",
	[ST_HOUR] = "INSERT INTO hours VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21)"
		    " ON CONFLICT DO UPDATE SET requests=requests+excluded.requests, denied=denied+excluded.denied,"
		    " failed=failed+excluded.failed, input=input+excluded.input, cache_read=cache_read+excluded.cache_read,"
		    " cache_write=cache_write+excluded.cache_write, output=output+excluded.output,"
		    " reasoning=reasoning+excluded.reasoning, cost_nanousd=cost_nanousd+excluded.cost_nanousd,"
		    " tool_calls=tool_calls+excluded.tool_calls, unpriced=unpriced+excluded.unpriced,"
		    " partial=partial+excluded.partial, last_ns=max(last_ns,excluded.last_ns)",
	[ST_POSITION] = "INSERT OR REPLACE INTO journals VALUES(?1,?2,?3)",
	[ST_FORGET] = "DELETE FROM journals WHERE name = ?1",
};

/* Strings already in the database: direct-mapped, a miss asks SQLite. */
#define STRINGS_CACHED 1024
struct cached_string {
	int64_t id; /* 0: free */
	uint32_t len;
	char text[116];
};

/* Sums of one transaction for one row of `hours`. */
#define HOURS_OPEN 256
struct hour {
	int64_t key[8]; /* the primary key; key[0] 0: free */
	int64_t sum[12];
	int64_t last_ns;
};

struct ledger {
	sqlite3 *db;
	sqlite3_stmt *st[ST_MAX];
	struct cached_string strings[STRINGS_CACHED];
	struct hour hours[HOURS_OPEN];
};

sqlite3 *ledger_db(struct ledger *l)
{
	return l->db;
}

static int ledger_error(struct ledger *l, const char *doing)
{
	log_limited(LOG_ERR, "the ledger failed doing=\"%s\" why=\"%s\"", doing, sqlite3_errmsg(l->db));
	return -EIO;
}

static int ledger_exec(struct ledger *l, const char *sql)
{
	return sqlite3_exec(l->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : ledger_error(l, sql);
}

static int schema_version(struct ledger *l)
{
	sqlite3_stmt *st;
	int version = -1;

	if (sqlite3_prepare_v2(l->db, "PRAGMA user_version", -1, &st, NULL) != SQLITE_OK)
		return -1;
	if (sqlite3_step(st) == SQLITE_ROW)
		version = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return version;
}

static int ledger_migrate(struct ledger *l)
{
	int version = schema_version(l), err = 0;

	if (version < 0)
		return ledger_error(l, "reading the schema's version");
	if (version > (int)ARRAY_SIZE(migrations)) {
		log_err("the ledger was written by a newer version of Sallyport; upgrade this one");
		return -EPROTO;
	}
	for (; version < (int)ARRAY_SIZE(migrations) && !err; version++) {
		char done[64];

		snprintf(done, sizeof(done), "PRAGMA user_version = %d", version + 1);
		err = ledger_exec(l, "BEGIN IMMEDIATE");
		if (!err)
			err = ledger_exec(l, migrations[version]);
		if (!err)
			err = ledger_exec(l, done);
		if (!err)
			err = ledger_exec(l, "COMMIT");
		if (err)
			sqlite3_exec(l->db, "ROLLBACK", NULL, NULL, NULL);
	}
	return err;
}

int ledger_open(const char *file, struct ledger **ret)
{
	struct ledger *l = calloc(1, sizeof(*l));
	int err = 0;

	if (!l)
		return -ENOMEM;
	if (sqlite3_open_v2(file, &l->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
		err = ledger_error(l, "opening the database");
	if (!err)
		err = ledger_exec(l, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY;"
				     "PRAGMA cache_size=-16384; PRAGMA wal_autocheckpoint=4000");
	if (!err)
		err = ledger_migrate(l);
	for (unsigned i = 0; i < ST_MAX && !err; i++)
		if (sqlite3_prepare_v3(l->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &l->st[i], NULL) != SQLITE_OK)
			err = ledger_error(l, "preparing a statement");
	if (err) {
		ledger_close(l);
		return err;
	}
	*ret = l;
	return 0;
}

void ledger_close(struct ledger *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < ST_MAX; i++)
		sqlite3_finalize(l->st[i]);
	sqlite3_close(l->db);
	free(l);
}

static int step(struct ledger *l, enum statement which)
{
	int rc = sqlite3_step(l->st[which]);

	sqlite3_reset(l->st[which]);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : ledger_error(l, statements[which]);
}

static void bind_text(sqlite3_stmt *st, int i, struct str s)
{
	sqlite3_bind_text(st, i, s.n ? s.s : "", (int)s.n, SQLITE_STATIC);
}

/* The number of a string, stored when it is new; 0 on failure. */
static int64_t string_id(struct ledger *l, struct str s)
{
	uint32_t hash = 2166136261u;
	struct cached_string *c;
	int64_t id = 0;

	for (size_t i = 0; i < s.n; i++)
		hash = (hash ^ (unsigned char)s.s[i]) * 16777619u;
	c = &l->strings[hash % STRINGS_CACHED];
	if (c->id && c->len == s.n && (!s.n || !memcmp(c->text, s.s, s.n)))
		return c->id;
	bind_text(l->st[ST_STRING], 1, s);
	if (step(l, ST_STRING) < 0)
		return 0;
	bind_text(l->st[ST_STRING_ID], 1, s);
	if (sqlite3_step(l->st[ST_STRING_ID]) == SQLITE_ROW)
		id = sqlite3_column_int64(l->st[ST_STRING_ID], 0);
	sqlite3_reset(l->st[ST_STRING_ID]);
	if (id && s.n <= sizeof(c->text)) {
		c->id = id;
		c->len = (uint32_t)s.n;
		if (s.n)
			memcpy(c->text, s.s, s.n);
	}
	return id;
}

/* ------------------------------------------------------------------ roll-ups */

static int hour_flush(struct ledger *l, struct hour *h)
{
	sqlite3_stmt *st = l->st[ST_HOUR];

	for (int i = 0; i < 8; i++)
		sqlite3_bind_int64(st, i + 1, h->key[i]);
	for (int i = 0; i < 12; i++)
		sqlite3_bind_int64(st, i + 9, h->sum[i]);
	sqlite3_bind_int64(st, 21, h->last_ns);
	*h = (struct hour){ 0 };
	return step(l, ST_HOUR);
}

static int64_t reported(int64_t tokens)
{
	return tokens > 0 ? tokens : 0;
}

static int hour_add(struct ledger *l, const struct rec_request *r, const int64_t ids[RQ_STRINGS])
{
	int64_t key[8] = { (int64_t)(r->started_ns / (3600 * NSEC_PER_SEC)), ids[RQ_CGROUP], ids[RQ_TAGS], ids[RQ_CONTAINER],
			   ids[RQ_PROVIDER], ids[RQ_MODEL], ids[RQ_CLIENT], r->uid };
	bool denied = r->outcome >= OUTCOME_DENIED_UNSTAMPED && r->outcome <= OUTCOME_DENIED_LIMIT;
	bool failed = !denied && r->outcome != OUTCOME_OK && r->outcome != OUTCOME_CLIENT_GONE;
	int64_t count = r->count ? r->count : 1;
	int64_t sum[12] = { count, denied ? count : 0, failed ? count : 0, reported(r->input), reported(r->cache_read),
			    reported(r->cache_write), reported(r->output), reported(r->reasoning), r->cost_nanousd,
			    r->n_tool_calls, r->flags & RQF_UNPRICED ? 1 : 0, r->flags & RQF_PARTIAL ? 1 : 0 };
	uint64_t hash = 14695981039346656037ULL;
	struct hour *h;
	int err = 0;

	for (int i = 0; i < 8; i++)
		hash = (hash ^ (uint64_t)key[i]) * 0x9e3779b97f4a7c15ULL;
	h = &l->hours[hash >> 32 & (HOURS_OPEN - 1)];
	if (h->key[0] && memcmp(h->key, key, sizeof(key)))
		err = hour_flush(l, h);
	memcpy(h->key, key, sizeof(key));
	for (int i = 0; i < 12; i++)
		h->sum[i] += sum[i];
	h->last_ns = MAX(h->last_ns, (int64_t)r->started_ns);
	return err;
}

/* ------------------------------------------------------------------ records */

static int add_request(struct ledger *l, const struct rec_request *r, const struct str *s)
{
	sqlite3_stmt *st = l->st[ST_REQUEST];
	const int64_t numbers[] = { (int64_t)r->id, (int64_t)r->started_ns, (int64_t)r->duration_us, (int64_t)r->first_byte_us,
				    (int64_t)r->cgroup_id, r->label_id, r->pid, r->uid, r->count, r->http_status, r->format,
				    r->outcome, r->flags, r->n_tool_calls, r->input, r->cache_read, r->cache_write,
				    r->cache_write_1h, r->output, r->reasoning, r->web_searches, r->cost_nanousd,
				    (int64_t)r->request_bytes, (int64_t)r->answer_bytes };
	int64_t ids[RQ_STRINGS] = { 0 };
	int at = 1;

	for (unsigned i = 0; i < RQ_STRINGS; i++) {
		if (i == RQ_SESSION || i == RQ_ERROR)
			continue; /* these hardly repeat */
		ids[i] = string_id(l, s[i]);
		if (!ids[i])
			return -EIO;
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		sqlite3_bind_int64(st, at++, numbers[i]);
	for (unsigned i = 0; i < RQ_STRINGS; i++) {
		if (i == RQ_SESSION || i == RQ_ERROR)
			bind_text(st, at++, s[i]);
		else
			sqlite3_bind_int64(st, at++, ids[i]);
	}
	if (step(l, ST_REQUEST) < 0)
		return -EIO;
	/* A worker that died between record and settlement sends it again: count it once. */
	return sqlite3_changes(l->db) ? hour_add(l, r, ids) : 0;
}

static int add_call(struct ledger *l, const struct rec_tool_call *c, const struct str *s)
{
	sqlite3_stmt *st = l->st[ST_CALL];
	const int64_t numbers[] = { (int64_t)c->request_id, c->index, (int64_t)c->at_ns, (int64_t)c->cgroup_id,
				    c->kind, c->meaning, c->complete, c->arguments_bytes };
	int64_t name = string_id(l, s[TC_NAME]), server = string_id(l, s[TC_SERVER]);
	int at = 1;

	if (!name || !server)
		return -EIO;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		sqlite3_bind_int64(st, at++, numbers[i]);
	bind_text(st, at++, s[TC_CALL_ID]);
	sqlite3_bind_int64(st, at++, name);
	sqlite3_bind_int64(st, at++, server);
	bind_text(st, at++, s[TC_SUMMARY]);
	bind_text(st, at++, s[TC_ARGUMENTS]);
	return step(l, ST_CALL);
}

static int result_to(struct ledger *l, enum statement which, const struct rec_tool_result *t, struct str key)
{
	sqlite3_stmt *st = l->st[which];

	bind_text(st, 1, key);
	sqlite3_bind_int64(st, 2, (int64_t)t->cgroup_id);
	sqlite3_bind_int64(st, 3, t->is_error);
	sqlite3_bind_int64(st, 4, (int64_t)t->bytes);
	sqlite3_bind_int64(st, 5, (int64_t)t->request_id);
	return step(l, which);
}

static int add_result(struct ledger *l, const struct rec_tool_result *t, const struct str *s)
{
	int err = s[TR_CALL_ID].n ? result_to(l, ST_RESULT, t, s[TR_CALL_ID]) : 0;

	if (err || (s[TR_CALL_ID].n && sqlite3_changes(l->db)) || !s[TR_NAME].n)
		return err;
	return result_to(l, ST_RESULT_BY_NAME, t, s[TR_NAME]);
}

static int add_event(struct ledger *l, const struct rec_event *e, const struct str *s)
{
	sqlite3_stmt *st = l->st[ST_EVENT];
	const int64_t numbers[] = { (int64_t)e->at_ns, (int64_t)e->cgroup_id, e->pid, e->uid, e->count, e->level };
	int at = 1;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		sqlite3_bind_int64(st, at++, numbers[i]);
	for (unsigned i = 0; i < EV_STRINGS; i++)
		bind_text(st, at++, s[i]);
	return step(l, ST_EVENT);
}

/* The fixed part's size and where its lengths stand; the strings follow it. */
static bool record_strings(const struct journal_record *rec, size_t fixed, size_t lens_at, unsigned n, struct str *ret)
{
	const char *p = rec->data;

	return rec->len >= fixed &&
	       record_unpack((const uint16_t *)(const void *)(p + lens_at), n, p + fixed, rec->len - fixed, ret);
}

int ledger_add(struct ledger *l, const struct journal_record *rec)
{
	struct str s[RQ_STRINGS];

	switch (rec->type) {
	case REC_REQUEST:
		if (!record_strings(rec, sizeof(struct rec_request), offsetof(struct rec_request, len), RQ_STRINGS, s))
			return -EBADMSG;
		return add_request(l, rec->data, s);
	case REC_TOOL_CALL:
		if (!record_strings(rec, sizeof(struct rec_tool_call), offsetof(struct rec_tool_call, len), TC_STRINGS, s))
			return -EBADMSG;
		return add_call(l, rec->data, s);
	case REC_TOOL_RESULT:
		if (!record_strings(rec, sizeof(struct rec_tool_result), offsetof(struct rec_tool_result, len), TR_STRINGS, s))
			return -EBADMSG;
		return add_result(l, rec->data, s);
	case REC_EVENT:
		if (!record_strings(rec, sizeof(struct rec_event), offsetof(struct rec_event, len), EV_STRINGS, s))
			return -EBADMSG;
		return add_event(l, rec->data, s);
	default:
		return -EBADMSG;
	}
}

int ledger_begin(struct ledger *l)
{
	return ledger_exec(l, "BEGIN IMMEDIATE");
}

int ledger_set_position(struct ledger *l, const char *journal, struct journal_position pos)
{
	sqlite3_stmt *st = l->st[ST_POSITION];

	sqlite3_bind_text(st, 1, journal, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, (int64_t)pos.segment);
	sqlite3_bind_int64(st, 3, (int64_t)pos.offset);
	return step(l, ST_POSITION);
}

int ledger_forget(struct ledger *l, const char *journal)
{
	sqlite3_bind_text(l->st[ST_FORGET], 1, journal, -1, SQLITE_STATIC);
	return step(l, ST_FORGET);
}

int ledger_commit(struct ledger *l)
{
	int err = 0;

	for (unsigned i = 0; i < HOURS_OPEN && !err; i++)
		if (l->hours[i].key[0])
			err = hour_flush(l, &l->hours[i]);
	return err ? err : ledger_exec(l, "COMMIT");
}

void ledger_rollback(struct ledger *l)
{
	sqlite3_exec(l->db, "ROLLBACK", NULL, NULL, NULL);
	memset(l->hours, 0, sizeof(l->hours));
	/* Numbers given out in this transaction are void. */
	memset(l->strings, 0, sizeof(l->strings));
}

struct journal_position ledger_position(struct ledger *l, const char *journal)
{
	struct journal_position pos = { 0, 0 };
	sqlite3_stmt *st;

	if (sqlite3_prepare_v2(l->db, "SELECT segment, offset FROM journals WHERE name = ?1", -1, &st, NULL) != SQLITE_OK)
		return pos;
	sqlite3_bind_text(st, 1, journal, -1, SQLITE_STATIC);
	if (sqlite3_step(st) == SQLITE_ROW)
		pos = (struct journal_position){ (uint64_t)sqlite3_column_int64(st, 0), (uint64_t)sqlite3_column_int64(st, 1) };
	sqlite3_finalize(st);
	return pos;
}

int ledger_purge(struct ledger *l, uint64_t before_ns, unsigned limit)
{
	char sql[512];
	int removed;

	/* An id begins with the request's time: see request_id() in gateway/request.c. */
	snprintf(sql, sizeof(sql), "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE id < %lld LIMIT %u)",
		 (long long)(before_ns / NSEC_PER_MSEC << 20), limit);
	if (ledger_exec(l, sql) < 0)
		return -EIO;
	removed = sqlite3_changes(l->db);
	snprintf(sql, sizeof(sql),
		 "DELETE FROM tool_calls WHERE request_id < %lld; DELETE FROM events WHERE at_ns < %lld",
		 (long long)(before_ns / NSEC_PER_MSEC << 20), (long long)before_ns);
	return ledger_exec(l, sql) < 0 ? -EIO : removed;
}
