/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks for a secret where it must not be, and tries to get at processes that must not be got at.
 *
 *   pry find FILE PID…   the secret in FILE: "PID memory N" for N places in the process' memory, "PID dumpable N" for
 *                        those of them that a core file would have, "PID NAME" for each file of its /proc that holds it
 *   pry try PID…         as who runs it: "PID WAY" for each way into the process that is open, "PID none"
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "common/base.h"
#include "common/str.h"

#define WINDOW_BYTES   (1u << 20)
#define SECRET_MAX     256
/* Rationale: what lies in /proc is short; a file behind fd/ need not be. */
#define FILE_BYTES_MAX (64u << 20)
/* The shadow memory of a sanitizer, reserved and hardly used. */
#define MAPPING_MAX    (1ull << 40)

static char secret[SECRET_MAX + 1];
static size_t secret_n;
static char window[WINDOW_BYTES + SECRET_MAX];

static unsigned count_in(struct str s)
{
	const struct str needle = { secret, secret_n };
	unsigned n = 0;
	const char *at;

	while ((at = str_find(s, needle))) {
		n++;
		s = str_skip(s, (size_t)(at - s.s) + 1);
	}
	return n;
}

/* From `from` on, at most `max` bytes; one that lies across two windows counts too, and once. */
static unsigned count_in_fd(int fd, uint64_t from, uint64_t max)
{
	size_t kept = 0;
	unsigned n = 0;

	for (uint64_t at = 0; at < max;) {
		ssize_t got = pread(fd, window + kept, MIN((uint64_t)WINDOW_BYTES, max - at), (off_t)(from + at));
		size_t have;

		if (got <= 0)
			break;
		have = kept + (size_t)got;
		n += count_in((struct str){ window, have });
		kept = MIN(secret_n - 1, have);
		memmove(window, window + have - kept, kept);
		at += (uint64_t)got;
	}
	return n;
}

/* ------------------------------------------------------------------ find */

struct mapping {
	unsigned long start, end;
	bool readable;
	unsigned long rss_kib;
};

static void find_in_memory(const char *pid)
{
	char path[64], line[512], perms[8];
	struct mapping m = { 0 };
	unsigned all = 0, dumpable = 0;
	FILE *maps;
	int mem;

	snprintf(path, sizeof(path), "/proc/%s/smaps", pid);
	maps = fopen(path, "re");
	snprintf(path, sizeof(path), "/proc/%s/mem", pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	if (!maps || mem < 0) {
		printf("%s unreadable %s\n", pid, strerror(errno));
		exit(1);
	}
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end; /* "Anonymous:" begins as a number does */

		if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) == 3) {
			m = (struct mapping){ start, end, perms[0] == 'r', 0 };
		} else if (sscanf(line, "Rss: %lu", &m.rss_kib) == 1) {
			continue;
		} else if (!strncmp(line, "VmFlags:", 8) && m.readable && m.rss_kib && m.end - m.start < MAPPING_MAX) {
			unsigned n = count_in_fd(mem, m.start, m.end - m.start);

			all += n;
			dumpable += strstr(line, " dd") ? 0 : n;
		}
	}
	fclose(maps);
	close(mem);
	printf("%s memory %u\n%s dumpable %u\n", pid, all, pid, dumpable);
}

static int find_in_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	const char *name = path + at->base;
	int fd;

	(void)st;
	/* mem was read above; the others are not text and have no end. */
	if (type != FTW_F || !strcmp(name, "mem") || !strcmp(name, "pagemap") || !strcmp(name, "clear_refs"))
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return 0;
	if (count_in_fd(fd, 0, FILE_BYTES_MAX))
		printf("%d %s\n", (int)strtol(path + strlen("/proc/"), NULL, 10), path);
	close(fd);
	return 0;
}

static int find(const char *file, char **pids)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, secret, SECRET_MAX);

	while (n > 0 && (unsigned char)secret[n - 1] <= ' ')
		n--;
	if (n < 8) {
		fprintf(stderr, "pry: %s holds no secret\n", file);
		return 2;
	}
	close(fd);
	secret_n = (size_t)n;
	for (; *pids; pids++) {
		char root[32];

		find_in_memory(*pids);
		snprintf(root, sizeof(root), "/proc/%s", *pids);
		nftw(root, find_in_file, 16, FTW_PHYS);
	}
	return 0;
}

/* ------------------------------------------------------------------ try */

static bool try_ptrace(pid_t pid)
{
	if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0)
		return false;
	ptrace(PTRACE_INTERRUPT, pid, 0, 0);
	waitpid(pid, NULL, __WALL);
	ptrace(PTRACE_DETACH, pid, 0, 0);
	return true;
}

/* EFAULT would come from behind the check: the address need not be there. */
static bool try_readv(pid_t pid)
{
	char byte;
	struct iovec here = { &byte, 1 }, there = { (void *)(uintptr_t)4096, 1 };

	return process_vm_readv(pid, &here, 1, &there, 1, 0) >= 0 || errno == EFAULT;
}

static bool try_take_fd(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, 0, 0);
	bool got = fd >= 0 || (pidfd >= 0 && errno == EBADF);

	if (fd >= 0)
		close(fd);
	if (pidfd >= 0)
		close(pidfd);
	return got;
}

static bool try_open(pid_t pid, const char *name)
{
	char path[64], byte;
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	/* Who may list descriptors may not yet follow one. */
	if (str_starts(str_of(name), STR("fd/")))
		return readlink(path, &byte, 1) >= 0 || errno == ENOENT;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	/* An empty environment reads as nothing; memory at 0 is not there. Both were let in. */
	n = read(fd, &byte, 1);
	close(fd);
	return n >= 0 || errno == EIO;
}

static int try(char **pids)
{
	static const char *const names[] = { "mem", "environ", "maps", "smaps", "auxv", "fd/0", "syscall", "stack", "pagemap" };

	for (; *pids; pids++) {
		pid_t pid = (pid_t)strtol(*pids, NULL, 10);
		unsigned n = 0;

		if (try_ptrace(pid) && ++n)
			printf("%d ptrace\n", pid);
		if (try_readv(pid) && ++n)
			printf("%d process_vm_readv\n", pid);
		if (try_take_fd(pid) && ++n)
			printf("%d pidfd_getfd\n", pid);
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			if (try_open(pid, names[i]) && ++n)
				printf("%d %s\n", pid, names[i]);
		if (!n)
			printf("%d none\n", pid);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 3 && !strcmp(argv[1], "find"))
		return find(argv[2], argv + 3);
	if (argc > 2 && !strcmp(argv[1], "try"))
		return try(argv + 2);
	fprintf(stderr, "usage: pry find FILE PID… | pry try PID…\n");
	return 2;
}
