#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What people really run, each in a labelled cgroup of `sallyport run`, with an empty home and an empty environment:
#
#   claude, codex, gemini, opencode, the SDKs --> door --> gateway --> aimock (npm), which plays the providers
#
#   tag:works    granted: it is answered, its shell call is run and seen, its usage has a row
#   tag:denied   no grant: it stops at once and shows our sentence
#   tag:spent    a quota for good, empty: the same
#   tag:waits    a quota that refills, empty: the same
#   tag:unknown  granted, but asks for a model that nobody serves: the same
#
# What is measured stands in docs/CLIENTS.md; the table is printed as comments. CLIENTS="claude codex" runs only some.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/npm.bash"
E_NAME=clients
if npm_missing; then skip_all "$NPM_WHY"; fi

e2e_init clients 21717
UP=$(free_port 22617)
E_QUOTAS='"quotas": { "spent": { "capacity": "$0.00" }, "waits": { "capacity": "1 requests", "rate": "1 requests/day" } },'
write_policy
grants='s|"src": \["tag:e2e"\], "app".*|"src": ["tag:works", "tag:unknown"], "app": {"sallyport/cap/llm": [{"role":"user","models":"**"}]} }, { "src": ["tag:spent"], "app": {"sallyport/cap/llm": [{"role":"user","models":"**","quotas":[{"bucket":"spent"}]}]} }, { "src": ["tag:waits"], "app": {"sallyport/cap/llm": [{"role":"user","models":"**","quotas":[{"bucket":"waits"}]}]} } ],|'
sed -i "$grants" "$I_DIR/policy.hujson"
instance_config '"workers": 2, "docker": "",'
"${MOCK[@]}" "$UP" > "$I_DIR/aimock.log" 2>&1 &
E_PIDS="$E_PIDS $!"
yes "aimock" wait_for 100 bash -c "exec 3<>/dev/tcp/127.0.0.1/$UP"
instance_start || { not_ok start "the daemon does not serve"; exit 1; }
ok start
# The one request that tag:waits has.
sp run --tag tag:waits -- "$TESTS/e2e/http" -d "$(body_of anthropic false hi)" "$BASE/v1/messages" > /dev/null

# ---------------------------------------------------------------- one client
home_of() {
	client_home "$1"
	sp env --format codex > "$1/.codex/config.toml" 2> /dev/null
	sp env --format opencode > "$1/project/opencode.json" 2> /dev/null
}
# run_client NAME TAG LIMIT: output in $I_DIR/NAME.TAG.out; its exit status and time in $RC and $TOOK.
run_client() {
	local home=$I_DIR/home.$1.$2 begun GENAI_VERSION=
	home_of "$home"
	[ "$2" != works ] || GENAI_VERSION=v1beta
	client_command "$1" $([ "$2" != unknown ] || echo no-such-model)
	begun=$(date +%s%N)
	(cd "$home/project" && env -i PATH="$(dirname "$NODE"):$BIN:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" HOME="$home" TMPDIR="$home" TERM=dumb \
		LANG=C.UTF-8 CI=1 SALLYPORT_CONFIG="$I_CONFIG" DISABLE_AUTOUPDATER=1 DISABLE_TELEMETRY=1 DISABLE_ERROR_REPORTING=1 \
		CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 OPENCODE_DISABLE_AUTOUPDATE=1 OPENCODE_DISABLE_MODELS_FETCH=1 \
		OPENCODE_DISABLE_LSP_DOWNLOAD=1 GEMINI_CLI_TRUST_WORKSPACE=true \
		timeout -k 5 "$3" "$SALLYPORT" run --tag "tag:$2" --name "$1" -- "${COMMAND[@]}") > "$I_DIR/$1.$2.out" 2>&1 < /dev/null
	RC=$?
	TOOK=$((($(date +%s%N) - begun) / 1000000))
}
# Requests of this client under this tag so far: refused ones count, however often they were repeated.
asked_by() { rows log --tag "tag:$2" --limit 1000 | jq --arg c "/$1-[0-9]+$" '[.[] | select((.cgroup // "") | test($c)) | select(.format != "none") | .count // 1] | add // 0'; }

declare -A rc took
clients=${CLIENTS:-claude codex gemini opencode opencode-openai sdk-anthropic sdk-chat sdk-responses sdk-genai}
situations_of() {
	# OpenCode has a list of models of its own and does not even ask for another one.
	case $1 in opencode*) echo denied spent waits ;; *) echo denied spent waits unknown ;; esac
}
for client in $clients; do
	for tag in works $(situations_of "$client"); do
		run_client "$client" "$tag" $([ "$tag" = works ] && echo 90 || echo 40)
		rc[$client.$tag]=$RC took[$client.$tag]=$TOOK
	done
done
# Refusals that repeat are one row with a count, written some seconds after the last of them.
REPEATS_S=12
sleep $REPEATS_S

# ---------------------------------------------------------------- what came of it
works() { # CLIENT
	local client=$1 out calls ran tokens of='select((.cgroup // "") | test($c))'
	out=$(cat "$I_DIR/$client.works.out")
	case $client in
	sdk-*) has "$client is answered" "$out" "call bash" ;;
	*) has "$client is answered" "$out" "e2e-answer" ;;
	esac
	is "$client ends well" "${rc[$client.works]}" 0
	[ "$(asked_by "$client" works)" -ge 1 ] && ok "$client has rows of usage" || not_ok "$client has rows of usage" "none"
	calls=$(rows tools --tag tag:works --limit 1000 | jq -c --arg c "/$client-[0-9]+$" "[.[] | $of | select(.kind == \"shell\")]")
	has "$client: the shell command is seen" "$(jq -r '[.[].summary] | join(" ")' <<< "$calls")" "echo sallyport-e2e"
	ran=$(jq -r '[.[].result] | join(",")' <<< "$calls")
	case $client:$ran in
	sdk-*) ;;
	*) has "$client: and that it ran" "$ran" "ok" ;;
	esac
	tokens=$(rows log --tag tag:works --limit 1000 | jq --arg c "/$client-[0-9]+$" "[.[] | $of | .output // 0 | select(. > 0)] | add // 0")
	[ "$tokens" -gt 0 ] && ok "$client: tokens are counted" || not_ok "$client: tokens are counted" "$tokens"
}
refused() { # CLIENT TAG
	local name="$1, $2" n out shown=no
	n=$(asked_by "$1" "$2")
	out=$(cat "$I_DIR/$1.$2.out")
	case $out in *Sallyport:*) shown=yes ;; esac
	if [ "$n" -ge 1 ] && [ "$n" -le 2 ]; then ok "$name: stops at once ($n)"; else not_ok "$name: stops at once" "$n requests: $(short "$out")"; fi
	if [ "$1:$2" = claude:unknown ]; then
		# It has a text of its own for a 404.
		has "$name: it is told" "$out" "issue with the selected model"
		shown=own
	else
		is "$name: our sentence is shown" "$shown" yes
	fi
	if [ "${rc[$1.$2]}" = 124 ]; then not_ok "$name: ends" "not within 40 s"; else ok "$name: ends"; fi
	line=$line$(printf ' %2s %4s s %-4s|' "$n" "$(seconds "${took[$1.$2]}")" "$shown")
}
seconds() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }
table="# client          | works       | denied      | spent       | waits       | no such model   (requests, seconds, our sentence)"
for client in $clients; do
	works "$client"
	line=$(printf '# %-15s | %2s %4s s    |' "$client" "$(asked_by "$client" works)" "$(seconds "${took[$client.works]}")")
	for tag in $(situations_of "$client"); do refused "$client" "$tag"; done
	table=$table$'\n'$line
done
printf '%s\n' "$table"

[ -z "${E2E_KEEP:-}" ] || http -X GET -o "$I_DIR/journal.json" "http://127.0.0.1:$UP/__aimock/journal?limit=1000" > /dev/null

found=$(grep -rlaF "$KEY_TEXT" "$I_DIR" 2> /dev/null | grep -vE '/(key)$|/aimock.log$')
is "the key: not in any client's files, not in ours" "$found" ""
exit $E_FAILED
