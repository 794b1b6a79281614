/* SPDX-License-Identifier: Apache-2.0 */
/* The model and the wish for a stream where a request's path holds them. */
#include "gateway/extract.h"

#include "common/base.h"

static int path_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* False if it is empty, does not fit, or hides a control byte. */
static bool path_decode(struct str in, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < in.n; i++) {
		unsigned char c = (unsigned char)in.s[i];

		if (c == '%' && i + 2 < in.n && path_hex(in.s[i + 1]) >= 0 &&
		    path_hex(in.s[i + 2]) >= 0) {
			c = (unsigned char)((unsigned)path_hex(in.s[i + 1]) << 4 |
					    (unsigned)path_hex(in.s[i + 2]));
			i += 2;
		}
		if (c < 0x20 || c == 0x7f || n + 1 >= size)
			return false;
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return n > 0;
}

/* What follows the last "/name/" in the path, up to the next slash; n 0 if nothing does. */
static struct str path_after(struct str path, struct str name)
{
	struct str found = STR_NULL;
	const char *at, *slash;

	while ((at = str_find(path, name))) {
		path = str_skip(path, (size_t)(at - path.s) + name.n);
		found = path;
	}
	slash = found.n ? memchr(found.s, '/', found.n) : NULL;
	if (slash)
		found.n = (size_t)(slash - found.s);
	return found;
}

bool path_model(struct str path, char *ret_model, size_t size, bool *ret_stream)
{
	char model[MODEL_BYTES];
	struct str name, verb = STR_NULL;
	const char *query = path.n ? memchr(path.s, '?', path.n) : NULL, *colon;

	if (query)
		path.n = (size_t)(query - path.s);
	name = path_after(path, STR("/models/"));
	if (!name.n)
		name = path_after(path, STR("/tunedModels/"));
	colon = name.n ? memrchr(name.s, ':', name.n) : NULL;
	if (colon) {
		verb = (struct str){ colon + 1, (size_t)(name.s + name.n - colon - 1) };
		name.n = (size_t)(colon - name.s);
	} else {
		/* Without a verb these are lists and descriptions of models, not calls. */
		name = path_after(path, STR("/deployments/"));
	}
	if (!path_decode(name, model, MIN(sizeof(model), size)))
		return false;
	str_copy(ret_model, size, str_of(model));
	*ret_stream = str_starts(verb, STR("stream"));
	return true;
}
