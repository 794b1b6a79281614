/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS role: started by the agent as `sallyport role dns`, with the channel to it as descriptor 3. It reads its
 * configuration as root, gives everything up, and answers at the sockets that it is handed. It holds nothing secret,
 * and ends with its channel: the next agent opens the ports anew.
 */
#include "agent/dns.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/ipc.h"
#include "common/isolate.h"
#include "common/log.h"
#include "common/role.h"

/* Messages of one event before the clients get their turn. */
#define MESSAGE_BATCH 256

/* ------------------------------------------------------------------ servers */

bool dns_server_asked(struct dns *d, int fd, int option, struct dns_server *ret)
{
	struct stamp s;
	struct in6_addr v6;

	if (!d->stamp_of(fd, option, &s) || s.version != STAMP_VERSION || s.why != STAMP_DNS ||
	    s.peer == STAMP_PEER_DIFFERS || (s.family != AF_INET && s.family != AF_INET6)) {
		d->n_unstamped++;
		log_limited(LOG_WARN, "a query without a stamp is not answered count=%llu",
			    (unsigned long long)d->n_unstamped);
		return false;
	}
	*ret = (struct dns_server){ (int)s.family, (uint16_t)s.orig_port, { 0 }, s.cgroup_id };
	memcpy(ret->addr, s.orig_addr, sizeof(ret->addr));
	memcpy(&v6, s.orig_addr, sizeof(v6));
	if (s.family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6)) {
		ret->family = AF_INET;
		memcpy(ret->addr, s.orig_addr + 12, 4);
	}
	return true;
}

socklen_t dns_sockaddr(const struct dns_server *server, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (void *)ret;
	struct sockaddr_in6 *v6 = (void *)ret;

	*ret = (struct sockaddr_storage){ .ss_family = (sa_family_t)server->family };
	if (server->family == AF_INET) {
		v4->sin_port = htons(server->port);
		memcpy(&v4->sin_addr, server->addr, 4);
		return sizeof(*v4);
	}
	v6->sin6_port = htons(server->port);
	memcpy(&v6->sin6_addr, server->addr, 16);
	return sizeof(*v6);
}

/* ------------------------------------------------------------------ doors */

struct dns_side *dns_door_side(struct dns_door *door, int family)
{
	struct dns_side *side = &door->sides[family == AF_INET6];

	return side->ask >= 0 ? side : NULL;
}

static void side_close(struct dns_side *side)
{
	struct loop *l = &side->door->dns->loop;

	loop_unwatch(l, &side->udp_watch);
	loop_unwatch(l, &side->tcp_watch);
	loop_unwatch(l, &side->ask_watch);
	if (side->udp >= 0)
		close(side->udp);
	if (side->tcp >= 0)
		close(side->tcp);
	if (side->ask >= 0)
		close(side->ask);
	side->udp = side->tcp = side->ask = -1;
}

static void door_free(struct dns_door *door)
{
	struct dns *d = door->dns;

	LIST_REMOVE(door, entry);
	d->n_doors--;
	if (d->host == door)
		d->host = NULL; /* before its asks fail: they would be asked from here again */
	while (!LIST_EMPTY(&door->queries))
		dns_query_free(LIST_FIRST(&door->queries));
	while (!LIST_EMPTY(&door->conns))
		dns_conn_free(LIST_FIRST(&door->conns));
	for (unsigned i = 0; i < ARRAY_SIZE(door->sides); i++) {
		dns_asks_fail(&door->sides[i]);
		side_close(&door->sides[i]);
	}
	loop_untimer(&d->loop, &door->accept_timer);
	free(door);
}

/* Takes the three descriptors. 0 or negative errno. */
static int side_open(struct dns_side *side, int family, int fds[3])
{
	struct loop *l = &side->door->dns->loop;
	int one = 1, err;

	side->family = family;
	side->udp = TAKE_FD(fds[0]);
	side->tcp = TAKE_FD(fds[1]);
	side->ask = TAKE_FD(fds[2]);
	if (setsockopt(side->ask, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
		       family == AF_INET ? IP_RECVERR : IPV6_RECVERR, &one, sizeof(one)) < 0)
		log_debug("errors of the network are not told, queries end by their timeout error=%s", errno_text(errno));
	err = loop_watch(l, &side->udp_watch, side->udp, EPOLLIN, dns_udp_on_event, side);
	err = err ? err : loop_watch(l, &side->tcp_watch, side->tcp, EPOLLIN, dns_tcp_on_event, side);
	return err ? err : loop_watch(l, &side->ask_watch, side->ask, EPOLLIN, dns_ask_on_event, side);
}

static struct dns_door *door_new(struct dns *d, const struct msg_dns_door *info)
{
	struct dns_door *door = d->n_doors < DNS_DOORS_MAX ? calloc(1, sizeof(*door)) : NULL;

	if (!door)
		return NULL;
	door->dns = d;
	door->info = *info;
	for (unsigned i = 0; i < ARRAY_SIZE(door->sides); i++)
		door->sides[i] = (struct dns_side){ .door = door, .udp = -1, .tcp = -1, .ask = -1 };
	LIST_INSERT_HEAD(&d->doors, door, entry);
	d->n_doors++;
	return door;
}

struct dns_door *dns_door_find(const struct dns *d, uint64_t netns_cookie)
{
	struct dns_door *door = LIST_FIRST(&d->doors);

	while (door && door->info.netns_cookie != netns_cookie)
		door = LIST_NEXT(door, entry);
	return door;
}

/* ------------------------------------------------------------------ messages of the agent */

static void on_msg_door(void *arg, struct ipc_message *m)
{
	struct dns *d = arg;
	const struct msg_dns_door *msg = (const void *)m->payload;
	struct dns_door *door = dns_door_find(d, msg->netns_cookie);
	int err;

	if (door)
		door_free(door);
	door = m->n_fds % 3 ? NULL : door_new(d, msg);
	err = door ? side_open(&door->sides[0], AF_INET, m->fds) : m->n_fds % 3 ? -EBADMSG : -ENOBUFS;
	if (!err && m->n_fds == 6) {
		door->has_v6 = true;
		err = side_open(&door->sides[1], AF_INET6, m->fds + 3);
	}
	if (err) {
		log_err("names of a namespace cannot be answered, its port 53 is refused error=%s", errno_text(err));
		if (door)
			door_free(door);
		return;
	}
	if (msg->is_host) {
		d->host = door;
		dns_resolve_pump(d);
	}
}

static void on_msg_door_close(void *arg, struct ipc_message *m)
{
	const struct msg_dns_door *msg = (const void *)m->payload;
	struct dns_door *door = dns_door_find(arg, msg->netns_cookie);

	if (door)
		door_free(door);
}

static void on_msg_name(void *arg, struct ipc_message *m)
{
	struct dns *d = arg;
	struct msg_name *msg = (void *)m->payload;
	struct dns_name *name = NULL;
	int err = 0;

	msg->name[sizeof(msg->name) - 1] = '\0';
	if (msg->active) {
		err = dns_names_set(&d->names, msg, &name);
	} else {
		name = dns_names_find(&d->names, str_of(msg->name));
		if (name) {
			dns_resolve_forget(d, name);
			dns_names_remove(&d->names, TAKE_PTR(name));
		}
	}
	if (err)
		log_err("a provider's name cannot be taken over name=%s error=%s", log_quote(str_of(msg->name)),
			errno_text(err));
	if (name)
		dns_resolve_name(d, name);
	dns_want_settle(d, str_of(msg->name), name);
}

static void on_msg_pattern(void *arg, struct ipc_message *m)
{
	struct dns *d = arg;
	const struct msg_name *msg = (const void *)m->payload;
	int err = dns_names_set_pattern(&d->names, msg);

	if (err)
		log_err("a provider's wildcard cannot be taken over error=%s", errno_text(err));
}

static void on_msg_socket(void *arg, struct ipc_message *m)
{
	int none = -1;

	dns_tcp_on_socket(arg, (const void *)m->payload, m->n_fds ? &m->fds[0] : &none);
}

static void on_msg_stop(void *arg, struct ipc_message *m)
{
	struct dns *d = arg;

	(void)m;
	d->loop.stop = true;
}

static const struct ipc_rule agent_rules[] = {
	{ MSG_DNS_DOOR, sizeof(struct msg_dns_door), 3, 6, on_msg_door },
	{ MSG_DNS_DOOR_CLOSE, sizeof(struct msg_dns_door), 0, 0, on_msg_door_close },
	{ MSG_NAME, sizeof(struct msg_name), 0, 0, on_msg_name },
	{ MSG_DNS_PATTERN, sizeof(struct msg_name), 0, 0, on_msg_pattern },
	{ MSG_SOCKET, sizeof(struct msg_socket), 0, 1, on_msg_socket },
	{ MSG_STOP, 0, 0, 0, on_msg_stop },
};

static void on_channel(void *arg, uint32_t events)
{
	struct dns *d = arg;
	struct ipc_message m;
	int n = 1;

	(void)events;
	for (unsigned i = 0; i < MESSAGE_BATCH && (n = ipc_recv(d->channel, &m)) > 0; i++) {
		if (ipc_dispatch(agent_rules, ARRAY_SIZE(agent_rules), d, &m) < 0)
			log_err("the agent sent a message that does not fit type=%u len=%u; are both of one version?",
				m.head.type, m.head.len);
		ipc_message_fini(&m);
	}
	if (n == 0)
		d->loop.stop = true;
}

/* ------------------------------------------------------------------ start */

static bool stamp_get(int fd, int option, struct stamp *ret)
{
	socklen_t len = sizeof(*ret);

	return getsockopt(fd, STAMP_SOL, option, ret, &len) == 0 && len == sizeof(*ret);
}

int dns_init(struct dns *d, int channel, const struct config *config)
{
	uint64_t seed;
	int err;

	*d = (struct dns){
		.channel = channel,
		.config = config,
		.stamp_of = stamp_get,
		.resolv_conf = "/etc/resolv.conf",
		.resolver_port = DNS_PORT,
		/* As long as the C library waits for a server by default (resolv.conf(5)). */
		.query_timeout_ns = 5 * NSEC_PER_SEC,
		.connect_timeout_ns = 5 * NSEC_PER_SEC,
		.lookup_timeout_ns = 2 * NSEC_PER_SEC,
		.want_timeout_ns = 1 * NSEC_PER_SEC,
		/* RFC 7766, 6.2.3: some seconds. */
		.conn_idle_ns = 15 * NSEC_PER_SEC,
	};
	TAILQ_INIT(&d->due);
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return -EIO;
	err = loop_init(&d->loop);
	err = err ? err : dns_names_init(&d->names, seed);
	err = err ? err : dns_asks_init(d);
	err = err ? err : loop_watch(&d->loop, &d->channel_watch, channel, EPOLLIN, on_channel, d);
	if (err)
		dns_fini(d);
	return err;
}

void dns_fini(struct dns *d)
{
	while (!LIST_EMPTY(&d->doors))
		door_free(LIST_FIRST(&d->doors));
	dns_wants_fini(d);
	dns_names_fini(&d->names);
	dns_asks_fini(d);
	loop_fini(&d->loop);
}

/* The loop, sockets that are there, and /etc/resolv.conf: no new sockets, no programs, no writing of files. */
static const int allowed_syscalls[] = {
	SYS_read, SYS_write, SYS_close, SYS_recvmsg, SYS_sendmsg, SYS_recvfrom, SYS_sendto, SYS_connect, SYS_accept4,
	SYS_getsockopt, SYS_setsockopt, SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_ctl, SYS_poll, SYS_ppoll, SYS_openat,
	SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk, SYS_futex, SYS_clock_gettime, SYS_gettimeofday,
	SYS_getrandom, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_restart_syscall,
	SYS_exit, SYS_exit_group,
};

/* Six descriptors for each door. */
static void raise_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static struct config *read_config(int fd)
{
	static struct policy_diags diags;
	auto_free char *text = malloc(CONFIG_TEXT_MAX);
	struct config *config = NULL;
	size_t n = 0;
	ssize_t got = text ? 1 : -1;

	while (got > 0 && n < CONFIG_TEXT_MAX) {
		got = read(fd, text + n, CONFIG_TEXT_MAX - n);
		n += got > 0 ? (size_t)got : 0;
	}
	if (got < 0 || config_parse((struct str){ text, n }, &config, &diags) < 0)
		die("the configuration that the agent sent is not valid");
	return config;
}

int dns_main(int argc, char **argv)
{
	static struct dns dns;
	struct ipc_message first;
	struct config *config;
	enum log_level level = LOG_INFO;
	uid_t uid;
	gid_t gid;

	(void)argc;
	(void)argv;
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "sallyport-dns");
	isolate_start(ROLE_CHANNEL_FD);
	if (ipc_expect(ROLE_CHANNEL_FD, MSG_CONFIG, 0, 2, &first) < 0)
		die("the agent's set-up did not come; this program is started by `sallyport daemon` only");
	config = read_config(first.fds[0]);
	/* The doors' lock stays open until this process ends: that is what it is for. */
	first.fds[1] = -1;
	ipc_message_fini(&first);
	log_level_parse(config->log_level.s, &level);
	log_init("dns", level);
	uid = isolate_user_id(config->users.dns.s);
	gid = isolate_group_id(config->users.group.s);
	raise_files();
	isolate_user(uid, gid);
	umask(0777);
	if (dns_init(&dns, ROLE_CHANNEL_FD, config))
		die("the DNS role cannot be set up: out of memory or descriptors");
	isolate_syscalls(allowed_syscalls, ARRAY_SIZE(allowed_syscalls));
	ipc_send_wait(dns.channel, MSG_READY, 0, NULL, 0, NULL, 0, 1000);
	loop_run(&dns.loop);
	return 0;
}
