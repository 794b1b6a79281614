/* SPDX-License-Identifier: Apache-2.0 */
/* The proof at start that connections are stamped here: versions of kernels promise nothing. */
#pragma once

#include "agent/agent.h"

/* An id that no sandbox ever has: what it did is no event. */
#define SELFTEST_LABEL UINT32_MAX

/*
 * In a cgroup and network namespace of its own: opens a door, connects to it in each way and mode, reads the stamps.
 * Writes "ok" or a sentence to a->stamp_state; each step goes to force_test_result(), and a failed one switches the
 * forced path off. 0, or negative errno when not even the explicit door works.
 */
int selftest_run(struct agent *a);
