/* SPDX-License-Identifier: Apache-2.0 */
/* Users, directories and files of the daemon: run_dir, state_dir and what lies in them. */
#pragma once

#include "agent/agent.h"

/* Names of the configuration to numbers. Dies with a sentence. */
void files_users(struct agent *a);
/* Makes what is missing, sets owners and modes, opens it, takes the lock. Dies with a sentence. */
void files_open(struct agent *a);
void files_close(struct agent *a);
/* One daemon for each of its directories: locks it for as long as the descriptor is open. Dies with a sentence. */
void files_lock_dir(int fd, const char *key, const char *path);
