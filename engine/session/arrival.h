/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arrival.h - one file, or one pack of small ones, on its way in, and what the threads of a
 * receiver share: which leaves are there, who still uses it, and what happens when it is complete
 * or has failed. Shared by receiver.c and told.c (control), settle.c (the thread that compares and
 * commits) and receive_stream.c (the data connections) only.
 *
 * Functions marked locked are called with session->lock held.
 */
#ifndef ZH_SESSION_ARRIVAL_H
#define ZH_SESSION_ARRIVAL_H

#include "session/attributes.h"
#include "session/holes.h"
#include "session/session.h"
#include "store/batch.h"
#include "store/dirs.h"
#include "store/staging.h"
#include "store/walk.h"

#define WINDOW LIMIT_OPEN_IDS /* ids that may be open at once; a power of two */

/* Of a member of a pack, together. */
enum {
	MEMBER_WANTED = 1u << 0, /* to be sent */
	MEMBER_FAILED = 1u << 1,
	MEMBER_ASKED = 1u << 2, /* may be there already: its digest is asked for */
};

struct arriving_pack {
	uint8_t *table; /* as PACK has it */
	size_t table_length;
	size_t count;
	uint32_t *at;            /* of each, in table */
	struct batch_file *file; /* of each; staged once its bytes have come */
	uint8_t *state;          /* of each: MEMBER_* */
	struct digest *digest;   /* of each that came, if they are listed; else NULL */
	bool written;            /* every wanted one is staged or has failed */
};

/* What the receiver may have already, and the digests that prove it or do not. */
struct proof {
	int fd; /* of the file that has the name now; -1: it is the partial, or a pack */
	struct digest *claimed; /* by leaf or member, as LEAF said */
	uint8_t *asked;         /* bit per leaf or member */
	uint64_t awaited;       /* not yet told */
};

void proof_free(struct proof *proof);

enum job_kind { JOB_NONE, JOB_COMMIT, JOB_PROVE, JOB_LEAVE, JOB_ATTR, JOB_PRUNE, JOB_SYNC };

/* For the settling thread, in the order in which they come. */
struct job {
	enum job_kind kind;
	struct job *next;
};

/* A directory that is complete: gets its owner and attributes, then its mode and times. */
struct leave {
	struct job job;
	uint64_t id;
	struct wire_leave attributes;
	struct wire_attr attr; /* JOB_ATTR, as the next two */
	struct xattrs *xattrs; /* NULL: left alone */
	size_t held;           /* counted in receiver.held_bytes */
};

struct arrival {
	struct job job; /* first */
	uint64_t id;
	enum arrival_state state;
	struct arriving_pack *pack; /* NULL: one file */
	uint64_t parent;            /* number of its directory, of one file */
	int parent_fd;              /* held; -1: not */
	bool in_place;              /* what has its name is the file, as proof has shown */
	struct proof *proof;
	struct partial partial;
	struct zh_plan *plan; /* this, have and resends go when it is over: ids are many */
	char name[LIMIT_NAME_BYTES + 1];
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t mode;
	bool attr_seen;
	bool set_owner;
	uint32_t uid;
	uint32_t gid;
	struct xattrs *xattrs; /* NULL: left alone */
	bool no_clobber;
	bool discard;         /* measured, not stored */
	struct holes holes;   /* of one file; sparse with extent NULL: MAP is to come */
	uint32_t users;       /* DATA frames being received now, and the settling thread */
	uint64_t leaves_left; /* not yet on their way to disk and settled */
	uint8_t *have;        /* bit per leaf: settled, or being received */
	uint8_t *resends;     /* per leaf, made by the first NAK */
	struct leaf_sum sum;
	bool end_seen;
	struct wire_end end;
};

/* Zeroed: empty. */
struct inode_set {
	uint64_t *slot; /* 0: empty */
	size_t cap;     /* a power of two */
	size_t count;
};

struct asked {
	char *name;
	bool came;
};

struct receiver {
	struct session *session;
	struct staging staging;
	int place;                   /* borrowed */
	struct dirs *dirs;           /* below it; NULL: not placed */
	struct batch *batch;         /* goes with dirs */
	_Atomic uint32_t members;    /* of packs that are held */
	_Atomic uint64_t held_bytes; /* of attributes that are not set yet */
	uint64_t last_dir;           /* numbers up to this one have been used */
	struct walk_rules *rules; /* with DELETE: what they leave out stays; NULL: there are none */
	void *told;               /* told.c: names in directories, by number */
	struct inode_set directories; /* told.c: that have been made or found */
	_Atomic uint64_t told_bytes;
	/* Not all can be known of the source any more: nothing more is removed. Set by told_stop.
	 */
	bool untold;
	bool pruning;          /* with session->lock, as the next two */
	pthread_cond_t pruned; /* pruning has become false */
	uint64_t prune_bytes;  /* of told_bytes, of what is queued to be pruned */
	bool mirrors_place;    /* the place is a directory of the source, and not what holds some */
	_Atomic bool
		names_unsynced; /* directories made, or files found, that no sync has followed */
	char only_name[LIMIT_NAME_BYTES + 1];
	struct arrival *window[WINDOW]; /* by id; finished ones stay until their place is needed */
	uint64_t next_id;
	uint64_t low_id; /* every id below is finished */
	uint64_t credit;
	pthread_t settler;
	pthread_cond_t jobs; /* with session->lock */
	struct job *queue_head;
	struct job *queue_tail;
	bool settler_ends;
	bool settles;        /* it is at work */
	uint32_t leaves;     /* JOB_LEAVE that are not done */
	bool full;           /* too much is queued */
	bool awaited;        /* the control thread is to be nudged when enough is done */
	struct job sync;     /* JOB_SYNC */
	bool cleared;        /* no thread, no partial and no staging any more */
	struct asked *asked; /* what may be in the place, when this side has asked for it */
	uint64_t asked_count;
	bool asks;
};

/* Nothing may be changed here: what is there is looked at, and what is lacking told. */
static inline bool receiver_is_dry(const struct receiver *receiver)
{
	return receiver->session->setup.dry_run;
}

/* By id; NULL: not announced, or long gone. Locked. */
struct arrival *arrival_find(const struct receiver *receiver, uint64_t id);
void arrival_advance(struct arrival *arrival, enum arrival_state to); /* locked; legal moves only */
bool arrival_is_finished(const struct arrival *arrival);              /* locked */
bool arrival_is_over(const struct arrival *arrival); /* nobody needs it any more; locked */

/* Fails one file for the reason in error; tell: the sender has to hear of it. */
int arrival_fail(struct receiver *receiver, struct arrival *arrival, const struct zh_error *error,
	bool tell);
/* The same for one member of a pack. */
int arrival_fail_member(struct receiver *receiver, struct arrival *arrival, size_t member,
	const struct zh_error *error, bool tell);
/* The member as it was announced, but under the name that it gets. */
void arriving_member(const struct receiver *receiver, const struct arriving_pack *pack,
	size_t index, struct wire_member *ret_member);
void arriving_pack_free(struct arriving_pack *pack);
/* Path below the place of a name in a directory, for messages and the log. */
void receiver_path(
	struct receiver *receiver, uint64_t parent, const char *name, char *ret_path, size_t cap);

/* What an arrival held on to, which may take a disk a while to let go. */
struct leftovers {
	struct partial partial; /* of a failed file; fd -1: none */
	struct arriving_pack *pack;
	struct proof *proof;
	struct xattrs *xattrs;
	uint64_t parent;
	int parent_fd;
};

/*
 * Takes what an arrival that is over, and that no thread uses any more, holds on to; to be let go
 * of once unlocked. Locked.
 */
struct leftovers arrival_take_unused(struct arrival *arrival);
void leftovers_discard(struct receiver *receiver, struct leftovers *leftovers);

/*
 * Counts memory that a peer fills with attributes, until they are set. -ENOBUFS, with nothing
 * counted: it would be more than LIMIT_HELD_XATTRS.
 */
int receiver_hold(struct receiver *receiver, size_t bytes) must_check;
void receiver_unhold(struct receiver *receiver, size_t bytes);

/*
 * What it stands for when it is over: files that came, or would, and those that were there. Locked.
 */
struct session_tally arrival_tally(const struct receiver *receiver, const struct arrival *arrival);
/*
 * It is there, or a dry run goes no further: it is over, counted, and what of it is lacking listed.
 * False: it was over already.
 */
bool arrival_skip(struct receiver *receiver, struct arrival *arrival);

/* Hands work to the settling thread. Locked. */
void receiver_queue(struct receiver *receiver, struct job *job, enum job_kind kind);
/* Complete, and its root is known: to be committed. Locked. */
void arrival_queue_if_complete(struct receiver *receiver, struct arrival *arrival);
/*
 * What has to be sent is known: tells the sender and goes to RECEIVING, or in a dry run to SKIPPED.
 * extra: flags of NEED. have and sum are as proof has left them.
 */
int arrival_send_need(struct receiver *receiver, struct arrival *arrival, uint8_t flags);

/*
 * Checks a DATA head against its file and takes its leaves. NULL: it has no business here.
 * *ret_store false: the file has failed and the bytes are to be thrown away.
 */
struct arrival *arrival_claim(struct receiver *receiver, const struct frame *data, bool *ret_store);
/* The frame did not come whole: its leaves are lacking again. Its user stays. */
void arrival_unclaim(struct receiver *receiver, struct arrival *arrival, const struct frame *data);
void arrival_set_had(struct arrival *arrival, uint64_t leaf, bool had); /* locked */
bool arrival_has(const struct arrival *arrival, uint64_t leaf);         /* locked */
/*
 * Opens the partial; keep: what an earlier transfer of the same file has left in it is kept
 * (partial.kept). Fills err.
 */
int arrival_open_partial(struct receiver *receiver, struct arrival *arrival, bool keep,
	struct zh_error *err) must_check;
/* What lies in holes has not to come, and counts. Once, when the rest is known to be lacking. */
void arrival_skip_holes(struct receiver *receiver, struct arrival *arrival);
/* How its bytes will come in. Fills err. */
int arrival_plan(
	struct receiver *receiver, struct arrival *arrival, struct zh_error *err) must_check;
/* Size of what is wanted of a pack, and NEED for it. */
int arrival_need_pack(struct receiver *receiver, struct arrival *arrival, uint8_t flags);
/* Frames of an arrival are over, and so many of its leaves are right and settled. */
void arrival_release(
	struct receiver *receiver, struct arrival *arrival, uint32_t frames, uint64_t leaves);

/* Gives the sender more ids when enough of the old ones are finished. */
int receiver_extend_credit(struct receiver *receiver);

/* The members of a pack whose bytes have come, or that have none: to staging. */
int receive_members(struct receiver *receiver, struct arrival *arrival, const uint8_t *bytes);

/* Directories made, and files found: on stable storage, if that is asked for. settle.c */
int receiver_sync_names(struct receiver *receiver) must_check;

/* session_role_ops.backlog of a receiver. settle.c */
enum session_backlog receiver_backlog(struct session *session);

/* settle.c: the thread that compares what is there with proofs, commits and acknowledges. */
int settler_start(struct receiver *receiver) must_check;
/* It ends when its queue is empty. */
void settler_stop(struct receiver *receiver);

/* session_role_ops.stream of a receiver: one data connection. receive_stream.c */
int receive_stream(struct session *session, struct session_stream *stream, struct link *link,
	struct channel *channel);

#endif
