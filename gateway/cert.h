/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The certificates that we make: the host's CA, its cross certificates, and the leaf of a provider's name. All keys are
 * ECDSA P-256. What fails leaves no output; the only failures are of memory and of OpenSSL itself, told as -ENOMEM.
 */
#pragma once

#include <openssl/x509.h>
#include <stdbool.h>
#include <time.h>

#include "common/str.h"

/* Generations of the CA that a sandbox may lag behind: each is cross-signed by the one before it. */
#define CA_GENERATIONS 4
/* Rationale: renewed at half of it, so a sandbox that lives for a year still finds a chain. */
#define CA_DAYS 730
#define LEAF_SECONDS (24 * 3600)
/* Rationale: sandboxes in virtual machines have clocks of their own. */
#define CLOCK_SKEW_SECONDS 3600
#define CERT_NAMES_MAX 2048

EVP_PKEY *cert_key_new(void);
/*
 * What a CA may sign, from a provider's domain: the name itself (which covers what lies below it, RFC 5280, 4.2.1.10),
 * of a pattern what follows its last `*` and the dot behind it: name constraints know no patterns.
 */
struct str cert_permitted_name(struct str domain);
/* A self-signed CA for these names and no others, and for no addresses. Names are sorted and differ; -EINVAL: none. */
int cert_ca_new(EVP_PKEY *key, struct str host, const struct str *names, unsigned n, time_t now, X509 **ret);
/* The same CA, signed by another: for who trusts only that one. */
int cert_cross_new(X509 *ca, X509 *by, EVP_PKEY *by_key, X509 **ret);
/* For one host name. */
int cert_leaf_new(X509 *ca, EVP_PKEY *ca_key, EVP_PKEY *key, struct str name, time_t now, X509 **ret);

/* True when the CA permits these names and nothing else. */
bool cert_ca_permits(X509 *ca, const struct str *names, unsigned n);
/* The end of its time. */
time_t cert_until(const X509 *cert);
time_t cert_from(const X509 *cert);
bool cert_key_fits(const X509 *cert, EVP_PKEY *key);
/* "B1:5A:…", SHA-256 of the certificate. */
#define CERT_FINGERPRINT_BYTES 96
void cert_fingerprint(const X509 *cert, char ret[CERT_FINGERPRINT_BYTES]);
