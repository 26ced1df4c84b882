/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msg_zerocopy_send.c - send(2) with MSG_ZEROCOPY from buffers that pread(2) has filled; for
 * kernels or containers without io_uring. Each call that succeeds has a number; the socket's error
 * queue tells, in ranges of numbers, which buffers the kernel no longer reads, and whether it has
 * copied after all.
 *
 * Numbers count from the socket's first such call, which may have been made by somebody before us:
 * the notice of our first call, which is waited for alone, says where we begin.
 */
#include "kernel/block.h"
#include "move/channel.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (4 * MIB)
#define DEPTH_PREFERRED 8
#define DEPTH_MOST      32
#define COPIED_MOST     4   /* calls that were copied before it is believed */
#define NUMBERS_KEPT    256 /* calls in flight at most; a power of two */

struct msg_zerocopy {
	struct block_pool pool;
	struct block *block; /* being sent, NULL: none */
	struct block *of_number[NUMBERS_KEPT];
	uint32_t length_of_number[NUMBERS_KEPT];
	uint32_t first; /* the socket's number of our first call, once numbered */
	uint32_t next;  /* our number of the next call */
	bool numbered;
	uint32_t in_flight;
	uint32_t copied;
	int old_option;
	bool opened;
};

static int msg_zerocopy_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (strategy_needs_pages_in_place(facts, ret_reason, cap) < 0)
		return -1;
	strategy_locked_blocks(
		facts, plan, CHUNK_PREFERRED, CHUNK_MOST, DEPTH_PREFERRED, DEPTH_MOST);
	return 0;
}

static int msg_zerocopy_open(struct channel *channel, void *state)
{
	struct msg_zerocopy *zc = state;
	socklen_t length = sizeof(zc->old_option);
	int on = 1;
	int r = sys_getsockopt(channel->sock, SOL_SOCKET, SO_ZEROCOPY, &zc->old_option, &length);

	if (r == 0)
		r = sys_setsockopt(channel->sock, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on));
	if (r < 0)
		return r == -ENOPROTOOPT ? -EOPNOTSUPP : r;
	zc->opened = true;
	channel->stats.depth = channel->depth;
	return block_pool_open(
		&zc->pool, channel->depth, (uint32_t)round_up(channel->chunk_bytes, 4096));
}

/* A range of calls is over: their blocks are no longer read. */
static void numbers_done(
	struct channel *channel, struct msg_zerocopy *zc, const struct sock_extended_err *told)
{
	if (!zc->numbered)
		zc->first = told->ee_info;
	zc->numbered = true;
	for (uint32_t i = 0; i <= told->ee_data - told->ee_info; i++) {
		uint32_t number = told->ee_info - zc->first + i;
		struct block *block = zc->of_number[number % NUMBERS_KEPT];
		if (!block)
			continue; /* of a call that was made before us */
		CHECK(block->pins > 0);
		zc->of_number[number % NUMBERS_KEPT] = NULL;
		zc->in_flight--;
		if (told->ee_code & SO_EE_CODE_ZEROCOPY_COPIED) {
			zc->copied++;
			channel->stats.zc_copied_bytes +=
				zc->length_of_number[number % NUMBERS_KEPT];
		}
		if (--block->pins == 0 && block->state == BLOCK_PINNED)
			block_move(&zc->pool, block, BLOCK_FREE);
	}
}

/* Reads the error queue until it is empty. 0 or an error of the socket. */
static int read_notices(struct channel *channel, struct msg_zerocopy *zc)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(
			sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in6))];
	} control;

	for (;;) {
		struct msghdr message = {
			.msg_control = control.bytes,
			.msg_controllen = sizeof(control.bytes),
		};
		ssize_t r = sys_recvmsg(channel->sock, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
		if (r < 0)
			return r == -EAGAIN ? 0 : (int)r;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
			struct sock_extended_err told;
			memcpy(&told, CMSG_DATA(c), sizeof(told));
			if (told.ee_origin == SO_EE_ORIGIN_ZEROCOPY)
				numbers_done(channel, zc, &told);
		}
	}
}

/* Waits until some notice is there: a socket with one is ready with POLLERR whatever is asked. */
static int wait_notices(struct channel *channel, struct msg_zerocopy *zc)
{
	int r = channel_wait_events(channel, 0, CHANNEL_WAIT_SPACE);

	return r < 0 ? r : read_notices(channel, zc);
}

/* Fills the next block from the file. */
static int fill_block(struct channel *channel, struct msg_zerocopy *zc)
{
	size_t want = min_u64(channel->chunk_bytes, channel->end - channel->offset);
	ssize_t r;

	while (!(zc->block = block_take(&zc->pool, BLOCK_READING))) {
		r = wait_notices(channel, zc);
		if (r < 0)
			return (int)channel_fail(channel, CHANNEL_END_SOCKET, r);
	}
	r = sys_pread(channel->file, zc->block->memory, want, channel->offset);
	if (r <= 0) { /* 0: the file has become shorter */
		block_move(&zc->pool, zc->block, BLOCK_FREE);
		zc->block = NULL;
		return (int)channel_fail(channel, CHANNEL_END_FILE, r < 0 ? r : -ENODATA);
	}
	channel->stats.shorts += (size_t)r < want;
	zc->block->length = (uint32_t)r;
	block_move(&zc->pool, zc->block, BLOCK_FULL);
	block_move(&zc->pool, zc->block, BLOCK_SENDING);
	return 0;
}

static int wait_all(struct channel *channel, struct msg_zerocopy *zc)
{
	int r = read_notices(channel, zc);

	while (r == 0 && zc->in_flight > 0)
		r = wait_notices(channel, zc);
	if (zc->block && zc->block->pins == 0) {
		block_move(&zc->pool, zc->block, BLOCK_FREE);
		zc->block = NULL;
	}
	return r;
}

/* Sends from the block in hand. */
static ssize_t send_block(struct channel *channel, struct msg_zerocopy *zc)
{
	struct block *block = zc->block;
	bool room = zc->in_flight < NUMBERS_KEPT - 1;
	ssize_t r = sys_send(channel->sock, block->memory + block->done,
		block->length - block->done, room ? MSG_ZEROCOPY : 0);

	if (r == -ENOBUFS) { /* notices or locked memory are used up: this call is copied */
		room = false;
		r = sys_send(
			channel->sock, block->memory + block->done, block->length - block->done, 0);
	}
	if (r < 0)
		return r == -EAGAIN ? r : channel_fail(channel, CHANNEL_END_SOCKET, r);
	if (room) {
		zc->of_number[zc->next % NUMBERS_KEPT] = block;
		zc->length_of_number[zc->next % NUMBERS_KEPT] = (uint32_t)r;
		zc->next++;
		zc->in_flight++;
		block->pins++;
	} else {
		channel->stats.zc_copied_bytes += (uint64_t)r;
	}
	if (channel->digest)
		leaf_run_add(channel->digest, block->memory + block->done, (size_t)r);
	block->done += (uint32_t)r;
	if (block->done == block->length) {
		block_move(&zc->pool, block, BLOCK_PINNED);
		if (block->pins == 0)
			block_move(&zc->pool, block, BLOCK_FREE);
		zc->block = NULL;
	}
	return r;
}

static ssize_t msg_zerocopy_step(struct channel *channel, void *state)
{
	struct msg_zerocopy *zc = state;
	int r = read_notices(channel, zc);

	while (r == 0 && !zc->numbered && zc->in_flight > 0)
		r = wait_notices(channel, zc);
	if (r < 0)
		return channel_fail(channel, CHANNEL_END_SOCKET, r);
	if (zc->copied >= COPIED_MOST && !channel->no_fallback) {
		r = wait_all(channel, zc);
		zc->copied = 0;
		return r < 0 ? channel_fail(channel, CHANNEL_END_SOCKET, r)
			     : channel_refuse_because(
				       channel, "the kernel copies what it sends here");
	}
	if (!zc->block) {
		r = fill_block(channel, zc);
		if (r < 0)
			return r;
	}
	return send_block(channel, zc);
}

static int msg_zerocopy_drain(struct channel *channel, void *state)
{
	int r = wait_all(channel, state);

	return r < 0 ? (int)channel_fail(channel, CHANNEL_END_SOCKET, r) : 0;
}

static void msg_zerocopy_close(struct channel *channel, void *state)
{
	struct msg_zerocopy *zc = state;

	if (!zc->opened)
		return;
	/* Pages the kernel still reads keep existing after they are unmapped; only their content is
	 * nobody's any more, and the connection is over then. */
	IGNORE(read_notices(channel, zc));
	IGNORE(sys_setsockopt(
		channel->sock, SOL_SOCKET, SO_ZEROCOPY, &zc->old_option, sizeof(zc->old_option)));
	block_pool_close(&zc->pool);
}

const struct strategy msg_zerocopy_send = {
	.pub = {
		.name = "msg-zerocopy",
		.summary = "pread into a buffer, send it with MSG_ZEROCOPY",
		.needs = "TCP; a device with scatter-gather; locked memory; to pay, a remote peer",
		.falls_back_to = "copy",
		.since = "4.14",
		.side = ZH_SEND,
		.sees_data = 1,
		.user_copies = 1,
		.total_copies = 2,
	},
	.state_bytes = sizeof(struct msg_zerocopy),
	.admit = msg_zerocopy_admit,
	.open = msg_zerocopy_open,
	.step = msg_zerocopy_step,
	.drain = msg_zerocopy_drain,
	.close = msg_zerocopy_close,
};
