/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.c - the only file that includes liburing.
 *
 * Set-up flags are tried from the newest to none, because -EINVAL is all an older kernel says. The
 * fault seam replaces an operation by a NOP whose completion then carries the injected error: the
 * operation has really not happened. Short results are made by asking the kernel for less.
 */
#include "kernel/ring.h"

#include "base/sys.h"

#include <errno.h>
#include <liburing.h>

/* Headers of liburing 2.3 end before these; values are the kernel's. */
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

#ifndef IORING_RECVSEND_FIXED_BUF
#define IORING_RECVSEND_FIXED_BUF (1U << 2)
#endif
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif
#define RING_OP_SEND_ZC 47 /* IORING_OP_SEND_ZC is an enumerator, which cannot be tested for */

#define RING_FAULTS     64

struct ring {
	struct io_uring uring;
	struct io_uring_probe *probe;
	unsigned setup_flags;
	unsigned in_flight;
	unsigned pinned; /* zero-copy sends whose second event is still to come */
	bool registered;
	unsigned fault_count; /* operations replaced by the seam, waiting for their NOP */
	struct {
		uint64_t token;
		int error;
	} fault[RING_FAULTS];
};

static const unsigned setup_flag_rows[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL, /* 6.1 */
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, /* 5.19 */
	IORING_SETUP_SUBMIT_ALL,                                                         /* 5.18 */
	0,
};

static int ring_setup(struct ring *ring, unsigned entries)
{
	int r = -EINVAL;

	for (size_t i = 0; i < ARRAY_LEN(setup_flag_rows) && r == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = setup_flag_rows[i] | IORING_SETUP_CQSIZE,
			.cq_entries = entries * 4,
		};
		do {
			r = sys_fault_ask(SYS_URING_ENTER, NULL);
			if (r == 0)
				r = io_uring_queue_init_params(entries, &ring->uring, &params);
		} while (r == -EINTR);
		ring->setup_flags = setup_flag_rows[i];
	}
	return r;
}

int ring_open(unsigned entries, struct ring **ret_ring)
{
	struct ring *ring = calloc(1, sizeof(*ring));
	unsigned workers[2] = { 2, 2 };
	int r;

	if (!ring)
		return -ENOMEM;
	r = ring_setup(ring, entries);
	if (r < 0) {
		free(ring);
		return r;
	}
	/* Both only make it cheaper; an old kernel that refuses them still works. */
	(void)io_uring_register_ring_fd(&ring->uring);
	(void)io_uring_register_iowq_max_workers(&ring->uring, workers);
	(void)io_uring_ring_dontfork(&ring->uring);
	ring->probe = io_uring_get_probe_ring(&ring->uring);
	*ret_ring = ring;
	return 0;
}

void ring_close(struct ring *ring)
{
	if (!ring)
		return;
	io_uring_free_probe(ring->probe);
	/*
	 * Gives back at once what is locked for buffers, where closing alone does so some time
	 * later. Not while they are in use: then it may wait, on a peer that says nothing.
	 */
	if (ring->registered && ring->in_flight == 0 && ring->pinned == 0)
		(void)io_uring_unregister_buffers(&ring->uring);
	io_uring_queue_exit(&ring->uring);
	free(ring);
}

unsigned ring_setup_flags(const struct ring *ring)
{
	return ring->setup_flags;
}

unsigned ring_in_flight(const struct ring *ring)
{
	return ring->in_flight;
}

bool ring_supports(const struct ring *ring, unsigned opcode)
{
	return ring->probe && io_uring_opcode_supported(ring->probe, (int)opcode);
}

int ring_register(struct ring *ring, const struct iovec *buffers, unsigned count)
{
	int r;

	do {
		r = sys_fault_ask(SYS_URING_ENTER, NULL);
		if (r == 0)
			r = io_uring_register_buffers(&ring->uring, buffers, count);
	} while (r == -EINTR);
	ring->registered |= r == 0;
	return r;
}

static int ring_enter_result(int r)
{
	/* -EINTR: nothing is lost, what was queued stays queued. */
	return r < 0 && r != -EINTR && r != -ETIME ? r : 0;
}

static struct io_uring_sqe *ring_sqe(struct ring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	if (!sqe) {
		sys_calls[SYS_URING_ENTER]++;
		CHECK(ring_enter_result(io_uring_submit(&ring->uring)) == 0);
		sqe = io_uring_get_sqe(&ring->uring);
	}
	CHECK(sqe);
	ring->in_flight++;
	return sqe;
}

/* Asks the seam about an operation; true: it was replaced by a NOP that will carry the error. */
static bool ring_fault(struct ring *ring, enum sys_call call, size_t *length, uint64_t token)
{
	int error = sys_fault_ask(call, length);

	if (error == 0)
		return false;
	CHECK(ring->fault_count < RING_FAULTS);
	ring->fault[ring->fault_count].token = token;
	ring->fault[ring->fault_count++].error = error;
	struct io_uring_sqe *sqe = ring_sqe(ring);
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data64(sqe, token);
	return true;
}

static int32_t ring_fault_result(struct ring *ring, uint64_t token, int32_t result)
{
	for (unsigned i = 0; i < ring->fault_count; i++)
		if (ring->fault[i].token == token) {
			result = ring->fault[i].error;
			ring->fault[i] = ring->fault[--ring->fault_count];
			break;
		}
	return result;
}

void ring_read(struct ring *ring, int fd, void *memory, uint32_t length, uint64_t offset, int fixed,
	uint64_t token)
{
	size_t asked = length;

	if (ring_fault(ring, SYS_PREAD, &asked, token))
		return;
	struct io_uring_sqe *sqe = ring_sqe(ring);
	if (fixed >= 0)
		io_uring_prep_read_fixed(sqe, fd, memory, (unsigned)asked, offset, fixed);
	else
		io_uring_prep_read(sqe, fd, memory, (unsigned)asked, offset);
	io_uring_sqe_set_data64(sqe, token);
}

void ring_write(struct ring *ring, int fd, const void *memory, uint32_t length, uint64_t offset,
	int fixed, uint64_t token)
{
	size_t asked = length;

	if (ring_fault(ring, SYS_PWRITE, &asked, token))
		return;
	struct io_uring_sqe *sqe = ring_sqe(ring);
	if (fixed >= 0)
		io_uring_prep_write_fixed(sqe, fd, memory, (unsigned)asked, offset, fixed);
	else
		io_uring_prep_write(sqe, fd, memory, (unsigned)asked, offset);
	io_uring_sqe_set_data64(sqe, token);
}

void ring_send(
	struct ring *ring, int fd, const void *memory, uint32_t length, int flags, uint64_t token)
{
	size_t asked = length;

	if (ring_fault(ring, SYS_SEND, &asked, token))
		return;
	struct io_uring_sqe *sqe = ring_sqe(ring);
	io_uring_prep_send(sqe, fd, memory, asked, flags | MSG_NOSIGNAL);
	io_uring_sqe_set_data64(sqe, token);
}

void ring_send_zc(struct ring *ring, int fd, const void *memory, uint32_t length, int flags,
	int fixed, bool report, uint64_t token)
{
	size_t asked = length;

	if (ring_fault(ring, SYS_SEND, &asked, token))
		return;
	struct io_uring_sqe *sqe = ring_sqe(ring);
	io_uring_prep_rw(RING_OP_SEND_ZC, sqe, fd, memory, (unsigned)asked, 0);
	sqe->msg_flags = (uint32_t)(flags | MSG_NOSIGNAL);
	sqe->ioprio = report ? IORING_SEND_ZC_REPORT_USAGE : 0;
	if (fixed >= 0) {
		sqe->ioprio |= IORING_RECVSEND_FIXED_BUF;
		sqe->buf_index = (uint16_t)fixed;
	}
	io_uring_sqe_set_data64(sqe, token);
}

void ring_recv(struct ring *ring, int fd, void *memory, uint32_t length, int flags, uint64_t token)
{
	size_t asked = length;

	if (ring_fault(ring, SYS_RECV, &asked, token))
		return;
	struct io_uring_sqe *sqe = ring_sqe(ring);
	io_uring_prep_recv(sqe, fd, memory, asked, flags);
	io_uring_sqe_set_data64(sqe, token);
}

void ring_splice(struct ring *ring, int in, int64_t in_offset, int out, int64_t out_offset,
	uint32_t length, unsigned flags, uint64_t token)
{
	size_t asked = length;

	if (ring_fault(ring, SYS_SPLICE, &asked, token))
		return;
	struct io_uring_sqe *sqe = ring_sqe(ring);
	io_uring_prep_splice(sqe, in, in_offset, out, out_offset, (unsigned)asked, flags);
	io_uring_sqe_set_data64(sqe, token);
}

void ring_poll(struct ring *ring, int fd, short events, uint64_t token)
{
	struct io_uring_sqe *sqe = ring_sqe(ring);

	io_uring_prep_poll_add(sqe, fd, (unsigned)events);
	io_uring_sqe_set_data64(sqe, token);
}

void ring_cancel(struct ring *ring, uint64_t target, uint64_t token)
{
	struct io_uring_sqe *sqe = ring_sqe(ring);

	io_uring_prep_cancel64(sqe, target, 0);
	io_uring_sqe_set_data64(sqe, token);
}

int ring_submit(struct ring *ring)
{
	sys_calls[SYS_URING_ENTER]++;
	return ring_enter_result(io_uring_submit(&ring->uring));
}

int ring_wait(struct ring *ring, int timeout_ms)
{
	struct __kernel_timespec limit = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = (long long)(timeout_ms % 1000) * 1000000,
	};
	struct io_uring_cqe *cqe;
	int r;

	sys_calls[SYS_URING_ENTER]++;
	r = io_uring_submit_and_wait_timeout(
		&ring->uring, &cqe, 1, timeout_ms < 0 ? NULL : &limit, NULL);
	/* A wait that also submitted something says how much, even when its time was over. */
	if (r == -ETIME || (r >= 0 && io_uring_cq_ready(&ring->uring) == 0))
		return -ETIME;
	return ring_enter_result(r);
}

size_t ring_reap(struct ring *ring, struct ring_event *ret_event, size_t cap)
{
	struct io_uring_cqe *cqe;
	size_t count = 0;
	unsigned head;

	io_uring_for_each_cqe(&ring->uring, head, cqe)
	{
		if (count == cap)
			break;
		struct ring_event *event = &ret_event[count++];
		event->token = io_uring_cqe_get_data64(cqe);
		event->result = ring_fault_result(ring, event->token, cqe->res);
		event->flags = (cqe->flags & IORING_CQE_F_MORE ? RING_MORE : 0u) |
			       (cqe->flags & IORING_CQE_F_NOTIF ? RING_NOTIFY : 0u);
		if (event->flags & RING_NOTIFY && (uint32_t)cqe->res & IORING_NOTIF_USAGE_ZC_COPIED)
			event->flags |= RING_COPIED;
		ring->pinned += (event->flags & RING_MORE) != 0;
		if (event->flags & RING_NOTIFY) {
			CHECK(ring->pinned > 0);
			ring->pinned--;
		} else {
			CHECK(ring->in_flight > 0);
			ring->in_flight--;
		}
	}
	io_uring_cq_advance(&ring->uring, (unsigned)count);
	return count;
}
