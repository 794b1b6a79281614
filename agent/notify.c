/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/notify.h"

#include <errno.h>

#include "common/log.h"

struct notify_entry {
	int id; /* 0: free */
	int wd;
	notify_fn fn;
	void *arg;
};

struct notify {
	struct loop *loop;
	struct watch watch;
	int fd, next_id;
	struct notify_entry *entries;
	unsigned n;
};

/* Entries may be added and removed by the handlers: look again by index each time. */
static void notify_deliver(struct notify *n, const struct inotify_event *ev)
{
	for (unsigned i = 0; i < n->n; i++) {
		struct notify_entry e = n->entries[i];

		if (e.id && (e.wd == ev->wd || ev->mask & IN_Q_OVERFLOW))
			e.fn(e.arg, ev->mask, ev->len ? ev->name : "");
	}
}

static void on_inotify(void *arg, uint32_t events)
{
	struct notify *n = arg;
	_Alignas(struct inotify_event) char buf[4096];
	ssize_t got = read(n->fd, buf, sizeof(buf));

	(void)events;
	for (ssize_t at = 0; at < got;) {
		const struct inotify_event *ev = (const struct inotify_event *)(buf + at);

		notify_deliver(n, ev);
		at += (ssize_t)(sizeof(*ev) + ev->len);
	}
}

int notify_init(struct loop *loop, struct notify **ret)
{
	struct notify *n = calloc(1, sizeof(*n));
	int err;

	if (!n)
		return -ENOMEM;
	n->loop = loop;
	n->next_id = 1;
	n->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	err = n->fd < 0 ? -errno : loop_watch(loop, &n->watch, n->fd, EPOLLIN, on_inotify, n);
	if (err) {
		if (n->fd >= 0)
			close(n->fd);
		free(n);
		return err;
	}
	*ret = n;
	return 0;
}

void notify_fini(struct notify *n)
{
	if (!n)
		return;
	loop_unwatch(n->loop, &n->watch);
	close(n->fd);
	free(n->entries);
	free(n);
}

static struct notify_entry *notify_free_entry(struct notify *n)
{
	struct notify_entry *entries;
	unsigned more = n->n ? n->n * 2 : 16;

	for (unsigned i = 0; i < n->n; i++)
		if (!n->entries[i].id)
			return &n->entries[i];
	entries = realloc(n->entries, more * sizeof(*entries));
	if (!entries)
		return NULL;
	memset(entries + n->n, 0, (more - n->n) * sizeof(*entries));
	n->entries = entries;
	entries += n->n;
	n->n = more;
	return entries;
}

int notify_add(struct notify *n, const char *path, uint32_t mask, notify_fn fn, void *arg)
{
	struct notify_entry *e = notify_free_entry(n);
	int wd;

	if (!e)
		return -ENOMEM;
	wd = inotify_add_watch(n->fd, path, mask | IN_MASK_ADD);
	if (wd < 0)
		return -errno;
	*e = (struct notify_entry){ n->next_id++, wd, fn, arg };
	return e->id;
}

void notify_remove(struct notify *n, int id)
{
	int wd = -1;

	if (!n || id <= 0)
		return;
	for (unsigned i = 0; i < n->n; i++) {
		if (n->entries[i].id != id)
			continue;
		wd = n->entries[i].wd;
		n->entries[i] = (struct notify_entry){ 0 };
	}
	for (unsigned i = 0; i < n->n; i++)
		if (n->entries[i].id && n->entries[i].wd == wd)
			return;
	/* Fails when the inode is gone, which is what we want anyway. */
	if (wd >= 0)
		inotify_rm_watch(n->fd, wd);
}
