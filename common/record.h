/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What travels through the journal to the ledger. A record is a fixed part and a run of strings whose
 * lengths stand in the fixed part; fixed-width, so that a newer ledger can read an older worker's journal.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

enum record_type { REC_REQUEST = 1, REC_TOOL_CALL, REC_TOOL_RESULT, REC_EVENT, REC_TYPE_MAX };

enum rec_request_string {
	RQ_CGROUP,
	RQ_TAGS, /* "tag:a,tag:b" */
	RQ_CONTAINER,
	RQ_PROVIDER,
	RQ_MODEL, /* as asked */
	RQ_ANSWER_MODEL,
	RQ_CLIENT,
	RQ_SESSION,
	RQ_METHOD,
	RQ_PATH, /* without the query */
	RQ_STOP,
	RQ_ERROR, /* the provider's error type, or our sentence */
	RQ_RULE,  /* the rule that decided */
	RQ_COMM,  /* of the process that connected */
	RQ_STRINGS
};

enum rec_request_flag {
	RQF_STREAMED = 1,
	RQF_PARTIAL = 2,   /* the answer is not whole: the usage is what was seen */
	RQF_ESTIMATED = 4, /* no usage from the provider: cost is our estimate */
	RQF_UNPRICED = 8,
	RQF_UPDATE = 16, /* replaces the record of the same id that was written at the end marker */
	RQF_FORCED = 32, /* its client asked for the provider itself and was led to the door */
};

struct rec_request {
	uint64_t id; /* unique; 0 is none */
	uint64_t started_ns; /* wall clock */
	uint64_t duration_us, first_byte_us; /* from the request's head; 0: never */
	uint64_t cgroup_id;
	uint32_t label_id, label_gen;
	uint32_t pid, uid;
	uint32_t count; /* of equal denials in a row, else 1 */
	uint16_t http_status, upstream_status;
	uint8_t format, outcome, worker, flags;
	uint32_t n_tool_calls;
	/* struct usage of the extraction: -1 is not reported */
	int64_t input, cache_read, cache_write, cache_write_1h, output, reasoning, web_searches;
	int64_t cost_nanousd; /* 0 when RQF_UNPRICED */
	uint64_t request_bytes, answer_bytes;
	uint16_t len[RQ_STRINGS];
};

enum rec_tool_string { TC_CALL_ID, TC_NAME, TC_SERVER, TC_SUMMARY, TC_ARGUMENTS, TC_STRINGS };
struct rec_tool_call {
	uint64_t request_id;
	uint64_t at_ns;
	uint64_t cgroup_id;
	uint32_t index;  /* in the answer, from 0 */
	uint8_t kind;    /* enum tool_kind */
	uint8_t meaning; /* enum tool_meaning */
	uint8_t complete, pad;
	uint32_t arguments_bytes; /* before they were cut */
	uint16_t len[TC_STRINGS];
};

enum rec_result_string {
	TR_CALL_ID, /* "" where the format has none */
	TR_NAME,    /* of the tool, where the format tells it with the result (Gemini) */
	TR_STRINGS
};
struct rec_tool_result {
	uint64_t request_id; /* the request that brought the result */
	uint64_t at_ns;
	uint64_t cgroup_id;
	uint64_t bytes;
	uint8_t is_error, pad[3];
	uint16_t len[TR_STRINGS];
};

enum rec_event_string { EV_KIND, EV_TEXT, EV_CGROUP, EV_TAGS, EV_COMM, EV_STRINGS };
struct rec_event {
	uint64_t at_ns;
	uint64_t cgroup_id;
	uint32_t pid, uid;
	uint32_t count;
	uint16_t level; /* enum log_level */
	uint16_t len[EV_STRINGS];
};

#define REC_STRINGS_MAX 16384
/* Strings of one record are cut at these lengths by record_pack(). */
#define REC_STRING_MAX 4096

/*
 * Packs the fixed part and its strings: fills len[] (at `lens`), writes the strings behind each other to
 * `out` and returns how many bytes that took. What does not fit is cut.
 */
size_t record_pack(uint16_t *lens, const struct str *strings, unsigned n, char *out, size_t size);
/* Finds the strings again; false when the lengths do not fit into `size`. */
bool record_unpack(const uint16_t *lens, unsigned n, const char *data, size_t size, struct str *ret);
