/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.h - a server under attack: the engine's own, in a process of its own on a free loopback
 * port, with a root of its own. host_is_well says whether anything that was done to it has left a
 * trace.
 */
#ifndef ZH_TESTS_NET_HOST_H
#define ZH_TESTS_NET_HOST_H

#include "peer.h"

#include "zerohaul.h"

enum {
	HOST_KEY = 1u << 0, /* with a key; otherwise insecure */
	HOST_READ_ONLY = 1u << 1,
	HOST_BENCH = 1u << 2, /* without a root */
};

struct host {
	struct arena *arena;
	pid_t pid;
	uint16_t port;
	unsigned flags;
	size_t fds; /* of the listener when nobody is there */
	struct auth_key key;
	char key_path[256];
	char log_path[256];
};

/* Starts it in the arena's root. */
void host_start(struct host *host, struct arena *arena, unsigned flags);
/* Ends it and looks through its log: no crash, no report of a sanitizer. */
void host_stop(struct host *host);
/* Sessions there are now, by /proc. */
size_t host_sessions(const struct host *host);
/* pid of the only session, 0: none. */
pid_t host_session_pid(const struct host *host);
/* Largest resident set so far of a process, in KiB; 0 when it is gone. */
size_t process_peak_kib(pid_t pid);
size_t process_fds(pid_t pid);
size_t process_threads(pid_t pid);
bool host_log_has(const struct host *host, const char *text);

/*
 * Fails the test unless: every session ends within wait_ms, the listener's descriptors are as many
 * as before, the root holds nothing but `expected` names (and no staging), and an honest client
 * pushes and pulls a file that stays what it was.
 */
void host_is_well(struct host *host, size_t expected_names, int wait_ms);

/* An honest client: pushes or pulls; the outcome. */
int host_push(const struct host *host, const char *source, const char *destination);
int host_pull(const struct host *host, const char *source, const char *destination);

/* A client's control connection with its proof given; peer->secret and the session id are filled.
 */
void host_connect(const struct host *host, enum hello_intent intent, struct peer *ret_peer);
/* The same with SETUP sent (streams 4, verify full, durability none to be quick). */
void host_setup(const struct host *host, enum hello_intent intent, struct peer *ret_peer);
/* Up to OPEN: a push into the root. */
void host_open_push(const struct host *host, struct peer *ret_peer);
/* Up to OPEN: a pull of a file under the root; its FILE has been read. */
void host_open_pull(const struct host *host, const char *name, struct peer *ret_peer);
/* A data connection of that session. 0, an outcome, or PEER_*. */
int host_attach(const struct host *host, const struct peer *control, enum hello_intent intent,
	uint32_t index, struct peer *ret_peer);

#endif
