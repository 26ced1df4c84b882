/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_keygen.c - `zerohaul keygen`: has the library write a new key. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <zerohaul.h>

#include "command.h"
#include "cli/say.h"

struct keygen {
	const char *output;
};

static const struct arg_option rows[] = {
	{ .name = "output",
		.letter = 'o',
		.kind = ARG_FILE,
		.argument = "FILE",
		.help = "The file to write; it must not exist. Required.",
		ARG_AT(struct keygen, output) },
	{ .name = "help", .letter = 'h', .kind = ARG_HELP, .help = "Print this help and exit." },
};

static int keygen_run(const struct command *command, int argc, char **argv)
{
	struct keygen given = { .output = NULL };
	int operand_count = 0;
	int r = args_parse(command, argc, argv, &given, &operand_count);

	if (r != ARGS_OK)
		return args_status(r);
	if (operand_count > 0)
		return say_usage(command->name, "takes no operand, got '%s'", shown(argv[0]).text);
	if (!given.output)
		return say_usage(command->name, "--output=FILE is needed");

	r = zh_key_generate(given.output);
	if (r == -EEXIST)
		return say_error(ZH_EXISTS, "'%s': exists and is not replaced [%s]",
			shown(given.output).text, zh_outcome_name(ZH_EXISTS));
	if (r < 0) {
		const int outcome = outcome_of_errno(-r);
		return say_error(outcome, "'%s': cannot write a key: %s [%s]",
			shown(given.output).text, strerror(-r), zh_outcome_name(outcome));
	}
	printf("wrote a new key to %s\n", shown(given.output).text);
	return ZH_OK;
}

const struct command cmd_keygen = {
	.name = "keygen",
	.summary = "make a key for a server and its clients",
	.synopsis = "--output=FILE",
	.about = "Writes a new random key that only its owner can read (mode 0600). Server and "
		 "clients need the same key; bring it to the other host on a way you trust.",
	.page = "zerohaul-keygen(1)",
	.options = rows,
	.option_count = sizeof(rows) / sizeof(rows[0]),
	.run = keygen_run,
};
