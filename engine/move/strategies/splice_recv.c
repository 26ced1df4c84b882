/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice_recv.c - splice(2) from the socket into a pipe of our own and from there into the page
 * cache: exactly one copy. A pipe has slots, not bytes: each page fragment of a segment takes one.
 */
#include "kernel/pipe.h"
#include "move/channel.h"

#include <errno.h>

#define RESCUE_BYTES (64 * KIB)

struct splice_recv {
	struct pipe pipe;
	int refused; /* why the file takes nothing from a pipe, 0: it does */
};

static int splice_recv_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->file.regular)
		return strategy_refuse(ret_reason, cap, "not a regular file");
	if (facts->file.append_only)
		return strategy_refuse(ret_reason, cap, "the file is open with O_APPEND");
	return strategy_admit_pipe(facts, plan, ret_reason, cap);
}

static int splice_recv_open(struct channel *channel, void *state)
{
	struct splice_recv *splice = state;

	return channel_open_pipe(channel, &splice->pipe);
}

/* Bytes in the pipe are off the socket; when splice refuses the file they go the ordinary way. */
static int splice_recv_rescue(struct channel *channel, struct pipe *pipe, uint64_t offset)
{
	uint8_t *buffer = malloc(RESCUE_BYTES);
	int r = buffer ? 0 : -ENOMEM;

	while (r == 0 && pipe->held_bytes > 0) {
		ssize_t got = sys_read(pipe->out, buffer, min_u64(RESCUE_BYTES, pipe->held_bytes));
		if (got <= 0) {
			r = got < 0 ? (int)got : -EIO;
			break;
		}
		pipe->held_bytes -= (uint64_t)got;
		r = channel_pwrite_all(channel, buffer, (size_t)got, offset);
		offset += (uint64_t)got;
	}
	free(buffer);
	return r;
}

/* Everything in the pipe into the file at offset. */
static int splice_recv_empty(struct channel *channel, struct splice_recv *splice, uint64_t offset)
{
	struct pipe *pipe = &splice->pipe;

	while (pipe->held_bytes > 0) {
		ssize_t r = sys_splice(
			pipe->out, NULL, channel->file, &offset, pipe->held_bytes, SPLICE_F_MOVE);
		if (strategy_refusal((int)r)) {
			splice->refused = (int)r;
			r = splice_recv_rescue(channel, pipe, offset);
			return r < 0 ? (int)channel_fail(channel, CHANNEL_END_FILE, r) : 0;
		}
		if (r <= 0) /* 0: a pipe that holds bytes does not end */
			return (int)channel_fail(channel, CHANNEL_END_FILE, r < 0 ? r : -EIO);
		channel->stats.shorts += (uint64_t)r < pipe->held_bytes;
		pipe->held_bytes -= (uint64_t)r;
		offset += (uint64_t)r;
	}
	return 0;
}

static ssize_t splice_recv_step(struct channel *channel, void *state)
{
	struct splice_recv *splice = state;
	struct pipe *pipe = &splice->pipe;
	size_t want = min_u64(
		min_u64(channel->chunk_bytes, pipe->size_bytes), channel->end - channel->offset);
	ssize_t received;
	int r = splice->refused;

	if (r < 0) {
		splice->refused = 0;
		return channel_refuse(channel, r);
	}
	received = sys_splice(
		channel->sock, NULL, pipe->in, NULL, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (strategy_refusal((int)received))
		return channel_refuse(channel, (int)received);
	if (received == 0)
		received = -ECONNRESET; /* closed in the middle of an extent */
	if (received < 0)
		return received == -EAGAIN ? received
					   : channel_fail(channel, CHANNEL_END_SOCKET, received);
	channel_received(channel, want, (size_t)received);
	pipe->held_bytes = (uint64_t)received;
	r = splice_recv_empty(channel, splice, channel->offset);
	if (r < 0) {
		channel->offset += (uint64_t)received; /* off the socket, though not in the file */
		return r;
	}
	return received;
}

static int splice_recv_drain(struct channel *channel, void *state)
{
	struct splice_recv *splice = state;
	int why = splice->refused;
	/* It holds bytes only after an error, and then they belong to a file that has failed. */
	int r = pipe_empty(&splice->pipe);

	splice->refused = 0;
	if (r < 0)
		return (int)channel_fail(channel, CHANNEL_END_FILE, r);
	return why < 0 ? (int)channel_refuse(channel, why) : 0;
}

static void splice_recv_close(struct channel *channel, void *state)
{
	struct splice_recv *splice = state;

	(void)channel;
	pipe_close(&splice->pipe);
}

const struct strategy splice_recv = {
	.pub = {
		.name = "splice",
		.summary = "socket to pipe by reference, one copy into the page cache",
		.needs = "a regular file without O_APPEND; a pipe of 64 KiB or more",
		.falls_back_to = "copy",
		.since = "2.6.17",
		.side = ZH_RECEIVE,
		.sees_data = 0,
		.user_copies = 0,
		.total_copies = 1,
	},
	.state_bytes = sizeof(struct splice_recv),
	.admit = splice_recv_admit,
	.open = splice_recv_open,
	.step = splice_recv_step,
	.drain = splice_recv_drain,
	.close = splice_recv_close,
};
