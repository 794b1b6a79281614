#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Clients without a base URL, in containers on an engine's own bridge: each dials its provider's name, and is answered
# through the gateway. Engine, bridge, daemon and provider live in the small Internet of tests/e2e/world.bash:
#
#   NAME-host   docker0 172.30.0.1 ── containers (sallyport.tags=tag:direct), one for each client
#               daemon ──> 127.0.0.1:$UP, aimock (npm), which plays the providers and refuses every key but the real one;
#               the practice provider where there is no npm
#        │
#   NAME-world  the real api.anthropic.com, api.openai.com, generativelanguage.googleapis.com: no packet may get there
#
# The image is links and /etc; the host's /usr and the npm clients are mounted read-only. The CA comes as
# `sallyport env --format docker-ca` says. What is measured stands in docs/CLIENTS.md.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/world.bash"
. "$(dirname "$0")/engine.bash"
. "$(dirname "$0")/npm.bash"
E_NAME=direct
world_need
engine_need
command -v iptables > /dev/null || skip_all "no iptables is installed here, which the engine's bridge needs"
NO_NPM=
if npm_missing; then NO_NPM=$NPM_WHY; fi
e2e_init direct 21817
UP=$(free_port 22717)
trap 'rc=$?; engine_clean; world_clean; (exit $rc); e2e_clean' EXIT
W_FILE_BYTES=1024
world_make
I_IN="nsenter --net=/run/netns/$I_NAME-host"
D_IN=$I_IN
I_FORCE=', "resolvers": ["203.0.113.53"]'

# ---------------------------------------------------------------- provider, engine, image, daemon
if [ -z "$NO_NPM" ]; then
	server host env AIMOCK_API_KEYS="$KEY_TEXT" "${MOCK[@]}" "$UP" > "$I_DIR/mock.log" 2>&1
else
	server host "$TESTS/practice/provider" "$UP" --key-file "$I_DIR/key" --log "$I_DIR/provider.log" 2> "$I_DIR/provider.err"
fi
wait_for 100 at host bash -c "exec 3<>/dev/tcp/127.0.0.1/$UP" || die "the provider does not listen"
body() { body_of "$@" "run: echo sallyport-e2e" | sed "s/}\$/,$(tools_of "$1")}/"; }
tools_of() {
	local schema='{"type":"object","properties":{"command":{"type":"string"}}}'
	case $1 in
	anthropic) printf '"tools":[{"name":"bash","input_schema":%s}]' "$schema" ;;
	chat) printf '"tools":[{"type":"function","function":{"name":"bash","parameters":%s}}]' "$schema" ;;
	gemini) printf '"tools":[{"functionDeclarations":[{"name":"bash","parameters":%s}]}]' "$schema" ;;
	esac
}
is "the provider refuses the key of a sandbox" "$(at host curl -sS -m 10 -o /dev/null -w '%{http_code}' -H 'x-api-key: -' -H 'content-type: application/json' \
	-d "$(body anthropic false)" "http://127.0.0.1:$UP/v1/messages")" 401
engine --bip 172.30.0.1/24 --dns 203.0.113.53 || skip_all "dockerd does not start here: $(tail -n 1 "$I_DIR/docker.log")"
ok engine
server host "$TESTS/e2e/sniff" docker0 > "$I_DIR/bridge.log"
W_SNIFF=$I_DIR/bridge.log
wait_for 20 grep -q ready "$W_SNIFF"

mkdir -p "$I_DIR/root/"{usr,tmp,root,etc/ssl/certs,proc,sys,dev}
for x in bin sbin lib lib32 lib64 libx32; do [ ! -L "/$x" ] || cp -P "/$x" "$I_DIR/root/$x"; done
cp -rL /etc/passwd /etc/group /etc/nsswitch.conf /etc/ld.so.cache "$I_DIR/root/etc/"
[ ! -d /etc/alternatives ] || cp -rP /etc/alternatives "$I_DIR/root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$I_DIR/root/etc/ssl/certs/"
tar -C "$I_DIR/root" -c . | docker import - sallyport-direct > "$I_DIR/import.log" 2>&1 || { not_ok "image" "$(tail -n 1 "$I_DIR/import.log")"; exit 1; }
ok image

instance_config '"workers": 2, "docker": "'"$I_DIR"'/docker.sock",'
provider_json() { # NAME FORMATS MODELS DOMAIN AUTHORIZATION
	printf '"%s": { "baseurl": "http://127.0.0.1:%s", "apikey": "file:%s/key", "authorization": "%s", "compatibility": { %s }, "models": ["%s"], "domains": ["%s"] },\n' \
		"$1" "$UP" "$I_DIR" "$5" "$2" "$3" "$4"
}
{
	echo '{ "providers": {'
	provider_json anthropic '"anthropic_messages": true' 'claude-*' api.anthropic.com x-api-key
	provider_json openai '"openai_chat": true, "openai_responses": true' 'gpt-*' api.openai.com bearer
	provider_json google '"gemini_generate_content": true' 'gemini-*' generativelanguage.googleapis.com x-goog-api-key
	echo '}, "labels": [ { "match": { "docker_label": "sallyport.tags" }, "tags_from": "value" } ],
		"grants": [ { "src": ["tag:direct"], "app": { "sallyport/cap/llm": [ { "role": "user", "models": "**" } ] } } ],
		"egress": { "default": "assist" } }'
} > "$I_DIR/policy.hujson"
instance_start || { not_ok start "the daemon does not serve"; exit 1; }
ok start
wait_for 50 test -s "$I_DIR/run/ca/bundle.pem" || not_ok "a CA is made" "$(ls -l "$I_DIR/run/ca" 2>&1)"
mapfile -t CA < <(sp env --format docker-ca | tr ' ' '\n')
[ ${#CA[@]} -gt 2 ] || not_ok "env --format docker-ca" "it printed '${CA[*]}'"

# ---------------------------------------------------------------- one client
# contained NAME OPTION… -- COMMAND…: its container stays, to be looked at. Status and milliseconds are in $RC and $TOOK.
contained() {
	local name=$1 options=() home=$I_DIR/home.$1 begun
	shift
	while [ "$1" != -- ]; do options+=("$1"); shift; done
	shift
	[ -n "$NO_NPM" ] || options+=(-v "$NPM:$NPM:ro")
	client_home "$home"
	printf '{ "OPENAI_API_KEY": "-" }\n' > "$home/.codex/auth.json"
	begun=$(date +%s%N)
	timeout -k 5 "${LIMIT_S:-90}" docker run --name "$I_NAME-$name" --label sallyport.tags=tag:direct -v /usr:/usr:ro -v "$home:$home" -w "$home/project" \
		-v "$I_DIR/bodies:$I_DIR/bodies:ro" -e HOME="$home" -e PATH="${NODE:+$(dirname "$NODE"):$BIN:}/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
		-e TERM=dumb -e LANG=C.UTF-8 -e CI=1 -e DISABLE_AUTOUPDATER=1 -e GEMINI_CLI_TRUST_WORKSPACE=true \
		"${options[@]}" sallyport-direct "$@" > "$I_DIR/$name.out" 2>&1 < /dev/null
	RC=$?
	TOOK=$((($(date +%s%N) - begun) / 1000000))
}
mkdir -p "$I_DIR/bodies"
for f in anthropic chat gemini; do body $f false > "$I_DIR/bodies/$f"; done
cat > "$I_DIR/bodies/ask.py" <<'END_PY'
import sys, urllib.request
r = urllib.request.Request(sys.argv[1], open(sys.argv[2], "rb").read(), {"content-type": "application/json", "authorization": "Bearer -"})
print(urllib.request.urlopen(r, timeout=30).read().decode())
END_PY
mkdir -p "$I_DIR/go"
cat > "$I_DIR/go/main.go" <<'END_GO'
package main

import ("fmt"; "io"; "net/http"; "os")

func main() {
	body, _ := os.Open(os.Args[2])
	req, _ := http.NewRequest("POST", os.Args[1], body)
	req.Header.Set("content-type", "application/json")
	req.Header.Set("x-goog-api-key", "-")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	io.Copy(os.Stdout, res.Body)
	fmt.Println(res.Proto)
}
END_GO
CURL=(curl -sS -m 30 -H 'content-type: application/json' -H 'anthropic-version: 2023-06-01' -H 'x-api-key: -' --data-binary "@$I_DIR/bodies/anthropic" https://api.anthropic.com/v1/messages)
ran=
declare -A took
# direct NAME EXPECTED OPTION… -- COMMAND…
direct() {
	local name=$1 expected=$2 out
	shift 2
	contained "$name" "${CA[@]}" "$@"
	took[$name]=$TOOK
	ran="$ran $name"
	out=$(cat "$I_DIR/$name.out")
	has "$name is answered" "$out" "$expected"
	is "$name ends well" "$RC" 0
}
mark
direct curl sallyport-e2e -- "${CURL[@]}"
if [ -x /usr/bin/python3 ]; then
	direct python sallyport-e2e -- /usr/bin/python3 "$I_DIR/bodies/ask.py" https://api.openai.com/v1/chat/completions "$I_DIR/bodies/chat"
else
	skip python "/usr/bin/python3 is not installed"
fi
if ! command -v go > /dev/null; then
	skip go "it is not installed here"
elif (cd "$I_DIR/go" && GOCACHE="$I_DIR/go/cache" GO111MODULE=off CGO_ENABLED=0 GOFLAGS= go build -o "$I_DIR/bodies/ask" main.go) > "$I_DIR/go.log" 2>&1; then
	direct go sallyport-e2e -- "$I_DIR/bodies/ask" https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent "$I_DIR/bodies/gemini"
else
	not_ok go "$(tail -n 1 "$I_DIR/go.log")"
fi
if [ -n "$NO_NPM" ]; then
	skip "npm clients" "$NO_NPM"
else
	for client in ${CLIENTS:-claude codex gemini sdk-anthropic sdk-chat sdk-responses sdk-genai}; do
		expected=e2e-answer
		case $client in
		claude) keys=(-e ANTHROPIC_AUTH_TOKEN=-) ;;
		sdk-anthropic) keys=(-e ANTHROPIC_API_KEY=-) expected="call bash" ;;
		codex) keys=() ;; # its auth.json
		gemini) keys=(-e GEMINI_API_KEY=-) ;;
		sdk-genai) keys=(-e GEMINI_API_KEY=-) expected="call bash" ;;
		*) keys=(-e OPENAI_API_KEY=-) expected="call bash" ;;
		esac
		client_command "$client"
		direct "$client" "$expected" "${keys[@]}" -- "${COMMAND[@]}"
	done
fi

# ---------------------------------------------------------------- what came of it
requests_of() { rows log --tag tag:direct --limit 1000 | jq -c --arg c "$I_NAME-$1" '[.[] | select(.container == $c)]'; }
recorded() { [ "$(requests_of "$1" | jq '[.[] | select(.outcome == "ok" and .http_status == 200)] | length')" -ge 1 ]; }
table="# client         requests  others   seconds"
for name in $ran; do
	wait_for 50 recorded "$name"
	log=$(requests_of "$name")
	n=$(jq '[.[] | select(.outcome == "ok" and .format != "none")] | length' <<< "$log")
	[ "$n" -ge 1 ] && ok "$name: its requests are its container's ($n)" || not_ok "$name: its requests are its container's" "$log"
	is "$name: the record says that it was led here" "$(jq '[.[] | select(.forced | not)] | length' <<< "$log")" 0
	is "$name: its tag" "$(jq -r '[.[].tags] | flatten | unique | join(",")' <<< "$log")" tag:direct
	cgroup=$(jq -r '.[0].cgroup' <<< "$log")
	has "$name: its cgroup" "$cgroup" "/$I_NAME-watched/"
	has "$name: usage" "$(rows usage --by container | jq -r '.[].container')" "$I_NAME-$name"
	has "$name: the shell command" "$(rows tools --kind shell --cgroup "$cgroup" | jq -r '.[].summary')" "echo sallyport-e2e"
	table=$table$'\n'$(printf '# %-15s %7s %7s %7s.%s' "$name" "$n" "$(jq --argjson n "$n" '([.[].count // 1] | add // 0) - $n' <<< "$log")" $((took[$name] / 1000)) $((took[$name] % 1000 / 100)))
	found=$(docker export "$I_NAME-$name" | grep -c "$KEY_TEXT")$(docker inspect "$I_NAME-$name" | grep -c "$KEY_TEXT")$(grep -rlF "$KEY_TEXT" "$I_DIR/home.$name" "$I_DIR/$name.out" | wc -l)
	is "$name: nothing of the key in the container" "$found" 000
done
is "not one packet to a provider left the bridge" "$(left)" 0
printf '%s\n' "$table"

# ---------------------------------------------------------------- without the CA
hasnt "status: nobody has refused the CA" "$(sp status)" "in the last hour"
contained stranger -- "${CURL[@]}"
has "a client without the CA: a TLS error" "$(cat "$I_DIR/stranger.out")" certificate
is "and it fails" "$([ "$RC" = 0 ] && echo answered)" ""
untrusted() { rows log --events --limit 1000 | jq -r '.[] | select(.kind == "ca-untrusted") | .text + " " + .tags[0]'; }
untrusted_told() { [ -n "$(untrusted)" ]; }
wait_for 50 untrusted_told
CURE="give it the base URL http://127.0.0.1:$I_PORT, or give its sandbox the CA"
has "log: an event with the cure" "$(untrusted)" "for api.anthropic.com: $CURE"
has "log: and whose it was" "$(untrusted)" tag:direct
has "status: the cure" "$(sp status)" "refused 1 time in the last hour, the newest by /$I_NAME-watched/"
has "status --json" "$(sp status --json | jq -r '"\(.ca_untrusted) \(.ca_untrusted_last)"')" "$CURE"
has "doctor: the cure" "$(sp doctor --json | jq -r '.[] | select(.what == "CA") | .state + " " + .text')" "$CURE"
is "no packet of it left either" "$(left)" 0

# ---------------------------------------------------------------- sallyport run, its client without the base URL
W_SNIFF=$I_DIR/sniff.log
mark
run_direct() { # NAME COMMAND…
	local home=$I_DIR/home.run-$1
	client_home "$home"
	(cd "$home/project" && at box unshare -m sh -c 'mount --make-rprivate / && mount --bind "$0" /etc/resolv.conf && exec "$@"' "$I_DIR/resolv.conf" \
		env -i PATH="${NODE:+$(dirname "$NODE"):$BIN:}/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" HOME="$home" TERM=dumb LANG=C.UTF-8 CI=1 \
		SALLYPORT_CONFIG="$I_CONFIG" DISABLE_AUTOUPDATER=1 timeout -k 5 90 "$SALLYPORT" run --tag tag:direct --name "run-$1" -- \
		env -u ANTHROPIC_BASE_URL "${@:2}") > "$I_DIR/run-$1.out" 2>&1 < /dev/null
}
run_recorded() { [ "$(rows log --tag tag:direct --limit 1000 | jq -r --arg c "/run-$1-[0-9]+\$" '[.[] | select(.cgroup | test($c)) | select(.forced and .outcome == "ok")] | length')" -ge 1 ]; }
run_check() { # NAME EXPECTED
	has "sallyport run, $1 without a base URL: it is answered" "$(cat "$I_DIR/run-$1.out")" "$2"
	if wait_for 50 run_recorded "$1"; then ok "sallyport run, $1: it was led here"; else not_ok "sallyport run, $1: it was led here" "$(rows log --limit 3)"; fi
}
run_direct curl "${CURL[@]}"
run_check curl sallyport-e2e
if [ -z "$NO_NPM" ]; then
	client_command claude
	run_direct claude "${COMMAND[@]}"
	run_check claude e2e-answer
fi
is "sallyport run: no packet to a provider" "$(left)" 0

# ---------------------------------------------------------------- what the numbers above are worth
W_SNIFF=$I_DIR/bridge.log
mark
sp force off > /dev/null
contained off -- curl -sS -k -m 20 https://api.anthropic.com/
is "with the forced path off it reaches the real one" "$(cat "$I_DIR/off.out")" "the real one"
[ "$(left)" -gt 0 ] && ok "and its packets are seen on the bridge" || not_ok "and its packets are seen on the bridge" "none"
exit $E_FAILED
