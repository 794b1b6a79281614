/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/journal.h"
#include "tests/unit/test.h"

static char dir_name[64];

static int dir_new(void)
{
	str_copy(dir_name, sizeof(dir_name), STR("/tmp/sallyport-journal-XXXXXX"));
	if (!mkdtemp(dir_name))
		exit(1);
	return open(dir_name, O_RDONLY | O_DIRECTORY);
}

static void dir_remove(int fd)
{
	char command[128];

	close(fd);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir_name);
	CHECK_INT(system(command), 0);
}

static int put(struct journal *j, uint64_t number, size_t pad)
{
	static char padding[JOURNAL_RECORD_MAX];
	struct iovec iov[2] = { { &number, sizeof(number) }, { padding, pad } };

	return journal_append(j, 7, iov, 2);
}

/* Reads all there is and checks that the numbers go on from *next. */
static unsigned drain(struct journal_reader *r, uint64_t *next)
{
	struct journal_record rec;
	unsigned n = 0;

	while (journal_read(r, &rec) == 1) {
		uint64_t number;

		memcpy(&number, rec.data, sizeof(number));
		CHECK_INT(number, *next);
		CHECK_INT(rec.type, 7);
		*next = number + 1;
		n++;
	}
	return n;
}

static void writes_and_reads(void)
{
	int dir = dir_new();
	struct journal *j = NULL;
	struct journal_reader *r = NULL;
	uint64_t next = 0;

	CHECK_INT(journal_open(dir, "w0", 1 << 30, &j), 0);
	CHECK_INT(journal_reader_open(dir, "w0", (struct journal_position){ 0, 0 }, &r), 0);
	CHECK_INT(drain(r, &next), 0);
	for (uint64_t i = 0; i < 1000; i++) {
		CHECK_INT(put(j, i, i % 50), 0);
		if (i % 7 == 0)
			drain(r, &next);
	}
	drain(r, &next);
	CHECK_INT(next, 1000);
	CHECK_INT(put(j, 0, JOURNAL_RECORD_MAX), -EMSGSIZE);
	journal_reader_close(r);
	journal_close(j);
	dir_remove(dir);
}

/* Several segments, a reader that comes back at its position, and trimming of what it is done with. */
static void segments_and_positions(void)
{
	int dir = dir_new();
	struct journal *j = NULL;
	struct journal_reader *r = NULL;
	struct journal_position pos = { 0, 0 };
	uint64_t next = 0, wrote = 0;

	CHECK_INT(journal_open(dir, "w0", 1 << 30, &j), 0);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 100; i++)
			CHECK_INT(put(j, wrote++, 30000), 0);
		CHECK_INT(journal_reader_open(dir, "w0", pos, &r), 0);
		CHECK_INT(drain(r, &next), 100);
		pos = journal_reader_position(r);
		journal_reader_trim(r, pos);
		journal_reader_close(r);
	}
	CHECK_INT(next, 500);
	CHECK(pos.segment >= 3);
	{
		char first[128];

		snprintf(first, sizeof(first), "%s/w0-000000000001", dir_name);
		CHECK_INT(access(first, F_OK), -1);
	}
	journal_close(j);
	dir_remove(dir);
}

static void limit_is_kept(void)
{
	int dir = dir_new();
	struct journal *j = NULL;
	struct journal_reader *r = NULL;
	uint64_t wrote = 0, next = 0;

	CHECK_INT(journal_open(dir, "w0", 4 * JOURNAL_SEGMENT_BYTES, &j), 0);
	while (put(j, wrote, 60000) == 0 && wrote < 10000)
		wrote++;
	CHECK(wrote > 200 && wrote < 300);
	CHECK(!journal_has_room(j, 1 << 17));
	CHECK_INT(journal_reader_open(dir, "w0", (struct journal_position){ 0, 0 }, &r), 0);
	CHECK_INT(drain(r, &next), wrote);
	journal_reader_trim(r, journal_reader_position(r));
	CHECK(journal_has_room(j, 1 << 17));
	CHECK_INT(put(j, wrote, 60000), 0);
	CHECK_INT(drain(r, &next), 1);
	journal_reader_close(r);
	journal_close(j);
	dir_remove(dir);
}

/* A writer that is killed anywhere leaves whole records, and the one that follows is read after them. */
static void killed_writer(void)
{
	int dir = dir_new();
	struct journal_reader *r = NULL;
	uint64_t next = 0;

	CHECK_INT(journal_reader_open(dir, "w0", (struct journal_position){ 0, 0 }, &r), 0);
	for (int round = 0; round < 10; round++) {
		int status;
		pid_t pid = fork();

		if (!pid) {
			struct journal *j = NULL;

			if (journal_open(dir, "w0", 1 << 30, &j))
				_exit(1);
			for (uint64_t i = next;; i++)
				put(j, i, 20000);
		}
		usleep(5000 + 3000 * (unsigned)round);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		drain(r, &next);
		journal_reader_trim(r, journal_reader_position(r));
	}
	CHECK(next > 10);
	journal_reader_close(r);
	dir_remove(dir);
}

TESTS(T(writes_and_reads), T(segments_and_positions), T(limit_is_kept), T(killed_writer))
