/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `sallyport run`: the daemon makes a labelled cgroup and hands us its descriptor; the command
 * starts inside it, so that not one socket of it lacks the stamp. The control connection stays open
 * while it runs: when it closes, the daemon takes the cgroup off as soon as that is empty.
 *
 * Theory of operation. The command stays in our process group, so that terminal, job control and
 * the terminal's signals are the command's as without us. Signals from the terminal reach it by
 * themselves; those that someone sends to us are passed on. When it stops, we stop, and wake it
 * when we are woken.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "cli/client.h"
#include "cli/settings.h"
#include "cli/spawn.h"
#include "common/log.h"

/* As shells have it. */
enum { EXIT_NO_EXEC = 126, EXIT_NOT_FOUND = 127, EXIT_SIGNAL = 128 };

static const char *const run_format_words[] = {
	"all", "anthropic", "openai", "gemini", "none", NULL
};

struct run_args {
	struct cli_common common;
	struct cli_list tags;
	const char *name, *user, *format;
	bool keep_keys;
};
const struct cli_option run_options[] = {
	{ "tag", 't', CLI_LIST, CLI_AT(run_args, tags), "TAG", NULL,
	  "a tag of the cgroup: tag:name; may be given again" },
	{ "name", 'n', CLI_TEXT, CLI_AT(run_args, name), "NAME", NULL,
	  "how the cgroup's name begins (default: the command's)" },
	{ "user", 'u', CLI_TEXT, CLI_AT(run_args, user), "NAME", NULL, "run as this user" },
	{ "format", 'f', CLI_WORD, CLI_AT(run_args, format), "FORMAT", run_format_words,
	  "which clients' variables are set" },
	{ "keep-keys", 0, CLI_FLAG, CLI_AT(run_args, keep_keys), NULL, NULL,
	  "leave keys in the environment alone, for providers with auth_mode passthrough" },
	{ 0 },
};

/* ---------------------------------------------------------------- before the start */

static int join_tags(const struct cli_list *tags, char *ret, size_t size)
{
	size_t at = 0;

	if (!tags->n)
		return cli_fail(
			EXIT_USAGE,
			"run needs a tag that grants can name: sallyport run --tag tag:NAME -- COMMAND");
	for (unsigned i = 0; i < tags->n; i++) {
		int n = snprintf(ret + at, size - at, "%s%s", i ? "," : "", tags->items[i]);

		if (n < 0 || (size_t)n >= size - at)
			return cli_fail(EXIT_USAGE,
					"the tags together are too long: use shorter ones");
		at += (size_t)n;
	}
	return EXIT_OK;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void set_variable(void *arg, const char *name, const char *value)
{
	int err = value ? setenv(name, value, 1) : unsetenv(name);

	if (err)
		*(bool *)arg = true;
}

static const char *current(const char *name)
{
	return getenv(name);
}

/*
 * Gemini CLI with a base URL of its own starts only when a settings file names the way to log in. A
 * system file that is there is the administrator's, and ours would hide it.
 */
static void gemini_settings(const char *run_dir)
{
	char path[MSG_PATH_BYTES];
	struct buf b;

	if (getenv("GEMINI_CLI_SYSTEM_SETTINGS_PATH") ||
	    access("/etc/gemini-cli/settings.json", F_OK) == 0 ||
	    snprintf(path, sizeof(path), "%s/gemini-settings.json", run_dir) >= (int)sizeof(path))
		return;
	buf_init(&b, 4096);
	if (!settings_snippet("gemini", 0, &b)) {
		auto_close int fd =
			open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);

		/* It never changes, so one that is there is right. */
		if (fd >= 0 && (fchmod(fd, 0644) < 0 ||
				write(fd, buf_head(&b), buf_len(&b)) != (ssize_t)buf_len(&b)))
			unlink(path);
		if (access(path, R_OK) == 0)
			setenv("GEMINI_CLI_SYSTEM_SETTINGS_PATH", path, 1);
	}
	buf_fini(&b);
}

static int set_environment(const struct run_args *o, uint16_t port, const char *command,
			   const char *run_dir)
{
	char bundle[MSG_PATH_BYTES];
	struct settings s = { .port = port,
			      .keep_keys = o->keep_keys,
			      .bundle = settings_bundle(run_dir, bundle, sizeof(bundle)) };
	bool failed = false;

	if (!strcmp(o->format, "all"))
		s.families = FAMILY_ALL;
	else if (!strcmp(o->format, "anthropic"))
		s.families = FAMILY_ANTHROPIC;
	else if (!strcmp(o->format, "openai"))
		s.families = FAMILY_OPENAI;
	else if (!strcmp(o->format, "gemini"))
		s.families = FAMILY_GEMINI;
	s.anthropic_api_key = strcmp(base_name(command), "claude") != 0;
	settings_each(&s, current, set_variable, &failed);
	if (s.families & FAMILY_GEMINI)
		gemini_settings(run_dir);
	return failed ? cli_fail(EXIT_FAILED, "no memory for the environment") : EXIT_OK;
}

/* ---------------------------------------------------------------- the child */

struct user {
	uid_t uid;
	gid_t gid;
	const char *name, *home;
};

static int find_user(const char *name, struct user *ret)
{
	const struct passwd *pw = getpwnam(name);

	if (!pw)
		return cli_fail(EXIT_FAILED, "there is no user %s: getent passwd lists them",
				log_quote(str_of(name)));
	*ret = (struct user){ pw->pw_uid, pw->pw_gid, pw->pw_name, pw->pw_dir };
	return EXIT_OK;
}

static int become(const struct user *u)
{
	if (initgroups(u->name, u->gid) < 0 || setgid(u->gid) < 0 || setuid(u->uid) < 0)
		return -errno;
	return setenv("HOME", u->home, 1) || setenv("USER", u->name, 1) ||
			       setenv("LOGNAME", u->name, 1)
		       ? -ENOMEM
		       : 0;
}

/* Tells the errno through the pipe if the command does not start. */
static void child(char **command, const struct user *u, const sigset_t *mask, int error_pipe)
{
	int err = u->name ? become(u) : 0;

	sigprocmask(SIG_SETMASK, mask, NULL);
	if (!err) {
		execvp(command[0], command);
		err = -errno;
	}
	if (write(error_pipe, &err, sizeof(err)) < 0)
		_exit(EXIT_NO_EXEC);
	_exit(err == -ENOENT ? EXIT_NOT_FOUND : EXIT_NO_EXEC);
}

/* ---------------------------------------------------------------- while it runs */

static bool in_foreground(void)
{
	auto_close int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

	return tty >= 0 && tcgetpgrp(tty) == getpgrp();
}

/* The command has stopped: the shell that started us must see a stopped job. */
static void stop_too(pid_t pid, int signal)
{
	if (signal == SIGSTOP && !in_foreground())
		return; /* someone stopped it on purpose and will wake it, not us */
	raise(SIGSTOP);
	kill(pid, SIGCONT);
}

static int wait_for(pid_t pid, const sigset_t *set)
{
	siginfo_t info;
	int status;

	for (;;) {
		int sig = sigwaitinfo(set, &info);

		if (sig < 0 && errno != EINTR)
			return EXIT_FAILED;
		if (sig > 0 && sig != SIGCHLD && info.si_code != SI_KERNEL)
			kill(pid, sig);
		if (sig != SIGCHLD)
			continue;
		while (waitpid(pid, &status, WNOHANG | WUNTRACED) == pid) {
			if (WIFEXITED(status))
				return WEXITSTATUS(status);
			if (WIFSIGNALED(status))
				return EXIT_SIGNAL + WTERMSIG(status);
			if (WIFSTOPPED(status))
				stop_too(pid, WSTOPSIG(status));
		}
	}
}

static int start_failed(const char *command, int err)
{
	if (err == -ENOENT)
		return cli_fail(EXIT_NOT_FOUND, "there is no command %s: check its name and PATH",
				log_quote(str_of(command)));
	return cli_fail(EXIT_NO_EXEC, "%s cannot be started: %s", log_quote(str_of(command)),
			errno_text(err));
}

static int run_in(int cgroup, char **command, const struct user *u)
{
	static const int signals[] = { SIGCHLD, SIGINT,	 SIGQUIT, SIGTERM,
				       SIGHUP,	SIGUSR1, SIGUSR2, SIGTSTP };
	int error_pipe[2], err = 0;
	sigset_t set, old;
	pid_t pid;

	if (pipe2(error_pipe, O_CLOEXEC) < 0)
		return cli_fail(EXIT_FAILED, "no descriptors are left: %s", errno_text(errno));
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, &old);
	signal(SIGCHLD, SIG_DFL); /* a caller may have had it ignored: then nobody could wait */
	pid = spawn_into(cgroup);
	if (!pid)
		child(command, u, &old, error_pipe[1]);
	close(error_pipe[1]);
	if (pid < 0) {
		close(error_pipe[0]);
		return cli_fail(EXIT_FAILED, "no process can be started in the cgroup: %s",
				errno_text((int)pid));
	}
	if (read(error_pipe[0], &err, sizeof(err)) != sizeof(err))
		err = 0;
	close(error_pipe[0]);
	if (err) {
		waitpid(pid, NULL, 0);
		return start_failed(command[0], err);
	}
	return wait_for(pid, &set);
}

/* ---------------------------------------------------------------- the command */

static int run_asked(const struct run_args *o, struct control *c, const struct msg_result *r,
		     const char *run_dir, char **command)
{
	struct user u = { .name = NULL };
	int code;

	if (c->message.n_fds != 1)
		return control_failed(-EBADMSG);
	if (!r->sandbox.door_port)
		return cli_fail(
			EXIT_FAILED,
			"no door is open in this network namespace: set door.host to true in the configuration, "
			"or free one of its ports; sallyport ps shows doors");
	code = o->user ? find_user(o->user, &u) : EXIT_OK;
	if (!code)
		code = set_environment(o, (uint16_t)r->sandbox.door_port, command[0], run_dir);
	return code ? code : run_in(c->message.fds[0], command, &u);
}

int cmd_run(int argc, char **argv)
{
	struct run_args o = { .format = "all" };
	auto_free struct control *c = calloc(1, sizeof(*c));
	struct msg_target target = { 0 };
	const struct msg_result *r;
	struct config *config = NULL;
	struct cli_words w;
	int code = cli_parse(argc, argv, &o, &w);

	if (code < 0 && !w.n)
		code = cli_fail(EXIT_USAGE,
				"run needs a command: sallyport run --tag tag:NAME -- COMMAND");
	if (code >= 0)
		return code;
	if (!c)
		return cli_fail(EXIT_FAILED, "no memory");
	code = join_tags(&o.tags, target.tags, sizeof(target.tags));
	code = code ? code : client_config(&o.common, &config);
	if (code)
		return code;
	str_copy(target.target, sizeof(target.target),
		 str_of(o.name ? o.name : base_name(w.items[0])));
	code = control_open(&o.common, c);
	code = code ? code : control_result(c, MSG_CTL_RUN, &target, &r);
	code = code ? code : run_asked(&o, c, r, config->run_dir.s, w.items);
	control_close(c);
	config_free(config);
	return code;
}
