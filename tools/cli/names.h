/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.h - a list of names from a file or from standard input, one to a line or each ended by a
 * zero byte. It is read once and kept, because every attempt needs it.
 */
#ifndef CLI_NAMES_H
#define CLI_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#define NAMES_BYTES_MOST ((size_t)1 << 30)

/* Zeroed: none. */
struct names {
	char *text; /* each name is ended by a zero byte */
	size_t bytes;
};

/*
 * Reads path, "-" being standard input. null_ended: names end with a zero byte rather than a
 * newline. Returns NULL, or a sentence that says what is wrong, good until the next call of
 * strerror.
 */
const char *names_read(const char *path, bool null_ended, struct names *ret_names);
/* The next name that is not empty: *at begins at 0. NULL past the last. */
const char *names_next(const struct names *names, size_t *at);
void names_free(struct names *names);

#endif
