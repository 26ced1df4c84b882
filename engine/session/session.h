/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h - one authenticated conversation, the same on both sides: a control connection driven
 * by the thread that runs the session, data connections with a thread each, the first error of all
 * of them, liveness and totals. What a frame means for files is the sender's and the receiver's.
 *
 * Threads. The control thread alone receives on the control connection; any thread may send on it
 * through session_send. Everything below `lock` in the struct is guarded by it. When a session
 * fails, abort_fd becomes readable and every wait of every thread ends with -ECANCELED.
 */
#ifndef ZH_SESSION_SESSION_H
#define ZH_SESSION_SESSION_H

#include "kernel/facts.h"
#include "move/channel.h"
#include "session/handshake.h"
#include "session/link.h"
#include "session/states.h"
#include "store/manifest.h"

#include <pthread.h>
#include <stdatomic.h>

struct session;
struct session_stream;

/* What a role has been told to do and has not done. */
enum session_backlog {
	BACKLOG_NONE,
	BACKLOG_SOME,
	BACKLOG_FULL, /* so much that it is to be told no more for a while */
};

/* What a role does with a session's threads. */
struct session_role_ops {
	/* One frame of the control connection, allowed by the state table. 0 or failed with error
	 * set. */
	int (*frame)(struct session *session, const struct frame *frame);
	/* Before each wait of the control thread. 0, or 1: this side is done, say BYE. */
	int (*pump)(struct session *session);
	/*
	 * The work of one data connection, after its handshake. 0: its work is over; 1: it broke,
	 * as session_stream_broke has said; failed.
	 */
	int (*stream)(struct session *session, struct session_stream *stream, struct link *link,
		struct channel *channel);
	/* Tells the peer that a data connection is over on this side. */
	int (*tell_end)(struct session *session, uint32_t index, uint64_t frames);
	/* Wakes whatever waits inside the role, after the session has failed or is finished. */
	void (*wake)(struct session *session);
	/* Every file that was announced is over: BYE may come. */
	bool (*settled)(struct session *session);
	/*
	 * Control thread, which is nudged when that is no longer FULL, and in SETTLING when it is
	 * NONE: this side may say BYE then.
	 */
	enum session_backlog (*backlog)(struct session *session);
	/* The streams have ended: clears up before this side says BYE, so that nothing is left
	 * then, or once it has failed. May come twice. */
	void (*finish)(struct session *session);
};

/* What the listener tells of a connection that it hands on. */
struct passed_hello {
	uint8_t bytes[HELLO_BYTES];
	uint64_t deadline_ns; /* of its handshake, counted from accept */
};

/*
 * One data connection, by its index. When it is over before its time, each side tells the other
 * once, by GOT with LAST or LOST. A client may open it again when both have been told, so what is
 * said of it is never taken for the next one. From started on guarded by session->lock.
 */
struct session_stream {
	struct session *session;
	pthread_t thread;
	int fd; /* taken over by the thread; -1: it has to connect */
	uint32_t index;
	bool passed; /* server: the listener has read the client's HELLO */
	struct passed_hello hello;

	bool opened;  /* at some time */
	bool started; /* there is a thread, to be joined */
	bool told;    /* it has done with its connection, and said so if that is needed */
	bool over;    /* it has nothing more to do at all */
	bool running; /* the handshake is done, and it works */
	bool worked;  /* it did, since it was started */
	bool progressed;
	bool down; /* client: is to be opened again */
	int live_fd;
	uint32_t said;       /* ends that this side has told, */
	uint32_t heard;      /* and the peer, */
	uint32_t said_start; /* and this side when the thread was started */
	uint64_t frames;     /* receiver: complete */
	uint32_t attempts;   /* client: without progress in between */
	uint64_t retry_ns;
};

struct session {
	enum session_end end;
	enum session_role role;
	const struct session_role_ops *ops;
	void *role_state;
	struct link control;
	int abort_fd;  /* owned eventfd */
	int nudge_fd;  /* likewise: the control thread looks at its role again */
	int finish_fd; /* likewise: nobody needs further data connections */
	int log_fd;    /* -1: none */
	/* Client: connects one more data connection; gives up when finish_fd is readable. */
	int (*reach)(void *context, int *ret_fd, struct zh_error *err);
	void *reach_context;
	struct handshake handshake;
	struct wire_setup setup;
	struct zh_sockopts sock;    /* for data connections */
	char strategy[ZH_NAME_CAP]; /* wish for this side, "": none */
	bool calibrate;             /* wish for this side */
	bool never_corks;           /* likewise, unless its Nagle mode says so */
	bool no_clobber;
	struct manifest *manifest; /* what arrives is listed there; borrowed, NULL: nowhere */
	/* Of a dry run at the client: what would be sent. NULL: nobody asks. */
	void (*list)(void *context, const struct zh_listed *listed);
	void *list_context;
	char peer[64];
	enum session_state state;
	uint64_t full_ns; /* control thread: since when it reads nothing, 0: it reads */
	struct sock_facts route;
	uint64_t started_ns;

	_Atomic uint64_t heard_ns; /* when a frame came on control last, 0: none yet */
	_Atomic uint64_t data_ns;  /* when the first piece was taken up, 0: none yet */
	_Atomic uint64_t bytes_moved;
	_Atomic uint64_t bytes_known;
	_Atomic uint32_t files_known;
	_Atomic uint32_t files_done;
	_Atomic uint32_t files_failed;
	_Atomic uint32_t files_skipped; /* were there already, proven or trusted */
	_Atomic uint32_t dirs_known;
	_Atomic uint32_t dirs_made;     /* of them, were not there */
	_Atomic uint32_t hard_links;    /* files that have other names, too; sent as files */
	_Atomic uint32_t links_skipped; /* symbolic */
	_Atomic uint32_t special_skipped;
	_Atomic uint32_t resent_leaves;
	_Atomic uint64_t deleted;         /* names removed by a receiver */
	_Atomic uint64_t disk_ns;         /* allocating, syncing, renaming */
	_Atomic uint32_t streams_greeted; /* the handshake is over, well or not */
	_Atomic bool cancelled;

	pthread_mutex_t send_lock; /* sending on control */
	pthread_mutex_t list_lock; /* calling list */

	pthread_mutex_t lock;
	bool aborted;   /* failed, and everybody has been told */
	bool finishing; /* no more work comes; streams end when they are idle */
	struct zh_error error;
	struct session_stream stream[LIMIT_STREAMS];
	uint32_t stream_count;  /* that were opened, each index once */
	uint32_t streams_live;  /* running */
	uint32_t streams_lost;  /* and both sides know */
	uint64_t streamless_ns; /* since when there is none, after one was lost; 0: there is */
	struct zh_error stream_error; /* of the last one that was lost */
	struct zh_side_report mine;
	struct zh_side_report theirs;
	uint64_t done_bytes; /* sizes of the files acknowledged */
	uint64_t done_ns;    /* when the last one was */
	uint64_t skipped_bytes;
	struct zh_failure *failure;
	size_t failure_count, failure_cap;
	uint64_t log_second; /* in which log_lines failed files were logged */
	uint32_t log_lines;
	struct zh_plan plan; /* of the largest file so far */
	uint64_t plan_size;
};

/* fd becomes the session's. The struct is large: heap. */
int session_init(struct session *session, enum session_end end, int fd) must_check;
void session_fini(struct session *session);

/* Records the first error and makes every thread give up. Returns -ECANCELED for `return`. */
int session_fail(struct session *session, const struct zh_error *error);
int session_failf(struct session *session, enum zh_outcome outcome, int errnum, const char *stage,
	const char *format, ...) printf_like(5, 6);
/* The same from a negative errno of the control connection. */
int session_fail_link(struct session *session, int r, const char *what);
/* Asks a running session to end; safe in a signal handler. */
void session_cancel(struct session *session);

/* Sends one frame on the control connection. Fails the session when it cannot. */
int session_send(struct session *session, const struct frame *frame, const void *payload);
/*
 * Sends ERR for a file (or request) id; 0: the whole session. offset: in a pack the number of the
 * member and one, otherwise 0.
 */
int session_send_err(
	struct session *session, uint64_t id, uint64_t offset, const struct zh_error *error);
int session_send_dir_err(struct session *session, uint64_t id, const struct zh_error *error);
void session_error_from_wire(const struct wire_err *wire, struct zh_error *ret_error);

/* Files that a side holds open, and directories that a sender does beside them. */
static inline uint32_t session_open_most(const struct session *session)
{
	return session->setup.max_open ? session->setup.max_open : LIMIT_OPEN_FILES;
}

/* Has the control thread call its role's pump. Any thread. */
void session_nudge(struct session *session);
/* A data connection takes up a piece, of a file or a pack. */
void session_note_data(struct session *session);
/* Files that came, or would have come, and files that were there already. */
struct session_tally {
	uint32_t files;
	uint32_t there;
	uint64_t bytes;
	uint64_t there_bytes;
};
void session_count(struct session *session, const struct session_tally *tally);
/* A dry run: this would come. path is below the place. */
void session_list_lacking(struct session *session, const char *path, uint64_t bytes, bool link);
/* One file has failed for the reason in error: name. */
void session_file_failed(struct session *session, const char *name, size_t name_length,
	const struct zh_error *error);
/*
 * Lists something that has arrived, if there is a manifest. path is below the place. The digest of
 * a small file is that of its only leaf.
 */
void session_list_file(struct session *session, const char *path, uint64_t size, uint32_t mode,
	int64_t mtime_s, uint32_t mtime_ns, const struct digest *root);
void session_list_member(struct session *session, const char *path,
	const struct wire_member *member, const struct digest *digest);
void session_list_link(
	struct session *session, const char *path, const void *target, size_t target_bytes);
void session_list_directory(struct session *session, const char *path, uint32_t mode);
/* What of a file was in the page cache of this side before it was moved, and is now. */
void session_note_cache(struct session *session, uint64_t before_bytes, uint64_t after_bytes);
void session_keep_plan(struct session *session, const struct zh_plan *plan, uint64_t size);
/* Whether this side receives and throws away. */
bool session_discards(const struct session *session);
/* Plans one file with this session's wishes; file -1: nothing is stored. */
int session_plan(
	struct session *session, int file, uint64_t size, struct zh_plan *ret_plan) must_check;

/* ------------------------------ streams.c ---------------------------------------------- */

/*
 * Starts the thread of a data connection. fd becomes the thread's, on failure too. hello: server.
 * -EINVAL: there is no such index, or it is in use.
 */
int session_add_stream(
	struct session *session, int fd, uint32_t index, const struct passed_hello *hello);
/* Waits for the stream threads; their totals are in session->mine then. */
void session_join_streams(struct session *session);
/*
 * An error of a data connection: 1 if it is no more than the end of that connection. Otherwise it
 * fails the session.
 */
int session_stream_broke(struct session *session, int r);
/* The peer has told that a data connection is over. Control thread. */
int session_heard_end(struct session *session, uint64_t index);
/* Opens again what is lost, and fails a session without any data connection. Control thread. */
int streams_tend(struct session *session);
/* How long the control thread may wait before the next streams_tend, at most LIMIT_PING_MS. */
int streams_wait_ms(struct session *session);

/* For the frames of PLACING, which come one by one: what any state does with ERR and BYE. */
int session_heard_err(struct session *session, const struct frame *frame);
int session_heard_bye(struct session *session, const struct frame *frame);

/*
 * Runs the control connection until both sides have said BYE or the session has failed. extra_fd:
 * also waited for, with on_extra called when it is readable (server: new data connections); -1:
 * none.
 */
int session_run(struct session *session, int extra_fd,
	int (*on_extra)(struct session *session, int extra_fd));
/* Starts the account of CPU and memory of this process, and ends it. */
void session_begin_report(struct session *session);
void session_end_report(struct session *session);

/* One line to the log, if there is one. Names in it are escaped by the caller. */
void session_log(const struct session *session, const char *format, ...) printf_like(2, 3);

#endif
