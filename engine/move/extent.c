/* SPDX-License-Identifier: Apache-2.0 */
/* extent.c - tier one of the public face: plan, channel, one extent, done. */
#include "move/channel.h"
#include "kernel/sock.h"
#include "move/plan.h"

#include <errno.h>
#include <sys/time.h>

#define BLOCKING_SLICE_MS 100

static const struct zh_options no_options = { .size = sizeof(no_options) };

static int gather(enum zh_side side, int file, int sock, struct zh_extent extent,
	const struct zh_options *options, struct facts *ret_facts)
{
	int r;

	if (options->size < sizeof(*options) || options->cache > ZH_CACHE_DROP ||
		extent.length > INT64_MAX || extent.offset > INT64_MAX - extent.length)
		return -EINVAL;
	r = plan_gather(side, file, sock, extent, ret_facts);
	if (r < 0)
		return r;
	ret_facts->chunk_bytes = options->chunk_bytes;
	ret_facts->depth = options->depth;
	ret_facts->cache = (enum zh_cache)options->cache;
	ret_facts->no_fallback = options->flags & ZH_NO_FALLBACK;
	ret_facts->calibrate = options->flags & ZH_CALIBRATE;
	if (options->strategy) {
		if (strlen(options->strategy) >= sizeof(ret_facts->strategy))
			return -EINVAL;
		TEXT_SET(ret_facts->strategy, options->strategy);
	}
	return 0;
}

/*
 * Calls on a socket that blocks would outlast any patience, so it is given a short time-out of its
 * own for this direction. Restored afterwards; the flag O_NONBLOCK would change both directions.
 */
static int shorten_blocking(
	enum zh_side side, int sock, uint32_t stall_ms, struct timeval *ret_before)
{
	struct timeval slice = { .tv_usec =
					 (suseconds_t)min_u64(stall_ms, BLOCKING_SLICE_MS) * 1000 };
	int name = side == ZH_SEND ? SO_SNDTIMEO : SO_RCVTIMEO;
	socklen_t length = sizeof(*ret_before);
	int flags = sys_fcntl(sock, F_GETFL, 0);
	int r;

	if (flags < 0 || flags & O_NONBLOCK)
		return flags < 0 ? flags : 0;
	r = sys_getsockopt(sock, SOL_SOCKET, name, ret_before, &length);
	if (r == 0)
		r = sys_setsockopt(sock, SOL_SOCKET, name, &slice, sizeof(slice));
	return r < 0 ? r : 1;
}

static void restore_blocking(enum zh_side side, int sock, const struct timeval *before)
{
	/* It was set a moment ago; when it cannot be set back, calls merely time out. */
	IGNORE(sys_setsockopt(sock, SOL_SOCKET, side == ZH_SEND ? SO_SNDTIMEO : SO_RCVTIMEO, before,
		sizeof(*before)));
}

static int move(enum zh_side side, int file, int sock, struct zh_extent extent,
	const struct zh_options *options, struct zh_stats *ret_stats)
{
	struct channel channel;
	struct facts facts;
	struct zh_plan plan;
	struct timeval before;
	int shortened = 0;
	int r;

	if (!options)
		options = &no_options;
	if (ret_stats)
		memset(ret_stats, 0, sizeof(*ret_stats));
	r = gather(side, file, sock, extent, options, &facts);
	if (r == 0)
		r = plan_make(&facts, &plan);
	if (r == 0)
		r = sock_apply(sock, &options->sock, NULL);
	if (r == 0 && options->stall_ms)
		r = shortened = shorten_blocking(side, sock, options->stall_ms, &before);
	if (r < 0)
		return r;
	channel_open(&channel, side, sock, -1, options->stall_ms ? (int)options->stall_ms : -1);
	channel.nagle = (enum zh_nagle)options->sock.nagle;
	channel.never_corks = options->flags & ZH_NO_CORK;
	r = channel_file(&channel, file, &plan);
	if (r == 0)
		r = channel_move(&channel, extent, 0, false, NULL);
	if (r == 0)
		r = channel_settle(&channel);
	if (ret_stats)
		channel_stats(&channel, ret_stats);
	channel_close(&channel);
	if (shortened)
		restore_blocking(side, sock, &before);
	return r;
}

ZH_API int zh_send(int file_fd, int sock_fd, struct zh_extent extent,
	const struct zh_options *options, struct zh_stats *ret_stats)
{
	return move(ZH_SEND, file_fd, sock_fd, extent, options, ret_stats);
}

ZH_API int zh_recv(int sock_fd, int file_fd, struct zh_extent extent,
	const struct zh_options *options, struct zh_stats *ret_stats)
{
	return move(ZH_RECEIVE, file_fd, sock_fd, extent, options, ret_stats);
}

ZH_API int zh_plan(int file_fd, int sock_fd, enum zh_side side, struct zh_extent extent,
	const struct zh_options *options, struct zh_plan *ret_plan)
{
	struct facts facts;
	int r = gather(side, file_fd, sock_fd, extent, options ? options : &no_options, &facts);

	return r < 0 ? r : plan_make(&facts, ret_plan);
}

ZH_API const char *zh_call_name(size_t index)
{
	return index < SYS_CALL_COUNT ? sys_call_text((enum sys_call)index) : NULL;
}
