#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Where a provider's key is while it is used, and where it is not:
#
#   the operator's file, 0600 --descriptor--> agent --descriptor--> gateway worker (memory that no core has) --> provider
#
# Files, logs, ledger, journals; environment, command line, memory and /proc of every process of the sandbox and of every
# role; core files; and what a process of the sandbox can get at, as its user, as root of its own user namespace, as root
# of a container, and as the gateway's own user. Every search is shown to find a key that was put where it looks.
. "$(dirname "$0")/common.bash"
e2e_init keys 21517
UP=$(free_port 22417)
provider provider "$UP"
PRY=$I_DIR/pry
KEY=$I_DIR/key
CORES=$I_DIR/cores
install -m 755 "$TESTS/e2e/pry" "$PRY"
mkdir -m 1777 "$CORES"
write_policy
instance_config
I_IN="env -C $CORES" instance_start || { not_ok start "the daemon does not serve"; exit 1; }
box_make watched/box
box() { in_box watched/box "$@"; }
BOX=/$I_NAME-watched/box
yes "label" sp label "$BOX" tag:e2e

# ---------------------------------------------------------------- the key in use
ask() { # FORMAT STREAM MODEL
	box "$TESTS/e2e/http" -H 'x-api-key: -' -d "$(body_of "$1" "$2" "run: git status" "$3")" -o "$I_DIR/got" "$BASE$(path_of "$1" "$2" "$3")" > /dev/null
}
for format in anthropic chat responses gemini; do
	for stream in true false; do ask $format $stream ""; done
done
for model in claude-practice-status-529 claude-practice-status-401 claude-practice-reset-400 claude-practice-garbage; do ask anthropic true $model; done
for ((i = 0; i < 30; i++)); do ask anthropic true "" & done
wait $(jobs -p | grep -vxF "$(printf '%s\n' $E_PIDS $I_PID)")
has "the provider got it" "$(cat "$I_DIR/provider.log")" "key=ok"
hasnt "and no other" "$(cat "$I_DIR/provider.log")" "key=placeholder"

# A client in the middle of its answer, as long as all that is searched; a core of it may be written.
client() {
	box bash -c 'cd "$0" && ulimit -c unlimited && exec "$@"' "$CORES" "$TESTS/e2e/http" -H 'x-api-key: -' \
		-d "$(body_of anthropic true "run: git status" claude-practice-stall-60000)" -o "$I_DIR/stream" "$BASE/v1/messages"
}
client > /dev/null & E_PIDS="$E_PIDS $!"
begun() { grep -q practice-stall "$I_DIR/provider.log"; }
yes "a stream runs" wait_for 50 begun

# ---------------------------------------------------------------- who there is
named() { # COMM: the processes of the instance with that name, of which the kernel keeps 15 bytes
	local p
	for p in $(cat /proc/"$I_PID"/task/*/children); do [ "$(cat "/proc/$p/comm" 2> /dev/null)" != "${1:0:15}" ] || echo "$p"; done
}
workers=$(named sallyport-gw)
lesser=$(named sallyport-ledger; named sallyport-dns; named sallyport-ca)
others="$I_PID $lesser"
roles="$workers $others"
is "the workers" "$(wc -w <<< "$workers")" 2
yes "the ledger and more" test "$(wc -w <<< "$others")" -ge 3
of_box() { cat "$I_CGROOT$BOX/cgroup.procs"; }

# ---------------------------------------------------------------- memory and /proc
KEY_PLANTED=$KEY_TEXT bash -c 'echo $$ > "$0" && exec sleep 60' "$I_CGROOT$BOX/cgroup.procs" &
planted=$!
sleeps() { grep -q sleep "/proc/$planted/comm"; }
wait_for 20 sleeps
found=$("$PRY" find "$KEY" $planted)
has "the search finds a key in memory" "$found" "$planted memory 1"
has "and in what a core would have" "$found" "$planted dumpable 1"
has "and in /proc" "$found" "$planted /proc/$planted/environ"
kill "$planted"
wait "$planted" 2> /dev/null

for p in $(of_box); do is "the sandbox's $(cat /proc/$p/comm): not in its memory, not in its /proc" "$("$PRY" find "$KEY" $p)" "$p memory 0
$p dumpable 0"; done
for p in $others; do is "$(cat /proc/$p/comm) ($(stat -c %U /proc/$p)): not in its memory, not in its /proc" "$("$PRY" find "$KEY" $p)" "$p memory 0
$p dumpable 0"; done
for p in $workers; do
	found=$("$PRY" find "$KEY" $p)
	yes "a worker has it" grep -q "^$p memory [1-9]" <<< "$found"
	is "but only where no core looks" "$(grep -v "^$p memory" <<< "$found")" "$p dumpable 0"
done

# ---------------------------------------------------------------- what the sandbox can get at
# pry_as NAME COMMAND…: first at a process of its own, which has to work, then at the roles.
pry_as() {
	local name=$1 out own
	shift
	out=$(box "$@" sh -c 'sleep 60 & p=$!; pry=$0; echo "own $p"; sleep 0.2; "$pry" try $p "$@"; kill $p' "$PRY" $roles 2>&1)
	own=$(sed -n 's/^own //p' <<< "$out")
	if [ -z "$own" ]; then
		skip "as $name" "this machine does not let one become that: $(short "$out")"
		return
	fi
	for way in ptrace process_vm_readv pidfd_getfd mem environ maps fd/0; do
		has "as $name: a process of its own can be got at: $way" "$out" "$own $way"
	done
	is "as $name: no role can" "$(grep -vE "^own |^$own |none$" <<< "$out")" ""
	is "as $name: all were tried" "$(grep -c 'none$' <<< "$out")" "$(wc -w <<< "$roles")"
}
pry_as "a user" setpriv --reuid 62200 --regid 62200 --clear-groups
pry_as "root of its own user namespace" unshare --user --map-root-user
pry_as "the gateway's user" setpriv --reuid 62117 --regid 62117 --clear-groups
pry_as "the ledger's user" setpriv --reuid 62118 --regid 62117 --clear-groups
# What container engines leave to root.
pry_as "root of a container" setpriv --inh-caps=-all --bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap
for p in $workers $lesser; do yes "$(cat /proc/$p/comm): its limit of cores is 0" grep -qE '^Max core file size +0 +0 ' /proc/$p/limits; done

# ---------------------------------------------------------------- core files
# Where this root may (CAP_SYS_RESOURCE), the limit is lifted: being not dumpable has to be enough.
abort() { # PID
	prlimit --pid "$1" --core=unlimited 2> /dev/null
	kill -ABRT "$1"
	wait_for 50 gone "$1"
}
gone() { ! grep -q '^State:.[RSD]' "/proc/$1/status" 2> /dev/null; }
cores() { find "$CORES" -name 'core*' -type f -newer "$I_DIR/mark"; }
touch "$I_DIR/mark"
sleep 0.1
KEY_PLANTED=$KEY_TEXT setpriv --reuid 62117 --regid 62117 --clear-groups \
	bash -c 'cd "$0" && ulimit -c unlimited && exec sleep 60' "$CORES" 2> /dev/null &
planted=$!
wait_for 20 sleeps
abort "$planted"
core=$(cores | head -n 1)
if [ -z "$core" ]; then
	skip "core files" "this machine puts them elsewhere (kernel.core_pattern is $(cat /proc/sys/kernel/core_pattern)); that there is no key in what they would hold is tested above"
else
	yes "a core of the gateway's user holds a key that was put there" grep -qaF "$KEY_TEXT" "$core"
	rm -f "$core"
	for p in $(of_box); do
		[ "$(cat "/proc/$p/comm")" = http ] || continue
		abort "$p"
	done
	core=$(cores | head -n 1)
	yes "a core of the client" grep -qaF "claude-practice-stall-60000" "$core"
	is "has no key" "$(grep -caF "$KEY_TEXT" "$core")" 0
	rm -f "$core"
	for p in $workers $lesser; do
		name=$(cat "/proc/$p/comm")
		abort "$p"
		yes "$name is gone" gone "$p"
		is "$name: no core" "$(cores)" ""
	done
	served() { [ "$(ask chat false "" ; jq -r .object "$I_DIR/got" 2> /dev/null)" = chat.completion ]; }
	yes "and is started again" wait_for 100 served
fi

# ---------------------------------------------------------------- files and words
ledger_has() { [ "$(ledger_requests)" -ge 40 ]; }
yes "all is in the ledger" wait_for 100 ledger_has
where() { grep -rlaF "$KEY_TEXT" "$I_DIR" "$CORES" 2> /dev/null | grep -vxF "$KEY"; }
printf 'x%sx' "$KEY_TEXT" > "$I_DIR/state/planted"
is "the search finds a key in a file" "$(where)" "$I_DIR/state/planted"
rm "$I_DIR/state/planted"
for name in ledger.db daemon.log provider.log got 'w0.*' balances; do
	yes "what is searched: $name" test -n "$(find "$I_DIR" -name "$name" -size +0 -print -quit)"
done
is "the key is in no file" "$(where)" ""
said=$(sp keys; sp keys --json; sp status --json; sp policy show --json; sp log --json; sp tools --json; sp usage --json; sp ps --json; sp doctor; sp env) 2> /dev/null
has "commands tell of it" "$said" "file:$KEY"
hasnt "but do not show it" "$said" "$KEY_TEXT"
exit $E_FAILED
