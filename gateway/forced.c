/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/forced.h"

#include "common/base.h"

enum { ALERT_ACCESS_DENIED = 49, ALERT_DECODE_ERROR = 50, ALERT_UNRECOGNIZED_NAME = 112 };

static struct forced_verdict go(enum forced_action action)
{
	return (struct forced_verdict){ .action = action };
}

static struct forced_verdict refuse(uint8_t alert, const char *kind, const char *why)
{
	return (struct forced_verdict){ FORCED_REFUSE, alert, kind, why };
}

/* A virtual address is of one provider's name alone: there is nothing else behind it. */
#define VIP_WHY "its address stands for a provider's name, and it names another host; let it resolve the name that it asks for"

static struct forced_verdict decide_tls(const struct forced_facts *f)
{
	/*
	 * Also with ECH: browsers send a meaningless one to everybody (RFC 9849, 6.2), and a name that we answer for is
	 * not passed on.
	 */
	if (f->named && f->owned)
		return go(FORCED_TERMINATE);
	if (f->ech)
		return refuse(ALERT_ACCESS_DENIED, "name-hidden",
			      "it encrypts the name of its server (ECH), which may be a provider's; switch ECH off in the client, or ask for another egress mode of this tag");
	if (!f->named)
		return refuse(ALERT_ACCESS_DENIED, "no-name",
			      "it does not name its server (SNI), which may be a provider's; connect by name, not by address");
	if (f->why == STAMP_VIP)
		return refuse(ALERT_UNRECOGNIZED_NAME, "vip-other-name", VIP_WHY);
	return go(FORCED_SPLICE);
}

static struct forced_verdict decide_http(const struct forced_facts *f)
{
	if (f->named && f->owned)
		return go(FORCED_SERVE);
	if (f->why == STAMP_VIP)
		return refuse(0, "vip-other-name", VIP_WHY);
	if (!f->named)
		return refuse(0, "no-name", "its request has no Host, which may be a provider's; send one");
	if (f->sort == FORCED_UPGRADE)
		return refuse(0, "not-web",
			      "it asks for another protocol (Upgrade) without TLS, in which no name can be seen; use wss:// or https://");
	return go(FORCED_SPLICE);
}

void forced_decide(const struct forced_facts *f, struct forced_verdict *ret)
{
	switch (f->sort) {
	case FORCED_TLS:
		*ret = decide_tls(f);
		break;
	case FORCED_HTTP:
	case FORCED_UPGRADE:
		*ret = decide_http(f);
		break;
	case FORCED_TLS_BAD:
		*ret = refuse(ALERT_DECODE_ERROR, "not-web", "its TLS hello is malformed; look at the client");
		break;
	default:
		*ret = refuse(0, "not-web",
			      "it speaks neither TLS nor HTTP/1 there, so no name can be seen; use another port, or another egress mode of this tag");
		break;
	}
}

const char *forced_why_name(uint32_t why)
{
	static const char *const names[] = { [STAMP_EXPLICIT] = "explicit", [STAMP_VIP] = "vip",
					     [STAMP_SUSPECT] = "suspect",   [STAMP_STRICT] = "strict",
					     [STAMP_DNS] = "dns" };
	_Static_assert(ARRAY_SIZE(names) == STAMP_WHY_MAX, "a reason lacks its name");

	return why < ARRAY_SIZE(names) && names[why] ? names[why] : "?";
}
