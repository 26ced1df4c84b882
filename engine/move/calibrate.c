/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate.c - see calibrate.h. Pure. */
#include "move/calibrate.h"

#include <stdio.h>

#define WAIT_SHARE     4 /* who waits for more than this part of its time is not the limit */
#define CHANCE_PERCENT 5 /* what two trials of one strategy may differ by */

struct calibrate_cost calibrate_since(
	const struct calibrate_cost *now, const struct calibrate_cost *start)
{
	return (struct calibrate_cost){
		.bytes = now->bytes - start->bytes,
		.elapsed_ns = now->elapsed_ns - start->elapsed_ns,
		.cpu_ns = now->cpu_ns - start->cpu_ns,
		.wait_ns = now->wait_ns - start->wait_ns,
	};
}

static bool waited(const struct calibrate_cost *cost)
{
	return cost->wait_ns > cost->elapsed_ns / WAIT_SHARE;
}

static double per_byte(const struct calibrate_cost *cost, uint64_t ns)
{
	return (double)ns / (double)max_u64(cost->bytes, 1);
}

bool calibrate_prefers_runner_up(const char *planned, const struct calibrate_cost *of_planned,
	const char *runner_up, const struct calibrate_cost *of_runner_up, char *ret_text,
	size_t cap)
{
	bool by_cpu = waited(of_planned) && waited(of_runner_up);
	/* nanoseconds for a byte are seconds for a gigabyte */
	double one = per_byte(of_planned, by_cpu ? of_planned->cpu_ns : of_planned->elapsed_ns);
	double other =
		per_byte(of_runner_up, by_cpu ? of_runner_up->cpu_ns : of_runner_up->elapsed_ns);
	bool better = other * 100 < one * (100 - CHANCE_PERCENT);

	(void)snprintf(ret_text, cap, "%s %.3f, %s %.3f %s: %s", planned, one, runner_up, other,
		by_cpu ? "CPU s/GB" : "s/GB", better ? runner_up : planned);
	return better;
}
