/* SPDX-License-Identifier: Apache-2.0 */
/*
 * states.h - which frame may come when. Pure tables: every cell of (role, connection, state, frame)
 * is decided here, so an unexpected frame can't reach code that does not expect it.
 */
#ifndef ZH_SESSION_STATES_H
#define ZH_SESSION_STATES_H

#include "session/wire.h"

enum session_role { ROLE_SENDER, ROLE_RECEIVER, ROLE_COUNT };
enum session_end { END_CLIENT, END_SERVER, END_COUNT };

/* Of the control connection, after both proofs. */
enum session_state {
	SESSION_SETUP,    /* server: waits for SETUP */
	SESSION_PLACING,  /* WANT and PLACE go back and forth */
	SESSION_OPEN,     /* files move */
	SESSION_SETTLING, /* their BYE has come, and what it ends is not all done */
	SESSION_CLOSING,  /* BYE sent, and all files settled: waiting for theirs */
	SESSION_CLOSED,
	SESSION_STATE_COUNT,
};

/*
 * May a frame of this type arrive on the control connection now? A client leaves SESSION_SETUP when
 * it has sent SETUP; both sides enter SESSION_OPEN with the answer to the last WANT. Types that do
 * not exist may never arrive.
 */
bool session_may_receive(enum session_end end, enum session_role role, enum session_state state,
	enum frame_type type);
bool session_may_follow(enum session_state from, enum session_state to);

/* Of a data connection. */
enum stream_state { STREAM_HEAD, STREAM_AFTER_DATA, STREAM_STATE_COUNT };
bool stream_may_receive(enum session_role role, enum stream_state state, enum frame_type type);

/*
 * Of one file at the receiver; its life in order, PROVING only when there may be something of it
 * already; FAILED from anywhere before DURABLE.
 */
enum arrival_state {
	ARRIVAL_ANNOUNCED,
	ARRIVAL_ALLOCATED,
	ARRIVAL_PROVING, /* NEED with PROVE sent, digests come */
	ARRIVAL_RECEIVING,
	ARRIVAL_VERIFIED,
	ARRIVAL_SYNCED,
	ARRIVAL_LINKED,
	ARRIVAL_DURABLE,
	ARRIVAL_FAILED,
	ARRIVAL_SKIPPED, /* it was there */
	ARRIVAL_STATE_COUNT,
};
bool arrival_may_follow(enum arrival_state from, enum arrival_state to);

/* Of one file at the sender. */
enum departure_state {
	DEPARTURE_ANNOUNCED, /* FILE sent */
	DEPARTURE_PROVING,   /* NEED with PROVE came; digests are sent */
	DEPARTURE_SENDING,   /* NEED came */
	DEPARTURE_ENDED,     /* END sent; the source stays open for re-sends */
	DEPARTURE_DONE,      /* ACK came and the roots are equal */
	DEPARTURE_FAILED,
	DEPARTURE_SKIPPED, /* the receiver has it already */
	DEPARTURE_STATE_COUNT,
};
bool departure_may_follow(enum departure_state from, enum departure_state to);

#endif
