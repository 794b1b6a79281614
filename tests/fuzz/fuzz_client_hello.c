/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ClientHellos. Cut anywhere, one must be read as in one piece; and where OpenSSL's server reads it too, both must see
 * the same name: what policy judges must be what a server would be asked for.
 */
#include <openssl/ssl.h>
#include <stdint.h>

#include "common/base.h"
#include "gateway/client_hello.h"

static char seen[HOST_NAME_BYTES];
static bool called;

/*
 * OpenSSL's view of the same bytes: the extension as it stands in the message that it has parsed. (It keeps only those
 * that it knows, so ECH cannot be compared.)
 */
static int on_hello(SSL *ssl, int *alert, void *arg)
{
	const unsigned char *ext;
	size_t n;

	(void)alert;
	(void)arg;
	called = true;
	seen[0] = '\0';
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &ext, &n) && n > 5)
		host_name_copy((struct str){ (const char *)ext + 5, n - 5 }, seen);
	return SSL_CLIENT_HELLO_ERROR;
}

static void ask_openssl(const uint8_t *data, size_t n)
{
	static SSL_CTX *ctx;
	SSL *ssl;
	BIO *in;

	if (!ctx) {
		ctx = SSL_CTX_new(TLS_server_method());
		SSL_CTX_set_client_hello_cb(ctx, on_hello, NULL);
	}
	called = false;
	ssl = SSL_new(ctx);
	in = BIO_new_mem_buf(data, (int)n);
	BIO_set_mem_eof_return(in, -1);
	SSL_set_bio(ssl, in, BIO_new(BIO_s_null()));
	SSL_accept(ssl);
	SSL_free(ssl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct client_hello once = { 0 }, cut = { 0 };
	const char *why = NULL;
	int used = client_hello_parse((struct str){ (const char *)data, n }, &once, &why), got = HELLO_MORE;

	if (used > (int)n || (used == HELLO_BAD && !why))
		abort();
	for (size_t i = 0; i <= n && got == HELLO_MORE; i++)
		got = client_hello_parse((struct str){ (const char *)data, i }, &cut, &why);
	/* In pieces a bad one may be known as bad before its whole length is there, and never as another good one. */
	if (got != used || (used > 0 && (memcmp(&once, &cut, sizeof(once)) != 0)))
		abort();
	if (used <= 0)
		return 0;
	ask_openssl(data, (size_t)used);
	if (called && strcmp(seen, once.name) != 0)
		abort();
	return 0;
}
