/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules in force: the policy's text, the price table and the providers' keys. They are read
 * together, checked whole, and handed to the workers as one generation; a mistake leaves the old
 * ones in force.
 */
#pragma once

#include "agent/agent.h"

struct rule_set;

/* Reads the rules for the first time and watches their files. Without a usable policy there is
 * none. */
int rules_init(struct agent *a);
void rules_fini(struct agent *a);
/*
 * Reads the files again. 0: the new rules are in force, or will be when their key commands have
 * ended; negative errno: the old ones stay, and rules_error() says why.
 */
int rules_reload(struct agent *a);

/* Borrowed until the next reload; NULL: there never was a usable one. */
const struct policy *rules_policy(const struct agent *a);
uint64_t rules_generation(const struct agent *a);
/* Why the newest file is not in force, or "". */
const char *rules_error(const struct agent *a);

/* RULES, KEYs and COMMIT to one channel. 0 or negative errno. */
int rules_send(struct agent *a, int channel);
/* A worker says that a provider refused its key. */
void rules_key_refused(struct agent *a, const char *provider);
unsigned rules_n_keys(const struct agent *a);
/* False when there is no such row. */
bool rules_key_row(const struct agent *a, unsigned i, struct msg_key_row *ret);
