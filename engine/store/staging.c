/* SPDX-License-Identifier: Apache-2.0 */
/*
 * staging.c - the staging directory and the partials in it. Owns the descriptors and the locks; the
 * directory is private to this user, so only other receivers of the same user can interfere, and
 * those take the lock.
 */
#include "store/staging.h"

#include "base/sys.h"
#include "store/xattrs.h"

#include <errno.h>
#include <unistd.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <xxhash.h>

#define STAGE_DIR   "open staging"
#define STAGE_FILE  "create file"
#define STAGE_SPACE "allocate"

/*
 * umask(2) cannot be read without being changed for every thread for a moment, in which another
 * thread may create a file; /proc tells it without.
 */
static int read_umask(void)
{
	char text[512], *line;
	ssize_t length;
	int fd = sys_openat(AT_FDCWD, "/proc/self/status", O_RDONLY, 0);

	if (fd == -ENOENT)
		return 077; /* no /proc here: nobody else gets in by a guess of ours */
	if (fd < 0)
		return fd;
	length = sys_read(fd, text, sizeof(text) - 1);
	sys_close(fd);
	if (length < 0)
		return (int)length;
	text[length] = '\0';
	line = strstr(text, "\nUmask:");
	return line ? (int)(strtoul(line + 7, NULL, 8) & 0777) : 077;
}

void staging_init(struct staging *staging, int root)
{
	*staging = (struct staging){ .root = root,
		.dir = -1,
		.umask = read_umask(),
		.entering = PTHREAD_MUTEX_INITIALIZER };
}

void staging_fini(struct staging *staging)
{
	if (staging->dir < 0)
		return;
	/* Other receivers hold it shared. ENOTEMPTY: a partial was kept for a later resume. */
	if (sys_flock(staging->dir, LOCK_EX | LOCK_NB) == 0)
		sys_unlinkat_quiet(staging->root, STAGING_DIRECTORY, AT_REMOVEDIR);
	sys_close(staging->dir);
	staging->dir = -1;
}

/*
 * Ours: no other user can put a name there or exchange one. Reading is not checked, because some
 * file systems show 0755 whatever is asked for, and a partial's own mode is 0600.
 */
static int check_private(const struct staging *staging, int dir, uint64_t *ret_device)
{
	struct stat root, st;
	int r = sys_fstat(staging->root, &root);

	if (r == 0)
		r = sys_fstat(dir, &st);
	if (r < 0)
		return r;
	if (st.st_dev != root.st_dev)
		return -EXDEV;
	if (st.st_uid != sys_euid() || (st.st_mode & 0022) != 0)
		return -EPERM;
	*ret_device = st.st_dev;
	return 0;
}

int staging_lock(int dir, int operation)
{
	struct stat st;
	int r = sys_flock(dir, operation);

	if (r == 0)
		r = sys_fstat(dir, &st);
	return r == 0 && st.st_nlink == 0 ? -ESTALE : r;
}

static int enter(struct staging *staging, struct zh_error *err)
{
	bool made;
	int r, dir;

	if (staging->umask < 0)
		return err_set(err, ZH_INTERNAL, staging->umask, STAGE_DIR,
			"the umask cannot be read from /proc/self/status");
	r = sys_mkdirat(staging->root, STAGING_DIRECTORY, 0700);
	if (r < 0 && r != -EEXIST)
		return err_set(err, err_of_destination(r), r, STAGE_DIR,
			"the staging directory cannot be made");
	made = r == 0;
	dir = root_open_inside(staging->root, STAGING_DIRECTORY, O_RDONLY | O_DIRECTORY);
	if (dir == -ENOENT)
		return -ESTALE; /* another receiver was done and removed it in between */
	if (dir < 0)
		return err_set(err, err_of_destination(dir), dir, STAGE_DIR,
			"%s is no directory that can be used", STAGING_DIRECTORY);
	r = check_private(staging, dir, &staging->device);
	if (r == 0 &&
		made) { /* what the root hands down is not for what goes elsewhere from here */
		r = xattrs_disinherit(dir);
		if (r == 0)
			r = sys_fchmod(dir, 0700);
	}
	if (r < 0) {
		sys_close(dir);
		if (r == -EPERM)
			return err_set(err, ZH_PERM, r, STAGE_DIR,
				"%s is another user's, or others may write to it",
				STAGING_DIRECTORY);
		return err_set(err, err_of_destination(r), r, STAGE_DIR, "%s cannot be used",
			STAGING_DIRECTORY);
	}
	r = staging_lock(dir, LOCK_SH); /* from now on nobody removes it */
	if (r < 0) {
		sys_close(dir);
		return r == -ESTALE ? r
				    : err_set(err, err_of_destination(r), r, STAGE_DIR,
					      "%s cannot be locked", STAGING_DIRECTORY);
	}
	staging->dir = dir;
	return 0;
}

int staging_enter(struct staging *staging, struct zh_error *err)
{
	int r = 0;

	(void)pthread_mutex_lock(&staging->entering);
	if (staging->dir < 0)
		r = enter(staging, err);
	(void)pthread_mutex_unlock(&staging->entering);
	return r;
}

static void name_partial(const struct staging_key *key, struct partial *partial)
{
	uint8_t bytes[36 + ROOT_NAME_MAX];
	XXH128_canonical_t hash;
	char *out = partial->name;

	put_le64(bytes, key->parent_device);
	put_le64(bytes + 8, key->parent_inode);
	put_le64(bytes + 16, key->size);
	put_le64(bytes + 24, (uint64_t)key->mtime_s);
	put_le32(bytes + 32, key->mtime_ns);
	memcpy(bytes + 36, key->name, key->name_length);
	XXH128_canonicalFromHash(&hash, XXH3_128bits(bytes, 36 + key->name_length));
	for (size_t i = 0; i < sizeof(hash.digest); i++)
		out += sprintf(out, "%02x", hash.digest[i]);
	memcpy(out, ".part", sizeof(".part"));
}

/* Whether the name in the staging directory is the inode that partial->fd has open. */
static int names_inode(const struct staging *staging, const struct partial *partial)
{
	struct stat st;
	int r = sys_fstatat(staging->dir, partial->name, &st, AT_SYMLINK_NOFOLLOW);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	return st.st_dev == partial->device && st.st_ino == partial->inode;
}

/*
 * Looks at what was opened and locked. Returns 0 when it is a partial of ours, -ESTALE when it is
 * to be opened again. A second link is what a crash between linkat and unlinkat of a commit leaves:
 * the other name is a finished file, so this name goes and the content stays.
 */
static int partial_adopt(struct staging *staging, struct partial *partial)
{
	struct stat st;
	int r = sys_fstat(partial->fd, &st);

	if (r < 0)
		return r;
	partial->device = st.st_dev;
	partial->inode = st.st_ino;
	r = names_inode(staging, partial);
	if (r < 0)
		return r;
	if (r == 0)
		return -ESTALE; /* committed or removed between open and lock */
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || st.st_uid != sys_euid()) {
		r = sys_unlinkat(staging->dir, partial->name, 0);
		return r < 0 && r != -ENOENT ? r : -ESTALE;
	}
	if (partial->kept) /* wished for so far */
		partial->kept = st.st_size > 0 && (uint64_t)st.st_size >= partial->size;
	return st.st_size > 0 && !partial->kept ? sys_ftruncate(partial->fd, 0) : 0;
}

/* Opens or creates the name. -ESTALE: the file is, just now. */
static int open_name(const struct staging *staging, const char *name, bool *ret_created)
{
	int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
	int fd = sys_openat(staging->dir, name, flags | O_CREAT | O_EXCL, 0600);

	*ret_created = fd >= 0;
	if (fd != -EEXIST)
		return fd;
	fd = sys_openat(staging->dir, name, flags, 0);
	if (fd == -ELOOP) { /* a link: only this user can have put it there, and nobody needs it */
		fd = sys_unlinkat(staging->dir, name, 0);
		return fd < 0 && fd != -ENOENT ? fd : -ESTALE;
	}
	return fd == -ENOENT ? -ESTALE : fd;
}

/* Locks what was opened and adopts it. */
static int partial_lock(struct staging *staging, struct partial *partial, struct zh_error *err)
{
	int r = sys_flock(partial->fd, LOCK_EX | LOCK_NB);

	if (r == -EWOULDBLOCK)
		return err_set(
			err, ZH_BUSY, r, STAGE_FILE, "another transfer is receiving this file");
	if (r < 0)
		return err_set(err, err_of_destination(r), r, STAGE_FILE,
			"the staging file cannot be locked");
	r = partial_adopt(staging, partial);
	if (r < 0 && r != -ESTALE)
		return err_set(err, err_of_destination(r), r, STAGE_FILE,
			"the staging file cannot be taken over");
	return r;
}

/* One attempt to own the name. Returns -ESTALE, with err untouched, when a race was lost. */
static int partial_claim(struct staging *staging, struct partial *partial, struct zh_error *err)
{
	bool created;
	int r = staging_enter(staging, err);

	if (r < 0)
		return r;
	r = open_name(staging, partial->name, &created);
	if (r == -ESTALE)
		return r;
	if (r < 0)
		return err_set(err, err_of_destination(r), r, STAGE_FILE,
			"no file can be made in the staging directory");
	partial->fd = r;
	r = partial_lock(staging, partial, err);
	if (r == 0)
		return 0;
	/* An older partial stays. With BUSY another receiver was quicker, and the file is its own.
	 */
	if (created && r != -EWOULDBLOCK && r != -ESTALE)
		sys_unlinkat_quiet(staging->dir, partial->name, 0);
	partial_keep(partial);
	return r;
}

/*
 * -ENOSPC when size cannot fit whatever is tried. Asked first, because an allocation that fails
 * late has taken the last block from everybody else on the way.
 */
static int check_space(int fd, uint64_t size, bool *ret_tmpfs)
{
	struct statfs fs;
	int r = sys_fstatfs(fd, &fs);

	if (r < 0)
		return r;
	*ret_tmpfs = fs.f_type == TMPFS_MAGIC;
	/* no blocks at all: a tmpfs without a limit, or a file system that does not tell */
	if (fs.f_blocks == 0 || fs.f_bsize <= 0)
		return 0;
	/* f_bfree, not f_bavail: root may use the reserve, others are refused by the allocation */
	return div_up(size, (uint64_t)fs.f_bsize) > fs.f_bfree ? -ENOSPC : 0;
}

/*
 * On tmpfs fallocate takes every page at once, during which nothing is received, and earns less
 * than that back: 2 GiB on /dev/shm, Linux 6.18, 2 CPUs, 1 MiB writes, 8 runs each, seconds:
 *   fallocate 0.59-0.65, with the writing after it 0.81-1.66, median 1.6 (5.4 and 5.8 in two runs)
 *   ftruncate 0.00,      with the writing after it 0.71-1.65, median 0.8
 * check_space keeps the early error there.
 */
static int partial_allocate(int fd, const struct staging_key *key)
{
	uint64_t size = key->size;
	bool tmpfs;
	int r;

	if (size == 0)
		return 0; /* fallocate refuses it, and there is nothing to allocate */
	r = check_space(fd, key->sparse ? key->data_bytes : size, &tmpfs);
	if (r < 0)
		return r;
	r = tmpfs || key->sparse ? -EOPNOTSUPP : sys_fallocate(fd, 0, 0, size);
	if (r == -EOPNOTSUPP || r == -ENOSYS)
		r = sys_ftruncate(fd, size);
	return r;
}

static int check_key(const struct staging_key *key, struct zh_error *err)
{
	if (!root_name_ok(key->name, key->name_length))
		return err_set(err, ZH_UNSAFE_NAME, EINVAL, STAGE_FILE, "not a name for a file");
	/* asked beforehand, because crossing RLIMIT_FSIZE raises SIGXFSZ, which ends a program */
	if (key->size > INT64_MAX || key->size > sys_file_size_limit())
		return err_set(err, ZH_LIMIT, EFBIG, STAGE_SPACE,
			"larger than this process or system may write");
	return 0;
}

int partial_open(struct staging *staging, const struct staging_key *key,
	struct partial *ret_partial, struct zh_error *err)
{
	struct partial partial = { .fd = -1, .size = key->size };
	int r;

	ret_partial->fd = -1;
	r = check_key(key, err);
	if (r == 0) {
		name_partial(key, &partial);
		r = -ESTALE;
		for (int i = 0; r == -ESTALE && i < STAGING_TRIES; i++) {
			partial.kept = key->keep;
			r = partial_claim(staging, &partial, err);
		}
		if (r == -ESTALE)
			r = err_set(err, ZH_BUSY, EBUSY, STAGE_FILE,
				"other transfers keep taking the staging file away");
	}
	if (r == 0) {
		r = partial_allocate(partial.fd, key);
		if (r < 0) {
			(void)err_set(err, err_of_destination(r), r, STAGE_SPACE,
				"no room can be made for %llu bytes",
				(unsigned long long)partial.size);
			partial_discard(staging, &partial);
		}
	}
	if (r < 0) {
		if (err)
			err_file(err, key->name, key->name_length, 0);
		return r;
	}
	*ret_partial = partial;
	return 0;
}

int partial_reserve(const struct partial *partial, const struct zh_extent *extent, size_t count)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++)
		r = sys_fallocate(partial->fd, 0, extent[i].offset, extent[i].length);
	return r == -EOPNOTSUPP || r == -ENOSYS ? 0 : r;
}

int partial_punch(const struct partial *partial, const struct zh_extent *extent, size_t count)
{
	uint64_t at = 0;
	int r = 0;

	for (size_t i = 0; i <= count && r == 0; i++) {
		uint64_t end = i < count ? extent[i].offset : partial->size;
		if (end > at)
			r = sys_fallocate(partial->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				at, end - at);
		if (i < count)
			at = extent[i].offset + extent[i].length;
	}
	return r;
}

int partial_written(
	const struct partial *partial, struct zh_extent *ret_range, size_t cap, size_t *ret_count)
{
	uint64_t at = 0;
	size_t count = 0;

	while (at < partial->size && count < cap) {
		uint64_t data, hole;
		int r = sys_seek(partial->fd, at, SEEK_DATA, &data);
		if (r == -ENXIO)
			break; /* only holes from here on */
		if (r == 0)
			r = sys_seek(partial->fd, data, SEEK_HOLE, &hole);
		if (r < 0)
			return r;
		at = hole;
		data = round_up(data, LEAF_BYTES);
		hole = hole >= partial->size ? partial->size : round_down(hole, LEAF_BYTES);
		if (data < hole)
			ret_range[count++] = (struct zh_extent){ data, hole - data };
	}
	*ret_count = count;
	return 0;
}

int partial_check(const struct staging *staging, const struct partial *partial, uint64_t *ret_size)
{
	struct stat st;
	int r = names_inode(staging, partial);

	if (r < 0)
		return r;
	if (r == 0)
		return -ESTALE;
	r = sys_fstat(partial->fd, &st);
	if (r < 0)
		return r;
	*ret_size = (uint64_t)st.st_size;
	return st.st_nlink != 1 || *ret_size < partial->size ? -ESTALE : 0;
}

void partial_discard(struct staging *staging, struct partial *partial)
{
	if (partial->fd < 0)
		return;
	/*
	 * The name goes only while it is ours; the lock keeps other receivers from it until the
	 * close. When that cannot be told it goes too: at worst another's commit finds its file
	 * gone.
	 */
	if (names_inode(staging, partial) != 0)
		sys_unlinkat_quiet(staging->dir, partial->name, 0);
	sys_close(partial->fd);
	partial->fd = -1;
}

void partial_keep(struct partial *partial)
{
	sys_close(partial->fd);
	partial->fd = -1;
}
