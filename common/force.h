/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause OR Apache-2.0 */
/* What is done about connections past the gateway; shared with the programs in the kernel. */
#pragma once

/* From the least to the most: the strictest of an identity's tags counts. */
enum force_mode {
	FORCE_OFF,     /* only the explicit door */
	FORCE_OBSERVE, /* nothing is changed, everything is told */
	FORCE_ASSIST,  /* provider names and addresses lead to the door */
	FORCE_STRICT,  /* all of TCP 443 and 80 does; what cannot be led is refused */
	FORCE_MODE_MAX
};

/* "off", "observe", "assist", "strict"; "?" for another number. Not for BPF. */
const char *force_mode_name(unsigned mode);
