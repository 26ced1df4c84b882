/* SPDX-License-Identifier: Apache-2.0 */
/* nearest.c - edit distance between short names. */
#include <stdbool.h>
#include <string.h>

#include "nearest.h"

#define NAME_CAP 48

static size_t smallest(size_t a, size_t b, size_t c)
{
	const size_t ab = a < b ? a : b;
	return ab < c ? ab : c;
}

static size_t edit_distance(const char *a, const char *b)
{
	size_t row[NAME_CAP + 1];
	const size_t b_length = strnlen(b, NAME_CAP);

	for (size_t j = 0; j <= b_length; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1] && i <= NAME_CAP; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			const size_t above = row[j];
			row[j] = smallest(above + 1, row[j - 1] + 1,
				diagonal + (a[i - 1] == b[j - 1] ? 0 : 1));
			diagonal = above;
		}
	}
	return row[b_length];
}

struct nearest nearest_begin(const char *given)
{
	return (struct nearest){ .given = given, .distance = 3 };
}

void nearest_offer(struct nearest *nearest, const char *known)
{
	const size_t length = strlen(nearest->given);
	const bool begins = length >= 2 && strncmp(known, nearest->given, length) == 0;
	const size_t distance = begins ? 0 : edit_distance(nearest->given, known);

	/* A distance as long as the name itself would offer any other short name. */
	if (distance < nearest->distance && distance < length) {
		nearest->distance = distance;
		nearest->best = known;
	}
}
