/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.c - a trial between two hosts as a record of bench/schema/trial.json, and the figures that
 * are taken from it. What a transfer cannot tell is null.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "../cli/json.h"
#include "../cli/size.h"

#define RESIDENT_LEAST 999 /* permille; less is no warm source */

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

static uint64_t cpu_ns(const struct zh_side_report *side)
{
	return side->cpu_user_ns + side->cpu_sys_ns;
}

/* ------------------------------ cells --------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void add(struct cell *cell, const char *format, ...)
{
	const size_t used = strlen(cell->id);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(cell->id + used, sizeof(cell->id) - used, format, arguments);
	va_end(arguments);
}

static void add_size(struct cell *cell, const char *name, uint64_t bytes)
{
	if (bytes)
		add(cell, "/%s=%s", name, size_exact(bytes).text);
}

/* As bench/lib/sweep.py names cells: strategy and buffer, and each level that is not its default.
 */
void cell_name(struct cell *cell, const struct setting *setting)
{
	const struct level *const *level = cell->level;

	cell->id[0] = '\0';
	add(cell, "%s/%s", level[FACTOR_STRATEGY]->text, level[FACTOR_CHUNK]->text);
	if (level[FACTOR_NAGLE]->value != BENCH_AUTO)
		add(cell, "/nagle=%s", level[FACTOR_NAGLE]->text);
	if (setting->file_bytes != UINT64_C(1) << 30)
		add_size(cell, "file_bytes", setting->file_bytes);
	if (level[FACTOR_STREAMS]->value != 1)
		add(cell, "/streams=%s", level[FACTOR_STREAMS]->text);
	add_size(cell, "sndbuf", setting->sock.sndbuf_bytes);
	add_size(cell, "rcvbuf", setting->sock.rcvbuf_bytes);
	add_size(cell, "notsent_lowat", setting->sock.notsent_lowat_bytes);
	if (strcmp(level[FACTOR_CONGESTION]->text, "cubic") != 0)
		add(cell, "/cc=%s", level[FACTOR_CONGESTION]->text);
	add(cell, "/path=remote");
}

static void count_limit(struct cell *cell, const char *stage)
{
	for (size_t i = 0; i < LIMITS_MOST; i++) {
		if (cell->limit[i].count == 0)
			snprintf(cell->limit[i].stage, sizeof(cell->limit[i].stage), "%s", stage);
		if (strcmp(cell->limit[i].stage, stage) == 0) {
			cell->limit[i].count++;
			return;
		}
	}
}

void cell_add(struct cell *cell, const struct zh_report *report)
{
	const struct zh_stats *stats = &report->sender.stats;
	const double gigabytes = (double)stats->bytes / 1e9;
	const double sender = seconds(cpu_ns(&report->sender)) / gigabytes;
	const double receiver = seconds(cpu_ns(&report->receiver)) / gigabytes;

	cell->figure[FIGURE_RATE][cell->count] = gigabytes / seconds(report->moving_ns);
	cell->figure[FIGURE_SENDER_CPU][cell->count] = sender;
	cell->figure[FIGURE_RECEIVER_CPU][cell->count] = receiver;
	cell->figure[FIGURE_CPU][cell->count] = sender + receiver;
	cell->figure[FIGURE_RETRANSMITS][cell->count] = stats->tcp.retransmits;
	cell->count++;
	count_limit(cell, report->limited_by);
}

const char *report_fault(const struct zh_report *report)
{
	if (!report->sender.valid || !report->receiver.valid)
		return "a side did not report";
	/* Some bytes went twice, and time was spent waiting for another connection. */
	if (report->streams_lost)
		return "a data connection was lost";
	return report->moving_ns && report->sender.stats.bytes ? NULL : "nothing was moved";
}

/* ------------------------------ records ------------------------------------------------- */

struct place place_begin(uint32_t round, size_t order)
{
	struct place place = { .round = round, .order = order };
	struct timespec now;
	struct tm parts;
	char text[24];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(place.utc, sizeof(place.utc), "%s.%03uZ", text,
		(unsigned int)(now.tv_nsec / 1000000));
	return place;
}

/* Unknown or not asked for. */
static json_t *size_or_null(uint64_t bytes)
{
	return bytes ? json_of_u64(bytes) : json_null();
}

static json_t *of_cell(const struct setting *setting, const struct cell *cell)
{
	const struct level *const *level = cell->level;

	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:n, s:o, s:i, s:o,"
			 " s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:n, s:n, s:n}",
		"id", cell->id, "kind", "bulk", "strategy", level[FACTOR_STRATEGY]->text, "receive",
		"discard", "buffer", json_of_u64(level[FACTOR_CHUNK]->value), "nagle",
		level[FACTOR_NAGLE]->text, "mss", "file_bytes", json_of_u64(setting->file_bytes),
		"files", 1, "streams", json_of_u64(level[FACTOR_STREAMS]->value), "sndbuf",
		size_or_null(setting->sock.sndbuf_bytes), "rcvbuf",
		size_or_null(setting->sock.rcvbuf_bytes), "notsent_lowat",
		size_or_null(setting->sock.notsent_lowat_bytes), "cc",
		level[FACTOR_CONGESTION]->text, "cache", "warm", "sink", "discard", "path",
		"remote", "framing", "window", "depth");
}

static json_t *of_tcp(const struct zh_tcp *tcp)
{
	const bool unlimited = tcp->pacing_rate == UINT64_MAX;

	if (!tcp->valid)
		return json_null();
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:n, s:o, s:o, s:o, s:o, s:o}", "mss",
		json_of_u64(tcp->mss_bytes), "rtt_us", json_of_u64(tcp->rtt_us), "min_rtt_us",
		json_of_u64(tcp->min_rtt_us), "cwnd", json_of_u64(tcp->cwnd_segments),
		"retransmits", json_of_u64(tcp->retransmits), "segments_out",
		json_of_u64(tcp->segments_out), "data_segments_out", "delivery_rate_Bps",
		json_of_u64(tcp->delivery_rate), "pacing_rate_Bps",
		unlimited ? json_null() : json_of_u64(tcp->pacing_rate), "busy_us",
		json_of_u64(tcp->busy_us), "rwnd_limited_us", json_of_u64(tcp->rwnd_limited_us),
		"sndbuf_limited_us", json_of_u64(tcp->sndbuf_limited_us));
}

static json_t *of_side(const struct zh_side_report *side)
{
	const struct zh_stats *stats = &side->stats;

	return json_pack("{s:o, s:f, s:f, s:o, s:o, s:n, s:o, s:o,"
			 " s:{s:f, s:f, s:f, s:f}, s:o, s:o, s:n, s:s}",
		"cpu_ns", json_of_u64(cpu_ns(side)), "user_s", seconds(side->cpu_user_ns), "sys_s",
		seconds(side->cpu_sys_ns), "nvcsw", json_of_u64(side->voluntary_switches), "nivcsw",
		json_of_u64(side->involuntary_switches), "minflt", "maxrss_bytes",
		json_of_u64(side->max_rss_bytes), "syscalls", json_of_calls(stats), "wait_s",
		"space", seconds(stats->wait_space_ns), "data", seconds(stats->wait_data_ns),
		"disk", seconds(stats->wait_disk_ns), "run", seconds(stats->wait_run_ns), "shorts",
		json_of_u64(stats->shorts), "agains", json_of_u64(stats->agains), "cycles",
		"cycles_source", "none");
}

static json_t *of_effective(const struct zh_report *report)
{
	const struct zh_stats *stats = &report->sender.stats;
	const struct zh_tcp *tcp = &stats->tcp;
	const int32_t permille = report->send_plan.resident_permille;

	return json_pack("{s:o, s:o, s:o, s:o, s:s, s:i, s:i, s:o, s:o, s:i, s:s, s:s, s:o, s:n}",
		"mss", json_of_u64(tcp->mss_bytes), "sndbuf", json_of_u64(tcp->sndbuf_bytes),
		"rcvbuf", json_of_u64(report->receiver.stats.tcp.rcvbuf_bytes), "pipe",
		size_or_null(stats->pipe_bytes), "cc", tcp->congestion, "nodelay",
		tcp->nodelay != 0, "cork", tcp->cork != 0, "chunk", json_of_u64(stats->chunk_bytes),
		"depth", json_of_u64(stats->depth), "direct", stats->direct != 0, "strategy",
		stats->strategy, "receive", report->receiver.stats.strategy, "resident_pct",
		permille < 0 ? json_null() : json_real(permille / 10.0), "cpus");
}

static json_t *of_zero_copy(const struct zh_stats *stats)
{
	const bool asks = strcmp(stats->strategy, "uring-zc") == 0 ||
			  strcmp(stats->strategy, "msg-zerocopy") == 0;

	if (!asks)
		return json_null();
	return json_pack("{s:o, s:o, s:f}", "bytes", json_of_u64(stats->bytes), "copied_bytes",
		json_of_u64(stats->zc_copied_bytes), "copied_pct",
		100.0 * (double)stats->zc_copied_bytes / (double)stats->bytes);
}

static json_t *flags_of(const struct zh_report *report)
{
	const int32_t permille = report ? report->send_plan.resident_permille : -1;

	return permille >= 0 && permille < RESIDENT_LEAST ? json_pack("[s]", "not-resident")
							  : json_array();
}

/* What a trial that was good is told by. */
static json_t *of_figures(const struct zh_report *report)
{
	const struct zh_stats *stats = &report->sender.stats;
	const double moving_s = seconds(report->moving_ns);

	return json_pack("{s:o, s:{s:n, s:n, s:f, s:n, s:n, s:n}, s:o, s:f, s:o, s:o, s:o, s:o,"
			 " s:{s:f, s:s, s:s, s:o}}",
		"effective", of_effective(report), "time", "connect_s", "send_return_s", "acked_s",
		moving_s, "rx_last_s", "first_done_s", "durable_s", "bytes",
		json_of_u64(stats->bytes), "throughput_Bps", (double)stats->bytes / moving_s, "tx",
		of_side(&report->sender), "rx", of_side(&report->receiver), "tcp",
		of_tcp(&stats->tcp), "zc", of_zero_copy(stats), "remote", "elapsed_s",
		seconds(report->elapsed_ns), "limited_by", report->limited_by, "limit_evidence",
		report->limit_evidence, "rx_tcp", of_tcp(&report->receiver.stats.tcp));
}

static json_t *no_figures(void)
{
	return json_pack("{s:n, s:n, s:i, s:n, s:n, s:n, s:n, s:n}", "effective", "time", "bytes",
		0, "throughput_Bps", "tx", "rx", "tcp", "zc");
}

json_t *record_of(const struct setting *setting, const struct cell *cell, const struct place *place,
	const struct zh_report *report, const char *error)
{
	const char *status = report ? "ok" : cell->invalid ? "invalid" : "error";
	json_t *figures = report ? of_figures(report) : no_figures();
	json_t *record = json_pack(
		"{s:s, s:s, s:s, s:s, s:o, s:o, s:i, s:o, s:s, s:s, s:s, s:n, s:o, s:s?, s:o,"
		" s:n, s:n, s:n, s:n}",
		"schema", "zerohaul.trial/1", "run", setting->run, "block", "R", "role", "cell",
		"round", json_of_u64(place->round), "order", json_of_u64(place->order), "attempt",
		1, "seed", json_of_u64(setting->seed), "t_utc", place->utc, "harness", "zerohaul",
		"status", status, "quality", "flags", flags_of(report), "error", error, "cell",
		of_cell(setting, cell), "system", "mib", "latency_us", "hash");

	if (!figures || json_object_update(record, figures) < 0) {
		json_decref(record);
		record = NULL;
	}
	json_decref(figures);
	return record;
}
