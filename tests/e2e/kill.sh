#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Nothing that a client saw finished is lost, whoever dies:
#
#   cgroup box, tag:e2e: 8 clients, 1,000 streams --> door --> 2 gateway workers --> practice provider
#                                                     agent       | journal
#                                                                 ledger
#   meanwhile a worker, the ledger or the agent gets a SIGKILL, at random, again and again
#
# Then one stream of 6 s: the agent is killed in the middle, and a new one starts beside the worker that finishes it.
#
# SEED=N repeats a run's order of victims.
. "$(dirname "$0")/common.bash"
e2e_init kill 21517
UP=$(free_port 22417)
provider provider "$UP" --delay-ms 3
# Never spent: what is held and what is counted in it is to come out even at the end.
E_QUOTAS='"quotas": { "calls": { "capacity": "1000000 requests" } },'
E_GRANT=', "quotas": [ { "bucket": "calls" } ]'
write_policy
instance_config '"workers": 2, "docker": "",'
instance_start || { not_ok start "the daemon does not serve"; exit 1; }
ok start
box_make box
yes "label" sp label "/$I_NAME-box" tag:e2e
SEED=${SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
RANDOM=$SEED
REQUESTS=${REQUESTS:-1000}
echo "# SEED=$SEED"

in_box box "$TESTS/e2e/http" -n "$REQUESTS" -p 8 -R 15000 -d "$(body_of anthropic true 'run: make')" "$BASE/v1/messages" > "$I_DIR/answers" &
client=$!
E_PIDS="$E_PIDS $client"
killed_worker=0 killed_ledger=0 killed_agent=0

ledger_pid() { sp status --json 2> /dev/null | jq -r '.ledger_pid // 0'; }
workers() { local l; l=$(ledger_pid); grep -vx "$l" "$I_CGROOT/$I_NAME/gateway/cgroup.procs" 2> /dev/null; }
kill_one() {
	local victims victim
	case $((RANDOM % 5)) in
	0 | 1)
		mapfile -t victims < <(workers)
		[ ${#victims[@]} -gt 0 ] || return
		victim=${victims[RANDOM % ${#victims[@]}]}
		kill -KILL "$victim" 2> /dev/null && killed_worker=$((killed_worker + 1)) ;;
	2 | 3)
		victim=$(ledger_pid)
		[ "${victim:-0}" -gt 1 ] && kill -KILL "$victim" 2> /dev/null && killed_ledger=$((killed_ledger + 1)) ;;
	*)
		kill -KILL "$I_PID"
		wait "$I_PID" 2> /dev/null
		killed_agent=$((killed_agent + 1))
		instance_start 200 || { not_ok "start after SIGKILL" "the daemon does not serve"; exit 1; } ;;
	esac
}
begun=$SECONDS
while kill -0 $client 2> /dev/null && [ $((SECONDS - begun)) -lt 120 ]; do
	sleep "0.$((RANDOM % 5 + 1))"
	kill -0 $client 2> /dev/null && kill_one
done
# Each kind at least once.
[ $killed_agent -gt 0 ] || { kill -KILL "$I_PID"; wait "$I_PID" 2> /dev/null; killed_agent=1; instance_start 200 || not_ok "start after SIGKILL" "no"; }
wait $client
echo "# killed: $killed_worker workers, $killed_ledger ledgers, $killed_agent agents, in $((SECONDS - begun)) s"
[ $((killed_worker + killed_ledger + killed_agent)) -ge 3 ] && ok "enough were killed" || not_ok "enough were killed" "$killed_worker $killed_ledger $killed_agent"

is "every client came to its end" "$(wc -l < "$I_DIR/answers")" "$REQUESTS"
grep '^200 sp_.* done$' "$I_DIR/answers" | cut -d' ' -f2 | sort > "$I_DIR/seen"
n=$(wc -l < "$I_DIR/seen")
[ "$n" -ge $((REQUESTS / 2)) ] && ok "most of the streams finished ($n of $REQUESTS)" || not_ok "most of the streams finished" "$n of $REQUESTS"
is "no request id was given twice" "$(uniq -d "$I_DIR/seen" | wc -l)" 0
all_there() {
	rows log --limit 100000 | jq -r '.[].id' | sort > "$I_DIR/recorded"
	[ -z "$(comm -23 "$I_DIR/seen" "$I_DIR/recorded")" ]
}
# What dead workers left is recorded by those that live: then there are journals and running requests of these alone.
journals() { [ "$(find "$I_DIR/state/journal" -maxdepth 1 -name 'w*' | wc -l)" = 2 ]; }
clean_live() { [ "$(find "$I_DIR/state/journal" -name 'live-*' -size +64c | wc -l)" = 2 ]; }
settled() { journals && clean_live; }
yes "what the dead left is taken up" wait_for 200 settled
wait_for 150 all_there
is "every stream that a client saw finished is in the ledger" "$(comm -23 "$I_DIR/seen" "$I_DIR/recorded" | wc -l)" 0
is "none twice" "$(uniq -d "$I_DIR/recorded" | wc -l)" 0
rows log --limit 100000 > "$I_DIR/log.json"
is "the sums are those of the rows" "$(ledger_requests)" "$(jq '[.[] | .count // 1] | add' "$I_DIR/log.json")"
is "and the tokens" "$(rows usage | jq '[.[].output] | add')" "$(jq '[.[] | .output // 0 | select(. > 0)] | add' "$I_DIR/log.json")"
wrong=$(jq -r '.[] | select(.outcome == "ok") | .id' "$I_DIR/log.json" | sort | comm -13 - "$I_DIR/seen" | wc -l)
is "those are recorded as ok" "$wrong" 0
served=$(grep -c claude "$I_DIR/provider.log")
n=$(wc -l < "$I_DIR/recorded")
[ "$n" -le $((served + REQUESTS)) ] && ok "no more rows than requests ($n rows, $served reached the provider)" || not_ok "no more rows than requests" "$n rows, $served served"
has "it serves as before" "$(in_box box "$TESTS/e2e/http" -w 3000 -d "$(body_of anthropic true hi)" "$BASE/v1/messages")" "200 sp_"

# ---------------------------------------------------------------- what runs outlives the agent
kill_agent() { kill -KILL "$I_PID"; wait "$I_PID" 2> /dev/null; }
pids() { sort "$I_CGROOT/$I_NAME/gateway/cgroup.procs" 2> /dev/null; }
row_of() { rows log --limit 100000 | jq -c --arg id "$1" '[.[] | select(.id == $id)]'; }
recorded() { [ "$(row_of "$1" | jq length)" -ge 1 ]; }
slow_body=$(body_of anthropic true "run: make" claude-practice-slow-460)
DIRECT=$(free_port $((UP + 60)))
provider direct "$DIRECT"
# slow_start: a stream of some 6 s that has begun.
slow_start() {
	in_box box "$TESTS/e2e/http" -d "$slow_body" -o "$I_DIR/slow" "$BASE/v1/messages" > "$I_DIR/slow.said" 2>&1 &
	SLOW=$!
	E_PIDS="$E_PIDS $SLOW"
	sleep 1
}

http -H "authorization: Bearer $KEY_TEXT" -d "$slow_body" -o "$I_DIR/want" "http://127.0.0.1:$DIRECT/v1/messages" > /dev/null
slow_start
before=$(pids)
kill_agent
sleep 1
is "without an agent nothing opens" "$(in_box box "$TESTS/e2e/http" -d "$(body_of anthropic true hi)" "$BASE/v1/messages" 2>&1 | cut -d' ' -f1)" 000
instance_start 200 || not_ok "start beside old workers" "the daemon does not serve"
kill -0 $SLOW 2> /dev/null && ok "the stream runs while the new daemon serves" || not_ok "the stream runs while the new daemon serves" "it ended: $(cat "$I_DIR/slow.said")"
has "which serves on the same port" "$(in_box box "$TESTS/e2e/http" -d "$(body_of anthropic true hi)" "$BASE/v1/messages")" "200 sp_"
[ -n "$(comm -12 <(echo "$before") <(pids))" ] && ok "the worker of before is there" || not_ok "the worker of before is there" "before: $before, now: $(pids)"
wait $SLOW
has "a stream outlives a SIGKILL of the agent" "$(cat "$I_DIR/slow.said")" "done"
yes "byte for byte" cmp "$I_DIR/slow" "$I_DIR/want"
id=$(cut -d' ' -f2 "$I_DIR/slow.said")
wait_for 100 recorded "$id"
row=$(row_of "$id")
is "the ledger has it once" "$(jq length <<< "$row")" 1
is "as ok, whole" "$(jq -r '.[0] | "\(.outcome) \(.partial // false)"' <<< "$row")" "ok false"
used=$(grep -o '"output_tokens":[0-9]*' "$I_DIR/want" | tail -n 1 | tr -cd 0-9)
is "with the usage of its end" "$(jq -r '.[0].output' <<< "$row")" "$used"
gone() { [ -z "$(comm -12 <(echo "$before") <(pids))" ]; }
yes "then the workers of before end" wait_for 50 gone
# What they wrote is read, and their journals are gone: one for each worker of now.
yes "and leave no journals behind" wait_for 150 journals

# A worker that finishes what runs is killed too: what it left is recorded by one of the new ones, once.
slow_start
before=$(pids)
kill_agent
instance_start 200 || not_ok "start beside old workers again" "the daemon does not serve"
for p in $(comm -12 <(echo "$before") <(pids)); do kill -KILL "$p"; done
wait $SLOW
has "a stream whose worker is killed breaks" "$(cat "$I_DIR/slow.said")" "cut"
id=$(cut -d' ' -f2 "$I_DIR/slow.said")
wait_for 100 recorded "$id"
row=$(row_of "$id")
is "the ledger has it once all the same" "$(jq length <<< "$row")" 1
is "as lost" "$(jq -r '.[0].outcome' <<< "$row")" lost
yes "its place is given back" wait_for 100 clean_live
yes "and its journal" wait_for 150 journals
# Every request that was sent to a provider is paid for once, whoever settled it; nothing is held any more.
bucket=$(rows quota | jq -c '.[] | select(.bucket == "calls")')
is "nothing is held in the quota" "$(jq .held <<< "$bucket")" 0
rows log --limit 100000 > "$I_DIR/log.json"
is "each request is counted in it once" "$((1000000 - $(jq .balance <<< "$bucket")))" "$(jq '[.[] | select(.outcome != "upstream_down" and .outcome != "overloaded")] | length' "$I_DIR/log.json")"
exit $E_FAILED
