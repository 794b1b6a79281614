#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole way through, on one machine:
#
#   cgroup  …-watched/box   tag:e2e    --\
#   cgroup  …-watched/none  no tag     ---> door 127.0.0.1:PORT --> gateway --> practice provider (UP), which
#   cgroup  … (ours)        not known  --/                            |         refuses every key but its own
#                                                                     +-------> provider (DEAD): nobody listens
#
# Streams of the four formats arrive as they were sent, the key is put in and is nowhere else, who has no label is
# refused with a sentence, the ledger knows it all; and each kind of bad input gets its sentence.
. "$(dirname "$0")/common.bash"
e2e_init core 21117
UP=$(free_port 22017)
DEAD=$(free_port $((UP + 50)))
DIRECT=$(free_port $((UP + 70)))
provider provider "$UP"
provider direct "$DIRECT" # the same, asked without us: what the bytes are to be
(umask 077; printf '%s\n' "$KEY_TEXT" > "$I_DIR/badkey"); chmod 644 "$I_DIR/badkey"
(umask 077; printf 'sk-wrong-key\n' > "$I_DIR/wrongkey")
E_PROVIDERS='"dead": { "baseurl": "http://127.0.0.1:'$DEAD'", "apikey": "file:'$I_DIR'/key", "models": ["*-dead"],
		"compatibility": { "anthropic_messages": true, "openai_chat": true, "openai_responses": true, "gemini_generate_content": true } },
	"missing": { "baseurl": "http://127.0.0.1:'$UP'", "apikey": "file:'$I_DIR'/no-such-key", "models": ["m-missing"], "compatibility": { "openai_chat": true } },
	"readable": { "baseurl": "http://127.0.0.1:'$UP'", "apikey": "file:'$I_DIR'/badkey", "models": ["m-readable"], "compatibility": { "openai_chat": true } },
	"wrong": { "baseurl": "http://127.0.0.1:'$UP'", "apikey": "file:'$I_DIR'/wrongkey", "models": ["m-wrong"], "compatibility": { "openai_chat": true } },'
write_policy
instance_config '"workers": 2, "docker": "", "client": { "body_limit": "256KiB" }, "upstream": { "connect_timeout": "2s", "idle_timeout": "2s" },'
instance_start || { not_ok start "the daemon does not serve"; exit 1; }
ok start

box_make watched/box
box_make watched/none
box() { in_box watched/box "$@"; }
none() { in_box watched/none "$@"; }
BOX=/$I_NAME-watched/box
has "label a cgroup" "$(sp label "$BOX" tag:e2e 2>&1 && echo done)" "done"
wait_for 50 bash -c "$SALLYPORT ps --json | grep -q '$BOX'" || true

# ---------------------------------------------------------------- the four formats
asked=0
for format in anthropic chat responses gemini; do
	for stream in true false; do
		name="$format $([ $stream = true ] && echo stream || echo json)"
		path=$(path_of $format $stream)
		body_of $format $stream "run: git status # $format $stream" > "$I_DIR/body"
		got=$(box "$TESTS/e2e/http" -H 'x-api-key: -' -H 'anthropic-version: 2023-06-01' -f "$I_DIR/body" -o "$I_DIR/got.$format.$stream" -i "$I_DIR/head" "$BASE$path")
		has "$name" "$got" "200 sp_"
		has "$name is whole" "$got" " done"
		http -H "authorization: Bearer $KEY_TEXT" -f "$I_DIR/body" -o "$I_DIR/want.$format.$stream" "http://127.0.0.1:$DIRECT$path" > /dev/null
		if cmp -s "$I_DIR/got.$format.$stream" "$I_DIR/want.$format.$stream"; then ok "$name arrives byte for byte"; else not_ok "$name arrives byte for byte" "$(cmp "$I_DIR/got.$format.$stream" "$I_DIR/want.$format.$stream" 2>&1)"; fi
		asked=$((asked + 1))
	done
done
hasnt "the provider never saw another key" "$(cat "$I_DIR/provider.log")" "key=placeholder"

# A chat stream that did not ask for usage: metered all the same, and the extra chunk does not reach the client.
printf '{"model":"gpt-5","stream":true,"messages":[{"role":"user","content":"unasked"}]}' > "$I_DIR/body"
has "chat stream without include_usage" "$(box "$TESTS/e2e/http" -f "$I_DIR/body" -o "$I_DIR/got" "$BASE/v1/chat/completions")" "200 sp_"
hasnt "the usage chunk is taken out again" "$(cat "$I_DIR/got")" '"choices":[]'
asked=$((asked + 1))
wait_for 50 ledger_reaches $asked
unasked=$(rows log --limit 1 | jq -r '.[0] | "\(.output)"')
is "it is metered" "$unasked" 57

# ---------------------------------------------------------------- what the ledger knows
row=$(rows usage --by cgroup | jq -c --arg c "$BOX" '.[] | select(.cgroup == $c)')
is "usage: one row for the cgroup" "$(rows usage --by cgroup | jq --arg c "$BOX" '[.[] | select(.cgroup == $c)] | length')" 1
is "usage: requests" "$(jq .requests <<< "$row")" $asked
is "usage: tags" "$(jq -c .tags <<< "$row")" '["tag:e2e"]'
# What the provider says that it billed.
billed() { awk -v k="$1=" '{for (i = 1; i <= NF; i++) if (index($i, k) == 1) n += substr($i, length(k) + 1)} END {print n + 0}' "$I_DIR/provider.log"; }
for tokens in input output cache_read cache_write; do
	is "usage: $tokens tokens" "$(jq .$tokens <<< "$row")" "$(billed $tokens)"
done
is "usage: tool calls" "$(jq .tool_calls <<< "$row")" $asked
is "tools: one row each" "$(rows tools --limit 100 | jq length)" $asked
is "tools: the command, however the harness calls its tool" "$(rows tools --limit 100 | jq -r '[.[] | select((.summary // "") | startswith("git status"))] | length')" 8
is "tools: by its meaning" "$(rows tools --limit 100 | jq -r '[.[].kind] | unique | join(",")')" shell
for by in tag model provider client day user; do
	is "usage --by $by adds up" "$(ledger_requests --by $by)" $asked
done
has "the table" "$(sp usage)" "tag:e2e"
has "the table of tools" "$(sp tools)" "git status"
has "csv" "$(sp usage --csv | head -n 1)" "requests"

# ---------------------------------------------------------------- who is not known
got=$(http -o "$I_DIR/got" -i "$I_DIR/head" -d "$(body_of anthropic false hi)" "$BASE/v1/messages")
has "a neighbour in no sandbox is refused" "$got" "403"
is "in the format of the path" "$(jq -r '.type + " " + .error.type' "$I_DIR/got")" "error permission_error"
has "with our sentence" "$(jq -r .error.message "$I_DIR/got")" "no labelled sandbox"
has "and its cure" "$(jq -r .error.message "$I_DIR/got")" "sallyport label"
has "and its reason as a header" "$(cat "$I_DIR/head")" "sallyport-reason: denied_unstamped"
events() { rows log --events --limit 1000 | jq -r --arg k "$1" '[.[] | select(.kind == $k)] | length'; }
seen() { [ "$(events "$1")" -ge 1 ]; }
wait_for 50 seen unstamped
is "one event" "$(events unstamped)" 1
got=$(none "$TESTS/e2e/http" -o "$I_DIR/got" -d "$(body_of chat false hi)" "$BASE/v1/chat/completions")
has "a watched cgroup without a tag is refused" "$got" "403"
has "and told so" "$(jq -r .error.message "$I_DIR/got")" "has no label"
got=$(box "$TESTS/e2e/http" -o "$I_DIR/got" -d "$(body_of chat false hi nobody-has-this)" "$BASE/v1/chat/completions")
has "an unknown model" "$got" "404"
has "and which" "$(jq -r .error.message "$I_DIR/got")" "nobody-has-this"
got=$(box "$TESTS/e2e/http" -X GET -o "$I_DIR/got" "$BASE/v1/models")
has "models are listed" "$got" "200"
hasnt "the provider was not asked by any of them" "$(cat "$I_DIR/provider.log")" "nobody"

# ---------------------------------------------------------------- bad input
head -c 300000 /dev/zero | tr '\0' 'x' > "$I_DIR/big"
for format in anthropic chat responses gemini; do
	path=$(path_of $format false)
	got=$(box "$TESTS/e2e/http" -f "$I_DIR/big" -o "$I_DIR/got" "$BASE$path")
	has "a body over the limit, $format" "$got" "413"
	has "names the limit, $format" "$(jq -r '.error.message' "$I_DIR/got")" "body_limit"
done
raw() { printf "$1" > "$I_DIR/raw"; box "$TESTS/e2e/http" -r "$I_DIR/raw" -o "$I_DIR/got" -i "$I_DIR/head" "$BASE/"; }
has "two lengths" "$(raw 'POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}')" "400"
has "and the connection ends" "$(cat "$I_DIR/head")" "connection: close"
has "bare LF" "$(raw 'POST /v1/messages HTTP/1.1\nhost: x\n\n')" "400"
has "folded header" "$(raw 'POST /v1/messages HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n')" "400"
has "both framings" "$(raw 'POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n')" "400"
has "no HTTP at all" "$(raw '\x15\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n')" "400"
is "TLS: an alert, which a TLS client can read" "$(box bash -c "exec 3<>/dev/tcp/127.0.0.1/$I_PORT && printf '\\x16\\x03\\x01\\x02\\x00\\x01' >&3 && timeout 3 od -An -tx1 -N7 <&3" | tr -d ' \n')" 15030300020228
has "malformed chunks" "$(raw 'POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n')" "400"
has "no JSON" "$(box "$TESTS/e2e/http" -d 'hello' -o "$I_DIR/got" "$BASE/v1/messages")" "400"
has "a probe" "$(box "$TESTS/e2e/http" -X HEAD "$BASE/api/hello")" "200"

# ---------------------------------------------------------------- upstream misbehaves
for format in anthropic chat responses gemini; do
	model=x-dead
	begun=$SECONDS
	got=$(box "$TESTS/e2e/http" -d "$(body_of $format true hi $model)" -o "$I_DIR/got" "$BASE$(path_of $format true $model)")
	has "provider down, $format" "$got" "502"
	[ $((SECONDS - begun)) -le 3 ] && ok "within the connect timeout, $format" || not_ok "within the connect timeout, $format" "$((SECONDS - begun)) s"
	has "a sentence, $format" "$(jq -r '.error.message' "$I_DIR/got")" "provider"
done
got=$(box "$TESTS/e2e/http" -d "$(body_of anthropic true hi claude-practice-garbage)" -o "$I_DIR/got" "$BASE/v1/messages")
has "no HTTP from the provider" "$got" "502"
got=$(box "$TESTS/e2e/http" -d "$(body_of anthropic true hi claude-practice-status-529)" -o "$I_DIR/got" "$BASE/v1/messages")
has "an error of the provider passes" "$got" "529"
has "as it was" "$(cat "$I_DIR/got")" "was asked to refuse this"
got=$(box "$TESTS/e2e/http" -d "$(body_of anthropic true hi claude-practice-reset-400)" -o "$I_DIR/got" "$BASE/v1/messages")
has "a stream that breaks" "$got" "200"
has "ends with an error event" "$(tail -n 4 "$I_DIR/got")" "event: error"
has "after what had come" "$(head -c 400 "$I_DIR/got")" "message_start"
got=$(box "$TESTS/e2e/http" -d "$(body_of anthropic true hi claude-practice-stall-9000)" -o "$I_DIR/got" "$BASE/v1/messages")
has "a stream that stalls ends with an error event" "$(tail -n 4 "$I_DIR/got")" "event: error"
for p in missing readable; do
	got=$(box "$TESTS/e2e/http" -d "$(body_of chat false hi m-$p)" -o "$I_DIR/got" "$BASE/v1/chat/completions")
	has "a provider whose key is $p" "$got" "502"
done
has "which key is missing" "$(sp keys 2>&1)" "no-such-key"
has "a readable key and its cure" "$(rows keys | jq -r '.[].state' | grep -a badkey)" "chmod 600"
got=$(box "$TESTS/e2e/http" -d "$(body_of chat false hi m-wrong)" -o "$I_DIR/got" "$BASE/v1/chat/completions")
has "a key that the provider refuses is not the client's fault" "$got" "502"

# ---------------------------------------------------------------- mistakes of the operator
fails() { # NAME TEXT COMMAND…: exit 1 with one sentence
	local name=$1 text=$2 out rc
	shift 2
	out=$("$@" 2>&1)
	rc=$?
	is "$name: exit status" "$rc" 1
	has "$name: sentence" "$out" "$text"
	is "$name: one line" "$(printf '%s\n' "$out" | wc -l)" 1
}
fails "a label that is none" "tag:" sp label "$BOX" PR_BOT
fails "a cgroup that is gone" "$I_NAME-gone" sp label "/$I_NAME-gone" tag:e2e
fails "a process that is none" "4199999" sp label pid:4199999 tag:e2e
fails "a container that does not exist" "container" sp label docker:none-such tag:e2e
is "run: no such command" "$(sp run --tag tag:e2e -- /no/such/command 2> /dev/null; echo $?)" 127
sed 's/"models"/"modles"/' "$I_DIR/policy.hujson" > "$I_DIR/bad.hujson"
out=$(sp policy check "$I_DIR/bad.hujson" 2>&1)
has "policy check: file, line and column" "$out" "bad.hujson:3:"
has "policy check: the nearest key" "$out" "did you mean \`models\`"
cp "$I_DIR/policy.hujson" "$I_DIR/good.hujson"
# What a change of patterns means for those who have a grant.
granted() { sed 's|"models": "\*\*"|"models": "'"$1"'"|' "$I_DIR/good.hujson" > "$I_DIR/$2.hujson"; }
granted 'anthropic/claude-*' wide
granted 'anthropic/claude-sonnet-*' narrow
granted 'anthropic/claude-haiku-4-5' exact
diff_of() { sp policy diff "$I_DIR/$1.hujson" "$I_DIR/$2.hujson" --json | jq -r '.[] | "\(.who) \(.change) \(.what): \(.detail)"'; }
has "policy diff: a pattern that is narrowed" "$(diff_of wide narrow)" "tag:e2e loses anthropic/claude-*: keeps anthropic/claude-sonnet-*;"
has "policy diff: to one name" "$(diff_of wide exact)" "tag:e2e loses anthropic/claude-*: keeps anthropic/claude-haiku-4-5;"
has "policy diff: widened" "$(diff_of narrow wide)" "tag:e2e gains anthropic/claude-*: had anthropic/claude-sonnet-*;"
is "policy diff: nothing" "$(diff_of wide wide)" ""
# Options where people put them.
for words in "--config $I_CONFIG status --json" "--config=$I_CONFIG status --json" "status --config=$I_CONFIG --json" "status --json --config $I_CONFIG"; do
	is "sallyport ${words//$I_DIR\//}" "$(env -u SALLYPORT_CONFIG "$SALLYPORT" $words | jq -r .pid)" "$I_PID"
done
is "a filter by tag, without its prefix" "$(rows usage --tag e2e | jq -c .)" "$(rows usage --tag tag:e2e | jq -c .)"
is "a filter that is no tag: exit status" "$(sp usage --tag E2E > /dev/null 2>&1; echo $?)" 2
cp "$I_DIR/bad.hujson" "$I_DIR/policy.new" && mv "$I_DIR/policy.new" "$I_DIR/policy.hujson"
policy_error() { sp status --json | jq -r .policy_error | grep -q 'policy.hujson:3:'; }
yes "a policy with a mistake: status names the line" wait_for 50 policy_error
has "and the old one stays in force" "$(box "$TESTS/e2e/http" -d "$(body_of anthropic false hi)" "$BASE/v1/messages")" "200"
out=$(sp policy reload 2>&1) && not_ok "reload of it fails" "$out" || has "reload of it fails" "$out" "policy.hujson:3:"
cp "$I_DIR/good.hujson" "$I_DIR/policy.new" && mv "$I_DIR/policy.new" "$I_DIR/policy.hujson"
mended() { [ -z "$(sp status --json | jq -r '.policy_error // ""')" ]; }
yes "mended" wait_for 50 mended
E_GRANT=', "add_headers": ["X-Team: e2e"]' write_policy
yes "reload" sp policy reload

# ---------------------------------------------------------------- run
is "run: exit status" "$(sp run --tag tag:e2e -- sh -c 'exit 7'; echo $?)" 7
is "run: a signal" "$(sp run --tag tag:e2e -- sh -c 'kill -TERM $$'; echo $?)" 143
is "run: the environment" "$(ANTHROPIC_API_KEY=sk-leak OPENAI_API_KEY=sk-leak sp run --tag tag:e2e -- sh -c 'echo $ANTHROPIC_BASE_URL $ANTHROPIC_API_KEY $OPENAI_API_KEY $OPENAI_BASE_URL')" "$BASE - - $BASE/v1"
out=$(sp run --tag tag:e2e -- unshare --net "$TESTS/practice/agent" "run: make check" 2>&1)
has "run in a namespace without network" "$out" "would run: make check"
has "to the end" "$out" "That worked"
is "run: its cgroup is gone" "$(find "$I_CGROOT/$I_NAME/run" -mindepth 1 -type d 2> /dev/null | wc -l)" 0

# ---------------------------------------------------------------- the key is nowhere
box sleep 60 & E_PIDS="$E_PIDS $!"
box env -i ANTHROPIC_BASE_URL="$BASE" ANTHROPIC_API_KEY=- sleep 60 & E_PIDS="$E_PIDS $!"
sleep 0.2
found=$(grep -rlaF "$KEY_TEXT" "$I_DIR" 2> /dev/null | grep -vE '/(key|badkey)$')
is "the key: no file, no ledger, no journal, no log" "$found" ""
found=
for p in $(cat "$I_CGROOT/$I_NAME/gateway/cgroup.procs" "$I_CGROOT$BOX/cgroup.procs") $I_PID; do
	for f in environ cmdline; do grep -qaF "$KEY_TEXT" "/proc/$p/$f" 2> /dev/null && found="$found /proc/$p/$f"; done
done
is "the key: no environment, no command line" "$found" ""
found=
for p in $(cat "$I_CGROOT$BOX/cgroup.procs"); do
	for f in maps mountinfo net/tcp; do grep -qaF "$KEY_TEXT" "/proc/$p/$f" 2> /dev/null && found="$found /proc/$p/$f"; done
done
is "the key: nothing in the sandbox's /proc" "$found" ""
gateway=$(head -n 1 "$I_CGROOT/$I_NAME/gateway/cgroup.procs")
is "the gateway cannot be dumped" "$(stat -c %U "/proc/$gateway/environ" 2> /dev/null)" root
hasnt "the key: no command shows it" "$(sp keys --json; sp status --json; sp policy show --json 2>&1; sp log --json)" "$KEY_TEXT"
has "the provider got it" "$(tail -n 1 "$I_DIR/provider.log")" "key=ok"
doctor=$(sp doctor 2>&1)
has "doctor finds the whole well, keys aside" "$doctor" "badkey"
has "doctor: a provider answers" "$doctor" "anthropic: http://127.0.0.1:$UP/ answers"
has "doctor: a provider that does not" "$(grep ' dead: ' <<< "$doctor")" "does not answer"
is "it is a warning" "$(grep '^provider .* dead: ' <<< "$doctor" | awk '{print $2}')" warn

# ---------------------------------------------------------------- a start with a broken policy
instance_stop
cp "$I_DIR/bad.hujson" "$I_DIR/policy.hujson"
instance_start || not_ok "start with a broken policy" "the daemon does not serve"
yes "label" sp label "$BOX" tag:e2e
got=$(box "$TESTS/e2e/http" -d "$(body_of chat false hi)" -o "$I_DIR/got" "$BASE/v1/chat/completions")
is "without a policy nothing is allowed" "${got%% *}" 503
has "the refusal says why, and where" "$(jq -r .error.message "$I_DIR/got")" "policy.hujson:3:"
has "status too" "$(sp status | grep -A 1 '^policy')" "none in force"
has "with the place" "$(sp status | grep -A 1 '^policy')" "policy.hujson:3:"
cp "$I_DIR/good.hujson" "$I_DIR/policy.new" && mv "$I_DIR/policy.new" "$I_DIR/policy.hujson"
yes "mended" wait_for 50 mended
has "it is taken without a restart" "$(box "$TESTS/e2e/http" -d "$(body_of chat false hi)" "$BASE/v1/chat/completions")" "200"
exit $E_FAILED
