/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sock.h - TCP sockets: making and accepting connections, options and what became of them, waiting,
 * addresses as text. What goes over a connection is not its business.
 */
#ifndef ZH_KERNEL_SOCK_H
#define ZH_KERNEL_SOCK_H

#include "base/err.h"
#include "base/util.h"
#include "kernel/facts.h"
#include "zerohaul.h"

#include <sys/socket.h>

/* Makes a descriptor non-blocking. */
int sock_set_nonblocking(int fd) must_check;

/* Refuses what the kernel refuses, with the option's name in err (ZH_CONFIG). */
int sock_apply(int fd, const struct zh_sockopts *options, struct zh_error *err) must_check;
/* Dead peers are noticed: keepalive and TCP_USER_TIMEOUT. */
int sock_guard(int fd) must_check;
/*
 * A small segment that follows another one is not held back until that is acknowledged, which takes
 * a receiver with nothing to say 40 ms: from now on, or, by sock_push, what has been sent so far.
 */
int sock_set_nodelay(int fd) must_check;
int sock_push(int fd) must_check;
/* Holds small segments back while on; pushes them out when it ends. */
int sock_cork(int fd, unsigned on) must_check;
/* How many bytes wake a receiver of TCP (SO_RCVLOWAT); 0: not TCP, or it does not tell. */
uint32_t sock_wake_bytes(int fd);
int sock_set_wake_bytes(int fd, uint32_t bytes) must_check;
/* What the kernel has now; valid 0 for anything but TCP. */
void sock_tcp(int fd, struct zh_tcp *ret_tcp);

/* Bytes that TCP has moved: received, or (sending) acknowledged by the peer. 0 for other sockets.
 */
uint64_t sock_tcp_bytes(int fd, enum zh_side side);

/* What the route of a connected socket is like; fd -1: a local TCP peer is assumed. */
void sock_facts(int fd, struct sock_facts *ret_facts);

/* Waits for events (POLLIN, POLLOUT) on fd. 0: ready; -ETIMEDOUT; -ECANCELED: abort_fd (-1: none)
 * became readable. timeout_ms < 0: for ever. Errors of fd itself count as ready: the next call on
 * it reports them. */
int sock_wait(int fd, short events, int abort_fd, int timeout_ms) must_check;

/* Connects to host:port within timeout_ms, trying each address. options: before connecting. */
int sock_connect(const char *host, uint16_t port, const struct zh_sockopts *options, int abort_fd,
	int timeout_ms, int *ret_fd, struct zh_error *err) must_check;
/* text as in zh_server_options.listen. loopback_only: other addresses are refused with ZH_POLICY.
 */
int sock_listen(const char *text, bool loopback_only, int *ret_fd, struct zh_error *err) must_check;

/* "ADDR:PORT" or "[ADDR6]:PORT" of this end or of the peer, "" when unknown. */
void sock_local_text(int fd, char *ret_text, size_t cap);
void sock_peer_text(int fd, char *ret_text, size_t cap);
bool sock_peer_is_loopback(int fd);

#endif
