/* SPDX-License-Identifier: Apache-2.0 */
/* Both taps on arbitrary bytes: the same facts for every cut, the same calls, summaries that fit.
 */
#include <assert.h>

#include "common/base.h"
#include "gateway/extract.h"
#include "gateway/tool_meaning.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	uint64_t hash;
	unsigned n;
};

static void mix(struct seen *s, struct str text)
{
	for (size_t i = 0; i < text.n; i++)
		s->hash = (s->hash ^ (unsigned char)text.s[i]) * 0x100000001b3ULL;
}

static void on_call(void *arg, const struct tool_call *call)
{
	struct seen *s = arg;
	char summary[64];

	assert(call->name.n && call->arguments.n <= TOOL_ARGS_MAX);
	tool_meaning(call, summary, sizeof(summary));
	assert(strlen(summary) < sizeof(summary));
	mix(s, str_of(summary));
	mix(s, call->id);
	mix(s, call->name);
	mix(s, call->arguments);
	s->n++;
}

static void answer(struct resp_tap *tap, const uint8_t *data, size_t size, enum wire_format format,
		   size_t piece, struct resp_facts *ret_facts, struct seen *seen)
{
	unsigned ends = 0;

	*seen = (struct seen){ 0 };
	resp_tap_start(tap, format, 200, STR_NULL, on_call, seen);
	for (size_t i = 0; i < size; i += piece)
		ends += resp_tap_feed(tap, data + i, MIN(piece, size - i));
	memcpy(ret_facts, resp_tap_end(tap), sizeof(*ret_facts));
	assert(ends <= 1 && ret_facts->n_calls == seen->n);
}

static void request(struct req_tap *tap, const uint8_t *data, size_t size, enum wire_format format,
		    size_t piece, struct req_facts *ret_facts)
{
	const struct req_facts *f;

	req_tap_start(tap, format);
	for (size_t i = 0; i < size; i += piece)
		req_tap_feed(tap, data + i, MIN(piece, size - i));
	f = req_tap_end(tap);
	assert(f->usage_edit.at + f->usage_edit.skip <= size);
	assert(f->model_at + f->model_len <= size);
	memcpy(ret_facts, f, sizeof(*ret_facts));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct resp_tap *resp;
	static struct req_tap *req;
	static struct resp_facts a, b;
	static struct req_facts c, d;
	struct seen sa, sb;
	enum wire_format format;
	char model[MODEL_BYTES];
	bool stream;
	size_t piece;

	if (!resp) {
		resp = resp_tap_new();
		req = req_tap_new();
	}
	if (size < 2)
		return 0;
	format = (enum wire_format)(data[0] % WIRE_FORMAT_MAX);
	piece = 1 + data[1] % 61;
	data += 2;
	size -= 2;
	answer(resp, data, size, format, SIZE_MAX / 2, &a, &sa);
	answer(resp, data, size, format, piece, &b, &sb);
	assert(!memcmp(&a.usage, &b.usage, sizeof(a.usage)) && a.complete == b.complete);
	assert(!strcmp(a.stop_reason, b.stop_reason) && !strcmp(a.model, b.model));
	assert(sa.hash == sb.hash && sa.n == sb.n);
	request(req, data, size, format, SIZE_MAX / 2, &c);
	request(req, data, size, format, piece, &d);
	assert(!strcmp(c.model, d.model) && c.not_json == d.not_json && c.n_results == d.n_results);
	assert(c.not_json || !memcmp(&c.usage_edit, &d.usage_edit, sizeof(c.usage_edit)));
	path_model((struct str){ (const char *)data, size }, model, sizeof(model), &stream);
	return 0;
}
