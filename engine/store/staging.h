/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging.h - where unfinished files live: `.zerohaul-staging/` (0700) in the receiver's root, on
 * the same file system. A partial's name is derived from (destination directory, name, size,
 * mtime), so an interrupted transfer of the same file finds it again; a lock keeps two receivers
 * apart. Thread: one at a time for each struct staging.
 */
#ifndef ZH_STORE_STAGING_H
#define ZH_STORE_STAGING_H

#include "base/err.h"
#include "base/leaf.h"
#include "base/util.h"
#include "zerohaul.h"

#include "store/root.h"

#include <pthread.h>

#define STAGING_DIRECTORY ROOT_RESERVED
#define STAGING_NAME_CAP  48
/* Rounds of losing a race against another receiver that commits, cleans up or leaves. */
#define STAGING_TRIES 512

struct staging {
	int root; /* borrowed */
	int dir;  /* owned and held by a shared lock; opened by the first partial */
	uint64_t device;
	int umask; /* of this process when staging_init was called, or a negative errno */
	pthread_mutex_t entering;
};

/* What a partial is for: its identity, from which the name is derived. */
struct staging_key {
	uint64_t parent_device; /* of the destination directory */
	uint64_t parent_inode;
	const char *name;
	size_t name_length;
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	/* no part of the identity */
	bool keep;   /* see partial_open */
	bool sparse; /* room is made by the caller, for data_bytes in all */
	uint64_t data_bytes;
};

struct partial {
	int fd;        /* read and write, locked */
	uint64_t size; /* as announced */
	uint64_t device;
	uint64_t inode;
	char name[STAGING_NAME_CAP]; /* in the staging directory */
	bool kept;                   /* has what an earlier transfer left in it */
	uint64_t cached_bytes;       /* of it in the page cache, when it was committed */
};

/* Reads the umask from /proc, which has to be done before a sandbox closes it. */
void staging_init(struct staging *staging, int root);
/* Closes; removes the directory when it is empty. */
void staging_fini(struct staging *staging);
/*
 * Makes, opens and holds the directory unless that is done. Any thread. -ESTALE, with err
 * untouched: another receiver has just removed it, to be tried again (STAGING_TRIES). Fills err as
 * partial_open does.
 */
int staging_enter(struct staging *staging, struct zh_error *err) must_check;
/* Locks a directory. -ESTALE: it was removed meanwhile; else what flock or fstat reports. */
int staging_lock(int dir, int operation) must_check;

/*
 * Creates or takes over the partial for key and gives it its full size at once: fallocate mode 0,
 * so that a full disk is an early and clear error, or ftruncate where the file system cannot (and
 * on tmpfs, see partial_allocate). An older partial of the same key is emptied first, unless it is
 * to be kept and has all of its size: then what is in it is for the caller to prove. Fills err:
 * NOSPACE, QUOTA, PERM, BUSY (locked by another receiver), DST_IO, EXISTS (the name of the staging
 * directory is taken by something else), LIMIT, UNSAFE_NAME, INTERNAL. On failure nothing new is
 * left behind; an older partial may stay.
 */
int partial_open(struct staging *staging, const struct staging_key *key,
	struct partial *ret_partial, struct zh_error *err) must_check;
/* A sparse one: makes room for its data. 0, or what fallocate reports. */
int partial_reserve(
	const struct partial *partial, const struct zh_extent *extent, size_t count) must_check;
/*
 * Makes holes of all that is not data, whatever was there; the extents are sorted. -EOPNOTSUPP
 * where the file system has none.
 */
int partial_punch(
	const struct partial *partial, const struct zh_extent *extent, size_t count) must_check;
/*
 * Ranges of whole leaves that have been written, as the file system tells: sorted, at most cap;
 * what does not fit is left out. 0, -EOPNOTSUPP: it cannot tell; what lseek reports.
 */
int partial_written(const struct partial *partial, struct zh_extent *ret_range, size_t cap,
	size_t *ret_count) must_check;
/* Unlinks and closes. Safe on fd -1. */
void partial_discard(struct staging *staging, struct partial *partial);
/* Closes but leaves the file for a later resume. Safe on fd -1. */
void partial_keep(struct partial *partial);

/*
 * 0 when the staging name of partial is still its inode, this is its only name, and the size is not
 * below the announced one; else -ESTALE, or what fstat reports.
 */
int partial_check(const struct staging *staging, const struct partial *partial,
	uint64_t *ret_size) must_check;

#endif
