/* SPDX-License-Identifier: Apache-2.0 */
/* The providers' names that the agent told of, by the number that stamps carry. */
#pragma once

#include <stdbool.h>

#include "common/msg.h"

/* Rationale: virtual addresses of the default pool. */
#define HOSTS_MAX 65536

struct hosts {
	struct host_row {
		uint32_t id;
		char *name;
	} *rows; /* by rising id */
	unsigned n, cap;
};

/* Adds or replaces; -ENOMEM, -ENOSPC, -EINVAL for a name that does not end. */
int hosts_set(struct hosts *t, const struct msg_name *msg);
/* Valid until the next change; "": unknown. */
const char *hosts_get(const struct hosts *t, uint32_t id);
void hosts_fini(struct hosts *t);
