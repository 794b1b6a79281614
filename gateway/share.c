/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/share.h"

#include <stdlib.h>

static struct share **bucket_of(struct shares *all, uint64_t key)
{
	return &all->buckets[key * 0x9e3779b97f4a7c15ULL >> 54];
}

_Static_assert(SHARE_BUCKETS == 1 << (64 - 54), "the hash takes the upper bits");

struct share *share_get(struct shares *all, uint64_t key)
{
	struct share **bucket = bucket_of(all, key), *s = *bucket;

	while (s && s->key != key)
		s = s->next;
	if (s)
		return share_ref(s);
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->key = key;
	s->refs = 1;
	s->next = *bucket;
	*bucket = s;
	return s;
}

void share_put(struct shares *all, struct share *s)
{
	struct share **at;

	if (!s || --s->refs)
		return;
	at = bucket_of(all, s->key);
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	free(s);
}

void share_idle_add(struct share *s, struct share_idle *i)
{
	if (i->listed)
		return;
	*i = (struct share_idle){ .prev = s->newest, .listed = true };
	if (s->newest)
		s->newest->next = i;
	else
		s->oldest = i;
	s->newest = i;
}

void share_idle_remove(struct share *s, struct share_idle *i)
{
	if (!i->listed)
		return;
	if (i->prev)
		i->prev->next = i->next;
	else
		s->oldest = i->next;
	if (i->next)
		i->next->prev = i->prev;
	else
		s->newest = i->prev;
	*i = (struct share_idle){ 0 };
}

struct share *share_victim(const struct shares *all, struct share *s)
{
	struct share *most = s->oldest ? s : NULL;

	/* Only when connections are scarce; there are no more shares than sandboxes. */
	for (unsigned i = 0; i < SHARE_BUCKETS; i++)
		for (struct share *at = all->buckets[i]; at; at = at->next)
			if (at->oldest && at->n_conns > (most ? most->n_conns : s->n_conns))
				most = at;
	return most;
}
