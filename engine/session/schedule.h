/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule.h - which extent of which file goes next, over whichever stream asks. Pure: a queue, no
 * locks and no calls into the system; its owner guards it.
 */
#ifndef ZH_SESSION_SCHEDULE_H
#define ZH_SESSION_SCHEDULE_H

#include "base/util.h"
#include "zerohaul.h"

struct schedule_item {
	uint64_t id;
	struct zh_extent extent; /* still to be handed out */
};

struct schedule {
	struct schedule_item *item; /* from head, count of them */
	size_t head;
	size_t count;
	size_t cap;
};

/* A piece of work: one DATA frame. */
struct schedule_work {
	uint64_t id;
	struct zh_extent extent;
	uint64_t horizon; /* end of the bytes that follow it in the same file */
};

/* Queues an extent. first: before everything else, for re-sends. 0 or -ENOMEM. */
int schedule_add(
	struct schedule *schedule, uint64_t id, struct zh_extent extent, bool first) must_check;
/* Takes the next piece of at most most_bytes; false when there is nothing. */
bool schedule_next(struct schedule *schedule, uint64_t most_bytes, struct schedule_work *ret_work);
/* Forgets all work for a file that has failed. */
void schedule_drop(struct schedule *schedule, uint64_t id);
void schedule_fini(struct schedule *schedule);

#endif
