/* SPDX-License-Identifier: Apache-2.0 */
/* ask SERVER NAME COUNT: asks a name server for A records, one after the other; prints the median time in microseconds. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

#include "common/log.h"

#define COUNT_MAX 100000

static size_t question(const char *name, uint16_t id, unsigned char *ret)
{
	static const unsigned char head[10] = { 1, 0, 0, 1 }; /* recursion desired, one question */
	size_t n = 12, label;

	ret[0] = (unsigned char)(id >> 8);
	ret[1] = (unsigned char)id;
	memcpy(ret + 2, head, sizeof(head));
	for (; *name; name += label + (name[label] == '.')) {
		label = strcspn(name, ".");
		ret[n++] = (unsigned char)label;
		memcpy(ret + n, name, label);
		n += label;
	}
	memcpy(ret + n, "\0\0\1\0\1", 5);
	return n + 5;
}

static int by_size(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(53) };
	static double took[COUNT_MAX];
	unsigned long n = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	unsigned char bytes[512];

	if (!n || n > COUNT_MAX || strlen(argv[2]) > 253 || inet_pton(AF_INET, argv[1], &sa.sin_addr) != 1)
		die("usage: ask SERVER NAME COUNT");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		die("no route: %s", errno_text(errno));
	for (unsigned long i = 0; i < n; i++) {
		size_t size = question(argv[2], (uint16_t)i, bytes);
		struct timespec from, to;

		clock_gettime(CLOCK_MONOTONIC, &from);
		if (send(fd, bytes, size, 0) < 0 || poll(&p, 1, 3000) != 1 || recv(fd, bytes, sizeof(bytes), 0) < 12)
			die("no answer: %s", errno_text(errno));
		clock_gettime(CLOCK_MONOTONIC, &to);
		if (bytes[3] & 15 || !(bytes[7] | bytes[6]))
			die("the answer has no address (code %u)", bytes[3] & 15U);
		took[i] = (double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3;
	}
	qsort(took, n, sizeof(*took), by_size);
	printf("%.1f\n", took[n / 2]);
	return 0;
}
