/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.c - many small files with few calls for each: open, write, futimens and fstat; later linkat
 * and close, or fstatat and rename for one with a staging name. What is slow, the disk, is waited
 * for once for all of them.
 *
 * A file that is synced by itself gets a staging name first: btrfs syncs the data of one that has
 * none, but leaves it out of its log, so that after a crash it could be there and empty.
 *
 * The descriptor for syncfs is the scratch directory's: it is opened before the first file is
 * written, and the kernel tells each descriptor of the errors since then (Linux 5.8).
 */
#include "store/batch.h"

#include "base/sys.h"
#include "store/publish.h"
#include "store/scratch.h"
#include "store/unnamed.h"
#include "store/xattrs.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>

#define STAGE_WRITE "write"
#define STAGE_LINK  "create link"
#define STAGE_SYNC  "syncfs"

/* Fewer files than this are synced one by one: syncfs waits for what others write as well. */
#define TOGETHER_LEAST 4
/* More directories than this are synced by syncfs: each fsync is a flush of the disk's cache. */
#define PLACES_MOST 8

/* A file system that keeps times worst has them to two seconds. */
#define TIME_STEP_S 2

struct batch {
	struct staging *staging;
	struct dirs *dirs;
	uint64_t largest;  /* file that may be written */
	bool syncfs_tells; /* of errors */
	pthread_mutex_t beginning;
	struct scratch scratch;
	struct unnamed unnamed;
	_Atomic uint64_t last; /* number given to a file */
	uint64_t lost; /* a sync that failed was after these, who may not hear of it again */
};

/* A name in the scratch directory. */
struct staged_name {
	char text[17];
};

int batch_new(struct staging *staging, struct dirs *dirs, struct batch **ret_batch)
{
	struct batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return -ENOMEM;
	batch->staging = staging;
	batch->dirs = dirs;
	batch->largest = min_u64(sys_file_size_limit(), INT64_MAX);
	batch->syncfs_tells = sys_kernel_is(5, 8);
	batch->beginning = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	batch->scratch.dir = -1;
	*ret_batch = batch;
	return 0;
}

void batch_free(struct batch *batch)
{
	if (!batch)
		return;
	CHECK(atomic_load(&batch->unnamed.count) == 0);
	scratch_close(batch->staging, &batch->scratch);
	free(batch);
}

static struct staged_name name_of(uint64_t number)
{
	struct staged_name name;

	(void)snprintf(name.text, sizeof(name.text), "%llx", (unsigned long long)number);
	return name;
}

static int begin(struct batch *batch, struct zh_error *err)
{
	struct staged_name nobodys = name_of(0);
	int r = 0;

	(void)pthread_mutex_lock(&batch->beginning);
	if (batch->scratch.dir < 0) {
		r = scratch_open(batch->staging, &batch->scratch, err);
		if (r == 0)
			unnamed_init(&batch->unnamed, batch->scratch.dir, nobodys.text);
	}
	(void)pthread_mutex_unlock(&batch->beginning);
	return r;
}

/* ------------------------------ writing ------------------------------------------------- */

static int check_file(const struct batch *batch, const struct batch_file *file, size_t length,
	struct zh_error *err)
{
	char name[ROOT_NAME_MAX + 1];
	int r = publish_name(file->name, file->name_length, name, err);

	if (r < 0)
		return r;
	/* -1 is no owner: chown(2) takes it for "leave it" */
	if (file->set_owner && (file->uid == UINT32_MAX || file->gid == UINT32_MAX))
		return err_set(err, ZH_PROTO, EINVAL, PUBLISH_ATTRIBUTES, "not an owner");
	/* asked beforehand, because crossing RLIMIT_FSIZE raises SIGXFSZ, which ends a program */
	if (!file->link && length > batch->largest)
		return err_set(err, ZH_LIMIT, EFBIG, STAGE_WRITE,
			"larger than this process or system may write");
	return 0;
}

static void note(struct batch_file *file, const struct stat *st)
{
	file->device = st->st_dev;
	file->inode = st->st_ino;
	file->bytes = (uint64_t)st->st_size;
	file->stored_s = st->st_mtim.tv_sec;
}

static int write_all(int fd, const uint8_t *bytes, size_t length)
{
	while (length > 0) {
		ssize_t wrote = sys_write(fd, bytes, length);
		if (wrote <= 0)
			return wrote < 0 ? (int)wrote
					 : -EIO; /* 0 for some bytes would be for ever */
		bytes += wrote;
		length -= (size_t)wrote;
	}
	return 0;
}

/* open has given the mode, unless a default ACL or another umask by now has taken from it. */
static int set_attributes(const struct batch *batch, struct batch_file *file, int fd,
	const struct timespec times[2], struct zh_error *err)
{
	mode_t mode = publish_mode(batch->staging, file->mode);
	const struct xattrs none = { .kinds = file->no_xattrs };
	struct stat st;
	int r = 0;

	if (file->set_owner)
		r = sys_fchownat(fd, "", file->uid, file->gid, AT_EMPTY_PATH);
	if (r == 0) /* a default access list has been inherited */
		r = xattrs_apply(fd, &none, err);
	if (r == 0)
		r = sys_futimens(fd, times);
	if (r == 0)
		r = sys_fstat(fd, &st);
	if (r == 0 && (st.st_mode & 07777) != mode)
		r = sys_fchmod(fd, mode);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, PUBLISH_ATTRIBUTES,
			"owner, mode and times cannot be set");
	note(file, &st);
	return 0;
}

/* What its owner may not read cannot be opened again to be synced. */
static bool is_synced_at_once(const struct batch *batch, const struct batch_file *file)
{
	return (publish_mode(batch->staging, file->mode) & 0400) == 0;
}

static int fill_file(const struct batch *batch, struct batch_file *file, int fd,
	const struct timespec times[2], const void *bytes, size_t length, struct zh_error *err)
{
	int r = write_all(fd, bytes, length);

	if (r < 0)
		return err_set(err, err_of_destination(r), r, STAGE_WRITE,
			"the staging file cannot be written");
	return set_attributes(batch, file, fd, times, err);
}

/* 1: not this way; nothing has happened. */
static int write_unnamed(struct batch *batch, struct batch_file *file,
	const struct timespec times[2], const void *bytes, size_t length, struct zh_error *err)
{
	int dir, fd, r;

	if (dirs_get(batch->dirs, file->parent, &dir) < 0)
		return 1; /* which batch_commit will find, and tell */
	fd = unnamed_open(&batch->unnamed, dir, publish_mode(batch->staging, file->mode));
	dirs_put(batch->dirs, file->parent);
	if (fd < 0)
		return 1;
	r = fill_file(batch, file, fd, times, bytes, length, err);
	if (r < 0) {
		unnamed_close(&batch->unnamed, fd);
		return r;
	}
	file->unnamed = true;
	file->fd = fd;
	return 0;
}

/* A parent that is not there is for batch_commit to find, and tell. */
static int inherit(
	const struct batch *batch, const struct batch_file *file, int fd, struct zh_error *err)
{
	int dir, r;

	if (dirs_get(batch->dirs, file->parent, &dir) < 0)
		return 0;
	r = publish_inherit(dir, fd, err);
	dirs_put(batch->dirs, file->parent);
	return r;
}

static int write_file(const struct batch *batch, struct batch_file *file, const char *staged,
	const struct timespec times[2], const void *bytes, size_t length, struct zh_error *err)
{
	int fd = sys_openat(batch->scratch.dir, staged, O_WRONLY | O_CREAT | O_EXCL,
		publish_mode(batch->staging, file->mode));
	int r;

	if (fd < 0)
		return err_set(err, err_of_destination(fd), fd, STAGE_WRITE,
			"no file can be made in the staging directory");
	r = inherit(batch, file, fd, err);
	if (r == 0)
		r = fill_file(batch, file, fd, times, bytes, length, err);
	if (r == 0 && is_synced_at_once(batch, file))
		r = publish_sync(fd, PUBLISH_SYNC, "the file", err);
	sys_close(fd);
	if (r < 0)
		sys_unlinkat_quiet(batch->scratch.dir, staged, 0);
	return r;
}

static int set_link_attributes(const struct batch *batch, struct batch_file *file,
	const char *staged, const struct timespec times[2], struct zh_error *err)
{
	int dir = batch->scratch.dir;
	struct stat st;
	int r = 0;

	if (file->set_owner)
		r = sys_fchownat(dir, staged, file->uid, file->gid, AT_SYMLINK_NOFOLLOW);
	if (r == 0)
		r = sys_utimensat(dir, staged, times, AT_SYMLINK_NOFOLLOW);
	if (r == 0)
		r = sys_fstatat(dir, staged, &st, AT_SYMLINK_NOFOLLOW);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, PUBLISH_ATTRIBUTES,
			"owner and times of the link cannot be set");
	note(file, &st);
	return 0;
}

static int write_link(const struct batch *batch, struct batch_file *file, const char *staged,
	const struct timespec times[2], const void *bytes, size_t length, struct zh_error *err)
{
	char target[PATH_MAX];
	int r;

	if (length >= sizeof(target))
		return err_set(err, ZH_LIMIT, ENAMETOOLONG, STAGE_LINK, "a link as long as that");
	if (length == 0 || memchr(bytes, '\0', length))
		return err_set(err, ZH_UNSAFE_NAME, EINVAL, STAGE_LINK, "not a target for a link");
	memcpy(target, bytes, length);
	target[length] = '\0';
	r = sys_symlinkat(target, batch->scratch.dir, staged);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, STAGE_LINK,
			"no link can be made in the staging directory");
	r = set_link_attributes(batch, file, staged, times, err);
	if (r < 0)
		sys_unlinkat_quiet(batch->scratch.dir, staged, 0);
	return r;
}

int batch_write(struct batch *batch, struct batch_file *file, const void *bytes, size_t length,
	struct zh_error *err)
{
	struct timespec times[2];
	struct staged_name staged;
	uint64_t number = 0;
	int r = check_file(batch, file, length, err);

	file->staged = 0;
	file->unnamed = false;
	file->error = NULL;
	if (r == 0)
		r = publish_times(file->mtime_s, file->mtime_ns, times, err);
	if (r == 0)
		r = begin(batch, err);
	if (r == 0) {
		number = atomic_fetch_add(&batch->last, 1) + 1;
		staged = name_of(number);
		r = file->link ? write_link(batch, file, staged.text, times, bytes, length, err)
			       : write_unnamed(batch, file, times, bytes, length, err);
		if (r == 1)
			r = write_file(batch, file, staged.text, times, bytes, length, err);
	}
	if (r == 0)
		file->staged = number;
	else if (err)
		err_file(err, file->name, file->name_length, 0);
	return r;
}

static void close_unnamed(struct batch *batch, struct batch_file *file)
{
	unnamed_close(&batch->unnamed, file->fd);
	file->unnamed = false;
}

void batch_drop(struct batch *batch, struct batch_file *file)
{
	struct staged_name staged = name_of(file->staged);

	if (file->staged == 0)
		return;
	if (file->unnamed)
		close_unnamed(batch, file);
	else
		sys_unlinkat_quiet(batch->scratch.dir, staged.text, 0);
	file->staged = 0;
}

/* ------------------------------ committing ---------------------------------------------- */

static void fail(struct batch *batch, struct batch_file *file, const struct zh_error *err)
{
	file->error = malloc(sizeof(*file->error));
	CHECK(file->error); /* without it a lost file would pass for a good one */
	*file->error = *err;
	err_file(file->error, file->name, file->name_length, 0);
	batch_drop(batch, file);
}

/* Those of the files that are as they should be so far, and are a link or not. */
static void fail_rest(struct batch *batch, struct batch_file *const *file, size_t count,
	bool links_only, const struct zh_error *err)
{
	for (size_t i = 0; i < count; i++)
		if (!file[i]->error && (file[i]->link || !links_only))
			fail(batch, file[i], err);
}

/* Its failure is told once, also on behalf of what was staged by then and is not in this commit. */
static int sync_all(struct batch *batch, const char *stage, const char *what, struct zh_error *err)
{
	int r = publish_syncfs(batch->scratch.dir, stage, what, err);

	if (r < 0)
		batch->lost = atomic_load(&batch->last);
	return r;
}

/* Gives an unnamed file its staging name. Its descriptor stays open. */
static int name_unnamed(
	const struct batch *batch, const struct batch_file *file, struct zh_error *err)
{
	struct staged_name staged = name_of(file->staged);
	int r = unnamed_link(&batch->unnamed, file->fd, batch->scratch.dir, staged.text);

	return r < 0 ? err_set(err, err_of_destination(r), r, PUBLISH_RENAME,
			       "the file cannot be given a name in the staging directory")
		     : 0;
}

static int sync_unnamed(struct batch *batch, struct batch_file *file, struct zh_error *err)
{
	int r = name_unnamed(batch, file, err);

	if (r < 0)
		return r;
	r = publish_sync(file->fd, PUBLISH_SYNC, "the file", err);
	close_unnamed(batch, file);
	return r;
}

static int sync_named(struct batch *batch, const struct batch_file *file, struct zh_error *err)
{
	struct staged_name staged = name_of(file->staged);
	int fd = sys_openat(batch->scratch.dir, staged.text, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	int r;

	if (fd == -ENOENT || fd == -ELOOP)
		return publish_meddled(err);
	if (fd < 0)
		return err_set(err, err_of_destination(fd), fd, PUBLISH_SYNC,
			"the staging file cannot be opened");
	r = publish_sync(fd, PUBLISH_SYNC, "the file", err);
	sys_close(fd);
	return r;
}

static int sync_file(struct batch *batch, struct batch_file *file, struct zh_error *err)
{
	if (file->unnamed)
		return sync_unnamed(batch, file, err);
	return is_synced_at_once(batch, file) ? 0 : sync_named(batch, file, err);
}

/* A link cannot be opened: it is synced with the directory that it is in. */
static void sync_each(struct batch *batch, struct batch_file *const *file, size_t count)
{
	bool links = false;
	struct zh_error err;

	for (size_t i = 0; i < count; i++) {
		err_init(&err);
		links |= file[i]->link;
		if (file[i]->error || file[i]->link)
			continue;
		if (sync_file(batch, file[i], &err) < 0)
			fail(batch, file[i], &err);
	}
	err_init(&err);
	if (links && publish_sync(batch->scratch.dir, PUBLISH_SYNC, "the link", &err) < 0)
		fail_rest(batch, file, count, true, &err);
}

static void sync_contents(struct batch *batch, struct batch_file *const *file, size_t count)
{
	struct zh_error err;

	for (size_t i = 0; i < count; i++)
		if (file[i]->staged <= batch->lost) {
			err_init(&err);
			(void)err_set(&err, ZH_DST_IO, EIO, STAGE_SYNC,
				"it was staged when a sync failed");
			fail(batch, file[i], &err);
		}
	if (count < TOGETHER_LEAST || !batch->syncfs_tells) {
		sync_each(batch, file, count);
		return;
	}
	err_init(&err);
	if (sync_all(batch, STAGE_SYNC, "the file", &err) < 0)
		fail_rest(batch, file, count, false, &err);
}

/* The directories that names are given in. */
struct places {
	size_t count;
	bool many; /* some that were not synced are not here any more: only syncfs does it now */
	struct place {
		uint64_t id;
		int fd;
	} place[PLACES_MOST];
};

/* One call of batch_commit. */
struct round {
	struct batch *batch;
	struct batch_file *const *file;
	size_t placed; /* files that were tried */
	enum zh_durability durability;
	struct places places;
};

static void sync_places(struct round *round)
{
	struct zh_error err;

	for (size_t p = 0; p < round->places.count; p++) {
		const struct place *place = &round->places.place[p];
		err_init(&err);
		if (publish_sync(place->fd, PUBLISH_SYNC_DIR, "the name of the file", &err) == 0)
			continue;
		for (size_t i = 0; i < round->placed; i++)
			if (!round->file[i]->error && round->file[i]->parent == place->id)
				fail(round->batch, round->file[i], &err);
	}
}

static void sync_names(struct round *round)
{
	struct zh_error err;

	if (!round->places.many) {
		sync_places(round);
		return;
	}
	err_init(&err);
	if (sync_all(round->batch, PUBLISH_SYNC_DIR, "the name of the file", &err) < 0)
		fail_rest(round->batch, round->file, round->placed, false, &err);
}

static void release(struct round *round)
{
	struct places *places = &round->places;

	while (places->count > 0)
		dirs_put(round->batch->dirs, places->place[--places->count].id);
}

static void make_room(struct round *round)
{
	if (round->batch->syncfs_tells)
		round->places.many = true;
	else if (round->durability == ZH_DURABLE_FULL)
		sync_places(round);
	release(round);
}

static int find_place(struct round *round, uint64_t id, int *ret_fd)
{
	struct places *places = &round->places;
	int r;

	for (size_t i = places->count; i-- > 0;)
		if (places->place[i].id == id) {
			*ret_fd = places->place[i].fd;
			return 0;
		}
	if (places->count == PLACES_MOST)
		make_room(round);
	r = dirs_get(round->batch->dirs, id, ret_fd);
	if (r == 0)
		places->place[places->count++] = (struct place){ .id = id, .fd = *ret_fd };
	return r;
}

/* The number of an inode may be given again, so its size and time have to be right as well. */
static int check_staged(const struct batch *batch, const struct batch_file *file,
	const char *staged, struct zh_error *err)
{
	struct stat st;
	int r = sys_fstatat(batch->scratch.dir, staged, &st, AT_SYMLINK_NOFOLLOW);

	if (r < 0 && r != -ENOENT)
		return err_set(err, err_of_destination(r), r, PUBLISH_CHECK,
			"the staging file cannot be looked at");
	if (r < 0 || st.st_dev != file->device || st.st_ino != file->inode || st.st_nlink != 1 ||
		(uint64_t)st.st_size != file->bytes ||
		llabs((long long)st.st_mtim.tv_sec - file->stored_s) >= TIME_STEP_S)
		return publish_meddled(err);
	return 0;
}

static int place_named(const struct batch *batch, struct batch_file *file,
	const struct publish_target *target, struct zh_error *err)
{
	struct staged_name staged = name_of(file->staged);
	int r = check_staged(batch, file, staged.text, err);

	return r < 0 ? r : publish_rename(batch->scratch.dir, staged.text, target, err);
}

/* A link never replaces anything. Where something is to be replaced, a rename does it. */
static int place_unnamed(struct batch *batch, struct batch_file *file,
	struct publish_target *target, struct zh_error *err)
{
	int r = unnamed_link(&batch->unnamed, file->fd, target->parent, target->name);

	if (r == -EEXIST && !target->no_clobber) {
		r = name_unnamed(batch, file, err);
		if (r < 0)
			return r;
		close_unnamed(batch, file);
		target->likely_free = false;
		return place_named(batch, file, target, err);
	}
	if (r < 0)
		return publish_refused(r, err);
	close_unnamed(batch, file);
	return 0;
}

static int place_file(struct round *round, struct batch_file *file, struct zh_error *err)
{
	struct batch *batch = round->batch;
	char name[ROOT_NAME_MAX + 1];
	struct publish_target target = {
		.name = name, .no_clobber = file->no_clobber, .links = true, .likely_free = true
	};
	int r = publish_name(file->name, file->name_length, name, err);

	if (r < 0)
		return r;
	r = find_place(round, file->parent, &target.parent);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, PUBLISH_RENAME,
			"the directory of the file cannot be reached");
	r = file->unnamed ? place_unnamed(batch, file, &target, err)
			  : place_named(batch, file, &target, err);
	if (r == 0)
		file->staged = 0;
	return r;
}

void batch_commit(struct batch *batch, struct batch_file *const *file, size_t count,
	enum zh_durability durability)
{
	struct round round = { .batch = batch, .file = file, .durability = durability };
	struct zh_error err;

	for (size_t i = 0; i < count; i++) {
		CHECK(file[i]->staged != 0);
		file[i]->error = NULL;
	}
	if (count > 0 && durability != ZH_DURABLE_NONE)
		sync_contents(batch, file, count);
	for (; round.placed < count; round.placed++) {
		err_init(&err);
		if (!file[round.placed]->error && place_file(&round, file[round.placed], &err) < 0)
			fail(batch, file[round.placed], &err);
	}
	if (durability == ZH_DURABLE_FULL)
		sync_names(&round);
	release(&round);
}
