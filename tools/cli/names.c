/* SPDX-License-Identifier: Apache-2.0 */
/* names.c - see names.h. */
#include "names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 65536

/* Room for more, and for the end of the last name. */
static bool grow(struct names *names, size_t *cap)
{
	size_t wanted = *cap ? 2 * *cap : FIRST_BYTES;
	char *grown = realloc(names->text, wanted + 1);

	if (!grown)
		return false;
	names->text = grown;
	*cap = wanted;
	return true;
}

static const char *read_all(FILE *file, struct names *names)
{
	size_t cap = 0;

	do {
		if (names->bytes == cap && !grow(names, &cap))
			return strerror(ENOMEM);
		names->bytes += fread(names->text + names->bytes, 1, cap - names->bytes, file);
		if (ferror(file))
			return strerror(errno);
		if (names->bytes > NAMES_BYTES_MOST)
			return "it is longer than 1 GiB";
	} while (!feof(file));
	names->text[names->bytes++] = '\0';
	return NULL;
}

static const char *end_lines(struct names *names)
{
	/* the last byte is the end of what was read */
	if (strlen(names->text) + 1 < names->bytes)
		return "it has a zero byte, so --null may be missing";
	for (char *at = names->text; (at = strchr(at, '\n')); at++)
		*at = '\0';
	return NULL;
}

const char *names_read(const char *path, bool null_ended, struct names *ret_names)
{
	const bool standard = strcmp(path, "-") == 0;
	FILE *file = standard ? stdin : fopen(path, "re");

	if (!file)
		return strerror(errno);
	const char *wrong = read_all(file, ret_names);
	if (!standard)
		fclose(file);
	return wrong || null_ended ? wrong : end_lines(ret_names);
}

const char *names_next(const struct names *names, size_t *at)
{
	while (*at < names->bytes) {
		const char *name = names->text + *at;
		*at += strlen(name) + 1;
		if (name[0] != '\0')
			return name;
	}
	return NULL;
}

void names_free(struct names *names)
{
	free(names->text);
	*names = (struct names){ .text = NULL };
}
