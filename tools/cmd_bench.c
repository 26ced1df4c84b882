/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_bench.c - `zerohaul bench`: trials of all combinations of levels against a server that throws
 * away what it gets, in shuffled rounds. A trial is a transfer of its own, so both ends begin anew.
 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <zerohaul.h>

#include "command.h"
#include "bench/bench.h"
#include "cli/key.h"
#include "cli/progress.h"
#include "cli/rows.h"
#include "cli/say.h"
#include "cli/size.h"
#include "cli/stop.h"
#include "cli/url.h"

#define CELLS_MOST   1000
#define ROUNDS_MOST  1000
#define SIZE_DEFAULT (UINT64_C(1) << 30)
#define SEED_RANDOM  UINT64_MAX

struct bench {
	struct zh_transfer_options options; /* what all cells have in common */
	const char *list[FACTOR_COUNT];     /* of levels; NULL: not given */
	uint64_t size;                      /* 0: not given */
	const char *source_path;
	uint32_t rounds;
	uint64_t seed;
	const char *output;
	uint32_t json;
	uint32_t progress; /* enum progress_mode */

	struct url server;
	struct levels levels[FACTOR_COUNT];
	struct setting setting;
	struct source source;
	struct cell *cell;
	size_t cells;
	double *figures; /* of all cells */
	size_t *order;   /* of the cells of a round */
	FILE *records;   /* NULL: nobody wants them in a file */

	_Atomic(struct zh_transfer *) running;
	_Atomic bool stopped;
	uint32_t round; /* 0: the warm-up */
	size_t begun;   /* transfers of the warm-up, or trials */
	size_t good;    /* trials with figures */
	size_t bad;
	int outcome; /* of the first that has failed */
	bool lost;   /* there was no memory for a record */
};

static const struct arg_option rows[] = {
	ROW_KEY(struct bench),
	ROW_INSECURE(struct bench),
	{ .name = "strategies",
		.letter = 's',
		.kind = ARG_TEXT,
		.argument = "NAME,...",
		.help = "How this host sends; copy,sendfile,splice,uring-copy unless given.",
		ARG_AT(struct bench, list[FACTOR_STRATEGY]) },
	{ .name = "chunks",
		.letter = 'c',
		.kind = ARG_TEXT,
		.argument = "SIZE,...",
		.help = "How much one system call of the sender is asked to move; 64K,256K,1M unless "
			"given.",
		ARG_AT(struct bench, list[FACTOR_CHUNK]) },
	{ .name = "nagle",
		.kind = ARG_TEXT,
		.argument = "MODE,...",
		.help = "When small segments are sent: as copy does unasked (auto, the default), as "
			"the kernel does (default), at once (nodelay), or not while a range of the "
			"file moves (cork).",
		ARG_AT(struct bench, list[FACTOR_NAGLE]) },
	{ .name = "streams",
		.letter = 'n',
		.kind = ARG_TEXT,
		.argument = "N,...",
		.help = "Numbers of data connections; 1 unless given.",
		ARG_AT(struct bench, list[FACTOR_STREAMS]) },
	{ .name = "congestion",
		.kind = ARG_TEXT,
		.argument = "NAME,...",
		.help = "Congestion controls (TCP_CONGESTION), which both hosts must have; the "
			"kernels' own unless given.",
		ARG_AT(struct bench, list[FACTOR_CONGESTION]) },
	ROW_SNDBUF(struct bench),
	ROW_RCVBUF(struct bench),
	ROW_NOTSENT_LOWAT(struct bench),
	{ .name = "size",
		.kind = ARG_SIZE,
		.argument = "SIZE",
		.help = "Size of the file that is made in TMPDIR to be sent; 1G unless given.",
		ARG_AT(struct bench, size),
		.minimum = 1,
		.maximum = INT64_MAX },
	{ .name = "source",
		.kind = ARG_FILE,
		.argument = "FILE",
		.help = "Send this file instead of one that is made.",
		ARG_AT(struct bench, source_path) },
	{ .name = "rounds",
		.letter = 'r',
		.kind = ARG_COUNT,
		.argument = "N",
		.help = "Trials of each combination; 5 unless given.",
		ARG_AT(struct bench, rounds),
		.minimum = 1,
		.maximum = ROUNDS_MOST },
	{ .name = "seed",
		.kind = ARG_COUNT,
		.argument = "N",
		.help = "What the order of trials and the bytes that are made follow from; random "
			"unless given.",
		ARG_AT(struct bench, seed),
		.maximum = UINT32_MAX },
	{ .name = "output",
		.letter = 'o',
		.kind = ARG_FILE,
		.argument = "FILE",
		.help = "Write a record of each trial to FILE, which must not exist: a line of JSON "
			"each.",
		ARG_AT(struct bench, output) },
	{ .name = "json",
		.letter = 'j',
		.kind = ARG_BITS,
		.help = "Print the records instead of the table.",
		ARG_AT(struct bench, json),
		.value = 1 },
	ROW_CONNECT_TIMEOUT(struct bench),
	ROW_PROGRESS(struct bench),
	{ .name = "help", .letter = 'h', .kind = ARG_HELP, .help = "Print this help and exit." },
};

/* ------------------------------ what is asked for --------------------------------------- */

/* The one that sockets of this host have unasked. */
static struct level kernel_congestion(void)
{
	struct level level = { .text = "unknown" };
	socklen_t length = sizeof(level.text) - 1;
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);

	if (fd < 0)
		return level;
	(void)getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, level.text, &length);
	close(fd);
	return level;
}

static bool settle_levels(const char *command, struct bench *bench)
{
	static const char *const defaults[FACTOR_COUNT] = {
		[FACTOR_STRATEGY] = "copy,sendfile,splice,uring-copy",
		[FACTOR_CHUNK] = "64K,256K,1M",
		[FACTOR_NAGLE] = "auto",
		[FACTOR_STREAMS] = "1",
	};

	for (enum factor i = 0; i < FACTOR_COUNT; i++) {
		const char *list = bench->list[i] ? bench->list[i] : defaults[i];
		if (list && !levels_parse(command, i, list, &bench->levels[i]))
			return false;
	}
	if (!bench->list[FACTOR_CONGESTION])
		bench->levels[FACTOR_CONGESTION] =
			(struct levels){ .item = { kernel_congestion() }, .count = 1 };
	bench->cells = 1;
	for (size_t i = 0; i < FACTOR_COUNT; i++)
		bench->cells *= bench->levels[i].count;
	if (bench->cells > CELLS_MOST)
		(void)say_usage(command, "%zu combinations, at most %d are measured", bench->cells,
			CELLS_MOST);
	return bench->cells <= CELLS_MOST;
}

static void settle_setting(struct bench *bench)
{
	struct setting *setting = &bench->setting;
	const time_t now = time(NULL);
	uint32_t drawn = (uint32_t)now;
	char text[24];
	struct tm parts;

	if (bench->seed == SEED_RANDOM && getrandom(&drawn, sizeof(drawn), GRND_NONBLOCK) < 0)
		drawn = (uint32_t)now;
	setting->seed = bench->seed == SEED_RANDOM ? drawn : bench->seed;
	setting->sock = bench->options.sock;
	gmtime_r(&now, &parts);
	strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &parts);
	snprintf(setting->run, sizeof(setting->run), "%s-remote-%08" PRIx64, text, setting->seed);
}

static void settle_options(struct bench *bench)
{
	struct zh_transfer_options *options = &bench->options;

	options->host = bench->server.host;
	options->port = bench->server.port;
	options->direction = ZH_PUSH;
	options->destination = "";
	options->receive_strategy = "discard";
	options->verify = ZH_VERIFY_NONE;
	options->durability = ZH_DURABLE_NONE;
	options->cache = ZH_CACHE_KEEP;
	options->flags |= ZH_NO_FALLBACK; /* or a trial of one would be one of another */
}

static int settle(const char *command, struct bench *bench, const char *location)
{
	const char *wrong = url_parse(location, &bench->server);

	if (!wrong && bench->server.path[0])
		wrong = "nothing is stored, so it has no path: zh://HOST[:PORT]/";
	if (wrong)
		return say_usage(
			command, "'%s' is not a location: %s", shown(location).text, wrong);
	if (bench->source_path && bench->size)
		return say_usage(command, "either --source or --size");
	wrong = key_settle(&bench->options.key_file, bench->options.flags & ZH_INSECURE);
	if (wrong)
		return say_usage(command, "%s", wrong);
	if (!settle_levels(command, bench))
		return ZH_USAGE;
	settle_options(bench);
	settle_setting(bench);
	return ZH_OK;
}

static int make_cells(struct bench *bench)
{
	double *next;

	bench->cell = calloc(bench->cells, sizeof(*bench->cell));
	bench->order = calloc(bench->cells, sizeof(*bench->order));
	bench->figures = calloc(bench->cells * FIGURE_COUNT * bench->rounds, sizeof(double));
	if (!bench->cell || !bench->order || !bench->figures)
		return say_error(ZH_INTERNAL, "no memory");
	next = bench->figures;
	for (size_t i = 0; i < bench->cells; i++) {
		struct cell *cell = &bench->cell[i];
		size_t rest = i;
		for (size_t k = FACTOR_COUNT; k-- > 0; rest /= bench->levels[k].count)
			cell->level[k] = &bench->levels[k].item[rest % bench->levels[k].count];
		for (size_t k = 0; k < FIGURE_COUNT; k++, next += bench->rounds)
			cell->figure[k] = next;
		cell_name(cell, &bench->setting);
	}
	return ZH_OK;
}

/* All that is needed before something is sent. */
static int prepare(struct bench *bench)
{
	int outcome;

	if (bench->output) {
		bench->records = fopen(bench->output, "wxe");
		if (!bench->records)
			return say_file(outcome_of_errno(errno), bench->output, strerror(errno));
	}
	outcome = bench_source_open(bench->source_path, bench->size ? bench->size : SIZE_DEFAULT,
		bench->setting.seed, &bench->stopped, &bench->source);
	if (outcome != ZH_OK)
		return outcome;
	bench->setting.file_bytes = bench->source.bytes;
	return make_cells(bench);
}

/* ------------------------------ one transfer -------------------------------------------- */

static void snapshot(const void *subject, struct zh_progress *ret_progress)
{
	const struct bench *bench = subject;
	const size_t all = bench->cells * (bench->round ? bench->rounds : 1);

	zh_transfer_progress(atomic_load(&bench->running), ret_progress);
	snprintf(ret_progress->phase, sizeof(ret_progress->phase), "%s %zu/%zu",
		bench->round ? "trial" : "warm-up", bench->begun, all);
}

static void stop(void *subject)
{
	struct bench *bench = subject;
	struct zh_transfer *transfer = atomic_load(&bench->running);

	atomic_store(&bench->stopped, true);
	if (transfer)
		zh_transfer_cancel(transfer);
}

static struct zh_transfer_options options_of(const struct bench *bench, const struct cell *cell)
{
	struct zh_transfer_options options = bench->options;
	const struct level *congestion = cell->level[FACTOR_CONGESTION];

	options.strategy = cell->level[FACTOR_STRATEGY]->text;
	options.chunk_bytes = (uint32_t)cell->level[FACTOR_CHUNK]->value;
	options.streams = (uint16_t)cell->level[FACTOR_STREAMS]->value;
	if (congestion->value)
		snprintf(options.sock.congestion, sizeof(options.sock.congestion), "%.15s",
			congestion->text);
	switch ((enum bench_nagle)cell->level[FACTOR_NAGLE]->value) {
	case BENCH_AUTO:
		break;
	case BENCH_DEFAULT:
		options.flags |= ZH_NO_CORK;
		break;
	case BENCH_NODELAY:
		options.sock.nagle = ZH_NAGLE_NODELAY;
		break;
	case BENCH_CORK:
		options.sock.nagle = ZH_NAGLE_CORK;
		break;
	}
	return options;
}

/* Returns the outcome. The caller frees *ret_transfer, which is NULL without memory. */
static int move(struct bench *bench, const struct cell *cell, struct zh_transfer **ret_transfer)
{
	const struct zh_transfer_options options = options_of(bench, cell);
	struct zh_transfer *transfer = NULL;
	struct progress progress;
	int outcome;

	*ret_transfer = NULL;
	if (zh_transfer_new(&options, &transfer) < 0)
		return ZH_INTERNAL;
	if (zh_transfer_add(transfer, bench->source.path) < 0) {
		zh_transfer_free(transfer);
		return ZH_INTERNAL;
	}
	bench_source_warm(&bench->source);
	bench->begun++;
	atomic_store(&bench->running, transfer);
	if (atomic_load(&bench->stopped)) /* just now */
		zh_transfer_cancel(transfer);
	progress_start(&progress, snapshot, bench, (enum progress_mode)bench->progress);
	outcome = zh_transfer_run(transfer);
	progress_stop(&progress);
	atomic_store(&bench->running, NULL);
	*ret_transfer = transfer;
	return outcome;
}

/* Why a transfer gives no figures, or NULL. */
static const char *fault_of(const struct zh_transfer *transfer, int outcome)
{
	const struct zh_error *error = transfer ? zh_transfer_error(transfer) : NULL;

	if (outcome == ZH_OK)
		return report_fault(zh_transfer_report(transfer));
	return error && error->text[0] ? error->text : zh_outcome_text(outcome);
}

static void keep_record(struct bench *bench, json_t *record)
{
	char *text = record ? json_dumps(record,
				      JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(12))
			    : NULL;
	FILE *const wanted[] = { bench->json ? stdout : NULL, bench->records };

	json_decref(record);
	bench->lost |= !text;
	for (size_t i = 0; text && i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		if (!wanted[i])
			continue;
		fprintf(wanted[i], "%s\n", text);
		fflush(wanted[i]);
	}
	free(text);
}

/* ------------------------------ warm-up and rounds --------------------------------------- */

static void note_failure(struct bench *bench, int outcome)
{
	if (bench->outcome == ZH_OK)
		bench->outcome = outcome;
}

/* Whether a failure says something of the cell: other cells may be had between these hosts. */
static bool is_of_cell(const struct zh_error *error)
{
	return error->outcome == ZH_SRC_IO ||
	       (error->outcome == ZH_CONFIG && (strcmp(error->stage, "plan") == 0 ||
						       strcmp(error->stage, "socket option") == 0));
}

/* One that is not counted. Returns ZH_OK if others may follow, or the outcome that was said. */
static int warm_cell(struct bench *bench, size_t index)
{
	const struct place place = place_begin(0, index);
	struct cell *cell = &bench->cell[index];
	struct zh_transfer *transfer;
	int outcome = move(bench, cell, &transfer);
	const struct zh_error *error = transfer ? zh_transfer_error(transfer) : NULL;

	if (!transfer) {
		(void)say_error(outcome, "no memory");
	} else if (outcome != ZH_OK && is_of_cell(error)) {
		cell->invalid = true;
		note_failure(bench, outcome);
		(void)say_error(outcome, "%s cannot be had: %s [%s]", cell->id, error->text,
			zh_outcome_name(outcome));
		keep_record(bench, record_of(&bench->setting, cell, &place, NULL, error->text));
		outcome = ZH_OK;
	} else if (outcome != ZH_OK && !atomic_load(&bench->stopped)) {
		say_record(error);
	}
	zh_transfer_free(transfer);
	return outcome;
}

static int warm_up(struct bench *bench)
{
	int outcome = ZH_OK;

	for (size_t i = 0; i < bench->cells && outcome == ZH_OK; i++)
		outcome = atomic_load(&bench->stopped) ? ZH_CANCELLED : warm_cell(bench, i);
	return outcome;
}

/* One that a signal ends is none: it has neither figures nor failed. */
static void make_trial(struct bench *bench, struct cell *cell, size_t order)
{
	const struct place place = place_begin(bench->round, order);
	struct zh_transfer *transfer;
	int outcome = move(bench, cell, &transfer);
	const char *fault = fault_of(transfer, outcome);

	if (!fault) {
		const struct zh_report *report = zh_transfer_report(transfer);
		cell_add(cell, report);
		bench->good++;
		keep_record(bench, record_of(&bench->setting, cell, &place, report, NULL));
	} else if (!atomic_load(&bench->stopped)) {
		if (outcome == ZH_OK)
			outcome = ZH_PARTIAL;
		note_failure(bench, outcome);
		bench->bad++;
		(void)say_error(outcome, "%s, round %" PRIu32 ": %s [%s]", cell->id, bench->round,
			fault, zh_outcome_name(outcome));
		keep_record(bench, record_of(&bench->setting, cell, &place, NULL, fault));
	}
	zh_transfer_free(transfer);
}

/* The cells that can be had, in an order that follows from seed and round. Returns how many. */
static size_t shuffle(struct bench *bench)
{
	uint64_t state = bench->setting.seed * (ROUNDS_MOST + 1) + bench->round;
	size_t count = 0;

	for (size_t i = 0; i < bench->cells; i++)
		if (!bench->cell[i].invalid)
			bench->order[count++] = i;
	for (size_t left = count; left > 1; left--) {
		const size_t at = (size_t)(random_next(&state) % left);
		const size_t last = bench->order[left - 1];
		bench->order[left - 1] = bench->order[at];
		bench->order[at] = last;
	}
	return count;
}

static void make_rounds(struct bench *bench)
{
	bench->begun = 0;
	for (bench->round = 1; bench->round <= bench->rounds; bench->round++) {
		const size_t count = shuffle(bench);
		for (size_t i = 0; i < count; i++) {
			if (atomic_load(&bench->stopped))
				return;
			make_trial(bench, &bench->cell[bench->order[i]], i);
		}
	}
}

/* ------------------------------ the end -------------------------------------------------- */

static void show(struct bench *bench)
{
	if (bench->json || bench->good == 0)
		return;
	printf("%zu trials of %s, %" PRIu32 " rounds, seed %" PRIu64 ".\n", bench->good,
		size_exact(bench->source.bytes).text, bench->rounds, bench->setting.seed);
	table_print(bench->levels, bench->cell, bench->cells);
}

static int close_records(struct bench *bench)
{
	if (!bench->records)
		return ZH_OK;
	const bool failed = ferror(bench->records);
	if (fclose(bench->records) == 0 && !failed)
		return ZH_OK;
	return say_file(ZH_CONFIG, bench->output, "the records could not be written");
}

/* Tells how it ended. outcome: of what came before the rounds. Returns the exit status. */
static int finish(struct bench *bench, int outcome)
{
	const int written = close_records(bench);

	if (atomic_load(&bench->stopped)) {
		(void)say_error(ZH_CANCELLED, "stopped after %zu trials [%s]",
			bench->good + bench->bad, zh_outcome_name(ZH_CANCELLED));
		return stop_status(ZH_CANCELLED);
	}
	if (outcome != ZH_OK)
		return outcome;
	if (bench->good == 0)
		return bench->outcome;
	if (bench->lost)
		return say_error(ZH_INTERNAL, "no memory for a record");
	return written != ZH_OK ? written : bench->bad ? ZH_PARTIAL : ZH_OK;
}

static int bench_run(const struct command *command, int argc, char **argv)
{
	struct bench bench = {
		.options = zh_transfer_options_default(),
		.rounds = 5,
		.seed = SEED_RANDOM,
		.source = { .fd = -1 },
	};
	int operand_count = 0;
	int r = args_parse(command, argc, argv, &bench, &operand_count);

	if (r != ARGS_OK)
		return args_status(r);
	if (operand_count != 1)
		return say_usage(command->name, "one location is needed: zh://HOST[:PORT]/");
	r = settle(command->name, &bench, argv[0]);
	if (r != ZH_OK)
		return r;
	stop_arm(stop, &bench);
	r = prepare(&bench);
	if (r == ZH_OK)
		r = warm_up(&bench);
	if (r == ZH_OK)
		make_rounds(&bench);
	bench_source_close(&bench.source);
	stop_disarm();
	show(&bench);
	r = finish(&bench, r);
	free(bench.cell);
	free(bench.order);
	free(bench.figures);
	return r;
}

const struct command cmd_bench = {
	.name = "bench",
	.summary = "measure ways of sending to another host",
	.synopsis = "[OPTION...] zh://HOST[:PORT]/",
	.about =
		"Sends a file from the page cache again and again to 'zerohaul serve --bench', which "
		"throws it away, in every combination of what the options list, in shuffled "
		"rounds, and prints for each what it achieved and what it cost both hosts.",
	.page = "zerohaul-bench(1)",
	.options = rows,
	.option_count = sizeof(rows) / sizeof(rows[0]),
	.run = bench_run,
};
