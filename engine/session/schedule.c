/* SPDX-License-Identifier: Apache-2.0 */
/* schedule.c - see schedule.h. */
#include "session/schedule.h"

#include <errno.h>

#define SCHEDULE_GROWTH 64

static int schedule_reserve(struct schedule *schedule)
{
	struct schedule_item *grown;

	if (schedule->head > 0) {
		memmove(schedule->item, schedule->item + schedule->head,
			schedule->count * sizeof(*schedule->item));
		schedule->head = 0;
	}
	if (schedule->count < schedule->cap)
		return 0;
	grown = reallocarray(
		schedule->item, schedule->cap + SCHEDULE_GROWTH, sizeof(*schedule->item));
	if (!grown)
		return -ENOMEM;
	schedule->item = grown;
	schedule->cap += SCHEDULE_GROWTH;
	return 0;
}

int schedule_add(struct schedule *schedule, uint64_t id, struct zh_extent extent, bool first)
{
	int r = 0;

	CHECK(extent.length > 0);
	if (schedule->head + schedule->count == schedule->cap || (first && schedule->head == 0))
		r = schedule_reserve(schedule);
	if (r < 0)
		return r;
	if (first) {
		memmove(schedule->item + schedule->head + 1, schedule->item + schedule->head,
			schedule->count * sizeof(*schedule->item));
		schedule->item[schedule->head] = (struct schedule_item){ id, extent };
	} else {
		schedule->item[schedule->head + schedule->count] =
			(struct schedule_item){ id, extent };
	}
	schedule->count++;
	return 0;
}

bool schedule_next(struct schedule *schedule, uint64_t most_bytes, struct schedule_work *ret_work)
{
	struct schedule_item *item;
	uint64_t length;

	if (schedule->count == 0)
		return false;
	item = &schedule->item[schedule->head];
	length = min_u64(item->extent.length, most_bytes);
	ret_work->id = item->id;
	ret_work->extent = (struct zh_extent){ item->extent.offset, length };
	ret_work->horizon = item->extent.offset + item->extent.length;
	item->extent.offset += length;
	item->extent.length -= length;
	if (item->extent.length == 0) {
		schedule->head++;
		schedule->count--;
	}
	return true;
}

void schedule_drop(struct schedule *schedule, uint64_t id)
{
	size_t kept = 0;

	for (size_t i = 0; i < schedule->count; i++)
		if (schedule->item[schedule->head + i].id != id)
			schedule->item[schedule->head + kept++] =
				schedule->item[schedule->head + i];
	schedule->count = kept;
}

void schedule_fini(struct schedule *schedule)
{
	free(schedule->item);
	memset(schedule, 0, sizeof(*schedule));
}
