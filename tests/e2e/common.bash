# SPDX-License-Identifier: Apache-2.0
# What the end-to-end tests share: an instance with our practice provider behind it, sandboxes, checks. Each check
# prints "ok NAME" or "not ok NAME: why"; scripts/test counts the lines. For bash; sourced by tests/e2e/*.sh.
# shellcheck shell=bash
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
. scripts/lib.sh

E_FAILED=0
E_PIDS=
KEY_TEXT=sk-e2e-$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')

ok() { printf 'ok %s\n' "$1"; }
not_ok() { printf 'not ok %s: %s\n' "$1" "$2"; E_FAILED=1; }
skip() { printf 'skip %s: %s\n' "$1" "$2"; }
skip_all() { skip "$E_NAME" "$1"; exit 0; }
# One line of what was got, short enough to read.
short() { printf '%s' "$1" | tr '\n\r\t' '   ' | cut -c 1-300; }
is() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "got '$(short "$2")', expected '$3'"; fi; }
has() { case $2 in *"$3"*) ok "$1" ;; *) not_ok "$1" "'$(short "$2")' lacks '$3'" ;; esac; }
hasnt() { case $2 in *"$3"*) not_ok "$1" "'$(short "$2")' holds '$3'" ;; *) ok "$1" ;; esac; }
# yes NAME COMMAND…: the command succeeds.
yes() { local n=$1; shift; if "$@" > /dev/null 2>&1; then ok "$n"; else not_ok "$n" "failed: $*"; fi; }

# e2e_init NAME PORT: names, the trap, a key file, the practice provider at $UP.
e2e_init() {
	E_NAME=$1
	[ "$(id -u)" = 0 ] || skip_all "needs root"
	[ -x "$SALLYPORT" ] && [ -x "$TESTS/practice/provider" ] && [ -x "$TESTS/e2e/http" ] ||
		{ echo "$0: build first: make all tools" >&2; exit 1; }
	command -v jq > /dev/null || { echo "$0: jq is missing: scripts/test installs it" >&2; exit 1; }
	trap e2e_clean EXIT
	trap 'exit 130' INT TERM
	instance_init "sallyport-e2e-$1-$$" "$2"
	BASE=http://127.0.0.1:$I_PORT
	(umask 077; printf '%s\n' "$KEY_TEXT" > "$I_DIR/key")
}

# provider NAME PORT [OPTION…]: a practice provider; its requests are in $I_DIR/NAME.log.
provider() {
	local name=$1 port=$2
	shift 2
	"$TESTS/practice/provider" "$port" --key-file "$I_DIR/key" --log "$I_DIR/$name.log" "$@" 2> "$I_DIR/$name.err" &
	E_PIDS="$E_PIDS $!"
	wait_for 50 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port" || die "the practice provider does not listen on $port"
}

e2e_clean() {
	local p rc=$?
	trap - EXIT INT TERM
	for p in $E_PIDS; do kill "$p" 2> /dev/null; done
	for p in $E_PIDS; do wait "$p" 2> /dev/null; done
	if [ "$E_FAILED" = 1 ] && [ -f "${I_DIR:-/nonexistent}/daemon.log" ]; then
		echo "--- the end of the daemon's log"
		tail -n 25 "$I_DIR/daemon.log"
	fi
	[ -z "${E2E_KEEP:-}" ] || cp -a "$I_DIR" "$E2E_KEEP"
	instance_clean
	[ "$rc" = 0 ] && [ "$E_FAILED" = 1 ] && rc=1
	exit "$rc"
}

# policy_file [MEMBERS]: three providers, all the same practice provider, and a grant for tag:e2e.
policy_text() {
	cat <<-END
	{
		"providers": {
			"anthropic": { "baseurl": "http://127.0.0.1:$UP", "apikey": "file:$I_DIR/key", "authorization": "x-api-key",
				"compatibility": { "anthropic_messages": true }, "models": ["claude-*"] },
			"openai": { "baseurl": "http://127.0.0.1:$UP", "apikey": "file:$I_DIR/key",
				"compatibility": { "openai_chat": true, "openai_responses": true }, "models": ["gpt-*"] },
			"google": { "baseurl": "http://127.0.0.1:$UP", "apikey": "file:$I_DIR/key", "authorization": "x-goog-api-key",
				"compatibility": { "gemini_generate_content": true }, "models": ["gemini-*"] },
			${E_PROVIDERS:-}
		},
		${E_QUOTAS:-}
		"grants": [ { "src": ["tag:e2e"], "app": { "sallyport/cap/llm": [ { "role": "user", "models": "**"${E_GRANT:-} } ] } } ],
		${1:-}
	}
	END
}
# Replaced in one step, as an editor does.
write_policy() {
	policy_text "$@" > "$I_DIR/policy.new"
	chmod 644 "$I_DIR/policy.new"
	mv "$I_DIR/policy.new" "$I_DIR/policy.hujson"
}

http() { "$TESTS/e2e/http" "$@"; }

# box_make NAME: a cgroup for a sandbox; in_box NAME COMMAND…: runs it there.
box_make() { mkdir -p "$I_CGROOT/$I_NAME-$1"; }
in_box() { bash -c 'echo $$ > "$0" && exec "$@"' "$I_CGROOT/$I_NAME-$1/cgroup.procs" "${@:2}"; }

# Requests of all four formats, JSON or stream: path_of FORMAT STREAM and body_of FORMAT STREAM PROMPT [MODEL].
path_of() {
	case $1:$2 in
	anthropic:*) echo /v1/messages ;;
	chat:*) echo /v1/chat/completions ;;
	responses:*) echo /v1/responses ;;
	gemini:true) echo "/v1beta/models/${3:-gemini-2.5-flash}:streamGenerateContent?alt=sse" ;;
	gemini:*) echo "/v1beta/models/${3:-gemini-2.5-flash}:generateContent" ;;
	esac
}
body_of() {
	case $1 in
	anthropic) printf '{"model":"%s","max_tokens":64,"stream":%s,"messages":[{"role":"user","content":"%s"}]}' "${4:-claude-sonnet-4-5}" "$2" "$3" ;;
	chat)
		if [ "$2" = true ]; then
			printf '{"model":"%s","max_tokens":64,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"%s"}]}' "${4:-gpt-5}" "$3"
		else
			printf '{"model":"%s","max_tokens":64,"messages":[{"role":"user","content":"%s"}]}' "${4:-gpt-5}" "$3"
		fi ;;
	responses) printf '{"model":"%s","max_output_tokens":64,"stream":%s,"input":"%s"}' "${4:-gpt-5}" "$2" "$3" ;;
	gemini) printf '{"generationConfig":{"maxOutputTokens":64},"contents":[{"role":"user","parts":[{"text":"%s"}]}]}' "$3" ;;
	esac
}

# The rows of a query, as a JSON array.
rows() { sp "$@" --json 2> /dev/null; }
n_rows() { rows "$@" | jq length; }
# Requests in the ledger, refused ones and all.
ledger_requests() { rows usage --limit 10000 "$@" | jq '[.[].requests] | add // 0'; }
ledger_reaches() { [ "$(ledger_requests)" -ge "$1" ]; }
