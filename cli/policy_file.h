/* SPDX-License-Identifier: Apache-2.0 */
/* Policies from files, for `sallyport policy` and doctor. */
#pragma once

#include <stdio.h>

#include "cli/cli.h"
#include "policy/policy.h"

struct policy_file {
	const char *path; /* as named; or owned_path */
	char *owned_path;
	struct policy *policy; /* NULL when it is not valid */
	struct policy_diags *diags;
	char *text;
	size_t text_bytes;
};
/*
 * Reads and parses `path`, or the configured policy when it is NULL. EXIT_OK also for an invalid
 * one (look at .policy); an exit code when it cannot be read. Follow with policy_file_fini() in any
 * case.
 */
int policy_file_load(const struct cli_common *o, const char *path, struct policy_file *ret);
void policy_file_fini(struct policy_file *f);
/* Its errors and warnings, "FILE:LINE:COLUMN: …", to a stream. */
void policy_file_say(const struct policy_file *f, FILE *out);

/* What identities gain and lose between two policies, to stdout. EXIT_OK. */
int policy_diff_print(const struct policy_file *old, const struct policy_file *new, bool json);

/* An identity as `src` of a policy's test: "tag:a,tag:b", "user:x", "cgroup:/x", "container:x",
 * "*". */
#define POLICY_IDENTITY_TAGS 64
struct policy_identity {
	struct policy_facts facts;
	struct str tags[POLICY_IDENTITY_TAGS];
};
void policy_identity_of(struct str src, struct policy_identity *ret);
