/* SPDX-License-Identifier: Apache-2.0 */
/* side.c - see side.h: counted calls on a socket, blocking or not. */
#include "side.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

int bench_set(struct bench_side *side, int name, int value)
{
	side->account.calls[BENCH_CALL_SETSOCKOPT]++;
	return setsockopt(side->sock, IPPROTO_TCP, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

int bench_wait(struct bench_side *side, short events)
{
	struct pollfd one = { .fd = side->sock, .events = events };
	int r;

	do {
		side->account.calls[BENCH_CALL_POLL]++;
		r = poll(&one, 1, BENCH_PATIENCE_MS);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

int bench_send_all(struct bench_side *side, const void *bytes, size_t length, int flags)
{
	const char *next = bytes;
	int r = 0;

	while (length > 0 && r == 0) {
		side->account.calls[BENCH_CALL_SEND]++;
		ssize_t sent = send(side->sock, next, length, flags | MSG_NOSIGNAL);
		if (sent >= 0) {
			next += sent;
			length -= (size_t)sent;
		} else if (errno == EAGAIN) {
			r = bench_wait(side, POLLOUT);
		} else if (errno != EINTR) {
			r = -errno;
		}
	}
	return r;
}

ssize_t bench_receive_some(struct bench_side *side, void *bytes, size_t length)
{
	int r = 0;

	while (r == 0) {
		side->account.calls[BENCH_CALL_RECV]++;
		ssize_t received = recv(side->sock, bytes, length, 0);
		if (received > 0)
			return received;
		if (received == 0)
			r = -ECONNRESET;
		else if (errno == EAGAIN)
			r = bench_wait(side, POLLIN);
		else if (errno != EINTR)
			r = -errno;
	}
	return r;
}

int bench_receive_all(struct bench_side *side, void *bytes, size_t length)
{
	char *next = bytes;

	while (length > 0) {
		ssize_t received = bench_receive_some(side, next, length);
		if (received < 0)
			return (int)received;
		next += received;
		length -= (size_t)received;
	}
	return 0;
}
