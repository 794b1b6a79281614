/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses that providers have, perhaps among others: what the host's resolvers say of their names, and the
 * `cidrs` of the policy. A connection to one of them is led to the door, where the name it asks for decides.
 */
#pragma once

#include "agent/agent.h"

/* Takes over what the kernel still has from the former daemon, and begins to forget what is old. */
int suspects_init(struct agent *a);
void suspects_fini(struct agent *a);
/* The networks of the policy in force. */
void suspects_apply_policy(struct agent *a);
/* The DNS role found an address. What no provider can have (loopback, multicast, a virtual one) is refused. */
void suspects_learn(struct agent *a, const struct msg_address *found);
unsigned suspects_count(const struct agent *a);
