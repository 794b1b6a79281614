/* SPDX-License-Identifier: Apache-2.0 */
/* Request targets: whatever comes, the provider's path begins with a slash, holds no key, and is bounded. */
#include <stdlib.h>
#include <string.h>

#include <stdint.h>

#include "gateway/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *query;
	struct route r;

	if (!n || data[0] != '/')
		return 0;
	if (!route_parse(STR("POST"), (struct str){ (const char *)data, n }, false, &r))
		return 0;
	if (r.kind == ROUTE_MODEL && (r.target[0] != '/' || strlen(r.target) >= sizeof(r.target)))
		abort();
	query = strchr(r.target, '?');
	if (query && (!strncmp(query, "?key=", 5) || strstr(query, "&key=")))
		abort();
	if (r.kind == ROUTE_MODEL && r.model[0] && !route_set_model(&r, STR("m")))
		return 0;
	return 0;
}
