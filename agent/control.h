/* SPDX-License-Identifier: Apache-2.0 */
/* The socket of the command line: RUN_DIR/control.sock, root only, one table of permitted requests.
 */
#pragma once

#include "agent/agent.h"

struct control_conn;

int control_init(struct agent *a);
void control_fini(struct agent *a);
/* The sandbox of a `run` is gone; its connection may live on. */
void control_run_ended(struct control_conn *conn);
