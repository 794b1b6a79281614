/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the extraction share: the two taps, and what a format has to provide. */
#pragma once

#include "gateway/extract.h"
#include "gateway/extract_partial.h"
#include "gateway/extract_pick.h"
#include "gateway/sse.h"
#include "gateway/tool_call.h"

/* ---------------------------------------------------------------- answers */

struct resp_tap;

/* One wire format's answers. `state` is the format's own struct, zeroed at each start. */
struct resp_format {
	size_t state_size;
	const struct pick_path *paths;
	size_t n_paths;
	struct pick_tree *tree;
	pick_mark_fn mark;		      /* its argument is the tap */
	void (*init)(void *state);	      /* once, on zeroed memory */
	void (*reset)(void *state);	      /* for the next answer */
	void (*fini)(void *state);	      /* frees what the state holds */
	void (*finish)(struct resp_tap *tap); /* the answer has ended: what is still held is told */
	/* May be NULL. True for an event, as its sender always writes it, that tells us nothing. */
	bool (*idle)(struct str line);
};

extern const struct resp_format anthropic_resp, chat_resp, responses_resp, gemini_resp;

enum resp_shape { SHAPE_UNKNOWN, SHAPE_JSON, SHAPE_SSE };

struct resp_tap {
	const struct resp_format *format; /* NULL: an answer that is not read */
	void *state;
	struct resp_facts facts;
	struct call_table calls;
	struct pick pick;
	struct sse sse;
	enum resp_shape shape;
	int http_status;
	bool says_sse;	 /* the content type */
	bool ended;	 /* a client has seen the end */
	bool event_open; /* the pick is inside an event's data */
	bool unfinished; /* whole JSON, but of an answer that is not there yet */
	uint8_t head_len;
	char head[8]; /* first bytes of a data line, for [DONE] */
};

/* The answer is over as a client sees it, successfully or not. */
void resp_over(struct resp_tap *tap);
/* Takes the model if none is known yet. */
void resp_model(struct resp_tap *tap, const char *model);
void resp_stop(struct resp_tap *tap, const char *reason);

/* Error members as the four formats and their imitators have them. */
struct error_fields {
	char type[ERROR_TYPE_BYTES], code[ERROR_TYPE_BYTES], status[ERROR_TYPE_BYTES];
	char message[ERROR_MSG_BYTES];
	bool present; /* "error" is an object or a string */
	/* The same at the top of the document. */
	char top_type[ERROR_TYPE_BYTES], top_code[ERROR_TYPE_BYTES];
	char top_message[ERROR_MSG_BYTES], detail[ERROR_MSG_BYTES];
};

void error_fields_reset(struct error_fields *e);

/* Tags of all formats; their own start at TAG_OWN. */
enum { TAG_ERROR = PICK_ROOT + 1, TAG_OWN };

/* Rows for a format's table: `prefix` ends in a dot or is empty. */
#define ERROR_PATHS(type_, field, prefix)                                                          \
	{ prefix "error", PICK_TEXT, PICK_FIELD(type_, field.message), TAG_ERROR },                \
		{ prefix "error.type", PICK_TEXT, PICK_FIELD(type_, field.type), 0 },              \
		{ prefix "error.code", PICK_TEXT, PICK_FIELD(type_, field.code), 0 },              \
		{ prefix "error.status", PICK_TEXT, PICK_FIELD(type_, field.status), 0 },          \
	{                                                                                          \
		prefix "error.message", PICK_TEXT, PICK_FIELD(type_, field.message), 0             \
	}
#define ERROR_TOP_PATHS(type_, field)                                                              \
	{ "type", PICK_TEXT, PICK_FIELD(type_, field.top_type), 0 },                               \
		{ "code", PICK_TEXT, PICK_FIELD(type_, field.top_code), 0 },                       \
		{ "message", PICK_TEXT, PICK_FIELD(type_, field.top_message), 0 },                 \
	{                                                                                          \
		"detail", PICK_TEXT, PICK_FIELD(type_, field.detail), 0                            \
	}

/*
 * At the end of a document: takes its error, if it has one; the first of an answer counts. Members
 * at the top count if `top`, or if the HTTP status says error. True if there was one.
 */
bool resp_error(struct resp_tap *tap, const struct error_fields *e, bool top);

/* ---------------------------------------------------------------- requests */

#define REQ_USER_BYTES 640
/* A tool result while its members are read. */
struct req_result {
	char id[CALL_ID_BYTES];
	uint64_t from, bytes;  /* offset of its content, and its size */
	int8_t is_error;       /* -1: not said */
	struct pick_hash text; /* its first text, which may tell of a failure */
};

enum req_options { OPTIONS_NONE, OPTIONS_NULL, OPTIONS_EMPTY, OPTIONS_OBJECT, OPTIONS_OTHER };

/* What the tables fill, whatever the format. */
struct req_common {
	char model[MODEL_BYTES + 1];
	int8_t stream, include_usage;
	int64_t max_a, max_b; /* bounds on the output under their several names */
	int64_t n, best_of;   /* number of choices */
	uint64_t n_prompts;   /* in an array of them */
	char user[REQ_USER_BYTES], session[REQ_USER_BYTES], cache_key[REQ_USER_BYTES];
	char previous[32]; /* Responses: goes on from a stored answer */
	/* The conversation's start. */
	uint64_t system_hash, user_hash, message_hash;
	bool have_user;
	/* The message or item in hand. */
	char role[32], type[64];
	struct pick_hash text;
	struct req_result result;
	/* stream_options and include_usage: offsets and kind of the last of each. */
	enum req_options options;
	uint64_t options_from, options_to, include_from, include_to;
	bool include_seen;
	uint64_t root_end; /* offset of the closing brace */
	bool is_object;
};

struct req_format {
	const struct pick_path *paths;
	size_t n_paths;
	struct pick_tree *tree;
	pick_mark_fn mark; /* its argument is the tap */
};

extern const struct req_format anthropic_req, chat_req, responses_req, gemini_req;

struct req_tap {
	enum wire_format wire;
	const struct req_format *format; /* NULL: not read */
	struct pick pick;
	struct req_common c;
	struct req_facts facts;
};

/* Tags of all request tables; their own start at REQ_OWN. */
enum {
	REQ_MODEL = PICK_ROOT + 1,
	REQ_SYSTEM, /* text of the system prompt: a string, or one of its parts */
	REQ_TEXT,   /* text of the message in hand, the same */
	REQ_OPTIONS,
	REQ_INCLUDE,
	REQ_OWN,
};

/* Handles PICK_ROOT and the tags above; *ret_known is false for a tag of the format's own. */
bool req_mark(struct req_tap *tap, int tag, enum scan_type type, bool leave, bool *ret_known);
/* A message begins; has ended: whose it is. */
void req_message_begin(struct req_tap *tap);
enum req_author { REQ_USER, REQ_ANSWER, REQ_SYSTEM_MESSAGE, REQ_OTHER };
void req_message_end(struct req_tap *tap, enum req_author author);
/* A tool's result begins; its content begins or ends; it has ended. */
void req_result_begin(struct req_tap *tap);
void req_result_content(struct req_tap *tap, enum scan_type type, bool leave);
void req_result_end(struct req_tap *tap);
