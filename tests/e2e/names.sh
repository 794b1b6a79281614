#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Names in a sandbox, asked with the resolvers that clients bring: a provider's name has its virtual address in each,
# a name of others is what the sandbox's own name server says, byte for byte. The network is that of world.bash.
. "$(dirname "$0")/common.bash"
. "$(dirname "$0")/world.bash"
E_NAME=names
world_need
e2e_init names 26617
trap 'world_clean; e2e_clean' EXIT
W_FILE_BYTES=1024
world_make
I_IN="nsenter --net=/run/netns/$I_NAME-host"
I_FORCE=', "resolvers": ["203.0.113.53"]'
mkdir -p "$I_CGROOT/$I_NAME-watched"
instance_config
cat > "$I_DIR/policy.hujson" <<END
{ "providers": { "anthropic": { "baseurl": "http://127.0.0.1:9", "apikey": "file:$I_DIR/key", "compatibility": { "anthropic_messages": true },
    "models": ["claude-*"], "domains": ["api.anthropic.com", "*.wild.test"] } }, "grants": [] }
END
instance_start || { not_ok start "the daemon does not start"; exit 1; }
for b in box second; do
	box_make "$b"
	box_enter "$b" sleep 600 &
	E_PIDS="$E_PIDS $!"
	sp label "/$I_NAME-$b" "tag:$b" > /dev/null || not_ok "label $b" failed
done
wait_for 50 bash -c "'$SALLYPORT' ps --json | jq -e '.[0].doors >= 1'" || not_ok "the door" "$(sp ps)"
VIP=198.18.0.1
asked() { grep -c "query.*$1" "$I_DIR/world/dns.log"; }

# resolver NAME COMMAND…: prints addresses of the name that is appended.
resolver() {
	local name=$1 out
	shift
	out=$(box_enter box "$@" api.anthropic.com 2>&1)
	has "$name: a provider's name" "$out" "$VIP"
	hasnt "$name: not its real address" "$out" 203.0.113.10
	out=$(box_enter box "$@" plain.test 2>&1)
	has "$name: a name of others" "$out" 203.0.113.99
}
before=$(asked api.anthropic.com)
resolver "C library (glibc)" getent ahostsv4
out=$(box_enter box getent ahosts api.anthropic.com)
has "C library: IPv6 too" "$out" "fd53:504c:5900::1"
resolver busybox busybox nslookup
have() { command -v "$1" > /dev/null && return 0; skip "$1" "it is not installed here"; return 1; }
have python3 && resolver "python" python3 -c 'import socket, sys; print(socket.gethostbyname(sys.argv[1]))'
have node && {
	resolver "node, dns.lookup" node -e 'require("dns").lookup(process.argv[1], {all: true}, (e, a) => console.log(e || JSON.stringify(a)))'
	resolver "node, c-ares" node -e 'require("dns").resolve4(process.argv[1], (e, a) => console.log(e || JSON.stringify(a)))'
}
if have go; then
	mkdir -p "$I_DIR/go"
	printf 'package main\nimport ("fmt"; "net"; "os")\nfunc main() { a, e := net.LookupHost(os.Args[1]); fmt.Println(a, e) }\n' > "$I_DIR/go/main.go"
	if (cd "$I_DIR/go" && GOCACHE="$I_DIR/go/cache" GO111MODULE=off CGO_ENABLED=0 go build -o ask main.go) > "$I_DIR/go/out" 2>&1; then
		resolver "go" "$I_DIR/go/ask"
	else
		not_ok go "$(tail -n 1 "$I_DIR/go/out")"
	fi
fi
have java && {
	printf 'class Ask { public static void main(String[] a) throws Exception { for (var x : java.net.InetAddress.getAllByName(a[0])) System.out.println(x); } }\n' > "$I_DIR/Ask.java"
	resolver "java" java "$I_DIR/Ask.java"
}
if have musl-gcc; then
	printf '#include <netdb.h>\n#include <stdio.h>\n#include <arpa/inet.h>\nint main(int c, char **v) { struct addrinfo *a; char t[64]; if (c < 2 || getaddrinfo(v[1], 0, 0, &a)) return 1; for (; a; a = a->ai_next) { if (a->ai_family == AF_INET) puts(inet_ntop(AF_INET, &((struct sockaddr_in *)a->ai_addr)->sin_addr, t, 64)); } return 0; }\n' > "$I_DIR/ask.c"
	musl-gcc -static -o "$I_DIR/ask" "$I_DIR/ask.c" 2> "$I_DIR/musl.err" && resolver "musl" "$I_DIR/ask" || not_ok musl "$(cat "$I_DIR/musl.err")"
	# It asks all servers at once, by one socket: the one that answers must be among those that are asked.
	printf 'nameserver 203.0.113.53\nnameserver 203.0.113.97\nnameserver 203.0.113.98\n' > "$I_DIR/resolv.conf"
	has "musl: one server of three is alive" "$(box_enter box timeout 2 "$I_DIR/ask" plain.test 2>&1)" 203.0.113.99
	echo "nameserver 203.0.113.53" > "$I_DIR/resolv.conf"
fi
# What the daemon asks for itself comes from the host; the sandbox's questions for a provider's name end in the role.
is "no question for a provider's name left the sandbox" "$(grep -c 'query.*api.anthropic.com from 10.77' "$I_DIR/world/dns.log")" 0
[ "$(asked api.anthropic.com)" -ge "$before" ] && ok "the host's name server is asked where the provider is"

if have dig; then
	ask() { box_enter box dig +time=2 +tries=1 "$@" 2>&1; }
	has "HTTPS record: none" "$(ask api.anthropic.com HTTPS)" "ANSWER: 0"
	hasnt "HTTPS record: no error" "$(ask api.anthropic.com HTTPS)" "SERVFAIL"
	has "by TCP" "$(ask +tcp +short api.anthropic.com A)" $VIP
	is "by TCP, a name of others" "$(ask +tcp +short plain.test A)" 203.0.113.99
	is "to another server" "$(ask +short @203.0.113.99 api.anthropic.com A)" $VIP
	has "a name below a pattern" "$(ask +short a.wild.test A)" 198.18.0.
	is "the same name, the same address" "$(ask +short A.WILD.test A)" "$(ask +short a.wild.test A)"
	is "another name, another address" "$([ "$(ask +short b.wild.test A)" != "$(ask +short a.wild.test A)" ] && echo yes)" yes
	is "the door has a name" "$(ask +short sallyport.internal A)" 127.0.0.1
	# Who makes up names below a pattern has its share of them, at once, and others have theirs.
	for n in $(seq 100); do echo "made-up-$n.wild.test A"; done > "$I_DIR/made-up"
	t=$(date +%s)
	out=$(ask +short -f "$I_DIR/made-up")
	is "one sandbox gets its share of names below a pattern" "$(grep -c '^198.18.0' <<< "$out")" 62
	[ $(($(date +%s) - t)) -lt 15 ] && ok "the others are refused at once" || not_ok "the others are refused at once" "100 names took $(($(date +%s) - t)) s"
	has "another sandbox gets names" "$(box_enter second dig +time=2 +tries=1 +short c.wild.test A 2>&1)" 198.18.0.
	has "the canary of browsers" "$(ask use-application-dns.net A)" NXDOMAIN
	has "a name that nobody has" "$(ask nobody.invalid A)" NXDOMAIN
	# Addresses stay over a restart of the daemon.
	was=$(ask +short b.wild.test A)
	instance_stop
	instance_start || not_ok restart failed
	sp label "/$I_NAME-box" tag:box > /dev/null
	wait_for 50 bash -c "'$SALLYPORT' ps --json | jq -e '.[0].doors >= 1'"
	is "addresses stay over a restart" "$(ask +short b.wild.test A)" "$was"
fi
exit "$E_FAILED"
