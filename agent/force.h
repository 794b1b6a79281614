/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forced path as a whole: its configuration in the kernel, the break-glass, what the programs tell, and the state
 * for people. Names are in agent/names.h, addresses in agent/suspects.h.
 */
#pragma once

#include "agent/agent.h"

/* Pools and prefixes to the kernel; begins to listen to events. 0 or negative errno. */
int force_init(struct agent *a);
void force_fini(struct agent *a);

/* The operator's break-glass, kept over restarts: off leaves the explicit door only. Logged. 0 or negative errno. */
int force_set(struct agent *a, bool on);
/* The self test failed: off, loudly, until a start finds it well. `why` is borrowed. */
void force_fail(struct agent *a, const char *why);
/* One step of the self test, for `force status` and doctor; `result` "ok" or what is wrong. Both are borrowed. */
void force_test_result(struct agent *a, const char *step, const char *result);

/* The mode of an identity ("tag:a,tag:b") by the policy in force. */
enum force_mode force_mode_of(const struct agent *a, const char *tags);
/* The same as it is in force: off by the break-glass or after a failed self test, whatever the policy says. */
enum force_mode force_mode_in_force(const struct agent *a, enum force_mode mode);
/* After a change of the policy: names, networks, and the modes of all sandboxes, without touching a connection. */
void force_apply_policy(struct agent *a);
/* A guard stands on a watched parent, or does not any more. */
void force_guards(struct agent *a, unsigned n);

/* "assist by default", "off: the self test failed …": one line. */
void force_describe(const struct agent *a, char *ret, size_t size);
void force_status(const struct agent *a, struct msg_force *ret);
