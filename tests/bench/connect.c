/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect PORT COUNT [ADDRESS]: connects to ADDRESS:PORT (127.0.0.1) and closes, COUNT times; prints the CPU
 * nanoseconds of each.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "common/log.h"

int main(int argc, char **argv)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	/* A reset instead of a FIN: no port stays in TIME_WAIT. */
	struct linger hard = { 1, 0 };
	struct timespec from, to;
	unsigned long n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	if (!n || n > 1000000)
		die("usage: connect PORT COUNT [ADDRESS]");
	if (argc > 3 && inet_pton(AF_INET, argv[3], &sa.sin_addr) != 1)
		die("%s is no IPv4 address", argv[3]);
	sa.sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	for (unsigned long i = 0; i < n; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
			die("no connection: %s", errno_text(errno));
		close(fd);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	printf("%.0f\n", ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / (double)n);
	return 0;
}
