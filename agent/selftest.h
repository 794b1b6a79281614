/* SPDX-License-Identifier: Apache-2.0 */
/* The proof at start that connections are stamped here: versions of kernels promise nothing. */
#pragma once

#include "agent/agent.h"

/*
 * In a cgroup and network namespace of its own: opens a door, connects over v4, reads the stamp.
 * Writes "ok" or a sentence to a->stamp_state. 0 or negative errno.
 */
int selftest_run(struct agent *a);
