/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One SSL_CTX for the worker, one key for all its leaves, a certificate for each name: made when it is first asked for,
 * made again before its time is over, dropped when the CA changes. The hello was read before, to see the name: a
 * BIO of ours hands it to OpenSSL before the socket's bytes.
 *
 * The CA's key lies in locked memory as the text of its file, and is a key of OpenSSL's only while a leaf is signed. Not
 * OpenSSL's secure heap: that has one size, and takes a secret for each session too, upstream ones as well, for as long
 * as the session lives. 2000 idle clients used it up, and nobody's handshake succeeded any more.
 */
#include "gateway/tls_server.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/log.h"
#include "gateway/cert.h"
#include "gateway/client_hello.h"
#include "gateway/tls_internal.h"

/* Rationale: names of all providers of a host; one more takes the place of the one not asked for the longest. */
#define LEAVES_MAX 256
/* A leaf is not given out in the last part of its time, that a client's clock may be ahead by. */
#define LEAF_RENEW_SECONDS 7200
#define PEM_BYTES_MAX 65536

struct leaf {
	char name[HOST_NAME_BYTES]; /* "": free */
	X509 *cert;
	time_t renew;
	uint64_t used;
};

struct tls_server {
	SSL_CTX *ctx;
	BIO_METHOD *bio;
	EVP_PKEY *leaf_key;
	X509 *ca;
	struct str ca_key; /* PEM, locked */
	STACK_OF(X509) *cross;
	struct leaf leaves[LEAVES_MAX];
	uint64_t uses;
};

/* ------------------------------------------------------------------ the client's bytes */

struct stream {
	int fd;
	struct buf first;
};

static int stream_read(BIO *bio, char *data, int n)
{
	struct stream *s = BIO_get_data(bio);
	ssize_t got;

	BIO_clear_retry_flags(bio);
	if (buf_len(&s->first)) {
		got = (ssize_t)MIN((size_t)n, buf_len(&s->first));
		memcpy(data, buf_head(&s->first), (size_t)got);
		buf_consume(&s->first, (size_t)got);
		if (!buf_len(&s->first))
			buf_fini(&s->first);
		return (int)got;
	}
	got = recv(s->fd, data, (size_t)n, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_read(bio);
	return (int)got;
}

static int stream_write(BIO *bio, const char *data, int n)
{
	struct stream *s = BIO_get_data(bio);
	ssize_t put = send(s->fd, data, (size_t)n, MSG_NOSIGNAL);

	BIO_clear_retry_flags(bio);
	if (put < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_write(bio);
	return (int)put;
}

static long stream_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static int stream_free(BIO *bio)
{
	struct stream *s = BIO_get_data(bio);

	if (s)
		buf_fini(&s->first);
	free(s);
	return 1;
}

static BIO *stream_new(const struct tls_server *server, int fd, struct buf *first)
{
	struct stream *s = calloc(1, sizeof(*s));
	BIO *bio = s ? BIO_new(server->bio) : NULL;

	if (!bio) {
		free(s);
		return NULL;
	}
	s->fd = fd;
	s->first = *first;
	buf_init(first, first->max);
	BIO_set_data(bio, s);
	BIO_set_init(bio, 1);
	return bio;
}

/* ------------------------------------------------------------------ set-up */

/* What the client may speak; what it does speak, its first bytes tell (conn.c). */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len,
		   void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	unsigned char *chosen;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

struct tls_server *tls_server_new(void)
{
	struct tls_server *s = calloc(1, sizeof(*s));

	if (!s)
		die("no memory for the TLS server");
	s->ctx = SSL_CTX_new(TLS_server_method());
	s->bio = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "client");
	s->leaf_key = cert_key_new();
	if (!s->ctx || !s->bio || !s->leaf_key || SSL_CTX_set_min_proto_version(s->ctx, TLS1_2_VERSION) != 1)
		die("OpenSSL cannot be set up");
	BIO_meth_set_read(s->bio, stream_read);
	BIO_meth_set_write(s->bio, stream_write);
	BIO_meth_set_ctrl(s->bio, stream_ctrl);
	BIO_meth_set_destroy(s->bio, stream_free);
	SSL_CTX_set_mode(s->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	/* Without renegotiation a read never has to write first. */
	SSL_CTX_set_options(s->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_alpn_select_cb(s->ctx, on_alpn, NULL);
	/* Tickets keep the state with the client; their keys are this process' own. */
	SSL_CTX_set_session_cache_mode(s->ctx, SSL_SESS_CACHE_OFF);
	return s;
}

/* ------------------------------------------------------------------ files */

/* The whole of it in locked memory; several workers are handed the same open file. */
static struct str read_locked(int fd)
{
	char *text = mmap(NULL, PEM_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t n = 0;
	ssize_t got = 1;

	if (text == MAP_FAILED)
		return STR_NULL;
	if (mlock(text, PEM_BYTES_MAX) < 0)
		log_warn("the memory of private keys cannot be locked and may reach swap; raise LimitMEMLOCK of the service");
	madvise(text, PEM_BYTES_MAX, MADV_DONTDUMP);
	while (got > 0 && n < PEM_BYTES_MAX) {
		got = pread(fd, text + n, PEM_BYTES_MAX - n, (off_t)n);
		n += got > 0 ? (size_t)got : 0;
	}
	return (struct str){ text, n };
}

static void free_locked(struct str text)
{
	void *at = (void *)(uintptr_t)text.s;

	if (!at)
		return;
	explicit_bzero(at, PEM_BYTES_MAX);
	munmap(at, PEM_BYTES_MAX);
}

static void free_key(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}
#define auto_key cleanup(free_key)

static EVP_PKEY *parse_key(struct str text)
{
	BIO *bio = text.n ? BIO_new_mem_buf(text.s, (int)text.n) : NULL;
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;

	BIO_free(bio);
	return key;
}

static STACK_OF(X509) *read_certs(int fd)
{
	STACK_OF(X509) *certs = sk_X509_new_null();
	struct str text = read_locked(fd);
	BIO *bio = text.n ? BIO_new_mem_buf(text.s, (int)text.n) : NULL;
	X509 *cert;

	while (certs && bio && sk_X509_num(certs) < 2 * CA_GENERATIONS && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
		sk_X509_push(certs, cert);
	BIO_free(bio);
	free_locked(text);
	return certs;
}

/* ------------------------------------------------------------------ life */

static void drop_leaves(struct tls_server *s)
{
	for (struct leaf *l = s->leaves; l < s->leaves + LEAVES_MAX; l++) {
		X509_free(l->cert);
		*l = (struct leaf){ 0 };
	}
}

static void drop_ca(struct tls_server *s)
{
	X509_free(TAKE_PTR(s->ca));
	free_locked(s->ca_key);
	s->ca_key = STR_NULL;
	sk_X509_pop_free(TAKE_PTR(s->cross), X509_free);
	drop_leaves(s);
}

void tls_server_free(struct tls_server *s)
{
	if (!s)
		return;
	drop_ca(s);
	EVP_PKEY_free(s->leaf_key);
	SSL_CTX_free(s->ctx);
	BIO_meth_free(s->bio);
	free(s);
}

/* ------------------------------------------------------------------ the CA */

int tls_server_set_ca(struct tls_server *s, int certs_fd, int key_fd, const char **ret_why)
{
	STACK_OF(X509) *certs = read_certs(certs_fd);
	struct str key_text = read_locked(key_fd);
	auto_key EVP_PKEY *key = parse_key(key_text);
	X509 *ca = certs && sk_X509_num(certs) ? sk_X509_shift(certs) : NULL;

	ERR_clear_error();
	if (!ca || !key || !cert_key_fits(ca, key)) {
		*ret_why = !ca ? "its certificate cannot be read" : !key ? "its key cannot be read" : "its key is another one's";
		X509_free(ca);
		free_locked(key_text);
		sk_X509_pop_free(certs, X509_free);
		return -EINVAL;
	}
	drop_ca(s);
	s->ca = ca;
	s->ca_key = key_text;
	s->cross = certs;
	return 0;
}

bool tls_server_has_ca(const struct tls_server *s)
{
	return s->ca != NULL;
}

/* The place of this name: its own, or that of the name which was not asked for the longest. */
static struct leaf *leaf_place(struct tls_server *s, const char *name)
{
	struct leaf *oldest = s->leaves;

	for (struct leaf *l = s->leaves; l < s->leaves + LEAVES_MAX; l++) {
		if (l->name[0] && !strcmp(l->name, name))
			return l;
		if (l->used < oldest->used)
			oldest = l;
	}
	return oldest;
}

static struct leaf *leaf_get(struct tls_server *s, const char *name, time_t now)
{
	struct leaf *l = leaf_place(s, name);
	auto_key EVP_PKEY *ca_key = NULL;
	X509 *cert = NULL;

	l->used = ++s->uses;
	if (!strcmp(l->name, name) && now < l->renew)
		return l;
	ca_key = parse_key(s->ca_key);
	if (!ca_key || cert_leaf_new(s->ca, ca_key, s->leaf_key, str_of(name), now, &cert) < 0)
		return NULL;
	X509_free(l->cert);
	l->cert = cert;
	l->renew = cert_until(cert) - LEAF_RENEW_SECONDS;
	str_copy(l->name, sizeof(l->name), str_of(name));
	return l;
}

/* ------------------------------------------------------------------ sessions */

/* A ticket that was given for one name is no good for another. */
static int set_ticket_context(SSL *ssl, const char *name)
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	return EVP_Digest(name, strlen(name), md, &n, EVP_sha256(), NULL) == 1 &&
	       SSL_set_session_id_context(ssl, md, MIN(n, 32U)) == 1;
}

static int set_certificate(struct tls_server *s, SSL *ssl, struct leaf *l)
{
	return SSL_use_certificate(ssl, l->cert) == 1 && SSL_use_PrivateKey(ssl, s->leaf_key) == 1 &&
	       SSL_set1_chain(ssl, s->cross) == 1;
}

struct tls *tls_server_session(struct tls_server *s, int fd, const char *name, struct buf *first, uint64_t wall_ns)
{
	struct leaf *l = s->ca ? leaf_get(s, name, (time_t)(wall_ns / NSEC_PER_SEC)) : NULL;
	struct tls *t = l ? calloc(1, sizeof(*t)) : NULL;
	BIO *bio;

	if (!t)
		return NULL;
	t->ssl = SSL_new(s->ctx);
	bio = t->ssl && set_certificate(s, t->ssl, l) && set_ticket_context(t->ssl, name) ? stream_new(s, fd, first) : NULL;
	if (!bio) {
		ERR_clear_error();
		tls_free(t);
		return NULL;
	}
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_accept_state(t->ssl);
	return t;
}

/* What a client says of a certificate that it does not accept; some say nothing and close. */
static bool alert_of_certificate(int reason)
{
	switch (reason) {
	case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
	case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
	case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
	case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
		return true;
	default:
		return false;
	}
}

int tls_server_handshake(struct tls *t, bool *ret_want_write, enum tls_refusal *ret)
{
	unsigned long err;
	int n, e;

	ERR_clear_error();
	n = SSL_do_handshake(t->ssl);
	if (n == 1)
		return 0;
	e = SSL_get_error(t->ssl, n);
	if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
		*ret_want_write = e == SSL_ERROR_WANT_WRITE;
		return -EAGAIN;
	}
	err = ERR_peek_error();
	*ret = !err || ERR_GET_REASON(err) == SSL_R_UNEXPECTED_EOF_WHILE_READING || alert_of_certificate(ERR_GET_REASON(err)) ?
		       TLS_REFUSED_CERTIFICATE :
		       TLS_REFUSED_OTHER;
	str_copy(t->why, sizeof(t->why), str_of(err ? ERR_reason_error_string(err) : "connection closed"));
	ERR_clear_error();
	return -EPROTO;
}

void tls_server_end(struct tls *t)
{
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
}

void tls_alert(uint8_t alert, unsigned char ret[TLS_ALERT_BYTES])
{
	/* A record of version 3.3 and two bytes; level fatal. */
	static const unsigned char head[TLS_ALERT_BYTES - 1] = { 21, 3, 3, 0, 2, 2 };

	memcpy(ret, head, sizeof(head));
	ret[TLS_ALERT_BYTES - 1] = alert;
}
