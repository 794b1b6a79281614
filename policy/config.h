/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's configuration, /etc/sallyport/config.hujson: one struct read by agent, gateway, ledger
 * and cli. Every key has a default, so an empty object is a whole configuration.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"
#include "policy/policy.h"

#define CONFIG_PATH	"/etc/sallyport/config.hujson"
#define CONFIG_TEXT_MAX (1u << 20)

/* Rationale: the kernel looks at each of them for each connect. */
#define CONFIG_NAT64_MAX 4

enum config_ledger_error { LEDGER_CONTINUE, LEDGER_STOP, LEDGER_ERROR_MAX };

/*
 * All strings belong to the struct, are never NULL, and are followed by a NUL byte, so `x.s` can be
 * handed to a system call. They hold no NUL inside.
 */
struct config {
	struct str run_dir, state_dir, pin_dir;
	struct str policy;    /* path of the policy file */
	struct str prices;    /* path of a price table; empty: the built-in one */
	unsigned workers;     /* 0: one for each core */
	struct str log_level; /* a word that log_level_parse() takes: "err" … "trace" */
	struct {
		uint16_t port;
		uint16_t port_range; /* ports tried: port … port + port_range - 1 */
		bool host;	     /* open the door in the host's network namespace too */
	} door;
	struct {
		struct str root;	 /* a mount of cgroup2, or "auto" */
		struct str parent;	 /* "/sallyport": what we create lies below it */
		const struct str *watch; /* parents whose children are sandboxes */
		unsigned n_watch;
	} cgroup;
	struct {
		struct str gateway, ledger, dns, group; /* a name or "#NUMBER" */
	} users;
	struct {
		struct str vip4, vip6;	     /* pools of virtual addresses: "198.18.0.0/16" */
		const struct str *resolvers; /* name servers for providers' names; none: the host's */
		unsigned n_resolvers;
		const struct str *nat64; /* /96 prefixes that embed v4 addresses */
		unsigned n_nat64;
		uint16_t dns_port;	/* first port of the DNS role in a sandbox; as many are tried as of the door */
		uint64_t address_grace_ns; /* a provider's address counts so long after its TTL */
	} force;
	struct str docker; /* unix socket path; empty: none */
	struct {
		struct str proxy;      /* "http://host:port" or empty */
		struct str proxy_host; /* of it, without brackets; empty without a proxy */
		uint16_t proxy_port;
		struct str ca_file; /* empty: the system's */
		uint64_t connect_timeout_ns, first_byte_timeout_ns, idle_timeout_ns;
		unsigned max_idle_connections;
	} upstream;
	struct {
		uint64_t head_timeout_ns, idle_timeout_ns;
		uint64_t body_limit_bytes;  /* of one request */
		uint64_t body_memory_bytes; /* of all requests that are held at once */
		unsigned max_connections;
	} client;
	struct {
		enum config_ledger_error on_error;
		uint64_t journal_limit_bytes;
		uint64_t retention_ns; /* 0: forever */
	} ledger;
};

/* 0, -EINVAL (see diags) or -ENOMEM; *ret is untouched on failure. `text` is not kept. */
int config_parse(struct str text, struct config **ret, struct policy_diags *diags);
/* Accepts NULL. */
void config_free(struct config *c);
