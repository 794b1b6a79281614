/* SPDX-License-Identifier: Apache-2.0 */
/* Whether each provider answers, as the gateway would reach it: nothing is asked, no key is sent. */
#include <errno.h>
#include <stdio.h>

#include "cli/doctor.h"
#include "common/fetch.h"

/* Rationale: a person waits; a provider that needs longer to connect would be slow for everyone. */
#define REACH_TIMEOUT_MS 3000L

static void target_of(const struct policy_provider *p, struct fetch_reach *ret)
{
	bool v6 = memchr(p->host.s, ':', p->host.n) != NULL;

	snprintf(ret->url, sizeof(ret->url), "%s://%s%.*s%s:%u/", p->tls ? "https" : "http", v6 ? "[" : "",
		 STR_ARG(p->host), v6 ? "]" : "", p->port);
}

static const char *cure_of(const struct doctor *d, int err)
{
	bool proxy = d->config->upstream.proxy.n > 0;

	switch (err) {
	case -ENXIO:
		return proxy ? "correct upstream.proxy, or mend the name service of this host" :
			       "correct the baseurl, mend the name service of this host, or set upstream.proxy";
	case -EPROTO:
		return "look at the baseurl and at this host's clock, or name the authority in upstream.ca_file";
	default:
		return proxy ? "look at the baseurl, and whether upstream.proxy lets it through" :
			       "look at the baseurl and at this host's firewall, or set upstream.proxy";
	}
}

static void say_provider(struct doctor *d, const struct policy_provider *p, const struct fetch_reach *t)
{
	if (!t->err)
		doctor_say(d, FIND_OK, "provider", "%.*s: %s answers", STR_ARG(p->name), t->url);
	else
		doctor_say(d, FIND_WARN, "provider", "%.*s: %s does not answer (%s): %s", STR_ARG(p->name), t->url,
			   t->text, cure_of(d, t->err));
}

void doctor_providers(struct doctor *d, const struct policy *p)
{
	unsigned n = policy_n_providers(p), used = 0;
	auto_free struct fetch_reach *targets = calloc(n + 1, sizeof(*targets));

	for (unsigned i = 0; targets && i < n; i++)
		if (!policy_provider(p, i)->disabled)
			target_of(policy_provider(p, i), &targets[used++]);
	if (!targets || fetch_reach(targets, used, d->config->upstream.proxy.n ? d->config->upstream.proxy.s : "",
				    d->config->upstream.ca_file.n ? d->config->upstream.ca_file.s : "", REACH_TIMEOUT_MS)) {
		doctor_say(d, FIND_UNKNOWN, "provider", "no memory to ask the providers");
		return;
	}
	used = 0;
	for (unsigned i = 0; i < n; i++)
		if (!policy_provider(p, i)->disabled)
			say_provider(d, policy_provider(p, i), &targets[used++]);
}
