/* SPDX-License-Identifier: Apache-2.0 */
/* pipe_test.c - the pipe that splice uses: its size as granted, emptying, and failing to open. */
#include "move_kit.h"

#include "kernel/pipe.h"

static void a_pipe_has_the_size_that_the_kernel_grants(void **state)
{
	static const uint32_t wishes[] = { 4096, 65536, 65537, 1 << 20 };
	struct pipe pipe;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(wishes); i++) {
		assert_int_equal(pipe_open(&pipe, wishes[i]), 0);
		assert_int_equal(pipe.size_bytes, fcntl(pipe.out, F_GETPIPE_SZ));
		assert_int_equal(pipe.held_bytes, 0);
		assert_true(pipe.opened);
		assert_int_equal(fcntl(pipe.in, F_GETFD), FD_CLOEXEC);
		assert_int_equal(fcntl(pipe.out, F_GETFD), FD_CLOEXEC);
		assert_true(fcntl(pipe.in, F_GETFL) & O_NONBLOCK);
		pipe_close(&pipe);
	}
}

static void a_pipe_larger_than_granted_is_still_a_pipe(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_FCNTL, EPERM, 1, 1 };
	struct pipe pipe;

	(void)state;
	assert_int_equal(pipe_open(&pipe, 1u << 31), 0); /* more than anybody gets */
	assert_true(pipe.size_bytes >= 4096 && pipe.size_bytes < 1u << 31);
	pipe_close(&pipe);
	sys_fault_arm(&fault); /* past the soft limit of its user */
	assert_int_equal(pipe_open(&pipe, 1 << 20), 0);
	sys_fault_arm(NULL);
	assert_int_equal(pipe.size_bytes, fcntl(pipe.in, F_GETPIPE_SZ));
	pipe_close(&pipe);
}

static void emptying_throws_away_what_it_holds(void **state)
{
	struct pipe pipe;
	char byte;

	(void)state;
	assert_int_equal(pipe_open(&pipe, 65536), 0);
	assert_int_equal(pipe_empty(&pipe), 0); /* nothing to do, and nothing done */
	assert_int_equal(write(pipe.in, "old", 3), 3);
	pipe.held_bytes = 3;
	assert_int_equal(pipe_empty(&pipe), 0);
	assert_int_equal(pipe.held_bytes, 0);
	assert_int_equal(pipe.size_bytes, 65536);
	assert_int_equal(read(pipe.out, &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
	pipe_close(&pipe);
}

static void emptying_that_fails_leaves_no_descriptor_to_mistake(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_PIPE, EMFILE, 1, 1 };
	size_t fds = fd_count();
	struct pipe pipe;

	(void)state;
	assert_int_equal(pipe_open(&pipe, 65536), 0);
	pipe.held_bytes = 1;
	sys_fault_arm(&fault);
	assert_int_equal(pipe_empty(&pipe), -EMFILE);
	sys_fault_arm(NULL);
	assert_false(pipe.opened);
	assert_int_equal(pipe.in, -1);
	assert_int_equal(pipe.out, -1);
	assert_int_equal(fd_count(), fds);
	assert_int_equal(pipe_empty(&pipe), 0); /* tried again, because it still held bytes */
	assert_true(pipe.opened && pipe.held_bytes == 0);
	pipe_close(&pipe);
	pipe_close(&pipe);
	assert_int_equal(fd_count(), fds);
}

static void an_open_that_fails_keeps_nothing(void **state)
{
	static const enum sys_call calls[] = { SYS_PIPE, SYS_FCNTL };
	size_t fds = fd_count();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		struct sys_fault fault = { SYS_FAULT_ERRNO, calls[i], ENFILE, 1, 0 };
		struct pipe pipe = { 0 };
		sys_fault_arm(&fault);
		assert_int_equal(pipe_open(&pipe, 65536), -ENFILE);
		sys_fault_arm(NULL);
		pipe_close(&pipe);
		assert_int_equal(fd_count(), fds);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pipe_has_the_size_that_the_kernel_grants),
		cmocka_unit_test(a_pipe_larger_than_granted_is_still_a_pipe),
		cmocka_unit_test(emptying_throws_away_what_it_holds),
		cmocka_unit_test(emptying_that_fails_leaves_no_descriptor_to_mistake),
		cmocka_unit_test(an_open_that_fails_keeps_nothing),
	};

	return RUN_TESTS("pipe", tests);
}
