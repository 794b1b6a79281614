/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `sallyport role ca`: started by the agent when the CA may have to change, with its channel as descriptor 3. It is told
 * the directory and the domains, makes or keeps the CA, answers with descriptors, and ends. It serves nobody and reads
 * nothing of strangers; it is a process of its own so that neither the agent nor the workers can write the key.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>

#include "common/ipc.h"
#include "common/isolate.h"
#include "common/log.h"
#include "common/msg.h"
#include "common/role.h"
#include "gateway/ca.h"
#include "gateway/cert.h"
#include "gateway/rules.h"
#include "policy/config.h"

#define SEND_TIMEOUT_MS 2000

static struct str domains[CERT_NAMES_MAX];
static unsigned n_domains;

static const int allowed_syscalls[] = {
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_close, SYS_recvmsg, SYS_sendmsg, SYS_poll, SYS_ppoll,
	SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_mlock, SYS_brk, SYS_futex, SYS_clock_gettime,
	SYS_gettimeofday, SYS_getrandom, SYS_getpid, SYS_gettid, SYS_openat, SYS_newfstatat, SYS_fstat, SYS_statx, SYS_lseek,
	SYS_unlinkat, SYS_renameat, SYS_renameat2, SYS_fsync, SYS_fcntl, SYS_memfd_create, SYS_uname, SYS_sysinfo,
	SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_restart_syscall, SYS_exit, SYS_exit_group, SYS_rseq,
	SYS_tgkill, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid,
#ifdef SYS_rename
	SYS_rename,
#endif
};

static void be_nobody_else(int config_fd)
{
	static struct policy_diags diags;
	struct config *config;
	auto_free char *text = NULL;
	enum log_level level = LOG_INFO;
	size_t n = 0;
	uid_t uid;
	gid_t gid;

	if (read_whole(config_fd, CONFIG_TEXT_MAX, &text, &n) < 0 || config_parse((struct str){ text, n }, &config, &diags) < 0)
		die("the configuration that the agent sent is not valid");
	log_level_parse(config->log_level.s, &level);
	log_init("ca", level);
	uid = isolate_user_id(config->users.gateway.s);
	gid = isolate_group_id(config->users.group.s);
	isolate_user(uid, gid);
	config_free(config);
}

/* ------------------------------------------------------------------ what the agent tells */

struct told {
	bool all;
	int err;
};

static void on_domain(void *arg, struct ipc_message *m)
{
	const struct msg_name *name = (const void *)m->payload;
	struct told *told = arg;
	char *copy = n_domains < CERT_NAMES_MAX ? strndup(name->name, sizeof(name->name)) : NULL;

	if (copy)
		domains[n_domains++] = str_of(copy);
	else
		told->err = -E2BIG;
}

static void on_stop(void *arg, struct ipc_message *m)
{
	(void)m;
	((struct told *)arg)->all = true;
}

static const struct ipc_rule agent_rules[] = {
	{ MSG_DNS_PATTERN, sizeof(struct msg_name), 0, 0, on_domain },
	{ MSG_STOP, 0, 0, 0, on_stop }, /* all is told */
};

static int take_domains(void)
{
	struct pollfd p = { .fd = ROLE_CHANNEL_FD, .events = POLLIN };
	struct told told = { .all = false };
	struct ipc_message m;

	while (!told.all) {
		int n = ipc_recv(ROLE_CHANNEL_FD, &m);

		if (n == -EAGAIN || n == -EINTR) {
			poll(&p, 1, -1); /* the agent ends us when it takes too long */
			continue;
		}
		if (n != 1 || ipc_dispatch(agent_rules, ARRAY_SIZE(agent_rules), &told, &m) < 0)
			return -EBADMSG;
		ipc_message_fini(&m);
	}
	return told.err;
}

/* ------------------------------------------------------------------ the answer */

static void answer_error(int err)
{
	struct msg_result result = { .err = err };

	if (err == -E2BIG)
		snprintf(result.text, sizeof(result.text), "providers of the policy have more than %d domains; use patterns",
			 CERT_NAMES_MAX);
	else if (err == -EINVAL)
		snprintf(result.text, sizeof(result.text), "no provider of the policy has domains");
	else
		snprintf(result.text, sizeof(result.text), "the files of the CA cannot be used: %s; look at ca/ below state_dir",
			 errno_text(err));
	ipc_send_wait(ROLE_CHANNEL_FD, MSG_RESULT, 0, &result, sizeof(result), NULL, 0, SEND_TIMEOUT_MS);
}

static int answer(const struct ca *ca)
{
	int fds[] = { ca_served(ca), ca_key(ca), ca_trusted(ca), ca_described(ca) };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] < 0)
			return fds[i];
	return ipc_send_wait(ROLE_CHANNEL_FD, MSG_CA, 0, NULL, 0, fds, ARRAY_SIZE(fds), SEND_TIMEOUT_MS);
}

int ca_main(int argc, char **argv)
{
	struct ipc_message setup, config;
	struct utsname host;
	struct ca *ca = NULL;
	bool rotate;
	int err;

	(void)argc;
	(void)argv;
	log_init("ca", LOG_INFO);
	prctl(PR_SET_NAME, "sallyport-ca");
	isolate_start(ROLE_CHANNEL_FD);
	if (ipc_expect(ROLE_CHANNEL_FD, MSG_CONFIG, 0, 1, &config) < 0 ||
	    ipc_expect(ROLE_CHANNEL_FD, MSG_CA_SETUP, sizeof(struct msg_ca_setup), 1, &setup) < 0)
		die("the agent's set-up did not come; this program is started by `sallyport daemon` only");
	be_nobody_else(config.fds[0]);
	ipc_message_fini(&config);
	rotate = ((const struct msg_ca_setup *)(const void *)setup.payload)->rotate;
	umask(0022);
	CRYPTO_secure_malloc_init(65536, 32);
	if (uname(&host) < 0)
		str_copy(host.nodename, sizeof(host.nodename), STR("host"));
	isolate_syscalls(allowed_syscalls, ARRAY_SIZE(allowed_syscalls));
	err = take_domains();
	if (!err)
		err = ca_open(setup.fds[0], str_of(host.nodename), domains, n_domains, rotate, time(NULL), &ca);
	if (!err && ca_is_new(ca))
		log_info("a new CA was made names=%u", n_domains);
	if (!err)
		err = answer(ca);
	if (err)
		answer_error(err);
	ca_free(ca);
	return err ? 1 : 0;
}
