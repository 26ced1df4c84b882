/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane.h - what a sender has put on one data connection and does not know to have arrived: DATA
 * frames by number, since the connection was opened. Pure: no locks, no calls into the system; its
 * owner guards it.
 */
#ifndef ZH_SESSION_LANE_H
#define ZH_SESSION_LANE_H

#include "base/leaf.h"
#include "session/schedule.h"

#define LANE_LEAVES 8 /* of one frame */

struct sent {
	uint64_t id;
	struct zh_extent extent;
	bool counted; /* all of it was sent, and it is in the account of its departure */
	uint32_t digests;
	struct digest digest[LANE_LEAVES];
};

struct lane {
	struct sent *sent; /* from head, count of them */
	size_t head;
	size_t count;
	size_t cap;
	uint64_t first; /* number of the frame at head */
	bool busy;      /* a thread sends on it */
	bool ended;     /* the receiver has said how much it got, and that nothing more comes */
};

/* A connection begins: nothing has been sent. ended: the receiver has said so already. */
void lane_begin(struct lane *lane, bool ended);
/* Room for one frame more. 0 or -ENOMEM. */
int lane_reserve(struct lane *lane) must_check;
/* A frame is going to be sent; there is room for it. Returns its number. */
uint64_t lane_push(struct lane *lane, const struct schedule_work *piece);
/* The frame of this number; NULL: it has arrived, as the receiver says. */
struct sent *lane_find(struct lane *lane, uint64_t number);
/* All frames below this number have arrived. -EPROTO: so many were not sent, or it went back. */
int lane_confirm(struct lane *lane, uint64_t number) must_check;
void lane_fini(struct lane *lane);

#endif
