/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"

#include <stdlib.h>

#define JSON_MAX (16u << 20)

cJSON *json_parse(struct str text)
{
	cJSON *json = text.n <= JSON_MAX ? cJSON_ParseWithLength(text.s, text.n) : NULL;

	if (json && !cJSON_IsObject(json) && !cJSON_IsArray(json)) {
		cJSON_Delete(json);
		return NULL;
	}
	return json;
}

bool json_string(const cJSON *object, const char *name, char *ret, size_t size)
{
	const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));

	if (!s || strlen(s) >= size)
		return false;
	return str_copy(ret, size, str_of(s));
}

bool json_int(const cJSON *object, const char *name, int64_t *ret)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
	char *end;
	int64_t v;

	if (cJSON_IsNumber(item)) {
		/* Outside of this a double is no integer, or no int64_t. */
		if (!(item->valuedouble >= -9007199254740992.0 && item->valuedouble <= 9007199254740992.0))
			return false;
		*ret = (int64_t)item->valuedouble;
		return true;
	}
	if (!cJSON_IsString(item) || !item->valuestring[0])
		return false;
	v = strtoll(item->valuestring, &end, 10);
	if (*end)
		return false;
	*ret = v;
	return true;
}
