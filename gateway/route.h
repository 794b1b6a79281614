/* SPDX-License-Identifier: Apache-2.0 */
/* What a path on the door asks for, and the path it becomes at the provider. Pure. */
#pragma once

#include <stdbool.h>

#include "common/str.h"
#include "common/wire.h"

/* Rationale: paths with model names stay below 300 bytes. */
#define ROUTE_PATH_BYTES 2048

enum route_kind {
	ROUTE_NOT_FOUND,
	ROUTE_MODEL,  /* a model call: metered */
	ROUTE_AROUND, /* counting tokens and the like: checked by policy, not billed */
	ROUTE_MODELS, /* the list of models: answered by us */
	ROUTE_PROBE,  /* HEAD or OPTIONS: answered by us */
	ROUTE_UPGRADE, /* a WebSocket that this version refuses with 426 */
};

struct route {
	enum route_kind kind;
	enum wire_format format; /* also the format of our errors */
	bool path_stream;        /* the path asks for a stream (Gemini) */
	char model[256];         /* from the path, decoded, or "" */
	char provider[64];       /* of /p/{provider}/…, or "" */
	/* What goes to the provider: path and query, a `key` parameter removed; the base path comes before. */
	char target[ROUTE_PATH_BYTES];
};

/*
 * Fills *ret from method and request target; `upgrade` tells of a Connection: upgrade. Doubled or missing
 * version segments are mended. Returns false when the target is too long.
 */
bool route_parse(struct str method, struct str target, bool upgrade, struct route *ret);
/* Replaces the model in a Gemini path ("google/gemini-2" became "gemini-2"); false when it does not fit. */
bool route_set_model(struct route *r, struct str model);
