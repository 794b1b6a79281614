/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The balances of all quota buckets in one mapped file.
 *
 * Theory of operation: a robust process-shared mutex guards the file; whoever finds its owner dead
 * puts things right first. Every change of a bucket first copies the bucket into the undo log, so
 * the log empties at the one store that commits. A SIGKILL stops a process between two instructions
 * and what it stored before is in the page cache, hence compiler barriers are enough.
 *
 * A hold lives in the caller's memory, which dies or survives on its own. It is told by its
 * operation number: numbers never repeat. A reservation that was undone and a settlement whose hold
 * could not be emptied any more leave their number among the `dead` ones, and a dead hold counts as
 * empty. For the second kind the number is in `last_settled` of its writer while that lives, and
 * moves on at the next balances_open() of that writer.
 *
 * Invariants: balance + held changes only by refill, by a settlement's real amount, by new terms.
 * Not handled: a machine that loses power keeps what the kernel had written back; buckets may then
 * be from slightly different moments. Processes must share a PID namespace (the mutex holds thread
 * ids).
 */
#include "gateway/balance.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/base.h"
#include "common/str.h"

#define BALANCE_MAGIC	0x31434e414c415053ull /* "SPALANC1" in memory */
#define BALANCE_VERSION 1
/* Rationale: twice the buckets, so that probing stays short. */
#define INDEX_SLOTS (BALANCE_BUCKETS_MAX * 2)
/*
 * Rationale: one for each death inside the lock and one for each restart; their holds are settled
 * soon.
 */
#define DEAD_OPS 256
/* Rationale: a full table is searched for buckets at rest at most this often. */
#define SWEEP_INTERVAL_NS NSEC_PER_SEC

struct bucket_state {
	struct quota_state quota;
	int64_t held;	/* sum of all holds */
	uint64_t holds; /* how many; some may be of nothing */
	int64_t capacity, rate;
	uint64_t period_ns;
};

struct bucket {
	char name[POLICY_BUCKET_BYTES]; /* "": the slot is free */
	uint32_t unit, pad;
	struct bucket_state state;
};

enum undo_kind { UNDO_OTHER, UNDO_RESERVE, UNDO_SETTLE, UNDO_KIND_MAX };

struct undo {
	uint32_t n; /* entries that count; the store of 0 commits */
	uint32_t kind, writer, pad;
	uint64_t op;
	uint64_t last_settled; /* of the writer, before */
	struct {
		uint32_t slot, pad;
		struct bucket_state state;
	} entries[POLICY_CHARGES_MAX];
};

struct balance_file {
	uint64_t magic;
	uint32_t version, size;
	char boot_id[40];
	pthread_mutex_t lock;
	uint64_t next_op;  /* from 1 */
	uint64_t first_op; /* holds of older operations are void */
	uint32_t n_slots, n_free;
	struct undo undo;
	uint64_t last_settled[BALANCE_WRITERS_MAX];
	uint64_t dead[DEAD_OPS];
	uint32_t n_dead, pad;	     /* ever */
	uint32_t index[INDEX_SLOTS]; /* slot + 1 */
	struct bucket buckets[BALANCE_BUCKETS_MAX];
};

struct balances {
	struct balance_file *f;
	unsigned writer;
	uint64_t next_sweep_ns;
};

#define barrier() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* ---------------------------------------------------------------- the index */

static uint32_t bucket_hash(const char *name, uint32_t unit)
{
	uint32_t h = 2166136261u ^ unit;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h ^ h >> 15;
}

static void index_insert(struct balance_file *f, uint32_t slot)
{
	uint32_t at = bucket_hash(f->buckets[slot].name, f->buckets[slot].unit);

	while (f->index[at % INDEX_SLOTS])
		at++;
	f->index[at % INDEX_SLOTS] = slot + 1;
}

/* After a crash and after buckets were freed. Also makes what a wild write broke harmless. */
static void index_rebuild(struct balance_file *f)
{
	memset(f->index, 0, sizeof(f->index));
	f->n_slots = MIN(f->n_slots, (uint32_t)BALANCE_BUCKETS_MAX);
	f->n_free = 0;
	for (uint32_t i = 0; i < f->n_slots; i++) {
		struct bucket *b = &f->buckets[i];

		b->name[sizeof(b->name) - 1] = '\0';
		if (b->name[0])
			index_insert(f, i);
		else
			f->n_free++;
	}
}

/* The slot, or -1. */
static int64_t index_find(const struct balance_file *f, const char *name, uint32_t unit)
{
	uint32_t at = bucket_hash(name, unit), slot;

	for (; (slot = f->index[at % INDEX_SLOTS]); at++) {
		const struct bucket *b = &f->buckets[slot - 1];

		if (b->unit == unit && strcmp(b->name, name) == 0)
			return slot - 1;
	}
	return -1;
}

/* ---------------------------------------------------------------- the undo log */

static void undo_start(struct balances *b, enum undo_kind kind, uint64_t op)
{
	struct undo *u = &b->f->undo;

	u->kind = kind;
	u->writer = b->writer;
	u->op = op;
	u->last_settled = b->f->last_settled[b->writer];
	barrier();
}

/* Before the first change of a bucket in an operation. */
static struct bucket_state *undo_log(struct balances *b, uint32_t slot)
{
	struct undo *u = &b->f->undo;

	assert(u->n < POLICY_CHARGES_MAX);
	u->entries[u->n].slot = slot;
	u->entries[u->n].state = b->f->buckets[slot].state;
	barrier();
	u->n++;
	barrier();
	return &b->f->buckets[slot].state;
}

static void undo_commit(struct balances *b)
{
	barrier();
	b->f->undo.n = 0;
	barrier();
}

static void undo_apply(struct balance_file *f)
{
	for (uint32_t i = MIN(f->undo.n, (uint32_t)POLICY_CHARGES_MAX); i-- > 0;) {
		if (f->undo.entries[i].slot < BALANCE_BUCKETS_MAX)
			f->buckets[f->undo.entries[i].slot].state = f->undo.entries[i].state;
	}
}

static bool op_is_dead(const struct balance_file *f, uint64_t op)
{
	if (op < f->first_op)
		return true;
	for (unsigned i = 0; i < BALANCE_WRITERS_MAX; i++) {
		if (f->last_settled[i] == op)
			return true;
	}
	for (unsigned i = 0; i < MIN(f->n_dead, (uint32_t)DEAD_OPS); i++) {
		if (f->dead[i] == op)
			return true;
	}
	return false;
}

/* May run twice for one op when the process dies in it; a second entry does no harm. */
static void op_bury(struct balance_file *f, uint64_t op)
{
	f->dead[f->n_dead % DEAD_OPS] = op;
	barrier();
	f->n_dead++;
	if (f->n_dead >= 2 * DEAD_OPS)
		f->n_dead -= DEAD_OPS;
	barrier();
}

/* What the dead owner of the lock left. Each step can be repeated. */
static void balances_recover(struct balance_file *f)
{
	struct undo *u = &f->undo;

	if (u->n) {
		undo_apply(f);
		if (u->kind == UNDO_RESERVE && !op_is_dead(f, u->op))
			op_bury(f, u->op);
		if (u->kind == UNDO_SETTLE && u->writer < BALANCE_WRITERS_MAX)
			f->last_settled[u->writer] = u->last_settled;
		barrier();
		u->n = 0;
	}
	index_rebuild(f);
}

static void balances_lock(struct balances *b)
{
	int err = pthread_mutex_lock(&b->f->lock);

	if (err == EOWNERDEAD) {
		balances_recover(b->f);
		err = pthread_mutex_consistent(&b->f->lock);
	}
	assert(!err);
}

static void balances_unlock(struct balances *b)
{
	int err = pthread_mutex_unlock(&b->f->lock);

	assert(!err);
}

/* ---------------------------------------------------------------- terms */

static struct policy_quota state_terms(const struct bucket_state *s, uint32_t unit)
{
	return (struct policy_quota){ .unit = (enum quota_unit)unit,
				      .capacity = s->capacity,
				      .rate = s->rate,
				      .rate_period_ns = s->period_ns };
}

static void state_refill(struct bucket_state *s, uint64_t now_ns)
{
	struct policy_quota q = state_terms(s, 0);

	quota_refill(&q, now_ns, &s->quota);
}

/* What accrued did so under the old terms. A lower capacity trims, a higher one does not fill. */
static void state_set_terms(struct bucket_state *s, const struct policy_quota *q)
{
	if (s->rate != q->rate || s->period_ns != q->rate_period_ns)
		s->quota.fraction = 0;
	s->capacity = q->capacity;
	s->rate = q->rate;
	s->period_ns = q->rate_period_ns;
	s->quota.balance = MIN(s->quota.balance, q->capacity);
}

/* ---------------------------------------------------------------- slots */

/* A full bucket that nobody holds is no different from a new one: its slot can be used again. */
static void slots_sweep(struct balances *b, uint64_t now_ns)
{
	struct balance_file *f = b->f;

	if (now_ns < b->next_sweep_ns && b->next_sweep_ns - now_ns <= SWEEP_INTERVAL_NS)
		return;
	b->next_sweep_ns = now_ns + SWEEP_INTERVAL_NS;
	for (uint32_t i = 0; i < f->n_slots; i++) {
		struct bucket_state s = f->buckets[i].state;

		state_refill(&s, now_ns);
		if (!s.holds && s.quota.balance >= s.capacity)
			f->buckets[i].name[0] = '\0';
	}
	index_rebuild(f);
}

static int64_t slot_free(struct balances *b, uint64_t now_ns)
{
	struct balance_file *f = b->f;

	if (f->n_slots < BALANCE_BUCKETS_MAX)
		return f->n_slots;
	if (!f->n_free)
		slots_sweep(b, now_ns);
	for (uint32_t i = 0; f->n_free && i < f->n_slots; i++) {
		if (!f->buckets[i].name[0])
			return i;
	}
	return -ENOSPC;
}

/* The slot of a bucket, made full when there is none; -ENOSPC. */
static int64_t slot_get(struct balances *b, const struct policy_quota *q, const char *name,
			uint64_t now_ns)
{
	struct balance_file *f = b->f;
	int64_t slot = index_find(f, name, q->unit);
	struct bucket *bucket;

	if (slot >= 0)
		return slot;
	slot = slot_free(b, now_ns);
	if (slot < 0)
		return slot;
	bucket = &f->buckets[slot];
	*bucket = (struct bucket){ .unit = q->unit };
	bucket->state.capacity = q->capacity;
	bucket->state.rate = q->rate;
	bucket->state.period_ns = q->rate_period_ns;
	quota_start(q, now_ns, &bucket->state.quota);
	barrier();
	str_copy(bucket->name, sizeof(bucket->name), str_of(name));
	barrier();
	if (slot == f->n_slots)
		f->n_slots++;
	else
		f->n_free--;
	index_insert(f, (uint32_t)slot);
	return slot;
}

/* ---------------------------------------------------------------- reserve and settle */

/* 0, or -EDQUOT with the refusal filled, or -ENOSPC. */
static int reserve_one(struct balances *b, const struct balance_need *need, uint64_t now_ns,
		       uint32_t *ret_slot, struct balance_refusal *refusal)
{
	const struct policy_quota *q = need->quota;
	int64_t slot = slot_get(b, q, need->bucket, now_ns);
	int64_t amount = MAX(need->amount, (int64_t)0);
	struct bucket_state *s;

	if (slot < 0)
		return (int)slot;
	s = undo_log(b, (uint32_t)slot);
	state_refill(s, now_ns);
	state_set_terms(s, q);
	if (q->warn_only) {
		if (__builtin_sub_overflow(s->quota.balance, amount, &s->quota.balance))
			s->quota.balance = INT64_MIN;
	} else if (!quota_take(q, amount, &s->quota)) {
		refusal->retry_after_ns = quota_wait_ns(q, amount, &s->quota);
		refusal->balance = s->quota.balance;
		return -EDQUOT;
	}
	if (__builtin_add_overflow(s->held, amount, &s->held))
		s->held = INT64_MAX;
	s->holds++;
	*ret_slot = (uint32_t)slot;
	return 0;
}

int balances_reserve(struct balances *b, const struct balance_need *needs, unsigned n,
		     uint64_t now_ns, struct balance_hold *ret_hold,
		     struct balance_refusal *ret_refusal)
{
	struct balance_refusal refusal = { 0 };
	int err = 0;

	ret_hold->op = 0;
	if (!n)
		return 0;
	if (n > POLICY_CHARGES_MAX)
		return -ENOSPC;
	balances_lock(b);
	undo_start(b, UNDO_RESERVE, b->f->next_op++);
	for (unsigned i = 0; i < n && !err; i++) {
		uint32_t slot = 0;

		refusal.need = i;
		err = reserve_one(b, &needs[i], now_ns, &slot, &refusal);
		ret_hold->parts[i].bucket = slot;
		ret_hold->parts[i].unit = needs[i].quota->unit;
		ret_hold->parts[i].amount = MAX(needs[i].amount, (int64_t)0);
	}
	if (!err) {
		ret_hold->n = n;
		barrier();
		ret_hold->op = b->f->undo.op;
	} else {
		undo_apply(b->f); /* what had flowed in flows in again next time */
	}
	undo_commit(b);
	balances_unlock(b);
	if (err == -EDQUOT)
		*ret_refusal = refusal;
	return err;
}

static void settle_part(struct balances *b, uint32_t slot, uint32_t unit, int64_t amount,
			int64_t real)
{
	struct bucket_state *s = undo_log(b, slot);
	struct policy_quota q = state_terms(s, unit);

	quota_settle(&q, amount, real, &s->quota);
	s->held = MAX(s->held - amount, (int64_t)0);
	s->holds -= s->holds > 0;
}

void balances_settle(struct balances *b, struct balance_hold *hold,
		     const int64_t real[QUOTA_UNIT_MAX])
{
	uint64_t op = hold->op;

	if (!op)
		return;
	balances_lock(b);
	if (!op_is_dead(b->f, op)) {
		undo_start(b, UNDO_SETTLE, op);
		for (uint32_t i = 0; i < MIN(hold->n, (uint32_t)POLICY_CHARGES_MAX); i++) {
			if (hold->parts[i].bucket < BALANCE_BUCKETS_MAX &&
			    hold->parts[i].unit < QUOTA_UNIT_MAX)
				settle_part(b, hold->parts[i].bucket, hold->parts[i].unit,
					    hold->parts[i].amount, real[hold->parts[i].unit]);
		}
		b->f->last_settled[b->writer] = op;
		undo_commit(b);
	}
	hold->op = 0;
	balances_unlock(b);
}

/* Under the lock; one bucket after the other, each whole. */
static void holds_void(struct balances *b)
{
	struct balance_file *f = b->f;
	/* Older holds are dead first: should we die here, they cannot be given back twice. */
	f->first_op = f->next_op;
	barrier();
	for (uint32_t i = 0; i < f->n_slots; i++) {
		struct bucket_state *s;
		struct policy_quota q;

		if (!f->buckets[i].name[0] || !f->buckets[i].state.holds)
			continue;
		undo_start(b, UNDO_OTHER, 0);
		s = undo_log(b, i);
		q = state_terms(s, f->buckets[i].unit);
		quota_settle(&q, s->held, 0, &s->quota);
		s->held = 0;
		s->holds = 0;
		undo_commit(b);
	}
}

void balances_void(struct balances *b)
{
	balances_lock(b);
	holds_void(b);
	balances_unlock(b);
}

/* ---------------------------------------------------------------- open */

static void boot_id_read(char ret[40])
{
	auto_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, ret, 39) : 0;

	memset(ret + MAX(n, (ssize_t)0), 0, (size_t)(40 - MAX(n, (ssize_t)0)));
}

static int lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;
	int err = pthread_mutexattr_init(&attr);

	if (err)
		return -err;
	err = pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (!err)
		err = pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	if (!err)
		err = pthread_mutex_init(lock, &attr);
	pthread_mutexattr_destroy(&attr);
	return -err;
}

/* A new file, or one whose first opener died before the magic was written. */
static int file_init(struct balance_file *f)
{
	int err;

	memset(f, 0, offsetof(struct balance_file, index));
	err = lock_init(&f->lock);
	if (err)
		return err;
	f->version = BALANCE_VERSION;
	f->size = sizeof(*f);
	f->next_op = f->first_op = 1;
	boot_id_read(f->boot_id);
	barrier();
	f->magic = BALANCE_MAGIC;
	return 0;
}

/* The lock is of another boot: its owner and all holds are gone. */
static int file_rebooted(struct balances *b, const char boot_id[40])
{
	int err = lock_init(&b->f->lock);

	if (err)
		return err;
	balances_recover(b->f);
	holds_void(b);
	barrier();
	memcpy(b->f->boot_id, boot_id, sizeof(b->f->boot_id));
	return 0;
}

static int file_check(struct balances *b)
{
	struct balance_file *f = b->f;
	char boot_id[40];

	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): mapped by the only caller */
	if (!f->magic)
		return file_init(f);
	if (f->magic != BALANCE_MAGIC || f->version != BALANCE_VERSION || f->size != sizeof(*f))
		return -EPROTO;
	boot_id_read(boot_id);
	/* Where /proc cannot be read nothing is known, and a live lock must not be made anew. */
	if (!boot_id[0] || !f->boot_id[0] || memcmp(boot_id, f->boot_id, sizeof(boot_id)) == 0)
		return 0;
	return file_rebooted(b, boot_id);
}

/* This writer's earlier life is over: what it settled last is remembered beyond it. */
static void writer_start(struct balances *b)
{
	uint64_t *last = &b->f->last_settled[b->writer];

	balances_lock(b);
	if (*last) {
		op_bury(b->f, *last);
		*last = 0;
	}
	balances_unlock(b);
}

static int file_map(int fd, struct balance_file **ret)
{
	struct stat st;
	void *map;
	int err;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size && st.st_size != (off_t)sizeof(struct balance_file))
		return -EPROTO;
	/* With its blocks: a full disk is to show here, not as SIGBUS at the first write. */
	err = posix_fallocate(fd, 0, sizeof(struct balance_file));
	if (err)
		return -err;
	map = mmap(NULL, sizeof(struct balance_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	*ret = map;
	return 0;
}

int balances_open(int fd, unsigned writer, struct balances **ret)
{
	/* Openers exclude each other while the mutex may not be there yet. */
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	auto_free struct balances *b = NULL;
	int err;

	if (writer >= BALANCE_WRITERS_MAX)
		return -EINVAL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->writer = writer;
	while (fcntl(fd, F_SETLKW, &whole) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	err = file_map(fd, &b->f);
	if (!err)
		err = file_check(b);
	if (!err)
		writer_start(b);
	whole.l_type = F_UNLCK;
	fcntl(fd, F_SETLK, &whole);
	if (!err) {
		*ret = TAKE_PTR(b);
		return 0;
	}
	if (b->f)
		munmap(b->f, sizeof(*b->f));
	return err;
}

void balances_close(struct balances *b)
{
	if (!b)
		return;
	munmap(b->f, sizeof(*b->f));
	free(b);
}

/* ---------------------------------------------------------------- looking and refilling */

/* The slot of row i, or -1; slots are rows unless some are free. */
static int64_t row_slot(const struct balance_file *f, unsigned i)
{
	if (!f->n_free)
		return i < f->n_slots ? (int64_t)i : -1;
	for (uint32_t slot = 0; slot < f->n_slots; slot++) {
		if (f->buckets[slot].name[0] && !i--)
			return slot;
	}
	return -1;
}

bool balances_row(struct balances *b, unsigned i, uint64_t now_ns, struct balance_row *ret)
{
	struct bucket bucket;
	int64_t slot;

	balances_lock(b);
	slot = row_slot(b->f, i);
	if (slot >= 0)
		bucket = b->f->buckets[slot];
	balances_unlock(b);
	if (slot < 0)
		return false;
	state_refill(&bucket.state, now_ns);
	*ret = (struct balance_row){ .unit = (enum quota_unit)bucket.unit,
				     .balance = bucket.state.quota.balance,
				     .capacity = bucket.state.capacity,
				     .rate = bucket.state.rate,
				     .held = bucket.state.held,
				     .rate_period_ns = bucket.state.period_ns };
	memcpy(ret->bucket, bucket.name, sizeof(ret->bucket));
	return true;
}

int balances_refill(struct balances *b, const char *bucket, int64_t amount, uint64_t now_ns)
{
	int err = -ENOENT;

	balances_lock(b);
	for (uint32_t unit = 0; unit < QUOTA_UNIT_MAX; unit++) {
		int64_t slot = index_find(b->f, bucket, unit);
		struct bucket_state *s;
		struct policy_quota q;

		if (slot < 0)
			continue;
		undo_start(b, UNDO_OTHER, 0);
		s = undo_log(b, (uint32_t)slot);
		state_refill(s, now_ns);
		q = state_terms(s, unit);
		if (amount < 0)
			s->quota.balance = s->capacity;
		else
			quota_settle(&q, amount, 0, &s->quota);
		undo_commit(b);
		err = 0;
	}
	balances_unlock(b);
	return err;
}
