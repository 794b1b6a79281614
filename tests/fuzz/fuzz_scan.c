/* SPDX-License-Identifier: Apache-2.0 */
/* The scanner must say the same however the input is cut, and what it takes for text must be there.
 */
#include <assert.h>

#include "common/base.h"
#include "gateway/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct digest {
	uint64_t hash, depth;
	unsigned wants; /* decides what the handler asks for */
};

static void mix(struct digest *d, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		d->hash = (d->hash ^ ((const unsigned char *)p)[i]) * 0x100000001b3ULL;
}

static void on_key(void *arg, struct str key)
{
	mix(arg, key.s, key.n);
}

static enum scan_want on_begin(void *arg, enum scan_type type)
{
	struct digest *d = arg;
	unsigned char c = (unsigned char)type;

	mix(d, &c, 1);
	assert(++d->depth <= SCAN_DEPTH_MAX + 1);
	d->wants = d->wants * 5 + 1;
	return (enum scan_want)(d->wants >> 3 & 3);
}

static void on_piece(void *arg, struct str piece)
{
	mix(arg, piece.s, piece.n);
}

static void on_end(void *arg, enum scan_type type)
{
	struct digest *d = arg;
	unsigned char c = (unsigned char)(type + 100);

	mix(d, &c, 1);
	d->depth--;
}

static const struct scan_ops ops = { on_key, on_begin, on_piece, on_end };

static uint64_t run(const uint8_t *data, size_t size, unsigned wants, size_t piece,
		    uint64_t *ret_text)
{
	struct digest d = { .wants = wants };
	struct scan s;

	scan_init(&s, &ops, &d);
	for (size_t i = 0; i < size; i += piece)
		scan_feed(&s, data + i, MIN(piece, size - i));
	scan_finish(&s);
	*ret_text = scan_bad(&s) ? 0 : s.text_bytes;
	assert(*ret_text <= size);
	return scan_bad(&s) ? 1 : d.hash ^ (uint64_t)scan_done(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t text, text_cut, whole;

	if (size < 2)
		return 0;
	whole = run(data + 2, size - 2, data[0], SIZE_MAX / 2, &text);
	assert(whole == run(data + 2, size - 2, data[0], 1 + data[1] % 31, &text_cut));
	assert(text == text_cut);
	return 0;
}
