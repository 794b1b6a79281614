/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tool calls of one answer while they are put together: opened by a block or a first delta,
 * grown by fragments, handed to the caller when they are whole. Bounded in number and in bytes.
 */
#pragma once

#include "gateway/extract.h"
#include "gateway/extract_pick.h"

/* Rationale: the largest recorded answer has 61 calls, nearly all of them told one by one. */
#define OPEN_CALLS_MAX 128
/* Fragments that are not joined to their call yet are in the table too. */
#define OPEN_CALLS_SLOTS (OPEN_CALLS_MAX + 64)
/* All arguments held at once, besides TOOL_ARGS_MAX for each; what is above is cut. */
#define OPEN_CALLS_BYTES (8u << 20)

struct open_call {
	int choice;
	int64_t index;	/* of the wire; -1: none */
	uint64_t order; /* among the calls of its choice: by index or by appearance */
	char id[CALL_ID_BYTES], name[TOOL_NAME_BYTES], server[TOOL_NAME_BYTES];
	char caller[TOOL_NAME_BYTES], namespace_[TOOL_NAME_BYTES];
	struct buf args;
	enum tool_kind kind;
	bool has_id; /* the wire gives an id, maybe an empty one */
	bool args_null, custom, text_on_wire, pending_approval, failed, inferred;
	bool whole;	/* nothing of it is missing, as far as the wire tells */
	bool cut;	/* a bound was hit */
	bool executed;	/* Groq: an entry of executed_tools */
	bool legacy;	/* the old function_call */
	bool undecided; /* Responses shell_call: server or function is known at the end only */
};

struct call_table {
	struct open_call *calls[OPEN_CALLS_SLOTS];
	unsigned n, n_dropped;
	size_t bytes;
	tool_call_fn fn;
	void *arg;
	unsigned n_emitted;
};

/* Forgets all calls without telling anybody. */
void calls_clear(struct call_table *t);
/* A new call at the end, or NULL: too many, or no memory (counted). Owned by the table. */
struct open_call *calls_open(struct call_table *t);
void calls_append(struct call_table *t, struct open_call *call, struct str fragment);
void calls_set_args(struct call_table *t, struct open_call *call, struct str args);
/* Hands calls[i] to the caller and removes it. */
void calls_emit(struct call_table *t, unsigned i, bool complete);
void calls_drop(struct call_table *t, unsigned i);
/* Emits all, by choice and then by order; those that are not whole as incomplete. */
void calls_flush(struct call_table *t);
