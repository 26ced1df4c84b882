/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_link.c - any stream of bytes into a link over a socket pair, as a server reads it: HELLO and
 * proof, then frames. The first byte says whether the stream is fed as it is, so that no frame gets
 * past its tag, or whether right tags are put in, as a peer that has the key but means harm would.
 */
#include "fuzz.h"

#include "session/link.h"
#include "session/states.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_BYTES_MAX 32768 /* fits the buffer of a socket pair, so one thread is enough */

static const struct link_keys keys; /* all zero both ways */

struct stream {
	uint8_t byte[2 * STREAM_BYTES_MAX + FRAME_FIXED_BYTES];
	size_t length;
	unsigned frames; /* with a right tag */
};

static void stream_add(struct stream *stream, const void *bytes, size_t length)
{
	CHECK(length <= sizeof(stream->byte) - stream->length);
	memcpy(stream->byte + stream->length, bytes, length);
	stream->length += length;
}

static void add_tag(
	struct stream *stream, const uint8_t *head, const uint8_t *payload, size_t length)
{
	static uint8_t covered[8 + FRAME_HEAD_BYTES + STREAM_BYTES_MAX];
	uint8_t tag[32];
	unsigned tag_length = 0;

	put_le64(covered, stream->frames);
	memcpy(covered + 8, head, FRAME_HEAD_BYTES);
	memcpy(covered + 8 + FRAME_HEAD_BYTES, payload, length);
	CHECK(HMAC(EVP_sha256(), keys.in.byte, SECRET_BYTES, covered, 8 + FRAME_HEAD_BYTES + length,
		tag, &tag_length));
	stream_add(stream, tag, FRAME_TAG_BYTES);
}

/* Takes heads and payloads out of the input and puts the tags between them. */
static void stream_make_tagged(struct stream *stream, const uint8_t *data, size_t size)
{
	while (size >= FRAME_HEAD_BYTES) {
		const uint8_t *payload = data + FRAME_HEAD_BYTES;
		size_t rest = size - FRAME_HEAD_BYTES, length;
		struct frame frame;
		bool legal = wire_parse_head(data, &frame) == 0;
		bool raw = legal && wire_is_raw((enum frame_type)frame.type);

		length = legal ? min_size(frame.length, rest) : 0;
		if (stream->length + FRAME_FIXED_BYTES + length > sizeof(stream->byte))
			return;
		stream_add(stream, data, FRAME_HEAD_BYTES);
		add_tag(stream, data, payload, raw ? 0 : length);
		stream_add(stream, payload, length);
		if (legal && (raw || length == frame.length))
			stream->frames++; /* the head of a raw frame is whole without its bytes */
		if (!legal || length < frame.length)
			return; /* the link stops here too */
		data = payload + length;
		size = rest - length;
	}
	stream_add(stream, data, size);
}

static void check_states(const struct frame *frame)
{
	enum frame_type type = (enum frame_type)frame->type;

	for (unsigned end = 0; end < END_COUNT; end++)
		for (unsigned role = 0; role < ROLE_COUNT; role++)
			CHECK(!session_may_receive((enum session_end)end, (enum session_role)role,
				SESSION_CLOSED, type));
	if (wire_is_raw(type))
		for (unsigned state = 0; state < SESSION_STATE_COUNT; state++)
			CHECK(!session_may_receive(
				END_SERVER, ROLE_RECEIVER, (enum session_state)state, type));
}

static int skip_raw(struct link *link, size_t length)
{
	uint8_t bytes[4096];

	while (length > 0) {
		size_t part = min_size(length, sizeof(bytes));
		int r = link_recv_bytes(link, bytes, part, 0);
		if (r < 0)
			return r;
		length -= part;
	}
	return 0;
}

static void read_handshake(struct link *link)
{
	uint8_t bytes[HELLO_BYTES], proof[PROOF_BYTES];
	struct wire_refusal refusal;
	enum zh_outcome outcome;
	struct hello hello;

	if (link_recv_bytes(link, bytes, sizeof(bytes), 0) < 0)
		return;
	if (wire_parse_hello(bytes, &hello) == 0)
		CHECK(hello.data_index < LIMIT_STREAMS);
	else if (wire_parse_refusal(bytes, &refusal) == 0)
		CHECK(refusal.outcome != ZH_OK);
	if (link_recv_bytes(link, proof, sizeof(proof), 0) < 0)
		return;
	if (wire_parse_proof_refusal(proof, &outcome) == 0)
		CHECK(outcome != ZH_OK);
}

static unsigned read_frames(struct link *link)
{
	unsigned count = 0;
	struct frame frame;
	int r;

	CHECK(link_secure(link, &keys) == 0);
	while ((r = link_recv(link, &frame, -1)) == 0) {
		bool raw = wire_is_raw((enum frame_type)frame.type);
		bool is_void = frame.type == FRAME_SUM && (frame.flags & SUM_VOID);
		CHECK(raw || frame.length <= FRAME_PAYLOAD_CAP);
		count++;
		check_states(&frame);
		if (raw)
			r = skip_raw(link, frame.length);
		else
			fuzz_payload(is_void ? FUZZ_VOID : frame.type, link->payload, frame.length);
		if (r < 0)
			break;
	}
	CHECK(r == -ECONNRESET || r == -EPROTO || r == -EBADMSG);
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct stream stream;
	static struct link link;
	bool tagged;
	unsigned count;
	int fd[2];

	if (size < 1 || size > STREAM_BYTES_MAX)
		return 0;
	tagged = data[0] % FUZZ_STREAM_END == FUZZ_STREAM_TAGGED;
	stream.length = 0;
	stream.frames = 0;
	if (tagged)
		stream_make_tagged(&stream, data + 1, size - 1);
	else
		stream_add(&stream, data + 1, size - 1);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
	CHECK(send(fd[0], stream.byte, stream.length, MSG_NOSIGNAL) == (ssize_t)stream.length);
	CHECK(close(fd[0]) == 0);
	CHECK(link_init(&link, fd[1], -1) == 0);
	if (!tagged)
		read_handshake(&link);
	count = read_frames(&link);
	CHECK(count == stream.frames);
	link_fini(&link);
	return 0;
}
