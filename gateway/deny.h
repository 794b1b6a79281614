/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of ours, in the format of the path, with the status and headers that make the clients of that
 * format stop at once and show the sentence (measured: docs/CLIENTS.md).
 */
#pragma once

#include "common/buf.h"
#include "common/outcome.h"
#include "common/wire.h"

struct denial {
	enum wire_format format;
	enum outcome outcome;
	struct str message;    /* rule, identity and cure */
	struct str client;     /* client_name(), may be empty */
	uint64_t retry_after_s; /* a limit that refills: when; 0: not told */
	uint64_t request_id;
	bool close;  /* the connection ends after this */
	bool no_body; /* the answer to a HEAD */
};

/* Appends status line, headers and body; returns the status. -ENOBUFS/-ENOMEM of `out`. */
int deny_write(const struct denial *d, struct buf *out);
/* The error as one event of a stream that has begun; for Gemini a data line, for the others as they do. */
int deny_write_event(enum wire_format format, struct str type, struct str message, struct buf *out);
