/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/live.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/base.h"

#define LIVE_MAGIC 0x534c495645303033ULL /* "SLIVE003" */

struct live_file {
	uint64_t magic;
	uint32_t slot_bytes, slots;
	uint32_t used; /* slots at or above this number were never taken */
	uint32_t pad[11];
	struct live_slot slot[];
};

struct live {
	struct live_file *file;
	size_t bytes;
	uint32_t n_free;
	uint32_t free[]; /* numbers of slots below file->used that are free */
};

int live_open(int fd, uint32_t slots, struct live **ret)
{
	size_t bytes = sizeof(struct live_file) + (size_t)slots * sizeof(struct live_slot);
	struct live_file *file;
	struct live *l;
	struct stat st;

	if (fstat(fd, &st) < 0 || (st.st_size < (off_t)bytes && ftruncate(fd, (off_t)bytes) < 0))
		return -errno;
	file = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (file == MAP_FAILED)
		return -errno;
	if (!file->magic) {
		file->slot_bytes = sizeof(struct live_slot);
		file->slots = slots;
		file->magic = LIVE_MAGIC;
	}
	l = calloc(1, sizeof(*l) + slots * sizeof(l->free[0]));
	if (!l || file->magic != LIVE_MAGIC || file->slot_bytes != sizeof(struct live_slot) ||
	    file->used > slots) {
		munmap(file, bytes);
		free(l);
		return l ? -EPROTO : -ENOMEM;
	}
	file->slots = slots;
	l->file = file;
	l->bytes = bytes;
	for (uint32_t i = file->used; i-- > 0;)
		if (file->slot[i].state == LIVE_FREE)
			l->free[l->n_free++] = i;
	*ret = l;
	return 0;
}

void live_close(struct live *l)
{
	if (!l)
		return;
	munmap(l->file, l->bytes);
	free(l);
}

struct live_slot *live_take(struct live *l)
{
	uint32_t i;

	if (l->n_free)
		i = l->free[--l->n_free];
	else if (l->file->used < l->file->slots)
		i = l->file->used++;
	else
		return NULL;
	l->file->slot[i].hold = (struct balance_hold){ 0 };
	memset(l->file->slot[i].real, 0, sizeof(l->file->slot[i].real));
	return &l->file->slot[i];
}

void live_begin(struct live_slot *s)
{
	atomic_thread_fence(memory_order_release);
	*(volatile uint32_t *)&s->state = LIVE_RUNNING;
}

void live_end(struct live *l, struct live_slot *s)
{
	atomic_thread_fence(memory_order_release);
	*(volatile uint32_t *)&s->state = LIVE_FREE;
	l->free[l->n_free++] = (uint32_t)(s - l->file->slot);
}

void live_set_strings(struct live_slot *s, const struct str *strings)
{
	s->strings_len = (uint32_t)record_pack(s->rec.len, strings, RQ_STRINGS, s->strings,
					       sizeof(s->strings));
}

void live_recover(struct live *l, live_fn fn, void *arg)
{
	for (uint32_t i = 0; i < l->file->used; i++)
		if (l->file->slot[i].state == LIVE_RUNNING)
			fn(arg, &l->file->slot[i]);
}
