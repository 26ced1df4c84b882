/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extent_test.c - one extent from a file over a real connection into a file, by every pair of
 * strategies: all awkward sizes, offsets, chunks and depths, several extents on one channel, and
 * each way in which one end can fail.
 */
#include "move_kit.h"

#include "base/clock.h"
#include "base/leaf.h"

#include <linux/magic.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <xxhash.h>

#define SOURCE_BYTES (17 * MIB)
#define STALL_MS     300

/* ------------------------------------------------------------------ a trip ---------------------
 */

/* From a file over a connection into another, or nowhere. */
struct trip {
	int source;
	int destination;
	uint64_t from;           /* offset in the source */
	struct zh_extent extent; /* of the destination; the source's has its length */
	const char *sender;
	const char *receiver;
	uint32_t chunk_bytes;
	uint32_t depth;
	bool blocking;
	uint32_t flags;
	struct kit_move tx, rx; /* out */
};

static struct zh_options trip_options(const struct trip *trip, const char *strategy, bool admitted)
{
	struct zh_options options = zh_options_default();

	options.strategy = strategy;
	options.chunk_bytes = trip->chunk_bytes;
	options.depth = trip->depth;
	options.stall_ms = KIT_STALL_MS;
	if (admitted && !(kit_uses_ring(strategy) && kit_memlock_is_scarce()))
		options.flags = ZH_NO_FALLBACK;
	options.flags |= trip->flags;
	return options;
}

static void check_strategy(const struct zh_stats *stats, const char *wish, const char *planned)
{
	if (strcmp(stats->strategy, planned) == 0)
		return;
	if (!kit_uses_ring(wish) || !kit_memlock_is_scarce() ||
		!strstr(stats->demotion, "Cannot allocate memory"))
		fail_msg("%s was planned for %s, but %s moved it (%s)", planned, wish,
			stats->strategy, stats->demotion);
}

/* Makes the trip. The strategies that are used are those that the plans name. */
static void make_trip(struct trip *trip)
{
	struct zh_extent out = { trip->from, trip->extent.length };
	int end[2];

	kit_tcp_pair(end, trip->blocking);
	struct zh_plan send = kit_plan(
		ZH_SEND, trip->source, end[0], out, trip->sender, trip->chunk_bytes, trip->depth);
	struct zh_plan receive = kit_plan(ZH_RECEIVE, trip->destination, end[1], trip->extent,
		trip->receiver, trip->chunk_bytes, trip->depth);
	trip->tx = (struct kit_move){ .side = ZH_SEND,
		.file = trip->source,
		.sock = end[0],
		.extent = out,
		.options = trip_options(
			trip, trip->sender, strcmp(send.strategy, trip->sender) == 0) };
	trip->rx = (struct kit_move){ .side = ZH_RECEIVE,
		.file = trip->destination,
		.sock = end[1],
		.extent = trip->extent,
		.options = trip_options(
			trip, trip->receiver, strcmp(receive.strategy, trip->receiver) == 0) };
	kit_move_start(&trip->rx);
	(void)kit_move_run(&trip->tx);
	kit_move_join(&trip->rx);
	kit_close_pair(end);
	if (trip->tx.result != 0 || trip->rx.result != 0)
		fail_msg("%s (%d) -> %s (%d), %llu bytes at %llu, chunk %u", trip->sender,
			trip->tx.result, trip->receiver, trip->rx.result,
			(unsigned long long)trip->extent.length,
			(unsigned long long)trip->extent.offset, trip->chunk_bytes);
	check_strategy(&trip->tx.stats, trip->sender, send.strategy);
	check_strategy(&trip->rx.stats, trip->receiver, receive.strategy);
	assert_int_equal(trip->tx.stats.bytes, trip->extent.length);
	assert_int_equal(trip->rx.stats.bytes, trip->extent.length);
}

static void make_stored_trip(struct trip *trip)
{
	kit_prepare(trip->destination, trip->extent);
	make_trip(trip);
	if (!kit_is_at(trip->destination, trip->extent.offset, trip->extent.length, KIT_SEED,
		    trip->from))
		fail_msg("%s -> %s: %llu bytes at %llu arrived changed", trip->sender,
			trip->receiver, (unsigned long long)trip->extent.length,
			(unsigned long long)trip->extent.offset);
	if (!kit_guards_stand(trip->destination, trip->extent))
		fail_msg("%s -> %s: bytes outside the extent were touched", trip->sender,
			trip->receiver);
}

static void begin_trip(struct arena *a, struct trip *trip)
{
	trip->source = kit_source(a, "source", SOURCE_BYTES);
	trip->destination = kit_open(a->root, "destination", O_RDWR | O_CREAT);
}

static void end_trip(struct trip *trip)
{
	close(trip->source);
	close(trip->destination);
}

/* Calls visit for every pair of strategies. */
static void travel(struct trip *trip, const struct zh_strategy *tx, const struct zh_strategy *rx,
	void (*visit)(struct trip *trip))
{
	trip->sender = tx->name;
	trip->receiver = rx->name;
	if (kit_stores(rx))
		visit(trip);
	else
		make_trip(trip);
}

static void for_each_pair(struct trip *trip, void (*visit)(struct trip *trip))
{
	const struct zh_strategy *tx, *rx;
	size_t pairs = 0;

	for (size_t i = 0; (tx = kit_strategy(ZH_SEND, i)); i++)
		for (size_t j = 0; (rx = kit_strategy(ZH_RECEIVE, j)); j++, pairs++)
			travel(trip, tx, rx, visit);
	assert_true(pairs >= 16);
}

/* Each strategy at least once; with whom it travels changes from call to call. */
static void for_each_strategy(struct trip *trip, void (*visit)(struct trip *trip))
{
	static size_t turn;
	size_t senders = kit_count(ZH_SEND), receivers = kit_count(ZH_RECEIVE);

	turn++;
	for (size_t i = 0; i < senders || i < receivers; i++)
		travel(trip, kit_strategy(ZH_SEND, i % senders),
			kit_strategy(ZH_RECEIVE, (i + turn) % receivers), visit);
}

/* ------------------------------------------------------------------ what arrives ---------------
 */

static void every_size_arrives_unchanged_by_every_pair(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1,
		16 * MIB + 17 };
	struct trip trip = { 0 };

	begin_trip(arena_of(state), &trip);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		for (int blocking = 0; blocking < 2; blocking++) {
			trip.extent.length = sizes[i];
			trip.blocking = blocking;
			for_each_pair(&trip, make_stored_trip);
		}
	end_trip(&trip);
}

static void an_extent_inside_a_file_leaves_the_rest_alone(void **state)
{
	static const uint64_t offsets[] = { 1, 511, 4096, 4097, 8192, MIB, MIB + 4096, MIB + 12345,
		3 * MIB - 1 };
	static const uint64_t lengths[] = { 1, 4096, 100003, MIB + 1 };
	struct trip trip = { 0 };

	begin_trip(arena_of(state), &trip);
	for (size_t i = 0; i < ARRAY_LEN(offsets); i++)
		for (size_t j = 0; j < ARRAY_LEN(lengths); j++) {
			trip.extent = (struct zh_extent){ offsets[i], lengths[j] };
			trip.from = offsets[ARRAY_LEN(offsets) - 1 - i];
			trip.blocking = j & 1;
			for_each_strategy(&trip, make_stored_trip);
		}
	end_trip(&trip);
}

static void any_chunk_and_depth_moves_the_same_bytes(void **state)
{
	static const uint32_t chunks[] = { 1024, 1025, 3000, 4095, 4096, 65536, 100003, 1048575,
		1048577, 4194304, UINT32_MAX };
	static const uint32_t depths[] = { 1, 2, 3, 16, 1000 };
	struct trip trip = { .extent = { 4096, 2 * MIB + 17 } };

	begin_trip(arena_of(state), &trip);
	for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
		trip.chunk_bytes = chunks[i];
		trip.depth = depths[i % ARRAY_LEN(depths)];
		trip.blocking = i & 1;
		for_each_strategy(&trip, make_stored_trip);
	}
	trip.extent.length = 3001;
	trip.chunk_bytes = 1;
	for_each_strategy(&trip, make_stored_trip);
	end_trip(&trip);
}

static void fifty_random_trips_arrive_unchanged(void **state)
{
	struct trip trip = { 0 };
	uint64_t random = 20260101;

	begin_trip(arena_of(state), &trip);
	for (int i = 0; i < 50; i++) {
		uint64_t length =
			random_next(&random) % (UINT64_C(1) << (random_next(&random) % 23));
		uint64_t unit = random_next(&random) % 2 ? 4096 : 1;
		trip.extent.offset = random_next(&random) % (8 * MIB) / unit * unit;
		trip.extent.length = length;
		trip.from = random_next(&random) % (SOURCE_BYTES - length);
		trip.chunk_bytes = (uint32_t)(1024 + random_next(&random) % (4 * MIB - 1024));
		trip.depth = (uint32_t)(random_next(&random) % 17);
		trip.blocking = random_next(&random) % 2;
		travel(&trip, kit_strategy(ZH_SEND, random_next(&random) % kit_count(ZH_SEND)),
			kit_strategy(ZH_RECEIVE, random_next(&random) % kit_count(ZH_RECEIVE)),
			make_stored_trip);
	}
	end_trip(&trip);
}

/* A plan that needs no wish must work as well. */
static void without_a_wish_everything_is_chosen(void **state)
{
	struct arena *a = arena_of(state);
	int source = kit_source(a, "source", 3 * MIB + 5);
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT);
	struct kit_move tx = { .side = ZH_SEND, .file = source, .extent = { 0, 3 * MIB + 5 } };
	struct kit_move rx = { .side = ZH_RECEIVE, .file = destination, .extent = tx.extent };
	struct zh_plan plan;
	int end[2];

	kit_tcp_pair(end, false);
	tx.sock = end[0];
	rx.sock = end[1];
	tx.options = rx.options = zh_options_default();
	kit_prepare(destination, rx.extent);
	assert_int_equal(zh_plan(destination, rx.sock, ZH_RECEIVE, rx.extent, NULL, &plan), 0);
	kit_move_start(&rx);
	assert_int_equal(zh_send(source, end[0], tx.extent, NULL, NULL), 0);
	kit_move_join(&rx);
	assert_int_equal(rx.result, 0);
	check_strategy(&rx.stats, plan.strategy, plan.strategy);
	assert_true(kit_is_at(destination, 0, rx.extent.length, KIT_SEED, 0));
	kit_close_pair(end);
	close(source);
	close(destination);
}

/* ------------------------------------------------------------------ calls ----------------------
 */

static void copy_makes_exactly_the_calls_of_its_arithmetic(void **state)
{
	static const uint32_t chunks[] = { 4096, 65536, 100003, 1048576 };
	struct trip trip = {
		.extent = { 0, 5 * MIB + 3 }, .sender = "copy", .receiver = "copy", .blocking = true
	};

	begin_trip(arena_of(state), &trip);
	for (size_t i = 0; i < 2 * ARRAY_LEN(chunks); i++) {
		uint32_t chunk = chunks[i / 2];
		trip.blocking = i & 1;
		trip.chunk_bytes = chunk;
		make_stored_trip(&trip);
		const struct zh_stats *tx = &trip.tx.stats, *rx = &trip.rx.stats;
		uint64_t steps = div_up(trip.extent.length, chunk);
		assert_int_equal(tx->calls[SYS_PREAD], steps);
		assert_int_equal(tx->calls[SYS_SEND], steps + tx->shorts + tx->agains);
		assert_int_equal(rx->calls[SYS_PWRITE] + rx->agains, rx->calls[SYS_RECV]);
		assert_true(rx->calls[SYS_PWRITE] >= steps);
		assert_true(rx->calls[SYS_PWRITE] <= steps + rx->shorts);
		assert_int_equal(tx->calls[SYS_SENDFILE] + tx->calls[SYS_SPLICE], 0);
		assert_int_equal(tx->chunk_bytes, chunk);
	}
	end_trip(&trip);
}

static void sendfile_and_splice_make_no_call_that_copies(void **state)
{
	struct trip trip = { .extent = { 0, 5 * MIB + 3 }, .chunk_bytes = MIB, .blocking = true };

	begin_trip(arena_of(state), &trip);
	trip.sender = "sendfile";
	trip.receiver = "splice";
	make_stored_trip(&trip);
	assert_int_equal(
		trip.tx.stats.calls[SYS_SENDFILE], 6 + trip.tx.stats.shorts + trip.tx.stats.agains);
	assert_int_equal(trip.tx.stats.calls[SYS_PREAD] + trip.tx.stats.calls[SYS_SEND], 0);
	assert_true(trip.rx.stats.calls[SYS_SPLICE] >= 2 * 6);
	assert_int_equal(trip.rx.stats.calls[SYS_RECV] + trip.rx.stats.calls[SYS_PWRITE], 0);
	assert_true(trip.rx.stats.pipe_bytes >= 64 * KIB);
	trip.sender = "splice";
	trip.receiver = "discard";
	make_trip(&trip);
	assert_true(trip.tx.stats.calls[SYS_SPLICE] >= 2 * 6);
	assert_int_equal(trip.tx.stats.calls[SYS_PREAD] + trip.tx.stats.calls[SYS_SEND], 0);
	assert_int_equal(trip.rx.stats.calls[SYS_PWRITE], 0);
	end_trip(&trip);
}

static void without_a_cork_the_socket_is_left_alone(void **state)
{
	struct trip trip = { .extent = { 0, MIB + 3 }, .sender = "sendfile", .receiver = "splice" };

	begin_trip(arena_of(state), &trip);
	make_stored_trip(&trip);
	assert_int_equal(trip.tx.stats.calls[SYS_SETSOCKOPT], 2);
	trip.flags = ZH_NO_CORK;
	make_stored_trip(&trip);
	assert_int_equal(trip.tx.stats.calls[SYS_SETSOCKOPT], 0);
	end_trip(&trip);
}

static void the_account_adds_up(void **state)
{
	struct trip trip = { .extent = { 0, 8 * MIB } };
	const struct zh_strategy *tx;

	begin_trip(arena_of(state), &trip);
	trip.receiver = "copy";
	for (size_t i = 0; (tx = kit_strategy(ZH_SEND, i)); i++) {
		trip.sender = tx->name;
		make_stored_trip(&trip);
		const struct zh_stats *sides[] = { &trip.tx.stats, &trip.rx.stats };
		for (size_t side = 0; side < 2; side++) {
			const struct zh_stats *s = sides[side];
			assert_int_equal(s->size, sizeof(*s));
			assert_int_equal(s->side, side);
			assert_true(s->elapsed_ns > 0 && s->cpu_ns > 0);
			assert_true(s->cpu_ns <= s->elapsed_ns + s->elapsed_ns / 50 + NS_PER_MS);
			assert_true(s->wait_space_ns <= s->elapsed_ns);
			assert_true(s->wait_data_ns <= s->elapsed_ns);
			assert_true(s->wait_disk_ns <= s->elapsed_ns);
			assert_int_equal(s->tcp.valid, 1);
			assert_int_equal(s->demotions == 0, s->demotion[0] == '\0');
		}
	}
	end_trip(&trip);
}

/* What the second thread of `direct` does is on the account like the rest. */
static void a_helping_thread_is_on_the_account(void **state)
{
	struct trip trip = { .extent = { 4096, 8 * MIB + 17 },
		.sender = "copy",
		.receiver = "direct",
		.chunk_bytes = MIB };

	begin_trip(arena_of(state), &trip);
	kit_prepare(trip.destination, trip.extent);
	struct zh_plan plan = kit_plan(
		ZH_RECEIVE, trip.destination, -1, trip.extent, trip.receiver, trip.chunk_bytes, 0);
	if (strcmp(plan.strategy, trip.receiver) != 0) {
		end_trip(&trip);
		SKIP("no direct I/O here");
	}
	make_stored_trip(&trip);
	const struct zh_stats *rx = &trip.rx.stats;
	assert_int_equal(rx->direct, 1);
	assert_int_equal(rx->depth, plan.depth);
	assert_true(rx->calls[SYS_PWRITE] >= 9); /* eight blocks and the bytes below a page */
	assert_true(rx->calls[SYS_PWRITE] <= 9 + rx->shorts);
	assert_true(rx->calls[SYS_RECV] >= 9);
	assert_true(rx->cpu_ns > 0 && rx->wait_disk_ns <= rx->elapsed_ns);
	end_trip(&trip);
}

/* ------------------------------------------------------------------ channels -------------------
 */

#define RUN_LENGTH 24
#define RUN_LEAVES 64

/* One side of many extents on one channel. */
struct run {
	enum zh_side side;
	int file;
	int sock;
	int abort_fd;
	int stall_ms;
	struct zh_plan plan;
	struct zh_extent extent[RUN_LENGTH];
	uint64_t horizon[RUN_LENGTH];
	size_t count;
	bool digest; /* extents begin at leaves */
	/* out */
	int result;
	enum channel_end failed;
	uint64_t offset, end; /* where it stood */
	size_t done;          /* extents */
	struct digest leaf[RUN_LENGTH][RUN_LEAVES];
	struct zh_stats stats;
	bool digested;
	pthread_t thread;
};

static int run_one(struct run *run, struct channel *channel, struct leaf_run *digest)
{
	size_t i = run->done;
	bool sees = run->digest && channel_sees_data(channel);

	if (sees)
		leaf_run_begin(digest, run->extent[i].offset, run->leaf[i], RUN_LEAVES);
	int r = channel_move(
		channel, run->extent[i], run->horizon[i], i + 1 < run->count, sees ? digest : NULL);
	if (r == 0 && sees) {
		size_t leaves = leaf_run_end(digest);
		if (leaves != leaf_count(run->extent[i].length))
			return -EPROTO;
		run->digested = true;
	}
	return r;
}

static void *run_all(void *argument)
{
	struct run *run = argument;
	struct channel channel;
	struct leaf_run digest;

	run->result = leaf_run_init(&digest);
	if (run->result < 0)
		return NULL;
	channel_open(&channel, run->side, run->sock, run->abort_fd, run->stall_ms);
	run->result = channel_file(&channel, run->file, &run->plan);
	for (run->done = 0; run->result == 0 && run->done < run->count; run->done++) {
		run->result = run_one(run, &channel, &digest);
		if (run->result < 0)
			break;
	}
	if (run->result == 0)
		run->result = channel_settle(&channel);
	run->failed = channel.failed;
	run->offset = channel.offset;
	run->end = channel.end;
	if (run->result < 0 && run->failed == CHANNEL_END_FILE) {
		uint64_t left = channel.end - channel.offset;
		int kept = run->side == ZH_SEND ? channel_zero(&channel, left)
						: channel_skip(&channel, left);
		if (kept < 0)
			run->failed = CHANNEL_END_SOCKET;
	}
	channel_stats(&channel, &run->stats);
	channel_close(&channel);
	leaf_run_fini(&digest);
	return NULL;
}

static struct run run_begin(enum zh_side side, int file, int sock, const char *strategy)
{
	struct run run = {
		.side = side, .file = file, .sock = sock, .abort_fd = -1, .stall_ms = KIT_STALL_MS
	};

	run.plan = kit_plan(side, file, sock, (struct zh_extent){ 0, MIB }, strategy, 0, 0);
	return run;
}

static void run_start(struct run *run)
{
	assert_int_equal(pthread_create(&run->thread, NULL, run_all, run), 0);
}

static void run_join(struct run *run)
{
	assert_int_equal(pthread_join(run->thread, NULL), 0);
}

/* Extents that follow each other, leave gaps, go back and stay inside what was read ahead. */
static size_t fill_extents(struct run *run, uint64_t unit)
{
	static const struct {
		uint64_t offset, length, horizon; /* in units */
	} rows[] = {
		{ 0, 2, 0 },    /* reads ahead no further */
		{ 2, 3, 9 },    /* reads ahead beyond its end */
		{ 5, 1, 9 },    /* finds it there */
		{ 6, 3, 9 },    /* to the horizon */
		{ 12, 2, 16 },  /* a gap, and what was read ahead */
		{ 14, 1, 15 },  /* is used with a nearer horizon */
		{ 3, 1, 4 },    /* back */
		{ 9, 3, 100 },  /* a horizon past the end of the file */
		{ 15, 1, 100 }, /* elsewhere: what was read ahead is forgotten */
		{ 16, 1, 16 },  /* a horizon before the end is none */
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		run->extent[i] = (struct zh_extent){ rows[i].offset * unit, rows[i].length * unit };
		run->horizon[i] = rows[i].horizon * unit;
	}
	run->count = ARRAY_LEN(rows);
	return run->count;
}

static struct digest independent_leaf(uint64_t offset, size_t length)
{
	static uint8_t bytes[LEAF_BYTES];
	XXH128_canonical_t canonical;
	struct digest digest;

	random_fill(bytes, length, KIT_SEED, offset);
	XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, length));
	memcpy(&digest, canonical.digest, sizeof(digest));
	return digest;
}

static void check_digests(const struct run *run)
{
	const struct zh_strategy *used = &strategy_find(run->side, run->plan.strategy)->pub;

	assert_true(run->digested == used->sees_data || run->stats.demotions > 0);
	for (size_t i = 0; i < run->count && run->digested && run->stats.demotions == 0; i++)
		for (uint64_t at = 0; at < run->extent[i].length; at += LEAF_BYTES) {
			size_t length = (size_t)min_u64(LEAF_BYTES, run->extent[i].length - at);
			struct digest leaf = independent_leaf(run->extent[i].offset + at, length);
			if (!digest_equal(&leaf, &run->leaf[i][at / LEAF_BYTES]))
				fail_msg("%s: extent %zu, leaf %llu: wrong digest", used->name, i,
					(unsigned long long)(at / LEAF_BYTES));
		}
}

static void extents_on_one_channel(struct arena *a, const char *sender, const char *receiver,
	uint64_t unit, uint32_t chunk_bytes)
{
	int source = kit_open(a->root, "source", O_RDONLY);
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT | O_TRUNC);
	int end[2];

	kit_tcp_pair(end, false);
	struct run tx = run_begin(ZH_SEND, source, end[0], sender);
	struct run rx = run_begin(ZH_RECEIVE, destination, end[1], receiver);
	fill_extents(&tx, unit);
	fill_extents(&rx, unit);
	if (chunk_bytes) {
		struct zh_extent any = { 0, MIB };
		tx.plan = kit_plan(ZH_SEND, source, end[0], any, sender, chunk_bytes, 3);
		rx.plan = kit_plan(ZH_RECEIVE, destination, end[1], any, receiver, chunk_bytes, 3);
	}
	tx.digest = rx.digest = unit % LEAF_BYTES == 0;
	assert_int_equal(posix_fallocate(destination, 0, (off_t)(17 * unit)), 0);
	run_start(&rx);
	(void)run_all(&tx);
	run_join(&rx);
	assert_int_equal(tx.result, 0);
	assert_int_equal(rx.result, 0);
	assert_int_equal(tx.stats.bytes, 18 * unit);
	assert_int_equal(rx.stats.bytes, 18 * unit);
	if (!kit_is_at(destination, 0, 17 * unit, KIT_SEED, 0))
		fail_msg("%s -> %s: changed on the way", sender, receiver);
	if (tx.digest) {
		check_digests(&tx);
		check_digests(&rx);
	}
	kit_close_pair(end);
	close(source);
	close(destination);
}

static void many_extents_follow_each_other_on_one_channel(void **state)
{
	struct arena *a = arena_of(state);
	const struct zh_strategy *tx, *rx;

	close(kit_source(a, "source", 17 * MIB));
	for (size_t i = 0; (tx = kit_strategy(ZH_SEND, i)); i++)
		for (size_t j = 0; (rx = kit_strategy(ZH_RECEIVE, j)) && kit_stores(rx); j++) {
			extents_on_one_channel(a, tx->name, rx->name, MIB, 0);
			extents_on_one_channel(a, tx->name, rx->name, 8192, 4096);
			extents_on_one_channel(a, tx->name, rx->name, 100000, 30011);
		}
}

static void digests_are_those_of_the_data(void **state)
{
	struct arena *a = arena_of(state);
	const struct zh_strategy *tx, *rx;

	close(kit_source(a, "source", 17 * MIB));
	for (size_t i = 0; (tx = kit_strategy(ZH_SEND, i)); i++)
		for (size_t j = 0; (rx = kit_strategy(ZH_RECEIVE, j)) && kit_stores(rx); j++) {
			if (!tx->sees_data && !rx->sees_data)
				continue;
			extents_on_one_channel(a, tx->name, rx->name, MIB, 100003);
			extents_on_one_channel(a, tx->name, rx->name, MIB, 3 * 4096);
		}
}

static void a_channel_turns_from_file_to_file_and_strategy_to_strategy(void **state)
{
	struct arena *a = arena_of(state);
	static const char *const senders[] = { "copy", "uring-copy", "splice", "sendfile",
		"uring-copy", "copy" };
	static const char *const receivers[] = { "uring-direct", "copy", "splice", "uring-direct",
		"splice", "copy" };
	struct zh_extent extent = { 0, 700001 };
	struct channel channel;
	int end[2], result = 0;
	char name[16];

	kit_tcp_pair(end, false);
	channel_open(&channel, ZH_SEND, end[0], -1, KIT_STALL_MS);
	for (size_t i = 0; i < ARRAY_LEN(senders); i++) {
		(void)snprintf(name, sizeof(name), "source-%zu", i);
		random_file(a->root, name, extent.length, KIT_SEED + i);
		int source = kit_open(a->root, name, O_RDONLY);
		int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT | O_TRUNC);
		struct run rx = run_begin(ZH_RECEIVE, destination, end[1], receivers[i]);
		struct zh_plan plan =
			kit_plan(ZH_SEND, source, end[0], extent, senders[i], 50001, 0);
		rx.extent[0] = extent;
		rx.count = 1;
		run_start(&rx);
		result = channel_file(&channel, source, &plan);
		if (result == 0)
			result = channel_move(&channel, extent, 0, false, NULL);
		if (result < 0)
			(void)shutdown(end[0], SHUT_RDWR);
		run_join(&rx);
		assert_int_equal(result, 0);
		assert_int_equal(rx.result, 0);
		assert_true(kit_is_at(destination, 0, extent.length, KIT_SEED + i, 0));
		close(destination);
		close(source);
	}
	assert_int_equal(channel_settle(&channel), 0);
	channel_close(&channel);
	kit_close_pair(end);
}

/* ------------------------------------------------------------------ pages that are mapped ------
 */

/* No plan takes `zerocopy` over loopback, so here it is taken without one. */
static struct run run_begin_zerocopy(int file, int sock, uint32_t chunk_bytes)
{
	struct run run = run_begin(ZH_RECEIVE, file, sock, "copy");

	TEXT_SET(run.plan.strategy, "zerocopy");
	run.plan.chunk_bytes = chunk_bytes;
	return run;
}

/* Sends from pages that belong to nobody else: a pipe's, which are moved into the socket. */
static void send_pages(int sock, uint64_t length)
{
	static uint8_t piece[16 * 4096];
	int pipe_end[2];

	assert_int_equal(pipe2(pipe_end, O_CLOEXEC), 0);
	for (uint64_t at = 0; at < length;) {
		size_t part = (size_t)min_u64(sizeof(piece), length - at);
		random_fill(piece, part, KIT_SEED, at);
		ssize_t left = write(pipe_end[1], piece, part);
		assert_true(left > 0);
		at += (uint64_t)left;
		while (left > 0) {
			ssize_t moved =
				splice(pipe_end[0], NULL, sock, NULL, (size_t)left, SPLICE_F_MORE);
			assert_true(moved > 0);
			left -= moved;
		}
	}
	kit_close_pair(pipe_end);
}

/* Receives length bytes by `zerocopy`; what was counted and digested is in the result. */
static struct run receive_by_pages(
	int destination, uint64_t length, uint32_t chunk_bytes, bool pages, bool no_fallback)
{
	int end[2];

	assert_int_equal(ftruncate(destination, 0), 0);
	assert_int_equal(ftruncate(destination, (off_t)length), 0);
	kit_tcp_pair(end, true);
	kit_set_blocking(end[1], false);
	struct run run = run_begin_zerocopy(destination, end[1], chunk_bytes);
	run.plan.no_fallback = no_fallback;
	run.digest = length <= 4 * MIB; /* what takes over behind that does not see the data */
	run.extent[0] = (struct zh_extent){ 0, length };
	run.count = 1;
	run_start(&run);
	if (pages)
		send_pages(end[0], length);
	else
		assert_true(kit_send_random(end[0], KIT_SEED, 0, length));
	run_join(&run);
	kit_close_pair(end);
	return run;
}

/* How many are mapped depends on how the stream was cut, so a refusal is right as well. */
static void pages_that_the_kernel_maps_arrive_unchanged(void **state)
{
	static const uint64_t lengths[] = { 1, 4096, 69631, 69632, MIB + 17, 16 * MIB + 4097 };
	static const uint32_t chunks[] = { 1024, 4096, 69632, 100003, 1048576, 4194304 };
	struct arena *a = arena_of(state);
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT);
	uint64_t mapped = 0;

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
		for (size_t j = 0; j < ARRAY_LEN(chunks); j++) {
			struct run run =
				receive_by_pages(destination, lengths[i], chunks[j], true, false);
			assert_int_equal(run.result, 0);
			assert_int_equal(run.stats.bytes, lengths[i]);
			assert_true(run.stats.zc_copied_bytes <= lengths[i]);
			assert_true(random_is(destination, lengths[i], KIT_SEED));
			if (run.digest)
				check_digests(&run);
			if (run.stats.demotions == 0)
				mapped += lengths[i] - run.stats.zc_copied_bytes;
		}
	close(destination);
	if (mapped == 0)
		SKIP("this kernel mapped none of the pages"); /* how it copies was tested */
}

static void what_the_kernel_does_not_map_is_copied_and_then_refused(void **state)
{
	const char *why = "zerocopy -> splice: the kernel does not map what it receives here";
	struct arena *a = arena_of(state);
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT);

	struct run run = receive_by_pages(destination, 3 * MIB + 5, 1048576, false, true);
	assert_int_equal(run.result, 0); /* too little to tell */
	assert_string_equal(run.stats.strategy, "zerocopy");
	assert_int_equal(run.stats.zc_copied_bytes, 3 * MIB + 5);
	assert_true(random_is(destination, 3 * MIB + 5, KIT_SEED));
	check_digests(&run);

	run = receive_by_pages(destination, 9 * MIB + 5, 1048576, false, false);
	assert_int_equal(run.result, 0);
	assert_int_equal(run.stats.demotions, 1);
	assert_string_equal(run.stats.demotion, why);
	assert_string_equal(run.stats.strategy, "splice");
	assert_true(run.stats.zc_copied_bytes >= 4 * MIB && run.stats.zc_copied_bytes < 9 * MIB);
	assert_true(random_is(destination, 9 * MIB + 5, KIT_SEED));

	run = receive_by_pages(destination, 9 * MIB + 5, 1048576, false, true);
	assert_int_equal(run.result, -EOPNOTSUPP);
	assert_int_equal(run.failed, CHANNEL_END_FILE);
	assert_true(run.offset >= 4 * MIB && run.offset < 9 * MIB);
	assert_true(kit_is_at(destination, 0, run.offset, KIT_SEED, 0));
	close(destination);
}

static void a_socket_without_pages_is_not_mapped(void **state)
{
	struct arena *a = arena_of(state);
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT);
	int end[2];

	kit_unix_pair(end);
	struct run run = run_begin_zerocopy(destination, end[1], 1048576);
	run.extent[0] = (struct zh_extent){ 0, MIB };
	run.count = 1;
	run_start(&run);
	assert_true(kit_send_random(end[0], KIT_SEED, 0, MIB));
	run_join(&run);
	kit_close_pair(end);
	assert_int_equal(run.result, 0);
	assert_string_equal(run.stats.strategy, "splice");
	assert_true(random_is(destination, MIB, KIT_SEED));
	close(destination);
}

/* ------------------------------------------------------------------ failing files --------------
 */

#define TRAILER "what follows the extent"

/* A side whose file fails, and after it the trailer that follows the extent on the wire. */
struct failing {
	struct run run;
	char trailer[sizeof(TRAILER)];
	pthread_t thread;
};

static void *failing_all(void *argument)
{
	struct failing *failing = argument;
	struct run *run = &failing->run;

	(void)run_all(run);
	if (run->side == ZH_SEND)
		(void)kit_send_all(run->sock, TRAILER, sizeof(TRAILER));
	else
		(void)kit_recv_all(run->sock, failing->trailer, sizeof(TRAILER));
	return NULL;
}

static void failing_start(struct failing *failing)
{
	assert_int_equal(pthread_create(&failing->thread, NULL, failing_all, failing), 0);
}

static void wait_for_bytes(int sock)
{
	struct pollfd wait = { .fd = sock, .events = POLLIN };

	assert_int_equal(poll(&wait, 1, KIT_STALL_MS), 1);
}

/* The peer gets the bytes that were there, then zeros, then what follows the extent. */
static void a_source_that_shrinks_is_told_and_the_stream_stays_in_step(void **state)
{
	enum { LENGTH = 4 << 20, KEPT = (2 << 20) + 100 };
	static uint8_t bytes[LENGTH + sizeof(TRAILER)], expected[LENGTH];
	struct arena *a = arena_of(state);
	const struct zh_strategy *tx;
	int end[2];

	for (size_t i = 0; (tx = kit_strategy(ZH_SEND, i)); i++) {
		int source = kit_source(a, "source", LENGTH);
		int shrinker = kit_open(a->root, "source", O_WRONLY);
		kit_tcp_pair_sized(end, false, 262144);
		struct failing failing = { .run = run_begin(ZH_SEND, source, end[0], tx->name) };
		struct run *run = &failing.run;
		run->plan.chunk_bytes = (uint32_t)min_u64(run->plan.chunk_bytes, 256 * KIB);
		run->plan.depth =
			(uint32_t)min_u64(run->plan.depth, 2); /* what it has read may be sent */
		run->plan.no_fallback = 1; /* what is copied on loopback is not demoted for it */
		run->extent[0] = (struct zh_extent){ 0, LENGTH };
		run->count = 1;
		failing_start(&failing);
		wait_for_bytes(end[1]); /* it is sending, and cannot go far while nobody reads */
		assert_int_equal(ftruncate(shrinker, KEPT), 0);
		size_t got = kit_recv_all(end[1], bytes, sizeof(bytes));
		assert_int_equal(pthread_join(failing.thread, NULL), 0);
		assert_int_equal(run->result, -ENODATA);
		assert_int_equal(run->failed, CHANNEL_END_FILE);
		assert_true(run->offset > 0 && run->offset <= KEPT);
		assert_int_equal(run->stats.bytes, run->offset);
		assert_int_equal(run->stats.demotions, 0);
		assert_int_equal(got, sizeof(bytes));
		memset(expected, 0, LENGTH);
		random_fill(expected, run->offset, KIT_SEED, 0);
		assert_memory_equal(bytes, expected, LENGTH);
		assert_string_equal((char *)bytes + LENGTH, TRAILER);
		kit_close_pair(end);
		close(shrinker);
		close(source);
	}
}

static void an_extent_past_the_end_of_the_source_is_no_data(void **state)
{
	struct arena *a = arena_of(state);
	int source = kit_source(a, "source", 300000);
	struct zh_options options = zh_options_default();
	const struct zh_strategy *tx;
	struct zh_stats stats;
	int end[2];

	for (size_t i = 0; (tx = kit_strategy(ZH_SEND, i)); i++) {
		options.strategy = tx->name;
		kit_tcp_pair(end, i & 1);
		assert_int_equal(
			zh_send(source, end[0], (struct zh_extent){ 300000, 1 }, &options, &stats),
			-ENODATA);
		assert_int_equal(stats.bytes, 0);
		assert_int_equal(zh_send(source, end[0], (struct zh_extent){ 290000, 20000 },
					 &options, &stats),
			-ENODATA);
		assert_true(stats.bytes <= 10000);
		kit_close_pair(end);
	}
	close(source);
}

/* A receiver whose file cannot take what comes; error: expected. */
static void receive_into_a_failing_file(
	int destination, const char *strategy, uint64_t length, int error)
{
	int end[2];

	kit_tcp_pair(end, false);
	struct failing failing = { .run = run_begin(ZH_RECEIVE, destination, end[1], strategy) };
	struct run *run = &failing.run;
	run->extent[0] = (struct zh_extent){ 0, length };
	run->count = 1;
	failing_start(&failing);
	assert_true(kit_send_random(end[0], KIT_SEED, 0, length));
	assert_true(kit_send_all(end[0], TRAILER, sizeof(TRAILER)));
	assert_int_equal(pthread_join(failing.thread, NULL), 0);
	if (run->result != -error || run->failed != CHANNEL_END_FILE)
		fail_msg("%s: %d at end %d, not %d at the file", strategy, run->result, run->failed,
			-error);
	assert_string_equal(failing.trailer, TRAILER);
	kit_close_pair(end);
}

static void a_destination_that_is_not_writable_is_told(void **state)
{
	static const uint64_t lengths[] = { 1, 4096, 3 * MIB + 5 };
	struct arena *a = arena_of(state);
	const struct zh_strategy *rx;

	random_file(a->root, "destination", 4 * MIB, KIT_GUARD_SEED);
	int destination = kit_open(a->root, "destination", O_RDONLY);
	for (size_t i = 0; (rx = kit_strategy(ZH_RECEIVE, i)) && kit_stores(rx); i++)
		for (size_t j = 0; j < ARRAY_LEN(lengths); j++) {
			receive_into_a_failing_file(destination, rx->name, lengths[j], EBADF);
			assert_true(random_is(destination, 4 * MIB, KIT_GUARD_SEED));
		}
	close(destination);
}

static void a_source_that_is_not_readable_is_told(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_options options = zh_options_default();
	const struct zh_strategy *tx;
	int end[2];

	random_file(a->root, "source", MIB, KIT_SEED);
	int source = kit_open(a->root, "source", O_WRONLY);
	for (size_t i = 0; (tx = kit_strategy(ZH_SEND, i)); i++) {
		options.strategy = tx->name;
		kit_tcp_pair(end, false);
		assert_int_equal(
			zh_send(source, end[0], (struct zh_extent){ 0, MIB }, &options, NULL),
			-EBADF);
		kit_close_pair(end);
	}
	close(source);
}

static void a_full_file_system_is_told_and_the_stream_stays_in_step(void **state)
{
	struct arena *a = arena_of(state);
	char path[ARENA_PATH_CAP + 24];
	const struct zh_strategy *rx;

	if (!mounts_are_private())
		SKIP("mounting needs root");
	(void)snprintf(path, sizeof(path), "%s/small", a->root_path);
	assert_int_equal(mkdirat(a->root, "small", 0755), 0);
	assert_int_equal(mount("none", path, "tmpfs", 0, "size=4m"), 0);
	for (size_t i = 0; (rx = kit_strategy(ZH_RECEIVE, i)) && kit_stores(rx); i++) {
		int destination = kit_open(a->root, "small/file", O_RDWR | O_CREAT | O_TRUNC);
		receive_into_a_failing_file(destination, rx->name, 8 * MIB, ENOSPC);
		/* what it has, it has right */
		struct stat st;
		assert_int_equal(fstat(destination, &st), 0);
		assert_true(st.st_size <= (off_t)(4 * MIB));
		assert_true(kit_is_at(destination, 0, (uint64_t)st.st_size, KIT_SEED, 0));
		close(destination);
	}
	assert_int_equal(umount(path), 0);
}

static void a_file_over_the_size_limit_is_told(void **state)
{
	struct arena *a = arena_of(state);
	struct rlimit before, small;
	const struct zh_strategy *rx;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = MIB;
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT);
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (size_t i = 0; (rx = kit_strategy(ZH_RECEIVE, i)) && kit_stores(rx); i++) {
		assert_int_equal(ftruncate(destination, 0), 0);
		receive_into_a_failing_file(destination, rx->name, 3 * MIB, EFBIG);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	(void)signal(SIGXFSZ, SIG_DFL);
	close(destination);
}

static void after_a_failing_file_the_channel_takes_the_next(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_extent extent = { 0, MIB + 5 };
	const struct zh_strategy *rx;
	struct channel channel;
	int end[2];

	random_file(a->root, "bad", 4096, KIT_GUARD_SEED);
	int bad = kit_open(a->root, "bad", O_RDONLY);
	for (size_t i = 0; (rx = kit_strategy(ZH_RECEIVE, i)) && kit_stores(rx); i++) {
		int good = kit_open(a->root, "good", O_RDWR | O_CREAT | O_TRUNC);
		assert_int_equal(posix_fallocate(good, 0, (off_t)extent.length), 0);
		kit_tcp_pair_sized(end, false, 4 << 20);
		assert_true(kit_send_random(end[0], KIT_GUARD_SEED, 0, extent.length));
		struct zh_plan plan = kit_plan(ZH_RECEIVE, good, end[1], extent, rx->name, 0, 0);
		channel_open(&channel, ZH_RECEIVE, end[1], -1, KIT_STALL_MS);
		int r = channel_file(&channel, bad, &plan);
		assert_int_equal(r, 0);
		r = channel_move(&channel, extent, 0, false, NULL);
		if (r == 0) /* it may be told late */
			r = channel_settle(&channel);
		assert_int_equal(r, -EBADF);
		assert_int_equal(channel.failed, CHANNEL_END_FILE);
		assert_int_equal(channel_skip(&channel, channel.end - channel.offset), 0);
		assert_int_equal(channel_file(&channel, good, &plan), 0);
		assert_true(kit_send_random(end[0], KIT_SEED, 0, extent.length));
		assert_int_equal(channel_move(&channel, extent, 0, false, NULL), 0);
		assert_int_equal(channel_settle(&channel), 0);
		channel_close(&channel);
		assert_true(random_is(good, extent.length, KIT_SEED));
		kit_close_pair(end);
		close(good);
	}
	close(bad);
}

static void a_destination_open_for_appending_is_written_at_its_end_or_not_at_all(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_options options = zh_options_default();
	struct zh_extent extent = { 0, 70001 };
	struct zh_plan plan;
	int end[2];

	kit_tcp_pair(end, false);
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT | O_APPEND);
	int source = kit_source(a, "source", extent.length);
	plan = kit_plan(ZH_RECEIVE, destination, end[1], extent, "copy", 0, 0);
	assert_false(kit_verdict(&plan, "splice")->admitted);
	assert_string_equal(kit_verdict(&plan, "splice")->reason, "the file is open with O_APPEND");
	assert_false(kit_verdict(&plan, "uring-direct")->admitted);
	assert_true(kit_verdict(&plan, "copy")->admitted);

	struct kit_move rx = { .side = ZH_RECEIVE,
		.file = destination,
		.sock = end[1],
		.extent = extent,
		.options = options };
	rx.options.stall_ms = KIT_STALL_MS;
	kit_move_start(&rx);
	assert_int_equal(zh_send(source, end[0], extent, NULL, NULL), 0);
	kit_move_join(&rx);
	assert_int_equal(rx.result, 0);
	assert_string_equal(rx.stats.strategy, "copy");
	assert_true(random_is(destination, extent.length, KIT_SEED));
	/* anywhere else the kernel would not put it where it belongs */
	assert_int_equal(zh_recv(end[1], destination, extent, NULL, NULL), -EINVAL);
	options.strategy = "splice";
	options.flags = ZH_NO_FALLBACK;
	assert_int_equal(
		zh_recv(end[1], destination, (struct zh_extent){ 70001, 1 }, &options, NULL),
		-EINVAL);
	assert_true(random_is(destination, extent.length, KIT_SEED));
	kit_close_pair(end);
	close(source);
	close(destination);
}

/* ------------------------------------------------------------------ failing peers --------------
 */

static void a_peer_that_closes_while_we_send_is_told(void **state)
{
	struct arena *a = arena_of(state);
	int source = kit_source(a, "source", 16 * MIB);
	const struct zh_strategy *tx;
	uint8_t bytes[1000];
	int end[2];

	for (size_t i = 0; (tx = kit_strategy(ZH_SEND, i)); i++)
		for (int unread = 0; unread < 2; unread++) {
			kit_tcp_pair(end, false);
			struct run run = run_begin(ZH_SEND, source, end[0], tx->name);
			run.extent[0] = (struct zh_extent){ 0, 16 * MIB };
			run.count = 1;
			run_start(&run);
			if (unread)
				wait_for_bytes(end[1]);
			else
				assert_int_equal(
					kit_recv_all(end[1], bytes, sizeof(bytes)), sizeof(bytes));
			close(end[1]);
			run_join(&run);
			if (run.result != -ECONNRESET && run.result != -EPIPE)
				fail_msg("%s: %d", tx->name, run.result);
			assert_int_equal(run.failed, CHANNEL_END_SOCKET);
			assert_true(run.stats.bytes < 16 * MIB);
			close(end[0]);
		}
	close(source);
}

static void a_peer_that_closes_while_we_receive_is_told(void **state)
{
	static const uint64_t sent[] = { 0, 1, 4096, MIB + 77 };
	struct arena *a = arena_of(state);
	const struct zh_strategy *rx;
	int end[2];

	for (size_t i = 0; (rx = kit_strategy(ZH_RECEIVE, i)); i++)
		for (size_t j = 0; j < ARRAY_LEN(sent); j++) {
			int destination =
				kit_open(a->root, "destination", O_RDWR | O_CREAT | O_TRUNC);
			struct zh_extent extent = { 0, 4 * MIB };
			assert_int_equal(posix_fallocate(destination, 0, 4 << 20), 0);
			kit_tcp_pair(end, false);
			struct run run = run_begin(ZH_RECEIVE, destination, end[1], rx->name);
			run.extent[0] = extent;
			run.count = 1;
			run_start(&run);
			assert_true(kit_send_random(end[0], KIT_SEED, 0, sent[j]));
			close(end[0]);
			run_join(&run);
			assert_int_equal(run.result, -ECONNRESET);
			assert_int_equal(run.failed, CHANNEL_END_SOCKET);
			assert_true(run.stats.bytes <= sent[j]);
			close(end[1]);
			close(destination);
		}
}

/* ------------------------------------------------------------------ silence --------------------
 */

static void check_stalled(int result, uint64_t start_ns, const char *name, bool blocking)
{
	uint64_t ms = (clock_now_ns() - start_ns) / NS_PER_MS;

	if (result != -ETIMEDOUT)
		fail_msg("%s, %s: %d", name, blocking ? "blocking" : "non-blocking", result);
	if (ms < STALL_MS - 10 || ms > STALL_MS + 2000)
		fail_msg("%s, %s: gave up after %llu ms", name,
			blocking ? "blocking" : "non-blocking", (unsigned long long)ms);
}

static void a_silent_peer_is_given_up_on(void **state)
{
	struct arena *a = arena_of(state);
	int source = kit_source(a, "source", 16 * MIB);
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT);
	struct zh_options options = zh_options_default();
	struct timeval kept = { 7, 0 }, now;
	socklen_t length = sizeof(now);
	const struct zh_strategy *s;
	int end[2];

	assert_int_equal(posix_fallocate(destination, 0, 16 << 20), 0);
	options.stall_ms = STALL_MS;
	for (size_t i = 0; (s = zh_strategy_at(i)); i++)
		for (int blocking = 0; blocking < 2; blocking++) {
			struct zh_extent extent = { 0, 16 * MIB };
			options.strategy = s->name;
			kit_tcp_pair_sized(end, blocking, 65536);
			int name = s->side == ZH_SEND ? SO_SNDTIMEO : SO_RCVTIMEO;
			assert_int_equal(
				setsockopt(end[0], SOL_SOCKET, name, &kept, sizeof(kept)), 0);
			assert_true(kit_send_random(end[1], KIT_SEED, 0, 20000));
			uint64_t start = clock_now_ns();
			int r = s->side == ZH_SEND
					? zh_send(source, end[0], extent, &options, NULL)
					: zh_recv(end[0], destination, extent, &options, NULL);
			check_stalled(r, start, s->name, blocking);
			assert_int_equal(getsockopt(end[0], SOL_SOCKET, name, &now, &length), 0);
			assert_memory_equal(&now, &kept, sizeof(now)); /* as the caller had it */
			kit_close_pair(end);
		}
	close(source);
	close(destination);
}

#define SLOW_PIECE  (32 * KIB)
#define SLOW_PIECES 12
#define SLOW_MS     50

static void *slow_peer(void *argument)
{
	static uint8_t piece[SLOW_PIECE];
	const struct kit_move *peer = argument;

	for (uint64_t i = 0; i < SLOW_PIECES; i++) {
		(void)usleep(SLOW_MS * 1000);
		if (peer->side == ZH_SEND
				? !kit_send_random(peer->sock, KIT_SEED, i * SLOW_PIECE, SLOW_PIECE)
				: kit_recv_all(peer->sock, piece, SLOW_PIECE) < SLOW_PIECE)
			break;
	}
	return NULL;
}

/* However large the blocks are that a ring sends and receives in one operation. */
static void a_slow_peer_is_not_given_up_on(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_extent extent = { 0, SLOW_PIECE * SLOW_PIECES };
	int source = kit_source(a, "source", extent.length);
	struct zh_options options = zh_options_default();
	const struct zh_strategy *s;
	pthread_t thread;
	int end[2];

	options.stall_ms = STALL_MS;
	options.chunk_bytes = 4 * MIB;
	for (size_t i = 0; (s = zh_strategy_at(i)); i++) {
		int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT | O_TRUNC);
		kit_tcp_pair_sized(end, i & 1, 32768);
		struct kit_move peer = { .side = s->side == ZH_SEND ? ZH_RECEIVE : ZH_SEND,
			.sock = end[1] };
		assert_int_equal(posix_fallocate(destination, 0, (off_t)extent.length), 0);
		options.strategy = s->name;
		assert_int_equal(pthread_create(&thread, NULL, slow_peer, &peer), 0);
		int r = s->side == ZH_SEND ? zh_send(source, end[0], extent, &options, NULL)
					   : zh_recv(end[0], destination, extent, &options, NULL);
		(void)shutdown(end[0], SHUT_WR);
		if (r < 0)
			(void)shutdown(end[0], SHUT_RDWR);
		assert_int_equal(pthread_join(thread, NULL), 0);
		if (r != 0)
			fail_msg("%s: %d", s->name, r);
		if (s->side == ZH_RECEIVE && kit_stores(s))
			assert_true(random_is(destination, extent.length, KIT_SEED));
		kit_close_pair(end);
		close(destination);
	}
	close(source);
}

static void time_spent_elsewhere_is_not_a_stall(void **state)
{
	struct arena *a = arena_of(state);
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT);
	struct zh_extent extent = { 0, 2 * SLOW_PIECE };
	const struct zh_strategy *rx;
	struct channel channel;
	int end[2];

	for (size_t i = 0; (rx = kit_strategy(ZH_RECEIVE, i)); i++) {
		struct kit_move peer = { .side = ZH_SEND };
		pthread_t thread;
		kit_tcp_pair(end, false);
		peer.sock = end[0];
		struct zh_plan plan =
			kit_plan(ZH_RECEIVE, destination, end[1], extent, rx->name, 0, 0);
		channel_open(&channel, ZH_RECEIVE, end[1], -1, 200);
		assert_int_equal(channel_file(&channel, destination, &plan), 0);
		(void)usleep(300000);
		assert_int_equal(pthread_create(&thread, NULL, slow_peer, &peer), 0);
		int moved = channel_move(&channel, extent, 0, false, NULL);
		(void)usleep(300000); /* the peer goes on, and we are busy with something else */
		int skipped = channel_skip(&channel, (SLOW_PIECES - 2) * SLOW_PIECE);
		assert_int_equal(pthread_join(thread, NULL), 0);
		channel_close(&channel);
		kit_close_pair(end);
		assert_int_equal(moved, 0);
		assert_int_equal(skipped, 0);
	}
	close(destination);
}

static void an_abort_ends_the_wait(void **state)
{
	struct arena *a = arena_of(state);
	int source = kit_source(a, "source", 16 * MIB);
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT);
	const struct zh_strategy *s;
	uint64_t one = 1;
	int end[2];

	assert_int_equal(posix_fallocate(destination, 0, 16 << 20), 0);
	for (size_t i = 0; (s = zh_strategy_at(i)); i++)
		for (int later = 0; later < 2; later++) {
			int abort_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
			bool sends = s->side == ZH_SEND;
			kit_tcp_pair_sized(end, false, 65536);
			struct run run = run_begin(sends ? ZH_SEND : ZH_RECEIVE,
				sends ? source : destination, end[0], s->name);
			run.extent[0] = (struct zh_extent){ 0, 16 * MIB };
			run.count = 1;
			run.abort_fd = abort_fd;
			run.stall_ms = -1;
			run_start(&run);
			if (later)
				(void)usleep(50000);
			assert_int_equal(write(abort_fd, &one, sizeof(one)), sizeof(one));
			run_join(&run);
			assert_int_equal(run.result, -ECANCELED);
			assert_int_equal(run.failed, CHANNEL_END_SOCKET);
			close(abort_fd);
			kit_close_pair(end);
		}
	close(source);
	close(destination);
}

/* ------------------------------------------------------------------ other sockets --------------
 */

static void a_socket_that_is_not_tcp_is_served_by_copy(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_extent extent = { 0, 3 * MIB + 7 };
	int source = kit_source(a, "source", extent.length);
	int destination = kit_open(a->root, "destination", O_RDWR | O_CREAT);
	struct zh_options options = zh_options_default();
	const struct zh_strategy *tx, *rx;
	struct zh_plan plan;
	int end[2];

	kit_unix_pair(end);
	assert_int_equal(zh_plan(source, end[0], ZH_SEND, extent, NULL, &plan), 0);
	assert_string_equal(plan.strategy, "copy");
	assert_int_equal(zh_plan(destination, end[1], ZH_RECEIVE, extent, NULL, &plan), 0);
	assert_false(kit_verdict(&plan, "discard")->admitted);
	assert_string_equal(
		kit_verdict(&plan, "discard")->reason, "MSG_TRUNC discards on TCP only");
	options.strategy = "discard";
	assert_int_equal(zh_recv(end[1], destination, extent, &options, NULL), -EINVAL);
	kit_close_pair(end);

	for (size_t i = 0; (tx = kit_strategy(ZH_SEND, i)); i++)
		for (size_t j = 0; (rx = kit_strategy(ZH_RECEIVE, j)) && kit_stores(rx); j++) {
			struct kit_move in = {
				.side = ZH_RECEIVE, .file = destination, .extent = extent
			};
			struct zh_stats stats;
			kit_unix_pair(end);
			in.sock = end[1];
			in.options = zh_options_default();
			in.options.strategy = rx->name;
			options.strategy = tx->name;
			kit_prepare(destination, extent);
			kit_move_start(&in);
			int r = zh_send(source, end[0], extent, &options, &stats);
			(void)shutdown(end[0], SHUT_WR);
			kit_move_join(&in);
			if (r != 0 || in.result != 0)
				fail_msg("%s (%d) -> %s (%d)", tx->name, r, rx->name, in.result);
			assert_int_equal(stats.tcp.valid, 0);
			assert_true(kit_is_at(destination, 0, extent.length, KIT_SEED, 0));
			assert_true(kit_guards_stand(destination, extent));
			kit_close_pair(end);
		}
	close(source);
	close(destination);
}

static void wishes_that_cannot_be_met_are_refused(void **state)
{
	struct arena *a = arena_of(state);
	int source = kit_source(a, "source", 4096);
	struct zh_extent extent = { 0, 4096 };
	struct zh_options options = zh_options_default();
	struct zh_stats stats;
	int end[2];

	kit_tcp_pair(end, false);
	options.strategy = "teleport";
	assert_int_equal(zh_send(source, end[0], extent, &options, &stats), -EINVAL);
	options.strategy = "splice-with-a-name-longer-than-any";
	assert_int_equal(zh_send(source, end[0], extent, &options, &stats), -EINVAL);
	options.strategy = "discard"; /* of the other side */
	assert_int_equal(zh_send(source, end[0], extent, &options, &stats), -EINVAL);
	options = zh_options_default();
	options.size--;
	assert_int_equal(zh_send(source, end[0], extent, &options, &stats), -EINVAL);
	options = zh_options_default();
	extent.offset = INT64_MAX;
	assert_int_equal(zh_send(source, end[0], extent, &options, &stats), -EINVAL);
	extent = (struct zh_extent){ UINT64_MAX, 2 };
	assert_int_equal(zh_send(source, end[0], extent, &options, &stats), -EINVAL);
	extent = (struct zh_extent){ 0, 4096 };
	assert_int_equal(zh_send(-1, end[0], extent, &options, &stats), -EBADF);
	assert_int_equal(stats.bytes, 0);
	kit_close_pair(end);
	close(source);
}

/* ------------------------------------------------------------------ without a ring -------------
 */

static void where_io_uring_is_refused_the_plan_says_so_and_falls_back(void **state)
{
	struct arena *a = arena_of(state);
	struct trip trip = { .extent = { 0, MIB } };
	struct zh_options options = zh_options_default();
	struct zh_plan plan;
	struct zh_probe probe;
	bool granted = false;

	assert_int_equal(zh_probe(&probe), 0);
	for (uint32_t i = 0; i < probe.feature_count; i++)
		if (strcmp(probe.feature[i].name, "io_uring") == 0)
			granted = probe.feature[i].present;
	if (granted)
		SKIP("io_uring is granted here");
	begin_trip(a, &trip);
	plan = kit_plan(ZH_SEND, trip.source, -1, trip.extent, "uring-copy", 0, 0);
	assert_string_equal(plan.strategy, "copy");
	assert_false(kit_verdict(&plan, "uring-copy")->admitted);
	assert_non_null(strstr(kit_verdict(&plan, "uring-copy")->reason, "io_uring is refused: "));
	assert_non_null(strstr(plan.reason, "uring-copy was asked for, but io_uring is refused"));
	plan = kit_plan(ZH_RECEIVE, trip.destination, -1, trip.extent, "uring-direct", 0, 0);
	const char *instead = kit_verdict(&plan, "direct")->admitted ? "direct" : "splice";
	assert_string_equal(plan.strategy, instead);
	assert_non_null(
		strstr(kit_verdict(&plan, "uring-direct")->reason, "io_uring is refused: "));
	options.flags = ZH_NO_FALLBACK;
	options.strategy = "uring-copy";
	assert_int_equal(zh_plan(trip.source, -1, ZH_SEND, trip.extent, &options, &plan), -EINVAL);
	trip.sender = "uring-copy";
	trip.receiver = "uring-direct";
	make_stored_trip(&trip);
	assert_string_equal(trip.tx.stats.strategy, "copy");
	assert_string_equal(trip.rx.stats.strategy, instead);
	end_trip(&trip);
}

#define ON_BOTH(f) ARENA_TEST(f), ARENA_TEST_ON_TMPFS(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(every_size_arrives_unchanged_by_every_pair),
		ON_BOTH(an_extent_inside_a_file_leaves_the_rest_alone),
		ON_BOTH(any_chunk_and_depth_moves_the_same_bytes),
		ON_BOTH(fifty_random_trips_arrive_unchanged),
		ON_BOTH(without_a_wish_everything_is_chosen),
		ON_BOTH(copy_makes_exactly_the_calls_of_its_arithmetic),
		ON_BOTH(sendfile_and_splice_make_no_call_that_copies),
		ON_BOTH(without_a_cork_the_socket_is_left_alone),
		ON_BOTH(the_account_adds_up),
		ON_BOTH(a_helping_thread_is_on_the_account),
		ON_BOTH(many_extents_follow_each_other_on_one_channel),
		ON_BOTH(digests_are_those_of_the_data),
		ON_BOTH(a_channel_turns_from_file_to_file_and_strategy_to_strategy),
		ON_BOTH(pages_that_the_kernel_maps_arrive_unchanged),
		ON_BOTH(what_the_kernel_does_not_map_is_copied_and_then_refused),
		ARENA_TEST(a_socket_without_pages_is_not_mapped),
		ON_BOTH(a_source_that_shrinks_is_told_and_the_stream_stays_in_step),
		ON_BOTH(an_extent_past_the_end_of_the_source_is_no_data),
		ON_BOTH(a_destination_that_is_not_writable_is_told),
		ON_BOTH(a_source_that_is_not_readable_is_told),
		ARENA_TEST(a_full_file_system_is_told_and_the_stream_stays_in_step),
		ON_BOTH(a_file_over_the_size_limit_is_told),
		ON_BOTH(after_a_failing_file_the_channel_takes_the_next),
		ON_BOTH(a_destination_open_for_appending_is_written_at_its_end_or_not_at_all),
		ON_BOTH(a_peer_that_closes_while_we_send_is_told),
		ON_BOTH(a_peer_that_closes_while_we_receive_is_told),
		ARENA_TEST(a_silent_peer_is_given_up_on),
		ARENA_TEST(a_slow_peer_is_not_given_up_on),
		ARENA_TEST(time_spent_elsewhere_is_not_a_stall),
		ARENA_TEST(an_abort_ends_the_wait),
		ON_BOTH(a_socket_that_is_not_tcp_is_served_by_copy),
		ARENA_TEST(wishes_that_cannot_be_met_are_refused),
		ARENA_TEST(where_io_uring_is_refused_the_plan_says_so_and_falls_back),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	(void)mounts_are_private();
	return RUN_TESTS("extent", tests);
}
