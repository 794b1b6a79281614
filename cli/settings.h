/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients must be told to come to the gateway: one table of environment variables for `run`
 * and `env`, and the configuration files of clients that need one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"

enum settings_family { FAMILY_ANTHROPIC = 1, FAMILY_OPENAI = 2, FAMILY_GEMINI = 4, FAMILY_ALL = 7 };

struct settings {
	uint16_t port;
	unsigned families;
	/*
	 * Anthropic's SDKs and frameworks want ANTHROPIC_API_KEY; Claude Code takes
	 * ANTHROPIC_AUTH_TOKEN and asks a person what to do when both are set. So it is set for all
	 * but Claude Code.
	 */
	bool anthropic_api_key;
	bool keep_keys; /* for providers whose auth_mode is passthrough: keys stay as they are */
	const char *bundle; /* certificates to trust, with this host's CA; NULL: there are none */
};

/* `value` NULL: the variable is to be removed. */
typedef void (*settings_fn)(void *arg, const char *name, const char *value);
/* Calls fn for each variable. `current` looks one up (getenv); what only matters when it is set
 * depends on it. */
void settings_each(const struct settings *s, const char *(*current)(const char *name),
		   settings_fn fn, void *arg);

/* The variables with which clients find certificates to trust; those that are set already stay as they are. */
void settings_trust_each(const char *bundle, const char *(*current)(const char *name), settings_fn fn, void *arg);
/* The same without asking what is set. */
void settings_trust(const char *bundle, settings_fn fn, void *arg);
/* RUN_DIR/ca/bundle.pem when it is there, else NULL. */
const char *settings_bundle(const char *run_dir, char *ret, size_t size);

/* The text for a client's own file: codex, gemini, opencode, claude. 0, -ENOENT, or the error of
 * the buffer. */
int settings_snippet(const char *client, uint16_t port, struct buf *out);
