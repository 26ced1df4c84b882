/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule_test.c - the queue of extents: order, pieces, re-sends, files that are dropped; and a
 * long random life against a model that is nothing but an array.
 */
#include "unit.h"

#include "session/schedule.h"

#define MODEL_CAP 4096

static void add(
	struct schedule *schedule, uint64_t id, uint64_t offset, uint64_t length, bool first)
{
	assert_int_equal(
		schedule_add(schedule, id, (struct zh_extent){ offset, length }, first), 0);
}

static void expect(struct schedule *schedule, uint64_t most, uint64_t id, uint64_t offset,
	uint64_t length, uint64_t horizon)
{
	struct schedule_work work = { 0 };

	assert_true(schedule_next(schedule, most, &work));
	assert_int_equal(work.id, id);
	assert_int_equal(work.extent.offset, offset);
	assert_int_equal(work.extent.length, length);
	assert_int_equal(work.horizon, horizon);
}

static void an_empty_schedule_has_nothing(void **state)
{
	struct schedule schedule = { 0 };
	struct schedule_work work;

	(void)state;
	assert_false(schedule_next(&schedule, 1, &work));
	schedule_drop(&schedule, 1);
	assert_false(schedule_next(&schedule, UINT64_MAX, &work));
	schedule_fini(&schedule);
}

static void extents_come_out_in_order_in_pieces_with_their_horizon(void **state)
{
	struct schedule schedule = { 0 };
	struct schedule_work work;

	(void)state;
	add(&schedule, 1, 100, 25, false);
	add(&schedule, 2, 0, 10, false);
	expect(&schedule, 10, 1, 100, 10, 125);
	expect(&schedule, 10, 1, 110, 10, 125);
	expect(&schedule, 10, 1, 120, 5, 125);
	expect(&schedule, 10, 2, 0, 10, 10);
	assert_false(schedule_next(&schedule, 10, &work));
	schedule_fini(&schedule);
}

static void a_resend_goes_before_everything_else(void **state)
{
	struct schedule schedule = { 0 };
	struct schedule_work work;

	(void)state;
	add(&schedule, 1, 0, 30, false);
	expect(&schedule, 10, 1, 0, 10, 30);
	add(&schedule, 9, 500, 5, true);
	add(&schedule, 8, 600, 5, true);
	expect(&schedule, 10, 8, 600, 5, 605);
	expect(&schedule, 10, 9, 500, 5, 505);
	expect(&schedule, 100, 1, 10, 20, 30);
	assert_false(schedule_next(&schedule, 10, &work));
	schedule_fini(&schedule);
}

static void a_dropped_file_is_forgotten_and_the_others_keep_their_order(void **state)
{
	struct schedule schedule = { 0 };
	struct schedule_work work;

	(void)state;
	for (uint64_t i = 0; i < 9; i++)
		add(&schedule, i % 3, i, 1, false);
	expect(&schedule, 1, 0, 0, 1, 1);
	schedule_drop(&schedule, 1);
	schedule_drop(&schedule, 77);
	expect(&schedule, 1, 2, 2, 1, 3);
	expect(&schedule, 1, 0, 3, 1, 4);
	expect(&schedule, 1, 2, 5, 1, 6);
	expect(&schedule, 1, 0, 6, 1, 7);
	expect(&schedule, 1, 2, 8, 1, 9);
	assert_false(schedule_next(&schedule, 1, &work));
	add(&schedule, 1, 0, 1, false); /* its id may come back */
	expect(&schedule, 1, 1, 0, 1, 1);
	schedule_fini(&schedule);
}

static void extents_at_the_end_of_all_files_do_not_overflow(void **state)
{
	struct schedule schedule = { 0 };
	const uint64_t most = INT64_MAX;

	(void)state;
	add(&schedule, 1, most - 10, 10, false);
	add(&schedule, 2, 0, most, false);
	expect(&schedule, UINT64_MAX, 1, most - 10, 10, most);
	expect(&schedule, 1, 2, 0, 1, most);
	expect(&schedule, UINT64_MAX, 2, 1, most - 1, most);
	schedule_fini(&schedule);
}

static void queue_nothing(void)
{
	struct schedule schedule = { 0 };
	int r = schedule_add(&schedule, 1, (struct zh_extent){ 5, 0 }, false);
	(void)r;
}

static void an_extent_without_bytes_stops_the_program(void **state)
{
	(void)state;
	assert_stops_the_program(queue_nothing);
}

/* ------------------------------------------------ against a model ------------------------------
 */

static struct schedule_item model[MODEL_CAP];
static size_t model_count;

static void model_add(uint64_t id, struct zh_extent extent, bool first)
{
	size_t at = first ? 0 : model_count;

	memmove(model + at + 1, model + at, (model_count - at) * sizeof(model[0]));
	model[at] = (struct schedule_item){ id, extent };
	model_count++;
}

static void model_drop(uint64_t id)
{
	size_t kept = 0;

	for (size_t i = 0; i < model_count; i++)
		if (model[i].id != id)
			model[kept++] = model[i];
	model_count = kept;
}

static void model_next(uint64_t most)
{
	uint64_t piece = min_u64(most, model[0].extent.length);

	model[0].extent.offset += piece;
	model[0].extent.length -= piece;
	if (model[0].extent.length == 0)
		memmove(model, model + 1, --model_count * sizeof(model[0]));
}

static uint64_t dice_state = 4711;

static uint64_t dice(uint64_t sides)
{
	dice_state = dice_state * 6364136223846793005u + 1442695040888963407u;
	return (dice_state >> 33) % sides;
}

static void one_step(struct schedule *schedule, unsigned adding)
{
	uint64_t what = dice(100);

	if (what < adding && model_count < MODEL_CAP - 1) {
		struct zh_extent extent = { dice(1000000), 1 + dice(5000) };
		uint64_t id = dice(20);
		bool first = dice(5) == 0;
		add(schedule, id, extent.offset, extent.length, first);
		model_add(id, extent, first);
	} else if (what == 99) {
		uint64_t id = dice(20);
		schedule_drop(schedule, id);
		model_drop(id);
	} else if (model_count > 0) {
		uint64_t most = 1 + dice(4000);
		struct schedule_item head = model[0];
		expect(schedule, most, head.id, head.extent.offset,
			min_u64(most, head.extent.length), head.extent.offset + head.extent.length);
		model_next(most);
	} else {
		struct schedule_work work;
		assert_false(schedule_next(schedule, 1, &work));
	}
	assert_int_equal(schedule->count, model_count);
	assert_true(schedule->head + schedule->count <= schedule->cap);
}

static void a_long_life_hands_out_what_a_plain_list_would(void **state)
{
	struct schedule schedule = { 0 };

	(void)state;
	for (int season = 0; season < 40; season++) /* growing and shrinking in turns */
		for (int i = 0; i < 1000; i++)
			one_step(&schedule, season % 2 ? 20 : 60);
	schedule_fini(&schedule);
	assert_null(schedule.item);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_schedule_has_nothing),
		cmocka_unit_test(extents_come_out_in_order_in_pieces_with_their_horizon),
		cmocka_unit_test(a_resend_goes_before_everything_else),
		cmocka_unit_test(a_dropped_file_is_forgotten_and_the_others_keep_their_order),
		cmocka_unit_test(extents_at_the_end_of_all_files_do_not_overflow),
		cmocka_unit_test(an_extent_without_bytes_stops_the_program),
		cmocka_unit_test(a_long_life_hands_out_what_a_plain_list_would),
	};

	return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
