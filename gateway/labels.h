/* SPDX-License-Identifier: Apache-2.0 */
/* The labels that the agent told of: who is behind a stamp. */
#pragma once

#include "common/msg.h"
#include "common/str.h"

#define LABEL_TAGS_MAX 32

struct label {
	struct msg_sandbox box;
	struct str tags[LABEL_TAGS_MAX]; /* point into box.tags */
	unsigned n_tags;
	struct label *next; /* in its bucket */
};

#define LABEL_BUCKETS 4096
struct labels {
	struct label *buckets[LABEL_BUCKETS];
	unsigned n;
};

/* Adds or replaces; -ENOMEM, -EINVAL for a message whose strings do not end. */
int labels_set(struct labels *l, const struct msg_sandbox *box);
void labels_remove(struct labels *l, uint32_t label_id);
/* Valid until the next call that changes the table; NULL: unknown. */
const struct label *labels_get(const struct labels *l, uint32_t label_id);
void labels_fini(struct labels *l);
