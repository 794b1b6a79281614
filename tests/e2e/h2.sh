#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# HTTP/2 with prior knowledge at the explicit door:
#
#   box (cgroup, tag:e2e): curl, Node's http2 --> door 127.0.0.1:PORT --> gateway --HTTP/1.1--> practice provider
#
# The four formats byte for byte, streams beside each other, an event as soon as it is there, refusals, a client that
# leaves, a daemon that ends. HTTP/2 over TLS is in forced.sh.
. "$(dirname "$0")/common.bash"
e2e_init h2 21317
command -v curl > /dev/null && curl --version | grep -q nghttp2 || skip_all "curl without HTTP/2"
UP=$(free_port 22417)
DIRECT=$(free_port $((UP + 50)))
provider provider "$UP"
provider direct "$DIRECT" # the same, asked without us: what the bytes are to be
write_policy
instance_config
instance_start || { not_ok start "the daemon does not serve"; exit 1; }
ok start
box_make watched/box
box_make watched/none
box() { in_box watched/box "$@"; }
BOX=/$I_NAME-watched/box
has "label a cgroup" "$(sp label "$BOX" tag:e2e 2>&1 && echo done)" "done"
wait_for 50 bash -c "$SALLYPORT ps --json | grep -q '$BOX'" || true

h2() { curl -sS -m 20 --http2-prior-knowledge -H 'content-type: application/json' -w '%{http_version} %{http_code}' "$@" 2>&1; }

# ---------------------------------------------------------------- the four formats
asked=0
for format in anthropic chat responses gemini; do
	for stream in true false; do
		name="$format $([ $stream = true ] && echo stream || echo json)"
		path=$(path_of $format $stream)
		body_of $format $stream "run: git status # $format $stream" > "$I_DIR/body"
		is "$name" "$(export -f h2; box bash -c 'h2 "$@"' h2 --data-binary "@$I_DIR/body" -o "$I_DIR/got" -D "$I_DIR/head" "$BASE$path")" "2 200"
		http -H "authorization: Bearer $KEY_TEXT" -f "$I_DIR/body" -o "$I_DIR/want" "http://127.0.0.1:$DIRECT$path" > /dev/null
		if cmp -s "$I_DIR/got" "$I_DIR/want"; then ok "$name arrives byte for byte"; else not_ok "$name arrives byte for byte" "$(cmp "$I_DIR/got" "$I_DIR/want" 2>&1)"; fi
		asked=$((asked + 1))
	done
done
hasnt "no field of HTTP/1.1 is left" "$(tr 'A-Z' 'a-z' < "$I_DIR/head")" "connection"
wait_for 50 ledger_reaches $asked
is "the ledger has them all" "$(ledger_requests)" $asked
is "with their tokens" "$(rows usage --by cgroup | jq --arg c "$BOX" '.[] | select(.cgroup == $c) | .output > 0')" true
head -c 1000000 /dev/zero | tr '\0' 'x' > "$I_DIR/pad"
{ printf '{"model":"claude-sonnet-4-5","max_tokens":64,"messages":[{"role":"user","content":"'; cat "$I_DIR/pad"; printf '"}]}'; } > "$I_DIR/body"
is "a body of a megabyte" "$(export -f h2; box bash -c 'h2 "$@"' h2 --data-binary "@$I_DIR/body" -o "$I_DIR/got" "$BASE/v1/messages")" "2 200"
is "HTTP/1.1 with the offer of h2c stays what it is" "$(box curl -sS -m 20 --http2 -w '%{http_version} %{http_code}' -H 'content-type: application/json' -d "$(body_of responses false hi)" -o "$I_DIR/got" "$BASE/v1/responses" 2>&1)" "1.1 200"

# ---------------------------------------------------------------- refusals
is "an unknown model" "$(export -f h2; box bash -c 'h2 "$@"' h2 -d "$(body_of anthropic false hi nobody-has-this)" -o "$I_DIR/got" "$BASE/v1/messages")" "2 404"
is "in the format of the path" "$(jq -r '.type + " " + .error.type' "$I_DIR/got")" "error not_found_error"
is "a neighbour in no sandbox" "$(h2 -d "$(body_of chat false hi)" -o "$I_DIR/got" "$BASE/v1/chat/completions")" "2 403"
has "with our sentence" "$(jq -r .error.message "$I_DIR/got")" "no labelled sandbox"
is "a probe by HEAD" "$(export -f h2; box bash -c 'h2 "$@"' h2 -I "$BASE/" -o "$I_DIR/got")" "2 200"

# ---------------------------------------------------------------- streams beside each other
if ! command -v node > /dev/null; then
	skip node "node is not installed"
	exit 0
fi
cat > "$I_DIR/many.js" <<'END'
// many.js URL N BODY WANT: N streams of one session at once, each with the bytes of WANT; then one that is cancelled.
const http2 = require("http2"), fs = require("fs");
const [url, n, body, want] = [process.argv[2], +process.argv[3], fs.readFileSync(process.argv[4]), fs.readFileSync(process.argv[5])];
const session = http2.connect(url);
const ask = (field) => session.request({ ":method": "POST", ":path": "/v1/messages", "content-type": "application/json", ...field });
const one = () => new Promise((done) => {
	const s = ask({}), parts = [];
	let status;
	s.on("response", (h) => status = h[":status"]);
	s.on("data", (d) => parts.push(d));
	s.on("error", (e) => done(String(e)));
	s.on("end", () => done(status === 200 && Buffer.concat(parts).equals(want) ? "same" : `${status} ${Buffer.concat(parts).length} bytes`));
	s.end(body);
});
session.on("error", (e) => { console.log(String(e)); process.exit(1); });
(async () => {
	const all = await Promise.all(Array.from({ length: n }, one));
	console.log(all.filter((a) => a === "same").length, "of", n, [...new Set(all)].join(", "));
	// Events come one by one, 100 ms after each other.
	const slow = ask({ "x-practice": "delay-ms=100" }), times = [];
	slow.on("data", () => times.push(Date.now()));
	slow.end(body);
	await new Promise((r) => slow.on("end", r));
	console.log(times.length > 3 && times.at(-1) - times[0] > 200 ? "spread" : `in ${times.length} at once`);
	const gone = ask({ "x-practice": "delay-ms=500" });
	gone.on("response", () => gone.close(http2.constants.NGHTTP2_CANCEL));
	gone.on("error", () => {});
	gone.end(body);
	await new Promise((r) => gone.on("close", r));
	console.log(await one());
	session.ping((err, ms) => { console.log(err ? String(err) : "pong"); session.close(); });
})();
END
body_of anthropic true "run: git status" > "$I_DIR/body"
http -H "authorization: Bearer $KEY_TEXT" -f "$I_DIR/body" -o "$I_DIR/want" "http://127.0.0.1:$DIRECT/v1/messages" > /dev/null
box timeout 60 node "$I_DIR/many.js" "$BASE" 100 "$I_DIR/body" "$I_DIR/want" > "$I_DIR/many" 2>&1
is "100 streams of one session" "$(sed -n 1p "$I_DIR/many")" "100 of 100 same"
is "an event leaves when it has come" "$(sed -n 2p "$I_DIR/many")" "spread"
is "one is cancelled, the next is served" "$(sed -n 3p "$I_DIR/many")" same
is "a ping is answered" "$(sed -n 4p "$I_DIR/many")" pong
gone() { [ "$(rows log --limit 1000 | jq '[.[] | select(.outcome == "client_gone")] | length')" = 1 ]; }
yes "the ledger says that a client left" wait_for 50 gone

# ---------------------------------------------------------------- the daemon ends under a session
cat > "$I_DIR/stays.js" <<'END'
// stays.js URL BODY: a slow stream and an idle session; told when both have ended.
const http2 = require("http2"), fs = require("fs");
const session = http2.connect(process.argv[2]);
let n = 0;
session.on("goaway", (code) => console.log("goaway", code));
session.on("close", () => console.log("closed"));
const s = session.request({ ":method": "POST", ":path": "/v1/messages", "content-type": "application/json", "x-practice": "delay-ms=200" });
s.on("data", (d) => { if (!n) fs.writeFileSync(process.argv[4], ""); n += d.length; });
s.on("end", () => console.log(n === +process.argv[5] ? "whole" : `${n} bytes`));
s.end(fs.readFileSync(process.argv[3]));
END
box timeout 60 node "$I_DIR/stays.js" "$BASE" "$I_DIR/body" "$I_DIR/begun" "$(stat -c %s "$I_DIR/want")" > "$I_DIR/stays" 2>&1 &
client=$!
wait_for 100 test -e "$I_DIR/begun" || not_ok "a stream runs" "$(cat "$I_DIR/stays")"
instance_stop
wait "$client"
is "a running stream is whole, the session is told" "$(tr '\n' ' ' < "$I_DIR/stays")" "goaway 0 whole closed "
