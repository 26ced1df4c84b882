/* SPDX-License-Identifier: Apache-2.0 */
/*
 * case_strategy.c - the program `gbench`: strategy x buffer, as sweep A has it, by Google
 * Benchmark. One host, one stream, from the page cache to a receiver that discards. Beside what the
 * library writes, which has no order and no time of day, each trial is a line of its own in
 * --trials.
 */
#include "harness.h"
#include "record.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#define FILE_BYTES_MOST ((uint64_t)256 << 20)
#define ITERATIONS      3
#define REPETITIONS     9

static const char *const strategies[] = { "copy", "mmap", "sendfile", "splice", "msg-zerocopy",
	"uring-copy", "uring-zc" };
static const int64_t buffers[] = { 4096, 16384, 65536, 131072, 262144, 1048576, 4194304 };

#define STRATEGIES (sizeof(strategies) / sizeof(strategies[0]))
#define BUFFERS    (sizeof(buffers) / sizeof(buffers[0]))

static struct {
	const char *source;
	const char *run;
	FILE *trials; /* NULL: not asked for */
	uint64_t file_bytes;
	unsigned int order;
	unsigned int repetition[STRATEGIES][BUFFERS];
} all = { .run = "gbench" };

struct context {
	struct bench_cell cell;
	struct bench_link *link;
	unsigned int repetition;
};

static int set_up(void **ret_context, const struct zh_gb_point *point, char *text, size_t cap)
{
	struct context *context = calloc(1, sizeof(*context));
	char error[BENCH_ERROR_CAP] = "out of memory";
	int r = -1;

	if (context) {
		context->cell = (struct bench_cell){ .strategy = strategies[point->level[0]],
			.receive = "discard",
			.source = all.source,
			.congestion = "cubic",
			.cache = BENCH_CACHE_WARM,
			.buffer = (uint32_t)point->level[1],
			.streams = 1,
			.window = 1,
			.warm_up = true,
			.files = 1,
			.file_bytes = all.file_bytes };
		for (size_t i = 0; i < BUFFERS; i++)
			if (buffers[i] == point->level[1])
				context->repetition = ++all.repetition[point->level[0]][i];
		r = bench_open(&context->cell, &context->link, error);
	}
	if (r < 0) {
		(void)snprintf(text, cap, "%s", error);
		free(context);
		return r;
	}
	*ret_context = context;
	return 0;
}

static void write_trial(
	const struct context *context, const struct bench_result *result, int r, const char *error)
{
	struct timeval now;
	struct tm utc;
	char day[32];

	(void)gettimeofday(&now, NULL);
	(void)gmtime_r(&now.tv_sec, &utc);
	(void)strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &utc);
	fprintf(all.trials,
		"{\"schema\":\"zerohaul.trial/1\",\"run\":\"%s\",\"block\":\"gbench\",\"role\":\"cell\","
		"\"round\":%u,\"order\":%u,\"attempt\":1,\"seed\":null,\"t_utc\":\"%s.%03dZ\","
		"\"harness\":\"gbench\",\"quality\":\"clean\",\"flags\":[],",
		all.run, context->repetition, all.order++, day, (int)(now.tv_usec / 1000));
	record_cell(all.trials, &context->cell);
	record_result(all.trials, &context->cell, result, r, error);
	fputs(",\"system\":null,\"mib\":null,\"hash\":null}\n", all.trials);
	(void)fflush(all.trials);
}

static uint64_t calls_of(const struct bench_account *account)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < ZH_CALL_MAX; i++)
		sum += account->stats.calls[i];
	for (size_t i = 0; i < BENCH_CALL_COUNT; i++)
		sum += account->calls[i];
	return sum;
}

static int trial(void *opaque, struct zh_gb_result *ret_result, char *text, size_t cap)
{
	struct context *context = opaque;
	char error[BENCH_ERROR_CAP] = "";
	struct bench_result result;
	int r = bench_trial(context->link, &result, error);

	if (all.trials)
		write_trial(context, &result, r, error);
	if (r < 0) {
		(void)snprintf(text, cap, "%s", error);
		return r;
	}
	*ret_result = (struct zh_gb_result){ .elapsed_s = result.acked_s,
		.tx_cpu_s = (double)result.tx.cpu_ns * 1e-9,
		.rx_cpu_s = (double)result.rx.cpu_ns * 1e-9,
		.bytes = result.bytes,
		.syscalls = calls_of(&result.tx) + calls_of(&result.rx),
		.switches = result.tx.nvcsw + result.tx.nivcsw + result.rx.nvcsw + result.rx.nivcsw,
		.segments = result.tcp.data_segments_out,
		.zc_copied_bytes = result.tx.stats.zc_copied_bytes };
	return 0;
}

static void tear_down(void *opaque)
{
	struct context *context = opaque;

	bench_close(context->link);
	free(context);
}

static void label(const struct zh_gb_point *point, char *text, size_t cap)
{
	(void)snprintf(text, cap, "%s", strategies[point->level[0]]);
}

static void add_cases(void)
{
	static const char *const factors[] = { "strategy", "buffer", NULL };
	static const struct zh_gb_ops ops = { .name = "send",
		.factor = factors,
		.setup = set_up,
		.trial = trial,
		.teardown = tear_down,
		.label = label };
	static int64_t level[STRATEGIES * BUFFERS][2];
	static struct zh_gb_point point[STRATEGIES * BUFFERS];
	size_t count = 0;

	for (size_t i = 0; i < STRATEGIES * BUFFERS; i++) {
		const char *name = strategies[i / BUFFERS];
		/* Less than a segment in flight: it would wait for delayed acknowledgements. */
		if (buffers[i % BUFFERS] == 4096 && strstr(name, "-z"))
			continue;
		level[count][0] = (int64_t)(i / BUFFERS);
		level[count][1] = buffers[i % BUFFERS];
		point[count] = (struct zh_gb_point){ .level = level[count], .count = 2 };
		count++;
	}
	zh_gb_add(&ops, point, count, ITERATIONS, REPETITIONS);
}

/* Takes our own options out of argv; the library's stay. */
static int parse(int *argc, char **argv)
{
	int kept = 1;

	for (int i = 1; i < *argc; i++) {
		if (strncmp(argv[i], "--source=", 9) == 0)
			all.source = argv[i] + 9;
		else if (strncmp(argv[i], "--run=", 6) == 0)
			all.run = argv[i] + 6;
		else if (strncmp(argv[i], "--trials=", 9) == 0)
			all.trials = fopen(argv[i] + 9, "ae");
		else
			argv[kept++] = argv[i];
		if (strncmp(argv[i], "--trials=", 9) == 0 && !all.trials)
			return -1;
	}
	argv[ *argc = kept] = NULL;
	return all.source ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct stat st;

	if (parse(&argc, argv) < 0 || stat(all.source, &st) < 0) {
		fputs("usage: gbench --source=FILE [--run=NAME] [--trials=FILE] [--benchmark_...]\n"
		      "give it also --benchmark_enable_random_interleaving=true\n",
			stderr);
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	all.file_bytes =
		(uint64_t)st.st_size < FILE_BYTES_MOST ? (uint64_t)st.st_size : FILE_BYTES_MOST;
	add_cases();
	zh_gb_note("time", "manual: from the start message to the receiver's acknowledgement");
	zh_gb_note("cpu_time", "of the calling thread: to be ignored, see the counters");
	return zh_gb_run(&argc, argv);
}
