/* SPDX-License-Identifier: Apache-2.0 */
/*
 * args.h - options as data: one row per option says how it is written, what it takes, what it is
 * for and where its value goes. Help, manual and completions are printed from the same rows.
 */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct command;
struct zh_strategy;

enum arg_kind {
	ARG_HELP,
	ARG_VERSION,
	ARG_BITS,      /* or .value into the member */
	ARG_TEXT,      /* a pointer to the text */
	ARG_FILE,      /* the same, names a file */
	ARG_DIRECTORY, /* the same, names a directory */
	ARG_SEND,      /* the same, names a sending strategy */
	ARG_RECEIVE,   /* the same, names a receiving strategy */
	ARG_STRATEGY,  /* the same, names a strategy of either side */
	ARG_BUFFER,    /* the text is copied into a char array */
	ARG_LIST,      /* the text is appended to a struct arg_list, with .value */
	ARG_CHOICE,    /* .argument is "a|b|c"; the index of the word */
	ARG_SIZE,      /* bytes, with an optional suffix */
	ARG_COUNT,     /* a plain number */
	ARG_SECONDS,   /* decimal fraction allowed, stored in milliseconds */
};

struct arg_option {
	const char *name;
	char letter; /* 0: none */
	enum arg_kind kind;
	const char *argument; /* NULL: takes none */
	const char *help;
	size_t at;        /* of the member in the command's struct */
	size_t width;     /* of the member */
	uint64_t value;   /* ARG_BITS: the bits */
	uint64_t minimum; /* numbers, in the unit they are stored in */
	uint64_t maximum; /* 0: what the member can hold */
};

/* What options that may be given again have gathered, in their order. free() the items. */
struct arg_list {
	struct arg_item {
		const char *text;
		uint64_t value; /* of the row: tells options apart that share a list */
	} * item;
	size_t count;
};

/* The member of a command's struct that an option is stored in. */
#define ARG_AT(type, member) .at = offsetof(type, member), .width = sizeof(((type *)0)->member)

enum {
	ARGS_OK = 0,
	ARGS_DONE = 1, /* --help or --version was answered */
	ARGS_BAD = 2,  /* one line on stderr has said what is wrong */
};

/*
 * Parse argv[1..argc-1]; options may stand anywhere before "--". The operands are moved to
 * argv[0..] and counted. Texts stored into target point into argv.
 */
int args_parse(
	const struct command *command, int argc, char **argv, void *target, int *ret_operand_count);

/* Whether a strategy is one of those that the option can name. */
bool arg_takes_strategy(const struct arg_option *row, const struct zh_strategy *strategy);

/* The exit status of a parse that did not return ARGS_OK. */
int args_status(int result);

#endif
