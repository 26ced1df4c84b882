/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.h - what `zerohaul bench` measures and what it says about it: a cell is one level of each
 * factor, a trial one transfer of a cell. The files beside this one make no transfer; cmd_bench.c
 * does.
 */
#ifndef TOOLS_BENCH_BENCH_H
#define TOOLS_BENCH_BENCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <zerohaul.h>

/* ------------------------------ levels.c ------------------------------------------------ */

/* Cells are in this order, the last one changing fastest. */
enum factor {
	FACTOR_STRATEGY,
	FACTOR_CHUNK,
	FACTOR_NAGLE,
	FACTOR_STREAMS,
	FACTOR_CONGESTION,
	FACTOR_COUNT,
};

/* The words are those of bench/schema/trial.json. */
enum bench_nagle { BENCH_AUTO, BENCH_DEFAULT, BENCH_NODELAY, BENCH_CORK };

#define LEVELS_MOST 64

struct level {
	char text[ZH_NAME_CAP]; /* sizes as "64K" */
	uint64_t value;         /* bytes, a count, enum bench_nagle; congestion: 1 if asked for */
};

struct levels {
	struct level item[LEVELS_MOST];
	size_t count;
};

/* Parse "a,b,c". False: one line on stderr has said what is wrong. */
bool levels_parse(
	const char *command, enum factor factor, const char *list, struct levels *ret_levels);

/* ------------------------------ source.c ------------------------------------------------ */

/* The file that is sent. */
struct source {
	const char *path;
	int fd; /* -1: none */
	uint64_t bytes;
	char made[4096]; /* its path if it was made here, else "" */
};

/*
 * Open path; NULL: make a file of so many bytes in TMPDIR, whose content follows from seed. All of
 * it is in the page cache then, if there is room. *stopped has it end early. Returns ZH_OK, or the
 * outcome that one line on stderr has said; bench_source_close in any case.
 */
int bench_source_open(const char *path, uint64_t bytes, uint64_t seed, const _Atomic bool *stopped,
	struct source *ret_source);
/* Have read in what has left the page cache since. */
void bench_source_warm(const struct source *source);
/* A file that was made is removed. */
void bench_source_close(struct source *source);

/* The next of a series that follows from the first state. */
uint64_t random_next(uint64_t *state);

/* ------------------------------ cells --------------------------------------------------- */

enum figure {
	FIGURE_RATE,         /* GB/s */
	FIGURE_SENDER_CPU,   /* s/GB */
	FIGURE_RECEIVER_CPU, /* s/GB */
	FIGURE_CPU,          /* of both */
	FIGURE_RETRANSMITS,
	FIGURE_COUNT,
};

#define LIMITS_MOST 8 /* stages that may limit a transfer */

struct cell {
	const struct level *level[FACTOR_COUNT];
	char id[200];
	bool invalid;                 /* cannot be had between these hosts */
	size_t count;                 /* trials that gave figures, one of each from each of them: */
	double *figure[FIGURE_COUNT]; /* borrowed */
	struct {
		char stage[32];
		size_t count;
	} limit[LIMITS_MOST];
};

/* Adds the figures of a trial; there is room for them. */
void cell_add(struct cell *cell, const struct zh_report *report);

/* ------------------------------ record.c ------------------------------------------------ */

/* What all records of a run have in common. */
struct setting {
	char run[64];
	uint64_t seed;
	uint64_t file_bytes;
	struct zh_sockopts sock; /* of it the sizes */
};

/* Where in the run a trial is. */
struct place {
	uint32_t round; /* from 1; 0: the warm-up */
	size_t order;   /* in the round, from 0 */
	char utc[40];   /* when it began */
};

/* A trial begins. */
struct place place_begin(uint32_t round, size_t order);

/* Gives a cell its id, by its levels and the setting: equal ids are equal cells. */
void cell_name(struct cell *cell, const struct setting *setting);

/* Why a transfer that ended well gives no figures all the same, static; NULL: it does. */
const char *report_fault(const struct zh_report *report);

/*
 * A trial as bench/schema/trial.json has it. report is NULL where there are no figures; then error
 * says why. Returns a new reference, or NULL without memory.
 */
json_t *record_of(const struct setting *setting, const struct cell *cell, const struct place *place,
	const struct zh_report *report, const char *error);

/* ------------------------------ table.c ------------------------------------------------- */

/*
 * Prints the cells that have figures as a table on stdout, and which of them is the fastest and
 * which the cheapest. Sorts their figures.
 */
void table_print(const struct levels levels[FACTOR_COUNT], struct cell *cells, size_t count);

#endif
