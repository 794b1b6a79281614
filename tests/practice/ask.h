/* SPDX-License-Identifier: Apache-2.0 */
/* What the practice provider reads out of a request: format, model, prompt, the shell tool, a tool result. */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "common/str.h"

enum family { FAMILY_ANTHROPIC, FAMILY_CHAT, FAMILY_RESPONSES, FAMILY_GEMINI, FAMILY_MAX };

struct ask {
	enum family family;
	bool stream;
	bool sse;           /* Gemini: ?alt=sse; the others: always */
	bool include_usage; /* Chat */
	bool has_result;    /* a tool ran: this is the second turn */
	bool no_shell;      /* tools are offered, but none that runs commands */
	size_t body_bytes;
	char model[128];
	char prompt[512]; /* the last thing the user wrote */
	char tool[64];    /* the harness's name for its shell */
	char command[256]; /* what the practice model wants to run */
};

/* Names of shell tools by harness, in the order of preference. */
static const char *const shell_tools[] = { "Bash", "bash", "exec_command", "shell_command", "shell", "local_shell",
					   "run_shell_command", "run_commands", "execute" };
static const char *const default_shell[FAMILY_MAX] = { "Bash", "bash", "shell", "run_shell_command" };

static const char *member_text(const cJSON *object, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(item) ? item->valuestring : "";
}

static const cJSON *member(const cJSON *object, const char *name)
{
	return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* The tool's name: Anthropic and Responses {name}, Chat {function: {name}}. */
static void ask_see_tool(struct ask *a, const cJSON *tool, size_t *best)
{
	const char *name = member_text(tool, "name");

	if (!*name)
		name = member_text(member(tool, "function"), "name");
	if (!*name)
		name = member_text(tool, "type");
	for (size_t i = 0; i < *best; i++) {
		if (strcmp(name, shell_tools[i]))
			continue;
		*best = i;
		str_copy(a->tool, sizeof(a->tool), str_of(name));
	}
}

static void ask_see_tools(struct ask *a, const cJSON *body)
{
	size_t best = sizeof(shell_tools) / sizeof(shell_tools[0]);
	const cJSON *tools = member(body, "tools"), *tool, *inner;

	str_copy(a->tool, sizeof(a->tool), str_of(default_shell[a->family]));
	if (!cJSON_IsArray(tools))
		return;
	a->no_shell = true;
	cJSON_ArrayForEach(tool, tools) {
		const cJSON *list = member(tool, "functionDeclarations");

		ask_see_tool(a, tool, &best);
		cJSON_ArrayForEach(inner, list) ask_see_tool(a, inner, &best);
	}
	a->no_shell = best == sizeof(shell_tools) / sizeof(shell_tools[0]);
}

static void ask_set_prompt(struct ask *a, const char *text)
{
	/* Harnesses put their own notes in front, each in a tag. */
	if (*text && *text != '<')
		str_copy(a->prompt, sizeof(a->prompt), str_of(text));
}

/* One part of a message, of any family. */
static void ask_see_part(struct ask *a, const cJSON *part, bool user)
{
	const char *type = member_text(part, "type");

	if (!strcmp(type, "tool_result") || member(part, "functionResponse"))
		a->has_result = true;
	else if (user)
		ask_set_prompt(a, member_text(part, "text"));
}

static void ask_see_message(struct ask *a, const cJSON *message)
{
	const char *role = member_text(message, "role"), *type = member_text(message, "type");
	const cJSON *content = member(message, "content"), *part;
	bool user = !strcmp(role, "user");

	/* A new question after the answer to the last one starts over. */
	if (user)
		a->has_result = false;
	if (!strcmp(role, "tool") || strstr(type, "_call_output") || !strcmp(role, "function"))
		a->has_result = true;
	if (cJSON_IsString(content) && user)
		ask_set_prompt(a, content->valuestring);
	if (!cJSON_IsArray(content))
		content = member(message, "parts");
	if (cJSON_IsArray(content))
		cJSON_ArrayForEach(part, content) ask_see_part(a, part, user);
}

/* The prompt may say what to run: "run: git status". */
static void ask_find_command(struct ask *a)
{
	const char *at = strstr(a->prompt, "run: ");

	str_copy(a->command, sizeof(a->command), at && at[5] ? str_of(at + 5) : STR("ls -la"));
	for (char *p = a->command; *p; p++)
		if (*p == '\n')
			*p = '\0';
}

/* Fills what the body tells; family, sse and a model of the path are the caller's. */
static void ask_read(struct ask *a, const cJSON *body)
{
	static const char *const lists[FAMILY_MAX] = { "messages", "messages", "input", "contents" };
	const cJSON *list = member(body, lists[a->family]), *item;

	if (!a->model[0])
		str_copy(a->model, sizeof(a->model), str_of(member_text(body, "model")));
	if (a->family != FAMILY_GEMINI) {
		a->stream = cJSON_IsTrue(member(body, "stream"));
		a->sse = a->stream;
	}
	a->include_usage = cJSON_IsTrue(member(member(body, "stream_options"), "include_usage"));
	if (cJSON_IsString(list))
		ask_set_prompt(a, list->valuestring);
	cJSON_ArrayForEach(item, list) ask_see_message(a, item);
	ask_see_tools(a, body);
	ask_find_command(a);
}
