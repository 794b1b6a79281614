/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is sent to the provider: the head with the real key and without what was the sandbox's, the body as it
 * came but for the two edits that the gateway makes (request.h: usage_edit and the model's prefix).
 */
#include <errno.h>

#include "gateway/request.h"

/* Writes of one event before others get their turn. */
#define ASK_WRITES 4

/* ------------------------------------------------------------------ the request's head */

/* Hop-by-hop fields, credentials of the sandbox, and what would tell the provider of us or it. */
static const char *const dropped_fields[] = {
	"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect",
	"keep-alive", "proxy-connection", "proxy-authorization", "proxy-authenticate", "authorization",
	"x-api-key", "api-key", "x-goog-api-key", "cookie", "accept-encoding", "forwarded", "via",
	"x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port",
	"x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url",
	"x-amz-security-token", "x-amz-date", "x-amz-content-sha256",
};

static bool field_forwarded(struct str name, struct str connection)
{
	for (size_t i = 0; i < ARRAY_SIZE(dropped_fields); i++) {
		const char *d = dropped_fields[i];

		if ((name.s[0] | 0x20) == d[0] && str_caseeq(name, str_of(d)))
			return false;
	}
	/* Ours: the provider is not told of us, nor by the sandbox in our name. */
	if (name.n > 10 && (strncasecmp(name.s, "sallyport-", 10) == 0 || strncasecmp(name.s, "x-sallyport-", 12) == 0))
		return false;
	return !connection.n || !http_list_has(connection, name);
}

/* The client's own credential, in passthrough mode; empty for none or a placeholder. */
struct str ask_client_credential(const struct request *r, const char **ret_field)
{
	struct str v = http_header_get(&r->head, "authorization");

	*ret_field = "authorization";
	if (str_starts(v, STR("Bearer ")) ? !str_eq(v, STR("Bearer -")) : v.n > 1)
		return v;
	*ret_field = "x-api-key";
	v = http_header_get(&r->head, "x-api-key");
	return v.n > 1 ? v : STR_NULL;
}

static int append_key(struct request *r, const struct policy_provider *p)
{
	static const char *const fields[AUTH_HEADER_MAX] = {
		[AUTH_BEARER] = "authorization: Bearer ",
		[AUTH_X_API_KEY] = "x-api-key: ",
		[AUTH_X_GOOG_API_KEY] = "x-goog-api-key: ",
		[AUTH_API_KEY] = "api-key: ",
	};
	struct buf *out = &r->up_head;
	const char *field;
	struct str own;
	int err;

	if (p->auth_mode == AUTH_NONE)
		return 0;
	own = p->auth_mode == AUTH_PASSTHROUGH ? ask_client_credential(r, &field) : STR_NULL;
	if (own.n)
		return buf_printf(out, "%s: %.*s\r\n", field, STR_ARG(own));
	err = buf_puts(out, str_of(fields[p->auth_header]));
	if (!err)
		err = secret_append(r->rules->keys[r->provider].secret, out);
	return err ? err : buf_puts(out, STR("\r\n"));
}

static int append_added(struct request *r, const struct policy_provider *p)
{
	struct policy_facts who = r->conn ? request_facts(r) : (struct policy_facts){ 0 };
	struct str added[16];
	unsigned n = policy_grant_headers(r->rules->policy, &who, r->provider, r->verdict.model, added,
					  ARRAY_SIZE(added));
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++)
		err = buf_printf(&r->up_head, "%.*s\r\n", STR_ARG(added[i]));
	for (unsigned i = 0; i < p->n_add_headers && !err; i++)
		err = buf_printf(&r->up_head, "%.*s\r\n", STR_ARG(p->add_headers[i]));
	return err;
}

static int append_host(struct buf *out, const struct policy_provider *p)
{
	bool v6 = memchr(p->host.s, ':', p->host.n);
	bool usual = p->port == (p->tls ? 443 : 80);
	char port[8] = "";

	if (!usual)
		snprintf(port, sizeof(port), ":%u", p->port);
	return buf_printf(out, "host: %s%.*s%s%s\r\n", v6 ? "[" : "", STR_ARG(p->host), v6 ? "]" : "", port);
}

static int ask_build_head(struct request *r, size_t body_bytes)
{
	const struct policy_provider *p = request_provider(r);
	struct str connection = http_header_get(&r->head, "connection");
	struct buf *out = &r->up_head;
	char accept[64];
	int err = buf_printf(out, "%.*s %.*s%s HTTP/1.1\r\n", STR_ARG(r->head.method), STR_ARG(p->base_path),
			     r->route.target);

	if (!err)
		err = append_host(out, p);
	if (str_caseeq(connection, STR("keep-alive")) || str_caseeq(connection, STR("close")))
		connection = STR_NULL;
	for (unsigned i = 0; i < r->head.n_headers && !err; i++) {
		const struct http_header *h = &r->head.headers[i];

		if (!field_forwarded(h->name, connection))
			continue;
		err = buf_puts(out, h->name);
		if (!err)
			err = buf_puts(out, STR(": "));
		if (!err)
			err = buf_puts(out, h->value);
		if (!err)
			err = buf_puts(out, STR("\r\n"));
	}
	coding_accept(http_header_get(&r->head, "accept-encoding"), accept, sizeof(accept));
	if (!err && !r->strip_on && accept[0])
		err = buf_printf(out, "accept-encoding: %s\r\n", accept);
	else if (!err)
		err = buf_puts(out, STR("accept-encoding: identity\r\n"));
	if (!err)
		err = append_added(r, p);
	if (!err)
		err = append_key(r, p);
	if (!err && (body_bytes || str_eq(r->head.method, STR("POST"))))
		err = buf_printf(out, "content-length: %zu\r\n", body_bytes);
	return err ? err : buf_puts(out, STR("\r\n"));
}

/* ------------------------------------------------------------------ the request's body */

/* The body in pieces: as it came, but for the model's prefix and the wish for usage. */
struct edit {
	uint64_t at, skip;
	struct str insert;
};

static void ask_build_pieces(struct request *r, const struct edit *edits, unsigned n)
{
	struct str rest = buf_str(&r->body);
	uint64_t at = 0;

	r->n_pieces = 0;
	for (unsigned i = 0; i < n; i++) {
		r->pieces[r->n_pieces++] = (struct iovec){ (char *)(uintptr_t)rest.s, edits[i].at - at };
		r->pieces[r->n_pieces++] = (struct iovec){ (char *)(uintptr_t)edits[i].insert.s, edits[i].insert.n };
		rest = str_skip(rest, edits[i].at - at + edits[i].skip);
		at = edits[i].at + edits[i].skip;
	}
	r->pieces[r->n_pieces++] = (struct iovec){ (char *)(uintptr_t)rest.s, rest.n };
}

/*
 * "provider/model" in the body becomes "model"; a chat stream is asked for its usage. Both only in a body
 * that is not compressed. Sorted by position.
 */
static unsigned ask_edits(struct request *r, struct edit edits[REQUEST_EDITS_MAX])
{
	const struct req_facts *f = r->facts;
	size_t prefix = r->model.n - r->verdict.model.n;
	unsigned n = 0;

	r->strip_on = false;
	if (r->decoder)
		return 0;
	if (prefix && !r->route.model[0] && f->model_len > prefix)
		edits[n++] = (struct edit){ f->model_at, prefix, STR_NULL };
	if (f->usage_edit.insert[0] && r->route.format == WIRE_OPENAI_CHAT && request_provider(r)->usage_option) {
		edits[n++] = (struct edit){ f->usage_edit.at, f->usage_edit.skip, str_of(f->usage_edit.insert) };
		r->strip_on = true;
		sse_strip_init(&r->strip);
	}
	if (n == 2 && edits[0].at > edits[1].at) {
		struct edit first = edits[1];

		edits[1] = edits[0];
		edits[0] = first;
	}
	return n;
}

int ask_build(struct request *r)
{
	struct edit edits[REQUEST_EDITS_MAX];
	size_t body_bytes = 0;
	int err;

	if (buf_len(&r->up_head))
		explicit_bzero(r->up_head.data, r->up_head.cap);
	buf_reset(&r->up_head, SIZE_MAX);
	if (r->model.n != r->verdict.model.n && r->route.model[0] && !route_set_model(&r->route, r->verdict.model))
		return -ENAMETOOLONG;
	ask_build_pieces(r, edits, ask_edits(r, edits));
	for (unsigned i = 0; i < r->n_pieces; i++)
		body_bytes += r->pieces[i].iov_len;
	err = ask_build_head(r, body_bytes);
	r->to_send = buf_len(&r->up_head) + body_bytes;
	r->sent = 0;
	return err;
}

/* Sends what is left; 0 when all went, -EAGAIN (also: others get their turn), or what broke. */
int ask_send(struct request *r)
{
	for (int i = 0; r->sent < r->to_send; i++) {
		struct iovec iov[ARRAY_SIZE(r->pieces) + 2];
		size_t skip = r->sent;
		int n = 0;
		ssize_t put;

		if (i == ASK_WRITES)
			return -EAGAIN;
		iov[n++] = (struct iovec){ buf_head(&r->up_head), buf_len(&r->up_head) };
		for (unsigned k = 0; k < r->n_pieces; k++)
			iov[n++] = r->pieces[k];
		for (int k = 0; k < n; k++) {
			size_t cut = MIN(skip, iov[k].iov_len);

			if (cut) /* an empty piece may have no address */
				iov[k].iov_base = (char *)iov[k].iov_base + cut;
			iov[k].iov_len -= cut;
			skip -= cut;
		}
		put = upstream_writev(r->up, iov, n);
		if (put < 0)
			return (int)put;
		r->sent += (size_t)put;
	}
	return 0;
}
