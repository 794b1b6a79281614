# SPDX-License-Identifier: Apache-2.0
# A small Internet for the tests of the forced path, in network namespaces without a way out. Nothing that is sent in
# there can reach a host that is not the test's own. For bash; sourced after common.bash.
#
#   NAME-host    the daemon and the practice provider (127.0.0.1:$UP); 10.76.0.1, its name server 203.0.113.53
#        │ veth
#   NAME-world   203.0.113.10, 2001:db8:10::10   what api.anthropic.com and other.test resolve to
#        │       203.0.113.20                    serves api.anthropic.com too, but no name server says so
#        │       203.0.113.99                    plain.test
#        │       203.0.113.53                    the name server (dnsmasq)
#        │ veth  TLS and HTTP on 443, 80 and 8443 of all of them: nginx, whose log says which names it was asked for
#   NAME-box     the sandbox: 10.77.0.2, its default route leads to the world
#
# sniff (tests/e2e/sniff.c) on the world's end of the box's cable tells which packets left the sandbox.

W_REAL="203.0.113.10 203.0.113.20 2001:db8:10::10"

world_need() {
	local c missing=
	for c in ip nginx dnsmasq curl openssl nsenter; do command -v "$c" > /dev/null || missing="$missing $c"; done
	[ -z "$missing" ] || skip_all "missing:$missing (scripts/test installs nginx-light, dnsmasq-base, curl, openssl)"
}

# at PLACE COMMAND…: in the namespace of host, world or box; cgroup and mounts stay.
at() { nsenter --net="/run/netns/$I_NAME-$1" "${@:2}"; }
# server PLACE COMMAND…: in the background, until the trap ends it. The shell becomes the command: its pid is the one to end.
server() {
	(exec nsenter --net="/run/netns/$I_NAME-$1" "${@:2}") &
	E_PIDS="$E_PIDS $!"
}

world_cable() { # PLACE DEVICE ADDRESS6 ADDRESS4 ADDRESS4-OF-WORLD
	ip link add name "$2" netns "$I_NAME-$1" type veth peer name "w$2" netns "$I_NAME-world"
	at "$1" ip addr add "$4/24" dev "$2"
	at "$1" ip -6 addr add "$3:2/64" dev "$2" nodad
	at world ip addr add "$5/24" dev "w$2"
	at world ip -6 addr add "$3:1/64" dev "w$2" nodad
	at "$1" ip link set "$2" up
	at world ip link set "w$2" up
	at "$1" ip route add default via "$5"
	at "$1" ip -6 route add default via "$3:1"
}

world_certificates() {
	local d=$I_DIR/world
	mkdir -p "$d"
	openssl ecparam -name prime256v1 -genkey -noout -out "$d/ca.key" 2> /dev/null
	openssl req -x509 -new -key "$d/ca.key" -subj "/CN=World CA" -days 2 -out "$d/ca.pem" \
		-addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" 2> /dev/null
	openssl ecparam -name prime256v1 -genkey -noout -out "$d/site.key" 2> /dev/null
	printf 'subjectAltName=DNS:api.anthropic.com,DNS:api.openai.com,DNS:generativelanguage.googleapis.com,DNS:other.test,DNS:plain.test' > "$d/san"
	openssl req -new -key "$d/site.key" -subj "/CN=site" 2> /dev/null |
		openssl x509 -req -CA "$d/ca.pem" -CAkey "$d/ca.key" -CAcreateserial -days 2 -extfile "$d/san" -out "$d/site.pem" 2> /dev/null
}

# What arrives here arrived past the door, unless other.test or plain.test was meant.
world_sites() {
	local d=$I_DIR/world
	head -c "${W_FILE_BYTES:-33554432}" /dev/urandom > "$d/file"
	cat > "$d/nginx.conf" <<-END
	daemon off; worker_processes 1; pid $d/nginx.pid; error_log $d/nginx.err;
	events { worker_connections 256; }
	http {
		log_format names '\$server_addr \$server_port "\$ssl_server_name" "\$http_host" "\$request" "\$http_x_api_key"';
		access_log $d/access.log names;
		client_body_temp_path $d/t1; proxy_temp_path $d/t2; fastcgi_temp_path $d/t3; uwsgi_temp_path $d/t4; scgi_temp_path $d/t5;
		server {
			listen 443 ssl; listen 8443 ssl; listen 80; listen [::]:443 ssl ipv6only=on; listen [::]:80 ipv6only=on;
			ssl_certificate $d/site.pem; ssl_certificate_key $d/site.key;
			location = /file { root $d; }
			location / { return 200 "the real one\n"; }
		}
	}
	END
	server world nginx -p "$d" -c "$d/nginx.conf" 2> "$d/nginx.out"
	server world dnsmasq --keep-in-foreground --no-resolv --no-hosts --no-poll --bind-interfaces --listen-address=203.0.113.53 --port=53 \
		--user=root --pid-file= --conf-file=/dev/null --local-ttl=60 --log-queries --log-facility="$d/dns.log" \
		--host-record=api.anthropic.com,203.0.113.10,2001:db8:10::10 --host-record=api.openai.com,203.0.113.10 \
		--host-record=generativelanguage.googleapis.com,203.0.113.10 --local=/test/ --local=/invalid/ --local=/com/ \
		--host-record=other.test,203.0.113.10 --host-record=plain.test,203.0.113.99
	wait_for 50 at world curl -s -k -o /dev/null https://203.0.113.10/ || die "the world's web server does not start: $(tail -n 3 "$d/nginx.out" "$d/nginx.err" 2> /dev/null)"
}

# world_make: namespaces, cables, servers; the trap takes them off again.
world_make() {
	local p a
	for p in host world box; do
		ip netns add "$I_NAME-$p" || skip_all "network namespaces cannot be made"
		at "$p" ip link set lo up
	done
	world_cable host h0 fd00:76: 10.76.0.1 10.76.0.2
	world_cable box b0 fd00:77: 10.77.0.2 10.77.0.1
	for a in 203.0.113.10 203.0.113.20 203.0.113.53 203.0.113.99; do at world ip addr add "$a/32" dev lo; done
	at world ip -6 addr add 2001:db8:10::10/128 dev lo
	world_certificates
	world_sites
	echo "nameserver 203.0.113.53" > "$I_DIR/resolv.conf"
	server world "$TESTS/e2e/sniff" wb0 > "$I_DIR/sniff.log"
	wait_for 20 grep -q ready "$I_DIR/sniff.log"
}

world_clean() {
	local p
	for p in host world box; do ip netns del "$I_NAME-$p" 2> /dev/null; done
	# ip makes it a mount at its first use; the last one takes it off again.
	rmdir /run/netns 2> /dev/null || { [ -z "$(ls -A /run/netns 2> /dev/null)" ] && umount /run/netns 2> /dev/null && rmdir /run/netns; }
}

# mark, left [ADDRESS…]: packets to these addresses (those of the provider) that left the sandbox since the mark; not
# ICMP, which carries no request. $W_SNIFF is what another sniff wrote.
mark() { W_MARK=$(wc -l < "${W_SNIFF:-$I_DIR/sniff.log}"); }
left() {
	local a=${*:-$W_REAL}
	sleep 0.2
	tail -n +$((W_MARK + 1)) "${W_SNIFF:-$I_DIR/sniff.log}" | awk -v list="$a" '
		BEGIN { n = split(list, l, " "); for (i = 1; i <= n; i++) want[l[i]] = 1 }
		($2 in want) && $3 != 1 && $3 != 58 { c++ } END { print c + 0 }'
}

# box_enter NAME COMMAND…: in the sandbox's cgroup NAME and network, with the world's name server.
box_enter() {
	bash -c 'echo $$ > "$0" && exec "$@"' "$I_CGROOT/$I_NAME-$1/cgroup.procs" \
		nsenter --net="/run/netns/$I_NAME-box" unshare -m sh -c \
		'mount --make-rprivate / && mount --bind "$0" /etc/resolv.conf && exec "$@"' "$I_DIR/resolv.conf" "${@:2}"
}
