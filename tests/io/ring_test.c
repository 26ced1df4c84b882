/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_test.c - io_uring by the engine's own names: set-up, each operation, what is in flight, and
 * the seam that makes operations fail without happening.
 */
#include "move_kit.h"

#include "kernel/ring.h"

#include <linux/io_uring.h>

#define WAIT_MS 10000

/* A ring, or the test is skipped: then the reason is one that callers know how to live with. */
static struct ring *ring_or_skip(unsigned entries)
{
	struct ring *ring = NULL;
	int r = ring_open(entries, &ring);

	if (r < 0) {
		assert_true(r == -EPERM || r == -ENOSYS || r == -EACCES || r == -ENOMEM);
		assert_null(ring);
		SKIP("io_uring is refused here");
	}
	assert_non_null(ring);
	return ring;
}

/* Waits for exactly one event. */
static struct ring_event one_event(struct ring *ring)
{
	struct ring_event event[2];
	size_t count = ring_reap(ring, event, 2);

	while (count == 0) {
		assert_int_equal(ring_wait(ring, WAIT_MS), 0);
		count = ring_reap(ring, event, 2);
	}
	assert_int_equal(count, 1);
	return event[0];
}

static int temporary_file(struct arena *a)
{
	return kit_open(a->root, "file", O_RDWR | O_CREAT | O_TRUNC);
}

static void a_ring_opens_and_closes_without_a_trace(void **state)
{
	size_t fds = fd_count();

	(void)state;
	for (unsigned entries = 1; entries <= 64; entries *= 2) {
		struct ring *ring = ring_or_skip(entries);
		assert_int_equal(ring_in_flight(ring), 0);
		assert_true(ring_supports(ring, IORING_OP_READ));
		assert_false(ring_supports(ring, 250));
		ring_close(ring);
	}
	ring_close(NULL);
	assert_int_equal(fd_count(), fds);
}

static void older_kernels_get_older_flags(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_URING_ENTER, EINVAL, 1, 1 };
	unsigned last = UINT32_MAX;
	struct ring *ring;

	(void)state;
	ring_close(ring_or_skip(4));
	for (fault.times = 1; fault.times <= 3; fault.times++) {
		sys_fault_arm(&fault);
		assert_int_equal(ring_open(4, &ring), 0);
		sys_fault_arm(NULL);
		assert_true(ring_setup_flags(ring) != last);
		last = ring_setup_flags(ring);
		ring_close(ring);
	}
	assert_int_equal(last, 0);
	fault.times = 0;
	sys_fault_arm(&fault);
	assert_int_equal(ring_open(4, &ring), -EINVAL);
	sys_fault_arm(NULL);
}

static void a_refusal_is_passed_on(void **state)
{
	static const int errors[] = { ENOSYS, EPERM, EACCES, ENOMEM, EMFILE };
	size_t fds = fd_count();
	struct ring *ring;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_URING_ENTER, errors[i], 1, 0 };
		sys_fault_arm(&fault);
		int r = ring_open(4, &ring);
		assert_int_equal(sys_fault_struck(), 1); /* it is not tried again */
		sys_fault_arm(NULL);
		assert_int_equal(r, -errors[i]);
	}
	assert_int_equal(fd_count(), fds);
}

static void reads_and_writes_move_bytes_with_and_without_registering(void **state)
{
	struct arena *a = arena_of(state);
	struct ring *ring = ring_or_skip(4);
	static uint8_t memory[2][8192] __attribute__((aligned(4096)));
	struct iovec buffers[] = { { memory[0], 8192 }, { memory[1], 8192 } };
	int fd = temporary_file(a);

	int r = ring_register(ring, buffers, 2);
	if (r == -ENOMEM) {
		ring_close(ring);
		close(fd);
		SKIP("no memory may be locked");
	}
	assert_int_equal(r, 0);
	for (int fixed = -1; fixed < 2; fixed++) {
		random_fill(memory[0], 8192, 5, (uint64_t)(fixed + 1) * 8192);
		uint8_t *from = memory[fixed == 1];
		memmove(from, memory[0], 8192);
		ring_write(ring, fd, from + 100, 5000, 777, fixed, 41);
		assert_int_equal(ring_in_flight(ring), 1);
		struct ring_event event = one_event(ring);
		assert_int_equal(event.token, 41);
		assert_int_equal(event.result, 5000);
		assert_int_equal(event.flags, 0);
		assert_int_equal(ring_in_flight(ring), 0);
		memset(memory, 0, sizeof(memory));
		ring_read(ring, fd, from, 8192, 777, fixed, 42);
		event = one_event(ring);
		assert_int_equal(event.token, 42);
		assert_int_equal(event.result, 5000); /* the file ends there */
		uint8_t expected[5000];
		random_fill(expected, 5000, 5, (uint64_t)(fixed + 1) * 8192 + 100);
		assert_memory_equal(from, expected, 5000);
	}
	ring_read(ring, fd, memory[0], 10, 5777, -1, 1);
	assert_int_equal(one_event(ring).result, 0); /* at the end */
	ring_read(ring, -1, memory[0], 10, 0, -1, 2);
	assert_int_equal(one_event(ring).result, -EBADF);
	ring_close(ring);
	close(fd);
}

static void more_operations_than_entries_are_all_done(void **state)
{
	struct arena *a = arena_of(state);
	struct ring *ring = ring_or_skip(2);
	uint8_t byte[8] = { 0 }, seen[8] = { 0 };
	struct ring_event event[8];
	int fd = temporary_file(a);
	size_t done = 0;

	assert_int_equal(write(fd, "abcdefgh", 8), 8);
	for (uint64_t i = 0; i < 8; i++)
		ring_read(ring, fd, &byte[i], 1, i, -1, i);
	assert_int_equal(ring_in_flight(ring), 8);
	while (done < 8) {
		assert_int_equal(ring_wait(ring, WAIT_MS), 0);
		size_t count = ring_reap(ring, event, 3); /* the rest is kept for the next time */
		assert_true(count <= 3);
		for (size_t i = 0; i < count; i++) {
			assert_int_equal(event[i].result, 1);
			seen[event[i].token]++;
		}
		done += count;
		assert_int_equal(ring_in_flight(ring), 8 - done);
	}
	assert_memory_equal(byte, "abcdefgh", 8);
	for (int i = 0; i < 8; i++)
		assert_int_equal(seen[i], 1);
	ring_close(ring);
	close(fd);
}

static void a_wait_ends_when_its_time_is_over(void **state)
{
	struct ring *ring = ring_or_skip(4);
	struct ring_event event;
	int end[2];
	char byte;

	(void)state;
	kit_unix_pair(end);
	assert_int_equal(ring_wait(ring, 10), -ETIME);
	ring_recv(ring, end[0], &byte, 1, 0, 7);
	assert_int_equal(ring_wait(ring, 10), -ETIME);
	assert_int_equal(ring_reap(ring, &event, 1), 0);
	assert_int_equal(ring_in_flight(ring), 1);
	assert_int_equal(write(end[1], "x", 1), 1);
	event = one_event(ring);
	assert_int_equal(event.token, 7);
	assert_int_equal(event.result, 1);
	assert_int_equal(byte, 'x');
	ring_close(ring);
	kit_close_pair(end);
}

static void a_receive_that_waits_for_all_gets_all_or_the_end(void **state)
{
	struct ring *ring = ring_or_skip(4);
	char text[12] = { 0 };
	int end[2];

	(void)state;
	kit_tcp_pair(end, false);
	ring_recv(ring, end[0], text, 8, MSG_WAITALL, 1);
	assert_int_equal(ring_submit(ring), 0);
	assert_int_equal(write(end[1], "half", 4), 4);
	assert_int_equal(ring_wait(ring, 20), -ETIME);
	assert_int_equal(write(end[1], "full", 4), 4);
	assert_int_equal(one_event(ring).result, 8);
	assert_string_equal(text, "halffull");
	ring_recv(ring, end[0], text, 8, MSG_WAITALL, 2);
	assert_int_equal(write(end[1], "end", 3), 3);
	close(end[1]);
	assert_int_equal(one_event(ring).result, 3);
	ring_recv(ring, end[0], text, 8, MSG_WAITALL, 3);
	assert_int_equal(one_event(ring).result, 0);
	ring_close(ring);
	close(end[0]);
}

static void a_send_reaches_the_peer_and_a_dead_one_is_told_without_a_signal(void **state)
{
	struct ring *ring = ring_or_skip(4);
	char text[6] = { 0 };
	int end[2];

	(void)state;
	kit_tcp_pair(end, false);
	ring_send(ring, end[0], "hello", 6, MSG_WAITALL, 1);
	assert_int_equal(one_event(ring).result, 6);
	assert_int_equal(kit_recv_all(end[1], text, 6), 6);
	assert_string_equal(text, "hello");
	assert_int_equal(shutdown(end[0], SHUT_WR), 0);
	ring_send(ring, end[0], "hello", 6, MSG_WAITALL, 2);
	assert_int_equal(one_event(ring).result, -EPIPE); /* SIGPIPE would have ended the test */
	ring_close(ring);
	kit_close_pair(end);
}

static void a_poll_tells_when_there_is_something(void **state)
{
	struct ring *ring = ring_or_skip(4);
	int end[2];

	(void)state;
	kit_unix_pair(end);
	ring_poll(ring, end[0], POLLIN, 5);
	assert_int_equal(ring_wait(ring, 10), -ETIME);
	assert_int_equal(write(end[1], "x", 1), 1);
	struct ring_event event = one_event(ring);
	assert_int_equal(event.token, 5);
	assert_true(event.result & POLLIN);
	ring_close(ring);
	kit_close_pair(end);
}

static void a_cancelled_operation_ends_and_both_are_told(void **state)
{
	struct ring *ring = ring_or_skip(4);
	struct ring_event event;
	bool told[3] = { false };
	int end[2];
	char byte;

	(void)state;
	kit_unix_pair(end);
	ring_recv(ring, end[0], &byte, 1, 0, 1);
	assert_int_equal(ring_submit(ring), 0);
	ring_cancel(ring, 1, 2);
	assert_int_equal(ring_in_flight(ring), 2);
	while (ring_in_flight(ring) > 0) {
		assert_int_equal(ring_wait(ring, WAIT_MS), 0);
		while (ring_reap(ring, &event, 1) == 1) {
			told[event.token] = true;
			assert_int_equal(event.result, event.token == 1 ? -ECANCELED : 0);
		}
	}
	assert_true(told[1] && told[2]);
	ring_cancel(ring, 99, 2);
	assert_int_equal(one_event(ring).result, -ENOENT);
	ring_close(ring);
	kit_close_pair(end);
}

static void an_operation_made_to_fail_has_not_happened(void **state)
{
	struct arena *a = arena_of(state);
	struct ring *ring = ring_or_skip(4);
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_PWRITE, ENOSPC, 2, 1 };
	int fd = temporary_file(a);
	struct stat st;

	sys_fault_arm(&fault);
	ring_write(ring, fd, "first", 5, 0, -1, 1);
	assert_int_equal(one_event(ring).result, 5);
	ring_write(ring, fd, "second", 6, 5, -1, 2);
	struct ring_event event = one_event(ring);
	assert_int_equal(event.token, 2);
	assert_int_equal(event.result, -ENOSPC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 5);
	ring_write(ring, fd, "third", 5, 5, -1, 2); /* the same token works again */
	assert_int_equal(one_event(ring).result, 5);
	fault = (struct sys_fault){ SYS_FAULT_SHORT, SYS_PWRITE, 0, 1, 1 };
	sys_fault_arm(&fault);
	ring_write(ring, fd, "fourth", 6, 10, -1, 3);
	assert_int_equal(one_event(ring).result, 3);
	fault = (struct sys_fault){ SYS_FAULT_EINTR, SYS_PREAD, 0, 1, 1 };
	sys_fault_arm(&fault);
	char text[16];
	ring_read(ring, fd, text, sizeof(text), 0, -1, 4);
	assert_int_equal(one_event(ring).result, -EINTR);
	sys_fault_arm(NULL);
	ring_read(ring, fd, text, sizeof(text), 0, -1, 5);
	assert_int_equal(one_event(ring).result, 13);
	assert_memory_equal(text, "firstthirdfou", 13);
	ring_close(ring);
	close(fd);
}

static void registering_can_be_refused(void **state)
{
	struct ring *ring = ring_or_skip(4);
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_URING_ENTER, ENOMEM, 1, 1 };
	static uint8_t memory[4096] __attribute__((aligned(4096)));
	struct iovec good = { memory, sizeof(memory) }, bad = { NULL, 4096 };

	(void)state;
	sys_fault_arm(&fault);
	assert_int_equal(ring_register(ring, &good, 1), -ENOMEM);
	sys_fault_arm(NULL);
	assert_true(ring_register(ring, &bad, 1) < 0 || geteuid() != 0);
	ring_close(ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ring_opens_and_closes_without_a_trace),
		cmocka_unit_test(older_kernels_get_older_flags),
		cmocka_unit_test(a_refusal_is_passed_on),
		ARENA_TEST(reads_and_writes_move_bytes_with_and_without_registering),
		ARENA_TEST(more_operations_than_entries_are_all_done),
		cmocka_unit_test(a_wait_ends_when_its_time_is_over),
		cmocka_unit_test(a_receive_that_waits_for_all_gets_all_or_the_end),
		cmocka_unit_test(a_send_reaches_the_peer_and_a_dead_one_is_told_without_a_signal),
		cmocka_unit_test(a_poll_tells_when_there_is_something),
		cmocka_unit_test(a_cancelled_operation_ends_and_both_are_told),
		ARENA_TEST(an_operation_made_to_fail_has_not_happened),
		cmocka_unit_test(registering_can_be_refused),
	};

	return RUN_TESTS("ring", tests);
}
