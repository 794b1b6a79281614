#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One sandbox cannot take the gateway from the others:
#
#   cgroup greedy, tag:e2e: thousands of connections that do nothing, drip a head, or stop before a body's end
#   cgroup box,    tag:e2e: asks meanwhile, and is answered within a second
#     --> door --> 1 gateway worker, 300 connections, 9 MiB of bodies --> practice provider
. "$(dirname "$0")/common.bash"
e2e_init share 21917
UP=$(free_port 22717)
provider provider "$UP"
write_policy
instance_config '"workers": 1, "docker": "", "client": { "max_connections": 300, "body_limit": "1MiB", "body_memory": "9MiB" },'
instance_start || { not_ok start "the daemon does not serve"; exit 1; }
ok start
for b in box greedy; do box_make $b; yes "label $b" sp label "/$I_NAME-$b" tag:e2e; done

# held SECONDS OPTION…: the hostile one in the background, once it has taken all it can get.
hold() {
	: > "$I_DIR/hold"
	in_box greedy "$TESTS/e2e/hold" -s "$@" "$BASE/" > "$I_DIR/hold" 2>&1 &
	HOLD=$!
	E_PIDS="$E_PIDS $HOLD"
	wait_for 100 grep -q holding "$I_DIR/hold"
}
# answered NAME BODY: 20 requests on new connections, each within a second.
answered() {
	local i begun got slowest=0 t bad=
	for ((i = 0; i < 20; i++)); do
		begun=$(date +%s%N)
		got=$(in_box box timeout 5 "$TESTS/e2e/http" -f "$2" "$BASE/v1/messages")
		t=$((($(date +%s%N) - begun) / 1000000))
		[ $t -le $slowest ] || slowest=$t
		case $got in 200*done) ;; *) bad="$got" ;; esac
	done
	is "$1: answered" "$bad" ""
	[ $slowest -lt 1000 ] && ok "$1: within a second ($slowest ms)" || not_ok "$1: within a second" "$slowest ms"
}
# Sockets that the worker has open; what waits in the backlog is not its own yet.
worker=$(while read -r p; do grep -qx sallyport-gw "/proc/$p/comm" && echo "$p"; done < "$I_CGROOT/$I_NAME/gateway/cgroup.procs")
established() { find "/proc/$worker/fd" -lname 'socket:*' 2> /dev/null | wc -l; }

body_of anthropic true hi > "$I_DIR/small"
answered "alone" "$I_DIR/small"

hold 8 -n 3000
n=$(established)
[ "$n" -ge 260 ] && [ "$n" -le 300 ] && ok "one sandbox may have nearly all, and no more ($n of 300)" || not_ok "one sandbox may have nearly all" "$n of 300"
answered "3,000 idle connections of another" "$I_DIR/small"
wait $HOLD
has "they were closed for newer ones" "$(cat "$I_DIR/hold")" "were closed"

hold 8 -n 3000 -h
answered "3,000 heads that never end" "$I_DIR/small"
wait $HOLD

# Nobody knows who they are: all of them together are one.
"$TESTS/e2e/hold" -s 6 -n 3000 "$BASE/" > "$I_DIR/hold" 2>&1 &
HOLD=$!
E_PIDS="$E_PIDS $HOLD"
wait_for 100 grep -q holding "$I_DIR/hold"
answered "3,000 connections of nobody" "$I_DIR/small"
wait $HOLD

# Bodies that stop one byte short: 8 of 9 MiB are the most; the others get the format's own overloaded error.
hold 6 -n 40 -b 900000
printf '{"model":"claude-sonnet-4-5","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"%s"}]}' "$(head -c 400000 /dev/zero | tr '\0' 'x')" > "$I_DIR/large"
answered "40 bodies that never end" "$I_DIR/large"
head -c 900000 /dev/zero > "$I_DIR/zero"
got=$(in_box greedy "$TESTS/e2e/http" -f "$I_DIR/zero" -o "$I_DIR/got" "$BASE/v1/messages")
is "one more of the same is refused" "${got%% *}" 503
has "in the format of the path" "$(jq -r '.error.type + " " + .error.message' "$I_DIR/got")" "overloaded_error Sallyport: the gateway holds as many request bodies"
wait $HOLD
answered "afterwards" "$I_DIR/large"

# All of its connections at work: a new one is told so.
in_box greedy "$TESTS/e2e/http" -n 290 -p 290 -d "$(body_of anthropic true hi claude-practice-stall-30000)" "$BASE/v1/messages" > "$I_DIR/busy" 2>&1 &
BUSY=$!
E_PIDS="$E_PIDS $BUSY"
# The clients arrive one by one, slowly in a sanitizer's build: asked until the share is full.
refused() {
	got=$(in_box greedy "$TESTS/e2e/http" -d "$(body_of chat true hi)" -o "$I_DIR/got" "$BASE/v1/chat/completions")
	[ "${got%% *}" = 503 ]
}
wait_for 150 refused
is "a connection above the share is refused" "${got%% *}" 503
has "and told why" "$(jq -r .error.message "$I_DIR/got")" "client.max_connections"
answered "as many streams as one may have" "$I_DIR/small"
kill $BUSY
exit $E_FAILED
