/* SPDX-License-Identifier: Apache-2.0 */
/* util_test.c - the small arithmetic everything rests on, at its edges; and the table of limits. */
#include "unit.h"

#include "base/util.h"
#include "session/limits.h"
#include "zerohaul.h"

static void little_endian_bytes_are_low_first(void **state)
{
	uint8_t bytes[8];

	(void)state;
	put_le16(bytes, 0x8182);
	assert_memory_equal(bytes, "\x82\x81", 2);
	assert_int_equal(get_le16(bytes), 0x8182);
	put_le32(bytes, 0x81828384);
	assert_memory_equal(bytes, "\x84\x83\x82\x81", 4);
	assert_int_equal(get_le32(bytes), 0x81828384);
	put_le64(bytes, 0x8182838485868788);
	assert_memory_equal(bytes, "\x88\x87\x86\x85\x84\x83\x82\x81", 8);
	assert_true(get_le64(bytes) == 0x8182838485868788);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(get_le16(bytes), UINT16_MAX);
	assert_int_equal(get_le32(bytes), UINT32_MAX);
	assert_true(get_le64(bytes) == UINT64_MAX);
}

static void little_endian_bytes_need_no_alignment(void **state)
{
	uint8_t bytes[16];

	(void)state;
	for (size_t at = 0; at < 8; at++) {
		memset(bytes, 0xee, sizeof(bytes));
		put_le64(bytes + at, 0x0102030405060708);
		assert_true(get_le64(bytes + at) == 0x0102030405060708);
		if (at > 0)
			assert_int_equal(bytes[at - 1], 0xee);
		assert_int_equal(bytes[at + 8], 0xee);
	}
}

static void range_fits_without_wrapping(void **state)
{
	static const struct {
		uint64_t offset, length, size;
		bool fits;
	} rows[] = {
		{ 0, 0, 0, true },
		{ 0, 1, 0, false },
		{ 1, 0, 0, false },
		{ 0, 10, 10, true },
		{ 10, 0, 10, true },
		{ 9, 1, 10, true },
		{ 9, 2, 10, false },
		{ 11, 0, 10, false },
		{ UINT64_MAX, 1, UINT64_MAX, false },
		{ UINT64_MAX - 1, 1, UINT64_MAX, true },
		{ 1, UINT64_MAX, UINT64_MAX, false },
		{ UINT64_MAX, UINT64_MAX, INT64_MAX, false },
		{ 2, UINT64_MAX, 10, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (range_fits(rows[i].offset, rows[i].length, rows[i].size) != rows[i].fits)
			fail_msg("row %zu", i);
}

static void rounding_and_division_hold_at_the_edges(void **state)
{
	(void)state;
	assert_int_equal(round_down(4097, 4096), 4096);
	assert_int_equal(round_down(4095, 4096), 0);
	assert_int_equal(round_up(4097, 4096), 8192);
	assert_int_equal(round_up(4096, 4096), 4096);
	assert_int_equal(round_up(0, 4096), 0);
	assert_int_equal(div_up(0, 7), 0);
	assert_int_equal(div_up(1, 7), 1);
	assert_int_equal(div_up(7, 7), 1);
	assert_int_equal(div_up(8, 7), 2);
	assert_true(div_up(UINT64_MAX, 1) == UINT64_MAX);
	assert_true(div_up(UINT64_MAX, 2) == (uint64_t)1 << 63);
}

static void smaller_and_larger_are_told_apart(void **state)
{
	(void)state;
	assert_true(min_u64(1, UINT64_MAX) == 1 && min_u64(UINT64_MAX, 1) == 1);
	assert_true(max_u64(1, UINT64_MAX) == UINT64_MAX && max_u64(UINT64_MAX, 1) == UINT64_MAX);
	assert_true(min_size(2, SIZE_MAX) == 2 && min_size(SIZE_MAX, 2) == 2);
}

static void texts_are_cut_to_their_field(void **state)
{
	char field[6];

	(void)state;
	memset(field, 'z', sizeof(field));
	text_set(field, 4, "ab");
	assert_memory_equal(field, "ab\0", 3);
	assert_int_equal(field[4], 'z');
	text_set(field, 4, "abc");
	assert_string_equal(field, "abc");
	text_set(field, 4, "abcdef");
	assert_string_equal(field, "abc");
	assert_int_equal(field[4], 'z');
	text_set(field, 1, "abc");
	assert_string_equal(field, "");
	TEXT_SET(field, "abcdefgh");
	assert_string_equal(field, "abcde");
}

static void text_need_not_end_beyond_the_field(void **state)
{
	char *text = exact_copy("abcdef", 5); /* as long as the field holds, and not ended */
	char field[6];

	(void)state;
	TEXT_SET(field, text);
	assert_string_equal(field, "abcde");
	free(text);
}

static void buffers_grow_on_pages_and_end_empty(void **state)
{
	struct buffer buffer = { 0 };
	const uint8_t *before;

	(void)state;
	assert_int_equal(buffer_reserve(&buffer, 1), 0);
	assert_int_equal((uintptr_t)buffer.memory % 4096, 0);
	assert_int_equal(buffer_reserve(&buffer, 10000), 0);
	assert_int_equal((uintptr_t)buffer.memory % 4096, 0);
	memset(buffer.memory, 1, 10000);
	before = buffer.memory;
	assert_int_equal(buffer_reserve(&buffer, 9999), 0); /* nothing moves that need not */
	assert_ptr_equal(buffer.memory, before);
	buffer_free(&buffer);
	buffer_free(&buffer);
	assert_null(buffer.memory);
	assert_int_equal(buffer.cap, 0);
}

static void fail_a_check(void)
{
	int one = 1;

	CHECK(one == 2);
}

static void pass_some_checks(void **state)
{
	int one = 1;

	(void)state;
	CHECK(one == 1 || one == 2); /* the whole expression, not its first part */
	if (one)
		CHECK(one == 1);
	else
		CHECK(one == 2);
}

static void failed_checks_stop_the_program(void **state)
{
	(void)state;
	assert_stops_the_program(fail_a_check);
}

static void checks_that_hold_do_nothing(void **state)
{
	uint64_t calls = 0;

	pass_some_checks(state);
	CHECK(++calls == 1);
	assert_int_equal(calls, 1); /* evaluated once */
}

static void limits_are_all_listed_with_words(void **state)
{
	static const uint64_t values[] = { LIMIT_HANDSHAKE_MS, LIMIT_PENDING_CONNECTIONS,
		LIMIT_PENDING_PER_SOURCE, LIMIT_SESSIONS, LIMIT_STREAMS, LIMIT_OPEN_IDS,
		LIMIT_OPEN_FILES, LIMIT_OPEN_DIRS, LIMIT_FILE_BYTES, LIMIT_DEPTH, LIMIT_NAME_BYTES,
		LIMIT_DATA_BYTES, LIMIT_PACK_BYTES, LIMIT_MEMBERS, LIMIT_OPEN_MEMBERS, LIMIT_RULES,
		LIMIT_XATTRS, LIMIT_HELD_XATTRS, LIMIT_TOLD_BYTES, LIMIT_RESENDS, LIMIT_PING_MS,
		LIMIT_IDLE_MS, LIMIT_STALL_MS, LIMIT_REOPEN_MS, LIMIT_LOG_LINES_PER_S };
	size_t count = 0;

	(void)state;
	for (const struct zh_limit *limit; (limit = zh_limit_at(count)) != NULL; count++) {
		assert_true(count < ARRAY_LEN(values));
		assert_true(limit->value == values[count]);
		assert_true(limit->name[0] && limit->unit[0] && limit->meaning[0]);
		for (size_t i = 0; i < count; i++)
			assert_string_not_equal(zh_limit_at(i)->name, limit->name);
	}
	assert_int_equal(count, ARRAY_LEN(values));
	assert_null(zh_limit_at(SIZE_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(little_endian_bytes_are_low_first),
		cmocka_unit_test(little_endian_bytes_need_no_alignment),
		cmocka_unit_test(range_fits_without_wrapping),
		cmocka_unit_test(rounding_and_division_hold_at_the_edges),
		cmocka_unit_test(smaller_and_larger_are_told_apart),
		cmocka_unit_test(texts_are_cut_to_their_field),
		cmocka_unit_test(text_need_not_end_beyond_the_field),
		cmocka_unit_test(buffers_grow_on_pages_and_end_empty),
		cmocka_unit_test(failed_checks_stop_the_program),
		cmocka_unit_test(checks_that_hold_do_nothing),
		cmocka_unit_test(limits_are_all_listed_with_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
