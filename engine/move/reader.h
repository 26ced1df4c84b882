/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.h - reads a file ahead of a sender into the blocks of a ring: a queue in file order,
 * filled from the back by reads in flight and emptied from the front by whoever sends. Reading may
 * pass the end of the extent in hand, up to the channel's horizon; what is read is kept for the
 * next extent if that begins where this one ends. How the bytes leave is the strategy's.
 */
#ifndef ZH_MOVE_READER_H
#define ZH_MOVE_READER_H

#include "kernel/block.h"
#include "move/channel.h"

#define READER_DEPTH_MOST 64

struct reader {
	struct ring *ring;
	struct block_pool pool;
	struct block *queue[READER_DEPTH_MOST]; /* from head, in file order */
	uint32_t head;
	uint32_t count;
	uint32_t chunk_bytes; /* of each block */
	bool direct;          /* through the channel's O_DIRECT descriptor, in whole pages */
	int file;             /* that the queue belongs to, -1: none */
	uint64_t next_read;
	int error; /* of the block at error_offset; nothing beyond it is read */
	uint64_t error_offset;
	bool refused; /* the error is that the file will not be read directly */
};

/* The kind of token of its reads; a strategy's own kinds begin above it. */
enum { READER_KIND = 1 };

/* Opens ring and blocks as the channel's plan says. On failure reader_close undoes it. */
int reader_open(struct reader *reader, struct channel *channel, bool direct) must_check;
/* Nothing of the strategy's own may be in flight; reads are waited for. A zeroed reader is fine. */
void reader_close(struct reader *reader);
/* Forgets what was read ahead. The same holds. */
void reader_forget(struct reader *reader);

/* Whether what was read ahead goes on at the channel's offset; else it is forgotten, and seek
 * begins there. */
bool reader_is_at(const struct reader *reader, const struct channel *channel);
void reader_seek(struct reader *reader, const struct channel *channel);

/* Queues as many reads as there are free blocks. */
void reader_fill(struct reader *reader, struct channel *channel);
/* Takes the completion of a read. */
void reader_event(struct reader *reader, struct channel *channel, const struct ring_event *event);

/*
 * The block at the front, whose first unsent byte is the channel's offset: state FULL when it may
 * be sent, with done bytes of length gone already. NULL: none is being read.
 */
struct block *reader_front(const struct reader *reader);
/* The error that the front has met, 0: none. Direct I/O that is refused is -EINVAL or -EOPNOTSUPP.
 */
int reader_front_error(const struct reader *reader);
/* Takes the front out of the queue, sent or not; it is the caller's then. */
struct block *reader_pop(struct reader *reader);

#endif
