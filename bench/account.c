/* SPDX-License-Identifier: Apache-2.0 */
/* account.c - see account.h. */
#include "account.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

double bench_now(void)
{
	return (double)clock_ns(CLOCK_MONOTONIC) * 1e-9;
}

const char *bench_call_name(enum bench_call call)
{
#define BENCH_TEXT(name, text) [BENCH_CALL_##name] = (text),
	static const char *const names[] = { BENCH_CALLS(BENCH_TEXT) };
#undef BENCH_TEXT

	return names[call];
}

static uint64_t micros(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

void bench_account_begin(struct bench_account *account)
{
	struct rusage use;

	memset(account, 0, sizeof(*account));
	(void)getrusage(RUSAGE_SELF, &use);
	account->user_us = micros(use.ru_utime);
	account->sys_us = micros(use.ru_stime);
	account->nvcsw = (uint64_t)use.ru_nvcsw;
	account->nivcsw = (uint64_t)use.ru_nivcsw;
	account->minflt = (uint64_t)use.ru_minflt;
	account->cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	account->seconds = bench_now();
}

void bench_account_end(struct bench_account *account)
{
	struct rusage use;

	account->seconds = bench_now() - account->seconds;
	account->cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - account->cpu_ns;
	(void)getrusage(RUSAGE_SELF, &use);
	account->user_us = micros(use.ru_utime) - account->user_us;
	account->sys_us = micros(use.ru_stime) - account->sys_us;
	account->nvcsw = (uint64_t)use.ru_nvcsw - account->nvcsw;
	account->nivcsw = (uint64_t)use.ru_nivcsw - account->nivcsw;
	account->minflt = (uint64_t)use.ru_minflt - account->minflt;
	account->maxrss_bytes = (uint64_t)use.ru_maxrss << 10;
}

void bench_account_stats(struct bench_account *account, const struct zh_stats *stats)
{
	struct zh_stats sum = *stats;
	const struct zh_stats *old = &account->stats;

	sum.bytes += old->bytes;
	sum.wait_space_ns += old->wait_space_ns;
	sum.wait_data_ns += old->wait_data_ns;
	sum.wait_disk_ns += old->wait_disk_ns;
	sum.wait_run_ns += old->wait_run_ns;
	sum.shorts += old->shorts;
	sum.agains += old->agains;
	sum.zc_copied_bytes += old->zc_copied_bytes;
	sum.demotions += old->demotions;
	for (size_t i = 0; i < ZH_CALL_MAX; i++)
		sum.calls[i] += old->calls[i];
	account->bytes += stats->bytes;
	account->stats = sum;
}

void bench_account_add(struct bench_account *account, const struct bench_account *thread)
{
	uint64_t bytes = account->bytes + thread->bytes;

	if (account->error == 0)
		account->error = thread->error;
	account->durable_s += thread->durable_s;
	for (size_t i = 0; i < BENCH_CALL_COUNT; i++)
		account->calls[i] += thread->calls[i];
	bench_account_stats(account, &thread->stats);
	account->bytes = bytes;
}

static uint32_t option(int sock, int level, int name)
{
	uint32_t value = 0;
	socklen_t length = sizeof(value);

	(void)getsockopt(sock, level, name, &value, &length);
	return value;
}

void bench_tcp_add(struct bench_tcp *tcp, int sock)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	(void)getsockopt(sock, IPPROTO_TCP, TCP_INFO, &info, &length);
	if (tcp->mss == 0) {
		tcp->mss = info.tcpi_snd_mss;
		tcp->rtt_us = info.tcpi_rtt;
		tcp->min_rtt_us = info.tcpi_min_rtt;
		tcp->cwnd = info.tcpi_snd_cwnd;
		tcp->sndbuf = option(sock, SOL_SOCKET, SO_SNDBUF);
		tcp->nodelay = option(sock, IPPROTO_TCP, TCP_NODELAY);
		tcp->cork = option(sock, IPPROTO_TCP, TCP_CORK);
		tcp->delivery_rate = info.tcpi_delivery_rate;
		tcp->pacing_rate = info.tcpi_pacing_rate;
		length = sizeof(tcp->congestion) - 1;
		(void)getsockopt(sock, IPPROTO_TCP, TCP_CONGESTION, tcp->congestion, &length);
	}
	tcp->retransmits += info.tcpi_total_retrans;
	tcp->segments_out += info.tcpi_segs_out;
	tcp->data_segments_out += info.tcpi_data_segs_out;
	tcp->busy_us += info.tcpi_busy_time;
	tcp->rwnd_limited_us += info.tcpi_rwnd_limited;
	tcp->sndbuf_limited_us += info.tcpi_sndbuf_limited;
}

void bench_tcp_since(struct bench_tcp *tcp, const struct bench_tcp *before)
{
	tcp->retransmits -= before->retransmits;
	tcp->segments_out -= before->segments_out;
	tcp->data_segments_out -= before->data_segments_out;
	tcp->busy_us -= before->busy_us;
	tcp->rwnd_limited_us -= before->rwnd_limited_us;
	tcp->sndbuf_limited_us -= before->sndbuf_limited_us;
}
