/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmap_recv.c - recv(2) straight into a writable mapping of the file: one copy, socket to page
 * cache. Nothing here touches the mapping in user space, so a page that cannot be had (a full disk,
 * a file cut short) makes recv fail with EFAULT instead of killing the program with SIGBUS.
 */
#include "kernel/map.h"
#include "move/channel.h"

#include <errno.h>

#define CHUNK_PREFERRED MIB

static int mmap_recv_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->file.regular || facts->file.append_only)
		return strategy_refuse(ret_reason, cap, "needs a regular file without O_APPEND");
	if (facts->file.size < facts->extent.offset + facts->extent.length)
		return strategy_refuse(ret_reason, cap, "the file has not got its full size yet");
	plan->chunk_bytes = strategy_chunk(facts, CHUNK_PREFERRED, MAP_WINDOW_BYTES);
	plan->depth = 1;
	return 0;
}

static ssize_t mmap_recv_step(struct channel *channel, void *state)
{
	size_t want = 0;
	uint8_t *bytes;
	ssize_t r = map_cover(
		state, channel->file, channel->offset, channel->end, ZH_RECEIVE, &bytes, &want);

	if (r < 0) /* nothing was received: another strategy can go on from here */
		return r == -EACCES || r == -ENODEV || strategy_refusal((int)r)
			       ? channel_refuse(channel, (int)r)
			       : channel_fail(channel, CHANNEL_END_FILE, r);
	want = min_size(want, channel->chunk_bytes);
	r = channel_recv(channel, bytes, want, 0);
	return r == -EFAULT ? channel_fail(channel, CHANNEL_END_FILE, -EIO) : r;
}

static int mmap_recv_drain(struct channel *channel, void *state)
{
	(void)channel;
	map_close(state);
	return 0;
}

static void mmap_recv_close(struct channel *channel, void *state)
{
	(void)channel;
	map_close(state);
}

const struct strategy mmap_recv = {
	.pub = {
		.name = "mmap",
		.summary = "recv into a mapping of the file",
		.needs = "a regular file of its full size that can be mapped",
		.falls_back_to = "copy",
		.since = "2.2",
		.side = ZH_RECEIVE,
		.sees_data = 0,
		.user_copies = 1,
		.total_copies = 1,
	},
	.state_bytes = sizeof(struct map),
	.admit = mmap_recv_admit,
	.open = strategy_open_nothing,
	.step = mmap_recv_step,
	.drain = mmap_recv_drain,
	.close = mmap_recv_close,
};
