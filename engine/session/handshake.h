/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake.h - HELLO and proofs at the start of each connection, on both sides. Afterwards the
 * link is secured with keys that only holders of the key can have.
 */
#ifndef ZH_SESSION_HANDSHAKE_H
#define ZH_SESSION_HANDSHAKE_H

#include "session/auth.h"
#include "session/link.h"

/* What one side brings to the control connection and both bring to data connections. */
struct handshake {
	enum hello_kind kind;
	enum hello_auth auth;
	enum hello_intent intent;
	uint32_t data_index;
	uint8_t session[SESSION_ID_BYTES]; /* control: filled by the server */
	const struct auth_key *key;        /* control */
	struct auth_secret secret;         /* control: made here; data: of the session */
};

/* Client's side: sends HELLO first. Fills err with AUTH, VERSION, PROTO, BUSY, NET, TIMEOUT. */
int handshake_connect(
	struct link *link, struct handshake *handshake, struct zh_error *err) must_check;

/*
 * Server's side, after client_hello has been read and parsed by the listener. handshake->session,
 * key (control) or secret (data), auth and data_index say what is expected. deadline_ns: of the
 * whole handshake, counted from accept (clock_now_ns scale).
 */
int handshake_accept(struct link *link, struct handshake *handshake,
	const uint8_t client_hello[HELLO_BYTES], uint64_t deadline_ns,
	struct zh_error *err) must_check;

/* Answers a HELLO with a refusal; the connection is of no use afterwards. */
void handshake_refuse(int fd, enum zh_outcome outcome);

#endif
