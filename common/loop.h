/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event loop of a role: epoll, level-triggered, one thread, one heap of timers. The epoll cookie is slot
 * and generation, so an event of a descriptor that was closed in the same batch is recognised as stale.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "common/base.h"

struct loop;
typedef void (*watch_fn)(void *arg, uint32_t events);
typedef void (*timer_fn)(void *arg);

/* Embedded in its owner; zeroed means not watched. */
struct watch {
	watch_fn fn;
	void *arg;
	int fd;
	uint32_t events;
	uint32_t slot; /* index + 1 in the loop's table; 0: not watched */
};

/* Embedded in its owner; zeroed means not armed. */
struct timer {
	timer_fn fn;
	void *arg;
	uint64_t at_ns;
	uint32_t index; /* position + 1 in the heap; 0: not armed */
};

struct loop {
	int epfd;
	uint64_t now_ns;  /* CLOCK_MONOTONIC, read once per wake-up */
	uint64_t wall_ns; /* CLOCK_REALTIME at the same moment */
	bool stop;
	void (*clock)(struct loop *l); /* sets both times; NULL: the system's clocks. Tests own it. */
	struct loop_slot *slots;
	uint32_t n_slots, free_slot;
	struct timer **heap;
	uint32_t n_timers, cap_timers;
	void (*after_batch)(void *arg); /* close now, free later: the place to free */
	void *after_arg;
};

int loop_init(struct loop *l);
void loop_fini(struct loop *l);
/* Reads the clocks again, for work that took long. */
void loop_update_time(struct loop *l);

/* 0, -ENOMEM, or the errno of epoll_ctl. The descriptor stays the caller's. */
int loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events, watch_fn fn, void *arg);
/* Changes the set of events; nothing happens when it is the same. */
int loop_rewatch(struct loop *l, struct watch *w, uint32_t events);
/* Call before the descriptor is closed. Harmless on one that is not watched. */
void loop_unwatch(struct loop *l, struct watch *w);

/* (Re)arms. Only a shortage of memory fails: -ENOMEM. */
int loop_timer(struct loop *l, struct timer *t, uint64_t at_ns, timer_fn fn, void *arg);
void loop_untimer(struct loop *l, struct timer *t);

/* Until l->stop is set. 0 or the errno of epoll_wait. */
int loop_run(struct loop *l);
/* One wake-up, waiting at most timeout_ms (-1: until something happens). For tests. */
int loop_once(struct loop *l, int timeout_ms);
