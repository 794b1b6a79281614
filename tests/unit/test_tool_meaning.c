/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/tool_meaning.h"

#include "tests/unit/test.h"

static const struct {
	const char *name, *args;
	enum tool_meaning meaning;
	const char *summary;
} cases[] = {
	{ "Bash", "{\"command\":\"ls -l\",\"description\":\"List\"}", MEANING_SHELL, "ls -l" },
	{ "bash", "{\"timeout\":5,\"command\":\"echo \\\"a\\\\n\\\"\"}", MEANING_SHELL,
	  "echo \"a\\n\"" },
	{ "shell", "{\"command\":[\"bash\",\"-lc\",\"git status && ls\"],\"workdir\":\"/\"}",
	  MEANING_SHELL, "git status && ls" },
	{ "shell", "{\"command\":[\"/bin/sh\",\"-c\",\"ls\"]}", MEANING_SHELL, "ls" },
	{ "shell", "{\"command\":[\"git\",\"commit\",\"-m\",\"a b\"]}", MEANING_SHELL,
	  "git commit -m 'a b'" },
	{ "shell", "{\"command\":[\"bash\",\"script.sh\",\"x\"]}", MEANING_SHELL,
	  "bash script.sh x" },
	{ "exec_command", "{\"cmd\":\"make\"}", MEANING_SHELL, "make" },
	{ "local_shell", "{\"type\":\"exec\",\"command\":[\"ls\",\"-a\"],\"env\":{}}",
	  MEANING_SHELL, "ls -a" },
	{ "run_shell_command", "{\"command\":\"pwd\"}", MEANING_SHELL, "pwd" },
	{ "run_commands", "{\"commands\":[\"a\",\"b c\"]}", MEANING_SHELL, "a; b c" },
	{ "run_commands", "{\"commands\":[{\"command\":\"a\"},{\"command\":\"b\"}]}", MEANING_SHELL,
	  "a; b" },
	{ "execute", "{\"language\":\"python\",\"code\":\"print(1)\\nprint(2)\"}", MEANING_SHELL,
	  "print(1) print(2)" },
	{ "run_terminal_cmd", "{\"command\":\"ls\"}", MEANING_SHELL, "ls" },
	{ "runCommand", "{\"command\":\"ls\"}", MEANING_SHELL, "ls" },
	{ "container.exec", "{\"cmd\":[\"bash\",\"-lc\",\"ls\"]}", MEANING_SHELL, "ls" },
	{ "write_stdin", "{\"session_id\":1,\"chars\":\"y\\n\"}", MEANING_SHELL, "y " },
	{ "developer__shell", "{\"command\":\"ls\"}", MEANING_SHELL, "ls" },
	{ "my_bash_tool", "{\"script\":\"ls\"}", MEANING_SHELL, "ls" },
	{ "Bash", "{\"command\":\"rm -rf /tm", MEANING_SHELL, "rm -rf /tm" },
	{ "bash", "not json", MEANING_SHELL, "not json" },

	{ "Read", "{\"file_path\":\"/a b\"}", MEANING_FILE, "read /a b" },
	{ "Write", "{\"content\":\"x\",\"file_path\":\"/a\"}", MEANING_FILE, "write /a" },
	{ "MultiEdit", "{\"file_path\":\"/a\",\"edits\":[{\"path\":\"/no\"}]}", MEANING_FILE,
	  "edit /a" },
	{ "str_replace_editor", "{\"command\":\"view\",\"path\":\"/a\"}", MEANING_FILE, "read /a" },
	{ "str_replace_based_edit_tool",
	  "{\"command\":\"create\",\"path\":\"/a\",\"file_text\":\"x\"}", MEANING_FILE,
	  "write /a" },
	{ "apply_patch",
	  "*** Begin Patch\n*** Update File: src/a.c\n@@\n*** Add File: b\n+x\n*** End Patch",
	  MEANING_FILE, "edit src/a.c (+1 more)" },
	{ "apply_patch", "{\"input\":\"*** Begin Patch\\n*** Delete File: old\\n*** End Patch\"}",
	  MEANING_FILE, "delete old" },
	{ "apply_patch", "{\"type\":\"create_file\",\"path\":\"n\",\"diff\":\"+x\"}", MEANING_FILE,
	  "write n" },
	{ "read_many_files", "{\"paths\":[\"a\",\"b\"]}", MEANING_FILE, "read b (+1 more)" },
	{ "replace", "{\"file_path\":\"/a\",\"old_string\":\"x\"}", MEANING_FILE, "edit /a" },

	{ "Grep", "{\"pattern\":\"foo.*\",\"path\":\"src\"}", MEANING_SEARCH, "foo.* in src" },
	{ "Glob", "{\"pattern\":\"**/*.c\"}", MEANING_SEARCH, "**/*.c" },
	{ "search_file_content", "{\"pattern\":\"x\"}", MEANING_SEARCH, "x" },
	{ "LS", "{\"path\":\"/\"}", MEANING_SEARCH, "/" },

	{ "WebFetch", "{\"url\":\"https://x.example/\",\"prompt\":\"p\"}", MEANING_WEB,
	  "https://x.example/" },
	{ "google_web_search", "{\"query\":\"q\"}", MEANING_WEB, "q" },
	{ "url_context", "{\"urls\":[\"https://x.example/\"]}", MEANING_WEB, "https://x.example/" },

	{ "mcp__github__create_issue", "{\"title\":\"x\"}", MEANING_MCP, "github/create_issue" },
	{ "mcp__a__b__c", "{}", MEANING_MCP, "a/b__c" },
	{ "mcp__alone", "{}", MEANING_MCP, "alone" },

	{ "TodoWrite", "{\"todos\":[]}", MEANING_OTHER, "{\"todos\":[]}" },
	{ "get_weather", "{\"city\":\"x\"}", MEANING_OTHER, "{\"city\":\"x\"}" },
	{ "noop", "", MEANING_OTHER, "" },
};

static void harnesses_and_their_tools(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tool_call call = {
			.name = str_of(cases[i].name),
			.arguments = str_of(cases[i].args),
			.kind = TOOL_FUNCTION,
		};
		char summary[256];
		enum tool_meaning meaning = tool_meaning(&call, summary, sizeof(summary));

		CHECK_STR(tool_meaning_name(meaning), tool_meaning_name(cases[i].meaning));
		CHECK_STR(summary, cases[i].summary);
	}
}

static void kinds_count(void)
{
	struct tool_call call = { .name = STR("ask"), .server = STR("wiki"), .kind = TOOL_MCP };
	char summary[64];

	CHECK_INT(tool_meaning(&call, summary, sizeof(summary)), MEANING_MCP);
	CHECK_STR(summary, "wiki/ask");
	call = (struct tool_call){ .name = STR("search"),
				   .kind = TOOL_SERVER,
				   .arguments = STR("{\"query\":\"w\"}") };
	CHECK_INT(tool_meaning(&call, summary, sizeof(summary)), MEANING_WEB);
	CHECK_STR(summary, "w");
	call.name = STR("visit");
	call.arguments = STR("{\"url\":\"https://x.example\"}");
	CHECK_INT(tool_meaning(&call, summary, sizeof(summary)), MEANING_WEB);
	call.kind = TOOL_FUNCTION;
	CHECK_INT(tool_meaning(&call, summary, sizeof(summary)), MEANING_OTHER);
}

static void summaries_are_safe_to_print(void)
{
	struct tool_call call = {
		.name = STR("bash"),
		.arguments = STR("{\"command\":\"a\\u001b[31m\\u009bb\\u007f\\tc\xff\xc3\"}"),
	};
	char summary[64], tiny[8];

	tool_meaning(&call, summary, sizeof(summary));
	CHECK_STR(summary, "a [31m b  c??");
	call.arguments = STR("{\"command\":\"abcde\\u00e9\\u00e9\"}");
	tool_meaning(&call, tiny, sizeof(tiny));
	CHECK_STR(tiny, "abcde\xc3\xa9");
	call.arguments = STR("{\"command\":\"abcdef\\u00e9\"}");
	tool_meaning(&call, tiny, sizeof(tiny));
	CHECK_STR(tiny, "abcdef");
	tiny[0] = 'x';
	tool_meaning(&call, tiny, 1);
	CHECK_STR(tiny, "");
}

static void long_command_lines_are_kept_as_far_as_asked(void)
{
	size_t n = 100000;
	char *args = malloc(n + 64), *summary = malloc(n + 1);
	struct tool_call call = { .name = STR("Bash") };

	memset(args, 'x', n + 64);
	memcpy(args, "{\"command\":\"", 12);
	memcpy(args + n + 12, "\"}", 3);
	call.arguments = str_of(args);
	CHECK_INT(tool_meaning(&call, summary, n + 1), MEANING_SHELL);
	CHECK_INT(strlen(summary), n);
	CHECK_INT(tool_meaning(&call, summary, 100), MEANING_SHELL);
	CHECK_INT(strlen(summary), 99);
	free(args);
	free(summary);
}

TESTS(T(harnesses_and_their_tools), T(kinds_count), T(summaries_are_safe_to_print),
      T(long_command_lines_are_kept_as_far_as_asked))
