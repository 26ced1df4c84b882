/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args.c - parses a command line by the rows of a command. It knows kinds of value, not options:
 * what an option means is in its row and in the command that reads the struct.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zerohaul.h>

#include "args.h"
#include "help.h"
#include "nearest.h"
#include "say.h"
#include "size.h"
#include "../command.h"

/* One option as it stands on the command line. */
struct given {
	const struct command *command;
	const struct arg_option *row;
	const char *value; /* NULL: none */
};

static int bad(const struct given *given, const char *wanted)
{
	(void)say_usage(given->command->name, "--%s: '%s' is not %s", given->row->name,
		shown(given->value).text, wanted);
	return ARGS_BAD;
}

static void store_number(const struct arg_option *row, void *target, uint64_t number)
{
	char *at = (char *)target + row->at;
	const uint32_t n32 = (uint32_t)number;
	const uint16_t n16 = (uint16_t)number;

	if (row->width == sizeof(n16))
		memcpy(at, &n16, sizeof(n16));
	else if (row->width == sizeof(n32))
		memcpy(at, &n32, sizeof(n32));
	else
		memcpy(at, &number, sizeof(number));
}

static uint64_t row_maximum(const struct arg_option *row)
{
	if (row->maximum)
		return row->maximum;
	return row->width == sizeof(uint16_t)   ? UINT16_MAX
	       : row->width == sizeof(uint32_t) ? UINT32_MAX
						: UINT64_MAX;
}

static int take_number(const struct given *given, void *target)
{
	const struct arg_option *row = given->row;
	uint64_t number = 0;
	int r;
	const char *wanted;

	if (row->kind == ARG_SIZE) {
		r = size_parse(given->value, &number);
		wanted = "a size (a whole number, perhaps with K, M, G, T, KiB, KB and so on)";
	} else if (row->kind == ARG_COUNT) {
		r = count_parse(given->value, &number);
		wanted = "a whole number";
	} else {
		r = seconds_parse(given->value, &number);
		wanted = "a number of seconds";
	}
	if (r == -EINVAL)
		return bad(given, wanted);

	const uint64_t unit = row->kind == ARG_SECONDS ? 1000 : 1;
	const uint64_t maximum = row_maximum(row);
	if (r == -ERANGE || number > maximum) {
		(void)say_usage(given->command->name,
			"--%s: '%s' is too large, at most %" PRIu64 " is allowed", row->name,
			shown(given->value).text, maximum / unit);
		return ARGS_BAD;
	}
	if (number < row->minimum) {
		(void)say_usage(given->command->name,
			"--%s: '%s' is too small, at least %g is needed", row->name,
			shown(given->value).text, (double)row->minimum / (double)unit);
		return ARGS_BAD;
	}
	store_number(row, target, number);
	return ARGS_OK;
}

static int take_choice(const struct given *given, void *target)
{
	const size_t length = strlen(given->value);
	const char *word = given->row->argument;
	char wanted[128];

	for (uint64_t index = 0; word; index++) {
		const size_t word_length = strcspn(word, "|");
		if (word_length == length && memcmp(word, given->value, length) == 0) {
			store_number(given->row, target, index);
			return ARGS_OK;
		}
		word = word[word_length] ? word + word_length + 1 : NULL;
	}
	snprintf(wanted, sizeof(wanted), "one of %s", given->row->argument);
	return bad(given, wanted);
}

bool arg_takes_strategy(const struct arg_option *row, const struct zh_strategy *strategy)
{
	return row->kind == ARG_STRATEGY || (row->kind == ARG_SEND && strategy->side == ZH_SEND) ||
	       (row->kind == ARG_RECEIVE && strategy->side == ZH_RECEIVE);
}

static int check_strategy(const struct given *given)
{
	char wanted[256] = "one of ";

	for (size_t i = 0; zh_strategy_at(i); i++) {
		const struct zh_strategy *strategy = zh_strategy_at(i);
		if (!arg_takes_strategy(given->row, strategy))
			continue;
		if (strcmp(strategy->name, given->value) == 0)
			return ARGS_OK;
		const size_t used = strlen(wanted);
		snprintf(wanted + used, sizeof(wanted) - used, "%s%s",
			wanted[used - 1] == ' ' ? "" : "|", strategy->name);
	}
	return bad(given, wanted);
}

static int take_text(const struct given *given, void *target)
{
	const struct arg_option *row = given->row;

	if (given->value[0] == '\0')
		return bad(given, "usable, it is empty");
	if (row->kind == ARG_BUFFER) {
		char wanted[64];
		snprintf(wanted, sizeof(wanted), "at most %zu bytes long", row->width - 1);
		if (strlen(given->value) >= row->width)
			return bad(given, wanted);
		memcpy((char *)target + row->at, given->value, strlen(given->value) + 1);
		return ARGS_OK;
	}
	if (row->kind == ARG_SEND || row->kind == ARG_RECEIVE || row->kind == ARG_STRATEGY) {
		int r = check_strategy(given);
		if (r != ARGS_OK)
			return r;
	}
	memcpy((char *)target + row->at, &given->value, sizeof(given->value));
	return ARGS_OK;
}

static int append(const struct given *given, struct arg_list *list)
{
	struct arg_item *grown = realloc(list->item, (list->count + 1) * sizeof(*grown));

	if (!grown) {
		(void)say_error(ZH_INTERNAL, "no memory");
		return ARGS_BAD;
	}
	list->item = grown;
	grown[list->count++] = (struct arg_item){ given->value, given->row->value };
	return ARGS_OK;
}

static int take(const struct given *given, void *target)
{
	uint32_t bits;

	switch (given->row->kind) {
	case ARG_HELP:
		help_print(given->command);
		return ARGS_DONE;
	case ARG_VERSION:
		printf("zerohaul %s\n", zh_version());
		return ARGS_DONE;
	case ARG_BITS:
		memcpy(&bits, (char *)target + given->row->at, sizeof(bits));
		bits |= (uint32_t)given->row->value;
		store_number(given->row, target, bits);
		return ARGS_OK;
	case ARG_CHOICE:
		return take_choice(given, target);
	case ARG_SIZE:
	case ARG_COUNT:
	case ARG_SECONDS:
		return take_number(given, target);
	case ARG_LIST:
		return append(given, (struct arg_list *)((char *)target + given->row->at));
	case ARG_TEXT:
	case ARG_FILE:
	case ARG_DIRECTORY:
	case ARG_SEND:
	case ARG_RECEIVE:
	case ARG_STRATEGY:
	case ARG_BUFFER:
		break;
	}
	return take_text(given, target);
}

static const struct arg_option *find_long(
	const struct command *command, const char *name, size_t length)
{
	for (size_t i = 0; i < command->option_count; i++) {
		const struct arg_option *row = &command->options[i];
		if (strlen(row->name) == length && memcmp(row->name, name, length) == 0)
			return row;
	}
	return NULL;
}

static int unknown(const struct command *command, const char *text)
{
	char name[64];
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(text + 2, "="), text + 2);
	struct nearest near = nearest_begin(name);

	for (size_t i = 0; i < command->option_count; i++)
		nearest_offer(&near, command->options[i].name);
	if (near.best)
		(void)say_usage(command->name, "no option '--%s', did you mean '--%s'?",
			shown(name).text, near.best);
	else
		(void)say_usage(command->name, "no option '--%s'", shown(name).text);
	return ARGS_BAD;
}

/* --name, --name=value, --name value. *index moves on past a value of its own. */
static int parse_long(
	const struct command *command, int argc, char **argv, int *index, void *target)
{
	const char *name = argv[*index] + 2;
	const size_t length = strcspn(name, "=");
	struct given given = { .command = command, .row = find_long(command, name, length) };

	if (!given.row)
		return unknown(command, argv[*index]);
	if (name[length] == '=')
		given.value = name + length + 1;
	if (!given.row->argument && given.value) {
		(void)say_usage(command->name, "--%s takes no value", given.row->name);
		return ARGS_BAD;
	}
	if (given.row->argument && !given.value) {
		if (*index + 1 >= argc) {
			(void)say_usage(command->name, "--%s needs a value: --%s=%s",
				given.row->name, given.row->name, given.row->argument);
			return ARGS_BAD;
		}
		given.value = argv[++*index];
	}
	return take(&given, target);
}

/* -a, -abc, -kvalue, -k value. */
static int parse_letters(
	const struct command *command, int argc, char **argv, int *index, void *target)
{
	const char *letters = argv[*index] + 1;

	while (*letters) {
		struct given given = { .command = command };
		for (size_t i = 0; i < command->option_count; i++)
			if (command->options[i].letter == *letters)
				given.row = &command->options[i];
		if (!given.row) {
			const char text[2] = { *letters, '\0' };
			(void)say_usage(command->name, "no option '-%s'", shown(text).text);
			return ARGS_BAD;
		}
		letters++;
		if (given.row->argument) {
			if (*letters == '\0' && *index + 1 >= argc) {
				(void)say_usage(command->name, "-%c needs a value: %s",
					given.row->letter, given.row->argument);
				return ARGS_BAD;
			}
			given.value = *letters ? letters : argv[++*index];
			return take(&given, target);
		}
		int r = take(&given, target);
		if (r != ARGS_OK)
			return r;
	}
	return ARGS_OK;
}

int args_parse(
	const struct command *command, int argc, char **argv, void *target, int *ret_operand_count)
{
	int operand_count = 0;
	bool only_operands = false;

	for (int i = 1; i < argc; i++) {
		int r = ARGS_OK;
		if (only_operands || argv[i][0] != '-' || argv[i][1] == '\0')
			argv[operand_count++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			only_operands = true;
		else if (argv[i][1] == '-')
			r = parse_long(command, argc, argv, &i, target);
		else
			r = parse_letters(command, argc, argv, &i, target);
		if (r != ARGS_OK)
			return r;
	}
	*ret_operand_count = operand_count;
	return ARGS_OK;
}

int args_status(int result)
{
	return result == ARGS_DONE ? ZH_OK : ZH_USAGE;
}
