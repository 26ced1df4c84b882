/* SPDX-License-Identifier: Apache-2.0 */
/*
 * leaf_test.c - leaf digests against XXH3_128bits itself, however the bytes are cut up, and roots
 * against a sum made with 128-bit integers.
 */
#include "unit.h"

#include "base/leaf.h"

#include <xxhash.h>

__extension__ typedef unsigned __int128 u128;

#define SIZE (3 * LEAF_BYTES + 12345)

static uint8_t *content;

static int make_content(void **state)
{
	uint64_t x = 88172645463325252u;

	(void)state;
	content = malloc(SIZE);
	if (!content)
		return -1;
	for (size_t i = 0; i < SIZE; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		content[i] = (uint8_t)x;
	}
	return 0;
}

static int free_content(void **state)
{
	(void)state;
	free(content);
	return 0;
}

static struct digest direct(const void *bytes, size_t length)
{
	XXH128_hash_t hash = XXH3_128bits(bytes, length);
	struct digest digest;

	for (unsigned i = 0; i < 8; i++) { /* high half first, each with its high byte first */
		digest.byte[i] = (uint8_t)(hash.high64 >> (56 - 8 * i));
		digest.byte[8 + i] = (uint8_t)(hash.low64 >> (56 - 8 * i));
	}
	return digest;
}

static void assert_digest(const struct digest *digest, const struct digest *expected)
{
	assert_memory_equal(digest, expected, sizeof(*digest));
}

static void leaf_counts_round_up(void **state)
{
	(void)state;
	assert_int_equal(leaf_count(0), 0);
	assert_int_equal(leaf_count(1), 1);
	assert_int_equal(leaf_count(1048575), 1);
	assert_int_equal(leaf_count(1048576), 1);
	assert_int_equal(leaf_count(1048577), 2);
	assert_int_equal(leaf_count(UINT64_MAX), UINT64_MAX / 1048576 + 1);
}

static void digests_are_canonical_xxh3_128(void **state)
{
	/* the published value for no input, seed 0 */
	static const struct digest empty = { { 0x99, 0xaa, 0x06, 0xd3, 0x01, 0x47, 0x98, 0xd8, 0x60,
		0x01, 0xc3, 0x24, 0x46, 0x8d, 0x49, 0x7f } };
	struct digest expected = direct("", 0), out[1];
	struct leaf_run run;

	(void)state;
	assert_digest(&expected, &empty);
	assert_int_equal(leaf_run_init(&run), 0);
	leaf_run_begin(&run, 0, out, 1);
	leaf_run_add(&run, "a", 1);
	assert_int_equal(leaf_run_end(&run), 1);
	expected = direct("a", 1);
	assert_digest(&out[0], &expected);
	leaf_run_fini(&run);
}

static void check_pieces(struct leaf_run *run, size_t first, size_t piece)
{
	struct digest out[4];
	size_t at = 0;

	memset(out, 0, sizeof(out));
	leaf_run_begin(run, 5 * LEAF_BYTES, out, 4);
	leaf_run_add(run, content, 0);
	leaf_run_add(run, content, first);
	for (at = first; at < SIZE; at += piece)
		leaf_run_add(run, content + at, min_size(piece, SIZE - at));
	assert_int_equal(run->bytes, SIZE);
	assert_int_equal(run->offset, 5 * LEAF_BYTES + SIZE);
	assert_int_equal(leaf_run_end(run), 4);
	for (size_t i = 0; i < 4; i++) {
		size_t begin = i * LEAF_BYTES;
		struct digest expected =
			direct(content + begin, min_size(LEAF_BYTES, SIZE - begin));
		assert_digest(&out[i], &expected);
	}
}

static void digests_do_not_depend_on_how_bytes_are_cut(void **state)
{
	static const size_t pieces[] = { 1000, 4096, 65536, 1048575, 1048576, 1048577, 2097152,
		SIZE };
	struct leaf_run run;

	(void)state;
	assert_int_equal(leaf_run_init(&run), 0);
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
		for (size_t first = 0; first <= 1; first++)
			check_pieces(&run, first, pieces[i]);
	leaf_run_fini(&run);
}

static void run_that_ends_on_a_leaf_has_no_extra_digest(void **state)
{
	struct digest out[2], expected = direct(content, LEAF_BYTES);
	struct leaf_run run;

	(void)state;
	assert_int_equal(leaf_run_init(&run), 0);
	leaf_run_begin(&run, 0, out, 1);
	leaf_run_add(&run, content, LEAF_BYTES);
	assert_int_equal(leaf_run_end(&run), 1);
	assert_digest(&out[0], &expected);
	leaf_run_begin(&run, 0, out, 1);
	assert_int_equal(leaf_run_end(&run), 0); /* and an empty one has none */
	leaf_run_begin(&run, 0, out, 1); /* nothing of a run that was left half way remains */
	leaf_run_add(&run, content, 77);
	leaf_run_begin(&run, 0, out, 1);
	leaf_run_add(&run, content, LEAF_BYTES);
	assert_int_equal(leaf_run_end(&run), 1);
	assert_digest(&out[0], &expected);
	leaf_run_fini(&run);
}

static void ending_a_run_twice_is_harmless(void **state)
{
	struct leaf_run run;

	(void)state;
	assert_int_equal(leaf_run_init(&run), 0);
	leaf_run_fini(&run);
	leaf_run_fini(&run);
	assert_null(run.state);
}

static void begin_off_a_leaf(void)
{
	struct leaf_run run;
	struct digest out[1];

	if (leaf_run_init(&run) == 0)
		leaf_run_begin(&run, 1, out, 1);
}

static void add_more_than_fits(void)
{
	struct leaf_run run;
	struct digest out[1];

	if (leaf_run_init(&run) < 0)
		return;
	leaf_run_begin(&run, 0, out, 1);
	leaf_run_add(&run, content, 2 * LEAF_BYTES);
}

static void misuse_stops_the_program(void **state)
{
	(void)state;
	assert_stops_the_program(begin_off_a_leaf);
	assert_stops_the_program(add_more_than_fits);
}

/* ------------------------------------------------ roots --------------------------------------- */

#define LEAVES 200

static struct digest leaf_digest(uint64_t index)
{
	return direct(&index, sizeof(index));
}

static void sum_equals_128_bit_arithmetic(void **state)
{
	struct leaf_sum sum = { 0, 0 };
	u128 reference = 0;

	(void)state;
	for (uint64_t i = 0; i < LEAVES; i++) {
		struct digest digest = leaf_digest(i);
		uint8_t bytes[24];
		XXH128_hash_t term;
		put_le64(bytes, i);
		memcpy(bytes + 8, &digest, 16);
		term = XXH3_128bits(bytes, sizeof(bytes));
		reference += (u128)term.high64 << 64 | term.low64;
		leaf_sum_add(&sum, i, &digest);
		assert_true(sum.low == (uint64_t)reference);
		assert_true(sum.high == (uint64_t)(reference >> 64));
	}
}

static void root_is_the_digest_of_size_and_sum(void **state)
{
	struct leaf_sum sum = { 0x1112131415161718, 0x2122232425262728 };
	static const uint8_t bytes[24] = { 8, 7, 6, 5, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14,
		0x13, 0x12, 0x11, 0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21 };
	struct digest root = leaf_root(&sum, 0x0102030405060708);
	struct digest expected = direct(bytes, sizeof(bytes));

	(void)state;
	assert_digest(&root, &expected);
}

static void root_does_not_depend_on_the_order_of_leaves(void **state)
{
	struct leaf_sum up = { 0, 0 }, down = { 0, 0 }, mixed = { 0, 0 };
	struct digest root, other;

	(void)state;
	for (uint64_t i = 0; i < LEAVES; i++) {
		uint64_t shuffled = i * 77 % LEAVES; /* 77 and 200 have no common divisor */
		struct digest a = leaf_digest(i), b = leaf_digest(LEAVES - 1 - i),
			      c = leaf_digest(shuffled);
		leaf_sum_add(&up, i, &a);
		leaf_sum_add(&down, LEAVES - 1 - i, &b);
		leaf_sum_add(&mixed, shuffled, &c);
	}
	root = leaf_root(&up, 1);
	other = leaf_root(&down, 1);
	assert_digest(&other, &root);
	other = leaf_root(&mixed, 1);
	assert_digest(&other, &root);
}

static void removing_undoes_adding(void **state)
{
	struct leaf_sum sum = { 0, 0 }, before;

	(void)state;
	for (uint64_t i = 0; i < LEAVES; i++) {
		struct digest wrong = leaf_digest(i + 1000), right = leaf_digest(i);
		before = sum;
		leaf_sum_add(&sum, i, &wrong);
		assert_true(sum.low != before.low);
		leaf_sum_remove(&sum, i, &wrong);
		assert_true(sum.low == before.low && sum.high == before.high);
		leaf_sum_add(&sum, i, &right);
	}
	for (uint64_t i = 0; i < LEAVES; i++) {
		struct digest digest = leaf_digest(i);
		leaf_sum_remove(&sum, i, &digest);
	}
	assert_true(sum.low == 0 && sum.high == 0);
}

static void swapped_leaves_change_the_root(void **state)
{
	struct digest a = leaf_digest(1), b = leaf_digest(2), straight, crossed;
	struct leaf_sum sum = { 0, 0 }, swapped = { 0, 0 };

	(void)state;
	leaf_sum_add(&sum, 0, &a);
	leaf_sum_add(&sum, 1, &b);
	leaf_sum_add(&swapped, 0, &b);
	leaf_sum_add(&swapped, 1, &a);
	straight = leaf_root(&sum, 2 * LEAF_BYTES);
	crossed = leaf_root(&swapped, 2 * LEAF_BYTES);
	assert_false(digest_equal(&straight, &crossed));
}

static void every_bit_of_a_leaf_and_the_size_change_the_root(void **state)
{
	struct digest leaf = leaf_digest(1), root, other;
	struct leaf_sum sum = { 0, 0 };

	(void)state;
	leaf_sum_add(&sum, 0, &leaf);
	root = leaf_root(&sum, 5);
	for (unsigned bit = 0; bit < 128; bit++) {
		struct leaf_sum flipped = { 0, 0 };
		leaf.byte[bit / 8] ^= (uint8_t)(1u << bit % 8);
		leaf_sum_add(&flipped, 0, &leaf);
		other = leaf_root(&flipped, 5);
		assert_false(digest_equal(&root, &other));
		leaf.byte[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (unsigned bit = 0; bit < 64; bit++) {
		other = leaf_root(&sum, 5 ^ (uint64_t)1 << bit);
		assert_false(digest_equal(&root, &other));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaf_counts_round_up),
		cmocka_unit_test(digests_are_canonical_xxh3_128),
		cmocka_unit_test(digests_do_not_depend_on_how_bytes_are_cut),
		cmocka_unit_test(run_that_ends_on_a_leaf_has_no_extra_digest),
		cmocka_unit_test(ending_a_run_twice_is_harmless),
		cmocka_unit_test(misuse_stops_the_program),
		cmocka_unit_test(sum_equals_128_bit_arithmetic),
		cmocka_unit_test(root_is_the_digest_of_size_and_sum),
		cmocka_unit_test(root_does_not_depend_on_the_order_of_leaves),
		cmocka_unit_test(removing_undoes_adding),
		cmocka_unit_test(swapped_leaves_change_the_root),
		cmocka_unit_test(every_bit_of_a_leaf_and_the_size_change_the_root),
	};
	return cmocka_run_group_tests(tests, make_content, free_content);
}
