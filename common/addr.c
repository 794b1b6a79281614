/* SPDX-License-Identifier: Apache-2.0 */
#include "common/addr.h"

#include <arpa/inet.h>
#include <string.h>

#include "common/base.h"

bool addr_parse(struct str text, int *ret_family, uint8_t ret[16])
{
	char word[INET6_ADDRSTRLEN];
	uint8_t addr[16] = { 0 };
	int family;

	if (!text.n || !str_copy(word, sizeof(word), text))
		return false;
	family = memchr(word, ':', text.n) ? AF_INET6 : AF_INET;
	if (inet_pton(family, word, addr) != 1)
		return false;
	*ret_family = family;
	memcpy(ret, addr, sizeof(addr));
	return true;
}

static bool bits_parse(struct str text, unsigned max, unsigned *ret)
{
	unsigned n = 0;

	if (!text.n || text.n > 3)
		return false;
	for (size_t i = 0; i < text.n; i++) {
		if (text.s[i] < '0' || text.s[i] > '9')
			return false;
		n = n * 10 + (unsigned)(text.s[i] - '0');
	}
	*ret = n;
	return n <= max;
}

static bool host_bits_clear(const struct addr_prefix *p)
{
	for (unsigned bit = p->bits; bit < 128; bit++)
		if (p->addr[bit / 8] & (0x80 >> bit % 8))
			return false;
	return true;
}

bool addr_prefix_parse(struct str text, struct addr_prefix *ret)
{
	const char *slash = text.n ? memchr(text.s, '/', text.n) : NULL;
	struct str addr = { text.s, slash ? (size_t)(slash - text.s) : text.n };
	struct addr_prefix p;
	unsigned max;

	if (!addr_parse(addr, &p.family, p.addr))
		return false;
	max = p.family == AF_INET ? 32 : 128;
	p.bits = max;
	if (slash && !bits_parse(str_skip(text, addr.n + 1), max, &p.bits))
		return false;
	if (!host_bits_clear(&p))
		return false;
	*ret = p;
	return true;
}

const char *addr_text(int family, const uint8_t addr[16], char ret[ADDR_TEXT_BYTES])
{
	if ((family != AF_INET && family != AF_INET6) || !inet_ntop(family, addr, ret, ADDR_TEXT_BYTES))
		str_copy(ret, ADDR_TEXT_BYTES, STR("?"));
	return ret;
}
