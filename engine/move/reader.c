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
	uint32_t from = block->got;
	uint32_t length = block->length - from;
	int fd = channel->file;

	if (reader->direct) {
		from = (uint32_t)round_down(
			from, PAGE_BYTES); /* after a short read, the page again */
		length = (uint32_t)round_up(block->length - from, PAGE_BYTES);
		fd = channel->direct;
	}
	block->got = from;
	ring_read(reader->ring, fd, block->memory + from, length, block->offset + from, block->slot,
		block_token(block, READER_KIND));
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
			fail_at(reader, block->offset, -EOPNOTSUPP);
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
	if (block->got >= block->length) {
		block_move(&reader->pool, block, BLOCK_FULL);
	} else if (result <= 0 || (reader->direct && (uint32_t)result % PAGE_BYTES != 0)) {
		/* 0, or part of a page from a direct read: the file has become shorter */
		fail_at(reader, block->offset, result < 0 ? result : -ENODATA);
		block_move(&reader->pool, block, BLOCK_FULL);
	} else {
		channel->stats.shorts++;
		issue(reader, channel, block);
	}
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
