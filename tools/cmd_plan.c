/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_plan.c - `zerohaul plan`: shows what would be done with a file, and why. It changes nothing;
 * to a server it connects, and leaves again without a word.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <zerohaul.h>

#include "command.h"
#include "cli/connect.h"
#include "cli/json.h"
#include "cli/regular.h"
#include "cli/say.h"
#include "cli/url.h"

struct plan {
	struct zh_options options;
	uint32_t receive;
	uint32_t json;
	uint32_t connect_ms;
	const char *file;
};

static const struct arg_option rows[] = {
	{ .name = "receive",
		.letter = 'r',
		.kind = ARG_BITS,
		.help = "Plan receiving into FILE, which must exist, instead of sending it.",
		ARG_AT(struct plan, receive),
		.value = 1 },
	{ .name = "strategy",
		.letter = 's',
		.kind = ARG_STRATEGY,
		.argument = "NAME",
		.help = "Plan as if this strategy had been asked for.",
		ARG_AT(struct plan, options.strategy) },
	{ .name = "chunk",
		.letter = 'c',
		.kind = ARG_SIZE,
		.argument = "SIZE",
		.help = "Plan as if this chunk size had been asked for.",
		ARG_AT(struct plan, options.chunk_bytes),
		.minimum = 1 },
	{ .name = "cache",
		.kind = ARG_CHOICE,
		.argument = "auto|keep|drop",
		.help = "Plan as if this wish for the page cache had been made.",
		ARG_AT(struct plan, options.cache) },
	{ .name = "no-fallback",
		.kind = ARG_BITS,
		.help = "Fail when the strategy asked for is not admitted.",
		ARG_AT(struct plan, options.flags),
		.value = ZH_NO_FALLBACK },
	{ .name = "connect-timeout",
		.kind = ARG_SECONDS,
		.argument = "SECONDS",
		.help = "Give up a connection attempt after this long; 10 by default.",
		ARG_AT(struct plan, connect_ms),
		.minimum = 1,
		.maximum = 86400000 },
	{ .name = "json",
		.letter = 'j',
		.kind = ARG_BITS,
		.help = "Print one JSON object instead of text.",
		ARG_AT(struct plan, json),
		.value = 1 },
	{ .name = "help", .letter = 'h', .kind = ARG_HELP, .help = "Print this help and exit." },
};

static void print_plan(const struct zh_plan *plan)
{
	printf("Facts\n");
	for (size_t i = 0; i < plan->fact_count && i < ZH_PLAN_FACTS; i++)
		printf("  %-27s %s\n", plan->fact[i].name, plan->fact[i].value);
	printf("\nStrategies\n");
	for (size_t i = 0; i < plan->verdict_count && i < ZH_PLAN_VERDICTS; i++) {
		const struct zh_verdict *verdict = &plan->verdict[i];
		const char *word = verdict->admitted ? "admitted" : "refused";
		const bool says_more = strcmp(verdict->reason, word) != 0;
		printf("  %-27s %s%s%s\n", verdict->name, word, says_more ? ": " : "",
			says_more ? verdict->reason : "");
	}
	printf("\nChoice\n  %s: %s\n", plan->strategy, plan->reason);
	printf("  %u bytes per call, %u in flight", plan->chunk_bytes, plan->depth);
	if (plan->pipe_bytes)
		printf(", pipe of %u bytes", plan->pipe_bytes);
	printf(plan->no_fallback ? ", no fallback\n" : "\n");
}

static json_t *json_of_answer(const struct plan *given, uint64_t bytes, const struct zh_plan *plan)
{
	json_t *out = json_object();

	(void)json_object_set_new(out, "schema", json_string("zerohaul-plan/1"));
	(void)json_object_set_new(out, "version", json_string(zh_version()));
	(void)json_object_set_new(out, "file", json_of_bytes(given->file));
	(void)json_object_set_new(out, "bytes", json_of_u64(bytes));
	(void)json_object_set_new(out, "plan", json_of_plan(plan));
	return out;
}

static int answer(const struct plan *given, int sock_fd)
{
	struct zh_plan plan = { .size = sizeof(plan) };
	const enum zh_side side = given->receive ? ZH_RECEIVE : ZH_SEND;
	struct zh_extent extent = { .offset = 0 };
	int file_fd = -1;
	int outcome = regular_open(
		given->file, given->receive ? O_RDWR : O_RDONLY, &file_fd, &extent.length);

	if (outcome != ZH_OK)
		return outcome;
	int r = zh_plan(file_fd, sock_fd, side, extent, &given->options, &plan);
	close(file_fd);
	if (r == -EINVAL && given->options.strategy)
		return say_error(ZH_USAGE, "--strategy: '%s' is not admitted for this file [%s]",
			given->options.strategy, zh_outcome_name(ZH_USAGE));
	if (r < 0)
		return say_file(ZH_INTERNAL, given->file, strerror(-r));
	if (!given->json)
		print_plan(&plan);
	else if (json_print(json_of_answer(given, extent.length, &plan)) < 0)
		return say_error(ZH_INTERNAL, "no memory for the report");
	return ZH_OK;
}

static bool on_side(const char *strategy, bool receive)
{
	const struct zh_strategy *at;

	for (size_t i = 0; (at = zh_strategy_at(i)); i++)
		if (strcmp(at->name, strategy) == 0 && (at->side == ZH_RECEIVE) == receive)
			return true;
	return false;
}

static int plan_run(const struct command *command, int argc, char **argv)
{
	struct plan given = { .options = zh_options_default(), .connect_ms = 10000 };
	struct url url = { .port = 0 };
	int operand_count = 0;
	int sock_fd = -1;
	int r = args_parse(command, argc, argv, &given, &operand_count);

	if (r != ARGS_OK)
		return args_status(r);
	if (operand_count < 1 || operand_count > 2)
		return say_usage(command->name, "one FILE is needed, and perhaps a location");
	if (given.options.strategy && !on_side(given.options.strategy, given.receive))
		return say_usage(command->name, "--strategy: '%s' is for %s",
			given.options.strategy, given.receive ? "sending" : "receiving");
	given.file = argv[0];
	if (operand_count == 2) {
		const char *wrong = url_parse(argv[1], &url);
		if (wrong)
			return say_usage(command->name, "'%s' is not a location: %s",
				shown(argv[1]).text, wrong);
		wrong = connect_to(&url, given.connect_ms, &sock_fd);
		if (wrong)
			return say_error(ZH_NET, "cannot connect to '%s' port %u: %s [%s]",
				url.host, url.port, wrong, zh_outcome_name(ZH_NET));
	}
	r = answer(&given, sock_fd);
	if (sock_fd >= 0)
		close(sock_fd);
	return r;
}

const struct command cmd_plan = {
	.name = "plan",
	.summary = "show how a file would be moved, and why",
	.synopsis = "[OPTION...] FILE [zh://HOST[:PORT]/]",
	.about = "Prints the facts about the file and the connection, what is said for or against "
		 "each strategy, and the choice with its reason. Without a location a TCP "
		 "connection to this host is assumed. Nothing is sent or changed.",
	.page = "zerohaul-plan(1)",
	.options = rows,
	.option_count = sizeof(rows) / sizeof(rows[0]),
	.run = plan_run,
};
