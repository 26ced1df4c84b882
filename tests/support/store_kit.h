/* SPDX-License-Identifier: Apache-2.0 */
/* store_kit.h - receiving one file without a network: what the tests of staging and commit share.
 */
#ifndef ZH_TESTS_STORE_KIT_H
#define ZH_TESTS_STORE_KIT_H

#include "support.h"

#include "base/err.h"
#include "base/sys.h"
#include "store/commit.h"
#include "store/staging.h"

#include <sys/xattr.h>
#include <unistd.h>

#define KIT_MTIME_S  1234567890
#define KIT_MTIME_NS 123456789u

static inline struct staging_key kit_key(int parent, const char *name, uint64_t size)
{
	struct stat st;

	assert_int_equal(fstat(parent, &st), 0);
	return (struct staging_key){ .parent_device = st.st_dev,
		.parent_inode = st.st_ino,
		.name = name,
		.name_length = strlen(name),
		.size = size,
		.mtime_s = KIT_MTIME_S,
		.mtime_ns = KIT_MTIME_NS };
}

static inline struct commit kit_commit(int parent, const char *name)
{
	return (struct commit){ .parent = parent,
		.name = name,
		.name_length = strlen(name),
		.mode = 0644,
		.mtime_s = KIT_MTIME_S,
		.mtime_ns = KIT_MTIME_NS };
}

/* A partial with its content, as a session has it before it commits. */
static inline struct partial kit_received(
	struct staging *staging, int parent, const char *name, uint64_t size, uint64_t seed)
{
	struct staging_key key = kit_key(parent, name, size);
	struct zh_error err;
	struct partial partial;

	err_init(&err);
	if (partial_open(staging, &key, &partial, &err) < 0)
		fail_msg("partial_open: %s: %s", err.stage, err.text);
	random_write(partial.fd, size, seed);
	return partial;
}

/* The outcome of a failure that has to be complete: outcome, stage and text. ZH_OK for success. */
static inline int kit_outcome(int r, const struct zh_error *err)
{
	if (r == 0) {
		assert_false(err_is_set(err));
		return ZH_OK;
	}
	assert_true(r < 0);
	assert_true(err_is_set(err));
	assert_true(err->stage[0] != '\0' && err->text[0] != '\0');
	return err->outcome;
}

/* The two results that are compared most, on one line. */
static inline int kit_open(
	struct staging *staging, const struct staging_key *key, struct partial *ret_partial)
{
	struct zh_error err;

	err_init(&err);
	int r = partial_open(staging, key, ret_partial, &err);
	if (r < 0)
		assert_int_equal(ret_partial->fd, -1);
	return kit_outcome(r, &err);
}

static inline int kit_finish(
	struct staging *staging, struct partial *partial, const struct commit *commit)
{
	struct zh_error err;

	err_init(&err);
	int r = commit_file(staging, partial, commit, &err);
	assert_int_equal(partial->fd, -1);
	return kit_outcome(r, &err);
}

/*
 * A directory that hands down its group and a default access list, in which 4242 may read and
 * write, others nothing.
 */
#define KIT_GROUP 4243

static inline void kit_hands_down(int dir)
{
	static const uint8_t list[] = { 2, 0, 0, 0, /* version */
		1, 0, 7, 0, 255, 255, 255, 255,     /* the owner */
		2, 0, 6, 0, 0x92, 0x10, 0, 0,       /* user 4242 */
		4, 0, 5, 0, 255, 255, 255, 255,     /* the group */
		16, 0, 7, 0, 255, 255, 255, 255,    /* the mask */
		32, 0, 0, 0, 255, 255, 255, 255 };  /* others */

	if (geteuid() == 0)
		assert_int_equal(fchown(dir, 0, KIT_GROUP), 0);
	assert_int_equal(fchmod(dir, 02755), 0);
	assert_int_equal(fsetxattr(dir, "system.posix_acl_default", list, sizeof(list), 0), 0);
}

/* A directory in one of those, which hands down neither. */
static inline int kit_plain_directory(int root, const char *name)
{
	int dir;

	assert_int_equal(mkdirat(root, name, 0755), 0);
	dir = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	assert_int_equal(fremovexattr(dir, "system.posix_acl_default"), 0);
	assert_int_equal(fchmod(dir, 0755), 0);
	return dir;
}

/* As if name had been made in dir by open and fchmod with this mode. */
static inline void kit_is_as_made(int dir, const char *name, mode_t mode)
{
	uint8_t list[2][256];
	ssize_t length[2];
	struct stat st[2];
	int fd[2];

	fd[0] = openat(dir, "as-made", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd[0] >= 0);
	assert_int_equal(fchmod(fd[0], mode), 0);
	assert_int_equal(unlinkat(dir, "as-made", 0), 0);
	fd[1] = openat(dir, name, O_RDONLY | O_CLOEXEC);
	assert_true(fd[1] >= 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(fstat(fd[i], &st[i]), 0);
		length[i] = fgetxattr(fd[i], "system.posix_acl_access", list[i], sizeof(list[i]));
		assert_int_equal(close(fd[i]), 0);
	}
	assert_int_equal(st[1].st_gid, st[0].st_gid);
	assert_int_equal(st[1].st_mode, st[0].st_mode);
	assert_int_equal(length[1], length[0]);
	if (length[0] > 0)
		assert_memory_equal(list[1], list[0], (size_t)length[0]);
}

static inline size_t kit_staged(const struct arena *arena)
{
	return entry_count(arena->root, STAGING_DIRECTORY);
}

/* The next call of this kind fails once with error. */
static inline void kit_fail_next(enum sys_call call, int error)
{
	struct sys_fault fault = {
		.kind = SYS_FAULT_ERRNO, .call = call, .error = error, .nth = 1, .times = 1
	};

	sys_fault_arm(&fault);
}

/* Ends what kit_fail_next began; false when it never struck. */
static inline bool kit_struck(void)
{
	bool struck = sys_fault_struck() > 0;

	sys_fault_arm(NULL);
	return struck;
}

#endif
