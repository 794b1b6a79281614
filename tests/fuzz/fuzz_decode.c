/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed bytes from strangers: the bounds hold, and cutting changes nothing. */
#include <assert.h>

#include "common/base.h"
#include "gateway/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_OUT (1u << 20)

struct seen {
	uint64_t hash, n;
};

static void sink(void *arg, const void *data, size_t n)
{
	struct seen *s = arg;

	for (size_t i = 0; i < n; i++)
		s->hash = (s->hash ^ ((const unsigned char *)data)[i]) * 0x100000001b3ULL;
	s->n += n;
}

static int run(enum coding coding, const uint8_t *data, size_t size, size_t piece,
	       struct seen *seen)
{
	struct decoder *d = decoder_new(coding, MAX_OUT, 100);
	int err = 0;

	*seen = (struct seen){ 0 };
	for (size_t i = 0; i < size && !err; i += piece)
		err = decoder_feed(d, data + i, MIN(piece, size - i), sink, seen);
	assert(seen->n <= MAX_OUT);
	decoder_free(d);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen a, b;
	char text[64];
	int err;

	if (size < 2)
		return 0;
	err = run((enum coding)(data[0] % CODING_UNKNOWN), data + 2, size - 2, SIZE_MAX / 2, &a);
	if (!err &&
	    !run((enum coding)(data[0] % CODING_UNKNOWN), data + 2, size - 2, 1 + data[1] % 31, &b))
		assert(a.hash == b.hash && a.n == b.n);
	coding_accept((struct str){ (const char *)data, size }, text, sizeof(text));
	assert(strlen(text) < sizeof(text));
	return 0;
}
