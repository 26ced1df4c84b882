/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.h - one session at the server, in a process of its own: from the client's HELLO to the end.
 * The listener that accepts connections is server.c.
 */
#ifndef ZH_SESSION_SERVE_H
#define ZH_SESSION_SERVE_H

#include "session/auth.h"
#include "session/session.h"
#include "session/wire.h"

#include <stdbool.h>

struct serve {
	int root; /* borrowed; -1: bench */
	bool read_only;
	bool privileged_xattrs; /* the host's user has said that they may come and go */
	bool bench;             /* serves pushes that are discarded, and nothing else */
	int log_fd;
	enum hello_auth auth;
	const struct auth_key *key;
	uint8_t session[SESSION_ID_BYTES];
	struct passed_hello hello; /* the client's, checked by the listener */
	enum hello_intent intent;
	int listener; /* socket pair to the listener: data connections come, one byte goes */
};

#define SERVE_AUTHENTICATED 'A' /* told to the listener when the client has proved itself */

/* fd, the control connection, becomes the session's. Returns its enum zh_outcome. */
int serve_session(const struct serve *serve, int fd);

/* A data connection on its way from the listener: its descriptor and its HELLO. */
int serve_pass(int socket, int fd, const struct passed_hello *hello) must_check;

#endif
