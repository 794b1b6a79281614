#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Containers of a Docker engine of this test's own:
#
#   dockerd (own data, exec root, socket; cgroup parent …-watched) -- asked by the daemon for names and labels
#     c1  --network=none  sallyport.tags=tag:e2e    --> door in its namespace --> gateway --> practice provider
#     c2  --network=none  no label                  --> refused with our sentence, one event
#     c3  --network=host  sallyport.tags=tag:e2e    --> the host's door
#     c4  bridge          sallyport.tags=tag:e2e    --> door in its namespace (where the engine can make a bridge)
#
# The image is a busybox and our practice agent.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/engine.bash"
E_NAME=docker
engine_need
BUSYBOX=$(command -v busybox) || skip_all "no busybox is installed here"
e2e_init docker 21917
UP=$(free_port 22817)
provider provider "$UP"
write_policy '"labels": [ { "match": { "docker_label": "sallyport.tags" }, "tags_from": "value" } ],'

# ---------------------------------------------------------------- the engine
D_BRIDGE=
d_clean() {
	local rc=$? # which e2e_clean ends with
	engine_clean
	[ -z "$D_BRIDGE" ] || ip link del "$D_BRIDGE" 2> /dev/null
	(exit $rc)
	e2e_clean
}
trap d_clean EXIT
BRIDGE_WHY="the engine cannot make a bridge here"
name=spd$(($$ % 100000))
if ip link add "$name" type bridge 2> "$I_DIR/bridge.err" && ip addr add 198.18.$(($$ % 250)).1/24 dev "$name" 2>> "$I_DIR/bridge.err"; then
	ip link set "$name" up
	D_BRIDGE=$name
	engine --bridge="$name" --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false || {
		BRIDGE_WHY="the engine does not start with a bridge: $(tail -n 1 "$I_DIR/docker.log")"
		ip link del "$name"
		D_BRIDGE=
	}
else
	BRIDGE_WHY="no bridge can be made here: $(tail -n 1 "$I_DIR/bridge.err")"
	ip link del "$name" 2> /dev/null
fi
[ -n "$D_PID" ] || engine --bridge=none --iptables=false --ip6tables=false || {
	why=$(tail -n 1 "$I_DIR/docker.log")
	skip_all "dockerd does not start here: $why"
}
ok "engine"

# ---------------------------------------------------------------- the image
mkdir -p "$I_DIR/root/bin" "$I_DIR/root/tmp"
cp "$BUSYBOX" "$I_DIR/root/bin/busybox"
for x in sh sleep cat env; do ln -s busybox "$I_DIR/root/bin/$x"; done
cp "$TESTS/practice/agent" "$I_DIR/root/bin/agent"
# What these programs load: libraries and loader, at their own paths.
for binary in "$TESTS/practice/agent" "$BUSYBOX"; do
	ldd "$binary" 2> /dev/null | grep -o '/[^ )]*' | sort -u | while read -r lib; do
		mkdir -p "$I_DIR/root$(dirname "$lib")"
		cp -L "$lib" "$I_DIR/root$lib"
	done
done
tar -C "$I_DIR/root" -c . | docker import - sallyport-e2e > "$I_DIR/import.log" 2>&1 || { not_ok "image" "$(tail -n 1 "$I_DIR/import.log")"; exit 1; }
ok "image"

instance_config '"workers": 2, "docker": "'"$I_DIR"'/docker.sock",'
instance_start || { not_ok start "the daemon does not serve"; exit 1; }
ok start
# container NAME OPTION… -- COMMAND…
container() {
	local name=$1 options=()
	shift
	while [ "$1" != -- ]; do options+=("$1"); shift; done
	shift
	timeout 60 docker run --rm --name "$I_NAME-$name" -e ANTHROPIC_BASE_URL="$BASE" -e ANTHROPIC_API_KEY=- "${options[@]}" sallyport-e2e "$@" 2>&1
}

out=$(container c1 --network=none --label sallyport.tags=tag:e2e -- agent "run: make none")
has "no network, a label: it is answered" "$out" "would run: make none"
has "to its end" "$out" "That worked"
wait_for 50 ledger_reaches 2
has "usage: tags and container" "$(rows usage --by container | jq -c '[.[].container]')" "$I_NAME-c1"
has "tools: the command" "$(rows tools | jq -r '.[].summary')" "make none"

out=$(container c2 --network=none -- agent "run: make unlabelled")
has "no network, no label: refused" "$out" "refused (403)"
has "with our sentence" "$out" "Sallyport: this sandbox has no label"
denied() { rows log --events --limit 1000 | jq '[.[] | select(.kind | test("unlabelled|unstamped|denied"))] | length'; }
event_seen() { [ "$(denied)" -ge 1 ]; }
wait_for 50 event_seen
is "one event" "$(denied)" 1
hasnt "the provider was not asked" "$(cat "$I_DIR/provider.log")" "unlabelled"

# The host's door is open for others too, so it cannot wait until the engine has told this container's labels: its
# first moments are refused.
out=$(container c3 --network=host --label sallyport.tags=tag:e2e -- sh -c 'for i in 1 2 3 4 5 6 7 8 9; do agent "run: make host" && exit 0; sleep 0.3; done')
has "the host's network, a label: it is answered" "$out" "would run: make host"
out=$(container c4 --network=host -- agent "run: make host")
has "the host's network, no label: refused" "$out" "refused (403)"

if [ -n "$D_BRIDGE" ]; then
	out=$(container c5 --label sallyport.tags=tag:e2e -- agent "run: make bridge")
	has "a bridge, a label: it is answered" "$out" "would run: make bridge"
	out=$(container c6 -- agent "run: make bridge")
	has "a bridge, no label: refused" "$out" "refused (403)"
else
	skip "a bridge" "$BRIDGE_WHY"
fi

# By hand, and joined namespaces: each container is its own cgroup, whatever network it shares.
timeout 30 docker run -d --name "$I_NAME-named" --network=none sallyport-e2e sleep 600 > /dev/null
yes "label docker:NAME" sp label "docker:$I_NAME-named" tag:e2e
out=$(timeout 30 docker exec -e ANTHROPIC_BASE_URL="$BASE" "$I_NAME-named" agent "run: make exec" 2>&1)
has "exec in it is answered" "$out" "would run: make exec"
out=$(container c7 --network="container:$I_NAME-named" -- agent "run: make joined")
has "another one in its namespace, no label: refused" "$out" "refused (403)"
yes "unlabel docker:NAME" sp unlabel "docker:$I_NAME-named"
out=$(timeout 30 docker exec -e ANTHROPIC_BASE_URL="$BASE" "$I_NAME-named" agent "run: make exec" 2>&1)
has "without its label: refused" "$out" "refused (403)"
out=$(timeout 30 docker exec "$I_NAME-named" env 2>&1)
hasnt "no key in a container" "$out$(docker inspect "$I_NAME-named")" "$KEY_TEXT"
exit $E_FAILED
