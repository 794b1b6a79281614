#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Containers of a Docker engine of this test's own, each with exactly one way out: the door.
#
#   dockerd (private data, exec root, socket; no bridge, no firewall) -- cgroup parent /sallyport-test-kPID-w
#   the daemon of tests/bpf/daemon.c watches that parent and asks that engine
#
# usage: test_docker.sh DAEMON_BINARY. Needs root, BPF, cgroup v2, dockerd and a static busybox.
set -u
BIN=$(realpath "${1:-build/release/tests/bpf/daemon}")
NAME=sallyport-test-k$$
PORT=$((24117 + $$ % 20000))
DIR=$(mktemp -d)
PID= DOCKERD=
FAILED=0 PASSED=0

skip() { echo "skipped: everything: $*"; rm -rf "$DIR"; exit 0; }
[ "$(id -u)" = 0 ] || skip "needs root"
command -v dockerd > /dev/null && command -v docker > /dev/null || skip "no Docker here"
BUSYBOX=$(command -v busybox) || skip "no busybox here"
CG=$(awk '$0 ~ / - cgroup2 / {print $5; exit}' /proc/self/mountinfo)
[ -n "$CG" ] || skip "no cgroup v2 hierarchy is mounted"
export DOCKER_HOST=unix://$DIR/docker.sock

clean() {
	docker ps -aq 2>/dev/null | xargs -r docker rm -f > /dev/null 2>&1
	[ -n "$PID" ] && kill -TERM "$PID" 2>/dev/null && wait "$PID" 2>/dev/null
	[ -n "$DOCKERD" ] && kill -TERM "$DOCKERD" 2>/dev/null && wait "$DOCKERD" 2>/dev/null
	# The engine's cgroup parent exists in every hierarchy that it uses.
	find /sys/fs/cgroup -depth -type d -path "*$NAME*" -exec rmdir {} + 2>/dev/null
	awk -v d="$DIR/" 'index($2, d) == 1 {print $2}' /proc/mounts | sort -r | xargs -r umount -l
	rm -rf "/sys/fs/bpf/$NAME" "$DIR"
}
trap clean EXIT
trap 'exit 130' INT TERM

ok() { PASSED=$((PASSED + 1)); }
has() { case $2 in *$3*) ok ;; *) FAILED=$((FAILED + 1)); echo "FAIL $1: expected $3"; echo "     got: $2" ;; esac; }
until_has() {
	local n=$1 name=$2 pattern=$3 out=; shift 3
	for _ in $(seq "$n"); do
		out=$("$@" 2>&1)
		case $out in *$pattern*) ok; return 0 ;; esac
		sleep 0.1
	done
	has "$name" "$out" "$pattern"
	return 1
}
ctl() { "$BIN" "$1" "$DIR/run" "${@:2}"; }

mkdir -p "$DIR/root/bin"
cp "$BUSYBOX" "$DIR/root/bin/busybox"
for x in sh nc sleep echo; do ln -s busybox "$DIR/root/bin/$x"; done
echo '{}' > "$DIR/docker.json"
dockerd --config-file "$DIR/docker.json" --storage-driver=vfs --data-root "$DIR/data" --exec-root "$DIR/exec" \
	-H "$DOCKER_HOST" --pidfile "$DIR/docker.pid" --bridge=none --iptables=false --ip6tables=false \
	--cgroup-parent "/$NAME-w" > "$DIR/docker.log" 2>&1 &
DOCKERD=$!
until_has 200 "engine" "Server Version" docker info || { tail -5 "$DIR/docker.log"; exit 1; }
tar -C "$DIR/root" -c . | docker import - sallyport-test > /dev/null

cat > "$DIR/policy.hujson" <<'END'
{ "labels": [ { "match": { "docker_label": "sallyport.tags" }, "tags_from": "value" },
              { "match": { "container": "named-*" }, "tags": ["tag:named"] } ] }
END
cat > "$DIR/config.hujson" <<END
{ "run_dir": "$DIR/run", "state_dir": "$DIR/state", "pin_dir": "/sys/fs/bpf/$NAME", "policy": "$DIR/policy.hujson",
  "workers": 1, "door": { "port": $PORT, "port_range": 3 }, "docker": "$DIR/docker.sock",
  "cgroup": { "parent": "/$NAME", "watch": ["/$NAME-w"] },
  "users": { "gateway": "#65534", "ledger": "#65533", "group": "#65534" } }
END
chmod 644 "$DIR"/*.hujson; chmod 755 "$DIR"
"$BIN" daemon --config "$DIR/config.hujson" --clean 2> "$DIR/log" & PID=$!
until_has 50 "start" "ready=1/1" ctl status || { cat "$DIR/log"; exit 1; }
case $(ctl status) in *stamp=ok*) ;; *) echo "skipped: the rest: $(ctl status)"; exit 0 ;; esac

ASK="echo hello | nc 127.0.0.1 $PORT"
# As soon as there is a door: the first answer must carry the label already.
ASK_EARLY="until echo hello | nc 127.0.0.1 $PORT; do sleep 0.01; done"

OUT=$(docker run --rm --network=none --label sallyport.tags=tag:pr-bot,tag:ci sallyport-test sh -c "$ASK_EARLY" 2>&1)
has "no network, one door" "$OUT" "tags=tag:ci,tag:pr-bot"
has "by rule, agreed" "$OUT" "origin=1 family=2 port=$PORT netns=1 peer=1"
OUT=$(docker run --rm --network=host --label sallyport.tags=tag:h sallyport-test sh -c "sleep 0.5; $ASK" 2>&1)
has "the host's network" "$OUT" "tags=tag:h"
OUT=$(docker run --rm --network=none sallyport-test sh -c "$ASK_EARLY" 2>&1)
has "without a label" "$OUT" "known=1 tags= path=/$NAME-w/"
docker run -d --name named-one --network=none sallyport-test sleep 1000 > /dev/null
until_has 50 "rule on the name" "tags=tag:named container=named-one image=sallyport-test" ctl list
has "label by name" "$(ctl label docker:named-one tag:mine)" "tags=tag:mine"
has "exec in it" "$(docker exec named-one sh -c "$ASK")" "tags=tag:mine"
docker run -d --name joined --network=container:named-one sallyport-test sleep 1000 > /dev/null
until_has 50 "joined" "container=joined" ctl list
has "two containers, one namespace" "$(docker exec joined sh -c "$ASK")" "tags= path"
has "the other one" "$(docker exec named-one sh -c "$ASK")" "tags=tag:mine"
has "no such container" "$(ctl label docker:none-such tag:x)" "knows no such container"
has "unlabel by name" "$(ctl unlabel docker:named-one)" "err=0"
has "back to the rule" "$(docker exec named-one sh -c "$ASK")" "tags=tag:named"
docker rm -f named-one joined > /dev/null
until_has 50 "ended" "sandboxes=0 doors=1" ctl status
kill -TERM "$DOCKERD"; wait "$DOCKERD"; DOCKERD=
has "no engine" "$(ctl label docker:x tag:x)" "no container engine answers"
[ "$FAILED" = 0 ] || { echo "--- log"; tail -30 "$DIR/log"; }
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" = 0 ]
