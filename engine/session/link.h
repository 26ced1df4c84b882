/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.h - one connection of a session: whole frames in and out, each head and each parsed payload
 * covered by a tag (HMAC-SHA256, cut to 16 bytes) under a key of this connection and direction,
 * with an implicit counter. The raw payload of DATA is left on the socket for a channel. The
 * socket is non-blocking; a link waits by poll and gives up when abort_fd becomes readable.
 */
#ifndef ZH_SESSION_LINK_H
#define ZH_SESSION_LINK_H

#include "base/err.h"
#include "session/auth.h"
#include "session/wire.h"

struct link {
	int fd;        /* owned */
	int abort_fd;  /* borrowed, -1: none */
	void *mac_out; /* EVP_MAC_CTX, NULL before link_secure */
	void *mac_in;
	uint64_t count_out;
	uint64_t count_in;
	uint8_t payload[FRAME_PAYLOAD_CAP]; /* of the frame last received */
};

/*
 * Takes the descriptor over, on failure too (link_fini closes it), and makes it non-blocking. The
 * struct is large: heap or static.
 */
int link_init(struct link *link, int fd, int abort_fd) must_check;
void link_fini(struct link *link); /* closes; safe on a zeroed struct with fd -1 */
/* From now on frames carry tags. Returns 0 or -ENOMEM. */
int link_secure(struct link *link, const struct link_keys *keys) must_check;

/*
 * Plain bytes, before link_secure (HELLO and proofs). deadline_ns: clock_now_ns() scale, 0: none.
 * -ECONNRESET: closed by the peer; -ETIMEDOUT; -ECANCELED: abort_fd became readable.
 */
int link_send_bytes(
	struct link *link, const void *bytes, size_t length, uint64_t deadline_ns) must_check;
int link_recv_bytes(
	struct link *link, void *ret_bytes, size_t length, uint64_t deadline_ns) must_check;

/*
 * One frame with its payload (NULL for raw types: only the fixed part is sent, with MSG_MORE). One
 * thread at a time; sending and receiving may be two threads. The peer has LIMIT_STALL_MS to take
 * it, then -ETIMEDOUT. A readable abort_fd matters only when the socket is full, so that the last
 * ERR of a cancelled session still gets out. After a failure the stream is out of step: link_fini.
 */
int link_send(struct link *link, const struct frame *frame, const void *payload) must_check;
/*
 * Waits for one frame; its payload is in link->payload (raw types: still on the socket).
 * wait_ms < 0: for ever; 0: do not wait for the first byte. -EAGAIN: nothing came in that time;
 * once a first byte is there the rest has LIMIT_STALL_MS. -EPROTO: malformed; -EBADMSG: wrong tag;
 * -ECANCELED: abort_fd is readable, also when a frame is there. Any failure but -EAGAIN is final.
 */
int link_recv(struct link *link, struct frame *ret_frame, int wait_ms) must_check;

#endif
