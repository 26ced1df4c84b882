/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sender.h - the sending half of a session, on whichever side: announces files, sends what is
 * needed over the streams, answers NAKs, ends each file with its root and waits for the
 * acknowledgement.
 */
#ifndef ZH_SESSION_SENDER_H
#define ZH_SESSION_SENDER_H

#include "session/session.h"
#include "store/source.h"

struct sender;

/* Makes the session a sender. Its role_state is owned by the returned sender. */
int sender_new(struct session *session, struct sender **ret_sender) must_check;
void sender_free(struct sender *sender);

/*
 * Queues one file under the name it shall have at the other side. Before the session is open: path
 * is relative to dir (borrowed; see source_open) and copied. After
 * sender_no_more() the session ends when all files are settled. 0 or -ENOMEM.
 */
int sender_add(
	struct sender *sender, int dir, const char *path, int beneath, const char *name) must_check;
void sender_no_more(struct sender *sender);

#endif
