/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calibrate.h - inside a large extent: what did the planned strategy cost, what does the runner-up,
 * and which of them moves the rest. The decision alone; a channel measures and switches.
 */
#ifndef ZH_MOVE_CALIBRATE_H
#define ZH_MOVE_CALIBRATE_H

#include "base/util.h"

#define CALIBRATE_LEAST_BYTES (256 * MIB) /* below, the rest is too little to gain by */
#define CALIBRATE_WARM_BYTES  (16 * MIB)  /* not measured: windows and queues still grow */
#define CALIBRATE_TRIAL_BYTES (64 * MIB)  /* of each */

/* What moving some bytes has cost; also an account from which such a difference is taken. */
struct calibrate_cost {
	uint64_t bytes;
	uint64_t elapsed_ns;
	uint64_t cpu_ns;
	uint64_t wait_ns; /* of elapsed_ns, for the peer to take more */
};

struct calibrate_cost calibrate_since(
	const struct calibrate_cost *now, const struct calibrate_cost *start);

/*
 * Is the runner-up cheaper, by more than chance makes it? By time; by CPU time where both had to
 * wait for the peer, so that time is the peer's or the network's. ret_text has both costs and who
 * goes on.
 */
bool calibrate_prefers_runner_up(const char *planned, const struct calibrate_cost *of_planned,
	const char *runner_up, const struct calibrate_cost *of_runner_up, char *ret_text,
	size_t cap);

#endif
