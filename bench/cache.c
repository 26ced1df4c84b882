/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - see cache.h. */
#include "cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define WARM_PCT   99.9
#define COLD_PCT   0.1
#define ATTEMPTS   5
#define READ_BYTES (1u << 20)
#define PAGE_BYTES 4096u

double bench_resident_pct(int file, uint64_t length)
{
	size_t pages = (length + PAGE_BYTES - 1) / PAGE_BYTES, there = 0;
	unsigned char *vector = malloc(pages + 1);
	void *memory = MAP_FAILED;
	double r = -ENOMEM;

	if (pages == 0) {
		free(vector);
		return 100;
	}
	if (vector)
		memory = mmap(NULL, length, PROT_READ, MAP_SHARED, file, 0);
	if (memory != MAP_FAILED) {
		if (mincore(memory, length, vector) == 0) {
			for (size_t i = 0; i < pages; i++)
				there += vector[i] & 1;
			r = 100.0 * (double)there / (double)pages;
		} else {
			r = -errno;
		}
		(void)munmap(memory, length);
	}
	free(vector);
	return r;
}

int bench_warm(int file, uint64_t length)
{
	char *buffer = malloc(READ_BYTES);

	for (int i = 0; buffer && i < ATTEMPTS; i++) {
		if (bench_resident_pct(file, length) >= WARM_PCT) {
			free(buffer);
			return 0;
		}
		for (uint64_t at = 0; at < length; at += READ_BYTES)
			if (pread(file, buffer, READ_BYTES, (off_t)at) <= 0)
				break;
	}
	free(buffer);
	return buffer ? -ENODATA : -ENOMEM;
}

int bench_cool(int file, uint64_t length)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		if (i > 0)
			(void)usleep(20000); /* packets that were sent may still hold pages */
		if (fsync(file) < 0)
			return -errno;
		(void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
		if (bench_resident_pct(file, length) <= COLD_PCT)
			return 0;
	}
	return -ENODATA;
}
