/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a policy, shared by the files that build and read it.
 *
 * Theory of operation: every form of `src` is one atom, shared by all grants that name it, with a
 * bit for each grant. Evaluation ORs the bits of the identity's atoms (tags and logins by hash,
 * cgroup and container globs one by one), and reads capabilities of the grants whose bits are set
 * until all providers of the model are decided.
 */
#pragma once

#include "common/arena.h"
#include "policy/match.h"
#include "policy/policy.h"
#include "policy/price.h"
#include "policy/schema.h"

#define PROVIDERS_MAX	   256
#define PROVIDER_WORDS	   (PROVIDERS_MAX / 64)
#define GRANTS_MAX	   4096
#define GRANT_WORDS	   (GRANTS_MAX / 64)
#define CAPABILITIES_MAX   32768
#define ATOMS_MAX	   8192
#define QUOTAS_MAX	   4096
#define GROUPS_MAX	   4096
#define GROUP_DEPTH_MAX	   32
#define LABELS_MAX	   4096
#define OVERLAPS_MAX	   100000
#define TAG_BYTES_MAX	   64
#define PROVIDER_NAME_MAX  64
#define MODEL_NAME_MAX	   256
#define ADJUSTMENT_PPM_MAX 1000000000LL /* a factor of 1000 */
/* Tags of one identity that are looked at when sets are compared; the label store holds fewer. */
#define IDENTITY_TAGS_MAX  64
#define POLICY_ARENA_BYTES (256u << 20)

struct bits256 {
	uint64_t w[PROVIDER_WORDS];
};

enum atom_kind {
	ATOM_ANY,
	ATOM_TAG,
	ATOM_SET,
	ATOM_USER,
	ATOM_CGROUP,
	ATOM_CONTAINER,
	ATOM_KIND_MAX
};

struct atom {
	enum atom_kind kind;
	struct str text;  /* "tag:x"; a set sorted and joined by commas; login; pattern */
	struct glob glob; /* cgroup, container */
	uint64_t *grants; /* a bit for each, p->grant_words long */
	unsigned line;	  /* where it was seen first */
};

/* A pattern on "provider/model". */
struct pattern {
	struct str text;
	bool crossing;		  /* the provider's part holds `**`: matched on the whole */
	struct bits256 providers; /* whose names the provider's part matches */
	struct glob model;	  /* the rest; of the whole when crossing */
};

struct capability {
	unsigned grant, line;
	bool user, admin;
	const struct pattern *patterns; /* none: it counts for every model, and grants none */
	unsigned n_patterns;
	const unsigned *quotas;
	unsigned n_quotas;
	const struct str *add_headers;
	unsigned n_add_headers;
};

struct grant {
	unsigned line;
	unsigned first, n; /* capabilities */
	unsigned rule_n;
	char rule[40];	     /* "grants[1] (line 40)" */
	unsigned n_quotas;   /* of its capabilities, those for each tag aside */
	unsigned tag_quotas; /* one bucket for each tag */
	struct str src;	     /* the first source, for people */
};

struct cost_map {
	struct glob match;
	struct str as;
	int64_t adjustment_ppm;
};

/* What only the library needs of a provider; beside struct policy_provider at the same index. */
struct provider_more {
	unsigned line;
	struct str title;	   /* `name` of Aperture, for people */
	const struct glob *models; /* those with wildcards */
	unsigned n_models;
	int basis; /* -1: search all, -2: free */
	struct str basis_name;
	const struct cost_map *maps;
	unsigned n_maps;
};
#define BASIS_ALL  (-1)
#define BASIS_FREE (-2)

/* A model that is named exactly somewhere, and who serves it. */
struct model_name {
	struct str name;
	struct bits256 providers;
};

struct quota_more {
	unsigned line;
	bool used;
	struct str before, after; /* around the template */
};

struct label_rule {
	unsigned line;
	bool has_cgroup, has_image, has_container, has_value;
	struct glob cgroup, image, container, value;
	struct str docker_label; /* empty: not asked for */
	bool from_value;
	struct str tags; /* "tag:a,tag:b" */
};

struct egress_rule {
	struct str tag;
	enum force_mode mode;
};

/* Open addressing, a power of two; 0 is empty, else index + 1. */
struct name_table {
	unsigned *slots;
	unsigned mask;
};

struct policy {
	struct arena arena;
	unsigned n_overlaps; /* patterns compared while checking */
	struct policy_provider *providers;
	struct provider_more *more;
	unsigned n_providers;
	unsigned *order; /* enabled providers, highest preference first */
	unsigned n_order;
	struct model_name *models;
	unsigned n_models;
	struct name_table model_table;
	struct bits256 has_globs; /* providers with wildcards in their models */
	struct bits256 enabled, speaks[WIRE_FORMAT_MAX];

	struct policy_quota *quotas;
	struct quota_more *quota_more;
	unsigned n_quotas;

	struct atom *atoms;
	unsigned n_atoms, atoms_cap;
	struct name_table atom_table; /* tags, sets and logins */
	unsigned *globs;	      /* atoms with patterns */
	unsigned n_globs;
	bool has_sets;
	int any_atom; /* `*`, or -1 */

	struct grant *grants;
	unsigned n_grants, grant_words;
	struct capability *capabilities;
	unsigned n_capabilities;
	uint64_t *user_bits, *admin_bits, *model_bits, *quota_bits, *header_bits; /* of grants */

	struct label_rule *labels;
	unsigned n_labels;
	struct egress_rule *egress; /* by tag */
	unsigned n_egress;
	enum force_mode egress_default;
	bool unpriced_allow;
	struct price_table prices;
};

/* The grants that count for an identity. */
struct matched {
	uint64_t all[GRANT_WORDS];
	uint64_t other[GRANT_WORDS]; /* those matched by something else than one tag */
};

static inline bool bit_test(const uint64_t *bits, unsigned i)
{
	return bits[i / 64] >> (i % 64) & 1;
}
static inline void bit_set(uint64_t *bits, unsigned i)
{
	bits[i / 64] |= 1ull << (i % 64);
}
static inline bool bits256_any(const struct bits256 *b)
{
	return (b->w[0] | b->w[1] | b->w[2] | b->w[3]) != 0;
}
static inline void bits256_and(struct bits256 *a, const struct bits256 *b)
{
	for (unsigned i = 0; i < PROVIDER_WORDS; i++)
		a->w[i] &= b->w[i];
}

/* FNV-1a with a seed; names come from the operator, not from strangers. */
uint32_t name_hash(unsigned seed, struct str s);
/* Like memcmp(), the shorter first. */
int name_order(struct str a, struct str b);
/* "tag:" + [a-z][a-z0-9-]* */
bool tag_valid(struct str s);

/* ---- building: each reports into s->diags; s->arg is the policy */
void providers_parse(struct schema *s, const struct hujson *v);
void quotas_parse(struct schema *s, const struct hujson *v);
void grants_parse(struct schema *s, const struct hujson *grants, const struct hujson *groups);
/* The groups of a file (v may be NULL), checked; NULL with s->err set. */
struct groups;
struct groups *groups_parse(struct schema *s, const struct hujson *v);
/* One entry of `src` of this grant. */
void source_add(struct schema *s, struct groups *groups, const struct hujson *v, unsigned grant);
void labels_parse(struct schema *s, const struct hujson *v);
/* `v` may be NULL: the default mode for everyone. */
void egress_parse(struct schema *s, const struct hujson *v);
void tests_run(struct schema *s, const struct hujson *v);
/* One source as in `src` or a group -> atom index; -1: reported. Not for groups. */
int atom_intern(struct schema *s, const struct hujson *v, struct str text);
/* Once all atoms and models are known. */
void atoms_index(struct schema *s);
/* Checks "Name: value"; NULL or what is wrong. */
const char *header_check(struct str line);
/* Reads `add_headers`. */
void headers_parse(struct schema *s, const struct hujson *v, const struct str **ret,
		   unsigned *ret_n);
/* "tag:a, tag:b" or one side of it: the next tag, false at the end or when one is no tag (*bad). */
bool tags_next(struct str *rest, struct str *ret_tag, bool *bad);

/* ---- reading */
int atom_lookup(const struct policy *p, enum atom_kind kind, struct str text);
void grants_match(const struct policy *p, const struct policy_facts *who, struct matched *ret);
/* Provider and rest of "provider/model"; false when no provider is named. */
bool model_split(const struct policy *p, struct str name, unsigned *ret_provider,
		 struct str *ret_model);
bool pattern_match(const struct policy *p, const struct pattern *pattern, unsigned provider,
		   struct str model);
bool capability_covers(const struct policy *p, const struct capability *c, unsigned provider,
		       struct str model);
/* The enabled providers of a model, whatever the format. */
void providers_of_model(const struct policy *p, struct str model, struct bits256 *ret);
/* As policy_charges(), but POLICY_CHARGES_MAX + 1 when they would be more. */
unsigned charges_collect(const struct policy *p, const struct policy_facts *who, unsigned provider,
			 struct str model, struct policy_charge ret[POLICY_CHARGES_MAX]);

/* Rationale: clients show such lists to people; what is longer is cut. */
#define NAME_LIST_MAX 1024
struct name_list {
	struct str names[NAME_LIST_MAX];
	unsigned n;
};
/* Each name once. */
void name_list_add(struct name_list *list, struct str name);
/* The basis and entry behind policy_price(); `ret_as` is the name that was looked up. */
bool price_resolve(const struct policy *p, unsigned provider, struct str model,
		   struct policy_price *ret, struct str *ret_as);
