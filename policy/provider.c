/* SPDX-License-Identifier: Apache-2.0 */
/* The `providers` of a policy: where each one is, how its key travels, which models it serves. */
#include "policy/internal.h"

#include <errno.h>

#include "common/addr.h"
#include "policy/units.h"

/* What the tables fill before it becomes a struct policy_provider. */
struct draft {
	struct policy_provider provider;
	struct provider_more more;
	struct str baseurl, apikey, authorization;
	int auth_mode, on_disconnect;
	const struct hujson *models, *compatibility, *add_headers, *domains, *cidrs, *cost_map;
};

static const char *const auth_modes[] = { "override", "passthrough", "none", NULL };
static const char *const disconnects[] = { "cancel", "drain", NULL };
_Static_assert(ARRAY_SIZE(auth_modes) == AUTH_MODE_MAX + 1, "an auth_mode word is missing");

static void auth_mode_parse(struct schema *s, const struct schema_field *f, const struct hujson *v,
			    void *object);

#define DRAFT(m)    SCHEMA_AT(struct draft, m)
#define PROVIDER(m) SCHEMA_AT(struct draft, provider.m)

static const struct schema_field provider_fields[] = {
	{ "baseurl", SCHEMA_STRING, .required = true, DRAFT(baseurl),
	  .help = "give its root URL, like \"https://api.anthropic.com\"" },
	{ "models", SCHEMA_NODE, .required = true, DRAFT(models), .node = HUJSON_ARRAY,
	  .help = "list what it serves, like [\"claude-*\"] or [\"**\"]" },
	{ "apikey", SCHEMA_STRING, DRAFT(apikey),
	  .help = "file:PATH, env:NAME, cmd:COMMAND, cred:NAME, or the key itself" },
	{ "authorization", SCHEMA_STRING, DRAFT(authorization),
	  .help = "the header of the key: bearer, x-api-key, x-goog-api-key or api-key" },
	{ "auth_mode", SCHEMA_CUSTOM, .parse = auth_mode_parse,
	  .help = "override: our key; passthrough: the client's; none" },
	{ "compatibility", SCHEMA_NODE, DRAFT(compatibility), .node = HUJSON_OBJECT,
	  .help = "the wire formats it speaks" },
	{ "name", SCHEMA_STRING, DRAFT(more.title), .help = "for people" },
	{ "description", SCHEMA_STRING, PROVIDER(description), .help = "for people" },
	{ "preference", SCHEMA_INT, PROVIDER(preference), .min = -1000000, .max = 1000000,
	  .help = "the highest of those that serve a model is used first" },
	{ "disabled", SCHEMA_BOOL, PROVIDER(disabled), .help = "out of routing" },
	{ "add_headers", SCHEMA_NODE, DRAFT(add_headers), .node = HUJSON_ARRAY,
	  .help = "\"Name: value\" on every request" },
	{ "cost_basis", SCHEMA_STRING, DRAFT(more.basis_name), .help = "which prices apply" },
	{ "model_cost_map", SCHEMA_NODE, DRAFT(cost_map), .node = HUJSON_ARRAY,
	  .help = "prices of models under other names" },
	{ "domains", SCHEMA_NODE, DRAFT(domains), .node = HUJSON_ARRAY,
	  .help = "host names whose connections are forced here" },
	{ "cidrs", SCHEMA_NODE, DRAFT(cidrs), .node = HUJSON_ARRAY,
	  .help = "networks that only this provider has" },
	{ "insecure", SCHEMA_BOOL, PROVIDER(insecure), .help = "allow plain http to another host" },
	{ "on_disconnect", SCHEMA_WORD, DRAFT(on_disconnect), .words = disconnects,
	  .help = "what happens upstream when the client leaves" },
	{ "usage_option", SCHEMA_BOOL, PROVIDER(usage_option),
	  .help = "it takes stream_options.include_usage" },
	{ "upstream", SCHEMA_REFUSED, .help = "of Aperture; its meaning is not documented" },
	{ 0 },
};

static const struct schema_field cost_map_fields[] = {
	{ "match", SCHEMA_NODE, .required = true, .at = 0, .node = HUJSON_STRING,
	  .help = "a pattern on the model" },
	{ "as", SCHEMA_NODE, .required = true, .at = sizeof(void *), .node = HUJSON_STRING,
	  .help = "the model whose price it has" },
	{ "adjustment", SCHEMA_NODE, .at = 2 * sizeof(void *), .node = HUJSON_NUMBER,
	  .help = "a factor on the price" },
	{ 0 },
};

const struct schema_field *provider_schema(void)
{
	return provider_fields;
}

static void auth_mode_parse(struct schema *s, const struct schema_field *f, const struct hujson *v,
			    void *object)
{
	struct draft *d = object;
	const struct schema_field word = { "auth_mode", SCHEMA_WORD, .words = auth_modes };

	(void)f;
	if (!schema_expect(s, v, HUJSON_STRING, "`auth_mode`") || !v->text.n)
		return;
	for (int i = 0; word.words[i]; i++) {
		if (str_eq(v->text, str_of(word.words[i]))) {
			d->auth_mode = i;
			return;
		}
	}
	schema_error(s, v, "`auth_mode` is `%s`; it must be override, passthrough or none",
		     diag_word(v->text).s);
}

/* ---------------------------------------------------------------- base URL */

static bool host_is_loopback(struct str host)
{
	return str_eq(host, STR("localhost")) || str_eq(host, STR("::1")) ||
	       str_starts(host, STR("127."));
}

static bool host_is_address(struct str host)
{
	for (size_t i = 0; i < host.n; i++) {
		if (host.s[i] == ':')
			return true;
		if (host.s[i] != '.' && (host.s[i] < '0' || host.s[i] > '9'))
			return false;
	}
	return true;
}

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Lower case already. Letters, digits, '-' and '_' in labels of 1 to 63. */
static bool host_name_valid(struct str host)
{
	size_t label = 0;

	if (!host.n || host.n > 253)
		return false;
	for (size_t i = 0; i < host.n; i++) {
		if (host.s[i] == '.' ? !label : !name_char(host.s[i]))
			return false;
		label = host.s[i] == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
	}
	return label > 0;
}

static bool host6_valid(struct str host)
{
	return host.n && strspn(host.s, "0123456789abcdef:.") >= host.n;
}

static struct str lower_copy(struct schema *s, struct str text)
{
	char *copy = arena_strdup(s->arena, text);

	if (!copy) {
		s->err = -ENOMEM;
		return STR("");
	}
	for (size_t i = 0; i < text.n; i++)
		copy[i] = copy[i] >= 'A' && copy[i] <= 'Z' ? (char)(copy[i] | 0x20) : copy[i];
	return (struct str){ copy, text.n };
}

/* "host", "host:port", "[v6]:port" -> the provider. NULL or what is wrong. */
static const char *authority_parse(struct schema *s, struct str text, struct policy_provider *p)
{
	bool v6 = str_starts(text, STR("["));
	const char *end = v6 ? memchr(text.s, ']', text.n) : memchr(text.s, ':', text.n);
	struct str host = { text.s, end ? (size_t)(end - text.s) : text.n }, port;
	int64_t number = p->tls ? 443 : 80;

	if (v6 && !end)
		return "the `[` of its address is not closed";
	if (v6)
		host = str_skip(host, 1);
	port = str_skip(text, host.n + (v6 ? 2 : 0));
	host = lower_copy(s, host);
	if (v6 ? !host6_valid(host) : !host_name_valid(host))
		return "its host is no name and no address";
	if (port.n && (port.s[0] != ':' || units_decimal(str_skip(port, 1), 0, &number) ||
		       number < 1 || number > UINT16_MAX))
		return "its port must be a number from 1 to 65535";
	p->host = host;
	p->port = (uint16_t)number;
	return NULL;
}

static const char *base_path_check(struct str path)
{
	for (size_t i = 0; i < path.n; i++) {
		unsigned char c = (unsigned char)path.s[i];

		if (c == '?' || c == '#')
			return "it cannot hold a query or a fragment";
		if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\')
			return "its path holds a character that must be written as %XX";
	}
	if (str_find(path, STR("//")) || str_find(path, STR("/../")) || str_ends(path, STR("/..")))
		return "its path holds `//` or `/..`";
	return NULL;
}

/* The gateway appends "/v1/…" or "/v1beta/…" itself. */
static void base_path_trim(struct schema *s, const struct hujson *v, struct str *path)
{
	static const struct str versions[] = { STR("/v1"), STR("/v1beta") };

	while (path->n && path->s[path->n - 1] == '/')
		path->n--;
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		if (!str_ends(*path, versions[i]))
			continue;
		path->n -= versions[i].n;
		schema_warn(s, v,
			    "`baseurl` ends in `%s`, which the gateway appends itself; "
			    "it is left out",
			    versions[i].s);
		return;
	}
}

static const char *url_parse(struct schema *s, const struct hujson *v, struct policy_provider *p)
{
	struct str rest = v->text, path;
	const char *slash, *wrong;

	p->tls = str_starts(rest, STR("https://"));
	if (!p->tls && !str_starts(rest, STR("http://")))
		return "it must start with https:// or http://";
	rest = str_skip(rest, p->tls ? 8 : 7);
	slash = memchr(rest.s, '/', rest.n);
	path = slash ? str_skip(rest, (size_t)(slash - rest.s)) : STR("");
	rest.n -= path.n;
	if (memchr(rest.s, '@', rest.n))
		return "it holds a login; put the key into `apikey`";
	if (memchr(rest.s, '?', rest.n) || memchr(rest.s, '#', rest.n))
		return "it cannot hold a query or a fragment";
	wrong = authority_parse(s, rest, p);
	if (!wrong)
		wrong = base_path_check(path);
	if (wrong)
		return wrong;
	base_path_trim(s, v, &path);
	p->base_path = path;
	return NULL;
}

static void baseurl_parse(struct schema *s, const struct hujson *object, struct policy_provider *p)
{
	const struct hujson *v = hujson_get(object, STR("baseurl"));
	const char *wrong;

	if (!v || v->type != HUJSON_STRING || !v->text.n)
		return; /* reported */
	wrong = url_parse(s, v, p);
	if (wrong)
		schema_error(s, v, "`baseurl` is `%s`: %s", diag_word(v->text).s, wrong);
	else if (!p->tls && !p->insecure && !host_is_loopback(p->host))
		schema_error(
			s, v,
			"`baseurl` sends keys and prompts to %s in clear text; use https, or set "
			"\"insecure\": true",
			diag_word(p->host).s);
}

/* ---------------------------------------------------------------- key */

static bool variable_valid(struct str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = (char)(s.s[i] | 0x20);

		if (!(c >= 'a' && c <= 'z') && s.s[i] != '_' &&
		    !(i && s.s[i] >= '0' && s.s[i] <= '9'))
			return false;
	}
	return s.n > 0;
}

static const char *key_check(const struct policy_provider *p)
{
	struct str arg = p->key_arg;

	for (size_t i = 0; i < arg.n; i++) {
		if ((unsigned char)arg.s[i] < 0x20 || arg.s[i] == 0x7f)
			return "it holds a control character";
	}
	switch (p->key_kind) {
	case KEY_FILE:
		return str_starts(arg, STR("/")) ? NULL : "file: needs an absolute path";
	case KEY_ENV:
		return variable_valid(arg) ? NULL : "env: needs the name of a variable";
	case KEY_CMD:
		return arg.n ? NULL : "cmd: needs a command";
	case KEY_CRED:
		return arg.n && !memchr(arg.s, '/', arg.n) && arg.s[0] != '.'
			       ? NULL
			       : "cred: needs the name of a systemd credential";
	default:
		return memchr(arg.s, ' ', arg.n) ? "a key holds no spaces" : NULL;
	}
}

static void key_parse(struct schema *s, const struct hujson *object, const struct draft *d,
		      struct policy_provider *p)
{
	static const struct {
		struct str prefix;
		enum policy_key_kind kind;
	} kinds[] = { { STR("file:"), KEY_FILE },
		      { STR("env:"), KEY_ENV },
		      { STR("cmd:"), KEY_CMD },
		      { STR("cred:"), KEY_CRED } };
	const struct hujson *v = hujson_get(object, STR("apikey"));
	const char *wrong;

	if (!d->apikey.n) {
		if (p->auth_mode == AUTH_OVERRIDE && !p->disabled)
			schema_warn_key(
				s, object,
				"provider `%s` has no key: its requests will be refused; set "
				"`apikey`, or \"auth_mode\": \"none\" when it needs none",
				diag_word(p->name).s);
		return;
	}
	if (str_starts(d->apikey, STR("keyfile::"))) {
		schema_error(s, v,
			     "service-account key files are not served by this version; remove "
			     "this provider");
		return;
	}
	p->key_kind = KEY_LITERAL;
	p->key_arg = d->apikey;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!str_starts(d->apikey, kinds[i].prefix))
			continue;
		p->key_kind = kinds[i].kind;
		p->key_arg = str_skip(d->apikey, kinds[i].prefix.n);
	}
	wrong = key_check(p);
	if (wrong)
		schema_error(s, v, "`apikey` of `%s`: %s", diag_word(p->name).s, wrong);
	else if (p->key_kind == KEY_LITERAL)
		schema_warn(
			s, v,
			"`apikey` of `%s` is the key itself, which everyone who reads this file "
			"gets; write file:/etc/sallyport/keys/NAME",
			diag_word(p->name).s);
}

static void authorization_parse(struct schema *s, const struct hujson *object,
				const struct draft *d, struct policy_provider *p)
{
	static const struct str words[] = { [AUTH_BEARER] = STR("bearer"),
					    [AUTH_X_API_KEY] = STR("x-api-key"),
					    [AUTH_X_GOOG_API_KEY] = STR("x-goog-api-key"),
					    [AUTH_API_KEY] = STR("api-key") };
	const struct hujson *v = hujson_get(object, STR("authorization"));
	_Static_assert(ARRAY_SIZE(words) == AUTH_HEADER_MAX, "an authorization word is missing");

	if (!d->authorization.n) {
		if (p->auth_mode == AUTH_OVERRIDE && str_eq(p->host, STR("api.anthropic.com")))
			schema_warn_key(
				s, object,
				"Anthropic takes an API key as x-api-key; set \"authorization\": "
				"\"x-api-key\"");
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		if (str_caseeq(d->authorization, words[i])) {
			p->auth_header = i;
			return;
		}
	}
	if (str_eq(d->authorization, STR("hec")) ||
	    str_eq(d->authorization, STR("cf-aig-authorization")))
		schema_error(s, v, "`authorization` \"%s\" is not served by this version",
			     d->authorization.s);
	else
		schema_error(
			s, v,
			"`authorization` is `%s`; it must be bearer, x-api-key, x-goog-api-key or "
			"api-key",
			diag_word(d->authorization).s);
}

/* ---------------------------------------------------------------- formats, headers, domains */

static bool format_parse(struct schema *s, const struct hujson *m, struct policy_provider *p)
{
	static const char *const later[] = { "google_generate_content", "google_raw_predict",
					     "bedrock_model_invoke", "bedrock_converse",
					     "experimental_gemini_cli_vertex_compat" };
	struct nearest nearest = nearest_start(m->key);

	for (unsigned i = 1; i < WIRE_FORMAT_MAX; i++) {
		struct str name = str_of(wire_format_name(i));

		nearest_try(&nearest, name);
		if (!str_eq(m->key, name))
			continue;
		p->formats[i] = m->boolean;
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(later); i++) {
		if (!str_eq(m->key, str_of(later[i])))
			continue;
		if (m->boolean)
			schema_warn_key(s, m,
					"`%s` is not served by this version; such requests find "
					"no provider",
					later[i]);
		return true;
	}
	schema_error_key(s, m, "unknown wire format `%s`%s", diag_word(m->key).s,
			 nearest_hint(&nearest).s);
	return false;
}

/* openai_chat is assumed unless another format is set and it is not named. */
static void formats_parse(struct schema *s, const struct hujson *v, struct policy_provider *p)
{
	bool chat_named = false, other = false;

	if (v) {
		hujson_for_each(m, v)
		{
			char what[80];

			snprintf(what, sizeof(what), "`%s`", diag_word(m->key).s);
			if (!schema_expect(s, m, HUJSON_BOOL, what) || !format_parse(s, m, p))
				continue;
			if (str_eq(m->key, str_of(wire_format_name(WIRE_OPENAI_CHAT))))
				chat_named = true;
			else if (m->boolean)
				other = true;
		}
	}
	if (!chat_named)
		p->formats[WIRE_OPENAI_CHAT] = !other;
	p->usage_option = p->usage_option && p->formats[WIRE_OPENAI_CHAT];
}

const char *header_check(struct str line)
{
	static const char *const framing[] = {
		"host",	  "connection",	      "content-length",	 "transfer-encoding",
		"te",	  "trailer",	      "upgrade",	 "keep-alive",
		"expect", "proxy-connection", "content-encoding"
	};
	static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	const char *colon = line.n ? memchr(line.s, ':', line.n) : NULL;
	struct str name = { line.s, colon ? (size_t)(colon - line.s) : 0 };

	if (!name.n)
		return "write it as \"Name: value\"";
	if (strspn(line.s, token) < name.n)
		return "the name of a header holds letters, digits and dashes";
	for (size_t i = name.n + 1; i < line.n; i++) {
		if (((unsigned char)line.s[i] < 0x20 && line.s[i] != '\t') || line.s[i] == 0x7f)
			return "the value of a header holds no control characters";
	}
	for (size_t i = 0; i < ARRAY_SIZE(framing); i++) {
		if (str_caseeq(name, str_of(framing[i])))
			return "this header belongs to the connection and cannot be set";
	}
	return NULL;
}

void headers_parse(struct schema *s, const struct hujson *v, const struct str **ret,
		   unsigned *ret_n)
{
	const char *wrong;

	if (!v || !schema_strings(s, v, "`add_headers`", ret, ret_n))
		return;
	hujson_for_each(item, v)
	{
		wrong = header_check(item->text);
		if (wrong)
			schema_error(s, item, "`%s`: %s", diag_word(item->text).s, wrong);
	}
}

/* A host name, or one with `*` in a label; the last two labels must be plain: a provider owns no top-level domain. */
static bool domain_valid(struct str domain)
{
	char plain[254];
	size_t n = MIN(domain.n, sizeof(plain)), dots = 0;
	const char *star = domain.n ? memrchr(domain.s, '*', domain.n) : NULL;

	for (size_t i = 0; i < n; i++)
		plain[i] = domain.s[i] == '*' ? 'x' : domain.s[i];
	if (domain.n > sizeof(plain) || !host_name_valid((struct str){ plain, n }))
		return false;
	for (const char *c = star; c && c < domain.s + domain.n; c++)
		dots += *c == '.';
	return !star || dots >= 2;
}

static void cidrs_parse(struct schema *s, const struct hujson *v, struct policy_provider *p)
{
	const struct str *list = NULL;
	struct addr_prefix prefix;
	unsigned n = 0;

	if (!v || !schema_strings(s, v, "`cidrs`", &list, &n))
		return;
	hujson_for_each(item, v)
	{
		if (item->type == HUJSON_STRING && !addr_prefix_parse(item->text, &prefix))
			schema_error(s, item, "`%s` is no network; write it like \"192.0.2.0/24\", without bits behind the prefix",
				     diag_word(item->text).s);
	}
	p->cidrs = list;
	p->n_cidrs = n;
}

static void domains_parse(struct schema *s, const struct hujson *v, struct policy_provider *p)
{
	struct str *list;

	if (!v) {
		list = schema_alloc(s, 1, sizeof(*list));
		if (!list || !p->host.n || host_is_address(p->host) || host_is_loopback(p->host))
			return;
		list[0] = p->host;
		p->domains = list;
		p->n_domains = 1;
		return;
	}
	list = schema_alloc(s, v->n, sizeof(*list));
	if (!list)
		return;
	hujson_for_each(item, v)
	{
		if (!schema_expect(s, item, HUJSON_STRING, "a domain"))
			continue;
		list[p->n_domains] = lower_copy(s, item->text);
		if (domain_valid(list[p->n_domains]))
			p->n_domains++;
		else
			schema_error(s, item,
				     "`%s` is no host name; write it like \"api.example.com\" or \"*.example.com\"",
				     diag_word(item->text).s);
	}
	p->domains = list;
}

/* ---------------------------------------------------------------- models and prices */

static void model_warn(struct schema *s, const struct hujson *item, struct str provider)
{
	if (str_starts(item->text, provider) && item->text.n > provider.n &&
	    item->text.s[provider.n] == '/')
		schema_warn(s, item,
			    "`%s` repeats the provider's name; models are listed without it: `%s`",
			    diag_word(item->text).s,
			    diag_word(str_skip(item->text, provider.n + 1)).s);
}

static void models_parse(struct schema *s, const struct hujson *v, struct policy_provider *p,
			 struct provider_more *more)
{
	struct glob *globs;

	if (!schema_strings(s, v, "`models`", &p->models, &p->n_models))
		return;
	if (!v->n)
		schema_warn(s, v, "`models` is empty: the provider serves nothing");
	globs = schema_alloc(s, v->n, sizeof(*globs));
	if (!globs)
		return;
	hujson_for_each(item, v)
	{
		int err = 0;

		if (!item->text.n || item->text.n > MODEL_NAME_MAX)
			schema_error(s, item, "a model's name has 1 to %d bytes", MODEL_NAME_MAX);
		else if (glob_is_literal(item->text))
			model_warn(s, item, p->name);
		else
			err = glob_compile(&globs[more->n_models++], item->text, s->arena);
		if (err == -ENOMEM)
			s->err = err;
		else if (err)
			schema_error(s, item, "the pattern `%s` is too long",
				     diag_word(item->text).s);
		else if (!glob_is_literal(item->text))
			model_warn(s, item, p->name);
	}
	more->models = globs;
}

static void cost_map_parse(struct schema *s, const struct hujson *v, struct cost_map *ret)
{
	const struct hujson *nodes[3] = { NULL };
	const char *wrong = NULL;
	int err;

	if (!schema_parse(s, cost_map_fields, "an entry of model_cost_map", v, nodes) ||
	    !nodes[0] || !nodes[1])
		return;
	err = glob_compile(&ret->match, nodes[0]->text, s->arena);
	if (err == -ENOMEM)
		s->err = err;
	else if (err)
		schema_error(s, nodes[0], "the pattern is too long");
	if (memchr(nodes[0]->text.s, '[', nodes[0]->text.n))
		schema_error(s, nodes[0],
			     "`[...]` is no part of patterns here; use `*`, `**` and `?`");
	ret->as = nodes[1]->text;
	ret->adjustment_ppm = 1000000;
	if (nodes[2])
		wrong = units_decimal(nodes[2]->text, 6, &ret->adjustment_ppm);
	if (wrong)
		schema_error(s, nodes[2], "`adjustment`: %s", wrong);
	else if (ret->adjustment_ppm < 0 || ret->adjustment_ppm > ADJUSTMENT_PPM_MAX)
		schema_error(s, nodes[2], "`adjustment` must be between 0 and 1000");
}

static void cost_maps_parse(struct schema *s, const struct hujson *v, struct provider_more *more)
{
	struct cost_map *maps = schema_alloc(s, v->n, sizeof(*maps));

	if (!maps)
		return;
	hujson_for_each(item, v)
	{
		cost_map_parse(s, item, &maps[more->n_maps++]);
	}
	more->maps = maps;
}

static void basis_parse(struct schema *s, const struct hujson *object,
			const struct policy_provider *p, struct provider_more *more)
{
	const struct policy *policy = s->arg;
	const struct hujson *v = hujson_get(object, STR("cost_basis"));
	struct nearest nearest = nearest_start(more->basis_name);

	if (!more->basis_name.n) {
		more->basis = price_base_of_host(&policy->prices, p->host);
		return;
	}
	if (str_eq(more->basis_name, STR(PRICE_BASIS_FREE))) {
		more->basis = BASIS_FREE;
		return;
	}
	more->basis = price_base_find(&policy->prices, more->basis_name);
	if (more->basis >= 0)
		return;
	nearest_try(&nearest, STR(PRICE_BASIS_FREE));
	for (unsigned i = 0; i < policy->prices.n; i++)
		nearest_try(&nearest, policy->prices.bases[i].name);
	schema_error(s, v, "the price table has no basis `%s`%s", diag_word(more->basis_name).s,
		     nearest_hint(&nearest).s);
}

/* ---------------------------------------------------------------- one provider, all providers */

static bool provider_name_valid(struct str name)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = (char)(name.s[i] | 0x20);

		if (!(c >= 'a' && c <= 'z') && !(name.s[i] >= '0' && name.s[i] <= '9') &&
		    !strchr("-_.", name.s[i]))
			return false;
	}
	return name.n > 0 && name.n <= PROVIDER_NAME_MAX;
}

static void provider_parse(struct schema *s, const struct hujson *v, struct policy_provider *ret,
			   struct provider_more *ret_more)
{
	struct draft d = { .provider = { .name = v->key,
					 .description = STR(""),
					 .host = STR(""),
					 .base_path = STR(""),
					 .key_arg = STR(""),
					 .usage_option = true },
			   .more = {
				   .line = v->key_line, .basis_name = STR(""), .title = STR("") } };

	if (!provider_name_valid(v->key))
		schema_error_key(
			s, v,
			"`%s` cannot be a provider's name; it holds letters, digits, `-`, `_` "
			"and `.`, %d at most",
			diag_word(v->key).s, PROVIDER_NAME_MAX);
	if (!schema_parse(s, provider_fields, "a provider", v, &d))
		return;
	d.provider.auth_mode = (enum policy_auth_mode)d.auth_mode;
	d.provider.drain_on_disconnect = d.on_disconnect == 1;
	baseurl_parse(s, v, &d.provider);
	key_parse(s, v, &d, &d.provider);
	authorization_parse(s, v, &d, &d.provider);
	formats_parse(s, d.compatibility, &d.provider);
	headers_parse(s, d.add_headers, &d.provider.add_headers, &d.provider.n_add_headers);
	domains_parse(s, d.domains, &d.provider);
	cidrs_parse(s, d.cidrs, &d.provider);
	if (d.models)
		models_parse(s, d.models, &d.provider, &d.more);
	if (d.cost_map)
		cost_maps_parse(s, d.cost_map, &d.more);
	basis_parse(s, v, &d.provider, &d.more);
	*ret = d.provider;
	*ret_more = d.more;
}

/* Enabled ones by preference, the order of the file among equals. */
static void providers_order(struct schema *s, struct policy *p)
{
	p->order = schema_alloc(s, p->n_providers, sizeof(*p->order));
	if (!p->order)
		return;
	for (unsigned i = 0; i < p->n_providers; i++) {
		unsigned at = p->n_order;

		if (p->providers[i].disabled)
			continue;
		for (; at > 0; at--) {
			if (p->providers[p->order[at - 1]].preference >= p->providers[i].preference)
				break;
			p->order[at] = p->order[at - 1];
		}
		p->order[at] = i;
		p->n_order++;
		bit_set(p->enabled.w, i);
		for (unsigned f = 1; f < WIRE_FORMAT_MAX; f++) {
			if (p->providers[i].formats[f])
				bit_set(p->speaks[f].w, i);
		}
	}
}

void providers_parse(struct schema *s, const struct hujson *v)
{
	struct policy *p = s->arg;

	if (v->n > PROVIDERS_MAX) {
		schema_error(s, v, "more than %d providers", PROVIDERS_MAX);
		return;
	}
	p->providers = schema_alloc(s, v->n, sizeof(*p->providers));
	p->more = schema_alloc(s, v->n, sizeof(*p->more));
	if (!p->providers || !p->more)
		return;
	hujson_for_each(m, v)
	{
		provider_parse(s, m, &p->providers[p->n_providers], &p->more[p->n_providers]);
		p->n_providers++;
	}
	providers_order(s, p);
}
