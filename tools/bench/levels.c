/* SPDX-License-Identifier: Apache-2.0 */
/* levels.c - lists of levels, as they stand on the command line. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "../cli/say.h"
#include "../cli/size.h"

enum { STREAMS_MOST = 64, CONGESTION_CAP = 16 };

static bool take_strategy(const char *word, uint64_t *ret_value)
{
	const struct zh_strategy *strategy;

	*ret_value = 0;
	for (size_t i = 0; (strategy = zh_strategy_at(i)); i++)
		if (strategy->side == ZH_SEND && strcmp(strategy->name, word) == 0)
			return true;
	return false;
}

static bool take_chunk(const char *word, uint64_t *ret_value)
{
	return size_parse(word, ret_value) == 0 && *ret_value >= 1 && *ret_value <= INT32_MAX;
}

static bool take_nagle(const char *word, uint64_t *ret_value)
{
	static const char *const words[] = {
		[BENCH_AUTO] = "auto",
		[BENCH_DEFAULT] = "default",
		[BENCH_NODELAY] = "nodelay",
		[BENCH_CORK] = "cork",
	};

	for (uint64_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i], word) == 0) {
			*ret_value = i;
			return true;
		}
	return false;
}

static bool take_streams(const char *word, uint64_t *ret_value)
{
	return count_parse(word, ret_value) == 0 && *ret_value >= 1 && *ret_value <= STREAMS_MOST;
}

static bool take_congestion(const char *word, uint64_t *ret_value)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
	const size_t length = strlen(word);

	*ret_value = 1;
	return length > 0 && length < CONGESTION_CAP && strspn(word, allowed) == length;
}

static const struct {
	const char *option;
	const char *wanted;
	bool (*take)(const char *word, uint64_t *ret_value);
} factors[FACTOR_COUNT] = {
	[FACTOR_STRATEGY] = { "strategies", "a strategy that sends, see 'zerohaul probe'",
		take_strategy },
	[FACTOR_CHUNK] = { "chunks", "a size from 1 to less than 2G", take_chunk },
	[FACTOR_NAGLE] = { "nagle", "one of auto, default, nodelay and cork", take_nagle },
	[FACTOR_STREAMS] = { "streams", "a number from 1 to 64", take_streams },
	[FACTOR_CONGESTION] = { "congestion", "a name of at most 15 letters", take_congestion },
};

/* What means the same is written in the same way. */
static void write_level(enum factor factor, const char *word, struct level *level)
{
	const struct number_text size = size_exact(level->value);

	if (factor == FACTOR_STREAMS)
		snprintf(level->text, sizeof(level->text), "%" PRIu64, level->value);
	else
		snprintf(level->text, sizeof(level->text), "%.23s",
			factor == FACTOR_CHUNK ? size.text : word);
}

static bool is_there(const struct levels *levels, const struct level *level)
{
	for (size_t i = 0; i < levels->count; i++)
		if (strcmp(levels->item[i].text, level->text) == 0)
			return true;
	return false;
}

static bool take_word(
	const char *command, enum factor factor, const char *word, struct levels *levels)
{
	const char *option = factors[factor].option;
	struct level level = { .value = 0 };

	if (strlen(word) >= sizeof(level.text) || !factors[factor].take(word, &level.value)) {
		(void)say_usage(command, "--%s: '%s' is not %s", option, shown(word).text,
			factors[factor].wanted);
		return false;
	}
	write_level(factor, word, &level);
	if (is_there(levels, &level)) {
		(void)say_usage(command, "--%s: '%s' is there twice", option, word);
		return false;
	}
	if (levels->count == LEVELS_MOST) {
		(void)say_usage(command, "--%s: more than %d levels", option, LEVELS_MOST);
		return false;
	}
	levels->item[levels->count++] = level;
	return true;
}

bool levels_parse(
	const char *command, enum factor factor, const char *list, struct levels *ret_levels)
{
	char word[256];

	ret_levels->count = 0;
	for (;;) {
		const size_t length = strcspn(list, ",");
		snprintf(word, sizeof(word), "%.*s", (int)length, list);
		if (!take_word(command, factor, word, ret_levels))
			return false;
		if (list[length] == '\0')
			return true;
		list += length + 1;
	}
}
