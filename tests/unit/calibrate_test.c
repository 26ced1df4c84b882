/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate_test.c - what two trials have cost, and which strategy goes on. */
#include "unit.h"

#include "base/clock.h"
#include "move/calibrate.h"

#define GB     1000000000u
#define SECOND ((uint64_t)NS_PER_S)

static struct calibrate_cost cost(uint64_t elapsed_ns, uint64_t cpu_ns, uint64_t wait_ns)
{
	return (struct calibrate_cost){ GB, elapsed_ns, cpu_ns, wait_ns };
}

static void expect(struct calibrate_cost planned, struct calibrate_cost runner_up, bool prefers,
	const char *expected)
{
	char text[128];

	assert_int_equal(calibrate_prefers_runner_up(
				 "sendfile", &planned, "splice", &runner_up, text, sizeof(text)),
		prefers);
	assert_string_equal(text, expected);
}

static void the_faster_one_goes_on_when_the_sender_is_the_limit(void **state)
{
	(void)state;
	expect(cost(SECOND, SECOND, 0), cost(SECOND / 2, SECOND, 0), true,
		"sendfile 1.000, splice 0.500 s/GB: splice");
	expect(cost(SECOND, SECOND, 0), cost(2 * SECOND, SECOND / 2, 0), false,
		"sendfile 1.000, splice 2.000 s/GB: sendfile");
}

static void the_cheaper_one_goes_on_when_the_peer_is_the_limit(void **state)
{
	(void)state;
	expect(cost(SECOND, SECOND / 2, SECOND / 2), cost(2 * SECOND, SECOND / 4, SECOND), true,
		"sendfile 0.500, splice 0.250 CPU s/GB: splice");
	expect(cost(2 * SECOND, SECOND / 4, SECOND), cost(SECOND, SECOND / 2, SECOND / 2), false,
		"sendfile 0.250, splice 0.500 CPU s/GB: sendfile");
}

static void one_that_keeps_its_peer_waiting_is_judged_by_time(void **state)
{
	(void)state;
	/* a quarter of the time is no wait yet, and both have to wait */
	expect(cost(SECOND, SECOND / 8, SECOND / 2), cost(2 * SECOND, SECOND / 16, SECOND / 2),
		false, "sendfile 1.000, splice 2.000 s/GB: sendfile");
	expect(cost(2 * SECOND, SECOND / 16, SECOND / 2), cost(SECOND, SECOND / 8, SECOND / 2),
		true, "sendfile 2.000, splice 1.000 s/GB: splice");
}

static void what_may_be_chance_changes_nothing(void **state)
{
	(void)state;
	expect(cost(SECOND, 0, 0), cost(SECOND, 0, 0), false,
		"sendfile 1.000, splice 1.000 s/GB: sendfile");
	expect(cost(SECOND, 0, 0), cost(SECOND / 100 * 95, 0, 0), false,
		"sendfile 1.000, splice 0.950 s/GB: sendfile");
	expect(cost(SECOND, 0, 0), cost(SECOND / 1000 * 949, 0, 0), true,
		"sendfile 1.000, splice 0.949 s/GB: splice");
}

static void costs_are_of_a_byte_whatever_the_trials_moved(void **state)
{
	struct calibrate_cost half = { GB / 2, SECOND / 2, 0, 0 }, none = { 0 };

	(void)state;
	expect(cost(SECOND, 0, 0), half, false, "sendfile 1.000, splice 1.000 s/GB: sendfile");
	expect(none, none, false, "sendfile 0.000, splice 0.000 s/GB: sendfile");
}

static void a_cost_is_what_has_come_since(void **state)
{
	struct calibrate_cost now = { 10, 20, 30, 40 }, start = { 1, 2, 3, 4 };
	struct calibrate_cost since = calibrate_since(&now, &start);

	(void)state;
	assert_int_equal(since.bytes, 9);
	assert_int_equal(since.elapsed_ns, 18);
	assert_int_equal(since.cpu_ns, 27);
	assert_int_equal(since.wait_ns, 36);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_faster_one_goes_on_when_the_sender_is_the_limit),
		cmocka_unit_test(the_cheaper_one_goes_on_when_the_peer_is_the_limit),
		cmocka_unit_test(one_that_keeps_its_peer_waiting_is_judged_by_time),
		cmocka_unit_test(what_may_be_chance_changes_nothing),
		cmocka_unit_test(costs_are_of_a_byte_whatever_the_trials_moved),
		cmocka_unit_test(a_cost_is_what_has_come_since),
	};

	return cmocka_run_group_tests_name("calibrate", tests, NULL, NULL);
}
