/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.c - see stats.h. The limiting stage is the one that kept the others waiting: the sender
 * waits for socket space when something behind it is slower, and TCP says whether that is the
 * window of the receiver, the send buffer or the network; otherwise it is the sender's own disk or
 * CPU, unless there was little to send at a time.
 */
#include "base/stats.h"

#include <stdio.h>

#define PER_CENT(part, whole) ((unsigned)((whole) ? (part)*100 / (whole) : 0))

/* How bytes were moved, as opposed to how many and at what cost. */
static void take_manner(struct zh_stats *total, const struct zh_stats *one)
{
	TEXT_SET(total->strategy, one->strategy);
	total->chunk_bytes = one->chunk_bytes;
	total->depth = one->depth;
	total->pipe_bytes = one->pipe_bytes;
	total->ring_flags = one->ring_flags;
	total->registered = one->registered;
	total->huge_pages = one->huge_pages;
	total->direct = one->direct;
	total->tcp = one->tcp;
}

void stats_add(struct zh_stats *total, const struct zh_stats *one)
{
	if (total->size == 0) {
		*total = *one;
		return;
	}
	if (!total->strategy[0]) /* a channel that had nothing to do says nothing about how */
		take_manner(total, one);
	total->bytes += one->bytes;
	total->elapsed_ns += one->elapsed_ns;
	total->cpu_ns += one->cpu_ns;
	total->wait_space_ns += one->wait_space_ns;
	total->wait_data_ns += one->wait_data_ns;
	total->wait_disk_ns += one->wait_disk_ns;
	total->wait_run_ns += one->wait_run_ns;
	total->shorts += one->shorts;
	total->agains += one->agains;
	total->zc_copied_bytes += one->zc_copied_bytes;
	total->digest_bytes += one->digest_bytes;
	total->demotions += one->demotions;
	if (!total->demotion[0])
		TEXT_SET(total->demotion, one->demotion);
	if (!total->calibration[0])
		TEXT_SET(total->calibration, one->calibration);
	for (size_t i = 0; i < ZH_CALL_MAX; i++)
		total->calls[i] += one->calls[i];
}

static void limit(
	struct zh_report *report, const char *stage, const char *format, unsigned per_cent)
{
	TEXT_SET(report->limited_by, stage);
	(void)snprintf(report->limit_evidence, sizeof(report->limit_evidence), format, per_cent);
}

/* The clocks of a short time do not agree to the microsecond. */
static unsigned share_of_cpu(const struct zh_stats *stats)
{
	unsigned share = PER_CENT(stats->cpu_ns + stats->wait_run_ns, stats->elapsed_ns);

	return share > 100 ? 100 : share;
}

/* The sender was held up behind its socket: by what? */
static void limit_behind_sender(struct zh_report *report, unsigned space)
{
	const struct zh_stats *rx = &report->receiver.stats;
	const struct zh_tcp *tcp = &report->sender.stats.tcp;
	unsigned disk = PER_CENT(rx->wait_disk_ns, rx->elapsed_ns);
	unsigned cpu = share_of_cpu(rx);
	unsigned data = PER_CENT(rx->wait_data_ns, rx->elapsed_ns);
	unsigned buffer = PER_CENT(tcp->sndbuf_limited_us, tcp->busy_us);

	if (report->receiver.valid && disk >= cpu && disk > data)
		limit(report, "destination disk",
			"the receiver waited for its disk %u %% of the time", disk);
	else if (report->receiver.valid && cpu > data)
		limit(report, "receiver CPU", "the receiver was on the CPU %u %% of the time", cpu);
	else if (tcp->valid && buffer > 50)
		limit(report, "send buffer",
			"TCP was limited by the send buffer %u %% of the time it was busy", buffer);
	else if (tcp->valid && PER_CENT(tcp->rwnd_limited_us, tcp->busy_us) > 50)
		limit(report, "receive window",
			"TCP was limited by the receive window %u %% of the time it was busy",
			PER_CENT(tcp->rwnd_limited_us, tcp->busy_us));
	else
		limit(report, "network", "the sender waited for socket space %u %% of the time",
			space);
}

/*
 * The data connections had nothing to send for the most part: small files were made or read, or the
 * transfer was a short one.
 */
static void limit_beside_streams(struct zh_report *report)
{
	const struct zh_side_report *tx = &report->sender, *rx = &report->receiver;
	unsigned sender = PER_CENT(tx->cpu_user_ns + tx->cpu_sys_ns, report->elapsed_ns);
	unsigned receiver = PER_CENT(rx->cpu_user_ns + rx->cpu_sys_ns, report->elapsed_ns);

	if (rx->valid && receiver > 50 && receiver >= sender)
		limit(report, "receiver CPU",
			"the receiver used %u %% of a CPU, most of it beside its data connections",
			receiver);
	else if (sender > 50)
		limit(report, "sender CPU",
			"the sender used %u %% of a CPU, most of it beside its data connections",
			sender);
	else
		limit(report, "latency",
			"the data connections had something to send %u %% of the time",
			PER_CENT(tx->stats.elapsed_ns, report->elapsed_ns));
}

void stats_name_limit(struct zh_report *report)
{
	const struct zh_stats *tx = &report->sender.stats;
	unsigned space = PER_CENT(tx->wait_space_ns, tx->elapsed_ns);
	unsigned disk = PER_CENT(tx->wait_disk_ns, tx->elapsed_ns);
	unsigned cpu = share_of_cpu(tx);
	uint64_t commit_ns = report->receiver.disk_ns;

	if (!report->sender.valid || tx->bytes == 0)
		limit(report, "nothing", "no bytes were moved", 0);
	else if (commit_ns > report->elapsed_ns / 2)
		limit(report, "destination disk",
			"allocating, syncing and renaming took %u %% of the time",
			PER_CENT(commit_ns, report->elapsed_ns));
	else if (tx->elapsed_ns < report->elapsed_ns / 2)
		limit_beside_streams(report);
	else if (space >= disk && space >= cpu)
		limit_behind_sender(report, space);
	else if (disk >= cpu)
		limit(report, "source disk", "the sender waited for its disk %u %% of the time",
			disk);
	else
		limit(report, "sender CPU", "the sender was on the CPU %u %% of the time", cpu);
}
