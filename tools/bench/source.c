/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - the file that is sent, and the numbers that it is made of. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "../cli/regular.h"
#include "../cli/say.h"

static uint64_t block[(1 << 20) / sizeof(uint64_t)];

/* splitmix64 */
uint64_t random_next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Returns 0 or a positive errno. Nothing is left to be written back, which would disturb a trial.
 */
static int fill(int fd, uint64_t bytes, uint64_t seed, const _Atomic bool *stopped)
{
	while (bytes && !atomic_load(stopped)) {
		for (size_t i = 0; i < sizeof(block) / sizeof(block[0]); i++)
			block[i] = random_next(&seed);
		const ssize_t written =
			write(fd, block, bytes < sizeof(block) ? (size_t)bytes : sizeof(block));
		if (written < 0 && errno != EINTR)
			return errno;
		bytes -= written < 0 ? 0 : (uint64_t)written;
	}
	return fsync(fd) < 0 ? errno : 0;
}

static int make(uint64_t bytes, uint64_t seed, const _Atomic bool *stopped, struct source *source)
{
	const char *directory = getenv("TMPDIR");
	char path[sizeof(source->made)];

	if (!directory || !*directory)
		directory = "/var/tmp";
	const int length = snprintf(path, sizeof(path), "%s/zerohaul-bench.XXXXXX", directory);
	if (length < 0 || (size_t)length >= sizeof(path))
		return say_error(ZH_CONFIG, "the name in TMPDIR is too long [%s]",
			zh_outcome_name(ZH_CONFIG));
	const int fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return say_file(ZH_CONFIG, directory, strerror(errno));
	memcpy(source->made, path, sizeof(path));
	int error = fill(fd, bytes, seed, stopped);
	if (close(fd) < 0 && !error)
		error = errno;
	return error ? say_file(outcome_of_errno(error), path, strerror(error)) : ZH_OK;
}

static void read_all(const struct source *source, const _Atomic bool *stopped)
{
	ssize_t got = 1;

	for (uint64_t at = 0; got > 0 && !atomic_load(stopped); at += (uint64_t)got)
		got = pread(source->fd, block, sizeof(block), (off_t)at);
	/* What cannot be read is for the transfer to tell. */
}

int bench_source_open(const char *path, uint64_t bytes, uint64_t seed, const _Atomic bool *stopped,
	struct source *ret_source)
{
	struct source *source = ret_source;
	int outcome = path ? ZH_OK : make(bytes, seed, stopped, source);

	if (outcome != ZH_OK)
		return outcome;
	source->path = path ? path : source->made;
	outcome = regular_open(source->path, O_RDONLY, &source->fd, &source->bytes);
	if (outcome != ZH_OK)
		return outcome;
	if (source->bytes == 0)
		return say_file(ZH_USAGE, source->path, "is empty");
	read_all(source, stopped);
	return ZH_OK;
}

void bench_source_warm(const struct source *source)
{
	(void)posix_fadvise(source->fd, 0, 0, POSIX_FADV_WILLNEED);
}

void bench_source_close(struct source *source)
{
	if (source->fd >= 0)
		close(source->fd);
	source->fd = -1;
	if (source->made[0])
		unlink(source->made);
	source->made[0] = '\0';
}
