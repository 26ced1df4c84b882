/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_splice_send.c - io_uring SPLICE from the file into a pipe and from there into the socket.
 * The kernel runs each of them in a worker thread, so this is slower than splice itself; it is here
 * to be compared with, and no plan chooses it.
 */
#include "kernel/pipe.h"
#include "move/channel.h"

#include <errno.h>
#include <poll.h>

#define RING_ENTRIES 4

enum { TOKEN_FILL = 1, TOKEN_EMPTY, TOKEN_POLL };

struct uring_splice {
	struct ring *ring;
	struct pipe pipe;
};

static int uring_splice_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->file.regular)
		return strategy_refuse(ret_reason, cap, "not a regular file");
	if (strategy_needs_ring(facts, ret_reason, cap) < 0)
		return -1;
	return strategy_admit_pipe(facts, plan, ret_reason, cap);
}

static int uring_splice_open(struct channel *channel, void *state)
{
	struct uring_splice *splice = state;
	int r = ring_open(RING_ENTRIES, &splice->ring);

	if (r == 0)
		r = channel_open_pipe(channel, &splice->pipe);
	if (r < 0)
		return r;
	channel->stats.ring_flags = ring_setup_flags(splice->ring);
	return 0;
}

/* Waits for the one operation in flight. Its result, or why it could not be waited for. */
static int await(struct channel *channel, struct uring_splice *splice, enum channel_wait what)
{
	struct ring_event event;

	while (!ring_reap(splice->ring, &event, 1)) {
		int r = channel_ring_wait(channel, splice->ring, what);
		if (r < 0)
			return r;
	}
	return event.result;
}

static int fill_pipe(struct channel *channel, struct uring_splice *splice)
{
	struct pipe *pipe = &splice->pipe;
	uint32_t want = (uint32_t)min_u64(
		min_u64(channel->chunk_bytes, pipe->size_bytes), channel->end - channel->offset);
	int r;

	do {
		ring_splice(splice->ring, channel->file, (int64_t)channel->offset, pipe->in, -1,
			want, SPLICE_F_MOVE, TOKEN_FILL);
		r = await(channel, splice, CHANNEL_WAIT_DISK);
	} while (r == -EINTR);
	if (strategy_refusal(r))
		return (int)channel_refuse(channel, r);
	if (r <= 0) /* 0: the file has become shorter */
		return (int)channel_fail(channel, CHANNEL_END_FILE, r < 0 ? r : -ENODATA);
	channel->stats.shorts += (uint32_t)r < want;
	pipe->held_bytes = (uint64_t)r;
	return 0;
}

static ssize_t uring_splice_step(struct channel *channel, void *state)
{
	struct uring_splice *splice = state;
	struct pipe *pipe = &splice->pipe;
	int r = pipe->held_bytes ? 0 : fill_pipe(channel, splice);

	if (r < 0)
		return r;
	ring_splice(splice->ring, pipe->out, -1, channel->sock, -1, (uint32_t)pipe->held_bytes,
		SPLICE_F_MOVE, TOKEN_EMPTY);
	r = await(channel, splice, CHANNEL_WAIT_SPACE);
	if (r == -EAGAIN || r == -EINTR)
		return -EAGAIN; /* a full non-blocking socket */
	if (r <= 0) {
		int emptied = pipe_empty(pipe); /* read ahead of the offset: nothing is lost */
		if (emptied == 0 && strategy_refusal(r))
			return channel_refuse(channel, r);
		return channel_fail(channel, CHANNEL_END_SOCKET, r < 0 ? r : -EIO);
	}
	pipe->held_bytes -= (uint64_t)r;
	return r;
}

static int uring_splice_drain(struct channel *channel, void *state)
{
	struct uring_splice *splice = state;

	(void)channel;
	return pipe_empty(&splice->pipe);
}

static void uring_splice_close(struct channel *channel, void *state)
{
	struct uring_splice *splice = state;

	(void)channel;
	channel_ring_quiesce(splice->ring, TOKEN_EMPTY);
	ring_close(splice->ring);
	pipe_close(&splice->pipe);
}

const struct strategy uring_splice_send = {
	.pub = {
		.name = "uring-splice",
		.summary = "io_uring: file to pipe to socket by reference, in a kernel worker",
		.needs = "io_uring; a regular file; a pipe of 64 KiB or more",
		.falls_back_to = "splice",
		.since = "5.7",
		.side = ZH_SEND,
		.sees_data = 0,
		.user_copies = 0,
		.total_copies = 0,
	},
	.corks = true,
	.state_bytes = sizeof(struct uring_splice),
	.admit = uring_splice_admit,
	.open = uring_splice_open,
	.step = uring_splice_step,
	.drain = uring_splice_drain,
	.close = uring_splice_close,
};
