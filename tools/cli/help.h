/* SPDX-License-Identifier: Apache-2.0 */
/* help.h - prints the help of a command from its rows, 80 columns wide, to stdout. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

struct command;

void help_print(const struct command *command);

#endif
