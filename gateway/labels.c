/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/labels.h"

#include <errno.h>

#include "common/base.h"

static struct label **bucket_of(struct labels *l, uint32_t id)
{
	return &l->buckets[id * 2654435761u % LABEL_BUCKETS];
}

static void label_split_tags(struct label *label)
{
	struct str rest = str_of(label->box.tags);

	label->n_tags = 0;
	while (rest.n && label->n_tags < LABEL_TAGS_MAX) {
		const char *comma = memchr(rest.s, ',', rest.n);
		size_t n = comma ? (size_t)(comma - rest.s) : rest.n;

		if (n)
			label->tags[label->n_tags++] = (struct str){ rest.s, n };
		rest = str_skip(rest, n + 1);
	}
}

int labels_set(struct labels *l, const struct msg_sandbox *box)
{
	struct label **head = bucket_of(l, box->label_id), *label = *head;

	if (box->path[MSG_PATH_BYTES - 1] || box->tags[MSG_TAGS_BYTES - 1] ||
	    box->container[MSG_NAME_BYTES - 1] || box->image[MSG_IMAGE_BYTES - 1])
		return -EINVAL;
	while (label && label->box.label_id != box->label_id)
		label = label->next;
	if (!label) {
		label = calloc(1, sizeof(*label));
		if (!label)
			return -ENOMEM;
		label->next = *head;
		*head = label;
		l->n++;
	}
	label->box = *box;
	label_split_tags(label);
	return 0;
}

void labels_remove(struct labels *l, uint32_t label_id)
{
	struct label **at = bucket_of(l, label_id);

	while (*at && (*at)->box.label_id != label_id)
		at = &(*at)->next;
	if (*at) {
		struct label *gone = *at;

		*at = gone->next;
		free(gone);
		l->n--;
	}
}

const struct label *labels_get(const struct labels *l, uint32_t label_id)
{
	const struct label *label = *bucket_of((struct labels *)(uintptr_t)l, label_id);

	while (label && label->box.label_id != label_id)
		label = label->next;
	return label;
}

void labels_fini(struct labels *l)
{
	for (unsigned i = 0; i < LABEL_BUCKETS; i++) {
		while (l->buckets[i])
			labels_remove(l, l->buckets[i]->box.label_id);
	}
}
