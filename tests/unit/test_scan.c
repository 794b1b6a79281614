/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/scan.h"

#include "common/buf.h"
#include "gateway/extract_pick.h"
#include "tests/unit/test.h"

/* ---------------------------------------------------------------- a handler that writes down what
 * it hears */

struct record {
	struct scan scan;
	struct buf text;
	enum scan_want strings, containers; /* what it asks for */
};

static void record_key(void *arg, struct str key)
{
	buf_printf(&((struct record *)arg)->text, "k(%.*s)", STR_ARG(key));
}

static enum scan_want record_begin(void *arg, enum scan_type type)
{
	static const char marks[] = "{[snTFN";
	struct record *r = arg;

	buf_printf(&r->text, "%c", marks[type]);
	buf_puts(&r->text, STR("<"));
	return type == SCAN_OBJECT || type == SCAN_ARRAY ? r->containers : r->strings;
}

static void record_piece(void *arg, struct str piece)
{
	buf_puts(&((struct record *)arg)->text, piece);
}

static void record_end(void *arg, enum scan_type type)
{
	struct record *r = arg;

	(void)type;
	buf_puts(&r->text, STR(">"));
}

static const struct scan_ops record_ops = { record_key, record_begin, record_piece, record_end };

static void record_start(struct record *r, enum scan_want containers, enum scan_want strings)
{
	*r = (struct record){ .containers = containers, .strings = strings };
	buf_init(&r->text, 1 << 20);
	scan_init(&r->scan, &record_ops, r);
}

/* Scans the text cut at `a` and `b`, or into bytes; the caller frees. */
static char *record_run(struct str json, enum scan_want containers, enum scan_want strings,
			size_t a, size_t b)
{
	struct record r;

	record_start(&r, containers, strings);
	if (a == SIZE_MAX) {
		for (size_t i = 0; i < json.n; i++)
			scan_feed(&r.scan, json.s + i, 1);
	} else {
		scan_feed(&r.scan, json.s, a);
		scan_feed(&r.scan, json.s + a, b - a);
		scan_feed(&r.scan, json.s + b, json.n - b);
	}
	buf_puts(&r.text, scan_finish(&r.scan) ? STR(" done")
			  : scan_bad(&r.scan)  ? STR(" bad")
					       : STR(" more"));
	buf_append(&r.text, "", 1);
	return r.text.data;
}

static void check_scan(const char *json, enum scan_want containers, enum scan_want strings,
		       const char *want)
{
	struct str s = str_of(json);
	char *got = record_run(s, containers, strings, s.n, s.n);

	CHECK_STR(got, want);
	free(got);
	got = record_run(s, containers, strings, SIZE_MAX, 0);
	CHECK_STR(got, want);
	free(got);
	for (size_t i = 0; i <= s.n; i++) {
		got = record_run(s, containers, strings, i, MIN(i + 3, s.n));
		CHECK_STR(got, want);
		free(got);
	}
}

/* ---------------------------------------------------------------- tests */

static void values_of_all_types(void)
{
	check_scan(" {\"a\" : [1, -2.5e+3,true ,false,null,\"x\"],\"\":{}, \"b\":[]}\n", SCAN_WALK,
		   SCAN_TEXT,
		   "{<k(a)[<n<1>n<-2.5e+3>T<true>F<false>N<null>s<x>>k(){<>k(b)[<>> done");
	check_scan("12.5", SCAN_WALK, SCAN_TEXT, "n<12.5> done");
	check_scan("\"s\"", SCAN_WALK, SCAN_TEXT, "s<s> done");
	check_scan("\xef\xbb\xbfnull", SCAN_WALK, SCAN_TEXT, "N<null> done");
	check_scan("", SCAN_WALK, SCAN_TEXT, " more");
}

static void escapes(void)
{
	check_scan("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", SCAN_WALK, SCAN_TEXT,
		   "s<\"\\/\b\f\n\r\t> done");
	check_scan("\"\\u0041\\u00e9\\u20AC\\uD83D\\uDE00z\"", SCAN_WALK, SCAN_TEXT,
		   "s<A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z> done");
	/* Halves of pairs: one replacement character each. */
	check_scan("\"\\ud83d\"", SCAN_WALK, SCAN_TEXT, "s<\xef\xbf\xbd> done");
	check_scan("\"\\ud83dx\"", SCAN_WALK, SCAN_TEXT, "s<\xef\xbf\xbdx> done");
	check_scan("\"\\ud83d\\n\"", SCAN_WALK, SCAN_TEXT, "s<\xef\xbf\xbd\n> done");
	check_scan("\"\\ud83d\\ud83d\\ude00\"", SCAN_WALK, SCAN_TEXT,
		   "s<\xef\xbf\xbd\xf0\x9f\x98\x80> done");
	check_scan("\"\\ude00\"", SCAN_WALK, SCAN_TEXT, "s<\xef\xbf\xbd> done");
	/* Keys are unescaped too: "model" must not hide. */
	check_scan("{\"mod\\u0065l\":1}", SCAN_WALK, SCAN_TEXT, "{<k(model)n<1>> done");
	check_scan("\"\\x\"", SCAN_WALK, SCAN_TEXT, "s<x> done");
	check_scan("\"\\u00g0\"", SCAN_WALK, SCAN_TEXT, "s< bad");
}

static void raw_values_are_exact(void)
{
	check_scan("{\"a\":{ \"b\" : [ \"}\\\"\" , 1 ] },\"c\":2}", SCAN_RAW, SCAN_TEXT,
		   "{<{\"a\":{ \"b\" : [ \"}\\\"\" , 1 ] },\"c\":2}> done");
	check_scan(" \"a\\n\" ", SCAN_WALK, SCAN_RAW, "s<\"a\\n\"> done");
	check_scan("[12,true]", SCAN_WALK, SCAN_RAW, "[<n<12>T<true>> done");
}

static void skipped_values_are_still_checked(void)
{
	check_scan("{\"a\":[\"]}\",{\"b\":\"\\\\\"}]}", SCAN_SKIP, SCAN_SKIP, "{<> done");
	check_scan("{\"a\":[}", SCAN_SKIP, SCAN_SKIP, "{< bad");
	check_scan("{\"a\":1,}", SCAN_SKIP, SCAN_SKIP, "{< bad");
	check_scan("{\"a\" 1}", SCAN_SKIP, SCAN_SKIP, "{< bad");
	check_scan("{a:1}", SCAN_SKIP, SCAN_SKIP, "{< bad");
	check_scan("[1 2]", SCAN_SKIP, SCAN_SKIP, "[< bad");
	check_scan("[1,]", SCAN_SKIP, SCAN_SKIP, "[< bad");
	check_scan("{\"a\":tru}", SCAN_SKIP, SCAN_SKIP, "{< bad");
	check_scan("{}x", SCAN_SKIP, SCAN_SKIP, "{<> bad");
	check_scan("[DONE]", SCAN_SKIP, SCAN_SKIP, "[< bad");
	check_scan("{\"a\":1", SCAN_SKIP, SCAN_SKIP, "{< more");
}

static void depth_is_bounded(void)
{
	char deep[4096] = "{\"a\":";
	struct record r;
	size_t n = strlen(deep);

	/* 500 levels with brackets in strings at the bottom, then back. */
	memset(deep + n, '[', 500);
	n += 500;
	memcpy(deep + n, "\"]\\\"]\"", 6);
	n += 6;
	memset(deep + n, ']', 500);
	n += 500;
	memcpy(deep + n, ",\"b\":1}", 8);
	record_start(&r, SCAN_WALK, SCAN_TEXT);
	CHECK(scan_feed(&r.scan, deep, strlen(deep)));
	CHECK(scan_done(&r.scan));
	/* The levels that are reported, and then the member after them. */
	CHECK(memmem(buf_head(&r.text), buf_len(&r.text), "k(b)n<1>", 8) != NULL);
	CHECK(buf_len(&r.text) < 400);
	buf_fini(&r.text);
}

static void long_keys_are_nobodys(void)
{
	char json[256] = "{\"";

	memset(json + 2, 'k', 65);
	strncat(json, "\":1,\"", 6);
	memset(json + strlen(json), 'm', 64);
	strncat(json, "\":2}", 5);
	check_scan(json, SCAN_WALK, SCAN_TEXT,
		   "{<k()n<1>k(mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm)"
		   "n<2>> done");
}

static uint64_t text_bytes(const char *json, size_t n, size_t piece)
{
	struct record r;
	uint64_t bytes;

	record_start(&r, SCAN_SKIP, SCAN_SKIP);
	for (size_t i = 0; i < n; i += piece)
		scan_feed(&r.scan, json + i, MIN(piece, n - i));
	bytes = r.scan.text_bytes;
	buf_fini(&r.text);
	return bytes;
}

static void blobs_are_not_text(void)
{
	static char json[8192];
	size_t n;

	CHECK_INT(text_bytes("{\"ab\":\"cde\"}", 12, 12), 5);
	/* 4000 bytes of base64 under any key. */
	n = (size_t)snprintf(json, sizeof(json),
			     "{\"k\":\"data:image/png;base64,%04000d\",\"t\":\"x\"}", 7);
	for (size_t piece = 1; piece < n; piece += 37)
		CHECK_INT(text_bytes(json, n, piece), 3);
	/* As long, but prose. */
	memset(json, 'a', 4000);
	json[0] = '"';
	json[50] = ' ';
	json[4000] = '"';
	for (size_t piece = 1; piece < 4001; piece += 37)
		CHECK_INT(text_bytes(json, 4001, piece), 3999);
}

/* ---------------------------------------------------------------- the pick */

struct picked {
	int64_t a;
	int8_t b;
	char c[8];
	struct pick_value v;
	struct pick_hash h;
	char log[256];
};

static bool picked_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct picked *p = arg;
	char note[16];

	snprintf(note, sizeof(note), "%s%d:%d ", leave ? "-" : "+", tag, (int)type);
	strncat(p->log, note, sizeof(p->log) - strlen(p->log) - 1);
	return tag != 9;
}

static void paths_fill_fields(void)
{
	static struct pick_tree tree;
	static const struct pick_path paths[] = {
		{ "x|y.*.a", PICK_INT, PICK_FIELD(struct picked, a), 0 },
		{ "top?.b", PICK_BOOL, PICK_FIELD(struct picked, b), 0 },
		{ "c", PICK_TEXT, PICK_FIELD(struct picked, c), 5 },
		{ "v", PICK_VALUE, PICK_FIELD(struct picked, v), 0 },
		{ "h", PICK_HASH, PICK_FIELD(struct picked, h), 0 },
		{ "no", PICK_TEXT, PICK_FIELD(struct picked, c), 9 },
	};
	struct picked p = { .a = -1, .b = -1 };
	struct pick pick;
	const char *json = "{\"y\":[{\"a\":41},{\"a\":42.9}],\"z\":{\"a\":1},\"top\":{\"b\":true},"
			   "\"c\":\"abcdef\xc3\xa9gh\",\"v\":{\"k\":[1, \"2\"]},\"h\":\"text\","
			   "\"no\":\"overwritten\"}";

	pick_value_init(&p.v, 64);
	pick_tree_build(&tree, paths, ARRAY_SIZE(paths));
	for (int round = 0; round < 2; round++) {
		pick_init(&pick, &tree, &p, picked_mark, &p);
		p.log[0] = '\0';
		for (size_t i = 0; json[i]; i++)
			CHECK(pick_feed(&pick, json + i, 1));
		CHECK_INT(p.a, 42);
		CHECK_INT(p.b, 1);
		CHECK_STR(p.c, "abcdef");
		CHECK(str_eq(buf_str(&p.v.text), STR("{\"k\":[1, \"2\"]}")));
		CHECK(p.v.present && !p.v.cut && p.v.type == SCAN_OBJECT);
		CHECK_INT(p.h.n, 4);
		CHECK_STR(p.log, "+1:0 +5:2 -5:2 +9:2 -9:2 -1:0 ");
	}
	pick_value_fini(&p.v);
}

static void arrays_of_documents(void)
{
	static struct pick_tree tree;
	static const struct pick_path paths[] = {
		{ "a", PICK_INT, PICK_FIELD(struct picked, a), 0 },
	};
	struct picked p = { .a = -1 };
	struct pick pick;

	pick_tree_build(&tree, paths, 1);
	pick_init(&pick, &tree, &p, picked_mark, &p);
	CHECK(pick_feed(&pick, "[{\"a\":1},{\"a\":2}]", 17));
	CHECK_INT(p.a, 2);
	CHECK_STR(p.log, "+1:0 -1:0 +1:0 -1:0 ");
	CHECK(scan_done(&pick.scan));
}

static void values_stop_at_their_bound(void)
{
	static struct pick_tree tree;
	static const struct pick_path paths[] = {
		{ "v", PICK_VALUE, PICK_FIELD(struct picked, v), 0 },
	};
	struct picked p = { .a = -1 };
	struct pick pick;
	char json[512];

	pick_tree_build(&tree, paths, 1);
	pick_value_init(&p.v, 100);
	pick_init(&pick, &tree, &p, NULL, NULL);
	snprintf(json, sizeof(json), "{\"v\":\"%0300d\"}", 1);
	CHECK(pick_feed(&pick, json, strlen(json)));
	CHECK_INT(buf_len(&p.v.text), 100);
	CHECK(p.v.cut);
	pick_value_fini(&p.v);
}

TESTS(T(values_of_all_types), T(escapes), T(raw_values_are_exact),
      T(skipped_values_are_still_checked), T(depth_is_bounded), T(long_keys_are_nobodys),
      T(blobs_are_not_text), T(paths_fill_fields), T(arrays_of_documents),
      T(values_stop_at_their_bound))
