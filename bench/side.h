/* SPDX-License-Identifier: Apache-2.0 */
/* side.h - what one side of a trial does on one connection. Run by a process or a thread of it. */
#ifndef ZH_BENCH_SIDE_H
#define ZH_BENCH_SIDE_H

#include "trial.h"

#include <sys/types.h>

#define BENCH_PATIENCE_MS 120000 /* a peer that is silent for so long has failed */

struct bench_side {
	const struct bench_cell *cell;
	int sock;
	int file; /* sender: the source, -1: opened by its name */

	/* one move */
	bool sends;
	uint64_t length; /* of a file */
	uint64_t files;
	bool warm_up; /* nothing is stored, and any strategy will do */
	bool stop;    /* sender of requests: the one in hand is the last */
	double start;

	/* what became of it; of the account only what a thread can know */
	struct bench_account account;
	double send_return_s;
	double acked_s;
	double received_s; /* receiver: when the last byte had come */

	float *latency_us; /* owned, of requests; of the first BENCH_LATENCIES files */
	uint64_t latencies;
};

#define BENCH_LATENCIES (1u << 20)

/* Files one after the other, by zh_send and zh_recv; one byte of acknowledgement after the last. */
void bench_bulk_send(struct bench_side *side);
void bench_bulk_receive(struct bench_side *side);

/* A header and a body for each file, an answer to each. Sockets block, with a time-out. */
void bench_requests_send(struct bench_side *side);
void bench_requests_receive(struct bench_side *side);

/* Calls that are counted, and finish unless the peer has gone: 0 or a negative errno. */
int bench_set(struct bench_side *side, int name, int value); /* an option of TCP */
int bench_wait(struct bench_side *side, short events);
int bench_send_all(struct bench_side *side, const void *bytes, size_t length, int flags);
int bench_receive_all(struct bench_side *side, void *bytes, size_t length);
/* At most length bytes; never 0. */
ssize_t bench_receive_some(struct bench_side *side, void *bytes, size_t length);

#endif
