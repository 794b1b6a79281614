/* SPDX-License-Identifier: Apache-2.0 */
/* Events are the same however they are cut; the filter takes whole events out and changes no other
 * byte. */
#include <assert.h>

#include "common/base.h"
#include "gateway/sse.h"
#include "gateway/sse_strip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_line(void *arg)
{
	buf_puts(arg, STR("<"));
}

static void on_data(void *arg, const char *data, size_t n)
{
	buf_append(arg, data, n);
}

static void on_dispatch(void *arg, struct str name)
{
	buf_puts(arg, name);
}

static const struct sse_ops ops = { on_line, on_data, on_line, on_dispatch };

static void read_events(const uint8_t *data, size_t size, size_t piece, struct buf *out)
{
	struct sse s;

	buf_init(out, 1 << 24);
	sse_init(&s, &ops, out);
	for (size_t i = 0; i < size; i += piece)
		sse_feed(&s, data + i, MIN(piece, size - i));
}

static void strip(const uint8_t *data, size_t size, size_t piece, struct buf *out)
{
	struct sse_strip s;

	buf_init(out, 1 << 24);
	sse_strip_init(&s);
	for (size_t i = 0; i < size; i += piece)
		assert(!sse_strip_feed(&s, data + i, MIN(piece, size - i), out));
	assert(!sse_strip_end(&s, out));
	sse_strip_fini(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf a, b;
	size_t piece;

	if (!size)
		return 0;
	piece = 1 + data[0] % 31;
	data++;
	size--;
	read_events(data, size, SIZE_MAX / 2, &a);
	read_events(data, size, piece, &b);
	assert(str_eq(buf_str(&a), buf_str(&b)));
	buf_fini(&a);
	buf_fini(&b);
	strip(data, size, SIZE_MAX / 2, &a);
	strip(data, size, piece, &b);
	assert(str_eq(buf_str(&a), buf_str(&b)));
	assert(buf_len(&a) <= size);
	buf_fini(&a);
	buf_fini(&b);
	return 0;
}
