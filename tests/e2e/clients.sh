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
#
# Versions are pinned in tests/e2e/clients/package.json; they are installed into build/npm once. What is measured
# stands in docs/CLIENTS.md; the table is printed as comments. CLIENTS="claude codex" runs only some.
. "$(dirname "$0")/common.bash"
E_NAME=clients
HERE=$PWD/tests/e2e/clients
NPM=$PWD/build/npm
NODE_NEEDED=22
[ -n "${SALLYPORT_TEST_NPM-1}" ] || skip_all "--no-npm was given"

# ---------------------------------------------------------------- node and the clients
node_major() { "$1" -p 'process.versions.node.split(".")[0]' 2> /dev/null || echo 0; }
find_node() {
	local n
	for n in "$NPM"/node_modules/node-linux-*/bin/node "$(command -v node)"; do
		[ -x "$n" ] && [ "$(node_major "$n")" -ge $NODE_NEEDED ] && { echo "$n"; return 0; }
	done
	return 1
}
npm_install() { (cd "$NPM" && npm install --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error "$@") > "$NPM/install.log" 2>&1 < /dev/null; }
install_clients() {
	mkdir -p "$NPM"
	if ! cmp -s "$HERE/package.json" "$NPM/package.json.done" || ! [ -x "$NPM/node_modules/.bin/claude" ]; then
		[ -z "${SALLYPORT_TEST_INSTALL-1}" ] || command -v npm > /dev/null || install_packages nodejs npm || return 1
		command -v npm > /dev/null || return 1
		cp "$HERE/package.json" "$NPM/package.json"
		npm_install || { tail -n 5 "$NPM/install.log"; return 1; }
		# The distribution's Node may be too old for them; the package holds the plain program.
		find_node > /dev/null || npm_install --no-save "node-linux-$(uname -m | sed 's/x86_64/x64/;s/aarch64/arm64/')@24.21.0" ||
			{ tail -n 5 "$NPM/install.log"; return 1; }
		cp "$HERE/package.json" "$NPM/package.json.done"
	fi
	find_node > /dev/null
}
install_clients || skip_all "the npm clients cannot be installed: $(tail -n 1 "$NPM/install.log" 2> /dev/null || echo 'there is no npm')"
NODE=$(find_node)
BIN=$NPM/node_modules/.bin

e2e_init clients 21717
UP=$(free_port 22617)
E_QUOTAS='"quotas": { "spent": { "capacity": "$0.00" }, "waits": { "capacity": "1 requests", "rate": "1 requests/day" } },'
write_policy
grants='s|"src": \["tag:e2e"\], "app".*|"src": ["tag:works"], "app": {"sallyport/cap/llm": [{"role":"user","models":"**"}]} }, { "src": ["tag:spent"], "app": {"sallyport/cap/llm": [{"role":"user","models":"**","quotas":[{"bucket":"spent"}]}]} }, { "src": ["tag:waits"], "app": {"sallyport/cap/llm": [{"role":"user","models":"**","quotas":[{"bucket":"waits"}]}]} } ],|'
sed -i "$grants" "$I_DIR/policy.hujson"
instance_config '"workers": 2, "docker": "",'
"$NODE" "$NPM/node_modules/@copilotkit/aimock/dist/cli.js" -p "$UP" -f "$HERE/fixtures.json" > "$I_DIR/aimock.log" 2>&1 &
E_PIDS="$E_PIDS $!"
yes "aimock" wait_for 100 bash -c "exec 3<>/dev/tcp/127.0.0.1/$UP"
instance_start || { not_ok start "the daemon does not serve"; exit 1; }
ok start
# The one request that tag:waits has.
sp run --tag tag:waits -- "$TESTS/e2e/http" -d "$(body_of anthropic false hi)" "$BASE/v1/messages" > /dev/null

# ---------------------------------------------------------------- one client
PROMPT='Run the shell command: echo sallyport-e2e. Then say that it has run.'
home_of() {
	local home=$1
	mkdir -p "$home/.codex" "$home/.gemini" "$home/work"
	sp env --format codex > "$home/.codex/config.toml" 2> /dev/null
	sp env --format opencode > "$home/work/opencode.json" 2> /dev/null
	cat > "$home/.gemini/settings.json" <<-'END'
	{ "privacy": { "usageStatisticsEnabled": false }, "telemetry": { "enabled": false },
	  "general": { "disableAutoUpdate": true, "enableAutoUpdate": false }, "security": { "auth": { "selectedType": "gemini-api-key" }, "folderTrust": { "enabled": false } } }
	END
}
# run_client NAME TAG LIMIT: output in $I_DIR/NAME.TAG.out; its exit status and time in $RC and $TOOK.
run_client() {
	local home=$I_DIR/home.$1.$2 begun command=()
	home_of "$home"
	case $1 in
	claude) command=("$BIN/claude" -p "$PROMPT" --model claude-sonnet-4-5 --allowedTools Bash) ;;
	codex) command=("$BIN/codex" exec --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -m gpt-5 "$PROMPT") ;;
	gemini) command=("$BIN/gemini" --yolo -m gemini-2.5-flash -p "$PROMPT") ;;
	opencode) command=("$BIN/opencode" run -m anthropic/claude-sonnet-4-5 "$PROMPT") ;;
	opencode-openai) command=("$BIN/opencode" run -m openai/gpt-5 "$PROMPT") ;;
	# aimock knows Gemini's v1beta only, which is not what this SDK asks first.
	sdk-genai) command=(env GENAI_API_VERSION="$([ "$2" != works ] || echo v1beta)" "$NODE" "$NPM/sdk.mjs" genai) ;;
	sdk-*) command=("$NODE" "$NPM/sdk.mjs" "${1#sdk-}") ;;
	esac
	begun=$(date +%s%N)
	(cd "$home/work" && env -i PATH="$(dirname "$NODE"):$BIN:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" HOME="$home" TMPDIR="$home" TERM=dumb \
		LANG=C.UTF-8 CI=1 SALLYPORT_CONFIG="$I_CONFIG" DISABLE_AUTOUPDATER=1 DISABLE_TELEMETRY=1 DISABLE_ERROR_REPORTING=1 \
		CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 OPENCODE_DISABLE_AUTOUPDATE=1 OPENCODE_DISABLE_MODELS_FETCH=1 \
		OPENCODE_DISABLE_LSP_DOWNLOAD=1 GEMINI_CLI_TRUST_WORKSPACE=true \
		timeout -k 5 "$3" "$SALLYPORT" run --tag "tag:$2" --name "$1" -- "${command[@]}") > "$I_DIR/$1.$2.out" 2>&1 < /dev/null
	RC=$?
	TOOK=$((($(date +%s%N) - begun) / 1000000))
}
# Requests of this client under this tag so far: refused ones count, however often they were repeated.
asked_by() { rows log --tag "tag:$2" --limit 1000 | jq --arg c "/$1-" '[.[] | select((.cgroup // "") | contains($c)) | select(.format != "none") | .count // 1] | add // 0'; }

cp "$HERE/sdk.mjs" "$NPM/sdk.mjs"
echo "# client        works            denied           spent            waits     (requests / seconds / our sentence shown)"
for client in ${CLIENTS:-claude codex gemini opencode opencode-openai sdk-anthropic sdk-chat sdk-responses sdk-genai}; do
	line=$(printf '# %-14s' "$client")
	run_client "$client" works 90
	out=$(cat "$I_DIR/$client.works.out")
	case $client in
	sdk-*) has "$client is answered" "$out" "call bash" ;;
	*) has "$client is answered" "$out" "e2e-answer" ;;
	esac
	is "$client ends well" "$RC" 0
	used() { [ "$(asked_by "$client" works)" -ge 1 ]; }
	yes "$client has rows of usage" wait_for 50 used
	calls() { rows tools --tag tag:works --limit 1000 | jq -r --arg c "/$client-" '[.[] | select(.cgroup | contains($c)) | select(.kind == "shell") | .summary] | join("\n")'; }
	case $client in
	sdk-*) has "$client: the call is seen" "$(calls)" "echo sallyport-e2e" ;;
	*)
		has "$client: the shell command is seen" "$(calls)" "echo sallyport-e2e"
		ran=$(rows tools --tag tag:works --limit 1000 | jq -r --arg c "/$client-" '[.[] | select(.cgroup | contains($c)) | select(.kind == "shell") | .result] | join(",")')
		if [ "$client" = gemini ] && [ "$ran" = - ]; then
			skip "$client: and that it ran" "Gemini's wire has no call ids; results are tied to calls by id only"
		else
			has "$client: and that it ran" "$ran" "ok"
		fi ;;
	esac
	tokens=$(rows log --tag tag:works --limit 1000 | jq --arg c "/$client-" '[.[] | select((.cgroup // "") | contains($c)) | .output // 0 | select(. > 0)] | add // 0')
	[ "$tokens" -gt 0 ] && ok "$client: tokens are counted" || not_ok "$client: tokens are counted" "$tokens"
	line=$line$(printf '%2s %5s s %-7s' "$(asked_by "$client" works)" "$((TOOK / 1000)).$((TOOK % 1000 / 100))" "rc=$RC")
	for tag in denied spent waits; do
		run_client "$client" $tag 60
		wait_for 20 bash -c "[ \"\$($SALLYPORT usage --tag tag:$tag --json | jq length)\" -gt 0 ]"
		n=$(asked_by "$client" $tag)
		out=$(cat "$I_DIR/$client.$tag.out")
		shown=no
		case $out in *Sallyport:*) shown=yes ;; esac
		[ "$n" -ge 1 ] && [ "$n" -le "${E2E_DENIED_MAX:-2}" ] && ok "$client, $tag: stops at once ($n)" || not_ok "$client, $tag: stops at once" "$n requests: $out"
		is "$client, $tag: our sentence is shown" "$shown" yes
		[ "$RC" != 124 ] && ok "$client, $tag: ends" || not_ok "$client, $tag: ends" "not within 60 s"
		line=$line$(printf '  %2s %5s s %-3s %s' "$n" "$((TOOK / 1000)).$((TOOK % 1000 / 100))" "$shown" "rc=$RC")
	done
	echo "$line"
done

[ -z "${E2E_KEEP:-}" ] || http -X GET -o "$I_DIR/journal.json" "http://127.0.0.1:$UP/__aimock/journal?limit=1000" > /dev/null

found=$(grep -rlaF "$KEY_TEXT" "$I_DIR" 2> /dev/null | grep -vE '/(key)$|/aimock.log$')
is "the key: not in any client's files, not in ours" "$found" ""
exit $E_FAILED
