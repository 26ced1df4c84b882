/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_direct_recv.c - io_uring: RECV into registered, aligned blocks, one at a time and whole,
 * and several O_DIRECT WRITE_FIXED in flight behind it. The page cache is not used. Writes run in
 * parallel only inside blocks that are allocated already: the file was given its full size by
 * fallocate mode 0.
 */
#include "move/writer.h"

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (4 * MIB)
#define DEPTH_PREFERRED 8
#define DEPTH_MOST      16

static int uring_direct_recv_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (strategy_needs_ring(facts, ret_reason, cap) < 0)
		return -1;
	if (!facts->host.ring_recv)
		return strategy_refuse(ret_reason, cap, "this io_uring cannot receive");
	if (strategy_needs_direct(facts, ret_reason, cap) < 0)
		return -1;
	if (facts->extent.offset % STRATEGY_PAGE_BYTES != 0)
		return strategy_refuse(ret_reason, cap, "the extent does not start on a page");
	strategy_locked_blocks(
		facts, plan, CHUNK_PREFERRED, CHUNK_MOST, DEPTH_PREFERRED, DEPTH_MOST);
	plan->chunk_bytes = (uint32_t)round_up(plan->chunk_bytes, STRATEGY_PAGE_BYTES);
	return 0;
}

static int uring_direct_recv_open(struct channel *channel, void *state)
{
	return writer_open(state, channel, true);
}

const struct strategy uring_direct_recv = {
	.pub = {
		.name = "uring-direct",
		.summary = "io_uring: receives whole blocks, several O_DIRECT writes in flight behind",
		.needs = "io_uring; memlock; a file system with direct I/O; space allocated beforehand",
		.falls_back_to = "direct",
		.since = "5.6",
		.side = ZH_RECEIVE,
		.sees_data = 1,
		.user_copies = 1,
		.total_copies = 1,
	},
	.state_bytes = sizeof(struct writer),
	.admit = uring_direct_recv_admit,
	.open = uring_direct_recv_open,
	.step = writer_step,
	.drain = writer_drain,
	.close = writer_close,
};
