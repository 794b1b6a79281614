/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/incidents.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

#include "agent/maps.h"
#include "agent/names.h"
#include "agent/sandbox.h"
#include "common/addr.h"
#include "common/log.h"

/* Rationale: kinds of incident that go on at the same time; when more do, the oldest is told early. */
#define INCIDENTS_MAX 256
#define WINDOW_NS     (10 * NSEC_PER_SEC)

/* The first event of its kind, and how many have followed it. */
struct incident {
	struct gate_event event;
	uint64_t until_ns; /* monotonic; 0: free */
	uint32_t more;
};

static struct incident incidents[INCIDENTS_MAX];
static struct timer incidents_timer;

/* ---------------------------------------------------------------- words */

static const struct words {
	const char *kind;
	int level;
	const char *what; /* the sentence's end */
} words[GATE_REASON_MAX] = {
	[GATE_LED_VIP] = { "force_led", LOG_INFO, "was led to the door by its name" },
	[GATE_LED_SUSPECT] = { "force_led", LOG_INFO, "was led to the door: a provider has that address" },
	[GATE_LED_STRICT] = { "force_led", LOG_DEBUG, "was led to the door (strict)" },
	[GATE_OBSERVED] = { "force_observed", LOG_INFO, "goes to a provider past the door, and was let go (observe)" },
	[GATE_DENY_NO_DOOR] = { "force_refused", LOG_WARN, "was refused: its network namespace has no door yet" },
	[GATE_DENY_VIP] = { "force_refused", LOG_WARN, "was refused: nothing is served at that virtual address" },
	[GATE_DENY_DOT] = { "force_refused", LOG_WARN, "was refused: DNS over TLS (strict)" },
	[GATE_DENY_SOCKET] = { "force_refused", LOG_WARN, "was not made (strict)" },
	[GATE_DROP_VIP] = { "force_dropped", LOG_WARN, "was dropped: a virtual address is served by TCP only" },
	[GATE_DROP_PROVIDER] = { "force_dropped", LOG_WARN, "was dropped: it goes to a provider past the door" },
	[GATE_DROP_STRICT] = { "force_dropped", LOG_WARN, "was dropped (strict)" },
	[GATE_GUARD_DENIED] = { "guard_refused", LOG_WARN, "was refused: it goes to a provider, and its sandbox has no label yet" },
	[GATE_GUARD_DROPPED] = { "guard_dropped", LOG_WARN, "was dropped: it goes to a provider, and its sandbox has no label yet" },
	[GATE_DENY_NO_LABEL] = { "force_refused", LOG_WARN, "was refused: its sandbox has no label yet" },
	[GATE_DENY_NO_BUDGET] = { "force_refused", LOG_WARN, "was refused: its sandbox is being removed" },
	[GATE_DENY_INFLIGHT] = { "force_refused", LOG_WARN, "was refused: too many connects are under way" },
	[GATE_DENY_STORAGE] = { "force_refused", LOG_WARN, "was refused: its socket can hold no stamp (net.core.optmem_max)" },
};

static const char *protocol_name(uint32_t protocol, char *text, size_t size)
{
	switch (protocol) {
	case 6:
		return "TCP";
	case 17:
		return "UDP";
	case 262:
		return "MPTCP";
	}
	snprintf(text, size, "protocol %u", protocol);
	return text;
}

/* "192.0.2.7:443 (api.example.com)" */
static void destination(const struct agent *a, const struct gate_event *e, char *ret, size_t size)
{
	bool v4 = !e->addr[0] && !e->addr[1] && e->addr[2] == htonl(0xffff);
	const char *name = names_get(a, e->name_id);
	char text[ADDR_TEXT_BYTES];
	uint8_t addr[16];

	memcpy(addr, v4 ? &e->addr[3] : e->addr, v4 ? 4 : 16);
	addr_text(v4 ? AF_INET : AF_INET6, addr, text);
	snprintf(ret, size, v4 ? "%s:%u%s%s%s" : "[%s]:%u%s%s%s", text, e->port, name ? " (" : "", name ? name : "",
		 name ? ")" : "");
}

static void incident_tell(struct agent *a, const struct gate_event *e, uint32_t count)
{
	const struct words *w = &words[e->reason];
	char comm[sizeof(e->comm) + 1] = "", to[384], proto[24], who[64] = "";
	struct agent_incident what = { .level = w->level,
				       .kind = w->kind,
				       .comm = comm,
				       .sb = sandbox_by_id(a, e->cgroup_id),
				       .pid = e->pid,
				       .uid = e->uid,
				       .count = count };

	memcpy(comm, e->comm, sizeof(e->comm));
	if (e->pid)
		snprintf(who, sizeof(who), " of %s (pid %u)", log_quote(str_of(comm)), e->pid);
	if (e->reason == GATE_DENY_SOCKET) {
		agent_incident(a, &what, "a socket%s of family %u, type %u, protocol %u %s count=%u", who, e->addr[0],
			       e->addr[1], e->addr[2], w->what, count);
		return;
	}
	destination(a, e, to, sizeof(to));
	agent_incident(a, &what, "%s%s to %s %s count=%u", protocol_name(e->protocol, proto, sizeof(proto)), who, to,
		       w->what, count);
}

/* ---------------------------------------------------------------- counting */

static bool same_kind(const struct gate_event *x, const struct gate_event *y)
{
	return x->reason == y->reason && x->cgroup_id == y->cgroup_id && x->name_id == y->name_id && x->port == y->port &&
	       x->protocol == y->protocol && (x->name_id || !memcmp(x->addr, y->addr, sizeof(x->addr)));
}

static void incident_end(struct agent *a, struct incident *i)
{
	if (i->until_ns && i->more)
		incident_tell(a, &i->event, i->more);
	i->until_ns = 0;
}

static void on_incidents(void *arg)
{
	struct agent *a = arg;
	uint64_t next = 0;

	for (struct incident *i = incidents; i < incidents + INCIDENTS_MAX; i++) {
		if (i->until_ns && i->until_ns <= a->loop.now_ns)
			incident_end(a, i);
		if (i->until_ns && (!next || i->until_ns < next))
			next = i->until_ns;
	}
	if (next)
		loop_timer(&a->loop, &incidents_timer, next, on_incidents, a);
}

void incident_note(struct agent *a, const struct gate_event *e)
{
	struct incident *place = incidents;

	if (e->reason >= GATE_REASON_MAX || !words[e->reason].kind)
		return;
	for (struct incident *i = incidents; i < incidents + INCIDENTS_MAX; i++) {
		if (i->until_ns && same_kind(&i->event, e)) {
			i->more++;
			return;
		}
		if (i->until_ns < place->until_ns)
			place = i;
	}
	incident_end(a, place);
	*place = (struct incident){ .event = *e, .until_ns = a->loop.now_ns + WINDOW_NS };
	incident_tell(a, e, 1);
	if (!incidents_timer.index)
		loop_timer(&a->loop, &incidents_timer, place->until_ns, on_incidents, a);
}

int incidents_init(struct agent *a)
{
	(void)a;
	memset(incidents, 0, sizeof(incidents));
	return 0;
}

void incidents_fini(struct agent *a)
{
	loop_untimer(&a->loop, &incidents_timer);
	for (struct incident *i = incidents; i < incidents + INCIDENTS_MAX; i++)
		incident_end(a, i);
}

void incidents_end(struct agent *a, uint64_t cgroup_id)
{
	for (struct incident *i = incidents; i < incidents + INCIDENTS_MAX; i++)
		if (i->until_ns && i->event.cgroup_id == cgroup_id)
			incident_end(a, i);
}
