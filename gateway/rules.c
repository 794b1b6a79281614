/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/rules.h"

#include <errno.h>
#include <stdio.h>

#include "common/base.h"

int read_whole(int fd, size_t max, char **ret, size_t *ret_n)
{
	auto_free char *data = NULL;
	size_t n = 0, cap = 0;

	for (;;) {
		ssize_t got;

		if (n == cap) {
			char *more = realloc(data, cap ? cap * 2 : 16384);

			if (!more)
				return -ENOMEM;
			data = more;
			cap = cap ? cap * 2 : 16384;
		}
		got = pread(fd, data + n, cap - n, (off_t)n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += (size_t)got;
		if (n > max)
			return -EFBIG;
	}
	*ret = TAKE_PTR(data);
	*ret_n = n;
	return 0;
}

/* The first mistake: warnings may stand before it. */
static void rules_say(const struct policy_diags *diags, char *ret_why, size_t size)
{
	static const struct policy_diag none = { .text = "no memory" };
	const struct policy_diag *d = diags->items, *end = d + diags->n;

	while (d < end && !d->is_error)
		d++;
	d = d < end ? d : &none;
	snprintf(ret_why, size, "%u:%u: %s", d->line, d->column, d->text);
}

int rules_read(int policy_fd, int prices_fd, uint64_t generation, struct rules **ret, char *ret_why,
	       size_t size)
{
	auto_free char *text = NULL, *prices = NULL;
	auto_free struct policy_diags *diags = calloc(1, sizeof(*diags));
	size_t n = 0, n_prices = 0;
	struct rules *r;
	int err = diags ? read_whole(policy_fd, POLICY_TEXT_MAX, &text, &n) : -ENOMEM;

	if (!err && prices_fd >= 0)
		err = read_whole(prices_fd, POLICY_TEXT_MAX, &prices, &n_prices);
	if (err) {
		snprintf(ret_why, size, "the policy cannot be read: %s", strerror(-err));
		return err;
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->refs = 1;
	r->generation = generation;
	err = policy_parse((struct str){ text, n }, (struct str){ prices, n_prices }, &r->policy, diags);
	if (err) {
		rules_say(diags, ret_why, size);
		free(r);
		return err;
	}
	r->n_providers = policy_n_providers(r->policy);
	r->keys = calloc(r->n_providers ? r->n_providers : 1, sizeof(*r->keys));
	if (!r->keys) {
		rules_unref(r);
		return -ENOMEM;
	}
	*ret = r;
	return 0;
}

struct rules *rules_ref(struct rules *r)
{
	r->refs++;
	return r;
}

void rules_unref(struct rules *r)
{
	if (!r || --r->refs)
		return;
	for (unsigned i = 0; r->keys && i < r->n_providers; i++)
		secret_free(r->keys[i].secret);
	free(r->keys);
	policy_free(r->policy);
	free(r);
}

int rules_set_key(struct rules *r, struct str provider, struct secret *secret)
{
	for (unsigned i = 0; i < r->n_providers; i++) {
		if (!str_eq(policy_provider(r->policy, i)->name, provider))
			continue;
		secret_free(r->keys[i].secret);
		r->keys[i].secret = secret;
		return 0;
	}
	secret_free(secret);
	return -ENOENT;
}
