/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_copy_recv.c - io_uring: RECV into registered blocks, one at a time and whole, and
 * WRITE_FIXED through the page cache behind it. On several file systems the kernel serialises
 * buffered writes of one file in worker threads, so a plan does not choose this; it is here to be
 * compared with.
 */
#include "move/writer.h"

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (4 * MIB)
#define DEPTH_PREFERRED 8
#define DEPTH_MOST      16

static int uring_copy_recv_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (strategy_needs_ring(facts, ret_reason, cap) < 0)
		return -1;
	if (!facts->host.ring_recv)
		return strategy_refuse(ret_reason, cap, "this io_uring cannot receive");
	if (!facts->file.regular || facts->file.append_only)
		return strategy_refuse(ret_reason, cap, "needs a regular file without O_APPEND");
	strategy_locked_blocks(
		facts, plan, CHUNK_PREFERRED, CHUNK_MOST, DEPTH_PREFERRED, DEPTH_MOST);
	return 0;
}

static int uring_copy_recv_open(struct channel *channel, void *state)
{
	return writer_open(state, channel, false);
}

const struct strategy uring_copy_recv = {
	.pub = {
		.name = "uring-copy",
		.summary = "io_uring: receives whole blocks, several buffered writes in flight behind",
		.needs = "io_uring; memlock; a regular file without O_APPEND",
		.falls_back_to = "copy",
		.since = "5.6",
		.side = ZH_RECEIVE,
		.sees_data = 1,
		.user_copies = 2,
		.total_copies = 2,
	},
	.state_bytes = sizeof(struct writer),
	.admit = uring_copy_recv_admit,
	.open = uring_copy_recv_open,
	.step = writer_step,
	.drain = writer_drain,
	.close = writer_close,
};
