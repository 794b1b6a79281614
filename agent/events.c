/* SPDX-License-Identifier: Apache-2.0 */
/* What happened, for the log and, through the agent's own journal, for the ledger. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/uio.h>

#include "agent/sandbox.h"
#include "common/journal.h"
#include "common/log.h"
#include "common/record.h"

static void event_record(struct agent *a, const struct agent_incident *what, const char *text)
{
	const struct sandbox *sb = what->sb;
	struct rec_event rec = { .at_ns = a->loop.wall_ns,
				 .pid = what->pid,
				 .uid = what->uid,
				 .count = what->count,
				 .level = (uint16_t)what->level };
	struct str strings[EV_STRINGS] = { [EV_KIND] = str_of(what->kind),
					   [EV_TEXT] = str_of(text),
					   [EV_COMM] = str_of(what->comm) };
	char packed[REC_STRINGS_MAX];
	struct iovec iov[2] = { { &rec, sizeof(rec) }, { packed, 0 } };
	uint64_t one = 1;

	if (sb) {
		rec.cgroup_id = sb->info.cgroup_id;
		strings[EV_CGROUP] = str_of(sb->info.path);
		strings[EV_TAGS] = str_of(sb->info.tags);
	}
	iov[1].iov_len = record_pack(rec.len, strings, EV_STRINGS, packed, sizeof(packed));
	if (!a->journal || journal_append(a->journal, REC_EVENT, iov, 2))
		a->events_lost++;
	else if (write(a->journal_bell, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_debug("cannot ring the ledger error=%s", errno_text(errno));
}

static void incident_tell(struct agent *a, const struct agent_incident *what, const char *fmt, va_list ap)
{
	char text[MSG_TEXT_BYTES];

	vsnprintf(text, sizeof(text), fmt, ap);
	if (what->sb)
		log_write((enum log_level)what->level, "%s cgroup=%s tags=%s", text,
			  log_quote(str_of(what->sb->info.path)), what->sb->info.tags);
	else
		log_write((enum log_level)what->level, "%s", text);
	event_record(a, what, text);
}

void agent_event(struct agent *a, int level, const char *kind, const struct sandbox *sb,
		 const char *fmt, ...)
{
	const struct agent_incident what = { .level = level, .kind = kind, .comm = "", .sb = sb, .count = 1 };
	va_list ap;

	va_start(ap, fmt);
	incident_tell(a, &what, fmt, ap);
	va_end(ap);
}

void agent_incident(struct agent *a, const struct agent_incident *what, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	incident_tell(a, what, fmt, ap);
	va_end(ap);
}
