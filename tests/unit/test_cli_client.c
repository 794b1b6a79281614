/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "cli/untrusted.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static int parse(const char *text, struct answer *ret)
{
	char *copy = strdup(text);

	return answer_parse(copy, strlen(copy), ret);
}

static void rows(void)
{
	struct answer a;

	CHECK_INT(
		parse("{\"columns\":[\"id\",\"name\",\"x\"]}\n[1876543210987654321,\"a\\\"b\\\\\\n\\u00e9\\ud83d\\ude00\",null]\n"
		      "[-9223372036854775808,\"\",7]\n{\"end\":true,\"rows\":2}\n",
		      &a),
		0);
	CHECK_INT(a.n_columns, 3);
	CHECK_INT(a.n_rows, 2);
	CHECK_INT(answer_int(&a, 0, "id"), 1876543210987654321LL); /* beyond what a double holds */
	CHECK_INT(answer_int(&a, 1, "id"), INT64_MIN);
	CHECK(str_eq(answer_text(&a, 0, "name"), STR("a\"b\\\n\303\251\360\237\230\200")));
	CHECK_INT(answer_cell(&a, 0, "x")->kind, ANSWER_NULL);
	CHECK_INT(answer_int(&a, 1, "x"), 7);
	CHECK_INT(answer_int(&a, 1, "no such"), 0);
	CHECK_INT(answer_cell(&a, 5, "id")->kind, ANSWER_NULL);
	CHECK_INT(answer_text(&a, 1, "name").n, 0);
	CHECK_INT(answer_column(&a, "nam"), -1);
	answer_fini(&a);
	answer_fini(&a);
}

static void errors_of_the_ledger(void)
{
	struct answer a;

	CHECK_INT(parse("{\"error\":\"ask \\\"less\\\"\"}\n", &a), -EREMOTEIO);
	CHECK(str_eq(a.columns[0], STR("ask \"less\"")));
	answer_fini(&a);
	/* In the middle of rows. */
	CHECK_INT(parse("{\"columns\":[\"a\"]}\n[1]\n{\"error\":\"slow\"}\n", &a), -EREMOTEIO);
	CHECK(str_eq(a.columns[0], STR("slow")));
	answer_fini(&a);
}

static void damaged(void)
{
	static const char *const bad[] = {
		"",
		"\n",
		"x\n",
		"{\"columns\":[\"a\"]}\n",
		"{\"columns\":[\"a\"]}\n[1]\n",
		"{\"columns\":[\"a\"]}\n[1\n{\"end\":true}\n",
		"{\"columns\":[\"a\"]}\n[1,2]\n{\"end\":true}\n",
		"{\"columns\":[\"a\",\"b\"]}\n[1]\n{\"end\":true}\n",
		"[1]\n{\"end\":true}\n",
		"{\"columns\":[]}\n{\"end\":true}\n",
		"{\"columns\":[\"a\"]}\n[\"x]\n{\"end\":true}\n",
		"{\"columns\":[\"a\"]}\n[\"\\q\"]\n{\"end\":true}\n",
		"{\"columns\":[\"a\"]}\n[\"\\u12\"]\n{\"end\":true}\n",
		"{\"columns\":[\"a\"]}\n[1.5]\n{\"end\":true}\n",
		"{\"columns\":[\"a\"]}\n[99999999999999999999]\n{\"end\":true}\n",
		"{\"columns\":[\"a\"]}\n[-]\n{\"end\":true}\n",
		"{\"columns\":[\"a\"]}\n[\"\\\n\"]\n{\"end\":true}\n",
		"{\"columns\":[\"a\"]}\n{\"columns\":[\"b\"]}\n{\"end\":true}\n",
		"{\"end\":true}\n[1]\n",
		"{\"end\":true}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct answer a;

		if (parse(bad[i], &a) != -EBADMSG)
			printf("taken: %s\n", bad[i]), test_failures++;
		answer_fini(&a);
	}
}

/* Every cut of a good answer is refused, and reads no byte beyond its end. */
static void every_cut(void)
{
	static const char good[] =
		"{\"columns\":[\"a\",\"b\"]}\n[1,\"x\\u00e9\\n\"]\n[null,\"\"]\n{\"end\":true,\"rows\":2}\n";

	for (size_t n = 0; n < sizeof(good) - 1; n++) {
		char *copy = malloc(n + 1);
		struct answer a;

		memcpy(copy, good, n);
		CHECK(answer_parse(copy, n, &a) == -EBADMSG);
		answer_fini(&a);
	}
}

static void too_many_columns(void)
{
	char text[1024];
	size_t n = (size_t)snprintf(text, sizeof(text), "{\"columns\":[");
	struct answer a;

	for (unsigned i = 0; i <= ANSWER_COLUMNS_MAX; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s\"c%u\"", i ? "," : "", i);
	snprintf(text + n, sizeof(text) - n, "]}\n{\"end\":true}\n");
	CHECK_INT(parse(text, &a), -EBADMSG);
	answer_fini(&a);
}

/* ---------------------------------------------------------------- a ledger of our own */

static char dir[] = "/tmp/sallyport-test-XXXXXX";

static int listen_as(const char *name, int type)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", dir, name);
	unlink(sun.sun_path);
	CHECK_INT(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	CHECK_INT(listen(fd, 4), 0);
	return fd;
}

/* Answers one question in two pieces; exits with 0 when the question was as expected. */
static pid_t serve(int listener, const char *question, const char *answer)
{
	pid_t pid = fork();
	char got[4096];
	ssize_t n;
	int fd;

	if (pid)
		return pid;
	fd = accept(listener, NULL, NULL);
	n = read(fd, got, sizeof(got) - 1);
	got[n > 0 ? n : 0] = '\0';
	n = (ssize_t)strlen(answer);
	if (write(fd, answer, (size_t)n / 2) < 0)
		_exit(3);
	usleep(20000);
	if (write(fd, answer + n / 2, (size_t)(n - n / 2)) < 0)
		_exit(3);
	_exit(strcmp(got, question) ? 2 : 0);
}

static void asking(void)
{
	struct question q = {
		.op = "log", .tag = "tag:\"x", .since_ns = 1876543210987654321ULL, .limit = 5
	};
	struct answer a;
	int listener, status;
	pid_t pid;

	if (!mkdtemp(dir)) {
		CHECK(false);
		return;
	}
	CHECK_INT(ledger_ask_at(dir, &q, 1000, &a), -ENOENT);
	listener = listen_as("ledger.sock", SOCK_STREAM);
	pid = serve(
		listener,
		"{\"op\":\"log\",\"tag\":\"tag:\\\"x\",\"since_ns\":\"1876543210987654321\",\"limit\":\"5\"}\n",
		"{\"columns\":[\"a\"]}\n[1]\n[2]\n{\"end\":true,\"rows\":2}\n");
	CHECK_INT(ledger_ask_at(dir, &q, 1000, &a), 0);
	CHECK_INT(a.n_rows, 2);
	answer_fini(&a);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	/* One that hangs up in the middle. */
	pid = serve(listener, "", "{\"columns\":[\"a\"]}\n[1]\n");
	CHECK_INT(ledger_ask_at(dir, &q, 1000, &a), -ECONNRESET);
	answer_fini(&a);
	waitpid(pid, &status, 0);
	/* One that says nothing. */
	CHECK_INT(ledger_ask_at(dir, &q, 50, &a), -ETIMEDOUT);
	answer_fini(&a);
	close(listener);
	CHECK_INT(ledger_ask_at(dir, &q, 50, &a), -ECONNREFUSED);
}

/* ---------------------------------------------------------------- a daemon of our own */

static pid_t serve_list(int listener, unsigned rows_wanted, bool wrong)
{
	struct msg_key_row row = { .provider = "p" };
	struct ipc_message m;
	struct pollfd p;
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid;
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	poll(&p, 1, 1000);
	if (ipc_recv(fd, &m) != 1 || m.head.type != MSG_CTL_KEYS || m.head.len)
		_exit(2);
	for (unsigned i = 0; i < rows_wanted; i++)
		ipc_send_wait(fd, MSG_KEY_ROW, m.head.id, &row,
			      wrong ? sizeof(row) - 8 : sizeof(row), NULL, 0, 1000);
	ipc_send_wait(fd, MSG_END, m.head.id, NULL, 0, NULL, 0, 1000);
	_exit(0);
}

static void count_row(void *arg, const void *row)
{
	CHECK_STR(((const struct msg_key_row *)row)->provider, "p");
	++*(unsigned *)arg;
}

static void listing(void)
{
	struct control *c = calloc(1, sizeof(*c));
	int listener = listen_as("control.sock", SOCK_SEQPACKET), status;
	int saved, quiet;
	unsigned n = 0;
	pid_t pid = serve_list(listener, 100, false);

	CHECK_INT(control_open_at(dir, c), 0);
	CHECK_INT(control_list(c, MSG_CTL_KEYS, MSG_KEY_ROW, sizeof(struct msg_key_row), count_row,
			       &n),
		  EXIT_OK);
	CHECK_INT(n, 100);
	control_close(c);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	/* A row of another version's size is no row; what is said of it is not for this log. */
	saved = dup(STDERR_FILENO);
	quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
	dup2(quiet, STDERR_FILENO);
	pid = serve_list(listener, 1, true);
	CHECK_INT(control_open_at(dir, c), 0);
	CHECK_INT(control_list(c, MSG_CTL_KEYS, MSG_KEY_ROW, sizeof(struct msg_key_row), count_row,
			       &n),
		  EXIT_FAILED);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(quiet);
	control_close(c);
	waitpid(pid, &status, 0);
	free(c);
	close(listener);
}

static void untrusted(void)
{
	struct untrusted u;
	struct answer a;

	CHECK_INT(parse("{\"columns\":[\"kind\",\"text\",\"cgroup\",\"tags\",\"count\"]}\n"
			"[\"no-name\",\"other\",\"/z\",\"\",9]\n"
			"[\"ca-untrusted\",\"give it the CA\",\"/b\",\"tag:b\",1]\n"
			"[\"ca-untrusted\",\"older\",\"/a\",\"tag:a\",3]\n{\"end\":true,\"rows\":3}\n",
			&a),
		  0);
	untrusted_tell(&a, &u);
	CHECK_INT(u.count, 4);
	CHECK_STR(u.text, "refused 4 times in the last hour, the newest by /b tag:b: give it the CA");
	answer_fini(&a);
	CHECK_INT(parse("{\"columns\":[\"kind\"]}\n{\"end\":true,\"rows\":0}\n", &a), 0);
	untrusted_tell(&a, &u);
	CHECK_INT(u.count, 0);
	CHECK_STR(u.text, "");
	answer_fini(&a);
}

static void files(void)
{
	char path[128];
	char *text = NULL;
	size_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/file", dir);
	CHECK_INT(client_read_file(path, 100, &text, &n), -ENOENT);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CHECK_INT(write(fd, "0123456789", 10), 10);
	close(fd);
	CHECK_INT(client_read_file(path, 10, &text, &n), 0);
	CHECK_INT(n, 10);
	CHECK_STR(text, "0123456789");
	free(text);
	CHECK_INT(client_read_file(path, 9, &text, &n), -EFBIG);
	CHECK_INT(client_read_file(dir, 100, &text, &n), -EISDIR);
	unlink(path);
	snprintf(path, sizeof(path), "%s/ledger.sock", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/control.sock", dir);
	unlink(path);
	CHECK_INT(rmdir(dir), 0);
}

TESTS(T(rows), T(errors_of_the_ledger), T(damaged), T(every_cut), T(too_many_columns), T(asking),
      T(listing), T(untrusted), T(files))
