/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.h - receives whole blocks by a ring (RECV with MSG_WAITALL, one in flight) and writes them
 * behind, several in flight: directly to the disk or through the page cache. The members of a
 * strategy whose state is a struct writer; admit and open are the strategy's own.
 */
#ifndef ZH_MOVE_WRITER_H
#define ZH_MOVE_WRITER_H

#include "kernel/block.h"
#include "move/channel.h"

struct writer {
	struct ring *ring;
	struct block_pool pool;
	uint32_t chunk_bytes;
	bool direct;         /* through the channel's O_DIRECT descriptor, in whole pages */
	uint32_t writing;    /* blocks in BLOCK_WRITING */
	uint64_t receiving;  /* token of the receive in flight, 0: none */
	struct block *block; /* being filled, NULL: none */
	int error;           /* first one of a write to the file in hand */
	int refused;         /* why the file takes no direct writes, 0: it does */
};

/* Opens ring and blocks as the channel's plan says. On failure writer_close undoes it. */
int writer_open(struct writer *writer, struct channel *channel, bool direct) must_check;
ssize_t writer_step(struct channel *channel, void *state);
int writer_drain(struct channel *channel, void *state);
void writer_close(struct channel *channel, void *state);

#endif
