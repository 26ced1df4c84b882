/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice_send.c - splice(2) from the page cache into a pipe of our own and from there into the
 * socket, by reference. The pipe is emptied before it is refilled: with bytes left in it, both ends
 * can wait for each other.
 */
#include "kernel/pipe.h"
#include "move/channel.h"

#include <errno.h>

struct splice_send {
	struct pipe pipe;
};

static int splice_send_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->file.regular)
		return strategy_refuse(ret_reason, cap, "not a regular file");
	return strategy_admit_pipe(facts, plan, ret_reason, cap);
}

static int splice_send_open(struct channel *channel, void *state)
{
	struct splice_send *splice = state;

	return channel_open_pipe(channel, &splice->pipe);
}

static ssize_t splice_send_step(struct channel *channel, void *state)
{
	struct splice_send *splice = state;
	struct pipe *pipe = &splice->pipe;
	uint64_t left = channel->end - channel->offset;
	ssize_t r;

	if (pipe->held_bytes == 0) {
		size_t want = min_u64(min_u64(channel->chunk_bytes, pipe->size_bytes), left);
		r = sys_splice(
			channel->file, &channel->offset, pipe->in, NULL, want, SPLICE_F_MOVE);
		if (strategy_refusal((int)r))
			return channel_refuse(channel, (int)r);
		if (r <= 0) /* 0: the file has become shorter */
			return channel_fail(channel, CHANNEL_END_FILE, r < 0 ? r : -ENODATA);
		channel->stats.shorts += (size_t)r < want;
		pipe->held_bytes = (uint64_t)r;
	}
	bool last = pipe->held_bytes == left && !channel->more;
	r = sys_splice(pipe->out, NULL, channel->sock, NULL, pipe->held_bytes,
		SPLICE_F_MOVE | SPLICE_F_NONBLOCK | (last ? 0u : SPLICE_F_MORE));
	if (r == -EAGAIN)
		return r;
	if (r <= 0) {
		int emptied = pipe_empty(
			pipe); /* read ahead of the offset: forgetting it loses nothing */
		if (r == 0)
			r = -EIO; /* a pipe that holds bytes does not end */
		if (emptied == 0 && strategy_refusal((int)r))
			return channel_refuse(channel, (int)r);
		return channel_fail(channel, CHANNEL_END_SOCKET, emptied < 0 ? emptied : r);
	}
	pipe->held_bytes -= (uint64_t)r;
	return r;
}

static int splice_send_drain(struct channel *channel, void *state)
{
	struct splice_send *splice = state;
	int r = pipe_empty(&splice->pipe);

	return r < 0 ? (int)channel_fail(channel, CHANNEL_END_FILE, r) : 0;
}

static void splice_send_close(struct channel *channel, void *state)
{
	struct splice_send *splice = state;

	(void)channel;
	pipe_close(&splice->pipe);
}

const struct strategy splice_send = {
	.pub = {
		.name = "splice",
		.summary = "page cache to pipe to socket by reference",
		.needs = "a regular file; a pipe of 64 KiB or more; TCP with scatter-gather, else it copies",
		.falls_back_to = "copy",
		.since = "2.6.17",
		.side = ZH_SEND,
		.sees_data = 0,
		.user_copies = 0,
		.total_copies = 0,
	},
	.corks = true,
	.state_bytes = sizeof(struct splice_send),
	.admit = splice_send_admit,
	.open = splice_send_open,
	.step = splice_send_step,
	.drain = splice_send_drain,
	.close = splice_send_close,
};
