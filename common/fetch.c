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

/* ---------------------------------------------------------------- who answers */

static int reach_errno(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return 0;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return -ENXIO;
	case CURLE_OPERATION_TIMEDOUT:
		return -ETIMEDOUT;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
		return -EPROTO;
	default:
		return -ECONNREFUSED;
	}
}

static CURL *reach_handle(struct fetch_reach *t, const char *proxy, const char *ca_file, long timeout_ms)
{
	CURL *curl = curl_easy_init();

	if (!curl)
		return NULL;
	curl_easy_setopt(curl, CURLOPT_PRIVATE, t);
	curl_easy_setopt(curl, CURLOPT_URL, t->url);
	curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, timeout_ms);
	curl_easy_setopt(curl, CURLOPT_PROXY, proxy); /* the configuration's alone, none of the environment */
	if (*proxy)
		curl_easy_setopt(curl, CURLOPT_HTTPPROXYTUNNEL, 1L);
	if (*ca_file)
		curl_easy_setopt(curl, CURLOPT_CAINFO, ca_file);
	return curl;
}

static void reach_done(CURLM *multi)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(multi, &left))) {
		struct fetch_reach *t;
		CURLcode code = m->data.result;
		CURL *curl = m->easy_handle;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(curl, CURLINFO_PRIVATE, (char **)&t);
		t->err = reach_errno(code);
		snprintf(t->text, sizeof(t->text), "%s", curl_easy_strerror(code));
		curl_multi_remove_handle(multi, curl);
		curl_easy_cleanup(curl);
	}
}

int fetch_reach(struct fetch_reach *targets, unsigned n, const char *proxy, const char *ca_file, long timeout_ms)
{
	CURLM *multi = curl_multi_init();
	int running = 0, err = 0;

	if (!multi)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		CURL *curl = reach_handle(&targets[i], proxy, ca_file, timeout_ms);

		targets[i].err = -ENOMEM;
		if (curl && curl_multi_add_handle(multi, curl) != CURLM_OK) {
			curl_easy_cleanup(curl);
			curl = NULL;
		}
		if (!curl)
			err = -ENOMEM;
	}
	do {
		if (curl_multi_perform(multi, &running) != CURLM_OK)
			break;
		reach_done(multi);
	} while (running && curl_multi_poll(multi, NULL, 0, 100, NULL) == CURLM_OK);
	curl_multi_cleanup(multi);
	return err;
}
