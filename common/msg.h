/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every message between roles, and between the command line and the agent. Fixed-size payloads, strings
 * NUL-terminated inside their arrays. docs/PROTOCOL.md says who sends what when.
 */
#pragma once

#include <stdint.h>

#define MSG_VERSION 2

#define MSG_PATH_BYTES  512
#define MSG_TAGS_BYTES  512 /* "tag:a,tag:b" */
#define MSG_NAME_BYTES  128
#define MSG_IMAGE_BYTES 256
#define MSG_TEXT_BYTES  512
#define MSG_HOST_BYTES  256 /* a host name has 253 at most (RFC 1035, 2.3.4) */

enum msg_type {
	/* agent -> gateway worker, in this order at start: SETUP, CONFIG, RULES (with KEYs), LABELs, DOORs */
	MSG_SETUP = 1,   /* struct msg_setup + fds: journal directory, balances, live slots, doorbell */
	MSG_CONFIG,      /* fds: text of the configuration; for a worker and the DNS role also the doors' lock */
	MSG_RULES,       /* struct msg_rules + fds: policy text, prices text (may be empty) */
	MSG_KEY,         /* struct msg_key + fd: the key's bytes; belongs to the next COMMIT */
	MSG_COMMIT,      /* struct msg_rules: swap to the RULES and KEYs just sent */
	MSG_LABEL,       /* struct msg_sandbox: new or changed */
	MSG_UNLABEL,     /* struct msg_sandbox: gone; only label_id and label_gen count */
	MSG_DOOR,        /* struct msg_door + 1..2 fds: listening sockets of one network namespace */
	MSG_DOOR_CLOSE,  /* struct msg_door */
	MSG_STOP,        /* no payload: finish what runs, then exit */
	/*
	 * fds: the CA's certificates (PEM, the one that signs first), its private key (PEM); from the CA role to the
	 * agent also what sandboxes are to trust (PEM), and what people are told of it (JSON)
	 */
	MSG_CA,
	MSG_NAME,        /* struct msg_name: a provider's name; also to the DNS role */
	MSG_SOCKET,      /* struct msg_socket + fd: what SOCKET_WANTED asked for; without fd `err` says why not */
	MSG_NO_RULES,    /* struct msg_result: no policy is in force, and why */
	MSG_LIVE_LEFT,   /* fd: live slots of a worker that died with a former agent, to be recorded */

	/* gateway worker -> agent */
	MSG_READY = 32,  /* no payload: doors are served */
	MSG_RULES_RESULT, /* struct msg_result of a COMMIT */
	MSG_KEY_BAD,     /* struct msg_key without fd: the provider refused it */
	MSG_SOCKET_WANTED, /* struct msg_socket: a socket in the network namespace of a door; also from the DNS role */

	/* agent -> DNS role, after CONFIG */
	MSG_DNS_DOOR = 40, /* struct msg_dns_door + fds: UDP, TCP listener, UDP to ask with; with v6 the same three again */
	MSG_DNS_DOOR_CLOSE, /* struct msg_dns_door */
	MSG_DNS_PATTERN,   /* struct msg_name: "*.example.com", only `name` and `active` count */

	/* DNS role -> agent (and READY, SOCKET_WANTED) */
	MSG_NAME_WANTED,   /* struct msg_name_wanted: one that a pattern covers was asked for; NAME answers */
	MSG_ADDRESS,       /* struct msg_address: what the host's resolvers say of a provider's name */

	/* agent -> ledger role */
	MSG_LEDGER_SETUP = 48, /* struct msg_setup + fds: journal root, database directory, balances, listener */
	MSG_DOORBELL,    /* struct msg_setup (worker number counts) + fd: eventfd of that worker's journal */

	/* agent -> CA role: CONFIG, CA_SETUP, a DNS_PATTERN for each domain of a provider, STOP; CA or RESULT answers */
	MSG_CA_SETUP = 56, /* struct msg_ca_setup + fd: the CA's directory */

	/* command line -> agent */
	MSG_CTL_LABEL = 64, /* struct msg_target */
	MSG_CTL_UNLABEL,    /* struct msg_target */
	MSG_CTL_RUN,        /* struct msg_target: answer carries a cgroup descriptor */
	MSG_CTL_LIST,       /* no payload: MSG_SANDBOX …, MSG_END */
	MSG_CTL_STATUS,     /* no payload */
	MSG_CTL_RELOAD,     /* no payload */
	MSG_CTL_KEYS,       /* no payload: MSG_KEY_ROW …, MSG_END */
	MSG_CTL_FORCE,      /* struct msg_force_wish: MSG_FORCE, or MSG_RESULT of a change */
	MSG_CTL_CA_ROTATE = 80, /* no payload: a new CA is made */

	/* agent -> command line */
	MSG_RESULT = 96, /* struct msg_result (+ cgroup descriptor for RUN) */
	MSG_SANDBOX,     /* struct msg_sandbox */
	MSG_KEY_ROW,     /* struct msg_key_row */
	MSG_STATUS,      /* struct msg_status */
	MSG_FORCE,       /* struct msg_force */
	MSG_END,         /* no payload */
};

/* A file of live slots of this size holds no running request: gateway/live.c. */
#define LIVE_EMPTY_BYTES 64

struct msg_setup {
	uint32_t worker;     /* its slot: no other worker has it, of this agent or a former one */
	uint32_t generation; /* of the agent that started it; in the journal's name; 0: the agent's own journal */
};

struct msg_rules {
	uint64_t generation;
};

struct msg_key {
	char provider[MSG_NAME_BYTES];
};

/* How a cgroup came to its label. */
enum sandbox_origin { ORIGIN_EXPLICIT, ORIGIN_RULE, ORIGIN_RUN, ORIGIN_UNLABELLED, ORIGIN_MAX };

/* A sandbox as everyone sees it: agent, gateway, command line. */
struct msg_sandbox {
	uint32_t label_id; /* never 0, never reused while the agent's state lives */
	uint32_t label_gen; /* grows when the tags change */
	uint64_t cgroup_id;
	uint64_t since_ns; /* wall clock */
	uint32_t origin;   /* enum sandbox_origin; ORIGIN_UNLABELLED: watched, but without a tag */
	uint32_t n_procs;  /* filled for LIST only */
	uint32_t n_doors;
	uint32_t door_port; /* of its last opened door; 0: none */
	uint32_t mode;      /* enum force_mode, as the policy in force has it */
	uint32_t pad;
	char path[MSG_PATH_BYTES]; /* below the cgroup2 root */
	char tags[MSG_TAGS_BYTES];
	char container[MSG_NAME_BYTES];
	char image[MSG_IMAGE_BYTES];
	char note[MSG_NAME_BYTES]; /* what the operator should know ("force: unavailable (runtime runsc)") */
};

struct msg_door {
	uint64_t door_id;
	uint64_t netns_cookie;
	uint32_t port;
	uint32_t is_host;
};

/* A provider's host name. Ids and virtual addresses stay with a name as long as the agent's state lives. */
struct msg_name {
	uint32_t name_id; /* never 0 */
	uint32_t active;  /* 0: no provider has it any more; it is a name like any other */
	uint8_t vip4[4], vip6[16]; /* network byte order */
	uint32_t pad;
	char name[MSG_HOST_BYTES]; /* lower case, without a final dot */
};

/* A sandbox asks for a name below a wildcard that has no addresses yet. */
struct msg_name_wanted {
	uint64_t cgroup_id;
	char name[MSG_HOST_BYTES];
};

struct msg_address {
	uint32_t name_id;
	uint32_t family; /* AF_INET, AF_INET6 */
	uint8_t addr[16];
	uint32_t ttl_s, pad;
};

/* Asked for and answered: a close-on-exec, non-blocking socket that no program of a sandbox touches. */
struct msg_socket {
	uint64_t netns_cookie; /* of a door that is open */
	uint32_t token;        /* the asker's, repeated in the answer */
	uint32_t family;       /* AF_INET, AF_INET6 */
	uint32_t type;         /* SOCK_STREAM, SOCK_DGRAM */
	int32_t err;           /* of the answer */
};

struct msg_ca_setup {
	uint32_t rotate; /* make a new one, whether or not it is time */
	uint32_t pad;
};

struct msg_dns_door {
	uint64_t netns_cookie;
	uint32_t port;
	uint32_t is_host; /* the host's own namespace: addresses of providers' names are asked for from here */
};

struct msg_target {
	char target[MSG_PATH_BYTES]; /* /path, pid:N, unit:NAME, docker:NAME; RUN: a name for the cgroup or "" */
	char tags[MSG_TAGS_BYTES];
};

struct msg_result {
	int32_t err; /* 0 or negative errno */
	uint32_t pad;
	uint64_t generation;
	char text[MSG_TEXT_BYTES]; /* a sentence with its cure when err */
	struct msg_sandbox sandbox; /* of LABEL, UNLABEL, RUN */
};

struct msg_key_row {
	char provider[MSG_NAME_BYTES];
	char source[MSG_PATH_BYTES]; /* "file:/etc/…", never a literal's text */
	char state[MSG_NAME_BYTES];  /* "ok", or what is wrong and the cure */
	uint64_t changed_ns;
};

enum force_wish { FORCE_WISH_STATUS, FORCE_WISH_ON, FORCE_WISH_OFF, FORCE_WISH_MAX };
struct msg_force_wish {
	uint32_t wish; /* enum force_wish */
	uint32_t pad;
};

#define MSG_FORCE_TESTS	 12
#define MSG_FORCE_COUNTS 48
struct msg_force {
	uint32_t mode; /* enum force_mode of identities without a tag */
	uint32_t is_off;
	uint32_t n_names, n_addresses, n_tests, n_guards;
	char text[MSG_TEXT_BYTES]; /* the state in one line */
	struct {
		char step[48];
		char result[MSG_NAME_BYTES]; /* "ok", or what is wrong */
	} tests[MSG_FORCE_TESTS];
	char count_names[MSG_FORCE_COUNTS][24]; /* "" at the end */
	uint64_t counts[MSG_FORCE_COUNTS];
};

struct msg_status {
	char version[32];
	char kernel[64];
	char cgroup_root[MSG_PATH_BYTES];
	char policy_path[MSG_PATH_BYTES];
	char policy_error[MSG_TEXT_BYTES]; /* why the newest file is not in force, or "" */
	char stamp[MSG_TEXT_BYTES];        /* "ok", or why connections cannot be stamped */
	char force[MSG_TEXT_BYTES];
	uint64_t policy_generation, started_ns;
	uint32_t pid, n_workers, n_workers_ready, n_sandboxes, n_doors, host_port;
	uint32_t ledger_pid, restarts;
	uint64_t events_lost;
};
_Static_assert(sizeof(struct msg_status) % 8 == 0 && sizeof(struct msg_result) % 8 == 0 &&
		       sizeof(struct msg_sandbox) % 8 == 0,
	       "payloads have no tail padding of their own");
