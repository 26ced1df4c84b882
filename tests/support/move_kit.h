/* SPDX-License-Identifier: Apache-2.0 */
/*
 * move_kit.h - moving bytes between a file and a socket: what the tests of strategies share.
 * Connections over the loopback device, one side of a transfer in a thread of its own, files with a
 * guarded zone around the extent. What runs in a thread only records; the test judges.
 */
#ifndef ZH_TESTS_MOVE_KIT_H
#define ZH_TESTS_MOVE_KIT_H

#include "support.h"

#include "base/sys.h"
#include "move/channel.h"
#include "move/plan.h"
#include "move/strategy.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define KIT_SEED       17
#define KIT_GUARD_SEED 99
#define KIT_GUARD      (16 * KIB)
#define KIT_STALL_MS   20000 /* a test that hangs fails instead */

/* ------------------------------------------------------------------ sockets --------------------
 */

static inline void kit_set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	assert_true(flags >= 0);
	flags = blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK;
	assert_int_equal(fcntl(fd, F_SETFL, flags), 0);
}

/*
 * A TCP connection: end[0] and end[1]. buffer_bytes: of each socket, 0 leaves them to the kernel.
 * The congestion control is one that does not pace, where there is one.
 */
static inline void kit_tcp_pair_sized(int ret_end[2], bool blocking, int buffer_bytes)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(listener >= 0);
	ret_end[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	assert_true(ret_end[0] >= 0);
	for (int i = 0; buffer_bytes && i < 2; i++) {
		int fd = i ? ret_end[0] : listener;
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, 4), 0);
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, 4), 0);
	}
	(void)setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
	(void)setsockopt(ret_end[0], IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(connect(ret_end[0], (struct sockaddr *)&address, length), 0);
	ret_end[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(ret_end[1] >= 0);
	close(listener);
	kit_set_blocking(ret_end[0], blocking);
	kit_set_blocking(ret_end[1], blocking);
}

static inline void kit_tcp_pair(int ret_end[2], bool blocking)
{
	kit_tcp_pair_sized(ret_end, blocking, 0);
}

static inline void kit_unix_pair(int ret_end[2])
{
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_end), 0);
}

static inline void kit_close_pair(int end[2])
{
	close(end[0]);
	close(end[1]);
}

/* Plain calls, for peers: all of it, whether the socket blocks or not. False when it ends early. */
static inline bool kit_send_all(int sock, const void *bytes, size_t length)
{
	const uint8_t *next = bytes;

	while (length > 0) {
		ssize_t r = send(sock, next, length, MSG_NOSIGNAL);
		if (r < 0 && errno == EAGAIN) {
			struct pollfd wait = { .fd = sock, .events = POLLOUT };
			(void)poll(&wait, 1, KIT_STALL_MS);
			continue;
		}
		if (r <= 0)
			return false;
		next += r;
		length -= (size_t)r;
	}
	return true;
}

/* Returns how much came before the end of the stream, an error or length. */
static inline size_t kit_recv_all(int sock, void *ret_bytes, size_t length)
{
	uint8_t *next = ret_bytes;
	size_t left = length;

	while (left > 0) {
		ssize_t r = recv(sock, next, left, 0);
		if (r < 0 && errno == EAGAIN) {
			struct pollfd wait = { .fd = sock, .events = POLLIN };
			if (poll(&wait, 1, KIT_STALL_MS) <= 0)
				break;
			continue;
		}
		if (r <= 0)
			break;
		next += r;
		left -= (size_t)r;
	}
	return length - left;
}

/* Sends length bytes of the random content from offset on. */
static inline bool kit_send_random(int sock, uint64_t seed, uint64_t offset, uint64_t length)
{
	uint8_t piece[16384];

	while (length > 0) {
		size_t part = (size_t)min_u64(length, sizeof(piece));
		random_fill(piece, part, seed, offset);
		if (!kit_send_all(sock, piece, part))
			return false;
		offset += part;
		length -= part;
	}
	return true;
}

/* ------------------------------------------------------------------ files ----------------------
 */

static inline int kit_open(int dir, const char *name, int flags)
{
	int fd = openat(dir, name, flags | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	return fd;
}

/* A file of the random content, open for reading. */
static inline int kit_source(const struct arena *arena, const char *name, uint64_t size)
{
	random_file(arena->root, name, size, KIT_SEED);
	return kit_open(arena->root, name, O_RDONLY);
}

static inline void kit_write_at(int fd, uint64_t seed, uint64_t offset, uint64_t length)
{
	uint8_t piece[KIT_GUARD];

	assert_true(length <= sizeof(piece));
	random_fill(piece, length, seed, offset);
	assert_int_equal(pwrite(fd, piece, length, (off_t)offset), length);
}

/* True when [at, at + length) of fd is the random content from offset on. */
static inline bool kit_is_at(int fd, uint64_t at, uint64_t length, uint64_t seed, uint64_t offset)
{
	static uint8_t piece[65536], expected[65536];

	while (length > 0) {
		size_t part = (size_t)min_u64(length, sizeof(piece));
		random_fill(expected, part, seed, offset);
		if (pread(fd, piece, part, (off_t)at) != (ssize_t)part ||
			memcmp(piece, expected, part) != 0)
			return false;
		at += part;
		offset += part;
		length -= part;
	}
	return true;
}

/* Empties fd and gives it space for the extent, with a guard on both sides. */
static inline void kit_prepare(int fd, struct zh_extent extent)
{
	uint64_t end = extent.offset + extent.length;
	uint64_t before = min_u64(extent.offset, KIT_GUARD);

	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(posix_fallocate(fd, 0, (off_t)(end + KIT_GUARD)), 0);
	kit_write_at(fd, KIT_GUARD_SEED, extent.offset - before, before);
	kit_write_at(fd, KIT_GUARD_SEED, end, KIT_GUARD);
}

static inline bool kit_guards_stand(int fd, struct zh_extent extent)
{
	uint64_t end = extent.offset + extent.length;
	uint64_t before = min_u64(extent.offset, KIT_GUARD);
	uint64_t start = extent.offset - before;
	struct stat st;

	return fstat(fd, &st) == 0 && (uint64_t)st.st_size == end + KIT_GUARD &&
	       kit_is_at(fd, start, before, KIT_GUARD_SEED, start) &&
	       kit_is_at(fd, end, KIT_GUARD, KIT_GUARD_SEED, end);
}

/* ------------------------------------------------------------------ strategies -----------------
 */

/* Strategies of a side by position; those that store nothing come last. NULL past the last. */
static inline const struct zh_strategy *kit_strategy(enum zh_side side, size_t position)
{
	const struct zh_strategy *strategy;

	for (size_t i = 0; (strategy = zh_strategy_at(i)); i++)
		if (strategy->side == (uint32_t)side && position-- == 0)
			return strategy;
	return NULL;
}

static inline size_t kit_count(enum zh_side side)
{
	size_t count = 0;

	while (kit_strategy(side, count))
		count++;
	return count;
}

static inline bool kit_stores(const struct zh_strategy *strategy)
{
	return strcmp(strategy->name, "discard") != 0;
}

static inline bool kit_uses_ring(const char *name)
{
	return strncmp(name, "uring", 5) == 0;
}

/* An ordinary user's rings share one small allowance, which the kernel gives back late. */
static inline bool kit_memlock_is_scarce(void)
{
	struct rlimit limit;

	return geteuid() != 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
	       limit.rlim_cur != RLIM_INFINITY;
}

/* What the engine decides when name is wished for; with its fallback when it is not admitted. */
static inline struct zh_plan kit_plan(enum zh_side side, int file, int sock,
	struct zh_extent extent, const char *name, uint32_t chunk_bytes, uint32_t depth)
{
	struct facts facts;
	struct zh_plan plan;

	assert_int_equal(plan_gather(side, file, sock, extent, &facts), 0);
	TEXT_SET(facts.strategy, name);
	facts.chunk_bytes = chunk_bytes;
	facts.depth = depth;
	assert_int_equal(plan_make(&facts, &plan), 0);
	return plan;
}

static inline const struct zh_verdict *kit_verdict(const struct zh_plan *plan, const char *name)
{
	for (uint32_t i = 0; i < plan->verdict_count; i++)
		if (strcmp(plan->verdict[i].name, name) == 0)
			return &plan->verdict[i];
	fail_msg("the plan has no verdict on %s", name);
	return NULL;
}

/* ------------------------------------------------------------------ one side -------------------
 */

/* One call of zh_send or zh_recv, in a thread or not. */
struct kit_move {
	enum zh_side side;
	int file;
	int sock;
	struct zh_extent extent;
	struct zh_options options;
	/* out */
	int result;
	struct zh_stats stats;
	pthread_t thread;
};

static inline void *kit_move_run(void *argument)
{
	struct kit_move *move = argument;

	move->result = move->side == ZH_SEND ? zh_send(move->file, move->sock, move->extent,
						       &move->options, &move->stats)
					     : zh_recv(move->sock, move->file, move->extent,
						       &move->options, &move->stats);
	if (move->result < 0) /* so that the other side ends too */
		(void)shutdown(move->sock, SHUT_RDWR);
	return NULL;
}

static inline void kit_move_start(struct kit_move *move)
{
	assert_int_equal(pthread_create(&move->thread, NULL, kit_move_run, move), 0);
}

static inline void kit_move_join(struct kit_move *move)
{
	assert_int_equal(pthread_join(move->thread, NULL), 0);
}

#endif
