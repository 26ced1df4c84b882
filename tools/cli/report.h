/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - a finished transfer in words: the paragraph on stdout and the lines on stderr. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include <zerohaul.h>

void report_print(const struct zh_report *report);
/* The same of a dry run. */
void report_print_dry(const struct zh_report *report);

/*
 * One line for the error of the session and one for each file that did not arrive; nothing for
 * ZH_OK, at least one line for any other outcome.
 */
void report_print_failures(const struct zh_transfer *transfer, int outcome);

#endif
