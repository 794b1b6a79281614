/* SPDX-License-Identifier: Apache-2.0 */
/* What `sallyport doctor` looks at: the host, the files, the daemon. */
#pragma once

#include "cli/client.h"
#include "cli/print.h"

enum finding { FIND_OK, FIND_WARN, FIND_FAIL, FIND_UNKNOWN, FIND_MAX };

struct doctor {
	const struct cli_common *o;
	struct config *config; /* the defaults when the file cannot be used */
	struct table table;
	unsigned count[FIND_MAX];
	bool is_root;
	bool has_daemon; /* then `status` is its answer */
	struct msg_status status;
	bool may_have_daemon; /* there is one, but we may not ask it */
};

/* One row; the text of a failing one ends with its cure. */
void doctor_say(struct doctor *d, enum finding f, const char *what, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

void doctor_host(
	struct doctor *d); /* kernel, cgroups, BPF, namespaces, clock, users, certificates */
void doctor_files(struct doctor *d);  /* configuration (loads it), policy, keys, directories */
struct policy;
void doctor_providers(struct doctor *d, const struct policy *p); /* are asked for a connection */
void doctor_daemon(struct doctor *d); /* is asked, and tried from end to end */
void doctor_doors(struct doctor *d);  /* the ports, with a daemon or without */
