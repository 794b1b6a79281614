/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/label.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include "agent/rules.h"
#include "common/log.h"

/* ---------------------------------------------------------------- tags */

static bool tag_ok(struct str tag)
{
	if (!str_starts(tag, STR("tag:")) || tag.n < 5 || tag.n > LABEL_TAG_BYTES)
		return false;
	for (size_t i = 4; i < tag.n; i++) {
		char c = tag.s[i];

		if (!((c >= 'a' && c <= 'z') || (i > 4 && ((c >= '0' && c <= '9') || c == '-'))))
			return false;
	}
	return true;
}

static int compare_tags(const void *a, const void *b)
{
	const struct str *x = a, *y = b;
	int d = memcmp(x->s, y->s, MIN(x->n, y->n));

	return d ? d : (x->n > y->n) - (x->n < y->n);
}

int label_tags(const char *in, char *ret, size_t size, char *why, size_t why_size)
{
	struct str tags[LABEL_TAGS_MAX];
	unsigned n = 0;
	size_t at = 0;

	for (const char *p = in; *p;) {
		struct str tag = { p, strcspn(p, ",") };

		if (!tag_ok(tag)) {
			snprintf(
				why, why_size,
				"%s is no tag: write \"tag:\", a small letter, then small letters, digits "
				"and \"-\", %d bytes at most (tag:pr-bot)",
				log_quote(tag), LABEL_TAG_BYTES);
			return -EINVAL;
		}
		if (n == LABEL_TAGS_MAX) {
			snprintf(why, why_size, "a cgroup takes %d tags at most; leave some out",
				 LABEL_TAGS_MAX);
			return -EINVAL;
		}
		tags[n++] = tag;
		p += tag.n + (p[tag.n] == ',');
	}
	if (!n) {
		snprintf(why, why_size, "no tag is given: add one, for example tag:pr-bot");
		return -EINVAL;
	}
	qsort(tags, n, sizeof(tags[0]), compare_tags);
	for (unsigned i = 0; i < n; i++) {
		if (i && str_eq(tags[i], tags[i - 1]))
			continue;
		if (at + tags[i].n + 2 > size) {
			snprintf(why, why_size,
				 "the tags together are longer than %zu bytes; use shorter ones",
				 size - 1);
			return -EINVAL;
		}
		if (at)
			ret[at++] = ',';
		memcpy(ret + at, tags[i].s, tags[i].n);
		at += tags[i].n;
	}
	ret[at] = '\0';
	return 0;
}

/* ---------------------------------------------------------------- targets */

static int target_name(struct label_target *t, enum label_kind kind, const char *name, char *why,
		       size_t why_size)
{
	t->kind = kind;
	if (!*name || !str_copy(t->name, sizeof(t->name) - 8, str_of(name))) {
		snprintf(why, why_size, "the target's name is empty or too long: name one cgroup");
		return -EINVAL;
	}
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f || (kind != LABEL_PATH && *p == '/')) {
			snprintf(why, why_size,
				 "%s is no name of a unit or container: check the spelling",
				 log_quote(str_of(name)));
			return -EINVAL;
		}
	return 0;
}

int label_target(const char *in, struct label_target *ret, char *why, size_t why_size)
{
	struct label_target t = { 0 };
	int err;

	if (in[0] == '/') {
		size_t n;

		err = target_name(&t, LABEL_PATH, in, why, why_size);
		for (n = strlen(t.name); n > 1 && t.name[n - 1] == '/'; n--)
			t.name[n - 1] = '\0';
	} else if (!strncmp(in, "pid:", 4)) {
		char *end;
		long pid = strtol(in + 4, &end, 10);

		err = 0;
		t.kind = LABEL_PID;
		t.pid = (pid_t)pid;
		if (!isdigit((unsigned char)in[4]) || *end || pid <= 0 || pid > INT32_MAX) {
			snprintf(why, why_size,
				 "%s is no process: write pid: and its number (pid:4711)",
				 log_quote(str_of(in)));
			err = -EINVAL;
		}
	} else if (!strncmp(in, "unit:", 5)) {
		err = target_name(&t, LABEL_UNIT, in + 5, why, why_size);
		if (!err && !strchr(t.name, '.'))
			strncat(t.name, ".service", sizeof(t.name) - strlen(t.name) - 1);
	} else if (!strncmp(in, "docker:", 7)) {
		err = target_name(&t, LABEL_DOCKER, in + 7, why, why_size);
	} else {
		snprintf(why, why_size,
			 "%s names no cgroup: write /path, pid:N, unit:NAME or docker:NAME",
			 log_quote(str_of(in)));
		err = -EINVAL;
	}
	if (!err)
		*ret = t;
	return err;
}

/* A path may be given as the file system shows it, too. */
static const char *below_root(const struct agent *a, const char *path)
{
	size_t n = strlen(a->cg.path);

	if (n > 1 && !strncmp(path, a->cg.path, n) && path[n] == '/')
		return path + n;
	return path;
}

static int resolve_pid(struct agent *a, pid_t pid, char *ret, size_t size, char *why,
		       size_t why_size)
{
	int err = cgroup_of_pid(pid, ret, size);

	if (err == -ESRCH)
		snprintf(why, why_size, "there is no process %d", pid);
	else if (err == -ENOENT)
		snprintf(why, why_size, "process %d is in no cgroup of version 2: mount cgroup2",
			 pid);
	else if (err)
		snprintf(why, why_size, "the cgroup of process %d cannot be read: %s", pid,
			 errno_text(err));
	else if (!strcmp(ret, "/")) {
		snprintf(
			why, why_size,
			"process %d is in the root cgroup, which holds everything: move it into one of its "
			"own, or start it with sallyport run",
			pid);
		err = -EINVAL;
	}
	(void)a;
	return err;
}

int label_resolve(struct agent *a, const struct label_target *t, char *ret, size_t size, char *why,
		  size_t why_size)
{
	int err;

	switch (t->kind) {
	case LABEL_PID:
		return resolve_pid(a, t->pid, ret, size, why, why_size);
	case LABEL_UNIT:
		err = cgroup_find_name(&a->cg, t->name, ret, size);
		if (err)
			snprintf(
				why, why_size,
				err == -EEXIST
					? "there are several cgroups named %s: name one by its path"
					: "there is no cgroup of unit %s: is it running?",
				t->name);
		return err;
	case LABEL_PATH:
		str_copy(ret, size, str_of(below_root(a, t->name)));
		return 0;
	case LABEL_DOCKER:
		break;
	}
	return -EINVAL;
}

int label_allowed(struct agent *a, const char *path, char *why, size_t why_size)
{
	if (strcmp(path, "/") && !cgroup_below(a->gateway_path, path) &&
	    !cgroup_below(path, a->gateway_path) && strcmp(path, a->run_path))
		return 0;
	snprintf(why, why_size,
		 "%s holds the gateway itself or every process: label the cgroup of one sandbox",
		 path);
	return -EINVAL;
}

bool label_container_id(const char *path, char ret[LABEL_ID_BYTES])
{
	static const char *const prefixes[] = { "docker-", "libpod-", "" };
	const char *name = strrchr(path, '/');

	name = name ? name + 1 : path;
	for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++) {
		size_t n = strlen(prefixes[i]);

		if (strncmp(name, prefixes[i], n))
			continue;
		name += n;
		n = strspn(name, "0123456789abcdef");
		if (n != LABEL_ID_BYTES - 1 || (name[n] && strcmp(name + n, ".scope")))
			return false;
		memcpy(ret, name, n);
		ret[n] = '\0';
		return true;
	}
	return false;
}

/* ---------------------------------------------------------------- rules */

static struct str container_label(void *arg, struct str name)
{
	const struct label_facts *f = arg;
	const char *p = f->labels, *end = f->labels ? f->labels + f->labels_bytes : NULL;

	while (p < end) {
		struct str key = { p, strnlen(p, (size_t)(end - p)) };
		struct str value;

		p += key.n + 1;
		if (p >= end)
			break;
		value = (struct str){ p, strnlen(p, (size_t)(end - p)) };
		p += value.n + 1;
		if (str_eq(key, name))
			return value;
	}
	return STR_NULL;
}

bool label_by_rules(struct agent *a, const struct label_facts *facts, char *ret, size_t size)
{
	struct label_facts copy = *facts;
	struct policy_label_facts f = { .cgroup = str_of(facts->path),
					.image = str_of(facts->image),
					.container = str_of(facts->container),
					.container_label = container_label,
					.arg = &copy };
	const struct policy *p = rules_policy(a);
	char tags[MSG_TAGS_BYTES], why[MSG_TEXT_BYTES];

	if (!p || !policy_label(p, &f, tags, sizeof(tags)) || !tags[0])
		return false;
	if (label_tags(tags, ret, size, why, sizeof(why))) {
		log_limited(LOG_WARN, "a rule gives tags that are none cgroup=%s error=%s",
			    log_quote(str_of(facts->path)), why);
		return false;
	}
	return true;
}
