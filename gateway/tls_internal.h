/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS session, as tls.c (towards providers) and tls_server.c (towards clients) share it. */
#pragma once

#include <openssl/ssl.h>

struct tls {
	SSL *ssl;
	char why[160];
};
