/* SPDX-License-Identifier: Apache-2.0 */
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

struct question {
	enum { QUESTION_FREE, QUESTION_ASKED, QUESTION_ANSWERED } state;
	char host[256];
	uint16_t port;
	resolve_fn fn; /* NULL: forgotten */
	void *arg;
	int err;
	struct resolved result;
};

struct resolver {
	struct loop *loop;
	struct watch watch;
	int event;
	pthread_t thread;
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

/* In the thread: may take as long as the C library likes. */
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

static struct question *question_in(struct resolver *r, int state)
{
	for (unsigned i = 0; i < QUESTIONS_MAX; i++)
		if ((int)r->questions[i].state == state)
			return &r->questions[i];
	return NULL;
}

static void *resolver_thread(void *arg)
{
	struct resolver *r = arg;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		struct question *q = question_in(r, QUESTION_ASKED);
		struct resolved result = { .n = 0 };
		uint64_t one = 1;
		int err;

		if (!q) {
			pthread_cond_wait(&r->asked, &r->lock);
			continue;
		}
		pthread_mutex_unlock(&r->lock);
		/* host and port of an asked question do not change until it is answered. */
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

static void on_answers(void *arg, uint32_t events)
{
	struct resolver *r = arg;
	uint64_t n;

	(void)events;
	if (read(r->event, &n, sizeof(n)) < 0)
		return;
	for (unsigned i = 0; i < QUESTIONS_MAX; i++) {
		struct question done;

		pthread_mutex_lock(&r->lock);
		done = r->questions[i];
		if (done.state == QUESTION_ANSWERED)
			r->questions[i].state = QUESTION_FREE;
		pthread_mutex_unlock(&r->lock);
		if (done.state == QUESTION_ANSWERED && done.fn)
			done.fn(done.arg, done.err, &done.result);
	}
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
		err = -pthread_create(&r->thread, NULL, resolver_thread, r);
	if (err) {
		free(r);
		return err;
	}
	*ret = r;
	return 0;
}

int resolver_ask(struct resolver *r, const char *host, uint16_t port, resolve_fn fn, void *arg)
{
	struct question *q;

	pthread_mutex_lock(&r->lock);
	q = question_in(r, QUESTION_FREE);
	if (q) {
		str_copy(q->host, sizeof(q->host), str_of(host));
		q->port = port;
		q->fn = fn;
		q->arg = arg;
		q->state = QUESTION_ASKED;
		pthread_cond_signal(&r->asked);
	}
	pthread_mutex_unlock(&r->lock);
	return q ? 0 : -ENOBUFS;
}

void resolver_forget(struct resolver *r, void *arg)
{
	pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < QUESTIONS_MAX; i++)
		if (r->questions[i].arg == arg)
			r->questions[i].fn = NULL;
	pthread_mutex_unlock(&r->lock);
}
