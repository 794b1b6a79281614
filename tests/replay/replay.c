/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replays a script against one worker of the gateway, with a clock that the script moves: an idle timeout of half
 * an hour takes no time. The worker's code is the product's: connections, requests, relay, accounting, journal. The
 * kernel's stamp and the agent are played here (world.h); clients and providers are sockets of the script.
 *
 * A script is lines of words; `#` begins a comment. Lines that begin with a tab are the block of the line above, whose
 * bytes text.h explains. NAME is a word of letters and digits.
 *
 *   config                   block: members of config.hujson; only before everything else
 *   listen NAME              a provider's port on loopback, %NAME in blocks; `up` is there from the start
 *   refuse NAME              closes it: who connects is refused
 *   full NAME                it accepts nothing any more: who connects hears nothing
 *   policy                   block: a policy; `policy refused WORD`: it is not taken, and the sentence holds that
 *   key PROVIDER TEXT        the key of a provider from the next `policy` on; `up` has `sk-replay-0123456789`
 *   sandbox NAME [TAGS]      a labelled sandbox, or its new tags; without: watched, but without a tag.
 *                            `box` with tag:box is there from the start
 *   connect NAME [SANDBOX]   a client, in the sandbox (`box`), or in none: `-`
 *   accept NAME [LISTENER]   the connection that the gateway made to the listener (`up`)
 *   NAME says                block: bytes
 *   NAME sees                block: the next bytes that come are these; the clock stands still
 *   NAME sees nothing | end | reset
 *   NAME ends | closes | resets      its sending side; all of it; with a reset
 *   NAME rests | reads       it takes no bytes from its socket any more; it goes on
 *   clock DURATION           90s, 5m, 1h, 20ms, 9m59s: the clock moves, and stops at each timer on its way
 *   row|tool|event COLUMN=VALUE …    the next row of the ledger, COLUMN~VALUE: it holds that
 *   quota BUCKET BALANCE     what is in it, in units of its own
 *   agent sees key-bad PROVIDER      the message of the worker
 *
 * Without a `policy` of its own a script has this one: the provider `up` serves all formats and models, and tag:box
 * may use them. At its end nothing may be left: bytes nobody looked at, connections and requests of the worker, memory
 * that counts as held, quotas on hold, rows that were not named.
 */
#include <netinet/in.h>
#include <time.h>

#include "tests/replay/rows.h"
#include "tests/replay/text.h"

#define WORDS_MAX     24
#define PEERS_MAX     32
#define LISTENERS_MAX 8
#define KEYS_MAX      8
/* Rationale: sockets on loopback deliver at once, unless the machine is very busy. */
#define PATIENCE_MS   3000
/* A peer that rests takes about so much all the same. */
#define REST_BYTES    65536

static const char policy_default[] =
	"{ \"providers\": { \"up\": { \"baseurl\": \"http://127.0.0.1:%up\", \"apikey\": \"file:/replay/key\", \"models\": [\"**\"],\n"
	"\"compatibility\": { \"anthropic_messages\": true, \"openai_chat\": true, \"openai_responses\": true,"
	" \"gemini_generate_content\": true } } },\n"
	"\"grants\": [ { \"src\": [\"tag:box\"], \"app\": { \"sallyport/cap/llm\": [ { \"role\": \"user\", \"models\": \"**\" } ] } } ] }";

struct peer {
	char name[16];
	int fd; /* -1: closed by the script */
	struct buf in, out;
	bool rests, ended, was_reset;
};

struct listener {
	char name[16];
	int fd; /* -1: refuses */
	unsigned port;
};

static struct script {
	const char *path;
	unsigned line, at; /* of the command; of what is read next */
	struct str rest;
	struct str words[WORDS_MAX];
	unsigned n_words;
	bool started;
	struct peer peers[PEERS_MAX];
	struct listener listeners[LISTENERS_MAX];
	struct {
		struct str provider, text;
	} keys[KEYS_MAX];
	unsigned n_peers, n_listeners, n_keys, passed;
	struct buf block, config;
} script;

PRINTF_LIKE(1, 2) static bool failed(const char *fmt, ...)
{
	va_list ap;

	printf("%s:%u: ", script.path, script.line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	return false;
}

/* ------------------------------------------------------------------ listeners and peers */

static struct listener *listener_find(struct str name)
{
	for (unsigned i = 0; i < script.n_listeners; i++)
		if (str_eq(str_of(script.listeners[i].name), name))
			return &script.listeners[i];
	return NULL;
}

static unsigned listener_port(struct str name)
{
	const struct listener *l = listener_find(name);

	return l ? l->port : 0;
}

static int listener_open(uint16_t *ret_port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(sa);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
		broken("no listening socket: %s", errno_text(errno));
	*ret_port = ntohs(sa.sin_port);
	return fd;
}

static void listener_add(struct str name)
{
	struct listener *l = &script.listeners[script.n_listeners++];
	uint16_t port;

	if (script.n_listeners > LISTENERS_MAX || !str_copy(l->name, sizeof(l->name), name))
		broken("too many listeners, or too long a name");
	l->fd = listener_open(&port);
	l->port = port;
}

static int connect_to(unsigned port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS))
		broken("no connection: %s", errno_text(errno));
	return fd;
}

static int accept_from(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, PATIENCE_MS) > 0 ? accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
}

/* Of this name the last one: names may be used again. */
static struct peer *peer_find(struct str name)
{
	for (unsigned i = script.n_peers; i-- > 0;)
		if (str_eq(str_of(script.peers[i].name), name))
			return &script.peers[i];
	return NULL;
}

static void peer_add(struct str name, int fd)
{
	struct peer *p = &script.peers[script.n_peers++];

	if (script.n_peers > PEERS_MAX || !str_copy(p->name, sizeof(p->name), name))
		broken("too many connections, or too long a name");
	p->fd = fd;
	buf_init(&p->in, BLOCK_MAX);
	buf_init(&p->out, BLOCK_MAX);
}

static void peer_write(struct peer *p)
{
	ssize_t n;

	while (p->fd >= 0 && buf_len(&p->out) && (n = send(p->fd, buf_head(&p->out), buf_len(&p->out), MSG_NOSIGNAL)) > 0)
		buf_consume(&p->out, (size_t)n);
}

static void peer_read(struct peer *p)
{
	static char bytes[65536];
	ssize_t n = 1;

	while (p->fd >= 0 && !p->rests && !p->ended && n > 0) {
		n = read(p->fd, bytes, sizeof(bytes));
		if (n > 0)
			buf_append(&p->in, bytes, (size_t)n);
		else if (!n || errno != EAGAIN)
			p->ended = true;
		p->was_reset |= n < 0 && errno == ECONNRESET;
	}
}

/* The worker and all peers, until there is nothing more to do at this moment. */
static void settle(int real_ms)
{
	for (int i = 0; i < 2 || world_has_work(0); i++) {
		for (unsigned k = 0; k < script.n_peers; k++)
			peer_write(&script.peers[k]);
		world_settle(i ? 0 : real_ms);
		for (unsigned k = 0; k < script.n_peers; k++)
			peer_read(&script.peers[k]);
	}
}

/* ------------------------------------------------------------------ reading the script */

static struct str next_line(void)
{
	const char *end = memchr(script.rest.s, '\n', script.rest.n);
	struct str line = { script.rest.s, end ? (size_t)(end - script.rest.s) : script.rest.n };

	script.rest = str_skip(script.rest, line.n + 1);
	script.at++;
	return line;
}

/* The lines below that begin with a tab. `between`: stands at the end of each. */
static struct str read_block(struct str between)
{
	buf_reset(&script.block, SIZE_MAX);
	while (script.rest.n && *script.rest.s == '\t') {
		text_line(str_skip(next_line(), 1), listener_port, &script.block);
		buf_puts(&script.block, between);
	}
	text_finish(&script.block);
	return buf_str(&script.block);
}

/* A word ends at a space; VALUE may be in quotes and hold some then. */
static struct str next_word(struct str *line)
{
	struct str word = { line->s, 0 };
	bool quoted = false;

	while (word.n < line->n && (quoted || line->s[word.n] != ' ')) {
		quoted ^= line->s[word.n] == '"';
		word.n++;
	}
	*line = str_skip(*line, word.n);
	while (line->n && *line->s == ' ')
		*line = str_skip(*line, 1);
	return word;
}

static bool next_command(void)
{
	while (script.rest.n) {
		struct str line = next_line();

		script.line = script.at;
		if (!line.n || *line.s == '#')
			continue;
		for (script.n_words = 0; line.n && script.n_words < WORDS_MAX;)
			script.words[script.n_words++] = next_word(&line);
		return true;
	}
	return false;
}

static struct str word(unsigned i)
{
	return i < script.n_words ? script.words[i] : STR_NULL;
}

static bool word_is(unsigned i, const char *text)
{
	return str_eq(word(i), str_of(text));
}

static bool read_duration(struct str text, uint64_t *ret_ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = { { "ms", NSEC_PER_MSEC }, { "s", NSEC_PER_SEC }, { "m", 60 * NSEC_PER_SEC }, { "h", 3600 * NSEC_PER_SEC } };
	uint64_t sum = 0;

	while (text.n) {
		char *unit;
		unsigned long n = strtoul(text.s, &unit, 10);
		size_t i = 0;

		text = str_skip(text, (size_t)(unit - text.s));
		while (i < ARRAY_SIZE(units) && !str_starts(text, str_of(units[i].unit)))
			i++;
		if (i == ARRAY_SIZE(units))
			return false;
		sum += n * units[i].ns;
		text = str_skip(text, strlen(units[i].unit));
	}
	*ret_ns = sum;
	return sum > 0;
}

/* ------------------------------------------------------------------ commands */

static const char *send_policy(struct str text)
{
	agent_send_rules(text);
	for (unsigned i = 0; i < script.n_keys; i++)
		agent_send_key(script.keys[i].provider, script.keys[i].text);
	return agent_commit();
}

static void start(void)
{
	struct buf policy;

	if (script.started)
		return;
	script.started = true;
	world_start(buf_len(&script.config) ? buf_str(&script.config) : STR("{}"));
	buf_init(&policy, BLOCK_MAX);
	text_expand(str_of(policy_default), listener_port, &policy);
	if (*send_policy(buf_str(&policy)))
		broken("the policy of replay.c is refused");
	buf_fini(&policy);
	agent_send_label(STR("box"), STR("tag:box"));
}

static bool do_config(void)
{
	if (script.started)
		return failed("`config` comes first");
	buf_puts(&script.config, STR("{"));
	buf_puts(&script.config, read_block(STR("\n")));
	buf_puts(&script.config, STR("}"));
	return true;
}

static bool do_listen(void)
{
	listener_add(word(1));
	return true;
}

static bool do_refuse(void)
{
	struct listener *l = listener_find(word(1));

	if (!l)
		return failed("there is no such listener");
	close(TAKE_FD(l->fd));
	return true;
}

/* A backlog that is full swallows what comes (Linux: one more than asked for is taken). */
static bool do_full(void)
{
	const struct listener *l = listener_find(word(1));

	if (!l || listen(l->fd, 0) < 0)
		return failed("there is no such listener");
	for (int i = 0; i < 4; i++)
		connect_to(l->port);
	return true;
}

static bool do_policy(void)
{
	struct str why = str_of(send_policy(read_block(STR("\n"))));

	if (!word_is(1, "refused"))
		return !why.n || failed("the policy is refused: %.*s", STR_ARG(why));
	return (why.n && str_find(why, word(2))) || failed("the policy is %s%.*s", why.n ? "refused: " : "taken", STR_ARG(why));
}

static bool do_key(void)
{
	if (script.n_keys == KEYS_MAX)
		return failed("too many keys");
	script.keys[script.n_keys].provider = word(1);
	script.keys[script.n_keys++].text = word(2);
	return true;
}

static bool do_sandbox(void)
{
	agent_send_label(word(1), word(2));
	return true;
}

static bool do_connect(void)
{
	static int door = -1;
	static uint16_t port;
	const struct msg_sandbox *box = NULL;
	struct str name = word(2).n ? word(2) : STR("box");
	int fd;

	for (unsigned i = 0; i < world.n_boxes; i++)
		if (str_eq(str_skip(str_of(world.boxes[i].path), 8), name))
			box = &world.boxes[i];
	if (!box && !str_eq(name, STR("-")))
		return failed("there is no such sandbox");
	if (door < 0)
		door = listener_open(&port);
	fd = connect_to(port);
	world_accept(accept_from(door), box);
	peer_add(word(1), fd);
	return true;
}

static bool do_accept(void)
{
	const struct listener *l = listener_find(word(2).n ? word(2) : STR("up"));
	struct pollfd p = { .fd = l ? l->fd : -1, .events = POLLIN };

	for (int i = 0; l && i < PATIENCE_MS && poll(&p, 1, 1) == 0; i++)
		settle(0);
	if (!l || !(p.revents & POLLIN))
		return failed("nobody connects");
	peer_add(word(1), accept_from(l->fd));
	return true;
}

/* Timers on the way fire when it is their time, not all at the end. */
static bool do_clock(void)
{
	const struct loop *l = &world.gw.loop;
	uint64_t ns, until;

	if (!read_duration(word(1), &ns))
		return failed("how long? 20ms, 90s, 9m59s, 1h");
	settle(1);
	for (until = world.clock_ns + ns; l->n_timers && l->heap[0]->at_ns <= until; settle(0))
		world.clock_ns = MAX(world.clock_ns, l->heap[0]->at_ns);
	world.clock_ns = until;
	settle(1);
	return true;
}

static bool do_agent(void)
{
	struct ipc_message m;

	while (ipc_recv(world.agent, &m) > 0) {
		const struct msg_key *key = (const void *)m.payload;
		bool is = m.head.type == MSG_KEY_BAD && word_is(2, "key-bad") && word_is(3, key->provider);

		ipc_message_fini(&m);
		if (is)
			return true;
	}
	return failed("the worker did not say so");
}

static bool do_quota(void)
{
	struct balance_row b;
	long long want = word(2).n ? strtoll(word(2).s, NULL, 10) : -1;

	settle(1);
	for (unsigned i = 0; balances_row(world.gw.balances, i, world.gw.loop.wall_ns, &b); i++)
		if (word_is(1, b.bucket))
			return b.balance == want || failed("%s has %lld", b.bucket, (long long)b.balance);
	return failed("there is no such bucket yet");
}

/* One COLUMN=VALUE or COLUMN~VALUE of the command against the row. */
static bool row_agrees(const struct table *t, struct str want)
{
	size_t n = strcspn(want.s, "=~");
	bool part = want.s[n] == '~';
	char column[32], got[4096];
	struct str value = str_skip(want, n + 1);

	if (value.n > 1 && *value.s == '"')
		value = (struct str){ value.s + 1, value.n - 2 };
	str_copy(column, sizeof(column), (struct str){ want.s, MIN(n, want.n) });
	if (!row_value(t, column, got, sizeof(got)))
		return failed("there is no column `%s`", column);
	if (part ? str_find(str_of(got), value) != NULL : str_eq(str_of(got), value))
		return true;
	return failed("%s is \"%s\", expected %s\"%.*s\"", column, got, part ? "with " : "", STR_ARG(value));
}

static bool on_row(struct table *t, void *arg)
{
	bool *agrees = arg;

	*agrees = true;
	for (unsigned i = 1; i < script.n_words && *agrees; i++)
		*agrees = row_agrees(t, script.words[i]);
	if (!*agrees)
		row_print(t);
	if (t->n_told == ROWS_MAX)
		broken("too many rows");
	row_key(t, t->told[t->n_told++], sizeof(t->told[0]));
	return false;
}

static bool do_row(void)
{
	bool agrees = false;

	settle(1);
	return rows_each(table_find(word(0)), on_row, &agrees) ? agrees : failed("there is no such row");
}

/* ------------------------------------------------------------------ what peers do */

static bool peer_sees_block(struct peer *p)
{
	struct str pattern = read_block(STR_NULL), got;
	const char *far;
	ssize_t n = -1;

	for (int i = 0; i < PATIENCE_MS; i++) {
		settle(1);
		got = buf_len(&p->in) ? buf_str(&p->in) : STR("");
		far = got.s;
		n = text_match(pattern, got, &far);
		if (n >= 0 || p->ended || far < got.s + got.n)
			break;
	}
	if (n >= 0) {
		buf_consume(&p->in, (size_t)n);
		return true;
	}
	failed("%s sees something else%s. It agrees up to:", p->name, p->ended ? " and then the end" : "");
	printf("\t");
	text_print((struct str){ got.s, (size_t)(far - got.s) }, 4000);
	printf("    then comes:\n\t");
	text_print(str_skip(got, (size_t)(far - got.s)), 1500);
	printf("    expected, all of it:\n\t");
	text_print(pattern, 4000);
	return false;
}

static bool peer_sees_end(struct peer *p, bool reset)
{
	for (int i = 0; i < PATIENCE_MS && !p->ended; i++)
		settle(1);
	if (buf_len(&p->in)) {
		failed("%s sees more before the end:", p->name);
		printf("\t");
		text_print(buf_str(&p->in), 1500);
		return false;
	}
	if (!p->ended)
		return failed("%s sees no end", p->name);
	return p->was_reset == reset || failed("%s sees %s", p->name, reset ? "a clean end" : "a reset");
}

static bool peer_sees_nothing(struct peer *p)
{
	settle(2);
	if (!buf_len(&p->in) && !p->ended)
		return true;
	failed("%s sees %s", p->name, buf_len(&p->in) ? "" : "the end");
	text_print(buf_str(&p->in), 1500);
	return false;
}

static bool peer_sees(struct peer *p)
{
	if (word_is(2, "nothing"))
		return peer_sees_nothing(p);
	if (word_is(2, "end") || word_is(2, "reset"))
		return peer_sees_end(p, word_is(2, "reset"));
	return !word(2).n ? peer_sees_block(p) : failed("sees what?");
}

static void peer_close(struct peer *p, bool reset)
{
	struct linger now = { 1, 0 };

	if (reset)
		setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(TAKE_FD(p->fd));
}

static bool peer_does(struct peer *p)
{
	int size = REST_BYTES;

	if (word_is(1, "sees"))
		return peer_sees(p);
	if (p->fd < 0)
		return failed("%s is closed", p->name);
	if (word_is(1, "says")) {
		buf_puts(&p->out, read_block(STR_NULL));
	} else if (word_is(1, "ends")) {
		settle(1);
		shutdown(p->fd, SHUT_WR);
	} else if (word_is(1, "closes") || word_is(1, "resets")) {
		settle(1);
		peer_close(p, word_is(1, "resets"));
	} else if (word_is(1, "rests")) {
		p->rests = true;
		setsockopt(p->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	} else if (word_is(1, "reads")) {
		p->rests = false;
	} else {
		return failed("%s does what?", p->name);
	}
	settle(1);
	return true;
}

static const struct {
	const char *word;
	bool (*fn)(void);
	bool early; /* before the worker is there */
} commands[] = {
	{ "config", do_config, true }, { "listen", do_listen, true }, { "key", do_key, true },
	{ "refuse", do_refuse, false }, { "full", do_full, false },	{ "policy", do_policy, false },
	{ "sandbox", do_sandbox, false }, { "connect", do_connect, false }, { "accept", do_accept, false },
	{ "clock", do_clock, false },	{ "agent", do_agent, false },	{ "row", do_row, false },
	{ "quota", do_quota, false },	{ "tool", do_row, false },	{ "event", do_row, false },
};

static bool run_command(void)
{
	struct peer *p;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (!word_is(0, commands[i].word))
			continue;
		if (!commands[i].early)
			start();
		return commands[i].fn();
	}
	p = peer_find(word(0));
	return p ? peer_does(p) : failed("there is no command and no connection `%.*s`", STR_ARG(word(0)));
}

/* ------------------------------------------------------------------ the end */

static bool on_unnamed(struct table *t, void *arg)
{
	(void)arg;
	row_print(t);
	return true;
}

static bool nothing_held(void)
{
	struct balance_row b;

	for (unsigned i = 0; balances_row(world.gw.balances, i, world.gw.loop.wall_ns, &b); i++)
		if (b.held)
			return failed("the quota %s has %lld on hold", b.bucket, (long long)b.held);
	return true;
}

static bool nothing_left(void)
{
	const struct gateway *gw = &world.gw;
	bool clean = true;

	settle(1);
	for (unsigned i = 0; i < script.n_peers; i++) {
		struct peer *p = &script.peers[i];

		if (buf_len(&p->in)) {
			clean = failed("at the end %s has unread bytes:", p->name);
			printf("\t");
			text_print(buf_str(&p->in), 1500);
		}
		if (p->fd >= 0)
			peer_close(p, false);
	}
	settle(1);
	account_flush_repeats(&world.gw, true);
	if (gw->n_conns || gw->n_requests || gw->body_bytes)
		clean = failed("at the end the worker has %u connections, %u requests, %llu bytes of bodies", gw->n_conns, gw->n_requests,
			       (unsigned long long)gw->body_bytes);
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		if (rows_each(&tables[i], on_unnamed, NULL))
			clean = failed("at the end there are rows that were not named");
	return clean & nothing_held();
}

static void run_script(struct str text)
{
	bool good = true;

	script.rest = text;
	buf_init(&script.block, BLOCK_MAX);
	buf_init(&script.config, CONFIG_TEXT_MAX);
	listener_add(STR("up"));
	script.keys[script.n_keys].provider = STR("up");
	script.keys[script.n_keys++].text = STR("sk-replay-0123456789");
	while (good && next_command()) {
		good = run_command();
		script.passed += good;
	}
	start();
	if (good) {
		good = nothing_left();
		script.passed += good;
	}
	world_clean();
	printf("%u passed, %d failed\n", script.passed, !good);
	exit(!good);
}

int main(int argc, char **argv)
{
	bool loud = argc > 2 && !strcmp(argv[1], "-v");
	auto_close int fd = -1;
	char *text = NULL;
	size_t n;

	setlinebuf(stdout);
	if (argc != 2 + loud) {
		fprintf(stderr, "usage: replay [-v] SCRIPT\n");
		return 2;
	}
	script.path = argv[1 + loud];
	fd = open(script.path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read_whole(fd, BLOCK_MAX, &text, &n) < 0)
		broken("%s: %s", script.path, errno_text(errno));
	log_init("replay", loud ? LOG_DEBUG : LOG_ERR);
	run_script((struct str){ text, n });
}
