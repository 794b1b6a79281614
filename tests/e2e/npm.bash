# SPDX-License-Identifier: Apache-2.0
# The clients that people really run, from npm, and the mock that plays the providers behind the gateway. Versions are
# pinned in tests/e2e/clients/package.json; they are installed into build/npm once. For bash; sourced after common.bash.
# shellcheck shell=bash

CLIENTS_DIR=$PWD/tests/e2e/clients
NPM=$PWD/build/npm
NODE_NEEDED=22
PROMPT='Run the shell command: echo sallyport-e2e. Then say that it has run.'

# ---------------------------------------------------------------- node and the clients
node_major() { "$1" -p 'process.versions.node.split(".")[0]' 2> /dev/null || echo 0; }
find_node() {
	local n
	for n in "$NPM"/tool/node_modules/node-linux-*/bin/node "$(command -v node)"; do
		[ -x "$n" ] && [ "$(node_major "$n")" -ge $NODE_NEEDED ] && { echo "$n"; return 0; }
	done
	return 1
}
# npm_install DIR COMMAND… [-- PACKAGE…]: with this npm, without scripts.
npm_install() {
	local dir=$1 npm=() log=$NPM/install.log
	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do npm+=("$1"); shift; done
	[ $# = 0 ] || shift
	mkdir -p "$dir"
	# Without one npm would install into the next folder above that has it.
	[ -e "$dir/package.json" ] || echo '{}' > "$dir/package.json"
	(cd "$dir" && "${npm[@]}" install --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error "$@") > "$log" 2>&1 < /dev/null ||
		{ tail -n 5 "$log"; return 1; }
}
install_clients() {
	mkdir -p "$NPM"
	if ! cmp -s "$CLIENTS_DIR/package.json" "$NPM/package.json.done" || ! [ -x "$NPM/node_modules/.bin/claude" ]; then
		[ -z "${SALLYPORT_TEST_INSTALL-1}" ] || command -v npm > /dev/null || install_packages nodejs npm || return 1
		command -v npm > /dev/null || return 1
		cp "$CLIENTS_DIR/package.json" "$NPM/package.json"
		# A distribution's Node may be too old, and an old npm leaves out what does not fit its Node: the
		# packages of both hold plain programs.
		if find_node > /dev/null; then
			npm_install "$NPM" npm || return 1
		else
			npm_install "$NPM/tool" npm -- "node-linux-$(uname -m | sed 's/x86_64/x64/;s/aarch64/arm64/')@24.21.0" npm@11.19.1 || return 1
			npm_install "$NPM" "$(find_node)" "$NPM/tool/node_modules/npm/bin/npm-cli.js" || return 1
		fi
		# The only two scripts that are run: they put the program of this platform in its place.
		(cd "$NPM/node_modules/@anthropic-ai/claude-code" && "$(find_node)" install.cjs) >> "$NPM/install.log" 2>&1 || return 1
		(cd "$NPM/node_modules/opencode-ai" && "$(find_node)" ./postinstall.mjs) >> "$NPM/install.log" 2>&1 || return 1
		cp "$CLIENTS_DIR/package.json" "$NPM/package.json.done"
	fi
	find_node > /dev/null
}
# npm_missing: why there are no clients; else it fails, and NODE, BIN and MOCK (the mock's command without its port) are set.
npm_missing() {
	[ -n "${SALLYPORT_TEST_NPM-1}" ] || { NPM_WHY="--no-npm was given"; return 0; }
	install_clients > /dev/null || {
		NPM_WHY="the npm clients cannot be installed: $(tail -n 1 "$NPM/install.log" 2> /dev/null || echo 'there is no npm')"
		return 0
	}
	NODE=$(find_node)
	BIN=$NPM/node_modules/.bin
	MOCK=("$NODE" "$NPM/node_modules/@copilotkit/aimock/dist/cli.js" -f "$CLIENTS_DIR/fixtures.json" -p)
	cp "$CLIENTS_DIR/sdk.mjs" "$NPM/sdk.mjs"
	return 1
}

# ---------------------------------------------------------------- what a client is given
# client_home DIR: an empty home and a project; Gemini CLI has no variable for what it is told here.
client_home() {
	mkdir -p "$1/.codex" "$1/.gemini" "$1/project"
	cat > "$1/.gemini/settings.json" <<-'END'
	{ "privacy": { "usageStatisticsEnabled": false }, "telemetry": { "enabled": false },
	  "general": { "disableAutoUpdate": true, "enableAutoUpdate": false }, "security": { "auth": { "selectedType": "gemini-api-key" }, "folderTrust": { "enabled": false } } }
	END
}
# client_command NAME [MODEL]: one question, with a shell command to run; COMMAND is what asks it.
client_command() {
	local claude=${2:-claude-sonnet-4-5} gpt=${2:-gpt-5} gemini=${2:-gemini-2.5-flash}
	case $1 in
	claude) COMMAND=("$BIN/claude" -p "$PROMPT" --model "$claude" --allowedTools Bash) ;;
	codex) COMMAND=("$BIN/codex" exec --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -m "$gpt" "$PROMPT") ;;
	gemini) COMMAND=("$BIN/gemini" --yolo -m "$gemini" -p "$PROMPT") ;;
	opencode) COMMAND=("$BIN/opencode" run -m anthropic/claude-sonnet-4-5 "$PROMPT") ;;
	opencode-openai) COMMAND=("$BIN/opencode" run -m openai/gpt-5 "$PROMPT") ;;
	# aimock knows Gemini's v1beta only, which is not what this SDK asks first; GENAI_VERSION= lets it.
	sdk-genai) COMMAND=(env MODEL="$gemini" GENAI_API_VERSION="${GENAI_VERSION-v1beta}" "$NODE" "$NPM/sdk.mjs" genai) ;;
	sdk-anthropic) COMMAND=(env MODEL="$claude" "$NODE" "$NPM/sdk.mjs" anthropic) ;;
	sdk-*) COMMAND=(env MODEL="$gpt" "$NODE" "$NPM/sdk.mjs" "${1#sdk-}") ;;
	esac
}
