# SPDX-License-Identifier: Apache-2.0
# A Docker engine of a test's own: its data, exec root, socket and cgroup parent (…-watched) lie in the test's folder
# and under its name. Images come from `docker import`; nothing is pulled. For bash; sourced after common.bash.
# shellcheck shell=bash
D_PID=

engine_need() {
	command -v dockerd > /dev/null && command -v docker > /dev/null || skip_all "no Docker engine is installed here (dockerd, docker)"
}

# engine OPTION…: starts it, behind the words of $D_IN (nsenter and a namespace); fails when it does not come up.
engine() {
	export DOCKER_HOST=unix://$I_DIR/docker.sock
	unset DOCKER_CONTEXT DOCKER_TLS_VERIFY
	echo '{}' > "$I_DIR/docker.json"
	${D_IN:-} dockerd --config-file "$I_DIR/docker.json" --storage-driver=vfs --data-root "$I_DIR/d-data" --exec-root "$I_DIR/d-exec" \
		-H "$DOCKER_HOST" --pidfile "$I_DIR/docker.pid" --cgroup-parent "/$I_NAME-watched" "$@" > "$I_DIR/docker.log" 2>&1 &
	D_PID=$!
	d_up() { kill -0 "$D_PID" 2> /dev/null && docker info; }
	d_ready() { ! kill -0 "$D_PID" 2> /dev/null || docker info; }
	wait_for 300 d_ready
	d_up > /dev/null 2>&1 && return 0
	kill "$D_PID" 2> /dev/null
	wait "$D_PID" 2> /dev/null
	D_PID=
	return 1
}

# engine_clean: containers, engine, mounts, cgroups; before e2e_clean, which removes the folder.
engine_clean() {
	local m names
	[ -n "${I_DIR:-}" ] || return 0
	if [ -n "$D_PID" ]; then
		names=$(timeout 20 docker ps -aq 2> /dev/null)
		# shellcheck disable=SC2086
		[ -z "$names" ] || timeout 30 docker rm -f $names > /dev/null 2>&1
		kill -TERM "$D_PID" 2> /dev/null
		wait "$D_PID" 2> /dev/null
	fi
	awk -v d="$I_DIR/d-" 'index($2, d) == 1 {print $2}' /proc/mounts | sort -r | while read -r m; do umount -l "$m"; done
	# The engine makes its cgroup parent in every hierarchy that it uses.
	find /sys/fs/cgroup -depth -type d -path "*$I_NAME-watched*" -exec rmdir {} + 2> /dev/null
}
