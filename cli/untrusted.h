/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that did not accept this host's CA of late. */
#pragma once

#include "cli/client.h"

struct untrusted {
	int64_t count;	/* connections in the last hour; 0: `text` is empty */
	char text[768]; /* a sentence: how many, the newest one's sandbox, the cure */
};
/* Asks the ledger for the events. 0 or negative errno, as ledger_ask_at(). */
int untrusted_ask(const char *run_dir, int timeout_ms, struct untrusted *ret);
/* The same from the ledger's answer. */
void untrusted_tell(const struct answer *a, struct untrusted *ret);
