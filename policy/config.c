/* SPDX-License-Identifier: Apache-2.0 */
/* The host's configuration: tables, defaults, and the checks that need more than one key. */
#include "policy/config.h"

#include <arpa/inet.h>
#include <errno.h>

#include "common/addr.h"
#include "policy/schema.h"
#include "policy/units.h"

/* Rationale: the balances file knows 64 writers, and the ledger is one of them. */
#define WORKERS_MAX 63

/* The struct that users see, and the memory behind its strings. */
struct config_box {
	struct config config;
	struct arena arena;
};

static const char *const log_levels[] = { "err", "warn", "info", "debug", "trace", NULL };
static const char *const ledger_errors[] = { "continue", "stop", NULL };
_Static_assert(ARRAY_SIZE(ledger_errors) == LEDGER_ERROR_MAX + 1, "an on_error word is missing");

static void parse_log_level(struct schema *s, const struct schema_field *f, const struct hujson *v,
			    void *object)
{
	struct nearest nearest = nearest_start(v->text);
	struct config *c = object;

	(void)f;
	if (!schema_expect(s, v, HUJSON_STRING, "`log_level`"))
		return;
	for (int i = 0; log_levels[i]; i++) {
		if (str_eq(v->text, str_of(log_levels[i]))) {
			c->log_level = v->text;
			return;
		}
		nearest_try(&nearest, str_of(log_levels[i]));
	}
	schema_error(s, v, "`log_level` is `%s`; it must be err, warn, info, debug or trace%s",
		     diag_word(v->text).s, nearest_hint(&nearest).s);
}

/* "http://host:port", "http://[::1]:3128"; credentials in it are refused rather than leaked. */
static const char *proxy_split(struct str url, struct str *ret_host, uint16_t *ret_port)
{
	static const char how[] = "write it as \"http://HOST:PORT\"";
	struct str rest = str_skip(url, strlen("http://")), host;
	const char *end;
	int64_t port;

	if (!str_starts(url, STR("http://")))
		return how;
	if (rest.n && rest.s[rest.n - 1] == '/')
		rest.n--;
	if (str_starts(rest, STR("["))) {
		end = memchr(rest.s, ']', rest.n);
		if (!end)
			return how;
		host = (struct str){ rest.s + 1, (size_t)(end - rest.s) - 1 };
		rest = str_skip(rest, host.n + 2);
	} else {
		end = rest.n ? memchr(rest.s, ':', rest.n) : NULL;
		host = (struct str){ rest.s, end ? (size_t)(end - rest.s) : rest.n };
		rest = str_skip(rest, host.n);
	}
	if (!host.n || strcspn(host.s, "/@?# \t") < host.n || !str_starts(rest, STR(":")))
		return how;
	if (units_decimal(str_skip(rest, 1), 0, &port) || port < 1 || port > UINT16_MAX)
		return how;
	*ret_host = host;
	*ret_port = (uint16_t)port;
	return NULL;
}

static void parse_proxy(struct schema *s, const struct schema_field *f, const struct hujson *v,
			void *object)
{
	struct config *c = container_of(object, struct config, upstream);
	struct str host = STR("");
	uint16_t port = 0;
	const char *wrong;
	char *copy;

	(void)f;
	if (!schema_expect(s, v, HUJSON_STRING, "`proxy`"))
		return;
	wrong = v->text.n ? proxy_split(v->text, &host, &port) : NULL;
	if (wrong) {
		schema_error(s, v, "`proxy` cannot be read; %s", wrong);
		return;
	}
	copy = arena_strdup(s->arena, host);
	if (!copy) {
		s->err = -ENOMEM;
		return;
	}
	c->upstream.proxy = v->text;
	c->upstream.proxy_host = (struct str){ copy, host.n };
	c->upstream.proxy_port = port;
}

#define DOOR(m)	  SCHEMA_AT(__typeof__(((struct config *)0)->door), m)
#define CGROUP(m) SCHEMA_AT(__typeof__(((struct config *)0)->cgroup), m)
#define USERS(m)  SCHEMA_AT(__typeof__(((struct config *)0)->users), m)
#define UP(m)	  SCHEMA_AT(__typeof__(((struct config *)0)->upstream), m)
#define FORCE(m)  SCHEMA_AT(__typeof__(((struct config *)0)->force), m)
#define CLIENT(m) SCHEMA_AT(__typeof__(((struct config *)0)->client), m)
#define LEDGER(m) SCHEMA_AT(__typeof__(((struct config *)0)->ledger), m)
#define TOP(m)	  SCHEMA_AT(struct config, m)

static const struct schema_field door_fields[] = {
	{ "port", SCHEMA_UINT, DOOR(port), .min = 1, .max = 65535,
	  .help = "first port of the door" },
	{ "port_range", SCHEMA_UINT, DOOR(port_range), .min = 1, .max = 256,
	  .help = "how many ports are tried" },
	{ "host", SCHEMA_BOOL, DOOR(host), .help = "open it in the host's network namespace too" },
	{ 0 },
};

static const struct schema_field cgroup_fields[] = {
	{ "root", SCHEMA_STRING, CGROUP(root), .help = "the mount of cgroup2, or \"auto\"" },
	{ "parent", SCHEMA_PATH, CGROUP(parent), .help = "where our own cgroups are made" },
	{ "watch", SCHEMA_STRINGS, CGROUP(watch),
	  .at_count = offsetof(__typeof__(((struct config *)0)->cgroup), n_watch),
	  .help = "parents whose children are sandboxes" },
	{ 0 },
};

static const struct schema_field users_fields[] = {
	{ "gateway", SCHEMA_STRING, USERS(gateway), .help = "the gateway runs as this user" },
	{ "ledger", SCHEMA_STRING, USERS(ledger), .help = "the ledger runs as this user" },
	{ "dns", SCHEMA_STRING, USERS(dns), .help = "the DNS role runs as this user" },
	{ "group", SCHEMA_STRING, USERS(group), .help = "shared by the roles: journals and balances belong to it" },
	{ 0 },
};

static const struct schema_field force_fields[] = {
	{ "vip4", SCHEMA_STRING, FORCE(vip4), .help = "virtual addresses of providers' names" },
	{ "vip6", SCHEMA_STRING, FORCE(vip6), .help = "the same, IPv6" },
	{ "resolvers", SCHEMA_STRINGS, FORCE(resolvers),
	  .at_count = offsetof(__typeof__(((struct config *)0)->force), n_resolvers),
	  .help = "name servers that are asked for providers' addresses; none: the host's" },
	{ "nat64", SCHEMA_STRINGS, FORCE(nat64),
	  .at_count = offsetof(__typeof__(((struct config *)0)->force), n_nat64),
	  .help = "prefixes of /96 that embed IPv4 addresses, besides 64:ff9b::/96" },
	{ "dns_port", SCHEMA_UINT, FORCE(dns_port), .min = 1, .max = 65535,
	  .help = "first port of the DNS role in a sandbox" },
	{ "address_grace", SCHEMA_DURATION, FORCE(address_grace_ns),
	  .help = "how long an address counts after its TTL" },
	{ 0 },
};

static const struct schema_field upstream_fields[] = {
	{ "proxy", SCHEMA_CUSTOM, .parse = parse_proxy, .help = "\"http://HOST:PORT\" or \"\"" },
	{ "ca_file", SCHEMA_PATH, UP(ca_file),
	  .help = "certificates trusted instead of the system's" },
	{ "connect_timeout", SCHEMA_DURATION, UP(connect_timeout_ns), .help = "name, TCP and TLS" },
	{ "first_byte_timeout", SCHEMA_DURATION, UP(first_byte_timeout_ns),
	  .help = "from the end of the request to the answer's head" },
	{ "idle_timeout", SCHEMA_DURATION, UP(idle_timeout_ns),
	  .help = "silence inside an answer" },
	{ "max_idle_connections", SCHEMA_UINT, UP(max_idle_connections), .max = 65536,
	  .help = "kept open to each provider" },
	{ 0 },
};

static const struct schema_field client_fields[] = {
	{ "head_timeout", SCHEMA_DURATION, CLIENT(head_timeout_ns),
	  .help = "for a request's head" },
	{ "idle_timeout", SCHEMA_DURATION, CLIENT(idle_timeout_ns),
	  .help = "between two requests" },
	{ "body_limit", SCHEMA_SIZE, CLIENT(body_limit_bytes), .help = "of one request" },
	{ "body_memory", SCHEMA_SIZE, CLIENT(body_memory_bytes), .help = "of all held at once" },
	{ "max_connections", SCHEMA_UINT, CLIENT(max_connections), .min = 1, .max = 1 << 20,
	  .help = "of all clients" },
	{ 0 },
};

static const struct schema_field ledger_fields[] = {
	{ "on_error", SCHEMA_WORD, LEDGER(on_error), .words = ledger_errors,
	  .help = "requests when the ledger cannot be written" },
	{ "journal_limit", SCHEMA_SIZE, LEDGER(journal_limit_bytes),
	  .help = "finished requests that wait for the disk" },
	{ "retention", SCHEMA_DURATION, LEDGER(retention_ns), .min = -1,
	  .help = "age at which rows are deleted; \"\": never" },
	{ 0 },
};

static const struct schema_field config_fields[] = {
	{ "run_dir", SCHEMA_PATH, TOP(run_dir), .help = "sockets and shared state" },
	{ "state_dir", SCHEMA_PATH, TOP(state_dir), .help = "ledger and balances" },
	{ "pin_dir", SCHEMA_PATH, TOP(pin_dir), .help = "pinned BPF objects" },
	{ "policy", SCHEMA_PATH, TOP(policy), .help = "the policy file" },
	{ "prices", SCHEMA_PATH, TOP(prices), .help = "a price table; \"\": the built-in one" },
	{ "workers", SCHEMA_UINT, TOP(workers), .max = WORKERS_MAX,
	  .help = "gateway processes; 0: one a core" },
	{ "log_level", SCHEMA_CUSTOM, .parse = parse_log_level,
	  .help = "err, warn, info, debug, trace" },
	{ "door", SCHEMA_OBJECT, TOP(door), .table = door_fields, .help = "where sandboxes knock" },
	{ "cgroup", SCHEMA_OBJECT, TOP(cgroup), .table = cgroup_fields, .help = "which cgroups" },
	{ "users", SCHEMA_OBJECT, TOP(users), .table = users_fields, .help = "users of the roles" },
	{ "force", SCHEMA_OBJECT, TOP(force), .table = force_fields,
	  .help = "how connections past the gateway are led to it" },
	{ "docker", SCHEMA_PATH, TOP(docker),
	  .help = "the container runtime's socket; \"\": none" },
	{ "upstream", SCHEMA_OBJECT, TOP(upstream), .table = upstream_fields,
	  .help = "to providers" },
	{ "client", SCHEMA_OBJECT, TOP(client), .table = client_fields, .help = "from sandboxes" },
	{ "ledger", SCHEMA_OBJECT, TOP(ledger), .table = ledger_fields, .help = "the record" },
	{ 0 },
};

const struct schema_field *config_schema(void)
{
	return config_fields;
}

static const struct config config_defaults = {
	.run_dir = STR("/run/sallyport"),
	.state_dir = STR("/var/lib/sallyport"),
	.pin_dir = STR("/sys/fs/bpf/sallyport"),
	.policy = STR("/etc/sallyport/policy.hujson"),
	.prices = STR(""),
	.log_level = STR("info"),
	.door = { .port = 4117, .port_range = 8, .host = true },
	.cgroup = { .root = STR("auto"), .parent = STR("/sallyport") },
	.users = { STR("sallyport"), STR("sallyport-ledger"), STR("sallyport-dns"), STR("sallyport") },
	.force = { .vip4 = STR("198.18.0.0/16"),
		   .vip6 = STR("fd53:504c:5900::/112"),
		   .dns_port = 4153,
		   .address_grace_ns = 3600 * NSEC_PER_SEC },
	.docker = STR("/var/run/docker.sock"),
	.upstream = { .proxy = STR(""),
		      .proxy_host = STR(""),
		      .ca_file = STR(""),
		      .connect_timeout_ns = 10 * NSEC_PER_SEC,
		      .first_byte_timeout_ns = 10 * 60 * NSEC_PER_SEC,
		      .idle_timeout_ns = 30 * 60 * NSEC_PER_SEC,
		      .max_idle_connections = 64 },
	.client = { .head_timeout_ns = 10 * NSEC_PER_SEC,
		    .idle_timeout_ns = 75 * NSEC_PER_SEC,
		    .body_limit_bytes = 64ull << 20,
		    .body_memory_bytes = 512ull << 20,
		    .max_connections = 16384 },
	.ledger = { .on_error = LEDGER_CONTINUE, .journal_limit_bytes = 1ull << 30 },
};

/* `outer` is the object that holds the key, or NULL when the file leaves it out. */
static void config_complain(struct schema *s, const struct hujson *root, const char *object,
			    const char *key, const char *text)
{
	const struct hujson *v = object ? hujson_get(root, str_of(object)) : root;

	if (v && v->type == HUJSON_OBJECT && hujson_get(v, str_of(key)))
		v = hujson_get(v, str_of(key));
	if (!v)
		v = root;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a parsed file has a root */
	schema_error(s, v, "%s", text);
}

static void check_required(struct schema *s, const struct hujson *root, const struct config *c)
{
	const struct {
		const char *object, *key;
		struct str value;
	} filled[] = {
		{ NULL, "run_dir", c->run_dir },	  { NULL, "state_dir", c->state_dir },
		{ NULL, "pin_dir", c->pin_dir },	  { NULL, "policy", c->policy },
		{ "cgroup", "root", c->cgroup.root },	  { "cgroup", "parent", c->cgroup.parent },
		{ "users", "gateway", c->users.gateway }, { "users", "ledger", c->users.ledger },
		{ "users", "group", c->users.group },	  { "users", "dns", c->users.dns },
		{ "force", "vip4", c->force.vip4 },	  { "force", "vip6", c->force.vip6 },
	};
	char text[96];

	for (size_t i = 0; i < ARRAY_SIZE(filled); i++) {
		if (filled[i].value.n)
			continue;
		snprintf(text, sizeof(text), "`%s` is empty; leave it out for its default",
			 filled[i].key);
		config_complain(s, root, filled[i].object, filled[i].key, text);
	}
}

static void check_users(struct schema *s, const struct hujson *root, const struct config *c)
{
	const struct {
		const char *key;
		struct str value;
	} users[] = { { "gateway", c->users.gateway },
		      { "ledger", c->users.ledger },
		      { "dns", c->users.dns },
		      { "group", c->users.group } };

	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		int64_t id;

		if (!str_starts(users[i].value, STR("#")))
			continue;
		if (units_decimal(str_skip(users[i].value, 1), 0, &id) || id < 0 ||
		    id >= UINT32_MAX)
			config_complain(s, root, "users", users[i].key,
					"write a name, or \"#\" and a number below 4294967295");
	}
}

static void check_cgroups(struct schema *s, const struct hujson *root, const struct config *c)
{
	if (c->cgroup.root.n && !str_eq(c->cgroup.root, STR("auto")) && c->cgroup.root.s[0] != '/')
		config_complain(s, root, "cgroup", "root",
				"`root` must be \"auto\" or the absolute path of a cgroup2 mount");
	if (str_eq(c->cgroup.parent, STR("/")) || str_ends(c->cgroup.parent, STR("/")) ||
	    str_find(c->cgroup.parent, STR("/../")) || str_ends(c->cgroup.parent, STR("/..")))
		config_complain(s, root, "cgroup", "parent",
				"`parent` must be a path below the root, like \"/sallyport\"");
	for (unsigned i = 0; i < c->cgroup.n_watch; i++) {
		if (!str_starts(c->cgroup.watch[i], STR("/")))
			config_complain(
				s, root, "cgroup", "watch",
				"entries of `watch` are paths below the cgroup root, like \"/docker\"");
	}
}

static void check_pool(struct schema *s, const struct hujson *root, const char *key, struct str text, int family,
		       unsigned bits_max)
{
	struct addr_prefix prefix;
	char why[160];

	if (!text.n || (addr_prefix_parse(text, &prefix) && prefix.family == family && prefix.bits <= bits_max))
		return;
	snprintf(why, sizeof(why), "`%s` must be an IPv%d network of at most %u bits without bits behind them", key,
		 family == AF_INET ? 4 : 6, bits_max);
	config_complain(s, root, "force", key, why);
}

static void check_force(struct schema *s, const struct hujson *root, const struct config *c)
{
	struct addr_prefix prefix;
	uint8_t addr[16];
	int family;

	/* Rationale: a name keeps its address for good; fewer than 256 would be used up by one wildcard. */
	check_pool(s, root, "vip4", c->force.vip4, AF_INET, 24);
	check_pool(s, root, "vip6", c->force.vip6, AF_INET6, 120);
	for (unsigned i = 0; i < c->force.n_resolvers; i++)
		if (!addr_parse(c->force.resolvers[i], &family, addr))
			config_complain(s, root, "force", "resolvers", "entries of `resolvers` are IP addresses");
	for (unsigned i = 0; i < c->force.n_nat64; i++)
		if (!addr_prefix_parse(c->force.nat64[i], &prefix) || prefix.family != AF_INET6 || prefix.bits != 96)
			config_complain(s, root, "force", "nat64",
					"entries of `nat64` are IPv6 networks of 96 bits, like \"64:ff9b:1::/96\"");
	if (c->force.dns_port + c->door.port_range - 1 > UINT16_MAX)
		config_complain(s, root, "force", "dns_port", "the last port would be above 65535");
	if (c->force.n_nat64 > CONFIG_NAT64_MAX)
		config_complain(s, root, "force", "nat64", "more than 4 networks in `nat64`; join them");
}

/* What no single key can tell. Only on a file whose keys are all right. */
static void config_check(struct schema *s, const struct hujson *root, const struct config *c)
{
	check_required(s, root, c);
	check_users(s, root, c);
	check_cgroups(s, root, c);
	check_force(s, root, c);
	if (c->door.port + c->door.port_range - 1 > UINT16_MAX)
		config_complain(s, root, "door", "port_range",
				"the last port would be above 65535");
	if (c->client.body_limit_bytes < 1024)
		config_complain(s, root, "client", "body_limit", "`body_limit` is below 1KiB");
	/* One sandbox never gets all of it: gateway/share.h. */
	if (c->client.body_memory_bytes / 9 < c->client.body_limit_bytes / 8)
		config_complain(
			s, root, "client", "body_memory",
			"`body_memory` is not an eighth larger than `body_limit`: no large request would fit");
	if (!c->upstream.connect_timeout_ns || !c->upstream.first_byte_timeout_ns ||
	    !c->upstream.idle_timeout_ns || !c->client.head_timeout_ns ||
	    !c->client.idle_timeout_ns)
		config_complain(s, root, NULL, "client", "a timeout of 0 would refuse everything");
	if (c->ledger.journal_limit_bytes < (1u << 20))
		config_complain(s, root, "ledger", "journal_limit",
				"`journal_limit` is below 1MiB");
}

int config_parse(struct str text, struct config **ret, struct policy_diags *diags)
{
	struct config_box *box = calloc(1, sizeof(*box));
	struct arena nodes = { .max = 64u << 20 };
	struct schema s = { .diags = diags };
	struct hujson *root;

	diags->n = diags->n_errors = diags->n_dropped = 0;
	if (!box)
		return -ENOMEM;
	s.arena = &box->arena;
	box->config = config_defaults;
	if (text.n > CONFIG_TEXT_MAX) {
		diag_add(diags, true, 0, 0, "the file is larger than %u bytes", CONFIG_TEXT_MAX);
	} else {
		s.err = hujson_parse(text, &nodes, &box->arena, &root, diags);
		if (!s.err &&
		    schema_parse(&s, config_fields, "the configuration", root, &box->config) &&
		    !diags->n_errors)
			config_check(&s, root, &box->config);
	}
	arena_fini(&nodes);
	diag_sort(diags);
	if (!s.err && !diags->n_errors) {
		*ret = &box->config;
		return 0;
	}
	config_free(&box->config);
	return s.err ? s.err : -EINVAL;
}

void config_free(struct config *c)
{
	struct config_box *box = c ? container_of(c, struct config_box, config) : NULL;

	if (box)
		arena_fini(&box->arena);
	free(box);
}
