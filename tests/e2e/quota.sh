#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Budgets under a race:
#
#   cgroup box, tag:e2e: 200 clients that connect, wait for each other and ask at once
#     --> door --> 4 gateway workers, one balance --> practice provider, which counts what reaches it
#
# Room for 10 requests: exactly 10 pass, in each unit of a quota.
. "$(dirname "$0")/common.bash"
e2e_init quota 21317
UP=$(free_port 22217)
provider provider "$UP"
E_QUOTAS='"quotas": { "calls": { "capacity": "10 requests" }, "tokens": { "capacity": "10000 tokens" }, "dollars": { "capacity": "$0.01" } },'
E_GRANT=
write_policy
# Each model's quota is its own: requests for claude-*, dollars for gpt-*, tokens for gemini-*.
sed -i 's|{ "role": "user", "models": "\*\*" }|{ "role": "user" }, { "models": "anthropic/**", "quotas": [{ "bucket": "calls" }] }, { "models": "openai/**", "quotas": [{ "bucket": "dollars" }] }, { "models": "google/**", "quotas": [{ "bucket": "tokens" }] }|' "$I_DIR/policy.hujson"
instance_config '"workers": 4, "docker": "",'
instance_start || { not_ok start "the daemon does not serve"; exit 1; }
ok start
box_make box
yes "label" sp label "/$I_NAME-box" tag:e2e

# race COUNT PATH BODY: COUNT requests at once; what they got in $I_DIR/race.
race() {
	rm -f "$I_DIR/go"
	in_box box "$TESTS/e2e/http" -n "$1" -p "$1" -g "$I_DIR/go" -R 5000 -d "$3" "$BASE$2" > "$I_DIR/race" &
	local pid=$!
	# All have connected when the door's sockets are there.
	connected() { [ "$(grep -c "$(printf ':%04X ' "$I_PORT").* 01 " /proc/net/tcp)" -ge "$1" ]; }
	wait_for 100 connected "$1"
	: > "$I_DIR/go"
	wait $pid
}
count() { grep -c "$1" "$I_DIR/race"; }

race 200 /v1/messages "$(body_of anthropic true hi)"
is "200 at once, room for 10: exactly 10 pass" "$(count '^200 .* done')" 10
is "the others are refused for good" "$(count '^429 .* done')" 190
is "the provider saw 10" "$(grep -c claude "$I_DIR/provider.log")" 10
wait_for 100 ledger_reaches 200
is "the ledger has all 200" "$(ledger_requests)" 200
is "and 190 of them as denied" "$(rows usage | jq '[.[].denied] | add')" 190
in_box box "$TESTS/e2e/http" -d "$(body_of anthropic true hi)" -o "$I_DIR/got" -i "$I_DIR/head" "$BASE/v1/messages" > /dev/null
has "the sentence names the bucket" "$(jq -r .error.message "$I_DIR/got")" "calls"
has "Claude's clients stop at once" "$(cat "$I_DIR/head")" "retry-after: "
has "and every SDK" "$(cat "$I_DIR/head")" "x-should-retry: false"

# Several answers are reserved for, however the body says it: one would fit, twenty would not.
for more in '"n":20' '"n":1,"n":20' '"n":20,"n":1' '"best_of":20'; do
	got=$(in_box box "$TESTS/e2e/http" -o "$I_DIR/got" -d "{$more,$(body_of chat false hi | cut -c 2-)" "$BASE/v1/chat/completions")
	is "$more is refused" "${got%% *}" 429
done
prompts=$(printf '"p",%.0s' {1..20})
got=$(in_box box "$TESTS/e2e/http" -o "$I_DIR/got" -d "{\"model\":\"gpt-5\",\"max_tokens\":64,\"prompt\":[${prompts%,}]}" "$BASE/v1/completions")
is "twenty prompts are refused" "${got%% *}" 429

# Dollars: whatever passes, what it cost is never more than the bucket held.
race 200 /v1/chat/completions "$(body_of chat false hi)"
passed=$(count '^200 .* done')
[ "$passed" -ge 1 ] && ok "some pass within the dollars ($passed)" || not_ok "some pass within the dollars" "$(sort "$I_DIR/race" | uniq -c | head -n 3)"
is "the provider saw no more of them" "$(grep -c gpt "$I_DIR/provider.log")" "$passed"
wait_for 100 ledger_reaches 405
spent=$(rows usage --by model | jq '[.[] | select((.model // "") | startswith("gpt")) | .cost_usd] | add')
yes "not a cent more than the bucket ($spent)" jq -ne --argjson s "${spent:-9}" '$s <= 0.01'

race 200 "$(path_of gemini true)" "$(body_of gemini true hi)"
passed=$(count '^200 .* done')
[ "$passed" -ge 1 ] && ok "some pass within the tokens ($passed)" || not_ok "some pass within the tokens" "$(sort "$I_DIR/race" | uniq -c | head -n 3)"
wait_for 100 ledger_reaches 605
tokens=$(rows usage --by model | jq '[.[] | select((.model // "") | startswith("gemini")) | .input + .output + .cache_read] | add')
[ "${tokens:-99999}" -le 10000 ] && ok "not a token more ($tokens)" || not_ok "not a token more" "$tokens of 10000"
is "a Gemini client gets a status that it does not retry" "$(grep -c '^402' "$I_DIR/race")" $((200 - passed))

# Balances survive a SIGKILL of everything.
kill -KILL "$I_PID"
wait "$I_PID" 2> /dev/null
instance_start || not_ok "start again" "the daemon does not serve"
has "an empty bucket stays empty over SIGKILL" "$(in_box box "$TESTS/e2e/http" -w 3000 -d "$(body_of anthropic true hi)" "$BASE/v1/messages")" "429"
yes "refill" sp quota refill calls
has "and is full again" "$(in_box box "$TESTS/e2e/http" -d "$(body_of anthropic true hi)" "$BASE/v1/messages")" "200"
exit $E_FAILED
