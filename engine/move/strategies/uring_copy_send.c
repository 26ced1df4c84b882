/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_copy_send.c - io_uring: several READ_FIXED ahead through the page cache into registered
 * blocks, and one SEND in flight at a time.
 */
#include "move/ordered_send.h"

#define CHUNK_PREFERRED (256 * KIB)
#define CHUNK_MOST      (4 * MIB)
#define DEPTH_PREFERRED 4
#define DEPTH_MOST      16

static int uring_copy_send_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (strategy_needs_ring(facts, ret_reason, cap) < 0)
		return -1;
	strategy_locked_blocks(
		facts, plan, CHUNK_PREFERRED, CHUNK_MOST, DEPTH_PREFERRED, DEPTH_MOST);
	return 0;
}

static int uring_copy_send_open(struct channel *channel, void *state)
{
	struct ordered_send *send = state;
	return reader_open(&send->reader, channel, false);
}

const struct strategy uring_copy_send = {
	.pub = {
		.name = "uring-copy",
		.summary = "io_uring: reads ahead into registered buffers, sends in order from them",
		.needs = "io_uring; memlock for the registered buffers",
		.falls_back_to = "copy",
		.since = "5.6",
		.side = ZH_SEND,
		.sees_data = 1,
		.user_copies = 2,
		.total_copies = 2,
	},
	.state_bytes = sizeof(struct ordered_send),
	.admit = uring_copy_send_admit,
	.open = uring_copy_send_open,
	.step = ordered_send_step,
	.drain = ordered_send_drain,
	.close = ordered_send_close,
};
