/* SPDX-License-Identifier: Apache-2.0 */
/* record.h - what a trial found, as members of a JSON object: see schema/trial.json. */
#ifndef ZH_BENCH_RECORD_H
#define ZH_BENCH_RECORD_H

#include "trial.h"

#include <stdio.h>

void record_text(FILE *file, const char *text);
/* "status":... to "latency_us":..., with no braces around. error: what bench_open or bench_trial
 * returned; then result is not looked at. */
void record_result(FILE *file, const struct bench_cell *cell, const struct bench_result *result,
	int error, const char *why);

/* "cell":{...} of a bulk cell that stores nothing. */
void record_cell(FILE *file, const struct bench_cell *cell);

#endif
