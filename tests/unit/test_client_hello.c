/* SPDX-License-Identifier: Apache-2.0 */
/* ClientHellos: of real clients (tests/fixtures/hello), cut at every byte and over records, and hand-made bad ones. */
#include "gateway/client_hello.h"

#include "tests/unit/test.h"

static char hello[CLIENT_HELLO_MAX + 1024];
static size_t hello_len;

static void load(const char *name)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "tests/fixtures/hello/%s", name);
	f = fopen(path, "rb");
	hello_len = f ? fread(hello, 1, sizeof(hello), f) : 0;
	if (f)
		fclose(f);
	CHECK(hello_len > 0);
}

static int parse(struct client_hello *h, size_t n)
{
	const char *why = NULL;
	int got = client_hello_parse((struct str){ hello, n }, h, &why);

	CHECK(got != HELLO_BAD || why);
	return got;
}

static void real_clients(void)
{
	static const struct {
		const char *file, *name;
		unsigned version;
		bool alpn, http11, h2;
	} cases[] = {
		{ "openssl12", "api.example.com", 0x0303, false, false, false },
		{ "openssl13", "api.example.com", 0x0304, true, true, true },
		{ "curl", "api.example.com", 0x0304, true, true, true },
		{ "node", "api.example.com", 0x0304, true, true, false },
		{ "go", "api.example.com", 0x0304, true, true, true },
		{ "python", "api.example.com", 0x0304, false, false, false },
		{ "nosni", "", 0x0304, false, false, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct client_hello once = { 0 }, cut = { 0 };

		load(cases[i].file);
		CHECK_INT(parse(&once, hello_len), hello_len);
		CHECK_STR(once.name, cases[i].name);
		CHECK_INT(once.version, cases[i].version);
		CHECK(once.alpn == cases[i].alpn && once.alpn_http11 == cases[i].http11 && once.alpn_h2 == cases[i].h2);
		CHECK(!once.ech);
		/* Byte by byte, with one struct: more until the last one. */
		for (size_t n = 0; n < hello_len; n++)
			CHECK_INT(parse(&cut, n), HELLO_MORE);
		CHECK_INT(parse(&cut, hello_len), hello_len);
		CHECK(memcmp(&once, &cut, sizeof(once)) == 0);
	}
}

/* The same message in records of `piece` bytes each. */
static void split_records(size_t piece)
{
	static char whole[sizeof(hello)];
	size_t n = hello_len - 5, out = 0;

	memcpy(whole, hello + 5, n);
	for (size_t at = 0; at < n; at += piece) {
		size_t take = MIN(piece, n - at);

		memcpy(hello + out, "\x16\x03\x01", 3);
		hello[out + 3] = (char)(take >> 8);
		hello[out + 4] = (char)take;
		memcpy(hello + out + 5, whole + at, take);
		out += 5 + take;
	}
	hello_len = out;
}

static void over_records(void)
{
	static const size_t pieces[] = { 1, 2, 3, 4, 5, 100, 1000 };

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		struct client_hello h = { 0 };

		load("go");
		split_records(pieces[i]);
		for (size_t n = 0; n < hello_len; n += 7)
			CHECK_INT(parse(&h, n), HELLO_MORE);
		CHECK_INT(parse(&h, hello_len), hello_len);
		CHECK_STR(h.name, "api.example.com");
		CHECK_INT(h.version, 0x0304);
		/* What follows is not of it. */
		memcpy(hello + hello_len, "\x14\x03\x03", 3);
		h = (struct client_hello){ 0 };
		CHECK_INT(parse(&h, hello_len + 3), hello_len);
	}
}

/* ------------------------------------------------------------------ hand-made */

static void put(const void *bytes, size_t n)
{
	memcpy(hello + hello_len, bytes, n);
	hello_len += n;
}

static void put_number(size_t v, unsigned bytes)
{
	while (bytes--)
		hello[hello_len++] = (char)(v >> (8 * bytes));
}

static void extension(unsigned type, const void *data, size_t n)
{
	put_number(type, 2);
	put_number(n, 2);
	put(data, n);
}

static void server_name(const char *name, size_t n)
{
	put_number(0, 2);
	put_number(n + 5, 2);
	put_number(n + 3, 2);
	put_number(0, 1);
	put_number(n, 2);
	put(name, n);
}

static size_t extensions_at;

static void begin(void)
{
	hello_len = 9;
	put_number(0x0303, 2);
	memset(hello + hello_len, 7, 32);
	hello_len += 32;
	put_number(0, 1);
	put_number(2, 2);
	put_number(0x1301, 2);
	put_number(1, 1);
	put_number(0, 1);
	extensions_at = hello_len;
	put_number(0, 2);
}

static const char *end(struct client_hello *h)
{
	size_t ext = hello_len - extensions_at - 2, message = hello_len - 9, was = hello_len;
	const char *why = "";

	hello_len = extensions_at;
	put_number(ext, 2);
	hello_len = 0;
	put("\x16\x03\x01", 3);
	put_number(message + 4, 2);
	put_number(1, 1);
	put_number(message, 3);
	hello_len = was;
	*h = (struct client_hello){ 0 };
	return client_hello_parse((struct str){ hello, hello_len }, h, &why) == HELLO_BAD ? why : "";
}

static void names(void)
{
	static const struct {
		const char *sent;
		size_t n;
		const char *name; /* NULL: refused */
	} cases[] = {
		{ "api.example.com", 15, "api.example.com" },
		{ "API.Example.COM.", 16, "api.example.com" },
		{ "a_b-c.x", 7, "a_b-c.x" },
		{ "localhost", 9, "localhost" },
		{ "api.example.com..", 17, NULL },
		{ ".example.com", 12, NULL },
		{ "a..b", 4, NULL },
		{ ".", 1, NULL },
		{ "", 0, NULL },
		{ "api.example.com\0.evil.test", 26, NULL },
		{ "api example.com", 15, NULL },
		{ "*.example.com", 13, NULL },
		{ "[::1]", 5, NULL },
		{ "\xc3\xa4.example", 10, NULL },
	};
	char label[70];
	struct client_hello h;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		begin();
		server_name(cases[i].sent, cases[i].n);
		CHECK_STR(end(&h), cases[i].name ? "" :
						   "the hello's server name is no host name");
		if (cases[i].name)
			CHECK_STR(h.name, cases[i].name);
	}
	memset(label, 'a', sizeof(label));
	begin();
	server_name(label, 63);
	CHECK_STR(end(&h), "");
	begin();
	server_name(label, 64);
	CHECK_STR(end(&h), "the hello's server name is no host name");
}

static void bad_extensions(void)
{
	struct client_hello h;

	begin();
	server_name("a.test", 6);
	server_name("a.test", 6);
	CHECK_STR(end(&h), "the hello names its server twice");
	begin();
	extension(0, "\x00\x0c\x00\x00\x03" "a.b\x00\x00\x03" "c.d", 14);
	CHECK_STR(end(&h), "the hello names several servers");
	begin();
	extension(0, "\x00\x06\x01\x00\x03" "a.b", 8);
	CHECK_STR(end(&h), "the hello's server name is malformed");
	begin();
	extension(0, "\x00\x06\x00\x00\x03" "a.b!", 9);
	CHECK_STR(end(&h), "the hello's server name is malformed");
	begin();
	extension(16, "\x00\x03\x02h2", 5);
	extension(16, "\x00\x03\x02h2", 5);
	CHECK_STR(end(&h), "the hello names its protocols twice");
	begin();
	extension(16, "\x00\x03\x03h2", 5);
	CHECK_STR(end(&h), "the hello's list of protocols is malformed");
	begin();
	extension(43, "\x03\x03\x04\x03", 4);
	CHECK_STR(end(&h), "the hello's list of versions is malformed");
	begin();
	put_number(5, 2);
	put_number(9, 2);
	CHECK_STR(end(&h), "the hello's extensions are malformed");
}

static void ech_and_versions(void)
{
	struct client_hello h;

	begin();
	server_name("cover.test", 10);
	extension(0xfe0d, "", 0);
	extension(43, "\x06\x9a\x9a\x03\x04\x03\x03", 7);
	CHECK_STR(end(&h), "");
	CHECK(h.ech && h.version == 0x0304);
	CHECK_STR(h.name, "cover.test");
	begin();
	CHECK_STR(end(&h), "");
	CHECK(!h.ech && h.version == 0x0303 && !h.name[0]);
}

static int raw(const char *bytes, size_t n)
{
	struct client_hello h = { 0 };

	memcpy(hello, bytes, n);
	return parse(&h, n);
}

static void bad_records(void)
{
	struct client_hello h = { 0 };

	CHECK_INT(raw("GET / HTTP/1.1\r\n", 16), HELLO_BAD);
	CHECK_INT(raw("\x16\x02", 2), HELLO_MORE);
	CHECK_INT(raw("\x16\x02\x00", 3), HELLO_BAD);
	CHECK_INT(raw("\x16\x03\x01\x00\x00", 5), HELLO_BAD);
	CHECK_INT(raw("\x16\x03\x01\x40\x01", 5), HELLO_BAD);
	/* Not a hello, in the very first byte of the message. */
	CHECK_INT(raw("\x16\x03\x01\x00\x01\x02", 6), HELLO_BAD);
	/* A hello that is said to be 16 MiB. */
	CHECK_INT(raw("\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9), HELLO_BAD);
	/* Another record in the middle of it. */
	CHECK_INT(raw("\x16\x03\x01\x00\x04\x01\x00\x00\x30\x15", 10), HELLO_BAD);
	/* More in the record than the message. */
	load("curl");
	hello[8] = (char)(hello[8] - 1);
	CHECK_INT(parse(&h, hello_len), HELLO_BAD);
	/* Never ending: refused at the bound. */
	memset(hello, 0, sizeof(hello));
	memcpy(hello, "\x16\x03\x01\x40\x00\x01\x00\xff\xf0", 9);
	h = (struct client_hello){ 0 };
	memcpy(hello + 16389, "\x16\x03\x01\x40\x00", 5);
	memcpy(hello + 2 * 16389, "\x16\x03\x01\x40\x00", 5);
	memcpy(hello + 3 * 16389, "\x16\x03\x01\x40\x00", 5);
	CHECK_INT(parse(&h, CLIENT_HELLO_MAX - 1), HELLO_MORE);
	CHECK_INT(parse(&h, CLIENT_HELLO_MAX), HELLO_BAD);
}

TESTS(T(real_clients), T(over_records), T(names), T(bad_extensions), T(ech_and_versions), T(bad_records))
