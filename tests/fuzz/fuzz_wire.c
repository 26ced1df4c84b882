/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_wire.c - any bytes into any parser of the wire. The first byte selects it; see fuzz.h.
 */
#include "fuzz.h"

#include <errno.h>

static void check_hello(const uint8_t bytes[HELLO_BYTES])
{
	uint8_t again[HELLO_BYTES];
	struct wire_refusal refusal;
	struct hello hello, mine = { .version_min = WIRE_VERSION, .version_max = WIRE_VERSION };
	int r = wire_parse_hello(bytes, &hello);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(wire_parse_refusal(bytes, &refusal) < 0);
	CHECK(hello.kind == HELLO_CONTROL || hello.kind == HELLO_DATA);
	CHECK(hello.version_min >= 1 && hello.version_min <= hello.version_max);
	r = wire_negotiate(&mine, &hello, hello.required);
	if (hello.version_min > WIRE_VERSION) {
		CHECK(r == -EPROTONOSUPPORT);
		return;
	}
	CHECK(r == WIRE_VERSION);
	CHECK(hello.link == HELLO_LINK_PLAIN || hello.link == HELLO_LINK_TLS);
	CHECK(hello.auth == HELLO_AUTH_NONE || hello.auth == HELLO_AUTH_PSK);
	CHECK(hello.intent == HELLO_PUSH || hello.intent == HELLO_PULL);
	CHECK(hello.data_index < LIMIT_STREAMS);
	wire_build_hello(&hello, again);
	CHECK(memcmp(again, bytes, HELLO_BYTES) == 0);
}

static void check_refusal(const uint8_t bytes[HELLO_BYTES])
{
	uint8_t again[HELLO_BYTES];
	struct wire_refusal refusal;
	struct hello hello;
	int r = wire_parse_refusal(bytes, &refusal);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(wire_parse_hello(bytes, &hello) < 0);
	CHECK(refusal.outcome != ZH_OK);
	wire_build_refusal(&refusal, again);
	CHECK(memcmp(again, bytes, HELLO_BYTES) == 0);
}

static void check_proof_refusal(const uint8_t bytes[PROOF_BYTES])
{
	uint8_t again[PROOF_BYTES];
	enum zh_outcome outcome;
	int r = wire_parse_proof_refusal(bytes, &outcome);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(outcome != ZH_OK);
	wire_build_proof_refusal(outcome, again);
	CHECK(memcmp(again, bytes, PROOF_BYTES) == 0);
}

static void check_head(const uint8_t bytes[FRAME_HEAD_BYTES])
{
	uint8_t again[FRAME_HEAD_BYTES];
	struct frame frame;
	int r = wire_parse_head(bytes, &frame);

	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return;
	CHECK(frame.type > 0 && frame.type < FRAME_TYPE_END);
	CHECK(frame.length <= wire_cap((enum frame_type)frame.type));
	CHECK(wire_is_raw((enum frame_type)frame.type) || frame.length <= FRAME_PAYLOAD_CAP);
	CHECK(frame.type != FRAME_LEAVE || frame.flags & LEAVE_COMPLETE || frame.id != 0);
	if (frame.type == FRAME_DATA)
		CHECK(frame.length > 0 && frame.offset % LEAF_BYTES == 0 &&
			range_fits(frame.offset, frame.length, INT64_MAX));
	wire_build_head(&frame, again);
	CHECK(memcmp(again, bytes, FRAME_HEAD_BYTES) == 0);
}

static void check_name(const uint8_t *bytes, size_t length)
{
	uint8_t *copy = malloc(length ? length : 1);
	int r;

	CHECK(copy);
	if (length > 0)
		memcpy(copy, bytes, length);
	r = wire_name_check(copy, length);
	CHECK(r == 0 || r == -EINVAL || r == -ENAMETOOLONG);
	r = wire_name_strict(copy, length);
	CHECK(r == 0 || r == -EINVAL);
	for (size_t i = 0; r == 0 && i < length; i++)
		CHECK(copy[i] >= 0x20 && copy[i] != 0x7f);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t bytes[HELLO_BYTES] = { 0 };
	size_t length = size ? size - 1 : 0;

	if (size == 0 || length > 2 * FRAME_PAYLOAD_CAP)
		return 0;
	memcpy(bytes, data + 1, min_size(length, sizeof(bytes)));
	switch (data[0]) {
	case FUZZ_HELLO:
		check_hello(bytes);
		break;
	case FUZZ_REFUSAL:
		check_refusal(bytes);
		break;
	case FUZZ_PROOF_REFUSAL:
		check_proof_refusal(bytes);
		break;
	case FUZZ_HEAD:
		check_head(bytes);
		break;
	case FUZZ_NAME:
		check_name(data + 1, length);
		break;
	default:
		fuzz_payload(data[0], data + 1, length);
		break;
	}
	return 0;
}
