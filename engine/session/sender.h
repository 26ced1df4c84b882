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
#include "store/walk.h"

struct sender;

/* Makes the session a sender. Its role_state is owned by the returned sender. */
int sender_new(struct session *session, struct sender **ret_sender) must_check;
void sender_free(struct sender *sender);

/*
 * Queues one source under the name it shall have at the other side: a file, or, in a recursive
 * session, a directory; with the name "" what is in it goes into the place. Before the session is
 * open: path is relative to dir (borrowed; see source_open) and copied. The session ends when all
 * that is found has been settled. 0 or -ENOMEM.
 */
int sender_add(
	struct sender *sender, int dir, const char *path, int beneath, const char *name) must_check;
/* A rule for what of directories is taken or left out; see walk.h. 0, -EINVAL or -ENOMEM. */
int sender_rule(struct sender *sender, const char *pattern, bool exclude) must_check;
/* Of sources, which have to be directories then, only names of the list, which is borrowed. */
void sender_list(struct sender *sender, const struct walk_list *list);

#endif
