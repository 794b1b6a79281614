/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts an arguments object together from Gemini's partialArgs: values with a JSON path each,
 * strings in fragments. Bounded in depth, members and bytes.
 */
#pragma once

#include <stdbool.h>

#include "common/arena.h"
#include "common/buf.h"
#include "common/str.h"

/* Rationale: recorded arguments nest 4 deep. */
#define PARTIAL_DEPTH_MAX 32
#define PARTIAL_NODES_MAX 4096

enum partial_kind {
	PARTIAL_STRING,
	PARTIAL_LITERAL /* a number, true, false or null as JSON text */
};

struct partial_node;
struct partial_args {
	struct arena arena;
	struct partial_node *root;
	unsigned n_nodes;
	bool cut; /* something did not fit, or a path made no sense */
};

void partial_init(struct partial_args *p, size_t max_bytes);
void partial_fini(struct partial_args *p);
/* Appends a string fragment at `path` ("$.a.b[0]['c']"), or sets a literal there. */
void partial_put(struct partial_args *p, struct str path, enum partial_kind kind, struct str value);
/* Appends the whole as JSON text, "{}" if there is nothing. 0, -ENOBUFS or -ENOMEM. */
int partial_write(const struct partial_args *p, struct buf *out);
