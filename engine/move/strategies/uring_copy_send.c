/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_copy_send.c - io_uring: several READ_FIXED ahead into registered blocks, and one SEND in
 * flight at a time, because sends on one socket have no order among themselves.
 * Blocks form a queue in file order. Reading ahead may pass the end of the extent in hand, up to
 * the channel's horizon; what is read is kept for the next extent if that begins where this one
 * ends.
 */
#include "kernel/block.h"
#include "move/channel.h"

#include <errno.h>

#define CHUNK_PREFERRED (256 * KIB)
#define CHUNK_MOST      (4 * MIB)
#define DEPTH_PREFERRED 4
#define DEPTH_MOST      16
#define POOL_MOST_BYTES (32 * MIB)

enum { KIND_READ = 1, KIND_SEND = 2 };

struct uring_copy_send {
	struct ring *ring;
	struct block_pool pool;
	struct block *queue[DEPTH_MOST]; /* in file order, from head */
	uint32_t head;
	uint32_t count;
	uint32_t chunk_bytes; /* of each block */
	uint64_t next_read;
	int file;         /* that the queue belongs to */
	uint64_t sending; /* token of the send in flight, 0: none */
	int read_error;   /* of the block at failed_offset; nothing beyond is read */
	uint64_t failed_offset;
};

static int uring_copy_send_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (strategy_needs_ring(facts, ret_reason, cap) < 0)
		return -1;
	plan->chunk_bytes = strategy_chunk(facts, CHUNK_PREFERRED, CHUNK_MOST);
	plan->depth = strategy_depth(facts, DEPTH_PREFERRED, DEPTH_MOST);
	plan->depth = (uint32_t)max_u64(
		1, min_u64(plan->depth, POOL_MOST_BYTES / round_up(plan->chunk_bytes, 4096)));
	return 0;
}

static int uring_copy_send_open(struct channel *channel, void *state)
{
	struct uring_copy_send *uring = state;
	int r = channel_open_ring(
		channel, channel->depth, channel->chunk_bytes, &uring->ring, &uring->pool);

	uring->chunk_bytes = channel->chunk_bytes;
	uring->file = -1;
	return r;
}

/* Forgets what was read ahead; reads in flight are waited for, because their memory is ours. */
static void uring_copy_send_forget(struct uring_copy_send *uring)
{
	channel_ring_quiesce(uring->ring, uring->sending);
	uring->sending = 0;
	while (uring->count > 0) {
		block_move(&uring->pool, uring->queue[uring->head], BLOCK_FREE);
		uring->head = (uring->head + 1) % DEPTH_MOST;
		uring->count--;
	}
	uring->file = -1;
	uring->read_error = 0;
}

static struct block *queue_head(const struct uring_copy_send *uring)
{
	return uring->count ? uring->queue[uring->head] : NULL;
}

static void issue_read(struct channel *channel, struct uring_copy_send *uring, struct block *block)
{
	ring_read(uring->ring, channel->file, block->memory + block->done,
		block->length - block->done, block->offset + block->done, block->slot,
		block_token(block, KIND_READ));
}

static void read_ahead(struct channel *channel, struct uring_copy_send *uring)
{
	struct block *block;

	while (uring->read_error == 0 && uring->next_read < channel->horizon &&
		(block = block_take(&uring->pool, BLOCK_READING))) {
		block->offset = uring->next_read;
		block->length =
			(uint32_t)min_u64(uring->chunk_bytes, channel->horizon - uring->next_read);
		uring->next_read += block->length;
		uring->queue[(uring->head + uring->count++) % DEPTH_MOST] = block;
		issue_read(channel, uring, block);
	}
}

static void read_done(
	struct channel *channel, struct uring_copy_send *uring, struct block *block, int result)
{
	if (result == -EINTR || result == -EAGAIN) {
		issue_read(channel, uring, block);
		return;
	}
	if (result > 0) {
		block->done += (uint32_t)result;
		if (block->done < block->length) {
			channel->stats.shorts++;
			issue_read(channel, uring, block);
			return;
		}
	} else if (uring->read_error == 0 || block->offset < uring->failed_offset) {
		uring->read_error =
			result < 0 ? result : -ENODATA; /* 0: the file has become shorter */
		uring->failed_offset = block->offset;
	}
	block->done = 0; /* from here on: how much of it was sent */
	block_move(&uring->pool, block, BLOCK_FULL);
}

/* Everything before the failed block is sent; the offset is exact. */
static ssize_t read_failed(struct channel *channel, struct uring_copy_send *uring)
{
	int error = uring->read_error;

	uring_copy_send_forget(uring);
	if (error == -EINVAL || error == -EOPNOTSUPP)
		return channel_refuse(channel, error);
	return channel_fail(channel, CHANNEL_END_FILE, error);
}

/* Sends from the head of the queue, as far as the extent goes. */
static void issue_send(struct channel *channel, struct uring_copy_send *uring, struct block *block)
{
	uint64_t from = block->offset + block->done;
	uint32_t length = (uint32_t)min_u64(block->length - block->done, channel->end - from);

	block_move(&uring->pool, block, BLOCK_SENDING);
	uring->sending = block_token(block, KIND_SEND);
	ring_send(uring->ring, channel->sock, block->memory + block->done, length, MSG_WAITALL,
		uring->sending);
}

static ssize_t send_done(
	struct channel *channel, struct uring_copy_send *uring, struct block *block, int result)
{
	uring->sending = 0;
	block_move(&uring->pool, block, BLOCK_FULL);
	if (result == -EINTR || result == -EAGAIN)
		return 0;
	if (result <= 0) /* a send of more than 0 bytes does not return 0 */
		return channel_fail(channel, CHANNEL_END_SOCKET, result < 0 ? result : -EIO);
	if (channel->digest)
		leaf_run_add(channel->digest, block->memory + block->done, (size_t)result);
	block->done += (uint32_t)result;
	if (block->done == block->length) {
		block_move(&uring->pool, block, BLOCK_FREE);
		uring->head = (uring->head + 1) % DEPTH_MOST;
		uring->count--;
	}
	return result;
}

/* Delivers all that has completed. Returns bytes sent, 0, or the first error. */
static ssize_t reap_all(struct channel *channel, struct uring_copy_send *uring)
{
	struct ring_event event[DEPTH_MOST * 2];
	size_t count = ring_reap(uring->ring, event, ARRAY_LEN(event));
	ssize_t sent = 0;

	for (size_t i = 0; i < count; i++) {
		struct block *block = block_of_token(&uring->pool, event[i].token);
		if (block_token_kind(event[i].token) == KIND_READ)
			read_done(channel, uring, block, event[i].result);
		else
			sent = send_done(channel, uring, block, event[i].result);
	}
	return sent;
}

static ssize_t uring_copy_send_step(struct channel *channel, void *state)
{
	struct uring_copy_send *uring = state;
	struct block *head = queue_head(uring);
	uint64_t at = head ? head->offset + (head->state == BLOCK_READING ? 0 : head->done)
			   : uring->next_read;

	if (uring->file != channel->file || at != channel->offset) {
		uring_copy_send_forget(uring);
		uring->file = channel->file;
		uring->next_read = channel->offset;
	}
	for (;;) {
		ssize_t sent = reap_all(channel, uring);
		if (sent != 0)
			return sent;
		head = queue_head(uring);
		if (head && head->state == BLOCK_FULL && !uring->sending) {
			if (uring->read_error && head->offset >= uring->failed_offset)
				return read_failed(channel, uring);
			issue_send(channel, uring, head);
		}
		read_ahead(channel, uring);
		int r = channel_ring_wait(channel, uring->ring,
			uring->sending ? CHANNEL_WAIT_SPACE : CHANNEL_WAIT_DISK);
		if (r < 0)
			return r;
	}
}

static int uring_copy_send_drain(struct channel *channel, void *state)
{
	(void)channel;
	uring_copy_send_forget(state);
	return 0;
}

static void uring_copy_send_close(struct channel *channel, void *state)
{
	struct uring_copy_send *uring = state;

	(void)channel;
	channel_ring_quiesce(uring->ring, uring->sending);
	ring_close(uring->ring);
	block_pool_close(&uring->pool);
}

const struct strategy uring_copy_send = {
	.pub = {
		.name = "uring-copy",
		.summary = "io_uring: reads ahead into registered buffers, sends in order from them",
		.needs = "io_uring; memlock for the registered buffers",
		.falls_back_to = "copy",
		.since = "5.6",
		.side = ZH_SEND,
		.sees_data = 1,
		.user_copies = 2,
		.total_copies = 2,
	},
	.state_bytes = sizeof(struct uring_copy_send),
	.admit = uring_copy_send_admit,
	.open = uring_copy_send_open,
	.step = uring_copy_send_step,
	.drain = uring_copy_send_drain,
	.close = uring_copy_send_close,
};
