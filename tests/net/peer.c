/* SPDX-License-Identifier: Apache-2.0 */
/* peer.c - see peer.h. */
#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ms(void)
{
	struct timespec now;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t test_seed(void)
{
	static uint64_t seed;
	const char *given = getenv("ZH_SEED");

	if (seed == 0) {
		seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
		seed += seed == 0;
		print_message("# ZH_SEED=%llu\n", (unsigned long long)seed);
	}
	return seed;
}

/* ------------------------------ sockets ------------------------------------------------ */

static struct sockaddr_in loopback(const char *address, uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };

	assert_int_equal(inet_pton(AF_INET, address, &in.sin_addr), 1);
	return in;
}

int peer_dial(uint16_t port, const char *from)
{
	struct timeval patience = { .tv_sec = 10 };
	struct sockaddr_in to = loopback("127.0.0.1", port);
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (from) {
		struct sockaddr_in local = loopback(from, 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&local, sizeof(local)), 0);
	}
	assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

int peer_listen(uint16_t *ret_port)
{
	struct sockaddr_in in = loopback("127.0.0.1", 0);
	socklen_t length = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 128), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &length), 0);
	*ret_port = ntohs(in.sin_port);
	return fd;
}

void peer_close(struct peer *peer)
{
	if (peer->fd >= 0)
		close(peer->fd);
	peer->fd = -1;
}

void peer_reset(struct peer *peer)
{
	struct linger at_once = { .l_onoff = 1, .l_linger = 0 };

	(void)setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	peer_close(peer);
}

bool peer_write(struct peer *peer, const void *bytes, size_t length)
{
	const uint8_t *next = bytes;

	while (length > 0) {
		ssize_t n = send(peer->fd, next, length, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		next += n;
		length -= (size_t)n;
	}
	return true;
}

static bool readable(int fd, uint64_t deadline)
{
	struct pollfd look = { .fd = fd, .events = POLLIN };
	uint64_t now;

	do {
		now = now_ms();
		if (poll(&look, 1, now < deadline ? (int)(deadline - now) : 0) > 0)
			return true;
	} while (now < deadline);
	return false;
}

int peer_read(struct peer *peer, void *ret_bytes, size_t length, int wait_ms)
{
	uint64_t deadline = now_ms() + (uint64_t)wait_ms;
	uint8_t *next = ret_bytes;

	while (length > 0) {
		if (!readable(peer->fd, deadline))
			return PEER_SILENT;
		ssize_t n = recv(peer->fd, next, length, 0);
		if (n <= 0)
			return PEER_CLOSED;
		next += n;
		length -= (size_t)n;
	}
	return 0;
}

int peer_wait_closed(struct peer *peer, int wait_ms)
{
	uint64_t start = now_ms();
	uint8_t unread[4096];

	while (readable(peer->fd, start + (uint64_t)wait_ms))
		if (recv(peer->fd, unread, sizeof(unread), 0) <= 0)
			return (int)(now_ms() - start);
	return PEER_SILENT;
}

/* ------------------------------ greetings ---------------------------------------------- */

struct hello peer_hello(enum hello_kind kind, enum hello_auth auth, enum hello_intent intent)
{
	struct hello hello = {
		.kind = (uint8_t)kind,
		.link = HELLO_LINK_PLAIN,
		.auth = (uint8_t)auth,
		.intent = (uint8_t)intent,
		.version_min = WIRE_VERSION,
		.version_max = WIRE_VERSION,
	};

	assert_int_equal(auth_random(hello.nonce, sizeof(hello.nonce)), 0);
	return hello;
}

int peer_greet(struct peer *peer, const uint8_t hello[HELLO_BYTES])
{
	struct wire_refusal refusal;
	int r;

	memcpy(peer->client_hello, hello, HELLO_BYTES);
	if (!peer_write(peer, hello, HELLO_BYTES))
		return PEER_CLOSED;
	r = peer_read(peer, peer->server_hello, HELLO_BYTES, PEER_WAIT_MS);
	if (r < 0)
		return r;
	return wire_parse_refusal(peer->server_hello, &refusal) == 0 ? refusal.outcome : 0;
}

static void derive(struct peer *peer, bool is_client)
{
	assert_int_equal(auth_link_keys(&peer->secret, peer->client_hello, peer->server_hello,
				 is_client, &peer->keys),
		0);
	peer->count_in = peer->count_out = 0;
}

static int prove(struct peer *peer, const void *secret, size_t length, enum hello_kind kind)
{
	uint8_t proof[PROOF_BYTES], expected[PROOF_BYTES];
	enum zh_outcome outcome;
	int r;

	assert_int_equal(auth_proof(secret, length, kind, true, peer->client_hello,
				 peer->server_hello, proof),
		0);
	if (!peer_write(peer, proof, PROOF_BYTES))
		return PEER_CLOSED;
	r = peer_read(peer, proof, PROOF_BYTES, PEER_WAIT_MS);
	if (r < 0)
		return r;
	if (wire_parse_proof_refusal(proof, &outcome) == 0)
		return (int)outcome;
	assert_int_equal(auth_proof(secret, length, kind, false, peer->client_hello,
				 peer->server_hello, expected),
		0);
	return memcmp(proof, expected, PROOF_BYTES) == 0 ? 0 : PEER_WRONG;
}

int peer_prove_control(struct peer *peer, const struct auth_key *key)
{
	int r = prove(peer, key->byte, key->length, HELLO_CONTROL);

	if (r != 0)
		return r;
	assert_int_equal(
		auth_session_secret(key, peer->client_hello, peer->server_hello, &peer->secret), 0);
	derive(peer, true);
	return 0;
}

int peer_prove_data(struct peer *peer, const struct auth_secret *secret)
{
	int r = prove(peer, secret->byte, SECRET_BYTES, HELLO_DATA);

	if (r != 0)
		return r;
	peer->secret = *secret;
	derive(peer, true);
	return 0;
}

int peer_accept(struct peer *peer, int listener, int wait_ms)
{
	struct timeval patience = { .tv_sec = 10 };

	if (!readable(listener, now_ms() + (uint64_t)wait_ms))
		return PEER_SILENT;
	peer->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(peer->fd >= 0);
	assert_int_equal(
		setsockopt(peer->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	return peer_read(peer, peer->client_hello, HELLO_BYTES, wait_ms);
}

int peer_welcome(struct peer *peer, const struct auth_key *key, const uint8_t *session,
	const struct auth_secret *secret)
{
	enum hello_kind kind = secret ? HELLO_DATA : HELLO_CONTROL;
	const void *bytes = secret ? secret->byte : key->byte;
	size_t length = secret ? SECRET_BYTES : key->length;
	uint8_t proof[PROOF_BYTES], expected[PROOF_BYTES];
	struct hello hello;
	int r;

	assert_int_equal(wire_parse_hello(peer->client_hello, &hello), 0);
	memcpy(hello.session, session, SESSION_ID_BYTES);
	assert_int_equal(auth_random(hello.nonce, sizeof(hello.nonce)), 0);
	wire_build_hello(&hello, peer->server_hello);
	if (!peer_write(peer, peer->server_hello, HELLO_BYTES))
		return PEER_CLOSED;
	r = peer_read(peer, proof, PROOF_BYTES, PEER_WAIT_MS);
	if (r < 0)
		return r;
	assert_int_equal(auth_proof(bytes, length, kind, true, peer->client_hello,
				 peer->server_hello, expected),
		0);
	if (memcmp(proof, expected, PROOF_BYTES) != 0)
		return PEER_WRONG;
	assert_int_equal(auth_proof(bytes, length, kind, false, peer->client_hello,
				 peer->server_hello, proof),
		0);
	if (!peer_write(peer, proof, PROOF_BYTES))
		return PEER_CLOSED;
	if (secret)
		peer->secret = *secret;
	else
		assert_int_equal(auth_session_secret(key, peer->client_hello, peer->server_hello,
					 &peer->secret),
			0);
	derive(peer, false);
	return 0;
}

/* ------------------------------ frames ------------------------------------------------- */

static void tag(const struct auth_secret *key, uint64_t count, const uint8_t *head,
	const void *payload, size_t length, uint8_t ret_tag[FRAME_TAG_BYTES])
{
	static uint8_t bytes[8 + FRAME_HEAD_BYTES + FRAME_PAYLOAD_CAP];
	uint8_t full[EVP_MAX_MD_SIZE];

	assert_true(length <= FRAME_PAYLOAD_CAP);
	put_le64(bytes, count);
	memcpy(bytes + 8, head, FRAME_HEAD_BYTES);
	if (length > 0)
		memcpy(bytes + 8 + FRAME_HEAD_BYTES, payload, length);
	assert_non_null(HMAC(EVP_sha256(), key->byte, SECRET_BYTES, bytes,
		8 + FRAME_HEAD_BYTES + length, full, NULL));
	memcpy(ret_tag, full, FRAME_TAG_BYTES);
}

static bool put(struct peer *peer, struct head head, const void *payload, size_t length, bool truly)
{
	static uint8_t bytes[FRAME_FIXED_BYTES + FRAME_PAYLOAD_CAP];

	bytes[0] = head.type;
	bytes[1] = head.flags;
	put_le16(bytes + 2, head.zero);
	put_le32(bytes + 4, head.length);
	put_le64(bytes + 8, head.id);
	put_le64(bytes + 16, head.offset);
	tag(&peer->keys.out, peer->count_out++, bytes, payload, length, bytes + FRAME_HEAD_BYTES);
	if (!truly)
		bytes[FRAME_HEAD_BYTES + 7] ^= 0x10;
	if (length > 0)
		memcpy(bytes + FRAME_FIXED_BYTES, payload, length);
	return peer_write(peer, bytes, FRAME_FIXED_BYTES + length);
}

bool peer_put(struct peer *peer, struct head head, const void *payload, size_t length)
{
	return put(peer, head, payload, length, true);
}

bool peer_put_untrue(struct peer *peer, struct head head, const void *payload, size_t length)
{
	return put(peer, head, payload, length, false);
}

int peer_get(struct peer *peer, int wait_ms)
{
	uint8_t fixed[FRAME_FIXED_BYTES], expected[FRAME_TAG_BYTES];
	size_t length;
	int r = peer_read(peer, fixed, sizeof(fixed), wait_ms);

	if (r < 0)
		return r;
	if (wire_parse_head(fixed, &peer->frame) < 0)
		return PEER_WRONG;
	length = wire_is_raw((enum frame_type)peer->frame.type) ? 0 : peer->frame.length;
	r = peer_read(peer, peer->payload, length, wait_ms);
	if (r < 0)
		return r;
	tag(&peer->keys.in, peer->count_in++, fixed, peer->payload, length, expected);
	return memcmp(expected, fixed + FRAME_HEAD_BYTES, FRAME_TAG_BYTES) == 0 ? 0 : PEER_WRONG;
}

int peer_get_news(struct peer *peer, int wait_ms)
{
	uint64_t deadline = now_ms() + (uint64_t)wait_ms;
	int r;

	do {
		uint64_t now = now_ms();
		r = peer_get(peer, now < deadline ? (int)(deadline - now) : 0);
		if (r == 0 && peer->frame.type == FRAME_PING)
			(void)peer_put(peer,
				(struct head){ .type = FRAME_PONG, .id = peer->frame.id }, NULL, 0);
	} while (r == 0 && (peer->frame.type == FRAME_CREDIT || peer->frame.type == FRAME_PING ||
				   peer->frame.type == FRAME_PONG));
	return r;
}

struct head peer_least(enum frame_type type, uint64_t id)
{
	static const uint32_t length[FRAME_TYPE_END] = {
		[FRAME_SETUP] = 80,
		[FRAME_PLACE] = 16,
		[FRAME_DIR] = 34,
		[FRAME_FILE] = 34,
		[FRAME_MAP] = 16,
		[FRAME_NEED] = 16,
		[FRAME_LEAF] = 16,
		[FRAME_DATA] = 1,
		[FRAME_PACK] = 33,
		[FRAME_SUM] = 16,
		[FRAME_NAK] = 20,
		[FRAME_END] = 40,
		[FRAME_ACK] = 16,
		[FRAME_ERR] = 284,
		[FRAME_BYE] = 1024,
		[FRAME_LEAVE] = 16,
		[FRAME_ATTR] = 12,
		[FRAME_RULE] = 1,
		[FRAME_KEEP] = 2,
	};
	bool no_id = type == FRAME_SETUP || type == FRAME_BYE || type == FRAME_RULE;

	return (struct head){ .type = (uint8_t)type, .length = length[type], .id = no_id ? 0 : id };
}

bool peer_put_least(struct peer *peer, enum frame_type type, uint64_t id)
{
	static const uint8_t zeros[1024];
	struct head head = peer_least(type, id);
	bool raw = type == FRAME_DATA;

	return peer_put(peer, head, zeros, raw ? 0 : head.length) &&
	       (!raw || peer_write(peer, zeros, head.length));
}

bool peer_put_err(struct peer *peer, uint64_t id, enum zh_outcome outcome, const char *text)
{
	struct wire_err err = { .outcome = (uint16_t)outcome, .stage = "test" };
	uint8_t bytes[WIRE_ERR_BYTES];
	int length;

	(void)snprintf(err.text, sizeof(err.text), "%s", text);
	length = wire_build_err(&err, bytes, sizeof(bytes));
	return peer_put(peer,
		(struct head){ .type = FRAME_ERR, .length = (uint32_t)length, .id = id }, bytes,
		(size_t)length);
}

bool peer_put_bye(struct peer *peer)
{
	static const struct zh_side_report report;
	uint8_t bytes[WIRE_BYE_BYTES];
	int length = wire_build_bye(&report, bytes, sizeof(bytes));

	return peer_put(peer, (struct head){ .type = FRAME_BYE, .length = (uint32_t)length }, bytes,
		(size_t)length);
}

bool peer_put_setup(struct peer *peer, const struct wire_setup *setup)
{
	uint8_t bytes[WIRE_SETUP_BYTES];
	int length = wire_build_setup(setup, bytes, sizeof(bytes));

	assert_int_equal(length, WIRE_SETUP_BYTES);
	return peer_put(peer, (struct head){ .type = FRAME_SETUP, .length = (uint32_t)length },
		bytes, (size_t)length);
}

bool peer_put_want(struct peer *peer, uint64_t id, const char *path, uint8_t flags)
{
	static uint8_t bytes[FRAME_PAYLOAD_CAP];
	int length = wire_build_path(path, bytes, sizeof(bytes));

	assert_true(length >= 0);
	return peer_put(peer,
		(struct head){
			.type = FRAME_WANT, .flags = flags, .length = (uint32_t)length, .id = id },
		bytes, (size_t)length);
}

bool peer_put_file_raw(struct peer *peer, uint64_t id, const struct wire_file *file,
	const void *name, uint8_t name_length, uint8_t flags)
{
	uint8_t bytes[WIRE_FILE_BYTES_MAX];

	put_le64(bytes, file->parent);
	put_le64(bytes + 8, file->size);
	put_le64(bytes + 16, (uint64_t)file->mtime_s);
	put_le32(bytes + 24, file->mtime_ns);
	put_le32(bytes + 28, file->mode);
	bytes[32] = name_length;
	memcpy(bytes + 33, name, name_length);
	return peer_put(peer,
		(struct head){
			.type = FRAME_FILE, .flags = flags, .length = 33u + name_length, .id = id },
		bytes, 33u + name_length);
}

bool peer_put_file(struct peer *peer, uint64_t id, const struct wire_file *file, uint8_t flags)
{
	return peer_put_file_raw(peer, id, file, file->name, (uint8_t)strlen(file->name), flags);
}

bool peer_put_end(
	struct peer *peer, uint64_t id, const struct wire_file *file, const struct digest *root)
{
	uint8_t bytes[WIRE_END_BYTES] = { 0 };

	memcpy(bytes, root, DIGEST_BYTES);
	put_le64(bytes + 16, file->size);
	put_le64(bytes + 24, (uint64_t)file->mtime_s);
	put_le32(bytes + 32, file->mtime_ns);
	return peer_put(peer, (struct head){ .type = FRAME_END, .length = sizeof(bytes), .id = id },
		bytes, sizeof(bytes));
}

/* ------------------------------ content ------------------------------------------------ */

struct digest content_leaf(uint64_t size, uint64_t seed, uint64_t leaf)
{
	static uint8_t bytes[LEAF_BYTES];
	uint64_t offset = leaf * LEAF_BYTES;
	size_t length = (size_t)min_u64(LEAF_BYTES, size - offset);
	struct digest digest;
	struct leaf_run run;

	random_fill(bytes, length, seed, offset);
	assert_int_equal(leaf_run_init(&run), 0);
	leaf_run_begin(&run, offset, &digest, 1);
	leaf_run_add(&run, bytes, length);
	assert_int_equal(leaf_run_end(&run), 1);
	leaf_run_fini(&run);
	return digest;
}

struct digest content_root(uint64_t size, uint64_t seed)
{
	struct leaf_sum sum = { 0 };

	for (uint64_t leaf = 0; leaf < leaf_count(size); leaf++) {
		struct digest digest = content_leaf(size, seed, leaf);
		leaf_sum_add(&sum, leaf, &digest);
	}
	return leaf_root(&sum, size);
}

bool peer_put_data(struct peer *peer, uint64_t id, uint64_t offset, uint32_t length, uint64_t seed)
{
	static uint8_t piece[65536];
	struct head head = { .type = FRAME_DATA, .length = length, .id = id, .offset = offset };

	if (!peer_put(peer, head, NULL, 0))
		return false;
	while (length > 0) {
		size_t part = min_size(length, sizeof(piece));
		random_fill(piece, part, seed, offset);
		if (!peer_write(peer, piece, part))
			return false;
		offset += part;
		length -= (uint32_t)part;
	}
	return true;
}

bool peer_put_sum(struct peer *peer, uint64_t id, uint64_t offset, uint32_t length, uint64_t size,
	uint64_t seed)
{
	struct digest digest[LIMIT_DATA_BYTES / LEAF_BYTES];
	size_t count = leaf_count(length);

	for (size_t i = 0; i < count; i++)
		digest[i] = content_leaf(size, seed, offset / LEAF_BYTES + i);
	return peer_put(peer,
		(struct head){ .type = FRAME_SUM,
			.length = (uint32_t)(count * DIGEST_BYTES),
			.id = id,
			.offset = offset },
		digest, count * DIGEST_BYTES);
}
