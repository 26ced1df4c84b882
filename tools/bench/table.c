/* SPDX-License-Identifier: Apache-2.0 */
/* table.c - what was found, for people. Medians, because a disturbed trial is far off. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "../cli/wrap.h"

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a;
	const double y = *(const double *)b;

	return (x > y) - (x < y);
}

static void sort(struct cell *cell)
{
	for (size_t i = 0; i < FIGURE_COUNT; i++)
		qsort(cell->figure[i], cell->count, sizeof(double), compare);
}

/* Of a cell that is sorted and has some. */
static double median(const struct cell *cell, enum figure figure)
{
	const double *sorted = cell->figure[figure];
	const size_t middle = cell->count / 2;

	return cell->count % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

static double lowest_rate(const struct cell *cell)
{
	return cell->figure[FIGURE_RATE][0];
}

static double highest_rate(const struct cell *cell)
{
	return cell->figure[FIGURE_RATE][cell->count - 1];
}

/* The stage that most trials name. */
static const char *usual_limit(const struct cell *cell)
{
	size_t most = 0;

	for (size_t i = 1; i < LIMITS_MOST; i++)
		if (cell->limit[i].count > cell->limit[most].count)
			most = i;
	return cell->limit[most].stage;
}

/* Strategy, chunk and Nagle mode always, the others where there is a choice. */
static bool is_shown(const struct levels *levels, size_t factor)
{
	return factor <= FACTOR_NAGLE || levels[factor].count > 1;
}

static void print_head(const struct levels *levels)
{
	static const char *const heads[FACTOR_COUNT] = {
		[FACTOR_STRATEGY] = "strategy",
		[FACTOR_CHUNK] = "chunk",
		[FACTOR_NAGLE] = "Nagle",
		[FACTOR_STREAMS] = "streams",
		[FACTOR_CONGESTION] = "congestion",
	};

	for (size_t i = 0; i < FACTOR_COUNT; i++)
		if (is_shown(levels, i))
			printf(i == FACTOR_STRATEGY ? "%-14s " : "%7s ", heads[i]);
	printf("%7s %15s %7s %8s %7s  %s\n", "GB/s", "lowest..highest", "sender", "receiver",
		"resent", "limited by");
}

static void print_cell(const struct levels *levels, const struct cell *cell)
{
	char range[32];

	for (size_t i = 0; i < FACTOR_COUNT; i++)
		if (is_shown(levels, i))
			printf(i == FACTOR_STRATEGY ? "%-14s " : "%7s ", cell->level[i]->text);
	snprintf(range, sizeof(range), "%.3f..%.3f", lowest_rate(cell), highest_rate(cell));
	printf("%7.3f %15s %7.3f %8.3f %7.0f  %s\n", median(cell, FIGURE_RATE), range,
		median(cell, FIGURE_SENDER_CPU), median(cell, FIGURE_RECEIVER_CPU),
		median(cell, FIGURE_RETRANSMITS), usual_limit(cell));
}

/* The cell that is best by a figure, other than but; NULL: there is none. */
static const struct cell *best(
	const struct cell *cells, size_t count, enum figure figure, const struct cell *but)
{
	const struct cell *found = NULL;

	for (size_t i = 0; i < count; i++) {
		const struct cell *cell = &cells[i];
		if (cell->count == 0 || cell == but)
			continue;
		const double gain = found ? median(cell, figure) - median(found, figure) : 0;
		if (!found || (figure == FIGURE_RATE ? gain > 0 : gain < 0))
			found = cell;
	}
	return found;
}

struct words {
	char text[128];
};

static struct words words_of(const struct levels *levels, const struct cell *cell)
{
	struct words words = { .text = "" };

	for (size_t i = 0; i < FACTOR_COUNT; i++) {
		const size_t used = strlen(words.text);
		if (is_shown(levels, i))
			snprintf(words.text + used, sizeof(words.text) - used, "%s%s",
				used ? "/" : "", cell->level[i]->text);
	}
	return words;
}

static bool overlap(const struct cell *a, const struct cell *b)
{
	return lowest_rate(a) <= highest_rate(b) && lowest_rate(b) <= highest_rate(a);
}

static void print_verdict(const struct levels *levels, const struct cell *cells, size_t count)
{
	const struct cell *fastest = best(cells, count, FIGURE_RATE, NULL);
	const struct cell *cheapest = best(cells, count, FIGURE_CPU, NULL);
	const struct cell *other =
		fastest == cheapest ? best(cells, count, FIGURE_RATE, fastest) : cheapest;
	char text[512];
	size_t used = 0;

	if (!other)
		return;
	if (fastest == cheapest)
		used += (size_t)snprintf(text, sizeof(text),
			"%s was the fastest (%.3f GB/s) and the cheapest (%.3f CPU s/GB of both "
			"ends), the next fastest was %s; ",
			words_of(levels, fastest).text, median(fastest, FIGURE_RATE),
			median(fastest, FIGURE_CPU), words_of(levels, other).text);
	else
		used += (size_t)snprintf(text, sizeof(text),
			"%s was the fastest (%.3f GB/s), %s the cheapest (%.3f CPU s/GB of both "
			"ends); ",
			words_of(levels, fastest).text, median(fastest, FIGURE_RATE),
			words_of(levels, cheapest).text, median(cheapest, FIGURE_CPU));
	snprintf(text + used, sizeof(text) - used, "their ranges of GB/s %s.",
		overlap(fastest, other) ? "overlap, so which is faster may be chance"
					: "do not overlap");
	putchar('\n');
	wrap_print(text, 0, 0);
}

void table_print(const struct levels levels[FACTOR_COUNT], struct cell *cells, size_t count)
{
	size_t shown = 0;

	for (size_t i = 0; i < count; i++) {
		if (cells[i].count == 0)
			continue;
		sort(&cells[i]);
		if (shown++ == 0) {
			wrap_print(
				"Medians; sender and receiver in CPU seconds for each GB:", 0, 0);
			print_head(levels);
		}
		print_cell(levels, &cells[i]);
	}
	print_verdict(levels, cells, count);
}
