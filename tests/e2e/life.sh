#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The forced path while the daemon comes and goes: killed at any moment of a start, a label, an unlabel; replaced under
# traffic. Whatever happens, no packet of a labelled sandbox reaches the provider, and traffic to others goes on.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/world.bash"
E_NAME=life
world_need
e2e_init life 26717
trap 'world_clean; e2e_clean' EXIT
W_FILE_BYTES=1024
world_make
I_IN="nsenter --net=/run/netns/$I_NAME-host"
I_FORCE=', "resolvers": ["203.0.113.53"]'
ATTACK=$TESTS/e2e/attack P4=203.0.113.10
mkdir -p "$I_CGROOT/$I_NAME-watched"
instance_config
UP=9 # nobody listens there: what is led is refused for want of a grant before that matters
write_policy '"egress": { "tag:x": "strict" },'
sed -i 's#"models": \["claude-\*"\] }#"models": ["claude-*"], "domains": ["api.anthropic.com"] }#' "$I_DIR/policy.hujson"
for b in keep come; do box_make "$b"; done
start() {
	I_IN="nsenter --net=/run/netns/$I_NAME-host"
	# shellcheck disable=SC2086
	(exec $I_IN "$SALLYPORT" daemon --config "$I_CONFIG" >> "$I_DIR/daemon.log" 2>&1) &
	I_PID=$!
}
ready() { wait_for 150 instance_serves; }
start
ready || { not_ok start "the daemon does not start"; exit 1; }
box_enter keep sleep 900 &
E_PIDS="$E_PIDS $!"
sp label "/$I_NAME-keep" tag:e2e > /dev/null || not_ok label failed
knows() { [ "$(sp force status --json | jq .addresses)" -ge 2 ]; }
wait_for 80 knows || not_ok "addresses of the provider" "$(sp force status)"
attack() { box_enter "$1" timeout 6 "$ATTACK" "${@:2}" 2>&1; }

# ---------------------------------------------------------------- killed at any moment
mark
# Without a pause: one try after the other, whether the daemon lives or not.
(while :; do attack keep tcp $P4 443; done) > "$I_DIR/tries" 2>&1 &
TRIES=$!
rounds=${ROUNDS:-12} wrong=0 adopted=0
for ((i = 0; i < rounds; i++)); do
	# Labels come and go meanwhile, also at the moment of death.
	(for ((k = 0; k < 40; k++)); do sp label "/$I_NAME-come" tag:x; sp unlabel "/$I_NAME-come"; done) > /dev/null 2>&1 &
	labels=$!
	sleep "0.$((RANDOM % 9))$((RANDOM % 9))"
	kill -KILL "$I_PID"
	wait "$I_PID" 2> /dev/null
	wait "$labels" 2> /dev/null
	# What the dead daemon left stays closed.
	case $(attack keep tcp $P4 443) in *"200 OK"* | *"400 Bad"*) wrong=$((wrong + 1)) ;; esac
	start
	# Half of the time the next one is killed while it starts.
	if ((i % 2)); then
		sleep "0.$((RANDOM % 4))$((RANDOM % 9))"
		kill -KILL "$I_PID"
		wait "$I_PID" 2> /dev/null
		start
	fi
	ready || { not_ok "start after a SIGKILL, round $i" "$(tail -n 2 "$I_DIR/daemon.log")"; break; }
	sp ps --json | jq -e ".[] | select(.cgroup == \"/$I_NAME-keep\" and .tags == [\"tag:e2e\"])" > /dev/null && adopted=$((adopted + 1))
done
kill "$TRIES"
wait "$TRIES" 2> /dev/null
is "killed $rounds times: tries that got through" "$wrong" 0
is "killed $rounds times: packets to the provider" "$(left)" 0
is "killed $rounds times: the label was adopted" "$adopted" "$rounds"
has "tries were made all the while" "$(sort "$I_DIR/tries" | uniq -c | sort -rn | head -n 3)" "refused"
sleep 0.5
links=$(find "$I_PINS"/v*/sandbox -mindepth 1 -maxdepth 1 -type d | wc -l)
live=$(sp ps --json | jq length)
is "no programs are left of sandboxes that are none any more" "$links" "$live"

# ---------------------------------------------------------------- replaced under traffic
server world "$TESTS/bench/bulk" sink 9000
sleep 0.3
box_enter keep "$TESTS/bench/bulk" send 203.0.113.99 9000 6000 > "$I_DIR/bulk" 2>&1 &
BULK=$!
for _ in 1 2 3; do
	kill -TERM "$I_PID"
	wait "$I_PID" 2> /dev/null
	start
	ready || not_ok "start of a new version" "$(tail -n 2 "$I_DIR/daemon.log")"
done
wait "$BULK"
rate=$(cat "$I_DIR/bulk")
case $rate in *[!0-9]* | '') not_ok "a connection to others goes on while the daemon is replaced" "$rate" ;; *) ok "a connection to others goes on while the daemon is replaced ($rate MiB a second)" ;; esac
is "and the provider is still led" "$(attack keep tcp $P4 443 | cut -c 1-12)" "answered HTT"

# ---------------------------------------------------------------- cgroups that go while they are labelled
sp unlabel "/$I_NAME-come" > /dev/null 2>&1 # the last round may have left it
for ((i = 0; i < 30; i++)); do
	mkdir "$I_CGROOT/$I_NAME-gone$i"
	(sp label "/$I_NAME-gone$i" tag:x > /dev/null 2>&1) &
	rmdir "$I_CGROOT/$I_NAME-gone$i" 2> /dev/null
done
wait_for 100 bash -c "[ \$(find '$I_PINS'/v*/sandbox -mindepth 1 -maxdepth 1 -type d | wc -l) = 1 ]"
is "cgroups that go while they are labelled leave nothing" "$(find "$I_PINS"/v*/sandbox -mindepth 1 -maxdepth 1 -type d | wc -l)" 1
is "the daemon lives" "$(sp status --json | jq -r .stamp)" ok

# ---------------------------------------------------------------- the end takes everything off
kill -TERM "$I_PID"
wait "$I_PID" 2> /dev/null
I_IN="nsenter --net=/run/netns/$I_NAME-host"
instance_start && instance_stop
is "--clean leaves no pin" "$(find "$I_PINS" 2> /dev/null | wc -l)" 0
case $(attack keep tcp $P4 80) in *200*) ok "and the sandbox is what it was" ;; *) not_ok "and the sandbox is what it was" "$(attack keep tcp $P4 80)" ;; esac
exit "$E_FAILED"
