/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit.c - the last steps of a received file, in the one order that keeps the promise of
 * commit.h. Decides nothing about content: whoever calls has verified it.
 */
#include "store/commit.h"

#include "base/sys.h"
#include "kernel/file.h"
#include "store/publish.h"

#include <errno.h>

static int check_staged(
	const struct staging *staging, const struct partial *partial, struct zh_error *err)
{
	uint64_t size;
	int r = partial_check(staging, partial, &size);

	if (r == -ESTALE)
		return publish_meddled(err);
	/* O_DIRECT writes whole blocks, so the last one may reach past the end */
	if (r == 0 && size > partial->size)
		r = sys_ftruncate(partial->fd, partial->size);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, PUBLISH_CHECK,
			"the staging file cannot be finished");
	return 0;
}

/* Times last: a change of size after them would move the mtime. */
static int set_attributes(const struct staging *staging, const struct partial *partial,
	const struct commit *commit, struct zh_error *err)
{
	struct timespec times[2];
	int r = publish_times(commit->mtime_s, commit->mtime_ns, times, err);

	if (r == 0)
		r = publish_inherit(commit->parent, partial->fd, err);
	if (r < 0)
		return r;
	if (commit->set_owner)
		r = sys_fchownat(partial->fd, "", commit->uid, commit->gid, AT_EMPTY_PATH);
	if (r == 0 && commit->xattrs) /* a change of owner would take some of them away */
		r = xattrs_apply(partial->fd, commit->xattrs, err);
	if (r == 0)
		r = sys_fchmod(partial->fd, publish_mode(staging, commit->mode));
	if (r == 0)
		r = sys_futimens(partial->fd, times);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, PUBLISH_ATTRIBUTES,
			"mode and times cannot be set");
	return 0;
}

int commit_file(struct staging *staging, struct partial *partial, const struct commit *commit,
	struct zh_error *err)
{
	char name[ROOT_NAME_MAX + 1];
	struct publish_target target = {
		.parent = commit->parent, .name = name, .no_clobber = commit->no_clobber
	};
	int r = publish_name(commit->name, commit->name_length, name, err);

	if (r == 0)
		r = check_staged(staging, partial, err);
	if (r == 0)
		r = set_attributes(staging, partial, commit, err);
	if (r == 0 && commit->durability != ZH_DURABLE_NONE)
		r = publish_sync(partial->fd, PUBLISH_SYNC, "the file", err);
	if (r == 0)
		r = publish_rename(staging->dir, partial->name, &target, err);
	if (r < 0) {
		partial_discard(staging, partial);
	} else {
		partial->cached_bytes = file_leave(partial->fd, partial->size, commit->drop_cache);
		partial_keep(partial);
		if (commit->durability == ZH_DURABLE_FULL)
			r = publish_sync(
				commit->parent, PUBLISH_SYNC_DIR, "the name of the file", err);
	}
	if (r < 0 && err)
		err_file(err, commit->name, commit->name_length, 0);
	return r;
}
