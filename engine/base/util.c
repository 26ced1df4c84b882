/* SPDX-License-Identifier: Apache-2.0 */
/* util.c - the one way this library ends a program, and growing buffers. */
#include "base/util.h"

#include <errno.h>
#include <stdio.h>

_Noreturn void check_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "zerohaul: internal error: %s (%s:%d)\n", condition, file, line);
	abort();
}

int buffer_reserve(struct buffer *buffer, size_t bytes)
{
	if (buffer->cap >= bytes)
		return 0;
	buffer_free(buffer);
	buffer->memory = aligned_alloc(4096, round_up(bytes, 4096));
	if (!buffer->memory)
		return -ENOMEM;
	buffer->cap = bytes;
	return 0;
}

void buffer_free(struct buffer *buffer)
{
	free(buffer->memory);
	buffer->memory = NULL;
	buffer->cap = 0;
}
