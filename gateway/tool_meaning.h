/* SPDX-License-Identifier: Apache-2.0 */
/* What a tool call does, whatever the harness calls its tool. */
#pragma once

#include "common/str.h"
#include "gateway/extract.h"

enum tool_meaning {
	MEANING_OTHER,
	MEANING_SHELL,
	MEANING_FILE,
	MEANING_SEARCH,
	MEANING_WEB,
	MEANING_MCP,
	MEANING_MAX
};
const char *tool_meaning_name(enum tool_meaning meaning);

/*
 * Writes what a person wants to see into `ret_summary` (the command line, "edit path", the query,
 * "server/tool"), unescaped, control bytes replaced by spaces, cut at `size`.
 */
enum tool_meaning tool_meaning(const struct tool_call *call, char *ret_summary, size_t size);
