/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strategy.h - the contract of a way of moving bytes, and the one table of all of them.
 *
 * A strategy serves one direction. It is driven by a channel: open once, step until the extent in
 * hand is done, drain when everything must have reached the other end of the kernel, close. Members
 * are all set. To add one: write a file in strategies/, add its line to strategy.c and meson.build.
 */
#ifndef ZH_MOVE_STRATEGY_H
#define ZH_MOVE_STRATEGY_H

#include "kernel/facts.h"
#include "zerohaul.h"

#include <sys/types.h>

struct channel;

struct strategy {
	struct zh_strategy pub;
	size_t state_bytes; /* zeroed before open; never 0 */

	/*
	 * Sends pages in place. The kernel cuts what such a call sends into segments of its own,
	 * half of them nearly empty, unless the socket is corked while an extent moves.
	 */
	bool corks;

	/*
	 * Can it be used with these facts? Pure. 0: yes, and chunk_bytes, depth and pipe_bytes of
	 * the plan are set to what it would use; -1: no, and ret_reason says why. With 0 ret_reason
	 * may say why it does not pay all the same: then no rule may take it, only a wish.
	 */
	int (*admit)(const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap);

	/* Acquires what it needs. On failure close is called and must cope with a half-built state.
	 */
	int (*open)(struct channel *channel, void *state);

	/*
	 * Moves some bytes of the extent in hand: > 0 how many, -EAGAIN the socket has to be waited
	 * for, other negative errno: failed, and channel->failed says at which end. Never 0. By
	 * channel_refuse() it says that [extent start, offset) has left for the other end exactly
	 * once and nothing beyond has, so that another strategy can go on at offset. A receiver
	 * that fails at the file's end moves offset past what it took off the socket. May wait for
	 * a ring, never for a socket.
	 */
	ssize_t (*step)(struct channel *channel, void *state);

	/* Waits until the kernel holds nothing of ours and no pipe holds a byte. Reports late
	 * errors, and by channel_refuse() a refusal that no step was left for. */
	int (*drain)(struct channel *channel, void *state);

	/* Undoes open, however far it got. No operation of ours is under way afterwards; pages of
	 * zero-copy sends may still be read, and nobody writes to them any more. */
	void (*close)(struct channel *channel, void *state);
};

#define STRATEGY_MAX 24

extern const struct strategy copy_send, sendfile_send, splice_send, uring_copy_send,
	uring_direct_send, uring_zc_send, sendfile_ahead_send, mmap_send, msg_zerocopy_send,
	uring_splice_send;
extern const struct strategy copy_recv, splice_recv, uring_copy_recv, uring_direct_recv,
	dontcache_recv, mmap_recv, direct_recv, zerocopy_recv, discard_recv;

const struct strategy *strategy_at(size_t index);
/* By name and side; NULL: there is none. */
const struct strategy *strategy_find(enum zh_side side, const char *name);
size_t strategy_index(const struct strategy *strategy);

/* For strategies that keep nothing: open and drain that succeed, close that does nothing. */
int strategy_open_nothing(struct channel *channel, void *state);
int strategy_drain_nothing(struct channel *channel, void *state);
void strategy_close_nothing(struct channel *channel, void *state);

/* True for an errno by which a kernel says that it will not do this at all here. */
bool strategy_refusal(int error);

/* For admit: writes the reason and returns -1. */
int strategy_refuse(char *ret_reason, size_t cap, const char *format, ...) printf_like(3, 4);
/* The wish if there is one, else the value that the strategy likes best. */
uint32_t strategy_chunk(const struct facts *facts, uint32_t preferred_bytes, uint32_t most_bytes);
uint32_t strategy_depth(const struct facts *facts, uint32_t preferred, uint32_t most);
/* Reasons shared by several: no io_uring, or its buffers cannot be registered. 0: fine. */
int strategy_needs_ring(const struct facts *facts, char *ret_reason, size_t cap);
#define STRATEGY_PAGE_BYTES 4096u
/* Direct I/O at page alignment, from a disk, on a regular file that is not append-only. */
int strategy_needs_direct(const struct facts *facts, char *ret_reason, size_t cap);
/* Sets chunk_bytes and depth, so that the blocks together stay within STRATEGY_POOL_BYTES. */
#define STRATEGY_POOL_BYTES (32 * MIB)
void strategy_blocks(const struct facts *facts, struct zh_plan *plan, uint32_t chunk_preferred,
	uint32_t chunk_most, uint32_t depth_preferred, uint32_t depth_most);
/*
 * The same for blocks that the kernel locks, so that they stay within half of what this user may
 * lock: the other end of the transfer may be this user's too, and the first one must not have all.
 */
void strategy_locked_blocks(const struct facts *facts, struct zh_plan *plan,
	uint32_t chunk_preferred, uint32_t chunk_most, uint32_t depth_preferred,
	uint32_t depth_most);
/* The admit of what calls sendfile(2). */
int strategy_admit_sendfile(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap);
/*
 * For admit, asked last: a socket whose device sends pages in place. A peer on this host is no
 * refusal, so that what the copy costs can be measured; the reason says that there will be one.
 */
int strategy_needs_pages_in_place(const struct facts *facts, char *ret_reason, size_t cap);
/* The admit of what moves by a pipe, a pipe's content at a time. */
int strategy_admit_pipe(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap);

#endif
