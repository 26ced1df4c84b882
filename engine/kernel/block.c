/* SPDX-License-Identifier: Apache-2.0 */
/* block.c - see block.h. */
#include "kernel/block.h"

#include "base/sys.h"

#include <errno.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES (2 * MIB)
#define MAY(state)      (1u << BLOCK_##state)

static const uint8_t legal_moves[BLOCK_STATE_COUNT] = {
	[BLOCK_FREE] = MAY(READING) | MAY(RECEIVING) | MAY(FULL),
	[BLOCK_READING] = MAY(FULL) | MAY(FREE),
	[BLOCK_FULL] = MAY(SENDING) | MAY(WRITING) | MAY(FREE),
	[BLOCK_SENDING] = MAY(FULL) | MAY(PINNED) | MAY(FREE),
	[BLOCK_PINNED] = MAY(FREE),
	[BLOCK_RECEIVING] = MAY(FULL) | MAY(FREE),
	[BLOCK_WRITING] = MAY(FREE),
};

static int pool_map(struct block_pool *pool, size_t bytes)
{
	int error;

	pool->memory_bytes = round_up(bytes, HUGE_PAGE_BYTES);
	pool->memory = sys_map_memory(pool->memory_bytes, true, &error);
	pool->huge_pages = pool->memory != NULL;
	if (pool->memory)
		return 0;
	pool->memory = sys_map_memory(pool->memory_bytes, false, &error);
	if (!pool->memory)
		return error;
	pool->huge_pages = madvise(pool->memory, pool->memory_bytes, MADV_HUGEPAGE) == 0;
	return 0;
}

int block_pool_open(struct block_pool *pool, uint32_t count, uint32_t block_bytes)
{
	int r;

	CHECK(block_bytes % 4096 == 0 && count > 0 && count <= UINT16_MAX);
	memset(pool, 0, sizeof(*pool));
	r = pool_map(pool, (size_t)count * block_bytes);
	if (r < 0)
		return r;
	pool->block = calloc(count, sizeof(*pool->block));
	if (!pool->block) {
		block_pool_close(pool);
		return -ENOMEM;
	}
	memset(pool->memory, 0, (size_t)count * block_bytes);
	pool->count = pool->free_count = count;
	pool->block_bytes = block_bytes;
	for (uint32_t i = 0; i < count; i++) {
		pool->block[i].memory = pool->memory + (size_t)i * block_bytes;
		pool->block[i].slot = (uint16_t)i;
	}
	return 0;
}

void block_pool_close(struct block_pool *pool)
{
	free(pool->block);
	sys_unmap_memory(pool->memory, pool->memory_bytes);
	memset(pool, 0, sizeof(*pool));
}

struct block *block_take(struct block_pool *pool, enum block_state state)
{
	for (uint32_t i = 0; i < pool->count; i++) {
		struct block *block = &pool->block[i];
		if (block->state != BLOCK_FREE)
			continue;
		block->length = block->done = block->got = block->pins = 0;
		block_move(pool, block, state);
		return block;
	}
	return NULL;
}

void block_move(struct block_pool *pool, struct block *block, enum block_state to)
{
	CHECK(legal_moves[block->state] & 1u << to);
	if (block->state == BLOCK_FREE)
		pool->free_count--;
	if (to == BLOCK_FREE) {
		pool->free_count++;
		block->generation++;
	}
	block->state = (uint16_t)to;
}

uint64_t block_token(const struct block *block, unsigned kind)
{
	return (uint64_t)kind << 48 | (uint64_t)block->slot << 32 | block->generation;
}

unsigned block_token_kind(uint64_t token)
{
	return (unsigned)(token >> 48);
}

struct block *block_of_token(struct block_pool *pool, uint64_t token)
{
	uint32_t slot = (uint32_t)(token >> 32) & UINT16_MAX;

	CHECK(slot < pool->count && pool->block[slot].generation == (uint32_t)token);
	return &pool->block[slot];
}
