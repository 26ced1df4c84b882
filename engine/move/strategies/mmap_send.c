/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmap_send.c - send(2) from a mapping of the file, a window at a time: one copy, page cache to
 * socket. Nothing here reads the mapping in user space, so a file that is cut short under it makes
 * send fail with EFAULT instead of killing the program with SIGBUS.
 */
#include "kernel/map.h"
#include "move/channel.h"

#include <errno.h>

#define CHUNK_PREFERRED MIB

static int mmap_send_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->file.regular)
		return strategy_refuse(ret_reason, cap, "not a regular file");
	plan->chunk_bytes = strategy_chunk(facts, CHUNK_PREFERRED, MAP_WINDOW_BYTES);
	plan->depth = 1;
	return 0;
}

/* The file's length now. -ENODATA: it does not reach beyond offset. */
static ssize_t length_from(int file, uint64_t offset)
{
	struct stat st;
	int r = sys_fstat(file, &st);

	if (r < 0)
		return r;
	return (uint64_t)st.st_size > offset ? (ssize_t)((uint64_t)st.st_size - offset) : -ENODATA;
}

/*
 * The file has become shorter under a send, which took the zeros behind its end for data, or cannot
 * be examined. What was sent is on the wire: zeros are still to be sent for the rest only.
 */
static ssize_t fail_after(struct channel *channel, ssize_t sent, ssize_t there)
{
	ssize_t kept = there == -ENODATA ? 0 : there >= 0 ? there : sent;

	channel->end -= (uint64_t)(sent - kept);
	channel->offset += (uint64_t)kept;
	channel->stats.bytes += (uint64_t)kept;
	return channel_fail(channel, CHANNEL_END_FILE, there >= 0 ? -ENODATA : there);
}

static ssize_t mmap_send_step(struct channel *channel, void *state)
{
	uint64_t end = max_u64(channel->end, channel->horizon);
	size_t want = 0;
	uint8_t *bytes;
	ssize_t there = length_from(channel->file, channel->offset);
	ssize_t r;

	if (there < 0)
		return channel_fail(channel, CHANNEL_END_FILE, there);
	r = map_cover(state, channel->file, channel->offset, end, ZH_SEND, &bytes, &want);
	if (r < 0)
		return strategy_refusal((int)r) || r == -ENODEV
			       ? channel_refuse(channel, (int)r)
			       : channel_fail(channel, CHANNEL_END_FILE, r);
	want = min_size(want, (size_t)(channel->end - channel->offset));
	want = min_size(want, min_size(channel->chunk_bytes, (size_t)there));
	r = sys_send(channel->sock, bytes, want, 0);
	if (r == -EAGAIN)
		return r;
	if (r == -EFAULT)
		return channel_fail(
			channel, CHANNEL_END_FILE, -ENODATA); /* beyond the file's end */
	if (r < 0)
		return channel_fail(channel, CHANNEL_END_SOCKET, r);
	there = length_from(channel->file, channel->offset);
	if (there < r)
		return fail_after(channel, r, there);
	channel->stats.shorts += (size_t)r < want;
	return r;
}

static int mmap_send_drain(struct channel *channel, void *state)
{
	(void)channel;
	map_close(state);
	return 0;
}

static void mmap_send_close(struct channel *channel, void *state)
{
	(void)channel;
	map_close(state);
}

const struct strategy mmap_send = {
	.pub = {
		.name = "mmap",
		.summary = "send from a mapping of the file",
		.needs = "a regular file that can be mapped",
		.falls_back_to = "copy",
		.since = "2.2",
		.side = ZH_SEND,
		.sees_data = 0,
		.user_copies = 1,
		.total_copies = 1,
	},
	.state_bytes = sizeof(struct map),
	.admit = mmap_send_admit,
	.open = strategy_open_nothing,
	.step = mmap_send_step,
	.drain = mmap_send_drain,
	.close = mmap_send_close,
};
