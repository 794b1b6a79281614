/* SPDX-License-Identifier: Apache-2.0 */
/* The host's CA: what it may sign, how it changes, and that who trusts only a former one finds a way. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "gateway/ca.h"
#include "gateway/cert.h"
#include "tests/unit/test.h"

#define NOW 1900000000
#define DAY 86400

static char folder[64];

static int new_folder(void)
{
	snprintf(folder, sizeof(folder), "/tmp/sallyport-ca-XXXXXX");
	CHECK(mkdtemp(folder) != NULL);
	return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void remove_folder(int dir)
{
	static const char *const files[] = { "ca.key", "ca.pem", "cross.pem", "old.pem" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		unlinkat(dir, files[i], 0);
	CHECK_INT(rmdir(folder), 0); /* nothing else is left */
	close(dir);
}

static struct ca *get(int dir, const char *domains, bool rotate, time_t now)
{
	struct str list[32];
	struct ca *ca = NULL;
	unsigned n = 0;

	for (const char *p = domains; *p;) {
		size_t len = strcspn(p, " ");

		list[n++] = (struct str){ p, len };
		p += len + (p[len] == ' ');
	}
	CHECK_INT(ca_open(dir, STR("box"), list, n, rotate, now, &ca), 0);
	return ca;
}

static STACK_OF(X509) *certs_of(int fd)
{
	STACK_OF(X509) *list = sk_X509_new_null();
	BIO *bio;
	X509 *x;

	CHECK(fd >= 0);
	lseek(fd, 0, SEEK_SET);
	bio = BIO_new_fd(fd, BIO_CLOSE);
	while ((x = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
		sk_X509_push(list, x);
	BIO_free(bio);
	return list;
}

static EVP_PKEY *key_of(const struct ca *ca)
{
	BIO *bio = BIO_new_fd(ca_key(ca), BIO_CLOSE);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);

	BIO_free(bio);
	CHECK(key != NULL);
	return key;
}

/* A client's verdict: it trusts `root` alone, is sent a leaf for `name` with the cross certificates, and asked for `host`. */
static int verify(const struct ca *ca, X509 *root, const char *name, const char *host, time_t at)
{
	STACK_OF(X509) *served = certs_of(ca_served(ca));
	EVP_PKEY *key = cert_key_new(), *ca_private = key_of(ca);
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509 *signer = sk_X509_shift(served), *leaf = NULL;
	int err;

	CHECK_INT(cert_leaf_new(signer, ca_private, key, str_of(name), at, &leaf), 0);
	X509_STORE_add_cert(store, root);
	X509_STORE_CTX_init(ctx, store, leaf, served);
	X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), at);
	X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), X509_V_FLAG_X509_STRICT);
	X509_VERIFY_PARAM_set1_host(X509_STORE_CTX_get0_param(ctx), host, 0);
	X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
	err = X509_verify_cert(ctx) == 1 ? 0 : X509_STORE_CTX_get_error(ctx);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	X509_free(leaf);
	X509_free(signer);
	EVP_PKEY_free(key);
	EVP_PKEY_free(ca_private);
	sk_X509_pop_free(served, X509_free);
	return err;
}

static X509 *root_of(const struct ca *ca)
{
	STACK_OF(X509) *list = certs_of(ca_trusted(ca));
	X509 *root = sk_X509_shift(list);

	sk_X509_pop_free(list, X509_free);
	return root;
}

static void permitted_names(void)
{
	static const struct {
		const char *domain, *name;
	} cases[] = {
		{ "api.example.com", "api.example.com" },
		{ "*.example.com", "example.com" },
		{ "bedrock-runtime.*.amazonaws.com", "amazonaws.com" },
		{ "a-*.b.example.com", "b.example.com" },
		{ "*", "" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct str got = cert_permitted_name(str_of(cases[i].domain));

		CHECK(str_eq(got, str_of(cases[i].name)));
	}
}

static void constrained(void)
{
	int dir = new_folder();
	struct ca *ca = get(dir, "api.provider.test *.cloud.test", false, NOW);
	X509 *root = root_of(ca);

	CHECK_INT(verify(ca, root, "api.provider.test", "api.provider.test", NOW), 0);
	CHECK_INT(verify(ca, root, "eu.cloud.test", "eu.cloud.test", NOW), 0);
	CHECK_INT(verify(ca, root, "evil.test", "evil.test", NOW), X509_V_ERR_PERMITTED_VIOLATION);
	CHECK_INT(verify(ca, root, "provider.test", "provider.test", NOW), X509_V_ERR_PERMITTED_VIOLATION);
	CHECK_INT(verify(ca, root, "xapi.provider.test", "xapi.provider.test", NOW), X509_V_ERR_PERMITTED_VIOLATION);
	CHECK_INT(verify(ca, root, "api.provider.test", "eu.cloud.test", NOW), X509_V_ERR_HOSTNAME_MISMATCH);
	/* Another clock. */
	CHECK_INT(verify(ca, root, "api.provider.test", "api.provider.test", NOW - 1800), 0);
	CHECK_INT(verify(ca, root, "api.provider.test", "api.provider.test", NOW + CA_DAYS * DAY + 1), X509_V_ERR_CERT_HAS_EXPIRED);
	X509_free(root);
	ca_free(ca);
	remove_folder(dir);
}

/* No address, whatever a certificate claims: RFC 5280 leaves unmentioned kinds of names free. */
static void no_addresses(void)
{
	int dir = new_folder();
	struct ca *ca = get(dir, "api.provider.test", false, NOW);
	X509 *root = root_of(ca), *leaf = X509_new();
	EVP_PKEY *key = cert_key_new(), *ca_private = key_of(ca);
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:192.0.2.1");

	X509_set_version(leaf, X509_VERSION_3);
	X509_set_pubkey(leaf, key);
	ASN1_TIME_set(X509_getm_notBefore(leaf), NOW - 1);
	ASN1_TIME_set(X509_getm_notAfter(leaf), NOW + 100);
	X509_set_issuer_name(leaf, X509_get_subject_name(root));
	X509_add_ext(leaf, ext, -1);
	X509_sign(leaf, ca_private, EVP_sha256());
	X509_STORE_add_cert(store, root);
	X509_STORE_CTX_init(ctx, store, leaf, NULL);
	X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(ctx), NOW);
	CHECK_INT(X509_verify_cert(ctx), 0);
	CHECK_INT(X509_STORE_CTX_get_error(ctx), X509_V_ERR_EXCLUDED_VIOLATION);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	X509_EXTENSION_free(ext);
	X509_free(leaf);
	X509_free(root);
	EVP_PKEY_free(key);
	EVP_PKEY_free(ca_private);
	ca_free(ca);
	remove_folder(dir);
}

static void kept(void)
{
	int dir = new_folder();
	struct ca *a = get(dir, "b.test a.test", false, NOW), *b = get(dir, "a.test b.test b.test", false, NOW + 1);
	X509 *x = root_of(a), *y = root_of(b);
	struct stat st;
	struct ca *none = NULL;
	struct str star = STR("*");

	CHECK(ca_is_new(a) && !ca_is_new(b));
	CHECK_INT(X509_cmp(x, y), 0);
	CHECK_INT(fstatat(dir, "ca.key", &st, 0), 0);
	CHECK_INT(st.st_mode & 0777, 0600);
	CHECK_INT(ca_open(dir, STR("box"), NULL, 0, false, NOW, &none), -EINVAL);
	CHECK_INT(ca_open(dir, STR("box"), &star, 1, false, NOW, &none), -EINVAL);
	X509_free(x);
	X509_free(y);
	ca_free(a);
	ca_free(b);
	remove_folder(dir);
}

static void rotated(void)
{
	int dir = new_folder();
	struct ca *ca = get(dir, "a.test", false, NOW);
	X509 *roots[6] = { root_of(ca) };
	STACK_OF(X509) *trusted;

	ca_free(ca);
	for (int i = 1; i < 6; i++) {
		ca = get(dir, "a.test", true, NOW + i);
		CHECK(ca_is_new(ca));
		roots[i] = root_of(ca);
		/* All generations that are kept lead to it, each alone; older ones do not. */
		for (int k = 0; k <= i; k++)
			CHECK_INT(verify(ca, roots[k], "a.test", "a.test", NOW + i) == 0, i - k < CA_GENERATIONS);
		ca_free(ca);
	}
	ca = get(dir, "a.test", false, NOW + 10);
	CHECK(!ca_is_new(ca));
	trusted = certs_of(ca_trusted(ca));
	CHECK_INT(sk_X509_num(trusted), CA_GENERATIONS);
	CHECK_INT(X509_cmp(sk_X509_value(trusted, 0), roots[5]), 0);
	sk_X509_pop_free(trusted, X509_free);
	ca_free(ca);
	/* Its half time is over. */
	ca = get(dir, "a.test", false, NOW + (CA_DAYS / 2 + 1) * DAY);
	CHECK(ca_is_new(ca));
	CHECK_INT(verify(ca, roots[5], "a.test", "a.test", NOW + (CA_DAYS / 2 + 1) * DAY), 0);
	ca_free(ca);
	/* Former ones that are no longer valid are forgotten. */
	ca = get(dir, "a.test", false, NOW + (CA_DAYS + 1) * DAY);
	trusted = certs_of(ca_trusted(ca));
	CHECK_INT(sk_X509_num(trusted), 2 - !ca_is_new(ca));
	sk_X509_pop_free(trusted, X509_free);
	ca_free(ca);
	for (int i = 0; i < 6; i++)
		X509_free(roots[i]);
	remove_folder(dir);
}

/* A sandbox that trusts only the CA before: the names of then work on, a new name does not. */
static void names_changed(void)
{
	int dir = new_folder();
	struct ca *ca = get(dir, "a.test", false, NOW);
	X509 *before = root_of(ca), *after;

	ca_free(ca);
	ca = get(dir, "a.test b.test", false, NOW + 1);
	CHECK(ca_is_new(ca));
	after = root_of(ca);
	CHECK_INT(verify(ca, before, "a.test", "a.test", NOW + 1), 0);
	CHECK_INT(verify(ca, before, "b.test", "b.test", NOW + 1), X509_V_ERR_PERMITTED_VIOLATION);
	CHECK_INT(verify(ca, after, "a.test", "a.test", NOW + 1), 0);
	CHECK_INT(verify(ca, after, "b.test", "b.test", NOW + 1), 0);
	X509_free(before);
	X509_free(after);
	ca_free(ca);
	remove_folder(dir);
}

/* The machine stops after cross.pem and old.pem were written and before ca.key: the one that is in force stays whole. */
static void crashed(void)
{
	int dir = new_folder();
	struct ca *ca = get(dir, "a.test", false, NOW);
	X509 *first = root_of(ca), *second;

	ca_free(ca);
	CHECK_INT(renameat(dir, "ca.key", dir, "kept"), 0);
	CHECK_INT(linkat(dir, "kept", dir, "ca.key", 0), 0);
	ca = get(dir, "a.test", true, NOW + 1);
	ca_free(ca);
	CHECK_INT(renameat(dir, "kept", dir, "ca.key"), 0);
	ca = get(dir, "a.test", false, NOW + 2);
	second = root_of(ca);
	CHECK(!ca_is_new(ca));
	CHECK_INT(X509_cmp(first, second), 0);
	CHECK_INT(verify(ca, first, "a.test", "a.test", NOW + 2), 0);
	X509_free(first);
	X509_free(second);
	ca_free(ca);
	remove_folder(dir);
}

static void described(void)
{
	int dir = new_folder();
	struct ca *ca = get(dir, "b.test a.test", false, NOW);
	int fd = ca_described(ca);
	char text[4096] = "";

	CHECK(pread(fd, text, sizeof(text) - 1, 0) > 0);
	CHECK(strstr(text, "\"names\":[\"a.test\",\"b.test\"],\"former\":[]}"));
	CHECK(strstr(text, "\"subject\":\"Sallyport CA box, "));
	CHECK(!strstr(text, "PRIVATE"));
	close(fd);
	fd = ca_trusted(ca);
	memset(text, 0, sizeof(text));
	CHECK(pread(fd, text, sizeof(text) - 1, 0) > 0 && !strstr(text, "PRIVATE"));
	close(fd);
	fd = ca_served(ca);
	memset(text, 0, sizeof(text));
	CHECK(pread(fd, text, sizeof(text) - 1, 0) > 0 && !strstr(text, "PRIVATE"));
	close(fd);
	ca_free(ca);
	remove_folder(dir);
}

TESTS(T(permitted_names), T(constrained), T(no_addresses), T(kept), T(rotated), T(names_changed), T(crashed), T(described))
