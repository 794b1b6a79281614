/* SPDX-License-Identifier: Apache-2.0 */
/* TLS towards clients, against OpenSSL's own client over a socket pair. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "gateway/ca.h"
#include "gateway/tls_server.h"
#include "tests/unit/test.h"

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC;
}

/* A server with a CA for "a.test" and "*.cloud.test"; the CA's certificate is added to `store`. */
static struct tls_server *server_new(X509_STORE *store)
{
	char folder[] = "/tmp/sallyport-tls-XXXXXX";
	struct str domains[] = { STR_INIT("a.test"), STR_INIT("*.cloud.test") };
	struct tls_server *s = tls_server_new();
	struct ca *ca = NULL;
	const char *why = "";
	int dir, served, key;
	BIO *bio;
	X509 *root;

	CHECK(mkdtemp(folder) != NULL);
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_INT(ca_open(dir, STR("box"), domains, 2, false, (time_t)(now_ns() / NSEC_PER_SEC), &ca), 0);
	served = ca_served(ca);
	key = ca_key(ca);
	CHECK(!tls_server_has_ca(s));
	CHECK_INT(tls_server_set_ca(s, key, key, &why), 0); /* ca.key holds its certificate too */
	CHECK_INT(tls_server_set_ca(s, served, served, &why), -EINVAL);
	CHECK_STR(why, "its key cannot be read");
	CHECK_INT(tls_server_set_ca(s, served, key, &why), 0);
	CHECK(tls_server_has_ca(s));
	lseek(served, 0, SEEK_SET);
	bio = BIO_new_fd(served, BIO_CLOSE);
	root = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	X509_STORE_add_cert(store, root);
	X509_free(root);
	BIO_free(bio);
	close(key);
	ca_free(ca);
	for (const char *const *f = (const char *const[]){ "ca.key", "ca.pem", "cross.pem", "old.pem", NULL }; *f; f++)
		unlinkat(dir, *f, 0);
	rmdir(folder);
	close(dir);
	return s;
}

struct pair {
	struct tls *server;
	SSL *client;
	int fds[2];
	int server_err, client_err;
	enum tls_refusal refusal;
};

/* Both sides in turns until each is done or broken. The first bytes are read before, as the gateway does. */
static void shake(struct tls_server *s, SSL_CTX *ctx, const char *name, const char *sni, SSL_SESSION *session, struct pair *ret)
{
	struct pair p = { .server_err = -EAGAIN, .client_err = -EAGAIN };
	struct buf first;
	bool want_write;
	char *room;

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p.fds), 0);
	p.client = SSL_new(ctx);
	SSL_set_fd(p.client, p.fds[0]);
	SSL_set_tlsext_host_name(p.client, sni);
	SSL_set1_host(p.client, sni);
	if (session)
		SSL_set_session(p.client, session);
	CHECK_INT(SSL_connect(p.client), -1);
	buf_init(&first, 65536);
	room = buf_reserve(&first, 100);
	buf_commit(&first, (size_t)read(p.fds[1], room, 100));
	p.server = tls_server_session(s, p.fds[1], name, &first, now_ns());
	CHECK(p.server != NULL && !first.data);
	for (int i = 0; i < 20 && (p.server_err == -EAGAIN || p.client_err == -EAGAIN); i++) {
		if (p.server_err == -EAGAIN)
			p.server_err = tls_server_handshake(p.server, &want_write, &p.refusal);
		if (p.client_err == -EAGAIN) {
			int n = SSL_connect(p.client);

			p.client_err = n == 1 ? 0 : SSL_get_error(p.client, n) == SSL_ERROR_WANT_READ ? -EAGAIN : -EPROTO;
		}
	}
	*ret = p;
}

static void pair_fini(struct pair *p)
{
	tls_free(p->server);
	SSL_shutdown(p->client); /* else OpenSSL takes its session for broken */
	SSL_free(p->client);
	close(p->fds[0]);
	close(p->fds[1]);
}

static SSL_CTX *client_new(void)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	return ctx;
}

static void served(int version)
{
	SSL_CTX *ctx = client_new();
	struct tls_server *s = server_new(SSL_CTX_get_cert_store(ctx));
	static char big[300000], got[sizeof(big)];
	size_t put = 0, taken = 0;
	struct pair p;
	char text[16];

	SSL_CTX_set_max_proto_version(ctx, version);
	shake(s, ctx, "a.test", "a.test", NULL, &p);
	CHECK_INT(p.server_err, 0);
	CHECK_INT(p.client_err, 0);
	CHECK_INT(SSL_version(p.client), version);
	CHECK_INT(SSL_write(p.client, "hello", 5), 5);
	CHECK_INT(tls_read(p.server, text, 2), 2);
	CHECK(tls_pending(p.server));
	CHECK_INT(tls_read(p.server, text + 2, sizeof(text)), 3);
	CHECK(!tls_pending(p.server) && memcmp(text, "hello", 5) == 0);
	CHECK_INT(tls_read(p.server, text, sizeof(text)), -EAGAIN);
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7);
	while (taken < sizeof(big)) {
		ssize_t n = put < sizeof(big) ? tls_write(p.server, big + put, sizeof(big) - put) : 0;
		int r;

		CHECK(n >= 0 || n == -EAGAIN);
		put += n > 0 ? (size_t)n : 0;
		while ((r = SSL_read(p.client, got + taken, (int)(sizeof(got) - taken))) > 0)
			taken += (size_t)r;
	}
	CHECK(memcmp(big, got, sizeof(big)) == 0);
	tls_server_end(p.server);
	CHECK_INT(SSL_read(p.client, got, 1), 0);
	CHECK_INT(SSL_get_shutdown(p.client) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
	pair_fini(&p);
	tls_server_free(s);
	SSL_CTX_free(ctx);
}

static void tls12(void)
{
	served(TLS1_2_VERSION);
}

static void tls13(void)
{
	served(TLS1_3_VERSION);
}

static void protocols(void)
{
	SSL_CTX *ctx = client_new();
	struct tls_server *s = server_new(SSL_CTX_get_cert_store(ctx));
	const unsigned char *chosen;
	unsigned n;
	struct pair p;

	SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x08http/1.1\x02h2", 12);
	shake(s, ctx, "a.test", "a.test", NULL, &p);
	SSL_get0_alpn_selected(p.client, &chosen, &n);
	CHECK(n == 2 && memcmp(chosen, "h2", 2) == 0);
	pair_fini(&p);
	SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x08http/1.1", 9);
	shake(s, ctx, "a.test", "a.test", NULL, &p);
	SSL_get0_alpn_selected(p.client, &chosen, &n);
	CHECK(n == 8 && memcmp(chosen, "http/1.1", 8) == 0);
	pair_fini(&p);
	SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h3", 3);
	shake(s, ctx, "a.test", "a.test", NULL, &p);
	CHECK_INT(p.server_err, -EPROTO);
	CHECK_INT(p.refusal, TLS_REFUSED_OTHER);
	pair_fini(&p);
	SSL_CTX_set_alpn_protos(ctx, NULL, 0);
	SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
	SSL_CTX_set_min_proto_version(ctx, TLS1_1_VERSION);
	SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
	shake(s, ctx, "a.test", "a.test", NULL, &p);
	CHECK_INT(p.server_err, -EPROTO);
	CHECK_INT(p.refusal, TLS_REFUSED_OTHER);
	pair_fini(&p);
	tls_server_free(s);
	SSL_CTX_free(ctx);
}

/* A client that does not know the CA says so, in both versions; one that leaves is taken to mean the same. */
static void untrusted(void)
{
	SSL_CTX *ctx = client_new(), *knows = client_new();
	struct tls_server *s = server_new(SSL_CTX_get_cert_store(knows));
	struct pair p;

	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		SSL_CTX_set_max_proto_version(ctx, version);
		shake(s, ctx, "a.test", "a.test", NULL, &p);
		CHECK_INT(p.server_err, -EPROTO);
		CHECK_INT(p.client_err, -EPROTO);
		CHECK_INT(p.refusal, TLS_REFUSED_CERTIFICATE);
		CHECK_STR(tls_why(p.server), "tlsv1 alert unknown ca");
		pair_fini(&p);
	}
	/* Another name than the CA may sign: the client refuses, whoever asked us for it. */
	shake(s, knows, "evil.test", "evil.test", NULL, &p);
	CHECK_INT(p.client_err, -EPROTO);
	CHECK_INT(SSL_get_verify_result(p.client), X509_V_ERR_PERMITTED_VIOLATION);
	pair_fini(&p);
	tls_server_free(s);
	SSL_CTX_free(ctx);
	SSL_CTX_free(knows);
}

static SSL_SESSION *ticket;

static int on_ticket(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(ticket);
	ticket = session;
	return 1;
}

/* A ticket resumes the session of its name, and of no other. */
static void tickets(void)
{
	SSL_CTX *ctx = client_new();
	struct tls_server *s = server_new(SSL_CTX_get_cert_store(ctx));
	struct pair p;
	char byte;

	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
	SSL_CTX_sess_set_new_cb(ctx, on_ticket);
	shake(s, ctx, "eu.cloud.test", "eu.cloud.test", NULL, &p);
	SSL_read(p.client, &byte, 1);
	CHECK(ticket && !SSL_session_reused(p.client));
	pair_fini(&p);
	shake(s, ctx, "eu.cloud.test", "eu.cloud.test", ticket, &p);
	CHECK(SSL_session_reused(p.client));
	pair_fini(&p);
	shake(s, ctx, "us.cloud.test", "us.cloud.test", ticket, &p);
	CHECK(!SSL_session_reused(p.client));
	pair_fini(&p);
	SSL_SESSION_free(TAKE_PTR(ticket));
	tls_server_free(s);
	SSL_CTX_free(ctx);
}

/* More names than are kept. */
static void many_names(void)
{
	SSL_CTX *ctx = client_new();
	struct tls_server *s = server_new(SSL_CTX_get_cert_store(ctx));
	char name[32];

	for (int i = 0; i < 600; i++) {
		struct pair p;

		snprintf(name, sizeof(name), "n%d.cloud.test", i % 300);
		if (i % 50) {
			struct buf none = { 0 };
			struct tls *t = tls_server_session(s, -1, name, &none, now_ns());

			CHECK(t != NULL);
			tls_free(t);
			continue;
		}
		shake(s, ctx, name, name, NULL, &p);
		CHECK_INT(p.server_err, 0);
		pair_fini(&p);
	}
	tls_server_free(s);
	SSL_CTX_free(ctx);
}

/* One sandbox may hold thousands of idle sessions; the next client's handshake does not suffer from that. */
static void many_sessions(void)
{
	static struct tls *open[2500];
	SSL_CTX *ctx = client_new();
	struct tls_server *s = server_new(SSL_CTX_get_cert_store(ctx));

	for (unsigned i = 0; i < ARRAY_SIZE(open); i++) {
		struct pair p;

		shake(s, ctx, "a.test", "a.test", NULL, &p);
		CHECK_INT(p.server_err, 0);
		open[i] = TAKE_PTR(p.server);
		pair_fini(&p);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(open); i++)
		tls_free(open[i]);
	tls_server_free(s);
	SSL_CTX_free(ctx);
}

static void alerts(void)
{
	unsigned char bytes[TLS_ALERT_BYTES];

	tls_alert(112, bytes);
	CHECK(memcmp(bytes, "\x15\x03\x03\x00\x02\x02\x70", 7) == 0);
}

TESTS(T(tls12), T(tls13), T(protocols), T(untrusted), T(tickets), T(many_names), T(many_sessions), T(alerts))
