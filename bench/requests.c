/* SPDX-License-Identifier: Apache-2.0 */
/*
 * requests.c - see side.h: small files as a server sends them, each a header and a body on a kept
 * connection, each answered by one byte. It has loops of its own, because how header and body are
 * sent is what is measured here; the strategies of the engine know no headers.
 *
 * Where the answer to a file is waited for before the next one, a body shorter than a segment meets
 * Nagle's algorithm and the receiver's delayed acknowledgement: it leaves 40 ms late.
 */
#include "side.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define RECEIVE_BYTES (256u << 10)

struct header {
	uint64_t length;
	uint32_t last;
	char padding[116]; /* 128 bytes: a short response header of HTTP */
};

struct requests {
	struct bench_side *side;
	char *body;
	double *begun; /* of the files that wait for an answer, by index modulo the window */
	uint64_t sent;
	uint64_t answered;
};

static int read_body(struct requests *all)
{
	struct bench_side *side = all->side;
	uint64_t got = 0;

	while (got < side->length) {
		side->account.calls[BENCH_CALL_PREAD]++;
		ssize_t r = pread(side->file, all->body + got, side->length - got, (off_t)got);
		if (r <= 0)
			return r < 0 ? -errno : -ENODATA;
		got += (uint64_t)r;
	}
	return 0;
}

static int write_both(struct requests *all, const struct header *header)
{
	struct bench_side *side = all->side;
	struct iovec part[2] = { { (void *)(uintptr_t)header, sizeof(*header) },
		{ all->body, side->length } };
	size_t whole = sizeof(*header) + side->length;

	side->account.calls[BENCH_CALL_WRITEV]++;
	ssize_t r = writev(side->sock, part, 2);
	if (r < 0)
		return -errno;
	if ((size_t)r == whole)
		return 0;
	if ((size_t)r < sizeof(*header))
		return -EIO; /* a blocking socket takes more than that, or fails */
	return bench_send_all(
		side, all->body + ((size_t)r - sizeof(*header)), whole - (size_t)r, 0);
}

static int send_pages(struct bench_side *side)
{
	off_t at = 0;

	while ((uint64_t)at < side->length) {
		side->account.calls[BENCH_CALL_SENDFILE]++;
		ssize_t r = sendfile(side->sock, side->file, &at, side->length - (uint64_t)at);
		if (r <= 0)
			return r < 0 ? -errno : -ENODATA;
	}
	return 0;
}

static int send_both(struct requests *all, const struct header *header)
{
	struct bench_side *side = all->side;
	enum bench_framing framing = side->cell->framing;
	bool more = side->cell->nagle == BENCH_NAGLE_MSG_MORE || framing == BENCH_MORE_SENDFILE;
	bool reads = framing == BENCH_WRITEV || framing == BENCH_SEND_SEND;
	int r = reads ? read_body(all) : 0;

	if (r == 0 && framing == BENCH_WRITEV)
		return write_both(all, header);
	if (r == 0)
		r = bench_send_all(side, header, sizeof(*header), more ? MSG_MORE : 0);
	if (r < 0)
		return r;
	return reads ? bench_send_all(side, all->body, side->length, 0) : send_pages(side);
}

static bool is_last(const struct bench_side *side, uint64_t index)
{
	if (side->files)
		return index + 1 == side->files;
	return (bench_now() - side->start) * 1000 >= side->cell->cap_ms;
}

static int send_one(struct requests *all)
{
	struct bench_side *side = all->side;
	struct header header = { .length = side->length, .last = is_last(side, all->sent) };
	bool corks = side->cell->nagle == BENCH_NAGLE_CORK ||
		     side->cell->nagle == BENCH_NAGLE_NODELAY_CORK;
	int r = 0;

	all->begun[all->sent % side->cell->window] = bench_now();
	if (corks)
		r = bench_set(side, TCP_CORK, 1);
	if (r == 0)
		r = send_both(all, &header);
	if (r == 0 && corks)
		r = bench_set(side, TCP_CORK, 0);
	side->stop = header.last;
	side->account.bytes += r == 0 ? side->length : 0;
	all->sent++;
	return r;
}

static int take_answer(struct requests *all)
{
	struct bench_side *side = all->side;
	char answer;
	int r = bench_receive_all(side, &answer, 1);

	if (r == 0 && side->latencies < BENCH_LATENCIES) {
		double took = bench_now() - all->begun[all->answered % side->cell->window];
		side->latency_us[side->latencies++] = (float)(took * 1e6);
	}
	all->answered++;
	return r;
}

void bench_requests_send(struct bench_side *side)
{
	struct requests all = { .side = side };
	int r = 0;

	side->stop = false;
	side->latencies = 0;
	all.body = malloc(side->length + 1);
	all.begun = calloc(side->cell->window, sizeof(*all.begun));
	if (!side->latency_us)
		side->latency_us = malloc(BENCH_LATENCIES * sizeof(*side->latency_us));
	if (!all.body || !all.begun || !side->latency_us)
		r = -ENOMEM;
	while (r == 0 && !side->stop) {
		r = send_one(&all);
		while (r == 0 && all.sent - all.answered >= side->cell->window)
			r = take_answer(&all);
	}
	side->send_return_s = bench_now() - side->start;
	while (r == 0 && all.answered < all.sent)
		r = take_answer(&all);
	side->acked_s = bench_now() - side->start;
	free(all.body);
	free(all.begun);
	side->account.error = r;
}

static int receive_one(struct bench_side *side, char *buffer, bool *last)
{
	struct header header;
	int r = bench_receive_all(side, &header, sizeof(header));

	if (r < 0)
		return r;
	*last = header.last;
	for (uint64_t left = header.length; left > 0;) {
		size_t want = left < RECEIVE_BYTES ? left : RECEIVE_BYTES;
		ssize_t got = bench_receive_some(side, buffer, want);
		if (got < 0)
			return (int)got;
		left -= (uint64_t)got;
	}
	side->account.bytes += header.length;
	side->received_s = bench_now() - side->start;
	return bench_send_all(side, "!", 1, 0);
}

void bench_requests_receive(struct bench_side *side)
{
	char *buffer = malloc(RECEIVE_BYTES);
	bool last = false;
	int r = buffer ? 0 : -ENOMEM;

	while (r == 0 && !last)
		r = receive_one(side, buffer, &last);
	free(buffer);
	side->account.error = r;
}
