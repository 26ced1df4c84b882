/* SPDX-License-Identifier: Apache-2.0 */
/* docgen_shell.c - shell completions from the table of commands. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <zerohaul.h>

#include "command.h"
#include "docgen.h"

/* The words that an option's value can be, with a blank between; nothing when it is open. */
static void put_words(FILE *out, const struct arg_option *row)
{
	const struct zh_strategy *strategy;
	const char *between = "";

	if (row->kind == ARG_CHOICE)
		for (const char *c = row->argument; *c; c++)
			fputc(*c == '|' ? ' ' : *c, out);
	for (size_t i = 0; (strategy = zh_strategy_at(i)); i++) {
		if (!arg_takes_strategy(row, strategy))
			continue;
		fprintf(out, "%s%s", between, strategy->name);
		between = " ";
	}
}

static bool has_words(const struct arg_option *row)
{
	return row->kind == ARG_CHOICE || row->kind == ARG_SEND || row->kind == ARG_RECEIVE ||
	       row->kind == ARG_STRATEGY;
}

static void put_command_names(FILE *out)
{
	for (size_t i = 0; commands[i]; i++)
		fprintf(out, "%s%s", i ? " " : "", commands[i]->name);
}

/* ------------------------------ bash --------------------------------------------------- */

static void bash_options(FILE *out, const struct command *command)
{
	for (size_t i = 0; i < command->option_count; i++) {
		const struct arg_option *row = &command->options[i];
		fprintf(out, "%s--%s%s", i ? " " : "", row->name, row->argument ? "=" : "");
	}
}

static void bash_values(FILE *out, const struct command *command)
{
	for (size_t i = 0; i < command->option_count; i++) {
		const struct arg_option *row = &command->options[i];
		if (!row->argument)
			continue;
		fprintf(out, "\t%s:--%s", command->name, row->name);
		if (row->letter)
			fprintf(out, " | %s:-%c", command->name, row->letter);
		if (has_words(row)) {
			fputs(") _zerohaul_words '", out);
			put_words(out, row);
			fputs("' ;;\n", out);
		} else if (row->kind == ARG_FILE) {
			fputs(") _zerohaul_files -f ;;\n", out);
		} else if (row->kind == ARG_DIRECTORY) {
			fputs(") _zerohaul_files -d ;;\n", out);
		} else {
			fputs(") ;;\n", out);
		}
	}
}

static void bash(FILE *out)
{
	fputs("# bash completion for zerohaul, generated from its table of options\n\n"
	      "_zerohaul_words() {\n"
	      "\tmapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$current\")\n"
	      "}\n\n"
	      "_zerohaul_files() {\n"
	      "\tcompopt -o filenames 2>/dev/null\n"
	      "\tmapfile -t COMPREPLY < <(compgen \"$1\" -- \"$current\")\n"
	      "}\n\n"
	      "_zerohaul() {\n"
	      "\tlocal current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
	      "\tlocal command=${COMP_WORDS[1]}\n"
	      "\tCOMPREPLY=()\n"
	      "\tif ((COMP_CWORD == 1)); then\n"
	      "\t\t_zerohaul_words '",
		out);
	put_command_names(out);
	fputc(' ', out);
	bash_options(out, &program);
	fputs("'\n\t\treturn\n\tfi\n"
	      "\t# readline takes '=' for a word of its own\n"
	      "\tif [[ $current == = ]]; then\n"
	      "\t\tcurrent=\n"
	      "\telif [[ $before == = ]]; then\n"
	      "\t\tbefore=${COMP_WORDS[COMP_CWORD - 2]}\n"
	      "\tfi\n"
	      "\tcase $command:$before in\n",
		out);
	for (size_t i = 0; commands[i]; i++)
		bash_values(out, commands[i]);
	fputs("\t*)\n\t\tif [[ $current != -* ]]; then\n"
	      "\t\t\tif [[ $command == help ]]; then\n\t\t\t\t_zerohaul_words '",
		out);
	put_command_names(out);
	fputs("'\n\t\t\telse\n\t\t\t\t_zerohaul_files -f\n\t\t\tfi\n\t\t\treturn\n\t\tfi\n"
	      "\t\tcase $command in\n",
		out);
	for (size_t i = 0; commands[i]; i++) {
		fprintf(out, "\t\t%s) _zerohaul_words '", commands[i]->name);
		bash_options(out, commands[i]);
		fputs("' ;;\n", out);
	}
	fputs("\t\tesac\n"
	      "\t\t[[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace "
	      "2>/dev/null\n"
	      "\t\t;;\n\tesac\n}\n\ncomplete -F _zerohaul zerohaul\n",
		out);
}

/* ------------------------------ zsh ---------------------------------------------------- */

/* Text inside [...] of an _arguments specification, itself inside single quotes. */
static void zsh_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\'", out);
		else if (strchr("[]:\\", *text))
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void zsh_option(FILE *out, const struct arg_option *row)
{
	const char *equals = row->argument ? "=" : "";

	fputs("\t\t\t", out);
	if (row->letter)
		fprintf(out, "'(-%c --%s)'{-%c%s,--%s%s}'[", row->letter, row->name, row->letter,
			row->argument ? "+" : "", row->name, equals);
	else
		fprintf(out, "'--%s%s[", row->name, equals);
	zsh_text(out, row->help);
	fputc(']', out);
	if (row->argument) {
		fprintf(out, ":%s:", row->kind == ARG_CHOICE ? row->name : row->argument);
		if (has_words(row)) {
			fputc('(', out);
			put_words(out, row);
			fputc(')', out);
		} else if (row->kind == ARG_FILE) {
			fputs("_files", out);
		} else if (row->kind == ARG_DIRECTORY) {
			fputs("_files -/", out);
		}
	}
	fputs("' \\\n", out);
}

static void zsh(FILE *out)
{
	fputs("#compdef zerohaul\n# generated from zerohaul's table of options\n\n"
	      "_zerohaul() {\n\tlocal -a names\n\tnames=(\n",
		out);
	for (size_t i = 0; commands[i]; i++) {
		fprintf(out, "\t\t'%s:", commands[i]->name);
		zsh_text(out, commands[i]->summary);
		fputs("'\n", out);
	}
	fputs("\t)\n\tif ((CURRENT == 2)); then\n"
	      "\t\t_describe command names\n\t\t_arguments \\\n",
		out);
	for (size_t i = 0; i < program.option_count; i++)
		zsh_option(out, &program.options[i]);
	fputs("\t\t\t&& return\n\t\treturn\n\tfi\n"
	      "\tlocal name=$words[2]\n\tshift words\n\t((CURRENT--))\n\tcase $name in\n",
		out);
	for (size_t i = 0; commands[i]; i++) {
		fprintf(out, "\t%s)\n\t\t_arguments -s -S \\\n", commands[i]->name);
		for (size_t k = 0; k < commands[i]->option_count; k++)
			zsh_option(out, &commands[i]->options[k]);
		if (strcmp(commands[i]->name, "help") == 0) {
			fputs("\t\t\t'1:command:(", out);
			put_command_names(out);
			fputs(")'\n\t\t;;\n", out);
		} else {
			fputs("\t\t\t'*:file:_files'\n\t\t;;\n", out);
		}
	}
	fputs("\tesac\n}\n\n_zerohaul \"$@\"\n", out);
}

/* ------------------------------ fish --------------------------------------------------- */

static void fish_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\'' || *text == '\\')
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void fish_options(FILE *out, const struct command *command, const char *condition)
{
	for (size_t i = 0; i < command->option_count; i++) {
		const struct arg_option *row = &command->options[i];
		fprintf(out, "complete -c zerohaul -n '%s' -l %s", condition, row->name);
		if (row->letter)
			fprintf(out, " -s %c", row->letter);
		if (has_words(row)) {
			fputs(" -x -a '", out);
			put_words(out, row);
			fputc('\'', out);
		} else if (row->kind == ARG_FILE) {
			fputs(" -r -F", out);
		} else if (row->kind == ARG_DIRECTORY) {
			fputs(" -x -a '(__fish_complete_directories)'", out);
		} else if (row->argument) {
			fputs(" -x", out);
		}
		fputs(" -d '", out);
		fish_text(out, row->help);
		fputs("'\n", out);
	}
}

static void fish(FILE *out)
{
	char condition[96];

	fputs("# fish completion for zerohaul, generated from its table of options\n", out);
	for (size_t i = 0; commands[i]; i++) {
		fprintf(out, "complete -c zerohaul -f -n __fish_use_subcommand -a %s -d '",
			commands[i]->name);
		fish_text(out, commands[i]->summary);
		fputs("'\n", out);
	}
	fish_options(out, &program, "__fish_use_subcommand");
	for (size_t i = 0; commands[i]; i++) {
		snprintf(condition, sizeof(condition), "__fish_seen_subcommand_from %s",
			commands[i]->name);
		fish_options(out, commands[i], condition);
	}
}

int docgen_shell(const char *shell, FILE *out)
{
	if (strcmp(shell, "bash") == 0)
		bash(out);
	else if (strcmp(shell, "zsh") == 0)
		zsh(out);
	else if (strcmp(shell, "fish") == 0)
		fish(out);
	else
		return -EINVAL;
	return 0;
}
