/* SPDX-License-Identifier: Apache-2.0 */
/* IP addresses and prefixes: text to bytes and back. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/str.h"

struct addr_prefix {
	int family;	  /* AF_INET, AF_INET6 */
	unsigned bits;	  /* of the prefix */
	uint8_t addr[16]; /* network byte order; bits behind the prefix are 0 */
};

/* "192.0.2.7" or "2001:db8::7"; v4 in the first four bytes. False: it is none. */
bool addr_parse(struct str text, int *ret_family, uint8_t ret[16]);
/* "192.0.2.0/24"; without a slash the whole address. False: it is none, or has bits behind the prefix. */
bool addr_prefix_parse(struct str text, struct addr_prefix *ret);

#define ADDR_TEXT_BYTES 48
/* Writes it as text; "?" for another family. Returns `ret`. */
const char *addr_text(int family, const uint8_t addr[16], char ret[ADDR_TEXT_BYTES]);
