/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ordered_send.h - sends what a reader has read, by SEND operations of the same ring, one in flight
 * at a time: sends on one socket have no order among themselves.
 */
#ifndef ZH_MOVE_ORDERED_SEND_H
#define ZH_MOVE_ORDERED_SEND_H

#include "move/reader.h"

struct ordered_send {
	struct reader reader;
	uint64_t sending; /* token of the send in flight, 0: none */
};

/* The members of a strategy whose state is a struct ordered_send; open is the strategy's own. */
ssize_t ordered_send_step(struct channel *channel, void *state);
int ordered_send_drain(struct channel *channel, void *state);
void ordered_send_close(struct channel *channel, void *state);

#endif
