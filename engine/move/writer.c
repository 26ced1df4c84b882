/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.c - see writer.h.
 *
 * The part of a last block below the page size goes through the page cache even when the rest goes
 * directly; the two never touch the same page, because the kernel keeps no order between them.
 */
#include "move/writer.h"

#include <errno.h>

#define EVENTS_MOST 64
#define PAGE_BYTES  STRATEGY_PAGE_BYTES

enum { KIND_RECV = 1, KIND_WRITE = 2 };

int writer_open(struct writer *writer, struct channel *channel, bool direct)
{
	writer->chunk_bytes = channel->chunk_bytes;
	writer->direct = direct;
	return channel_open_ring(
		channel, channel->depth, channel->chunk_bytes, &writer->ring, &writer->pool);
}

/* How much of a block is written by the ring: all of it, or its whole pages. */
static uint32_t ring_part(const struct writer *writer, const struct block *block)
{
	return writer->direct ? (uint32_t)round_down(block->length, PAGE_BYTES) : block->length;
}

static void issue_recv(struct channel *channel, struct writer *writer)
{
	struct block *block = writer->block;

	writer->receiving = block_token(block, KIND_RECV);
	ring_recv(writer->ring, channel->sock, block->memory + block->done,
		block->length - block->done, MSG_WAITALL, writer->receiving);
}

/* Starts on the next block of the extent, if there is one and memory for it. from: where it begins.
 */
static void receive_next(struct channel *channel, struct writer *writer, uint64_t from)
{
	if (writer->block || writer->error || writer->refused || from >= channel->end)
		return;
	writer->block = block_take(&writer->pool, BLOCK_RECEIVING);
	if (!writer->block)
		return;
	writer->block->offset = from;
	writer->block->length = (uint32_t)min_u64(writer->chunk_bytes, channel->end - from);
	issue_recv(channel, writer);
}

static void issue_write(struct channel *channel, struct writer *writer, struct block *block)
{
	ring_write(writer->ring, writer->direct ? channel->direct : channel->file,
		block->memory + block->done, ring_part(writer, block) - block->done,
		block->offset + block->done, block->slot, block_token(block, KIND_WRITE));
}

static void remember_error(struct writer *writer, int error)
{
	if (writer->error == 0)
		writer->error = error;
}

/* Hands a full block to the disk. True: a write by the ring is in flight. */
static bool write_block(struct channel *channel, struct writer *writer, struct block *block)
{
	uint32_t part = ring_part(writer, block);
	int r = 0;

	block->done = 0;
	if (writer->direct && !writer->refused && part > 0)
		writer->refused = (int)min_i64(channel_direct(channel), 0);
	if (writer->refused)
		part = 0; /* these bytes are off the socket already: they go the ordinary way */
	if (part < block->length)
		r = channel_pwrite_all(
			channel, block->memory + part, block->length - part, block->offset + part);
	if (r < 0)
		remember_error(writer, r);
	if (part == 0)
		return false;
	block_move(&writer->pool, block, BLOCK_WRITING);
	writer->writing++;
	issue_write(channel, writer, block);
	return true;
}

static void write_done(
	struct channel *channel, struct writer *writer, struct block *block, int result)
{
	uint32_t part = ring_part(writer, block);
	uint32_t unit = writer->direct ? PAGE_BYTES : 1;

	if (result == -EINTR || result == -EAGAIN) {
		issue_write(channel, writer, block);
		return;
	}
	if (result == -EINVAL || result == -EOPNOTSUPP) {
		writer->refused = result; /* a file system that opens O_DIRECT and then will not */
		result = channel_pwrite_all(channel, block->memory, part, block->offset);
		block->done = part;
	}
	if (result > 0)
		block->done += (uint32_t)result;
	if (result > 0 && block->done < part && block->done % unit == 0) {
		channel->stats.shorts++;
		issue_write(channel, writer, block);
		return;
	}
	if (result < 0)
		remember_error(writer, result);
	else if (block->done < part)
		remember_error(writer, channel_pwrite_all(channel, block->memory + block->done,
					       part - block->done, block->offset + block->done));
	writer->writing--;
	block_move(&writer->pool, block, BLOCK_FREE);
}

/* A receive has ended. Returns bytes taken off the socket, 0 to go on, or its error. */
static ssize_t recv_done(struct channel *channel, struct writer *writer, int result)
{
	struct block *block = writer->block;

	writer->receiving = 0;
	if (result == -EINTR || result == -EAGAIN) {
		issue_recv(channel, writer);
		return 0;
	}
	if (result <= 0) { /* 0: closed in the middle of an extent */
		writer->block = NULL;
		block_move(&writer->pool, block, BLOCK_FREE);
		return channel_fail(channel, CHANNEL_END_SOCKET, result < 0 ? result : -ECONNRESET);
	}
	block->done += (uint32_t)result;
	if (block->done < block->length) {
		channel->stats.shorts++;
		issue_recv(channel, writer);
		return result;
	}
	writer->block = NULL;
	block_move(&writer->pool, block, BLOCK_FULL);
	uint64_t next = block->offset + block->length;
	bool in_flight = !writer->error && write_block(channel, writer, block);
	if (in_flight) {
		/* The kernel only reads the block while it writes it: start both, then digest. */
		receive_next(channel, writer, next);
		if (channel->digest && ring_submit(writer->ring) < 0)
			remember_error(writer, -EIO);
	}
	if (channel->digest)
		leaf_run_add(channel->digest, block->memory, block->length);
	if (!in_flight) {
		block_move(&writer->pool, block, BLOCK_FREE);
		receive_next(channel, writer, next);
	}
	return result;
}

/* Delivers all that has completed. Returns bytes received, 0, or the first error of the socket. */
static ssize_t reap_all(struct channel *channel, struct writer *writer)
{
	struct ring_event event[EVENTS_MOST];
	size_t count = ring_reap(writer->ring, event, ARRAY_LEN(event));
	ssize_t received = 0;

	for (size_t i = 0; i < count; i++) {
		if (block_token_kind(event[i].token) == KIND_RECV)
			received = recv_done(channel, writer, event[i].result);
		else
			write_done(channel, writer, block_of_token(&writer->pool, event[i].token),
				event[i].result);
	}
	return received;
}

ssize_t writer_step(struct channel *channel, void *state)
{
	struct writer *writer = state;

	for (;;) {
		ssize_t received = reap_all(channel, writer);
		if (received != 0)
			return received;
		/* An error of the disk is told when no receive is in flight: the offset is exact
		 * then. */
		if (writer->error && !writer->block) {
			int error = writer->error;
			writer->error = 0;
			return channel_fail(channel, CHANNEL_END_FILE, error);
		}
		if (writer->refused && !writer->block && writer->writing == 0) {
			int why = writer->refused;
			writer->refused = 0;
			return channel_refuse(channel, why);
		}
		if (!writer->block)
			receive_next(channel, writer, channel->offset);
		int r = 0;
		if (writer->receiving)
			r = channel_expect(channel,
				channel->end - writer->block->offset - writer->block->length);
		if (r < 0)
			return channel_fail(channel, CHANNEL_END_SOCKET, r);
		r = channel_ring_wait(channel, writer->ring,
			writer->receiving ? CHANNEL_WAIT_DATA : CHANNEL_WAIT_DISK);
		if (r < 0)
			return r;
	}
}

int writer_drain(struct channel *channel, void *state)
{
	struct writer *writer = state;
	int error, why;

	/* A receive is left over from an error of the connection only, and ends when its socket is
	 * shut down. What it brings is of the extent that was given up. */
	while (writer->writing > 0 || writer->receiving) {
		int r = channel_ring_wait(channel, writer->ring,
			writer->receiving ? CHANNEL_WAIT_DATA : CHANNEL_WAIT_DISK);
		if (r < 0)
			return r;
		(void)reap_all(channel, writer); /* the error of the connection is known */
	}
	channel->failed = CHANNEL_END_NONE;
	error = writer->error;
	why = writer->refused;
	writer->error = writer->refused = 0;
	if (error)
		return (int)channel_fail(channel, CHANNEL_END_FILE, error);
	return why ? (int)channel_refuse(channel, why) : 0;
}

void writer_close(struct channel *channel, void *state)
{
	struct writer *writer = state;

	(void)channel;
	channel_ring_quiesce(writer->ring, writer->receiving);
	ring_close(writer->ring);
	block_pool_close(&writer->pool);
}
