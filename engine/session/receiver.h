/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receiver.h - the receiving half of a session, on whichever side: gives announced files a place in
 * staging, takes their bytes off the streams, proves them, commits and acknowledges.
 */
#ifndef ZH_SESSION_RECEIVER_H
#define ZH_SESSION_RECEIVER_H

#include "session/session.h"

struct receiver;

/*
 * Makes the session a receiver under root (borrowed): staging is there. The receiver starts a
 * thread that commits. Returns 0 or a negative errno.
 */
int receiver_new(struct session *session, int root, struct receiver **ret_receiver) must_check;
/* Where files go: a directory under root (borrowed), and the name for the only file, or NULL. */
int receiver_place(struct receiver *receiver, int directory, const char *only_name) must_check;
/*
 * From now on only what is asked for may come into the place: a file or directory of this name,
 * once. name "": anything; NULL: nothing more yet. 0 or -ENOMEM.
 */
int receiver_ask(struct receiver *receiver, const char *name, size_t length) must_check;
/* With DELETE, a rule for what stays that the sender does not know; see walk.h. 0, -EINVAL or
 * -ENOMEM. */
int receiver_rule(struct receiver *receiver, const char *pattern, bool exclude) must_check;
/*
 * With DELETE, after receiver_place: what comes into the place is all that is to be in it, and the
 * sender may say when it has told that. Fails the session.
 */
int receiver_mirror_place(struct receiver *receiver) must_check;
/* Everything that was asked for has been announced, or has failed. */
bool receiver_has_all(const struct receiver *receiver);
/* Ends the settling thread; what is unfinished is discarded. */
void receiver_free(struct receiver *receiver);

#endif
