#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole daemon with roles that answer with what their stamp says (tests/bpf/daemon.c):
#
#   cgroups   /sallyport-test-dPID           cgroup.parent: gateway, run/…
#             /sallyport-test-dPID-w         watched: children become sandboxes
#   files     a directory below $TMPDIR; pins in /sys/fs/bpf/sallyport-test-dPID
#   network   the host's namespace on ports from 24117, and namespaces of unshare -n
#
# usage: test_daemon.sh DAEMON_BINARY. Needs root, BPF and cgroup v2; says so and succeeds without.
set -u
BIN=$(realpath "${1:-build/release/tests/bpf/daemon}")
NAME=sallyport-test-d$$
PORT=$((24117 + $$ % 20000))
DIR=$(mktemp -d)
PID=
FAILED=0 PASSED=0 SKIPPED=0
KIDS=

skip() { echo "skipped: $*"; rmdir "$DIR"; exit 0; }
[ "$(id -u)" = 0 ] || skip "everything: needs root"
CG=$(awk '$0 ~ / - cgroup2 / {print $5; exit}' /proc/self/mountinfo)
[ -n "$CG" ] || skip "everything: no cgroup v2 hierarchy is mounted"

clean() {
	for p in $KIDS $PID; do kill -KILL "$p" 2>/dev/null; done
	sleep 0.2
	for d in $(find "$CG/$NAME" "$CG/$NAME-w" -depth -type d 2>/dev/null); do
		for p in $(cat "$d/cgroup.procs" 2>/dev/null); do kill -KILL "$p" 2>/dev/null; done
		for _ in 1 2 3 4 5; do rmdir "$d" 2>/dev/null && break; sleep 0.1; done
	done
	rm -rf "/sys/fs/bpf/$NAME" "$DIR"
}
trap clean EXIT
trap 'exit 130' INT TERM

ok() { PASSED=$((PASSED + 1)); }
bad() { FAILED=$((FAILED + 1)); echo "FAIL $1"; shift; [ $# = 0 ] || printf '     got: %s\n' "$@"; }
# has NAME TEXT PATTERN: the text holds the pattern
has() { case $2 in *$3*) ok ;; *) bad "$1: expected $3" "$2" ;; esac; }
hasnt() { case $2 in *$3*) bad "$1: did not expect $3" "$2" ;; *) ok ;; esac; }
# until_has SECONDS/10 NAME PATTERN COMMAND…: waits for a condition
until_has() {
	local n=$1 name=$2 pattern=$3 out=; shift 3
	for _ in $(seq "$n"); do
		out=$("$@" 2>&1)
		case $out in *$pattern*) ok; return 0 ;; esac
		sleep 0.1
	done
	bad "$name: expected $pattern" "$out"
	return 1
}
ctl() { "$BIN" "$1" "$DIR/run" "${@:2}"; }
start() {
	"$BIN" daemon --config "$DIR/config.hujson" "$@" 2>>"$DIR/log" &
	PID=$!
	until_has 50 "start" "ready=2/2" ctl status
}
stop() { kill -TERM "$PID"; wait "$PID"; local rc=$?; PID=; return $rc; }
# ask [ADDRESS [PORT]]: what the door answers
cat > "$DIR/ask.sh" <<'END'
exec 3<>"/dev/tcp/${1:-127.0.0.1}/$2" || exit 1
echo hello >&3
cat <&3
END
ask() { bash "$DIR/ask.sh" "${1:-127.0.0.1}" "${2:-$PORT}" 2>&1; }
# in_cgroup PATH COMMAND…
in_cgroup() { bash -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$CG$1" "${@:2}"; }
ask_in() { in_cgroup "$1" bash "$DIR/ask.sh" 127.0.0.1 "${2:-$PORT}" 2>&1; }

printf 'sk-one' > "$DIR/key1"; chmod 600 "$DIR/key1"
printf 'sk-two' > "$DIR/key2"; chmod 644 "$DIR/key2"
policy() {
	cat > "$DIR/policy.new" <<END
{ "providers": {
    "one": { "baseurl": "https://one.example", "apikey": "file:$DIR/key1", "models": ["m-*"], "compatibility": {"openai_chat": true} },
    "two": { "baseurl": "https://two.example", "apikey": "file:$DIR/key2", "models": ["m-*"], "compatibility": {"openai_chat": true} },
    "cmd": { "baseurl": "https://cmd.example", "apikey": "cmd:echo sk-three", "models": ["m-*"], "compatibility": {"openai_chat": true} } },
  "labels": [ { "match": { "cgroup": "/$NAME-w/by-rule*" }, "tags": ["tag:ruled"] } ] $1 }
END
	chmod 644 "$DIR/policy.new"; mv "$DIR/policy.new" "$DIR/policy.hujson"
}
policy ""
cat > "$DIR/config.hujson" <<END
{ "run_dir": "$DIR/run", "state_dir": "$DIR/state", "pin_dir": "/sys/fs/bpf/$NAME", "policy": "$DIR/policy.hujson",
  "workers": 2, "door": { "port": $PORT, "port_range": 3 }, "docker": "",
  "cgroup": { "parent": "/$NAME", "watch": ["/$NAME-w"] },
  "users": { "gateway": "#65534", "ledger": "#65533", "group": "#65534" } }
END
chmod 644 "$DIR/config.hujson"; chmod 755 "$DIR"

"$BIN" daemon --config "$DIR/config.hujson" --nonsense > "$DIR/out" 2>&1 && bad "unknown option is an error"
has "unknown option" "$(cat "$DIR/out")" "daemon has no option"

start || { cat "$DIR/log"; exit 1; }
STATUS=$(ctl status)
case $STATUS in *stamp=ok*) ;; *) cat "$DIR/log"; echo "skipped: the rest: $STATUS"; exit 0 ;; esac
has "status" "$STATUS" "host_port=$PORT"

# --- keys
KEYS=$(ctl keys)
has "good key" "$KEYS" "provider=one source=file:$DIR/key1 state=ok"
has "readable key" "$KEYS" "state=$DIR/key2 can be read by others: chmod 600 $DIR/key2"
has "command key" "$KEYS" "provider=cmd source=cmd:echo sk-three state=ok"
hasnt "no key text" "$KEYS$(cat "$DIR/log")" "sk-one"

# --- run: labelled before it starts, removed afterwards
OUT=$(ctl run job tag:b,tag:a bash "$DIR/ask.sh" 127.0.0.1 "$PORT")
has "run" "$OUT" "stamped label=2 gen=1 known=1 tags=tag:a,tag:b path=/$NAME/run/job-2 origin=2"
has "run: v4, agreed, unprivileged reader, keys" "$OUT" "family=2 port=$PORT netns=1 peer=1"
has "run: reader is unprivileged and has the keys" "$OUT" "me=65534 keys=2 rules=1"
OUT=$(ctl run job tag:a bash "$DIR/ask.sh" ::1 "$PORT")
has "run over v6" "$OUT" "family=10"
until_has 30 "run is removed" "sandboxes=0" ctl status
[ -z "$(ls -d "$CG/$NAME/run"/*/ 2>/dev/null)" ] && ok || bad "run cgroup is gone"
has "run: bad tag" "$(ctl run x PR true)" "is no tag"
has "host without label" "$(ask)" "unstamped"

# --- a sandbox by path, in a network namespace of its own
mkdir "$CG/$NAME-w/s1"
until_has 20 "watched child" "path=/$NAME-w/s1 tags= " ctl list
has "unlabelled child" "$(ask_in "/$NAME-w/s1")" "known=1 tags= path=/$NAME-w/s1 origin=3"
has "label by path" "$(ctl label "/$NAME-w/s1" tag:x)" "err=0"
has "labelled" "$(ask_in "/$NAME-w/s1")" "tags=tag:x path=/$NAME-w/s1 origin=0"
in_cgroup "/$NAME-w/s1" unshare -n sleep 1000 &
until_has 30 "sleeper" sleep bash -c "cat /proc/\$(head -1 $CG/$NAME-w/s1/cgroup.procs)/comm"
SLEEPER=$(head -1 "$CG/$NAME-w/s1/cgroup.procs"); KIDS="$KIDS $SLEEPER"
until_has 30 "door in a namespace" "doors=1 port=$PORT path=/$NAME-w/s1" ctl list
has "stamped there" "$(nsenter --net="/proc/$SLEEPER/ns/net" bash -c "echo \$\$ > $CG/$NAME-w/s1/cgroup.procs; bash $DIR/ask.sh 127.0.0.1 $PORT")" "tags=tag:x"
has "two doors" "$(ctl status)" "doors=2"
has "label by pid" "$(ctl label "pid:$SLEEPER" tag:y)" "path=/$NAME-w/s1 tags=tag:y"
kill "$SLEEPER"
until_has 30 "door of a namespace that ends is closed" "doors=1" ctl status
has "unlabel" "$(ctl unlabel "/$NAME-w/s1")" "err=0"
has "unlabelled again" "$(ctl list)" "origin=3"
mkdir "$CG/$NAME-w/by-rule-1"
until_has 20 "label by rule" "path=/$NAME-w/by-rule-1 tags=tag:ruled" ctl list
has "a rule's label is not taken off by hand" "$(ctl unlabel "/$NAME-w/by-rule-1")" "err=-1 text=/$NAME-w/by-rule-1 has no label of its own"
rmdir "$CG/$NAME-w/by-rule-1"
until_has 30 "removed child" "sandboxes=1" ctl status
for t in /nothing "/$NAME" "/$NAME/gateway" / pid:999999999 unit:none-such nonsense; do
	has "target $t is refused" "$(ctl label $t tag:x)" "err=-"
done

# --- a worker dies: clients wait in the backlog, everything is told again
WORKERS=$(cat "$CG/$NAME/gateway/cgroup.procs")
ctl label "/$NAME-w/s1" tag:z > "$DIR/out"
for p in $WORKERS; do kill -KILL "$p"; done
has "request while no worker runs" "$(ask_in "/$NAME-w/s1")" "tags=tag:z"
until_has 30 "workers are back" "ready=2/2" ctl status
has "restarts are counted" "$(ctl status)" "restarts=4"

# --- reload
policy ', "nonsense": 1'
until_has 30 "a mistake is refused" "policy.hujson:5:" ctl status
has "the old policy stays" "$(ctl status)" "generation=1"
chmod 600 "$DIR/key2"; policy ""
until_has 30 "mended" "policy_error=" ctl status
until_has 30 "reloaded keys" "provider=two source=file:$DIR/key2 state=ok" ctl keys
has "workers have the new keys" "$(ask_in "/$NAME-w/s1")" "keys=3"
has "reload by request" "$(ctl reload)" "err=0"
kill -HUP "$PID"; sleep 0.3
has "reload by signal" "$(ctl status)" "generation="

# --- second daemon with the same directories
"$BIN" daemon --config "$DIR/config.hujson" > "$DIR/out" 2>&1 && bad "second daemon"
has "second daemon" "$(cat "$DIR/out")" "another daemon uses"

# --- a watched parent that is labelled itself keeps its label when the policy is read again
ctl label "/$NAME-w" tag:parent > "$DIR/out"
ctl reload > "$DIR/out" 2>&1
has "a labelled parent, after a reload" "$(ask_in "/$NAME-w")" "tags=tag:parent"
ctl unlabel "/$NAME-w" > "$DIR/out"
has "its child is what it was" "$(ask_in "/$NAME-w/s1")" "tags=tag:z"

# --- SIGKILL: nothing opens, and the next one takes over
LINE=$(ctl list | grep "path=/$NAME-w/s1 ")
ID=$(printf '%s' "$LINE" | sed 's/sandbox id=\([0-9]*\) .*/\1/')
GEN=$(printf '%s' "$LINE" | sed 's/.* gen=\([0-9]*\) .*/\1/')
kill -KILL "$PID"; wait "$PID" 2>/dev/null; PID=
[ -d "/sys/fs/bpf/$NAME/v3/sandbox" ] && ok || bad "pins stay"
has "door is shut while the daemon is dead" "$(ask_in "/$NAME-w/s1")" "refused"
start || exit 1
has "adopted with the same label" "$(ctl list)" "sandbox id=$ID gen=$GEN origin=0"
has "stamped after adoption" "$(ask_in "/$NAME-w/s1")" "label=$ID gen=$GEN known=1 tags=tag:z"

# --- a port that is taken
stop && ok || bad "clean exit"
[ -d "/sys/fs/bpf/$NAME/v3/sandbox" ] && ok || bad "programs stay after SIGTERM"
"$BIN" daemon --config /dev/null > "$DIR/out" 2>&1
has "bad configuration" "$(cat "$DIR/out")" "must be a file"
bash -c "exec -a squatter $BIN squat $PORT" & KIDS="$KIDS $!"; SQUATTER=$!
sleep 0.3
start || exit 1
has "next port" "$(ctl status)" "host_port=$((PORT + 1))"
has "stamped on the next port" "$(ask_in "/$NAME-w/s1" $((PORT + 1)))" "tags=tag:z"
kill "$SQUATTER"
stop && ok || bad "clean exit"

# --- label ids are never given out twice, and --clean leaves nothing
start --clean || exit 1
OUT=$(ctl run job tag:a true)
NEW=$(printf '%s\n' "$OUT" | sed -n 's/.*sandbox id=\([0-9]*\) .*/\1/p')
[ "${NEW:-0}" -gt "$ID" ] && ok || bad "label id $NEW is new" "$OUT"
stop && ok || bad "clean exit"
[ ! -e "/sys/fs/bpf/$NAME" ] && ok || bad "--clean removes the pins"
[ ! -e "$CG/$NAME" ] && ok || bad "--clean removes the cgroups"
has "no sanitizer report" "$(grep -c 'ERROR: .*Sanitizer\|runtime error' "$DIR/log")" "0"
[ "$FAILED" = 0 ] || { echo "--- log"; tail -40 "$DIR/log"; }
echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
[ "$FAILED" = 0 ]
