/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calibrate_test.c - a large extent is begun by the planned strategy, tried by the next one and
 * finished by the better: which that is, is the machine's affair, but every byte arrives once.
 */
#include "move_kit.h"

#include <signal.h>
#include <sys/mman.h>

#define LARGE_BYTES (256 * MIB + 3)

static int source_of(uint64_t size)
{
	static uint8_t piece[MIB];
	int fd = memfd_create("source", MFD_CLOEXEC);

	assert_true(fd >= 0);
	for (uint64_t at = 0; at < size; at += MIB) {
		random_fill(piece, 4096, KIT_SEED, at);
		assert_int_equal(pwrite(fd, piece, min_u64(MIB, size - at), (off_t)at),
			min_u64(MIB, size - at));
	}
	return fd;
}

static void check_same(int one, int other, uint64_t size)
{
	static uint8_t a[MIB], b[MIB];

	for (uint64_t at = 0; at < size; at += MIB) {
		size_t part = (size_t)min_u64(MIB, size - at);
		assert_int_equal(pread(one, a, part, (off_t)at), part);
		assert_int_equal(pread(other, b, part, (off_t)at), part);
		if (memcmp(a, b, part) != 0)
			fail_msg("changed on the way, at %llu", (unsigned long long)at);
	}
}

/* Sends size bytes over TCP to a receiver by copy; fault, if there is one, strikes meanwhile. */
static struct zh_stats moved(
	uint64_t size, uint32_t flags, const char *strategy, const struct sys_fault *fault)
{
	int source = source_of(size), destination = memfd_create("destination", MFD_CLOEXEC);
	struct kit_move tx = { .side = ZH_SEND, .file = source, .extent = { 0, size } };
	struct kit_move rx = { .side = ZH_RECEIVE, .file = destination, .extent = { 0, size } };
	struct zh_plan plan = { .size = sizeof(plan) };
	int end[2];

	assert_true(destination >= 0);
	kit_tcp_pair(end, false);
	tx.sock = end[0];
	rx.sock = end[1];
	tx.options = rx.options = zh_options_default();
	tx.options.stall_ms = rx.options.stall_ms = 60000;
	tx.options.flags = flags;
	tx.options.strategy = strategy;
	rx.options.strategy = "copy";
	assert_int_equal(zh_plan(source, end[0], ZH_SEND, tx.extent, &tx.options, &plan), 0);
	if (fault) /* not before: the first plan of a process tries pipes too */
		sys_fault_arm(fault);
	kit_move_start(&rx);
	(void)kit_move_run(&tx);
	kit_move_join(&rx);
	sys_fault_arm(NULL);
	assert_int_equal(tx.result, 0);
	assert_int_equal(rx.result, 0);
	assert_int_equal(tx.stats.bytes, size);
	check_same(source, destination, size);
	kit_close_pair(end);
	close(source);
	close(destination);
	return tx.stats;
}

static void a_large_extent_goes_on_by_the_cheaper_one(void **state)
{
	struct zh_stats stats = moved(LARGE_BYTES, ZH_CALIBRATE, NULL, NULL);
	const char *winner = strrchr(stats.calibration, ' ');

	(void)state;
	print_message("# %s\n", stats.calibration);
	assert_true(strncmp(stats.calibration, "sendfile ", strlen("sendfile ")) == 0);
	assert_non_null(strstr(stats.calibration, ", splice "));
	assert_non_null(winner);
	assert_string_equal(stats.strategy, winner + 1);
	assert_int_equal(stats.demotions, 0);
	assert_true(stats.calls[SYS_SENDFILE] > 0 && stats.calls[SYS_SPLICE] > 0);
}

static void nobody_is_calibrated_unasked_or_for_little(void **state)
{
	struct zh_stats stats = moved(LARGE_BYTES, 0, NULL, NULL);

	(void)state;
	assert_string_equal(stats.calibration, "");
	assert_int_equal(stats.calls[SYS_SPLICE], 0);
	stats = moved(MIB, ZH_CALIBRATE, NULL, NULL);
	assert_string_equal(stats.calibration, "");
	stats = moved(LARGE_BYTES, ZH_CALIBRATE, "sendfile", NULL); /* asked for by name */
	assert_string_equal(stats.calibration, "");
	assert_int_equal(stats.calls[SYS_SPLICE], 0);
}

static void a_runner_up_that_cannot_be_opened_is_left(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_PIPE, EPERM, 1, 1 };
	struct zh_stats stats = moved(LARGE_BYTES, ZH_CALIBRATE, NULL, &fault);

	(void)state;
	assert_string_equal(stats.calibration, "splice: Operation not permitted");
	assert_string_equal(stats.strategy, "sendfile");
	assert_int_equal(stats.demotions, 0);
}

static void a_runner_up_that_is_refused_on_the_way_falls_back(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_SPLICE, EINVAL, 5, 1 };
	struct zh_stats stats = moved(LARGE_BYTES, ZH_CALIBRATE, NULL, &fault);

	(void)state;
	assert_string_equal(stats.calibration, "");
	assert_string_equal(stats.strategy, "copy");
	assert_int_equal(stats.demotions, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_large_extent_goes_on_by_the_cheaper_one),
		cmocka_unit_test(nobody_is_calibrated_unasked_or_for_little),
		cmocka_unit_test(a_runner_up_that_cannot_be_opened_is_left),
		cmocka_unit_test(a_runner_up_that_is_refused_on_the_way_falls_back),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return RUN_TESTS("calibrate", tests);
}
