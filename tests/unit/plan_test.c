/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_test.c - from facts made by hand to a plan: each rule, each reason for refusing a strategy,
 * wishes with and without a fallback, and what holds for any facts at all.
 */
#include "unit.h"

#include "move/plan.h"
#include "move/strategy.h"

#include <errno.h>

/* A host that can do everything, a large file on a disk, a TCP peer elsewhere. */
static struct facts good_facts(enum zh_side side)
{
	struct facts facts = { .side = side, .extent = { 0, GIB } };

	facts.file.regular = true;
	facts.file.size = GIB;
	TEXT_SET(facts.file.filesystem, "ext4");
	facts.file.direct_memory_align = facts.file.direct_offset_align = 512;
	facts.file.resident_permille = 1000;
	facts.sock.known = facts.sock.tcp = facts.sock.scatter_gather = true;
	facts.sock.mss_bytes = 1448;
	facts.sock.receive_mss_bytes = 4096; /* as few routes have it, so that all is admitted */
	facts.host.ring = facts.host.ring_registers = facts.host.ring_recv = true;
	facts.host.ring_send_zc = facts.file.dontcache = true;
	facts.host.splice = facts.host.sendfile = true;
	facts.host.pipe_bytes = (uint32_t)MIB;
	facts.host.memory_available_bytes = 8 * GIB;
	facts.host.memlock_bytes = UINT64_MAX;
	return facts;
}

static const struct zh_verdict *verdict_on(const struct zh_plan *plan, const char *name)
{
	for (uint32_t i = 0; i < plan->verdict_count; i++)
		if (strcmp(plan->verdict[i].name, name) == 0)
			return &plan->verdict[i];
	fail_msg("no verdict on %s", name);
	return NULL;
}

static struct zh_plan made(const struct facts *facts)
{
	struct zh_plan plan;

	assert_int_equal(plan_make(facts, &plan), 0);
	assert_int_equal(plan.size, sizeof(plan));
	assert_int_equal(plan.side, facts->side);
	assert_true(verdict_on(&plan, plan.strategy)->admitted);
	return plan;
}

static void expect_plan(const struct facts *facts, const char *strategy, const char *reason)
{
	struct zh_plan plan = made(facts);

	assert_string_equal(plan.strategy, strategy);
	assert_string_equal(plan.reason, reason);
}

static void expect_refusal(const struct facts *facts, const char *strategy, const char *reason)
{
	struct zh_plan plan;
	const struct zh_verdict *verdict;

	(void)!plan_make(facts, &plan); /* that it plans something else is another test's */
	verdict = verdict_on(&plan, strategy);
	assert_false(verdict->admitted);
	assert_string_equal(verdict->reason, reason);
}

/* ------------------------------------------------ rules --------------------------------------- */

static void a_little_is_sent_and_received_by_copy(void **state)
{
	struct facts send = good_facts(ZH_SEND), receive = good_facts(ZH_RECEIVE);

	(void)state;
	send.extent.length = 64 * KIB - 1;
	expect_plan(&send, "copy", "so little that one read and one send are cheapest");
	send.extent.length = 64 * KIB;
	assert_string_equal(made(&send).strategy, "sendfile");
	receive.extent.length = MIB - 1;
	expect_plan(&receive, "copy", "so little that one receive and one write are cheapest");
	receive.extent.length = MIB;
	assert_string_equal(made(&receive).strategy, "uring-direct");
}

static void a_route_that_copies_anyway_is_sent_to_by_copy(void **state)
{
	struct facts facts = good_facts(ZH_SEND);
	const char *reason =
		"the route cannot send pages in place, so the kernel would copy anyway";

	(void)state;
	facts.sock.scatter_gather = false;
	expect_plan(&facts, "copy", reason);
	facts = good_facts(ZH_SEND);
	facts.sock.tcp = false;
	expect_plan(&facts, "copy", reason);
}

static void a_large_file_on_the_disk_only_is_read_directly(void **state)
{
	struct facts facts = good_facts(ZH_SEND);
	const char *reason = "most of it is on the disk only: direct reads, several in flight";

	(void)state;
	facts.file.resident_permille = 499;
	expect_plan(&facts, "uring-direct", reason);
	facts.file.resident_permille = 500;
	assert_string_equal(made(&facts).strategy, "sendfile");
	facts.file.resident_permille = -1; /* cannot be told */
	assert_string_equal(made(&facts).strategy, "sendfile");
	facts.file.resident_permille = 0;
	facts.extent.length = 64 * MIB;
	assert_string_equal(made(&facts).strategy, "uring-direct");
	facts.extent.length--;
	assert_string_equal(made(&facts).strategy, "sendfile");
	facts.extent.length++;
	facts.host.ring = false;
	assert_string_equal(made(&facts).strategy, "sendfile");
}

static void a_wish_for_the_page_cache_steers_the_choice(void **state)
{
	struct facts send = good_facts(ZH_SEND), receive = good_facts(ZH_RECEIVE);

	(void)state;
	send.file.resident_permille = 0;
	send.cache = receive.cache = ZH_CACHE_KEEP;
	assert_string_equal(made(&send).strategy, "sendfile");
	expect_plan(&receive, "splice", "it is to stay in the page cache: one copy into it");
	send.file.resident_permille = 1000;
	send.cache = receive.cache = ZH_CACHE_DROP;
	expect_plan(&send, "uring-direct", "nothing of it is to stay in the page cache");
	assert_string_equal(made(&receive).strategy, "uring-direct");
	receive.host.ring = false;
	assert_string_equal(made(&receive).strategy, "direct");
	receive.extent.length = 64 * MIB - 1; /* not worth a second thread */
	expect_plan(&receive, "dontcache",
		"nothing of it is to stay in the page cache, and direct writes are refused");
	assert_int_equal(made(&send).resident_permille, 1000);
}

static void senders_prefer_sendfile_then_splice_then_copy(void **state)
{
	struct facts facts = good_facts(ZH_SEND);

	(void)state;
	expect_plan(&facts, "sendfile", "the page cache goes to the socket without a copy");
	facts.host.sendfile = false;
	expect_plan(&facts, "splice", "sendfile is refused here; splice moves the same pages");
	facts.host.splice = false;
	expect_plan(&facts, "copy", "nothing better is admitted");
}

static void receivers_prefer_direct_writes_then_splice_then_copy(void **state)
{
	struct facts facts = good_facts(ZH_RECEIVE);

	(void)state;
	expect_plan(
		&facts, "uring-direct", "writes overlap with receiving and bypass the page cache");
	facts.host.ring = false;
	expect_plan(&facts, "direct",
		"a second thread writes past the page cache while this one receives");
	facts.extent.length = 64 * MIB;
	assert_string_equal(made(&facts).strategy, "direct");
	facts.extent.length = 64 * MIB - 1; /* not worth a thread */
	expect_plan(&facts, "splice", "one copy into the page cache");
	facts.extent.length = GIB;
	facts.file.direct_offset_align = 0;
	expect_plan(&facts, "splice", "one copy into the page cache");
	facts.host.splice = false;
	expect_plan(&facts, "copy", "nothing better is admitted");
}

static void a_file_in_memory_is_received_by_splice(void **state)
{
	struct facts facts = good_facts(ZH_RECEIVE);

	(void)state;
	facts.file.in_memory = true;
	expect_plan(
		&facts, "splice", "the file lives in memory: one copy, and no disk to go round");
	facts.host.splice = false;
	expect_plan(&facts, "copy", "nothing better is admitted");
}

static void nothing_is_planned_where_nothing_is_admitted(void **state)
{
	struct facts facts = good_facts(ZH_RECEIVE);
	struct zh_plan plan;

	(void)state;
	facts.file.append_only = true;
	facts.file.size = 100;
	assert_int_equal(plan_make(&facts, &plan), -EINVAL);
	assert_string_equal(plan.strategy, "");
	assert_string_equal(plan.reason, "nothing is admitted");
	TEXT_SET(facts.strategy, "splice");
	assert_int_equal(plan_make(&facts, &plan), -EINVAL);
	assert_string_equal(plan.strategy, "");
	facts.extent.offset = 100; /* the end of the file: there appending is right */
	assert_int_equal(plan_make(&facts, &plan), 0);
	assert_string_equal(plan.strategy, "copy");
}

/* ------------------------------------------------ refusals ------------------------------------ */

static void what_is_no_regular_file_is_left_to_copy(void **state)
{
	struct facts facts = good_facts(ZH_SEND);

	(void)state;
	facts.file.regular = false;
	expect_refusal(&facts, "sendfile", "not a regular file");
	expect_refusal(&facts, "splice", "not a regular file");
	facts = good_facts(ZH_RECEIVE);
	facts.file.regular = false;
	expect_refusal(&facts, "splice", "not a regular file");
	expect_refusal(&facts, "uring-direct", "needs a regular file without O_APPEND");
	expect_refusal(&facts, "direct", "needs a regular file without O_APPEND");
	expect_refusal(&facts, "zerocopy", "needs a regular file without O_APPEND");
}

static void appending_is_refused_with_its_reason(void **state)
{
	struct facts facts = good_facts(ZH_RECEIVE);

	(void)state;
	facts.file.append_only = true;
	expect_refusal(&facts, "splice", "the file is open with O_APPEND");
	expect_refusal(&facts, "uring-direct", "needs a regular file without O_APPEND");
	expect_refusal(&facts, "direct", "needs a regular file without O_APPEND");
	expect_refusal(&facts, "zerocopy", "needs a regular file without O_APPEND");
	expect_refusal(&facts, "copy",
		"the file is open with O_APPEND and does not end where the extent begins");
}

static void a_missing_ring_is_refused_with_the_kernels_answer(void **state)
{
	static const struct {
		enum zh_side side;
		const char *name;
	} rows[] = { { ZH_SEND, "uring-copy" }, { ZH_RECEIVE, "uring-direct" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct facts facts = good_facts(rows[i].side);
		facts.host.ring = false;
		facts.host.ring_error = -EPERM;
		expect_refusal(
			&facts, rows[i].name, "io_uring is refused: Operation not permitted");
		facts.host.ring_error = -ENOSYS;
		expect_refusal(
			&facts, rows[i].name, "io_uring is refused: Function not implemented");
		facts = good_facts(rows[i].side);
		facts.host.ring_registers = false;
		facts.host.register_error = -ENOMEM;
		expect_refusal(&facts, rows[i].name,
			"2 MiB of buffers cannot be registered: Cannot allocate memory");
	}
	struct facts facts = good_facts(ZH_RECEIVE);
	facts.host.ring_recv = false;
	expect_refusal(&facts, "uring-direct", "this io_uring cannot receive");
}

static void files_without_direct_io_are_refused_direct_writes(void **state)
{
	struct facts facts = good_facts(ZH_RECEIVE);
	const char *reason = "ext4 offers no direct I/O at page alignment";

	(void)state;
	facts.file.direct_offset_align = 0;
	expect_refusal(&facts, "uring-direct", reason);
	expect_refusal(&facts, "direct", reason);
	facts.file.direct_offset_align = 8192;
	expect_refusal(&facts, "uring-direct", reason);
	expect_refusal(&facts, "direct", reason);
	facts.file.direct_offset_align = 4096;
	facts.file.direct_memory_align = 8192;
	expect_refusal(&facts, "uring-direct", reason);
	expect_refusal(&facts, "direct", reason);
	facts = good_facts(ZH_RECEIVE);
	facts.extent.offset = 4095;
	expect_refusal(&facts, "uring-direct", "the extent does not start on a page");
	expect_refusal(&facts, "direct", "the extent does not start on a page");
	facts.extent.offset = 8192;
	assert_string_equal(made(&facts).strategy, "uring-direct");
	facts.file.in_memory = true;
	TEXT_SET(facts.file.filesystem, "tmpfs");
	expect_refusal(&facts, "uring-direct", "tmpfs has no disk to go to directly");
	expect_refusal(&facts, "direct", "tmpfs has no disk to go to directly");
}

static void a_small_pipe_and_a_refused_splice_are_told(void **state)
{
	(void)state;
	for (int side = 0; side < 2; side++) {
		struct facts facts = good_facts((enum zh_side)side);
		facts.host.splice = false;
		expect_refusal(&facts, "splice", "splice is refused");
		facts = good_facts((enum zh_side)side);
		facts.host.pipe_bytes = 65535;
		expect_refusal(&facts, "splice", "the largest pipe granted is 65535 bytes");
		facts.host.pipe_bytes = 65536;
		struct zh_plan plan = made(&facts);
		assert_true(verdict_on(&plan, "splice")->admitted);
	}
}

static void sendfile_is_refused_where_the_kernel_refuses_it(void **state)
{
	struct facts facts = good_facts(ZH_SEND);

	(void)state;
	facts.host.sendfile = false;
	expect_refusal(&facts, "sendfile", "sendfile is refused");
}

static void discarding_needs_tcp_and_is_never_chosen(void **state)
{
	struct facts facts = good_facts(ZH_RECEIVE);

	(void)state;
	facts.sock.tcp = false;
	expect_refusal(&facts, "discard", "MSG_TRUNC discards on TCP only");
	facts = good_facts(ZH_RECEIVE);
	facts.host = (struct host_facts){ 0 };
	facts.file.direct_offset_align = 0;
	assert_string_equal(made(&facts).strategy, "copy");
	TEXT_SET(facts.strategy, "discard");
	expect_plan(&facts, "discard", "asked for by name");
}

static void mapping_needs_segments_that_fill_pages_from_elsewhere(void **state)
{
	struct facts facts = good_facts(ZH_RECEIVE);

	(void)state;
	TEXT_SET(facts.strategy, "zerocopy");
	expect_plan(&facts, "zerocopy", "asked for by name");
	facts.sock.receive_mss_bytes = 1448;
	expect_refusal(&facts, "zerocopy",
		"segments of 1448 bytes do not fill pages; the kernel would copy");
	facts.sock.receive_mss_bytes = 0;
	expect_refusal(&facts, "zerocopy", "the size of segments is unknown");
	facts.sock.receive_mss_bytes = 8192;
	assert_string_equal(made(&facts).strategy, "zerocopy");
	facts.sock.local_peer = true;
	expect_refusal(&facts, "zerocopy",
		"the peer is on this host: its pages are shared, and the kernel would copy");
	assert_string_equal(made(&facts).strategy, "splice"); /* its fallback */
	facts.sock.tcp = false;
	expect_refusal(&facts, "zerocopy", "only what TCP receives can be mapped");
	facts = good_facts(ZH_RECEIVE); /* and no rule takes it */
	facts.host = (struct host_facts){ 0 };
	facts.file.direct_offset_align = 0;
	assert_string_equal(made(&facts).strategy, "copy");
}

static void sending_in_place_needs_a_route_that_does(void **state)
{
	static const char *const names[] = { "uring-zc", "msg-zerocopy" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct facts facts = good_facts(ZH_SEND);
		facts.sock.scatter_gather = false;
		expect_refusal(&facts, names[i],
			"the route cannot send pages in place, so the kernel would copy");
		facts.sock.tcp = false;
		expect_refusal(&facts, names[i], "the socket is not TCP");
		facts = good_facts(ZH_SEND);
		struct zh_plan plan = made(&facts);
		assert_true(verdict_on(&plan, names[i])->admitted);
		assert_string_equal(verdict_on(&plan, names[i])->reason, "admitted");
	}
}

/* What the copy costs has to be measurable: it is told, and refused to nobody who asks. */
static void sending_in_place_to_this_host_is_for_who_asks(void **state)
{
	static const char *const names[] = { "uring-zc", "msg-zerocopy" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for (int known = 0; known < 2; known++) {
			struct facts facts = good_facts(ZH_SEND);
			facts.sock.local_peer = true;
			facts.sock.known = known;
			struct zh_plan plan = made(&facts);
			assert_string_equal(plan.strategy, "sendfile");
			assert_true(verdict_on(&plan, names[i])->admitted);
			assert_string_equal(verdict_on(&plan, names[i])->reason,
				"the peer is on this host, so the kernel will copy");
			text_set(facts.strategy, sizeof(facts.strategy), names[i]);
			facts.no_fallback = true;
			expect_plan(&facts, names[i], "asked for by name");
		}
}

/* ------------------------------------------------ wishes -------------------------------------- */

static void a_wish_that_is_admitted_is_granted(void **state)
{
	const struct strategy *strategy;

	(void)state;
	for (size_t i = 0; (strategy = strategy_at(i)); i++)
		for (int no_fallback = 0; no_fallback < 2; no_fallback++) {
			struct facts facts = good_facts((enum zh_side)strategy->pub.side);
			text_set(facts.strategy, sizeof(facts.strategy), strategy->pub.name);
			facts.no_fallback = no_fallback;
			facts.extent.length = 1; /* no rule would choose most of them */
			expect_plan(&facts, strategy->pub.name, "asked for by name");
			assert_int_equal(made(&facts).no_fallback, no_fallback);
		}
}

static void a_wish_that_is_refused_takes_its_fallback(void **state)
{
	const char *reason =
		"uring-direct was asked for, but io_uring is refused: Operation not permitted";
	struct facts facts = good_facts(ZH_RECEIVE);

	(void)state;
	TEXT_SET(facts.strategy, "uring-direct");
	facts.host.ring = false;
	facts.host.ring_error = -EPERM;
	expect_plan(&facts, "direct", reason);
	facts.extent.offset = 512; /* and the fallback's fallbacks */
	expect_plan(&facts, "splice", reason);
	facts.host.splice = false;
	expect_plan(&facts, "copy", reason);
}

static void a_wish_that_is_refused_fails_without_fallback(void **state)
{
	struct facts facts = good_facts(ZH_RECEIVE);
	struct zh_plan plan;

	(void)state;
	TEXT_SET(facts.strategy, "uring-direct");
	facts.host.ring = false;
	facts.host.ring_error = -EPERM;
	facts.no_fallback = true;
	assert_int_equal(plan_make(&facts, &plan), -EINVAL);
	assert_string_equal(plan.strategy, "");
	assert_string_equal(plan.reason,
		"uring-direct was asked for, but io_uring is refused: Operation not permitted");
	assert_int_equal(verdict_on(&plan, "splice")->admitted, 1); /* what could have been */
}

static void a_wish_without_a_fallback_fails(void **state)
{
	struct facts facts = good_facts(ZH_RECEIVE);
	struct zh_plan plan;

	(void)state;
	TEXT_SET(facts.strategy, "discard");
	facts.sock.tcp = false;
	assert_int_equal(plan_make(&facts, &plan), -EINVAL);
}

static void an_unknown_wish_fails(void **state)
{
	struct facts facts = good_facts(ZH_SEND);
	struct zh_plan plan;

	(void)state;
	TEXT_SET(facts.strategy, "teleport");
	assert_int_equal(plan_make(&facts, &plan), -EINVAL);
	TEXT_SET(facts.strategy, "discard"); /* of the other side */
	assert_int_equal(plan_make(&facts, &plan), -EINVAL);
}

static void wishes_for_chunk_and_depth_are_kept_within_bounds(void **state)
{
	static const uint32_t chunks[] = { 1, 1000, 4096, 100003, 1u << 20, 1u << 30, UINT32_MAX };
	static const uint32_t depths[] = { 1, 2, 7, 16, 17, UINT32_MAX };
	const struct strategy *strategy;

	(void)state;
	for (size_t i = 0; (strategy = strategy_at(i)); i++)
		for (size_t c = 0; c < ARRAY_LEN(chunks); c++)
			for (size_t d = 0; d < ARRAY_LEN(depths); d++) {
				struct facts facts = good_facts((enum zh_side)strategy->pub.side);
				text_set(
					facts.strategy, sizeof(facts.strategy), strategy->pub.name);
				facts.chunk_bytes = chunks[c];
				facts.depth = depths[d];
				struct zh_plan plan = made(&facts);
				bool direct = strcmp(strategy->pub.name, "uring-direct") == 0 ||
					      strcmp(strategy->pub.name, "direct") == 0 ||
					      strcmp(strategy->pub.name, "uring-zc") == 0;
				assert_true(plan.chunk_bytes > 0 && plan.chunk_bytes <= 64 * MIB);
				assert_true(plan.depth > 0 && plan.depth <= 64);
				if (chunks[c] <= 100003 && !direct)
					assert_int_equal(plan.chunk_bytes, chunks[c]);
				if (direct)
					assert_int_equal(plan.chunk_bytes % 4096, 0);
				if (plan.depth > 1) { /* a pool stays within bounds */
					assert_true((uint64_t)plan.depth * plan.chunk_bytes <=
						    32 * MIB);
					if (chunks[c] <= 1u << 20 && depths[d] >= 2 &&
						depths[d] <= 16 &&
						strcmp(strategy->pub.name, "sendfile-ahead") != 0)
						assert_int_equal(plan.depth, depths[d]);
				}
			}
}

static uint32_t depth_under(enum zh_side side, const char *name, uint64_t memlock_bytes)
{
	struct facts facts = good_facts(side);

	text_set(facts.strategy, sizeof(facts.strategy), name);
	facts.host.memlock_bytes = memlock_bytes;
	return made(&facts).depth;
}

static void what_is_locked_leaves_half_of_the_limit_to_the_other_end(void **state)
{
	(void)state;
	assert_int_equal(depth_under(ZH_SEND, "uring-direct", UINT64_MAX), 8);
	assert_int_equal(depth_under(ZH_SEND, "uring-direct", 16 * MIB), 8);
	assert_int_equal(depth_under(ZH_SEND, "uring-direct", 8 * MIB), 4);
	assert_int_equal(depth_under(ZH_RECEIVE, "uring-direct", 8 * MIB), 4);
	assert_int_equal(depth_under(ZH_RECEIVE, "uring-copy", 8 * MIB), 4);
	assert_int_equal(depth_under(ZH_SEND, "uring-copy", 8 * MIB), 4); /* blocks of 256 KiB */
	assert_int_equal(depth_under(ZH_SEND, "uring-zc", 8 * MIB), 4);
	assert_int_equal(depth_under(ZH_SEND, "msg-zerocopy", 8 * MIB), 4);
	assert_int_equal(depth_under(ZH_SEND, "uring-direct", 0), 2); /* fewer are of no use */
	/* the second thread of direct locks nothing */
	assert_int_equal(depth_under(ZH_RECEIVE, "direct", 0),
		depth_under(ZH_RECEIVE, "direct", UINT64_MAX));
}

static void a_runner_up_is_what_the_next_rule_takes(void **state)
{
	struct facts facts = good_facts(ZH_SEND);

	(void)state;
	assert_string_equal(made(&facts).runner_up, ""); /* nobody asked */
	facts.calibrate = true;
	assert_string_equal(made(&facts).runner_up, "splice");
	assert_int_equal(made(&facts).runner_up_chunk_bytes, MIB);
	assert_int_equal(made(&facts).runner_up_pipe_bytes, MIB);
	assert_int_equal(made(&facts).runner_up_depth, 1);
	facts.host.splice = false;
	assert_string_equal(made(&facts).runner_up, "copy");
	facts.host.sendfile = false; /* copy is taken, and nothing comes after */
	assert_string_equal(made(&facts).runner_up, "");
	facts = good_facts(ZH_SEND);
	facts.calibrate = true;
	facts.file.resident_permille = 0;
	assert_string_equal(made(&facts).strategy, "uring-direct");
	assert_string_equal(made(&facts).runner_up, "sendfile");
}

static void a_runner_up_is_for_large_extents_that_are_sent_by_cost(void **state)
{
	struct facts facts = good_facts(ZH_SEND);

	(void)state;
	facts.calibrate = true;
	facts.extent.length = 256 * MIB;
	assert_string_equal(made(&facts).runner_up, "splice");
	facts.extent.length--;
	assert_string_equal(made(&facts).runner_up, "");
	facts.extent.length++;
	facts.no_fallback = true;
	assert_string_equal(made(&facts).runner_up, "");
	facts.no_fallback = false;
	facts.cache = ZH_CACHE_DROP;
	assert_string_equal(made(&facts).runner_up, "");
	facts.cache = ZH_CACHE_KEEP;
	assert_string_equal(made(&facts).runner_up, "splice");
	TEXT_SET(facts.strategy, "sendfile");
	assert_string_equal(made(&facts).runner_up, "");
	facts = good_facts(ZH_RECEIVE);
	facts.calibrate = true;
	assert_string_equal(made(&facts).runner_up, "");
}

/* ------------------------------------------------ any facts ----------------------------------- */

static uint64_t dice_state;

static uint64_t dice(uint64_t sides)
{
	dice_state = dice_state * 6364136223846793005u + 1442695040888963407u;
	return (dice_state >> 33) % sides;
}

static bool coin(void)
{
	return dice(2);
}

static struct facts random_facts(void)
{
	static const char *const names[] = { "", "", "", "", "copy", "sendfile", "splice",
		"uring-copy", "uring-direct", "uring-zc", "msg-zerocopy", "mmap", "dontcache",
		"sendfile-ahead", "uring-splice", "direct", "zerocopy", "discard", "nonsense" };
	static const uint32_t aligns[] = { 0, 1, 512, 4096, 8192, UINT32_MAX };
	static const uint64_t lengths[] = { 0, 1, 4095, 64 * KIB, MIB, GIB, INT64_MAX };
	struct facts facts = { .side = (enum zh_side)dice(2) };

	facts.extent.length = lengths[dice(ARRAY_LEN(lengths))];
	facts.extent.offset = facts.extent.length == INT64_MAX ? 0 : dice(4) * 2048;
	facts.file.regular = dice(4) > 0;
	facts.file.append_only = dice(4) == 0;
	facts.file.size = dice(3) * 2048;
	facts.file.in_memory = dice(3) == 0;
	facts.file.direct_memory_align = aligns[dice(ARRAY_LEN(aligns))];
	facts.file.direct_offset_align = aligns[dice(ARRAY_LEN(aligns))];
	facts.file.resident_permille = (int32_t)dice(1002) - 1;
	facts.file.read_ahead_bytes = dice(3) * 128 * KIB;
	TEXT_SET(facts.file.filesystem, "fs-of-15-bytes-");
	facts.sock.known = coin();
	facts.sock.tcp = dice(4) > 0;
	facts.sock.local_peer = coin();
	facts.sock.scatter_gather = dice(4) > 0;
	facts.sock.mss_bytes = (uint32_t)dice(UINT32_MAX);
	facts.sock.receive_mss_bytes = (uint32_t)dice(3) * (coin() ? 4096 : 1448);
	TEXT_SET(facts.sock.device, coin() ? "" : "a-device-of-15-");
	TEXT_SET(facts.sock.congestion, coin() ? "" : "congestion-of-1");
	facts.host.ring = coin();
	facts.host.ring_error = -(int)(1 + dice(130));
	facts.host.ring_registers = coin();
	facts.host.register_error = -(int)(1 + dice(130));
	facts.host.ring_recv = coin();
	facts.host.ring_send_zc = coin();
	facts.file.dontcache = coin();
	facts.host.splice = coin();
	facts.host.sendfile = coin();
	facts.host.pipe_bytes = (uint32_t)dice(3) * 65536;
	facts.host.memory_available_bytes = UINT64_MAX >> dice(64);
	facts.host.memlock_bytes = UINT64_MAX >> dice(64);
	facts.chunk_bytes = coin() ? 0 : UINT32_MAX >> dice(32);
	facts.depth = coin() ? 0 : UINT32_MAX >> dice(32);
	facts.no_fallback = coin();
	facts.cache = (enum zh_cache)dice(3);
	facts.calibrate = coin();
	text_set(facts.strategy, sizeof(facts.strategy), names[dice(ARRAY_LEN(names))]);
	return facts;
}

static void check_texts(const struct zh_plan *plan)
{
	for (uint32_t i = 0; i < plan->fact_count; i++) {
		assert_true(plan->fact[i].name[0] != '\0' && plan->fact[i].value[0] != '\0');
		assert_non_null(memchr(plan->fact[i].value, 0, sizeof(plan->fact[i].value)));
	}
	for (uint32_t i = 0; i < plan->verdict_count; i++) {
		assert_true(plan->verdict[i].reason[0] != '\0');
		if (!plan->verdict[i].admitted)
			assert_string_not_equal(plan->verdict[i].reason, "admitted");
	}
}

static void check_one(const struct facts *facts)
{
	struct zh_plan plan, again;
	int r = plan_make(facts, &plan);
	bool wished = facts->strategy[0] != '\0';

	assert_true(r == 0 || r == -EINVAL);
	check_texts(&plan);
	for (uint32_t i = 0; i < plan.verdict_count; i++)
		assert_non_null(strategy_find(facts->side, plan.verdict[i].name));
	assert_true(plan.verdict_count > 0 && !strategy_find(facts->side, ""));
	assert_int_equal(plan_make(facts, &again), r);
	assert_memory_equal(&plan, &again, sizeof(plan)); /* nothing but the facts decides */
	if (r < 0) {
		assert_string_equal(plan.strategy, "");
		if (!wished)
			assert_int_equal(verdict_on(&plan, "copy")->admitted, 0);
		return;
	}
	assert_true(verdict_on(&plan, plan.strategy)->admitted);
	assert_true(plan.reason[0] != '\0');
	assert_true(plan.chunk_bytes > 0 && plan.depth > 0);
	if (wished && facts->no_fallback)
		assert_string_equal(plan.strategy, facts->strategy);
	if (wished && verdict_on(&plan, facts->strategy)->admitted)
		assert_string_equal(plan.strategy, facts->strategy);
	if (plan.runner_up[0]) {
		assert_true(verdict_on(&plan, plan.runner_up)->admitted);
		assert_string_not_equal(plan.runner_up, plan.strategy);
		assert_int_equal(plan.runner_up_depth, 1); /* no second pool of blocks */
	}
	if (!wished) /* nothing that does not pay */
		assert_string_equal(verdict_on(&plan, plan.strategy)->reason, "admitted");
	if (strcmp(facts->strategy, "discard") != 0)
		assert_string_not_equal(plan.strategy, "discard");
	if (strcmp(plan.strategy, "splice") == 0)
		assert_true(
			plan.pipe_bytes >= 64 * KIB && plan.pipe_bytes <= facts->host.pipe_bytes);
}

static void a_plan_names_nothing_but_what_is_admitted(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 50000; seed++) {
		dice_state = seed * 2654435761u;
		struct facts facts = random_facts();
		check_one(&facts);
	}
}

/* ------------------------------------------------ the table ----------------------------------- */

static void every_strategy_is_found_and_every_member_is_set(void **state)
{
	const struct strategy *s;
	size_t count = 0;

	(void)state;
	for (; (s = strategy_at(count)); count++) {
		assert_ptr_equal(strategy_find((enum zh_side)s->pub.side, s->pub.name), s);
		assert_int_equal(strategy_index(s), count);
		assert_ptr_equal(zh_strategy_at(count), &s->pub);
		assert_true(s->admit && s->open && s->step && s->drain && s->close);
		assert_true(s->state_bytes > 0);
		assert_true(strlen(s->pub.name) < ZH_NAME_CAP);
		assert_true(s->pub.summary && s->pub.needs && s->pub.since);
		assert_true(s->pub.sees_data == 0 || s->pub.total_copies > 0);
	}
	assert_true(count > 0 && count <= ZH_PLAN_VERDICTS);
	assert_null(zh_strategy_at(count));
	assert_null(strategy_find(ZH_SEND, ""));
}

static void fallbacks_lead_to_copy_and_not_in_circles(void **state)
{
	const struct strategy *s;

	(void)state;
	for (size_t i = 0; (s = strategy_at(i)); i++) {
		unsigned steps = 0;
		while (s->pub.falls_back_to) {
			s = strategy_find((enum zh_side)s->pub.side, s->pub.falls_back_to);
			assert_non_null(s);
			assert_true(++steps < STRATEGY_MAX);
		}
		assert_true(
			strcmp(s->pub.name, "copy") == 0 || strcmp(s->pub.name, "discard") == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_little_is_sent_and_received_by_copy),
		cmocka_unit_test(a_route_that_copies_anyway_is_sent_to_by_copy),
		cmocka_unit_test(a_large_file_on_the_disk_only_is_read_directly),
		cmocka_unit_test(a_wish_for_the_page_cache_steers_the_choice),
		cmocka_unit_test(senders_prefer_sendfile_then_splice_then_copy),
		cmocka_unit_test(receivers_prefer_direct_writes_then_splice_then_copy),
		cmocka_unit_test(a_file_in_memory_is_received_by_splice),
		cmocka_unit_test(nothing_is_planned_where_nothing_is_admitted),
		cmocka_unit_test(what_is_no_regular_file_is_left_to_copy),
		cmocka_unit_test(appending_is_refused_with_its_reason),
		cmocka_unit_test(a_missing_ring_is_refused_with_the_kernels_answer),
		cmocka_unit_test(files_without_direct_io_are_refused_direct_writes),
		cmocka_unit_test(a_small_pipe_and_a_refused_splice_are_told),
		cmocka_unit_test(sendfile_is_refused_where_the_kernel_refuses_it),
		cmocka_unit_test(discarding_needs_tcp_and_is_never_chosen),
		cmocka_unit_test(mapping_needs_segments_that_fill_pages_from_elsewhere),
		cmocka_unit_test(sending_in_place_needs_a_route_that_does),
		cmocka_unit_test(sending_in_place_to_this_host_is_for_who_asks),
		cmocka_unit_test(a_wish_that_is_admitted_is_granted),
		cmocka_unit_test(a_wish_that_is_refused_takes_its_fallback),
		cmocka_unit_test(a_wish_that_is_refused_fails_without_fallback),
		cmocka_unit_test(a_wish_without_a_fallback_fails),
		cmocka_unit_test(an_unknown_wish_fails),
		cmocka_unit_test(wishes_for_chunk_and_depth_are_kept_within_bounds),
		cmocka_unit_test(what_is_locked_leaves_half_of_the_limit_to_the_other_end),
		cmocka_unit_test(a_runner_up_is_what_the_next_rule_takes),
		cmocka_unit_test(a_runner_up_is_for_large_extents_that_are_sent_by_cost),
		cmocka_unit_test(a_plan_names_nothing_but_what_is_admitted),
		cmocka_unit_test(every_strategy_is_found_and_every_member_is_set),
		cmocka_unit_test(fallbacks_lead_to_copy_and_not_in_circles),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
