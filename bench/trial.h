/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trial.h - one cell of a benchmark: a sending and a receiving process on this host, each pinned to
 * a CPU of its own, joined by TCP over loopback; and trials of it, each a timed move from the start
 * message to the receiver's acknowledgement. Says nothing about differences between cells.
 *
 * The sender is the calling process, the receiver is forked. Calls return 0 or a negative errno
 * with a sentence in the link's error.
 */
#ifndef ZH_BENCH_TRIAL_H
#define ZH_BENCH_TRIAL_H

#include "account.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zerohaul.h>

enum bench_nagle {
	BENCH_NAGLE_AUTO,    /* as zh_send does unasked: corked where pages are sent in place */
	BENCH_NAGLE_DEFAULT, /* the kernel's, never corked */
	BENCH_NAGLE_NODELAY,
	BENCH_NAGLE_CORK,
	BENCH_NAGLE_MSG_MORE, /* on all but the last chunk of a file; of bulk only copy can */
	BENCH_NAGLE_NODELAY_CORK,
};

enum bench_cache {
	BENCH_CACHE_AS_IS,
	BENCH_CACHE_WARM,
	BENCH_CACHE_COLD,
	BENCH_CACHE_DIRECT, /* the source is opened with O_DIRECT */
};

/* How header and body of a small request are sent. */
enum bench_framing {
	BENCH_BULK, /* no headers, no answers between files */
	BENCH_WRITEV,
	BENCH_SEND_SEND,
	BENCH_SEND_SENDFILE,
	BENCH_MORE_SENDFILE, /* the header with MSG_MORE */
};

enum bench_sync { BENCH_SYNC_NONE, BENCH_SYNC_EACH, BENCH_SYNC_ONCE };

struct bench_cell {
	const char *strategy; /* NULL: the plan chooses; copy-dup and copy-slow are known here */
	const char *receive;
	const char *source;
	const char *target;     /* NULL: nothing is stored */
	const char *congestion; /* NULL: as the kernel has it */
	enum bench_nagle nagle;
	enum bench_cache cache;
	enum bench_framing framing;
	enum bench_sync sync;
	uint32_t window; /* files that may be without an answer; requests only */
	uint32_t streams;
	uint32_t buffer; /* 0: the plan chooses */
	uint32_t receive_buffer;
	uint32_t depth; /* 0: the plan chooses */
	uint32_t mss;   /* of data, with timestamps on; 0: native, and so on */
	uint32_t sndbuf;
	uint32_t rcvbuf;
	uint32_t notsent_lowat;
	uint32_t cap_ms;     /* with files 0: no file is begun after that; requests only */
	bool numbered;       /* file I is SOURCE.I and TARGET.I */
	bool warm_up;        /* 16 MiB or 200 ms on the same connections, untimed */
	uint64_t file_bytes; /* 0: all of the source; else its beginning */
	uint64_t files;      /* per stream */
};

struct bench_latency {
	uint64_t files;
	uint64_t stalls; /* that took longer than 30 ms */
	double p50_us, p90_us, p99_us, p999_us, max_us;
};

/* Both sides of one trial. */
struct bench_result {
	uint64_t bytes;
	double connect_s;
	double send_return_s;
	double acked_s;
	double first_done_s;
	double resident_pct; /* of the source before the start; < 0: it was not asked */
	int cpu[2];          /* sender, receiver */
	struct bench_account tx, rx;
	struct bench_latency latency; /* files 0: no requests */
	struct bench_tcp tcp;
};

#define BENCH_ERROR_CAP 160

struct bench_link;

/*
 * Forks the receiver, connects, warms up; the caller is pinned until bench_close. -EINVAL: this
 * cell cannot be had here; other errors are failures. On failure there is no link, and the sentence
 * is in ret_error.
 */
int bench_open(const struct bench_cell *cell, struct bench_link **ret_link,
	char ret_error[static BENCH_ERROR_CAP]);
/* One timed move. After a failure the link is only good for bench_close. */
int bench_trial(struct bench_link *link, struct bench_result *ret_result,
	char ret_error[static BENCH_ERROR_CAP]);
/* Ends the receiver and waits for it. NULL is fine. */
void bench_close(struct bench_link *link);

#endif
