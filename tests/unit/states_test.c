/* SPDX-License-Identifier: Apache-2.0 */
/*
 * states_test.c - every cell of the state tables against a list written out independently, by name:
 * what is on the list is allowed, everything else is refused.
 */
#include "unit.h"

#include "session/states.h"

#include <stdio.h>

#define TYPES 64 /* all types there are, and as many that do not exist */

/* True when name is one of the space-separated words. */
static bool listed(const char *words, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = words; (at = strstr(at, name)) != NULL; at += length)
		if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
			return true;
	return false;
}

static void check_row(const char *what, const char *allowed, bool (*may)(unsigned type))
{
	size_t hits = 0, words = allowed[0] != '\0';

	for (const char *c = allowed; *c; c++)
		words += *c == ' ';
	for (unsigned type = 0; type < TYPES; type++) {
		bool expected = listed(allowed, wire_name(type));
		if (may(type) != expected)
			fail_msg("%s: %s is %s", what, wire_name(type),
				expected ? "refused" : "allowed");
		hits += expected;
	}
	assert_int_equal(hits, words); /* no word of the list is misspelt */
}

/* ------------------------------------------------ frames -------------------------------------- */

static const struct session_cell_row {
	enum session_end end;
	enum session_role role;
	enum session_state state;
	const char *allowed;
} session_list[] = {
	{ END_CLIENT, ROLE_SENDER, SESSION_SETUP, "ERR" },
	{ END_CLIENT, ROLE_SENDER, SESSION_PLACING, "PLACE CREDIT ERR PING PONG BYE" },
	{ END_CLIENT, ROLE_SENDER, SESSION_OPEN, "NEED NAK ACK CREDIT GOT ERR PING PONG BYE" },
	{ END_CLIENT, ROLE_SENDER, SESSION_SETTLING, "ERR PING PONG" },
	{ END_CLIENT, ROLE_SENDER, SESSION_CLOSING, "NEED NAK CREDIT GOT ERR PING PONG BYE" },
	{ END_CLIENT, ROLE_SENDER, SESSION_CLOSED, "" },
	{ END_CLIENT, ROLE_RECEIVER, SESSION_SETUP, "ERR" },
	{ END_CLIENT, ROLE_RECEIVER, SESSION_PLACING, "PLACE ERR PING PONG BYE" },
	{ END_CLIENT, ROLE_RECEIVER, SESSION_OPEN,
		"FILE DIR LEAVE PACK MAP ATTR LEAF END LOST KEEP ERR PING PONG BYE" },
	{ END_CLIENT, ROLE_RECEIVER, SESSION_SETTLING, "ERR PING PONG" },
	{ END_CLIENT, ROLE_RECEIVER, SESSION_CLOSING, "ERR PING PONG BYE" },
	{ END_CLIENT, ROLE_RECEIVER, SESSION_CLOSED, "" },
	{ END_SERVER, ROLE_SENDER, SESSION_SETUP, "SETUP ERR" },
	{ END_SERVER, ROLE_SENDER, SESSION_PLACING, "WANT RULE CREDIT ERR PING PONG BYE" },
	{ END_SERVER, ROLE_SENDER, SESSION_OPEN, "NEED NAK ACK CREDIT GOT ERR PING PONG BYE" },
	{ END_SERVER, ROLE_SENDER, SESSION_SETTLING, "ERR PING PONG" },
	{ END_SERVER, ROLE_SENDER, SESSION_CLOSING, "NEED NAK CREDIT GOT ERR PING PONG BYE" },
	{ END_SERVER, ROLE_SENDER, SESSION_CLOSED, "" },
	{ END_SERVER, ROLE_RECEIVER, SESSION_SETUP, "SETUP ERR" },
	{ END_SERVER, ROLE_RECEIVER, SESSION_PLACING, "WANT RULE ERR PING PONG BYE" },
	{ END_SERVER, ROLE_RECEIVER, SESSION_OPEN,
		"FILE DIR LEAVE PACK MAP ATTR LEAF END LOST KEEP ERR PING PONG BYE" },
	{ END_SERVER, ROLE_RECEIVER, SESSION_SETTLING, "ERR PING PONG" },
	{ END_SERVER, ROLE_RECEIVER, SESSION_CLOSING, "ERR PING PONG BYE" },
	{ END_SERVER, ROLE_RECEIVER, SESSION_CLOSED, "" },
};

static const struct session_cell_row *row_now;

static bool session_row_now(unsigned type)
{
	return session_may_receive(
		row_now->end, row_now->role, row_now->state, (enum frame_type)type);
}

static void control_frames_are_allowed_exactly_where_listed(void **state)
{
	char what[64];

	(void)state;
	assert_int_equal(ARRAY_LEN(session_list), END_COUNT * ROLE_COUNT * SESSION_STATE_COUNT);
	for (size_t i = 0; i < ARRAY_LEN(session_list); i++) {
		row_now = &session_list[i];
		for (size_t j = 0; j < i; j++) /* no cell is listed twice, so none is missing */
			assert_false(session_list[j].end == row_now->end &&
				     session_list[j].role == row_now->role &&
				     session_list[j].state == row_now->state);
		(void)snprintf(what, sizeof(what), "end %d, role %d, state %d", (int)row_now->end,
			(int)row_now->role, (int)row_now->state);
		check_row(what, row_now->allowed, session_row_now);
	}
}

static bool stream_head_of_receiver(unsigned type)
{
	return stream_may_receive(ROLE_RECEIVER, STREAM_HEAD, (enum frame_type)type);
}

static bool stream_after_data_of_receiver(unsigned type)
{
	return stream_may_receive(ROLE_RECEIVER, STREAM_AFTER_DATA, (enum frame_type)type);
}

static bool stream_of_sender(unsigned type)
{
	for (unsigned s = 0; s < STREAM_STATE_COUNT; s++)
		if (stream_may_receive(ROLE_SENDER, (enum stream_state)s, (enum frame_type)type))
			return true;
	return false;
}

static void data_frames_are_allowed_exactly_where_listed(void **state)
{
	(void)state;
	assert_int_equal(STREAM_STATE_COUNT, 2);
	check_row("receiver, head", "DATA", stream_head_of_receiver);
	check_row("receiver, after DATA", "SUM", stream_after_data_of_receiver);
	check_row("sender, any", "", stream_of_sender);
}

/* ------------------------------------------------ followers ----------------------------------- */

struct step {
	unsigned from, to;
};

static void check_steps(const struct step *steps, size_t count, unsigned states,
	bool (*may)(unsigned from, unsigned to))
{
	for (unsigned from = 0; from < states; from++)
		for (unsigned to = 0; to < states + 40; to++) {
			bool expected = false;
			for (size_t i = 0; i < count; i++)
				expected |= steps[i].from == from && steps[i].to == to;
			if (may(from, to) != expected)
				fail_msg("%u -> %u is %s", from, to,
					expected ? "refused" : "allowed");
		}
}

static bool session_step(unsigned from, unsigned to)
{
	return session_may_follow((enum session_state)from, (enum session_state)to);
}

static void sessions_move_only_as_listed(void **state)
{
	static const struct step steps[] = {
		{ SESSION_SETUP, SESSION_PLACING },
		{ SESSION_SETUP, SESSION_CLOSED },
		{ SESSION_PLACING, SESSION_OPEN },
		{ SESSION_PLACING, SESSION_CLOSING },
		{ SESSION_PLACING, SESSION_CLOSED },
		{ SESSION_OPEN, SESSION_SETTLING },
		{ SESSION_OPEN, SESSION_CLOSING },
		{ SESSION_OPEN, SESSION_CLOSED },
		{ SESSION_SETTLING, SESSION_CLOSED },
		{ SESSION_CLOSING, SESSION_CLOSED },
	};

	(void)state;
	check_steps(steps, ARRAY_LEN(steps), SESSION_STATE_COUNT, session_step);
}

static bool arrival_step(unsigned from, unsigned to)
{
	return arrival_may_follow((enum arrival_state)from, (enum arrival_state)to);
}

static void arrivals_move_only_as_listed(void **state)
{
	static const struct step steps[] = {
		{ ARRIVAL_ANNOUNCED, ARRIVAL_ALLOCATED },
		{ ARRIVAL_ALLOCATED, ARRIVAL_PROVING },
		{ ARRIVAL_ALLOCATED, ARRIVAL_RECEIVING },
		{ ARRIVAL_ALLOCATED, ARRIVAL_SKIPPED },
		{ ARRIVAL_PROVING, ARRIVAL_RECEIVING },
		{ ARRIVAL_PROVING, ARRIVAL_SKIPPED },
		{ ARRIVAL_PROVING, ARRIVAL_FAILED },
		{ ARRIVAL_RECEIVING, ARRIVAL_VERIFIED },
		{ ARRIVAL_VERIFIED, ARRIVAL_SYNCED },
		{ ARRIVAL_SYNCED, ARRIVAL_LINKED },
		{ ARRIVAL_LINKED, ARRIVAL_DURABLE },
		{ ARRIVAL_ANNOUNCED, ARRIVAL_FAILED },
		{ ARRIVAL_ALLOCATED, ARRIVAL_FAILED },
		{ ARRIVAL_RECEIVING, ARRIVAL_FAILED },
		{ ARRIVAL_VERIFIED, ARRIVAL_FAILED },
		{ ARRIVAL_SYNCED, ARRIVAL_FAILED },
		{ ARRIVAL_LINKED, ARRIVAL_FAILED },
	};

	(void)state;
	check_steps(steps, ARRAY_LEN(steps), ARRIVAL_STATE_COUNT, arrival_step);
}

static bool departure_step(unsigned from, unsigned to)
{
	return departure_may_follow((enum departure_state)from, (enum departure_state)to);
}

static void departures_move_only_as_listed(void **state)
{
	static const struct step steps[] = {
		{ DEPARTURE_ANNOUNCED, DEPARTURE_PROVING },
		{ DEPARTURE_ANNOUNCED, DEPARTURE_SENDING },
		{ DEPARTURE_ANNOUNCED, DEPARTURE_SKIPPED },
		{ DEPARTURE_PROVING, DEPARTURE_SENDING },
		{ DEPARTURE_PROVING, DEPARTURE_SKIPPED },
		{ DEPARTURE_PROVING, DEPARTURE_FAILED },
		{ DEPARTURE_SENDING, DEPARTURE_ENDED },
		{ DEPARTURE_ENDED, DEPARTURE_DONE },
		{ DEPARTURE_ANNOUNCED, DEPARTURE_FAILED },
		{ DEPARTURE_SENDING, DEPARTURE_FAILED },
		{ DEPARTURE_ENDED, DEPARTURE_FAILED },
	};

	(void)state;
	check_steps(steps, ARRAY_LEN(steps), DEPARTURE_STATE_COUNT, departure_step);
}

static void ask_for_a_state_that_does_not_exist(void)
{
	(void)session_may_receive(END_CLIENT, ROLE_SENDER, SESSION_STATE_COUNT, FRAME_PING);
}

static void states_that_do_not_exist_stop_the_program(void **state)
{
	(void)state;
	assert_stops_the_program(ask_for_a_state_that_does_not_exist);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(control_frames_are_allowed_exactly_where_listed),
		cmocka_unit_test(data_frames_are_allowed_exactly_where_listed),
		cmocka_unit_test(sessions_move_only_as_listed),
		cmocka_unit_test(arrivals_move_only_as_listed),
		cmocka_unit_test(departures_move_only_as_listed),
		cmocka_unit_test(states_that_do_not_exist_stop_the_program),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
