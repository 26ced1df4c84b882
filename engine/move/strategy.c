/* SPDX-License-Identifier: Apache-2.0 */
/* strategy.c - the table of all strategies, in order of preference for listings. */
#include "move/strategy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static const struct strategy *const strategies[] = {
	&sendfile_send,
	&sendfile_ahead_send,
	&splice_send,
	&uring_zc_send,
	&uring_direct_send,
	&uring_copy_send,
	&mmap_send,
	&msg_zerocopy_send,
	&uring_splice_send,
	&copy_send,
	&uring_direct_recv,
	&splice_recv,
	&dontcache_recv,
	&uring_copy_recv,
	&direct_recv,
	&mmap_recv,
	&copy_recv,
	&zerocopy_recv,
	&discard_recv,
};

_Static_assert(ARRAY_LEN(strategies) <= STRATEGY_MAX, "STRATEGY_MAX is too small");
_Static_assert(ARRAY_LEN(strategies) <= ZH_PLAN_VERDICTS, "ZH_PLAN_VERDICTS is too small");

const struct strategy *strategy_at(size_t index)
{
	return index < ARRAY_LEN(strategies) ? strategies[index] : NULL;
}

ZH_API const struct zh_strategy *zh_strategy_at(size_t index)
{
	return index < ARRAY_LEN(strategies) ? &strategies[index]->pub : NULL;
}

const struct strategy *strategy_find(enum zh_side side, const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(strategies); i++)
		if (strategies[i]->pub.side == side && strcmp(strategies[i]->pub.name, name) == 0)
			return strategies[i];
	return NULL;
}

size_t strategy_index(const struct strategy *strategy)
{
	size_t i = 0;

	while (strategies[i] != strategy)
		i++;
	return i;
}

int strategy_open_nothing(struct channel *channel, void *state)
{
	(void)channel;
	(void)state;
	return 0;
}

int strategy_drain_nothing(struct channel *channel, void *state)
{
	(void)channel;
	(void)state;
	return 0;
}

void strategy_close_nothing(struct channel *channel, void *state)
{
	(void)channel;
	(void)state;
}

bool strategy_refusal(int error)
{
	return error == -EINVAL || error == -EOPNOTSUPP || error == -ENOSYS || error == -EPERM;
}

int strategy_refuse(char *ret_reason, size_t cap, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(ret_reason, cap, format, arguments);
	va_end(arguments);
	return -1;
}

uint32_t strategy_chunk(const struct facts *facts, uint32_t preferred_bytes, uint32_t most_bytes)
{
	return facts->chunk_bytes ? (uint32_t)min_u64(facts->chunk_bytes, most_bytes)
				  : preferred_bytes;
}

uint32_t strategy_depth(const struct facts *facts, uint32_t preferred, uint32_t most)
{
	return facts->depth ? (uint32_t)min_u64(facts->depth, most) : preferred;
}

int strategy_needs_ring(const struct facts *facts, char *ret_reason, size_t cap)
{
	if (!facts->host.ring)
		return strategy_refuse(ret_reason, cap, "io_uring is refused: %s",
			strerrordesc_np(-facts->host.ring_error));
	if (!facts->host.ring_registers)
		return strategy_refuse(ret_reason, cap, "2 MiB of buffers cannot be registered: %s",
			strerrordesc_np(-facts->host.register_error));
	return 0;
}

int strategy_needs_direct(const struct facts *facts, char *ret_reason, size_t cap)
{
	const struct file_facts *file = &facts->file;

	if (!file->regular || file->append_only)
		return strategy_refuse(ret_reason, cap, "needs a regular file without O_APPEND");
	if (file->in_memory)
		return strategy_refuse(
			ret_reason, cap, "%s has no disk to go to directly", file->filesystem);
	if (file->direct_offset_align == 0 || file->direct_offset_align > STRATEGY_PAGE_BYTES ||
		file->direct_memory_align > STRATEGY_PAGE_BYTES)
		return strategy_refuse(ret_reason, cap, "%s offers no direct I/O at page alignment",
			file->filesystem);
	return 0;
}

static void limit_depth(struct zh_plan *plan, uint64_t pool_bytes)
{
	uint64_t block_bytes = round_up(plan->chunk_bytes, STRATEGY_PAGE_BYTES);

	plan->depth = (uint32_t)max_u64(2, min_u64(plan->depth, pool_bytes / block_bytes));
}

void strategy_blocks(const struct facts *facts, struct zh_plan *plan, uint32_t chunk_preferred,
	uint32_t chunk_most, uint32_t depth_preferred, uint32_t depth_most)
{
	plan->chunk_bytes = strategy_chunk(facts, chunk_preferred, chunk_most);
	plan->depth = strategy_depth(facts, depth_preferred, depth_most);
	limit_depth(plan, STRATEGY_POOL_BYTES);
}

void strategy_locked_blocks(const struct facts *facts, struct zh_plan *plan,
	uint32_t chunk_preferred, uint32_t chunk_most, uint32_t depth_preferred,
	uint32_t depth_most)
{
	strategy_blocks(facts, plan, chunk_preferred, chunk_most, depth_preferred, depth_most);
	limit_depth(plan, facts->host.memlock_bytes / 2);
}

int strategy_admit_sendfile(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->file.regular)
		return strategy_refuse(ret_reason, cap, "not a regular file");
	if (!facts->host.sendfile)
		return strategy_refuse(ret_reason, cap, "sendfile is refused");
	/* One call runs for as long as its length takes, and is not interrupted: keep it short. */
	plan->chunk_bytes = strategy_chunk(facts, MIB, 8 * MIB);
	plan->depth = 1;
	return 0;
}

int strategy_needs_pages_in_place(const struct facts *facts, char *ret_reason, size_t cap)
{
	const struct sock_facts *sock = &facts->sock;

	if (!sock->tcp)
		return strategy_refuse(ret_reason, cap, "the socket is not TCP");
	if (!sock->scatter_gather)
		return strategy_refuse(ret_reason, cap,
			"the route cannot send pages in place, so the kernel would copy");
	if (sock->local_peer)
		text_set(ret_reason, cap, "the peer is on this host, so the kernel will copy");
	return 0;
}

int strategy_admit_pipe(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->host.splice)
		return strategy_refuse(ret_reason, cap, "splice is refused");
	if (facts->host.pipe_bytes < 64 * KIB)
		return strategy_refuse(ret_reason, cap, "the largest pipe granted is %u bytes",
			facts->host.pipe_bytes);
	plan->pipe_bytes = (uint32_t)min_u64(MIB, facts->host.pipe_bytes);
	plan->chunk_bytes = strategy_chunk(facts, plan->pipe_bytes, plan->pipe_bytes);
	plan->depth = 1;
	return 0;
}
