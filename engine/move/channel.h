/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel.h - drives a strategy over one connected socket, for one thread. A channel lives as long
 * as its connection and moves many extents of many files; it waits for the socket, notices stalls
 * and aborts, demotes a strategy the kernel refuses, and keeps the account of where time went. What
 * an extent means to two peers (frames, digests, commits) is the session's.
 *
 * Everything here belongs to that thread. A strategy may have a helper that works on memory and
 * descriptors it was handed under a lock of the strategy's own; it never sees the channel.
 */
#ifndef ZH_MOVE_CHANNEL_H
#define ZH_MOVE_CHANNEL_H

#include "base/leaf.h"
#include "kernel/ring.h"
#include "move/calibrate.h"
#include "move/strategy.h"
#include "base/sys.h"

enum channel_end { CHANNEL_END_NONE, CHANNEL_END_FILE, CHANNEL_END_SOCKET };
enum channel_wait { CHANNEL_WAIT_SPACE, CHANNEL_WAIT_DATA, CHANNEL_WAIT_DISK };

struct block_pool;
struct pipe;

/* A strategy, and how it is used. */
struct channel_manner {
	const struct strategy *strategy;
	uint32_t chunk_bytes;
	uint32_t depth;
	uint32_t pipe_bytes;
};

/* Compares the plan's strategy with its runner-up once in a file, see calibrate.h. */
struct channel_calibration {
	enum {
		CALIBRATION_OFF,
		CALIBRATION_WARMS,
		CALIBRATION_PLANNED,
		CALIBRATION_RUNNER_UP
	} phase;
	struct channel_manner planned, runner_up;
	struct calibrate_cost start; /* of the phase */
	struct calibrate_cost of_planned;
};

/* What a helping thread of a strategy has used. Guarded by a lock of the strategy's. */
struct channel_spent {
	uint64_t cpu_ns;
	uint64_t calls[SYS_CALL_COUNT];
	uint64_t cpu_seen_ns; /* on the helper's clock, of what was added */
};

struct channel {
	enum zh_side side;
	int sock;            /* borrowed */
	int abort_fd;        /* borrowed, -1: none; readable: give up with -ECANCELED */
	int stall_ms;        /* -1: wait for ever */
	enum zh_nagle nagle; /* when small segments are sent within an extent */
	bool never_corks;    /* unless nagle says so: the default is the socket's alone */

	/* the file in hand */
	int file;   /* borrowed */
	int direct; /* owned: the same file with O_DIRECT, -1: not opened */

	/* how it is moved */
	const struct strategy *strategy;
	uint32_t chunk_bytes;
	uint32_t depth;
	uint32_t pipe_bytes;
	bool no_fallback;

	/* the extent in hand: [offset, end) is still to be moved */
	uint64_t offset;
	uint64_t end;
	uint64_t horizon;        /* reading ahead is welcome up to here; >= end */
	struct leaf_run *digest; /* NULL: nobody wants digests from here */
	bool more;               /* something follows the extent on the wire at once */
	enum channel_end failed; /* set with each error but -EAGAIN */
	const char *refused_why; /* beside refused, NULL: the errno says it */
	bool refused;            /* set with an error after which a fallback may go on at offset */

	struct zh_stats stats;

	/* private */
	void *state[STRATEGY_MAX]; /* by strategy index, NULL: not opened */
	uint32_t wake_bytes;       /* SO_RCVLOWAT as we have set it, 0: it is not ours to set */
	uint64_t wake_slow;        /* bytes moved up to which the peer counts as slow */
	bool outran; /* the last receive took all there was, with much still to come */
	uint64_t opened_ns;
	uint64_t idle_ns;
	uint64_t progress_ns; /* when the last byte moved, or the wait for the next one began */
	uint64_t tcp_bytes;   /* that TCP had moved when it was asked last */
	uint64_t cpu_start_ns;
	uint64_t run_delay_start_ns;
	struct channel_spent helped; /* by threads of strategies */
	struct channel_calibration calibration;
	uint64_t calls_start[SYS_CALL_COUNT];
};

/* Starts the account. The calling thread owns the channel from here on. Cannot fail. */
void channel_open(struct channel *channel, enum zh_side side, int sock, int abort_fd, int stall_ms);
/* Closes every strategy that was opened. The socket stays the caller's. */
void channel_close(struct channel *channel);

/*
 * Turns to another file, moved by plan. Settles the old one first and returns its late errors. file
 * -1 with the plan's strategy "discard" is fine.
 */
int channel_file(struct channel *channel, int file, const struct zh_plan *plan) must_check;

/*
 * Moves one extent, all of it. digest (may be NULL) is fed by strategies that see the data; see
 * channel_sees_data. horizon: end of what will be asked for next to each other, for reading ahead.
 * Errors as step, and -ETIMEDOUT, -ECANCELED. After an error at the file's end, what is left of the
 * extent can be made up for with channel_zero (sender) or channel_skip (receiver): channel->end -
 * channel->offset bytes.
 */
int channel_move(struct channel *channel, struct zh_extent extent, uint64_t horizon, bool more,
	struct leaf_run *digest) must_check;
bool channel_sees_data(const struct channel *channel);

/*
 * Until the kernel holds nothing of ours: what was received is in the file. A refusal that came too
 * late for channel_move demotes here, or is returned under no_fallback.
 */
int channel_settle(struct channel *channel) must_check;

/* Sends zeros, or throws received bytes away: the stream stays in step when a file fails. */
int channel_zero(struct channel *channel, uint64_t bytes) must_check;
int channel_skip(struct channel *channel, uint64_t bytes) must_check;

/* Bytes that are in memory rather than in a file, all of them; the same errors as channel_zero. */
int channel_send_memory(struct channel *channel, const void *bytes, size_t length) must_check;
int channel_recv_memory(struct channel *channel, void *ret_bytes, size_t length) must_check;

/* Time that the owner spent waiting beside the channel: for work (idle) or for the peer (data). */
void channel_note_idle(struct channel *channel, uint64_t ns);
void channel_note_wait(struct channel *channel, enum channel_wait what, uint64_t ns);

/* Everything so far, TCP_INFO included. */
void channel_stats(struct channel *channel, struct zh_stats *ret_stats);

/* ------------------------------ for strategies ----------------------------------------- */

/* Remembers the end at which it failed and returns error; -EIO in place of -EAGAIN. */
ssize_t channel_fail(struct channel *channel, enum channel_end end, ssize_t error);
/* The kernel will not do it this way, and offset is exact: the channel may take the fallback. */
ssize_t channel_refuse(struct channel *channel, int error);
/*
 * A ring for depth blocks of chunk_bytes (rounded up to pages), the blocks registered with it in
 * the order of their slots. Fewer blocks when no more may be registered: ret_pool->count. On
 * failure what was opened is in the outputs, for close.
 */
int channel_open_ring(struct channel *channel, uint32_t depth, uint32_t chunk_bytes,
	struct ring **ret_ring, struct block_pool *ret_pool) must_check;
/* A pipe of the size that was planned, or as much of it as is granted. */
int channel_open_pipe(struct channel *channel, struct pipe *pipe) must_check;
/* The O_DIRECT descriptor of the file in hand, opened on first use; negative errno. */
int channel_direct(struct channel *channel) must_check;
/*
 * For a receiver that is about to wait: at least bytes of the extent are still to come beyond what
 * it waits for. Then it need not be woken for each segment, which costs both ends on one host, and
 * the receiver everywhere.
 */
int channel_expect(struct channel *channel, uint64_t bytes) must_check;
/* Waits for events on the socket; notices aborts and stalls. */
int channel_wait_events(struct channel *channel, short events, enum channel_wait what) must_check;
/* Receives at most want bytes, as a step does; what is to become of them is the caller's. */
ssize_t channel_recv(struct channel *channel, void *memory, size_t want, int flags);
/* The same into buffer, at most a chunk. */
ssize_t channel_recv_buffer(struct channel *channel, struct buffer *buffer);
/* The account of a receive, for who takes bytes off the socket in another way. */
void channel_received(struct channel *channel, size_t want, size_t received);
/* One sendfile(2) of at most a chunk, as a step. */
ssize_t channel_sendfile(struct channel *channel) must_check;
/* As channel_refuse, for a reason of ours rather than an errno. why: static. */
ssize_t channel_refuse_because(struct channel *channel, const char *why);
/* Waits for a completion of the ring; notices aborts and stalls. */
int channel_ring_wait(
	struct channel *channel, struct ring *ring, enum channel_wait what) must_check;
/* Cancels the operation target (0: none), then waits until nothing is in flight. For close. */
void channel_ring_quiesce(struct ring *ring, uint64_t target);
/* Called by a helping thread: adds what it has used since it did so last. */
void channel_note_thread(struct channel_spent *spent);
/* Called by the channel's thread: puts that on the channel's account and empties spent. */
void channel_account_thread(struct channel *channel, struct channel_spent *spent);
/* Writes all of it to the file through the page cache. */
int channel_pwrite_all(
	struct channel *channel, const void *bytes, size_t length, uint64_t offset) must_check;

#endif
