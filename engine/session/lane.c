/* SPDX-License-Identifier: Apache-2.0 */
/* lane.c - see lane.h. */
#include "session/lane.h"

#include <errno.h>

#define LANE_GROWTH 32

void lane_begin(struct lane *lane, bool ended)
{
	lane->head = lane->count = 0;
	lane->first = 0;
	lane->busy = true;
	lane->ended = ended;
}

int lane_reserve(struct lane *lane)
{
	struct sent *grown;

	if (lane->head + lane->count < lane->cap)
		return 0;
	if (lane->head > 0) {
		memmove(lane->sent, lane->sent + lane->head, lane->count * sizeof(*lane->sent));
		lane->head = 0;
		return 0;
	}
	grown = reallocarray(lane->sent, lane->cap + LANE_GROWTH, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	lane->sent = grown;
	lane->cap += LANE_GROWTH;
	return 0;
}

uint64_t lane_push(struct lane *lane, const struct schedule_work *piece)
{
	CHECK(lane->head + lane->count < lane->cap);
	lane->sent[lane->head + lane->count] =
		(struct sent){ .id = piece->id, .extent = piece->extent };
	return lane->first + lane->count++;
}

struct sent *lane_find(struct lane *lane, uint64_t number)
{
	if (number < lane->first || number - lane->first >= lane->count)
		return NULL;
	return &lane->sent[lane->head + (size_t)(number - lane->first)];
}

int lane_confirm(struct lane *lane, uint64_t number)
{
	if (number < lane->first || number - lane->first > lane->count)
		return -EPROTO;
	lane->head += (size_t)(number - lane->first);
	lane->count -= (size_t)(number - lane->first);
	lane->first = number;
	return 0;
}

void lane_fini(struct lane *lane)
{
	free(lane->sent);
	memset(lane, 0, sizeof(*lane));
}
