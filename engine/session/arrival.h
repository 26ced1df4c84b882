/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arrival.h - one file on its way in, and what the threads of a receiver share: which leaves are
 * there, who still uses it, and what happens when it is complete or has failed. Shared by
 * receiver.c (control and committing) and receive_stream.c (the data connections) only.
 *
 * Functions marked locked are called with session->lock held.
 */
#ifndef ZH_SESSION_ARRIVAL_H
#define ZH_SESSION_ARRIVAL_H

#include "session/session.h"
#include "store/staging.h"

#define WINDOW LIMIT_OPEN_IDS /* ids that may be open at once; a power of two */

struct arrival {
	uint64_t id;
	enum arrival_state state;
	struct partial partial;
	struct zh_plan *plan; /* this, have and resends go when it is over: ids are many */
	char name[LIMIT_NAME_BYTES + 1];
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t mode;
	bool no_clobber;
	bool discard;         /* measured, not stored */
	uint32_t users;       /* DATA frames being received now, and the committing thread */
	uint64_t leaves_left; /* not yet on their way to disk and settled */
	uint8_t *have;        /* bit per leaf: settled, or being received */
	uint8_t *resends;     /* per leaf, made by the first NAK */
	struct leaf_sum sum;
	bool end_seen;
	struct wire_end end;
	struct arrival *next; /* to be committed */
};

struct receiver {
	struct session *session;
	struct staging staging;
	int place;   /* borrowed */
	bool placed; /* by receiver_place */
	uint64_t place_device;
	uint64_t place_inode;
	char only_name[LIMIT_NAME_BYTES + 1];
	struct arrival *window[WINDOW]; /* by id; finished ones stay until their place is needed */
	uint64_t next_id;
	uint64_t low_id; /* every id below is finished */
	uint64_t credit;
	pthread_t committer;
	pthread_cond_t commit; /* with session->lock */
	struct arrival *queue_head;
	struct arrival *queue_tail;
	bool committer_ends;
	bool cleared; /* no thread, no partial and no staging any more */
	char **asked; /* names by id - 1, when this side has asked for them */
	uint64_t asked_count;
	bool asks;
	_Atomic uint64_t lost_ns; /* when the first data connection was closed, 0: none */
};

/* By id; NULL: not announced, or long gone. Locked. */
struct arrival *arrival_find(const struct receiver *receiver, uint64_t id);
void arrival_advance(struct arrival *arrival, enum arrival_state to); /* locked; legal moves only */
bool arrival_is_finished(const struct arrival *arrival);              /* locked */
bool arrival_is_over(const struct arrival *arrival); /* nobody needs it any more; locked */

/* Fails one file for the reason in error; tell: the sender has to hear of it. */
int arrival_fail(struct receiver *receiver, struct arrival *arrival, const struct zh_error *error,
	bool tell);
/*
 * Lets go of what a file that is over holds on to. Returned is the partial of a failed one that no
 * thread uses any more (fd -1: none), to be discarded once unlocked: removing a large file takes
 * the disk a while. Locked.
 */
struct partial arrival_take_unused(struct arrival *arrival);
/* Complete, and its root is known: hand it to the committing thread. Locked. */
void arrival_queue_if_complete(struct receiver *receiver, struct arrival *arrival);

/*
 * Checks a DATA head against its file and takes its leaves. NULL: it has no business here.
 * *ret_store false: the file has failed and the bytes are to be thrown away.
 */
struct arrival *arrival_claim(struct receiver *receiver, const struct frame *data, bool *ret_store);
void arrival_set_had(struct arrival *arrival, uint64_t leaf, bool had); /* locked */
/* Frames of an arrival are over, and so many of its leaves are right and settled. */
void arrival_release(
	struct receiver *receiver, struct arrival *arrival, uint32_t frames, uint64_t leaves);

/* Gives the sender more ids when enough of the old ones are finished. */
int receiver_extend_credit(struct receiver *receiver);

/* session_role_ops.stream of a receiver: one data connection. receive_stream.c */
int receive_stream(struct session *session, struct link *link, struct channel *channel);

#endif
