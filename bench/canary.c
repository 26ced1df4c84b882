/* SPDX-License-Identifier: Apache-2.0 */
/*
 * canary.c - the program `canary`: what the machine does by itself, without any of our code. When
 * its figures move, those of the trials beside them moved for a reason that is not in them.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define COPY_BYTES (16u << 20)
#define COPIES     16 /* 256 MiB */
#define CALLS      1000000
#define READ_BYTES (64u << 20)
#define READ_CHUNK (1u << 20)

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double memcpy_rate(char *from, char *to)
{
	double start;

	memset(from, 1, COPY_BYTES);
	memset(to, 2, COPY_BYTES);
	start = now();
	for (int i = 0; i < COPIES; i++) {
		memcpy(to, from, COPY_BYTES);
		__asm__ volatile("" : : "r"(to) : "memory");
	}
	return (double)COPY_BYTES * COPIES / (now() - start);
}

static double call_ns(void)
{
	double start = now();

	for (int i = 0; i < CALLS; i++)
		(void)syscall(SYS_getppid);
	return (now() - start) * 1e9 / CALLS;
}

/* From the page cache: the second time counts. Negative: the file is too short or unreadable. */
static double read_rate(const char *path, char *buffer)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	double rate = -1;

	for (int turn = 0; file >= 0 && turn < 2; turn++) {
		double start = now();
		for (off_t at = 0; at < READ_BYTES; at += READ_CHUNK)
			if (pread(file, buffer, READ_CHUNK, at) != READ_CHUNK) {
				close(file);
				return -1;
			}
		rate = READ_BYTES / (now() - start);
	}
	if (file >= 0)
		close(file);
	return rate;
}

static int report(const char *path, char *from, char *to)
{
	double rate = read_rate(path, from);

	if (rate < 0) {
		fprintf(stderr, "canary: %s: 64 MiB cannot be read\n", path);
		return 1;
	}
	printf("{\"memcpy_Bps\":%.0f,\"getppid_ns\":%.2f,\"pread_Bps\":%.0f}\n",
		memcpy_rate(from, to), call_ns(), rate);
	return 0;
}

int main(int argc, char **argv)
{
	char *from = malloc(COPY_BYTES), *to = malloc(COPY_BYTES);
	int status = 2;

	if (argc == 2 && from && to)
		status = report(argv[1], from, to);
	else
		fputs("usage: canary FILE\n", stderr);
	free(from);
	free(to);
	return status;
}
