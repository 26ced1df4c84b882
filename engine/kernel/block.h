/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block.h - a fixed pool of buffers in flight. Every block has a state, and the legal moves are a
 * table; a completion that names a block by slot and generation is checked against it, because a
 * stale one must stop the program rather than corrupt a file.
 */
#ifndef ZH_KERNEL_BLOCK_H
#define ZH_KERNEL_BLOCK_H

#include "base/util.h"

enum block_state {
	BLOCK_FREE,
	BLOCK_READING,   /* disk -> block */
	BLOCK_FULL,      /* holds bytes nobody is moving */
	BLOCK_SENDING,   /* block -> socket, the call or operation is not done */
	BLOCK_PINNED,    /* sent, and the kernel still reads our pages */
	BLOCK_RECEIVING, /* socket -> block */
	BLOCK_WRITING,   /* block -> disk */
	BLOCK_STATE_COUNT,
};

struct block {
	uint8_t *memory;
	uint64_t offset;     /* in the file, of memory[0] */
	uint32_t length;     /* bytes that belong to the block's task */
	uint32_t done;       /* of them, finished by the step in hand */
	uint32_t got;        /* of them, there so far while it is filled */
	uint32_t pins;       /* operations after which the kernel still reads it */
	uint32_t generation; /* counts uses */
	uint16_t slot;
	uint16_t state; /* enum block_state */
};

struct block_pool {
	struct block *block;
	uint8_t *memory;
	size_t memory_bytes;
	uint32_t count;
	uint32_t block_bytes;
	uint32_t huge_pages; /* 1: the memory is on huge pages, by flag or by advice */
	uint32_t free_count;
};

/* block_bytes is a multiple of 4096. Memory is touched, so it exists before it is needed. */
int block_pool_open(struct block_pool *pool, uint32_t count, uint32_t block_bytes) must_check;
void block_pool_close(struct block_pool *pool);

/* A free block in the state asked for, or NULL when there is none. */
struct block *block_take(struct block_pool *pool, enum block_state state);
/* The legal moves are checked; FREE gives the block back and ends its generation. */
void block_move(struct block_pool *pool, struct block *block, enum block_state to);

/* A name for one operation on a block: kind (8 bits), slot (16), generation (32). */
uint64_t block_token(const struct block *block, unsigned kind);
unsigned block_token_kind(uint64_t token);
/* The block a completion belongs to; a stale generation is a bug. */
struct block *block_of_token(struct block_pool *pool, uint64_t token);

#endif
