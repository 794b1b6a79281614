/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/decode.h"

#include <errno.h>
#include <zlib.h>
#include <zstd.h>

#include "common/buf.h"
#include "tests/unit/test.h"

static void sink(void *arg, const void *data, size_t n)
{
	CHECK_INT(buf_append(arg, data, n), 0);
}

static void count(void *arg, const void *data, size_t n)
{
	(void)data;
	*(uint64_t *)arg += n;
}

/* Window bits as of deflateInit2(). Returns the length. */
static size_t deflate_all(const void *in, size_t n, void *out, size_t size, int bits)
{
	z_stream z = { 0 };

	deflateInit2(&z, 6, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY);
	z.next_in = (unsigned char *)(uintptr_t)in;
	z.avail_in = (unsigned)n;
	z.next_out = out;
	z.avail_out = (unsigned)size;
	deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return size - z.avail_out;
}

static void fill(char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		text[i] = (char)('a' + (i * 7 + i / 13 + i / 101) % 26);
}

static void check(enum coding coding, const void *coded, size_t n, struct str want)
{
	static const size_t pieces[] = { 1, 2, 3, 7, 100, 1000000 };

	for (size_t p = 0; p < ARRAY_SIZE(pieces); p++) {
		struct decoder *d = decoder_new(coding, 0, 0);
		struct buf out;
		int err = 0;

		buf_init(&out, 1 << 24);
		CHECK(d != NULL);
		for (size_t i = 0; i < n && !err; i += pieces[p]) {
			if (coding != CODING_IDENTITY && i + pieces[p] < n)
				CHECK(!decoder_done(d));
			err = decoder_feed(d, (const char *)coded + i, MIN(pieces[p], n - i), sink,
					   &out);
		}
		CHECK_INT(err, 0);
		CHECK(decoder_done(d));
		CHECK(str_eq(buf_str(&out), want));
		buf_fini(&out);
		decoder_free(d);
	}
}

/* "hello, hello, brotli" as the brotli tool writes it. */
static const unsigned char brotli_hello[] = {
	0x8b, 0x09, 0x80, 'h', 'e', 'l', 'l', 'o', ',', ' ', 'h', 'e',
	'l',  'l',  'o',  ',', ' ', 'b', 'r', 'o', 't', 'l', 'i', 0x03,
};

static void round_trips(void)
{
	static char text[200000], coded[300000];
	struct str want = { text, sizeof(text) };

	fill(text, sizeof(text));
	check(CODING_IDENTITY, text, sizeof(text), want);
	check(CODING_GZIP, coded, deflate_all(text, sizeof(text), coded, sizeof(coded), 31), want);
	check(CODING_DEFLATE, coded, deflate_all(text, sizeof(text), coded, sizeof(coded), 15),
	      want);
	check(CODING_DEFLATE, coded, deflate_all(text, sizeof(text), coded, sizeof(coded), -15),
	      want);
	check(CODING_ZSTD, coded, ZSTD_compress(coded, sizeof(coded), text, sizeof(text), 3), want);
	check(CODING_BR, brotli_hello, sizeof(brotli_hello), STR("hello, hello, brotli"));
}

static void a_gzip_body_may_have_several_members(void)
{
	char coded[256];
	size_t n = deflate_all("one ", 4, coded, sizeof(coded), 31);

	n += deflate_all("two", 3, coded + n, sizeof(coded) - n, 31);
	for (size_t cut = 1; cut < n; cut++) {
		struct decoder *d = decoder_new(CODING_GZIP, 0, 0);
		struct buf out;

		buf_init(&out, 64);
		CHECK_INT(decoder_feed(d, coded, cut, sink, &out), 0);
		CHECK_INT(decoder_feed(d, coded + cut, n - cut, sink, &out), 0);
		CHECK(decoder_done(d));
		CHECK(str_eq(buf_str(&out), STR("one two")));
		buf_fini(&out);
		decoder_free(d);
	}
}

static void events_come_out_as_they_come_in(void)
{
	z_stream z = { 0 };
	struct decoder *d = decoder_new(CODING_GZIP, 0, 0);
	struct buf out;
	char coded[256];

	buf_init(&out, 256);
	deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
	for (int i = 0; i < 3; i++) {
		z.next_in = (unsigned char *)(uintptr_t) "data: x\n\n";
		z.avail_in = 9;
		z.next_out = (unsigned char *)coded;
		z.avail_out = sizeof(coded);
		deflate(&z, Z_SYNC_FLUSH);
		CHECK_INT(decoder_feed(d, coded, sizeof(coded) - z.avail_out, sink, &out), 0);
		CHECK_INT(buf_len(&out), 9 * (i + 1));
	}
	CHECK(!decoder_done(d));
	deflateEnd(&z);
	decoder_free(d);
	buf_fini(&out);
}

static void bombs_are_refused(void)
{
	static char zeros[1 << 20];
	static char coded[1 << 16];
	enum coding codings[] = { CODING_GZIP, CODING_ZSTD };

	for (size_t c = 0; c < ARRAY_SIZE(codings); c++) {
		size_t n = codings[c] == CODING_GZIP
				   ? deflate_all(zeros, sizeof(zeros), coded, sizeof(coded), 31)
				   : ZSTD_compress(coded, sizeof(coded), zeros, sizeof(zeros), 3);
		struct decoder *d = decoder_new(codings[c], 100000, 0);
		uint64_t out = 0;

		CHECK_INT(decoder_feed(d, coded, n, count, &out), -EFBIG);
		CHECK(out <= 100000);
		CHECK_INT(decoder_feed(d, coded, n, count, &out), -EBADMSG);
		decoder_free(d);
		/* A MiB of zeros is below the point from which the ratio counts; two are not. */
		d = decoder_new(codings[c], 0, 20);
		out = 0;
		CHECK_INT(decoder_feed(d, coded, n, count, &out), 0);
		CHECK_INT(decoder_feed(d, coded, n, count, &out), -EFBIG);
		CHECK(out <= sizeof(zeros) + (1 << 16));
		decoder_free(d);
	}
}

static void garbage_and_truncation(void)
{
	enum coding codings[] = { CODING_GZIP, CODING_ZSTD, CODING_BR };
	char coded[256];
	uint64_t out = 0;
	size_t n = deflate_all("hello hello", 11, coded, sizeof(coded), 31);
	struct decoder *d = decoder_new(CODING_GZIP, 0, 0);

	CHECK_INT(decoder_feed(d, coded, n - 1, count, &out), 0);
	CHECK_INT(out, 11);
	CHECK(!decoder_done(d));
	decoder_free(d);
	for (size_t c = 0; c < ARRAY_SIZE(codings); c++) {
		d = decoder_new(codings[c], 0, 0);
		CHECK_INT(decoder_feed(d, "\xff\xff\xff\xff{\"a\":1}xxxxxxxxxxxx", 23, count, &out),
			  -EBADMSG);
		decoder_free(d);
	}
	CHECK(decoder_new(CODING_UNKNOWN, 0, 0) == NULL);
	decoder_free(NULL);
}

static void header_values(void)
{
	static const struct {
		const char *value;
		enum coding coding;
	} cases[] = {
		{ "gzip", CODING_GZIP },	 { " GZip ", CODING_GZIP },
		{ "x-gzip", CODING_GZIP },	 { "deflate", CODING_DEFLATE },
		{ "zstd", CODING_ZSTD },	 { "br", CODING_BR },
		{ "identity", CODING_IDENTITY }, { "", CODING_IDENTITY },
		{ "gzip, br", CODING_UNKNOWN },	 { "compress", CODING_UNKNOWN },
		{ "dcb", CODING_UNKNOWN },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CHECK_INT(coding_parse(str_of(cases[i].value)), cases[i].coding);
}

static void offers_are_reduced(void)
{
	static const struct {
		const char *offer, *accept;
	} cases[] = {
		{ "gzip, deflate, br, zstd", "gzip, deflate, br, zstd" },
		{ "gzip;q=0.5, dcb, br; q=1.0,*", "gzip;q=0.5, br; q=1.0" },
		{ "br;q=0, gzip;q=0.0,zstd", "zstd" },
		{ "compress", "identity" },
		{ "", "identity" },
		{ " , ,", "identity" },
	};
	char out[64], tiny[10];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		coding_accept(str_of(cases[i].offer), out, sizeof(out));
		CHECK_STR(out, cases[i].accept);
	}
	coding_accept(STR("gzip, deflate"), tiny, sizeof(tiny));
	CHECK_STR(tiny, "gzip");
}

TESTS(T(round_trips), T(a_gzip_body_may_have_several_members), T(events_come_out_as_they_come_in),
      T(bombs_are_refused), T(garbage_and_truncation), T(header_values), T(offers_are_reduced))
