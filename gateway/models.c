/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/models: what this identity may use, in the format asked for, with prices and context sizes. */
#include <inttypes.h>

#include "common/log.h"
#include "gateway/peek.h"
#include "gateway/request.h"

struct listing {
	struct request *r;
	struct buf *out;
	enum wire_format format;
	unsigned n;
	int err;
};

/* Dollars a token, as decimal text without a float's noise. */
static int put_price(struct buf *out, const char *name, int64_t pico, bool first)
{
	if (pico < 0)
		return 0;
	return buf_printf(out, "%s\"%s\":\"0.%012" PRId64 "\"", first ? "" : ",", name, pico);
}

static int put_facts(struct listing *l, const struct policy_provider *p, struct str model)
{
	struct policy_price price;
	const struct policy *policy = l->r->rules->policy;
	unsigned i = 0;
	int err;

	while (i < policy_n_providers(policy) && policy_provider(policy, i) != p)
		i++;
	if (!policy_price(policy, i, model, &price))
		return 0;
	err = buf_puts(l->out, STR(",\"pricing\":{"));
	if (!err)
		err = put_price(l->out, "input", price.input, true);
	if (!err)
		err = put_price(l->out, "output", price.output, false);
	if (!err)
		err = put_price(l->out, "input_cache_read", price.cache_read, false);
	if (!err)
		err = put_price(l->out, "input_cache_write", price.cache_write_5m, false);
	if (!err)
		err = buf_puts(l->out, STR("}"));
	if (!err && price.context_tokens)
		err = buf_printf(l->out, ",\"context_length\":%" PRId64 ",\"max_output_tokens\":%" PRId64,
				 price.context_tokens, price.max_output_tokens);
	if (!err && price.context_tokens && l->format == WIRE_GEMINI)
		err = buf_printf(l->out, ",\"inputTokenLimit\":%" PRId64 ",\"outputTokenLimit\":%" PRId64,
				 price.context_tokens, price.max_output_tokens);
	return err;
}

static void on_model(void *arg, const struct policy_provider *p, struct str model)
{
	struct listing *l = arg;
	struct str host = peek_name(l->r->conn);
	bool wanted = (l->format == WIRE_OPENAI_CHAT || p->formats[l->format]) &&
		      (!host.n || policy_provider_owns(p, host));

	/* A pattern is no model's name. */
	if (l->err || !wanted || memchr(model.s, '*', model.n) || memchr(model.s, '?', model.n))
		return;
	l->err = buf_puts(l->out, l->n++ ? STR(",{") : STR("{"));
	if (l->format == WIRE_GEMINI) {
		if (!l->err)
			l->err = buf_printf(l->out, "\"name\":\"models/%.*s\",\"displayName\":", STR_ARG(model));
		if (!l->err)
			l->err = buf_json_string(l->out, model);
	} else {
		if (!l->err)
			l->err = buf_puts(l->out, l->format == WIRE_ANTHROPIC_MESSAGES ?
							  STR("\"type\":\"model\",\"id\":") :
							  STR("\"object\":\"model\",\"created\":0,\"id\":"));
		if (!l->err)
			l->err = buf_json_string(l->out, model);
		if (!l->err)
			l->err = buf_puts(l->out, l->format == WIRE_ANTHROPIC_MESSAGES ? STR(",\"display_name\":") :
											 STR(",\"owned_by\":"));
		if (!l->err)
			l->err = buf_json_string(l->out, l->format == WIRE_ANTHROPIC_MESSAGES ? model : p->name);
	}
	if (!l->err)
		l->err = put_facts(l, p, model);
	if (!l->err)
		l->err = buf_puts(l->out, STR("}"));
}

void models_answer(struct request *r)
{
	struct policy_facts who = request_facts(r);
	struct conn *c = r->conn;
	struct buf body;
	struct listing l = { .r = r, .out = &body, .format = r->route.format };
	size_t was = buf_len(&c->out);

	if (!who.n_tags) {
		request_deny(r, OUTCOME_DENIED_UNLABELLED,
			     "Sallyport: this sandbox has no label; ask its operator for `sallyport label TARGET tag:NAME`.");
		return;
	}
	if (l.format == WIRE_OPENAI_CHAT && http_header_get(&r->head, "anthropic-version").n)
		l.format = WIRE_ANTHROPIC_MESSAGES;
	buf_init(&body, 1u << 20);
	l.err = buf_puts(&body, l.format == WIRE_GEMINI		      ? STR("{\"models\":[") :
				l.format == WIRE_ANTHROPIC_MESSAGES ? STR("{\"data\":[") :
								      STR("{\"object\":\"list\",\"data\":["));
	policy_models(r->rules->policy, &who, on_model, &l);
	if (!l.err)
		l.err = buf_puts(&body, l.format == WIRE_ANTHROPIC_MESSAGES ?
						STR("],\"has_more\":false,\"first_id\":null,\"last_id\":null}") :
						STR("]}"));
	if (!l.err)
		l.err = buf_printf(&c->out, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n%s\r\n",
				   buf_len(&body), r->head.keep_alive ? "" : "connection: close\r\n");
	if (!l.err)
		l.err = buf_puts(&c->out, buf_str(&body));
	buf_fini(&body);
	if (l.err) {
		c->out.end = c->out.start + was; /* no head without its body */
		request_deny(r, OUTCOME_OVERLOADED, "Sallyport: the list of models is too long.");
		return;
	}
	r->answer_status = 200;
	request_finish(r, OUTCOME_LOCAL);
	if (c->state != CONN_DEAD)
		conn_flush(c);
}
