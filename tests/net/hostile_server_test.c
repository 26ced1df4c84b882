/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile_server_test.c - what a server can do to our client. It always comes to an end, with a
 * named error, never reports a success that was not acknowledged by the rules, and writes nothing
 * but what was asked for.
 */
#include "peer.h"

#include "base/err.h"
#include "session/states.h"
#include "zerohaul.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEAF      ((uint32_t)LEAF_BYTES)
#define FILE_SIZE (3 * (uint64_t)LEAF_BYTES + 5)
#define SOON_MS   6000

static const uint8_t session_id[SESSION_ID_BYTES] = { 4, 8, 15, 16, 23, 42 };
static struct peer control, data; /* large */
static struct auth_key key;
static unsigned client_flags; /* ZH_RECURSIVE and so on, of the next client */
#define THERE "/there/source"
static const char *client_source = THERE; /* of its pull */

/* ------------------------------ the client --------------------------------------------- */

struct victim {
	pid_t pid;
	int pipe;
	int listener;
	uint64_t started_ms;
};

/* What the client says at its end. */
struct result {
	int outcome;
	uint32_t files_done;
	struct zh_error error;
	struct zh_error first_file;
};

static _Noreturn void run_client(const struct arena *arena, uint16_t port,
	enum zh_direction direction, enum zh_durability durability, int out)
{
	struct zh_transfer_options options = zh_transfer_options_default();
	struct zh_transfer *transfer;
	struct result result = { .outcome = -1 };
	char source[192], into[192];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)snprintf(source, sizeof(source), "%s/source", arena->path);
	(void)snprintf(into, sizeof(into), "%s/", arena->root_path);
	options.direction = direction;
	options.durability = durability;
	options.host = "127.0.0.1";
	options.port = port;
	options.flags = ZH_INSECURE | client_flags;
	options.destination = direction == ZH_PUSH ? "/" : into;
	if (zh_transfer_new(&options, &transfer) == 0 &&
		zh_transfer_add(transfer, direction == ZH_PUSH ? source : client_source) == 0) {
		result.outcome = zh_transfer_run(transfer);
		result.error = *zh_transfer_error(transfer);
		result.files_done = zh_transfer_report(transfer)->files_done;
		if (zh_transfer_failure_at(transfer, 0))
			result.first_file = zh_transfer_failure_at(transfer, 0)->error;
		zh_transfer_free(transfer);
	}
	_exit(write(out, &result, sizeof(result)) == sizeof(result) ? 0 : 1);
}

static struct victim start(struct arena *arena, enum zh_direction direction)
{
	struct victim victim = { 0 };
	uint16_t port;
	int ends[2];

	auth_key_none(&key);
	control.fd = data.fd = -1;
	if (faccessat(arena->outside, "../source", F_OK, 0) != 0)
		random_file(arena->outside, "../source", FILE_SIZE, 5);
	victim.listener = peer_listen(&port);
	assert_int_equal(pipe(ends), 0);
	victim.started_ms = now_ms();
	victim.pid = fork();
	assert_true(victim.pid >= 0);
	if (victim.pid == 0)
		run_client(arena, port, direction, ZH_DURABLE_FULL, ends[1]);
	close(ends[1]);
	victim.pipe = ends[0];
	return victim;
}

/* Waits for the client, which ends by itself; what it was about leaves nothing behind. */
static struct result end_within(struct arena *arena, struct victim *victim, int wait_ms)
{
	struct pollfd look = { .fd = victim->pipe, .events = POLLIN };
	struct result result;
	int status = 0;

	if (poll(&look, 1, wait_ms) != 1) {
		(void)kill(victim->pid, SIGKILL);
		(void)waitpid(victim->pid, &status, 0);
		fail_msg("the client hangs");
	}
	assert_int_equal(read(victim->pipe, &result, sizeof(result)), sizeof(result));
	assert_int_equal(waitpid(victim->pid, &status, 0), victim->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(victim->pipe);
	close(victim->listener);
	peer_close(&control);
	peer_close(&data);
	for (const char *c = result.error.text; *c; c++)
		assert_in_range(*c, 0x20, 0x7e);
	assert_int_equal(entry_count(arena->root, ".zerohaul-staging"), 0);
	return result;
}

static void fails_within(
	struct arena *arena, struct victim *victim, enum zh_outcome outcome, int wait_ms)
{
	struct result result = end_within(arena, victim, wait_ms);

	if (result.outcome != (int)outcome)
		print_message("# %s: %s: %s\n", zh_outcome_name(result.outcome), result.error.stage,
			result.error.text);
	assert_int_equal(result.outcome, outcome);
	assert_int_equal(result.files_done, 0);
	assert_int_equal(entry_count(arena->root, "."), 0);
}

static void fails_with(struct arena *arena, struct victim *victim, enum zh_outcome outcome)
{
	fails_within(arena, victim, outcome, SOON_MS);
}

/* ------------------------------ as far as the rules go --------------------------------- */

static void take(struct peer *peer, enum frame_type type)
{
	assert_int_equal(peer_get_news(peer, PEER_WAIT_MS), 0);
	assert_int_equal(peer->frame.type, type);
}

static void greet(struct victim *victim)
{
	assert_int_equal(peer_accept(&control, victim->listener, PEER_WAIT_MS), 0);
	assert_int_equal(peer_welcome(&control, &key, session_id, NULL), 0);
	take(&control, FRAME_SETUP);
	take(&control, FRAME_WANT);
}

static void put_place(enum wire_place kind, uint64_t size)
{
	struct wire_place_info place = { .kind = (uint8_t)kind, .size = size };
	uint8_t bytes[WIRE_PLACE_BYTES];

	assert_int_equal(wire_build_place(&place, bytes, sizeof(bytes)), WIRE_PLACE_BYTES);
	assert_true(peer_put(&control,
		(struct head){
			.type = FRAME_PLACE, .length = sizeof(bytes), .id = control.frame.id },
		bytes, sizeof(bytes)));
}

static void attach(struct victim *victim)
{
	assert_int_equal(peer_accept(&data, victim->listener, PEER_WAIT_MS), 0);
	assert_int_equal(peer_welcome(&data, NULL, session_id, &control.secret), 0);
}

/* A push whose FILE has come. */
static struct victim push(struct arena *arena)
{
	struct victim victim = start(arena, ZH_PUSH);

	greet(&victim);
	put_place(PLACE_DIRECTORY, 0);
	attach(&victim);
	take(&control, FRAME_FILE);
	return victim;
}

/* A pull whose place is told. */
static struct victim pull(struct arena *arena)
{
	struct victim victim = start(arena, ZH_PULL);

	greet(&victim);
	put_place(PLACE_FILE, FILE_SIZE);
	attach(&victim);
	return victim;
}

static const struct wire_file source_file = {
	.size = FILE_SIZE, .mtime_s = 1, .mode = 0644, .name = "source"
};

/* A pull whose FILE was answered. */
static struct victim pull_of_file(struct arena *arena)
{
	struct victim victim = pull(arena);

	assert_true(peer_put_file(&control, 1, &source_file, 0));
	take(&control, FRAME_NEED);
	return victim;
}

static void put_ranges(const struct zh_extent *range, size_t count, uint64_t id)
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

static void need_all(void)
{
	struct zh_extent all = { 0, FILE_SIZE };

	put_ranges(&all, 1, 1);
}

static uint64_t take_piece(void)
{
	static uint8_t bytes[LIMIT_DATA_BYTES];
	uint64_t offset;

	take(&data, FRAME_DATA);
	offset = data.frame.offset;
	assert_int_equal(peer_read(&data, bytes, data.frame.length, PEER_WAIT_MS), 0);
	take(&data, FRAME_SUM);
	return offset;
}

static void put_ack(uint64_t id, const void *root, uint8_t flags)
{
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_ACK, .flags = flags, .length = 16, .id = id }, root,
		16));
}

/* A push up to its END. */
static struct victim push_to_end(struct arena *arena)
{
	struct victim victim = push(arena);

	need_all();
	assert_int_equal(take_piece(), 0);
	take(&control, FRAME_END);
	return victim;
}

static void put_leaf(uint64_t leaf, uint64_t seed)
{
	uint64_t offset = leaf * LEAF_BYTES;
	uint32_t length = (uint32_t)min_u64(LEAF_BYTES, FILE_SIZE - offset);

	assert_true(peer_put_data(&data, 1, offset, length, seed));
	assert_true(peer_put_sum(&data, 1, offset, length, FILE_SIZE, 5));
}

/* ------------------------------ the twin: by the rules it works ------------------------ */

static void a_server_that_keeps_the_rules_gets_the_file(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim = push_to_end(arena);
	struct digest root = content_root(FILE_SIZE, 5);
	struct result result;

	assert_memory_equal(control.payload, &root, sizeof(root));
	put_ack(1, &root, ACK_DURABLE);
	take(&control, FRAME_BYE);
	assert_true(peer_put_bye(&control));
	result = end_within(arena, &victim, SOON_MS);
	assert_int_equal(result.outcome, ZH_OK);
	assert_int_equal(result.files_done, 1);
}

static void a_server_that_keeps_the_rules_can_send_the_file(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim = pull_of_file(arena);
	struct digest root = content_root(FILE_SIZE, 5);
	struct result result;

	for (uint64_t leaf = 0; leaf < leaf_count(FILE_SIZE); leaf++)
		put_leaf(leaf, 5);
	assert_true(peer_put_end(&control, 1, &source_file, &root));
	take(&control, FRAME_ACK);
	peer_close(&data);
	assert_true(peer_put_bye(&control));
	take(&control, FRAME_BYE);
	result = end_within(arena, &victim, SOON_MS);
	assert_int_equal(result.outcome, ZH_OK);
	assert_true(random_at(arena->root, "source", FILE_SIZE, 5));
	assert_int_equal(unlinkat(arena->root, "source", 0), 0);
}

/* ------------------------------ the handshake ------------------------------------------ */

static void what_does_not_speak_zerohaul_is_named_so(void **state)
{
	static const char *const texts[] = { "HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-x\r\n",
		"", "\x15\x03\x01\x00\x02\x02\x28" };
	struct arena *arena = arena_of(state);
	uint8_t bytes[HELLO_BYTES];

	for (size_t i = 0; i < ARRAY_LEN(texts) + 3; i++) {
		struct victim victim = start(arena, i & 1 ? ZH_PULL : ZH_PUSH);
		random_fill(bytes, sizeof(bytes), test_seed() + i, 0);
		if (i < ARRAY_LEN(texts))
			(void)snprintf((char *)bytes, sizeof(bytes), "%s", texts[i]);
		assert_int_equal(peer_accept(&control, victim.listener, PEER_WAIT_MS), 0);
		assert_true(peer_write(&control, bytes, sizeof(bytes)));
		fails_with(arena, &victim, ZH_PROTO);
	}
}

static void a_refusal_is_passed_on_by_its_name(void **state)
{
	static const enum zh_outcome outcomes[] = { ZH_AUTH, ZH_VERSION, ZH_POLICY, ZH_BUSY,
		ZH_LIMIT };
	struct arena *arena = arena_of(state);
	uint8_t bytes[HELLO_BYTES];

	for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
		struct wire_refusal refusal = { (uint16_t)outcomes[i], 3, 9 };
		struct victim victim = start(arena, ZH_PUSH);
		wire_build_refusal(&refusal, bytes);
		assert_int_equal(peer_accept(&control, victim.listener, PEER_WAIT_MS), 0);
		assert_true(peer_write(&control, bytes, sizeof(bytes)));
		fails_with(arena, &victim, outcomes[i]);
	}
	/* one that says that all is well is no refusal */
	struct victim victim = start(arena, ZH_PUSH);
	struct wire_refusal refusal = { ZH_AUTH, 1, 1 };
	wire_build_refusal(&refusal, bytes);
	bytes[16] = ZH_OK;
	assert_int_equal(peer_accept(&control, victim.listener, PEER_WAIT_MS), 0);
	assert_true(peer_write(&control, bytes, sizeof(bytes)));
	fails_with(arena, &victim, ZH_PROTO);
}

static void a_hello_that_answers_something_else_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
		enum zh_outcome outcome;
	} rows[] = { { 8, 2, ZH_PROTO }, { 8, 9, ZH_PROTO }, { 9, 2, ZH_PROTO },
		{ 10, 1, ZH_PROTO }, { 12, 0, ZH_PROTO }, { 16, 1, ZH_VERSION },
		{ 24, 1, ZH_PROTO }, { 28, 1, ZH_PROTO }, { 127, 1, ZH_PROTO } };
	struct arena *arena = arena_of(state);
	struct hello hello;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct victim victim = start(arena, ZH_PUSH);
		assert_int_equal(peer_accept(&control, victim.listener, PEER_WAIT_MS), 0);
		assert_int_equal(wire_parse_hello(control.client_hello, &hello), 0);
		wire_build_hello(&hello, control.server_hello);
		control.server_hello[rows[i].at] = rows[i].value;
		assert_true(peer_write(&control, control.server_hello, HELLO_BYTES));
		fails_with(arena, &victim, rows[i].outcome);
	}
}

static void a_wrong_proof_is_found(void **state)
{
	struct arena *arena = arena_of(state);
	uint8_t proof[PROOF_BYTES];

	for (unsigned i = 0; i < 4; i++) {
		struct victim victim = start(arena, ZH_PUSH);
		assert_int_equal(peer_accept(&control, victim.listener, PEER_WAIT_MS), 0);
		if (i == 0) { /* everything is sent back as it came */
			assert_true(peer_write(&control, control.client_hello, HELLO_BYTES));
			assert_int_equal(peer_read(&control, proof, PROOF_BYTES, PEER_WAIT_MS), 0);
			assert_true(peer_write(&control, proof, PROOF_BYTES));
			fails_with(arena, &victim, ZH_AUTH);
			continue;
		}
		if (i == 1) { /* another key: the client's proof is not looked at */
			key.byte[0] ^= 1;
			assert_int_equal(
				peer_welcome(&control, &key, session_id, NULL), PEER_WRONG);
			assert_int_equal(auth_proof(key.byte, key.length, HELLO_CONTROL, false,
						 control.client_hello, control.server_hello, proof),
				0);
		} else {
			assert_int_equal(
				peer_write(&control, control.client_hello, HELLO_BYTES), true);
			memset(proof, i == 2 ? 0xff : 0, sizeof(proof));
		}
		assert_true(peer_write(&control, proof, PROOF_BYTES));
		fails_with(arena, &victim, ZH_AUTH);
	}
}

static void a_data_connection_is_proved_by_the_server_too(void **state)
{
	struct arena *arena = arena_of(state);
	struct auth_secret wrong = { { 1 } };
	struct victim victim = start(arena, ZH_PUSH);
	uint8_t proof[PROOF_BYTES] = { 7 };

	greet(&victim);
	put_place(PLACE_DIRECTORY, 0);
	assert_int_equal(peer_accept(&data, victim.listener, PEER_WAIT_MS), 0);
	assert_int_equal(peer_welcome(&data, NULL, session_id, &wrong), PEER_WRONG);
	assert_true(peer_write(&data, proof, PROOF_BYTES));
	fails_with(arena, &victim, ZH_AUTH);
}

/* ------------------------------ frames ------------------------------------------------- */

static void in_each_state_only_the_frames_of_the_table_are_taken(void **state)
{
#define F(type) (1u << FRAME_##type)
	static const struct {
		enum zh_direction direction;
		bool open;
		uint32_t allowed;
	} rows[] = {
		{ ZH_PUSH, false, F(PLACE) | F(CREDIT) | F(ERR) | F(PING) | F(PONG) | F(BYE) },
		{ ZH_PULL, false, F(PLACE) | F(ERR) | F(PING) | F(PONG) | F(BYE) },
		{ ZH_PUSH, true,
			F(NEED) | F(NAK) | F(ACK) | F(CREDIT) | F(GOT) | F(ERR) | F(PING) |
				F(PONG) | F(BYE) },
		{ ZH_PULL, true, F(FILE) | F(END) | F(LOST) | F(ERR) | F(PING) | F(PONG) | F(BYE) },
	};
	struct arena *arena = arena_of(state);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (unsigned type = 1; type < FRAME_TYPE_END; type++) {
			struct victim victim;
			if (rows[i].allowed & 1u << type)
				continue;
			if (rows[i].open) {
				victim = rows[i].direction == ZH_PUSH ? push(arena) : pull(arena);
			} else {
				victim = start(arena, rows[i].direction);
				greet(&victim);
			}
			(void)peer_put_least(
				&control, (enum frame_type)type, 1); /* may be cut short */
			fails_with(arena, &victim, ZH_PROTO);
		}
#undef F
}

static void spoilt_frames_end_the_session(void **state)
{
	struct arena *arena = arena_of(state);

	for (unsigned i = 0; i < 8; i++) {
		struct head head = { .type = FRAME_PING };
		struct victim victim = i & 1 ? push(arena) : pull(arena);
		if (i / 2 == 1)
			head.type = 0;
		if (i / 2 == 2)
			head.length = UINT32_MAX;
		if (i / 2 == 3)
			head.zero = 1;
		if (i / 2 == 0)
			assert_true(peer_put_untrue(&control, head, NULL, 0));
		else
			assert_true(peer_put(&control, head, NULL, 0));
		fails_with(arena, &victim, ZH_PROTO);
	}
}

static void a_place_that_makes_no_sense_is_refused(void **state)
{
	struct arena *arena = arena_of(state);
	uint8_t bytes[WIRE_PLACE_BYTES];

	for (unsigned i = 0; i < 3; i++) {
		struct victim victim = start(arena, ZH_PUSH);
		greet(&victim);
		memset(bytes, 0, sizeof(bytes));
		bytes[0] = i == 0 ? 4 : 1;
		bytes[7] = i == 1;
		bytes[8] = i == 2;
		assert_true(peer_put(&control,
			(struct head){ .type = FRAME_PLACE,
				.length = sizeof(bytes),
				.id = control.frame.id },
			bytes, sizeof(bytes)));
		fails_with(arena, &victim, ZH_PROTO);
	}
	/* the answer to another question */
	struct victim victim = start(arena, ZH_PUSH);
	greet(&victim);
	control.frame.id++;
	put_place(PLACE_DIRECTORY, 0);
	fails_with(arena, &victim, ZH_PROTO);
}

static void the_text_of_an_error_is_cut_and_printable(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim = push(arena);
	static uint8_t bytes[65536];
	struct result result;

	bytes[0] = ZH_NOSPACE;
	memset(bytes + 4, 0x1b, 23);
	memset(bytes + 28, 0x9b, 255);
	memcpy(bytes + 28, "\x1b[31mred\n", 9);
	assert_true(peer_put(&control, peer_least(FRAME_ERR, 0), bytes, WIRE_ERR_BYTES));
	result = end_within(arena, &victim, SOON_MS);
	assert_int_equal(result.outcome, ZH_NOSPACE);
	assert_int_equal(result.error.at_peer, 1);
	assert_int_equal(strncmp(result.error.text, "?[31mred????", 12), 0);
	/* longer than the rules allow, without an end, without an outcome */
	victim = push(arena);
	assert_true(peer_put(&control, (struct head){ .type = FRAME_ERR, .length = 65536 }, bytes,
		sizeof(bytes)));
	fails_with(arena, &victim, ZH_PROTO);
	victim = push(arena);
	memset(bytes + 28, 'x', 256);
	assert_true(peer_put(&control, peer_least(FRAME_ERR, 0), bytes, WIRE_ERR_BYTES));
	fails_with(arena, &victim, ZH_PROTO);
	victim = push(arena);
	memset(bytes, 0, WIRE_ERR_BYTES);
	assert_true(peer_put(&control, peer_least(FRAME_ERR, 0), bytes, WIRE_ERR_BYTES));
	fails_with(arena, &victim, ZH_PROTO);
}

/* ------------------------------ to a sender -------------------------------------------- */

static void an_ack_before_end_is_no_success(void **state)
{
	struct arena *arena = arena_of(state);
	struct digest root = content_root(FILE_SIZE, 5);
	struct victim victim = push(arena);

	put_ack(1, &root, ACK_DURABLE);
	fails_with(arena, &victim, ZH_PROTO);
}

static void an_ack_with_another_root_is_no_success(void **state)
{
	struct arena *arena = arena_of(state);
	struct digest root = content_root(FILE_SIZE, 6);
	struct victim victim = push_to_end(arena);

	put_ack(1, &root, ACK_DURABLE);
	fails_with(arena, &victim, ZH_PROTO);
}

static void an_ack_of_less_than_was_asked_for_is_no_success(void **state)
{
	struct arena *arena = arena_of(state);
	struct digest root = content_root(FILE_SIZE, 5);
	struct victim victim = push_to_end(arena);

	put_ack(1, &root, 0);
	fails_with(arena, &victim, ZH_PROTO);
}

static void an_ack_of_another_file_is_no_success(void **state)
{
	static const uint64_t ids[] = { 2, 1000, UINT64_MAX };
	struct arena *arena = arena_of(state);
	struct digest root = content_root(FILE_SIZE, 5);

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		struct victim victim = push_to_end(arena);
		put_ack(ids[i], &root, ACK_DURABLE);
		fails_with(arena, &victim, ZH_PROTO);
	}
}

static void an_early_bye_is_no_success(void **state)
{
	struct arena *arena = arena_of(state);

	for (unsigned i = 0; i < 3; i++) {
		struct victim victim = i == 0   ? push(arena)
				       : i == 1 ? push_to_end(arena)
						: pull_of_file(arena);
		assert_true(peer_put_bye(&control));
		fails_with(arena, &victim, ZH_PROTO);
	}
}

static void a_need_beyond_the_file_ends_the_session(void **state)
{
	static const struct {
		uint64_t id;
		struct zh_extent range;
	} rows[] = {
		{ 1, { 0, FILE_SIZE + 1 } },
		{ 1, { 1, LEAF_BYTES } },
		{ 1, { 0, LEAF_BYTES - 1 } },
		{ 1, { 4 * LEAF_BYTES, LEAF_BYTES } },
		{ 1, { INT64_MAX - LEAF_BYTES + 1, LEAF_BYTES } },
		{ 1, { 0, 0 } },
		{ 1, { 0, UINT64_MAX } },
		{ 2, { 0, LEAF_BYTES } },
	};
	struct arena *arena = arena_of(state);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct victim victim = push(arena);
		put_ranges(&rows[i].range, 1, rows[i].id);
		fails_with(arena, &victim, ZH_PROTO);
	}
	struct victim victim = push(arena);
	need_all();
	need_all();
	fails_with(arena, &victim, ZH_PROTO);
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

static void a_leaf_is_sent_again_three_times_and_no_more(void **state)
{
	struct arena *arena = arena_of(state);
	struct digest claimed = content_leaf(FILE_SIZE, 5, 2);
	struct victim victim = push_to_end(arena);

	for (unsigned i = 0; i < LIMIT_RESENDS; i++) {
		put_nak(1, 2 * LEAF_BYTES, &claimed);
		assert_int_equal(take_piece(), 2 * LEAF_BYTES);
	}
	put_nak(1, 2 * LEAF_BYTES, &claimed);
	fails_with(arena, &victim, ZH_PROTO);
}

static void a_nak_with_a_wrong_claim_is_no_success(void **state)
{
	struct arena *arena = arena_of(state);
	struct digest claimed = content_leaf(FILE_SIZE, 6, 2), root = content_root(FILE_SIZE, 5);
	struct victim victim = push_to_end(arena);

	put_nak(1, 2 * LEAF_BYTES, &claimed); /* a digest that was never sent */
	assert_int_equal(take_piece(), 2 * LEAF_BYTES);
	put_ack(1, &root, ACK_DURABLE);
	struct result result = end_within(arena, &victim, SOON_MS);
	assert_true(result.outcome == ZH_SRC_CHANGED || result.outcome == ZH_PROTO ||
		    result.outcome == ZH_OK);
	/* OK is right too: END had told this root, and the ACK came before the leaf was counted */
}

static void a_nak_for_what_was_not_sent_ends_the_session(void **state)
{
	static const struct {
		uint64_t id, offset;
	} rows[] = { { 1, 0 }, { 2, 0 }, { 1, 4 * LEAF_BYTES }, { 1, UINT64_MAX - LEAF + 1 } };
	static const struct digest none;
	struct arena *arena = arena_of(state);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct victim victim = push(arena);
		put_nak(rows[i].id, rows[i].offset, &none);
		fails_with(arena, &victim, ZH_PROTO);
	}
}

static void credit_only_grows(void **state)
{
	struct arena *arena = arena_of(state);
	struct digest root = content_root(FILE_SIZE, 5);
	struct victim victim = push(arena);
	struct result result;

	assert_true(peer_put(&control, (struct head){ .type = FRAME_CREDIT }, NULL, 0));
	fails_with(arena, &victim, ZH_PROTO); /* 0 is no bound */
	victim = push(arena);
	assert_true(peer_put(&control, (struct head){ .type = FRAME_CREDIT, .id = 1 }, NULL, 0));
	assert_true(peer_put(
		&control, (struct head){ .type = FRAME_CREDIT, .id = UINT64_MAX }, NULL, 0));
	need_all();
	assert_int_equal(take_piece(), 0);
	take(&control, FRAME_END);
	put_ack(1, &root, ACK_DURABLE);
	take(&control, FRAME_BYE);
	assert_true(peer_put_bye(&control));
	result = end_within(arena, &victim, SOON_MS);
	assert_int_equal(result.outcome, ZH_OK);
}

static void a_refused_file_fails_with_what_the_server_says(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim = push(arena);

	assert_true(peer_put_err(&control, 1, ZH_NOSPACE, "full"));
	take(&control, FRAME_BYE);
	assert_true(peer_put_bye(&control));
	fails_with(arena, &victim, ZH_NOSPACE);
}

static void a_data_connection_that_is_gone_ends_the_session(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim = push_to_end(arena);

	peer_close(&data); /* all was sent, and nobody will ever acknowledge it */
	take(&control, FRAME_LOST);
	fails_within(arena, &victim, ZH_NET, (int)LIMIT_REOPEN_MS + SOON_MS);
}

/* ------------------------------ to a receiver ------------------------------------------ */

static void only_what_was_asked_for_is_written(void **state)
{
	static const struct {
		const char *name;
		uint8_t length;
		enum zh_outcome outcome;
	} rows[] = {
		{ "other", 5, ZH_UNSAFE_NAME },
		{ ".bashrc", 7, ZH_UNSAFE_NAME },
		{ "Source", 6, ZH_UNSAFE_NAME },
		{ "source ", 7, ZH_UNSAFE_NAME },
		{ "..", 2, ZH_UNSAFE_NAME },
		{ ".", 1, ZH_UNSAFE_NAME },
		{ "../source", 9, ZH_UNSAFE_NAME },
		{ "source\0x", 8, ZH_UNSAFE_NAME },
		{ "source/x", 8, ZH_UNSAFE_NAME },
		{ ".zerohaul-staging", 17, ZH_UNSAFE_NAME },
	};
	struct arena *arena = arena_of(state);
	struct wire_file file = source_file;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct victim victim = pull(arena);
		assert_true(peer_put_file_raw(&control, 1, &file, rows[i].name, rows[i].length, 0));
		take(&control, FRAME_ERR);
		peer_close(&data);
		assert_true(peer_put_bye(&control));
		take(&control, FRAME_BYE);
		fails_with(arena, &victim, rows[i].outcome);
	}
	/* more than was asked for */
	struct victim victim = pull_of_file(arena);
	assert_true(peer_put_file_raw(&control, 2, &file, "more", 4, 0));
	fails_with(arena, &victim, ZH_PROTO);
	victim = pull_of_file(arena);
	assert_true(peer_put_err(&control, 2, ZH_SRC_GONE, "gone"));
	fails_with(arena, &victim, ZH_PROTO);
}

static void a_size_beyond_all_bounds_fails_the_file(void **state)
{
	static const uint64_t sizes[] = { LIMIT_FILE_BYTES + 1, INT64_MAX, UINT64_MAX };
	struct arena *arena = arena_of(state);
	struct wire_file file = source_file;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct victim victim = pull(arena);
		file.size = sizes[i];
		assert_true(peer_put_file_raw(&control, 1, &file, "source", 6, 0));
		take(&control, FRAME_ERR);
		peer_close(&data);
		assert_true(peer_put_bye(&control));
		take(&control, FRAME_BYE);
		fails_with(arena, &victim, ZH_LIMIT);
	}
}

static void data_that_was_not_asked_for_ends_the_session(void **state)
{
	static const struct head rows[] = {
		{ .type = FRAME_DATA, .length = LEAF_BYTES, .id = 2 },
		{ .type = FRAME_DATA, .length = LEAF_BYTES, .id = 1, .offset = 4 * LEAF_BYTES },
		{ .type = FRAME_DATA, .length = 6, .id = 1, .offset = 3 * LEAF_BYTES },
		{ .type = FRAME_DATA, .length = 100, .id = 1 },
		{ .type = FRAME_DATA, .length = 5, .id = 1, .offset = 1 },
		{ .type = FRAME_SUM, .length = 16, .id = 1 },
		{ .type = FRAME_PING },
	};
	struct arena *arena = arena_of(state);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct victim victim = pull_of_file(arena);
		assert_true(peer_put(&data, rows[i], session_id, rows[i].length == 16 ? 16 : 0));
		fails_with(arena, &victim, ZH_PROTO);
	}
	struct victim victim = pull_of_file(arena);
	put_leaf(0, 5);
	(void)peer_put_data(&data, 1, 0, LEAF, 5); /* the client may not wait for all of it */
	fails_with(arena, &victim, ZH_PROTO);
}

static void what_is_wrong_for_ever_is_given_up_after_three_times(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim;
	struct result result;

	random_file(arena->root, "source", 5000, 12);
	victim = pull_of_file(arena);
	for (unsigned i = 0; i <= LIMIT_RESENDS; i++) {
		put_leaf(1, 6); /* its SUM is that of other bytes */
		take(&control, i < LIMIT_RESENDS ? FRAME_NAK : FRAME_ERR);
	}
	peer_close(&data);
	assert_true(peer_put_bye(&control));
	take(&control, FRAME_BYE);
	result = end_within(arena, &victim, SOON_MS);
	assert_int_equal(result.outcome, ZH_VERIFY);
	assert_int_equal(result.files_done, 0);
	assert_true(random_at(arena->root, "source", 5000, 12));
}

static void a_wrong_root_leaves_the_old_file_alone(void **state)
{
	struct arena *arena = arena_of(state);
	struct digest root = content_root(FILE_SIZE, 6);
	struct victim victim;
	struct result result;

	random_file(arena->root, "source", 5000, 12);
	victim = pull_of_file(arena);
	for (uint64_t leaf = 0; leaf < leaf_count(FILE_SIZE); leaf++)
		put_leaf(leaf, 5);
	assert_true(peer_put_end(&control, 1, &source_file, &root));
	take(&control, FRAME_ERR);
	peer_close(&data);
	assert_true(peer_put_bye(&control));
	take(&control, FRAME_BYE);
	result = end_within(arena, &victim, SOON_MS);
	assert_int_equal(result.outcome, ZH_VERIFY);
	assert_true(random_at(arena->root, "source", 5000, 12));
}

/* ------------------------------ going away --------------------------------------------- */

static void wherever_the_server_goes_away_it_is_no_success(void **state)
{
	struct arena *arena = arena_of(state);

	for (unsigned stage = 0; stage < 10; stage++)
		for (unsigned reset = 0; reset < 2; reset++) {
			struct victim victim;
			if (stage < 5)
				victim = start(arena, stage & 1 ? ZH_PULL : ZH_PUSH);
			if (stage == 0)
				assert_int_equal(
					peer_accept(&control, victim.listener, PEER_WAIT_MS), 0);
			if (stage >= 1 && stage < 5)
				greet(&victim);
			if (stage == 3)
				put_place(PLACE_FILE, FILE_SIZE);
			if (stage == 4)
				put_place(PLACE_DIRECTORY, 0);
			if (stage == 5)
				victim = push(arena);
			if (stage == 6)
				victim = push_to_end(arena);
			if (stage == 7)
				victim = pull(arena);
			if (stage >= 8)
				victim = pull_of_file(arena);
			if (stage == 9)
				put_leaf(0, 5);
			if (reset)
				peer_reset(&control);
			peer_close(&control);
			peer_close(&data);
			close(victim.listener);
			victim.listener = open("/dev/null", O_RDONLY | O_CLOEXEC);
			fails_with(arena, &victim, ZH_NET);
		}
}

static void a_file_that_was_acknowledged_counts_even_so(void **state)
{
	struct arena *arena = arena_of(state);
	struct digest root = content_root(FILE_SIZE, 5);
	struct victim victim = push_to_end(arena);
	struct result result;

	put_ack(1, &root, ACK_DURABLE);
	take(&control, FRAME_BYE);
	peer_close(&control);
	result = end_within(arena, &victim, SOON_MS);
	assert_int_equal(result.outcome, ZH_NET);
	assert_int_equal(result.files_done, 1);
}

/* ------------------------------ silence ------------------------------------------------ */

enum { NO_HELLO, NO_PROOF, NO_PLACE, PINGS_FOR_PLACE, NO_NEED, NO_FILE, QUIETS };

static void silence_ends_at_its_deadline(void **state)
{
	static struct peer quiet[QUIETS], quiet_data[QUIETS];
	static const int deadline_ms[QUIETS] = { LIMIT_HANDSHAKE_MS, LIMIT_HANDSHAKE_MS,
		LIMIT_IDLE_MS, LIMIT_IDLE_MS, LIMIT_IDLE_MS, LIMIT_IDLE_MS };
	struct arena *arena = arena_of(state);
	struct victim victim[QUIETS];
	bool over[QUIETS] = { false };
	size_t left = QUIETS;
	uint64_t start_ms = now_ms();

	for (unsigned i = 0; i < QUIETS; i++) {
		if (i < NO_NEED)
			victim[i] = start(arena, ZH_PUSH);
		else
			victim[i] = i == NO_NEED ? push(arena) : pull(arena);
		if (i < NO_PLACE)
			assert_int_equal(
				peer_accept(&control, victim[i].listener, PEER_WAIT_MS), 0);
		else if (i < NO_NEED)
			greet(&victim[i]);
		if (i == NO_PROOF)
			assert_true(peer_write(&control, control.client_hello, HELLO_BYTES));
		quiet[i] = control;
		quiet_data[i] = data;
		control.fd = data.fd = -1;
	}
	for (unsigned round = 0; left > 0 && now_ms() - start_ms < 50000; round++) {
		(void)poll(NULL, 0, 100);
		if (round % 50 == 0 && !over[PINGS_FOR_PLACE])
			(void)peer_put_least(&quiet[PINGS_FOR_PLACE], FRAME_PING, 1);
		for (unsigned i = 0; i < QUIETS; i++) {
			struct pollfd look = { .fd = victim[i].pipe, .events = POLLIN };
			uint64_t took_ms = now_ms() - victim[i].started_ms;
			if (over[i] || poll(&look, 1, 0) == 0)
				continue;
			over[i] = true;
			left--;
			fails_with(arena, &victim[i], ZH_TIMEOUT);
			assert_in_range(took_ms, deadline_ms[i] - 100, deadline_ms[i] + 11500);
			peer_close(&quiet[i]);
			peer_close(&quiet_data[i]);
		}
	}
	assert_int_equal(left, 0);
}

/* ------------------------------ trees -------------------------------------------------- */

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

static void put_link(uint64_t id)
{
	struct wire_member link = {
		.size = 4, .mtime_s = 1, .kind = MEMBER_LINK, .name_length = 6, .name = "source"
	};
	uint8_t bytes[64];
	int length = wire_build_member(&link, bytes, sizeof(bytes));

	assert_true(length > 0);
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_PACK, .length = (uint32_t)length, .id = id }, bytes,
		(size_t)length));
}

static void a_link_or_a_directory_that_was_not_asked_for_is_not_made(void **state)
{
	struct victim victim = pull(arena_of(state));

	put_link(1);
	fails_with(arena_of(state), &victim, ZH_PROTO);
	victim = pull(arena_of(state));
	put_dir(1, 0, "source");
	fails_with(arena_of(state), &victim, ZH_PROTO);
	client_flags = ZH_RECURSIVE;
	victim = pull(arena_of(state));
	put_link(1);
	fails_with(arena_of(state), &victim, ZH_PROTO);
	client_flags = 0;
}

static void dir_is_refused(const char *name)
{
	struct wire_err err;

	print_message("# %s\n", name);
	take(&control, FRAME_ERR);
	assert_int_equal(control.frame.flags, ERR_DIRECTORY);
	assert_int_equal(wire_parse_err(control.payload, control.frame.length, &err), 0);
	if (err.outcome != ZH_UNSAFE_NAME)
		print_message("# %s: %s\n", name, err.text);
	assert_int_equal(err.outcome, ZH_UNSAFE_NAME);
}

static void of_directories_too_only_those_asked_for_are_made(void **state)
{
	static const char *const wrong[] = { "other", ".zerohaul-staging", "source" };
	struct arena *arena = arena_of(state);
	struct victim victim;

	client_flags = ZH_RECURSIVE;
	victim = pull(arena);
	client_flags = 0;
	put_dir(1, 0, "source");
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) { /* the last one for the second time */
		put_dir(2 + i, 0, wrong[i]);
		dir_is_refused(wrong[i]);
	}
	put_dir(5, 1, "other"); /* in it anything may be */
	assert_true(peer_put_least(&control, FRAME_PING, 9));
	do /* until what came before it has been done */
		assert_int_equal(peer_get(&control, PEER_WAIT_MS), 0);
	while (control.frame.type != FRAME_PONG);
	peer_close(&control);
	(void)end_within(arena, &victim, SOON_MS);
	assert_int_equal(faccessat(arena->root, "source/other", F_OK, 0), 0);
	assert_int_equal(entry_count(arena->root, "."), 1);
}

static void put_complete(uint64_t id)
{
	struct wire_leave leave = { .mtime_s = 1, .mode = 0755 };
	uint8_t bytes[WIRE_LEAVE_BYTES];
	int length = wire_build_leave(&leave, bytes, sizeof(bytes));

	assert_true(length > 0);
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_LEAVE,
			.flags = LEAVE_COMPLETE,
			.length = (uint32_t)length,
			.id = id },
		bytes, (size_t)length));
}

/* A pull with --delete into the root, where "source" is and something else. */
static struct victim pull_mirror(struct arena *arena, const char *source, unsigned flags)
{
	struct victim victim;

	(void)mkdirat(arena->root, "source", 0755);
	text_file(arena->root, "source/file", "x");
	text_file(arena->root, "beside", "x");
	client_flags = ZH_RECURSIVE | ZH_DELETE | flags;
	client_source = source;
	victim = pull(arena);
	client_flags = 0;
	client_source = THERE;
	return victim;
}

static void a_server_removes_nothing_beside_what_was_asked_for(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim;
	struct result result;

	for (unsigned i = 0; i < 4; i++) {
		victim = pull_mirror(arena, THERE, 0);
		print_message("# attack %u\n", i);
		if (i == 1)
			put_dir(1, 0, "source");
		if (i == 2)
			put_dir(1, 0, "beside"); /* which is refused */
		put_complete(i == 2 || i == 3 ? 1 : 0);
		if (i == 2) {
			peer_close(&data);
			assert_true(peer_put_bye(&control));
		}
		result = end_within(arena, &victim, SOON_MS);
		assert_int_equal(result.outcome, i == 2 ? ZH_UNSAFE_NAME : ZH_PROTO);
		assert_int_equal(entry_count(arena->root, "."), 2);
		assert_int_equal(entry_count(arena->root, "source"), 1);
	}
}

/* All has been told: the client removes one name, says so, and ends well. */
static void ends_with_one_removed(struct arena *arena, struct victim *victim)
{
	peer_close(&data);
	assert_true(peer_put_bye(&control));
	take(&control, FRAME_BYE);
	assert_int_equal(get_le64(control.payload + 976), 1);
	struct result result = end_within(arena, victim, SOON_MS);
	assert_int_equal(result.outcome, ZH_OK);
}

static void a_server_that_keeps_the_rules_has_its_mirror_pruned(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim = pull_mirror(arena, THERE, 0);

	put_dir(1, 0, "source");
	put_complete(1);
	ends_with_one_removed(arena, &victim);
	assert_int_equal(entry_count(arena->root, "source"), 0);
	assert_int_equal(entry_count(arena->root, "."), 2);
}

/* The same of what is in "source": then the root is the mirror. */
static void of_contents_the_place_is_pruned_and_nothing_that_was_told(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim;

	for (unsigned dry = 2; dry-- > 0;) {
		victim = pull_mirror(arena, THERE "/.", dry ? ZH_DRY_RUN : 0);
		assert_int_equal(control.frame.flags, WANT_LAST | WANT_DIRECTORY | WANT_CONTENTS);
		put_dir(1, 0, "source");
		put_complete(0);
		ends_with_one_removed(arena, &victim);
		assert_int_equal(entry_count(arena->root, "source"), 1);
		assert_int_equal(entry_count(arena->root, "."), dry ? 2 : 1);
	}
}

/* What was told is no more than what has been removed when the server is gone. */
static void a_mirror_is_not_pruned_when_its_server_is_gone(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim = pull_mirror(arena, THERE, 0);
	struct result result;

	put_dir(1, 0, "source");
	peer_close(&control);
	peer_close(&data);
	result = end_within(arena, &victim, SOON_MS);
	assert_int_not_equal(result.outcome, ZH_OK);
	assert_int_equal(entry_count(arena->root, "source"), 1);
}

static void put_need(uint8_t flags, uint64_t offset, uint64_t length)
{
	uint8_t bytes[16];
	uint32_t count = length > 0 ? sizeof(bytes) : 0;

	put_le64(bytes, offset);
	put_le64(bytes + 8, length);
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_NEED, .flags = flags, .length = count, .id = 1 },
		bytes, count));
}

static void a_need_that_trusts_or_proves_by_no_rule_ends_the_session(void **state)
{
	static const struct {
		uint8_t flags;
		uint64_t offset, length;
	} rows[] = {
		{ NEED_TRUSTED, 0, 0 }, /* nobody has asked for that */
		{ NEED_TRUSTED, 0, LEAF },
		{ NEED_PROVE, 0, 0 }, /* of nothing */
		{ NEED_PROVE, 0, FILE_SIZE + 1 },
		{ NEED_PROVE, 4 * LEAF, LEAF },
		{ NEED_PROVE, 1, LEAF },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct victim victim = push(arena_of(state));
		print_message("# row %zu\n", i);
		put_need(rows[i].flags, rows[i].offset, rows[i].length);
		fails_with(arena_of(state), &victim, ZH_PROTO);
	}
}

static void a_second_proof_is_not_given(void **state)
{
	struct victim victim = push(arena_of(state));

	put_need(NEED_PROVE, 0, FILE_SIZE);
	take(&control, FRAME_LEAF);
	put_need(NEED_PROVE, 0, FILE_SIZE);
	fails_with(arena_of(state), &victim, ZH_PROTO);
}

static void put_attr(const char *name)
{
	struct wire_xattr xattr = { .name = name,
		.name_length = (uint8_t)strlen(name),
		.value = (const uint8_t *)"value",
		.value_length = 5 };
	uint8_t bytes[64];
	int length = wire_build_attr_head(0, 0, bytes, sizeof(bytes));
	int more = wire_build_attr_add(&xattr, bytes, (size_t)length, sizeof(bytes));

	assert_true(more > 0);
	length += more;
	assert_true(peer_put(&control,
		(struct head){ .type = FRAME_ATTR, .length = (uint32_t)length, .id = 1 }, bytes,
		(size_t)length));
}

/* The answer comes while the client is still about to say what the file has. */
static void an_end_does_not_overtake_the_attributes(void **state)
{
	for (unsigned i = 0; i < 20; i++) {
		client_flags = ZH_XATTRS;
		struct victim victim = push(arena_of(state));
		client_flags = 0;
		put_ranges(NULL, 0, 1);
		take(&control, FRAME_ATTR);
		take(&control, FRAME_END);
		peer_close(&control);
		(void)end_within(arena_of(state), &victim, SOON_MS);
	}
}

static void attributes_that_were_not_asked_for_are_not_taken(void **state)
{
	static const struct {
		unsigned flags;
		const char *name;
	} rows[] = {
		{ 0, "user.a" },
		{ ZH_OWNER, "user.a" },
		{ ZH_XATTRS, "system.posix_acl_access" },
		{ ZH_XATTRS, "security.capability" },
		{ ZH_XATTRS, "trusted.overlay.opaque" },
		{ ZH_XATTRS | ZH_OWNER, "security.capability" },
		{ ZH_PRIVILEGED_XATTRS, "security.selinux" },
	};
	struct victim victim;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		print_message("# row %zu\n", i);
		client_flags = rows[i].flags;
		victim = pull_of_file(arena_of(state));
		client_flags = 0;
		put_attr(rows[i].name);
		fails_with(arena_of(state), &victim, ZH_PROTO);
	}
}

static void a_dry_run_ends_with_what_is_lacking(void **state)
{
	struct arena *arena = arena_of(state);
	struct victim victim;
	struct result result;

	client_flags = ZH_DRY_RUN;
	victim = push(arena);
	need_all();
	take(&control, FRAME_BYE);
	assert_true(peer_put_bye(&control));
	result = end_within(arena, &victim, SOON_MS);
	assert_int_equal(result.outcome, ZH_OK);
	assert_int_equal(result.files_done, 1);

	victim = pull_of_file(arena);
	peer_close(&data);
	assert_true(peer_put_bye(&control));
	take(&control, FRAME_BYE);
	result = end_within(arena, &victim, SOON_MS);
	assert_int_equal(result.outcome, ZH_OK);
	assert_int_equal(entry_count(arena->root, "."), 0);
	client_flags = 0;
}

/* It is over with its NEED. */
static void in_a_dry_run_nothing_follows_need(void **state)
{
	const struct zh_extent beyond = { 0, FILE_SIZE + LEAF };
	struct digest root = content_root(FILE_SIZE, 5);
	struct arena *arena = arena_of(state);

	client_flags = ZH_DRY_RUN;
	for (unsigned i = 0; i < 4; i++) {
		struct victim victim = push(arena);
		print_message("# row %u\n", i);
		if (i == 3)
			put_ranges(&beyond, 1, 1);
		else
			need_all();
		if (i == 0)
			need_all();
		else if (i == 1)
			put_ack(1, &root, ACK_DURABLE);
		else if (i == 2)
			assert_true(peer_put(&control,
				(struct head){ .type = FRAME_NAK, .length = 16, .id = 1 }, &root,
				16));
		struct result result = end_within(arena, &victim, SOON_MS);
		assert_int_equal(result.outcome, ZH_PROTO);
		assert_int_equal(result.files_done, i < 3); /* what NEED said is counted */
	}
	client_flags = 0;
}

static void a_dry_run_takes_nothing(void **state)
{
	struct digest root = content_root(FILE_SIZE, 5);
	const struct head data_head = { .type = FRAME_DATA, .length = LEAF, .id = 1 };
	struct arena *arena = arena_of(state);

	client_flags = ZH_DRY_RUN;
	for (unsigned i = 0; i < 2; i++) {
		struct victim victim = pull_of_file(arena);
		if (i == 0)
			assert_true(peer_put_end(&control, 1, &source_file, &root));
		else
			assert_true(peer_put(&data, data_head, NULL, 0));
		assert_int_equal(end_within(arena, &victim, SOON_MS).outcome, ZH_PROTO);
		assert_int_equal(entry_count(arena->root, "."), 0);
	}
	client_flags = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_server_that_keeps_the_rules_gets_the_file),
		ARENA_TEST(a_server_that_keeps_the_rules_can_send_the_file),
		ARENA_TEST(what_does_not_speak_zerohaul_is_named_so),
		ARENA_TEST(a_refusal_is_passed_on_by_its_name),
		ARENA_TEST(a_hello_that_answers_something_else_is_refused),
		ARENA_TEST(a_wrong_proof_is_found),
		ARENA_TEST(a_data_connection_is_proved_by_the_server_too),
		ARENA_TEST(in_each_state_only_the_frames_of_the_table_are_taken),
		ARENA_TEST(spoilt_frames_end_the_session),
		ARENA_TEST(a_place_that_makes_no_sense_is_refused),
		ARENA_TEST(the_text_of_an_error_is_cut_and_printable),
		ARENA_TEST(an_ack_before_end_is_no_success),
		ARENA_TEST(an_ack_with_another_root_is_no_success),
		ARENA_TEST(an_ack_of_less_than_was_asked_for_is_no_success),
		ARENA_TEST(an_ack_of_another_file_is_no_success),
		ARENA_TEST(an_early_bye_is_no_success),
		ARENA_TEST(a_need_beyond_the_file_ends_the_session),
		ARENA_TEST(a_leaf_is_sent_again_three_times_and_no_more),
		ARENA_TEST(a_nak_with_a_wrong_claim_is_no_success),
		ARENA_TEST(a_nak_for_what_was_not_sent_ends_the_session),
		ARENA_TEST(credit_only_grows),
		ARENA_TEST(a_refused_file_fails_with_what_the_server_says),
		ARENA_TEST(a_data_connection_that_is_gone_ends_the_session),
		ARENA_TEST(only_what_was_asked_for_is_written),
		ARENA_TEST(a_size_beyond_all_bounds_fails_the_file),
		ARENA_TEST(data_that_was_not_asked_for_ends_the_session),
		ARENA_TEST(what_is_wrong_for_ever_is_given_up_after_three_times),
		ARENA_TEST(a_wrong_root_leaves_the_old_file_alone),
		ARENA_TEST(wherever_the_server_goes_away_it_is_no_success),
		ARENA_TEST(a_file_that_was_acknowledged_counts_even_so),
		ARENA_TEST(a_link_or_a_directory_that_was_not_asked_for_is_not_made),
		ARENA_TEST(of_directories_too_only_those_asked_for_are_made),
		ARENA_TEST(a_server_removes_nothing_beside_what_was_asked_for),
		ARENA_TEST(a_server_that_keeps_the_rules_has_its_mirror_pruned),
		ARENA_TEST(of_contents_the_place_is_pruned_and_nothing_that_was_told),
		ARENA_TEST(a_mirror_is_not_pruned_when_its_server_is_gone),
		ARENA_TEST(a_need_that_trusts_or_proves_by_no_rule_ends_the_session),
		ARENA_TEST(a_second_proof_is_not_given),
		ARENA_TEST(attributes_that_were_not_asked_for_are_not_taken),
		ARENA_TEST(an_end_does_not_overtake_the_attributes),
		ARENA_TEST(a_dry_run_ends_with_what_is_lacking),
		ARENA_TEST(in_a_dry_run_nothing_follows_need),
		ARENA_TEST(a_dry_run_takes_nothing),
		ARENA_TEST(silence_ends_at_its_deadline),
	};

	return RUN_TESTS("hostile server", tests);
}
