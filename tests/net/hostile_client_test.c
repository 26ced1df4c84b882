/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile_client_test.c - what a client can do to a server, before and after it has proved itself.
 * Whatever it was, the server goes on serving others, and nothing is written that was not asked for
 * by the rules.
 */
#include "host.h"

#include "base/sys.h"
#include "store/xattrs.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define GONE_MS  30000 /* thousands of partials take a slow disk a while to remove */
#define FILE_MIB 3
#define LEAF     ((uint32_t)LEAF_BYTES)

static struct peer control, data, other; /* large */

static const struct wire_file small_file = {
	.size = 100000, .mtime_s = 1000000000, .mode = 0644, .name = "target"
};
static const struct wire_file large_file = {
	.size = FILE_MIB * (uint64_t)LEAF_BYTES + 5, .mtime_s = 1, .mode = 0644, .name = "target"
};

/* ------------------------------ what is expected --------------------------------------- */

/* The server says why it ends the session, and closes. */
static void ends_with(struct peer *peer, enum zh_outcome outcome)
{
	uint64_t start = now_ms();
	struct wire_err err;
	int r;

	do {
		r = peer_get(peer, PEER_WAIT_MS);
	} while (r == 0 && !(peer->frame.type == FRAME_ERR && peer->frame.id == 0));
	assert_int_equal(r, 0);
	assert_int_equal(wire_parse_err(peer->payload, peer->frame.length, &err), 0);
	if (err.outcome != outcome)
		print_message("# %s: %s\n", err.stage, err.text);
	assert_int_equal(err.outcome, outcome);
	assert_true(peer_wait_closed(peer, 2000) >= 0);
	assert_true(now_ms() - start < 2500);
	peer_close(peer);
}

/* The server gives up one file and the session goes on. */
static void file_fails(struct peer *peer, uint64_t id, enum zh_outcome outcome)
{
	struct wire_err err;

	do {
		assert_int_equal(peer_get_news(peer, PEER_WAIT_MS), 0);
	} while (peer->frame.type == FRAME_NEED || peer->frame.type == FRAME_NAK);
	assert_int_equal(peer->frame.type, FRAME_ERR);
	assert_int_equal(peer->frame.id, id);
	assert_int_equal(wire_parse_err(peer->payload, peer->frame.length, &err), 0);
	assert_int_equal(err.outcome, outcome);
}

static void expect(struct peer *peer, enum frame_type type, uint64_t id)
{
	assert_int_equal(peer_get_news(peer, PEER_WAIT_MS), 0);
	assert_int_equal(peer->frame.type, type);
	assert_int_equal(peer->frame.id, id);
}

/* No sanitizer with memory of its own is in the way. */
static bool is_bare(void)
{
	return getenv("ZH_SANITIZED") == NULL;
}

/* Everything that was said so far has been dealt with. */
static void wait_until_read(struct peer *peer)
{
	assert_true(peer_put_least(peer, FRAME_PING, 1));
	do {
		assert_int_equal(peer_get(peer, PEER_WAIT_MS), 0);
	} while (peer->frame.type != FRAME_PONG);
}

/* FILE, and the NEED that answers it. */
static void announce(struct peer *peer, uint64_t id, const struct wire_file *file)
{
	assert_true(peer_put_file(peer, id, file, 0));
	expect(peer, FRAME_NEED, id);
}

/* A session with one file announced, and one data connection. */
static void begin_push(const struct host *host, const struct wire_file *file)
{
	host_open_push(host, &control);
	announce(&control, 1, file);
	assert_int_equal(host_attach(host, &control, HELLO_PUSH, 0, &data), 0);
}

static void send_leaf(struct peer *peer, uint64_t id, uint64_t leaf, uint64_t size)
{
	uint64_t offset = leaf * LEAF_BYTES;
	uint32_t length = (uint32_t)min_u64(LEAF_BYTES, size - offset);

	assert_true(peer_put_data(peer, id, offset, length, 5));
	assert_true(peer_put_sum(peer, id, offset, length, size, 5));
}

/* Sends a whole file by the rules, from its NEED to its ACK. */
static void send_file(struct peer *on, struct peer *over, uint64_t id, const struct wire_file *file)
{
	struct digest root = content_root(file->size, 5);

	for (uint64_t leaf = 0; leaf < leaf_count(file->size); leaf++)
		send_leaf(over, id, leaf, file->size);
	assert_true(peer_put_end(on, id, file, &root));
	expect(on, FRAME_ACK, id);
}

static void say_goodbye(struct peer *peer)
{
	assert_true(peer_put_bye(peer));
	expect(peer, FRAME_BYE, 0);
	assert_true(peer_wait_closed(peer, 2000) >= 0);
	peer_close(peer);
}

/* The rest of a session that an attack must not have ended. */
static void finish_push(const struct wire_file *file)
{
	send_file(&control, &data, 1, file);
	peer_close(&data);
	say_goodbye(&control);
}

static void target_is_gone_after(struct host *host, int root)
{
	struct stat st;

	assert_int_equal(fstatat(root, "target", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(unlinkat(host->arena->root, "target", 0), 0);
}

static void end_well(struct host *host, size_t expected_names)
{
	peer_close(&control);
	peer_close(&data);
	peer_close(&other);
	host_is_well(host, expected_names, GONE_MS);
	host_stop(host);
}

static void begin(struct host *host, void **state, unsigned flags)
{
	control.fd = data.fd = other.fd = -1;
	host_start(host, arena_of(state), flags);
}

/* ------------------------------ before a proof ----------------------------------------- */

static void what_is_no_hello_is_closed_within_a_second(void **state)
{
	static const char tls_hello[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
	static const char *const texts[] = { "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"SSH-2.0-OpenSSH_9.2\r\n", "ze", "zerohau!", tls_hello };
	uint64_t seed = test_seed();
	uint8_t bytes[4096] = { 0 };
	struct host host;

	begin(&host, state, HOST_KEY);
	for (size_t i = 0; i < 60; i++) {
		size_t length = 1 + random_next(&seed) % sizeof(bytes);
		if (i < ARRAY_LEN(texts)) {
			length = strlen(texts[i]);
			memcpy(bytes, texts[i], length);
		} else if (i > ARRAY_LEN(texts)) { /* once: nothing but zeros */
			random_fill(bytes, sizeof(bytes), seed, 0);
		} else {
			memset(bytes, 0, sizeof(bytes));
		}
		control.fd = peer_dial(host.port, NULL);
		assert_true(peer_write(&control, bytes, length));
		if (i < ARRAY_LEN(texts) && strncmp(texts[i], "zerohaul", length) == 0)
			assert_int_equal(peer_wait_closed(&control, 200), PEER_SILENT);
		else
			assert_true(peer_wait_closed(&control, 1000) >= 0);
		peer_close(&control);
	}
	end_well(&host, 0);
}

static void a_log_is_not_flooded_by_strangers(void **state)
{
	struct host host;
	struct stat st;

	begin(&host, state, HOST_KEY);
	for (size_t i = 0; i < 300; i++) {
		control.fd = peer_dial(host.port, NULL);
		(void)peer_write(&control, "\x1b[2J\x07", 5);
		assert_true(peer_wait_closed(&control, 1000) >= 0);
		peer_close(&control);
	}
	assert_int_equal(stat(host.log_path, &st), 0);
	assert_true(st.st_size < 10000);
	assert_false(host_log_has(&host, "\x1b"));
	end_well(&host, 0);
}

static void field_by_field_a_hello_has_to_be_right(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} rows[] = { { 0, 'Z' }, { 8, 0 }, { 8, 3 }, { 8, 255 }, { 9, 0 }, { 9, 3 }, { 10, 2 },
		{ 11, 0 }, { 11, 3 }, { 12, 0 }, { 14, 0 }, { 24, 1 }, { 28, 1 }, { 31, 1 },
		{ 32, 1 }, { 47, 1 }, { 80, 1 }, { 127, 1 } };
	struct hello hello = peer_hello(HELLO_CONTROL, HELLO_AUTH_PSK, HELLO_PUSH);
	uint8_t bytes[HELLO_BYTES];
	struct host host;

	begin(&host, state, HOST_KEY);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		wire_build_hello(&hello, bytes);
		bytes[rows[i].at] = rows[i].value;
		control.fd = peer_dial(host.port, NULL);
		assert_int_equal(peer_greet(&control, bytes), PEER_CLOSED);
		peer_close(&control);
	}
	end_well(&host, 0);
}

static void what_cannot_be_agreed_on_is_refused_with_its_reason(void **state)
{
	static const struct {
		uint16_t version_min, version_max;
		uint32_t required, optional;
		uint8_t link, auth;
		int answer;
	} rows[] = {
		{ 2, 3, 0, 0, HELLO_LINK_PLAIN, HELLO_AUTH_PSK, ZH_VERSION },
		{ 65535, 65535, 0, 0, HELLO_LINK_PLAIN, HELLO_AUTH_PSK, ZH_VERSION },
		{ 1, 65535, 0, 0, HELLO_LINK_PLAIN, HELLO_AUTH_PSK, 0 },
		{ 1, 1, 1, 0, HELLO_LINK_PLAIN, HELLO_AUTH_PSK, ZH_VERSION },
		{ 1, 1, 0x80000000u, 0, HELLO_LINK_PLAIN, HELLO_AUTH_PSK, ZH_VERSION },
		{ 1, 1, 0, 0xffffffffu, HELLO_LINK_PLAIN, HELLO_AUTH_PSK, 0 },
		{ 1, 1, 0, 0, HELLO_LINK_TLS, HELLO_AUTH_PSK, ZH_POLICY },
		{ 1, 1, 0, 0, HELLO_LINK_PLAIN, HELLO_AUTH_NONE, ZH_POLICY },
	};
	struct wire_refusal refusal;
	uint8_t bytes[HELLO_BYTES];
	struct host host;

	begin(&host, state, HOST_KEY);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct hello hello =
			peer_hello(HELLO_CONTROL, (enum hello_auth)rows[i].auth, HELLO_PUSH);
		hello.version_min = rows[i].version_min;
		hello.version_max = rows[i].version_max;
		hello.required = rows[i].required;
		hello.optional = rows[i].optional;
		hello.link = rows[i].link;
		wire_build_hello(&hello, bytes);
		control.fd = peer_dial(host.port, NULL);
		assert_int_equal(peer_greet(&control, bytes), rows[i].answer);
		if (rows[i].answer) {
			assert_int_equal(wire_parse_refusal(control.server_hello, &refusal), 0);
			assert_int_equal(refusal.version_min, WIRE_VERSION);
			assert_int_equal(refusal.version_max, WIRE_VERSION);
			assert_true(peer_wait_closed(&control, 1000) >= 0);
		} else {
			/* nothing that this version does not know is agreed on */
			assert_int_equal(get_le32(control.server_hello + 20), 0);
		}
		peer_close(&control);
	}
	end_well(&host, 0);
}

static void a_wrong_key_is_refused_within_a_second(void **state)
{
	struct hello hello = peer_hello(HELLO_CONTROL, HELLO_AUTH_PSK, HELLO_PUSH);
	uint8_t bytes[HELLO_BYTES];
	struct auth_key key = { .length = 16 };
	uint64_t start;
	struct host host;

	begin(&host, state, HOST_KEY);
	wire_build_hello(&hello, bytes);
	for (size_t i = 0; i < 20; i++) {
		start = now_ms();
		key.length = 16 + i * 50;
		if (i == 1) { /* one bit */
			key = host.key;
			key.byte[key.length - 1] ^= 1;
		}
		control.fd = peer_dial(host.port, NULL);
		assert_int_equal(peer_greet(&control, bytes), 0);
		assert_int_equal(peer_prove_control(&control, &key), ZH_AUTH);
		assert_true(peer_wait_closed(&control, 1000) >= 0);
		assert_true(now_ms() - start < 1000);
		peer_close(&control);
	}
	end_well(&host, 0);
}

static void a_recorded_handshake_is_worth_nothing(void **state)
{
	uint8_t hello[HELLO_BYTES], proof[PROOF_BYTES];
	enum zh_outcome outcome;
	struct host host;

	begin(&host, state, HOST_KEY);
	host_connect(&host, HELLO_PUSH, &control);
	memcpy(hello, control.client_hello, HELLO_BYTES);
	assert_int_equal(auth_proof(host.key.byte, host.key.length, HELLO_CONTROL, true,
				 control.client_hello, control.server_hello, proof),
		0);
	other.fd = peer_dial(host.port, NULL);
	assert_int_equal(peer_greet(&other, hello), 0);
	assert_memory_not_equal(other.server_hello, control.server_hello, HELLO_BYTES);
	assert_true(peer_write(&other, proof, PROOF_BYTES));
	assert_int_equal(peer_read(&other, proof, PROOF_BYTES, 1000), 0);
	assert_int_equal(wire_parse_proof_refusal(proof, &outcome), 0);
	assert_int_equal(outcome, ZH_AUTH);
	assert_true(peer_wait_closed(&other, 1000) >= 0);
	end_well(&host, 0);
}

static void a_message_sent_back_proves_nothing(void **state)
{
	struct hello hello = peer_hello(HELLO_CONTROL, HELLO_AUTH_PSK, HELLO_PUSH);
	uint8_t bytes[HELLO_BYTES], proof[PROOF_BYTES];
	enum zh_outcome outcome;
	struct host host;

	begin(&host, state, HOST_KEY);
	wire_build_hello(&hello, bytes);
	control.fd = peer_dial(host.port, NULL);
	assert_int_equal(peer_greet(&control, bytes), 0);
	/* the server's HELLO as a client's: a number of a session is not a client's to choose */
	other.fd = peer_dial(host.port, NULL);
	assert_int_equal(peer_greet(&other, control.server_hello), PEER_CLOSED);
	peer_close(&other);
	/* the proof that the server would give, from one who held the key for another side */
	assert_int_equal(auth_proof(host.key.byte, host.key.length, HELLO_CONTROL, false,
				 control.client_hello, control.server_hello, proof),
		0);
	assert_true(peer_write(&control, proof, PROOF_BYTES));
	assert_int_equal(peer_read(&control, proof, PROOF_BYTES, 1000), 0);
	assert_int_equal(wire_parse_proof_refusal(proof, &outcome), 0);
	assert_int_equal(outcome, ZH_AUTH);
	/* and the one for a data connection */
	peer_close(&control);
	control.fd = peer_dial(host.port, NULL);
	assert_int_equal(peer_greet(&control, bytes), 0);
	assert_int_equal(auth_proof(host.key.byte, host.key.length, HELLO_DATA, true,
				 control.client_hello, control.server_hello, proof),
		0);
	assert_true(peer_write(&control, proof, PROOF_BYTES));
	assert_int_equal(peer_read(&control, proof, PROOF_BYTES, 1000), 0);
	assert_int_equal(wire_parse_proof_refusal(proof, &outcome), 0);
	end_well(&host, 0);
}

static void nothing_but_a_proof_follows_a_hello(void **state)
{
	struct hello hello = peer_hello(HELLO_CONTROL, HELLO_AUTH_PSK, HELLO_PUSH);
	uint8_t bytes[2 * HELLO_BYTES], proof[PROOF_BYTES];
	enum zh_outcome outcome;
	struct host host;

	begin(&host, state, HOST_KEY);
	wire_build_hello(&hello, bytes);
	wire_build_hello(&hello, bytes + HELLO_BYTES);
	/* HELLO twice, then a frame without a proof: their first 32 bytes are no proof */
	for (size_t i = 0; i < 2; i++) {
		control.fd = peer_dial(host.port, NULL);
		assert_int_equal(peer_greet(&control, bytes), 0);
		if (i == 0)
			assert_true(peer_write(&control, bytes, HELLO_BYTES));
		else
			assert_true(peer_put_least(&control, FRAME_SETUP, 0));
		if (peer_read(&control, proof, PROOF_BYTES, 1000) == 0) {
			assert_int_equal(wire_parse_proof_refusal(proof, &outcome), 0);
			assert_int_equal(outcome, ZH_AUTH);
		}
		assert_true(peer_wait_closed(&control, 1000) >= 0);
		peer_close(&control);
	}
	end_well(&host, 0);
}

/* ------------------------------ time --------------------------------------------------- */

enum { SILENT, SLOW, HELLO_ONLY, HALF_PROOF, LAZY_KINDS };

static void whoever_dawdles_is_closed_at_the_deadline(void **state)
{
	struct hello hello = peer_hello(HELLO_CONTROL, HELLO_AUTH_PSK, HELLO_PUSH);
	static struct peer lazy[LAZY_KINDS];
	uint64_t closed_ms[LAZY_KINDS] = { 0 };
	uint8_t bytes[HELLO_BYTES], unread[256];
	uint64_t start;
	struct host host;

	begin(&host, state, HOST_KEY);
	wire_build_hello(&hello, bytes);
	start = now_ms();
	for (size_t i = 0; i < LAZY_KINDS; i++)
		lazy[i].fd = peer_dial(host.port, NULL);
	assert_int_equal(peer_greet(&lazy[HELLO_ONLY], bytes), 0);
	assert_int_equal(peer_greet(&lazy[HALF_PROOF], bytes), 0);
	assert_true(peer_write(&lazy[HALF_PROOF], bytes, PROOF_BYTES / 2));
	for (size_t round = 0; now_ms() - start < 12000; round++) {
		(void)poll(NULL, 0, 200);
		if (round < HELLO_BYTES && !closed_ms[SLOW])
			(void)peer_write(&lazy[SLOW], bytes + round, 1);
		for (size_t i = 0; i < LAZY_KINDS; i++)
			if (!closed_ms[i] &&
				recv(lazy[i].fd, unread, sizeof(unread), MSG_DONTWAIT) != -1)
				closed_ms[i] = now_ms() - start;
			else if (!closed_ms[i] && errno == ECONNRESET)
				closed_ms[i] = now_ms() - start;
	}
	for (size_t i = 0; i < LAZY_KINDS; i++) {
		assert_in_range(closed_ms[i], LIMIT_HANDSHAKE_MS - 300, LIMIT_HANDSHAKE_MS + 1200);
		peer_close(&lazy[i]);
	}
	end_well(&host, 0);
}

/* Connects without a word from address 127.0.0.FIRST and so on. */
static void crowd(const struct host *host, int *ret_fds, size_t count, unsigned first, size_t each)
{
	char from[32];

	for (size_t i = 0; i < count; i++) {
		(void)snprintf(from, sizeof(from), "127.0.0.%u", first + (unsigned)(i / each));
		ret_fds[i] = peer_dial(host->port, from);
	}
}

static void crowd_leaves(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}

static void a_silent_crowd_does_not_delay_an_honest_client(void **state)
{
	static int fds[600];
	size_t still = 0;
	uint64_t start;
	struct host host;

	begin(&host, state, HOST_KEY);
	crowd(&host, fds, ARRAY_LEN(fds), 2, ARRAY_LEN(fds)); /* one address */
	start = now_ms();
	host_connect(&host, HELLO_PUSH, &control);
	assert_true(now_ms() - start < 1000);
	peer_close(&control);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		struct pollfd look = { .fd = fds[i], .events = POLLIN };
		still += poll(&look, 1, 0) == 0;
	}
	assert_int_equal(still, LIMIT_PENDING_PER_SOURCE);
	crowd_leaves(fds, ARRAY_LEN(fds));
	end_well(&host, 0);
}

static void a_crowd_from_many_addresses_does_not_keep_an_honest_client_out(void **state)
{
	static int fds[200];
	uint64_t start;
	struct host host;

	begin(&host, state, HOST_KEY);
	crowd(&host, fds, ARRAY_LEN(fds), 2, LIMIT_PENDING_PER_SOURCE);
	start = now_ms();
	for (int i = 0; i < 3; i++) {
		host_connect(&host, HELLO_PUSH, &control);
		peer_close(&control);
	}
	assert_true(now_ms() - start < 1000);
	crowd_leaves(fds, ARRAY_LEN(fds));
	end_well(&host, 0);
}

/* ------------------------------ data connections --------------------------------------- */

static void data_connections_are_for_who_has_proved_himself(void **state)
{
	struct hello hello = peer_hello(HELLO_CONTROL, HELLO_AUTH_PSK, HELLO_PUSH);
	uint8_t bytes[HELLO_BYTES];
	struct host host;

	begin(&host, state, HOST_KEY);
	wire_build_hello(&hello, bytes);
	control.fd = peer_dial(host.port, NULL);
	assert_int_equal(peer_greet(&control, bytes), 0); /* tells the session's number */
	for (int i = 0; i < 100; i++) {
		assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 0, &data), ZH_AUTH);
		peer_close(&data);
	}
	end_well(&host, 0);
}

static void a_wrong_data_connection_does_not_disturb_its_session(void **state)
{
	struct hello hello = peer_hello(HELLO_DATA, HELLO_AUTH_PSK, HELLO_PUSH);
	uint8_t bytes[HELLO_BYTES];
	struct host host;
	int r;

	begin(&host, state, HOST_KEY);
	host_open_push(&host, &control);
	announce(&control, 1, &small_file);
	/* of another session */
	wire_build_hello(&hello, bytes);
	other.fd = peer_dial(host.port, NULL);
	assert_int_equal(peer_greet(&other, bytes), ZH_AUTH);
	peer_close(&other);
	/* without its secret, on the number that is then used rightly */
	static struct peer fake;
	for (int i = 0; i < 30; i++) {
		fake = control;
		random_fill(fake.secret.byte, SECRET_BYTES, 3, 0);
		r = host_attach(&host, &fake, HELLO_PUSH, 0, &other);
		assert_true(r == ZH_AUTH || r == PEER_CLOSED);
		peer_close(&other);
	}
	/* of the other direction; beyond SETUP; beyond any */
	assert_true(host_attach(&host, &control, HELLO_PULL, 1, &other) != 0);
	peer_close(&other);
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 4, &other), PEER_CLOSED);
	peer_close(&other);
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 64, &other), PEER_CLOSED);
	peer_close(&other);
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, UINT32_MAX, &other), PEER_CLOSED);
	peer_close(&other);
	/* cut in its handshake */
	hello = peer_hello(HELLO_DATA, HELLO_AUTH_PSK, HELLO_PUSH);
	memcpy(hello.session, control.server_hello + 32, SESSION_ID_BYTES);
	wire_build_hello(&hello, bytes);
	for (r = -1; r != 0;) { /* the number is free when the server is done with the fakes */
		other.fd = peer_dial(host.port, NULL);
		r = peer_greet(&other, bytes);
		peer_reset(&other);
	}
	for (r = -1; r != 0;) { /* its number is free when the server has noticed */
		r = host_attach(&host, &control, HELLO_PUSH, 0, &data);
		if (r != 0)
			peer_close(&data);
	}
	/* twice */
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 0, &other), PEER_CLOSED);
	peer_close(&other);
	finish_push(&small_file);
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void a_data_connection_that_was_used_cannot_be_used_again(void **state)
{
	struct host host;

	begin(&host, state, HOST_KEY);
	begin_push(&host, &small_file);
	peer_close(&data);
	(void)poll(NULL, 0, 100);
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 0, &other), PEER_CLOSED);
	end_well(&host, 0);
}

/* ------------------------------ frames ------------------------------------------------- */

static const struct head malformed[] = {
	{ .type = 0 },
	{ .type = FRAME_TYPE_END },
	{ .type = 255, .length = UINT32_MAX },
	{ .type = FRAME_PING, .flags = 1 },
	{ .type = FRAME_PING, .flags = 0x80 },
	{ .type = FRAME_PING, .zero = 1 },
	{ .type = FRAME_PING, .zero = 0x8000 },
	{ .type = FRAME_PING, .length = 1 },
	{ .type = FRAME_PING, .length = UINT32_MAX },
	{ .type = FRAME_PING, .offset = 1 },
	{ .type = FRAME_SETUP, .length = 79 },
	{ .type = FRAME_SETUP, .length = 81 },
	{ .type = FRAME_SETUP, .length = 80, .id = 1 },
	{ .type = FRAME_WANT, .length = 65537 },
	{ .type = FRAME_WANT, .flags = 8 },
	{ .type = FRAME_WANT, .length = UINT32_MAX },
	{ .type = FRAME_FILE, .length = 0, .id = 1 },
	{ .type = FRAME_FILE, .length = 33, .id = 1 },
	{ .type = FRAME_FILE, .length = 289, .id = 1 },
	{ .type = FRAME_FILE, .length = UINT32_MAX, .id = 1 },
	{ .type = FRAME_FILE, .length = 34, .id = 0 },
	{ .type = FRAME_FILE, .length = 34, .id = 1, .flags = 4 },
	{ .type = FRAME_FILE, .length = 34, .id = 1, .offset = 1 },
	{ .type = FRAME_DATA, .length = 0, .id = 1 },
	{ .type = FRAME_DATA, .length = LIMIT_DATA_BYTES + 1, .id = 1 },
	{ .type = FRAME_DATA, .length = UINT32_MAX, .id = 1 },
	{ .type = FRAME_DATA, .length = 1, .id = 0 },
	{ .type = FRAME_DATA, .length = 1, .id = 1, .offset = 1 },
	{ .type = FRAME_DATA, .length = 1, .id = 1, .offset = LEAF_BYTES - 1 },
	{ .type = FRAME_DATA, .length = 1, .id = 1, .offset = INT64_MAX },
	{ .type = FRAME_DATA, .length = LEAF, .id = 1, .offset = UINT64_MAX - LEAF_BYTES + 1 },
	{ .type = FRAME_DATA, .length = LEAF, .id = 1, .offset = INT64_MAX - LEAF_BYTES + 1 },
	{ .type = FRAME_SUM, .length = 15, .id = 1 },
	{ .type = FRAME_SUM, .length = 272, .id = 1 },
	{ .type = FRAME_SUM, .length = 16, .id = 1, .flags = 1 },
	{ .type = FRAME_SUM, .length = 16, .id = 1, .flags = 2 },
	{ .type = FRAME_END, .length = 39, .id = 1 },
	{ .type = FRAME_END, .length = 40, .id = 0 },
	{ .type = FRAME_ERR, .length = 283 },
	{ .type = FRAME_ERR, .length = 65536 },
	{ .type = FRAME_BYE, .length = 1023 },
	{ .type = FRAME_BYE, .length = 1024, .id = 1 },
	{ .type = FRAME_ERR, .length = 284, .flags = 2, .id = 0 },
	{ .type = FRAME_DIR, .length = 33, .id = 1 },
	{ .type = FRAME_DIR, .length = 289, .id = 1 },
	{ .type = FRAME_DIR, .length = 34, .id = 0 },
	{ .type = FRAME_DIR, .length = 34, .id = 1, .flags = 1 },
	{ .type = FRAME_LEAVE, .length = 15, .id = 1 },
	{ .type = FRAME_LEAVE, .length = 17, .id = 1 },
	{ .type = FRAME_LEAVE, .length = 16, .id = 0 },
	{ .type = FRAME_LEAVE, .length = 16, .id = 1, .flags = 2 },
	{ .type = FRAME_ACK, .length = 16, .id = 1, .flags = 2 },
	{ .type = FRAME_MAP, .length = 15, .id = 1 },
	{ .type = FRAME_MAP, .length = 65552, .id = 1 },
	{ .type = FRAME_LEAF, .length = 15, .id = 1 },
	{ .type = FRAME_LEAF, .length = 65552, .id = 1 },
	{ .type = FRAME_PACK, .length = 32, .id = 1 },
	{ .type = FRAME_PACK, .length = 65537, .id = 1 },
	{ .type = FRAME_PACK, .length = UINT32_MAX, .id = 1 },
	{ .type = FRAME_PACK, .length = 33, .id = 0 },
	{ .type = FRAME_PACK, .length = 33, .id = 1, .flags = 2 },
	{ .type = FRAME_ATTR, .length = 11, .id = 1 },
	{ .type = FRAME_ATTR, .length = 65537, .id = 1 },
	{ .type = FRAME_ATTR, .length = 12, .id = 0 },
	{ .type = FRAME_RULE, .length = 0 },
	{ .type = FRAME_RULE, .length = 4097 },
	{ .type = FRAME_RULE, .length = 1, .id = 1 },
	{ .type = FRAME_KEEP, .length = 1, .id = 1 },
	{ .type = FRAME_KEEP, .length = 65537, .id = 1 },
	{ .type = FRAME_KEEP, .length = 2, .id = 1, .flags = 1 },
	{ .type = FRAME_KEEP, .length = 2, .id = 1, .offset = 1 },
};

static void a_malformed_head_ends_the_session_before_its_payload(void **state)
{
	struct host host;

	begin(&host, state, 0);
	for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
		host_open_push(&host, &control);
		assert_true(peer_put(&control, malformed[i], NULL, 0));
		ends_with(&control, ZH_PROTO);
	}
	for (size_t i = 0; i < ARRAY_LEN(malformed); i++) {
		begin_push(&host, &small_file);
		assert_true(peer_put(&data, malformed[i], NULL, 0));
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
	}
	end_well(&host, 0);
}

static void a_frame_with_a_wrong_tag_ends_the_session(void **state)
{
	struct head ping = { .type = FRAME_PING, .id = 7 };
	struct host host;

	begin(&host, state, 0);
	host_open_push(&host, &control);
	assert_true(peer_put_untrue(&control, ping, NULL, 0));
	ends_with(&control, ZH_PROTO);
	/* repeated: the tag is right for another counter */
	host_open_push(&host, &control);
	assert_true(peer_put(&control, ping, NULL, 0));
	control.count_out--;
	assert_true(peer_put(&control, ping, NULL, 0));
	ends_with(&control, ZH_PROTO);
	/* left out */
	host_open_push(&host, &control);
	control.count_out++;
	assert_true(peer_put(&control, ping, NULL, 0));
	ends_with(&control, ZH_PROTO);
	/* reflected: made with the key of the other direction */
	host_open_push(&host, &control);
	control.keys.out = control.keys.in;
	assert_true(peer_put(&control, ping, NULL, 0));
	ends_with(&control, ZH_PROTO);
	/* of one connection on another */
	begin_push(&host, &small_file);
	data.keys = control.keys;
	data.count_out = control.count_out;
	(void)peer_put_data(&data, 1, 0, 100000, 5);
	ends_with(&control, ZH_PROTO);
	end_well(&host, 0);
}

enum session_place { IN_SETUP, IN_PLACING, IN_OPEN };

static void go_to(const struct host *host, enum hello_intent intent, enum session_place place)
{
	if (place == IN_SETUP)
		host_connect(host, intent, &control);
	else if (place == IN_PLACING)
		host_setup(host, intent, &control);
	else if (intent == HELLO_PUSH)
		host_open_push(host, &control);
	else
		host_open_pull(host, "served", &control);
}

/* What peer_put_least sends of the frames of trees is out of place in any state. */
static void in_each_state_only_the_frames_of_the_table_are_taken(void **state)
{
#define F(type) (1u << FRAME_##type)
	static const struct {
		enum hello_intent intent;
		enum session_place place;
		uint32_t allowed;
	} rows[] = {
		{ HELLO_PUSH, IN_SETUP, F(SETUP) | F(ERR) },
		{ HELLO_PULL, IN_SETUP, F(SETUP) | F(ERR) },
		{ HELLO_PUSH, IN_PLACING, F(WANT) | F(ERR) | F(PING) | F(PONG) | F(BYE) },
		{ HELLO_PULL, IN_PLACING,
			F(WANT) | F(CREDIT) | F(ERR) | F(PING) | F(PONG) | F(BYE) },
		{ HELLO_PUSH, IN_OPEN,
			F(FILE) | F(END) | F(LOST) | F(ERR) | F(PING) | F(PONG) | F(BYE) },
		{ HELLO_PULL, IN_OPEN,
			F(NEED) | F(NAK) | F(ACK) | F(CREDIT) | F(GOT) | F(ERR) | F(PING) |
				F(PONG) | F(BYE) },
	};
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", 100000, 5);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (unsigned type = 1; type < FRAME_TYPE_END; type++) {
			if (rows[i].allowed & 1u << type)
				continue;
			go_to(&host, rows[i].intent, rows[i].place);
			(void)peer_put_least(
				&control, (enum frame_type)type, 1); /* may be cut short */
			ends_with(&control, ZH_PROTO);
		}
	end_well(&host, 1);
#undef F
}

static void liveness_is_answered_in_each_state(void **state)
{
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", 100000, 5);
	for (unsigned i = 0; i < 4; i++) {
		go_to(&host, i & 1 ? HELLO_PULL : HELLO_PUSH, i < 2 ? IN_PLACING : IN_OPEN);
		assert_true(peer_put_least(&control, FRAME_PONG, 5));
		assert_true(peer_put_least(&control, FRAME_PING, 77));
		assert_int_equal(peer_get(&control, PEER_WAIT_MS), 0);
		assert_int_equal(control.frame.type, FRAME_PONG);
		assert_int_equal(control.frame.id, 77);
		peer_close(&control);
	}
	end_well(&host, 1);
}

static void on_a_data_connection_only_data_and_its_sum_are_taken(void **state)
{
	struct host host;

	begin(&host, state, 0);
	for (unsigned type = 1; type < FRAME_TYPE_END; type++) {
		if (type != FRAME_DATA) {
			begin_push(&host, &small_file);
			(void)peer_put_least(
				&data, (enum frame_type)type, 1); /* may be cut short */
			ends_with(&control, ZH_PROTO);
			peer_close(&data);
		}
		if (type != FRAME_SUM) {
			begin_push(&host, &small_file);
			assert_true(peer_put_data(&data, 1, 0, 100000, 5));
			(void)peer_put_least(
				&data, (enum frame_type)type, 1); /* may be cut short */
			ends_with(&control, ZH_PROTO);
			peer_close(&data);
		}
	}
	end_well(&host, 0);
}

static void a_flood_of_pings_is_answered_and_forgotten(void **state)
{
	struct head ping = { .type = FRAME_PING };
	size_t peak;
	struct host host;

	begin(&host, state, 0);
	host_open_push(&host, &control);
	peak = process_peak_kib(host_session_pid(&host));
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < 100; i++) {
			ping.id = round * 100 + i;
			assert_true(peer_put(&control, ping, NULL, 0));
		}
		for (unsigned i = 0; i < 100; i++) {
			assert_int_equal(peer_get(&control, PEER_WAIT_MS), 0);
			assert_int_equal(control.frame.type, FRAME_PONG);
			assert_int_equal(control.frame.id, round * 100 + i);
		}
	}
	if (is_bare())
		assert_true(process_peak_kib(host_session_pid(&host)) < peak + 4096);
	/* one who never reads stops only himself */
	struct timeval soon = { .tv_usec = 300000 };
	assert_int_equal(setsockopt(control.fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)), 0);
	for (unsigned i = 0; i < 500000 && peer_put(&control, ping, NULL, 0); i++)
		continue;
	if (is_bare())
		assert_true(process_peak_kib(host_session_pid(&host)) < peak + 4096);
	end_well(&host, 0);
}

/* ------------------------------ SETUP and WANT ----------------------------------------- */

static void field_by_field_a_setup_has_to_be_right(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} rows[] = { { 0, 1 }, { 0, 2 }, { 1, 2 }, { 2, 3 }, { 3, 3 }, { 4, 2 }, { 5, 65 },
		{ 6, 1 }, { 7, 1 }, { 8, 0 }, { 8, 65 }, { 11, 1 }, { 15, 0x80 }, { 19, 0x80 },
		{ 23, 0x80 }, { 27, 0x80 }, { 28, 3 }, { 29, 3 }, { 30, 16 }, { 30, 32 }, { 31, 2 },
		{ 40, 0x1b }, { 55, 'x' }, { 56, 0x80 }, { 79, 'x' } };
	struct wire_setup setup = { .streams = 1 };
	uint8_t bytes[WIRE_SETUP_BYTES];
	struct host host;

	begin(&host, state, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), WIRE_SETUP_BYTES);
		bytes[rows[i].at] = rows[i].value;
		host_connect(&host, HELLO_PUSH, &control);
		assert_true(peer_put(&control, peer_least(FRAME_SETUP, 0), bytes, sizeof(bytes)));
		ends_with(&control, ZH_PROTO);
	}
	end_well(&host, 0);
}

static void what_a_server_does_not_do_is_refused_by_name(void **state)
{
	struct wire_setup setup = { .streams = 1, .strategy = "no such" };
	struct host host;

	begin(&host, state, HOST_READ_ONLY);
	host_connect(&host, HELLO_PUSH, &control);
	setup.strategy[0] = '\0';
	assert_true(peer_put_setup(&control, &setup));
	ends_with(&control, ZH_POLICY);
	host_connect(&host, HELLO_PULL, &control);
	setup.direction = ZH_PULL;
	memcpy(setup.strategy, "no such", 8);
	assert_true(peer_put_setup(&control, &setup));
	ends_with(&control, ZH_CONFIG);
	peer_close(&control);
	host_stop(&host);
}

static void a_server_for_measuring_takes_what_is_discarded_only(void **state)
{
	static const struct {
		enum hello_intent intent;
		const char *strategy;
		uint8_t verify, durability;
		enum zh_outcome outcome;
	} rows[] = {
		{ HELLO_PUSH, "", ZH_VERIFY_NONE, ZH_DURABLE_NONE, ZH_POLICY },
		{ HELLO_PUSH, "copy", ZH_VERIFY_NONE, ZH_DURABLE_NONE, ZH_POLICY },
		{ HELLO_PUSH, "discard", ZH_VERIFY_FULL, ZH_DURABLE_NONE, ZH_CONFIG },
		{ HELLO_PUSH, "discard", ZH_VERIFY_NONE, ZH_DURABLE_FULL, ZH_CONFIG },
		{ HELLO_PULL, "", ZH_VERIFY_NONE, ZH_DURABLE_NONE, ZH_POLICY },
		{ HELLO_PULL, "copy", ZH_VERIFY_NONE, ZH_DURABLE_NONE, ZH_POLICY },
	};
	struct wire_setup setup;
	struct host host;

	begin(&host, state, HOST_BENCH);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		setup = (struct wire_setup){
			.direction = rows[i].intent == HELLO_PUSH ? ZH_PUSH : ZH_PULL,
			.verify = rows[i].verify,
			.durability = rows[i].durability,
			.streams = 1,
		};
		TEXT_SET(setup.strategy, rows[i].strategy);
		host_connect(&host, rows[i].intent, &control);
		assert_true(peer_put_setup(&control, &setup));
		ends_with(&control, rows[i].outcome);
	}
	/* whatever is named is a directory, and there is one of them */
	setup = (struct wire_setup){ .verify = ZH_VERIFY_NONE,
		.durability = ZH_DURABLE_NONE,
		.streams = 1,
		.strategy = "discard" };
	host_connect(&host, HELLO_PUSH, &control);
	assert_true(peer_put_setup(&control, &setup));
	assert_true(peer_put_want(&control, 1, "absent/sub", 0));
	expect(&control, FRAME_PLACE, 1);
	assert_int_equal(control.payload[0], PLACE_DIRECTORY);
	assert_true(peer_put_want(&control, 2, "", WANT_LAST));
	ends_with(&control, ZH_PROTO);
	host_stop(&host);
	assert_int_equal(entry_count(host.arena->root, "."), 0);
}

/* What a peer asks for is capped: it cannot make a session large. */
static void the_largest_wishes_do_not_make_a_session_large(void **state)
{
	static struct peer stream[8];
	struct wire_setup setup = {
		.durability = ZH_DURABLE_NONE,
		.streams = ARRAY_LEN(stream),
		.chunk_bytes = INT32_MAX,
		.sndbuf_bytes = INT32_MAX,
		.rcvbuf_bytes = INT32_MAX,
		.notsent_lowat_bytes = INT32_MAX,
		.pacing_bytes_per_s = UINT64_MAX,
	};
	static const char *const strategies[] = { "copy", "splice", "uring-direct" };
	struct wire_file file = large_file;
	struct host host;
	size_t peak;

	begin(&host, state, 0);
	for (size_t s = 0; s < ARRAY_LEN(strategies); s++) {
		(void)snprintf(setup.strategy, sizeof(setup.strategy), "%s", strategies[s]);
		host_connect(&host, HELLO_PUSH, &control);
		assert_true(peer_put_setup(&control, &setup));
		assert_true(peer_put_want(&control, 1, "", WANT_LAST));
		expect(&control, FRAME_PLACE, 1);
		for (uint32_t i = 0; i < ARRAY_LEN(stream); i++) {
			(void)snprintf(file.name, sizeof(file.name), "f%u", i);
			announce(&control, i + 1, &file);
			assert_int_equal(
				host_attach(&host, &control, HELLO_PUSH, i, &stream[i]), 0);
			send_leaf(&stream[i], i + 1, 0, file.size);
		}
		assert_true(peer_put_least(&control, FRAME_PING, 1));
		assert_int_equal(peer_get(&control, PEER_WAIT_MS), 0);
		(void)poll(NULL, 0, 300);
		peak = process_peak_kib(host_session_pid(&host)) / 1024;
		print_message("# %s: %zu MiB\n", strategies[s], peak);
		if (is_bare())
			assert_true(peak < 64 + 4 * ARRAY_LEN(stream));
		for (size_t i = 0; i < ARRAY_LEN(stream); i++)
			peer_close(&stream[i]);
		peer_close(&control);
		host_is_well(&host, 0, GONE_MS);
	}
	end_well(&host, 0);
}

static void a_path_that_cannot_be_ends_the_session(void **state)
{
	static const char *const paths[] = { "\0", "\1.", "\2..", "\1a\2..\1b", "\3a/b", "\1\0",
		"\5abc", "\1a\0" };
	static const uint8_t lengths[] = { 1, 2, 3, 7, 4, 2, 4, 3 };
	static uint8_t deep[2 * (LIMIT_DEPTH + 1)];
	struct host host;

	begin(&host, state, 0);
	for (unsigned pull = 0; pull < 2; pull++) {
		enum hello_intent intent = pull ? HELLO_PULL : HELLO_PUSH;
		for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
			host_setup(&host, intent, &control);
			assert_true(peer_put(&control,
				(struct head){ .type = FRAME_WANT,
					.flags = WANT_LAST,
					.length = lengths[i] },
				paths[i], lengths[i]));
			ends_with(&control, ZH_PROTO);
		}
		for (size_t i = 0; i < sizeof(deep); i += 2)
			memcpy(deep + i, "\1a", 2);
		host_setup(&host, intent, &control);
		assert_true(peer_put(&control,
			(struct head){ .type = FRAME_WANT, .length = sizeof(deep) }, deep,
			sizeof(deep)));
		ends_with(&control, ZH_PROTO);
	}
	end_well(&host, 0);
}

static void no_path_leads_out_of_the_root_or_into_staging(void **state)
{
	static const char *const paths[] = { "link/file", "link", "abs/precious", "abs",
		".zerohaul-staging", ".zerohaul-staging/x", "fifo", "sub", "absent", "sub/absent" };
	struct host host;
	uint8_t flags = WANT_DIRECTORY;

	begin(&host, state, 0);
	assert_int_equal(symlinkat("../outside", host.arena->root, "link"), 0);
	assert_int_equal(symlinkat(host.arena->path, host.arena->root, "abs"), 0);
	assert_int_equal(mkfifoat(host.arena->root, "fifo", 0600), 0);
	assert_int_equal(mkdirat(host.arena->root, "sub", 0755), 0);
	host_setup(&host, HELLO_PULL, &control);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		assert_true(peer_put_want(&control, i + 1, paths[i], 0));
		expect(&control, FRAME_ERR, i + 1);
	}
	peer_close(&control);
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		host_setup(&host, HELLO_PUSH, &control);
		assert_true(peer_put_want(&control, i + 1, paths[i], flags));
		assert_int_equal(peer_get(&control, PEER_WAIT_MS), 0);
		if (strcmp(paths[i], "sub") == 0)
			assert_int_equal(control.frame.type, FRAME_PLACE);
		else
			assert_int_equal(control.frame.type, FRAME_ERR);
		peer_close(&control);
	}
	end_well(&host, 4);
}

static void a_push_has_one_place_and_no_file_without_it(void **state)
{
	struct host host;

	begin(&host, state, 0);
	assert_int_equal(mkdirat(host.arena->root, "sub", 0755), 0);
	host_setup(&host, HELLO_PUSH, &control);
	assert_true(peer_put_want(&control, 1, "sub", 0));
	expect(&control, FRAME_PLACE, 1);
	assert_true(peer_put_want(&control, 2, "sub", WANT_LAST));
	ends_with(&control, ZH_PROTO);
	host_setup(&host, HELLO_PUSH, &control);
	assert_true(peer_put_want(&control, 1, "sub", WANT_LAST | WANT_CONTENTS));
	ends_with(&control, ZH_PROTO);
	/* the place was refused, so there is none */
	host_setup(&host, HELLO_PUSH, &control);
	assert_true(peer_put_want(&control, 1, "absent/sub", WANT_LAST));
	expect(&control, FRAME_ERR, 1);
	assert_true(peer_put_file(&control, 1, &small_file, 0));
	ends_with(&control, ZH_PROTO);
	end_well(&host, 1);
}

static void a_client_may_leave_before_anything_was_asked_for(void **state)
{
	struct host host;

	begin(&host, state, 0);
	for (unsigned pull = 0; pull < 2; pull++) {
		host_setup(&host, pull ? HELLO_PULL : HELLO_PUSH, &control);
		say_goodbye(&control);
		host_setup(&host, pull ? HELLO_PULL : HELLO_PUSH, &control);
		assert_true(peer_put_err(&control, 0, ZH_CANCELLED, "changed my mind"));
		assert_true(peer_wait_closed(&control, 1000) >= 0);
		peer_close(&control);
	}
	end_well(&host, 0);
}

static void many_wants_cost_no_descriptors(void **state)
{
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", 1000, 5);
	host_setup(&host, HELLO_PULL, &control);
	for (unsigned i = 1; i <= 3000; i++) {
		assert_true(peer_put_want(&control, i, "served", 0));
		expect(&control, FRAME_PLACE, i);
	}
	assert_true(process_fds(host_session_pid(&host)) <= 32);
	end_well(&host, 1);
}

/* ------------------------------ FILE --------------------------------------------------- */

static void ids_are_dense_and_used_once(void **state)
{
	static const uint64_t wrong[] = { 2, 1000, LIMIT_OPEN_IDS, UINT64_MAX };
	struct host host;

	begin(&host, state, 0);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		host_open_push(&host, &control);
		assert_true(peer_put_file(&control, wrong[i], &small_file, 0));
		ends_with(&control, ZH_PROTO);
	}
	/* again while open, after it failed, after it was done */
	host_open_push(&host, &control);
	announce(&control, 1, &small_file);
	assert_true(peer_put_file(&control, 1, &small_file, 0));
	ends_with(&control, ZH_PROTO);
	host_open_push(&host, &control);
	assert_true(peer_put_err(&control, 1, ZH_SRC_GONE, "gone"));
	assert_true(peer_put_file(&control, 1, &small_file, 0));
	ends_with(&control, ZH_PROTO);
	begin_push(&host, &small_file);
	send_file(&control, &data, 1, &small_file);
	assert_true(peer_put_file(&control, 1, &small_file, 0));
	ends_with(&control, ZH_PROTO);
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void a_file_that_cannot_be_fails_alone(void **state)
{
	static const struct {
		const char *name;
		uint8_t length;
		uint64_t size;
		enum zh_outcome outcome;
	} rows[] = {
		{ "", 0, 10, ZH_PROTO },
		{ ".", 1, 10, ZH_UNSAFE_NAME },
		{ "..", 2, 10, ZH_UNSAFE_NAME },
		{ "a/b", 3, 10, ZH_UNSAFE_NAME },
		{ "/", 1, 10, ZH_UNSAFE_NAME },
		{ "/etc/passwd", 11, 10, ZH_UNSAFE_NAME },
		{ "../x", 4, 10, ZH_UNSAFE_NAME },
		{ "a\0b", 3, 10, ZH_UNSAFE_NAME },
		{ "\0", 1, 10, ZH_UNSAFE_NAME },
		{ "a\nb", 3, 10, ZH_UNSAFE_NAME },
		{ "\x1b[2J", 4, 10, ZH_UNSAFE_NAME },
		{ "\x7f", 1, 10, ZH_UNSAFE_NAME },
		{ "\xc2\x85", 2, 10, ZH_UNSAFE_NAME }, /* C1 */
		{ "\xe2\x80\xae"
		  "gpj",
			6, 10, ZH_UNSAFE_NAME }, /* writes backwards */
		{ "\xff\xfe", 2, 10, ZH_UNSAFE_NAME },
		{ "\xc0\xae", 2, 10, ZH_UNSAFE_NAME }, /* an overlong dot */
		{ ".zerohaul-staging", 17, 10, ZH_UNSAFE_NAME },
		{ "sub", 3, 10, ZH_EXISTS },
		{ "link", 4, 10, ZH_EXISTS },
		{ "fifo", 4, 10, ZH_EXISTS },
		{ "big", 3, LIMIT_FILE_BYTES + 1, ZH_LIMIT },
		{ "big", 3, INT64_MAX, ZH_LIMIT },
		{ "big", 3, UINT64_MAX, ZH_LIMIT },
	};
	struct wire_file file = { .mtime_s = 1, .mode = 0644 };
	struct host host;
	uint64_t id = 1;

	begin(&host, state, 0);
	assert_int_equal(mkdirat(host.arena->root, "sub", 0755), 0);
	assert_int_equal(symlinkat("../outside/file", host.arena->root, "link"), 0);
	assert_int_equal(mkfifoat(host.arena->root, "fifo", 0600), 0);
	host_open_push(&host, &control);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].outcome == ZH_PROTO) {
			static struct peer own;
			host_open_push(&host, &own);
			assert_true(
				peer_put_file_raw(&own, 1, &file, rows[i].name, rows[i].length, 0));
			ends_with(&own, ZH_PROTO);
			continue;
		}
		file.size = rows[i].size;
		assert_true(
			peer_put_file_raw(&control, id, &file, rows[i].name, rows[i].length, 0));
		file_fails(&control, id++, rows[i].outcome);
	}
	/* and the session is as good as new */
	assert_true(peer_put_file(&control, id, &small_file, 0));
	expect(&control, FRAME_NEED, id);
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 0, &data), 0);
	send_file(&control, &data, id, &small_file);
	peer_close(&data);
	say_goodbye(&control);
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 3);
}

static void a_malformed_file_ends_the_session(void **state)
{
	static const struct wire_file rows[] = {
		{ .mode = S_IFREG | 0644, .mtime_s = 1 },
		{ .mode = S_IFCHR | 0600, .mtime_s = 1 },
		{ .mode = UINT32_MAX, .mtime_s = 1 },
		{ .mode = 010000, .mtime_s = 1 },
		{ .mode = 0644, .mtime_ns = 1000000000 },
		{ .mode = 0644, .mtime_ns = UINT32_MAX },
		{ .mode = 0644, .parent = 1 },
		{ .mode = 0644, .parent = UINT64_MAX },
	};
	struct host host;

	begin(&host, state, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		host_open_push(&host, &control);
		assert_true(peer_put_file_raw(&control, 1, &rows[i], "target", 6, 0));
		ends_with(&control, ZH_PROTO);
	}
	end_well(&host, 0);
}

static void special_mode_bits_are_not_taken_over(void **state)
{
	struct wire_file file = small_file;
	struct stat st;
	struct host host;

	begin(&host, state, 0);
	file.mode = 07777;
	begin_push(&host, &file);
	finish_push(&file);
	assert_int_equal(fstatat(host.arena->root, "target", &st, 0), 0);
	assert_int_equal(st.st_mode & 07000, 0);
	assert_int_equal(st.st_mode & 0022, 0);
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void a_name_that_is_open_cannot_be_announced_again(void **state)
{
	struct wire_file again = small_file;
	struct host host;

	begin(&host, state, 0);
	again.size++;
	begin_push(&host, &small_file);
	assert_true(peer_put_file(&control, 2, &again, 0));
	file_fails(&control, 2, ZH_EXISTS);
	finish_push(&small_file);
	assert_true(random_at(host.arena->root, "target", small_file.size, 5));
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void files_without_end_stay_within_their_credit_and_memory(void **state)
{
	struct host host;
	size_t peak;

	begin(&host, state, 0);
	host_open_push(&host, &control);
	/* names that fail at once, far beyond what is remembered of them */
	for (uint64_t id = 1; id <= 150000; id++) {
		if (!peer_put_err(&control, id, ZH_SRC_GONE, "gone"))
			break;
		while (poll(&(struct pollfd){ .fd = control.fd, .events = POLLIN }, 1, 0) > 0)
			assert_int_equal(peer_get(&control, PEER_WAIT_MS), 0);
		if (id + LIMIT_OPEN_IDS / 4 < LIMIT_OPEN_IDS || id % 1024)
			continue;
		wait_until_read(&control); /* and has extended the credit */
	}
	peak = process_peak_kib(host_session_pid(&host)) / 1024;
	print_message("# %zu MiB\n", peak);
	if (is_bare())
		assert_true(peak < 64);
	say_goodbye(&control);
	/* the log does not grow with them */
	struct stat st;
	assert_int_equal(stat(host.log_path, &st), 0);
	assert_true(st.st_size < 100000);
	end_well(&host, 0);
}

static void open_files_without_data_end_with_a_named_error(void **state)
{
	struct wire_file file = { .size = 1, .mtime_s = 1, .mode = 0600 };
	unsigned refused = 0;
	struct host host;

	begin(&host, state, 0);
	host_open_push(&host, &control);
	for (uint64_t id = 1; id <= 3000; id++) {
		(void)snprintf(file.name, sizeof(file.name), "n%llu", (unsigned long long)id);
		assert_true(peer_put_file(&control, id, &file, 0));
		assert_int_equal(peer_get_news(&control, PEER_WAIT_MS), 0);
		refused += control.frame.type == FRAME_ERR;
		assert_true(control.frame.type == FRAME_ERR || control.frame.type == FRAME_NEED);
		assert_int_equal(control.frame.id, id);
	}
	print_message("# %u of 3000 refused\n", refused);
	end_well(&host, 0);
}

static void an_id_whose_data_hangs_is_not_given_away(void **state)
{
	struct head head = { .type = FRAME_DATA, .id = 1 };
	struct host host;
	int r;

	begin(&host, state, 0);
	begin_push(&host, &small_file);
	head.length = (uint32_t)small_file.size;
	assert_true(peer_put_err(&control, 1, ZH_SRC_CHANGED, "changed"));
	wait_until_read(&control);
	assert_true(peer_put(&data, head, NULL, 0)); /* and then nothing */
	(void)poll(NULL, 0, 200);
	for (uint64_t id = 2; id <= LIMIT_OPEN_IDS + 2; id++)
		if (!peer_put_err(&control, id, ZH_SRC_GONE, "gone"))
			break;
	do {
		r = peer_get(&control, PEER_WAIT_MS);
	} while (r == 0 && control.frame.type != FRAME_ERR);
	assert_true(r == 0 || r == PEER_CLOSED);
	end_well(&host, 0);
}

/* ------------------------------ DATA and SUM ------------------------------------------- */

static void data_that_was_not_asked_for_ends_the_session(void **state)
{
	const uint32_t tail = (uint32_t)(large_file.size % LEAF_BYTES);
	const struct {
		uint64_t id, offset;
		uint32_t length;
	} rows[] = {
		{ 2, 0, LEAF },                           /* an id that is not there */
		{ UINT64_MAX, 0, LEAF },                  /* nor ever will be */
		{ 1, 0, LEAF - 1 },                       /* ends within a leaf */
		{ 1, FILE_MIB * LEAF_BYTES, tail + 1 },   /* beyond the end */
		{ 1, FILE_MIB * LEAF_BYTES, LEAF },       /* far beyond the end */
		{ 1, (FILE_MIB + 1) * LEAF_BYTES, LEAF }, /* behind the end */
		{ 1, LIMIT_FILE_BYTES, LEAF },
		{ 1, (uint64_t)INT64_MAX - 2 * LEAF_BYTES + 1, LEAF },
	};
	struct host host;

	begin(&host, state, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		begin_push(&host, &large_file);
		assert_true(peer_put(&data,
			(struct head){ .type = FRAME_DATA,
				.length = rows[i].length,
				.id = rows[i].id,
				.offset = rows[i].offset },
			NULL, 0));
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
	}
	/* twice */
	begin_push(&host, &large_file);
	send_leaf(&data, 1, 1, large_file.size);
	(void)peer_put_data(&data, 1, 0, 2 * LEAF, 5); /* the server does not wait for all */
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	/* twice at the same time, on two connections */
	begin_push(&host, &large_file);
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 1, &other), 0);
	struct head head = { .type = FRAME_DATA, .length = LEAF, .id = 1 };
	assert_true(peer_put(&data, head, NULL, 0));
	(void)poll(NULL, 0, 100);
	assert_true(peer_put(&other, head, NULL, 0));
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	peer_close(&other);
	/* of a file that is done */
	begin_push(&host, &small_file);
	send_file(&control, &data, 1, &small_file);
	assert_true(peer_put(
		&data, (struct head){ .type = FRAME_DATA, .length = 100000, .id = 1 }, NULL, 0));
	ends_with(&control, ZH_PROTO);
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void data_of_a_file_that_was_given_up_is_dropped(void **state)
{
	struct wire_file second = small_file;
	struct host host;

	begin(&host, state, 0);
	begin_push(&host, &large_file);
	assert_true(peer_put_err(&control, 1, ZH_SRC_CHANGED, "changed"));
	wait_until_read(&control); /* DATA that overtakes it is still wanted, once */
	send_leaf(&data, 1, 0, large_file.size);
	send_leaf(&data, 1, 0, large_file.size);
	announce(&control, 2, &second);
	send_file(&control, &data, 2, &second);
	peer_close(&data);
	say_goodbye(&control);
	assert_true(random_at(host.arena->root, "target", second.size, 5));
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void a_sum_has_to_fit_its_data(void **state)
{
	static const struct head rows[] = {
		{ .type = FRAME_SUM, .length = 32, .id = 2 }, /* another file */
		{ .type = FRAME_SUM,
			.length = 32,
			.id = 1,
			.offset = LEAF_BYTES }, /* another leaf */
		{ .type = FRAME_SUM, .length = 0, .id = 1 },
		{ .type = FRAME_SUM, .length = 16, .id = 1 },
		{ .type = FRAME_SUM, .length = 48, .id = 1 },
		{ .type = FRAME_SUM, .length = 256, .id = 1 },
		{ .type = FRAME_SUM, .length = 4, .id = 1, .flags = SUM_VOID }, /* of no outcome */
		{ .type = FRAME_DATA,
			.length = LEAF,
			.id = 1,
			.offset = 2 * LEAF_BYTES }, /* missing */
	};
	static const uint8_t zeros[256];
	struct host host;

	begin(&host, state, 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		begin_push(&host, &large_file);
		assert_true(peer_put_data(&data, 1, 0, 2 * LEAF, 5));
		assert_true(peer_put(
			&data, rows[i], zeros, rows[i].type == FRAME_SUM ? rows[i].length : 0));
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
	}
	/* doubled, and without DATA */
	for (unsigned doubled = 0; doubled < 2; doubled++) {
		begin_push(&host, &large_file);
		if (doubled)
			send_leaf(&data, 1, 0, large_file.size);
		assert_true(peer_put_sum(&data, 1, 0, LEAF, large_file.size, 5));
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
	}
	end_well(&host, 0);
}

static void a_void_frame_fails_its_file_alone(void **state)
{
	uint8_t reason[WIRE_VOID_BYTES];
	struct host host;

	begin(&host, state, 0);
	begin_push(&host, &large_file);
	announce(&control, 2, &(struct wire_file){ .size = 0, .mode = 0644, .name = "empty" });
	assert_int_equal(wire_build_void(ZH_SRC_IO, reason, sizeof(reason)), WIRE_VOID_BYTES);
	assert_true(peer_put_data(&data, 1, 0, LEAF, 9));
	assert_true(peer_put(&data,
		(struct head){
			.type = FRAME_SUM, .flags = SUM_VOID, .length = WIRE_VOID_BYTES, .id = 1 },
		reason, sizeof(reason)));
	assert_true(peer_put_err(&control, 1, ZH_SRC_IO, "cannot be read"));
	struct digest root = content_root(0, 0);
	struct wire_file empty = { .size = 0, .mode = 0644, .name = "empty" };
	assert_true(peer_put_end(&control, 2, &empty, &root));
	expect(&control, FRAME_ACK, 2);
	peer_close(&data);
	say_goodbye(&control);
	assert_int_equal(unlinkat(host.arena->root, "empty", 0), 0);
	end_well(&host, 0);
}

static void a_wrong_leaf_is_asked_for_three_times_and_then_given_up(void **state)
{
	struct host host;

	begin(&host, state, 0);
	text_file(host.arena->root, "target", "what was there before");
	begin_push(&host, &large_file);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(peer_put_data(&data, 1, LEAF_BYTES, LEAF, 6)); /* not seed 5 */
		assert_true(peer_put_sum(&data, 1, LEAF_BYTES, LEAF, large_file.size, 5));
		if (i < LIMIT_RESENDS) {
			expect(&control, FRAME_NAK, 1);
			assert_int_equal(control.frame.offset, LEAF_BYTES);
		}
	}
	file_fails(&control, 1, ZH_VERIFY);
	peer_close(&data);
	say_goodbye(&control);
	assert_true(files_equal(host.arena->root, "target", host.arena->root, "target"));
	char text[64] = { 0 };
	int fd = openat(host.arena->root, "target", O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_string_equal(text, "what was there before");
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void a_leaf_that_is_right_at_last_counts(void **state)
{
	struct host host;

	begin(&host, state, 0);
	begin_push(&host, &large_file);
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 1, &other), 0);
	for (unsigned i = 0; i < LIMIT_RESENDS; i++) {
		assert_true(peer_put_data(&data, 1, LEAF_BYTES, LEAF, 6 + i));
		assert_true(peer_put_sum(&data, 1, LEAF_BYTES, LEAF, large_file.size, 5));
		expect(&control, FRAME_NAK, 1);
	}
	/* the right bytes come at once, and by another connection */
	for (uint64_t leaf = 0; leaf <= FILE_MIB; leaf++)
		send_leaf(leaf == 1 ? &other : &data, 1, leaf, large_file.size);
	struct digest root = content_root(large_file.size, 5);
	assert_true(peer_put_end(&control, 1, &large_file, &root));
	expect(&control, FRAME_ACK, 1);
	peer_close(&data);
	peer_close(&other);
	say_goodbye(&control);
	assert_true(random_at(host.arena->root, "target", large_file.size, 5));
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

/* ------------------------------ trees -------------------------------------------------- */

enum { TREE_TOLD = TREE_RECURSIVE | TREE_LINKS };

/* Up to OPEN, with wishes. */
static void open_wishing(const struct host *host, const struct wire_setup *setup)
{
	host_connect(host, HELLO_PUSH, &control);
	assert_true(peer_put_setup(&control, setup));
	assert_true(peer_put_want(&control, 1, "", WANT_LAST));
	assert_int_equal(peer_get(&control, PEER_WAIT_MS), 0);
	assert_int_equal(control.frame.type, FRAME_PLACE);
	assert_int_equal(host_attach(host, &control, HELLO_PUSH, 0, &data), 0);
}

/* The same with what a tree needs. */
static void open_tree(const struct host *host, uint8_t tree)
{
	struct wire_setup setup = {
		.direction = ZH_PUSH, .durability = ZH_DURABLE_NONE, .streams = 4, .tree = tree
	};

	open_wishing(host, &setup);
}

static void put_dir(uint64_t id, uint64_t parent, const char *name)
{
	struct wire_file dir = { .parent = parent, .mtime_s = 1, .mode = 0755 };
	uint8_t bytes[WIRE_FILE_BYTES_MAX];
	int length;

	dir.name_length = (uint8_t)snprintf(dir.name, sizeof(dir.name), "%s", name);
	length = wire_build_dir(&dir, bytes, sizeof(bytes));
	assert_true(length > 0);
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_DIR, .length = (uint32_t)length, .id = id }, bytes,
		(size_t)length));
}

static void put_leave_flags(uint64_t id, uint8_t flags)
{
	struct wire_leave leave = { .mtime_s = 1, .mode = 0755 };
	uint8_t bytes[WIRE_LEAVE_BYTES];
	int length = wire_build_leave(&leave, bytes, sizeof(bytes));

	assert_true(length > 0);
	assert_true(peer_put(&control,
		(struct head){
			.type = FRAME_LEAVE, .flags = flags, .length = (uint32_t)length, .id = id },
		bytes, (size_t)length));
}

static void put_leave(uint64_t id)
{
	put_leave_flags(id, 0);
}

/* PACK with two members of 100 and 50 bytes; the name of the second is given. */
static void put_pack(uint64_t id, uint32_t parent, const char *name, enum wire_member_kind kind)
{
	struct wire_member member = {
		.parent = parent, .size = 100, .mtime_s = 1, .mode = 0644, .name_length = 5
	};
	uint8_t bytes[1024];
	int first, second;

	memcpy(member.name, "first", 6);
	first = wire_build_member(&member, bytes, sizeof(bytes));
	assert_true(first > 0);
	memcpy(member.name, "other", 6);
	member.kind = (uint8_t)kind;
	member.size = 50;
	second = wire_build_member(&member, bytes + first, sizeof(bytes) - (size_t)first);
	assert_true(second > 0);
	/* over "other", so that anything can be said */
	bytes[first + 31] = (uint8_t)strlen(name);
	memcpy(bytes + first + 32, name, strlen(name));
	second = 32 + (int)strlen(name);
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_PACK, .length = (uint32_t)(first + second), .id = id },
		bytes, (size_t)(first + second)));
}

static void put_extent(enum frame_type type, uint64_t id, uint64_t offset, uint64_t length)
{
	uint8_t bytes[16];

	put_le64(bytes, offset);
	put_le64(bytes + 8, length);
	assert_true(peer_put(&control,
		(struct head){ .type = (uint8_t)type, .length = sizeof(bytes), .id = id }, bytes,
		sizeof(bytes)));
}

static void put_member_err(uint64_t id, uint64_t member)
{
	struct wire_err err = { .outcome = ZH_SRC_IO, .stage = "test", .text = "test" };
	uint8_t bytes[WIRE_ERR_BYTES];
	int length = wire_build_err(&err, bytes, sizeof(bytes));

	assert_true(peer_put(&control,
		(struct head){
			.type = FRAME_ERR, .length = (uint32_t)length, .id = id, .offset = member },
		bytes, (size_t)length));
}

static void put_pack_data(uint64_t id, uint32_t length)
{
	assert_true(peer_put_data(&data, id, 0, length, 5));
	assert_true(peer_put_sum(&data, id, 0, length, length, 5));
}

/* Of which the server takes as much as it wants: it may be gone before the last byte. */
static void try_data(uint64_t id, uint64_t offset, uint32_t length)
{
	if (peer_put_data(&data, id, offset, length, 5))
		(void)peer_put_sum(&data, id, offset, length, offset + length, 5);
}

static void put_pack_end(uint64_t id, uint64_t size)
{
	struct digest root = content_root(size, 5);
	const struct wire_file pack = { .size = size };

	assert_true(peer_put_end(&control, id, &pack, &root));
}

static void dir_in_unknown(void)
{
	put_dir(1, 7, "d");
}

static void dir_twice(void)
{
	put_dir(1, 0, "d");
	put_dir(1, 0, "e");
}

static void dir_backwards(void)
{
	put_dir(2, 0, "d");
	put_dir(1, 0, "e");
}

static void dir_in_itself(void)
{
	put_dir(1, 1, "d");
}

static void leave_of_unknown(void)
{
	put_dir(1, 0, "d");
	put_leave(2);
}

static void member_in_unknown(void)
{
	put_pack(1, 7, "other", MEMBER_FILE);
}

static void file_in_unknown(void)
{
	struct wire_file file = small_file;

	file.parent = 7;
	assert_true(peer_put_file(&control, 1, &file, 0));
}

static void member_that_leads_out(void)
{
	put_pack(1, 0, "..", MEMBER_FILE);
}

static void member_with_a_slash(void)
{
	put_pack(1, 0, "../x", MEMBER_FILE);
}

static void pack_twice(void)
{
	put_pack(1, 0, "other", MEMBER_FILE);
	put_pack(1, 0, "more", MEMBER_FILE);
}

static void pack_data_too_long(void)
{
	put_pack(1, 0, "other", MEMBER_FILE);
	expect(&control, FRAME_NEED, 1);
	try_data(1, 0, 151);
}

static void pack_data_too_short(void)
{
	put_pack(1, 0, "other", MEMBER_FILE);
	expect(&control, FRAME_NEED, 1);
	try_data(1, 0, 149);
}

static void err_beyond_the_pack(void)
{
	put_pack(1, 0, "other", MEMBER_FILE);
	put_member_err(1, 3);
}

static void leaf_not_asked_for(void)
{
	assert_true(peer_put_file(&control, 1, &large_file, 0));
	assert_true(peer_put_least(&control, FRAME_LEAF, 1));
}

static void leaf_of_a_pack_not_asked_for(void)
{
	put_pack(1, 0, "other", MEMBER_FILE);
	assert_true(peer_put_least(&control, FRAME_LEAF, 1));
}

static void map_without_sparse(void)
{
	assert_true(peer_put_file(&control, 1, &large_file, 0));
	put_extent(FRAME_MAP, 1, 0, 5);
}

static void map_twice(void)
{
	assert_true(peer_put_file(&control, 1, &large_file, FILE_SPARSE));
	put_extent(FRAME_MAP, 1, 0, 5);
	put_extent(FRAME_MAP, 1, 0, 5);
}

static void map_beyond_the_size(void)
{
	assert_true(peer_put_file(&control, 1, &large_file, FILE_SPARSE));
	put_extent(FRAME_MAP, 1, 0, large_file.size + 1);
}

static void map_of_a_pack(void)
{
	put_pack(1, 0, "other", MEMBER_FILE);
	put_extent(FRAME_MAP, 1, 0, 5);
}

static void data_of_a_hole(void)
{
	assert_true(peer_put_file(&control, 1, &large_file, FILE_SPARSE));
	put_extent(FRAME_MAP, 1, 0, 5);
	expect(&control, FRAME_NEED, 1);
	try_data(1, LEAF, LEAF);
}

/* Each in a session of its own, for PROTO. */
static void each_ends_a_session(
	const struct host *host, uint8_t tree, void (*const attack[])(void), size_t count)
{
	for (size_t i = 0; i < count; i++) {
		print_message("# attack %zu\n", i);
		open_tree(host, tree);
		attack[i]();
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
		(void)unlinkat(host->arena->root, "d", AT_REMOVEDIR);
	}
}

static void what_a_tree_may_not_say_ends_the_session(void **state)
{
	static void (*const attack[])(void) = { dir_in_unknown, dir_twice, dir_backwards,
		dir_in_itself, leave_of_unknown, member_in_unknown, file_in_unknown,
		member_that_leads_out, member_with_a_slash, pack_twice, pack_data_too_long,
		pack_data_too_short, err_beyond_the_pack, leaf_not_asked_for,
		leaf_of_a_pack_not_asked_for, map_without_sparse, map_twice, map_beyond_the_size,
		map_of_a_pack, data_of_a_hole };
	struct host host;

	begin(&host, state, HOST_KEY);
	each_ends_a_session(&host, TREE_TOLD, attack, ARRAY_LEN(attack));
	end_well(&host, 0);
}

static void what_was_not_agreed_on_is_not_taken(void **state)
{
	struct host host;

	begin(&host, state, HOST_KEY);
	open_tree(&host, 0);
	put_dir(1, 0, "d");
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	open_tree(&host, TREE_RECURSIVE);
	put_pack(1, 0, "other", MEMBER_LINK);
	ends_with(&control, ZH_PROTO);
	end_well(&host, 0);
}

static void a_pack_by_the_rules_is_taken(void **state)
{
	struct host host;

	begin(&host, state, HOST_KEY);
	open_tree(&host, TREE_TOLD);
	put_dir(1, 0, "d");
	put_pack(1, 1, "other", MEMBER_FILE);
	expect(&control, FRAME_NEED, 1);
	put_pack_data(1, 150);
	put_pack_end(1, 150);
	expect(&control, FRAME_ACK, 1);
	put_leave(1);
	wait_until_read(&control);
	peer_close(&data);
	say_goodbye(&control);
	assert_int_equal(faccessat(host.arena->root, "d/other", F_OK, 0), 0);
	end_well(&host, 1);
}

static void a_member_that_was_given_up_is_not_made(void **state)
{
	struct host host;

	begin(&host, state, HOST_KEY);
	open_tree(&host, TREE_TOLD);
	put_dir(1, 0, "d");
	put_pack(1, 1, "other", MEMBER_FILE);
	expect(&control, FRAME_NEED, 1);
	put_pack_data(1, 150);
	usleep(100000); /* the bytes are there first */
	put_member_err(1, 2);
	put_pack_end(1, 150);
	expect(&control, FRAME_ACK, 1);
	peer_close(&data);
	say_goodbye(&control);
	assert_int_equal(faccessat(host.arena->root, "d/first", F_OK, 0), 0);
	assert_int_not_equal(faccessat(host.arena->root, "d/other", F_OK, 0), 0);
	end_well(&host, 1);
}

static void a_pack_whose_data_never_comes_leaves_nothing(void **state)
{
	struct host host;

	begin(&host, state, HOST_KEY);
	open_tree(&host, TREE_TOLD);
	put_pack(1, 0, "other", MEMBER_FILE);
	expect(&control, FRAME_NEED, 1);
	put_pack_end(1, 150);
	wait_until_read(&control);
	end_well(&host, 0);
}

enum { FLOOD = LIMIT_OPEN_DIRS + 64, FLOOD_STEP = 500, PEAK_KIB = 96 * 1024 };

static void directories_without_end_reach_a_limit(void **state)
{
	char name[32];
	struct host host;

	begin(&host, state, HOST_KEY);
	open_tree(&host, TREE_TOLD);
	put_dir(1, 0, "d");
	for (uint64_t id = 2; id < FLOOD; id++) {
		(void)snprintf(name, sizeof(name), "%llu", (unsigned long long)id);
		put_dir(id, 1, name);
		if (id % FLOOD_STEP == 0)
			wait_until_read(&control);
	}
	put_dir(FLOOD, 0, "last");
	do {
		assert_int_equal(peer_get_news(&control, PEER_WAIT_MS), 0);
	} while (control.frame.id != FLOOD);
	assert_int_equal(control.frame.type, FRAME_ERR);
	struct wire_err err;
	assert_int_equal(wire_parse_err(control.payload, control.frame.length, &err), 0);
	assert_int_equal(err.outcome, ZH_LIMIT);
	if (is_bare())
		assert_in_range(process_peak_kib(host_session_pid(&host)), 1, PEAK_KIB);
	end_well(&host, 1);
}

static void a_flood_of_leaves_is_forgotten(void **state)
{
	struct host host;

	begin(&host, state, HOST_KEY);
	text_file(host.arena->root, "d", "x");
	open_tree(&host, TREE_TOLD);
	put_dir(1, 0, "d"); /* cannot be made, so that it is not known as one that was left */
	expect(&control, FRAME_ERR, 1);
	for (size_t i = 0; i < FLOOD; i++)
		put_leave(1);
	wait_until_read(&control);
	if (is_bare())
		assert_in_range(process_peak_kib(host_session_pid(&host)), 1, PEAK_KIB);
	peer_close(&data);
	say_goodbye(&control);
	end_well(&host, 1);
}

/* ------------------------------ attributes --------------------------------------------- */

enum { TREE_ATTRIBUTED = TREE_RECURSIVE | TREE_XATTRS };

static uint8_t attr_bytes[FRAME_PAYLOAD_CAP];

/* An ATTR with one attribute of so many zeros; returns its length. */
static size_t fill_attr(const char *name, uint32_t length)
{
	static const uint8_t zeros[FRAME_PAYLOAD_CAP];
	struct wire_xattr xattr = { .name = name,
		.name_length = (uint8_t)strlen(name),
		.value = zeros,
		.value_length = length };
	int head = wire_build_attr_head(0, 0, attr_bytes, sizeof(attr_bytes));
	int more = wire_build_attr_add(&xattr, attr_bytes, (size_t)head, sizeof(attr_bytes));

	assert_true(more > 0);
	return (size_t)(head + more);
}

/* False: the server is gone. */
static bool put_attr(uint64_t id, uint8_t flags, size_t length)
{
	return peer_put(&control,
		(struct head){
			.type = FRAME_ATTR, .flags = flags, .length = (uint32_t)length, .id = id },
		attr_bytes, length);
}

static void of_a_dir(size_t length)
{
	put_dir(1, 0, "d");
	assert_true(put_attr(1, ATTR_DIRECTORY, length));
}

static void of_a_file(size_t length)
{
	assert_true(peer_put_file(&control, 1, &small_file, 0));
	assert_true(put_attr(1, 0, length));
}

static void names_that_were_not_agreed_on_are_not_taken(void **state)
{
	static const struct {
		uint8_t tree;
		const char *name;
	} rows[] = {
		{ TREE_ATTRIBUTED, "security.capability" },
		{ TREE_ATTRIBUTED, "security.selinux" },
		{ TREE_ATTRIBUTED, "trusted.overlay.opaque" },
		{ TREE_ATTRIBUTED, "system.posix_acl_access" },
		{ TREE_ATTRIBUTED, "system.posix_acl_default" },
		{ TREE_ATTRIBUTED, "user." },
		{ TREE_ATTRIBUTED, "user" },
		{ TREE_ATTRIBUTED, "User.a" },
		{ TREE_ATTRIBUTED, "other" },
		{ TREE_ATTRIBUTED | TREE_OWNER, "security.capability" },
		{ TREE_ATTRIBUTED | TREE_OWNER, "trusted.a" },
		{ TREE_ATTRIBUTED | TREE_OWNER, "system.posix_acl_accesses" },
		{ TREE_RECURSIVE | TREE_OWNER, "user.a" },
		{ TREE_RECURSIVE, "user.a" },
	};
	static void (*const put[])(size_t length) = { of_a_dir, of_a_file };
	struct host host;

	begin(&host, state, HOST_KEY);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (size_t k = 0; k < ARRAY_LEN(put); k++) {
			print_message("# row %zu\n", i);
			open_tree(&host, rows[i].tree);
			put[k](fill_attr(rows[i].name, 20));
			ends_with(&control, ZH_PROTO);
			peer_close(&data);
			(void)unlinkat(host.arena->root, "d", AT_REMOVEDIR);
		}
	end_well(&host, 0);
}

static void attr_with_a_name_twice(void)
{
	size_t length = fill_attr("user.a", 3);

	memcpy(attr_bytes + length, attr_bytes + 12, length - 12);
	attr_bytes[8] = 2;
	of_a_file(2 * length - 12);
}

static void attr_with_more_than_it_says(void)
{
	size_t length = fill_attr("user.a", 3);

	attr_bytes[8] = 0;
	of_a_file(length);
}

static void attr_with_less_than_it_says(void)
{
	size_t length = fill_attr("user.a", 3);

	put_le32(attr_bytes + 8, UINT32_MAX);
	of_a_file(length);
}

static void attr_with_a_value_beyond_its_end(void)
{
	size_t length = fill_attr("user.a", 3);

	put_le32(attr_bytes + 16, UINT32_MAX);
	of_a_file(length);
}

static void attr_with_one_too_many(void)
{
	struct wire_xattr xattr = { .name_length = 9, .value = attr_bytes };
	size_t length = (size_t)wire_build_attr_head(0, 0, attr_bytes, sizeof(attr_bytes));
	char name[16];

	xattr.name = name;
	for (unsigned i = 0; i <= LIMIT_XATTRS; i++) {
		(void)snprintf(name, sizeof(name), "user.%04u", i);
		put_le32(attr_bytes + 8, 0); /* the builder counts, too */
		length +=
			(size_t)wire_build_attr_add(&xattr, attr_bytes, length, sizeof(attr_bytes));
	}
	put_le32(attr_bytes + 8, LIMIT_XATTRS + 1);
	of_a_dir(length);
}

static void attr_twice(void)
{
	size_t length = fill_attr("user.a", 3);

	of_a_file(length);
	assert_true(put_attr(1, 0, length));
}

static void attr_after_end(void)
{
	struct digest root = content_root(small_file.size, 5);

	assert_true(peer_put_file(&control, 1, &small_file, 0));
	expect(&control, FRAME_NEED, 1);
	assert_true(peer_put_end(&control, 1, &small_file, &root));
	assert_true(put_attr(1, 0, fill_attr("user.a", 3)));
}

static void attr_of_a_pack(void)
{
	put_pack(1, 0, "other", MEMBER_FILE);
	assert_true(put_attr(1, 0, fill_attr("user.a", 3)));
}

static void attr_of_an_unknown_file(void)
{
	assert_true(put_attr(1, 0, fill_attr("user.a", 3)));
}

static void attr_of_an_unknown_dir(void)
{
	assert_true(put_attr(1, ATTR_DIRECTORY, fill_attr("user.a", 3)));
}

static void what_attributes_may_not_say_ends_the_session(void **state)
{
	static void (*const attack[])(void) = { attr_with_a_name_twice, attr_with_more_than_it_says,
		attr_with_less_than_it_says, attr_with_a_value_beyond_its_end,
		attr_with_one_too_many, attr_twice, attr_after_end, attr_of_a_pack,
		attr_of_an_unknown_file, attr_of_an_unknown_dir };
	struct host host;

	begin(&host, state, HOST_KEY);
	each_ends_a_session(&host, TREE_ATTRIBUTED, attack, ARRAY_LEN(attack));
	end_well(&host, 0);
}

/* Not even where the client names what it is about to do. */
static void a_server_that_was_not_told_so_takes_nothing_privileged(void **state)
{
	struct wire_setup setup = { .streams = 1, .tree = TREE_XATTRS | TREE_PRIVILEGED };
	struct host host;

	begin(&host, state, HOST_KEY);
	for (uint8_t direction = ZH_PUSH; direction <= ZH_PULL; direction++) {
		host_connect(&host, direction == ZH_PUSH ? HELLO_PUSH : HELLO_PULL, &control);
		setup.direction = direction;
		assert_true(peer_put_setup(&control, &setup));
		ends_with(&control, ZH_POLICY);
	}
	end_well(&host, 0);
}

static ssize_t xattr_length(int root, const char *file, const char *name)
{
	int fd = openat(root, file, O_RDONLY | O_CLOEXEC);
	ssize_t length = fgetxattr(fd, name, NULL, 0);

	close(fd);
	return length;
}

static void attributes_by_the_rules_are_set(void **state)
{
	struct host host;

	begin(&host, state, HOST_KEY);
	if (fsetxattr(host.arena->root, "user.a", "", 0, 0) != 0 ||
		fremovexattr(host.arena->root, "user.a") != 0) {
		end_well(&host, 0);
		SKIP("no extended attributes here");
	}
	open_tree(&host, TREE_ATTRIBUTED);
	put_dir(1, 0, "d");
	assert_true(peer_put_file(&control, 1, &small_file, 0));
	assert_true(put_attr(1, 0, fill_attr("user.a", 3)));
	expect(&control, FRAME_NEED, 1);
	send_file(&control, &data, 1, &small_file);
	assert_true(put_attr(1, ATTR_DIRECTORY, fill_attr("user.b", 5)));
	put_leave(1);
	wait_until_read(&control);
	peer_close(&data);
	say_goodbye(&control);
	assert_int_equal(xattr_length(host.arena->root, "target", "user.a"), 3);
	assert_int_equal(xattr_length(host.arena->root, "d", "user.b"), 5);
	end_well(&host, 2);
}

/* Either they are set as quickly as they come, or there is a limit. */
static void a_flood_of_attributes_of_a_directory_takes_little_memory(void **state)
{
	size_t length = fill_attr("user.a", 65000);
	struct host host;

	begin(&host, state, HOST_KEY);
	open_tree(&host, TREE_ATTRIBUTED);
	put_dir(1, 0, "d");
	wait_until_read(&control);
	pid_t session = host_session_pid(&host);
	size_t peak = 0;
	for (size_t i = 0; i < 3000 && put_attr(1, ATTR_DIRECTORY, length); i++)
		if (i % 100 == 0)
			peak = max_u64(peak, process_peak_kib(session));
	if (is_bare())
		assert_in_range(peak, 1, PEAK_KIB + LIMIT_HELD_XATTRS / 1024);
	end_well(&host, 1);
}

static void attributes_of_files_without_end_reach_a_limit(void **state)
{
	size_t length = fill_attr("user.a", 65000);
	size_t held = sizeof(struct xattrs) + sizeof(struct xattr) + length;
	struct wire_file file = { .size = 1, .mtime_s = 1, .mode = 0644 };
	struct wire_err err;
	struct host host;

	begin(&host, state, HOST_KEY);
	open_tree(&host, TREE_ATTRIBUTED);
	for (uint64_t id = 1; id <= LIMIT_HELD_XATTRS / held + 1; id++) {
		(void)snprintf(file.name, sizeof(file.name), "%llu", (unsigned long long)id);
		assert_true(peer_put_file(&control, id, &file, 0));
		assert_true(put_attr(id, 0, length));
	}
	do {
		assert_int_equal(peer_get_news(&control, PEER_WAIT_MS), 0);
	} while (control.frame.type != FRAME_ERR);
	assert_int_equal(control.frame.id, 0);
	assert_int_equal(wire_parse_err(control.payload, control.frame.length, &err), 0);
	assert_int_equal(err.outcome, ZH_LIMIT);
	end_well(&host, 0);
}

/* ------------------------------ removing ------------------------------------------------ */

enum { TREE_MIRROR = TREE_RECURSIVE | TREE_DELETE };

static void put_keep(uint64_t id, const void *names, uint32_t length)
{
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_KEEP, .length = length, .id = id }, names, length));
}

/* Up to OPEN, with the root as the mirror. */
static void open_mirror(const struct host *host)
{
	struct wire_setup setup = {
		.durability = ZH_DURABLE_NONE, .streams = 4, .tree = TREE_MIRROR
	};

	host_connect(host, HELLO_PUSH, &control);
	assert_true(peer_put_setup(&control, &setup));
	assert_true(peer_put_want(&control, 1, "", WANT_LAST | WANT_CONTENTS));
	expect(&control, FRAME_PLACE, 1);
	assert_int_equal(host_attach(host, &control, HELLO_PUSH, 0, &data), 0);
}

/* "d" with a file, a directory with a file in it, and a link that leads out. */
static void make_found(const struct host *host)
{
	int root = host->arena->root;

	assert_int_equal(mkdirat(root, "d", 0755), 0);
	assert_int_equal(mkdirat(root, "d/sub", 0755), 0);
	text_file(root, "d/file", "x");
	text_file(root, "d/sub/file", "x");
	assert_int_equal(symlinkat("../../outside", root, "d/out"), 0);
}

static void found_is_there(const struct host *host)
{
	assert_int_equal(entry_count(host->arena->root, "d"), 3);
	assert_int_equal(entry_count(host->arena->root, "d/sub"), 1);
}

/* Ends it by the rules. What the server says that it has removed. */
static uint64_t removed_at_the_end(void)
{
	peer_close(&data);
	assert_true(peer_put_bye(&control));
	expect(&control, FRAME_BYE, 0);
	assert_true(peer_wait_closed(&control, 2000) >= 0);
	peer_close(&control);
	return get_le64(control.payload + 976);
}

static void keep_of_unknown(void)
{
	put_keep(7, "\1a", 2);
}

static void keep_that_leads_out(void)
{
	put_dir(1, 0, "d");
	put_keep(1, "\1a\2..", 5);
}

static void keep_with_a_slash(void)
{
	put_dir(1, 0, "d");
	put_keep(1, "\3a/b", 4);
}

static void keep_that_is_cut(void)
{
	put_dir(1, 0, "d");
	put_keep(1, "\5ab", 3);
}

static void complete_of_unknown(void)
{
	put_leave_flags(1, LEAVE_COMPLETE);
}

static void complete_of_a_place_that_holds_sources(void)
{
	put_dir(1, 0, "d");
	put_leave_flags(0, LEAVE_COMPLETE);
}

static void what_of_removing_may_not_be_said_ends_the_session(void **state)
{
	static void (*const attack[])(void) = { keep_of_unknown, keep_that_leads_out,
		keep_with_a_slash, keep_that_is_cut, complete_of_unknown,
		complete_of_a_place_that_holds_sources };
	struct host host;

	begin(&host, state, HOST_KEY);
	make_found(&host);
	for (size_t i = 0; i < ARRAY_LEN(attack); i++) {
		print_message("# attack %zu\n", i);
		open_tree(&host, TREE_MIRROR);
		attack[i]();
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
		found_is_there(&host);
	}
	end_well(&host, 1);
}

static void nothing_is_removed_that_was_not_agreed_on(void **state)
{
	struct wire_setup setup = { .streams = 1, .tree = TREE_MIRROR };
	struct wire_err err = { .outcome = ZH_PERM, .stage = "test", .text = "test" };
	uint8_t bytes[WIRE_ERR_BYTES];
	struct host host;

	begin(&host, state, HOST_KEY);
	make_found(&host);
	open_tree(&host, TREE_TOLD);
	put_dir(1, 0, "d");
	put_keep(1, "\1a", 2);
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	open_tree(&host, TREE_TOLD);
	put_dir(1, 0, "d");
	put_leave_flags(1, LEAVE_COMPLETE);
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	/* a rule comes before the place is asked for */
	host_connect(&host, HELLO_PUSH, &control);
	assert_true(peer_put_setup(&control, &setup));
	assert_true(peer_put_want(&control, 1, "d", 0));
	expect(&control, FRAME_PLACE, 1);
	assert_true(peer_put(&control, (struct head){ .type = FRAME_RULE, .length = 1 }, "x", 1));
	ends_with(&control, ZH_PROTO);
	/* nothing that is stored could be there */
	memcpy(setup.strategy, "discard", 8);
	setup.verify = ZH_VERIFY_NONE;
	setup.durability = ZH_DURABLE_NONE;
	host_connect(&host, HELLO_PUSH, &control);
	assert_true(peer_put_setup(&control, &setup));
	ends_with(&control, ZH_CONFIG);
	/* and nothing of the place could fail */
	assert_int_equal(wire_build_err(&err, bytes, sizeof(bytes)), sizeof(bytes));
	host_open_pull(&host, "d/file", &control);
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_ERR, .flags = ERR_DIRECTORY, .length = sizeof(bytes) },
		bytes, sizeof(bytes)));
	ends_with(&control, ZH_PROTO);
	found_is_there(&host);
	end_well(&host, 1);
}

static void what_was_not_told_is_removed_and_nothing_else(void **state)
{
	struct host host;
	int root;

	begin(&host, state, HOST_KEY);
	root = host.arena->root;
	make_found(&host);
	text_file(root, "beside", "x");
	open_tree(&host, TREE_MIRROR);
	put_dir(1, 0, "d");
	put_leave(1); /* not all of it was told */
	assert_int_equal(removed_at_the_end(), 0);
	found_is_there(&host);
	open_tree(&host, TREE_MIRROR);
	put_dir(1, 0, "d");
	put_dir(2, 1, "sub"); /* told, but what is in it was not */
	put_keep(1, "\3out", 4);
	put_keep(1, "\3out\5gone?", 10);
	put_leave(2);
	put_leave_flags(1, LEAVE_COMPLETE);
	assert_int_equal(removed_at_the_end(), 1);
	assert_int_equal(entry_count(root, "d"), 2);
	assert_int_equal(entry_count(root, "d/sub"), 1);
	open_tree(&host, TREE_MIRROR);
	put_dir(1, 0, "d");
	put_leave_flags(1, LEAVE_COMPLETE);
	assert_int_equal(removed_at_the_end(), 3);
	assert_int_equal(entry_count(root, "d"), 0);
	end_well(&host, 2);
	assert_int_equal(unlinkat(root, "beside", 0), 0);
}

/* The root itself: its staging directory is not touched. */
static void a_mirrored_place_keeps_what_it_was_told(void **state)
{
	struct host host;
	int root;

	begin(&host, state, HOST_KEY);
	root = host.arena->root;
	make_found(&host);
	text_file(root, "beside", "x");
	open_mirror(&host);
	put_dir(1, 0, "d");
	put_leave(1);
	put_leave_flags(0, LEAVE_COMPLETE);
	assert_int_equal(removed_at_the_end(), 1);
	found_is_there(&host);
	open_mirror(&host);
	put_pack(1, 0, "other", MEMBER_FILE);
	expect(&control, FRAME_NEED, 1);
	put_pack_data(1, 150);
	put_pack_end(1, 150);
	expect(&control, FRAME_ACK, 1);
	put_leave_flags(0, LEAVE_COMPLETE);
	assert_int_equal(removed_at_the_end(), 5);
	assert_int_equal(faccessat(root, "other", F_OK, 0), 0);
	end_well(&host, 2);
}

/* What cannot be named, or is named twice, makes everything after it stay. */
static void after_a_name_that_cannot_be_read_nothing_is_removed(void **state)
{
	struct wire_file file = small_file;
	struct host host;

	begin(&host, state, HOST_KEY);
	make_found(&host);
	open_tree(&host, TREE_MIRROR);
	put_dir(1, 0, "d");
	file.parent = 1;
	assert_true(peer_put_file_raw(&control, 1, &file, "a/b", 3, 0));
	file_fails(&control, 1, ZH_UNSAFE_NAME);
	put_leave_flags(1, LEAVE_COMPLETE);
	assert_int_equal(removed_at_the_end(), 0);
	open_tree(&host, TREE_MIRROR);
	put_dir(1, 0, "d");
	put_dir(2, 0, "d");
	put_leave_flags(2, LEAVE_COMPLETE);
	put_leave_flags(1, LEAVE_COMPLETE);
	expect(&control, FRAME_ERR, 2);
	assert_int_equal(control.frame.flags, ERR_DIRECTORY);
	assert_int_equal(removed_at_the_end(), 0);
	found_is_there(&host);
	end_well(&host, 1);
}

static void names_without_end_reach_a_limit_and_nothing_is_removed(void **state)
{
	static uint8_t names[FRAME_PAYLOAD_CAP];
	struct wire_err err;
	struct host host;

	begin(&host, state, HOST_KEY);
	make_found(&host);
	for (size_t at = 0; at < sizeof(names); at += 2)
		memcpy(names + at, "\1n", 2);
	open_tree(&host, TREE_MIRROR);
	put_dir(1, 0, "d");
	put_dir(2, 1, "sub");
	for (size_t told = 0; told < LIMIT_TOLD_BYTES; told += sizeof(names) / 2 * 10)
		put_keep(1, names, sizeof(names));
	put_keep(1, names, sizeof(names));
	put_keep(2, "\1a", 2); /* what is forgotten leaves room for others */
	put_leave_flags(2, LEAVE_COMPLETE);
	put_leave_flags(1, LEAVE_COMPLETE);
	expect(&control, FRAME_ERR, 1);
	assert_int_equal(control.frame.flags, ERR_DIRECTORY);
	assert_int_equal(wire_parse_err(control.payload, control.frame.length, &err), 0);
	assert_int_equal(err.outcome, ZH_LIMIT);
	if (is_bare())
		assert_in_range(process_peak_kib(host_session_pid(&host)), 1, PEAK_KIB);
	assert_int_equal(removed_at_the_end(), 1);
	assert_int_equal(entry_count(host.arena->root, "d"), 3);
	end_well(&host, 1);
}

/* ------------------------------ while it removes --------------------------------------- */

enum { STALE = 20, SLOW_MS = 100 };

/* Each call of this kind takes the server so long. */
static void begin_slow(
	struct host *host, void **state, enum sys_call call, int delay_ms, unsigned flags)
{
	sys_fault_arm(&(struct sys_fault){
		.kind = SYS_FAULT_SLOW, .call = call, .error = delay_ms, .nth = 1 });
	begin(host, state, flags);
	sys_fault_arm(NULL);
}

/* A directory with so many files that the source has not. */
static void make_stale(const struct host *host, const char *name, unsigned count)
{
	char path[64];

	if (mkdirat(host->arena->root, name, 0755) < 0)
		assert_int_equal(errno, EEXIST);
	for (unsigned i = 0; i < count; i++) {
		(void)snprintf(path, sizeof(path), "%s/%u", name, i);
		text_file(host->arena->root, path, "x");
	}
}

/* Up to OPEN, with a directory that is being removed from; it is left already. */
static void begin_removing(const struct host *host)
{
	make_stale(host, "d", STALE);
	open_tree(host, TREE_MIRROR | TREE_XATTRS);
	put_dir(1, 0, "d");
	put_leave_flags(1, LEAVE_COMPLETE);
}

/* The same, and all has been said. */
static void begin_removing_after_bye(const struct host *host)
{
	begin_removing(host);
	peer_close(&data);
	assert_true(peer_put_bye(&control));
	wait_until_read(&control);
}

static void whoever_removes_after_bye_answers(void **state)
{
	struct host host;

	begin_slow(&host, state, SYS_UNLINK, SLOW_MS, HOST_KEY);
	begin_removing_after_bye(&host);
	assert_in_range(entry_count(host.arena->root, "d"), 1, STALE);
	expect(&control, FRAME_BYE, 0);
	assert_int_equal(get_le64(control.payload + 976), STALE);
	assert_true(peer_wait_closed(&control, 2000) >= 0);
	assert_int_equal(entry_count(host.arena->root, "d"), 0);
	end_well(&host, 1);
}

static void give_up(void)
{
	assert_true(peer_put_err(&control, 0, ZH_CANCELLED, "changed my mind"));
	assert_true(peer_wait_closed(&control, SLOW_MS * STALE / 2) >= 0);
	peer_close(&control);
}

static void go_away(void)
{
	peer_close(&control);
}

static void say_more(void)
{
	put_dir(2, 0, "e");
	ends_with(&control, ZH_PROTO);
}

static void say_bye_again(void)
{
	assert_true(peer_put_bye(&control));
	ends_with(&control, ZH_PROTO);
}

/* What has gone until then is told. */
static void whoever_removes_after_bye_listens(void **state)
{
	static void (*const end[])(void) = { give_up, go_away, say_more, say_bye_again };
	char line[64];
	size_t left;
	struct host host;

	begin_slow(&host, state, SYS_UNLINK, SLOW_MS, HOST_KEY);
	for (size_t i = 0; i < ARRAY_LEN(end); i++) {
		print_message("# end %zu\n", i);
		begin_removing_after_bye(&host);
		(void)poll(NULL, 0, 3 * SLOW_MS / 2);
		end[i]();
		for (unsigned waits = 0; host_sessions(&host) > 0 && waits < 100; waits++)
			(void)poll(NULL, 0, 10);
		assert_int_equal(host_sessions(&host), 0);
		left = entry_count(host.arena->root, "d");
		assert_in_range(left, 1, STALE - 1);
		(void)snprintf(line, sizeof(line), "removed: %zu names", STALE - left);
		assert_true(host_log_has(&host, line));
	}
	end_well(&host, 1);
}

static void dir_in_left(void)
{
	put_dir(2, 1, "e");
}

static void file_in_left(void)
{
	struct wire_file file = small_file;

	file.parent = 1;
	assert_true(peer_put_file(&control, 1, &file, 0));
}

static void member_in_left(void)
{
	put_pack(1, 1, "other", MEMBER_FILE);
}

static void keep_of_left(void)
{
	put_keep(1, "\1a", 2);
}

static void attr_of_left(void)
{
	(void)put_attr(1, ATTR_DIRECTORY, fill_attr("user.note", 10));
}

static void leave_of_left(void)
{
	put_leave(1);
}

/* What is said of it then is not known to whoever removes. */
static void a_directory_that_was_left_is_not_spoken_of(void **state)
{
	static void (*const attack[])(void) = { dir_in_left, file_in_left, member_in_left,
		keep_of_left, attr_of_left, leave_of_left };
	struct host host;

	begin_slow(&host, state, SYS_UNLINK, SLOW_MS, HOST_KEY);
	for (size_t i = 0; i < ARRAY_LEN(attack); i++) {
		print_message("# attack %zu\n", i);
		begin_removing(&host);
		attack[i]();
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
	}
	open_mirror(&host);
	put_keep(0, "\1d", 2);
	put_leave_flags(0, LEAVE_COMPLETE);
	put_dir(1, 0, "d");
	ends_with(&control, ZH_PROTO);
	end_well(&host, 1);
}

/* Also of what has been told completely before. */
static void a_second_name_of_a_directory_ends_all_removing(void **state)
{
	struct host host;

	begin_slow(&host, state, SYS_UNLINK, SLOW_MS, HOST_KEY);
	make_found(&host);
	make_stale(&host, "slow", STALE);
	open_tree(&host, TREE_MIRROR);
	put_dir(1, 0, "slow");
	put_dir(2, 0, "d");
	put_leave_flags(1, LEAVE_COMPLETE);
	put_leave_flags(2, LEAVE_COMPLETE);
	put_dir(3, 0, "d");
	wait_until_read(&control);
	size_t left = entry_count(host.arena->root, "slow");
	assert_in_range(left, 1, STALE);
	put_leave_flags(3, LEAVE_COMPLETE);
	expect(&control, FRAME_ERR, 3);
	assert_int_equal(control.frame.flags, ERR_DIRECTORY);
	assert_int_equal(removed_at_the_end(), STALE - left);
	assert_int_equal(entry_count(host.arena->root, "slow"), left);
	found_is_there(&host);
	end_well(&host, 2);
}

/* More than there are numbers, behind one that takes its time. In a dry run they take little. */
static void directories_that_wait_to_be_left_are_waited_for(void **state)
{
	struct wire_setup setup = {
		.durability = ZH_DURABLE_NONE, .streams = 4, .tree = TREE_MIRROR, .dry_run = 1
	};
	char name[32];
	struct host host;

	begin_slow(&host, state, SYS_READDIR, 2 * SLOW_MS, HOST_KEY);
	assert_int_equal(mkdirat(host.arena->root, "d", 0755), 0);
	for (unsigned i = 0; i < STALE; i++) {
		(void)snprintf(name, sizeof(name), "d/%u", i);
		assert_int_equal(mkdirat(host.arena->root, name, 0755), 0);
	}
	open_wishing(&host, &setup);
	put_dir(1, 0, "d");
	put_leave_flags(1, LEAVE_COMPLETE);
	put_dir(2, 0, "e");
	for (uint64_t id = 3; id < FLOOD; id++) {
		(void)snprintf(name, sizeof(name), "%llu", (unsigned long long)id);
		put_dir(id, 2, name);
		put_leave(id);
	}
	put_leave(2);
	peer_close(&data);
	assert_true(peer_put_bye(&control));
	assert_int_equal(peer_get_news(&control, GONE_MS), 0);
	assert_int_equal(control.frame.type, FRAME_BYE);
	assert_int_equal(get_le64(control.payload + 976), STALE);
	end_well(&host, 1);
}

/* The names of directories are stored safely before BYE is answered. */
static void whoever_syncs_after_bye_answers(void **state)
{
	struct wire_setup setup = {
		.durability = ZH_DURABLE_FULL, .streams = 4, .tree = TREE_RECURSIVE
	};
	struct host host;

	begin_slow(&host, state, SYS_SYNCFS, 1000, HOST_KEY);
	open_wishing(&host, &setup);
	put_dir(1, 0, "d");
	put_leave(1);
	peer_close(&data);
	assert_true(peer_put_bye(&control));
	wait_until_read(&control);
	expect(&control, FRAME_BYE, 0);
	end_well(&host, 1);
}

/* ------------------------------ END and BYE -------------------------------------------- */

static void an_end_that_does_not_fit_its_file_ends_the_session(void **state)
{
	struct digest root = content_root(large_file.size, 5);
	struct wire_file wrong[4];
	struct host host;

	begin(&host, state, 0);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		wrong[i] = large_file;
		wrong[i].size += i == 0;
		wrong[i].size = i == 1 ? INT64_MAX : wrong[i].size;
		wrong[i].mtime_s += i == 2;
		wrong[i].mtime_ns += i == 3;
		begin_push(&host, &large_file);
		assert_true(peer_put_end(&control, 1, &wrong[i], &root));
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
	}
	/* twice, while leaves are missing and when it is done; for a file that is not there */
	begin_push(&host, &large_file);
	assert_true(peer_put_end(&control, 1, &large_file, &root));
	assert_true(peer_put_end(&control, 1, &large_file, &root));
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	begin_push(&host, &small_file);
	send_file(&control, &data, 1, &small_file);
	root = content_root(small_file.size, 5);
	assert_true(peer_put_end(&control, 1, &small_file, &root));
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	host_open_push(&host, &control);
	assert_true(peer_put_end(&control, 1, &small_file, &root));
	ends_with(&control, ZH_PROTO);
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void a_wrong_root_leaves_the_visible_name_alone(void **state)
{
	struct digest root = content_root(small_file.size, 4);
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "target", 5000, 12);
	begin_push(&host, &small_file);
	send_leaf(&data, 1, 0, small_file.size);
	assert_true(peer_put_end(&control, 1, &small_file, &root));
	file_fails(&control, 1, ZH_VERIFY);
	peer_close(&data);
	say_goodbye(&control);
	assert_true(random_at(host.arena->root, "target", 5000, 12));
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void an_end_may_overtake_its_data(void **state)
{
	struct digest root = content_root(small_file.size, 5);
	struct host host;

	begin(&host, state, 0);
	begin_push(&host, &small_file);
	assert_true(peer_put_end(&control, 1, &small_file, &root));
	send_leaf(&data, 1, 0, small_file.size);
	expect(&control, FRAME_ACK, 1);
	peer_close(&data);
	say_goodbye(&control);
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void no_clobber_is_kept_for_each_file(void **state)
{
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "target", 5000, 12);
	host_open_push(&host, &control);
	assert_true(peer_put_file(&control, 1, &small_file, FILE_NO_CLOBBER));
	file_fails(&control, 1, ZH_EXISTS);
	say_goodbye(&control);
	assert_true(random_at(host.arena->root, "target", 5000, 12));
	/* also when the name comes into being meanwhile */
	assert_int_equal(unlinkat(host.arena->root, "target", 0), 0);
	host_open_push(&host, &control);
	assert_true(peer_put_file(&control, 1, &small_file, FILE_NO_CLOBBER));
	expect(&control, FRAME_NEED, 1);
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 0, &data), 0);
	random_file(host.arena->root, "target", 5000, 13);
	send_leaf(&data, 1, 0, small_file.size);
	struct digest root = content_root(small_file.size, 5);
	assert_true(peer_put_end(&control, 1, &small_file, &root));
	file_fails(&control, 1, ZH_EXISTS);
	assert_true(random_at(host.arena->root, "target", 5000, 13));
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

static void a_bye_before_the_files_are_settled_is_an_error(void **state)
{
	struct host host;

	begin(&host, state, 0);
	begin_push(&host, &small_file);
	send_leaf(&data, 1, 0, small_file.size);
	assert_true(peer_put_bye(&control));
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	random_file(host.arena->root, "served", 100000, 5);
	host_open_pull(&host, "served", &control);
	assert_true(peer_put_bye(&control));
	ends_with(&control, ZH_PROTO);
	end_well(&host, 1);
}

static void a_data_connection_left_open_after_bye_is_not_waited_for_for_ever(void **state)
{
	uint64_t start;
	struct host host;

	begin(&host, state, 0);
	begin_push(&host, &small_file);
	send_file(&control, &data, 1, &small_file);
	assert_true(peer_put_bye(&control));
	start = now_ms();
	assert_true(peer_wait_closed(&control, LIMIT_PING_MS + 5000) >= 0);
	assert_true(now_ms() - start <= LIMIT_PING_MS + 3000);
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

/* The server gives a session up for its data connections, though its client lives. */
static void ends_for_its_data(uint64_t start)
{
	for (;;) {
		int r = peer_get(&control, (int)LIMIT_REOPEN_MS + 5000);
		assert_int_equal(r, 0);
		if (control.frame.type == FRAME_ERR)
			break;
		assert_true(peer_put_least(&control, FRAME_PING, 1));
		(void)poll(NULL, 0, 50);
	}
	assert_int_equal(control.frame.id, 0);
	assert_int_equal(get_le16(control.payload), ZH_NET);
	assert_in_range(now_ms() - start, LIMIT_REOPEN_MS - 1000, LIMIT_REOPEN_MS + 3000);
	peer_close(&control);
}

/* Cut between two frames, where the stream is in step and nobody sends. */
static void a_data_connection_that_is_gone_does_not_leave_a_session_hanging(void **state)
{
	struct digest root = content_root(large_file.size, 5);
	uint64_t start;
	struct host host;

	begin(&host, state, 0);
	begin_push(&host, &large_file);
	send_leaf(&data, 1, 0, large_file.size);
	assert_true(peer_put_end(&control, 1, &large_file, &root));
	peer_close(&data);
	start = now_ms();
	expect(&control, FRAME_GOT, 0);
	assert_int_equal(control.frame.flags, GOT_LAST);
	assert_int_equal(control.frame.offset, 1);
	ends_for_its_data(start);
	end_well(&host, 0);
}

/* In the middle of a frame: its leaves are lacking again, and come by the next connection. */
static void a_data_connection_is_replaced_when_both_sides_know(void **state)
{
	struct digest root = content_root(large_file.size, 5);
	struct peer early;
	struct host host;

	begin(&host, state, 0);
	begin_push(&host, &large_file);
	send_leaf(&data, 1, 0, large_file.size);
	assert_true(peer_put_data(&data, 1, LEAF_BYTES, LEAF_BYTES, 5)); /* without its SUM */
	assert_true(peer_put_end(&control, 1, &large_file, &root));
	peer_close(&data);
	expect(&control, FRAME_GOT, 0);
	assert_int_equal(control.frame.flags, GOT_LAST);
	assert_int_equal(control.frame.offset, 1);
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 0, &early), PEER_CLOSED);
	peer_close(&early);
	assert_true(peer_put(&control, (struct head){ .type = FRAME_LOST }, NULL, 0));
	assert_true(peer_put_least(&control, FRAME_PING, 1)); /* LOST has been read before */
	do
		assert_int_equal(peer_get(&control, PEER_WAIT_MS), 0);
	while (control.frame.type != FRAME_PONG);
	assert_int_equal(host_attach(&host, &control, HELLO_PUSH, 0, &data), 0);
	for (uint64_t leaf = 1; leaf < leaf_count(large_file.size); leaf++)
		send_leaf(&data, 1, leaf, large_file.size);
	expect(&control, FRAME_ACK, 1);
	peer_close(&data);
	say_goodbye(&control);
	end_well(&host, 1);
}

static void the_end_of_a_data_connection_is_answered_once(void **state)
{
	struct host host;

	begin(&host, state, 0);
	begin_push(&host, &large_file);
	assert_true(peer_put(&control, (struct head){ .type = FRAME_LOST }, NULL, 0));
	assert_true(peer_wait_closed(&data, PEER_WAIT_MS) >= 0);
	expect(&control, FRAME_GOT, 0);
	assert_int_equal(control.frame.flags, GOT_LAST);
	assert_true(peer_put_least(&control, FRAME_PING, 1));
	assert_int_equal(peer_get(&control, PEER_WAIT_MS), 0);
	assert_int_equal(control.frame.type, FRAME_PONG);
	peer_close(&data);
	/* and of one that cannot be */
	assert_true(peer_put(&control, (struct head){ .type = FRAME_LOST, .id = 64 }, NULL, 0));
	ends_with(&control, ZH_PROTO);
	end_well(&host, 0);
}

enum { STAGES = 12 };

/* Goes so far, and no further. */
static void go_as_far_as(const struct host *host, unsigned stage, const struct wire_file *file)
{
	struct hello hello = peer_hello(HELLO_CONTROL, HELLO_AUTH_NONE, HELLO_PUSH);
	struct digest root = content_root(file->size, 5);
	uint8_t bytes[HELLO_BYTES];

	wire_build_hello(&hello, bytes);
	if (stage < 3)
		control.fd = peer_dial(host->port, NULL);
	if (stage == 1)
		assert_true(peer_write(&control, bytes, 60));
	if (stage == 2)
		assert_int_equal(peer_greet(&control, bytes), 0);
	if (stage == 3)
		host_connect(host, HELLO_PUSH, &control);
	if (stage == 4)
		host_setup(host, HELLO_PUSH, &control);
	if (stage >= 5)
		host_open_push(host, &control);
	if (stage >= 6)
		announce(&control, 1, file);
	if (stage >= 7)
		assert_int_equal(host_attach(host, &control, HELLO_PUSH, 0, &data), 0);
	if (stage >= 8) { /* within DATA */
		assert_true(peer_put(&data,
			(struct head){ .type = FRAME_DATA, .length = LEAF, .id = 1 }, NULL, 0));
		assert_true(peer_write(&data, bytes, sizeof(bytes)));
	}
	if (stage == 9) { /* before its SUM */
		static const uint8_t rest[LEAF_BYTES - HELLO_BYTES];
		assert_true(peer_write(&data, rest, sizeof(rest)));
	}
	if (stage >= 10)
		assert_true(peer_put_end(&control, 1, file, &root));
	if (stage >= 11) /* within a frame of control */
		assert_true(peer_write(&control, bytes, 30));
}

static void whoever_vanishes_leaves_nothing_behind(void **state)
{
	struct wire_file file = large_file;
	struct host host;

	begin(&host, state, 0);
	for (unsigned stage = 0; stage < STAGES; stage++)
		for (unsigned reset = 0; reset < 2; reset++) {
			control.fd = data.fd = -1;
			file.mtime_s++; /* the session before may still hold its staging file */
			go_as_far_as(&host, stage, &file);
			if (reset) {
				peer_reset(&control);
				if (data.fd >= 0)
					peer_reset(&data);
			} else {
				peer_close(&control);
				peer_close(&data);
			}
		}
	end_well(&host, 0);
}

static void an_acknowledged_file_stays_when_the_client_vanishes(void **state)
{
	struct host host;

	begin(&host, state, 0);
	begin_push(&host, &small_file);
	send_file(&control, &data, 1, &small_file);
	peer_reset(&data);
	peer_reset(&control);
	(void)poll(NULL, 0, 100);
	assert_true(random_at(host.arena->root, "target", small_file.size, 5));
	target_is_gone_after(&host, host.arena->root);
	end_well(&host, 0);
}

/* A descriptor of pid's socket at the other end of fd; -1: it has none. */
static int other_end(pid_t pid, int fd)
{
	struct sockaddr_in mine, theirs;
	socklen_t length = sizeof(mine);
	int process = (int)syscall(SYS_pidfd_open, pid, 0), found = -1;

	assert_true(process >= 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&mine, &length), 0);
	for (int number = 0; number < 256 && found < 0; number++) {
		found = (int)syscall(SYS_pidfd_getfd, process, number, 0);
		length = sizeof(theirs);
		if (found < 0 ||
			(getpeername(found, (struct sockaddr *)&theirs, &length) == 0 &&
				theirs.sin_family == AF_INET && theirs.sin_port == mine.sin_port))
			continue;
		(void)close(found);
		found = -1;
	}
	(void)close(process);
	return found;
}

static void no_frame_of_control_is_held_back(void **state)
{
	socklen_t length = sizeof(int);
	int nodelay = 0, fd;
	struct host host;

	begin(&host, state, 0);
	host_open_push(&host, &control);
	fd = other_end(host_session_pid(&host), control.fd);
	assert_true(fd >= 0);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &length), 0);
	(void)close(fd);
	assert_true(nodelay);
	end_well(&host, 0);
}

static void a_text_of_the_peer_is_logged_printable(void **state)
{
	uint8_t err[WIRE_ERR_BYTES] = { ZH_CANCELLED };
	struct host host;

	begin(&host, state, 0);
	host_open_push(&host, &control);
	memset(err + 28, 0x1b, 255);
	memset(err + 4, '\n', 23);
	assert_true(peer_put(&control, peer_least(FRAME_ERR, 0), err, sizeof(err)));
	assert_true(peer_wait_closed(&control, 1000) >= 0);
	peer_close(&control);
	for (unsigned i = 0; i < 500 && host_sessions(&host) > 0; i++)
		(void)poll(NULL, 0, 10);
	assert_false(host_log_has(&host, "\x1b"));
	assert_true(host_log_has(&host, "????"));
	end_well(&host, 0);
}

/* ------------------------------ to a sender -------------------------------------------- */

static void put_need(uint64_t id, const struct zh_extent *range, size_t count)
{
	uint8_t bytes[64];

	for (size_t i = 0; i < count; i++) {
		put_le64(bytes + i * 16, range[i].offset);
		put_le64(bytes + i * 16 + 8, range[i].length);
	}
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_NEED, .length = (uint32_t)count * 16, .id = id },
		bytes, count * 16));
}

static void put_nak(uint64_t id, uint64_t offset, const struct digest *claimed)
{
	struct wire_nak nak = { .reason = ZH_VERIFY, .claimed = *claimed };
	uint8_t bytes[WIRE_NAK_BYTES];

	assert_int_equal(wire_build_nak(&nak, bytes, sizeof(bytes)), WIRE_NAK_BYTES);
	assert_true(peer_put(&control,
		(struct head){
			.type = FRAME_NAK, .length = WIRE_NAK_BYTES, .id = id, .offset = offset },
		bytes, sizeof(bytes)));
}

static void put_ack(uint64_t id, const struct digest *root, uint8_t flags)
{
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_ACK, .flags = flags, .length = 16, .id = id }, root,
		16));
}

/* One DATA with its SUM off the data connection, thrown away. Its offset. */
static uint64_t take_piece(void)
{
	static uint8_t bytes[LIMIT_DATA_BYTES];
	uint64_t offset;

	assert_int_equal(peer_get(&data, PEER_WAIT_MS), 0);
	assert_int_equal(data.frame.type, FRAME_DATA);
	offset = data.frame.offset;
	assert_int_equal(peer_read(&data, bytes, data.frame.length, PEER_WAIT_MS), 0);
	assert_int_equal(peer_get(&data, PEER_WAIT_MS), 0);
	assert_int_equal(data.frame.type, FRAME_SUM);
	return offset;
}

static void begin_pull(const struct host *host)
{
	host_open_pull(host, "served", &control);
	assert_int_equal(host_attach(host, &control, HELLO_PULL, 0, &data), 0);
}

static void a_receiver_cannot_ask_for_what_is_not_there(void **state)
{
	const uint64_t size = large_file.size;
	const struct {
		uint64_t id;
		size_t count;
		struct zh_extent range[2];
	} rows[] = {
		{ 1, 1, { { 0, size + 1 } } },
		{ 1, 1, { { 1, 10 } } },
		{ 1, 1, { { 0, LEAF_BYTES + 1 } } },
		{ 1, 1, { { 0, 0 } } },
		{ 1, 1, { { LEAF_BYTES, (uint64_t)INT64_MAX } } },
		{ 1, 1, { { UINT64_MAX - LEAF_BYTES + 1, LEAF_BYTES } } },
		{ 1, 1, { { 4 * LEAF_BYTES, 1 } } },
		{ 1, 2, { { LEAF_BYTES, LEAF_BYTES }, { 0, LEAF_BYTES } } },
		{ 1, 2, { { 0, 2 * LEAF_BYTES }, { LEAF_BYTES, LEAF_BYTES } } },
		{ 2, 1, { { 0, LEAF_BYTES } } },
		{ UINT64_MAX, 1, { { 0, LEAF_BYTES } } },
	};
	struct zh_extent all = { 0, size };
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", size, 5);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		begin_pull(&host);
		put_need(rows[i].id, rows[i].range, rows[i].count);
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
	}
	/* twice */
	begin_pull(&host);
	put_need(1, &all, 1);
	put_need(1, &all, 1);
	ends_with(&control, ZH_PROTO);
	end_well(&host, 1);
}

static void a_leaf_is_sent_again_three_times_and_no_more(void **state)
{
	struct digest claimed;
	struct zh_extent all = { 0, large_file.size };
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", large_file.size, 5);
	claimed = content_leaf(large_file.size, 5, 1);
	begin_pull(&host);
	put_need(1, &all, 1);
	assert_int_equal(take_piece(), 0);
	expect(&control, FRAME_END, 1);
	for (unsigned i = 0; i < LIMIT_RESENDS; i++) {
		put_nak(1, LEAF_BYTES, &claimed);
		assert_int_equal(take_piece(), LEAF_BYTES);
	}
	put_nak(1, LEAF_BYTES, &claimed);
	ends_with(&control, ZH_PROTO);
	end_well(&host, 1);
}

static void a_nak_for_what_was_not_sent_ends_the_session(void **state)
{
	static const struct digest none;
	static const struct {
		uint64_t id, offset;
	} rows[] = { { 1, 0 }, { 2, 0 }, { 1, 4 * LEAF_BYTES },
		{ 1, UINT64_MAX - LEAF_BYTES + 1 } };
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", large_file.size, 5);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		begin_pull(&host); /* nothing has been asked for yet */
		put_nak(rows[i].id, rows[i].offset, &none);
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
	}
	end_well(&host, 1);
}

static void an_ack_is_taken_after_end_with_the_same_root_only(void **state)
{
	struct zh_extent all = { 0, large_file.size };
	struct digest root, wrong = { { 1 } };
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", large_file.size, 5);
	root = content_root(large_file.size, 5);
	begin_pull(&host);
	put_ack(1, &root, 0);
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	for (unsigned right = 0; right < 2; right++) {
		begin_pull(&host);
		put_need(1, &all, 1);
		assert_int_equal(take_piece(), 0);
		expect(&control, FRAME_END, 1);
		assert_memory_equal(control.payload, &root, sizeof(root));
		put_ack(1, right ? &root : &wrong, 0);
		if (!right) {
			ends_with(&control, ZH_PROTO);
			peer_close(&data);
		}
	}
	/* taken: the sender closes its data connections and says BYE */
	assert_true(peer_wait_closed(&data, PEER_WAIT_MS) >= 0);
	expect(&control, FRAME_BYE, 0);
	put_ack(1, &root, 0); /* once more */
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	end_well(&host, 1);
}

static void a_receiver_that_goes_away_does_not_leave_a_sender_hanging(void **state)
{
	struct zh_extent all = { 0, large_file.size };
	uint64_t start;
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", large_file.size, 5);
	begin_pull(&host);
	put_need(1, &all, 1);
	assert_int_equal(take_piece(), 0);
	expect(&control, FRAME_END, 1);
	peer_close(&data); /* while the control connection lives and nothing is left to send */
	start = now_ms();
	expect(&control, FRAME_LOST, 0);
	ends_for_its_data(start);
	end_well(&host, 1);
}

static void put_got(uint64_t index, uint64_t frames, uint8_t flags)
{
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_GOT, .flags = flags, .id = index, .offset = frames },
		NULL, 0));
}

static void what_a_lost_data_connection_carried_is_sent_again(void **state)
{
	struct digest root = content_root(large_file.size, 5);
	struct zh_extent all = { 0, large_file.size };
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", large_file.size, 5);
	begin_pull(&host);
	put_need(1, &all, 1);
	assert_int_equal(take_piece(), 0);
	expect(&control, FRAME_END, 1);
	for (unsigned again = 0; again < 2; again++) {
		put_got(0, 0, GOT_LAST); /* the piece has not come */
		expect(&control, FRAME_LOST, 0);
		peer_close(&data);
		assert_int_equal(host_attach(&host, &control, HELLO_PULL, 0, &data), 0);
		assert_int_equal(take_piece(), 0);
	}
	put_got(0, 1, 0); /* and now it has: nothing is left to be sent again */
	put_got(0, 1, GOT_LAST);
	expect(&control, FRAME_LOST, 0);
	peer_close(&data);
	assert_int_equal(host_attach(&host, &control, HELLO_PULL, 0, &data), 0);
	put_ack(1, &root, 0);
	assert_true(peer_wait_closed(&data, PEER_WAIT_MS) >= 0);
	expect(&control, FRAME_BYE, 0);
	assert_true(peer_put_bye(&control));
	peer_close(&control);
	peer_close(&data);
	end_well(&host, 1);
}

static void more_than_was_sent_cannot_have_come(void **state)
{
	static const struct {
		uint64_t index, frames;
	} rows[] = { { 0, 2 }, { 0, UINT64_MAX }, { 1, 1 }, { 64, 0 }, { UINT64_MAX, 0 } };
	struct zh_extent all = { 0, large_file.size };
	struct host host;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", large_file.size, 5);
	for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
		begin_pull(&host);
		put_need(1, &all, 1);
		assert_int_equal(take_piece(), 0);
		put_got(rows[i / 2].index, rows[i / 2].frames, i % 2 ? GOT_LAST : 0);
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
	}
	begin_pull(&host);
	put_need(1, &all, 1);
	assert_int_equal(take_piece(), 0);
	put_got(0, 1, 0);
	put_got(0, 0, 0); /* it went back */
	ends_with(&control, ZH_PROTO);
	peer_close(&data);
	end_well(&host, 1);
}

static void spin_us(unsigned microseconds)
{
	struct timespec now;
	int64_t end;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
	end = now.tv_sec * 1000000 + now.tv_nsec / 1000 + microseconds;
	do
		assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
	while (now.tv_sec * 1000000 + now.tv_nsec / 1000 < end);
}

/* The source must not be closed while the thread that sends END looks at it: TSan can tell. */
static void a_file_may_be_given_up_while_its_end_is_sent(void **state)
{
	struct zh_extent all = { 0, small_file.size };
	struct host host;
	int r;

	begin(&host, state, 0);
	random_file(host.arena->root, "served", small_file.size, 5);
	for (unsigned i = 0; i < 150; i++) {
		begin_pull(&host);
		put_need(1, &all, 1);
		assert_int_equal(take_piece(), 0);
		spin_us(i);
		assert_true(peer_put_err(&control, 1, ZH_DST_IO, "no more"));
		do {
			r = peer_get_news(&control, PEER_WAIT_MS);
			assert_int_equal(r, 0);
		} while (control.frame.type == FRAME_END);
		assert_int_equal(control.frame.type, FRAME_BYE);
		assert_true(peer_put_bye(&control));
		assert_true(peer_wait_closed(&control, 2000) >= 0);
		peer_close(&control);
		peer_close(&data);
	}
	end_well(&host, 1);
}

/* ------------------------------ dry runs ----------------------------------------------- */

static const struct wire_setup dry_setup = {
	.direction = ZH_PUSH, .streams = 1, .tree = TREE_RECURSIVE, .dry_run = 1
};

static void expect_need(uint64_t id, uint32_t length)
{
	expect(&control, FRAME_NEED, id);
	assert_int_equal(control.frame.flags, 0);
	assert_int_equal(control.frame.length, length);
}

static void a_dry_run_tells_what_is_lacking_and_makes_nothing(void **state)
{
	struct wire_file file = small_file;
	struct host host;

	begin(&host, state, 0);
	assert_int_equal(mkdirat(host.arena->root, "there", 0700), 0);
	random_file(host.arena->root, "target", 10, 1);
	random_file(host.arena->root, "file", 10, 1);
	open_wishing(&host, &dry_setup);
	put_dir(1, 0, "there");
	put_dir(2, 0, "absent");
	put_dir(3, 2, "deeper");
	put_dir(4, 0, "file");
	expect(&control, FRAME_ERR, 4);
	assert_int_equal(control.frame.flags, ERR_DIRECTORY);
	assert_true(peer_put_file(&control, 1, &file, 0));
	expect_need(1, 16);
	file.parent = 3;
	assert_true(peer_put_file(&control, 2, &file, 0));
	expect_need(2, 16);
	put_pack(3, 1, "other", MEMBER_FILE);
	expect_need(3, 16);
	file.parent = 0;
	assert_true(peer_put_file(&control, 4, &file, FILE_NO_CLOBBER));
	file_fails(&control, 4, ZH_EXISTS);
	put_leave(3);
	put_leave(2);
	put_leave(1);
	peer_close(&data);
	assert_true(peer_put_bye(&control));
	expect(&control, FRAME_BYE, 0);
	assert_int_equal(get_le32(control.payload + 972), 2); /* directories */
	assert_true(peer_wait_closed(&control, 2000) >= 0);
	assert_int_equal(entry_count(host.arena->root, "there"), 0);
	assert_int_equal(faccessat(host.arena->root, "absent", F_OK, 0), -1);
	assert_int_equal(faccessat(host.arena->root, ".zerohaul-staging", F_OK, 0), -1);
	end_well(&host, 3);
}

static void in_a_dry_run_nothing_is_removed(void **state)
{
	struct wire_setup setup = dry_setup;
	struct host host;

	begin(&host, state, 0);
	make_found(&host);
	setup.tree = TREE_MIRROR;
	open_wishing(&host, &setup);
	put_dir(1, 0, "d");
	put_dir(2, 1, "absent");
	put_keep(1, "\3out", 4);
	put_leave_flags(2, LEAVE_COMPLETE);
	put_leave_flags(1, LEAVE_COMPLETE);
	assert_int_equal(removed_at_the_end(), 3);
	found_is_there(&host);
	assert_int_equal(faccessat(host.arena->root, ".zerohaul-staging", F_OK, 0), -1);
	end_well(&host, 1);
}

static void in_a_dry_run_nothing_is_taken(void **state)
{
	struct digest root = content_root(small_file.size, 5);
	const struct head data_head = { .type = FRAME_DATA, .length = 100000, .id = 1 };
	struct host host;

	begin(&host, state, 0);
	for (unsigned i = 0; i < 2; i++) {
		open_wishing(&host, &dry_setup);
		assert_true(peer_put_file(&control, 1, &small_file, 0));
		expect_need(1, 16);
		if (i == 0)
			assert_true(peer_put_end(&control, 1, &small_file, &root));
		else
			assert_true(peer_put(&data, data_head, NULL, 0));
		ends_with(&control, ZH_PROTO);
		peer_close(&data);
	}
	end_well(&host, 0);
}

static void no_more_files_are_open_than_was_asked_for(void **state)
{
	struct wire_setup setup = {
		.direction = ZH_PULL, .streams = 1, .tree = TREE_RECURSIVE, .max_open = 2
	};
	struct host host;
	char name[32];

	begin(&host, state, 0);
	assert_int_equal(mkdirat(host.arena->root, "tree", 0755), 0);
	for (unsigned i = 0; i < 5; i++) {
		(void)snprintf(name, sizeof(name), "tree/%u", i);
		random_file(host.arena->root, name, 300000, i);
	}
	host_connect(&host, HELLO_PULL, &control);
	assert_true(peer_put_setup(&control, &setup));
	assert_true(peer_put_want(&control, 1, "tree", WANT_LAST));
	expect(&control, FRAME_PLACE, 1);
	expect(&control, FRAME_DIR, 1);
	expect(&control, FRAME_FILE, 1);
	for (uint64_t id = 2; id < 5; id++) {
		expect(&control, FRAME_FILE, id);
		assert_int_equal(peer_get_news(&control, 300), PEER_SILENT);
		assert_true(peer_put_err(&control, id - 1, ZH_NOSPACE, "test"));
	}
	end_well(&host, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(what_is_no_hello_is_closed_within_a_second),
		ARENA_TEST(a_log_is_not_flooded_by_strangers),
		ARENA_TEST(field_by_field_a_hello_has_to_be_right),
		ARENA_TEST(what_cannot_be_agreed_on_is_refused_with_its_reason),
		ARENA_TEST(a_wrong_key_is_refused_within_a_second),
		ARENA_TEST(a_recorded_handshake_is_worth_nothing),
		ARENA_TEST(a_message_sent_back_proves_nothing),
		ARENA_TEST(nothing_but_a_proof_follows_a_hello),
		ARENA_TEST(whoever_dawdles_is_closed_at_the_deadline),
		ARENA_TEST(a_silent_crowd_does_not_delay_an_honest_client),
		ARENA_TEST(a_crowd_from_many_addresses_does_not_keep_an_honest_client_out),
		ARENA_TEST(data_connections_are_for_who_has_proved_himself),
		ARENA_TEST(a_wrong_data_connection_does_not_disturb_its_session),
		ARENA_TEST(a_data_connection_that_was_used_cannot_be_used_again),
		ARENA_TEST(a_malformed_head_ends_the_session_before_its_payload),
		ARENA_TEST(a_frame_with_a_wrong_tag_ends_the_session),
		ARENA_TEST(in_each_state_only_the_frames_of_the_table_are_taken),
		ARENA_TEST(liveness_is_answered_in_each_state),
		ARENA_TEST(on_a_data_connection_only_data_and_its_sum_are_taken),
		ARENA_TEST(a_flood_of_pings_is_answered_and_forgotten),
		ARENA_TEST(field_by_field_a_setup_has_to_be_right),
		ARENA_TEST(what_a_server_does_not_do_is_refused_by_name),
		ARENA_TEST(a_server_for_measuring_takes_what_is_discarded_only),
		ARENA_TEST(the_largest_wishes_do_not_make_a_session_large),
		ARENA_TEST(a_path_that_cannot_be_ends_the_session),
		ARENA_TEST(no_path_leads_out_of_the_root_or_into_staging),
		ARENA_TEST(a_push_has_one_place_and_no_file_without_it),
		ARENA_TEST(a_client_may_leave_before_anything_was_asked_for),
		ARENA_TEST(many_wants_cost_no_descriptors),
		ARENA_TEST(ids_are_dense_and_used_once),
		ARENA_TEST(a_file_that_cannot_be_fails_alone),
		ARENA_TEST(a_malformed_file_ends_the_session),
		ARENA_TEST(special_mode_bits_are_not_taken_over),
		ARENA_TEST(a_name_that_is_open_cannot_be_announced_again),
		ARENA_TEST(files_without_end_stay_within_their_credit_and_memory),
		ARENA_TEST(open_files_without_data_end_with_a_named_error),
		ARENA_TEST(an_id_whose_data_hangs_is_not_given_away),
		ARENA_TEST(data_that_was_not_asked_for_ends_the_session),
		ARENA_TEST(data_of_a_file_that_was_given_up_is_dropped),
		ARENA_TEST(a_sum_has_to_fit_its_data),
		ARENA_TEST(a_void_frame_fails_its_file_alone),
		ARENA_TEST(a_wrong_leaf_is_asked_for_three_times_and_then_given_up),
		ARENA_TEST(a_leaf_that_is_right_at_last_counts),
		ARENA_TEST(an_end_that_does_not_fit_its_file_ends_the_session),
		ARENA_TEST(a_wrong_root_leaves_the_visible_name_alone),
		ARENA_TEST(an_end_may_overtake_its_data),
		ARENA_TEST(no_clobber_is_kept_for_each_file),
		ARENA_TEST(a_bye_before_the_files_are_settled_is_an_error),
		ARENA_TEST(a_data_connection_left_open_after_bye_is_not_waited_for_for_ever),
		ARENA_TEST(a_data_connection_that_is_gone_does_not_leave_a_session_hanging),
		ARENA_TEST(a_data_connection_is_replaced_when_both_sides_know),
		ARENA_TEST(the_end_of_a_data_connection_is_answered_once),
		ARENA_TEST(whoever_vanishes_leaves_nothing_behind),
		ARENA_TEST(an_acknowledged_file_stays_when_the_client_vanishes),
		ARENA_TEST(what_a_tree_may_not_say_ends_the_session),
		ARENA_TEST(what_was_not_agreed_on_is_not_taken),
		ARENA_TEST(a_pack_by_the_rules_is_taken),
		ARENA_TEST(a_member_that_was_given_up_is_not_made),
		ARENA_TEST(a_pack_whose_data_never_comes_leaves_nothing),
		ARENA_TEST(directories_without_end_reach_a_limit),
		ARENA_TEST(a_flood_of_leaves_is_forgotten),
		ARENA_TEST(names_that_were_not_agreed_on_are_not_taken),
		ARENA_TEST(what_attributes_may_not_say_ends_the_session),
		ARENA_TEST(a_server_that_was_not_told_so_takes_nothing_privileged),
		ARENA_TEST(attributes_by_the_rules_are_set),
		ARENA_TEST(a_flood_of_attributes_of_a_directory_takes_little_memory),
		ARENA_TEST(attributes_of_files_without_end_reach_a_limit),
		ARENA_TEST(what_of_removing_may_not_be_said_ends_the_session),
		ARENA_TEST(nothing_is_removed_that_was_not_agreed_on),
		ARENA_TEST(what_was_not_told_is_removed_and_nothing_else),
		ARENA_TEST(a_mirrored_place_keeps_what_it_was_told),
		ARENA_TEST(after_a_name_that_cannot_be_read_nothing_is_removed),
		ARENA_TEST(names_without_end_reach_a_limit_and_nothing_is_removed),
		ARENA_TEST(no_frame_of_control_is_held_back),
		ARENA_TEST(whoever_removes_after_bye_answers),
		ARENA_TEST(whoever_removes_after_bye_listens),
		ARENA_TEST(a_directory_that_was_left_is_not_spoken_of),
		ARENA_TEST(a_second_name_of_a_directory_ends_all_removing),
		ARENA_TEST(directories_that_wait_to_be_left_are_waited_for),
		ARENA_TEST(whoever_syncs_after_bye_answers),
		ARENA_TEST(a_text_of_the_peer_is_logged_printable),
		ARENA_TEST(a_receiver_cannot_ask_for_what_is_not_there),
		ARENA_TEST(a_leaf_is_sent_again_three_times_and_no_more),
		ARENA_TEST(a_nak_for_what_was_not_sent_ends_the_session),
		ARENA_TEST(an_ack_is_taken_after_end_with_the_same_root_only),
		ARENA_TEST(a_receiver_that_goes_away_does_not_leave_a_sender_hanging),
		ARENA_TEST(what_a_lost_data_connection_carried_is_sent_again),
		ARENA_TEST(more_than_was_sent_cannot_have_come),
		ARENA_TEST(a_file_may_be_given_up_while_its_end_is_sent),
		ARENA_TEST(a_dry_run_tells_what_is_lacking_and_makes_nothing),
		ARENA_TEST(in_a_dry_run_nothing_is_removed),
		ARENA_TEST(in_a_dry_run_nothing_is_taken),
		ARENA_TEST(no_more_files_are_open_than_was_asked_for),
	};

	return RUN_TESTS("hostile client", tests);
}
