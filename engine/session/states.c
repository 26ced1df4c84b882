/* SPDX-License-Identifier: Apache-2.0 */
/*
 * states.c - the tables behind states.h. One bit per frame type or follower; what is not written
 * here is refused, and every row is written.
 */
#include "session/states.h"

#define F(type)  (1u << FRAME_##type)
#define NONE     0u
#define LIVENESS (F(ERR) | F(PING) | F(PONG))

_Static_assert(FRAME_TYPE_END <= 32, "a row is 32 bits");

#define PLACING   (LIVENESS | F(BYE))
#define TO_SENDER (LIVENESS | F(BYE) | F(NEED) | F(NAK) | F(ACK) | F(CREDIT) | F(GOT))
/* What can be under way to a sender that says BYE: about files that it has just given up, too. */
#define SENDER_CLOSING (LIVENESS | F(BYE) | F(NEED) | F(NAK) | F(CREDIT) | F(GOT))
#define TO_RECEIVER                                                                               \
	(LIVENESS | F(BYE) | F(DIR) | F(LEAVE) | F(FILE) | F(PACK) | F(MAP) | F(ATTR) | F(LEAF) | \
		F(END) | F(LOST) | F(KEEP))

static const uint32_t session_rows[END_COUNT][ROLE_COUNT][SESSION_STATE_COUNT] = {
	[END_CLIENT] = {
		[ROLE_SENDER] = {
			[SESSION_SETUP] = F(ERR),
			[SESSION_PLACING] = PLACING | F(PLACE) | F(CREDIT),
			[SESSION_OPEN] = TO_SENDER,
			[SESSION_SETTLING] = LIVENESS,
			[SESSION_CLOSING] = SENDER_CLOSING,
			[SESSION_CLOSED] = NONE,
		},
		[ROLE_RECEIVER] = {
			[SESSION_SETUP] = F(ERR),
			[SESSION_PLACING] = PLACING | F(PLACE),
			[SESSION_OPEN] = TO_RECEIVER,
			[SESSION_SETTLING] = LIVENESS,
			[SESSION_CLOSING] = LIVENESS | F(BYE),
			[SESSION_CLOSED] = NONE,
		},
	},
	[END_SERVER] = {
		[ROLE_SENDER] = {
			[SESSION_SETUP] = F(SETUP) | F(ERR),
			[SESSION_PLACING] = PLACING | F(WANT) | F(RULE) | F(CREDIT),
			[SESSION_OPEN] = TO_SENDER,
			[SESSION_SETTLING] = LIVENESS,
			[SESSION_CLOSING] = SENDER_CLOSING,
			[SESSION_CLOSED] = NONE,
		},
		[ROLE_RECEIVER] = {
			[SESSION_SETUP] = F(SETUP) | F(ERR),
			[SESSION_PLACING] = PLACING | F(WANT) | F(RULE),
			[SESSION_OPEN] = TO_RECEIVER,
			[SESSION_SETTLING] = LIVENESS,
			[SESSION_CLOSING] = LIVENESS | F(BYE),
			[SESSION_CLOSED] = NONE,
		},
	},
};

static const uint32_t stream_rows[ROLE_COUNT][STREAM_STATE_COUNT] = {
	[ROLE_SENDER] = {
		[STREAM_HEAD] = NONE, /* the control connection speaks for the receiver */
		[STREAM_AFTER_DATA] = NONE,
	},
	[ROLE_RECEIVER] = {
		[STREAM_HEAD] = F(DATA),
		[STREAM_AFTER_DATA] = F(SUM),
	},
};

#define TO(state) (1u << (state))

static const uint32_t session_followers[SESSION_STATE_COUNT] = {
	[SESSION_SETUP] = TO(SESSION_PLACING) | TO(SESSION_CLOSED),
	[SESSION_PLACING] = TO(SESSION_OPEN) | TO(SESSION_CLOSING) | TO(SESSION_CLOSED),
	[SESSION_OPEN] = TO(SESSION_SETTLING) | TO(SESSION_CLOSING) | TO(SESSION_CLOSED),
	[SESSION_SETTLING] = TO(SESSION_CLOSED),
	[SESSION_CLOSING] = TO(SESSION_CLOSED),
	[SESSION_CLOSED] = NONE,
};

static const uint32_t arrival_followers[ARRIVAL_STATE_COUNT] = {
	[ARRIVAL_ANNOUNCED] = TO(ARRIVAL_ALLOCATED) | TO(ARRIVAL_FAILED),
	[ARRIVAL_ALLOCATED] = TO(ARRIVAL_PROVING) | TO(ARRIVAL_RECEIVING) | TO(ARRIVAL_FAILED) |
			      TO(ARRIVAL_SKIPPED),
	[ARRIVAL_PROVING] = TO(ARRIVAL_RECEIVING) | TO(ARRIVAL_FAILED) | TO(ARRIVAL_SKIPPED),
	[ARRIVAL_RECEIVING] = TO(ARRIVAL_VERIFIED) | TO(ARRIVAL_FAILED),
	[ARRIVAL_VERIFIED] = TO(ARRIVAL_SYNCED) | TO(ARRIVAL_FAILED),
	[ARRIVAL_SYNCED] = TO(ARRIVAL_LINKED) | TO(ARRIVAL_FAILED),
	[ARRIVAL_LINKED] = TO(ARRIVAL_DURABLE) | TO(ARRIVAL_FAILED),
	[ARRIVAL_DURABLE] = NONE,
	[ARRIVAL_FAILED] = NONE,
	[ARRIVAL_SKIPPED] = NONE,
};

static const uint32_t departure_followers[DEPARTURE_STATE_COUNT] = {
	[DEPARTURE_ANNOUNCED] = TO(DEPARTURE_PROVING) | TO(DEPARTURE_SENDING) |
				TO(DEPARTURE_FAILED) | TO(DEPARTURE_SKIPPED),
	[DEPARTURE_PROVING] = TO(DEPARTURE_SENDING) | TO(DEPARTURE_FAILED) | TO(DEPARTURE_SKIPPED),
	[DEPARTURE_SENDING] = TO(DEPARTURE_ENDED) | TO(DEPARTURE_FAILED),
	/* back to SENDING: a NAK after END; the leaves sent again may change the root */
	[DEPARTURE_ENDED] = TO(DEPARTURE_DONE) | TO(DEPARTURE_FAILED),
	[DEPARTURE_DONE] = NONE,
	[DEPARTURE_FAILED] = NONE,
	[DEPARTURE_SKIPPED] = NONE,
};

static bool has(uint32_t row, unsigned bit)
{
	return bit < 32 && (row >> bit & 1u) != 0;
}

bool session_may_receive(enum session_end end, enum session_role role, enum session_state state,
	enum frame_type type)
{
	CHECK(end < END_COUNT && role < ROLE_COUNT && state < SESSION_STATE_COUNT);
	return has(session_rows[end][role][state], type);
}

bool session_may_follow(enum session_state from, enum session_state to)
{
	CHECK(from < SESSION_STATE_COUNT);
	return has(session_followers[from], to);
}

bool stream_may_receive(enum session_role role, enum stream_state state, enum frame_type type)
{
	CHECK(role < ROLE_COUNT && state < STREAM_STATE_COUNT);
	return has(stream_rows[role][state], type);
}

bool arrival_may_follow(enum arrival_state from, enum arrival_state to)
{
	CHECK(from < ARRIVAL_STATE_COUNT);
	return has(arrival_followers[from], to);
}

bool departure_may_follow(enum departure_state from, enum departure_state to)
{
	CHECK(from < DEPARTURE_STATE_COUNT);
	return has(departure_followers[from], to);
}
