/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - a zh/1 peer that says what it is told to, right or wrong: HELLOs and proofs as given,
 * heads that no builder would make, tags that are right for them or not. Written from
 * docs/protocol.md; of the engine it uses the formats of payloads, the proofs and the leaf digests.
 *
 * What fails for reasons of the host stops the running test; what the other side does is a result.
 */
#ifndef ZH_TESTS_NET_PEER_H
#define ZH_TESTS_NET_PEER_H

#include "support.h"

#include "base/leaf.h"
#include "session/auth.h"
#include "session/wire.h"

/* beside the outcome of a refusal (> 0) and 0, how a greeting or a read ended */
enum { PEER_CLOSED = -1, PEER_SILENT = -2, PEER_WRONG = -3 };

#define PEER_WAIT_MS 5000

struct peer {
	int fd; /* -1: none */
	uint8_t client_hello[HELLO_BYTES];
	uint8_t server_hello[HELLO_BYTES];
	struct auth_secret secret; /* of the session */
	struct link_keys keys;
	uint64_t count_out;
	uint64_t count_in;
	struct frame frame; /* last received */
	uint8_t payload[FRAME_PAYLOAD_CAP];
};

/* A head as it lies on the wire, without any rule. */
struct head {
	uint8_t type;
	uint8_t flags;
	uint16_t zero;
	uint32_t length;
	uint64_t id;
	uint64_t offset;
};

/* Connects to 127.0.0.1; from: local address ("127.0.0.2"), NULL: any. */
int peer_dial(uint16_t port, const char *from);
/* Listens on a free port of 127.0.0.1. */
int peer_listen(uint16_t *ret_port);
void peer_close(struct peer *peer);
/* Closes with a reset instead of an end. */
void peer_reset(struct peer *peer);

/* False: the other side is gone. */
bool peer_write(struct peer *peer, const void *bytes, size_t length);
/* 0: all of length; PEER_CLOSED, PEER_SILENT. */
int peer_read(struct peer *peer, void *ret_bytes, size_t length, int wait_ms);
/* Reads until the end. Milliseconds until it came, PEER_SILENT when it did not in wait_ms. */
int peer_wait_closed(struct peer *peer, int wait_ms);

/* A HELLO as a client of this version makes it; the nonce is random. */
struct hello peer_hello(enum hello_kind kind, enum hello_auth auth, enum hello_intent intent);

/* ------------------------------ as a client -------------------------------------------- */

/* Sends a HELLO and reads the answer into server_hello. 0, an outcome, or PEER_*. */
int peer_greet(struct peer *peer, const uint8_t hello[HELLO_BYTES]);
/* Proves knowledge of key and derives what follows. 0, an outcome, or PEER_*. */
int peer_prove_control(struct peer *peer, const struct auth_key *key);
int peer_prove_data(struct peer *peer, const struct auth_secret *secret);

/* ------------------------------ as a server -------------------------------------------- */

/* Accepts and reads the client's HELLO. PEER_SILENT when none comes. */
int peer_accept(struct peer *peer, int listener, int wait_ms);
/* Answers the HELLO that was read, takes the client's proof and gives its own. 0 or PEER_*. */
int peer_welcome(struct peer *peer, const struct auth_key *key, const uint8_t *session,
	const struct auth_secret *secret);

/* ------------------------------ frames ------------------------------------------------- */

/* The tag covers head and payload, and is made for the next counter. Raw bytes are written after.
 */
bool peer_put(struct peer *peer, struct head head, const void *payload, size_t length);
/* The same with the tag spoilt. */
bool peer_put_untrue(struct peer *peer, struct head head, const void *payload, size_t length);
/* One frame into peer->frame and payload; its tag has to be right. 0 or PEER_*. */
int peer_get(struct peer *peer, int wait_ms);
/* The next frame that is not CREDIT or PING (which is answered). */
int peer_get_news(struct peer *peer, int wait_ms);

/* Shortest legal frame of a type, with an id where one is needed. */
struct head peer_least(enum frame_type type, uint64_t id);
bool peer_put_least(struct peer *peer, enum frame_type type, uint64_t id);
bool peer_put_err(struct peer *peer, uint64_t id, enum zh_outcome outcome, const char *text);
bool peer_put_bye(struct peer *peer);
bool peer_put_setup(struct peer *peer, const struct wire_setup *setup);
bool peer_put_want(struct peer *peer, uint64_t id, const char *path, uint8_t flags);
bool peer_put_file(struct peer *peer, uint64_t id, const struct wire_file *file, uint8_t flags);
/* The same without a check, so that anything can be said. */
bool peer_put_file_raw(struct peer *peer, uint64_t id, const struct wire_file *file,
	const void *name, uint8_t name_length, uint8_t flags);
bool peer_put_end(
	struct peer *peer, uint64_t id, const struct wire_file *file, const struct digest *root);

/* ------------------------------ content ------------------------------------------------ */

/* Content is random_fill of a seed. */
struct digest content_leaf(uint64_t size, uint64_t seed, uint64_t leaf);
struct digest content_root(uint64_t size, uint64_t seed);
/* DATA with the bytes of the range, without its SUM. */
bool peer_put_data(struct peer *peer, uint64_t id, uint64_t offset, uint32_t length, uint64_t seed);
/* The SUM of it, over a file of that size. */
bool peer_put_sum(struct peer *peer, uint64_t id, uint64_t offset, uint32_t length, uint64_t size,
	uint64_t seed);

uint64_t now_ms(void);
/* ZH_SEED, or a new one; printed once. */
uint64_t test_seed(void);

#endif
