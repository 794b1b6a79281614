/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The practice agent: what a coding agent does on the wire, and nothing else. It asks a model over the Anthropic
 * format at $ANTHROPIC_BASE_URL with the key `-`, prints the streamed words, says which command it would run, sends
 * a made-up result and prints the end. agent [PROMPT [MODEL]]. It ends with 1 when it was refused.
 */
#include <signal.h>

#include "common/json.h"
#include "common/log.h"
#include "tests/practice/http_client.h"

#define DOOR_WAIT_MS 5000
#define RESULT "README.md  src  tests"

struct turn {
	struct buf line, text, args, error;
	char call_id[128], call_name[64];
	const struct http_answer *answer;
};

static void turn_init(struct turn *t)
{
	*t = (struct turn){ 0 };
	buf_init(&t->line, 1 << 20);
	buf_init(&t->text, 1 << 20);
	buf_init(&t->args, 1 << 20);
	buf_init(&t->error, 1 << 16);
}

static void turn_fini(struct turn *t)
{
	buf_fini(&t->line);
	buf_fini(&t->text);
	buf_fini(&t->args);
	buf_fini(&t->error);
}

/* ------------------------------------------------------------------ reading the answer */

static void on_delta(struct turn *t, const cJSON *delta)
{
	const cJSON *text = cJSON_GetObjectItemCaseSensitive(delta, "text");
	const cJSON *part = cJSON_GetObjectItemCaseSensitive(delta, "partial_json");

	if (cJSON_IsString(text)) {
		if (!buf_len(&t->text))
			fputs("  model: ", stdout);
		fputs(text->valuestring, stdout);
		fflush(stdout);
		buf_puts(&t->text, str_of(text->valuestring));
	}
	if (cJSON_IsString(part))
		buf_puts(&t->args, str_of(part->valuestring));
}

static void on_data(struct turn *t, struct str data)
{
	cJSON *e = json_parse(data);
	const cJSON *block = cJSON_GetObjectItemCaseSensitive(e, "content_block");
	const cJSON *error = cJSON_GetObjectItemCaseSensitive(e, "error");
	char type[64] = "", message[2048] = "";

	json_string(block, "type", type, sizeof(type));
	if (!strcmp(type, "tool_use")) {
		json_string(block, "id", t->call_id, sizeof(t->call_id));
		json_string(block, "name", t->call_name, sizeof(t->call_name));
	}
	on_delta(t, cJSON_GetObjectItemCaseSensitive(e, "delta"));
	if (json_string(error, "message", message, sizeof(message)))
		printf("\n  the stream ended with an error: %s\n", message);
	cJSON_Delete(e);
}

static void on_body(void *arg, struct str piece)
{
	struct turn *t = arg;

	if (t->answer->head.status != 200) {
		buf_puts(&t->error, piece);
		return;
	}
	for (size_t i = 0; i < piece.n; i++) {
		if (piece.s[i] != '\n') {
			buf_append(&t->line, piece.s + i, 1);
			continue;
		}
		if (str_starts(buf_str(&t->line), STR("data: ")))
			on_data(t, str_skip(buf_str(&t->line), 6));
		buf_reset(&t->line, 65536);
	}
}

/* ------------------------------------------------------------------ asking */

static void write_request(const struct http_url *u, const char *model, const char *prompt, const struct turn *before,
			  struct buf *out)
{
	struct buf body;

	buf_init(&body, 1 << 20);
	buf_printf(&body, "{\"model\":\"%s\",\"max_tokens\":1024,\"stream\":true,\"tools\":[{\"name\":\"Bash\",\"description\":\"Runs a shell command\",\"input_schema\":{\"type\":\"object\",\"properties\":{\"command\":{\"type\":\"string\"}},\"required\":[\"command\"]}}],\"messages\":[{\"role\":\"user\",\"content\":",
		   model);
	buf_json_string(&body, str_of(prompt));
	if (before) {
		buf_puts(&body, STR("},{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":"));
		buf_json_string(&body, buf_str(&before->text));
		buf_printf(&body, "},{\"type\":\"tool_use\",\"id\":\"%s\",\"name\":\"%s\",\"input\":%.*s}]},{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"%s\",\"content\":\"" RESULT "\"}]",
			   before->call_id, before->call_name, STR_ARG(buf_str(&before->args)), before->call_id);
	}
	buf_puts(&body, STR("}]}"));
	buf_printf(out, "POST %s%s HTTP/1.1\r\nhost: %s:%u\r\nuser-agent: practice-agent/1.0\r\nx-api-key: -\r\nanthropic-version: 2023-06-01\r\ncontent-type: application/json\r\ncontent-length: %zu\r\nconnection: close\r\n\r\n",
		   strcmp(u->path, "/") ? u->path : "", "/v1/messages", u->host, u->port, buf_len(&body));
	buf_puts(out, buf_str(&body));
	buf_fini(&body);
}

/* Our own sentence, out of the error's JSON. */
static int say_refused(int status, struct str body)
{
	cJSON *e = json_parse(body);
	char message[2048];

	str_copy(message, sizeof(message), body);
	json_string(cJSON_GetObjectItemCaseSensitive(e, "error"), "message", message, sizeof(message));
	cJSON_Delete(e);
	printf("  refused (%d): %s\n", status, message);
	return 1;
}

static int ask(const struct http_url *u, struct str request, struct turn *t)
{
	static struct http_answer a;
	struct buf head;
	int fd = http_connect(u, DOOR_WAIT_MS), rc = 0;

	if (fd < 0) {
		printf("  there is no door at %s:%u: %s\n", u->host, u->port, errno_text(errno));
		return 1;
	}
	buf_init(&head, HTTP_HEAD_MAX);
	t->answer = &a;
	if (!http_exchange(fd, request, false, &a, &head, on_body, t)) {
		printf("  the connection was closed without an answer\n");
		rc = 1;
	} else if (a.head.status != 200) {
		rc = say_refused(a.head.status, buf_str(&t->error));
	} else if (!a.finished) {
		printf("\n  the stream was cut\n");
		rc = 1;
	}
	buf_fini(&head);
	buf_fini(&a.in);
	close(fd);
	return rc;
}

static void say_command(const struct turn *t)
{
	cJSON *args = json_parse(buf_str(&t->args));
	char command[1024] = "?";

	json_string(args, "command", command, sizeof(command));
	printf("  would run: %s\n", command);
	cJSON_Delete(args);
}

static int one_turn(const struct http_url *u, const char *model, const char *prompt, const struct turn *before,
		    struct turn *t)
{
	struct buf request;
	int rc;

	buf_init(&request, 1 << 21);
	write_request(u, model, prompt, before, &request);
	if (!before)
		printf("  asks %s: %s\n", model, prompt);
	rc = ask(u, buf_str(&request), t);
	buf_fini(&request);
	return rc;
}

int main(int argc, char **argv)
{
	const char *base = getenv("ANTHROPIC_BASE_URL");
	const char *prompt = argc > 1 ? argv[1] : "What is in this folder?";
	const char *model = argc > 2 ? argv[2] : "claude-sonnet-4-5";
	struct turn first, second;
	struct http_url u;
	int rc;

	signal(SIGPIPE, SIG_IGN);
	if (!base || !http_url_parse(base, &u))
		die("ANTHROPIC_BASE_URL is not set to http://ADDRESS:PORT; start this with `sallyport run`");
	turn_init(&first);
	turn_init(&second);
	rc = one_turn(&u, model, prompt, NULL, &first);
	if (!rc && first.call_id[0]) {
		printf("\n");
		say_command(&first);
		rc = one_turn(&u, model, prompt, &first, &second);
	}
	if (!rc)
		printf("\n");
	turn_fini(&first);
	turn_fini(&second);
	return rc;
}
