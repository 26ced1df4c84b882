/* SPDX-License-Identifier: Apache-2.0 */
/* record.c - see record.h. */
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void record_text(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '"' || c == '\\')
			fprintf(file, "\\%c", c);
		else if (c < 0x20 || c > 0x7e)
			fprintf(file, "\\u%04x", c);
		else
			fputc(c, file);
	}
	fputc('"', file);
}

static void named_count(FILE *file, const char *name, uint64_t count, bool *first)
{
	if (count == 0)
		return;
	fprintf(file, "%s\"%s\":%" PRIu64, *first ? "" : ",", name, count);
	*first = false;
}

/* Calls of the engine and of the harness together, by name. */
static void record_calls(FILE *file, const struct bench_account *account)
{
	uint64_t own[BENCH_CALL_COUNT];
	const char *name;
	bool first = true;

	memcpy(own, account->calls, sizeof(own));
	fputs("\"syscalls\":{", file);
	for (size_t i = 0; i < ZH_CALL_MAX && (name = zh_call_name(i)); i++) {
		uint64_t count = account->stats.calls[i];
		for (size_t j = 0; j < BENCH_CALL_COUNT; j++)
			if (strcmp(bench_call_name((enum bench_call)j), name) == 0) {
				count += own[j];
				own[j] = 0;
			}
		named_count(file, name, count, &first);
	}
	for (size_t j = 0; j < BENCH_CALL_COUNT; j++)
		named_count(file, bench_call_name((enum bench_call)j), own[j], &first);
	fputs("},", file);
}

/* Loops of the harness's own have no account of waits: then they are not known. */
static bool by_engine(const struct bench_account *account)
{
	return account->stats.strategy[0] != '\0';
}

static void record_side(FILE *file, const char *name, const struct bench_account *a)
{
	fprintf(file,
		"\"%s\":{\"cpu_ns\":%" PRIu64 ",\"user_s\":%.6f,\"sys_s\":%.6f,"
		"\"nvcsw\":%" PRIu64 ",\"nivcsw\":%" PRIu64 ",\"minflt\":%" PRIu64
		",\"maxrss_bytes\":%" PRIu64 ",",
		name, a->cpu_ns, (double)a->user_us * 1e-6, (double)a->sys_us * 1e-6, a->nvcsw,
		a->nivcsw, a->minflt, a->maxrss_bytes);
	record_calls(file, a);
	if (by_engine(a))
		fprintf(file,
			"\"wait_s\":{\"space\":%.6f,\"data\":%.6f,\"disk\":%.6f,\"run\":%.6f},"
			"\"shorts\":%" PRIu64 ",\"agains\":%" PRIu64 ",",
			(double)a->stats.wait_space_ns * 1e-9, (double)a->stats.wait_data_ns * 1e-9,
			(double)a->stats.wait_disk_ns * 1e-9, (double)a->stats.wait_run_ns * 1e-9,
			a->stats.shorts, a->stats.agains);
	else
		fputs("\"wait_s\":null,\"shorts\":null,\"agains\":null,", file);
	fputs("\"cycles\":null,\"cycles_source\":\"none\"},", file);
}

static void count_or_null(FILE *file, const char *name, uint64_t count)
{
	if (count)
		fprintf(file, "\"%s\":%" PRIu64 ",", name, count);
	else
		fprintf(file, "\"%s\":null,", name);
}

static void record_effective(
	FILE *file, const struct bench_cell *cell, const struct bench_result *result)
{
	const struct zh_stats *tx = &result->tx.stats, *rx = &result->rx.stats;
	const char *strategy = tx->strategy, *receive = rx->strategy;
	uint32_t chunk = tx->chunk_bytes, depth = tx->depth;

	if (!by_engine(&result->tx)) { /* a loop of the harness */
		strategy = cell->strategy ? cell->strategy : "";
		chunk = cell->framing == BENCH_BULK ? cell->buffer : 0;
		depth = 1;
	}
	if (!by_engine(&result->rx))
		receive = "recv";
	fprintf(file, "\"effective\":{\"mss\":%u,\"sndbuf\":%u,\"rcvbuf\":%u,", result->tcp.mss,
		result->tcp.sndbuf, result->rx.rcvbuf);
	count_or_null(file, "pipe", tx->pipe_bytes);
	fprintf(file,
		"\"cc\":\"%s\",\"nodelay\":%u,\"cork\":%u,\"chunk\":%u,\"depth\":%u,\"direct\":%u,",
		result->tcp.congestion, result->tcp.nodelay, result->tcp.cork, chunk, depth,
		tx->direct || cell->cache == BENCH_CACHE_DIRECT);
	fputs("\"strategy\":", file);
	record_text(file, strategy);
	fputs(",\"receive\":", file);
	record_text(file, receive);
	if (result->resident_pct < 0)
		fputs(",\"resident_pct\":null,", file);
	else
		fprintf(file, ",\"resident_pct\":%.3f,", result->resident_pct);
	fprintf(file, "\"cpus\":[%d,%d]},", result->cpu[0], result->cpu[1]);
}

static void record_time(FILE *file, const struct bench_cell *cell, const struct bench_result *r)
{
	fprintf(file,
		"\"time\":{\"connect_s\":%.9f,\"send_return_s\":%.9f,\"acked_s\":%.9f,"
		"\"rx_last_s\":%.9f,\"first_done_s\":%.9f,",
		r->connect_s, r->send_return_s, r->acked_s, r->rx.last_s, r->first_done_s);
	if (cell->sync == BENCH_SYNC_NONE)
		fputs("\"durable_s\":null},", file);
	else
		fprintf(file, "\"durable_s\":%.9f},", r->rx.durable_s);
	fprintf(file, "\"bytes\":%" PRIu64 ",\"throughput_Bps\":%.1f,", r->bytes,
		r->acked_s > 0 ? (double)r->bytes / r->acked_s : 0);
}

static void record_tcp(FILE *file, const struct bench_tcp *tcp)
{
	fprintf(file,
		"\"tcp\":{\"mss\":%u,\"rtt_us\":%u,\"min_rtt_us\":%u,\"cwnd\":%u,"
		"\"retransmits\":%" PRIu64 ",\"segments_out\":%" PRIu64
		",\"data_segments_out\":%" PRIu64 ",\"delivery_rate_Bps\":%" PRIu64 ",",
		tcp->mss, tcp->rtt_us, tcp->min_rtt_us, tcp->cwnd, tcp->retransmits,
		tcp->segments_out, tcp->data_segments_out, tcp->delivery_rate);
	count_or_null(
		file, "pacing_rate_Bps", tcp->pacing_rate == UINT64_MAX ? 0 : tcp->pacing_rate);
	fprintf(file,
		"\"busy_us\":%" PRIu64 ",\"rwnd_limited_us\":%" PRIu64
		",\"sndbuf_limited_us\":%" PRIu64 "},",
		tcp->busy_us, tcp->rwnd_limited_us, tcp->sndbuf_limited_us);
}

static void record_zerocopy(
	FILE *file, const struct bench_cell *cell, const struct bench_result *result)
{
	uint64_t copied = result->tx.stats.zc_copied_bytes;

	if (!cell->strategy || (strcmp(cell->strategy, "uring-zc") != 0 &&
				       strcmp(cell->strategy, "msg-zerocopy") != 0)) {
		fputs("\"zc\":null,", file);
		return;
	}
	fprintf(file,
		"\"zc\":{\"bytes\":%" PRIu64 ",\"copied_bytes\":%" PRIu64 ",\"copied_pct\":%.3f},",
		result->bytes, copied,
		result->bytes ? 100.0 * (double)copied / (double)result->bytes : 0);
}

static void record_latency(FILE *file, const struct bench_latency *l)
{
	if (l->files == 0) {
		fputs("\"latency_us\":null", file);
		return;
	}
	fprintf(file,
		"\"latency_us\":{\"files\":%" PRIu64 ",\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,"
		"\"p999\":%.1f,\"max\":%.1f,\"stalls_30ms\":%" PRIu64 "}",
		l->files, l->p50_us, l->p90_us, l->p99_us, l->p999_us, l->max_us, l->stalls);
}

void record_result(FILE *file, const struct bench_cell *cell, const struct bench_result *result,
	int error, const char *why)
{
	if (error) {
		fprintf(file,
			"\"status\":\"%s\",\"error\":", error == -EINVAL ? "invalid" : "error");
		record_text(file, why);
		fputs(",\"effective\":null,\"time\":null,\"bytes\":0,\"throughput_Bps\":null,"
		      "\"tx\":null,\"rx\":null,\"tcp\":null,\"zc\":null,\"latency_us\":null",
			file);
		return;
	}
	fputs("\"status\":\"ok\",\"error\":null,", file);
	record_effective(file, cell, result);
	record_time(file, cell, result);
	record_side(file, "tx", &result->tx);
	record_side(file, "rx", &result->rx);
	record_tcp(file, &result->tcp);
	record_zerocopy(file, cell, result);
	record_latency(file, &result->latency);
}

static const char *size_name(uint64_t bytes, char ret_text[static 24])
{
	static const char units[] = { 0, 'K', 'M', 'G' };
	int unit = 0;

	while (unit < 3 && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	(void)snprintf(ret_text, 24, "%" PRIu64 "%.1s", bytes, unit ? &units[unit] : "");
	return ret_text;
}

void record_cell(FILE *file, const struct bench_cell *cell)
{
	char buffer[24], size[24];

	fprintf(file, "\"cell\":{\"id\":\"%s/%s/file_bytes=%s\",\"kind\":\"bulk\",", cell->strategy,
		size_name(cell->buffer, buffer), size_name(cell->file_bytes, size));
	fprintf(file,
		"\"strategy\":\"%s\",\"receive\":\"discard\",\"buffer\":%u,\"nagle\":\"auto\","
		"\"mss\":null,\"file_bytes\":%" PRIu64 ",\"files\":%" PRIu64 ",\"streams\":%u,"
		"\"sndbuf\":null,\"rcvbuf\":null,\"notsent_lowat\":null,\"cc\":\"%s\","
		"\"cache\":\"warm\",\"sink\":\"discard\",\"path\":\"lo\",\"framing\":null,"
		"\"window\":null,\"depth\":null},",
		cell->strategy, cell->buffer, cell->file_bytes, cell->files, cell->streams,
		cell->congestion);
}
