/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmap_recv.c - recv(2) straight into a writable mapping of the file: one copy, socket to page
 * cache. Nothing here touches the mapping in user space, so a page that cannot be had (a full disk,
 * a file cut short) makes recv fail with EFAULT instead of killing the program with SIGBUS.
 */
#include "move/channel.h"

#include <errno.h>

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (16 * MIB)
#define WINDOW_BYTES    (16 * MIB)

struct mmap_recv {
	uint8_t *map; /* NULL: none */
	size_t length;
	uint64_t start; /* of the window, in the file; on a page */
	int file;
};

static int mmap_recv_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->file.regular || facts->file.append_only)
		return strategy_refuse(ret_reason, cap, "needs a regular file without O_APPEND");
	if (facts->file.size < facts->extent.offset + facts->extent.length)
		return strategy_refuse(ret_reason, cap, "the file has not got its full size yet");
	plan->chunk_bytes = strategy_chunk(facts, CHUNK_PREFERRED, CHUNK_MOST);
	plan->depth = 1;
	return 0;
}

static int mmap_recv_drain(struct channel *channel, void *state)
{
	struct mmap_recv *mapped = state;

	(void)channel;
	sys_unmap_memory(mapped->map, mapped->length);
	mapped->map = NULL;
	return 0;
}

static int map_window(struct channel *channel, struct mmap_recv *mapped)
{
	uint64_t start = round_down(channel->offset, STRATEGY_PAGE_BYTES);
	int error;

	if (mapped->map && mapped->file == channel->file && channel->offset >= mapped->start &&
		channel->offset < mapped->start + mapped->length)
		return 0;
	(void)mmap_recv_drain(channel, mapped);
	mapped->length = (size_t)min_u64(channel->end - start, WINDOW_BYTES);
	mapped->map = sys_map_file(channel->file, start, mapped->length, ZH_RECEIVE, &error);
	if (!mapped->map)
		return error;
	mapped->start = start;
	mapped->file = channel->file;
	return 0;
}

static ssize_t mmap_recv_step(struct channel *channel, void *state)
{
	struct mmap_recv *mapped = state;
	ssize_t r = map_window(channel, mapped);
	size_t want;

	if (r < 0) /* nothing was received: another strategy can go on from here */
		return r == -EACCES || r == -ENODEV || strategy_refusal((int)r)
			       ? channel_refuse(channel, -EOPNOTSUPP)
			       : channel_fail(channel, CHANNEL_END_FILE, r);
	want = (size_t)(min_u64(channel->end, mapped->start + mapped->length) - channel->offset);
	want = min_size(want, channel->chunk_bytes);
	r = sys_recv(channel->sock, mapped->map + (channel->offset - mapped->start), want, 0);
	if (r == 0)
		r = -ECONNRESET; /* closed in the middle of an extent */
	if (r == -EAGAIN)
		return r;
	if (r == -EFAULT)
		return channel_fail(channel, CHANNEL_END_FILE, -EIO);
	if (r < 0)
		return channel_fail(channel, CHANNEL_END_SOCKET, r);
	channel->stats.shorts += (size_t)r < want;
	return r;
}

static void mmap_recv_close(struct channel *channel, void *state)
{
	(void)mmap_recv_drain(channel, state);
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
	.state_bytes = sizeof(struct mmap_recv),
	.admit = mmap_recv_admit,
	.open = strategy_open_nothing,
	.step = mmap_recv_step,
	.drain = mmap_recv_drain,
	.close = mmap_recv_close,
};
