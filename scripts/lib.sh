# SPDX-License-Identifier: Apache-2.0
# Shell functions shared by scripts/quickstart, scripts/test and tests/e2e: what is installed, what is mounted,
# and instances of the daemon that touch nothing of one that runs already. For bash; sourced, never run.
#
# An instance has a directory of its own (configuration, policy, run, state, logs), a cgroup /NAME, pins in a
# directory of the BPF file system, a port. instance_init makes names, instance_start starts, instance_clean takes
# everything off again; it belongs into a trap.

LIB_TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
O=${O:-$LIB_TREE/build/${FLAVOR:-release}}
SALLYPORT=$O/sallyport
TESTS=$O/tests

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# wait_for TENTHS COMMAND…: until the command succeeds; fails when it does not in that many tenths of a second.
wait_for() {
	local n=$1 i
	shift
	for ((i = 0; i < n; i++)); do
		"$@" > /dev/null 2>&1 && return 0
		sleep 0.1
	done
	"$@" > /dev/null 2>&1
}

# ---------------------------------------------------------------- packages and users

# The packages that the build needs; bpftool has different names.
build_packages() {
	echo gcc libc6-dev make pkg-config clang libbpf-dev libelf-dev zlib1g-dev libcjson-dev libcurl4-openssl-dev libnghttp2-dev \
		libssl-dev libsqlite3-dev libzstd-dev libbrotli-dev iproute2 ca-certificates
}

package_installed() {
	case $(dpkg-query -W -f '${db:Status-Status} ' "$1" 2> /dev/null) in *installed\ *) return 0 ;; esac
	return 1
}

package_exists() { apt-cache policy "$1" 2> /dev/null | grep -q 'Candidate: [0-9]'; }

# `apt-get update` has no option to wait for its lock; somebody else's unattended upgrade may hold it.
apt_update() {
	local i out
	for ((i = 0; i < 60; i++)); do
		out=$(apt-get update -q 2>&1) && return 0
		case $out in *"lock"*) say "  waiting for another apt to end …"; sleep 5 ;; *) break ;; esac
	done
	printf '%s\n' "$out" >&2
	die "apt-get update failed: see above; is the network up?"
}

apt_lists_fresh() { [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime -2 -print -quit 2> /dev/null)" ]; }

# install_packages NAME…: those that are missing, with progress, never with a question.
install_packages() {
	local p missing=()
	for p in "$@"; do package_installed "$p" || missing+=("$p"); done
	[ ${#missing[@]} = 0 ] && return 0
	command -v apt-get > /dev/null ||
		die "this is no Debian or Ubuntu; install the equivalents of ${missing[*]} by hand"
	[ "$(id -u)" = 0 ] || die "packages are missing (${missing[*]}): run this as root"
	if ! apt_lists_fresh; then say "  reading the package lists …"; apt_update; fi
	say "  installing ${missing[*]} …"
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a APT_LISTCHANGES_FRONTEND=none
	if ! apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold \
		"${missing[@]}" > "${LIB_LOG:-/tmp}/apt.log" 2>&1 < /dev/null; then
		apt_update
		apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold \
			"${missing[@]}" > "${LIB_LOG:-/tmp}/apt.log" 2>&1 < /dev/null || {
			tail -n 15 "${LIB_LOG:-/tmp}/apt.log" >&2
			die "apt-get could not install ${missing[*]}"
		}
	fi
}

# install_programs NAME…: packages whose programs are wanted, not the service that comes with them.
install_programs() {
	local p missing=() rc=0
	for p in "$@"; do package_installed "$p" || missing+=("$p"); done
	[ ${#missing[@]} = 0 ] && return 0
	if [ -e /usr/sbin/policy-rc.d ]; then
		install_packages "${missing[@]}"
		return
	fi
	printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
	chmod 755 /usr/sbin/policy-rc.d
	install_packages "${missing[@]}" || rc=$?
	rm -f /usr/sbin/policy-rc.d
	if [ -d /run/systemd/system ]; then
		for p in nginx dnsmasq; do systemctl disable "$p" > /dev/null 2>&1; done
	fi
	return "$rc"
}

# Ubuntu's /usr/sbin/bpftool is a script that works only with the tools of the running kernel; any version will do.
find_bpftool() {
	local f
	for f in /usr/sbin/bpftool /usr/bin/bpftool /usr/lib/linux-tools/*/bpftool /usr/lib/linux-tools-*/bpftool; do
		[ -x "$f" ] && "$f" version > /dev/null 2>&1 && { echo "$f"; return 0; }
	done
	return 1
}

install_bpftool() {
	find_bpftool > /dev/null && return 0
	apt_lists_fresh || apt_update
	if package_exists bpftool; then
		install_packages bpftool
	else
		install_packages linux-tools-common linux-tools-generic
	fi
	find_bpftool > /dev/null || die "bpftool does not work; install the package that has it for this system"
}

install_users() {
	local u
	getent group sallyport > /dev/null || groupadd --system sallyport
	for u in sallyport sallyport-ledger sallyport-dns; do
		id "$u" > /dev/null 2>&1 ||
			useradd --system --gid sallyport --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$u"
	done
}

install_deps() {
	local LIB_LOG
	LIB_LOG=$(mktemp -d) # the logs of apt: removed when it went well
	# shellcheck disable=SC2046
	install_packages $(build_packages)
	install_bpftool
	install_users
	rm -rf "$LIB_LOG"
}

# build TARGET…: with as many processes as there are cores. Paths below $O are targets too.
build() {
	local BPFTOOL
	BPFTOOL=$(find_bpftool) || die "bpftool is missing: ./scripts/quickstart --deps installs it"
	make --no-print-directory -C "$LIB_TREE" -j "$(nproc)" BPFTOOL="$BPFTOOL" O="${O#"$LIB_TREE"/}" "${@#"$LIB_TREE"/}"
}

# ---------------------------------------------------------------- the machine

cgroup2_mount() { awk '/ - cgroup2 / {print $5; exit}' /proc/self/mountinfo; }
bpffs_mounted() { awk -v d="$1" '$5 == d && / - bpf / {f = 1} END {exit !f}' /proc/self/mountinfo; }

port_is_free() {
	local hex
	hex=$(printf ':%04X ' "$1")
	! cat /proc/net/tcp /proc/net/tcp6 2> /dev/null | awk '{print $2 " " $4}' | grep -q "${hex}0A"
}

# The first free port from $1 on.
free_port() {
	local p=$1
	while ! port_is_free "$p"; do p=$((p + 1)); done
	echo "$p"
}

# ---------------------------------------------------------------- an instance

# instance_init NAME PORT: names and the directory; nothing runs yet.
instance_init() {
	I_NAME=$1
	I_DIR=$(mktemp -d "${TMPDIR:-/tmp}/$I_NAME.XXXXXX")
	chmod 755 "$I_DIR"
	I_PORT=$(free_port "$2")
	I_DNS_PORT=$(free_port $((I_PORT + 36)))
	I_PID=
	I_MOUNTS=
	I_CONFIG=$I_DIR/config.hujson
	I_CGROOT=$(cgroup2_mount)
	if [ -z "$I_CGROOT" ]; then
		I_CGROOT=$I_DIR/cgroup
		mkdir "$I_CGROOT"
		mount -t cgroup2 none "$I_CGROOT" || die "no cgroup v2 can be mounted: the kernel needs CONFIG_CGROUPS; see \`sallyport doctor\`"
		I_MOUNTS="$I_CGROOT"
	fi
	I_PINS=/sys/fs/bpf/$I_NAME
	if ! bpffs_mounted /sys/fs/bpf; then
		mkdir "$I_DIR/bpf"
		mount -t bpf bpf "$I_DIR/bpf" || die "no BPF file system can be mounted: the kernel needs CONFIG_BPF_SYSCALL, and root"
		I_MOUNTS="$I_MOUNTS $I_DIR/bpf"
		I_PINS=$I_DIR/bpf/$I_NAME
	fi
	export SALLYPORT_CONFIG=$I_CONFIG
}

# instance_config [MEMBERS]: more members of the configuration, each with its comma.
instance_config() {
	local few='"workers": 2, "docker": "",'
	cat > "$I_CONFIG" <<-END
	{
		"run_dir": "$I_DIR/run", "state_dir": "$I_DIR/state", "pin_dir": "$I_PINS", "policy": "$I_DIR/policy.hujson",
		"cgroup": { "root": "$I_CGROOT", "parent": "/$I_NAME", "watch": ["/$I_NAME-watched"] },
		"users": { "gateway": "${I_GATEWAY_USER:-#62117}", "ledger": "${I_LEDGER_USER:-#62118}", "dns": "${I_DNS_USER:-#62119}", "group": "${I_GROUP:-#62117}" },
		"door": { "port": $I_PORT, "port_range": 1 },
		"force": { "dns_port": $I_DNS_PORT${I_FORCE:-} },
		${1:-$few}
	}
	END
	chmod 644 "$I_CONFIG"
}

sp() { "$SALLYPORT" "$@"; }

instance_ready() {
	sp status --json 2> /dev/null | tr -d ' \n' | grep -Eq '"(workers_ready|ready)":[1-9]' && [ -S "$I_DIR/run/ledger.sock" ]
}

# instance_start: the daemon in the background, until it serves.
# I_IN: words before the command, such as nsenter and a namespace.
instance_start() {
	${I_IN:-} "$SALLYPORT" daemon --config "$I_CONFIG" --clean >> "$I_DIR/daemon.log" 2>&1 &
	I_PID=$!
	wait_for "${1:-150}" instance_serves && return 0
	tail -n 20 "$I_DIR/daemon.log" >&2
	return 1
}

instance_serves() {
	kill -0 "$I_PID" 2> /dev/null || return 1
	instance_ready
}

instance_stop() {
	[ -n "$I_PID" ] || return 0
	kill -TERM "$I_PID" 2> /dev/null
	wait "$I_PID" 2> /dev/null
	I_PID=
}

# cgroup_remove DIR: with everything below it and every process in it.
cgroup_remove() {
	local d p
	[ -d "$1" ] || return 0
	find "$1" -depth -type d 2> /dev/null | while read -r d; do
		while read -r p; do kill -KILL "$p" 2> /dev/null; done < "$d/cgroup.procs"
		wait_for 30 rmdir "$d"
	done
}

instance_clean() {
	local m
	[ -n "${I_DIR:-}" ] || return 0
	# Sandboxes first: their processes may hold the doors.
	for m in "$I_CGROOT/$I_NAME"-*; do cgroup_remove "$m"; done
	instance_stop
	for m in "$I_CGROOT/$I_NAME" "$I_CGROOT/$I_NAME"-*; do cgroup_remove "$m"; done
	rm -rf "$I_PINS"
	for m in $I_MOUNTS; do umount "$m" 2> /dev/null || umount -l "$m"; done
	rm -rf "$I_DIR"
	I_DIR=
}
