/* SPDX-License-Identifier: Apache-2.0 */
/* handshake.c - see handshake.h. One absolute deadline covers the whole of it. */
#include "session/handshake.h"

#include "base/clock.h"
#include "base/sys.h"

#include <errno.h>

static int fail(struct zh_error *err, int r)
{
	return err_set(
		err, err_of_socket(r), r, "handshake", "the connection broke in the handshake");
}

static struct hello hello_make(const struct handshake *handshake)
{
	struct hello hello = {
		.kind = (uint8_t)handshake->kind,
		.link = HELLO_LINK_PLAIN,
		.auth = (uint8_t)handshake->auth,
		.intent = (uint8_t)handshake->intent,
		.version_min = WIRE_VERSION,
		.version_max = WIRE_VERSION,
		.data_index = handshake->data_index,
	};

	memcpy(hello.session, handshake->session, sizeof(hello.session));
	return hello;
}

/* The secret that proves: the key itself, or what the session has derived from it. */
static int prove(const struct handshake *handshake, bool of_client, const uint8_t *client_hello,
	const uint8_t *server_hello, uint8_t ret_proof[PROOF_BYTES])
{
	const void *secret = handshake->kind == HELLO_CONTROL
				     ? (const void *)handshake->key->byte
				     : (const void *)handshake->secret.byte;
	size_t length = handshake->kind == HELLO_CONTROL ? handshake->key->length : SECRET_BYTES;

	return auth_proof(
		secret, length, handshake->kind, of_client, client_hello, server_hello, ret_proof);
}

static int secure(struct link *link, struct handshake *handshake, const uint8_t *client_hello,
	const uint8_t *server_hello, bool is_client, struct zh_error *err)
{
	struct link_keys keys;
	int r = 0;

	if (handshake->kind == HELLO_CONTROL)
		r = auth_session_secret(
			handshake->key, client_hello, server_hello, &handshake->secret);
	if (r == 0)
		r = auth_link_keys(
			&handshake->secret, client_hello, server_hello, is_client, &keys);
	if (r == 0)
		r = link_secure(link, &keys);
	auth_wipe(&keys, sizeof(keys));
	return r < 0 ? err_set(err, ZH_INTERNAL, r, "handshake", "cannot derive keys") : 0;
}

static int refused(const uint8_t bytes[HELLO_BYTES], struct zh_error *err)
{
	struct wire_refusal refusal;

	if (wire_parse_refusal(bytes, &refusal) < 0)
		return err_set(err, ZH_PROTO, 0, "handshake", "the peer does not speak zerohaul");
	if (refusal.outcome == ZH_VERSION)
		return err_set(err, ZH_VERSION, 0, "handshake",
			"this side speaks version %u, the server %u to %u", (unsigned)WIRE_VERSION,
			(unsigned)refusal.version_min, (unsigned)refusal.version_max);
	return err_set(err, (enum zh_outcome)refusal.outcome, 0, "handshake",
		"the server refuses the connection: %s", zh_outcome_text(refusal.outcome));
}

/* Reads the server's HELLO or its refusal and checks that it answers mine. */
static int read_server_hello(struct link *link, const struct hello *mine,
	uint8_t ret_bytes[HELLO_BYTES], struct hello *ret_hello, uint64_t deadline,
	struct zh_error *err)
{
	int r = link_recv_bytes(link, ret_bytes, HELLO_BYTES, deadline);

	if (r < 0)
		return fail(err, r);
	if (wire_parse_hello(ret_bytes, ret_hello) < 0)
		return refused(ret_bytes, err);
	if (wire_negotiate(mine, ret_hello, 0) < 0)
		return err_set(err, ZH_VERSION, 0, "handshake",
			"this side speaks version %u, the server %u to %u", (unsigned)WIRE_VERSION,
			(unsigned)ret_hello->version_min, (unsigned)ret_hello->version_max);
	if (ret_hello->kind != mine->kind || ret_hello->link != mine->link ||
		ret_hello->auth != mine->auth || ret_hello->data_index != mine->data_index)
		return err_set(err, ZH_PROTO, 0, "handshake", "the server answers something else");
	return 0;
}

int handshake_connect(struct link *link, struct handshake *handshake, struct zh_error *err)
{
	uint8_t client_hello[HELLO_BYTES], server_hello[HELLO_BYTES];
	uint8_t proof[PROOF_BYTES], expected[PROOF_BYTES];
	uint64_t deadline = clock_now_ns() + (uint64_t)LIMIT_HANDSHAKE_MS * NS_PER_MS;
	struct hello mine = hello_make(handshake), theirs;
	enum zh_outcome outcome;
	int r = auth_random(mine.nonce, sizeof(mine.nonce));

	if (r < 0)
		return err_set(err, ZH_INTERNAL, r, "handshake", "no random numbers");
	wire_build_hello(&mine, client_hello);
	r = link_send_bytes(link, client_hello, HELLO_BYTES, deadline);
	if (r < 0)
		return fail(err, r);
	r = read_server_hello(link, &mine, server_hello, &theirs, deadline, err);
	if (r < 0)
		return r;
	r = prove(handshake, true, client_hello, server_hello, proof);
	if (r == 0)
		r = prove(handshake, false, client_hello, server_hello, expected);
	if (r < 0)
		return err_set(err, ZH_INTERNAL, r, "handshake", "cannot make a proof");
	r = link_send_bytes(link, proof, PROOF_BYTES, deadline);
	if (r == 0)
		r = link_recv_bytes(link, proof, PROOF_BYTES, deadline);
	if (r < 0)
		return fail(err, r);
	if (wire_parse_proof_refusal(proof, &outcome) == 0)
		return err_set(err, outcome, 0, "handshake", "the server refuses this key");
	if (!auth_proof_equal(proof, expected))
		return err_set(err, ZH_AUTH, 0, "handshake", "the server does not hold our key");
	memcpy(handshake->session, theirs.session, sizeof(handshake->session));
	return secure(link, handshake, client_hello, server_hello, true, err);
}

int handshake_accept(struct link *link, struct handshake *handshake,
	const uint8_t client_hello[HELLO_BYTES], uint64_t deadline, struct zh_error *err)
{
	uint8_t server_hello[HELLO_BYTES], proof[PROOF_BYTES], expected[PROOF_BYTES];
	struct hello mine = hello_make(handshake);
	int r = auth_random(mine.nonce, sizeof(mine.nonce));

	if (r < 0)
		return err_set(err, ZH_INTERNAL, r, "handshake", "no random numbers");
	wire_build_hello(&mine, server_hello);
	r = link_send_bytes(link, server_hello, HELLO_BYTES, deadline);
	if (r == 0)
		r = link_recv_bytes(link, proof, PROOF_BYTES, deadline);
	if (r < 0)
		return fail(err, r);
	r = prove(handshake, true, client_hello, server_hello, expected);
	if (r < 0)
		return err_set(err, ZH_INTERNAL, r, "handshake", "cannot make a proof");
	if (!auth_proof_equal(proof, expected)) {
		wire_build_proof_refusal(ZH_AUTH, proof);
		IGNORE(link_send_bytes(link, proof, PROOF_BYTES, deadline)); /* fails anyway */
		return err_set(err, ZH_AUTH, 0, "handshake", "the client does not hold our key");
	}
	r = prove(handshake, false, client_hello, server_hello, proof);
	if (r == 0)
		r = link_send_bytes(link, proof, PROOF_BYTES, deadline);
	if (r < 0)
		return fail(err, r);
	return secure(link, handshake, client_hello, server_hello, false, err);
}

void handshake_refuse(int fd, enum zh_outcome outcome)
{
	struct wire_refusal refusal = {
		.outcome = (uint16_t)outcome,
		.version_min = WIRE_VERSION,
		.version_max = WIRE_VERSION,
	};
	uint8_t bytes[HELLO_BYTES];

	wire_build_refusal(&refusal, bytes);
	/* The buffer of a new connection has room; one that has not is not waited for. */
	IGNORE(sys_send(fd, bytes, sizeof(bytes), MSG_DONTWAIT));
}
