/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - a cell from the words of a command line. */
#ifndef ZH_BENCH_OPTIONS_H
#define ZH_BENCH_OPTIONS_H

#include "trial.h"

extern const char options_usage[];
/* 0, or -1 and a line on stderr. The cell keeps pointers into argv. */
int options_parse(int argc, char **argv, struct bench_cell *ret_cell);

#endif
