/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct_recv.c - recv(2) into aligned blocks, and a second thread that writes them with O_DIRECT,
 * so that receiving and writing overlap where io_uring is refused. A pwrite(2) that bypasses the
 * page cache returns when the disk has taken it: made by the thread that receives, it would leave
 * the socket alone for as long.
 *
 * The channel stays with its own thread. The second one, the writer, is given a block and two
 * descriptors under the lock below, and gives back an errno: it knows neither channel nor socket.
 * A block in BLOCK_RECEIVING is the channel's thread's, one in BLOCK_WRITING the writer's. The part
 * below a page goes through the page cache by the writer too; no page is ever written both ways.
 */
#include "kernel/block.h"
#include "move/channel.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (4 * MIB)
#define DEPTH_PREFERRED 8
#define DEPTH_MOST      16
#define PAGE_BYTES      STRATEGY_PAGE_BYTES

struct direct {
	struct block *block; /* being filled, NULL: none; the channel's thread alone knows it */
	pthread_t writer;
	bool has_writer;

	pthread_mutex_t lock;  /* guards all that follows */
	pthread_cond_t filled; /* wakes the writer: a block, or the end */
	pthread_cond_t freed;  /* wakes the channel's thread: a block has been dealt with */
	bool ending;
	struct block_pool pool;
	struct block *queue[DEPTH_MOST]; /* for the writer, the oldest at first */
	uint32_t first;
	uint32_t queued;
	uint32_t pending;           /* the queued, and the one that is being written */
	int file;                   /* where pending blocks go, borrowed from the channel */
	int direct;                 /* the same with O_DIRECT */
	int error;                  /* first one of a write to the file in hand */
	int refused;                /* why the file takes no direct writes, 0: it does */
	uint64_t shorts;            /* of the writer, not on the channel's account yet */
	struct channel_spent spent; /* the same */
};

static int direct_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (strategy_needs_direct(facts, ret_reason, cap) < 0)
		return -1;
	if (facts->extent.offset % PAGE_BYTES != 0)
		return strategy_refuse(ret_reason, cap, "the extent does not start on a page");
	strategy_blocks(facts, plan, CHUNK_PREFERRED, CHUNK_MOST, DEPTH_PREFERRED, DEPTH_MOST);
	plan->chunk_bytes = (uint32_t)round_up(plan->chunk_bytes, PAGE_BYTES);
	return 0;
}

/* ------------------------------------------------------------------ the writer -----------------
 */

/* What became of one block. */
struct written {
	int error;
	int refused;
	uint64_t shorts;
};

/* direct -1: all of it goes through the page cache. */
static struct written write_block(int file, int direct, const struct block *block)
{
	uint32_t pages = direct < 0 ? 0 : (uint32_t)round_down(block->length, PAGE_BYTES);
	struct written written = { 0 };
	uint32_t done = 0;

	while (done < block->length) {
		/* After a refusal, or a short write that ends inside a page, the rest is not ours
		 * to write directly. */
		bool directly = done < pages && done % PAGE_BYTES == 0 && !written.refused;
		uint32_t want = (directly ? pages : block->length) - done;
		ssize_t r = sys_pwrite(
			directly ? direct : file, block->memory + done, want, block->offset + done);
		if (directly && (r == -EINVAL || r == -EOPNOTSUPP)) {
			written.refused = (int)r; /* it opens with O_DIRECT and then will not */
			continue;
		}
		if (r <= 0) { /* 0 for a non-zero length never happens on a regular file */
			written.error = r < 0 ? (int)r : -EIO;
			break;
		}
		written.shorts += (uint32_t)r < want;
		done += (uint32_t)r;
	}
	return written;
}

/* The oldest block and how it is to be written. Locked, and there is one. */
static struct written write_next(struct direct *direct)
{
	struct block *block = direct->queue[direct->first];
	int file = direct->file;
	int fd = direct->refused ? -1 : direct->direct;
	bool failed = direct->error != 0; /* then it only has to get out of the way */
	struct written written = { 0 };

	direct->first = (direct->first + 1) % DEPTH_MOST;
	direct->queued--;
	block_move(&direct->pool, block, BLOCK_WRITING);
	(void)pthread_mutex_unlock(&direct->lock);
	if (!failed)
		written = write_block(file, fd, block);
	(void)pthread_mutex_lock(&direct->lock);
	block_move(&direct->pool, block, BLOCK_FREE);
	return written;
}

static void *writer_main(void *argument)
{
	struct direct *direct = argument;

	(void)pthread_mutex_lock(&direct->lock);
	for (;;) {
		while (direct->queued == 0 && !direct->ending)
			(void)pthread_cond_wait(&direct->filled, &direct->lock);
		if (direct->queued == 0)
			break;
		struct written written = write_next(direct);
		if (direct->error == 0)
			direct->error = written.error;
		if (direct->refused == 0)
			direct->refused = written.refused;
		direct->shorts += written.shorts;
		direct->pending--;
		channel_note_thread(&direct->spent);
		(void)pthread_cond_signal(&direct->freed);
	}
	(void)pthread_mutex_unlock(&direct->lock);
	return NULL;
}

/* The program's signals are for the program's threads. */
static int start_writer(struct direct *direct)
{
	sigset_t all, before;
	int r;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&direct->writer, NULL, writer_main, direct);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	direct->has_writer = r == 0;
	return r == EAGAIN ? -ENOMEM : -r; /* no more threads: another strategy does without */
}

/* ------------------------------------------------------------------ the channel's thread -------
 */

static int direct_open(struct channel *channel, void *state)
{
	struct direct *direct = state;
	int r;

	(void)pthread_mutex_init(&direct->lock, NULL);
	(void)pthread_cond_init(&direct->filled, NULL);
	(void)pthread_cond_init(&direct->freed, NULL);
	CHECK(channel->depth <= DEPTH_MOST);
	r = block_pool_open(&direct->pool, channel->depth,
		(uint32_t)round_up(channel->chunk_bytes, PAGE_BYTES));
	if (r < 0)
		return r;
	channel->stats.huge_pages = direct->pool.huge_pages;
	channel->stats.depth = direct->pool.count;
	return start_writer(direct);
}

/* Gives back a block that will not become whole. Locked. */
static void drop_block(struct direct *direct)
{
	if (direct->block)
		block_move(&direct->pool, direct->block, BLOCK_FREE);
	direct->block = NULL;
}

static void settle_account(struct channel *channel, struct direct *direct)
{
	channel_account_thread(channel, &direct->spent);
	channel->stats.shorts += direct->shorts;
	direct->shorts = 0;
}

/* Waits until everything handed over is in the file, and tells what became of it. Locked. */
static int finish_writes(struct channel *channel, struct direct *direct)
{
	int error, refused;

	while (direct->pending > 0)
		(void)pthread_cond_wait(&direct->freed, &direct->lock);
	settle_account(channel, direct);
	error = direct->error;
	refused = direct->refused;
	direct->error = direct->refused = 0;
	if (error) {
		drop_block(direct);
		return (int)channel_fail(channel, CHANNEL_END_FILE, error);
	}
	return refused ? (int)channel_refuse(channel, refused) : 0;
}

/* A block for what comes next. Locked; may wait for the disk to give one back. */
static int take_block(struct channel *channel, struct direct *direct)
{
	int fd = channel_direct(channel);

	if (fd < 0 || channel->offset % PAGE_BYTES != 0) {
		int r = finish_writes(channel, direct);
		if (r < 0)
			return r;
		return (int)(fd < 0 ? channel_refuse(channel, fd)
				    : channel_refuse_because(
					      channel, "an extent does not start on a page"));
	}
	while (!direct->error && !direct->refused) {
		direct->block = block_take(&direct->pool, BLOCK_RECEIVING);
		if (direct->block)
			break;
		(void)pthread_cond_wait(&direct->freed, &direct->lock);
	}
	if (!direct->block)
		return finish_writes(channel, direct);
	direct->block->offset = channel->offset;
	direct->block->length =
		(uint32_t)min_u64(direct->pool.block_bytes, channel->end - channel->offset);
	return 0;
}

/* A refusal waits for a block that is begun: what is in it is off the socket. An error does not. */
static int prepare(struct channel *channel, struct direct *direct)
{
	int r = 0;

	(void)pthread_mutex_lock(&direct->lock);
	settle_account(channel, direct);
	if (direct->error || (direct->refused && !direct->block))
		r = finish_writes(channel, direct);
	else if (!direct->block)
		r = take_block(channel, direct);
	(void)pthread_mutex_unlock(&direct->lock);
	return r;
}

static void hand_over(struct channel *channel, struct direct *direct)
{
	(void)pthread_mutex_lock(&direct->lock);
	block_move(&direct->pool, direct->block, BLOCK_FULL);
	direct->queue[(direct->first + direct->queued) % DEPTH_MOST] = direct->block;
	direct->queued++;
	direct->pending++;
	direct->file = channel->file;
	direct->direct = channel->direct;
	direct->block = NULL;
	(void)pthread_cond_signal(&direct->filled);
	(void)pthread_mutex_unlock(&direct->lock);
}

static ssize_t direct_step(struct channel *channel, void *state)
{
	struct direct *direct = state;
	int r = prepare(channel, direct);

	if (r < 0)
		return r;
	struct block *block = direct->block;
	uint32_t want = block->length - block->got;
	ssize_t received = channel_recv(channel, block->memory + block->got, want, 0);
	if (received < 0 && received != -EAGAIN) {
		(void)pthread_mutex_lock(&direct->lock);
		drop_block(direct);
		(void)pthread_mutex_unlock(&direct->lock);
	}
	if (received < 0)
		return received;
	if (channel->digest)
		leaf_run_add(channel->digest, block->memory + block->got, (size_t)received);
	block->got += (uint32_t)received;
	if (block->got == block->length)
		hand_over(channel, direct);
	return received;
}

static int direct_drain(struct channel *channel, void *state)
{
	struct direct *direct = state;
	int r;

	(void)pthread_mutex_lock(&direct->lock);
	bool left_over = direct->block != NULL; /* from an error of the connection */
	drop_block(direct);
	r = finish_writes(channel, direct);
	(void)pthread_mutex_unlock(&direct->lock);
	if (r == 0 && left_over)
		r = (int)channel_fail(channel, CHANNEL_END_SOCKET, -ECONNABORTED);
	return r;
}

static void direct_close(struct channel *channel, void *state)
{
	struct direct *direct = state;

	(void)channel;
	if (direct->has_writer) {
		(void)pthread_mutex_lock(&direct->lock);
		direct->ending = true;
		(void)pthread_cond_signal(&direct->filled);
		(void)pthread_mutex_unlock(&direct->lock);
		(void)pthread_join(direct->writer, NULL);
	}
	block_pool_close(&direct->pool);
	(void)pthread_cond_destroy(&direct->freed);
	(void)pthread_cond_destroy(&direct->filled);
	(void)pthread_mutex_destroy(&direct->lock);
}

const struct strategy direct_recv = {
	.pub = {
		.name = "direct",
		.summary = "recv into aligned blocks, a second thread writes them with O_DIRECT",
		.needs = "a file system with direct I/O; space allocated beforehand",
		.falls_back_to = "splice",
		.since = "2.4.10",
		.side = ZH_RECEIVE,
		.sees_data = 1,
		.user_copies = 1,
		.total_copies = 1,
	},
	.state_bytes = sizeof(struct direct),
	.admit = direct_admit,
	.open = direct_open,
	.step = direct_step,
	.drain = direct_drain,
	.close = direct_close,
};
