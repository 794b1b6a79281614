/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent/sandbox.h"
#include "common/log.h"

#define STATE_FILE  "agent.state"
#define STATE_NEW   "agent.state.new"
#define STATE_MAGIC 0x31544154534c5053ULL /* "SPLSTAT1" */
/* Rationale: one write of the file reserves this many ids, so that a label costs no extra write. */
#define STATE_IDS_AHEAD 256
#define STATE_DELAY_NS	(100 * NSEC_PER_MSEC)

struct state_header {
	uint64_t magic;
	uint32_t record_bytes; /* of msg_sandbox: another build's file keeps only its ids */
	uint32_t count;
	uint32_t reserved_label_id;
	uint32_t pad;
	char boot_id[40];
};

static void boot_id(char ret[40])
{
	auto_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(ret, 0, 40);
	if (fd >= 0 && read(fd, ret, 36) < 0)
		ret[0] = '\0';
}

static int write_all(int fd, const void *data, size_t n)
{
	for (const char *p = data; n;) {
		ssize_t done = write(fd, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

static int state_write(struct agent *a, int fd)
{
	struct state_header head = { .magic = STATE_MAGIC,
				     .record_bytes = sizeof(struct msg_sandbox),
				     .count = a->n_sandboxes,
				     .reserved_label_id = a->reserved_label_id };
	int err;

	boot_id(head.boot_id);
	err = write_all(fd, &head, sizeof(head));
	for (struct sandbox *sb = a->sandboxes; sb && !err; sb = sb->next)
		err = write_all(fd, &sb->info, sizeof(sb->info));
	return err ? err : fdatasync(fd) < 0 ? -errno : 0;
}

int state_save(struct agent *a)
{
	auto_close int fd = -1;
	int err;

	loop_untimer(&a->loop, &a->save_timer);
	fd = openat(a->state_dir, STATE_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	err = fd < 0 ? -errno : state_write(a, fd);
	if (!err && renameat(a->state_dir, STATE_NEW, a->state_dir, STATE_FILE) < 0)
		err = -errno;
	if (err)
		log_limited(
			LOG_ERR,
			"the state file cannot be written, labels are lost with the daemon: free "
			"some disk file=%s error=%s",
			STATE_FILE, errno_text(err));
	return err;
}

static void on_save(void *arg)
{
	state_save(arg);
}

void state_save_soon(struct agent *a)
{
	if (!a->save_timer.index)
		loop_timer(&a->loop, &a->save_timer, a->loop.now_ns + STATE_DELAY_NS, on_save, a);
}

uint32_t state_next_label_id(struct agent *a)
{
	if (a->next_label_id >= a->reserved_label_id) {
		a->reserved_label_id = a->next_label_id + STATE_IDS_AHEAD;
		if (state_save(a)) {
			a->reserved_label_id = a->next_label_id;
			return 0;
		}
	}
	return a->next_label_id++;
}

static bool read_all(int fd, void *data, size_t n)
{
	for (char *p = data; n;) {
		ssize_t got = read(fd, p, n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		p += got;
		n -= (size_t)got;
	}
	return true;
}

/* The file is ours, but may be damaged: every string ends, every path is one. */
static bool record_ok(struct msg_sandbox *m)
{
	m->path[MSG_PATH_BYTES - 1] = m->tags[MSG_TAGS_BYTES - 1] = '\0';
	m->container[MSG_NAME_BYTES - 1] = m->image[MSG_IMAGE_BYTES - 1] = '\0';
	m->note[MSG_NAME_BYTES - 1] = '\0';
	return m->label_id && m->cgroup_id && m->origin < ORIGIN_MAX && m->path[0] == '/';
}

void state_load(struct agent *a, state_sandbox_fn fn)
{
	auto_close int fd = openat(a->state_dir, STATE_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct state_header head;
	char boot[40];

	a->next_label_id = a->reserved_label_id = 1;
	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0 || !read_all(fd, &head, sizeof(head)) || head.magic != STATE_MAGIC ||
	    !head.reserved_label_id) {
		/* The wall clock keeps new ids above the lost ones. */
		a->next_label_id = a->reserved_label_id =
			(uint32_t)(a->loop.wall_ns / NSEC_PER_SEC);
		log_warn("the state file is damaged, labels have to be given again file=%s",
			 STATE_FILE);
		return;
	}
	a->next_label_id = a->reserved_label_id = head.reserved_label_id;
	boot_id(boot);
	if (memcmp(boot, head.boot_id, sizeof(boot)) ||
	    head.record_bytes != sizeof(struct msg_sandbox))
		return;
	for (uint32_t i = 0; i < head.count; i++) {
		struct msg_sandbox info;

		if (!read_all(fd, &info, sizeof(info)))
			break;
		if (record_ok(&info))
			fn(a, &info);
	}
}
