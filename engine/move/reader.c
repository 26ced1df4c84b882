/* SPDX-License-Identifier: Apache-2.0 */
/* reader.c - see reader.h. */
#include "move/reader.h"

#include <errno.h>

#define PAGE_BYTES 4096u

int reader_open(struct reader *reader, struct channel *channel, bool direct)
{
	reader->chunk_bytes = channel->chunk_bytes;
	reader->direct = direct;
	reader->file = -1;
	CHECK(channel->depth <= READER_DEPTH_MOST);
	return channel_open_ring(
		channel, channel->depth, channel->chunk_bytes, &reader->ring, &reader->pool);
}

void reader_close(struct reader *reader)
{
	channel_ring_quiesce(reader->ring, 0);
	ring_close(reader->ring);
	block_pool_close(&reader->pool);
}

void reader_forget(struct reader *reader)
{
	channel_ring_quiesce(reader->ring, 0);
	while (reader->count > 0)
		block_move(&reader->pool, reader_pop(reader), BLOCK_FREE);
	reader->file = -1;
	reader->error = 0;
	reader->refused = false;
}

bool reader_is_at(const struct reader *reader, const struct channel *channel)
{
	const struct block *front = reader_front(reader);
	uint64_t at = front ? front->offset + front->done : reader->next_read;

	return reader->file == channel->file && at == channel->offset;
}

void reader_seek(struct reader *reader, const struct channel *channel)
{
	reader->file = channel->file;
	reader->next_read = channel->offset;
}

static void issue(struct reader *reader, struct channel *channel, struct block *block)
{
	uint32_t length = block->length - block->got;

	if (reader->direct) /* block->got is whole pages */
		length = (uint32_t)round_up(length, PAGE_BYTES);
	ring_read(reader->ring, reader->direct ? channel->direct : channel->file,
		block->memory + block->got, length, block->offset + block->got, block->slot,
		block_token(block, READER_KIND));
}

/*
 * A direct read that ends inside a page was cut by the end of the file, or by something that cannot
 * be gone on with directly. Returns 0 when the block is full, -ENODATA at the end of the file.
 */
static int finish_buffered(struct channel *channel, struct block *block)
{
	while (block->got < block->length) {
		ssize_t r = sys_pread(channel->file, block->memory + block->got,
			block->length - block->got, block->offset + block->got);
		if (r <= 0)
			return r < 0 ? (int)r : -ENODATA;
		block->got += (uint32_t)r;
	}
	return 0;
}

static void fail_at(struct reader *reader, uint64_t offset, int error)
{
	if (reader->error == 0 || offset < reader->error_offset) {
		reader->error = error;
		reader->error_offset = offset;
	}
}

void reader_fill(struct reader *reader, struct channel *channel)
{
	int direct = reader->direct ? channel_direct(channel) : 0;
	struct block *block;

	while (reader->error == 0 && reader->next_read < channel->horizon &&
		(block = block_take(&reader->pool, BLOCK_READING))) {
		/* Direct reads begin on a page; what lies before the offset counts as sent. */
		block->offset = reader->direct ? round_down(reader->next_read, PAGE_BYTES)
					       : reader->next_read;
		block->done = (uint32_t)(reader->next_read - block->offset);
		block->length =
			(uint32_t)min_u64(reader->chunk_bytes, channel->horizon - block->offset);
		block->got = 0;
		reader->next_read = block->offset + block->length;
		reader->queue[(reader->head + reader->count++) % READER_DEPTH_MOST] = block;
		if (direct < 0) {
			fail_at(reader, block->offset, direct);
			reader->refused = true;
			block_move(&reader->pool, block, BLOCK_FULL);
		} else {
			issue(reader, channel, block);
		}
	}
}

void reader_event(struct reader *reader, struct channel *channel, const struct ring_event *event)
{
	struct block *block = block_of_token(&reader->pool, event->token);
	int result = event->result;

	if (result == -EINTR || result == -EAGAIN) {
		issue(reader, channel, block);
		return;
	}
	if (result > 0)
		block->got += (uint32_t)result;
	if (result > 0 && block->got < block->length) {
		channel->stats.shorts++;
		if (!reader->direct || block->got % PAGE_BYTES == 0) {
			issue(reader, channel, block);
			return;
		}
		result = finish_buffered(channel, block);
	} else if (result == 0) {
		result = -ENODATA; /* the file has become shorter */
	}
	if (result < 0)
		fail_at(reader, block->offset, result);
	block_move(&reader->pool, block, BLOCK_FULL);
}

struct block *reader_front(const struct reader *reader)
{
	return reader->count ? reader->queue[reader->head] : NULL;
}

int reader_front_error(const struct reader *reader)
{
	const struct block *front = reader_front(reader);

	return front && front->state == BLOCK_FULL && reader->error &&
			       front->offset >= reader->error_offset
		       ? reader->error
		       : 0;
}

struct block *reader_pop(struct reader *reader)
{
	struct block *block = reader->queue[reader->head];

	CHECK(reader->count > 0);
	reader->head = (reader->head + 1) % READER_DEPTH_MOST;
	reader->count--;
	return block;
}
