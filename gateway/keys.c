/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/keys.h"

#include <errno.h>
#include <sys/mman.h>

#include "common/log.h"

struct secret {
	size_t n;
	char bytes[KEY_BYTES_MAX];
};

/* A mapping of its own: locked, not dumped, not inherited. */
static struct secret *secret_new(void)
{
	struct secret *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return NULL;
	if (mlock(s, sizeof(*s)) < 0)
		log_warn("a key's memory cannot be locked and may reach swap; raise LimitMEMLOCK of the service");
	madvise(s, sizeof(*s), MADV_DONTDUMP);
	madvise(s, sizeof(*s), MADV_WIPEONFORK);
	return s;
}

void secret_free(struct secret *s)
{
	if (!s)
		return;
	explicit_bzero(s, sizeof(*s));
	munmap(s, sizeof(*s));
}

static int secret_check(struct secret *s)
{
	size_t start = 0;

	while (s->n && (unsigned char)s->bytes[s->n - 1] <= ' ')
		s->n--;
	while (start < s->n && (unsigned char)s->bytes[start] <= ' ')
		start++;
	memmove(s->bytes, s->bytes + start, s->n - start);
	s->n -= start;
	if (!s->n)
		return -ENODATA;
	for (size_t i = 0; i < s->n; i++)
		if ((unsigned char)s->bytes[i] <= ' ' || (unsigned char)s->bytes[i] >= 0x7f)
			return -EINVAL;
	return 0;
}

int secret_read(int fd, struct secret **ret)
{
	struct secret *s = secret_new();
	int err = 0;

	if (!s)
		return -ENOMEM;
	while (s->n < sizeof(s->bytes)) {
		/* pread: several workers are handed the same open file. A pipe has no offset. */
		ssize_t n = pread(fd, s->bytes + s->n, sizeof(s->bytes) - s->n, (off_t)s->n);

		if (n < 0 && errno == ESPIPE)
			n = read(fd, s->bytes + s->n, sizeof(s->bytes) - s->n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			err = n < 0 ? -errno : 0;
			break;
		}
		s->n += (size_t)n;
	}
	if (!err)
		err = s->n == sizeof(s->bytes) ? -EFBIG : secret_check(s);
	if (err) {
		secret_free(s);
		return err;
	}
	*ret = s;
	return 0;
}

int secret_append(const struct secret *s, struct buf *out)
{
	return buf_append(out, s->bytes, s->n);
}

bool secret_found_in(const struct secret *s, struct str bytes)
{
	/* Shorter ones would be found in ordinary text. */
	return s->n >= 8 && str_find(bytes, (struct str){ s->bytes, s->n });
}
