/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_direct_recv.c - io_uring: RECV into registered, aligned blocks, one at a time and whole
 * (MSG_WAITALL), and several O_DIRECT WRITE_FIXED in flight behind it. The page cache is not used.
 *
 * Writes run in parallel only inside blocks that are allocated already: the file was given its full
 * size by fallocate mode 0. The part of a last block below the page size goes through the page
 * cache; direct and buffered writes never touch the same page, because the kernel keeps no order
 * between them.
 */
#include "kernel/block.h"
#include "move/channel.h"

#include <errno.h>

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (4 * MIB)
#define DEPTH_PREFERRED 8
#define DEPTH_MOST      16
#define POOL_MOST_BYTES (32 * MIB)
#define PAGE_BYTES      4096u

enum { KIND_RECV = 1, KIND_WRITE = 2 };

struct uring_direct_recv {
	struct ring *ring;
	struct block_pool pool;
	uint32_t chunk_bytes;
	uint32_t writing;    /* blocks in BLOCK_WRITING */
	uint64_t receiving;  /* token of the receive in flight, 0: none */
	struct block *block; /* being filled, NULL: none */
	int error;           /* first one of a write to the file in hand */
	int refused;         /* why the file takes no direct writes, 0: it does */
};

static int uring_direct_recv_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	const struct file_facts *file = &facts->file;

	if (strategy_needs_ring(facts, ret_reason, cap) < 0)
		return -1;
	if (!facts->host.ring_recv)
		return strategy_refuse(ret_reason, cap, "this io_uring cannot receive");
	if (!file->regular || file->append_only)
		return strategy_refuse(ret_reason, cap, "needs a regular file without O_APPEND");
	if (file->in_memory)
		return strategy_refuse(
			ret_reason, cap, "%s has no disk to write directly to", file->filesystem);
	if (file->direct_offset_align == 0 || file->direct_offset_align > PAGE_BYTES ||
		file->direct_memory_align > PAGE_BYTES)
		return strategy_refuse(ret_reason, cap, "%s offers no direct I/O at page alignment",
			file->filesystem);
	if (facts->extent.offset % PAGE_BYTES != 0)
		return strategy_refuse(ret_reason, cap, "the extent does not start on a page");
	plan->chunk_bytes =
		(uint32_t)round_up(strategy_chunk(facts, CHUNK_PREFERRED, CHUNK_MOST), PAGE_BYTES);
	plan->depth = (uint32_t)max_u64(2, strategy_depth(facts, DEPTH_PREFERRED, DEPTH_MOST));
	plan->depth =
		(uint32_t)max_u64(2, min_u64(plan->depth, POOL_MOST_BYTES / plan->chunk_bytes));
	return 0;
}

static int uring_direct_recv_open(struct channel *channel, void *state)
{
	struct uring_direct_recv *uring = state;

	uring->chunk_bytes = channel->chunk_bytes;
	return channel_open_ring(
		channel, channel->depth, channel->chunk_bytes, &uring->ring, &uring->pool);
}

static void issue_recv(struct channel *channel, struct uring_direct_recv *uring)
{
	struct block *block = uring->block;

	uring->receiving = block_token(block, KIND_RECV);
	ring_recv(uring->ring, channel->sock, block->memory + block->done,
		block->length - block->done, MSG_WAITALL, uring->receiving);
}

/* Starts on the next block of the extent, if there is one and memory for it. from: where it begins.
 */
static void receive_next(struct channel *channel, struct uring_direct_recv *uring, uint64_t from)
{
	if (uring->block || uring->error || uring->refused || from >= channel->end)
		return;
	uring->block = block_take(&uring->pool, BLOCK_RECEIVING);
	if (!uring->block)
		return;
	uring->block->offset = from;
	uring->block->length = (uint32_t)min_u64(uring->chunk_bytes, channel->end - from);
	issue_recv(channel, uring);
}

static void issue_write(
	struct channel *channel, struct uring_direct_recv *uring, struct block *block)
{
	ring_write(uring->ring, channel->direct, block->memory + block->done,
		(uint32_t)round_down(block->length, PAGE_BYTES) - block->done,
		block->offset + block->done, block->slot, block_token(block, KIND_WRITE));
}

static void remember_error(struct uring_direct_recv *uring, int error)
{
	if (uring->error == 0)
		uring->error = error;
}

/* Hands a full block to the disk: whole pages directly, the rest of a last one through the cache.
 */
static void write_block(
	struct channel *channel, struct uring_direct_recv *uring, struct block *block)
{
	uint32_t whole = (uint32_t)round_down(block->length, PAGE_BYTES);
	int r = 0;

	block->done = 0;
	if (!uring->refused && whole > 0)
		uring->refused = (int)min_i64(channel_direct(channel), 0);
	if (uring->refused)
		whole = 0; /* these bytes are off the socket already: they go the ordinary way */
	if (whole < block->length)
		r = channel_pwrite_all(channel, block->memory + whole, block->length - whole,
			block->offset + whole);
	if (r < 0)
		remember_error(uring, r);
	if (whole == 0) {
		block_move(&uring->pool, block, BLOCK_FREE);
		return;
	}
	block_move(&uring->pool, block, BLOCK_WRITING);
	uring->writing++;
	issue_write(channel, uring, block);
}

static void write_done(
	struct channel *channel, struct uring_direct_recv *uring, struct block *block, int result)
{
	uint32_t whole = (uint32_t)round_down(block->length, PAGE_BYTES);

	if (result == -EINTR || result == -EAGAIN) {
		issue_write(channel, uring, block);
		return;
	}
	if (result == -EINVAL || result == -EOPNOTSUPP) {
		uring->refused = result; /* a file system that opens O_DIRECT and then will not */
		result = channel_pwrite_all(channel, block->memory, whole, block->offset);
		block->done = whole;
	}
	if (result > 0)
		block->done += (uint32_t)result;
	if (result > 0 && block->done < whole && block->done % PAGE_BYTES == 0) {
		channel->stats.shorts++;
		issue_write(channel, uring, block);
		return;
	}
	if (result < 0)
		remember_error(uring, result);
	else if (block->done < whole)
		remember_error(uring, channel_pwrite_all(channel, block->memory + block->done,
					      whole - block->done, block->offset + block->done));
	uring->writing--;
	block_move(&uring->pool, block, BLOCK_FREE);
}

/* A receive has ended. Returns bytes taken off the socket, 0 to go on, or its error. */
static ssize_t recv_done(struct channel *channel, struct uring_direct_recv *uring, int result)
{
	struct block *block = uring->block;

	uring->receiving = 0;
	if (result == -EINTR || result == -EAGAIN) {
		issue_recv(channel, uring);
		return 0;
	}
	if (result <= 0) { /* 0: closed in the middle of an extent */
		uring->block = NULL;
		block_move(&uring->pool, block, BLOCK_FREE);
		return channel_fail(channel, CHANNEL_END_SOCKET, result < 0 ? result : -ECONNRESET);
	}
	block->done += (uint32_t)result;
	if (block->done < block->length) {
		channel->stats.shorts++;
		issue_recv(channel, uring);
		return result;
	}
	uring->block = NULL;
	block_move(&uring->pool, block, BLOCK_FULL);
	if (uring->error) {
		block_move(&uring->pool, block, BLOCK_FREE);
		return result;
	}
	uint64_t next = block->offset + block->length;
	uint32_t length = block->length;
	const uint8_t *memory = block->memory;
	write_block(channel, uring, block);
	receive_next(channel, uring, next);
	if (channel->digest) {
		/* The kernel only reads the block while it writes it; start both, then digest. */
		if (ring_submit(uring->ring) == 0)
			leaf_run_add(channel->digest, memory, length);
		else
			remember_error(uring, -EIO);
	}
	return result;
}

/* Delivers all that has completed. Returns bytes received, 0, or the first error of the socket. */
static ssize_t reap_all(struct channel *channel, struct uring_direct_recv *uring)
{
	struct ring_event event[DEPTH_MOST * 2];
	size_t count = ring_reap(uring->ring, event, ARRAY_LEN(event));
	ssize_t received = 0;

	for (size_t i = 0; i < count; i++) {
		if (block_token_kind(event[i].token) == KIND_RECV)
			received = recv_done(channel, uring, event[i].result);
		else
			write_done(channel, uring, block_of_token(&uring->pool, event[i].token),
				event[i].result);
	}
	return received;
}

static ssize_t uring_direct_recv_step(struct channel *channel, void *state)
{
	struct uring_direct_recv *uring = state;

	for (;;) {
		ssize_t received = reap_all(channel, uring);
		if (received != 0)
			return received;
		/* An error of the disk is told when no receive is in flight: the offset is exact
		 * then. */
		if (uring->error && !uring->block) {
			int error = uring->error;
			uring->error = 0;
			return channel_fail(channel, CHANNEL_END_FILE, error);
		}
		if (uring->refused && !uring->block && uring->writing == 0) {
			int why = uring->refused;
			uring->refused = 0;
			return channel_refuse(channel, why);
		}
		if (!uring->block)
			receive_next(channel, uring, channel->offset);
		int r = channel_ring_wait(channel, uring->ring,
			uring->receiving ? CHANNEL_WAIT_DATA : CHANNEL_WAIT_DISK);
		if (r < 0)
			return r;
	}
}

static int uring_direct_recv_drain(struct channel *channel, void *state)
{
	struct uring_direct_recv *uring = state;
	int error, why;

	if (uring->receiving) /* left over from an error of the connection; close sees to it */
		return (int)channel_fail(channel, CHANNEL_END_SOCKET, -ECONNABORTED);
	while (uring->writing > 0) {
		int r = channel_ring_wait(channel, uring->ring, CHANNEL_WAIT_DISK);
		if (r < 0)
			return r;
		(void)reap_all(channel, uring); /* no receive is in flight: only writes end here */
	}
	error = uring->error;
	why = uring->refused;
	uring->error = uring->refused = 0;
	if (error)
		return (int)channel_fail(channel, CHANNEL_END_FILE, error);
	return why ? (int)channel_refuse(channel, why) : 0;
}

static void uring_direct_recv_close(struct channel *channel, void *state)
{
	struct uring_direct_recv *uring = state;

	(void)channel;
	channel_ring_quiesce(uring->ring, uring->receiving);
	ring_close(uring->ring);
	block_pool_close(&uring->pool);
}

const struct strategy uring_direct_recv = {
	.pub = {
		.name = "uring-direct",
		.summary = "io_uring: receives whole blocks, several O_DIRECT writes in flight behind",
		.needs = "io_uring; memlock; a file system with direct I/O; space allocated beforehand",
		.falls_back_to = "splice",
		.since = "5.6",
		.side = ZH_RECEIVE,
		.sees_data = 1,
		.user_copies = 1,
		.total_copies = 1,
	},
	.state_bytes = sizeof(struct uring_direct_recv),
	.admit = uring_direct_recv_admit,
	.open = uring_direct_recv_open,
	.step = uring_direct_recv_step,
	.drain = uring_direct_recv_drain,
	.close = uring_direct_recv_close,
};
