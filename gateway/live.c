/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/live.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/base.h"
#include "common/msg.h"

#define LIVE_MAGIC 0x534c495645303033ULL /* "SLIVE003" */

struct live_file {
	uint64_t magic;
	uint32_t slot_bytes, slots;
	uint32_t used; /* slots at or above this number were never taken */
	uint32_t pad0;
	uint64_t last_id;
	uint32_t pad[8];
	struct live_slot slot[];
};

_Static_assert(sizeof(struct live_file) == LIVE_EMPTY_BYTES, "the head of a file that outlives its writer");

/* Slots whose place on the disk is taken at once: touching a page that has none would be a SIGBUS when it is full. */
#define LIVE_CHUNK 64

struct live {
	struct live_file *file;
	size_t bytes;
	int fd;
	uint32_t backed; /* slots below this number have their place */
	uint32_t n_free;
	uint32_t free[]; /* numbers of slots below file->used that are free */
};

/* Slots that an earlier life used stay, though the bound may be lower now: they can be running ones. */
static uint32_t live_slots(int fd, uint32_t slots, off_t size)
{
	struct live_file head;
	uint64_t fit = (uint64_t)size < sizeof(head) ? 0 : ((uint64_t)size - sizeof(head)) / sizeof(struct live_slot);

	if (pread(fd, &head, sizeof(head), 0) != sizeof(head) || head.magic != LIVE_MAGIC || head.used > fit)
		return slots;
	return MAX(slots, head.used);
}

/* Takes the place of the slots up to and with `slot`. 0, -ENOSPC, other errno. */
static int live_back(int fd, uint32_t slot, uint32_t slots, uint32_t *ret_backed)
{
	uint32_t to = slots - slot > LIVE_CHUNK ? slot + LIVE_CHUNK : slots;

	if (fallocate(fd, 0, 0, (off_t)(sizeof(struct live_file) + (size_t)to * sizeof(struct live_slot))) < 0 &&
	    errno != EOPNOTSUPP)
		return -errno;
	*ret_backed = to;
	return 0;
}

int live_open(int fd, uint32_t slots, struct live **ret)
{
	uint32_t backed = 0;
	size_t bytes;
	int err;
	struct live_file *file;
	struct live *l;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	slots = live_slots(fd, slots, st.st_size);
	bytes = sizeof(struct live_file) + (size_t)slots * sizeof(struct live_slot);
	if (st.st_size < (off_t)bytes && ftruncate(fd, (off_t)bytes) < 0)
		return -errno;
	err = live_back(fd, 0, slots, &backed);
	if (err)
		return err;
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
	l->backed = MAX(backed, file->used);
	l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (l->fd < 0) {
		err = -errno;
		munmap(file, bytes);
		free(l);
		return err;
	}
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
	close(l->fd);
	free(l);
}

void live_retire(struct live *l)
{
	for (uint32_t i = 0; i < l->file->used; i++)
		if (l->file->slot[i].state != LIVE_FREE)
			return;
	l->file->used = 0;
	if (ftruncate(l->fd, sizeof(*l->file)) < 0)
		return; /* the next start looks into it and finds nothing */
}

uint64_t *live_last_id(struct live *l)
{
	return &l->file->last_id;
}

struct live_slot *live_take(struct live *l)
{
	uint32_t i;

	if (l->n_free)
		i = l->free[--l->n_free];
	else if (l->file->used < l->file->slots &&
		 (l->file->used < l->backed || !live_back(l->fd, l->file->used, l->file->slots, &l->backed)))
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
	uint16_t len[RQ_STRINGS];

	/* A slot that runs is a whole record at each instruction: no lengths, then all of them. */
	memset(s->rec.len, 0, sizeof(s->rec.len));
	atomic_thread_fence(memory_order_release);
	s->strings_len = (uint32_t)record_pack(len, strings, RQ_STRINGS, s->strings, sizeof(s->strings));
	atomic_thread_fence(memory_order_release);
	memcpy(s->rec.len, len, sizeof(len));
}

void live_recover(struct live *l, live_fn fn, void *arg)
{
	for (uint32_t i = 0; i < l->file->used; i++) {
		struct live_slot *s = &l->file->slot[i];

		s->strings_len = MIN(s->strings_len, (uint32_t)LIVE_STRINGS_BYTES);
		if (s->state == LIVE_RUNNING)
			fn(arg, s);
	}
}
