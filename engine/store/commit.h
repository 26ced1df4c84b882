/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit.h - from staging to visible and durable: final size, owner, attributes, mode and times,
 * fsync, rename, fsync of the directory. The visible name is absent, old or complete at every
 * moment. A failed fsync is final: the kernel has marked the lost pages clean, so asking again
 * would lie.
 */
#ifndef ZH_STORE_COMMIT_H
#define ZH_STORE_COMMIT_H

#include "store/staging.h"
#include "store/xattrs.h"
#include "zerohaul.h"

struct commit {
	int parent;       /* destination directory, borrowed */
	const char *name; /* one component */
	size_t name_length;
	uint32_t mode; /* 0777 & ~umask is applied here; set-id bits never */
	int64_t mtime_s;
	uint32_t mtime_ns;
	bool no_clobber;
	bool set_owner; /* before the mode, which it changes */
	uint32_t uid;
	uint32_t gid;
	const struct xattrs *xattrs; /* borrowed; NULL: left alone */
	enum zh_durability durability;
	bool drop_cache; /* leaves nothing in the page cache, as far as it is on the disk */
};

/*
 * Commits one partial. On success the partial is closed and its staging name gone. On failure it is
 * discarded, and the visible name is as it was. Order: check that the staging name is still our
 * inode and its only name; cut to the announced size; owner; extended attributes; fchmod; futimens;
 * fsync (full, file); look at the target; rename (RENAME_NOREPLACE under no_clobber; linkat +
 * unlinkat where the file system lacks it); fsync of the directory (full). The target may be absent
 * or a regular file; anything else (directory, link, FIFO, device) is EXISTS. If only the final
 * directory fsync fails, the name is visible but the result is an error. Fills err: EXISTS,
 * NOSPACE, QUOTA, PERM, DST_IO, LIMIT, UNSAFE_NAME (not root_name_ok), PROTO (no such time), VERIFY
 * (the staging file was replaced, linked elsewhere or cut). A time that the file system cannot
 * store becomes the nearest one that it can.
 */
int commit_file(struct staging *staging, struct partial *partial, const struct commit *commit,
	struct zh_error *err) must_check;

#endif
