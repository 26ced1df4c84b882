/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.h - what the command line knows about a subcommand. The table of commands is the one
 * source of --help, of the OPTIONS sections of the manual pages and of the shell completions.
 */
#ifndef TOOLS_COMMAND_H
#define TOOLS_COMMAND_H

#include <stddef.h>

#include "cli/args.h"

struct command {
	const char *name;
	const char *summary;  /* one line, for listings */
	const char *synopsis; /* what follows the name; further forms on lines of their own */
	const char *about;    /* one paragraph for --help */
	const char *page;     /* the manual page that says more */
	const struct arg_option *options;
	size_t option_count;
	/* Returns the exit status. argv[0] is the name of the command. */
	int (*run)(const struct command *command, int argc, char **argv);
};

/* The program itself, for the options that stand before a command; its run is NULL. */
extern const struct command program;

extern const struct command cmd_bench;
extern const struct command cmd_copy;
extern const struct command cmd_serve;
extern const struct command cmd_plan;
extern const struct command cmd_probe;
extern const struct command cmd_keygen;
extern const struct command cmd_verify;

/* Ends with NULL. */
extern const struct command *const commands[];

/* Returns NULL when there is none of this name. */
const struct command *command_find(const char *name);

/* Say that name is no command, naming the nearest one. Returns the exit status. */
int command_unknown(const char *name);

#endif
