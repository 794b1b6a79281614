/* SPDX-License-Identifier: Apache-2.0 */
/* The forced path: `egress` by tag, and which provider a host name belongs to. */
#include "policy/internal.h"

#include <errno.h>

static const char *const modes[] = { "off", "observe", "assist", "strict", NULL };
_Static_assert(ARRAY_SIZE(modes) == FORCE_MODE_MAX + 1, "a mode's word is missing");

static bool mode_parse(struct schema *s, const struct hujson *v, enum force_mode *ret)
{
	struct nearest nearest = nearest_start(v->text);

	if (!schema_expect(s, v, HUJSON_STRING, "a mode of `egress`"))
		return false;
	for (unsigned i = 0; i < FORCE_MODE_MAX; i++) {
		if (str_eq(v->text, str_of(modes[i]))) {
			*ret = (enum force_mode)i;
			return true;
		}
		nearest_try(&nearest, str_of(modes[i]));
	}
	schema_error(s, v, "`%s` is no mode; it must be off, observe, assist or strict%s", diag_word(v->text).s,
		     nearest_hint(&nearest).s);
	return false;
}

void egress_parse(struct schema *s, const struct hujson *v)
{
	struct policy *p = s->arg;
	struct egress_rule *rules;

	p->egress_default = FORCE_ASSIST;
	if (!v)
		return;
	rules = schema_alloc(s, v->n, sizeof(*rules));
	if (!rules)
		return;
	p->egress = rules;
	hujson_for_each(item, v)
	{
		enum force_mode mode;

		if (!mode_parse(s, item, &mode))
			continue;
		if (str_eq(item->key, STR("default")))
			p->egress_default = mode;
		else if (tag_valid(item->key))
			rules[p->n_egress++] = (struct egress_rule){ item->key, mode };
		else
			schema_error_key(s, item, "`%s` is neither \"default\" nor a tag like \"tag:ci\"",
					 diag_word(item->key).s);
	}
}

enum force_mode policy_egress_mode(const struct policy *p, const struct str *tags, unsigned n_tags)
{
	enum force_mode mode = FORCE_OFF;
	bool named = false;

	for (unsigned i = 0; i < p->n_egress; i++) {
		for (unsigned t = 0; t < n_tags; t++) {
			if (!str_eq(p->egress[i].tag, tags[t]))
				continue;
			named = true;
			mode = MAX(mode, p->egress[i].mode);
		}
	}
	return named ? mode : p->egress_default;
}

/* One label against one pattern: `*` is any run without a dot. Bounded by 253 x 253 steps. */
bool policy_domain_match(struct str pattern, struct str host)
{
	size_t p = 0, h = 0, star = SIZE_MAX, mark = 0;

	while (h < host.n) {
		if (p < pattern.n && pattern.s[p] == '*') {
			star = p++;
			mark = h;
		} else if (p < pattern.n && pattern.s[p] == host.s[h]) {
			p++;
			h++;
		} else if (star != SIZE_MAX && host.s[mark] != '.') {
			p = star + 1;
			h = ++mark;
		} else {
			return false;
		}
	}
	while (p < pattern.n && pattern.s[p] == '*')
		p++;
	return p == pattern.n && host.n > 0;
}

bool policy_provider_owns(const struct policy_provider *provider, struct str host)
{
	for (unsigned i = 0; !provider->disabled && i < provider->n_domains; i++)
		if (policy_domain_match(provider->domains[i], host))
			return true;
	return false;
}

int policy_domain_provider(const struct policy *p, struct str host)
{
	for (unsigned i = 0; i < p->n_providers; i++)
		if (policy_provider_owns(&p->providers[i], host))
			return (int)i;
	return -1;
}
