/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs in the kernel tell, for the log and the ledger: the first of its kind at once, equal ones within
 * ten seconds as one more event with their number.
 */
#pragma once

#include "agent/agent.h"
#include "bpf/gate_abi.h"

int incidents_init(struct agent *a);
/* Tells what is still counted. */
void incidents_fini(struct agent *a);
void incident_note(struct agent *a, const struct gate_event *e);
/* The sandbox ends: what is still counted of it is told while its name is known. */
void incidents_end(struct agent *a, uint64_t cgroup_id);
