/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Balances under concurrency and death: children that race for a bucket, children that are killed
 * at random moments, and the state that a death after each single instruction would leave (where
 * ptrace is allowed).
 */
#include "tests/unit/test.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>

#include "gateway/balance.c" /* its file format is looked at after each instruction */

static int new_file(void)
{
	int fd = memfd_create("balances", MFD_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static struct balances *must_open(int fd, unsigned writer)
{
	struct balances *b = NULL;

	CHECK_INT(balances_open(fd, writer, &b), 0);
	if (!b)
		exit(1);
	return b;
}

static int64_t balance_of(struct balances *b, const char *name, int64_t *ret_held)
{
	struct balance_row row;

	for (unsigned i = 0; balances_row(b, i, 0, &row); i++) {
		if (strcmp(row.bucket, name) != 0)
			continue;
		if (ret_held)
			*ret_held = row.held;
		return row.balance;
	}
	return INT64_MIN;
}

static const int64_t nothing[QUOTA_UNIT_MAX];

static void reserve_and_settle(void)
{
	struct policy_quota usd = { .unit = QUOTA_NANOUSD, .capacity = 100 };
	struct policy_quota calls = { .unit = QUOTA_REQUESTS, .capacity = 2 };
	struct balance_need needs[] = { { &usd, "day:tag:a", 60 }, { &calls, "calls", 1 } };
	int64_t real[QUOTA_UNIT_MAX] = { [QUOTA_NANOUSD] = 25, [QUOTA_REQUESTS] = 1 };
	int64_t held = 0;
	struct balance_refusal refusal;
	struct balance_hold hold, second;
	int fd = new_file();
	struct balances *b = must_open(fd, 0);

	CHECK_INT(balances_reserve(b, needs, 2, 1, &hold, &refusal), 0);
	CHECK(hold.op != 0 && hold.n == 2);
	CHECK_INT(balance_of(b, "day:tag:a", &held), 40);
	CHECK_INT(held, 60);
	/* All or nothing: the second bucket would pass, the first does not. */
	CHECK_INT(balances_reserve(b, needs, 2, 1, &second, &refusal), -EDQUOT);
	CHECK_INT(second.op, 0);
	CHECK_INT(refusal.need, 0);
	CHECK_INT(refusal.balance, 40);
	CHECK(refusal.retry_after_ns == UINT64_MAX);
	CHECK_INT(balance_of(b, "calls", NULL), 1);
	balances_settle(b, &hold, real);
	CHECK_INT(hold.op, 0);
	CHECK_INT(balance_of(b, "day:tag:a", &held), 75);
	CHECK_INT(held, 0);
	balances_settle(b, &hold, real); /* empty: nothing happens */
	CHECK_INT(balance_of(b, "day:tag:a", NULL), 75);
	CHECK_INT(balance_of(b, "calls", NULL), 1);
	needs[0].amount = 75; /* exactly enough */
	CHECK_INT(balances_reserve(b, needs, 2, 1, &hold, &refusal), 0);
	needs[0].amount = 0;
	CHECK_INT(balances_reserve(b, needs, 2, 1, &second, &refusal), -EDQUOT);
	CHECK_INT(refusal.need, 1);
	balances_close(b);
	close(fd);
}

static void reopen(void)
{
	struct policy_quota q = { .unit = QUOTA_TOKENS, .capacity = 100 };
	struct balance_need need = { &q, "pool", 30 };
	struct balance_refusal refusal;
	struct balance_hold hold;
	int fd = new_file();
	struct balances *b = must_open(fd, 3);

	CHECK_INT(balances_reserve(b, &need, 1, 1, &hold, &refusal), 0);
	balances_close(b);
	b = must_open(fd, 4);
	CHECK_INT(balance_of(b, "pool", NULL), 70);
	balances_settle(b, &hold, nothing); /* by another process than the one that reserved */
	CHECK_INT(balance_of(b, "pool", NULL), 100);
	balances_close(b);
	CHECK_INT(ftruncate(fd, 100), 0);
	CHECK_INT(balances_open(fd, 0, &b), -EPROTO);
	CHECK_INT(balances_open(fd, BALANCE_WRITERS_MAX, &b), -EINVAL);
	close(fd);
}

static void terms_change(void)
{
	struct policy_quota q = { .unit = QUOTA_TOKENS, .capacity = 100 };
	struct balance_need need = { &q, "pool", 10 };
	struct balance_refusal refusal;
	struct balance_hold hold;
	int fd = new_file();
	struct balances *b = must_open(fd, 0);

	CHECK_INT(balances_reserve(b, &need, 1, 1, &hold, &refusal), 0);
	balances_settle(b, &hold, (int64_t[QUOTA_UNIT_MAX]){ [QUOTA_TOKENS] = 10 });
	CHECK_INT(balance_of(b, "pool", NULL), 90);
	q.capacity = 200; /* raising does not fill */
	CHECK_INT(balances_reserve(b, &need, 1, 1, &hold, &refusal), 0);
	CHECK_INT(balance_of(b, "pool", NULL), 80);
	q.capacity = 40; /* lowering trims */
	CHECK_INT(balances_reserve(b, &need, 1, 1, &hold, &refusal), 0);
	CHECK_INT(balance_of(b, "pool", NULL), 30);
	balances_settle(b, &hold, nothing);
	CHECK_INT(balance_of(b, "pool", NULL), 40);
	/* Another unit is another bucket. */
	q.unit = QUOTA_REQUESTS;
	CHECK_INT(balances_reserve(b, &need, 1, 1, &hold, &refusal), 0);
	CHECK_INT(balances_refill(b, "nobody", -1, 1), -ENOENT);
	CHECK_INT(balances_refill(b, "pool", 5, 1), 0);
	CHECK_INT(balance_of(b, "pool", NULL), 40);
	CHECK_INT(balances_refill(b, "pool", -1, 1), 0);
	balances_close(b);
	close(fd);
}

static void refill_and_warn(void)
{
	struct policy_quota q = {
		.unit = QUOTA_REQUESTS, .capacity = 2, .rate = 1, .rate_period_ns = NSEC_PER_SEC
	};
	struct policy_quota warn = { .unit = QUOTA_TOKENS, .capacity = 5, .warn_only = true };
	struct balance_need need = { &q, "calls", 1 }, soft = { &warn, "soft", 50 };
	struct balance_refusal refusal;
	struct balance_hold hold;
	int fd = new_file();
	struct balances *b = must_open(fd, 0);

	CHECK_INT(balances_reserve(b, &need, 1, NSEC_PER_SEC, &hold, &refusal), 0);
	CHECK_INT(balances_reserve(b, &need, 1, NSEC_PER_SEC, &hold, &refusal), 0);
	CHECK_INT(balances_reserve(b, &need, 1, NSEC_PER_SEC + 1, &hold, &refusal), -EDQUOT);
	CHECK_INT(refusal.retry_after_ns, NSEC_PER_SEC - 1);
	CHECK_INT(balances_reserve(b, &need, 1, 2 * NSEC_PER_SEC, &hold, &refusal), 0);
	CHECK_INT(balances_reserve(b, &soft, 1, 1, &hold, &refusal), 0);
	CHECK_INT(balance_of(b, "soft", NULL), -45);
	balances_close(b);
	close(fd);
}

static void void_holds(void)
{
	struct policy_quota q = { .unit = QUOTA_TOKENS, .capacity = 100 };
	struct balance_need need = { &q, "pool", 30 };
	struct balance_refusal refusal;
	struct balance_hold hold;
	int64_t held = 0;
	int fd = new_file();
	struct balances *b = must_open(fd, 0);

	CHECK_INT(balances_reserve(b, &need, 1, 1, &hold, &refusal), 0);
	balances_void(b);
	CHECK_INT(balance_of(b, "pool", &held), 100);
	CHECK_INT(held, 0);
	balances_settle(b, &hold, (int64_t[QUOTA_UNIT_MAX]){ [QUOTA_TOKENS] = 30 });
	CHECK_INT(hold.op, 0);
	CHECK_INT(balance_of(b, "pool", NULL), 100);
	CHECK_INT(balances_reserve(b, &need, 1, 1, &hold, &refusal), 0);
	balances_settle(b, &hold, (int64_t[QUOTA_UNIT_MAX]){ [QUOTA_TOKENS] = 30 });
	CHECK_INT(balance_of(b, "pool", NULL), 70);
	balances_close(b);
	close(fd);
}

/* A table full of buckets at rest makes room; one full of used ones does not. */
static void full_table(void)
{
	struct policy_quota q = { .unit = QUOTA_REQUESTS, .capacity = 2 };
	static struct balance_hold keep;
	struct balance_refusal refusal;
	struct balance_hold hold;
	char name[32];
	int fd = new_file();
	struct balances *b = must_open(fd, 0);

	for (unsigned i = 0; i < BALANCE_BUCKETS_MAX; i++) {
		struct balance_need need = { &q, name, i ? 1 : 0 };

		snprintf(name, sizeof(name), "b%u", i);
		CHECK_INT(balances_reserve(b, &need, 1, 1, i ? &hold : &keep, &refusal), 0);
		if (i)
			balances_settle(b, &hold,
					i % 2 ? nothing
					      : (int64_t[QUOTA_UNIT_MAX]){ [QUOTA_REQUESTS] = 1 });
	}
	for (unsigned i = 0; i < BALANCE_BUCKETS_MAX / 2 + 1; i++) {
		struct balance_need need = { &q, name, 1 };

		snprintf(name, sizeof(name), "c%u", i);
		CHECK_INT(balances_reserve(b, &need, 1, 10 * NSEC_PER_SEC, &hold, &refusal),
			  i < BALANCE_BUCKETS_MAX / 2 ? 0 : -ENOSPC);
	}
	CHECK_INT(balance_of(b, "b2", NULL), 1);	 /* used: stays */
	CHECK_INT(balance_of(b, "b3", NULL), INT64_MIN); /* full: its slot was taken */
	CHECK_INT(balance_of(b, "b0", NULL), 2); /* full, but somebody holds nothing of it */
	balances_settle(b, &keep, (int64_t[QUOTA_UNIT_MAX]){ [QUOTA_REQUESTS] = 1 });
	CHECK_INT(balance_of(b, "b0", NULL), 1);
	balances_close(b);
	close(fd);
}

/* 8 processes make 25 attempts each at a bucket of 10. */
static void ten_of_two_hundred(void)
{
	struct policy_quota q = { .unit = QUOTA_REQUESTS, .capacity = 10 };
	unsigned *passed =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd = new_file();
	struct balances *b;
	pid_t pids[8];

	for (unsigned c = 0; c < 8; c++) {
		pids[c] = fork();
		if (pids[c] == 0) {
			struct balance_need need = { &q, "calls", 1 };
			struct balance_refusal refusal;
			struct balance_hold hold;

			b = must_open(fd, c);
			for (int i = 0; i < 25; i++) {
				int err = balances_reserve(b, &need, 1, 1, &hold, &refusal);

				if (!err)
					__atomic_fetch_add(passed, 1, __ATOMIC_SEQ_CST);
				else if (err != -EDQUOT)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (unsigned c = 0; c < 8; c++) {
		int status = -1;

		waitpid(pids[c], &status, 0);
		CHECK_INT(status, 0);
	}
	CHECK_INT(*passed, 10);
	b = must_open(fd, 0);
	CHECK_INT(balance_of(b, "calls", NULL), 0);
	balances_close(b);
	munmap(passed, 4096);
	close(fd);
}

/* ---------------------------------------------------------------- death */

#define BUCKETS	 3
#define CAPACITY 1000000

static struct policy_quota pool = { .unit = QUOTA_TOKENS, .capacity = CAPACITY };
static const char *const names[BUCKETS] = { "a", "b", "c" }, *const others[BUCKETS] = { "x", "y",
											"z" };
/*
 * Spent at first, so that nothing hides behind the capacity; the third bucket is made in the race.
 */
static const int64_t spent[BUCKETS] = { 5000, 5000, 0 };

static void spend(struct balances *b)
{
	for (unsigned k = 0; k < BUCKETS; k++) {
		struct balance_need need = { &pool, names[k], 1 };
		struct balance_refusal refusal;
		struct balance_hold hold;

		if (!spent[k])
			continue;
		CHECK_INT(balances_reserve(b, &need, 1, 1, &hold, &refusal), 0);
		balances_settle(b, &hold, (int64_t[QUOTA_UNIT_MAX]){ [QUOTA_TOKENS] = spent[k] });
	}
}

/* Holds that outlive their process; one for each child. */
struct shared {
	struct balance_hold holds[8];
};

static void work(struct balances *b, struct balance_hold *hold, const char *const *use,
		 unsigned seed, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++) {
		struct balance_need needs[BUCKETS];
		struct balance_refusal refusal;

		for (unsigned k = 0; k < BUCKETS; k++) {
			seed = seed * 1103515245 + 12345;
			needs[k] = (struct balance_need){ &pool, use[k], seed >> 16 & 255 };
		}
		if (balances_reserve(b, needs, BUCKETS, 1, hold, &refusal))
			_exit(1);
		balances_settle(b, hold, nothing);
	}
}

/* Nobody spends any more, so what each bucket has in balance and holds is always the same. */
static void check_conserved(struct balances *b)
{
	for (unsigned k = 0; k < BUCKETS; k++) {
		int64_t held = 0, balance = balance_of(b, names[k], &held);

		if (balance != INT64_MIN)
			CHECK_INT(balance + held, CAPACITY - spent[k]);
	}
}

static void check_empty(struct balances *b)
{
	for (unsigned k = 0; k < BUCKETS; k++) {
		int64_t held = 0, balance = balance_of(b, names[k], &held);

		if (balance == INT64_MIN)
			continue;
		CHECK_INT(balance, CAPACITY - spent[k]);
		CHECK_INT(held, 0);
	}
}

static struct shared *shared_new(void)
{
	return mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		    -1, 0);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static pid_t spawn_worker(int fd, struct shared *shared, unsigned c, unsigned seed)
{
	pid_t pid = fork();

	if (pid < 0) {
		perror("fork");
		exit(1);
	}
	if (pid == 0) {
		work(must_open(fd, c + 1), &shared->holds[c], names, seed, ~0u);
		_exit(0);
	}
	return pid;
}

static void random_kills(void)
{
	struct shared *shared = shared_new();
	int fd = new_file();
	struct balances *b = must_open(fd, 0);
	uint64_t end = now_ms() + 1500;
	unsigned kills = 0, n = 4;
	pid_t pids[8];

	spend(b);
	srand((unsigned)getpid());
	for (unsigned c = 0; c < n; c++)
		pids[c] = spawn_worker(fd, shared, c, c);
	while (now_ms() < end) {
		unsigned c = (unsigned)rand() % n;
		int status = 0;

		nanosleep(&(struct timespec){ .tv_nsec = rand() % 3000000 }, NULL);
		kill(pids[c], SIGKILL);
		waitpid(pids[c], &status, 0);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		kills++;
		balances_settle(b, &shared->holds[c], nothing);
		check_conserved(b);
		pids[c] = spawn_worker(fd, shared, c, kills);
	}
	for (unsigned c = 0; c < n; c++) {
		kill(pids[c], SIGKILL);
		waitpid(pids[c], NULL, 0);
		balances_settle(b, &shared->holds[c], nothing);
	}
	check_empty(b);
	printf("(%u kills) ", kills);
	balances_close(b);
	munmap(shared, sizeof(*shared));
	close(fd);
}

/* What an instruction can change: all of the file but the slots that nobody uses. */
#define STATE_BYTES offsetof(struct balance_file, buckets[2 * BUCKETS + 1])

/*
 * The state that a process leaves when it dies here: the file and its hold as they stand, and what
 * the kernel does to a lock whose owner is gone.
 */
static void die_here(const struct balance_file *live, const struct balance_hold *live_hold,
		     struct balances *scratch, int scratch_fd, bool restarted)
{
	struct balance_hold hold = *live_hold;
	struct balances *b = scratch;
	struct balance_row row;

	memcpy(scratch->f, live, STATE_BYTES);
	if (scratch->f->lock.__data.__lock)
		scratch->f->lock.__data.__lock |= (int)FUTEX_OWNER_DIED;
	check_conserved(scratch);
	if (restarted)
		b = must_open(scratch_fd, 1);
	balances_settle(b, &hold, nothing);
	check_conserved(b);
	check_empty(b);
	work(b, &hold, names, 3, 1); /* and everything works on, on the same buckets */
	check_empty(b);
	CHECK(!balances_row(b, 2 * BUCKETS, 1, &row));
	if (restarted)
		balances_close(b);
}

static bool stopped(pid_t pid)
{
	int status = 0;

	return waitpid(pid, &status, 0) == pid && WIFSTOPPED(status);
}

/*
 * A process in single steps through one reserve and one settle; every state it passes is looked
 * at.
 */
static void each_instruction(void)
{
	struct shared *shared = shared_new();
	int fd = new_file(), scratch_fd = new_file();
	struct balances *b = must_open(fd, 0), *scratch = must_open(scratch_fd, 2);
	struct balance_file *last = calloc(1, STATE_BYTES);
	struct balance_hold last_hold = { 0 };
	unsigned steps = 0, states = 0;
	uint64_t end = now_ms() + 8000;
	pid_t pid;

	spend(b);
	pid = fork();
	if (pid < 0)
		exit(1);
	if (pid == 0) {
		struct balances *own = must_open(fd, 1);

		work(own, &shared->holds[0], others, 1, 1); /* symbols are bound, pages are there */
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(0);
		raise(SIGSTOP);
		work(own, &shared->holds[0], names, 7, 1);
		_exit(0);
	}
	while (stopped(pid) && now_ms() < end && test_failures < 5) {
		if (memcmp(last, b->f, STATE_BYTES) ||
		    memcmp(&last_hold, shared->holds, sizeof(last_hold))) {
			memcpy(last, b->f, STATE_BYTES);
			last_hold = shared->holds[0];
			die_here(last, &last_hold, scratch, scratch_fd, states++ % 2);
		}
		steps++;
		ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL);
	}
	printf("(%u instructions, %u states) ", steps, states);
	CHECK(!steps || states > 50); /* none: ptrace is not allowed here */
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	balances_close(b);
	balances_close(scratch);
	free(last);
	munmap(shared, sizeof(*shared));
	close(fd);
	close(scratch_fd);
}

TESTS(T(reserve_and_settle), T(reopen), T(terms_change), T(refill_and_warn), T(void_holds),
      T(full_table), T(ten_of_two_hundred), T(random_kills), T(each_instruction))
