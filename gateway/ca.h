/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's CA in its directory:
 *
 *   ca.key     0600  the private key and its certificate, in one file: they are replaced in one step
 *   ca.pem           the certificate again, for people
 *   cross.pem        cross certificates: of this CA by the one before it, of that one by the one before …
 *   old.pem          former CAs, while they are valid
 */
#pragma once

#include <stdbool.h>
#include <time.h>

#include "common/str.h"

struct ca;
/*
 * Opens the CA; makes one when there is none, when it is not for exactly these domains, when half of its time is over,
 * or to `rotate`; the new one is cross-signed by the one before it. 0, -EINVAL: no domains; other errno: of the files.
 */
int ca_open(int dir, struct str host, const struct str *domains, unsigned n, bool rotate, time_t now, struct ca **ret);
void ca_free(struct ca *ca);
/* True when ca_open() made it. */
bool ca_is_new(const struct ca *ca);

/* Descriptors of what others get, the caller's; negative errno. */
int ca_served(const struct ca *ca);    /* the certificate, then the cross certificates */
int ca_key(const struct ca *ca);       /* the private key */
int ca_trusted(const struct ca *ca);   /* the certificate, then those of former CAs */
int ca_described(const struct ca *ca); /* JSON for people */
