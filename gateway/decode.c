/* SPDX-License-Identifier: Apache-2.0 */
/* One streaming decoder over zlib, libzstd and libbrotlidec, with one bound on what comes out. */
#include "gateway/decode.h"

#include <brotli/decode.h>
#include <errno.h>
#include <zlib.h>
#include <zstd.h>

#include "common/base.h"

/* Rationale: a few TLS records; larger brings nothing. */
#define OUT_BYTES 32768
/* Below this much output no ratio is suspicious: a small answer may well be one long run of spaces.
 */
#define RATIO_FREE (1u << 20)
/* Rationale: 8 MiB, the largest window RFC 8878 asks for; RFC 7932 has 16 MiB at most, without
 * large windows. */
#define ZSTD_WINDOW_LOG 23

struct decoder {
	enum coding coding;
	uint64_t max_out, in, out;
	unsigned max_ratio;
	bool done, failed;
	bool padding;	    /* what follows the last gzip member is none */
	bool zlib_open;	    /* z needs inflateEnd() */
	bool deflate_known; /* zlib or raw has been told apart */
	unsigned char first[2];
	unsigned n_first;
	z_stream z;
	ZSTD_DStream *zstd;
	BrotliDecoderState *br;
	unsigned char buf[OUT_BYTES];
};

static const struct {
	const char *name;
	enum coding coding;
} names[] = {
	{ "gzip", CODING_GZIP }, { "x-gzip", CODING_GZIP }, { "deflate", CODING_DEFLATE },
	{ "zstd", CODING_ZSTD }, { "br", CODING_BR },	    { "identity", CODING_IDENTITY },
};

static struct str trim(struct str s)
{
	while (s.n && (*s.s == ' ' || *s.s == '\t'))
		s = str_skip(s, 1);
	while (s.n && (s.s[s.n - 1] == ' ' || s.s[s.n - 1] == '\t'))
		s.n--;
	return s;
}

enum coding coding_parse(struct str value)
{
	value = trim(value);
	if (!value.n)
		return CODING_IDENTITY;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_caseeq(value, str_of(names[i].name)))
			return names[i].coding;
	return CODING_UNKNOWN;
}

/* Takes the next element off a comma list. */
static bool list_next(struct str *list, struct str *ret)
{
	const char *comma = list->n ? memchr(list->s, ',', list->n) : NULL;

	if (!list->n)
		return false;
	ret->s = list->s;
	ret->n = comma ? (size_t)(comma - list->s) : list->n;
	*list = str_skip(*list, comma ? ret->n + 1 : ret->n);
	*ret = trim(*ret);
	return true;
}

/* "q=0", "q=0.000": not wanted. */
static bool weight_is_zero(struct str params)
{
	const char *q = str_find(params, STR("q="));
	struct str w;

	if (!q)
		return false;
	w = (struct str){ q + 2, (size_t)(params.s + params.n - q - 2) };
	for (size_t i = 0; i < w.n; i++)
		if (w.s[i] >= '1' && w.s[i] <= '9')
			return false;
	return true;
}

void coding_accept(struct str client_offer, char *ret, size_t size)
{
	struct str item, rest = client_offer;
	size_t used = 0;

	ret[0] = '\0';
	while (list_next(&rest, &item)) {
		const char *semi = item.n ? memchr(item.s, ';', item.n) : NULL;
		struct str name = { item.s, semi ? (size_t)(semi - item.s) : item.n };
		enum coding coding;
		int n;

		name = trim(name);
		coding = name.n ? coding_parse(name) : CODING_UNKNOWN;
		if (coding == CODING_UNKNOWN || coding == CODING_IDENTITY ||
		    weight_is_zero((struct str){ name.s + name.n, item.n - name.n }))
			continue;
		n = snprintf(ret + used, size - used, "%s%.*s", used ? ", " : "", STR_ARG(item));
		if (n < 0 || (size_t)n >= size - used) {
			ret[used] = '\0';
			break;
		}
		used += (size_t)n;
	}
	if (!used)
		str_copy(ret, size, STR("identity"));
}

/* Window bits of inflateInit2(): 31 gzip, 15 zlib, -15 raw. */
static bool decoder_zlib_init(struct decoder *d, int bits)
{
	d->zlib_open = inflateInit2(&d->z, bits) == Z_OK;
	return d->zlib_open;
}

static bool decoder_init(struct decoder *d)
{
	switch (d->coding) {
	case CODING_GZIP:
		return decoder_zlib_init(d, 31);
	case CODING_ZSTD:
		d->zstd = ZSTD_createDStream();
		return d->zstd && !ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax,
								       ZSTD_WINDOW_LOG));
	case CODING_BR:
		d->br = BrotliDecoderCreateInstance(NULL, NULL, NULL);
		return d->br != NULL;
	default:
		return true;
	}
}

struct decoder *decoder_new(enum coding coding, uint64_t max_out, unsigned max_ratio)
{
	struct decoder *d;

	if (coding == CODING_UNKNOWN)
		return NULL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->coding = coding;
	d->max_out = max_out;
	d->max_ratio = max_ratio;
	if (!decoder_init(d)) {
		decoder_free(d);
		return NULL;
	}
	return d;
}

void decoder_free(struct decoder *d)
{
	if (!d)
		return;
	if (d->zlib_open)
		inflateEnd(&d->z);
	ZSTD_freeDStream(d->zstd);
	if (d->br)
		BrotliDecoderDestroyInstance(d->br);
	free(d);
}

bool decoder_done(const struct decoder *d)
{
	return d->done || d->coding == CODING_IDENTITY;
}

/* Hands n decoded bytes on unless they break a bound. */
static int decoder_put(struct decoder *d, const void *data, size_t n, decode_sink_fn sink,
		       void *arg)
{
	d->out += n;
	if (d->max_out && d->out > d->max_out)
		return -EFBIG;
	if (d->max_ratio && d->out > RATIO_FREE && d->out / d->max_ratio > d->in)
		return -EFBIG;
	if (n)
		sink(arg, data, n);
	return 0;
}

/*
 * "deflate" is zlib by the standard and raw by some servers' habit: the first two bytes tell (RFC
 * 1950: the method is 8, and both are a multiple of 31).
 */
static int decoder_tell_deflate(struct decoder *d)
{
	bool zlib = (d->first[0] & 15) == 8 && (d->first[0] << 8 | d->first[1]) % 31 == 0;

	d->deflate_known = true;
	return decoder_zlib_init(d, zlib ? 15 : -15) ? 0 : -ENOMEM;
}

static int decoder_inflate_step(struct decoder *d, decode_sink_fn sink, void *arg)
{
	int z, err;

	d->z.next_out = d->buf;
	d->z.avail_out = OUT_BYTES;
	z = inflate(&d->z, Z_NO_FLUSH);
	if (z != Z_OK && z != Z_STREAM_END && z != Z_BUF_ERROR)
		return -EBADMSG;
	err = decoder_put(d, d->buf, OUT_BYTES - d->z.avail_out, sink, arg);
	if (err < 0)
		return err;
	if (z == Z_STREAM_END)
		d->done = true;
	return 0;
}

static int decoder_inflate(struct decoder *d, const unsigned char *p, size_t n, decode_sink_fn sink,
			   void *arg)
{
	int err = 0;

	d->z.next_in = (unsigned char *)(uintptr_t)p;
	d->z.avail_in = (unsigned)n;
	while (!err) {
		if (d->done) {
			/* RFC 1952: a body may have several gzip members; anything else there is
			 * padding. */
			if (d->z.avail_in && *d->z.next_in != 0x1f)
				d->padding = true;
			if (d->coding != CODING_GZIP || !d->z.avail_in || d->padding)
				return 0;
			inflateReset(&d->z);
			d->done = false;
		}
		err = decoder_inflate_step(d, sink, arg);
		if (!d->done && !d->z.avail_in && d->z.avail_out)
			break;
	}
	return err;
}

static int decoder_deflate(struct decoder *d, const unsigned char *p, size_t n, decode_sink_fn sink,
			   void *arg)
{
	int err;

	while (!d->deflate_known && n) {
		d->first[d->n_first++] = *p++;
		n--;
		if (d->n_first < 2)
			continue;
		err = decoder_tell_deflate(d);
		if (!err)
			err = decoder_inflate(d, d->first, 2, sink, arg);
		if (err)
			return err;
	}
	return n ? decoder_inflate(d, p, n, sink, arg) : 0;
}

static int decoder_zstd(struct decoder *d, const void *data, size_t n, decode_sink_fn sink,
			void *arg)
{
	ZSTD_inBuffer in = { data, n, 0 };

	for (;;) {
		ZSTD_outBuffer out = { d->buf, OUT_BYTES, 0 };
		size_t left = ZSTD_decompressStream(d->zstd, &out, &in);
		int err;

		if (ZSTD_isError(left))
			return -EBADMSG;
		err = decoder_put(d, d->buf, out.pos, sink, arg);
		if (err < 0)
			return err;
		d->done = left == 0;
		if (in.pos == n && (d->done || out.pos < OUT_BYTES))
			return 0;
	}
}

static int decoder_brotli(struct decoder *d, const uint8_t *p, size_t n, decode_sink_fn sink,
			  void *arg)
{
	for (;;) {
		uint8_t *out = d->buf;
		size_t room = OUT_BYTES;
		BrotliDecoderResult r =
			BrotliDecoderDecompressStream(d->br, &n, &p, &room, &out, NULL);
		int err;

		if (r == BROTLI_DECODER_RESULT_ERROR)
			return -EBADMSG;
		err = decoder_put(d, d->buf, OUT_BYTES - room, sink, arg);
		if (err < 0)
			return err;
		d->done = r == BROTLI_DECODER_RESULT_SUCCESS;
		if (r != BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT)
			return 0;
	}
}

static int decoder_step(struct decoder *d, const void *data, size_t n, decode_sink_fn sink,
			void *arg)
{
	switch (d->coding) {
	case CODING_GZIP:
		return decoder_inflate(d, data, n, sink, arg);
	case CODING_DEFLATE:
		return decoder_deflate(d, data, n, sink, arg);
	case CODING_ZSTD:
		return decoder_zstd(d, data, n, sink, arg);
	case CODING_BR:
		return d->done ? 0 : decoder_brotli(d, data, n, sink, arg);
	default:
		return decoder_put(d, data, n, sink, arg);
	}
}

int decoder_feed(struct decoder *d, const void *data, size_t n, decode_sink_fn sink, void *arg)
{
	const char *p = data;
	int err = d->failed ? -EBADMSG : 0;

	/* Rationale: pieces keep zlib's 32-bit counters and the ratio check honest on huge inputs.
	 */
	while (n && !err) {
		size_t piece = MIN(n, (size_t)1 << 20);

		d->in += piece;
		err = decoder_step(d, p, piece, sink, arg);
		p += piece;
		n -= piece;
	}
	d->failed = err < 0;
	return err;
}
