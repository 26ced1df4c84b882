/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dontcache_recv.c - recv(2) into a buffer and pwritev2(2) with RWF_DONTCACHE: through the page
 * cache, but what is written leaves it as soon as it is on the disk. For large files that nobody
 * will read soon, on kernels without io_uring for us or file systems without direct I/O.
 */
#include "move/channel.h"

#include <errno.h>

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (16 * MIB)

struct dontcache {
	struct buffer buffer;
	int refused; /* why the file takes no such writes, 0: it does */
};

static int dontcache_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->file.regular || facts->file.append_only)
		return strategy_refuse(ret_reason, cap, "needs a regular file without O_APPEND");
	if (!facts->file.dontcache || facts->file.in_memory)
		return strategy_refuse(
			ret_reason, cap, "%s refuses RWF_DONTCACHE", facts->file.filesystem);
	plan->chunk_bytes = strategy_chunk(facts, CHUNK_PREFERRED, CHUNK_MOST);
	plan->depth = 1;
	return 0;
}

/* Writes all of it; the ordinary way once the kernel has refused, because it is off the socket. */
static int write_all(struct channel *channel, struct dontcache *state, size_t length)
{
	size_t done = 0;

	while (done < length && !state->refused) {
		ssize_t r = sys_pwritev2(channel->file, state->buffer.memory + done, length - done,
			channel->offset + done, SYS_WRITE_DONTCACHE);
		if (strategy_refusal((int)r))
			state->refused = (int)r;
		else if (r <= 0) /* 0 for a non-zero length never happens on a regular file */
			return (int)channel_fail(channel, CHANNEL_END_FILE, r < 0 ? r : -EIO);
		else
			done += (size_t)r;
	}
	return channel_pwrite_all(
		channel, state->buffer.memory + done, length - done, channel->offset + done);
}

/* Tells a refusal, once all that was received before it is in the file. */
static int dontcache_drain(struct channel *channel, void *opaque)
{
	struct dontcache *state = opaque;
	int r = state->refused;

	state->refused = 0;
	return r < 0 ? (int)channel_refuse(channel, r) : 0;
}

static ssize_t dontcache_step(struct channel *channel, void *opaque)
{
	struct dontcache *state = opaque;
	int r = dontcache_drain(channel, opaque);

	if (r < 0)
		return r;
	ssize_t received = channel_recv_buffer(channel, &state->buffer);
	if (received < 0)
		return received;
	r = write_all(channel, state, (size_t)received);
	if (r < 0) {
		channel->offset += (uint64_t)received; /* off the socket, though not in the file */
		return r;
	}
	if (channel->digest)
		leaf_run_add(channel->digest, state->buffer.memory, (size_t)received);
	return received;
}

static void dontcache_close(struct channel *channel, void *opaque)
{
	struct dontcache *state = opaque;

	(void)channel;
	buffer_free(&state->buffer);
}

const struct strategy dontcache_recv = {
	.pub = {
		.name = "dontcache",
		.summary = "recv into a buffer, pwritev2 with RWF_DONTCACHE",
		.needs = "a file system that takes RWF_DONTCACHE",
		.falls_back_to = "copy",
		.since = "6.14",
		.side = ZH_RECEIVE,
		.sees_data = 1,
		.user_copies = 2,
		.total_copies = 2,
	},
	.state_bytes = sizeof(struct dontcache),
	.admit = dontcache_admit,
	.open = strategy_open_nothing,
	.step = dontcache_step,
	.drain = dontcache_drain,
	.close = dontcache_close,
};
