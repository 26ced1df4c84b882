/* SPDX-License-Identifier: Apache-2.0 */
/* ordered_send.c - see ordered_send.h. */
#include "move/ordered_send.h"

#include <errno.h>

#define EVENTS_MOST 64

enum { KIND_SEND = READER_KIND + 1 };

/* Sends from the front of the queue, as far as the extent goes. */
static void issue(struct channel *channel, struct ordered_send *send, struct block *block)
{
	uint64_t from = block->offset + block->done;
	uint32_t length = (uint32_t)min_u64(block->length - block->done, channel->end - from);

	block_move(&send->reader.pool, block, BLOCK_SENDING);
	send->sending = block_token(block, KIND_SEND);
	/* Without MSG_WAITALL a short send would count as a whole one. */
	ring_send(send->reader.ring, channel->sock, block->memory + block->done, length,
		MSG_WAITALL, send->sending);
}

static ssize_t send_done(struct channel *channel, struct ordered_send *send, int result)
{
	struct block *block = reader_front(&send->reader);

	send->sending = 0;
	block_move(&send->reader.pool, block, BLOCK_FULL);
	if (result == -EINTR || result == -EAGAIN)
		return 0;
	if (result <= 0) /* a send of more than 0 bytes does not return 0 */
		return channel_fail(channel, CHANNEL_END_SOCKET, result < 0 ? result : -EIO);
	if (channel->digest)
		leaf_run_add(channel->digest, block->memory + block->done, (size_t)result);
	block->done += (uint32_t)result;
	if (block->done == block->length)
		block_move(&send->reader.pool, reader_pop(&send->reader), BLOCK_FREE);
	return result;
}

/* Delivers all that has completed. Returns bytes sent, 0, or the first error of the socket. */
static ssize_t reap_all(struct channel *channel, struct ordered_send *send)
{
	struct ring_event event[EVENTS_MOST];
	size_t count = ring_reap(send->reader.ring, event, ARRAY_LEN(event));
	ssize_t sent = 0;

	for (size_t i = 0; i < count; i++) {
		if (block_token_kind(event[i].token) == READER_KIND)
			reader_event(&send->reader, channel, &event[i]);
		else
			sent = send_done(channel, send, event[i].result);
	}
	return sent;
}

static void forget(struct ordered_send *send)
{
	channel_ring_quiesce(send->reader.ring, send->sending);
	if (send->sending)
		block_move(&send->reader.pool, reader_front(&send->reader), BLOCK_FULL);
	send->sending = 0;
	reader_forget(&send->reader);
}

/* Everything before the failed block is sent, so the offset is exact. */
static ssize_t read_failed(struct channel *channel, struct ordered_send *send, int error)
{
	bool refused = send->reader.refused || strategy_refusal(error);

	forget(send);
	if (refused)
		return channel_refuse(channel, error);
	return channel_fail(channel, CHANNEL_END_FILE, error);
}

ssize_t ordered_send_step(struct channel *channel, void *state)
{
	struct ordered_send *send = state;
	struct reader *reader = &send->reader;

	if (!reader_is_at(reader, channel)) {
		forget(send);
		reader_seek(reader, channel);
	}
	for (;;) {
		ssize_t sent = reap_all(channel, send);
		if (sent != 0)
			return sent;
		int error = reader_front_error(reader);
		if (error)
			return read_failed(channel, send, error);
		struct block *front = reader_front(reader);
		if (front && front->state == BLOCK_FULL)
			issue(channel, send, front);
		reader_fill(reader, channel);
		if (reader_front_error(reader))
			continue; /* it failed at once: there is nothing to wait for */
		int r = channel_ring_wait(channel, reader->ring,
			send->sending ? CHANNEL_WAIT_SPACE : CHANNEL_WAIT_DISK);
		if (r < 0)
			return r;
	}
}

int ordered_send_drain(struct channel *channel, void *state)
{
	(void)channel;
	forget(state);
	return 0;
}

void ordered_send_close(struct channel *channel, void *state)
{
	struct ordered_send *send = state;

	(void)channel;
	channel_ring_quiesce(send->reader.ring, send->sending);
	reader_close(&send->reader);
}
