/* SPDX-License-Identifier: Apache-2.0 */
/* lane_test.c - what was sent on a connection is kept until it has arrived, and no longer. */
#include "unit.h"

#include "session/lane.h"

#include <errno.h>

static uint64_t push(struct lane *lane, uint64_t id)
{
	struct schedule_work piece = { .id = id, .extent = { id * LEAF_BYTES, LEAF_BYTES } };

	assert_int_equal(lane_reserve(lane), 0);
	return lane_push(lane, &piece);
}

static void frames_are_found_by_their_number(void **state)
{
	struct lane lane = { .count = 0 };

	(void)state;
	lane_begin(&lane, false);
	assert_true(lane.busy);
	assert_false(lane.ended);
	assert_null(lane_find(&lane, 0));
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(push(&lane, i + 7), i);
	for (uint64_t i = 0; i < 100; i++) {
		const struct sent *sent = lane_find(&lane, i);
		assert_non_null(sent);
		assert_int_equal(sent->id, i + 7);
		assert_int_equal(sent->extent.offset, (i + 7) * LEAF_BYTES);
		assert_false(sent->counted);
	}
	assert_null(lane_find(&lane, 100));
	lane_fini(&lane);
}

static void what_has_arrived_is_forgotten(void **state)
{
	struct lane lane = { .count = 0 };

	(void)state;
	lane_begin(&lane, false);
	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(push(&lane, i), i);
		if (i >= 3)
			assert_int_equal(lane_confirm(&lane, i - 2), 0);
	}
	assert_int_equal(lane.count, 3);
	assert_true(lane.cap <= 64); /* and its room is used again */
	assert_null(lane_find(&lane, 996));
	assert_int_equal(lane_find(&lane, 997)->id, 997);
	assert_int_equal(lane_confirm(&lane, 1000), 0);
	assert_int_equal(lane.count, 0);
	lane_fini(&lane);
}

static void what_was_not_sent_cannot_have_arrived(void **state)
{
	struct lane lane = { .count = 0 };

	(void)state;
	lane_begin(&lane, false);
	(void)push(&lane, 1);
	(void)push(&lane, 2);
	assert_int_equal(lane_confirm(&lane, 3), -EPROTO);
	assert_int_equal(lane_confirm(&lane, UINT64_MAX), -EPROTO);
	assert_int_equal(lane.count, 2);
	assert_int_equal(lane_confirm(&lane, 1), 0);
	assert_int_equal(lane_confirm(&lane, 1), 0);
	assert_int_equal(lane_confirm(&lane, 0), -EPROTO);
	assert_int_equal(lane_find(&lane, 1)->id, 2);
	lane_fini(&lane);
}

static void a_new_connection_begins_with_nothing(void **state)
{
	struct lane lane = { .count = 0 };

	(void)state;
	lane_begin(&lane, false);
	(void)push(&lane, 1);
	(void)push(&lane, 2);
	assert_int_equal(lane_confirm(&lane, 1), 0);
	lane.ended = true;
	lane_begin(&lane, false);
	assert_false(lane.ended);
	assert_null(lane_find(&lane, 1));
	assert_int_equal(push(&lane, 9), 0);
	assert_int_equal(lane_find(&lane, 0)->id, 9);
	lane_begin(&lane, true); /* over before it began */
	assert_true(lane.ended);
	assert_null(lane_find(&lane, 0));
	lane_fini(&lane);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_are_found_by_their_number),
		cmocka_unit_test(what_has_arrived_is_forgotten),
		cmocka_unit_test(what_was_not_sent_cannot_have_arrived),
		cmocka_unit_test(a_new_connection_begins_with_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
