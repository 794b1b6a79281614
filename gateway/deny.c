/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/deny.h"

#include <errno.h>
#include <inttypes.h>

#include "common/base.h"

/* Rationale: Claude Code gives up at once above 60 s and retries below (docs/CLIENTS.md). */
#define ANTHROPIC_RETRY_AFTER_MIN_S 61

struct shape {
	int status;
	const char *type; /* error.type, or Google's status word */
	bool retry_after;
};

static const char *status_text(int status)
{
	switch (status) {
	case 400:
		return "Bad Request";
	case 402:
		return "Payment Required";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 413:
		return "Content Too Large";
	case 421:
		return "Misdirected Request";
	case 426:
		return "Upgrade Required";
	case 429:
		return "Too Many Requests";
	case 502:
		return "Bad Gateway";
	case 503:
		return "Service Unavailable";
	case 504:
		return "Gateway Timeout";
	default:
		return "Error";
	}
}

/* The plain meaning of an outcome; formats differ below. */
static int outcome_status(enum outcome outcome)
{
	switch (outcome) {
	case OUTCOME_UNKNOWN_MODEL:
	case OUTCOME_NOT_FOUND:
		return 404;
	case OUTCOME_BAD_REQUEST:
		return 400;
	case OUTCOME_TOO_LARGE:
		return 413;
	case OUTCOME_MISDIRECTED:
		return 421;
	case OUTCOME_DENIED_QUOTA:
		return 429;
	case OUTCOME_OVERLOADED:
		return 503;
	case OUTCOME_UPSTREAM_STALL:
		return 504;
	case OUTCOME_UPSTREAM_DOWN:
	case OUTCOME_UPSTREAM_BROKE:
	case OUTCOME_KEY_REFUSED:
	case OUTCOME_NO_KEY:
		return 502;
	default:
		return 403;
	}
}

static struct shape shape_anthropic(enum outcome outcome)
{
	int status = outcome_status(outcome);

	return (struct shape){
		status,
		status == 403 ? "permission_error" :
		status == 404 ? "not_found_error" :
		status == 400 || status == 421 ? "invalid_request_error" :
		status == 413 ? "request_too_large" :
		status == 429 ? "rate_limit_error" :
		status == 503 ? "overloaded_error" :
				"api_error",
		outcome == OUTCOME_DENIED_QUOTA,
	};
}

static struct shape shape_openai(enum outcome outcome, struct str client)
{
	int status = outcome_status(outcome);

	/*
	 * Codex sends a 403 or 404 six times, and hides our sentence behind its own at a 429; a 400 it shows at
	 * once. Every other client takes 403 as final.
	 */
	if (status >= 400 && status < 500 && str_starts(client, STR("codex")))
		return (struct shape){ 400, "invalid_request_error", false };
	return (struct shape){
		status,
		status == 403 ? "permission_error" :
		status == 404 ? "not_found_error" :
		status == 429 ? "insufficient_quota" :
		status >= 500 ? "server_error" :
				"invalid_request_error",
		false,
	};
}

static struct shape shape_gemini(enum outcome outcome)
{
	int status = outcome_status(outcome);

	/* Gemini CLI retries a 429 and stops at any other 4xx. */
	if (status == 429)
		return (struct shape){ 402, "RESOURCE_EXHAUSTED", false };
	return (struct shape){
		status,
		status == 403 ? "PERMISSION_DENIED" :
		status == 404 ? "NOT_FOUND" :
		status == 503 ? "UNAVAILABLE" :
		status == 504 ? "DEADLINE_EXCEEDED" :
		status >= 500 ? "INTERNAL" :
				"INVALID_ARGUMENT",
		false,
	};
}

static int write_body(enum wire_format format, const struct shape *s, struct str message,
		      enum outcome outcome, struct buf *out)
{
	int err;

	switch (format) {
	case WIRE_ANTHROPIC_MESSAGES:
		err = buf_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", s->type);
		break;
	case WIRE_GEMINI:
		err = buf_printf(out, "{\"error\":{\"code\":%d,\"status\":\"%s\",\"message\":", s->status,
				 s->type);
		break;
	default:
		err = buf_printf(out, "{\"error\":{\"type\":\"%s\",\"code\":\"%s\",\"param\":null,\"message\":",
				 s->type, s->status == 429 ? s->type : outcome_name(outcome));
		break;
	}
	if (!err)
		err = buf_json_string(out, message);
	return err ? err : buf_puts(out, STR("}}"));
}

static int write_head(const struct denial *d, const struct shape *s, size_t body_bytes, struct buf *out)
{
	int err = buf_printf(out,
			     "HTTP/1.1 %d %s\r\ncontent-type: application/json\r\n"
			     "content-length: %zu\r\nsallyport-reason: %s\r\n"
			     "sallyport-request-id: sp_%016" PRIx64 "\r\nx-should-retry: %s\r\n%s",
			     s->status, status_text(s->status), body_bytes, outcome_name(d->outcome),
			     d->request_id, s->status >= 500 ? "true" : "false",
			     d->close ? "connection: close\r\n" : "");

	if (!err && s->retry_after)
		err = buf_printf(out, "retry-after: %" PRIu64 "\r\n",
				 MAX(d->retry_after_s, (uint64_t)ANTHROPIC_RETRY_AFTER_MIN_S));
	return err ? err : buf_puts(out, STR("\r\n"));
}

/* OpenCode waits out a 429 in silence and asks again and again, whatever the format; a 403 it shows. */
static enum outcome outcome_for(const struct denial *d)
{
	return d->outcome == OUTCOME_DENIED_QUOTA && str_starts(d->client, STR("opencode")) ? OUTCOME_DENIED_LIMIT :
											     d->outcome;
}

int deny_write(const struct denial *d, struct buf *out)
{
	enum outcome as = outcome_for(d);
	struct shape s = d->format == WIRE_ANTHROPIC_MESSAGES ? shape_anthropic(as) :
			 d->format == WIRE_GEMINI	      ? shape_gemini(as) :
								shape_openai(as, d->client);
	size_t was = buf_len(out);
	struct buf body;
	int err;

	buf_init(&body, 65536);
	err = write_body(d->format, &s, d->message, d->outcome, &body);
	if (!err)
		err = write_head(d, &s, buf_len(&body), out);
	if (!err && !d->no_body)
		err = buf_puts(out, buf_str(&body));
	buf_fini(&body);
	if (err)
		out->end = out->start + was;
	return err ? err : s.status;
}

int deny_write_event(enum wire_format format, struct str type, struct str message, struct buf *out)
{
	struct buf text;
	int err;

	buf_init(&text, 65536);
	err = buf_json_string(&text, message);
	if (!err && format == WIRE_ANTHROPIC_MESSAGES)
		err = buf_printf(out,
				 "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"%.*s\",\"message\":%.*s}}\n\n",
				 STR_ARG(type), STR_ARG(buf_str(&text)));
	else if (!err && format == WIRE_OPENAI_RESPONSES)
		err = buf_printf(out,
				 "event: error\ndata: {\"type\":\"error\",\"code\":\"%.*s\",\"message\":%.*s,\"param\":null}\n\n",
				 STR_ARG(type), STR_ARG(buf_str(&text)));
	else if (!err)
		err = buf_printf(out, "data: {\"error\":{\"type\":\"%.*s\",\"code\":502,\"message\":%.*s}}\n\n",
				 STR_ARG(type), STR_ARG(buf_str(&text)));
	buf_fini(&text);
	return err;
}
