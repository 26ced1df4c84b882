/* SPDX-License-Identifier: Apache-2.0 */
/*
 * say.h - what goes to stderr: always "zerohaul: " and exactly one line, in one write, with names
 * escaped.
 */
#ifndef CLI_SAY_H
#define CLI_SAY_H

#include <zerohaul.h>

/* Text from outside, made printable. Good for the expression it is made in: shown(name).text. */
struct shown {
	char text[1024];
};
struct shown shown(const char *bytes);

/* Say what went wrong and return outcome, so that a caller can say and leave in one line. */
int say_error(int outcome, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Say what is wrong with the command line and where help is. Returns ZH_USAGE. */
int say_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Say an error record, its outcome by name. */
void say_record(const struct zh_error *error);

/* Say what is wrong with a file, and the outcome by name. Returns it. */
int say_file(int outcome, const char *file, const char *text);

/* The outcome that stands for a positive errno met while writing a file or using a path. */
int outcome_of_errno(int errnum);

#endif
