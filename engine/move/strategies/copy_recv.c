/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_recv.c - the plain loop at the other end: recv(2) into a buffer, pwrite(2) from it.
 */
#include "move/channel.h"

#define CHUNK_PREFERRED (256 * KIB)
#define CHUNK_MOST      (64 * MIB)

struct copy_recv {
	struct buffer buffer;
};

static int copy_recv_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (facts->file.append_only && facts->extent.offset != facts->file.size)
		return strategy_refuse(ret_reason, cap,
			"the file is open with O_APPEND and does not end where the extent begins");
	plan->chunk_bytes = strategy_chunk(facts, CHUNK_PREFERRED, CHUNK_MOST);
	plan->depth = 1;
	return 0;
}

static ssize_t copy_recv_step(struct channel *channel, void *state)
{
	struct copy_recv *copy = state;
	ssize_t received = channel_recv_buffer(channel, &copy->buffer);
	int r;

	if (received < 0)
		return received;
	r = channel_pwrite_all(channel, copy->buffer.memory, (size_t)received, channel->offset);
	if (r < 0) {
		channel->offset += (uint64_t)received; /* off the socket, though not in the file */
		return r;
	}
	if (channel->digest)
		leaf_run_add(channel->digest, copy->buffer.memory, (size_t)received);
	return received;
}

static void copy_recv_close(struct channel *channel, void *state)
{
	struct copy_recv *copy = state;

	(void)channel;
	buffer_free(&copy->buffer);
}

const struct strategy copy_recv = {
	.pub = {
		.name = "copy",
		.summary = "recv into a buffer, pwrite from it; the plain loop",
		.needs = "nothing; with O_APPEND, that the extent begins at the file's end",
		.falls_back_to = NULL,
		.since = "2.2",
		.side = ZH_RECEIVE,
		.sees_data = 1,
		.user_copies = 2,
		.total_copies = 2,
	},
	.state_bytes = sizeof(struct copy_recv),
	.admit = copy_recv_admit,
	.open = strategy_open_nothing,
	.step = copy_recv_step,
	.drain = strategy_drain_nothing,
	.close = copy_recv_close,
};
