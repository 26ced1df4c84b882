/* SPDX-License-Identifier: Apache-2.0 */
/* publish.c - the common steps of a commit. Owns nothing. */
#include "store/publish.h"

#include "base/clock.h"
#include "base/sys.h"
#include "store/xattrs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

int publish_name(
	const char *name, size_t length, char ret_name[ROOT_NAME_MAX + 1], struct zh_error *err)
{
	if (!root_name_ok(name, length))
		return err_set(
			err, ZH_UNSAFE_NAME, EINVAL, PUBLISH_RENAME, "not a name for a file");
	memcpy(ret_name, name, length);
	ret_name[length] = '\0';
	return 0;
}

int publish_times(
	int64_t mtime_s, uint32_t mtime_ns, struct timespec ret_times[2], struct zh_error *err)
{
	/* values from 10^9 on are errors or, worse, mean "now" and "leave it" to the kernel */
	if (mtime_ns >= NS_PER_S)
		return err_set(err, ZH_PROTO, EINVAL, PUBLISH_ATTRIBUTES, "not a time");
	ret_times[0] = (struct timespec){ .tv_nsec = UTIME_OMIT };
	ret_times[1] = (struct timespec){ .tv_sec = mtime_s, .tv_nsec = mtime_ns };
	return 0;
}

static int inherit_group(int parent, int fd)
{
	struct stat st;
	int r = sys_fstat(parent, &st);

	if (r == 0 && st.st_mode & S_ISGID)
		r = sys_fchownat(fd, "", (uid_t)-1, st.st_gid, AT_EMPTY_PATH);
	/* EINVAL: an id that this user namespace has not */
	return r == -EPERM || r == -EINVAL ? 0 : r;
}

int publish_inherit(int parent, int fd, struct zh_error *err)
{
	int r = inherit_group(parent, fd);

	if (r == 0)
		r = xattrs_inherit(parent, fd);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, PUBLISH_ATTRIBUTES,
			"group and access list of the directory cannot be set");
	return 0;
}

static int synced(int r, const char *stage, const char *what, struct zh_error *err)
{
	if (r < 0)
		return err_set(
			err, err_of_destination(r), r, stage, "%s is not safely stored", what);
	return 0;
}

int publish_sync(int fd, const char *stage, const char *what, struct zh_error *err)
{
	return synced(sys_fsync(fd), stage, what, err);
}

int publish_syncfs(int fd, const char *stage, const char *what, struct zh_error *err)
{
	return synced(sys_syncfs(fd), stage, what, err);
}

int publish_meddled(struct zh_error *err)
{
	return err_set(err, ZH_VERIFY, ESTALE, PUBLISH_CHECK,
		"the staging file was replaced, linked or cut by someone else");
}

/* RENAME_NOREPLACE by other means: a link never replaces anything either. */
static int rename_by_link(int dir, const char *staged, const struct publish_target *target)
{
	int r = sys_linkat(dir, staged, target->parent, target->name, 0);

	if (r < 0)
		return r;
	/*
	 * From here on the file is visible and complete, which a name left in staging does not
	 * change: whoever comes to that name next removes it. Tried twice all the same.
	 */
	if (sys_unlinkat(dir, staged, 0) < 0)
		sys_unlinkat_quiet(dir, staged, 0);
	return 0;
}

static bool lacks_flags(int r)
{
	return r == -EINVAL || r == -ENOSYS;
}

static int may_replace(const struct publish_target *target)
{
	enum root_kind kind;
	uint64_t size;
	struct stat st;
	int r = root_look(target->parent, target->name, &kind, &size);

	if (r < 0 || kind == ROOT_ABSENT)
		return r;
	if (target->no_clobber || kind == ROOT_DIRECTORY)
		return -EEXIST;
	if (kind == ROOT_FILE)
		return 0;
	if (!target->links)
		return -EEXIST;
	r = sys_fstatat(target->parent, target->name, &st, AT_SYMLINK_NOFOLLOW);
	return r == 0 && !S_ISLNK(st.st_mode) ? -EEXIST : r;
}

static int look_and_rename(int dir, const char *staged, const struct publish_target *target)
{
	int r = may_replace(target);

	if (r < 0)
		return r;
	r = sys_renameat2(dir, staged, target->parent, target->name,
		target->no_clobber ? RENAME_NOREPLACE : 0);
	if (target->no_clobber && lacks_flags(r))
		r = rename_by_link(dir, staged, target);
	return r;
}

static int rename_if_free(int dir, const char *staged, const struct publish_target *target)
{
	int r = sys_renameat2(dir, staged, target->parent, target->name, RENAME_NOREPLACE);

	if (r == -EEXIST ? !target->no_clobber : lacks_flags(r))
		r = look_and_rename(dir, staged, target);
	return r;
}

int publish_rename(
	int dir, const char *staged, const struct publish_target *target, struct zh_error *err)
{
	int r = target->likely_free ? rename_if_free(dir, staged, target)
				    : look_and_rename(dir, staged, target);

	return r < 0 ? publish_refused(r, err) : 0;
}

int publish_refused(int r, struct zh_error *err)
{
	if (r == -EEXIST || r == -EISDIR)
		return err_set(err, ZH_EXISTS, r, PUBLISH_RENAME,
			"the destination exists and is not to be replaced");
	return err_set(
		err, err_of_destination(r), r, PUBLISH_RENAME, "the file cannot be given its name");
}
