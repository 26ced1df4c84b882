/* SPDX-License-Identifier: Apache-2.0 */
/* cache.h - the source's pages in the page cache: brought there or sent away, and proved. */
#ifndef ZH_BENCH_CACHE_H
#define ZH_BENCH_CACHE_H

#include <stdint.h>

/* Percent of the first length bytes that are in the page cache, by mincore(2); negative errno. */
double bench_resident_pct(int file, uint64_t length);
/* -ENODATA: after all it is not, or still, there. */
int bench_warm(int file, uint64_t length);
int bench_cool(int file, uint64_t length);

#endif
