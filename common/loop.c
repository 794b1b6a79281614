/* SPDX-License-Identifier: Apache-2.0 */
#include "common/loop.h"

#include <errno.h>
#include <time.h>

/* Rationale: enough to drain a burst, small enough that timers stay punctual. */
#define LOOP_BATCH 128

struct loop_slot {
	struct watch *w;    /* NULL: free */
	uint32_t gen;       /* grows when the slot is freed */
	uint32_t next_free; /* index + 1 */
};

void loop_update_time(struct loop *l)
{
	struct timespec ts;

	if (l->clock) {
		l->clock(l);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &ts);
	l->now_ns = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
	clock_gettime(CLOCK_REALTIME, &ts);
	l->wall_ns = (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

int loop_init(struct loop *l)
{
	*l = (struct loop){ .epfd = epoll_create1(EPOLL_CLOEXEC) };
	if (l->epfd < 0)
		return -errno;
	loop_update_time(l);
	return 0;
}

void loop_fini(struct loop *l)
{
	if (l->epfd >= 0)
		close(l->epfd);
	free(l->slots);
	free(l->heap);
	*l = (struct loop){ .epfd = -1 };
}

static int slots_grow(struct loop *l)
{
	uint32_t n = l->n_slots ? l->n_slots * 2 : 64;
	struct loop_slot *slots = realloc(l->slots, n * sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (uint32_t i = l->n_slots; i < n; i++) {
		slots[i] = (struct loop_slot){ .next_free = l->free_slot };
		l->free_slot = i + 1;
	}
	l->slots = slots;
	l->n_slots = n;
	return 0;
}

static struct epoll_event watch_event(const struct loop *l, const struct watch *w)
{
	uint64_t gen = l->slots[w->slot - 1].gen;

	return (struct epoll_event){ .events = w->events, .data.u64 = gen << 32 | w->slot };
}

int loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events, watch_fn fn, void *arg)
{
	struct epoll_event ev;
	int err;

	if (!l->free_slot) {
		err = slots_grow(l);
		if (err)
			return err;
	}
	*w = (struct watch){ fn, arg, fd, events, l->free_slot };
	ev = watch_event(l, w);
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		w->slot = 0;
		return -errno;
	}
	l->free_slot = l->slots[w->slot - 1].next_free;
	l->slots[w->slot - 1].w = w;
	return 0;
}

int loop_rewatch(struct loop *l, struct watch *w, uint32_t events)
{
	struct epoll_event ev;

	if (!w->slot || w->events == events)
		return 0;
	w->events = events;
	ev = watch_event(l, w);
	return epoll_ctl(l->epfd, EPOLL_CTL_MOD, w->fd, &ev) < 0 ? -errno : 0;
}

void loop_unwatch(struct loop *l, struct watch *w)
{
	struct loop_slot *slot;

	if (!w->slot)
		return;
	slot = &l->slots[w->slot - 1];
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, w->fd, NULL);
	slot->w = NULL;
	slot->gen++;
	slot->next_free = l->free_slot;
	l->free_slot = w->slot;
	w->slot = 0;
}

static void heap_set(struct loop *l, uint32_t i, struct timer *t)
{
	l->heap[i] = t;
	t->index = i + 1;
}

static void heap_up(struct loop *l, uint32_t i)
{
	struct timer *t = l->heap[i];

	for (; i && l->heap[(i - 1) / 2]->at_ns > t->at_ns; i = (i - 1) / 2)
		heap_set(l, i, l->heap[(i - 1) / 2]);
	heap_set(l, i, t);
}

static void heap_down(struct loop *l, uint32_t i)
{
	struct timer *t = l->heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child + 1 < l->n_timers && l->heap[child + 1]->at_ns < l->heap[child]->at_ns)
			child++;
		if (child >= l->n_timers || l->heap[child]->at_ns >= t->at_ns)
			break;
		heap_set(l, i, l->heap[child]);
		i = child;
	}
	heap_set(l, i, t);
}

int loop_timer(struct loop *l, struct timer *t, uint64_t at_ns, timer_fn fn, void *arg)
{
	t->fn = fn;
	t->arg = arg;
	t->at_ns = at_ns;
	if (t->index) {
		heap_up(l, t->index - 1);
		heap_down(l, t->index - 1);
		return 0;
	}
	if (l->n_timers == l->cap_timers) {
		uint32_t cap = l->cap_timers ? l->cap_timers * 2 : 64;
		struct timer **heap = realloc(l->heap, cap * sizeof(struct timer *));

		if (!heap)
			return -ENOMEM;
		l->heap = heap;
		l->cap_timers = cap;
	}
	l->heap[l->n_timers++] = t;
	heap_up(l, l->n_timers - 1);
	return 0;
}

void loop_untimer(struct loop *l, struct timer *t)
{
	uint32_t i = t->index;

	if (!i--)
		return;
	t->index = 0;
	l->n_timers--;
	if (i == l->n_timers)
		return;
	heap_set(l, i, l->heap[l->n_timers]);
	heap_up(l, i);
	heap_down(l, l->heap[i]->index - 1);
}

static void timers_run(struct loop *l)
{
	while (l->n_timers && l->heap[0]->at_ns <= l->now_ns) {
		struct timer *t = l->heap[0];

		loop_untimer(l, t);
		t->fn(t->arg);
	}
}

static int wait_ms(const struct loop *l, int timeout_ms)
{
	uint64_t left_ms;

	if (!l->n_timers)
		return timeout_ms;
	if (l->heap[0]->at_ns <= l->now_ns)
		return 0;
	left_ms = (l->heap[0]->at_ns - l->now_ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	left_ms = MIN(left_ms, (uint64_t)INT32_MAX);
	return timeout_ms < 0 ? (int)left_ms : MIN(timeout_ms, (int)left_ms);
}

int loop_once(struct loop *l, int timeout_ms)
{
	struct epoll_event events[LOOP_BATCH];
	int n = epoll_wait(l->epfd, events, LOOP_BATCH, wait_ms(l, timeout_ms));

	if (n < 0 && errno != EINTR)
		return -errno;
	loop_update_time(l);
	for (int i = 0; i < n; i++) {
		uint32_t slot = (uint32_t)events[i].data.u64;
		struct loop_slot *s = &l->slots[slot - 1];

		if (s->w && s->gen == (uint32_t)(events[i].data.u64 >> 32))
			s->w->fn(s->w->arg, events[i].events);
	}
	timers_run(l);
	if (l->after_batch)
		l->after_batch(l->after_arg);
	return 0;
}

int loop_run(struct loop *l)
{
	int err = 0;

	while (!l->stop && !err)
		err = loop_once(l, -1);
	return err;
}
