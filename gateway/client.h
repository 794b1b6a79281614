/* SPDX-License-Identifier: Apache-2.0 */
/* Which agent or SDK asks, and in which session, by the request's headers. Names, not identity. */
#pragma once

#include "common/str.h"

/* "claude-code/2.1.329", "codex/0.169", … ; "other" when unknown. Cut at size. */
void client_name(struct str user_agent, char *ret, size_t size);
/* The header names (lower case) that carry a session id, best first; NULL-terminated. */
extern const char *const client_session_headers[];
