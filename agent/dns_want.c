/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A name that a provider's wildcard covers has no addresses until somebody asks for it. The agent is asked once, and
 * those who want the same name meanwhile wait with it, for as long as a client waits gladly. A want ends when the
 * agent spoke of the name, or by its timer.
 */
#include <errno.h>

#include "agent/dns.h"
#include "common/ipc.h"
#include "common/log.h"

struct dns_want {
	LIST_ENTRY(dns_want) entry;
	struct dns *dns;
	LIST_HEAD(dns_waiter_list, dns_waiter) waiters;
	struct timer timer;
	char text[MSG_HOST_BYTES];
};

static struct dns_want *want_find(struct dns *d, struct str text)
{
	struct dns_want *w = LIST_FIRST(&d->wants);

	while (w && !str_eq(str_of(w->text), text))
		w = LIST_NEXT(w, entry);
	return w;
}

/* Each waiter is unlinked before it is told: it may want the next name at once. */
static void want_end(struct dns_want *w, const struct dns_name *name)
{
	struct dns *d = w->dns;

	LIST_REMOVE(w, entry);
	d->n_wants--;
	loop_untimer(&d->loop, &w->timer);
	while (!LIST_EMPTY(&w->waiters)) {
		struct dns_waiter *waiter = LIST_FIRST(&w->waiters);

		dns_unwant(waiter);
		waiter->fn(waiter->arg, name);
	}
	free(w);
}

static void want_on_timer(void *arg)
{
	struct dns_want *w = arg;

	log_limited(LOG_WARN, "a name below a provider's wildcard got no address in time name=%s", log_quote(str_of(w->text)));
	want_end(w, NULL);
}

static int want_new(struct dns *d, uint64_t asker, struct str text, struct dns_want **ret)
{
	auto_free struct dns_want *w = d->n_wants < DNS_WANTS_MAX ? calloc(1, sizeof(*w)) : NULL;
	struct msg_name_wanted msg = { .cgroup_id = asker };
	int err;

	if (!w)
		return d->n_wants < DNS_WANTS_MAX ? -ENOMEM : -ENOBUFS;
	w->dns = d;
	str_copy(w->text, sizeof(w->text), text);
	str_copy(msg.name, sizeof(msg.name), text);
	err = ipc_send(d->channel, MSG_NAME_WANTED, 0, &msg, sizeof(msg), NULL, 0);
	if (!err)
		err = loop_timer(&d->loop, &w->timer, d->loop.now_ns + d->want_timeout_ns, want_on_timer, w);
	if (err)
		return err;
	LIST_INSERT_HEAD(&d->wants, w, entry);
	d->n_wants++;
	*ret = TAKE_PTR(w);
	return 0;
}

int dns_want(struct dns *d, uint64_t asker, struct str text, struct dns_waiter *waiter)
{
	struct dns_want *w = want_find(d, text);
	int err = w ? 0 : want_new(d, asker, text, &w);

	if (err)
		return err;
	waiter->want = w;
	LIST_INSERT_HEAD(&w->waiters, waiter, entry);
	return 0;
}

/* The want itself stays until it ends: the agent's answer is of use for the next one who asks. */
void dns_unwant(struct dns_waiter *waiter)
{
	if (!waiter->want)
		return;
	LIST_REMOVE(waiter, entry);
	waiter->want = NULL;
}

void dns_want_settle(struct dns *d, struct str text, const struct dns_name *name)
{
	struct dns_want *w = want_find(d, text);

	if (w)
		want_end(w, name);
}

void dns_wants_fini(struct dns *d)
{
	while (!LIST_EMPTY(&d->wants))
		want_end(LIST_FIRST(&d->wants), NULL);
}
