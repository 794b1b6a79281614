/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/cert.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "common/base.h"

#define DAY (24 * 3600)

static void free_x509(X509 **p)
{
	X509_free(*p);
}
#define auto_x509 cleanup(free_x509)

EVP_PKEY *cert_key_new(void)
{
	return EVP_EC_gen("P-256");
}

struct str cert_permitted_name(struct str domain)
{
	const char *star = domain.n ? memrchr(domain.s, '*', domain.n) : NULL;
	const char *dot = star ? memchr(star, '.', (size_t)(domain.s + domain.n - star)) : NULL;

	if (!star)
		return domain;
	return dot ? str_skip(domain, (size_t)(dot + 1 - domain.s)) : STR_NULL;
}

/* ------------------------------------------------------------------ parts */

/* 127 random bits: a serial number is positive (RFC 5280, 4.1.2.2) and not to be guessed. */
static int set_serial(X509 *x)
{
	unsigned char bytes[16];
	BIGNUM *n;
	int ok;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return 0;
	bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40);
	n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));
	BN_free(n);
	return ok;
}

static int add_text_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	int ok;

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	ok = ext && X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
	return ok;
}

static int set_times(X509 *x, time_t from, time_t until)
{
	return ASN1_TIME_set(X509_getm_notBefore(x), from) && ASN1_TIME_set(X509_getm_notAfter(x), until);
}

static int set_name(X509_NAME *name, const char *common_name)
{
	return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0);
}

static GENERAL_SUBTREE *subtree_new(int type, const void *data, size_t n)
{
	GENERAL_SUBTREE *sub = GENERAL_SUBTREE_new();
	ASN1_STRING *value = ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);

	if (!sub || !value || !ASN1_STRING_set(value, data, (int)n)) {
		GENERAL_SUBTREE_free(sub);
		ASN1_STRING_free(value);
		return NULL;
	}
	GENERAL_NAME_set0_value(sub->base, type, value);
	return sub;
}

static int push_subtree(STACK_OF(GENERAL_SUBTREE) *list, int type, const void *data, size_t n)
{
	GENERAL_SUBTREE *sub = subtree_new(type, data, n);

	if (sub && sk_GENERAL_SUBTREE_push(list, sub) > 0)
		return 1;
	GENERAL_SUBTREE_free(sub);
	return 0;
}

/*
 * A kind of name that is not mentioned is not constrained at all (RFC 5280, 4.2.1.10). A TLS client asks for host names
 * and addresses: all addresses are excluded, as address and mask of zeroes.
 */
static int add_constraints(X509 *x, const struct str *names, unsigned n)
{
	static const unsigned char nothing[32];
	NAME_CONSTRAINTS *nc = NAME_CONSTRAINTS_new();
	int ok = 0;

	if (nc) {
		nc->permittedSubtrees = sk_GENERAL_SUBTREE_new_null();
		nc->excludedSubtrees = sk_GENERAL_SUBTREE_new_null();
		ok = nc->permittedSubtrees && nc->excludedSubtrees;
		for (unsigned i = 0; ok && i < n; i++)
			ok = push_subtree(nc->permittedSubtrees, GEN_DNS, names[i].s, names[i].n);
		ok = ok && push_subtree(nc->excludedSubtrees, GEN_IPADD, nothing, 8) &&
		     push_subtree(nc->excludedSubtrees, GEN_IPADD, nothing, 32) &&
		     X509_add1_ext_i2d(x, NID_name_constraints, nc, 1, X509V3_ADD_DEFAULT) == 1;
	}
	NAME_CONSTRAINTS_free(nc);
	return ok;
}

/* ------------------------------------------------------------------ certificates */

static int add_ca_extensions(X509 *x)
{
	char basic[64];

	/* A chain over all generations has so many intermediate certificates. */
	snprintf(basic, sizeof(basic), "critical,CA:TRUE,pathlen:%d", CA_GENERATIONS - 1);
	return add_text_extension(x, x, NID_basic_constraints, basic) &&
	       add_text_extension(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") &&
	       add_text_extension(x, x, NID_subject_key_identifier, "hash");
}

int cert_ca_new(EVP_PKEY *key, struct str host, const struct str *names, unsigned n, time_t now, X509 **ret)
{
	auto_x509 X509 *x = X509_new();
	unsigned char id[4];
	char name[65]; /* ub-common-name (RFC 5280, A.1) */

	if (!n)
		return -EINVAL; /* without a permitted name it would be constrained in nothing */
	if (!x || RAND_bytes(id, sizeof(id)) != 1)
		return -ENOMEM;
	snprintf(name, sizeof(name), "Sallyport CA %.*s, %02x%02x%02x%02x", (int)MIN(host.n, (size_t)40), host.s, id[0],
		 id[1], id[2], id[3]);
	if (!X509_set_version(x, X509_VERSION_3) || !set_serial(x) || !X509_set_pubkey(x, key) ||
	    !set_times(x, now - CLOCK_SKEW_SECONDS, now + (time_t)CA_DAYS * DAY) ||
	    !set_name(X509_get_subject_name(x), name) || !X509_set_issuer_name(x, X509_get_subject_name(x)) ||
	    !add_ca_extensions(x) || !add_constraints(x, names, n) || !X509_sign(x, key, EVP_sha256())) {
		ERR_clear_error();
		return -ENOMEM;
	}
	*ret = TAKE_PTR(x);
	return 0;
}

int cert_cross_new(X509 *ca, X509 *by, EVP_PKEY *by_key, X509 **ret)
{
	auto_x509 X509 *x = X509_dup(ca);
	time_t until = MIN(cert_until(ca), cert_until(by));

	if (!x || !set_serial(x) || !X509_set_issuer_name(x, X509_get_subject_name(by)) ||
	    !set_times(x, cert_from(ca), until) || !add_text_extension(x, by, NID_authority_key_identifier, "keyid:always") ||
	    !X509_sign(x, by_key, EVP_sha256())) {
		ERR_clear_error();
		return -ENOMEM;
	}
	*ret = TAKE_PTR(x);
	return 0;
}

int cert_leaf_new(X509 *ca, EVP_PKEY *ca_key, EVP_PKEY *key, struct str name, time_t now, X509 **ret)
{
	auto_x509 X509 *x = X509_new();
	time_t until = MIN(now + LEAF_SECONDS, cert_until(ca));
	char text[300];

	/*
	 * The name is one of host_name_copy(): nothing in it means anything to the parser of extensions. No subject: a long
	 * name would not fit, and then the alternative name must be critical (RFC 5280, 4.2.1.6).
	 */
	snprintf(text, sizeof(text), "critical,DNS:%.*s", STR_ARG(name));
	if (!x || !X509_set_version(x, X509_VERSION_3) || !set_serial(x) || !X509_set_pubkey(x, key) ||
	    !set_times(x, now - CLOCK_SKEW_SECONDS, until) ||
	    !X509_set_issuer_name(x, X509_get_subject_name(ca)) ||
	    !add_text_extension(x, ca, NID_basic_constraints, "critical,CA:FALSE") ||
	    !add_text_extension(x, ca, NID_key_usage, "critical,digitalSignature") ||
	    !add_text_extension(x, ca, NID_ext_key_usage, "serverAuth") ||
	    !add_text_extension(x, ca, NID_subject_key_identifier, "hash") ||
	    !add_text_extension(x, ca, NID_authority_key_identifier, "keyid:always") ||
	    !add_text_extension(x, ca, NID_subject_alt_name, text) || !X509_sign(x, ca_key, EVP_sha256())) {
		ERR_clear_error();
		return -ENOMEM;
	}
	*ret = TAKE_PTR(x);
	return 0;
}

/* ------------------------------------------------------------------ questions */

static time_t time_of(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) == 1 ? timegm(&tm) : 0;
}

time_t cert_until(const X509 *cert)
{
	return time_of(X509_get0_notAfter(cert));
}

time_t cert_from(const X509 *cert)
{
	return time_of(X509_get0_notBefore(cert));
}

bool cert_key_fits(const X509 *cert, EVP_PKEY *key)
{
	EVP_PKEY *has = X509_get0_pubkey(cert);

	return has && EVP_PKEY_eq(has, key) == 1;
}

bool cert_ca_permits(X509 *ca, const struct str *names, unsigned n)
{
	NAME_CONSTRAINTS *nc = X509_get_ext_d2i(ca, NID_name_constraints, NULL, NULL);
	bool same = nc && nc->permittedSubtrees && sk_GENERAL_SUBTREE_num(nc->permittedSubtrees) == (int)n;

	for (unsigned i = 0; same && i < n; i++) {
		const GENERAL_NAME *base = sk_GENERAL_SUBTREE_value(nc->permittedSubtrees, (int)i)->base;

		same = base->type == GEN_DNS &&
		       str_eq(names[i], (struct str){ (const char *)ASN1_STRING_get0_data(base->d.dNSName),
						      (size_t)ASN1_STRING_length(base->d.dNSName) });
	}
	NAME_CONSTRAINTS_free(nc);
	return same;
}

void cert_fingerprint(const X509 *cert, char ret[CERT_FINGERPRINT_BYTES])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	ret[0] = '\0';
	if (!X509_digest(cert, EVP_sha256(), md, &n))
		return;
	for (unsigned i = 0; i < n && i < 32; i++)
		snprintf(ret + 3 * i, 4, "%02X%s", md[i], i + 1 < n ? ":" : "");
}
