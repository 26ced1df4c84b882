/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit.c - the last steps of a received file, in the one order that keeps the promise of
 * commit.h. Decides nothing about content: whoever calls has verified it.
 */
#include "store/commit.h"

#include "base/clock.h"
#include "base/sys.h"
#include "kernel/file.h"
#include "store/root.h"

#include <errno.h>
#include <stdio.h>

#define STAGE_CHECK      "check staging"
#define STAGE_ATTRIBUTES "set attributes"
#define STAGE_SYNC       "fsync"
#define STAGE_RENAME     "rename"
#define STAGE_SYNC_DIR   "fsync directory"

static int check_staged(
	const struct staging *staging, const struct partial *partial, struct zh_error *err)
{
	uint64_t size;
	int r = partial_check(staging, partial, &size);

	if (r == -ESTALE)
		return err_set(err, ZH_VERIFY, r, STAGE_CHECK,
			"the staging file was replaced, linked or cut by someone else");
	/* O_DIRECT writes whole blocks, so the last one may reach past the end */
	if (r == 0 && size > partial->size)
		r = sys_ftruncate(partial->fd, partial->size);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, STAGE_CHECK,
			"the staging file cannot be finished");
	return 0;
}

/* Times last: a change of size after them would move the mtime. */
static int set_attributes(const struct staging *staging, const struct partial *partial,
	const struct commit *commit, struct zh_error *err)
{
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = commit->mtime_s, .tv_nsec = commit->mtime_ns },
	};
	int r;

	/* values from 10^9 on are errors or, worse, mean "now" and "leave it" to the kernel */
	if (commit->mtime_ns >= NS_PER_S)
		return err_set(err, ZH_PROTO, EINVAL, STAGE_ATTRIBUTES, "not a time");
	r = sys_fchmod(partial->fd, commit->mode & 0777 & ~(mode_t)staging->umask);
	if (r == 0)
		r = sys_futimens(partial->fd, times);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, STAGE_ATTRIBUTES,
			"mode and times cannot be set");
	return 0;
}

static int sync_or_fail(int fd, const char *stage, const char *what, struct zh_error *err)
{
	int r = sys_fsync(fd);

	if (r < 0)
		return err_set(
			err, err_of_destination(r), r, stage, "%s is not safely stored", what);
	return 0;
}

/* RENAME_NOREPLACE by other means: a link never replaces anything either. */
static int publish_by_link(const struct staging *staging, const struct partial *partial,
	const struct commit *commit, const char *name)
{
	int r = sys_linkat(staging->dir, partial->name, commit->parent, name, 0);

	if (r < 0)
		return r;
	/*
	 * From here on the file is visible and complete, which a name left in staging does not
	 * change: the next partial_open of this key removes it. Tried twice all the same.
	 */
	if (sys_unlinkat(staging->dir, partial->name, 0) < 0)
		sys_unlinkat_quiet(staging->dir, partial->name, 0);
	return 0;
}

static int publish(const struct staging *staging, const struct partial *partial,
	const struct commit *commit, const char *name)
{
	enum root_kind kind;
	uint64_t size;
	int r = root_look(commit->parent, name, &kind, &size);

	if (r < 0)
		return r;
	if (kind == ROOT_DIRECTORY || kind == ROOT_OTHER ||
		(kind == ROOT_FILE && commit->no_clobber))
		return -EEXIST;
	r = sys_renameat2(staging->dir, partial->name, commit->parent, name,
		commit->no_clobber ? RENAME_NOREPLACE : 0);
	if (commit->no_clobber && (r == -EINVAL || r == -ENOSYS))
		r = publish_by_link(staging, partial, commit, name);
	return r;
}

static int publish_or_fail(const struct staging *staging, const struct partial *partial,
	const struct commit *commit, const char *name, struct zh_error *err)
{
	int r = publish(staging, partial, commit, name);

	if (r == -EEXIST || r == -EISDIR)
		return err_set(err, ZH_EXISTS, r, STAGE_RENAME,
			"the destination exists and is not to be replaced");
	if (r < 0)
		return err_set(err, err_of_destination(r), r, STAGE_RENAME,
			"the file cannot be given its name");
	return 0;
}

int commit_file(struct staging *staging, struct partial *partial, const struct commit *commit,
	struct zh_error *err)
{
	char name[ROOT_NAME_MAX + 1];
	int r = 0;

	if (!root_name_ok(commit->name, commit->name_length)) {
		r = err_set(err, ZH_UNSAFE_NAME, EINVAL, STAGE_RENAME, "not a name for a file");
	} else {
		memcpy(name, commit->name, commit->name_length);
		name[commit->name_length] = '\0';
		r = check_staged(staging, partial, err);
	}
	if (r == 0)
		r = set_attributes(staging, partial, commit, err);
	if (r == 0 && commit->durability != ZH_DURABLE_NONE)
		r = sync_or_fail(partial->fd, STAGE_SYNC, "the file", err);
	if (r == 0)
		r = publish_or_fail(staging, partial, commit, name, err);
	if (r < 0) {
		partial_discard(staging, partial);
	} else {
		partial->cached_bytes = file_leave(partial->fd, partial->size, commit->drop_cache);
		partial_keep(partial);
		if (commit->durability == ZH_DURABLE_FULL)
			r = sync_or_fail(
				commit->parent, STAGE_SYNC_DIR, "the name of the file", err);
	}
	if (r < 0 && err)
		err_file(err, commit->name, commit->name_length, 0);
	return r;
}
