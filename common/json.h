/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded wrapper of cJSON, for small trusted documents: queries, the engine's answers, --json output. */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

/* An object or array that the caller frees with cJSON_Delete(), or NULL (also above 16 MiB). */
cJSON *json_parse(struct str text);
/* Copies a member's string; false (and `ret` untouched) when it is missing, no string, or too long. */
bool json_string(const cJSON *object, const char *name, char *ret, size_t size);
/*
 * A member's number, or a string of digits: doubles are exact to 2^53 only, so larger numbers travel as
 * strings. False (and `ret` untouched) when it is neither.
 */
bool json_int(const cJSON *object, const char *name, int64_t *ret);
