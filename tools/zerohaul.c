/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zerohaul.c - main of the command: finds the subcommand and hands over. What a subcommand does is
 * in cmd_*.c, the table of them in commands.c.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <zerohaul.h>

#include "command.h"
#include "cli/output.h"
#include "cli/say.h"

/* Options before the command are only --help and --version, so there is never one to remember. */
static int dispatch(int argc, char **argv)
{
	if (argc < 2)
		return say_usage(NULL, "which command?");
	if (argv[1][0] == '-') {
		int operand_count = 0;
		int r = args_parse(&program, argc, argv, NULL, &operand_count);
		return r == ARGS_OK ? say_usage(NULL, "which command?") : args_status(r);
	}
	const struct command *command = command_find(argv[1]);
	if (!command)
		return command_unknown(argv[1]);
	return command->run(command, argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	output_open();
	int status = dispatch(argc, argv);
	int lost = output_close();

	if (lost && status == ZH_OK)
		status =
			say_error(ZH_CONFIG, "cannot write to standard output: %s", strerror(lost));
	return status;
}
