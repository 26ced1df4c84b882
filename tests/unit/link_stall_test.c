/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_stall_test.c - a peer that stops in the middle of a frame. link.c is built in here once
 * more, under other names and with a stall limit that a test can wait for.
 */
#include "unit.h"

#define link_init       short_link_init
#define link_fini       short_link_fini
#define link_secure     short_link_secure
#define link_send_bytes short_link_send_bytes
#define link_recv_bytes short_link_recv_bytes
#define link_send       short_link_send
#define link_recv       short_link_recv

#include "session/limits.h"
#undef LIMIT_STALL_MS
#define LIMIT_STALL_MS 80u

#include "session/link.c"

static const struct link_keys keys; /* the same both ways: only time matters here */

static struct link *link_to(int *ret_peer)
{
	struct link *link = malloc(sizeof(*link));
	int fd[2];

	assert_non_null(link);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	assert_int_equal(link_init(link, fd[0], -1), 0);
	assert_int_equal(link_secure(link, &keys), 0);
	*ret_peer = fd[1];
	return link;
}

static void frame_that_stops_half_way_is_a_time_out_at_every_byte(void **state)
{
	struct frame need = { .type = FRAME_NEED, .id = 1, .length = 16 }, back;
	uint8_t bytes[64] = { 0 }, range[16] = { [8] = 1 };
	static const size_t cuts[] = { 1, 23, 24, 39, 40, 55 };
	struct link *link;
	uint64_t begin;
	int peer;

	(void)state;
	link = link_to(&peer);
	assert_int_equal(link_send(link, &need, range), 0);
	assert_int_equal(recv(peer, bytes, sizeof(bytes), 0), 56);
	link_fini(link);
	close(peer);
	free(link);
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		link = link_to(&peer);
		assert_int_equal(send(peer, bytes, cuts[i], 0), (ssize_t)cuts[i]);
		begin = clock_now_ns();
		assert_int_equal(link_recv(link, &back, -1), -ETIMEDOUT);
		assert_true(clock_now_ns() - begin >= 80u * (uint64_t)NS_PER_MS);
		assert_true(clock_now_ns() - begin < 5000u * (uint64_t)NS_PER_MS);
		link_fini(link);
		close(peer);
		free(link);
	}
}

static void peer_that_takes_nothing_is_a_time_out(void **state)
{
	struct frame need = { .type = FRAME_NEED, .id = 1, .length = FRAME_PAYLOAD_CAP };
	static uint8_t payload[FRAME_PAYLOAD_CAP];
	struct link *link;
	int peer, r = 0;

	(void)state;
	link = link_to(&peer);
	for (int i = 0; i < 1000 && r == 0; i++)
		r = link_send(link, &need, payload);
	assert_int_equal(r, -ETIMEDOUT);
	link_fini(link);
	close(peer);
	free(link);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame_that_stops_half_way_is_a_time_out_at_every_byte),
		cmocka_unit_test(peer_that_takes_nothing_is_a_time_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
