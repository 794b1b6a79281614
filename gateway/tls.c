/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/base.h"
#include "common/log.h"
#include "gateway/tls_internal.h"

struct tls_context {
	SSL_CTX *ctx;
};

struct tls_context *tls_context_new(const char *ca_file)
{
	static const unsigned char alpn[] = "\x08http/1.1";
	struct tls_context *c = calloc(1, sizeof(*c));

	if (!c)
		die("no memory for the TLS context");
	c->ctx = SSL_CTX_new(TLS_client_method());
	if (!c->ctx || SSL_CTX_set_min_proto_version(c->ctx, TLS1_2_VERSION) != 1)
		die("OpenSSL cannot be set up");
	SSL_CTX_set_verify(c->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(c->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_alpn_protos(c->ctx, alpn, sizeof(alpn) - 1);
	if (ca_file && *ca_file) {
		if (SSL_CTX_load_verify_locations(c->ctx, ca_file, NULL) != 1)
			die("%s: no certificates can be read from it; set upstream.ca_file to a PEM bundle",
			    ca_file);
	} else if (SSL_CTX_set_default_verify_paths(c->ctx) != 1) {
		log_warn("the system has no trusted certificates; install ca-certificates");
	}
	return c;
}

struct tls *tls_new(struct tls_context *ctx, int fd, const char *host)
{
	struct tls *t = calloc(1, sizeof(*t));
	unsigned char addr[16];
	bool is_address;

	if (!t)
		return NULL;
	t->ssl = SSL_new(ctx->ctx);
	is_address = inet_pton(AF_INET, host, addr) == 1 || inet_pton(AF_INET6, host, addr) == 1;
	if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1 ||
	    (is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), host) :
			  SSL_set1_host(t->ssl, host)) != 1 ||
	    (!is_address && SSL_set_tlsext_host_name(t->ssl, (char *)(uintptr_t)host) != 1)) {
		tls_free(t);
		return NULL;
	}
	SSL_set_connect_state(t->ssl);
	return t;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	free(t);
}

int tls_handshake(struct tls *t, bool *ret_want_write)
{
	int n, e;
	long verify;

	ERR_clear_error();
	n = SSL_do_handshake(t->ssl);
	if (n == 1)
		return 0;
	e = SSL_get_error(t->ssl, n);
	if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
		*ret_want_write = e == SSL_ERROR_WANT_WRITE;
		return -EAGAIN;
	}
	verify = SSL_get_verify_result(t->ssl);
	if (verify != X509_V_OK)
		snprintf(t->why, sizeof(t->why), "its certificate is not accepted: %s",
			 X509_verify_cert_error_string(verify));
	else
		snprintf(t->why, sizeof(t->why), "the TLS handshake failed: %s",
			 ERR_peek_error() ? ERR_reason_error_string(ERR_peek_error()) : "connection closed");
	return -EPROTO;
}

static ssize_t tls_result(struct tls *t, int n)
{
	switch (SSL_get_error(t->ssl, n)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		return -ECONNRESET;
	}
}

ssize_t tls_read(struct tls *t, void *data, size_t n)
{
	int got;

	ERR_clear_error();
	got = SSL_read(t->ssl, data, (int)MIN(n, (size_t)INT32_MAX));
	return got > 0 ? got : tls_result(t, got);
}

ssize_t tls_write(struct tls *t, const void *data, size_t n)
{
	int put;

	ERR_clear_error();
	put = SSL_write(t->ssl, data, (int)MIN(n, (size_t)INT32_MAX));
	return put > 0 ? put : tls_result(t, put) == -EAGAIN ? -EAGAIN : -ECONNRESET;
}

bool tls_pending(const struct tls *t)
{
	return SSL_pending(t->ssl) > 0;
}

const char *tls_why(const struct tls *t)
{
	return t->why;
}
