/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CA for sandboxes, as the agent sees it: it starts the role that keeps it (`sallyport role ca`), passes what that
 * answers on to the workers, and lays out RUN_DIR/ca/ for sandboxes. It reads neither the key nor the certificates.
 */
#pragma once

#include "agent/agent.h"

int ca_init(struct agent *a);
void ca_fini(struct agent *a);
/*
 * The policy's domains may have changed, or a new CA is wanted: goes on in the loop. 0; -ENOENT: no provider has
 * domains; other negative errno.
 */
int ca_refresh(struct agent *a, bool rotate);
/* MSG_CA to one channel, if there is a CA. 0 or negative errno. */
int ca_send(struct agent *a, int channel);
