/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent_large_test.c - files larger than any counter of 32 bits: 1 GiB and 5 GiB + 3 of random
 * content by every pair of strategies. Needs twice the larger size in $TMPDIR or /var/tmp.
 */
#include "move_kit.h"

#include <signal.h>
#include <sys/statvfs.h>

#define LARGE_BYTES (5 * GIB + 3)
#define SPARE_BYTES (512 * MIB)
#define PIECE_BYTES (4 * MIB)

/*
 * Random content made faster than by random_fill: a random MiB, stamped at each page with its
 * number, so that no two pages are alike and none is a hole.
 */
static uint8_t pattern[MIB];

static void large_fill(uint8_t *ret_bytes, size_t length, uint64_t offset)
{
	for (size_t at = 0; at < length; at += MIB) {
		size_t part = min_size(length - at, MIB);
		memcpy(ret_bytes + at, pattern, part);
		for (size_t page = 0; page < part; page += 4096) {
			uint64_t stamp = (offset + at + page) * 0x9e3779b97f4a7c15u;
			memcpy(ret_bytes + at + page, &stamp, min_size(part - page, sizeof(stamp)));
		}
	}
}

static void large_write(int fd, uint64_t size)
{
	static uint8_t piece[PIECE_BYTES];

	for (uint64_t at = 0; at < size; at += PIECE_BYTES) {
		size_t part = (size_t)min_u64(PIECE_BYTES, size - at);
		large_fill(piece, part, at);
		assert_int_equal(pwrite(fd, piece, part, (off_t)at), part);
	}
}

static void large_check(int fd, uint64_t size)
{
	static uint8_t piece[PIECE_BYTES], expected[PIECE_BYTES];
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, size);
	for (uint64_t at = 0; at < size; at += PIECE_BYTES) {
		size_t part = (size_t)min_u64(PIECE_BYTES, size - at);
		large_fill(expected, part, at);
		assert_int_equal(pread(fd, piece, part, (off_t)at), part);
		if (memcmp(piece, expected, part) != 0)
			fail_msg("changed on the way, at %llu", (unsigned long long)at);
	}
}

static void move_large(struct arena *a, int source, uint64_t size, const struct zh_strategy *sender,
	const struct zh_strategy *receiver)
{
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT | O_TRUNC);
	struct kit_move tx = { .side = ZH_SEND, .file = source, .extent = { 0, size } };
	struct kit_move rx = { .side = ZH_RECEIVE, .file = destination, .extent = { 0, size } };
	int end[2];

	if (kit_stores(receiver))
		assert_int_equal(posix_fallocate(destination, 0, (off_t)size), 0);
	kit_tcp_pair(end, false);
	tx.sock = end[0];
	rx.sock = end[1];
	tx.options = rx.options = zh_options_default();
	tx.options.stall_ms = rx.options.stall_ms = 120000;
	tx.options.strategy = sender->name;
	rx.options.strategy = receiver->name;
	kit_move_start(&rx);
	(void)kit_move_run(&tx);
	kit_move_join(&rx);
	if (tx.result != 0 || rx.result != 0)
		fail_msg("%s (%d) -> %s (%d)", sender->name, tx.result, receiver->name, rx.result);
	assert_int_equal(tx.stats.bytes, size);
	assert_int_equal(rx.stats.bytes, size);
	print_message("# %s -> %s: %llu MiB/s\n", tx.stats.strategy, rx.stats.strategy,
		(unsigned long long)(size / MIB * 1000 / (rx.stats.elapsed_ns / 1000000 + 1)));
	if (kit_stores(receiver))
		large_check(destination, size);
	kit_close_pair(end);
	close(destination);
}

static void move_by_every_pair(void **state, uint64_t size)
{
	struct arena *a = arena_of(state);
	const struct zh_strategy *sender, *receiver;
	struct statvfs fs;

	assert_int_equal(fstatvfs(a->root, &fs), 0);
	if ((uint64_t)fs.f_bavail * fs.f_frsize < 2 * size + SPARE_BYTES)
		SKIP("not enough room in $TMPDIR");
	random_fill(pattern, sizeof(pattern), KIT_SEED, 0);
	int source = kit_open(a->root, "source", O_RDWR | O_CREAT);
	large_write(source, size);
	for (size_t i = 0; (sender = kit_strategy(ZH_SEND, i)); i++)
		for (size_t j = 0; (receiver = kit_strategy(ZH_RECEIVE, j)); j++)
			move_large(a, source, size, sender, receiver);
	close(source);
}

static void a_gibibyte_arrives_unchanged_by_every_pair(void **state)
{
	move_by_every_pair(state, GIB);
}

static void five_gibibytes_arrive_unchanged_by_every_pair(void **state)
{
	move_by_every_pair(state, LARGE_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_gibibyte_arrives_unchanged_by_every_pair),
		ARENA_TEST(five_gibibytes_arrive_unchanged_by_every_pair),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return RUN_TESTS("large extents", tests);
}
