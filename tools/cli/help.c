/* SPDX-License-Identifier: Apache-2.0 */
/* help.c - lays out --help. */
#include <stdio.h>
#include <string.h>

#include "help.h"
#include "wrap.h"
#include "../command.h"

#define LEFT 24 /* column of the explanations */

/* One row: what is typed on the left, what it means on the right. */
static void entry(const char *left, const char *text)
{
	int column = printf("  %s", left);

	if (column > LEFT - 2) {
		putchar('\n');
		column = 0;
	}
	printf("%*s", LEFT - column, "");
	wrap_print(text, LEFT, LEFT);
}

/* A form of the synopsis; it breaks between options, never inside one. */
static void usage(const char *name, const char *form, size_t length)
{
	int column = printf("       zerohaul%s%s", name ? " " : "", name ? name : "");
	const int indent = column;

	while (length) {
		size_t word = 0;
		int depth = 0;
		for (; word < length && (depth > 0 || form[word] != ' '); word++) {
			if (form[word] == '[' || form[word] == '(')
				depth++;
			else if (form[word] == ']' || form[word] == ')')
				depth--;
		}
		if (column > indent && column + 1 + (int)word > WRAP_COLUMNS) {
			printf("\n%*s", indent, "");
			column = indent;
		}
		column += printf(" %.*s", (int)word, form);
		form += word;
		length -= word;
		for (; length && *form == ' '; length--)
			form++;
	}
	putchar('\n');
}

static void options(const struct command *command)
{
	printf("\nOptions:\n");
	for (size_t i = 0; i < command->option_count; i++) {
		const struct arg_option *row = &command->options[i];
		char left[96];
		char letter[8] = "    ";
		if (row->letter)
			snprintf(letter, sizeof(letter), "-%c, ", row->letter);
		snprintf(left, sizeof(left), "%s--%s%s%s", letter, row->name,
			row->argument ? "=" : "", row->argument ? row->argument : "");
		entry(left, row->help);
	}
}

void help_print(const struct command *command)
{
	const char *form = command->synopsis;

	printf("Usage:\n");
	while (form) {
		const size_t length = strcspn(form, "\n");
		usage(command->name, form, length);
		form = form[length] ? form + length + 1 : NULL;
	}
	putchar('\n');
	wrap_print(command->about, 0, 0);
	if (!command->run) {
		printf("\nCommands:\n");
		for (size_t i = 0; commands[i]; i++)
			entry(commands[i]->name, commands[i]->summary);
	}
	options(command);
	if (!command->run)
		printf("\n'zerohaul help COMMAND' explains a command.");
	printf("\nThe manual page %s says more.\n", command->page);
}
