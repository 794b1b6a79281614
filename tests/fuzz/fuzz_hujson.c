/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any text through the HuJSON parser. What it accepts must be printed as JSON that it accepts
 * again, and the positions must lie inside the text.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/buf.h"
#include "policy/hujson.h"

static void print(const struct hujson *v, struct buf *out)
{
	unsigned n = 0;

	if (v->type == HUJSON_STRING) {
		buf_json_string(out, v->text);
	} else if (v->type == HUJSON_NUMBER) {
		buf_puts(out, v->text);
	} else if (v->type == HUJSON_ARRAY || v->type == HUJSON_OBJECT) {
		buf_puts(out, v->type == HUJSON_ARRAY ? STR("[") : STR("{"));
		hujson_for_each(child, v)
		{
			buf_puts(out, n++ ? STR(",") : STR(""));
			if (v->type == HUJSON_OBJECT) {
				buf_json_string(out, child->key);
				buf_puts(out, STR(":"));
			}
			print(child, out);
		}
		assert(n == v->n);
		buf_puts(out, v->type == HUJSON_ARRAY ? STR("]") : STR("}"));
	} else {
		buf_puts(out, v->type == HUJSON_NULL ? STR("null")
			      : v->boolean	     ? STR("true")
						     : STR("false"));
	}
	assert(v->line && v->column);
}

static struct hujson *parse(struct str text, struct arena *arena, struct policy_diags *diags)
{
	struct hujson *root = NULL;
	int err = hujson_parse(text, arena, arena, &root, diags);

	assert((err == 0) == (root != NULL));
	assert(!err || diags->n_errors > 0);
	return root;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct policy_diags diags;
	struct arena arena = { 0 }, again = { 0 };
	/* A copy of the exact size, so that a read past the end is seen. */
	char *copy = malloc(size ? size : 1);
	struct buf first, second;
	struct hujson *root;

	memcpy(copy, data, size);
	memset(&diags, 0, sizeof(diags));
	buf_init(&first, 64 << 20);
	buf_init(&second, 64 << 20);
	root = parse((struct str){ copy, size }, &arena, &diags);
	if (root) {
		print(root, &first);
		root = parse(buf_str(&first), &again, &diags);
		assert(root);
		print(root, &second);
		assert(str_eq(buf_str(&first), buf_str(&second)));
	}
	buf_fini(&first);
	buf_fini(&second);
	arena_fini(&arena);
	arena_fini(&again);
	free(copy);
	return 0;
}
