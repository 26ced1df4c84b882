/* SPDX-License-Identifier: Apache-2.0 */
/* nearest.h - which of some known names a mistyped one was probably meant to be. */
#ifndef CLI_NEAREST_H
#define CLI_NEAREST_H

#include <stddef.h>

struct nearest {
	const char *given;
	const char *best; /* NULL: nothing is near */
	size_t distance;
};

struct nearest nearest_begin(const char *given);
void nearest_offer(struct nearest *nearest, const char *known);

#endif
