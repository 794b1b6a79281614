/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/schema.h"

#include <errno.h>
#include <inttypes.h>

#include "policy/units.h"

void *schema_alloc(struct schema *s, size_t n, size_t size)
{
	size_t bytes;
	void *p = NULL;

	if (!__builtin_mul_overflow(n, size, &bytes))
		p = arena_alloc(s->arena, bytes ? bytes : 1);
	if (!p)
		s->err = -ENOMEM;
	return p;
}

bool schema_expect(struct schema *s, const struct hujson *v, enum hujson_type type,
		   const char *what)
{
	if (v->type == type)
		return true;
	schema_error(s, v, "%s is %s; it must be %s", what, hujson_type_name(v->type),
		     hujson_type_name(type));
	return false;
}

bool schema_strings(struct schema *s, const struct hujson *v, const char *what,
		    const struct str **ret, unsigned *ret_n)
{
	struct str *list;
	unsigned n = 0;

	if (!schema_expect(s, v, HUJSON_ARRAY, what))
		return false;
	list = schema_alloc(s, v->n, sizeof(*list));
	if (!list)
		return false;
	hujson_for_each(item, v)
	{
		struct diag_word of;

		snprintf(of.s, sizeof(of.s), "an entry of %.40s", what);
		if (!schema_expect(s, item, HUJSON_STRING, of.s))
			return false;
		list[n++] = item->text;
	}
	*ret = list;
	*ret_n = n;
	return true;
}

static const struct schema_field *field_find(const struct schema_field *table, struct str key)
{
	for (; table->key; table++) {
		if (str_eq(key, str_of(table->key)))
			return table;
	}
	return NULL;
}

static void field_unknown(struct schema *s, const struct schema_field *table, const char *what,
			  const struct hujson *v)
{
	struct nearest nearest = nearest_start(v->key);

	for (; table->key; table++) {
		if (table->type != SCHEMA_REFUSED)
			nearest_try(&nearest, str_of(table->key));
	}
	schema_error_key(s, v, "unknown key `%s` in %s%s", diag_word(v->key).s, what,
			 nearest_hint(&nearest).s);
}

static void field_int(struct schema *s, const struct schema_field *f, const struct hujson *v,
		      const char *what, void *at)
{
	const char *wrong;
	int64_t value;

	if (!schema_expect(s, v, HUJSON_NUMBER, what))
		return;
	wrong = units_decimal(v->text, 0, &value);
	if (wrong) {
		schema_error(s, v, "%s must be a whole number", what);
	} else if ((f->min || f->max) && (value < f->min || value > f->max)) {
		schema_error(s, v, "%s is %" PRId64 "; it must be between %" PRId64 " and %" PRId64,
			     what, value, f->min, f->max);
	} else if (f->type == SCHEMA_INT) {
		*(int64_t *)at = value;
	} else if (f->size == sizeof(uint16_t)) {
		*(uint16_t *)at = (uint16_t)value;
	} else {
		*(unsigned *)at = (unsigned)value;
	}
}

static void field_quantity(struct schema *s, const struct schema_field *f, const struct hujson *v,
			   const char *what, uint64_t *at)
{
	bool plain = f->type == SCHEMA_SIZE && v->type == HUJSON_NUMBER;
	const char *wrong;

	if (!plain && !schema_expect(s, v, HUJSON_STRING, what))
		return;
	if (f->type == SCHEMA_DURATION && f->min == -1 && !v->text.n) {
		*at = 0;
		return;
	}
	wrong = f->type == SCHEMA_SIZE ? units_size(v->text, at) : units_duration(v->text, at);
	if (wrong)
		schema_error(s, v, "%s is `%s`: %s", what, diag_word(v->text).s, wrong);
}

static void field_word(struct schema *s, const struct schema_field *f, const struct hujson *v,
		       const char *what, int *at)
{
	char known[160] = "";
	size_t n = 0;

	if (!schema_expect(s, v, HUJSON_STRING, what))
		return;
	for (int i = 0; f->words[i]; i++) {
		if (str_eq(v->text, str_of(f->words[i]))) {
			*at = i;
			return;
		}
		if (n < sizeof(known))
			n += (size_t)snprintf(known + n, sizeof(known) - n, "%s\"%s\"",
					      i ? ", " : "", f->words[i]);
	}
	schema_error(s, v, "%s is `%s`; it must be one of %s", what, diag_word(v->text).s, known);
}

static void field_refused(struct schema *s, const struct hujson *v)
{
	bool empty = (v->type == HUJSON_ARRAY || v->type == HUJSON_OBJECT) ? !v->first
		     : v->type == HUJSON_STRING				   ? !v->text.n
		     : v->type == HUJSON_BOOL				   ? !v->boolean
									   : v->type == HUJSON_NULL;

	if (empty)
		schema_warn_key(
			s, v,
			"`%s` is not enforced by this version; it is empty here, so nothing is lost",
			diag_word(v->key).s);
	else
		schema_error_key(s, v, "`%s` is not enforced by this version; remove it",
				 diag_word(v->key).s);
}

static void field_string(struct schema *s, const struct schema_field *f, const struct hujson *v,
			 const char *what, struct str *at)
{
	if (!schema_expect(s, v, HUJSON_STRING, what))
		return;
	if (f->type == SCHEMA_PATH && v->text.n && v->text.s[0] != '/') {
		schema_error(s, v, "%s is `%s`; it must be an absolute path", what,
			     diag_word(v->text).s);
		return;
	}
	if (f->required && !v->text.n) {
		schema_error(s, v, "%s is empty", what);
		return;
	}
	*at = v->text;
}

static void field_parse(struct schema *s, const struct schema_field *f, const struct hujson *v,
			void *object)
{
	void *at = (char *)object + f->at;
	struct diag_word what;

	snprintf(what.s, sizeof(what.s), "`%s`", f->key);
	switch (f->type) {
	case SCHEMA_STRING:
	case SCHEMA_PATH:
		field_string(s, f, v, what.s, at);
		break;
	case SCHEMA_BOOL:
		if (schema_expect(s, v, HUJSON_BOOL, what.s))
			*(bool *)at = v->boolean;
		break;
	case SCHEMA_INT:
	case SCHEMA_UINT:
		field_int(s, f, v, what.s, at);
		break;
	case SCHEMA_DURATION:
	case SCHEMA_SIZE:
		field_quantity(s, f, v, what.s, at);
		break;
	case SCHEMA_WORD:
		field_word(s, f, v, what.s, at);
		break;
	case SCHEMA_STRINGS:
		schema_strings(s, v, what.s, at, (unsigned *)((char *)object + f->at_count));
		break;
	case SCHEMA_OBJECT:
		schema_parse(s, f->table, what.s, v, at);
		break;
	case SCHEMA_NODE:
		if (schema_expect(s, v, f->node, what.s))
			*(const struct hujson **)at = v;
		break;
	case SCHEMA_CUSTOM:
		f->parse(s, f, v, object);
		break;
	case SCHEMA_REFUSED:
		field_refused(s, v);
		break;
	case SCHEMA_NO_EFFECT:
		schema_warn_key(s, v, "`%s` has no effect here", f->key);
		break;
	case SCHEMA_TYPE_MAX:
		break;
	}
}

bool schema_parse(struct schema *s, const struct schema_field *table, const char *what,
		  const struct hujson *v, void *object)
{
	if (!schema_expect(s, v, HUJSON_OBJECT, what))
		return false;
	hujson_for_each(member, v)
	{
		const struct schema_field *f = field_find(table, member->key);

		if (f)
			field_parse(s, f, member, object);
		else
			field_unknown(s, table, what, member);
	}
	for (const struct schema_field *f = table; f->key; f++) {
		if (f->required && !hujson_get(v, str_of(f->key)))
			schema_error(s, v, "`%s` is missing in %s: %s", f->key, what, f->help);
	}
	return true;
}
