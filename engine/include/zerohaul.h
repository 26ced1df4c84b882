/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zerohaul.h - the whole public face of libzerohaul.
 *
 * Read it from the top: (1) move one extent between a file and a socket, (2) ask what would be done
 * and why, (3) move files between hosts, (4) prove a tree against its manifest, (5) names and
 * version.
 *
 * Conventions. Calls return 0 or a negative errno unless the declaration says otherwise. File
 * descriptors are borrowed: the library never closes one it was given. A struct that crosses the
 * boundary begins with its own size; set it up with its zh_*_default() initialiser, so that a
 * program built against an older header keeps working. Sizes are bytes, times are nanoseconds
 * unless the name says otherwise. No call prints, exits or installs a signal handler; SIGPIPE must
 * be ignored by the program, because splice(2) and sendfile(2) raise it for a peer that has gone.
 * Text in structs is printable ASCII: bytes of names that are not are escaped as \xNN.
 */
#ifndef ZEROHAUL_H
#define ZEROHAUL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ZH_API        __attribute__((visibility("default")))
#define ZH_MUST_CHECK __attribute__((warn_unused_result))

/* ------------------------------ outcomes and errors ------------------------------------ */

/*
 * How a transfer, a file or a session ended. The value is the exit status of the command and the
 * code in the protocol's ERR frame, so numbers are never reused.
 */
enum zh_outcome {
	ZH_OK = 0,
	ZH_USAGE = 1,        /* the request makes no sense */
	ZH_CONFIG = 2,       /* key file, root or option unusable on this host */
	ZH_PARTIAL = 3,      /* some files arrived, some did not */
	ZH_AUTH = 10,        /* wrong key, unknown peer, replay */
	ZH_PROTO = 11,       /* the peer broke the protocol */
	ZH_VERSION = 12,     /* no common version, or a required feature is missing */
	ZH_LIMIT = 13,       /* a documented limit was reached */
	ZH_POLICY = 14,      /* refused by the configuration of one side */
	ZH_UNSAFE_NAME = 15, /* a name that will not be created */
	ZH_SRC_CHANGED = 20, /* the source changed while it was sent */
	ZH_SRC_IO = 21,      /* the source cannot be read */
	ZH_SRC_GONE = 22,    /* the source does not exist */
	ZH_EXISTS = 30,      /* the destination exists and may not be replaced */
	ZH_NOSPACE = 31,
	ZH_QUOTA = 32,
	ZH_PERM = 33,    /* read-only, immutable or not permitted */
	ZH_DST_IO = 34,  /* the destination cannot be written */
	ZH_VERIFY = 35,  /* digests differ after all re-sends */
	ZH_NET = 40,     /* no connection, or it broke */
	ZH_TIMEOUT = 41, /* the peer is silent or stalled */
	ZH_BUSY = 42,    /* the server has no room */
	ZH_CANCELLED = 43,
	ZH_INTERNAL = 70,
};

/* What went wrong, filled once at the lowest place that knew. */
struct zh_error {
	uint32_t size;
	int32_t outcome;  /* enum zh_outcome */
	int32_t errnum;   /* positive errno, or 0 when the kernel reported none */
	uint32_t at_peer; /* 1: the other side reported it */
	uint64_t offset;  /* in the file, when a file is named */
	char stage[24];   /* what was being done: "connect", "open source", "fsync" */
	char peer[64];    /* address of the other side, or "" */
	char file[256];   /* name of the file, or "" */
	char text[256];   /* one sentence, no newline */
};

/* ------------------------------ shared shapes ------------------------------------------ */

enum zh_side { ZH_SEND = 0, ZH_RECEIVE = 1 };

/* A range of a file. offset + length does not exceed INT64_MAX. */
struct zh_extent {
	uint64_t offset;
	uint64_t length;
};

/* When small segments are sent. See tcp(7). */
enum zh_nagle {
	ZH_NAGLE_DEFAULT =
		0, /* as is best: corked within an extent where pages are sent in place */
	ZH_NAGLE_NODELAY = 1, /* TCP_NODELAY */
	ZH_NAGLE_CORK = 2,    /* TCP_CORK while an extent moves, released at its end */
};

/*
 * Wishes for a TCP socket; zero or empty means "leave it to the kernel". Setting a buffer size
 * turns the kernel's autotuning off for that direction, which is why nothing is set by default.
 */
struct zh_sockopts {
	uint32_t size;
	uint32_t nagle; /* enum zh_nagle */
	uint32_t sndbuf_bytes;
	uint32_t rcvbuf_bytes;
	uint32_t notsent_lowat_bytes;
	uint32_t mss_bytes;          /* TCP_MAXSEG; only before a connection is made */
	uint64_t pacing_bytes_per_s; /* SO_MAX_PACING_RATE */
	char congestion[16];         /* TCP_CONGESTION, e.g. "cubic" */
};

/*
 * What a move leaves in the page caches of both hosts. AUTO: a large source as it was found, and of
 * the destination what its strategy leaves there. KEEP: by strategies that leave it all there.
 * DROP: nothing, whoever had brought it in.
 */
enum zh_cache { ZH_CACHE_AUTO = 0, ZH_CACHE_KEEP = 1, ZH_CACHE_DROP = 2 };

#define ZH_NAME_CAP 24 /* a strategy's name, with its end */

/* The socket as the kernel has it: getsockopt and TCP_INFO at the end of the transfer. */
struct zh_tcp {
	uint32_t valid; /* 0: not a TCP socket, the rest is zero */
	uint32_t nodelay;
	uint32_t cork;
	uint32_t sndbuf_bytes;
	uint32_t rcvbuf_bytes;
	uint32_t notsent_lowat_bytes;
	uint32_t mss_bytes;
	uint32_t rtt_us;
	uint32_t min_rtt_us;
	uint32_t cwnd_segments;
	uint32_t retransmits;
	uint32_t segments_out;
	uint64_t delivery_rate; /* bytes per second */
	uint64_t pacing_rate;   /* bytes per second, UINT64_MAX: unlimited */
	uint64_t busy_us;       /* time with data to send */
	uint64_t rwnd_limited_us;
	uint64_t sndbuf_limited_us;
	char congestion[16];
};

#define ZH_CALL_MAX 64 /* kinds of system call that are counted; names by zh_call_name() */

/*
 * What one channel did. Waiting times are wall time in which the channel could not go on:
 * for socket space (sending), for the peer's bytes (receiving), and for the disk.
 */
struct zh_stats {
	uint32_t size;
	uint32_t side;              /* enum zh_side */
	char strategy[ZH_NAME_CAP]; /* the one that moved the last byte */
	uint64_t bytes;
	uint64_t elapsed_ns;
	uint64_t cpu_ns;        /* of the channel's thread, and of one that helps it */
	uint64_t wait_space_ns; /* socket buffer full */
	uint64_t wait_data_ns;  /* nothing to receive yet */
	uint64_t wait_disk_ns;
	uint64_t wait_run_ns;     /* runnable, but the CPU was taken */
	uint64_t shorts;          /* calls that moved less than asked */
	uint64_t agains;          /* calls that would have blocked */
	uint64_t zc_copied_bytes; /* "zero-copy" bytes that the kernel copied after all */
	uint64_t digest_bytes;    /* bytes digested, in its hands or read once more for that */
	uint32_t chunk_bytes;     /* moved by one call, as used */
	uint32_t depth;           /* operations in flight at most, as used */
	uint32_t pipe_bytes;      /* as the kernel granted it, 0: no pipe */
	uint32_t ring_flags;      /* io_uring set-up flags granted, 0: no ring or none */
	uint32_t registered;      /* 1: buffers registered with the ring */
	uint32_t huge_pages;      /* 1: buffers on huge pages */
	uint32_t direct;          /* 1: O_DIRECT was used */
	uint32_t demotions;       /* changes of strategy forced by the kernel */
	char demotion[128];       /* the last one, with its reason */
	char calibration[128];    /* both costs and who went on, "": none. Not told by a peer */
	uint64_t calls[ZH_CALL_MAX];
	struct zh_tcp tcp;
};

/* Name of the system call counted in zh_stats.calls[index], or NULL past the last one. */
ZH_API const char *zh_call_name(size_t index);

/* ------------------------------ 1: move one extent ------------------------------------- */

enum {
	ZH_NO_FALLBACK = 1u << 0, /* fail rather than demote to another strategy */
	/*
	 * When 256 MiB or more are sent as the plan chooses: measure the strategy, then the one
	 * that the plan would have taken next, and go on with the cheaper. See
	 * zh_stats.calibration.
	 */
	ZH_CALIBRATE = 1u << 1,
	/* With ZH_NAGLE_DEFAULT: as the socket is, never corked. Of a transfer: where it sends. */
	ZH_NO_CORK = 1u << 2,
};

struct zh_options {
	uint32_t size;
	uint32_t flags;       /* ZH_NO_FALLBACK, ZH_NO_CORK */
	const char *strategy; /* NULL: the plan chooses */
	uint32_t chunk_bytes; /* 0: the plan chooses; what one call moves */
	uint32_t depth;       /* 0: the plan chooses; operations in flight */
	uint32_t stall_ms;    /* give up after this long without progress; 0: never */
	uint32_t cache;       /* enum zh_cache; here it only steers the choice of a strategy */
	struct zh_sockopts sock;
};

static inline struct zh_sockopts zh_sockopts_default(void)
{
	struct zh_sockopts o = { 0 };
	o.size = sizeof(o);
	return o;
}

static inline struct zh_options zh_options_default(void)
{
	struct zh_options o = { 0 };
	o.size = sizeof(o);
	o.sock = zh_sockopts_default();
	return o;
}

/*
 * Send one extent of a regular file over a connected stream socket, or receive one into it. What is
 * on the wire is the bytes alone. Returns when the last byte was handed to the kernel (send) or
 * handed to the file (receive; not synced). The file's own offset is neither used nor moved.
 * options may be NULL; ret_stats may be NULL and is filled on failure too: bytes says how far it
 * got.
 *
 * Errors: -EINVAL unknown strategy or not admitted with ZH_NO_FALLBACK, -ENODATA the file ended
 * before the extent did, -ECONNRESET the peer closed before the extent was complete, -ETIMEDOUT
 * stalled, and what the file or the socket reports.
 * Thread: one call per socket and direction at a time.
 */
ZH_API ZH_MUST_CHECK int zh_send(int file_fd, int sock_fd, struct zh_extent extent,
	const struct zh_options *options, struct zh_stats *ret_stats);
ZH_API ZH_MUST_CHECK int zh_recv(int sock_fd, int file_fd, struct zh_extent extent,
	const struct zh_options *options, struct zh_stats *ret_stats);

/* ------------------------------ 2: ask ------------------------------------------------- */

/* One way of moving bytes in one direction. All strings are static. */
struct zh_strategy {
	const char *name;
	const char *summary;       /* mechanism, one line */
	const char *needs;         /* preconditions, one line */
	const char *falls_back_to; /* strategy taken when the kernel refuses, NULL: none */
	const char *since;         /* first Linux that can do it */
	uint32_t side;             /* enum zh_side */
	uint32_t sees_data;        /* 1: bytes pass through the engine's buffers */
	uint32_t user_copies;      /* copies by the CPU across the user boundary per byte */
	uint32_t total_copies;     /* all copies by the CPU per byte on this side, loopback */
};

/* Strategy by index, or NULL past the last. The order is the order of preference in listings. */
ZH_API const struct zh_strategy *zh_strategy_at(size_t index);

struct zh_fact {
	char name[28];
	char value[100];
};

struct zh_verdict {
	char name[ZH_NAME_CAP];
	uint32_t admitted;
	char reason[100];
};

#define ZH_PLAN_FACTS    24
#define ZH_PLAN_VERDICTS 24

/* What was decided for one file and one socket, and why. Plain data; copying it is fine. */
struct zh_plan {
	uint32_t size;
	uint32_t side; /* enum zh_side */
	char strategy[ZH_NAME_CAP];
	uint32_t chunk_bytes; /* moved by one call */
	uint32_t depth;       /* operations in flight */
	uint32_t pipe_bytes;  /* asked for; 0: no pipe */
	uint32_t no_fallback;
	int32_t resident_permille;   /* of the extent, in the page cache; -1: cannot be told */
	char reason[200];            /* one sentence */
	char runner_up[ZH_NAME_CAP]; /* to be compared with on the way, "": none */
	uint32_t runner_up_chunk_bytes;
	uint32_t runner_up_depth;
	uint32_t runner_up_pipe_bytes;
	uint32_t fact_count;
	uint32_t verdict_count;
	struct zh_fact fact[ZH_PLAN_FACTS];
	struct zh_verdict verdict[ZH_PLAN_VERDICTS];
};

/*
 * What zh_send or zh_recv would do. sock_fd may be -1: then a local TCP peer is assumed and the
 * plan says so. Changes nothing. Errors: as those two.
 */
ZH_API ZH_MUST_CHECK int zh_plan(int file_fd, int sock_fd, enum zh_side side,
	struct zh_extent extent, const struct zh_options *options, struct zh_plan *ret_plan);

struct zh_feature {
	char name[28];
	uint32_t present;
	char detail[100]; /* what was tried and what the kernel answered */
};

#define ZH_PROBE_FEATURES 32

/* Kernel features, found by trying each one. */
struct zh_probe {
	uint32_t size;
	uint32_t feature_count;
	struct zh_feature feature[ZH_PROBE_FEATURES];
};

ZH_API ZH_MUST_CHECK int zh_probe(struct zh_probe *ret_probe);

/* ------------------------------ 3: between hosts --------------------------------------- */

#define ZH_DEFAULT_PORT 7117

enum zh_direction { ZH_PUSH = 0, ZH_PULL = 1 };
enum zh_verify { ZH_VERIFY_FULL = 0, ZH_VERIFY_NONE = 1 };
enum zh_durability { ZH_DURABLE_FULL = 0, ZH_DURABLE_FILE = 1, ZH_DURABLE_NONE = 2 };

enum {
	ZH_INSECURE = 1u << 8,   /* no key: loopback peers only */
	ZH_NO_CLOBBER = 1u << 9, /* never replace an existing file */
	ZH_RECURSIVE = 1u << 10, /* sources may be directories */
	ZH_LINKS = 1u << 11,     /* symbolic links in them are carried as such, never followed */
	ZH_OWNER = 1u << 12,     /* owner and group are kept, by number; for root */
	ZH_XATTRS = 1u << 13,    /* user.* attributes are kept; with ZH_OWNER POSIX ACLs, too */
	/*
	 * With ZH_XATTRS, which it implies: security.capability and trusted.*, for root on both
	 * sides. Of a server: takes part in such transfers. It gives whoever sends power over the
	 * receiving host.
	 */
	ZH_PRIVILEGED_XATTRS = 1u << 14,
	ZH_NAMED = 1u << 15, /* of the only source only what zh_transfer_name says */
	/*
	 * Nothing is changed at the receiver, and no file sent: list is called for what would be,
	 * and the report counts it as done. What is there already is found out as otherwise.
	 */
	ZH_DRY_RUN = 1u << 19,
	/*
	 * With ZH_RECURSIVE: what is in a directory of the destination and not in that of the
	 * source is removed, unless a rule leaves it out. The destination itself is such a
	 * directory only if all that is copied is what is in one source ("." and "dir/."). Not with
	 * ZH_NAMED. With ZH_DRY_RUN what would be removed is counted.
	 */
	ZH_DELETE = 1u << 20,
};

/*
 * What is done about a file that is there already. PROVE: with the size and time of the source it
 * is compared by digest, and sent only where it differs. TRUST: then it is taken for the same.
 * DIGEST: compared by digest whatever its time, if it has the size.
 */
enum zh_existing { ZH_EXISTING_PROVE = 0, ZH_EXISTING_TRUST = 1, ZH_EXISTING_DIGEST = 2 };

/* A file or symbolic link that a dry run finds lacking at the receiver. */
struct zh_listed {
	uint32_t size;
	uint32_t link;    /* 1: a symbolic link */
	uint64_t bytes;   /* its size */
	const char *path; /* below the destination, raw bytes; good during the call */
};

struct zh_transfer_options {
	uint32_t size;
	uint32_t flags;       /* ZH_NO_FALLBACK, ZH_NO_CORK, ZH_INSECURE, ZH_NO_CLOBBER, ... */
	uint32_t direction;   /* enum zh_direction */
	uint32_t verify;      /* enum zh_verify */
	uint32_t durability;  /* enum zh_durability */
	uint32_t cache;       /* enum zh_cache */
	uint32_t chunk_bytes; /* at most INT32_MAX; 0: the plan chooses; "discard" always does */
	uint32_t connect_ms;  /* 0: 10 s */
	uint16_t port;
	uint16_t streams;        /* data connections; 0: the plan chooses */
	const char *host;        /* name or address of the server */
	const char *key_file;    /* NULL only with ZH_INSECURE */
	const char *destination; /* push: path under the server's root; pull: local path */
	const char *strategy;    /* of the sending side; NULL: the plan chooses */
	const char *receive_strategy;
	struct zh_sockopts sock; /* for the data connections, on both sides */
	uint32_t existing;       /* enum zh_existing */
	uint32_t max_open;       /* files that each side holds open at a time, 1 to 64; 0: 64 */
	const char *manifest;    /* what has arrived is listed in this file, NULL: nowhere */
	/*
	 * ZH_DRY_RUN: what would be sent; by threads of the library, one at a time. The peer waits
	 * for an answer meanwhile, so it must not wait for long. May be NULL.
	 */
	void (*list)(void *context, const struct zh_listed *listed);
	void *list_context;
};

static inline struct zh_transfer_options zh_transfer_options_default(void)
{
	struct zh_transfer_options o = { 0 };
	o.size = sizeof(o);
	o.port = ZH_DEFAULT_PORT;
	o.sock = zh_sockopts_default();
	return o;
}

/* A snapshot of a running transfer. */
struct zh_progress {
	uint32_t size;
	uint32_t files_done; /* acknowledged */
	uint32_t files_failed;
	uint32_t files_known;
	uint64_t bytes_moved; /* by the data connections of this side, re-sends included */
	uint64_t bytes_known; /* sum of the sizes known so far */
	uint64_t elapsed_ns;
	char phase[24]; /* "connecting", "moving", "committing", "done" */
};

/* Totals of one side of a session. */
struct zh_side_report {
	uint32_t valid;
	uint32_t pad;
	uint64_t cpu_user_ns; /* of the whole process, from session start to its end */
	uint64_t cpu_sys_ns;
	uint64_t max_rss_bytes;
	uint64_t voluntary_switches;
	uint64_t involuntary_switches;
	uint64_t disk_ns;             /* fallocate, fsync, rename: outside the channels */
	uint64_t cached_before_bytes; /* of the files of this side, in its page cache: sampled */
	uint64_t cached_after_bytes;  /* when the last byte was sent, or stored */
	uint32_t hard_links;    /* that it sent as files of their own; a sender, as the next two */
	uint32_t links_skipped; /* symbolic links that were not carried */
	uint32_t special_skipped;  /* FIFOs, sockets, devices */
	uint32_t directories_made; /* of a receiver: that were not there */
	uint64_t deleted;          /* names that a receiver has removed, or would have */
	struct zh_stats stats;     /* sum over the data connections; tcp: the first one */
};

/* What a finished transfer achieved. Valid after zh_transfer_run() has returned. */
struct zh_report {
	uint32_t size;
	uint32_t files_done;
	uint32_t files_failed;
	uint32_t verified;   /* 1: every file's digests were compared */
	uint32_t durability; /* enum zh_durability that was kept */
	uint32_t streams;
	uint32_t resent_leaves;
	uint32_t streams_lost;  /* data connections that broke before the end */
	uint64_t bytes;         /* sum of the sizes of the files done */
	uint64_t bytes_skipped; /* and of those that were there already */
	uint64_t elapsed_ns;    /* from run to the last acknowledgement */
	struct zh_side_report sender;
	struct zh_side_report receiver;
	struct zh_plan send_plan; /* of the largest file this side planned; strategy "" if none */
	struct zh_plan receive_plan;
	uint32_t files_skipped; /* were there already, proven or trusted */
	uint32_t directories;
	char limited_by[32]; /* "source disk", "sender CPU", "send buffer", "latency", ... */
	char limit_evidence[160];
	/*
	 * Of elapsed_ns: from when a data connection of this side took up the first piece of a
	 * file, to send it or when its head had come, to the last acknowledgement. So connecting,
	 * the proofs of the key and announcing are not in it, what ends a file is.
	 * 0: nothing was moved.
	 */
	uint64_t moving_ns;
};

/* One file that did not arrive. */
struct zh_failure {
	uint32_t size;
	uint32_t pad;
	struct zh_error error;
};

struct zh_transfer;

/*
 * A transfer of files between this host and a server. Strings in options are copied.
 * Thread: run in one thread; progress and cancel from any, cancel also from a signal handler.
 */
ZH_API ZH_MUST_CHECK int zh_transfer_new(
	const struct zh_transfer_options *options, struct zh_transfer **ret_transfer);
/* Add a source: a local path (push) or a path under the server's root (pull). Before run. */
ZH_API ZH_MUST_CHECK int zh_transfer_add(struct zh_transfer *transfer, const char *source);
/*
 * Add a rule for what of directories is taken or left out (exclude not 0); the first rule that
 * matches decides, and what none matches is taken. What is left out is not removed by ZH_DELETE,
 * either. Without "/" a pattern is matched with the name at any depth, with one with the path below
 * the source; "*" and "?" do not match "/", "**" does; a trailing "/" restricts it to directories.
 * Before run. -EINVAL: no pattern.
 */
ZH_API ZH_MUST_CHECK int zh_transfer_rule(
	struct zh_transfer *transfer, const char *pattern, int exclude);
/*
 * With ZH_NAMED in a push: add a name below the only source, a directory, of a file or, with
 * ZH_RECURSIVE, of a directory with everything in it. Named ones alone are copied, if no rule
 * leaves them out, into the destination as what is in the source would be, with the directories
 * that they are in. One that does not exist fails by itself; one that comes again is copied once.
 * Before run. name is borrowed until zh_transfer_free, since there may be many: 8 bytes are kept
 * for each. -EINVAL: empty, absolute, with ".." in it, or without ZH_NAMED. -EOVERFLOW: more than
 * 16,777,216.
 */
ZH_API ZH_MUST_CHECK int zh_transfer_name(struct zh_transfer *transfer, const char *name);
/* Returns an enum zh_outcome. ZH_OK: every file is acknowledged at the durability asked for. */
ZH_API ZH_MUST_CHECK int zh_transfer_run(struct zh_transfer *transfer);
ZH_API void zh_transfer_progress(
	const struct zh_transfer *transfer, struct zh_progress *ret_progress);
ZH_API void zh_transfer_cancel(struct zh_transfer *transfer);
/* The first error: of the session, else of the first file that failed. Lives as long as transfer.
 */
ZH_API const struct zh_error *zh_transfer_error(const struct zh_transfer *transfer);
/* Failed files by index, NULL past the last. At most 10,000 are kept; the report counts them all.
 */
ZH_API const struct zh_failure *zh_transfer_failure_at(
	const struct zh_transfer *transfer, size_t index);
ZH_API const struct zh_report *zh_transfer_report(const struct zh_transfer *transfer);
ZH_API void zh_transfer_free(struct zh_transfer *transfer);

enum {
	ZH_SERVE_ONCE = 1u << 16, /* end after the first session */
	ZH_SERVE_READ_ONLY = 1u << 17,
	/*
	 * Has no root and stores nothing: a push that is received by "discard" is served, and
	 * nothing else. Whatever place such a push names is taken for a directory.
	 */
	ZH_SERVE_BENCH = 1u << 18,
};

struct zh_server_options {
	uint32_t size;
	uint32_t flags;       /* ZH_INSECURE, ZH_PRIVILEGED_XATTRS, ZH_SERVE_* */
	const char *root;     /* directory that everything happens under; NULL: ZH_SERVE_BENCH */
	const char *key_file; /* NULL only with ZH_INSECURE */
	const char
		*listen; /* "ADDR:PORT", "[ADDR6]:PORT", ":PORT" or "ADDR"; port 0: any free one */
	int32_t log_fd;  /* one line per event is written here; -1: none */
	uint32_t grace_ms; /* how long stop waits for running sessions; 0: 10 s */
};

static inline struct zh_server_options zh_server_options_default(void)
{
	struct zh_server_options o = { 0 };
	o.size = sizeof(o);
	o.log_fd = -1;
	return o;
}

struct zh_server;

/*
 * A server. new binds and listens, so the address is known and connections queue from then on.
 * On failure *ret_error (may be NULL) says what was wrong.
 * run forks one process per session and returns an enum zh_outcome after stop (or after the first
 * session with ZH_SERVE_ONCE: then the outcome of that session).
 * Thread: run in one thread, before any other thread exists; stop from a signal handler or thread.
 */
ZH_API ZH_MUST_CHECK int zh_server_new(const struct zh_server_options *options,
	struct zh_server **ret_server, struct zh_error *ret_error);
ZH_API const char *zh_server_address(const struct zh_server *server);
ZH_API ZH_MUST_CHECK int zh_server_run(struct zh_server *server);
ZH_API void zh_server_stop(struct zh_server *server);
ZH_API void zh_server_free(struct zh_server *server);

/* Write a new random key to path, mode 0600; -EEXIST rather than replace a file. */
ZH_API ZH_MUST_CHECK int zh_key_generate(const char *path);

/* ------------------------------ 4: prove a tree ---------------------------------------- */

enum {
	ZH_VERIFY_MTIME = 1u << 24, /* compare times of modification of files too */
	ZH_VERIFY_MODE = 1u << 25,  /* compare permissions of files and directories too */
	ZH_VERIFY_EXTRA = 1u << 26, /* find what is there and not listed: 16 bytes for each line */
};

struct zh_verify_options {
	uint32_t size;
	uint32_t flags;   /* ZH_VERIFY_MTIME, ZH_VERIFY_MODE, ZH_VERIFY_EXTRA */
	uint32_t threads; /* 0: the number of CPUs; each verifies a file at a time */
	uint32_t pad;
	const char *manifest;  /* path of a regular file */
	const char *directory; /* the tree; links in this path are followed, links below never */
};

static inline struct zh_verify_options zh_verify_options_default(void)
{
	struct zh_verify_options o = { 0 };
	o.size = sizeof(o);
	return o;
}

enum zh_finding_kind {
	ZH_FOUND_WRONG = 0,      /* it is not what is listed */
	ZH_FOUND_MISSING = 1,    /* nothing bears that name */
	ZH_FOUND_UNREADABLE = 2, /* it could not be looked at */
	ZH_FOUND_EXTRA = 3,      /* it is not listed */
};

/* One thing that is not as the manifest says. */
struct zh_finding {
	uint32_t size;
	uint32_t kind; /* enum zh_finding_kind */
	struct zh_error error;
};

/* What was found. Valid after zh_verifier_run() has returned. */
struct zh_verify_report {
	uint32_t size;
	uint32_t threads;
	uint64_t listed; /* files, directories and links in the manifest */
	uint64_t right;  /* of these, as the next three */
	uint64_t wrong;
	uint64_t missing;
	uint64_t unreadable;   /* and directories that could not be searched for what is extra */
	uint64_t extra;        /* only with ZH_VERIFY_EXTRA */
	uint64_t bytes;        /* of content that was read and digested */
	uint64_t direct_bytes; /* of these, with O_DIRECT; the rest after the cache was dropped */
	uint64_t elapsed_ns;
};

struct zh_verifier;

/*
 * Proves that a directory holds what a manifest lists: contents by their digests, read from the
 * disk and not from the page cache, and the existence of directories and links. Changes nothing,
 * and opens what is below the directory one component at a time without following a link. The
 * manifest is read twice, the first time to see that it is complete and unedited: before that
 * nothing of the tree is looked at. Memory does not grow with the manifest, but for ZH_VERIFY_EXTRA
 * and findings. Strings in options are copied. Errors of new: -EINVAL, -ENOMEM. Thread: run in one
 * thread, once; progress and cancel from any, cancel also from a signal handler.
 */
ZH_API ZH_MUST_CHECK int zh_verifier_new(
	const struct zh_verify_options *options, struct zh_verifier **ret_verifier);
/*
 * Returns an enum zh_outcome. ZH_OK: all that is listed is right, and with ZH_VERIFY_EXTRA there is
 * nothing else. ZH_VERIFY: something is wrong or extra. ZH_PARTIAL: nothing is wrong, but some is
 * missing or unreadable; when nothing is right either, and all for the same reason, that reason
 * (ZH_SRC_GONE, ZH_SRC_IO). ZH_CONFIG: no directory, or not a whole manifest; ZH_SRC_GONE and
 * ZH_SRC_IO also for a manifest that does not exist or cannot be read: then the report is empty.
 */
ZH_API ZH_MUST_CHECK int zh_verifier_run(struct zh_verifier *verifier);
/* Files are all things that are listed; phase: "reading", "verifying", "searching", "done". */
ZH_API void zh_verifier_progress(
	const struct zh_verifier *verifier, struct zh_progress *ret_progress);
ZH_API void zh_verifier_cancel(struct zh_verifier *verifier);
/* The first error: of the run, else of the first finding. Lives as long as verifier. */
ZH_API const struct zh_error *zh_verifier_error(const struct zh_verifier *verifier);
/* Findings by index, NULL past the last. At most 10,000 are kept; the report counts them all. */
ZH_API const struct zh_finding *zh_verifier_finding_at(
	const struct zh_verifier *verifier, size_t index);
ZH_API const struct zh_verify_report *zh_verifier_report(const struct zh_verifier *verifier);
ZH_API void zh_verifier_free(struct zh_verifier *verifier);

/* ------------------------------ 5: names and version ----------------------------------- */

/* One of the limits that a server keeps, for `zerohaul serve --limits`. */
struct zh_limit {
	const char *name;
	const char *unit;
	const char *meaning;
	uint64_t value;
};

ZH_API const struct zh_limit *zh_limit_at(size_t index);
/* "NOSPACE" for ZH_NOSPACE and so on; "UNKNOWN" for other numbers. */
ZH_API const char *zh_outcome_name(int outcome);
/* One line that explains an outcome, for manuals and listings. */
ZH_API const char *zh_outcome_text(int outcome);
ZH_API const char *zh_version(void);
/* Put bytes (a name from a file system, say) as printable ASCII into out; always ends it. */
ZH_API void zh_escape(const void *bytes, size_t length, char *ret_text, size_t cap);

#ifdef __cplusplus
}
#endif

#endif
