#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Clients without a base URL, led to the gateway. The sandbox has a network namespace of its own:
#
#   box (cgroup, tag:e2e, mode assist or strict; netns inside)      origin (netns outside, 10.99.0.2)
#     curl, python3, node --> https://api.provider.test = 198.18.0.N --> door --> gateway --> practice provider
#     curl --> https://other.test = 10.99.0.2:443, spliced --------------------> TLS server of ours, files of ours
#
# Names come from /etc/hosts of the sandbox, so that each case has its address; one client asks the name server instead.
. "$(dirname "$0")/common.bash"
e2e_init forced 21217
UP=$(free_port 22317)
provider provider "$UP"
IN=sp-fi-$$ OUT=sp-fo-$$
clean_netns() { ip netns del "$IN" 2> /dev/null; ip netns del "$OUT" 2> /dev/null; }
trap 'clean_netns; e2e_clean' EXIT
ip netns add "$IN" && ip netns add "$OUT" || skip_all "no network namespaces can be made"
ip -n "$IN" link set lo up
ip -n "$OUT" link set lo up
ip -n "$IN" link add in type veth peer name out netns "$OUT"
ip -n "$IN" addr add 10.99.0.1/24 dev in
ip -n "$OUT" addr add 10.99.0.2/24 dev out
ip -n "$IN" link set in up
ip -n "$OUT" link set out up
ip -n "$IN" route add default via 10.99.0.2

# The origin: another CA, a large file.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=other.test -addext subjectAltName=DNS:other.test \
	-keyout "$I_DIR/other.key" -out "$I_DIR/other.pem" 2> /dev/null
head -c $((256 << 20)) /dev/urandom > "$I_DIR/large"
cat > "$I_DIR/origin.py" <<'END'
import http.server, os, ssl, sys, threading
folder, = sys.argv[1:]
os.chdir(folder)
class H(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def do_PUT(self):
        n = int(self.headers["content-length"])
        with open("put", "wb") as f:
            while n:
                b = self.rfile.read(min(n, 1 << 20)); n -= len(b); f.write(b)
        self.send_response(204); self.send_header("content-length", "0"); self.end_headers()
plain = http.server.ThreadingHTTPServer(("10.99.0.2", 80), H)
threading.Thread(target=plain.serve_forever, daemon=True).start()
tls = http.server.ThreadingHTTPServer(("10.99.0.2", 443), H)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain("other.pem", "other.key")
tls.socket = c.wrap_socket(tls.socket, server_side=True)
tls.serve_forever()
END
ip netns exec "$OUT" python3 "$I_DIR/origin.py" "$I_DIR" 2> "$I_DIR/origin.err" &
E_PIDS="$E_PIDS $!"

mode=assist
E_PROVIDERS='"p": { "baseurl": "http://127.0.0.1:'$UP'", "apikey": "file:'$I_DIR'/key", "authorization": "x-api-key", "models": ["claude-*"],
	"compatibility": { "anthropic_messages": true, "openai_chat": true }, "domains": ["api.provider.test"] },'
policy() { write_policy '"egress": { "default": "'$mode'" },'; }
policy
instance_config '"workers": 2, "docker": "",'
instance_start || { not_ok start "the daemon does not serve"; exit 1; }
ok start
box_make box
BOX=/$I_NAME-box
VIP=$(grep -nx api.provider.test "$I_DIR/state/names" | cut -d: -f1)
[ -n "$VIP" ] || { not_ok "the name has a number" "$(ls "$I_DIR/state")"; exit 1; }
VIP=198.18.$((VIP / 256)).$((VIP % 256))
printf '127.0.0.1 localhost\n%s api.provider.test\n%s vip-of-another.test\n10.99.0.2 other.test\n' "$VIP" "$VIP" > "$I_DIR/hosts"
# in the sandbox: its cgroup, its network, its names.
box() { in_box box ip netns exec "$IN" unshare -m bash -c 'mount --bind "$0" /etc/hosts && exec "$@"' "$I_DIR/hosts" "$@"; }
# The namespace gets its door when a process of the sandbox is in it.
box sleep 300 &
E_PIDS="$E_PIDS $!"
has "label the sandbox" "$(sp label "$BOX" tag:e2e 2>&1 && echo done)" done
door_there() { ip netns exec "$IN" ss -ltn 2> /dev/null | grep -q 127.0.0.1; }
wait_for 100 door_there || not_ok "a door in the namespace" "$(sp ps 2>&1)"

# ---------------------------------------------------------------- the CA
wait_for 50 test -s "$I_DIR/run/ca/bundle.pem" || not_ok "a CA is made" "$(ls -l "$I_DIR/run/ca" 2>&1)"
has "ca show" "$(sp ca show 2>&1)" "api.provider.test"
has "ca show --json" "$(sp ca show --json 2>&1)" '"names":["api.provider.test"'
hasnt "no private key is laid out" "$(cat "$I_DIR"/run/ca/*)" PRIVATE
is "the key is the gateway's alone" "$(stat -c '%a %u' "$I_DIR/state/ca/files/ca.key")" "600 62117"
has "the workers cannot reach it" "$(setpriv --reuid 62117 --regid 62117 --clear-groups ls "$I_DIR/state/ca/files" 2>&1)" "Permission denied"
CA=$I_DIR/run/ca/bundle.pem
body_of anthropic false "run: git status" > "$I_DIR/body"

# ---------------------------------------------------------------- clients
ask_curl() { box curl -sS -m 20 "$@" -H 'content-type: application/json' -H 'anthropic-version: 2023-06-01' -H 'x-api-key: sk-of-the-client' --data-binary "@$I_DIR/body" https://api.provider.test/v1/messages 2>&1; }
has "curl" "$(ask_curl --cacert "$CA")" '"type":"message"'
printf 'nameserver 10.99.0.2\noptions timeout:2 attempts:2\n' > "$I_DIR/resolv.conf"
has "curl, the name by DNS" "$(in_box box ip netns exec "$IN" unshare -m bash -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$I_DIR/resolv.conf" \
	curl -sS -m 20 --cacert "$CA" -H 'content-type: application/json' --data-binary "@$I_DIR/body" https://api.provider.test/v1/messages 2>&1)" '"type":"message"'
has "curl by HTTP/2" "$(ask_curl --cacert "$CA" --http2 -w '%{http_version}')" '}2'
has "curl by HTTP/1.1" "$(ask_curl --cacert "$CA" --http1.1 -w '%{http_version}')" '}1.1'
is "HTTP/2: another :authority behind the name" "$(box curl -sS -m 20 --http2 --cacert "$CA" -H 'Host: evil.test' -o /dev/null -w '%{http_version} %{http_code}' https://api.provider.test/v1/messages 2>&1)" "2 421"
has "HTTP/2 in clear is not led, since no name can be seen" "$(box curl -sS -m 20 --http2-prior-knowledge -d x http://api.provider.test/v1/messages 2>&1)" "curl: ("
has "clear text to the same name" "$(box curl -sS -m 20 -H 'content-type: application/json' --data-binary "@$I_DIR/body" http://api.provider.test/v1/messages 2>&1)" '"type":"message"'
has "python3" "$(box env SSL_CERT_FILE="$CA" python3 -c '
import urllib.request, sys
r = urllib.request.Request("https://api.provider.test/v1/messages", open(sys.argv[1], "rb").read(), {"content-type": "application/json"})
print(urllib.request.urlopen(r, timeout=20).read().decode())' "$I_DIR/body" 2>&1)" '"type":"message"'
if command -v node > /dev/null; then
	has "node" "$(box env NODE_EXTRA_CA_CERTS="$CA" node -e '
fetch("https://api.provider.test/v1/messages", {method: "POST", body: require("fs").readFileSync(process.argv[1]), headers: {"content-type": "application/json"}})
	.then(r => r.text()).then(console.log, e => console.log(e.cause || e))' "$I_DIR/body" 2>&1)" '"type":"message"'
else
	skip node "node is not installed"
fi
hasnt "the provider saw our key only" "$(cat "$I_DIR/provider.log")" sk-of-the-client
request_has() { sp log --json 2> /dev/null | grep -q '"forced":true'; }
if wait_for 50 request_has; then ok "the record says that it was led here"; else not_ok "the record says that it was led here" "$(sp log --json 2>&1)"; fi
has "another path of the name" "$(box curl -sS -m 20 --cacert "$CA" https://api.provider.test/api/hello 2>&1)" "is not served here"
has "another Host behind the name" "$(box curl -sS -m 20 --cacert "$CA" -H 'Host: evil.test' -o /dev/null -w '%{http_code}' https://api.provider.test/v1/messages 2>&1)" 421
log_has() { sp log --events --json 2> /dev/null | grep -q "$1"; }
event() { if wait_for 50 log_has "$2"; then ok "$1"; else not_ok "$1" "no event has $2"; fi; }
has "without the CA: a TLS error" "$(ask_curl --cacert /etc/ssl/certs/ca-certificates.crt)" "certificate"
event "and an event with the cure" "does not accept this host's CA for api.provider.test"
has "another name at its address" "$(box curl -sS -m 20 --cacert "$CA" https://vip-of-another.test/ 2>&1)" "unrecognized name"
event "and an event" "the address of api.provider.test (vip) was refused"

# ---------------------------------------------------------------- rotation under a client that goes on
box python3 -c '
import http.client, ssl, sys, time
def ask(c):
    c.request("POST", "/v1/messages", open(sys.argv[1], "rb").read(), {"content-type": "application/json"})
    r = c.getresponse(); r.read(); return r.status
def new(): return http.client.HTTPSConnection("api.provider.test", timeout=20, context=context)
context = ssl.create_default_context(cafile=sys.argv[2])
old = new(); print(ask(old)); open(sys.argv[3], "w").close()
while open(sys.argv[3]).read() == "": time.sleep(0.05)
print(ask(old)); print(ask(new()))' "$I_DIR/body" "$CA" "$I_DIR/turn" > "$I_DIR/rotation" 2>&1 &
client=$!
wait_for 50 test -e "$I_DIR/turn"
before=$(sp ca show --json | jq -r .fingerprint)
cp "$CA" "$I_DIR/old-bundle.pem"
has "ca rotate" "$(sp ca rotate 2>&1)" "former CA"
has "another CA" "$([ "$before" != "$(sp ca show --json | jq -r .fingerprint)" ] && echo yes)" yes
echo go > "$I_DIR/turn"
wait "$client"
is "a client that runs goes on, also anew" "$(tr '\n' ' ' < "$I_DIR/rotation")" "200 200 200 "
has "who trusts the old CA alone" "$(ask_curl --cacert "$I_DIR/old-bundle.pem")" '"type":"message"'
has "who trusts the new one" "$(ask_curl --cacert "$CA")" '"type":"message"'

# ---------------------------------------------------------------- others' names, strict
get() { box curl -sS -m 60 --cacert "$I_DIR/other.pem" "$@"; }
is "not led in assist" "$(get -o /dev/null -w '%{http_code}' https://other.test/body 2>&1)" 200
mode=strict
policy
wait_for 50 bash -c "[ \"\$($SALLYPORT force --config $I_DIR/config.hujson --json | jq -r .default_mode)\" = strict ]"
sleep 0.5
get -o "$I_DIR/got" https://other.test/large 2> "$I_DIR/err" && cmp -s "$I_DIR/got" "$I_DIR/large" && ok "256 MiB through the splice, byte for byte" ||
	not_ok "256 MiB through the splice, byte for byte" "$(cat "$I_DIR/err")"
get -T "$I_DIR/large" https://other.test/put 2> "$I_DIR/err" && cmp -s "$I_DIR/put" "$I_DIR/large" && ok "and the other way" || not_ok "and the other way" "$(cat "$I_DIR/err")"
is "clear text of another name" "$(get http://other.test/body | cmp - "$I_DIR/body" && echo same)" same
has "a provider's name on a clear-text connection of another" "$(printf 'GET /body HTTP/1.1\r\nHost: other.test\r\n\r\nGET / HTTP/1.1\r\nHost: api.provider.test\r\n\r\n' | box timeout 5 python3 -c '
import socket, sys
s = socket.create_connection(("10.99.0.2", 80)); s.sendall(sys.stdin.buffer.read()); d = b""
try:
    while (b := s.recv(65536)): d += b
except OSError: pass
print(d.count(b"HTTP/1.1"))' 2>&1)" 0
event "is cut off with an event" "a later request on it names a provider"
has "by address: no name" "$(box curl -sS -m 20 -k https://10.99.0.2/ 2>&1)" "alert"
event "refused with an event" "does not name its server (SNI)"

# ---------------------------------------------------------------- how fast
cat > "$I_DIR/sink.py" <<'END'
import socket, sys, threading
# A hello, and 512 MiB are the answer: no TLS, which would be the limit.
hello = open(sys.argv[1], "rb").read()
def serve(c):
    c.recv(len(hello), socket.MSG_WAITALL)
    block = bytes(1 << 20)
    try:
        for i in range(512): c.sendall(block)
    except OSError: pass
    c.close()
s = socket.create_server(("10.99.0.3", 443))
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
END
ip -n "$OUT" addr add 10.99.0.3/24 dev out
ip netns exec "$OUT" python3 "$I_DIR/sink.py" tests/fixtures/hello/go &
E_PIDS="$E_PIDS $!"
sleep 0.5
cat > "$I_DIR/pull.py" <<'END'
import socket, sys, time
s = socket.create_connection(("10.99.0.3", 443)); s.sendall(open(sys.argv[1], "rb").read())
n = 0; b = bytearray(1 << 20); t = time.time()
while (k := s.recv_into(b)): n += k
print(int(n / (time.time() - t) / 1e6))
END
best() { local i v m=0; for i in 1 2 3; do v=$("$@"); [ "$v" -gt "$m" ] && m=$v; done; echo "$m"; }
# compare NAME LEAST: a hundredth of the direct throughput at least.
compare() {
	local direct spliced
	direct=$(best ip netns exec "$IN" python3 "$I_DIR/pull.py" tests/fixtures/hello/go)
	spliced=$(best box python3 "$I_DIR/pull.py" tests/fixtures/hello/go)
	echo "# $1: spliced $spliced MB/s, direct $direct MB/s: $((spliced * 100 / direct)) %"
	if [ $((spliced * 100)) -ge $((direct * $2)) ]; then ok "throughput, $1"; else not_ok "throughput, $1" "$spliced of $direct MB/s"; fi
}
# Where processors are the limit (a virtual link, source, worker and sink on a few cores) the second hop costs what it costs.
compare "processors are the limit" 50
ip netns exec "$OUT" tc qdisc add dev out root tbf rate 4gbit burst 2mb latency 50ms && compare "a link of 4 Gbit/s" 90
