/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. live-N, the running requests of the worker with slot N, and its journal directory
 * wN.GENERATION are locked with flock() by the descriptors that the agent opens and hands to the worker: the lock
 * lives until both are gone, whoever dies first. So a daemon that starts sees which slots are taken by workers that
 * finish what a former one began, and the ledger sees which journals are still written.
 *
 *   locked            its worker runs (or is ours)
 *   free, empty       to be taken; a slot's file is kept, it knows the last request id that was given out
 *   free, not empty   its worker died with its daemon: one of ours records what ran, then the file is empty
 */
#include "agent/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/roles.h"
#include "common/log.h"

/* Rationale: longer than a worker needs for what it was handed; nobody waits for it. */
#define RECOVER_NS   (2 * NSEC_PER_SEC)
#define JOURNAL_NEW  "journal.new"
#define LIVE_FLAGS   (O_RDWR | O_NOFOLLOW | O_CLOEXEC)

/* Its file, locked: a descriptor, -EWOULDBLOCK: a worker has it, -ENOENT: never used. */
static int live_lock(struct agent *a, unsigned slot, int flags)
{
	auto_close int fd = -1;
	char name[32];

	snprintf(name, sizeof(name), "live-%u", slot);
	fd = openat(a->journal_dir, name, LIVE_FLAGS | flags, 0660);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int slot_take(struct agent *a, unsigned from, unsigned *ret_slot, int *ret_live_fd)
{
	for (unsigned slot = from; slot < AGENT_SLOTS; slot++) {
		auto_close int fd = live_lock(a, slot, O_CREAT);

		if (fd == -EWOULDBLOCK)
			continue;
		if (fd < 0)
			return fd;
		if (fchown(fd, a->gateway_uid, a->gid) < 0 || fchmod(fd, 0660) < 0)
			return -errno;
		*ret_slot = slot;
		*ret_live_fd = TAKE_FD(fd);
		return 0;
	}
	return -ENOSPC;
}

/* Under another name until it is locked: the ledger takes one that nobody has locked for the journal of a dead worker. */
int slot_journal(struct agent *a, unsigned slot)
{
	auto_close int fd = -1;
	char name[32];

	if (mkdirat(a->journal_dir, JOURNAL_NEW, 0770) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(a->journal_dir, JOURNAL_NEW, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchown(fd, a->gateway_uid, a->gid) < 0 || fchmod(fd, 02770) < 0 ||
	    flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	snprintf(name, sizeof(name), "w%u.%u", slot, a->generation);
	if (renameat(a->journal_dir, JOURNAL_NEW, a->journal_dir, name) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* True when there is nothing (more) to do for this slot. */
static bool slot_recovered(struct agent *a, unsigned slot)
{
	auto_close int fd = roles_has_slot(a, slot) ? -ENOENT : live_lock(a, slot, 0);
	struct stat st;

	if (fd < 0)
		return fd != -EWOULDBLOCK;
	if (fstat(fd, &st) == 0 && st.st_size <= LIVE_EMPTY_BYTES)
		return true;
	/* The worker has the lock while it works; when it dies, another one gets the rest. */
	roles_send_left(a, fd);
	return false;
}

static void on_recover(void *arg)
{
	struct agent *a = arg;
	bool all = true;

	for (unsigned slot = 0; slot < AGENT_SLOTS; slot++)
		all &= slot_recovered(a, slot);
	/* Nobody but a daemon's start makes new ones. */
	if (!all)
		loop_timer(&a->loop, &a->slots_timer, a->loop.now_ns + RECOVER_NS, on_recover, a);
}

void slots_recover(struct agent *a)
{
	loop_timer(&a->loop, &a->slots_timer, a->loop.now_ns + RECOVER_NS, on_recover, a);
}

void slots_fini(struct agent *a)
{
	loop_untimer(&a->loop, &a->slots_timer);
}
