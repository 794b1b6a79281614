#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# No way around: each of the 29 ways past the door that docs/THREAT-MODEL.md lists, tried from a sandbox in a small
# Internet of the test's own (tests/e2e/world.bash). For each one line: closed (how it was tried, what the attacker
# got) or limit, and it must be what the document says.
E_FORCE=1
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/world.bash"
E_NAME=force
world_need
e2e_init force 26417
trap 'world_clean; e2e_clean' EXIT
world_make
UP=$(free_port 26517)
I_IN="nsenter --net=/run/netns/$I_NAME-host"
I_FORCE=', "resolvers": ["203.0.113.53"]'
ATTACK=$TESTS/e2e/attack
P4=203.0.113.10 P6=2001:db8:10::10 UNLISTED=203.0.113.20

server host "$TESTS/practice/provider" "$UP" --key-file "$I_DIR/key" --log "$I_DIR/up.log" 2> "$I_DIR/up.err"
mkdir -p "$I_CGROOT/$I_NAME-watched"
for b in box strict off late flood out; do box_make "$b"; done
instance_config
provider_json() { # NAME FORMATS MODELS DOMAIN AUTH
	printf '"%s": { "baseurl": "http://127.0.0.1:%s", "apikey": "file:%s/key", "authorization": "%s", "compatibility": { %s }, "models": ["%s"], "domains": ["%s"], "cidrs": [%s] },\n' \
		"$1" "$UP" "$I_DIR" "$5" "$2" "$3" "$4" "${6:-}"
}
force_policy() { # EGRESS-MEMBERS
	{
		echo '{ "providers": {'
		provider_json anthropic '"anthropic_messages": true' 'claude-*' api.anthropic.com x-api-key
		provider_json openai '"openai_chat": true, "openai_responses": true' 'gpt-*' api.openai.com bearer
		provider_json google '"gemini_generate_content": true' 'gemini-*' generativelanguage.googleapis.com x-goog-api-key '"203.0.113.40/29"'
		echo '}, "grants": [ { "src": ["tag:box", "tag:strict", "tag:off", "tag:late", "tag:flood"], "app": { "sallyport/cap/llm": [ { "role": "user", "models": "**" } ] } } ],'
		printf '"egress": { "default": "assist", "tag:strict": "strict", "tag:off": "off"%s } }\n' "${1:-}"
	} > "$I_DIR/policy.new"
	chmod 644 "$I_DIR/policy.new"
	mv "$I_DIR/policy.new" "$I_DIR/policy.hujson"
}
force_policy
instance_start || { not_ok start "the daemon does not start"; exit 1; }

# ---------------------------------------------------------------- the self test, and the sandbox
is "the self test found every mode well" "$(sp force status --json | jq -r '[.tests[] | select(. != "ok")] | length')" 0
is "the forced path is on" "$(sp force status --json | jq .off)" 0
for b in box strict off flood; do
	box_enter "$b" sleep 600 &
	E_PIDS="$E_PIDS $!"
	sp label "/$I_NAME-$b" "tag:$b" > /dev/null || not_ok "label $b" "failed"
done
attack() { box_enter "$1" "$ATTACK" "${@:2}" 2>&1; }
box_has_door() { [ "$(sp ps --json | jq -r ".[] | select(.tags == [\"tag:$1\"]) | .doors")" -ge 1 ] 2> /dev/null; }
for b in box strict off flood; do wait_for 50 box_has_door "$b" || not_ok "door of $b" "none: $(sp ps)"; done
wait_for 80 bash -c "[ \$('$SALLYPORT' force status --json | jq .addresses) -ge 2 ]" || not_ok "addresses of names are known" "$(sp force status)"

# ---------------------------------------------------------------- the document
declared() { awk -F'|' -v n="$1" '$2 + 0 == n && $2 ~ /[0-9]/ { gsub(/[ *]/, "", $4); print $4; exit }' docs/THREAT-MODEL.md; }
# vector N NAME closed|limit HOW: against the document.
vector() {
	local want
	want=$(declared "$1")
	if [ "$want" = "$3" ]; then
		ok "vector $1 ($2): $3: $4"
	else
		not_ok "vector $1 ($2)" "it is $3 ($4), and docs/THREAT-MODEL.md says '${want:-nothing}'"
	fi
}
# Nothing may have left, and the attacker's answer is not the real site's.
verdict() { # ANSWER… -> closed or limit
	local n=$1 a
	shift
	[ "$n" = 0 ] || { echo limit; return; }
	for a in "$@"; do case $a in *"200 OK"*) echo limit; return ;; esac; done
	echo closed
}
try() { mark; T_GOT=$(attack "$@"); T_LEFT=$(left); }

# 1: by its address, which name servers tell; by one that they do not tell (strict sees the name)
try box tcp $P4 443; a=$T_GOT n=$T_LEFT
try strict tcp $UNLISTED 443; b=$T_GOT n=$((n + T_LEFT))
try box tcp $P4 8443; c=$T_GOT n=$((n + T_LEFT))
vector 1 "hard-coded address" "$(verdict "$n" "$a" "$b" "$c")" "address: $a; unlisted address, strict: $b; port 8443: $c; packets that left: $n"
has "the door answers a hard-coded address" "$a" "404"
try box tcp 203.0.113.44 443
has "a network of the policy leads too" "$T_GOT" "404"
# 2: names by other ways
try strict tcp 203.0.113.53 853; a=$T_GOT
vector 2 "DoH, DoT, other DNS ports" "$(case $a in refused*) verdict "$T_LEFT" "$a" ;; *) echo limit ;; esac)" "DNS over TLS, strict: $a; an address that DoH tells is met as vector 1"
# 3
try box udp $P4 443; a=$T_GOT n=$T_LEFT
try strict udp 203.0.113.99 443; b=$T_GOT; n=$((n + $(left 203.0.113.99)))
vector 3 "QUIC" "$(case $a$b in refused*refused*) verdict "$n" "$a" ;; *) echo limit ;; esac)" "UDP 443: $a; to others, strict: $b; packets that left: $n"
# 4
try box tcp $P6 443; a=$T_GOT n=$T_LEFT
try box tcp "::ffff:$P4" 443; b=$T_GOT n=$((n + T_LEFT))
try box tcp 64:ff9b::203.0.113.10 443; c=$T_GOT n=$((n + $(left 64:ff9b::cb00:710a) + T_LEFT))
try box tcp 2002:cb00:710a::1 443; d=$T_GOT n=$((n + $(left 2002:cb00:710a::1) + T_LEFT))
try box tcp6only $P6 443; e=$T_GOT n=$((n + T_LEFT))
vector 4 "IPv6, v4-mapped, NAT64, 6to4" "$(verdict "$n" "$a" "$b" "$c" "$d" "$e")" "v6: $a; mapped: $b; NAT64: $c; 6to4: $d; v6 only: $e; packets that left: $n"
# 5, 6, 11
try box fastopen $P4 443
vector 5 "TCP Fast Open" "$(verdict "$T_LEFT" "$T_GOT")" "$T_GOT; packets that left: $T_LEFT"
try box mptcp $P4 443; a=$T_GOT n=$T_LEFT
try strict mptcp $P4 443; b=$T_GOT n=$((n + T_LEFT))
vector 6 "MPTCP" "$(verdict "$n" "$a" "$b")" "assist: $a; strict: $b; packets that left: $n"
try box uring $P4 443
vector 11 "io_uring" "$(verdict "$T_LEFT" "$T_GOT")" "$T_GOT; packets that left: $T_LEFT"
# 7
try box raw:132 $P4 443; a=$T_GOT n=$T_LEFT
try box udplite $P4 443; b=$T_GOT n=$((n + T_LEFT))
try strict udplite $P4 443; c=$T_GOT n=$((n + T_LEFT))
try strict sctp $P4 443; d=$T_GOT n=$((n + T_LEFT))
vector 7 "SCTP, UDP-Lite" "$(verdict "$n" "$a" "$b")" "an SCTP packet: $a; UDP-Lite: $b; their sockets, strict: $c, $d; packets that left: $n"
# 8
try box raw:6 $P4 443; a=$T_GOT n=$T_LEFT
try strict raw:6 $P4 443; b=$T_GOT n=$((n + T_LEFT))
vector 8 "raw sockets" "$(verdict "$n" "$a")" "assist: $a; strict: $b; packets that left: $n"
# 9: sees neither connect nor the IP layer
try box packet:b0 $P4 443; a=$T_GOT n=$T_LEFT
b=$(box_enter box setpriv --bounding-set=-net_raw --inh-caps=-net_raw "$ATTACK" packet:b0 $P4 443 2>&1)
vector 9 "AF_PACKET" "$([ "$n" -gt 0 ] && echo limit || echo closed)" "with CAP_NET_RAW: $a, packets that left: $n; without it: $b"
has "without CAP_NET_RAW there is no packet socket" "$b" "refused EPERM"
# 10
try box vsock $P4 443
vector 10 "vsock and other families" limit "AF_VSOCK: $T_GOT; its host side is not ours to watch"
# 12: a socket of somebody outside; one that is older than the label
mark
a=$(nsenter --net="/run/netns/$I_NAME-box" "$ATTACK" send $P4 443 api.anthropic.com bash -c 'echo $$ > '"$I_CGROOT/$I_NAME-box/cgroup.procs"'; exec "$0" receive '"$P4 443" "$ATTACK" 2>&1)
n=$(left)
vector 12 "a socket from outside the sandbox" "$(case $a in *"200 OK"*) echo limit ;; *) verdict "$n" "$a" ;; esac)" "handed in by a process that is in no sandbox: $a; packets that left: $n"
# 13
box_enter late "$ATTACK" held:2 $P4 443 > "$I_DIR/held" 2>&1 &
E_PIDS="$E_PIDS $!"
wait_for 30 grep -q connected "$I_DIR/held"
sp label "/$I_NAME-late" tag:late > /dev/null
sleep 0.3
mark
wait_for 80 grep -qE 'answered|refused|silent|closed' "$I_DIR/held"
a=$(tail -n 1 "$I_DIR/held") n=$(left)
vector 13 "connections older than the label" "$(verdict "$n" "$a")" "$a; packets that left afterwards: $n"
# 14: as an ordinary user there is no other cgroup to go to
a=$(box_enter box setpriv --reuid=65534 --regid=65534 --clear-groups bash -c "echo \$\$ > $I_CGROOT/$I_NAME-out/cgroup.procs" 2>&1)
vector 14 "moving to another cgroup" "$(case $a in *"ermission denied"*) echo closed ;; *) echo limit ;; esac)" "as an ordinary user: $(short "$a")"
# 15
mkdir -p "$I_CGROOT/$I_NAME-box/below"
mark
a=$(bash -c 'echo $$ > "$0" && exec "$@"' "$I_CGROOT/$I_NAME-box/below/cgroup.procs" nsenter --net="/run/netns/$I_NAME-box" "$ATTACK" tcp $P4 443 2>&1)
vector 15 "cgroups below" "$(verdict "$(left)" "$a")" "$a"
# 16
try box netns $P4 443
vector 16 "a network namespace of its own" "$(verdict "$T_LEFT" "$T_GOT")" "$T_GOT; packets that left: $T_LEFT"
# 17, 18, 23, 27: outside what a program on a cgroup can see
vector 17 "relays, docker.sock, tunnels" limit "whoever outside the sandbox lends its own connection is not led; stated"
vector 18 "nsenter, ptrace, escape" limit "host security; stated"
vector 23 "injection in a shared network namespace" limit "the unit of trust is the network namespace; tests/bpf holds what does hold"
vector 27 "CAP_NET_ADMIN in the sandbox" limit "what its namespace forwards belongs to no socket; stated"
# 19
a=$(box_enter box unshare -Ur "$ATTACK" bpf $P4 443 2>&1)
vector 19 "loading or detaching programs" "$(case $a in refused*) echo closed ;; *) echo limit ;; esac)" "as root of its own user namespace: $a"
# 20
setfattr -n user.sallyport -v tag:admin "$I_CGROOT/$I_NAME-box" 2> /dev/null
vector 20 "a label written on the cgroup" "$(case $(sp ps --json | jq -r ".[] | select(.cgroup == \"/$I_NAME-box\") | .tags[]") in tag:box) echo closed ;; *) echo limit ;; esac)" "attributes of the cgroup name nobody"
# 21: the first thing a child of a watched parent does
mkdir "$I_CGROOT/$I_NAME-watched/early"
mark
a=$(bash -c 'echo $$ > "$0" && exec "$@"' "$I_CGROOT/$I_NAME-watched/early/cgroup.procs" nsenter --net="/run/netns/$I_NAME-box" "$ATTACK" tcp $P4 443 2>&1)
vector 21 "the start race" "$(verdict "$(left)" "$a")" "before its label: $a"
# 22
a=$(nsenter --net="/run/netns/$I_NAME-box" "$ATTACK" tcp 127.0.0.1 "$I_PORT" 2>&1)
vector 22 "a connection without a stamp" "$(case $a in *403*) echo closed ;; *) echo limit ;; esac)" "$a"
# 24: one floods, another is served
box_enter flood "$ATTACK" idle:3000 $P4 443 > "$I_DIR/flood" 2>&1 &
E_PIDS="$E_PIDS $!"
sleep 0.5
try box tcp $P4 443
vector 24 "a flood of connections" "$(verdict "$T_LEFT" "$T_GOT")" "another sandbox meanwhile: $T_GOT"
has "the flood does not hinder another sandbox" "$T_GOT" "404"
# 25
a=$(at box cat /proc/sys/net/core/optmem_max)
at box sh -c 'echo 0 > /proc/sys/net/core/optmem_max'
try box tcp $P4 443
at box sh -c "echo $a > /proc/sys/net/core/optmem_max"
vector 25 "no memory for a stamp" "$(verdict "$T_LEFT" "$T_GOT")" "net.core.optmem_max 0: $T_GOT"
# 26
a=$(at box "$ATTACK" tcp 127.0.0.1 $((I_PORT + 1)) 2>&1)
vector 26 "somebody else on the door's port" closed "the port cannot be shared; tests/bpf/test_gate taken_port_moves_the_door: the door is at the next one"
# 28
try box device:b0 $P4 443; a=$T_GOT n=$T_LEFT
try box repair $P4 443; b=$T_GOT n=$((n + T_LEFT))
vector 28 "TCP_REPAIR, SO_BINDTODEVICE" "$(verdict "$n" "$a" "$b")" "bound to the interface: $a; repair: $b; packets that left: $n"
# 29
mark
a=$(box_enter strict "$ATTACK" send $P4 443 api.anthropic.com bash -c 'echo $$ > '"$I_CGROOT/$I_NAME-box/cgroup.procs"'; exec "$0" receive '"$P4 443" "$ATTACK" 2>&1)
vector 29 "a socket of another sandbox" "$(verdict "$(left)" "$a")" "$a, on the account of the sandbox that made the socket"

# ---------------------------------------------------------------- events, break-glass, modes while it runs
sleep 1
events=$(rows log --events --limit 2000)
has "events tell what was led, by process, name and address" "$events" "was led to the door"
has "events name the provider" "$events" "api.anthropic.com"
has "events tell of packets" "$events" "was dropped"
sp force off > /dev/null
try box tcp $P4 80
has "force off: the operator's break-glass lets go" "$T_GOT" "200"
sp force on > /dev/null
try box tcp $P4 443
has "force on: led again" "$T_GOT" "404"
force_policy ', "tag:box": "observe"'
sp policy reload > /dev/null
try box tcp $P4 80
has "observe, changed while it runs: let go" "$T_GOT" "200"
sleep 1
has "observe: and told" "$(rows log --events --limit 2000)" "was let go (observe)"
exit "$E_FAILED"
