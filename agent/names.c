/* SPDX-License-Identifier: Apache-2.0 */
/*
 * STATE_DIR/names has one name a line; the line's number is the name's number, and the virtual addresses are the
 * pools' first ones plus that number. Lines are only ever appended, each synced before the name is used.
 */
#include "agent/names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent/maps.h"
#include "agent/roles.h"
#include "agent/rules.h"
#include "agent/sandbox.h"
#include "common/addr.h"
#include "common/ipc.h"
#include "common/log.h"
#include "policy/policy.h"

#define NAMES_FILE "names"
/* Rationale: each lies in the kernel twice (GATE_VIP_MAX) and in every role. */
#define NAMES_MAX 8192
/* Rationale: a sandbox may ask for any name below a wildcard; exact names must still find room. */
#define NAMES_BY_PATTERN_MAX 4096
/* Rationale: a cloud has some dozen regions; who makes up names leaves room for those of other sandboxes. */
#define NAMES_BY_SANDBOX_MAX 64
#define SEND_TIMEOUT_MS	     2000

struct name {
	char text[MSG_HOST_BYTES];
	bool active;
};

struct names {
	int fd; /* append only; -1: cannot be written, no new names */
	struct name *list;
	unsigned n;
	unsigned n_exact; /* that the policy in force writes out */
	struct addr_prefix vip4, vip6;
	unsigned max;
};

/* ---------------------------------------------------------------- addresses */

static void add_number(uint8_t *addr, unsigned bytes, uint32_t number)
{
	for (unsigned i = bytes; i-- > 0 && number; number >>= 8) {
		number += addr[i];
		addr[i] = (uint8_t)number;
	}
}

static struct msg_name name_message(const struct names *s, unsigned i)
{
	struct msg_name m = { .name_id = i + 1, .active = s->list[i].active };

	memcpy(m.vip4, s->vip4.addr, sizeof(m.vip4));
	memcpy(m.vip6, s->vip6.addr, sizeof(m.vip6));
	add_number(m.vip4, sizeof(m.vip4), i + 1);
	add_number(m.vip6, sizeof(m.vip6), i + 1);
	str_copy(m.name, sizeof(m.name), str_of(s->list[i].text));
	return m;
}

static struct gate_vip_key key4(const struct msg_name *m)
{
	struct gate_vip_key key = { { 0, 0, htonl(0xffff), 0 } };

	memcpy(&key.addr[3], m->vip4, sizeof(m->vip4));
	return key;
}

static struct gate_vip_key key6(const struct msg_name *m)
{
	struct gate_vip_key key;

	memcpy(key.addr, m->vip6, sizeof(key.addr));
	return key;
}

/* The kernel first: whoever hears the address can use it. */
static void name_tell(struct agent *a, unsigned i)
{
	struct msg_name m = name_message(a->names, i);
	struct gate_vip_key v4 = key4(&m), v6 = key6(&m);

	if (!m.active) {
		roles_send_name(a, &m);
		maps_vip_remove(&a->bpf, &v4);
		maps_vip_remove(&a->bpf, &v6);
		return;
	}
	if (maps_vip_set(&a->bpf, &v4, m.name_id) || maps_vip_set(&a->bpf, &v6, m.name_id))
		log_err("a virtual address cannot be set, connections to it are refused name=%s", m.name);
	roles_send_name(a, &m);
}

/* ---------------------------------------------------------------- the file */

static bool name_ok(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!((s.s[i] >= 'a' && s.s[i] <= 'z') || (s.s[i] >= '0' && s.s[i] <= '9') || strchr("-_.", s.s[i])))
			return false;
	return s.n > 0 && s.n < MSG_HOST_BYTES;
}

/* Whole lines only: the end of one that a crash cut is taken off. */
static int names_read(struct names *s)
{
	struct stat st;
	auto_free char *text = NULL;
	off_t whole = 0;

	if (fstat(s->fd, &st) < 0)
		return -errno;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	if (pread(s->fd, text, (size_t)st.st_size, 0) != st.st_size)
		return -EIO;
	for (char *line = text, *end; s->n < s->max && (end = memchr(line, '\n', (size_t)(text + st.st_size - line)));
	     line = end + 1) {
		struct str name = { line, (size_t)(end - line) };

		/* A damaged line keeps its number and names nothing. */
		str_copy(s->list[s->n++].text, MSG_HOST_BYTES, name_ok(name) ? name : STR("-"));
		whole = end + 1 - text;
	}
	if (whole < st.st_size && s->n < s->max && ftruncate(s->fd, whole) < 0)
		return -errno;
	return 0;
}

static int name_append(struct names *s, const char *name)
{
	char line[MSG_HOST_BYTES + 1];
	int n = snprintf(line, sizeof(line), "%s\n", name);

	if (s->fd < 0)
		return -EROFS;
	if (s->n == s->max)
		return -ENOSPC;
	if (write(s->fd, line, (size_t)n) != n || fdatasync(s->fd) < 0)
		return errno ? -errno : -EIO;
	s->list[s->n] = (struct name){ 0 };
	str_copy(s->list[s->n].text, sizeof(s->list[s->n].text), str_of(name));
	s->n++;
	return 0;
}

int names_init(struct agent *a)
{
	struct names *s = calloc(1, sizeof(*s));
	unsigned room;
	int err;

	if (!s)
		return -ENOMEM;
	a->names = s;
	s->fd = -1;
	if (!addr_prefix_parse(a->config->force.vip4, &s->vip4) || !addr_prefix_parse(a->config->force.vip6, &s->vip6))
		return -EINVAL;
	/* Without the network's first and last address; the last one is the self test's. */
	room = (1U << MIN(32 - s->vip4.bits, 16U)) - 2;
	s->max = MIN(room, (unsigned)NAMES_MAX);
	s->list = calloc(s->max, sizeof(*s->list));
	if (!s->list)
		return -ENOMEM;
	s->fd = openat(a->state_dir, NAMES_FILE, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	err = s->fd < 0 ? -errno : names_read(s);
	if (err) {
		log_err("names of providers get no virtual addresses: %s/" NAMES_FILE " cannot be used: %s",
			a->config->state_dir.s, errno_text(err));
		if (s->fd >= 0)
			close(TAKE_FD(s->fd));
		return 0;
	}
	maps_vips_clear(&a->bpf);
	return 0;
}

void names_fini(struct agent *a)
{
	struct names *s = a->names;

	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	free(s->list);
	free(s);
	a->names = NULL;
}

/* ---------------------------------------------------------------- policy */

static int name_find(const struct names *s, const char *name)
{
	for (unsigned i = 0; i < s->n; i++)
		if (!strcmp(s->list[i].text, name))
			return (int)i;
	return -1;
}

/* Its index, with a number now if it had none; negative errno. */
static int name_intern(struct agent *a, const char *name)
{
	struct names *s = a->names;
	int i = name_find(s, name), err;

	if (i >= 0)
		return i;
	err = name_append(s, name);
	if (err) {
		agent_event(a, LOG_ERR, "name_failed", NULL,
			    "a provider's name gets no virtual address name=%s: %s", name,
			    err == -ENOSPC ? "the pool is used up: take a larger force.vip4" : errno_text(err));
		return err;
	}
	return (int)s->n - 1;
}

typedef void (*domain_fn)(struct agent *a, struct str domain, bool is_pattern, void *arg);

static void each_domain(struct agent *a, domain_fn fn, void *arg)
{
	const struct policy *p = rules_policy(a);

	for (unsigned i = 0; p && i < policy_n_providers(p); i++) {
		const struct policy_provider *pp = policy_provider(p, i);

		for (unsigned d = 0; !pp->disabled && d < pp->n_domains; d++)
			fn(a, pp->domains[d], memchr(pp->domains[d].s, '*', pp->domains[d].n) != NULL, arg);
	}
}

static void domain_intern(struct agent *a, struct str domain, bool is_pattern, void *arg)
{
	char name[MSG_HOST_BYTES];

	(void)arg;
	if (!is_pattern && str_copy(name, sizeof(name), domain) && name_intern(a, name) >= 0)
		a->names->n_exact++;
}

static struct msg_name pattern_message(struct str domain)
{
	struct msg_name m = { .active = 1 };

	str_copy(m.name, sizeof(m.name), domain);
	return m;
}

/* Patterns that are no longer there are harmless: the agent looks at each name that is wanted. */
static void pattern_tell(struct agent *a, struct str domain, bool is_pattern, void *arg)
{
	struct msg_name m = pattern_message(domain);

	(void)arg;
	if (is_pattern)
		roles_send_dns_pattern(a, &m);
}

void names_apply_policy(struct agent *a)
{
	const struct policy *p = rules_policy(a);
	struct names *s = a->names;

	if (!s || !p)
		return;
	s->n_exact = 0;
	each_domain(a, domain_intern, NULL);
	for (unsigned i = 0; i < s->n; i++) {
		bool active = policy_domain_provider(p, str_of(s->list[i].text)) >= 0;

		if (active == s->list[i].active)
			continue;
		s->list[i].active = active;
		name_tell(a, i);
	}
	each_domain(a, pattern_tell, NULL);
}

/* A number for a name that a pattern covers, if this sandbox may have one more; negative errno. */
static int name_by_pattern(struct agent *a, uint64_t cgroup_id, const char *name)
{
	struct sandbox *sb = sandbox_by_id(a, cgroup_id);
	struct names *s = a->names;
	int i;

	if (!sb || sb->n_names >= NAMES_BY_SANDBOX_MAX || s->n >= s->n_exact + NAMES_BY_PATTERN_MAX) {
		log_limited(LOG_WARN, "too many names below a provider's wildcard are asked for, no new one is led name=%s cgroup=%s",
			    name, sb ? log_quote(str_of(sb->info.path)) : "?");
		return -ENOBUFS;
	}
	i = name_intern(a, name);
	sb->n_names += i >= 0;
	return i;
}

void names_wanted(struct agent *a, uint64_t cgroup_id, const char *name)
{
	const struct policy *p = rules_policy(a);
	struct names *s = a->names;
	int i = -1;

	if (s && p && name_ok(str_of(name)) && policy_domain_provider(p, str_of(name)) >= 0) {
		i = name_find(s, name);
		i = i < 0 ? name_by_pattern(a, cgroup_id, name) : i;
	}
	if (i < 0) {
		/* Said at once: the role has room for few questions to us, and others wait behind this one. */
		roles_refuse_name(a, name);
		return;
	}
	s->list[i].active = true;
	name_tell(a, (unsigned)i);
}

/* ---------------------------------------------------------------- to the roles */

struct sending {
	int channel, err;
};

static void pattern_send(struct agent *a, struct str domain, bool is_pattern, void *arg)
{
	struct msg_name m = pattern_message(domain);
	struct sending *to = arg;

	(void)a;
	if (is_pattern && !to->err)
		to->err = ipc_send_wait(to->channel, MSG_DNS_PATTERN, 0, &m, sizeof(m), NULL, 0, SEND_TIMEOUT_MS);
}

int names_send(struct agent *a, int channel, bool to_dns)
{
	struct sending to = { channel, 0 };
	struct names *s = a->names;

	for (unsigned i = 0; s && i < s->n && !to.err; i++) {
		struct msg_name m = name_message(s, i);

		if (m.active)
			to.err = ipc_send_wait(channel, MSG_NAME, 0, &m, sizeof(m), NULL, 0, SEND_TIMEOUT_MS);
	}
	if (to_dns)
		each_domain(a, pattern_send, &to);
	return to.err;
}

const char *names_get(const struct agent *a, uint32_t name_id)
{
	return a->names && name_id && name_id <= a->names->n ? a->names->list[name_id - 1].text : NULL;
}

unsigned names_active(const struct agent *a)
{
	unsigned n = 0;

	for (unsigned i = 0; a->names && i < a->names->n; i++)
		n += a->names->list[i].active;
	return n;
}
