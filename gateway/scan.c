/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: one state per place in the grammar, one bit per open container. A value that
 * nobody wants sets `quiet` to its depth; while it is set the same states run, only without the
 * handler. Raw values remember where their bytes start in the piece in hand (`raw`) and are handed
 * on at their end or at the end of the piece. Containers below SCAN_DEPTH_MAX are not on the bit
 * stack: ST_DEEP counts brackets until the scanner is back.
 */
#include "gateway/scan.h"

#include <assert.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/base.h"

/* Rationale: shorter ones (ids, hashes, signatures) hardly change an estimate. */
#define BLOB_MIN 512

enum scan_state {
	ST_VALUE,	/* a value must follow */
	ST_FIRST_VALUE, /* after [: a value or ] */
	ST_FIRST_KEY,	/* after {: a key or } */
	ST_KEY,		/* after a comma in an object */
	ST_COLON,
	ST_COMMA, /* after a value inside a container */
	ST_STRING,
	ST_NUMBER,
	ST_WORD,
	ST_DEEP,
	ST_DEEP_STRING,
	ST_END,
	ST_BAD,
};

/* 1: white space, 2: part of a number, 4: of a base64 text */
static const uint8_t classes[256] = {
	['\t'] = 1,
	['\n'] = 1,
	['\r'] = 1,
	[' '] = 1,
	['0' ... '9'] = 6,
	['+'] = 6,
	['-'] = 6,
	['.'] = 2,
	['A' ... 'D'] = 4,
	['E'] = 6,
	['F' ... 'Z'] = 4,
	['a' ... 'd'] = 4,
	['e'] = 6,
	['f' ... 'z'] = 4,
	['/'] = 4,
	['='] = 4,
	['_'] = 4,
	/* data:image/png;base64, */
	[':'] = 4,
	[';'] = 4,
	[','] = 4,
};
#define IS_SPACE(c)  (classes[(unsigned char)(c)] & 1)
#define IS_NUMBER(c) (classes[(unsigned char)(c)] & 2)
#define IS_BLOB(c)   (classes[(unsigned char)(c)] & 4)

void scan_init(struct scan *s, const struct scan_ops *ops, void *arg)
{
	*s = (struct scan){ .ops = ops, .arg = arg, .state = ST_VALUE };
}

void scan_reset(struct scan *s)
{
	scan_init(s, s->ops, s->arg);
}

bool scan_done(const struct scan *s)
{
	return s->state == ST_END;
}

bool scan_bad(const struct scan *s)
{
	return s->state == ST_BAD;
}

void scan_skip_rest(struct scan *s)
{
	if (s->state == ST_STRING && !s->quiet && s->want == SCAN_TEXT)
		s->want = SCAN_SKIP;
}

const char *scan_find_quote(const char *p, const char *end)
{
#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\');

	for (; end - p >= 16; p += 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		int hit = _mm_movemask_epi8(
			_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)));

		if (hit)
			return p + __builtin_ctz((unsigned)hit);
	}
#else
	/* Eight bytes at a time: a byte is zero after the xor exactly where it was looked for. */
	const uint64_t ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL;

	for (; end - p >= 8; p += 8) {
		uint64_t v, q, b;

		memcpy(&v, p, 8);
		q = v ^ (ones * '"');
		b = v ^ (ones * '\\');
		if (((q - ones) & ~q & tops) | ((b - ones) & ~b & tops))
			break;
	}
#endif
	while (p < end && *p != '"' && *p != '\\')
		p++;
	return p;
}

static void scan_at(struct scan *s, const char *p)
{
	s->offset = s->fed + (uint64_t)(p - s->piece);
}

static void scan_emit(struct scan *s, const char *from, const char *to)
{
	if (to > from)
		s->ops->piece(s->arg, (struct str){ from, (size_t)(to - from) });
}

/* Handles a value's start; false: it is inside something quiet, or below the depth reported. */
static bool scan_begin(struct scan *s, enum scan_type type, const char *p)
{
	s->type = (uint8_t)type;
	s->want = SCAN_SKIP;
	if (s->quiet)
		return false;
	scan_at(s, p);
	s->want = (uint8_t)s->ops->begin(s->arg, type);
	if (s->want == SCAN_TEXT && type != SCAN_STRING)
		s->want = SCAN_RAW;
	if (s->want == SCAN_RAW) {
		s->raw = p;
		s->raw_on = true;
	}
	return true;
}

/* p is one past the value. */
static void scan_end(struct scan *s, enum scan_type type, const char *p)
{
	s->state = s->depth ? ST_COMMA : ST_END;
	if (s->quiet)
		return;
	if (s->raw_on) {
		scan_emit(s, s->raw, p);
		s->raw_on = false;
		s->raw = NULL;
	}
	scan_at(s, p);
	s->ops->end(s->arg, type);
}

static void scan_open(struct scan *s, enum scan_type type, const char *p)
{
	if (s->depth >= SCAN_DEPTH_MAX) {
		s->depth++;
		s->state = ST_DEEP;
		return;
	}
	scan_begin(s, type, p);
	s->depth++;
	s->types = s->types << 1 | (type == SCAN_OBJECT);
	s->state = type == SCAN_OBJECT ? ST_FIRST_KEY : ST_FIRST_VALUE;
	if (!s->quiet && s->want != SCAN_WALK)
		s->quiet = s->depth;
}

static void scan_close(struct scan *s, enum scan_type type, const char *p, bool empty)
{
	if (!s->depth || (s->types & 1) != (type == SCAN_OBJECT)) {
		s->state = ST_BAD;
		return;
	}
	if (s->quiet == s->depth)
		s->quiet = 0;
	s->depth--;
	s->types >>= 1;
	s->empty = empty;
	scan_end(s, type, p + 1);
}

static void scan_string_start(struct scan *s, bool key)
{
	s->in_key = key;
	s->state = ST_STRING;
	s->run = 0;
	s->blob = true;
	s->escape = 0;
	s->high = 0;
	s->key_len = 0;
	s->key_long = false;
}

/* Looks at the start of a string that is long, or may become so, for bytes that base64 has not. */
static void scan_probe_blob(struct scan *s, const char *from, const char *to)
{
	/* To the end: a text that only begins like a blob is a text. */
	for (; from < to; from++)
		if (!IS_BLOB(*from)) {
			s->blob = false;
			return;
		}
}

/* Counts the bytes [from, to) of the string in hand. */
static inline void scan_count(struct scan *s, const char *from, const char *to, bool last)
{
	size_t n = (size_t)(to - from);

	/* A short string that ends here needs no second look. */
	if (s->blob && !(last && s->run + n < BLOB_MIN))
		scan_probe_blob(s, from, to);
	s->run += n;
	if (last && s->run >= BLOB_MIN && s->blob)
		s->blob_bytes += s->run;
	else if (last)
		s->text_bytes += s->run;
}

/* Unescaped bytes of the string in hand. */
static void scan_text(struct scan *s, const char *p, size_t n)
{
	if (!s->in_key) {
		s->ops->piece(s->arg, (struct str){ p, n });
	} else if (s->key_len + n <= SCAN_KEY_MAX) {
		memcpy(s->key + s->key_len, p, n);
		s->key_len += (unsigned)n;
	} else {
		s->key_long = true;
	}
}

static void scan_utf8(struct scan *s, uint32_t c)
{
	char out[4];
	size_t n;

	if (c < 0x80) {
		out[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		n = 2;
	} else if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 63));
		out[2] = (char)(0x80 | (c & 63));
		n = 3;
	} else {
		out[0] = (char)(0xf0 | c >> 18);
		out[1] = (char)(0x80 | (c >> 12 & 63));
		out[2] = (char)(0x80 | (c >> 6 & 63));
		out[3] = (char)(0x80 | (c & 63));
		n = 4;
	}
	scan_text(s, out, n);
}

/* A high surrogate without its other half becomes U+FFFD, as everywhere. */
static void scan_flush_high(struct scan *s)
{
	if (s->high) {
		s->high = 0;
		scan_utf8(s, 0xfffd);
	}
}

static void scan_unicode(struct scan *s, uint32_t c)
{
	if (s->high && c >= 0xdc00 && c < 0xe000) {
		c = 0x10000 + ((uint32_t)(s->high - 0xd800) << 10) + (c - 0xdc00);
		s->high = 0;
		scan_utf8(s, c);
		return;
	}
	scan_flush_high(s);
	if (c >= 0xd800 && c < 0xdc00)
		s->high = (uint16_t)c;
	else
		scan_utf8(s, c >= 0xdc00 && c < 0xe000 ? 0xfffd : c);
}

static int scan_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool scan_wants_text(const struct scan *s)
{
	return !s->quiet && (s->in_key || s->want == SCAN_TEXT);
}

/* One byte of an escape sequence. */
static void scan_escape(struct scan *s, char c)
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	const char *at;
	int hex;

	if (s->escape == 1) {
		s->escape = 0;
		if (c == 'u') {
			s->escape = 2;
			s->code = 0;
			return;
		}
		if (!scan_wants_text(s))
			return;
		scan_flush_high(s);
		at = c ? strchr(from, c) : NULL;
		c = at ? to[at - from] : c;
		scan_text(s, &c, 1);
		return;
	}
	hex = scan_hex(c);
	if (hex < 0) {
		s->state = ST_BAD;
		return;
	}
	s->code = s->code << 4 | (uint32_t)hex;
	if (++s->escape < 6)
		return;
	s->escape = 0;
	if (scan_wants_text(s))
		scan_unicode(s, s->code);
}

/* p is one past the closing quote. */
static void scan_string_end(struct scan *s, const char *p)
{
	if (scan_wants_text(s))
		scan_flush_high(s);
	if (!s->in_key) {
		scan_end(s, SCAN_STRING, p);
		return;
	}
	s->state = ST_COLON;
	if (!s->quiet)
		s->ops->key(s->arg, (struct str){ s->key, s->key_long ? 0 : s->key_len });
}

static const char *scan_string(struct scan *s, const char *p, const char *end)
{
	const char *from = p;

	while (p < end) {
		const char *stop;

		if (s->escape) {
			scan_escape(s, *p++);
			if (s->state == ST_BAD)
				return p;
			continue;
		}
		stop = scan_find_quote(p, end);
		if (stop > p && scan_wants_text(s)) {
			scan_flush_high(s);
			scan_text(s, p, (size_t)(stop - p));
		}
		p = stop;
		if (p == end)
			break;
		if (*p++ == '"') {
			scan_count(s, from, p - 1, true);
			scan_string_end(s, p);
			return p;
		}
		s->escape = 1;
	}
	scan_count(s, from, p, false);
	return p;
}

static const char *scan_number(struct scan *s, const char *p, const char *end)
{
	while (p < end && IS_NUMBER(*p))
		p++;
	if (p < end)
		scan_end(s, SCAN_NUMBER, p);
	return p;
}

static const char *scan_word(struct scan *s, const char *p, const char *end)
{
	while (p < end && *s->word && *p == *s->word) {
		p++;
		s->word++;
	}
	if (!*s->word)
		scan_end(s, s->type, p);
	else if (p < end)
		s->state = ST_BAD;
	return p;
}

/* Only brackets count here; strings are stepped over because they may hold some. */
static const char *scan_deep(struct scan *s, const char *p, const char *end)
{
	for (; p < end; p++) {
		if (*p == '"') {
			s->state = ST_DEEP_STRING;
			s->escape = 0;
			return p + 1;
		}
		if (*p == '[' || *p == '{') {
			s->depth++;
		} else if ((*p == ']' || *p == '}') && --s->depth == SCAN_DEPTH_MAX) {
			s->state = ST_COMMA;
			return p + 1;
		}
	}
	return p;
}

static const char *scan_deep_string(struct scan *s, const char *p, const char *end)
{
	while (p < end) {
		if (s->escape) {
			s->escape = 0;
			p++;
			continue;
		}
		p = scan_find_quote(p, end);
		if (p == end)
			break;
		if (*p++ == '"') {
			s->state = ST_DEEP;
			break;
		}
		s->escape = 1;
	}
	return p;
}

static void scan_start_word(struct scan *s, char c, const char *p)
{
	static const char *const words[] = { "true", "false", "null", "NaN", "Infinity" };
	static const enum scan_type types[] = { SCAN_TRUE, SCAN_FALSE, SCAN_NULL, SCAN_NULL,
						SCAN_NULL };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (words[i][0] != c)
			continue;
		scan_begin(s, types[i], p);
		s->word = words[i] + 1;
		s->state = ST_WORD;
		return;
	}
	s->state = ST_BAD;
}

static const char *scan_start_value(struct scan *s, const char *p)
{
	switch (*p) {
	case '"':
		scan_begin(s, SCAN_STRING, p);
		scan_string_start(s, false);
		break;
	case '{':
		scan_open(s, SCAN_OBJECT, p);
		break;
	case '[':
		scan_open(s, SCAN_ARRAY, p);
		break;
	case '-':
	case '0' ... '9':
		scan_begin(s, SCAN_NUMBER, p);
		s->state = ST_NUMBER;
		break;
	default:
		scan_start_word(s, *p, p);
		break;
	}
	return p + 1;
}

/* One byte of punctuation; never white space. */
static const char *scan_structure(struct scan *s, const char *p)
{
	switch (s->state) {
	case ST_COMMA:
		if (*p == ',')
			s->state = s->types & 1 ? ST_KEY : ST_VALUE;
		else if (*p == '}')
			scan_close(s, SCAN_OBJECT, p, false);
		else if (*p == ']')
			scan_close(s, SCAN_ARRAY, p, false);
		else
			s->state = ST_BAD;
		return p + 1;
	case ST_COLON:
		s->state = *p == ':' ? ST_VALUE : ST_BAD;
		return p + 1;
	case ST_FIRST_KEY:
		if (*p == '}') {
			scan_close(s, SCAN_OBJECT, p, true);
			return p + 1;
		}
		/* fallthrough */
	case ST_KEY:
		if (*p == '"')
			scan_string_start(s, true);
		else
			s->state = ST_BAD;
		return p + 1;
	case ST_FIRST_VALUE:
		if (*p == ']') {
			scan_close(s, SCAN_ARRAY, p, true);
			return p + 1;
		}
		/* fallthrough */
	case ST_VALUE:
		return scan_start_value(s, p);
	default:
		s->state = ST_BAD;
		return p + 1;
	}
}

/* A byte order mark before the document, cut anywhere. */
static const char *scan_bom(struct scan *s, const char *p, const char *end)
{
	static const char bom[] = "\xef\xbb\xbf";

	while (s->bom < 3 && p < end && *p == bom[s->bom]) {
		p++;
		s->bom++;
	}
	if (p < end)
		s->bom = 3;
	return p;
}

bool scan_feed(struct scan *s, const void *data, size_t n)
{
	const char *p = data, *end;

	if (!n)
		return s->state != ST_BAD;
	end = p + n;
	s->piece = p;
	if (s->raw_on)
		s->raw = p;
	if (unlikely(s->bom < 3))
		p = scan_bom(s, p, end);
	while (p < end && s->state != ST_BAD) {
		switch (s->state) {
		case ST_STRING:
			p = scan_string(s, p, end);
			break;
		case ST_NUMBER:
			p = scan_number(s, p, end);
			break;
		case ST_WORD:
			p = scan_word(s, p, end);
			break;
		case ST_DEEP:
			p = scan_deep(s, p, end);
			break;
		case ST_DEEP_STRING:
			p = scan_deep_string(s, p, end);
			break;
		default:
			if (IS_SPACE(*p))
				p++;
			else
				p = scan_structure(s, p);
			break;
		}
	}
	if (s->raw_on && s->state != ST_BAD)
		scan_emit(s, s->raw, p);
	s->fed += n;
	s->piece = s->raw = NULL;
	return s->state != ST_BAD;
}

bool scan_finish(struct scan *s)
{
	if (s->state == ST_NUMBER && !s->depth) {
		s->piece = s->raw = "";
		scan_end(s, SCAN_NUMBER, s->piece);
	}
	return scan_done(s);
}
