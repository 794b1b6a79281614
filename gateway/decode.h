/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming decoder of content codings, for what the taps read; the client gets the bytes as they
 * came. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

enum coding {
	CODING_IDENTITY,
	CODING_GZIP,
	CODING_DEFLATE,
	CODING_ZSTD,
	CODING_BR,
	CODING_UNKNOWN
};
/* The value of a Content-Encoding header; several codings in one header are CODING_UNKNOWN. */
enum coding coding_parse(struct str value);
/*
 * For Accept-Encoding towards the provider: the codings offered by the client that we can read,
 * with their weights; "identity" if there is none. Always terminated.
 */
void coding_accept(struct str client_offer, char *ret, size_t size);

typedef void (*decode_sink_fn)(void *arg, const void *data, size_t n);
struct decoder;
/* `max_out` bounds all decoded bytes (0: none), `max_ratio` decoded to coded after the first MiB.
 */
/* NULL without memory, or for CODING_UNKNOWN. */
struct decoder *decoder_new(enum coding coding, uint64_t max_out, unsigned max_ratio);
void decoder_free(struct decoder *d);
/* Decoded pieces go to the sink. 0; -EBADMSG: not of this coding; -EFBIG: a bomb. Then feed no
 * more. */
int decoder_feed(struct decoder *d, const void *data, size_t n, decode_sink_fn sink, void *arg);
/* True when the coding's own end was seen (a truncated body has none). */
bool decoder_done(const struct decoder *d);
