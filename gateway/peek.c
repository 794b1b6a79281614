/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation.
 *
 *   PEEK -> serve (clear text)   -> HEAD, as at the door itself
 *        -> TLS (our handshake)  -> HEAD, the same inside of it
 *        -> SPLICED              (splice.c)
 *        -> refused: an event, an alert or an answer where the client can read one, the end
 *
 * What is read in PEEK stays in c->in and is read again by whoever goes on. The decision is forced_decide().
 */
#include "gateway/peek.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/addr.h"
#include "common/log.h"
#include "gateway/client_hello.h"
#include "gateway/deny.h"
#include "gateway/forced.h"
#include "gateway/request.h"
#include "gateway/splice.h"
#include "gateway/tls_server.h"

enum { ALERT_HANDSHAKE_FAILURE = 40, ALERT_INTERNAL_ERROR = 80 };

struct forced {
	struct client_hello hello;
	char name[HOST_NAME_BYTES]; /* that the client asks for, until the decision; then that it is bound to, or "" */
	bool bound;
	struct splice *splice;
};

/* ------------------------------------------------------------------ names */

bool peek_host(struct str field, char *ret, size_t size)
{
	const char *colon = field.n ? memrchr(field.s, ':', field.n) : NULL;
	char name[HOST_NAME_BYTES];

	/* The kernel knows where the connection goes: whichever port is written here, the name says whose it is. */
	if (colon) {
		struct str port = str_skip(field, (size_t)(colon + 1 - field.s));

		for (size_t i = 0; i < port.n; i++)
			if (port.s[i] < '0' || port.s[i] > '9')
				return false;
		if (!port.n || port.n > 5)
			return false;
		field.n = (size_t)(colon - field.s);
	}
	return host_name_copy(field, name) && str_copy(ret, size, str_of(name));
}

struct str peek_name(const struct conn *c)
{
	return c->forced && c->forced->bound ? str_of(c->forced->name) : STR_NULL;
}

struct splice *peek_splice(const struct conn *c)
{
	return c->forced->splice;
}

void peek_set_splice(struct conn *c, struct splice *s)
{
	c->forced->splice = s;
}

void peek_free(struct forced *f)
{
	if (f && f->splice)
		splice_free(f->splice);
	free(f);
}

static bool owned(const struct gateway *gw, const char *name)
{
	return policy_domain_provider(gw->rules->policy, str_of(name)) >= 0;
}

/* ------------------------------------------------------------------ refusals */

/* "198.18.0.7 port 443 for api.example.com (vip)" */
static const char *describe(const struct conn *c, char *ret, size_t size)
{
	const struct stamp *s = &c->stamp;
	const char *asked = c->forced->name, *meant = s->name_id ? hosts_get(&c->gw->hosts, s->name_id) : "";
	char addr[ADDR_TEXT_BYTES];

	if (!strcmp(meant, asked))
		meant = "";
	snprintf(ret, size, "%s port %u%s%s%s%s (%s)", addr_text((int)s->family, s->orig_addr, addr), s->orig_port,
		 *asked ? " for " : "", asked, *meant ? ", the address of " : "", meant, forced_why_name(s->why));
	return ret;
}

/* Nothing more is read; what is in `out` goes first. */
static void end(struct conn *c)
{
	c->state = CONN_IDLE;
	c->close_after = true;
	conn_flush(c);
}

static void end_with_alert(struct conn *c, uint8_t alert)
{
	unsigned char bytes[TLS_ALERT_BYTES];

	tls_alert(alert, bytes);
	if (buf_append(&c->out, bytes, sizeof(bytes)) < 0)
		conn_close(c);
	else
		end(c);
}

static void end_with_answer(struct conn *c, const char *why)
{
	char text[400];
	struct denial d = { .outcome = OUTCOME_MISDIRECTED, .close = true };

	snprintf(text, sizeof(text), "Sallyport: this connection was refused: %s.", why);
	d.message = str_of(text);
	if (deny_write(&d, &c->out) < 0)
		conn_close(c);
	else
		end(c);
}

static void refuse(struct conn *c, const struct forced_verdict *v, enum forced_sort sort)
{
	char what[400];

	account_event(c->gw, c, v->kind, "a connection to %s was refused: %s", describe(c, what, sizeof(what)), v->why);
	if (v->alert)
		end_with_alert(c, v->alert);
	else if (sort == FORCED_HTTP || sort == FORCED_UPGRADE)
		end_with_answer(c, v->why);
	else
		conn_close(c);
}

void peek_refuse_tls(struct conn *c)
{
	log_limited(LOG_DEBUG, "a client speaks TLS to the door; its base URL must begin with http://");
	end_with_alert(c, ALERT_HANDSHAKE_FAILURE);
}

/* ------------------------------------------------------------------ TLS of ours */

static unsigned door_port(const struct conn *c)
{
	struct sockaddr_in6 a = { 0 }; /* the port lies at the same place in a sockaddr_in */
	socklen_t len = sizeof(a);

	return getsockname(c->fd, (struct sockaddr *)&a, &len) < 0 ? 0 : ntohs(a.sin6_port);
}

static void handshake(struct conn *c)
{
	enum tls_refusal refusal = TLS_REFUSED_OTHER;
	bool want_write = false;
	int err = tls_server_handshake(c->tls, &want_write, &refusal);

	if (!err) {
		conn_begin(c);
		return;
	}
	if (err == -EAGAIN) {
		loop_rewatch(&c->gw->loop, &c->watch, want_write ? EPOLLOUT : EPOLLIN | EPOLLRDHUP);
		return;
	}
	if (refusal == TLS_REFUSED_CERTIFICATE)
		account_event(c->gw, c, "ca-untrusted",
			      "a client does not accept this host's CA for %s: give it the base URL http://127.0.0.1:%u, or give its sandbox the CA (`sallyport ca install`, `sallyport env`)",
			      c->forced->name, door_port(c));
	else
		log_limited(LOG_INFO, "a client cannot agree on TLS with us name=%s why=\"%s\"", c->forced->name, tls_why(c->tls));
	conn_close(c);
}

static void terminate(struct conn *c)
{
	struct gateway *gw = c->gw;

	c->tls = tls_server_session(gw->tls_server, c->fd, c->forced->name, &c->in, gw->loop.wall_ns);
	if (!c->tls) {
		account_event(gw, c, "ca-missing",
			      "a connection for %s was refused: this host has no CA to answer it with; look at `sallyport ca show` and the daemon's log",
			      c->forced->name);
		end_with_alert(c, ALERT_INTERNAL_ERROR);
		return;
	}
	c->state = CONN_TLS;
	conn_set_idle(c);
	conn_hold_in(c);
	handshake(c);
}

/* ------------------------------------------------------------------ the decision */

static void decide(struct conn *c, enum forced_sort sort)
{
	struct forced *f = c->forced;
	struct forced_facts facts = { .sort = sort, .why = c->stamp.why, .named = f->name[0], .ech = f->hello.ech };
	struct forced_verdict v;

	if (!c->gw->rules) {
		/* Nobody knows which names are providers'. */
		log_limited(LOG_WARN, "a connection was refused: the gateway has no policy yet");
		conn_close(c);
		return;
	}
	facts.owned = f->name[0] && owned(c->gw, f->name);
	forced_decide(&facts, &v);
	log_debug("a connection was led here why=%s name=%s action=%d", forced_why_name(c->stamp.why), f->name, v.action);
	f->bound = v.action == FORCED_SERVE || v.action == FORCED_TERMINATE;
	switch (v.action) {
	case FORCED_SERVE:
		conn_begin(c);
		break;
	case FORCED_TERMINATE:
		terminate(c);
		break;
	case FORCED_SPLICE:
		splice_start(c, sort == FORCED_HTTP);
		break;
	case FORCED_REFUSE:
		refuse(c, &v, sort);
		break;
	}
}

static void look_for_hello(struct conn *c)
{
	struct forced *f = c->forced;
	const char *why = NULL;
	int n = client_hello_parse(buf_str(&c->in), &f->hello, &why);

	if (n == HELLO_MORE)
		return;
	if (n == HELLO_BAD) {
		log_limited(LOG_DEBUG, "a client's TLS hello was refused why=\"%s\"", why);
		decide(c, FORCED_TLS_BAD);
		return;
	}
	str_copy(f->name, sizeof(f->name), str_of(f->hello.name));
	decide(c, FORCED_TLS);
}

static void look_for_head(struct conn *c)
{
	struct forced *f = c->forced;
	struct http_head head;
	const char *why = NULL;
	int n = http_parse_request(buf_str(&c->in), &head, &why);

	if (n == HTTP_MORE)
		return;
	if (n == HTTP_BAD) {
		log_limited(LOG_DEBUG, "what a client sent is not HTTP why=\"%s\"", why);
		decide(c, FORCED_OTHER);
		return;
	}
	peek_host(http_header_get(&head, "host"), f->name, sizeof(f->name));
	decide(c, head.upgrade ? FORCED_UPGRADE : FORCED_HTTP);
}

static void look(struct conn *c)
{
	if (*buf_head(&c->in) == TLS_RECORD_HANDSHAKE)
		look_for_hello(c);
	else
		look_for_head(c);
}

static void peek_read(struct conn *c)
{
	char *room = buf_reserve(&c->in, SCRATCH_BYTES);
	ssize_t n = room ? recv(c->fd, room, SCRATCH_BYTES, 0) : -1;
	bool worth;

	if (n < 0 && room && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_close(c);
		return;
	}
	/* Of a head that comes byte by byte only the end of a line is worth another look. */
	worth = !buf_len(&c->in) || *buf_head(&c->in) == TLS_RECORD_HANDSHAKE || memchr(room, '\n', (size_t)n);
	buf_commit(&c->in, (size_t)n);
	conn_hold_in(c);
	if (worth && c->state != CONN_DEAD)
		look(c);
}

/* ------------------------------------------------------------------ events */

void peek_start(struct conn *c)
{
	c->forced = calloc(1, sizeof(*c->forced));
	if (!c->forced)
		conn_close(c);
	else
		c->state = CONN_PEEK;
}

void peek_event(struct conn *c, uint32_t events)
{
	switch (c->state) {
	case CONN_PEEK:
		peek_read(c);
		break;
	case CONN_TLS:
		handshake(c);
		break;
	default:
		splice_event(c, events);
		break;
	}
}

void peek_timeout(struct conn *c)
{
	struct forced_facts facts = { .sort = FORCED_OTHER, .why = c->stamp.why };
	struct forced_verdict v;
	char what[400];

	if (c->state != CONN_PEEK)
		return;
	forced_decide(&facts, &v);
	account_event(c->gw, c, v.kind, "a connection to %s was refused: %s", describe(c, what, sizeof(what)), v.why);
}

/* ------------------------------------------------------------------ requests of a connection that is passed on */

const char *peek_follow(struct conn *c, const struct http_head *head)
{
	char name[HOST_NAME_BYTES] = "";
	struct forced_facts facts = { .sort = head->upgrade ? FORCED_UPGRADE : FORCED_HTTP, .why = c->stamp.why };
	struct forced_verdict v;

	if (!c->gw->rules)
		return "there is no policy";
	facts.named = peek_host(http_header_get(head, "host"), name, sizeof(name));
	facts.owned = facts.named && owned(c->gw, name);
	forced_decide(&facts, &v);
	if (v.action == FORCED_SPLICE)
		return NULL;
	return facts.owned ? "a later request on it names a provider; use a connection of its own for each name" : v.why;
}

void peek_follow_refused(struct conn *c, const char *why)
{
	char what[400];

	account_event(c->gw, c, "later-request", "a connection to %s was cut off: %s", describe(c, what, sizeof(what)), why);
}
