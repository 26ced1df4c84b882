/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_direct_send.c - io_uring: several O_DIRECT READ_FIXED in flight into registered blocks, and
 * one SEND at a time behind them. The page cache is neither used nor disturbed: for files that are
 * not in it and need not be.
 */
#include "move/ordered_send.h"

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (4 * MIB)
#define DEPTH_PREFERRED 8
#define DEPTH_MOST      32

static int uring_direct_send_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (strategy_needs_ring(facts, ret_reason, cap) < 0 ||
		strategy_needs_direct(facts, ret_reason, cap) < 0)
		return -1;
	strategy_locked_blocks(
		facts, plan, CHUNK_PREFERRED, CHUNK_MOST, DEPTH_PREFERRED, DEPTH_MOST);
	plan->chunk_bytes = (uint32_t)round_up(plan->chunk_bytes, STRATEGY_PAGE_BYTES);
	return 0;
}

static int uring_direct_send_open(struct channel *channel, void *state)
{
	struct ordered_send *send = state;
	return reader_open(&send->reader, channel, true);
}

const struct strategy uring_direct_send = {
	.pub = {
		.name = "uring-direct",
		.summary = "io_uring: several O_DIRECT reads in flight, sends in order from their buffers",
		.needs = "io_uring; memlock; a file system with direct I/O",
		.falls_back_to = "sendfile",
		.since = "5.6",
		.side = ZH_SEND,
		.sees_data = 1,
		.user_copies = 1,
		.total_copies = 1,
	},
	.state_bytes = sizeof(struct ordered_send),
	.admit = uring_direct_send_admit,
	.open = uring_direct_send_open,
	.step = ordered_send_step,
	.drain = ordered_send_drain,
	.close = ordered_send_close,
};
