/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers, times and strangers' text as people read them. Pure but for format_now_ns() and the time
 * zone. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/str.h"

#define FORMAT_BYTES 48 /* enough for each of these */

uint64_t format_now_ns(void); /* wall clock */

/* "1,234,567" */
void format_count(int64_t n, char ret[FORMAT_BYTES]);
/* "9,999", "12.3k", "4.56M" */
void format_tokens(int64_t n, char ret[FORMAT_BYTES]);
/* "$0.00", "$0.0042", "$1.23", "$1,234.50" */
void format_usd(int64_t nanousd, char ret[FORMAT_BYTES]);
/* All nine digits after the point, without a sign of currency: "0.004200000". */
void format_usd_exact(int64_t nanousd, char ret[FORMAT_BYTES]);
/* "812 B", "4.1 KiB" */
void format_bytes(int64_t n, char ret[FORMAT_BYTES]);
/* "now", "12s ago", "5m ago", "3h ago", "2d ago"; "-" for 0 */
void format_ago(uint64_t at_ns, uint64_t now_ns, char ret[FORMAT_BYTES]);
/* Local time: "14:03:59" of today, "11-20 14:03:59" of this year, else "2025-11-20 14:03:59". */
void format_clock(uint64_t at_ns, uint64_t now_ns, char ret[FORMAT_BYTES]);
/* "2026-01-31T14:03:59.123456789Z" */
void format_rfc3339(uint64_t at_ns, char ret[FORMAT_BYTES]);
/* "12 ms", "1.2 s", "3m20s" */
void format_duration(uint64_t us, char ret[FORMAT_BYTES]);
/* "500m", "2h", "7d", "1w" ago, "now", "today", "yesterday", "2026-01-31",
 * "2026-01-31T14:00[:00][Z]" (local). */
bool format_parse_time(const char *text, uint64_t now_ns, uint64_t *ret);

/*
 * Strangers' text for a terminal: controls, broken UTF-8 and marks that change the direction of
 * writing become "?", line ends and tabs a space. Without `utf8` everything beyond ASCII becomes
 * "?".
 */
int format_clean(struct str in, bool utf8, struct buf *out);
/* Columns that clean text takes. */
size_t format_width(struct str text);
/* Bytes of the longest start (or, with `tail`, end) of the text that fits into `width` columns. */
size_t format_fit(struct str text, size_t width, bool tail);
