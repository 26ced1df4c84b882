/* SPDX-License-Identifier: Apache-2.0 */
/* unit.h - what each unit test needs: cmocka behind the headers it wants, and a few checks. */
#ifndef ZH_TESTS_UNIT_H
#define ZH_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A copy with not a byte of room behind it, so that a sanitizer sees any read past the end. */
static inline void *exact_copy(const void *bytes, size_t length)
{
	void *copy = malloc(length ? length : 1);

	assert_non_null(copy);
	if (length > 0)
		memcpy(copy, bytes, length);
	return copy;
}

static inline size_t open_descriptors(void)
{
	size_t count = 0;
	DIR *dir = opendir("/proc/self/fd");

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Runs body in a child that must end by abort(), as CHECK makes it. */
static inline void assert_stops_the_program(void (*body)(void))
{
	int status = 0;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		(void)signal(
			SIGABRT, SIG_DFL); /* cmocka's handler would go on with the next test */
		close(STDERR_FILENO);
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

#endif
