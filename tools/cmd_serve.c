/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_serve.c - `zerohaul serve`: runs the library's server and stops it on a signal. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <zerohaul.h>

#include "command.h"
#include "cli/key.h"
#include "cli/say.h"
#include "cli/stop.h"

struct serve {
	struct zh_server_options options;
	uint32_t limits;
};

static const struct arg_option rows[] = {
	{ .name = "root",
		.letter = 'd',
		.kind = ARG_DIRECTORY,
		.argument = "DIR",
		.help = "The directory that everything happens under. Required but for --bench.",
		ARG_AT(struct serve, options.root) },
	{ .name = "key",
		.letter = 'k',
		.kind = ARG_FILE,
		.argument = "FILE",
		.help = "The key that clients must have, a file that only its owner can read. The "
			"environment variable ZEROHAUL_KEY_FILE may name it instead.",
		ARG_AT(struct serve, options.key_file) },
	{ .name = "insecure",
		.kind = ARG_BITS,
		.help = "Ask for no key; only on a loopback address.",
		ARG_AT(struct serve, options.flags),
		.value = ZH_INSECURE },
	{ .name = "listen",
		.letter = 'l',
		.kind = ARG_TEXT,
		.argument = "ADDR:PORT",
		.help = "Where to listen; port 0 takes any free one. By default all addresses, with "
			"--insecure 127.0.0.1, and port 7117.",
		ARG_AT(struct serve, options.listen) },
	{ .name = "once",
		.kind = ARG_BITS,
		.help = "End after the first session, with its outcome.",
		ARG_AT(struct serve, options.flags),
		.value = ZH_SERVE_ONCE },
	{ .name = "read-only",
		.kind = ARG_BITS,
		.help = "Let clients pull, never push.",
		ARG_AT(struct serve, options.flags),
		.value = ZH_SERVE_READ_ONLY },
	{ .name = "privileged-xattrs",
		.kind = ARG_BITS,
		.help = "Give and take extended attributes that only root may set "
			"(security.capability, trusted.*) where a client asks for it. Run as root, it "
			"trusts every client like root.",
		ARG_AT(struct serve, options.flags),
		.value = ZH_PRIVILEGED_XATTRS },
	{ .name = "bench",
		.kind = ARG_BITS,
		.help = "For zerohaul bench: need no --root, discard what is pushed, and refuse all "
			"else.",
		ARG_AT(struct serve, options.flags),
		.value = ZH_SERVE_BENCH },
	{ .name = "limits",
		.kind = ARG_BITS,
		.help = "Print the limits that a server keeps and exit.",
		ARG_AT(struct serve, limits),
		.value = 1 },
	{ .name = "help", .letter = 'h', .kind = ARG_HELP, .help = "Print this help and exit." },
};

static int print_limits(void)
{
	const struct zh_limit *limit;

	for (size_t i = 0; (limit = zh_limit_at(i)); i++)
		printf("%-20s %15" PRIu64 " %-12s %s\n", limit->name, limit->value, limit->unit,
			limit->meaning);
	return ZH_OK;
}

static void stop(void *server)
{
	zh_server_stop(server);
}

static int serve(const struct zh_server_options *options)
{
	struct zh_server *server = NULL;
	struct zh_error error = { .size = sizeof(error) };
	int r = zh_server_new(options, &server, &error);

	if (r < 0) {
		if (error.outcome == ZH_OK)
			return say_error(outcome_of_errno(-r), "cannot serve: %s", strerror(-r));
		say_record(&error);
		return error.outcome;
	}
	stop_arm(stop, server);
	printf("listening %s\n", zh_server_address(server));
	fflush(stdout);
	int outcome = zh_server_run(server);
	stop_disarm();
	zh_server_free(server);
	return outcome;
}

static int serve_run(const struct command *command, int argc, char **argv)
{
	struct serve given = { .options = zh_server_options_default() };
	int operand_count = 0;
	int r = args_parse(command, argc, argv, &given, &operand_count);

	if (r != ARGS_OK)
		return args_status(r);
	if (operand_count > 0)
		return say_usage(command->name, "takes no operand, got '%s'", shown(argv[0]).text);
	if (given.limits)
		return print_limits();
	const uint32_t flags = given.options.flags;
	if (flags & ZH_SERVE_BENCH && (given.options.root || flags & ZH_SERVE_READ_ONLY))
		return say_usage(command->name,
			"--bench stores nothing: neither --root nor --read-only goes with it");
	if (!given.options.root && !(flags & ZH_SERVE_BENCH))
		return say_usage(command->name, "--root=DIR is needed");

	const bool insecure = flags & ZH_INSECURE;
	const char *wrong = key_settle(&given.options.key_file, insecure);
	if (wrong)
		return say_usage(command->name, "%s", wrong);
	if (!given.options.listen)
		given.options.listen = insecure ? "127.0.0.1:7117" : ":7117";
	given.options.log_fd = STDERR_FILENO;
	return serve(&given.options);
}

const struct command cmd_serve = {
	.name = "serve",
	.summary = "let clients push into and pull from a directory",
	.synopsis = "--root=DIR (--key=FILE | --insecure) [OPTION...]\n"
		    "--bench (--key=FILE | --insecure) [OPTION...]\n"
		    "--limits",
	.about = "Serves one directory until SIGINT or SIGTERM. The first line on stdout is "
		 "\"listening ADDR:PORT\"; events are logged to stderr, one line each. The bytes "
		 "of files are not encrypted on the way.",
	.page = "zerohaul-serve(1)",
	.options = rows,
	.option_count = sizeof(rows) / sizeof(rows[0]),
	.run = serve_run,
};
