/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/http_msg.h"

#include "common/base.h"

/* Rationale: extensions and trailers are allowed and unused; these stop a sender who never ends one. */
#define CHUNK_LINE_MAX 4096
#define CHUNK_SIZE_DIGITS 15

/* tchar of RFC 9110 5.6.2. */
static const bool token_char[256] = {
	['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1,
	['-'] = 1, ['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1, ['~'] = 1,
	['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

static bool is_token(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!token_char[(unsigned char)s.s[i]])
			return false;
	return s.n > 0;
}

/* Field values: visible, space, tab and obs-text; no other controls (RFC 9110 5.5). */
static bool is_field_value(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.s[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static struct str trim(struct str s)
{
	while (s.n && (*s.s == ' ' || *s.s == '\t')) {
		s.s++;
		s.n--;
	}
	while (s.n && (s.s[s.n - 1] == ' ' || s.s[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* One line without its CRLF; false when there is none yet, or (*bad) a bare LF or CR. */
static bool line_next(struct str *in, struct str *ret, bool *bad)
{
	const char *lf = in->n ? memchr(in->s, '\n', in->n) : NULL;
	size_t n;

	if (!lf)
		return false;
	n = (size_t)(lf - in->s);
	if (!n || lf[-1] != '\r' || memchr(in->s, '\r', n - 1)) {
		*bad = true;
		return false;
	}
	*ret = (struct str){ in->s, n - 1 };
	*in = str_skip(*in, n + 1);
	return true;
}

struct str http_header_get(const struct http_head *head, const char *name)
{
	struct str want = str_of(name);

	for (unsigned i = 0; i < head->n_headers; i++)
		if (str_caseeq(head->headers[i].name, want))
			return head->headers[i].value;
	return STR_NULL;
}

bool http_list_has(struct str list, struct str word)
{
	while (list.n) {
		const char *comma = memchr(list.s, ',', list.n);
		size_t n = comma ? (size_t)(comma - list.s) : list.n;

		if (str_caseeq(trim((struct str){ list.s, n }), word))
			return true;
		list = str_skip(list, comma ? n + 1 : n);
	}
	return false;
}

static bool parse_length(struct str value, uint64_t *ret)
{
	uint64_t v = 0;

	if (!value.n || value.n > 18)
		return false;
	for (size_t i = 0; i < value.n; i++) {
		if (value.s[i] < '0' || value.s[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(value.s[i] - '0');
	}
	*ret = v;
	return true;
}

/* What the fields say of framing and of the connection; false with a reason when they contradict. */
struct framing {
	bool has_length, has_coding, has_close, has_keep_alive;
	unsigned n_host;
};

static const char *field_apply(struct http_head *h, struct framing *f, struct str name, struct str value)
{
	if (str_caseeq(name, STR("content-length"))) {
		if (f->has_length)
			return "two content-length fields";
		f->has_length = true;
		if (!parse_length(value, &h->length))
			return "content-length is not a number";
	} else if (str_caseeq(name, STR("transfer-encoding"))) {
		if (f->has_coding || !str_caseeq(value, STR("chunked")))
			return "transfer-encoding is not exactly chunked";
		f->has_coding = true;
	} else if (str_caseeq(name, STR("connection"))) {
		f->has_close |= http_list_has(value, STR("close"));
		f->has_keep_alive |= http_list_has(value, STR("keep-alive"));
		h->upgrade |= http_list_has(value, STR("upgrade"));
	} else if (str_caseeq(name, STR("host"))) {
		f->n_host++;
	} else if (str_caseeq(name, STR("expect"))) {
		h->expect_continue = str_caseeq(value, STR("100-continue"));
	}
	return NULL;
}

/* Fields up to and with the blank line. 1, HTTP_MORE or HTTP_BAD. */
static int fields_parse(struct str *in, struct http_head *h, struct framing *f, const char **why)
{
	bool bad = false;
	struct str line;

	while (line_next(in, &line, &bad)) {
		const char *colon;
		struct str name, value;

		if (!line.n)
			return 1;
		if (h->n_headers == HTTP_HEADERS_MAX) {
			*why = "too many header fields";
			return HTTP_BAD;
		}
		colon = memchr(line.s, ':', line.n);
		name = (struct str){ line.s, colon ? (size_t)(colon - line.s) : 0 };
		if (!is_token(name)) {
			*why = line.s[0] == ' ' || line.s[0] == '\t' ? "folded header field" :
								       "malformed header field name";
			return HTTP_BAD;
		}
		value = trim(str_skip(line, name.n + 1));
		if (!is_field_value(value)) {
			*why = "control byte in a header field";
			return HTTP_BAD;
		}
		h->headers[h->n_headers++] = (struct http_header){ name, value };
		*why = field_apply(h, f, name, value);
		if (*why)
			return HTTP_BAD;
	}
	if (bad)
		*why = "bare LF or CR in the head";
	return bad ? HTTP_BAD : HTTP_MORE;
}

static bool parse_version(struct str v, int *ret_minor)
{
	if (v.n != 8 || memcmp(v.s, "HTTP/1.", 7) || (v.s[7] != '0' && v.s[7] != '1'))
		return false;
	*ret_minor = v.s[7] - '0';
	return true;
}

static const char *request_line_parse(struct str line, struct http_head *h)
{
	const char *sp = memchr(line.s, ' ', line.n);
	const char *sp2 = sp ? memchr(sp + 1, ' ', line.n - (size_t)(sp + 1 - line.s)) : NULL;

	if (!sp2)
		return "malformed request line";
	h->method = (struct str){ line.s, (size_t)(sp - line.s) };
	h->target = (struct str){ sp + 1, (size_t)(sp2 - sp - 1) };
	if (!is_token(h->method) || h->method.n > 24)
		return "malformed method";
	if (!parse_version((struct str){ sp2 + 1, line.n - (size_t)(sp2 + 1 - line.s) }, &h->minor))
		return "not HTTP/1.0 or HTTP/1.1";
	for (size_t i = 0; i < h->target.n; i++)
		if ((unsigned char)h->target.s[i] <= 0x20 || (unsigned char)h->target.s[i] >= 0x7f)
			return "control or non-ASCII byte in the request target";
	if (str_eq(h->target, STR("*")))
		return str_eq(h->method, STR("OPTIONS")) ? NULL : "asterisk target";
	if (!h->target.n || h->target.s[0] != '/' || memchr(h->target.s, '#', h->target.n))
		return "the request target is not a path";
	return NULL;
}

int http_parse_request(struct str in, struct http_head *ret, const char **ret_why)
{
	struct str rest = in, line;
	struct framing f = { 0 };
	bool bad = false;
	int n;

	ret->n_headers = 0;
	ret->length = 0;
	ret->expect_continue = ret->upgrade = false;
	/* RFC 9112 2.2: one empty line before the request line is forgiven. */
	if (rest.n >= 2 && rest.s[0] == '\r' && rest.s[1] == '\n')
		rest = str_skip(rest, 2);
	if (!line_next(&rest, &line, &bad)) {
		*ret_why = bad ? "bare LF or CR in the request line" : "the head is too long";
		return bad || in.n >= HTTP_HEAD_MAX ? HTTP_BAD : HTTP_MORE;
	}
	*ret_why = request_line_parse(line, ret);
	if (*ret_why)
		return HTTP_BAD;
	n = fields_parse(&rest, ret, &f, ret_why);
	if (n == HTTP_MORE && in.n >= HTTP_HEAD_MAX) {
		*ret_why = "the head is too long";
		return HTTP_BAD;
	}
	if (n <= 0)
		return n;
	*ret_why = f.has_length && f.has_coding		       ? "both content-length and transfer-encoding" :
		   f.has_coding && ret->minor == 0	       ? "transfer-encoding in HTTP/1.0" :
		   f.n_host > 1 || (ret->minor && !f.n_host) ? "not exactly one Host field" :
							       NULL;
	if (*ret_why)
		return HTTP_BAD;
	ret->body = f.has_coding			? HTTP_BODY_CHUNKED :
		    f.has_length && ret->length ? HTTP_BODY_LENGTH :
						  HTTP_BODY_NONE;
	ret->keep_alive = !f.has_close && (ret->minor || f.has_keep_alive);
	return (int)(rest.s - in.s);
}

static const char *status_line_parse(struct str line, struct http_head *h)
{
	int status = 0;

	if (line.n < 12 || line.s[8] != ' ' ||
	    !parse_version((struct str){ line.s, 8 }, &h->minor) ||
	    (line.n > 12 && line.s[12] != ' '))
		return "malformed status line";
	for (int i = 9; i < 12; i++) {
		if (line.s[i] < '0' || line.s[i] > '9')
			return "malformed status code";
		status = status * 10 + (line.s[i] - '0');
	}
	h->status = status;
	return status >= 100 ? NULL : "malformed status code";
}

int http_parse_response(struct str in, bool to_head, struct http_head *ret, const char **ret_why)
{
	struct str rest = in, line;
	struct framing f = { 0 };
	bool bad = false;
	int n;

	ret->n_headers = 0;
	ret->length = 0;
	ret->expect_continue = ret->upgrade = false;
	if (!line_next(&rest, &line, &bad)) {
		*ret_why = bad ? "bare LF or CR in the status line" : "the head is too long";
		return bad || in.n >= HTTP_HEAD_MAX ? HTTP_BAD : HTTP_MORE;
	}
	*ret_why = status_line_parse(line, ret);
	if (*ret_why)
		return HTTP_BAD;
	n = fields_parse(&rest, ret, &f, ret_why);
	if (n == HTTP_MORE && in.n >= HTTP_HEAD_MAX) {
		*ret_why = "the head is too long";
		return HTTP_BAD;
	}
	if (n <= 0)
		return n;
	if (f.has_length && f.has_coding) {
		*ret_why = "both content-length and transfer-encoding";
		return HTTP_BAD;
	}
	/* RFC 9112 6.3: these never have a body. */
	if (to_head || ret->status < 200 || ret->status == 204 || ret->status == 304)
		ret->body = HTTP_BODY_NONE;
	else if (f.has_coding)
		ret->body = HTTP_BODY_CHUNKED;
	else if (f.has_length)
		ret->body = ret->length ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
	else
		ret->body = HTTP_BODY_EOF;
	ret->keep_alive = ret->body != HTTP_BODY_EOF && !f.has_close &&
			  (ret->minor || f.has_keep_alive);
	return (int)(rest.s - in.s);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 :
				      -1;
}

/* One byte of framing; false: malformed. */
static bool chunked_byte(struct http_chunked *k, char c)
{
	int digit;

	switch (k->state) {
	case CHUNK_SIZE:
		digit = hex_digit(c);
		if (digit >= 0) {
			k->left = k->left << 4 | (unsigned)digit;
			return ++k->digits <= CHUNK_SIZE_DIGITS;
		}
		k->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXT;
		k->line = 0;
		return k->digits && (c == '\r' || c == ';' || c == ' ' || c == '\t');
	case CHUNK_EXT:
		if (c == '\r')
			k->state = CHUNK_SIZE_LF;
		return c != '\n' && ++k->line <= CHUNK_LINE_MAX;
	case CHUNK_SIZE_LF:
		k->state = k->left ? CHUNK_DATA : CHUNK_TRAILER;
		k->digits = k->line = 0;
		return c == '\n';
	case CHUNK_DATA_CR:
		k->state = CHUNK_DATA_LF;
		return c == '\r';
	case CHUNK_DATA_LF:
		k->state = CHUNK_SIZE;
		return c == '\n';
	case CHUNK_TRAILER:
		k->state = c == '\r' ? CHUNK_END_LF : CHUNK_TRAILER_FIELD;
		return c != '\n';
	case CHUNK_TRAILER_FIELD:
		if (c == '\r')
			k->state = CHUNK_TRAILER_LF;
		return c != '\n' && ++k->line <= CHUNK_LINE_MAX;
	case CHUNK_TRAILER_LF:
		k->state = CHUNK_TRAILER;
		return c == '\n';
	case CHUNK_END_LF:
		k->state = CHUNK_DONE;
		return c == '\n';
	case CHUNK_DATA:
	case CHUNK_DONE:
		break;
	}
	return false;
}

enum http_piece http_chunked_next(struct http_chunked *k, struct str *in, struct str *ret)
{
	while (k->state != CHUNK_DONE) {
		if (!in->n)
			return PIECE_MORE;
		if (k->state == CHUNK_DATA) {
			*ret = (struct str){ in->s, MIN((uint64_t)in->n, k->left) };
			k->left -= ret->n;
			*in = str_skip(*in, ret->n);
			if (!k->left)
				k->state = CHUNK_DATA_CR;
			return PIECE_DATA;
		}
		if (!chunked_byte(k, in->s[0]))
			return PIECE_BAD;
		*in = str_skip(*in, 1);
	}
	return PIECE_END;
}
