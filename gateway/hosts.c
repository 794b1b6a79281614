/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/hosts.h"

#include <errno.h>

#include "common/base.h"

/* The place of the first id that is not below this one: new ids are the highest, so it is usually the end. */
static unsigned place_of(const struct hosts *t, uint32_t id)
{
	unsigned low = 0, high = t->n;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (t->rows[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int hosts_grow(struct hosts *t)
{
	unsigned cap = t->cap ? 2 * t->cap : 64;
	struct host_row *rows = t->n < HOSTS_MAX ? realloc(t->rows, cap * sizeof(*rows)) : NULL;

	if (!rows)
		return t->n < HOSTS_MAX ? -ENOMEM : -ENOSPC;
	t->rows = rows;
	t->cap = cap;
	return 0;
}

int hosts_set(struct hosts *t, const struct msg_name *msg)
{
	unsigned at = place_of(t, msg->name_id);
	bool known = at < t->n && t->rows[at].id == msg->name_id;
	char *copy;
	int err;

	if (msg->name[MSG_HOST_BYTES - 1] || !msg->name_id)
		return -EINVAL;
	err = !known && t->n == t->cap ? hosts_grow(t) : 0;
	copy = err ? NULL : strdup(msg->name);
	if (!copy)
		return err ? err : -ENOMEM;
	if (known) {
		free(t->rows[at].name);
	} else {
		memmove(t->rows + at + 1, t->rows + at, (t->n - at) * sizeof(*t->rows));
		t->n++;
	}
	t->rows[at] = (struct host_row){ msg->name_id, copy };
	return 0;
}

const char *hosts_get(const struct hosts *t, uint32_t id)
{
	unsigned at = place_of(t, id);

	return at < t->n && t->rows[at].id == id ? t->rows[at].name : "";
}

void hosts_fini(struct hosts *t)
{
	for (unsigned i = 0; i < t->n; i++)
		free(t->rows[i].name);
	free(t->rows);
	*t = (struct hosts){ 0 };
}
