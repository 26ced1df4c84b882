/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commands.c - the table of commands, and `zerohaul help`. It has no main, so that the generator of
 * manual pages and completions can be linked with the same table.
 */
#include <string.h>

#include <zerohaul.h>

#include "command.h"
#include "cli/help.h"
#include "cli/nearest.h"
#include "cli/say.h"

static const struct arg_option program_options[] = {
	{ .name = "help", .letter = 'h', .kind = ARG_HELP, .help = "Print this help and exit." },
	{ .name = "version",
		.letter = 'V',
		.kind = ARG_VERSION,
		.help = "Print the version and exit." },
};

const struct command program = {
	.name = NULL,
	.summary = "move files between hosts without copying their bytes",
	.synopsis = "COMMAND [OPTION...] [OPERAND...]",
	.about =
		"Moves files between Linux hosts over TCP without copying their bytes through user "
		"space, says why it moved them the way it did, and what limited it.",
	.page = "zerohaul(1)",
	.options = program_options,
	.option_count = sizeof(program_options) / sizeof(program_options[0]),
};

static const struct arg_option help_options[] = {
	{ .name = "help", .letter = 'h', .kind = ARG_HELP, .help = "Print this help and exit." },
};

static int help_run(const struct command *command, int argc, char **argv)
{
	int operand_count = 0;
	int r = args_parse(command, argc, argv, NULL, &operand_count);
	if (r != ARGS_OK)
		return args_status(r);
	if (operand_count == 0) {
		help_print(&program);
		return ZH_OK;
	}
	if (operand_count > 1)
		return say_usage(command->name, "one command at a time");

	const struct command *about = command_find(argv[0]);
	if (!about)
		return command_unknown(argv[0]);
	help_print(about);
	return ZH_OK;
}

static const struct command cmd_help = {
	.name = "help",
	.summary = "explain a command",
	.synopsis = "[COMMAND]",
	.about = "Prints what a command does and its options, as COMMAND --help does.",
	.page = "zerohaul(1)",
	.options = help_options,
	.option_count = sizeof(help_options) / sizeof(help_options[0]),
	.run = help_run,
};

const struct command *const commands[] = {
	&cmd_copy,
	&cmd_serve,
	&cmd_verify,
	&cmd_plan,
	&cmd_probe,
	&cmd_bench,
	&cmd_keygen,
	&cmd_help,
	NULL,
};

const struct command *command_find(const char *name)
{
	for (size_t i = 0; commands[i]; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

int command_unknown(const char *name)
{
	struct nearest near = nearest_begin(name);

	for (size_t i = 0; commands[i]; i++)
		nearest_offer(&near, commands[i]->name);
	if (near.best)
		return say_usage(
			NULL, "no command '%s', did you mean '%s'?", shown(name).text, near.best);
	return say_usage(NULL, "no command '%s'", shown(name).text);
}
