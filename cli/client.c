/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/buf.h"
#include "common/log.h"

/* Rationale: a container engine may take seconds to answer the daemon; a query of the ledger too.
 */
#define CONTROL_TIMEOUT_MS 30000
#define LEDGER_TIMEOUT_MS  60000
#define SEND_TIMEOUT_MS	   5000

/* ---------------------------------------------------------------- configuration */

const char *client_config_path(const struct cli_common *o)
{
	return o->config ? o->config : CONFIG_PATH;
}

int client_read_file(const char *path, size_t max, char **ret, size_t *ret_n)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct buf b;
	struct stat st;
	ssize_t n = 1;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	buf_init(&b, max + 1);
	while (n > 0) {
		char *room = buf_reserve(&b, MIN(max + 1 - buf_len(&b), (size_t)65536));

		n = !room		? -1
		    : buf_len(&b) > max ? 0
					: read(fd, room, MIN(max + 1 - buf_len(&b), (size_t)65536));
		if (n > 0)
			buf_commit(&b, (size_t)n);
	}
	if (n < 0 || buf_len(&b) > max || buf_append(&b, "", 1)) {
		int err = n < 0 ? -errno : -EFBIG;

		buf_fini(&b);
		return err;
	}
	*ret_n = buf_len(&b) - 1;
	*ret = b.data; /* nothing was consumed: it starts there */
	return 0;
}

int client_config(const struct cli_common *o, struct config **ret)
{
	auto_free struct policy_diags *diags = calloc(1, sizeof(*diags));
	auto_free char *text = NULL;
	const char *path = client_config_path(o);
	size_t n = 0;
	int err = client_read_file(path, CONFIG_TEXT_MAX, &text, &n);
	struct buf lines;

	if (err == -ENOENT && !o->config)
		err = 0;
	if (err)
		return cli_fail(
			EXIT_FAILED,
			"the configuration %s cannot be read (%s): name the file with --config, or run as root",
			path, errno_text(err));
	err = diags ? config_parse(text ? (struct str){ text, n } : STR("{}"), ret, diags)
		    : -ENOMEM;
	if (!err)
		return EXIT_OK;
	buf_init(&lines, 1 << 20);
	if (diags && !policy_diags_print(diags, str_of(path), &lines) && buf_len(&lines))
		fprintf(stderr, "%.*s", (int)buf_len(&lines), buf_head(&lines));
	buf_fini(&lines);
	return cli_fail(EXIT_FAILED, "the configuration %s is not valid: mend what stands above",
			path);
}

/* ---------------------------------------------------------------- sockets */

static int connect_to(const char *run_dir, const char *name, int type)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", run_dir, name) >=
	    (int)sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int connect_failed(const struct cli_common *o, int err)
{
	if (err == -EACCES || err == -EPERM)
		return cli_fail(EXIT_FAILED, "only root may ask the daemon: run it as root (sudo)");
	if (err == -ENOENT || err == -ECONNREFUSED)
		return cli_fail(
			EXIT_NO_DAEMON,
			"no daemon runs with the configuration %s: systemctl start sallyport, or sallyport daemon --config "
			"FILE",
			client_config_path(o));
	return cli_fail(EXIT_NO_DAEMON,
			"the daemon cannot be reached (%s): sallyport doctor looks for the reason",
			errno_text(err));
}

/* ---------------------------------------------------------------- control */

void control_close(struct control *c)
{
	ipc_message_fini(&c->message);
	if (c->fd > 0)
		close(c->fd);
	c->fd = -1;
}

int control_open_at(const char *run_dir, struct control *ret)
{
	int fd = connect_to(run_dir, "control.sock", SOCK_SEQPACKET);

	ret->message.n_fds = 0;
	ret->fd = fd < 0 ? -1 : fd;
	return fd < 0 ? fd : 0;
}

int control_open(const struct cli_common *o, struct control *ret)
{
	struct config *config = NULL;
	int code = client_config(o, &config), err;

	ret->fd = -1;
	ret->message.n_fds = 0;
	if (code || !config)
		return code ? code : EXIT_FAILED;
	err = control_open_at(config->run_dir.s, ret);
	config_free(config);
	return err ? connect_failed(o, err) : EXIT_OK;
}

int control_next(struct control *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	int n;

	ipc_message_fini(&c->message);
	while ((n = ipc_recv(c->fd, &c->message)) == -EAGAIN || n == -EINTR) {
		int ready = poll(&p, 1, CONTROL_TIMEOUT_MS);

		if (ready < 0 && errno != EINTR)
			return -errno;
		if (!ready)
			return -ETIMEDOUT;
	}
	return n == 1 ? 0 : n ? n : -ECONNRESET;
}

int control_ask(struct control *c, uint16_t type, const void *payload, size_t len)
{
	int err = ipc_send_wait(c->fd, type, 1, payload, len, NULL, 0, SEND_TIMEOUT_MS);

	return err ? err : control_next(c);
}

int control_failed(int err)
{
	if (err == -ECONNRESET || err == -EPIPE)
		return cli_fail(
			EXIT_FAILED,
			"the daemon closed the connection: is it of the same version, and are you root?");
	if (err == -EBADMSG)
		return cli_fail(
			EXIT_FAILED,
			"the daemon answered in another version's words: restart it after an upgrade");
	if (err == -ETIMEDOUT)
		return cli_fail(
			EXIT_FAILED,
			"the daemon does not answer: sallyport doctor looks for the reason");
	return cli_fail(EXIT_FAILED, "the daemon cannot be asked: %s", errno_text(err));
}

const void *control_payload(const struct control *c, uint16_t type, size_t len)
{
	return c->message.head.type == type && c->message.head.len == len ? c->message.payload
									  : NULL;
}

int control_result(struct control *c, uint16_t type, const struct msg_target *target,
		   const struct msg_result **ret)
{
	int err = control_ask(c, type, target, target ? sizeof(*target) : 0);
	const struct msg_result *r = err ? NULL : control_payload(c, MSG_RESULT, sizeof(*r));

	if (!r)
		return control_failed(err ? err : -EBADMSG);
	*ret = r;
	if (!r->err)
		return EXIT_OK;
	return cli_fail(EXIT_FAILED, "%.*s", (int)strnlen(r->text, sizeof(r->text)),
			r->text[0] ? r->text : errno_text(r->err));
}

int control_list(struct control *c, uint16_t type, uint16_t row_type, size_t row_len,
		 void (*fn)(void *arg, const void *row), void *arg)
{
	int err = control_ask(c, type, NULL, 0);

	while (!err) {
		const void *row = control_payload(c, row_type, row_len);

		if (c->message.head.type == MSG_END)
			return EXIT_OK;
		if (!row)
			return control_failed(-EBADMSG);
		fn(arg, row);
		err = control_next(c);
	}
	return control_failed(err);
}

/* ---------------------------------------------------------------- the ledger's lines */

struct cursor {
	char *p, *end;
};

static bool take(struct cursor *c, char want)
{
	if (c->p == c->end || *c->p != want)
		return false;
	c->p++;
	return true;
}

static bool take_word(struct cursor *c, struct str word)
{
	if ((size_t)(c->end - c->p) < word.n || memcmp(c->p, word.s, word.n) != 0)
		return false;
	c->p += word.n;
	return true;
}

static int hex4(const char *p, const char *end)
{
	int n = 0;

	for (int i = 0; i < 4; i++) {
		char c = p + i < end ? p[i] : '\0';
		int d = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;

		if (d < 0)
			return -1;
		n = n << 4 | d;
	}
	return n;
}

static char *put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
	} else if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
		*out++ = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*out++ = (char)(0xe0 | c >> 12);
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
		*out++ = (char)(0x80 | (c & 0x3f));
	} else {
		*out++ = (char)(0xf0 | c >> 18);
		*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
		*out++ = (char)(0x80 | (c & 0x3f));
	}
	return out;
}

/* After the "u"; a pair of surrogates is one character. What it means is never longer than what it
 * is. */
static bool take_unicode(struct cursor *c, char **out)
{
	int high = hex4(c->p, c->end), low;
	uint32_t code = (uint32_t)high;

	if (high < 0)
		return false;
	c->p += 4;
	if (high >= 0xd800 && high < 0xdc00 && c->end - c->p >= 6 && c->p[0] == '\\' &&
	    c->p[1] == 'u' && (low = hex4(c->p + 2, c->end)) >= 0xdc00 && low < 0xe000) {
		code = 0x10000 + (((uint32_t)high & 0x3ff) << 10 | ((uint32_t)low & 0x3ff));
		c->p += 6;
	}
	*out = put_utf8(*out, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
	return true;
}

/* Undoes the escapes in place. */
static bool take_string(struct cursor *c, struct str *ret)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char *start = c->p + 1, *out = start;
	const char *at;

	if (!take(c, '"'))
		return false;
	while (c->p < c->end && *c->p != '"') {
		char ch = *c->p++;

		if (ch != '\\') {
			*out++ = ch;
			continue;
		}
		if (c->p == c->end)
			return false;
		ch = *c->p++;
		at = ch ? strchr(from, ch) : NULL;
		if (at)
			*out++ = to[at - from];
		else if (ch != 'u' || !take_unicode(c, &out))
			return false;
	}
	*ret = (struct str){ start, (size_t)(out - start) };
	return take(c, '"');
}

static bool take_int(struct cursor *c, int64_t *ret)
{
	char digits[24], *end;
	size_t n = 0;

	while (c->p + n < c->end && n + 1 < sizeof(digits) &&
	       (c->p[n] == '-' || (c->p[n] >= '0' && c->p[n] <= '9')))
		n++;
	memcpy(digits, c->p, n);
	digits[n] = '\0';
	errno = 0;
	*ret = strtoll(digits, &end, 10);
	c->p += n;
	return n && !*end && !errno;
}

static bool take_cell(struct cursor *c, struct answer_cell *ret)
{
	if (c->p < c->end && *c->p == '"') {
		ret->kind = ANSWER_TEXT;
		return take_string(c, &ret->s);
	}
	ret->kind = ANSWER_NULL;
	if (take_word(c, STR("null")))
		return true;
	ret->kind = ANSWER_INT;
	return take_int(c, &ret->n);
}

static int answer_columns(struct cursor *c, struct answer *a)
{
	if (a->n_columns)
		return -EBADMSG;
	do {
		if (a->n_columns == ANSWER_COLUMNS_MAX ||
		    !take_string(c, &a->columns[a->n_columns]))
			return -EBADMSG;
		a->n_columns++;
	} while (take(c, ','));
	return take_word(c, STR("]}")) && c->p == c->end ? 0 : -EBADMSG;
}

static int answer_row(struct cursor *c, struct answer *a)
{
	struct answer_cell *row;

	if (!a->n_columns)
		return -EBADMSG;
	if (a->n_rows == a->cap_rows) {
		size_t cap = a->cap_rows ? a->cap_rows * 2 : 64;

		row = reallocarray(a->cells, cap, a->n_columns * sizeof(*row));
		if (!row)
			return -ENOMEM;
		a->cells = row;
		a->cap_rows = cap;
	}
	row = &a->cells[a->n_rows * a->n_columns];
	memset(row, 0, a->n_columns * sizeof(*row));
	for (unsigned i = 0; i < a->n_columns; i++)
		if ((i && !take(c, ',')) || !take_cell(c, &row[i]))
			return -EBADMSG;
	if (!take(c, ']') || c->p != c->end)
		return -EBADMSG;
	a->n_rows++;
	return 0;
}

int answer_parse(char *text, size_t n, struct answer *ret)
{
	*ret = (struct answer){ .text = text };
	while (n) {
		char *lf = memchr(text, '\n', n);
		struct cursor c = { text, lf };
		int err;

		if (!lf)
			return -EBADMSG;
		n -= (size_t)(lf + 1 - text);
		text = lf + 1;
		if (take_word(&c, STR("{\"end\":")))
			return n ? -EBADMSG : 0;
		if (take_word(&c, STR("{\"error\":")))
			return take_string(&c, &ret->columns[0]) ? -EREMOTEIO : -EBADMSG;
		err = take_word(&c, STR("{\"columns\":[")) ? answer_columns(&c, ret)
		      : take(&c, '[')			   ? answer_row(&c, ret)
							   : -EBADMSG;
		if (err)
			return err;
	}
	return -EBADMSG;
}

void answer_fini(struct answer *a)
{
	free(a->text);
	free(a->cells);
	*a = (struct answer){ 0 };
}

int answer_column(const struct answer *a, const char *name)
{
	for (unsigned i = 0; i < a->n_columns; i++)
		if (str_eq(a->columns[i], str_of(name)))
			return (int)i;
	return -1;
}

const struct answer_cell *answer_cell(const struct answer *a, size_t row, const char *name)
{
	static const struct answer_cell none;
	int i = answer_column(a, name);

	return i < 0 || row >= a->n_rows ? &none : &a->cells[row * a->n_columns + (unsigned)i];
}

int64_t answer_int(const struct answer *a, size_t row, const char *name)
{
	const struct answer_cell *c = answer_cell(a, row, name);

	return c->kind == ANSWER_INT ? c->n : 0;
}

struct str answer_text(const struct answer *a, size_t row, const char *name)
{
	const struct answer_cell *c = answer_cell(a, row, name);

	return c->kind == ANSWER_TEXT ? c->s : STR_NULL;
}

/* ---------------------------------------------------------------- asking the ledger */

static int question_write(const struct question *q, struct buf *out)
{
	const struct {
		const char *key, *value;
	} texts[] = { { "by", q->by },
		      { "cgroup", q->cgroup },
		      { "tag", q->tag },
		      { "meaning", q->meaning },
		      { "outcome", q->outcome },
		      { "model", q->model },
		      { "provider", q->provider },
		      { "bucket", q->bucket },
		      { "kind", q->kind } };
	const struct {
		const char *key;
		bool has;
		uint64_t value;
	} numbers[] = { { "since_ns", q->since_ns, q->since_ns },
			{ "until_ns", q->until_ns, q->until_ns },
			{ "id", q->id, q->id },
			{ "limit", q->limit, (uint64_t)q->limit },
			{ "amount", q->has_amount, (uint64_t)q->amount } };
	int err = buf_printf(out, "{\"op\":\"%s\"", q->op);

	for (size_t i = 0; i < ARRAY_SIZE(texts) && !err; i++) {
		if (!texts[i].value)
			continue;
		err = buf_printf(out, ",\"%s\":", texts[i].key);
		err = err ? err : buf_json_string(out, str_of(texts[i].value));
	}
	/* As strings: numbers are doubles on the other side. */
	for (size_t i = 0; i < ARRAY_SIZE(numbers) && !err; i++)
		if (numbers[i].has)
			err = buf_printf(out, ",\"%s\":\"%lld\"", numbers[i].key,
					 (long long)numbers[i].value);
	return err ? err : buf_puts(out, STR("}\n"));
}

static bool answer_is_whole(const struct buf *b)
{
	struct str s = buf_str(b);
	const char *lf;

	if (!s.s || !s.n || s.s[s.n - 1] != '\n')
		return false;
	s.n--;
	lf = memrchr(s.s, '\n', s.n);
	s = lf ? str_skip(s, (size_t)(lf + 1 - s.s)) : s;
	return str_starts(s, STR("{\"end\":")) || str_starts(s, STR("{\"error\":"));
}

static int answer_read(int fd, int timeout_ms, struct buf *out)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (!answer_is_whole(out)) {
		int ready = poll(&p, 1, timeout_ms);
		char *room;
		ssize_t n;

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return ready ? -errno : -ETIMEDOUT;
		room = buf_reserve(out, 65536);
		if (!room)
			return -ENOBUFS;
		n = read(fd, room, 65536);
		if (n <= 0)
			return n ? -errno : -ECONNRESET;
		buf_commit(out, (size_t)n);
	}
	return 0;
}

int ledger_ask_at(const char *run_dir, const struct question *q, int timeout_ms, struct answer *ret)
{
	auto_close int fd = connect_to(run_dir, "ledger.sock", SOCK_STREAM);
	struct buf b;
	char *text;
	size_t n;
	int err;

	*ret = (struct answer){ 0 };
	if (fd < 0)
		return fd;
	buf_init(&b, 65536);
	err = question_write(q, &b);
	if (!err && send(fd, buf_head(&b), buf_len(&b), MSG_NOSIGNAL) != (ssize_t)buf_len(&b))
		err = -EPIPE;
	buf_fini(&b);
	if (err)
		return err;
	buf_init(&b, ANSWER_BYTES_MAX + 65536);
	err = answer_read(fd, timeout_ms, &b);
	if (err) {
		buf_fini(&b);
		return err;
	}
	n = buf_len(&b);
	text = b.data; /* nothing was consumed: it starts there */
	return answer_parse(text, n, ret);
}

int ledger_ask(const struct cli_common *o, const struct question *q, struct answer *ret)
{
	struct config *config = NULL;
	int code = client_config(o, &config), err;

	*ret = (struct answer){ 0 };
	if (code || !config)
		return code ? code : EXIT_FAILED;
	err = ledger_ask_at(config->run_dir.s, q, LEDGER_TIMEOUT_MS, ret);
	config_free(config);
	if (!err)
		return EXIT_OK;
	if (err == -EREMOTEIO)
		code = cli_fail(EXIT_FAILED, "%.*s", STR_ARG(ret->columns[0]));
	else if (err == -ETIMEDOUT || err == -ECONNRESET)
		code = cli_fail(
			EXIT_FAILED,
			"the ledger does not answer: sallyport doctor looks for the reason");
	else if (err == -EBADMSG)
		code = cli_fail(
			EXIT_FAILED,
			"the ledger answered in another version's words: restart the daemon after an upgrade");
	else if (err == -ENOBUFS || err == -ENOMEM)
		code = cli_fail(EXIT_FAILED,
				"the answer is too long: ask for less with --since or -n");
	else
		code = connect_failed(o, err);
	answer_fini(ret);
	return code;
}
