/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - one io_uring, used by one thread: set-up with the best flags the kernel grants,
 * operations by name, one way of reaping. The only room that knows liburing; also the seam where
 * tests make operations fail or be short.
 */
#ifndef ZH_KERNEL_RING_H
#define ZH_KERNEL_RING_H

#include "base/util.h"

#include <sys/uio.h>

struct ring;

/* A completion. token is what the operation was given. */
struct ring_event {
	uint64_t token;
	int32_t result; /* bytes, or negative errno */
	uint32_t flags; /* RING_* */
};
enum {
	RING_MORE = 1u << 0,   /* another event with this token follows (zero-copy notification) */
	RING_NOTIFY = 1u << 1, /* this is that event */
	RING_COPIED = 1u << 2, /* with NOTIFY: the kernel has copied the bytes after all */
};

/*
 * entries: operations in flight at most. Returns 0 and *ret_ring, or why there is none:
 * -ENOSYS, -EPERM, -EACCES (refused by policy), -ENOMEM (memlock), -EMFILE.
 * Thread: all calls on a ring come from the thread that opened it.
 */
int ring_open(unsigned entries, struct ring **ret_ring) must_check;
/* Nothing may be in flight. NULL is fine. */
void ring_close(struct ring *ring);

unsigned ring_setup_flags(const struct ring *ring);
/* Operations whose result is still to come; zero-copy notifications are not counted. */
unsigned ring_in_flight(const struct ring *ring);
bool ring_supports(const struct ring *ring, unsigned opcode);

/* Registers buffers for the _fixed operations; index is the position. -ENOMEM: over memlock. */
int ring_register(struct ring *ring, const struct iovec *buffers, unsigned count) must_check;

/* Queue one operation; a full submission queue is flushed once. fixed: index of the registered
 * buffer that memory lies in, or -1. */
void ring_read(struct ring *ring, int fd, void *memory, uint32_t length, uint64_t offset, int fixed,
	uint64_t token);
void ring_write(struct ring *ring, int fd, const void *memory, uint32_t length, uint64_t offset,
	int fixed, uint64_t token);
/* flags: MSG_*; MSG_NOSIGNAL is added */
void ring_send(
	struct ring *ring, int fd, const void *memory, uint32_t length, int flags, uint64_t token);
/* Zero-copy: two events, see RING_MORE. fixed as above; report: tell of copies (Linux 6.2). */
void ring_send_zc(struct ring *ring, int fd, const void *memory, uint32_t length, int flags,
	int fixed, bool report, uint64_t token);
void ring_recv(struct ring *ring, int fd, void *memory, uint32_t length, int flags, uint64_t token);
/* in_offset, out_offset: -1 for pipes and sockets. */
void ring_splice(struct ring *ring, int in, int64_t in_offset, int out, int64_t out_offset,
	uint32_t length, unsigned flags, uint64_t token);
void ring_poll(struct ring *ring, int fd, short events, uint64_t token);
void ring_cancel(struct ring *ring, uint64_t target, uint64_t token);

/* Hands queued operations to the kernel without waiting. Returns 0 or a negative errno. */
int ring_submit(struct ring *ring) must_check;
/* The same, then waits until a completion is there: 0, -ETIME after timeout_ms, other errors. */
int ring_wait(struct ring *ring, int timeout_ms) must_check;
/* Copies out what has completed, without a system call. Deliver all before reaping again. */
size_t ring_reap(struct ring *ring, struct ring_event *ret_event, size_t cap);

#endif
