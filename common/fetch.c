/* SPDX-License-Identifier: Apache-2.0 */
#include "common/fetch.h"

#include <errno.h>
#include <stdio.h>

#include <curl/curl.h>

struct fetch_body {
	struct buf *buf;
	bool too_long;
};

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct fetch_body *body = arg;

	if (!buf_append(body->buf, data, size * n))
		return size * n;
	body->too_long = true;
	return 0;
}

struct fetch_connected {
	fetch_connected_fn fn;
	void *arg;
};

static int on_before_request(void *arg, char *ip, char *local_ip, int port, int local_port)
{
	struct fetch_connected *c = arg;

	(void)ip;
	(void)local_ip;
	(void)port;
	(void)local_port;
	c->fn(c->arg);
	return CURL_PREREQFUNC_OK;
}

static int fetch_errno(CURLcode code, bool too_long)
{
	if (code == CURLE_OK)
		return 0;
	if (too_long)
		return -ENOBUFS;
	return code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT
	       : code == CURLE_COULDNT_CONNECT	? -ECONNREFUSED
						: -EPROTO;
}

int fetch_unix(const char *socket_path, const char *path, long timeout_ms,
	       fetch_connected_fn on_connected, void *arg, struct buf *ret, long *ret_status)
{
	struct fetch_connected connected = { on_connected, arg };
	struct fetch_body body = { ret, false };
	CURL *curl = curl_easy_init();
	char url[512];
	CURLcode code;

	if (!curl)
		return -ENOMEM;
	if (snprintf(url, sizeof(url), "http://localhost%s", path) >= (int)sizeof(url)) {
		curl_easy_cleanup(curl);
		return -ENAMETOOLONG;
	}
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
	curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
	if (on_connected) {
		curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, on_before_request);
		curl_easy_setopt(curl, CURLOPT_PREREQDATA, &connected);
	}
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
	code = curl_easy_perform(curl);
	if (code == CURLE_OK)
		curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, ret_status);
	curl_easy_cleanup(curl);
	return fetch_errno(code, body.too_long);
}
