/* SPDX-License-Identifier: Apache-2.0 */
/* size.c - parses and prints sizes, counts and times. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "size.h"

/* Reads digits; *text moves to what follows them. */
static int digits(const char **text, uint64_t *ret_number)
{
	uint64_t number = 0;
	const char *p = *text;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(number, 10u, &number) ||
			__builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
			return -ERANGE;
	*text = p;
	*ret_number = number;
	return 0;
}

static int suffix(const char *text, uint64_t *ret_factor)
{
	static const char letters[] = "KMGT";

	*ret_factor = 1;
	if (*text == '\0')
		return 0;
	const char letter = *text == 'k' ? 'K' : *text;
	const char *at = strchr(letters, letter);
	if (!at)
		return -EINVAL;
	uint64_t base = 1024;
	if (strcmp(text + 1, "B") == 0)
		base = 1000;
	else if (text[1] != '\0' && strcmp(text + 1, "iB") != 0)
		return -EINVAL;
	for (const char *p = letters; p <= at; p++)
		*ret_factor *= base;
	return 0;
}

int size_parse(const char *text, uint64_t *ret_bytes)
{
	uint64_t number;
	uint64_t factor;
	int r = digits(&text, &number);

	if (r < 0)
		return r;
	r = suffix(text, &factor);
	if (r < 0)
		return r;
	return __builtin_mul_overflow(number, factor, ret_bytes) ? -ERANGE : 0;
}

int count_parse(const char *text, uint64_t *ret_count)
{
	int r = digits(&text, ret_count);

	if (r < 0)
		return r;
	return *text ? -EINVAL : 0;
}

int seconds_parse(const char *text, uint64_t *ret_ms)
{
	uint64_t whole;
	uint64_t fraction_ms = 0;
	int r = digits(&text, &whole);

	if (r < 0)
		return r;
	if (*text == '.') {
		text++;
		for (uint64_t unit = 100; *text >= '0' && *text <= '9'; text++, unit /= 10)
			fraction_ms += unit * (uint64_t)(*text - '0');
	}
	if (*text)
		return -EINVAL;
	if (__builtin_mul_overflow(whole, 1000u, ret_ms) ||
		__builtin_add_overflow(*ret_ms, fraction_ms, ret_ms))
		return -ERANGE;
	return 0;
}

struct number_text size_text(uint64_t bytes)
{
	static const char *const units[] = { "KB", "MB", "GB", "TB", "PB", "EB" };
	struct number_text out;
	double value = (double)bytes / 1000.0;
	size_t unit = 0;

	if (bytes < 1000) {
		snprintf(out.text, sizeof(out.text), "%" PRIu64 " B", bytes);
		return out;
	}
	for (; value >= 999.5 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
		value /= 1000.0;
	snprintf(out.text, sizeof(out.text), "%.3g %s", value, units[unit]);
	return out;
}

struct number_text size_exact(uint64_t bytes)
{
	static const char *const units[] = { "", "K", "M", "G" };
	struct number_text out;
	size_t unit = 0;

	while (bytes && bytes % 1024 == 0 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		bytes /= 1024;
		unit++;
	}
	snprintf(out.text, sizeof(out.text), "%" PRIu64 "%s", bytes, units[unit]);
	return out;
}

struct number_text clock_text(uint64_t seconds)
{
	struct number_text out;

	if (seconds >= 3600)
		snprintf(out.text, sizeof(out.text), "%" PRIu64 ":%02u:%02u", seconds / 3600,
			(unsigned int)(seconds / 60 % 60), (unsigned int)(seconds % 60));
	else
		snprintf(out.text, sizeof(out.text), "%u:%02u", (unsigned int)(seconds / 60),
			(unsigned int)(seconds % 60));
	return out;
}
