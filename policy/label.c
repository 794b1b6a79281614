/* SPDX-License-Identifier: Apache-2.0 */
/* `labels`: rules that put tags on cgroups nobody labelled by hand. */
#include "policy/internal.h"

#include <errno.h>

struct label_draft {
	const struct hujson *match, *tags;
	struct str tags_from;
};

struct match_draft {
	const struct hujson *cgroup, *docker_label, *image, *container;
};

#define LABEL(m) SCHEMA_AT(struct label_draft, m)
static const struct schema_field label_fields[] = {
	{ "match", SCHEMA_NODE, .required = true, LABEL(match), .node = HUJSON_OBJECT,
	  .help = "say what it applies to: cgroup, docker_label, image or container" },
	{ "tags", SCHEMA_NODE, LABEL(tags), .node = HUJSON_ARRAY, .help = "the tags it puts on" },
	{ "tags_from", SCHEMA_STRING, LABEL(tags_from),
	  .help = "\"value\": the docker_label's value is the list" },
	{ 0 },
};

#define MATCH(m) SCHEMA_AT(struct match_draft, m)
static const struct schema_field match_fields[] = {
	{ "cgroup", SCHEMA_NODE, MATCH(cgroup), .node = HUJSON_STRING,
	  .help = "a pattern on the path" },
	{ "docker_label", SCHEMA_NODE, MATCH(docker_label), .node = HUJSON_STRING,
	  .help = "NAME, or NAME=PATTERN" },
	{ "image", SCHEMA_NODE, MATCH(image), .node = HUJSON_STRING, .help = "a pattern" },
	{ "container", SCHEMA_NODE, MATCH(container), .node = HUJSON_STRING,
	  .help = "a pattern on its name" },
	{ "annotation", SCHEMA_REFUSED, .help = "of Kubernetes" },
	{ 0 },
};

const struct schema_field *label_schema(void)
{
	return label_fields;
}

static void label_glob(struct schema *s, const struct hujson *v, struct str text, bool *has,
		       struct glob *ret)
{
	int err = glob_compile(ret, text, s->arena);

	*has = true;
	if (err == -ENOMEM)
		s->err = err;
	else if (err)
		schema_error(s, v, "the pattern `%s` is too long", diag_word(text).s);
	else if (!text.n)
		schema_error(s, v, "an empty pattern can match nothing; write `**` for everything");
}

static void match_parse(struct schema *s, const struct hujson *v, struct label_rule *r)
{
	struct match_draft d = { 0 };

	schema_parse(s, match_fields, "`match`", v, &d);
	if (!v->n)
		schema_error(s, v, "`match` is empty; it would put tags on everything");
	if (d.cgroup)
		label_glob(s, d.cgroup, d.cgroup->text, &r->has_cgroup, &r->cgroup);
	if (d.cgroup && d.cgroup->text.n && d.cgroup->text.s[0] != '/' &&
	    !str_starts(d.cgroup->text, STR("**")))
		schema_warn(
			s, d.cgroup,
			"`%s` can match nothing: paths of cgroups start with a slash; write `/%s`",
			diag_word(d.cgroup->text).s, diag_word(d.cgroup->text).s);
	if (d.image)
		label_glob(s, d.image, d.image->text, &r->has_image, &r->image);
	if (d.container)
		label_glob(s, d.container, d.container->text, &r->has_container, &r->container);
	if (d.docker_label) {
		struct str text = d.docker_label->text;
		const char *equals = memchr(text.s, '=', text.n);

		r->docker_label =
			(struct str){ text.s, equals ? (size_t)(equals - text.s) : text.n };
		if (!r->docker_label.n)
			schema_error(s, d.docker_label, "the name of the label is missing");
		if (equals)
			label_glob(s, d.docker_label, str_skip(text, r->docker_label.n + 1),
				   &r->has_value, &r->value);
	}
}

/* ["tag:a", "tag:b"] -> "tag:a,tag:b". */
static void label_tags(struct schema *s, const struct hujson *v, struct label_rule *r)
{
	size_t size = 1, used = 0;
	char *out;

	hujson_for_each(item, v)
	{
		if (!schema_expect(s, item, HUJSON_STRING, "a tag"))
			return;
		if (!tag_valid(item->text))
			schema_error(
				s, item,
				"`%s` is no tag; it is `tag:`, a letter, then letters, digits and "
				"dashes in lower case",
				diag_word(item->text).s);
		size += item->text.n + 1;
	}
	out = schema_alloc(s, size, 1);
	if (!out)
		return;
	hujson_for_each(item, v)
	{
		if (used)
			out[used++] = ',';
		memcpy(out + used, item->text.s, item->text.n);
		used += item->text.n;
	}
	r->tags = (struct str){ out, used };
	if (!used)
		schema_error(s, v, "`tags` is empty");
}

static void label_parse(struct schema *s, const struct hujson *v, struct label_rule *r)
{
	struct label_draft d = { .tags_from = STR("") };

	*r = (struct label_rule){ .line = v->line, .docker_label = STR(""), .tags = STR("") };
	if (!schema_parse(s, label_fields, "a label rule", v, &d) || !d.match)
		return;
	match_parse(s, d.match, r);
	r->from_value = str_eq(d.tags_from, STR("value"));
	if (d.tags_from.n && !r->from_value)
		schema_error(s, hujson_get(v, STR("tags_from")), "`tags_from` must be \"value\"");
	if (r->from_value && !r->docker_label.n)
		schema_error(s, v, "`tags_from` needs `docker_label` in `match`");
	if (r->from_value == (d.tags != NULL))
		schema_error(s, v, "a label rule has either `tags` or \"tags_from\": \"value\"");
	else if (d.tags)
		label_tags(s, d.tags, r);
}

void labels_parse(struct schema *s, const struct hujson *v)
{
	struct policy *p = s->arg;

	if (v->n > LABELS_MAX) {
		schema_error(s, v, "more than %d label rules", LABELS_MAX);
		return;
	}
	p->labels = schema_alloc(s, v->n, sizeof(*p->labels));
	if (!p->labels)
		return;
	hujson_for_each(item, v)
	{
		label_parse(s, item, &p->labels[p->n_labels++]);
	}
}

/* ---------------------------------------------------------------- reading */

static bool label_matches(const struct label_rule *r, const struct policy_label_facts *facts,
			  struct str *ret_value)
{
	if ((r->has_cgroup && !glob_match(&r->cgroup, facts->cgroup)) ||
	    (r->has_image && (!facts->image.n || !glob_match(&r->image, facts->image))) ||
	    (r->has_container &&
	     (!facts->container.n || !glob_match(&r->container, facts->container))))
		return false;
	if (!r->docker_label.n)
		return true;
	*ret_value = facts->container_label ? facts->container_label(facts->arg, r->docker_label)
					    : STR_NULL;
	return ret_value->n && (!r->has_value || glob_match(&r->value, *ret_value));
}

/*
 * Normalised, each tag once; false when one is no tag or they do not fit: then nothing is put on.
 */
static bool label_write(struct str list, char *ret, size_t size)
{
	struct str tag;
	size_t used = 0;
	bool bad;

	while (tags_next(&list, &tag, &bad)) {
		struct str so_far = { ret, used };
		bool seen = false, more;

		for (struct str have; tags_next(&so_far, &have, &more);)
			seen |= str_eq(have, tag);
		if (seen)
			continue;
		if (used + tag.n + 2 > size)
			return false;
		if (used)
			ret[used++] = ',';
		memcpy(ret + used, tag.s, tag.n);
		used += tag.n;
		ret[used] = '\0';
	}
	return !bad && used;
}

bool policy_label(const struct policy *p, const struct policy_label_facts *facts, char *ret_tags,
		  size_t size)
{
	for (unsigned i = 0; i < p->n_labels; i++) {
		const struct label_rule *r = &p->labels[i];
		struct str value = STR_NULL;

		if (!label_matches(r, facts, &value))
			continue;
		if (size && label_write(r->from_value ? value : r->tags, ret_tags, size))
			return true;
		if (size)
			ret_tags[0] = '\0';
		return false;
	}
	return false;
}
