/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names first: each harness calls its tools something else, but the names are few. Then the
 * arguments, whose members go by a few names too. Arguments that are no JSON object (custom tools,
 * arguments cut off by a token limit) are read as far as they go, or shown as text.
 */
#include "gateway/tool_meaning.h"

#include <assert.h>
#include <ctype.h>

#include "common/base.h"
#include "gateway/extract_pick.h"

static const char *const meaning_names[] = { "other", "shell", "file", "search", "web", "mcp" };
static_assert(ARRAY_SIZE(meaning_names) == MEANING_MAX, "one name for each meaning");

const char *tool_meaning_name(enum tool_meaning meaning)
{
	return meaning < MEANING_MAX ? meaning_names[meaning] : "unknown";
}

/* ---------------------------------------------------------------- names */

/* In lower case, - and . written as _; `verb` is put before the path. */
static const struct tool_name {
	const char *name;
	enum tool_meaning meaning;
	const char *verb;
} tool_names[] = {
	{ "bash", MEANING_SHELL, NULL },
	{ "bash_code_execution", MEANING_SHELL, NULL },
	{ "cmd", MEANING_SHELL, NULL },
	{ "container_exec", MEANING_SHELL, NULL },
	{ "exec", MEANING_SHELL, NULL },
	{ "exec_command", MEANING_SHELL, NULL },
	{ "execute", MEANING_SHELL, NULL },
	{ "execute_bash", MEANING_SHELL, NULL },
	{ "execute_command", MEANING_SHELL, NULL },
	{ "execute_shell", MEANING_SHELL, NULL },
	{ "launch_process", MEANING_SHELL, NULL },
	{ "local_shell", MEANING_SHELL, NULL },
	{ "powershell", MEANING_SHELL, NULL },
	{ "run_command", MEANING_SHELL, NULL },
	{ "run_commands", MEANING_SHELL, NULL },
	{ "run_in_terminal", MEANING_SHELL, NULL },
	{ "run_shell_command", MEANING_SHELL, NULL },
	{ "run_terminal_cmd", MEANING_SHELL, NULL },
	{ "run_terminal_command", MEANING_SHELL, NULL },
	{ "runcommand", MEANING_SHELL, NULL },
	{ "sh", MEANING_SHELL, NULL },
	{ "shell", MEANING_SHELL, NULL },
	{ "shell_command", MEANING_SHELL, NULL },
	{ "terminal", MEANING_SHELL, NULL },
	{ "unified_exec", MEANING_SHELL, NULL },
	{ "write_stdin", MEANING_SHELL, NULL },
	{ "zsh", MEANING_SHELL, NULL },

	{ "apply_diff", MEANING_FILE, "edit" },
	{ "apply_patch", MEANING_FILE, "edit" },
	{ "create", MEANING_FILE, "write" },
	{ "create_file", MEANING_FILE, "write" },
	{ "delete_file", MEANING_FILE, "delete" },
	{ "edit", MEANING_FILE, "edit" },
	{ "edit_file", MEANING_FILE, "edit" },
	{ "fs_read", MEANING_FILE, "read" },
	{ "fs_write", MEANING_FILE, "write" },
	{ "insert_edit_into_file", MEANING_FILE, "edit" },
	{ "multi_edit", MEANING_FILE, "edit" },
	{ "multiedit", MEANING_FILE, "edit" },
	{ "notebookedit", MEANING_FILE, "edit" },
	{ "notebookread", MEANING_FILE, "read" },
	{ "open_file", MEANING_FILE, "read" },
	{ "patch", MEANING_FILE, "edit" },
	{ "read", MEANING_FILE, "read" },
	{ "read_file", MEANING_FILE, "read" },
	{ "read_files", MEANING_FILE, "read" },
	{ "read_many_files", MEANING_FILE, "read" },
	{ "readfile", MEANING_FILE, "read" },
	{ "remove_file", MEANING_FILE, "delete" },
	{ "replace", MEANING_FILE, "edit" },
	{ "replace_in_file", MEANING_FILE, "edit" },
	{ "save_file", MEANING_FILE, "write" },
	{ "search_replace", MEANING_FILE, "edit" },
	{ "str_replace", MEANING_FILE, "edit" },
	{ "str_replace_based_edit_tool", MEANING_FILE, "edit" },
	{ "str_replace_editor", MEANING_FILE, "edit" },
	{ "text_editor", MEANING_FILE, "edit" },
	{ "text_editor_code_execution", MEANING_FILE, "edit" },
	{ "view", MEANING_FILE, "read" },
	{ "view_file", MEANING_FILE, "read" },
	{ "view_image", MEANING_FILE, "read" },
	{ "write", MEANING_FILE, "write" },
	{ "write_file", MEANING_FILE, "write" },
	{ "write_to_file", MEANING_FILE, "write" },
	{ "writefile", MEANING_FILE, "write" },

	{ "codebase_search", MEANING_SEARCH, NULL },
	{ "file_search", MEANING_SEARCH, NULL },
	{ "find", MEANING_SEARCH, NULL },
	{ "find_files", MEANING_SEARCH, NULL },
	{ "glob", MEANING_SEARCH, NULL },
	{ "glob_file_search", MEANING_SEARCH, NULL },
	{ "grep", MEANING_SEARCH, NULL },
	{ "grep_search", MEANING_SEARCH, NULL },
	{ "list", MEANING_SEARCH, NULL },
	{ "list_dir", MEANING_SEARCH, NULL },
	{ "list_directory", MEANING_SEARCH, NULL },
	{ "list_files", MEANING_SEARCH, NULL },
	{ "ls", MEANING_SEARCH, NULL },
	{ "rg", MEANING_SEARCH, NULL },
	{ "ripgrep", MEANING_SEARCH, NULL },
	{ "search", MEANING_SEARCH, NULL },
	{ "search_file_content", MEANING_SEARCH, NULL },
	{ "search_files", MEANING_SEARCH, NULL },
	{ "semantic_search", MEANING_SEARCH, NULL },
	{ "tool_search", MEANING_SEARCH, NULL },
	{ "tool_search_tool_bm25", MEANING_SEARCH, NULL },
	{ "tool_search_tool_regex", MEANING_SEARCH, NULL },

	{ "browser", MEANING_WEB, NULL },
	{ "fetch", MEANING_WEB, NULL },
	{ "fetch_url", MEANING_WEB, NULL },
	{ "fetch_webpage", MEANING_WEB, NULL },
	{ "google_search", MEANING_WEB, NULL },
	{ "google_search_web", MEANING_WEB, NULL },
	{ "google_web_search", MEANING_WEB, NULL },
	{ "open_url", MEANING_WEB, NULL },
	{ "url_context", MEANING_WEB, NULL },
	{ "web_fetch", MEANING_WEB, NULL },
	{ "web_search", MEANING_WEB, NULL },
	{ "web_search_preview", MEANING_WEB, NULL },
	{ "webfetch", MEANING_WEB, NULL },
	{ "websearch", MEANING_WEB, NULL },
	{ "x_keyword_search", MEANING_WEB, NULL },
	{ "x_semantic_search", MEANING_WEB, NULL },
};

static const struct tool_name other_tool = { "", MEANING_OTHER, NULL };
static const struct tool_name some_shell = { "", MEANING_SHELL, NULL };
static const struct tool_name some_web = { "", MEANING_WEB, NULL };

/* In the table's spelling; what is longer than any name there is cut. */
static void name_normalise(struct str name, char *ret, size_t size)
{
	size_t n = MIN(name.n, size - 1);

	for (size_t i = 0; i < n; i++) {
		char c = (char)tolower((unsigned char)name.s[i]);

		ret[i] = c == '-' || c == '.' ? '_' : c;
	}
	ret[n] = '\0';
}

static const struct tool_name *name_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(tool_names); i++)
		if (!strcmp(tool_names[i].name, name))
			return &tool_names[i];
	return NULL;
}

static const struct tool_name *name_lookup(const struct tool_call *call)
{
	char name[TOOL_NAME_BYTES];
	const struct tool_name *found;
	const char *last = NULL;

	name_normalise(call->name, name, sizeof(name));
	if (call->kind == TOOL_SERVER && !strcmp(name, "search"))
		return &some_web; /* the provider searches nothing else under this name */
	found = name_find(name);
	/* Goose: developer__shell, developer__text_editor. */
	for (const char *p = name; !found && (p = strstr(p, "__")); p += 2)
		last = p + 2;
	if (!found && last)
		found = name_find(last);
	if (found)
		return found;
	if (strstr(name, "bash") || strstr(name, "shell") || strstr(name, "terminal") ||
	    strstr(name, "exec_command") || strstr(name, "run_command"))
		return &some_shell;
	return &other_tool;
}

/* ---------------------------------------------------------------- arguments */

enum { TAG_ARGV = PICK_ROOT + 1, TAG_COMMANDS, TAG_COMMAND, TAG_PATHS };

#define ARGV_MAX 64

struct meaning_args {
	struct pick pick;
	struct pick_value command, code, input, patch, item;
	char path[512], query[512], url[512], mode[32];
	struct buf line; /* argv or a list of commands as one line */
	unsigned n_argv, n_paths;
	bool shell_c; /* argv is bash -c: only what follows is of interest */
};

#define F(field) PICK_FIELD(struct meaning_args, field)
static const struct pick_path arg_paths[] = {
	{ "command|cmd|script|shell_command|bash_command|command_line", PICK_VALUE, F(command), 0 },
	{ "command|cmd|argv.*", PICK_VALUE, F(item), TAG_ARGV },
	{ "commands.*", PICK_VALUE, F(item), TAG_COMMANDS },
	{ "commands.*.command|cmd", PICK_VALUE, F(command), TAG_COMMAND },
	{ "code", PICK_VALUE, F(code), 0 },
	{ "chars|input|stdin", PICK_VALUE, F(input), 0 },
	{ "patch|patchText|diff", PICK_VALUE, F(patch), 0 },
	{ "type", PICK_TEXT, F(mode), 0 },
	{ "file_path|path|filePath|absolute_path|filename|file|notebook_path|target_file|targetFile|"
	  "dir_path|directory|target_directory",
	  PICK_TEXT, F(path), 0 },
	{ "paths|file_paths|files.*", PICK_TEXT, F(path), TAG_PATHS },
	{ "files.*.path", PICK_TEXT, F(path), 0 },
	{ "pattern|query|q|regex|search_term|search_query|glob_pattern", PICK_TEXT, F(query), 0 },
	{ "queries|webSearchQueries.*", PICK_TEXT, F(query), 0 },
	{ "url|uri|link", PICK_TEXT, F(url), 0 },
	{ "urls.*", PICK_TEXT, F(url), 0 },
};
#undef F

static bool is_shell_word(struct str word)
{
	static const char *const shells[] = { "bash", "sh", "zsh", "dash", "fish" };
	const char *slash = word.n ? memrchr(word.s, '/', word.n) : NULL;

	if (slash)
		word = str_skip(word, (size_t)(slash + 1 - word.s));
	for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
		if (str_eq(word, str_of(shells[i])))
			return true;
	return false;
}

/* "-c", "-lc", "-ec": the next word is the script. */
static bool is_script_flag(struct str word)
{
	return word.n >= 2 && word.n <= 5 && word.s[0] == '-' && word.s[1] != '-' &&
	       word.s[word.n - 1] == 'c';
}

/* As much as the line has room for. */
static void args_add(struct meaning_args *a, struct str text)
{
	size_t room = a->line.max - buf_len(&a->line);

	text.n = MIN(text.n, room);
	buf_puts(&a->line, text);
}

/* One word of an argv; words with blanks are quoted so that they are seen as one. */
static void args_add_word(struct meaning_args *a, struct str word)
{
	bool quote = word.n == 0 || memchr(word.s, ' ', word.n) != NULL;

	if (a->n_argv == 0)
		a->shell_c = is_shell_word(word);
	if (a->n_argv == 1 && a->shell_c)
		a->shell_c = is_script_flag(word);
	if (a->n_argv == 2 && a->shell_c) {
		buf_reset(&a->line, SIZE_MAX);
		quote = false;
	}
	a->n_argv++;
	if (buf_len(&a->line))
		args_add(a, STR(" "));
	if (quote)
		args_add(a, STR("'"));
	args_add(a, word);
	if (quote)
		args_add(a, STR("'"));
}

static void args_add_command(struct meaning_args *a, struct str command)
{
	if (buf_len(&a->line))
		args_add(a, STR("; "));
	args_add(a, command);
}

static bool args_mark(void *arg, int tag, enum scan_type type, bool leave)
{
	struct meaning_args *a = arg;

	if (!leave || type != SCAN_STRING)
		return true;
	switch (tag) {
	case TAG_ARGV:
		if (a->n_argv < ARGV_MAX)
			args_add_word(a, buf_str(&a->item.text));
		break;
	case TAG_COMMANDS:
		args_add_command(a, buf_str(&a->item.text));
		break;
	case TAG_COMMAND:
		args_add_command(a, buf_str(&a->command.text));
		break;
	case TAG_PATHS:
		a->n_paths++;
		break;
	}
	return true;
}

static struct pick_value *args_value(struct meaning_args *a, unsigned i)
{
	struct pick_value *values[] = { &a->command, &a->code, &a->input, &a->patch, &a->item };

	return i < ARRAY_SIZE(values) ? values[i] : NULL;
}

static void args_fini(struct meaning_args *a)
{
	for (unsigned i = 0; args_value(a, i); i++)
		pick_value_fini(args_value(a, i));
	buf_fini(&a->line);
}

/* Reads the arguments; values are kept up to `max` bytes each. */
static void args_read(struct meaning_args *a, struct str text, size_t max)
{
	static struct pick_tree tree;

	memset(a, 0, sizeof(*a));
	for (unsigned i = 0; args_value(a, i); i++)
		pick_value_init(args_value(a, i), max);
	buf_init(&a->line, max);
	pick_tree_build(&tree, arg_paths, ARRAY_SIZE(arg_paths));
	pick_init(&a->pick, &tree, a, args_mark, a);
	pick_feed(&a->pick, text.s, text.n);
}

static struct str value_str(const struct pick_value *v)
{
	return v->present && v->type == SCAN_STRING ? buf_str(&v->text) : STR_NULL;
}

/* ---------------------------------------------------------------- the summary */

struct summary {
	char *out;
	size_t n, size;
};

/* Bytes of the character that starts here; 1 where there is none. */
static size_t char_len(struct str s)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): called with s.n > 0 only */
	unsigned char c = (unsigned char)s.s[0];
	size_t want = c >= 0xf0 && c < 0xf8 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 1;

	if (c >= 0xf8 || want > s.n)
		return 1;
	for (size_t i = 1; i < want; i++)
		if (((unsigned char)s.s[i] & 0xc0) != 0x80)
			return 1;
	return want;
}

static void summary_copy(struct summary *s, const char *from, size_t n)
{
	memcpy(s->out + s->n, from, n);
	s->n += n;
}

/* Control characters, also those above 0x7f, and bytes that are no UTF-8 become spaces or question
 * marks. */
static void summary_put(struct summary *s, struct str text)
{
	while (text.n) {
		size_t n = char_len(text);
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): text.n > 0 */
		unsigned char c = (unsigned char)text.s[0];
		bool control = c < 0x20 || c == 0x7f ||
			       (c == 0xc2 && n == 2 && (unsigned char)text.s[1] < 0xa0);

		if (s->n + n >= s->size)
			break;
		if (control)
			s->out[s->n++] = ' ';
		else if (n == 1 && c >= 0x80)
			s->out[s->n++] = '?';
		else
			summary_copy(s, text.s, n);
		text = str_skip(text, n);
	}
	s->out[s->n] = '\0';
}

/* The command line: a string, an argv, a list of commands, or a program text. */
static void summary_shell(struct summary *s, const struct meaning_args *a, struct str raw)
{
	struct str line = buf_str(&a->line);

	if (!line.n)
		line = value_str(&a->command);
	if (!line.n)
		line = value_str(&a->code);
	if (!line.n)
		line = value_str(&a->input);
	summary_put(s, line.n ? line : raw);
}

/* "*** Update File: path" and the like in a patch text. */
static unsigned patch_paths(struct str patch, struct str *ret_first, const char **ret_verb)
{
	static const struct {
		struct str mark;
		const char *verb;
	} marks[] = {
		{ { "*** Update File: ", 17 }, "edit" },
		{ { "*** Add File: ", 14 }, "write" },
		{ { "*** Delete File: ", 17 }, "delete" },
		{ { "+++ b/", 6 }, "edit" },
	};
	unsigned n = 0;

	while (patch.n) {
		const char *lf = memchr(patch.s, '\n', patch.n);
		struct str line = { patch.s, lf ? (size_t)(lf - patch.s) : patch.n };

		for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
			if (!str_starts(line, marks[i].mark))
				continue;
			if (n++ == 0) {
				*ret_first = str_skip(line, marks[i].mark.n);
				*ret_verb = marks[i].verb;
			}
		}
		patch = str_skip(patch, line.n + (lf ? 1 : 0));
	}
	return n;
}

/* The editors of Anthropic say what they do in "command", apply_patch in "type". */
static const char *mode_verb(struct str mode)
{
	static const struct {
		const char *mode, *verb;
	} verbs[] = {
		{ "view", "read" },	     { "read", "read" },	 { "create", "write" },
		{ "write", "write" },	     { "str_replace", "edit" },	 { "insert", "edit" },
		{ "undo_edit", "edit" },     { "create_file", "write" }, { "update_file", "edit" },
		{ "delete_file", "delete" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (str_eq(mode, str_of(verbs[i].mode)))
			return verbs[i].verb;
	return NULL;
}

static void summary_file(struct summary *s, const struct meaning_args *a, struct str raw,
			 const char *verb)
{
	const char *mode = mode_verb(value_str(&a->command));
	struct str path = str_of(a->path), patch = value_str(&a->input);
	unsigned more = a->n_paths ? a->n_paths - 1 : 0, n;
	char count[32];

	if (!mode)
		mode = mode_verb(str_of(a->mode));
	if (mode)
		verb = mode;
	if (!path.n) {
		if (!patch.n)
			patch = value_str(&a->patch);
		n = patch_paths(patch.n ? patch : raw, &path, &verb);
		more = n ? n - 1 : 0;
	}
	summary_put(s, str_of(verb ? verb : "file"));
	if (path.n) {
		summary_put(s, STR(" "));
		summary_put(s, path);
	}
	if (more) {
		snprintf(count, sizeof(count), " (+%u more)", more);
		summary_put(s, str_of(count));
	}
}

static void summary_search(struct summary *s, const struct meaning_args *a, struct str raw)
{
	if (a->query[0])
		summary_put(s, str_of(a->query));
	if (a->query[0] && a->path[0])
		summary_put(s, STR(" in "));
	if (a->path[0])
		summary_put(s, str_of(a->path));
	if (!s->n)
		summary_put(s, raw);
}

static void summary_web(struct summary *s, const struct meaning_args *a, struct str raw)
{
	summary_put(s, a->url[0] ? str_of(a->url) : a->query[0] ? str_of(a->query) : raw);
}

/* "server/tool" from the call's server, or from mcp__server__tool. */
static bool summary_mcp(struct summary *s, const struct tool_call *call)
{
	struct str name = call->name, server = call->server;
	const char *sep;

	if (call->kind != TOOL_MCP && !str_starts(name, STR("mcp__")))
		return false;
	if (!server.n && str_starts(name, STR("mcp__"))) {
		name = str_skip(name, strlen("mcp__"));
		sep = str_find(name, STR("__"));
		if (sep) {
			server = (struct str){ name.s, (size_t)(sep - name.s) };
			name = str_skip(name, server.n + 2);
		}
	}
	if (server.n) {
		summary_put(s, server);
		summary_put(s, STR("/"));
	}
	summary_put(s, name);
	return true;
}

enum tool_meaning tool_meaning(const struct tool_call *call, char *ret_summary, size_t size)
{
	struct summary s = { ret_summary, 0, size };
	const struct tool_name *name;
	struct str raw = call->arguments;
	struct meaning_args *a;

	if (!size)
		return MEANING_OTHER;
	ret_summary[0] = '\0';
	if (summary_mcp(&s, call))
		return MEANING_MCP;
	name = name_lookup(call);
	a = malloc(sizeof(*a));
	if (!a)
		return name->meaning;
	args_read(a, raw, MAX(size, (size_t)4096));
	/* What a provider runs by itself with a URL is a fetch, whatever it is called. */
	if (call->kind == TOOL_SERVER && name->meaning == MEANING_OTHER && a->url[0])
		name = &some_web;
	switch (name->meaning) {
	case MEANING_SHELL:
		summary_shell(&s, a, raw);
		break;
	case MEANING_FILE:
		summary_file(&s, a, raw, name->verb);
		break;
	case MEANING_SEARCH:
		summary_search(&s, a, raw);
		break;
	case MEANING_WEB:
		summary_web(&s, a, raw);
		break;
	default:
		summary_put(&s, value_str(&a->code).n ? value_str(&a->code) : raw);
		break;
	}
	args_fini(a);
	free(a);
	return name->meaning;
}
