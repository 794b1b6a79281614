/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change takes effect with the renaming of ca.key; cross.pem and old.pem are written before. A crash in between leaves
 * certificates of a CA that never was in them: what does not belong to the one in ca.key is dropped when they are read.
 */
#include "gateway/ca.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/buf.h"
#include "common/log.h"
#include "gateway/cert.h"

#define DESCRIPTION_MAX (1u << 20)

struct ca {
	int dir;
	EVP_PKEY *key;
	X509 *cert;
	STACK_OF(X509) *cross, *old;
	struct str names[CERT_NAMES_MAX]; /* permitted, sorted; point into the caller's domains */
	unsigned n_names;
	bool is_new;
};

void ca_free(struct ca *ca)
{
	if (!ca)
		return;
	EVP_PKEY_free(ca->key);
	X509_free(ca->cert);
	sk_X509_pop_free(ca->cross, X509_free);
	sk_X509_pop_free(ca->old, X509_free);
	free(ca);
}

/* ------------------------------------------------------------------ names */

static int compare(const void *a, const void *b)
{
	const struct str *x = a, *y = b;
	int d = memcmp(x->s, y->s, MIN(x->n, y->n));

	return d ? d : (x->n > y->n) - (x->n < y->n);
}

static int set_names(struct ca *ca, const struct str *domains, unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++) {
		struct str name = cert_permitted_name(domains[i]);

		if (!name.n)
			return -EINVAL;
		if (ca->n_names == CERT_NAMES_MAX)
			return -E2BIG;
		ca->names[ca->n_names++] = name;
	}
	qsort(ca->names, ca->n_names, sizeof(ca->names[0]), compare);
	for (unsigned i = 0; i < ca->n_names; i++)
		if (!kept || !str_eq(ca->names[i], ca->names[kept - 1]))
			ca->names[kept++] = ca->names[i];
	ca->n_names = kept;
	return kept ? 0 : -EINVAL;
}

/* ------------------------------------------------------------------ reading */

static BIO *open_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	BIO *bio = fd < 0 ? NULL : BIO_new_fd(fd, BIO_CLOSE);

	if (!bio && fd >= 0)
		close(fd);
	return bio;
}

static STACK_OF(X509) *read_certs(int dir, const char *name, time_t now)
{
	STACK_OF(X509) *list = sk_X509_new_null();
	BIO *bio = open_file(dir, name);
	X509 *x;

	while (list && bio && sk_X509_num(list) < 2 * CA_GENERATIONS && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		if (cert_until(x) <= now)
			X509_free(x);
		else
			sk_X509_push(list, x);
	}
	BIO_free(bio);
	ERR_clear_error();
	return list;
}

static void drop(STACK_OF(X509) *list, int i)
{
	X509_free(sk_X509_delete(list, i));
}

/* Keeps the chain that leads back from the CA, and the former CAs that are not this one. */
static void drop_strangers(struct ca *ca)
{
	const X509_NAME *want = X509_get_subject_name(ca->cert);

	for (int i = 0; i < sk_X509_num(ca->cross);) {
		const X509 *x = sk_X509_value(ca->cross, i);

		if (i >= CA_GENERATIONS - 1 || X509_NAME_cmp(X509_get_subject_name(x), want)) {
			drop(ca->cross, i);
			continue;
		}
		want = X509_get_issuer_name(x);
		i++;
	}
	for (int i = 0; i < sk_X509_num(ca->old);) {
		if (i >= CA_GENERATIONS - 1 || !X509_cmp(sk_X509_value(ca->old, i), ca->cert))
			drop(ca->old, i);
		else
			i++;
	}
}

/* 0 with or without a CA; the directory may be new. */
static int read_all(struct ca *ca, time_t now)
{
	BIO *bio = open_file(ca->dir, "ca.key");

	if (!bio && errno != ENOENT)
		return -errno;
	if (bio) {
		ca->key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
		ca->cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
		BIO_free(bio);
	}
	ERR_clear_error();
	ca->cross = read_certs(ca->dir, "cross.pem", now);
	ca->old = read_certs(ca->dir, "old.pem", now);
	if (!ca->cross || !ca->old)
		return -ENOMEM;
	if (ca->key && ca->cert && cert_key_fits(ca->cert, ca->key) && cert_until(ca->cert) > now) {
		drop_strangers(ca);
		return 0;
	}
	if (bio)
		log_warn("the CA cannot be read or its time is over; a new one is made, and sandboxes must be given it");
	EVP_PKEY_free(TAKE_PTR(ca->key));
	X509_free(TAKE_PTR(ca->cert));
	while (sk_X509_num(ca->cross))
		drop(ca->cross, 0);
	return 0;
}

/* ------------------------------------------------------------------ writing */

static int write_all(int fd, const char *data, size_t n)
{
	while (n) {
		ssize_t put = write(fd, data, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -ENOSPC;
		data += put;
		n -= (size_t)put;
	}
	return 0;
}

/* All of it or nothing, also when the machine stops in the middle. */
static int replace_file(int dir, const char *name, mode_t mode, BIO *content)
{
	auto_close int fd = -1;
	char *data, temp[32];
	long n = BIO_get_mem_data(content, &data);
	int err;

	snprintf(temp, sizeof(temp), "%s.new", name);
	unlinkat(dir, temp, 0);
	fd = openat(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	err = fd < 0 ? -errno : write_all(fd, data, (size_t)n);
	if (!err && (fsync(fd) < 0 || renameat(dir, temp, dir, name) < 0 || fsync(dir) < 0))
		err = -errno;
	return err;
}

static int put_certs(BIO *bio, const X509 *first, const STACK_OF(X509) *rest)
{
	int ok = !first || PEM_write_bio_X509(bio, first) == 1;

	for (int i = 0; ok && i < sk_X509_num(rest); i++)
		ok = PEM_write_bio_X509(bio, sk_X509_value(rest, i)) == 1;
	return ok ? 0 : -ENOMEM;
}

static int save_certs(int dir, const char *name, const X509 *first, const STACK_OF(X509) *rest)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int err = bio ? put_certs(bio, first, rest) : -ENOMEM;

	err = err ? err : replace_file(dir, name, 0644, bio);
	BIO_free(bio);
	return err;
}

static int save_key(const struct ca *ca)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	int err = bio && PEM_write_bio_PrivateKey(bio, ca->key, NULL, NULL, 0, NULL, NULL) == 1 &&
				  PEM_write_bio_X509(bio, ca->cert) == 1 ?
			  replace_file(ca->dir, "ca.key", 0600, bio) :
			  -ENOMEM;

	BIO_free(bio);
	return err;
}

/* ------------------------------------------------------------------ a new one */

static int push_front(STACK_OF(X509) *list, X509 *x)
{
	if (!x || sk_X509_insert(list, x, 0) <= 0) {
		X509_free(x);
		return -ENOMEM;
	}
	return 0;
}

/* The one before it vouches for it, and stays trusted while it is valid. */
static int cross_sign(struct ca *ca, X509 *cert)
{
	X509 *cross = NULL;
	int err = cert_cross_new(cert, ca->cert, ca->key, &cross);

	err = err ? err : push_front(ca->cross, cross);
	if (err)
		return err;
	return X509_up_ref(ca->cert) == 1 ? push_front(ca->old, ca->cert) : -ENOMEM;
}

static int ca_renew(struct ca *ca, struct str host, time_t now)
{
	EVP_PKEY *key = cert_key_new();
	X509 *cert = NULL;
	int err = key ? cert_ca_new(key, host, ca->names, ca->n_names, now, &cert) : -ENOMEM;

	if (!err && ca->cert)
		err = cross_sign(ca, cert);
	if (err) {
		EVP_PKEY_free(key);
		X509_free(cert);
		return err;
	}
	EVP_PKEY_free(ca->key);
	X509_free(ca->cert);
	ca->key = key;
	ca->cert = cert;
	ca->is_new = true;
	drop_strangers(ca);
	err = save_certs(ca->dir, "cross.pem", NULL, ca->cross);
	err = err ? err : save_certs(ca->dir, "old.pem", NULL, ca->old);
	err = err ? err : save_key(ca);
	return err ? err : save_certs(ca->dir, "ca.pem", ca->cert, NULL);
}

static bool half_over(const struct ca *ca, time_t now)
{
	time_t from = cert_from(ca->cert), until = cert_until(ca->cert);

	return now > from + (until - from) / 2;
}

int ca_open(int dir, struct str host, const struct str *domains, unsigned n, bool rotate, time_t now, struct ca **ret)
{
	struct ca *ca = calloc(1, sizeof(*ca));
	int err;

	if (!ca)
		return -ENOMEM;
	ca->dir = dir;
	err = set_names(ca, domains, n);
	err = err ? err : read_all(ca, now);
	if (!err && (!ca->cert || rotate || half_over(ca, now) || !cert_ca_permits(ca->cert, ca->names, ca->n_names)))
		err = ca_renew(ca, host, now);
	if (err) {
		ca_free(ca);
		return err;
	}
	*ret = ca;
	return 0;
}

bool ca_is_new(const struct ca *ca)
{
	return ca->is_new;
}

/* ------------------------------------------------------------------ for others */

static int memory_file(const char *data, size_t n)
{
	int fd = memfd_create("ca", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0)
		return -errno;
	err = write_all(fd, data, n);
	if (!err && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0)
		err = -errno;
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int certs_file(const X509 *first, const STACK_OF(X509) *rest)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int fd = bio ? put_certs(bio, first, rest) : -ENOMEM;
	char *data;

	if (!fd) {
		long n = BIO_get_mem_data(bio, &data);

		fd = memory_file(data, (size_t)n);
	}
	BIO_free(bio);
	return fd;
}

int ca_served(const struct ca *ca)
{
	return certs_file(ca->cert, ca->cross);
}

int ca_trusted(const struct ca *ca)
{
	return certs_file(ca->cert, ca->old);
}

int ca_key(const struct ca *ca)
{
	int fd = openat(ca->dir, "ca.key", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int describe(const X509 *cert, struct buf *out)
{
	char subject[128] = "", fingerprint[CERT_FINGERPRINT_BYTES];
	int err;

	X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, subject, sizeof(subject));
	cert_fingerprint(cert, fingerprint);
	err = buf_printf(out, "\"fingerprint\":\"%s\",\"from\":%lld,\"until\":%lld,\"subject\":", fingerprint,
			 (long long)cert_from(cert), (long long)cert_until(cert));
	return err ? err : buf_json_string(out, str_of(subject));
}

static int describe_all(const struct ca *ca, struct buf *out)
{
	int err = buf_puts(out, STR("{"));

	err = err ? err : describe(ca->cert, out);
	err = err ? err : buf_puts(out, STR(",\"names\":["));
	for (unsigned i = 0; !err && i < ca->n_names; i++) {
		err = i ? buf_puts(out, STR(",")) : 0;
		err = err ? err : buf_json_string(out, ca->names[i]);
	}
	err = err ? err : buf_puts(out, STR("],\"former\":["));
	for (int i = 0; !err && i < sk_X509_num(ca->old); i++) {
		err = buf_puts(out, i ? STR(",{") : STR("{"));
		err = err ? err : describe(sk_X509_value(ca->old, i), out);
		err = err ? err : buf_puts(out, STR("}"));
	}
	return err ? err : buf_puts(out, STR("]}\n"));
}

int ca_described(const struct ca *ca)
{
	struct buf out;
	int fd;

	buf_init(&out, DESCRIPTION_MAX);
	fd = describe_all(ca, &out);
	if (!fd)
		fd = memory_file(buf_head(&out), buf_len(&out));
	buf_fini(&out);
	return fd;
}
