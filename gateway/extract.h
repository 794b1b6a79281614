/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gateway learns from a request and from its answer, whatever the format. Both taps read
 * bytes as they pass, cut anywhere, keep bounded memory, never fail loudly and never change a byte:
 * what they cannot read is missing from the facts. The corpus (`make corpus`) defines the meaning.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"
#include "common/wire.h"

/* Rationale: model ids seen so far stay below 100 bytes; what is longer is cut and flagged. */
#define MODEL_BYTES	 128
#define CALL_ID_BYTES	 128
#define TOOL_NAME_BYTES	 128
#define STOP_BYTES	 48
#define ERROR_TYPE_BYTES 64
#define ERROR_MSG_BYTES	 256
#define SESSION_BYTES	 96
/* Tool results of one turn that are remembered; parallel calls stay far below. */
#define TOOL_RESULTS_MAX 64
/* All argument bytes kept for one call; what is longer is cut and the call marked incomplete. */
#define TOOL_ARGS_MAX (1024 * 1024)

/* ------------------------------------------------------------------ requests */

struct tool_result {
	char call_id[CALL_ID_BYTES]; /* "" where the format has none */
	char name[TOOL_NAME_BYTES];  /* of the tool, where the format tells it (Gemini) */
	uint64_t bytes;		     /* size of the result as it stood on the wire */
	bool is_error;
};

struct req_facts {
	char model[MODEL_BYTES]; /* from the body, "" if it names none */
	bool stream;		 /* the body asks for a stream (Gemini: the path tells, not this) */
	bool usage_asked;	 /* chat: stream_options.include_usage is true */
	bool not_json;		 /* the body is no JSON object */
	bool model_repeated;	 /* "model" stands there twice: parsers disagree on which counts */
	bool model_cut;		 /* it is longer than MODEL_BYTES */
	int64_t max_output;	 /* requested bound on output tokens of one answer; -1: none */
	int64_t answers;	 /* how many may be made: choices times prompts; at least 1 */
	uint64_t token_ids;	 /* numbers where a prompt may be given as those */
	uint64_t body_bytes;	 /* as fed, decoded */
	uint64_t blob_bytes;	 /* inside strings of base64 letters alone: images, files */
	uint64_t text_bytes;	 /* inside JSON strings that are no base64 blob: for an estimate */
	uint64_t fingerprint; /* of the conversation's start: system and first user text; 0: none */
	/* From the body (metadata.user_id, prompt_cache_key …), or "". */
	char session[SESSION_BYTES];

	/* Results of tools in the last turn only: what came after the last answer of the model. */
	struct tool_result results[TOOL_RESULTS_MAX];
	unsigned n_results, n_results_dropped;

	/*
	 * Chat streams that did not ask for usage: where to put what so that they do. Applying it
	 * is body[0, at) + insert + body[at + skip, end); insert is "" when nothing is to be done.
	 */
	struct {
		uint64_t at, skip;
		char insert[64];
	} usage_edit;
	/*
	 * Where the value of the top-level "model" stands (offset of its first byte inside the
	 * quotes, and its length), for requests that say "provider/model": 0, 0 if absent.
	 */
	uint64_t model_at, model_len;
};

struct req_tap;
/* One tap serves one request after another; NULL without memory. The caller frees. */
struct req_tap *req_tap_new(void);
void req_tap_free(struct req_tap *tap);
void req_tap_start(struct req_tap *tap, enum wire_format format);
void req_tap_feed(struct req_tap *tap, const void *data, size_t n);
/* Valid until the next start or free. */
const struct req_facts *req_tap_end(struct req_tap *tap);

/*
 * The model and the wish for a stream as a request's path has them: Gemini and Vertex
 * (".../models/M:streamGenerateContent", also rawPredict of Anthropic there) and Azure's
 * deployments. Percent-decoded, without a query. False if the path names no model; the outputs are
 * untouched then.
 */
bool path_model(struct str path, char *ret_model, size_t size, bool *ret_stream);

/* ------------------------------------------------------------------ answers */

/* Token counts; -1: not reported. Disjoint: the prompt is input + cache_read + cache_write. */
struct usage {
	int64_t input, cache_read, cache_write, output;
	int64_t reasoning;	/* a part of output */
	int64_t cache_write_1h; /* the part of cache_write with the long lifetime */
	int64_t web_searches;	/* server tool requests that are billed by number */
};
#define USAGE_NONE ((struct usage){ -1, -1, -1, -1, -1, -1, -1 })

enum tool_kind { TOOL_FUNCTION, TOOL_SERVER, TOOL_MCP, TOOL_KIND_MAX };
const char *tool_kind_name(enum tool_kind kind);

struct tool_call {
	struct str id;	 /* n 0: the format has none */
	struct str name; /* never empty */
	enum tool_kind kind;
	struct str server;    /* MCP server label, or n 0 */
	struct str arguments; /* JSON text, or free text of a custom tool; n 0 stands for {} */
	bool arguments_null;  /* the wire says null / the format has no arguments for it */
	bool custom;	      /* free text, not JSON */
	bool complete;	      /* false: the answer stopped in it, or it was cut at the bound */
	int choice;	      /* index of the choice or candidate */
	/* For the corpus only; set where they apply. */
	bool pending_approval, failed, inferred;
	struct str caller, namespace_;
	bool text_on_wire; /* `arguments` is the exact string of the wire, not an object of it */
};

struct resp_facts {
	char model[MODEL_BYTES]; /* as the answer says, "" if it does not */
	struct usage usage;
	char stop_reason[STOP_BYTES];
	bool streamed; /* it really is a stream */
	bool complete; /* its end marker was seen (or it is whole JSON) */
	bool has_error;
	char error_type[ERROR_TYPE_BYTES]; /* "" if it gives none: then the code tells */
	char error_code[ERROR_TYPE_BYTES];
	char error_message[ERROR_MSG_BYTES];
	unsigned n_calls, n_calls_dropped; /* handed to the caller; too many at once */
	/* Anthropic usage.iterations: what is billed is their sum; n 0: absent. */
	struct usage billed_extra; /* what the iterations add to the top level, all -1 if nothing */
	bool has_iterations;
};

/* `call` and what it points to is valid during the call only. */
typedef void (*tool_call_fn)(void *arg, const struct tool_call *call);

struct resp_tap;
struct resp_tap *resp_tap_new(void);
void resp_tap_free(struct resp_tap *tap);
/* `content_type` may be empty; the tap looks at the first bytes when it is missing or wrong. */
void resp_tap_start(struct resp_tap *tap, enum wire_format format, int http_status,
		    struct str content_type, tool_call_fn on_call, void *arg);
/*
 * Reads decoded bytes. Returns true, once, when these bytes hold the answer's end as a client sees
 * it (message_stop, [DONE], response.completed, the closing brace, an error event …): the caller
 * records the request before it forwards them; every call has been told by then. Streams without an
 * end marker (Gemini, some imitators of chat) end only by resp_tap_end(). Feeding on after the end
 * is allowed.
 */
bool resp_tap_feed(struct resp_tap *tap, const void *data, size_t n);
/* The facts so far: valid until the next start or free, also in the middle of a stream. */
const struct resp_facts *resp_tap_facts(struct resp_tap *tap);
/* The answer has ended or broken off; open calls are reported with complete = false. */
const struct resp_facts *resp_tap_end(struct resp_tap *tap);
