/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"

#include <errno.h>

#include "policy/config.h"
#include "policy/schema.h"

static struct policy_diags diags;

static struct config *parse(const char *text)
{
	struct config *c = NULL;
	int err = config_parse(str_of(text), &c, &diags);

	CHECK(err == (c ? 0 : -EINVAL));
	CHECK((diags.n_errors == 0) == (c != NULL));
	return c;
}

static void defaults(void)
{
	struct config *c = parse("{}");

	if (!c)
		return;
	CHECK_STR(c->run_dir.s, "/run/sallyport");
	CHECK_STR(c->state_dir.s, "/var/lib/sallyport");
	CHECK_STR(c->pin_dir.s, "/sys/fs/bpf/sallyport");
	CHECK_STR(c->policy.s, "/etc/sallyport/policy.hujson");
	CHECK_STR(c->prices.s, "");
	CHECK_STR(c->log_level.s, "info");
	CHECK(c->workers == 0 && c->door.port == 4117 && c->door.port_range == 8 && c->door.host);
	CHECK_STR(c->cgroup.root.s, "auto");
	CHECK_STR(c->cgroup.parent.s, "/sallyport");
	CHECK_INT(c->cgroup.n_watch, 0);
	CHECK_STR(c->users.gateway.s, "sallyport");
	CHECK_STR(c->users.ledger.s, "sallyport-ledger");
	CHECK_STR(c->users.dns.s, "sallyport-dns");
	CHECK_STR(c->force.vip4.s, "198.18.0.0/16");
	CHECK_INT(c->force.dns_port, 4153);
	CHECK_STR(c->users.group.s, "sallyport");
	CHECK_STR(c->docker.s, "/var/run/docker.sock");
	CHECK_STR(c->upstream.proxy.s, "");
	CHECK_STR(c->upstream.proxy_host.s, "");
	CHECK_INT(c->upstream.connect_timeout_ns, 10 * NSEC_PER_SEC);
	CHECK_INT(c->upstream.first_byte_timeout_ns, 600 * NSEC_PER_SEC);
	CHECK_INT(c->upstream.idle_timeout_ns, 1800 * NSEC_PER_SEC);
	CHECK_INT(c->upstream.max_idle_connections, 64);
	CHECK_INT(c->client.head_timeout_ns, 10 * NSEC_PER_SEC);
	CHECK_INT(c->client.idle_timeout_ns, 75 * NSEC_PER_SEC);
	CHECK_INT(c->client.body_limit_bytes, 64 << 20);
	CHECK_INT(c->client.body_memory_bytes, 512 << 20);
	CHECK_INT(c->client.max_connections, 16384);
	CHECK(c->ledger.on_error == LEDGER_CONTINUE && c->ledger.retention_ns == 0);
	CHECK_INT(c->ledger.journal_limit_bytes, 1 << 30);
	config_free(c);
}

static void everything(void)
{
	struct config *c = parse(
		"{ \"run_dir\": \"/r\", \"state_dir\": \"/s\", \"pin_dir\": \"/p\", \"policy\": \"/pol\","
		"\"prices\": \"/prices\", \"workers\": 3, \"log_level\": \"debug\","
		"\"door\": { \"port\": 80, \"port_range\": 1, \"host\": false },"
		"\"cgroup\": { \"root\": \"/sys/fs/cgroup\", \"parent\": \"/a/b\", \"watch\": [\"/docker\", \"/lxc\"] },"
		"\"users\": { \"gateway\": \"#1000\", \"ledger\": \"#1001\", \"group\": \"g\" }, \"docker\": \"\","
		"\"upstream\": { \"proxy\": \"http://[::1]:3128/\", \"ca_file\": \"/ca\", \"connect_timeout\": \"1s\","
		"\"first_byte_timeout\": \"2m\", \"idle_timeout\": \"1h30m\", \"max_idle_connections\": 0 },"
		"\"client\": { \"head_timeout\": \"500ms\", \"idle_timeout\": \"5s\", \"body_limit\": \"1MiB\","
		"\"body_memory\": 2097152, \"max_connections\": 10 },"
		"\"ledger\": { \"on_error\": \"stop\", \"journal_limit\": \"16MiB\", \"retention\": \"30d\" }, }");

	if (!c)
		return;
	CHECK_STR(c->run_dir.s, "/r");
	CHECK_INT(c->workers, 3);
	CHECK(c->door.port == 80 && c->door.port_range == 1 && !c->door.host);
	CHECK(c->cgroup.n_watch == 2 && str_eq(c->cgroup.watch[1], STR("/lxc")));
	CHECK_STR(c->users.gateway.s, "#1000");
	CHECK_STR(c->docker.s, "");
	CHECK_STR(c->upstream.proxy_host.s, "::1");
	CHECK_INT(c->upstream.proxy_port, 3128);
	CHECK_INT(c->upstream.idle_timeout_ns, 5400 * NSEC_PER_SEC);
	CHECK_INT(c->client.head_timeout_ns, 500 * NSEC_PER_MSEC);
	CHECK_INT(c->client.body_memory_bytes, 2097152);
	CHECK(c->ledger.on_error == LEDGER_STOP);
	CHECK_INT(c->ledger.retention_ns, 30 * 86400 * NSEC_PER_SEC);
	config_free(c);
}

static void mistakes(void)
{
	static const struct {
		const char *text, *want;
		unsigned line, column;
	} cases[] = {
		{ "{\n\t\"works\": 3 }",
		  "unknown key `works` in the configuration (did you mean `workers`?)", 2, 2 },
		{ "{\"door\":\n{\"prot\":1}}",
		  "unknown key `prot` in `door` (did you mean `port`?)", 2, 2 },
		{ "{\"workers\": \"3\"}", "`workers` is a string; it must be a number", 1, 13 },
		{ "{\"workers\": 1.5}", "`workers` must be a whole number", 1, 13 },
		{ "{\"workers\": -1}", "must be between 0 and 63", 1, 13 },
		{ "{\"door\":{\"port\":0}}", "must be between 1 and 65535", 1, 17 },
		{ "{\"door\":{\"port\":65535,\"port_range\":2}}",
		  "the last port would be above 65535", 1, 36 },
		{ "{\"log_level\":\"infos\"}",
		  "it must be err, warn, info, debug or trace (did you mean `info`?)", 1, 14 },
		{ "{\"run_dir\":\"run\"}", "it must be an absolute path", 1, 12 },
		{ "{\"run_dir\":\"\"}", "`run_dir` is empty; leave it out for its default", 1, 12 },
		{ "{\"users\":{\"gateway\":\"#x\"}}", "write a name, or \"#\" and a number", 1,
		  21 },
		{ "{\"cgroup\":{\"parent\":\"/\"}}", "must be a path below the root", 1, 21 },
		{ "{\"cgroup\":{\"root\":\"here\"}}", "must be \"auto\" or the absolute path", 1,
		  19 },
		{ "{\"cgroup\":{\"watch\":[\"docker\"]}}", "paths below the cgroup root", 1, 20 },
		{ "{\"cgroup\":{\"watch\":\"/docker\"}}", "`watch` is a string; it must be a list",
		  1, 20 },
		{ "{\"upstream\":{\"proxy\":\"https://x:1\"}}", "write it as \"http://HOST:PORT\"",
		  1, 22 },
		{ "{\"upstream\":{\"proxy\":\"http://x\"}}", "write it as \"http://HOST:PORT\"", 1,
		  22 },
		{ "{\"upstream\":{\"proxy\":\"http://u:p@x:1\"}}",
		  "write it as \"http://HOST:PORT\"", 1, 22 },
		{ "{\"upstream\":{\"connect_timeout\":10}}",
		  "`connect_timeout` is a number; it must be a string", 1, 32 },
		{ "{\"upstream\":{\"connect_timeout\":\"10\"}}", "write a duration with its unit",
		  1, 32 },
		{ "{\"client\":{\"idle_timeout\":\"0s\"}}",
		  "a timeout of 0 would refuse everything", 1, 11 },
		{ "{\"client\":{\"body_limit\":\"64 MB!\"}}", "write a size like", 1, 25 },
		{ "{\"client\":{\"body_limit\":\"2GiB\"}}", "is not an eighth larger than `body_limit`", 1, 11 },
		{ "{\"ledger\":{\"on_error\":\"ignore\"}}",
		  "it must be one of \"continue\", \"stop\"", 1, 23 },
		{ "{\"force\":{\"vip4\":\"198.18.0.0/28\"}}", "must be an IPv4 network of at most 24 bits", 1, 18 },
		{ "{\"force\":{\"vip6\":\"198.18.0.0/16\"}}", "must be an IPv6 network", 1, 18 },
		{ "{\"force\":{\"resolvers\":[\"dns.test\"]}}", "entries of `resolvers` are IP addresses", 1, 23 },
		{ "{\"force\":{\"nat64\":[\"64:ff9b:1::/64\"]}}", "are IPv6 networks of 96 bits", 1, 19 },
		{ "[]", "the configuration is a list; it must be an object", 1, 1 },
		{ "", "the file ends where a value should stand", 1, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK(!parse(cases[i].text));
		CHECK_INT(diags.n_errors, 1);
		if (!strstr(diags.items[0].text, cases[i].want))
			printf("said: %s\n", diags.items[0].text);
		CHECK(strstr(diags.items[0].text, cases[i].want) != NULL);
		if (diags.items[0].line != cases[i].line ||
		    diags.items[0].column != cases[i].column)
			printf("case %zu\n", i);
		CHECK_INT(diags.items[0].line, cases[i].line);
		CHECK_INT(diags.items[0].column, cases[i].column);
	}
}

static void all_at_once(void)
{
	CHECK(!parse("{\"workers\": \"x\", \"door\": {\"port\": \"y\", \"z\": 1}, \"q\": 1}"));
	CHECK_INT(diags.n_errors, 4);
	CHECK(diags.items[0].column < diags.items[1].column);
}

/* Every key of every table stands in its manual page; run from the root of the tree. */
static void in_manual(const char *page, const struct schema_field *table, unsigned *missing)
{
	for (const struct schema_field *f = table; f->key; f++) {
		char quoted[64];

		snprintf(quoted, sizeof(quoted), "`%s`", f->key);
		if (!strstr(page, quoted)) {
			printf("not in the manual: %s\n", f->key);
			++*missing;
		}
		if (f->table)
			in_manual(page, f->table, missing);
	}
}

static void check_manual(const char *path, const struct schema_field *const *tables, size_t n)
{
	static char page[1 << 17];
	FILE *f = fopen(path, "r");
	unsigned missing = 0;
	size_t size;

	CHECK(f != NULL);
	if (!f)
		return;
	size = fread(page, 1, sizeof(page) - 1, f);
	fclose(f);
	page[size] = '\0';
	for (size_t i = 0; i < n; i++)
		in_manual(page, tables[i], &missing);
	CHECK_INT(missing, 0);
}

static void manuals(void)
{
	const struct schema_field *const config[] = { config_schema() };
	const struct schema_field *const policy[] = { policy_schema(),	   provider_schema(),
						      quota_schema(),	   grant_schema(),
						      capability_schema(), label_schema(),
						      test_schema() };

	check_manual("docs/sallyport-config.5.md", config, ARRAY_SIZE(config));
	check_manual("docs/sallyport-policy.5.md", policy, ARRAY_SIZE(policy));
}

TESTS(T(defaults), T(everything), T(mistakes), T(all_at_once), T(manuals))
