/* SPDX-License-Identifier: Apache-2.0 */
/* digest_test.c - the digests of a file at rest are those of the bytes in it, or an error. */
#include "store_kit.h"

#include "store/digest.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE   (256 * KIB) /* as digest.c reads */
#define OUT_CAP 8

static struct digest guard(void)
{
	struct digest digest;

	memset(&digest, 0xa5, sizeof(digest));
	return digest;
}

/* Digests of the content that random_write gives, made in memory. */
static size_t expect(uint64_t seed, struct zh_extent extent, struct digest *out)
{
	struct leaf_run run;
	uint8_t *bytes = malloc((size_t)extent.length + 1);
	size_t count;

	assert_non_null(bytes);
	assert_int_equal(leaf_run_init(&run), 0);
	leaf_run_begin(&run, extent.offset, out, OUT_CAP);
	random_fill(bytes, (size_t)extent.length, seed, extent.offset);
	leaf_run_add(&run, bytes, (size_t)extent.length);
	count = leaf_run_end(&run);
	leaf_run_fini(&run);
	free(bytes);
	return count;
}

static int open_random(const struct arena *a, uint64_t size, uint64_t seed)
{
	int fd;

	random_file(a->root, "file", size, seed);
	fd = openat(a->root, "file", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void check_extent(struct digester *digester, int fd, uint64_t seed, struct zh_extent extent)
{
	struct digest expected[OUT_CAP], got[OUT_CAP + 1];
	size_t count = expect(seed, extent, expected);

	for (size_t i = 0; i < ARRAY_LEN(got); i++)
		got[i] = guard();
	assert_int_equal(count, leaf_count(extent.length));
	assert_int_equal(digester_read(digester, fd, extent, got), 0);
	assert_memory_equal(got, expected, count * sizeof(got[0]));
	struct digest untouched = guard();
	assert_memory_equal(&got[count], &untouched, sizeof(untouched)); /* not one too many */
}

static void every_extent_has_the_digests_of_its_bytes(void **state)
{
	static const uint64_t lengths[] = { 0, 1, 4095, PIECE - 1, PIECE, PIECE + 1, MIB - 1, MIB,
		MIB + 1, 3 * MIB, 3 * MIB + 12345 };
	struct arena *a = arena_of(state);
	struct digester digester;

	assert_int_equal(digester_init(&digester), 0);
	int fd = open_random(a, 5 * MIB, 7);
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		check_extent(&digester, fd, 7, (struct zh_extent){ 0, lengths[i] });
		check_extent(&digester, fd, 7, (struct zh_extent){ MIB, lengths[i] });
	}
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0); /* the file's own offset is not used */
	close(fd);
	digester_fini(&digester);
}

static void one_changed_byte_changes_its_leaf_alone(void **state)
{
	struct arena *a = arena_of(state);
	struct digest before[3], after[3];
	struct zh_extent extent = { 0, 2 * MIB + 5 };
	struct digester digester;

	assert_int_equal(digester_init(&digester), 0);
	int fd = open_random(a, extent.length, 7);
	assert_int_equal(digester_read(&digester, fd, extent, before), 0);
	assert_int_equal(pwrite(fd, "?", 1, MIB + 77), 1);
	assert_int_equal(digester_read(&digester, fd, extent, after), 0);
	assert_true(digest_equal(&before[0], &after[0]));
	assert_false(digest_equal(&before[1], &after[1]));
	assert_true(digest_equal(&before[2], &after[2]));
	close(fd);
	digester_fini(&digester);
}

static void a_file_is_read_in_pieces_once(void **state)
{
	struct arena *a = arena_of(state);
	struct digest out[OUT_CAP];
	struct digester digester;

	assert_int_equal(digester_init(&digester), 0);
	assert_int_equal((uintptr_t)digester.buffer % 4096, 0);
	int fd = open_random(a, 2 * MIB + 1, 7);
	uint64_t calls = sys_calls[SYS_PREAD];
	assert_int_equal(
		digester_read(&digester, fd, (struct zh_extent){ 0, 2 * MIB + 1 }, out), 0);
	assert_int_equal(sys_calls[SYS_PREAD] - calls, 9);
	close(fd);
	digester_fini(&digester);
}

static void short_reads_and_interruptions_change_nothing(void **state)
{
	struct sys_fault faults[] = {
		{ .kind = SYS_FAULT_SHORT, .call = SYS_PREAD, .nth = 1, .times = 0 },
		{ .kind = SYS_FAULT_SHORT, .call = SYS_PREAD, .nth = 3, .times = 1 },
		{ .kind = SYS_FAULT_EINTR, .call = SYS_PREAD, .nth = 2, .times = 3 },
	};
	struct arena *a = arena_of(state);
	struct digester digester;

	assert_int_equal(digester_init(&digester), 0);
	int fd = open_random(a, 2 * MIB + 333, 9);
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		sys_fault_arm(&faults[i]);
		check_extent(&digester, fd, 9, (struct zh_extent){ 0, 2 * MIB + 333 });
		assert_true(kit_struck());
	}
	close(fd);
	digester_fini(&digester);
}

static void a_file_that_ends_early_is_no_data(void **state)
{
	struct arena *a = arena_of(state);
	struct digest out[OUT_CAP];
	struct digester digester;

	assert_int_equal(digester_init(&digester), 0);
	int fd = open_random(a, 2 * MIB, 9);
	assert_int_equal(
		digester_read(&digester, fd, (struct zh_extent){ 0, 2 * MIB + 1 }, out), -ENODATA);
	assert_int_equal(
		digester_read(&digester, fd, (struct zh_extent){ 4 * MIB, 1 }, out), -ENODATA);
	/* what went wrong before does not stick */
	check_extent(&digester, fd, 9, (struct zh_extent){ MIB, MIB });
	close(fd);
	digester_fini(&digester);
}

static void a_read_error_at_any_piece_is_reported(void **state)
{
	struct arena *a = arena_of(state);
	struct digest out[OUT_CAP];
	struct digester digester;
	struct sys_fault fault = {
		.kind = SYS_FAULT_ERRNO, .call = SYS_PREAD, .error = EIO, .times = 1
	};

	assert_int_equal(digester_init(&digester), 0);
	int fd = open_random(a, MIB, 9);
	for (fault.nth = 1; fault.nth <= 4; fault.nth++) {
		sys_fault_arm(&fault);
		assert_int_equal(
			digester_read(&digester, fd, (struct zh_extent){ 0, MIB }, out), -EIO);
		assert_true(kit_struck());
	}
	close(fd);
	digester_fini(&digester);
}

static void a_digester_that_gets_no_memory_says_so_and_can_be_ended(void **state)
{
	struct digester digester;

	(void)state;
	kit_fail_next(SYS_MMAP, ENOMEM);
	int r = digester_init(&digester);
	assert_true(kit_struck());
	assert_int_equal(r, -ENOMEM);
	digester_fini(&digester);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(every_extent_has_the_digests_of_its_bytes),
		ARENA_TEST_ON_TMPFS(every_extent_has_the_digests_of_its_bytes),
		ARENA_TEST(one_changed_byte_changes_its_leaf_alone),
		ARENA_TEST(a_file_is_read_in_pieces_once),
		ARENA_TEST(short_reads_and_interruptions_change_nothing),
		ARENA_TEST(a_file_that_ends_early_is_no_data),
		ARENA_TEST(a_read_error_at_any_piece_is_reported),
		cmocka_unit_test(a_digester_that_gets_no_memory_says_so_and_can_be_ended),
	};

	return RUN_TESTS("digest", tests);
}
