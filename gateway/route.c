/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/route.h"

#include "common/base.h"
#include "gateway/extract.h"

/* The version segments that clients put before the rest of the path, none or several of them. */
static bool skip_segment(struct str *path, struct str segment)
{
	if (!str_starts(*path, segment) || (path->n > segment.n && path->s[segment.n] != '/'))
		return false;
	*path = str_skip(*path, segment.n);
	return true;
}

struct path_rule {
	const char *path;
	enum route_kind kind;
	enum wire_format format;
};

/* Paths without their version segment. What is longer stands before what it begins with. */
static const struct path_rule rules[] = {
	{ "/messages/count_tokens", ROUTE_AROUND, WIRE_ANTHROPIC_MESSAGES },
	{ "/messages", ROUTE_MODEL, WIRE_ANTHROPIC_MESSAGES },
	{ "/chat/completions", ROUTE_MODEL, WIRE_OPENAI_CHAT },
	{ "/completions", ROUTE_MODEL, WIRE_OPENAI_CHAT },
	{ "/embeddings", ROUTE_MODEL, WIRE_OPENAI_CHAT },
	{ "/responses/compact", ROUTE_MODEL, WIRE_OPENAI_RESPONSES },
	{ "/responses/input_tokens", ROUTE_AROUND, WIRE_OPENAI_RESPONSES },
	{ "/responses", ROUTE_MODEL, WIRE_OPENAI_RESPONSES },
};

/*
 * Exactly /models/NAME:VERB with a verb that is known: what policy judges and what the provider reads are the same
 * only where nothing else can stand in between.
 */
static bool gemini_rule(struct str rest, struct route *r)
{
	static const struct {
		const char *verb;
		enum route_kind kind;
	} verbs[] = {
		{ "generateContent", ROUTE_MODEL }, { "streamGenerateContent", ROUTE_MODEL },
		{ "embedContent", ROUTE_MODEL },    { "batchEmbedContents", ROUTE_MODEL },
		{ "countTokens", ROUTE_AROUND },
	};
	struct str name = str_skip(rest, 8), verb;
	const char *colon;
	bool stream = false;

	if (!str_starts(rest, STR("/models/")))
		return false;
	colon = memchr(name.s, ':', name.n);
	if (!colon || memchr(name.s, '/', name.n))
		return false;
	verb = str_skip(name, (size_t)(colon + 1 - name.s));
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!str_eq(verb, str_of(verbs[i].verb)))
			continue;
		if (!path_model(rest, r->model, sizeof(r->model), &stream) || strstr(r->model, ".."))
			return false;
		r->format = WIRE_GEMINI;
		r->path_stream = stream;
		r->kind = verbs[i].kind;
		return true;
	}
	return false;
}

/* Segments that a server might resolve: "." and "..", spelled out or percent-encoded, and backslashes. */
static bool has_dot_segment(struct str path)
{
	for (size_t i = 0; i < path.n; i++) {
		struct str s = str_skip(path, i);

		if (s.s[0] == '\\')
			return true;
		if (s.s[0] != '/')
			continue;
		s = str_skip(s, 1);
		if ((s.n && s.s[0] == '.') || (s.n >= 3 && strncasecmp(s.s, "%2e", 3) == 0))
			return true;
	}
	return false;
}

/* Appends the query without `key` (Google's credential in the URL). */
static bool append_query(struct route *r, size_t at, struct str query)
{
	char sep = '?';

	while (query.n) {
		const char *amp = memchr(query.s, '&', query.n);
		struct str part = { query.s, amp ? (size_t)(amp - query.s) : query.n };

		if (part.n && !str_starts(part, STR("key="))) {
			if (at + part.n + 2 > sizeof(r->target))
				return false;
			r->target[at++] = sep;
			memcpy(r->target + at, part.s, part.n);
			at += part.n;
			sep = '&';
		}
		query = str_skip(query, part.n + (amp ? 1 : 0));
	}
	r->target[at] = '\0';
	return true;
}

static bool set_target(struct route *r, const char *version, struct str path, struct str query)
{
	int n = snprintf(r->target, sizeof(r->target), "%s%.*s", version, STR_ARG(path));

	return n >= 0 && (size_t)n < sizeof(r->target) && append_query(r, (size_t)n, query);
}

static bool provider_prefix(struct str *path, struct route *r)
{
	struct str rest = *path;
	const char *slash;

	if (!str_starts(rest, STR("/p/")))
		return false;
	rest = str_skip(rest, 3);
	slash = memchr(rest.s, '/', rest.n);
	if (!slash || !str_copy(r->provider, sizeof(r->provider), (struct str){ rest.s, (size_t)(slash - rest.s) }))
		return false;
	*path = str_skip(rest, (size_t)(slash - rest.s));
	return true;
}

static enum route_kind method_kind(struct str method, enum route_kind kind)
{
	if ((kind == ROUTE_MODEL || kind == ROUTE_AROUND) && !str_eq(method, STR("POST")))
		return ROUTE_NOT_FOUND;
	return kind;
}

bool route_parse(struct str method, struct str target, bool upgrade, struct route *ret)
{
	const char *q = memchr(target.s, '?', target.n);
	struct str path = { target.s, q ? (size_t)(q - target.s) : target.n };
	struct str query = q ? str_skip(target, path.n + 1) : STR_NULL;
	const char *version = "/v1";
	struct str rest;

	ret->kind = ROUTE_NOT_FOUND;
	ret->format = WIRE_NONE;
	ret->path_stream = false;
	ret->model[0] = ret->provider[0] = ret->target[0] = '\0';
	if (str_eq(method, STR("HEAD")) || str_eq(method, STR("OPTIONS"))) {
		ret->kind = ROUTE_PROBE;
		return true;
	}
	if (has_dot_segment(path))
		return true; /* not found */
	provider_prefix(&path, ret);
	rest = path;
	/* Groq's SDK puts /openai before the version. */
	skip_segment(&rest, STR("/openai"));
	for (;;) {
		if (skip_segment(&rest, STR("/v1")))
			version = "/v1";
		else if (skip_segment(&rest, STR("/v1beta")))
			version = "/v1beta";
		else if (skip_segment(&rest, STR("/v1alpha")))
			version = "/v1alpha";
		else
			break;
	}
	if (str_eq(rest, STR("/models")) || str_starts(rest, STR("/models?"))) {
		ret->kind = str_eq(method, STR("GET")) ? ROUTE_MODELS : ROUTE_NOT_FOUND;
		ret->format = strcmp(version, "/v1") ? WIRE_GEMINI : WIRE_OPENAI_CHAT;
		return true;
	}
	if (gemini_rule(rest, ret)) {
		ret->kind = method_kind(method, ret->kind);
		return set_target(ret, strcmp(version, "/v1") || str_starts(path, STR("/v1/")) ? version : "/v1beta", rest, query);
	}
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		struct str want = str_of(rules[i].path);

		if (!str_eq(rest, want))
			continue;
		ret->format = rules[i].format;
		ret->kind = method_kind(method, rules[i].kind);
		if (upgrade && rules[i].format == WIRE_OPENAI_RESPONSES)
			ret->kind = ROUTE_UPGRADE;
		break;
	}
	return set_target(ret, version, rest, query);
}

bool route_set_model(struct route *r, struct str model)
{
	char was[ROUTE_PATH_BYTES];
	const char *models, *colon;

	str_copy(was, sizeof(was), str_of(r->target));
	models = strstr(was, "/models/");
	colon = models ? strchr(models, ':') : NULL;
	if (!colon)
		return false;
	return (size_t)snprintf(r->target, sizeof(r->target), "%.*s/models/%.*s%s",
				(int)(models - was), was, STR_ARG(model), colon) <
	       sizeof(r->target);
}
