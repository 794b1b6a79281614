/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in force: policy, keys and the answers that follow from them. Swapped as a whole; a request that
 * runs keeps the rules it began with.
 */
#pragma once

#include "gateway/keys.h"
#include "policy/policy.h"

struct rules {
	unsigned refs;
	uint64_t generation;
	struct policy *policy;
	unsigned n_providers;
	struct provider_key {
		struct secret *secret; /* NULL: none could be read */
		bool bad;              /* the provider refused it */
	} *keys;
};

/* Reads policy and prices from the descriptors (they stay the caller's). Errors as policy_parse(). */
int rules_read(int policy_fd, int prices_fd, uint64_t generation, struct rules **ret, char *ret_why, size_t size);
struct rules *rules_ref(struct rules *r);
/* Accepts NULL. */
void rules_unref(struct rules *r);
/* Takes the secret; -ENOENT (and the secret freed) when no provider has that name. */
int rules_set_key(struct rules *r, struct str provider, struct secret *secret);

/* The whole of a file into memory that the caller frees; bounded. */
int read_whole(int fd, size_t max, char **ret, size_t *ret_n);
