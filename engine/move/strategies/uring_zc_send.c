/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_zc_send.c - io_uring: O_DIRECT reads into registered blocks on huge pages, sent by SEND_ZC
 * from where they are. One send at a time is being queued; a block that is queued stays PINNED
 * until the kernel has told, by a second completion, that it no longer reads it, and is never
 * waited for alone.
 *
 * The kernel copies after all on local delivery and on devices without scatter-gather, and says so
 * in that second completion. Then this only costs more than a plain send: unless it was asked for
 * without fallback, the channel goes on with the next strategy.
 */
#include "move/reader.h"

#include <errno.h>

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (4 * MIB)
#define DEPTH_PREFERRED 16 /* blocks are out of use from the read to the acknowledgement */
#define DEPTH_MOST      64
#define EVENTS_MOST     128
#define COPIED_MOST     4 /* notifications of copying before it is believed */

enum { KIND_SEND = READER_KIND + 1 };

struct uring_zc_send {
	struct reader reader;
	struct block *sending; /* NULL: no send waits for its first completion */
	uint32_t pinned;       /* notifications that are still to come */
	uint32_t copied;       /* notifications that told of a copy */
	uint64_t copied_slots; /* bit per block: one of its sends was copied */
	bool no_report;        /* the kernel is older than the report of copies (6.2) */
};

static int uring_zc_send_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (strategy_needs_ring(facts, ret_reason, cap) < 0 ||
		strategy_needs_direct(facts, ret_reason, cap) < 0)
		return -1;
	if (!facts->host.ring_send_zc)
		return strategy_refuse(ret_reason, cap, "this io_uring has no SEND_ZC (Linux 6.0)");
	if (strategy_needs_pages_in_place(facts, ret_reason, cap) < 0)
		return -1;
	strategy_locked_blocks(
		facts, plan, CHUNK_PREFERRED, CHUNK_MOST, DEPTH_PREFERRED, DEPTH_MOST);
	plan->chunk_bytes = (uint32_t)round_up(plan->chunk_bytes, STRATEGY_PAGE_BYTES);
	return 0;
}

static int uring_zc_send_open(struct channel *channel, void *state)
{
	struct uring_zc_send *zc = state;
	return reader_open(&zc->reader, channel, true);
}

static void issue(struct channel *channel, struct uring_zc_send *zc, struct block *block)
{
	uint64_t from = block->offset + block->done;
	uint32_t length = (uint32_t)min_u64(block->length - block->done, channel->end - from);

	block_move(&zc->reader.pool, block, BLOCK_SENDING);
	zc->sending = block;
	ring_send_zc(zc->reader.ring, channel->sock, block->memory + block->done, length,
		MSG_WAITALL, block->slot, !zc->no_report, block_token(block, KIND_SEND));
}

/* A block that is sent and that nobody reads any more goes back to the reader. */
static void release_if_idle(struct channel *channel, struct uring_zc_send *zc, struct block *block)
{
	uint64_t slot = UINT64_C(1) << block->slot;

	if (block->state != BLOCK_PINNED || block->pins > 0)
		return;
	if (zc->copied_slots & slot) /* once, however many sends it took */
		channel->stats.zc_copied_bytes += block->length;
	zc->copied_slots &= ~slot;
	block_move(&zc->reader.pool, block, BLOCK_FREE);
}

static void notified(struct channel *channel, struct uring_zc_send *zc, struct block *block,
	const struct ring_event *event)
{
	block->pins--;
	zc->pinned--;
	if (event->flags & RING_COPIED) {
		zc->copied++;
		zc->copied_slots |= UINT64_C(1) << block->slot;
	}
	release_if_idle(channel, zc, block);
}

/* The first completion of a send. Returns bytes sent, 0 to go on, or an error. */
static ssize_t send_done(struct channel *channel, struct uring_zc_send *zc, struct block *block,
	const struct ring_event *event)
{
	int result = event->result;

	zc->sending = NULL;
	if (event->flags & RING_MORE) { /* even a failed send may be followed by a notification */
		block->pins++;
		zc->pinned++;
	}
	block_move(&zc->reader.pool, block, BLOCK_FULL);
	if (result == -EINTR || result == -EAGAIN)
		return 0;
	if (result == -EINVAL && !zc->no_report) {
		zc->no_report = true;
		return 0;
	}
	if (result == -EOPNOTSUPP || result == -EINVAL || result == -ENOMEM)
		return channel_refuse(channel, result);
	if (result <= 0) /* a send of more than 0 bytes does not return 0 */
		return channel_fail(channel, CHANNEL_END_SOCKET, result < 0 ? result : -EIO);
	if (channel->digest)
		leaf_run_add(channel->digest, block->memory + block->done, (size_t)result);
	block->done += (uint32_t)result;
	if (block->done == block->length) {
		(void)reader_pop(&zc->reader);
		block_move(&zc->reader.pool, block, BLOCK_SENDING);
		block_move(&zc->reader.pool, block, BLOCK_PINNED);
		release_if_idle(channel, zc, block);
	}
	return result;
}

/* Delivers all that has completed. Returns bytes sent, 0, or the first error. */
static ssize_t reap_all(struct channel *channel, struct uring_zc_send *zc)
{
	struct ring_event event[EVENTS_MOST];
	size_t count = ring_reap(zc->reader.ring, event, ARRAY_LEN(event));
	ssize_t sent = 0;

	for (size_t i = 0; i < count; i++) {
		struct block *block = block_of_token(&zc->reader.pool, event[i].token);
		if (block_token_kind(event[i].token) == READER_KIND)
			reader_event(&zc->reader, channel, &event[i]);
		else if (event[i].flags & RING_NOTIFY)
			notified(channel, zc, block, &event[i]);
		else
			sent = send_done(channel, zc, block, &event[i]);
	}
	return sent;
}

/* Waits for every notification: nothing of ours is read by the kernel afterwards. */
static int wait_unpinned(struct channel *channel, struct uring_zc_send *zc)
{
	while (zc->sending || zc->pinned > 0) {
		int r = channel_ring_wait(channel, zc->reader.ring, CHANNEL_WAIT_SPACE);
		if (r < 0)
			return r;
		ssize_t sent = reap_all(channel, zc);
		CHECK(sent <= 0 || !zc->sending);
	}
	return 0;
}

static ssize_t give_up(struct channel *channel, struct uring_zc_send *zc, int error)
{
	bool refused = zc->reader.refused || strategy_refusal(error);
	int r = wait_unpinned(channel, zc);

	reader_forget(&zc->reader);
	if (r < 0)
		return r;
	if (refused)
		return channel_refuse(channel, error);
	return channel_fail(channel, CHANNEL_END_FILE, error);
}

static ssize_t uring_zc_send_step(struct channel *channel, void *state)
{
	struct uring_zc_send *zc = state;
	struct reader *reader = &zc->reader;

	if (!reader_is_at(reader, channel)) {
		int r = wait_unpinned(channel, zc);
		if (r < 0)
			return r;
		reader_forget(reader);
		reader_seek(reader, channel);
	}
	for (;;) {
		ssize_t sent = reap_all(channel, zc);
		if (sent != 0)
			return sent;
		int error = reader_front_error(reader);
		if (!error && zc->copied >= COPIED_MOST && !channel->no_fallback && !zc->sending) {
			zc->copied = 0;
			ssize_t r = give_up(channel, zc, -EOPNOTSUPP);
			return channel->refused ? channel_refuse_because(channel,
							  "the kernel copies what it sends here")
						: r;
		}
		if (error)
			return give_up(channel, zc, error);
		struct block *front = reader_front(reader);
		if (front && front->state == BLOCK_FULL && !zc->sending)
			issue(channel, zc, front);
		reader_fill(reader, channel);
		if (reader_front_error(reader))
			continue; /* it failed at once: there is nothing to wait for */
		int r = channel_ring_wait(channel, reader->ring,
			zc->sending || zc->pinned ? CHANNEL_WAIT_SPACE : CHANNEL_WAIT_DISK);
		if (r < 0)
			return r;
	}
}

static int uring_zc_send_drain(struct channel *channel, void *state)
{
	struct uring_zc_send *zc = state;
	int r = wait_unpinned(channel, zc);

	if (r == 0)
		reader_forget(&zc->reader);
	return r;
}

static void uring_zc_send_close(struct channel *channel, void *state)
{
	struct uring_zc_send *zc = state;

	(void)channel;
	/* Notifications are not waited for: a silent peer may never cause them. Pages that the
	 * kernel still reads outlive the ring and the mapping, and nobody writes to them any more.
	 */
	channel_ring_quiesce(
		zc->reader.ring, zc->sending ? block_token(zc->sending, KIND_SEND) : 0);
	reader_close(&zc->reader);
}

const struct strategy uring_zc_send = {
	.pub = {
		.name = "uring-zc",
		.summary = "io_uring: O_DIRECT reads, SEND_ZC from their registered buffers",
		.needs = "SEND_ZC; memlock; direct I/O; TCP; scatter-gather; to pay, a remote peer",
		.falls_back_to = "uring-direct",
		.since = "6.0",
		.side = ZH_SEND,
		.sees_data = 1,
		.user_copies = 0,
		.total_copies = 1,
	},
	.state_bytes = sizeof(struct uring_zc_send),
	.admit = uring_zc_send_admit,
	.open = uring_zc_send_open,
	.step = uring_zc_send_step,
	.drain = uring_zc_send_drain,
	.close = uring_zc_send_close,
};
