/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: one public function for each command, found by the table in main.c. */
#pragma once

#include <stdbool.h>

/* Exit codes, the same for every command (sallyport(1)). */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NO_DAEMON = 3 };

struct command {
	const char *name;
	const char *arguments; /* after the name, for help */
	const char *summary;   /* one line */
	int (*run)(int argc, char **argv); /* argv[0] is the command's name */
	bool hidden;
};
extern const struct command commands[]; /* ends with a NULL name */
