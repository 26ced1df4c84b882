/* SPDX-License-Identifier: Apache-2.0 */
/* channel.c - see channel.h. */
#include "move/channel.h"

#include "base/clock.h"
#include "kernel/block.h"
#include "kernel/file.h"
#include "kernel/pipe.h"
#include "kernel/sock.h"

#include <errno.h>
#include <stdio.h>

#define WAKE_BYTES        (512 * KIB) /* a receiver sleeps until so many have come */
#define WAKE_MS           20 /* a peer that takes longer for them is slow: it is heard at once */
#define WAKE_SLOW_BYTES   (8 * MIB) /* for so long */
#define RING_SLICE_MS     100       /* how soon an abort is noticed while a ring is waited for */
#define RING_CANCEL_KIND  0xffu
#define RING_BLOCKS_MOST  64
#define RING_BLOCKS_LEAST 2 /* one to move into, one to move out of */

/* Nanoseconds this thread was runnable without a CPU, from the scheduler; 0 where it does not tell.
 */
static uint64_t thread_run_delay_ns(void)
{
	char text[96] = { 0 };
	uint64_t delay = 0;
	int fd = sys_openat(AT_FDCWD, "/proc/thread-self/schedstat", O_RDONLY, 0);

	if (fd < 0)
		return 0;
	if (sys_read(fd, text, sizeof(text) - 1) > 0) {
		char *next;
		(void)strtoull(text, &next, 10); /* time on the CPU */
		delay = strtoull(next, NULL, 10);
	}
	sys_close(fd);
	return delay;
}

void channel_open(struct channel *channel, enum zh_side side, int sock, int abort_fd, int stall_ms)
{
	memset(channel, 0, sizeof(*channel));
	channel->side = side;
	channel->sock = sock;
	channel->abort_fd = abort_fd;
	channel->stall_ms = stall_ms;
	channel->file = channel->direct = -1;
	channel->stats.size = sizeof(channel->stats);
	channel->stats.side = side;
	if (side == ZH_RECEIVE)
		channel->wake_bytes = sock_wake_bytes(sock) == 1;
	channel->opened_ns = channel->progress_ns = clock_now_ns();
	channel->cpu_start_ns = clock_thread_cpu_ns();
	channel->run_delay_start_ns = thread_run_delay_ns();
	memcpy(channel->calls_start, sys_calls, sizeof(channel->calls_start));
}

static void channel_drop_direct(struct channel *channel)
{
	sys_close(channel->direct);
	channel->direct = -1;
}

void channel_close(struct channel *channel)
{
	for (size_t i = 0; i < STRATEGY_MAX; i++) {
		if (!channel->state[i])
			continue;
		strategy_at(i)->close(channel, channel->state[i]);
		free(channel->state[i]);
		channel->state[i] = NULL;
	}
	channel_drop_direct(channel);
}

static void *channel_state(struct channel *channel)
{
	return channel->state[strategy_index(channel->strategy)];
}

/* Makes strategy the one in use, opening it on its first use. */
static int channel_use(struct channel *channel, const struct strategy *strategy)
{
	size_t index = strategy_index(strategy);
	int r = 0;

	channel->strategy = strategy;
	if (!channel->state[index]) {
		channel->state[index] = calloc(1, strategy->state_bytes);
		if (!channel->state[index])
			return -ENOMEM;
		r = strategy->open(channel, channel->state[index]);
		if (r < 0) {
			strategy->close(channel, channel->state[index]);
			free(channel->state[index]);
			channel->state[index] = NULL;
		}
	}
	return r;
}

/* Opening may also fail for want of memory that may be locked. */
static bool open_was_refused(int r)
{
	return strategy_refusal(r) || r == -EACCES || r == -ENOMEM;
}

/* Down the chain of fallbacks: what is being digested has to be seen to its end. NULL: none. */
static const struct strategy *channel_fallback(
	const struct channel *channel, const struct strategy *from)
{
	const struct strategy *next = from;

	do
		next = next->pub.falls_back_to
			       ? strategy_find(channel->side, next->pub.falls_back_to)
			       : NULL;
	while (next && channel->digest && !next->pub.sees_data);
	return next;
}

/* Takes the strategy's fallback. The caller is at a byte-exact boundary. Returns 0 or why not. */
static int channel_demote(struct channel *channel, int why)
{
	const struct strategy *from = channel->strategy;
	const struct strategy *next = channel_fallback(channel, from);
	int r = (int)channel_fail(channel, CHANNEL_END_FILE, why);

	while (next && !channel->no_fallback) {
		channel->stats.demotions++;
		(void)snprintf(channel->stats.demotion, sizeof(channel->stats.demotion),
			"%s -> %s: %s", from->pub.name, next->pub.name,
			channel->refused_why ? channel->refused_why : strerrordesc_np(-why));
		channel->pipe_bytes = channel->pipe_bytes ? channel->pipe_bytes : (uint32_t)MIB;
		r = channel_use(channel, next);
		if (r == 0 || !open_was_refused(r))
			break;
		next = channel_fallback(channel, next);
	}
	if (r == 0)
		channel->failed = CHANNEL_END_NONE;
	return r;
}

static struct channel_manner manner_of(const struct channel *channel, const char *name,
	uint32_t chunk_bytes, uint32_t depth, uint32_t pipe_bytes)
{
	return (struct channel_manner){ strategy_find(channel->side, name), chunk_bytes, depth,
		pipe_bytes };
}

static struct calibrate_cost channel_cost(const struct channel *channel)
{
	return (struct calibrate_cost){
		.bytes = channel->stats.bytes,
		.elapsed_ns = clock_now_ns() - channel->idle_ns,
		.cpu_ns = clock_thread_cpu_ns() + channel->helped.cpu_ns,
		.wait_ns = channel->stats.wait_space_ns,
	};
}

static void calibration_begin(struct channel *channel, const struct zh_plan *plan)
{
	struct channel_calibration *calibration = &channel->calibration;

	calibration->phase = CALIBRATION_OFF;
	if (!plan->runner_up[0])
		return;
	calibration->phase = CALIBRATION_WARMS;
	calibration->planned = manner_of(
		channel, plan->strategy, plan->chunk_bytes, plan->depth, plan->pipe_bytes);
	calibration->runner_up = manner_of(channel, plan->runner_up, plan->runner_up_chunk_bytes,
		plan->runner_up_depth, plan->runner_up_pipe_bytes);
	calibration->start = channel_cost(channel);
}

/*
 * Leaves the strategy in use for the other one, at a byte-exact boundary. When that is demoted on
 * leaving, its fallback goes on instead. Returns 0, or why the other one cannot be used.
 */
static int channel_turn(struct channel *channel, const struct channel_manner *to)
{
	const struct strategy *from = channel->strategy;
	int r = channel_settle(channel);

	if (r < 0 || channel->strategy != from)
		return r;
	channel->chunk_bytes = to->chunk_bytes;
	channel->depth = to->depth;
	channel->pipe_bytes = to->pipe_bytes;
	return channel_use(channel, to->strategy);
}

static int calibration_try_runner_up(struct channel *channel)
{
	struct channel_calibration *calibration = &channel->calibration;
	int r = channel_turn(channel, &calibration->runner_up);

	if (r < 0 && open_was_refused(r) && channel->strategy == calibration->runner_up.strategy) {
		calibration->phase = CALIBRATION_OFF; /* so the plan was right */
		(void)snprintf(channel->stats.calibration, sizeof(channel->stats.calibration),
			"%s: %s", channel->strategy->pub.name, strerrordesc_np(-r));
		r = channel_turn(channel, &calibration->planned);
	}
	calibration->start = channel_cost(channel);
	return r;
}

static int calibration_decide(struct channel *channel, const struct calibrate_cost *of_runner_up)
{
	struct channel_calibration *calibration = &channel->calibration;

	calibration->phase = CALIBRATION_OFF;
	if (calibrate_prefers_runner_up(calibration->planned.strategy->pub.name,
		    &calibration->of_planned, calibration->runner_up.strategy->pub.name,
		    of_runner_up, channel->stats.calibration, sizeof(channel->stats.calibration)))
		return 0;
	return channel_turn(channel, &calibration->planned);
}

/* Goes on to the next phase when this one has moved enough. 0 or why the channel cannot go on. */
static int channel_calibrate(struct channel *channel)
{
	struct channel_calibration *calibration = &channel->calibration;
	struct calibrate_cost now = channel_cost(channel);
	struct calibrate_cost cost = calibrate_since(&now, &calibration->start);

	if (channel->strategy != (calibration->phase == CALIBRATION_RUNNER_UP
						 ? calibration->runner_up.strategy
						 : calibration->planned.strategy)) {
		calibration->phase = CALIBRATION_OFF; /* demoted: there is nothing to compare */
		return 0;
	}
	if (calibration->phase == CALIBRATION_WARMS && cost.bytes >= CALIBRATE_WARM_BYTES) {
		calibration->phase = CALIBRATION_PLANNED;
		calibration->start = now;
	} else if (calibration->phase != CALIBRATION_WARMS && cost.bytes >= CALIBRATE_TRIAL_BYTES) {
		if (calibration->phase == CALIBRATION_RUNNER_UP)
			return calibration_decide(channel, &cost);
		calibration->of_planned = cost;
		calibration->phase = CALIBRATION_RUNNER_UP;
		return calibration_try_runner_up(channel);
	}
	return 0;
}

int channel_file(struct channel *channel, int file, const struct zh_plan *plan)
{
	const struct strategy *strategy = strategy_find(channel->side, plan->strategy);
	int r = channel_settle(channel);

	CHECK(strategy); /* a plan names nothing else */
	channel_drop_direct(channel);
	channel->file = file;
	channel->chunk_bytes = plan->chunk_bytes;
	channel->depth = plan->depth;
	channel->pipe_bytes = plan->pipe_bytes;
	channel->no_fallback = plan->no_fallback;
	channel->offset = channel->end = channel->horizon = 0;
	if (r < 0)
		return r;
	calibration_begin(channel, plan);
	r = channel_use(channel, strategy);
	if (r < 0 && open_was_refused(r))
		r = channel_demote(channel, r);
	return r < 0 ? (int)channel_fail(channel, CHANNEL_END_FILE, r) : 0;
}

bool channel_sees_data(const struct channel *channel)
{
	return channel->strategy->pub.sees_data;
}

/* How long a wait may last without a stall, for poll. */
static int channel_patience_ms(const struct channel *channel)
{
	uint64_t waited_ms;

	if (channel->stall_ms < 0)
		return -1;
	waited_ms = (clock_now_ns() - channel->progress_ns) / NS_PER_MS;
	return waited_ms >= (uint64_t)channel->stall_ms ? 0 : channel->stall_ms - (int)waited_ms;
}

/* An operation of a ring may last longer than the patience: what TCP moves inside it counts too. */
static void channel_look_for_progress(struct channel *channel)
{
	uint64_t bytes = sock_tcp_bytes(channel->sock, channel->side);

	if (bytes == channel->tcp_bytes)
		return;
	channel->tcp_bytes = bytes;
	channel->progress_ns = clock_now_ns();
}

int channel_wait_events(struct channel *channel, short events, enum channel_wait what)
{
	uint64_t start = clock_now_ns();
	int patience_ms = channel_patience_ms(channel);
	int r = -ETIMEDOUT; /* also for a socket that is ready each time and then moves nothing */

	if (patience_ms != 0)
		r = sock_wait(channel->sock, events, channel->abort_fd, patience_ms);
	channel_note_wait(channel, what, clock_now_ns() - start);
	return r;
}

/* Whether to sleep until more than the next segment has come, with bytes still to come. */
static bool channel_may_sleep(const struct channel *channel, uint64_t bytes)
{
	return channel->wake_bytes && bytes >= WAKE_BYTES &&
	       channel->stats.bytes >= channel->wake_slow;
}

int channel_expect(struct channel *channel, uint64_t bytes)
{
	uint32_t wake = channel_may_sleep(channel, bytes) ? (uint32_t)WAKE_BYTES : 1;
	int r;

	if (channel->wake_bytes == 0 || channel->wake_bytes == wake)
		return 0;
	r = sock_set_wake_bytes(channel->sock, wake);
	if (r == 0)
		channel->wake_bytes = wake;
	return wake == 1 ? r : 0; /* that it stays as it was costs time, no more */
}

/* The peer is slower than it pays to sleep for: it is heard at once for a while. */
static int channel_wake_at_once(struct channel *channel)
{
	channel->wake_slow = channel->stats.bytes + WAKE_SLOW_BYTES;
	return channel_expect(channel, 0);
}

static int channel_wait_to_receive(struct channel *channel)
{
	uint64_t start = clock_now_ns();
	int r = channel_expect(channel, channel->end - channel->offset);

	if (r == 0 && channel->wake_bytes > 1) {
		r = sock_wait(channel->sock, POLLIN, channel->abort_fd, WAKE_MS);
		channel_note_wait(channel, CHANNEL_WAIT_DATA, clock_now_ns() - start);
		if (r != -ETIMEDOUT)
			return r;
		r = channel_wake_at_once(channel);
	}
	return r < 0 ? r : channel_wait_events(channel, POLLIN, CHANNEL_WAIT_DATA);
}

static int channel_wait_socket(struct channel *channel)
{
	channel->stats.agains++;
	return channel->side == ZH_SEND ? channel_wait_events(channel, POLLOUT, CHANNEL_WAIT_SPACE)
					: channel_wait_to_receive(channel);
}

void channel_received(struct channel *channel, size_t want, size_t received)
{
	channel->stats.shorts += received < want;
	channel->outran = received < want &&
			  channel_may_sleep(channel, channel->end - channel->offset - received);
}

ssize_t channel_recv(struct channel *channel, void *memory, size_t want, int flags)
{
	ssize_t r = sys_recv(channel->sock, memory, want, flags);

	if (r == -EAGAIN || r == -EFAULT)
		return r;
	if (r == 0)
		r = -ECONNRESET; /* closed in the middle of an extent */
	if (r < 0)
		return channel_fail(channel, CHANNEL_END_SOCKET, r);
	channel_received(channel, want, (size_t)r);
	return r;
}

ssize_t channel_recv_buffer(struct channel *channel, struct buffer *buffer)
{
	size_t want = min_u64(channel->chunk_bytes, channel->end - channel->offset);
	int r = buffer_reserve(buffer, channel->chunk_bytes);

	if (r < 0)
		return channel_fail(channel, CHANNEL_END_FILE, r);
	return channel_recv(channel, buffer->memory, want, 0);
}

ssize_t channel_sendfile(struct channel *channel)
{
	size_t want = min_u64(channel->chunk_bytes, channel->end - channel->offset);
	ssize_t r = sys_sendfile(channel->sock, channel->file, channel->offset, want);

	if (r == -EAGAIN)
		return r;
	if (strategy_refusal((int)r))
		return channel_refuse(channel, (int)r);
	if (r == 0)
		r = -ENODATA; /* the file has become shorter */
	if (r == -ENODATA || r == -EIO)
		return channel_fail(channel, CHANNEL_END_FILE, r);
	if (r < 0)
		return channel_fail(channel, CHANNEL_END_SOCKET, r);
	channel->stats.shorts += (size_t)r < want;
	return r;
}

int channel_ring_wait(struct channel *channel, struct ring *ring, enum channel_wait what)
{
	uint64_t start = clock_now_ns();
	int r;

	for (;;) {
		bool sleeps = what == CHANNEL_WAIT_DATA && channel->wake_bytes > 1;
		r = ring_wait(ring, sleeps ? WAKE_MS : RING_SLICE_MS);
		if (r == -ETIME && sleeps && (r = channel_wake_at_once(channel)) == 0)
			continue;
		if (r != -ETIME)
			break;
		if (what != CHANNEL_WAIT_DISK)
			channel_look_for_progress(channel);
		struct pollfd abort = { .fd = channel->abort_fd, .events = POLLIN };
		if (channel->abort_fd >= 0 && sys_poll(&abort, 1, 0) > 0)
			r = -ECANCELED;
		else if (what != CHANNEL_WAIT_DISK && channel_patience_ms(channel) == 0)
			r = -ETIMEDOUT;
		if (r != -ETIME)
			break;
	}
	channel_note_wait(channel, what, clock_now_ns() - start);
	if (what == CHANNEL_WAIT_DISK)
		channel->progress_ns = clock_now_ns(); /* the peer is not to blame for our disk */
	if (r < 0)
		return (int)channel_fail(channel, CHANNEL_END_SOCKET, r);
	return 0;
}

void channel_ring_quiesce(struct ring *ring, uint64_t target)
{
	struct ring_event event;

	if (!ring)
		return;
	if (target && ring_in_flight(ring))
		ring_cancel(ring, target, (uint64_t)RING_CANCEL_KIND << 48);
	while (ring_in_flight(ring)) {
		/* Memory the kernel may still write to cannot be given back: there is nothing but
		 * to wait. */
		IGNORE(ring_wait(ring, RING_SLICE_MS));
		while (ring_reap(ring, &event, 1))
			;
	}
}

static bool channel_corks(const struct channel *channel)
{
	return channel->side == ZH_SEND &&
	       (channel->nagle == ZH_NAGLE_CORK ||
		       (channel->nagle == ZH_NAGLE_DEFAULT && channel->strategy->corks &&
			       !channel->never_corks));
}

/* A receiver that was faster than its peer sleeps until it pays to go on. */
static int channel_wait_for_more(struct channel *channel)
{
	int r = channel_wait_to_receive(channel);

	channel->outran = false;
	return r < 0 ? (int)channel_fail(channel, CHANNEL_END_SOCKET, r) : 0;
}

static void channel_begin(struct channel *channel, struct zh_extent extent, uint64_t horizon,
	bool more, struct leaf_run *digest)
{
	channel->progress_ns = clock_now_ns();
	channel->offset = extent.offset;
	channel->end = extent.offset + extent.length;
	channel->horizon = max_u64(horizon, channel->end);
	channel->digest = digest;
	channel->more = more;
	channel->failed = CHANNEL_END_NONE;
	channel->refused = false;
	channel->outran = false;
}

/* One step, and what it asks for: to be waited for, or another strategy. 0 or what failed. */
static int channel_step(struct channel *channel, bool *waiting)
{
	ssize_t moved = channel->strategy->step(channel, channel_state(channel));
	int r;

	CHECK(moved != 0 && moved <= (ssize_t)(channel->end - channel->offset));
	if (moved > 0) {
		channel->offset += (uint64_t)moved;
		channel->stats.bytes += (uint64_t)moved;
		channel->progress_ns = clock_now_ns();
		*waiting = false;
		return 0;
	}
	if (moved == -EAGAIN) {
		if (!*waiting) /* until here it may have been our disk that took its time */
			channel->progress_ns = clock_now_ns();
		*waiting = true;
		r = channel_wait_socket(channel);
		return r < 0 ? (int)channel_fail(channel, CHANNEL_END_SOCKET, r) : 0;
	}
	if (!channel->refused)
		return (int)moved;
	channel->refused = false;
	return channel_demote(channel, (int)moved);
}

/* Puts the socket back, also after an error of the file: what follows is not to wait. */
static int channel_end_extent(struct channel *channel, bool corked)
{
	int r = channel_expect(channel, 0);
	int uncorked = corked ? sock_cork(channel->sock, 0) : 0;

	r = r < 0 ? r : uncorked;
	return r < 0 ? (int)channel_fail(channel, CHANNEL_END_SOCKET, r) : 0;
}

int channel_move(struct channel *channel, struct zh_extent extent, uint64_t horizon, bool more,
	struct leaf_run *digest)
{
	bool corked = channel_corks(channel);
	bool waiting = false;
	int r = 0, ended;

	channel_begin(channel, extent, horizon, more, digest);
	if (corked) {
		r = sock_cork(channel->sock, 1);
		if (r < 0 && channel->nagle == ZH_NAGLE_DEFAULT)
			r = corked = false; /* not TCP: there are no segments to spoil */
	}
	while (r == 0 && channel->offset < channel->end) {
		if (channel->outran)
			r = channel_wait_for_more(channel);
		if (r == 0)
			r = channel_step(channel, &waiting);
		/* Another strategy may not see the bytes: not within what has to be digested. */
		if (r == 0 && channel->calibration.phase != CALIBRATION_OFF &&
			(!digest || channel->offset == channel->end))
			r = channel_calibrate(channel);
	}
	/* An error that is told already stays the one. */
	enum channel_end failed = channel->failed;
	channel->digest = NULL;
	ended = channel_end_extent(channel, corked);
	if (r < 0)
		channel->failed = failed;
	return r < 0 ? r : ended;
}

int channel_settle(struct channel *channel)
{
	int r;

	if (!channel->strategy || !channel_state(channel))
		return 0;
	channel->failed = CHANNEL_END_NONE;
	channel->refused = false;
	r = channel->strategy->drain(channel, channel_state(channel));
	if (channel->refused) {
		channel->refused = false;
		r = channel_demote(channel, r);
	}
	return r;
}

static const uint8_t zeros[64 * KIB];

int channel_send_memory(struct channel *channel, const void *bytes, size_t length)
{
	const uint8_t *next = bytes;

	channel->progress_ns = clock_now_ns();
	while (length > 0) {
		ssize_t r = sys_send(channel->sock, next, length, MSG_DONTWAIT);
		if (r > 0) {
			next += r;
			length -= (size_t)r;
			channel->progress_ns = clock_now_ns();
			continue;
		}
		if (r == -EAGAIN)
			r = channel_wait_events(channel, POLLOUT, CHANNEL_WAIT_SPACE);
		if (r < 0)
			return (int)channel_fail(channel, CHANNEL_END_SOCKET, r);
	}
	return 0;
}

/* With MSG_TRUNC and no place for them TCP throws the bytes away in the kernel. */
static int receive(struct channel *channel, uint8_t *next, uint64_t bytes, int flags)
{
	channel->progress_ns = clock_now_ns();
	while (bytes > 0) {
		ssize_t r =
			sys_recv(channel->sock, next, min_u64(bytes, MIB), flags | MSG_DONTWAIT);
		if (r > 0) {
			if (next)
				next += r;
			bytes -= (uint64_t)r;
			channel->progress_ns = clock_now_ns();
			continue;
		}
		if (r == 0)
			r = -ECONNRESET;
		else if (r == -EAGAIN)
			r = channel_wait_events(channel, POLLIN, CHANNEL_WAIT_DATA);
		if (r < 0)
			return (int)channel_fail(channel, CHANNEL_END_SOCKET, r);
	}
	return 0;
}

int channel_recv_memory(struct channel *channel, void *ret_bytes, size_t length)
{
	return receive(channel, ret_bytes, length, 0);
}

int channel_zero(struct channel *channel, uint64_t bytes)
{
	int r = 0;

	for (; bytes > 0 && r == 0; bytes -= min_u64(bytes, sizeof(zeros)))
		r = channel_send_memory(channel, zeros, min_u64(bytes, sizeof(zeros)));
	return r;
}

int channel_skip(struct channel *channel, uint64_t bytes)
{
	return receive(channel, NULL, bytes, MSG_TRUNC);
}

void channel_note_idle(struct channel *channel, uint64_t ns)
{
	channel->idle_ns += ns;
	channel->progress_ns = clock_now_ns();
}

void channel_note_wait(struct channel *channel, enum channel_wait what, uint64_t ns)
{
	if (what == CHANNEL_WAIT_SPACE)
		channel->stats.wait_space_ns += ns;
	else if (what == CHANNEL_WAIT_DATA)
		channel->stats.wait_data_ns += ns;
	/* Waiting for the disk is what remains: it also happens inside calls, where nobody can see
	 * it. */
}

void channel_stats(struct channel *channel, struct zh_stats *ret_stats)
{
	struct zh_stats *stats = &channel->stats;
	uint64_t run_delay_ns = thread_run_delay_ns();
	uint64_t own_cpu_ns, accounted;

	stats->elapsed_ns = clock_now_ns() - channel->opened_ns - channel->idle_ns;
	own_cpu_ns = clock_thread_cpu_ns() - channel->cpu_start_ns;
	stats->cpu_ns = own_cpu_ns + channel->helped.cpu_ns;
	if (run_delay_ns > channel->run_delay_start_ns) /* 0 when it could not be read this time */
		stats->wait_run_ns = run_delay_ns - channel->run_delay_start_ns;
	/* A helper's time runs beside the channel's and leaves none of that unaccounted for. */
	accounted = own_cpu_ns + stats->wait_run_ns + stats->wait_space_ns + stats->wait_data_ns;
	stats->wait_disk_ns = stats->elapsed_ns > accounted ? stats->elapsed_ns - accounted : 0;
	stats->chunk_bytes = channel->chunk_bytes;
	if (channel->strategy)
		TEXT_SET(stats->strategy, channel->strategy->pub.name);
	for (size_t i = 0; i < SYS_CALL_COUNT; i++)
		stats->calls[i] = sys_calls[i] - channel->calls_start[i] + channel->helped.calls[i];
	sock_tcp(channel->sock, &stats->tcp);
	*ret_stats = *stats;
}

ssize_t channel_fail(struct channel *channel, enum channel_end end, ssize_t error)
{
	if (channel->failed == CHANNEL_END_NONE)
		channel->failed = end;
	return error == -EAGAIN ? -EIO : error; /* from step -EAGAIN means: wait for the socket */
}

ssize_t channel_refuse(struct channel *channel, int error)
{
	channel->refused = true;
	channel->refused_why = NULL;
	return error;
}

ssize_t channel_refuse_because(struct channel *channel, const char *why)
{
	channel->refused = true;
	channel->refused_why = why;
	return -EOPNOTSUPP;
}

static int channel_register_pool(
	struct ring *ring, uint32_t count, uint32_t block_bytes, struct block_pool *ret_pool)
{
	struct iovec buffer[RING_BLOCKS_MOST];
	int r = block_pool_open(ret_pool, count, block_bytes);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < count; i++)
		buffer[i] = (struct iovec){ ret_pool->block[i].memory, block_bytes };
	return ring_register(ring, buffer, count);
}

int channel_open_ring(struct channel *channel, uint32_t depth, uint32_t chunk_bytes,
	struct ring **ret_ring, struct block_pool *ret_pool)
{
	uint32_t block_bytes = (uint32_t)round_up(chunk_bytes, 4096);
	int r;

	CHECK(depth <= RING_BLOCKS_MOST);
	r = ring_open(depth * 2, ret_ring);
	if (r < 0)
		return r;
	r = channel_register_pool(*ret_ring, depth, block_bytes, ret_pool);
	/* All rings of an ordinary user share what it may lock, 8 MiB by default: better a
	 * shallower queue than none. */
	while (r == -ENOMEM && depth / 2 >= RING_BLOCKS_LEAST) {
		depth /= 2;
		block_pool_close(ret_pool);
		r = channel_register_pool(*ret_ring, depth, block_bytes, ret_pool);
	}
	if (r < 0)
		return r;
	channel->stats.ring_flags = ring_setup_flags(*ret_ring);
	channel->stats.registered = 1;
	channel->stats.huge_pages = ret_pool->huge_pages;
	channel->stats.depth = depth;
	return 0;
}

int channel_open_pipe(struct channel *channel, struct pipe *pipe)
{
	int r = pipe_open(pipe, channel->pipe_bytes);

	if (r == 0)
		channel->stats.pipe_bytes = pipe->size_bytes;
	return r;
}

int channel_direct(struct channel *channel)
{
	if (channel->direct < 0)
		channel->direct = file_open_direct(channel->file, channel->side);
	if (channel->direct >= 0)
		channel->stats.direct = 1;
	return channel->direct;
}

void channel_note_thread(struct channel_spent *spent)
{
	uint64_t cpu_ns = clock_thread_cpu_ns();

	spent->cpu_ns += cpu_ns - spent->cpu_seen_ns;
	spent->cpu_seen_ns = cpu_ns;
	for (size_t i = 0; i < SYS_CALL_COUNT; i++) {
		spent->calls[i] += sys_calls[i];
		sys_calls[i] = 0; /* the thread is the strategy's: nobody else counts by them */
	}
}

void channel_account_thread(struct channel *channel, struct channel_spent *spent)
{
	channel->helped.cpu_ns += spent->cpu_ns;
	spent->cpu_ns = 0;
	for (size_t i = 0; i < SYS_CALL_COUNT; i++) {
		channel->helped.calls[i] += spent->calls[i];
		spent->calls[i] = 0;
	}
}

int channel_pwrite_all(struct channel *channel, const void *bytes, size_t length, uint64_t offset)
{
	const uint8_t *next = bytes;

	while (length > 0) {
		ssize_t r = sys_pwrite(channel->file, next, length, offset);
		if (r <= 0) /* 0 for a non-zero length never happens on a regular file */
			return (int)channel_fail(channel, CHANNEL_END_FILE, r < 0 ? r : -EIO);
		if ((size_t)r < length)
			channel->stats.shorts++;
		next += r;
		length -= (size_t)r;
		offset += (uint64_t)r;
	}
	return 0;
}
