/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots: the numbers of workers, of this daemon and of former ones whose workers still finish what runs. Two
 * workers never share one.
 */
#pragma once

#include "agent/agent.h"

/* The lowest free slot from `from` on, with its file of running requests, locked. 0, -ENOSPC, other errno. */
int slot_take(struct agent *a, unsigned from, unsigned *ret_slot, int *ret_live_fd);
/* Makes the journal directory of a worker of this generation, locked. A descriptor or negative errno. */
int slot_journal(struct agent *a, unsigned slot);
/* From now on: hands what dead workers of former daemons left to a worker of this one. */
void slots_recover(struct agent *a);
void slots_fini(struct agent *a);
