/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A question is about one name and port; those who ask the same while it is open wait
 * with it. Some threads of the C library's resolver take questions in the order of asking, so a name whose
 * servers are silent holds up its own askers and one thread, not the others. What nobody waits for any more
 * is dropped before a thread has taken it.
 *
 *   FREE -> ASKED -> TAKEN (by a thread) -> ANSWERED -> FREE
 *
 * Waiters belong to the loop's thread alone. The lock guards state, number and result; host and port stand
 * still from ASKED to ANSWERED.
 */
#include "gateway/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "common/str.h"

/* Rationale: one question for each provider host at a time; far more than any policy names. */
#define QUESTIONS_MAX 64
/* Rationale: as many names may be dead at once without delay for the others; an idle thread costs some pages. */
#define THREADS	      4
#define THREAD_STACK  (256u << 10)

struct waiter {
	struct waiter *next;
	resolve_fn fn;
	void *arg;
};

struct question {
	enum { QUESTION_FREE, QUESTION_ASKED, QUESTION_TAKEN, QUESTION_ANSWERED } state;
	uint64_t number; /* in the order of asking */
	char host[256];
	uint16_t port;
	struct waiter *waiters;
	int err;
	struct resolved result;
};

struct resolver {
	struct loop *loop;
	struct watch watch;
	int event;
	uint64_t last_number;
	pthread_mutex_t lock;
	pthread_cond_t asked;
	struct question questions[QUESTIONS_MAX];
};

bool resolve_literal(const char *host, uint16_t port, struct resolved *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&ret->addrs[0];
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret->addrs[0];

	memset(ret, 0, sizeof(*ret));
	ret->n = 1;
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return true;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return true;
	}
	return false;
}

/* In a thread: may take as long as the C library likes. */
static int ask_library(const char *host, uint16_t port, struct resolved *ret)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *list;
	char service[8];
	int err;

	snprintf(service, sizeof(service), "%u", port);
	err = getaddrinfo(host, service, &hints, &list);
	if (err)
		return err;
	ret->n = 0;
	for (struct addrinfo *a = list; a && ret->n < RESOLVE_ADDRS_MAX; a = a->ai_next)
		if (a->ai_addrlen <= sizeof(ret->addrs[0]))
			memcpy(&ret->addrs[ret->n++], a->ai_addr, a->ai_addrlen);
	freeaddrinfo(list);
	return ret->n ? 0 : EAI_NONAME;
}

/* The question that was asked first and is with no thread yet, or NULL. */
static struct question *question_oldest(struct resolver *r)
{
	struct question *oldest = NULL;

	for (struct question *q = r->questions; q < r->questions + QUESTIONS_MAX; q++)
		if (q->state == QUESTION_ASKED && (!oldest || q->number < oldest->number))
			oldest = q;
	return oldest;
}

static void *resolver_thread(void *arg)
{
	struct resolver *r = arg;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		struct question *q = question_oldest(r);
		struct resolved result = { .n = 0 };
		uint64_t one = 1;
		int err;

		if (!q) {
			pthread_cond_wait(&r->asked, &r->lock);
			continue;
		}
		q->state = QUESTION_TAKEN;
		pthread_mutex_unlock(&r->lock);
		err = ask_library(q->host, q->port, &result);
		pthread_mutex_lock(&r->lock);
		q->err = err;
		q->result = result;
		q->state = QUESTION_ANSWERED;
		if (write(r->event, &one, sizeof(one)) < 0)
			continue; /* the counter is full: the loop is told already */
	}
	return NULL;
}

/* Each waiter is unlinked before it is called: it may ask or forget others. */
static void question_tell(struct question *q, int err, const struct resolved *result)
{
	while (q->waiters) {
		struct waiter *w = q->waiters;
		struct waiter told = *w;

		q->waiters = w->next;
		free(w);
		told.fn(told.arg, err, result);
	}
}

static void on_answers(void *arg, uint32_t events)
{
	struct resolver *r = arg;
	uint64_t n;

	(void)events;
	if (read(r->event, &n, sizeof(n)) < 0)
		return;
	for (struct question *q = r->questions; q < r->questions + QUESTIONS_MAX; q++) {
		struct resolved result;
		bool answered;
		int err;

		pthread_mutex_lock(&r->lock);
		answered = q->state == QUESTION_ANSWERED;
		pthread_mutex_unlock(&r->lock);
		if (!answered)
			continue;
		err = q->err;
		result = q->result;
		/* It is found by no one while it is answered: who asks again meanwhile opens another one. */
		question_tell(q, err, &result);
		pthread_mutex_lock(&r->lock);
		q->state = QUESTION_FREE;
		pthread_mutex_unlock(&r->lock);
	}
}

static int resolver_start(struct resolver *r)
{
	pthread_attr_t attr;
	pthread_t thread;
	int err = -pthread_attr_init(&attr);

	if (err)
		return err;
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (int i = 0; i < THREADS && !err; i++)
		err = -pthread_create(&thread, &attr, resolver_thread, r);
	pthread_attr_destroy(&attr);
	return err;
}

int resolver_new(struct loop *loop, struct resolver **ret)
{
	struct resolver *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->loop = loop;
	r->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->asked, NULL);
	err = r->event < 0 ? -errno : loop_watch(loop, &r->watch, r->event, EPOLLIN, on_answers, r);
	if (!err)
		err = resolver_start(r); /* on failure some may run: the process ends then, `r` stays theirs */
	if (err)
		return err;
	*ret = r;
	return 0;
}

/* Under the lock: the open question about this name, or a free place made into one, or NULL. */
static struct question *question_get(struct resolver *r, const char *host, uint16_t port)
{
	struct question *place = NULL;

	for (struct question *q = r->questions; q < r->questions + QUESTIONS_MAX; q++) {
		if ((q->state == QUESTION_ASKED || q->state == QUESTION_TAKEN) && q->port == port && !strcmp(q->host, host))
			return q;
		if (q->state == QUESTION_FREE)
			place = q;
	}
	if (!place)
		return NULL;
	str_copy(place->host, sizeof(place->host), str_of(host));
	place->port = port;
	place->number = ++r->last_number;
	place->state = QUESTION_ASKED;
	pthread_cond_signal(&r->asked);
	return place;
}

int resolver_ask(struct resolver *r, const char *host, uint16_t port, resolve_fn fn, void *arg)
{
	struct waiter *w = malloc(sizeof(*w));
	struct question *q;

	if (!w)
		return -ENOMEM;
	pthread_mutex_lock(&r->lock);
	q = question_get(r, host, port);
	pthread_mutex_unlock(&r->lock);
	if (!q) {
		free(w);
		return -ENOBUFS;
	}
	*w = (struct waiter){ q->waiters, fn, arg };
	q->waiters = w;
	return 0;
}

void resolver_forget(struct resolver *r, void *arg)
{
	for (struct question *q = r->questions; q < r->questions + QUESTIONS_MAX; q++) {
		for (struct waiter **at = &q->waiters; *at;) {
			struct waiter *w = *at;

			if (w->arg != arg) {
				at = &w->next;
				continue;
			}
			*at = w->next;
			free(w);
		}
		if (q->waiters)
			continue;
		pthread_mutex_lock(&r->lock);
		if (q->state == QUESTION_ASKED)
			q->state = QUESTION_FREE;
		pthread_mutex_unlock(&r->lock);
	}
}
