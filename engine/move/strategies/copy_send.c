/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_send.c - the plain loop: pread(2) into a buffer, send(2) from it. The baseline that
 * everything else is compared with, and what is left when the kernel refuses everything else.
 */
#include "move/channel.h"

#include <errno.h>

#define CHUNK_PREFERRED (256 * KIB)
#define CHUNK_MOST      (64 * MIB)

struct copy_send {
	struct buffer buffer;
	size_t held; /* read and not yet sent: buffer[sent..held) */
	size_t sent;
};

static int copy_send_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	(void)ret_reason;
	(void)cap;
	plan->chunk_bytes = strategy_chunk(facts, CHUNK_PREFERRED, CHUNK_MOST);
	plan->depth = 1;
	return 0;
}

static ssize_t copy_send_step(struct channel *channel, void *state)
{
	struct copy_send *copy = state;
	ssize_t r;

	if (copy->sent == copy->held) {
		size_t want = min_u64(channel->chunk_bytes, channel->end - channel->offset);
		r = buffer_reserve(&copy->buffer, channel->chunk_bytes);
		if (r == 0)
			r = sys_pread(channel->file, copy->buffer.memory, want, channel->offset);
		if (r <= 0) /* 0: the file has become shorter */
			return channel_fail(channel, CHANNEL_END_FILE, r < 0 ? r : -ENODATA);
		channel->stats.shorts += (size_t)r < want;
		copy->held = (size_t)r;
		copy->sent = 0;
	}
	r = sys_send(channel->sock, copy->buffer.memory + copy->sent, copy->held - copy->sent, 0);
	if (r < 0)
		return r == -EAGAIN ? r : channel_fail(channel, CHANNEL_END_SOCKET, r);
	channel->stats.shorts += (size_t)r < copy->held - copy->sent;
	if (channel->digest)
		leaf_run_add(channel->digest, copy->buffer.memory + copy->sent, (size_t)r);
	copy->sent += (size_t)r;
	return r;
}

static int copy_send_drain(struct channel *channel, void *state)
{
	struct copy_send *copy = state;

	(void)channel;
	copy->held = copy->sent = 0; /* what was read ahead of an error belongs to nobody now */
	return 0;
}

static void copy_send_close(struct channel *channel, void *state)
{
	struct copy_send *copy = state;

	(void)channel;
	buffer_free(&copy->buffer);
}

const struct strategy copy_send = {
	.pub = {
		.name = "copy",
		.summary = "pread into a buffer, send from it; the plain loop",
		.needs = "nothing",
		.falls_back_to = NULL,
		.since = "2.2",
		.side = ZH_SEND,
		.sees_data = 1,
		.user_copies = 2,
		.total_copies = 2,
	},
	.state_bytes = sizeof(struct copy_send),
	.admit = copy_send_admit,
	.open = strategy_open_nothing,
	.step = copy_send_step,
	.drain = copy_send_drain,
	.close = copy_send_close,
};
