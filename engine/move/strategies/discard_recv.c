/* SPDX-License-Identifier: Apache-2.0 */
/*
 * discard_recv.c - recv(2) with MSG_TRUNC: TCP throws the bytes away inside the kernel. A sink that
 * costs next to nothing, so that a sender can be measured alone. Nothing is stored.
 */
#include "move/channel.h"

#include <errno.h>

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (64 * MIB)

static int discard_recv_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->sock.tcp)
		return strategy_refuse(ret_reason, cap, "MSG_TRUNC discards on TCP only");
	plan->chunk_bytes = strategy_chunk(facts, CHUNK_PREFERRED, CHUNK_MOST);
	plan->depth = 1;
	return 0;
}

static ssize_t discard_recv_step(struct channel *channel, void *state)
{
	size_t want = min_u64(channel->chunk_bytes, channel->end - channel->offset);

	(void)state;
	return channel_recv(channel, NULL, want, MSG_TRUNC);
}

const struct strategy discard_recv = {
	.pub = {
		.name = "discard",
		.summary = "thrown away inside the kernel; for measuring a sender",
		.needs = "TCP; nothing is stored, so it is never chosen by a plan",
		.falls_back_to = NULL,
		.since = "2.4",
		.side = ZH_RECEIVE,
		.sees_data = 0,
		.user_copies = 0,
		.total_copies = 0,
	},
	.state_bytes = 1, /* it keeps nothing */
	.admit = discard_recv_admit,
	.open = strategy_open_nothing,
	.step = discard_recv_step,
	.drain = strategy_drain_nothing,
	.close = strategy_close_nothing,
};
