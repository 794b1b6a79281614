/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP client of the end-to-end tests: one request, or many at once.
 *
 *   http [-X METHOD] [-H 'Name: value']… [-d BODY | -f FILE] [-o FILE] [-i FILE] [-w MS] URL
 *   http -r FILE [-o FILE] URL                      the bytes of FILE as they are
 *   http -n COUNT [-p PARALLEL] [-d BODY] URL       many: one line for each that got an answer
 *
 * Prints "STATUS REQUEST-ID done|cut", or "000 - REASON" when no answer came. -o: body, -i: head. -g FILE (many):
 * all clients connect and wait until FILE exists. -R N (many): a failed connect is tried again for N ms.
 */
#include <pthread.h>
#include <signal.h>

#include "common/log.h"
#include "tests/practice/http_client.h"

static struct http_url url;
static struct buf request;
static const char *method = "POST", *body_file, *head_file, *gate_file;
static unsigned count = 1, parallel = 1, wait_ms;
static unsigned started;
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;

static void read_file(const char *path, struct buf *out)
{
	FILE *f = fopen(path, "re");
	char *room;
	size_t n;

	if (!f)
		die("%s cannot be read: %s", path, errno_text(errno));
	while ((room = buf_reserve(out, 65536)) && (n = fread(room, 1, 65536, f)))
		buf_commit(out, n);
	fclose(f);
}

static void write_file(const char *path, struct str s)
{
	FILE *f = path ? fopen(path, "we") : NULL;

	if (!f)
		return;
	fwrite(s.s, 1, s.n, f);
	fclose(f);
}

static void build_request(const char *headers, struct str body)
{
	buf_printf(&request, "%s %s HTTP/1.1\r\nhost: %s:%u\r\nuser-agent: e2e-http/1.0\r\n%s", method, url.path, url.host,
		   url.port, headers);
	if (body.n)
		buf_printf(&request, "content-type: application/json\r\ncontent-length: %zu\r\n", body.n);
	buf_puts(&request, STR("\r\n"));
	buf_puts(&request, body);
}

static void keep(void *arg, struct str piece)
{
	if (arg)
		buf_puts(arg, piece);
}

static void say(const struct http_answer *a, bool answered, const char *why)
{
	struct str id = answered ? http_header_get(&a->head, "sallyport-request-id") : STR_NULL;

	pthread_mutex_lock(&out_lock);
	if (answered)
		printf("%d %.*s %s\n", a->head.status, STR_ARG(id.n ? id : STR("-")), a->finished ? "done" : "cut");
	else
		printf("000 - %s\n", why);
	fflush(stdout);
	pthread_mutex_unlock(&out_lock);
}

/* One exchange on *fd, which is opened when it is -1 and closed when it cannot be used again. */
static int exchange(int *fd, struct buf *body)
{
	struct http_answer *a = calloc(1, sizeof(*a));
	struct buf head;
	bool answered;

	if (*fd < 0)
		*fd = http_connect(&url, wait_ms);
	if (*fd < 0) {
		say(NULL, false, errno_text(errno));
		free(a);
		return 1;
	}
	buf_init(&head, HTTP_HEAD_MAX);
	answered = http_exchange(*fd, buf_str(&request), !strcmp(method, "HEAD"), a, &head, keep, body);
	say(a, answered, "closed without an answer");
	if (head_file)
		write_file(head_file, buf_str(&head));
	if (!answered || !a->finished || !a->head.keep_alive) {
		close(*fd);
		*fd = -1;
	}
	buf_fini(&head);
	buf_fini(&a->in);
	free(a);
	return answered ? 0 : 1;
}

static void *run_many(void *arg)
{
	struct timespec nap = { 0, 1000000 };
	int fd = gate_file ? http_connect(&url, wait_ms) : -1;

	(void)arg;
	while (gate_file && access(gate_file, F_OK))
		nanosleep(&nap, NULL);
	while (__atomic_fetch_add(&started, 1, __ATOMIC_RELAXED) < count)
		exchange(&fd, NULL);
	if (fd >= 0)
		close(fd);
	return NULL;
}

static int run_all(void)
{
	pthread_t *threads = calloc(parallel, sizeof(*threads));

	for (unsigned i = 0; i < parallel; i++)
		if (pthread_create(&threads[i], NULL, run_many, NULL))
			die("no more threads: use a smaller -p");
	for (unsigned i = 0; i < parallel; i++)
		pthread_join(threads[i], NULL);
	free(threads);
	return 0;
}

static int run_one(void)
{
	struct buf body;
	int fd = -1, rc;

	buf_init(&body, 256u << 20);
	rc = exchange(&fd, &body);
	write_file(body_file, buf_str(&body));
	buf_fini(&body);
	if (fd >= 0)
		close(fd);
	return rc;
}

int main(int argc, char **argv)
{
	struct buf body, headers, raw;
	int c;

	signal(SIGPIPE, SIG_IGN);
	buf_init(&request, 257u << 20);
	buf_init(&body, 256u << 20);
	buf_init(&headers, 65536);
	buf_init(&raw, 256u << 20);
	while ((c = getopt(argc, argv, "X:H:d:f:r:o:i:w:R:n:p:g:")) != -1) {
		switch (c) {
		case 'X': method = optarg; break;
		case 'H': buf_printf(&headers, "%s\r\n", optarg); break;
		case 'd': buf_puts(&body, str_of(optarg)); break;
		case 'f': read_file(optarg, &body); break;
		case 'r': read_file(optarg, &raw); break;
		case 'o': body_file = optarg; break;
		case 'i': head_file = optarg; break;
		case 'w':
		case 'R': wait_ms = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'n': count = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'p': parallel = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'g': gate_file = optarg; break;
		default: die("usage: see the top of tests/e2e/http.c");
		}
	}
	if (optind + 1 != argc || !http_url_parse(argv[optind], &url) || !count || !parallel)
		die("usage: http [options] http://HOST:PORT/PATH; see the top of tests/e2e/http.c");
	if (buf_len(&raw))
		buf_puts(&request, buf_str(&raw));
	else {
		buf_append(&headers, "", 1);
		build_request(buf_head(&headers), buf_str(&body));
	}
	c = count > 1 || gate_file ? run_all() : run_one();
	buf_fini(&request);
	buf_fini(&body);
	buf_fini(&headers);
	buf_fini(&raw);
	return c;
}
