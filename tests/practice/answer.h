/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answers of the practice provider, shaped as the real ones are: first some text and one shell call, then,
 * when the request brings the tool's result, a closing text. Numbers depend on the request alone, so the same
 * question is answered with the same bytes.
 */
#pragma once

#include "common/buf.h"
#include "tests/practice/ask.h"

#define EVENTS_MAX 64

/* A body with the places where one event ends and the next begins. */
struct answer {
	struct buf bytes;
	size_t cuts[EVENTS_MAX];
	unsigned n_cuts;
	const char *content_type;
};

struct numbers {
	unsigned input, cache_read, cache_write, output, reasoning;
	unsigned id;
};

static struct numbers numbers_of(const struct ask *a)
{
	struct numbers n = { .id = 2166136261u };
	unsigned total;

	for (const char *p = a->prompt; *p; p++)
		n.id = (n.id ^ (unsigned char)*p) * 16777619u;
	n.id ^= a->has_result;
	/* What such a text really costs: four bytes a token, most of it read from the cache. */
	total = (unsigned)MAX(a->body_bytes / 4, (size_t)8);
	n.cache_read = total / 2;
	n.cache_write = a->family == FAMILY_ANTHROPIC ? total / 4 : 0;
	n.input = total - n.cache_read - n.cache_write;
	n.output = a->has_result ? 41 : 57;
	n.reasoning = 16;
	return n;
}

static void cut(struct answer *out)
{
	if (out->n_cuts < EVENTS_MAX)
		out->cuts[out->n_cuts++] = out->bytes.end;
}

static bool wants_call(const struct ask *a)
{
	return !a->has_result && !a->no_shell;
}

/* The words of the answer, one piece for each delta. */
static const char *const words_first[] = { "Let me look ", "at what is there ", "before I say ", "anything." };
static const char *const words_last[] = { "That worked: ", "I have read the output ", "of the command. ", "Nothing else is to do." };

static const char *word(const struct ask *a, unsigned i)
{
	return (wants_call(a) ? words_first : words_last)[i];
}

#define WORDS 4

static void put_words(const struct ask *a, struct buf *out)
{
	for (unsigned i = 0; i < WORDS; i++)
		buf_json_escape(out, str_of(word(a, i)));
}

/* The tool's arguments as JSON text, as this harness's tool takes them. */
static void arguments(const struct ask *a, struct buf *out)
{
	struct buf command;

	buf_init(&command, 4096);
	buf_json_string(&command, str_of(a->command));
	if (!strcmp(a->tool, "exec_command"))
		buf_printf(out, "{\"cmd\":%.*s}", STR_ARG(buf_str(&command)));
	else if (!strcmp(a->tool, "shell") || !strcmp(a->tool, "local_shell"))
		buf_printf(out, "{\"command\":[\"bash\",\"-lc\",%.*s]}", STR_ARG(buf_str(&command)));
	else
		buf_printf(out, "{\"command\":%.*s,\"description\":\"Look at the folder\"}", STR_ARG(buf_str(&command)));
	buf_fini(&command);
}

/* The i-th of `of` pieces of the arguments, as the inside of a JSON string. */
static void arguments_piece(const struct ask *a, unsigned i, unsigned of, struct buf *out)
{
	struct buf all;
	size_t from, to;

	buf_init(&all, 8192);
	arguments(a, &all);
	from = buf_len(&all) * i / of;
	to = buf_len(&all) * (i + 1) / of;
	/* Not through the middle of a character. */
	while (from && (buf_head(&all)[from] & 0xc0) == 0x80)
		from++;
	while (to < buf_len(&all) && (buf_head(&all)[to] & 0xc0) == 0x80)
		to++;
	buf_json_escape(out, (struct str){ buf_head(&all) + from, to - from });
	buf_fini(&all);
}

/* ------------------------------------------------------------------ Anthropic Messages */

static void anthropic_usage(const struct numbers *n, unsigned output, struct buf *b)
{
	buf_printf(b,
		   "\"usage\":{\"input_tokens\":%u,\"cache_creation_input_tokens\":%u,\"cache_read_input_tokens\":%u,"
		   "\"cache_creation\":{\"ephemeral_5m_input_tokens\":%u,\"ephemeral_1h_input_tokens\":0},\"output_tokens\":%u,"
		   "\"service_tier\":\"standard\"}",
		   n->input, n->cache_write, n->cache_read, n->cache_write, output);
}

static void anthropic_json(const struct ask *a, struct answer *out)
{
	struct numbers n = numbers_of(a);
	struct buf *b = &out->bytes;

	buf_printf(b, "{\"id\":\"msg_practice_%08x\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"%s\",\"content\":[{\"type\":\"text\",\"text\":\"",
		   n.id, a->model);
	put_words(a, b);
	buf_puts(b, STR("\"}"));
	if (wants_call(a)) {
		buf_printf(b, ",{\"type\":\"tool_use\",\"id\":\"toolu_practice_%08x\",\"name\":\"%s\",\"input\":", n.id, a->tool);
		arguments(a, b);
		buf_puts(b, STR("}"));
	}
	buf_printf(b, "],\"stop_reason\":\"%s\",\"stop_sequence\":null,", wants_call(a) ? "tool_use" : "end_turn");
	anthropic_usage(&n, n.output, b);
	buf_puts(b, STR("}"));
	cut(out);
}

static void anthropic_call(const struct ask *a, const struct numbers *n, struct answer *out)
{
	struct buf *b = &out->bytes;

	buf_printf(b,
		   "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_practice_%08x\",\"name\":\"%s\",\"input\":{}}}\n\n",
		   n->id, a->tool);
	cut(out);
	for (unsigned i = 0; i < 3; i++) {
		buf_puts(b, STR("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\""));
		arguments_piece(a, i, 3, b);
		buf_puts(b, STR("\"}}\n\n"));
		cut(out);
	}
	buf_puts(b, STR("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n"));
	cut(out);
}

static void anthropic_sse(const struct ask *a, struct answer *out)
{
	struct numbers n = numbers_of(a);
	struct buf *b = &out->bytes;

	buf_printf(b, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_practice_%08x\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"%s\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,",
		   n.id, a->model);
	anthropic_usage(&n, 1, b);
	buf_puts(b, STR("}}\n\n"));
	cut(out);
	buf_puts(b, STR("event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n"));
	cut(out);
	for (unsigned i = 0; i < WORDS; i++) {
		buf_printf(b, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"%s\"}}\n\n",
			   word(a, i));
		cut(out);
	}
	buf_puts(b, STR("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"));
	cut(out);
	if (wants_call(a))
		anthropic_call(a, &n, out);
	buf_printf(b, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"%s\",\"stop_sequence\":null},",
		   wants_call(a) ? "tool_use" : "end_turn");
	anthropic_usage(&n, n.output, b);
	buf_puts(b, STR("}\n\n"));
	cut(out);
	buf_puts(b, STR("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
	cut(out);
}

/* ------------------------------------------------------------------ OpenAI Chat */

static void chat_usage(const struct numbers *n, struct buf *b)
{
	unsigned in = n->input + n->cache_read;

	buf_printf(b,
		   "\"usage\":{\"prompt_tokens\":%u,\"completion_tokens\":%u,\"total_tokens\":%u,\"prompt_tokens_details\":{\"cached_tokens\":%u},"
		   "\"completion_tokens_details\":{\"reasoning_tokens\":%u}}",
		   in, n->output, in + n->output, n->cache_read, n->reasoning);
}

static void chat_json(const struct ask *a, struct answer *out)
{
	struct numbers n = numbers_of(a);
	struct buf *b = &out->bytes;

	buf_printf(b, "{\"id\":\"chatcmpl-practice%08x\",\"object\":\"chat.completion\",\"created\":1790000000,\"model\":\"%s\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"",
		   n.id, a->model);
	put_words(a, b);
	buf_puts(b, STR("\",\"refusal\":null"));
	if (wants_call(a)) {
		buf_printf(b, ",\"tool_calls\":[{\"id\":\"call_practice%08x\",\"type\":\"function\",\"function\":{\"name\":\"%s\",\"arguments\":\"",
			   n.id, a->tool);
		arguments_piece(a, 0, 1, b);
		buf_puts(b, STR("\"}}]"));
	}
	buf_printf(b, "},\"logprobs\":null,\"finish_reason\":\"%s\"}],", wants_call(a) ? "tool_calls" : "stop");
	chat_usage(&n, b);
	buf_puts(b, STR("}"));
	cut(out);
}

/* One chunk: `delta` is JSON text that the caller has put behind `b`'s mark. */
static void chat_open(const struct ask *a, const struct numbers *n, struct buf *b)
{
	buf_printf(b, "data: {\"id\":\"chatcmpl-practice%08x\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"%s\",\"choices\":[{\"index\":0,\"delta\":{",
		   n->id, a->model);
}

static void chat_close(const struct ask *a, const char *finish, struct answer *out)
{
	struct buf *b = &out->bytes;

	buf_puts(b, STR("},\"logprobs\":null,\"finish_reason\":"));
	buf_printf(b, finish ? "\"%s\"}]%s}\n\n" : "%s}]%s}\n\n", finish ? finish : "null",
		   a->include_usage ? ",\"usage\":null" : "");
	cut(out);
}

static void chat_call(const struct ask *a, const struct numbers *n, struct answer *out)
{
	struct buf *b = &out->bytes;

	chat_open(a, n, b);
	buf_printf(b, "\"tool_calls\":[{\"index\":0,\"id\":\"call_practice%08x\",\"type\":\"function\",\"function\":{\"name\":\"%s\",\"arguments\":\"\"}}]",
		   n->id, a->tool);
	chat_close(a, NULL, out);
	for (unsigned i = 0; i < 3; i++) {
		chat_open(a, n, b);
		buf_puts(b, STR("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\""));
		arguments_piece(a, i, 3, b);
		buf_puts(b, STR("\"}}]"));
		chat_close(a, NULL, out);
	}
}

static void chat_sse(const struct ask *a, struct answer *out)
{
	struct numbers n = numbers_of(a);
	struct buf *b = &out->bytes;

	chat_open(a, &n, b);
	buf_puts(b, STR("\"role\":\"assistant\",\"content\":\"\",\"refusal\":null"));
	chat_close(a, NULL, out);
	for (unsigned i = 0; i < WORDS; i++) {
		chat_open(a, &n, b);
		buf_printf(b, "\"content\":\"%s\"", word(a, i));
		chat_close(a, NULL, out);
	}
	if (wants_call(a))
		chat_call(a, &n, out);
	chat_open(a, &n, b);
	chat_close(a, wants_call(a) ? "tool_calls" : "stop", out);
	if (a->include_usage) {
		buf_printf(b, "data: {\"id\":\"chatcmpl-practice%08x\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"%s\",\"choices\":[],",
			   n.id, a->model);
		chat_usage(&n, b);
		buf_puts(b, STR("}\n\n"));
		cut(out);
	}
	buf_puts(b, STR("data: [DONE]\n\n"));
	cut(out);
}

/* ------------------------------------------------------------------ OpenAI Responses */

static void responses_usage(const struct numbers *n, struct buf *b)
{
	unsigned in = n->input + n->cache_read;

	buf_printf(b,
		   "\"usage\":{\"input_tokens\":%u,\"input_tokens_details\":{\"cached_tokens\":%u},\"output_tokens\":%u,"
		   "\"output_tokens_details\":{\"reasoning_tokens\":%u},\"total_tokens\":%u}",
		   in, n->cache_read, n->output, n->reasoning, in + n->output);
}

static void responses_message_item(const struct ask *a, const struct numbers *n, struct buf *b)
{
	buf_printf(b, "{\"id\":\"msg_practice%08x\",\"type\":\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"annotations\":[],\"text\":\"",
		   n->id);
	put_words(a, b);
	buf_puts(b, STR("\"}]}"));
}

/* `whole`: with its arguments. */
static void responses_call_item(const struct ask *a, const struct numbers *n, bool whole, struct buf *b)
{
	buf_printf(b, "{\"id\":\"fc_practice%08x\",\"type\":\"function_call\",\"status\":\"%s\",\"call_id\":\"call_practice%08x\",\"name\":\"%s\",\"arguments\":\"",
		   n->id, whole ? "completed" : "in_progress", n->id, a->tool);
	if (whole)
		arguments_piece(a, 0, 1, b);
	buf_puts(b, STR("\"}"));
}

/* The response object: at the start without output and usage. */
static void responses_object(const struct ask *a, const struct numbers *n, bool whole, struct buf *b)
{
	buf_printf(b, "{\"id\":\"resp_practice%08x\",\"object\":\"response\",\"created_at\":1790000000,\"status\":\"%s\",\"error\":null,\"incomplete_details\":null,\"model\":\"%s\",\"output\":[",
		   n->id, whole ? "completed" : "in_progress", a->model);
	if (whole) {
		responses_message_item(a, n, b);
		if (wants_call(a)) {
			buf_puts(b, STR(","));
			responses_call_item(a, n, true, b);
		}
	}
	buf_puts(b, STR("],\"parallel_tool_calls\":true,"));
	if (whole)
		responses_usage(n, b);
	else
		buf_puts(b, STR("\"usage\":null"));
	buf_puts(b, STR("}"));
}

static void responses_json(const struct ask *a, struct answer *out)
{
	struct numbers n = numbers_of(a);

	responses_object(a, &n, true, &out->bytes);
	cut(out);
}

static void event(struct buf *b, const char *type, unsigned *seq)
{
	buf_printf(b, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%u,", type, type, (*seq)++);
}

static void event_end(struct answer *out)
{
	buf_puts(&out->bytes, STR("}\n\n"));
	cut(out);
}

static void responses_text(const struct ask *a, const struct numbers *n, unsigned *seq, struct answer *out)
{
	struct buf *b = &out->bytes;

	event(b, "response.output_item.added", seq);
	buf_printf(b, "\"output_index\":0,\"item\":{\"id\":\"msg_practice%08x\",\"type\":\"message\",\"status\":\"in_progress\",\"role\":\"assistant\",\"content\":[]}",
		   n->id);
	event_end(out);
	event(b, "response.content_part.added", seq);
	buf_printf(b, "\"item_id\":\"msg_practice%08x\",\"output_index\":0,\"content_index\":0,\"part\":{\"type\":\"output_text\",\"annotations\":[],\"text\":\"\"}",
		   n->id);
	event_end(out);
	for (unsigned i = 0; i < WORDS; i++) {
		event(b, "response.output_text.delta", seq);
		buf_printf(b, "\"item_id\":\"msg_practice%08x\",\"output_index\":0,\"content_index\":0,\"delta\":\"%s\"",
			   n->id, word(a, i));
		event_end(out);
	}
	event(b, "response.output_text.done", seq);
	buf_printf(b, "\"item_id\":\"msg_practice%08x\",\"output_index\":0,\"content_index\":0,\"text\":\"", n->id);
	put_words(a, b);
	buf_puts(b, STR("\""));
	event_end(out);
	event(b, "response.output_item.done", seq);
	buf_puts(b, STR("\"output_index\":0,\"item\":"));
	responses_message_item(a, n, b);
	event_end(out);
}

static void responses_call(const struct ask *a, const struct numbers *n, unsigned *seq, struct answer *out)
{
	struct buf *b = &out->bytes;

	event(b, "response.output_item.added", seq);
	buf_puts(b, STR("\"output_index\":1,\"item\":"));
	responses_call_item(a, n, false, b);
	event_end(out);
	for (unsigned i = 0; i < 3; i++) {
		event(b, "response.function_call_arguments.delta", seq);
		buf_printf(b, "\"item_id\":\"fc_practice%08x\",\"output_index\":1,\"delta\":\"", n->id);
		arguments_piece(a, i, 3, b);
		buf_puts(b, STR("\""));
		event_end(out);
	}
	event(b, "response.function_call_arguments.done", seq);
	buf_printf(b, "\"item_id\":\"fc_practice%08x\",\"output_index\":1,\"arguments\":\"", n->id);
	arguments_piece(a, 0, 1, b);
	buf_puts(b, STR("\""));
	event_end(out);
	event(b, "response.output_item.done", seq);
	buf_puts(b, STR("\"output_index\":1,\"item\":"));
	responses_call_item(a, n, true, b);
	event_end(out);
}

static void responses_sse(const struct ask *a, struct answer *out)
{
	struct numbers n = numbers_of(a);
	struct buf *b = &out->bytes;
	unsigned seq = 0;

	event(b, "response.created", &seq);
	buf_puts(b, STR("\"response\":"));
	responses_object(a, &n, false, b);
	event_end(out);
	responses_text(a, &n, &seq, out);
	if (wants_call(a))
		responses_call(a, &n, &seq, out);
	event(b, "response.completed", &seq);
	buf_puts(b, STR("\"response\":"));
	responses_object(a, &n, true, b);
	event_end(out);
}

/* ------------------------------------------------------------------ Gemini */

static void gemini_open(const struct ask *a, unsigned i, struct buf *b)
{
	if (a->stream && a->sse)
		buf_puts(b, STR("data: "));
	else if (a->stream)
		buf_puts(b, i ? STR(",\r\n") : STR("["));
	buf_puts(b, STR("{\"candidates\":[{\"content\":{\"parts\":["));
}

static void gemini_close(const struct ask *a, const struct numbers *n, bool last, struct answer *out)
{
	struct buf *b = &out->bytes;
	unsigned in = n->input + n->cache_read, visible = n->output - n->reasoning;

	buf_printf(b, "],\"role\":\"model\"},%s\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":%u,\"candidatesTokenCount\":%u,\"totalTokenCount\":%u,\"cachedContentTokenCount\":%u,\"thoughtsTokenCount\":%u},\"modelVersion\":\"%s\",\"responseId\":\"practice%08x\"}",
		   last ? "\"finishReason\":\"STOP\"," : "", in, last ? visible : 3,
		   in + n->reasoning + (last ? visible : 3), n->cache_read, n->reasoning, a->model, n->id);
	if (a->stream && a->sse)
		buf_puts(b, STR("\r\n\r\n"));
	else if (a->stream && last)
		buf_puts(b, STR("]"));
	cut(out);
}

static void gemini_call(const struct ask *a, struct buf *b)
{
	buf_printf(b, "{\"functionCall\":{\"name\":\"%s\",\"args\":", a->tool);
	arguments(a, b);
	buf_puts(b, STR("}}"));
}

static void gemini_json(const struct ask *a, struct answer *out)
{
	struct numbers n = numbers_of(a);
	struct buf *b = &out->bytes;

	gemini_open(a, 0, b);
	buf_puts(b, STR("{\"text\":\""));
	put_words(a, b);
	buf_puts(b, STR("\"}"));
	if (wants_call(a)) {
		buf_puts(b, STR(","));
		gemini_call(a, b);
	}
	gemini_close(a, &n, true, out);
}

static void gemini_stream(const struct ask *a, struct answer *out)
{
	struct numbers n = numbers_of(a);
	struct buf *b = &out->bytes;

	for (unsigned i = 0; i < WORDS; i++) {
		gemini_open(a, i, b);
		buf_printf(b, "{\"text\":\"%s\"}", word(a, i));
		gemini_close(a, &n, i == WORDS - 1 && !wants_call(a), out);
	}
	if (wants_call(a)) {
		gemini_open(a, WORDS, b);
		gemini_call(a, b);
		gemini_close(a, &n, true, out);
	}
}

/* ------------------------------------------------------------------ any */

static void answer_write(const struct ask *a, struct answer *out)
{
	static void (*const json[FAMILY_MAX])(const struct ask *, struct answer *) = { anthropic_json, chat_json,
										       responses_json, gemini_json };
	static void (*const stream[FAMILY_MAX])(const struct ask *, struct answer *) = { anthropic_sse, chat_sse,
											 responses_sse, gemini_stream };

	buf_init(&out->bytes, 1 << 20);
	out->n_cuts = 0;
	out->content_type = a->sse ? "text/event-stream; charset=utf-8" : "application/json; charset=utf-8";
	(a->stream ? stream : json)[a->family](a, out);
}

/* An error in the format of the family. */
static void answer_error(enum family family, int status, const char *message, struct buf *b)
{
	switch (family) {
	case FAMILY_ANTHROPIC:
		buf_printf(b, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":\"%s\"}}",
			   status == 401 ? "authentication_error" : status == 429 ? "rate_limit_error" : status == 529 ? "overloaded_error" : "api_error",
			   message);
		break;
	case FAMILY_GEMINI:
		buf_printf(b, "{\"error\":{\"code\":%d,\"message\":\"%s\",\"status\":\"%s\"}}", status, message,
			   status == 401 ? "UNAUTHENTICATED" : status == 429 ? "RESOURCE_EXHAUSTED" : "INTERNAL");
		break;
	default:
		buf_printf(b, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":%s}}", message,
			   status == 401 ? "invalid_request_error" : "server_error", status == 401 ? "\"invalid_api_key\"" : "null");
		break;
	}
}
