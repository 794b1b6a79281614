/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The unprivileged processes: gateway workers, the ledger and the DNS role. The agent starts them, tells them
 * everything, starts them again when they die, and tells them everything again.
 */
#pragma once

#include "agent/agent.h"

struct door;
struct sandbox;

/* Makes the channels' static parts (doorbells) and starts every role. */
int roles_start(struct agent *a);
/* Workers finish what runs, then the ledger; ends the loop when all are gone. */
void roles_stop(struct agent *a);
/* Ends what is left at once and frees everything. */
void roles_fini(struct agent *a);
unsigned roles_ready(const struct agent *a);
pid_t roles_ledger_pid(const struct agent *a);

/* To every worker that runs; one that does not take it is killed and starts afresh. */
void roles_send_label(struct agent *a, const struct sandbox *sb);
void roles_send_unlabel(struct agent *a, const struct sandbox *sb);
void roles_send_door(struct agent *a, const struct door *d);
void roles_send_door_close(struct agent *a, const struct door *d);
/* The live slots of a dead worker, for any that is ready. */
void roles_send_left(struct agent *a, int live_fd);
/* True for the slots of this daemon's workers. */
bool roles_has_slot(const struct agent *a, unsigned slot);
/* The CA for sandboxes. */
void roles_send_ca(struct agent *a);
/* The rules in force, with their keys. */
void roles_send_rules(struct agent *a);
/* A provider's name, to the workers and to the DNS role. */
void roles_send_name(struct agent *a, const struct msg_name *name);
/* To the DNS role alone. */
/* To the DNS role: nobody who waits for this name gets an address. */
void roles_refuse_name(struct agent *a, const char *name);
void roles_send_dns_pattern(struct agent *a, const struct msg_name *pattern);
void roles_send_dns_door(struct agent *a, const struct door *d);
void roles_send_dns_door_close(struct agent *a, const struct door *d);
