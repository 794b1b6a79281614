/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sniff INTERFACE: a line for each IP packet that arrives there, "FAMILY DESTINATION PROTOCOL PORT BYTES", until it is
 * killed. For tests: what really left a sandbox, whatever its programs believe.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static unsigned port_of(unsigned protocol, const unsigned char *transport, size_t n)
{
	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_UDPLITE &&
	     protocol != IPPROTO_SCTP) ||
	    n < 4)
		return 0;
	return (unsigned)transport[2] << 8 | transport[3];
}

static void line(int family, const void *dest, unsigned protocol, const unsigned char *transport, size_t n)
{
	char text[INET6_ADDRSTRLEN];

	printf("%d %s %u %u %zu\n", family == AF_INET ? 4 : 6, inet_ntop(family, dest, text, sizeof(text)), protocol,
	       port_of(protocol, transport, n), n);
}

static void packet(const unsigned char *p, size_t n)
{
	const struct iphdr *ip = (const void *)p;
	const struct ip6_hdr *ip6 = (const void *)p;

	if (n >= sizeof(*ip) && ip->version == 4 && n >= ip->ihl * 4U)
		line(AF_INET, &ip->daddr, ip->protocol, p + ip->ihl * 4U, n - ip->ihl * 4U);
	else if (n >= sizeof(*ip6) && ip->version == 6)
		line(AF_INET6, &ip6->ip6_dst, ip6->ip6_nxt, p + sizeof(*ip6), n - sizeof(*ip6));
}

int main(int argc, char **argv)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int fd = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL));
	unsigned char bytes[65536];

	at.sll_ifindex = argc > 1 ? (int)if_nametoindex(argv[1]) : 0;
	if (!at.sll_ifindex || fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
		fprintf(stderr, "usage: sniff INTERFACE (%s)\n", strerror(errno));
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	for (;;) {
		struct sockaddr_ll from;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &len);

		if (n > 0 && from.sll_pkttype != PACKET_OUTGOING)
			packet(bytes, (size_t)n);
	}
}
