/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/force.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "agent/incidents.h"
#include "agent/maps.h"
#include "agent/names.h"
#include "agent/rules.h"
#include "agent/sandbox.h"
#include "agent/selftest.h"
#include "agent/suspects.h"
#include "agent/watch.h"
#include "common/addr.h"
#include "common/log.h"
#include "policy/policy.h"

/* Its presence in STATE_DIR says that an operator has switched the forced path off. */
#define OFF_FILE "force-off"

struct force {
	struct gate_config config;
	bool off_by_operator;
	const char *failed; /* by the self test; NULL: not */
	struct {
		const char *step, *result;
	} tests[MSG_FORCE_TESTS];
	unsigned n_tests;
	struct maps_events *events;
	struct watch events_watch;
};

/* ---------------------------------------------------------------- configuration in the kernel */

static void mask_of(unsigned bits, unsigned words, uint32_t *ret)
{
	for (unsigned i = 0; i < words; i++) {
		unsigned n = bits > 32 * i ? MIN(bits - 32 * i, 32U) : 0;

		ret[i] = n ? htonl(0xffffffffu << (32 - n)) : 0;
	}
}

static int config_fill(const struct config *c, struct gate_config *ret)
{
	static const uint32_t well_known[3] = { 0x0064ff9b, 0, 0 }; /* 64:ff9b::/96, RFC 6052 */
	struct addr_prefix p;

	if (!addr_prefix_parse(c->force.vip4, &p))
		return -EINVAL;
	memcpy(&ret->vip4_net, p.addr, sizeof(ret->vip4_net));
	mask_of(p.bits, 1, &ret->vip4_mask);
	if (!addr_prefix_parse(c->force.vip6, &p))
		return -EINVAL;
	memcpy(ret->vip6_net, p.addr, sizeof(ret->vip6_net));
	mask_of(p.bits, 4, ret->vip6_mask);
	for (unsigned i = 0; i < 3; i++)
		ret->nat64[0][i] = htonl(well_known[i]);
	ret->n_nat64 = 1;
	for (unsigned i = 0; i < c->force.n_nat64 && ret->n_nat64 < GATE_NAT64_MAX; i++)
		if (addr_prefix_parse(c->force.nat64[i], &p))
			memcpy(ret->nat64[ret->n_nat64++], p.addr, sizeof(ret->nat64[0]));
	return 0;
}

static int config_write(struct agent *a)
{
	struct force *f = a->force;
	int err;

	f->config.force_off = f->off_by_operator || f->failed;
	err = maps_config_write(&a->bpf, &f->config);
	if (err)
		log_err("the forced path cannot be configured error=%s", errno_text(err));
	return err;
}

/* ---------------------------------------------------------------- events */

static void on_events(void *arg, uint32_t events)
{
	struct agent *a = arg;

	(void)events;
	maps_events_read(a->force->events);
}

static void on_gate_event(void *arg, const struct gate_event *e)
{
	struct agent *a = arg;
	struct sandbox *sb = sandbox_by_id(a, e->cgroup_id);

	if (e->label_id == SELFTEST_LABEL)
		return;
	incident_note(a, e);
	/* A namespace made in there has no door yet. */
	if (e->reason == GATE_DENY_NO_DOOR && sb)
		sandbox_probe_soon(sb);
}

/* ---------------------------------------------------------------- life */

int force_init(struct agent *a)
{
	struct force *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return -ENOMEM;
	a->force = f;
	f->off_by_operator = faccessat(a->state_dir, OFF_FILE, F_OK, 0) == 0;
	err = config_fill(a->config, &f->config);
	err = err ? err : config_write(a);
	err = err ? err : maps_events_open(&a->bpf, on_gate_event, a, &f->events);
	err = err ? err : loop_watch(&a->loop, &f->events_watch, maps_events_fd(f->events), EPOLLIN, on_events, a);
	err = err ? err : incidents_init(a);
	if (!err && f->off_by_operator)
		agent_event(a, LOG_WARN, "force", NULL,
			    "providers are not led to the door: an operator has switched that off; `sallyport force on`");
	return err;
}

void force_fini(struct agent *a)
{
	struct force *f = a->force;

	if (!f)
		return;
	incidents_fini(a);
	loop_unwatch(&a->loop, &f->events_watch);
	maps_events_close(f->events);
	free(f);
	a->force = NULL;
}

int force_set(struct agent *a, bool on)
{
	struct force *f = a->force;
	int fd;

	if (on) {
		if (unlinkat(a->state_dir, OFF_FILE, 0) < 0 && errno != ENOENT)
			return -errno;
	} else {
		fd = openat(a->state_dir, OFF_FILE, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0)
			return -errno;
		close(fd);
	}
	f->off_by_operator = !on;
	agent_event(a, LOG_WARN, "force", NULL, "the forced path was switched %s by an operator", on ? "on" : "off");
	return config_write(a);
}

void force_fail(struct agent *a, const char *why)
{
	a->force->failed = why;
	config_write(a);
	agent_event(a, LOG_ERR, "force_failed", NULL,
		    "providers are not led to the door, the self test failed: %s; the explicit door serves on", why);
}

void force_test_result(struct agent *a, const char *step, const char *result)
{
	struct force *f = a->force;

	if (f->n_tests == MSG_FORCE_TESTS)
		return;
	f->tests[f->n_tests].step = step;
	f->tests[f->n_tests++].result = result;
}

/* ---------------------------------------------------------------- modes */

enum force_mode force_mode_of(const struct agent *a, const char *tags)
{
	const struct policy *p = rules_policy(a);
	struct str list[MSG_TAGS_BYTES / 5], rest = str_of(tags);
	unsigned n = 0;

	while (rest.n && n < ARRAY_SIZE(list)) {
		const char *comma = memchr(rest.s, ',', rest.n);

		list[n] = (struct str){ rest.s, comma ? (size_t)(comma - rest.s) : rest.n };
		rest = str_skip(rest, MIN(list[n].n + 1, rest.n));
		n++;
	}
	/* Without a policy nobody may do anything; the providers' names are not known either. */
	return p ? policy_egress_mode(p, list, n) : FORCE_ASSIST;
}

enum force_mode force_mode_in_force(const struct agent *a, enum force_mode mode)
{
	return a->force->config.force_off ? FORCE_OFF : mode;
}

void force_guards(struct agent *a, unsigned n)
{
	struct force *f = a->force;
	uint32_t strict = n && force_mode_of(a, "") == FORCE_STRICT;

	if (f->config.guard_strict == strict)
		return;
	f->config.guard_strict = strict;
	config_write(a);
}

void force_apply_policy(struct agent *a)
{
	names_apply_policy(a);
	suspects_apply_policy(a);
	for (struct sandbox *sb = a->sandboxes; sb; sb = sb->next)
		sandbox_set_mode(sb);
	watch_guard_modes(a);
}

/* ---------------------------------------------------------------- for people */

void force_describe(const struct agent *a, char *ret, size_t size)
{
	const struct force *f = a->force;

	if (f->failed)
		snprintf(ret, size, "off: the self test failed: %s", f->failed);
	else if (f->off_by_operator)
		snprintf(ret, size, "off: switched off by an operator; sallyport force on");
	else
		snprintf(ret, size, "%s by default", force_mode_name(force_mode_of(a, "")));
}

void force_status(const struct agent *a, struct msg_force *ret)
{
	const struct force *f = a->force;
	struct load *l = (struct load *)(uintptr_t)&a->bpf; /* reading does not change it */

	*ret = (struct msg_force){ .mode = force_mode_of(a, ""),
				   .is_off = f->config.force_off,
				   .n_names = names_active(a),
				   .n_addresses = suspects_count(a),
				   .n_tests = f->n_tests };
	force_describe(a, ret->text, sizeof(ret->text));
	for (unsigned i = 0; i < f->n_tests; i++) {
		str_copy(ret->tests[i].step, sizeof(ret->tests[i].step), str_of(f->tests[i].step));
		str_copy(ret->tests[i].result, sizeof(ret->tests[i].result), str_of(f->tests[i].result));
	}
	static_assert(GATE_REASON_MAX <= MSG_FORCE_COUNTS, "a reason finds no room");
	maps_reasons(l, ret->counts);
	for (unsigned i = 0; i < GATE_REASON_MAX; i++)
		str_copy(ret->count_names[i], sizeof(ret->count_names[i]), str_of(gate_reason_name(i)));
}
