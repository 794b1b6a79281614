/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 from a client against a whole worker: what follows the preface and a SETTINGS frame is the fuzzer's. Whatever it is,
 * nothing of the connection may be left when it is closed. Nobody listens at the provider's address.
 */
#include "tests/unit/worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
	static char answer[1 << 16];
	int fd;

	if (!gw.config)
		worker_start("{}", 1);
	fd = worker_connect(false);
	if (write(fd, hello, sizeof(hello)) != sizeof(hello))
		abort();
	for (int quiet = 0; quiet < 4;) {
		ssize_t put = n ? write(fd, data, n) : 0, got;

		if (put > 0) {
			data += put;
			n -= (size_t)put;
		} else if (put < 0) {
			n = 0; /* it closed, or does not read on */
		}
		loop_once(&gw.loop, 0);
		got = read(fd, answer, sizeof(answer));
		quiet = got > 0 || put > 0 ? 0 : quiet + 1;
	}
	close(fd);
	for (int i = 0; i < 8 && gw.n_conns; i++)
		loop_once(&gw.loop, 0);
	while (gw.conns)
		conn_close(gw.conns); /* one that lingers */
	worker_after_batch(&gw);
	if (gw.n_conns || gw.n_requests || gw.body_bytes || gw.n_refused)
		abort();
	return 0;
}
