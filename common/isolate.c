/* SPDX-License-Identifier: Apache-2.0 */
#include "common/isolate.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "common/base.h"
#include "common/log.h"

#if defined(__x86_64__)
#define AUDIT_ARCH_NOW AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define AUDIT_ARCH_NOW AUDIT_ARCH_AARCH64
#else
#error "name the audit architecture of this machine in common/isolate.c"
#endif

/* Rationale: more than any role needs; the filter itself may have 4096 instructions. */
#define SYSCALLS_MAX 160

void isolate_start(int keep_up_to)
{
	struct rlimit none = { 0, 0 };

	if (syscall(SYS_close_range, (unsigned)keep_up_to + 1, ~0U, 0) < 0)
		for (int fd = keep_up_to + 1; fd < 1024; fd++)
			close(fd);
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		die("cannot forbid core files: %s; keys could be written to disk", errno_text(errno));
}

uid_t isolate_user_id(const char *name)
{
	struct passwd *pw;

	if (name[0] == '#')
		return (uid_t)strtoul(name + 1, NULL, 10);
	pw = getpwnam(name);
	if (!pw)
		die("the user %s does not exist; run `sudo ./scripts/quickstart --deps`, or name another in `users` of the configuration",
		    name);
	return pw->pw_uid;
}

gid_t isolate_group_id(const char *name)
{
	struct group *gr;

	if (name[0] == '#')
		return (gid_t)strtoul(name + 1, NULL, 10);
	gr = getgrnam(name);
	if (!gr)
		die("the group %s does not exist; run `sudo ./scripts/quickstart --deps`, or name another in `users` of the configuration",
		    name);
	return gr->gr_gid;
}

static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { 0 };

	for (int cap = 0; cap < 64; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) < 0)
		die("cannot drop capabilities: %s", errno_text(errno));
}

void isolate_user(uid_t uid, gid_t gid)
{
	if (geteuid() == 0) {
		for (int cap = 0; cap < 64; cap++)
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
		if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0)
			die("cannot become user %u, group %u: %s", uid, gid, errno_text(errno));
	}
	drop_capabilities();
	/* A change of user makes the process dumpable again as /proc/sys/fs/suid_dumpable says. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die("cannot forbid new privileges: %s", errno_text(errno));
}

/* SIGSYS: says which call is missing in the list; async-signal-safe. */
static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	char line[64] = "sallyport: system call not in the list: ";
	size_t n = strlen(line);
	unsigned nr = (unsigned)info->si_syscall;

	(void)sig;
	(void)context;
	for (unsigned div = 100; div; div /= 10)
		line[n++] = (char)('0' + nr / div % 10);
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		_exit(98);
	_exit(99);
}

static bool seccomp_traps(void)
{
#ifdef DEBUG
	return true;
#else
	const char *env = getenv("SALLYPORT_SECCOMP");

	return env && !strcmp(env, "trap");
#endif
}

void isolate_syscalls(const int *allowed, size_t n)
{
	struct sock_filter code[SYSCALLS_MAX + 8];
	struct sock_fprog prog = { .filter = code };
	unsigned i = 0;
	unsigned refuse = seccomp_traps() ? SECCOMP_RET_TRAP : SECCOMP_RET_KILL_PROCESS;

	if (n > SYSCALLS_MAX)
		die("the list of system calls is too long; raise SYSCALLS_MAX");
	code[i++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, arch));
	code[i++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_NOW, 1, 0);
	code[i++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[i++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						 offsetof(struct seccomp_data, nr));
	for (size_t k = 0; k < n; k++) {
		/* Jump to the last instruction; offsets fit, the list is below 256. */
		code[i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
						       (unsigned)allowed[k],
						       (unsigned char)(n - k), 0);
		i++;
	}
	code[i++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, refuse);
	code[i++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	prog.len = (unsigned short)i;
	if (refuse == SECCOMP_RET_TRAP) {
		struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };

		sigaction(SIGSYS, &sa, NULL);
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog) != 0)
		die("the kernel refused the seccomp filter: %s", errno_text(errno));
}
