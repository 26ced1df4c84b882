/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h - many small files from memory to visible and durable, together: each is written as it
 * comes; then all of them are synced at once (syncfs), given their names, and the names are synced
 * at once. The promise is that of commit.h: a visible name is absent, old or complete, and durable
 * when batch_commit says so.
 *
 * Until then a file has no name at all, only a descriptor (unnamed.h), so nobody can meddle with it
 * and a killed receiver leaves nothing of it. A link, a file when the descriptors are used up or
 * the file system knows no such files, and one whose name is taken or that is synced by itself, has
 * a staging name. Those of a batch are in a directory of their own in the staging directory, locked
 * while its receiver lives; what a killed one has left is removed by the next one that begins.
 *
 * Thread: batch_write by any number of threads at once, also beside the rest, which is for one at a
 * time.
 */
#ifndef ZH_STORE_BATCH_H
#define ZH_STORE_BATCH_H

#include "store/dirs.h"
#include "store/staging.h"
#include "zerohaul.h"

struct batch;

/* One small file or symbolic link. */
struct batch_file {
	uint64_t parent;  /* directory of dirs */
	const char *name; /* one component, borrowed until committed */
	size_t name_length;
	bool link; /* bytes are the target of a symbolic link */
	bool no_clobber;
	bool set_owner;
	uint32_t uid;
	uint32_t gid;
	uint32_t no_xattrs; /* kinds (enum xattr_kind) that it is to have none of */
	uint32_t mode;
	int64_t mtime_s;
	uint32_t mtime_ns;
	/* filled by batch_write */
	uint64_t staged; /* number that its staging name is made from; 0: nothing is staged */
	bool unnamed;    /* it has no such name, and fd is open */
	int fd;
	uint64_t device;
	uint64_t inode;
	uint64_t bytes;
	int64_t stored_s; /* mtime as the file system keeps it */
	/* filled by batch_commit */
	struct zh_error *error; /* NULL: visible, and durable as asked. Owned: free() */
};

/* staging and dirs are borrowed and outlive it. Nothing is made before the first batch_write. */
int batch_new(struct staging *staging, struct dirs *dirs, struct batch **ret_batch) must_check;
/* Every file that was written is committed or dropped by then. */
void batch_free(struct batch *batch);

/*
 * Writes one, with its mode (0777 & ~umask), times and owner. Fills err as partial_open
 * and commit_file do: UNSAFE_NAME for a name or a link that is none, PROTO for a time or an owner
 * that is none, LIMIT; on failure nothing of it is left.
 */
int batch_write(struct batch *batch, struct batch_file *file, const void *bytes, size_t length,
	struct zh_error *err) must_check;
/* Removes one that was written and is not wanted after all. Nothing if nothing is staged. */
void batch_drop(struct batch *batch, struct batch_file *file);

/*
 * Commits files that were written. One that fails has its error and is dropped; the others do not
 * suffer, except that a failed sync fails every one that was not durable before it, and those that
 * were staged by then when their turn comes: the kernel tells of lost pages once. Files are visible
 * with an error only if their names could not be synced. A target that is not absent, a regular
 * file or a link is EXISTS; so is any with no_clobber. A staging file that was replaced, linked or
 * cut is VERIFY. Where syncfs does not tell of errors (before Linux 5.8) each file is synced by
 * itself.
 */
void batch_commit(struct batch *batch, struct batch_file *const *file, size_t count,
	enum zh_durability durability);

#endif
