/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire_test.c - the format of zh/1 against bytes written down by hand, every byte of every fixed
 * payload changed to every other value, and every length but the right one.
 */
#include "unit.h"

#include "session/wire.h"

#include <errno.h>
#include <stdio.h>

static const uint64_t leaf = 1048576;

/* ------------------------------------------------ HELLO --------------------------------------- */

static struct hello control_hello(void)
{
	struct hello hello = {
		.kind = HELLO_CONTROL,
		.link = HELLO_LINK_PLAIN,
		.auth = HELLO_AUTH_PSK,
		.intent = HELLO_PULL,
		.version_min = 1,
		.version_max = 0x0203,
		.required = 0x04050607,
		.optional = 0x08090a0b,
	};
	memset(hello.session, 0x5e, sizeof(hello.session));
	memset(hello.nonce, 0x4e, sizeof(hello.nonce));
	return hello;
}

static void hello_golden(uint8_t ret_bytes[128])
{
	static const uint8_t start[32] = { 'z', 'e', 'r', 'o', 'h', 'a', 'u', 'l', 1, 1, 1, 2, 1, 0,
		0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0b, 0x0a, 0x09, 0x08 };

	memset(ret_bytes, 0, 128);
	memcpy(ret_bytes, start, sizeof(start));
	memset(ret_bytes + 32, 0x5e, 16);
	memset(ret_bytes + 48, 0x4e, 32);
}

static void hello_has_the_documented_bytes(void **state)
{
	struct hello hello = control_hello();
	uint8_t bytes[HELLO_BYTES], golden[128];

	(void)state;
	assert_int_equal(HELLO_BYTES, 128);
	hello_golden(golden);
	memset(bytes, 0xff, sizeof(bytes));
	wire_build_hello(&hello, bytes);
	assert_memory_equal(bytes, golden, 128);
}

static void hello_survives_a_round_trip(void **state)
{
	struct hello hello = control_hello(), back;
	uint8_t bytes[HELLO_BYTES], again[HELLO_BYTES];

	(void)state;
	hello.kind = HELLO_DATA;
	hello.data_index = LIMIT_STREAMS - 1;
	wire_build_hello(&hello, bytes);
	memset(&back, 0xff, sizeof(back));
	assert_int_equal(wire_parse_hello(bytes, &back), 0);
	assert_int_equal(back.kind, hello.kind);
	assert_int_equal(back.link, hello.link);
	assert_int_equal(back.auth, hello.auth);
	assert_int_equal(back.intent, hello.intent);
	assert_int_equal(back.version_min, hello.version_min);
	assert_int_equal(back.version_max, hello.version_max);
	assert_int_equal(back.required, hello.required);
	assert_int_equal(back.optional, hello.optional);
	assert_int_equal(back.data_index, hello.data_index);
	assert_memory_equal(back.session, hello.session, sizeof(hello.session));
	assert_memory_equal(back.nonce, hello.nonce, sizeof(hello.nonce));
	wire_build_hello(&back, again);
	assert_memory_equal(again, bytes, sizeof(bytes));
}

/* What may stand at one byte of the golden HELLO, all others unchanged; written from the manual. */
static bool hello_byte_allowed(size_t at, unsigned value)
{
	uint8_t golden[128];

	hello_golden(golden);
	if (value == golden[at])
		return true;
	if (at == 8)
		return value == 2; /* kind: a data connection with index 0 */
	if (at == 9)
		return value == 1 || value == 2; /* link */
	if (at == 10)
		return value == 0 || value == 1; /* auth */
	if (at == 11)
		return value == 1 || value == 2; /* intent */
	if (at == 12)
		return value != 0; /* version_min 1..255, below version_max 0x0203 */
	if (at == 13)
		return value == 1 || value == 2; /* version_min 0x0101 or 0x0201 */
	if (at == 14 || at == 15)
		return true; /* version_max: 0x0200..0x02ff, 0x0003..0xff03 */
	if (at >= 16 && at < 24)
		return true;        /* features */
	return at >= 32 && at < 80; /* session, nonce */
}

static void hello_refuses_every_wrong_byte(void **state)
{
	uint8_t bytes[128], golden[128];
	struct hello hello;

	(void)state;
	hello_golden(golden);
	for (size_t at = 0; at < 128; at++)
		for (unsigned value = 0; value < 256; value++) {
			int expected = hello_byte_allowed(at, value) ? 0 : -EPROTO;
			memcpy(bytes, golden, 128);
			bytes[at] = (uint8_t)value;
			if (wire_parse_hello(bytes, &hello) != expected)
				fail_msg("byte %zu, value %u: expected %d", at, value, expected);
		}
}

static void hello_of_a_data_connection_has_an_index_below_the_limit(void **state)
{
	struct hello hello = control_hello(), back;
	uint8_t bytes[HELLO_BYTES];

	(void)state;
	hello.kind = HELLO_DATA;
	for (uint32_t index = 0; index < 2 * LIMIT_STREAMS; index++) {
		hello.data_index = index;
		wire_build_hello(&hello, bytes);
		assert_int_equal(wire_parse_hello(bytes, &back), index < 64 ? 0 : -EPROTO);
	}
	hello.data_index = UINT32_MAX;
	wire_build_hello(&hello, bytes);
	assert_int_equal(wire_parse_hello(bytes, &back), -EPROTO);
}

static void hello_that_fails_leaves_the_output_alone(void **state)
{
	struct hello hello, before;
	uint8_t bytes[128];

	(void)state;
	hello_golden(bytes);
	bytes[127] = 1;
	memset(&hello, 0xa5, sizeof(hello));
	before = hello;
	assert_int_equal(wire_parse_hello(bytes, &hello), -EPROTO);
	assert_memory_equal(&hello, &before, sizeof(hello));
}

static void hello_of_later_versions_yields_its_versions_only(void **state)
{
	uint8_t bytes[128];
	struct hello hello, mine = control_hello();

	(void)state;
	memset(bytes, 0xee, sizeof(bytes)); /* a later version may have any use for the rest */
	memcpy(bytes, "zerohaul", 8);
	bytes[8] = 1;
	put_le16(bytes + 12, 2);
	put_le16(bytes + 14, 7);
	memset(&hello, 0xff, sizeof(hello));
	assert_int_equal(wire_parse_hello(bytes, &hello), 0);
	assert_int_equal(hello.kind, HELLO_CONTROL);
	assert_int_equal(hello.version_min, 2);
	assert_int_equal(hello.version_max, 7);
	assert_int_equal(hello.link + hello.auth + hello.intent, 0);
	assert_int_equal(hello.required, 0);
	assert_int_equal(hello.session[0], 0);
	mine.version_max = 1;
	assert_int_equal(wire_negotiate(&mine, &hello, 0), -EPROTONOSUPPORT);
}

static void negotiation_takes_the_highest_common_version(void **state)
{
	static const struct {
		uint16_t a_min, a_max, b_min, b_max;
		int expected;
	} rows[] = {
		{ 1, 1, 1, 1, 1 },
		{ 1, 1, 1, 9, 1 },
		{ 1, 3, 2, 9, 3 },
		{ 2, 9, 1, 3, 3 },
		{ 1, 9, 4, 5, 5 },
		{ 1, 1, 2, 9, -EPROTONOSUPPORT },
		{ 2, 9, 1, 1, -EPROTONOSUPPORT },
		{ 1, 65535, 65535, 65535, 65535 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct hello a = { .version_min = rows[i].a_min, .version_max = rows[i].a_max };
		struct hello b = { .version_min = rows[i].b_min, .version_max = rows[i].b_max };
		assert_int_equal(wire_negotiate(&a, &b, 0), rows[i].expected);
	}
}

static void negotiation_fails_on_an_unknown_required_feature_only(void **state)
{
	struct hello mine = control_hello(), theirs = control_hello();

	(void)state;
	theirs.required = 5;
	theirs.optional = 0xffffffff;
	assert_int_equal(wire_negotiate(&mine, &theirs, 5), 0x0203);
	assert_int_equal(wire_negotiate(&mine, &theirs, 7), 0x0203);
	assert_int_equal(wire_negotiate(&mine, &theirs, 4), -EPROTONOSUPPORT);
	theirs.required = 0;
	assert_int_equal(wire_negotiate(&mine, &theirs, 0), 0x0203);
}

/* ------------------------------------------------ refusals ------------------------------------ */

static void refusal_has_the_documented_bytes(void **state)
{
	static const uint8_t golden[128] = { 'z', 'e', 'r', 'o', 'h', 'a', 'u', 'l', 0xff, 0, 0, 0,
		1, 0, 2, 0, 12, 0 };
	struct wire_refusal refusal = { ZH_VERSION, 1, 2 }, back = { 0, 0, 0 };
	uint8_t bytes[HELLO_BYTES];

	(void)state;
	memset(bytes, 0xff, sizeof(bytes));
	wire_build_refusal(&refusal, bytes);
	assert_memory_equal(bytes, golden, sizeof(golden));
	assert_int_equal(wire_parse_refusal(bytes, &back), 0);
	assert_int_equal(back.outcome, ZH_VERSION);
	assert_int_equal(back.version_min, 1);
	assert_int_equal(back.version_max, 2);
}

static void refusal_and_hello_are_never_confused(void **state)
{
	struct wire_refusal refusal = { ZH_BUSY, 1, 1 };
	struct hello hello = control_hello();
	uint8_t bytes[HELLO_BYTES];

	(void)state;
	wire_build_refusal(&refusal, bytes);
	assert_int_equal(wire_parse_hello(bytes, &hello), -EPROTO);
	wire_build_hello(&hello, bytes);
	assert_int_equal(wire_parse_refusal(bytes, &refusal), -EPROTO);
}

static void refusal_refuses_every_wrong_byte(void **state)
{
	struct wire_refusal refusal = { ZH_VERSION, 1, 2 }, back;
	uint8_t golden[HELLO_BYTES], bytes[HELLO_BYTES];

	(void)state;
	wire_build_refusal(&refusal, golden);
	for (size_t at = 0; at < sizeof(bytes); at++)
		for (unsigned value = 0; value < 256; value++) {
			memcpy(bytes, golden, sizeof(bytes));
			bytes[at] = (uint8_t)value;
			int expected = value == golden[at] ? 0 : -EPROTO;
			if (at == 12)
				expected = value == 1 || value == 2 ? 0 : -EPROTO;
			if (at == 14)
				expected = value >= 1 ? 0 : -EPROTO;
			if (at == 15)
				expected = 0;
			if (at == 16 && value != 0 &&
				strcmp(zh_outcome_name((int)value), "UNKNOWN") != 0)
				expected = 0;
			if (wire_parse_refusal(bytes, &back) != expected)
				fail_msg("byte %zu, value %u: expected %d", at, value, expected);
		}
}

static void proof_refusal_survives_a_round_trip_and_proofs_do_not_look_so(void **state)
{
	enum zh_outcome outcome = ZH_OK;
	uint8_t bytes[PROOF_BYTES], golden[32] = { 0 };

	(void)state;
	golden[16] = 10;
	memset(bytes, 0xff, sizeof(bytes));
	wire_build_proof_refusal(ZH_AUTH, bytes);
	assert_memory_equal(bytes, golden, sizeof(golden));
	assert_int_equal(wire_parse_proof_refusal(bytes, &outcome), 0);
	assert_int_equal(outcome, ZH_AUTH);
	for (size_t at = 0; at < sizeof(bytes); at++) {
		if (at == 16)
			continue;
		bytes[at] = 1;
		assert_int_equal(wire_parse_proof_refusal(bytes, &outcome), -EPROTO);
		bytes[at] = 0;
	}
	bytes[16] = 0; /* OK is no refusal */
	assert_int_equal(wire_parse_proof_refusal(bytes, &outcome), -EPROTO);
	bytes[16] = 99; /* no outcome */
	assert_int_equal(wire_parse_proof_refusal(bytes, &outcome), -EPROTO);
}

/* ------------------------------------------------ heads --------------------------------------- */

static void head_has_the_documented_bytes(void **state)
{
	static const uint8_t golden[24] = { 9, 0, 0, 0, 0x04, 0x03, 0x02, 0x00, 0x18, 0x17, 0x16,
		0x15, 0x14, 0x13, 0x12, 0x11, 0x00, 0x00, 0x30, 0x00, 0x05, 0x00, 0x00, 0x00 };
	struct frame frame = { FRAME_DATA, 0, 0x00020304, 0x1112131415161718, 0x0000000500300000 };
	struct frame back = { 0, 0, 0, 0, 0 };
	uint8_t bytes[FRAME_HEAD_BYTES];

	(void)state;
	assert_int_equal(FRAME_HEAD_BYTES, 24);
	assert_int_equal(FRAME_FIXED_BYTES, 40);
	memset(bytes, 0xff, sizeof(bytes));
	wire_build_head(&frame, bytes);
	assert_memory_equal(bytes, golden, sizeof(golden));
	assert_int_equal(wire_parse_head(bytes, &back), 0);
	assert_int_equal(back.type, frame.type);
	assert_int_equal(back.flags, frame.flags);
	assert_int_equal(back.length, frame.length);
	assert_int_equal(back.id, frame.id);
	assert_int_equal(back.offset, frame.offset);
}

/* The rules of the heads once more, as the manual has them. */
static const struct head_row {
	uint8_t type;
	const char *name;
	uint32_t least, most, unit;
	uint8_t flags;
	char id;     /* '0' zero, '1' not zero, '*' any */
	char offset; /* '0' zero, 'l' leaf-aligned, '*' any */
} head_rows[] = {
	{ 1, "SETUP", 80, 80, 1, 0, '0', '0' },
	{ 2, "WANT", 0, 65536, 1, 7, '*', '0' },
	{ 3, "PLACE", 16, 16, 1, 0, '*', '0' },
	{ 4, "DIR", 34, 288, 1, 0, '1', '0' },
	{ 5, "FILE", 34, 288, 1, 3, '1', '0' },
	{ 6, "MAP", 0, 65536, 16, 0, '1', '0' },
	{ 7, "NEED", 0, 65536, 16, 3, '1', '0' },
	{ 8, "LEAF", 0, 65536, 16, 0, '1', '*' },
	{ 9, "DATA", 1, 16777216, 1, 0, '1', 'l' },
	{ 10, "PACK", 33, 65536, 1, 1, '1', '0' },
	{ 11, "SUM", 0, 256, 16, 0, '1', 'l' }, /* VOID has a test of its own */
	{ 12, "NAK", 20, 20, 1, 0, '1', 'l' },
	{ 13, "END", 40, 40, 1, 0, '1', '0' },
	{ 14, "ACK", 16, 16, 1, 1, '1', '0' },
	{ 15, "CREDIT", 0, 0, 1, 0, '1', '0' },
	{ 16, "ERR", 284, 284, 1, 1, '*', '*' },
	{ 17, "PING", 0, 0, 1, 0, '*', '0' },
	{ 18, "PONG", 0, 0, 1, 0, '*', '0' },
	{ 19, "BYE", 1024, 1024, 1, 0, '0', '0' },
	{ 20, "LEAVE", 16, 16, 1, 1, '1', '0' }, /* COMPLETE has a test of its own */
	{ 21, "ATTR", 12, 65536, 1, 1, '1', '0' },
	{ 22, "RULE", 1, 4096, 1, 1, '0', '0' },
	{ 23, "GOT", 0, 0, 1, 1, '*', '*' },
	{ 24, "LOST", 0, 0, 1, 0, '*', '0' },
	{ 25, "KEEP", 2, 65536, 1, 0, '*', '0' },
};

static int parse_parts(unsigned type, unsigned flags, uint32_t length, uint64_t id, uint64_t offset)
{
	uint8_t bytes[24];
	struct frame frame, before;
	int r;

	bytes[0] = (uint8_t)type;
	bytes[1] = (uint8_t)flags;
	put_le16(bytes + 2, 0);
	put_le32(bytes + 4, length);
	put_le64(bytes + 8, id);
	put_le64(bytes + 16, offset);
	memset(&frame, 0xa5, sizeof(frame));
	before = frame;
	r = wire_parse_head(bytes, &frame);
	if (r < 0)
		assert_memory_equal(&frame, &before, sizeof(frame));
	return r;
}

static uint64_t legal_id(const struct head_row *row)
{
	return row->id == '0' ? 0 : 1;
}

static void head_lengths_are_checked_for_every_type(void **state)
{
	(void)state;
	assert_int_equal(ARRAY_LEN(head_rows), FRAME_TYPE_END - 1);
	for (size_t i = 0; i < ARRAY_LEN(head_rows); i++) {
		const struct head_row *row = &head_rows[i];
		for (uint32_t length = 0; length < 70000; length++) {
			bool legal = length >= row->least && length <= row->most &&
				     length % row->unit == 0;
			int r = parse_parts(row->type, 0, length, legal_id(row), 0);
			if (r != (legal ? 0 : -EPROTO))
				fail_msg("%s with length %u gives %d", row->name, length, r);
		}
		assert_int_equal(parse_parts(row->type, 0, row->most, legal_id(row), 0), 0);
		assert_int_equal(
			parse_parts(row->type, 0, row->most + 1, legal_id(row), 0), -EPROTO);
		assert_int_equal(parse_parts(row->type, 0, UINT32_MAX, legal_id(row), 0), -EPROTO);
		assert_int_equal(wire_cap((enum frame_type)row->type), row->most);
		assert_string_equal(wire_name(row->type), row->name);
		assert_int_equal(wire_is_raw((enum frame_type)row->type), row->type == FRAME_DATA);
	}
}

static void head_flags_are_checked_for_every_type(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(head_rows); i++) {
		const struct head_row *row = &head_rows[i];
		for (unsigned flags = 0; flags < 256; flags++) {
			bool legal = (flags & ~(unsigned)row->flags) == 0;
			assert_int_equal(parse_parts(row->type, flags, row->most, legal_id(row), 0),
				legal ? 0 : -EPROTO);
		}
	}
}

static void head_ids_and_offsets_are_checked_for_every_type(void **state)
{
	static const uint64_t values[] = { 0, 1, 2, 1048575, 1048576, 1048577, 16777216,
		INT64_MAX - 1048575, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(head_rows); i++) {
		const struct head_row *row = &head_rows[i];
		for (size_t v = 0; v < ARRAY_LEN(values); v++) {
			uint64_t value = values[v];
			bool id_legal = row->id == '*' || (row->id == '0') == (value == 0);
			bool offset_legal =
				row->offset == '*' || value == 0 ||
				(row->offset == 'l' && value % leaf == 0 && value <= INT64_MAX);
			assert_int_equal(parse_parts(row->type, 0, row->least, value, 0),
				id_legal ? 0 : -EPROTO);
			assert_int_equal(
				parse_parts(row->type, 0, row->least, legal_id(row), value),
				offset_legal ? 0 : -EPROTO);
		}
	}
}

static void head_refuses_unknown_types_and_reserved_bits(void **state)
{
	uint8_t bytes[24] = { FRAME_PING };
	struct frame frame;

	(void)state;
	for (unsigned type = 0; type < 256; type++)
		if (type == 0 || type > 25) {
			assert_int_equal(parse_parts(type, 0, 0, 0, 0), -EPROTO);
			assert_int_equal(parse_parts(type, 0, 0, 1, 0), -EPROTO);
			assert_string_equal(wire_name(type), "unknown");
		}
	assert_string_equal(wire_name(UINT32_MAX), "unknown");
	assert_int_equal(wire_parse_head(bytes, &frame), 0);
	for (unsigned bit = 0; bit < 16; bit++) {
		bytes[2 + bit / 8] = (uint8_t)(1u << bit % 8);
		assert_int_equal(wire_parse_head(bytes, &frame), -EPROTO);
		bytes[2 + bit / 8] = 0;
	}
}

static void head_of_data_never_reaches_past_int64_max(void **state)
{
	uint64_t last = (uint64_t)INT64_MAX / leaf * leaf; /* the last leaf that begins below it */

	(void)state;
	assert_int_equal(parse_parts(FRAME_DATA, 0, 1048575, 1, last), 0);
	assert_int_equal(parse_parts(FRAME_DATA, 0, 1048576, 1, last), -EPROTO);
	assert_int_equal(parse_parts(FRAME_DATA, 0, 16777216, 1, last - 15 * leaf), -EPROTO);
	assert_int_equal(parse_parts(FRAME_DATA, 0, 16777216, 1, last - 16 * leaf), 0);
	assert_int_equal(parse_parts(FRAME_DATA, 0, 1, 1, UINT64_MAX - 1048575), -EPROTO);
}

static void head_of_a_void_sum_carries_a_reason_and_no_digests(void **state)
{
	(void)state;
	for (uint32_t length = 0; length < 300; length++)
		assert_int_equal(parse_parts(FRAME_SUM, SUM_VOID, length, 1, leaf),
			length == 4 ? 0 : -EPROTO);
}

static void head_of_a_complete_leave_may_be_of_the_place(void **state)
{
	(void)state;
	assert_int_equal(parse_parts(FRAME_LEAVE, LEAVE_COMPLETE, 16, 0, 0), 0);
	assert_int_equal(parse_parts(FRAME_LEAVE, LEAVE_COMPLETE, 16, 1, 0), 0);
	assert_int_equal(parse_parts(FRAME_LEAVE, LEAVE_COMPLETE, 16, 0, 1), -EPROTO);
	assert_int_equal(parse_parts(FRAME_LEAVE, 0, 16, 0, 0), -EPROTO);
	assert_int_equal(parse_parts(FRAME_ERR, ERR_DIRECTORY, 284, 0, 0), 0); /* and its ERR */
}

static void build_an_illegal_head(void)
{
	struct frame frame = { .type = FRAME_DATA, .length = 1, .id = 1, .offset = 1 };
	uint8_t bytes[FRAME_HEAD_BYTES];

	wire_build_head(&frame, bytes);
}

static void head_that_peers_would_refuse_is_never_built(void **state)
{
	(void)state;
	assert_stops_the_program(build_an_illegal_head);
}

/* ------------------------------------------------ SETUP --------------------------------------- */

static struct wire_setup some_setup(void)
{
	struct wire_setup setup;

	memset(&setup, 0, sizeof(setup));
	setup.direction = ZH_PULL;
	setup.verify = ZH_VERIFY_NONE;
	setup.durability = ZH_DURABLE_FILE;
	setup.nagle = ZH_NAGLE_CORK;
	setup.no_fallback = 1;
	setup.streams = 3;
	setup.chunk_bytes = 0x00010203;
	setup.sndbuf_bytes = 0x04050607;
	setup.rcvbuf_bytes = 0x08090a0b;
	setup.notsent_lowat_bytes = 0x0c0d0e0f;
	setup.cache = ZH_CACHE_DROP;
	setup.existing = WIRE_EXISTING_TRUST;
	setup.tree = TREE_RECURSIVE | TREE_OWNER;
	setup.dry_run = 1;
	setup.max_open = 7;
	setup.pacing_bytes_per_s = 0x1011121314151617;
	TEXT_SET(setup.congestion, "cubic");
	TEXT_SET(setup.strategy, "sendfile");
	return setup;
}

static void setup_has_the_documented_bytes(void **state)
{
	static const uint8_t golden[80] = { 1, 1, 1, 2, 1, 7, 0, 0, 3, 0, 0, 0, 0x03, 0x02, 0x01,
		0x00, 0x07, 0x06, 0x05, 0x04, 0x0b, 0x0a, 0x09, 0x08, 0x0f, 0x0e, 0x0d, 0x0c, 2, 1,
		5, 1, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x10, 'c', 'u', 'b', 'i', 'c', 0, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 's', 'e', 'n', 'd', 'f', 'i', 'l', 'e' };
	struct wire_setup setup = some_setup(), back;
	uint8_t bytes[WIRE_SETUP_BYTES];

	(void)state;
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), 80);
	assert_memory_equal(bytes, golden, sizeof(golden));
	memset(&back, 0xff, sizeof(back));
	assert_int_equal(wire_parse_setup(bytes, sizeof(bytes), &back), 0);
	assert_memory_equal(&back, &setup, sizeof(setup));
}

static bool setup_byte_allowed(const uint8_t golden[80], size_t at, unsigned value)
{
	bool visible = value >= 0x20 && value <= 0x7e;

	if (value == golden[at])
		return true;
	switch (at) {
	case 0:
	case 1:
	case 4:
	case 31:
		return value <= 1;
	case 2:
	case 3:
	case 28:
	case 29:
		return value <= 2;
	case 5:
		return value <= 64;
	case 30:
		return (value & ~(unsigned)TREE_ALL) == 0 &&
		       (value & 24) != 16 && /* PRIVILEGED is of XATTRS */
		       (value & 33) != 32;   /* DELETE is of RECURSIVE */
	case 8:
		return value >= 1 && value <= 64;
	case 15:
	case 19:
	case 23:
	case 27:
		return value < 0x80; /* top byte of a number that has to fit an int */
	default:
		break;
	}
	if ((at >= 12 && at < 28) || (at >= 32 && at < 40))
		return true;
	if (at >= 40 && at < 46)
		return visible || (at == 44 && value == 0); /* "cubi" is fine, "cu\0ic" is not */
	if (at == 45)
		return visible;
	if (at >= 56 && at < 65)
		return visible || (at == 63 && value == 0);
	return false;
}

static void setup_refuses_every_wrong_byte(void **state)
{
	struct wire_setup setup = some_setup(), back;
	uint8_t golden[80], bytes[80], again[80];

	(void)state;
	assert_int_equal(wire_build_setup(&setup, golden, sizeof(golden)), 80);
	for (size_t at = 0; at < 80; at++)
		for (unsigned value = 0; value < 256; value++) {
			int expected = setup_byte_allowed(golden, at, value) ? 0 : -EPROTO;
			memcpy(bytes, golden, 80);
			bytes[at] = (uint8_t)value;
			if (wire_parse_setup(bytes, 80, &back) != expected)
				fail_msg("byte %zu, value %u: expected %d", at, value, expected);
			if (expected == 0) {
				assert_int_equal(wire_build_setup(&back, again, 80), 80);
				assert_memory_equal(again, bytes, 80);
			}
		}
}

static void setup_texts_must_end_within_their_field(void **state)
{
	struct wire_setup setup = some_setup(), back;
	uint8_t bytes[80];

	(void)state;
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), 80);
	memset(bytes + 40, 'x', 15);
	assert_int_equal(wire_parse_setup(bytes, 80, &back), 0);
	assert_int_equal(strlen(back.congestion), 15);
	bytes[55] = 'x';
	assert_int_equal(wire_parse_setup(bytes, 80, &back), -EPROTO);
	bytes[55] = 0;
	memset(bytes + 56, 'x', 24);
	assert_int_equal(wire_parse_setup(bytes, 80, &back), -EPROTO);
}

static void setup_that_peers_would_refuse_is_not_built(void **state)
{
	struct wire_setup setup = some_setup();
	uint8_t bytes[80];

	(void)state;
	setup.streams = LIMIT_STREAMS + 1;
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), -EINVAL);
	setup.streams = 0;
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), -EINVAL);
	setup = some_setup();
	setup.chunk_bytes = 0x80000000;
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), -EINVAL);
	setup = some_setup();
	setup.cache = 256; /* has one byte on the wire */
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), -EINVAL);
	setup = some_setup();
	setup.existing = WIRE_EXISTING_DIGEST + 1;
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), -EINVAL);
	setup = some_setup();
	setup.tree = TREE_DELETE; /* from nothing */
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), -EINVAL);
	setup.tree = TREE_ALL + 1;
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), -EINVAL);
	setup.tree = TREE_RECURSIVE | TREE_PRIVILEGED;
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), -EINVAL);
	setup.tree = TREE_ALL;
	setup.dry_run = 2;
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), -EINVAL);
	setup.dry_run = 0;
	setup.max_open = LIMIT_OPEN_FILES + 1;
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), -EINVAL);
	setup.max_open = LIMIT_OPEN_FILES;
	assert_int_equal(wire_build_setup(&setup, bytes, sizeof(bytes)), 80);
}

/* ------------------------------------------------ names --------------------------------------- */

static void names_that_are_no_component_are_refused(void **state)
{
	char long_name[257];

	(void)state;
	memset(long_name, 'n', sizeof(long_name));
	assert_int_equal(wire_name_check("", 0), -EINVAL);
	assert_int_equal(wire_name_check(".", 1), -EINVAL);
	assert_int_equal(wire_name_check("..", 2), -EINVAL);
	assert_int_equal(wire_name_check("a/b", 3), -EINVAL);
	assert_int_equal(wire_name_check("/", 1), -EINVAL);
	assert_int_equal(wire_name_check("a\0b", 3), -EINVAL);
	assert_int_equal(wire_name_check("ab\0", 3), -EINVAL);
	assert_int_equal(wire_name_check(long_name, 256), -ENAMETOOLONG);
	assert_int_equal(wire_name_check(long_name, SIZE_MAX), -ENAMETOOLONG);
}

static void names_that_only_look_odd_are_components(void **state)
{
	char long_name[255];

	(void)state;
	memset(long_name, 'n', sizeof(long_name));
	assert_int_equal(wire_name_check(long_name, 255), 0);
	assert_int_equal(wire_name_check("...", 3), 0);
	assert_int_equal(wire_name_check(".a", 2), 0);
	assert_int_equal(wire_name_check("..a", 3), 0);
	assert_int_equal(wire_name_check(" ", 1), 0);
	assert_int_equal(wire_name_check("-rf", 3), 0);
	assert_int_equal(wire_name_check("\xff\x01\n\\", 4), 0);
}

static void strict_names_refuse_what_misleads(void **state)
{
	static const char *const refused[] = {
		"a\x01", "\x1f", "line\nbreak", "\x1b[2J", "\x7f",  /* C0 and DEL */
		"\xc2\x80", "\xc2\x85", "\xc2\x9b", "\xc2\x9f",     /* C1 */
		"\xe2\x80\x8e", "\xe2\x80\x8f", "\xd8\x9c",         /* marks */
		"\xe2\x80\xaa", "\xe2\x80\xab", "a\xe2\x80\xaetxt", /* embeddings, overrides */
		"\xe2\x81\xa6", "\xe2\x81\xa7", "\xe2\x81\xa9",     /* isolates */
		"\x80", "\xbf", "\xc3", "\xe2\x82", "\xf0\x9f\x98", "a\xff", "\xfe", /* not UTF-8 */
		"\xc3(", "\xe2(\xa1", "\xe2\x82(", "\xf0\x9f\x98(", "\xc0\xaf", "\xc1\xbf",
		"\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf",         /* overlong */
		"\xed\xa0\x80", "\xed\xbf\xbf",             /* surrogates */
		"\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", /* past U+10FFFF */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		char *copy = exact_copy(refused[i], strlen(refused[i]));
		if (wire_name_strict(copy, strlen(refused[i])) != -EINVAL)
			fail_msg("row %zu was accepted", i);
		free(copy);
	}
	assert_int_equal(wire_name_strict("a\0b", 3), -EINVAL);
}

static void strict_names_accept_what_people_use(void **state)
{
	static const char *const accepted[] = { "a", "A file (1).txt", "~", "caf\xc3\xa9",
		"\xc2\xa0", "\xe6\x97\xa5\xe6\x9c\xac", "\xf0\x9f\x98\x80", "\xe2\x80\x90",
		"\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\xa5", "\xe2\x81\xaa", "\xed\x9f\xbf",
		"\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf", "\xd8\x9b", "\xdf\xbf",
		"\xe0\xa0\x80", "\xf0\x90\x80\x80" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(accepted); i++) {
		char *copy = exact_copy(accepted[i], strlen(accepted[i]));
		if (wire_name_strict(copy, strlen(accepted[i])) != 0)
			fail_msg("row %zu was refused", i);
		free(copy);
	}
}

/* ------------------------------------------------ paths --------------------------------------- */

static void paths_have_the_documented_bytes(void **state)
{
	uint8_t bytes[64];

	(void)state;
	assert_int_equal(wire_build_path("srv/in/x", bytes, sizeof(bytes)), 9);
	assert_memory_equal(bytes, "\x03srv\x02in\x01x", 9);
	assert_int_equal(wire_build_path("//srv///in/", bytes, sizeof(bytes)), 7);
	assert_memory_equal(bytes, "\x03srv\x02in", 7);
	assert_int_equal(wire_build_path("./srv/././in/.", bytes, sizeof(bytes)), 7);
	assert_memory_equal(bytes, "\x03srv\x02in", 7);
	assert_int_equal(wire_build_path(".", bytes, sizeof(bytes)), 0);
	assert_int_equal(wire_build_path("", bytes, sizeof(bytes)), 0);
	assert_int_equal(wire_build_path("/", bytes, sizeof(bytes)), 0);
	assert_int_equal(wire_build_path("", bytes, 0), 0);
}

static void paths_that_could_climb_are_refused_on_both_sides(void **state)
{
	static const char *const texts[] = { "..", "a/..", "../a", "a/../b", "./..", "a/./.." };
	static const struct {
		const char *bytes;
		size_t length;
		int expected;
	} rows[] = {
		{ "\x02..", 3, -EINVAL },
		{ "\x01.", 2, -EINVAL },
		{ "\x01"
		  "a\x02..",
			5, -EINVAL },
		{ "\x03"
		  "a/b",
			4, -EINVAL },
		{ "\x03"
		  "a\0b",
			4, -EINVAL },
		{ "\x00", 1, -EINVAL },
		{ "\x01"
		  "a\x00",
			3, -EINVAL },
		{ "\x02"
		  "a",
			2, -EPROTO },
		{ "\x01", 1, -EPROTO },
		{ "\x01"
		  "a\xff",
			3, -EPROTO },
	};
	uint8_t bytes[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_int_equal(wire_build_path(texts[i], bytes, sizeof(bytes)), -EINVAL);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct wire_path path = { (const uint8_t *)"untouched", 9, 9 };
		uint8_t *copy = exact_copy(rows[i].bytes, rows[i].length);
		assert_int_equal(wire_parse_path(copy, rows[i].length, &path), rows[i].expected);
		assert_int_equal(path.count, 9);
		free(copy);
	}
}

static void paths_are_walked_component_by_component(void **state)
{
	static const char bytes[] = "\x03srv\x04..in\x01x";
	struct wire_path path;
	const char *name = NULL;
	uint8_t length = 0;
	size_t at = 0;

	(void)state;
	assert_int_equal(wire_parse_path((const uint8_t *)bytes, sizeof(bytes) - 1, &path), 0);
	assert_int_equal(path.count, 3);
	assert_true(wire_path_next(&path, &at, &name, &length));
	assert_int_equal(length, 3);
	assert_memory_equal(name, "srv", 3);
	assert_true(wire_path_next(&path, &at, &name, &length));
	assert_int_equal(length, 4);
	assert_memory_equal(name, "..in", 4);
	assert_true(wire_path_next(&path, &at, &name, &length));
	assert_int_equal(length, 1);
	assert_memory_equal(name, "x", 1);
	assert_false(wire_path_next(&path, &at, &name, &length));
	assert_int_equal(wire_parse_path(NULL, 0, &path), 0);
	at = 0;
	assert_int_equal(path.count, 0);
	assert_false(wire_path_next(&path, &at, &name, &length));
}

static void paths_are_limited_in_depth_name_and_room(void **state)
{
	char *text = calloc(1, 70000);
	uint8_t *bytes = malloc(70000);
	struct wire_path path;

	(void)state;
	assert_non_null(text);
	assert_non_null(bytes);
	for (unsigned i = 0; i < 256; i++) { /* the deepest path of the longest names */
		memset(text + i * 256, 'd', 255);
		text[i * 256 + 255] = '/';
	}
	assert_int_equal(wire_build_path(text, bytes, 65536), 65536);
	assert_int_equal(wire_parse_path(bytes, 65536, &path), 0);
	assert_int_equal(path.count, 256);
	assert_int_equal(wire_build_path(text, bytes, 65535), -ENAMETOOLONG);
	strcpy(text + 65536, "e");
	assert_int_equal(wire_build_path(text, bytes, 70000), -ENAMETOOLONG);
	memcpy(bytes + 65536,
		"\x01"
		"e",
		2);
	assert_int_equal(wire_parse_path(bytes, 65538, &path), -EPROTO);
	memset(text, 'd', 256);
	text[256] = '\0';
	assert_int_equal(wire_build_path(text, bytes, 70000), -ENAMETOOLONG);
	for (unsigned i = 0; i < 257; i++)
		memcpy(bytes + i * 2,
			"\x01"
			"d",
			2);
	assert_int_equal(wire_parse_path(bytes, 512, &path), 0);
	assert_int_equal(wire_parse_path(bytes, 514, &path), -EPROTO);
	free(bytes);
	free(text);
}

/* ------------------------------------------------ PLACE and FILE ------------------------------ */

static void place_has_the_documented_bytes_and_checks_them(void **state)
{
	static const uint8_t golden[16] = { 2, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1 };
	struct wire_place_info place = { PLACE_FILE, 0x0102030405060708 }, back = { 9, 9 };
	uint8_t bytes[16];

	(void)state;
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(wire_build_place(&place, bytes, sizeof(bytes)), 16);
	assert_memory_equal(bytes, golden, 16);
	assert_int_equal(wire_parse_place(bytes, 16, &back), 0);
	assert_int_equal(back.kind, PLACE_FILE);
	assert_int_equal(back.size, place.size);
	for (size_t at = 1; at < 8; at++) {
		bytes[at] = 1;
		assert_int_equal(wire_parse_place(bytes, 16, &back), -EPROTO);
		bytes[at] = 0;
	}
	bytes[15] = 0x80; /* past INT64_MAX */
	assert_int_equal(wire_parse_place(bytes, 16, &back), -EPROTO);
	bytes[15] = 1;
	for (unsigned kind = 0; kind < 256; kind++) {
		bytes[0] = (uint8_t)kind; /* a size is told of files only */
		assert_int_equal(
			wire_parse_place(bytes, 16, &back), kind == PLACE_FILE ? 0 : -EPROTO);
	}
	memset(bytes + 8, 0, 8);
	for (unsigned kind = 0; kind < 256; kind++) {
		bytes[0] = (uint8_t)kind;
		assert_int_equal(wire_parse_place(bytes, 16, &back), kind <= 3 ? 0 : -EPROTO);
	}
	place.kind = PLACE_DIRECTORY;
	assert_int_equal(wire_build_place(&place, bytes, sizeof(bytes)), 16);
	assert_int_equal(wire_parse_place(bytes, 16, &back), 0);
	assert_int_equal(back.size, 0);
}

static struct wire_file some_file(void)
{
	struct wire_file file;

	memset(&file, 0, sizeof(file));
	file.parent = 0x0102030405060708;
	file.size = 0x0000111213141516;
	file.mtime_s = -2;
	file.mtime_ns = 999999999;
	file.mode = 04755;
	file.name_length = 4;
	memcpy(file.name, "\xff\n.x", 4);
	return file;
}

static void file_has_the_documented_bytes(void **state)
{
	static const uint8_t golden[37] = { 8, 7, 6, 5, 4, 3, 2, 1, 0x16, 0x15, 0x14, 0x13, 0x12,
		0x11, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc9, 0x9a, 0x3b,
		0xed, 0x09, 0, 0, 4, 0xff, '\n', '.', 'x' };
	struct wire_file file = some_file(), back;
	uint8_t bytes[37];

	(void)state;
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), 37);
	assert_memory_equal(bytes, golden, sizeof(golden));
	memset(&back, 0xff, sizeof(back));
	assert_int_equal(wire_parse_file(bytes, sizeof(bytes), &back), 0);
	assert_memory_equal(&back, &file, sizeof(file));
	assert_int_equal(back.name[4], '\0');
}

static void file_fields_out_of_range_are_named_by_their_error(void **state)
{
	struct wire_file file = some_file();
	uint8_t bytes[WIRE_FILE_BYTES_MAX];

	(void)state;
	file.size = LIMIT_FILE_BYTES;
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), 37);
	file.size = LIMIT_FILE_BYTES + 1;
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), -ERANGE);
	file.size = UINT64_MAX;
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), -ERANGE);
	file = some_file();
	file.mtime_ns = 1000000000;
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), -EPROTO);
	file = some_file();
	for (unsigned bit = 0; bit < 32; bit++) { /* type bits have no place in a mode */
		file.mode = 1u << bit;
		assert_int_equal(
			wire_build_file(&file, bytes, sizeof(bytes)), bit < 12 ? 37 : -EPROTO);
	}
	file = some_file();
	memcpy(file.name, "a/bc", 4);
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), -EINVAL);
	memcpy(file.name, "a\0bc", 4);
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), -EINVAL);
	memcpy(file.name, "..", 3);
	file.name_length = 2;
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), -EINVAL);
	file.name_length = 0;
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), -EPROTO);
	file.name_length = 255;
	memset(file.name, 'n', 255);
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), 288);
}

static void file_whose_name_length_disagrees_is_refused(void **state)
{
	struct wire_file file = some_file(), back;
	uint8_t bytes[37];

	(void)state;
	assert_int_equal(wire_build_file(&file, bytes, sizeof(bytes)), 37);
	for (unsigned length = 0; length < 256; length++) {
		bytes[32] = (uint8_t)length;
		assert_int_equal(
			wire_parse_file(bytes, sizeof(bytes), &back), length == 4 ? 0 : -EPROTO);
	}
}

static void dir_is_a_file_without_a_size(void **state)
{
	struct wire_file dir = some_file(), file, back;
	uint8_t bytes[37], of_file[37];

	(void)state;
	dir.size = 0;
	assert_int_equal(wire_build_dir(&dir, bytes, sizeof(bytes)), 37);
	assert_int_equal(wire_build_file(&dir, of_file, sizeof(of_file)), 37);
	assert_memory_equal(bytes, of_file, sizeof(bytes));
	memset(&back, 0xff, sizeof(back));
	assert_int_equal(wire_parse_dir(bytes, sizeof(bytes), &back), 0);
	assert_memory_equal(&back, &dir, sizeof(dir));
	for (size_t at = 8; at < 16; at++) {
		bytes[at] = 1;
		assert_int_equal(wire_parse_dir(bytes, sizeof(bytes), &back), -EPROTO);
		assert_int_equal(
			wire_parse_file(bytes, sizeof(bytes), &file), at < 14 ? 0 : -ERANGE);
		bytes[at] = 0;
	}
	dir.size = 1;
	assert_int_equal(wire_build_dir(&dir, bytes, sizeof(bytes)), -EPROTO);
	dir.size = 0;
	memcpy(dir.name, "a/bc", 4);
	assert_int_equal(wire_build_dir(&dir, bytes, sizeof(bytes)), -EINVAL);
	dir.name_length = 0;
	assert_int_equal(wire_build_dir(&dir, bytes, sizeof(bytes)), -EPROTO);
}

/* ------------------------------------------------ LEAVE --------------------------------------- */

static void leave_has_the_documented_bytes(void **state)
{
	static const uint8_t golden[16] = { 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xc9, 0x9a, 0x3b, 0xff, 0x0f, 0, 0 };
	struct wire_leave leave, back;
	uint8_t bytes[16];

	(void)state;
	memset(&leave, 0, sizeof(leave));
	leave.mtime_s = -2;
	leave.mtime_ns = 999999999;
	leave.mode = 07777;
	assert_int_equal(wire_build_leave(&leave, bytes, sizeof(bytes)), 16);
	assert_memory_equal(bytes, golden, sizeof(golden));
	memset(&back, 0xff, sizeof(back));
	assert_int_equal(wire_parse_leave(bytes, sizeof(bytes), &back), 0);
	assert_memory_equal(&back, &leave, sizeof(leave));
}

static void leave_without_a_time_or_with_a_type_in_its_mode_is_refused(void **state)
{
	struct wire_leave leave = { .mtime_ns = 999999999, .mode = 07777 }, back, before;
	uint8_t bytes[16], unused[16];

	(void)state;
	memset(&before, 0xa5, sizeof(before));
	back = before;
	assert_int_equal(wire_build_leave(&leave, bytes, sizeof(bytes)), 16);
	for (size_t length = 0; length < 16; length++)
		assert_int_equal(wire_parse_leave(bytes, length, &back), -EPROTO);
	put_le32(bytes + 8, 1000000000);
	assert_int_equal(wire_parse_leave(bytes, 16, &back), -EPROTO);
	put_le32(bytes + 8, 999999999);
	for (unsigned bit = 12; bit < 32; bit++) {
		put_le32(bytes + 12, 1u << bit);
		assert_int_equal(wire_parse_leave(bytes, 16, &back), -EPROTO);
	}
	assert_memory_equal(&back, &before, sizeof(back));
	put_le32(bytes + 12, 0);
	assert_int_equal(wire_parse_leave(bytes, 16, &back), 0);

	leave.mtime_ns = 1000000000;
	assert_int_equal(wire_build_leave(&leave, unused, sizeof(unused)), -EINVAL);
	leave.mtime_ns = 0;
	leave.mode = 010000;
	assert_int_equal(wire_build_leave(&leave, unused, sizeof(unused)), -EINVAL);
	leave.mode = 0;
	assert_int_equal(wire_build_leave(&leave, unused, sizeof(unused)), 16);
}

/* ------------------------------------------------ PACK ---------------------------------------- */

static struct wire_member some_member(void)
{
	struct wire_member member;

	memset(&member, 0, sizeof(member));
	member.parent = 0x01020304;
	member.size = 0x000a0b0c;
	member.mtime_s = -2;
	member.mtime_ns = 999999999;
	member.uid = 0x11121314;
	member.gid = 0x15161718;
	member.mode = 04755;
	member.kind = MEMBER_FILE;
	member.name_length = 4;
	memcpy(member.name, "\xff\n.x", 4);
	return member;
}

static const uint8_t member_golden[36] = { 4, 3, 2, 1, 0x0c, 0x0b, 0x0a, 0, 0xfe, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xc9, 0x9a, 0x3b, 0x14, 0x13, 0x12, 0x11, 0x18, 0x17, 0x16,
	0x15, 0xed, 0x09, 0, 4, 0xff, '\n', '.', 'x' };

/* wire_parse_pack on bytes behind which nothing may be read; outputs stay when it fails. */
static int parse_pack(const uint8_t *bytes, size_t length)
{
	uint8_t *copy = exact_copy(bytes, length);
	size_t count = 77;
	uint32_t total = 78;
	int r = wire_parse_pack(copy, length, &count, &total);

	free(copy);
	if (r < 0) {
		assert_int_equal(count, 77);
		assert_int_equal(total, 78);
	}
	return r;
}

static void pack_has_the_documented_bytes(void **state)
{
	struct wire_member member = some_member(), link = some_member(), back;
	size_t count = 0, at = 0;
	uint8_t bytes[69];
	uint32_t total = 0;

	(void)state;
	link.kind = MEMBER_LINK;
	link.size = 4095;
	link.name_length = 1;
	memset(link.name, 0, sizeof(link.name));
	link.name[0] = 'l';
	memset(bytes, 0xee, sizeof(bytes));
	assert_int_equal(wire_build_member(&member, bytes, sizeof(bytes)), 36);
	assert_memory_equal(bytes, member_golden, 36);
	assert_int_equal(wire_build_member(&link, bytes + 36, 33), 33);
	assert_int_equal(bytes[36 + 30], 1);
	assert_int_equal(wire_parse_pack(bytes, sizeof(bytes), &count, &total), 0);
	assert_int_equal(count, 2);
	assert_int_equal(total, 0x000a0b0c + 4095);
	memset(&back, 0xff, sizeof(back));
	assert_true(wire_pack_next(bytes, sizeof(bytes), &at, &back));
	assert_memory_equal(&back, &member, sizeof(member));
	assert_true(wire_pack_next(bytes, sizeof(bytes), &at, &back));
	assert_memory_equal(&back, &link, sizeof(link));
	assert_false(wire_pack_next(bytes, sizeof(bytes), &at, &back));
}

static bool member_byte_allowed(size_t at, unsigned value)
{
	if (value == member_golden[at])
		return true;
	if (at == 6)
		return value <= 0x0f; /* size, of 1 MiB at most */
	if (at == 19)
		return value < 0x3b; /* nanoseconds */
	if (at == 29)
		return value <= 0x0f; /* mode */
	return at < 6 || (at >= 8 && at < 19) || (at >= 20 && at < 29);
}

static void pack_refuses_every_wrong_byte(void **state)
{
	uint8_t bytes[36];

	(void)state;
	for (size_t at = 0; at < 32; at++)
		for (unsigned value = 0; value < 256; value++) {
			bool nano =
				at >= 16 && at < 19; /* 999999999 and a little more is too much */
			int r;
			memcpy(bytes, member_golden, sizeof(bytes));
			bytes[at] = (uint8_t)value;
			r = parse_pack(bytes, sizeof(bytes));
			if (nano && get_le32(bytes + 16) > 999999999)
				assert_int_equal(r, -EPROTO);
			else if (r != (member_byte_allowed(at, value) ? 0 : -EPROTO))
				fail_msg("byte %zu, value %u gives %d", at, value, r);
		}
	for (size_t length = 0; length < 36; length++)
		assert_int_equal(parse_pack(member_golden, length), -EPROTO);
}

static void pack_members_are_files_and_links_of_a_legal_size(void **state)
{
	static const struct {
		uint8_t kind;
		uint32_t size;
		int expected;
	} rows[] = {
		{ MEMBER_FILE, 0, 36 },
		{ MEMBER_FILE, LIMIT_PACK_BYTES, 36 },
		{ MEMBER_FILE, LIMIT_PACK_BYTES + 1, -EPROTO },
		{ MEMBER_FILE, UINT32_MAX, -EPROTO },
		{ MEMBER_LINK, 0, -EPROTO },
		{ MEMBER_LINK, 1, 36 },
		{ MEMBER_LINK, 4095, 36 },
		{ MEMBER_LINK, 4096, -EPROTO },
		{ 2, 1, -EPROTO },
		{ 255, 1, -EPROTO },
	};
	uint8_t bytes[36];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct wire_member member = some_member();
		member.kind = rows[i].kind;
		member.size = rows[i].size;
		if (wire_build_member(&member, bytes, sizeof(bytes)) != rows[i].expected)
			fail_msg("row %zu", i);
		memcpy(bytes, member_golden, sizeof(bytes));
		put_le32(bytes + 4, rows[i].size);
		bytes[30] = rows[i].kind;
		assert_int_equal(
			parse_pack(bytes, sizeof(bytes)), rows[i].expected < 0 ? -EPROTO : 0);
	}
}

static void pack_with_one_bad_name_is_refused_whole(void **state)
{
	static const char *const names[] = { "a/bc", "/abc", "a\0bc", "abc\0" };
	uint8_t bytes[72];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for (size_t which = 0; which < 2; which++) {
			memcpy(bytes, member_golden, 36);
			memcpy(bytes + 36, member_golden, 36);
			put_le32(bytes + 4, 0);
			assert_int_equal(parse_pack(bytes, sizeof(bytes)), 0);
			memcpy(bytes + which * 36 + 32, names[i], 4);
			assert_int_equal(parse_pack(bytes, sizeof(bytes)), -EINVAL);
		}
	memcpy(bytes, member_golden, 36);
	bytes[31] = 2;
	memcpy(bytes + 32, "..", 2);
	assert_int_equal(parse_pack(bytes, 34), -EINVAL);
	bytes[33] = 'a';
	assert_int_equal(parse_pack(bytes, 34), 0);
}

static void pack_that_peers_would_refuse_is_not_built(void **state)
{
	struct wire_member member = some_member();
	uint8_t bytes[WIRE_MEMBER_BYTES_MAX];

	(void)state;
	for (size_t cap = 0; cap < 36; cap++) {
		uint8_t *room = exact_copy(member_golden, cap);
		assert_int_equal(wire_build_member(&member, room, cap), -ENOBUFS);
		assert_memory_equal(room, member_golden, cap);
		free(room);
	}
	member.mode = 010000;
	assert_int_equal(wire_build_member(&member, bytes, sizeof(bytes)), -EPROTO);
	member = some_member();
	member.mtime_ns++;
	assert_int_equal(wire_build_member(&member, bytes, sizeof(bytes)), -EPROTO);
	member = some_member();
	member.name_length = 0;
	assert_int_equal(wire_build_member(&member, bytes, sizeof(bytes)), -EPROTO);
	memcpy(member.name, "..", 3);
	member.name_length = 2;
	assert_int_equal(wire_build_member(&member, bytes, sizeof(bytes)), -EINVAL);
	memset(member.name, 'n', 255);
	member.name_length = 255;
	assert_int_equal(wire_build_member(&member, bytes, sizeof(bytes)), 287);
}

static void pack_is_limited_in_total_and_length(void **state)
{
	struct wire_member member = some_member();
	uint8_t *bytes = malloc(66000);
	size_t count = 0, used = 0;
	uint32_t total = 0;

	(void)state;
	assert_non_null(bytes);
	member.name_length = 1;
	member.name[0] = 'n';
	member.size = LIMIT_PACK_BYTES / 2;
	assert_int_equal(wire_build_member(&member, bytes, 33), 33);
	assert_int_equal(wire_build_member(&member, bytes + 33, 33), 33);
	assert_int_equal(wire_parse_pack(bytes, 66, &count, &total), 0);
	assert_int_equal(total, 1048576);
	put_le32(bytes + 4, LIMIT_PACK_BYTES / 2 + 1);
	assert_int_equal(parse_pack(bytes, 66), -EPROTO);
	member.size = 0;
	while (used + 33 <= 65536)
		used += (size_t)wire_build_member(&member, bytes + used, 33);
	assert_int_equal(wire_parse_pack(bytes, used, &count, &total), 0);
	assert_int_equal(count, 1985);
	assert_in_range(count, 1, LIMIT_MEMBERS);
	assert_int_equal(total, 0);
	assert_int_equal(wire_build_member(&member, bytes + used, 33), 33);
	assert_int_equal(parse_pack(bytes, used + 33), -EPROTO);
	free(bytes);
}

static void walk_a_table_that_was_not_checked(void)
{
	struct wire_member member;
	size_t at = 0;

	(void)wire_pack_next(member_golden, 35, &at, &member);
}

static void pack_that_was_not_checked_is_not_walked(void **state)
{
	(void)state;
	assert_stops_the_program(walk_a_table_that_was_not_checked);
}

/* ------------------------------------------------ ATTR, RULE, KEEP ---------------------------- */

static struct wire_xattr xattr_of(const char *name, const char *value)
{
	return (struct wire_xattr){ .name = name,
		.name_length = (uint8_t)strlen(name),
		.value = (const uint8_t *)value,
		.value_length = (uint32_t)strlen(value) };
}

static const uint8_t attr_golden[37] = { 4, 3, 2, 1, 8, 7, 6, 5, 2, 0, 0, 0, 6, 0, 0, 0, 3, 0, 0, 0,
	'u', 's', 'e', 'r', '.', 'a', 'x', 'y', 'z', 0, 0, 0, 0, 0, 0, 0, 0 };

static int parse_attr(const uint8_t *bytes, size_t length)
{
	uint8_t *copy = exact_copy(bytes, length);
	struct wire_attr attr = { 7, 7, 7 };
	int r = wire_parse_attr(copy, length, &attr);

	free(copy);
	if (r < 0)
		assert_int_equal(attr.count, 7);
	return r;
}

static void attr_has_the_documented_bytes(void **state)
{
	struct wire_xattr first = xattr_of("user.a", "xyz"), second = xattr_of("z", ""), back;
	struct wire_attr attr = { 0, 0, 9 };
	uint8_t bytes[38];
	size_t at = 0;

	(void)state;
	memset(bytes, 0xee, sizeof(bytes));
	assert_int_equal(wire_build_attr_head(0x01020304, 0x05060708, bytes, sizeof(bytes)), 12);
	assert_int_equal(wire_parse_attr(bytes, 12, &attr), 0);
	assert_int_equal(attr.count, 0);
	assert_false(wire_attr_next(bytes, 12, &at, &back));
	assert_int_equal(wire_build_attr_add(&first, bytes, 12, sizeof(bytes)), 17);
	assert_int_equal(wire_build_attr_add(&second, bytes, 29, sizeof(bytes)), 9);
	assert_memory_equal(bytes, attr_golden, 29);
	assert_memory_equal(bytes + 29, "\1\0\0\0\0\0\0\0z", 9);
	assert_int_equal(wire_parse_attr(bytes, 38, &attr), 0);
	assert_int_equal(attr.uid, 0x01020304);
	assert_int_equal(attr.gid, 0x05060708);
	assert_int_equal(attr.count, 2);
	assert_true(wire_attr_next(bytes, 38, &at, &back));
	assert_int_equal(back.name_length, 6);
	assert_memory_equal(back.name, "user.a", 6);
	assert_int_equal(back.value_length, 3);
	assert_memory_equal(back.value, "xyz", 3);
	assert_true(wire_attr_next(bytes, 38, &at, &back));
	assert_int_equal(back.name_length, 1);
	assert_memory_equal(back.name, "z", 1);
	assert_int_equal(back.value_length, 0);
	assert_false(wire_attr_next(bytes, 38, &at, &back));
}

static void attr_refuses_what_does_not_add_up(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} rows[] = {
		{ 8, 0 }, { 8, 2 }, { 9, 1 }, { 11, 1 },      /* count */
		{ 12, 0 }, { 12, 7 }, { 12, 5 }, { 12, 255 }, /* length of the name */
		{ 13, 1 }, { 14, 1 }, { 15, 1 },              /* zero */
		{ 16, 2 }, { 16, 4 }, { 18, 1 }, { 19, 0xff } /* length of the value */, { 20, 0 },
		{ 25, 0 }, /* NUL in the name */
	};
	uint8_t bytes[29];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		memcpy(bytes, attr_golden, sizeof(bytes));
		bytes[8] = 1;
		assert_int_equal(parse_attr(bytes, sizeof(bytes)), 0);
		bytes[rows[i].at] = rows[i].value;
		if (parse_attr(bytes, sizeof(bytes)) != -EPROTO)
			fail_msg("row %zu was accepted", i);
	}
	memcpy(bytes, attr_golden, sizeof(bytes));
	bytes[8] = 1;
	for (size_t length = 0; length < sizeof(bytes); length++)
		assert_int_equal(parse_attr(bytes, length), -EPROTO);
	bytes[26] = 0; /* a value may hold anything */
	assert_int_equal(parse_attr(bytes, sizeof(bytes)), 0);
}

static void attr_takes_what_there_is_room_for(void **state)
{
	struct wire_xattr xattr = xattr_of("user.a", "");
	uint8_t *bytes = malloc(70000), *value = calloc(1, 70000), before[12];

	(void)state;
	assert_non_null(bytes);
	assert_non_null(value);
	xattr.value = value;
	xattr.value_length = 65536 - 12 - 8 - 6;
	assert_int_equal(wire_build_attr_head(0, 0, bytes, 70000), 12);
	memcpy(before, bytes, 12);
	assert_int_equal(wire_build_attr_add(&xattr, bytes, 12, 65535), -ENOBUFS);
	xattr.value_length++; /* more than a frame takes, whatever the buffer */
	assert_int_equal(wire_build_attr_add(&xattr, bytes, 12, 70000), -ENOBUFS);
	xattr.value_length = UINT32_MAX;
	assert_int_equal(wire_build_attr_add(&xattr, bytes, 12, 70000), -ENOBUFS);
	xattr.name_length = 0;
	assert_int_equal(wire_build_attr_add(&xattr, bytes, 12, 70000), -EINVAL);
	xattr = xattr_of("user.a", "");
	xattr.name_length = 7; /* with its NUL */
	assert_int_equal(wire_build_attr_add(&xattr, bytes, 12, 70000), -EINVAL);
	assert_int_equal(wire_build_attr_add(&xattr, bytes, 12, 20), -EINVAL);
	xattr.name_length = 6;
	assert_int_equal(wire_build_attr_add(&xattr, bytes, 12, 25), -ENOBUFS);
	assert_memory_equal(bytes, before, 12); /* nothing of that was counted */
	xattr.value = value;
	xattr.value_length = 65536 - 12 - 8 - 6;
	assert_int_equal(wire_build_attr_add(&xattr, bytes, 12, 65536), 65524);
	assert_int_equal(parse_attr(bytes, 65536), 0);
	assert_int_equal(parse_attr(bytes, 65537), -EPROTO);
	free(value);
	free(bytes);
}

/* Builds an ATTR of two names without values, and parses it. */
static int parse_names(const char *first, const char *second)
{
	struct wire_xattr xattr = xattr_of(first, "");
	size_t used = WIRE_ATTR_BYTES_MIN;
	uint8_t bytes[600];

	assert_int_equal(wire_build_attr_head(0, 0, bytes, sizeof(bytes)), (int)used);
	used += (size_t)wire_build_attr_add(&xattr, bytes, used, sizeof(bytes));
	xattr = xattr_of(second, "");
	used += (size_t)wire_build_attr_add(&xattr, bytes, used, sizeof(bytes));
	return parse_attr(bytes, used);
}

static void attr_has_each_name_once_and_in_order(void **state)
{
	(void)state;
	assert_int_equal(parse_names("user.a", "user.b"), 0);
	assert_int_equal(parse_names("user.a", "user.aa"), 0);
	assert_int_equal(parse_names("user.a", "user.a\x01"), 0);
	assert_int_equal(parse_names("user.a\x7f", "user.a\x80"), 0); /* bytes have no sign */
	assert_int_equal(parse_names("user.a", "user.a"), -EPROTO);
	assert_int_equal(parse_names("user.b", "user.a"), -EPROTO);
	assert_int_equal(parse_names("user.aa", "user.a"), -EPROTO);
	assert_int_equal(parse_names("user.a\x80", "user.a\x7f"), -EPROTO);
}

static void attr_has_no_more_than_its_limit(void **state)
{
	uint8_t *bytes = malloc(65536);
	size_t used = WIRE_ATTR_BYTES_MIN;
	char name[8];

	(void)state;
	assert_non_null(bytes);
	assert_int_equal(wire_build_attr_head(0, 0, bytes, 65536), (int)used);
	for (unsigned i = 0; i < LIMIT_XATTRS; i++) {
		(void)snprintf(name, sizeof(name), "%04u", i);
		struct wire_xattr xattr = xattr_of(name, "");
		assert_int_equal(wire_build_attr_add(&xattr, bytes, used, 65536), 12);
		used += 12;
	}
	assert_int_equal(parse_attr(bytes, used), 0);
	struct wire_xattr last = xattr_of("9999", "");
	assert_int_equal(wire_build_attr_add(&last, bytes, used, 65536), -ENOBUFS);
	memcpy(bytes + used, bytes + used - 12, 12); /* said all the same */
	bytes[used + 8] = '9';
	put_le32(bytes + 8, LIMIT_XATTRS + 1);
	assert_int_equal(parse_attr(bytes, used + 12), -EPROTO);
	free(bytes);
}

static void rules_are_texts_of_a_limited_length(void **state)
{
	char *pattern = calloc(1, 4098), *back = malloc(4097);
	uint8_t *bytes = malloc(4097);

	(void)state;
	assert_non_null(pattern);
	assert_non_null(back);
	assert_non_null(bytes);
	memset(pattern, '*', 4096);
	assert_int_equal(wire_build_rule(pattern, bytes, 4096), 4096);
	assert_int_equal(wire_parse_rule(bytes, 4096, back), 0);
	assert_string_equal(back, pattern);
	assert_int_equal(wire_build_rule(pattern, bytes, 4095), -ENAMETOOLONG);
	bytes[4096] = '*';
	assert_int_equal(wire_parse_rule(bytes, 4097, back), -EPROTO);
	pattern[4096] = '*';
	assert_int_equal(wire_build_rule(pattern, bytes, 4097), -ENAMETOOLONG);
	assert_int_equal(wire_build_rule("", bytes, 4096), -EINVAL);
	assert_int_equal(wire_parse_rule(bytes, 0, back), -EPROTO);
	assert_int_equal(wire_build_rule("a/\xff", bytes, 3), 3);
	assert_memory_equal(bytes, "a/\xff", 3);
	assert_int_equal(wire_parse_rule(bytes, 3, back), 0);
	assert_string_equal(back, "a/\xff");
	for (size_t at = 0; at < 3; at++) {
		memcpy(bytes, "abc", 3);
		bytes[at] = 0;
		assert_int_equal(wire_parse_rule(bytes, 3, back), -EPROTO);
	}
	free(bytes);
	free(back);
	free(pattern);
}

static void kept_names_have_the_documented_bytes(void **state)
{
	char long_name[257];
	uint8_t bytes[300];
	struct wire_path names;
	uint8_t length;
	const char *name;
	size_t at = 0;

	(void)state;
	assert_int_equal(wire_build_kept("a.o", bytes, sizeof(bytes)), 4);
	assert_int_equal(wire_build_kept("\xff", bytes + 4, 2), 2);
	assert_memory_equal(bytes, "\3a.o\1\xff", 6);
	assert_int_equal(wire_parse_keep(bytes, 6, &names), 0);
	assert_int_equal(names.count, 2);
	assert_true(wire_path_next(&names, &at, &name, &length));
	assert_int_equal(length, 3);
	assert_memory_equal(name, "a.o", 3);
	assert_true(wire_path_next(&names, &at, &name, &length));
	assert_int_equal(length, 1);
	assert_false(wire_path_next(&names, &at, &name, &length));
	assert_int_equal(wire_build_kept("a.o", bytes, 3), -ENOBUFS);
	assert_int_equal(wire_build_kept("", bytes, sizeof(bytes)), -EINVAL);
	assert_int_equal(wire_build_kept("..", bytes, sizeof(bytes)), -EINVAL);
	assert_int_equal(wire_build_kept("a/b", bytes, sizeof(bytes)), -EINVAL);
	memset(long_name, 'n', sizeof(long_name));
	long_name[256] = '\0';
	assert_int_equal(wire_build_kept(long_name, bytes, sizeof(bytes)), -ENAMETOOLONG);
	long_name[255] = '\0';
	assert_int_equal(wire_build_kept(long_name, bytes, 255), -ENOBUFS);
	assert_int_equal(wire_build_kept(long_name, bytes, 256), 256);
	assert_int_equal(wire_parse_keep(bytes, 256, &names), 0);
}

static int parse_keep(const void *bytes, size_t length)
{
	uint8_t *copy = exact_copy(bytes, length);
	struct wire_path names = { .count = 7 };
	int r = wire_parse_keep(copy, length, &names);

	free(copy);
	if (r < 0)
		assert_int_equal(names.count, 7);
	return r;
}

static void a_keep_with_one_bad_name_is_refused_whole(void **state)
{
	(void)state;
	assert_int_equal(parse_keep("", 0), -EPROTO);
	assert_int_equal(parse_keep("\1a\2..", 5), -EINVAL);
	assert_int_equal(parse_keep("\1a\1.", 4), -EINVAL);
	assert_int_equal(parse_keep("\1a\3b/c", 6), -EINVAL);
	assert_int_equal(parse_keep("\1a\3b\0c", 6), -EINVAL);
	assert_int_equal(parse_keep("\1a\0", 3), -EINVAL);
	assert_int_equal(parse_keep("\1a\2b", 4), -EPROTO);
	assert_int_equal(parse_keep("\1a\1", 3), -EPROTO);
	assert_int_equal(parse_keep("\1a\1b", 4), 0);
}

static void a_keep_holds_more_names_than_a_path(void **state)
{
	uint8_t *bytes = malloc(65538);
	struct wire_path names;

	(void)state;
	assert_non_null(bytes);
	for (size_t at = 0; at < 65538; at += 2)
		memcpy(bytes + at, "\1n", 2);
	assert_int_equal(wire_parse_keep(bytes, 65536, &names), 0);
	assert_int_equal(names.count, 32768);
	assert_int_equal(wire_parse_keep(bytes, 65538, &names), -EPROTO);
	assert_int_equal(wire_parse_path(bytes, 65536, &names), -EPROTO);
	free(bytes);
}

/* ------------------------------------------------ ranges and digests -------------------------- */

static void ranges_survive_a_round_trip(void **state)
{
	static const uint8_t golden[32] = { 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0,
		0, 0, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f };
	struct zh_extent range[2] = { { 1, 2 }, { 3, INT64_MAX - 3 } }, back[2];
	uint8_t bytes[32];
	size_t count = 9;

	(void)state;
	assert_int_equal(wire_build_ranges(range, 2, bytes, sizeof(bytes)), 32);
	assert_memory_equal(bytes, golden, 32);
	assert_int_equal(wire_parse_ranges(bytes, 32, back, 2, &count), 0);
	assert_int_equal(count, 2);
	assert_memory_equal(back, range, sizeof(range));
	assert_int_equal(wire_parse_ranges(bytes, 0, back, 2, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(wire_build_ranges(NULL, 0, bytes, 0), 0);
}

static void ranges_that_overlap_or_run_over_are_refused(void **state)
{
	static const uint64_t rows[][4] = {
		{ 0, 10, 9, 1 },                               /* overlap */
		{ 10, 1, 0, 1 },                               /* not sorted */
		{ 0, 1, 0, 1 },                                /* twice */
		{ 0, 0, 5, 1 },                                /* empty */
		{ 0, 1, 5, 0 },                                /* empty */
		{ 0, (uint64_t)INT64_MAX + 1, UINT64_MAX, 1 }, /* past the end */
		{ 0, 1, INT64_MAX, 1 },                        /* past the end */
		{ 0, 1, 2, UINT64_MAX },                       /* sum wraps */
		{ UINT64_MAX, 2, UINT64_MAX, 2 },              /* sum wraps */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct zh_extent range[2] = { { 7, 7 }, { 7, 7 } };
		uint8_t bytes[32];
		size_t count = 77;
		for (size_t j = 0; j < 4; j++)
			put_le64(bytes + j * 8, rows[i][j]);
		if (wire_parse_ranges(bytes, 32, range, 2, &count) != -EPROTO)
			fail_msg("row %zu was accepted", i);
		assert_int_equal(count, 77);
		assert_int_equal(range[0].offset, 7);
	}
}

static void ranges_never_exceed_the_room_given(void **state)
{
	struct zh_extent *range = calloc(WIRE_RANGES_MAX + 1, sizeof(*range));
	uint8_t *bytes = calloc(WIRE_RANGES_MAX + 1, 16);
	size_t count = 0;

	(void)state;
	assert_non_null(range);
	assert_non_null(bytes);
	for (size_t i = 0; i <= WIRE_RANGES_MAX; i++) {
		put_le64(bytes + i * 16, 2 * i);
		put_le64(bytes + i * 16 + 8, 1);
	}
	assert_int_equal(wire_parse_ranges(bytes, 65536, range, 4096, &count), 0);
	assert_int_equal(count, 4096);
	assert_int_equal(range[4095].offset, 8190);
	assert_int_equal(wire_parse_ranges(bytes, 65552, range, 4097, &count), -EPROTO);
	assert_int_equal(wire_parse_ranges(bytes, 65536, range, 4095, &count), -EPROTO);
	assert_int_equal(wire_parse_ranges(bytes, 16, range, 0, &count), -EPROTO);
	for (size_t length = 1; length < 64; length++)
		assert_int_equal(wire_parse_ranges(bytes, length, range, 4096, &count),
			length % 16 == 0 ? 0 : -EPROTO);
	free(bytes);
	free(range);
}

static void digests_survive_a_round_trip_within_the_room_given(void **state)
{
	struct digest digest[16], back[16];
	uint8_t bytes[256];
	size_t count = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(digest); i++)
		((uint8_t *)digest)[i] = (uint8_t)(i * 7);
	assert_int_equal(wire_build_digests(digest, 16, bytes, sizeof(bytes)), 256);
	assert_memory_equal(bytes, digest, 256);
	assert_int_equal(wire_parse_digests(bytes, 256, back, 16, &count), 0);
	assert_int_equal(count, 16);
	assert_memory_equal(back, digest, 256);
	assert_int_equal(wire_parse_digests(bytes, 256, back, 15, &count), -EPROTO);
	assert_int_equal(wire_parse_digests(bytes, 0, back, 0, &count), 0);
	assert_int_equal(count, 0);
	for (size_t length = 1; length < 64; length++)
		assert_int_equal(wire_parse_digests(bytes, length, back, 16, &count),
			length % 16 == 0 ? 0 : -EPROTO);
}

/* ------------------------------------------------ NAK, END, ERR, VOID ------------------------- */

static void nak_has_the_documented_bytes_and_a_known_reason(void **state)
{
	static const uint8_t golden[20] = { 35, 0, 0, 0, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1,
		0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1 };
	struct wire_nak nak = { .reason = ZH_VERIFY }, back;
	uint8_t bytes[20];

	(void)state;
	memset(&nak.claimed, 0xd1, sizeof(nak.claimed));
	assert_int_equal(wire_build_nak(&nak, bytes, sizeof(bytes)), 20);
	assert_memory_equal(bytes, golden, 20);
	assert_int_equal(wire_parse_nak(bytes, 20, &back), 0);
	assert_int_equal(back.reason, ZH_VERIFY);
	assert_true(digest_equal(&back.claimed, &nak.claimed));
	bytes[0] = 0; /* OK is no reason */
	assert_int_equal(wire_parse_nak(bytes, 20, &back), -EPROTO);
	bytes[0] = 36;
	assert_int_equal(wire_parse_nak(bytes, 20, &back), -EPROTO);
	bytes[0] = 35;
	bytes[2] = 1; /* does not fit the 16 bits of an outcome */
	assert_int_equal(wire_parse_nak(bytes, 20, &back), -EPROTO);
}

static void end_has_the_documented_bytes_and_checks_them(void **state)
{
	static const uint8_t golden[40] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0x16,
		0x15, 0x14, 0x13, 0x12, 0x11, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xc9, 0x9a, 0x3b, 0, 0, 0, 0 };
	struct wire_end end, back;
	uint8_t bytes[40];

	(void)state;
	memset(&end, 0, sizeof(end));
	memset(&end.root, 1, sizeof(end.root));
	end.size = 0x111213141516;
	end.mtime_s = -1;
	end.mtime_ns = 999999999;
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(wire_build_end(&end, bytes, sizeof(bytes)), 40);
	assert_memory_equal(bytes, golden, 40);
	memset(&back, 0xff, sizeof(back));
	assert_int_equal(wire_parse_end(bytes, 40, &back), 0);
	assert_memory_equal(&back, &end, sizeof(end));
	for (size_t at = 36; at < 40; at++) {
		bytes[at] = 1;
		assert_int_equal(wire_parse_end(bytes, 40, &back), -EPROTO);
		bytes[at] = 0;
	}
	end.mtime_ns++;
	assert_int_equal(wire_build_end(&end, bytes, sizeof(bytes)), -EINVAL);
	end.mtime_ns = 0;
	end.size = LIMIT_FILE_BYTES;
	assert_int_equal(wire_build_end(&end, bytes, sizeof(bytes)), 40);
	end.size++;
	assert_int_equal(wire_build_end(&end, bytes, sizeof(bytes)), -EINVAL);
	assert_int_equal(wire_parse_end(bytes, 40, &back), -EPROTO);
}

static void err_has_the_documented_bytes(void **state)
{
	struct wire_err err, back;
	uint8_t bytes[284], golden[284] = { 31, 0, 28, 0 };

	(void)state;
	memset(&err, 0, sizeof(err));
	err.outcome = ZH_NOSPACE;
	err.errnum = ENOSPC;
	TEXT_SET(err.stage, "fallocate");
	TEXT_SET(err.text, "no space left");
	memcpy(golden + 4, "fallocate", 9);
	memcpy(golden + 28, "no space left", 13);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(wire_build_err(&err, bytes, sizeof(bytes)), 284);
	assert_memory_equal(bytes, golden, sizeof(golden));
	memset(&back, 0xff, sizeof(back));
	assert_int_equal(wire_parse_err(bytes, sizeof(bytes), &back), 0);
	assert_memory_equal(&back, &err, sizeof(err));
}

static void err_text_is_printable_whatever_was_sent(void **state)
{
	struct wire_err err;
	uint8_t bytes[284] = { 31 };

	(void)state;
	for (unsigned value = 1; value < 256; value++)
		bytes[28 + value - 1] = (uint8_t)value;
	memset(bytes + 4, 0x1b, 23);
	assert_int_equal(wire_parse_err(bytes, sizeof(bytes), &err), 0);
	assert_int_equal(strlen(err.text), 255);
	assert_int_equal(strlen(err.stage), 23);
	for (unsigned value = 1; value < 256; value++)
		assert_int_equal(
			err.text[value - 1], value >= 0x20 && value < 0x7f ? (char)value : '?');
	for (size_t i = 0; i < 23; i++)
		assert_int_equal(err.stage[i], '?');
	bytes[283] = 'x'; /* no end */
	assert_int_equal(wire_parse_err(bytes, sizeof(bytes), &err), -EPROTO);
	bytes[283] = 0;
	bytes[100] = 0; /* something behind the end */
	assert_int_equal(wire_parse_err(bytes, sizeof(bytes), &err), -EPROTO);
	memset(bytes + 100, 0, 184);
	assert_int_equal(wire_parse_err(bytes, sizeof(bytes), &err), 0);
	bytes[27] = 'x';
	assert_int_equal(wire_parse_err(bytes, sizeof(bytes), &err), -EPROTO);
}

static void err_outcomes_are_exactly_the_public_failures(void **state)
{
	static const unsigned known[] = { 1, 2, 3, 10, 11, 12, 13, 14, 15, 20, 21, 22, 30, 31, 32,
		33, 34, 35, 40, 41, 42, 43, 70 };
	uint8_t bytes[284] = { 0 }, reason[4];
	enum zh_outcome outcome;
	struct wire_err err;
	size_t next = 0;

	(void)state;
	for (unsigned value = 0; value < 65536; value++) {
		bool legal = next < ARRAY_LEN(known) && known[next] == value;
		put_le16(bytes, (uint16_t)value);
		put_le32(reason, value);
		assert_int_equal(wire_parse_err(bytes, sizeof(bytes), &err), legal ? 0 : -EPROTO);
		assert_int_equal(
			wire_parse_void(reason, sizeof(reason), &outcome), legal ? 0 : -EPROTO);
		if (legal) {
			assert_int_equal(err.outcome, value);
			assert_int_equal(outcome, value);
			next++;
		}
	}
	put_le32(reason, 0x10000 + ZH_SRC_IO);
	assert_int_equal(wire_parse_void(reason, sizeof(reason), &outcome), -EPROTO);
	assert_int_equal(wire_build_void(ZH_SRC_IO, reason, sizeof(reason)), 4);
	assert_memory_equal(reason, "\x15\0\0\0", 4);
}

static void build_an_err_without_outcome(void)
{
	struct wire_err err = { .outcome = ZH_OK };
	uint8_t bytes[WIRE_ERR_BYTES];

	(void)wire_build_err(&err, bytes, sizeof(bytes));
}

static void err_without_an_outcome_is_never_built(void **state)
{
	(void)state;
	assert_stops_the_program(build_an_err_without_outcome);
}

/* ------------------------------------------------ BYE ----------------------------------------- */

static void fill_report(struct zh_side_report *report, uint64_t seed)
{
	struct zh_stats *stats = &report->stats;

	memset(report, 0, sizeof(*report));
	report->valid = 1;
	report->cpu_user_ns = ++seed;
	report->cpu_sys_ns = ++seed;
	report->max_rss_bytes = ++seed;
	report->voluntary_switches = ++seed;
	report->involuntary_switches = ++seed;
	report->disk_ns = ++seed;
	report->cached_before_bytes = ++seed;
	report->cached_after_bytes = ++seed;
	report->hard_links = (uint32_t)++seed;
	report->links_skipped = (uint32_t)++seed;
	report->special_skipped = (uint32_t)++seed;
	report->directories_made = (uint32_t)++seed;
	report->deleted = ++seed;
	stats->size = sizeof(*stats);
	stats->side = ZH_RECEIVE;
	TEXT_SET(stats->strategy, "uring-direct-recv");
	stats->bytes = ++seed;
	stats->elapsed_ns = ++seed;
	stats->cpu_ns = ++seed;
	stats->wait_space_ns = ++seed;
	stats->wait_data_ns = ++seed;
	stats->wait_disk_ns = ++seed;
	stats->wait_run_ns = ++seed;
	stats->shorts = ++seed;
	stats->agains = ++seed;
	stats->zc_copied_bytes = ++seed;
	stats->digest_bytes = ++seed;
	stats->chunk_bytes = (uint32_t)++seed;
	stats->depth = (uint32_t)++seed;
	stats->pipe_bytes = (uint32_t)++seed;
	stats->ring_flags = (uint32_t)++seed;
	stats->registered = (uint32_t)++seed;
	stats->huge_pages = (uint32_t)++seed;
	stats->direct = (uint32_t)++seed;
	stats->demotions = (uint32_t)++seed;
	TEXT_SET(stats->demotion, "splice -> copy: EINVAL from the file system");
	for (size_t i = 0; i < ZH_CALL_MAX; i++)
		stats->calls[i] = ++seed;
	stats->tcp.valid = 1;
	stats->tcp.nodelay = (uint32_t)++seed;
	stats->tcp.cork = (uint32_t)++seed;
	stats->tcp.sndbuf_bytes = (uint32_t)++seed;
	stats->tcp.rcvbuf_bytes = (uint32_t)++seed;
	stats->tcp.notsent_lowat_bytes = (uint32_t)++seed;
	stats->tcp.mss_bytes = (uint32_t)++seed;
	stats->tcp.rtt_us = (uint32_t)++seed;
	stats->tcp.min_rtt_us = (uint32_t)++seed;
	stats->tcp.cwnd_segments = (uint32_t)++seed;
	stats->tcp.retransmits = (uint32_t)++seed;
	stats->tcp.segments_out = (uint32_t)++seed;
	stats->tcp.delivery_rate = ++seed;
	stats->tcp.pacing_rate = ++seed;
	stats->tcp.busy_us = ++seed;
	stats->tcp.rwnd_limited_us = ++seed;
	stats->tcp.sndbuf_limited_us = ++seed;
	TEXT_SET(stats->tcp.congestion, "bbr");
}

static void bye_carries_every_field_of_a_report(void **state)
{
	struct zh_side_report report, back;
	uint8_t *bytes = exact_copy("", 0), *room = malloc(WIRE_BYE_BYTES);

	(void)state;
	assert_non_null(room);
	fill_report(&report, 0xf1f2f3f4f5f60000);
	assert_int_equal(wire_build_bye(&report, room, WIRE_BYE_BYTES), 1024);
	memset(&back, 0xff, sizeof(back));
	assert_int_equal(wire_parse_bye(room, 1024, &back), 0);
	/* fill_report leaves no member zero but padding, so equal images mean every member came
	 * over */
	assert_memory_equal(&back, &report, sizeof(report));
	free(room);
	free(bytes);
}

static void bye_has_its_fields_where_the_manual_says(void **state)
{
	struct zh_side_report report;
	uint8_t bytes[WIRE_BYE_BYTES];

	(void)state;
	fill_report(&report, 1000);
	assert_int_equal(wire_build_bye(&report, bytes, sizeof(bytes)), 1024);
	assert_int_equal(get_le32(bytes), 1);
	assert_int_equal(get_le32(bytes + 4), ZH_RECEIVE);
	assert_int_equal(get_le64(bytes + 8), report.cpu_user_ns);
	assert_int_equal(get_le64(bytes + 48), report.disk_ns);
	assert_string_equal((char *)bytes + 56, "uring-direct-recv");
	assert_int_equal(get_le64(bytes + 80), report.stats.bytes);
	assert_int_equal(get_le64(bytes + 160), report.stats.digest_bytes);
	assert_int_equal(get_le32(bytes + 168), report.stats.chunk_bytes);
	assert_int_equal(get_le32(bytes + 196), report.stats.demotions);
	assert_string_equal((char *)bytes + 200, report.stats.demotion);
	assert_int_equal(get_le64(bytes + 328), report.stats.calls[0]);
	assert_int_equal(get_le64(bytes + 832), report.stats.calls[63]);
	assert_int_equal(get_le32(bytes + 840), 1);
	assert_int_equal(get_le32(bytes + 884), report.stats.tcp.segments_out);
	assert_int_equal(get_le64(bytes + 888), report.stats.tcp.delivery_rate);
	assert_int_equal(get_le64(bytes + 920), report.stats.tcp.sndbuf_limited_us);
	assert_string_equal((char *)bytes + 928, "bbr");
	assert_int_equal(get_le64(bytes + 944), report.cached_before_bytes);
	assert_int_equal(get_le64(bytes + 952), report.cached_after_bytes);
	assert_int_equal(get_le32(bytes + 960), report.hard_links);
	assert_int_equal(get_le32(bytes + 964), report.links_skipped);
	assert_int_equal(get_le32(bytes + 968), report.special_skipped);
	assert_int_equal(get_le32(bytes + 972), report.directories_made);
	assert_int_equal(get_le64(bytes + 976), report.deleted);
	for (size_t at = 984; at < 1024; at++)
		assert_int_equal(bytes[at], 0);
}

static void bye_with_bad_flags_texts_or_tail_is_refused(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} rows[] = { { 0, 2 }, { 3, 1 }, { 4, 2 }, { 840, 2 }, { 984, 1 }, { 1023, 1 },
		{ 56, 0x1b }, { 56, 0 }, { 79, 'x' }, { 200, 0x80 }, { 200, 0 }, { 327, 'x' },
		{ 928, '\n' }, { 943, 'x' } };
	struct zh_side_report report, back;
	uint8_t golden[WIRE_BYE_BYTES], bytes[WIRE_BYE_BYTES];

	(void)state;
	fill_report(&report, 5);
	assert_int_equal(wire_build_bye(&report, golden, sizeof(golden)), 1024);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		memcpy(bytes, golden, sizeof(bytes));
		assert_int_equal(wire_parse_bye(bytes, 1024, &back), 0);
		bytes[rows[i].at] = rows[i].value;
		if (wire_parse_bye(bytes, 1024, &back) != -EPROTO)
			fail_msg("row %zu was accepted", i);
	}
}

/* ------------------------------------------------ lengths ------------------------------------- */

static int parse_any(unsigned type, const uint8_t *bytes, size_t length)
{
	union {
		struct wire_setup setup;
		struct wire_place_info place;
		struct wire_nak nak;
		struct wire_end end;
		struct wire_err err;
		struct zh_side_report report;
		enum zh_outcome outcome;
	} out;

	switch (type) {
	case FRAME_SETUP:
		return wire_parse_setup(bytes, length, &out.setup);
	case FRAME_PLACE:
		return wire_parse_place(bytes, length, &out.place);
	case FRAME_NAK:
		return wire_parse_nak(bytes, length, &out.nak);
	case FRAME_END:
		return wire_parse_end(bytes, length, &out.end);
	case FRAME_ERR:
		return wire_parse_err(bytes, length, &out.err);
	case FRAME_BYE:
		return wire_parse_bye(bytes, length, &out.report);
	default:
		return wire_parse_void(bytes, length, &out.outcome);
	}
}

static void payloads_of_a_fixed_length_refuse_every_other_length(void **state)
{
	static const struct {
		unsigned type;
		size_t length;
	} rows[] = { { FRAME_SETUP, 80 }, { FRAME_PLACE, 16 }, { FRAME_NAK, 20 }, { FRAME_END, 40 },
		{ FRAME_ERR, 284 }, { FRAME_BYE, 1024 }, { FRAME_SUM, 4 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (size_t length = 0; length < 1100; length++) {
			uint8_t bytes[1100] = { 0 };
			if (rows[i].type == FRAME_SETUP)
				bytes[8] = 1; /* streams */
			else if (rows[i].type != FRAME_PLACE && rows[i].type != FRAME_END &&
				 rows[i].type != FRAME_BYE)
				bytes[0] = ZH_VERIFY;
			uint8_t *copy = exact_copy(bytes, length);
			int r = parse_any(rows[i].type, copy, length);
			free(copy);
			if (r != (length == rows[i].length ? 0 : -EPROTO))
				fail_msg("%s of %zu bytes gives %d", wire_name(rows[i].type),
					length, r);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hello_has_the_documented_bytes),
		cmocka_unit_test(hello_survives_a_round_trip),
		cmocka_unit_test(hello_refuses_every_wrong_byte),
		cmocka_unit_test(hello_of_a_data_connection_has_an_index_below_the_limit),
		cmocka_unit_test(hello_that_fails_leaves_the_output_alone),
		cmocka_unit_test(hello_of_later_versions_yields_its_versions_only),
		cmocka_unit_test(negotiation_takes_the_highest_common_version),
		cmocka_unit_test(negotiation_fails_on_an_unknown_required_feature_only),
		cmocka_unit_test(refusal_has_the_documented_bytes),
		cmocka_unit_test(refusal_and_hello_are_never_confused),
		cmocka_unit_test(refusal_refuses_every_wrong_byte),
		cmocka_unit_test(proof_refusal_survives_a_round_trip_and_proofs_do_not_look_so),
		cmocka_unit_test(head_has_the_documented_bytes),
		cmocka_unit_test(head_lengths_are_checked_for_every_type),
		cmocka_unit_test(head_flags_are_checked_for_every_type),
		cmocka_unit_test(head_ids_and_offsets_are_checked_for_every_type),
		cmocka_unit_test(head_refuses_unknown_types_and_reserved_bits),
		cmocka_unit_test(head_of_data_never_reaches_past_int64_max),
		cmocka_unit_test(head_of_a_void_sum_carries_a_reason_and_no_digests),
		cmocka_unit_test(head_of_a_complete_leave_may_be_of_the_place),
		cmocka_unit_test(head_that_peers_would_refuse_is_never_built),
		cmocka_unit_test(setup_has_the_documented_bytes),
		cmocka_unit_test(setup_refuses_every_wrong_byte),
		cmocka_unit_test(setup_texts_must_end_within_their_field),
		cmocka_unit_test(setup_that_peers_would_refuse_is_not_built),
		cmocka_unit_test(names_that_are_no_component_are_refused),
		cmocka_unit_test(names_that_only_look_odd_are_components),
		cmocka_unit_test(strict_names_refuse_what_misleads),
		cmocka_unit_test(strict_names_accept_what_people_use),
		cmocka_unit_test(paths_have_the_documented_bytes),
		cmocka_unit_test(paths_that_could_climb_are_refused_on_both_sides),
		cmocka_unit_test(paths_are_walked_component_by_component),
		cmocka_unit_test(paths_are_limited_in_depth_name_and_room),
		cmocka_unit_test(place_has_the_documented_bytes_and_checks_them),
		cmocka_unit_test(file_has_the_documented_bytes),
		cmocka_unit_test(file_fields_out_of_range_are_named_by_their_error),
		cmocka_unit_test(file_whose_name_length_disagrees_is_refused),
		cmocka_unit_test(dir_is_a_file_without_a_size),
		cmocka_unit_test(leave_has_the_documented_bytes),
		cmocka_unit_test(leave_without_a_time_or_with_a_type_in_its_mode_is_refused),
		cmocka_unit_test(pack_has_the_documented_bytes),
		cmocka_unit_test(pack_refuses_every_wrong_byte),
		cmocka_unit_test(pack_members_are_files_and_links_of_a_legal_size),
		cmocka_unit_test(pack_with_one_bad_name_is_refused_whole),
		cmocka_unit_test(pack_that_peers_would_refuse_is_not_built),
		cmocka_unit_test(pack_is_limited_in_total_and_length),
		cmocka_unit_test(pack_that_was_not_checked_is_not_walked),
		cmocka_unit_test(attr_has_the_documented_bytes),
		cmocka_unit_test(attr_refuses_what_does_not_add_up),
		cmocka_unit_test(attr_takes_what_there_is_room_for),
		cmocka_unit_test(attr_has_each_name_once_and_in_order),
		cmocka_unit_test(attr_has_no_more_than_its_limit),
		cmocka_unit_test(rules_are_texts_of_a_limited_length),
		cmocka_unit_test(kept_names_have_the_documented_bytes),
		cmocka_unit_test(a_keep_with_one_bad_name_is_refused_whole),
		cmocka_unit_test(a_keep_holds_more_names_than_a_path),
		cmocka_unit_test(ranges_survive_a_round_trip),
		cmocka_unit_test(ranges_that_overlap_or_run_over_are_refused),
		cmocka_unit_test(ranges_never_exceed_the_room_given),
		cmocka_unit_test(digests_survive_a_round_trip_within_the_room_given),
		cmocka_unit_test(nak_has_the_documented_bytes_and_a_known_reason),
		cmocka_unit_test(end_has_the_documented_bytes_and_checks_them),
		cmocka_unit_test(err_has_the_documented_bytes),
		cmocka_unit_test(err_text_is_printable_whatever_was_sent),
		cmocka_unit_test(err_outcomes_are_exactly_the_public_failures),
		cmocka_unit_test(err_without_an_outcome_is_never_built),
		cmocka_unit_test(bye_carries_every_field_of_a_report),
		cmocka_unit_test(bye_has_its_fields_where_the_manual_says),
		cmocka_unit_test(bye_with_bad_flags_texts_or_tail_is_refused),
		cmocka_unit_test(payloads_of_a_fixed_length_refuse_every_other_length),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
