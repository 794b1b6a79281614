/* SPDX-License-Identifier: Apache-2.0 */
/* The roles of the one binary: `sallyport daemon` starts `sallyport role NAME` with its channel as fd 3. */
#pragma once

#include <stdbool.h>

#define ROLE_CHANNEL_FD 3

/* sallyport daemon; with `clean`, everything is taken off at the end. */
int agent_main(const char *config_path, bool clean);
int gateway_main(int argc, char **argv); /* sallyport role gateway N, channel on fd 3 */
int ledger_main(int argc, char **argv);  /* sallyport role ledger, channel on fd 3 */
int dns_main(int argc, char **argv);     /* sallyport role dns, channel on fd 3 */
int ca_main(int argc, char **argv);      /* sallyport role ca, channel on fd 3 */
