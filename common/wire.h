/* SPDX-License-Identifier: Apache-2.0 */
/* The wire formats that the gateway understands; one list for policy, extraction, errors and ledger. */
#pragma once

enum wire_format {
	WIRE_NONE = 0, /* not a model call, or one of a format that is passed on unread */
	WIRE_ANTHROPIC_MESSAGES,
	WIRE_OPENAI_CHAT,
	WIRE_OPENAI_RESPONSES,
	WIRE_GEMINI,
	WIRE_FORMAT_MAX,
};

/* Also the name of the `compatibility` flag of a provider that speaks it. */
const char *wire_format_name(enum wire_format format);
