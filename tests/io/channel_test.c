/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel_test.c - what a channel does beside moving bytes: demotions and their account, settling,
 * filling and skipping, corking, and the difference between a file's and a socket's failure.
 */
#include "move_kit.h"

#include "base/clock.h"

#include <signal.h>

#define SIZE (2 * MIB + 77)

struct bench {
	struct arena *arena;
	int end[2];
	int file;
	struct channel channel;
	struct zh_plan plan;
};

/* A channel over a connection, turned to a file, wishing for strategy. False: it is refused here.
 */
static bool bench_open(struct bench *bench, void **state, enum zh_side side, const char *strategy)
{
	struct zh_extent extent = { 0, SIZE };

	bench->arena = arena_of(state);
	kit_tcp_pair_sized(bench->end, false, 4 << 20);
	if (side == ZH_SEND) {
		bench->file = kit_source(bench->arena, "file", SIZE);
	} else {
		bench->file = kit_open(bench->arena->root, "file", O_RDWR | O_CREAT | O_TRUNC);
		assert_int_equal(posix_fallocate(bench->file, 0, SIZE), 0);
	}
	bench->plan = kit_plan(side, bench->file, bench->end[0], extent, strategy, 65536, 0);
	channel_open(&bench->channel, side, bench->end[0], -1, KIT_STALL_MS);
	return strcmp(bench->plan.strategy, strategy) == 0;
}

static void bench_close(struct bench *bench)
{
	channel_close(&bench->channel);
	kit_close_pair(bench->end);
	close(bench->file);
}

static int bench_file(struct bench *bench)
{
	return channel_file(&bench->channel, bench->file, &bench->plan);
}

static int bench_move(struct bench *bench, uint64_t offset, uint64_t length)
{
	return channel_move(&bench->channel, (struct zh_extent){ offset, length }, 0, false, NULL);
}

static void check_received(struct bench *bench, uint64_t offset, uint64_t length)
{
	static uint8_t bytes[SIZE], expected[SIZE];

	assert_int_equal(kit_recv_all(bench->end[1], bytes, length), length);
	random_fill(expected, length, KIT_SEED, offset);
	assert_memory_equal(bytes, expected, length);
}

/* ------------------------------------------------------------------ demotions ------------------
 */

/* From the n-th call of a kind on the kernel refuses; the bytes do not show it. */
static void demote_sender(void **state, const char *strategy, enum sys_call call, uint64_t nth)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, call, EINVAL, nth, 0 };
	struct bench bench;
	struct zh_stats stats;
	char expected[80];

	assert_true(bench_open(&bench, state, ZH_SEND, strategy));
	assert_int_equal(bench_file(&bench), 0);
	sys_fault_arm(&fault);
	int r = bench_move(&bench, 0, 600000);
	sys_fault_arm(NULL);
	assert_int_equal(r, 0);
	check_received(&bench, 0, 600000);
	channel_stats(&bench.channel, &stats);
	assert_int_equal(stats.demotions, 1);
	(void)snprintf(expected, sizeof(expected), "%s -> copy: Invalid argument", strategy);
	assert_string_equal(stats.demotion, expected);
	assert_string_equal(stats.strategy, "copy");
	assert_int_equal(stats.bytes, 600000);
	assert_int_equal(bench.channel.failed, CHANNEL_END_NONE);
	/* a new file begins with its plan's strategy again */
	assert_int_equal(bench_file(&bench), 0);
	assert_int_equal(bench_move(&bench, 5, 100000), 0);
	check_received(&bench, 5, 100000);
	channel_stats(&bench.channel, &stats);
	assert_string_equal(stats.strategy, strategy);
	assert_int_equal(stats.demotions, 1);
	bench_close(&bench);
}

static void a_sender_that_is_refused_goes_on_by_copy_at_the_same_byte(void **state)
{
	demote_sender(state, "sendfile", SYS_SENDFILE, 1);
	demote_sender(state, "sendfile", SYS_SENDFILE, 4);
	demote_sender(state, "splice", SYS_SPLICE, 1);
	demote_sender(state, "splice", SYS_SPLICE, 2); /* with bytes in the pipe */
	demote_sender(state, "splice", SYS_SPLICE, 7);
}

/* Its fallback, sendfile, would not see the rest of what is being digested. */
static void what_is_digested_is_seen_to_its_end(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_PREAD, EINVAL, 3, 1 };
	static uint8_t expected[600000];
	struct digest got[1], of_all[1];
	struct leaf_run run;
	struct bench bench;

	if (!bench_open(&bench, state, ZH_SEND, "uring-direct")) {
		bench_close(&bench);
		SKIP("uring-direct is refused here");
	}
	assert_int_equal(leaf_run_init(&run), 0);
	assert_int_equal(bench_file(&bench), 0);
	leaf_run_begin(&run, 0, got, 1);
	sys_fault_arm(&fault);
	int r = channel_move(
		&bench.channel, (struct zh_extent){ 0, sizeof(expected) }, 0, false, &run);
	sys_fault_arm(NULL);
	assert_int_equal(r, 0);
	assert_int_equal(leaf_run_end(&run), 1);
	check_received(&bench, 0, sizeof(expected));
	random_fill(expected, sizeof(expected), KIT_SEED, 0);
	leaf_run_begin(&run, 0, of_all, 1);
	leaf_run_add(&run, expected, sizeof(expected));
	assert_int_equal(leaf_run_end(&run), 1);
	assert_memory_equal(got, of_all, sizeof(got));
	assert_string_equal(bench.channel.strategy->pub.name, "copy");
	assert_int_equal(bench.channel.stats.demotions, 1);
	leaf_run_fini(&run);
	bench_close(&bench);
}

/* Without a digest there is no reason to leave sendfile out. */
static void what_is_not_digested_takes_the_next_fallback(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_PREAD, EINVAL, 3, 1 };
	struct bench bench;

	if (!bench_open(&bench, state, ZH_SEND, "uring-direct")) {
		bench_close(&bench);
		SKIP("uring-direct is refused here");
	}
	assert_int_equal(bench_file(&bench), 0);
	sys_fault_arm(&fault);
	int r = bench_move(&bench, 0, 600000);
	sys_fault_arm(NULL);
	assert_int_equal(r, 0);
	check_received(&bench, 0, 600000);
	assert_string_equal(bench.channel.strategy->pub.name, "sendfile");
	bench_close(&bench);
}

static void a_demotion_is_refused_without_fallback(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_SENDFILE, EPERM, 2, 0 };
	struct bench bench;

	assert_true(bench_open(&bench, state, ZH_SEND, "sendfile"));
	bench.plan.no_fallback = 1;
	assert_int_equal(bench_file(&bench), 0);
	sys_fault_arm(&fault);
	int r = bench_move(&bench, 0, 600000);
	sys_fault_arm(NULL);
	assert_int_equal(r, -EPERM);
	assert_int_equal(bench.channel.stats.demotions, 0);
	assert_true(bench.channel.failed != CHANNEL_END_NONE);
	bench_close(&bench);
}

/* The last bytes of an extent are refused: no step is left to tell it. */
static void late_refusal(void **state, const char *strategy, enum sys_call call, bool no_fallback)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, call, EINVAL, call == SYS_SPLICE ? 2 : 1, 1 };
	struct bench bench;

	if (!bench_open(&bench, state, ZH_RECEIVE, strategy)) {
		bench_close(&bench);
		return;
	}
	bench.plan.no_fallback = no_fallback;
	assert_true(kit_send_random(bench.end[1], KIT_SEED, 0, 4096));
	if (bench_file(&bench) < 0 || bench.channel.stats.demotions > 0) {
		assert_true(kit_memlock_is_scarce());
		bench_close(&bench);
		return;
	}
	sys_fault_arm(&fault);
	int moved = bench_move(&bench, 0, 4096);
	int settled = moved == 0 ? channel_settle(&bench.channel) : 0;
	assert_int_equal(sys_fault_struck(), 1);
	sys_fault_arm(NULL);
	if (no_fallback) {
		assert_true(moved == -EINVAL || settled == -EINVAL);
		assert_int_equal(bench.channel.failed, CHANNEL_END_FILE);
		assert_int_equal(bench.channel.stats.demotions, 0);
	} else {
		assert_int_equal(moved, 0);
		assert_int_equal(settled, 0);
		assert_true(kit_is_at(bench.file, 0, 4096, KIT_SEED, 0));
		assert_int_equal(bench.channel.stats.demotions, 1);
		assert_true(strncmp(bench.channel.stats.demotion, strategy, strlen(strategy)) == 0);
	}
	bench_close(&bench);
}

static void a_refusal_of_the_last_bytes_is_told_when_settling(void **state)
{
	for (int no_fallback = 0; no_fallback < 2; no_fallback++) {
		late_refusal(state, "splice", SYS_SPLICE, no_fallback);
		late_refusal(state, "uring-direct", SYS_PWRITE, no_fallback);
		late_refusal(state, "uring-direct", SYS_OPEN, no_fallback);
	}
}

static void a_receiver_falls_back_as_often_as_it_must(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_PIPE, ENOSYS, 1, 0 };
	struct bench bench;

	if (!bench_open(&bench, state, ZH_RECEIVE, "uring-direct")) {
		bench_close(&bench);
		SKIP("uring-direct is refused here");
	}
	/* no direct descriptor, and no pipe for splice either */
	struct sys_fault no_open = { SYS_FAULT_ERRNO, SYS_OPEN, EOPNOTSUPP, 1, 0 };
	assert_true(kit_send_random(bench.end[1], KIT_SEED, 0, 200000));
	if (bench_file(&bench) < 0 || bench.channel.stats.demotions > 0) {
		bench_close(&bench);
		SKIP("locked memory is scarce");
	}
	sys_fault_arm(&no_open);
	int r = bench_move(&bench, 0, 200000);
	sys_fault_arm(NULL);
	assert_int_equal(r, 0);
	assert_string_equal(
		bench.channel.stats.demotion, "direct -> splice: Operation not supported");
	assert_int_equal(bench.channel.stats.demotions, 2); /* from uring-direct, by direct */
	assert_true(random_is(bench.file, SIZE, KIT_SEED) == false);
	assert_true(kit_is_at(bench.file, 0, 200000, KIT_SEED, 0));
	bench_close(&bench);

	assert_true(bench_open(&bench, state, ZH_RECEIVE, "splice"));
	assert_true(kit_send_random(bench.end[1], KIT_SEED, 0, 200000));
	sys_fault_arm(&fault);
	assert_int_equal(bench_file(&bench), 0);
	sys_fault_arm(NULL);
	assert_int_equal(bench_move(&bench, 0, 200000), 0);
	assert_string_equal(
		bench.channel.stats.demotion, "splice -> copy: Function not implemented");
	assert_true(kit_is_at(bench.file, 0, 200000, KIT_SEED, 0));
	bench_close(&bench);
}

/* Less memory may be locked than the plan has blocks for. */
static void a_ring_that_may_lock_less_has_a_shallower_queue(void **state)
{
	static const struct {
		enum zh_side side;
		const char *strategy;
	} rows[] = { { ZH_SEND, "uring-copy" }, { ZH_RECEIVE, "uring-direct" } };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (uint64_t refusals = 0; refusals < 4; refusals++) {
			struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_URING_ENTER, ENOMEM, 2,
				refusals };
			struct bench bench;
			if (!bench_open(&bench, state, rows[i].side, rows[i].strategy)) {
				bench_close(&bench);
				SKIP("io_uring is refused here");
			}
			uint32_t depth = bench.plan.depth >> refusals;
			if (refusals > 0)
				sys_fault_arm(&fault); /* the first call is the set-up */
			assert_int_equal(bench_file(&bench), 0);
			sys_fault_arm(NULL);
			if (bench.channel.stats.demotions > 0 && !kit_memlock_is_scarce())
				assert_true(depth < 2);
			if (bench.channel.stats.demotions == 0 && !kit_memlock_is_scarce())
				assert_int_equal(bench.channel.stats.depth, depth);
			assert_true(kit_send_random(bench.end[1], KIT_SEED, 0, 300000));
			assert_int_equal(bench_move(&bench, 0, 300000), 0);
			assert_int_equal(channel_settle(&bench.channel), 0);
			if (rows[i].side == ZH_SEND)
				check_received(&bench, 0, 300000);
			else
				assert_true(kit_is_at(bench.file, 0, 300000, KIT_SEED, 0));
			bench_close(&bench);
		}
}

/* ------------------------------------------------------------------ errors ---------------------
 */

/* By itself -EAGAIN would mean that the socket has to be waited for, and the bytes were lost. */
static void a_file_that_says_try_again_has_failed(void **state)
{
	static const struct {
		enum zh_side side;
		const char *strategy;
		enum sys_call call;
		uint64_t nth;
	} rows[] = {
		{ ZH_SEND, "copy", SYS_PREAD, 1 },
		{ ZH_SEND, "splice", SYS_SPLICE, 1 },
		{ ZH_RECEIVE, "copy", SYS_PWRITE, 1 },
		{ ZH_RECEIVE, "splice", SYS_SPLICE, 2 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sys_fault fault = { SYS_FAULT_ERRNO, rows[i].call, EAGAIN, rows[i].nth, 1 };
		struct bench bench;
		assert_true(bench_open(&bench, state, rows[i].side, rows[i].strategy));
		assert_int_equal(bench_file(&bench), 0);
		assert_true(kit_send_random(bench.end[1], KIT_SEED, 0, 300000));
		sys_fault_arm(&fault);
		int r = bench_move(&bench, 0, 300000);
		sys_fault_arm(NULL);
		assert_int_equal(r, -EIO);
		assert_int_equal(bench.channel.failed, CHANNEL_END_FILE);
		bench_close(&bench);
	}
}

/* The bytes are in a pipe, the file will not have them from there, nor in any other way. */
static void a_rescue_that_fails_names_the_file(void **state)
{
	static const enum sys_call second[] = { SYS_READ, SYS_PWRITE };

	for (size_t i = 0; i < ARRAY_LEN(second); i++) {
		struct bench bench;
		assert_true(bench_open(&bench, state, ZH_RECEIVE, "splice"));
		/* a descriptor that cannot be written to refuses both ways */
		int sealed = i == 0 ? bench.file : kit_open(bench.arena->root, "file", O_RDONLY);
		assert_int_equal(channel_file(&bench.channel, sealed, &bench.plan), 0);
		assert_true(kit_send_random(bench.end[1], KIT_SEED, 0, 4096));
		struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_CALL_COUNT, EPERM, 2, 0 };
		sys_fault_arm(&fault); /* socket to pipe works, nothing after it */
		int r = bench_move(&bench, 0, 4096);
		sys_fault_arm(NULL);
		assert_int_equal(r, -EPERM);
		assert_int_equal(bench.channel.failed, CHANNEL_END_FILE);
		assert_int_equal(bench.channel.offset, 4096); /* off the socket all the same */
		assert_int_equal(channel_settle(&bench.channel), 0);
		if (sealed != bench.file)
			close(sealed);
		bench_close(&bench);
	}
}

static void a_socket_that_is_ready_and_takes_nothing_is_a_stall(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_SEND, EAGAIN, 1, 0 };
	struct bench bench;

	assert_true(bench_open(&bench, state, ZH_SEND, "copy"));
	bench.channel.stall_ms = 100;
	assert_int_equal(bench_file(&bench), 0);
	sys_fault_arm(&fault);
	uint64_t start = clock_now_ns();
	int r = bench_move(&bench, 0, 4096);
	sys_fault_arm(NULL);
	assert_int_equal(r, -ETIMEDOUT);
	assert_int_equal(bench.channel.failed, CHANNEL_END_SOCKET);
	assert_true(clock_now_ns() - start < 5 * (uint64_t)NS_PER_S);
	bench_close(&bench);
}

/* ------------------------------------------------------------------ filling and skipping -------
 */

static void zeros_fill_and_skipping_discards(void **state)
{
	static uint8_t bytes[300001], zeros[300001];
	struct bench bench;
	struct channel other;

	assert_true(bench_open(&bench, state, ZH_SEND, "copy"));
	assert_int_equal(bench_file(&bench), 0);
	assert_int_equal(bench_move(&bench, 0, 1000), 0);
	assert_int_equal(channel_zero(&bench.channel, sizeof(zeros)), 0);
	assert_int_equal(bench_move(&bench, 1000, 1000), 0);
	check_received(&bench, 0, 1000);
	assert_int_equal(kit_recv_all(bench.end[1], bytes, sizeof(bytes)), sizeof(bytes));
	assert_memory_equal(bytes, zeros, sizeof(zeros));
	check_received(&bench, 1000, 1000);

	channel_open(&other, ZH_RECEIVE, bench.end[1], -1, 200);
	assert_int_equal(bench_move(&bench, 0, 400000), 0);
	assert_int_equal(channel_skip(&other, 300000), 0);
	check_received(&bench, 300000, 100000);
	assert_int_equal(channel_skip(&other, 1), -ETIMEDOUT); /* nothing comes */
	assert_int_equal(other.failed, CHANNEL_END_SOCKET);
	assert_int_equal(shutdown(bench.end[0], SHUT_WR), 0);
	assert_int_equal(channel_skip(&other, 1), -ECONNRESET);
	assert_int_equal(channel_zero(&bench.channel, 1), -EPIPE);
	channel_close(&other);
	bench_close(&bench);
}

static void a_full_socket_stalls_the_filling_too(void **state)
{
	struct bench bench;

	assert_true(bench_open(&bench, state, ZH_SEND, "copy"));
	bench.channel.stall_ms = 100;
	assert_int_equal(channel_zero(&bench.channel, GIB), -ETIMEDOUT);
	bench_close(&bench);
}

/* ------------------------------------------------------------------ the rest -------------------
 */

static void settling_what_holds_nothing_is_fine(void **state)
{
	struct bench bench;

	assert_true(bench_open(&bench, state, ZH_SEND, "copy"));
	assert_int_equal(channel_settle(&bench.channel), 0); /* no file yet */
	assert_int_equal(bench_file(&bench), 0);
	assert_int_equal(channel_settle(&bench.channel), 0);
	assert_int_equal(channel_settle(&bench.channel), 0);
	channel_close(&bench.channel);
	bench_close(&bench); /* twice is fine */
}

static void a_cork_is_off_again_after_each_extent(void **state)
{
	const struct zh_strategy *tx;
	struct zh_tcp tcp;

	for (size_t i = 0; (tx = kit_strategy(ZH_SEND, i)); i++) {
		struct bench bench;
		(void)bench_open(&bench, state, ZH_SEND, tx->name);
		bench.channel.nagle = ZH_NAGLE_CORK;
		assert_int_equal(bench_file(&bench), 0);
		sys_calls[SYS_SETSOCKOPT] = 0;
		assert_int_equal(bench_move(&bench, 0, 100001), 0);
		assert_int_equal(sys_calls[SYS_SETSOCKOPT], 2);
		assert_int_equal(getsockopt(bench.end[0], IPPROTO_TCP, TCP_CORK, &tcp.cork,
					 &(socklen_t){ sizeof(tcp.cork) }),
			0);
		assert_int_equal(tcp.cork, 0);
		check_received(&bench, 0, 100001);
		bench_close(&bench);
	}
}

static void time_is_booked_where_it_was_spent(void **state)
{
	struct bench bench;
	struct zh_stats stats;

	assert_true(bench_open(&bench, state, ZH_RECEIVE, "copy"));
	bench.channel.stall_ms = 50;
	assert_int_equal(bench_file(&bench), 0);
	(void)usleep(30000);
	channel_note_idle(&bench.channel, 30 * NS_PER_MS);
	assert_int_equal(bench_move(&bench, 0, 1), -ETIMEDOUT);
	channel_note_wait(&bench.channel, CHANNEL_WAIT_SPACE, 1);
	channel_stats(&bench.channel, &stats);
	assert_int_equal(stats.wait_space_ns, 1);
	assert_in_range(stats.wait_data_ns, 49 * NS_PER_MS, 500 * NS_PER_MS);
	assert_true(stats.elapsed_ns >= stats.wait_data_ns);
	assert_true(stats.agains >= 1);
	assert_int_equal(stats.bytes, 0);
	bench_close(&bench);
}

static void a_delay_that_cannot_be_read_is_not_an_age(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_OPEN, EMFILE, 1, 0 };
	struct bench bench;
	struct zh_stats stats;

	assert_true(bench_open(&bench, state, ZH_SEND, "copy"));
	bench.channel.run_delay_start_ns += 1000; /* as if the thread had waited before */
	sys_fault_arm(&fault);
	channel_stats(&bench.channel, &stats);
	sys_fault_arm(NULL);
	assert_true(stats.wait_run_ns <= stats.elapsed_ns);
	bench_close(&bench);
}

static void closing_returns_every_descriptor(void **state)
{
	struct arena *a = arena_of(state);
	const struct zh_strategy *s;

	for (size_t i = 0; (s = zh_strategy_at(i)); i++) {
		size_t fds = fd_count();
		struct bench bench;
		(void)bench_open(&bench, state, (enum zh_side)s->side, s->name);
		assert_int_equal(bench_file(&bench), 0);
		assert_true(kit_send_random(bench.end[1], KIT_SEED, 0, 100000));
		assert_int_equal(bench_move(&bench, 0, 100000), 0);
		bench_close(&bench); /* without settling: writes may be in flight */
		assert_int_equal(fd_count(), fds);
	}
	(void)a;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_sender_that_is_refused_goes_on_by_copy_at_the_same_byte),
		ARENA_TEST(what_is_digested_is_seen_to_its_end),
		ARENA_TEST(what_is_not_digested_takes_the_next_fallback),
		ARENA_TEST(a_demotion_is_refused_without_fallback),
		ARENA_TEST(a_refusal_of_the_last_bytes_is_told_when_settling),
		ARENA_TEST(a_receiver_falls_back_as_often_as_it_must),
		ARENA_TEST(a_ring_that_may_lock_less_has_a_shallower_queue),
		ARENA_TEST(a_file_that_says_try_again_has_failed),
		ARENA_TEST(a_rescue_that_fails_names_the_file),
		ARENA_TEST(a_socket_that_is_ready_and_takes_nothing_is_a_stall),
		ARENA_TEST(zeros_fill_and_skipping_discards),
		ARENA_TEST(a_full_socket_stalls_the_filling_too),
		ARENA_TEST(settling_what_holds_nothing_is_fine),
		ARENA_TEST(a_cork_is_off_again_after_each_extent),
		ARENA_TEST(time_is_booked_where_it_was_spent),
		ARENA_TEST(a_delay_that_cannot_be_read_is_not_an_age),
		ARENA_TEST(closing_returns_every_descriptor),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return RUN_TESTS("channel", tests);
}
