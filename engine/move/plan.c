/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.c - the rules. They are a table, read from the top: the first whose condition holds and
 * whose strategy is admitted decides, and its reason goes into the plan.
 */
#include "move/plan.h"

#include "kernel/file.h"
#include "kernel/probe.h"
#include "kernel/sock.h"
#include "move/calibrate.h"
#include "move/strategy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define SMALL_SEND_BYTES    (64 * KIB)
#define SMALL_RECEIVE_BYTES MIB
#define LARGE_BYTES         (64 * MIB) /* from here on direct I/O beside the socket pays */
#define COLD_PERMILLE       500        /* less than this of the extent is in the page cache */

static bool always(const struct facts *facts)
{
	(void)facts;
	return true;
}

static bool small(const struct facts *facts)
{
	return facts->extent.length <
	       (facts->side == ZH_SEND ? SMALL_SEND_BYTES : SMALL_RECEIVE_BYTES);
}

static bool large(const struct facts *facts)
{
	return facts->extent.length >= LARGE_BYTES;
}

static bool no_pages_in_place(const struct facts *facts)
{
	return !facts->sock.tcp || !facts->sock.scatter_gather;
}

bool plan_is_large_and_cold(uint64_t bytes, int32_t resident_permille)
{
	return bytes >= LARGE_BYTES && resident_permille >= 0 && resident_permille < COLD_PERMILLE;
}

static bool large_and_cold(const struct facts *facts)
{
	return facts->cache != ZH_CACHE_KEEP &&
	       plan_is_large_and_cold(facts->extent.length, facts->file.resident_permille);
}

static bool to_be_kept(const struct facts *facts)
{
	return facts->cache == ZH_CACHE_KEEP;
}

static bool to_be_dropped(const struct facts *facts)
{
	return facts->cache == ZH_CACHE_DROP;
}

static bool to_memory(const struct facts *facts)
{
	return facts->file.in_memory;
}

static const struct rule {
	enum zh_side side;
	bool (*holds)(const struct facts *facts);
	const char *strategy;
	const char *reason;
} rules[] = {
	{ ZH_SEND, small, "copy", "so little that one read and one send are cheapest" },
	{ ZH_SEND, no_pages_in_place, "copy",
		"the route cannot send pages in place, so the kernel would copy anyway" },
	{ ZH_SEND, large_and_cold, "uring-direct",
		"most of it is on the disk only: direct reads, several in flight" },
	{ ZH_SEND, to_be_dropped, "uring-direct", "nothing of it is to stay in the page cache" },
	{ ZH_SEND, always, "sendfile", "the page cache goes to the socket without a copy" },
	{ ZH_SEND, always, "splice", "sendfile is refused here; splice moves the same pages" },
	{ ZH_SEND, always, "copy", "nothing better is admitted" },
	{ ZH_RECEIVE, small, "copy", "so little that one receive and one write are cheapest" },
	{ ZH_RECEIVE, to_memory, "splice",
		"the file lives in memory: one copy, and no disk to go round" },
	{ ZH_RECEIVE, to_be_kept, "splice", "it is to stay in the page cache: one copy into it" },
	{ ZH_RECEIVE, always, "uring-direct",
		"writes overlap with receiving and bypass the page cache" },
	{ ZH_RECEIVE, large, "direct",
		"a second thread writes past the page cache while this one receives" },
	{ ZH_RECEIVE, to_be_dropped, "dontcache",
		"nothing of it is to stay in the page cache, and direct writes are refused" },
	{ ZH_RECEIVE, always, "splice", "one copy into the page cache" },
	{ ZH_RECEIVE, always, "copy", "nothing better is admitted" },
};

static struct zh_verdict *verdict_find(struct zh_plan *plan, const char *name)
{
	for (size_t i = 0; i < plan->verdict_count; i++)
		if (strcmp(plan->verdict[i].name, name) == 0)
			return &plan->verdict[i];
	return NULL;
}

static void judge_all(const struct facts *facts, struct zh_plan *plan)
{
	const struct strategy *strategy;

	for (size_t i = 0; (strategy = strategy_at(i)); i++) {
		struct zh_verdict *verdict = &plan->verdict[plan->verdict_count];
		struct zh_plan trial = { 0 };
		if (strategy->pub.side != facts->side)
			continue;
		plan->verdict_count++;
		TEXT_SET(verdict->name, strategy->pub.name);
		verdict->admitted = strategy->admit(facts, &trial, verdict->reason,
					    sizeof(verdict->reason)) == 0;
		if (verdict->admitted && verdict->reason[0] == '\0')
			TEXT_SET(verdict->reason, "admitted");
	}
}

static void take(const struct facts *facts, struct zh_plan *plan, const char *name)
{
	const struct strategy *strategy = strategy_find(facts->side, name);
	char unused[8];

	TEXT_SET(plan->strategy, name);
	CHECK(strategy->admit(facts, plan, unused, sizeof(unused)) == 0);
}

static bool rule_holds(const struct rule *rule, const struct facts *facts, struct zh_plan *plan)
{
	return rule->side == facts->side && rule->holds(facts) &&
	       verdict_find(plan, rule->strategy)->admitted;
}

/* The wish, or the first admitted strategy of its fallback chain. */
static int take_wish(const struct facts *facts, struct zh_plan *plan)
{
	const struct strategy *wish = strategy_find(facts->side, facts->strategy);
	const struct zh_verdict *verdict;
	const char *name;

	if (!wish)
		return -EINVAL;
	verdict = verdict_find(plan, facts->strategy);
	if (verdict->admitted) {
		take(facts, plan, facts->strategy);
		TEXT_SET(plan->reason, "asked for by name");
		return 0;
	}
	(void)snprintf(plan->reason, sizeof(plan->reason), "%.23s was asked for, but %.99s",
		verdict->name, verdict->reason);
	name = facts->no_fallback ? NULL : wish->pub.falls_back_to;
	while (name && !verdict_find(plan, name)->admitted)
		name = strategy_find(facts->side, name)->pub.falls_back_to;
	if (!name)
		return -EINVAL;
	take(facts, plan, name);
	return 0;
}

static void fact(struct zh_plan *plan, const char *name, const char *format, ...) printf_like(3, 4);
static void fact(struct zh_plan *plan, const char *name, const char *format, ...)
{
	struct zh_fact *row = &plan->fact[plan->fact_count];
	va_list arguments;

	CHECK(plan->fact_count < ZH_PLAN_FACTS);
	plan->fact_count++;
	TEXT_SET(row->name, name);
	va_start(arguments, format);
	(void)vsnprintf(row->value, sizeof(row->value), format, arguments);
	va_end(arguments);
}

static void write_facts(const struct facts *facts, struct zh_plan *plan)
{
	const struct file_facts *file = &facts->file;
	const struct sock_facts *sock = &facts->sock;
	const struct host_facts *host = &facts->host;

	fact(plan, "extent", "%llu bytes at %llu", (unsigned long long)facts->extent.length,
		(unsigned long long)facts->extent.offset);
	fact(plan, "file system", "%s", file->filesystem);
	if (file->direct_offset_align)
		fact(plan, "direct I/O", "aligned to %u", file->direct_offset_align);
	else
		fact(plan, "direct I/O", "not offered");
	if (file->resident_permille >= 0)
		fact(plan, "in the page cache", "%d.%d %%", file->resident_permille / 10,
			file->resident_permille % 10);
	else
		fact(plan, "in the page cache", "cannot be told");
	if (file->read_ahead_bytes)
		fact(plan, "read-ahead", "%llu KiB",
			(unsigned long long)(file->read_ahead_bytes / KIB));
	fact(plan, "socket", "%s%s, %s peer by %s", sock->known ? "" : "none given; assumed ",
		sock->tcp ? "TCP" : "not TCP", sock->local_peer ? "local" : "remote",
		sock->device[0] ? sock->device : "an unknown device");
	fact(plan, "scatter-gather", "%s", sock->scatter_gather ? "yes" : "no");
	if (sock->congestion[0])
		fact(plan, "congestion control", "%s, MSS %u", sock->congestion, sock->mss_bytes);
	if (sock->receive_mss_bytes)
		fact(plan, "full segments", "of %u bytes when received", sock->receive_mss_bytes);
	fact(plan, "io_uring", "%s", host->ring ? "granted" : strerrordesc_np(-host->ring_error));
	if (host->ring)
		fact(plan, "zero-copy sends", "%s", host->ring_send_zc ? "granted" : "refused");
	if (facts->side == ZH_RECEIVE)
		fact(plan, "uncached writes", "%s", file->dontcache ? "taken" : "refused");
	if (host->memlock_bytes == UINT64_MAX)
		fact(plan, "memory that may be locked", "unlimited");
	else
		fact(plan, "memory that may be locked", "%llu KiB",
			(unsigned long long)(host->memlock_bytes / KIB));
	fact(plan, "memory available", "%llu MiB",
		(unsigned long long)(host->memory_available_bytes / MIB));
	fact(plan, "largest pipe", "%u KiB", host->pipe_bytes / 1024);
}

/*
 * The next rule that would hold, if the first one's strategy were not there. None where the first
 * was not taken for what it costs: by a wish, or so that nothing stays in the page cache.
 */
static void find_runner_up(const struct facts *facts, struct zh_plan *plan, size_t decided)
{
	struct zh_plan trial = { 0 };
	size_t i = decided + 1;

	if (!facts->calibrate || facts->side != ZH_SEND || facts->no_fallback ||
		facts->cache == ZH_CACHE_DROP || facts->extent.length < CALIBRATE_LEAST_BYTES)
		return;
	while (i < ARRAY_LEN(rules) && (!rule_holds(&rules[i], facts, plan) ||
					       strcmp(rules[i].strategy, plan->strategy) == 0))
		i++;
	if (i == ARRAY_LEN(rules))
		return;
	take(facts, &trial, rules[i].strategy);
	TEXT_SET(plan->runner_up, trial.strategy);
	plan->runner_up_chunk_bytes = trial.chunk_bytes;
	plan->runner_up_depth = trial.depth;
	plan->runner_up_pipe_bytes = trial.pipe_bytes;
}

static int take_rule(const struct facts *facts, struct zh_plan *plan)
{
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		if (!rule_holds(&rules[i], facts, plan))
			continue;
		take(facts, plan, rules[i].strategy);
		TEXT_SET(plan->reason, rules[i].reason);
		find_runner_up(facts, plan, i);
		return 0;
	}
	TEXT_SET(plan->reason, "nothing is admitted");
	return -EINVAL;
}

int plan_make(const struct facts *facts, struct zh_plan *ret_plan)
{
	struct zh_plan plan = { .size = sizeof(plan), .side = facts->side };
	int r;

	plan.no_fallback = facts->no_fallback;
	plan.resident_permille = facts->file.resident_permille;
	write_facts(facts, &plan);
	judge_all(facts, &plan);
	r = facts->strategy[0] ? take_wish(facts, &plan) : take_rule(facts, &plan);
	*ret_plan = plan;
	return r;
}

int plan_gather(
	enum zh_side side, int file, int sock, struct zh_extent extent, struct facts *ret_facts)
{
	struct facts facts = { .side = side, .extent = extent };
	int r = file_facts(file, extent, &facts.file);

	if (r < 0)
		return r;
	sock_facts(sock, &facts.sock);
	probe_host(&facts.host);
	*ret_facts = facts;
	return 0;
}
