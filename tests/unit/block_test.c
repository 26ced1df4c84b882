/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_test.c - the pool of blocks: each legal move against a list written out independently, each
 * illegal one in a child that it must stop, and names of operations that go stale.
 */
#include "unit.h"

#include "kernel/block.h"

#include <errno.h>

#define BLOCKS      4
#define BLOCK_BYTES 8192

static const struct {
	enum block_state from, to;
} legal[] = {
	{ BLOCK_FREE, BLOCK_READING },
	{ BLOCK_FREE, BLOCK_RECEIVING },
	{ BLOCK_FREE, BLOCK_FULL },
	{ BLOCK_READING, BLOCK_FULL },
	{ BLOCK_READING, BLOCK_FREE },
	{ BLOCK_RECEIVING, BLOCK_FULL },
	{ BLOCK_RECEIVING, BLOCK_FREE },
	{ BLOCK_FULL, BLOCK_SENDING },
	{ BLOCK_FULL, BLOCK_WRITING },
	{ BLOCK_FULL, BLOCK_FREE },
	{ BLOCK_SENDING, BLOCK_FULL },
	{ BLOCK_SENDING, BLOCK_PINNED },
	{ BLOCK_SENDING, BLOCK_FREE },
	{ BLOCK_PINNED, BLOCK_FREE },
	{ BLOCK_WRITING, BLOCK_FREE },
};

static bool is_legal(enum block_state from, enum block_state to)
{
	for (size_t i = 0; i < ARRAY_LEN(legal); i++)
		if (legal[i].from == from && legal[i].to == to)
			return true;
	return false;
}

static struct block_pool open_pool(void)
{
	struct block_pool pool;

	assert_int_equal(block_pool_open(&pool, BLOCKS, BLOCK_BYTES), 0);
	return pool;
}

/* A block in the state asked for, by legal moves. */
static struct block *bring_to(struct block_pool *pool, enum block_state state)
{
	struct block *block = block_take(pool, BLOCK_FULL);

	CHECK(block);
	switch (state) {
	case BLOCK_FULL:
		return block;
	case BLOCK_SENDING:
	case BLOCK_WRITING:
		block_move(pool, block, state);
		return block;
	case BLOCK_PINNED:
		block_move(pool, block, BLOCK_SENDING);
		block_move(pool, block, BLOCK_PINNED);
		return block;
	default:
		block_move(pool, block, BLOCK_FREE);
		return state == BLOCK_FREE ? block : block_take(pool, state);
	}
}

static void every_legal_move_is_made(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(legal); i++) {
		struct block_pool pool = open_pool();
		struct block *block = bring_to(&pool, legal[i].from);
		assert_int_equal(block->state, legal[i].from);
		block_move(&pool, block, legal[i].to);
		assert_int_equal(block->state, legal[i].to);
		assert_int_equal(pool.free_count, legal[i].to == BLOCK_FREE ? BLOCKS : BLOCKS - 1);
		block_pool_close(&pool);
	}
}

static enum block_state from_now, to_now;

static void move_now(void)
{
	struct block_pool pool;

	if (block_pool_open(&pool, BLOCKS, BLOCK_BYTES) < 0)
		return;
	struct block *block = bring_to(&pool, from_now);
	block_move(&pool, block, to_now);
}

static void every_other_move_stops_the_program(void **state)
{
	size_t tried = 0;

	(void)state;
	for (int from = 0; from < BLOCK_STATE_COUNT; from++)
		for (int to = 0; to < BLOCK_STATE_COUNT; to++) {
			from_now = (enum block_state)from;
			to_now = (enum block_state)to;
			if (is_legal(from_now, to_now))
				continue;
			assert_stops_the_program(move_now);
			tried++;
		}
	assert_int_equal(tried, BLOCK_STATE_COUNT * BLOCK_STATE_COUNT - ARRAY_LEN(legal));
}

static void blocks_are_aligned_zeroed_and_apart(void **state)
{
	struct block_pool pool = open_pool();
	static const uint8_t zeros[BLOCK_BYTES];

	(void)state;
	assert_int_equal(pool.count, BLOCKS);
	assert_int_equal(pool.block_bytes, BLOCK_BYTES);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		assert_int_equal((uintptr_t)pool.block[i].memory % 4096, 0);
		assert_int_equal(pool.block[i].slot, i);
		assert_ptr_equal(pool.block[i].memory, pool.memory + i * BLOCK_BYTES);
		assert_memory_equal(pool.block[i].memory, zeros, BLOCK_BYTES);
		memset(pool.block[i].memory, (int)i, BLOCK_BYTES);
	}
	for (uint32_t i = 0; i < BLOCKS; i++) {
		assert_int_equal(pool.block[i].memory[0], i);
		assert_int_equal(pool.block[i].memory[BLOCK_BYTES - 1], i);
	}
	block_pool_close(&pool);
}

static void a_pool_gives_what_it_has_and_takes_it_back(void **state)
{
	struct block_pool pool = open_pool();
	struct block *taken[BLOCKS];

	(void)state;
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < BLOCKS; i++) {
			taken[i] = block_take(&pool, BLOCK_READING);
			assert_non_null(taken[i]);
			assert_int_equal(pool.free_count, BLOCKS - 1 - i);
			assert_int_equal(taken[i]->length + taken[i]->done, 0);
			assert_int_equal(taken[i]->generation, round);
			for (uint32_t j = 0; j < i; j++)
				assert_ptr_not_equal(taken[i], taken[j]);
			taken[i]->length = taken[i]->done = 7;
		}
		assert_null(block_take(&pool, BLOCK_READING));
		for (uint32_t i = 0; i < BLOCKS; i++)
			block_move(&pool, taken[i], BLOCK_FREE);
		assert_int_equal(pool.free_count, BLOCKS);
	}
	block_pool_close(&pool);
}

static void a_token_names_its_block_and_kind(void **state)
{
	static const unsigned kinds[] = { 0, 1, 2, 0xff };
	struct block_pool pool = open_pool();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct block *block = block_take(&pool, BLOCK_RECEIVING);
		uint64_t token = block_token(block, kinds[i]);
		assert_int_equal(block_token_kind(token), kinds[i]);
		assert_ptr_equal(block_of_token(&pool, token), block);
		assert_int_equal(token >> 56, 0); /* a kind has eight bits */
	}
	block_pool_close(&pool);
}

static uint64_t (*spoil)(uint64_t token);

static void use_spoilt_token(void)
{
	struct block_pool pool;

	if (block_pool_open(&pool, BLOCKS, BLOCK_BYTES) < 0)
		return;
	struct block *block = block_take(&pool, BLOCK_READING);
	uint64_t token = block_token(block, 1);
	block_move(&pool, block, BLOCK_FREE);
	block = block_take(&pool, BLOCK_READING);
	(void)block_of_token(&pool, spoil(block ? token : 0));
}

static uint64_t leave_stale(uint64_t token)
{
	return token;
}

static uint64_t name_no_slot(uint64_t token)
{
	return (token & ~((uint64_t)UINT16_MAX << 32)) | (uint64_t)BLOCKS << 32;
}

static uint64_t name_the_future(uint64_t token)
{
	return token + 2;
}

static void a_stale_or_wrong_token_stops_the_program(void **state)
{
	static uint64_t (*const ways[])(uint64_t) = { leave_stale, name_no_slot, name_the_future };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		spoil = ways[i];
		assert_stops_the_program(use_spoilt_token);
	}
}

static void open_unaligned(void)
{
	struct block_pool pool;
	int r = block_pool_open(&pool, 1, 4095);
	(void)r;
}

static void open_empty(void)
{
	struct block_pool pool;
	int r = block_pool_open(&pool, 0, 4096);
	(void)r;
}

static void a_pool_that_makes_no_sense_stops_the_program(void **state)
{
	(void)state;
	assert_stops_the_program(open_unaligned);
	assert_stops_the_program(open_empty);
}

static void a_pool_too_large_is_no_memory_and_closes(void **state)
{
	int expected = getenv("ZH_VALGRIND") ? -EINVAL : -ENOMEM; /* valgrind's mmap */
	struct block_pool pool;

	(void)state;
	assert_int_equal(block_pool_open(&pool, 60000, UINT32_MAX & ~4095u), expected);
	block_pool_close(&pool);
	block_pool_close(&pool); /* a zeroed one is fine */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_legal_move_is_made),
		cmocka_unit_test(every_other_move_stops_the_program),
		cmocka_unit_test(blocks_are_aligned_zeroed_and_apart),
		cmocka_unit_test(a_pool_gives_what_it_has_and_takes_it_back),
		cmocka_unit_test(a_token_names_its_block_and_kind),
		cmocka_unit_test(a_stale_or_wrong_token_stops_the_program),
		cmocka_unit_test(a_pool_that_makes_no_sense_stops_the_program),
		cmocka_unit_test(a_pool_too_large_is_no_memory_and_closes),
	};

	return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
