/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulk sink PORT: takes connections one after the other and reads them to their end.
 * bulk send ADDRESS PORT MEBIBYTES: sends so much and waits for the other end; prints mebibytes a second.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "common/log.h"

static char bytes[256 << 10];

static int sink(uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 128) < 0)
		die("cannot listen: %s", errno_text(errno));
	for (;;) {
		int conn = accept(fd, NULL, NULL);

		while (conn >= 0 && read(conn, bytes, sizeof(bytes)) > 0)
			;
		if (conn >= 0)
			close(conn);
	}
}

static int send_all(const char *address, uint16_t port, unsigned long mebibytes)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned long long left = (unsigned long long)mebibytes << 20;
	struct timespec from, to;
	char byte;

	inet_pton(AF_INET, address, &sa.sin_addr);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		die("no connection: %s", errno_text(errno));
	clock_gettime(CLOCK_MONOTONIC, &from);
	while (left) {
		ssize_t n = write(fd, bytes, MIN(left, (unsigned long long)sizeof(bytes)));

		if (n < 0)
			die("cannot send: %s", errno_text(errno));
		left -= (unsigned long long)n;
	}
	shutdown(fd, SHUT_WR);
	if (read(fd, &byte, 1) < 0)
		die("the other end broke: %s", errno_text(errno));
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.0f\n", (double)mebibytes / ((double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "sink"))
		return sink((uint16_t)strtoul(argv[2], NULL, 10));
	if (argc == 5 && !strcmp(argv[1], "send"))
		return send_all(argv[2], (uint16_t)strtoul(argv[3], NULL, 10), MIN(strtoul(argv[4], NULL, 10), 65536UL));
	die("usage: bulk sink PORT | bulk send ADDRESS PORT MEBIBYTES");
}
