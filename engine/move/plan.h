/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - facts in, plan out. plan_make is pure; plan_gather asks the kernel. */
#ifndef ZH_MOVE_PLAN_H
#define ZH_MOVE_PLAN_H

#include "kernel/facts.h"
#include "zerohaul.h"

/*
 * Decides how to move the extent. Every strategy of the side gets a verdict. A wish that is not
 * admitted is replaced by its fallback, or refused under no_fallback. The plan names an admitted
 * strategy when 0 is returned. Errors: -EINVAL unknown wish, wish not admitted and no_fallback, or
 * nothing is admitted.
 */
int plan_make(const struct facts *facts, struct zh_plan *ret_plan) must_check;

/*
 * So much, and so little of it in the page cache, that it is better left out of it. A residency
 * that cannot be told (-1) is no reason.
 */
bool plan_is_large_and_cold(uint64_t bytes, int32_t resident_permille);

/* Gathers facts for a file and a socket (-1: assumed). Errors: what fstat and fcntl report. */
int plan_gather(enum zh_side side, int file, int sock, struct zh_extent extent,
	struct facts *ret_facts) must_check;

#endif
