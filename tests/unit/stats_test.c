/* SPDX-License-Identifier: Apache-2.0 */
/* stats_test.c - adding up channels, and every verdict on what limited a transfer. */
#include "unit.h"

#include "base/stats.h"
#include "base/sys.h"

#define MS 1000000u

/* A transfer of 1000 ms in which every clock that is not set stood still. */
static struct zh_report moved_report(void)
{
	struct zh_report report = { .size = sizeof(report), .elapsed_ns = 1000 * MS };

	report.sender.valid = report.receiver.valid = 1;
	report.sender.stats.bytes = report.receiver.stats.bytes = 1000000;
	report.sender.stats.elapsed_ns = report.receiver.stats.elapsed_ns = 1000 * MS;
	report.sender.stats.tcp.valid = 1;
	report.sender.stats.tcp.busy_us = 1000000;
	return report;
}

static void expect_limit(struct zh_report *report, const char *by, const char *evidence)
{
	stats_name_limit(report);
	assert_string_equal(report->limited_by, by);
	assert_string_equal(report->limit_evidence, evidence);
}

static void nothing_moved_is_limited_by_nothing(void **state)
{
	struct zh_report report = moved_report();

	(void)state;
	report.sender.stats.bytes = 0;
	expect_limit(&report, "nothing", "no bytes were moved");
	report = moved_report();
	report.sender.valid = 0;
	expect_limit(&report, "nothing", "no bytes were moved");
	report = (struct zh_report){ 0 };
	expect_limit(&report, "nothing", "no bytes were moved");
}

static void the_commit_counts_when_it_took_more_than_half(void **state)
{
	struct zh_report report = moved_report();

	(void)state;
	report.sender.stats.cpu_ns = 900 * MS;
	report.receiver.disk_ns = 501 * MS;
	expect_limit(&report, "destination disk",
		"allocating, syncing and renaming took 50 % of the time");
	report.receiver.disk_ns = 500 * MS;
	expect_limit(&report, "sender CPU", "the sender was on the CPU 90 % of the time");
}

static void little_to_send_at_a_time_is_no_fault_of_the_streams(void **state)
{
	struct zh_report report = moved_report();

	(void)state;
	report.sender.stats.elapsed_ns = 499 * MS;
	report.sender.stats.cpu_ns = 499 * MS;
	expect_limit(
		&report, "latency", "the data connections had something to send 49 % of the time");
	report.sender.cpu_user_ns = 510 * MS;
	expect_limit(&report, "sender CPU",
		"the sender used 51 % of a CPU, most of it beside its data connections");
	report.receiver.cpu_sys_ns = 1510 * MS;
	expect_limit(&report, "receiver CPU",
		"the receiver used 151 % of a CPU, most of it beside its data connections");
	report.receiver.valid = 0;
	expect_limit(&report, "sender CPU",
		"the sender used 51 % of a CPU, most of it beside its data connections");
	report.sender.stats.elapsed_ns = 500 * MS;
	expect_limit(&report, "sender CPU", "the sender was on the CPU 99 % of the time");
	report.sender.stats.cpu_ns = 501 * MS;
	expect_limit(&report, "sender CPU", "the sender was on the CPU 100 % of the time");
}

static void the_senders_own_disk_and_cpu_are_told_apart(void **state)
{
	struct zh_report report = moved_report();

	(void)state;
	report.sender.stats.wait_disk_ns = 600 * MS;
	report.sender.stats.cpu_ns = 300 * MS;
	report.sender.stats.wait_space_ns = 100 * MS;
	expect_limit(&report, "source disk", "the sender waited for its disk 60 % of the time");
	report.sender.stats.cpu_ns = 601 * MS;
	report.sender.stats.wait_disk_ns = 299 * MS;
	expect_limit(&report, "sender CPU", "the sender was on the CPU 60 % of the time");
	/* waiting for a CPU is a want of CPU */
	report.sender.stats.cpu_ns = 100 * MS;
	report.sender.stats.wait_run_ns = 501 * MS;
	expect_limit(&report, "sender CPU", "the sender was on the CPU 60 % of the time");
}

static struct zh_report held_up_report(void)
{
	struct zh_report report = moved_report();

	report.sender.stats.wait_space_ns = 700 * MS;
	report.sender.stats.cpu_ns = 300 * MS;
	return report;
}

static void a_sender_held_up_by_the_receivers_disk_is_told(void **state)
{
	struct zh_report report = held_up_report();

	(void)state;
	report.receiver.stats.wait_disk_ns = 800 * MS;
	report.receiver.stats.cpu_ns = 150 * MS;
	report.receiver.stats.wait_data_ns = 50 * MS;
	expect_limit(
		&report, "destination disk", "the receiver waited for its disk 80 % of the time");
}

static void a_sender_held_up_by_the_receivers_cpu_is_told(void **state)
{
	struct zh_report report = held_up_report();

	(void)state;
	report.receiver.stats.cpu_ns = 500 * MS;
	report.receiver.stats.wait_run_ns = 250 * MS;
	report.receiver.stats.wait_disk_ns = 200 * MS;
	report.receiver.stats.wait_data_ns = 50 * MS;
	expect_limit(&report, "receiver CPU", "the receiver was on the CPU 75 % of the time");
}

static void a_receiver_that_waits_for_data_is_not_to_blame(void **state)
{
	struct zh_report report = held_up_report();

	(void)state;
	report.receiver.stats.wait_data_ns = 600 * MS;
	report.receiver.stats.wait_disk_ns = 200 * MS;
	report.receiver.stats.cpu_ns = 200 * MS;
	expect_limit(&report, "network", "the sender waited for socket space 70 % of the time");
	report.sender.stats.tcp.sndbuf_limited_us = 510000;
	expect_limit(&report, "send buffer",
		"TCP was limited by the send buffer 51 % of the time it was busy");
	report.sender.stats.tcp.sndbuf_limited_us = 500000;
	report.sender.stats.tcp.rwnd_limited_us = 900000;
	expect_limit(&report, "receive window",
		"TCP was limited by the receive window 90 % of the time it was busy");
	report.sender.stats.tcp.rwnd_limited_us = 500000;
	expect_limit(&report, "network", "the sender waited for socket space 70 % of the time");
}

static void an_unknown_receiver_and_no_tcp_leave_the_network(void **state)
{
	struct zh_report report = held_up_report();

	(void)state;
	report.receiver.valid = 0;
	report.receiver.stats.wait_disk_ns = 900 * MS;
	report.sender.stats.tcp = (struct zh_tcp){ .sndbuf_limited_us = 9, .busy_us = 10 };
	expect_limit(&report, "network", "the sender waited for socket space 70 % of the time");
	report.sender.stats.tcp.valid = 1;
	report.sender.stats.tcp.busy_us = 0; /* nothing divides by zero */
	expect_limit(&report, "network", "the sender waited for socket space 70 % of the time");
}

static void every_verdict_fits_its_field(void **state)
{
	uint64_t dice = 99;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		struct zh_report report = moved_report();
		uint64_t *clocks[] = { &report.sender.stats.wait_space_ns,
			&report.sender.stats.wait_disk_ns, &report.sender.stats.cpu_ns,
			&report.receiver.stats.wait_disk_ns, &report.receiver.stats.wait_data_ns,
			&report.receiver.stats.cpu_ns, &report.sender.stats.tcp.sndbuf_limited_us,
			&report.sender.stats.tcp.rwnd_limited_us, &report.sender.stats.tcp.busy_us,
			&report.receiver.disk_ns, &report.sender.stats.elapsed_ns };
		for (size_t c = 0; c < ARRAY_LEN(clocks); c++) {
			dice = dice * 6364136223846793005u + 1442695040888963407u;
			*clocks[c] = (dice >> 33) % (1000u * MS);
		}
		stats_name_limit(&report);
		assert_true(report.limited_by[0] != '\0' && report.limit_evidence[0] != '\0');
		assert_true(strlen(report.limited_by) < sizeof(report.limited_by) - 1);
		assert_true(strlen(report.limit_evidence) < sizeof(report.limit_evidence) - 1);
	}
}

/* ------------------------------------------------ adding up ----------------------------------- */

static struct zh_stats channel_stats_of(uint64_t seed)
{
	struct zh_stats s = { .size = sizeof(s),
		.side = ZH_RECEIVE,
		.bytes = seed + 1,
		.elapsed_ns = seed + 2,
		.cpu_ns = seed + 3,
		.wait_space_ns = seed + 4,
		.wait_data_ns = seed + 5,
		.wait_disk_ns = seed + 6,
		.wait_run_ns = seed + 7,
		.shorts = seed + 8,
		.agains = seed + 9,
		.zc_copied_bytes = seed + 10,
		.digest_bytes = seed + 11,
		.chunk_bytes = (uint32_t)seed + 12,
		.demotions = (uint32_t)seed };

	TEXT_SET(s.strategy, seed > 100 ? "splice" : "copy");
	s.tcp.valid = 1;
	s.tcp.rtt_us = (uint32_t)seed;
	for (size_t i = 0; i < ZH_CALL_MAX; i++)
		s.calls[i] = seed + i;
	return s;
}

static void sums_add_up_and_names_are_those_of_the_first(void **state)
{
	struct zh_stats total = { 0 }, one = channel_stats_of(0), two = channel_stats_of(1000);

	(void)state;
	TEXT_SET(two.demotion, "uring-direct -> splice: why");
	stats_add(&total, &one);
	assert_memory_equal(&total, &one, sizeof(total));
	stats_add(&total, &two);
	assert_int_equal(total.bytes, 1002);
	assert_int_equal(total.elapsed_ns, 1004);
	assert_int_equal(total.cpu_ns, 1006);
	assert_int_equal(total.wait_space_ns, 1008);
	assert_int_equal(total.wait_data_ns, 1010);
	assert_int_equal(total.wait_disk_ns, 1012);
	assert_int_equal(total.wait_run_ns, 1014);
	assert_int_equal(total.shorts, 1016);
	assert_int_equal(total.agains, 1018);
	assert_int_equal(total.zc_copied_bytes, 1020);
	assert_int_equal(total.digest_bytes, 1022);
	assert_int_equal(total.demotions, 1000);
	for (size_t i = 0; i < ZH_CALL_MAX; i++)
		assert_int_equal(total.calls[i], 1000 + 2 * i);
	assert_string_equal(total.strategy, "copy");
	assert_int_equal(total.chunk_bytes, 12);
	assert_int_equal(total.tcp.rtt_us, 0);
	assert_string_equal(total.demotion, "uring-direct -> splice: why");
	TEXT_SET(two.demotion, "a later one");
	stats_add(&total, &two);
	assert_string_equal(total.demotion, "uring-direct -> splice: why");
}

static void every_counted_call_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (size_t i = 0; i < SYS_CALL_COUNT; i++) {
		assert_non_null(zh_call_name(i));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(zh_call_name(i), zh_call_name(j));
	}
	assert_null(zh_call_name(SYS_CALL_COUNT));
	assert_null(zh_call_name(SIZE_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_moved_is_limited_by_nothing),
		cmocka_unit_test(the_commit_counts_when_it_took_more_than_half),
		cmocka_unit_test(little_to_send_at_a_time_is_no_fault_of_the_streams),
		cmocka_unit_test(the_senders_own_disk_and_cpu_are_told_apart),
		cmocka_unit_test(a_sender_held_up_by_the_receivers_disk_is_told),
		cmocka_unit_test(a_sender_held_up_by_the_receivers_cpu_is_told),
		cmocka_unit_test(a_receiver_that_waits_for_data_is_not_to_blame),
		cmocka_unit_test(an_unknown_receiver_and_no_tcp_leave_the_network),
		cmocka_unit_test(every_verdict_fits_its_field),
		cmocka_unit_test(sums_add_up_and_names_are_those_of_the_first),
		cmocka_unit_test(every_counted_call_has_a_name_of_its_own),
	};

	return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
