/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/privilege.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "common/base.h"
#include "common/log.h"

#ifndef CAP_BPF
#define CAP_BPF 39
#endif

/* Rationale: two descriptors for each door and three for each sandbox. */
#define FILES_WANTED 65536

struct capability_reason {
	unsigned cap;
	const char *name, *what; /* what: it cannot run without; NULL: it can */
};

static const struct capability_reason kept[] = {
	{ CAP_BPF, "CAP_BPF", "load BPF programs" },
	{ CAP_NET_ADMIN, "CAP_NET_ADMIN", "attach them to cgroups, bring lo up" },
	{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "enter network namespaces, mount bpffs" },
	{ CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "see the namespaces of other users' processes" },
	{ CAP_SETUID, "CAP_SETUID", "let the roles give up root" },
	{ CAP_SETGID, "CAP_SETGID", "let the roles give up root" },
	{ CAP_SETPCAP, "CAP_SETPCAP", "let the roles give up root" },
	{ CAP_CHOWN, "CAP_CHOWN", "give the roles their directories" },
	{ CAP_FOWNER, "CAP_FOWNER", "give the roles their directories" },
	{ CAP_FSETID, "CAP_FSETID", NULL },
	{ CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE", "write cgroup files and open key files" },
	{ CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH", NULL }, /* cgroup ids by handle */
	{ CAP_KILL, "CAP_KILL", "end roles that do not end" },
	{ CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE", NULL }, /* a door.port below 1024 */
	{ CAP_IPC_LOCK, "CAP_IPC_LOCK", NULL }, /* the gateway keeps keys out of swap */
};

static uint64_t effective(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &head, data) < 0)
		return 0;
	return (uint64_t)data[1].effective << 32 | data[0].effective;
}

void privilege_require(void)
{
	uint64_t have = effective();

	if (geteuid() != 0)
		die("the daemon must be started as root: sudo sallyport daemon, or systemctl start sallyport");
	for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
		if (kept[i].what && !(have >> kept[i].cap & 1))
			die("%s is missing, which is needed to %s: give it to the service (CapabilityBoundingSet=, "
			    "docker run --privileged)",
			    kept[i].name, kept[i].what);
}

void privilege_drop(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { 0 };
	struct rlimit files;
	uint64_t keep = 0;

	/* Before CAP_SYS_RESOURCE goes; without it the limit stays where it is. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < FILES_WANTED) {
		struct rlimit more = { FILES_WANTED, files.rlim_max };

		more.rlim_max = MAX(more.rlim_max, (rlim_t)FILES_WANTED);

		if (setrlimit(RLIMIT_NOFILE, &more) < 0) {
			files.rlim_cur = files.rlim_max;
			setrlimit(RLIMIT_NOFILE, &files);
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(kept); i++)
		keep |= 1ULL << kept[i].cap;
	keep &= effective();
	/* The bounding set too: an exec as root would bring everything back. */
	for (unsigned cap = 0; cap < 64; cap++)
		if (!(keep >> cap & 1))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	data[0].effective = data[0].permitted = (uint32_t)keep;
	data[1].effective = data[1].permitted = (uint32_t)(keep >> 32);
	if (syscall(SYS_capset, &head, data) < 0)
		die("cannot drop capabilities: %s", errno_text(errno));
}
