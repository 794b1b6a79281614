/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where providers' keys come from. The agent opens or fills descriptors and passes them on; it
 * never looks at the bytes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/msg.h"
#include "policy/policy.h"

/* Rationale: the longest keys are service-account files of a few kilobytes. */
#define KEY_BYTES_MAX (64u << 10)

struct key {
	char provider[MSG_NAME_BYTES];
	char source[MSG_PATH_BYTES]; /* "file:/etc/…"; never a literal's text */
	char state[MSG_NAME_BYTES];  /* "ok", or what is wrong and the cure */
	int fd;			     /* -1: not usable */
	uint64_t changed_ns;	     /* wall clock of the source, 0 if unknown */
	bool is_command;	     /* still to be filled by key_command() */
};

/*
 * Opens the key of a provider. A bad one is no error: `state` says what is wrong. `policy_is_safe`:
 * only root can write the policy file, so its commands may be run. Follow with key_close().
 */
void key_open(const struct policy_provider *p, bool policy_is_safe, struct key *ret);
void key_close(struct key *k);
/* The file that this key is read from, or false. */
bool key_path(const struct policy_provider *p, char *ret, size_t size);

/* Starts the command with the key's descriptor as its output: a pidfd, or negative errno. */
int key_command(struct key *k, const struct policy_provider *p);
/* The command left with this status (as of spawn_wait()). */
void key_command_done(struct key *k, int status);
