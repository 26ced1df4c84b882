/* SPDX-License-Identifier: Apache-2.0 */
/* connect.c - resolves a host and connects within a time. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connect.h"

/* Returns 0 or a positive errno. */
static int wait_connected(int fd, uint32_t timeout_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };
	int error = 0;
	socklen_t length = sizeof(error);

	int n = poll(&poll_fd, 1, timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms);
	if (n == 0)
		return ETIMEDOUT;
	if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		return errno;
	return error;
}

/* Returns 0 or a positive errno. */
static int try_address(const struct addrinfo *address, uint32_t timeout_ms, int *ret_fd)
{
	int fd = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
		address->ai_protocol);
	if (fd < 0)
		return errno;
	int error = connect(fd, address->ai_addr, address->ai_addrlen) < 0 ? errno : 0;
	if (error == EINPROGRESS)
		error = wait_connected(fd, timeout_ms);
	if (error) {
		close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

const char *connect_to(const struct url *url, uint32_t timeout_ms, int *ret_fd)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	struct addrinfo *list = NULL;
	char port[8];
	int error = EADDRNOTAVAIL;

	snprintf(port, sizeof(port), "%u", url->port);
	int r = getaddrinfo(url->host, port, &hints, &list);
	if (r != 0)
		return gai_strerror(r);
	for (const struct addrinfo *at = list; at && error; at = at->ai_next)
		error = try_address(at, timeout_ms, ret_fd);
	freeaddrinfo(list);
	return error ? strerror(error) : NULL;
}
