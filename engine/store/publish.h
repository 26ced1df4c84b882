/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish.h - the steps that commit.c takes for one file and batch.c for many: what a file may be
 * called and bear, what may be replaced, and how it gets its name. Each fills err, which may be
 * NULL, at the place that knows. The order of the steps, and so the promise, is the callers'.
 */
#ifndef ZH_STORE_PUBLISH_H
#define ZH_STORE_PUBLISH_H

#include "store/staging.h"

#include <sys/stat.h>
#include <time.h>

#define PUBLISH_CHECK      "check staging"
#define PUBLISH_ATTRIBUTES "set attributes"
#define PUBLISH_SYNC       "fsync"
#define PUBLISH_RENAME     "rename"
#define PUBLISH_SYNC_DIR   "fsync directory"

/* Copies the name of length bytes, and ends it. UNSAFE_NAME: not root_name_ok. */
int publish_name(const char *name, size_t length, char ret_name[ROOT_NAME_MAX + 1],
	struct zh_error *err) must_check;
/* What futimens(2) takes: the access time is left alone. PROTO: no such time. */
int publish_times(int64_t mtime_s, uint32_t mtime_ns, struct timespec ret_times[2],
	struct zh_error *err) must_check;
/* The permissions that a file gets; set-id bits never. */
static inline mode_t publish_mode(const struct staging *staging, uint32_t mode)
{
	return mode & 0777 & ~(mode_t)staging->umask;
}

/*
 * What a file made in parent would get from it, and one made in staging does not: its group, where
 * the directory hands that down (S_ISGID) and this process may, and its default access list. The
 * owner and the mode are to be set afterwards.
 */
int publish_inherit(int parent, int fd, struct zh_error *err) must_check;

/* A descriptor's file or directory; syncfs: all of its file system. A failure is final. */
int publish_sync(int fd, const char *stage, const char *what, struct zh_error *err) must_check;
int publish_syncfs(int fd, const char *stage, const char *what, struct zh_error *err) must_check;

/* Fills VERIFY: what the staging name is, is not what was written. */
int publish_meddled(struct zh_error *err) must_check;

/* The target of publish_rename. */
struct publish_target {
	int parent;
	const char *name;
	bool no_clobber;  /* only what is absent */
	bool links;       /* a symbolic link may be replaced as a regular file may */
	bool likely_free; /* spares the look: worth a rename more when something is there */
};

/*
 * Gives the file staged in dir its name, as the last step: rename (RENAME_NOREPLACE under
 * no_clobber; linkat + unlinkat where the file system lacks it). EXISTS: what is there is not to be
 * replaced; else the outcome that the call's errno means.
 */
int publish_rename(int dir, const char *staged, const struct publish_target *target,
	struct zh_error *err) must_check;

/* Fills what it means that a name could not be given, by r: EXISTS, or what the errno means. */
int publish_refused(int r, struct zh_error *err) must_check;

#endif
