/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/tool_call.h"

#include <assert.h>

#include "common/base.h"

/* Ordered as in enum tool_kind. */
static const char *const kind_names[] = { "function", "server", "mcp" };
static_assert(ARRAY_SIZE(kind_names) == TOOL_KIND_MAX, "one name for each kind");

const char *tool_kind_name(enum tool_kind kind)
{
	return kind < TOOL_KIND_MAX ? kind_names[kind] : "unknown";
}

struct open_call *calls_open(struct call_table *t)
{
	struct open_call *call = t->n < OPEN_CALLS_SLOTS ? calloc(1, sizeof(*call)) : NULL;

	if (!call) {
		t->n_dropped++;
		return NULL;
	}
	call->index = -1;
	call->order = UINT64_MAX;
	buf_init(&call->args, TOOL_ARGS_MAX);
	t->calls[t->n++] = call;
	return call;
}

void calls_append(struct call_table *t, struct open_call *call, struct str fragment)
{
	size_t room = MIN(TOOL_ARGS_MAX - buf_len(&call->args), OPEN_CALLS_BYTES - t->bytes);

	if (fragment.n > room) {
		fragment.n = room;
		call->cut = true;
	}
	if (buf_puts(&call->args, fragment) < 0)
		call->cut = true;
	else
		t->bytes += fragment.n;
}

void calls_set_args(struct call_table *t, struct open_call *call, struct str args)
{
	t->bytes -= buf_len(&call->args);
	buf_reset(&call->args, SIZE_MAX);
	call->cut = false;
	calls_append(t, call, args);
}

void calls_drop(struct call_table *t, unsigned i)
{
	struct open_call *call = t->calls[i];

	t->bytes -= buf_len(&call->args);
	buf_fini(&call->args);
	free(call);
	t->n--;
	memmove(&t->calls[i], &t->calls[i + 1], (t->n - i) * sizeof(t->calls[0]));
}

void calls_clear(struct call_table *t)
{
	while (t->n)
		calls_drop(t, t->n - 1);
	t->n_dropped = t->n_emitted = 0;
}

void calls_emit(struct call_table *t, unsigned i, bool complete)
{
	struct open_call *call = t->calls[i];
	struct tool_call out = {
		.id = { call->has_id ? call->id : NULL, strlen(call->id) },
		.name = str_of(call->name[0] ? call->name : "unknown"),
		.kind = call->kind,
		.server = str_of(call->server),
		.arguments = buf_str(&call->args),
		.arguments_null = call->args_null,
		.custom = call->custom,
		.complete = complete && !call->cut,
		.choice = call->choice,
		.pending_approval = call->pending_approval,
		.failed = call->failed,
		.inferred = call->inferred,
		.caller = str_of(call->caller),
		.namespace_ = str_of(call->namespace_),
		.text_on_wire = call->text_on_wire,
	};

	t->n_emitted++;
	if (t->fn)
		t->fn(t->arg, &out);
	calls_drop(t, i);
}

void calls_flush(struct call_table *t)
{
	while (t->n) {
		unsigned first = 0;

		for (unsigned i = 1; i < t->n; i++) {
			const struct open_call *a = t->calls[i], *b = t->calls[first];

			if (a->choice < b->choice ||
			    (a->choice == b->choice && a->order < b->order))
				first = i;
		}
		calls_emit(t, first, t->calls[first]->whole);
	}
}
