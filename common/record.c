/* SPDX-License-Identifier: Apache-2.0 */
#include "common/record.h"

#include "common/base.h"

size_t record_pack(uint16_t *lens, const struct str *strings, unsigned n, char *out, size_t size)
{
	size_t used = 0;

	for (unsigned i = 0; i < n; i++) {
		size_t fits = MIN((size_t)REC_STRING_MAX, size - used);
		size_t len = MIN(strings[i].n, fits);

		if (len)
			memcpy(out + used, strings[i].s, len);
		lens[i] = (uint16_t)len;
		used += len;
	}
	return used;
}

bool record_unpack(const uint16_t *lens, unsigned n, const char *data, size_t size, struct str *ret)
{
	size_t used = 0;

	for (unsigned i = 0; i < n; i++) {
		if (lens[i] > size - used)
			return false;
		ret[i] = (struct str){ data + used, lens[i] };
		used += lens[i];
	}
	return true;
}
