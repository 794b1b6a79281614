/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message may be cut over records, and records over packets. Whole records are walked once, wherever the bytes are
 * cut; when the last one is there the message is read, from a copy without the records' heads if it has several.
 */
#include "gateway/client_hello.h"

#include "common/base.h"

#define RECORD_HEAD   5
#define RECORD_MAX    16384 /* RFC 8446, 5.1 */
#define MESSAGE_HEAD  4
#define CLIENT_HELLO  1
#define LABEL_MAX     63

enum {
	EXT_SERVER_NAME = 0,
	EXT_ALPN = 16,
	EXT_SUPPORTED_VERSIONS = 43,
	EXT_ECH = 0xfe0d,
};

static int bad(const char **ret_why, const char *why)
{
	*ret_why = why;
	return HELLO_BAD;
}

/* ------------------------------------------------------------------ cursors: false leaves them where they are */

static bool take_number(struct str *in, unsigned bytes, size_t *ret)
{
	size_t v = 0;

	if (in->n < bytes)
		return false;
	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | (unsigned char)in->s[i];
	*in = str_skip(*in, bytes);
	*ret = v;
	return true;
}

/* A vector: its length in `bytes` bytes, then as many bytes. */
static bool take_vector(struct str *in, unsigned bytes, struct str *ret)
{
	struct str at = *in;
	size_t n;

	if (!take_number(&at, bytes, &n) || at.n < n)
		return false;
	*ret = (struct str){ at.s, n };
	*in = str_skip(at, n);
	return true;
}

/* ------------------------------------------------------------------ names */

bool host_name_copy(struct str name, char ret[HOST_NAME_BYTES])
{
	size_t label = 0;

	if (name.n && name.s[name.n - 1] == '.')
		name.n--;
	if (!name.n || name.n > 253)
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.s[i];

		if (c == '.') {
			if (!label)
				return false;
			label = 0;
		} else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
			label++;
		} else if (c >= 'A' && c <= 'Z') {
			c = (char)(c - 'A' + 'a');
			label++;
		} else {
			return false;
		}
		if (label > LABEL_MAX)
			return false;
		ret[i] = c;
	}
	ret[name.n] = '\0';
	return label > 0;
}

/* ------------------------------------------------------------------ extensions */

static const char *read_server_name(struct str ext, struct client_hello *h)
{
	struct str list, name;
	size_t type = 0;

	/* RFC 6066, 3: one name of each type, and only one type was ever defined. */
	if (h->name[0])
		return "the hello names its server twice";
	if (!take_vector(&ext, 2, &list) || ext.n || !take_number(&list, 1, &type) || type != 0 ||
	    !take_vector(&list, 2, &name))
		return "the hello's server name is malformed";
	if (list.n)
		return "the hello names several servers";
	return host_name_copy(name, h->name) ? NULL : "the hello's server name is no host name";
}

static const char *read_alpn(struct str ext, struct client_hello *h)
{
	struct str list, word;

	if (h->alpn)
		return "the hello names its protocols twice";
	if (!take_vector(&ext, 2, &list) || ext.n || !list.n)
		return "the hello's list of protocols is malformed";
	h->alpn = true;
	while (list.n) {
		if (!take_vector(&list, 1, &word) || !word.n)
			return "the hello's list of protocols is malformed";
		h->alpn_http11 |= str_eq(word, STR("http/1.1"));
		h->alpn_h2 |= str_eq(word, STR("h2"));
	}
	return NULL;
}

static const char *read_versions(struct str ext, struct client_hello *h)
{
	struct str list;
	size_t version;

	if (!take_vector(&ext, 1, &list) || ext.n || !list.n || list.n % 2)
		return "the hello's list of versions is malformed";
	while (take_number(&list, 2, &version))
		if (version >> 8 == 3 && version > h->version) /* others are GREASE (RFC 8701) and drafts */
			h->version = (uint16_t)version;
	return NULL;
}

static const char *read_extensions(struct str list, struct client_hello *h)
{
	const char *why = NULL;
	struct str ext;
	size_t type;

	while (list.n && !why) {
		if (!take_number(&list, 2, &type) || !take_vector(&list, 2, &ext))
			return "the hello's extensions are malformed";
		switch (type) {
		case EXT_SERVER_NAME:
			why = read_server_name(ext, h);
			break;
		case EXT_ALPN:
			why = read_alpn(ext, h);
			break;
		case EXT_SUPPORTED_VERSIONS:
			why = read_versions(ext, h);
			break;
		case EXT_ECH:
			h->ech = true;
			break;
		default:
			break;
		}
	}
	return why;
}

static const char *read_message(struct str m, struct client_hello *h)
{
	struct str field;
	size_t version;

	if (!take_number(&m, 2, &version) || version >> 8 != 3 || m.n < 32)
		return "the hello is of no known version of TLS";
	h->version = (uint16_t)MIN(version, (size_t)0x0303);
	m = str_skip(m, 32); /* random */
	if (!take_vector(&m, 1, &field) || field.n > 32)
		return "the hello's session is malformed";
	if (!take_vector(&m, 2, &field) || !field.n || field.n % 2)
		return "the hello's ciphers are malformed";
	if (!take_vector(&m, 1, &field) || !field.n)
		return "the hello's compression is malformed";
	if (!m.n)
		return NULL;
	if (!take_vector(&m, 2, &field) || m.n)
		return "the hello's extensions are malformed";
	return read_extensions(field, h);
}

/* ------------------------------------------------------------------ records */

/* The message's bytes from record to record; `to` has room for the fragments up to `end`. */
static void join_records(struct str in, size_t end, char *to)
{
	for (size_t at = 0; at < end;) {
		size_t n = (size_t)(unsigned char)in.s[at + 3] << 8 | (unsigned char)in.s[at + 4];

		memcpy(to, in.s + at + RECORD_HEAD, n);
		to += n;
		at += RECORD_HEAD + n;
	}
}

static int read_whole_message(struct str in, struct client_hello *h, const char **ret_why)
{
	auto_free char *joined = NULL;
	struct str m = { in.s + RECORD_HEAD, h->have };

	if (h->have != h->next_record - RECORD_HEAD) {
		joined = calloc(1, h->have);
		if (!joined)
			return bad(ret_why, "there is no memory for the hello");
		join_records(in, h->next_record, joined);
		m.s = joined;
	}
	*ret_why = read_message(str_skip(m, MESSAGE_HEAD), h);
	return *ret_why ? HELLO_BAD : (int)h->next_record;
}

/* The number at the front of the message, which may be cut over records of a byte each. */
static size_t message_byte(struct str in, size_t i)
{
	for (size_t at = 0;;) {
		size_t n = (size_t)(unsigned char)in.s[at + 3] << 8 | (unsigned char)in.s[at + 4];

		if (i < n)
			return (unsigned char)in.s[at + RECORD_HEAD + i];
		i -= n;
		at += RECORD_HEAD + n;
	}
}

static int check_message(struct str in, struct client_hello *h, const char **ret_why)
{
	size_t want;

	if (message_byte(in, 0) != CLIENT_HELLO)
		return bad(ret_why, "the first message is no hello");
	if (h->have < MESSAGE_HEAD)
		return HELLO_MORE;
	want = MESSAGE_HEAD + (message_byte(in, 1) << 16 | message_byte(in, 2) << 8 | message_byte(in, 3));
	if (want > CLIENT_HELLO_MAX)
		return bad(ret_why, "the hello is too long");
	if (h->have > want)
		return bad(ret_why, "the hello is followed by more in the same record");
	return h->have == want ? read_whole_message(in, h, ret_why) : HELLO_MORE;
}

int client_hello_parse(struct str in, struct client_hello *h, const char **ret_why)
{
	while (h->next_record < in.n) {
		struct str at = str_skip(in, h->next_record);
		size_t type = 0, version, n;
		int done;

		if (!take_number(&at, 1, &type) || type != TLS_RECORD_HANDSHAKE)
			return bad(ret_why, "the hello is broken off by another record");
		if (!take_number(&at, 2, &version))
			break;
		if (version >> 8 != 3)
			return bad(ret_why, "the record is of no known version of TLS");
		if (!take_number(&at, 2, &n))
			break;
		if (!n || n > RECORD_MAX)
			return bad(ret_why, "the record's length is out of bounds");
		if (h->next_record + RECORD_HEAD + n > CLIENT_HELLO_MAX)
			break;
		if (at.n < n)
			break;
		h->next_record += RECORD_HEAD + n;
		h->have += n;
		done = check_message(in, h, ret_why);
		if (done)
			return done;
	}
	return in.n >= CLIENT_HELLO_MAX ? bad(ret_why, "the hello is too long") : HELLO_MORE;
}
