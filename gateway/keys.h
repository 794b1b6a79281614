/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Provider keys. The bytes live in locked memory that is left out of core files, are written upstream and
 * nowhere else, and are zeroed before the memory is returned. There is no printing function.
 */
#pragma once

#include <stdbool.h>

#include "common/buf.h"

/* Rationale: the longest keys seen are service-account tokens of 2 KiB. */
#define KEY_BYTES_MAX 8192

struct secret;
/* Reads a key from the descriptor (file, memfd or pipe), white space at both ends dropped. The descriptor
 * stays the caller's. 0; -ENODATA: empty; -EFBIG; -EINVAL: bytes that no header may hold; other errno. */
int secret_read(int fd, struct secret **ret);
/* Zeroes and frees; accepts NULL. */
void secret_free(struct secret *s);
/* Appends the key to a head that goes upstream. The buffer must be zeroed by its owner afterwards. */
int secret_append(const struct secret *s, struct buf *out);
/* True when the bytes hold the key. */
bool secret_found_in(const struct secret *s, struct str bytes);
