/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_probe.c - `zerohaul probe`: what this kernel can do, and what strategies need of it. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <zerohaul.h>

#include "command.h"
#include "cli/json.h"
#include "cli/say.h"

struct probe {
	uint32_t json;
};

static const struct arg_option rows[] = {
	{ .name = "json",
		.letter = 'j',
		.kind = ARG_BITS,
		.help = "Print one JSON object instead of tables.",
		ARG_AT(struct probe, json),
		.value = 1 },
	{ .name = "help", .letter = 'h', .kind = ARG_HELP, .help = "Print this help and exit." },
};

static json_t *json_of_probe(const struct zh_probe *probe)
{
	json_t *out = json_object();
	json_t *features = json_array();

	for (size_t i = 0; i < probe->feature_count && i < ZH_PROBE_FEATURES; i++) {
		json_t *feature = json_object();
		(void)json_object_set_new(feature, "name", json_string(probe->feature[i].name));
		(void)json_object_set_new(
			feature, "present", json_boolean(probe->feature[i].present));
		(void)json_object_set_new(feature, "detail", json_string(probe->feature[i].detail));
		(void)json_array_append_new(features, feature);
	}
	(void)json_object_set_new(out, "schema", json_string("zerohaul-probe/1"));
	(void)json_object_set_new(out, "version", json_string(zh_version()));
	(void)json_object_set_new(out, "features", features);
	(void)json_object_set_new(out, "strategies", json_of_strategies());
	return out;
}

static void print_probe(const struct zh_probe *probe)
{
	const struct zh_strategy *strategy;

	printf("Features of this kernel\n");
	for (size_t i = 0; i < probe->feature_count && i < ZH_PROBE_FEATURES; i++)
		printf("  %-27s %-8s %s\n", probe->feature[i].name,
			probe->feature[i].present ? "present" : "absent", probe->feature[i].detail);
	printf("\nStrategies\n");
	for (size_t i = 0; (strategy = zh_strategy_at(i)); i++) {
		printf("  %-8s %s\n", strategy->side == ZH_SEND ? "send" : "receive",
			strategy->name);
		printf("           %s\n", strategy->summary);
		printf("           copies: %u across the user boundary, %u in all\n",
			strategy->user_copies, strategy->total_copies);
		printf("           needs: %s\n", strategy->needs);
		printf("           since: Linux %s\n", strategy->since);
		printf("           falls back to: %s\n",
			strategy->falls_back_to ? strategy->falls_back_to : "nothing");
	}
}

static int probe_run(const struct command *command, int argc, char **argv)
{
	struct probe given = { .json = 0 };
	struct zh_probe probe = { .size = sizeof(probe) };
	int operand_count = 0;
	int r = args_parse(command, argc, argv, &given, &operand_count);

	if (r != ARGS_OK)
		return args_status(r);
	if (operand_count > 0)
		return say_usage(command->name, "takes no operand, got '%s'", shown(argv[0]).text);
	r = zh_probe(&probe);
	if (r < 0)
		return say_error(ZH_INTERNAL, "cannot probe the kernel: %s", strerror(-r));
	if (!given.json)
		print_probe(&probe);
	else if (json_print(json_of_probe(&probe)) < 0)
		return say_error(ZH_INTERNAL, "no memory for the report");
	return ZH_OK;
}

const struct command cmd_probe = {
	.name = "probe",
	.summary = "show what this kernel offers and the strategies that use it",
	.synopsis = "[--json]",
	.about = "Tries each kernel feature that a strategy may use and prints the answer, then "
		 "lists the strategies with what they cost and need.",
	.page = "zerohaul-probe(1)",
	.options = rows,
	.option_count = sizeof(rows) / sizeof(rows[0]),
	.run = probe_run,
};
