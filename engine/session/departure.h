/* SPDX-License-Identifier: Apache-2.0 */
/*
 * departure.h - what is on its way out, and what the threads of a sender share: files and packs of
 * small files by id, the directories that they are in, and how each of them ends. Shared by
 * sender.c (control thread), announce.c (finding and announcing) and send_stream.c (data
 * connections) only.
 *
 * Functions marked locked are called with session->lock held, all others without.
 */
#ifndef ZH_SESSION_DEPARTURE_H
#define ZH_SESSION_DEPARTURE_H

#include "session/attributes.h"
#include "session/holes.h"
#include "session/lane.h"
#include "session/schedule.h"
#include "session/sender.h"
#include "session/session.h"
#include "store/dirs.h"
#include "store/source.h"
#include "store/walk.h"

#define DEPARTURES LIMIT_OPEN_IDS /* ids that may be open at once; a power of two */

/* A source that is a directory. Kept while anything in it is open. */
struct tree {
	int fd;
	struct dirs *dirs;   /* numbers as the receiver knows them, but 0 is the source */
	struct folder *root; /* the source itself */
	uint32_t folders;    /* that point here */
};

/* A directory of the source that has been announced and not been left. */
struct folder {
	uint64_t id;           /* as the receiver knows it; 0: the place itself */
	struct folder *parent; /* NULL: it is in the place, or is it */
	struct tree *tree;
	uint32_t users; /* the walk, and what is in it and not settled */
	bool failed;    /* at the receiver: nothing can be put into it */
	bool untold;    /* a name in it cannot be told */
	bool whole;     /* with DELETE: all names in it have been told, as its LEAVE says */
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t mode;
	struct attributes attributes; /* told when it is left */
	char *name;
	struct folder *next; /* of all that are open */
	struct folder *prev;
};

/* Of a member, together: asked for by NEED, failed by itself. */
enum { MEMBER_WANTED = 1u << 0, MEMBER_FAILED = 1u << 1 };

/* Small files and links whose bytes go out as one. */
struct pack {
	uint8_t *table; /* payload of PACK */
	size_t table_length;
	size_t count;
	struct folder **folder; /* of each member, held until the pack is settled */
	uint8_t *state;         /* of each: MEMBER_* */
	struct digest *digest;  /* of each that was read, if they are listed; else NULL */
};

struct departure {
	uint64_t id;
	enum departure_state state;
	struct pack *pack;     /* NULL: one file */
	uint64_t size;         /* of the file; of a pack what NEED has asked for */
	struct folder *folder; /* of one file, NULL: in the place */
	char *name;            /* of one file, as it is announced; this and what follows go early */
	struct source source;
	struct zh_plan *plan;
	struct holes holes;   /* of one file */
	uint8_t *resends;     /* per leaf, made by the first NAK */
	struct digest *proof; /* per leaf or member, as told in LEAF; made by NEED with PROVE */
	uint8_t *proved;      /* bit per leaf: its proof counts in sum */
	uint64_t unsent;      /* bytes asked for and not yet settled */
	uint32_t frames;      /* pieces being sent now, and its announcement */
	bool ending;          /* END is being sent, and the source looked at */
	bool in_place;        /* one file: the receiver had it, all of it */
	bool announced;       /* it has been, or is about to be: frames about it may come */
	bool unnamed;         /* the receiver has not been told its name, and never will be */
	struct leaf_sum sum;
	struct digest root; /* as in the last END */
};

struct origin; /* a source that was asked for; announce.c */

struct sender {
	struct session *session;
	pthread_cond_t work; /* with session->lock: streams */
	pthread_cond_t room; /* the announcer */
	pthread_t announcer;
	bool announcing;
	struct schedule schedule;
	struct lane lane[LIMIT_STREAMS]; /* by index of the data connection */
	struct departure
		*window[DEPARTURES]; /* by id; settled ones stay until the place is needed */
	uint64_t next_id;
	uint32_t open_files; /* announced and not settled */
	uint32_t open_packs;
	uint32_t open_members; /* of these packs */
	uint64_t credit;       /* ids below this may be used */
	struct folder *folder;
	uint32_t folders;
	size_t attribute_bytes; /* of these folders */
	uint64_t next_folder;
	struct origin *origin;
	size_t origins;
	size_t origins_cap;
	struct walk_rules *rules;     /* NULL: everything is taken */
	const struct walk_list *list; /* NULL: whatever is found */
	struct folder *kept_in;       /* of the announcer: where the names in kept are */
	uint8_t *kept;                /* payload of KEEP; NULL: none has been needed */
	size_t kept_length;
	bool begun;     /* the announcer */
	bool announced; /* everything */
};

/* Everything has been announced, settled and left. Locked. */
bool sender_is_done(const struct sender *sender);

/* By id; NULL: not announced, or long gone. Locked. */
struct departure *departure_find(const struct sender *sender, uint64_t id);
void departure_advance(struct departure *departure, enum departure_state to); /* locked */
bool departure_is_settled(const struct departure *departure);                 /* locked */
void departure_free(struct departure *departure);

/* What keeps directories from being left for as long as a departure is not over. */
struct held {
	struct folder *folder;
	struct pack *pack;
};

/*
 * A thread is done with a piece or with END: once it is settled and no thread uses it, a departure
 * lets go of all but its number and how it ended, and its place may be another one's. Locked; what
 * it held is for held_release, after the lock.
 */
struct held departure_shed(struct departure *departure) must_check;
int held_release(struct sender *sender, const struct held *held);
/*
 * A thread is done with it that has kept it by counting itself in departure->frames: the last one
 * sheds it, or sends END where that is due.
 */
int departure_put(struct sender *sender, struct departure *departure);
/* It is over. Locked; departure_shed comes next, when nobody uses it any more. */
void departure_settle(struct sender *sender, struct departure *departure, enum departure_state to);
/* Fails it, all of a pack, for the reason in error; tell: the receiver has to hear of it. */
int departure_fail(struct sender *sender, struct departure *departure, const struct zh_error *error,
	bool tell);
/* The same for one member of a pack. */
int member_fail(struct sender *sender, struct departure *departure, size_t member,
	const struct zh_error *error, bool tell);

/*
 * True when END is due; the state moves so that only one thread sends it. Locked. sender_end sends
 * it.
 */
bool departure_end_is_due(struct departure *departure);
/* A leaf that was sent again after END was read differently: END told of something else. Locked. */
bool departure_end_was_wrong(const struct departure *departure);
int departure_send_end(struct sender *sender, struct departure *departure);
int departure_fail_changed(struct sender *sender, struct departure *departure);
/* What is left of the file's pages: the page cache is to be as it was found, or without it. */
bool departure_leaves_no_cache(const struct session *session, const struct departure *departure);

/* Lists it in the session's manifest, as it is acknowledged. Nobody else uses it meanwhile. */
void departure_list(const struct sender *sender, const struct departure *departure);
/* Lists what of it a dry run has found lacking. Its folders are held, and its pack. */
void departure_list_lacking(struct session *session, const struct departure *departure);

/* ATTR of a file, or of a directory, if there is anything to say. */
int send_attributes(struct sender *sender, uint64_t id, uint8_t flags,
	const struct attributes *attributes) must_check;
/* One user less of a directory; the last one leaves it. NULL is fine. */
int folder_release(struct sender *sender, struct folder *folder);
/* It could not be made at the receiver, or one above it: nothing can be put into it. */
bool folder_is_failed(struct sender *sender, const struct folder *folder);
/* After a session that has failed, when no thread uses them: tells nobody. */
void folders_free(struct sender *sender);
/* Path below the source that it came from, with the name of the source, for messages. */
void folder_path(const struct folder *folder, const char *name, char *ret_path, size_t cap);

/* The thread that announces. 0 or a negative errno. */
int announce_start(struct sender *sender) must_check;
void announce_free(struct sender *sender);
/* session_role_ops.stream of a sender. */
int send_stream(struct session *session, struct session_stream *stream, struct link *link,
	struct channel *channel);
/*
 * Nobody sends on this lane any more, and the receiver has said what it got: the rest of what was
 * sent goes back to the schedule, and out of the account of its departure. 0 or -ENOMEM. Locked.
 */
int sender_repeat(struct sender *sender, struct lane *lane) must_check;

#endif
