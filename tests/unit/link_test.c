/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link_test.c - frames over real socket pairs and TCP: what arrives is what was sent, byte by byte
 * or at once; no changed, repeated, moved or reflected frame gets through; waits end when they
 * must.
 */
#include "unit.h"

#include "base/clock.h"
#include "base/sys.h"
#include "session/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#define MS ((uint64_t)NS_PER_MS)

/* ------------------------------------------------ links to test ------------------------------- */

static const struct link_keys client_keys = {
	.out = { .byte = { 0xc1, 0x1e } },
	.in = { .byte = { 0x5e, 0x74 } },
};
static const struct link_keys server_keys = {
	.out = { .byte = { 0x5e, 0x74 } },
	.in = { .byte = { 0xc1, 0x1e } },
};

static struct link *link_over(int fd, int abort_fd, const struct link_keys *keys)
{
	struct link *link = malloc(sizeof(*link));

	assert_non_null(link);
	assert_int_equal(link_init(link, fd, abort_fd), 0);
	if (keys)
		assert_int_equal(link_secure(link, keys), 0);
	return link;
}

static void link_drop(struct link *link)
{
	link_fini(link);
	free(link);
}

static void make_pair(int ret_fd[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_fd), 0);
}

static void make_tcp_pair(int ret_fd[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	ret_fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(ret_fd[0], (struct sockaddr *)&address, sizeof(address)), 0);
	ret_fd[1] = accept(listener, NULL, NULL);
	assert_true(ret_fd[1] >= 0);
	close(listener);
}

static struct frame frame_need(uint32_t ranges)
{
	return (struct frame){ .type = FRAME_NEED, .id = 3, .length = ranges * WIRE_RANGE_BYTES };
}

static const struct frame ping = { .type = FRAME_PING, .id = 7 };

static void fill(uint8_t *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 31 + i / 251);
}

/* The bytes that one frame becomes as the count-th of a client; returns their number. */
static size_t record(unsigned count, const struct frame *frame, const void *payload,
	uint8_t *ret_bytes, size_t cap)
{
	int fd[2];
	struct link *link;
	ssize_t n;

	make_pair(fd);
	link = link_over(fd[0], -1, &client_keys);
	link->count_out = count;
	assert_int_equal(link_send(link, frame, payload), 0);
	n = recv(fd[1], ret_bytes, cap, 0);
	assert_true(n > 0 && (size_t)n < cap);
	link_drop(link);
	close(fd[1]);
	return (size_t)n;
}

/* What a server's link makes of bytes that are followed by the end of the stream. */
static int receive_bytes(const uint8_t *bytes, size_t length)
{
	struct frame frame = { 0xaa, 0xaa, 0xaa, 0xaa, 0xaa };
	struct link *link;
	int fd[2], r;

	make_pair(fd);
	assert_int_equal(send(fd[0], bytes, length, 0), (ssize_t)length);
	close(fd[0]);
	link = link_over(fd[1], -1, &server_keys);
	r = link_recv(link, &frame, 1000);
	if (r < 0)
		assert_int_equal(frame.type, 0xaa);
	link_drop(link);
	return r;
}

/* ------------------------------------------------ frames arrive ------------------------------- */

static void tags_equal_values_computed_elsewhere(void **state)
{
	static const struct link_keys keys = {
		.out = { .byte = { 0xa6, 0x43, 0x02, 0xcc, 0xa6, 0x4a, 0x73, 0x5d, 0x9f, 0x95, 0xc1,
				 0xb6, 0x8e, 0x2c, 0x60, 0xc3, 0x6b, 0xfd, 0x6d, 0xf7, 0x6b, 0x7b,
				 0x8e, 0x7f, 0xe7, 0xab, 0x9a, 0x9a, 0x0f, 0x7b, 0xea, 0x12 } },
	};
	static const uint8_t ping_tag[16] = { 0xfb, 0xd0, 0x40, 0xb3, 0x27, 0x83, 0x7d, 0x79, 0xca,
		0x1a, 0x8f, 0x5c, 0x3e, 0xa2, 0x38, 0x3a };
	static const uint8_t need_tag[16] = { 0xbe, 0x56, 0x3f, 0x8b, 0x9d, 0x55, 0x20, 0x49, 0xf7,
		0x4c, 0xd0, 0xeb, 0x59, 0xc4, 0xdf, 0x3f };
	static const uint8_t data_tag[16] = { 0x42, 0x88, 0x15, 0x91, 0x04, 0xba, 0x50, 0xbf, 0x6c,
		0x35, 0xe0, 0x36, 0x31, 0xf1, 0x31, 0x7d };
	const struct frame data = { .type = FRAME_DATA, .length = 100, .id = 3, .offset = 1 << 20 };
	const struct frame need = frame_need(1);
	uint8_t bytes[200], range[16];
	struct link *link;
	int fd[2];

	(void)state;
	make_pair(fd);
	link = link_over(fd[0], -1, &keys);
	put_le64(range, 1 << 20);
	put_le64(range + 8, 5);
	assert_int_equal(link_send(link, &ping, NULL), 0);
	assert_int_equal(link_send(link, &need, range), 0);
	assert_int_equal(link_send(link, &data, NULL), 0);
	assert_int_equal(recv(fd[1], bytes, sizeof(bytes), 0), 40 + 56 + 40);
	assert_memory_equal(bytes + 24, ping_tag, 16);
	assert_memory_equal(bytes + 40 + 24, need_tag, 16);
	assert_memory_equal(bytes + 80, range, 16);
	assert_memory_equal(bytes + 96 + 24, data_tag, 16);
	link_drop(link);
	close(fd[1]);
}

struct sending {
	struct link *link;
	const struct frame *frame;
	const void *payload;
	int result;
};

static void *send_in_thread(void *argument)
{
	struct sending *sending = argument;

	sending->result = link_send(sending->link, sending->frame, sending->payload);
	return NULL;
}

static void carry_frames_of_every_size(int fd[2])
{
	/* around what travels in one call, around a page, and the largest */
	static const uint32_t ranges[] = { 0, 1, 2, 253, 254, 255, 256, 257, 1000, 4095, 4096 };
	uint8_t *payload = malloc(FRAME_PAYLOAD_CAP);
	struct link *client = link_over(fd[0], -1, &client_keys);
	struct link *server = link_over(fd[1], -1, &server_keys);

	assert_non_null(payload);
	fill(payload, FRAME_PAYLOAD_CAP);
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
		struct frame frame = frame_need(ranges[i]), back;
		struct sending sending = { client, &frame, payload, 1 };
		pthread_t thread;
		assert_int_equal(pthread_create(&thread, NULL, send_in_thread, &sending), 0);
		assert_int_equal(link_recv(server, &back, -1), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(sending.result, 0);
		assert_int_equal(back.type, FRAME_NEED);
		assert_int_equal(back.id, 3);
		assert_int_equal(back.length, frame.length);
		assert_memory_equal(server->payload, payload, frame.length);
		assert_int_equal(link_recv(server, &back, 0), -EAGAIN);
		assert_int_equal(link_send(server, &ping, NULL), 0);
		assert_int_equal(link_recv(client, &back, -1), 0);
		assert_int_equal(back.type, FRAME_PING);
	}
	link_drop(client);
	link_drop(server);
	free(payload);
}

static void frames_of_every_size_arrive_over_a_socket_pair(void **state)
{
	int fd[2], small = 4096;

	(void)state;
	make_pair(
		fd); /* with a buffer that the largest do not fit into, so that the sender waits */
	assert_int_equal(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	carry_frames_of_every_size(fd);
}

static void frames_of_every_size_arrive_over_tcp(void **state)
{
	int fd[2];

	(void)state;
	make_tcp_pair(fd);
	carry_frames_of_every_size(fd);
}

static void raw_payloads_are_left_on_the_socket(void **state)
{
	const struct frame data = { .type = FRAME_DATA, .length = 5, .id = 1, .offset = 0 };
	struct link *client, *server;
	struct frame back;
	char raw[6] = "";
	int fd[2];

	(void)state;
	make_tcp_pair(fd);
	client = link_over(fd[0], -1, &client_keys);
	server = link_over(fd[1], -1, &server_keys);
	assert_int_equal(link_send(client, &data, NULL), 0); /* held back by MSG_MORE until now: */
	assert_int_equal(link_send_bytes(client, "bytes", 5, 0), 0);
	assert_int_equal(link_send(client, &ping, NULL), 0);
	assert_int_equal(link_recv(server, &back, 2000), 0);
	assert_int_equal(back.type, FRAME_DATA);
	assert_int_equal(back.length, 5);
	assert_int_equal(link_recv_bytes(server, raw, 5, 0), 0);
	assert_string_equal(raw, "bytes");
	assert_int_equal(link_recv(server, &back, 2000), 0);
	assert_int_equal(back.type, FRAME_PING);
	link_drop(client);
	link_drop(server);
}

struct dribble {
	int fd;
	const uint8_t *bytes;
	size_t length;
};

/* Writes the next byte only when the last one has been read. */
static void *dribble_in_thread(void *argument)
{
	struct dribble *dribble = argument;

	for (size_t i = 0; i < dribble->length; i++) {
		int unread = 1;
		if (send(dribble->fd, dribble->bytes + i, 1, MSG_NOSIGNAL) != 1)
			return argument;
		while (unread > 0 && ioctl(dribble->fd, SIOCOUTQ, &unread) == 0)
			(void)sched_yield();
	}
	return NULL;
}

static void frames_that_come_byte_by_byte_arrive_whole(void **state)
{
	uint8_t payload[64], bytes[400];
	struct frame need = frame_need(4), back;
	struct dribble dribble;
	struct link *server;
	pthread_t thread;
	void *failed;
	size_t length;
	int fd[2];

	(void)state;
	fill(payload, sizeof(payload));
	length = record(0, &need, payload, bytes, 200);
	length += record(1, &ping, NULL, bytes + length, 200);
	make_pair(fd);
	server = link_over(fd[1], -1, &server_keys);
	dribble = (struct dribble){ fd[0], bytes, length };
	assert_int_equal(pthread_create(&thread, NULL, dribble_in_thread, &dribble), 0);
	assert_int_equal(link_recv(server, &back, -1), 0);
	assert_int_equal(back.type, FRAME_NEED);
	assert_memory_equal(server->payload, payload, sizeof(payload));
	assert_int_equal(link_recv(server, &back, -1), 0);
	assert_int_equal(back.type, FRAME_PING);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	link_drop(server);
	close(fd[0]);
}

/* ------------------------------------------------ frames that must not arrive ----------------- */

static void every_flipped_bit_of_a_frame_is_refused(void **state)
{
	uint8_t bytes[512], range[16] = { 0 };
	struct frame need = frame_need(1);
	size_t length;

	(void)state;
	range[8] = 1;
	length = record(0, &need, range, bytes, sizeof(bytes));
	assert_int_equal(length, 56);
	assert_int_equal(receive_bytes(bytes, length), 0);
	for (size_t bit = 0; bit < 8 * length; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		int r = receive_bytes(bytes, length);
		/* a length that grew makes the link wait for bytes that do not come */
		bool in_length = bit / 8 >= 4 && bit / 8 < 8;
		if (r != -EPROTO && r != -EBADMSG && !(in_length && r == -ECONNRESET))
			fail_msg("bit %zu: %d", bit, r);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(receive_bytes(bytes, length), 0);
}

static void every_flipped_bit_of_a_raw_head_is_refused(void **state)
{
	const struct frame data = {
		.type = FRAME_DATA, .length = 4096, .id = 5, .offset = 1 << 20
	};
	uint8_t bytes[64];

	(void)state;
	assert_int_equal(record(0, &data, NULL, bytes, sizeof(bytes)), 40);
	assert_int_equal(receive_bytes(bytes, 40), 0);
	for (size_t bit = 0; bit < 8 * 40; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		int r = receive_bytes(bytes, 40);
		/* with another type bit it may be a frame whose payload is missing */
		if (r != -EPROTO && r != -EBADMSG && !(bit < 8 && r == -ECONNRESET))
			fail_msg("bit %zu: %d", bit, r);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void repeated_missing_and_moved_frames_are_refused(void **state)
{
	const struct frame pong = { .type = FRAME_PONG, .id = 7 };
	uint8_t first[64], second[64];
	static const char *const orders[] = { "1", "11", "2", "21", "12", "122", "121" };
	static const int expected[] = { 0, -EBADMSG, -EBADMSG, -EBADMSG, 0, -EBADMSG, -EBADMSG };

	(void)state;
	assert_int_equal(record(0, &ping, NULL, first, sizeof(first)), 40);
	assert_int_equal(record(1, &pong, NULL, second, sizeof(second)), 40);
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		struct link *server;
		struct frame back;
		int fd[2], r = 0;
		make_pair(fd);
		server = link_over(fd[1], -1, &server_keys);
		for (const char *c = orders[i]; *c; c++)
			assert_int_equal(send(fd[0], *c == '1' ? first : second, 40, 0), 40);
		for (size_t j = 0; r == 0 && orders[i][j]; j++)
			r = link_recv(server, &back, 1000);
		if (r != expected[i])
			fail_msg("order %s: %d", orders[i], r);
		link_drop(server);
		close(fd[0]);
	}
}

static void own_frames_sent_back_are_refused(void **state)
{
	struct link *client;
	uint8_t bytes[64];
	struct frame back;
	int fd[2];

	(void)state;
	make_pair(fd);
	client = link_over(fd[0], -1, &client_keys);
	assert_int_equal(link_send(client, &ping, NULL), 0);
	assert_int_equal(recv(fd[1], bytes, sizeof(bytes), 0), 40);
	assert_int_equal(send(fd[1], bytes, 40, 0), 40);
	assert_int_equal(link_recv(client, &back, 1000), -EBADMSG);
	link_drop(client);
	close(fd[1]);
}

static void streams_cut_at_every_byte_are_a_broken_connection(void **state)
{
	uint8_t bytes[512], range[16] = { 0 };
	struct frame need = frame_need(1);

	(void)state;
	assert_int_equal(record(0, &need, range, bytes, sizeof(bytes)), 56);
	for (size_t length = 0; length < 56; length++)
		assert_int_equal(receive_bytes(bytes, length), -ECONNRESET);
}

static void lengths_over_the_cap_are_refused_before_any_payload(void **state)
{
	static const uint32_t lengths[] = { 65537, 65552, 0x01000000, 0x80000000, UINT32_MAX };
	uint8_t bytes[40] = { FRAME_NEED };

	(void)state;
	bytes[8] = 1;
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct link *server;
		struct frame back;
		int fd[2];
		put_le32(bytes + 4, lengths[i]);
		make_pair(fd); /* stays open: waiting for a payload would be a time-out */
		server = link_over(fd[1], -1, &server_keys);
		assert_int_equal(send(fd[0], bytes, sizeof(bytes), 0), 40);
		assert_int_equal(link_recv(server, &back, 1000), -EPROTO);
		link_drop(server);
		close(fd[0]);
	}
}

/* ------------------------------------------------ waiting ------------------------------------- */

static void receiving_waits_as_long_as_it_is_told(void **state)
{
	struct link *server;
	struct frame back;
	uint64_t begin;
	int fd[2];

	(void)state;
	make_pair(fd);
	server = link_over(fd[1], -1, &server_keys);
	begin = clock_now_ns();
	assert_int_equal(link_recv(server, &back, 0), -EAGAIN);
	assert_true(clock_now_ns() - begin < 1000 * MS);
	begin = clock_now_ns();
	assert_int_equal(link_recv(server, &back, 50), -EAGAIN);
	assert_true(clock_now_ns() - begin >= 50 * MS);
	assert_true(clock_now_ns() - begin < 5000 * MS);
	link_drop(server);
	close(fd[0]);
}

static void bytes_that_stop_coming_end_at_the_deadline(void **state)
{
	uint64_t begin, deadline;
	struct link *server;
	uint8_t bytes[8];
	int fd[2];

	(void)state;
	make_pair(fd);
	server = link_over(fd[1], -1, NULL);
	assert_int_equal(send(fd[0], "four", 4, 0), 4);
	begin = clock_now_ns();
	deadline = begin + 50 * MS;
	assert_int_equal(link_recv_bytes(server, bytes, 8, deadline), -ETIMEDOUT);
	assert_true(clock_now_ns() >= deadline);
	assert_true(clock_now_ns() - begin < 5000 * MS);
	assert_int_equal(link_recv_bytes(server, bytes, 1, 1), -ETIMEDOUT); /* long past */
	link_drop(server);
	close(fd[0]);
}

static void *trickle_in_thread(void *argument)
{
	const int *fd = argument;

	for (int i = 0; i < 400; i++) {
		struct timespec pause = { .tv_nsec = 5 * NS_PER_MS };
		if (send(*fd, "x", 1, MSG_NOSIGNAL) != 1)
			break;
		(void)nanosleep(&pause, NULL);
	}
	return NULL;
}

static void bytes_that_trickle_do_not_move_the_deadline(void **state)
{
	uint8_t bytes[1000];
	struct link *server;
	pthread_t thread;
	uint64_t begin;
	int fd[2];

	(void)state;
	make_pair(fd);
	server = link_over(fd[1], -1, NULL);
	assert_int_equal(pthread_create(&thread, NULL, trickle_in_thread, &fd[0]), 0);
	begin = clock_now_ns();
	assert_int_equal(
		link_recv_bytes(server, bytes, sizeof(bytes), begin + 60 * MS), -ETIMEDOUT);
	assert_true(clock_now_ns() - begin < 1500 * MS); /* well before the trickle ends */
	link_drop(server);
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(fd[0]);
}

static void sending_into_a_full_socket_ends_at_the_deadline(void **state)
{
	static uint8_t bytes[4 << 20];
	struct link *client;
	uint64_t begin;
	int fd[2];

	(void)state;
	make_pair(fd);
	client = link_over(fd[0], -1, NULL);
	begin = clock_now_ns();
	assert_int_equal(
		link_send_bytes(client, bytes, sizeof(bytes), begin + 50 * MS), -ETIMEDOUT);
	assert_true(clock_now_ns() - begin >= 50 * MS);
	link_drop(client);
	close(fd[1]);
}

static void abort_ends_receiving_even_when_frames_are_there(void **state)
{
	int abort_fd = eventfd(1, EFD_CLOEXEC), fd[2];
	uint8_t bytes[64];
	struct link *server;
	struct frame back;

	(void)state;
	assert_true(abort_fd >= 0);
	assert_int_equal(record(0, &ping, NULL, bytes, sizeof(bytes)), 40);
	make_pair(fd);
	server = link_over(fd[1], abort_fd, &server_keys);
	assert_int_equal(link_recv(server, &back, -1), -ECANCELED);
	assert_int_equal(send(fd[0], bytes, 40, 0), 40);
	assert_int_equal(link_recv(server, &back, 0), -ECANCELED);
	assert_int_equal(link_recv_bytes(server, bytes, 41, 0), -ECANCELED);
	link_drop(server);
	close(fd[0]);
	close(abort_fd);
}

static void abort_ends_sending_only_when_the_socket_is_full(void **state)
{
	static uint8_t bytes[4 << 20];
	int abort_fd = eventfd(1, EFD_CLOEXEC), fd[2];
	struct link *client;

	(void)state;
	assert_true(abort_fd >= 0);
	make_pair(fd);
	client = link_over(fd[0], abort_fd, &client_keys);
	assert_int_equal(link_send(client, &ping, NULL), 0);
	assert_int_equal(link_send_bytes(client, bytes, sizeof(bytes), 0), -ECANCELED);
	assert_int_equal(link_send(client, &ping, NULL), -ECANCELED);
	link_drop(client);
	close(fd[1]);
	close(abort_fd);
}

static void *abort_in_thread(void *argument)
{
	const int *abort_fd = argument;
	struct timespec pause = { .tv_nsec = 30 * NS_PER_MS };

	(void)nanosleep(&pause, NULL);
	return eventfd_write(*abort_fd, 1) == 0 ? NULL : argument;
}

static void abort_wakes_a_receiver_that_already_waits(void **state)
{
	int abort_fd = eventfd(0, EFD_CLOEXEC), fd[2];
	struct link *server;
	struct frame back;
	pthread_t thread;

	(void)state;
	assert_true(abort_fd >= 0);
	make_pair(fd);
	server = link_over(fd[1], abort_fd, &server_keys);
	assert_int_equal(pthread_create(&thread, NULL, abort_in_thread, &abort_fd), 0);
	assert_int_equal(link_recv(server, &back, -1), -ECANCELED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	link_drop(server);
	close(fd[0]);
	close(abort_fd);
}

static void a_peer_that_has_gone_is_a_reset_on_both_ways(void **state)
{
	struct link *client;
	uint8_t byte;
	struct frame back;
	int fd[2];

	(void)state;
	make_pair(fd);
	client = link_over(fd[0], -1, &client_keys);
	close(fd[1]);
	assert_int_equal(link_recv(client, &back, -1), -ECONNRESET);
	assert_int_equal(link_recv_bytes(client, &byte, 1, 0), -ECONNRESET);
	assert_int_equal(link_send(client, &ping, NULL), -ECONNRESET); /* and no SIGPIPE */
	assert_int_equal(link_send_bytes(client, "x", 1, 0), -ECONNRESET);
	link_drop(client);
}

static void ending_a_link_closes_its_socket_once(void **state)
{
	size_t before = open_descriptors();
	struct link *link = calloc(1, sizeof(*link));
	int fd[2];

	(void)state;
	assert_non_null(link);
	link->fd = -1;
	link_fini(link); /* never begun */
	make_pair(fd);
	assert_int_equal(link_init(link, fd[0], -1), 0);
	assert_true(fcntl(fd[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(link_secure(link, &client_keys), 0);
	link_fini(link);
	assert_int_equal(link->fd, -1);
	link_fini(link);
	close(fd[1]);
	assert_int_equal(open_descriptors(), before);
	free(link);
}

/* ------------------------------------------------ our own bugs -------------------------------- */

static void send_before_secure(void)
{
	int fd[2];
	struct link *link = malloc(sizeof(*link));

	if (!link || socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0 || link_init(link, fd[0], -1) < 0)
		_exit(0);
	if (link_send(link, &ping, NULL) == 0)
		_exit(0);
}

static void a_frame_is_never_sent_without_a_tag(void **state)
{
	(void)state;
	assert_stops_the_program(send_before_secure);
}

/* ------------------------------------------------ faults -------------------------------------- */

struct talk {
	int fd[2];
	int client_result;
	int server_result;
};

static uint8_t big_payload[FRAME_PAYLOAD_CAP];

static int talk_of_client(struct link *client)
{
	const struct frame data = { .type = FRAME_DATA, .length = 3000, .id = 3, .offset = 0 };
	const struct frame need = frame_need(WIRE_RANGES_MAX);
	struct frame back;
	int r;

	r = link_send_bytes(client, big_payload, HELLO_BYTES, clock_now_ns() + 20000 * MS);
	if (r == 0)
		r = link_secure(client, &client_keys);
	if (r == 0)
		r = link_send(client, &ping, NULL);
	if (r == 0)
		r = link_send(client, &need, big_payload);
	if (r == 0)
		r = link_send(client, &data, NULL);
	if (r == 0)
		r = link_send_bytes(client, big_payload, 3000, 0);
	if (r == 0)
		r = link_recv(client, &back, -1);
	return r < 0 ? r : back.type == FRAME_PONG ? 0 : -EINVAL;
}

static int talk_of_server(struct link *server)
{
	const struct frame pong = { .type = FRAME_PONG, .id = 7 };
	struct frame back;
	uint8_t raw[3000];
	int r;

	r = link_recv_bytes(server, raw, HELLO_BYTES, clock_now_ns() + 20000 * MS);
	if (r == 0 && memcmp(raw, big_payload, HELLO_BYTES) != 0)
		return -EINVAL;
	if (r == 0)
		r = link_secure(server, &server_keys);
	if (r == 0)
		r = link_recv(server, &back, -1);
	if (r == 0 && back.type != FRAME_PING)
		return -EINVAL;
	if (r == 0)
		r = link_recv(server, &back, -1);
	if (r == 0 && memcmp(server->payload, big_payload, FRAME_PAYLOAD_CAP) != 0)
		return -EINVAL;
	if (r == 0)
		r = link_recv(server, &back, -1);
	if (r == 0)
		r = link_recv_bytes(server, raw, back.length, 0);
	if (r == 0 && memcmp(raw, big_payload, sizeof(raw)) != 0)
		return -EINVAL;
	return r == 0 ? link_send(server, &pong, NULL) : r;
}

static int talk_of(int fd, int (*body)(struct link *link))
{
	struct link *link = malloc(sizeof(*link));
	int r;

	if (!link) {
		close(fd);
		return -ENOMEM;
	}
	r = link_init(link, fd, -1);
	if (r == 0)
		r = body(link);
	link_drop(link); /* a side that fails hangs up, and the other one sees it */
	return r;
}

static void *talk_in_thread(void *argument)
{
	struct talk *talk = argument;

	talk->server_result = talk_of(talk->fd[1], talk_of_server);
	return NULL;
}

/* One whole conversation under a fault; returns how often the fault struck. */
static uint64_t talk_under(const struct sys_fault *fault, struct talk *ret_talk)
{
	size_t before = open_descriptors();
	int small = 4096;
	uint64_t struck;
	pthread_t thread;

	make_pair(ret_talk->fd);
	assert_int_equal(
		setsockopt(ret_talk->fd[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	sys_fault_arm(fault);
	assert_int_equal(pthread_create(&thread, NULL, talk_in_thread, ret_talk), 0);
	ret_talk->client_result = talk_of(ret_talk->fd[0], talk_of_client);
	assert_int_equal(pthread_join(thread, NULL), 0);
	struck = sys_fault_struck();
	sys_fault_arm(NULL);
	assert_int_equal(open_descriptors(), before);
	return struck;
}

static void talking_under_any_failing_call_leaks_nothing_and_never_succeeds(void **state)
{
	uint64_t nth;

	(void)state;
	fill(big_payload, sizeof(big_payload));
	for (nth = 1; nth < 10000; nth++) {
		struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_CALL_COUNT, EIO, nth, 1 };
		struct talk talk;
		if (talk_under(&fault, &talk) == 0) {
			assert_int_equal(talk.client_result, 0);
			assert_int_equal(talk.server_result, 0);
			break;
		}
		/* one of them saw the fault itself, and no one took wrong bytes for right ones */
		assert_true(talk.client_result == -EIO || talk.server_result == -EIO);
		assert_int_not_equal(talk.client_result, -EINVAL);
		assert_int_not_equal(talk.server_result, -EINVAL);
		assert_true(talk.client_result != 0);
	}
	assert_true(nth > 15 && nth < 10000);
}

static void talking_survives(const struct sys_fault *fault)
{
	struct talk talk;

	(void)talk_under(fault, &talk);
	assert_int_equal(talk.client_result, 0);
	assert_int_equal(talk.server_result, 0);
}

static void talking_survives_short_interrupted_and_full_at_every_call(void **state)
{
	static const struct sys_fault faults[] = {
		{ SYS_FAULT_SHORT, SYS_CALL_COUNT, 0, 1, 1 },
		{ SYS_FAULT_EINTR, SYS_CALL_COUNT, 0, 1, 1 },
		{ SYS_FAULT_ERRNO, SYS_SEND, EAGAIN, 1, 1 },
		{ SYS_FAULT_ERRNO, SYS_RECV, EAGAIN, 1, 1 },
	};

	(void)state;
	fill(big_payload, sizeof(big_payload));
	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		for (uint64_t nth = 1; nth <= 60; nth++) {
			struct sys_fault fault = faults[i];
			fault.nth = nth;
			talking_survives(&fault);
		}
}

static void talking_survives_when_every_call_is_short(void **state)
{
	static const struct sys_fault all = { SYS_FAULT_SHORT, SYS_CALL_COUNT, 0, 1, 0 };

	(void)state;
	fill(big_payload, sizeof(big_payload));
	talking_survives(&all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tags_equal_values_computed_elsewhere),
		cmocka_unit_test(frames_of_every_size_arrive_over_a_socket_pair),
		cmocka_unit_test(frames_of_every_size_arrive_over_tcp),
		cmocka_unit_test(raw_payloads_are_left_on_the_socket),
		cmocka_unit_test(frames_that_come_byte_by_byte_arrive_whole),
		cmocka_unit_test(every_flipped_bit_of_a_frame_is_refused),
		cmocka_unit_test(every_flipped_bit_of_a_raw_head_is_refused),
		cmocka_unit_test(repeated_missing_and_moved_frames_are_refused),
		cmocka_unit_test(own_frames_sent_back_are_refused),
		cmocka_unit_test(streams_cut_at_every_byte_are_a_broken_connection),
		cmocka_unit_test(lengths_over_the_cap_are_refused_before_any_payload),
		cmocka_unit_test(receiving_waits_as_long_as_it_is_told),
		cmocka_unit_test(bytes_that_stop_coming_end_at_the_deadline),
		cmocka_unit_test(bytes_that_trickle_do_not_move_the_deadline),
		cmocka_unit_test(sending_into_a_full_socket_ends_at_the_deadline),
		cmocka_unit_test(abort_ends_receiving_even_when_frames_are_there),
		cmocka_unit_test(abort_ends_sending_only_when_the_socket_is_full),
		cmocka_unit_test(abort_wakes_a_receiver_that_already_waits),
		cmocka_unit_test(a_peer_that_has_gone_is_a_reset_on_both_ways),
		cmocka_unit_test(ending_a_link_closes_its_socket_once),
		cmocka_unit_test(a_frame_is_never_sent_without_a_tag),
		cmocka_unit_test(talking_under_any_failing_call_leaks_nothing_and_never_succeeds),
		cmocka_unit_test(talking_survives_short_interrupted_and_full_at_every_call),
		cmocka_unit_test(talking_survives_when_every_call_is_short),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
