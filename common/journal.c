/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A segment is NAME-NNNNNNNNNNNN, JOURNAL_SEGMENT_BYTES long, allocated whole so that
 * a full disk shows at open and never as SIGBUS. Its header holds `head` (end of the last whole record,
 * stored with release order after the record's bytes) and `closed` (the writer went on to another one).
 * A record is {length, type} + payload, padded to 8 bytes. The reader never writes to a segment.
 */
#include "common/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/base.h"
#include "common/str.h"

#define JOURNAL_MAGIC 0x534a524e4c303031ULL /* "SJRNL001" */

struct segment_header {
	uint64_t magic;
	_Atomic uint64_t head;
	_Atomic uint64_t closed;
	uint64_t pad[5];
};

struct record_header {
	uint32_t len, type;
};

struct journal {
	int dirfd;
	char name[JOURNAL_NAME_BYTES];
	uint64_t limit_segments;
	uint64_t number;
	struct segment_header *seg;
	/* The next segment, opened ahead so that admission can promise room. */
	struct segment_header *spare;
};

struct journal_reader {
	int dirfd;
	char name[JOURNAL_NAME_BYTES];
	uint64_t number, offset;
	uint64_t trimmed; /* segments below this number are gone */
	const struct segment_header *seg;
};

static void segment_name(const char *name, uint64_t number, char *ret, size_t size)
{
	snprintf(ret, size, "%s-%012" PRIu64, name, number);
}

/* Calls fn with the number of each segment of `name`. */
static int segments_each(int dirfd, const char *name, void (*fn)(void *, uint64_t), void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t n = strlen(name);
	struct dirent *e;
	DIR *dir;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((e = readdir(dir))) {
		char *end;
		uint64_t number;

		if (strncmp(e->d_name, name, n) || e->d_name[n] != '-')
			continue;
		number = strtoull(e->d_name + n + 1, &end, 10);
		if (number && !*end)
			fn(arg, number);
	}
	closedir(dir);
	return 0;
}

struct segment_scan {
	uint64_t lowest, highest, above, count;
};

static void segment_seen(void *arg, uint64_t number)
{
	struct segment_scan *s = arg;

	s->count++;
	s->highest = MAX(s->highest, number);
	if (number >= s->above && (!s->lowest || number < s->lowest))
		s->lowest = number;
}

static struct segment_header *segment_create(int dirfd, const char *name, uint64_t number, int *ret_err)
{
	char file[64];
	auto_close int fd = -1;
	struct segment_header *seg;
	int err;

	segment_name(name, number, file, sizeof(file));
	fd = openat(dirfd, file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
	if (fd < 0) {
		*ret_err = errno == EDQUOT ? -ENOSPC : -errno;
		return NULL;
	}
	err = posix_fallocate(fd, 0, JOURNAL_SEGMENT_BYTES);
	seg = err ? MAP_FAILED :
		    mmap(NULL, JOURNAL_SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (seg == MAP_FAILED) {
		*ret_err = err ? (err == EDQUOT ? -ENOSPC : -err) : -errno;
		unlinkat(dirfd, file, 0);
		return NULL;
	}
	atomic_store_explicit(&seg->head, sizeof(*seg), memory_order_relaxed);
	seg->magic = JOURNAL_MAGIC;
	atomic_thread_fence(memory_order_release);
	return seg;
}

/* The segment after the current one, made when it is not there yet. */
static int journal_prepare(struct journal *j)
{
	struct segment_scan scan = { 0 };
	int err;

	if (j->spare)
		return 0;
	err = segments_each(j->dirfd, j->name, segment_seen, &scan);
	if (err)
		return err;
	if (scan.count >= j->limit_segments)
		return -ENOSPC;
	j->spare = segment_create(j->dirfd, j->name, MAX(scan.highest, j->number) + 1, &err);
	return j->spare ? 0 : err;
}

static int journal_advance(struct journal *j)
{
	int err = journal_prepare(j);

	if (err)
		return err;
	if (j->seg) {
		atomic_store_explicit(&j->seg->closed, 1, memory_order_release);
		munmap(j->seg, JOURNAL_SEGMENT_BYTES);
	}
	j->seg = TAKE_PTR(j->spare);
	j->number++;
	return 0;
}

int journal_open(int dirfd, const char *name, uint64_t limit_bytes, struct journal **ret)
{
	struct segment_scan scan = { 0 };
	struct journal *j;
	int err = segments_each(dirfd, name, segment_seen, &scan);

	if (err)
		return err;
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->dirfd = dirfd;
	str_copy(j->name, sizeof(j->name), str_of(name));
	j->limit_segments = MAX(limit_bytes / JOURNAL_SEGMENT_BYTES, 4ULL);
	j->number = scan.highest;
	err = journal_advance(j);
	if (err) {
		free(j);
		return err;
	}
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	if (j->seg) {
		atomic_store_explicit(&j->seg->closed, 1, memory_order_release);
		munmap(j->seg, JOURNAL_SEGMENT_BYTES);
	}
	if (j->spare) {
		atomic_store_explicit(&j->spare->closed, 1, memory_order_release);
		munmap(j->spare, JOURNAL_SEGMENT_BYTES);
	}
	free(j);
}

static size_t record_size(size_t len)
{
	return (sizeof(struct record_header) + len + 7) & ~(size_t)7;
}

int journal_append(struct journal *j, uint32_t type, const struct iovec *iov, unsigned n)
{
	struct record_header *rec;
	uint64_t head;
	size_t len = 0;
	char *p;

	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	if (len > JOURNAL_RECORD_MAX)
		return -EMSGSIZE;
	head = atomic_load_explicit(&j->seg->head, memory_order_relaxed);
	if (head + record_size(len) > JOURNAL_SEGMENT_BYTES) {
		int err = journal_advance(j);

		if (err)
			return err;
		head = sizeof(*j->seg);
	}
	rec = (struct record_header *)((char *)j->seg + head);
	rec->len = (uint32_t)len;
	rec->type = type;
	p = (char *)(rec + 1);
	for (unsigned i = 0; i < n; i++) {
		if (iov[i].iov_len)
			memcpy(p, iov[i].iov_base, iov[i].iov_len);
		p += iov[i].iov_len;
	}
	atomic_store_explicit(&j->seg->head, head + record_size(len), memory_order_release);
	return 0;
}

bool journal_has_room(struct journal *j, size_t bytes)
{
	uint64_t head = atomic_load_explicit(&j->seg->head, memory_order_relaxed);

	return head + bytes <= JOURNAL_SEGMENT_BYTES || journal_prepare(j) == 0;
}

int journal_reader_open(int dirfd, const char *name, struct journal_position from,
			struct journal_reader **ret)
{
	struct journal_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->dirfd = dirfd;
	str_copy(r->name, sizeof(r->name), str_of(name));
	r->number = from.segment;
	r->offset = from.offset;
	*ret = r;
	return 0;
}

static void reader_unmap(struct journal_reader *r)
{
	if (r->seg)
		munmap((void *)(uintptr_t)r->seg, JOURNAL_SEGMENT_BYTES);
	r->seg = NULL;
}

void journal_reader_close(struct journal_reader *r)
{
	if (!r)
		return;
	reader_unmap(r);
	free(r);
}

/* Maps segment `number`; -ENOENT when it is gone, -EBADMSG when it is none. */
static int reader_map(struct journal_reader *r, uint64_t number)
{
	char file[64];
	auto_close int fd = -1;
	struct stat st;
	void *p;

	segment_name(r->name, number, file, sizeof(file));
	fd = openat(r->dirfd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || st.st_size != JOURNAL_SEGMENT_BYTES)
		return -EAGAIN; /* being made */
	p = mmap(NULL, JOURNAL_SEGMENT_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	if (((struct segment_header *)p)->magic != JOURNAL_MAGIC) {
		munmap(p, JOURNAL_SEGMENT_BYTES);
		return -EAGAIN;
	}
	r->seg = p;
	if (r->number != number || !r->offset)
		r->offset = sizeof(*r->seg);
	r->number = number;
	return 0;
}

/* Goes on to the lowest segment with a number of at least `above`; 0 or -ENOENT. */
static int reader_next(struct journal_reader *r, uint64_t above)
{
	struct segment_scan scan = { .above = above };
	int err = segments_each(r->dirfd, r->name, segment_seen, &scan);

	if (err)
		return err;
	if (!scan.lowest)
		return -ENOENT;
	return reader_map(r, scan.lowest);
}

int journal_read(struct journal_reader *r, struct journal_record *ret)
{
	for (;;) {
		const struct record_header *rec;
		uint64_t head, closed;

		if (!r->seg && reader_next(r, MAX(r->number, (uint64_t)1)) < 0)
			return 0;
		/* closed before head: a record that is published after `closed` was read 0 is seen later. */
		closed = atomic_load_explicit(&((struct segment_header *)(uintptr_t)r->seg)->closed,
					      memory_order_acquire);
		head = atomic_load_explicit(&((struct segment_header *)(uintptr_t)r->seg)->head,
					    memory_order_acquire);
		if (head > JOURNAL_SEGMENT_BYTES || r->offset > head) {
			reader_unmap(r);
			r->number++;
			r->offset = 0;
			return -EBADMSG;
		}
		if (r->offset < head) {
			rec = (const struct record_header *)((const char *)r->seg + r->offset);
			if (record_size(rec->len) > head - r->offset) {
				reader_unmap(r);
				r->number++;
				r->offset = 0;
				return -EBADMSG;
			}
			*ret = (struct journal_record){ rec->type, rec->len, rec + 1 };
			r->offset += record_size(rec->len);
			return 1;
		}
		/* At the end: a dead writer never closes, so a newer segment with records closes it too. */
		if (!closed) {
			struct segment_scan scan = { .above = r->number + 1 };
			struct journal_reader probe = *r;

			if (segments_each(r->dirfd, r->name, segment_seen, &scan) < 0 || !scan.lowest)
				return 0;
			probe.seg = NULL;
			if (reader_map(&probe, scan.lowest) < 0)
				return 0;
			closed = atomic_load(&((struct segment_header *)(uintptr_t)probe.seg)->head) >
					 sizeof(struct segment_header) ||
				 scan.highest > scan.lowest;
			reader_unmap(&probe);
			if (!closed)
				return 0;
			/* The writer may have appended here before it went on. */
			if (atomic_load_explicit(
				    &((struct segment_header *)(uintptr_t)r->seg)->head,
				    memory_order_acquire) > r->offset)
				continue;
		}
		{
			struct segment_scan scan = { .above = r->number + 1 };

			if (segments_each(r->dirfd, r->name, segment_seen, &scan) < 0 || !scan.lowest)
				return 0;
			reader_unmap(r);
			r->offset = 0;
			if (reader_map(r, scan.lowest) < 0)
				return 0;
		}
	}
}

struct journal_position journal_reader_position(const struct journal_reader *r)
{
	return (struct journal_position){ r->number, r->offset };
}

struct segment_trim {
	struct journal_reader *r;
	uint64_t below;
	int removed;
};

static void segment_remove(void *arg, uint64_t number)
{
	struct segment_trim *t = arg;
	char file[64];

	if (number >= t->below)
		return;
	segment_name(t->r->name, number, file, sizeof(file));
	if (unlinkat(t->r->dirfd, file, 0) == 0)
		t->removed++;
}

int journal_reader_trim(struct journal_reader *r, struct journal_position done)
{
	struct segment_trim t = { .r = r, .below = done.segment };

	if (done.segment <= r->trimmed)
		return 0;
	segments_each(r->dirfd, r->name, segment_remove, &t);
	r->trimmed = done.segment;
	return t.removed;
}
