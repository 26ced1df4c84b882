/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmap_send.c - send(2) from a mapping of the file, a window at a time: one copy, page cache to
 * socket. Nothing here reads the mapping in user space, so a file that is cut short under it makes
 * send fail with EFAULT instead of killing the program with SIGBUS.
 */
#include "move/channel.h"

#include <errno.h>
#include <sys/mman.h>

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (16 * MIB)
#define WINDOW_BYTES    (16 * MIB)

struct mmap_send {
	uint8_t *map; /* NULL: none */
	size_t length;
	uint64_t start; /* of the window, in the file; on a page */
	int file;
};

static int mmap_send_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->file.regular)
		return strategy_refuse(ret_reason, cap, "not a regular file");
	plan->chunk_bytes = strategy_chunk(facts, CHUNK_PREFERRED, CHUNK_MOST);
	plan->depth = 1;
	return 0;
}

static int mmap_send_drain(struct channel *channel, void *state)
{
	struct mmap_send *mapped = state;

	(void)channel;
	sys_unmap_memory(mapped->map, mapped->length);
	mapped->map = NULL;
	return 0;
}

/* Maps the window that the channel's offset lies in. */
static int map_window(struct channel *channel, struct mmap_send *mapped)
{
	uint64_t start = round_down(channel->offset, STRATEGY_PAGE_BYTES);
	uint64_t end = max_u64(channel->end, min_u64(channel->horizon, start + WINDOW_BYTES));
	int error;

	if (mapped->map && mapped->file == channel->file && channel->offset >= mapped->start &&
		channel->offset < mapped->start + mapped->length)
		return 0;
	(void)mmap_send_drain(channel, mapped);
	mapped->length = (size_t)min_u64(end - start, WINDOW_BYTES);
	mapped->map = sys_map_file(channel->file, start, mapped->length, ZH_SEND, &error);
	if (!mapped->map)
		return error;
	mapped->start = start;
	mapped->file = channel->file;
	/* One call instead of a fault per page; an old kernel refuses it and faults instead. */
	(void)madvise(mapped->map, mapped->length, MADV_POPULATE_READ);
	return 0;
}

static ssize_t mmap_send_step(struct channel *channel, void *state)
{
	struct mmap_send *mapped = state;
	ssize_t r = map_window(channel, mapped);
	size_t want;

	if (r < 0)
		return strategy_refusal((int)r) || r == -ENODEV
			       ? channel_refuse(channel, -EOPNOTSUPP)
			       : channel_fail(channel, CHANNEL_END_FILE, r);
	want = (size_t)min_u64(channel->end, mapped->start + mapped->length) - channel->offset;
	want = min_size(want, channel->chunk_bytes);
	r = sys_send(channel->sock, mapped->map + (channel->offset - mapped->start), want, 0);
	if (r == -EAGAIN)
		return r;
	if (r == -EFAULT)
		return channel_fail(
			channel, CHANNEL_END_FILE, -ENODATA); /* beyond the file's end */
	if (r < 0)
		return channel_fail(channel, CHANNEL_END_SOCKET, r);
	channel->stats.shorts += (size_t)r < want;
	return r;
}

static void mmap_send_close(struct channel *channel, void *state)
{
	(void)mmap_send_drain(channel, state);
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
	.state_bytes = sizeof(struct mmap_send),
	.admit = mmap_send_admit,
	.open = strategy_open_nothing,
	.step = mmap_send_step,
	.drain = mmap_send_drain,
	.close = mmap_send_close,
};
