/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/diag.h"

#include <ctype.h>
#include <stdarg.h>

#include "common/buf.h"

/*
 * Rationale: words longer than this are no misspelled keys; it also bounds the table on the stack.
 */
#define NEAREST_BYTES_MAX 40

/* Where a new entry goes, or NULL. An error may push the last warning out. */
static struct policy_diag *diag_slot(struct policy_diags *d, bool is_error)
{
	if (d->n < POLICY_DIAGS_MAX)
		return &d->items[d->n++];
	d->n_dropped++;
	for (unsigned i = POLICY_DIAGS_MAX; is_error && i-- > 0;) {
		if (d->items[i].is_error)
			continue;
		memmove(&d->items[i], &d->items[i + 1],
			(POLICY_DIAGS_MAX - 1 - i) * sizeof(d->items[0]));
		return &d->items[POLICY_DIAGS_MAX - 1];
	}
	return NULL;
}

void diag_add(struct policy_diags *d, bool is_error, unsigned line, unsigned column,
	      const char *fmt, ...)
{
	struct policy_diag *item = diag_slot(d, is_error);
	va_list ap;

	if (is_error)
		d->n_errors++;
	if (!item)
		return;
	*item = (struct policy_diag){ .is_error = is_error, .line = line, .column = column };
	va_start(ap, fmt);
	vsnprintf(item->text, sizeof(item->text), fmt, ap);
	va_end(ap);
}

static bool diag_before(const struct policy_diag *a, const struct policy_diag *b)
{
	return a->line != b->line ? a->line < b->line : a->column < b->column;
}

void diag_sort(struct policy_diags *d)
{
	for (unsigned i = 1; i < d->n; i++) {
		struct policy_diag item = d->items[i];
		unsigned at = i;

		for (; at > 0 && diag_before(&item, &d->items[at - 1]); at--)
			d->items[at] = d->items[at - 1];
		d->items[at] = item;
	}
}

struct diag_word diag_word(struct str s)
{
	struct diag_word w;
	size_t room = sizeof(w.s) - 4, n = MIN(s.n, room);

	/* A cut must not leave half a character. */
	while (n < s.n && n > 0 && ((unsigned char)s.s[n] & 0xc0) == 0x80)
		n--;
	for (size_t i = 0; i < n; i++)
		w.s[i] = (unsigned char)s.s[i] < 0x20 || s.s[i] == 0x7f ? '?' : s.s[i];
	str_copy(w.s + n, sizeof(w.s) - n, n < s.n ? STR("...") : STR(""));
	return w;
}

static bool nearest_same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Edit distance with neighbours swapped counted as one. */
static unsigned nearest_distance(struct str a, struct str b)
{
	unsigned rows[3][NEAREST_BYTES_MAX + 1];

	for (unsigned j = 0; j <= b.n; j++)
		rows[0][j] = j;
	for (unsigned i = 1; i <= a.n; i++) {
		unsigned *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];

		row[0] = i;
		for (unsigned j = 1; j <= b.n; j++) {
			unsigned cost = !nearest_same(a.s[i - 1], b.s[j - 1]);
			unsigned best = MIN(row[j - 1] + 1, up[j] + 1);

			best = MIN(best, up[j - 1] + cost);
			if (i > 1 && j > 1 && nearest_same(a.s[i - 1], b.s[j - 2]) &&
			    nearest_same(a.s[i - 2], b.s[j - 1]))
				best = MIN(best, up2[j - 2] + 1);
			row[j] = best;
		}
	}
	return rows[a.n % 3][b.n];
}

void nearest_try(struct nearest *n, struct str candidate)
{
	unsigned distance;

	if (!n->word.n || n->word.n > NEAREST_BYTES_MAX || candidate.n > NEAREST_BYTES_MAX)
		return;
	distance = nearest_distance(n->word, candidate);
	if (distance < n->distance) {
		n->distance = distance;
		n->best = candidate;
	}
}

struct diag_word nearest_hint(const struct nearest *n)
{
	struct diag_word w = { "" };

	if (n->best.n && n->distance <= (n->word.n + 2) / 3 && n->distance < n->best.n)
		snprintf(w.s, sizeof(w.s), " (did you mean `%.*s`?)", STR_ARG(n->best));
	return w;
}

int policy_diags_print(const struct policy_diags *d, struct str file, struct buf *out)
{
	int err = 0;

	for (unsigned i = 0; i < d->n && !err; i++) {
		const struct policy_diag *item = &d->items[i];

		err = buf_puts(out, file);
		if (!err && item->line)
			err = buf_printf(out, ":%u:%u", item->line, item->column);
		if (!err)
			err = buf_printf(out, ": %s: %s\n", item->is_error ? "error" : "warning",
					 item->text);
	}
	if (!err && d->n_dropped)
		err = buf_printf(out, "%.*s: and %u more; mend these first\n", STR_ARG(file),
				 d->n_dropped);
	return err;
}
