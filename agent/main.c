/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The privileged daemon, `sallyport daemon --config FILE`: start-up in order, then the loop, then
 * the end in reverse. It reads no stranger's bytes: not HTTP, not keys, not the container engine's
 * answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "agent/agent.h"
#include "agent/ca.h"
#include "agent/control.h"
#include "agent/door.h"
#include "agent/files.h"
#include "agent/force.h"
#include "agent/maps.h"
#include "agent/names.h"
#include "agent/notify.h"
#include "agent/privilege.h"
#include "agent/roles.h"
#include "agent/rules.h"
#include "agent/sandbox.h"
#include "agent/selftest.h"
#include "agent/suspects.h"
#include "agent/watch.h"
#include "common/buf.h"
#include "common/log.h"
#include "common/role.h"

/* Rationale: a worker closes its doors in the moment in which its daemon dies; one that does not is stuck. */
#define DOORS_WAIT_MS	 3000
#define LEFTOVER_KILL_MS 3000

/* ---------------------------------------------------------------- configuration */

static void read_text(const char *path, struct buf *out)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	ssize_t n = 1;

	if (fd < 0 || fstat(fd, &st) < 0)
		die("%s cannot be read: %s; write {} into it for the defaults", path,
		    errno_text(errno));
	if (S_ISDIR(st.st_mode))
		die("%s is a folder; name the file: --config %s/config.hujson", path, path);
	if (!S_ISREG(st.st_mode) || st.st_mode & 0002)
		die("%s must be a file that only its owner can write: chmod 644 %s", path, path);
	while (n > 0) {
		char *room = buf_reserve(out, 8192);

		if (!room)
			die("%s is longer than %u bytes", path, CONFIG_TEXT_MAX);
		n = read(fd, room, 8192);
		if (n > 0)
			buf_commit(out, (size_t)n);
	}
	if (n < 0)
		die("%s cannot be read: %s", path, errno_text(errno));
}

static void config_load(struct agent *a)
{
	auto_free struct policy_diags *diags = calloc(1, sizeof(*diags));
	enum log_level level = LOG_INFO;
	struct buf text;
	int err;

	buf_init(&text, CONFIG_TEXT_MAX + 16384);
	read_text(a->config_path, &text);
	err = diags ? config_parse(buf_str(&text), &a->config, diags) : -ENOMEM;
	if (diags && diags->n) {
		struct buf lines;

		buf_init(&lines, 1 << 20);
		policy_diags_print(diags, str_of(a->config_path), &lines);
		fprintf(stderr, "%.*s", (int)buf_len(&lines), lines.data ? buf_head(&lines) : "");
		buf_fini(&lines);
	}
	if (err)
		die("%s cannot be used; mend it and start again", a->config_path);
	a->config_bytes = buf_len(&text);
	a->config_text = malloc(a->config_bytes + 1);
	if (!a->config_text)
		die("no memory");
	memcpy(a->config_text, buf_head(&text), a->config_bytes);
	buf_fini(&text);
	if (!log_level_parse(a->config->log_level.s, &level))
		die("log_level %s is none: use err, warn, info, debug or trace",
		    a->config->log_level.s);
	log_init("agent", level);
	a->n_workers =
		a->config->workers ? a->config->workers : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	a->n_workers = MAX(a->n_workers, 1U);
	a->n_workers = MIN(a->n_workers, (unsigned)AGENT_WORKERS_MAX);
}

/* ---------------------------------------------------------------- start-up */

static void kernel_name(struct agent *a)
{
	struct utsname u;

	if (uname(&u) == 0)
		snprintf(a->kernel, sizeof(a->kernel), "%.20s %.40s", u.sysname, u.release);
}

/*
 * Workers of a daemon that was killed finish what runs, but let go of the doors at once: until then their ports are
 * taken. The lock goes with the last copy of its descriptor.
 */
static void doors_wait(struct agent *a)
{
	int waited = 0;

	while (flock(a->doors_lock, LOCK_EX | LOCK_NB) < 0) {
		if (waited == DOORS_WAIT_MS)
			log_warn("workers of a former daemon do not let go of their doors and are killed");
		if (waited >= DOORS_WAIT_MS && cgroup_kill(a->gateway_cg, LEFTOVER_KILL_MS))
			die("processes of a former daemon in %s do not end: kill them", a->gateway_path);
		usleep(20000);
		waited += 20;
	}
	if (cgroup_populated(a->gateway_cg) == 1)
		log_info("workers of a former daemon finish what runs cgroup=%s", a->gateway_path);
}

static void cgroups_open(struct agent *a)
{
	const char *parent = a->config->cgroup.parent.s;
	char why[MSG_TEXT_BYTES];
	size_t n = strlen(parent);

	if (cgroup_root_open(&a->cg, a->config->cgroup.root.s, why, sizeof(why)))
		die("%s", why);
	if (parent[0] != '/' || n < 2 || parent[n - 1] == '/' || n > sizeof(a->gateway_path) - 16)
		die("cgroup.parent must be a path below the root, like /sallyport");
	snprintf(a->gateway_path, sizeof(a->gateway_path), "%s/gateway", parent);
	snprintf(a->run_path, sizeof(a->run_path), "%s/run", parent);
	a->gateway_cg = cgroup_create(&a->cg, a->gateway_path);
	a->parent_cg = cgroup_open(&a->cg, parent);
	if (a->parent_cg >= 0)
		files_lock_dir(a->parent_cg, "cgroup.parent", parent);
	if (a->gateway_cg < 0)
		die("cannot make the cgroup %s below %s: %s", a->gateway_path, a->cg.path,
		    errno_text(a->gateway_cg));
	doors_wait(a);
}

static void programs_open(struct agent *a)
{
	char why[MSG_TEXT_BYTES];
	int err;

	if (load_open(&a->bpf, a->config->pin_dir.s, why, sizeof(why)))
		die("%s", why);
	err = load_gateway(&a->bpf, a->gateway_cg, cgroup_id(a->gateway_cg));
	if (err)
		die("the kernel refuses programs on the cgroup %s: %s; another program may be attached there or above it "
		    "alone (bpftool cgroup tree)",
		    a->gateway_path, errno_text(err));
	/* The old listeners are closed; the map still names them. */
	maps_doors_clear(&a->bpf);
	maps_netns_clear(&a->bpf);
	load_clean(&a->bpf, true);
	err = force_init(a);
	err = err ? err : names_init(a);
	err = err ? err : suspects_init(a);
	if (err)
		die("the forced path cannot be set up: %s; see force in the configuration", errno_text(err));
	if (selftest_run(a))
		log_err("connections cannot be stamped, every request will be refused: %s",
			a->stamp_state);
}

static void on_signal(void *arg, uint32_t events)
{
	struct agent *a = arg;
	struct signalfd_siginfo info;

	(void)events;
	if (read(a->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGHUP:
		rules_reload(a);
		break;
	case SIGTERM:
	case SIGINT:
		log_info("stopping signal=%u", info.ssi_signo);
		roles_stop(a);
		break;
	}
}

static void signals_open(struct agent *a)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	a->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (a->signal_fd < 0 ||
	    loop_watch(&a->loop, &a->signal_watch, a->signal_fd, EPOLLIN, on_signal, a))
		die("cannot receive signals: %s", errno_text(errno));
}

static void start(struct agent *a)
{
	int err;

	config_load(a);
	kernel_name(a);
	privilege_require();
	files_users(a);
	if (loop_init(&a->loop) || notify_init(&a->loop, &a->notify))
		die("no event loop: %s", errno_text(errno));
	a->started_ns = a->loop.wall_ns;
	a->next_door_id = 1;
	signals_open(a);
	files_open(a);
	cgroups_open(a);
	privilege_drop();
	programs_open(a);
	door_open_host(a);
	sandboxes_adopt(a);
	if (ca_init(a))
		die("cannot make %s/ca: %s", a->config->run_dir.s, errno_text(errno));
	rules_init(a);
	err = roles_start(a);
	if (err == -ENOSPC)
		die("workers of former daemons still finish what runs and leave no room for %u more: wait, or kill those in %s",
		    a->n_workers, a->gateway_path);
	if (err)
		die("the roles cannot be started: %s", errno_text(err));
	if (control_init(a))
		die("cannot listen on %s/control.sock: %s", a->config->run_dir.s,
		    errno_text(errno));
	watch_init(a);
	if (sandboxes_start(a))
		die("no memory");
	agent_event(a, LOG_INFO, "started", NULL,
		    "daemon started version=%s kernel=\"%s\" workers=%u stamp=\"%s\" port=%u",
		    SALLYPORT_VERSION, a->kernel, a->n_workers, a->stamp_state,
		    a->host_door ? a->host_door->info.port : 0);
}

/* ---------------------------------------------------------------- the end */

/* Programs stay attached unless everything is to go: an upgrade leaves no gap. */
static void finish(struct agent *a)
{
	agent_event(a, LOG_INFO, "stopped", NULL, "daemon stopped");
	control_fini(a);
	watch_fini(a);
	sandboxes_fini(a, a->clean_at_exit);
	doors_close_all(a);
	roles_fini(a);
	ca_fini(a);
	rules_fini(a);
	notify_fini(a->notify);
	suspects_fini(a);
	names_fini(a);
	force_fini(a);
	if (a->clean_at_exit)
		load_clean(&a->bpf, false);
	load_close(&a->bpf);
	/* Of a former daemon: nothing is to be left behind. */
	if (a->clean_at_exit && cgroup_kill(a->gateway_cg, LEFTOVER_KILL_MS))
		log_warn("processes of a former daemon do not end cgroup=%s", a->gateway_path);
	close(a->gateway_cg);
	if (a->parent_cg >= 0)
		close(a->parent_cg);
	if (a->clean_at_exit)
		cgroup_remove(&a->cg, a->config->cgroup.parent.s);
	cgroup_root_close(&a->cg);
	files_close(a);
	loop_unwatch(&a->loop, &a->signal_watch);
	close(a->signal_fd);
	loop_fini(&a->loop);
	config_free(a->config);
	free(a->config_text);
}

int agent_main(const char *config_path, bool clean)
{
	struct agent a = { .gateway_cg = -1,
			   .parent_cg = -1,
			   .signal_fd = -1,
			   .lock_fd = -1,
			   .config_path = config_path,
			   .clean_at_exit = clean };
	int err;

	log_init("agent", LOG_INFO);
	start(&a);
	err = loop_run(&a.loop);
	if (err)
		log_err("the event loop broke error=%s", errno_text(err));
	finish(&a);
	return err ? 1 : 0;
}
