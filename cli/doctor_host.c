/* SPDX-License-Identifier: Apache-2.0 */
/* What the host must have: each check stands for something the daemon does. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#include "cli/doctor.h"
#include "common/log.h"

/* get_netns_cookie in sock_ops came with 5.15; the kernels that are tried in the tests begin
 * at 6.1. */
enum { KERNEL_LEAST = 5 * 1000 + 15, KERNEL_TRIED = 6 * 1000 + 1 };
/* A clock before this program was written is wrong. */
#define CLOCK_LEAST 1763000000

static void check_kernel(struct doctor *d)
{
	struct utsname u;
	int major = 0, minor = 0, version;

	if (uname(&u) < 0 || sscanf(u.release, "%d.%d", &major, &minor) != 2) {
		doctor_say(d, FIND_UNKNOWN, "kernel", "its version cannot be read");
		return;
	}
	version = major * 1000 + minor;
	if (version < KERNEL_LEAST)
		doctor_say(d, FIND_FAIL, "kernel",
			   "%s is too old: 5.15 is the least, 6.1 or newer is tried", u.release);
	else if (version < KERNEL_TRIED)
		doctor_say(d, FIND_WARN, "kernel", "%s should work; 6.1 or newer is tried",
			   u.release);
	else
		doctor_say(d, FIND_OK, "kernel", "%s %s", u.sysname, u.release);
}

/* The first mount of this type. */
static bool find_mount(const char *type, char *ret, size_t size)
{
	FILE *f = fopen("/proc/self/mounts", "re");
	char line[1024], where[512], what[64];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %511s %63s", where, what) == 2 && !strcmp(what, type))
			found = str_copy(ret, size, str_of(where));
	if (f)
		fclose(f);
	return found;
}

static void check_cgroups(struct doctor *d)
{
	char path[512];
	struct statfs fs;
	bool automatic = !strcmp(d->config->cgroup.root.s, "auto");

	if (!automatic) {
		str_copy(path, sizeof(path), d->config->cgroup.root);
	} else if (!find_mount("cgroup2", path, sizeof(path))) {
		doctor_say(
			d, FIND_FAIL, "cgroups",
			"no cgroup2 is mounted: mount -t cgroup2 none /sys/fs/cgroup, or boot with "
			"systemd.unified_cgroup_hierarchy=1");
		return;
	}
	if (statfs(path, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
		doctor_say(d, FIND_FAIL, "cgroups",
			   "%s is no mount of cgroup2: set cgroup.root to \"auto\"", path);
	else if (d->is_root && access(path, W_OK) < 0)
		doctor_say(
			d, FIND_FAIL, "cgroups",
			"%s cannot be written (%s): run on the host, or in a privileged container",
			path, errno_text(errno));
	else
		doctor_say(d, FIND_OK, "cgroups", "cgroup2 at %s", path);
}

static void check_bpffs(struct doctor *d)
{
	char path[512];
	struct statfs fs;

	str_copy(path, sizeof(path), d->config->pin_dir);
	/* The directory itself may still be made. */
	while (statfs(path, &fs) < 0 && errno == ENOENT && strrchr(path, '/') > path)
		*strrchr(path, '/') = '\0';
	if (statfs(path, &fs) < 0)
		doctor_say(d, errno == EACCES ? FIND_UNKNOWN : FIND_FAIL, "bpffs",
			   "%s cannot be looked at: %s", path, errno_text(errno));
	else if (fs.f_type == BPF_FS_MAGIC)
		doctor_say(d, FIND_OK, "bpffs", "%s", d->config->pin_dir.s);
	else if (statfs("/sys/fs/bpf", &fs) == 0 &&
		 str_starts(d->config->pin_dir, STR("/sys/fs/bpf")))
		doctor_say(
			d, FIND_WARN, "bpffs",
			"none is mounted at /sys/fs/bpf; the daemon mounts it, or: mount -t bpf bpf /sys/fs/bpf");
	else
		doctor_say(d, FIND_FAIL, "bpffs",
			   "%s lies on no bpffs: set pin_dir to a place below /sys/fs/bpf",
			   d->config->pin_dir.s);
}

static void check_bpf(struct doctor *d)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1
	};
	long fd = syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr));

	if (fd >= 0) {
		close((int)fd);
		doctor_say(d, FIND_OK, "bpf", "maps can be made");
	} else if (!d->is_root) {
		doctor_say(d, FIND_UNKNOWN, "bpf", "only root can try");
	} else if (errno == ENOSYS) {
		doctor_say(
			d, FIND_FAIL, "bpf",
			"the kernel has no bpf(): it needs CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF");
	} else {
		doctor_say(
			d, FIND_FAIL, "bpf",
			"bpf() is refused (%s): the container or a filter forbids it; run on the host, with CAP_BPF",
			errno_text(errno));
	}
}

static void check_netns(struct doctor *d)
{
	int status = 0;
	pid_t pid;

	if (access("/proc/self/ns/net", F_OK) < 0) {
		doctor_say(
			d, FIND_FAIL, "netns",
			"there are no network namespaces: the kernel needs CONFIG_NET_NS and /proc mounted");
		return;
	}
	if (!d->is_root) {
		doctor_say(d, FIND_UNKNOWN, "netns", "only root can try");
		return;
	}
	pid = fork();
	if (!pid)
		_exit(unshare(CLONE_NEWNET) < 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status))
		doctor_say(d, FIND_FAIL, "netns",
			   "no network namespace can be made: run on the host, with CAP_SYS_ADMIN");
	else
		doctor_say(d, FIND_OK, "netns", "can be made");
}

static void check_clock(struct doctor *d)
{
	struct timex tx = { 0 };

	if (time(NULL) < CLOCK_LEAST)
		doctor_say(
			d, FIND_FAIL, "clock",
			"it is wrong, and certificates and quotas go by it: set it (timedatectl set-ntp true)");
	else if (adjtimex(&tx) >= 0 && tx.status & STA_UNSYNC)
		doctor_say(d, FIND_WARN, "clock",
			   "no time service disciplines it: install chrony or systemd-timesyncd");
	else
		doctor_say(d, FIND_OK, "clock", "is synchronised");
}

static bool number_ok(const char *name)
{
	return name[0] == '#' && isdigit((unsigned char)name[1]) &&
	       name[1 + strspn(name + 1, "0123456789")] == '\0';
}

static void check_user(struct doctor *d, const char *key, const char *name)
{
	if (!number_ok(name) && !getpwnam(name))
		doctor_say(
			d, FIND_FAIL, "users",
			"there is no user %s: useradd --system --user-group --no-create-home --shell "
			"/usr/sbin/nologin %s, or set users.%s",
			name, name, key);
}

static void check_users(struct doctor *d)
{
	const struct config *c = d->config;
	unsigned failed = d->count[FIND_FAIL];

	check_user(d, "gateway", c->users.gateway.s);
	check_user(d, "ledger", c->users.ledger.s);
	check_user(d, "dns", c->users.dns.s);
	if (!number_ok(c->users.group.s) && !getgrnam(c->users.group.s))
		doctor_say(d, FIND_FAIL, "users",
			   "there is no group %s: groupadd --system %s, or set users.group",
			   c->users.group.s, c->users.group.s);
	if (d->count[FIND_FAIL] == failed)
		doctor_say(d, FIND_OK, "users", "gateway %s, ledger %s, dns %s, group %s", c->users.gateway.s,
			   c->users.ledger.s, c->users.dns.s, c->users.group.s);
}

static bool dir_has_files(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *e;
	bool any = false;

	while (dir && !any && (e = readdir(dir)))
		any = e->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return any;
}

static void check_certificates(struct doctor *d)
{
	const char *file = d->config->upstream.ca_file.n ? d->config->upstream.ca_file.s
							 : "/etc/ssl/certs/ca-certificates.crt";
	bool is_ours = d->config->upstream.ca_file.n;

	if (access(file, R_OK) == 0)
		doctor_say(d, FIND_OK, "certificates", "%s", file);
	else if (is_ours)
		doctor_say(d, FIND_FAIL, "certificates",
			   "%s cannot be read (%s): set upstream.ca_file to a PEM bundle", file,
			   errno_text(errno));
	else if (dir_has_files("/etc/ssl/certs") || dir_has_files("/etc/pki/tls/certs"))
		doctor_say(d, FIND_OK, "certificates", "the system's");
	else
		doctor_say(
			d, FIND_FAIL, "certificates",
			"the system trusts no authority, so no provider can be reached by https: apt-get "
			"install ca-certificates");
}

void doctor_host(struct doctor *d)
{
	check_kernel(d);
	check_cgroups(d);
	check_bpffs(d);
	check_bpf(d);
	check_netns(d);
	check_clock(d);
	check_users(d);
	check_certificates(d);
}
