/* SPDX-License-Identifier: Apache-2.0 */
/* say.c - one line on stderr for one thing that went wrong. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "say.h"

struct shown shown(const char *bytes)
{
	struct shown shown;
	zh_escape(bytes, strlen(bytes), shown.text, sizeof(shown.text));
	return shown;
}

__attribute__((format(printf, 2, 0))) static void write_line(
	const char *tail, const char *format, va_list arguments)
{
	char line[4096] = "zerohaul: ";
	const size_t cap = sizeof(line) - 1;
	size_t used = strlen(line);

	int n = vsnprintf(line + used, cap - used, format, arguments);
	if (n > 0)
		used += (size_t)n < cap - used ? (size_t)n : cap - used - 1;
	n = snprintf(line + used, cap - used, "%s", tail);
	if (n > 0)
		used += (size_t)n < cap - used ? (size_t)n : cap - used - 1;
	line[used++] = '\n';
	/* Nobody is left to tell when stderr cannot be written. */
	ssize_t written = write(STDERR_FILENO, line, used);
	(void)written;
}

int say_error(int outcome, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	write_line("", format, arguments);
	va_end(arguments);
	return outcome;
}

int say_usage(const char *command, const char *format, ...)
{
	char hint[64];
	snprintf(hint, sizeof(hint), "; see 'zerohaul %s%s--help'", command ? command : "",
		command ? " " : "");
	va_list arguments;
	va_start(arguments, format);
	write_line(hint, format, arguments);
	va_end(arguments);
	return ZH_USAGE;
}

void say_record(const struct zh_error *error)
{
	const char *text = error->text[0] ? error->text : zh_outcome_text(error->outcome);
	char where[128] = "";

	if (error->at_peer)
		snprintf(where, sizeof(where), ", said by %s",
			error->peer[0] ? error->peer : "the peer");
	if (error->file[0])
		(void)say_error(0, "'%s': %s [%s%s]", error->file, text,
			zh_outcome_name(error->outcome), where);
	else
		(void)say_error(0, "%s [%s%s]", text, zh_outcome_name(error->outcome), where);
}

int say_file(int outcome, const char *file, const char *text)
{
	return say_error(
		outcome, "'%s': %s [%s]", shown(file).text, text, zh_outcome_name(outcome));
}

int outcome_of_errno(int errnum)
{
	switch (errnum) {
	case EEXIST:
		return ZH_EXISTS;
	case ENOSPC:
		return ZH_NOSPACE;
	case EDQUOT:
		return ZH_QUOTA;
	case EACCES:
	case EPERM:
	case EROFS:
		return ZH_PERM;
	case EINVAL:
		return ZH_USAGE;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return ZH_LIMIT;
	default:
		return ZH_DST_IO;
	}
}
