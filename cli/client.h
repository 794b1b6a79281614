/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's two sockets: control.sock (fixed messages, common/msg.h) and ledger.sock (lines of
 * JSON). Functions that return an exit code have said on stderr what was wrong and what to do.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"
#include "common/ipc.h"
#include "common/msg.h"
#include "common/str.h"
#include "policy/config.h"

/*
 * The configuration of --config, or the default one, which may be missing: every key has a default.
 * EXIT_OK or an exit code; the caller frees it with config_free().
 */
int client_config(const struct cli_common *o, struct config **ret);
/* Where it is read from. */
const char *client_config_path(const struct cli_common *o);
/* The bytes of a file of at most `max` bytes, NUL-terminated, or negative errno; the caller frees
 * them. */
int client_read_file(const char *path, size_t max, char **ret, size_t *ret_n);

/* ---------------------------------------------------------------- control */

struct control {
	int fd;
	struct ipc_message message; /* the last one received */
};
/* Zeroed or opened ones alike. */
void control_close(struct control *c);
/* EXIT_OK, or an exit code: no daemon, or not allowed. */
int control_open(const struct cli_common *o, struct control *ret);
/* The same without a word: 0 or negative errno. For doctor and env. */
int control_open_at(const char *run_dir, struct control *ret);

/* Sends a request and waits for the first answer, which is in c->message. 0 or negative errno. */
int control_ask(struct control *c, uint16_t type, const void *payload, size_t len);
/* The next message. 0 or negative errno. */
int control_next(struct control *c);
/* The sentence for an errno of these two; returns EXIT_FAILED. */
int control_failed(int err);
/* The payload of an answer of this type and size, or NULL. */
const void *control_payload(const struct control *c, uint16_t type, size_t len);

/* LABEL, UNLABEL, RELOAD, RUN: EXIT_OK with *ret_result inside c->message, or an exit code. */
int control_result(struct control *c, uint16_t type, const struct msg_target *target,
		   const struct msg_result **ret);
/* LIST, KEYS: `fn` for each row. EXIT_OK or an exit code. */
int control_list(struct control *c, uint16_t type, uint16_t row_type, size_t row_len,
		 void (*fn)(void *arg, const void *row), void *arg);

/* ---------------------------------------------------------------- ledger */

#define ANSWER_COLUMNS_MAX 48
/* Rationale: the ledger's own bound on an answer. */
#define ANSWER_BYTES_MAX (64u << 20)

struct answer_cell {
	enum { ANSWER_NULL, ANSWER_INT, ANSWER_TEXT } kind;
	int64_t n;
	struct str s;
};
/* Rows of the ledger's answer. Whole numbers are exact, all 64 bits. */
struct answer {
	char *text; /* owned; the strings point into it */
	struct str columns[ANSWER_COLUMNS_MAX];
	unsigned n_columns;
	struct answer_cell *cells;
	size_t n_rows, cap_rows;
};
void answer_fini(struct answer *a);
/*
 * Takes the text (also on failure) and finds lines {"columns":[…]}, rows […] and {"end":true,…}. 0;
 * -EBADMSG; or -EREMOTEIO, when the ledger says what is wrong (the text is in a->columns[0]).
 */
int answer_parse(char *text, size_t n, struct answer *ret);
/* The number of a column, or -1. */
int answer_column(const struct answer *a, const char *name);
/* Row and column's name; a missing column is a null. */
const struct answer_cell *answer_cell(const struct answer *a, size_t row, const char *name);
int64_t answer_int(const struct answer *a, size_t row, const char *name); /* 0 for null */
struct str answer_text(const struct answer *a, size_t row, const char *name);

/* A question as it is sent; empty and zero members are left out. */
struct question {
	const char *op, *by, *cgroup, *tag, *meaning, *outcome, *model, *provider, *bucket, *kind;
	uint64_t since_ns, until_ns, id;
	int64_t limit, amount;
	bool has_amount;
};
/* EXIT_OK, or an exit code. The caller frees the answer. */
int ledger_ask(const struct cli_common *o, const struct question *q, struct answer *ret);
/* The same without a word: 0 or negative errno (-EREMOTEIO as above). */
int ledger_ask_at(const char *run_dir, const struct question *q, int timeout_ms,
		  struct answer *ret);
