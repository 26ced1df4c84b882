/* SPDX-License-Identifier: Apache-2.0 */
/* size.h - numbers as people write and read them. */
#ifndef CLI_SIZE_H
#define CLI_SIZE_H

#include <stdint.h>

/*
 * "64K", "64KiB" (1024), "64KB" (1000), up to T. Errors: -EINVAL not such a number, -ERANGE does
 * not fit.
 */
int size_parse(const char *text, uint64_t *ret_bytes);
/* Digits only. Errors: as size_parse. */
int count_parse(const char *text, uint64_t *ret_count);
/* "10" or "0.25". Errors: as size_parse. */
int seconds_parse(const char *text, uint64_t *ret_ms);

/* Text of a number, good for the expression it is made in. */
struct number_text {
	char text[32];
};
/* "16.8 MB"; decimal, as rates are. */
struct number_text size_text(uint64_t bytes);
/* "64K", "1000": as it is parsed, in the largest unit up to G that divides it. */
struct number_text size_exact(uint64_t bytes);
/* "0:07", "3:12", "1:02:03". */
struct number_text clock_text(uint64_t seconds);

#endif
