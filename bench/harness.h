/* SPDX-License-Identifier: Apache-2.0 */
/*
 * harness.h - Google Benchmark for cases that are written in C. A case is a set of functions and
 * the points at which they are run. One iteration is one whole transfer, which times itself: the
 * work of an iteration is fixed, and its time ends with the receiver's acknowledgement.
 */
#ifndef ZH_BENCH_HARNESS_H
#define ZH_BENCH_HARNESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One level for each factor; what is not a number is an index into names of the case. */
struct zh_gb_point {
	const int64_t *level;
	size_t count;
};

struct zh_gb_result {
	double elapsed_s, tx_cpu_s, rx_cpu_s;
	uint64_t bytes, syscalls, switches, segments, zc_copied_bytes;
};

/* Outputs are the first argument's: 0, or negative and a sentence in text. */
struct zh_gb_ops {
	const char *name;
	const char *const *factor; /* names, NULL after the last */
	int (*setup)(void **ret_context, const struct zh_gb_point *point, char *text, size_t cap);
	int (*trial)(void *context, struct zh_gb_result *ret_result, char *text, size_t cap);
	void (*teardown)(void *context);
	void (*label)(const struct zh_gb_point *point, char *text, size_t cap);
};

/* ops, its names and the levels of the points stay the caller's and have to last. */
void zh_gb_add(const struct zh_gb_ops *ops, const struct zh_gb_point *points, size_t point_count,
	int64_t iterations, int repetitions);
/* A key of the context in what is written. */
void zh_gb_note(const char *key, const char *value);
/* Takes the options of Google Benchmark. 0, or 1: an option that nobody knows. */
int zh_gb_run(int *argc, char **argv);

#ifdef __cplusplus
}
#endif

#endif
