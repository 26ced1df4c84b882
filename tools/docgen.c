/* SPDX-License-Identifier: Apache-2.0 */
/*
 * docgen.c - runs while the project is built and writes what would otherwise have to agree with the
 * program by hand: the generated parts of the manual pages, and the shell completions.
 *
 *   docgen man COMMAND|- TEMPLATE OUTPUT
 *   docgen shell bash|zsh|fish OUTPUT
 *
 * In a template @VERSION@ is replaced in place; @OPTIONS@, @COMMANDS@, @EXIT@ and @STRATEGIES@ are
 * lines of their own.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zerohaul.h>

#include "command.h"
#include "docgen.h"

enum { TEXT_COLUMNS = 78 };

static void put_word(FILE *out, const char *word, size_t length)
{
	char before = ' ';

	for (; length; before = *word++, length--) {
		if (*word == '\\')
			fputs("\\e", out);
		else if (*word == '-' && (before == ' ' || before == '-' || before == '('))
			/* What begins like something typed keeps an ASCII dash. */
			fputs("\\-", out);
		else
			fputc(*word, out);
	}
}

/* Plain text as mdoc(7) text lines; a sentence begins a line, so that its space is set right. */
static void put_text(FILE *out, const char *text)
{
	size_t column = 0;
	bool ended = false;

	while (*text) {
		const size_t length = strcspn(text, " ");
		if (column > 0 && (ended || column + 1 + length > TEXT_COLUMNS)) {
			fputc('\n', out);
			column = 0;
		} else if (column > 0) {
			fputc(' ', out);
			column++;
		}
		if (column == 0 && (*text == '.' || *text == '\''))
			fputs("\\&", out);
		put_word(out, text, length);
		ended = length > 0 && text[length - 1] == '.';
		column += length;
		text += length;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

static void put_options(FILE *out, const struct command *command)
{
	fputs(".Bl -tag -width Ds\n", out);
	for (size_t i = 0; i < command->option_count; i++) {
		const struct arg_option *row = &command->options[i];
		fputs(".It ", out);
		if (row->letter)
			fprintf(out, "Fl %c , ", row->letter);
		fprintf(out, "Fl -%s", row->name);
		if (row->argument)
			fprintf(out, " Ns = Ns Ar %s", row->argument);
		fputc('\n', out);
		put_text(out, row->help);
	}
	fputs(".El\n", out);
}

static void put_commands(FILE *out)
{
	fputs(".Bl -tag -width Ds\n", out);
	for (size_t i = 0; commands[i]; i++) {
		fprintf(out, ".It Cm %s\n", commands[i]->name);
		put_text(out, commands[i]->about);
		if (strcmp(commands[i]->page, program.page) != 0)
			fprintf(out, "See\n.Xr zerohaul-%s 1 .\n", commands[i]->name);
	}
	fputs(".El\n", out);
}

static void put_exit(FILE *out)
{
	const char *unknown = zh_outcome_name(-1);

	fputs(".Bl -tag -width 00 -compact\n", out);
	for (int outcome = 0; outcome < 128; outcome++) {
		if (strcmp(zh_outcome_name(outcome), unknown) == 0)
			continue;
		fprintf(out, ".It %d\n.Dv %s :\n", outcome, zh_outcome_name(outcome));
		put_text(out, zh_outcome_text(outcome));
	}
	fputs(".El\n", out);
}

static void put_row(FILE *out, const char *title, const char *text)
{
	fprintf(out, ".It %s\n", title);
	put_text(out, text);
}

static void put_strategies(FILE *out)
{
	const struct zh_strategy *strategy;
	char copies[96];
	char since[64];

	for (size_t i = 0; (strategy = zh_strategy_at(i)); i++) {
		fprintf(out, ".Ss %s (%s)\n", strategy->name,
			strategy->side == ZH_SEND ? "send" : "receive");
		fputs(".Bl -tag -width \"falls back to\" -compact\n", out);
		put_row(out, "mechanism", strategy->summary);
		snprintf(copies, sizeof(copies),
			"%u per byte across the user boundary, %u per byte in all on this side",
			strategy->user_copies, strategy->total_copies);
		put_row(out, "copies", copies);
		put_row(out, "needs", strategy->needs);
		snprintf(since, sizeof(since), "Linux %s", strategy->since);
		put_row(out, "first kernel", since);
		put_row(out, "falls back to",
			strategy->falls_back_to ? strategy->falls_back_to : "nothing");
		put_row(out, "digests",
			strategy->sees_data ? "while the bytes are in its buffers"
					    : "apart from moving, from the file");
		fputs(".El\n", out);
	}
}

static void put_line(FILE *out, const char *line)
{
	static const char version[] = "@VERSION@";
	const char *at;

	while ((at = strstr(line, version))) {
		fprintf(out, "%.*s%s", (int)(at - line), line, zh_version());
		line = at + sizeof(version) - 1;
	}
	fputs(line, out);
}

/* Returns 0 or a positive errno. */
static int fill(const struct command *command, FILE *in, FILE *out)
{
	char *line = NULL;
	size_t cap = 0;

	while (getline(&line, &cap, in) >= 0) {
		if (strcmp(line, "@OPTIONS@\n") == 0)
			put_options(out, command);
		else if (strcmp(line, "@COMMANDS@\n") == 0)
			put_commands(out);
		else if (strcmp(line, "@EXIT@\n") == 0)
			put_exit(out);
		else if (strcmp(line, "@STRATEGIES@\n") == 0)
			put_strategies(out);
		else
			put_line(out, line);
	}
	free(line);
	return ferror(in) ? EIO : 0;
}

static int usage(void)
{
	fputs("usage: docgen man COMMAND|- TEMPLATE OUTPUT\n"
	      "       docgen shell bash|zsh|fish OUTPUT\n",
		stderr);
	return EXIT_FAILURE;
}

static int write_page(const char *name, const char *template, FILE *out)
{
	const struct command *command = strcmp(name, "-") == 0 ? &program : command_find(name);
	FILE *in = fopen(template, "re");

	if (!command || !in) {
		fprintf(stderr, "docgen: no command '%s' or no template '%s'\n", name, template);
		if (in)
			fclose(in);
		return -1;
	}
	int r = fill(command, in, out);
	fclose(in);
	return r ? -1 : 0;
}

int main(int argc, char **argv)
{
	const bool page = argc == 5 && strcmp(argv[1], "man") == 0;
	const bool shell = argc == 4 && strcmp(argv[1], "shell") == 0;

	if (!page && !shell)
		return usage();
	FILE *out = fopen(argv[argc - 1], "we");
	if (!out) {
		perror(argv[argc - 1]);
		return EXIT_FAILURE;
	}
	int r = page ? write_page(argv[2], argv[3], out) : docgen_shell(argv[2], out);
	if (fclose(out) != 0)
		r = -1;
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
