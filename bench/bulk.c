/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bulk.c - see side.h: files of one size, one after the other, without headers or answers between.
 * By the strategies of the engine, but for two that it does not have: a plain loop with MSG_MORE on
 * all but the last chunk of a file, and a receiver that reads into one buffer and keeps nothing.
 */
#include "side.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOWER 0.10 /* what copy-slow adds to the time of copy */

static bool is(const char *name, const char *other)
{
	return name && strcmp(name, other) == 0;
}

static struct zh_options options_of(const struct bench_cell *cell, const char *strategy)
{
	struct zh_options options = zh_options_default();
	bool corks = cell->nagle == BENCH_NAGLE_CORK || cell->nagle == BENCH_NAGLE_NODELAY_CORK;

	options.flags = ZH_NO_FALLBACK;
	options.strategy = strategy;
	options.stall_ms = BENCH_PATIENCE_MS;
	options.depth = cell->depth;
	options.sock.nagle = corks ? ZH_NAGLE_CORK : ZH_NAGLE_DEFAULT;
	if (cell->nagle != BENCH_NAGLE_AUTO)
		options.flags |= ZH_NO_CORK;
	return options;
}

/* copy-dup and copy-slow are copy: the one shows the error of the harness, the other its sight. */
static const char *engine_name(const char *strategy)
{
	return is(strategy, "copy-dup") || is(strategy, "copy-slow") ? "copy" : strategy;
}

/* 0, negative errno; never fewer bytes than the extent has. */
static int send_with_more(struct bench_side *side, int file)
{
	size_t chunk = side->cell->buffer;
	char *buffer = aligned_alloc(4096, (chunk + 4095) / 4096 * 4096);
	uint64_t at = 0;
	int r = buffer ? 0 : -ENOMEM;

	while (r == 0 && at < side->length) {
		size_t want = side->length - at < chunk ? side->length - at : chunk;
		side->account.calls[BENCH_CALL_PREAD]++;
		ssize_t got = pread(file, buffer, want, (off_t)at);
		if (got <= 0) {
			r = got < 0 ? -errno : -ENODATA;
			break;
		}
		at += (uint64_t)got;
		r = bench_send_all(side, buffer, (size_t)got, at < side->length ? MSG_MORE : 0);
		side->account.bytes += r == 0 ? (uint64_t)got : 0;
	}
	free(buffer);
	return r;
}

static int send_with_engine(struct bench_side *side, int file)
{
	struct zh_options options = options_of(side->cell, engine_name(side->cell->strategy));
	struct zh_extent all = { 0, side->length };
	struct zh_stats stats;
	int r;

	options.chunk_bytes = side->cell->buffer;
	r = zh_send(file, side->sock, all, &options, &stats);
	if (r == -EINVAL && side->warm_up) { /* not from memory: then by what always can */
		options.strategy = "copy";
		r = zh_send(file, side->sock, all, &options, &stats);
	}
	bench_account_stats(&side->account, &stats);
	return r;
}

static void spin(double seconds)
{
	double end = bench_now() + seconds;

	while (bench_now() < end)
		;
}

static int send_file(struct bench_side *side, uint64_t index)
{
	double start = bench_now();
	char name[PATH_MAX];
	int file = side->file, r;

	if (file < 0) {
		(void)snprintf(name, sizeof(name), "%s.%llu", side->cell->source,
			(unsigned long long)index);
		side->account.calls[BENCH_CALL_OPEN]++;
		file = open(name, O_RDONLY | O_CLOEXEC);
		if (file < 0)
			return -errno;
	}
	r = side->cell->nagle == BENCH_NAGLE_MSG_MORE ? send_with_more(side, file)
						      : send_with_engine(side, file);
	if (file != side->file)
		close(file);
	if (is(side->cell->strategy, "copy-slow"))
		spin((bench_now() - start) * SLOWER);
	return r;
}

void bench_bulk_send(struct bench_side *side)
{
	char answer;
	int r = 0;

	for (uint64_t i = 0; i < side->files && r == 0; i++)
		r = send_file(side, i);
	side->send_return_s = bench_now() - side->start;
	if (r == 0)
		r = bench_receive_all(side, &answer, 1);
	side->acked_s = bench_now() - side->start;
	side->account.error = r;
}

static int receive_into_nothing(struct bench_side *side)
{
	size_t chunk = side->cell->receive_buffer ? side->cell->receive_buffer : 1u << 20;
	char *buffer = malloc(chunk);
	uint64_t left = side->length;
	ssize_t r = buffer ? 0 : -ENOMEM;

	while (r >= 0 && left > 0) {
		r = bench_receive_some(side, buffer, left < chunk ? left : chunk);
		left -= r > 0 ? (uint64_t)r : 0;
	}
	side->account.bytes += side->length - left;
	side->received_s = bench_now() - side->start;
	free(buffer);
	return r < 0 ? (int)r : 0;
}

static int open_target(struct bench_side *side, uint64_t index)
{
	const struct bench_cell *cell = side->cell;
	bool stored = cell->target && !side->warm_up;
	char name[PATH_MAX] = "/dev/null";
	int file;

	if (stored)
		(void)snprintf(name, sizeof(name), cell->numbered ? "%s.%llu" : "%s", cell->target,
			(unsigned long long)index);
	side->account.calls[BENCH_CALL_OPEN]++;
	file = open(
		name, stored ? O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC : O_WRONLY | O_CLOEXEC, 0600);
	if (file < 0 || !stored || side->length == 0)
		return file < 0 ? -errno : file;
	side->account.calls[BENCH_CALL_FALLOCATE]++;
	if (fallocate(file, 0, 0, (off_t)side->length) < 0) {
		int error = -errno;
		close(file);
		return error;
	}
	return file;
}

static int sync_target(struct bench_side *side, int file, bool last)
{
	enum bench_sync how = side->warm_up ? BENCH_SYNC_NONE : side->cell->sync;
	double start = bench_now();
	int r = 0;

	if (how == BENCH_SYNC_EACH) {
		side->account.calls[BENCH_CALL_FDATASYNC]++;
		r = fdatasync(file);
	} else if (how == BENCH_SYNC_ONCE && last) {
		side->account.calls[BENCH_CALL_SYNCFS]++;
		r = syncfs(file);
	}
	if (r < 0)
		return -errno;
	side->account.durable_s += bench_now() - start;
	return 0;
}

static int receive_file(struct bench_side *side, uint64_t index)
{
	const char *strategy = side->warm_up ? "discard" : side->cell->receive;
	struct zh_options options = options_of(side->cell, strategy);
	struct zh_extent all = { 0, side->length };
	struct zh_stats stats;
	int file, r;

	if (is(side->cell->receive, "recv"))
		return receive_into_nothing(side);
	file = open_target(side, index);
	if (file < 0)
		return file;
	options.chunk_bytes = side->cell->receive_buffer;
	r = zh_recv(side->sock, file, all, &options, &stats);
	bench_account_stats(&side->account, &stats);
	side->received_s = bench_now() - side->start;
	if (r == 0)
		r = sync_target(side, file, index + 1 == side->files);
	close(file);
	return r;
}

void bench_bulk_receive(struct bench_side *side)
{
	int r = 0;

	for (uint64_t i = 0; i < side->files && r == 0; i++)
		r = receive_file(side, i);
	if (r == 0)
		r = bench_send_all(side, "!", 1, 0);
	side->account.error = r;
}
