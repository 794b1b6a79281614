#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Nothing that a client saw finished is lost, whoever dies:
#
#   cgroup box, tag:e2e: 8 clients, 1,000 streams --> door --> 2 gateway workers --> practice provider
#                                                     agent       | journal
#                                                                 ledger
#   meanwhile a worker, the ledger or the agent gets a SIGKILL, at random, again and again
#
# SEED=N repeats a run's order of victims.
. "$(dirname "$0")/common.bash"
e2e_init kill 21517
UP=$(free_port 22417)
provider provider "$UP" --delay-ms 3
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
exit $E_FAILED
