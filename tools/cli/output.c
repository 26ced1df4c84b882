/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output.c - stdout writes by a function of ours, because stdio remembers of a write that failed
 * between two calls only that there was one: the errno is gone when somebody asks.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "output.h"

static int failed; /* errno of the first failure, 0: none */

static ssize_t output_write(void *cookie, const char *bytes, size_t count)
{
	size_t done = 0;

	(void)cookie;
	while (done < count) {
		ssize_t written = write(STDOUT_FILENO, bytes + done, count - done);
		if (written < 0) {
			failed = failed ? failed : errno;
			return 0; /* how such a function says that it failed */
		}
		done += (size_t)written;
	}
	return (ssize_t)done;
}

void output_open(void)
{
	const cookie_io_functions_t functions = { .write = output_write };
	FILE *out = fopencookie(NULL, "w", functions);

	if (!out)
		return;
	if (isatty(STDOUT_FILENO))
		setvbuf(out, NULL, _IOLBF, BUFSIZ);
	stdout = out;
}

int output_close(void)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	if (!failed)
		failed = errno ? errno : EIO;
	return failed;
}
