/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HuJSON parser: recursive descent with a depth limit, one error for a broken text (the first),
 * all duplicate keys. Positions are counted on the way, so a file in one long line costs no more.
 */
#include "policy/hujson.h"

#include <errno.h>

struct parser {
	const char *text;
	size_t pos, size;
	unsigned line, depth, n_nodes;
	bool duplicates; /* reported, and the whole parse will fail */
	/* The column of `column_pos`, which lies in the current line. */
	size_t column_pos;
	unsigned column;
	struct arena *nodes, *strings;
	struct policy_diags *diags;
};

static const char *const type_names[] = {
	[HUJSON_NULL] = "null",	      [HUJSON_BOOL] = "true or false",
	[HUJSON_NUMBER] = "a number", [HUJSON_STRING] = "a string",
	[HUJSON_ARRAY] = "a list",    [HUJSON_OBJECT] = "an object",
};
_Static_assert(ARRAY_SIZE(type_names) == HUJSON_TYPE_MAX, "a type lacks its name");

const char *hujson_type_name(enum hujson_type type)
{
	return type_names[type];
}

const struct hujson *hujson_get(const struct hujson *object, struct str key)
{
	hujson_for_each(m, object)
	{
		if (str_eq(m->key, key))
			return m;
	}
	return NULL;
}

/* The column of the current position; positions only grow. */
static unsigned parser_column(struct parser *p)
{
	for (; p->column_pos < p->pos; p->column_pos++)
		p->column += ((unsigned char)p->text[p->column_pos] & 0xc0) != 0x80;
	return p->column;
}

#define FAIL(p, ...)                                                                               \
	({                                                                                         \
		diag_add((p)->diags, true, (p)->line, parser_column(p), __VA_ARGS__);              \
		-EINVAL;                                                                           \
	})

static void parser_newline(struct parser *p)
{
	p->line++;
	p->column_pos = p->pos;
	p->column = 1;
}

/*
 * The length of the UTF-8 sequence at s, 0 when it is none (RFC 3629: no overlong forms, no
 * surrogates).
 */
static size_t utf8_length(const char *s, size_t size)
{
	const unsigned char *u = (const unsigned char *)s;
	size_t n = u[0] < 0x80 ? 1 : u[0] < 0xc2 ? 0 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;

	if (!n || n > size || u[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) ||
	    (u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f))
		return 0;
	return n;
}

static struct diag_word parser_word(const struct parser *p)
{
	size_t n = 0;

	while (n < 24 && p->pos + n < p->size && !strchr(" \t\r\n,:[]{}", p->text[p->pos + n]))
		n++;
	return diag_word((struct str){ p->text + p->pos, n ? n : p->pos < p->size });
}

static int skip_block_comment(struct parser *p)
{
	for (p->pos += 2; p->pos + 1 < p->size; p->pos++) {
		if (p->text[p->pos] == '*' && p->text[p->pos + 1] == '/') {
			p->pos += 2;
			return 0;
		}
		if (p->text[p->pos] == '\n') {
			p->pos++;
			parser_newline(p);
			p->pos--;
		}
	}
	p->pos = p->size;
	return FAIL(p, "the file ends inside a comment; close it with */");
}

static int skip_space(struct parser *p)
{
	while (p->pos < p->size) {
		char c = p->text[p->pos], next = p->pos + 1 < p->size ? p->text[p->pos + 1] : 0;

		if (c == '\n') {
			p->pos++;
			parser_newline(p);
		} else if (c == ' ' || c == '\t' || c == '\r') {
			p->pos++;
		} else if (c == '/' && next == '/') {
			const char *end = memchr(p->text + p->pos, '\n', p->size - p->pos);

			p->pos = end ? (size_t)(end - p->text) : p->size;
		} else if (c == '/' && next == '*') {
			int err = skip_block_comment(p);

			if (err)
				return err;
		} else {
			break;
		}
	}
	return 0;
}

static char parser_peek(const struct parser *p)
{
	return p->pos < p->size ? p->text[p->pos] : '\0';
}

/* Four hex digits at the position, or -1; moves past them. */
static long parse_hex4(struct parser *p)
{
	long value = 0;

	if (p->size - p->pos < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = p->text[p->pos + (size_t)i];
		int digit = c >= '0' && c <= '9'   ? c - '0'
			    : c >= 'a' && c <= 'f' ? c - 'a' + 10
			    : c >= 'A' && c <= 'F' ? c - 'A' + 10
						   : -1;

		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	p->pos += 4;
	return value;
}

static size_t put_utf8(char *out, long cp)
{
	if (cp < 0x80) {
		out[0] = (char)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (char)(0xc0 | cp >> 6);
		out[1] = (char)(0x80 | (cp & 63));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (char)(0xe0 | cp >> 12);
		out[1] = (char)(0x80 | (cp >> 6 & 63));
		out[2] = (char)(0x80 | (cp & 63));
		return 3;
	}
	out[0] = (char)(0xf0 | cp >> 18);
	out[1] = (char)(0x80 | (cp >> 12 & 63));
	out[2] = (char)(0x80 | (cp >> 6 & 63));
	out[3] = (char)(0x80 | (cp & 63));
	return 4;
}

/* After "\u": one code point, by one or two escapes. */
static int parse_unicode_escape(struct parser *p, char *out, size_t *n)
{
	long cp = parse_hex4(p);

	if (cp < 0)
		return FAIL(p, "\\u needs four hex digits");
	if (cp >= 0xd800 && cp < 0xdc00) {
		long low = -1;

		if (p->size - p->pos >= 2 && p->text[p->pos] == '\\' &&
		    p->text[p->pos + 1] == 'u') {
			p->pos += 2;
			low = parse_hex4(p);
		}
		if (low < 0xdc00 || low > 0xdfff)
			return FAIL(p, "half of a surrogate pair; write the character itself");
		cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
	} else if (cp >= 0xdc00 && cp < 0xe000) {
		return FAIL(p, "half of a surrogate pair; write the character itself");
	} else if (cp == 0) {
		return FAIL(p, "a NUL character can stand in no value; remove it");
	}
	*n += put_utf8(out + *n, cp);
	return 0;
}

static int parse_escape(struct parser *p, char *out, size_t *n)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char c = p->pos + 1 < p->size ? p->text[p->pos + 1] : '\0';
	const char *at = c ? strchr(from, c) : NULL;

	if (at) {
		out[(*n)++] = to[at - from];
		p->pos += 2;
		return 0;
	}
	if (c != 'u')
		return FAIL(p, "unknown escape in a string; a backslash is written \\\\");
	p->pos += 2;
	return parse_unicode_escape(p, out, n);
}

/* The raw length up to the closing quote bounds the decoded length. */
static size_t string_raw_length(const struct parser *p)
{
	size_t i = p->pos;

	while (i < p->size && p->text[i] != '"' && p->text[i] != '\n')
		i += p->text[i] == '\\' ? 2 : 1;
	return MIN(i, p->size) - p->pos;
}

static int parse_string(struct parser *p, struct str *ret)
{
	size_t n = 0;
	char *out;

	p->pos++;
	out = arena_alloc(p->strings, string_raw_length(p) + 1);
	if (!out)
		return -ENOMEM;
	while (p->pos < p->size && p->text[p->pos] != '"') {
		char c = p->text[p->pos];
		size_t len;

		if (c == '\\') {
			int err = parse_escape(p, out, &n);

			if (err)
				return err;
			continue;
		}
		if (c == '\n' || c == '\r')
			return FAIL(p,
				    "the line ends inside a string; close it with a double quote");
		if ((unsigned char)c < 0x20)
			return FAIL(p, "a control character in a string; write \\u%04x", c);
		len = utf8_length(p->text + p->pos, p->size - p->pos);
		if (!len)
			return FAIL(p, "the string is not UTF-8; save the file as UTF-8");
		memcpy(out + n, p->text + p->pos, len);
		n += len;
		p->pos += len;
	}
	if (p->pos == p->size)
		return FAIL(p, "the file ends inside a string; close it with a double quote");
	p->pos++;
	*ret = (struct str){ out, n };
	return 0;
}

static size_t skip_digits(struct parser *p)
{
	size_t from = p->pos;

	while (p->pos < p->size && p->text[p->pos] >= '0' && p->text[p->pos] <= '9')
		p->pos++;
	return p->pos - from;
}

/* -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)? */
static int parse_number(struct parser *p, struct str *ret)
{
	size_t from = p->pos, digits;
	char *copy;

	if (p->text[p->pos] == '-')
		p->pos++;
	digits = skip_digits(p);
	if (!digits || (digits > 1 && p->text[p->pos - digits] == '0'))
		return FAIL(p, "this is no number of JSON; write it as 10, -1 or 0.5");
	if (parser_peek(p) == '.') {
		p->pos++;
		if (!skip_digits(p))
			return FAIL(p, "digits are missing after the decimal point");
	}
	if (parser_peek(p) == 'e' || parser_peek(p) == 'E') {
		p->pos++;
		if (parser_peek(p) == '+' || parser_peek(p) == '-')
			p->pos++;
		if (!skip_digits(p))
			return FAIL(p, "digits are missing in the exponent");
	}
	copy = arena_strdup(p->strings, (struct str){ p->text + from, p->pos - from });
	if (!copy)
		return -ENOMEM;
	*ret = (struct str){ copy, p->pos - from };
	return 0;
}

static int parse_word(struct parser *p, struct hujson *v)
{
	static const struct {
		struct str word;
		enum hujson_type type;
		bool boolean;
	} words[] = {
		{ STR("true"), HUJSON_BOOL, true },
		{ STR("false"), HUJSON_BOOL, false },
		{ STR("null"), HUJSON_NULL, false },
	};
	struct str rest = { p->text + p->pos, p->size - p->pos };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!str_starts(rest, words[i].word))
			continue;
		v->type = words[i].type;
		v->boolean = words[i].boolean;
		p->pos += words[i].word.n;
		return 0;
	}
	if (!rest.n)
		return FAIL(p, "the file ends where a value should stand");
	if (rest.s[0] == '\'')
		return FAIL(p, "strings stand in double quotes");
	if (str_starts(rest, STR("\xef\xbb\xbf")))
		return FAIL(p, "the file starts with a byte order mark; save it without");
	return FAIL(p, "expected a value, found `%s`", parser_word(p).s);
}

static int parse_value(struct parser *p, struct hujson *v);

static struct hujson *parser_child(struct parser *p, struct hujson *parent, struct hujson ***tail)
{
	struct hujson *v = p->n_nodes < HUJSON_NODES_MAX ? arena_alloc(p->nodes, sizeof(*v)) : NULL;

	if (!v)
		return NULL;
	p->n_nodes++;
	**tail = v;
	*tail = &v->next;
	parent->n++;
	return v;
}

static int parse_key(struct parser *p, struct hujson *v)
{
	int err;

	if (parser_peek(p) != '"')
		return FAIL(p, "expected a key in double quotes or `}`, found `%s`",
			    parser_word(p).s);
	v->key_line = p->line;
	v->key_column = parser_column(p);
	err = parse_string(p, &v->key);
	if (!err)
		err = skip_space(p);
	if (err)
		return err;
	if (parser_peek(p) != ':')
		return FAIL(p, "expected `:` after the key `%s`", diag_word(v->key).s);
	p->pos++;
	return 0;
}

static int by_key(const void *a, const void *b)
{
	const struct hujson *x = *(const struct hujson *const *)a;
	const struct hujson *y = *(const struct hujson *const *)b;
	int order = memcmp(x->key.s, y->key.s, MIN(x->key.n, y->key.n));

	if (order)
		return order;
	if (x->key.n != y->key.n)
		return x->key.n < y->key.n ? -1 : 1;
	return x->key_line != y->key_line ? (x->key_line < y->key_line ? -1 : 1)
					  : (x->key_column < y->key_column ? -1 : 1);
}

static int check_duplicates(struct parser *p, const struct hujson *object)
{
	auto_free const struct hujson **members = NULL;
	unsigned n = 0;

	if (object->n < 2)
		return 0;
	members = calloc(object->n, sizeof(const struct hujson *));
	if (!members)
		return -ENOMEM;
	hujson_for_each(m, object)
	{
		members[n++] = m;
	}
	qsort(members, n, sizeof(const struct hujson *), by_key);
	for (unsigned i = 1; i < n; i++) {
		if (!str_eq(members[i - 1]->key, members[i]->key))
			continue;
		diag_add(p->diags, true, members[i]->key_line, members[i]->key_column,
			 "the key `%s` stands already in line %u; remove one of them",
			 diag_word(members[i]->key).s, members[i - 1]->key_line);
		p->duplicates = true;
	}
	return 0;
}

/* Between two children: 1 = another may follow, 0 = the closing bracket was read. */
static int parse_separator(struct parser *p, const struct hujson *parent, char close)
{
	int err = skip_space(p);
	char c = parser_peek(p);

	if (err)
		return err;
	if (c == ',' || c == close) {
		p->pos++;
		return c == ',';
	}
	if (p->pos == p->size)
		return FAIL(p, "the file ends inside %s that starts in line %u; close it with `%c`",
			    hujson_type_name(parent->type), parent->line, close);
	return FAIL(p, "expected `,` or `%c`, found `%s`", close, parser_word(p).s);
}

static int parse_children(struct parser *p, struct hujson *v, char close)
{
	struct hujson **tail = &v->first;
	int more = 1;

	p->pos++;
	while (more > 0) {
		struct hujson *child;
		int err = skip_space(p);

		if (err)
			return err;
		if (parser_peek(p) == close && p->pos < p->size) {
			p->pos++;
			break;
		}
		if (p->pos == p->size)
			return parse_separator(p, v, close);
		child = parser_child(p, v, &tail);
		if (!child && p->n_nodes >= HUJSON_NODES_MAX)
			return FAIL(p, "more than %u values; split the file", HUJSON_NODES_MAX);
		if (!child)
			return -ENOMEM;
		if (v->type == HUJSON_OBJECT)
			err = parse_key(p, child);
		if (!err)
			err = parse_value(p, child);
		if (err)
			return err;
		more = parse_separator(p, v, close);
	}
	return more < 0 ? more : v->type == HUJSON_OBJECT ? check_duplicates(p, v) : 0;
}

static int parse_value(struct parser *p, struct hujson *v)
{
	int err = skip_space(p);
	char c = parser_peek(p);

	if (err)
		return err;
	v->line = p->line;
	v->column = parser_column(p);
	if (c == '"') {
		v->type = HUJSON_STRING;
		return parse_string(p, &v->text);
	}
	if (c == '-' || (c >= '0' && c <= '9')) {
		v->type = HUJSON_NUMBER;
		return parse_number(p, &v->text);
	}
	if (c != '{' && c != '[')
		return parse_word(p, v);
	if (p->depth == HUJSON_DEPTH_MAX)
		return FAIL(p, "nested more than %d deep", HUJSON_DEPTH_MAX);
	p->depth++;
	v->type = c == '{' ? HUJSON_OBJECT : HUJSON_ARRAY;
	err = parse_children(p, v, c == '{' ? '}' : ']');
	p->depth--;
	return err;
}

int hujson_parse(struct str text, struct arena *nodes, struct arena *strings, struct hujson **ret,
		 struct policy_diags *diags)
{
	struct parser p = { .text = text.s ? text.s : "",
			    .size = text.n,
			    .line = 1,
			    .column = 1,
			    .nodes = nodes,
			    .strings = strings,
			    .diags = diags };
	struct hujson *root = arena_alloc(nodes, sizeof(*root));
	int err;

	if (!root)
		return -ENOMEM;
	err = parse_value(&p, root);
	if (!err)
		err = skip_space(&p);
	if (!err && p.pos < p.size)
		err = FAIL(&p, "`%s` stands after the end; the file is one value",
			   parser_word(&p).s);
	if (!err && p.duplicates)
		err = -EINVAL;
	if (!err)
		*ret = root;
	return err;
}
