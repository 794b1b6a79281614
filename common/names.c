/* SPDX-License-Identifier: Apache-2.0 */
/* String tables of the enums that cross module borders. */
#include <assert.h>

#include "common/base.h"
#include "common/force.h"
#include "common/outcome.h"
#include "common/wire.h"

static const char *const wire_names[] = {
	[WIRE_NONE] = "none",
	[WIRE_ANTHROPIC_MESSAGES] = "anthropic_messages",
	[WIRE_OPENAI_CHAT] = "openai_chat",
	[WIRE_OPENAI_RESPONSES] = "openai_responses",
	[WIRE_GEMINI] = "gemini_generate_content",
};
static_assert(ARRAY_SIZE(wire_names) == WIRE_FORMAT_MAX, "a wire format lacks its name");

const char *wire_format_name(enum wire_format format)
{
	return (unsigned)format < WIRE_FORMAT_MAX ? wire_names[format] : "?";
}

static const char *const outcome_names[] = {
	[OUTCOME_NONE] = "running",
	[OUTCOME_OK] = "ok",
	[OUTCOME_PROVIDER_ERROR] = "provider_error",
	[OUTCOME_CLIENT_GONE] = "client_gone",
	[OUTCOME_UPSTREAM_DOWN] = "upstream_down",
	[OUTCOME_UPSTREAM_BROKE] = "upstream_broke",
	[OUTCOME_UPSTREAM_STALL] = "upstream_stall",
	[OUTCOME_KEY_REFUSED] = "key_refused",
	[OUTCOME_DENIED_UNSTAMPED] = "denied_unstamped",
	[OUTCOME_DENIED_UNLABELLED] = "denied_unlabelled",
	[OUTCOME_DENIED_ROLE] = "denied_role",
	[OUTCOME_DENIED_MODEL] = "denied_model",
	[OUTCOME_UNKNOWN_MODEL] = "unknown_model",
	[OUTCOME_DENIED_QUOTA] = "denied_quota",
	[OUTCOME_DENIED_UNPRICED] = "denied_unpriced",
	[OUTCOME_DENIED_LIMIT] = "denied_limit",
	[OUTCOME_BAD_REQUEST] = "bad_request",
	[OUTCOME_TOO_LARGE] = "too_large",
	[OUTCOME_NOT_FOUND] = "not_found",
	[OUTCOME_NO_KEY] = "no_key",
	[OUTCOME_OVERLOADED] = "overloaded",
	[OUTCOME_LOCAL] = "local",
	[OUTCOME_LOST] = "lost",
	[OUTCOME_MISDIRECTED] = "misdirected",
};
static_assert(ARRAY_SIZE(outcome_names) == OUTCOME_MAX, "an outcome lacks its name");

const char *outcome_name(enum outcome outcome)
{
	return (unsigned)outcome < OUTCOME_MAX ? outcome_names[outcome] : "?";
}

static const char *const force_mode_names[] = {
	[FORCE_OFF] = "off",
	[FORCE_OBSERVE] = "observe",
	[FORCE_ASSIST] = "assist",
	[FORCE_STRICT] = "strict",
};
static_assert(ARRAY_SIZE(force_mode_names) == FORCE_MODE_MAX, "a mode lacks its name");

const char *force_mode_name(unsigned mode)
{
	return mode < FORCE_MODE_MAX ? force_mode_names[mode] : "?";
}
