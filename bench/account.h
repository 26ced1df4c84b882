/* SPDX-License-Identifier: Apache-2.0 */
/*
 * account.h - what one side of a trial used: CPU time, system calls by name, waits, and what the
 * kernel says of its sockets. Plain data that goes from process to process.
 */
#ifndef ZH_BENCH_ACCOUNT_H
#define ZH_BENCH_ACCOUNT_H

#include <stdint.h>
#include <zerohaul.h>

/* Calls that the harness itself makes within the timed part; names as the engine has them. */
#define BENCH_CALLS(X)            \
	X(OPEN, "open")           \
	X(FALLOCATE, "fallocate") \
	X(FDATASYNC, "fdatasync") \
	X(SYNCFS, "syncfs")       \
	X(PREAD, "pread")         \
	X(SEND, "send")           \
	X(WRITEV, "writev")       \
	X(SENDFILE, "sendfile")   \
	X(RECV, "recv")           \
	X(POLL, "poll")           \
	X(SETSOCKOPT, "setsockopt")

#define BENCH_ENUM(name, text) BENCH_CALL_##name,
enum bench_call { BENCH_CALLS(BENCH_ENUM) BENCH_CALL_COUNT };
#undef BENCH_ENUM

struct bench_account {
	int error; /* negative errno */
	uint64_t bytes;
	uint64_t cpu_ns;
	uint64_t user_us, sys_us;
	uint64_t nvcsw, nivcsw, minflt, maxrss_bytes;
	double seconds;   /* from the start to the end of the side's part */
	double durable_s; /* in fdatasync or syncfs */
	double last_s;    /* receiver: from the start to its last byte */
	uint32_t rcvbuf;  /* receiver: SO_RCVBUF at the end */
	uint64_t calls[BENCH_CALL_COUNT];
	struct zh_stats stats; /* of the engine: sums; what cannot be added is of the last file */
};

/* TCP_INFO of the sender, counters of all streams together, the rest of the first one. */
struct bench_tcp {
	uint32_t mss, rtt_us, min_rtt_us, cwnd;
	uint32_t sndbuf;
	uint32_t nodelay, cork;
	uint64_t retransmits, segments_out, data_segments_out;
	uint64_t delivery_rate, pacing_rate;
	uint64_t busy_us, rwnd_limited_us, sndbuf_limited_us;
	char congestion[16];
};

double bench_now(void);
const char *bench_call_name(enum bench_call call);
/* An account of this process begins; end makes differences of it. */
void bench_account_begin(struct bench_account *account);
void bench_account_end(struct bench_account *account);
/* Adds what one call of the engine, or one thread of this side, did. */
void bench_account_stats(struct bench_account *account, const struct zh_stats *stats);
void bench_account_add(struct bench_account *account, const struct bench_account *thread);

/* Adds a socket; the first one also sets what is not added. */
void bench_tcp_add(struct bench_tcp *tcp, int sock);
/* Counters as differences to before. */
void bench_tcp_since(struct bench_tcp *tcp, const struct bench_tcp *before);

#endif
