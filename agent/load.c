/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/load.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "common/log.h"
#include "common/str.h"
/* Generated: drops a const. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcast-qual"
#include "bpf/gate.skel.h"
#pragma GCC diagnostic pop

#define BPFFS "/sys/fs/bpf"

struct attachment {
	const char *name; /* of the pin and of the program without sp_ */
	size_t program;	  /* offset in skel->progs */
	enum bpf_attach_type type;
};
#define PROGRAM(member) offsetof(struct gate_bpf, progs.member)

/* In this order: the first one makes the storage that the label is written to. */
static const struct attachment sandbox_links[] = {
	{ "egress", PROGRAM(sp_egress), BPF_CGROUP_INET_EGRESS },
	{ "create", PROGRAM(sp_create), BPF_CGROUP_INET_SOCK_CREATE },
	{ "sockops", PROGRAM(sp_sockops), BPF_CGROUP_SOCK_OPS },
	{ "connect4", PROGRAM(sp_connect4), BPF_CGROUP_INET4_CONNECT },
	{ "connect6", PROGRAM(sp_connect6), BPF_CGROUP_INET6_CONNECT },
	{ "recvmsg4", PROGRAM(sp_recvmsg4), BPF_CGROUP_UDP4_RECVMSG },
	{ "recvmsg6", PROGRAM(sp_recvmsg6), BPF_CGROUP_UDP6_RECVMSG },
	{ "sendmsg4", PROGRAM(sp_sendmsg4), BPF_CGROUP_UDP4_SENDMSG },
	{ "sendmsg6", PROGRAM(sp_sendmsg6), BPF_CGROUP_UDP6_SENDMSG },
	{ "getpeer4", PROGRAM(sp_getpeer4), BPF_CGROUP_INET4_GETPEERNAME },
	{ "getpeer6", PROGRAM(sp_getpeer6), BPF_CGROUP_INET6_GETPEERNAME },
};
static const struct attachment guard_links[] = {
	{ "out", PROGRAM(sp_guard_out), BPF_CGROUP_INET_EGRESS },
	{ "connect4", PROGRAM(sp_guard4), BPF_CGROUP_INET4_CONNECT },
	{ "connect6", PROGRAM(sp_guard6), BPF_CGROUP_INET6_CONNECT },
};
static const struct attachment gateway_links[] = {
	{ "getopt", PROGRAM(sp_gw_getopt), BPF_CGROUP_GETSOCKOPT },
	{ "in", PROGRAM(sp_gw_in), BPF_CGROUP_INET_INGRESS },
	{ "out", PROGRAM(sp_gw_out), BPF_CGROUP_INET_EGRESS },
	{ "sockops", PROGRAM(sp_gw_sockops), BPF_CGROUP_SOCK_OPS },
};

static int program_fd(const struct load *l, const struct attachment *a)
{
	return bpf_program__fd(*(struct bpf_program **)((char *)l->skel + a->program));
}

/* One level lower than libbpf means it: what matters is said by us, in a sentence. */
static int on_libbpf_print(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char line[512];
	int n;

	if (level == LIBBPF_DEBUG || !log_enabled(LOG_DEBUG))
		return 0;
	n = vsnprintf(line, sizeof(line), fmt, ap);
	while (n > 0 && (n >= (int)sizeof(line) || line[n - 1] == '\n'))
		line[n = MIN(n, (int)sizeof(line)) - 1] = '\0';
	log_debug("%s", line);
	return 0;
}

/* ---------------------------------------------------------------- the pin directory */

/* Those of links to cgroups first: what is attached goes before the maps it uses. */
static const char *const parts[] = { "guard", "sandbox", "gateway", "maps" };
#define PARTS_BY_CGROUP 2

static int make_dir(const char *path)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

/* Makes the directories of the pin path; those below the mount point only once it is a bpffs. */
static int pin_dir_prepare(struct load *l, char *why, size_t why_size)
{
	char path[LOAD_PATH_BYTES] = "";
	int err = 0;

	if (str_starts(str_of(l->pin_dir), STR(BPFFS "/")) && !is_bpffs(BPFFS)) {
		mkdir(BPFFS, 0700);
		if (mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
			err = -errno;
	}
	str_copy(path, sizeof(path), str_of(l->dir));
	for (char *p = path + 1; !err && *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		err = make_dir(path);
		*p = '/';
	}
	err = err ? err : make_dir(path);
	if (!err && !is_bpffs(l->dir)) {
		rmdir(l->dir);
		err = -EINVAL;
	}
	for (unsigned i = 0; !err && i < ARRAY_SIZE(parts); i++) {
		snprintf(path, sizeof(path), "%s/%s", l->dir, parts[i]);
		err = make_dir(path);
	}
	if (err)
		snprintf(why, why_size,
			 "cannot pin programs under %s (%s): mount -t bpf bpf " BPFFS
			 ", or set pin_dir to a directory on a bpf file system",
			 l->pin_dir, errno_text(err));
	return err;
}

/* Two daemons on the same maps would take each other's connections for unstamped. */
static int pin_dir_lock(struct load *l, char *why, size_t why_size)
{
	int fd = open(l->pin_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		int err = -errno;

		snprintf(why, why_size, "cannot open %s (%s): set pin_dir to a directory on a bpf file system", l->pin_dir,
			 errno_text(err));
		return err;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		snprintf(why, why_size,
			 "another daemon uses %s as its pin_dir: stop it, or give this one its own run_dir, state_dir, pin_dir and "
			 "cgroup.parent",
			 l->pin_dir);
		return -EBUSY;
	}
	l->lock_fd = fd;
	return 0;
}

typedef void (*entry_fn)(struct load *l, const char *path, const char *name, void *arg);

static void each_entry(struct load *l, const char *path, entry_fn fn, void *arg)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	if (!dir)
		return;
	while ((e = readdir(dir))) {
		char below[LOAD_PATH_BYTES];

		if (e->d_name[0] != '.' &&
		    snprintf(below, sizeof(below), "%s/%s", path, e->d_name) < (int)sizeof(below))
			fn(l, below, e->d_name, arg);
	}
	closedir(dir);
}

static void remove_pin(struct load *l, const char *path, const char *name, void *arg)
{
	(void)l;
	(void)name;
	(void)arg;
	unlink(path);
}

/*
 * Unpinning the last reference detaches too, but some time later; what comes next here relies on the
 * program being off.
 */
static void remove_link(struct load *l, const char *path, const char *name, void *arg)
{
	auto_close int fd = bpf_obj_get(path);

	if (fd >= 0)
		bpf_link_detach(fd);
	remove_pin(l, path, name, arg);
}

static void remove_dir_of_pins(struct load *l, const char *path, const char *name, void *arg)
{
	(void)name;
	each_entry(l, path, remove_link, arg);
	rmdir(path);
}

static void remove_version(struct load *l, const char *path, const char *name, void *arg)
{
	const bool *others_only = arg;
	char below[LOAD_PATH_BYTES + 16];

	if (name[0] != 'v' || (*others_only && !strcmp(path, l->dir)))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		snprintf(below, sizeof(below), "%s/%s", path, parts[i]);
		each_entry(l, below,
			   i < PARTS_BY_CGROUP		? remove_dir_of_pins :
			   i == ARRAY_SIZE(parts) - 1	? remove_pin :
							  remove_link,
			   NULL);
		rmdir(below);
	}
	rmdir(path);
}

void load_clean(struct load *l, bool others_only)
{
	each_entry(l, l->pin_dir, remove_version, &others_only);
	if (!others_only)
		rmdir(l->pin_dir);
}

/* ---------------------------------------------------------------- load */

static int set_pin_paths(struct load *l)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, l->skel->obj)
	{
		char path[LOAD_PATH_BYTES];
		int err;

		/* libbpf's own maps (rodata, bss) belong to one load. */
		if (strncmp(bpf_map__name(map), "sp_", 3))
			continue;
		snprintf(path, sizeof(path), "%s/maps/%s", l->dir, bpf_map__name(map));
		err = bpf_map__set_pin_path(map, path);
		if (err)
			return err;
	}
	return 0;
}

static int load_once(struct load *l)
{
	int err;

	l->skel = gate_bpf__open();
	if (!l->skel)
		return -errno;
	err = set_pin_paths(l);
	err = err ? err : gate_bpf__load(l->skel);
	if (err) {
		gate_bpf__destroy(l->skel);
		l->skel = NULL;
	}
	return err;
}

static void say_why(int err, char *why, size_t size)
{
	if (err == -EPERM)
		snprintf(
			why, size,
			"the kernel refused to load BPF programs: run the daemon as root with CAP_BPF, "
			"CAP_NET_ADMIN and CAP_SYS_ADMIN (docker run --privileged)");
	else
		snprintf(why, size,
			 "the kernel cannot load the BPF programs (%s): Linux 6.1 or newer with "
			 "CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL is needed",
			 errno_text(err));
}

int load_open(struct load *l, const char *pin_dir, char *why, size_t why_size)
{
	int err;

	*l = (struct load){ 0 };
	libbpf_set_print(on_libbpf_print);
	if (!str_copy(l->pin_dir, sizeof(l->pin_dir), str_of(pin_dir))) {
		snprintf(why, why_size, "pin_dir is too long: use a shorter path");
		return -ENAMETOOLONG;
	}
	snprintf(l->dir, sizeof(l->dir), "%s/v%d", l->pin_dir, GATE_ABI);
	err = pin_dir_prepare(l, why, why_size);
	err = err ? err : pin_dir_lock(l, why, why_size);
	if (err)
		return err;
	err = load_once(l);
	if (err == -EINVAL) {
		bool all = false;

		/* Most likely maps of another build under the same version: start afresh, labels
		 * are in the state file. */
		log_warn("pinned maps do not fit this build and are replaced path=%s error=%s",
			 l->dir, errno_text(err));
		remove_version(l, l->dir, "v", &all);
		err = pin_dir_prepare(l, why, why_size);
		err = err ? err : load_once(l);
	}
	if (err) {
		load_close(l);
		say_why(err, why, why_size);
		return err;
	}
	l->label_fd = bpf_map__fd(l->skel->maps.sp_label);
	l->handoff_fd = bpf_map__fd(l->skel->maps.sp_handoff);
	l->doors_fd = bpf_map__fd(l->skel->maps.sp_doors);
	l->budget_fd = bpf_map__fd(l->skel->maps.sp_budget);
	l->reasons_fd = bpf_map__fd(l->skel->maps.sp_reasons);
	l->config_fd = bpf_map__fd(l->skel->maps.sp_config);
	l->netns_fd = bpf_map__fd(l->skel->maps.sp_netns);
	l->vip_fd = bpf_map__fd(l->skel->maps.sp_vip);
	l->suspect_fd = bpf_map__fd(l->skel->maps.sp_suspect);
	l->events_fd = bpf_map__fd(l->skel->maps.sp_events);
	return 0;
}

void load_close(struct load *l)
{
	if (l->skel)
		gate_bpf__destroy(l->skel);
	l->skel = NULL;
	if (l->lock_fd > 0)
		close(l->lock_fd);
	l->lock_fd = 0;
}

/* ---------------------------------------------------------------- attach, adopt, update */

/* The link pinned at `path` if it still belongs to the cgroup; a defunct one is removed. */
static int link_adopt(const char *path, uint64_t cgroup_id, int prog_fd)
{
	auto_close int fd = bpf_obj_get(path);
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);

	if (fd < 0)
		return -ENOENT;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.type == BPF_LINK_TYPE_CGROUP &&
	    info.cgroup.cgroup_id == cgroup_id && bpf_link_update(fd, prog_fd, NULL) == 0)
		return 0;
	unlink(path);
	return -ENOENT;
}

static int link_attach(const char *path, int cgroup_fd, uint64_t cgroup_id, int prog_fd,
		       enum bpf_attach_type type)
{
	auto_close int fd = -1;

	if (link_adopt(path, cgroup_id, prog_fd) == 0)
		return 0;
	fd = bpf_link_create(prog_fd, cgroup_fd, type, NULL);
	if (fd < 0)
		return -errno;
	return bpf_obj_pin(fd, path) < 0 ? -errno : 0;
}

static int links_attach(struct load *l, const char *dir, const struct attachment *links,
			unsigned from, unsigned to, int cgroup_fd, uint64_t cgroup_id)
{
	int err = make_dir(dir);

	for (unsigned i = from; !err && i < to; i++) {
		char path[LOAD_PATH_BYTES + 32];

		snprintf(path, sizeof(path), "%s/%s", dir, links[i].name);
		err = link_attach(path, cgroup_fd, cgroup_id, program_fd(l, &links[i]),
				  links[i].type);
		if (err)
			log_warn("cannot attach a program path=%s error=%s", path, errno_text(err));
	}
	return err;
}

int load_gateway(struct load *l, int cgroup_fd, uint64_t cgroup_id)
{
	char dir[LOAD_PATH_BYTES];

	snprintf(dir, sizeof(dir), "%s/gateway", l->dir);
	return links_attach(l, dir, gateway_links, 0, ARRAY_SIZE(gateway_links), cgroup_fd,
			    cgroup_id);
}

static void cgroup_dir(const struct load *l, const char *part, uint64_t cgroup_id, char *ret, size_t size)
{
	snprintf(ret, size, "%s/%s/%016" PRIx64, l->dir, part, cgroup_id);
}

/* A cgroup can be a sandbox and a guarded parent: the counter goes with the last of both. */
static void release(struct load *l, const char *part, uint64_t cgroup_id)
{
	char dir[LOAD_PATH_BYTES];
	bool is_used = false;

	cgroup_dir(l, part, cgroup_id, dir, sizeof(dir));
	remove_dir_of_pins(l, dir, "", NULL);
	for (unsigned i = 0; i < PARTS_BY_CGROUP; i++) {
		cgroup_dir(l, parts[i], cgroup_id, dir, sizeof(dir));
		is_used |= access(dir, F_OK) == 0;
	}
	if (!is_used)
		bpf_map_delete_elem(l->budget_fd, &cgroup_id);
}

/* Budget, the first program (which makes the storage of the label), the label, then the others, which read it. */
static int attach_labelled(struct load *l, const char *part, const struct attachment *links, unsigned n,
			   int cgroup_fd, const struct gate_label *label)
{
	struct gate_budget budget = { 0 };
	char dir[LOAD_PATH_BYTES];
	int err;

	cgroup_dir(l, part, label->cgroup_id, dir, sizeof(dir));
	/* One that is there stays: entries of its connects may be under way. */
	if (bpf_map_update_elem(l->budget_fd, &label->cgroup_id, &budget, BPF_NOEXIST) < 0 &&
	    errno != EEXIST)
		return errno == E2BIG ? -ENOSPC : -errno;
	err = links_attach(l, dir, links, 0, 1, cgroup_fd, label->cgroup_id);
	if (!err && bpf_map_update_elem(l->label_fd, &label->cgroup_id, label, BPF_ANY) < 0)
		err = -errno;
	if (!err)
		err = links_attach(l, dir, links, 1, n, cgroup_fd, label->cgroup_id);
	if (err)
		release(l, part, label->cgroup_id);
	return err;
}

int load_sandbox(struct load *l, int cgroup_fd, const struct gate_label *label)
{
	return attach_labelled(l, "sandbox", sandbox_links, ARRAY_SIZE(sandbox_links), cgroup_fd, label);
}

void load_release(struct load *l, uint64_t cgroup_id)
{
	release(l, "sandbox", cgroup_id);
}

int load_guard(struct load *l, int cgroup_fd, const struct gate_label *label)
{
	return attach_labelled(l, "guard", guard_links, ARRAY_SIZE(guard_links), cgroup_fd, label);
}

void load_guard_release(struct load *l, uint64_t cgroup_id)
{
	release(l, "guard", cgroup_id);
}

struct pin_walk {
	load_pin_fn fn;
	void *arg;
};

static void pin_seen(struct load *l, const char *path, const char *name, void *arg)
{
	struct pin_walk *w = arg;
	char *end;
	uint64_t id = strtoull(name, &end, 16);

	(void)l;
	(void)path;
	if (!*end && id)
		w->fn(w->arg, id);
}

static void each_pinned(struct load *l, const char *part, load_pin_fn fn, void *arg)
{
	struct pin_walk w = { fn, arg };
	char dir[LOAD_PATH_BYTES];

	snprintf(dir, sizeof(dir), "%s/%s", l->dir, part);
	each_entry(l, dir, pin_seen, &w);
}

void load_each_pinned(struct load *l, load_pin_fn fn, void *arg)
{
	each_pinned(l, "sandbox", fn, arg);
}

void load_each_guard(struct load *l, load_pin_fn fn, void *arg)
{
	each_pinned(l, "guard", fn, arg);
}
