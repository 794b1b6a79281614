/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>

#include "policy/hujson.h"

/* One parse; finished by done(). */
static struct arena arena;
static struct policy_diags diags;

static const struct hujson *parse(const char *text)
{
	struct hujson *root = NULL;

	memset(&diags, 0, sizeof(diags));
	return hujson_parse(str_of(text), &arena, &arena, &root, &diags) ? NULL : root;
}

static void done(void)
{
	arena_fini(&arena);
}

static void values(void)
{
	const struct hujson *v = parse("{\"a\": [1, -2.5e3, true, false, null, \"x\"], \"b\": {}}");
	const struct hujson *a, *item;

	CHECK(v && v->type == HUJSON_OBJECT && v->n == 2);
	if (!v)
		return;
	a = hujson_get(v, STR("a"));
	CHECK(a && a->type == HUJSON_ARRAY && a->n == 6);
	item = a->first;
	CHECK_STR(item->text.s, "1");
	item = item->next;
	CHECK_STR(item->text.s, "-2.5e3");
	item = item->next;
	CHECK(item->type == HUJSON_BOOL && item->boolean);
	item = item->next;
	CHECK(item->type == HUJSON_BOOL && !item->boolean);
	item = item->next;
	CHECK(item->type == HUJSON_NULL);
	item = item->next;
	CHECK(item->type == HUJSON_STRING && !item->next);
	CHECK(hujson_get(v, STR("b")) && !hujson_get(v, STR("c")));
	done();
}

static void comments_and_commas(void)
{
	const struct hujson *v = parse(
		"// first\n{ /* a */ \"a\" /* b */ : /* c */ [1, 2, /* ** / */ ], // end\n } // eof");

	CHECK(v && v->n == 1 && v->first->n == 2);
	done();
	CHECK(parse("/**/1/**/") != NULL);
	done();
	CHECK(!parse("[1,,2]") && diags.n == 1);
	done();
	CHECK(!parse("[,]"));
	done();
	CHECK(!parse("{,}"));
	done();
	CHECK(!parse("# no\n1"));
	done();
	CHECK(!parse("1 /* open"));
	done();
	CHECK(!parse("/"));
	done();
}

static void positions(void)
{
	/* Columns count characters, not bytes. */
	const struct hujson *v = parse("{\n  \"\xc3\xa4\": 1, \"b\": [\n\t2] }");
	const struct hujson *b;

	CHECK(v != NULL);
	if (!v)
		return;
	CHECK_INT(v->line, 1);
	CHECK_INT(v->column, 1);
	CHECK_INT(v->first->key_line, 2);
	CHECK_INT(v->first->key_column, 3);
	CHECK_INT(v->first->column, 8);
	b = v->first->next;
	CHECK_INT(b->key_column, 11);
	CHECK_INT(b->column, 16);
	CHECK_INT(b->first->line, 3);
	CHECK_INT(b->first->column, 2);
	done();
}

static void strings(void)
{
	static const struct {
		const char *text, *want;
	} good[] = {
		{ "\"\"", "" },
		{ "\"a\\\"b\\\\c\\/\\b\\f\\n\\r\\t\"", "a\"b\\c/\b\f\n\r\t" },
		{ "\"\\u0041\\u00e4\\u20ac\"", "A\xc3\xa4\xe2\x82\xac" },
		{ "\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80" },
		{ "\"\xf0\x9f\x98\x80\"", "\xf0\x9f\x98\x80" },
	};
	static const char *const bad[] = {
		"\"open",
		"\"a\nb\"",
		"\"\\x\"",
		"\"\\u12\"",
		"\"\\ud800\"",
		"\"\\udc00\"",
		"\"\\ud800\\u0041\"",
		"\"\\u0000\"",
		"\"\x01\"",
		"\"\xff\"",
		"\"\xc0\x80\"",
		"\"\xed\xa0\x80\"",
		"\"\xf4\x90\x80\x80\"",
		"\"\xe2\x82\"",
		"'a'",
		"\"\\",
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		const struct hujson *v = parse(good[i].text);

		CHECK(v != NULL);
		if (v)
			CHECK_STR(v->text.s, good[i].want);
		done();
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK(!parse(bad[i]));
		CHECK_INT(diags.n_errors, 1);
		done();
	}
}

static void numbers(void)
{
	static const char *const bad[] = { "01", "+1",	".5",  "1.",  "1e",	  "1e+",
					   "-",	 "0x1", "1_0", "NaN", "Infinity", "1 2" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK(!parse(bad[i]));
		done();
	}
	CHECK(parse("-0.0E-10"));
	done();
}

static void duplicates(void)
{
	CHECK(!parse("{\"a\": 1,\n \"b\": {\"c\": 1, \"c\": 2},\n \"a\": 2, \"a\": 3}"));
	CHECK_INT(diags.n_errors, 3);
	diag_sort(&diags);
	CHECK_INT(diags.items[0].line, 2);
	CHECK_INT(diags.items[1].line, 3);
	CHECK_INT(diags.items[1].column, 2);
	CHECK_STR(diags.items[1].text, "the key `a` stands already in line 1; remove one of them");
	done();
	/* The same spelling by an escape is the same key. */
	CHECK(!parse("{\"a\": 1, \"\\u0061\": 2}"));
	done();
}

static void depth(void)
{
	char text[2 * HUJSON_DEPTH_MAX + 8];

	for (int extra = 0; extra < 2; extra++) {
		size_t n = HUJSON_DEPTH_MAX + (size_t)extra;

		memset(text, '[', n);
		memset(text + n, ']', n);
		text[2 * n] = '\0';
		CHECK((parse(text) != NULL) == !extra);
		done();
	}
	memset(text, '{', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	CHECK(!parse(text));
	done();
}

static void messages(void)
{
	static const struct {
		const char *text, *want;
		unsigned line, column;
	} cases[] = {
		{ "{\n \"a\": 1\n \"b\": 2}", "expected `,` or `}`, found `\"b\"`", 3, 2 },
		{ "{\"a\" 1}", "expected `:` after the key `a`", 1, 6 },
		{ "{a: 1}", "expected a key in double quotes or `}`, found `a`", 1, 2 },
		{ "{\"a\": [1,\n2",
		  "the file ends inside a list that starts in line 1; close it with `]`", 2, 2 },
		{ "", "the file ends where a value should stand", 1, 1 },
		{ "{} x", "`x` stands after the end; the file is one value", 1, 4 },
		{ "[yes]", "expected a value, found `yes`", 1, 2 },
		{ "\xef\xbb\xbf{}", "the file starts with a byte order mark; save it without", 1,
		  1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK(!parse(cases[i].text));
		CHECK_INT(diags.n, 1);
		CHECK_STR(diags.items[0].text, cases[i].want);
		CHECK_INT(diags.items[0].line, cases[i].line);
		CHECK_INT(diags.items[0].column, cases[i].column);
		done();
	}
}

static void memory(void)
{
	static const char text[] = "{\"a\": [1, 2, \"three\", {\"b\": true}], \"c\": \"d\"}";

	/* Each bound on the arena is either enough or -ENOMEM, and never a crash. */
	for (size_t max = 1; max < 4096; max += 32) {
		struct arena small = { .max = max };
		struct hujson *root = NULL;
		int err;

		memset(&diags, 0, sizeof(diags));
		err = hujson_parse(STR(text), &small, &small, &root, &diags);
		CHECK(err == 0 || err == -ENOMEM);
		CHECK(err ? root == NULL : root != NULL);
		arena_fini(&small);
	}
}

static void nearest(void)
{
	struct nearest n = nearest_start(STR("provders"));

	nearest_try(&n, STR("grants"));
	nearest_try(&n, STR("providers"));
	CHECK_STR(nearest_hint(&n).s, " (did you mean `providers`?)");
	n = nearest_start(STR("xyz"));
	nearest_try(&n, STR("providers"));
	CHECK_STR(nearest_hint(&n).s, "");
	n = nearest_start(STR("Grnats"));
	nearest_try(&n, STR("grants"));
	CHECK_STR(nearest_hint(&n).s, " (did you mean `grants`?)");
}

static void diags_bounded(void)
{
	memset(&diags, 0, sizeof(diags));
	for (unsigned i = 0; i < POLICY_DIAGS_MAX; i++)
		diag_add(&diags, i % 2, i + 1, 1, "%s %u", i % 2 ? "error" : "warning", i);
	diag_add(&diags, false, 1, 1, "one warning too many");
	diag_add(&diags, true, 1, 1, "an error pushes a warning out");
	CHECK_INT(diags.n, POLICY_DIAGS_MAX);
	CHECK_INT(diags.n_dropped, 2);
	CHECK_INT(diags.n_errors, POLICY_DIAGS_MAX / 2 + 1);
	CHECK_STR(diags.items[POLICY_DIAGS_MAX - 1].text, "an error pushes a warning out");
	CHECK_STR(diag_word(STR("a\x01\x7f")).s, "a??");
	CHECK_INT(strlen(diag_word((struct str){ diags.items[0].text, 200 }).s) < 64, 1);
}

TESTS(T(values), T(comments_and_commas), T(positions), T(strings), T(numbers), T(duplicates),
      T(depth), T(messages), T(memory), T(nearest), T(diags_bounded))
